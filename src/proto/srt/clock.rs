//! A connection's own clock: signed microseconds since the origin of our time stamps, in one word.
//!
//! Times of the peer may lie before that origin, and much of the arithmetic is on differences of either sign.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

use super::seq::Timestamp;

/// Microseconds of a second.
pub(super) const SECOND: i64 = 1_000_000;
/// Microseconds of a millisecond.
pub(super) const MILLISECOND: i64 = 1000;

/// A moment on a connection's clock. Arithmetic stays within its range of 292,000 years either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(super) struct Tick(pub(super) i64);

impl Tick {
    /// Later than everything that happens.
    pub(super) const NEVER: Self = Self(i64::MAX);

    /// So many microseconds later; earlier, if negative.
    pub(super) const fn add(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds since `earlier`; negative when this one is the earlier.
    pub(super) const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As a time stamp on the wire: its low 32 bits. What lies before the origin gets the origin's.
    pub(super) const fn timestamp(self) -> Timestamp {
        if self.0 < 0 { Timestamp(0) } else { Timestamp((self.0 & 0xFFFF_FFFF) as u32) }
    }
}

/// From moments of the host to moments of the connection and back.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) const fn new(origin: Instant) -> Self {
        Self { origin }
    }

    pub(super) fn tick(&self, at: Instant) -> Tick {
        // One of the two is zero.
        let after = at.saturating_duration_since(self.origin);
        let before = self.origin.saturating_duration_since(at);
        Tick(micros(after) - micros(before))
    }

    /// The moment, or the nearest that the host's clock has.
    pub(super) fn instant(&self, tick: Tick) -> Instant {
        let span = Duration::from_micros(tick.0.unsigned_abs());
        let there = if tick.0 < 0 { self.origin.checked_sub(span) } else { self.origin.checked_add(span) };
        there.unwrap_or(self.origin)
    }
}

/// Whole microseconds.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_secs())
        .map_or(i64::MAX, |secs| secs.saturating_mul(SECOND).saturating_add(i64::from(span.subsec_micros())))
}

/// A span, none if negative.
pub(super) fn span(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_there_and_back_also_before_the_origin() {
        let origin = Instant::now() + Duration::from_secs(1_000_000);
        let clock = Clock::new(origin);
        for us in [0, 1, -1, 5_000_000_000, -5_000_000_000] {
            assert_eq!(clock.tick(clock.instant(Tick(us))), Tick(us));
        }
        assert_eq!(clock.tick(origin + Duration::from_millis(3)), Tick(3 * MILLISECOND));
        assert!(clock.tick(origin) < Tick::NEVER);
    }

    #[test]
    fn time_stamps_wrap_and_never_lie_before_the_origin() {
        assert_eq!(Tick((1 << 32) + 7).timestamp(), Timestamp(7));
        assert_eq!(Tick(-7).timestamp(), Timestamp(0));
    }
}
