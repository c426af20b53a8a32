//! The numbers of SRT: sequence, message, time stamp, socket. All but the last wrap.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The sequence number of a data packet: 31 bits that wrap (draft-sharabayko-srt, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct SeqNo(u32);

impl SeqNo {
    /// The greatest; 0 comes after it.
    pub const MAX: Self = Self(0x7FFF_FFFF);

    /// The low 31 bits of a word.
    pub const fn new(word: u32) -> Self {
        Self(word & Self::MAX.0)
    }

    /// As on the wire, the top bit clear.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// A word of the wire whose top bit must be clear.
    pub const fn from_wire(word: u32) -> Option<Self> {
        if word <= Self::MAX.0 { Some(Self(word)) } else { None }
    }

    /// The one `n` places on.
    #[must_use]
    pub const fn add(self, n: u32) -> Self {
        Self::new(self.0.wrapping_add(n))
    }

    /// The one `n` places before.
    #[must_use]
    pub const fn sub(self, n: u32) -> Self {
        Self::new(self.0.wrapping_sub(n))
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.add(1)
    }

    /// How far this one lies after `other`, the short way round: -2^30 to 2^30 - 1.
    pub const fn distance(self, other: Self) -> i32 {
        // Bit 30 of the difference is its sign: moved up to bit 31 and back.
        (self.0.wrapping_sub(other.0) << 1).cast_signed() >> 1
    }

