//! recvmmsg and sendmmsg with UDP_GRO and UDP_SEGMENT: many datagrams a system call, without a copy or an allocation.
//!
//! nix wraps these calls too, but allocates and walks lists on each; the floor has to be as lean as the kernel allows.
#![allow(unsafe_code)]

use std::io::IoSlice;
use std::mem::zeroed;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{from_mut, null_mut};

/// Most messages of one sendmmsg (UIO_MAXIOV).
const SEND_LIMIT: usize = 1024;

/// Room for the control messages of one message: a time stamp and a GRO segment size, or a segment size to send with.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 96]);

/// Buffers for the messages of one recvmmsg.
pub struct ReceiveBatch {
    bytes: Vec<u8>,
    slot: usize,
    /// Where `headers` point to.
    _pointees: (Vec<Control>, Vec<libc::iovec>),
    headers: Vec<libc::mmsghdr>,
    filled: usize,
}

/// A message that was received.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// One datagram, or several that UDP_GRO joined.
    pub bytes: &'a [u8],
    /// The length of each of these but the last.
    pub segment: usize,
    /// When the kernel took it in, nanoseconds since 1970; 0 where it was not asked to say.
    pub arrival_ns: u64,
}

impl ReceiveBatch {
    /// `slots` messages of at most `slot` bytes each.
    pub fn new(slots: usize, slot: usize) -> Self {
        let mut bytes = vec![0; slots * slot];
        let mut controls = vec![Control([0; 96]); slots];
        let mut vectors: Vec<_> = bytes
            .chunks_exact_mut(slot)
            .map(|b| libc::iovec { iov_base: b.as_mut_ptr().cast(), iov_len: slot })
            .collect();
        let headers = vectors
            .iter_mut()
            .zip(&mut controls)
            .map(|(vector, control)| {
                // SAFETY: all zeroes is a valid mmsghdr: null pointers with lengths of 0.
                let mut header: libc::mmsghdr = unsafe { zeroed() };
                header.msg_hdr.msg_iov = from_mut(vector);
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = from_mut(control).cast();
                header
            })
            .collect();
        Self { bytes, slot, _pointees: (controls, vectors), headers, filled: 0 }
    }

    /// How many messages fit.
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Takes the messages that wait, how many; with `wait` at least one, however long it takes.
    pub fn receive(&mut self, socket: impl AsFd, wait: bool) -> usize {
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        for header in &mut self.headers[..] {
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: every header points to one iovec over its own slot of `bytes` and to its own control area, all of
        // which `self` owns and none of which grows; the kernel writes no more than the lengths given.
        let got =
            unsafe { libc::recvmmsg(fd, self.headers.as_mut_ptr(), self.headers.len() as u32, flags, null_mut()) };
        self.filled = usize::try_from(got).unwrap_or(0);
        self.filled
    }

    /// The messages of the last [`receive`](Self::receive).
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.headers[..self.filled].iter().zip(self.bytes.chunks_exact(self.slot)).map(|(header, slot)| {
            let bytes = &slot[..header.msg_len as usize];
            let (segment, arrival_ns) = read_control(&header.msg_hdr);
            Message { bytes, segment: segment.unwrap_or(bytes.len()).max(1), arrival_ns: arrival_ns.unwrap_or(0) }
        })
    }
}

/// The GRO segment size and the receive stamp of a message that the kernel filled in.
fn read_control(header: &libc::msghdr) -> (Option<usize>, Option<u64>) {
    let (mut segment, mut arrival) = (None, None);
    // SAFETY: the kernel wrote `msg_controllen` bytes of well-formed control messages at `msg_control`, which is
    // aligned for them; the macros stay within that length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: a pointer that is not null is to a whole header within the control area.
    while let Some(message) = unsafe { next.as_ref() } {
        // SAFETY: as above; each data type is the one the kernel documents for its level and type.
        unsafe {
            let data = libc::CMSG_DATA(message);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => segment = Some(data.cast::<i32>().read_unaligned() as usize),
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    arrival = Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    (segment, arrival)
}

/// A destination, as the kernel reads it.
#[derive(Clone, Copy)]
pub struct Address(libc::sockaddr_in);

impl From<SocketAddrV4> for Address {
    fn from(address: SocketAddrV4) -> Self {
        Self(libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
            sin_zero: [0; 8],
        })
    }
}

impl Address {
    /// The same, for the standard library.
    pub fn socket(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.0.sin_addr.s_addr.to_ne_bytes().into(), u16::from_be(self.0.sin_port))
    }
}

/// A message to be sent.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its bytes, one piece after the other.
    pub pieces: &'a [IoSlice<'a>],
    /// To whom; `None`: the peer of a connected socket.
    pub to: Option<&'a Address>,
    /// Let the kernel cut it into datagrams of that length (UDP_SEGMENT).
    pub segment: Option<u16>,
}

/// Headers for the messages of one sendmmsg.
#[derive(Default)]
pub struct SendBatch {
    headers: Vec<libc::mmsghdr>,
    controls: Vec<Control>,
}

