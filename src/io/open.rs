//! From what a plan says to a socket.

mod error;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::batch::SendError;
use super::{multicast, sys};

pub use super::links::InterfaceRef;
pub use error::OpenError;

/// A sender's time to live or hop limit for unicast.
const UNICAST_TTL: u32 = 64;
/// The same for multicast.
const MULTICAST_TTL: u32 = 16;
/// Most entries of the error queue taken at once.
const DRAIN_LIMIT: usize = 1024;

/// What a source's socket is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveSpec {
    /// Address and port; a multicast group is joined.
    pub bind: SocketAddr,
    /// With `bind` = `[::]:port`: IPv4 too, and only IPv4 on a host without IPv6.
    pub dual_stack: bool,
    /// A group is joined on it, another address bound to it; `None`: the system's choice.
    pub interface: Option<InterfaceRef>,
    /// The senders of a source-specific join; empty: any.
    pub multicast_sources: Vec<IpAddr>,
    /// Bytes of datagrams that may wait, as asked of the kernel. See [`Receiver::granted`].
    pub receive_buffer: usize,
    /// Datagrams come with the time at which the kernel took them in.
    pub timestamps: bool,
    /// See [`Receiver::set_gro`].
    pub gro: bool,
}

/// A source's socket: bound, joined, not blocking.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    granted: usize,
}

impl Receiver {
    /// One that the process before this one opened to the same spec, but for the buffer and GRO.
    pub fn resume(fd: OwnedFd, gro: bool) -> Self {
        let socket = UdpSocket::from(fd);
        let granted = granted(&socket);
        let receiver = Self { socket, granted };
        receiver.set_gro(gro);
        receiver
    }

    /// Bytes of receive buffer that the kernel really granted; it counts some overhead of each datagram against them.
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// The address and port it is bound to.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Lets the kernel join datagrams of equal length that wait (UDP_GRO), which [`ReceiveBatch`] takes apart again:
    /// less work when many are gathered, but only one time stamp for all of them. Whether the kernel can.
    ///
    /// [`ReceiveBatch`]: super::batch::ReceiveBatch
    pub fn set_gro(&self, on: bool) -> bool {
        setsockopt(&self.socket, sockopt::UdpGroSegment, &on).is_ok()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens, binds and joins.
///
/// # Errors
/// See [`OpenError`].
pub fn open_receiver(spec: &ReceiveSpec) -> Result<Receiver, OpenError> {
    with_fallback(spec.bind, spec.dual_stack, |bind| bind_receiver(spec, bind))
}

/// Binds to `bind`, or where that is [::] on a host without IPv6, to 0.0.0.0.
pub(super) fn with_fallback<T>(
    bind: SocketAddr,
    dual_stack: bool,
    open: impl Fn(SocketAddr) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    match open(bind) {
        Err(e) if dual_stack && bind.ip().is_unspecified() && lacks_family(&e) => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), bind.port()))
        }
        r => r,
    }
}

/// The host has no IPv6.
fn lacks_family(e: &OpenError) -> bool {
    let errno =
        std::error::Error::source(e).and_then(|e| e.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    matches!(errno, Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_receiver(spec: &ReceiveSpec, bind: SocketAddr) -> Result<Receiver, OpenError> {
    let (socket, granted) = bind_socket(spec, bind)?;
    let receiver = Receiver { socket: socket.into(), granted };
    if spec.gro {
        receiver.set_gro(true);
    }
    Ok(receiver)
}

/// A socket that hears what the spec says, and the bytes of receive buffer it was granted.
pub(super) fn bind_socket(spec: &ReceiveSpec, bind: SocketAddr) -> Result<(Socket, usize), OpenError> {
    let at = |e| OpenError::at_bind(bind, e);
    let socket = datagram_socket(bind).map_err(at)?;
    if bind.is_ipv6() {
        socket.set_only_v6(!spec.dual_stack).map_err(at)?;
        // Since Linux 4.20. Without it a wildcard socket hears groups that others joined; a group's socket does not.
        let _ = socket.set_multicast_all_v6(false);
    }
    // Also of a dual-stack socket; refused only where the host has no IPv4.
    let _ = socket.set_multicast_all_v4(false);
    let is_group = bind.ip().is_multicast();
    if is_group {
        socket.set_reuse_address(true).map_err(at)?;
    }
    // An IPv4 membership counts on its interface only; an IPv6 one lets the group in from all, unless bound to one.
    if let Some(interface) = spec.interface.as_ref().filter(|_| !is_group || bind.is_ipv6()) {
        socket
            .bind_device(Some(interface.name.as_bytes()))
            .map_err(|source| OpenError::at_interface(interface.clone(), source))?;
    }
    let granted = set_receive_buffer(&socket, spec.receive_buffer);
    setsockopt(&socket, sockopt::RxqOvfl, &1).map_err(|e| at(e.into()))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &spec.timestamps).map_err(|e| at(e.into()))?;
    socket.bind(&bind.into()).map_err(at)?;
    if is_group {
        let index = spec.interface.as_ref().map_or(0, |i| i.index);
        multicast::join(&socket, bind.ip(), &spec.multicast_sources, index)
            .map_err(|source| OpenError::at_join(bind.ip(), spec.interface.clone(), source))?;
    }
    Ok((socket, granted))
}

/// As root beyond net.core.rmem_max, else up to it. How much is granted.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> usize {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        // The kernel takes any figure, and grants what it likes.
        let _ = setsockopt(socket, sockopt::RcvBuf, &bytes);
    }
    granted(socket)
}

