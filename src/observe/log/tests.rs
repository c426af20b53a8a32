use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use super::*;
use crate::config::plan::{SyslogFormat, SyslogPlan, SyslogServer};
use crate::observe::event::tests::every;

const PATIENCE: Duration = Duration::from_secs(30);

/// A journald that the test reads.
struct Journald {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Journald {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("journal")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { dir, socket }
    }

    fn places(&self) -> Places {
        Places { journal: self.dir.path().join("journal") }
    }

    fn next(&self) -> String {
        let mut buffer = vec![0; 65_536];
        let n = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }
}

fn plan(level: &str, targets: &[LogTarget]) -> LogPlan {
    LogPlan {
        level: level.to_owned(),
        targets: targets.to_vec(),
        syslog: SyslogPlan {
            server: SyslogServer::Path("/dev/null/no-such-socket".into()),
            format: SyslogFormat::Rfc3164,
            facility: 3,
        },
    }
}

fn message(text: &str) -> &str {
    text.lines().next().unwrap().strip_prefix("MESSAGE=").unwrap()
}

#[test]
fn events_and_tracing_events_reach_the_journal() {
    let journald = Journald::new();
    let logger = Logger::new(&plan("info", &[LogTarget::Journal]), journald.places()).unwrap();
    for event in every() {
        logger.pipeline.submit_event(&event);
        let text = journald.next();
        assert_eq!(message(&text), event.to_string());
        assert!(text.contains(&format!("\nMESSAGE_ID={}\n", event.kind().message_id)));
        assert!(text.contains(&format!("\nMEDIACONNECT_EVENT={}\n", event.kind().name)));
    }
    let subscriber = Registry::default().with(Capture(Arc::clone(&logger.pipeline)));
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(target: "mediaconnect::io", fd = 7, "short {}", "read");
    });
    let text = journald.next();
    assert_eq!(message(&text), "short read");
    assert!(text.contains("\nPRIORITY=4\n") && text.contains("\nMEDIACONNECT_FD=7\n"), "{text}");
}

#[test]
fn the_level_changes_while_it_runs_and_by_target() {
    let journald = Journald::new();
    let logger = Logger::new(&plan("warn", &[LogTarget::Journal]), journald.places()).unwrap();
    let stopping = |why: &str| Event::DaemonStopping { why: why.to_owned(), flows: 0 };
    logger.pipeline.submit_event(&stopping("one"));
    logger.apply(&plan("warn,mediaconnect::daemon=info", &[LogTarget::Journal])).unwrap();
    logger.pipeline.submit_event(&stopping("two"));
    assert!(message(&journald.next()).contains("two"));
    assert!(logger.apply(&plan("inof", &[])).is_err());
    logger.pipeline.submit_event(&stopping("three"));
    assert!(message(&journald.next()).contains("three"), "a wrong level changes nothing");
}

#[test]
fn a_target_added_while_it_runs_gets_the_lines_after_it() {
    let journald = Journald::new();
    let syslogd = UnixDatagram::bind(journald.dir.path().join("log")).unwrap();
    let logger = Logger::new(&plan("info", &[LogTarget::Journal]), journald.places()).unwrap();
    let mut both = plan("info", &[LogTarget::Journal, LogTarget::Syslog]);
    both.syslog.server = SyslogServer::Path(journald.dir.path().join("log"));
    logger.apply(&both).unwrap();
    logger.pipeline.submit_event(&Event::WatchBack);
    assert!(logger.flush(PATIENCE));
    assert!(message(&journald.next()).contains("notifications"));
    let mut buffer = [0; 1024];
    let n = syslogd.recv(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..n]).starts_with("<30>"));
}

#[test]
fn a_target_that_fails_is_named_on_the_others_once_and_again_when_it_works() {
    let journald = Journald::new();
    let mut both = plan("info", &[LogTarget::Syslog, LogTarget::Journal]);
    both.syslog.server = SyslogServer::Path(journald.dir.path().join("log"));
    let logger = Logger::new(&both, journald.places()).unwrap();
    logger.pipeline.submit_event(&Event::WatchBack);
    logger.pipeline.submit_event(&Event::WatchBack);
    let lines: Vec<_> = (0..3).map(|_| message(&journald.next()).to_owned()).collect();
    assert!(lines[0].contains("notifications") && lines[2].contains("notifications"), "{lines:?}");
    assert!(lines[1].starts_with("log target syslog ("), "{lines:?}");
    let _syslogd = UnixDatagram::bind(journald.dir.path().join("log")).unwrap();
    logger.pipeline.submit_event(&Event::WatchBack);
    journald.next();
    assert!(message(&journald.next()).ends_with("works again; 2 lines lost"));
}

#[test]
fn whoever_logs_never_waits_and_what_is_dropped_is_said() {
    let journald = Journald::new();
    let logger = Logger::new(&plan("info", &[LogTarget::Journal]), journald.places()).unwrap();
    // Nobody reads the journal's socket: the queue must fill, and this must end.
    while logger.pipeline.dropped.load(Ordering::Relaxed) == 0 {
        logger.pipeline.submit(Record::new(Level::INFO, "t", "line".to_owned()));
    }
    let (tell, told) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        while told.try_recv().is_err() {
            if journald.next().contains("log lines dropped") {
                return true;
            }
        }
        false
    });
    let end = Instant::now() + PATIENCE;
    while !reader.is_finished() && Instant::now() < end {
        logger.pipeline.submit(Record::new(Level::INFO, "t", "line".to_owned()));
        logger.flush(PATIENCE);
    }
    // It may have ended by itself.
    let _ = tell.send(());
    assert!(reader.join().unwrap());
}

#[test]
fn levels_are_what_the_contract_says_and_nothing_else() {
    for good in ["info", "INFO", "off", "debug", "info,mediaconnect::srt=debug", "warn, mediaconnect::flow = trace"] {
        assert!(parse_level(good).is_ok(), "{good}");
    }
    for bad in ["", "inof", "7seven", "info,,", "mediaconnect::flow", "mediaconnect::flow=loud", "=info"] {
        assert!(parse_level(bad).is_err(), "{bad}");
    }
    let filter = parse_level("warn, mediaconnect::flow = trace").unwrap();
    assert!(filter.would_enable("mediaconnect::flow", &Level::TRACE));
    assert!(!filter.would_enable("mediaconnect::config", &Level::INFO));
}

#[test]
fn without_targets_in_the_plan_a_process_that_systemd_did_not_start_logs_to_stderr() {
    // The test's own environment decides; where it has none of systemd's variables the answer is known.
    if std::env::var_os("JOURNAL_STREAM").is_none() {
        assert_eq!(Journald::new().places().targets(&plan("info", &[])), [LogTarget::Stderr]);
    }
}

#[test]
fn control_characters_cannot_forge_a_line() {
    let record = Record::new(Level::INFO, "t", "a\nb\x1b[2J".to_owned());
    assert_eq!(record.line(), "a\\nb\\u{1b}[2J");
}
