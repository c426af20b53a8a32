//! The documents that status, metrics and `explain` are made of.

use crate::time::Instant;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;

use super::Dirs;
use super::alarms;
use super::control::{Actor, Command};
use super::entitle::Ledger;
use super::entry::{Entry, OutputEntry, Part, Problem};
use super::figures;
use super::resolve::Unresolved;
use super::rist;
use super::sample::Turn;
use super::srt::{self, SrtOpen};
use super::state::State;
use super::store::{Override, Overrides, Switch};
use super::transport_stream;
use crate::config::diagnostic::Level;
use crate::config::plan::{
    ControlPlan, DaemonPlan, FailoverPlan, LegPlan, OutputPlan, OutputProtocol, RtpHeader, SourceProtocol,
    SubscriberPlan, TagLabel,
};
use crate::config::secrets::KeyFile;
use crate::config::value::{FlowName, Gather};
use crate::flow::egress::{LegConfig, OutputConfig};
use crate::flow::stats::{Invalid, OutputStats};
use crate::observe::event::{Event, emit};
use crate::observe::http::{Pulse, View};
use crate::observe::status::{
    ConditionDoc, ConfigDoc, DelayDoc, FlowCounts, FlowDoc, FlowState, HistoryDoc, OutputDoc, OutputLegDoc,
    OutputState, OverrideDoc, OverviewDoc, PeerDoc, RefusedDoc, SourceDoc, SourceState, StatusDoc, VersionDoc,
    VersionTextDoc, VersionsDoc,
};
use crate::observe::text::rfc3339;

/// The state, as documents.
pub(super) struct StateView(pub(super) Rc<RefCell<State>>);

impl View for StateView {
    fn ready(&self) -> bool {
        self.0.borrow().ready
    }

    fn status(&self) -> StatusDoc {
        self.0.borrow_mut().status_doc()
    }

    fn flows(&self, each: &mut dyn FnMut(&FlowDoc)) {
        let mut state = self.0.borrow_mut();
        let (flows, words) = state.words();
        flows.values_mut().for_each(|entry| each(&entry.doc(&words)));
    }

    fn flow(&self, name: &str) -> Option<FlowDoc> {
        let name = name.parse().ok()?;
        let mut state = self.0.borrow_mut();
        let (flows, words) = state.words();
        Some(flows.get_mut(&name)?.doc(&words))
    }

    fn history(&self, name: &str, since: Duration) -> Option<HistoryDoc> {
        Some(self.0.borrow().flows.get(&name.parse::<FlowName>().ok()?)?.history(since))
    }

    fn thumbnail(&self, name: &str) -> Option<Result<Bytes, String>> {
        Some(self.0.borrow().flows.get(&name.parse::<FlowName>().ok()?)?.thumbnail())
    }

    fn overview(&self, about: bool) -> OverviewDoc {
        self.0.borrow_mut().overview(about)
    }

    fn pulse(&self) -> Pulse {
        let state = self.0.borrow();
        Pulse { turns: state.turns, generation: state.generation }
    }

    fn tag_labels(&self) -> Vec<TagLabel> {
        self.0.borrow().daemon.http.tag_labels.clone()
    }

    fn control(&self) -> ControlPlan {
        self.0.borrow().daemon.control.clone()
    }

    fn operators(&self, flow: &FlowName) -> Vec<String> {
        self.0.borrow().flows.get(flow).map(|entry| entry.file.operators.clone()).unwrap_or_default()
    }

    fn token(&self) -> Option<KeyFile> {
        self.0.borrow().daemon.http.token.clone()
    }

    fn versions(&self) -> VersionsDoc {
        self.0.borrow().store.versions().newest()
    }

    fn versions_of(&self, flow: &FlowName) -> Vec<VersionDoc> {
        self.0.borrow().store.versions().of(flow.as_str())
    }

