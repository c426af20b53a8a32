//! `max-bitrate`: a token bucket that drops what comes above the rate.

use crate::time::Instant;
use std::time::Duration;

use crate::config::value::Bitrate;

/// How much of the rate may come at once: encoders send each picture in a burst.
const BURST: Duration = Duration::from_millis(250);
/// Any rate lets this many bytes through at once, so that a low rate still passes whole datagrams.
const LEAST_BURST: f64 = 65_536.0;

/// A token bucket of bytes.
#[derive(Debug, Clone)]
pub(super) struct Police {
    bytes_per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Police {
    /// A full bucket.
    pub(super) fn new(rate: Bitrate, now: Instant) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "53 bits are enough for a bit rate")]
        let bytes_per_second = rate.bps() as f64 / 8.0;
        let burst = (bytes_per_second * BURST.as_secs_f64()).max(LEAST_BURST);
        Self { bytes_per_second, burst, tokens: burst, filled: now }
    }

    /// Whether a datagram of `bytes` may pass now.
    pub(super) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * self.bytes_per_second;
        self.tokens = (self.tokens + earned).min(self.burst);
        self.filled = now.max(self.filled);
        #[allow(clippy::cast_precision_loss, reason = "a datagram has at most 16 bits of length")]
        let cost = bytes as f64;
        let pass = self.tokens >= cost;
        if pass {
            self.tokens -= cost;
        }
        pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_above_the_rate_is_dropped_and_the_rate_itself_passes() {
        let start = Instant::now();
        let mut police = Police::new(Bitrate::from_bps(8_000_000), start);
        // Twice the rate for ten seconds: half of it passes, give or take the burst.
        let step = Duration::from_micros(500);
        let passed: usize = (0..20_000).filter(|&n| police.admit(1000, start + step * n)).count() * 1000;
        let burst = 8_000_000 / 8 / 4;
        assert!((10_000_000..=10_000_000 + burst).contains(&passed), "{passed}");
        // At the rate nothing is dropped.
        let mut police = Police::new(Bitrate::from_bps(8_000_000), start);
        assert!((0..20_000).all(|n| police.admit(1000, start + Duration::from_millis(1) * n)));
    }

    #[test]
    fn time_that_stands_still_or_runs_back_earns_nothing() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut police = Police::new(Bitrate::from_bps(8), start);
        let passed = (0..100).filter(|_| police.admit(65_536, start)).count();
        assert_eq!(passed, 1);
        assert!(!police.admit(1000, start.checked_sub(Duration::from_secs(1)).unwrap()));
    }
}
