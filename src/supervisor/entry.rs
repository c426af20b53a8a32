//! One flow as the supervisor holds it: its plan, its task, and which of its parts are open.

use crate::time::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::air::{self, LastSwitch};
use super::resolve::{self, Names, Unresolved};
use super::sample::{DelaySample, OutputSample, Since, SourceSample};
use super::shard::Shards;
use crate::config::diff::{Change, Effect, Kind};
use crate::config::plan::{DatagramInput, FlowPlan, OutputPlan, RtpHeader, SourcePlan, SourceProtocol};
use crate::config::value::{FlowName, Host};
use crate::flow::egress::{OutputConfig, SenderKey};
use crate::flow::source::{Receivers, SourceConfig};
use crate::flow::stats::{FlowStats, OutputStats, SourceStats};
use crate::flow::{AirConfig, FlowCommand, FlowSeed, Orders, orders};
use crate::io::links::Links;
use crate::io::open::{OpenError, ReceiveSpec, SendSpec, Sender, open_receiver, open_sender};
use crate::observe::event::{Event, emit};

/// How long until a part that can't be opened is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// What to ask of the kernel for an output socket.
const SEND_BUFFER: usize = 4 << 20;

/// What to ask of the kernel for a socket of FEC: there is at most one packet of it for four of media.
const FEC_RECEIVE_BUFFER: usize = 1 << 20;

/// What opening a part needs of the appliance.
pub(super) struct Env<'a> {
    pub(super) shards: &'a Shards,
    pub(super) links: &'a Links,
    pub(super) names: &'a Names,
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

/// Where a source or output stands; `S` is what it was opened with.
#[derive(Debug, Clone)]
pub(super) enum Part<S> {
    Closed,
    Waiting(Waiting),
    Open(S),
}

impl<S> Part<S> {
    pub(super) fn waiting(&self) -> Option<&Waiting> {
        if let Self::Waiting(waiting) = self { Some(waiting) } else { None }
    }

    fn fail(&mut self, problem: Problem, now: Instant) -> &Waiting {
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
}

impl SourceEntry {
    /// Whether the flow takes its packets from this source, as its task says.
    pub(super) fn on_air(&self) -> bool {
        matches!(self.part, Part::Open(_)) && self.stats.on_air.value() == 1
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
struct Task {
    commands: Orders,
    run: u64,
    /// What it was told last of how its sources become one stream.
    air: AirConfig,
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
    pub(super) stats: Arc<FlowStats>,
    /// The source that an operator put on air.
    choice: Option<String>,
    pub(super) last_switch: Option<LastSwitch>,
    pub(super) delay: DelaySample,
    pub(super) panics: u64,
    pub(super) panic_message: String,
    pub(super) conditions_since: Since,
    senders: BTreeMap<SenderKey, usize>,
    task: Option<Task>,
    runs: u64,
    /// After a panic: when it is started again.
    restart_at: Option<Instant>,
}

/// Sockets that are being closed; they are when all of these have answered.
pub(super) type Closing = Vec<oneshot::Receiver<()>>;

impl Entry {
    /// A flow of which nothing is open yet.
    pub(super) fn new(file: Arc<FlowPlan>, plan: Arc<FlowPlan>) -> Self {
        Self {
            name: file.name.clone(),
            file,
            plan,
            stale: None,
            sources: BTreeMap::new(),
            outputs: BTreeMap::new(),
            stats: Arc::default(),
            choice: None,
            last_switch: None,
            delay: DelaySample::default(),
            panics: 0,
            panic_message: String::new(),
            conditions_since: Since::default(),
            senders: BTreeMap::new(),
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
                Kind::Flow | Kind::Daemon => {}
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
                (Kind::Source, Effect::InPlace) => self.retune_source(&touch.name),
                (Kind::Output, Effect::InPlace) => self.retune_output(&touch.name, env),
                (Kind::Flow, Effect::InPlace) => self.retune_flow(env),
                _ => {}
            }
        }
        self.sources.retain(|name, _| self.plan.sources.contains_key(name));
        self.outputs.retain(|name, _| self.plan.outputs.contains_key(name));
        self.end_if_idle();
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
        self.panics += 1;
        let retry_in = RETRY.0.saturating_mul(1 << (self.panics - 1).min(8)).min(RETRY.1) / 10;
        self.restart_at = Some(now + retry_in);
        for source in self.sources.values_mut() {
            source.part = Part::Closed;
        }
        for output in self.outputs.values_mut() {
            output.part = Part::Closed;
        }
        emit(Event::FlowPanicked { flow: self.name.clone(), message: message.clone(), count: self.panics, retry_in });
        self.panic_message = message;
    }

    /// When [`Self::retry`] has something to do.
    pub(super) fn retry_due(&self) -> Option<Instant> {
        let sources = self.sources.values().filter_map(|s| s.part.waiting());
        let outputs = self.outputs.values().filter_map(|o| o.part.waiting());
        sources.chain(outputs).map(|w| w.retry_at).chain(self.restart_at).min()
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
            let Part::Open(spec) = &source.part else { return None };
            let plan = self.plan.sources.get(name)?;
            let now = resolve::source(plan, plan.datagrams()?, &self.plan, env.links);
            (now.as_ref() != Ok(spec)).then(|| touch(Kind::Source, name, "interface", Effect::Reopen))
        });
        let outputs = self.outputs.iter().filter_map(|(name, output)| {
            let Part::Open(config) = &output.part else { return None };
            let plan = self.plan.outputs.get(name)?;
            match resolve::output(plan, plan.datagrams()?, env.links, env.names, env.now) {
                // A name that can't be looked up for the moment keeps its address.
                Err(Unresolved::Name { .. } | Unresolved::Pending(_)) => None,
                Err(Unresolved::Interface(_)) => Some(touch(Kind::Output, name, "destination", Effect::Reopen)),
                // Its stream goes on: one leg of two may have come or gone.
                Ok(now) => (now != *config).then(|| touch(Kind::Output, name, "destination", Effect::InPlace)),
            }
        });
        sources.chain(outputs).collect()
    }

