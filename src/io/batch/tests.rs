use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::io::clock::Arrival;
use crate::io::open::{Family, ReceiveSpec, SendSpec, Sender, open_receiver, open_sender};
use crate::io::testing::{
    LOCAL, dead_address, in_own_network, ip, payloads, readable, readable_within, receiver, run, sender, spec,
};

/// A payload that says which it is.
fn numbered(n: usize, len: usize) -> Vec<u8> {
    let mut payload = vec![n as u8; len.max(8)];
    payload[..8].copy_from_slice(&(n as u64).to_be_bytes());
    payload
}

fn target(address: SocketAddr) -> Target {
    Target::new(address, None, 0, None)
}

/// Sends `datagrams` to each target; the outcome for each.
fn send(sender: &Sender, targets: &[Target], limit: TrainLimit, datagrams: &[Vec<u8>]) -> Vec<Outcome> {
    let mut batch = SendBatch::new();
    let mut session = batch.session();
    session.begin(limit);
    for d in datagrams {
        session.push(&[], d);
    }
    let trains = session.finish();
    for (tag, t) in targets.iter().enumerate() {
        session.message(t, trains, tag as u32);
    }
    let mut outcomes = Vec::new();
    session.flush(sender, |report| match report {
        Report::Message { tag, outcome } => {
            assert_eq!(tag as usize, outcomes.len());
            outcomes.push(outcome);
        }
        Report::Unreachable { .. } => {}
    });
    outcomes
}

#[test]
fn one_flush_serves_several_targets_with_trains_of_different_sizes() {
    let (a, a_address) = receiver(LOCAL);
    let (b, b_address) = receiver(LOCAL);
    let sender = sender(Family::V4);
    let large: Vec<_> = (0..8).map(|n| numbered(n, if n < 7 { 1316 } else { 188 })).collect();
    let small: Vec<_> = (0..3).map(|n| numbered(n, 1000)).collect();
    let mut batch = SendBatch::new();
    let mut session = batch.session();
    session.begin(TrainLimit::MAX);
    large.iter().for_each(|d| session.push(&[], d));
    let large_trains = session.finish();
    session.begin(TrainLimit::MAX);
    small.iter().for_each(|d| session.push(b"header", d));
    let small_trains = session.finish();
    assert_eq!((large_trains.datagrams(), large_trains.bytes()), (8, 7 * 1316 + 188));
    assert_eq!((small_trains.datagrams(), small_trains.bytes()), (3, 3018));
    session.message(&target(a_address), large_trains, 7);
    session.message(&target(b_address), small_trains, 8);
    session.message(&target(b_address), large_trains, 9);
    let mut reports = Vec::new();
    session.flush(&sender, |r| reports.push(r));
    let sent =
        |tag, sent, sent_bytes| Report::Message { tag, outcome: Outcome { sent, sent_bytes, ..Outcome::default() } };
    assert_eq!(reports, [sent(7, 8, 9400), sent(8, 3, 3018), sent(9, 8, 9400)]);

    let mut input = ReceiveBatch::default();
    assert_eq!(payloads(&mut input, &a, 8), large);
    let with_header: Vec<_> = small.iter().map(|d| [b"header", &d[..]].concat()).collect();
    assert_eq!(payloads(&mut input, &b, 11), [with_header, large].concat());
}

