//! Legs over simulated networks, in virtual time: every run is the same, and every run wraps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::rtp::receive::tests::{HAND_OVER, Random, handed_over};
use crate::proto::seq::{RtpTime, Seq};

const FIRST: u16 = 65_000;
const SSRC: u32 = 0xAAAA_0000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A packet as the encoder sent it: its RTP header, and what it carries.
#[derive(Debug, Clone, Copy)]
struct Sent {
    header: Header,
    /// Stands for the payload.
    content: u64,
}

impl Sent {
    fn new(number: u64, interval: Duration) -> Self {
        let at = nth(interval, number);
        let timestamp = RtpTime(0xFFFF_0000).add(at);
        let seq = Seq(FIRST.wrapping_add(number as u16));
        Self { header: Header::new(33, seq, timestamp, SSRC), content: number }
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
    received: usize,
    most_memory: usize,
    /// A leg was removed, and its counts with it.
    removed: bool,
    /// When the last packet came.
    last: Instant,
    /// At the end, before the flush.
    class: Option<SkewClass>,
    active: usize,
}

impl Bench {
    fn new(window: Duration, legs: usize) -> Self {
        let mut merger = Merger::new(window);
        let legs = (0..legs).map(|_| merger.add_leg().unwrap()).collect();
        let start = Instant::now();
        Self {
            merger,
            legs,
            start,
            out: Vec::new(),
            came: Vec::new(),
            received: 0,
            most_memory: 0,
            removed: false,
            last: start,
            class: None,
            active: 0,
        }
    }

    fn receive(&mut self, at: Duration, leg: usize, sent: &Sent) {
        self.pass_time(at);
        let packet = [&sent.header.write()[..], &sent.content.to_be_bytes(), &[0x47; 8]].concat();
        let header = Header::parse(&packet).unwrap();
        self.merger.handle_packet(self.legs[leg], self.start + at, &packet, &header);
        self.last = self.start + at;
        self.most_memory = self.most_memory.max(self.merger.memory());
        self.received += 1;
        // Of the megabytes of a flood it would take its time.
        if self.received.is_multiple_of(HAND_OVER) && self.merger.memory() < 1 << 20 {
            self.merger = handed_over(&self.merger);
        }
    }

