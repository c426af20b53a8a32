//! The hall: plans become running flows.

mod air;
mod alarms;
mod apply;
mod args;
mod command;
mod conditions;
mod content;
pub mod control;
mod demo;
mod entitle;
mod entry;
mod figures;
mod history;
mod http;
mod kept;
mod overview;
pub(crate) mod resolve;
mod rist;
mod sample;
pub mod service;
mod shard;
mod srt;
mod state;
mod store;
mod transport_stream;
mod versions;
mod view;
pub mod watch;

use crate::time::Instant;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::args::Args;
use self::control::{Handle, Request};
use self::kept::Kept;
use self::resolve::{Answer, Names};
use self::shard::{Ended, Shards};
use self::state::State;
use self::store::Store;
use self::view::StateView;
use self::watch::Watch;
use crate::audit::{Audit, Record};
use crate::config;
use crate::config::Context;
use crate::config::diff::{Action, Change};
use crate::config::plan::{DaemonPlan, FlowPlan, SubscriberPlan};
use crate::config::secrets::Secrets;
use crate::config::value::FlowName;
use crate::flow::FlowNews;
use crate::io::links::{Links, Watcher};
use crate::observe::event::{Event, emit};
use crate::observe::http::{View, serve_unix};
use crate::observe::log;
use crate::observe::notify::Notifiers;

/// The four places of config.md, and all that is under them.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// `mediaconnect.toml`, `flows.d`, `secrets`.
    pub config: PathBuf,
    /// `control.sock`.
    pub runtime: PathBuf,
    /// Last good versions, what operators set.
    pub state: PathBuf,
    /// The audit trail.
    pub log: PathBuf,
}

/// How long a link's settling is waited for: one change of the network is many messages.
const LINKS_SETTLE: Duration = Duration::from_millis(50);
/// How often the interfaces are read where the kernel does not tell of changes.
const LINKS_POLL: Duration = Duration::from_secs(5);

