//! What is told of entitlements: documents, and what is not as it should be.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Holder;
use crate::config::plan::EntitlementPlan;
use crate::observe::condition::{Condition, EntitlementTrouble, Refused};
use crate::observe::status::{AccountDoc, EntitlementDoc, EntitlementState, EntitlementsDoc, PeerDoc};
use crate::observe::text::rfc3339;
use crate::supervisor::entry::Entry;
use crate::supervisor::srt::{self, EntitlementEntry, Roster};
use crate::supervisor::state::State;
use crate::supervisor::view::Words;

/// A refusal this long ago is over.
const RECENT: Duration = Duration::from_secs(60);

impl State {
    /// The port for entitlements; `None`: there is none, and none is wanted.
    pub(in crate::supervisor) fn entitlements_doc(&self) -> Option<EntitlementsDoc> {
        let plan = self.daemon.entitlements.as_ref()?;
        let roster = &self.entitlements.desk.roster;
        let sessions = self.flows.values().flat_map(|entry| entry.entitlements.values());
        Some(EntitlementsDoc {
            bind: plan.bind.to_string(),
            open: self.ports.borrow().desk().is_some(),
            subscribers: self.subscribers.len() as u64,
            sessions: sessions.map(|entry| entry.connected().len() as u64).sum(),
            calls_refused: roster.tally.refused(),
            refused_by_reason: by_reason(roster),
            refused: roster.refusals().iter().map(srt::refused_doc).collect(),
        })
    }

    /// What is not as it should be with the port, the subscribers and their accounts.
    pub(in crate::supervisor) fn entitlement_conditions(&self, add: &mut dyn FnMut(String, Condition)) {
        let entitlements = &self.entitlements;
        if let (Some(error), Some(plan)) = (&entitlements.failed, &self.daemon.entitlements) {
            let (bind, error) = (plan.bind.to_string(), error.clone());
            add(bind.clone(), Condition::Entitlement(EntitlementTrouble::Failed { bind, error }));
        }
        for (name, stale) in &entitlements.stale {
            let (file, line, column, message) = (stale.file.clone(), stale.line, stale.column, stale.message.clone());
            add(name.clone(), Condition::Entitlement(EntitlementTrouble::Stale { file, line, column, message }));
        }
        if let Some((path, error)) = entitlements.ledger.error.clone() {
            add(String::new(), Condition::Entitlement(EntitlementTrouble::Unwritten { path, error }));
        }
    }
}

fn by_reason(roster: &Roster) -> BTreeMap<String, u64> {
    roster.tally.refused_by_reason().map(|(code, count)| (code.to_owned(), count)).collect()
}

impl Entry {
    /// The entitlements of the flow.
    pub(in crate::supervisor) fn entitlement_docs(&self, words: &Words<'_>) -> BTreeMap<String, EntitlementDoc> {
        let wall = SystemTime::now();
        let blank = EntitlementEntry::default();
        let doc = |(name, plan): (&String, &EntitlementPlan)| {
            let entry = self.entitlements.get(name).map_or(&blank, |entry| entry);
            let peers: Vec<_> = entry.connected();
            let peer_doc = |peer: &_| srt::peer_doc(peer, false);
            let docs: Vec<PeerDoc> = peers.iter().map(|peer| peer_doc(peer)).collect();
            let account = |subscriber: &String| {
                let holder =
                    Holder { flow: self.name.to_string(), entitlement: name.clone(), subscriber: subscriber.clone() };
                let (total, today) = words.ledger.accounts(&holder);
                let is_its = |peer: &PeerDoc| peer.subscriber.as_ref() == Some(subscriber);
                let account = AccountDoc {
                    enabled: words.subscribers.get(subscriber).is_some_and(|plan| plan.enabled),
                    sessions: docs.iter().filter(|peer| is_its(peer)).count() as u64,
                    seconds: total.milliseconds / 1000,
                    bytes: total.bytes,
                    today_p95_bps: today.p95_bps(),
                };
                (subscriber.clone(), account)
            };
            let (stats, tally) = (&entry.stats, &entry.roster.tally);
            let doc = EntitlementDoc {
                state: self.entitlement_state(plan, entry, wall),
                description: plan.description.clone(),
                subscribers: plan.subscribers.iter().map(account).collect(),
                max_sessions: plan.max_sessions as u64,
                expires: plan.expires.map(rfc3339),
                bitrate_bps: entry.sample.bps(),
                packets: stats.packets.value(),
                bytes: stats.bytes.value(),
                packets_dropped: stats.dropped.value(),
                packets_retransmitted: stats.retransmitted.value(),
                packets_lost: stats.lost.value(),
                disconnections: tally.disconnections(),
                calls_refused: tally.refused(),
                refused_by_reason: by_reason(&entry.roster),
                refused: entry.roster.refusals().iter().map(srt::refused_doc).collect(),
                peers: docs.clone(),
            };
            (name.clone(), doc)
        };
        self.plan.entitlements.iter().map(doc).collect()
    }

    fn entitlement_state(
        &self,
        plan: &EntitlementPlan,
        entry: &EntitlementEntry,
        wall: SystemTime,
    ) -> EntitlementState {
        if !self.plan.enabled || !plan.enabled {
            EntitlementState::Disabled
        } else if plan.expires.is_some_and(|expires| expires <= wall) {
            EntitlementState::Expired
        } else if !entry.is_open() {
            EntitlementState::Unreachable
        } else if entry.connected().is_empty() {
            EntitlementState::Idle
        } else {
            EntitlementState::Connected
        }
    }

    /// What is not as it should be with the entitlements of the flow.
    pub(in crate::supervisor) fn entitlement_conditions(
        &self,
        words: &Words<'_>,
        add: &mut dyn FnMut(&str, Condition),
    ) {
        let wall = SystemTime::now();
        let entitlements = self.plan.entitlements.len();
        let open = self.entitlements.values().any(|entry| entry.is_open());
        if entitlements > 0 && !open {
            let wanted = words.has_entitlement_port;
            add("", Condition::Entitlement(EntitlementTrouble::Unreachable { entitlements, wanted }));
        }
        for (name, plan) in &self.plan.entitlements {
            if let Some(since) = plan.expires.filter(|expires| *expires <= wall) {
                let entitlement = name.clone();
                add(name, Condition::Entitlement(EntitlementTrouble::Expired { entitlement, since }));
            }
            let Some(entry) = self.entitlements.get(name) else { continue };
            let refusals = entry.roster.refusals();
            let mut recent = refusals.iter().filter(|refused| {
                let lately = wall.duration_since(refused.last).unwrap_or_default() < RECENT;
                // Since then that caller has been let in.
                let is_in = entry.connected().iter().any(|peer| {
                    peer.address.ip() == refused.address
                        && peer.facts.get().is_some_and(|facts| facts.since >= refused.last)
                });
                lately && !is_in
            });
            if let Some(refused) = recent.next().cloned() {
                let refused = Refused {
                    flow: self.name.clone(),
                    address: refused.address.to_string(),
                    why: refused.why,
                    stream_id: refused.stream_id,
                    times: refused.count,
                    others: recent.next().is_some(),
                    publisher: None,
                };
                let entitlement = name.clone();
                add(name, Condition::Entitlement(EntitlementTrouble::Refused { entitlement, refused }));
            }
        }
    }
}
