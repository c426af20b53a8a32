//! Datagrams in.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::io::clock::Arrival;
use crate::io::sys::ReceiveRing;

/// Buffers for the datagrams of one call, reused by all sources of a shard.
pub struct ReceiveBatch {
    ring: ReceiveRing,
}

/// What one [`ReceiveBatch::receive`] brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// Messages: datagrams, or with GRO what it made of several. 0: nothing waits.
    pub messages: usize,
    /// Every slot was used, so more may wait.
    pub full: bool,
    /// How many datagrams the kernel has dropped since the socket was opened because its buffer was full, as of the
    /// newest message (SO_RXQ_OVFL, wraps). `None` before the first.
    pub overflow: Option<u32>,
    /// Messages longer than a slot, cut off. They don't appear among the datagrams.
    pub truncated: usize,
}

/// One datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The UDP payload.
    pub payload: &'a [u8],
    /// Who sent it; an IPv4-mapped address as the IPv4 one.
    pub source: SocketAddr,
    /// When the kernel took it in, if the socket asks for stamps. All datagrams that GRO joined have that of the first.
    pub arrival: Option<Arrival>,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new(64)
    }
}

impl ReceiveBatch {
    /// A batch of `slots` messages (at least 1) of 64 KiB each; memory is used as far as datagrams fill it.
    pub fn new(slots: usize) -> Self {
        Self { ring: ReceiveRing::new(slots.max(1)) }
    }

    /// Takes what waits, without waiting: one recvmmsg. The datagrams of the call before are gone.
    ///
    /// # Errors
    /// What the socket says, twice: an error that an ICMP message left behind on it is passed over.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<Received> {
        let fd = socket.as_fd();
        let messages = match self.ring.receive(fd) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => self.ring.receive(fd),
            r => r,
        };
        let messages = match messages {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            r => r?,
        };
        Ok(Received {
            messages,
            full: messages == self.ring.slots(),
            overflow: messages.checked_sub(1).and_then(|last| self.ring.notes(last).overflow),
            truncated: (0..messages).filter(|&i| self.ring.truncated(i)).count(),
        })
    }

    /// The datagrams of the last [`receive`](Self::receive), in the order they came.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let whole = (0..self.ring.filled()).filter(|&i| !self.ring.truncated(i));
        whole.filter_map(|i| self.ring.message(i)).flat_map(|m| {
            let arrival = m.notes.stamp.map(Arrival::from_nanos);
            split(m.payload, m.notes.stride)
                .filter_map(move |payload| Some(Datagram { payload, source: m.source?, arrival }))
        })
    }
}

/// The datagrams of `stride` bytes that GRO joined; the last may be shorter. A stride of 0: it is one.
fn split(payload: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let stride = if stride == 0 { payload.len() } else { stride };
    let mut rest = Some(payload);
    std::iter::from_fn(move || {
        let all = rest?;
        let (head, tail) = all.split_at(stride.min(all.len()));
        rest = (!tail.is_empty()).then_some(tail);
        Some(head)
    })
}