/// Why the daemon does not come up.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("another mediaconnectd runs with the runtime directory {}", .0.display())]
    Twice(PathBuf),
    #[error("{what} {}: {source}", path.display())]
    Place { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// `mediaconnectd`: run until told to stop.
pub fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    crate::flow::stats::start_clock();
    allow_many_descriptors();
    let succeeded = match args.demo() {
        Some(length) => demo::run(length).map_err(|error| error.to_string()),
        None => serve(args.dirs(), async |_, mut signals| signals.received().await)
            .map(|()| true)
            .map_err(|e| e.to_string()),
    };
    match succeeded {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mediaconnectd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shells and containers often set 1024 for those who use select(2): 1000 flows are more.
fn allow_many_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it is refused, sockets that can't be opened are reported one by one.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Run on this thread until `stop` says why to end. It begins when the first apply is done.
fn serve(dirs: Dirs, stop: impl AsyncFnOnce(Rc<dyn View>, StopSignals) -> &'static str) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let result = runtime.block_on(local.run_until(run(dirs, stop)));
    // Look-ups in progress are nobody's any more.
    runtime.shutdown_background();
    result
}

async fn run(dirs: Dirs, stop: impl AsyncFnOnce(Rc<dyn View>, StopSignals) -> &'static str) -> Result<(), StartError> {
    let place = |what, path: &PathBuf| {
        let path = path.clone();
        move |source| StartError::Place { what, path, source }
    };
    std::fs::create_dir_all(&dirs.runtime).map_err(place("can't make the runtime directory", &dirs.runtime))?;
    let _lock = lock(&dirs)?;
    let store = Store::open(&dirs.state).map_err(place("can't use the state directory", &dirs.state))?;
    let (signals, mut hangup) = (StopSignals::new()?, signal(SignalKind::hangup())?);
    let mut watch = Watch::start(&dirs.config);

    let secrets = Secrets::new(&dirs.config, &Context { by_daemon: true, ..Context::default() });
    let settings = |dir: &Path| config::load_settings(dir, &secrets);
    let daemon = settings(&dirs.config).or_else(|| settings(store.dir())).unwrap_or_default();
    let logger = log::start(&daemon.log).map_err(|e| std::io::Error::other(e.to_string()))?;
    install_panic_hook();

    let good = good_plans(&store, &daemon, &dirs.config, |_| true);
    let subscribers = good_subscribers(&store, &daemon, &secrets, |_| true);
    let (ended_tx, ended) = mpsc::unbounded_channel();
    let (answers_tx, answers) = mpsc::unbounded_channel();
    let (news_tx, news) = mpsc::unbounded_channel();
    let (derived_tx, derived) = mpsc::unbounded_channel();
    let shards = Shards::start(&daemon.limits, &ended_tx)?;
    let audit = Arc::new(Audit::start(&dirs.log, &dirs.state)?);
    let kept = Rc::new(Kept::start(&dirs.runtime));
    let state = Rc::new(RefCell::new(State {
        started: Instant::now(),
        ready: false,
        generation: 0,
        last_reload: SystemTime::now(),
        diagnostics: Vec::new(),
        logged: BTreeSet::new(),
        limits: daemon.limits.clone(),
        flows: BTreeMap::new(),
        good,
        rejected: Vec::new(),
        unreadable: BTreeMap::new(),
        held_back: BTreeSet::new(),
        overrides: store.overrides(),
        store,
        links: Links::read().unwrap_or_default(),
        names: Names::new(answers_tx),
        ports: RefCell::new(srt::Ports::new(kept.clone(), shards.len())),
        shards,
        news: news_tx,
        keys: srt::Keys::new(derived_tx),
        helpers: Rc::new(content::Helpers::new(crate::content::socket(&dirs.runtime))),
        kept,
        subscribers,
        entitlements: entitle::Entitlements::new(&dirs.state, &dirs.log, audit.clone()),
        listeners: http::Listeners::default(),
        http_failed: BTreeMap::new(),
        http_refused: Cell::new(0),
        http_retry_at: Instant::now() + http::RETRY,
        polling: None,
        logger: Some(logger),
        since: sample::Since::default(),
        turns: 0,
        alarms: alarms::Alarms::default(),
        alarms_at: Instant::now(),
        notifiers: Notifiers::start(&daemon.notifiers)?,
        daemon,
        audit,
        dirs: dirs.clone(),
    }));
    let (uid, pid) = (nix::unistd::Uid::effective().as_raw(), std::process::id());
    state.borrow().audit.record(Record::Start { version: env!("CARGO_PKG_VERSION"), uid, pid });
    let view: Rc<dyn View> = Rc::new(StateView(state.clone()));

    let (handle, requests) = Handle::new();
    let socket = dirs.runtime.join("control.sock");
    let listener = bind_control(&socket).map_err(place("can't listen on", &socket))?;
    let control = tokio::task::spawn_local(serve_unix(listener, view.clone(), handle));

    let prepared = apply::prepare(&state.borrow(), &mut watch);
    apply::close_unwanted(&state, &prepared).await;
    {
        let mut s = state.borrow_mut();
        let State { listeners, http_failed, daemon, .. } = &mut *s;
        listeners.apply(&daemon.http, http_failed, &view);
    }
    apply::apply(&state, prepared, &view).await;
    let mut supervisor = Supervisor {
        state,
        view: view.clone(),
        watch,
        requests,
        ended,
        answers,
        news,
        derived,
        links: Watcher::new().ok(),
    };
    supervisor.started();
    let why = supervisor.reconcile(&mut hangup, stop(view, signals)).await;
    supervisor.drain(why).await;
    control.abort();
    // The next daemon makes its own.
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Only one daemon a runtime directory.
fn lock(dirs: &Dirs) -> Result<Flock<std::fs::File>, StartError> {
    let path = dirs.runtime.join("mediaconnectd.lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StartError::Place { what: "can't open", path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StartError::Twice(dirs.runtime.clone()))
}

/// The control socket: anybody may connect, and is judged by the credentials of its process.
fn bind_control(path: &PathBuf) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// The last good versions, with their keys as they are now. One whose key is not there can't run.
fn good_plans(
    store: &Store,
    daemon: &DaemonPlan,
    config_dir: &Path,
    wanted: impl Fn(&FlowName) -> bool,
) -> BTreeMap<FlowName, Arc<FlowPlan>> {
    let kept = store.flows(wanted);
    let secrets = Secrets::new(config_dir, &Context { by_daemon: true, ..Context::default() });
    let parse = |(name, text): (FlowName, Vec<u8>)| {
        let plan = config::parse_flow(&name, &store.flow_path(&name), &text, daemon, &secrets).0?;
        Some((name, Arc::new(plan)))
    };
    kept.into_iter().filter_map(parse).collect()
}

/// The same of subscribers.
fn good_subscribers(
    store: &Store,
    daemon: &DaemonPlan,
    secrets: &Secrets,
    wanted: impl Fn(&FlowName) -> bool,
) -> BTreeMap<String, Arc<SubscriberPlan>> {
    let parse = |(name, text): (FlowName, Vec<u8>)| {
        let path = store.subscriber_path(name.as_str());
        let plan = config::parse_subscriber(&name, &path, &text, daemon, secrets).0?;
        Some((name.to_string(), Arc::new(plan)))
    };
    store.subscribers(wanted).into_iter().filter_map(parse).collect()
}

/// Panics go where all lines go. That of a flow's task is told as an event; that of anything else ends the process.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        if !thread.name().is_some_and(|name| name.starts_with(shard::THREAD)) {
            // The process may end before the logging thread has its turn.
            eprintln!("mediaconnectd: panic: {info}");
        }
        tracing::error!(target: "mediaconnect::daemon", "panic: {info}");
    }));
}

