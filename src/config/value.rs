//! The value forms of the configuration contract, each a type: parsed once, valid ever after.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

/// A flow's name: the stem of its file, `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowName(String);

/// A string that is no flow name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a flow's name is 1 to 63 of a-z, 0-9 and '-', and starts with a letter or digit")]
pub struct FlowNameError;

impl FlowName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FlowName {
    type Err = FlowNameError;

    fn from_str(s: &str) -> Result<Self, FlowNameError> {
        let ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let b = s.as_bytes();
        if b.is_empty() || b.len() > 63 || !ok(b[0]) || !b.iter().all(|&c| ok(c) || c == b'-') {
            return Err(FlowNameError);
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for FlowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bit rate in bit/s. Written as an integer or as `"800k"`, `"20M"`, `"1.5G"` (decimal multiples).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(u64);

impl Bitrate {
    /// `bps` bits a second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// Bits a second.
    pub const fn bps(self) -> u64 {
        self.0
    }
}

/// How long received packets may be gathered before they are handled, to save wake-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gather {
    /// At once while the shard is lightly loaded, up to 2 ms as it gets busy.
    #[default]
    Auto,
    /// This long. Zero: every packet is handled as it comes.
    For(Duration),
}

/// A Differentiated Services code point, 0 to 63 (RFC 2474).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dscp(u8);

impl Dscp {
    /// The code point, if `value` is at most 63.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 63 { Some(Self(value)) } else { None }
    }

    /// The octet for IP_TOS and IPV6_TCLASS: the code point above two ECN bits of zero.
    pub const fn tos(self) -> u8 {
        self.0 << 2
    }

    /// The code point, 0 to 63.
    pub const fn value(self) -> u8 {
        self.0
    }
}

/// A host as written: an address, or a DNS name that is resolved when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A DNS name, lower case.
    Name(String),
}

/// `"host:port"` or `"[v6]:port"`: where datagrams go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Address or name.
    pub host: Host,
    /// UDP port, 1 to 65535.
    pub port: u16,
}

impl Destination {
    /// The socket address, where the host is a literal one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(n) => write!(f, "{n}:{}", self.port),
        }
    }
}

/// A local address to receive on: `":port"` is every address of both families (`ip` is `None`), a multicast group
/// means that group is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind {
    /// The address; `None` for `":port"`: all addresses, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// UDP port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// Which network interface: by its name, or as the one that holds an address in a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// By name, such as `eth1`.
    Name(String),
    /// The interface with an address in this network.
    Cidr(IpNet),
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(n) => f.write_str(n),
            Self::Cidr(n) => write!(f, "the one with an address in {n}"),
        }
    }
}
