//! Which alarms are raised: once a second, by what was sampled.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::entry::{Entry, OutputEntry, Part, Problem, SourceEntry, describe};
use super::resolve::Unresolved;
use super::srt::SrtOpen;
use super::state::State;
use crate::config::diagnostic::{Diagnostic, Level};
use crate::config::plan::{AlarmPlan, Builtin, FailoverPlan, Metric, Quantity, Rule, Side};
use crate::config::value::FlowName;
use crate::flow::failover::Reason;
use crate::observe::alarm::{Alarm, Of, Turn, Watch};
use crate::observe::event::{Event, emit};
use crate::observe::feed::feed;
use crate::observe::status::{AlarmDoc, OutputState, SourceState};
use crate::observe::text::{rate, span};
use crate::time::Instant;

/// How often they are looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Where no source is the preferred one, a switch counts for so long.
const SWITCHED: Duration = Duration::from_secs(60);

/// An alarm of a flow, or of the appliance.
type Key = (String, Of);

/// The alarms of a flow or of the appliance: those that are raised, or may soon be.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    watched: BTreeMap<Key, Watched>,
    /// The counters that are watched, as they were at the last look.
    counters: BTreeMap<Key, (Instant, u64)>,
}

#[derive(Debug, Default)]
struct Watched {
    watch: Watch,
    /// For when it is no longer wrong.
    clear_after: Duration,
    raised: Option<(Alarm, Instant)>,
}

impl Watched {
    /// How long it must be right until it is cleared.
    const fn patience(&self, is_watched: bool) -> Duration {
        if is_watched { self.clear_after } else { Duration::ZERO }
    }
}

/// What was found.
struct Finding<'a> {
    message: Cow<'a, str>,
    value: Option<f64>,
    threshold: Option<f64>,
}

/// A look at all alarms of one flow, or of the appliance.
struct Look<'a> {
    alarms: &'a mut Alarms,
    flow: Option<&'a FlowName>,
    wrong: BTreeSet<Key>,
    /// The counters that were read.
    counted: BTreeSet<Key>,
    now: Instant,
}

impl Alarms {
    /// Those that are raised, worst first.
    pub(super) fn docs(&self) -> Vec<AlarmDoc> {
        let mut docs: Vec<_> =
            self.watched.values().filter_map(|w| w.raised.as_ref()).map(|(alarm, _)| alarm.doc()).collect();
        docs.sort_by_key(|doc| doc.severity);
        docs
    }

    fn look<'a>(&'a mut self, flow: Option<&'a FlowName>, now: Instant) -> Look<'a> {
        Look { alarms: self, flow, wrong: BTreeSet::new(), counted: BTreeSet::new(), now }
    }

    /// What they were about is gone.
    pub(super) fn end(&mut self, flow: &FlowName, now: Instant) {
        for (alarm, at) in std::mem::take(&mut self.watched).into_values().filter_map(|w| w.raised) {
            emit(Event::AlarmCleared { flow: Some(flow.clone()), alarm, after: now.saturating_duration_since(at) });
        }
    }
}

impl Look<'_> {
    /// Something is wrong.
    fn wrong(&mut self, name: &str, plan: &AlarmPlan, of: Of, finding: Finding<'_>) {
        let key = (name.to_owned(), of);
        let watched = self.alarms.watched.entry(key.clone()).or_default();
        watched.clear_after = plan.clear_after;
        if watched.watch.look(true, plan.hold, plan.clear_after, self.now) == Turn::Raise {
            let alarm = Alarm {
                id: feed().new_alarm_id(),
                name: key.0.clone(),
                of: key.1.clone(),
                severity: plan.severity,
                message: finding.message.into_owned(),
                value: finding.value,
                threshold: finding.threshold,
                notify: plan.notify.clone(),
                since: SystemTime::now(),
            };
            emit(Event::AlarmRaised { flow: self.flow.cloned(), alarm: alarm.clone() });
            watched.raised = Some((alarm, self.now));
        } else if let Some((alarm, _)) = &mut watched.raised {
            // As it is now; the id, the time and the severity it was raised with stay.
            alarm.message = finding.message.into_owned();
            alarm.value = finding.value;
        }
        self.wrong.insert(key);
    }

    /// By how much a counter grew each second; `None` at the first look.
    fn per_second(&mut self, name: &str, of: &Of, value: u64) -> Option<f64> {
        let key = (name.to_owned(), of.clone());
        let before = self.alarms.counters.insert(key.clone(), (self.now, value));
        self.counted.insert(key);
        let (at, before) = before?;
        let seconds = self.now.saturating_duration_since(at).as_secs_f64();
        (seconds > 0.0).then(|| value.saturating_sub(before) as f64 / seconds)
    }

    /// All has been looked at: what was not found wrong is right. What is of no alarm by now is over at once.
    fn done(self, is_watched: impl Fn(&str) -> bool) {
        let Self { alarms, flow, wrong, counted, now } = self;
        alarms.counters.retain(|key, _| counted.contains(key));
        alarms.watched.retain(|key, watched| {
            if !wrong.contains(key)
                && watched.watch.look(false, Duration::ZERO, watched.patience(is_watched(&key.0)), now) == Turn::Clear
                && let Some((alarm, at)) = watched.raised.take()
            {
                let after = now.saturating_duration_since(at);
                emit(Event::AlarmCleared { flow: flow.cloned(), alarm, after });
            }
            !watched.watch.at_rest()
        });
    }
}