/// What ends the daemon: SIGTERM or SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one; says which.
    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

struct Supervisor {
    state: Rc<RefCell<State>>,
    view: Rc<dyn View>,
    watch: Watch,
    requests: mpsc::Receiver<Request>,
    ended: mpsc::UnboundedReceiver<Ended>,
    answers: mpsc::UnboundedReceiver<Answer>,
    news: mpsc::UnboundedReceiver<FlowNews>,
    derived: mpsc::UnboundedReceiver<srt::Derived>,
    links: Option<Watcher>,
}

impl Supervisor {
    fn started(&self) {
        let mut s = self.state.borrow_mut();
        s.ready = true;
        let took = s.started.elapsed();
        s.kept.begun();
        emit(Event::DaemonStarted { version: env!("CARGO_PKG_VERSION"), flows: s.flows.len(), took });
        service::ready(&summary(&s));
    }

    /// Take in triggers, commands, ends and time until told to stop; says by what.
    async fn reconcile(&mut self, hangup: &mut Signal, stop: impl Future<Output = &'static str>) -> &'static str {
        let mut stop = std::pin::pin!(stop);
        let mut tick = tokio::time::interval(sample::INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut links_read = Instant::now();
        let mut watchdog = service::Watchdog::new(self.state.borrow().shards.heartbeats());
        let mut rounds = tokio::time::interval(service::Watchdog::interval());
        loop {
            tokio::select! {
                why = &mut stop => return why,
                _ = hangup.recv() => {
                    self.watch.settle().await;
                    self.reload().await;
                }
                () = self.watch.changed() => drop(self.reload().await),
                Some(request) = self.requests.recv() => self.answer(request).await,
                Some(Ended { flow, run, panic }) = self.ended.recv() => {
                    let mut s = self.state.borrow_mut();
                    if let (Some(entry), Some(message)) = (s.flows.get_mut(&flow), panic) {
                        entry.panicked(run, message, Instant::now());
                    }
                }
                Some(news) = self.news.recv() => {
                    let mut s = self.state.borrow_mut();
                    if let FlowNews::Link(news) = &news {
                        s.kept.hear(news);
                        s.entitlements.ledger.hear(news, Instant::now(), SystemTime::now());
                    }
                    let (flows, env) = s.split(Instant::now());
                    let flow = match &news {
                        FlowNews::Link(news) => &news.flow,
                        FlowNews::Rist(news) => &news.flow,
                    };
                    if let Some(entry) = flows.get_mut(flow) {
                        match news {
                            FlowNews::Link(news) => entry.hear(news, &env),
                            FlowNews::Rist(news) => entry.hear_rist(news),
                        }
                    }
                }
                Some(derived) = self.derived.recv() => {
                    let mut s = self.state.borrow_mut();
                    let (flows, env) = s.split(Instant::now());
                    if let Some(entry) = flows.get_mut(&derived.job.flow) {
                        entry.derived(derived, &env);
                    }
                }
                Some(answer) = self.answers.recv() => {
                    let changed = self.state.borrow().names.answered(answer, Instant::now());
                    if changed {
                        self.settle(true).await;
                    }
                }
                told = changed(&mut self.links) => {
                    if told.is_err() {
                        // From now on they are read every few seconds.
                        self.links = None;
                    }
                    tokio::time::sleep(LINKS_SETTLE).await;
                    self.read_links().await;
                    links_read = Instant::now();
                }
                _ = tick.tick() => {
                    self.tick().await;
                    if self.links.is_none() && links_read.elapsed() >= LINKS_POLL {
                        self.read_links().await;
                        links_read = Instant::now();
                    }
                }
                _ = rounds.tick() => {
                    let s = self.state.borrow();
                    watchdog.round(Instant::now(), || s.shards.ask_beat());
                    // What was retried has no reload to tell of it.
                    service::status(&summary(&s));
                }
            }
        }
    }

    async fn reload(&mut self) -> control::Outcome {
        service::reloading();
        self.revive();
        let prepared = apply::prepare(&self.state.borrow(), &mut self.watch);
        let outcome = apply::apply(&self.state, prepared, &self.view).await;
        let mut s = self.state.borrow_mut();
        s.polling = self.watch.polling().map(str::to_owned);
        service::ready(&summary(&s));
        outcome
    }

    /// Last good versions that could not run when the daemon started, for want of a key, may be able to by now.
    fn revive(&self) {
        let mut s = self.state.borrow_mut();
        let revived = good_plans(&s.store, &s.daemon, &s.dirs.config, |name| !s.good.contains_key(name));
        s.good.extend(revived);
        let secrets = Secrets::new(&s.dirs.config, &Context { by_daemon: true, ..Context::default() });
        let known = |name: &FlowName| s.subscribers.contains_key(name.as_str());
        let revived = good_subscribers(&s.store, &s.daemon, &secrets, |name| !known(name));
        s.subscribers.extend(revived);
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        let thawed = {
            let mut s = self.state.borrow_mut();
            s.look(now);
            if !s.names.is_empty() {
                let used: BTreeSet<&str> = s.flows.values().flat_map(entry::Entry::host_names).collect();
                s.names.refresh(|name| used.contains(name), now);
            }
            let retry_http = !s.http_failed.is_empty() && s.http_retry_at <= now;
            if retry_http {
                s.http_retry_at = now + http::RETRY;
                let State { listeners, http_failed, daemon, .. } = &mut *s;
                listeners.apply(&daemon.http, http_failed, &self.view);
            }
            s.watch_entitlements(now);
            s.kept.forget_unclaimed();
            let thawed = s.overrides.expire(SystemTime::now());
            if thawed {
                s.keep_overrides();
                emit(Event::Thawed { flow: None, by: "its time".to_owned() });
            }
            thawed
        };
        self.settle(false).await;
        if thawed {
            self.reload().await;
        }
    }

    async fn read_links(&mut self) {
        let Ok(links) = Links::read() else { return };
        let changed = {
            let mut s = self.state.borrow_mut();
            let changed = s.links != links;
            s.links = links;
            changed
        };
        if changed {
            self.settle(true).await;
        }
    }

    /// Try again what is due. `all`: the network changed; try everything, and move what is open elsewhere by now.
    async fn settle(&mut self, all: bool) {
        let now = Instant::now();
        let mut moved = Vec::new();
        {
            let mut s = self.state.borrow_mut();
            let (flows, env) = s.split(now);
            for entry in flows.values_mut() {
                let touches = if all { entry.moved(&env) } else { Vec::new() };
                if !touches.is_empty() {
                    moved.push(Change { flow: entry.name.to_string(), action: Action::Change, touches });
                }
                if all || entry.retry_due().is_some_and(|due| due <= now) {
                    entry.retry(all, &env);
                }
            }
        }
        for change in moved {
            apply::reopen(&self.state, &change).await;
        }
        if all {
            self.move_desk().await;
        }
    }

    /// Close everything, in order and with a bound on the time. What the next process goes on with is left last, so that
    /// it goes on soon.
    async fn drain(self, why: &str) {
        let left = self.state.borrow().kept.outlives();
        let mut closing = entry::Closing::new();
        {
            let mut s = self.state.borrow_mut();
            service::stopping(&summary(&s));
            emit(Event::DaemonStopping { why: why.to_owned(), flows: s.flows.len() });
            if !left {
                closing.extend(s.close_desk("the daemon stops"));
                closing.extend(s.flows.values_mut().flat_map(entry::Entry::close_all));
                closing.extend(s.ports.borrow_mut().sweep());
            }
        }
        apply::closed(closing).await;
        if left {
            self.leave().await;
        }
        // With all that they have carried.
        let why_over = if left { "the daemon begins anew, and the session goes on" } else { "the daemon stops" };
        self.state.borrow_mut().entitlements.ledger.close(why_over, Instant::now(), SystemTime::now());
        self.state.borrow().audit.record(Record::Stop { why: why.to_owned() });
        if let Some(logger) = &self.state.borrow().logger {
            logger.flush(Duration::from_secs(2));
        }
    }

    /// Leave where the flows stand to the next process.
    async fn leave(&self) {
        let kept = self.state.borrow().kept.clone();
        self.state.borrow().ports.borrow_mut().stop_answering();
        let suspend =
            |entry: &entry::Entry| Some((entry.name.to_string(), entry.task.as_ref()?.shard, entry.suspend()));
        let suspended: Vec<_> = self.state.borrow().flows.values().filter_map(suspend).collect();
        let (at, mut flows) = (Instant::now(), BTreeMap::new());
        let until = tokio::time::Instant::now() + apply::CLOSING;
        for (name, shard, state) in suspended {
            // One that is stuck begins anew, and a task that is gone has none.
            let state = tokio::time::timeout_at(until, state).await.ok().and_then(Result::ok);
            flows.extend(state.map(|state| (name, state.of_shard(shard))));
        }
        kept.leave(at, flows).await;
    }
}

async fn changed(watcher: &mut Option<Watcher>) -> std::io::Result<()> {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

/// For `systemctl status`.
fn summary(s: &State) -> String {
    use crate::observe::status::FlowState;
    let count = |state| s.flows.values().filter(|e| e.state() == state).count();
    let stale = s.flows.values().filter(|e| e.stale.is_some()).count();
    let (total, active, error) = (s.flows.len(), count(FlowState::Active), count(FlowState::Error));
    format!("{total} flows: {active} active, {error} in error, {stale} stale")
}
