//! The documents of `/v1/status` and `/v1/flows`: what the daemon says of itself, and what `mediaconnectctl` reads.

mod content;
mod entitlement;
mod history;
mod overview;
mod rist;
mod srt;
mod transport_stream;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::content::{ContentDoc, ThumbnailDoc};
pub use self::entitlement::{AccountDoc, EntitlementDoc, EntitlementState, EntitlementsDoc};
pub use self::history::{HistoryDoc, HistorySeries};
pub use self::overview::{AboutDoc, OverviewDoc, RowDoc, WorstDoc};
pub use self::rist::{RistLegDoc, RistOutputDoc, RistSourceDoc};
pub use self::srt::{KeyStateDoc, RefusedDoc, SrtDoc};
pub use self::transport_stream::{ChangeDoc, PidDoc, ProgramDoc, StreamDoc, TransportStreamDoc};
use crate::audit::AuditStatus;
use crate::config::diagnostic::Diagnostic;

/// `/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusDoc {
    /// Of the daemon.
    pub version: String,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// Of the last reload.
    pub config: ConfigDoc,
    /// Counts of flows by state.
    pub flows: FlowCounts,
    /// What is wrong with the appliance as a whole.
    pub conditions: Vec<ConditionDoc>,
    /// The port for entitlements; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<EntitlementsDoc>,
    /// The alarms of the appliance that are raised, worst first.
    #[serde(default)]
    pub alarms: Vec<AlarmDoc>,
    /// By name.
    #[serde(default)]
    pub notifiers: BTreeMap<String, NotifierDoc>,
    /// Requests over `[http] listen` without the token.
    #[serde(default)]
    pub http_requests_refused: u64,
    /// How the audit trail fares.
    #[serde(default)]
    pub audit: AuditStatus,
}

/// `/v1/versions`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VersionsDoc {
    /// By the flow's name; the newest version first.
    pub flows: BTreeMap<String, Vec<VersionDoc>>,
}

/// A good version of a flow's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VersionDoc {
    /// Counts the flow's versions, from 1.
    pub number: u64,
    /// When it was taken, RFC 3339.
    pub applied: String,
    /// Whose the file was then.
    pub owner: Option<String>,
    /// When the file was written, RFC 3339.
    pub modified: Option<String>,
    /// Of the file, in hexadecimal digits.
    pub sha256: String,
    /// The keys in which it differs from the version before.
    pub keys: Vec<String>,
}

/// `/v1/flows/NAME/versions/NUMBER`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionTextDoc {
    /// Of the version.
    pub number: u64,
    /// The whole file.
    pub text: String,
}

/// The configuration in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigDoc {
    /// Counts the reloads that changed something, from 1 at start.
    pub generation: u64,
    /// RFC 3339, UTC.
    pub last_reload: String,
    /// Whether every file was accepted.
    pub success: bool,
    /// Of the last reload: errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Counts of flows by state.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FlowCounts {
    /// All of them.
    pub total: usize,
    /// Sockets open.
    pub active: usize,
    /// Defined but stopped.
    pub standby: usize,
    /// Opening or resolving.
    #[serde(default)]
    pub starting: usize,
    /// Cannot open.
    pub error: usize,
    /// A newer file was rejected and the last good one runs.
    pub stale: usize,
}

/// `/v1/flows`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowsDoc {
    /// In the order of their names.
    pub flows: Vec<FlowDoc>,
}

/// A flow's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// Its sockets are open.
    Active,
    /// `enabled = false`, or stopped by an operator.
    Standby,
    /// Opening or resolving.
    Starting,
    /// Cannot open; retried.
    Error,
}

