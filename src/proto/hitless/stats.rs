//! The figures of a merge.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::proto::rtp::stats::jitter_time;

/// Counts of one leg since it was added.
///
/// Every packet handed in ends up in exactly one place: `received = first + duplicate + late + stray + overflow`;
/// `first` are those that are held or went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LegCounters {
    /// Packets handed in.
    pub received: u64,
    /// Their bytes, RTP headers included.
    pub bytes: u64,
    /// Brought the first copy.
    pub first: u64,
    /// Copies discarded: another leg, or this one, had brought the packet.
    pub duplicate: u64,
    /// Came after the packet's time was over; another leg may have brought it.
    pub late: u64,
    /// Did not belong to the merged stream, or came while this leg was set aside; dropped.
    pub stray: u64,
    /// Dropped because the memory was used up.
    pub overflow: u64,
    /// Packets of the stream that this leg did not bring, not even late, while it took part.
    pub lost: u64,
    /// Packets that only this leg brought.
    pub unique: u64,
    /// Copies that were compared with the first one: timestamp, length, and of 1 in 16 the payload.
    pub compared: u64,
    /// Of those, not the same.
    pub different: u64,
    /// Its SSRC changed.
    pub ssrc_changes: u64,
    /// It left the merged stream for another one: a restart or a jump.
    pub resyncs: u64,
    /// Its synchronisation source; 0 before the first packet.
    pub ssrc: u32,
    /// The last packet.
    pub last_arrival: Option<Instant>,
    /// How far behind the leading leg its packets come.
    pub skew: Option<Skew>,
    /// Interarrival jitter in 1/16 ticks of 90 kHz.
    pub(super) jitter: u32,
}

impl LegCounters {
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub const fn jitter(&self) -> Duration {
        jitter_time(self.jitter)
    }
}

/// How far behind the leading leg the packets of a leg come; negative when they come before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skew {
    /// Now, smoothed, in nanoseconds.
    pub now_ns: i64,
    /// The least of a single packet, in nanoseconds.
    pub min_ns: i64,
    /// The greatest of a single packet, in nanoseconds.
    pub max_ns: i64,
}

/// Counts of a merge since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MergeCounters {
    /// Packets handed on, in order.
    pub delivered: u64,
    /// Of those, missing on at least one leg that took part, and brought by another. Counted when the late ones have had
    /// their time too: one recovery window after delivery.
    pub recovered: u64,
    /// Missing on every leg when their time was over. `recovered + unrecovered` were lost before recovery.
    pub unrecovered: u64,
    /// How often the stream began anew: all legs with another SSRC or a jump.
    pub restarts: u64,
    /// Packets that took part under another SSRC than the one the stream began with.
    pub foreign_ssrc: u64,
    /// Timestamps that jumped by more than a second where the sequence did not; handed on as they are.
    pub timestamp_jumps: u64,
    /// Packets that left before their time because the memory was nearly used up.
    pub early: u64,
}

/// How far apart the legs may be, by the classes of ST 2022-7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkewClass {
    /// At most 150 us: ultra-low skew.
    D,
    /// At most 10 ms: low skew.
    A,
    /// At most 50 ms: moderate skew.
    B,
    /// At most 450 ms: high skew.
    C,
}

impl SkewClass {
    /// The narrowest class that such a skew meets; `None`: none.
    pub const fn of(skew: Duration) -> Option<Self> {
        match skew.as_nanos().div_ceil(1000) {
            0..=150 => Some(Self::D),
            151..=10_000 => Some(Self::A),
            10_001..=50_000 => Some(Self::B),
            50_001..=450_000 => Some(Self::C),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_meets_the_narrowest_class_it_fits() {
        let class = |us| SkewClass::of(Duration::from_micros(us));
        assert_eq!([class(0), class(150), class(151)], [Some(SkewClass::D), Some(SkewClass::D), Some(SkewClass::A)]);
        assert_eq!([class(10_000), class(10_001)], [Some(SkewClass::A), Some(SkewClass::B)]);
        assert_eq!([class(50_000), class(50_001)], [Some(SkewClass::B), Some(SkewClass::C)]);
        assert_eq!([class(450_000), class(450_001)], [Some(SkewClass::C), None]);
    }
}