impl SendBatch {
    /// Sends all of them, in as few calls as can be; how many the kernel refused.
    pub fn send<'a>(&mut self, socket: impl AsFd, messages: impl Iterator<Item = Outgoing<'a>>) -> usize {
        self.headers.clear();
        self.controls.clear();
        for message in messages {
            // SAFETY: all zeroes is a valid mmsghdr: null pointers with lengths of 0.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            if let Some(address) = message.to {
                header.msg_hdr.msg_name = std::ptr::from_ref(&address.0).cast_mut().cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            // An IoSlice is an iovec; the kernel only reads it.
            header.msg_hdr.msg_iov = message.pieces.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_iovlen = message.pieces.len();
            if let Some(segment) = message.segment {
                self.controls.push(segment_control(segment));
                // For now the number of its control area, from 1: the list may still move.
                header.msg_hdr.msg_controllen = self.controls.len();
            }
            self.headers.push(header);
        }
        for header in &mut self.headers {
            if let Some(number) = header.msg_hdr.msg_controllen.checked_sub(1) {
                header.msg_hdr.msg_control = from_mut(&mut self.controls[number]).cast();
                header.msg_hdr.msg_controllen = SEGMENT_CONTROL;
            }
        }
        let fd = socket.as_fd().as_raw_fd();
        let (mut done, mut refused) = (0, 0);
        while done < self.headers.len() {
            let rest = &mut self.headers[done..];
            let count = rest.len().min(SEND_LIMIT) as u32;
            // SAFETY: the headers point to names, pieces and their bytes, which are borrowed for `'a`, so beyond this
            // call, and to control areas in `self.controls`, which is not changed after the pointers were taken.
            let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, 0) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ => {
                    done += 1;
                    refused += 1;
                }
            }
        }
        refused
    }
}

/// Bytes of a control message with a segment size.
// SAFETY: pure arithmetic.
const SEGMENT_CONTROL: usize = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;

fn segment_control(segment: u16) -> Control {
    let mut control = Control([0; 96]);
    let header = libc::cmsghdr {
        // SAFETY: pure arithmetic.
        cmsg_len: unsafe { libc::CMSG_LEN(size_of::<u16>() as u32) } as usize,
        cmsg_level: libc::SOL_UDP,
        cmsg_type: libc::UDP_SEGMENT,
    };
    let at = from_mut(&mut control).cast::<libc::cmsghdr>();
    // SAFETY: the area is aligned for a header, and longer than a header and two bytes.
    unsafe {
        at.write(header);
        libc::CMSG_DATA(at).cast::<u16>().write_unaligned(segment);
    }
    control
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{bind, coalesce, loopback, stamp};

    fn addressed<'a>(pieces: &'a [IoSlice<'a>], to: &'a Address, segment: Option<u16>) -> Outgoing<'a> {
        Outgoing { pieces, to: Some(to), segment }
    }

    #[test]
    fn trains_and_single_datagrams_arrive_in_order_with_stamps() {
        let receiver = bind(0, 1 << 20);
        stamp(&receiver);
        let port = receiver.local_addr().unwrap().port();
        let to = Address::from(loopback(port));
        let sender = bind(0, 0);
        let train = [IoSlice::new(&[1; 100]), IoSlice::new(&[2; 150])];
        let single = [IoSlice::new(&[3; 70])];
        let messages = [addressed(&train, &to, Some(100)), addressed(&single, &to, None)];
        assert_eq!(SendBatch::default().send(&sender, messages.into_iter()), 0);
        let mut batch = ReceiveBatch::new(8, 2048);
        let mut lengths = Vec::new();
        while lengths.len() < 4 {
            batch.receive(&receiver, true);
            assert!(batch.messages().all(|m| m.arrival_ns > 0));
            lengths.extend(batch.messages().map(|m| m.bytes.len()));
        }
        assert_eq!(lengths, [100, 100, 50, 70]);
        assert_eq!(batch.receive(&receiver, false), 0, "nothing waits any more");
    }

    #[test]
    fn coalesced_datagrams_come_as_one_message_with_their_segment() {
        let receiver = bind(0, 1 << 20);
        coalesce(&receiver);
        let to = Address::from(loopback(receiver.local_addr().unwrap().port()));
        let train = [IoSlice::new(&[1; 250])];
        SendBatch::default().send(bind(0, 0), [addressed(&train, &to, Some(100))].into_iter());
        let mut batch = ReceiveBatch::new(2, 65_536);
        assert_eq!(batch.receive(&receiver, true), 1);
        let message = batch.messages().next().unwrap();
        assert_eq!((message.bytes.len(), message.segment), (250, 100));
    }

    #[test]
    fn what_the_kernel_refuses_is_counted_and_the_rest_sent() {
        let receiver = bind(0, 1 << 20);
        let to = Address::from(loopback(receiver.local_addr().unwrap().port()));
        let too_long = vec![0; 70_000];
        let (long, short) = ([IoSlice::new(&too_long)], [IoSlice::new(b"short")]);
        let messages = [addressed(&long, &to, None), addressed(&short, &to, None)];
        assert_eq!(SendBatch::default().send(bind(0, 0), messages.into_iter()), 1);
        let mut batch = ReceiveBatch::new(2, 2048);
        assert_eq!(batch.receive(&receiver, true), 1);
    }
}