#[test]
fn a_session_can_flush_to_both_families_and_go_on() {
    let (a, a_address) = receiver(LOCAL);
    let (b, b_address) = receiver(Ipv6Addr::LOCALHOST.into());
    let datagrams = [numbered(1, 500), numbered(2, 500)];
    let mut batch = SendBatch::default();
    for _ in 0..2 {
        let mut session = batch.session();
        session.begin(TrainLimit::new(10));
        datagrams.iter().for_each(|d| session.push(&[], d));
        let trains = session.finish();
        session.message(&target(a_address), trains, 0);
        session.flush(&sender(Family::V4), |r| assert!(matches!(r, Report::Message { tag: 0, .. })));
        session.message(&target(b_address), trains, 1);
        session.flush(&sender(Family::V6), |r| assert!(matches!(r, Report::Message { tag: 1, .. })));
    }
    let mut input = ReceiveBatch::default();
    let twice = [&datagrams[..], &datagrams[..]].concat();
    assert_eq!(payloads(&mut input, &a, 4), twice);
    assert_eq!(payloads(&mut input, &b, 4), twice);
    assert_eq!(input.datagrams().last().unwrap().source.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
}

#[test]
fn what_is_not_flushed_is_not_sent() {
    let (a, address) = receiver(LOCAL);
    let sender = sender(Family::V4);
    let mut batch = SendBatch::new();
    let lost = numbered(1, 100);
    let mut session = batch.session();
    session.push(&[], &lost);
    let trains = session.finish();
    session.message(&target(address), trains, 0);
    drop(lost);
    batch.session().flush(&sender, |r| panic!("{r:?}"));
    let sent = [numbered(2, 100)];
    send(&sender, &[target(address)], TrainLimit::SINGLE, &sent);
    assert_eq!(payloads(&mut ReceiveBatch::default(), &a, 1), sent);
}

#[test]
fn empty_datagrams_and_trains_are_what_they_are() {
    let (a, address) = receiver(LOCAL);
    let sender = sender(Family::V4);
    assert_eq!(send(&sender, &[target(address)], TrainLimit::MAX, &[]), [Outcome::default()]);
    let datagrams = [vec![], vec![], vec![1], vec![], vec![2, 3]];
    let outcomes = send(&sender, &[target(address)], TrainLimit::MAX, &datagrams);
    assert_eq!(outcomes, [Outcome { sent: 5, sent_bytes: 3, ..Outcome::default() }]);
    assert_eq!(payloads(&mut ReceiveBatch::default(), &a, 5), datagrams);
}

#[test]
fn what_gro_joined_is_taken_apart() {
    let gro = open_receiver(&ReceiveSpec { gro: true, ..spec(LOCAL, 0) }).unwrap();
    let datagrams: Vec<_> = (0..10).map(|n| numbered(n, if n < 9 { 1316 } else { 188 })).collect();
    send(&sender(Family::V4), &[target(gro.local_addr().unwrap())], TrainLimit::MAX, &datagrams);
    let mut input = ReceiveBatch::default();
    assert!(readable(&gro));
    assert_eq!(input.receive(&gro).unwrap().messages, 1);
    assert!(input.datagrams().map(|d| d.payload.to_vec()).eq(datagrams.clone()));

    assert!(gro.set_gro(false));
    send(&sender(Family::V4), &[target(gro.local_addr().unwrap())], TrainLimit::MAX, &datagrams);
    assert_eq!(payloads(&mut input, &gro, 10), datagrams);
    assert_eq!(input.receive(&gro).unwrap(), Received::default());
    assert_eq!(input.datagrams().count(), 0);
}

#[test]
fn datagrams_that_the_kernel_dropped_are_counted() {
    let tight = open_receiver(&ReceiveSpec { receive_buffer: 8 << 10, ..spec(LOCAL, 0) }).unwrap();
    let target = [target(tight.local_addr().unwrap())];
    let sender = sender(Family::V4);
    let datagrams: Vec<_> = (0..50).map(|n| numbered(n, 1316)).collect();
    send(&sender, &target, TrainLimit::SINGLE, &datagrams);
    let mut input = ReceiveBatch::default();
    assert!(readable(&tight));
    let first = input.receive(&tight).unwrap();
    assert!(first.messages < 50 && first.overflow.is_none());
    // The next one says how many were lost before it.
    send(&sender, &target, TrainLimit::SINGLE, &datagrams[..1]);
    assert!(readable(&tight));
    let next = input.receive(&tight).unwrap();
    assert_eq!(next.overflow, Some(50 - first.messages as u32));
}

#[test]
fn a_batch_that_is_full_says_that_more_may_wait() {
    let (a, address) = receiver(LOCAL);
    let datagrams: Vec<_> = (0..10).map(|n| numbered(n, 20)).collect();
    send(&sender(Family::V4), &[target(address)], TrainLimit::SINGLE, &datagrams);
    let mut input = ReceiveBatch::new(4);
    let full: Vec<_> = (0..3).map(|_| input.receive(&a).unwrap()).map(|r| (r.messages, r.full)).collect();
    assert_eq!(full, [(4, true), (4, true), (2, false)]);
}

#[test]
fn each_datagram_has_the_time_of_its_arrival_however_sockets_share_the_batch() {
    let stamped = open_receiver(&ReceiveSpec { timestamps: true, ..spec(LOCAL, 0) }).unwrap();
    let (plain, plain_address) = receiver(LOCAL);
    let sender = sender(Family::V4);
    let targets = [target(stamped.local_addr().unwrap()), target(plain_address)];
    let mut input = ReceiveBatch::new(8);
    let start = Arrival::now();
    // A message without control data must not take the room of the next one's.
    for n in 0..20 {
        send(&sender, &targets, TrainLimit::SINGLE, &[numbered(n, 100), numbered(n, 50)]);
        assert!(readable(&plain));
        assert_eq!(input.receive(&plain).unwrap().messages, 2);
        assert!(input.datagrams().all(|d| d.arrival.is_none()));
        assert!(readable(&stamped));
        assert_eq!(input.receive(&stamped).unwrap().messages, 2);
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        for d in input.datagrams() {
            let arrival = d.arrival.unwrap();
            assert!(arrival.since(start) < Duration::from_secs(60));
            assert!(u128::from(arrival.as_nanos()) <= age);
        }
    }
}

#[test]
fn a_dead_destination_costs_the_others_nothing_and_is_the_only_one_named() {
    let (alive, alive_address) = receiver(LOCAL);
    let dead_address = dead_address();
    let sender = sender(Family::V4);
    let targets = [target(alive_address), target(dead_address), target(alive_address)];
    let mut batch = SendBatch::new();
    let mut input = ReceiveBatch::default();
    let (mut received, mut unreachable) = (Vec::new(), 0);
    let mut refused = |destination, error| {
        assert_eq!((destination, error), (dead_address, SendError::ConnectionRefused));
        unreachable += 1;
    };
    for round in 0..1000 {
        let (payload, last) = (numbered(round, 200), numbered(round + 1000, 200));
        let mut session = batch.session();
        session.begin(TrainLimit::new(2));
        session.push(&[], &payload);
        session.push(&[], &last);
        let trains = session.finish();
        for (tag, t) in targets.iter().enumerate() {
            session.message(t, trains, tag as u32);
        }
        session.flush(&sender, |report| match report {
            Report::Message { tag, outcome } => {
                assert_eq!((outcome.dropped, outcome.sent), (0, 2), "round {round}, message {tag}: {outcome:?}");
            }
            Report::Unreachable { destination, error } => refused(destination, error),
        });
        received.extend(payloads(&mut input, &alive, 4).iter().map(|p| u64::from_be_bytes(p[..8].try_into().unwrap())));
    }
    sender.drain_errors(&mut refused);
    let expected: Vec<_> = (0..1000).flat_map(|n| [n, n + 1000, n, n + 1000]).collect();
    assert_eq!(received, expected);
    // The kernel limits how often it says so.
    assert!(unreachable > 0);
}

#[test]
fn a_dead_destination_is_named_on_ipv6_too() {
    let dead = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let sender = sender(Family::V6);
    let mut named = Vec::new();
    // The kernel limits how often it says so for the whole host, so one datagram may not be enough.
    for _ in 0..100 {
        send(&sender, &[target(dead)], TrainLimit::SINGLE, &[numbered(0, 10)]);
        // The error queue makes a socket readable.
        if readable_within(&sender, 100) {
            sender.drain_errors(|destination, error| named.push((destination, error)));
            break;
        }
    }
    assert_eq!(named.first(), Some(&(dead, SendError::ConnectionRefused)));
}

#[test]
fn messages_that_are_refused_cost_only_themselves() {
    let (a, address) = receiver(LOCAL);
    let sender = sender(Family::V4);
    // Nothing can be sent to port 0, or over an interface that does not exist, or from IPv4 to IPv6.
    let nowhere = target(SocketAddr::new(LOCAL, 0));
    let no_interface = Target::new(address, None, 0, Some(u32::MAX >> 1));
    let family = target(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 9));
    let targets: Vec<_> =
        (0..100).flat_map(|_| [target(address), nowhere.clone(), no_interface.clone(), family.clone()]).collect();
    let datagrams = [numbered(1, 100), numbered(2, 100), numbered(3, 50)];
    let outcomes = send(&sender, &targets, TrainLimit::MAX, &datagrams);
    assert_eq!(outcomes.len(), 400);
    for (i, outcome) in outcomes.iter().enumerate() {
        if i % 4 == 0 {
            assert_eq!(*outcome, Outcome { sent: 3, sent_bytes: 250, ..Outcome::default() });
        } else {
            assert_eq!((outcome.sent, outcome.dropped, outcome.segmentation_refused), (0, 3, false), "{i}");
            assert!(outcome.error.is_some());
        }
    }
    assert_eq!(payloads(&mut ReceiveBatch::default(), &a, 300), vec![datagrams; 100].concat());
}

