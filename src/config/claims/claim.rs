//! One claim on one port, and whether two can both be met.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::plan::{EntitlementPort, Stream};
use crate::config::value::{FlowName, Interface};
use crate::proto::srt::access::StreamIdPattern;

/// What is claimed of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    /// Datagrams to this address, on this interface, from these senders (none: any).
    Receive { ip: Option<IpAddr>, interface: Option<Interface>, senders: Vec<IpAddr> },
    /// SRT callers at this address, on this interface, with such a stream ID (none: any).
    Listen { ip: Option<IpAddr>, interface: Option<Interface>, stream_id: Option<StreamIdPattern>, end: End },
    /// The local port of an SRT connection, shared with nobody.
    Own { ip: Option<IpAddr>, interface: Option<Interface> },
    /// The local port of a sender.
    SendFrom,
    /// Not the port of this machine but of a receiver: it must not be one of our own.
    SendTo { ip: IpAddr, interface: Option<Interface> },
    /// Not the port of this machine but of an SRT listener.
    Call { ip: IpAddr, interface: Option<Interface>, stream_id: Option<String>, end: End },
}

/// Which end of a flow an SRT connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Output,
}

impl Use {
    /// The address and the interface of a port of this machine; `None`: it is no such port, or none in particular.
    fn local(&self) -> Option<(Option<IpAddr>, Option<&Interface>)> {
        match self {
            Self::Receive { ip, interface, .. } | Self::Listen { ip, interface, .. } | Self::Own { ip, interface } => {
                Some((*ip, interface.as_ref()))
            }
            Self::SendFrom | Self::SendTo { .. } | Self::Call { .. } => None,
        }
    }

    /// Whether it is a port of another machine, most likely.
    pub(super) const fn is_remote(&self) -> bool {
        matches!(self, Self::SendTo { .. } | Self::Call { .. })
    }
}

/// One claim of a flow, or of the appliance.
#[derive(Debug, Clone)]
pub(in crate::config) struct Claim {
    /// `None`: the appliance's.
    pub(super) flow: Option<FlowName>,
    /// `source "a"`
    pub(super) part: String,
    /// `FILE:LINE:COLUMN`
    pub(super) written: String,
    pub(super) place: (usize, usize),
    /// Of the `stream-id`, where one is written.
    pub(super) stream_id_place: Option<(usize, usize)>,
    pub(super) port: u16,
    /// What comes, or goes, there.
    pub(super) stream: Stream,
    pub(super) what: Use,
}

/// Why a claim is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// Where it is to be shown.
    pub(super) place: (usize, usize),
    pub(super) message: String,
    /// The way out.
    pub(super) help: &'static str,
}

/// Can a datagram be for both addresses? `[::]` takes IPv4 too.
fn addresses_meet(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let covers = |wild: Option<IpAddr>, other: Option<IpAddr>| match wild {
        None => true,
        Some(IpAddr::V6(v6)) => v6.is_unspecified(),
        Some(IpAddr::V4(v4)) => v4.is_unspecified() && other.is_none_or(|ip| ip.is_ipv4()),
    };
    a == b || covers(a, b) || covers(b, a)
}

/// Two that are named and differ don't; one that is left to the system may be any.
fn interfaces_meet(a: Option<&Interface>, b: Option<&Interface>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a == b)
}

/// Do datagrams sent to `ip` come back to this receiver? Only where that is certain.
pub(super) fn loops(ip: IpAddr, out: Option<&Interface>, bound: Option<IpAddr>, interface: Option<&Interface>) -> bool {
    if ip.is_multicast() {
        return bound == Some(ip) && interfaces_meet(out, interface);
    }
    let on_loopback = interface.is_none_or(|i| *i == Interface::Name("lo".into()));
    bound == Some(ip) || (ip.is_loopback() && on_loopback && addresses_meet(bound, Some(ip)))
}

/// Is it one socket? `:PORT` and `[::]:PORT` are the same.
fn is_one_bind(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let all = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    a.unwrap_or(all) == b.unwrap_or(all)
}

/// All stream IDs by libsrt's access control: each of them is for an entitlement.
const ACCESS_CONTROL: &str = "#!*";

impl Claim {
    /// The port for entitlements.
    pub(in crate::config) fn of_entitlements(port: &EntitlementPort) -> Self {
        let EntitlementPort { bind, interface } = port.clone();
        let stream_id = StreamIdPattern::new(ACCESS_CONTROL).ok();
        Self {
            flow: None,
            part: "[entitlements]".to_owned(),
            written: "mediaconnect.toml".to_owned(),
            place: (0, 0),
            stream_id_place: None,
            port: bind.port,
            stream: Stream::Media,
            what: Use::Listen { ip: bind.ip, interface, stream_id, end: End::Output },
        }
    }

