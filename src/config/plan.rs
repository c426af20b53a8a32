//! What we will run: plans are valid by construction and compare with `==`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use self::alarm::METRIC_NAMES;
pub use self::alarm::{AlarmPlan, Builtin, Metric, NotifierPlan, PLAYPEN, Quantity, Rule, Side, TrapPlan, Way};
pub use self::daemon::{
    ControlPlan, DaemonPlan, HttpPlan, Limits, LogPlan, LogTarget, SyslogFormat, SyslogPlan, SyslogServer, TagLabel,
    TlsPlan,
};
pub use self::entitlement::{Entitled, EntitlementPlan, EntitlementPort, SubscriberPlan};
pub use self::failover::{FailoverPlan, FailoverRules, ReturnMode, SwitchOn};
pub use self::rist::{RistEncryption, RistInput, RistProfile, RistRoute};
pub(super) use self::srt::Call;
pub use self::srt::{SrtEncryption, SrtMode, SrtPlan};
use super::secrets::KeyFile;
use super::value::{Bind, Bitrate, Destination, Dscp, FlowName, Gather, Interface};
use crate::proto::fec2022_1::matrix::Matrix;

mod alarm;
mod daemon;
mod entitlement;
mod failover;
mod rist;
mod srt;

/// One flow: what arrives, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowPlan {
    /// The stem of the flow's file.
    pub name: FlowName,
    /// Free text for people.
    pub description: String,
    /// `false`: defined, but stopped (state `standby`).
    pub enabled: bool,
    /// The gather budget in force: the flow's own, or `[defaults]`.
    pub gather: Gather,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Groups that may act on it besides those of `[control]`.
    pub operators: Vec<String>,
    /// By name; at least one.
    pub sources: BTreeMap<String, SourcePlan>,
    /// What several sources are to each other; `None` only with one source, which is simply passed on.
    pub failover: Option<FailoverPlan>,
    /// By name; may be empty.
    pub outputs: BTreeMap<String, OutputPlan>,
    /// By name; may be empty.
    pub entitlements: BTreeMap<String, EntitlementPlan>,
    /// `[monitoring] transport-stream`: each source's stream is analysed.
    pub analyse: bool,
    /// `[monitoring] thumbnails`: a picture so often; `None`: none.
    pub thumbnails: Option<Duration>,
    /// `[monitoring] content`: what is looked for; `None`: nothing.
    pub content: Option<ContentPlan>,
    /// By name: those of its own, which stand in place of the appliance's of the same name.
    pub alarms: BTreeMap<String, AlarmPlan>,
}

/// How long a fault of pictures or sound lasts until it counts; `None`: it is not looked for. Whether pictures and sound
/// are there at all is looked for in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContentPlan {
    /// The picture is black.
    pub black: Option<Duration>,
    /// The picture does not move.
    pub frozen: Option<Duration>,
    /// There is no sound.
    pub silence: Option<Duration>,
}

impl ContentPlan {
    /// Whether pictures or sound must be decoded for it.
    pub const fn decodes(&self) -> bool {
        self.black.is_some() || self.frozen.is_some() || self.silence.is_some()
    }
}

/// One source of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlan {
    /// Free text for people.
    pub description: String,
    /// `false`: not opened.
    pub enabled: bool,
    /// How it is received.
    pub input: SourceInput,
    /// The interface to bind to or join on; `None`: the system's choice.
    pub interface: Option<Interface>,
    /// What comes above this is dropped and counted.
    pub max_bitrate: Option<Bitrate>,
    /// The keys that its content is encrypted with; `None`: it passes as it comes.
    pub decryption: Option<ContentKeys>,
}

/// The keys of DVB-CISSA, 16 bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentKeys {
    /// Of packets marked even.
    pub even: KeyFile,
    /// Of packets marked odd; `None`: there are none.
    pub odd: Option<KeyFile>,
}

