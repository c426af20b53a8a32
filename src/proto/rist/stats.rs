//! The figures of a receiver, of a sender, and of their legs.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::time::Instant;

/// What came through a tunnel, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TunnelStats {
    /// No packets of a tunnel, or with something in them that makes no sense: perhaps the peer uses the simple profile.
    pub invalid: u64,
    /// In clear, where there is a passphrase.
    pub in_clear: u64,
    /// Encrypted, and there is no key for it: no passphrase, or the key is not derived yet.
    pub undecrypted: u64,
    /// Encrypted, and what came out makes no sense: the passphrase is wrong.
    pub garbage: u64,
    /// Keep-alives.
    pub keep_alives: u64,
    /// Whether the peer restores null packets that are left out, by its last keep-alive.
    pub peer_restores_nulls: Option<bool>,
    /// Something that is of no use here: whole IP packets, authentication.
    pub other: u64,
    /// Of the keys that were provided for the peer's nonce, the place of the one that is right; `None`: not known.
    pub peer_key: Option<usize>,
    /// Keys to send with, after the first one.
    pub send_keys: u64,
}

/// What a receiver has received, of all legs together.
///
/// `lost = recovered + unrecovered`, where an original that only came out of order counts as neither. Every packet of media
/// ends up in exactly one place: `received = first + duplicates + late + stray + invalid + overflow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReceiverStats {
    /// Packets of media, those sent again included.
    pub received: u64,
    /// Their bytes, with their RTP headers.
    pub bytes: u64,
    /// The first copies.
    pub first: u64,
    /// Handed on, in order.
    pub delivered: u64,
    /// Were missing, and came by being sent again.
    pub recovered: u64,
    /// Were missing when their time was over.
    pub unrecovered: u64,
    /// Were missing, and another source had them: of a leg of a merge.
    pub elsewhere: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came when their time was over.
    pub late: u64,
    /// Came after a later one, and were put in order.
    pub reordered: u64,
    /// Did not belong to the stream.
    pub stray: u64,
    /// No RTP, or null packets that could not be restored.
    pub invalid: u64,
    /// Dropped for want of memory.
    pub overflow: u64,
    /// Released before their time for want of memory or sequence numbers.
    pub early: u64,
    /// Requests for a packet: one that is asked for three times counts three times.
    pub requests: u64,
    /// Packets that carried requests.
    pub nacks: u64,
    /// Came sent again.
    pub retransmitted: u64,
    /// How often the stream began anew.
    pub restarts: u64,
    /// How often its timestamps jumped.
    pub timestamp_jumps: u64,
    /// The sender's clock is no clock of 90 kHz: packets are due by their arrival.
    pub clock_unusable: bool,
    /// Packets that wait.
    pub waiting: u64,
    /// The stream's SSRC; 0 before the first packet.
    pub ssrc: u32,
    /// Packets a second, lately.
    pub packet_rate: u64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter: Duration,
}

/// What a receiver has received on one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReceiverLegStats {
    /// Packets of media, those sent again included.
    pub received: u64,
    /// Their bytes, with their RTP headers.
    pub bytes: u64,
    /// Of those, the first copies.
    pub first: u64,
    /// Came again, on this leg or another.
    pub duplicates: u64,
    /// Came when their time was over.
    pub late: u64,
    /// Packets that this leg brought back by being asked, or another one was asked for.
    pub recovered: u64,
    /// Came sent again.
    pub retransmitted: u64,
    /// Requests for a packet that went out on this leg.
    pub requests: u64,
    /// Packets of RTCP that came.
    pub control: u64,
    /// Of those, broken ones, or of another stream.
    pub control_invalid: u64,
    /// Datagrams that look like the other profile's.
    pub other_profile: u64,
    /// The round trip, once it is known.
    pub rtt: Option<Duration>,
    /// When RTCP last came: never where a firewall keeps it away.
    pub control_at: Option<Instant>,
    /// When media last came.
    pub media_at: Option<Instant>,
    /// The tunnel's, of the main profile.
    pub tunnel: Option<TunnelStats>,
}

/// What a sender has sent, on all legs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SenderStats {
    /// Packets, each once, however many legs it went to.
    pub packets: u64,
    /// Their payloads' bytes.
    pub bytes: u64,
    /// Packets of the history that were gone before they could be sent.
    pub skipped: u64,
    /// Null packets of transport stream that were left out.
    pub nulls_deleted: u64,
    /// Packets of RTCP that asked for something.
    pub nacks: u64,
    /// Packets that they asked for.
    pub requested: u64,
    /// Sent again.
    pub retransmitted: u64,
    /// Not sent again: that was done within the round trip.
    pub repeated: u64,
    /// Not sent again: gone from the history.
    pub gone: u64,
    /// Not sent again: the budget was used up.
    pub over_budget: u64,
}

/// What a sender has sent and heard on one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SenderLegStats {
    /// Packets sent for the first time.
    pub packets: u64,
    /// Sent again.
    pub retransmitted: u64,
    /// Packets of RTCP that came.
    pub control: u64,
    /// Of those, broken ones.
    pub control_invalid: u64,
    /// The round trip, once it is known.
    pub rtt: Option<Duration>,
    /// When RTCP last came: never where nobody listens, or a firewall keeps it away.
    pub control_at: Option<Instant>,
    /// The tunnel's, of the main profile.
    pub tunnel: Option<TunnelStats>,
}
