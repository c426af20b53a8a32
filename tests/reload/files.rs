//! What makes the daemon look at its files, and what it takes from them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::{Rig, daemon_condition, described, flow, wait_for_daemon_condition};
use crate::support::daemon::{Setup, condition};
use crate::support::ports::free_port;
use crate::support::wait_for;

#[test]
fn every_way_of_replacing_a_file_is_noticed_and_costs_nothing() {
    let rig = Rig::start();
    let path = rig.daemon.flow_path("flow");
    let text = |description: &str| described(description, &rig.text());

    rig.daemon.write_flow("flow", &text("renamed in"));
    rig.wait_for_description("renamed in");

    let new = rig.daemon.root().join("version-2");
    fs::write(&new, text("a link swapped")).unwrap();
    symlink(&new, path.with_extension("link")).unwrap();
    fs::rename(path.with_extension("link"), &path).unwrap();
    rig.wait_for_description("a link swapped");

    // vim with `backup`: away, anew, and the backup goes.
    let backup = path.with_extension("toml~");
    fs::rename(&path, &backup).unwrap();
    fs::write(&path, text("edited with vim")).unwrap();
    fs::remove_file(&backup).unwrap();
    rig.wait_for_description("edited with vim");

    // Emacs, with its lock that leads nowhere and its temporary file.
    let lock = path.with_file_name(".#flow.toml");
    symlink("admin@host.1234", &lock).unwrap();
    fs::write(path.with_file_name("#flow.toml#"), text("not yet saved")).unwrap();
    fs::write(&path, text("edited with emacs")).unwrap();
    fs::remove_file(&lock).unwrap();
    rig.wait_for_description("edited with emacs");

    // Ansible's copy: a temporary file beside it, then its mode, then the rename.
    let temporary = path.with_file_name(".ansible_tmpk3j2flow.toml");
    fs::write(&temporary, text("by ansible")).unwrap();
    fs::rename(&temporary, &path).unwrap();
    rig.wait_for_description("by ansible");

    fs::write(&path, text("overwritten")).unwrap();
    rig.wait_for_description("overwritten");
    rig.assert_none_lost();
}

#[test]
fn sighup_and_reload_take_what_no_notification_tells_of() {
    let rig = Rig::start();
    let elsewhere = rig.daemon.root().join("elsewhere.toml");
    fs::write(&elsewhere, described("first", &rig.text())).unwrap();
    fs::remove_file(rig.daemon.flow_path("flow")).unwrap();
    symlink(&elsewhere, rig.daemon.flow_path("flow")).unwrap();
    rig.wait_for_description("first");

    fs::write(&elsewhere, described("by signal", &rig.text())).unwrap();
    rig.daemon.signal(Signal::SIGHUP);
    rig.wait_for_description("by signal");

    fs::write(&elsewhere, described("by command", &rig.text())).unwrap();
    rig.daemon.ctl_ok(&["reload"]);
    assert_eq!(rig.daemon.flow("flow")["description"], "by command", "it is applied when `reload` returns");
    rig.assert_none_lost();
}

#[test]
fn reload_exits_with_1_and_the_reasons_when_something_is_rejected() {
    let rig = Rig::start();
    rig.daemon.write_flow("flow", &format!("{}ttl = 'far'\n", rig.text()));
    let output = rig.daemon.ctl(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("flows.d/flow.toml:7:7: error: "), "{said}");
    rig.apply(&described("mended", &rig.text()));
    assert_eq!(rig.daemon.flow("flow")["description"], "mended");
    rig.assert_none_lost();
}

#[test]
fn only_the_flow_whose_file_is_gone_stops() {
    let other = free_port();
    let rig = Rig::with(Setup::new().flow("other", &flow(other, &[("out", 9)])));
    rig.daemon.remove_flow("other");
    wait_for("the flow is gone", || matches!(rig.daemon.ask("GET", "/v1/flows/other"), Ok((404, _))).then_some(()));
    rig.assert_none_lost();
}

#[test]
fn a_directory_that_is_away_or_no_directory_stops_nothing() {
    let rig = Rig::start();
    let (here, away) = (rig.daemon.root().join("etc/flows.d"), rig.daemon.root().join("away"));
    fs::rename(&here, &away).unwrap();
    wait_for_daemon_condition(&rig.daemon, "config-unreadable", true);
    fs::write(&here, "a file").unwrap();
    rig.daemon.ctl(&["reload"]);
    assert!(daemon_condition(&rig.daemon, "config-unreadable").is_some());
    rig.judge.wait_for_more(0, 20);
    fs::remove_file(&here).unwrap();
    fs::rename(&away, &here).unwrap();
    wait_for_daemon_condition(&rig.daemon, "config-unreadable", false);
    // It is watched again.
    rig.daemon.write_flow("flow", &described("back", &rig.text()));
    rig.wait_for_description("back");
    assert_eq!(rig.daemon.flow("flow")["state"], "active");
    rig.assert_none_lost();
}

