//! `mediaconnect.toml` while the daemon runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::rig::{Rig, daemon_condition, flow, plan, wait_for_daemon_condition};
use crate::support::crowd::Judge;
use crate::support::daemon::Setup;
use crate::support::ports::free_port;
use crate::support::wait_for;

fn settings(rig: &Rig, text: &str) {
    let text = if text.contains("[http]") { text.to_owned() } else { format!("[http]\nlisten = []\n{text}") };
    let path = rig.daemon.root().join("etc/mediaconnect.toml");
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
}

fn apply(rig: &Rig, text: &str) {
    settings(rig, text);
    rig.daemon.ctl_ok(&["reload"]);
}

fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn the_log_level_changes_live() {
    let rig = Rig::start();
    apply(&rig, "[log]\nlevel = 'error'\n");
    rig.daemon.write_flow("quiet", &flow(free_port(), &[("out", 9)]));
    rig.daemon.ctl_ok(&["reload"]);
    apply(&rig, "[log]\nlevel = 'info'\n");
    rig.daemon.write_flow("loud", &flow(free_port(), &[("out", 10)]));
    rig.daemon.ctl_ok(&["reload"]);
    let log = rig.daemon.wait_for_log("loud started");
    assert!(!log.contains("quiet started"), "{log}");
    rig.assert_none_lost();
}

#[test]
fn http_listeners_come_and_go_and_an_occupied_port_is_tried_again() {
    let rig = Rig::start();
    let (one, two) = (free_port(), free_port());
    apply(&rig, &format!("[http]\nlisten = ['127.0.0.1:{one}']\n"));
    assert!(is_healthy(one));
    let occupied = TcpListener::bind(("127.0.0.1", two)).unwrap();
    apply(&rig, &format!("[http]\nlisten = ['127.0.0.1:{one}', '127.0.0.1:{two}']\n"));
    wait_for_daemon_condition(&rig.daemon, "http-failed", true);
    assert!(is_healthy(one), "the other one goes on");
    drop(occupied);
    wait_for("the port is bound once it is free", || is_healthy(two).then_some(()));
    wait_for_daemon_condition(&rig.daemon, "http-failed", false);
    apply(&rig, "[http]\nlisten = []\n");
    assert!(!is_healthy(one) && !is_healthy(two));
    rig.assert_none_lost();
}

#[test]
fn a_changed_network_reopens_only_the_flows_that_use_it() {
    let (input, judge) = (free_port(), Judge::start(1));
    let uses = flow(input, &[("out", judge.port(0))])
        .replace("bind =", "network = 'media'\nbind =")
        .replace("destination =", "network = 'media'\ndestination =");
    let rig = Rig::with(Setup::new().settings("[networks.media]\ninterface = 'lo'\n").flow("uses", &uses));
    rig.daemon.ctl_ok(&["freeze"]);
    settings(&rig, "[networks.media]\ncidr = '127.0.0.0/8'\n");
    let said = plan(&rig.daemon);
    assert_eq!(said[0], " change: section networks.media in-place".replace("section", "daemon"), "{said:?}");
    assert_eq!(said[1..], ["uses change: source main reopen", "uses change: output out reopen"], "{said:?}");
    rig.daemon.ctl_ok(&["thaw"]);
    assert_eq!(plan(&rig.daemon), [""; 0]);
    assert_eq!(rig.daemon.flow("uses")["state"], "active");
    // Gone, it is missed by those that name it; they run on.
    settings(&rig, "");
    assert_eq!(rig.daemon.ctl(&["reload"]).status.code(), Some(1));
    assert_eq!(rig.daemon.flow("uses")["stale-config"], true);
    assert_eq!(rig.daemon.flow("uses")["state"], "active");
    rig.assert_none_lost();
}

#[test]
fn limits_hold_from_the_reload_on() {
    let rig = Rig::start();
    apply(&rig, "[limits]\nmax-flows = 1\nmax-outputs-per-flow = 1\n");
    rig.daemon.write_flow("second", &flow(free_port(), &[("out", 9)]));
    rig.daemon.write_flow("flow", &rig.both());
    assert_eq!(rig.daemon.ctl(&["reload"]).status.code(), Some(1));
    assert_eq!(rig.daemon.status()["flows"]["total"], 1);
    assert_eq!(rig.daemon.flow("flow")["stale-config"], true);
    apply(&rig, "");
    assert_eq!(rig.daemon.status()["flows"]["active"], 2);
    rig.judge.wait_for_media(1);
    rig.assert_none_lost();
}

#[test]
fn the_default_of_gather_holds_for_flows_that_do_not_set_it() {
    let rig = Rig::start();
    assert_eq!(rig.daemon.flow("flow")["gather"], "auto");
    apply(&rig, "[defaults]\ngather = '2ms'\n");
    assert_eq!(rig.daemon.flow("flow")["gather"], "2ms");
    rig.judge.wait_for_more(0, 20);
    rig.assert_none_lost();
}

#[test]
fn other_workers_need_a_restart_which_plan_log_and_status_say() {
    let mut rig = Rig::start();
    rig.daemon.ctl_ok(&["freeze"]);
    settings(&rig, "[limits]\nworkers = 3\nworker-cpus = '0'\n");
    assert_eq!(plan(&rig.daemon), [" change: daemon limits restart"]);
    rig.daemon.ctl_ok(&["thaw"]);
    let conditions = rig.daemon.status()["conditions"].clone();
    let said = |key: &str| {
        let of = |c: &Value| c["code"] == "restart-needed" && c["message"].as_str().is_some_and(|m| m.contains(key));
        conditions.as_array().unwrap().iter().any(of)
    };
    assert!(said("`limits.workers`") && said("`limits.worker-cpus`"), "{conditions:#}");
    rig.daemon.wait_for_log("limits.workers, limits.worker-cpus changed");
    rig.judge.wait_for_more(0, 20);
    rig.daemon.kill_and_restart();
    assert!(daemon_condition(&rig.daemon, "restart-needed").is_none());
}

#[test]
fn a_broken_file_of_settings_changes_nothing_also_over_a_restart() {
    let (one, _) = (free_port(), ());
    let mut rig = Rig::start();
    apply(&rig, &format!("[http]\nlisten = ['127.0.0.1:{one}']\n"));
    settings(&rig, "[http\n");
    assert_eq!(rig.daemon.ctl(&["reload"]).status.code(), Some(1));
    assert!(is_healthy(one));
    rig.judge.wait_for_more(0, 20);
    rig.daemon.kill_and_restart();
    assert!(is_healthy(one));
    rig.judge.wait_for_more(0, 20);
}
