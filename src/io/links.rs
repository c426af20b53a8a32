//! The interfaces of this host, and word of their changes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use super::sys;
use crate::config::value::Interface;

#[cfg(test)]
mod tests;

/// An interface as it is now. Made again under the same name it has another index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InterfaceRef {
    /// Such as `eth1`.
    pub name: String,
    /// The kernel's index, from 1.
    pub index: u32,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index, from 1.
    pub index: u32,
    /// Switched on by the administrator.
    pub up: bool,
    /// Has a carrier: the cable is in, the other end is on.
    pub running: bool,
    /// Its addresses, of both families.
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of this host at one moment, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(BTreeMap<String, Link>);

impl FromIterator<(String, Link)> for Links {
    fn from_iter<T: IntoIterator<Item = (String, Link)>>(links: T) -> Self {
        Self(links.into_iter().collect())
    }
}

impl Links {
    /// The interface of this index.
    pub fn of_index(&self, index: u32) -> Option<InterfaceRef> {
        let (name, _) = self.0.iter().find(|(_, link)| link.index == index)?;
        Some(InterfaceRef { name: name.clone(), index })
    }

    /// Asks the kernel.
    ///
    /// # Errors
    /// Where a sandbox forbids netlink sockets.
    pub fn read() -> io::Result<Self> {
        let mut links = BTreeMap::<String, Link>::new();
        for entry in nix::ifaddrs::getifaddrs()? {
            // An interface may have come since the list was begun, or gone: then it is not listed.
            let index = match entry.address.as_ref().and_then(SockaddrStorage::as_link_addr) {
                Some(address) => address.ifindex() as u32,
                None => 0,
            };
            // An IPv4 address may carry a label, "eth1:2", in its interface's place.
            let name = entry.interface_name.split(':').next().unwrap_or_default().to_owned();
            let link = links.entry(name).or_insert_with(|| Link {
                index: 0,
                up: entry.flags.contains(InterfaceFlags::IFF_UP),
                running: entry.flags.contains(InterfaceFlags::IFF_RUNNING),
                addresses: Vec::new(),
            });
            link.index = link.index.max(index);
            link.addresses.extend(entry.address.as_ref().and_then(ip));
        }
        links.retain(|_, link| link.index != 0);
        Ok(Self(links))
    }

    /// The interface that is meant: by name, or the one with an address in the network; of several the one of the lowest
    /// index. Whether it is up does not matter.
    pub fn find(&self, wanted: &Interface) -> Option<InterfaceRef> {
        let (name, link) = match wanted {
            Interface::Name(name) => self.0.get_key_value(name)?,
            Interface::Cidr(network) => self
                .0
                .iter()
                .filter(|(_, link)| link.addresses.iter().any(|a| network.contains(a)))
                .min_by_key(|(_, link)| link.index)?,
        };
        Some(InterfaceRef { name: name.clone(), index: link.index })
    }

    /// By its name.
    pub fn get(&self, name: &str) -> Option<&Link> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Link)> {
        self.0.iter().map(|(name, link)| (name.as_str(), link))
    }
}

/// Where an interface's card puts datagrams until the kernel fetches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveRing {
    /// Its slots.
    pub slots: u32,
    /// The most it can have.
    pub most: u32,
}

/// The receive ring of an interface; `None`: it has none, or does not tell.
pub fn receive_ring(interface: &str) -> Option<ReceiveRing> {
    let (slots, most) = sys::receive_ring(interface).ok()?;
    Some(ReceiveRing { slots, most })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| a.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
}

/// Hears from the kernel that interfaces or addresses come, go or change.
pub struct Watcher(AsyncFd<OwnedFd>);

impl Watcher {
    /// Needs a tokio runtime with I/O, but no privilege.
    ///
    /// # Errors
    /// Where a sandbox forbids netlink sockets: then look again every few seconds.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
        sys::watch(fd).map(Self)
    }

    /// Waits for a change since the last call, whatever it is: [`Links::read`] tells. Dropping it loses none.
    ///
    /// # Errors
    /// None in practice.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.0.readable().await?;
            let mut heard = false;
            let mut buffer = [0; 64];
            // Messages are cut off: only that there are any counts. All that wait are one change.
            loop {
                match recv(guard.get_inner().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    // Some were lost for want of room.
                    Ok(_) | Err(Errno::ENOBUFS) => heard = true,
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            guard.clear_ready();
            if heard {
                return Ok(());
            }
        }
    }
}
