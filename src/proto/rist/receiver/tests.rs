//! Both ends against each other in a simulated network, in virtual time: every run is the same, and every run wraps.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;

use super::super::psk::KeyLength;
use super::super::testing::*;
use super::super::{Port, Profile, RemoteId};
use super::*;
use crate::proto::hitless::Merger;
use crate::proto::rtp::receive::tests::Random;
use crate::proto::rtp::rtcp::{
    Compound, Packet, SenderReport, write_receiver_report, write_sender_report, write_source_description,
};
use crate::proto::seq::{RtpTime, Seq};

mod bonding;

/// 100 ms there and back.
const CLEAN: Path = Path { jitter: 2000, ..Path::of(49) };

fn setup(seed: u64, loss: Loss, latency: u64) -> Setup {
    let mut setup = Setup::new(seed, CLEAN, latency);
    setup.legs[0][0] = CLEAN.losing(loss);
    setup
}

/// Nothing is lost at the end, where nothing follows that would show it.
fn finish(pair: &mut Pair) {
    for leg in 0..pair.legs.len() {
        pair.change(leg, 0, CLEAN);
    }
    pair.send(20, 1000);
    pair.run(4 * S);
}

fn run(setup: &Setup, packets: u64) -> Pair {
    let mut pair = setup.pair();
    // Where there are keys to be derived, that takes a few packets.
    pair.run(if setup.key.is_some() { S } else { 0 });
    pair.send(packets, 1000);
    pair.run(packets * 1000);
    finish(&mut pair);
    let (sent, received) = (pair.sender.stats(), pair.receiver.stats());
    let places = received.first + received.duplicates + received.late + received.stray + received.overflow;
    assert_eq!(received.received, places + received.invalid);
    assert_eq!((sent.packets, received.delivered), (packets + 20, pair.delivered.len() as u64));
    assert_eq!((received.unrecovered, received.restarts), (pair.lost(), 0));
    pair
}

#[test]
fn nothing_is_lost_of_100_000_packets_at_2_5_and_10_percent() {
    for of_thousand in [20, 50, 100] {
        let mut setup = setup(1, Loss::Random(of_thousand), 1000);
        // Both ways: what is asked for gets lost, too.
        setup.legs[0][1] = setup.legs[0][0];
        let pair = run(&setup, 100_000);
        assert_eq!(pair.lost(), 0, "{of_thousand} of a thousand");
        let sent = pair.sender.stats();
        // What is sent again is what got lost, and what got lost of that.
        let least = 100_000 * of_thousand / 1000;
        assert!(sent.retransmitted < least * 5 / 4, "{sent:?}");
        assert!(pair.worst_late < 5 * MS, "released {} us after its time", pair.worst_late);
    }
}

#[test]
fn bursts_reordering_duplicates_and_jitter_cost_nothing() {
    let rough = Path { jitter: 20_000, duplicates: 20, reordered: 50, ..CLEAN.losing(Loss::Bursts(1000, 40)) };
    for seed in 1..5 {
        let mut setup = Setup::new(seed, rough, 1000);
        setup.legs[0][1] = CLEAN;
        let pair = run(&setup, 30_000);
        let received = pair.receiver.stats();
        assert_eq!(pair.lost(), 0, "{received:?}");
        assert!(received.reordered > 500 && received.duplicates > 300 && received.recovered > 300, "{received:?}");
        assert!(pair.sender.stats().retransmitted < received.recovered * 3 / 2);
    }
}

