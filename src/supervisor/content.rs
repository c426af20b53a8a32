//! Who looks at the pictures and the sound of a flow: a connection to a helper, made anew when it ends, and what it said.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::entry::Entry;
use crate::config::plan::FailoverPlan;
use crate::content::wire::{HEAD, Kind, Message, Report, State, Wanted, WireError};
use crate::content::{ContentFault, Finding};
use crate::flow::analysis;
use crate::flow::tap::{Tap, TapStats};
use crate::flow::{Courier, FlowCommand};
use crate::observe::condition::Condition;
use crate::observe::event::{Event, emit};
use crate::observe::status::{ContentDoc, SourceState, ThumbnailDoc};
use crate::observe::text::{cut, rfc3339, span};
use crate::proto::mpegts::codec;
use crate::time::Instant;

/// How long until a helper is called again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Between two connections, of whichever flow: systemd starts a process for each.
const TURN: Duration = Duration::from_millis(50);
/// A helper takes no longer than this to be connected, and to read the first line.
const CONNECT: Duration = Duration::from_secs(5);
/// A helper that has said nothing for so long, or for three pictures, hangs.
const SILENCE: Duration = Duration::from_secs(30);
/// After each message: no helper has the supervisor's ear for itself.
const GAP: Duration = Duration::from_millis(50);
/// Without a helper for so long, what it said last is no longer known, and that is told.
const TROUBLE: Duration = Duration::from_secs(10);
/// A picture or a sound that is named is missing when nothing came for so long: the rates are those of a second.
const MISSING: Duration = Duration::from_secs(3);
/// Of what a helper says why it ends, in bytes.
const LONGEST_FAULT: usize = 300;

/// Where helpers are, and whose turn it is to call one.
#[derive(Debug)]
pub(super) struct Helpers {
    socket: PathBuf,
    next: Cell<Instant>,
}

impl Helpers {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, next: Cell::new(Instant::now()) }
    }

    async fn turn(&self) {
        let now = Instant::now();
        let mine = self.next.get().max(now);
        self.next.set(mine + TURN);
        sleep(mine.saturating_duration_since(now)).await;
    }
}

/// A flow that is looked at. It ends when dropped.
#[derive(Debug)]
pub(super) struct Watching {
    wanted: Wanted,
    seen: Rc<RefCell<Seen>>,
    stats: Arc<TapStats>,
    live: watch::Sender<bool>,
    helpers: Rc<Helpers>,
    commands: Courier,
    task: JoinHandle<()>,
}

/// What a helper has seen.
#[derive(Debug, Default)]
struct Seen {
    picture: Option<(Bytes, SystemTime)>,
    black: Known,
    frozen: Known,
    silent: Known,
    trouble: Option<Trouble>,
    /// How often a helper could not be had, or ended.
    failures: u64,
}

/// What is known of one thing that is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Unknown,
    Right,
    /// Since then.
    Wrong(Instant),
}

/// Why there is no helper.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    since: Instant,
    tries: u64,
    /// It was there, and ended.
    reached: bool,
    error: String,
}

impl Known {
    /// Hear what a helper says now. One that does not know yet has nothing against what was known.
    fn hear(&mut self, state: State, now: Instant) {
        *self = match (state, *self) {
            (State::Unknown, known) | (State::Wrong(_), known @ Self::Wrong(_)) => known,
            (State::Right, _) => Self::Right,
            (State::Wrong(ms), _) => Self::Wrong(now.checked_sub(Duration::from_millis(ms)).unwrap_or(now)),
        };
    }
}

impl Seen {
    /// Hear a message.
    ///
    /// # Errors
    /// The helper ends, and says why.
    fn hear(&mut self, message: Message, now: Instant) -> Result<(), String> {
        match message {
            Message::Picture(picture) => {
                self.picture = Some((picture.into(), SystemTime::now()));
                self.trouble = None;
            }
            Message::Report(Report { black, frozen, silent, fault }) => {
                self.black.hear(black, now);
                self.frozen.hear(frozen, now);
                self.silent.hear(silent, now);
                if let Some(fault) = fault {
                    let printable = |c: char| if c.is_control() { ' ' } else { c };
                    return Err(cut(&fault, LONGEST_FAULT).chars().map(printable).collect());
                }
                self.trouble = None;
            }
        }
        Ok(())
    }

    fn fail(&mut self, reached: bool, error: String, now: Instant) {
        self.failures += 1;
        let (since, tries) = self.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.tries));
        self.trouble = Some(Trouble { since, tries: tries + 1, reached, error });
    }

    fn trouble(&self, now: Instant) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| now.saturating_duration_since(trouble.since) >= TROUBLE)
    }

    fn known(&self, fault: ContentFault, now: Instant) -> Known {
        match fault {
            _ if self.trouble(now).is_some() => Known::Unknown,
            ContentFault::Black => self.black,
            ContentFault::Frozen => self.frozen,
            ContentFault::Silent => self.silent,
            ContentFault::VideoMissing | ContentFault::AudioMissing => Known::Unknown,
        }
    }
}

