//! Every condition: its code, severity, message with a figure, and the next step. What `explain` and status show.

mod air;
mod content;
mod entitlement;
mod rist;
mod srt;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use self::entitlement::EntitlementTrouble;
pub use self::rist::RistTrouble;
pub use self::srt::{CallTrouble, Refusal, Refused};
use super::status::{ConditionDoc, Severity};
use super::text::{count, rate, rfc3339, span};
use crate::config::value::FlowName;
use crate::content::Finding;

/// What arrived instead of what the source's protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// RTP on a `udp` source.
    RtpOnUdp,
    /// Transport-stream packets without RTP on an `rtp` source.
    PlainOnRtp,
}

/// What a source is to its flow while another one carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It waits for its turn.
    Standby,
    /// One of several that are merged.
    Leg,
}

/// Something that is not as it should be, of a flow or of the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what their names say; `message` shows each in its sentence")]
pub enum Condition {
    /// A condition of a source while another one carries the flow: less severe.
    Covered { role: Role, of: Box<Condition> },
    /// Nothing has come on a source since it was opened.
    SourceSilent { source: String, bind: String, silent_for: Duration },
    /// Media came, and stopped.
    SourceLost { source: String, silent_for: Duration, bitrate_bps: u64 },
    /// `allow` does not list who sends; addresses newest first.
    SourceDenied { source: String, packets: u64, addresses: Vec<String> },
    /// RTP where plain UDP is expected, or the reverse.
    SourceProtocolMismatch { source: String, found: Mismatch, packets: u64 },
    /// What arrives is no transport stream.
    SourceNotTs { source: String, found: &'static str, packets: u64 },
    /// Transport-stream packets without 0x47 in place.
    SourceSyncErrors { source: String, errors: u64 },
    /// Checks of TR 101 290's first priority are in error; with their errors so far.
    TransportStreamErrors { source: String, checks: Vec<(&'static str, u64)> },
    /// More than `max-bitrate` arrives.
    SourceOverBitrate { source: String, packets: u64, max_bps: u64 },
    /// The receive buffer ran over.
    SourceKernelDrops { source: String, packets: u64, buffer: u64 },
    /// The kernel granted a smaller receive buffer than was asked, in bytes.
    ReceiveBufferSmall { source: String, asked: u64, granted: u64 },
    /// A source can't be opened.
    SourceFailed { source: String, bind: String, error: String },
    /// `part` is a source or an output that needs an interface which is not there; `interface` as `Interface` shows it.
    InterfaceMissing { part: String, interface: String, waited: Duration },
    /// Another source than the primary is on air, since `at`, after `gap` without packets. `operator`: an operator wants
    /// it; else the primary comes back once it has been well for `returns`, or (`None`) by an operator.
    FailoverSwitched {
        flow: FlowName,
        primary: String,
        on_air: String,
        at: SystemTime,
        why: String,
        gap: Duration,
        operator: bool,
        returns: Option<Duration>,
    },
    /// An operator put a source on air.
    OperatorSwitch { flow: FlowName, source: String, by: String, since: SystemTime },
    /// A leg of a merge is set aside.
    LegsNotIdentical { source: String },
    /// A leg of a merge sends, and nothing of it is of use.
    LegUnmatched { source: String, window: Duration },
    /// Not all legs of a merge take part.
    MergeDegraded { active: usize, legs: usize, idle: Vec<String> },
    /// A leg of a merge is further behind the others than the recovery window; by how much, if that is known.
    LegTooLate { source: String, skew: Option<Duration>, window: Duration, late: u64 },
    /// Media comes on an `rtp-fec` source, and no FEC; `ports` for columns and rows.
    FecMissing { source: String, ports: [u16; 2] },
    /// What comes on a FEC port is no FEC, or of no use. `kind`: `column` or `row`.
    FecInvalid { source: String, kind: &'static str, port: u16, packets: u64 },
    /// FEC comes, and packets are lost for good all the same; 0 columns: not known.
    FecInsufficient { source: String, packets: u64, columns: u64, rows: u64 },
    /// Nobody is connected to a listener. `part` is here as below a source or an output. `last`: who was connected to a
    /// source before, and why no more.
    SrtNobody { part: String, output: bool, bind: String, silent_for: Duration, last: Option<(String, String)> },
    /// Nobody is connected to a source, and those who call are turned away.
    SrtCallersRefused { part: String, refused: Refused },
    /// A caller was turned away lately, from an output, or from a source that another one is connected to.
    SrtRefused { part: String, refused: Refused },
    /// A call or rendezvous comes to nothing.
    SrtNotConnected { part: String, output: bool, remote: String, why: String, trouble: CallTrouble, tries: u64 },
    /// Somebody is connected to a source and sends nothing.
    SrtNoData { part: String, peer: String, silent_for: Duration },
    /// Packets come that no key fits.
    SrtUndecrypted { flow: FlowName, part: String, peer: String, number: u64, packets: u64 },
    /// Packets come too late, and the latency is short for the round trip. `others`: peers of which the same holds.
    SrtLatencyLow { part: String, peer: String, latency: Duration, rtt: Duration, dropped: u64, others: usize },
    /// Packets come too late, and the latency is long enough for the round trip.
    SrtDropped { part: String, peer: String, latency: Duration, rtt: Duration, dropped: u64, others: usize },
    /// Media came by SRT, and stopped; `of` is one of the above, and says why.
    SrtLost { source: String, silent_for: Duration, bitrate_bps: u64, of: Box<Condition> },
    /// Something about RIST; `part` is here as below a source or an output.
    Rist { part: String, output: bool, of: RistTrouble },
    /// Something about entitlements.
    Entitlement(EntitlementTrouble),
    /// Something is wrong with pictures or sound.
    Content(Finding),
    /// Nobody looks at pictures and sound although the flow's file asks for it. `reached`: the helper was there, and ended.
    ThumbnailUnavailable { socket: PathBuf, error: String, tries: u64, reached: bool },
    /// An output's host name has no address.
    DestinationUnresolved { output: String, host: String, error: String, tries: u64 },
    /// One of the two legs of an output does not send; the other does. `open`: its name and interface are known.
    OutputLegFailed { output: String, destination: String, open: bool },
    /// A key of a source is a wrong one: nothing that was decrypted with it is a PES packet.
    ContentKeyWrong { source: String, parity: &'static str, file: String },
    /// A source's content is encrypted with a key that is not there. `odd`: the odd one, which has no file.
    ContentKeyMissing { source: String, packets: u64, odd: bool },
    /// Of what an encrypted output would send, no table names it. `all`: nothing but that comes.
    ContentWithheld { output: String, packets: u64, all: bool },
    /// Packets of an output with `smoothing` come too unevenly to leave evenly.
    OutputUneven { output: String, packets: u64, smoothing: Duration },
    /// Packets of an output can't be sent.
    OutputUnreachable { output: String, destination: String, error: String, packets: u64 },
    /// An output can't be opened.
    OutputFailed { output: String, destination: String, error: String },
    /// An operator stopped the flow.
    Stopped { flow: FlowName, by: String, since: SystemTime },
    /// An operator runs a flow whose file says `enabled = false`.
    Started { flow: FlowName, by: String, since: SystemTime },
    /// An operator disabled or enabled (`enabled`) an output against its file.
    OutputOverride { flow: FlowName, output: String, enabled: bool, by: String, since: SystemTime },
    /// `enabled = false` in the flow's file.
    Disabled { file: PathBuf, sources: usize, outputs: usize },
    /// A newer file was rejected and the last good one runs; line 0: the file as a whole.
    StaleConfig { file: PathBuf, line: usize, column: usize, message: String },
    /// Files were rejected that never had a good version: these flows don't run.
    ConfigRejected { files: usize, first: PathBuf },
    /// A file or directory can't be read; what it said before runs on.
    ConfigUnreadable { path: PathBuf, error: String, flows: usize },
    /// A changed setting waits for a restart of the daemon.
    RestartNeeded { key: String, running: String, wanted: String },
    /// CPUs of `limits.worker-cpus` that can't be had: their data-plane threads run on any.
    WorkerCpu { cpus: Vec<u16>, error: String },
    /// Changes are held back; `flow` is `None` for all flows.
    Frozen { flow: Option<FlowName>, by: String, until: Option<SystemTime>, waiting: usize },
    /// The flow's task panicked, `times` since the daemon started.
    FlowPanicked { flow: FlowName, message: String, times: u64 },
    /// A listener of `[http]` can't be opened.
    HttpFailed { address: SocketAddr, error: String },
    /// The kernel gives no file notifications.
    WatchPolling { error: String, every: Duration },
    /// The audit trail can't be written.
    AuditFailed { path: PathBuf, error: String, records: u64 },
    /// The flow is received and sent nowhere.
    NoOutputs { file: PathBuf },
}

impl Condition {
    /// The stable word: kebab-case, never changed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Covered { of, .. } => of.code(),
            Self::Rist { of, .. } => of.code(),
            Self::Entitlement(of) => of.code(),
            Self::Content(_) | Self::ThumbnailUnavailable { .. } => self.content_code(),
            Self::FailoverSwitched { .. } => "failover-switched",
            Self::OperatorSwitch { .. } => "switched-by-operator",
            Self::LegsNotIdentical { .. } => "legs-not-identical",
            Self::LegUnmatched { .. } => "leg-unmatched",
            Self::MergeDegraded { .. } => "merge-degraded",
            Self::OutputLegFailed { .. } => "output-leg-failed",
            Self::OutputUneven { .. } => "output-uneven",
            Self::ContentKeyWrong { .. } => "content-key-wrong",
            Self::ContentKeyMissing { .. } => "content-key-missing",
            Self::ContentWithheld { all: true, .. } => "content-withheld",
            Self::ContentWithheld { all: false, .. } => "content-unlisted",
            Self::LegTooLate { .. } => "leg-too-late",
            Self::FecMissing { .. } => "fec-missing",
            Self::FecInvalid { .. } => "fec-invalid",
            Self::FecInsufficient { .. } => "fec-insufficient",
            Self::SourceSilent { .. } => "source-silent",
            Self::SourceLost { .. } => "source-lost",
            Self::SourceDenied { .. } => "source-denied",
            Self::SourceProtocolMismatch { .. } => "source-protocol-mismatch",
            Self::SourceNotTs { .. } => "source-not-ts",
            Self::SourceSyncErrors { .. } => "source-sync-errors",
            Self::TransportStreamErrors { .. } => "transport-stream-errors",
            Self::SourceOverBitrate { .. } => "source-over-bitrate",
            Self::SourceKernelDrops { .. } => "source-kernel-drops",
            Self::ReceiveBufferSmall { .. } => "receive-buffer-small",
            Self::SourceFailed { .. } => "source-failed",
            Self::InterfaceMissing { .. } => "interface-missing",
            Self::DestinationUnresolved { .. } => "destination-unresolved",
            Self::OutputUnreachable { .. } => "output-unreachable",
            Self::OutputFailed { .. } => "output-failed",
            Self::Stopped { .. } => "stopped",
            Self::Started { .. } => "started-by-operator",
            Self::OutputOverride { enabled: false, .. } => "output-disabled",
            Self::OutputOverride { enabled: true, .. } => "output-enabled",
            Self::Disabled { .. } => "disabled",
            Self::StaleConfig { .. } => "stale-config",
            Self::ConfigRejected { .. } => "config-rejected",
            Self::ConfigUnreadable { .. } => "config-unreadable",
            Self::RestartNeeded { .. } => "restart-needed",
            Self::WorkerCpu { .. } => "worker-cpu",
            Self::Frozen { .. } => "frozen",
            Self::FlowPanicked { .. } => "flow-panicked",
            Self::HttpFailed { .. } => "http-failed",
            Self::WatchPolling { .. } => "watch-polling",
            Self::AuditFailed { .. } => "audit-failed",
            Self::NoOutputs { .. } => "no-outputs",
            _ => self.srt_code().unwrap_or_default(),
        }
    }

    /// How bad.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Rist { of, output, .. } => of.severity(*output),
            Self::Entitlement(of) => of.severity(),
            Self::SourceSilent { .. }
            | Self::SourceLost { .. }
            | Self::SourceProtocolMismatch { .. }
            | Self::SourceNotTs { .. }
            | Self::SourceFailed { .. }
            | Self::InterfaceMissing { .. }
            | Self::FlowPanicked { .. } => Severity::Critical,
            Self::Covered { .. }
            | Self::Content(_)
            | Self::ContentKeyWrong { .. }
            | Self::ContentKeyMissing { .. }
            | Self::ContentWithheld { all: true, .. }
            | Self::SourceDenied { .. }
            | Self::LegsNotIdentical { .. }
            | Self::LegUnmatched { .. }
            | Self::MergeDegraded { .. }
            | Self::LegTooLate { .. }
            | Self::FecMissing { .. }
            | Self::SourceOverBitrate { .. }
            | Self::SourceKernelDrops { .. }
            | Self::DestinationUnresolved { .. }
            | Self::OutputLegFailed { .. }
            | Self::OutputUnreachable { .. }
            | Self::OutputFailed { .. }
            | Self::StaleConfig { .. }
            | Self::ConfigRejected { .. }
            | Self::ConfigUnreadable { .. }
            | Self::AuditFailed { .. }
            | Self::HttpFailed { .. } => Severity::Major,
            Self::SourceSyncErrors { .. }
            | Self::ThumbnailUnavailable { .. }
            | Self::FailoverSwitched { .. }
            | Self::FecInvalid { .. }
            | Self::FecInsufficient { .. }
            | Self::ContentWithheld { all: false, .. }
            | Self::ReceiveBufferSmall { .. }
            | Self::WatchPolling { .. }
            | Self::WorkerCpu { .. }
            | Self::Stopped { .. }
            | Self::OutputOverride { enabled: false, .. } => Severity::Minor,
            Self::Started { .. }
            | Self::OperatorSwitch { .. }
            | Self::OutputOverride { enabled: true, .. }
            | Self::Disabled { .. }
            | Self::RestartNeeded { .. }
            | Self::Frozen { .. }
            // The stream is passed on as it is. Whoever wants to be woken sets an alarm.
            | Self::TransportStreamErrors { .. }
            | Self::OutputUneven { .. }
            | Self::NoOutputs { .. } => Severity::Info,
            _ => self.srt_severity().unwrap_or(Severity::Info),
        }
    }

    /// What is wrong, with its figure; one sentence without a full stop.
    pub fn message(&self) -> String {
        if let Some(message) = self.srt_message().or_else(|| self.content_message()) {
            return message;
        }
        match self {
            Self::Rist { part, of, .. } => format!("{part}: {}", of.words()),
            Self::Entitlement(of) => of.words(),
            Self::Stopped { by, since, .. } => format!("stopped by {by} since {}", rfc3339(*since)),
            Self::Started { by, since, .. } => {
                format!("started by {by} at {} against `enabled = false` in its file", rfc3339(*since))
            }
            Self::OutputOverride { output, enabled, by, since, .. } => {
                let word = if *enabled { "enabled" } else { "disabled" };
                format!("output {output} was {word} by {by} at {}", rfc3339(*since))
            }
            Self::Disabled { file, sources, outputs } => format!(
                "`enabled = false` in {}: {} and {} are closed",
                file.display(),
                count(*sources as u64, "source"),
                count(*outputs as u64, "output")
            ),
            Self::StaleConfig { file, line: 0, message, .. } => {
                format!("0 changes of {} are applied, its last good version runs: {message}", file.display())
            }
            Self::StaleConfig { file, line, column, message } => {
                format!("{}:{line}:{column}: {message}; the last good version runs", file.display())
            }
            Self::ConfigRejected { files: 1, first } => format!("1 file is rejected: {}", first.display()),
            Self::ConfigRejected { files, first } => {
                format!("{files} files are rejected, the first is {}", first.display())
            }
            Self::ConfigUnreadable { path, error, flows } => format!(
                "{} can't be read: {error}; {} as before",
                path.display(),
                if *flows == 1 { "1 flow runs".to_owned() } else { format!("{flows} flows run") }
            ),
            Self::RestartNeeded { key, running, wanted } => {
                format!("`{key}` is {running} until the daemon is restarted, its file says {wanted}")
            }
            Self::WorkerCpu { cpus, error } => {
                let list: Vec<_> = cpus.iter().map(u16::to_string).collect();
                let threads = count(cpus.len() as u64, "data-plane thread");
                format!("{threads} on any CPU instead of CPU {} (`limits.worker-cpus`): {error}", list.join(", "))
            }
            Self::Frozen { flow, by, until, waiting } => format!(
                "{} frozen by {by} {}; {} until then",
                flow.as_ref().map_or("all flows are", |_| "the flow is"),
                until.map_or("until thawed".to_owned(), |until| format!("until {}", rfc3339(until))),
                if *waiting == 1 { "1 change waits".to_owned() } else { format!("{waiting} changes wait") }
            ),
            Self::FlowPanicked { message, times, .. } => {
                format!("failed by a fault of mediaconnect, {} so far: {message}", count(*times, "time"))
            }
            Self::HttpFailed { address, error } => format!("[http] can't listen on {address}: {error}"),
            Self::AuditFailed { path, error, records } => {
                format!("{} can't be written: {error}; not in it: {}", path.display(), count(*records, "record"))
            }
            Self::WatchPolling { error, every } => {
                format!("no file notifications ({error}): the files are looked at every {}", span(*every))
            }
            Self::NoOutputs { file } => format!("0 outputs in {}", file.display()),
            _ => self.air_message(),
        }
    }

    fn media_message(&self) -> String {
        match self {
            Self::SourceSilent { source, bind, silent_for } => {
                format!("source {source}: no media has arrived on {bind} for {}", span(*silent_for))
            }
            Self::SourceLost { source, silent_for, bitrate_bps } => {
                format!("source {source}: lost for {}, {} before", span(*silent_for), rate(*bitrate_bps))
            }
            Self::SourceDenied { source, packets, addresses } => format!(
                "source {source}: {} denied by `allow`, last from {}",
                count(*packets, "packet"),
                addresses.join(", ")
            ),
            Self::SourceProtocolMismatch { source, found: Mismatch::RtpOnUdp, packets } => {
                format!("source {source}: RTP arrives on a `udp` source, {} dropped", count(*packets, "packet"))
            }
            Self::SourceProtocolMismatch { source, found: Mismatch::PlainOnRtp, packets } => format!(
                "source {source}: transport stream without RTP arrives on an `rtp` source, {} dropped",
                count(*packets, "packet")
            ),
            Self::SourceNotTs { source, found, packets } => {
                format!("source {source}: {} dropped; what arrives is {found}", count(*packets, "packet"))
            }
            Self::SourceSyncErrors { source, errors } => {
                format!("source {source}: {} (transport-stream packets without 0x47)", count(*errors, "sync error"))
            }
            Self::TransportStreamErrors { source, checks } => {
                let checks: Vec<_> = checks.iter().map(|(check, errors)| format!("{check} {errors}")).collect();
                format!("source {source}: errors by TR 101 290, of the first priority: {}", checks.join(", "))
            }
            Self::SourceOverBitrate { source, packets, max_bps } => {
                format!("source {source}: {} dropped above `max-bitrate` {}", count(*packets, "packet"), rate(*max_bps))
            }
            Self::SourceKernelDrops { source, packets, buffer } => format!(
                "source {source}: the kernel dropped {} because {buffer} bytes of receive buffer were full",
                count(*packets, "packet")
            ),
            Self::ReceiveBufferSmall { source, asked, granted } => {
                format!("source {source}: the kernel grants {granted} bytes of receive buffer, {asked} were asked")
            }
            Self::SourceFailed { source, bind, error } => {
                format!("source {source}: {bind} can't be opened: {error}")
            }
            Self::InterfaceMissing { part, interface, waited } => {
                format!("{part}: waiting for interface {interface} for {}", span(*waited))
            }
            Self::DestinationUnresolved { output, host, error, tries } => {
                format!("output {output}: {host} can't be resolved: {error} ({})", tries_text(*tries))
            }
            Self::OutputUnreachable { output, destination, error, packets } => format!(
                "output {output}: {destination} can't be reached: {error}, {} dropped",
                count(*packets, "packet")
            ),
            Self::OutputFailed { output, destination, error } => {
                format!("output {output}: can't be opened for {destination}: {error}")
            }
            _ => String::new(),
        }
    }

    /// The next step: a command to run or a key to change; whole sentences.
    pub fn help(&self) -> String {
        if let Some(help) = self.srt_help().or_else(|| self.content_help()) {
            return help;
        }
        match self {
            Self::Rist { of, output, .. } => of.help(*output),
            Self::Entitlement(of) => of.help(),
            Self::Stopped { flow, .. } => format!("Start it with `mediaconnectctl start {flow}`."),
            Self::Started { flow, .. } => {
                format!("Set `enabled = true` in its file, or stop it with `mediaconnectctl stop {flow}`.")
            }
            Self::OutputOverride { flow, output, enabled, .. } => {
                let verb = if *enabled { "disable" } else { "enable" };
                format!(
                    "Undo it with `mediaconnectctl {verb} {flow} {output}`, or follow the file again with \
                     `mediaconnectctl {verb} {flow} {output} --clear`."
                )
            }
            Self::Disabled { file, .. } => format!("Set `enabled = true` in {}.", file.display()),
            Self::StaleConfig { file, .. } => {
                format!("Mend the file; `mediaconnectctl check {}` shows all of its faults.", file.display())
            }
            Self::ConfigRejected { .. } => "Run `mediaconnectctl check` for all faults, and mend the files.".into(),
            Self::ConfigUnreadable { path, .. } => {
                format!("Check that user mediaconnect may read it: `namei -l {}`.", path.display())
            }
            Self::RestartNeeded { .. } => {
                "Restart when it suits: `systemctl restart mediaconnectd` interrupts all flows.".into()
            }
            Self::WorkerCpu { .. } => {
                "`taskset -cp $(pidof mediaconnectd)` shows which CPUs it may use; change `worker-cpus` in [limits], and \
                 restart when it suits: `systemctl restart mediaconnectd` interrupts all flows."
                    .into()
            }
            Self::Frozen { flow: Some(flow), .. } => {
                format!("See what waits with `mediaconnectctl plan`; apply it with `mediaconnectctl thaw {flow}`.")
            }
            Self::Frozen { flow: None, .. } => {
                "See what waits with `mediaconnectctl plan`; apply it with `mediaconnectctl thaw`.".into()
            }
            Self::FlowPanicked { flow, .. } => format!(
                "It is started again by itself. Report the lines of \
                 `journalctl -u mediaconnectd MEDIACONNECT_FLOW={flow}`."
            ),
            Self::HttpFailed { address, .. } => format!(
                "See who holds port {} with `ss -ltnp`, or change `listen` in [http]; it is retried.",
                address.port()
            ),
            Self::AuditFailed { path, .. } => format!(
                "Make room, or let the daemon write there: `df {0}`, `ls -ld {0}`; it is retried.",
                path.parent().unwrap_or(path).display()
            ),
            Self::WatchPolling { .. } => {
                "If the kernel's limit is the reason, raise it: `sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536`; \
                 `mediaconnectctl reload` applies changes at once."
                    .into()
            }
            Self::NoOutputs { .. } => {
                "Add an [outputs.NAME] table if it shall be sent somewhere; monitoring alone is fine.".into()
            }
            _ => self.air_help(),
        }
    }

    fn media_help(&self) -> String {
        match self {
            Self::SourceSilent { bind, .. } => format!(
                "Check that the sender is on and sends to {bind}; `tcpdump -ni any udp port {}` shows whether packets \
                 reach this host.",
                port(bind)
            ),
            Self::SourceLost { .. } => "Check the sender and the network to it; the flow goes on by itself when \
                                        packets come again."
                .into(),
            Self::SourceDenied { addresses, .. } => format!(
                "If they are right, add {} to `allow` of this source.",
                addresses.first().map_or("them", String::as_str)
            ),
            Self::SourceProtocolMismatch { found: Mismatch::RtpOnUdp, .. } => {
                "Set `protocol = \"rtp\"` on this source, or send without RTP.".into()
            }
            Self::SourceProtocolMismatch { found: Mismatch::PlainOnRtp, .. } => {
                "Set `protocol = \"udp\"` on this source, or send RTP.".into()
            }
            Self::SourceNotTs { .. } => "Set the sender to MPEG transport stream (ffmpeg: `-f mpegts` or \
                                         `-f rtp_mpegts`), without encryption."
                .into(),
            Self::SourceSyncErrors { .. } => {
                "The stream is passed on as it is; look for the damage at the sender or on the way.".into()
            }
            Self::TransportStreamErrors { checks, .. } => {
                let some = |of: &[&str]| checks.iter().any(|(check, _)| of.contains(check));
                let causes = [
                    (&["ts_sync_loss", "sync_byte"][..], "Packets are damaged, or pause, on the way here. "),
                    (&["continuity_count"], "Packets are lost or out of order on the way here. "),
                    (&["pat", "pmt", "pid"], "The encoder or multiplexer does not send often enough what it must. "),
                ];
                let causes: String = causes.into_iter().filter(|(of, _)| some(of)).map(|(_, cause)| cause).collect();
                causes + "The stream is passed on as it is."
            }
            Self::SourceOverBitrate { .. } => {
                "Raise or remove `max-bitrate` of this source, or lower the sender's rate.".into()
            }
            Self::SourceKernelDrops { .. } => {
                "If the kernel's limit is the reason, raise it: `sysctl -w net.core.rmem_max=16777216` and \
                                               `mediaconnectctl restart FLOW`; look at the load with `top -H`."
                    .into()
            }
            Self::ReceiveBufferSmall { asked, .. } => format!(
                "Run `sysctl -w net.core.rmem_max={asked}` (to keep it: /etc/sysctl.d/60-mediaconnect.conf), then \
                 `mediaconnectctl restart FLOW`."
            ),
            Self::SourceFailed { bind, .. } => format!(
                "See who holds the port with `ss -lunp sport = :{}`, and that the address is on this host with \
                 `ip address`; it is retried.",
                port(bind)
            ),
            Self::InterfaceMissing { .. } => "See `ip address`; it is opened by itself as soon as the interface is \
                                              there, or change `interface` or `network`."
                .into(),
            Self::DestinationUnresolved { host, .. } => {
                format!("Try `getent hosts {host}` on this host, or write an address; it is retried.")
            }
            Self::OutputUnreachable { destination, .. } => format!(
                "Try `ip route get {}`, and whether the receiver is on and its firewall lets port {} in; it is retried.",
                host(destination),
                port(destination)
            ),
            Self::OutputFailed { .. } => {
                "Check `interface`, `network` and `source-port` of this output against `ip address` and `ss -lunp`; \
                 it is retried."
                    .into()
            }
            _ => String::new(),
        }
    }

    /// As status shows it.
    pub fn doc(&self, since: SystemTime) -> ConditionDoc {
        ConditionDoc {
            code: self.code().to_owned(),
            severity: self.severity(),
            since: rfc3339(since),
            message: self.message(),
            help: self.help(),
        }
    }
}

fn tries_text(tries: u64) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
}

/// The port of `host:port`.
fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}

/// The host of `host:port`, without brackets.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

#[cfg(test)]
mod tests;