/// `/v1/flows/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FlowDoc {
    /// The stem of the flow's file.
    pub name: String,
    /// In words.
    pub state: FlowState,
    /// A newer file was rejected and the last good one runs.
    pub stale_config: bool,
    /// From the file.
    pub tags: BTreeMap<String, String>,
    /// From the file.
    pub description: String,
    /// How long packets may be gathered: `"auto"` or a duration.
    pub gather: String,
    /// The gather budget in force, ms; absent while the flow is not active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather_budget_ms: Option<f64>,
    /// Absent where no packets passed lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_delay_ms: Option<DelayDoc>,
    /// What an operator set against the file; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_override: Option<OverrideDoc>,
    /// What several sources are to each other; absent without `[failover]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverDoc>,
    /// What the legs make together; absent where sources are not merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeDoc>,
    /// The analysis of the stream that the legs make together; absent where sources are not merged, or it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_stream: Option<Box<TransportStreamDoc>>,
    /// Whether pictures and sound are as they should be; absent where nobody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Box<ContentDoc>>,
    /// The newest picture; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<ThumbnailDoc>,
    /// By name.
    pub sources: BTreeMap<String, SourceDoc>,
    /// By name.
    pub outputs: BTreeMap<String, OutputDoc>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entitlements: BTreeMap<String, EntitlementDoc>,
    /// What is wrong, worst first.
    pub conditions: Vec<ConditionDoc>,
    /// The alarms that are raised, worst first.
    #[serde(default)]
    pub alarms: Vec<AlarmDoc>,
}

/// How long packets were in the appliance, over the last 5 to 10 s: from their arrival at the kernel until they had been
/// sent to all outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DelayDoc {
    /// The median.
    pub p50: f64,
    /// One packet in a hundred took longer.
    pub p99: f64,
}

/// How a flow's sources become one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AirMode {
    /// One is on air.
    Failover,
    /// All are merged.
    Merge,
}

/// What several sources are to each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailoverDoc {
    /// In words.
    pub mode: AirMode,
    /// The preferred source; absent: whichever is on air stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The source on air; absent: none yet, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_air: Option<String>,
    /// How often another source went on air.
    pub switches: u64,
    /// The source that an operator put on air; absent: none. Who, and when: `operator-override`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_choice: Option<String>,
    /// The last time that another source went on air.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switch: Option<SwitchDoc>,
}

/// Another source went on air.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SwitchDoc {
    /// RFC 3339, UTC.
    pub at: String,
    /// Was on air; absent: nothing was, or it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Is on air.
    pub to: String,
    /// `start`, `silence`, `min-bitrate`, `continuity-errors`, `pat-loss`, `unrecovered`, `primary-back`, `operator` or
    /// `removed`.
    pub reason: String,
    /// From the last packet of the one to the first of the other.
    pub gap_ms: f64,
}

/// What the legs of a merge make together (ST 2022-7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MergeDoc {
    /// Handed on, in order.
    pub packets: u64,
    /// Missing on a leg.
    pub packets_lost: u64,
    /// Of those, brought by another leg.
    pub packets_recovered: u64,
    /// Of those, missing on every leg.
    pub packets_unrecovered: u64,
    /// Legs that take part.
    pub active_legs: u64,
    /// How far they lie apart.
    pub skew_ms: f64,
    /// The delay added.
    pub delay_ms: f64,
    /// The class of ST 2022-7 that such a skew meets, `D`, `A`, `B` or `C`; absent: none, or only one leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// The figures of a source's forward error correction (ST 2022-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FecDoc {
    /// L, as the stream says; 0: not known.
    pub columns: u64,
    /// D, as the stream says; 0: not known.
    pub rows: u64,
    /// The stream of columns.
    pub column: FecStreamDoc,
    /// The stream of rows.
    pub row: FecStreamDoc,
    /// Media packets brought back by their column.
    pub recovered_by_column: u64,
    /// Media packets brought back by their row.
    pub recovered_by_row: u64,
    /// What FEC gave was no packet of transport stream.
    pub rejected: u64,
}

/// One FEC stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FecStreamDoc {
    /// FEC packets received.
    pub packets: u64,
    /// FEC packets missing.
    pub lost: u64,
    /// No FEC, or of no use.
    pub invalid: u64,
}

/// A leg of a merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LegDoc {
    /// It brought the first copy.
    pub first: u64,
    /// Only this leg brought it.
    pub unique: u64,
    /// Came after their time was over.
    pub late: u64,
    /// Copies that are not the same as those of other legs.
    pub different: u64,
    /// It is set aside because it carries other packets.
    pub aside: bool,
    /// How far behind the leading leg its packets come; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<SkewDoc>,
}

/// How far behind the leading leg a leg comes, in ms; negative: before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SkewDoc {
    /// Smoothed.
    pub now: f64,
    /// The least of a single packet.
    pub min: f64,
    /// The greatest of a single packet.
    pub max: f64,
}

