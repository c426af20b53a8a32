//! Which source of a flow is on air: hot standby over any number of sources. Without I/O; time is an argument.
//!
//! A source is healthy while it has data and no trigger of [`Triggers`] holds against it. The one on air stays until it
//! is not. Then the primary takes over if it may be back, else whichever sends and has been healthy longest. If none is healthy,
//! the one on air stays as long as it has data; without, any that has data takes over; if none has, it stays. The primary
//! comes back by [`Return`]: by default once it has been healthy for `hold` without a break. The operator's choice wins
//! over all of this, and stays on air also when silent, until it is cleared or that source is removed.
//!
//! Silence of a source that was on air is noted by [`Failover::handle_timeout`] only: call it when all sources were read,
//! so that a stall of the whole process is no silence of one source.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use self::health::Health;
pub use self::health::{Sample, Trigger, Triggers};

mod health;

/// Events kept until they are polled.
const MOST_EVENTS: usize = 16;

/// A source of a [`Failover`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceId(u32);

/// When the primary takes over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Return {
    /// With its first data.
    Immediate,
    /// Once it has been healthy for so long without a break.
    Hold(Duration),
    /// By the operator, or when the one on air fails.
    Manual,
}

/// How a flow fails over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverConfig {
    /// The preferred source; `None`: whichever is on air stays.
    pub primary: Option<SourceId>,
    /// How the primary comes back.
    pub back: Return,
    /// What makes a source unhealthy.
    pub triggers: Triggers,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        Self { primary: None, back: Return::Hold(Duration::from_secs(5)), triggers: Triggers::default() }
    }
}

/// Why a source went on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing had been on air.
    Start,
    /// The source on air failed.
    Failed(Trigger),
    /// The primary is back.
    PrimaryBack,
    /// The operator's choice.
    Operator,
    /// The source on air was removed or disabled.
    Removed,
}

/// A source is on air, and its first packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Was on air; `None`: nothing was.
    pub from: Option<SourceId>,
    /// Is on air.
    pub to: SourceId,
    /// Why.
    pub reason: Reason,
    /// From the last packet on air to the first one of `to`.
    pub gap: Duration,
}

/// Decides which source is on air.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Failover {
    config: FailoverConfig,
    sources: Vec<Option<Health>>,
    on_air: Option<SourceId>,
    operator: Option<SourceId>,
    /// A decision whose first packet is yet to come: what was on air, and why it no longer is.
    turning: Option<(Option<SourceId>, Reason)>,
    /// The last packet on air.
    last_out: Option<Instant>,
    events: VecDeque<Switch>,
}

impl Failover {
    /// Without sources.
    pub fn new(config: FailoverConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Add a source. No two ever have the same number.
    pub fn add(&mut self) -> SourceId {
        self.sources.push(Some(Health::default()));
        SourceId(u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX))
    }

    /// A source was removed or disabled: it is no longer the primary, nor the operator's choice.
    /// [`Self::poll_timeout`] may change.
    pub fn remove(&mut self, id: SourceId, now: Instant) {
        let Some(source) = self.sources.get_mut(id.0 as usize) else { return };
        *source = None;
        self.config.primary.take_if(|primary| *primary == id);
        self.operator.take_if(|choice| *choice == id);
        if self.on_air.take_if(|on_air| *on_air == id).is_some() {
            self.turning.get_or_insert((Some(id), Reason::Removed));
        }
        self.decide(now, None);
    }

    /// Change how the flow fails over. [`Self::poll_timeout`] may change.
    pub fn retune(&mut self, config: FailoverConfig, now: Instant) {
        self.config = config;
        for source in self.sources.iter_mut().flatten() {
            source.retune(now, &config.triggers);
        }
        self.decide(now, None);
    }

    /// The operator puts a source on air. Whether there is such a source. [`Self::poll_timeout`] may change.
    pub fn switch(&mut self, id: SourceId, now: Instant) -> bool {
        let known = self.health(id).is_some();
        if known {
            self.operator = Some(id);
            self.decide(now, None);
        }
        known
    }

    /// The operator's choice is over. [`Self::poll_timeout`] may change.
    pub fn clear(&mut self, now: Instant) {
        self.operator = None;
        self.decide(now, None);
    }

    /// How the flow fails over.
    pub const fn config(&self) -> &FailoverConfig {
        &self.config
    }

    /// The source on air.
    pub const fn on_air(&self) -> Option<SourceId> {
        self.on_air
    }

    /// The operator's choice.
    pub const fn operator(&self) -> Option<SourceId> {
        self.operator
    }

    /// Whether a source is healthy now.
    pub fn healthy(&self, id: SourceId, now: Instant) -> bool {
        self.health(id).is_some_and(|health| self.fit(health, now))
    }

    /// What holds against a source now; `None`: it is healthy, or there is no such source.
    pub fn fault(&self, id: SourceId, now: Instant) -> Option<Trigger> {
        let health = self.health(id)?;
        if health.fresh(now, &self.config.triggers) { health.fault() } else { Some(Trigger::Silence) }
    }

