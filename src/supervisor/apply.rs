//! What was read becomes what runs: changes in claim order, one flow's failure no other flow's business.

use crate::time::Instant;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::control::Outcome;
use super::entry::{Closing, Entry, Stale, sockets};
use super::kept::SocketKey;
use super::resolve;
use super::state::State;
use super::store::DAEMON_FILE;
use super::watch::Watch;
use crate::audit::{FileChange, Record, changed_keys};
use crate::config::diagnostic::{Diagnostic, Level};
use crate::config::diff::{Action, Change, Effect, diff_daemon, diff_flow, diff_subscribers};
use crate::config::plan::{DaemonPlan, FlowPlan, SubscriberPlan};
use crate::config::value::FlowName;
use crate::config::{Context, FlowFile, Loaded, SubscriberFile, load};
use crate::observe::event::{Event, emit};
use crate::observe::http::View;

/// Longest wait for a flow's task to close its sockets; a shard that is stuck must not hold up the others.
pub(super) const CLOSING: Duration = Duration::from_secs(1);

/// Files read and weighed against what runs; nothing has been changed yet.
pub(super) struct Prepared {
    loaded: Loaded,
    /// What each flow shall run by its file; `None`: nothing, its file is gone. Unchanged ones are not listed.
    targets: Vec<(FlowName, Option<Arc<FlowPlan>>)>,
    daemon: Option<DaemonPlan>,
    /// Who may receive entitled flows; `None`: nothing changes.
    subscribers: Option<BTreeMap<String, Arc<SubscriberPlan>>>,
    changes: Vec<Change>,
    held_back: BTreeSet<String>,
}

/// Read the files: what would a reload do?
pub(super) fn prepare(state: &State, watch: &mut Watch) -> Prepared {
    watch.begin();
    let mut busy = watch.busy();
    let loaded = loop {
        let context = Context {
            previous: &state.good,
            previous_daemon: Some(&state.daemon),
            previous_subscribers: &state.subscribers,
            busy: &busy,
            by_daemon: true,
            ..Context::default()
        };
        let loaded = load(&state.dirs.config, &context);
        // A file that is being written now may have been read half.
        let after = watch.busy();
        if after.is_subset(&busy) {
            break loaded;
        }
        busy.extend(after);
    };
    weigh(state, loaded)
}

fn weigh(state: &State, loaded: Loaded) -> Prepared {
    let mut names: BTreeSet<FlowName> = loaded.flows.keys().chain(state.flows.keys()).cloned().collect();
    if !loaded.complete {
        names.extend(state.good.keys().cloned());
    }
    let mut changes = Vec::new();
    let mut targets = Vec::new();
    let mut held_back = BTreeSet::new();
    let mut daemon = None;
    if let Some(plan) = loaded.daemon.as_ref().filter(|plan| **plan != state.daemon) {
        let touches = diff_daemon(&state.daemon, plan);
        changes.push(Change { flow: String::new(), action: Action::Change, touches });
        if state.overrides.frozen.is_some() {
            held_back.insert(String::new());
        } else {
            daemon = Some(plan.clone());
        }
    }
    let wanted = subscribers_of(state, &loaded);
    let touches = diff_subscribers(&state.subscribers, &wanted);
    let mut subscribers = None;
    if !touches.is_empty() {
        changes.push(Change { flow: String::new(), action: Action::Change, touches });
        if state.overrides.frozen.is_some() {
            held_back.insert(String::new());
        } else {
            subscribers = Some(wanted);
        }
    }
    for name in names {
        let file = loaded.flows.get(&name);
        let running = state.flows.get(&name);
        let good = state.good.get(&name);
        let mut target = match file {
            Some(FlowFile::Valid { plan, .. }) => Some(plan),
            Some(FlowFile::Rejected | FlowFile::Unreadable | FlowFile::Busy) => good,
            None if loaded.complete => None,
            None => good,
        };
        if state.overrides.freeze_of(&name).is_some() && target != good {
            held_back.insert(name.to_string());
            changes.extend(diff(state, running, target));
            target = good;
        } else {
            changes.extend(diff(state, running, target));
        }
        if matches!(file, Some(FlowFile::Rejected)) {
            changes.push(Change { flow: name.to_string(), action: Action::Reject, touches: Vec::new() });
        }
        if running.map(|e| &e.file) != target || diff(state, running, target).is_some() {
            targets.push((name, target.cloned()));
        }
    }
    Prepared { loaded, targets, daemon, subscribers, changes, held_back }
}

