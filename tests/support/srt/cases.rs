//! What is tried beside the matrix, each between a program and any peer. Most of it needs no daemon, so that it can be
//! tried among peers.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::ends::{Receiver, Sender};
use super::link::Link;
use super::matrix::RATE;
use super::packet::{Key, Kind, Nat, Weather};
use super::{Options, Place, Program};
use crate::support::daemon::Daemon;
use crate::support::media::SEVEN;
use crate::support::nat::Way;
use crate::support::ports::free_port;
use crate::support::sample::stream;
use crate::support::wait_for;

/// A little of the stream, for what is about connections.
pub fn excerpt() -> &'static [u8] {
    &stream()[..400 * SEVEN]
}

/// The stream ID goes over the wire as it was given.
#[track_caller]
pub fn calls_by(link: Link, stream_id: &str) {
    let named = Options::new().stream_id(stream_id);
    // A peer that listens takes every stream ID; the daemon only the one it is told.
    let (mut sending, nat, receiving) = link.through(Weather::default(), &named, &named);
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    let called = nat.report(Way::Forth).stream_ids();
    assert!(!called.is_empty() && called.iter().all(|id| id == stream_id), "{called:?}");
}

/// A stream ID of the greatest length that a program takes, every byte of it different from its neighbours.
pub fn longest_stream_id(program: Program) -> String {
    // The new ffmpeg has no room for the last one.
    let length = if program == Program::NewFfmpeg { 511 } else { 512 };
    ('a'..='z').chain('0'..='9').cycle().take(length).collect()
}

/// A caller with this passphrase is refused by a listener with that one: with this number on the wire, and both say so.
#[track_caller]
pub fn is_refused(link: Link, caller: Option<&str>, listener: Option<&str>, code: u32) {
    let options = |passphrase: Option<&str>| passphrase.map_or_else(Options::new, |p| Options::new().encrypted(p, 16));
    let [sender, receiver] = if link.way() == Way::Forth { [caller, listener] } else { [listener, caller] };
    let (sending, nat, receiving) = link.through(Weather::default(), &options(sender), &options(receiver));
    let rejects =
        wait_for("it is refused", || Some(nat.report(Way::Back).rejects()).filter(|rejects| !rejects.is_empty()));
    assert!(rejects.iter().all(|reject| *reject == code), "{rejects:?}");
    let why = if code == 1010 { "Incorrect passphrase" } else { "Password required or unexpected" };
    if link.sender != Program::Mediaconnect {
        sending.wait_for_log(why);
    }
    if link.receiver != Program::Mediaconnect {
        receiving.wait_for_log(why);
    }
    assert_eq!(receiving.length(), 0);
    assert_eq!(nat.report(Way::Forth).count(Kind::Data), 0);
    explains(sending.daemon(), "passphrase");
    explains(receiving.daemon(), "passphrase");
}

/// Packets that are sent with one key. libsrt 1.5.1 looks at its keys when it is acknowledged: if it is not for all of a
/// period it sends nothing any more, and if it is not for all of the time between announcement and change it stays with
/// its old keys. So both are longer than a busy machine keeps programs waiting.
pub const KEY_PERIOD: u32 = 1000;

/// The sender's key changes at least three times, and nothing is lost by it.
#[track_caller]
pub fn changes_its_key(link: Link, sender: &Options, receiver: &Options) {
    let (mut sending, nat, receiving) = link.through(Weather::default(), sender, receiver);
    let stream = &stream()[..4 * KEY_PERIOD as usize * SEVEN];
    let _feeding = sending.feed(stream, RATE);
    receiving.assert_received(stream);
    let report = nat.report(link.way());
    assert!(report.count(Kind::KeyRequest) >= 3, "{:?}", report.came);
    assert!(report.keys.len() > 3 && !report.keys.contains(&Key::None), "{:?}", report.keys);
}

/// Both ends call each other, as often as asked for; cookies decide who begins, and differ each time.
#[track_caller]
pub fn meets(sender: Program, receiver: Program, options: &Options) {
    let [a, b] = Place::rendezvous(free_port());
    let mut sending = Sender::start(sender, a, options);
    let receiving = Receiver::start(receiver, b, options);
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
}

