//! Several sources of one flow, live: one of them on air, the others on hot standby; what operators say and see of it.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mediaconnect::proto::rtp::header::Header;
use mediaconnect::proto::seq::Seq;
use serde_json::Value;
use support::daemon::{Daemon, Setup, condition, count};
use support::media::{Feed, Sending, Sink, Stream, Wire, receiving_socket, v4};
use support::ports::free_port;
use support::proxy::{Impairment, Proxy};

const STREAM: Stream = Stream::at(2_000_000);

/// A flow of sources `a` and `b`, `a` preferred, to one RTP output.
fn flow(protocols: [&str; 2], inputs: [u16; 2], failover: &str, output: u16) -> String {
    let source = |name: &str, protocol: &str, port: u16| {
        format!("[sources.{name}]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{port}'\n")
    };
    format!(
        "{}{}[failover]\n{failover}\n[outputs.out]\nprotocol = 'rtp'\ndestination = '127.0.0.1:{output}'\n",
        source("a", protocols[0], inputs[0]),
        source("b", protocols[1], inputs[1])
    )
}

const HOLD_LONG: &str = "mode = 'failover'\nprimary = 'a'\nhold = '1h'";

/// What a receiver sees of the RTP headers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Headers {
    packets: u64,
    breaks: u64,
    ssrcs: BTreeSet<u32>,
}

/// Reads RTP headers until it is stopped.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Headers>,
}

impl Watcher {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (socket, flag) = (receiving_socket(v4(port)), Arc::clone(&stop));
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { stop, thread: std::thread::spawn(move || watch(&socket, &flag)) }
    }

    fn stop(self) -> Headers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn watch(socket: &UdpSocket, stop: &AtomicBool) -> Headers {
    let (mut seen, mut last, mut buffer) = (Headers::default(), None::<Seq>, [0; 2048]);
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let header = Header::parse(&buffer[..length]).unwrap();
        let before = last.replace(header.seq);
        seen.packets += 1;
        seen.breaks += u64::from(before.is_some_and(|before| header.seq.distance(before) != 1));
        seen.ssrcs.insert(header.ssrc);
    }
    seen
}

/// A running flow of two sources that both send.
struct Rig {
    daemon: Daemon,
    inputs: [u16; 2],
    senders: [Option<Sending>; 2],
    watcher: Watcher,
    text: String,
}

impl Rig {
    /// `a` comes first, and is on air.
    fn start(protocols: [&str; 2], failover: &str) -> Self {
        let (inputs, output) = ([free_port(), free_port()], free_port());
        let text = flow(protocols, inputs, failover, output);
        let (watcher, daemon) = (Watcher::start(output), Daemon::with_flow(&text));
        let mut rig = Self { daemon, inputs, senders: [None, None], watcher, text };
        rig.send(0);
        rig.wait_on_air("a");
        rig.send(1);
        rig.daemon.wait_for_flow("flow", "b is received", |flow| flow["sources"]["b"]["state"] == "receiving");
        rig
    }

    fn send(&mut self, source: usize) {
        let wire = if self.text.contains("protocol = 'rtp'\nbind") { Wire::Rtp } else { Wire::Udp };
        self.senders[source] = Some(Feed::new(wire, v4(self.inputs[source]), STREAM).start());
    }

    fn cut(&mut self, source: usize) {
        self.senders[source].take().unwrap().stop();
    }

    #[track_caller]
    fn wait_on_air(&self, source: &str) -> Value {
        self.daemon.wait_for_flow("flow", source, |flow| {
            let on_air = |name: &str| flow["sources"][name]["on-air"] == true;
            flow["failover"]["on-air"] == source && on_air(source) && on_air("a") != on_air("b")
        })
    }
}

