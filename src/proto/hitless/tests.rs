//! Legs over simulated networks, in virtual time: every run is the same, and every run wraps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::seq::Seq;

const FIRST: u16 = 65_000;
const SSRC: u32 = 0xAAAA_0000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A packet as the encoder sent it: its number, its RTP header, what it carries.
#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    header: Header,
    /// Stands for the payload.
    content: u64,
}

impl Sent {
    fn new(number: u64, interval: Duration) -> Self {
        let at = nth(interval, number);
        let timestamp = RtpTime(0xFFFF_0000).add(at);
        let seq = Seq(FIRST.wrapping_add(number as u16));
        Self { number, header: Header::new(33, seq, timestamp, SSRC), content: number }
    }

    fn ssrc(mut self, ssrc: u32) -> Self {
        self.header.ssrc = ssrc;
        self
    }

    /// Of a restarted encoder.
    fn jumped(mut self, seq: u16, ticks: u32) -> Self {
        self.header.seq = self.header.seq.add(seq);
        self.header.timestamp.0 = self.header.timestamp.0.wrapping_add(ticks);
        self
    }
}

fn nth(interval: Duration, number: u64) -> Duration {
    Duration::from_nanos(interval.as_nanos() as u64 * number)
}

/// A packet that came out.
#[derive(Debug, Clone, Copy)]
struct Came {
    at: Duration,
    header: Header,
    content: u64,
    discontinuity: bool,
}

/// The merger, and what came out of it: each batch's bytes are read at its end only, as a flow does.
struct Bench {
    merger: Merger,
    legs: Vec<LegId>,
    start: Instant,
    out: Vec<Released>,
    came: Vec<Came>,
    most_memory: usize,
}

impl Bench {
    fn new(window: Duration, legs: usize) -> Self {
        let mut merger = Merger::new(window);
        let legs = (0..legs).map(|_| merger.add_leg().unwrap()).collect();
        let start = Instant::now();
        Self { merger, legs, start, out: Vec::new(), came: Vec::new(), most_memory: 0 }
    }

    fn receive(&mut self, at: Duration, leg: usize, sent: &Sent) {
        self.pass_time(at);
        let packet = [&sent.header.write()[..], &sent.content.to_be_bytes(), &[0x47; 8]].concat();
        let header = Header::parse(&packet).unwrap();
        self.merger.handle_packet(self.legs[leg], self.start + at, &packet, &header);
        self.most_memory = self.most_memory.max(self.merger.memory());
    }

    /// Call the merger at each time it asks for, up to `at`.
    fn pass_time(&mut self, at: Duration) {
        while let Some(timeout) = self.merger.poll_timeout().filter(|timeout| *timeout <= self.start + at) {
            self.merger.handle_timeout(timeout, &mut self.out);
            assert!(self.merger.poll_timeout().is_none_or(|next| next > timeout), "a timeout is dealt with");
            self.end_batch(timeout - self.start);
        }
    }

    fn end_batch(&mut self, at: Duration) {
        for released in self.out.drain(..) {
            let bytes = self.merger.held(released.slot);
            assert_eq!(bytes[..12], released.header.write());
            let payload = &bytes[released.header.payload()];
            let content = u64::from_be_bytes(*payload.first_chunk().unwrap());
            self.came.push(Came { at, header: released.header, content, discontinuity: released.discontinuity });
        }
        self.merger.recycle();
    }

    fn end(&mut self, at: Duration) -> MergeCounters {
        self.pass_time(at);
        self.merger.flush(&mut self.out);
        self.end_batch(at);
        let counters = *self.merger.counters();
        assert_eq!(counters.delivered, self.came.len() as u64);
        assert_eq!(self.merger.poll_timeout(), None);
        let legs = self.legs.iter().filter_map(|leg| self.merger.leg(*leg));
        let first: u64 = legs.map(|leg| leg.first).sum();
        for leg in self.legs.iter().filter_map(|leg| self.merger.leg(*leg)) {
            let placed = leg.first + leg.duplicate + leg.late + leg.stray + leg.overflow;
            assert_eq!(leg.received, placed, "every packet is in one place: {leg:?}");
        }
        assert!(first >= counters.delivered, "{counters:?}");
        counters
    }

