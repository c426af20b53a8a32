//! A socket of a flow, and what waits in it.

use std::os::fd::AsFd;
use std::task::Context;
use std::time::Duration;

use crate::io::batch::ReceiveBatch;
use crate::io::reactor::{Reactor, Registration};
use crate::time::Instant;

use super::stats::{Invalid, SourceStats};

/// One socket that is read.
pub(super) struct Port<S> {
    pub(super) socket: S,
    registration: Registration,
    /// Data waits in it.
    pub(super) ready: bool,
    overflow: u32,
}

impl<S: AsFd> Port<S> {
    /// Watch a socket.
    ///
    /// # Errors
    /// Where descriptors have run out.
    pub(super) fn new(socket: S, reactor: &Reactor) -> std::io::Result<Self> {
        let registration = reactor.register(&socket)?;
        Ok(Self { socket, registration, ready: false, overflow: 0 })
    }

    /// What the kernel has dropped since the socket was opened, as far as that is counted.
    pub(super) const fn overflow(&self) -> u32 {
        self.overflow
    }

    /// So much was counted by another process.
    pub(super) const fn set_overflow(&mut self, overflow: u32) {
        self.overflow = overflow;
    }

    /// Look for input; [`Self::ready`] tells.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        self.ready |= self.registration.poll_ready(cx).is_ready();
    }

    /// When it is looked at next, as far as is known.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.registration.next_look()
    }

    /// Read one batch into `batch`. The next packets may gather for `budget`. Datagrams that the kernel has dropped
    /// meanwhile, and those that were cut off.
    pub(super) fn read(&mut self, batch: &mut ReceiveBatch, budget: Duration) -> (u64, u64) {
        // A socket's error is that of an earlier datagram; what waits is read at the next wake.
        let received = batch.receive(&self.socket).unwrap_or_default();
        let before = self.overflow;
        self.overflow = received.overflow.unwrap_or(before);
        // A full batch: more waits. What comes from here on is told by the registration.
        self.ready = received.full;
        self.registration.served(received.messages);
        // For want of a descriptor it stays as it was, and works.
        let _ = self.registration.gather(budget);
        (u64::from(self.overflow.wrapping_sub(before)), received.truncated as u64)
    }

    /// The same for a source, which counts them.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch, budget: Duration, stats: &SourceStats) {
        let (dropped, truncated) = self.read(batch, budget);
        stats.kernel_dropped.add(dropped);
        stats.invalid[Invalid::Truncated as usize].add(truncated);
    }
}
