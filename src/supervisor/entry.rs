//! One flow as the supervisor holds it: its plan, its task, and which of its parts are open.

mod output;
mod source;

pub(super) use self::source::sockets;

use crate::time::Instant;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::air::{self, LastSwitch};
use super::alarms::Alarms;
use super::content::{ContentSample, Helpers, Watching};
use super::kept::{Kept, Owner};
use super::resolve::{self, Names, Unresolved};
use super::rist::RistOpen;
use super::sample::{DelaySample, OutputSample, Since, SourceSample};
use super::shard::Shards;
use super::srt::{EntitlementEntry, Keys, Ports, SrtOpen, Tally};
use crate::config::diff::{Action, Change, Effect, Kind, diff_flow};
use crate::config::plan::{ContentKeys, FlowPlan, OutputPlan, OutputRoute, SrtPlan};
use crate::config::value::{FlowName, Host};
use crate::content::wire::Wanted;
use crate::flow::egress::{EncryptionSeed, OutputConfig, SenderKey};
use crate::flow::srt::{self, LinkState};
use crate::flow::stats::{FlowStats, OutputStats, SourceStats};
use crate::flow::{AirConfig, FlowCommand, FlowNews, FlowSeed, FlowState, Orders, orders};
use crate::io::links::Links;
use crate::io::open::ReceiveSpec;
use crate::observe::event::{Event, emit};

/// How long until a part that can't be opened is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long names of outputs are looked up before a flow goes on without them where another process left it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What opening a part needs of the appliance.
pub(super) struct Env<'a> {
    pub(super) shards: &'a Shards,
    pub(super) links: &'a Links,
    pub(super) names: &'a Names,
    pub(super) news: &'a UnboundedSender<FlowNews>,
    pub(super) keys: &'a Keys,
    pub(super) ports: &'a RefCell<Ports>,
    pub(super) helpers: &'a Rc<Helpers>,
    pub(super) now: Instant,
}

/// Why a part is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    Unresolved(Unresolved),
    Open(String),
}

/// A part that should be open and is not.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) problem: Problem,
    pub(super) since: Instant,
    pub(super) tries: u64,
    retry_at: Instant,
}

/// Where a source or output stands; `S` is what its sockets were opened with.
#[derive(Debug)]
pub(super) enum Part<S> {
    Closed,
    Waiting(Waiting),
    Open(S),
    /// Open, by SRT.
    Connecting(Box<SrtOpen>),
    /// Open, by RIST.
    Rist(Box<RistOpen>),
}

impl<S> Part<S> {
    pub(super) fn waiting(&self) -> Option<&Waiting> {
        if let Self::Waiting(waiting) = self { Some(waiting) } else { None }
    }

    /// Whether it is open, by whatever protocol.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Connecting(_) | Self::Rist(_))
    }

    /// What it is by SRT.
    pub(super) fn srt(&self) -> Option<&SrtOpen> {
        if let Self::Connecting(srt) = self { Some(srt) } else { None }
    }

    /// The same, to be changed.
    pub(super) fn srt_mut(&mut self) -> Option<&mut SrtOpen> {
        if let Self::Connecting(srt) = self { Some(srt) } else { None }
    }

    /// What it is by RIST.
    pub(super) fn rist(&self) -> Option<&RistOpen> {
        if let Self::Rist(rist) = self { Some(rist) } else { None }
    }

    /// The same, to be changed.
    pub(super) fn rist_mut(&mut self) -> Option<&mut RistOpen> {
        if let Self::Rist(rist) = self { Some(rist) } else { None }
    }

    pub(super) fn fail(&mut self, problem: Problem, now: Instant) -> &Waiting {
        let (since, tries) = self.waiting().map_or((now, 0), |w| (w.since, w.tries));
        let backoff = RETRY.0.saturating_mul(1 << tries.min(8)).min(RETRY.1);
        *self = Self::Waiting(Waiting { problem, since, tries: tries + 1, retry_at: now + backoff });
        let Self::Waiting(waiting) = self else { unreachable!("just set") };
        waiting
    }
}

