//! Which source is on air, or how all of them are: from the plan and the operator's word to the flow's task, and back in
//! words.

use crate::time::Instant;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::control::Refusal;
use super::entry::{Entry, SourceEntry};
use crate::config::plan::{FailoverPlan, FailoverRules, FlowPlan, ReturnMode, SourceProtocol, SwitchOn};
use crate::flow::AirConfig;
use crate::flow::failover::{Reason, Return, Trigger, Triggers};
use crate::flow::stats::FlowEvent;
use crate::observe::condition::Condition;
use crate::observe::event::{Event, emit};
use crate::observe::status::SourceState;

/// How long media comes without any FEC until that is said.
const FEC_EXPECTED: Duration = Duration::from_secs(5);

/// A leg none of whose packets was of use for so long takes no part.
const MERGED: Duration = Duration::from_secs(2);

/// The last time that another source went on air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastSwitch {
    pub(super) at: SystemTime,
    pub(super) from: Option<String>,
    pub(super) to: String,
    pub(super) reason: Reason,
    pub(super) gap: Duration,
}

/// What the flow's task is told.
pub(super) fn config(plan: &FlowPlan) -> AirConfig {
    match &plan.failover {
        None => AirConfig::Single,
        Some(FailoverPlan::Merge { recovery_window }) => AirConfig::Merge { window: *recovery_window },
        Some(FailoverPlan::Failover(rules)) => failover(rules),
    }
}

fn failover(rules: &FailoverRules) -> AirConfig {
    let SwitchOn { silence, min_bitrate, continuity_errors, pat_loss, unrecovered } = rules.switch_on;
    AirConfig::Failover {
        primary: rules.primary.clone(),
        back: match rules.return_mode {
            ReturnMode::Immediate => Return::Immediate,
            ReturnMode::Hold => Return::Hold(rules.hold),
            ReturnMode::Manual => Return::Manual,
        },
        triggers: Triggers {
            silence,
            min_bitrate: min_bitrate.map(|rate| rate.bps()),
            continuity_errors: continuity_errors.map(u64::from),
            pat_loss,
            unrecovered: unrecovered.map(u64::from),
        },
    }
}

/// Whether an operator may put this source on air.
///
/// # Errors
/// Why not, in words.
pub(super) fn may_switch(plan: &FlowPlan, source: &str) -> Result<(), Refusal> {
    let flow = &plan.name;
    match plan.failover {
        Some(FailoverPlan::Failover(_)) => {}
        Some(FailoverPlan::Merge { .. }) => {
            let why = format!("flow {flow} merges its sources (`mode = \"merge\"`): all of them are on air");
            return Err(Refusal::Conflict(why));
        }
        None => {
            let why = format!("flow {flow} has no [failover] table: there is nothing to switch between");
            return Err(Refusal::Conflict(why));
        }
    }
    match plan.sources.get(source) {
        None => Err(Refusal::NotFound(format!("flow {flow} has no source {source}"))),
        Some(plan) if !plan.enabled => Err(Refusal::Conflict(format!("source {source} of flow {flow} is disabled"))),
        Some(_) => Ok(()),
    }
}

/// A stable word for a reason.
pub(super) const fn reason_code(reason: Reason) -> &'static str {
    match reason {
        Reason::Start => "start",
        Reason::Failed(Trigger::Silence) => "silence",
        Reason::Failed(Trigger::MinBitrate) => "min-bitrate",
        Reason::Failed(Trigger::ContinuityErrors) => "continuity-errors",
        Reason::Failed(Trigger::PatLoss) => "pat-loss",
        Reason::Failed(Trigger::Unrecovered) => "unrecovered",
        Reason::PrimaryBack => "primary-back",
        Reason::Operator => "operator",
        Reason::Removed => "removed",
    }
}

/// Why one source followed on another.
pub(super) fn reason_in_words(reason: Reason, from: Option<&str>) -> String {
    let from = from.unwrap_or("the one before");
    match reason {
        Reason::Start => "the first one with data".to_owned(),
        Reason::Failed(Trigger::Silence) => format!("{from} was silent"),
        Reason::Failed(Trigger::MinBitrate) => format!("{from} fell below `min-bitrate`"),
        Reason::Failed(Trigger::ContinuityErrors) => format!("{from} had too many continuity errors"),
        Reason::Failed(Trigger::PatLoss) => format!("{from} had no PAT"),
        Reason::Failed(Trigger::Unrecovered) => format!("{from} lost too many packets"),
        Reason::PrimaryBack => "the primary is back".to_owned(),
        Reason::Operator => "an operator wants it".to_owned(),
        Reason::Removed => format!("{from} was removed or disabled"),
    }
}

impl Entry {
    /// Take in what the flow's task says happened, and log it.
    pub(super) fn take_events(&mut self, now: SystemTime) {
        let events = std::mem::take(&mut *self.stats.events.lock().unwrap_or_else(PoisonError::into_inner));
        for event in events {
            let flow = self.name.clone();
            match event {
                FlowEvent::Switched { from, to, reason, gap } => {
                    let why = reason_in_words(reason, from.as_deref());
                    emit(if reason == Reason::Start {
                        Event::SourceOnAir { flow, source: to.clone() }
                    } else {
                        Event::Switched { flow, from: from.clone(), to: to.clone(), why, gap }
                    });
                    self.last_switch = Some(LastSwitch { at: now, from, to, reason, gap });
                }
                FlowEvent::LegsNotIdentical { source } => emit(Event::LegsNotIdentical { flow, source }),
                FlowEvent::LegRejoined { source } => emit(Event::LegRejoined { flow, source }),
            }
        }
    }

