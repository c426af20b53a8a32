use std::collections::BTreeSet;

use super::*;
use crate::proto::mpegts::monitor::Check;

fn flow() -> FlowName {
    "news".parse().unwrap()
}

fn s(text: &str) -> String {
    text.to_owned()
}

const T: SystemTime = SystemTime::UNIX_EPOCH;
const TEN: Duration = Duration::from_secs(10);

/// One of every variant, and of every code.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn every() -> Vec<Condition> {
    use Condition as C;
    let source = || s("venue");
    let output = || s("playout");
    let to = || s("198.51.100.7:5000");
    let error = || s("permission denied");
    let all = vec![
        C::SourceSilent { source: source(), bind: s(":5000"), silent_for: TEN },
        C::SourceLost { source: source(), silent_for: TEN, bitrate_bps: 8_000_000 },
        C::FailoverSwitched {
            flow: flow(),
            primary: s("a"),
            on_air: s("b"),
            at: T,
            why: s("a was silent"),
            gap: TEN,
            operator: false,
            returns: Some(TEN),
        },
        C::OperatorSwitch { flow: flow(), source: source(), by: s("alice"), since: T },
        C::LegsNotIdentical { source: source() },
        C::LegUnmatched { source: source(), window: TEN },
        C::MergeDegraded { active: 1, legs: 2, idle: vec![s("b")] },
        C::LegTooLate { source: source(), skew: Some(TEN), window: TEN / 2, late: 31 },
        C::LegTooLate { source: source(), skew: None, window: TEN / 2, late: 31 },
        C::FecMissing { source: source(), ports: [5002, 5004] },
        C::FecInvalid { source: source(), kind: "column", port: 5002, packets: 7 },
        C::FecInsufficient { source: source(), packets: 7, columns: 10, rows: 10 },
        C::FecInsufficient { source: source(), packets: 7, columns: 0, rows: 0 },
        C::SourceDenied { source: source(), packets: 7, addresses: vec![s("192.0.2.7"), s("192.0.2.8")] },
        C::SourceProtocolMismatch { source: source(), found: Mismatch::RtpOnUdp, packets: 7 },
        C::SourceProtocolMismatch { source: source(), found: Mismatch::PlainOnRtp, packets: 7 },
        C::SourceNotTs { source: source(), found: "RTCP, not media", packets: 1 },
        C::SourceSyncErrors { source: source(), errors: 7 },
        C::TransportStreamErrors { source: source(), checks: vec![("pat", 3), ("continuity_count", 12)] },
        C::SourceOverBitrate { source: source(), packets: 7, max_bps: 20_000_000 },
        C::SourceKernelDrops { source: source(), packets: 7, buffer: 212_992 },
        C::ReceiveBufferSmall { source: source(), asked: 8_388_608, granted: 212_992 },
        C::SourceFailed { source: source(), bind: s(":5000"), error: error() },
        C::InterfaceMissing { part: s("source venue"), interface: s("lan"), waited: TEN },
        C::SrtNobody { part: s("source venue"), output: false, bind: s(":5000"), silent_for: TEN, last: None },
        C::SrtNobody {
            part: s("source venue"),
            output: false,
            bind: s(":5000"),
            silent_for: TEN,
            last: Some((s("203.0.113.10:41522"), s("the peer closed it"))),
        },
        C::SrtNobody { part: s("output playout"), output: true, bind: s(":5000"), silent_for: TEN, last: None },
        C::SrtCallersRefused { part: s("source venue"), refused: refused(Refusal::WrongPassphrase) },
        C::SrtRefused { part: s("output playout"), refused: refused(Refusal::Full) },
        C::SrtNotConnected {
            part: s("source venue"),
            output: false,
            remote: to(),
            why: s("no answer"),
            trouble: CallTrouble::NoAnswer,
            tries: 3,
        },
        C::SrtNotConnected {
            part: s("output playout"),
            output: true,
            remote: to(),
            why: s("the connection ended: the peer closed it"),
            trouble: CallTrouble::Ended,
            tries: 0,
        },
        no_data(),
        C::SrtUndecrypted { flow: flow(), part: s("source venue"), peer: to(), number: 7, packets: 9 },
        C::SrtLatencyLow { part: s("source venue"), peer: to(), latency: TEN, rtt: TEN, dropped: 9, others: 0 },
        C::SrtDropped { part: s("output playout"), peer: to(), latency: TEN, rtt: TEN / 9, dropped: 9, others: 1 },
        C::SrtLost { source: source(), silent_for: TEN, bitrate_bps: 8_000_000, of: Box::new(no_data()) },
        C::DestinationUnresolved { output: output(), host: s("decoder.example.net"), error: error(), tries: 3 },
        C::ContentKeyWrong { source: source(), parity: "even", file: s("venue-1") },
        C::ContentKeyMissing { source: source(), packets: 7, odd: true },
        C::ContentKeyMissing { source: source(), packets: 7, odd: false },
        C::ContentWithheld { output: output(), packets: 7, all: true },
        C::ContentWithheld { output: output(), packets: 7, all: false },
        C::OutputUneven { output: output(), packets: 7, smoothing: TEN },
        C::OutputLegFailed { output: output(), destination: to(), open: true },
        C::OutputLegFailed { output: output(), destination: to(), open: false },
        C::OutputUnreachable { output: output(), destination: to(), error: error(), packets: 7 },
        C::OutputFailed { output: output(), destination: to(), error: error() },
        C::Stopped { flow: flow(), by: s("alice"), since: T },
        C::Started { flow: flow(), by: s("alice"), since: T },
        C::OutputOverride { flow: flow(), output: output(), enabled: false, by: s("alice"), since: T },
        C::OutputOverride { flow: flow(), output: output(), enabled: true, by: s("alice"), since: T },
        C::Disabled { file: "flows.d/news.toml".into(), sources: 1, outputs: 2 },
        C::StaleConfig { file: "flows.d/news.toml".into(), line: 3, column: 1, message: s("unknown key `latncy`") },
        C::StaleConfig { file: "flows.d/news.toml".into(), line: 0, column: 0, message: s("not UTF-8") },
        C::ConfigRejected { files: 2, first: "flows.d/news.toml".into() },
        C::ConfigUnreadable { path: "flows.d".into(), error: error(), flows: 12 },
        C::RestartNeeded { key: s("limits.workers"), running: s("2"), wanted: s("4") },
        C::WorkerCpu { cpus: vec![6, 7], error: error() },
        C::Frozen { flow: None, by: s("alice"), until: Some(T), waiting: 3 },
        C::Frozen { flow: Some(flow()), by: s("alice"), until: None, waiting: 1 },
        C::FlowPanicked { flow: flow(), message: s("index out of bounds"), times: 1 },
        C::HttpFailed { address: "127.0.0.1:9740".parse().unwrap(), error: error() },
        C::AuditFailed { path: "/var/log/mediaconnect/audit.jsonl".into(), error: error(), records: 7 },
        C::WatchPolling { error: s("too many open files"), every: TEN },
        C::NoOutputs { file: "flows.d/news.toml".into() },
    ];
    // `code` has an arm for each: if all of them are here, so is every variant.
    let texts = [(include_str!("../condition.rs"), "fn code("), (include_str!("srt.rs"), "fn srt_code(")];
    let arms = texts.iter().flat_map(|(text, code)| {
        let arms = text.split(code).nth(1).unwrap().split("    }\n\n    ").next().unwrap().split(" => \"").skip(1);
        arms.map(|arm| arm.split('"').next().unwrap())
    });
    assert_eq!(all.iter().map(C::code).collect::<BTreeSet<_>>(), arms.collect());
    all
}

