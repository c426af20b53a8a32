//! Entitlements: subscribers by file, one port for all, and who still qualifies notices nothing of who does not.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use support::daemon::{Daemon, Setup, condition, count};
use support::feed::{Feeding, Inlet};
use support::media::SEVEN;
use support::nat::Way;
use support::ports::free_port;
use support::sample::{numbered, stream};
use support::srt::ends::Receiver;
use support::srt::packet::{Nat, Weather};
use support::srt::{Options, Place, Program};
use support::wait_for;

const OLD: &str = "correct horse battery";
const NEW: &str = "staple of another colour";
const RATE: u64 = 2_000_000;
/// In a feed that nobody ends before.
const ENDLESS: u64 = 1_000_000;
/// How soon who is revoked is gone.
const SOON: Duration = Duration::from_secs(1);

/// A subscriber with this key file, from loopback.
fn subscriber(key: &str, more: &str) -> String {
    format!("passphrase-file = '{key}'\nallow = ['127.0.0.0/8']\n{more}")
}

/// A flow `news` from UDP, with these entitlements.
fn news(udp: u16, entitlements: &str) -> String {
    format!("[sources.in]\nprotocol = 'udp'\nbind = '127.0.0.1:{udp}'\n{entitlements}")
}

fn settings(port: u16) -> String {
    format!("[entitlements]\nbind = '127.0.0.1:{port}'\n")
}

/// An appliance whose flow `news` is fed with numbered datagrams.
struct Rig {
    daemon: Daemon,
    udp: u16,
    port: u16,
    feeding: Feeding,
}

impl Rig {
    /// Subscribers `acme` and `other`, with the passphrases OLD and NEW.
    #[track_caller]
    fn start(entitlements: &str) -> Self {
        let [udp, port] = [free_port(), free_port()];
        let setup = Setup::new().settings(&settings(port)).secret("old", OLD).secret("new", NEW);
        let setup = setup.subscriber("acme", &subscriber("old", "")).subscriber("other", &subscriber("new", ""));
        let daemon = setup.flow("news", &news(udp, entitlements)).start();
        let feeding = Feeding::start(Inlet::udp(udp), ENDLESS, (0..ENDLESS).map(numbered), RATE);
        Self { daemon, udp, port, feeding }
    }

    /// Somebody who receives, and has begun to.
    #[track_caller]
    fn receiver(&self, who: &str, passphrase: &str, what: &str) -> Receiver {
        let receiver = self.caller(&format!("#!::u={who},r={what},m=request"), passphrase);
        // srt-live-transmit keeps some of it back.
        wait_for("it receives", || (receiver.length() > 10 * SEVEN as u64).then_some(()));
        receiver
    }

    fn caller(&self, stream_id: &str, passphrase: &str) -> Receiver {
        let options = Options::new().encrypted(passphrase, 16).stream_id(stream_id);
        Receiver::start(Program::LiveTransmit, Place::Caller(self.port), &options)
    }

    /// What is sent from now on reaches it, and nothing was missing before.
    #[track_caller]
    fn assert_undisturbed(&self, receiver: &Receiver) {
        receiver.wait_for_number(self.feeding.sent() + 1);
        let numbers = receiver.numbers();
        let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
        assert!(numbers.len() > 10 && gap.is_none(), "{} datagrams, with a gap at {gap:?}", numbers.len());
    }

    /// The sessions of an entitlement: number to subscriber.
    fn sessions(&self, entitlement: &str) -> BTreeMap<u64, String> {
        sessions(&self.daemon.flow("news"), entitlement)
    }

    /// Just the sessions of these subscribers are left, and that within a second.
    #[track_caller]
    fn assert_left(&self, entitlement: &str, left: &[&str], since: Instant) {
        self.daemon.wait_for_flow("news", "just these are connected", |flow| {
            sessions(flow, entitlement).values().map(String::as_str).eq(left.iter().copied())
        });
        assert!(since.elapsed() < SOON, "it took {:?}", since.elapsed());
    }

