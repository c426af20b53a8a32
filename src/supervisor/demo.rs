//! `mediaconnectd --demo`: the real daemon on a temporary configuration, between a generator and receivers of its own.
//!
//! Nothing is relayed here. A flow fans out the test pattern; one of its outputs feeds a second flow by encrypted SRT.
//! Both are files that may be edited while they run; `mediaconnectctl` and HTTP see a daemon
//! like any other.

mod media;
mod place;
mod screen;

use crate::time::Instant;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::media::{Generator, RATE, Received, Receivers};
use self::place::Place;
use self::screen::{Figures, Screen, print};
use super::{StartError, StopSignals};
use crate::observe::http::View;
use crate::observe::status::FlowState;
use crate::observe::text::{count, rate, span};

/// The name of the demo's flow.
const FLOW: &str = "demo";
/// The flow that the demo's flow feeds by SRT.
const FAR_FLOW: &str = "demo-after-srt";
/// The SRT hop between the two: an output of the one, a source of the other.
const HOP: &str = "srt-hop";
/// For the flows' sockets to open, and the SRT hop to be connected.
const OPENING: Duration = Duration::from_secs(15);
/// For what is under way when the generator has stopped.
const DRAIN: Duration = Duration::from_secs(2);
/// Between looks at what comes soon.
const LOOK: Duration = Duration::from_millis(10);

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// No temporary directory, or it can't be written.
    #[error("can't make the demo's files in {}: {source}; set TMPDIR to a directory that you can write", path.display())]
    Place { path: PathBuf, source: std::io::Error },
    /// All taken.
    #[error("no port of 127.0.0.1 from {0} to {1} is free")]
    Ports(u16, u16),
    /// A thread or a socket.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The daemon does not come up.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The flow's sockets can't be opened.
    #[error("the demo's flow does not start: {0}")]
    Flow(String),
}

/// Run for so long, or until a signal comes; whether every output received everything.
pub(super) fn run(length: Option<Duration>) -> Result<bool, DemoError> {
    let (place, outputs, log) = Place::make()?;
    let names: Vec<&'static str> = outputs.iter().map(|output| output.name).collect();
    let mut screen = Screen::new(names.clone(), log)?;
    let receivers = Receivers::start(outputs.into_iter().map(|output| (output.receiver, output.wrapping)).collect())?;
    introduce(&place, length);
    let mut end = Ok(Figures::default());
    super::serve(place.dirs(), async |view, signals| {
        end = conduct(&view, signals, place.source, length, &receivers, &mut screen).await;
        "the end of the demo"
    })?;
    Ok(judge(&names, &end?))
}

/// What this is, and where to look.
fn introduce(place: &Place, length: Option<Duration>) {
    let dirs = place.dirs();
    let stop = length.map_or_else(|| "until Ctrl-C".to_owned(), |length| format!("for {}", span(length)));
    // The tool that was built or installed together with this program.
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("mediaconnectctl"));
    let ctl = beside.filter(|path| path.is_file()).unwrap_or_else(|| "mediaconnectctl".into());
    let here = std::env::current_dir().unwrap_or_default();
    let ctl = ctl.strip_prefix(&here).unwrap_or(&ctl);
    print(&format!(
        "mediaconnectd {}: demo, {stop}: a test pattern of {} by RTP into a flow, and out of it\n\n\
         edit the flow:   {}\n\
         watch it:        {} --config {} --runtime {} status --watch\n\
         and by HTTP:     http://{}/v1/status  http://{}/metrics\n\n",
        env!("CARGO_PKG_VERSION"),
        rate(RATE),
        place.flow_file().display(),
        ctl.display(),
        dirs.config.display(),
        dirs.runtime.display(),
        place.http,
        place.http,
    ));
}

/// Start the generator when the flow is there, show what happens, stop the generator, and wait for what is under way.
async fn conduct(
    view: &Rc<dyn View>,
    mut signals: StopSignals,
    port: u16,
    length: Option<Duration>,
    receivers: &Receivers,
    screen: &mut Screen,
) -> Result<Figures, DemoError> {
    // The terminal is closed.
    let mut hangup = signal(SignalKind::hangup())?;
    let start = Instant::now();
    while !is_open(view) {
        if start.elapsed() > OPENING {
            return Err(DemoError::Flow(troubles(view)));
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            _ = signals.received() => return Ok(Figures::default()),
        }
    }
    let start = Instant::now();
    let end = length.and_then(|length| start.checked_add(length));
    let generator = Generator::start(port)?;
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick.tick().await;
    loop {
        tokio::select! {
            _ = signals.received() => break,
            _ = hangup.recv() => break,
            () = until(end) => break,
            _ = tick.tick() => {
                screen.update(Figures { at: start.elapsed(), sent: generator.sent(), received: receivers.all() });
            }
        }
    }
    let mut figures = Figures { at: start.elapsed(), sent: generator.stop(), received: receivers.all() };
    let drained = Instant::now() + DRAIN;
    let is_everything = |figures: &Figures| figures.received.iter().all(|one| one.is_everything(figures.packets()));
    while !is_everything(&figures) && Instant::now() < drained {
        sleep(LOOK).await;
        figures.received = receivers.all();
    }
    screen.finish(&figures);
    Ok(figures)
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep(end - Instant::now()).await,
        None => std::future::pending().await,
    }
}

/// Both flows have their sockets, and SRT is connected: from now on everything must arrive.
fn is_open(view: &Rc<dyn View>) -> bool {
    let [near, far] = [FLOW, FAR_FLOW].map(|name| view.flow(name).filter(|flow| flow.state == FlowState::Active));
    let (Some(near), Some(_)) = (near, far) else { return false };
    near.outputs.get(HOP).is_some_and(|output| output.peers.iter().any(|peer| peer.srt.is_some()))
}

/// What the daemon says of flows that don't start.
fn troubles(view: &Rc<dyn View>) -> String {
    let conditions = [FLOW, FAR_FLOW].into_iter().filter_map(|name| view.flow(name)).flat_map(|flow| flow.conditions);
    let mut troubles: Vec<String> = conditions.map(|condition| condition.message).collect();
    troubles.extend(view.status().config.diagnostics.into_iter().map(|diagnostic| diagnostic.message));
    if troubles.is_empty() { "its sockets stay closed".to_owned() } else { troubles.join("; ") }
}

/// Say whether every output received everything, and if not, what it missed.
fn judge(names: &[&str], end: &Figures) -> bool {
    let sent = end.packets();
    if sent == 0 {
        print("\nFAILED: stopped before anything was sent\n");
        return false;
    }
    let wrong: Vec<String> = names
        .iter()
        .zip(&end.received)
        .filter(|(_, received)| !received.is_everything(sent))
        .map(|(name, received)| format!("FAILED: output {name}: {}\n", faults(received, sent)))
        .collect();
    if wrong.is_empty() {
        print(&format!(
            "\nOK: each of {} received all {sent} TS packets, every byte verified\n",
            count(names.len() as u64, "output")
        ));
        return true;
    }
    print(&format!("\n{}", wrong.concat()));
    false
}

fn faults(received: &Received, sent: u64) -> String {
    let verdict = &received.verdict;
    let faults = [
        (received.missing(sent), "missing"),
        (verdict.corrupt, "corrupt"),
        (verdict.duplicated, "received twice"),
        (verdict.reordered, "out of order"),
    ];
    let mut words: Vec<String> =
        faults.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} of {sent} TS packets {what}")).collect();
    if received.misshapen > 0 {
        words.push(format!("{} with a wrong size or RTP header", count(received.misshapen, "datagram")));
    }
    words.join(", ")
}
