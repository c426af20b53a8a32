//! Alarms and events as others see them: raised and cleared, told by webhook, program and SNMP trap, followed by HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::daemon::{Daemon, Setup};
use support::media::{Feed, Stream, Wire, v4};
use support::ports::free_port;
use support::{PATIENCE, wait_for};

const STREAM: Stream = Stream::at(2_000_000);

fn flow(input: u16, more: &str) -> String {
    format!("[sources.in]\nprotocol = 'rtp'\nbind = '127.0.0.1:{input}'\n{more}")
}

/// Of events: type, alarm or event name, and source.
fn gist(doc: &Value) -> String {
    let text = |key: &str| doc[key].as_str().unwrap_or("-").to_owned();
    let name = if doc["alarm"].is_null() { text("event") } else { text("alarm") };
    format!("{} {name} {}", text("type"), text("source"))
}

fn raised(flow: &Value, name: &str) -> bool {
    flow["alarms"].as_array().unwrap().iter().any(|alarm| alarm["name"] == name)
}

/// One who follows `/v1/events`.
struct Follower {
    messages: BufReader<UnixStream>,
    /// The last id.
    id: String,
}

impl Follower {
    fn new(daemon: &Daemon, query: &str, last: Option<&str>) -> Self {
        let mut stream = UnixStream::connect(daemon.root().join("run/control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        // HTTP/1.0 is answered without chunks.
        write!(stream, "GET /v1/events{query} HTTP/1.0\r\n{last}\r\n").unwrap();
        let mut messages = BufReader::new(stream);
        let mut line = String::new();
        while line != "retry: 2000\n" {
            line.clear();
            assert!(messages.read_line(&mut line).unwrap() > 0, "the stream ended");
        }
        Self { messages, id: String::new() }
    }

    /// The next event; `None`: the stream ended.
    fn next(&mut self) -> Option<Value> {
        let mut data = None;
        loop {
            let mut line = String::new();
            if self.messages.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.id),
                Some(("data", text)) => data = Some(serde_json::from_str::<Value>(text).unwrap()),
                Some(("event", name)) => assert!(["event", "alarm.raised", "alarm.cleared"].contains(&name), "{name}"),
                _ => {}
            }
            if line == "\n" && data.is_some() {
                return data;
            }
        }
    }

    /// The next one of this gist.
    #[track_caller]
    fn wait_for(&mut self, wanted: &str) -> Value {
        let (start, mut seen) = (Instant::now(), Vec::new());
        while start.elapsed() < PATIENCE {
            let doc = self.next().expect("the stream goes on");
            if gist(&doc) == wanted {
                return doc;
            }
            seen.push(gist(&doc));
        }
        panic!("waited {PATIENCE:?} in vain for {wanted}, of {seen:?}");
    }
}

#[test]
fn a_lost_source_raises_its_alarm_and_clears_it_when_it_is_back() {
    let input = free_port();
    let daemon = Daemon::with_flow(&flow(input, ""));
    let mut events = Follower::new(&daemon, "", None);
    let sending = Feed::new(Wire::Rtp, v4(input), STREAM).start();
    assert_eq!(events.wait_for("event source-receiving in")["detail-type"], "MediaConnect Source Health");
    sending.stop();
    let began = events.wait_for("alarm.raised source-lost in");
    assert_eq!((&began["flow"], &began["severity"]), (&"flow".into(), &"major".into()));
    assert_eq!(began["detail-type"], "MediaConnect Alert");
    let flow = daemon.flow("flow");
    assert_eq!(flow["alarms"][0]["id"], began["id"]);
    let (_, metrics) = daemon.ask("GET", "/metrics").unwrap();
    let series = "mediaconnect_flow_alarm{flow=\"flow\",alarm=\"source-lost\",severity=\"major\"} 1\n";
    assert!(metrics.contains(series), "{metrics}");
    let _sending = Feed::new(Wire::Rtp, v4(input), STREAM).start();
    let over = events.wait_for("alarm.cleared source-lost in");
    assert_eq!(over["id"], began["id"]);
    daemon.wait_for_flow("flow", "no alarm", |flow| flow["alarms"] == Value::Array(Vec::new()));
    assert!(daemon.log().contains("flow/in alarm source-lost: nothing for "), "{}", daemon.log());
}

