//! Every log-worthy fact, with a stable id and its fields. The packet path counts; what is worth a line is said here.

mod text;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tracing::Level;

use super::alarm::Alarm;
use super::feed::EventType;
use super::log;
use super::status::Severity;
use crate::config::diagnostic::{self, Diagnostic};
use crate::config::value::FlowName;
use crate::content::{ContentFault, Finding};
use crate::flow::srt::Part;

/// Something that happened, worth one line in the log.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields say what their names say; `message` shows each in its sentence")]
pub enum Event {
    /// The daemon came up; its first apply is done.
    DaemonStarted { version: &'static str, flows: usize, took: Duration },
    /// The daemon goes down: `why` is a signal's name or an error.
    DaemonStopping { why: String, flows: usize },
    /// A flow's sockets are open.
    FlowStarted { flow: FlowName, sources: usize, outputs: usize },
    /// A flow ended: `why` is for example `its file is gone` or `stopped by alice`.
    FlowStopped { flow: FlowName, why: String },
    /// A running flow was changed; `what` says how, such as `output a reopened (destination)`.
    FlowChanged { flow: FlowName, what: String },
    /// A flow's task panicked and is started again.
    FlowPanicked { flow: FlowName, message: String, count: u64, retry_in: Duration },
    /// The first media on a source since it was opened.
    SourceReceiving { flow: FlowName, source: String, from: SocketAddr },
    /// Media stopped.
    /// `covered`: another source carries the flow.
    SourceLost { flow: FlowName, source: String, silent_for: Duration, bitrate_bps: u64, covered: bool },
    /// Media came back after a loss.
    SourceBack { flow: FlowName, source: String, after: Duration },
    /// A source can't be opened; it is retried.
    SourceFailed { flow: FlowName, source: String, error: String, retry_in: Duration },
    /// A source that could not be opened is open.
    SourceOpened { flow: FlowName, source: String, after: Duration },
    /// An RTP stream began anew; `why` is for example `SSRC 0x1 became 0x2`.
    StreamRestarted { flow: FlowName, source: String, why: String },
    /// The kernel granted a smaller receive buffer than was asked.
    ReceiveBufferSmall { flow: FlowName, source: String, asked: u64, granted: u64 },
    /// The first source on air.
    SourceOnAir { flow: FlowName, source: String },
    /// Another source is on air; `why` is for example `a was silent`, `gap` from the last packet to the first.
    Switched { flow: FlowName, from: Option<String>, to: String, why: String, gap: Duration },
    /// A leg of a merge carries other packets than the others: it is set aside.
    LegsNotIdentical { flow: FlowName, source: String },
    /// It carries the same packets again.
    LegRejoined { flow: FlowName, source: String },
    /// Something is wrong with pictures or sound, and has been for long enough.
    ContentFault { flow: FlowName, finding: Finding },
    /// It is over.
    ContentBack { flow: FlowName, fault: ContentFault, after: Duration },
    /// Nobody looks at pictures and sound although the flow's file asks for it; it is tried again.
    ThumbnailFailed { flow: FlowName, error: String },
    /// Somebody looks at them again.
    ThumbnailBack { flow: FlowName, after: Duration },
    /// A connection by SRT is made; `part` is here as below a source or an output, `terms` says what was agreed on.
    SrtConnected { flow: FlowName, part: Part, peer: SocketAddr, terms: String },
    /// A connection by SRT ended; `orderly`: we closed it, or a receiver that had called left.
    SrtEnded { flow: FlowName, part: Part, peer: SocketAddr, why: String, orderly: bool },
    /// A peer by SRT does not take a new key.
    SrtKeyUnconfirmed { flow: FlowName, part: Part, peer: SocketAddr, why: String },
    /// A call by SRT was refused.
    SrtRefused { flow: FlowName, part: Part, peer: SocketAddr, why: String, stream_id: Option<String> },
    /// We called, and nothing came of it; it is tried again.
    SrtCallFailed { flow: FlowName, part: Part, remote: String, why: String },
    /// A subscriber's session began. All that sessions and calls for them come to is told by this event and the next two.
    EntitlementOpened { flow: FlowName, entitlement: String, subscriber: String, peer: SocketAddr, terms: String },
    /// It ended: `why` is for example `the subscriber is disabled`; `bytes` are of transport stream.
    EntitlementClosed {
        flow: FlowName,
        entitlement: String,
        subscriber: String,
        peer: SocketAddr,
        why: String,
        lasted: Duration,
        bytes: u64,
    },
    /// A call for an entitlement was refused. `subscriber` is one that is known, and has shown no passphrase where the
    /// reason is about that; flow and entitlement are there if there is such an entitlement. `code` is SRT's, such as 1403.
    EntitlementRefused {
        flow: Option<FlowName>,
        entitlement: Option<String>,
        subscriber: Option<String>,
        peer: SocketAddr,
        code: u32,
        reason: &'static str,
        why: String,
        stream_id: Option<String>,
    },
    /// The port for entitlements can't be opened; it is retried.
    EntitlementsFailed { bind: String, error: String, retry_in: Duration },
    /// It is open.
    EntitlementsListening { bind: String },
    /// What subscribers got can't be written.
    AccountsUnwritten { path: PathBuf, error: String },
    /// It can be again.
    AccountsWritten { path: PathBuf },
    /// Sockets of the daemon's last process, in which packets waited, are read on, and so many flows go on where they
    /// stood. So many peers by SRT were told to connect again. `gap`: since the sockets were read last; `None`: that
    /// process was killed.
    TakenOver { sockets: usize, flows: usize, sent_away: usize, gap: Option<Duration> },
    /// What the last process left of its flows is not understood; they begin anew.
    StateUnreadable { error: String },
    /// An output can't be opened or can't send; it is retried.
    OutputFailed { flow: FlowName, output: String, destination: String, error: String },
    /// An output works again.
    OutputBack { flow: FlowName, output: String, after: Duration, dropped: u64 },
    /// A reload was applied.
    ConfigApplied { generation: u64, started: usize, stopped: usize, changed: usize, rejected: usize, took: Duration },
    /// One fault of a file: an error or a warning.
    ConfigDiagnostic { diagnostic: Diagnostic },
    /// These keys, such as `limits.workers`, were changed, and take effect when the daemon is restarted.
    RestartNeeded { keys: Vec<String> },
    /// A newer file was rejected; the last good version of the flow runs.
    ConfigStale { flow: FlowName, file: PathBuf },
    /// A flow runs what its file says again.
    ConfigRecovered { flow: FlowName, file: PathBuf },
    /// A directory or file can't be read; what runs goes on.
    ConfigUnreadable { path: PathBuf, error: String },
    /// It can be read again.
    ConfigReadable { path: PathBuf },
    /// The kernel gives no file notifications; the directory is read at an interval.
    WatchPolling { error: String, every: Duration },
    /// File notifications work again.
    WatchBack,
    /// A listener of `[http]` can't be opened; it is retried.
    HttpFailed { address: SocketAddr, error: String, retry_in: Duration },
    /// A listener of `[http]` is open.
    HttpListening { address: SocketAddr },
    /// The last record of the audit trail.
    AuditHead { head: String },
    /// A record can't be written to the audit trail; it is tried again.
    AuditFailed { path: PathBuf, error: String },
    /// The audit trail is written again, without so many records.
    AuditBack { records: u64 },
    /// A request came with a token that is not the one of `[http]`.
    HttpTokenWrong { address: IpAddr },
    /// An operator's command was carried out, or refused (`error`).
    OperatorCommand { by: String, uid: u32, command: String, flow: Option<FlowName>, error: Option<String> },
    /// Somebody at the control socket was not let act. The flow is in the command only: it may be any name.
    OperatorDenied { by: String, uid: u32, command: String },
    /// Changes are held back: of one flow, or of all.
    Frozen { flow: Option<FlowName>, by: String, until: Option<SystemTime> },
    /// Changes pass again; `by` is an operator, or `its time` when the time was up.
    Thawed { flow: Option<FlowName>, by: String },
    /// A data-plane thread does not answer.
    ShardStuck { shard: usize, silent_for: Duration },
    /// A data-plane thread can't run on the CPU that `limits.worker-cpus` gives it; it runs on any.
    WorkerUnpinned { cpu: u16, error: String },
    /// The service manager can't be told; the relay goes on.
    NotifyFailed { error: String },
    /// An alarm began; of the appliance where there is no flow.
    AlarmRaised { flow: Option<FlowName>, alarm: Alarm },
    /// It is over.
    AlarmCleared { flow: Option<FlowName>, alarm: Alarm, after: Duration },
    /// A notifier can't tell; it is tried again.
    NotifierFailed { notifier: String, error: String },
    /// It can again.
    NotifierBack { notifier: String, after: Duration },
    /// Some were not told: there were more than may wait, or the other end wants none of it (`why`).
    NotifierDropped { notifier: String, count: u64, why: String },
}

/// What all events of one kind have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The stable word: `MEDIACONNECT_EVENT`.
    pub name: &'static str,
    /// `MESSAGE_ID`: 128 bits as 32 hex digits; never reused, never changed.
    pub message_id: &'static str,
    /// How bad.
    pub level: Level,
    /// What `[log] level` filters by.
    pub target: &'static str,
}

