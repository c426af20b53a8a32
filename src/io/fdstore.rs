//! The service manager's store of descriptors (systemd.service(5), `FileDescriptorStoreMax=`): what is in it outlives the
//! process, and is passed to the next one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use sd_notify::{NotifyState, notify_with_fds};

use super::sys;

/// What the process before this one left there, with its names. A second call gets nothing.
pub fn take_kept() -> Vec<(String, OwnedFd)> {
    sys::take_passed()
}

/// Whether there may be a service manager with a store.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Have it kept under this name. An error on it, such as what ICMP says of a datagram, does not end that.
///
/// # Errors
/// Nobody listens. That there is no room is not told.
pub fn put(name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")], &[fd])
}

/// Have it kept no more: all of this name.
///
/// # Errors
/// Nobody listens.
pub fn remove(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}

/// The end of a pipe that ends when all that was said before has been heard.
///
/// # Errors
/// Nobody listens, or there are no descriptors left.
pub fn barrier() -> io::Result<OwnedFd> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    Ok(ours)
}
