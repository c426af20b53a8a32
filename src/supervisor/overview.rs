//! All flows at a glance: read from the entries themselves, without their documents.

use std::time::SystemTime;

use super::entry::{Entry, OutputEntry, Part, Problem, SourceEntry};
use super::resolve::Unresolved;
use super::srt::SrtOpen;
use super::state::State;
use super::view::Words;
use crate::config::plan::FailoverPlan;
use crate::observe::status::{AboutDoc, OutputState, OverviewDoc, RowDoc, SourceState, WorstDoc};
use crate::observe::text::{hostname, rfc3339};
use crate::time::Instant;

impl State {
    /// `/v1/overview`; `about`: also what changes rarely.
    pub(super) fn overview(&mut self, about: bool) -> OverviewDoc {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let conditions = self.condition_docs();
        let (flows, words) = self.words();
        OverviewDoc {
            flows: flows.values().map(|entry| entry.row(&words, now)).collect(),
            about: about.then(|| flows.values().map(|entry| (entry.name.to_string(), entry.about())).collect()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: hostname(),
            time: rfc3339(wall),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: self.generation,
            conditions,
        }
    }
}

impl Entry {
    fn row(&self, words: &Words<'_>, now: Instant) -> RowDoc {
        let conditions = self.conditions(words, now);
        let worst = conditions.iter().map(|(_, condition)| condition).min_by_key(|condition| condition.severity());
        let shown = self.shown();
        let sum = |figure: fn(&SourceEntry) -> u64| self.sources.values().map(|s| figure(s)).sum::<u64>();
        let merge = matches!(self.plan.failover, Some(FailoverPlan::Merge { .. })).then_some(&self.stats.merge);
        let output_states = || self.plan.outputs.keys().filter_map(|name| Some(self.outputs.get(name)?.state()));
        RowDoc {
            name: self.name.to_string(),
            state: self.state(),
            stale: self.stale.is_some(),
            source: shown.cloned(),
            source_state: shown.map(|name| self.sources.get(name).map_or(SourceState::Idle, |s| s.state())),
            legs: merge.map(|merge| (merge.active_legs.value(), self.plan.sources.len())),
            bitrate_bps: shown.and_then(|name| self.sources.get(name)).map_or(0, |s| s.sample.bps()),
            packets: merge.map_or_else(|| sum(|s| s.stats.packets.value()), |merge| merge.delivered.value()),
            packets_unrecovered: merge
                .map_or_else(|| sum(|s| s.stats.unrecovered.value()), |merge| merge.unrecovered.value()),
            sending: output_states().filter(|state| *state == OutputState::Sending).count(),
            failing: output_states().filter(|state| *state == OutputState::Error).count(),
            outputs: self.plan.outputs.len(),
            conditions: conditions.len(),
            worst: worst.map(|worst| WorstDoc { severity: worst.severity(), message: worst.message() }),
        }
    }

    fn about(&self) -> AboutDoc {
        AboutDoc {
            description: self.plan.description.clone(),
            tags: self.plan.tags.clone(),
            minute_kbps: self.shown().map(|name| self.last_minute(name)).unwrap_or_default(),
        }
    }

    /// The source that stands for all: the first on air, or the first.
    fn shown(&self) -> Option<&String> {
        let on_air = |name: &&String| self.sources.get(*name).is_some_and(|source| self.carries(source));
        self.plan.sources.keys().find(on_air).or_else(|| self.plan.sources.keys().next())
    }

    /// Whether this source's packets are the flow's.
    pub(super) fn carries(&self, source: &SourceEntry) -> bool {
        if self.plan.failover.is_some() { source.on_air() } else { source.part.is_open() }
    }
}

impl SourceEntry {
    /// In words.
    pub(super) fn state(&self) -> SourceState {
        let calls = |srt: &SrtOpen| srt.call().is_some() && srt.connected().is_empty();
        if self.part.waiting().is_some() || self.part.srt().is_some_and(calls) {
            return SourceState::Connecting;
        }
        self.sample.state
    }
}

impl OutputEntry {
    /// In words.
    pub(super) fn state(&self) -> OutputState {
        match &self.part {
            Part::Waiting(w) if matches!(w.problem, Problem::Unresolved(Unresolved::Pending(_))) => {
                OutputState::Connecting
            }
            Part::Waiting(_) => OutputState::Error,
            Part::Connecting(srt) if srt.connected().is_empty() => {
                if srt.call().is_some() {
                    OutputState::Connecting
                } else {
                    OutputState::Idle
                }
            }
            Part::Open(_) | Part::Connecting(_) | Part::Rist(_) | Part::Closed => self.sample.state,
        }
    }
}
