//! Wakes the thread from outside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Wake;

use nix::sys::eventfd::{EfdFlags, EventFd};

const RUNNING: u8 = 0;
const WOKEN: u8 = 1;
const PARKED: u8 = 2;

/// The waker of a thread's tasks: a system call only where the thread sleeps.
pub(super) struct Unpark {
    event: EventFd,
    state: AtomicU8,
}

impl Unpark {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { event, state: AtomicU8::new(RUNNING) })
    }

    /// The tasks are about to run: they see whatever they were woken for before.
    pub(super) fn begin(&self) {
        self.state.store(RUNNING, Ordering::SeqCst);
    }

    /// Whether the thread may sleep: nobody was woken since [`begin`](Self::begin).
    pub(super) fn park(&self) -> bool {
        self.state.compare_exchange(RUNNING, PARKED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == PARKED {
            // It is never read, as each write is an event of its own; it fills up after 2^64 of them.
            let _ = self.event.write(1);
        }
    }
}

impl AsFd for Unpark {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
