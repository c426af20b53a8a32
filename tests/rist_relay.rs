//! RIST from flow to flow: through networks that lose, with and without a passphrase, by one way or two, merged with
//! another protocol, and changed while it runs.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use support::daemon::{Daemon, Setup, condition, count};
use support::media::{Feed, Sink, Stream, Wire, receiving_socket, v4};
use support::paths::{Loss, nothing, only, percent};
use support::ports::free_port;

const STREAM: Stream = Stream::at(5_000_000);
/// Datagrams of a test stream: 5.3 s of it.
const DATAGRAMS: usize = 2500;
/// Losses leave the first packets alone, before which there is no gap, and the last ones, after which nothing shows it.
const LOSSY: std::ops::Range<u64> = 100..2400;
const PASSPHRASE: &str = "correct horse battery staple";

/// A way there and back: whoever sends to `listen` is passed on, and what comes back goes to where that came from.
struct Way {
    stop: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Way {
    /// `loss`: of what goes there.
    fn start(listen: u16, to: u16, loss: Loss) -> Self {
        Self::forked(listen, to, loss, None)
    }

    /// The same; and what is sent for the first time goes on as plain RTP too, where it gets lost on its own.
    fn forked(listen: u16, to: u16, mut loss: Loss, mut fork: Option<(u16, Loss)>) -> Self {
        let (front, back) = (Arc::new(receiving_socket(v4(listen))), Arc::new(receiving_socket(v4(0))));
        let (stop, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = Arc::new(AtomicU64::new(0));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket option");
        }
        let there = {
            let (stop, dropped, caller) = (stop.clone(), dropped.clone(), caller.clone());
            let (front, back) = (front.clone(), back.clone());
            let mut number = 0;
            std::thread::spawn(move || {
                carry(&front, &stop, |datagram, from| {
                    caller.store(from.port().into(), Ordering::Relaxed);
                    let lost = loss(number);
                    number += 1;
                    dropped.fetch_add(lost.into(), Ordering::Relaxed);
                    // Where nobody listens, it is lost too.
                    let _ = (!lost).then(|| back.send_to(datagram, v4(to)));
                    if let Some((rtp, loss)) = &mut fork
                        && datagram.get(11).is_some_and(|ssrc| ssrc & 1 == 0)
                        && !loss(number)
                    {
                        let _ = back.send_to(datagram, v4(*rtp));
                    }
                });
            })
        };
        let again = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                carry(&back, &stop, |datagram, _| {
                    let port = caller.load(Ordering::Relaxed) as u16;
                    let _ = (port != 0).then(|| front.send_to(datagram, v4(port)));
                });
            })
        };
        Self { stop, dropped, threads: vec![there, again] }
    }

    /// How many it dropped.
    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a way does not panic"));
    }
}

fn carry(socket: &UdpSocket, stop: &AtomicBool, mut take: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            take(&buffer[..length], from);
        }
    }
}

/// Ways for media and for RTCP.
fn simple(listen: u16, to: u16, loss: Loss) -> [Way; 2] {
    [Way::start(listen, to, loss), Way::start(listen + 1, to + 1, nothing())]
}

fn udp_in(port: u16) -> String {
    format!("[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{port}'\n")
}

fn udp_out(port: u16) -> String {
    format!("[outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{port}'\n")
}

fn rist_in(port: u16, keys: &str) -> String {
    format!("[sources.main]\nprotocol = 'rist'\nbind = '127.0.0.1:{port}'\nlatency = '1s'\n{keys}\n")
}

fn rist_out(port: u16, keys: &str) -> String {
    format!("[outputs.out]\nprotocol = 'rist'\ndestination = '127.0.0.1:{port}'\nlatency = '1s'\n{keys}\n")
}

