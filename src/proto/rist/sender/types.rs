//! What a sender is given, and what it gives.

use super::super::LegId;
use super::super::extension;
use super::super::tunnel::{TunnelConfig, TunnelEvent};
use super::MOST_LEGS;
use crate::proto::rtp::header::FIXED_LEN;
use crate::proto::seq::{RtpTime, Seq};
use serde::{Deserialize, Serialize};

/// Bytes of the longest header: RTP with its extension.
pub(super) const MOST_HEAD: usize = FIXED_LEN + extension::LEN;

/// The packets of a stream, as the host keeps them for all its receivers.
///
/// Indices go up by one each packet and never come again. What was overwritten is gone: `None`.
pub trait History {
    /// The first index that is still there.
    fn first(&self) -> u64;
    /// The index after the last one.
    fn end(&self) -> u64;
    /// A payload: whole packets of transport stream.
    fn payload(&self, index: u64) -> Option<&[u8]>;
    /// A packet's RTP timestamp: the same whenever it is asked for. By it receivers reckon when a packet is due, so it must
    /// be of a clock of 90 kHz that goes on, also where the stream's source begins anew.
    fn timestamp(&self, index: u64) -> Option<RtpTime>;
}

/// How a sender works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SenderConfig {
    /// Our SSRC. Its lowest bit does not count: it marks what is sent again.
    pub ssrc: u32,
    /// Who we are: at most 255 bytes.
    pub cname: Vec<u8>,
    /// The first sequence number.
    pub first_seq: Seq,
    /// The payload type: 33 is MPEG-TS.
    pub payload_type: u8,
    /// What the wall clock shows when the sender is made, as NTP has it: seconds since 1900, and 32 bits of fraction.
    pub ntp: u64,
    /// Packets that may be sent again for each hundred that are sent: 50.
    pub retransmit_percent: u32,
    /// Leave null packets out. Only for receivers that restore them: of the main profile, and GStreamer's.
    pub delete_nulls: bool,
    /// Send sequence numbers of 32 bits, for more than half a turn of 16 bits in a receiver's buffer. librist's receivers
    /// make nothing of them.
    pub extended: bool,
}

/// The profile of a leg of a sender.
#[derive(Debug, Clone)]
pub enum SenderProfile {
    /// RTP and RTCP each to a port of their own.
    Simple,
    /// Both in a tunnel.
    Main(Box<TunnelConfig>),
}

/// Legs that a packet leaves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LegSet(pub(super) u8);

impl LegSet {
    /// Whether this leg is among them.
    pub const fn contains(self, leg: LegId) -> bool {
        self.0 & 1 << leg.0 != 0
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = LegId> {
        (0..MOST_LEGS as u8).map(LegId).filter(move |leg| self.contains(*leg))
    }
}

/// A packet of media to be sent: this header, and the payload at `index`.
///
/// On a leg of the simple profile it is [`Self::head`] and the payload as they are, if [`Self::is_plain`]; in general
/// [`datagram`](super::Sender::datagram) makes the datagram of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaOut {
    pub(super) head: [u8; MOST_HEAD],
    pub(super) head_len: u8,
    /// Packets of the payload that are left out.
    pub(super) nulls: u8,
    /// Where the payload lies in the [`History`].
    pub index: u64,
    /// Where it goes.
    pub legs: LegSet,
    /// It was sent before.
    pub again: bool,
}

impl MediaOut {
    /// The header of RTP, with its extension.
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Whether the payload goes as it is.
    pub const fn is_plain(&self) -> bool {
        self.nulls == 0
    }
}

/// What the host should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SenderEvent {
    /// A tunnel needs something.
    Tunnel(LegId, TunnelEvent),
}
