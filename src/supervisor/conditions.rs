//! What is not as it should be: of a flow, of its sources and outputs, and of the appliance.

use std::net::IpAddr;
use std::sync::PoisonError;

use super::entry::{Entry, Part, Problem, describe};
use super::resolve::{RECEIVE_BUFFER, Unresolved};
use super::rist;
use super::sample::FAULT;
use super::srt::{self, Media};
use super::state::State;
use super::store::{Freeze, Override, Switch};
use super::transport_stream;
use super::view::{Words, open_legs};
use crate::config::plan::{FailoverPlan, OutputPlan};
use crate::config::secrets::KeyFile;
use crate::flow;
use crate::flow::stats::Invalid;
use crate::observe::condition::{Condition, Mismatch, Role};
use crate::observe::status::{OutputState, Severity, SourceState};
use crate::time::Instant;

impl State {
    pub(super) fn conditions(&self) -> Vec<(String, Condition)> {
        let mut all = Vec::new();
        let flows = self.flows.len();
        for (path, error) in &self.unreadable {
            let condition = Condition::ConfigUnreadable { path: path.clone(), error: error.clone(), flows };
            all.push((path.display().to_string(), condition));
        }
        if let Some(first) = self.rejected.first() {
            let condition = Condition::ConfigRejected { files: self.rejected.len(), first: first.clone() };
            all.push((String::new(), condition));
        }
        for (address, error) in &self.http_failed {
            let condition = Condition::HttpFailed { address: *address, error: error.clone() };
            all.push((address.to_string(), condition));
        }
        if let Some(freeze) = &self.overrides.frozen {
            let Freeze { by, until, .. } = freeze.clone();
            all.push((String::new(), Condition::Frozen { flow: None, by, until, waiting: self.held_back.len() }));
        }
        let (running, wanted) = (&self.limits, &self.daemon.limits);
        for (key, running, wanted) in [
            ("limits.workers", running.workers.to_string(), wanted.workers.to_string()),
            ("limits.worker-cpus", running.worker_cpus.to_string(), wanted.worker_cpus.to_string()),
        ] {
            if running != wanted {
                all.push((key.to_owned(), Condition::RestartNeeded { key: key.to_owned(), running, wanted }));
            }
        }
        if let Some((_, error)) = self.shards.unpinned().first() {
            let (cpus, error) = (self.shards.unpinned().iter().map(|(cpu, _)| *cpu).collect(), error.clone());
            all.push((String::new(), Condition::WorkerCpu { cpus, error }));
        }
        self.entitlement_conditions(&mut |part, condition| all.push((part, condition)));
        if let Some(error) = &self.polling {
            let condition = Condition::WatchPolling { error: error.clone(), every: std::time::Duration::from_secs(5) };
            all.push((String::new(), condition));
        }
        let audit = self.audit.status();
        if let Some(error) = audit.error {
            let (path, records) = (self.audit.path().to_owned(), audit.records_lost);
            all.push((String::new(), Condition::AuditFailed { path, error, records }));
        }
        all
    }
}

impl Entry {
    pub(super) fn conditions(&self, words: &Words<'_>, now: Instant) -> Vec<(String, Condition)> {
        let mut all = Vec::new();
        let mut add = |part: &str, condition| all.push((part.to_owned(), condition));
        let file = || words.config_dir.join("flows.d").join(format!("{}.toml", self.name));
        let flow = || self.name.clone();
        match words.overrides.flows.get(self.name.as_str()) {
            Some(Override { enabled: false, by, since, .. }) => {
                add("", Condition::Stopped { flow: flow(), by: by.clone(), since: *since });
            }
            Some(Override { enabled: true, by, since, .. }) => {
                add("", Condition::Started { flow: flow(), by: by.clone(), since: *since });
            }
            None if !self.file.enabled => {
                let (sources, outputs) = (self.plan.sources.len(), self.plan.outputs.len());
                add("", Condition::Disabled { file: file(), sources, outputs });
            }
            None => {}
        }
        if let Some(stale) = self.stale.clone() {
            let (line, column) = (stale.line, stale.column);
            add("", Condition::StaleConfig { file: stale.file, line, column, message: stale.message });
        }
        if let Some(Freeze { by, until, .. }) = words.overrides.freeze_of(&self.name).cloned() {
            let waiting = usize::from(words.held_back.contains(self.name.as_str()));
            add("", Condition::Frozen { flow: Some(flow()), by, until, waiting });
        }
        if self.panics > 0 {
            let (message, times) = (self.panic_message.clone(), self.panics);
            add("", Condition::FlowPanicked { flow: flow(), message, times });
        }
        if self.plan.outputs.is_empty() && self.plan.entitlements.is_empty() {
            add("", Condition::NoOutputs { file: file() });
        }
        let outputs = words.overrides.outputs.get(self.name.as_str()).into_iter().flatten();
        for (name, word) in outputs.filter(|(name, _)| self.plan.outputs.contains_key(*name)) {
            let Override { enabled, by, since, .. } = word.clone();
            add(name, Condition::OutputOverride { flow: flow(), output: name.clone(), enabled, by, since });
        }
        if let Some(Switch { source, by, since }) = words.switch_of(self).cloned() {
            add("", Condition::OperatorSwitch { flow: flow(), source, by, since });
        }
        let merges = matches!(self.plan.failover, Some(FailoverPlan::Merge { .. }));
        let role = if merges { Role::Leg } else { Role::Standby };
        for name in self.plan.sources.keys() {
            let covered = self.covered(name);
            self.source_conditions(name, now, &mut |condition| {
                let covered = covered && condition.severity() == Severity::Critical;
                let of = condition;
                add(name, if covered { Condition::Covered { role, of: Box::new(of) } } else { of });
            });
        }
        if self.plan.enabled {
            self.air_conditions(now, &mut add);
            self.content_conditions(now, &mut |condition| add("", condition));
        }
        for name in self.plan.outputs.keys() {
            self.output_conditions(name, now, &mut |condition| add(name, condition));
        }
        if self.plan.enabled {
            self.entitlement_conditions(words, &mut add);
        }
        all
    }