#[test]
fn when_the_source_on_air_falls_silent_the_other_takes_over_and_status_says_why() {
    let mut rig = Rig::start(["rtp", "rtp"], HOLD_LONG);
    let well = rig.daemon.flow("flow");
    assert_eq!(
        (well["failover"]["mode"].as_str(), well["failover"]["primary"].as_str()),
        (Some("failover"), Some("a"))
    );
    assert_eq!(count(&well, "failover/switches"), 0);
    assert!(condition(&well, "failover-switched").is_none());

    rig.cut(0);
    let after = rig.daemon.wait_for_flow("flow", "it is told", |flow| flow["failover"]["last-switch"]["to"] == "b");
    rig.wait_on_air("b");
    assert_eq!(count(&after, "failover/switches"), 1);
    let last = &after["failover"]["last-switch"];
    assert_eq!(last["from"], "a");
    assert_eq!(last["to"], "b");
    assert_eq!(last["reason"], "silence");
    let gap = last["gap-ms"].as_f64().unwrap();
    assert!(gap >= 499.0, "silent for the 500 ms of the trigger: {gap}");
    rig.daemon.wait_for_log("flow switched from a to b: a was silent (gap ");

    let said = rig.daemon.wait_for_condition("flow", "source-lost");
    assert_eq!(said["severity"], "major", "the flow goes on: {said}");
    assert!(said["message"].as_str().unwrap().starts_with("standby source a: lost"), "{said}");
    assert_eq!(rig.daemon.wait_for_condition("flow", "failover-switched")["severity"], "minor");
    let explained = rig.daemon.ctl(&["explain", "flow"]);
    assert_eq!(explained.status.code(), Some(1));
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("source b is on air instead of the primary a"), "{explained}");
    assert!(explained.contains("a was silent"), "{explained}");
    let metrics = rig.daemon.ask("GET", "/metrics").unwrap().1;
    for line in [
        "mediaconnect_flow_failover_switches_total{flow=\"flow\"} 1",
        "mediaconnect_source_selected{flow=\"flow\",source=\"a\"} 0",
        "mediaconnect_source_selected{flow=\"flow\",source=\"b\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    let headers = rig.watcher.stop();
    assert!(headers.packets > 100, "{headers:?}");
    assert_eq!((headers.breaks, headers.ssrcs.len()), (0, 1), "one RTP stream over the switch: {headers:?}");
}

#[test]
fn sources_of_different_protocols_stand_in_for_each_other() {
    let (inputs, output) = ([free_port(), free_port()], free_port());
    let (watcher, daemon) =
        (Watcher::start(output), Daemon::with_flow(&flow(["udp", "rtp"], inputs, HOLD_LONG, output)));
    let a = Feed::new(Wire::Udp, v4(inputs[0]), STREAM).start();
    daemon.wait_for_flow("flow", "a is on air", |flow| flow["failover"]["on-air"] == "a");
    let _b = Feed::new(Wire::Rtp, v4(inputs[1]), STREAM).start();
    daemon.wait_for_flow("flow", "b is received", |flow| flow["sources"]["b"]["state"] == "receiving");
    a.stop();
    daemon.wait_for_flow("flow", "b is on air", |flow| flow["failover"]["last-switch"]["to"] == "b");
    let before = count(&daemon.flow("flow"), "outputs/out/packets");
    daemon.wait_for_flow("flow", "it sends on", |flow| count(flow, "outputs/out/packets") > before + 50);
    let headers = watcher.stop();
    assert_eq!((headers.breaks, headers.ssrcs.len()), (0, 1), "{headers:?}");
}

#[test]
fn the_primary_comes_back_after_the_hold_and_not_before() {
    let mut rig = Rig::start(["udp", "udp"], "mode = 'failover'\nprimary = 'a'\nhold = '2s'");
    rig.cut(0);
    rig.wait_on_air("b");
    let back_at = Instant::now();
    rig.send(0);
    let after = rig
        .daemon
        .wait_for_flow("flow", "a is back", |flow| flow["failover"]["last-switch"]["reason"] == "primary-back");
    assert!(back_at.elapsed() >= Duration::from_secs(2), "the hold is kept: {:?}", back_at.elapsed());
    assert_eq!(after["failover"]["on-air"], "a");
    assert_eq!(count(&after, "failover/switches"), 2);
    assert!(condition(&rig.daemon.flow("flow"), "failover-switched").is_none());
}

