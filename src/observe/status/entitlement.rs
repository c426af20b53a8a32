//! The documents of entitlements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PeerDoc, RefusedDoc};

/// How an entitlement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntitlementState {
    /// Nobody is connected.
    Idle,
    /// Somebody is.
    Connected,
    /// `enabled = false`, or its flow is stopped.
    Disabled,
    /// Its time is over.
    Expired,
    /// There is no port at which it could be called for.
    Unreachable,
}

/// An entitlement of a flow. Counters run from the flow's start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EntitlementDoc {
    /// In words.
    pub state: EntitlementState,
    /// From the file.
    pub description: String,
    /// Who is entitled, by name.
    pub subscribers: BTreeMap<String, AccountDoc>,
    /// How many sessions there may be.
    pub max_sessions: u64,
    /// RFC 3339, UTC; absent: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The sessions.
    pub peers: Vec<PeerDoc>,
    /// Media sent, over the last second, of all sessions together.
    pub bitrate_bps: u64,
    /// Datagrams sent.
    pub packets: u64,
    /// Bytes of transport stream sent.
    pub bytes: u64,
    /// Could not be sent.
    pub packets_dropped: u64,
    /// Sent again on request.
    pub packets_retransmitted: u64,
    /// Reported missing by receivers.
    pub packets_lost: u64,
    /// Sessions that ended.
    pub disconnections: u64,
    /// Calls for it that were turned away.
    pub calls_refused: u64,
    /// The same by reason, without zeroes: the codes of `refused`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_by_reason: BTreeMap<String, u64>,
    /// The last of them, newest first, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedDoc>,
}

/// What a subscriber got of an entitlement, since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccountDoc {
    /// Whether there is such a subscriber, and it is enabled.
    pub enabled: bool,
    /// Sessions now.
    pub sessions: u64,
    /// Of all sessions.
    pub seconds: u64,
    /// Bytes of transport stream, each once however often it was sent.
    pub bytes: u64,
    /// Of today's means of five minutes each, in which there was a session, the 95th percentile; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub today_p95_bps: Option<u64>,
}

/// The port for entitlements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EntitlementsDoc {
    /// As written.
    pub bind: String,
    /// Whether it is open.
    pub open: bool,
    /// Subscribers that are known.
    pub subscribers: u64,
    /// Sessions of all of them.
    pub sessions: u64,
    /// Calls that were turned away, whatever they were for.
    pub calls_refused: u64,
    /// The same by reason, without zeroes: the codes of `refused`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_by_reason: BTreeMap<String, u64>,
    /// The last of them, newest first, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedDoc>,
}