    fn version(&self, flow: &FlowName, number: u64) -> Option<VersionTextDoc> {
        let text = self.0.borrow().store.versions().text(flow.as_str(), number)?;
        Some(VersionTextDoc { number, text: String::from_utf8(text).ok()? })
    }

    fn audit_refused(&self, actor: Actor, command: &Command) {
        let (words, flow) = command.in_words();
        let line = flow.map_or_else(|| words.clone(), |flow| format!("{words} {flow}"));
        emit(Event::OperatorDenied { by: actor.name.clone(), uid: actor.uid, command: line });
        let s = self.0.borrow();
        if let Some(held) = s.audit.admits_refusal() {
            let before = if held > 0 { format!("; {held} before are not recorded") } else { String::new() };
            s.audit.record(actor.record(command, Some(format!("not one of those who may{before}"))));
        }
    }

    fn count_refused(&self) {
        let refused = &self.0.borrow().http_refused;
        refused.set(refused.get() + 1);
    }
}

/// What is said of flows outside of them.
pub(super) struct Words<'a> {
    pub(super) overrides: &'a Overrides,
    pub(super) held_back: &'a BTreeSet<String>,
    pub(super) config_dir: &'a Path,
    pub(super) subscribers: &'a BTreeMap<String, Arc<SubscriberPlan>>,
    pub(super) ledger: &'a Ledger,
    /// `[entitlements]` is there.
    pub(super) has_entitlement_port: bool,
}

impl<'a> Words<'a> {
    fn new(
        (overrides, held_back): (&'a Overrides, &'a BTreeSet<String>),
        dirs: &'a Dirs,
        daemon: &DaemonPlan,
        (subscribers, ledger): (&'a BTreeMap<String, Arc<SubscriberPlan>>, &'a Ledger),
    ) -> Self {
        let has_entitlement_port = daemon.entitlements.is_some();
        Self { overrides, held_back, config_dir: &dirs.config, subscribers, ledger, has_entitlement_port }
    }

    /// The operator's word on which source is on air, where it counts.
    pub(super) fn switch_of(&self, entry: &Entry) -> Option<&Switch> {
        self.overrides.switches.get(entry.name.as_str()).filter(|_| entry.choice().is_some())
    }
}

impl State {
    pub(super) fn words(&mut self) -> (&mut BTreeMap<FlowName, Entry>, Words<'_>) {
        let Self { flows, overrides, held_back, dirs, daemon, subscribers, entitlements, .. } = self;
        (flows, Words::new((overrides, held_back), dirs, daemon, (subscribers, &entitlements.ledger)))
    }

    /// Sample all flows, remember since when each condition holds, and look at the alarms when it is time: all of one
    /// flow at a time, while its memory is at hand.
    pub(super) fn look(&mut self, now: Instant) {
        let wall = SystemTime::now();
        let conditions = self.conditions();
        let mut turned = self.since.note(&conditions, wall);
        let alarms = self.alarms_at <= now;
        let Self { flows, overrides, held_back, dirs, daemon, subscribers, entitlements, .. } = self;
        let words = Words::new((overrides, held_back), dirs, daemon, (subscribers, &entitlements.ledger));
        for entry in flows.values_mut() {
            entry.sample(now);
            let conditions = entry.conditions(&words, now);
            turned |= entry.conditions_since.note(&conditions, wall);
            if alarms {
                entry.watch_alarms(&daemon.alarms, now);
            }
        }
        self.turns += u64::from(turned);
        if alarms {
            self.alarms_at = now + alarms::INTERVAL;
            self.watch_alarms(now);
        }
    }

    /// What is wrong with the appliance, worst first.
    pub(super) fn condition_docs(&mut self) -> Vec<ConditionDoc> {
        let conditions = self.conditions();
        self.since.stamp(conditions, SystemTime::now())
    }