impl State {
    /// Look at the alarms of the appliance.
    pub(super) fn watch_alarms(&mut self, now: Instant) {
        let Self { alarms, daemon, diagnostics, flows, .. } = self;
        let builtin = Builtin::ConfigRejected.name();
        let mut look = alarms.look(None, now);
        if let Some(plan) = daemon.alarms.get(builtin).filter(|plan| plan.enabled) {
            // That of a flow that runs is told of the flow.
            let of_flow = |d: &Diagnostic| d.flow.as_ref().is_some_and(|name| flows.keys().any(|f| f.as_str() == name));
            if let Some(first) = diagnostics.iter().find(|d| d.severity == Level::Error && !of_flow(d)) {
                let message = rejected(&first.file, first.line, first.column, &first.message);
                look.wrong(builtin, plan, Of::Whole, Finding { message: message.into(), value: None, threshold: None });
            }
        }
        look.done(|name| daemon.alarms.get(name).is_some_and(|plan| plan.enabled));
    }
}

fn rejected(file: &Path, line: usize, column: usize, message: &str) -> String {
    match line {
        0 => format!("{} is rejected: {message}", file.display()),
        _ => format!("{}:{line}:{column} is rejected: {message}", file.display()),
    }
}

impl Entry {
    /// Look at the alarms: those of `common` that the flow has none of the same name for, and its own.
    pub(super) fn watch_alarms(&mut self, common: &BTreeMap<String, AlarmPlan>, now: Instant) {
        let mut alarms = std::mem::take(&mut self.alarms);
        let mut look = alarms.look(Some(&self.name), now);
        let own = &self.plan.alarms;
        let rules = common.iter().filter(|(name, _)| !own.contains_key(*name)).chain(own);
        for (name, plan) in rules.filter(|(_, plan)| plan.enabled) {
            match plan.rule {
                Rule::Builtin(builtin) => self.builtin(builtin, now, &mut |of, message| {
                    look.wrong(name, plan, of, Finding { message: message.into(), value: None, threshold: None });
                }),
                Rule::Metric { metric, wrong, threshold } if self.plan.enabled => {
                    for (of, figure) in self.figures(metric) {
                        let value = match figure {
                            Figure::Now(value) => Some(value),
                            Figure::Counter(value) => look.per_second(name, &of, value),
                        };
                        let Some(value) = value else { continue };
                        let threshold = match metric.quantity() {
                            Quantity::Time => threshold as f64 / 1e9,
                            _ => threshold as f64,
                        };
                        let (is_wrong, side) = match wrong {
                            Side::Below => (value < threshold, "below"),
                            Side::Above => (value > threshold, "above"),
                        };
                        if is_wrong {
                            let [shown, limit] = [value, threshold].map(|v| in_words(metric.quantity(), v));
                            let message = format!("{} is {shown}, {side} {limit}", metric.name()).into();
                            let finding = Finding { message, value: Some(value), threshold: Some(threshold) };
                            look.wrong(name, plan, of, finding);
                        }
                    }
                }
                Rule::Metric { .. } => {}
            }
        }
        look.done(|name| own.get(name).or(common.get(name)).is_some_and(|plan| plan.enabled));
        self.alarms = alarms;
    }