/// The subscribers as their files say; as they are where these say nothing good.
fn subscribers_of(state: &State, loaded: &Loaded) -> BTreeMap<String, Arc<SubscriberPlan>> {
    let known = state.subscribers.iter().map(|(name, plan)| (name.clone(), plan.clone()));
    let mut wanted: BTreeMap<_, _> = known.collect();
    wanted.retain(|name, _| !loaded.subscribers_complete || loaded.subscribers.contains_key(name));
    for (name, file) in &loaded.subscribers {
        if let SubscriberFile::Valid { plan, .. } = file {
            wanted.insert(name.clone(), plan.clone());
        }
    }
    wanted
}

fn diff(state: &State, running: Option<&Entry>, target: Option<&Arc<FlowPlan>>) -> Option<Change> {
    let wanted = target.map(|plan| state.effective(plan));
    diff_flow(running.map(|e| &*e.plan), wanted.as_deref())
}

impl Prepared {
    /// As an answer to `reload`.
    fn outcome(&self) -> Outcome {
        Outcome { changes: self.changes.clone(), diagnostics: self.loaded.diagnostics.clone() }
    }

    /// The sockets that sources are going to read, as far as that is known now.
    pub(super) fn sockets(&self, state: &State) -> BTreeSet<SocketKey> {
        let plans = self.targets.iter().filter_map(|(_, plan)| plan.as_ref()).map(|plan| state.effective(plan));
        let settings = self.daemon.as_ref().unwrap_or(&state.daemon);
        let desk = settings.entitlements.iter();
        let desk = desk.filter_map(|plan| resolve::listening(plan.bind, plan.interface.as_ref(), &state.links).ok());
        let desk = desk.map(|spec| SocketKey::port_of(&spec));
        plans.filter(|plan| plan.enabled).flat_map(|plan| sockets(&plan, &state.links)).chain(desk).collect()
    }

    /// As an answer to `plan`, which also says what a reload would not change.
    pub(super) fn plan(&self) -> Outcome {
        let mut outcome = self.outcome();
        outcome.diagnostics.extend(self.loaded.notes.iter().cloned());
        outcome
    }
}

/// Close the sockets of the process before that no source wants now: others may want their ports.
pub(super) async fn close_unwanted(state: &Rc<RefCell<State>>, prepared: &Prepared) {
    let settled = {
        let s = state.borrow();
        s.kept.want(&prepared.sockets(&s));
        s.kept.settled()
    };
    closed(settled.into_iter().collect()).await;
}