/// A source as the supervisor sees it.
#[derive(Debug)]
pub(super) struct SourceEntry {
    pub(super) part: Part<ReceiveSpec>,
    pub(super) stats: Arc<SourceStats>,
    /// Of the receive buffer, bytes.
    pub(super) granted: usize,
    pub(super) opened: Instant,
    pub(super) sample: SourceSample,
    /// The keys that its task has.
    decryption: Option<ContentKeys>,
}

impl SourceEntry {
    /// Whether the flow takes its packets from this source, as its task says.
    pub(super) fn on_air(&self) -> bool {
        self.part.is_open() && self.stats.on_air.value() == 1
    }
}

/// An output as the supervisor sees it.
#[derive(Debug)]
pub(super) struct OutputEntry {
    pub(super) part: Part<OutputConfig>,
    pub(super) stats: Arc<OutputStats>,
    pub(super) ssrc: u32,
    pub(super) opened: SystemTime,
    pub(super) sample: OutputSample,
}

/// A flow's task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) commands: Orders,
    run: u64,
    /// The number of the data-plane thread it runs on.
    pub(super) shard: usize,
    /// What it was told last of how its sources become one stream.
    air: AirConfig,
    /// Who looks at what is on air.
    pub(super) watching: Option<Watching>,
}

/// A newer file that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) file: std::path::PathBuf,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

/// One flow.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: FlowName,
    /// What its file says.
    pub(super) file: Arc<FlowPlan>,
    /// What runs: the file, and what operators set against it.
    pub(super) plan: Arc<FlowPlan>,
    pub(super) stale: Option<Stale>,
    /// Boxed, as are the outputs: a map makes room for eleven, and most flows have one.
    pub(super) sources: BTreeMap<String, Box<SourceEntry>>,
    pub(super) outputs: BTreeMap<String, Box<OutputEntry>>,
    pub(super) entitlements: BTreeMap<String, Box<EntitlementEntry>>,
    pub(super) stats: Arc<FlowStats>,
    /// The source that an operator put on air.
    choice: Option<String>,
    pub(super) last_switch: Option<LastSwitch>,
    pub(super) delay: DelaySample,
    pub(super) panics: u64,
    pub(super) panic_message: String,
    pub(super) conditions_since: Since,
    pub(super) alarms: Alarms,
    pub(super) content: ContentSample,
    /// Of what is by SRT: its counts, however often it is opened.
    pub(super) tallies: BTreeMap<srt::Part, Arc<Tally>>,
    senders: BTreeMap<SenderKey, usize>,
    /// Where its sockets are kept.
    pub(super) kept: Rc<Kept>,
    /// Where it stood in the process before this one, until it has gone on.
    before: Option<Box<FlowState>>,
    go_on_by: Instant,
    /// The SSRCs that outputs had there, until they are open.
    pub(super) ssrcs: BTreeMap<String, u32>,
    /// The encryptions of its outputs, each once, with their figures.
    pub(super) encryptions: Vec<EncryptionSeed>,
    pub(super) task: Option<Task>,
    runs: u64,
    /// After a panic: when it is started again.
    restart_at: Option<Instant>,
}

/// Sockets that are being closed; they are when all of these have answered.
pub(super) type Closing = Vec<oneshot::Receiver<()>>;

impl Entry {
    /// A flow of which nothing is open yet.
    pub(super) fn new(file: Arc<FlowPlan>, plan: Arc<FlowPlan>, kept: Rc<Kept>) -> Self {
        let before = kept.state_of(&file.name);
        Self {
            go_on_by: Instant::now() + PATIENCE,
            ssrcs: before.as_ref().map(|before| before.ssrcs()).unwrap_or_default(),
            before,
            kept,
            name: file.name.clone(),
            file,
            plan,
            stale: None,
            sources: BTreeMap::new(),
            outputs: BTreeMap::new(),
            entitlements: BTreeMap::new(),
            stats: Arc::default(),
            choice: None,
            last_switch: None,
            delay: DelaySample::default(),
            panics: 0,
            panic_message: String::new(),
            conditions_since: Since::default(),
            alarms: Alarms::default(),
            content: ContentSample::default(),
            tallies: BTreeMap::new(),
            senders: BTreeMap::new(),
            encryptions: Vec::new(),
            task: None,
            runs: 0,
            restart_at: None,
        }
    }