    #[track_caller]
    fn reload(&self) {
        self.daemon.ctl_ok(&["reload"]);
    }
}

fn sessions(flow: &Value, entitlement: &str) -> BTreeMap<u64, String> {
    let peers = flow["entitlements"][entitlement]["peers"].as_array().unwrap();
    let one = |peer: &Value| Some((peer["number"].as_u64()?, peer["subscriber"].as_str()?.to_owned()));
    peers.iter().map(|peer| one(peer).unwrap()).collect()
}

const MAIN: &str = "[entitlements.main]\nsubscribers = ['acme', 'other']\nmax-sessions = 4\n";

#[test]
fn other_peoples_receivers_get_every_byte() {
    let peers = [Program::LiveTransmit, Program::Ffmpeg, Program::NewFfmpeg, Program::Gstreamer];
    let [udp, port] = [free_port(), free_port()];
    let setup = Setup::new().settings(&settings(port)).secret("old", OLD).subscriber("acme", &subscriber("old", ""));
    let daemon =
        setup.flow("news", &news(udp, "[entitlements.main]\nsubscribers = ['acme']\nmax-sessions = 4\n")).start();
    let options = Options::new().encrypted(OLD, 32).stream_id("#!::r=news/main,u=acme");
    let receivers: Vec<_> = peers.iter().map(|peer| Receiver::start(*peer, Place::Caller(port), &options)).collect();
    daemon.wait_for_flow("news", "all are connected", |flow| sessions(flow, "main").len() == peers.len());
    let (stream, whole) = (&stream()[..2000 * SEVEN], 2000);
    let _feeding = Feeding::start(Inlet::udp(udp), whole, stream.chunks_exact(SEVEN).map(<[u8]>::to_vec), RATE);
    receivers.iter().for_each(|receiver| receiver.assert_received(stream));
    let flow = daemon.flow("news");
    assert_eq!(flow["entitlements"]["main"]["peers"][0]["srt"]["cipher"], "AES-256");
}

#[test]
fn another_appliance_subscribes_and_says_what_is_wrong_when_it_may_not() {
    let rig = Rig::start("[entitlements.main]\nsubscribers = ['acme']\n");
    let to = free_port();
    let source = |subscriber: &str, entitlement: &str| {
        format!(
            "[sources.main]\nprotocol = 'entitlement'\nremote = '127.0.0.1:{}'\nsubscriber = '{subscriber}'\n\
             entitlement = '{entitlement}'\npassphrase-file = 'key'\n\
             [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{to}'\n",
            rig.port
        )
    };
    let got = support::ends::Got::at(to);
    let second = Setup::new().secret("key", OLD).flow("flow", &source("acme", "news/main")).start();
    got.wait_for_number(rig.feeding.sent() + 100);
    let flow = second.flow("flow");
    assert_eq!(
        (&flow["sources"]["main"]["protocol"], &flow["sources"]["main"]["state"]),
        (&"entitlement".into(), &"receiving".into())
    );
    assert_eq!(flow["sources"]["main"]["packets-unrecovered"], 0);
    rig.assert_left("main", &["acme"], Instant::now());
    for (subscriber, entitlement, code, help) in [
        ("stranger", "news/main", "(1401)", "Set `subscriber` here"),
        ("acme", "news/nothing", "(1404)", "Set `entitlement` here"),
        ("other", "news/main", "(1010)", "letter by letter"),
    ] {
        second.write_flow("flow", &source(subscriber, entitlement));
        second.ctl_ok(&["reload"]);
        wait_for(&format!("{code} is explained"), || {
            let said = String::from_utf8_lossy(&second.ctl(&["explain", "flow"]).stdout).into_owned();
            (said.contains(code) && said.contains(help)).then_some(())
        });
    }
}

