//! What a connection counts: plain totals since it began, with libsrt's meanings and, in the descriptions, its names
//! (`CBytePerfMon`); and figures of the moment.
//!
//! Bytes are payload bytes. libsrt's also count 44 bytes of headers (IPv4, UDP, SRT) a packet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Totals of the sending side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendCounters {
    /// Data packets sent for the first time (`pktSentUnique`).
    pub packets: u64,
    /// Payload bytes of those (`byteSentUnique`).
    pub bytes: u64,
    /// Data packets sent again (`pktRetrans`). `pktSent` is both.
    pub retransmitted: u64,
    /// Payload bytes of those (`byteRetrans`).
    pub retransmitted_bytes: u64,
    /// Packets reported missing by the peer; again for each report that names one anew (`pktSndLoss`).
    pub lost: u64,
    /// Packets given up as too old, sent before or not (`pktSndDrop`).
    pub dropped: u64,
    /// Payload bytes of those, where they still were there (`byteSndDrop`).
    pub dropped_bytes: u64,
    /// Full acknowledgements received (`pktRecvACK`).
    pub acks: u64,
    /// Loss reports received (`pktRecvNAK`).
    pub naks: u64,
    /// The newest packet was sent again, as no acknowledgement came.
    pub probes: u64,
}

/// Totals of the receiving side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveCounters {
    /// Data packets received, whatever became of them (`pktRecv`).
    pub packets: u64,
    /// Payload bytes of those (`byteRecv`).
    pub bytes: u64,
    /// Those that were taken into the buffer (`pktRecvUnique`).
    pub unique: u64,
    /// Payload bytes of those (`byteRecvUnique`).
    pub unique_bytes: u64,
    /// Those that were marked as sent again (`pktRcvRetrans`).
    pub retransmitted: u64,
    /// Packets that were missing when a later one came (`pktRcvLoss`).
    pub lost: u64,
    /// Of those, how many came after all, in time.
    pub recovered: u64,
    /// Packets that were given up, as a later one was due (`pktRcvDrop` without those that could not be decrypted).
    pub dropped: u64,
    /// Packets that came after they were given up or delivered (`pktRcvBelated`).
    pub belated: u64,
    /// By how much these came too late, in all, microseconds: `pktRcvAvgBelatedTime` is the quotient.
    pub belated_us: u64,
    /// Packets that were there already.
    pub duplicates: u64,
    /// Packets without a key for them, or in clear where there should be one (`pktRcvUndecrypt`).
    pub undecrypted: u64,
    /// Payload bytes of those (`byteRcvUndecrypt`).
    pub undecrypted_bytes: u64,
    /// Packets too far ahead, or for which the buffer had no room.
    pub no_room: u64,
    /// The peer's sequence numbers jumped, and were followed.
    pub jumps: u64,
    /// How many places the most displaced packet came late that was not sent again (`pktReorderDistance`).
    pub reorder_distance: u64,
    /// Full acknowledgements sent (`pktSentACK`).
    pub acks: u64,
    /// Light ones.
    pub light_acks: u64,
    /// Loss reports sent (`pktSentNAK`).
    pub naks: u64,
}

/// How encryption stands in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyState {
    /// In clear.
    #[default]
    Clear,
    /// Encrypted.
    Secured,
    /// Encrypted, and the next key is announced to the peer, which has not confirmed it yet.
    Announcing,
    /// Encrypted, and the peer has not confirmed the next key for long, or refuses it: the old one stays.
    Unconfirmed,
}

/// Everything there is to tell of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Totals of what was sent.
    pub sent: SendCounters,
    /// Totals of what was received.
    pub received: ReceiveCounters,
    /// Datagrams that were no packets of this connection, or said what cannot be.
    pub invalid: u64,
    /// The round trip (`msRTT`); before it is measured 100 ms.
    pub rtt: Duration,
    /// How far it varies.
    pub rtt_var: Duration,
    /// Whether the round trip was measured.
    pub rtt_measured: bool,
    /// Packets sent and not acknowledged (`pktFlightSize`).
    pub in_flight: u64,
    /// Packets that may be sent and not acknowledged (`pktFlowWindow`).
    pub flow_window: u64,
    /// Packets to be sent again.
    pub to_resend: u64,
    /// Packets that were not sent yet when that was last looked at. With those in flight: `pktSndBuf`.
    pub unsent: u64,
    /// How long ago the oldest packet in flight came into being (`msSndBuf`).
    pub send_buffer: Duration,
    /// The latency at which the peer delivers what we send (`msSndTsbPdDelay`).
    pub send_latency: Duration,
    /// What the peer measured last of what it receives: packets a second.
    pub peer_receive_rate: u32,
    /// What the peer thinks the path carries, packets a second (`mbpsBandwidth`); 0: not known.
    pub peer_capacity: u32,
    /// The latency at which we deliver (`msRcvTsbPdDelay`).
    pub receive_latency: Duration,
    /// Packets that wait to be delivered (`pktRcvBuf`).
    pub buffered: u64,
    /// From the first of them to the last, by their time stamps (`msRcvBuf`).
    pub buffered_span: Duration,
    /// Packets that the buffer still has room for (`byteAvailRcvBuf`).
    pub buffer_room: u64,
    /// How far the peer's clock drifted since it last was set, microseconds.
    pub drift_us: i64,
    /// How encryption stands of what we send.
    pub send_key: KeyState,
    /// How encryption stands of what we receive.
    pub receive_key: KeyState,
    /// How often the key of what we send was replaced.
    pub send_key_refreshes: u64,
    /// How often the peer replaced the key of what it sends.
    pub receive_key_refreshes: u64,
    /// Bytes of memory that the connection takes, but for its keys.
    pub memory: u64,
}
