//! Hitless merge (ST 2022-7): legs of one stream go through networks that lose and delay on their own.

mod support;

use std::fs;
use std::time::Duration;

use support::daemon::{Daemon, count};
use support::media::{Feed, Sink, Stream, Wire, v4};
use support::paths::{Carried, Loss, Network, Path, Recorder, bursts, nothing, only, percent};
use support::peers::{Peer, command};
use support::ports::free_port;
use support::wait_for;
use tempfile::TempDir;

const STREAM: Stream = Stream::at(5_000_000);
/// Datagrams of a test stream: 5.3 s of it.
const DATAGRAMS: usize = 2500;
/// Losses leave the first packets alone, before which there is no gap, and the last ones: what a leg has lost is told
/// when a window more has passed.
const LOSSY: std::ops::Range<u64> = 50..1700;
const SKEW: Duration = Duration::from_millis(150);

fn source(name: &str, port: u16) -> String {
    format!("[sources.{name}]\nprotocol = 'rtp'\nbind = '127.0.0.1:{port}'\n")
}

fn output(protocol: &str, port: u16, keys: &str) -> String {
    format!("[outputs.out]\nprotocol = '{protocol}'\ndestination = '127.0.0.1:{port}'\n{keys}\n")
}

/// A busy machine delays as it likes: the window has room for that besides the skew.
const MERGE: &str = "[failover]\nmode = 'merge'\nrecovery-window = '1s'\n";

/// A flow that merges two legs into one output.
fn merge(legs: [u16; 2], to: u16, keys: &str) -> String {
    format!("{}{}{MERGE}{}", source("a", legs[0]), source("b", legs[1]), output("rtp", to, keys))
}

/// One sender's packets go to both legs.
fn fork(listen: u16, legs: [Path; 2]) -> Network {
    Network::start([(v4(listen), legs.into())])
}

fn leg(port: u16, loss: Loss) -> Path {
    Path::to(v4(port), only(LOSSY, loss))
}

fn send(to: u16) -> u64 {
    Feed::new(Wire::Rtp, v4(to), STREAM).send_for(STREAM.length(DATAGRAMS))
}

/// The datagrams that came through on some leg.
fn survivors(carried: &Carried) -> Vec<&[u8]> {
    let all = carried.datagrams.iter().enumerate();
    all.filter(|(n, _)| carried.passed.iter().any(|leg| leg[*n])).map(|(_, datagram)| datagram.as_slice()).collect()
}

/// What came out is every packet that came through on some leg, as it was; what was lost on all legs is counted.
#[track_caller]
fn assert_merged(daemon: &Daemon, out: &Recorder, carried: &Carried) {
    let survivors = survivors(carried);
    out.assert_payloads(&survivors);
    let (sent, gone) = (carried.datagrams.len() as u64, (carried.datagrams.len() - survivors.len()) as u64);
    let mut wanted = vec![("merge/packets".to_owned(), sent - gone), ("merge/packets-unrecovered".to_owned(), gone)];
    for (leg, name) in ["a", "b"].iter().enumerate() {
        let counter = |counter: &str| format!("sources/{name}/{counter}");
        wanted.push((counter("packets"), sent - carried.lost(leg)));
        wanted.push((counter("packets-lost"), carried.lost(leg)));
        wanted.extend([(counter("leg/late"), 0), (counter("leg/different"), 0)]);
    }
    daemon.wait_for_flow("flow", &format!("{wanted:?}"), |flow| {
        wanted.iter().all(|(counter, wanted)| count(flow, counter) == *wanted)
    });
}

/// A sender's stream over two legs, one of which is behind.
fn merges(losses: [Loss; 2], send: impl FnOnce(u16)) -> Carried {
    let [middle, a, b, output] = [free_port(), free_port(), free_port(), free_port()];
    let out = Recorder::bind(v4(output));
    let daemon = Daemon::with_flow(&merge([a, b], output, "header = 'passthrough'"));
    let [loss_a, loss_b] = losses;
    let network = fork(middle, [leg(a, loss_a), leg(b, loss_b).delayed(SKEW)]);
    send(middle);
    let carried = network.stop().swap_remove(0);
    assert_merged(&daemon, &out, &carried);
    carried
}

