//! The peers of the RIST tests among themselves: that whatever is tried with the daemon works without it, and what they
//! do by themselves.

mod support;

use std::time::Duration;

use support::netns::{in_own_network, route_groups_to_loopback};
use support::network::{self, Outcome};
use support::rist::cases::{changes_its_key, nothing_goes_over, serves_the_next_receiver, takes_the_next_sender};
use support::rist::link::Link;
use support::rist::matrix::{Case, Mode};
use support::rist::trial::Trial;
use support::rist::{Options, Profile, Program};
use support::side_by_side::for_all;

const LIBRIST: Program = Program::Librist;
const SIMPLE: Profile = Profile::Simple;
const AES_128: Profile = Profile::Main(Some(16));

/// ristreceiver takes nothing of ristsink whose media came before its RTCP, or begins amid it: that comes about as it will.
fn is_heard(case: &Case) -> bool {
    case.peer != Program::Gstreamer || case.we_send
}

#[test]
#[ignore = "the matrix is for the daemon; this takes a minute to show that peers can do it"]
fn every_peer_sends_and_receives_with_all_it_has() {
    let all = Program::PEERS.into_iter().flat_map(|peer| Case::all(LIBRIST, peer));
    // It also takes what comes to two ports for two streams, with the simple profile.
    let is_one_stream = |case: &Case| case.mode != Mode::Duplicated(SIMPLE);
    for_all(all.filter(is_heard).filter(is_one_stream).collect(), Case::run);
}

#[test]
#[ignore = "the matrix is for the daemon; this takes a minute to show that peers can do it"]
fn gstreamer_sends_to_itself_over_one_path_and_over_two() {
    let mode = |mode| Case { us: Program::Gstreamer, peer: Program::Gstreamer, we_send: true, mode };
    for_all([Mode::Plain(SIMPLE), Mode::Duplicated(SIMPLE), Mode::Split].map(mode).to_vec(), Case::run);
}

#[test]
fn streams_go_to_groups() {
    in_own_network("streams_go_to_groups", || {
        route_groups_to_loopback();
        for_all(Case::multicast(LIBRIST).into_iter().filter(is_heard).collect(), Case::run);
    });
}

#[test]
fn a_wrong_passphrase_and_another_profile_let_nothing_through() {
    let link = Link::new(LIBRIST, LIBRIST);
    let right = Options::new(AES_128);
    let pairs =
        [(right, right.passphrase("wrong and wrong")), (Options::new(SIMPLE), right), (right, Options::new(SIMPLE))];
    for_all(pairs.to_vec(), |(sender, receiver)| nothing_goes_over(link, &sender, &receiver, &[]));
}

#[test]
fn a_new_key_and_the_next_sender_and_receiver_are_seen() {
    changes_its_key(Link::new(LIBRIST, Program::Ffmpeg), &Options::new(AES_128).key_rotation(300));
    takes_the_next_sender(Link::new(Program::Ffmpeg, LIBRIST), AES_128, Duration::from_secs(3));
    serves_the_next_receiver(Link::new(LIBRIST, Program::Ffmpeg), AES_128);
}

#[test]
fn the_same_packets_are_lost_whoever_sends_them() {
    let links = [(LIBRIST, LIBRIST), (Program::Gstreamer, Program::Gstreamer), (Program::Ffmpeg, LIBRIST)];
    let trial =
        |(sender, receiver)| Trial { link: Link::new(sender, receiver), profile: SIMPLE, network: 1, packets: 2000 };
    let outcomes: Vec<_> =
        for_all(links.map(trial).to_vec(), Trial::run).into_iter().map(|(_, outcome)| outcome).collect();
    let dropped = outcomes[0].dropped;
    assert!(outcomes.iter().all(|outcome| outcome.dropped == dropped), "{outcomes:#?}");
    assert!((60..140).contains(&dropped), "{outcomes:#?}");
    assert!(outcomes.iter().all(|outcome| outcome.retransmitted > 60), "{outcomes:#?}");
}

#[test]
fn librist_brings_back_what_networks_lose() {
    for profile in [SIMPLE, Profile::Main(None)] {
        let trials = Trial::all(Link::new(LIBRIST, LIBRIST), profile, 2000);
        // Of a burst of 50 it misses most.
        let is_burst = |trial: &Trial| network::all()[trial.network].1.burst_every > 0;
        let outcomes = for_all(trials.into_iter().filter(|trial| !is_burst(trial)).collect(), Trial::run);
        let misses = |(trial, outcome): &(Trial, Outcome)| trial.confirms(*outcome, |outcome| outcome.missing > 0);
        assert!(!outcomes.iter().any(misses), "{outcomes:#?}");
    }
}
