//! What a receiver is given, and what it gives.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::super::tunnel::TunnelEvent;
use super::super::{LegId, Port, RemoteId};
use crate::proto::hitless::SlotId;
use crate::proto::rtp::header::Header;
use crate::time::Instant;

/// When packets are handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Delivery {
    /// In order, each at its time.
    #[default]
    Buffered,
    /// As they come, to a merge that puts them in order.
    AtOnce,
}

/// How a receiver works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReceiverConfig {
    /// From when a packet was sent to its release, as if the path took no time: the buffer in which what is missing can be
    /// asked for. 10 ms to 30 s.
    pub latency: Duration,
    /// How long a packet may come after later ones before it is asked for: 25 ms, with several legs 70 ms.
    pub reorder: Duration,
    /// When packets are handed on.
    pub delivery: Delivery,
    /// Our SSRC: any that no sender has.
    pub ssrc: u32,
    /// Who we are: at most 255 bytes.
    pub cname: Vec<u8>,
    /// What the wall clock shows when the receiver is made, as NTP has it: seconds since 1900, and 32 bits of fraction.
    pub ntp: u64,
}

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From {
    /// The leg it came on.
    pub leg: LegId,
    /// To which of its ports.
    pub port: Port,
    /// The address it came from.
    pub remote: RemoteId,
}

/// A datagram is to be sent: from the port of RTCP, or of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// On which leg.
    pub leg: LegId,
    /// To which address.
    pub remote: RemoteId,
}

/// A packet whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Where its bytes are: [`held`](super::Receiver::held), until [`recycle`](super::Receiver::recycle).
    pub slot: SlotId,
    /// Its header; the payload's range counts in the whole packet. The SSRC is that of the stream, also of a packet that
    /// was sent again; null packets are restored. Whether its payload is transport stream is for the host to say.
    pub header: Header,
    /// When it came.
    pub arrival: Instant,
    /// Its time.
    pub due: Instant,
    /// How many packets are missing between the one before and this one.
    pub gap_before: u64,
    /// It was sent again.
    pub recovered: bool,
    /// The stream began anew with this packet. Not set on the very first one.
    pub discontinuity: bool,
}

/// A packet that goes through at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed<'a> {
    /// The whole packet of RTP, as [`Released`] has it.
    pub packet: &'a [u8],
    /// Its header.
    pub header: Header,
    /// When it came. Of one that was sent again, when it would have: so it says how far this leg lies behind others.
    pub came: Instant,
}

/// What the host should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiverEvent {
    /// The stream began anew, with this SSRC.
    SourceRestarted(u32),
    /// Its timestamps jumped, and are followed.
    TimestampJump,
    /// A tunnel needs something.
    Tunnel(LegId, TunnelEvent),
}