fn lost_on_both(carried: &Carried) -> usize {
    carried.datagrams.len() - survivors(carried).len()
}

#[test]
fn exactly_what_both_legs_lost_is_lost() {
    let carried = merges([percent(10, 1), percent(10, 2)], |to| {
        send(to);
    });
    assert!(lost_on_both(&carried) > 5 && carried.lost(0) > 100 && carried.lost(1) > 100);
}

#[test]
fn bursts_of_300_are_lost_where_they_meet() {
    let carried = merges([bursts(300, 500, 3), bursts(300, 450, 4)], |to| {
        send(to);
    });
    assert!(lost_on_both(&carried) > 50 && carried.lost(0) > 300 && carried.lost(1) > 300);
}

#[test]
fn losses_that_never_meet_are_no_losses() {
    // By turns each leg carries 100 packets that the other may lose.
    let [mut even, mut odd] = [percent(50, 5), percent(50, 6)];
    let even: Loss = Box::new(move |n| even(n) && n / 100 % 2 == 0);
    let odd: Loss = Box::new(move |n| odd(n) && n / 100 % 2 == 1);
    let carried = merges([even, odd], |to| {
        send(to);
    });
    assert_eq!(lost_on_both(&carried), 0);
    assert!(carried.lost(0) > 300 && carried.lost(1) > 300);
}

#[test]
fn cutting_a_leg_loses_nothing() {
    // The leading leg, then the one behind.
    for cut in [0, 1] {
        let [middle, a, b, output] = [free_port(), free_port(), free_port(), free_port()];
        let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
        let daemon = Daemon::with_flow(&merge([a, b], output, ""));
        let loss = |leg| -> Loss { if leg == cut { Box::new(|n| n >= 800) } else { nothing() } };
        let network = fork(middle, [Path::to(v4(a), loss(0)), Path::to(v4(b), loss(1)).delayed(SKEW)]);
        let sent = send(middle);
        sink.assert_all(sent);
        assert_eq!(network.stop()[0].lost(cut), sent / 7 - 800);
        assert_eq!(count(&daemon.flow("flow"), "merge/packets-unrecovered"), 0);
    }
}

#[test]
fn a_leg_comes_and_another_goes_and_nothing_is_lost() {
    let [middle, a, b, output_port] = [free_port(), free_port(), free_port(), free_port()];
    let sink = Sink::bind(Wire::Rtp, v4(output_port), STREAM);
    let out = output("rtp", output_port, "");
    let daemon = Daemon::with_flow(&format!("{}{MERGE}{out}", source("a", a)));
    let network = fork(middle, [Path::to(v4(a), nothing()), Path::to(v4(b), nothing()).delayed(SKEW)]);
    let feed = Feed::new(Wire::Rtp, v4(middle), STREAM).start();
    sink.wait_for_media();
    let both = format!("{}{}{MERGE}{out}", source("a", a), source("b", b));
    for (legs, text) in [
        (2, both.clone()),
        (1, format!("{}{MERGE}{out}", source("b", b))),
        (2, both),
        (1, format!("{}{MERGE}{out}", source("a", a))),
    ] {
        daemon.write_flow("flow", &text);
        daemon.ctl_ok(&["reload"]);
        daemon.wait_for_flow("flow", "the legs take part", |flow| count(flow, "merge/active-legs") == legs);
        let before = sink.received().verdict.ok;
        wait_for("it goes on", || (sink.received().verdict.ok > before + 2000).then_some(()));
    }
    sink.assert_all(feed.stop());
    network.stop();
    assert_eq!(count(&daemon.flow("flow"), "merge/packets-unrecovered"), 0);
}