/// Carry out what was prepared.
pub(super) async fn apply(state: &Rc<RefCell<State>>, prepared: Prepared, view: &Rc<dyn View>) -> Outcome {
    let began = Instant::now();
    let mut outcome = prepared.outcome();
    let Prepared { loaded, targets, daemon, subscribers, held_back, .. } = prepared;
    let closing = {
        let mut s = state.borrow_mut();
        s.held_back = held_back;
        if let Some(subscribers) = subscribers {
            s.subscribers = subscribers;
            // Whoever is none any more is not waited for.
            s.settle_desk(Instant::now());
        }
        let port = s.daemon.entitlements.clone();
        if let Some(plan) = daemon {
            apply_daemon(&mut s, plan, view);
        }
        if port != s.daemon.entitlements { s.close_desk("its port is another one, or none") } else { Closing::new() }
    };
    closed(closing).await;
    let changed = transition(state, targets).await;
    let mut s = state.borrow_mut();
    s.open_desk(Instant::now());
    s.flows.values_mut().for_each(|entry| entry.go_on_without_sessions(Instant::now()));
    let files = settle_files(&mut s, &loaded);
    s.prune_overrides();
    s.last_reload = SystemTime::now();
    report(&mut s, &loaded.diagnostics);
    if outcome.changes.iter().any(|c| c.action != Action::Reject) || s.generation == 0 {
        s.generation += 1;
        let count = |action| changed.iter().filter(|c| c.action == action).count();
        emit(Event::ConfigApplied {
            generation: s.generation,
            started: count(Action::Start),
            stopped: count(Action::Stop),
            changed: count(Action::Change),
            rejected: outcome.changes.iter().filter(|c| c.action == Action::Reject).count(),
            took: began.elapsed(),
        });
    }
    if !files.is_empty() {
        s.audit.record(Record::Apply { generation: s.generation, files });
    }
    s.diagnostics = loaded.diagnostics;
    outcome.changes.retain(|c| !s.held_back.contains(&c.flow));
    outcome
}

/// Make flows run what their files say: first all that closes, then all that opens, so that a port can change hands.
pub(super) async fn transition(
    state: &Rc<RefCell<State>>,
    targets: Vec<(FlowName, Option<Arc<FlowPlan>>)>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut closing = Closing::new();
    {
        let mut s = state.borrow_mut();
        for (name, target) in targets {
            let wanted = target.as_ref().map(|plan| s.effective(plan));
            let change = diff_flow(s.flows.get(&name).map(|e| &*e.plan), wanted.as_deref());
            let (Some(file), Some(plan)) = (target, wanted) else {
                if let Some(mut entry) = s.flows.remove(&name) {
                    closing.extend(entry.close_all());
                    entry.alarms.end(&entry.name, Instant::now());
                }
                changes.extend(change);
                continue;
            };
            let choice = s.choice(&plan);
            if !s.flows.contains_key(&name) {
                let mut entry = Entry::new(file.clone(), plan.clone(), s.kept.clone());
                entry.end_changed(s.good.get(&name).map(|good| s.effective(good)).as_deref());
                s.flows.insert(name.clone(), entry);
            }
            let Some(entry) = s.flows.get_mut(&name) else { continue };
            if let Some(change) = &change {
                closing.extend(entry.close(change));
            }
            entry.file = file;
            entry.plan = plan;
            entry.choose(choice);
            changes.extend(change);
        }
        closing.extend(s.ports.borrow_mut().sweep());
        closing.extend(s.kept.settled());
    }
    closed(closing).await;
    let mut s = state.borrow_mut();
    let (flows, env) = s.split(Instant::now());
    for change in &changes {
        if let Some(entry) = entry_of(flows, change) {
            entry.open(change, &env);
        }
    }
    s.settle_desk(Instant::now());
    changes.iter().for_each(|c| announce(&s, c));
    changes
}

/// Close and open parts of one flow, its plan unchanged.
pub(super) async fn reopen(state: &Rc<RefCell<State>>, change: &Change) {
    let closing = {
        let mut s = state.borrow_mut();
        let mut closing = entry_of(&mut s.flows, change).map(|e| e.close(change)).unwrap_or_default();
        closing.extend(s.ports.borrow_mut().sweep());
        closing.extend(s.kept.settled());
        closing
    };
    closed(closing).await;
    let mut s = state.borrow_mut();
    let (flows, env) = s.split(Instant::now());
    if let Some(entry) = entry_of(flows, change) {
        entry.open(change, &env);
    }
    s.settle_desk(Instant::now());
}

fn entry_of<'a>(flows: &'a mut BTreeMap<FlowName, Entry>, change: &Change) -> Option<&'a mut Entry> {
    flows.get_mut(&change.flow.parse::<FlowName>().ok()?)
}

