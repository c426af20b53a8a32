use proptest::prelude::*;

use super::*;
use crate::proto::mpegts::packet::{PACKET_LEN, SYNC};
use crate::proto::mpegts::pcr::Pcr;
use crate::proto::mpegts::test_stream::TestStream;

const SMOOTHING: f64 = 0.1;
const GIGABIT: Bitrate = Bitrate::from_bps(1_000_000_000);
/// Bytes of an ordinary datagram.
const SEVEN: usize = 7 * PACKET_LEN;
/// RTP timestamps of 90 kHz are wrong by up to this.
const TICK: f64 = 1.0 / 90_000.0;

/// A packet on its way into the pacer.
#[derive(Debug, Clone)]
struct Sent {
    /// When it would arrive over a perfect network, if it left when the source means it to leave.
    ideal: f64,
    arrival: f64,
    clock: SourceClock,
    payload: Vec<u8>,
    restart: bool,
}

/// A packet that left.
#[derive(Debug, Clone, Copy)]
struct Left {
    ideal: f64,
    arrival: f64,
    at: f64,
    timestamp: RtpTime,
}

impl Left {
    fn delay(&self) -> f64 {
        self.at - self.arrival
    }

    /// How much later than ideal it left.
    fn offset(&self) -> f64 {
        self.at - self.ideal
    }
}

/// A pacer, a perfect timer, and the checks that hold for any traffic.
struct Bench {
    pacer: Pacer,
    start: Instant,
    smoothing: f64,
    inside: VecDeque<Sent>,
    last: f64,
    greatest_delay: f64,
    overflowed: bool,
}

impl Bench {
    fn new() -> Self {
        Self::with(SMOOTHING, GIGABIT)
    }

    fn with(smoothing: f64, rate: Bitrate) -> Self {
        let start = Instant::now();
        let pacer = Pacer::new(Duration::from_secs_f64(smoothing), rate, start);
        let inside = VecDeque::new();
        Self { pacer, start, smoothing, inside, last: 0.0, greatest_delay: 0.0, overflowed: false }
    }

    fn at(&self, time: f64) -> Instant {
        self.start + Duration::from_secs_f64(time)
    }