    /// First half of a change: close what is to be closed or reopened, by the plan before it.
    pub(super) fn close(&mut self, change: &Change) -> Closing {
        let mut closing = Closing::new();
        for touch in &change.touches {
            if !matches!(touch.effect, Effect::Close | Effect::Reopen) {
                continue;
            }
            match touch.kind {
                Kind::Source => self.close_source(&touch.name, &mut closing),
                Kind::Output => self.close_output(&touch.name, &mut closing),
                Kind::Entitlement => {
                    let why =
                        if change.action == Action::Stop { "the flow is stopped" } else { "the entitlement is gone" };
                    self.close_entitlement(&touch.name, why, &mut closing);
                }
                Kind::Flow | Kind::Subscriber | Kind::Daemon => {}
            }
        }
        closing
    }

    /// Second half of a change, with the new plan in place: open, and change what runs.
    pub(super) fn open(&mut self, change: &Change, env: &Env<'_>) {
        for touch in &change.touches {
            match (touch.kind, touch.effect) {
                (Kind::Source, Effect::Open | Effect::Reopen) => self.open_source(&touch.name, env),
                (Kind::Output, Effect::Open | Effect::Reopen) => self.open_output(&touch.name, env),
                (Kind::Source, Effect::InPlace) => self.retune_source(&touch.name, env),
                (Kind::Output, Effect::InPlace) => self.retune_output(&touch.name, env),
                (Kind::Entitlement, Effect::Open | Effect::Reopen) => self.open_entitlement(&touch.name, env),
                (Kind::Entitlement, Effect::InPlace) => self.retune_entitlement(&touch.name),
                (Kind::Flow, Effect::InPlace) => self.retune_flow(env),
                _ => {}
            }
        }
        self.sources.retain(|name, _| self.plan.sources.contains_key(name));
        self.outputs.retain(|name, _| self.plan.outputs.contains_key(name));
        self.entitlements.retain(|name, _| self.plan.entitlements.contains_key(name));
        self.tallies.retain(|part, _| match part {
            srt::Part::Source(name) => self.plan.sources.contains_key(name),
            srt::Part::Output(name) => self.plan.outputs.contains_key(name),
            srt::Part::Entitlement(_) => false,
        });
        self.go_on(env.now);
        self.end_if_idle();
    }

    /// Entitlements are open by now, or won't be: whoever had a session does not wait for them.
    pub(super) fn go_on_without_sessions(&mut self, now: Instant) {
        if let Some(before) = &mut self.before {
            for name in self.plan.entitlements.keys() {
                before.take_links(&srt::Part::Entitlement(name.clone()));
            }
            self.go_on(now);
        }
    }

    /// The connections that a part had in the process before this one.
    pub(super) fn links_before(&mut self, part: &srt::Part) -> Vec<LinkState> {
        self.before.as_mut().map(|before| before.take_links(part)).unwrap_or_default()
    }

    /// Connections of parts that are to be opened anew after what has changed since the process before ran do not go on;
    /// `None`: what it ran is not known.
    pub(super) fn end_changed(&mut self, ran: Option<&FlowPlan>) {
        let Some(before) = &mut self.before else { return };
        let change = ran.map(|ran| diff_flow(Some(ran), Some(&self.plan)));
        let parts: BTreeSet<_> = before.links().iter().map(|link| link.part.clone()).collect();
        let stays = |part: &srt::Part| {
            let (kind, name) = match part {
                srt::Part::Source(name) => (Kind::Source, name),
                srt::Part::Output(name) => (Kind::Output, name),
                srt::Part::Entitlement(name) => (Kind::Entitlement, name),
            };
            let touches = |change: &Change| {
                let mut its = change.touches.iter().filter(|touch| (touch.kind, &touch.name) == (kind, name));
                its.any(|touch| touch.effect != Effect::InPlace)
            };
            change.as_ref().is_some_and(|change| !change.as_ref().is_some_and(touches))
        };
        for part in parts.iter().filter(|part| !stays(part)) {
            before.take_links(part);
        }
    }