/// A caller that is refused with this number on the wire, in its own log and in ours; by which reason of the metrics.
#[track_caller]
fn is_refused(rig: &Rig, stream_id: Option<&str>, passphrase: Option<&str>, code: u32, reason: &str) {
    let called = free_port();
    let nat = Nat::start(called, rig.port, Weather::default());
    let options = passphrase.map_or_else(Options::new, |passphrase| Options::new().encrypted(passphrase, 16));
    let options = stream_id.iter().fold(options, |options, id| options.stream_id(id));
    let before = refused(&rig.daemon, reason);
    let receiver = Receiver::start(Program::LiveTransmit, Place::Caller(called), &options);
    let log = receiver.wait_for_log("REJECT reported from HS");
    // libsrt has words for its own codes alone; the application's are on the wire.
    let (wire, words) = match code {
        1010 => (code, "Incorrect passphrase"),
        1011 => (code, "Password required or unexpected"),
        _ => (code + 1000, "Application-defined rejection reason"),
    };
    assert_eq!(nat.report(Way::Back).rejects().first(), Some(&wire), "{stream_id:?}: {log}");
    assert!(log.contains(words), "{stream_id:?}: {log}");
    assert!(refused(&rig.daemon, reason) > before, "{stream_id:?}: {reason}");
    rig.daemon.wait_for_log(&format!("({code})"));
}