    /// Whether this one comes before `other`, the short way round.
    pub const fn is_before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// Whether this one comes after `other`, the short way round.
    pub const fn is_after(self, other: Self) -> bool {
        self.distance(other) > 0
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a message: 26 bits, 1 to 0x03FFFFFF, then 1 again.
///
/// In live mode each data packet is a message. 0 is none: a packet of the packet filter, or a drop request that names
/// no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct MsgNo(u32);

impl MsgNo {
    /// No message.
    pub const NONE: Self = Self(0);
    /// The first of a connection.
    pub const FIRST: Self = Self(1);
    /// The greatest; 1 comes after it.
    pub const MAX: Self = Self(0x03FF_FFFF);

    /// The low 26 bits of a word.
    pub const fn new(word: u32) -> Self {
        Self(word & Self::MAX.0)
    }

    /// As on the wire, in the low 26 bits.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The one `n` places on; 0 is left out. [`Self::NONE`] counts as the one before the first.
    #[must_use]
    pub const fn add(self, n: u64) -> Self {
        let turn = Self::MAX.0 as u64;
        // From 0 to one less than a turn: before the first is the last.
        let from = (self.0 as u64 + turn - 1) % turn;
        // Below 2^26.
        Self(((from + n % turn) % turn) as u32 + 1)
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.add(1)
    }
}

impl fmt::Display for MsgNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Microseconds since the sender's start: 32 bits that wrap every 71 min 35 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp(pub u32);

impl Timestamp {
    /// The time stamp of what happens that long after the start, rounded down.
    pub const fn after(span: Duration) -> Self {
        // The low 32 bits: that is how it wraps.
        Self((span.as_micros() & 0xFFFF_FFFF) as u32)
    }

    /// This time and a span more.
    #[must_use]
    pub const fn add(self, span: Duration) -> Self {
        Self(self.0.wrapping_add(Self::after(span).0))
    }

    /// Microseconds from `earlier` to this one, the short way round; negative when this one is the earlier.
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// The span since the start, if it did not wrap.
    pub const fn span(self) -> Duration {
        Duration::from_micros(self.0 as u64)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which socket of a host a packet is for. Each end chooses its own and tells it in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SocketId(pub u32);

impl SocketId {
    /// Not a socket: the destination of a handshake whose sender does not know it yet.
    pub const NONE: Self = Self(0);
}

/// As libsrt writes it: decimal.
impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequence_numbers_have_31_bits() {
        assert_eq!(SeqNo::new(0xFFFF_FFFF), SeqNo::MAX);
        assert_eq!(SeqNo::MAX.next(), SeqNo::new(0));
        assert_eq!(SeqNo::new(0).sub(1), SeqNo::MAX);
        assert_eq!(SeqNo::from_wire(0x7FFF_FFFF), Some(SeqNo::MAX));
        assert_eq!(SeqNo::from_wire(0x8000_0000), None);
    }

    #[test]
    fn sequence_distance_takes_the_short_way_round() {
        assert_eq!(SeqNo::new(0).distance(SeqNo::MAX), 1);
        assert_eq!(SeqNo::MAX.distance(SeqNo::new(0)), -1);
        assert_eq!(SeqNo::new(0x3FFF_FFFF).distance(SeqNo::new(0)), 0x3FFF_FFFF);
        assert_eq!(SeqNo::new(0x4000_0000).distance(SeqNo::new(0)), -0x4000_0000);
        assert!(SeqNo::MAX.is_before(SeqNo::new(3)));
        assert!(SeqNo::new(3).is_after(SeqNo::MAX));
        assert!(!SeqNo::new(3).is_after(SeqNo::new(3)));
    }

    #[test]
    fn message_numbers_have_26_bits_and_leave_out_zero() {
        assert_eq!(MsgNo::MAX.next(), MsgNo::FIRST);
        assert_eq!(MsgNo::NONE.next(), MsgNo::FIRST);
        assert_eq!(MsgNo::new(0xFC00_0007).value(), 7, "the flags above are not part of it");
        assert_eq!(MsgNo::FIRST.add(0x03FF_FFFF), MsgNo::FIRST, "one turn");
        assert_eq!(MsgNo::FIRST.add(u64::MAX), MsgNo::new(1 + (u64::MAX % 0x03FF_FFFF) as u32));
    }

    #[test]
    fn timestamps_count_microseconds_and_wrap() {
        assert_eq!(Timestamp::after(Duration::from_millis(40)), Timestamp(40_000));
        assert_eq!(Timestamp::after(Duration::from_micros(1 << 32)), Timestamp(0), "71 min 34.967 s");
        assert_eq!(Timestamp(u32::MAX).add(Duration::from_micros(2)), Timestamp(1));
        assert_eq!(Timestamp(1).distance(Timestamp(u32::MAX)), 2);
        assert_eq!(Timestamp(u32::MAX).distance(Timestamp(1)), -2);
    }

    proptest! {
        #[test]
        fn sequence_distance_undoes_add_and_sub(from: u32, n in 0_u32..0x4000_0000) {
            let from = SeqNo::new(from);
            let n_signed = i32::try_from(n).unwrap();
            prop_assert_eq!(from.add(n).distance(from), n_signed);
            prop_assert_eq!(from.sub(n).distance(from), -n_signed);
            prop_assert_eq!(from.add(n).sub(n), from);
        }

        #[test]
        fn of_two_sequence_numbers_one_is_before(a: u32, n in 1_u32..0x4000_0000) {
            let (a, b) = (SeqNo::new(a), SeqNo::new(a).add(n));
            prop_assert!(a.is_before(b) && b.is_after(a) && !b.is_before(a) && !a.is_after(b));
        }

        #[test]
        fn message_numbers_add_up(from in 1_u32..=0x03FF_FFFF, a in 0_u64..1 << 40, b in 0_u64..1 << 40) {
            let from = MsgNo::new(from);
            prop_assert_eq!(from.add(a).add(b), from.add(a + b));
            prop_assert!((1..=0x03FF_FFFF).contains(&from.add(a).value()));
            prop_assert_eq!(from.add(a).next(), from.add(a + 1));
        }

        #[test]
        fn timestamp_distance_undoes_add(from: u32, us in 0_u32..0x8000_0000) {
            let later = Timestamp(from).add(Duration::from_micros(u64::from(us)));
            prop_assert_eq!(later.distance(Timestamp(from)), i32::try_from(us).unwrap());
        }
    }
}