/// Wait until sockets are closed, so that their ports are free.
pub(super) async fn closed(closing: Closing) {
    let all = async {
        for closed in closing {
            // A task that is gone has closed everything.
            let _ = closed.await;
        }
    };
    if tokio::time::timeout(CLOSING, all).await.is_err() {
        tracing::error!(target: "mediaconnect::flow", "a flow did not close its sockets within {CLOSING:?}");
    }
}

fn apply_daemon(s: &mut State, plan: DaemonPlan, view: &Rc<dyn View>) {
    if plan.log != s.daemon.log
        && let Some(Err(error)) = s.logger.as_ref().map(|logger| logger.apply(&plan.log))
    {
        tracing::error!(target: "mediaconnect::daemon", "[log] can't be changed: {error}");
    }
    let waits = diff_daemon(&s.daemon, &plan).into_iter().filter(|touch| touch.effect == Effect::Restart);
    let keys: Vec<_> = waits.flat_map(|t| t.because.into_iter().map(move |key| format!("{}.{key}", t.name))).collect();
    if !keys.is_empty() {
        emit(Event::RestartNeeded { keys });
    }
    s.notifiers.apply(&plan.notifiers);
    s.daemon = plan;
    let State { listeners, http_failed, daemon, .. } = s;
    listeners.apply(&daemon.http, http_failed, view);
}

/// Keep the last good versions, and note what is stale or unreadable. What of the files is new.
fn settle_files(s: &mut State, loaded: &Loaded) -> Vec<FileChange> {
    let mut changed = Vec::new();
    let flows_d = s.dirs.config.join("flows.d");
    let mut unreadable = BTreeMap::new();
    let mut rejected = Vec::new();
    if !loaded.complete {
        unreadable.insert(flows_d.clone(), why_unreadable(&loaded.diagnostics, &flows_d));
    }
    for (name, file) in &loaded.flows {
        let path = flows_d.join(format!("{name}.toml"));
        match file {
            FlowFile::Valid { plan, text } if s.flows.get(name).is_some_and(|e| e.file == *plan) => {
                if let Some(old) = warn_unkept(s.store.keep_flow(name, text)).flatten() {
                    changed.push(applied(&path, &old, text));
                    warn_unkept(s.store.versions().add(name.as_str(), text, &path));
                }
                if let Some(entry) = s.flows.get_mut(name) {
                    // One plan for all who ask: of a thousand flows each copy counts.
                    s.good.insert(name.clone(), entry.file.clone());
                    if entry.stale.take().is_some() {
                        emit(Event::ConfigRecovered { flow: name.clone(), file: path });
                    }
                }
            }
            FlowFile::Rejected => {
                let first = first_error(&loaded.diagnostics, &path);
                changed.extend(newly_rejected(s, &loaded.diagnostics, &path));
                match s.flows.get_mut(name) {
                    Some(entry) => {
                        let stale = stale(&path, first);
                        if entry.stale.as_ref() != Some(&stale) {
                            emit(Event::ConfigStale { flow: name.clone(), file: path });
                        }
                        entry.stale = Some(stale);
                    }
                    None => rejected.push(path),
                }
            }
            FlowFile::Unreadable => {
                let error = why_unreadable(&loaded.diagnostics, &path);
                unreadable.insert(path, error);
            }
            FlowFile::Valid { .. } | FlowFile::Busy => {}
        }
    }
    if loaded.complete {
        let gone: Vec<_> = s.good.keys().filter(|n| !loaded.flows.contains_key(n)).cloned().collect();
        for name in gone.into_iter().filter(|n| !s.flows.contains_key(n)).collect::<Vec<_>>() {
            s.good.remove(&name);
            let old = warn_unkept(s.store.forget_flow(&name)).unwrap_or_default();
            let keys = changed_keys(&old, b"");
            changed.push(FileChange { keys, ..FileChange::of(&flows_d.join(format!("{name}.toml")), "removed", None) });
        }
    }
    if loaded.daemon.is_some() && !s.held_back.contains("") {
        let path = s.dirs.config.join(DAEMON_FILE);
        let text = std::fs::read(&path).ok();
        if let Some(old) = warn_unkept(s.store.keep_daemon(text.as_deref())).flatten() {
            let keys = changed_keys(&old, text.as_deref().unwrap_or_default());
            let result = if text.is_some() { "applied" } else { "removed" };
            changed.push(FileChange { keys, ..FileChange::of(&path, result, text.as_deref()) });
        }
    } else if loaded.daemon.is_none() {
        changed.extend(newly_rejected(s, &loaded.diagnostics, &s.dirs.config.join(DAEMON_FILE)));
    }
    settle_subscribers(s, loaded, &mut unreadable, &mut rejected, &mut changed);
    for (path, error) in &unreadable {
        if s.unreadable.get(path) != Some(error) {
            emit(Event::ConfigUnreadable { path: path.clone(), error: error.clone() });
        }
    }
    for path in s.unreadable.keys().filter(|path| !unreadable.contains_key(*path)) {
        emit(Event::ConfigReadable { path: path.clone() });
    }
    s.unreadable = unreadable;
    s.rejected = rejected;
    changed
}