    fn status_doc(&mut self) -> StatusDoc {
        let mut flows = FlowCounts { total: self.flows.len(), ..FlowCounts::default() };
        for entry in self.flows.values() {
            *match entry.state() {
                FlowState::Active => &mut flows.active,
                FlowState::Standby => &mut flows.standby,
                FlowState::Starting => &mut flows.starting,
                FlowState::Error => &mut flows.error,
            } += 1;
            flows.stale += usize::from(entry.stale.is_some());
        }
        let conditions = self.condition_docs();
        StatusDoc {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: ConfigDoc {
                generation: self.generation,
                last_reload: rfc3339(self.last_reload),
                success: self.diagnostics.iter().all(|d| d.severity != Level::Error),
                diagnostics: self.diagnostics.clone(),
            },
            flows,
            conditions,
            entitlements: self.entitlements_doc(),
            alarms: self.alarms.docs(),
            notifiers: self.notifiers.docs(),
            http_requests_refused: self.http_refused.get(),
            audit: self.audit.status(),
        }
    }
}

impl Entry {
    /// In words.
    pub(super) fn state(&self) -> FlowState {
        if !self.plan.enabled {
            return FlowState::Standby;
        }
        let waiting = || {
            let sources = self.sources.values().filter_map(|s| s.part.waiting());
            sources.chain(self.outputs.values().filter_map(|o| o.part.waiting()))
        };
        let pending = |p: &Problem| matches!(p, Problem::Unresolved(Unresolved::Pending(_)));
        if self.sources.values().any(|s| s.part.waiting().is_some_and(|w| !pending(&w.problem))) {
            return FlowState::Error;
        }
        let wanted = self.plan.sources.iter().filter(|(_, p)| p.enabled);
        let closed = wanted.filter(|(name, _)| self.sources.get(*name).is_none_or(|s| matches!(s.part, Part::Closed)));
        if closed.count() > 0 || waiting().any(|w| pending(&w.problem)) {
            return FlowState::Starting;
        }
        FlowState::Active
    }

    /// Read the counters, and say what changed.
    pub(super) fn sample(&mut self, now: Instant) {
        self.delay.update(&self.stats.delays, now);
        self.take_events(SystemTime::now());
        // First all of them: what is said of one depends on the others.
        let turns: Vec<_> = self
            .sources
            .values_mut()
            .map(|source| source.sample.update(&source.stats, source.part.is_open(), now))
            .collect();
        for ((name, source), (turn, restarted)) in self.sources.iter().zip(turns) {
            let covered = self.covered(name);
            let (flow, name) = (|| self.name.clone(), || name.clone());
            let silent_for =
                source.stats.last_packet.value().map(|at| now.saturating_duration_since(at)).unwrap_or_default();
            match turn {
                Turn::None => {}
                Turn::First => {
                    let seen = source.stats.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let connected = source.part.srt().map(SrtOpen::connected).unwrap_or_default();
                    let from = seen.peers.first().map(|(from, _)| *from).or(connected.first().map(|peer| peer.address));
                    if let Some(from) = from {
                        emit(Event::SourceReceiving { flow: flow(), source: name(), from });
                    }
                }
                Turn::Lost => {
                    let bitrate_bps = source.sample.last_bps();
                    emit(Event::SourceLost { flow: flow(), source: name(), silent_for, bitrate_bps, covered });
                }
                Turn::Back(after) => emit(Event::SourceBack { flow: flow(), source: name(), after }),
            }
            if restarted {
                let why = format!("it is SSRC 0x{:08x} now", source.stats.ssrc.value() & 0xFFFF_FFFF);
                emit(Event::StreamRestarted { flow: flow(), source: name(), why });
            }
        }
        for (name, output) in &mut self.outputs {
            let open = output.part.is_open();
            let turn = output.sample.update(&output.stats, open, now);
            let (flow, output_name) = (self.name.clone(), name.clone());
            match turn {
                Turn::None | Turn::First => {}
                Turn::Lost => {
                    let destination = self.plan.outputs.get(name).map(OutputPlan::place);
                    let error = output.stats.last_fault_name().to_owned();
                    let destination = destination.unwrap_or_default();
                    emit(Event::OutputFailed { flow, output: output_name, destination, error });
                }
                Turn::Back(after) => {
                    let dropped = output.stats.dropped.value();
                    emit(Event::OutputBack { flow, output: output_name, after, dropped });
                }
            }
        }
        self.sample_entitlements(now);
        self.sample_content(now);
    }