#[test]
fn both_legs_of_an_output_are_merged_by_another_daemon() {
    let [input, first, second, a, b, output] = std::array::from_fn(|_| free_port());
    let out = Recorder::bind(v4(output));
    let sender = Daemon::with_flow(&format!(
        "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'rtp'\nlegs = [{{ destination = '127.0.0.1:{first}' }}, \
         {{ destination = '127.0.0.1:{second}' }}]\n"
    ));
    let receiver = Daemon::with_flow(&merge([a, b], output, "header = 'passthrough'"));
    let network = Network::start([
        (v4(first), vec![leg(a, percent(10, 7))]),
        (v4(second), vec![leg(b, percent(10, 8)).delayed(SKEW)]),
    ]);
    let sent = Feed::new(Wire::Udp, v4(input), STREAM).send_for(STREAM.length(DATAGRAMS)) / 7;
    sender.wait_for_flow("flow", "all is sent", |flow| count(flow, "outputs/out/packets") == sent);
    let [first, second] = network.stop().try_into().unwrap();
    assert!(first.datagrams == second.datagrams, "both legs carry the same packets");
    assert_eq!(first.datagrams.len() as u64, sent);
    let carried = Carried { datagrams: first.datagrams, passed: [first.passed, second.passed].concat() };
    assert!(lost_on_both(&carried) > 5);
    assert_merged(&receiver, &out, &carried);
}

#[test]
fn two_appliances_that_pass_through_are_legs_of_one_stream() {
    let [middle, first, second, a, b, output_port] = std::array::from_fn(|_| free_port());
    let appliance = |input, to| {
        Daemon::with_flow(&format!("{}{}", source("main", input), output("rtp", to, "header = 'passthrough'")))
    };
    let [after_first, after_second]: [u16; 2] = std::array::from_fn(|_| free_port());
    let _appliances = [appliance(first, after_first), appliance(second, after_second)];
    let out = Recorder::bind(v4(output_port));
    let receiver = Daemon::with_flow(&merge([a, b], output_port, "header = 'passthrough'"));
    let behind = Network::start([
        (v4(after_first), vec![leg(a, percent(10, 9))]),
        (v4(after_second), vec![leg(b, percent(10, 10)).delayed(SKEW)]),
    ]);
    let before = fork(middle, [Path::to(v4(first), nothing()), Path::to(v4(second), nothing())]);
    send(middle);
    out.wait_for(before.stop()[0].datagrams.last().unwrap());
    let [first, second] = behind.stop().try_into().unwrap();
    assert!(first.datagrams == second.datagrams, "both appliances send the same packets");
    let carried = Carried { datagrams: first.datagrams, passed: [first.passed, second.passed].concat() };
    assert_eq!(carried.datagrams.len(), DATAGRAMS);
    assert_merged(&receiver, &out, &carried);
}

#[test]
fn ffmpegs_stream_is_merged() {
    let carried = merges([percent(10, 11), percent(10, 12)], |to| {
        let mut ffmpeg = command("ffmpeg");
        ffmpeg
            .args("-hide_banner -loglevel error -nostdin -re -f lavfi -i testsrc=size=320x180:rate=50".split(' '))
            .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -b:v 500k -t 6".split(' '))
            .args("-f rtp_mpegts -mpegts_muxer_options muxrate=5M".split(' '))
            .arg(format!("rtp://127.0.0.1:{to}?pkt_size=1328"));
        assert!(Peer::start(&mut ffmpeg).wait(Duration::from_secs(60)).success());
    });
    assert!(lost_on_both(&carried) > 5 && carried.datagrams.len() > 2000);
}

#[test]
fn multicats_stream_is_merged() {
    let dir = TempDir::with_prefix("mediaconnect-media-").unwrap();
    let file = dir.path().join("media.ts");
    fs::write(&file, STREAM.datagrams(DATAGRAMS)).unwrap();
    assert!(command("ingests").args(["-p", "256"]).arg(&file).status().unwrap().success());
    let carried = merges([percent(10, 13), percent(10, 14)], |to| {
        let mut sender = Peer::start(command("multicat").args(["-p", "256"]).arg(&file).arg(format!("127.0.0.1:{to}")));
        assert!(sender.wait(Duration::from_secs(60)).success());
    });
    assert!(lost_on_both(&carried) > 5);
    let sent: Vec<u8> = carried.datagrams.iter().flat_map(|rtp| &rtp[12..]).copied().collect();
    assert!(sent == STREAM.datagrams(DATAGRAMS), "what was sent is the file");
}
