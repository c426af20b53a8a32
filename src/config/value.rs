//! The value forms of the configuration contract, each a type: parsed once, valid ever after.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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

/// What a value's text lacks. Reads on from the value: `"10.0.0.1"` + ` has no port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ValueError {
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ValueError {
    pub(super) fn new(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { problem: problem.into(), help: Some(help.into()) }
    }
}

/// A duration such as `200ms`, `2s` or `1h 30m`.
///
/// # Errors
/// Text that is no duration.
pub fn parse_duration(s: &str) -> Result<Duration, ValueError> {
    humantime::parse_duration(s)
        .map_err(|_| ValueError::new("is not a duration", "write a number and a unit, such as \"200ms\" or \"2s\""))
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

impl FromStr for Bitrate {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let fault = || ValueError::new("is not a bit rate", "write bit/s as a number, or \"800k\", \"20M\", \"1.5G\"");
        let (number, scale) = match s.as_bytes().last() {
            Some(b'k' | b'K') => (&s[..s.len() - 1], 1_000u128),
            Some(b'M') => (&s[..s.len() - 1], 1_000_000),
            Some(b'G') => (&s[..s.len() - 1], 1_000_000_000),
            _ => (s, 1),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| (1..=12).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(fault());
        }
        let parse = |part: &str| part.parse::<u128>().map_err(|_| fault());
        let bps = parse(whole)? * scale + parse(fraction)? * scale / 10u128.pow(fraction.len() as u32);
        match u64::try_from(bps) {
            Ok(0) => Err(ValueError::new("is not a bit rate", "leave the key out for no limit")),
            Ok(bps) => Ok(Self(bps)),
            Err(_) => Err(fault()),
        }
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

impl FromStr for Dscp {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let name = s.to_ascii_lowercase();
        let digit = |at: usize, most: u8| name.as_bytes().get(at).map(|c| c.wrapping_sub(b'0')).filter(|d| *d <= most);
        let point = match (name.as_str(), name.len()) {
            ("be" | "default" | "df", _) => Some(0),
            ("le", _) => Some(1),
            ("va", _) => Some(44),
            ("ef", _) => Some(46),
            (n, 3) if n.starts_with("cs") => digit(2, 7).map(|class| class * 8),
            (n, 4) if n.starts_with("af") => match (digit(2, 4), digit(3, 3)) {
                (Some(class @ 1..), Some(drop @ 1..)) => Some(class * 8 + drop * 2),
                _ => None,
            },
            _ => None,
        };
        point.map(Self).ok_or_else(|| {
            ValueError::new(
                "is not a DSCP value",
                "write a number from 0 to 63, or cs0 to cs7, af11 to af43, ef, va, le or default",
            )
        })
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
    /// The same host, so many ports on; `None`: there is no such port.
    pub fn at_offset(&self, offset: u16) -> Option<Self> {
        Some(Self { host: self.host.clone(), port: self.port.checked_add(offset)? })
    }

    /// The socket address, where the host is a literal one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

/// The port, and the host before it, of `host:port`; a host in brackets must be an IPv6 address.
fn split_port(s: &str) -> Result<(&str, u16), ValueError> {
    if let Some((scheme, rest)) = s.split_once("://") {
        return Err(ValueError::new("is a URL", format!("leave out \"{scheme}://\": write \"{rest}\"")));
    }
    if s.parse::<Ipv6Addr>().is_ok() {
        return Err(ValueError::new("is an IPv6 address without a port", format!("write \"[{s}]:5000\"")));
    }
    let Some((host, port)) = s.rsplit_once(':').filter(|_| !s.ends_with(']')) else {
        return Err(ValueError::new("has no port", format!("write \"{s}:5000\"")));
    };
    let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    let Some(port) = port.parse::<u16>().ok().filter(|p| digits && *p != 0) else {
        return Err(ValueError { problem: format!("has no valid port: {port:?} is not 1 to 65535"), help: None });
    };
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or(inner);
        if inner.contains('%') {
            return Err(ValueError::new(
                "carries a zone",
                "leave out \"%…\" and name the interface by the key `interface`",
            ));
        }
        if !host.ends_with(']') || inner.parse::<Ipv6Addr>().is_err() {
            return Err(ValueError::new("has no IPv6 address in its brackets", "write \"[2001:db8::1]:5000\""));
        }
        return Ok((inner, port));
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Err(ValueError::new("is an IPv6 address without brackets", format!("write \"[{host}]:{port}\"")));
    }
    Ok((host, port))
}

/// An address; IPv4 mapped into IPv6 is taken as the IPv4 address it stands for.
fn literal(host: &str) -> Option<IpAddr> {
    host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Could `host` be a name in the DNS? One whose last label is a number would be a mistyped IPv4 address.
fn is_dns_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.bytes().all(|c| c.is_ascii_digit())
}

impl FromStr for Destination {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let (host, port) = split_port(s)?;
        if host.is_empty() {
            return Err(ValueError::new(
                "has no host",
                format!("write \"203.0.113.7:{port}\" or \"host.example.net:{port}\""),
            ));
        }
        let host = match literal(host) {
            Some(ip) => Host::Address(ip),
            None if is_dns_name(host) => Host::Name(host.to_ascii_lowercase()),
            None => {
                return Err(ValueError {
                    problem: format!("has no valid host: {host:?} is neither an address nor a DNS name"),
                    help: None,
                });
            }
        };
        Ok(Self { host, port })
    }
}

impl FromStr for Bind {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let (host, port) = split_port(s)?;
        let ip = match (host, literal(host)) {
            ("", _) => None,
            (_, Some(ip)) => Some(ip),
            ("localhost", _) => {
                return Err(ValueError::new("is a name, not an address", format!("write \"127.0.0.1:{port}\"")));
            }
            (_, None) => {
                return Err(ValueError::new(
                    "is not an address of this machine",
                    format!(
                        "write an address such as \"192.0.2.10:{port}\", or \":{port}\" for all of them; names are not looked up here"
                    ),
                ));
            }
        };
        Ok(Self { ip, port })
    }
}