    fn builtin(&self, builtin: Builtin, now: Instant, wrong: &mut dyn FnMut(Of, String)) {
        match builtin {
            Builtin::SourceLost => {
                for (name, source) in &self.sources {
                    if let Some(why) = why_lost(source, now) {
                        wrong(Of::Source(name.clone()), why);
                    }
                }
            }
            Builtin::OutputLost => {
                for (name, output) in &self.outputs {
                    if let Some(why) = why_unsent(output) {
                        wrong(Of::Output(name.clone()), why);
                    }
                }
            }
            Builtin::FailoverSwitched => {
                if let Some(message) = self.switched() {
                    wrong(Of::Whole, message);
                }
            }
            Builtin::LegsNotIdentical => {
                for (name, _) in self.sources.iter().filter(|(_, s)| s.part.is_open() && s.stats.leg.aside.value() == 1)
                {
                    let message = "carries other packets than the other legs of the merge: it is set aside".to_owned();
                    wrong(Of::Source(name.clone()), message);
                }
            }
            Builtin::Content(fault) => {
                if let Some(finding) = self.content.finding(fault, now) {
                    wrong(Of::Whole, finding.to_string());
                }
            }
            Builtin::ConfigRejected => {
                if let Some(stale) = &self.stale {
                    wrong(Of::Whole, rejected(&stale.file, stale.line, stale.column, &stale.message));
                }
            }
        }
    }

    /// Whether, against what the file prefers, another source is on air; not where an operator wants it so.
    fn switched(&self) -> Option<String> {
        let Some(FailoverPlan::Failover(rules)) = &self.plan.failover else { return None };
        let on_air = self.on_air().filter(|on_air| self.choice() != Some(on_air))?;
        match &rules.primary {
            Some(primary) => {
                (primary != on_air).then(|| format!("source {on_air} is on air instead of the primary {primary}"))
            }
            None => {
                let last =
                    self.last_switch.as_ref().filter(|last| last.to == on_air && last.reason != Reason::Start)?;
                let from = last.from.as_deref().unwrap_or("another");
                let lately = last.at.elapsed().is_ok_and(|ago| ago < SWITCHED);
                lately.then(|| format!("source {on_air} took over from {from}"))
            }
        }
    }

    /// A metric's figure of each source or output, or of the flow; without those that have none now.
    fn figures(&self, metric: Metric) -> Vec<(Of, Figure)> {
        let name = metric.name();
        if name.starts_with("source-") {
            let open = self.sources.iter().filter(|(_, source)| !matches!(source.part, Part::Closed));
            open.filter_map(|(name, source)| Some((Of::Source(name.clone()), source_figure(metric, source)?))).collect()
        } else if name.starts_with("output-") {
            let open = self.outputs.iter().filter(|(_, output)| !matches!(output.part, Part::Closed));
            open.filter_map(|(name, output)| Some((Of::Output(name.clone()), output_figure(metric, output)?))).collect()
        } else {
            self.flow_figure(metric).map(|figure| (Of::Whole, figure)).into_iter().collect()
        }
    }

    fn flow_figure(&self, metric: Metric) -> Option<Figure> {
        let merges = matches!(self.plan.failover, Some(FailoverPlan::Merge { .. }));
        let merge = &self.stats.merge;
        match metric {
            Metric::FlowFailoverSwitches => (!merges).then(|| Figure::Counter(self.stats.switches.value())),
            Metric::FlowMergeActive => merges.then(|| Figure::state(merge.active_legs.value() > 1)),
            _ => merges.then(|| Figure::Now(seconds(merge.skew_ns.value()))),
        }
    }
}

/// A figure as it is read.
#[derive(Debug, Clone, Copy)]
enum Figure {
    /// As it is, in its base unit.
    Now(f64),
    /// What counts is how it grows.
    Counter(u64),
}

