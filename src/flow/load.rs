//! How busy a data-plane thread is, and for how long it therefore lets packets gather.

use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How often it is measured, at most.
const INTERVAL: Duration = Duration::from_millis(100);
/// What `auto` gives, from a lightly loaded thread to a busy one.
const BUDGETS: [Duration; 4] =
    [Duration::ZERO, Duration::from_micros(500), Duration::from_millis(1), Duration::from_millis(2)];
/// Above this share of the thread's time the budget grows.
const BUSY: f64 = 0.6;
/// The budget shrinks when the packet rate has fallen to this share of the one at which it grew. The rate, since the
/// load itself falls when the budget grows: to go by it would swing to and fro.
const CALMER: f64 = 0.75;
/// For how long the rate must be that low, in measurements.
const CALM: u32 = 10;

/// The load of a thread, as others may read it.
#[derive(Debug, Default)]
pub struct Load(AtomicU64);

impl Load {
    /// The share of its time that the thread worked when it last measured, in thousandths.
    pub fn permille(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Measures a thread and decides on the budget of `gather = "auto"`.
#[derive(Debug)]
pub(super) struct LoadMeter {
    measured: Instant,
    cpu: Duration,
    packets: u64,
    /// The current one of [`BUDGETS`].
    level: usize,
    /// The packet rate at which each level was left for the next.
    grew_at: [f64; BUDGETS.len()],
    calm: u32,
}

impl LoadMeter {
    /// `cpu`: what the thread has used so far.
    pub(super) fn new(now: Instant, cpu: Duration) -> Self {
        Self { measured: now, cpu, packets: 0, level: 0, grew_at: [0.0; BUDGETS.len()], calm: 0 }
    }

    /// Whether it is time for [`measure`](Self::measure).
    pub(super) fn due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.measured) >= INTERVAL
    }

    /// So much CPU time has been used and so many packets were received since the thread began.
    pub(super) fn measure(&mut self, now: Instant, cpu: Duration, packets: u64, load: &Load) {
        let elapsed = now.saturating_duration_since(self.measured).as_secs_f64();
        let busy = cpu.saturating_sub(self.cpu).as_secs_f64() / elapsed;
        let rate = packets.wrapping_sub(self.packets) as f64 / elapsed;
        (self.measured, self.cpu, self.packets) = (now, cpu, packets);
        load.0.store((busy * 1000.0) as u64, Relaxed);
        if busy > BUSY && self.level + 1 < BUDGETS.len() {
            self.grew_at[self.level] = rate;
            self.level += 1;
            self.calm = 0;
        } else if self.level > 0 && rate < CALMER * self.grew_at[self.level - 1] {
            // After a pause there was one long measurement instead of many.
            self.calm += (elapsed / INTERVAL.as_secs_f64()) as u32;
            if self.calm >= CALM {
                self.level -= 1;
                self.calm = 0;
            }
        } else {
            self.calm = 0;
        }
    }

    /// What `auto` gives now.
    pub(super) fn budget(&self) -> Duration {
        BUDGETS[self.level]
    }
}