/// An operator's word against the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OverrideDoc {
    /// `start`, `stop`, `enable`, `disable`, or `switch` and the source's name.
    pub action: String,
    /// Who: the user's name, or `uid N`.
    pub by: String,
    /// RFC 3339, UTC.
    pub since: String,
}

/// A source's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// Not open, or nothing has come yet.
    Idle,
    /// Opening, resolving or calling.
    Connecting,
    /// Media arrives.
    Receiving,
    /// Media came, and stopped.
    Lost,
}

/// A source of a flow. Counters run from the flow's start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceDoc {
    /// `udp`, `rtp`, …
    pub protocol: String,
    /// In words.
    pub state: SourceState,
    /// Its packets are the flow's.
    pub on_air: bool,
    /// From the file.
    pub description: String,
    /// Where it receives, as written.
    pub bind: String,
    /// Who sends, or is connected to send.
    pub peers: Vec<PeerDoc>,
    /// Media, over the last second.
    pub bitrate_bps: u64,
    /// Media datagrams accepted.
    pub packets: u64,
    /// Bytes of transport stream accepted.
    pub bytes: u64,
    /// Missing before any recovery.
    pub packets_lost: u64,
    /// Of those, brought back.
    pub packets_recovered: u64,
    /// Of those, gone for good.
    pub packets_unrecovered: u64,
    /// Came twice, and were dropped once.
    pub packets_duplicate: u64,
    /// Came out of order, and were put in order.
    pub packets_reordered: u64,
    /// Came after their place had been given up, and were dropped.
    pub packets_late: u64,
    /// From addresses that `allow` does not list.
    pub packets_denied: u64,
    /// The last of those addresses, newest first, at most four.
    pub denied_addresses: Vec<String>,
    /// Not what the protocol says.
    pub packets_invalid: u64,
    /// Why they were invalid: reason to count, without zeroes.
    pub invalid: BTreeMap<String, u64>,
    /// Above `max-bitrate`.
    pub packets_over_bitrate: u64,
    /// Lost by the kernel because the receive buffer was full.
    pub packets_kernel_dropped: u64,
    /// Transport-stream packets without 0x47 in place, passed on.
    pub sync_errors: u64,
    /// Interarrival jitter, RFC 3550 section 6.4.1, in ms; absent without RTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<f64>,
    /// The RTP stream's SSRC, as `0x%08x`; absent without RTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<String>,
    /// How often the stream began anew: another SSRC, or a jump in sequence.
    pub restarts: u64,
    /// Forward error correction; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fec: Option<FecDoc>,
    /// Of its content; absent where it is not decrypted. What a merge gives counts at the first source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<DecryptionDoc>,
    /// Its part in the merge; absent where sources are not merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<LegDoc>,
    /// Encrypted, and no key fitted; absent where the protocol has no encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_undecrypted: Option<u64>,
    /// Requests to send again; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arq_requests: Option<u64>,
    /// Packets that came because of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arq_recovered: Option<u64>,
    /// To the sender and back; absent where it is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// Connections that ended; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnections: Option<u64>,
    /// Calls that were turned away; absent where nobody calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_refused: Option<u64>,
    /// The same by reason, without zeroes: the codes of `refused`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_by_reason: BTreeMap<String, u64>,
    /// The last of them, newest first, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedDoc>,
    /// What is RIST's alone; absent where it is received otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rist: Option<Box<RistSourceDoc>>,
    /// The analysis of its stream; of a leg of a merge, as it comes; absent: nothing has come, or it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_stream: Option<Box<TransportStreamDoc>>,
    /// The socket's receive buffer as the kernel granted it, in bytes; 0: not open.
    pub receive_buffer_bytes: u64,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerDoc {
    /// Address and port.
    pub address: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// For `disconnect`, where the protocol has connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Of a session of an entitlement: whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriber: Option<String>,
    /// Of a session of an entitlement: bytes of transport stream sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of a connection by SRT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srt: Option<Box<SrtDoc>>,
}

/// An output's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputState {
    /// Not open, or nothing to send.
    Idle,
    /// Opening or resolving.
    Connecting,
    /// Packets leave.
    Sending,
    /// The last ones could not be sent.
    Error,
}

