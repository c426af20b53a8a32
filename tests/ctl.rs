//! `mediaconnectctl` as a process, against a daemon that is played by a thread: what it asks, prints and exits with.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

const STATUS: &str = include_str!("ctl/status.json");
const FLOWS: &str = include_str!("ctl/flows.json");
const OVERVIEW: &str = include_str!("ctl/overview.json");
const NOTHING: &str = r#"{ "changes": [], "diagnostics": [] }"#;
const REJECTED: &str = r#"{
    "changes": [
        { "flow": "news", "action": "change", "touches": [
            { "kind": "output", "name": "playout", "effect": "in-place", "because": ["ttl"] },
            { "kind": "source", "name": "a", "effect": "reopen", "because": ["bind"] } ] },
        { "flow": "sport", "action": "reject", "touches": [] } ],
    "diagnostics": [
        { "severity": "error", "file": "flows.d/sport.toml", "line": 3, "column": 7, "flow": "sport",
          "message": "unknown key 'bnd'", "help": "did you mean 'bind'?" } ]
}"#;

/// A daemon's control socket with fixed answers, which notes what it is asked.
struct Daemon {
    dir: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    fn new(answers: &[(&str, u16, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let answers: HashMap<String, (u16, String)> =
            answers.iter().map(|(line, status, body)| ((*line).to_owned(), (*status, (*body).to_owned()))).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // Ends with the process: a thread that waits in accept holds nothing up.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &answers, &log);
            }
        });
        Self { dir, asked }
    }

    /// One with the documents of `tests/ctl`.
    fn with_flows() -> Self {
        let flows: Value = serde_json::from_str(FLOWS).unwrap();
        let news = flows["flows"][0].to_string();
        let sport = flows["flows"][1].to_string();
        Self::new(&[
            ("GET /v1/status", 200, STATUS),
            ("GET /v1/flows", 200, FLOWS),
            ("GET /v1/flows/news", 200, &news),
            ("GET /v1/flows/sport", 200, &sport),
        ])
    }

    fn ctl(&self, args: &[&str]) -> Done {
        ctl(self.dir.path(), args)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: UnixStream, answers: &HashMap<String, (u16, String)>, log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.split(" HTTP/1.1").next().unwrap().to_owned();
    let missing = (404, r#"{ "error": "there is no such flow" }"#.to_owned());
    let (status, body) = answers.get(&line).unwrap_or(&missing);
    log.lock().unwrap().push(line);
    let length = body.len();
    // The tool may be gone already where a test ends it.
    let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
}

struct Done {
    code: i32,
    out: String,
    err: String,
}

fn ctl(runtime: &Path, args: &[&str]) -> Done {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_mediaconnectctl")).arg("--runtime").arg(runtime).args(args).output().unwrap();
    Done {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

#[test]
fn status_is_a_table_without_colours_when_nobody_looks() {
    let done = Daemon::with_flows().ctl(&["status"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("\nnews       active, stale  venue-a receiving  12.3 Mbit/s"), "{}", done.out);
    assert!(!done.out.contains('\x1b'));
}

#[test]
fn status_as_json_is_the_status_document_with_the_flows_beside_it() {
    let done = Daemon::with_flows().ctl(&["status", "--json"]);
    assert_eq!(done.code, 0);
    let document: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(document["flows"]["total"], 3);
    assert_eq!(document["flow-list"].as_array().unwrap().len(), 3);
    assert_eq!(document["flow-list"][0]["name"], "news");
}

#[test]
fn status_of_a_flow_as_json_is_its_document() {
    let done = Daemon::with_flows().ctl(&["status", "news", "--json"]);
    assert_eq!(done.code, 0);
    let document: Value = serde_json::from_str(&done.out).unwrap();
    let all: Value = serde_json::from_str(FLOWS).unwrap();
    assert_eq!(document, all["flows"][0]);
}

#[test]
fn status_of_no_flow_is_wrong_usage() {
    let done = Daemon::with_flows().ctl(&["status", "nosuch"]);
    assert_eq!((done.code, done.err.as_str()), (2, "mediaconnectctl: there is no such flow\n"));
}

#[test]
fn a_flow_whose_file_was_never_good_is_explained_by_its_file() {
    let fault = r#"{ "severity": "error", "file": "/etc/mediaconnect/flows.d/new.toml", "line": 13, "column": 1,
        "flow": "new", "message": "unknown key `destinatoin`", "help": "did you mean `destination`?" }"#;
    let mut status: Value = serde_json::from_str(STATUS).unwrap();
    status["config"]["diagnostics"] = Value::Array(vec![serde_json::from_str(fault).unwrap()]);
    let daemon = Daemon::new(&[("GET /v1/status", 200, &status.to_string())]);
    let explained = daemon.ctl(&["explain", "new"]);
    assert_eq!(explained.code, 1, "{}", explained.err);
    let said = "new: has never run: its file is rejected\n  critical, since ";
    assert!(explained.out.starts_with(said), "{}", explained.out);
    let fault = "/etc/mediaconnect/flows.d/new.toml:13:1: unknown key `destinatoin`; did you mean `destination`?\n";
    let said = format!(": {fault}    Mend the file, and it starts by itself; ");
    assert!(explained.out.contains(&said), "{}", explained.out);
    let shown = daemon.ctl(&["status", "new"]);
    assert_eq!((shown.code, shown.err), (2, format!("mediaconnectctl: flow 'new' has never run: {fault}")));
    assert_eq!(daemon.ctl(&["explain", "nosuch"]).code, 2);
}

#[test]
fn explain_exits_by_the_flows_health() {
    let daemon = Daemon::with_flows();
    let healthy = daemon.ctl(&["explain", "sport"]);
    assert_eq!(healthy.code, 0);
    assert!(healthy.out.starts_with("sport: healthy; source feed receives 40.0 Mbit/s"), "{}", healthy.out);
    let unhealthy = daemon.ctl(&["explain", "news"]);
    assert_eq!(unhealthy.code, 1);
    assert!(unhealthy.out.contains("Try `ip route get 239.10.0.1`"), "{}", unhealthy.out);
    let json: Value = serde_json::from_str(&daemon.ctl(&["explain", "news", "--json"]).out).unwrap();
    assert_eq!(json["healthy"], false);
    assert_eq!(daemon.ctl(&["explain", "nosuch"]).code, 2);
}

#[test]
fn the_history_of_a_flow_is_a_table_or_its_document() {
    let history = r#"{ "flow": "news", "step-seconds": 10, "steps": 2, "until": "2026-03-01T10:00:00Z", "outputs": {},
        "sources": { "venue-a": { "bitrate-bps": [null, 4000000], "packets-unrecovered": [0, 3] } } }"#;
    let daemon = Daemon::new(&[("GET /v1/flows/news/history?since=10800s", 200, history)]);
    let done = daemon.ctl(&["status", "news", "--since", "3h"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("news: the last 20s, a line for 10s\n\nsource venue-a\n"), "{}", done.out);
    assert!(done.out.contains("\n2026-03-01T10:00:00Z  4.00 Mbit/s  4.00 Mbit/s     0            3"), "{}", done.out);
    let json: Value = serde_json::from_str(&daemon.ctl(&["status", "news", "--since", "3h", "--json"]).out).unwrap();
    assert_eq!(json, serde_json::from_str::<Value>(history).unwrap());
}

#[test]
fn check_health_tells_nagios_of_all_flows() {
    let done = Daemon::new(&[("GET /v1/overview", 200, OVERVIEW)]).ctl(&["check-health"]);
    assert_eq!(done.code, 2);
    assert_eq!(
        done.out,
        "MEDIACONNECT CRITICAL - 3 flows, 2 active, 1 standby, 1 critical; CRITICAL: news: source venue-a: lost for 1m \
         1s, 12.3 Mbit/s before | 'flows'=3;;;0 'active'=2;;;0;3 'critical'=1;;;0;3 'warning'=0;;;0;3 'stale'=1;;;0;3 \
         'bitrate_bps'=40000000;;;0 'packets_unrecovered'=17c;;;0\n\
         CRITICAL: news: source venue-a: lost for 1m 1s, 12.3 Mbit/s before\n"
    );
    assert_eq!(done.err, "");
}

#[test]
fn check_health_of_a_flow_exits_by_its_worst_condition() {
    let daemon = Daemon::with_flows();
    let warned = daemon.ctl(&["check-health", "news"]);
    assert_eq!(warned.code, 1);
    let words = "MEDIACONNECT WARNING - news active, source venue-a receiving 12.3 Mbit/s, 1 of 2 outputs sending; major: \
                 output playout: 239.10.0.1:5000 can't be reached";
    assert!(warned.out.starts_with(words), "{}", warned.out);
    let figures = " | 'venue-a bitrate_bps'=12345678;;;0 'venue-a packets_lost'=17c;;;0 \
                   'venue-a packets_unrecovered'=17c;;;0 'venue-a jitter'=0.000412s;;;0 'outputs_sending'=1;;;0;2\n";
    assert!(warned.out.contains(figures), "{}", warned.out);
    let well = daemon.ctl(&["check-health", "sport"]);
    assert_eq!(well.code, 0);
    assert!(well.out.starts_with("MEDIACONNECT OK - sport active"), "{}", well.out);
}

#[test]
fn what_check_health_can_not_know_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let gone = ctl(dir.path(), &["check-health"]);
    assert_eq!((gone.code, gone.err.as_str()), (3, ""));
    assert!(gone.out.starts_with("MEDIACONNECT UNKNOWN - the daemon is not running"), "{}", gone.out);
    let nosuch = Daemon::with_flows().ctl(&["check-health", "nosuch"]);
    assert_eq!((nosuch.code, nosuch.out.as_str()), (3, "MEDIACONNECT UNKNOWN - there is no such flow\n"));
    let strange = Daemon::new(&[("GET /v1/overview", 200, "{}")]).ctl(&["check-health"]);
    assert_eq!(strange.code, 3);
}

#[test]
fn top_wants_a_terminal() {
    let done = Daemon::new(&[("GET /v1/overview", 200, OVERVIEW)]).ctl(&["top"]);
    assert_eq!((done.code, done.out.as_str()), (2, ""));
    assert!(done.err.contains("top needs a terminal; use status, or status --watch"), "{}", done.err);
}

#[test]
fn without_a_daemon_every_command_that_needs_one_exits_with_three_and_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["status", "--watch"],
        &["explain", "news"],
        &["plan"],
        &["reload"],
        &["stop", "news"],
        &["switch", "news", "a"],
        &["freeze"],
        &["thaw"],
    ] {
        let done = ctl(dir.path(), args);
        assert_eq!((done.code, done.out.as_str()), (3, ""), "{args:?}");
        let socket = dir.path().join("control.sock");
        let said = format!(
            "mediaconnectctl: the daemon is not running, or its runtime directory is another (--runtime): {}: No such \
             file or directory\n",
            socket.display()
        );
        assert_eq!(done.err, said, "{args:?}");
    }
}