    fn source_conditions(&self, name: &str, now: Instant, add: &mut dyn FnMut(Condition)) {
        let (Some(entry), Some(plan)) = (self.sources.get(name), self.plan.sources.get(name)) else { return };
        let source = || name.to_owned();
        let bind = || plan.place();
        match &entry.part {
            Part::Closed => return,
            Part::Waiting(waiting) => {
                let waited = now.saturating_duration_since(waiting.since);
                return add(match &waiting.problem {
                    Problem::Unresolved(Unresolved::Interface(interface)) => Condition::InterfaceMissing {
                        part: format!("source {name}"),
                        interface: interface.clone(),
                        waited,
                    },
                    problem => Condition::SourceFailed { source: source(), bind: bind(), error: describe(problem) },
                });
            }
            Part::Open(_) | Part::Rist(_) if entry.granted < RECEIVE_BUFFER => {
                let (asked, granted) = (RECEIVE_BUFFER as u64, entry.granted as u64);
                add(Condition::ReceiveBufferSmall { source: source(), asked, granted });
            }
            Part::Open(_) | Part::Connecting(_) | Part::Rist(_) => {}
        }
        let (sample, stats) = (&entry.sample, &*entry.stats);
        let last = stats.last_packet.value();
        let silent_for = now.saturating_duration_since(last.unwrap_or(entry.opened).max(entry.opened));
        if let (Part::Connecting(open), Some(plan)) = (&entry.part, plan.srt()) {
            let media = match sample.state {
                SourceState::Lost => Media::Lost { silent_for, bitrate_bps: sample.last_bps() },
                SourceState::Receiving => Media::Comes,
                SourceState::Idle | SourceState::Connecting => Media::Awaited,
            };
            let waited = now.saturating_duration_since(entry.opened);
            let home = srt::Home { flow: &self.name, part: &flow::srt::Part::Source(source()) };
            srt::conditions(home, open, plan, media, (waited, now), add);
        }
        let by_rist = entry.part.rist().zip(plan.rist());
        let known = by_rist.is_some_and(|(open, plan)| rist::source_conditions(name, open, plan, sample, now, add));
        match sample.state {
            _ if known => {}
            SourceState::Lost if plan.srt().is_none() => {
                add(Condition::SourceLost { source: source(), silent_for, bitrate_bps: sample.last_bps() });
            }
            SourceState::Idle if last.is_none_or(|at| at < entry.opened) && plan.srt().is_none() => {
                add(Condition::SourceSilent { source: source(), bind: bind(), silent_for });
            }
            _ => {}
        }
        if let Some(packets) = sample.denied.recent(now) {
            let seen = stats.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = seen.denied.iter().map(IpAddr::to_string).collect();
            add(Condition::SourceDenied { source: source(), packets, addresses });
        }
        // What is no transport stream may be many things: the most frequent one is named.
        let mut not_ts: Option<(Invalid, u64)> = None;
        for kind in Invalid::ALL {
            let Some(packets) = sample.invalid[kind as usize].recent(now) else { continue };
            let mismatch = |found| Condition::SourceProtocolMismatch { source: source(), found, packets };
            match kind {
                Invalid::RtpOnUdp => add(mismatch(Mismatch::RtpOnUdp)),
                Invalid::TsOnRtp => add(mismatch(Mismatch::PlainOnRtp)),
                _ if not_ts.is_none_or(|(_, most)| packets > most) => not_ts = Some((kind, packets)),
                _ => {}
            }
        }
        if let Some((kind, packets)) = not_ts {
            add(Condition::SourceNotTs { source: source(), found: kind.description(), packets });
        }
        if let Some(errors) = sample.sync_errors.recent(now) {
            add(Condition::SourceSyncErrors { source: source(), errors });
        }
        if sample.state == SourceState::Receiving
            && let Some(checks) = stats.analysis.read(transport_stream::errors_of_a_program)
            && !checks.is_empty()
        {
            add(Condition::TransportStreamErrors { source: source(), checks });
        }
        if let (Some(packets), Some(max)) = (sample.over_bitrate.recent(now), plan.max_bitrate) {
            add(Condition::SourceOverBitrate { source: source(), packets, max_bps: max.bps() });
        }
        if let (Some(keys), SourceState::Receiving) = (&plan.decryption, sample.state) {
            let odd = keys.odd.as_ref().map(KeyFile::name);
            for (parity, file) in [("even", Some(keys.even.name())), ("odd", odd)] {
                let bit = 1 << u64::from(parity == "odd");
                if let (Some(file), true) = (file, stats.decryption.wrong.value() & bit != 0) {
                    add(Condition::ContentKeyWrong { source: source(), parity, file: file.to_owned() });
                }
            }
            if let Some(packets) = sample.without_key.recent(now) {
                add(Condition::ContentKeyMissing { source: source(), packets, odd: keys.odd.is_none() });
            }
        }
        if let Some(packets) = sample.kernel_dropped.recent(now) {
            add(Condition::SourceKernelDrops { source: source(), packets, buffer: entry.granted as u64 });
        }
    }