    /// The host names its outputs need.
    pub(super) fn host_names<'a>(&'a self) -> impl Iterator<Item = &'a str> {
        let enabled = self.plan.outputs.values().filter(|o| self.plan.enabled && o.enabled);
        let destinations = |o: &'a OutputPlan| o.paths().map(|(destination, _)| destination);
        enabled.flat_map(destinations).filter_map(|destination| match &destination.host {
            Host::Name(name) => Some(name.as_str()),
            Host::Address(_) => None,
        })
    }

    fn send(&self, command: FlowCommand) {
        if let Some(task) = &self.task {
            // A task that has just panicked is reported by its end.
            task.commands.send(command);
        }
    }

    fn ensure_task(&mut self, env: &Env<'_>) {
        if self.task.is_some() {
            return;
        }
        self.runs += 1;
        let (commands, inbox) = orders();
        self.task = Some(Task { commands, run: self.runs, air: AirConfig::Single });
        let seed = FlowSeed { gather: self.plan.gather, stats: self.stats.clone(), commands: inbox };
        env.shards.spawn(self.name.clone(), self.runs, seed);
        self.set_air();
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

    fn end_if_idle(&mut self) {
        let open = self.sources.values().any(|s| matches!(s.part, Part::Open(_)))
            || self.outputs.values().any(|o| matches!(o.part, Part::Open(_)));
        if !open {
            // Its orders end, and so does it.
            self.task = None;
            self.senders.clear();
        }
    }

    fn open_source(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.sources.get(name) else { return };
        let wanted = self.plan.enabled && plan.enabled;
        let input = plan.datagrams().ok_or_else(no_srt);
        let opened = input.and_then(|input| {
            let spec = resolve::source(plan, input, &self.plan, env.links).map_err(Problem::Unresolved)?;
            Ok((spec, input.protocol, source_config(plan, input)))
        });
        let entry = self.sources.entry(name.to_owned()).or_insert_with(|| {
            Box::new(SourceEntry {
                part: Part::Closed,
                stats: Arc::default(),
                granted: 0,
                opened: env.now,
                sample: SourceSample::default(),
            })
        });
        if !wanted || matches!(entry.part, Part::Open(_)) {
            return;
        }
        let opened = opened.and_then(|(spec, protocol, config)| match open_receivers(&spec, protocol) {
            Ok(receivers) => Ok((spec, config, receivers)),
            Err(error) => Err(Problem::Open(error.to_string())),
        });
        let (spec, config, receivers) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                let error = describe(&problem);
                let waiting = entry.part.fail(problem, env.now);
                if waiting.tries == 1 {
                    let retry_in = waiting.retry_at.saturating_duration_since(env.now);
                    emit(Event::SourceFailed { flow: self.name.clone(), source: name.to_owned(), error, retry_in });
                }
                return;
            }
        };
        if let Some(waiting) = entry.part.waiting() {
            let after = env.now.saturating_duration_since(waiting.since);
            emit(Event::SourceOpened { flow: self.name.clone(), source: name.to_owned(), after });
        }
        entry.granted = receivers.media.granted();
        entry.opened = env.now;
        // From here on the task says whether it is on air; until it does, it is not.
        entry.stats.on_air.set(0);
        if entry.granted < spec.receive_buffer {
            let (asked, granted) = (spec.receive_buffer as u64, entry.granted as u64);
            emit(Event::ReceiveBufferSmall { flow: self.name.clone(), source: name.to_owned(), asked, granted });
        }
        entry.part = Part::Open(spec);
        let stats = entry.stats.clone();
        self.ensure_task(env);
        self.send(FlowCommand::OpenSource { name: name.to_owned(), config, receivers, stats });
        if self.choice.as_deref() == Some(name) {
            // To the task it is a new source: it has forgotten that it was chosen.
            self.send(FlowCommand::Switch(self.choice.clone()));
        }
    }

    fn close_source(&mut self, name: &str, closing: &mut Closing) {
        let Some(entry) = self.sources.get_mut(name) else { return };
        if let Part::Open(_) = std::mem::replace(&mut entry.part, Part::Closed) {
            let (done, closed) = oneshot::channel();
            self.send(FlowCommand::CloseSource(name.to_owned(), done));
            closing.push(closed);
        }
    }

    fn retune_source(&mut self, name: &str) {
        let open = self.sources.get(name).is_some_and(|s| matches!(s.part, Part::Open(_)));
        if let Some(plan) = self.plan.sources.get(name).filter(|_| open)
            && let Some(input) = plan.datagrams()
        {
            self.send(FlowCommand::RetuneSource(name.to_owned(), source_config(plan, input)));
        }
    }

    fn open_output(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.outputs.get(name) else { return };
        let wanted = self.plan.enabled && plan.enabled;
        let entry = self.outputs.entry(name.to_owned()).or_insert_with(|| {
            Box::new(OutputEntry {
                part: Part::Closed,
                stats: Arc::default(),
                ssrc: random(),
                opened: SystemTime::now(),
                sample: OutputSample::default(),
            })
        });
        if !wanted || matches!(entry.part, Part::Open(_)) {
            return;
        }
        if let Some(RtpHeader::Regenerate { ssrc: Some(ssrc), .. }) = plan.header() {
            entry.ssrc = ssrc;
        }
        let destination = plan.place();
        let resolved = plan
            .datagrams()
            .ok_or_else(no_srt)
            .and_then(|route| resolve::output(plan, route, env.links, env.names, env.now).map_err(Problem::Unresolved));
        let opened = resolved.and_then(|config| open_senders(&config, &self.senders).map(|senders| (config, senders)));
        let (config, senders) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                let pending = matches!(problem, Problem::Unresolved(Unresolved::Pending(_)));
                let error = describe(&problem);
                let waiting = entry.part.fail(problem, env.now);
                if waiting.tries == 1 && !pending {
                    emit(Event::OutputFailed { flow: self.name.clone(), output: name.to_owned(), destination, error });
                }
                return;
            }
        };
        entry.part = Part::Open(config.clone());
        entry.opened = SystemTime::now();
        let (ssrc, stats) = (entry.ssrc, entry.stats.clone());
        self.ensure_task(env);
        self.hold_senders(&config, senders);
        self.send(FlowCommand::OpenOutput { name: name.to_owned(), config, ssrc, stats });
    }

    fn close_output(&mut self, name: &str, closing: &mut Closing) {
        let Some(entry) = self.outputs.get_mut(name) else { return };
        let Part::Open(config) = std::mem::replace(&mut entry.part, Part::Closed) else { return };
        self.send(FlowCommand::CloseOutput(name.to_owned()));
        closing.extend(self.release_senders(&config));
    }

    /// One more output uses its sockets, of which these are new.
    fn hold_senders(&mut self, config: &OutputConfig, new: Vec<(SenderKey, Sender)>) {
        for (key, sender) in new {
            self.send(FlowCommand::AddSender(key, sender));
        }
        config.senders().for_each(|key| *self.senders.entry(key).or_default() += 1);
    }

    /// An output uses its sockets no more. The shared ones stay for the outputs to come; a port that was asked for is
    /// given back.
    fn release_senders(&mut self, config: &OutputConfig) -> Closing {
        let mut closing = Closing::new();
        for key in config.senders() {
            let users = self.senders.entry(key).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 && key.source_port.is_some() {
                self.senders.remove(&key);
                let (done, closed) = oneshot::channel();
                self.send(FlowCommand::DropSender(key, done));
                closing.push(closed);
            }
        }
        closing
    }

    fn retune_output(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.outputs.get(name) else { return };
        let Some(route) = plan.datagrams() else { return };
        let Ok(config) = resolve::output(plan, route, env.links, env.names, env.now) else { return };
        let Some(Part::Open(open)) = self.outputs.get_mut(name).map(|o| &mut o.part) else { return };
        // Without a socket for a leg that has come everything stays as it is; this is tried again.
        let Ok(senders) = open_senders(&config, &self.senders) else { return };
        let before = std::mem::replace(open, config.clone());
        self.hold_senders(&config, senders);
        self.send(FlowCommand::RetuneOutput(name.to_owned(), config));
        // Nobody has to wait for a socket that closes.
        drop(self.release_senders(&before));
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
        self.set_air();
    }

    /// Make the task panic; for tests.
    pub(super) fn panic(&self) {
        self.send(FlowCommand::Panic);
    }
}

