//! The documents of connections by SRT. Descriptions name libsrt's statistics (`CBytePerfMon`) that mean the same; bytes
//! are of payload, without libsrt's 44 bytes of headers a packet.

use serde::{Deserialize, Serialize};

/// A connection by SRT: figures of the direction that media goes, from the connection's beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SrtDoc {
    /// Of the peer's SRT, such as `1.5.1`.
    pub version: String,
    /// `AES-128`, `AES-192`, `AES-256` or `none`.
    pub cipher: String,
    /// The name of the passphrase in use; absent in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// What the caller sent; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// Of the largest IP packet (`byteMSS`).
    pub mss_bytes: u64,
    /// The latency in force (`msRcvTsbPdDelay`, `msSndTsbPdDelay`).
    pub latency_ms: f64,
    /// The same of the direction that media does not go.
    pub reverse_latency_ms: f64,
    /// The round trip (`msRTT`); absent: not measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// How far it varies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_var_ms: Option<f64>,
    /// All data packets over the last second, sent again or not (`mbpsRecvRate`, `mbpsSendRate`).
    pub rate_bps: u64,
    /// Media, each packet once (`pktRecvUnique`, `pktSentUnique`).
    pub packets: u64,
    /// Bytes of those (`byteRecvUnique`, `byteSentUnique`).
    pub bytes: u64,
    /// All data packets (`pktRecv`, `pktSent`).
    pub packets_total: u64,
    /// Bytes of those (`byteRecv`, `byteSent`).
    pub bytes_total: u64,
    /// Missing here (`pktRcvLoss`), or reported missing by the receiver (`pktSndLoss`).
    pub packets_lost: u64,
    /// Source: of those, came after all, in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_recovered: Option<u64>,
    /// Received as sent again (`pktRcvRetrans`), or sent again (`pktRetrans`).
    pub packets_retransmitted: u64,
    /// Output: bytes of those (`byteRetrans`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_retransmitted: Option<u64>,
    /// Given up as too late (`pktRcvDrop`, `pktSndDrop`).
    pub packets_dropped: u64,
    /// Output: bytes of those (`byteSndDrop`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_dropped: Option<u64>,
    /// Source: came after they were given up (`pktRcvBelated`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_belated: Option<u64>,
    /// Source: by how much those came too late, on average (`pktRcvAvgBelatedTime`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub belated_ms: Option<f64>,
    /// Source: came twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_duplicate: Option<u64>,
    /// Source: no key fitted (`pktRcvUndecrypt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_undecrypted: Option<u64>,
    /// Source: bytes of those (`byteRcvUndecrypt`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_undecrypted: Option<u64>,
    /// Source: too far ahead, or no room for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_no_room: Option<u64>,
    /// Source: the sender's numbers jumped, and were followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_jumps: Option<u64>,
    /// Source: how many places the most displaced packet came late (`pktReorderDistance`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder_distance: Option<u64>,
    /// Requests to send again: made (`pktSentNAK`), or received (`pktRecvNAK`).
    pub naks: u64,
    /// Acknowledgements: sent (`pktSentACK`), or received (`pktRecvACK`).
    pub acks: u64,
    /// Source: light ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light_acks: Option<u64>,
    /// Output: how often the newest packet was sent again for want of an acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<u64>,
    /// What waits to be delivered (`msRcvBuf`), or to be acknowledged (`msSndBuf`).
    pub buffer_ms: f64,
    /// Packets of it (`pktRcvBuf`, `pktSndBuf`).
    pub buffer_packets: u64,
    /// Packets that there is room for here (`byteAvailRcvBuf`), or that may be under way (`pktFlowWindow`).
    pub flow_window: u64,
    /// Packets under way (`pktFlightSize`).
    pub flight: u64,
    /// Output: packets that were not sent yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_unsent: Option<u64>,
    /// Output: packets that are to be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_to_resend: Option<u64>,
    /// Output: what the peer measures of what it receives, packets a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_rate_pps: Option<u64>,
    /// What the peer thinks the path carries, bit/s (`mbpsBandwidth`); absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_capacity_bps: Option<u64>,
    /// Source: how far the sender's clock drifted since it last was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_ms: Option<f64>,
    /// How encryption stands.
    pub key_state: KeyStateDoc,
    /// Keys replaced since the connection began.
    pub key_refreshes: u64,
    /// Datagrams that were no packets of this connection.
    pub packets_invalid: u64,
    /// Datagrams that the kernel did not take.
    pub send_errors: u64,
    /// Bytes of memory it takes here.
    pub memory_bytes: u64,
}

/// How the encryption of a connection by SRT stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyStateDoc {
    /// Not encrypted.
    Clear,
    /// Encrypted.
    Secured,
    /// Encrypted; the next key is announced, and not confirmed yet.
    Announcing,
    /// Encrypted; the peer does not take the next key, and the present one stays.
    Unconfirmed,
}

/// A caller that was turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusedDoc {
    /// From where.
    pub address: String,
    /// Why: `address`, `wrong-passphrase`, `no-passphrase`, `passphrase-unexpected`, `stream-id`, `full`, `taken` or
    /// `protocol`.
    pub code: String,
    /// Why, in words.
    pub reason: String,
    /// What it called with; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// How often.
    pub count: u64,
    /// The last time: RFC 3339, UTC.
    pub last: String,
}
