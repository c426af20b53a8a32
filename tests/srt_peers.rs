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
use support::srt::cases::*;
use support::srt::link::Link;
use std::time::Duration;
const SLT: Program = Program::LiveTransmit;
#[test] fn x_stream_ids() { for p in Program::PEERS { for id in ["#!::u=venue-a,r=live/1,m=publish", &longest_stream_id(p)] {
  let r = std::panic::catch_unwind(|| { calls_by(Link::pushed(p, SLT), id); calls_by(Link::pulled(SLT, p), id); }); eprintln!("SID {p:?} {id} {}", r.is_ok()); } } }
#[test] fn x_next() { for p in [SLT, Program::Ffmpeg] {
  let r = std::panic::catch_unwind(|| takes_the_next_sender(SLT,p, Duration::from_secs(6))); eprintln!("NEXT {p:?} {}", r.is_ok()); } }
