//! What wraps, and clocks that run apart.

use super::super::super::control::Control;
use super::super::super::packet::Packet;
use super::super::super::seq::SeqNo;
use super::super::super::testing::*;

const LOSSY: Path = Path { jitter: 2 * MS, ..Path::of(20).losing(Loss::Random(50)) };

#[test]
fn sequence_numbers_wrap_while_packets_are_lost() {
    for isn in [0, 1, 0x7FFF_FFFE, 0x7FFF_FFFF, 0x7FFF_FF00, 0x3FFF_FFF0] {
        let mut pair = Setup { isn: SeqNo::new(isn), ..Setup::new(5, LOSSY, 240) }.pair();
        pair.send(0, 2000, 500);
        pair.send(1, 2000, 500);
        pair.run(3 * S);
        assert_eq!((pair.ends[0].delivered, pair.ends[1].delivered), (2000, 2000), "from {isn:#x} on");
        assert_eq!(pair.stats(1).invalid + pair.stats(0).invalid, 0);
    }
}

#[test]
fn time_stamps_wrap_after_71_minutes_while_packets_are_lost() {
    let began = (1 << 32) - 5 * S;
    let mut pair = Setup { began, ..Setup::new(6, LOSSY, 240) }.pair();
    pair.send(0, 10_000, 1000);
    pair.send(1, 10_000, 1000);
    pair.run(12 * S);
    for end in &pair.ends {
        assert_eq!((end.delivered, end.gaps), (10_000, 0));
        let (least, most) = end.due_error.unwrap();
        assert!(least >= -3000 && most <= 3000, "each is delivered in its time: {least} to {most} us");
    }
}

#[test]
fn a_stream_that_pauses_for_more_than_a_turn_of_the_time_stamps_goes_on() {
    let mut pair = Setup::new(7, Path::of(20), 120).pair();
    pair.send(0, 100, 1000);
    pair.run(73 * 60 * S);
    assert_eq!(pair.ends[1].delivered, 100);
    pair.ends[0].first_packet += pair.now - 100 * MS;
    pair.send(0, 100, 1000);
    pair.run(S);
    assert_eq!((pair.ends[1].delivered, pair.ends[1].gaps), (200, 0));
    let stats = pair.stats(1).received;
    assert_eq!((stats.belated, stats.no_room, stats.dropped), (0, 0, 0));
    let (least, most) = pair.ends[1].due_error.unwrap();
    assert!(least >= -10 && most <= 10, "{least} to {most} us");
}

/// Two packets a second, and 0.1 % of them lost.
fn a_day_of_clocks_that_run_apart(ppm: [i64; 2]) {
    let path = Path { jitter: 2 * MS, ..Path::of(20).losing(Loss::Random(1)) };
    let mut pair = Setup { ppm, ..Setup::new(8, path, 250) }.pair();
    pair.send(0, 172_800, 500_000);
    pair.run(86_400 * S + S);
    let end = &pair.ends[1];
    assert_eq!((end.delivered, end.gaps), (172_800, 0));
    let (least, most) = end.due_error.unwrap();
    // The clocks ran apart by 8.64 s.
    assert!(least >= -13_000 && most <= 13_000, "{ppm:?}: {least} to {most} us");
}

#[test]
fn for_24_hours_the_sender_s_clock_runs_fast_by_100_millionths() {
    a_day_of_clocks_that_run_apart([100, 0]);
}

#[test]
fn for_24_hours_the_sender_s_clock_runs_slow_by_100_millionths() {
    a_day_of_clocks_that_run_apart([-100, 0]);
}

/// An ACK every 10 ms, and as often a sample of the peer's clock.
#[test]
fn for_ten_minutes_packets_keep_their_time_to_four_milliseconds() {
    for ppm in [[100, 0], [0, 100]] {
        let path = Path { jitter: 2 * MS, ..Path::of(20).losing(Loss::Random(10)) };
        let mut pair = Setup { ppm, ..Setup::new(9, path, 120) }.pair();
        pair.send(0, 60_000, 10_000);
        pair.run(601 * S);
        let end = &pair.ends[1];
        assert_eq!((end.delivered, end.gaps), (60_000, 0));
        let (least, most) = end.due_error.unwrap();
        assert!(least >= -4000 && most <= 4000, "{ppm:?}: {least} to {most} us");
    }
}

#[test]
fn each_direction_has_its_own_latency() {
    let setup = Setup { latency: [80, 400], ..Setup::new(10, Path::of(10), 0) };
    let mut pair = setup.pair();
    pair.send(0, 1000, 1000);
    pair.send(1, 1000, 1000);
    pair.run(2 * S);
    for (end, latency) in pair.ends.iter().zip([80, 400]) {
        assert_eq!(end.delivered, 1000);
        assert_eq!(end.due_error, Some((0, 0)), "10 ms and {latency} ms after they came into being");
    }
    let (first, second) = (pair.stats(0), pair.stats(1));
    assert_eq!((first.receive_latency.as_millis(), first.send_latency.as_millis()), (80, 400));
    assert_eq!((second.receive_latency.as_millis(), second.send_latency.as_millis()), (400, 80));
}

/// What comes late because it was read late is not taken for jitter or drift.
#[test]
fn packets_that_are_read_20_ms_late_are_due_when_they_were() {
    let mut pair = Setup::new(11, Path::of(10), 120).pair();
    pair.ends[0].gather = 20 * MS;
    pair.ends[1].gather = 20 * MS;
    pair.send(0, 30_000, 1000);
    pair.run(31 * S);
    let end = &pair.ends[1];
    assert_eq!((end.delivered, end.gaps), (30_000, 0));
    let (least, most) = end.due_error.unwrap();
    // Half of what one round trip differs from the first: the ACKACK waits for up to 20 ms at the other end.
    assert!(least >= -10_000 && most <= 10_000, "{least} to {most} us");
}

#[test]
fn a_data_packet_that_is_sent_again_keeps_its_time_stamp_and_message() {
    let mut pair = Setup::new(12, LOSSY, 240).pair();
    let first = std::rc::Rc::new(std::cell::RefCell::new(std::collections::BTreeMap::new()));
    let again = std::rc::Rc::new(std::cell::Cell::new(0));
    let (seen, count) = (first, again.clone());
    pair.tap = Some(Box::new(move |_, _, packet| {
        let Packet::Data(header, payload) = packet else { return true };
        let mut plain = *header;
        plain.retransmitted = false;
        let known = (plain, payload.to_vec());
        match seen.borrow_mut().entry(header.seq.value()) {
            std::collections::btree_map::Entry::Vacant(place) => {
                assert!(!header.retransmitted);
                place.insert(known);
            }
            std::collections::btree_map::Entry::Occupied(there) => {
                assert!(header.retransmitted);
                assert_eq!(*there.get(), known);
                count.set(count.get() + 1);
            }
        }
        true
    }));
    pair.send(0, 3000, 1000);
    pair.run(4 * S);
    assert!(again.get() > 100);
    assert_eq!(again.get(), pair.stats(0).sent.retransmitted);
}

#[test]
fn the_first_message_has_number_one() {
    let mut pair = Setup::new(13, Path::of(1), 120).pair();
    let messages = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = messages.clone();
    pair.tap = Some(Box::new(move |_, _, packet| {
        match packet {
            Packet::Data(header, _) => seen.borrow_mut().push(header.message.value()),
            Packet::Control { control: Control::Nak(_), .. } => panic!("nothing is missing"),
            Packet::Control { .. } => {}
        }
        true
    }));
    pair.send(0, 3, 1000);
    pair.run(S);
    assert_eq!(*messages.borrow(), [1, 2, 3]);
}
