//! Strangers at an SRT port: what is connected notices nothing, and nothing is kept for those who are not let in.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::time::{Duration, Instant};

use support::crowd::Random;
use support::daemon::count;
use support::flood::{GROWTH, extent, flood};
use support::media::v4;
use support::ports::free_port;
use support::sample::numbered;
use support::srt::ends::{Receiver, Sender};
use support::srt::{Options, Place, Program};

const ENDLESS: u64 = 1_000_000;

/// What a stranger could send: handshakes of either half, other control packets and data, for any socket or for one
/// whose ID is easily guessed; and noise.
fn forged(random: &mut Random) -> Vec<u8> {
    let word = |random: &mut Random| (random.next() as u32).to_be_bytes();
    let socket = |random: &mut Random| match random.below(3) {
        0 => [0; 4],
        1 => word(random),
        _ => ((random.below(8) << 20 | random.below(64)) as u32).to_be_bytes(),
    };
    let noise = |random: &mut Random, length: usize| (0..length).map(|_| random.next() as u8).collect::<Vec<_>>();
    let handshake = |random: &mut Random, version: u32, extension: u32, kind: u32, cookie: [u8; 4]| {
        let mut packet = [[0x80, 0, 0, 0], [0; 4], word(random), [0; 4]].concat();
        packet.extend([version.to_be_bytes(), extension.to_be_bytes(), word(random)].concat());
        packet
            .extend([1500u32.to_be_bytes(), 8192u32.to_be_bytes(), kind.to_be_bytes(), word(random), cookie].concat());
        packet.extend([127, 0, 0, 1].into_iter().chain([0; 12]));
        packet
    };
    match random.below(8) {
        0 | 1 => handshake(random, 4, 2, 1, [0; 4]),
        2 | 3 => {
            let cookie = word(random);
            // An answer for a handshake that nobody asked for, with the extension of a handshake and a stream ID.
            let mut packet = handshake(random, 5, 5, 0xFFFF_FFFF, cookie);
            packet.extend([0, 1, 0, 3, 0, 1, 5, 1, 0, 0, 0, 0xBF, 0, 120, 0, 120]);
            packet.extend([0, 5, 0, 2]);
            packet.extend(noise(random, 8));
            packet
        }
        4 | 5 => {
            let mut packet = [word(random), word(random), word(random), socket(random)].concat();
            packet[0] &= 0x7F;
            packet.extend(noise(random, 188));
            packet
        }
        6 => {
            let kind = [0x80, random.below(10) as u8, 0, 0];
            let mut packet = [kind, word(random), word(random), socket(random)].concat();
            let length = random.below(64);
            packet.extend(noise(random, length));
            packet
        }
        _ => {
            let length = random.below(1473);
            noise(random, length)
        }
    }
}

#[test]
fn a_flood_of_forged_packets_takes_nothing_from_those_connected_and_nothing_is_kept_of_it() {
    let (most, longest) = extent(400_000, Duration::from_secs(15));
    let port = free_port();
    // Of the eight addresses of the flood some may call, and some may not.
    let options = Options::new().latency(500).keys("allow = ['127.0.0.1/32', '127.0.0.2/32']");
    let receiving = Receiver::start(Program::Mediaconnect, Place::Listener(port), &options);
    let mut sending = Sender::start(Program::LiveTransmit, Place::Caller(port), &Options::new().latency(500));
    let feeding = sending.feed_with(ENDLESS, (0..ENDLESS).map(numbered), 5_000_000);
    receiving.wait_for_number(feeding.sent() + 1);
    let daemon = receiving.daemon().unwrap();
    let mut random = Random::new(8);

    flood(&mut random, &[v4(port)], (most / 10, longest / 5), forged);
    let before = daemon.resident();
    let began = Instant::now();
    let datagrams = flood(&mut random, &[v4(port)], (most, longest), forged);
    let took = began.elapsed();
    let after = daemon.resident();

    receiving.wait_for_number(feeding.sent() + 1);
    let numbers = receiving.numbers();
    let flow = daemon.flow("flow");
    println!(
        "{datagrams} datagrams in {took:.1?}; memory {} KiB before, {} KiB after; {} packets received, {} repaired",
        before >> 10,
        after >> 10,
        numbers.len(),
        count(&flow, "sources/main/packets-recovered")
    );
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert!(gap.is_none(), "of {} with a gap at {gap:?}", numbers.len());
    assert_eq!(flow["sources"]["main"]["peers"].as_array().unwrap().len(), 1, "{flow:#}");
    assert_eq!(count(&flow, "sources/main/disconnections"), 0);
    assert!(after.saturating_sub(before) <= GROWTH, "from {before} to {after} bytes");
}
