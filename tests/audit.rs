//! The audit trail of the real daemon, and the versions that files have had.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use support::daemon::{Daemon, Setup, condition};
use support::ports::free_port;
use support::wait_for;

fn flow(description: &str, output: u16) -> String {
    let input = free_port();
    format!(
        "description = '{description}'\n[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    )
}

fn trail(daemon: &Daemon) -> PathBuf {
    daemon.root().join("log/audit.jsonl")
}

/// The records of a type, as they are by now.
fn records(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(trail(daemon)).unwrap_or_default();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|record| record["type"] == kind).collect()
}

fn wait_for_records(daemon: &Daemon, kind: &str, count: usize) -> Vec<Value> {
    wait_for(kind, || Some(records(daemon, kind)).filter(|records| records.len() >= count))
}

fn verify(daemon: &Daemon, more: &[&str]) -> Output {
    let log = daemon.root().join("log");
    daemon.ctl(&[&["audit", "verify", "--log-dir", log.to_str().unwrap()], more].concat())
}

#[test]
fn files_acts_and_lives_are_recorded_and_what_is_tampered_with_is_found() {
    let mut daemon = Setup::new().flow("news", &flow("first", 5000)).start();
    let first = wait_for_records(&daemon, "apply", 1);
    assert_eq!(records(&daemon, "start")[0]["pid"], daemon.pid());
    let file = &first[0]["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|file| file["file"].as_str().unwrap().ends_with("flows.d/news.toml"));
    assert_eq!(file.unwrap()["result"], "applied");

    let text = fs::read_to_string(daemon.flow_path("news")).unwrap();
    daemon.write_flow("news", &text.replace("first", "second"));
    let changed = &wait_for_records(&daemon, "apply", 2)[1]["files"][0];
    assert_eq!(changed["keys"].to_string(), r#"[{"key":"description","new":"\"second\"","old":"\"first\""}]"#);
    assert!(changed["sha256"].as_str().unwrap().len() == 64 && changed["owner"].is_string(), "{changed}");
    assert!(changed["modified"].as_str().unwrap().starts_with("20"), "{changed}");

    daemon.write_flow("news", &text.replace("description", "descripton"));
    let rejected = &wait_for_records(&daemon, "apply", 3)[2]["files"][0];
    assert_eq!((&rejected["result"], &rejected["keys"]), (&"rejected".into(), &Value::Null));
    assert!(rejected["faults"][0].as_str().unwrap().contains("unknown key `descripton`"), "{rejected}");
    // The same fault again is nothing new.
    daemon.ctl(&["reload"]);
    daemon.write_flow("news", &text);
    assert_eq!(wait_for_records(&daemon, "apply", 4)[3]["files"][0]["result"], "applied");

    daemon.ctl_ok(&["restart", "news", "output", "out"]);
    assert!(!daemon.ctl(&["restart", "news", "output", "nosuch"]).status.success());
    let acts = wait_for_records(&daemon, "act", 3);
    let words: Vec<_> = acts.iter().map(|act| act["command"].as_str().unwrap()).collect();
    assert_eq!(words, ["reload", "restart output out", "restart output nosuch"]);
    assert_eq!(
        (&acts[1]["uid"], &acts[1]["flow"], &acts[1]["refused"]),
        (&nix::unistd::getuid().as_raw().into(), &"news".into(), &Value::Null)
    );
    assert!(acts[2]["refused"].as_str().unwrap().contains("has no output nosuch"), "{}", acts[2]);

    daemon.remove_flow("news");
    let removed = &wait_for_records(&daemon, "apply", 5)[4]["files"][0];
    assert_eq!((&removed["result"], &removed["sha256"]), (&"removed".into(), &Value::Null));
    let said = verify(&daemon, &[]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("the daemon bears out 1 of 1"), "{text}");
    daemon.kill_and_restart_until_ready();
    wait_for_records(&daemon, "start", 2);
    let document: Value = serde_json::from_slice(&verify(&daemon, &["--json"]).stdout).unwrap();
    assert_eq!((&document["intact"], &document["first"]), (&true.into(), &1.into()), "{document}");

    let whole = fs::read_to_string(trail(&daemon)).unwrap();
    let lines: Vec<_> = whole.lines().collect();
    let head = format!("{}:{}:{}", "0".repeat(16), 1, "0".repeat(64));
    for (what, text, finds) in [
        ("changed", whole.replace("nosuch", "other"), "was changed"),
        ("cut", lines[..lines.len() - 2].join("\n") + "\n", "the tail is cut"),
        ("without one", [&lines[..3], &lines[4..]].concat().join("\n") + "\n", "records were left out"),
    ] {
        fs::write(trail(&daemon), text).unwrap();
        let said = verify(&daemon, &["--head", &head]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.code() == Some(1) && text.contains(finds), "{what}: {text}");
        assert!(text.contains("--head knows 1 of earlier files or other trails"), "{text}");
    }
    assert_eq!(verify(&daemon, &["--head", "x"]).status.code(), Some(2));
}

#[test]
fn a_full_disk_stops_the_trail_and_nothing_else() {
    let setup = Setup::new().flow("news", &flow("first", 5000));
    let daemon = setup.start();
    wait_for_records(&daemon, "apply", 1);
    fs::rename(trail(&daemon), daemon.root().join("log/aside")).unwrap();
    symlink("/dev/full", trail(&daemon)).unwrap();
    daemon.ctl_ok(&["restart", "news"]);
    daemon.ctl_ok(&["restart", "news", "output", "out"]);
    // The trail has a thread of its own: an act may be answered before its record fails.
    let full = wait_for("the condition", || {
        let full = condition(&daemon.status(), "audit-failed").cloned()?;
        full["message"].as_str().unwrap().ends_with("not in it: 2 records").then_some(full)
    });
    assert!(full["message"].as_str().unwrap().contains("No space left"), "{full}");
    assert_eq!(daemon.flow("news")["state"], "active");
    fs::remove_file(trail(&daemon)).unwrap();
    fs::rename(daemon.root().join("log/aside"), trail(&daemon)).unwrap();
    let gap = &wait_for_records(&daemon, "gap", 1)[0];
    assert_eq!(gap["records"], 2);
    wait_for("it is over", || condition(&daemon.status(), "audit-failed").is_none().then_some(()));
    assert!(verify(&daemon, &[]).status.success());
}

#[test]
fn an_earlier_version_comes_back_as_the_user_who_asks_writes_it() {
    let daemon = Setup::new().flow("news", &flow("first", 5000)).start();
    let first = fs::read_to_string(daemon.flow_path("news")).unwrap();
    for (n, name) in [(2, "second"), (3, "third")] {
        daemon.write_flow("news", &first.replace("first", name));
        wait_for("a version", || {
            daemon.ctl_ok(&["history", "news"]).contains(&format!("news        {n}")).then_some(())
        });
    }
    let table = daemon.ctl_ok(&["history", "news"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 4 && lines[1].ends_with("description") && lines[3].ends_with("all of it"), "{table}");
    assert_eq!(daemon.ctl_ok(&["history"]).lines().count(), 2);

    let rollback = |more: &[&str]| daemon.ctl(&[&["rollback", "news"], more].concat());
    let said = rollback(&[]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains(r#"description: "third" -> "second""#), "{said:?}");
    assert_eq!(daemon.flow("news")["description"], "second");
    assert!(rollback(&["--to", "1"]).status.success());
    assert_eq!(fs::read_to_string(daemon.flow_path("news")).unwrap(), first);
    assert_eq!(daemon.flow("news")["description"], "first");
    assert_eq!(rollback(&["--to", "9"]).status.code(), Some(2));

    // A flow that was deleted, and a version that is not valid any more.
    daemon.remove_flow("news");
    wait_for("it is gone", || (daemon.ask("GET", "/v1/flows/news").ok()?.0 == 404).then_some(()));
    assert!(rollback(&[]).status.success());
    assert_eq!(daemon.flow("news")["description"], "first");
    let taken = first.lines().find(|line| line.starts_with("bind")).unwrap();
    daemon.write_flow("news", &flow("fourth", 5000));
    wait_for("the change", || (daemon.flow("news")["description"] == "fourth").then_some(()));
    daemon.write_flow("sport", &first.replace("first", "taken"));
    wait_for("the other", || daemon.ask("GET", "/v1/flows/sport").ok().filter(|(code, _)| *code == 200));
    let said = rollback(&["--to", "1"]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && error.contains("not valid any more"), "{taken}: {error}");
    assert_eq!(daemon.flow("news")["description"], "fourth");
    let left: Vec<_> =
        fs::read_dir(daemon.root().join("etc/flows.d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
