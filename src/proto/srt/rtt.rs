//! The estimate of the round trip and of how far it varies.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::{micros, span};

/// Before anything was measured (libsrt's `INITIAL_RTT`), microseconds.
const INITIAL: i64 = 100_000;
/// Likewise the variation.
const INITIAL_VAR: i64 = 50_000;
/// No path is longer: what is beyond is an error, or made up.
const LONGEST: i64 = 30_000_000;

/// Round trip and variation, smoothed: 7/8 and 3/4 of the old value stay at each sample.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Rtt {
    rtt: i64,
    var: i64,
    measured: bool,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { rtt: INITIAL, var: INITIAL_VAR, measured: false }
    }
}

impl Rtt {
    /// The round trip, microseconds.
    pub(super) const fn rtt(&self) -> i64 {
        self.rtt
    }

    /// Its variation, microseconds.
    pub(super) const fn var(&self) -> i64 {
        self.var
    }

    /// Whether these are more than initial values.
    pub(super) const fn is_measured(&self) -> bool {
        self.measured
    }

    /// After this time what was asked should have been answered: the round trip and four variations.
    pub(super) const fn answered_after(&self) -> i64 {
        self.rtt + 4 * self.var
    }

    /// A round trip that was measured here, microseconds. `false`: it cannot be one.
    pub(super) fn sample(&mut self, sample: i64) -> bool {
        if !(0..=LONGEST).contains(&sample) {
            return false;
        }
        // On one host it may take less than a microsecond.
        let sample = sample.max(1);
        if self.measured {
            self.smooth(sample);
        } else {
            *self = Self { rtt: sample, var: sample / 2, measured: true };
        }
        true
    }

    /// What the peer measured and tells in an ACK. A peer that receives nothing measures better than we do: its values
    /// are taken as they are, unless we measure ourselves, as `measuring` says (libsrt's `processCtrlAck`).
    pub(super) fn told(&mut self, rtt: Duration, var: Duration, measuring: bool) {
        let (rtt, var) = (micros(rtt), micros(var));
        // A peer that has not measured either says so by the initial values.
        if !(1..=LONGEST).contains(&rtt) || !(0..=LONGEST).contains(&var) || (rtt, var) == (INITIAL, INITIAL_VAR) {
            return;
        }
        if self.measured && measuring {
            self.smooth(rtt);
        } else {
            *self = Self { rtt, var, measured: true };
        }
    }

    fn smooth(&mut self, sample: i64) {
        self.var = (3 * self.var + (sample - self.rtt).abs()) / 4;
        self.rtt = (7 * self.rtt + sample) / 8;
    }

    /// The shortest time after which we want a packet to be sent once more.
    pub(super) const fn suppression(&self) -> i64 {
        self.rtt / 4
    }

    /// What an ACK tells the sender. It ignores reports of a packet that it sent again less than the round trip and four
    /// variations ago, and that is ours to say: we know what a report is of, and when it is to be heeded.
    pub(super) fn advice(&self) -> (Duration, Duration) {
        let var = if self.measured { self.var.max((self.rtt - self.suppression()) / 4) } else { self.var };
        (span(self.rtt), span(var))
    }

    /// For status.
    pub(super) fn spans(&self) -> (Duration, Duration) {
        (span(self.rtt), span(self.var))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_replaces_what_was_assumed() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.rtt(), rtt.var(), rtt.is_measured()), (100_000, 50_000, false));
        assert!(rtt.sample(40_000));
        assert_eq!((rtt.rtt(), rtt.var(), rtt.is_measured()), (40_000, 20_000, true));
        assert!(rtt.sample(48_000));
        assert_eq!((rtt.rtt(), rtt.var()), (41_000, 17_000));
        assert_eq!(rtt.answered_after(), 41_000 + 4 * 17_000);
    }

    #[test]
    fn what_cannot_be_a_round_trip_is_refused() {
        let mut rtt = Rtt::default();
        assert!(!rtt.sample(-1) && !rtt.sample(31_000_000) && !rtt.is_measured());
        rtt.told(Duration::from_micros(u64::from(u32::MAX)), Duration::ZERO, false);
        rtt.told(Duration::ZERO, Duration::ZERO, false);
        rtt.told(Duration::from_micros(100_000), Duration::from_micros(50_000), false);
        assert!(!rtt.is_measured());
    }

    #[test]
    fn what_the_peer_tells_is_taken_as_it_is_or_smoothed_when_we_measure_too() {
        let tell = |rtt: &mut Rtt, us, measuring| {
            rtt.told(Duration::from_micros(us), Duration::from_micros(us / 10), measuring);
        };
        let mut rtt = Rtt::default();
        tell(&mut rtt, 20_000, true);
        assert_eq!((rtt.rtt(), rtt.var()), (20_000, 2000), "the first one replaces");
        tell(&mut rtt, 30_000, false);
        assert_eq!((rtt.rtt(), rtt.var()), (30_000, 3000));
        tell(&mut rtt, 38_000, true);
        assert_eq!((rtt.rtt(), rtt.var()), (31_000, (3 * 3000 + 8000) / 4));
    }
}