    fn output_conditions(&self, name: &str, now: Instant, add: &mut dyn FnMut(Condition)) {
        let (Some(entry), Some(plan)) = (self.outputs.get(name), self.plan.outputs.get(name)) else { return };
        let output = || name.to_owned();
        let destination = || plan.place();
        match &entry.part {
            Part::Closed => {}
            Part::Waiting(waiting) => add(match &waiting.problem {
                Problem::Unresolved(Unresolved::Interface(interface)) => Condition::InterfaceMissing {
                    part: format!("output {name}"),
                    interface: interface.clone(),
                    waited: now.saturating_duration_since(waiting.since),
                },
                Problem::Unresolved(Unresolved::Name { name: host, error }) => Condition::DestinationUnresolved {
                    output: output(),
                    host: host.clone(),
                    error: error.clone(),
                    tries: waiting.tries,
                },
                Problem::Unresolved(Unresolved::Pending(_)) => return,
                Problem::Open(error) => {
                    Condition::OutputFailed { output: output(), destination: destination(), error: error.clone() }
                }
            }),
            Part::Open(_) | Part::Rist(_) if entry.sample.state != OutputState::Error => {
                let there = open_legs(&entry.part);
                for (n, leg) in plan.legs().iter().enumerate() {
                    let (open, faults) = (there[n].is_some(), &entry.stats.legs[n].last_fault);
                    let fault = faults.value().is_some_and(|at| now.saturating_duration_since(at) < FAULT);
                    if !open || fault {
                        let destination = leg.destination.to_string();
                        add(Condition::OutputLegFailed { output: output(), destination, open });
                    }
                }
                self.encryption_conditions(name, plan, now, add);
                let smoothing = plan.datagrams().and_then(|route| route.smoothing);
                if let (Some(smoothing), Some(packets)) = (smoothing, entry.sample.uneven.recent(now)) {
                    add(Condition::OutputUneven { output: output(), packets, smoothing });
                }
                if let (Some(open), Some(plan)) = (entry.part.rist(), plan.rist()) {
                    let opened = entry.opened.elapsed().unwrap_or_default();
                    let sends = entry.sample.state == OutputState::Sending;
                    rist::output_conditions(name, open, plan, sends, (opened, now), add);
                }
            }
            Part::Open(_) | Part::Rist(_) if entry.sample.state == OutputState::Error => {
                add(Condition::OutputUnreachable {
                    output: output(),
                    destination: destination(),
                    error: entry.stats.last_fault_name().to_owned(),
                    packets: entry.stats.faults().map(|(_, count)| count).sum(),
                })
            }
            Part::Connecting(srt) => {
                if let Some(plan) = plan.srt() {
                    let opened = entry.opened.elapsed().unwrap_or_default();
                    let home = srt::Home { flow: &self.name, part: &flow::srt::Part::Output(output()) };
                    srt::conditions(home, srt, plan, Media::Sends, (opened, now), add);
                }
            }
            Part::Open(_) | Part::Rist(_) => {}
        }
    }

    /// Of what an output would send, no table names it.
    fn encryption_conditions(&self, name: &str, plan: &OutputPlan, now: Instant, add: &mut dyn FnMut(Condition)) {
        let Some(wanted) = &plan.encryption else { return };
        let Some((_, stats)) = self.encryptions.iter().find(|(known, _)| known.is_same(wanted)) else { return };
        let recent = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < FAULT);
        if recent(stats.last_withheld.value()) {
            let all = !recent(stats.last_scrambled.value());
            // It takes a while until the tables have come.
            if all && self.outputs[name].opened.elapsed().is_ok_and(|age| age < FAULT) {
                return;
            }
            add(Condition::ContentWithheld { output: name.to_owned(), packets: stats.withheld.value(), all });
        }
    }
}
