//! SRT over networks that lose, and what is missing in the end: libsrt to libsrt, and the daemon at either end.

mod support;

use support::srt::Program;
use support::srt::link::Link;
use support::srt::matrix::for_all;
use support::srt::trial::{Trial, table};

const LIBSRT: Program = Program::LiveTransmit;

#[test]
#[ignore = "several minutes: a table to compare with"]
fn libsrt_to_libsrt() {
    let packets = std::env::var("PACKETS").ok().and_then(|p| p.parse().ok()).unwrap_or(30_000);
    let trials = Trial::grid(Link::pushed(LIBSRT, LIBSRT), &[2, 4, 6, 8], packets);
    let o = for_all(trials, Trial::run);
    for x in &o { println!("{} {} {:?}", x.0.name(), x.0.round_trips, x.1); }
    println!("{}", table("libsrt to libsrt", &o));
}
