//! RIST in a flow: sources and outputs with sockets of their own, which both send and receive.
//!
//! As with SRT, one wake a gather budget serves receiving, releasing and sending, media and control together.

pub(super) mod output;
mod remotes;
pub(super) mod source;
pub mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;

use self::stats::{Figures, OutputFigures, SourceFigures};
use super::srt::Part;
use crate::config::value::{Bitrate, FlowName};
use crate::io::endpoint::Endpoint;
use crate::io::open::Sender;
use crate::proto::rist::LegId;
use crate::proto::rist::tunnel::{TunnelConfig, TunnelEvent, TunnelKeys};

/// From 1900, where NTP begins, to 1970.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);

/// The time to live, or hop limit, of what goes to a group where nothing else is said.
const GROUP_TTL: u8 = 16;

/// A source of RIST for a flow's task to make.
#[derive(Debug)]
pub struct RistSourceSeed {
    /// Open and bound.
    pub sockets: SourceSockets,
    /// What is checked.
    pub config: RistSourceConfig,
    /// Our SSRC.
    pub ssrc: u32,
    /// Where its figures go that are RIST's alone.
    pub figures: Arc<Figures<SourceFigures>>,
}

/// The sockets of a source.
#[derive(Debug)]
pub enum SourceSockets {
    /// Simple profile.
    Simple {
        /// Where media comes.
        media: Endpoint,
        /// Where RTCP comes, and goes from.
        control: Endpoint,
        /// Where RTCP goes whoever sends: the group, and by which interface.
        group: Option<(SocketAddr, Option<u32>)>,
    },
    /// Main profile.
    Main {
        /// Where both come, and go from.
        tunnel: Endpoint,
        /// With the key to send with.
        config: Box<TunnelConfig>,
    },
}

/// What a source of RIST checks; changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistSourceConfig {
    /// From when a packet was sent to its release: 10 ms to 30 s.
    pub latency: Duration,
    /// Who may send; `None`: everybody.
    pub allow: Option<Vec<IpNet>>,
    /// What comes above this is dropped.
    pub max_bitrate: Option<Bitrate>,
}

/// An output of RIST for a flow's task to make; its legs come by themselves.
#[derive(Debug)]
pub struct RistOutputSeed {
    /// What is on each datagram, and how long it may be asked for again.
    pub config: RistOutputConfig,
    /// Our SSRC; the lowest bit does not count.
    pub ssrc: u32,
    /// Where its figures go that are RIST's alone.
    pub figures: Arc<Figures<OutputFigures>>,
}

/// How an output of RIST sends; changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RistOutputConfig {
    /// How long what was sent may be asked for again: 10 ms to 30 s.
    pub latency: Duration,
    /// `None`: 16 for multicast, 64 for unicast.
    pub ttl: Option<u8>,
    /// The whole TOS octet.
    pub tos: u8,
}

/// One place an output sends to.
#[derive(Debug)]
pub struct RistLeg {
    /// Where media goes, or the tunnel; resolved.
    pub address: SocketAddr,
    /// By which interface; `None`: the route's.
    pub interface: Option<u32>,
    /// Open.
    pub sockets: LegSockets,
}

/// The sockets of a leg.
#[derive(Debug)]
pub enum LegSockets {
    /// Simple profile.
    Simple {
        /// Where media goes from.
        media: Sender,
        /// Where RTCP goes from, and is answered.
        control: Endpoint,
    },
    /// Main profile.
    Main {
        /// Where both go from.
        tunnel: Endpoint,
        /// With the key to send with.
        config: Box<TunnelConfig>,
    },
}

/// What a tunnel of a source or output asks for.
#[derive(Debug)]
pub struct RistNews {
    /// Of which flow.
    pub flow: FlowName,
    /// Of which source or output.
    pub part: Part,
    /// On which leg.
    pub leg: LegId,
    /// What.
    pub event: RistEvent,
}

/// What a tunnel asks for or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RistEvent {
    /// It needs keys.
    Tunnel(TunnelEvent),
    /// The sender uses the passphrase at this place of those that were tried: it may know no other.
    SenderUses(usize),
}

/// Keys for a tunnel that asked for them.
#[derive(Debug)]
pub struct RistKeys {
    /// On which leg.
    pub leg: LegId,
    /// Which.
    pub keys: TunnelKeys,
}

/// What the wall clock shows, as NTP has it.
fn ntp_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + NTP_TO_UNIX;
    // Of the seconds, the low 32 bits.
    (since.as_secs() << 32) | (u64::from(since.subsec_nanos()) * (1 << 32) / 1_000_000_000)
}

/// A name that says nothing of this host.
fn cname(ssrc: u32) -> Vec<u8> {
    format!("mediaconnect-{ssrc:08x}").into_bytes()
}
