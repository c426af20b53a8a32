//! Strangers at an SRT port: what is connected notices nothing, and nothing is kept for those who are not let in.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use support::crowd::Random;
use support::daemon::{Daemon, count};
use support::media::v4;
use support::ports::free_port;
use support::sample::numbered;
use support::srt::ends::{Receiver, Sender};
use support::srt::{Options, Place, Program};

/// Datagrams a second of the flood.
const FLOOD_RATE: u64 = 50_000;
/// What the daemon's memory may grow by.
const GROWTH: u64 = 8 << 20;
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

/// Send so many of them at `FLOOD_RATE`, from addresses that are allowed and from others; fewer where that takes too long.
fn flood(random: &mut Random, port: u16, datagrams: u64, longest: Duration) -> u64 {
    let senders: Vec<_> = (1..=8).map(|host| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap()).collect();
    let mut pool: Vec<_> = (0..4096).map(|_| forged(random)).collect();
    let start = Instant::now();
    for n in 0..datagrams {
        if n % 100 == 0 {
            if start.elapsed() > longest {
                return n;
            }
            std::thread::sleep(Duration::from_micros(n * 1_000_000 / FLOOD_RATE).saturating_sub(start.elapsed()));
            let at = random.below(pool.len());
            pool[at] = forged(random);
        }
        let _ = senders[random.below(senders.len())].send_to(&pool[random.below(pool.len())], v4(port));
    }
    datagrams
}

/// Bytes of memory that a process holds.
fn resident(daemon: &Daemon) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", daemon.pid())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_flood_of_forged_packets_takes_nothing_from_those_connected_and_nothing_is_kept_of_it() {
    let long = std::env::var_os("MEDIACONNECT_LONG").is_some();
    let (most, longest) = if long { (10_000_000, Duration::MAX) } else { (400_000, Duration::from_secs(15)) };
    let port = free_port();
    // Of the eight addresses of the flood some may call, and some may not.
    let options = Options::new().latency(500).keys("allow = ['127.0.0.1/32', '127.0.0.2/32']");
    let receiving = Receiver::start(Program::Mediaconnect, Place::Listener(port), &options);
    let mut sending = Sender::start(Program::LiveTransmit, Place::Caller(port), &Options::new().latency(500));
    let feeding = sending.feed_with(ENDLESS, (0..ENDLESS).map(numbered), 5_000_000);
    receiving.wait_for_number(feeding.sent() + 1);
    let daemon = receiving.daemon().unwrap();
    let mut random = Random::new(8);

    flood(&mut random, port, most / 10, longest / 5);
    let before = resident(daemon);
    let began = Instant::now();
    let datagrams = flood(&mut random, port, most, longest);
    let took = began.elapsed();
    let after = resident(daemon);

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