/// Nothing is sent for six seconds; the connection stays, and what is sent then arrives.
#[track_caller]
pub fn outlasts_silence(link: Link) {
    let (mut sending, nat, receiving) = link.through(Weather::default(), &Options::new(), &Options::new());
    let feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    sending.stopped(feeding);
    // The handshake may have taken more than one try.
    let calls = || nat.report(Way::Forth).count(Kind::Conclusion);
    let called = calls();
    std::thread::sleep(Duration::from_secs(6));
    let before = receiving.received().len() / SEVEN * SEVEN;
    let _feeding = sending.feed(excerpt(), RATE);
    wait_for("all of it comes", || contains(&receiving.received()[before..], excerpt()).then_some(()));
    assert_eq!(calls(), called, "it is the same connection");
    assert_eq!(nat.reports().map(|report| report.count(Kind::Shutdown)), [0, 0]);
}

/// Whether `part` is in there, at the beginning of a datagram.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    (0..whole.len() / SEVEN).any(|n| whole[n * SEVEN..].starts_with(part))
}

/// The sender ends while the receiver still holds back what it sent: that arrives all the same. libsrt's own programs
/// throw it away when they receive, so this is for the daemon.
#[track_caller]
pub fn delivers_what_is_buffered_at_the_end(link: Link) {
    let receiving = ends_with_all_sent(link);
    assert!(receiving.length() < excerpt().len() as u64 / 2, "it is held back");
    receiving.assert_received(excerpt());
}

/// The sender has sent all, and said that it ends, when this returns; the receiver has had no time to pass it on.
#[track_caller]
pub fn ends_with_all_sent(link: Link) -> Receiver {
    let options = Options::new().latency(2000);
    let (mut sending, nat, receiving) = link.through(Weather::default(), &options, &options);
    let all = sending.primed() + excerpt().len() as u64 / SEVEN as u64;
    let feeding = sending.feed_alone(excerpt(), RATE);
    let way = link.way();
    wait_for("all is under way", || (nat.report(way).count(Kind::Data) >= all).then_some(()));
    sending.stopped(feeding);
    sending.finish();
    wait_for("its end is told", || (nat.report(way).count(Kind::Shutdown) > 0).then_some(()));
    receiving
}

/// The sender is killed, without a word, and after some silence another one comes in its place.
#[track_caller]
pub fn takes_the_next_sender(us: Program, peer: Program, silence: Duration) {
    let port = free_port();
    let receiving = Receiver::start(us, Place::Listener(port), &Options::new().again());
    let mut before = 0;
    for _ in 0..2 {
        let mut sending = Sender::start(peer, Place::Caller(port), &Options::new());
        let _feeding = sending.feed(excerpt(), RATE);
        wait_for("all of it comes", || contains(&receiving.received()[before..], excerpt()).then_some(()));
        drop(sending);
        std::thread::sleep(silence);
        before = receiving.received().len() / SEVEN * SEVEN;
    }
}

/// The receiver that was called is killed and started anew: it is called again.
#[track_caller]
pub fn calls_again_to_send(us: Program, peer: Program) {
    let port = free_port();
    let receiving = Receiver::start(peer, Place::Listener(port), &Options::new());
    let mut sending = Sender::start(us, Place::Caller(port), &Options::new().again());
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    drop(receiving);
    let receiving = Receiver::start(peer, Place::Listener(port), &Options::new());
    // Stuffing is still being sent.
    wait_for("it is called again", || (receiving.length() > 8192).then_some(()));
}

/// The sender that was called is killed and started anew: it is called again.
#[track_caller]
pub fn calls_again_to_receive(us: Program, peer: Program) {
    let port = free_port();
    let mut sending = Sender::start(peer, Place::Listener(port), &Options::new());
    let receiving = Receiver::start(us, Place::Caller(port), &Options::new().again());
    let mut before = 0;
    for _ in 0..2 {
        let feeding = sending.feed(excerpt(), RATE);
        wait_for("all of it comes", || contains(&receiving.received()[before..], excerpt()).then_some(()));
        drop((feeding, sending));
        before = receiving.received().len() / SEVEN * SEVEN;
        sending = Sender::start(peer, Place::Listener(port), &Options::new());
    }
}

/// A handshake is lost, in one direction and one of its halves, once or twice: it is made all the same. The listener has
/// to answer again when it has accepted: of the peers only GStreamer still listens then.
#[track_caller]
pub fn connects_without(link: Link, way: Way, kind: Kind, times: u64) {
    let weather = Weather::default().without(way, kind, 0..times);
    let (mut sending, nat, receiving) = link.through(weather, &Options::new(), &Options::new());
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    let report = nat.report(way);
    assert!(report.lost(kind) == times && report.count(kind) > times, "{:?}", report.came);
}