    fn leg(&self, leg: usize) -> LegCounters {
        *self.merger.leg(self.legs[leg]).unwrap()
    }

    fn contents(&self) -> Vec<u64> {
        self.came.iter().map(|came| came.content).collect()
    }

    /// The longest time in which nothing came out.
    fn longest_pause(&self) -> Duration {
        self.came.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }

    fn events(&mut self) -> Vec<MergeEvent> {
        std::iter::from_fn(|| self.merger.poll_event()).collect()
    }
}

/// xorshift64*: seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a network does to a leg's packets, in percent, packets and times.
#[derive(Debug, Clone, Copy, Default)]
struct Network {
    delay: Duration,
    loss: u64,
    /// One packet in a thousand begins a burst of this many lost ones.
    burst: u64,
    duplicates: u64,
    /// Packets overtake each other within this time.
    jitter: Duration,
}

/// When which packet comes out of a network.
fn transmit(random: &mut Random, network: Network, interval: Duration, packets: u64) -> Vec<(Duration, u64)> {
    let (mut arrivals, mut burst) = (Vec::new(), 0);
    for number in 0..packets {
        if network.burst > 0 && random.below(1000) == 0 {
            burst = burst.max(number + network.burst);
        }
        if number < burst || random.chance(network.loss) {
            continue;
        }
        for _ in 0..=u64::from(random.chance(network.duplicates)) {
            let jitter = Duration::from_nanos(random.below(network.jitter.as_nanos() as u64 + 1));
            arrivals.push((nth(interval, number) + network.delay + jitter, number));
        }
    }
    arrivals
}

/// Packets that came on no leg, between the first and the last one that did.
fn missing(legs: &[Vec<(Duration, u64)>]) -> (Vec<u64>, u64) {
    let any: BTreeSet<u64> = legs.iter().flatten().map(|(_, number)| *number).collect();
    let span = any.last().zip(any.first()).map_or(0, |(last, first)| last - first + 1);
    let lost = span - any.len() as u64;
    (any.into_iter().collect(), lost)
}

/// Run legs through a merger.
fn merge(window: Duration, interval: Duration, legs: &[Vec<(Duration, u64)>]) -> (Bench, MergeCounters) {
    let mut arrivals: Vec<(Duration, usize, u64)> = Vec::new();
    for (leg, packets) in legs.iter().enumerate() {
        arrivals.extend(packets.iter().map(|(at, number)| (*at, leg, *number)));
    }
    arrivals.sort_unstable();
    let mut bench = Bench::new(window, legs.len());
    for &(at, leg, number) in &arrivals {
        bench.receive(at, leg, &Sent::new(number, interval));
    }
    let end = arrivals.last().map_or(Duration::ZERO, |(at, ..)| *at + window * 3);
    let counters = bench.end(end);
    (bench, counters)
}

fn simulate(
    seed: u64,
    window: Duration,
    interval: Duration,
    packets: u64,
    networks: &[Network],
) -> (Bench, MergeCounters) {
    let mut random = Random(seed << 8 | 1);
    let legs: Vec<_> = networks.iter().map(|network| transmit(&mut random, *network, interval, packets)).collect();
    let (bench, counters) = merge(window, interval, &legs);
    let (any, lost) = missing(&legs);
    assert_eq!(bench.contents(), any, "exactly what no leg brought is missing, and all is in order");
    assert_eq!(counters.unrecovered, lost);
    assert_eq!(counters.restarts, 0);
    (bench, counters)
}

const HALF_MS: Duration = Duration::from_micros(500);

#[test]
fn independent_loss_of_10_percent_loses_what_both_legs_lost() {
    let network = Network { loss: 10, jitter: ms(3), duplicates: 2, ..Network::default() };
    let (bench, counters) = simulate(1, ms(200), HALF_MS, 20_000, &[network, Network { delay: ms(150), ..network }]);
    assert!((100..300).contains(&counters.unrecovered), "{counters:?}");
    for leg in 0..2 {
        let leg = bench.leg(leg);
        assert!((1800..2200).contains(&leg.lost), "{leg:?}");
        assert!((1600..2000).contains(&leg.unique), "{leg:?}");
        assert_eq!((leg.late, leg.stray, leg.different, leg.resyncs), (0, 0, 0, 0));
    }
}
