//! Joins and leaves by interface index.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use super::sys;

/// Joins `group` on the interface of index `interface` (0: the one the route to the group names), from `sources` only,
/// or from anybody if there are none. What is joined already stays so.
///
/// # Errors
/// `ENODEV`: no such interface, or no route to the group; `ENOBUFS`: more than `net.ipv4.igmp_max_memberships`;
/// what was joined before the error stays joined.
pub fn join(socket: impl AsFd, group: IpAddr, sources: &[IpAddr], interface: u32) -> io::Result<()> {
    let fd = socket.as_fd();
    if sources.is_empty() {
        return joined_already(sys::membership(fd, true, group, None, interface), &[libc::EADDRINUSE]);
    }
    for &source in sources {
        let result = sys::membership(fd, true, group, Some(source), interface);
        joined_already(result, &[libc::EADDRINUSE, libc::EADDRNOTAVAIL])?;
    }
    Ok(())
}

fn joined_already(result: io::Result<()>, errnos: &[i32]) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error().is_some_and(|n| errnos.contains(&n)) => Ok(()),
        r => r,
    }
}

/// Leaves what [`join`] joined. An interface that is gone can be left.
///
/// # Errors
/// `EADDRNOTAVAIL`: was not joined.
pub fn leave(socket: impl AsFd, group: IpAddr, sources: &[IpAddr], interface: u32) -> io::Result<()> {
    let fd = socket.as_fd();
    if sources.is_empty() {
        return sys::membership(fd, false, group, None, interface);
    }
    // The last source takes the membership with it.
    sources.iter().map(|&source| sys::membership(fd, false, group, Some(source), interface)).fold(Ok(()), Result::and)
}

/// Joins again what was joined on index `old` after that interface was deleted, and made again as index `new`: the
/// socket still counts the old membership, which the interface took with it. An interface that only goes down and up
/// needs nothing: the kernel keeps its memberships.
///
/// # Errors
/// As [`join`].
pub fn rejoin(socket: impl AsFd, group: IpAddr, sources: &[IpAddr], old: u32, new: u32) -> io::Result<()> {
    let fd = socket.as_fd();
    // It may be that the kernel has forgotten it already.
    let _ = leave(fd, group, sources, old);
    join(fd, group, sources, new)
}