impl Figure {
    fn state(is: bool) -> Self {
        Self::Now(f64::from(u8::from(is)))
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn why_lost(source: &SourceEntry, now: Instant) -> Option<String> {
    if let Some(problem) = problem(&source.part) {
        return Some(format!("can't be opened: {}", describe(problem)));
    }
    if source.sample.state != SourceState::Lost {
        return None;
    }
    let silent = source.stats.last_packet.value().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    Some(format!("nothing for {}, {} before", span(silent), rate(source.sample.last_bps())))
}

fn why_unsent(output: &OutputEntry) -> Option<String> {
    if let Some(problem) = problem(&output.part) {
        return Some(format!("can't be opened: {}", describe(problem)));
    }
    if output.part.srt().is_some_and(|srt| srt.call().is_some() && srt.connected().is_empty()) {
        return Some("is not connected to whom it calls".to_owned());
    }
    let fault = || output.stats.last_fault_name();
    (output.sample.state == OutputState::Error).then(|| format!("can't send: {}", fault()))
}

/// Why a part is not open; a name that is being looked up is no reason yet.
fn problem<S>(part: &Part<S>) -> Option<&Problem> {
    let problem = &part.waiting()?.problem;
    (!matches!(problem, Problem::Unresolved(Unresolved::Pending(_)))).then_some(problem)
}

fn source_figure(metric: Metric, source: &SourceEntry) -> Option<Figure> {
    let stats = &*source.stats;
    let srt = source.part.srt();
    let connected = || srt.map_or(source.sample.state == SourceState::Receiving, |srt| !srt.connected().is_empty());
    let counter = match metric {
        Metric::SourceArqRecovered => &stats.arq_recovered,
        Metric::SourceArqRequests => &stats.arq_requests,
        Metric::SourceOverflowPackets => &stats.kernel_dropped,
        Metric::SourcePackets => &stats.packets,
        Metric::SourcePacketsDenied => &stats.denied,
        Metric::SourcePacketsLate => &stats.late,
        Metric::SourcePacketsLost => &stats.lost,
        Metric::SourcePacketsOverBitrate => &stats.over_bitrate,
        Metric::SourcePacketsRecovered => &stats.recovered,
        Metric::SourcePacketsUndecrypted => &stats.undecrypted,
        Metric::SourcePacketsUnrecovered => &stats.unrecovered,
        Metric::SourceRestarts => &stats.restarts,
        Metric::SourceSyncErrors => &stats.sync_errors,
        _ => {
            return match metric {
                Metric::SourceBitrate => Some(Figure::Now(source.sample.bps() as f64)),
                Metric::SourceConnected => Some(Figure::state(connected())),
                Metric::SourceDisconnections => srt.map(|srt| Figure::Counter(srt.roster.tally.disconnections())),
                Metric::SourceFecRecovered => {
                    let fec = &stats.fec;
                    Some(Figure::Counter(fec.recovered_by_column.value() + fec.recovered_by_row.value()))
                }
                Metric::SourceJitter => {
                    (stats.ssrc.value() != 0).then(|| Figure::Now(seconds(stats.jitter_ns.value())))
                }
                Metric::SourcePacketsInvalid => {
                    Some(Figure::Counter(stats.invalid.iter().map(|figure| figure.value()).sum()))
                }
                Metric::SourceTsErrors => {
                    let analysis = &stats.analysis;
                    analysis.read(|_| ())?;
                    Some(Figure::Counter(analysis.errors_of(1)))
                }
                Metric::SourceRoundTrip => {
                    let ns = Some(stats.round_trip_ns.value()).filter(|ns| *ns > 0 && connected())?;
                    Some(Figure::Now(seconds(ns)))
                }
                _ => None,
            };
        }
    };
    Some(Figure::Counter(counter.value()))
}

fn output_figure(metric: Metric, output: &OutputEntry) -> Option<Figure> {
    let stats = &*output.stats;
    let srt = output.part.srt();
    let receivers = |srt: &SrtOpen| srt.connected().len();
    match metric {
        Metric::OutputBitrate => Some(Figure::Now(output.sample.bps() as f64)),
        Metric::OutputConnected => {
            let sends = output.sample.state == OutputState::Sending;
            Some(Figure::state(srt.map_or(sends, |srt| receivers(srt) > 0)))
        }
        Metric::OutputDisconnections => srt.map(|srt| Figure::Counter(srt.roster.tally.disconnections())),
        Metric::OutputPackets => Some(Figure::Counter(stats.packets.value())),
        Metric::OutputPacketsDropped => Some(Figure::Counter(stats.dropped.value())),
        Metric::OutputPacketsLost => srt.map(|_| Figure::Counter(stats.lost.value())),
        Metric::OutputPacketsRetransmitted => Some(Figure::Counter(stats.retransmitted.value())),
        Metric::OutputReceivers => srt.map(|srt| Figure::Now(receivers(srt) as f64)),
        _ => None,
    }
}

fn in_words(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::Bitrate => rate(value as u64),
        Quantity::Time => format!("{:.1} ms", value * 1e3),
        Quantity::Count | Quantity::State => format!("{value:.0}"),
        Quantity::PerSecond => format!("{value:.1} a second"),
    }
}
