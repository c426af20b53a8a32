//! The daemon's SRT with other people's programs: libsrt 1.5.1 in `srt-live-transmit`, ffmpeg 5.1 and GStreamer 1.22, and
//! libsrt 1.5.7 in a newer ffmpeg.

mod support;

use std::time::Duration;

use support::side_by_side::for_all;
use support::srt::cases::{
    KEY_PERIOD, calls_again_to_receive, calls_again_to_send, calls_by, changes_its_key, connects_without,
    delivers_what_is_buffered_at_the_end, handshakes, is_refused, is_refused_by_stream_id, latency_in_force,
    longest_stream_id, meets, only_so_many_receivers_are_served, outlasts_silence, second_sender_is_refused,
    takes_the_next_sender,
};
use support::srt::link::Link;
use support::srt::matrix::{Case, PASSPHRASE};
use support::srt::{Options, Program};

const US: Program = Program::Mediaconnect;
const LIBSRT: Program = Program::LiveTransmit;

/// We and a peer, in every role.
fn roles(peer: Program) -> [Link; 4] {
    [Link::pushed(US, peer), Link::pulled(US, peer), Link::pushed(peer, US), Link::pulled(peer, US)]
}

/// For each peer, some at once.
fn with_each_peer(run: impl Fn(Program) + Sync) {
    for_all(Program::PEERS.to_vec(), run);
}

#[test]
fn streams_go_to_and_come_from_srt_live_transmit() {
    for_all(Case::all(US, Program::LiveTransmit), Case::run);
}

#[test]
fn streams_go_to_and_come_from_ffmpeg() {
    for_all(Case::all(US, Program::Ffmpeg), Case::run);
}

#[test]
fn streams_go_to_and_come_from_gstreamer() {
    for_all(Case::all(US, Program::Gstreamer), Case::run);
}

#[test]
fn streams_go_to_and_come_from_ffmpeg_with_a_newer_libsrt() {
    for_all(Case::all(US, Program::NewFfmpeg), Case::run);
}

#[test]
fn streams_go_from_one_daemon_to_another() {
    for_all(Case::all(US, US).into_iter().filter(|case| case.we_send).collect(), Case::run);
}

#[test]
fn stream_ids_go_over_the_wire_as_they_were_written() {
    with_each_peer(|peer| {
        for id in ["#!::u=venue-a,r=live/1,m=publish", &longest_stream_id(peer)] {
            roles(peer).into_iter().for_each(|link| calls_by(link, id));
        }
    });
}

#[test]
fn a_wrong_passphrase_is_refused_by_either_end_and_both_say_so() {
    let links = Program::PEERS.into_iter().flat_map(roles).collect();
    for_all(links, |link| is_refused(link, Some("wrong and wrong"), Some(PASSPHRASE), 1010));
}

#[test]
fn a_missing_passphrase_is_refused_by_either_end_and_both_say_so() {
    let links: Vec<_> = Program::PEERS.into_iter().flat_map(roles).collect();
    for_all(links.clone(), |link| is_refused(link, None, Some(PASSPHRASE), 1011));
    for_all(links, |link| is_refused(link, Some(PASSPHRASE), None, 1011));
}

#[test]
fn callers_by_another_stream_id_are_refused_and_told() {
    with_each_peer(|peer| is_refused_by_stream_id(US, peer));
}

#[test]
fn a_second_sender_is_refused_and_told() {
    with_each_peer(|peer| second_sender_is_refused(US, peer));
}

#[test]
fn no_more_receivers_are_served_than_may_call() {
    with_each_peer(|peer| only_so_many_receivers_are_served(US, peer));
}

#[test]
fn the_keys_of_peers_change_and_nothing_is_lost() {
    let key = Options::new().encrypted(PASSPHRASE, 16);
    with_each_peer(|peer| {
        let refreshed = key.clone().refresh(KEY_PERIOD, KEY_PERIOD * 2 / 5);
        changes_its_key(Link::pushed(peer, US), &refreshed, &key);
        changes_its_key(Link::pulled(peer, US), &refreshed, &key);
    });
}

#[test]
fn our_keys_change_and_peers_lose_nothing() {
    let key = Options::new().encrypted(PASSPHRASE, 16);
    with_each_peer(|peer| {
        let refreshed = key.clone().keys(&format!("km-refresh-rate = {KEY_PERIOD}"));
        changes_its_key(Link::pushed(US, peer), &refreshed, &key);
        changes_its_key(Link::pulled(US, peer), &refreshed, &key);
    });
}

#[test]
fn the_greater_latency_is_in_force() {
    let pairs = [(20, 120), (120, 20), (2000, 120), (120, 2000), (20, 20)];
    let cases = roles(LIBSRT).into_iter().flat_map(|link| pairs.map(|(ours, theirs)| (link, ours, theirs)));
    for_all(cases.collect(), |(link, ours, theirs)| {
        let [us, peer] = [ours, theirs].map(|latency| Options::new().latency(latency));
        assert_eq!(latency_in_force(link, &us, &peer), u64::from(ours.max(theirs)));
    });
}

#[test]
fn a_rendezvous_is_kept_twenty_times() {
    let plain = Options::new();
    let key = Options::new().encrypted(PASSPHRASE, 32);
    // ffmpeg can do none.
    let peers = [Program::LiveTransmit, Program::Gstreamer].into_iter();
    let cases = peers.flat_map(|peer| [(US, peer), (peer, US)].map(|pair| [(pair, &plain), (pair, &key)]));
    let cases: Vec<_> = cases.flatten().cycle().take(20).collect();
    for_all(cases, |((sender, receiver), options)| meets(sender, receiver, options));
}

#[test]
fn a_sender_that_was_killed_is_replaced() {
    // By another one that calls when it has been silent for more than a second.
    with_each_peer(|peer| takes_the_next_sender(US, peer, Duration::from_millis(1300)));
}

#[test]
fn who_comes_back_is_called_again() {
    with_each_peer(|peer| calls_again_to_send(US, peer));
    with_each_peer(|peer| calls_again_to_receive(US, peer));
}

#[test]
fn a_connection_outlasts_six_seconds_of_silence() {
    let some = [Program::Ffmpeg, Program::Gstreamer].map(|peer| Link::pulled(US, peer));
    for_all(roles(LIBSRT).into_iter().chain(some).collect(), outlasts_silence);
}

#[test]
fn what_is_buffered_when_a_sender_ends_is_delivered() {
    let links = Program::PEERS.into_iter().flat_map(|peer| [Link::pushed(peer, US), Link::pulled(peer, US)]);
    let ours = [Link::pushed(US, US), Link::pulled(US, US)];
    for_all(links.chain(ours).collect(), delivers_what_is_buffered_at_the_end);
}

#[test]
fn handshakes_survive_losses() {
    let links = [Link::pushed(US, Program::Gstreamer), Link::pushed(LIBSRT, US), Link::pulled(US, Program::NewFfmpeg)];
    let cases = links.into_iter().flat_map(|link| handshakes().map(move |lost| (link, lost)));
    for_all(cases.collect(), |(link, (way, kind, times))| connects_without(link, way, kind, times));
}
