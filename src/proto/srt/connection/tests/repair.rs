//! What is lost comes again; what cannot come any more is given up, and the stream goes on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::super::control::Control;
use super::super::super::packet::Packet;
use super::super::super::testing::*;
use super::super::*;

/// 40 ms there and back.
const PATH: Path = Path::of(20);

/// Lose the first packets that are like this.
fn lose_first(pair: &mut Pair, packets: u32, like: impl Fn(usize, &Packet<'_>) -> bool + 'static) {
    let mut left = packets;
    pair.tap = Some(Box::new(move |end, _, packet| {
        let lost = left > 0 && like(end, packet);
        left -= u32::from(lost);
        !lost
    }));
}

/// Count the packets that are like this.
fn count(pair: &mut Pair, like: impl Fn(usize, &Packet<'_>) -> bool + 'static) -> Rc<Cell<u64>> {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    pair.tap = Some(Box::new(move |end, _, packet| {
        counter.set(counter.get() + u64::from(like(end, packet)));
        true
    }));
    count
}

#[test]
fn whatever_control_packets_are_lost_nothing_else_is() {
    type Like = fn(usize, &Packet<'_>) -> bool;
    let kinds: [(&str, Like); 6] = [
        ("ACK", |_, packet| matches!(packet, Packet::Control { control: Control::Ack(_), .. })),
        ("light ACK", |_, packet| matches!(packet, Packet::Control { control: Control::LightAck(_), .. })),
        ("ACKACK", |_, packet| matches!(packet, Packet::Control { control: Control::AckAck(_), .. })),
        ("NAK", |_, packet| matches!(packet, Packet::Control { control: Control::Nak(_), .. })),
        ("keepalive", |_, packet| matches!(packet, Packet::Control { control: Control::KeepAlive, .. })),
        ("all of one end", |end, _| end == 1),
    ];
    for (name, like) in kinds {
        for lost in [1, 2, 5] {
            let mut pair = Setup::new(1, PATH.losing(Loss::Random(20)), 320).pair();
            lose_first(&mut pair, lost, like);
            pair.send(0, 3000, 500);
            pair.run(3 * S);
            assert_eq!((pair.lost(), pair.ends[1].gaps), (0, 0), "the first {lost} of {name}");
        }
    }
}

#[test]
fn the_end_of_a_stream_is_repaired_without_anything_after_it() {
    for lost in 1..10 {
        let mut pair = Setup::new(1, PATH, 320).pair();
        lose_first(&mut pair, lost, move |_, packet| match packet {
            Packet::Data(header, _) => header.message.value() > 100 - lost,
            Packet::Control { .. } => false,
        });
        pair.send(0, 100, 1000);
        pair.run(2 * S);
        assert_eq!(pair.lost(), 0, "the last {lost}");
        assert_eq!(pair.stats(0).sent.probes, 1);
    }
}

#[test]
fn one_lost_packet_is_reported_and_sent_again_once() {
    let mut pair = Setup::new(1, PATH, 800).pair();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    pair.tap = Some(Box::new(move |_, now, packet| match packet {
        Packet::Data(header, _) if header.message.value() == 500 => {
            log.borrow_mut().push((now, "data"));
            header.retransmitted
        }
        Packet::Control { control: Control::Nak(_), .. } => {
            log.borrow_mut().push((now, "NAK"));
            true
        }
        _ => true,
    }));
    pair.send(0, 1000, 1000);
    pair.run(3 * S);
    let seen = seen.borrow();
    assert_eq!(pair.lost(), 0);
    let kinds: Vec<_> = seen.iter().map(|(_, kind)| *kind).collect();
    // The round trip is too short for a report that is made twice to be told from a new one.
    assert_eq!(kinds, ["data", "NAK", "data"]);
    assert!(
        seen[1].0 - seen[0].0 <= 20 * MS + 1000 + 5 * MS,
        "the next packet shows it, after the way to the other end"
    );
    let stats = pair.stats(1).received;
    assert_eq!((stats.lost, stats.recovered, stats.duplicates, stats.retransmitted), (1, 1, 0, 1));
    assert_eq!(pair.stats(0).sent.lost, 1);
}

#[test]
fn what_was_only_out_of_order_when_it_was_read_is_not_reported() {
    let path = Path { reordered: 200, ..PATH };
    let mut setup = Setup::new(2, path, 320);
    setup.paths[1] = PATH;
    let mut pair = setup.pair();
    pair.ends[1].gather = 20 * MS;
    let naks = count(&mut pair, |_, packet| matches!(packet, Packet::Control { control: Control::Nak(_), .. }));
    pair.send(0, 1000, 1000);
    pair.run(3 * S);
    assert_eq!(pair.lost(), 0);
    let stats = pair.stats(1).received;
    assert!(stats.reorder_distance >= 5 && stats.lost > 100, "{stats:?}");
    assert!(naks.get() * 5 < stats.lost, "{} reports for {} that were missing", naks.get(), stats.lost);
}

#[test]
fn with_a_reorder_tolerance_less_is_reported_and_nothing_more_lost() {
    let naks = [0, 12].map(|tolerance| {
        let mut setup = Setup::new(2, Path { reordered: 100, ..PATH }, 320);
        setup.config.reorder_tolerance = tolerance;
        let mut pair = setup.pair();
        pair.ends[1].gather = 1;
        let naks = count(&mut pair, |_, packet| matches!(packet, Packet::Control { control: Control::Nak(_), .. }));
        pair.send(0, 2000, 1000);
        pair.run(3 * S);
        assert_eq!(pair.lost(), 0);
        naks.get()
    });
    assert!(naks[1] == 0 && naks[0] > 50, "{naks:?}");
    // What is lost at the end of a stream is not waited for either.
    let mut setup = Setup::new(2, PATH, 320);
    setup.config.reorder_tolerance = 100;
    let mut pair = setup.pair();
    lose_first(&mut pair, 1, |_, packet| matches!(packet, Packet::Data(header, _) if header.message.value() == 95));
    pair.send(0, 100, 1000);
    pair.run(S);
    assert_eq!(pair.lost(), 0);
}

#[test]
fn when_the_latency_is_too_short_the_gap_is_given_up_in_time() {
    let mut pair = Setup::new(3, PATH, 30).pair();
    lose_first(&mut pair, 3, |_, packet| matches!(packet, Packet::Data(header, _) if header.message.value() > 500));
    pair.send(0, 1000, 1000);
    pair.run(2 * S);
    assert_eq!((pair.lost(), pair.ends[1].gaps), (3, 3));
    let stats = pair.stats(1).received;
    assert_eq!((stats.dropped, stats.belated), (3, 3), "they came when their place was given up");
    assert!(stats.belated_us / stats.belated < 60_000);
    assert_eq!(pair.ends[1].due_error, Some((0, 0)), "what came is not held up");
}

#[test]
fn many_packets_are_acknowledged_lightly_in_between() {
    let mut pair = Setup::new(4, PATH, 120).pair();
    // They look all the time.
    pair.ends[0].gather = 1;
    pair.ends[1].gather = 1;
    pair.send(0, 20_000, 50);
    pair.run(2 * S);
    assert_eq!(pair.lost(), 0);
    let stats = pair.stats(1).received;
    assert!((95..=115).contains(&stats.acks), "one in 10 ms for a second: {}", stats.acks);
    assert!((150..=320).contains(&stats.light_acks), "one in 64 packets: {}", stats.light_acks);
}

#[test]
fn nothing_is_acknowledged_when_nothing_comes() {
    let mut pair = Setup::new(5, PATH, 120).pair();
    pair.send(0, 1000, 1000);
    pair.run(2 * S);
    let acks = pair.stats(1).received.acks;
    assert!(acks <= 105, "{acks}");
    let sent = count(&mut pair, |_, packet| !matches!(packet, Packet::Control { control: Control::KeepAlive, .. }));
    let services = pair.ends[0].services + pair.ends[1].services;
    pair.run(60 * S);
    assert_eq!((pair.stats(1).received.acks, sent.get()), (acks, 0));
    let services = pair.ends[0].services + pair.ends[1].services - services;
    assert!(services <= 250, "two wakes a second for an end that is idle: {services} in a minute");
}

#[test]
fn an_acknowledgement_is_repeated_until_it_is_confirmed_and_not_once_more() {
    let mut pair = Setup::new(6, PATH, 120).pair();
    lose_first(&mut pair, 3, |_, packet| matches!(packet, Packet::Control { control: Control::AckAck(_), .. }));
    pair.send(0, 1, 1000);
    pair.run(10 * S);
    assert_eq!(pair.stats(1).received.acks, 4);
}

#[test]
fn no_more_is_in_flight_than_the_peer_has_room_for() {
    let mut setup = Setup::new(7, PATH, 120);
    (setup.flow_window, setup.config.receive_packets) = (128, 128);
    let mut pair = setup.pair();
    pair.send(0, 15_000, 300);
    for _ in 0..2000 {
        pair.run(5 * MS);
        let stats = pair.stats(0);
        assert!(stats.in_flight <= 120 && stats.in_flight <= stats.flow_window.max(120), "{stats:?}");
    }
    let stats = pair.stats(1).received;
    assert_eq!(stats.no_room, 0, "nothing was sent that had no room");
    // 120 packets in 40 ms and more are fewer than 3333 a second: some are left out before they are sent.
    assert!(pair.stats(0).sent.dropped > 0);
    assert_eq!(pair.stats(0).sent.dropped, pair.lost());
    // The buffer was full, and is not any more.
    pair.run(2 * S);
    let before = pair.ends[1].delivered;
    pair.send(0, 300, 5000);
    pair.run(3 * S);
    assert_eq!(pair.ends[1].delivered - before, 300);
}

#[test]
fn a_buffer_that_was_full_tells_of_its_room_even_if_that_is_lost() {
    let mut setup = Setup::new(8, PATH, 1000);
    (setup.flow_window, setup.config.receive_packets) = (10_000, 100);
    let mut pair = setup.pair();
    let zero = Rc::new(Cell::new(false));
    let seen = zero.clone();
    let mut lost = 0;
    pair.tap = Some(Box::new(move |_, _, packet| match packet {
        Packet::Control { control: Control::Ack(ack), .. } => {
            seen.set(seen.get() || ack.free_packets == 0);
            // The first five that tell of room after there was none.
            let relief = seen.get() && ack.free_packets > 0 && lost < 5;
            lost += u32::from(relief);
            !relief
        }
        _ => true,
    }));
    pair.send(0, 100, 1000);
    pair.run(S);
    assert!(zero.get(), "the buffer was full");
    pair.send(0, 50, 1000);
    pair.run(5 * S);
    assert_eq!(pair.lost(), 0);
}

/// 40,000 packets a second: the whole flow window is in flight when the network breaks, and all of it is given up.
#[test]
fn after_an_interruption_of_three_seconds_the_stream_goes_on() {
    for latency in [120, 1000] {
        let mut pair = Setup::new(9, PATH, latency).pair();
        pair.ends[0].stream.bytes = 8;
        pair.send(0, 300_000, 50);
        pair.run(S);
        let dead = PATH.losing(Loss::Random(1000));
        pair.change(0, dead);
        pair.change(1, dead);
        pair.run(3 * S);
        pair.change(0, PATH);
        pair.change(1, PATH);
        pair.run(2 * S);
        let (first, before) = (pair.ends[1].last_index.unwrap(), pair.ends[1].delivered);
        pair.run(S);
        let (last, after) = (pair.ends[1].last_index.unwrap(), pair.ends[1].delivered);
        assert_eq!(last - first, after - before, "nothing is lost any more");
        assert!((19_000..=21_000).contains(&(after - before)), "{} packets in a second", after - before);
        assert_eq!(pair.stats(1).invalid + pair.stats(0).invalid, 0);
    }
}

#[test]
fn a_sender_that_stood_still_leaves_out_what_is_too_old_and_no_number() {
    let mut pair = Setup::new(10, PATH, 120).pair();
    pair.send(0, 10_000, 500);
    pair.run(S);
    pair.ends[0].asleep_until = pair.now + 4 * S;
    pair.run(7 * S);
    let (sent, received) = (pair.stats(0).sent, pair.stats(1).received);
    assert_eq!(pair.lost(), sent.dropped);
    // All but those of the last second, and of what the budget of a burst and the pace allow.
    assert!((5500..=6100).contains(&sent.dropped), "{sent:?}");
    assert_eq!((received.jumps, received.no_room, received.lost), (0, 0, 0), "{received:?}");
}

#[test]
fn what_the_history_does_not_have_any_more_is_given_up() {
    let mut pair = Setup::new(11, PATH.losing(Loss::Random(50)), 2000).pair();
    pair.ends[0].stream.kept = 50;
    pair.send(0, 5000, 1000);
    pair.run(8 * S);
    let (sent, received) = (pair.stats(0).sent, pair.stats(1).received);
    // What is answered within 50 ms is there: the first time.
    assert!(pair.lost() < 100 && sent.dropped > 0, "{} lost, {sent:?}", pair.lost());
    assert_eq!(received.dropped, pair.lost());
    let stuck = pair.stats(1).buffered;
    assert_eq!(stuck, 0);
}

/// Lost of 50,000, in 8 runs with outages of 150 ms in 5 s.
fn outages(config: &ConnectionConfig) -> u64 {
    let outages = Path::of(50).losing(Loss::Bursts(5000, 150));
    let lost = |seed| {
        let mut setup = Setup::new(seed, Path::of(50), 600);
        setup.paths[0] = outages;
        setup.config = config.clone();
        let mut pair = setup.pair();
        pair.ends[0].stream.bytes = 100;
        pair.send(0, 20_000, 1000);
        pair.run(23 * S);
        pair.lost()
    };
    (1..9).map(lost).sum()
}

#[test]
fn a_budget_as_large_as_the_stream_repairs_what_a_quarter_does_not() {
    let with = |retransmit_percent| ConnectionConfig { retransmit_percent, ..ConnectionConfig::default() };
    let lost = [25, 100].map(|percent| outages(&with(percent)));
    assert!(lost[0] > 0 && lost[1] == 0, "{lost:?}");
}

/// 1000 packets of 144 bytes with headers, and a pace of 1.3 times that.
#[test]
fn where_the_pace_is_short_losses_go_first() {
    let with =
        |order| ConnectionConfig { order, max_bandwidth: 1000 * 144 * 8 * 13 / 10, ..ConnectionConfig::default() };
    let lost = [SendOrder::LossesFirst, SendOrder::FreshFirst].map(|order| outages(&with(order)));
    assert!(lost[0] * 3 < lost[1], "{lost:?}");
}

#[test]
fn never_more_leaves_than_the_pace_allows() {
    let mut setup = Setup::new(12, PATH, 120);
    setup.config.max_bandwidth = 8 * 144 * 2000;
    let mut pair = setup.pair();
    pair.ends[0].stream.bytes = 100;
    let sent = count(&mut pair, |_, packet| matches!(packet, Packet::Data(..)));
    pair.send(0, 100_000, 100);
    pair.run(S);
    let before = sent.get();
    pair.run(S);
    assert!((1960..=2040).contains(&(sent.get() - before)), "{} packets in a second", sent.get() - before);
}

#[test]
fn a_train_ends_after_its_packets_and_goes_on_when_asked_again() {
    let mut setup = Setup::new(13, PATH, 120);
    setup.config.train = 4;
    let mut pair = setup.pair();
    pair.ends[0].gather = 20 * MS;
    pair.send(0, 19, 1000);
    pair.ends[0].feed(18 * MS);
    let (end, now) = (&mut pair.ends[0], 20 * MS);
    let now = end.instant(now);
    let mut trains = Vec::new();
    while end.connection.poll_timeout().is_some_and(|due| due <= now) || trains.is_empty() {
        let packets = std::iter::from_fn(|| end.connection.poll_data(now, &end.stream)).count();
        trains.push(packets);
    }
    assert_eq!(trains, [4, 4, 4, 4, 3]);
}