    fn time(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    /// Serve the timer until this time.
    fn run(&mut self, until: f64, mut left: impl FnMut(Left)) {
        while let Some(due) = self.pacer.poll_timeout().filter(|due| *due <= self.at(until)) {
            let now = self.time(due).max(self.last);
            assert!(self.release(now, &mut left) > 0, "what is due leaves");
        }
    }

    fn release(&mut self, now: f64, mut left: impl FnMut(Left)) -> usize {
        let count = self.pacer.release(self.at(now));
        for packet in self.pacer.released() {
            let sent = self.inside.pop_front().expect("no packet leaves that did not come");
            assert!(packet.payload == sent.payload, "in order, byte by byte");
            assert_eq!(packet.datagram[packet.datagram.len() - packet.payload.len()..], *packet.payload);
            assert_eq!(packet.discontinuity, sent.restart);
            let gone = Left { ideal: sent.ideal, arrival: sent.arrival, at: now, timestamp: packet.timestamp };
            assert!(now >= sent.arrival - 1e-8);
            self.greatest_delay = self.greatest_delay.max(gone.delay());
            left(gone);
        }
        self.pacer.sent();
        self.last = now;
        count
    }

    fn push(&mut self, sent: Sent, mut left: impl FnMut(Left)) {
        self.run(sent.arrival, &mut left);
        let datagram = [&[0x80; 12][..], &sent.payload].concat();
        let timestamp = match sent.clock {
            SourceClock::Rtp(time) => time,
            SourceClock::Stream => RtpTime(u32::MAX - 90_000).add(Duration::from_secs_f64(sent.arrival)),
        };
        let arrival = self.at(sent.arrival);
        let (payload, discontinuity) = (&datagram[12..], sent.restart);
        let packet = MediaPacket { payload, datagram: &datagram, arrival, timestamp, discontinuity };
        if self.pacer.push(&packet, sent.clock, arrival).is_err() {
            self.overflowed = true;
            assert!(self.pacer.poll_timeout().is_some_and(|due| due <= arrival), "everything is due now");
            let waiting = self.inside.len();
            assert_eq!(self.release(self.time(arrival), &mut left), waiting);
            self.pacer.push(&packet, sent.clock, arrival).expect("there is room now");
        }
        self.last = self.last.max(sent.arrival);
        self.inside.push_back(sent);
        self.run(self.last, left);
    }

    /// All of a stream, until the last packet has left.
    fn all(&mut self, stream: impl IntoIterator<Item = Sent>) -> Vec<Left> {
        let (mut out, mut sent) = (Vec::new(), 0);
        for packet in stream {
            self.push(packet, |left| out.push(left));
            sent += 1;
        }
        self.run(f64::from(u32::MAX), |left| out.push(left));
        assert_eq!(out.len(), sent, "every packet leaves");
        assert!(out.is_sorted_by(|a, b| a.at <= b.at));
        assert!(self.greatest_delay <= 2.0 * self.smoothing + 1e-6, "{} s", self.greatest_delay);
        out
    }

    /// The whole stream leaves evenly: none was too late or too early, one anchor.
    #[track_caller]
    fn assert_even(&self) {
        let c = *self.pacer.counters();
        assert_eq!((c.late, c.early, c.overflow, c.anchored), (0, 0, 0, 1), "{c:?}");
    }
}

/// Numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Packets of null packets: no PCR in them, and all of them different.
fn payload(index: u64) -> Vec<u8> {
    let mut payload = vec![0xFF; PACKET_LEN];
    payload[..4].copy_from_slice(&[SYNC, 0x1F, 0xFF, 0x10]);
    payload[4..12].copy_from_slice(&index.to_be_bytes());
    payload
}

fn rtp_at(time: f64) -> SourceClock {
    let ticks = (time * 90_000.0).floor() as i64;
    SourceClock::Rtp(RtpTime((0xFFFF_0000 + ticks).rem_euclid(1 << 32) as u32))
}

/// A steady stream of so many packets a second, each with its own RTP timestamp.
fn steady(per_second: f64, seconds: f64) -> Vec<Sent> {
    let packet = |index: u64| {
        let ideal = 1.0 + index as f64 / per_second;
        Sent { ideal, arrival: ideal, clock: rtp_at(ideal), payload: payload(index), restart: false }
    };
    (0..(per_second * seconds) as u64).map(packet).collect()
}

/// Delay packets by anything from 0 to `most` s, another delay every 20 ms; order is kept.
fn jitter(stream: &mut [Sent], most: f64) {
    let (mut random, mut block, mut delay, mut last) = (Random(99), 0, 0.0, 0.0_f64);
    for packet in stream {
        let now = (packet.arrival / 0.02) as u64;
        if now != block {
            (block, delay) = (now, random.unit() * most);
        }
        packet.arrival = last.max(packet.arrival + delay);
        last = packet.arrival;
    }
}

/// The greatest interarrival jitter (RFC 3550, section 6.4.1) from some time on, of these times against the ideal ones.
fn greatest_jitter(times: impl Iterator<Item = (f64, f64)>, from: f64) -> f64 {
    let (mut jitter, mut greatest, mut last) = (0.0, 0.0_f64, None);
    for (ideal, at) in times.filter(|(_, at)| *at >= from) {
        let transit = at - ideal;
        if let Some(last) = last.replace(transit) {
            let step: f64 = transit - last;
            jitter += (step.abs() - jitter) / 16.0;
        }
        greatest = greatest.max(jitter);
    }
    greatest
}

fn jitter_out(left: &[Left], from: f64) -> f64 {
    greatest_jitter(left.iter().map(|l| (l.ideal, l.at)), from)
}

fn jitter_in(left: &[Left]) -> f64 {
    greatest_jitter(left.iter().map(|l| (l.ideal, l.arrival)), 0.0)
}

fn mean_delay(left: &[Left]) -> f64 {
    left.iter().map(Left::delay).sum::<f64>() / left.len() as f64
}

#[test]
fn twenty_milliseconds_of_jitter_at_20_mbit_are_gone_but_for_the_grain_of_the_timestamps() {
    let mut stream = steady(20e6 / 8.0 / SEVEN as f64, 30.0);
    jitter(&mut stream, 0.02);
    let mut bench = Bench::new();
    let left = bench.all(stream);
    bench.assert_even();
    assert!(jitter_in(&left) > 800e-6, "{}", jitter_in(&left));
    assert!(jitter_out(&left, 0.0) < TICK, "{}", jitter_out(&left, 0.0));
    assert!((mean_delay(&left) - SMOOTHING).abs() < 0.002, "{}", mean_delay(&left));
    assert_eq!(bench.pacer.timebase(), Timebase::Rtp);
    assert!(bench.pacer.memory() <= 512 << 10, "{} bytes hold 100 ms", bench.pacer.memory());
}

#[test]
fn a_first_packet_that_came_late_does_not_set_the_delay() {
    let mut stream = steady(1000.0, 5.0);
    for packet in &mut stream[..40] {
        packet.arrival = packet.arrival.max(1.04);
    }
    let left = Bench::new().all(stream);
    assert!((left[1000].delay() - SMOOTHING).abs() < 0.021, "{}", left[1000].delay());
    assert!((left[0].delay() - 0.06) < 0.021, "{}", left[0].delay());
}

#[test]
fn packets_of_one_timestamp_that_come_at_once_leave_evenly_until_the_next() {
    let (mut stream, mut random, mut index) = (Vec::new(), Random(5), 0);
    for frame in 0..1000 {
        let (at, packets) = (1.0 + f64::from(frame) * 0.04, 1 + random.next() % 60);
        for n in 0..packets {
            let ideal = at + 0.04 * n as f64 / packets as f64;
            stream.push(Sent { ideal, arrival: at, clock: rtp_at(at), payload: payload(index), restart: false });
            index += 1;
        }
    }
    let mut bench = Bench::new();
    let left = bench.all(stream);
    bench.assert_even();
    // The rate of the last frame is not known: nothing came after it.
    let left = &left[..left.len() - 60];
    assert!(jitter_in(left) > 0.001);
    assert!(jitter_out(left, 0.0) < 2.0 * TICK, "{}", jitter_out(left, 0.0));
}

#[test]
fn a_smoothing_shorter_than_the_step_of_the_timestamps_goes_by_the_rate_so_far() {
    let mut stream = steady(1000.0, 20.0);
    for packet in &mut stream {
        // Sent in bursts of 10 ms, stamped every 100 ms.
        packet.arrival = (packet.ideal / 0.01).floor() * 0.01;
        packet.clock = rtp_at((packet.ideal / 0.1).floor() * 0.1);
    }
    let mut bench = Bench::with(0.03, GIGABIT);
    let left = bench.all(stream);
    assert!(jitter_out(&left, 2.0) < 200e-6, "{}", jitter_out(&left, 2.0));
    assert_eq!(bench.pacer.counters().anchored, 1);
}

#[test]
fn timestamps_of_pictures_sent_out_of_order_are_no_clock_where_there_is_a_pcr() {
    // Display times of I B B P as they are sent, 25 a second; every picture is 20 packets at once, the first with PCR.
    let order = [3, 1, 2];
    let (mut stream, mut index) = (Vec::new(), 0);
    for picture in 0..750_u32 {
        let (at, shown) = (1.0 + f64::from(picture) * 0.04, picture / 3 * 3 + order[picture as usize % 3]);
        for n in 0..20 {
            let (ideal, clock) = (at + f64::from(n) * 0.002, rtp_at(1.0 + f64::from(shown) * 0.04));
            let payload = if n == 0 { pcr_at(at, index) } else { payload(index) };
            stream.push(Sent { ideal, arrival: at, clock, payload, restart: false });
            index += 1;
        }
    }
    let mut bench = Bench::new();
    let left = bench.all(stream);
    assert_eq!(bench.pacer.timebase(), Timebase::Pcr);
    assert!(bench.pacer.counters().anchored <= 2, "{:?}", bench.pacer.counters());
    assert!(jitter_out(&left[..left.len() - 20], 1.5) < 1e-6, "{}", jitter_out(&left, 1.5));
}

/// A packet with a PCR.
fn pcr_at(time: f64, index: u64) -> Vec<u8> {
    let mut packet = payload(index);
    packet[20..28].copy_from_slice(&index.to_be_bytes());
    packet[1..6].copy_from_slice(&[1, 0, 0x30, 100, 0x10]);
    packet[6..12].copy_from_slice(&Pcr::new((time * 27e6) as u64 + Pcr::TURN / 2).write());
    packet
}

/// A transport stream with PCRs only, from this PCR on.
fn with_pcr(rate: u64, seconds: f64, first: u64) -> Vec<Sent> {
    let mut stream = TestStream::new(1, rate);
    let datagrams = (seconds * rate as f64 / 8.0 / SEVEN as f64) as usize;
    let next = |_| {
        let (ideal, mut payload) = (1.0 + stream.due().as_secs_f64(), vec![0; SEVEN]);
        stream.fill(&mut payload);
        for packet in payload.as_chunks_mut::<PACKET_LEN>().0 {
            if packet[3] & 0x20 != 0 && packet[5] & 0x10 != 0 {
                let field = packet[6..].first_chunk_mut().unwrap();
                *field = Pcr::new(Pcr::read(field).ticks() + first).write();
            }
        }
        Sent { ideal, arrival: ideal, clock: SourceClock::Stream, payload, restart: false }
    };
    (0..datagrams).map(next).collect()
}

#[test]
fn a_stream_without_rtp_leaves_by_its_pcr_over_the_wrap() {
    let mut stream = with_pcr(8_000_000, 20.0, Pcr::TURN - 5 * Pcr::HZ);
    jitter(&mut stream, 0.02);
    let mut bench = Bench::new();
    let left = bench.all(stream);
    bench.assert_even();
    assert_eq!(bench.pacer.timebase(), Timebase::Pcr);
    // Until two PCRs have come, there is nothing to go by.
    assert!(jitter_out(&left, 1.3) < 2e-6, "{}", jitter_out(&left, 1.3));
    assert!(jitter_out(&left, 0.0) < jitter_in(&left));
    // A receiver that sees only timestamps sees the same.
    let first = left[0].timestamp;
    let seen = left.iter().map(|l| (f64::from(l.timestamp.distance(first)) * TICK, l.at));
    assert!(greatest_jitter(seen, 0.0) < TICK);
}

#[test]
fn a_stream_without_any_clock_leaves_at_its_rate() {
    let mut stream = steady(1900.0, 30.0);
    stream.iter_mut().for_each(|packet| packet.clock = SourceClock::Stream);
    jitter(&mut stream, 0.02);
    let mut bench = Bench::new();
    let left = bench.all(stream);
    bench.assert_even();
    assert_eq!(bench.pacer.timebase(), Timebase::Rate);
    assert!(jitter_in(&left) > 800e-6, "{}", jitter_in(&left));
    assert!(jitter_out(&left, 3.0) < 60e-6, "{}", jitter_out(&left, 3.0));
    assert!((mean_delay(&left) - SMOOTHING).abs() < 0.005, "{}", mean_delay(&left));
}

/// A day of four packets a second with 20 ms of jitter, from a source whose clock is wrong by so many ppm: nothing is
/// ever late or early, and the average of every minute stays near the smoothing.
fn a_day(ppm: f64, clock: impl Fn(f64) -> (SourceClock, Vec<u8>)) -> Pacer {
    let (mut bench, mut random) = (Bench::new(), Random(3));
    let (mut sum, mut count, mut minute) = (0.0, 0.0, 0);
    for index in 0..4 * 86_400_u32 {
        let by_source = f64::from(index) * 0.25;
        let ideal = 1.0 + by_source * (1.0 + ppm * 1e-6);
        let (clock, mut payload) = clock(by_source);
        payload[100..104].copy_from_slice(&index.to_be_bytes());
        let sent = Sent { ideal, arrival: ideal + random.unit() * 0.02, clock, payload, restart: false };
        bench.push(sent, |left| {
            (sum, count) = (sum + left.delay(), count + 1.0);
            let now = (left.at / 60.0) as u32;
            if now != minute {
                let mean: f64 = sum / count;
                assert!((mean - SMOOTHING).abs() < 0.015, "{mean} s in minute {minute}");
                assert!(minute < 10 || (mean - SMOOTHING).abs() < 0.005, "{mean} s in minute {minute}");
                (sum, count, minute) = (0.0, 0.0, now);
            }
        });
    }
    bench.assert_even();
    assert!((bench.pacer.drift_ppm() - ppm).abs() < 60.0, "{} ppm", bench.pacer.drift_ppm());
    bench.pacer
}

#[test]
fn a_day_of_a_fast_or_slow_rtp_clock_neither_drains_nor_fills_the_buffer() {
    for ppm in [-100.0, 100.0] {
        a_day(ppm, |time| (rtp_at(time), payload(0)));
    }
}

#[test]
fn a_day_of_a_fast_or_slow_pcr_neither_drains_nor_fills_the_buffer() {
    for ppm in [-100.0, 100.0] {
        let pacer = a_day(ppm, |time| (SourceClock::Stream, pcr_at(time, 0)));
        assert_eq!(pacer.timebase(), Timebase::Pcr);
    }
}

#[test]
fn a_lasting_change_of_the_paths_delay_is_followed_without_a_step() {
    let mut stream = steady(100.0, 900.0);
    stream.iter_mut().filter(|packet| packet.ideal > 300.0).for_each(|packet| packet.arrival += 0.05);
    let mut bench = Bench::new();
    let left = bench.all(stream);
    bench.assert_even();
    for pair in left.windows(2) {
        let speed = (pair[1].offset() - pair[0].offset()) / (pair[1].ideal - pair[0].ideal);
        assert!(speed.abs() < 800e-6 + TICK / 0.01, "{speed} at {}", pair[0].at);
    }
    let mean = mean_delay(&left[85_000..]);
    assert!((mean - SMOOTHING).abs() < 0.005, "{mean}");
}

#[test]
fn a_stream_that_begins_anew_leaves_with_the_wanted_delay_again() {
    let mut stream = steady(1000.0, 10.0);
    for packet in &mut stream[4000..] {
        (packet.ideal, packet.arrival) = (packet.ideal + 3.0, packet.arrival + 3.0);
        packet.clock = rtp_at(packet.ideal + 12_345.678);
    }
    stream[4000].restart = true;
    let mut bench = Bench::new();
    let left = bench.all(stream);
    let c = *bench.pacer.counters();
    assert_eq!((c.late, c.early, c.anchored), (0, 0, 2));
    assert!(left.iter().all(|l| (l.delay() - SMOOTHING).abs() < 0.001));
}

#[test]
fn a_clock_set_anew_while_packets_keep_coming_is_not_noticed() {
    for leap in [3600.0, -3600.0, 5.0, -1.5] {
        let mut stream = steady(1000.0, 10.0);
        stream[4000..].iter_mut().for_each(|packet| packet.clock = rtp_at(packet.ideal + leap));
        let mut bench = Bench::new();
        let left = bench.all(stream);
        bench.assert_even();
        assert!(left.iter().all(|l| (l.delay() - SMOOTHING).abs() < 0.002), "{leap} s");
    }
}

#[test]
fn a_pcr_clock_set_anew_is_not_noticed() {
    let mut stream = with_pcr(8_000_000, 4.0, 0);
    let mut other = with_pcr(8_000_000, 4.0, 1 << 40);
    other.iter_mut().for_each(|p| (p.ideal, p.arrival) = (p.ideal + 4.0, p.arrival + 4.0));
    stream.extend(other);
    let mut bench = Bench::new();
    let left = bench.all(stream);
    bench.assert_even();
    assert!(jitter_out(&left, 1.3) < 100e-6, "{}", jitter_out(&left, 1.3));
}

#[test]
fn after_a_pause_of_ten_seconds_packets_leave_evenly_again() {
    for clock_runs in [true, false] {
        let mut stream = steady(1000.0, 20.0);
        for packet in &mut stream[10_000..] {
            (packet.ideal, packet.arrival) = (packet.ideal + 10.0, packet.arrival + 10.0);
            if clock_runs {
                packet.clock = rtp_at(packet.ideal);
            }
        }
        let mut bench = Bench::new();
        let left = bench.all(stream);
        let c = *bench.pacer.counters();
        if clock_runs {
            bench.assert_even();
        } else {
            assert!(c.anchored == 2 && (500..=510).contains(&c.late) && c.early == 0, "{c:?}");
        }
        assert!(left[10_600..].iter().all(|l| (l.delay() - SMOOTHING).abs() < 0.001), "{:?}", left[10_600]);
    }
}

#[test]
fn what_a_stall_has_delayed_leaves_at_once_and_the_pace_goes_on() {
    let mut stream = steady(1000.0, 10.0);
    for packet in &mut stream[5000..5500] {
        packet.arrival = stream_time(5500);
    }
    let mut bench = Bench::new();
    let left = bench.all(stream);
    let c = *bench.pacer.counters();
    assert!((399..=401).contains(&c.late) && c.early == 0 && c.anchored == 1, "{c:?}");
    let (before, after) = (left[4900].offset(), left[5600].offset());
    assert!((before - after).abs() < 0.001, "{before} and {after}");
}

#[test]
fn a_network_that_stalls_again_and_again_is_not_blamed_on_the_clock() {
    // Every 5 s nothing comes for a second, and what was held comes at twice its rate.
    let mut stream = steady(500.0, 60.0);
    for packet in &mut stream {
        let phase = packet.ideal.rem_euclid(5.0);
        let held = if phase < 1.0 { 1.0 + phase / 2.0 } else { (phase / 2.0 + 1.0).max(phase) };
        packet.arrival += held - phase;
    }
    let mut bench = Bench::new();
    let left = bench.all(stream);
    assert_eq!(bench.pacer.timebase(), Timebase::Rtp);
    let c = bench.pacer.counters();
    assert!(c.late > 1000 && c.anchored > 5, "it is corrected every time, to both sides: {c:?}");
    // When all is well again, before the next stall.
    assert!(left.iter().filter(|l| l.ideal.rem_euclid(5.0) > 4.0).all(|l| l.delay() < 1.5 * SMOOTHING));
}

fn stream_time(index: u32) -> f64 {
    1.0 + f64::from(index) / 1000.0
}

#[test]
fn a_source_faster_than_its_clock_says_fills_no_memory() {
    let mut stream = steady(1000.0, 100.0);
    stream.iter_mut().for_each(|packet| packet.arrival = 1.0 + (packet.arrival - 1.0) / 10.0);
    let mut bench = Bench::new();
    let left = bench.all(stream);
    assert!(bench.pacer.memory() <= 1 << 20, "{}", bench.pacer.memory());
    assert!(bench.pacer.counters().early > 0);
    // Its clock is found out, and it goes by its rate.
    assert_eq!(bench.pacer.timebase(), Timebase::Rate);
    assert!(left[50_000..].iter().all(|l| (l.delay() - SMOOTHING).abs() < 0.01));
}

#[test]
fn timestamps_that_count_something_else_are_found_out() {
    // Milliseconds, arrival at the sender's card in 1 Hz, and always the same.
    for (hz, name) in [(1000.0, "ms"), (1.0, "s"), (0.0, "constant")] {
        let mut stream = steady(1000.0, 30.0);
        for packet in &mut stream {
            packet.clock = SourceClock::Rtp(RtpTime((packet.ideal * hz) as u32));
        }
        jitter(&mut stream, 0.02);
        let mut bench = Bench::new();
        let left = bench.all(stream);
        assert_eq!(bench.pacer.timebase(), Timebase::Rate, "{name}");
        assert!(jitter_out(&left, 10.0) < 100e-6, "{name}: {}", jitter_out(&left, 10.0));
    }
}

#[test]
fn a_changing_rate_is_followed() {
    for by_pcr in [true, false] {
        let (mut stream, mut from) = (Vec::new(), 0.0);
        for rate in [5_000_000, 20_000_000, 2_000_000, 2_100_000] {
            let mut part = with_pcr(rate, 5.0, (from * 27e6) as u64);
            part.iter_mut().for_each(|p| (p.ideal, p.arrival) = (p.ideal + from, p.arrival + from));
            from = part.last().unwrap().ideal - 1.0 + SEVEN as f64 * 8.0 / rate as f64;
            stream.extend(part);
        }
        if !by_pcr {
            stream.iter_mut().zip(0..).for_each(|(packet, index)| packet.payload = payload(index).repeat(7));
        }
        let mut bench = Bench::new();
        let left = bench.all(stream);
        bench.assert_even();
        let worst = left.iter().map(|l| (l.delay() - SMOOTHING).abs()).fold(0.0, f64::max);
        assert!(worst < if by_pcr { 0.005 } else { 0.09 }, "{by_pcr}: {worst} s");
    }
}

#[test]
fn without_memory_packets_leave_early_and_none_is_lost() {
    let mut stream = steady(20_000.0, 2.0);
    stream.iter_mut().for_each(|packet| packet.payload = packet.payload.repeat(7));
    let mut bench = Bench::with(SMOOTHING, Bitrate::from_bps(1_000_000));
    bench.all(stream);
    assert!(bench.overflowed && bench.pacer.counters().overflow > 1000);
    assert!(bench.pacer.memory() <= 256 << 10);
}

#[test]
fn memory_is_taken_with_the_first_packet_only() {
    let mut bench = Bench::new();
    assert_eq!((bench.pacer.memory(), bench.pacer.poll_timeout()), (0, None));
    bench.all(steady(100.0, 1.0));
    assert_eq!((bench.pacer.memory(), bench.pacer.poll_timeout()), (64 << 10, None));
}

#[test]
fn a_payload_is_found_in_its_datagram_or_kept_alone() {
    let (datagram, elsewhere) = ([[7; 12].as_slice(), &payload(1), &[0; 3]].concat(), payload(2));
    let (mut bench, now) = (Bench::new(), Instant::now());
    let timestamp = RtpTime(9);
    let packet = |payload| MediaPacket { payload, datagram: &datagram, arrival: now, timestamp, discontinuity: false };
    bench.pacer.push(&packet(&datagram[12..200]), rtp_at(1.0), now).unwrap();
    bench.pacer.push(&packet(&elsewhere), rtp_at(1.0), now).unwrap();
    bench.pacer.release(now + Duration::from_secs(1));
    let out: Vec<_> = bench.pacer.released().collect();
    assert_eq!((out[0].datagram, out[0].payload, out[0].timestamp), (&datagram[..], &datagram[12..200], RtpTime(9)));
    assert_eq!((out[1].datagram, out[1].payload), (&elsewhere[..], &elsewhere[..]));
}

/// Fuzz body: six bytes a packet (time, kind, clock, size), then what holds for any traffic.
pub(crate) fn fuzz(data: &[u8]) {
    let Some((&smoothing, data)) = data.split_first() else { return };
    let mut bench = Bench::with(0.001 * (1.0 + f64::from(smoothing)), Bitrate::from_bps(2_000_000));
    let (mut at, mut ideal, mut stream) = (1.0, 0.0, Vec::new());
    for (index, &[step, kind, a, b, c, size]) in (0..).zip(data.as_chunks::<6>().0) {
        at += f64::from(step) * f64::from(step) * 2e-6;
        ideal += f64::from(step) * f64::from(step) * 2e-6 + f64::from(a) * 1e-6;
        let mut payload = payload(index).repeat(1 + usize::from(size % 8));
        let clock = match kind % 8 {
            0..=2 => rtp_at(ideal),
            3 => rtp_at((ideal / 0.04).floor() * 0.04),
            4 => SourceClock::Rtp(RtpTime(u32::from_be_bytes([a, b, c, kind]))),
            5 => SourceClock::Stream,
            _ => {
                let pcr =
                    if kind & 0x80 == 0 { (ideal * 27e6) as u64 } else { u64::from_be_bytes([0, 0, a, b, c, a, b, c]) };
                payload[1..6].copy_from_slice(&[1, b & 1, 0x30, 100, 0x10 | (c & 0x80)]);
                payload[6..12].copy_from_slice(&Pcr::new(pcr).write());
                SourceClock::Stream
            }
        };
        at += if kind & 0x70 == 0x70 { f64::from(c) * 0.1 } else { 0.0 };
        stream.push(Sent { ideal: at, arrival: at, clock, payload, restart: kind & 0x78 == 0x68 });
    }
    bench.all(stream);
}

proptest! {
    #[test]
    fn no_traffic_is_lost_put_out_of_order_or_held_for_long(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        fuzz(&data);
    }

    /// Whatever the network does within the buffer, an even stream leaves even.
    #[test]
    fn any_jitter_below_the_smoothing_is_gone(
        per_second in 20_u32..2000,
        smoothing in 20_u32..500,
        delays in prop::collection::vec(0.0_f64..0.5, 40),
    ) {
        let smoothing = f64::from(smoothing) * 1e-3;
        let mut stream = steady(f64::from(per_second), 2.0);
        let mut last = 0.0_f64;
        for packet in &mut stream {
            let delay = delays[(packet.ideal / 0.05) as usize % delays.len()] * smoothing;
            packet.arrival = last.max(packet.arrival + delay);
            last = packet.arrival;
        }
        let mut bench = Bench::with(smoothing, GIGABIT);
        let left = bench.all(stream);
        bench.assert_even();
        for pair in left.windows(2) {
            prop_assert!((pair[1].offset() - pair[0].offset()).abs() <= TICK + 800e-6 / f64::from(per_second), "{:?}", pair);
        }
    }
}