    /// Let the task go on where the one of the process before stood, when all outputs are open whose names are only being
    /// looked up, and entitlements that had sessions, or it takes too long: until then it reads nothing, so that they miss
    /// nothing.
    pub(super) fn go_on(&mut self, now: Instant) {
        let is_pending = |output: &OutputEntry| {
            let waiting = output.part.waiting();
            waiting.is_some_and(|waiting| matches!(waiting.problem, Problem::Unresolved(Unresolved::Pending(_))))
        };
        // They are opened last.
        let is_entitlement = |link: &LinkState| matches!(link.part, srt::Part::Entitlement(_));
        let sessions = self.before.as_ref().is_some_and(|before| before.links().iter().any(is_entitlement));
        if now < self.go_on_by && (sessions || self.outputs.values().any(|output| is_pending(output))) {
            return;
        }
        // Where there is no task by now, nothing of it can be gone on with later.
        if let Some(before) = self.before.take() {
            self.send(FlowCommand::Resume(before));
        }
    }

    /// The daemon ends, and another one goes on: what has sockets is left as it is, and where it stands is told.
    pub(super) fn suspend(&self) -> oneshot::Receiver<FlowState> {
        let (done, state) = oneshot::channel();
        self.send(FlowCommand::Suspend(done));
        state
    }

    /// Close everything; the task ends.
    pub(super) fn close_all(&mut self) -> Closing {
        let mut closing = Closing::new();
        for name in self.sources.keys().cloned().collect::<Vec<_>>() {
            self.close_source(&name, &mut closing);
        }
        for name in self.outputs.keys().cloned().collect::<Vec<_>>() {
            self.close_output(&name, &mut closing);
        }
        self.close_entitlements("the flow is stopped", &mut closing);
        self.restart_at = None;
        self.end_if_idle();
        closing
    }

    /// Open all parts that the plan wants and that are closed.
    pub(super) fn open_all(&mut self, env: &Env<'_>) {
        if !self.plan.enabled {
            return;
        }
        for name in self.plan.sources.keys().cloned().collect::<Vec<_>>() {
            self.open_source(&name, env);
        }
        for name in self.plan.outputs.keys().cloned().collect::<Vec<_>>() {
            self.open_output(&name, env);
        }
        self.open_entitlements(env);
    }

    /// The source that an operator puts on air; `None`: the operator's word is over.
    pub(super) fn choose(&mut self, choice: Option<String>) {
        if self.choice != choice {
            self.choice = choice;
            self.send(FlowCommand::Switch(self.choice.clone()));
        }
    }

    /// The source that an operator put on air.
    pub(super) fn choice(&self) -> Option<&str> {
        self.choice.as_deref()
    }

    /// The task ended by a panic: everything it owned is closed. It comes back after a while.
    pub(super) fn panicked(&mut self, run: u64, message: String, now: Instant) {
        if self.task.as_ref().is_none_or(|task| task.run != run) {
            return;
        }
        self.task = None;
        self.senders.clear();
        self.kept.release_all(&self.name, |_| true);
        self.panics += 1;
        let retry_in = RETRY.0.saturating_mul(1 << (self.panics - 1).min(8)).min(RETRY.1) / 10;
        self.restart_at = Some(now + retry_in);
        for source in self.sources.values_mut() {
            source.part = Part::Closed;
        }
        for output in self.outputs.values_mut() {
            output.part = Part::Closed;
        }
        self.entitlements.values_mut().for_each(|entitlement| entitlement.lost());
        emit(Event::FlowPanicked { flow: self.name.clone(), message: message.clone(), count: self.panics, retry_in });
        self.panic_message = message;
    }

    /// When [`Self::retry`] has something to do.
    pub(super) fn retry_due(&self) -> Option<Instant> {
        let sources = self.sources.values().filter_map(|s| s.part.waiting());
        let outputs = self.outputs.values().filter_map(|o| o.part.waiting());
        sources
            .chain(outputs)
            .map(|w| w.retry_at)
            .chain(self.restart_at)
            .chain(self.next_call())
            .chain(self.before.as_ref().map(|_| self.go_on_by))
            .min()
    }

