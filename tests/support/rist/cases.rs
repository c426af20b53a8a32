//! What is tried beside the matrix, each between a program and any peer.

use std::time::Duration;

use super::ends::{Receiver, Sender};
use super::link::Link;
use super::matrix::RATE;
use super::packet::{Kind, Weather};
use super::{Options, Profile, Program};
use crate::support::daemon::Daemon;
use crate::support::media::{SEVEN, v4};
use crate::support::nat::Way;
use crate::support::ports::free_port;
use crate::support::sample::stream;
use crate::support::wait_for;

/// A little of the stream.
pub fn excerpt() -> &'static [u8] {
    &stream()[..400 * SEVEN]
}

/// Whether `part` is in there.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    (0..whole.len() / SEVEN).any(|n| whole[n * SEVEN..].starts_with(part))
}

/// Both ends speak past each other: nothing is received, and whoever is the daemon says why, with these words.
#[track_caller]
pub fn nothing_goes_over(link: Link, sender: &Options, receiver: &Options, words: &[&str]) {
    let (mut sending, nat, receiving) = link.through_both(Weather::default(), sender, receiver);
    let _feeding = sending.feed_nothing(RATE);
    wait_for("something is sent", || (nat.report(Way::Forth).came.values().sum::<u64>() > 20).then_some(()));
    explains(sending.daemon(), words);
    explains(receiving.daemon(), words);
    assert_eq!(receiving.got.length(), 0);
}

/// The sender's key changes at least three times, and nothing is lost by it.
#[track_caller]
pub fn changes_its_key(link: Link, options: &Options) {
    let (mut sending, nat, receiving) = link.through(Weather::default(), options);
    let stream = &stream()[..2000 * SEVEN];
    let _feeding = sending.feed(&receiving, stream, RATE);
    receiving.got.assert_received(stream);
    let report = nat.report(Way::Forth);
    assert!(report.keys.len() > 3, "{:02X?}", report.keys);
    assert_eq!(report.count(Kind::Media), 0, "all of it is encrypted");
}

/// The sender is killed, without a word, and another one comes in its place.
#[track_caller]
pub fn takes_the_next_sender(link: Link, profile: Profile, silence: Duration) {
    let (at, options) = ([v4(free_port())], Options::new(profile));
    let receiving = Receiver::start(link.receiver, &at, &options);
    let mut before = 0;
    for _ in 0..2 {
        let mut sending = Sender::start(link.sender, &at, &options);
        let _feeding = sending.feed(&receiving, excerpt(), RATE);
        wait_for("all of it comes", || contains(&receiving.got.bytes()[before..], excerpt()).then_some(()));
        drop(sending);
        std::thread::sleep(silence);
        before = receiving.got.bytes().len() / SEVEN * SEVEN;
    }
}

/// The receiver is killed, without a word, and another one comes in its place: it is sent to all the same.
#[track_caller]
pub fn serves_the_next_receiver(link: Link, profile: Profile) {
    let (at, options) = ([v4(free_port())], Options::new(profile));
    let mut sending = Sender::start(link.sender, &at, &options);
    for _ in 0..2 {
        let receiving = Receiver::start(link.receiver, &at, &options);
        let feeding = sending.feed(&receiving, excerpt(), RATE);
        receiving.got.assert_received(excerpt());
        sending.stopped(feeding);
    }
}

/// `mediaconnectctl explain` has one of these words in it, if it is the daemon.
#[track_caller]
pub fn explains(daemon: Option<&Daemon>, words: &[&str]) {
    let Some(daemon) = daemon else { return };
    wait_for(&format!("the daemon explains one of: {words:?}"), || {
        let said = String::from_utf8_lossy(&daemon.ctl(&["explain", "flow"]).stdout).to_lowercase();
        words.iter().any(|words| said.contains(words)).then_some(())
    });
}

/// Those who have a profile.
pub fn programs_with(profile: Profile) -> impl Iterator<Item = Program> {
    Program::PEERS.into_iter().filter(move |peer| profile == Profile::Simple || *peer != Program::Gstreamer)
}
