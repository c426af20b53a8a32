//! The clocks of an end: signed nanoseconds since an origin in one word, and times as they go over the wire.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::proto::seq::RtpTime;
use crate::time::Instant;

/// Nanoseconds of a millisecond.
pub(super) const MILLISECOND: i64 = 1_000_000;
/// Nanoseconds of a second.
pub(super) const SECOND: i64 = 1_000_000_000;

/// A moment, in nanoseconds since the origin. Arithmetic stays within its range of 292 years either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(super) struct Tick(pub(super) i64);

impl Tick {
    /// Later than everything that happens.
    pub(super) const NEVER: Self = Self(i64::MAX);
    /// Earlier than everything that happens.
    pub(super) const LONG_AGO: Self = Self(i64::MIN / 2);

    /// So many nanoseconds later; earlier, if negative.
    pub(super) const fn add(self, ns: i64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds since `earlier`; negative when this one is the earlier.
    pub(super) const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// From moments of the host to those of an end and back, and to times of NTP.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Clock {
    origin: Instant,
    /// The time of NTP at the origin.
    ntp: u64,
}

impl Clock {
    /// `ntp`: what the wall clock shows at `origin`, as NTP has it: seconds since 1900, and 32 bits of their fraction.
    pub(super) const fn new(origin: Instant, ntp: u64) -> Self {
        Self { origin, ntp }
    }

    pub(super) fn tick(&self, at: Instant) -> Tick {
        // One of the two is zero.
        Tick(nanos(at.saturating_duration_since(self.origin)) - nanos(self.origin.saturating_duration_since(at)))
    }

    /// The moment, or the nearest that the host's clock has.
    pub(super) fn instant(&self, tick: Tick) -> Instant {
        let span = Duration::from_nanos(tick.0.unsigned_abs());
        if tick.0 < 0 { self.origin - span } else { self.origin + span }
    }

    /// The time of NTP.
    pub(super) const fn ntp(&self, at: Tick) -> u64 {
        let (seconds, rest) = (at.0.div_euclid(SECOND), at.0.rem_euclid(SECOND));
        let fraction = (rest.cast_unsigned() << 32) / SECOND as u64;
        self.ntp.wrapping_add((seconds.cast_unsigned() << 32).wrapping_add(fraction))
    }
}

/// Whole nanoseconds.
pub(super) fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// A span, none if negative.
pub(super) fn span(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// Nanoseconds of a difference of two times of NTP, or of one in 1/65,536 s shifted up by 16 bits.
pub(super) const fn ntp_nanos(difference: u64) -> i64 {
    // Below 2^62.
    ((difference as u128 * SECOND as u128) >> 32) as i64
}

/// The middle 32 bits of a time of NTP, as reports name it.
pub(super) const fn middle(ntp: u64) -> u32 {
    (ntp >> 16 & 0xFFFF_FFFF) as u32
}

/// A span in 1/65,536 s, as reports have it; the longest for more than that can say.
pub(super) fn short(ns: i64) -> u32 {
    u32::try_from((i128::from(ns.max(0)) << 16) / i128::from(SECOND)).unwrap_or(u32::MAX)
}

/// Nanoseconds of so many ticks of the media clock.
pub(super) const fn media_nanos(ticks: i64) -> i64 {
    // 1 s is 90,000 ticks. Below 2^46 ticks, which is 24 years, nothing overflows.
    ticks * (SECOND / 10_000) / (RtpTime::HZ as i64 / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_there_and_back_also_before_the_origin() {
        let origin = Instant::now() + Duration::from_secs(1_000_000);
        let clock = Clock::new(origin, 0);
        for ns in [0, 1, -1, 5_000_000_000_000, -5_000_000_000_000] {
            assert_eq!(clock.tick(clock.instant(Tick(ns))), Tick(ns));
        }
        assert_eq!(clock.tick(origin + Duration::from_millis(3)), Tick(3 * MILLISECOND));
    }

    #[test]
    fn times_of_ntp_go_on_from_the_origin() {
        let clock = Clock::new(Instant::now(), 0xEEB4_21EA_8000_0000);
        assert_eq!(clock.ntp(Tick(SECOND / 4)), 0xEEB4_21EA_C000_0000);
        assert_eq!(clock.ntp(Tick(SECOND * 3 / 2)), 0xEEB4_21EC_0000_0000);
        assert_eq!(clock.ntp(Tick(-SECOND)), 0xEEB4_21E9_8000_0000);
        assert_eq!(middle(0x1234_5678_9ABC_DEF0), 0x5678_9ABC);
    }

    #[test]
    fn spans_go_over_the_wire_and_back() {
        for ns in [0, 1_000_000, 99_999_999, 7 * SECOND] {
            let back = ntp_nanos(u64::from(short(ns)) << 16);
            assert!((0..=SECOND >> 16).contains(&(ns - back)), "{ns}: {back}");
        }
        assert_eq!((short(-5), short(i64::MAX)), (0, u32::MAX));
        assert_eq!(media_nanos(90), MILLISECOND);
        assert_eq!(media_nanos(-90_000 * 86_400 * 365), -SECOND * 86_400 * 365);
    }
}