/// The sockets an output needs besides those that are there.
fn open_senders(
    config: &OutputConfig,
    there: &BTreeMap<SenderKey, usize>,
) -> Result<Vec<(SenderKey, Sender)>, Problem> {
    let missing = config.senders().filter(|key| !there.contains_key(key));
    let open = |key: SenderKey| {
        let spec = SendSpec { family: key.family, source_port: key.source_port, send_buffer: SEND_BUFFER };
        let sender = open_sender(&spec).map_err(|error| Problem::Open(error.to_string()))?;
        Ok((key, sender))
    };
    missing.map(open).collect()
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

/// A source's socket, and those of its FEC: all of them, or none.
fn open_receivers(spec: &ReceiveSpec, protocol: SourceProtocol) -> Result<Receivers, OpenError> {
    let media = open_receiver(spec)?;
    let SourceProtocol::RtpFec { fec_ports: [column, row], .. } = protocol else {
        return Ok(Receivers { media, fec: None });
    };
    let fec = |offset: u16| {
        let mut spec = ReceiveSpec { receive_buffer: FEC_RECEIVE_BUFFER, ..spec.clone() };
        // The plan has checked that it is a port.
        spec.bind.set_port(spec.bind.port().wrapping_add(offset));
        open_receiver(&spec)
    };
    Ok(Receivers { media, fec: Some([fec(column)?, fec(row)?]) })
}

fn source_config(plan: &SourcePlan, input: &DatagramInput) -> SourceConfig {
    SourceConfig { protocol: input.protocol, allow: input.allow.clone(), max_bitrate: plan.max_bitrate }
}

fn no_srt() -> Problem {
    Problem::Open("SRT is not built into this branch".to_owned())
}

/// For SSRCs: any 32 bits will do where the kernel has none to give.
fn random() -> u32 {
    getrandom::u32().unwrap_or(0x6D63_7273)
}