const DAEMON: &str = "mediaconnect::daemon";
const FLOW: &str = "mediaconnect::flow";
const SRT: &str = "mediaconnect::srt";
const ENTITLEMENT: &str = "mediaconnect::entitlement";
const CONFIG: &str = "mediaconnect::config";
/// `MESSAGE_ID` of the heads of the audit trail.
pub const AUDIT_HEAD_ID: &str = "3f0d3c9b5a0e4d51a7c2f1b6e8d94a70";
const AUDIT: &str = "mediaconnect::audit";
const HTTP: &str = "mediaconnect::http";
const CONTROL: &str = "mediaconnect::control";
const ALARM: &str = "mediaconnect::alarm";

const fn kind(name: &'static str, message_id: &'static str, level: Level, target: &'static str) -> Kind {
    Kind { name, message_id, level, target }
}

impl Event {
    /// Name, id, level and target.
    pub fn kind(&self) -> Kind {
        const E: Level = Level::ERROR;
        const W: Level = Level::WARN;
        const I: Level = Level::INFO;
        match self {
            Self::TakenOver { .. } => kind("taken-over", "ebd1a553fec04971b3d320da73f1cc8a", I, DAEMON),
            Self::StateUnreadable { .. } => kind("state-unreadable", "00a140c679e34dc6979c2a7de441b11d", W, DAEMON),
            Self::DaemonStarted { .. } => kind("daemon-started", "cecd2fb11ef84ebb8906342db5b1318a", I, DAEMON),
            Self::DaemonStopping { .. } => kind("daemon-stopping", "679a4a03d7824e31b058b04f3ad3fa04", I, DAEMON),
            Self::FlowStarted { .. } => kind("flow-started", "b7bf584aa5cc4dcb97c5de118775fb0c", I, FLOW),
            Self::FlowStopped { .. } => kind("flow-stopped", "c1d5869cf4114268ae9566395dc38cd1", I, FLOW),
            Self::FlowChanged { .. } => kind("flow-changed", "dff4f5b6b9a74b7eb382bffb5099774b", I, FLOW),
            Self::FlowPanicked { .. } => kind("flow-panicked", "20bcd1f6fafa4e01a16d2e19833abf11", E, FLOW),
            Self::SourceReceiving { .. } => kind("source-receiving", "6a4e852bd6f04676981e1ef74689d2a5", I, FLOW),
            Self::SourceLost { .. } => kind("source-lost", "0c82498ab11e41c9a2b81d039a9f97a3", W, FLOW),
            Self::SourceBack { .. } => kind("source-back", "d841236e800543aabc2559f206c55e50", I, FLOW),
            Self::SourceFailed { .. } => kind("source-failed", "2717edeb782643af8bff1f19b0fec340", E, FLOW),
            Self::SourceOpened { .. } => kind("source-opened", "eac96264f3e94b65b536789f01d55841", I, FLOW),
            Self::StreamRestarted { .. } => kind("stream-restarted", "157691a0b803497fa97dd0c249d31d79", I, FLOW),
            Self::ReceiveBufferSmall { .. } => {
                kind("receive-buffer-small", "7fd8d5624fb64132813b6991494bf754", W, FLOW)
            }
            Self::SourceOnAir { .. } => kind("source-on-air", "8dfd97267af24f1cb19edebf75edd88a", I, FLOW),
            Self::Switched { .. } => kind("failover-switched", "868f988dc7464e73aa86bf28b054b1fd", W, FLOW),
            Self::LegsNotIdentical { .. } => kind("legs-not-identical", "c6e0b5492c254b43bb4489d4f335974b", E, FLOW),
            Self::LegRejoined { .. } => kind("leg-rejoined", "a5d4aa53a43843afa3b498efeceaaaac", I, FLOW),
            Self::OutputFailed { .. } => kind("output-failed", "6255ad14fed044b0a627972fbc6ddd87", W, FLOW),
            Self::OutputBack { .. } => kind("output-back", "f170711d7f00492d99312dc1b9e6ea73", I, FLOW),
            Self::ContentFault { .. } => kind("content-fault", "d7ea33a41ae64c9aa9edba1408efb632", W, FLOW),
            Self::ContentBack { .. } => kind("content-back", "21fa554a659c4da1a1d27ba56a3e7212", I, FLOW),
            Self::ThumbnailFailed { .. } => kind("thumbnail-failed", "3cae78ba04574212933bec8b49993d1e", W, FLOW),
            Self::ThumbnailBack { .. } => kind("thumbnail-back", "9f45801d47c245478f9d62440757eae3", I, FLOW),
            Self::SrtConnected { .. } => kind("srt-connected", "7069fd95d6f046c5a3270902ade5f25d", I, SRT),
            Self::SrtEnded { orderly, .. } => {
                kind("srt-ended", "7289a56cd70c405894e1f737da535435", if *orderly { I } else { W }, SRT)
            }
            Self::SrtKeyUnconfirmed { .. } => kind("srt-key-unconfirmed", "016169c6e67b4bcc8d13f00b819517ce", W, SRT),
            Self::SrtRefused { .. } => kind("srt-refused", "652ef67e8b2d4e5a815b75fd78489c91", W, SRT),
            Self::SrtCallFailed { .. } => kind("srt-call-failed", "8e296eccdfcb4527974098c676c3dada", W, SRT),
            Self::EntitlementOpened { .. } => {
                kind("entitlement-opened", "5c7ea53f4be5457490a1adbc715489dd", I, ENTITLEMENT)
            }
            Self::EntitlementClosed { .. } => {
                kind("entitlement-closed", "28c0fd9712b949adb91b078788f805e6", I, ENTITLEMENT)
            }
            Self::EntitlementRefused { .. } => {
                kind("entitlement-refused", "8f1c48304cad45fc99ec4834dd7e0df2", W, ENTITLEMENT)
            }
            Self::EntitlementsFailed { .. } => {
                kind("entitlements-failed", "a8452e8c9b784ea98a89eedeb9c87f44", E, ENTITLEMENT)
            }
            Self::EntitlementsListening { .. } => {
                kind("entitlements-listening", "efbdf24ce5924de78089e04c4bfd0197", I, ENTITLEMENT)
            }
            Self::AccountsUnwritten { .. } => {
                kind("accounts-unwritten", "fdccad9ef4ad450a9b46b71686e64253", E, ENTITLEMENT)
            }
            Self::AccountsWritten { .. } => {
                kind("accounts-written", "1e912833753546179d16a599a4fa299b", I, ENTITLEMENT)
            }
            Self::ConfigApplied { .. } => kind("config-applied", "fdb9596a61b546f2b63748e72841c293", I, CONFIG),
            Self::ConfigDiagnostic { diagnostic } if diagnostic.severity == diagnostic::Level::Error => {
                kind("config-rejected", "a1f8761ca0cb4a2aa1103d36cbf0c34c", E, CONFIG)
            }
            Self::ConfigDiagnostic { .. } => kind("config-warning", "4f1a187bbe304d9b8685b0ea2f1d1fd7", W, CONFIG),
            Self::RestartNeeded { .. } => kind("restart-needed", "f95a03f053d442afb4ce542808d7b719", W, CONFIG),
            Self::ConfigStale { .. } => kind("config-stale", "cebfba48c29d45c7bde72b4aed67436c", W, CONFIG),
            Self::ConfigRecovered { .. } => kind("config-recovered", "55e7862a52ac4b5286fd6a122fc3bb0c", I, CONFIG),
            Self::ConfigUnreadable { .. } => kind("config-unreadable", "fd124a435c344711bda2b71f459eefc9", E, CONFIG),
            Self::ConfigReadable { .. } => kind("config-readable", "6522d02a29924da09a5ac4c92331cf09", I, CONFIG),
            Self::WatchPolling { .. } => kind("watch-polling", "c37cc87eeda64a538e51499bd474d7b9", W, CONFIG),
            Self::WatchBack => kind("watch-back", "3874b06916f14cafa46051e517f0dc7f", I, CONFIG),
            Self::HttpFailed { .. } => kind("http-failed", "2d5b1ab6b4cf48969cbc5e82eae70e67", E, HTTP),
            Self::HttpListening { .. } => kind("http-listening", "4e4fd481eef44886a8a4aba7f2cdccb8", I, HTTP),
            Self::AuditHead { .. } => kind("audit-head", AUDIT_HEAD_ID, I, AUDIT),
            Self::AuditFailed { .. } => kind("audit-failed", "c2a7f6de41d84a7cb9f05e3b1d6a8e92", E, AUDIT),
            Self::AuditBack { .. } => kind("audit-back", "8be1d0c37f4a4c0e9a5d2f7c6b31e845", W, AUDIT),
            Self::HttpTokenWrong { .. } => kind("http-token-wrong", "b0a5f2f4c6c34f0d8d1e7a3952e4c871", W, HTTP),
            Self::OperatorCommand { .. } => kind("operator-command", "a56b090ca3f44cc8a6b6aa97ed581d34", I, CONTROL),
            Self::OperatorDenied { .. } => kind("operator-denied", "5a3e9b0c17d84f6e8c2b7d40e1f6a953", W, CONTROL),
            Self::Frozen { .. } => kind("frozen", "5d045236c31e4eb89477c6e97ba57abd", I, CONTROL),
            Self::Thawed { .. } => kind("thawed", "53806b8c85d341038169264a5fb0e7af", I, CONTROL),
            Self::ShardStuck { .. } => kind("shard-stuck", "c8604f453dbd443484a1ac18caeb21c7", E, DAEMON),
            Self::WorkerUnpinned { .. } => kind("worker-unpinned", "70470e48c1d94f09810362ef8357a8e3", W, DAEMON),
            Self::AlarmRaised { alarm, .. } => {
                let level = match alarm.severity {
                    Severity::Critical | Severity::Major => E,
                    Severity::Minor => W,
                    Severity::Info => I,
                };
                kind("alarm-raised", "69f8779b5a8e447a94fd49f51401e3f6", level, ALARM)
            }
            Self::AlarmCleared { .. } => kind("alarm-cleared", "03b34c0a3ed34b388bc2222b5a44e87a", I, ALARM),
            Self::NotifierFailed { .. } => kind("notifier-failed", "247542ddef0e48828cbd51d0ae6e5d7c", W, ALARM),
            Self::NotifierBack { .. } => kind("notifier-back", "debd09a85f9b49858e0851ccf810730a", I, ALARM),
            Self::NotifierDropped { .. } => kind("notifier-dropped", "e6efb8dbc9c644b78cd9d3667d2b296e", W, ALARM),
            Self::NotifyFailed { .. } => kind("notify-failed", "50b60f6add61441eb01e7ddfdd0d8f0b", W, DAEMON),
        }
    }

