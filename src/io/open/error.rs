//! Why a socket can't be opened.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::InterfaceRef;

/// Why a socket can't be opened, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another program, or another socket of ours, has the port.
    #[error("{bind} is in use by another program on this host")]
    AddressInUse {
        /// The address and port.
        bind: SocketAddr,
        /// As the kernel says.
        source: io::Error,
    },
    /// No interface of this host has that address.
    #[error("no interface of this host has the address {}", bind.ip())]
    AddressNotAvailable {
        /// The address and port.
        bind: SocketAddr,
        /// As the kernel says.
        source: io::Error,
    },
    /// The interface does not exist (any more), or none was named and no route says which.
    #[error("{what}")]
    NoSuchInterface {
        /// In a sentence.
        what: String,
        /// As the kernel says.
        source: io::Error,
    },
    /// Not allowed to this user.
    #[error("{what}")]
    PermissionDenied {
        /// In a sentence.
        what: String,
        /// As the kernel says.
        source: io::Error,
    },
    /// The kernel's limit of group memberships, or of sources of one, is reached.
    #[error(
        "can't join {group}: the kernel's limit of memberships is reached; raise net.ipv4.igmp_max_memberships \
         (groups of a socket) or net.ipv4.igmp_max_msf (senders of a group) with sysctl"
    )]
    TooManyMemberships {
        /// The group.
        group: IpAddr,
        /// As the kernel says.
        source: io::Error,
    },
    /// Another error.
    #[error("can't {what}: {source}")]
    Other {
        /// What we were about to do.
        what: String,
        /// As the kernel says.
        source: io::Error,
    },
}

impl OpenError {
    /// While binding to `bind`.
    pub fn at_bind(bind: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::AddressInUse { bind, source },
            Some(libc::EADDRNOTAVAIL) => Self::AddressNotAvailable { bind, source },
            Some(libc::EACCES | libc::EPERM) => {
                let what = format!(
                    "not allowed to bind to {bind}: ports below 1024 need CAP_NET_BIND_SERVICE, or \
                     net.ipv4.ip_unprivileged_port_start lowered"
                );
                Self::PermissionDenied { what, source }
            }
            Some(libc::ENODEV) => {
                let what = format!("the link-local address {bind} needs an interface that exists");
                Self::NoSuchInterface { what, source }
            }
            _ => Self::Other { what: format!("open a socket for {bind}"), source },
        }
    }

    pub(in crate::io) fn at_interface(interface: InterfaceRef, source: io::Error) -> Self {
        let name = interface.name;
        match source.raw_os_error() {
            Some(libc::ENODEV) => Self::NoSuchInterface { what: format!("there is no interface {name}"), source },
            Some(libc::EPERM | libc::EACCES) => {
                let what = format!("not allowed to bind to interface {name}: needs Linux 5.7, or CAP_NET_RAW");
                Self::PermissionDenied { what, source }
            }
            _ => Self::Other { what: format!("bind to interface {name}"), source },
        }
    }

    pub(super) fn at_join(group: IpAddr, interface: Option<InterfaceRef>, source: io::Error) -> Self {
        match (source.raw_os_error(), interface) {
            (Some(libc::ENOBUFS | libc::ENOMEM), _) => Self::TooManyMemberships { group, source },
            (Some(libc::ENODEV | libc::ENXIO), Some(i)) => {
                Self::NoSuchInterface { what: format!("can't join {group}: there is no interface {}", i.name), source }
            }
            (Some(libc::ENODEV | libc::ENXIO), None) => {
                let what = format!("can't join {group}: no route says on which interface; name one");
                Self::NoSuchInterface { what, source }
            }
            (Some(libc::EPERM | libc::EACCES), _) => {
                Self::PermissionDenied { what: format!("not allowed to join {group}"), source }
            }
            (_, Some(i)) => Self::Other { what: format!("join {group} on {}", i.name), source },
            (_, None) => Self::Other { what: format!("join {group}"), source },
        }
    }
}
