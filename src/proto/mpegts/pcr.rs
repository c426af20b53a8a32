//! The program clock reference (ISO/IEC 13818-1, sections 2.4.2.2 and 2.4.3.5): the encoder's 27 MHz clock in the stream.

use std::time::Duration;

use super::packet::{AdaptationField, PACKET_LEN, PacketHeader};

/// A program clock reference: ticks of 27 MHz that wrap every 26 h 30 min.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pcr(u64);

impl Pcr {
    /// Ticks a second.
    pub const HZ: u64 = 27_000_000;
    /// Ticks until it wraps: a base of 33 bits times 300.
    pub const TURN: u64 = (1 << 33) * 300;

    /// So many ticks, wrapped.
    pub const fn new(ticks: u64) -> Self {
        Self(ticks % Self::TURN)
    }

    /// From the six bytes of an adaptation field: 33 bits of base, 6 reserved, 9 of extension.
    pub const fn read(field: &[u8; 6]) -> Self {
        let [a, b, c, d, e, f] = *field;
        let bits = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Self::new((bits >> 15) * 300 + (bits & 0x1FF))
    }

    /// As in an adaptation field, reserved bits set.
    pub const fn write(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = ((self.0 / 300) << 15 | 0x3F << 9 | (self.0 % 300)).to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Ticks, below [`Self::TURN`].
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// Ticks from `earlier` to this one, the short way round; negative when this one is the earlier.
    pub const fn distance(self, earlier: Self) -> i64 {
        let forward = (self.0 + Self::TURN - earlier.0) % Self::TURN;
        forward.cast_signed() - if forward > Self::TURN / 2 { Self::TURN.cast_signed() } else { 0 }
    }
}

/// More than this from one PCR to the next, or any step back, breaks the clock. TR 101 290 allows 100 ms (2.3a, 2.3b);
/// this is where following it makes no sense any more.
pub const LONGEST_STEP: Duration = Duration::from_secs(1);

/// A PCR, and how it follows on the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrSample {
    /// As it was read.
    pub pcr: Pcr,
    /// 27 MHz since the tracker's first PCR, without wraps; it does not move over a discontinuity.
    pub time: u64,
    /// The bytes of the stream before this packet.
    pub position: u64,
    /// Ticks since the PCR before, whatever they are; 0 on the first.
    pub step: i64,
    /// The packet has the `discontinuity_indicator`.
    pub indicated: bool,
    /// The clock does not go on from the one before: it is the first, it is indicated, it went back, or it leapt by
    /// more than [`LONGEST_STEP`].
    pub discontinuity: bool,
    /// Bytes from the one before to this one; 0 over a discontinuity.
    pub bytes: u64,
}

impl PcrSample {
    /// The rate of the stream since the PCR before, in bit/s of whole packets. `None` over a discontinuity.
    pub fn bits_per_second(&self) -> Option<u64> {
        let ticks = u128::try_from(self.step).ok().filter(|&ticks| ticks > 0 && !self.discontinuity)?;
        u64::try_from(u128::from(self.bytes) * 8 * u128::from(Pcr::HZ) / ticks).ok()
    }
}

/// Follows the PCRs of one PID.
#[derive(Debug, Clone, Default)]
pub struct PcrTracker {
    last: Option<PcrSample>,
}

impl PcrTracker {
    /// Take the next PCR, at so many bytes of the stream.
    pub fn sample(&mut self, pcr: Pcr, indicated: bool, position: u64) -> PcrSample {
        let step = self.last.map_or(0, |last| pcr.distance(last.pcr));
        let longest = (LONGEST_STEP.as_secs() * Pcr::HZ).cast_signed();
        let follows = !indicated && (1..=longest).contains(&step);
        let (time, from) = self.last.map_or((0, position), |last| (last.time, last.position));
        let sample = PcrSample {
            pcr,
            time: time + if follows { step.unsigned_abs() } else { 0 },
            position,
            step,
            indicated,
            discontinuity: !follows,
            bytes: if follows { position.saturating_sub(from) } else { 0 },
        };
        self.last = Some(sample);
        sample
    }

    /// The newest.
    pub const fn last(&self) -> Option<&PcrSample> {
        self.last.as_ref()
    }
}

/// So many PCRs on other PIDs without one on ours: its program has ended.
const FORSAKEN: u8 = 50;

/// Follows the first PID that bears a PCR, and another once that one bears none any more. Of several programs that is
/// one: enough to know the pace of the stream.
#[derive(Debug, Clone, Default)]
pub struct PcrFollower {
    pid: Option<u16>,
    tracker: PcrTracker,
    /// PCRs on other PIDs since the last of ours.
    others: u8,
}

impl PcrFollower {
    /// Take one packet, at so many bytes of the stream. Its PCR, if it is one of the PID that is followed.
    pub fn handle(&mut self, header: PacketHeader, packet: &[u8; PACKET_LEN], position: u64) -> Option<PcrSample> {
        // Most packets have no adaptation field, and most fields no PCR.
        let field = header.adaptation_field(packet)?;
        self.handle_field(header.pid(), field, position)
    }

    /// As [`Self::handle`], of a packet whose adaptation field is at hand.
    pub fn handle_field(&mut self, pid: u16, field: AdaptationField<'_>, position: u64) -> Option<PcrSample> {
        let pcr = field.pcr()?;
        if self.pid != Some(pid) {
            self.others += 1;
            if self.pid.is_some() && self.others < FORSAKEN {
                return None;
            }
            *self = Self { pid: Some(pid), ..Self::default() };
        }
        self.others = 0;
        Some(self.tracker.sample(pcr, field.discontinuity(), position))
    }

