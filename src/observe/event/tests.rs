use std::collections::BTreeSet;

use super::*;
use crate::observe::alarm::Of;

const TEN: Duration = Duration::from_secs(10);

fn flow() -> FlowName {
    "news".parse().unwrap()
}

fn s(text: &str) -> String {
    text.to_owned()
}

fn diagnostic(severity: diagnostic::Level) -> Diagnostic {
    Diagnostic {
        severity,
        file: "flows.d/news.toml".into(),
        line: 3,
        column: 7,
        flow: Some(s("news")),
        message: s("unknown key `latncy`"),
        help: Some(s("did you mean `latency`?")),
    }
}

/// One of every kind.
pub(in crate::observe) fn every() -> Vec<Event> {
    use Event as E;
    let (address, path) = ("127.0.0.1:9740".parse().unwrap(), || PathBuf::from("flows.d/news.toml"));
    let (source, output, error, by) = (|| s("venue"), || s("playout"), || s("permission denied"), || s("alice"));
    let all = vec![
        E::DaemonStarted { version: "0.1.0", flows: 12, took: TEN },
        E::TakenOver { sockets: 202, flows: 100, sent_away: 2, gap: Some(TEN) },
        E::StateUnreadable { error: error() },
        E::DaemonStopping { why: s("SIGTERM"), flows: 12 },
        E::FlowStarted { flow: flow(), sources: 1, outputs: 10 },
        E::FlowStopped { flow: flow(), why: s("its file is gone") },
        E::FlowChanged { flow: flow(), what: s("output playout reopened (destination)") },
        E::FlowPanicked { flow: flow(), message: s("index out of bounds"), count: 1, retry_in: TEN },
        E::SourceReceiving { flow: flow(), source: source(), from: address },
        E::SourceLost { flow: flow(), source: source(), silent_for: TEN, bitrate_bps: 8_000_000, covered: false },
        E::SourceBack { flow: flow(), source: source(), after: TEN },
        E::SourceFailed { flow: flow(), source: source(), error: error(), retry_in: TEN },
        E::SourceOpened { flow: flow(), source: source(), after: TEN },
        E::StreamRestarted { flow: flow(), source: source(), why: s("SSRC 0x1 became 0x2") },
        E::ReceiveBufferSmall { flow: flow(), source: source(), asked: 8_388_608, granted: 425_984 },
        E::SourceOnAir { flow: flow(), source: source() },
        E::Switched { flow: flow(), from: Some(s("a")), to: s("b"), why: s("a was silent"), gap: TEN },
        E::LegsNotIdentical { flow: flow(), source: source() },
        E::LegRejoined { flow: flow(), source: source() },
        E::ContentFault { flow: flow(), finding: Finding { fault: ContentFault::Black, lasted: TEN, stream: None } },
        E::ContentBack { flow: flow(), fault: ContentFault::Black, after: TEN },
        E::ThumbnailFailed { flow: flow(), error: error() },
        E::ThumbnailBack { flow: flow(), after: TEN },
        E::SrtConnected { flow: flow(), part: part(), peer: address, terms: s("SRT 1.5.1, in clear, latency 120 ms") },
        ended("the peer closed it", false),
        E::SrtKeyUnconfirmed { flow: flow(), part: part(), peer: address, why: s("it does not take the next key") },
        E::SrtRefused {
            flow: flow(),
            part: part(),
            peer: address,
            why: s("wrong passphrase"),
            stream_id: Some(s("a")),
        },
        E::SrtCallFailed { flow: flow(), part: part(), remote: s("198.51.100.7:5000"), why: s("no answer") },
        E::EntitlementOpened {
            flow: flow(),
            entitlement: s("main"),
            subscriber: s("acme"),
            peer: address,
            terms: s("SRT 1.5.1, AES-128, latency 120 ms"),
        },
        E::EntitlementClosed {
            flow: flow(),
            entitlement: s("main"),
            subscriber: s("acme"),
            peer: address,
            why: s("the subscriber is disabled"),
            lasted: TEN,
            bytes: 5_000_000,
        },
        refused(Some("main"), Some("acme")),
        E::EntitlementsFailed { bind: s(":7000"), error: error(), retry_in: TEN },
        E::EntitlementsListening { bind: s(":7000") },
        E::AccountsUnwritten { path: path(), error: error() },
        E::AccountsWritten { path: path() },
        E::OutputFailed { flow: flow(), output: output(), destination: s("198.51.100.7:5000"), error: error() },
        E::OutputBack { flow: flow(), output: output(), after: TEN, dropped: 1 },
        E::ConfigApplied { generation: 2, started: 1, stopped: 0, changed: 3, rejected: 1, took: TEN },
        E::ConfigDiagnostic { diagnostic: diagnostic(diagnostic::Level::Error) },
        E::ConfigDiagnostic { diagnostic: diagnostic(diagnostic::Level::Warning) },
        E::RestartNeeded { keys: vec![s("limits.workers")] },
        E::ConfigStale { flow: flow(), file: path() },
        E::ConfigRecovered { flow: flow(), file: path() },
        E::ConfigUnreadable { path: path(), error: error() },
        E::ConfigReadable { path: path() },
        E::WatchPolling { error: error(), every: TEN },
        E::WatchBack,
        E::HttpFailed { address, error: error(), retry_in: TEN },
        E::HttpListening { address },
        E::OperatorDenied { by: "bob".into(), uid: 1001, command: "stop news".into() },
        E::AuditHead { head: "0123456789abcdef:7:00".into() },
        E::AuditFailed { path: "/var/log/mediaconnect/audit.jsonl".into(), error: error() },
        E::AuditBack { records: 3 },
        E::HttpTokenWrong { address: address.ip() },
        E::OperatorCommand { by: by(), uid: 1000, command: s("stop news"), flow: Some(flow()), error: None },
        E::Frozen { flow: None, by: by(), until: Some(SystemTime::UNIX_EPOCH) },
        E::Thawed { flow: Some(flow()), by: by() },
        E::ShardStuck { shard: 1, silent_for: TEN },
        E::WorkerUnpinned { cpu: 6, error: error() },
        E::AlarmRaised { flow: Some(flow()), alarm: alarm() },
        E::AlarmCleared { flow: Some(flow()), alarm: alarm(), after: TEN },
        E::NotifierFailed { notifier: s("noc"), error: error() },
        E::NotifierBack { notifier: s("noc"), after: TEN },
        E::NotifierDropped { notifier: s("noc"), count: 2, why: s("more than 1000 wait") },
        E::NotifyFailed { error: error() },
    ];
    let arms = include_str!("../event.rs").matches("kind(\"").count();
    assert_eq!(all.iter().map(|event| event.kind().name).collect::<BTreeSet<_>>().len(), arms);
    all
}

