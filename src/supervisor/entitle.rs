//! Entitlements of all flows: the port at which subscribers call, who may have what, and what they got.

mod day;
mod ledger;
mod view;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::day::Holder;
pub(super) use self::ledger::Ledger;
use super::Supervisor;
use super::apply;
use super::entry::{Closing, Stale};
use super::resolve::{self, Unresolved};
use super::srt::{Desk, Register};
use super::state::State;
use crate::audit::Audit;
use crate::observe::event::{Event, emit};
use crate::time::Instant;

/// How long until the port is tried again that can't be opened.
const RETRY: Duration = Duration::from_secs(5);

/// What the supervisor holds of entitlements, besides those that flows have.
pub(super) struct Entitlements {
    desk: Arc<Desk>,
    pub(super) ledger: Ledger,
    /// Why the port can't be opened.
    failed: Option<String>,
    retry_at: Instant,
    /// Subscribers whose newer file is rejected.
    pub(super) stale: BTreeMap<String, Stale>,
}

impl Entitlements {
    /// Nobody can call yet.
    pub(super) fn new(state_dir: &Path, log_dir: &Path, audit: Arc<Audit>) -> Self {
        Self {
            desk: Arc::default(),
            ledger: Ledger::open(state_dir, log_dir, audit, SystemTime::now()),
            failed: None,
            retry_at: Instant::now(),
            stale: BTreeMap::new(),
        }
    }
}

impl State {
    /// Open the port for entitlements and what can be reached there, as far as that is not done yet.
    pub(super) fn open_desk(&mut self, now: Instant) {
        let Some(plan) = &self.daemon.entitlements else { return };
        if self.ports.borrow().desk().is_none() {
            let spec = resolve::listening(plan.bind, plan.interface.as_ref(), &self.links);
            let opened = match spec {
                Ok(spec) => {
                    let desk = self.entitlements.desk.clone();
                    self.ports.borrow_mut().open_desk(spec, desk).map_err(|error| error.to_string())
                }
                Err(Unresolved::Interface(name)) => Err(format!("interface {name} is not there")),
                // It has no name to be looked up.
                Err(_) => return,
            };
            let bind = plan.bind.to_string();
            let known = self.entitlements.failed.take();
            match opened {
                Ok(()) => emit(Event::EntitlementsListening { bind }),
                Err(error) => {
                    if known.as_ref() != Some(&error) {
                        emit(Event::EntitlementsFailed { bind, error: error.clone(), retry_in: RETRY });
                    }
                    self.entitlements.failed = Some(error);
                    self.entitlements.retry_at = now + RETRY;
                    return;
                }
            }
        }
        let (flows, env) = self.split(now);
        flows.values_mut().for_each(|entry| entry.open_entitlements(&env));
        self.settle_desk(now);
    }

    /// Close the port, and all sessions with it.
    pub(super) fn close_desk(&mut self, why: &str) -> Closing {
        let mut closing = Closing::new();
        self.entitlements.failed = None;
        self.flows.values_mut().for_each(|entry| entry.close_entitlements(why, &mut closing));
        self.flows.values_mut().for_each(super::entry::Entry::end_if_idle);
        let mut ports = self.ports.borrow_mut();
        ports.close_desk();
        closing.extend(ports.sweep());
        closing
    }

    /// Tell the desk who may have what, and end the sessions that may not go on.
    pub(super) fn settle_desk(&mut self, now: Instant) {
        if self.ports.borrow().desk().is_none() {
            return;
        }
        let wall = SystemTime::now();
        let mut register = Register::default();
        self.subscribers.values().for_each(|plan| register.add_subscriber(plan.clone()));
        self.flows.values().for_each(|entry| entry.enter(&mut register));
        let register = Arc::new(register);
        self.entitlements.desk.set_register(register.clone());
        self.flows.values().for_each(|entry| entry.end_revoked(&register, wall));
        self.entitlements.ledger.tick(now, wall);
    }

    /// The same from time to time: entitlements expire, and sessions carry more than they may.
    pub(super) fn watch_entitlements(&mut self, now: Instant) {
        if self.ports.borrow().desk().is_none() {
            self.entitlements.ledger.tick(now, SystemTime::now());
        }
        self.settle_desk(now);
        for (name, plan) in &self.subscribers {
            let Some(most) = plan.max_bitrate else { continue };
            if let Some((flow, peer)) = self.entitlements.ledger.too_much(name, most.bps())
                && let Some(entry) = self.flows.get(&flow)
            {
                entry.end_session(&peer, "the subscriber got more than its `max-bitrate`");
            }
        }
        if self.entitlements.failed.is_some() && self.entitlements.retry_at <= now {
            self.open_desk(now);
        }
    }

    /// Whether the port would be another one if it were opened now.
    fn desk_moved(&self) -> bool {
        let Some(plan) = &self.daemon.entitlements else { return false };
        let now = resolve::listening(plan.bind, plan.interface.as_ref(), &self.links);
        self.ports.borrow().desk().is_some_and(|open| now.as_ref() != Ok(open))
    }
}

impl Supervisor {
    /// The network changed: the port may have to be opened elsewhere.
    pub(super) async fn move_desk(&self) {
        let moved = self.state.borrow().desk_moved();
        if moved {
            let mut closing = self.state.borrow_mut().close_desk("its port is opened anew");
            closing.extend(self.state.borrow().kept.settled());
            apply::closed(closing).await;
        }
        self.state.borrow_mut().open_desk(Instant::now());
    }
}