/// A flow that sends by RIST and one that receives by RIST. Returns when both know each other.
#[track_caller]
fn relay(setup: Setup<'_>, [sends, receives]: [String; 2]) -> Daemon {
    let daemon = setup.flow("sends", &sends).flow("receives", &receives).start();
    daemon
        .wait_for_flow("receives", "the sender is known", |flow| flow["sources"]["main"]["round-trip-ms"].is_number());
    daemon.wait_for_flow("sends", "the receiver is known", |flow| {
        flow["outputs"]["out"]["rist"]["legs"]
            .as_array()
            .is_some_and(|legs| !legs.is_empty() && legs.iter().all(|leg| leg["rtt-ms"].is_number()))
    });
    daemon
}

fn send(port: u16) -> u64 {
    Feed::new(Wire::Udp, v4(port), STREAM).send_for(STREAM.length(DATAGRAMS))
}

fn counts(daemon: &Daemon, path: &str) -> u64 {
    count(&daemon.flow("receives"), path)
}

#[test]
fn what_the_network_loses_comes_again_in_the_simple_profile() {
    let [input, listen, bind, output] = [free_port(), free_port(), free_port(), free_port()];
    let ways = simple(listen, bind, only(LOSSY, percent(10, 1)));
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let flows = [udp_in(input) + &rist_out(listen, ""), rist_in(bind, "") + &udp_out(output)];
    let daemon = relay(Setup::new(), flows);
    sink.assert_all(send(input));
    assert!(ways[0].dropped() > 150, "{} dropped", ways[0].dropped());
    let recovered = counts(&daemon, "sources/main/packets-recovered");
    assert!(recovered > 100, "{recovered} recovered");
    assert_eq!(counts(&daemon, "sources/main/packets-unrecovered"), 0);
    let sends = daemon.flow("sends");
    assert!(
        count(&sends, "outputs/out/packets-retransmitted") >= recovered
            && count(&sends, "outputs/out/arq-requests") > 0
    );
    assert!(daemon.ctl_ok(&["status", "receives"]).contains("simple profile"));
    // Its source is lost by now.
    assert!(!sends["conditions"].to_string().contains("output out"), "{sends:#}");
}

#[test]
fn what_the_network_loses_comes_again_through_an_encrypted_tunnel() {
    let [input, listen, bind, output] = [free_port(), free_port(), free_port(), free_port()];
    for (seed, length) in [(2, 16), (3, 32)] {
        let way = Way::start(listen, bind, only(LOSSY, percent(10, seed)));
        let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
        let keys = format!("profile = 'main'\npassphrase-file = 'key'\nkey-length = {length}");
        let flows = [udp_in(input) + &rist_out(listen, &keys), rist_in(bind, &keys) + &udp_out(output)];
        let daemon = relay(Setup::new().secret("key", PASSPHRASE), flows);
        sink.assert_all(send(input));
        assert!(way.dropped() > 150 && counts(&daemon, "sources/main/packets-recovered") > 100);
        assert_eq!(counts(&daemon, "sources/main/packets-unrecovered"), 0);
        let cipher = format!("AES-{}", length * 8);
        assert_eq!(daemon.flow("receives")["sources"]["main"]["rist"]["cipher"], cipher.as_str());
    }
}

#[test]
fn two_ways_that_lose_half_lose_nothing_together() {
    let [input, bind, output] = [free_port(), free_port(), free_port()];
    let [a, b] = [free_port(), free_port()];
    let ways = [simple(a, bind, only(LOSSY, percent(30, 4))), simple(b, bind, only(LOSSY, percent(30, 5)))];
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let legs = format!("legs = [{{ destination = '127.0.0.1:{a}' }}, {{ destination = '127.0.0.1:{b}' }}]");
    let sends = format!("{}[outputs.out]\nprotocol = 'rist'\nlatency = '1s'\n{legs}\n", udp_in(input));
    let daemon = relay(Setup::new(), [sends, rist_in(bind, "") + &udp_out(output)]);
    sink.assert_all(send(input));
    assert!(ways.iter().all(|ways| ways[0].dropped() > 400));
    let receives = daemon.flow("receives");
    assert!(count(&receives, "sources/main/packets-duplicate") > 1000, "most came twice");
    assert!(count(&receives, "sources/main/packets-recovered") > 50, "and some not at all");
    assert_eq!(count(&receives, "sources/main/rist/senders"), 2);
}

