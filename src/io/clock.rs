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

/// How often the two clocks are compared: the system's is slewed.
const COMPARE: Duration = Duration::from_secs(1);
/// By so much later or earlier than what was read before, a stamp may be in order.
const DISORDER: Duration = Duration::from_millis(10);
/// For longer nothing waits that came before what was read already.
const LONGEST: Duration = Duration::from_secs(10);

/// Turns the stamps of what is read from a socket into moments, though the system's clock may be set at any time.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    offset: Offset,
    /// Of what was read.
    newest: Option<Instant>,
}

impl Stamps {
    /// For what is read from now on.
    pub fn new() -> Self {
        Self { offset: Offset::sample(), newest: None }
    }

    /// When a datagram came that was read by `now`: never after that. `None`: it bears no stamp, and comes now.
    pub fn moment(&mut self, stamp: Option<Arrival>, now: Instant) -> Instant {
        let Some(stamp) = stamp else { return now };
        if now.saturating_duration_since(self.offset.monotonic) >= COMPARE {
            self.offset = Offset::sample();
        }
        let before =
            |at: Instant, tolerance, newest: Option<Instant>| newest.is_some_and(|newest| at + tolerance < newest);
        let mut at = self.offset.instant(stamp);
        if at > now + DISORDER || before(at, DISORDER, self.newest) {
            // The clock was set since.
            self.offset = Offset::sample();
            at = self.offset.instant(stamp);
        }
        if before(at, LONGEST, self.newest) {
            // It was set between the stamp and this reading.
            return now;
        }
        let at = at.min(now);
        self.newest = self.newest.max(Some(at));
        at
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self::new()
    }
}

/// Two clocks read at the same moment.
#[derive(Debug, Clone, Copy)]
struct Offset {
    monotonic: Instant,
    realtime: u64,
}

impl Offset {
    /// Reads both clocks.
    fn sample() -> Self {
        let before = Instant::now();
        let realtime = sys::now(ClockId::Realtime);
        // Between the two readings, should we be interrupted amid them.
        Self { monotonic: before + before.elapsed() / 2, realtime }
    }

    /// The monotonic moment of `arrival`.
    fn instant(&self, arrival: Arrival) -> Instant {
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

    const HOUR: u64 = 3_600_000_000_000;
    /// Amid the reading of two clocks, for less than this.
    const INTERRUPTED: Duration = Duration::from_millis(20);

    /// As they are when the system's clock has been set on by so many nanoseconds since they were made.
    fn before_a_step(by: i64) -> Stamps {
        let mut stamps = Stamps::new();
        assert_eq!(stamps.moment(None, stamps.offset.monotonic), stamps.offset.monotonic);
        stamps.moment(Some(Arrival::now()), Instant::now());
        stamps.offset.realtime = stamps.offset.realtime.wrapping_add_signed(-by);
        stamps
    }

    #[test]
    fn moments_are_right_though_the_clock_was_set() {
        for by in [0, 50_000_000, 1_000_000_000, HOUR as i64, -50_000_000, -1_000_000_000, -(HOUR as i64)] {
            let (mut stamps, before) = (before_a_step(by), Instant::now());
            for _ in 0..3 {
                let stamp = Arrival::now();
                let now = Instant::now();
                let at = stamps.moment(Some(stamp), now);
                assert!(before <= at + INTERRUPTED && at <= now, "{by}: {at:?} is not from {before:?} to {now:?}");
            }
        }
    }

    #[test]
    fn a_stamp_of_the_clock_as_it_was_before_is_neither_long_ago_nor_to_come() {
        for absurd in [0, u64::MAX, Arrival::now().0 - HOUR, Arrival::now().0 + HOUR] {
            let mut stamps = before_a_step(0);
            let now = Instant::now();
            let at = stamps.moment(Some(Arrival::from_nanos(absurd)), now);
            assert!(now <= at + INTERRUPTED && at <= now, "{absurd}: {at:?}");
            let (stamp, next) = (Arrival::now(), Instant::now());
            let at = stamps.moment(Some(stamp), next);
            assert!(now <= at + INTERRUPTED && at <= next, "after {absurd}: {at:?}");
        }
    }

    #[test]
    fn what_has_waited_while_nobody_read_came_when_it_came() {
        let (mut stamps, now) = (Stamps::new(), Instant::now());
        let waited = Arrival::from_nanos(Arrival::now().0 - 8_000_000_000);
        let at = stamps.moment(Some(waited), now);
        let age = now.saturating_duration_since(at);
        assert!((7_980..8_020).contains(&age.as_millis()), "{age:?}");
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