    fn doc(&mut self, words: &Words<'_>) -> FlowDoc {
        let now = Instant::now();
        // Figures are of now: what happened must not come later.
        self.take_events(SystemTime::now());
        let conditions = self.conditions(words, now);
        let conditions = self.conditions_since.stamp(conditions, SystemTime::now());
        FlowDoc {
            name: self.name.to_string(),
            state: self.state(),
            stale_config: self.stale.is_some(),
            tags: self.plan.tags.clone(),
            description: self.plan.description.clone(),
            gather: match self.plan.gather {
                Gather::Auto => "auto".to_owned(),
                Gather::For(time) => humantime::format_duration(time).to_string(),
            },
            gather_budget_ms: (self.state() == FlowState::Active).then(|| match self.plan.gather {
                Gather::Auto => millis(Duration::from_nanos(self.stats.budget.value())),
                Gather::For(time) => millis(time),
            }),
            added_delay_ms: self.delay.percentiles().map(|[p50, p99]| DelayDoc { p50: millis(p50), p99: millis(p99) }),
            operator_override: match words.overrides.flows.get(self.name.as_str()) {
                Some(word) => Some(override_doc(word, ["start", "stop"])),
                None => words.switch_of(self).map(figures::switch_doc),
            },
            failover: self.failover_doc(),
            merge: self.merge_doc(),
            transport_stream: transport_stream::doc(&self.stats.merge.analysis),
            content: self.content_doc(now),
            thumbnail: self.thumbnail_doc(),
            sources: self.plan.sources.keys().filter_map(|n| Some((n.clone(), self.source_doc(n)?))).collect(),
            outputs: self.plan.outputs.keys().filter_map(|n| Some((n.clone(), self.output_doc(n, words)?))).collect(),
            entitlements: self.entitlement_docs(words),
            conditions,
            alarms: self.alarms.docs(),
        }
    }

