//! A moment, in one word: the packet path compares moments and adds to them many times for each packet.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment on the monotonic clock: as [`std::time::Instant`], but of 8 bytes, also as an `Option`. Arithmetic stays
/// within its range of 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        // It is there on every Linux.
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Self::at(0), |time| {
            let (seconds, nanoseconds) = (time.tv_sec().cast_unsigned(), time.tv_nsec().cast_unsigned());
            Self::at(seconds.saturating_mul(NANOS).saturating_add(nanoseconds))
        })
    }

    const fn at(nanoseconds: u64) -> Self {
        match NonZeroU64::new(nanoseconds) {
            Some(nanoseconds) => Self(nanoseconds),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// How long ago it was; zero for one to come.
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    /// How long after `earlier`; zero where it is not after.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// So much later; `None` beyond the range.
    #[must_use]
    pub const fn checked_add(self, time: Duration) -> Option<Self> {
        match self.0.get().checked_add(nanos(time)) {
            Some(nanoseconds) => Some(Self::at(nanoseconds)),
            None => None,
        }
    }

    /// So much earlier; `None` beyond the range.
    #[must_use]
    pub const fn checked_sub(self, time: Duration) -> Option<Self> {
        match self.0.get().checked_sub(nanos(time)) {
            Some(nanoseconds) => Some(Self::at(nanoseconds)),
            None => None,
        }
    }
}

const NANOS: u64 = 1_000_000_000;

const fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(NANOS).saturating_add(time.subsec_nanos() as u64)
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self::at(self.0.get().saturating_sub(nanos(time)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        *self = *self + time;
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        *self = *self - time;
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Zero where it is not after.
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Duration::from_nanos(self.0.get()), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_takes_one_word_and_never_runs_backwards() {
        assert_eq!((size_of::<Instant>(), size_of::<Option<Instant>>()), (8, 8));
        let (first, std_first) = (Instant::now(), std::time::Instant::now());
        while std_first.elapsed() < Duration::from_millis(2) {}
        let second = Instant::now();
        assert!(second - first >= Duration::from_millis(2) && first.elapsed() >= second - first);
        assert_eq!(first - second, Duration::ZERO);
    }

    #[test]
    fn arithmetic_stays_in_range() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        assert_eq!((now + hour) - now, hour);
        assert_eq!((now + hour) - hour, now);
        assert_eq!(now.checked_add(hour), Some(now + hour));
        assert_eq!((now.checked_add(Duration::MAX), now.checked_sub(Duration::MAX)), (None, None));
        assert!(now + Duration::MAX > now && now - Duration::MAX < now);
    }
}
