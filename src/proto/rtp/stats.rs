//! The figures of a received RTP stream, as RFC 3550 counts them.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::proto::seq::RtpTime;

/// Counts since the receiver was made; no stream's restart resets them.
///
/// Every packet handed in ends up in exactly one place: `received + recovered = delivered + duplicate + late + stray`
/// plus what is held at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RtpCounters {
    /// Packets handed in.
    pub received: u64,
    /// Packets handed on, in order.
    pub delivered: u64,
    /// Sequence numbers given up: they had neither come nor been recovered when their time was over.
    pub lost: u64,
    /// Missing ones brought back by forward error correction; part of `delivered`. Plain RTP recovers none.
    pub recovered: u64,
    /// Came again, and were dropped.
    pub duplicate: u64,
    /// Came after a later one, and were put in order; part of `delivered`.
    pub reordered: u64,
    /// Came after their place had been given up, or before the first packet; dropped.
    pub late: u64,
    /// Did not belong to the stream while it was running: another SSRC, or a sequence number far off; dropped.
    pub stray: u64,
    /// How often the stream began anew: another SSRC, or a jump in sequence.
    pub restarts: u64,
    /// The stream's synchronisation source; 0 before the first packet.
    pub ssrc: u32,
    /// Interarrival jitter in 1/16 ticks of 90 kHz.
    pub(super) jitter: u32,
}

impl RtpCounters {
    /// Interarrival jitter in ticks of 90 kHz, as a receiver report gives it (RFC 3550, section 6.4.1).
    pub const fn jitter_ticks(&self) -> u32 {
        self.jitter >> 4
    }

    /// Interarrival jitter as a time.
    pub const fn jitter(&self) -> Duration {
        jitter_time(self.jitter)
    }
}

/// A jitter in 1/16 ticks of 90 kHz as a time.
pub(in crate::proto) const fn jitter_time(jitter: u32) -> Duration {
    Duration::from_nanos(jitter as u64 * (1_000_000_000 / 16) / RtpTime::HZ)
}

/// The arithmetic of RFC 3550, appendix A.8, with arrival times on the media clock.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(in crate::proto) struct Jitter {
    last: Option<(Instant, RtpTime)>,
}

impl Jitter {
    /// Count one packet into `jitter` (1/16 ticks).
    pub(in crate::proto) fn update(&mut self, arrival: Instant, timestamp: RtpTime, jitter: &mut u32) {
        let Some((last_arrival, last_timestamp)) = self.last.replace((arrival, timestamp)) else { return };
        let elapsed = RtpTime::ticks(arrival.saturating_duration_since(last_arrival));
        let media = timestamp.distance(last_timestamp).cast_unsigned();
        // A second is far above any jitter: such a step is a jump of the sender's clock, not of the network.
        let step = elapsed.wrapping_sub(media).cast_signed().unsigned_abs();
        if u64::from(step) < RtpTime::HZ {
            *jitter = *jitter + step - ((*jitter + 8) >> 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jitter_after(steps: impl IntoIterator<Item = (u64, u32)>) -> RtpCounters {
        let (start, mut jitter, mut counters) = (Instant::now(), Jitter::default(), RtpCounters::default());
        for (ms, ticks) in steps {
            jitter.update(start + Duration::from_millis(ms), RtpTime(ticks), &mut counters.jitter);
        }
        counters
    }

    #[test]
    fn a_steady_stream_has_no_jitter() {
        let wrapping = (0..200).map(|i| (u64::from(i) * 10, (u32::MAX - 9000).wrapping_add(i * 900)));
        assert_eq!(jitter_after(wrapping).jitter_ticks(), 0);
    }

    #[test]
    fn jitter_settles_at_the_mean_difference() {
        // Every second packet 2 ms late: differences of 2 ms each, 180 ticks.
        let counters = jitter_after((0..500).map(|i| (u64::from(i) * 10 + u64::from(i % 2) * 2, i * 900)));
        assert!((172..=180).contains(&counters.jitter_ticks()), "{}", counters.jitter_ticks());
        assert!((1900..=2000).contains(&counters.jitter().as_micros()), "{:?}", counters.jitter());
    }

    #[test]
    fn a_jump_of_the_senders_clock_is_no_jitter() {
        assert_eq!(jitter_after([(0, 0), (10, 900), (20, 0x8000_0000), (30, 0x8000_0384)]).jitter_ticks(), 0);
    }
}