/// A file whose new text is in force.
fn applied(path: &Path, old: &[u8], text: &[u8]) -> FileChange {
    FileChange { keys: changed_keys(old, text), ..FileChange::of(path, "applied", Some(text)) }
}

/// A file that is rejected for what was not known yet.
fn newly_rejected(s: &State, diagnostics: &[Diagnostic], path: &Path) -> Option<FileChange> {
    let errors = diagnostics.iter().filter(|d| d.severity == Level::Error && d.file == path);
    let faults: Vec<_> = errors.map(Diagnostic::line).collect();
    let text = std::fs::read(path).ok();
    let is_new = faults.iter().any(|fault| !s.logged.contains(fault));
    is_new.then(|| FileChange { faults, ..FileChange::of(path, "rejected", text.as_deref()) })
}

/// The same for subscribers.
fn settle_subscribers(
    s: &mut State,
    loaded: &Loaded,
    unreadable: &mut BTreeMap<PathBuf, String>,
    rejected: &mut Vec<PathBuf>,
    changed: &mut Vec<FileChange>,
) {
    let folder = s.dirs.config.join("subscribers.d");
    if !loaded.subscribers_complete {
        unreadable.insert(folder.clone(), why_unreadable(&loaded.diagnostics, &folder));
    }
    for (name, file) in &loaded.subscribers {
        let path = folder.join(format!("{name}.toml"));
        match file {
            SubscriberFile::Valid { plan, text } if s.subscribers.get(name) == Some(plan) => {
                if let Some(old) = warn_unkept(s.store.keep_subscriber(name, text)).flatten() {
                    changed.push(applied(&path, &old, text));
                }
                s.entitlements.stale.remove(name);
            }
            SubscriberFile::Rejected if s.subscribers.contains_key(name) => {
                changed.extend(newly_rejected(s, &loaded.diagnostics, &path));
                let stale = stale(&path, first_error(&loaded.diagnostics, &path));
                s.entitlements.stale.insert(name.clone(), stale);
            }
            SubscriberFile::Rejected => {
                changed.extend(newly_rejected(s, &loaded.diagnostics, &path));
                rejected.push(path);
            }
            SubscriberFile::Unreadable => {
                let error = why_unreadable(&loaded.diagnostics, &path);
                unreadable.insert(path, error);
            }
            SubscriberFile::Valid { .. } | SubscriberFile::Busy => {}
        }
    }
    if loaded.subscribers_complete && !s.held_back.contains("") {
        let subscribers = &s.subscribers;
        let is_gone = |name: &FlowName| !subscribers.contains_key(name.as_str());
        let gone = s.store.subscribers(|name| is_gone(name) && !loaded.subscribers.contains_key(name.as_str()));
        for (name, old) in gone {
            warn_unkept(s.store.forget_subscriber(name.as_str()));
            let (path, keys) = (folder.join(format!("{name}.toml")), changed_keys(&old, b""));
            changed.push(FileChange { keys, ..FileChange::of(&path, "removed", None) });
        }
    }
    s.entitlements.stale.retain(|name, _| loaded.subscribers.contains_key(name) || !loaded.subscribers_complete);
}

