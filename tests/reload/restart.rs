//! The process ends, and another one begins.

use std::process::Command;
use std::time::Instant;

use crate::rig::{Rig, flow};
use crate::support::daemon::Setup;
use crate::support::ports::free_port;

#[test]
fn killed_and_started_again_it_runs_as_before() {
    let ports: Vec<_> = (0..10)
        .flat_map(|_| {
            let port = free_port();
            port..port + 10
        })
        .collect();
    let setup = ports
        .iter()
        .zip(100..)
        .fold(Setup::new(), |setup, (port, n)| setup.flow(&format!("more-{n}"), &flow(*port, &[("out", n)])));
    let mut rig = Rig::with(setup);
    rig.apply(&rig.both());
    let documents = |rig: &Rig| {
        let flows = rig.daemon.json("/v1/flows");
        let what = |flow: &serde_json::Value| {
            let outputs: Vec<_> = flow["outputs"].as_object().unwrap().keys().cloned().collect();
            (flow["name"].clone(), flow["state"].clone(), flow["sources"]["main"]["bind"].clone(), outputs)
        };
        flows["flows"].as_array().unwrap().iter().map(what).collect::<Vec<_>>()
    };
    let before = documents(&rig);
    assert_eq!(before.len(), 101);
    let mut took = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        rig.daemon.kill_and_restart();
        rig.judge.forget(0);
        rig.judge.wait_for_media(0);
        took.push(began.elapsed());
        assert_eq!(documents(&rig), before);
    }
    println!("killed, started again and relaying 101 flows within {took:.0?}");
}

#[test]
fn a_second_daemon_in_the_same_place_ends_and_leaves_the_first_alone() {
    let mut rig = Rig::start();
    let root = rig.daemon.root();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediaconnectd"));
    command.args(["--config".into(), root.join("etc"), "--runtime".into(), root.join("run")]);
    let output =
        command.args(["--state".into(), root.join("other-state")]).env_remove("NOTIFY_SOCKET").output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another mediaconnectd runs"), "{said}");
    assert!(rig.daemon.is_alive());
    assert_eq!(rig.daemon.flow("flow")["state"], "active", "its control socket answers");
    rig.assert_none_lost();
}