/// Bytes of receive buffer that a socket has.
pub(super) fn granted(socket: &impl AsFd) -> usize {
    // It keeps twice what was asked, for its own overhead.
    getsockopt(socket, sockopt::RcvBuf).map_or(0, |n| n / 2)
}

/// As root beyond net.core.wmem_max, else up to it.
pub(super) fn set_send_buffer(socket: &Socket, bytes: usize) {
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &bytes);
    }
}

/// Not blocking, closed on exec.
pub(super) fn datagram_socket(family_of: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(family_of), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Its address that stands for any.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Of this address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What the socket of a flow's outputs is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SendSpec {
    /// Of the destinations.
    pub family: Family,
    /// The local port; `None`: one of the system's choice.
    pub source_port: Option<u16>,
    /// Bytes of datagrams that may wait for the interface, as asked of the kernel.
    pub send_buffer: usize,
}

/// A socket that sends to any number of destinations, and receives nothing.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    segmentation: bool,
}

impl Sender {
    /// One that the process before this one opened.
    pub fn resume(fd: OwnedFd) -> Self {
        Self::new(fd.into())
    }

    pub(super) fn new(socket: Socket) -> Self {
        let segmentation = getsockopt(&socket, sockopt::UdpGsoSegment).is_ok();
        Self { socket: socket.into(), segmentation }
    }

    /// The address and port packets come from; the address is unspecified, each packet has its route's.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether the kernel knows UDP_SEGMENT.
    pub fn segmentation(&self) -> bool {
        self.segmentation
    }

    /// Takes what ICMP messages said about datagrams sent earlier: each with the destination it is about. How many
    /// entries there were. For times when nothing is sent; [`flush`](super::batch::Session::flush) does it by itself.
    pub fn drain_errors(&self, mut report: impl FnMut(SocketAddr, SendError)) -> usize {
        for taken in 0..DRAIN_LIMIT {
            match sys::take_error(self.as_fd()) {
                Ok(Some(error)) => {
                    if let (true, Some(destination)) = (error.remote, error.destination) {
                        report(destination, SendError::from_errno(error.errno));
                    }
                }
                Ok(None) | Err(_) => return taken,
            }
        }
        DRAIN_LIMIT
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens and binds.
///
/// # Errors
/// See [`OpenError`].
pub fn open_sender(spec: &SendSpec) -> Result<Sender, OpenError> {
    let bind = SocketAddr::new(spec.family.unspecified(), spec.source_port.unwrap_or(0));
    sender_socket(spec, bind).map_err(|e| OpenError::at_bind(bind, e))
}

fn sender_socket(spec: &SendSpec, bind: SocketAddr) -> io::Result<Sender> {
    let socket = datagram_socket(bind)?;
    match spec.family {
        Family::V4 => {
            socket.set_ttl_v4(UNICAST_TTL)?;
            socket.set_multicast_ttl_v4(MULTICAST_TTL)?;
            socket.set_multicast_loop_v4(true)?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        }
        Family::V6 => {
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(UNICAST_TTL)?;
            socket.set_multicast_hops_v6(MULTICAST_TTL)?;
            socket.set_multicast_loop_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
    }
    set_send_buffer(&socket, spec.send_buffer);
    // What others send to this port would fill the buffer that the error queue shares: a filter that takes 0 bytes of
    // each packet. Without it (a hardened host) all still works.
    let _ = socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)]);
    socket.bind(&bind.into())?;
    Ok(Sender::new(socket))
}
