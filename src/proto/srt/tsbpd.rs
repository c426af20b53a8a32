//! Time-stamp based packet delivery: when a packet is due, from its time stamp of 32 bits (draft-sharabayko-srt,
//! section 4.5; libsrt's `tsbpd_time.cpp`).
//!
//! A packet is due at base + time stamp + latency + drift. The base is when the peer's clock began, on ours. Where
//! libsrt watches for the wrap of the time stamps in a window of 30 s around it, here a time stamp stands for the time
//! nearest to that of its arrival: the two agree for whatever libsrt can tell apart, and this also holds after a silence
//! of more than 71 minutes.
//!
//! The clocks of both ends run apart. Each ACKACK, and in idle times each keepalive, is a sample of how far: its time
//! stamp against its arrival, less half of what the round trip grew since the first one. The mean of 1000 samples, or of
//! those of a minute, is the drift; where it is beyond 5 ms, the base moves by as much.

use serde::{Deserialize, Serialize};

use super::clock::{MILLISECOND, SECOND, Tick};
use super::seq::Timestamp;

/// Samples that make a mean.
const SAMPLES: u32 = 1000;
/// Where there are few, those of this time do.
const SPAN: i64 = 60 * SECOND;
/// But not fewer than this.
const FEW: u32 = 10;
/// Beyond this the base moves.
const MAX_DRIFT: i64 = 5 * MILLISECOND;
/// A sample further off than this counts as this far off: what a few of them claim changes next to nothing.
const MAX_SAMPLE: i64 = SECOND;

/// The peer's clock, seen from ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tsbpd {
    base: Tick,
    latency: i64,
    drift: i64,
    sum: i64,
    samples: u32,
    since: Tick,
    first_rtt: Option<i64>,
}

impl Tsbpd {
    /// `base`: the peer's time stamp 0.
    pub(super) const fn new(base: Tick, latency: i64) -> Self {
        Self { base, latency, drift: 0, sum: 0, samples: 0, since: Tick::NEVER, first_rtt: None }
    }

    /// Microseconds.
    pub(super) const fn latency(&self) -> i64 {
        self.latency
    }

    /// How far the peer's clock is off since the base last moved, microseconds.
    pub(super) const fn drift(&self) -> i64 {
        self.drift
    }

    /// The time of a time stamp on the peer's clock that no longer wraps: the nearest to that of its arrival.
    pub(super) const fn unwrap(&self, timestamp: Timestamp, arrival: Tick) -> i64 {
        let expected = arrival.since(self.base) - self.drift;
        expected + timestamp.distance(Timestamp((expected & 0xFFFF_FFFF) as u32)) as i64
    }

    /// When something of that time on the peer's clock was sent, on ours, as if the path took no time.
    pub(super) const fn origin(&self, time: i64) -> Tick {
        self.base.add(time + self.drift)
    }

    /// When it is due.
    pub(super) const fn due(&self, time: i64) -> Tick {
        self.origin(time).add(self.latency)
    }