#[test]
fn a_socket_that_a_dead_daemon_left_behind_is_no_daemon() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("control.sock")).unwrap());
    let done = ctl(dir.path(), &["status"]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("the daemon is not running"), "{}", done.err);
}

#[test]
fn a_daemon_that_hangs_up_or_talks_nonsense_can_not_be_reached() {
    for answer in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"] {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        let done = ctl(dir.path(), &["status"]);
        assert_eq!(done.code, 3, "{answer:?}");
        assert!(done.err.contains("the connection broke"), "{}", done.err);
    }
    let done = Daemon::new(&[("GET /v1/plan", 200, "[]")]).ctl(&["plan"]);
    assert_eq!(done.code, 3);
    assert!(done.err.contains("is the daemon of another version?"), "{}", done.err);
}

#[test]
fn plan_says_what_would_change_and_exits_with_one_if_a_file_would_be_rejected() {
    let daemon = Daemon::new(&[("GET /v1/plan", 200, REJECTED)]);
    let done = daemon.ctl(&["plan"]);
    assert_eq!(done.code, 1);
    assert_eq!(
        done.out,
        "news: change\n  output playout: in place (ttl)\n  source a: reopen (bind)\nsport: rejected, what runs goes on\n\
         flows.d/sport.toml:3:7: error: unknown key 'bnd'; did you mean 'bind'?\n"
    );
    let json = daemon.ctl(&["plan", "--json"]);
    assert_eq!(json.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&json.out).unwrap(), serde_json::from_str::<Value>(REJECTED).unwrap());
    let quiet = Daemon::new(&[("GET /v1/plan", 200, NOTHING)]).ctl(&["plan"]);
    assert_eq!((quiet.code, quiet.out.as_str()), (0, "nothing would change\n"));
}