    fn source_doc(&self, name: &str) -> Option<SourceDoc> {
        let plan = self.plan.sources.get(name)?;
        let blank = Default::default();
        let entry = self.sources.get(name);
        let stats = entry.map_or(&blank, |e| &*e.stats);
        let seen = stats.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rtp = plan.is_rtp();
        let invalid: BTreeMap<_, _> = Invalid::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), stats.invalid[*kind as usize].value()))
            .filter(|(_, count)| *count > 0)
            .collect();
        let open = entry.is_some_and(|e| e.part.is_open());
        let by_srt = entry.and_then(|e| e.part.srt());
        let arq = plan.srt().is_some() || plan.rist().is_some();
        let jitter_ms = rtp.then(|| millis(Duration::from_nanos(stats.jitter_ns.value())));
        let ssrc = stats.ssrc.value();
        Some(SourceDoc {
            protocol: plan.protocol_name().to_owned(),
            state: entry.map_or(SourceState::Idle, |e| e.state()),
            on_air: entry.is_some_and(|e| self.carries(e)),
            description: plan.description.clone(),
            bind: plan.place(),
            peers: match by_srt {
                Some(srt) => srt.connected().iter().map(|peer| srt::peer_doc(peer, true)).collect(),
                None => seen.peers.iter().map(|(address, since)| peer_doc(*address, *since)).collect(),
            },
            bitrate_bps: entry.map_or(0, |e| e.sample.bps()),
            packets: stats.packets.value(),
            bytes: stats.bytes.value(),
            packets_lost: stats.lost.value(),
            packets_recovered: stats.recovered.value(),
            packets_unrecovered: stats.unrecovered.value(),
            packets_duplicate: stats.duplicate.value(),
            packets_reordered: stats.reordered.value(),
            packets_late: stats.late.value(),
            packets_denied: stats.denied.value(),
            denied_addresses: seen.denied.iter().map(IpAddr::to_string).collect(),
            packets_invalid: invalid.values().sum(),
            invalid,
            packets_over_bitrate: stats.over_bitrate.value(),
            packets_kernel_dropped: stats.kernel_dropped.value(),
            sync_errors: stats.sync_errors.value(),
            jitter_ms,
            ssrc: (ssrc != 0).then(|| format!("0x{:08x}", ssrc & 0xFFFF_FFFF)),
            restarts: stats.restarts.value(),
            decryption: plan.decryption.as_ref().map(|_| figures::decryption_doc(&stats.decryption)),
            fec: matches!(plan.datagrams(), Some(input) if matches!(input.protocol, SourceProtocol::RtpFec { .. }))
                .then(|| figures::fec_doc(&stats.fec)),
            leg: matches!(self.plan.failover, Some(FailoverPlan::Merge { .. })).then(|| figures::leg_doc(stats)),
            packets_undecrypted: arq.then(|| stats.undecrypted.value()),
            arq_requests: arq.then(|| stats.arq_requests.value()),
            arq_recovered: arq.then(|| stats.arq_recovered.value()),
            round_trip_ms: Some(stats.round_trip_ns.value())
                .filter(|ns| *ns > 0 && by_srt.map_or(plan.rist().is_some(), |srt| !srt.connected().is_empty()))
                .map(|ns| millis(Duration::from_nanos(ns))),
            disconnections: by_srt.map(|srt| srt.roster.tally.disconnections()),
            calls_refused: by_srt.filter(|srt| srt.call().is_none()).map(|srt| srt.roster.tally.refused()),
            refused_by_reason: by_srt.map(refused_by_reason).unwrap_or_default(),
            refused: by_srt.map(refused_docs).unwrap_or_default(),
            rist: plan.rist().map(|rist| Box::new(rist::source_doc(rist, entry.and_then(|e| e.part.rist())))),
            transport_stream: transport_stream::doc(&stats.analysis),
            receive_buffer_bytes: if open { entry.map_or(0, |e| e.granted as u64) } else { 0 },
        })
    }

    fn output_doc(&self, name: &str, words: &Words<'_>) -> Option<OutputDoc> {
        let plan = self.plan.outputs.get(name)?;
        let blank = Default::default();
        let entry = self.outputs.get(name);
        let stats = entry.map_or(&blank, |e| &*e.stats);
        let peers = entry
            .into_iter()
            .flat_map(|e| open_legs(&e.part).into_iter().flatten().map(|leg| peer_doc(leg.address, e.opened)));
        let by_srt = entry.and_then(|e| e.part.srt());
        let connected = by_srt.map(SrtOpen::connected).unwrap_or_default();
        let word = words.overrides.outputs.get(self.name.as_str()).and_then(|outputs| outputs.get(name));
        let own_header = matches!(plan.header(), Some(RtpHeader::Regenerate { .. })) || plan.rist().is_some();
        let arq = plan.srt().is_some() || plan.rist().is_some();
        Some(OutputDoc {
            protocol: plan.protocol_name().to_owned(),
            state: entry.map_or(OutputState::Idle, |e| e.state()),
            description: plan.description.clone(),
            destination: plan.place(),
            operator_override: word.map(|o| override_doc(o, ["enable", "disable"])),
            peers: peers.chain(connected.iter().map(|peer| srt::peer_doc(peer, false))).collect(),
            bitrate_bps: entry.map_or(0, |e| e.sample.bps()),
            packets: stats.packets.value(),
            bytes: stats.bytes.value(),
            packets_dropped: stats.dropped.value(),
            packets_retransmitted: stats.retransmitted.value(),
            packets_lost: arq.then(|| stats.lost.value()),
            arq_requests: arq.then(|| stats.arq_requests.value()),
            max_callers: plan.srt().and_then(|srt| srt.mode.max_callers()).map(|most| most as u64),
            disconnections: by_srt.map(|srt| srt.roster.tally.disconnections()),
            calls_refused: by_srt.filter(|srt| srt.call().is_none()).map(|srt| srt.roster.tally.refused()),
            refused_by_reason: by_srt.map(refused_by_reason).unwrap_or_default(),
            refused: by_srt.map(refused_docs).unwrap_or_default(),
            fec_packets:
                matches!(plan.datagrams(), Some(route) if matches!(route.protocol, OutputProtocol::RtpFec { .. }))
                    .then(|| stats.fec_packets.value()),
            encryption: plan.encryption.as_ref().and_then(|wanted| {
                let (_, stats) = self.encryptions.iter().find(|(known, _)| known.is_same(wanted))?;
                Some(figures::encryption_doc(stats))
            }),
            smoothing: plan
                .datagrams()
                .and_then(|route| route.smoothing)
                .map(|_| figures::smoothing_doc(&stats.smoothing)),
            legs: plan
                .legs()
                .iter()
                .enumerate()
                .map(|(n, leg)| output_leg_doc(n, leg, entry.map(|e| &**e), stats))
                .collect(),
            rist: plan
                .rist()
                .map(|rist| Box::new(rist::output_doc(rist, entry.and_then(|e| e.part.rist()), Instant::now()))),
            errors: stats.faults().map(|(name, count)| (name.to_owned(), count)).collect(),
            ssrc: entry.filter(|_| own_header).map(|e| format!("0x{:08x}", e.ssrc)),
        })
    }
}