/// With what the content of an output is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentEncryption {
    /// The even one is used first.
    pub keys: ContentKeys,
    /// So long each key is used; `MAX` where there is one.
    pub period: Duration,
}

impl ContentEncryption {
    /// Whether it is the same but for what is in the key files: then it changes while it runs.
    pub fn is_same(&self, other: &Self) -> bool {
        let names =
            |keys: &ContentKeys| (keys.even.name().to_owned(), keys.odd.as_ref().map(|odd| odd.name().to_owned()));
        self.period == other.period && names(&self.keys) == names(&other.keys)
    }
}

/// How a source is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceInput {
    /// From sockets of its own: udp, rtp, rtp-fec.
    Datagrams(DatagramInput),
    /// Over SRT connections.
    Srt(SrtPlan),
    /// By RIST.
    Rist(RistInput),
}

/// The sockets of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramInput {
    /// How its datagrams are read.
    pub protocol: SourceProtocol,
    /// Where it receives; a multicast group is joined.
    pub bind: Bind,
    /// The senders of a source-specific multicast join; empty: any-source.
    pub multicast_sources: Vec<IpAddr>,
    /// Who may send; `None`: everybody (allowed only for loopback and multicast).
    pub allow: Option<Vec<IpNet>>,
}

impl SourcePlan {
    /// The protocol's name in configuration and status.
    pub const fn protocol_name(&self) -> &'static str {
        match &self.input {
            SourceInput::Datagrams(input) => input.protocol.name(),
            SourceInput::Srt(srt) => srt.mode.name(),
            SourceInput::Rist(_) => "rist",
        }
    }

    /// Do its packets have RTP headers?
    pub const fn is_rtp(&self) -> bool {
        match &self.input {
            SourceInput::Datagrams(input) => input.protocol.is_rtp(),
            SourceInput::Rist(_) => true,
            SourceInput::Srt(_) => false,
        }
    }

    /// Its sockets; `None`: it is received over SRT or by RIST.
    pub const fn datagrams(&self) -> Option<&DatagramInput> {
        if let SourceInput::Datagrams(input) = &self.input { Some(input) } else { None }
    }

    /// Its SRT connections; `None`: it is not received over SRT.
    pub const fn srt(&self) -> Option<&SrtPlan> {
        if let SourceInput::Srt(srt) = &self.input { Some(srt) } else { None }
    }

    /// How it is received by RIST; `None`: it is not.
    pub const fn rist(&self) -> Option<&RistInput> {
        if let SourceInput::Rist(rist) = &self.input { Some(rist) } else { None }
    }

    /// Where it receives, or whom it calls; for people.
    pub fn place(&self) -> String {
        match &self.input {
            SourceInput::Datagrams(input) => input.bind.to_string(),
            SourceInput::Srt(srt) => srt.mode.place(),
            SourceInput::Rist(rist) => rist.bind.to_string(),
        }
    }
}

impl DatagramInput {
    /// The ports it receives on, and what comes there.
    pub fn ports(&self) -> impl Iterator<Item = (Stream, u16)> {
        let [column, row] = match self.protocol {
            SourceProtocol::RtpFec { fec_ports, .. } => fec_ports.map(Some),
            _ => [None, None],
        };
        let offsets = [(Stream::Media, Some(0)), (Stream::ColumnFec, column), (Stream::RowFec, row)];
        offsets.into_iter().filter_map(|(stream, offset)| Some((stream, self.bind.port.checked_add(offset?)?)))
    }
}

/// What the datagrams of one port carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The transport stream itself.
    Media,
    /// The FEC packets of columns.
    ColumnFec,
    /// The FEC packets of rows.
    RowFec,
    /// Reports, both ways, and what is asked for once more.
    Rtcp,
}

impl Stream {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::ColumnFec => "column FEC",
            Self::RowFec => "row FEC",
            Self::Rtcp => "RTCP",
        }
    }
}