fn refused(daemon: &Daemon, reason: &str) -> u64 {
    let metrics = daemon.ask("GET", "/metrics").unwrap().1;
    let name = format!("mediaconnect_entitlement_refused_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[test]
fn who_is_refused_is_told_why_by_its_number() {
    let entitlements = "[entitlements.main]\nsubscribers = ['acme']\n\
                        [entitlements.off]\nsubscribers = ['acme']\nenabled = false\n\
                        [entitlements.over]\nsubscribers = ['acme']\nexpires = '2026-01-01T00:00:00Z'\n";
    let rig = Rig::start(entitlements);
    let elsewhere = "passphrase-file = 'old'\nallow = ['203.0.113.0/24']\n";
    rig.daemon.write_subscriber("elsewhere", elsewhere);
    rig.daemon.write_subscriber("disabled", &subscriber("old", "enabled = false"));
    rig.daemon.write_subscriber("small", &subscriber("old", "max-bitrate = '1M'"));
    rig.reload();
    for (id, passphrase, code, reason) in [
        (None, Some(OLD), 1400, "stream-id-malformed"),
        (Some("live/news"), Some(OLD), 1400, "stream-id-malformed"),
        (Some("#!::u=acme"), Some(OLD), 1400, "stream-id-malformed"),
        (Some("#!::u=acme,r=news/main,m=publish"), Some(OLD), 1400, "stream-id-malformed"),
        (Some("#!::u=stranger,r=news/main"), Some(OLD), 1401, "unknown-subscriber"),
        (Some("#!::u=elsewhere,r=news/main"), Some(OLD), 1403, "address"),
        (Some("#!::u=acme,r=nothing/main"), Some(OLD), 1404, "unknown-entitlement"),
        (Some("#!::u=acme,r=news/nothing"), Some(OLD), 1404, "unknown-entitlement"),
        (Some("#!::u=other,r=news/main"), Some(NEW), 1403, "not-entitled"),
        (Some("#!::u=disabled,r=news/main"), Some(OLD), 1403, "disabled"),
        (Some("#!::u=acme,r=news/off"), Some(OLD), 1403, "disabled"),
        (Some("#!::u=acme,r=news/over"), Some(OLD), 1403, "expired"),
    ] {
        is_refused(&rig, id, passphrase, code, reason);
    }
    is_refused(&rig, Some("#!::u=acme,r=news/main"), Some(NEW), 1010, "wrong-passphrase");
    is_refused(&rig, Some("#!::u=acme,r=news/main"), None, 1011, "no-passphrase");
    let first = rig.receiver("acme", OLD, "news/main");
    is_refused(&rig, Some("#!::u=acme,r=news/main"), Some(OLD), 1402, "max-sessions");
    rig.assert_undisturbed(&first);
    let log = rig.daemon.log();
    for said in ["as subscriber acme refused: the entitlement has expired (1403)", "u=stranger"] {
        assert!(log.contains(said), "{said}");
    }
    assert!(!log.contains(OLD) && !log.contains(NEW));
    let status = rig.daemon.status();
    assert!(status["entitlements"]["calls-refused"].as_u64().unwrap() >= 15, "{status:#}");
    let flow = rig.daemon.flow("news");
    let refused = condition(&flow, "entitlement-refused").expect("it is said");
    assert!(refused["help"].as_str().unwrap().ends_with('.'), "{refused}");
}

#[test]
fn a_subscriber_with_a_bitrate_gets_no_more_than_that() {
    let rig = Rig::start("[entitlements.main]\nsubscribers = ['acme']\nmax-sessions = 2\n");
    let session = rig.receiver("acme", OLD, "news/main");
    rig.daemon.wait_for_flow("news", "its rate is known", |flow| {
        flow["sources"]["in"]["bitrate-bps"].as_u64().is_some_and(|bps| bps > RATE * 8 / 10)
    });
    // Above what one session carries, below what two would.
    rig.daemon.write_subscriber("acme", &subscriber("old", "max-bitrate = '3M'"));
    rig.reload();
    rig.assert_undisturbed(&session);
    is_refused(&rig, Some("#!::u=acme,r=news/main"), Some(OLD), 1402, "max-bitrate");
    rig.daemon.write_subscriber("acme", &subscriber("old", "max-bitrate = '1M'"));
    rig.reload();
    rig.daemon.wait_for_log("the subscriber got more than its `max-bitrate`");
    rig.daemon.wait_for_flow("news", "it is gone", |flow| sessions(flow, "main").is_empty());
}

#[test]
fn what_revokes_ends_that_partys_sessions_within_a_second_and_nobody_elses() {
    type Revoke = fn(&Rig);
    let cases: [(&str, Revoke); 8] = [
        ("the file is removed", |rig| fs::remove_file(rig.daemon.subscriber_path("acme")).unwrap()),
        ("disabled", |rig| rig.daemon.write_subscriber("acme", &subscriber("old", "enabled = false"))),
        ("another address", |rig| {
            rig.daemon.write_subscriber("acme", "passphrase-file = 'old'\nallow = ['127.0.0.2']\n");
        }),
        ("another passphrase", |rig| rig.daemon.write_subscriber("acme", &subscriber("new", ""))),
        ("another key", |rig| rig.daemon.write_secret("old", "nothing of the kind")),
        ("not listed", |rig| rig.daemon.write_flow("news", &news(rig.udp, &MAIN.replace("'acme', ", "")))),
        ("the table of its own is removed", |rig| {
            rig.daemon.write_flow("news", &news(rig.udp, MAIN));
        }),
        ("expired", |rig| {
            let now = SystemTime::now() - Duration::from_secs(1);
            let own = format!("{OWN}expires = '{}'\n", humantime::format_rfc3339_seconds(now));
            rig.daemon.write_flow("news", &news(rig.udp, &(MAIN.to_owned() + &own)));
        }),
    ];
    const OWN: &str = "[entitlements.own]\nsubscribers = ['acme']\n";
    for (what, revoke) in cases {
        let rig = Rig::start(&format!("{MAIN}{OWN}"));
        let of_table = matches!(what, "the table of its own is removed" | "expired");
        let entitlement = if of_table { "news/own" } else { "news/main" };
        let revoked = rig.receiver("acme", OLD, entitlement);
        let stays = rig.receiver("other", NEW, "news/main");
        let since = Instant::now();
        revoke(&rig);
        rig.daemon.wait_for_log("session of subscriber acme");
        let took = since.elapsed();
        assert!(took < SOON, "{what}: {took:?}");
        assert_eq!(rig.sessions("main").values().collect::<Vec<_>>(), ["other"], "{what}");
        rig.assert_undisturbed(&stays);
        drop(revoked);
    }
}

#[test]
fn an_entitlement_ends_at_its_time() {
    let expires = SystemTime::now() + Duration::from_secs(8);
    let text = format!("{MAIN}expires = '{}'\n", humantime::format_rfc3339_seconds(expires));
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let rig = Rig::start(&text);
    let receiver = rig.receiver("acme", OLD, "news/main");
    rig.daemon.wait_for_log("session of subscriber acme");
    let late = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - expires as f64;
    assert!((0.0..1.0).contains(&late), "{late}");
    rig.daemon.wait_for_log("the entitlement has expired");
    assert_eq!(rig.daemon.flow("news")["entitlements"]["main"]["state"], "expired");
    is_refused(&rig, Some("#!::u=acme,r=news/main"), Some(OLD), 1403, "expired");
    drop(receiver);
}

#[test]
fn what_is_changed_for_others_or_changes_no_right_disturbs_no_session() {
    let rig = Rig::start(MAIN);
    let receivers = [("acme", OLD), ("other", NEW)].map(|(who, passphrase)| rig.receiver(who, passphrase, "news/main"));
    let before = rig.sessions("main");
    for (acme, entitlements) in [
        (subscriber("old", "description = 'Acme'\nmax-sessions = 1"), MAIN.to_owned()),
        (subscriber("old", "max-bitrate = '50M'").replace("/8", "/16"), MAIN.replace("= 4", "= 1")),
        (
            subscriber("old", ""),
            format!("{MAIN}latency = '300ms'\nkey-length = 32\ndescription = 'x'\nexpires = '2036-01-01T00:00:00Z'\n"),
        ),
        (
            subscriber("old", ""),
            format!("{MAIN}[entitlements.more]\nsubscribers = ['acme', 'nobody']\nmax-sessions = 9\n"),
        ),
        (
            subscriber("old", ""),
            format!("{MAIN}[outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{}'\n", free_port()),
        ),
    ] {
        rig.daemon.write_subscriber("acme", &acme);
        rig.daemon.write_flow("news", &news(rig.udp, &entitlements));
        rig.reload();
        assert_eq!(rig.sessions("main"), before, "{acme}{entitlements}");
    }
    receivers.iter().for_each(|receiver| rig.assert_undisturbed(receiver));
}

#[test]
fn a_passphrase_is_rotated_without_dropping_a_session() {
    let rig = Rig::start(MAIN);
    let both = "passphrase-files = ['newest', 'old']\nallow = ['127.0.0.0/8']\n";
    let before = rig.receiver("acme", OLD, "news/main");
    rig.daemon.write_secret("newest", "a third one of them");
    rig.daemon.write_subscriber("acme", both);
    rig.reload();
    let after = rig.receiver("acme", "a third one of them", "news/main");
    rig.assert_undisturbed(&before);
    let mut left = rig.sessions("main");
    assert_eq!(left.len(), 2);
    let since = Instant::now();
    rig.daemon.write_subscriber("acme", &subscriber("newest", ""));
    rig.assert_left("main", &["acme"], since);
    left.pop_first();
    assert_eq!(rig.sessions("main"), left);
    rig.assert_undisturbed(&after);
}

#[test]
fn a_broken_file_of_a_subscriber_changes_nothing_even_over_a_restart() {
    let mut rig = Rig::start(MAIN);
    let receiver = rig.receiver("acme", OLD, "news/main");
    rig.daemon.write_subscriber("acme", "passphrase-file = 'old'\nalow = ['127.0.0.0/8']\n");
    let output = rig.daemon.ctl(&["reload"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("acme.toml:2:1: error: unknown key `alow`; did you mean `allow`?"), "{said}");
    rig.assert_undisturbed(&receiver);
    let stale = |daemon: &Daemon| condition(&daemon.status(), "subscriber-stale").cloned();
    assert!(stale(&rig.daemon).unwrap()["message"].as_str().unwrap().contains("acme.toml:2:1"));
    drop(receiver);
    rig.daemon.kill_and_restart();
    assert!(stale(&rig.daemon).is_some());
    let receiver = rig.receiver("acme", OLD, "news/main");
    rig.daemon.write_subscriber("acme", &subscriber("old", ""));
    rig.reload();
    assert!(stale(&rig.daemon).is_none());
    rig.assert_undisturbed(&receiver);
    fs::remove_file(rig.daemon.subscriber_path("acme")).unwrap();
    rig.reload();
    assert_eq!(rig.sessions("main"), BTreeMap::new());
    assert!(!rig.daemon.root().join("state/subscribers/acme.toml").exists());
}

#[test]
fn the_port_is_shared_with_a_listener_and_moves_with_its_settings() {
    let [udp, port, other] = [free_port(), free_port(), free_port()];
    let output = format!("[outputs.open]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:{port}'\nstream-id = 'open'\n");
    let setup = Setup::new().settings(&settings(port)).secret("old", OLD).subscriber("acme", &subscriber("old", ""));
    let text = news(udp, &format!("[entitlements.main]\nsubscribers = ['acme']\n{output}"));
    let daemon = setup.flow("news", &text).start();
    let feeding = Feeding::start(Inlet::udp(udp), ENDLESS, (0..ENDLESS).map(numbered), RATE);
    let rig = Rig { daemon, udp, port, feeding };
    let session = rig.receiver("acme", OLD, "news/main");
    let open = Receiver::start(Program::LiveTransmit, Place::Caller(port), &Options::new().stream_id("open"));
    wait_for("it receives", || (open.length() > 10 * SEVEN as u64).then_some(()));
    rig.assert_undisturbed(&session);
    let toml = rig.daemon.root().join("etc/mediaconnect.toml");
    let text = fs::read_to_string(&toml).unwrap().replace(&port.to_string(), &other.to_string());
    support::daemon::write_atomically(&toml, &text);
    let plan = rig.daemon.ctl_ok(&["plan"]);
    assert!(plan.contains("section entitlements: reopen (bind)"), "{plan}");
    rig.reload();
    rig.assert_undisturbed(&open);
    let moved = Rig { port: other, ..rig };
    let _session = moved.receiver("acme", OLD, "news/main");
}

#[test]
fn what_subscribers_get_is_counted_and_written_for_the_day() {
    let mut rig = Rig::start(MAIN);
    let mut receiver = rig.receiver("acme", OLD, "news/main");
    std::thread::sleep(Duration::from_secs(2));
    receiver.interrupt();
    rig.daemon.wait_for_log("session of subscriber acme");
    let account = |daemon: &Daemon| daemon.flow("news")["entitlements"]["main"]["subscribers"]["acme"].clone();
    let first = account(&rig.daemon);
    let received = receiver.length();
    assert!(first["bytes"].as_u64().unwrap() >= received && first["seconds"].as_u64().unwrap() >= 2, "{first}");
    let metrics = rig.daemon.ask("GET", "/metrics").unwrap().1;
    let of = "{flow=\"news\",entitlement=\"main\"";
    for series in [
        format!("mediaconnect_entitlement_sessions{of}}} 0"),
        format!("mediaconnect_entitlement_bytes_total{of}}} {}", first["bytes"]),
        format!("mediaconnect_entitlement_subscriber_bytes_total{of},subscriber=\"acme\"}} {}", first["bytes"]),
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series}\n{metrics}");
    }
    rig.daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(rig.daemon.wait_for_end());
    let csv = |daemon: &Daemon| {
        let files = fs::read_dir(daemon.root().join("log")).unwrap().map(|file| file.unwrap().path());
        let days = files.filter(|file| file.extension().is_some_and(|extension| extension == "csv"));
        let texts: Vec<_> = days.map(|day| fs::read_to_string(day).unwrap()).collect();
        let lines = texts.iter().flat_map(|text| text.lines().skip(1));
        let fields: Vec<Vec<String>> = lines.map(|line| line.split(',').map(str::to_owned).collect()).collect();
        assert!(fields.iter().all(|line| line[1..4] == ["news", "main", "acme"]), "{texts:?}");
        [4, 5, 6].map(|field| fields.iter().map(|line| line[field].parse::<u64>().unwrap()).sum::<u64>())
    };
    let [sessions, seconds, bytes] = csv(&rig.daemon);
    assert_eq!((sessions, bytes), (1, first["bytes"].as_u64().unwrap()));
    assert!(seconds >= 2);
    // The day goes on after a restart.
    rig.daemon.kill_and_restart();
    let receiver = rig.receiver("acme", OLD, "news/main");
    rig.daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(rig.daemon.wait_for_end());
    let [sessions, _, more] = csv(&rig.daemon);
    assert!(sessions == 2 && more >= bytes + receiver.length(), "{sessions} {more}");
}

#[test]
fn a_day_that_can_not_be_written_stops_nothing_and_is_said() {
    let mut rig = Rig::start(MAIN);
    // In place of the directory.
    let log = rig.daemon.root().join("log");
    fs::remove_dir_all(&log).unwrap();
    fs::write(&log, "").unwrap();
    let receiver = rig.receiver("acme", OLD, "news/main");
    rig.assert_undisturbed(&receiver);
    rig.daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(rig.daemon.wait_for_end());
    rig.daemon.wait_for_log("can't be written");
}

#[test]
fn of_a_hundred_subscribers_on_one_port_the_one_that_is_revoked_takes_nothing_from_the_others() {
    const SUBSCRIBERS: usize = 100;
    let [udp, port] = [free_port(), free_port()];
    let name = |n: usize| format!("s{n}");
    let secret = |n: usize| format!("passphrase number {n}");
    let listed: Vec<_> = (0..SUBSCRIBERS).map(|n| format!("'{}'", name(n))).collect();
    let entitlement =
        format!("[entitlements.main]\nsubscribers = [{}]\nmax-sessions = {SUBSCRIBERS}\n", listed.join(", "));
    let setup = Setup::new().settings(&settings(port)).flow("news", &news(udp, &entitlement));
    let with_each =
        |setup: Setup<'static>, of: &dyn Fn(Setup<'static>, usize) -> Setup<'static>| (0..SUBSCRIBERS).fold(setup, of);
    let daemon = with_each(setup, &|setup, n| {
        setup.secret(&name(n), &secret(n)).subscriber(&name(n), &subscriber(&name(n), ""))
    })
    .start();
    let receivers = with_each(Setup::new(), &|setup, n| {
        let flow = format!(
            "[sources.main]\nprotocol = 'entitlement'\nremote = '127.0.0.1:{port}'\nlatency = '500ms'\n\
             subscriber = '{}'\nentitlement = 'news/main'\npassphrase-file = '{}'\n",
            name(n),
            name(n)
        );
        setup.secret(&name(n), &secret(n)).flow(&name(n), &flow)
    })
    .start();
    daemon.wait_for_flow("news", "all are connected", |flow| sessions(flow, "main").len() == SUBSCRIBERS);
    let feeding = Feeding::start(Inlet::udp(udp), 500, (0..500).map(numbered), 1_000_000);
    let flows = || receivers.json("/v1/flows")["flows"].as_array().unwrap().clone();
    let have = |least: u64, of: usize| {
        let with = |flow: &&Value| count(flow, "sources/main/packets") >= least;
        flows().iter().filter(with).count() >= of
    };
    wait_for("all receive", || have(50, SUBSCRIBERS).then_some(()));
    let since = Instant::now();
    fs::remove_file(daemon.subscriber_path("s42")).unwrap();
    daemon.wait_for_flow("news", "it is gone", |flow| sessions(flow, "main").len() == SUBSCRIBERS - 1);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    feeding.wait_until_sent();
    wait_for("all others have all", || have(500, SUBSCRIBERS - 1).then_some(()));
    // Not duplicates: where acknowledgements come late, the last packet is sent again.
    let figures = ["packets-unrecovered", "packets-late", "disconnections"];
    let of = |flow: &Value| figures.map(|figure| count(flow, &format!("sources/main/{figure}")));
    let disturbed: Vec<_> = flows()
        .iter()
        .filter(|flow| of(flow) != [0; 3])
        .map(|flow| flow["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(disturbed, ["s42"], "{figures:?}");
}
