//! What the tests of the whole product share: the real daemon, media that is judged byte by byte, peers, networks.
#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part of it")]

pub mod browser;
pub mod crowd;
pub mod daemon;
pub mod ends;
pub mod feed;
pub mod flood;
pub mod machine;
pub mod media;
pub mod nat;
pub mod netns;
pub mod network;
pub mod package;
pub mod paths;
pub mod peers;
pub mod ports;
pub mod proxy;
pub mod rist;
pub mod sample;
pub mod side_by_side;
pub mod srt;
pub mod srt_and_rist;

use std::time::{Duration, Instant};

/// The longest that anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Wait until `done` gives something; what it waits for is said when it never comes.
#[track_caller]
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