fn refused(entitlement: Option<&str>, subscriber: Option<&str>) -> Event {
    Event::EntitlementRefused {
        flow: entitlement.map(|_| flow()),
        entitlement: entitlement.map(s),
        subscriber: subscriber.map(s),
        peer: "203.0.113.10:41522".parse().unwrap(),
        code: 1403,
        reason: "expired",
        why: s("the entitlement has expired"),
        stream_id: Some(s("#!::u=acme,r=news/main")),
    }
}

#[test]
fn a_refused_call_for_an_entitlement_says_who_and_why() {
    assert_eq!(
        refused(Some("main"), Some("acme")).to_string(),
        "news/main call from 203.0.113.10:41522 as subscriber acme refused: the entitlement has expired (1403) (stream ID \
         \"#!::u=acme,r=news/main\")"
    );
    let stranger = refused(None, None);
    assert!(stranger.to_string().starts_with("entitlements: call from 203.0.113.10:41522 refused: "));
    // What it calls itself makes no place of its own where floods are held back.
    assert_eq!((stranger.flow(), stranger.part()), (None, "//expired".to_owned()));
}

fn alarm() -> Alarm {
    Alarm {
        id: s("5f-a1"),
        name: s("low"),
        of: Of::Source(s("venue")),
        severity: Severity::Critical,
        message: s("source-bitrate is 850 kbit/s, below 1.00 Mbit/s"),
        value: Some(850e3),
        threshold: Some(1e6),
        notify: None,
        since: SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn an_alarm_says_what_is_wrong_where_and_how_long_it_was() {
    let raised = Event::AlarmRaised { flow: Some(flow()), alarm: alarm() };
    assert_eq!(raised.to_string(), "news/venue alarm low: source-bitrate is 850 kbit/s, below 1.00 Mbit/s");
    assert_eq!(raised.kind().level, Level::ERROR);
    let of_all = Alarm { of: Of::Whole, ..alarm() };
    let cleared = Event::AlarmCleared { flow: None, alarm: of_all, after: TEN };
    assert_eq!(cleared.to_string(), "appliance alarm low is over after 10s");
}

fn part() -> Part {
    Part::Output(s("playout"))
}

fn ended(why: &str, orderly: bool) -> Event {
    let (peer, why) = ("203.0.113.10:41522".parse().unwrap(), s(why));
    Event::SrtEnded { flow: flow(), part: Part::Source(s("venue")), peer, why, orderly }
}

#[test]
fn every_kind_has_an_id_and_a_name_of_its_own() {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for event in every() {
        let kind = event.kind();
        assert!(ids.insert(kind.message_id) && names.insert(kind.name), "{}", kind.name);
        assert!(kind.message_id.len() == 32 && u128::from_str_radix(kind.message_id, 16).is_ok(), "{}", kind.name);
        // RFC 5424 has 32 characters for the MSGID.
        assert!(
            kind.name.len() <= 32 && kind.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
            "{}",
            kind.name
        );
        assert!(kind.target.starts_with("mediaconnect::"));
    }
}

#[test]
fn every_line_is_a_sentence_on_one_line_and_names_its_flow() {
    for event in every() {
        let text = event.to_string();
        assert!(text.len() > 10 && !text.contains('\n') && !text.contains("  "), "{text:?}");
        assert!(event.flow().is_none_or(|flow| text.contains(flow)), "{text}");
        // A switch is about two sources.
        let switch = matches!(event, Event::Switched { .. });
        let part = event.source().or(event.output()).filter(|_| !switch);
        assert!(part.is_none_or(|part| text.starts_with(&format!("news/{part} "))), "{text}");
    }
}

#[test]
fn a_switch_says_from_where_to_where_why_and_how_long_nothing_came() {
    let switched = |from: Option<&str>, why: &str, ms| {
        let (from, gap) = (from.map(s), Duration::from_millis(ms));
        Event::Switched { flow: flow(), from, to: s("b"), why: s(why), gap }.to_string()
    };
    assert_eq!(switched(Some("a"), "a was silent", 512), "news switched from a to b: a was silent (gap 512 ms)");
    assert_eq!(switched(None, "an operator wants it", 0), "news switched to b: an operator wants it (gap 0 ms)");
}

#[test]
fn the_loss_of_a_source_that_is_not_needed_does_not_read_as_if_the_flow_were_dead() {
    let lost = |covered| {
        Event::SourceLost { flow: flow(), source: s("b"), silent_for: TEN, bitrate_bps: 8_000_000, covered }.to_string()
    };
    assert_eq!(lost(false), "news/b lost: nothing for 10s, 8.00 Mbit/s before");
    assert_eq!(lost(true), "news/b lost: nothing for 10s, 8.00 Mbit/s before; the flow goes on without it");
}

#[test]
fn connections_are_told_with_their_peers() {
    let (peer, why) = ("[2001:db8::7]:41522".parse().unwrap(), s("wrong passphrase"));
    let refused = |stream_id: Option<&str>| {
        let (why, stream_id) = (why.clone(), stream_id.map(s));
        Event::SrtRefused { flow: flow(), part: part(), peer, why, stream_id }.to_string()
    };
    assert_eq!(refused(None), "news/playout call from [2001:db8::7]:41522 refused: wrong passphrase");
    let with_id = "news/playout call from [2001:db8::7]:41522 refused: wrong passphrase (stream ID \"a\\n\")";
    assert_eq!(refused(Some("a\n")), with_id);
    let failed = Event::SrtCallFailed { flow: flow(), part: part(), remote: s("decoder:5000"), why: s("no answer") };
    assert_eq!(failed.to_string(), "news/playout no connection to decoder:5000: no answer; it is called again");
    assert_eq!((failed.source(), failed.output()), (None, Some("playout")));
    let closed = ended("disconnected by alice", true);
    assert_eq!(closed.to_string(), "news/venue connection to 203.0.113.10:41522 ended: disconnected by alice");
    assert_eq!((closed.source(), closed.output()), (Some("venue"), None));
}

#[test]
fn the_end_of_a_connection_is_a_warning_unless_it_was_meant() {
    let [meant, lost] = [true, false].map(|orderly| ended("the peer closed it", orderly).kind());
    assert_eq!((meant.level, lost.level), (Level::INFO, Level::WARN));
    assert_eq!((meant.name, meant.message_id), (lost.name, lost.message_id));
}

#[test]
fn a_rejected_file_is_named_with_line_and_column() {
    let event = Event::ConfigDiagnostic { diagnostic: diagnostic(diagnostic::Level::Error) };
    assert_eq!(event.to_string(), "flows.d/news.toml:3:7: error: unknown key `latncy`; did you mean `latency`?");
}