    /// Try again what could not be opened: what is due, or (`all`, when an interface or a name changed) everything; and
    /// open anew what would be opened otherwise today. Gives the sockets that must close before [`Self::open`].
    pub(super) fn retry(&mut self, all: bool, env: &Env<'_>) {
        if self.restart_at.is_some_and(|at| at <= env.now) {
            self.restart_at = None;
            self.open_all(env);
        }
        let due = |w: &Waiting| all || w.retry_at <= env.now;
        let sources: Vec<_> = self.sources.iter().filter(|(_, s)| s.part.waiting().is_some_and(due)).collect();
        for name in sources.into_iter().map(|(n, _)| n.clone()).collect::<Vec<_>>() {
            self.open_source(&name, env);
        }
        let outputs: Vec<_> = self.outputs.iter().filter(|(_, o)| o.part.waiting().is_some_and(due)).collect();
        for name in outputs.into_iter().map(|(n, _)| n.clone()).collect::<Vec<_>>() {
            self.open_output(&name, env);
        }
        self.go_on(env.now);
        self.call(env);
    }

    /// The open parts whose interface or address is another now, as touches to be closed and opened.
    pub(super) fn moved(&self, env: &Env<'_>) -> Vec<crate::config::diff::Touch> {
        use crate::config::diff::Touch;
        let touch = |kind, name: &String, because: &str, effect| Touch {
            kind,
            name: name.clone(),
            effect,
            because: vec![because.to_owned()],
        };
        let sources = self.sources.iter().filter_map(|(name, source)| {
            let plan = self.plan.sources.get(name)?;
            if self.srt_moved(&srt::Part::Source(name.clone()), plan.interface.as_ref(), env) {
                return Some(touch(Kind::Source, name, "interface", Effect::Reopen));
            }
            if let (Some(open), Some(rist)) = (source.part.rist(), plan.rist()) {
                let now = resolve::rist_source(plan, rist, env.links);
                let moved = now.as_ref().ok() != open.spec();
                return moved.then(|| touch(Kind::Source, name, "interface", Effect::Reopen));
            }
            let Part::Open(spec) = &source.part else { return None };
            let now = resolve::source(plan, plan.datagrams()?, &self.plan, env.links);
            (now.as_ref() != Ok(spec)).then(|| touch(Kind::Source, name, "interface", Effect::Reopen))
        });
        let outputs = self.outputs.iter().filter_map(|(name, output)| {
            let plan = self.plan.outputs.get(name)?;
            if self.srt_moved(&srt::Part::Output(name.clone()), plan.interface.as_ref(), env) {
                return Some(touch(Kind::Output, name, "interface", Effect::Reopen));
            }
            let (open, now) = match (&output.part, &plan.route) {
                (Part::Open(config), OutputRoute::Datagrams(route)) => {
                    let now = resolve::output(plan, route, env.links, env.names, env.now);
                    (config.legs, now.map(|now| now.legs))
                }
                (Part::Rist(open), OutputRoute::Rist(rist)) => {
                    let sides = (env.links, env.names);
                    (open.legs(), resolve::legs(plan, &rist.destination, &rist.legs, sides, env.now))
                }
                _ => return None,
            };
            match now {
                // A name that can't be looked up for the moment keeps its address.
                Err(Unresolved::Name { .. } | Unresolved::Pending(_)) => None,
                Err(Unresolved::Interface(_)) => Some(touch(Kind::Output, name, "destination", Effect::Reopen)),
                // Its stream goes on: one leg of two may have come or gone.
                Ok(now) => (now != open).then(|| touch(Kind::Output, name, "destination", Effect::InPlace)),
            }
        });
        sources.chain(outputs).collect()
    }