#[test]
fn a_merge_asks_only_for_what_no_leg_has_brought() {
    let [input, listen, bind, rtp, output] = [free_port(), free_port(), free_port(), free_port(), free_port()];
    // Both legs lose a third.
    let fork = Some((rtp, only(LOSSY, percent(30, 7))));
    let _media = Way::forked(listen, bind, only(LOSSY, percent(30, 6)), fork);
    let _control = Way::start(listen + 1, bind + 1, nothing());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let rtp_source = format!("[sources.rtp]\nprotocol = 'rtp'\nbind = '127.0.0.1:{rtp}'\n");
    let merge = "[failover]\nmode = 'merge'\nrecovery-window = '1s'\n";
    let receives = rist_in(bind, "") + &rtp_source + merge + &udp_out(output);
    let daemon = relay(Setup::new(), [udp_in(input) + &rist_out(listen, ""), receives]);
    sink.assert_all(send(input));
    let flow = daemon.flow("receives");
    assert_eq!(count(&flow, "merge/packets-unrecovered"), 0);
    let (elsewhere, asked) =
        (count(&flow, "sources/main/rist/packets-elsewhere"), count(&flow, "sources/main/arq-recovered"));
    assert!(elsewhere > 300 && asked > 50 && asked < elsewhere, "{elsewhere} elsewhere, {asked} asked for");
}

#[test]
fn latency_and_passphrases_change_without_a_lost_packet() {
    let [input, listen, port, output] = [free_port(), free_port(), free_port(), free_port()];
    let _way = Way::start(listen, port, nothing());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let flows = |latency: &str, sends: &str, receives: &str| {
        let keys = |keys: &str| format!("profile = 'main'\n{keys}");
        let (out, source) = (rist_out(listen, &keys(sends)), rist_in(port, &keys(receives)));
        let latencies = |text: String| text.replace("'1s'", &format!("'{latency}'"));
        [udp_in(input) + &latencies(out), latencies(source) + &udp_out(output)]
    };
    let (old, new, both) = ("passphrase-file = 'old'", "passphrase-file = 'new'", "passphrase-files = ['new', 'old']");
    let setup = Setup::new().secret("old", PASSPHRASE).secret("new", "another horse, another battery");
    let daemon = relay(setup, flows("1s", old, old));
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    sink.wait_for_media();
    for (latency, sends, receives) in [("500ms", old, old), ("1s", old, both), ("1s", new, both), ("2s", new, new)] {
        let before = sink.received().datagrams;
        let [sends, receives] = flows(latency, sends, receives);
        daemon.write_flow("sends", &sends);
        daemon.write_flow("receives", &receives);
        let reload = daemon.ctl_ok(&["reload"]);
        assert!(!reload.contains("reopen"), "{reload}");
        support::wait_for("media goes on", || (sink.received().datagrams > before + 300).then_some(()));
    }
    sink.assert_all(feed.stop());
    assert_eq!(counts(&daemon, "sources/main/packets-unrecovered"), 0);
}

