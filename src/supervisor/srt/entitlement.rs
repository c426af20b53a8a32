//! Entitlements of a flow: opened at the appliance's desk, and closed; their sessions ended when they may not go on.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::desk::Register;
use super::door::{Roster, Rules};
use super::ports::{Behind, OpenDoor};
use crate::config::plan::EntitlementPlan;
use crate::flow::FlowCommand;
use crate::flow::srt::stats::{PeerStats, Phase};
use crate::flow::srt::{Part, SrtOutputConfig};
use crate::flow::stats::OutputStats;
use crate::proto::srt::rekey::KM_REFRESH;
use crate::supervisor::entry::{Closing, Entry, Env};
use crate::supervisor::sample::OutputSample;
use crate::time::Instant;

/// An entitlement as the supervisor sees it.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct EntitlementEntry {
    /// `None`: its flow is stopped, or there is no desk.
    door: Option<OpenDoor>,
    /// Its sessions, however often it is opened.
    pub(in crate::supervisor) roster: Arc<Roster>,
    pub(in crate::supervisor) stats: Arc<OutputStats>,
    pub(in crate::supervisor) sample: OutputSample,
}

impl EntitlementEntry {
    /// Whether it can be called for.
    pub(in crate::supervisor) const fn is_open(&self) -> bool {
        self.door.is_some()
    }

    /// Its task is gone, and with it its sessions.
    pub(in crate::supervisor) fn lost(&mut self) {
        self.roster.peers().iter().for_each(|peer| peer.set_phase(Phase::Over));
        self.door = None;
    }

    /// Its sessions that are made.
    pub(in crate::supervisor) fn connected(&self) -> Vec<Arc<PeerStats>> {
        let mut peers = self.roster.peers();
        peers.retain(|peer| peer.phase() == Phase::Connected);
        peers
    }
}

/// What does not depend on who calls; the rest is the register's.
fn rules(plan: &EntitlementPlan) -> Rules {
    Rules {
        pattern: None,
        allow: None,
        passphrases: Vec::new(),
        km_refresh: KM_REFRESH,
        latency: plan.latency,
        most: plan.max_sessions,
    }
}

impl Entry {
    /// Open an entitlement, if its flow runs and there is a desk.
    pub(in crate::supervisor) fn open_entitlement(&mut self, name: &str, env: &Env<'_>) {
        let Some(rules) = self.plan.entitlements.get(name).map(rules).filter(|_| self.plan.enabled) else { return };
        let entry = self.entitlements.entry(name.to_owned()).or_default();
        if entry.is_open() || env.ports.borrow().desk().is_none() {
            return;
        }
        let (roster, stats) = (entry.roster.clone(), entry.stats.clone());
        self.ensure_task(env);
        let Some(task) = &self.task else { return };
        let part = Part::Entitlement(name.to_owned());
        let (flow, courier) = (self.name.clone(), task.commands.courier());
        let behind = Behind { flow, part: part.clone(), courier, shard: task.shard, roster: roster.clone() };
        let (config, shard) = (SrtOutputConfig::default(), task.shard);
        let opened = env.ports.borrow_mut().open_at_desk(behind, rules);
        match opened {
            Some(Ok(door)) => {
                // Who comes in finds it there; and those who are in already may not be allowed to stay.
                let open = FlowCommand::OpenSrtOutput { part: part.clone(), config, encryption: None, stats };
                self.send(open);
                let ports = env.ports.borrow();
                self.go_on_with(&part, &roster, |link| ports.socket_of(ports.desk()?, link.id(), shard));
                if let Some(entry) = self.entitlements.get_mut(name) {
                    entry.door = Some(door);
                }
            }
            Some(Err(error)) => {
                // Tried again with the next change: the desk's own socket is open.
                tracing::error!(target: "mediaconnect::srt", "{}/{name} can't be opened: {error}", self.name);
                self.end_if_idle();
            }
            None => self.end_if_idle(),
        }
    }

    /// Open all that are not open.
    pub(in crate::supervisor) fn open_entitlements(&mut self, env: &Env<'_>) {
        for name in self.plan.entitlements.keys().cloned().collect::<Vec<_>>() {
            self.open_entitlement(&name, env);
        }
        self.go_on(env.now);
    }

    /// Close an entitlement; its sessions end.
    pub(in crate::supervisor) fn close_entitlement(&mut self, name: &str, why: &str, closing: &mut Closing) {
        let Some(entry) = self.entitlements.get_mut(name) else { return };
        if entry.door.take().is_none() {
            return;
        }
        entry.roster.peers().iter().for_each(|peer| peer.close_because(why.to_owned()));
        let (done, closed) = oneshot::channel();
        self.send(FlowCommand::CloseEntitlement(name.to_owned(), done));
        closing.push(closed);
    }

    /// Close all of them.
    pub(in crate::supervisor) fn close_entitlements(&mut self, why: &str, closing: &mut Closing) {
        for name in self.entitlements.keys().cloned().collect::<Vec<_>>() {
            self.close_entitlement(&name, why, closing);
        }
    }

    /// What can be changed while sessions go on is changed. Those that may not go on are the register's business.
    pub(in crate::supervisor) fn retune_entitlement(&self, name: &str) {
        let (Some(plan), Some(entry)) = (self.plan.entitlements.get(name), self.entitlements.get(name)) else { return };
        entry.door.iter().for_each(|door| door.set_rules(rules(plan)));
    }

    /// Enter its entitlements into a register.
    pub(in crate::supervisor) fn enter(&self, register: &mut Register) {
        if self.plan.entitlements.is_empty() {
            return;
        }
        let open = self.entitlements.iter().filter_map(|(name, entry)| Some((name, entry.door.as_ref()?)));
        let carrying = self.sources.values().filter(|source| self.carries(source));
        let bps = carrying.map(|source| source.sample.bps()).max().unwrap_or(0);
        register.add_flow(self.plan.clone(), bps, open);
    }

    /// End the sessions that may not go on by a register.
    pub(in crate::supervisor) fn end_revoked(&self, register: &Register, wall: SystemTime) {
        for (name, entry) in &self.entitlements {
            for peer in entry.roster.peers() {
                if let Some(why) = register.revoked(&self.name, name, &peer, wall) {
                    peer.close_because(why);
                    self.send(FlowCommand::CloseLink(peer.number));
                }
            }
        }
    }

    /// End one session.
    pub(in crate::supervisor) fn end_session(&self, peer: &PeerStats, why: &str) {
        peer.close_because(why.to_owned());
        self.send(FlowCommand::CloseLink(peer.number));
    }

    /// Read the counters of its entitlements.
    pub(in crate::supervisor) fn sample_entitlements(&mut self, now: Instant) {
        for entry in self.entitlements.values_mut() {
            let open = entry.is_open();
            entry.sample.update(&entry.stats, open, now);
        }
    }
}
