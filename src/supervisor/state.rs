//! All that the supervisor knows. Borrowed for short moments only, never over an await.

use crate::time::Instant;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc::UnboundedSender;

use super::Dirs;
use super::air;
use super::alarms::Alarms;
use super::content::Helpers;
use super::entitle::Entitlements;
use super::entry::{Entry, Env};
use super::http::Listeners;
use super::kept::Kept;
use super::resolve::Names;
use super::shard::Shards;
use super::srt::{Keys, Ports};
use super::store::{Overrides, Store};
use crate::audit::Audit;
use crate::config::diagnostic::Diagnostic;
use crate::config::plan::{DaemonPlan, FlowPlan, Limits, SubscriberPlan};
use crate::config::value::FlowName;
use crate::flow::FlowNews;
use crate::io::links::Links;
use crate::observe::log::Logger;
use crate::observe::notify::Notifiers;

/// The supervisor's state.
pub(super) struct State {
    pub(super) dirs: Dirs,
    pub(super) started: Instant,
    /// The first apply is done.
    pub(super) ready: bool,
    /// Counts the applies that changed something.
    pub(super) generation: u64,
    pub(super) last_reload: SystemTime,
    /// Of the last reload.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What was logged already, by its line.
    pub(super) logged: BTreeSet<String>,
    pub(super) daemon: DaemonPlan,
    /// `[limits]` as it was at start: what the data-plane threads were made by.
    pub(super) limits: Limits,
    pub(super) flows: BTreeMap<FlowName, Entry>,
    /// The last good plans of files, as kept in the state directory.
    pub(super) good: BTreeMap<FlowName, Arc<FlowPlan>>,
    /// Files that are rejected and never had a good version.
    pub(super) rejected: Vec<PathBuf>,
    /// Directories and files that can't be read.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    /// Changes that a freeze holds back, by flow; empty name: `mediaconnect.toml`.
    pub(super) held_back: BTreeSet<String>,
    pub(super) overrides: Overrides,
    pub(super) store: Store,
    pub(super) links: Links,
    pub(super) names: Names,
    pub(super) shards: Shards,
    /// Where flows tell of their connections.
    pub(super) news: UnboundedSender<FlowNews>,
    pub(super) keys: Keys,
    pub(super) ports: RefCell<Ports>,
    /// Who looks at what is on air.
    pub(super) helpers: Rc<Helpers>,
    /// What outlives this process.
    pub(super) kept: Rc<Kept>,
    /// The last good subscribers, which are those in force.
    pub(super) subscribers: BTreeMap<String, Arc<SubscriberPlan>>,
    pub(super) entitlements: Entitlements,
    pub(super) listeners: Listeners,
    pub(super) http_failed: BTreeMap<SocketAddr, String>,
    pub(super) http_retry_at: Instant,
    /// Requests without the token of `[http]`.
    pub(super) http_refused: Cell<u64>,
    pub(super) polling: Option<String>,
    /// `None` in tests and in the demo, which log where their process logs.
    pub(super) logger: Option<Logger>,
    /// Since when each condition of the appliance holds.
    pub(super) since: super::sample::Since,
    /// Counts the looks that found other conditions than the one before.
    pub(super) turns: u64,
    /// Of the appliance.
    pub(super) alarms: Alarms,
    /// When alarms are looked at next.
    pub(super) alarms_at: Instant,
    pub(super) notifiers: Notifiers,
    pub(super) audit: Arc<Audit>,
}

impl State {
    /// The flows, and what opening their parts needs.
    pub(super) fn split(&mut self, now: Instant) -> (&mut BTreeMap<FlowName, Entry>, Env<'_>) {
        let Self { flows, shards, links, names, news, keys, ports, helpers, .. } = self;
        (flows, Env { shards, links, names, news, keys, ports, helpers, now })
    }

    /// A file's plan with what operators set against it.
    pub(super) fn effective(&self, file: &Arc<FlowPlan>) -> Arc<FlowPlan> {
        let mut plan = file.clone();
        let name = file.name.as_str();
        if let Some(word) = self.overrides.flows.get(name).filter(|o| o.file_enabled == file.enabled) {
            Arc::make_mut(&mut plan).enabled = word.enabled;
        }
        for (output, word) in self.overrides.outputs.get(name).into_iter().flatten() {
            if plan.outputs.get(output).is_some_and(|p| p.enabled == word.file_enabled)
                && let Some(output) = Arc::make_mut(&mut plan).outputs.get_mut(output)
            {
                output.enabled = word.enabled;
            }
        }
        plan
    }

    /// The source that an operator put on air, where the plan still has it.
    pub(super) fn choice(&self, plan: &FlowPlan) -> Option<String> {
        let word = self.overrides.switches.get(plan.name.as_str())?;
        air::may_switch(plan, &word.source).is_ok().then(|| word.source.clone())
    }

    /// Drop what operators set against keys that say something else by now, and against flows and outputs that are gone.
    pub(super) fn prune_overrides(&mut self) {
        let flows = &self.flows;
        let file = |name: &str| flows.values().find(|e| e.name.as_str() == name).map(|e| &e.file);
        let before = self.overrides.clone();
        self.overrides.flows.retain(|name, word| file(name).is_some_and(|p| p.enabled == word.file_enabled));
        self.overrides.outputs.retain(|name, outputs| {
            let Some(plan) = file(name) else { return false };
            outputs.retain(|output, word| plan.outputs.get(output).is_some_and(|o| o.enabled == word.file_enabled));
            !outputs.is_empty()
        });
        self.overrides
            .switches
            .retain(|name, word| file(name).is_some_and(|p| air::may_switch(p, &word.source).is_ok()));
        self.overrides.frozen_flows.retain(|name, _| file(name).is_some());
        if before != self.overrides {
            self.keep_overrides();
        }
    }

    pub(super) fn keep_overrides(&self) {
        if let Err(error) = self.store.keep_overrides(&self.overrides) {
            tracing::error!(target: "mediaconnect::daemon", "what operators set can't be kept over a restart: {error}");
        }
    }
}
