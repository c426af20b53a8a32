//! The system calls in batches: the only unsafe code.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{gid_t, socklen_t};

/// The supplementary groups that the process at the other end of a Unix socket had when it connected
/// (SO_PEERGROUPS, unix(7); Linux 4.13).
///
/// # Errors
/// The error of getsockopt(2).
#[allow(unsafe_code, reason = "nix and socket2 have no wrapper for SO_PEERGROUPS")]
pub fn peer_groups(fd: BorrowedFd<'_>) -> io::Result<Vec<gid_t>> {
    let mut groups: Vec<gid_t> = vec![0; 64];
    loop {
        let mut len = (groups.len() * size_of::<gid_t>()) as socklen_t;
        // SAFETY: `fd` is open as long as it is borrowed; `groups` has room for `len` bytes, any of which make a
        // valid gid_t; the kernel writes no more than `len` bytes and sets `len`.
        let r = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<gid_t>();
        if r == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE: too little room, and `len` says how much there must be.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}