    /// The host names that it needs.
    pub(super) fn host_names<'a>(&'a self) -> impl Iterator<Item = &'a str> {
        let outputs = self.plan.outputs.values().filter(|o| self.plan.enabled && o.enabled);
        let sources = self.plan.sources.values().filter(|s| self.plan.enabled && s.enabled);
        let remote = |srt: Option<&'a SrtPlan>| srt.and_then(|srt| srt.mode.remote());
        let destinations =
            move |o: &'a OutputPlan| o.paths().map(|(destination, _)| destination).chain(remote(o.srt()));
        outputs.flat_map(destinations).chain(sources.filter_map(move |s| remote(s.srt()))).filter_map(|destination| {
            match &destination.host {
                Host::Name(name) => Some(name.as_str()),
                Host::Address(_) => None,
            }
        })
    }

    pub(super) fn send(&self, command: FlowCommand) {
        if let Some(task) = &self.task {
            // A task that has just panicked is reported by its end.
            task.commands.send(command);
        }
    }

    pub(super) fn ensure_task(&mut self, env: &Env<'_>) {
        if self.task.is_some() {
            return;
        }
        self.runs += 1;
        let (commands, inbox) = orders();
        let seed = FlowSeed {
            name: self.name.clone(),
            gather: self.plan.gather,
            analyse: self.plan.analyse,
            stats: self.stats.clone(),
            commands: inbox,
            news: env.news.clone(),
            resumes: self.before.is_some(),
        };
        // Its connections are known by the thread.
        let shard = self.before.as_ref().filter(|before| !before.links().is_empty()).map(|before| before.shard());
        let shard = env.shards.spawn(self.name.clone(), self.runs, shard, seed);
        self.task = Some(Task { commands, run: self.runs, shard, air: AirConfig::Single, watching: None });
        self.set_air();
        self.watch_content(env);
    }

    /// Have somebody look at what is on air, if the plan wants it, and for what it wants.
    fn watch_content(&mut self, env: &Env<'_>) {
        let wanted = Wanted::of(&self.plan);
        if let Some(task) =
            self.task.as_mut().filter(|task| task.watching.as_ref().map(Watching::wanted) != wanted.as_ref())
        {
            let start = |wanted| Watching::start(wanted, env.helpers.clone(), task.commands.courier());
            task.watching = wanted.map(start);
        }
    }

    /// Tell the task how its sources become one stream, if that is news.
    fn set_air(&mut self) {
        let Some(task) = &mut self.task else { return };
        let wanted = air::config(&self.plan);
        if wanted != task.air {
            task.air.clone_from(&wanted);
            self.send(FlowCommand::Air(wanted));
        }
    }

    pub(super) fn end_if_idle(&mut self) {
        let entitled = self.entitlements.values().any(|entitlement| entitlement.is_open());
        let open = entitled
            || self.sources.values().any(|s| s.part.is_open())
            || self.outputs.values().any(|o| o.part.is_open());
        if !open {
            // Its orders end, and so does it.
            self.task = None;
            self.senders.clear();
            self.kept.release_all(&self.name, |owner| matches!(owner, Owner::Sender(_)));
        }
    }

    fn retune_flow(&mut self, env: &Env<'_>) {
        let mut gro = false;
        for (name, source) in &mut self.sources {
            let Part::Open(spec) = &mut source.part else { continue };
            let Some(plan) = self.plan.sources.get(name) else { continue };
            let Some(input) = plan.datagrams() else { continue };
            if let Ok(now) = resolve::source(plan, input, &self.plan, env.links) {
                spec.gro = now.gro;
                gro |= now.gro;
            }
        }
        self.send(FlowCommand::Gather { gather: self.plan.gather, gro });
        self.send(FlowCommand::Analyse(self.plan.analyse));
        self.set_air();
        self.watch_content(env);
    }

    /// Make the task panic; for tests.
    pub(super) fn panic(&self) {
        self.send(FlowCommand::Panic);
    }
}

/// A problem in words.
pub(super) fn describe(problem: &Problem) -> String {
    match problem {
        Problem::Unresolved(Unresolved::Interface(name)) => format!("interface {name} is not there"),
        Problem::Unresolved(Unresolved::Pending(name)) => format!("{name} is being looked up"),
        Problem::Unresolved(Unresolved::Name { name, error }) => format!("{name} can't be looked up: {error}"),
        Problem::Open(error) => error.clone(),
    }
}

/// For SSRCs: any 32 bits will do where the kernel has none to give.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or(0x6D63_7273)
}