fn refused(why: Refusal) -> Refused {
    let (address, stream_id) = (s("203.0.113.7"), Some(s("live/1")));
    Refused { flow: flow(), address, why, stream_id, times: 12, others: true, publisher: None }
}

fn no_data() -> Condition {
    Condition::SrtNoData { part: s("source venue"), peer: s("203.0.113.10:41522"), silent_for: TEN }
}

#[test]
fn errors_of_a_transport_stream_are_explained_by_what_is_wrong_and_no_more() {
    let help = |check| Condition::TransportStreamErrors { source: s("venue"), checks: vec![(check, 3)] }.help();
    assert_eq!(
        help("continuity_count"),
        "Packets are lost or out of order on the way here. The stream is passed on as it is."
    );
    for check in Check::ALL.into_iter().filter(|check| check.priority() == 1) {
        assert_eq!(help(check.name()).matches(". ").count(), 1, "{}", check.name());
    }
}

#[test]
fn every_condition_says_what_is_wrong_with_a_figure_and_what_to_do_next() {
    for condition in every() {
        let (code, message, help) = (condition.code(), condition.message(), condition.help());
        assert!(message.contains(|c: char| c.is_ascii_digit()), "{code}: no figure in {message:?}");
        assert!(!message.ends_with('.'), "{code}: a full stop ends {message:?}");
        assert!(help.ends_with('.') && help.len() > 20, "{code}: no sentence: {help:?}");
        assert!(!message.contains("  ") && !help.contains("  "), "{code}: {message:?} {help:?}");
    }
}

