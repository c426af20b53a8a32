//! Sequence numbers and media time that wrap.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// An RTP sequence number: 16 bits that wrap (RFC 3550, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Seq(pub u16);

impl Seq {
    /// How far this one lies after `other`, the short way round: -32768 to 32767.
    pub const fn distance(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// The one `n` places on.
    #[must_use]
    pub const fn add(self, n: u16) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sequence number that no longer wraps. Its low 16 bits are the [`Seq`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExtSeq(u64);

impl ExtSeq {
    /// The first of a stream. It begins one turn up, so that packets from before it have a place too.
    pub const fn start(seq: Seq) -> Self {
        Self((1 << 16) + seq.0 as u64)
    }

    /// What `seq` stands for when this is the newest one known: the nearest number with those low bits.
    #[must_use]
    pub const fn unwrap(self, seq: Seq) -> Self {
        Self(self.0.saturating_add_signed(seq.distance(self.seq()) as i64))
    }

    /// As on the wire.
    pub const fn seq(self) -> Seq {
        Seq((self.0 & 0xFFFF) as u16)
    }

    /// The whole number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The one `n` places on.
    #[must_use]
    pub const fn add(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    /// The one `n` places before, 0 at the least.
    #[must_use]
    pub const fn sub(self, n: u64) -> Self {
        Self(self.0.saturating_sub(n))
    }

    /// How far this one lies after `other`; 0 when it lies before.
    pub const fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

/// An RTP timestamp at the 90 kHz of MPEG-TS (RFC 2250, section 2): 32 bits that wrap every 13 h 15 min.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// Ticks a second.
    pub const HZ: u64 = 90_000;

    /// The ticks of a span of time, rounded down and wrapped to 32 bits.
    pub const fn ticks(span: Duration) -> u32 {
        let whole = span.as_secs().wrapping_mul(Self::HZ);
        let part = span.subsec_nanos() as u64 * Self::HZ / 1_000_000_000;
        (whole.wrapping_add(part) & 0xFFFF_FFFF) as u32
    }

    /// This time and a span more.
    #[must_use]
    pub const fn add(self, span: Duration) -> Self {
        Self(self.0.wrapping_add(Self::ticks(span)))
    }

    /// Ticks from `earlier` to this one, the short way round; negative when this one is the earlier.
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequence_distance_takes_the_short_way_round() {
        assert_eq!(Seq(0).distance(Seq(65_535)), 1);
        assert_eq!(Seq(65_535).distance(Seq(0)), -1);
        assert_eq!(Seq(0x8000).distance(Seq(0)), i16::MIN);
        assert_eq!(Seq(65_535).add(2), Seq(1));
    }

    #[test]
    fn a_stream_that_starts_at_zero_has_room_for_packets_before_it() {
        let start = ExtSeq::start(Seq(0));
        assert!(start.unwrap(Seq(65_535)) < start);
        assert_eq!(start.unwrap(Seq(65_535)).seq(), Seq(65_535));
    }

    #[test]
    fn timestamps_count_90_kilohertz_and_wrap() {
        assert_eq!(RtpTime::ticks(Duration::from_millis(40)), 3600);
        assert_eq!(RtpTime::ticks(Duration::from_secs(47_722)), 12_704, "47,721.858 s is one turn");
        assert_eq!(RtpTime(u32::MAX).add(Duration::from_secs(1)), RtpTime(89_999));
        assert_eq!(RtpTime(5).distance(RtpTime(u32::MAX)), 6);
    }

    proptest! {
        #[test]
        fn unwrapping_finds_every_step_below_half_a_turn(from: u16, turns in 0_u64..1 << 40, step in -32_768_i64..32_768) {
            let newest = ExtSeq::start(Seq(from)).add(turns);
            let wanted = newest.value().checked_add_signed(step).unwrap();
            let found = newest.unwrap(Seq((wanted & 0xFFFF) as u16));
            prop_assert_eq!(found.value(), wanted);
        }

        #[test]
        fn sequence_distance_undoes_add(from: u16, n in 0_u16..0x8000) {
            prop_assert_eq!(Seq(from).add(n).distance(Seq(from)), n.cast_signed());
        }

        #[test]
        fn timestamp_distance_undoes_add(from: u32, ms in 0_u64..23_000_000) {
            let span = Duration::from_millis(ms);
            let ticks = i32::try_from(RtpTime::ticks(span)).unwrap();
            prop_assert_eq!(RtpTime(from).add(span).distance(RtpTime(from)), ticks);
        }
    }
}