    /// Does it claim the same, wherever that is written?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.port, &self.what) == (other.port, &other.what)
    }

    /// Whose it is, in the eyes of `asker`.
    pub(super) fn owner(&self, asker: &Self) -> String {
        let flow = match &self.flow {
            None => return format!("{} of {}", self.part, self.written),
            Some(_) if self.flow == asker.flow => "this flow".to_owned(),
            Some(flow) => format!("flow \"{flow}\""),
        };
        let stream = if self.stream == Stream::Media { String::new() } else { format!("{} of ", self.stream.name()) };
        format!("{stream}{} of {flow} ({})", self.part, self.written)
    }

    fn conflict(&self, message: String, help: &'static str) -> Conflict {
        Conflict { place: self.place, message, help }
    }

    /// Why `self` cannot be met beside `other`.
    pub(super) fn against(&self, other: &Self) -> Option<Conflict> {
        // The text stands where the media port is written.
        let stream =
            if self.stream == Stream::Media { String::new() } else { format!(" (for {})", self.stream.name()) };
        let here = || if stream.is_empty() { "here".to_owned() } else { format!("on port {}{stream}", self.port) };
        let taken = |help| {
            let message = format!("port {}{stream} is already taken by {}", self.port, other.owner(self));
            Some(self.conflict(message, help))
        };
        let move_one = "give one of them another port";
        if let Some(((ip, interface), (other_ip, other_interface))) = self.what.local().zip(other.what.local()) {
            if !addresses_meet(ip, other_ip) || !interfaces_meet(interface, other_interface) {
                return None;
            }
            return match (&self.what, &other.what) {
                (Use::Receive { senders, .. }, Use::Receive { senders: other_senders, .. }) => {
                    let Some(group) = ip.filter(|ip| ip.is_multicast() && other_ip == Some(*ip)) else {
                        return taken(move_one);
                    };
                    let apart = !senders.is_empty() && !other_senders.is_empty();
                    if apart && !senders.iter().any(|s| other_senders.contains(s)) {
                        return None;
                    }
                    let group = SocketAddr::new(group, self.port);
                    let message = format!("{group}{stream} is already received by {}", other.owner(self));
                    Some(self.conflict(message, "one flow can feed many outputs: add yours to that flow"))
                }
                (Use::Listen { stream_id, .. }, Use::Listen { stream_id: other_stream_id, .. }) => {
                    if is_one_bind(ip, other_ip) && interface == other_interface {
                        return self.mistakable((stream_id.as_ref(), other_stream_id.as_ref()), other);
                    }
                    taken("write the same `bind` and interface to share the port, or give one of them another")
                }
                _ => taken(move_one),
            };
        }
        let another = "an output must not feed a source of the same appliance: change one of them";
        match (&self.what, &other.what) {
            (Use::SendTo { ip, interface }, Use::Receive { ip: bound, interface: on, .. })
                if loops(*ip, interface.as_ref(), *bound, on.as_ref()) =>
            {
                Some(self.conflict(format!("loop: {} receives {}", other.owner(self), here()), another))
            }
            (Use::Receive { ip: bound, interface: on, .. }, Use::SendTo { ip, interface })
                if loops(*ip, interface.as_ref(), *bound, on.as_ref()) =>
            {
                Some(self.conflict(format!("loop: {} sends {}", other.owner(self), here()), another))
            }
            (Use::SendFrom, local) | (local, Use::SendFrom) if local.local().is_some() => taken(move_one),
            (Use::SendFrom, Use::SendFrom) if self.flow != other.flow => taken(move_one),
            _ => None,
        }
    }

    /// Two that share an SRT port: could a caller be for either?
    fn mistakable(
        &self,
        (ours, theirs): (Option<&StreamIdPattern>, Option<&StreamIdPattern>),
        other: &Self,
    ) -> Option<Conflict> {
        if ours.zip(theirs).is_some_and(|(a, b)| !a.overlaps(b)) {
            return None;
        }
        let words = |pattern: Option<&StreamIdPattern>| {
            pattern.map_or_else(|| "any stream ID".to_owned(), |p| format!("{:?}", p.as_str()))
        };
        let message = format!(
            "port {} is shared with {}, and a caller may match both: {} here, {} there",
            self.port,
            other.owner(self),
            words(ours),
            words(theirs)
        );
        let place = self.stream_id_place.unwrap_or(self.place);
        Some(Conflict { place, message, help: "give each a `stream-id` of its own, or another port" })
    }
}