/// A network as written: `10.2.0.0/16`, or a bare address for that one host. The second value is false when host bits
/// were set; they are cleared.
///
/// # Errors
/// Text that is no network.
pub fn parse_network(s: &str) -> Result<(IpNet, bool), ValueError> {
    let net = match s.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip.to_canonical()),
        Err(_) => s.parse::<IpNet>().map_err(|_| {
            ValueError::new("is not a network", "write \"203.0.113.0/24\", \"2001:db8::/48\" or one address")
        })?,
    };
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        _ => None,
    };
    let net = mapped.and_then(|(ip, len)| IpNet::new(ip.into(), len).ok()).unwrap_or(net);
    Ok((net.trunc(), net == net.trunc()))
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

impl FromStr for Interface {
    type Err = ValueError;

    /// By name only: 1 to 15 bytes, as the kernel has it.
    fn from_str(s: &str) -> Result<Self, ValueError> {
        if s.parse::<IpAddr>().is_ok() || s.parse::<IpNet>().is_ok() {
            return Err(ValueError::new(
                "is an address, not the name of an interface",
                "write a name such as \"eth1\", or define [networks.NAME] with `cidr` in mediaconnect.toml and write `network = \"NAME\"`",
            ));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        if s.is_empty() || s.len() > 15 || s == "." || s == ".." || s.contains(odd) {
            return Err(ValueError::new("is not an interface name", "`ip -brief link` lists them"));
        }
        Ok(Self::Name(s.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(n) => f.write_str(n),
            Self::Cidr(n) => write!(f, "the one with an address in {n}"),
        }
    }
}

/// CPUs by the kernel's numbers, in the order written: `2-3,6`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuList(pub Vec<u16>);

impl CpuList {
    /// The highest number there can be.
    pub const HIGHEST: u16 = 4095;
    /// How many may be listed: as many as there may be `workers`.
    pub const MOST: usize = 1024;
}

impl FromStr for CpuList {
    type Err = ValueError;

    /// As taskset and /sys write it: numbers and ranges, separated by commas; each CPU once.
    fn from_str(s: &str) -> Result<Self, ValueError> {
        let fault = |problem: String| ValueError::new(problem, "write numbers and ranges such as \"2-3,6\"");
        let number = |text: &str| {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(fault(format!("is no list of CPUs: {text:?} is not a number")));
            }
            let cpu = text.parse().ok().filter(|cpu| *cpu <= Self::HIGHEST);
            cpu.ok_or_else(|| fault(format!("is out of range: CPUs go from 0 to {}", Self::HIGHEST)))
        };
        if s.is_empty() {
            return Err(fault("lists no CPU".into()));
        }
        let mut cpus = Vec::new();
        for item in s.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(fault(format!("is no list of CPUs: the range {item} ends before it begins")));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(fault(format!("lists CPU {cpu} twice")));
                }
                cpus.push(cpu);
            }
        }
        if cpus.len() > Self::MOST {
            return Err(fault(format!("lists {} CPUs, of at most {}", cpus.len(), Self::MOST)));
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuList {
    /// One by one: `2,3,6`; `any` without one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        let all: Vec<_> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// `http://HOST[:PORT]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host and port.
    pub host: Destination,
    /// What is asked for there: path and query, beginning with `/`.
    pub path: String,
}

impl FromStr for Url {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let example = || "write one such as \"http://192.0.2.9:8080/hook\"".to_owned();
        let fault = |problem: &str| ValueError { problem: problem.to_owned(), help: Some(example()) };
        if s.starts_with("https://") {
            let help = "post to a proxy on this host that speaks TLS, or run a program with `exec`".to_owned();
            return Err(ValueError {
                problem: "needs TLS, which is not available in this version".into(),
                help: Some(help),
            });
        }
        let rest = s.strip_prefix("http://").ok_or_else(|| fault("is no http URL"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let odd = |c: char| !c.is_ascii_graphic() || c == '#';
        if path.contains(odd) {
            return Err(fault("has a path that can't be asked for"));
        }
        let with_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let host = if with_port { authority.parse() } else { format!("{authority}:80").parse() };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.map_err(|e: ValueError| ValueError { help: Some(example()), ..e })?, path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests;