/// What is left, for each loss, at a round trip of 100 ms: packets of 4,000 not delivered, and sent again for each 100.
#[test]
fn residual_loss() {
    let losses = [
        ("2 %", Loss::Random(20)),
        ("5 %", Loss::Random(50)),
        ("10 %", Loss::Random(100)),
        ("20 %", Loss::Random(200)),
        ("bursts", Loss::Bursts(500, 30)),
    ];
    let mut table = String::new();
    for (name, loss) in losses {
        for latency in [150, 200, 300, 500, 1000] {
            let pair = run(&setup(7, loss, latency), 4000);
            let share = pair.sender.stats().retransmitted as f64 / 40.0;
            table += &format!("{name:7} {latency:5} ms: {:5} lost, {share:4.1} % again\n", pair.lost());
        }
    }
    insta::assert_snapshot!(table, @r"
    2 %       150 ms:     4 lost,  2.2 % again
    2 %       200 ms:     4 lost,  2.2 % again
    2 %       300 ms:     0 lost,  2.3 % again
    2 %       500 ms:     0 lost,  2.3 % again
    2 %      1000 ms:     0 lost,  2.3 % again
    5 %       150 ms:    10 lost,  5.3 % again
    5 %       200 ms:    10 lost,  5.3 % again
    5 %       300 ms:     0 lost,  5.5 % again
    5 %       500 ms:     0 lost,  5.5 % again
    5 %      1000 ms:     0 lost,  5.5 % again
    10 %      150 ms:    41 lost, 10.5 % again
    10 %      200 ms:    41 lost, 10.5 % again
    10 %      300 ms:     5 lost, 11.4 % again
    10 %      500 ms:     0 lost, 11.6 % again
    10 %     1000 ms:     0 lost, 11.6 % again
    20 %      150 ms:   158 lost, 21.1 % again
    20 %      200 ms:   158 lost, 21.1 % again
    20 %      300 ms:    28 lost, 24.8 % again
    20 %      500 ms:     1 lost, 25.6 % again
    20 %     1000 ms:     0 lost, 25.5 % again
    bursts    150 ms:   366 lost,  4.5 % again
    bursts    200 ms:     6 lost,  5.8 % again
    bursts    300 ms:     0 lost,  9.5 % again
    bursts    500 ms:     0 lost,  9.5 % again
    bursts   1000 ms:     0 lost,  9.5 % again
    ");
}

#[test]
fn the_latency_holds_for_every_packet_whatever_happened_to_it() {
    let pair = run(&setup(3, Loss::Random(100), 600), 5000);
    let first = pair.delivered[0];
    for delivered in &pair.delivered {
        let due = first.at + (delivered.index - first.index) * 1000;
        // Until jitter is known to be jitter, the first packet's delay counts.
        assert!(delivered.at.abs_diff(due) < 10 * MS || delivered.index > FIRST_INDEX + 5000, "{delivered:?}");
    }
    assert!((640 * MS..680 * MS).contains(&first.at), "{} us", first.at);
}

#[test]
fn clocks_that_run_apart_for_a_day_do_no_harm() {
    for ppm in [-500, 500] {
        let mut setup = setup(5, Loss::Random(20), 3000);
        setup.ppm = ppm;
        let mut pair = setup.pair();
        pair.gather = 100 * MS;
        pair.send(86_400, S);
        pair.run(86_400 * S);
        finish(&mut pair);
        let received = pair.receiver.stats();
        assert_eq!((pair.lost(), received.restarts, received.timestamp_jumps), (0, 0, 0), "{received:?}");
        // The sender's clock says when; 43 s apart in the end.
        for delivered in pair.delivered.iter().take(86_400) {
            let late = delivered.at - (delivered.index - FIRST_INDEX) * S;
            assert!((3000 * MS..3250 * MS).contains(&late), "{delivered:?}: {late} us");
        }
    }
}

#[test]
fn numbers_wrap_many_times() {
    let mut pair = setup(9, Loss::Random(50), 1000).pair();
    pair.send(200_000, 250);
    pair.run(50 * S);
    finish(&mut pair);
    assert_eq!((pair.lost(), pair.receiver.stats().restarts), (0, 0));
}

#[test]
fn every_kind_of_control_may_get_lost() {
    let kind = |packet: &Packet<'_>| match packet {
        Packet::SenderReport(_) => 0,
        Packet::ReceiverReport { .. } => 1,
        Packet::App { subtype: 2, .. } => 2,
        Packet::App { subtype: 3, .. } => 3,
        Packet::App { .. } | Packet::Feedback { .. } => 4,
        _ => 5,
    };
    for lost in 0..5_u64 {
        let mut pair = setup(11, Loss::Random(50), 1000).pair();
        let (mut dropped, counter) = (Random(lost + 1), Rc::new(RefCell::new(0)));
        let count = counter.clone();
        pair.tap = Some(Box::new(move |_, _, _, port, bytes| {
            let Some(compound) = Compound::parse(bytes).ok().filter(|_| port == Port::Control) else { return true };
            // Nine of ten with such a packet in it; half of those of a receiver, where requests are.
            let hit = compound.packets().any(|packet| kind(&packet) == lost)
                && dropped.below(10) < if matches!(lost, 1 | 4) { 5 } else { 9 };
            *count.borrow_mut() += u64::from(hit);
            !hit
        }));
        pair.send(20_000, 1000);
        pair.run(20 * S);
        pair.tap = None;
        finish(&mut pair);
        assert!(*counter.borrow() > 100, "{lost}: {counter:?}");
        assert!(pair.lost() <= u64::from(matches!(lost, 1 | 4)) * 10, "{lost}: {} lost", pair.lost());
    }
}