#[test]
fn a_threshold_raises_after_its_hold_and_follows_its_file_while_the_flow_runs() {
    let input = free_port();
    let low = |below: &str| {
        flow(
            input,
            &format!("[alarms.low]\nmetric = 'source-bitrate'\nbelow = '{below}'\nfor = '1s'\nseverity = 'critical'\n"),
        )
    };
    let daemon = Daemon::with_flow(&low("1M"));
    let _sending = Feed::new(Wire::Rtp, v4(input), STREAM).start();
    daemon.wait_for_flow("flow", "it is received at its rate", |flow| {
        flow["sources"]["in"]["bitrate-bps"].as_u64().unwrap() > 1_500_000 && !raised(flow, "low")
    });
    let mut events = Follower::new(&daemon, "", None);
    daemon.write_flow("flow", &low("3M"));
    let changed = events.wait_for("event flow-changed -");
    assert_eq!(changed["message"], "flow changed: flow flow changed in place (alarms)");
    let began = events.wait_for("alarm.raised low in");
    assert_eq!((&began["severity"], &began["threshold"]), (&"critical".into(), &3e6.into()));
    assert!(began["value"].as_f64().unwrap() < 3e6, "{began}");
    daemon.write_flow("flow", &low("1M"));
    assert_eq!(events.wait_for("alarm.cleared low in")["id"], began["id"]);
    daemon.write_flow("flow", &low("3M"));
    let again = events.wait_for("alarm.raised low in");
    assert_ne!(again["id"], began["id"]);
    daemon.remove_flow("flow");
    assert_eq!(events.wait_for("alarm.cleared low in")["id"], again["id"], "what it was about is gone");
}

#[test]
fn alarms_of_all_flows_stand_in_mediaconnect_toml_and_those_of_the_flow_in_their_place() {
    let inputs = [free_port(), free_port()];
    let settings = "[alarms.silent]\nmetric = 'source-connected'\nbelow = 1\nfor = '0s'\n";
    let own = "[alarms.silent]\nmetric = 'source-connected'\nbelow = 1\nfor = '1h'\n";
    let setup = Setup::new().settings(settings).flow("a", &flow(inputs[0], "")).flow("b", &flow(inputs[1], own));
    let daemon = setup.start();
    daemon.wait_for_flow("a", "its alarm", |flow| raised(flow, "silent"));
    assert!(!raised(&daemon.flow("b"), "silent"));
}

#[test]
fn a_switch_to_the_backup_is_an_event_and_an_alarm_until_the_primary_is_back() {
    let inputs = [free_port(), free_port()];
    let text = format!(
        "[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:{}'\n[sources.b]\nprotocol = 'udp'\nbind = '127.0.0.1:{}'\n\
         [failover]\nmode = 'failover'\nprimary = 'a'\nhold = '1s'\n",
        inputs[0], inputs[1]
    );
    let daemon = Daemon::with_flow(&text);
    let send = |n: usize| Feed::new(Wire::Udp, v4(inputs[n]), STREAM).start();
    let primary = send(0);
    daemon.wait_for_flow("flow", "a is on air", |flow| flow["sources"]["a"]["on-air"] == true);
    let _backup = send(1);
    daemon.wait_for_flow("flow", "b is received", |flow| flow["sources"]["b"]["state"] == "receiving");
    // Either may be told first.
    let [mut events, mut switches] = [0, 1].map(|_| Follower::new(&daemon, "", None));
    primary.stop();
    assert_eq!(switches.wait_for("event failover-switched b")["detail-type"], "MediaConnect Flow Health");
    let began = events.wait_for("alarm.raised failover-switched -");
    assert_eq!(began["message"], "flow alarm failover-switched: source b is on air instead of the primary a");
    let _primary = send(0);
    assert_eq!(events.wait_for("alarm.cleared failover-switched -")["id"], began["id"]);
}

