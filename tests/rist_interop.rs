//! The daemon's RIST with other people's programs: librist 0.2.7 in `ristsender` and `ristreceiver` and in ffmpeg 5.1, and
//! GStreamer 1.22.

mod support;

use std::time::Duration;

use support::netns::{in_own_network, route_groups_to_loopback};
use support::rist::cases::{
    changes_its_key, nothing_goes_over, programs_with, serves_the_next_receiver, takes_the_next_sender,
};
use support::rist::link::Link;
use support::rist::matrix::{Case, Mode};
use support::rist::{Options, Profile, Program};
use support::side_by_side::for_all;

const US: Program = Program::Mediaconnect;
const SIMPLE: Profile = Profile::Simple;
const AES_128: Profile = Profile::Main(Some(16));
const WRONG: &str = "wrong and wrong";

/// We and each peer that has this profile, both ways.
fn links(profile: Profile) -> Vec<Link> {
    programs_with(profile).flat_map(|peer| [Link::new(US, peer), Link::new(peer, US)]).collect()
}

#[test]
fn streams_go_to_and_come_from_ristsender_and_ristreceiver() {
    for_all(Case::all(US, Program::Librist), Case::run);
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
fn streams_go_from_one_daemon_to_another() {
    for_all(Case::all(US, US).into_iter().filter(|case| case.we_send).collect(), Case::run);
}

#[test]
fn streams_go_to_groups() {
    in_own_network("streams_go_to_groups", || {
        route_groups_to_loopback();
        let ours = Case { us: US, peer: US, we_send: true, mode: Mode::Multicast };
        for_all(Case::multicast(US).into_iter().chain([ours]).collect(), Case::run);
    });
}

#[test]
fn a_wrong_passphrase_lets_nothing_through_and_is_told() {
    let (right, wrong) = (Options::new(AES_128), Options::new(AES_128).passphrase(WRONG));
    for_all(links(AES_128), |link| nothing_goes_over(link, &wrong, &right, &["passphrase"]));
}

#[test]
fn what_is_encrypted_at_one_end_only_does_not_go_through_and_is_told() {
    let (clear, encrypted) = (Options::new(Profile::Main(None)), Options::new(AES_128));
    for_all(links(AES_128), |link| nothing_goes_over(link, &encrypted, &clear, &["passphrase"]));
}

#[test]
fn another_profile_lets_nothing_through_and_is_told() {
    let (simple, main) = (Options::new(SIMPLE), Options::new(Profile::Main(None)));
    for_all(links(Profile::Main(None)), |link| {
        nothing_goes_over(link, &simple, &main, &["profile", "nothing has been heard of a receiver"]);
        nothing_goes_over(link, &main, &simple, &["profile", "nothing has been heard of a receiver"]);
    });
}

#[test]
fn the_keys_of_a_sender_change_and_nothing_is_lost() {
    changes_its_key(Link::new(Program::Librist, US), &Options::new(AES_128).key_rotation(300));
    changes_its_key(Link::new(Program::Librist, US), &Options::new(Profile::Main(Some(32))).key_rotation(300));
}

#[test]
fn a_sender_that_was_killed_is_replaced() {
    let cases = [SIMPLE, AES_128]
        .into_iter()
        .flat_map(|profile| programs_with(profile).map(move |peer| (Link::new(peer, US), profile)));
    for_all(cases.collect(), |(link, profile)| takes_the_next_sender(link, profile, Duration::from_millis(100)));
}

#[test]
fn a_receiver_that_was_killed_is_replaced() {
    let cases = [SIMPLE, AES_128]
        .into_iter()
        .flat_map(|profile| programs_with(profile).map(move |peer| (Link::new(US, peer), profile)));
    for_all(cases.collect(), |(link, profile)| serves_the_next_receiver(link, profile));
}