#[test]
fn a_peer_that_knows_no_echo_is_measured_by_its_answers() {
    let mut pair = setup(13, Loss::Random(20), 1000).pair();
    pair.tap = Some(Box::new(|_, _, _, port, bytes| {
        let mut at = 0;
        while port == Port::Control && at < bytes.len() {
            if matches!(bytes[at..at + 2], [0x82 | 0x83, 204] | [_, 207]) {
                // A type that nobody knows.
                bytes[at + 1] = 206;
            }
            at += 4 + 4 * usize::from(bytes[at + 3]);
        }
        true
    }));
    pair.send(10_000, 1000);
    pair.run(13 * S);
    let rtt = pair.receiver.leg_stats(pair.legs[0]).unwrap().rtt.unwrap().as_millis();
    assert!((95..125).contains(&rtt), "{rtt} ms");
    assert_eq!(pair.lost(), 0);
}

#[test]
fn the_first_report_is_answered_at_once_and_media_comes_after_one() {
    let first = Rc::new(RefCell::new(Vec::new()));
    for main in [false, true] {
        let mut setup = Setup::new(1, Path::of(20), 200);
        setup.main = main;
        let mut pair = setup.pair();
        let seen = first.clone();
        pair.tap = Some(Box::new(move |_, to_receiver, at, port, _| {
            seen.borrow_mut().push((to_receiver, at, port));
            true
        }));
        pair.send(100, 1000);
        pair.run(S);
        let seen = std::mem::take(&mut *first.borrow_mut());
        let (_, at, port) = seen[0];
        assert_eq!(port, Port::Control);
        let (_, answered, _) = seen.iter().find(|(to_receiver, ..)| !to_receiver).unwrap();
        assert!(*answered <= at + 20 * MS + 5 * MS, "{at} {answered}");
        let reports: Vec<_> = seen.iter().filter(|(to_receiver, ..)| !to_receiver).map(|(_, at, _)| *at).collect();
        assert!(reports.windows(2).all(|two| two[1] - two[0] <= 100 * MS), "{reports:?}");
    }
}

#[test]
fn a_sender_that_begins_anew_is_followed_and_what_waits_still_leaves() {
    let (base, ms) = (Instant::now(), Duration::from_millis);
    let config = |latency| ReceiverConfig {
        latency: ms(latency),
        reorder: ms(25),
        delivery: Delivery::Buffered,
        ssrc: 1,
        cname: vec![],
        ntp: 0,
    };
    // (the second stream's SSRC, sequence number, timestamp)
    let jumps =
        [(0x20_u32, 65_400_u16, 7_u32), (0x10, 40_000, 0xFFFF_0000), (0x10, 65_000, 900_000), (0x30, 65_200, 99_000)];
    for (ssrc, seq, timestamp) in jumps {
        let mut receiver = Receiver::new(base, config(200));
        let leg = receiver.add_leg(Profile::Simple { feedback: None }).unwrap();
        let (mut out, mut delivered) = (Vec::new(), Vec::new());
        for n in 0..1500_u32 {
            // Half a second of the first one, a pause of 100 ms, and the second one.
            let now = base + ms(n.into());
            let (ssrc, seq, timestamp) = match n {
                0..500 => (0x10, 65_000_u16.wrapping_add(n as u16), 90 * n),
                500..600 => continue,
                _ => (ssrc, seq.wrapping_add((n - 600) as u16), timestamp.wrapping_add(90 * (n - 600))),
            };
            let packet = [&Header::new(33, Seq(seq), RtpTime(timestamp), ssrc).write()[..], &n.to_be_bytes()].concat();
            receiver.handle_datagram(now, now, From { leg, port: Port::Media, remote: RemoteId(1) }, &packet);
            receiver.handle_timeout(now);
            receiver.release(now, &mut out);
            for released in out.drain(..) {
                let payload = &receiver.held(released.slot)[released.header.payload()];
                let sent = u32::from_be_bytes(payload.try_into().unwrap());
                delivered.push((sent, released.discontinuity));
                assert!(n - sent <= 205 || sent < 602, "{sent} came out at {n}");
            }
            receiver.recycle();
        }
        let stats = receiver.stats();
        assert_eq!((stats.restarts, stats.stray), (1, 1), "the first of two in sequence is in doubt: {stats:?}");
        let sent: Vec<_> = delivered.iter().map(|(sent, _)| *sent).collect();
        let expected: Vec<_> = (0..500).chain(601..1300).collect();
        assert_eq!(sent[..expected.len()], expected);
        let fresh: Vec<_> = delivered.iter().filter(|(_, fresh)| *fresh).map(|(sent, _)| *sent).collect();
        assert_eq!(fresh, [601]);
        assert_eq!(receiver.poll_event(), Some(ReceiverEvent::SourceRestarted(ssrc)));
    }
}

