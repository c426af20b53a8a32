//! `[alarms.*]` and `[notifiers.*]`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::secrets::KeyFile;
use crate::config::value::{Destination, Url};
use crate::content::ContentFault;
use crate::observe::status::Severity;

/// When an alarm is raised and cleared, and who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmPlan {
    /// `false`: it is not looked at.
    pub enabled: bool,
    /// What is wrong.
    pub rule: Rule,
    /// It is raised when that has been so for so long.
    pub hold: Duration,
    /// It is cleared when that has not been so for so long.
    pub clear_after: Duration,
    /// The notifiers that are told; `None`: all.
    pub notify: Option<Vec<String>>,
    /// How bad.
    pub severity: Severity,
}

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A figure, of each source or output of a flow, or of the flow.
    Metric {
        /// Which.
        metric: Metric,
        /// On which side of the threshold it is wrong.
        wrong: Side,
        /// In the metric's base unit: bit/s, ns, or a count.
        threshold: u64,
    },
    /// One of those that are there without a table.
    Builtin(Builtin),
}

/// A side of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Less than it.
    Below,
    /// More than it.
    Above,
}

/// An alarm that is there without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// A source has carried media and does not, or can't be opened.
    SourceLost,
    /// An output can't send, or has no connection to whom it calls.
    OutputLost,
    /// Another source than the primary is on air; without a primary: the source on air changed within the last minute.
    FailoverSwitched,
    /// A leg of a merge carries other packets than the others.
    LegsNotIdentical,
    /// A file is rejected.
    ConfigRejected,
    /// Something is wrong with pictures or sound, where that is looked for.
    Content(ContentFault),
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SourceLost,
        Self::OutputLost,
        Self::FailoverSwitched,
        Self::LegsNotIdentical,
        Self::ConfigRejected,
        Self::Content(ContentFault::Black),
        Self::Content(ContentFault::Frozen),
        Self::Content(ContentFault::Silent),
        Self::Content(ContentFault::VideoMissing),
        Self::Content(ContentFault::AudioMissing),
    ];

    /// The alarm's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceLost => "source-lost",
            Self::OutputLost => "output-lost",
            Self::FailoverSwitched => "failover-switched",
            Self::LegsNotIdentical => "legs-not-identical",
            Self::ConfigRejected => "config-rejected",
            Self::Content(fault) => fault.name(),
        }
    }

    /// What it is without a table of its name.
    fn plan(self) -> AlarmPlan {
        let (hold, clear_after, severity) = match self {
            // That a source is lost takes a second to say already.
            Self::SourceLost => (0, 3, Severity::Major),
            Self::OutputLost => (3, 3, Severity::Major),
            Self::FailoverSwitched => (0, 0, Severity::Minor),
            Self::LegsNotIdentical => (0, 3, Severity::Major),
            Self::ConfigRejected => (0, 0, Severity::Minor),
            // It has lasted for as long as the flow's file says already.
            Self::Content(_) => (0, 0, Severity::Major),
        };
        let [hold, clear_after] = [hold, clear_after].map(Duration::from_secs);
        AlarmPlan { enabled: true, rule: Rule::Builtin(self), hold, clear_after, notify: None, severity }
    }

    /// Those of all.
    pub fn plans() -> BTreeMap<String, AlarmPlan> {
        Self::ALL.into_iter().map(|builtin| (builtin.name().to_owned(), builtin.plan())).collect()
    }
}

/// What the figure of a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// bit/s.
    Bitrate,
    /// A time.
    Time,
    /// How many there are.
    Count,
    /// How many more there are each second.
    PerSecond,
    /// 1 or 0.
    State,
}

/// A figure that an alarm may watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table below says what each is")]
pub enum Metric {
    FlowFailoverSwitches,
    FlowMergeActive,
    FlowMergeSkew,
    SourceArqRecovered,
    SourceArqRequests,
    SourceBitrate,
    SourceConnected,
    SourceDisconnections,
    SourceFecRecovered,
    SourceJitter,
    SourceOverflowPackets,
    SourcePackets,
    SourcePacketsDenied,
    SourcePacketsInvalid,
    SourcePacketsLate,
    SourcePacketsLost,
    SourcePacketsOverBitrate,
    SourcePacketsRecovered,
    SourcePacketsUndecrypted,
    SourcePacketsUnrecovered,
    SourceRestarts,
    SourceRoundTrip,
    SourceSyncErrors,
    SourceTsErrors,
    OutputBitrate,
    OutputConnected,
    OutputDisconnections,
    OutputPackets,
    OutputPacketsDropped,
    OutputPacketsLost,
    OutputPacketsRetransmitted,
    OutputReceivers,
}