#[test]
fn a_file_that_can_not_be_read_stops_nothing() {
    let rig = Rig::start();
    let path = rig.daemon.flow_path("flow");
    // Not by its mode: root may read everything.
    let link = path.with_extension("link");
    symlink("/proc/nowhere", &link).unwrap();
    fs::rename(&link, &path).unwrap();
    wait_for_daemon_condition(&rig.daemon, "config-unreadable", true);
    assert_eq!(rig.daemon.flow("flow")["state"], "active");
    rig.apply(&rig.text());
    assert!(daemon_condition(&rig.daemon, "config-unreadable").is_none());
    rig.assert_none_lost();
}

#[test]
fn a_broken_file_changes_nothing_and_is_told_once() {
    let rig = Rig::start();
    rig.daemon
        .write_flow("flow", &format!("{}\n[outputs.o2]\nprotocol = 'udq'\ndestination = '127.0.0.1:9'\n", rig.text()));
    let stale = rig.daemon.wait_for_condition("flow", "stale-config");
    assert!(stale["message"].as_str().unwrap().contains("flow.toml:9:12: "), "{stale}");
    let flow = rig.daemon.flow("flow");
    assert_eq!((&flow["stale-config"], &flow["state"]), (&true.into(), &"active".into()));
    for _ in 0..3 {
        assert_eq!(rig.daemon.ctl(&["reload"]).status.code(), Some(1));
    }
    let log = rig.daemon.wait_for_log("flow.toml:9:12: error: ");
    assert_eq!(log.matches("flow.toml:9:12: error: ").count(), 1, "{log}");
    let status = rig.daemon.status();
    assert_eq!((&status["config"]["success"], &status["flows"]["stale"]), (&false.into(), &1.into()));
    rig.apply(&rig.text());
    let flow = rig.daemon.flow("flow");
    assert_eq!(flow["stale-config"], false);
    assert!(condition(&flow, "stale-config").is_none());
    assert_eq!(rig.daemon.status()["config"]["success"], true);
    rig.assert_none_lost();
}

#[test]
fn it_starts_with_broken_files_and_runs_the_others() {
    let rig = Rig::with(Setup::new().flow("broken", "[sources\n").flow("conflict", "nonsense = 1\n"));
    let status = rig.daemon.status();
    assert_eq!(status["flows"]["total"], 1, "{status:#}");
    assert_eq!(status["config"]["success"], false);
    let said = daemon_condition(&rig.daemon, "config-rejected").unwrap();
    assert!(said["message"].as_str().unwrap().starts_with("2 files are rejected"), "{said}");
    rig.daemon.wait_for_log("broken.toml:1:9: error: ");
    rig.assert_none_lost();
}

#[test]
fn the_last_good_version_outlives_the_process() {
    let mut rig = Rig::start();
    rig.apply(&described("good", &rig.text()));
    rig.daemon.write_flow("flow", "[sources\n");
    rig.daemon.wait_for_condition("flow", "stale-config");
    rig.daemon.kill_and_restart();
    let flow = rig.daemon.flow("flow");
    assert_eq!((&flow["description"], &flow["state"]), (&"good".into(), &"active".into()));
    assert_eq!(flow["stale-config"], true);
    assert!(condition(&flow, "stale-config").is_some());
    rig.judge.wait_for_more(0, 20);
    // Deleted while the daemon was away, it does not come back.
    rig.daemon.remove_flow("flow");
    rig.daemon.kill_and_restart();
    assert_eq!(rig.daemon.status()["flows"]["total"], 0);
}

#[test]
fn a_file_that_is_being_written_is_not_taken_though_its_first_half_is_valid() {
    let rig = Rig::start();
    rig.apply(&rig.both());
    let (first, second) = (rig.text(), rig.both());
    let mut file = fs::File::create(rig.daemon.flow_path("flow")).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    // Longer than any quiet that makes the daemon look at its files.
    sleep(Duration::from_millis(600));
    let outputs = |flow: &serde_json::Value| flow["outputs"].as_object().unwrap().len();
    assert_eq!(outputs(&rig.daemon.flow("flow")), 2);
    file.write_all(&second.as_bytes()[first.len()..]).unwrap();
    file.write_all(b"description = 'whole'\n").unwrap();
    drop(file);
    rig.daemon.wait_for_flow("flow", "whole", |flow| flow["outputs"]["o1"]["description"] == "whole");
    // Left open and quiet, it is taken all the same.
    let mut file = fs::File::create(rig.daemon.flow_path("flow")).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    rig.daemon.wait_for_flow("flow", "the first half", |flow| outputs(flow) == 1);
    drop(file);
    rig.assert_none_lost();
}