#[test]
fn a_second_sender_on_the_port_changes_nothing() {
    let mut pair = setup(15, Loss::None, 300).pair();
    pair.send(5500, 1000);
    pair.run(200 * MS);
    for n in 0..500_u16 {
        pair.run(10 * MS);
        let at = pair.instant(pair.now);
        let from = From { leg: pair.legs[0], port: Port::Media, remote: RemoteId(8) };
        for step in 0..2 {
            let header = Header::new(33, Seq(n * 2 + step), RtpTime(0), 0x7777_0000);
            pair.receiver.handle_datagram(at, at, from, &header.write());
        }
        let mut control = Vec::new();
        write_receiver_report(0x7777_0000, None, &mut control);
        write_source_description(0x7777_0000, b"x", &mut control);
        pair.receiver.handle_datagram(at, at, From { port: Port::Control, ..from }, &control);
    }
    pair.run(2 * S);
    let stats = pair.receiver.stats();
    assert_eq!((pair.lost(), stats.restarts, stats.stray), (0, 0, 1000));
    assert_eq!(pair.receiver.leg_stats(pair.legs[0]).unwrap().control_invalid, 500);
}

#[test]
fn feedback_goes_to_where_control_last_came_from() {
    let (base, ms) = (Instant::now(), Duration::from_millis);
    for feedback in [None, Some(RemoteId(99))] {
        let config = ReceiverConfig {
            latency: ms(200),
            reorder: ms(25),
            delivery: Delivery::Buffered,
            ssrc: 1,
            cname: b"us".to_vec(),
            ntp: 0,
        };
        let mut receiver = Receiver::new(base, config);
        let leg = receiver.add_leg(Profile::Simple { feedback }).unwrap();
        let mut answers = |ms_now: u64, remote: Option<u32>, port: Port, bytes: &[u8]| {
            let now = base + ms(ms_now);
            if let Some(remote) = remote {
                receiver.handle_datagram(now, now, From { leg, port, remote: RemoteId(remote) }, bytes);
            }
            receiver.handle_timeout(now);
            let (mut out, mut to) = (Vec::new(), Vec::new());
            while let Some(transmit) = receiver.poll_transmit(now, &mut out) {
                assert!(matches!(Compound::parse(&out).unwrap().packets().next(), Some(Packet::ReceiverReport { .. })));
                to.push(transmit.remote.0);
                out.clear();
            }
            (to, receiver.poll_timeout())
        };
        let mut report = Vec::new();
        let sr = SenderReport { ssrc: 0x10, ntp: 5, timestamp: RtpTime(0), packets: 0, octets: 0 };
        write_sender_report(&sr, &mut report);
        write_source_description(0x10, b"them", &mut report);
        let media = Header::new(33, Seq(1), RtpTime(0), 0x10).write();
        let to = |remote| vec![feedback.map_or(remote, |feedback| feedback.0)];
        assert_eq!(answers(0, Some(1), Port::Media, &media), (vec![], None), "never to where media comes from");
        assert_eq!(answers(10, Some(2), Port::Control, &report).0, to(2));
        assert_eq!(answers(20, Some(2), Port::Control, &report).0, Vec::<u32>::new());
        assert_eq!(answers(30, Some(3), Port::Control, &report).0, to(3), "a new address is answered at once");
        assert_eq!(answers(40, Some(4), Port::Control, &report[..20]).0, Vec::<u32>::new(), "broken");
        assert_eq!(answers(130, None, Port::Control, &[]).0, to(3));
        let (mut last, mut due) = (130, answers(131, None, Port::Control, &[]).1);
        while let Some(at) = due {
            last = (at - base).as_millis() as u64 + 1;
            due = answers(last, None, Port::Control, &[]).1;
            assert!(last < 12_000);
        }
        assert!(last > 9000, "nobody is told anything long after the last word: {last}");
    }
}

