//! To whom datagrams go, and what can be wrong with that.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::io::endpoint::Endpoint;
use crate::io::sys::{Control, Name};

/// A destination, with all that is said to the kernel about each packet that goes there.
#[derive(Clone)]
pub struct Target {
    pub(super) name: Name,
    pub(super) control: Control,
    address: SocketAddr,
    segmentation: Cell<bool>,
}

impl Target {
    /// Packets to `address` with this time to live or hop limit (1 to 255; `None`: the sender's: 64, or 16 for
    /// multicast), this whole TOS or traffic-class octet, by the interface of this index (`None`: the route's).
    pub fn new(address: SocketAddr, ttl: Option<u8>, tos: u8, interface: Option<u32>) -> Self {
        let unspecified: IpAddr =
            if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let control = control(address, ttl, tos, interface.map(|index| (index, unspecified)));
        Self { name: Name::new(address), control, address, segmentation: Cell::new(true) }
    }

    /// Packets from an [`Endpoint`]: as above, with the address of this host that they come from (`None`: the route's).
    /// One of the other family is passed over.
    ///
    /// [`Endpoint`]: crate::io::endpoint::Endpoint
    pub fn from_endpoint(
        endpoint: &Endpoint,
        address: SocketAddr,
        source: Option<IpAddr>,
        (ttl, tos): (Option<u8>, u8),
    ) -> Self {
        let source = source.filter(|source| source.is_ipv6() == address.is_ipv6()).map(|source| (0, source));
        let control = control(address, ttl, tos, source);
        let name = if endpoint.is_ipv6() { Name::mapped(address) } else { Name::new(address) };
        Self { name, control, address, segmentation: Cell::new(true) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends datagrams to this target one by one from now on: its path refuses UDP_SEGMENT (an interface without
    /// checksum offload, IPsec, segments above the MTU). See [`Outcome::segmentation_refused`].
    ///
    /// [`Outcome::segmentation_refused`]: super::Outcome::segmentation_refused
    pub fn refuse_segmentation(&self) {
        self.segmentation.set(false);
    }

    /// Whether trains go to it as one message.
    pub fn segmentation(&self) -> bool {
        self.segmentation.get()
    }
}

fn control(address: SocketAddr, ttl: Option<u8>, tos: u8, info: Option<(u32, IpAddr)>) -> Control {
    let v6 = address.is_ipv6();
    let mut control = Control::EMPTY;
    if let Some(ttl) = ttl {
        control.push_ttl(v6, ttl);
    }
    if tos != 0 {
        control.push_tos(v6, tos);
    }
    if let Some((interface, source)) = info {
        control.push_packet_info(interface, source);
    }
    control
}

/// Why a datagram could not be sent, or was sent and not received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SendError {
    /// Nobody listens on that port (ICMP port unreachable).
    ConnectionRefused,
    /// The host does not answer, or a router says so.
    HostUnreachable,
    /// There is no route.
    NetworkUnreachable,
    /// A firewall rule of this host or on the way forbids it.
    PermissionDenied,
    /// The socket's buffer or the interface's queue is full.
    NoBuffers,
    /// The datagram is too long for a UDP datagram or for the path.
    MessageTooLong,
    /// The address can't be sent to from this socket: another family, or no valid address.
    InvalidAddress,
    /// The interface is gone or down.
    NoDevice,
    /// Another error, as in errno.h.
    Other(i32),
}

impl SendError {
    /// From an errno.
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNREFUSED => Self::ConnectionRefused,
            libc::EHOSTUNREACH | libc::EHOSTDOWN => Self::HostUnreachable,
            libc::ENETUNREACH | libc::ENONET => Self::NetworkUnreachable,
            libc::EPERM | libc::EACCES => Self::PermissionDenied,
            libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM => Self::NoBuffers,
            libc::EMSGSIZE => Self::MessageTooLong,
            libc::EAFNOSUPPORT | libc::EINVAL | libc::EDESTADDRREQ | libc::EADDRNOTAVAIL => Self::InvalidAddress,
            libc::ENODEV | libc::ENXIO | libc::ENETDOWN => Self::NoDevice,
            other => Self::Other(other),
        }
    }

    /// A stable word for status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection-refused",
            Self::HostUnreachable => "host-unreachable",
            Self::NetworkUnreachable => "network-unreachable",
            Self::PermissionDenied => "permission-denied",
            Self::NoBuffers => "no-buffers",
            Self::MessageTooLong => "message-too-long",
            Self::InvalidAddress => "invalid-address",
            Self::NoDevice => "no-device",
            Self::Other(_) => "other",
        }
    }
}