    /// The flow it is about.
    pub fn flow(&self) -> Option<&str> {
        match self {
            Self::FlowStarted { flow, .. }
            | Self::FlowStopped { flow, .. }
            | Self::FlowChanged { flow, .. }
            | Self::FlowPanicked { flow, .. }
            | Self::SourceReceiving { flow, .. }
            | Self::SourceLost { flow, .. }
            | Self::SourceBack { flow, .. }
            | Self::SourceFailed { flow, .. }
            | Self::SourceOpened { flow, .. }
            | Self::StreamRestarted { flow, .. }
            | Self::ReceiveBufferSmall { flow, .. }
            | Self::SourceOnAir { flow, .. }
            | Self::Switched { flow, .. }
            | Self::LegsNotIdentical { flow, .. }
            | Self::LegRejoined { flow, .. }
            | Self::OutputFailed { flow, .. }
            | Self::OutputBack { flow, .. }
            | Self::ContentFault { flow, .. }
            | Self::ContentBack { flow, .. }
            | Self::ThumbnailFailed { flow, .. }
            | Self::ThumbnailBack { flow, .. }
            | Self::SrtConnected { flow, .. }
            | Self::SrtEnded { flow, .. }
            | Self::SrtKeyUnconfirmed { flow, .. }
            | Self::SrtRefused { flow, .. }
            | Self::SrtCallFailed { flow, .. }
            | Self::EntitlementOpened { flow, .. }
            | Self::EntitlementClosed { flow, .. }
            | Self::ConfigStale { flow, .. }
            | Self::ConfigRecovered { flow, .. } => Some(flow.as_str()),
            Self::OperatorCommand { flow, .. }
            | Self::Frozen { flow, .. }
            | Self::Thawed { flow, .. }
            | Self::EntitlementRefused { flow, .. }
            | Self::AlarmRaised { flow, .. }
            | Self::AlarmCleared { flow, .. } => flow.as_ref().map(FlowName::as_str),
            Self::ConfigDiagnostic { diagnostic } => diagnostic.flow.as_deref(),
            _ => None,
        }
    }