#[test]
fn tunnels_carry_it_all_with_keys_and_without() {
    for key in [None, Some(KeyLength::Aes128), Some(KeyLength::Aes256)] {
        for (delete_nulls, extended) in [(false, false), (true, false), (true, true)] {
            let mut setup = setup(21, Loss::Random(50), 1000);
            (setup.main, setup.key, setup.delete_nulls, setup.extended) = (true, key, delete_nulls, extended);
            setup.ts = 7;
            let pair = run(&setup, 600);
            assert_eq!(pair.lost(), 0, "{key:?} {delete_nulls} {extended}");
            assert!(pair.keys_derived <= 1);
            let tunnel = pair.receiver.leg_stats(pair.legs[0]).unwrap().tunnel.unwrap();
            assert_eq!((tunnel.invalid, tunnel.garbage, tunnel.in_clear), (0, 0, 0), "{tunnel:?}");
            let deleted = pair.sender.stats().nulls_deleted;
            assert_eq!(deleted > 200, delete_nulls, "{deleted}");
        }
    }
}

#[test]
fn more_than_a_turn_of_16_bits_fits_with_extended_numbers() {
    for extended in [false, true] {
        let mut setup = setup(23, Loss::Random(20), 2000);
        (setup.extended, setup.kept) = (extended, 200_000);
        let mut pair = setup.pair();
        // 80,000 in the buffer.
        pair.send(200_000, 25);
        pair.run(5 * S);
        let received = pair.receiver.stats();
        assert_eq!(received.early > 0, !extended, "{received:?}");
        pair.run(4 * S);
        assert_eq!((pair.lost() == 0, pair.receiver.stats().restarts), (true, 0), "{:?}", pair.receiver.stats());
    }
}

#[test]
fn an_outage_of_a_second_is_survived_as_one_stream() {
    let mut pair = setup(25, Loss::None, 1000).pair();
    pair.send(20_000, 200);
    pair.run(S);
    pair.change(0, 0, CLEAN.losing(Loss::Random(1000)));
    pair.run(1200 * MS);
    pair.change(0, 0, CLEAN);
    pair.run(S);
    finish(&mut pair);
    let received = pair.receiver.stats();
    assert_eq!(received.restarts, 0);
    assert!(received.recovered > 2000, "{received:?}");
    assert_eq!(pair.delivered.iter().filter(|delivered| delivered.discontinuity).count(), 0);
}

