//! When a packet is to be released: by its RTP timestamp, at a fixed time after it was sent.
//!
//! The sender's clock is seen through the arrivals: whichever packet of a second came with the least delay says how far
//! its timestamps and our clock are apart. That distance follows by at most 1 ms a second, so neither jitter nor a burst
//! moves anything, and clocks that run apart do no harm. Timestamps that jump are followed when eight in a row agree; those
//! of a clock that is no 90 kHz are not used at all: then a packet is due its latency after it came.

use super::super::clock::{MILLISECOND, SECOND, Tick, media_nanos};
use crate::proto::seq::RtpTime;
use serde::{Deserialize, Serialize};

/// The distance is looked at this often.
const WINDOW: i64 = SECOND;
/// And follows by this much each time.
const STEP: i64 = MILLISECOND;
/// A packet that comes so much before its time has a timestamp that makes no sense.
const MOST_EARLY: i64 = SECOND;
/// So many of them in a row, which agree, are a jump.
const JUMP: u8 = 8;
/// A clock that is off by more than this each window is none.
const ROGUE_STEP: i64 = 20 * MILLISECOND;
/// For so many windows, or jumps in a row.
const ROGUE_WINDOWS: u8 = 3;

/// The sender's clock, seen from ours.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Timing {
    latency: i64,
    /// From media time to the arrival of a packet that was not delayed.
    offset: i64,
    /// The newest timestamp, and the media time in ticks that it stands for.
    newest: (RtpTime, i64),
    /// When the window began, and the least distance in it.
    window: (Tick, i64),
    outliers: u8,
    outlier: i64,
    /// How far the clock was off in the last window, and in how many by ever more.
    error: i64,
    rogue: u8,
    /// When timestamps last jumped, and how often shortly after each other.
    jumped: Tick,
    jumps: u8,
}

impl Timing {
    /// With the first packet.
    pub(super) const fn new(latency: i64, arrival: Tick, first: RtpTime) -> Self {
        Self {
            latency,
            offset: arrival.0,
            newest: (first, 0),
            window: (arrival, i64::MAX),
            outliers: 0,
            outlier: 0,
            error: 0,
            rogue: 0,
            jumped: arrival,
            jumps: 0,
        }
    }

    /// Whether timestamps are used.
    pub(super) const fn is_trusted(&self) -> bool {
        self.rogue < ROGUE_WINDOWS && self.jumps < ROGUE_WINDOWS
    }

    pub(super) const fn set_latency(&mut self, latency: i64) {
        self.latency = latency;
    }

    /// Ticks after the newest timestamp.
    pub(super) const fn ahead(&self, timestamp: RtpTime) -> i32 {
        timestamp.distance(self.newest.0)
    }

    fn media(&self, timestamp: RtpTime) -> i64 {
        media_nanos(self.newest.1 + i64::from(self.ahead(timestamp)))
    }

    /// When a packet is due that came for the first time; and whether timestamps have jumped with it.
    pub(super) fn original(&mut self, arrival: Tick, timestamp: RtpTime) -> (Tick, bool) {
        let by_arrival = arrival.add(self.latency);
        if !self.is_trusted() {
            return (by_arrival, false);
        }
        let media = self.media(timestamp);
        let offset = arrival.0.saturating_sub(media);
        let off = offset - self.offset;
        if !(-MOST_EARLY..=self.latency.max(SECOND)).contains(&off) {
            let agrees = (offset - self.outlier).abs() < SECOND;
            (self.outliers, self.outlier) = (if agrees { self.outliers + 1 } else { 1 }, offset);
            if self.outliers < JUMP {
                return (by_arrival, false);
            }
            self.restart(arrival, timestamp);
            return (by_arrival, true);
        }
        self.outliers = 0;
        let ahead = self.ahead(timestamp);
        if ahead > 0 {
            self.newest = (timestamp, self.newest.1 + i64::from(ahead));
        }
        self.window.1 = self.window.1.min(offset);
        if arrival.since(self.window.0) >= WINDOW {
            self.follow(arrival);
        }
        (Tick(self.offset).add(media + self.latency), false)
    }

    /// When one is due that was sent again; `None`: its timestamp does not say.
    pub(super) fn again(&self, timestamp: RtpTime) -> Option<Tick> {
        let before = -media_nanos(self.ahead(timestamp).into());
        let plausible = self.is_trusted() && (-SECOND..self.latency + 10 * SECOND).contains(&before);
        plausible.then(|| Tick(self.offset).add(self.media(timestamp) + self.latency))
    }