/// Where an output sends to, by the number of the leg.
pub(super) fn open_legs(part: &Part<OutputConfig>) -> [Option<LegConfig>; 2] {
    match part {
        Part::Open(config) => config.legs,
        Part::Rist(open) => open.legs(),
        Part::Closed | Part::Waiting(_) | Part::Connecting(_) => [None, None],
    }
}

fn peer_doc(address: SocketAddr, since: SystemTime) -> PeerDoc {
    let (address, since) = (address.to_string(), rfc3339(since));
    PeerDoc { address, since, number: None, subscriber: None, bytes: None, srt: None }
}

fn refused_docs(srt: &SrtOpen) -> Vec<RefusedDoc> {
    srt.roster.refusals().iter().map(srt::refused_doc).collect()
}

fn refused_by_reason(srt: &SrtOpen) -> BTreeMap<String, u64> {
    srt.roster.tally.refused_by_reason().map(|(code, count)| (code.to_owned(), count)).collect()
}

fn output_leg_doc(n: usize, leg: &LegPlan, entry: Option<&OutputEntry>, stats: &OutputStats) -> OutputLegDoc {
    let open = entry.is_some_and(|e| open_legs(&e.part)[n].is_some());
    OutputLegDoc {
        destination: leg.destination.to_string(),
        open,
        packets: stats.legs[n].packets.value(),
        packets_dropped: stats.legs[n].dropped.value(),
        errors: stats.legs[n].faults.value(),
    }
}

fn override_doc(word: &Override, [yes, no]: [&str; 2]) -> OverrideDoc {
    let action = if word.enabled { yes } else { no }.to_owned();
    OverrideDoc { action, by: word.by.clone(), since: rfc3339(word.since) }
}

/// To a microsecond.
#[allow(clippy::cast_precision_loss, reason = "microseconds fit 53 bits")]
pub(super) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// From nanoseconds, to a microsecond.
#[allow(clippy::cast_precision_loss, reason = "microseconds fit 53 bits")]
pub(super) fn signed_millis(ns: i64) -> f64 {
    (ns / 1000) as f64 / 1e3
}