#[test]
fn without_a_primary_the_survivor_stays_on_air() {
    let mut rig = Rig::start(["udp", "udp"], "mode = 'failover'\nhold = '100ms'");
    rig.cut(0);
    rig.wait_on_air("b");
    rig.send(0);
    rig.daemon.wait_for_flow("flow", "a is received", |flow| flow["sources"]["a"]["state"] == "receiving");
    let seen = count(&rig.daemon.flow("flow"), "sources/a/packets");
    let flow = rig.daemon.wait_for_flow("flow", "and goes on so", |flow| count(flow, "sources/a/packets") > seen + 200);
    assert_eq!(flow["failover"]["on-air"], "b");
    assert!(condition(&flow, "failover-switched").is_none(), "none is preferred");
}

#[test]
fn an_operators_choice_holds_over_reload_restart_and_silence_until_it_is_cleared() {
    let mut rig = Rig::start(["udp", "udp"], "mode = 'failover'\nprimary = 'a'\nreturn = 'immediate'");
    assert_eq!(rig.daemon.ctl_ok(&["switch", "flow", "b"]), "flow: change\n  source b: in place (switch)\n");
    let chosen = rig.wait_on_air("b");
    assert_eq!(chosen["failover"]["operator-choice"], "b");
    assert_eq!(chosen["operator-override"]["action"], "switch b");
    assert!(chosen["operator-override"]["by"].is_string() && chosen["operator-override"]["since"].is_string());
    assert!(condition(&chosen, "switched-by-operator").is_some());
    let by_operator = |flow: &Value| flow["failover"]["last-switch"]["reason"] == "operator";
    let told = rig.daemon.wait_for_flow("flow", "it is told", by_operator);
    assert_eq!(count(&told, "failover/switches"), 1);
    assert_eq!(rig.daemon.ctl_ok(&["switch", "flow", "b"]), "", "it is on air already");

    rig.daemon.write_flow("flow", &format!("description = 'other'\n{}", rig.text));
    rig.daemon.ctl_ok(&["reload"]);
    assert_eq!(rig.wait_on_air("b")["description"], "other");
    rig.daemon.ctl_ok(&["restart", "flow", "source", "b"]);
    rig.wait_on_air("b");
    rig.daemon.kill_and_restart();
    let restarted = rig.wait_on_air("b");
    assert_eq!(restarted["failover"]["operator-choice"], "b", "over a restart too");
    rig.daemon.ask("POST", "/v1/flows/flow/panic").unwrap();
    rig.daemon.wait_for_condition("flow", "flow-panicked");
    rig.wait_on_air("b");

    rig.cut(1);
    assert_eq!(rig.daemon.wait_for_condition("flow", "source-lost")["severity"], "critical");
    assert_eq!(rig.daemon.flow("flow")["failover"]["on-air"], "b", "silent, it stays on air");
    rig.daemon.ctl_ok(&["switch", "flow", "--clear"]);
    let cleared = rig.wait_on_air("a");
    assert!(cleared["failover"]["operator-choice"].is_null() && cleared["operator-override"].is_null());
    assert!(condition(&cleared, "switched-by-operator").is_none());
    assert_eq!(rig.daemon.ctl_ok(&["switch", "flow", "--clear"]), "", "there is nothing to clear any more");
}

#[test]
fn an_operators_choice_ends_with_its_source() {
    let rig = Rig::start(["udp", "udp"], HOLD_LONG);
    rig.daemon.ctl_ok(&["switch", "flow", "b"]);
    rig.wait_on_air("b");
    let disabled = rig.text.replace("[failover]", "enabled = false\n[failover]");
    rig.daemon.write_flow("flow", &disabled);
    rig.daemon.ctl_ok(&["reload"]);
    let without = rig.wait_on_air("a");
    assert!(without["failover"]["operator-choice"].is_null() && without["operator-override"].is_null());
    rig.daemon.write_flow("flow", &rig.text);
    rig.daemon.ctl_ok(&["reload"]);
    rig.daemon.wait_for_flow("flow", "b is received again", |flow| flow["sources"]["b"]["state"] == "receiving");
    assert_eq!(rig.wait_on_air("a")["failover"]["operator-choice"], Value::Null, "it does not come back");
}