#[test]
fn an_output_that_can_not_send_and_a_file_that_is_rejected_raise_alarms() {
    let (input, nobody) = (free_port(), free_port());
    let text = format!(
        "[sources.in]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{nobody}'\n[alarms.output-lost]\nfor = '0s'\n"
    );
    let daemon = Daemon::with_flow(&text);
    let mut events = Follower::new(&daemon, "", None);
    let _sending = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let lost = events.wait_for("alarm.raised output-lost -");
    assert_eq!(lost["output"], "out");
    daemon.write_flow("flow", "[sources");
    let rejected = events.wait_for("alarm.raised config-rejected -");
    assert!(rejected["message"].as_str().unwrap().contains("flow.toml:1:"), "{rejected}");
    daemon.write_flow("flow", &text);
    assert_eq!(events.wait_for("alarm.cleared config-rejected -")["id"], rejected["id"]);
    daemon.write_flow("other", "[sources");
    let of_appliance = events.wait_for("alarm.raised config-rejected -");
    assert!(of_appliance["flow"].is_null(), "it never ran: {of_appliance}");
    assert_eq!(daemon.status()["alarms"][0]["id"], of_appliance["id"]);
    daemon.remove_flow("other");
    events.wait_for("alarm.cleared config-rejected -");
}

#[test]
fn a_follower_goes_on_after_the_last_event_it_saw() {
    let daemon = Daemon::with_flow(&flow(free_port(), ""));
    let mut first = Follower::new(&daemon, "?replay=true", None);
    first.wait_for("event flow-started -");
    let last = first.id.clone();
    drop(first);
    for description in ["one", "two"] {
        let text = format!("description = '{description}'\n{}", flow(free_port(), ""));
        daemon.write_flow("flow", &text);
        daemon.ctl_ok(&["reload"]);
    }
    let mut again = Follower::new(&daemon, "", Some(&last));
    let changes = (0..2).map(|_| again.wait_for("event flow-changed -")["id"].clone()).collect::<Vec<_>>();
    let mut kept = Follower::new(&daemon, "?follow=false", None);
    let all: Vec<_> = std::iter::from_fn(|| kept.next()).collect();
    let ids: Vec<_> = all.iter().filter(|doc| doc["event"] == "flow-changed").map(|doc| doc["id"].clone()).collect();
    assert_eq!(ids, changes);
    let shown = daemon.ctl_ok(&["events", "--json"]);
    let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown[..all.len()], all);
    let table = daemon.ctl_ok(&["events"]);
    assert!(table.lines().any(|line| line.ends_with("flow started: 1 source, 0 outputs")), "{table}");
}

/// A webhook that answers with `code` and hands on what was posted.
fn webhook(port: u16, code: u16) -> Receiver<Value> {
    let listener = TcpListener::bind(v4(port)).unwrap();
    let (posted, documents) = channel();
    // Ends with the process: a thread that waits in accept holds nothing up.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if posted.send(take_post(stream, code)).is_err() {
                return;
            }
        }
    });
    documents
}

fn take_post(stream: TcpStream, code: u16) -> Value {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "POST /hook?a=b HTTP/1.1\r\n");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    write!(stream.get_mut(), "HTTP/1.1 {code} x\r\nContent-Length: 0\r\n\r\n").unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn notifier(name: &str, way: &str) -> String {
    format!("[notifiers.{name}]\n{way}\n")
}

/// Change the flow so often, each time with an event.
fn change(daemon: &Daemon, text: &str, times: std::ops::Range<usize>) {
    for n in times {
        daemon.write_flow("flow", &format!("description = '{n}'\n{text}"));
        daemon.ctl_ok(&["reload"]);
    }
}