#[test]
fn a_datagram_too_long_for_udp_is_dropped_alone() {
    let (a, address) = receiver(LOCAL);
    let datagrams = [numbered(1, 100), numbered(2, 65_508), numbered(3, 65_507), numbered(4, 100)];
    let outcomes = send(&sender(Family::V4), &[target(address)], TrainLimit::MAX, &datagrams);
    let error = Some(SendError::MessageTooLong);
    assert_eq!(outcomes, [Outcome { sent: 3, sent_bytes: 65_707, dropped: 1, error, segmentation_refused: false }]);
    assert!(payloads(&mut ReceiveBatch::default(), &a, 3).iter().eq([&datagrams[0], &datagrams[2], &datagrams[3]]));
}

#[test]
fn a_train_over_the_mtu_goes_datagram_by_datagram_in_the_same_flush() {
    in_own_network(|| {
        ip("link set lo mtu 1500");
        for (family, address) in [(Family::V4, LOCAL), (Family::V6, Ipv6Addr::LOCALHOST.into())] {
            let (a, a_address) = receiver(address);
            let (b, b_address) = receiver(address);
            let datagrams: Vec<_> = (0..5).map(|n| numbered(n, if n < 4 { 2000 } else { 9 })).collect();
            let fitting: Vec<_> = (0..5).map(|n| numbered(n, 1000)).collect();
            let sender = sender(family);
            let outcomes = send(&sender, &[target(a_address), target(b_address)], TrainLimit::MAX, &datagrams);
            let singly = Outcome { sent: 5, sent_bytes: 8009, segmentation_refused: true, ..Outcome::default() };
            assert_eq!(outcomes, [singly; 2]);
            let outcomes = send(&sender, &[target(a_address)], TrainLimit::MAX, &fitting);
            assert_eq!(outcomes, [Outcome { sent: 5, sent_bytes: 5000, ..Outcome::default() }]);
            assert_eq!(payloads(&mut ReceiveBatch::default(), &a, 10), [datagrams.clone(), fitting].concat());
            assert_eq!(payloads(&mut ReceiveBatch::default(), &b, 5), datagrams);
        }
    });
}

