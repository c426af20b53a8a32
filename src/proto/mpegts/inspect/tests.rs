use proptest::prelude::*;

use super::*;
use crate::proto::mpegts::packet::SYNC;
use crate::proto::mpegts::test_stream::{Pattern, TestStream};

const ALL: Interest = Interest { continuity: true, psi: true, pcr: true };
const RATE: u64 = 4_000_000;

/// The first datagrams of a test stream.
fn datagrams(count: usize) -> Vec<[u8; 7 * PACKET_LEN]> {
    let mut stream = TestStream::new(1, RATE);
    let next = |_| {
        let mut datagram = [0; 7 * PACKET_LEN];
        stream.fill(&mut datagram);
        datagram
    };
    (0..count).map(next).collect()
}

#[test]
fn a_right_stream_has_no_errors_and_its_clock_is_read() {
    let (mut inspector, now) = (Inspector::new(ALL), Instant::now());
    let samples: Vec<_> = datagrams(1000).iter().filter_map(|datagram| inspector.handle(datagram, now)).collect();
    assert_eq!(*inspector.counters(), InspectCounters { packets: 7000, ..InspectCounters::default() });
    assert_eq!(inspector.psi().unwrap().programs().len(), 1);
    assert_eq!(inspector.psi().unwrap().pat_seen(), Some(now));
    assert_eq!(samples.last(), inspector.pcr().unwrap().last());
    assert!(samples[0].discontinuity && samples[1..].iter().all(|s| !s.discontinuity));
    for sample in &samples[1..] {
        let due = Pattern::new(1, RATE).due(sample.position / PACKET_LEN as u64 - 2);
        let time = sample.time as f64 / 27e6;
        assert!((due.as_secs_f64() - time).abs() < 1e-6, "{sample:?}: from the first PCR, in packet 2");
    }
}

#[test]
fn what_nobody_asked_for_is_not_looked_at() {
    let mut inspector = Inspector::new(Interest { pcr: true, ..Interest::default() });
    let datagrams = datagrams(100);
    let samples = datagrams.iter().step_by(2).filter_map(|d| inspector.handle(d, Instant::now())).count();
    assert!(samples > 0);
    assert!(inspector.psi().is_none());
    assert_eq!(inspector.counters().continuity_errors, 0);
    assert!(Interest::default().is_none() && !ALL.is_none());
}

#[test]
fn lost_datagrams_are_continuity_errors() {
    let mut inspector = Inspector::new(ALL);
    let mut datagrams = datagrams(100);
    datagrams.remove(50);
    datagrams.iter().for_each(|datagram| _ = inspector.handle(datagram, Instant::now()));
    assert!((1..=3).contains(&inspector.counters().continuity_errors), "one for each PID: {:?}", inspector.counters());
    let before = inspector.counters().continuity_errors;
    inspector.restart();
    datagrams.iter().for_each(|datagram| _ = inspector.handle(datagram, Instant::now()));
    assert_eq!(inspector.counters().continuity_errors, 2 * before, "a stream that begins anew follows on nothing");
}

#[test]
fn packets_with_errors_are_counted_and_not_believed() {
    let mut inspector = Inspector::new(ALL);
    let mut datagrams = datagrams(100);
    for (n, packet) in datagrams[50].as_chunks_mut::<PACKET_LEN>().0.iter_mut().enumerate() {
        // Half of them unmarked, the other half without a sync byte.
        packet[0] = if n % 2 == 0 { SYNC } else { 0 };
        packet[1] = 0xFF;
    }
    datagrams.iter().for_each(|datagram| _ = inspector.handle(datagram, Instant::now()));
    let counters = inspector.counters();
    assert_eq!((counters.transport_errors, counters.packets), (4, 697));
    assert!(counters.continuity_errors >= 1, "they are missing all the same");
}

proptest! {
    #[test]
    fn nothing_panics(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz(&data);
    }
}