#[test]
fn another_passphrase_or_profile_is_told_and_what_to_do_about_it() {
    let [input, listen, port, output] = [free_port(), free_port(), free_port(), free_port()];
    let _way = Way::start(listen, port, nothing());
    let _sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let main = |name: &str| format!("profile = 'main'\npassphrase-file = '{name}'");
    let cases = [
        (main("old"), main("new"), "rist-wrong-passphrase"),
        ("profile = 'main'".to_owned(), main("new"), "rist-in-clear"),
        (main("old"), "profile = 'main'".to_owned(), "rist-encrypted"),
        ("profile = 'simple'".to_owned(), "profile = 'main'".to_owned(), "rist-other-profile"),
    ];
    let setup = Setup::new().secret("old", PASSPHRASE).secret("new", "another horse, another battery");
    let flows = |(sends, receives): (&str, &str)| {
        [udp_in(input) + &rist_out(listen, sends), rist_in(port, receives) + &udp_out(output)]
    };
    let [sends, receives] = flows((&cases[0].0, &cases[0].1));
    let daemon = setup.flow("sends", &sends).flow("receives", &receives).start();
    let _feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    for (sends, receives, code) in &cases {
        let [sends, receives] = flows((sends, receives));
        daemon.write_flow("sends", &sends);
        daemon.write_flow("receives", &receives);
        daemon.ctl_ok(&["reload"]);
        daemon.wait_for_condition("receives", code);
    }
    // And when they agree it is over.
    let [sends, receives] = flows((&main("new"), &main("new")));
    daemon.write_flow("sends", &sends);
    daemon.write_flow("receives", &receives);
    daemon.ctl_ok(&["reload"]);
    daemon.wait_for_flow("receives", "nothing is wrong", |flow| {
        flow["sources"]["main"]["state"] == "receiving" && flow["conditions"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn what_was_wrong_before_the_right_passphrase_came_is_no_reason_for_silence_after_it() {
    let [input, listen, port, output] = [free_port(), free_port(), free_port(), free_port()];
    let _way = Way::start(listen, port, nothing());
    let _sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let main = |name: &str| format!("profile = 'main'\npassphrase-file = '{name}'");
    let sends = |name: &str| udp_in(input) + &rist_out(listen, &main(name));
    let setup = Setup::new().secret("old", PASSPHRASE).secret("new", "another horse, another battery");
    let setup = setup.flow("sends", &sends("old")).flow("receives", &(rist_in(port, &main("new")) + &udp_out(output)));
    let daemon = setup.start();
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    daemon.wait_for_condition("receives", "rist-wrong-passphrase");
    daemon.write_flow("sends", &sends("new"));
    daemon.ctl_ok(&["reload"]);
    daemon.wait_for_flow("receives", "nothing is wrong", |flow| {
        flow["sources"]["main"]["state"] == "receiving" && flow["conditions"].as_array().is_some_and(Vec::is_empty)
    });
    feed.stop();
    let flow = daemon.wait_for_flow("receives", "it is lost", |flow| flow["sources"]["main"]["state"] == "lost");
    let said = flow["conditions"].to_string();
    assert!(said.contains("source-lost") && !said.contains("rist-"), "{said}");
}

#[test]
fn a_passphrase_that_changes_at_the_sender_alone_is_told_though_media_was_read_before() {
    let [input, listen, port, output] = [free_port(), free_port(), free_port(), free_port()];
    let _way = Way::start(listen, port, nothing());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let main = |name: &str| format!("profile = 'main'\npassphrase-file = '{name}'");
    let sends = |name: &str| udp_in(input) + &rist_out(listen, &main(name));
    let setup = Setup::new().secret("old", PASSPHRASE).secret("new", "another horse, another battery");
    let daemon = relay(setup, [sends("old"), rist_in(port, &main("old")) + &udp_out(output)]);
    let _feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    sink.wait_for_media();
    daemon.write_flow("sends", &sends("new"));
    daemon.ctl_ok(&["reload"]);
    // Of what comes all the time only a little is tried; all of it could not be read.
    let flow = daemon.wait_for_flow("receives", "it is lost, and hundreds of packets could not be read", |flow| {
        let message = condition(flow, "rist-wrong-passphrase").and_then(|condition| condition["message"].as_str());
        let words = message.and_then(|message| message.strip_prefix("source main: ")?.split(' ').next());
        let packets = words.and_then(|packets| packets.parse::<u64>().ok());
        flow["sources"]["main"]["state"] == "lost" && packets.is_some_and(|packets| packets > 500)
    });
    assert!(condition(&flow, "source-lost").is_none(), "it is known why: {flow:#}");
}
