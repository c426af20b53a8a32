//! From an event to the journal, syslog or standard error: a bounded queue and one thread. Who logs never waits; what
//! does not fit is counted, and said.

use crate::time::Instant;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use super::alarm::Alarm;
use super::event::Event;
use super::feed::{EventType, feed};
use super::journal::Journal;
use super::stderr::Stderr;
use super::syslog::Syslog;
use super::text::count;
use super::throttle::Throttle;
use crate::config::plan::{LogPlan, LogTarget};

/// Records that may wait for the thread.
const QUEUE: usize = 4096;
/// How often held lines are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// One line on its way.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) time: SystemTime,
    pub(super) level: Level,
    pub(super) target: Cow<'static, str>,
    pub(super) message: String,
    /// 32 hex digits; `None` for what is no `Event`.
    pub(super) message_id: Option<&'static str>,
    /// What an alarm's event tells beyond the line.
    pub(super) alarm: Option<Box<(EventType, Alarm)>>,
    /// `event`, `flow`, `source`, `output`, and what a `tracing` event carried.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Record {
    pub(super) fn new(level: Level, target: impl Into<Cow<'static, str>>, message: String) -> Self {
        Self {
            time: SystemTime::now(),
            level,
            target: target.into(),
            message,
            message_id: None,
            alarm: None,
            fields: Vec::new(),
        }
    }

    pub(super) fn of(event: &Event) -> Self {
        let kind = event.kind();
        let mut record = Self::new(kind.level, kind.target, event.to_string());
        record.message_id = Some(kind.message_id);
        record.fields.push(("event", kind.name.to_owned()));
        for (name, value) in [("flow", event.flow()), ("source", event.source()), ("output", event.output())] {
            record.fields.extend(value.map(|value| (name, value.to_owned())));
        }
        if let Some((what, alarm)) = event.alarm() {
            record.fields.push(("alarm", alarm.name.clone()));
            record.alarm = Some(Box::new((what, alarm.clone())));
        }
        record
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// The severity of syslog and the journal (RFC 5424, table 2).
    pub(super) fn severity(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        }
    }

    /// The message on one line: control characters, which may come from a file, are escaped.
    pub(super) fn line(&self) -> Cow<'_, str> {
        if !self.message.contains(char::is_control) {
            return Cow::Borrowed(&self.message);
        }
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Cow::Owned(self.message.chars().map(escape).collect())
    }
}

/// Why logging can't start or be changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level and not a list of `target=level`.
    #[error(
        "`{0}` is no log level; write trace, debug, info, warn, error or off, or a filter such as \"info,mediaconnect::flow=debug\""
    )]
    Level(String),
    /// The system gives no thread.
    #[error("can't start the logging thread: {0}")]
    Thread(#[source] io::Error),
    /// Another logger is in place.
    #[error("logging was started before")]
    Twice,
}

/// A filter as `[log] level` takes it: a level, or a comma-separated list of `target=level` and at most one level.
///
/// # Errors
/// A word that is no level. (`Targets` alone would take it for the name of a target.)
pub fn parse_level(text: &str) -> Result<Targets, LogError> {
    let wrong = || LogError::Level(text.to_owned());
    for part in text.split(',') {
        let (target, level) = part.split_once('=').unwrap_or(("all", part));
        let known = !level.trim().is_empty() && level.trim().parse::<LevelFilter>().is_ok();
        if target.trim().is_empty() || !known {
            return Err(wrong());
        }
    }
    let tidy: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    tidy.parse().map_err(|_| wrong())
}

enum Message {
    Record(Record),
    Targets(Box<LogPlan>),
    Flush(Instant, SyncSender<()>),
}

/// What those who log share with the thread.
struct Pipeline {
    queue: SyncSender<Message>,
    filter: RwLock<Targets>,
    throttle: Mutex<Throttle>,
    dropped: AtomicU64,
}

static PIPELINE: OnceLock<Arc<Pipeline>> = OnceLock::new();

impl Pipeline {
    fn enabled(&self, target: &str, level: &Level) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).would_enable(target, level)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit_event(&self, event: &Event) {
        // Alarms have a hold of their own, and none may be missing.
        if event.alarm().is_some() {
            return self.tell(Record::of(event));
        }
        let key = (event.kind().name, event.flow().map(str::to_owned), event.part());
        let admitted = self.throttle().admit(key, Record::of(event), Instant::now());
        if let Some(record) = admitted {
            self.tell(record);
        }
    }

    /// To those who follow events, all of them; to the log, what its level lets through.
    fn tell(&self, record: Record) {
        feed().publish(&record);
        if self.enabled(&record.target, &record.level) {
            self.submit(record);
        }
    }

    fn submit(&self, record: Record) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Queue an event's line. Before [`start`] it goes nowhere.