    /// The source it is about.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::SourceReceiving { source, .. }
            | Self::SourceLost { source, .. }
            | Self::SourceBack { source, .. }
            | Self::SourceFailed { source, .. }
            | Self::SourceOpened { source, .. }
            | Self::StreamRestarted { source, .. }
            | Self::ReceiveBufferSmall { source, .. }
            | Self::SourceOnAir { source, .. }
            | Self::LegsNotIdentical { source, .. }
            | Self::LegRejoined { source, .. } => Some(source),
            Self::Switched { to, .. } => Some(to),
            Self::AlarmRaised { alarm, .. } | Self::AlarmCleared { alarm, .. } => alarm.of.source(),
            _ => match self.srt_part() {
                Some(Part::Source(source)) => Some(source),
                _ => None,
            },
        }
    }

    /// The output it is about.
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::OutputFailed { output, .. } | Self::OutputBack { output, .. } => Some(output),
            Self::AlarmRaised { alarm, .. } | Self::AlarmCleared { alarm, .. } => alarm.of.output(),
            _ => match self.srt_part() {
                Some(Part::Output(output)) => Some(output),
                _ => None,
            },
        }
    }

    fn srt_part(&self) -> Option<&Part> {
        match self {
            Self::SrtConnected { part, .. }
            | Self::SrtEnded { part, .. }
            | Self::SrtKeyUnconfirmed { part, .. }
            | Self::SrtRefused { part, .. }
            | Self::SrtCallFailed { part, .. } => Some(part),
            _ => None,
        }
    }

    /// What tells it from others of its kind and flow when a flood is held back.
    pub(super) fn part(&self) -> String {
        match self {
            // Each fault of a file is logged; only the same one over and over is held back.
            Self::ConfigDiagnostic { .. } | Self::OperatorCommand { .. } => self.to_string(),
            // Whatever one user asks for.
            Self::OperatorDenied { uid, .. } => uid.to_string(),
            Self::ConfigUnreadable { path, .. } | Self::ConfigReadable { path } => path.display().to_string(),
            Self::HttpFailed { address, .. } | Self::HttpListening { address } => address.to_string(),
            Self::NotifierFailed { notifier, .. }
            | Self::NotifierBack { notifier, .. }
            | Self::NotifierDropped { notifier, .. } => notifier.clone(),
            Self::EntitlementOpened { entitlement, subscriber, .. }
            | Self::EntitlementClosed { entitlement, subscriber, .. } => format!("{entitlement}/{subscriber}"),
            Self::EntitlementRefused { entitlement, subscriber, reason, .. } => {
                let name = |name: &Option<String>| name.clone().unwrap_or_default();
                format!("{}/{}/{reason}", name(entitlement), name(subscriber))
            }
            Self::AccountsUnwritten { path, .. } | Self::AccountsWritten { path } => path.display().to_string(),
            Self::ShardStuck { shard, .. } => shard.to_string(),
            Self::WorkerUnpinned { cpu, .. } => cpu.to_string(),
            Self::ContentFault { finding: Finding { fault, .. }, .. } | Self::ContentBack { fault, .. } => {
                fault.name().to_owned()
            }
            _ => self.source().or(self.output()).unwrap_or_default().to_owned(),
        }
    }

    /// The alarm it is about.
    pub(super) fn alarm(&self) -> Option<(EventType, &Alarm)> {
        match self {
            Self::AlarmRaised { alarm, .. } => Some((EventType::Raised, alarm)),
            Self::AlarmCleared { alarm, .. } => Some((EventType::Cleared, alarm)),
            _ => None,
        }
    }
}

/// Log it, unless the same kind of thing about the same part of the same flow floods the log.
pub fn emit(event: Event) {
    log::submit_event(&event);
}

#[cfg(test)]
pub(super) mod tests;
