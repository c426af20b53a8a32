//! What is tried beside the matrix, each between a program and any peer. Most of it needs no daemon, so that it can be
//! tried among peers.

use std::time::Duration;

use super::ends::{Receiver, Sender};
use super::link::Link;
use super::matrix::RATE;
use super::media::stream;
use super::nat::{Nat, Way, Weather};
use super::packet::{Key, Kind};
use super::{Options, Place, Program};
use crate::support::media::SEVEN;
use crate::support::ports::free_port;
use crate::support::wait_for;

/// A little of the stream, for what is about connections.
pub fn excerpt() -> &'static [u8] {
    &stream()[..400 * SEVEN]
}

/// A stream arrives over a link, and its stream ID and the handshake's outcome are seen on the wire.
#[track_caller]
pub fn carries(link: Link, sender: &Options, receiver: &Options) -> Nat {
    let (mut sending, nat, receiving) = link.through(Weather::default(), sender, receiver);
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    nat
}

/// The stream ID goes over the wire as it was given.
#[track_caller]
pub fn calls_by(link: Link, stream_id: &str) {
    let named = Options::new().stream_id(stream_id);
    // A peer that listens takes every stream ID; the daemon only the one it is told.
    let nat = carries(link, &named, &named);
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
    let [sender, receiver] = if link.calls() == link.sender { [caller, listener] } else { [listener, caller] };
    let (sending, nat, receiving) = link.through(Weather::default(), &options(sender), &options(receiver));
    let rejects = wait_for("it is refused", || {
        Some(nat.report(Way::Back).rejects()).filter(|rejects| !rejects.is_empty())
    });
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
    for daemon in [sending.daemon(), receiving.daemon()].into_iter().flatten() {
        wait_for("the daemon explains", || {
            let output = daemon.ctl(&["explain", "flow"]);
            let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
            said.contains("passphrase").then_some(())
        });
    }
}

/// The key changes at least three times, and nothing is lost by it.
#[track_caller]
pub fn changes_its_key(link: Link, sender: &Options, receiver: &Options, way: Way) {
    let (mut sending, nat, receiving) = link.through(Weather::default(), sender, receiver);
    let stream = &stream()[..2000 * SEVEN];
    let _feeding = sending.feed(stream, RATE);
    receiving.assert_received(stream);
    let report = nat.report(way);
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
    std::thread::sleep(Duration::from_secs(6));
    let before = receiving.length();
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.wait_for_length(before + 2 * excerpt().len() as u64 - SEVEN as u64);
    let received = receiving.received();
    assert!(contains(&received[excerpt().len()..], excerpt()), "all of it came again");
    assert_eq!(nat.report(Way::Forth).count(Kind::Conclusion), 1, "it is the same connection");
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
    let options = Options::new().latency(1500);
    let (mut sending, receiving) = link.start(&options, &options);
    let feeding = sending.feed_alone(excerpt(), RATE);
    feeding.wait_until_sent();
    sending.stopped(feeding);
    assert!(receiving.length() < excerpt().len() as u64 / 2, "it is held back");
    sending.interrupt();
    receiving.assert_received(excerpt());
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
pub fn calls_again(us: Program, peer: Program) {
    let port = free_port();
    let mut receiving = Receiver::start(peer, Place::Listener(port), &Options::new().again());
    let mut sending = Sender::start(us, Place::Caller(port), &Options::new().again());
    let _feeding = sending.feed(excerpt(), RATE);
    receiving.assert_received(excerpt());
    drop(receiving);
    receiving = Receiver::start(peer, Place::Listener(port), &Options::new().again());
    // Stuffing is still being sent.
    wait_for("it is called again", || (receiving.length() > 8192).then_some(()));
}