impl Watching {
    pub(super) fn start(wanted: Wanted, helpers: Rc<Helpers>, commands: Courier) -> Self {
        let (seen, stats) = (Rc::<RefCell<Seen>>::default(), Arc::<TapStats>::default());
        let (live, is_live) = watch::channel(false);
        let (helpers_too, commands_too) = (helpers.clone(), commands.clone());
        let call = Call { wanted, helpers, commands, seen: seen.clone(), stats: stats.clone() };
        let task = tokio::task::spawn_local(call.again_and_again(is_live));
        Self { wanted, seen, stats, live, helpers: helpers_too, commands: commands_too, task }
    }

    /// What is looked for.
    pub(super) const fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
        self.commands.send(FlowCommand::Tap(None));
    }
}

/// What connections of one flow are made with.
struct Call {
    wanted: Wanted,
    helpers: Rc<Helpers>,
    commands: Courier,
    seen: Rc<RefCell<Seen>>,
    stats: Arc<TapStats>,
}

impl Call {
    async fn again_and_again(self, mut is_live: watch::Receiver<bool>) {
        let mut wait = RETRY.0;
        // Where nothing is on air there is nothing to look at.
        while is_live.wait_for(|live| *live).await.is_ok() {
            self.helpers.turn().await;
            let began = Instant::now();
            let (reached, error) = match self.connect().await {
                Ok(stream) => (true, self.listen(stream).await),
                Err(error) => (false, format!("{} can't be reached: {error}", self.helpers.socket.display())),
            };
            self.commands.send(FlowCommand::Tap(None));
            self.seen.borrow_mut().fail(reached, error, Instant::now());
            if began.elapsed() >= RETRY.1 {
                wait = RETRY.0;
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Call a helper, and let the flow write to it.
    async fn connect(&self) -> io::Result<UnixStream> {
        let line = self.wanted.line();
        let connected = timeout(CONNECT, async {
            let mut stream = UnixStream::connect(&self.helpers.socket).await?;
            stream.write_all(line.as_bytes()).await?;
            Ok::<_, io::Error>(stream)
        });
        let stream = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.into_std()?;
        let tap = Tap::new(stream.try_clone()?, self.stats.clone())?;
        self.commands.send(FlowCommand::Tap(Some(Box::new(tap))));
        UnixStream::from_std(stream)
    }

    /// Listen until the helper ends, or must not go on; why.
    async fn listen(&self, mut stream: UnixStream) -> String {
        let patience = SILENCE.max(self.wanted.thumbnails.unwrap_or_default() * 3);
        let why = loop {
            let message = match timeout(patience, next(&mut stream)).await {
                Err(_) => break format!("it has said nothing for {}", span(patience)),
                Ok(Err(WireError::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    break "it ended".to_owned();
                }
                Ok(Err(error)) => break format!("it does not speak as it should: {error}"),
                Ok(Ok(message)) => message,
            };
            if let Err(why) = self.seen.borrow_mut().hear(message, Instant::now()) {
                break why;
            }
            sleep(GAP).await;
        };
        if let Ok(stream) = stream.into_std() {
            // The flow has its end still; the helper may have closed its own.
            let _ = stream.shutdown(Shutdown::Both);
        }
        why
    }
}

async fn next(stream: &mut UnixStream) -> Result<Message, WireError> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await?;
    let (kind, length) = Kind::of_head(head)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Message::parse(kind, body)
}

/// What is wrong with pictures and sound over time.
#[derive(Debug, Default)]
pub(super) struct ContentSample {
    found: Vec<Found>,
    /// A picture, and a sound, that is named and does not come: since when, and which.
    absent: [Option<(Instant, Stream)>; 2],
    /// There is no helper, and that was told.
    trouble: Option<Instant>,
}

/// A program and a PID.
type Stream = (u16, u16);

#[derive(Debug, Clone, Copy)]
struct Found {
    fault: ContentFault,
    since: Instant,
    stream: Option<Stream>,
}

impl Found {
    fn finding(&self, now: Instant) -> Finding {
        let Self { fault, since, stream } = *self;
        Finding { fault, lasted: now.saturating_duration_since(since), stream }
    }
}

impl ContentSample {
    /// What is wrong, in words.
    pub(super) fn finding(&self, fault: ContentFault, now: Instant) -> Option<Finding> {
        self.found.iter().find(|found| found.fault == fault).map(|found| found.finding(now))
    }
}

/// The first picture, and the first sound, that is named and of which nothing came in the last second.
fn absent(report: &analysis::Report) -> [Option<Stream>; 2] {
    [codec::Kind::Video, codec::Kind::Audio].map(|kind| {
        let of_kind = report.streams.iter().filter(|stream| stream.codec.kind() == kind && !stream.still_picture);
        let nothing = |pid| report.pids.iter().any(|figures| figures.pid == pid && figures.bits_per_second == 0);
        of_kind.map(|stream| (stream.program, stream.pid)).find(|(_, pid)| nothing(*pid))
    })
}

impl Entry {
    fn watching(&self) -> Option<&Watching> {
        self.task.as_ref()?.watching.as_ref()
    }

    /// The analysis of what is on air; `None`: nothing is.
    fn on_air_analysis(&self) -> Option<&analysis::AnalysisStats> {
        let mut sources = self.sources.values();
        let source = sources.find(|s| self.carries(s) && s.sample.state == SourceState::Receiving)?;
        let merges = matches!(self.plan.failover, Some(FailoverPlan::Merge { .. }));
        Some(if merges { &self.stats.merge.analysis } else { &source.stats.analysis })
    }

    /// See what is wrong with pictures and sound, and say what changed.
    pub(super) fn sample_content(&mut self, now: Instant) {
        let on_air = self.on_air_analysis();
        let absent = match self.plan.content.and(on_air) {
            Some(analysis) => analysis.read(absent).unwrap_or_default(),
            None => [None; 2],
        };
        let since = |(before, absent): (Option<(Instant, Stream)>, Option<Stream>)| {
            absent.map(|stream| (before.map_or(now, |(since, _)| since), stream))
        };
        let [picture, sound] = [0, 1].map(|n| since((self.content.absent[n], absent[n])));
        let found = if on_air.is_some() { self.found([picture, sound], now) } else { Vec::new() };
        if let Some(watching) = self.watching() {
            let live = on_air.is_some();
            watching.live.send_if_modified(|before| std::mem::replace(before, live) != live);
        }
        self.content.absent = [picture, sound];
        let before = std::mem::replace(&mut self.content.found, found);
        let is_in = |list: &[Found], fault| list.iter().any(|found| found.fault == fault);
        let flow = || self.name.clone();
        for found in self.content.found.iter().filter(|found| !is_in(&before, found.fault)) {
            emit(Event::ContentFault { flow: flow(), finding: found.finding(now) });
        }
        for Found { fault, since, .. } in before.into_iter().filter(|found| !is_in(&self.content.found, found.fault)) {
            emit(Event::ContentBack { flow: flow(), fault, after: now.saturating_duration_since(since) });
        }
        self.sample_helper(now);
    }

    fn found(&self, absent: [Option<(Instant, Stream)>; 2], now: Instant) -> Vec<Found> {
        let missing = |fault, absent: Option<(Instant, Stream)>| {
            let (since, stream) = absent?;
            let long = now.saturating_duration_since(since) >= MISSING;
            long.then_some(Found { fault, since, stream: Some(stream) })
        };
        let wrong = |fault| match self.watching()?.seen.borrow().known(fault, now) {
            Known::Wrong(since) => Some(Found { fault, since, stream: None }),
            Known::Right | Known::Unknown => None,
        };
        let [picture, sound] = absent;
        let (picture, sound) =
            (missing(ContentFault::VideoMissing, picture), missing(ContentFault::AudioMissing, sound));
        // What is not there is neither black nor silent.
        let mut found: Vec<_> = picture.into_iter().chain(sound).collect();
        if picture.is_none() {
            found.extend(wrong(ContentFault::Black).into_iter().chain(wrong(ContentFault::Frozen)));
        }
        if sound.is_none() {
            found.extend(wrong(ContentFault::Silent));
        }
        found
    }

    fn sample_helper(&mut self, now: Instant) {
        let trouble = self.watching().and_then(|watching| watching.seen.borrow().trouble(now).cloned());
        let flow = || self.name.clone();
        match (self.content.trouble, &trouble) {
            (None, Some(trouble)) => emit(Event::ThumbnailFailed { flow: flow(), error: trouble.error.clone() }),
            (Some(since), None) if self.watching().is_some() => {
                emit(Event::ThumbnailBack { flow: flow(), after: now.saturating_duration_since(since) });
            }
            _ => {}
        }
        self.content.trouble = trouble.map(|trouble| trouble.since);
    }

    /// What is to be said of pictures, sound, and who looks at them.
    pub(super) fn content_conditions(&self, now: Instant, add: &mut dyn FnMut(Condition)) {
        self.content.found.iter().for_each(|found| add(Condition::Content(found.finding(now))));
        if let Some(watching) = self.watching()
            && let Some(trouble) = watching.seen.borrow().trouble(now)
        {
            let Trouble { tries, reached, error, .. } = trouble.clone();
            add(Condition::ThumbnailUnavailable { socket: watching.helpers.socket.clone(), error, tries, reached });
        }
    }

    /// Of pictures and sound; `None`: nobody asks for it.
    pub(super) fn content_doc(&self, now: Instant) -> Option<Box<ContentDoc>> {
        if self.plan.content.is_none() && self.plan.thumbnails.is_none() {
            return None;
        }
        let on_air = self.on_air_analysis();
        let is = |fault| self.content.finding(fault, now).is_some();
        let seen = |fault| {
            let known = self.watching()?.seen.borrow().known(fault, now);
            (on_air.is_some() && known != Known::Unknown).then(|| is(fault))
        };
        let there = |fault| self.plan.content.and(on_air)?.read(|_| is(fault));
        let watching = self.watching();
        Some(Box::new(ContentDoc {
            black: seen(ContentFault::Black),
            frozen: seen(ContentFault::Frozen),
            silent: seen(ContentFault::Silent),
            video_missing: there(ContentFault::VideoMissing),
            audio_missing: there(ContentFault::AudioMissing),
            packets_dropped: watching.map_or(0, |watching| watching.stats.dropped.value()),
            helper_failures: watching.map_or(0, |watching| watching.seen.borrow().failures),
        }))
    }

    /// Where the newest picture is.
    pub(super) fn thumbnail_doc(&self) -> Option<ThumbnailDoc> {
        let seen = self.watching()?.seen.borrow();
        let (_, time) = seen.picture.as_ref()?;
        Some(ThumbnailDoc { path: format!("/v1/flows/{}/thumbnail", self.name), time: rfc3339(*time) })
    }

    /// The newest picture.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn thumbnail(&self) -> Result<Bytes, String> {
        let name = &self.name;
        if self.plan.thumbnails.is_none() {
            return Err(format!("flow {name} has no thumbnails: set `thumbnails` in [monitoring]"));
        }
        let picture = self.watching().and_then(|watching| Some(watching.seen.borrow().picture.as_ref()?.0.clone()));
        picture.ok_or_else(|| format!("flow {name} has no thumbnail yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(black: State) -> Message {
        Message::Report(Report { black, ..Report::default() })
    }

    fn black(seen: &Seen, now: Instant) -> Known {
        seen.known(ContentFault::Black, now)
    }

    #[test]
    fn a_new_helper_that_does_not_know_yet_has_nothing_against_what_was_known() {
        let (mut seen, start) = (Seen::default(), Instant::now() + Duration::from_secs(100));
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(black(&seen, at(0)), Known::Unknown);
        seen.hear(report(State::Wrong(10_000)), at(0)).unwrap();
        let since = Known::Wrong(start - Duration::from_secs(10));
        assert_eq!(black(&seen, at(0)), since);
        seen.fail(true, "it ended".to_owned(), at(1));
        seen.hear(report(State::Unknown), at(2)).unwrap();
        assert_eq!(black(&seen, at(2)), since);
        // It has seen less of it than the one before.
        seen.hear(report(State::Wrong(9_000)), at(11)).unwrap();
        assert_eq!(black(&seen, at(11)), since);
        seen.hear(report(State::Right), at(12)).unwrap();
        assert_eq!(black(&seen, at(12)), Known::Right);
        seen.hear(report(State::Wrong(u64::MAX)), at(13)).unwrap();
        assert_eq!(black(&seen, at(13)), Known::Wrong(at(13)), "nothing is older than time");
    }

    #[test]
    fn without_a_helper_for_long_nothing_is_known_and_that_is_told_with_the_last_reason() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        seen.hear(report(State::Right), at(0)).unwrap();
        seen.fail(true, "it ended".to_owned(), at(0));
        seen.fail(false, "no such file".to_owned(), at(9));
        assert_eq!((seen.trouble(at(9)), black(&seen, at(9))), (None, Known::Right));
        let error = "no such file".to_owned();
        assert_eq!(seen.trouble(at(10)), Some(&Trouble { since: start, tries: 2, reached: false, error }));
        assert_eq!(black(&seen, at(10)), Known::Unknown);
        for good in [report(State::Unknown), Message::Picture(vec![0xFF, 0xD8])] {
            seen.fail(true, "it ended".to_owned(), at(10));
            seen.hear(good, at(11)).unwrap();
            assert_eq!(seen.trouble(at(30)), None);
        }
        assert_eq!((black(&seen, at(30)), seen.failures), (Known::Right, 4));
    }

    #[test]
    fn why_a_helper_ends_is_cut_and_harmless() {
        let fault = format!("\u{1b}[31mred\n{}", "x".repeat(1000));
        let message = Message::Report(Report { fault: Some(fault), ..Report::default() });
        let why = Seen::default().hear(message, Instant::now()).unwrap_err();
        assert!(why.starts_with(" [31mred xxx") && why.len() == LONGEST_FAULT, "{why}");
    }
}