    fn restart(&mut self, arrival: Tick, timestamp: RtpTime) {
        let again = arrival.since(self.jumped) < self.latency.max(SECOND) + 4 * SECOND;
        let jumps = if again { self.jumps + 1 } else { 0 };
        *self = Self { rogue: self.rogue, jumps, ..Self::new(self.latency, arrival, timestamp) };
    }

    fn follow(&mut self, arrival: Tick) {
        let error = self.window.1 - self.offset;
        let more = error.abs() - self.error.abs() > ROGUE_STEP - STEP && (error < 0) == (self.error <= 0);
        self.rogue = if more { self.rogue + 1 } else { 0 };
        self.error = error;
        self.offset += error.clamp(-STEP, STEP);
        self.window = (arrival, i64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtp::receive::tests::Random;

    const LATENCY: i64 = SECOND;

    fn stamp(ns: i64) -> RtpTime {
        RtpTime(((i128::from(ns) * 9 / 100_000 + 0xFFFF_0000) & 0xFFFF_FFFF) as u32)
    }

    /// A day at 4 packets a second, with jitter: timestamps wrap twice.
    #[test]
    fn a_day_of_drift_stays_within_milliseconds() {
        for ppm in [-200, 0, 50, 200] {
            let (mut random, mut timing) = (Random(5), Timing::new(LATENCY, Tick(0), stamp(0)));
            let mut worst = 0;
            for n in 1..4 * 86_400_i64 {
                let sent = n * SECOND / 4;
                let theirs = sent + sent / 1_000_000 * ppm;
                let arrival = Tick(sent + 30 * MILLISECOND * i64::from(n > 1) * random.below(1000) as i64 / 1000);
                let (due, jumped) = timing.original(arrival, stamp(theirs));
                assert!(!jumped);
                worst = worst.max((due.0 - sent - LATENCY).abs());
            }
            assert!(timing.is_trusted() && worst < 15 * MILLISECOND, "{ppm} ppm: {worst} ns off");
        }
    }

    #[test]
    fn jitter_and_a_burst_move_nothing() {
        let mut timing = Timing::new(LATENCY, Tick(0), stamp(0));
        for n in 1..1000_i64 {
            let sent = n * 10 * MILLISECOND;
            // Half a second is held up, and comes at once.
            let arrival = if (300..350).contains(&n) { 3500 * MILLISECOND } else { sent };
            let (due, _) = timing.original(Tick(arrival), stamp(sent));
            assert!((due.0 - sent - LATENCY).abs() < 100_000, "{n}");
            assert_eq!(timing.again(stamp(sent)), Some(due));
        }
    }

    #[test]
    fn timestamps_that_jump_are_followed_and_one_alone_is_not() {
        for jump in [-7_000_000, 7_000_000_i64] {
            let mut timing = Timing::new(LATENCY, Tick(0), stamp(0));
            let mut jumps = 0;
            for n in 1..200_i64 {
                let sent = n * 10 * MILLISECOND;
                let there = if n == 50 || n >= 100 { sent + jump * 1000 } else { sent };
                let (due, jumped) = timing.original(Tick(sent), stamp(there));
                assert!((due.0 - sent - LATENCY).abs() < 100_000, "{n}: {due:?}");
                assert!(!jumped || n == 107, "{n}");
                jumps += u32::from(jumped);
            }
            assert_eq!(jumps, 1);
        }
    }

    #[test]
    fn a_clock_that_is_none_is_not_used() {
        for (numerator, denominator) in [(0, 1), (1, 90), (11, 10), (2, 1)] {
            let mut timing = Timing::new(LATENCY, Tick(0), stamp(0));
            let mut worst = (i64::MAX, 0);
            for n in 1..3000_i64 {
                let sent = n * 10 * MILLISECOND;
                let (due, _) = timing.original(Tick(sent), stamp(sent * numerator / denominator));
                let wait = due.0 - sent;
                worst = (worst.0.min(wait), worst.1.max(wait));
                assert!(n < 2000 || wait == LATENCY, "{n}: {wait}");
            }
            assert!(worst.0 > -100 && worst.1 < 3 * SECOND, "{worst:?}");
        }
    }
}