    /// The PID that is followed.
    pub const fn pid(&self) -> Option<u16> {
        self.pid
    }

    /// The newest PCR of it.
    pub const fn last(&self) -> Option<&PcrSample> {
        self.tracker.last()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::mpegts::packet::SYNC;
    use crate::proto::mpegts::test_stream::{DATA_PID, Pattern};

    #[test]
    fn base_and_extension_are_read() {
        assert_eq!(Pcr::read(&[0, 0, 0, 0, 0x7E, 0]), Pcr::new(0));
        assert_eq!(Pcr::read(&[0, 0, 0, 0, 0xFE, 0x07]), Pcr::new(307), "the base's last bit, and 7");
        assert_eq!(Pcr::read(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x2B]), Pcr::new(Pcr::TURN - 1));
        assert_eq!(Pcr::read(&[0xFF; 6]), Pcr::new(511 - 300), "an extension above 299 is not legal, and wraps");
    }

    #[test]
    fn a_clock_that_wraps_goes_on() {
        let mut tracker = PcrTracker::default();
        assert!(tracker.sample(Pcr::new(Pcr::TURN - 300), false, 0).discontinuity);
        let next = tracker.sample(Pcr::new(26_999_700 / 10), false, 188_000);
        assert_eq!((next.discontinuity, next.step, next.time), (false, 2_700_270, 2_700_270));
        assert_eq!(next.bits_per_second(), Some(15_038_496), "188 kB in 100.01 ms");
    }

    #[test]
    fn steps_back_leaps_and_the_indicator_break_the_clock() {
        let second = Pcr::HZ;
        let broken = |to: u64, indicated| {
            let mut tracker = PcrTracker::default();
            tracker.sample(Pcr::new(10 * second), false, 0);
            let sample = tracker.sample(Pcr::new(to), indicated, 1000);
            assert_eq!(sample.discontinuity, sample.bits_per_second().is_none());
            assert_eq!(sample.time == 0, sample.discontinuity);
            sample.discontinuity
        };
        assert!(!broken(10 * second + 1, false));
        assert!(!broken(11 * second, false));
        assert!(broken(11 * second + 1, false));
        assert!(broken(10 * second, false));
        assert!(broken(10 * second - 1, false));
        assert!(broken(10 * second + 1, true));
    }

    #[test]
    fn one_pid_is_followed_until_it_bears_no_more() {
        let packet = |pid: u16, pcr: u64| {
            let mut packet = [0xFF; PACKET_LEN];
            let [high, low] = pid.to_be_bytes();
            packet[..6].copy_from_slice(&[SYNC, high, low, 0x20, 183, 0x10]);
            packet[6..12].copy_from_slice(&Pcr::new(pcr).write());
            packet
        };
        let mut follower = PcrFollower::default();
        let mut handle = |pid: u16, pcr: u64| {
            let packet = packet(pid, pcr);
            follower.handle(PacketHeader::parse(&packet).unwrap(), &packet, 0).map(|s| s.discontinuity)
        };
        assert_eq!(handle(33, 0), Some(true));
        for n in 1..1000 {
            assert_eq!(handle(34, n), None);
            assert_eq!(handle(33, n), Some(false));
        }
        for n in 1..50 {
            assert_eq!(handle(34, n), None);
        }
        assert_eq!(handle(34, 50), Some(true), "another clock");
        assert_eq!(handle(34, 51), Some(false));
    }

    #[test]
    fn the_rate_of_a_steady_stream_is_measured() {
        let (pattern, mut follower, mut rates) = (Pattern::new(1, 8_000_000), PcrFollower::default(), Vec::new());
        for index in 0..10_000 {
            let packet = pattern.packet(index);
            let header = PacketHeader::parse(&packet).unwrap();
            let sample = follower.handle(header, &packet, index * PACKET_LEN as u64);
            rates.extend(sample.and_then(|sample| sample.bits_per_second()));
        }
        assert_eq!(follower.pid(), Some(DATA_PID));
        assert!(rates.len() > 50 && rates.iter().all(|rate| rate.abs_diff(8_000_000) < 20), "{rates:?}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ticks in 0..Pcr::TURN) {
            prop_assert_eq!(Pcr::read(&Pcr::new(ticks).write()).ticks(), ticks);
        }

        #[test]
        fn distance_is_the_step_across_every_wrap(from in 0..Pcr::TURN, step in -(1_i64 << 40)..1 << 40) {
            let to = from.cast_signed() + step;
            let to = Pcr::new(to.rem_euclid(Pcr::TURN.cast_signed()).unsigned_abs());
            prop_assert_eq!(to.distance(Pcr::new(from)), step);
            prop_assert_eq!(Pcr::new(from).distance(to), -step);
        }

        /// Whatever a stranger writes: times never run back, and nothing overflows.
        #[test]
        fn no_clock_panics(samples in prop::collection::vec((0..Pcr::TURN, any::<bool>(), 0_u64..1 << 50), 0..100)) {
            let (mut tracker, mut time) = (PcrTracker::default(), 0);
            for (pcr, indicated, position) in samples {
                let sample = tracker.sample(Pcr::new(pcr), indicated, position);
                prop_assert!(sample.time >= time);
                prop_assert!(!sample.discontinuity || sample.bits_per_second().is_none());
                time = sample.time;
            }
        }
    }
}