/// Would a receiver of both streams, each with its output's protocol, at the same address and port take them for one?
/// FEC and RTCP mix with anything; media of different protocols is told apart.
pub(super) fn mixes((protocol, stream): (&str, Stream), (other, other_stream): (&str, Stream)) -> bool {
    let media_alone = stream == Stream::Media && other_stream == Stream::Media;
    !media_alone || protocol == other
}

/// How a source's datagrams are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceProtocol {
    /// Transport-stream packets straight in UDP.
    Udp,
    /// RTP (RFC 3550, RFC 2250).
    Rtp {
        /// How long a packet may wait for those before it. Zero: none is held back.
        reorder_window: Duration,
    },
    /// RTP with FEC (SMPTE ST 2022-1) on two more ports of the same address; a multicast group is joined for all three.
    RtpFec {
        /// As for [`Self::Rtp`], where nothing is known of the matrix yet.
        reorder_window: Duration,
        /// What is added to the port of `bind` for the column and for the row FEC: different, at least 1, and no sum
        /// is beyond 65535.
        fec_ports: [u16; 2],
    },
}

impl SourceProtocol {
    /// The name in configuration and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Rtp { .. } => "rtp",
            Self::RtpFec { .. } => "rtp-fec",
        }
    }

    /// Do its packets have RTP headers?
    pub const fn is_rtp(self) -> bool {
        matches!(self, Self::Rtp { .. } | Self::RtpFec { .. })
    }
}

/// One output of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// Free text for people.
    pub description: String,
    /// `false`: nothing is sent.
    pub enabled: bool,
    /// How it is sent, and to whom.
    pub route: OutputRoute,
    /// The interface packets leave by; `None`: the route's. The first leg's where there are legs.
    pub interface: Option<Interface>,
    /// Time to live or hop limit, 1 to 255; `None`: 16 for multicast, 64 for unicast.
    pub ttl: Option<u8>,
    /// On every packet that leaves.
    pub dscp: Dscp,
    /// `None`: the content leaves as it is.
    pub encryption: Option<ContentEncryption>,
}

/// How an output is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputRoute {
    /// As datagrams to an address: udp, rtp, rtp-fec.
    Datagrams(DatagramRoute),
    /// Over SRT connections.
    Srt(SrtPlan),
    /// By RIST.
    Rist(RistRoute),
}

/// Datagrams to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramRoute {
    /// What is sent.
    pub protocol: OutputProtocol,
    /// To whom; unicast or multicast. The first leg's where there are `legs`.
    pub destination: Destination,
    /// Two places that the same RTP packets go to (ST 2022-7), never alike; empty: to `destination` alone.
    pub legs: Vec<LegPlan>,
    /// The local port; `None`: one of the system's choice, shared by the flow's outputs.
    pub source_port: Option<u16>,
    /// Packets leave evenly, so long after they came; 1 ms to 10 s; `None`: as they come.
    pub smoothing: Option<Duration>,
}