/// An output of a flow. Counters run from the flow's start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutputDoc {
    /// `udp`, `rtp`, …
    pub protocol: String,
    /// In words.
    pub state: OutputState,
    /// From the file.
    pub description: String,
    /// As written.
    pub destination: String,
    /// What an operator set against the file; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_override: Option<OverrideDoc>,
    /// To whom.
    pub peers: Vec<PeerDoc>,
    /// Media, over the last second.
    pub bitrate_bps: u64,
    /// Datagrams sent.
    pub packets: u64,
    /// Bytes of transport stream sent.
    pub bytes: u64,
    /// Could not be sent.
    pub packets_dropped: u64,
    /// Sent again on request.
    pub packets_retransmitted: u64,
    /// Reported missing by receivers; absent where the protocol has no reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_lost: Option<u64>,
    /// Requests to send again; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arq_requests: Option<u64>,
    /// How many peers there may be; absent where nobody calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_callers: Option<u64>,
    /// Connections that ended; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnections: Option<u64>,
    /// Calls that were turned away; absent where nobody calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_refused: Option<u64>,
    /// The same by reason, without zeroes: the codes of `refused`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_by_reason: BTreeMap<String, u64>,
    /// The last of them, newest first, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedDoc>,
    /// FEC packets sent; absent where the output has no FEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fec_packets: Option<u64>,
    /// Of its content, together with all outputs that have the same; absent where it leaves as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionDoc>,
    /// What smoothing could not make even; absent without smoothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothing: Option<SmoothingDoc>,
    /// Of an output with two; `packets` then counts what both carry once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<OutputLegDoc>,
    /// What is RIST's alone; absent where it is sent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rist: Option<Box<RistOutputDoc>>,
    /// Errors by name, without zeroes.
    pub errors: BTreeMap<String, u64>,
    /// The RTP stream's SSRC, as `0x%08x`; absent without RTP or with `header = "passthrough"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<String>,
}

/// The packets that an output's smoothing could not make even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SmoothingDoc {
    /// Came too late: they left at once.
    pub packets_late: u64,
    /// Came too early: they left after twice the smoothing.
    pub packets_early: u64,
    /// Left before their time for want of memory.
    pub packets_overflow: u64,
}

/// The decryption of a source's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecryptionDoc {
    /// `cissa`.
    pub scheme: String,
    /// Transport-stream packets decrypted.
    pub packets_decrypted: u64,
    /// Transport-stream packets of a parity for which there is no key.
    pub packets_without_key: u64,
    /// The keys that are wrong ones: `even`, `odd`.
    pub wrong_keys: Vec<String>,
}

/// The encryption of an output's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EncryptionDoc {
    /// `cissa`.
    pub scheme: String,
    /// The key in use: `even` or `odd`.
    pub key: String,
    /// Transport-stream packets encrypted.
    pub packets_encrypted: u64,
    /// Transport-stream packets that were scrambled already, and pass as they are.
    pub packets_scrambled_before: u64,
    /// Transport-stream packets that no table names: null packets left in their place.
    pub packets_withheld: u64,
}

/// One leg of an output (ST 2022-7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutputLegDoc {
    /// As written.
    pub destination: String,
    /// Whether it is open: its name and its interface are known.
    pub open: bool,
    /// Datagrams sent.
    pub packets: u64,
    /// Could not be sent.
    pub packets_dropped: u64,
    /// Faults of any kind, ICMP answers among them.
    pub errors: u64,
}

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Media is lost or does not move.
    Critical,
    /// Something does not work.
    Major,
    /// Something should be looked at.
    Minor,
    /// For information.
    Info,
}

/// An alarm that is raised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AlarmDoc {
    /// The same in the events that tell of it.
    pub id: String,
    /// The name of its table, or of the built-in one.
    pub name: String,
    /// How bad.
    pub severity: Severity,
    /// The source it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The output it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// RFC 3339, UTC.
    pub since: String,
    /// What is wrong now, in words.
    pub message: String,
    /// The figure now: bit/s, seconds, or a count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What it is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// A notifier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NotifierDoc {
    /// `webhook`, `exec` or `snmp-trap`.
    pub way: String,
    /// What is to be told yet.
    pub waiting: usize,
    /// What was told.
    pub told: u64,
    /// What was not and never will be.
    pub dropped: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why the last attempt failed; absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConditionDoc {
    /// A stable word, such as `stale-config`.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// RFC 3339, UTC.
    pub since: String,
    /// What is wrong, with its figure.
    pub message: String,
    /// What to do next.
    pub help: String,
}