#[test]
fn a_leg_of_a_merge_asks_only_for_what_no_other_source_brought() {
    let (base, ms) = (Instant::now(), Duration::from_millis);
    let config = ReceiverConfig {
        latency: ms(500),
        reorder: ms(50),
        delivery: Delivery::AtOnce,
        ssrc: 0x9999_0000,
        cname: b"us".to_vec(),
        ntp: 0,
    };
    let mut receiver = Receiver::new(base, config);
    let rist = receiver.add_leg(Profile::Simple { feedback: None }).unwrap();
    let mut merger = Merger::new(ms(500));
    let (leg, other) = (merger.add_leg().unwrap(), merger.add_leg().unwrap());
    let (mut random, mut asked, mut repairs) = (Random(3), BTreeSet::new(), Vec::new());
    let (mut released, mut delivered, mut both) = (Vec::new(), 0, BTreeSet::new());
    let mut out = Vec::new();
    for n in 0..20_000_u32 {
        let now = base + ms(n.into());
        let header = Header::new(33, Seq(65_000_u16.wrapping_add(n as u16)), RtpTime(90 * n), 0x10);
        let packet = [&header.write()[..], &n.to_be_bytes()].concat();
        let header = Header::parse(&packet).unwrap();
        if n % 80 == 0 {
            let mut control = Vec::new();
            write_receiver_report(0x10, None, &mut control);
            write_source_description(0x10, b"them", &mut control);
            receiver.handle_datagram(now, now, From { leg: rist, port: Port::Control, remote: RemoteId(1) }, &control);
        }
        let take = |receiver: &mut Receiver, merger: &mut Merger, packet: &[u8]| {
            let from = From { leg: rist, port: Port::Media, remote: RemoteId(1) };
            if let Some(passed) = receiver.handle_datagram(now, now, from, packet) {
                merger.handle_packet(leg, now, passed.packet, &passed.header);
            }
        };
        let (lost, lost_there) = (n > 0 && random.below(10) == 0, n > 0 && random.below(10) == 0);
        if !lost {
            take(&mut receiver, &mut merger, &packet);
        }
        if !lost_there {
            merger.handle_packet(other, now, &packet, &header);
            receiver.have_elsewhere(now, now, &header);
        } else if lost {
            both.insert(header.seq.0);
        }
        // What is asked for comes 20 ms later.
        while repairs.first().is_some_and(|(at, _): &(u32, u16)| *at <= n) {
            let (_, seq) = repairs.remove(0);
            let place = u32::from(seq.wrapping_sub(65_000)) + (n & 0xFFFF_0000);
            let place = if place > n { place - 0x1_0000 } else { place };
            let again = Header::new(33, Seq(seq), RtpTime(90 * place), 0x11);
            take(&mut receiver, &mut merger, &[&again.write()[..], &place.to_be_bytes()].concat());
        }
        receiver.handle_timeout(now);
        while receiver.poll_transmit(now, &mut out).is_some() {
            for packet in Compound::parse(&out).unwrap().packets() {
                let Some(request) = super::super::nack::Request::read(&packet, 0x10) else { continue };
                for run in request.runs() {
                    for seq in (0..run.count).map(|step| run.first.wrapping_add(step as u16)) {
                        assert!(asked.insert(seq), "{seq} is asked for once");
                        repairs.push((n + 20, seq));
                    }
                }
            }
            out.clear();
        }
        merger.handle_timeout(now, &mut released);
        delivered += released.drain(..).count();
        merger.recycle();
    }
    let counters = merger.counters();
    assert_eq!((counters.unrecovered, counters.restarts), (0, 0), "{counters:?}");
    assert!(delivered > 19_400 && both.len() > 150);
    let stats = receiver.stats();
    assert!(asked.is_subset(&both), "{:?}", asked.difference(&both).collect::<Vec<_>>());
    assert!(asked.len() >= both.len() - 10 && stats.elsewhere > 1500, "{stats:?}");
}

#[test]
fn memory_is_what_is_buffered_and_an_idle_receiver_has_next_to_none() {
    let mut pair = setup(27, Loss::Random(20), 1000).pair();
    assert!(pair.receiver.memory() < 1024 && size_of::<Receiver>() < 2048, "{}", size_of::<Receiver>());
    pair.stream.ts = 7;
    pair.send(20_000, 500);
    pair.run(9 * S);
    let most = 2200 * (1328 + 150) + (1 << 20);
    assert!(pair.receiver.memory() < most, "{}", pair.receiver.memory());
    pair.run(10 * S);
    assert!(pair.receiver.memory() < 8 << 10, "{}", pair.receiver.memory());
}

#[test]
fn a_host_that_looks_rarely_or_always_gets_the_same() {
    for gather in [MS / 4, MS, 5 * MS, 20 * MS] {
        let mut setup = setup(29, Loss::Random(50), 1000);
        setup.legs[0][1] = CLEAN.losing(Loss::Random(50));
        let mut pair = setup.pair();
        pair.gather = gather;
        pair.send(5000, 1000);
        pair.run(5 * S);
        finish(&mut pair);
        assert_eq!(pair.lost(), 0, "{gather} us");
    }
}

#[test]
fn it_wakes_no_more_often_than_there_is_something_to_do() {
    let mut pair = setup(31, Loss::None, 1000).pair();
    pair.run(10 * S);
    // A report and an echo each way, and their answers, every 90 ms.
    assert!(pair.services < 10 * 12 * 4, "{} in 10 s without media", pair.services);
}