fn warn_unkept<T>(kept: std::io::Result<T>) -> Option<T> {
    let say = |error| {
        tracing::error!(target: "mediaconnect::daemon", "the last good version can't be kept in the state directory: {error}");
    };
    kept.map_err(say).ok()
}

fn first_error<'a>(diagnostics: &'a [Diagnostic], path: &PathBuf) -> Option<&'a Diagnostic> {
    diagnostics.iter().find(|d| d.severity == Level::Error && d.file == *path)
}

/// The system's word on a file or directory that can't be read.
fn why_unreadable(diagnostics: &[Diagnostic], path: &Path) -> String {
    let message = diagnostics.iter().find(|d| d.file == path).map_or("it is missing", |d| &d.message);
    let why = message.rsplit_once("cannot be read: ").map_or(message, |(_, why)| why);
    why.split(';').next().unwrap_or(why).to_owned()
}

fn stale(path: &Path, first: Option<&Diagnostic>) -> Stale {
    let (line, column) = first.map_or((0, 0), |d| (d.line, d.column));
    let message = first.map_or_else(|| "it is rejected".to_owned(), |d| d.message.clone());
    Stale { file: path.to_owned(), line, column, message }
}

/// Log each fault once, and again when it comes back.
fn report(s: &mut State, diagnostics: &[Diagnostic]) {
    let mut logged = BTreeSet::new();
    for diagnostic in diagnostics {
        let line = diagnostic.line();
        if !s.logged.contains(&line) {
            emit(Event::ConfigDiagnostic { diagnostic: diagnostic.clone() });
        }
        logged.insert(line);
    }
    s.logged = logged;
}

fn announce(s: &State, change: &Change) {
    let Ok(flow) = change.flow.parse::<FlowName>() else { return };
    let entry = s.flows.get(&flow);
    match change.action {
        Action::Start => {
            let Some(plan) = entry.map(|e| &e.plan).filter(|p| p.enabled) else { return };
            let sources = plan.sources.values().filter(|p| p.enabled).count();
            let outputs = plan.outputs.values().filter(|p| p.enabled).count();
            emit(Event::FlowStarted { flow, sources, outputs });
        }
        Action::Stop => {
            let why = match entry {
                None => "its file is gone".to_owned(),
                Some(e) if e.file.enabled => s
                    .overrides
                    .flows
                    .get(flow.as_str())
                    .map_or_else(|| "stopped".to_owned(), |o| format!("stopped by {}", o.by)),
                Some(_) => "enabled = false in its file".to_owned(),
            };
            emit(Event::FlowStopped { flow, why });
        }
        Action::Change => {
            let words: Vec<_> = change.touches.iter().map(touch_in_words).collect();
            emit(Event::FlowChanged { flow, what: words.join(", ") });
        }
        Action::Reject => {}
    }
}

fn touch_in_words(touch: &crate::config::diff::Touch) -> String {
    let done = match touch.effect {
        Effect::Open => "opened",
        Effect::Close => "closed",
        Effect::Reopen => "reopened",
        Effect::InPlace => "changed in place",
        Effect::Restart => "to be changed at the next restart",
    };
    let kind = match touch.kind {
        crate::config::diff::Kind::Source => "source",
        crate::config::diff::Kind::Output => "output",
        crate::config::diff::Kind::Entitlement => "entitlement",
        crate::config::diff::Kind::Subscriber => "subscriber",
        crate::config::diff::Kind::Flow => "flow",
        crate::config::diff::Kind::Daemon => "section",
    };
    format!("{kind} {} {done} ({})", touch.name, touch.because.join(", "))
}
