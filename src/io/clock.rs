//! Monotonic time, and the kernel's receive time stamps.

use crate::time::Instant;
use std::io;
use std::time::Duration;

use super::sys::{self, ClockId};

/// When the kernel took a datagram in: nanoseconds of realtime since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(u64);

impl Arrival {
    /// At `ns` nanoseconds since 1970.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Now, where the kernel gave no stamp.
    pub fn now() -> Self {
        Self(sys::now(ClockId::Realtime))
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier`; zero where it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Whether chrony, systemd-timesyncd or whoever keeps this host's clock says that it is right.
pub fn is_synchronised() -> bool {
    sys::clock_is_synchronised()
}

/// Two clocks read at the same moment: turns an [`Arrival`] into an [`Instant`]. Realtime is slewed and stepped, so
/// read them again every second or so.
#[derive(Debug, Clone, Copy)]
pub struct Offset {
    monotonic: Instant,
    realtime: u64,
}

impl Offset {
    /// Reads both clocks.
    pub fn sample() -> Self {
        let before = Instant::now();
        let realtime = sys::now(ClockId::Realtime);
        // Between the two readings, should we be interrupted amid them.
        Self { monotonic: before + before.elapsed() / 2, realtime }
    }

    /// The monotonic moment of `arrival`.
    pub fn instant(&self, arrival: Arrival) -> Instant {
        let after = arrival.0.checked_sub(self.realtime).map(Duration::from_nanos);
        match after {
            Some(d) => self.monotonic.checked_add(d),
            None => self.monotonic.checked_sub(Duration::from_nanos(self.realtime - arrival.0)),
        }
        .unwrap_or(self.monotonic)
    }
}

/// The CPU time this thread has used. The measure of a shard's load.
pub fn thread_cpu_time() -> Duration {
    Duration::from_nanos(sys::now(ClockId::ThreadCpu))
}

/// Makes this thread's timeouts precise: the kernel may else prolong each by 50 us. For the shards' threads.
///
/// # Errors
/// Only where a sandbox forbids the call.
pub fn set_precise_timeouts() -> io::Result<()> {
    sys::set_timer_slack()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_becomes_the_instant_at_which_it_was() {
        let offset = Offset::sample();
        let now = Arrival::from_nanos(offset.realtime);
        assert_eq!(offset.instant(now), offset.monotonic);
        let later = Arrival::from_nanos(offset.realtime + 5_000);
        assert_eq!(offset.instant(later), offset.monotonic + Duration::from_micros(5));
        let earlier = Arrival::from_nanos(offset.realtime - 5_000);
        assert_eq!(offset.instant(earlier) + Duration::from_micros(5), offset.monotonic);
        assert_eq!(later.since(earlier), Duration::from_micros(10));
        assert_eq!(earlier.since(later), Duration::ZERO);
    }

    #[test]
    fn absurd_stamps_do_not_panic() {
        let offset = Offset::sample();
        offset.instant(Arrival::from_nanos(0));
        offset.instant(Arrival::from_nanos(u64::MAX));
    }

    #[test]
    fn the_thread_clock_runs_while_the_thread_works() {
        let start = thread_cpu_time();
        let mut x = 1_u64;
        while thread_cpu_time() == start {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(thread_cpu_time() > start);
    }

    #[test]
    fn timeouts_can_be_made_precise() {
        set_precise_timeouts().unwrap();
    }
}