pub(super) fn submit_event(event: &Event) {
    if let Some(pipeline) = PIPELINE.get() {
        pipeline.submit_event(event);
    }
}

/// Lines that did not fit into the queue since the start.
pub fn lines_dropped() -> u64 {
    PIPELINE.get().map_or(0, |pipeline| pipeline.dropped.load(Ordering::Relaxed))
}

/// Start logging: the thread, the process-wide `tracing` subscriber, and [`super::event::emit`].
///
/// # Errors
/// A wrong level, no thread to be had, or started before.
pub fn start(plan: &LogPlan) -> Result<Logger, LogError> {
    let logger = Logger::new(plan, Places::default())?;
    let subscriber = Registry::default().with(Capture(Arc::clone(&logger.pipeline)));
    PIPELINE.set(Arc::clone(&logger.pipeline)).map_err(|_| LogError::Twice)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(logger)
}

/// Logging as it runs.
pub struct Logger {
    pipeline: Arc<Pipeline>,
}

impl Logger {
    fn new(plan: &LogPlan, places: Places) -> Result<Self, LogError> {
        let (queue, messages) = sync_channel(QUEUE);
        let pipeline = Arc::new(Pipeline {
            queue,
            filter: RwLock::new(parse_level(&plan.level)?),
            throttle: Mutex::default(),
            dropped: AtomicU64::new(0),
        });
        let mut writer = Writer { pipeline: Arc::clone(&pipeline), places, sinks: Vec::new(), dropped: 0 };
        writer.open(plan);
        let run = move || writer.run(&messages);
        thread::Builder::new().name("log".to_owned()).spawn(run).map_err(LogError::Thread)?;
        Ok(Self { pipeline })
    }

    /// Change level and targets; lines queued before go to the old targets.
    ///
    /// # Errors
    /// A wrong level: nothing is changed.
    pub fn apply(&self, plan: &LogPlan) -> Result<(), LogError> {
        let filter = parse_level(&plan.level)?;
        *self.pipeline.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
        tracing::callsite::rebuild_interest_cache();
        self.send(Message::Targets(Box::new(plan.clone())), Instant::now() + Duration::from_secs(2));
        Ok(())
    }

    /// Wait until what is queued and held back has been written, at most `timeout`; whether it was. For the end.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let held = self.pipeline.throttle().drain();
        held.into_iter().for_each(|record| self.pipeline.tell(record));
        let (done, wait) = sync_channel(1);
        self.send(Message::Flush(deadline, done), deadline)
            && wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    /// Queue a message that must not be dropped: waits for room until `deadline`.
    fn send(&self, mut message: Message, deadline: Instant) -> bool {
        loop {
            match self.pipeline.queue.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => message = back,
                Err(_) => return false,
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sockets of the host; tests have their own.
#[derive(Debug, Clone)]
struct Places {
    journal: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { journal: PathBuf::from("/run/systemd/journal/socket") }
    }
}

impl Places {
    /// Where lines go if the plan does not say: to the journal where systemd started this process, else to stderr.
    fn targets(&self, plan: &LogPlan) -> Vec<LogTarget> {
        // The variable names the process itself: a child of some other service is not mistaken for one.
        let ours = || std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        match plan.targets.as_slice() {
            [] if super::stderr::is_journal() || (ours() && self.journal.exists()) => vec![LogTarget::Journal],
            [] => vec![LogTarget::Stderr],
            targets => targets.to_vec(),
        }
    }
}

/// Where lines end.
enum Sink {
    Journal(Journal),
    Syslog(Syslog),
    Stderr(Stderr),
}

impl Sink {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        match self {
            Self::Journal(sink) => sink.write(record),
            Self::Syslog(sink) => sink.write(record),
            Self::Stderr(sink) => sink.write(record),
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(_) => f.write_str("journal"),
            Self::Syslog(sink) => write!(f, "syslog ({})", sink.server()),
            Self::Stderr(_) => f.write_str("stderr"),
        }
    }
}

/// A sink, whether it is at fault, and how many lines that cost so far.
struct Outlet {
    sink: Sink,
    faulty: bool,
    lost: u64,
}

impl Outlet {
    /// Write it; the news, if the sink began or ceased to fail.
    fn write(&mut self, record: &Record) -> Option<String> {
        let written = self.sink.write(record);
        let (waiting, gone) = match &self.sink {
            Sink::Syslog(sink) => sink.trouble(),
            _ => (None, 0),
        };
        self.lost += gone + u64::from(written.is_err());
        let fault = written.err().map(|error| format!("{error}; its lines are lost until it works")).or(waiting);
        let before = std::mem::replace(&mut self.faulty, fault.is_some());
        match fault {
            Some(fault) if !before => Some(format!("log target {}: {fault}", self.sink)),
            None if before => {
                let lost = count(std::mem::take(&mut self.lost), "line");
                Some(format!("log target {} works again; {lost} lost", self.sink))
            }
            _ => None,
        }
    }
}

/// The thread's own.
struct Writer {
    pipeline: Arc<Pipeline>,
    places: Places,
    sinks: Vec<Outlet>,
    dropped: u64,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut swept = Instant::now();
        loop {
            match messages.recv_timeout(SWEEP) {
                Ok(Message::Record(record)) => self.write(&record),
                Ok(Message::Targets(plan)) => self.open(&plan),
                Ok(Message::Flush(deadline, done)) => {
                    self.flush(deadline);
                    // Who waits may have given up.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_dropped();
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                let held = self.pipeline.throttle().sweep(swept);
                held.into_iter().for_each(|record| self.pipeline.tell(record));
            }
        }
    }

