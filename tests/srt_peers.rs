//! The peers of the SRT tests among themselves: that whatever is tried with the daemon works without it, and what they
//! do by themselves.

mod support;

use std::time::Duration;

use support::side_by_side::for_all;
use support::srt::cases::{
    KEY_PERIOD, calls_again_to_receive, calls_again_to_send, calls_by, changes_its_key, connects_without,
    ends_with_all_sent, handshakes, is_refused, latency_in_force, longest_stream_id, meets, outlasts_silence,
    takes_the_next_sender,
};
use support::srt::link::Link;
use support::srt::matrix::{Case, PASSPHRASE};
use support::srt::trial::Trial;
use support::srt::{Options, Program};

const LIBSRT: Program = Program::LiveTransmit;

/// Of the matrix, each program in each role, with different keys.
#[test]
fn every_peer_sends_and_receives_calling_and_called() {
    let cases = Program::PEERS.into_iter().enumerate().flat_map(|(n, peer)| {
        let all = Case::all(LIBSRT, peer);
        (0..4).map(move |role| all[(role + n) % 4 * 4 + role])
    });
    for_all(cases.collect(), Case::run);
}

#[test]
fn every_peer_says_why_it_is_refused() {
    let links = Program::PEERS.into_iter().flat_map(|peer| [Link::pushed(peer, LIBSRT), Link::pulled(peer, LIBSRT)]);
    for_all(links.collect(), |link| is_refused(link, Some("wrong and wrong"), Some(PASSPHRASE), 1010));
}

#[test]
fn a_rendezvous_a_new_key_and_lost_handshakes_are_seen() {
    let key = Options::new().encrypted(PASSPHRASE, 16);
    changes_its_key(Link::pulled(Program::Ffmpeg, LIBSRT), &key.clone().refresh(KEY_PERIOD, KEY_PERIOD * 2 / 5), &key);
    meets(Program::Gstreamer, LIBSRT, &key);
    for_all(handshakes().collect(), |(way, kind, times)| {
        connects_without(Link::pushed(LIBSRT, Program::Gstreamer), way, kind, times);
    });
}

#[test]
fn the_same_packets_are_lost_whoever_sends_them() {
    let trials = [Link::pushed(LIBSRT, LIBSRT), Link::pulled(Program::Gstreamer, Program::Ffmpeg)].map(|link| Trial {
        link,
        network: 1,
        round_trips: 8,
        packets: 2000,
    });
    let outcomes = for_all(trials.to_vec(), Trial::run);
    let [one, other] = [0, 1].map(|n| outcomes[n].1);
    assert!(one.dropped == other.dropped && (60..140).contains(&one.dropped), "{outcomes:#?}");
    assert!(one.retransmitted > 60 && other.retransmitted > 60, "{outcomes:#?}");
    assert_eq!((one.missing, other.missing), (0, 0), "{outcomes:#?}");
}

#[test]
#[ignore = "the matrix is for the daemon; this takes a minute to show that peers can do it"]
fn the_peers_can_do_all_of_the_matrix() {
    for_all(Program::PEERS.into_iter().flat_map(|peer| Case::all(LIBSRT, peer)).collect(), Case::run);
}

#[test]
#[ignore = "the cases are for the daemon; this takes a minute to show that peers can do them"]
fn the_peers_can_do_all_that_is_beside_the_matrix() {
    for_all(Program::PEERS.to_vec(), |peer| {
        for id in ["#!::u=venue-a,r=live/1,m=publish", &longest_stream_id(peer)] {
            calls_by(Link::pushed(peer, LIBSRT), id);
            calls_by(Link::pulled(LIBSRT, peer), id);
        }
        outlasts_silence(Link::pulled(peer, LIBSRT));
        takes_the_next_sender(LIBSRT, peer, Duration::from_secs(6));
        calls_again_to_send(LIBSRT, peer);
        calls_again_to_receive(LIBSRT, peer);
    });
    let links = Program::PEERS.into_iter().flat_map(|peer| [Link::pushed(peer, LIBSRT), Link::pulled(peer, LIBSRT)]);
    for_all(links.collect(), |link| {
        // The receiver throws away what it holds back: in that the daemon does better.
        assert_eq!(ends_with_all_sent(link).length(), 0);
    });
    for link in [Link::pushed(LIBSRT, LIBSRT), Link::pulled(LIBSRT, LIBSRT)] {
        let latencies = |receive, send| Options::new().latencies(receive, send);
        assert_eq!(latency_in_force(link, &latencies(20, 300), &latencies(500, 700)), 500);
    }
}