#[test]
fn what_a_full_queue_takes_no_more_is_dropped_and_counted() {
    in_own_network(|| {
        // A slow interface: its queue holds more than the socket's buffer.
        run("tc qdisc add dev lo root tbf rate 2mbit burst 4k limit 1m");
        let (a, address) = receiver(LOCAL);
        let sender = open_sender(&SendSpec { family: Family::V4, source_port: None, send_buffer: 32 << 10 }).unwrap();
        let datagrams: Vec<_> = (0..100).map(|n| numbered(n, 1316)).collect();
        let outcome = send(&sender, &[target(address)], TrainLimit::SINGLE, &datagrams)[0];
        assert_eq!(outcome.error, Some(SendError::NoBuffers));
        assert_eq!(outcome.sent + outcome.dropped, 100);
        assert!(outcome.sent > 0 && outcome.dropped > 0);
        let received = payloads(&mut ReceiveBatch::default(), &a, outcome.sent as usize);
        assert_eq!(received.len(), outcome.sent as usize);
        assert!(received.is_sorted());
    });
}

#[test]
fn a_target_that_refuses_trains_gets_the_same_datagrams_singly() {
    let (a, address) = receiver(LOCAL);
    let target = target(address);
    target.refuse_segmentation();
    assert!(!target.segmentation());
    let datagrams: Vec<_> = (0..10).map(|n| numbered(n, if n < 9 { 700 } else { 10 })).collect();
    let outcomes = send(&sender(Family::V4), &[target.clone(), target], TrainLimit::MAX, &datagrams);
    assert_eq!(outcomes, [Outcome { sent: 10, sent_bytes: 6310, ..Outcome::default() }; 2]);
    assert_eq!(payloads(&mut ReceiveBatch::default(), &a, 20), vec![datagrams; 2].concat());
}

