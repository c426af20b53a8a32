//! The document of `/v1/overview`, and of its events: all flows at a glance, small enough for once a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConditionDoc, FlowState, Severity, SourceState};

/// `/v1/overview`. Its events have `about` only where it is news.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OverviewDoc {
    /// Of the daemon.
    pub version: String,
    /// The machine's name.
    pub host: String,
    /// RFC 3339, UTC.
    pub time: String,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// Counts the reloads that changed something.
    pub generation: u64,
    /// What is wrong with the appliance as a whole, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionDoc>,
    /// In the order of their names.
    pub flows: Vec<RowDoc>,
    /// What the files say of the flows, and their last minute: by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<BTreeMap<String, AboutDoc>>,
}

/// A flow in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RowDoc {
    /// The stem of the flow's file.
    pub name: String,
    /// In words.
    pub state: FlowState,
    /// A newer file was rejected and the last good one runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    /// The source on air, or the first one; absent: the flow has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// That source's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_state: Option<SourceState>,
    /// Of a merge: legs that take part, and all legs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legs: Option<(u64, usize)>,
    /// That source's media, over the last second.
    pub bitrate_bps: u64,
    /// Media datagrams that the flow accepted.
    pub packets: u64,
    /// Packets gone for good, from the flow's start.
    pub packets_unrecovered: u64,
    /// Outputs that send.
    pub sending: usize,
    /// Outputs that fail.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failing: usize,
    /// All outputs.
    pub outputs: usize,
    /// How many conditions there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub conditions: usize,
    /// The worst of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstDoc>,
}

/// A flow's worst condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorstDoc {
    /// How bad.
    pub severity: Severity,
    /// What is wrong, with its figure.
    pub message: String,
}

/// What changes rarely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AboutDoc {
    /// From the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// From the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The bit rate of the row's source, each second of the last minute, in kbit/s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minute_kbps: Vec<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}