#[test]
fn reload_exits_with_one_and_the_reasons_where_something_was_rejected() {
    let done = Daemon::new(&[("POST /v1/reload", 200, REJECTED)]).ctl(&["reload"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("flows.d/sport.toml:3:7: error: unknown key 'bnd'"), "{}", done.err);
    let done = Daemon::new(&[("POST /v1/reload", 200, NOTHING)]).ctl(&["reload"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "nothing changed\n", ""));
}

#[test]
fn each_act_asks_for_what_it_means() {
    for (args, line) in [
        (&["start", "news"][..], "POST /v1/flows/news/start"),
        (&["start", "news", "--clear"], "POST /v1/flows/news/start?clear=true"),
        (&["stop", "news"], "POST /v1/flows/news/stop"),
        (&["stop", "--clear", "news"], "POST /v1/flows/news/stop?clear=true"),
        (&["enable", "news", "play out"], "POST /v1/flows/news/outputs/play%20out/enable"),
        (&["disable", "news", "playout"], "POST /v1/flows/news/outputs/playout/disable"),
        (&["disable", "news", "playout", "--clear"], "POST /v1/flows/news/outputs/playout/disable?clear=true"),
        (&["restart", "news"], "POST /v1/flows/news/restart"),
        (&["restart", "news", "source", "a"], "POST /v1/flows/news/sources/a/restart"),
        (&["restart", "news", "output", "playout"], "POST /v1/flows/news/outputs/playout/restart"),
        (&["switch", "news", "play out"], "POST /v1/flows/news/switch/play%20out"),
        (&["switch", "news", "--clear"], "POST /v1/flows/news/switch?clear=true"),
        (&["freeze"], "POST /v1/freeze"),
        (&["freeze", "news"], "POST /v1/flows/news/freeze"),
        (&["freeze", "--until", "2199-01-01T01:00:00+01:00"], "POST /v1/freeze?until=2199-01-01T00%3A00%3A00Z"),
        (&["thaw"], "POST /v1/thaw"),
        (&["thaw", "news"], "POST /v1/flows/news/thaw"),
    ] {
        let daemon = Daemon::new(&[(line, 200, NOTHING)]);
        let done = daemon.ctl(args);
        assert_eq!(daemon.asked(), [line], "{args:?}");
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""), "{args:?}");
    }
}