#[test]
fn switches_that_make_no_sense_are_refused_with_words() {
    let inputs = [free_port(), free_port()];
    let daemon = Daemon::with_flow(&flow(["udp", "udp"], inputs, "mode = 'failover'", 9));
    let refused = |arguments: &[&str]| {
        let output = daemon.ctl(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let says = |arguments: &[&str], words: &str| {
        let (code, said) = refused(arguments);
        assert!(code == Some(1) && said.contains(words), "{arguments:?}: {code:?} {said}");
    };
    says(&["switch", "flow", "c"], "flow flow has no source c");
    says(&["switch", "none", "a"], "there is no flow none");
    assert_eq!(refused(&["switch", "flow"]).0, Some(2), "neither a source nor --clear");
    assert_eq!(refused(&["switch", "flow", "a", "--clear"]).0, Some(2), "both");

    let text = flow(["udp", "udp"], inputs, "mode = 'failover'", 9);
    daemon.write_flow("flow", &text.replace("[failover]", "enabled = false\n[failover]"));
    daemon.ctl_ok(&["reload"]);
    says(&["switch", "flow", "b"], "source b of flow flow is disabled");
    daemon.write_flow("flow", &flow(["rtp", "rtp"], inputs, "mode = 'merge'", 9));
    daemon.ctl_ok(&["reload"]);
    says(&["switch", "flow", "a"], "flow flow merges its sources");
    let single = format!("[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:{}'\n", inputs[0]);
    daemon.write_flow("flow", &single);
    daemon.ctl_ok(&["reload"]);
    says(&["switch", "flow", "a"], "flow flow has no [failover] table");
    assert!(daemon.flow("flow")["failover"].is_null() && daemon.flow("flow")["merge"].is_null());
}

#[test]
fn a_second_source_comes_and_goes_by_reload_and_not_a_packet_is_lost() {
    let (inputs, output) = ([free_port(), free_port()], free_port());
    let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
    let both = flow(["udp", "udp"], inputs, HOLD_LONG, output);
    let table = both.split_once("[failover]").unwrap().1.split_once("[outputs").unwrap().0;
    let source_b = both.split_once("[sources.b]").unwrap().1.split_once("[failover]").unwrap().0;
    let alone = both.replace(&format!("[sources.b]{source_b}"), "").replace(&format!("[failover]{table}"), "");
    let daemon = Daemon::with_flow(&alone);
    let sender = Feed::new(Wire::Udp, v4(inputs[0]), STREAM).start();
    sink.wait_for_media();
    assert!(daemon.flow("flow")["failover"].is_null());
    daemon.write_flow("flow", &both);
    daemon.ctl_ok(&["reload"]);
    daemon.wait_for_flow("flow", "a is on air", |flow| flow["failover"]["on-air"] == "a");
    let _b = Feed::new(Wire::Udp, v4(inputs[1]), STREAM).start();
    daemon.wait_for_flow("flow", "b stands by", |flow| flow["sources"]["b"]["state"] == "receiving");
    daemon.write_flow("flow", &alone);
    daemon.ctl_ok(&["reload"]);
    let flow = daemon.flow("flow");
    assert!(flow["failover"].is_null() && flow["sources"]["b"].is_null());
    assert_eq!(flow["sources"]["a"]["on-air"], true);
    sink.assert_all(sender.stop());
}

#[test]
fn two_legs_are_merged_and_the_loss_of_one_is_told_and_loses_nothing() {
    let (inputs, output) = ([free_port(), free_port()], free_port());
    let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
    let daemon = Daemon::with_flow(&flow(["rtp", "rtp"], inputs, &merge("100ms"), output));
    // One sender, whose packets go both ways.
    let tee = Tee::start(inputs);
    let sender = Feed::new(Wire::Rtp, v4(tee.port), STREAM).start();
    let both = daemon.wait_for_flow("flow", "both legs take part", |flow| count(flow, "merge/active-legs") == 2);
    assert_eq!(both["failover"]["mode"], "merge");
    assert!(condition(&both, "merge-degraded").is_none());
    tee.cut();
    let said = daemon.wait_for_condition("flow", "merge-degraded");
    assert_eq!(said["severity"], "major");
    assert_eq!(said["message"], "1 of 2 legs takes part in the merge; not b");
    assert_eq!(daemon.wait_for_condition("flow", "source-lost")["severity"], "major", "the other leg goes on");
    let metrics = daemon.ask("GET", "/metrics").unwrap().1;
    assert!(metrics.contains("mediaconnect_flow_merge_active{flow=\"flow\"} 0\n"), "one leg is no merge");
    sink.assert_all(sender.stop());
    let end = daemon.flow("flow");
    assert_eq!(count(&end, "merge/packets-unrecovered"), 0);
    assert!(count(&end, "sources/a/leg/first") > 0);
}

/// Sends what it receives to two ports, until the second one is cut off.
struct Tee {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Tee {
    fn start(to: [u16; 2]) -> Self {
        let port = free_port();
        let (socket, cut) = (receiving_socket(v4(port)), Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&cut);
        // It ends when the test does: its socket falls silent.
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(length) = socket.recv(&mut buffer) {
                let ports = if flag.load(Ordering::Relaxed) { &to[..1] } else { &to[..] };
                ports.iter().for_each(|port| _ = socket.send_to(&buffer[..length], v4(*port)));
            }
        });
        Self { port, cut }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

fn merge(window: &str) -> String {
    format!("mode = 'merge'\nrecovery-window = '{window}'")
}

#[test]
fn a_leg_that_is_further_behind_than_the_window_is_told_with_the_key_to_raise() {
    // By a little it is seen to be late; by more than anybody would wait for, its packets match nothing.
    for (later, window, codes) in
        [(90, "60ms", &["leg-too-late"][..]), (1500, "20ms", &["leg-unmatched", "legs-not-identical"][..])]
    {
        let (inputs, output) = ([free_port(), free_port()], free_port());
        let _sink = receiving_socket(v4(output));
        let daemon = Daemon::with_flow(&flow(["rtp", "rtp"], inputs, &merge(window), output));
        let (way, delay) = (free_port(), Duration::from_millis(later));
        let _way = Proxy::start(v4(way), v4(inputs[1]), Impairment { delay, ..Impairment::default() });
        let tee = Tee::start([inputs[0], way]);
        let _sender = Feed::new(Wire::Rtp, v4(tee.port), STREAM).start();
        let told = daemon.wait_for_flow("flow", "the late leg is told", |flow| {
            codes.iter().any(|code| condition(flow, code).is_some())
        });
        let said = codes.iter().find_map(|code| condition(&told, code)).unwrap();
        assert!(said["message"].as_str().unwrap().starts_with("source b"), "{said}");
        assert!(said["help"].as_str().unwrap().contains("`recovery-window`"), "{said}");
        if codes.len() > 1 {
            assert!(
                daemon.wait_for_condition("flow", "merge-degraded")["message"].as_str().unwrap().ends_with("not b")
            );
        }
    }
}

#[test]
fn a_leg_with_another_programme_is_set_aside_and_said_so() {
    let (inputs, output) = ([free_port(), free_port()], free_port());
    let daemon = Daemon::with_flow(&flow(["rtp", "rtp"], inputs, &merge("100ms"), output));
    let _a = Feed::new(Wire::Rtp, v4(inputs[0]), STREAM).start();
    let _b = Feed::new(Wire::Rtp, v4(inputs[1]), Stream { seed: 2, ..STREAM }).start();
    let said = daemon.wait_for_condition("flow", "legs-not-identical");
    assert_eq!(said["severity"], "major");
    let aside = |flow: &Value| ["a", "b"].map(|leg| flow["sources"][leg]["leg"]["aside"] == true);
    let flow = daemon.wait_for_flow("flow", "one is set aside", |flow| aside(flow).contains(&true));
    assert_ne!(aside(&flow), [true, true]);
    daemon.wait_for_log("carries other packets than the other legs");
}

#[test]
fn a_source_with_fec_opens_its_three_ports_or_none() {
    let media = free_port();
    let taken = UdpSocket::bind(v4(media + 4)).unwrap();
    let daemon = Daemon::with_flow(&format!("[sources.a]\nprotocol = 'rtp-fec'\nbind = '127.0.0.1:{media}'\n"));
    let said = daemon.wait_for_condition("flow", "source-failed")["message"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("127.0.0.1:{} is in use", media + 4)), "{said}");
    support::wait_for("between two tries none is open", || UdpSocket::bind(v4(media)).ok());
    drop(taken);
    let open = daemon.wait_for_flow("flow", "it is open", |flow| flow["state"] == "active");
    assert_eq!(count(&open, "sources/a/fec/columns"), 0);
    for port in [media, media + 2, media + 4] {
        assert!(UdpSocket::bind(v4(port)).is_err(), "{port} is open");
    }
    // Media without any FEC is told after a while.
    let _sender = Feed::new(Wire::Rtp, v4(media), STREAM).start();
    let said = daemon.wait_for_condition("flow", "fec-missing")["message"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("ports {} (columns) and {} (rows)", media + 2, media + 4)), "{said}");
}

/// Flow `sender` sends with FEC of 5 x 5 through a network that loses media, but no FEC, to flow `flow`.
fn through_fec(impairment: Impairment) -> (Daemon, Sending, [Proxy; 3]) {
    let (input, way, media) = (free_port(), free_port(), free_port());
    let sender = format!(
        "[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'rtp-fec'\ndestination = '127.0.0.1:{way}'\nfec = {{ columns = 5, rows = 5 }}\n"
    );
    let receiver = format!("[sources.a]\nprotocol = 'rtp-fec'\nbind = '127.0.0.1:{media}'\n");
    let proxies = [(0, impairment), (2, Impairment::default()), (4, Impairment::default())]
        .map(|(offset, impairment)| Proxy::start(v4(way + offset), v4(media + offset), impairment));
    let daemon = Setup::new().flow("flow", &receiver).flow("sender", &sender).start_until_ready();
    let sending = Feed::new(Wire::Udp, v4(input), STREAM).start();
    (daemon, sending, proxies)
}

#[test]
fn what_fec_recovers_is_counted_by_columns_and_rows() {
    let (daemon, _sending, _proxy) = through_fec(Impairment { seed: 1, loss: 3, ..Impairment::default() });
    let flow = daemon.wait_for_flow("flow", "FEC recovers", |flow| count(flow, "sources/a/packets-recovered") > 10);
    let fec = &flow["sources"]["a"]["fec"];
    assert_eq!((fec["columns"].as_u64(), fec["rows"].as_u64()), (Some(5), Some(5)));
    let [by_column, by_row] = ["recovered-by-column", "recovered-by-row"].map(|by| fec[by].as_u64().unwrap());
    assert!(by_column + by_row >= count(&flow, "sources/a/packets-recovered"), "{fec}");
    assert!(fec["column"]["packets"].as_u64().unwrap() > 10 && fec["row"]["packets"].as_u64().unwrap() > 10, "{fec}");
    assert_eq!((fec["column"]["invalid"].as_u64(), fec["row"]["invalid"].as_u64()), (Some(0), Some(0)));
    for code in ["fec-missing", "fec-invalid"] {
        assert!(condition(&flow, code).is_none(), "{code}: {flow}");
    }
    let metrics = daemon.ask("GET", "/metrics").unwrap().1;
    let value = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("mediaconnect_source_fec_packets_total{flow=\"flow\"") > 20);
    assert!(value("mediaconnect_source_fec_recovered_total{flow=\"flow\"") > 10);
}

