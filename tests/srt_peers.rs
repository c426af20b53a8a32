//! The peers of the SRT tests among themselves: what is tried with the daemon works without it.

mod support;

use support::srt::Program;
use support::srt::matrix::{Case, for_all};

/// Of the matrix, each program in each role once, and each key length with each role.
#[test]
fn every_peer_sends_and_receives_calling_and_called() {
    let cases = Program::PEERS.into_iter().enumerate().flat_map(|(n, peer)| {
        let all = Case::all(Program::LiveTransmit, peer);
        (0..4).map(move |role| all[(role + n) % 4 * 4 + role])
    });
    for_all(cases.collect(), Case::run);
}

/// The whole matrix.
#[test]
#[ignore = "the matrix is for the daemon; this takes a minute to show that the peers can do it"]
fn the_peers_can_do_all_that_is_tried_with_the_daemon() {
    let cases = Program::PEERS.into_iter().flat_map(|peer| Case::all(Program::LiveTransmit, peer));
    for_all(cases.collect(), Case::run);
}
