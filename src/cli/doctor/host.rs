//! What there is of this host: the kernel's settings and counters, and what the daemon is allowed. Nothing is judged here.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{getsockopt, sockopt};

use crate::config::ports::LocalPorts;
use crate::io::clock;
use crate::io::links::{self, Links, ReceiveRing};

/// This host. `None`: it can't be read, as in some containers.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// `net.core.rmem_max`, in bytes.
    pub(super) receive_buffer: Option<u64>,
    /// `net.core.wmem_max`, in bytes.
    pub(super) send_buffer: Option<u64>,
    /// `net.ipv4.igmp_max_memberships`: groups of one socket.
    pub(super) memberships: Option<u64>,
    /// `net.ipv4.igmp_max_msf`: senders of one source-specific join.
    pub(super) senders: Option<u64>,
    /// `net.ipv6.mld_max_msf`: the same for IPv6.
    pub(super) senders_v6: Option<u64>,
    /// The ports that the system hands out by itself.
    pub(super) local_ports: LocalPorts,
    /// `net.ipv4.ip_local_reserved_ports`, as it is.
    pub(super) reserved_ports: String,
    /// All interfaces.
    pub(super) links: Links,
    /// What more there is of each, by name.
    pub(super) cards: BTreeMap<String, Card>,
    /// The main table's, of IPv4.
    pub(super) routes: Vec<Route>,
    /// Whoever keeps the clock says that it is right.
    pub(super) clock_synchronised: bool,
    /// Descriptors that the daemon, or where none runs this process, may have.
    pub(super) descriptors: Option<u64>,
}

/// What more there is of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// `rp_filter` in force: 0 off, 1 strict, 2 loose. The greater of its own and that of `all`.
    pub(super) reverse_path: u64,
    /// `force_igmp_version` in force; 0: none is.
    pub(super) forced_igmp: u64,
    /// The version of IGMP that it speaks now: that of the oldest querier heard of late.
    pub(super) igmp: Option<u64>,
    /// `None`: it has none.
    pub(super) ring: Option<ReceiveRing>,
    /// Datagrams that the ring had no room for, since it came up.
    pub(super) missed: u64,
}

/// A route of IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) interface: String,
    destination: u32,
    mask: u32,
    metric: u32,
}

impl Host {
    /// This one, now; `control` is the daemon's control socket.
    pub(super) fn read(control: &Path) -> Self {
        let links = Links::read().unwrap_or_default();
        let igmp = igmp_versions(&text("/proc/net/igmp"));
        let cards = links.iter().map(|(name, _)| (name.to_owned(), card(name, igmp.get(name).copied()))).collect();
        Self {
            receive_buffer: setting("net/core/rmem_max"),
            send_buffer: setting("net/core/wmem_max"),
            memberships: setting("net/ipv4/igmp_max_memberships"),
            senders: setting("net/ipv4/igmp_max_msf"),
            senders_v6: setting("net/ipv6/mld_max_msf"),
            local_ports: LocalPorts::of_this_host(),
            reserved_ports: text("/proc/sys/net/ipv4/ip_local_reserved_ports").trim().to_owned(),
            links,
            cards,
            routes: routes(&text("/proc/net/route")),
            clock_synchronised: clock::is_synchronised(),
            descriptors: descriptors_of_daemon(control).or_else(own_descriptors),
        }
    }

    /// The interface by which datagrams to `address` leave.
    pub(super) fn route_to(&self, address: Ipv4Addr) -> Option<&str> {
        let bits = address.to_bits();
        let fits = self.routes.iter().filter(|route| bits & route.mask == route.destination);
        // The longest prefix; of several, the least metric.
        let best = fits.min_by_key(|route| (u32::MAX - route.mask, route.metric))?;
        Some(&best.interface)
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path).trim().parse().ok()
}

fn setting(name: &str) -> Option<u64> {
    number(Path::new("/proc/sys").join(name))
}

fn card(name: &str, igmp: Option<u64>) -> Card {
    let conf = |interface: &str, setting: &str| {
        number(Path::new("/proc/sys/net/ipv4/conf").join(interface).join(setting)).unwrap_or(0)
    };
    let counter =
        |counter: &str| number(Path::new("/sys/class/net").join(name).join("statistics").join(counter)).unwrap_or(0);
    let forced = [conf("all", "force_igmp_version"), conf(name, "force_igmp_version")];
    Card {
        reverse_path: conf("all", "rp_filter").max(conf(name, "rp_filter")),
        forced_igmp: forced.into_iter().filter(|version| *version > 0).min().unwrap_or(0),
        igmp,
        ring: links::receive_ring(name).filter(|ring| ring.most > 0),
        missed: counter("rx_missed_errors") + counter("rx_fifo_errors"),
    }
}

/// `/proc/net/igmp`: an interface is a line such as `2 eth1 : 3 V3`, its groups are the ones below.
pub(super) fn igmp_versions(table: &str) -> BTreeMap<String, u64> {
    let lines = table.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let version = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let version = rest.split_whitespace().nth(1)?.strip_prefix('V')?.parse().ok()?;
        Some((name.split_whitespace().nth(1)?.to_owned(), version))
    };
    lines.filter_map(version).collect()
}

/// `/proc/net/route`: addresses in hexadecimal, in this machine's order of bytes.
pub(super) fn routes(table: &str) -> Vec<Route> {
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [interface, destination, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
        // RTF_UP, and not RTF_REJECT.
        let usable = u32::from_str_radix(flags, 16).ok()? & 0x201 == 1;
        let metric = metric.parse().ok()?;
        let (destination, mask) = (address(destination)?, address(mask)?);
        usable.then(|| Route { interface: interface.to_owned(), destination, mask, metric })
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// The soft limit of the process that listens at the control socket, which raises it to the hard one at its start.
fn descriptors_of_daemon(control: &Path) -> Option<u64> {
    let peer = getsockopt(&UnixStream::connect(control).ok()?, sockopt::PeerCredentials).ok()?;
    descriptor_limit(&text(format!("/proc/{}/limits", peer.pid())))
}

/// `Max open files            1048576              1048576              files`
pub(super) fn descriptor_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

fn own_descriptors() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard)
}