#[test]
fn what_waits_is_handed_on_at_once_where_a_merge_takes_over() {
    let config = ReceiverConfig {
        latency: Duration::from_secs(1),
        reorder: Duration::from_millis(25),
        delivery: Delivery::Buffered,
        ssrc: 2,
        cname: b"us".to_vec(),
        ntp: 0,
    };
    let now = Instant::now();
    let mut receiver = Receiver::new(now, config);
    let leg = receiver.add_leg(Profile::Simple { feedback: None }).unwrap();
    let from = From { leg, port: Port::Media, remote: RemoteId(1) };
    let packet = |n: u16| [&Header::new(33, Seq(n), RtpTime(u32::from(n) * 900), 4).write()[..], &[0x47; 188]].concat();
    let mut out = Vec::new();
    for n in 0..5 {
        assert_eq!(receiver.handle_datagram(now, now, from, &packet(n)), None);
    }
    receiver.release(now, &mut out);
    assert!(out.is_empty());
    receiver.set_delivery(Delivery::AtOnce);
    receiver.release(now, &mut out);
    assert_eq!(out.iter().map(|released| released.header.seq.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(receiver.held(out[4].slot), packet(4));
    receiver.recycle();
    assert_eq!(receiver.handle_datagram(now, now, from, &packet(5)).unwrap().packet, packet(5));
    // And back: what went through is not handed on again.
    receiver.set_delivery(Delivery::Buffered);
    assert_eq!(receiver.handle_datagram(now, now, from, &packet(6)), None);
    out.clear();
    receiver.release(now + Duration::from_secs(3), &mut out);
    assert_eq!(out.iter().map(|released| released.header.seq.0).collect::<Vec<_>>(), [6]);
    assert_eq!(receiver.stats().unrecovered, 0);
}

/// Anything, at any time, on any port.
fn hostile(seed: u64, main: bool) {
    let mut setup = setup(seed, Loss::Random(50), 200);
    setup.main = main;
    let mut pair = setup.pair();
    let mut random = Random(seed << 1 | 1);
    pair.forged = true;
    pair.send(2000, 1000);
    for _ in 0..200 {
        pair.run(10 * MS);
        let at = pair.instant(pair.now);
        for _ in 0..20 {
            let len = random.below(80) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
            let shape = random.below(4);
            if shape > 0 && len > 20 {
                bytes[0] = 0x80 | (bytes[0] & 0x13);
                bytes[1] = if shape == 1 { 33 } else { 200 + (bytes[1] & 7) };
                if shape == 1 {
                    let ssrc = 0x1234_5678 | u32::from(bytes[11] & 1);
                    bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
                } else {
                    bytes.truncate(len / 4 * 4);
                    bytes[2..4].copy_from_slice(&(len as u16 / 4 - 1).to_be_bytes());
                }
            }
            let port = [Port::Media, Port::Control, Port::Tunnel][random.below(3) as usize];
            let from = From { leg: pair.legs[0], port, remote: RemoteId(7) };
            pair.receiver.handle_datagram(at, at, from, &bytes);
            pair.sender.handle_datagram(at, at, pair.legs[0], &bytes);
        }
    }
    assert!(pair.receiver.memory() < 4 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn nothing_that_arrives_panics(seed in 0_u64..1 << 40, main: bool) {
        hostile(seed, main);
    }

    #[test]
    fn every_network_is_survived_in_order_and_byte_for_byte(
        seed in 0_u64..1 << 40, delay in 0_u64..150, jitter in 0_u64..30_000, loss in 0_u64..300, back in 0_u64..300,
        duplicates in 0_u64..100, reordered in 0_u64..100, latency in 50_u64..1500, first_seq: u16, main: bool,
    ) {
        let path = Path { jitter, duplicates, reordered, ..Path::of(delay).losing(Loss::Random(loss)) };
        let mut setup = Setup::new(seed, path, latency);
        setup.legs[0][1].loss = Loss::Random(back);
        (setup.first_seq, setup.main) = (first_seq, main);
        let mut pair = setup.pair();
        pair.send(1000, 1000);
        pair.run(5 * S);
        // In order, never twice and byte for byte is what the pair looks at.
        let stats = pair.receiver.stats();
        prop_assert_eq!(stats.restarts, 0);
        prop_assert!(pair.lost() as f64 <= 1000.0 * (loss as f64 / 1000.0 * 1.5) + 20.0 + stats.early as f64);
        let rounds = latency.saturating_sub(25 + jitter / 1000) / (2 * delay + jitter / 500 + 40);
        prop_assert!(rounds < 8 || loss > 100 || back > 100 || pair.lost() < 5, "{rounds} rounds, {:?}", stats);
    }
}