#[test]
fn bursts_beyond_the_matrix_are_told_with_its_size() {
    let impairment = Impairment { seed: 1, burst: 2, burst_length: 30, ..Impairment::default() };
    let (daemon, _sending, _proxy) = through_fec(impairment);
    let said = daemon.wait_for_condition("flow", "fec-insufficient");
    daemon.wait_for_flow("flow", "the matrix is known", |flow| {
        let said = condition(flow, "fec-insufficient").map(|said| said["message"].to_string());
        said.is_some_and(|said| said.contains("FEC of 5 x 5"))
    });
    assert!(said["help"].as_str().unwrap().contains("columns (L)"), "{said}");
}

#[test]
fn what_is_no_fec_on_a_fec_port_is_told_with_the_port() {
    let media = free_port();
    let daemon = Daemon::with_flow(&format!("[sources.a]\nprotocol = 'rtp-fec'\nbind = '127.0.0.1:{media}'\n"));
    let _media = Feed::new(Wire::Rtp, v4(media), STREAM).start();
    let _stray = Feed::new(Wire::Rtp, v4(media + 2), STREAM).start();
    let said = daemon.wait_for_condition("flow", "fec-invalid");
    assert!(said["message"].as_str().unwrap().contains(&format!("on port {}: not column FEC", media + 2)), "{said}");
    assert!(said["help"].as_str().unwrap().contains("`fec-ports`"), "{said}");
}