    /// Open the plan's targets; those that were open and stay as they are go on, with what waits in them.
    fn open(&mut self, plan: &LogPlan) {
        let mut old = std::mem::take(&mut self.sinks);
        for target in self.places.targets(plan) {
            let same = |outlet: &Outlet| match (&outlet.sink, target) {
                (Sink::Journal(_), LogTarget::Journal) | (Sink::Stderr(_), LogTarget::Stderr) => true,
                (Sink::Syslog(sink), LogTarget::Syslog) => *sink.plan() == plan.syslog,
                _ => false,
            };
            if let Some(at) = old.iter().position(same) {
                self.sinks.push(old.swap_remove(at));
                continue;
            }
            let sink = match target {
                LogTarget::Journal => Journal::open(&self.places.journal).map(Sink::Journal),
                LogTarget::Syslog => Syslog::open(&plan.syslog).map(Sink::Syslog),
                LogTarget::Stderr => Ok(Sink::Stderr(Stderr::default())),
            };
            match sink {
                Ok(sink) => self.sinks.push(Outlet { sink, faulty: false, lost: 0 }),
                Err(error) => self.complain(format!("log target {target:?} can't be opened: {error}")),
            }
        }
    }

    fn write(&mut self, record: &Record) {
        let news: Vec<_> = self.sinks.iter_mut().filter_map(|outlet| outlet.write(record)).collect();
        news.into_iter().for_each(|text| self.complain(text));
    }

    /// Say it where lines still arrive; on stderr if nowhere.
    fn complain(&mut self, text: String) {
        let record = Record::new(Level::WARN, "mediaconnect::log", text);
        let mut said = false;
        for outlet in self.sinks.iter_mut().filter(|outlet| !outlet.faulty) {
            said |= outlet.sink.write(&record).is_ok();
        }
        if !said {
            // If stderr is closed too, nobody listens.
            let _ = Stderr::default().write(&record);
        }
    }

    fn report_dropped(&mut self) {
        let dropped = self.pipeline.dropped.load(Ordering::Relaxed);
        if dropped > self.dropped {
            let text =
                format!("{} log lines dropped: they came faster than they could be written", dropped - self.dropped);
            self.dropped = dropped;
            self.write(&Record::new(Level::WARN, "mediaconnect::log", text));
        }
    }

    fn flush(&mut self, deadline: Instant) {
        for outlet in &mut self.sinks {
            if let Sink::Syslog(sink) = &mut outlet.sink {
                sink.flush(deadline);
            }
        }
    }
}

/// The `tracing` layer: events of this and other crates become records.
struct Capture(Arc<Pipeline>);

impl<S: Subscriber> Layer<S> for Capture {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.enabled(metadata.target(), metadata.level())
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record::new(*metadata.level(), metadata.target(), String::new());
        event.record(&mut Fields(&mut record));
        self.0.submit(record);
    }
}

struct Fields<'a>(&'a mut Record);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.0.message.push_str(value),
            name => self.0.fields.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String cannot fail; a failing Debug leaves what it wrote.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests;