#[test]
fn a_refused_act_exits_with_one_and_the_daemons_reason() {
    let reason = r#"{ "error": "only root and members of the group 'mediaconnect-operators' may do this" }"#;
    for status in [403, 404, 409, 503] {
        let done = Daemon::new(&[("POST /v1/flows/news/stop", status, reason)]).ctl(&["stop", "news"]);
        assert_eq!(
            (done.code, done.err.as_str()),
            (1, "mediaconnectctl: only root and members of the group 'mediaconnect-operators' may do this\n")
        );
    }
}

#[test]
fn a_reader_who_is_refused_exits_with_three() {
    let reason = r#"{ "error": "only root and members of the group 'noc' may read this" }"#;
    let daemon = Daemon::new(&[("GET /v1/flows/news", 403, reason), ("GET /v1/status", 403, reason)]);
    assert_eq!(daemon.ctl(&["explain", "news"]).code, 3);
    assert_eq!(daemon.ctl(&["status"]).code, 3);
}

#[test]
fn wrong_usage_exits_with_two() {
    let daemon = Daemon::new(&[]);
    for args in [
        &[][..],
        &["nosuch"],
        &["start"],
        &["status", "--nosuch"],
        &["status", "--since", "10m"],
        &["status", "news", "--since", "0s"],
        &["status", "news", "--since", "yesterday"],
        &["restart", "news", "source"],
        &["restart", "news", "leg", "a"],
        &["freeze", "--until", "tonight"],
        &["freeze", "--until", "2001-01-01T00:00:00Z"],
        &["completions", "nosuch"],
    ] {
        assert_eq!(daemon.ctl(args).code, 2, "{args:?}");
    }
    assert!(daemon.asked().is_empty());
}