    /// Packets of a source came. Whether they go out. [`Self::poll_timeout`] may change.
    pub fn packet(&mut self, id: SourceId, now: Instant) -> bool {
        let Some(Some(source)) = self.sources.get_mut(id.0 as usize) else { return false };
        let news = source.packet(now, &self.config.triggers);
        if self.on_air != Some(id) && (news || self.may_return(id, now) || self.overdue(now)) {
            self.decide(now, Some(id));
        }
        if self.on_air != Some(id) {
            return false;
        }
        if let Some((from, reason)) = self.turning.take() {
            let gap = self.last_out.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            if self.events.len() < MOST_EVENTS {
                self.events.push_back(Switch { from, to: id, reason, gap });
            }
        }
        self.last_out = Some(now);
        true
    }

    /// A source's figures, at least twice a second. [`Self::handle_timeout`], called when those of all sources were given,
    /// decides by them.
    pub fn sample(&mut self, id: SourceId, now: Instant, sample: Sample) {
        if let Some(Some(source)) = self.sources.get_mut(id.0 as usize) {
            source.sample(now, sample, &self.config.triggers);
        }
    }

    /// Time has passed: decide. Call it after the packets, or the figures, of all sources. Afterwards [`Self::poll_timeout`] is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for source in self.sources.iter_mut().flatten() {
            source.pass(now, &self.config.triggers);
        }
        self.decide(now, None);
    }

    /// When [`Self::handle_timeout`] is to be called at the latest: the source on air turns silent. `None`: no decision
    /// waits for time. The primary's hold needs none: it comes back with a packet of its own.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.operator.is_some() {
            return None;
        }
        self.on_air.and_then(|id| self.health(id)?.silent_at(&self.config.triggers))
    }

    /// A source has gone on air; ask until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Switch> {
        self.events.pop_front()
    }

    fn health(&self, id: SourceId) -> Option<&Health> {
        self.sources.get(id.0 as usize)?.as_ref()
    }

    fn fit(&self, health: &Health, now: Instant) -> bool {
        health.healthy_since().is_some() && health.fresh(now, &self.config.triggers)
    }

    /// Whether this is the primary, and its time to come back has come.
    fn may_return(&self, id: SourceId, now: Instant) -> bool {
        let since = self.health(id).and_then(Health::healthy_since);
        let hold = match self.config.back {
            Return::Immediate => Duration::ZERO,
            Return::Hold(hold) => hold,
            Return::Manual => return false,
        };
        self.config.primary == Some(id) && since.is_some_and(|since| now.saturating_duration_since(since) >= hold)
    }

    /// The source that was chosen turned out not to send: it fell silent together with the one before.
    fn overdue(&self, now: Instant) -> bool {
        let on_air = self.on_air.filter(|_| self.turning.is_some()).and_then(|id| self.health(id));
        on_air.is_some_and(|health| !health.sends(now, &self.config.triggers))
    }

    /// `sender`: whose packet came just now.
    fn decide(&mut self, now: Instant, sender: Option<SourceId>) {
        let Some((to, reason)) = self.choose(now, sender) else { return };
        if self.on_air == Some(to) {
            return;
        }
        let from = match self.turning {
            // The decision before never had a packet.
            Some((from, _)) => from,
            None => self.on_air,
        };
        self.on_air = Some(to);
        self.turning = (from != Some(to)).then_some((from, reason));
    }

    /// What should be on air; `None`: nothing yet.
    fn choose(&self, now: Instant, sender: Option<SourceId>) -> Option<(SourceId, Reason)> {
        if let Some(choice) = self.operator {
            return Some((choice, Reason::Operator));
        }
        let on_air = self.on_air.and_then(|id| Some((id, self.health(id)?)));
        let reason = match on_air {
            Some((_, health)) => Reason::Failed(health.fault().unwrap_or(Trigger::Silence)),
            None => self.turning.map_or(Reason::Start, |(_, reason)| reason),
        };
        let healthy = on_air.is_some_and(|(_, health)| health.healthy_since().is_some()) && !self.overdue(now);
        let returning = sender.filter(|sender| self.may_return(*sender, now));
        match (returning, on_air) {
            (Some(primary), _) => return Some((primary, if healthy { Reason::PrimaryBack } else { reason })),
            (None, Some((id, _))) if healthy => return Some((id, reason)),
            _ => {}
        }
        let others = || {
            let all = self.sources.iter().zip(0..).filter_map(|(health, id)| Some((health.as_ref()?, SourceId(id))));
            all.filter(|(_, id)| on_air.is_none_or(|(on_air, _)| on_air != *id))
        };
        let healthy = others().filter(|(health, _)| self.fit(health, now));
        // One that is about to turn silent comes last, the primary first, if it may be back.
        let sends = |health: &Health| health.sends(now, &self.config.triggers);
        let rank = |health, id| (!sends(health), !self.may_return(id, now), health.healthy_since(), id);
        if let Some((.., best)) = healthy.map(|(health, id)| rank(health, id)).min() {
            return Some((best, reason));
        }
        if let Some((id, _)) = on_air.filter(|(_, health)| health.has_data()) {
            return Some((id, reason));
        }
        let alive = others().filter(|(health, _)| health.fresh(now, &self.config.triggers));
        let alive = alive.map(|(health, id)| (health.since(), id)).min();
        alive.map(|(_, id)| (id, reason)).or_else(|| on_air.map(|(id, _)| (id, reason)))
    }
}

#[cfg(test)]
mod tests;