    /// The source on air where one stands for all.
    pub(super) fn on_air(&self) -> Option<&str> {
        let mut sources = self.sources.iter();
        sources.find(|(_, source)| source.on_air()).map(|(name, _)| name.as_str())
    }

    /// Whether the flow goes on without this source: another one has data and is on air, or takes part in the merge.
    pub(super) fn covered(&self, name: &str) -> bool {
        let carries = |s: &SourceEntry| s.on_air() && s.sample.state == SourceState::Receiving;
        self.plan.failover.is_some() && self.sources.iter().any(|(other, s)| other != name && carries(s))
    }

    /// What is to be said of the sources together.
    pub(super) fn air_conditions(&self, now: Instant, add: &mut dyn FnMut(&str, Condition)) {
        match &self.plan.failover {
            Some(FailoverPlan::Failover(rules)) => self.failover_conditions(rules, add),
            Some(FailoverPlan::Merge { recovery_window }) => self.merge_conditions(*recovery_window, now, add),
            None => {}
        }
        for name in self.plan.sources.keys() {
            self.fec_conditions(name, now, &mut |condition| add(name, condition));
        }
    }

    fn failover_conditions(&self, rules: &FailoverRules, add: &mut dyn FnMut(&str, Condition)) {
        let (Some(primary), Some(on_air)) = (&rules.primary, self.on_air()) else { return };
        if primary == on_air {
            return;
        }
        let last = self.last_switch.as_ref().filter(|last| last.to == on_air);
        add(
            "",
            Condition::FailoverSwitched {
                flow: self.name.clone(),
                primary: primary.clone(),
                on_air: on_air.to_owned(),
                at: last.map_or(SystemTime::now(), |last| last.at),
                why: last.map_or_else(String::new, |last| reason_in_words(last.reason, last.from.as_deref())),
                gap: last.map_or(Duration::ZERO, |last| last.gap),
                operator: self.choice() == Some(on_air),
                returns: match rules.return_mode {
                    ReturnMode::Immediate => Some(Duration::ZERO),
                    ReturnMode::Hold => Some(rules.hold),
                    ReturnMode::Manual => None,
                },
            },
        );
    }

    fn merge_conditions(&self, window: Duration, now: Instant, add: &mut dyn FnMut(&str, Condition)) {
        let legs = || self.plan.sources.iter().filter(|(_, plan)| plan.enabled).map(|(name, _)| name);
        let takes_part = |name: &&String| self.sources.get(*name).is_some_and(|s| s.sample.merged.within(MERGED, now));
        let (active, idle): (Vec<_>, Vec<_>) = legs().partition(takes_part);
        if !active.is_empty() && !idle.is_empty() {
            let idle = idle.iter().map(|name| (*name).clone()).collect();
            add("", Condition::MergeDegraded { active: active.len(), legs: legs().count(), idle });
        }
        for (name, source) in &self.sources {
            let sends = source.sample.receiving_since.is_some_and(|at| now.saturating_duration_since(at) >= MERGED);
            if source.stats.leg.aside.value() == 1 {
                add(name, Condition::LegsNotIdentical { source: name.clone() });
            } else if sends && !active.is_empty() && idle.contains(&name) {
                add(name, Condition::LegUnmatched { source: name.clone(), window });
            }
            if let Some(condition) = too_late(name, source, window, now) {
                add(name, condition);
            }
        }
    }

    fn fec_conditions(&self, name: &str, now: Instant, add: &mut dyn FnMut(Condition)) {
        let (Some(entry), Some(plan)) = (self.sources.get(name), self.plan.sources.get(name)) else { return };
        let Some(input) = plan.datagrams() else { return };
        let SourceProtocol::RtpFec { fec_ports, .. } = input.protocol else { return };
        let (sample, fec) = (&entry.sample, &entry.stats.fec);
        let ports = fec_ports.map(|offset| input.bind.port.wrapping_add(offset));
        let source = || name.to_owned();
        let mut invalid = false;
        for (stream, kind) in ["column", "row"].into_iter().enumerate() {
            if let Some(packets) = sample.fec_invalid[stream].recent(now) {
                invalid = true;
                add(Condition::FecInvalid { source: source(), kind, port: ports[stream], packets });
            }
        }
        let received: u64 = fec.streams.iter().map(|stream| stream.packets.value()).sum();
        let expected = sample.receiving_since.is_some_and(|at| now.saturating_duration_since(at) >= FEC_EXPECTED);
        if received == 0 && !invalid && expected && sample.state == SourceState::Receiving {
            add(Condition::FecMissing { source: source(), ports });
        }
        if let Some(packets) = sample.unrecovered.recent(now).filter(|_| received > 0) {
            let (columns, rows) = (fec.columns.value(), fec.rows.value());
            add(Condition::FecInsufficient { source: source(), packets, columns, rows });
        }
    }
}

/// Whether a leg that sends comes later than the window allows.
fn too_late(name: &str, source: &SourceEntry, window: Duration, now: Instant) -> Option<Condition> {
    let (stats, late) = (&source.stats, source.sample.late.recent(now));
    let [now_ns, _, most_ns] = [0, 1, 2].map(|n| stats.leg.skew_ns[n].value().cast_signed());
    let ns = if late.is_some() { most_ns } else { now_ns };
    let skew = (stats.leg.skewed.value() == 1).then(|| Duration::from_nanos(u64::try_from(ns).unwrap_or(0)));
    // Copies are compared for a while only: of a leg that is far too late there is no skew.
    let is_late = skew.map_or(late.is_some(), |skew| skew > window);
    let sends = source.sample.state == SourceState::Receiving;
    let (source, late) = (name.to_owned(), stats.late.value());
    (is_late && sends).then_some(Condition::LegTooLate { source, skew, window, late })
}

#[cfg(test)]
mod tests;
