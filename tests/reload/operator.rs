//! What operators set against the files: freezes, and parts started and stopped.

use crate::rig::{Rig, daemon_condition, described, flow, plan, wait_for_daemon_condition};
use crate::support::daemon::{Daemon, Setup, condition};
use crate::support::ports::free_port;

#[test]
fn a_frozen_flow_waits_with_its_changes_and_the_others_do_not() {
    let other = free_port();
    let mut rig = Rig::with(Setup::new().flow("other", &flow(other, &[("out", 9)])));
    rig.daemon.ctl_ok(&["freeze", "flow"]);
    rig.daemon.write_flow("flow", &described("held back", &rig.both()));
    rig.daemon.write_flow("other", &described("applied", &flow(other, &[("out", 9)])));
    rig.daemon.ctl_ok(&["reload"]);
    assert_eq!(rig.daemon.flow("other")["description"], "applied");
    let frozen = rig.daemon.flow("flow");
    assert_eq!(frozen["description"], "");
    let said = condition(&frozen, "frozen").unwrap();
    assert!(said["message"].as_str().unwrap().contains("1 change waits"), "{said}");
    assert_eq!(plan(&rig.daemon), ["flow change: flow flow in-place", "flow change: output o1 open"]);

    rig.daemon.kill_and_restart();
    let frozen = rig.daemon.flow("flow");
    assert_eq!(frozen["description"], "", "it is held back over a restart too");
    assert!(condition(&frozen, "frozen").is_some());
    rig.daemon.ctl_ok(&["thaw", "flow"]);
    let thawed = rig.daemon.flow("flow");
    assert_eq!(thawed["description"], "held back");
    assert!(condition(&thawed, "frozen").is_none());
    rig.judge.wait_for_media(1);
}

#[test]
fn a_freeze_of_all_holds_files_that_come_and_go_and_the_settings() {
    let rig = Rig::start();
    rig.daemon.ctl_ok(&["freeze"]);
    let later = free_port();
    rig.daemon.write_flow("new", &flow(later, &[("out", 9)]));
    rig.daemon.remove_flow("flow");
    std::fs::write(
        rig.daemon.root().join("etc/mediaconnect.toml"),
        "[http]\nlisten = []\n[defaults]\ngather = '3ms'\n",
    )
    .unwrap();
    rig.daemon.ctl_ok(&["reload"]);
    assert_eq!(rig.daemon.flow("flow")["gather"], "auto");
    let said = daemon_condition(&rig.daemon, "frozen").unwrap();
    assert!(said["message"].as_str().unwrap().contains("3 changes wait"), "{said}");
    assert!(matches!(rig.daemon.ask("GET", "/v1/flows/new"), Ok((404, _))));
    rig.judge.wait_for_more(0, 20);
    rig.daemon.ctl_ok(&["thaw"]);
    assert_eq!(rig.daemon.flow("new")["gather"], "3ms");
    assert!(matches!(rig.daemon.ask("GET", "/v1/flows/flow"), Ok((404, _))));
    assert!(daemon_condition(&rig.daemon, "frozen").is_none());
}

#[test]
fn a_freeze_ends_by_itself_and_one_that_is_over_is_refused() {
    let rig = Rig::start();
    assert!(!rig.daemon.ctl(&["freeze", "--until", "2020-01-01T00:00:00Z"]).status.success());
    assert!(daemon_condition(&rig.daemon, "frozen").is_none());
    rig.daemon.ctl_ok(&["freeze", "--until", "2s"]);
    rig.daemon.write_flow("flow", &described("after it", &rig.text()));
    assert!(daemon_condition(&rig.daemon, "frozen").is_some());
    rig.wait_for_description("after it");
    wait_for_daemon_condition(&rig.daemon, "frozen", false);
    rig.assert_none_lost();
}

fn state(daemon: &Daemon) -> String {
    daemon.flow("flow")["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_stopped_flow_stays_stopped_until_it_is_started_or_its_key_changes() {
    let mut rig = Rig::start();
    rig.daemon.ctl_ok(&["stop", "flow"]);
    let stopped = rig.daemon.flow("flow");
    assert_eq!(stopped["state"], "standby");
    assert!(condition(&stopped, "stopped").is_some());
    assert_eq!(stopped["operator-override"]["action"], "stop");
    rig.daemon.kill_and_restart();
    assert_eq!(state(&rig.daemon), "standby", "over a restart");
    rig.apply(&described("another key", &rig.text()));
    assert_eq!(state(&rig.daemon), "standby", "over a change of another key");
    rig.daemon.ctl_ok(&["stop", "flow", "--clear"]);
    assert_eq!(state(&rig.daemon), "active");
    rig.judge.wait_for_more(0, 20);

    rig.daemon.ctl_ok(&["stop", "flow"]);
    rig.apply(&format!("enabled = false\n{}", rig.text()));
    assert_eq!(state(&rig.daemon), "standby");
    rig.apply(&format!("enabled = true\n{}", rig.text()));
    assert_eq!(state(&rig.daemon), "active", "the key has changed: the file counts again");
    rig.judge.wait_for_more(0, 20);
}

#[test]
fn a_disabled_output_stays_so_over_a_restart_and_costs_the_others_nothing() {
    let mut rig = Rig::start();
    rig.apply(&rig.both());
    rig.judge.wait_for_media(1);
    rig.daemon.ctl_ok(&["disable", "flow", "o1"]);
    assert_eq!(rig.daemon.flow("flow")["outputs"]["o1"]["operator-override"]["action"], "disable");
    rig.daemon.ctl_ok(&["enable", "flow", "o1"]);
    rig.judge.wait_for_more(1, 5);
    rig.daemon.ctl_ok(&["disable", "flow", "o1"]);
    let lost = rig.judge.tally(0);
    assert!(lost.is_unbroken(), "{lost:?}");
    rig.daemon.kill_and_restart();
    rig.judge.wait_for_more(0, 20);
    let flow = rig.daemon.flow("flow");
    assert_eq!(flow["outputs"]["o1"]["state"], "idle");
    assert!(condition(&flow, "output-disabled").is_some());
    rig.apply(&format!("{}enabled = false\n", rig.both()));
    rig.apply(&format!("{}enabled = true\n", rig.both()));
    assert!(rig.daemon.flow("flow")["outputs"]["o1"]["operator-override"].is_null());
    rig.judge.wait_for_more(1, 5);
}