#[test]
fn more_messages_than_fit_a_system_call_all_leave() {
    let (a, address) = receiver(LOCAL);
    let sender = open_sender(&SendSpec { family: Family::V4, source_port: None, send_buffer: 0 }).unwrap();
    let datagrams: Vec<_> = (0..500).map(|n| numbered(n, 20 + n % 7)).collect();
    let outcomes = send(&sender, &[target(address)], TrainLimit::SINGLE, &datagrams);
    assert_eq!(outcomes[0].sent, 500);
    assert_eq!(payloads(&mut ReceiveBatch::default(), &a, 500), datagrams);
}

#[test]
fn train_limits_stay_in_range() {
    assert_eq!(TrainLimit::new(0), TrainLimit::SINGLE);
    assert_eq!(TrainLimit::new(1), TrainLimit::SINGLE);
    assert_eq!(TrainLimit::new(1000), TrainLimit::MAX);
}

#[test]
fn errors_have_words() {
    assert_eq!(SendError::from_errno(libc::EPERM).name(), "permission-denied");
    assert_eq!(SendError::from_errno(libc::EAGAIN), SendError::NoBuffers);
    assert_eq!(SendError::from_errno(12345), SendError::Other(12345));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn trains_keep_within_limits_and_carry_every_byte_in_order(
        lengths in prop::collection::vec(prop_oneof![Just(1316), Just(188), 0_usize..3000, Just(20_000)], 0..150),
        header in 0_usize..20,
        limit in 1_usize..80,
        adjacent in any::<bool>(),
    ) {
        // Adjacent payloads, as of one GRO buffer, become one piece of memory.
        let memory: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
        let copies: Vec<Vec<u8>> = lengths.iter().map(|&n| vec![n as u8; n]).collect();
        let mut rest = &memory[..];
        let mut batch = SendBatch::new();
        let mut session = batch.session();
        session.begin(TrainLimit::new(limit));
        let mut expected = Vec::new();
        for (i, &len) in lengths.iter().enumerate() {
            let payload = if adjacent { rest.split_off(..len).unwrap() } else { &copies[i][..] };
            let header = vec![i as u8; header];
            session.push(&header, payload);
            expected.push([&header, payload].concat());
        }
        let trains = session.finish();
        prop_assert_eq!(trains.datagrams() as usize, lengths.len());
        prop_assert_eq!(trains.bytes() as usize, expected.iter().map(Vec::len).sum::<usize>());
        prop_assert_eq!(session.datagrams_of(trains, limit), expected);
    }
}