/// All handshakes that can be lost.
pub fn handshakes() -> impl Iterator<Item = (Way, Kind, u64)> {
    let ways = [Way::Forth, Way::Back].into_iter();
    let halves = ways.flat_map(|way| [Kind::Induction, Kind::Conclusion].map(|kind| (way, kind)));
    halves.flat_map(|(way, kind)| [1, 2].map(|times| (way, kind, times)))
}

/// The latency in force, in milliseconds, for what `srt-live-transmit` receives or would receive, as it says. It is
/// `peer`, the other end is `options`.
#[track_caller]
pub fn latency_in_force(link: Link, us: &Options, peer: &Options) -> u64 {
    let dir = TempDir::with_prefix("mediaconnect-figures-").expect("a temporary directory");
    let file = dir.path().join("figures");
    let peer = peer.clone().statistics(&file);
    let peer_sends = link.sender == Program::LiveTransmit;
    let [sender, receiver] = if peer_sends { [&peer, us] } else { [us, &peer] };
    let (mut sending, receiving) = link.start(sender, receiver);
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    wait_for("there are figures", || {
        let text = fs::read_to_string(&file).ok()?;
        let figures: Value = serde_json::from_str(text.lines().next()?).ok()?;
        figures["recv"]["msTsbPdDelay"].as_u64()
    })
}

/// A caller with the wrong stream ID is refused, and both ends say so.
#[track_caller]
pub fn is_refused_by_stream_id(us: Program, peer: Program) {
    let [called, port] = [free_port(), free_port()];
    let nat = Nat::start(called, port, Weather::default());
    let receiving = Receiver::start(us, Place::Listener(port), &Options::new().stream_id("live/venue-a"));
    let sending = Sender::start(peer, Place::Caller(called), &Options::new().stream_id("live/venue-b"));
    wait_for("it is refused", || (!nat.report(Way::Back).rejects().is_empty()).then_some(()));
    sending.wait_for_log("REJECT reported from HS");
    assert_eq!(receiving.length(), 0);
    explains(receiving.daemon(), "stream id");
}

/// While one sends, a second one is refused, and the first one does not notice.
#[track_caller]
pub fn second_sender_is_refused(us: Program, peer: Program) {
    let [called, port] = [free_port(), free_port()];
    let receiving = Receiver::start(us, Place::Listener(port), &Options::new());
    let mut first = Sender::start(Program::LiveTransmit, Place::Caller(port), &Options::new());
    let _feeding = first.feed(&stream()[..2000 * SEVEN], RATE);
    wait_for("it receives", || (receiving.length() > 0).then_some(()));
    let nat = Nat::start(called, port, Weather::default());
    let second = Sender::start(peer, Place::Caller(called), &Options::new());
    second.wait_for_log("REJECT reported from HS");
    receiving.assert_received(&stream()[..2000 * SEVEN]);
    assert_eq!(nat.report(Way::Forth).count(Kind::Data), 0);
}

/// As many receivers as may call are served, and one more is refused until there is room.
#[track_caller]
pub fn only_so_many_receivers_are_served(us: Program, peer: Program) {
    let port = free_port();
    let mut sending = Sender::start(us, Place::Listener(port), &Options::new().keys("max-callers = 2"));
    let mut receiving = [(); 2].map(|()| Receiver::start(Program::LiveTransmit, Place::Caller(port), &Options::new()));
    // They say nothing before there is data.
    let served = |flow: &Value| flow["outputs"]["out"]["peers"].as_array().map_or(0, Vec::len);
    if let Some(daemon) = sending.daemon() {
        daemon.wait_for_flow("flow", "both are served", |flow| served(flow) == 2);
    }
    let third = Receiver::start(peer, Place::Caller(port), &Options::new());
    third.wait_for_log("REJECT reported from HS");
    let _feeding = sending.feed(excerpt(), RATE);
    for receiver in &receiving {
        receiver.assert_received(excerpt());
    }
    receiving[0].interrupt();
    drop(third);
    if let Some(daemon) = sending.daemon() {
        daemon.wait_for_flow("flow", "there is room", |flow| served(flow) == 1);
    }
    let next = Receiver::start(peer, Place::Caller(port), &Options::new());
    wait_for("the next one is served", || (next.length() > 8192).then_some(()));
}

/// `mediaconnectctl explain` has these words in it, if it is the daemon.
#[track_caller]
pub fn explains(daemon: Option<&Daemon>, words: &str) {
    let Some(daemon) = daemon else { return };
    wait_for(&format!("the daemon explains: {words}"), || {
        let said = daemon.ctl(&["explain", "flow"]).stdout;
        String::from_utf8_lossy(&said).to_lowercase().contains(words).then_some(())
    });
}
