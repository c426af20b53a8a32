//! The documents of sources and outputs by RIST: what is theirs alone. Figures count from when it was opened.

use serde::{Deserialize, Serialize};

/// A source by RIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RistSourceDoc {
    /// `simple` or `main`.
    pub profile: String,
    /// What this end encrypts with: `AES-128`, `AES-256` or `none`.
    pub cipher: String,
    /// The buffer, from sending to release; of a leg of a merge, the recovery window counts.
    pub latency_ms: f64,
    /// Addresses that RTCP came from within the last second.
    pub senders: u64,
    /// The round trip; absent: not measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// All packets of media, sent again or not.
    pub packets_total: u64,
    /// Bytes of those, with RTP headers.
    pub bytes_total: u64,
    /// Of those, came sent again.
    pub packets_retransmitted: u64,
    /// Requests for a packet: one that is asked for three times counts three times.
    pub packets_requested: u64,
    /// Packets of RTCP with requests.
    pub naks: u64,
    /// Missing here, and brought by another source of the merge.
    pub packets_elsewhere: u64,
    /// Dropped, or released before their time, for want of memory.
    pub packets_no_room: u64,
    /// Packets that wait for their time.
    pub buffer_packets: u64,
    /// How often the sender's timestamps jumped.
    pub timestamp_jumps: u64,
    /// Whether the sender's timestamps are of a clock of 90 kHz; if not, packets are released by their arrival.
    pub clock_usable: bool,
    /// Packets of RTCP that came.
    pub control_packets: u64,
    /// Of those, broken ones, or of another stream.
    pub control_invalid: u64,
    /// Datagrams of the other profile.
    pub packets_other_profile: u64,
    /// Packets of RTCP that the kernel did not take.
    pub send_errors: u64,
}

/// An output by RIST.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RistOutputDoc {
    /// `simple` or `main`.
    pub profile: String,
    /// What this end encrypts with: `AES-128`, `AES-256` or `none`.
    pub cipher: String,
    /// How long what was sent may be asked for again.
    pub latency_ms: f64,
    /// Packets of RTCP with requests.
    pub naks: u64,
    /// Asked for again within a round trip, and not sent again.
    pub packets_repeated: u64,
    /// Asked for when they were not kept any more.
    pub packets_gone: u64,
    /// Asked for beyond half of what is sent, and not sent again.
    pub packets_over_budget: u64,
    /// Packets of RTCP that the kernel did not take.
    pub send_errors: u64,
    /// The places it sends to.
    pub legs: Vec<RistLegDoc>,
}

/// One place that an output by RIST sends to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RistLegDoc {
    /// Address and port of media, or of the tunnel.
    pub address: String,
    /// The round trip; absent: not measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Packets sent for the first time.
    pub packets: u64,
    /// Sent again.
    pub packets_retransmitted: u64,
    /// Packets of RTCP that came.
    pub control_packets: u64,
    /// Of those, broken ones.
    pub control_invalid: u64,
    /// Since the last one; absent: none has come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_ms: Option<f64>,
    /// Main profile: came and could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_undecrypted: Option<u64>,
}