#[test]
fn a_webhook_that_was_down_is_told_everything_in_order() {
    let (input, port) = (free_port(), free_port());
    let settings = notifier("noc", &format!("webhook = 'http://127.0.0.1:{port}/hook?a=b'\nevents = true"));
    let text = flow(input, "");
    let daemon = Setup::new().settings(&settings).flow("flow", &text).start();
    wait_for("it is said that nobody is there", || daemon.log().contains("notifier noc can't tell").then_some(()));
    change(&daemon, &text, 0..3);
    let documents = webhook(port, 204);
    let told: Vec<_> = (0..6).map(|_| documents.recv_timeout(PATIENCE).unwrap()).collect();
    let mut kept = Follower::new(&daemon, "?follow=false", None);
    let mut happened: Vec<_> = std::iter::from_fn(|| kept.next()).collect();
    happened.retain(|doc| !gist(doc).starts_with("event notifier-"));
    let first = happened.iter().position(|doc| *doc == told[0]).unwrap();
    assert_eq!(happened[first..first + told.len()], told);
    wait_for("it is said that it works again", || daemon.log().contains("notifier noc tells again").then_some(()));
    let noc = &daemon.status()["notifiers"]["noc"];
    assert_eq!((&noc["way"], &noc["dropped"]), (&"webhook".into(), &0.into()), "{noc}");
    assert!(noc["failures"].as_u64().unwrap() > 0, "{noc}");
}