impl OutputPlan {
    /// The protocol's name in configuration and status.
    pub const fn protocol_name(&self) -> &'static str {
        match &self.route {
            OutputRoute::Datagrams(route) => route.protocol.name(),
            OutputRoute::Srt(srt) => srt.mode.name(),
            OutputRoute::Rist(_) => "rist",
        }
    }

    /// Where its datagrams go; `None`: it is sent over SRT or by RIST.
    pub const fn datagrams(&self) -> Option<&DatagramRoute> {
        if let OutputRoute::Datagrams(route) = &self.route { Some(route) } else { None }
    }

    /// Its SRT connections; `None`: it is not sent over SRT.
    pub const fn srt(&self) -> Option<&SrtPlan> {
        if let OutputRoute::Srt(srt) = &self.route { Some(srt) } else { None }
    }

    /// How it is sent by RIST; `None`: it is not.
    pub const fn rist(&self) -> Option<&RistRoute> {
        if let OutputRoute::Rist(rist) = &self.route { Some(rist) } else { None }
    }

    /// The headers of its RTP packets; `None`: it sends no RTP, or RIST makes them.
    pub fn header(&self) -> Option<RtpHeader> {
        self.datagrams().and_then(|route| route.protocol.header())
    }

    /// Where its datagrams go: its legs, or its one destination; none where it is sent over SRT.
    pub fn paths(&self) -> impl Iterator<Item = (&Destination, Option<&Interface>)> {
        let legs = self.legs();
        let destination = match &self.route {
            OutputRoute::Datagrams(route) => Some(&route.destination),
            OutputRoute::Rist(rist) => Some(&rist.destination),
            OutputRoute::Srt(_) => None,
        };
        let single = destination.filter(|_| legs.is_empty()).map(|to| (to, self.interface.as_ref()));
        single.into_iter().chain(legs.iter().map(|leg| (&leg.destination, leg.interface.as_ref())))
    }

    /// Its two legs, or none.
    pub fn legs(&self) -> &[LegPlan] {
        match &self.route {
            OutputRoute::Datagrams(route) => &route.legs,
            OutputRoute::Rist(rist) => &rist.legs,
            OutputRoute::Srt(_) => &[],
        }
    }

    /// What goes to each of [`Self::paths`], and what is added to the destination's port for each.
    pub const fn streams(&self) -> &'static [(Stream, u16)] {
        match &self.route {
            OutputRoute::Datagrams(route) => route.protocol.streams(),
            OutputRoute::Rist(rist) => rist.profile.streams(),
            OutputRoute::Srt(_) => &[],
        }
    }

    /// Where it sends to, or where it is called; for people.
    pub fn place(&self) -> String {
        match &self.route {
            OutputRoute::Datagrams(route) => route.destination.to_string(),
            OutputRoute::Srt(srt) => srt.mode.place(),
            OutputRoute::Rist(rist) => rist.destination.to_string(),
        }
    }
}

/// One of the two legs of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegPlan {
    /// To whom; unicast or multicast.
    pub destination: Destination,
    /// The interface packets leave by; `None`: the route's.
    pub interface: Option<Interface>,
}

/// What an output sends in datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputProtocol {
    /// Transport-stream packets straight in UDP.
    Udp {
        /// 1 to 7 transport-stream packets a datagram; `None`: as received.
        datagram_packets: Option<u8>,
    },
    /// RTP (RFC 3550, RFC 2250).
    Rtp(RtpHeader),
    /// RTP with FEC (SMPTE ST 2022-1): columns on the destination's port + 2, rows on + 4; neither is beyond 65535.
    RtpFec {
        /// Of the media packets.
        header: RtpHeader,
        /// What is protected together.
        matrix: Matrix,
    },
}

/// Where an RTP output's headers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtpHeader {
    /// Made by this output.
    Regenerate {
        /// 0 to 127; 33 is MP2T.
        payload_type: u8,
        /// `None`: a random one.
        ssrc: Option<u32>,
    },
    /// The source's RTP packet, unchanged.
    Passthrough,
}

impl OutputProtocol {
    /// The name in configuration and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp { .. } => "udp",
            Self::Rtp(_) => "rtp",
            Self::RtpFec { .. } => "rtp-fec",
        }
    }

    /// What it sends, and what is added to the destination's port for each.
    pub const fn streams(self) -> &'static [(Stream, u16)] {
        const ALL: &[(Stream, u16)] = &[(Stream::Media, 0), (Stream::ColumnFec, 2), (Stream::RowFec, 4)];
        match self {
            Self::RtpFec { matrix, .. } if matrix.row_stream() => ALL,
            Self::RtpFec { .. } => ALL.split_at(2).0,
            Self::Udp { .. } | Self::Rtp(_) => ALL.split_at(1).0,
        }
    }

    /// The headers of its RTP packets; `None`: it sends no RTP.
    pub const fn header(self) -> Option<RtpHeader> {
        match self {
            Self::Udp { .. } => None,
            Self::Rtp(header) | Self::RtpFec { header, .. } => Some(header),
        }
    }
}