/// A metric, its name, and what it counts.
type Named = (Metric, &'static str, Quantity);

/// As in `/metrics`, without `mediaconnect_`, unit and `_total`.
const METRICS: &[Named] = &[
    (Metric::FlowFailoverSwitches, "flow-failover-switches", Quantity::PerSecond),
    (Metric::FlowMergeActive, "flow-merge-active", Quantity::State),
    (Metric::FlowMergeSkew, "flow-merge-skew", Quantity::Time),
    (Metric::SourceArqRecovered, "source-arq-recovered", Quantity::PerSecond),
    (Metric::SourceArqRequests, "source-arq-requests", Quantity::PerSecond),
    (Metric::SourceBitrate, "source-bitrate", Quantity::Bitrate),
    (Metric::SourceConnected, "source-connected", Quantity::State),
    (Metric::SourceDisconnections, "source-disconnections", Quantity::PerSecond),
    (Metric::SourceFecRecovered, "source-fec-recovered", Quantity::PerSecond),
    (Metric::SourceJitter, "source-jitter", Quantity::Time),
    (Metric::SourceOverflowPackets, "source-overflow-packets", Quantity::PerSecond),
    (Metric::SourcePackets, "source-packets", Quantity::PerSecond),
    (Metric::SourcePacketsDenied, "source-packets-denied", Quantity::PerSecond),
    (Metric::SourcePacketsInvalid, "source-packets-invalid", Quantity::PerSecond),
    (Metric::SourcePacketsLate, "source-packets-late", Quantity::PerSecond),
    (Metric::SourcePacketsLost, "source-packets-lost", Quantity::PerSecond),
    (Metric::SourcePacketsOverBitrate, "source-packets-over-bitrate", Quantity::PerSecond),
    (Metric::SourcePacketsRecovered, "source-packets-recovered", Quantity::PerSecond),
    (Metric::SourcePacketsUndecrypted, "source-packets-undecrypted", Quantity::PerSecond),
    (Metric::SourcePacketsUnrecovered, "source-packets-unrecovered", Quantity::PerSecond),
    (Metric::SourceRestarts, "source-restarts", Quantity::PerSecond),
    (Metric::SourceRoundTrip, "source-round-trip", Quantity::Time),
    (Metric::SourceSyncErrors, "source-sync-errors", Quantity::PerSecond),
    (Metric::SourceTsErrors, "source-ts-errors", Quantity::PerSecond),
    (Metric::OutputBitrate, "output-bitrate", Quantity::Bitrate),
    (Metric::OutputConnected, "output-connected", Quantity::State),
    (Metric::OutputDisconnections, "output-disconnections", Quantity::PerSecond),
    (Metric::OutputPackets, "output-packets", Quantity::PerSecond),
    (Metric::OutputPacketsDropped, "output-packets-dropped", Quantity::PerSecond),
    (Metric::OutputPacketsLost, "output-packets-lost", Quantity::PerSecond),
    (Metric::OutputPacketsRetransmitted, "output-packets-retransmitted", Quantity::PerSecond),
    (Metric::OutputReceivers, "output-receivers", Quantity::Count),
];

/// The names alone, in the same order.
pub(in crate::config) const METRIC_NAMES: [&str; METRICS.len()] = {
    let mut names = [""; METRICS.len()];
    let mut n = 0;
    while n < names.len() {
        names[n] = METRICS[n].1;
        n += 1;
    }
    names
};

impl Metric {
    /// The metric at this place of the list of names.
    pub(in crate::config) fn at(place: usize) -> Option<Self> {
        METRICS.get(place).map(|(metric, ..)| *metric)
    }

    fn entry(self) -> Named {
        METRICS.iter().find(|(metric, ..)| *metric == self).copied().unwrap_or((self, "", Quantity::Count))
    }

    /// As written.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// What its figure counts.
    pub fn quantity(self) -> Quantity {
        self.entry().2
    }
}

/// Who is told of alarms, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifierPlan {
    /// `false`: nobody is told.
    pub enabled: bool,
    /// Every event is told, too.
    pub events: bool,
    /// How.
    pub way: Way,
    /// One attempt takes at most so long.
    pub timeout: Duration,
}

/// How a notifier tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A document is posted.
    Webhook(Url),
    /// A program is run, with the document on its standard input.
    Exec(Vec<String>),
    /// An SNMPv2c trap is sent.
    SnmpTrap(TrapPlan),
}

impl Way {
    /// The key that it is written by.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Exec(_) => "exec",
            Self::SnmpTrap(_) => "snmp-trap",
        }
    }
}

/// An SNMP trap's receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrapPlan {
    /// Usually port 162.
    pub target: Destination,
    /// The community, and the file it is in.
    pub community: KeyFile,
    /// Where the MIB hangs: the numbers of an object identifier.
    pub enterprise: Vec<u32>,
}

/// netSnmpPlaypen, below which the shipped MIB lies: 1.3.6.1.4.1.8072.9999.9999.
pub const PLAYPEN: &[u32] = &[1, 3, 6, 1, 4, 1, 8072, 9999, 9999];
