//! How long packets are in the appliance.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Parts of each doubling: a bucket is at most an eighth wide.
const PARTS: u32 = 8;
/// Up to 34 s; what took longer counts as that.
const BUCKETS: usize = 184;

/// A histogram of delays with one writer. The counts wrap around: compare two [`snapshots`](Self::snapshot).
#[derive(Debug)]
pub struct Delays {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Delays {
    fn default() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; BUCKETS], total: AtomicU32::new(0) }
    }
}

impl Delays {
    /// Count one packet. Only the flow's own task may call this.
    pub fn record(&self, delay: Duration) {
        for count in [&self.counts[index(delay)], &self.total] {
            count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// How many packets so far, modulo 2^32.
    pub fn total(&self) -> u32 {
        self.total.load(Relaxed)
    }

    /// The counts now.
    pub fn snapshot(&self) -> DelaySnapshot {
        DelaySnapshot(std::array::from_fn(|i| self.counts[i].load(Relaxed)))
    }
}

/// The counts of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelaySnapshot([u32; BUCKETS]);

impl Default for DelaySnapshot {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl DelaySnapshot {
    /// The delays that a share of `wanted` (0 to 1, ascending) of the packets since `earlier` did not exceed, to an
    /// eighth. `None` where there were no packets.
    pub fn percentiles<const N: usize>(&self, earlier: &Self, wanted: [f64; N]) -> Option<[Duration; N]> {
        let counts = || self.0.iter().zip(&earlier.0).map(|(now, then)| u64::from(now.wrapping_sub(*then)));
        let total: u64 = counts().sum();
        if total == 0 {
            return None;
        }
        Some(wanted.map(|share| {
            let rank = ((total as f64 * share).ceil() as u64).max(1);
            let mut sum = 0;
            let found = counts().position(|count| {
                sum += count;
                sum >= rank
            });
            upper_bound(found.unwrap_or(BUCKETS - 1))
        }))
    }
}

/// In units of 1024 ns: below `PARTS` each has its own bucket, above each doubling has `PARTS`.
fn index(delay: Duration) -> usize {
    let units = u32::try_from(delay.as_nanos() >> 10).unwrap_or(u32::MAX);
    let doubling = (units | PARTS).ilog2() - PARTS.ilog2();
    let part = units >> doubling;
    ((doubling * PARTS + part) as usize).min(BUCKETS - 1)
}

/// What everything in a bucket is below.
fn upper_bound(index: usize) -> Duration {
    let index = index as u32;
    let doubling = (index / PARTS).saturating_sub(1);
    let part = index - doubling * PARTS;
    Duration::from_nanos(u64::from(part + 1) << (doubling + 10))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_buckets_reach_from_a_microsecond_to_half_a_minute() {
        assert_eq!((index(Duration::ZERO), upper_bound(0)), (0, Duration::from_nanos(1024)));
        assert_eq!(upper_bound(BUCKETS - 1), Duration::from_nanos(1 << 35));
        assert_eq!(index(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_of_what_came_between_two_snapshots() {
        let delays = Delays::default();
        (0..1000).for_each(|_| delays.record(Duration::from_secs(1)));
        let before = delays.snapshot();
        assert_eq!(delays.snapshot().percentiles(&before, [0.5]), None);
        (0..99).for_each(|_| delays.record(Duration::from_micros(100)));
        delays.record(Duration::from_millis(10));
        let [median, p99, all] = delays.snapshot().percentiles(&before, [0.5, 0.99, 1.0]).unwrap();
        assert!(median >= Duration::from_micros(100) && median <= Duration::from_micros(113), "{median:?}");
        assert_eq!(median, p99);
        assert!(all >= Duration::from_millis(10) && all <= Duration::from_micros(11_250), "{all:?}");
    }

    proptest! {
        #[test]
        fn a_delay_is_below_its_buckets_bound_by_an_eighth_at_most(ns in 0_u64..(1 << 34)) {
            let delay = Duration::from_nanos(ns);
            let bound = upper_bound(index(delay));
            prop_assert!(delay < bound);
            prop_assert!(bound.as_nanos() as u64 <= ns + ns / 8 + 1024);
            prop_assert_eq!(index(bound), (index(delay) + 1).min(BUCKETS - 1));
        }
    }
}