#[test]
fn places_may_stand_before_or_after_the_command() {
    let daemon = Daemon::with_flows();
    let runtime = daemon.dir.path().to_str().unwrap();
    for args in [["--runtime", runtime, "status"], ["status", "--runtime", runtime]] {
        let out = Command::new(env!("CARGO_BIN_EXE_mediaconnectctl"))
            .args(args)
            .args(["--config", "/x", "--state", "/y", "--log-dir", "/z"])
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let daemon = Daemon::with_flows();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mediaconnectctl"))
        .arg("--runtime")
        .arg(daemon.dir.path())
        .arg("status")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8(done.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn watching_shows_it_again_and_survives_a_restart_of_the_daemon() {
    let daemon = Daemon::with_flows();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mediaconnectctl"))
        .arg("--runtime")
        .arg(daemon.dir.path())
        .args(["status", "news", "--watch"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(&mut out).map(Result::unwrap);
    assert!(lines.any(|l| l.starts_with("news: active")));
    assert!(lines.any(|l| l.starts_with("news: active")), "again");
    std::fs::remove_file(daemon.dir.path().join("control.sock")).unwrap();
    assert!(lines.any(|l| l.starts_with("the daemon is not running")));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn completions_name_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let done = ctl(dir.path(), &["completions", shell]);
        assert_eq!(done.code, 0);
        assert!(done.out.contains("explain") && done.out.contains("mediaconnectctl"), "{shell}");
    }
}

#[test]
fn sdp_comes_from_the_files_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("flows.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join("flows.d").join(name), text).unwrap();
    write(
        "news.toml",
        "[sources.a]\nprotocol = \"rtp\"\nbind = \"127.0.0.1:5000\"\n\
         [outputs.hall]\nprotocol = \"rtp\"\ndestination = \"239.10.0.1:5004\"\nttl = 4\n\
         [outputs.local]\nprotocol = \"rtp\"\ndestination = \"localhost:5008\"\n\
         [outputs.plain]\nprotocol = \"udp\"\ndestination = \"10.0.0.9:6000\"\n",
    );
    write("broken.toml", "[sources.a]\nprotocol = \"rpt\"\nbind = \"127.0.0.1:5100\"\n");
    let sdp = |flow, output| ctl(dir.path(), &["--config", dir.path().to_str().unwrap(), "sdp", flow, output]);
    let done = sdp("news", "hall");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("c=IN IP4 239.10.0.1/4\r\n"), "{}", done.out);
    assert!(done.out.contains("m=video 5004 RTP/AVP 33\r\n"), "{}", done.out);
    let named = sdp("news", "local").out;
    assert!(named.contains("c=IN IP4 127.0.0.1\r\n") || named.contains("c=IN IP6 ::1\r\n"), "{named}");
    let done = sdp("news", "plain");
    assert_eq!(done.code, 2);
    assert!(done.err.contains("udp://10.0.0.9:6000"), "{}", done.err);
    assert_eq!(sdp("news", "nosuch").code, 2);
    assert_eq!(sdp("nosuch", "hall").code, 2);
    let done = sdp("broken", "hall");
    assert_eq!(done.code, 1);
    assert!(done.err.contains("broken.toml:2:"), "{}", done.err);
}