    /// An ACKACK or a keepalive came, with the round trip that the ACKACK ended.
    pub(super) fn sample(&mut self, timestamp: Timestamp, arrival: Tick, rtt: Option<i64>) {
        // Half of it: what the path to us takes more than when the base was set.
        let longer = rtt.map_or(0, |rtt| (rtt - *self.first_rtt.get_or_insert(rtt)) / 2);
        let off = arrival.since(self.base.add(self.unwrap(timestamp, arrival))) - longer;
        self.sum += off.clamp(self.drift - MAX_SAMPLE, self.drift + MAX_SAMPLE);
        self.samples += 1;
        self.since = self.since.min(arrival);
        if self.samples < SAMPLES && (self.samples < FEW || arrival.since(self.since) < SPAN) {
            return;
        }
        self.drift = self.sum / i64::from(self.samples);
        (self.sum, self.samples, self.since) = (0, 0, Tick::NEVER);
        if self.drift.abs() > MAX_DRIFT {
            let moved = MAX_DRIFT * self.drift.signum();
            self.base = self.base.add(moved);
            self.drift -= moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LATENCY: i64 = 120_000;
    /// One turn of the time stamps.
    const TURN: i64 = 1 << 32;

    fn stamp(time: i64) -> Timestamp {
        Timestamp((time & 0xFFFF_FFFF) as u32)
    }

    #[test]
    fn a_packet_is_due_its_latency_after_its_time_stamp() {
        let tsbpd = Tsbpd::new(Tick(5_000_000), LATENCY);
        let time = tsbpd.unwrap(Timestamp(70_000), Tick(5_090_000));
        assert_eq!(tsbpd.origin(time), Tick(5_070_000));
        assert_eq!(tsbpd.due(time), Tick(5_190_000));
        let before = tsbpd.unwrap(Timestamp(u32::MAX), Tick(5_000_000));
        assert_eq!(tsbpd.due(before), Tick(5_119_999), "just before the peer's clock began");
    }

    #[test]
    fn time_stamps_wrap_also_after_hours_of_silence() {
        let tsbpd = Tsbpd::new(Tick(-700), LATENCY);
        for time in [TURN - 1, TURN, TURN + 1, 3 * TURN - 5, 3 * TURN + 5, 100 * TURN] {
            for late in [-20 * 60 * SECOND, -1, 0, 40_000, 20 * 60 * SECOND] {
                assert_eq!(tsbpd.unwrap(stamp(time), tsbpd.origin(time).add(late)), time);
            }
        }
    }

    /// Ten a second or a hundred, with jitter, for a day; the peer's clock runs fast or slow.
    #[test]
    fn a_day_of_drift_stays_within_two_milliseconds() {
        for (ppm, every) in [(100, 10_000), (-100, 10_000), (100, 250_000), (-100, 1_000_000)] {
            let mut tsbpd = Tsbpd::new(Tick(0), LATENCY);
            let mut worst = 0;
            for n in 1..86_400_000_000 / every {
                let now = n * every;
                let theirs = now + now / 1_000_000 * ppm + now % 1_000_000 * ppm / 1_000_000;
                let jitter = n % 7 * 500 - 1500;
                let arrival = Tick(now + jitter);
                let rtt = (every < 1_000_000).then_some(100_000);
                tsbpd.sample(stamp(theirs), arrival, rtt);
                worst = worst.max((tsbpd.origin(tsbpd.unwrap(stamp(theirs), arrival)).0 - now).abs());
            }
            // The mean of a span lags by half of it, and holds for the whole of the next one.
            let span = (1000 * every).min(60 * SECOND);
            let lag = span / 1_000_000 * 3 / 2 * 100;
            assert!(worst <= lag + 600, "{ppm} ppm, every {every} us: {worst} us off");
        }
    }

    #[test]
    fn a_longer_path_is_not_taken_for_drift() {
        let mut tsbpd = Tsbpd::new(Tick(0), LATENCY);
        for n in 0..2000_i64 {
            // The round trip grows from 20 to 60 ms, the way to us by half of that.
            let (rtt, delay) = if n < 100 { (20_000, 0) } else { (60_000, 20_000) };
            tsbpd.sample(stamp(n * 10_000), Tick(n * 10_000 + delay), Some(rtt));
        }
        assert_eq!(tsbpd.origin(0), Tick(0));
    }

    #[test]
    fn what_a_few_forged_samples_claim_changes_next_to_nothing() {
        let mut tsbpd = Tsbpd::new(Tick(0), LATENCY);
        for n in 0..1000_i64 {
            let forged = if n % 100 == 0 { 1_900_000_000 } else { 0 };
            tsbpd.sample(stamp(n * 10_000 - forged), Tick(n * 10_000), Some(20_000));
        }
        assert!(tsbpd.origin(0).0.abs() <= 10 * MILLISECOND, "{:?}", tsbpd.origin(0));
    }

    #[test]
    fn a_clock_that_jumped_is_followed() {
        let mut tsbpd = Tsbpd::new(Tick(0), LATENCY);
        for n in 0..5000_i64 {
            tsbpd.sample(stamp(n * 10_000), Tick(n * 10_000 + 3 * SECOND), None);
        }
        assert_eq!(tsbpd.origin(0), Tick(3 * SECOND));
    }

    proptest! {
        #[test]
        fn unwrapping_finds_what_arrives_within_half_a_turn(
            base in -TURN..TURN, time in 0..1000 * TURN, late in -TURN / 2 + 1..TURN / 2,
        ) {
            let tsbpd = Tsbpd::new(Tick(base), LATENCY);
            prop_assert_eq!(tsbpd.unwrap(stamp(time), Tick(base + time + late)), time);
        }
    }
}