    /// Call the merger at each time it asks for, up to `at`.
    fn pass_time(&mut self, at: Duration) {
        while let Some(timeout) = self.merger.poll_timeout().filter(|timeout| *timeout <= self.start + at) {
            // Some time may be over already.
            let timeout = timeout.max(self.last);
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
        (self.class, self.active) = (self.merger.class(self.last), self.merger.active_legs(self.last));
        assert_eq!(self.merger.active_legs(self.last + ms(1001)), 0);
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
        assert!(first == counters.delivered || self.removed, "{counters:?}");
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

#[test]
fn bursts_of_300_packets_lose_what_both_legs_lost() {
    let network = Network { burst: 300, jitter: ms(3), ..Network::default() };
    let (bench, counters) = simulate(2, ms(200), HALF_MS, 20_000, &[network, Network { delay: ms(150), ..network }]);
    assert!(counters.unrecovered > 100, "{counters:?}");
    assert!(bench.leg(0).lost > 2000);
}

#[test]
fn losses_that_never_coincide_lose_nothing() {
    let lost = |leg: u64, number: u64| (number / 300) % 2 == leg && number > 10;
    let legs: Vec<Vec<_>> = (0..2)
        .map(|leg| {
            let kept = (0..20_000).filter(|number| !lost(leg, *number));
            kept.map(|number| (nth(HALF_MS, number) + ms(150 * leg), number)).collect()
        })
        .collect();
    let (bench, counters) = merge(ms(200), HALF_MS, &legs);
    assert_eq!(bench.contents(), (0..20_000).collect::<Vec<_>>());
    assert_eq!((counters.unrecovered, counters.restarts), (0, 0));
    assert_eq!(counters.recovered, 20_000 - 11, "each packet was missing on one leg");
}

#[test]
fn three_legs_lose_what_all_three_lost() {
    let network = Network { loss: 30, jitter: ms(2), ..Network::default() };
    let delayed = |delay| Network { delay: ms(delay), ..network };
    let (bench, _) = simulate(3, ms(100), HALF_MS, 20_000, &[delayed(40), delayed(0), delayed(80)]);
    assert!((400..700).contains(&(20_000 - bench.came.len())), "{}", bench.came.len());
}

#[test]
fn packets_leave_at_a_fixed_delay() {
    for delays in [[0, 0], [0, 150], [150, 0], [0, 199]] {
        let networks = delays.map(|delay| Network { delay: ms(delay), loss: 5, ..Network::default() });
        let (bench, _) = simulate(4, ms(200), ms(1), 20_000, &networks);
        // The first second shows a new leg's lead; the delay follows a lead at 2 % of time.
        for came in bench.came.iter().filter(|came| came.content > 12_000) {
            let late = came.at.as_micros() as i64 - (came.content as i64 * 1000 + 200_000);
            assert!(late.abs() <= 5500, "packet {} of {delays:?} left {late} us off", came.content);
        }
    }
}

#[test]
fn the_skew_and_its_class_are_measured() {
    let network = Network { jitter: ms(2), ..Network::default() };
    let (bench, _) = simulate(5, ms(200), HALF_MS, 10_000, &[network, Network { delay: ms(40), ..network }]);
    let skew = bench.leg(1).skew.unwrap();
    assert!((38_000_000..42_000_000).contains(&skew.now_ns), "{skew:?}");
    assert!((36_000_000..40_000_000).contains(&skew.min_ns), "{skew:?}");
    assert!((40_000_000..44_000_000).contains(&skew.max_ns), "{skew:?}");
    assert_eq!(bench.leg(0).skew, None, "it leads");
    assert_eq!((bench.class, bench.active), (Some(SkewClass::B), 2));
    assert!((300..1500).contains(&bench.leg(1).jitter().as_micros()), "{:?}", bench.leg(1).jitter());
}

#[test]
fn one_leg_alone_is_delayed_and_put_in_order() {
    let network = Network { jitter: ms(5), duplicates: 5, loss: 1, ..Network::default() };
    let (bench, counters) = simulate(6, ms(10), HALF_MS, 10_000, &[network]);
    assert_eq!(bench.leg(0).lost, counters.unrecovered);
    assert_eq!((bench.class, bench.active), (None, 1));
}

#[test]
fn a_packet_that_comes_after_its_time_is_late() {
    let mut bench = Bench::new(ms(50), 2);
    for number in 0..1000 {
        bench.receive(ms(number), 0, &Sent::new(number, ms(1)));
        if number >= 100 {
            bench.receive(ms(number), 1, &Sent::new(number - 100, ms(1)));
        }
    }
    let counters = bench.end(ms(2000));
    assert_eq!((counters.delivered, counters.unrecovered), (1000, 0));
    let leg = bench.leg(1);
    assert_eq!((leg.late, leg.lost), (900, 100), "the last 100 were not waited for");
    assert!((99_000_000..101_000_000).contains(&leg.skew.unwrap().now_ns), "it shows how large the window should be");
}

/// Two legs of 1 packet a ms; from packet `cut` on, one of them is silent.
fn cut(which: usize, cut: u64, skew: u64, window: u64) -> (Bench, MergeCounters) {
    let leg = |leg: usize, delay: u64| {
        let sent = (0..2000).filter(move |number| leg != which || *number < cut);
        sent.map(|number| (ms(number + delay), number)).collect::<Vec<_>>()
    };
    merge(ms(window), ms(1), &[leg(0, 0), leg(1, skew)])
}

#[test]
fn the_loss_of_the_leading_leg_moves_nothing() {
    let (bench, counters) = cut(0, 700, 150, 200);
    assert_eq!((counters.delivered, counters.unrecovered), (2000, 0));
    assert!(bench.longest_pause() <= Duration::from_micros(1100), "{:?}", bench.longest_pause());
    assert!(bench.came[1999].at >= ms(2199), "the delay is on its way back to the window: {:?}", bench.came[1999].at);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cutting_either_leg_at_any_moment_loses_nothing(which in 0_usize..2, at in 1_u64..1999, skew in 0_u64..190) {
        let (bench, counters) = cut(which, at, skew, 200);
        prop_assert_eq!(bench.contents(), (0..2000).collect::<Vec<_>>());
        prop_assert_eq!((counters.unrecovered, counters.restarts), (0, 0));
        // A cut before the legs were once compared shows.
        if at > skew + 100 {
            prop_assert!(bench.longest_pause() < ms(3), "{:?}", bench.longest_pause());
        }
    }

    #[test]
    fn adding_a_leg_at_any_moment_loses_nothing(at in 1_u64..1500, lead in -250_i64..400, window in 20_u64..300) {
        // Whether it lags or leads, even by more than the window.
        let mut arrivals: Vec<_> = (0..2000_u64).map(|number| (1000 + number, 0, number)).collect();
        arrivals.extend((at..2000).map(|number| ((1000 + number).strict_sub_signed(lead), 1, number)));
        arrivals.sort_unstable();
        let mut bench = Bench::new(ms(window), 1);
        for (time, leg, number) in arrivals {
            if leg == bench.legs.len() {
                bench.legs.push(bench.merger.add_leg().unwrap());
            }
            if time >= 1000 {
                bench.receive(ms(time), leg, &Sent::new(number, ms(1)));
            }
        }
        let counters = bench.end(ms(4000));
        let first = bench.contents()[0];
        prop_assert_eq!(bench.contents(), (first..2000).collect::<Vec<_>>());
        prop_assert_eq!((counters.unrecovered, counters.restarts), (0, 0));
        prop_assert!(bench.longest_pause() < ms(3), "{:?}", bench.longest_pause());
    }

    #[test]
    fn any_window_is_reached_smoothly(from in 10_u64..2000, to in 10_u64..2000, at in 0_u64..5000) {
        let mut bench = Bench::new(ms(from), 2);
        let skew = from.min(to) / 2;
        for number in 0..8000 + skew {
            if number == at {
                bench.merger.set_window(ms(to));
            }
            // Every packet comes on one leg only, so each needs the window.
            if number < 8000 && number % 2 == 0 {
                bench.receive(ms(number), 0, &Sent::new(number, ms(1)));
            }
            if number >= skew && (number - skew) % 2 == 1 {
                bench.receive(ms(number), 1, &Sent::new(number - skew, ms(1)));
            }
        }
        let counters = bench.end(ms(20_000));
        let first = bench.contents()[0];
        prop_assert_eq!(bench.contents(), (first..8000).collect::<Vec<_>>());
        prop_assert_eq!(counters.unrecovered, 0);
        prop_assert!(bench.longest_pause() <= ms(3 + skew / 50), "{:?}", bench.longest_pause());
    }

    #[test]
    fn any_networks_lose_what_all_legs_lost(seed in 1_u64..1 << 40, loss in 0_u64..60, burst in 0_u64..400, duplicates in 0_u64..40, jitter in 0_u64..20, skew in 0_u64..150, legs in 1_usize..5) {
        let networks: Vec<_> = (0..legs as u64)
            .map(|leg| Network { delay: ms(skew * leg / legs as u64), loss, burst, duplicates, jitter: ms(jitter) })
            .collect();
        simulate(seed, ms(200), HALF_MS, 4000, &networks);
    }
}

#[test]
fn memory_holds_the_window_and_is_given_back() {
    let mut bench = Bench::new(ms(2000), 2);
    for number in 0..60_000_u64 {
        if number == 20_000 {
            bench.merger.set_window(ms(10));
        }
        let at = nth(HALF_MS, number);
        bench.receive(at, 0, &Sent::new(number, HALF_MS));
        bench.receive(at, 1, &Sent::new(number, HALF_MS));
    }
    // 28 bytes a packet, 2000 a second, for 2 s and a batch.
    assert!(bench.most_memory <= 3 * (128 << 10), "{}", bench.most_memory);
    bench.pass_time(ms(33_000));
    assert!(bench.merger.memory() <= 2 * (128 << 10), "{}", bench.merger.memory());
    assert_eq!(bench.merger.counters().delivered, 60_000);
}

/// Both legs, 150 ms apart, send what `packet` makes of each packet's number, and `None` where they send nothing.
fn both(window: u64, packets: u64, packet: impl Fn(usize, u64) -> Option<Sent>) -> (Bench, MergeCounters) {
    let mut bench = Bench::new(ms(window), 2);
    for number in 0..packets + 150 {
        for (leg, delay) in [(0, 0), (1, 150)] {
            let sent = number.checked_sub(delay).filter(|number| *number < packets);
            if let Some(sent) = sent.and_then(|number| packet(leg, number)) {
                bench.receive(ms(number), leg, &sent);
            }
        }
    }
    let counters = bench.end(ms(packets + 2000));
    (bench, counters)
}

fn plain(number: u64) -> Sent {
    Sent::new(number, ms(1))
}

#[test]
fn the_restart_of_one_leg_is_invisible() {
    type Restart = fn(Sent) -> Sent;
    let restarts: [(&str, Restart); 4] = [
        ("another SSRC", |sent| sent.ssrc(7)),
        ("a jump", |sent| sent.jumped(20_000, 5_000_000)),
        ("a small jump", |sent| sent.jumped(700, 5_000_000)),
        ("all of it", |sent| sent.jumped(41_000, 99_000_000).ssrc(7)),
    ];
    for (what, restart) in restarts {
        for which in 0..2 {
            let (mut bench, counters) = both(200, 6000, |leg, number| {
                let sent = plain(number);
                Some(if leg == which && (1000..1700).contains(&number) { restart(sent) } else { sent })
            });
            assert_eq!(bench.contents(), (0..6000).collect::<Vec<_>>(), "{what} on leg {which}");
            assert_eq!((counters.unrecovered, counters.restarts), (0, 0), "{what} on leg {which}");
            assert!(bench.longest_pause() < ms(3), "{what} on leg {which}: {:?}", bench.longest_pause());
            assert_eq!(bench.events(), [], "{what} on leg {which}");
            let leg = bench.leg(which);
            assert_eq!(leg.unique, 0);
            if what == "another SSRC" {
                assert_eq!(
                    (leg.ssrc_changes, leg.lost, counters.foreign_ssrc > 300),
                    (2, 0, true),
                    "it is the same stream"
                );
            }
        }
    }
}

#[test]
fn the_restart_of_both_legs_is_one_clean_change() {
    for (jump, ticks, ssrc) in [(30_000, 777_777, 9), (0, 777_777_777, 9), (1000, 90_000_000, SSRC), (64_000, 1, 9)] {
        for window in [160, 200, 1000] {
            let (mut bench, counters) = both(window, 6000, |_, number| {
                let sent = plain(number);
                Some(if number >= 3000 { sent.jumped(jump, ticks).ssrc(ssrc) } else { sent })
            });
            let what = format!("{jump} {ticks} {ssrc} {window}");
            assert_eq!(bench.contents(), (0..6000).collect::<Vec<_>>(), "{what}");
            assert_eq!((counters.unrecovered, counters.restarts), (0, 1), "{what}");
            let fresh: Vec<_> = bench.came.iter().filter(|came| came.discontinuity).map(|came| came.content).collect();
            assert_eq!(fresh, [3000], "{what}");
            assert!(bench.longest_pause() < ms(60), "{what}: {:?}", bench.longest_pause());
            assert_eq!(bench.events(), [], "{what}");
            assert_eq!((bench.leg(0).resyncs, bench.leg(1).resyncs), (1, 1), "{what}");
        }
    }
}

#[test]
fn the_first_packets_after_a_restart_come_from_either_leg() {
    let (bench, counters) = both(200, 6000, |leg, number| {
        let sent = plain(number).jumped(if number >= 3000 { 30_000 } else { 0 }, 7).ssrc(if number >= 3000 {
            9
        } else {
            SSRC
        });
        let lost = if leg == 0 { (2990..3020).contains(&number) } else { number % 3 == 0 && number > 3020 };
        (!lost).then_some(sent)
    });
    assert_eq!(bench.contents(), (0..6000).collect::<Vec<_>>());
    assert_eq!((counters.unrecovered, counters.restarts), (0, 1));
}

#[test]
fn an_outage_of_all_legs_is_loss_not_a_restart() {
    let (bench, counters) = both(200, 9000, |_, number| (!(2000..7000).contains(&number)).then(|| plain(number)));
    assert_eq!((bench.came.len(), counters.unrecovered, counters.restarts), (4000, 5000, 0));
}

#[test]
fn a_stray_packet_harms_nobody() {
    let (bench, counters) = both(200, 5000, |leg, number| {
        let sent = plain(number);
        Some(if leg == 0 && number % 50 == 7 {
            sent.jumped((number * 7919) as u16 | 0x4000, 123_456_789).ssrc(number as u32)
        } else {
            sent
        })
    });
    assert_eq!((counters.unrecovered, counters.restarts, bench.came.len()), (0, 0, 5000));
    assert_eq!((bench.leg(0).stray, bench.leg(0).resyncs, bench.leg(0).lost), (100, 0, 100));
}

#[test]
fn a_leg_under_another_ssrc_takes_part_once_its_packets_are_the_same() {
    for (which, window) in [(0, 200), (1, 200), (0, 1000)] {
        let (mut bench, counters) = both(window, 6000, |leg, number| {
            let sent = if leg == which { plain(number).ssrc(5) } else { plain(number) };
            let lost = number > 2000 && (number / 100) % 2 == leg as u64;
            (!lost).then_some(sent)
        });
        assert_eq!((counters.unrecovered, counters.restarts), (0, 0));
        let first = bench.contents()[0];
        assert_eq!(bench.contents(), (first..6000).collect::<Vec<_>>());
        assert!(counters.foreign_ssrc > 2000);
        assert_eq!(bench.events(), []);
    }
}

#[test]
fn a_timestamp_that_jumps_passes() {
    let (bench, counters) = both(200, 3000, |_, number| {
        let sent = plain(number);
        Some(if number >= 1500 { sent.jumped(0, 1_000_000_000) } else { sent })
    });
    assert_eq!(bench.contents(), (0..3000).collect::<Vec<_>>());
    assert_eq!((counters.timestamp_jumps, counters.restarts, counters.unrecovered), (1, 0, 0));
    assert_eq!(bench.leg(1).different, 0);
}

#[test]
fn legs_that_are_not_identical_fall_back_to_the_better_one() {
    for which in 0..2 {
        let (mut bench, counters) = both(200, 15_000, |leg, number| {
            let mut sent = plain(number);
            // Leg `which` loses packets, too.
            if leg == which && number % 100 == 0 {
                return None;
            }
            if leg == which && (4000..7000).contains(&number) {
                sent.content += 1 << 40;
            }
            Some(sent)
        });
        let id = bench.legs[which];
        assert_eq!(bench.events(), [MergeEvent::LegsNotIdentical { leg: id }, MergeEvent::LegRejoined { leg: id }]);
        assert_eq!((counters.delivered, counters.unrecovered, counters.restarts), (15_000, 0, 0));
        let foreign = bench.contents().iter().filter(|content| **content >= 1 << 40).count();
        assert!(foreign <= 1500, "{foreign} packets of the other leg went out before it was clear");
        let (compared, different) =
            (bench.leg(0).compared + bench.leg(1).compared, bench.leg(0).different + bench.leg(1).different);
        assert!(different > 10 && different * 10 < compared, "of {compared}, {different}");
        assert!((5000..10_000).contains(&bench.leg(which).stray), "{:?}", bench.leg(which));
    }
}

#[test]
fn a_leg_with_another_stream_is_set_aside_and_takes_over_when_it_is_needed() {
    let (mut bench, counters) = both(200, 10_000, |leg, number| {
        let sent = plain(number);
        if leg == 0 { (number < 6000).then_some(sent) } else { Some(sent.jumped(9999, 88_888_888).ssrc(3)) }
    });
    let id = bench.legs[1];
    assert_eq!(bench.events(), [MergeEvent::LegsNotIdentical { leg: id }, MergeEvent::LegRejoined { leg: id }]);
    assert_eq!((counters.unrecovered, counters.restarts), (0, 1));
    assert_eq!(bench.contents()[..6000], (0..6000).collect::<Vec<_>>());
    let after = bench.contents()[6000];
    assert_eq!(bench.contents()[6000..], (after..10_000).collect::<Vec<_>>());
    assert!(after <= 6000, "as soon as the first was silent: {after}");
    assert!(bench.longest_pause() < ms(350), "{:?}", bench.longest_pause());
}

#[test]
fn a_leg_removed_and_added_again_loses_nothing() {
    let mut bench = Bench::new(ms(100), 3);
    bench.removed = true;
    for number in 0..5000 {
        match number {
            1000 => bench.merger.remove_leg(bench.legs[0]),
            2000 => bench.legs[0] = bench.merger.add_leg().unwrap(),
            3000 => bench.merger.remove_leg(bench.legs[1]),
            _ => {}
        }
        bench.receive(ms(number), 0, &plain(number));
        bench.receive(ms(number), 1, &plain(number));
        bench.receive(ms(number), 2, &plain(number));
    }
    assert_eq!(bench.merger.leg(bench.legs[1]), None);
    let counters = bench.end(ms(6000));
    assert_eq!((counters.delivered, counters.unrecovered), (5000, 0));
    assert_eq!(bench.leg(0).received, 3000, "it begins anew");
    assert_eq!(bench.leg(0).lost, 0);
    let legs: Vec<_> = std::iter::from_fn(|| bench.merger.add_leg()).collect();
    assert_eq!(legs.len(), MOST_LEGS - 2);
}

#[test]
fn arrivals_of_legs_may_be_handed_in_batch_by_batch() {
    // Each wake reads 20 ms of one leg, then 20 ms of the other.
    let mut bench = Bench::new(ms(60), 2);
    for batch in 0..200_u64 {
        for leg in 0..2 {
            for number in batch * 20..batch * 20 + 20 {
                if (number / 7) % 2 == leg && number > 50 {
                    continue;
                }
                let packet = [&plain(number).header.write()[..], &number.to_be_bytes(), &[0x47; 8]].concat();
                let header = Header::parse(&packet).unwrap();
                let arrival = bench.start + ms(number + 30 * leg);
                bench.merger.handle_packet(bench.legs[leg as usize], arrival, &packet, &header);
            }
        }
        let now = bench.start + ms(batch * 20 + 49);
        bench.merger.handle_timeout(now, &mut bench.out);
        bench.end_batch(now - bench.start);
    }
    bench.last = bench.start + ms(4030);
    let counters = bench.end(ms(5000));
    assert_eq!((counters.delivered, counters.unrecovered), (4000, 0));
}

/// Packets a second times window is more than the half of the sequence's 65,536, and more than all of it.
#[test]
fn the_timestamp_tells_the_turn_of_the_sequence_at_a_high_rate() {
    for (skew, window) in [(900, 1000), (2400, 2500)] {
        let mut bench = Bench::new(ms(window), 2);
        let interval = Duration::from_micros(20);
        let (packets, skew) = (250_000_u64, skew * 50);
        for number in 0..packets + skew {
            let at = nth(interval, number);
            // Each loses half, in turns of 100.
            if number < packets && (number / 100) % 2 == 0 {
                bench.receive(at, 0, &Sent::new(number, interval));
            }
            if number >= skew && ((number - skew) / 100) % 2 == 1 {
                bench.receive(at, 1, &Sent::new(number - skew, interval));
            }
        }
        let counters = bench.end(ms(20_000));
        let first = bench.contents()[0];
        assert!(bench.contents().iter().copied().eq(first..packets));
        assert_eq!((counters.unrecovered, counters.restarts), (0, 0));
    }
}

#[test]
fn a_day_of_two_legs_whose_clocks_drift_apart() {
    // 100 ppm are 8.64 s a day: leg 1 begins 4 s behind, and ends 4.6 s before leg 0.
    let (day, interval) = (ms(86_400_000), ms(250));
    let mut bench = Bench::new(ms(6000), 2);
    let mut random = Random(77);
    let arrival = |leg: u64, number: u64| {
        let sent = nth(interval, number).as_nanos() as u64;
        Duration::from_nanos(if leg == 0 { sent + 5_000_000_000 } else { sent - sent / 10_000 + 9_000_000_000 })
    };
    let (mut next, mut sent, mut kept) = ([0_u64; 2], 0_u64, 0_u64);
    let packets = (day.as_millis() / interval.as_millis()) as u64;
    let lost: Vec<u64> = (0..packets).map(|_| random.below(10)).collect();
    while next[0] < packets || next[1] < packets {
        let leg =
            if next[1] >= packets || (next[0] < packets && arrival(0, next[0]) <= arrival(1, next[1])) { 0 } else { 1 };
        let number = next[leg as usize];
        next[leg as usize] += 1;
        // Of ten packets each leg loses one, never the same.
        if lost[number as usize] != leg || number < 200 {
            bench.receive(arrival(leg, number), leg as usize, &Sent::new(number, interval));
            sent += 1;
        }
        kept = kept.max(bench.came.len() as u64);
        if bench.came.len() > 10_000 {
            let span = bench.came.windows(2).all(|pair| pair[1].content == pair[0].content + 1);
            assert!(span, "in order, nothing missing");
            assert!(bench.longest_pause() < ms(400), "{:?}", bench.longest_pause());
            bench.came.drain(..bench.came.len() - 1);
        }
    }
    assert!(sent > packets);
    assert!(kept > 0);
    bench.pass_time(day + ms(60_000));
    let counters = *bench.merger.counters();
    assert_eq!((counters.delivered, counters.unrecovered, counters.restarts), (packets, 0, 0));
    let (a, b) = (bench.leg(0), bench.leg(1));
    assert!(a.late + b.late == 0, "{a:?} {b:?}");
    assert!(bench.most_memory <= 2 * (128 << 10));
}

/// Residual loss of 20,000 packets by what each of two legs lost: rows are patterns, columns rates in percent.
#[test]
fn loss_grid() {
    let mut grid = String::from("pattern                     1 %     5 %    10 %    20 %    40 %\n");
    type Pattern = fn(u64) -> Network;
    let patterns: [(&str, Pattern); 4] = [
        ("random", |percent| Network { loss: percent, ..Network::default() }),
        ("random, jitter 5 ms", |percent| Network { loss: percent, jitter: ms(5), ..Network::default() }),
        ("bursts, 1 in 1000", |percent| Network { burst: percent * 10, ..Network::default() }),
        ("bursts and random", |percent| Network {
            burst: percent * 10,
            loss: percent,
            jitter: ms(5),
            ..Network::default()
        }),
    ];
    for (name, pattern) in patterns {
        for skew in [0, 150] {
            grid.push_str(&format!("{:22}", format!("{name} +{skew}")));
            for percent in [1, 5, 10, 20, 40] {
                let network = pattern(percent);
                let (_, counters) =
                    simulate(percent, ms(200), HALF_MS, 20_000, &[network, Network { delay: ms(skew), ..network }]);
                grid.push_str(&format!("{:8}", counters.unrecovered));
            }
            grid.push('\n');
        }
    }
    insta::assert_snapshot!(grid, @r"
    pattern                     1 %     5 %    10 %    20 %    40 %
    random +0                    1      58     198     803    3261
    random +150                  1      58     198     803    3261
    random, jitter 5 ms +0       1      58     198     803    3261
    random, jitter 5 ms +150       1      58     198     803    3261
    bursts, 1 in 1000 +0         0     124      94     404    3505
    bursts, 1 in 1000 +150       0     124      94     404    3505
    bursts and random +0         7     179     820    2589    8135
    bursts and random +150       7     179     820    2589    8135
    ");
}

/// Fuzz body: five bytes a packet (leg and kind of the step, time, sequence and timestamp), then the invariants.
pub(crate) fn fuzz(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let mut bench = Bench::new(ms(10 + u64::from(first)), 3);
    let (mut at, mut next) = (Duration::ZERO, [0_u64; 3]);
    for &[kind, step, a, b, c] in data.as_chunks::<5>().0 {
        at += Duration::from_micros(u64::from(step) * u64::from(step) * 4);
        let leg = usize::from(kind % 3);
        let wild = u16::from_be_bytes([a, b]);
        let number = match kind / 3 % 8 {
            0..=3 => next[leg] + 1,
            4 => next.iter().max().map_or(0, |newest| newest + 1),
            5 => next[leg].saturating_sub(u64::from(a % 16)),
            6 => next[leg] + u64::from(wild % 512),
            _ => next[leg] + u64::from(wild),
        };
        next[leg] = number;
        let mut sent = Sent::new(number, ms(1));
        if c & 0xC0 == 0xC0 {
            sent = sent.jumped(wild, u32::from_be_bytes([a, b, c, kind])).ssrc(SSRC + u32::from(c % 3));
        }
        sent.content = u64::from(c & 0x20) << 32 | number;
        bench.receive(at, leg, &sent);
        match c & 0x1F {
            30 => at += ms(700),
            31 => bench.merger.set_window(ms(10 + u64::from(a) * 4)),
            _ => {}
        }
    }
    let counters = bench.end(at + ms(20_000));
    assert_eq!(bench.came.iter().filter(|came| came.discontinuity).count() as u64, counters.restarts);
    for epoch in bench.came.chunk_by(|_, next| !next.discontinuity) {
        let steps = epoch.windows(2).map(|pair| pair[1].header.seq.0.wrapping_sub(pair[0].header.seq.0));
        assert!(steps.into_iter().all(|step| step > 0), "nothing twice");
        assert!(epoch.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }
}

proptest! {
    #[test]
    fn no_traffic_breaks_the_order(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz(&data);
    }
}

#[test]
fn a_flood_of_random_headers_takes_bounded_memory() {
    let (mut bench, mut random) = (Bench::new(ms(15_000), 2), Random(99));
    for number in 0..200_000_u64 {
        let wild = Header::new(
            33,
            Seq(random.below(1 << 16) as u16),
            RtpTime(random.below(1 << 32) as u32),
            random.below(3) as u32,
        );
        let at = Duration::from_micros(number * 10);
        bench.receive(at, (number % 2) as usize, &Sent { header: wild, content: number });
        for epoch in bench.merger.current.iter().chain(&bench.merger.pending) {
            assert!(epoch.waiting() <= epoch::MOST_PLACES);
        }
    }
    assert!(bench.most_memory <= 200_000 * 28 + (256 << 10));
    bench.end(ms(60_000));
}

#[test]
fn what_does_not_fit_into_the_memory_leaves_early() {
    // 60,000 bytes a packet: 256 MiB are 4473 of them, less than the window holds.
    let mut bench = Bench::new(ms(15_000), 1);
    let more = [0x47; 60_000];
    for number in 0..8000_u64 {
        let packet = [&plain(number).header.write()[..], &number.to_be_bytes(), &more].concat();
        let header = Header::parse(&packet).unwrap();
        let at = ms(number);
        bench.merger.handle_packet(bench.legs[0], bench.start + at, &packet, &header);
        bench.merger.handle_timeout(bench.start + at, &mut bench.out);
        bench.end_batch(at);
        assert!(bench.merger.memory() <= 256 << 20);
    }
    bench.last = bench.start + ms(8000);
    let counters = bench.end(ms(30_000));
    assert_eq!((counters.delivered, counters.unrecovered), (8000, 0));
    assert!((3000..5000).contains(&counters.early), "{counters:?}");
}

#[test]
fn a_flow_that_ended_may_begin_again() {
    let mut bench = Bench::new(ms(50), 2);
    (0..100).for_each(|number| bench.receive(ms(number), (number % 2) as usize, &plain(number)));
    bench.end(ms(100));
    (200..300).for_each(|number| bench.receive(ms(number), (number % 2) as usize, &plain(number)));
    let counters = bench.end(ms(1000));
    assert_eq!((counters.delivered, counters.unrecovered), (200, 0));
    assert!(bench.came[100].discontinuity);
}

#[test]
fn timestamps_of_another_clock_do_no_harm() {
    let random = |number: u64| (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) as u32;
    type Clock = fn(u64) -> u64;
    let clocks: [(&str, Clock); 3] = [("27 MHz", |n| n * 27_000), ("1 kHz", |n| n), ("none", |_| 0)];
    for (what, clock) in clocks {
        for gap in [1, 300] {
            let (mut bench, counters) = both(200, 8000, |leg, number| {
                let mut sent = plain(number);
                sent.header.timestamp = RtpTime(clock(number) as u32);
                let lost = number > 1000 && (number / gap) % 5 == 2 * leg as u64;
                (!lost).then_some(sent)
            });
            assert_eq!((counters.unrecovered, counters.restarts, bench.came.len()), (0, 0, 8000), "{what}, {gap}");
            assert_eq!(bench.events(), [], "{what}, {gap}");
        }
    }
    // Timestamps without any order: short gaps are filled, after a long one the stream goes on.
    for (gap, least) in [(1, 8000), (300, 3000)] {
        let (bench, _) = both(200, 8000, |leg, number| {
            let mut sent = plain(number);
            sent.header.timestamp = RtpTime(random(number));
            let lost = number > 1000 && (number / gap) % 5 == 2 * leg as u64;
            (!lost).then_some(sent)
        });
        assert!(bench.came.len() >= least, "{}", bench.came.len());
        assert_eq!(bench.came.last().map(|came| came.content), Some(7999));
    }
}