#[test]
fn what_a_webhook_refuses_is_dropped_and_counted_and_the_next_one_is_told() {
    let port = free_port();
    let settings = notifier("noc", &format!("webhook = 'http://127.0.0.1:{port}/hook?a=b'\nevents = true"));
    let documents = webhook(port, 400);
    let daemon = Setup::new().settings(&settings).flow("flow", &flow(free_port(), "")).start();
    let ids: Vec<_> = (0..2).map(|_| documents.recv_timeout(PATIENCE).unwrap()["id"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
    wait_for("it is counted", || (daemon.status()["notifiers"]["noc"]["dropped"].as_u64()? >= 2).then_some(()));
    assert!(daemon.log().contains("event not told: 127.0.0.1:"), "{}", daemon.log());
}

#[test]
fn a_notifier_that_hangs_keeps_neither_the_daemon_nor_another_one_waiting() {
    let (input, hangs, works) = (free_port(), free_port(), free_port());
    // Connections are made by the kernel, and nobody ever answers.
    let _silent = TcpListener::bind(v4(hangs)).unwrap();
    let hook = |name: &str, port: u16| notifier(name, &format!("webhook = 'http://127.0.0.1:{port}/hook?a=b'"));
    let daemon =
        Setup::new().settings(&(hook("hangs", hangs) + &hook("works", works))).flow("flow", &flow(input, "")).start();
    let documents = webhook(works, 200);
    Feed::new(Wire::Rtp, v4(input), STREAM).send_for(STREAM.length(200));
    assert_eq!(gist(&documents.recv_timeout(PATIENCE).unwrap()), "alarm.raised source-lost in");
    assert!(daemon.status()["notifiers"]["hangs"]["waiting"].as_u64().unwrap() >= 1);
    wait_for("it is counted", || (daemon.status()["notifiers"]["works"]["told"] == 1).then_some(()));
}

/// A script of these lines that may be run.
fn script(dir: &Path, lines: &str) -> String {
    let path = dir.join("page");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_program_gets_the_alarm_on_its_standard_input_and_in_its_environment() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let program = script(dir.path(), "cat > \"$1.new\"; env >> \"$1.new\"; mv \"$1.new\" \"$1\"");
    let way = format!("exec = ['{program}', '{}', '$(id) ; \"']", said.display());
    let input = free_port();
    let daemon = Setup::new().settings(&notifier("pager", &way)).flow("flow", &flow(input, "")).start();
    Feed::new(Wire::Rtp, v4(input), STREAM).send_for(STREAM.length(200));
    let said = wait_for("the program ran", || fs::read_to_string(&said).ok());
    let (document, environment) = said.split_once('\n').unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    assert_eq!(gist(&document), "alarm.raised source-lost in");
    for line in ["MEDIACONNECT_ALARM=source-lost", "MEDIACONNECT_TYPE=alarm.raised", "MEDIACONNECT_FLOW=flow"] {
        assert!(environment.lines().any(|l| l == line), "{environment}");
    }
    assert!(!environment.contains("CARGO"), "nothing of the daemon's own: {environment}");
    wait_for("it is counted", || (daemon.status()["notifiers"]["pager"]["told"] == 1).then_some(()));
}

#[test]
fn a_program_that_takes_too_long_is_killed_with_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let program = script(dir.path(), "sleep 1000 & echo $! >> \"$1\"; echo $$ >> \"$1\"; wait");
    let way = format!("exec = ['{program}', '{}']\ntimeout = '500ms'\nevents = true", pids.display());
    let daemon = Setup::new().settings(&notifier("pager", &way)).flow("flow", &flow(free_port(), "")).start();
    wait_for("it is said", || daemon.log().contains("it was killed after 500ms").then_some(()));
    let first: Vec<_> = fs::read_to_string(&pids).unwrap().lines().take(2).map(str::to_owned).collect();
    assert_eq!(first.len(), 2);
    wait_for("both are gone", || first.iter().all(|pid| is_gone(pid)).then_some(()));
}

fn is_gone(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// snmptrapd, which writes what it receives.
struct Trapd {
    child: Child,
    dir: tempfile::TempDir,
}

impl Trapd {
    fn start(port: u16, community: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mib = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/mib/MEDIACONNECT-MIB.txt");
        let mibs = dir.path().join("mibs");
        fs::create_dir(&mibs).unwrap();
        fs::copy(mib, mibs.join("MEDIACONNECT-MIB.txt")).unwrap();
        // The IETF's own modules are not free and not in Debian; of these names no more is needed here.
        let smi = "SNMPv2-SMI DEFINITIONS ::= BEGIN\norg OBJECT IDENTIFIER ::= { iso 3 }\n\
                   dod OBJECT IDENTIFIER ::= { org 6 }\ninternet OBJECT IDENTIFIER ::= { dod 1 }\n\
                   mgmt OBJECT IDENTIFIER ::= { internet 2 }\nprivate OBJECT IDENTIFIER ::= { internet 4 }\n\
                   enterprises OBJECT IDENTIFIER ::= { private 1 }\nsnmpV2 OBJECT IDENTIFIER ::= { internet 6 }\nEND\n";
        let net_snmp = "NET-SNMP-MIB DEFINITIONS ::= BEGIN\nIMPORTS enterprises FROM SNMPv2-SMI;\n\
                        netSnmp OBJECT IDENTIFIER ::= { enterprises 8072 }\n\
                        netSnmpExperimental OBJECT IDENTIFIER ::= { netSnmp 9999 }\n\
                        netSnmpPlaypen OBJECT IDENTIFIER ::= { netSnmpExperimental 9999 }\nEND\n";
        let empty = |name: &str| format!("{name} DEFINITIONS ::= BEGIN\nEND\n");
        for (name, text) in [
            ("SNMPv2-SMI", smi.to_owned()),
            ("NET-SNMP-MIB", net_snmp.to_owned()),
            ("SNMPv2-TC", empty("SNMPv2-TC")),
            ("SNMPv2-CONF", empty("SNMPv2-CONF")),
        ] {
            fs::write(mibs.join(format!("{name}.txt")), text).unwrap();
        }
        let config = dir.path().join("snmptrapd.conf");
        fs::write(&config, format!("authCommunity log {community}\n")).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("snmptrapd")
            .args(["-f", "-C", "-c"])
            .arg(&config)
            .args(["-Le", "-OQs", "-m", "MEDIACONNECT-MIB", "-M"])
            .arg(&mibs)
            .arg(format!("-p{}", dir.path().join("pid").display()))
            .args(["-F", "TRAP %v\\n", &format!("udp:127.0.0.1:{port}")])
            .env("SNMP_PERSISTENT_DIR", dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("this test needs snmptrapd: apt-get install snmptrapd");
        let trapd = Self { child, dir };
        wait_for("snmptrapd listens", || trapd.log().contains("NET-SNMP version").then_some(()));
        trapd
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Trapd {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- snmptrapd\n{}---", self.log());
        }
    }
}

#[test]
fn snmptrapd_shows_raised_and_cleared_alarms_by_the_names_of_the_mib() {
    let (input, port) = (free_port(), free_port());
    let trapd = Trapd::start(port, "s3cret-community");
    let way = format!("snmp-trap = {{ target = '127.0.0.1:{port}', community-file = 'snmp' }}");
    let daemon = Setup::new()
        .secret("snmp", "s3cret-community\n")
        .settings(&notifier("nms", &way))
        .flow("flow", &flow(input, "[alarms.source-lost]\nclear-after = '0s'\nseverity = 'critical'\n"))
        .start();
    Feed::new(Wire::Rtp, v4(input), STREAM).send_for(STREAM.length(200));
    let traps = |what: &str| trapd.log().lines().find(|line| line.contains(what)).map(str::to_owned);
    let raised = wait_for("the trap", || traps("mediaconnectAlarmRaised"));
    for part in [
        "mediaconnectSeverity.0 = critical",
        "mediaconnectFlow.0 = flow",
        "mediaconnectSource.0 = in",
        "mediaconnectAlarm.0 = source-lost",
        "mediaconnectMessage.0 = flow/in alarm source-lost: nothing for ",
    ] {
        assert!(raised.contains(part), "{part}: {raised}");
    }
    let _sending = Feed::new(Wire::Rtp, v4(input), STREAM).start();
    let cleared = wait_for("the trap of its end", || traps("mediaconnectAlarmCleared"));
    let id =
        |trap: &str| trap.split_once("mediaconnectId.0 = ").unwrap().1.split('\t').next().unwrap().trim().to_owned();
    assert_eq!(id(&cleared), id(&raised));
    assert!(!daemon.log().contains("s3cret") && !daemon.ask("GET", "/v1/status").unwrap().1.contains("s3cret"));
}

#[test]
fn notifiers_change_while_the_daemon_runs() {
    let (input, port) = (free_port(), free_port());
    let daemon = Daemon::with_flow(&flow(input, ""));
    assert_eq!(daemon.status()["notifiers"], serde_json::json!({}));
    let documents = webhook(port, 200);
    let settings = daemon.root().join("etc/mediaconnect.toml");
    let hook = notifier("noc", &format!("webhook = 'http://127.0.0.1:{port}/hook?a=b'"));
    fs::write(&settings, format!("[http]\nlisten = []\n{hook}")).unwrap();
    daemon.ctl_ok(&["reload"]);
    wait_for("it runs", || daemon.status()["notifiers"].get("noc").map(drop));
    Feed::new(Wire::Rtp, v4(input), STREAM).send_for(STREAM.length(200));
    assert_eq!(gist(&documents.recv_timeout(PATIENCE).unwrap()), "alarm.raised source-lost in");
    fs::write(&settings, "[http]\nlisten = []\n").unwrap();
    daemon.ctl_ok(&["reload"]);
    wait_for("it is gone", || (daemon.status()["notifiers"] == serde_json::json!({})).then_some(()));
    assert!(documents.recv_timeout(Duration::from_millis(1)).is_err());
}