#[test]
fn codes_are_kebab_case_and_stand_for_one_severity() {
    let mut seen = std::collections::BTreeMap::new();
    for condition in every() {
        let code = condition.code();
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{code}");
        assert_eq!(*seen.entry(code).or_insert(condition.severity()), condition.severity(), "{code}");
    }
}

#[test]
fn what_is_wrong_with_a_source_is_less_severe_while_another_one_carries_the_flow() {
    let lost = || Condition::SourceLost { source: s("b"), silent_for: TEN, bitrate_bps: 8_000_000 };
    let covered = |role| Condition::Covered { role, of: Box::new(lost()) };
    let standby = covered(Role::Standby);
    assert_eq!((standby.code(), standby.severity()), ("source-lost", Severity::Major));
    assert_eq!(standby.message(), "standby source b: lost for 10s, 8.00 Mbit/s before");
    assert_eq!(standby.help(), "The flow goes on without it. Check the sender and the network to it.");
    assert_eq!(covered(Role::Leg).message(), "one leg of several, source b: lost for 10s, 8.00 Mbit/s before");
    assert_eq!(lost().severity(), Severity::Critical);
}

#[test]
fn a_source_by_srt_is_lost_as_any_other_with_the_reason_behind_it() {
    let lost = Condition::SrtLost { source: s("b"), silent_for: TEN, bitrate_bps: 8_000_000, of: Box::new(no_data()) };
    let words =
        "source b: lost for 10s, 8.00 Mbit/s before: 203.0.113.10:41522 is connected and has sent no media for 10s";
    assert_eq!((lost.code(), lost.severity(), lost.message()), ("source-lost", Severity::Critical, s(words)));
    assert_eq!(lost.help(), no_data().help());
    let covered = Condition::Covered { role: Role::Standby, of: Box::new(lost) };
    assert_eq!((covered.code(), covered.severity()), ("source-lost", Severity::Major));
    assert_eq!(covered.message(), format!("standby {words}"));
    assert_eq!(covered.help(), format!("The flow goes on without it. {}", no_data().help()));
}

#[test]
fn a_switch_is_undone_by_whoever_made_it() {
    let switched = |operator, returns| {
        let (flow, why) = (flow(), s("a was silent"));
        let (primary, on_air, gap) = (s("a"), s("b"), Duration::from_millis(512));
        Condition::FailoverSwitched { flow, primary, on_air, at: T, why, gap, operator, returns }
    };
    let hold = switched(false, Some(TEN));
    assert_eq!(
        hold.message(),
        "source b is on air instead of the primary a since 1970-01-01T00:00:00Z: a was silent (gap 512 ms)"
    );
    assert_eq!(hold.help(), "It goes back by itself once a has been well for 10s.");
    assert!(switched(false, Some(Duration::ZERO)).help().contains("first data on a"));
    assert!(switched(false, None).help().contains("`mediaconnectctl switch news a`"));
    assert!(switched(true, Some(TEN)).help().starts_with("`mediaconnectctl switch news --clear`"));
}

#[test]
fn the_document_carries_all_of_it() {
    let condition = Condition::SourceLost { source: s("venue"), silent_for: TEN, bitrate_bps: 8_000_000 };
    let doc = condition.doc(T);
    assert_eq!(doc.code, "source-lost");
    assert_eq!(doc.severity, Severity::Critical);
    assert_eq!(doc.since, "1970-01-01T00:00:00Z");
    assert_eq!(doc.message, "source venue: lost for 10s, 8.00 Mbit/s before");
    assert!(!doc.help.is_empty());
}

#[test]
fn an_ipv6_destination_is_named_without_brackets_in_a_command() {
    let condition = Condition::OutputUnreachable {
        output: s("playout"),
        destination: s("[2001:db8::7]:5000"),
        error: s("no route to host"),
        packets: 9,
    };
    assert!(condition.help().contains("`ip route get 2001:db8::7`"));
    assert!(condition.help().contains("port 5000 "));
}
