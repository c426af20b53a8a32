//! What a changed key touches, and that nothing else is touched.

use crate::rig::{Rig, described, flow, plan};
use crate::support::crowd::{Judge, Traffic};
use crate::support::daemon::{Setup, condition, count};
use crate::support::ports::free_port;

#[test]
fn outputs_come_and_go_and_the_others_lose_nothing() {
    let rig = Rig::start();
    for _ in 0..5 {
        rig.apply(&rig.both());
        rig.judge.wait_for_more(1, 5);
        rig.apply(&rig.text());
        assert_eq!(rig.daemon.flow("flow")["outputs"].as_object().unwrap().len(), 1);
    }
    rig.assert_none_lost();
}

#[test]
fn an_output_that_changes_its_destination_leaves_the_others_alone() {
    let rig = Rig::start();
    rig.apply(&rig.both());
    rig.judge.wait_for_media(1);
    let moved = Judge::start(1);
    let text = flow(rig.input, &[("o0", rig.judge.port(0)), ("o1", moved.port(0))]);
    rig.daemon.write_flow("flow", &text);
    rig.daemon.ctl_ok(&["reload"]);
    moved.wait_for_media(0);
    rig.assert_none_lost();
}

#[test]
fn a_changed_source_leaves_the_sockets_of_the_outputs_alone() {
    let rig = Rig::start();
    let before = rig.judge.wait_for_more(0, 20);
    let other = free_port();
    rig.apply(&flow(other, &[("o0", rig.judge.port(0))]));
    rig.redirect(other);
    let after = rig.judge.wait_for_more(0, 20);
    assert_eq!((after.from, after.moves), (before.from, 0), "datagrams come from the same port");
    assert_eq!((after.repeated, after.foreign), (0, 0));
    assert!(count(&rig.daemon.flow("flow"), "outputs/o0/packets") >= after.received);
}

#[test]
fn keys_that_need_no_restart_reopen_nothing() {
    let rig = Rig::start();
    let whole = |flow_keys: &str, source_keys: &str, output_keys: &str| {
        let (source, output) = rig.text().split_once("[outputs").map(|(s, o)| (s.to_owned(), o.to_owned())).unwrap();
        format!("{flow_keys}\n{source}{source_keys}\n[outputs{output}{output_keys}\n")
    };
    let cases = [
        (whole("description = 'one'", "", ""), "flow change: flow flow in-place"),
        (whole("tags = { a = 'b' }", "", ""), "flow change: flow flow in-place"),
        (whole("gather = '1ms'", "", ""), "flow change: flow flow in-place"),
        (whole("", "allow = ['127.0.0.0/8']", ""), "flow change: source main in-place"),
        (whole("", "max-bitrate = '100M'", ""), "flow change: source main in-place"),
        (whole("", "description = 'two'", ""), "flow change: source main in-place"),
        (whole("", "", "ttl = 7"), "flow change: output o0 in-place"),
        (whole("", "", "dscp = 'ef'"), "flow change: output o0 in-place"),
        (whole("", "", "description = 'three'"), "flow change: output o0 in-place"),
    ];
    let plain = rig.text();
    for (text, expected) in cases {
        let before = count(&rig.daemon.flow("flow"), "outputs/o0/packets");
        rig.daemon.ctl_ok(&["freeze"]);
        rig.daemon.write_flow("flow", &text);
        assert_eq!(plan(&rig.daemon), [expected], "{text}");
        rig.daemon.ctl_ok(&["thaw"]);
        assert_eq!(plan(&rig.daemon), [""; 0], "{text}");
        rig.judge.wait_for_more(0, 5);
        assert!(count(&rig.daemon.flow("flow"), "outputs/o0/packets") > before, "counters go on");
        rig.apply(&plain);
    }
    rig.assert_none_lost();
}

#[test]
fn a_flow_whose_file_does_not_change_is_not_touched() {
    let other = free_port();
    let rig = Rig::with(Setup::new().flow("other", &flow(other, &[("out", 9)])));
    let peer = rig.daemon.wait_for_flow("flow", "its sender", |flow| flow["sources"]["main"]["peers"][0].is_object());
    for n in 0..10 {
        rig.daemon.write_flow("other", &described(&n.to_string(), &flow(other, &[("out", 9 + n)])));
        rig.daemon.ctl_ok(&["reload"]);
    }
    let now = rig.daemon.flow("flow");
    assert_eq!(now["sources"]["main"]["peers"], peer["sources"]["main"]["peers"]);
    assert!(count(&now, "sources/main/packets") >= count(&peer, "sources/main/packets"));
    assert!(!rig.daemon.log().contains("flow changed"), "{}", rig.daemon.log());
    rig.assert_none_lost();
}

#[test]
fn two_flows_swap_their_ports_in_one_reload() {
    let (one, two, judge) = (free_port(), free_port(), Judge::start(2));
    let text = |input, socket| flow(input, &[("out", judge.port(socket))]);
    let daemon = Setup::new().flow("a", &text(one, 0)).flow("b", &text(two, 1)).start();
    daemon.ctl_ok(&["freeze"]);
    daemon.write_flow("a", &text(two, 0));
    daemon.write_flow("b", &text(one, 1));
    assert_eq!(plan(&daemon), ["a change: source main reopen", "b change: source main reopen"]);
    daemon.ctl_ok(&["thaw"]);
    let traffic = Traffic::start(&[one, two], 100);
    judge.wait_for_more(0, 10);
    judge.wait_for_more(1, 10);
    for (flow, port) in [("a", two), ("b", one)] {
        let flow = daemon.flow(flow);
        assert_eq!(flow["sources"]["main"]["bind"], format!("127.0.0.1:{port}"));
        assert_eq!((&flow["state"], &flow["stale-config"]), (&"active".into(), &false.into()), "{flow:#}");
    }
    let sent = traffic.stop();
    judge.assert_all(0, sent[1]);
    judge.assert_all(1, sent[0]);
}

#[test]
fn the_flow_that_has_a_port_keeps_it_and_the_newcomer_is_told_why() {
    let rig = Rig::start();
    // By its name it would come first.
    rig.daemon.write_flow("a-newcomer", &flow(rig.input, &[("out", 9)]));
    let output = rig.daemon.ctl(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = format!("port {} is already taken by source \"main\" of flow \"flow\"", rig.input);
    let told = [output.stdout, output.stderr].concat();
    assert!(String::from_utf8_lossy(&told).contains(&said), "{}", String::from_utf8_lossy(&told));
    // Nor does it win while the owner's file is edited, or broken.
    rig.daemon.write_flow("flow", &described("edited", &rig.text()));
    assert_eq!(rig.daemon.ctl(&["reload"]).status.code(), Some(1));
    assert_eq!(rig.daemon.flow("flow")["description"], "edited");
    rig.daemon.write_flow("flow", "[sources\n");
    rig.daemon.ctl(&["reload"]);
    assert!(condition(&rig.daemon.flow("flow"), "stale-config").is_some());
    assert_eq!(rig.daemon.status()["flows"]["total"], 1);
    // Once it is free it is the newcomer's.
    rig.apply(&flow(free_port(), &[("o0", rig.judge.port(0))]));
    assert_eq!(rig.daemon.flow("a-newcomer")["state"], "active");
}
