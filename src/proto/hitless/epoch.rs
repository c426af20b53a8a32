//! One run of the merged stream, from a start to a restart: a place for every sequence number, each with its time.
//!
//! All times are nanoseconds on the merger's clock. A place's `line` is when its packet came, or would have come, on a
//! leg without lag; it leaves the merger at `due`, a delay later. Both are given to a place once, when it comes into
//! being, never fall from place to place, and run evenly over a gap: a packet that fills one leaves when it would have
//! left anyway.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::memory::SlotId;
use crate::proto::rtp::header::Header;
use crate::proto::seq::{ExtSeq, RtpTime, Seq};

/// Most places waiting, and most that are remembered after that.
pub(super) const MOST_PLACES: usize = 1 << 18;
/// Further ahead than this is no gap but a restart: one turn and a half of the sequence.
const MOST_AHEAD: u64 = 98_304;
/// A sequence number this near to the last of its leg needs no other evidence (`MAX_MISORDER`, RFC 3550, A.1).
const NEAR: u64 = 100;
/// Further ahead than this, time must have passed for a gap (RFC 3550, A.1).
pub(super) const MAX_DROPOUT: u64 = 3000;
/// From this many places on, the timestamp tells which turn of the sequence a packet belongs to.
const AMBIGUOUS: usize = 16_384;
/// One turn of the sequence.
const TURN: u64 = 1 << 16;
/// Most packets that may be added before the first one, while that waits.
const MOST_BEFORE: u64 = 3000;
/// Bounds of the silence after which another epoch may begin.
const SILENCE: (i64, i64) = (20_000_000, 500_000_000);

/// What is known of a packet's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) timestamp: RtpTime,
    /// Bytes of payload.
    pub(super) length: u32,
    /// Of the payload of one packet in 16, else 0.
    pub(super) print: u32,
}

/// What became of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    Missing,
    Held(SlotId),
    Delivered,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) line: i64,
    pub(super) due: i64,
    /// Of a missing packet, the timestamp is what its neighbours let expect.
    pub(super) identity: Identity,
    pub(super) state: State,
    /// The leg of the first copy.
    pub(super) first: u8,
    /// The legs that brought it, one bit each.
    pub(super) seen: u8,
    /// `line` is not that of the first copy: it came into a gap.
    pub(super) filled: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// Of the first packet.
    pub(super) ssrc: u32,
    /// The place of `entries[0]`.
    pub(super) base: u64,
    /// The first place that was neither delivered nor given up.
    pub(super) next: u64,
    pub(super) newest: ExtSeq,
    pub(super) entries: VecDeque<Entry>,
    /// Two came in sequence.
    pub(super) sequential: bool,
    /// Something was delivered or given up.
    pub(super) begun: bool,
    /// The last packet's arrival.
    pub(super) last: i64,
    /// The longest recent pause between packets, forgotten slowly.
    pause: i64,
}

/// The print of a payload: a multiplication and a rotation for every eight bytes, each of which reaches every later
/// state. It need not withstand an attacker, who could send a copy with the first packet's bytes anyway; it must be
/// cheap, and let no accidental difference pass.
pub(super) fn fingerprint(payload: &[u8]) -> u32 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = payload.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words
        .iter()
        .chain([&last])
        .fold(0, |hash: u64, word| (hash ^ u64::from_le_bytes(*word)).wrapping_mul(ODD).rotate_left(29));
    (hash.wrapping_mul(ODD) >> 32) as u32
}

/// Nanoseconds as ticks of a timestamp; 100 us are 9.
const fn ticks(ns: i64) -> i64 {
    ns / 100_000 * 9
}

impl Identity {
    pub(super) fn of(packet: &[u8], header: &Header) -> Self {
        let payload = packet.get(header.payload()).unwrap_or_default();
        // Which ones must not depend on the leg.
        let print = if header.seq.0.is_multiple_of(16) { fingerprint(payload) } else { 0 };
        // A datagram's length.
        Self { timestamp: header.timestamp, length: payload.len() as u32, print }
    }
}

impl Epoch {
    /// An epoch whose only place is the one of `first`, still missing.
    pub(super) fn new(first: &Header, line: i64, due: i64, at: i64, entries: VecDeque<Entry>) -> Self {
        let newest = ExtSeq::start(first.seq);
        let base = newest.value();
        let ssrc = first.ssrc;
        let mut epoch =
            Self { ssrc, base, next: base, newest, entries, sequential: false, begun: false, last: at, pause: 0 };
        epoch.entries.clear();
        epoch.entries.push_back(Entry::missing(line, due, first.timestamp));
        epoch
    }

    pub(super) fn entry(&self, place: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(place.checked_sub(self.base)?).ok()?)
    }

    pub(super) fn entry_mut(&mut self, place: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(place.checked_sub(self.base)?).ok()?)
    }

    /// The first place whose time is to come.
    pub(super) fn head(&self) -> Option<&Entry> {
        self.entry(self.next)
    }

    /// Places that wait.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len() - usize::try_from(self.next - self.base).unwrap_or(0)
    }

    /// The place of a sequence number: the one nearest to the newest; where more than one turn is at hand, the one whose
    /// timestamp fits best.
    pub(super) fn seek(&self, seq: Seq, timestamp: RtpTime) -> u64 {
        let nearest = self.newest.unwrap(seq).value();
        if self.entries.len() < AMBIGUOUS {
            return nearest;
        }
        let turns = |n: u64| (nearest + TURN).checked_sub(n * TURN).filter(|place| n < 2 || *place >= self.base);
        let off = |place: &u64| timestamp.distance(self.expected(*place)).unsigned_abs();
        (0..).map_while(turns).min_by_key(off).unwrap_or(nearest)
    }

    /// The timestamp that a place has, or is likely to have.
    fn expected(&self, place: u64) -> RtpTime {
        let Some((front, back)) = self.entries.front().zip(self.entries.back()) else { return RtpTime(0) };
        if let Some(entry) = self.entry(place) {
            return entry.identity.timestamp;
        }
        let (span, steps) = (self.span(), self.entries.len().max(2) as i64 - 1);
        let (from, distance) = if place > self.newest.value() {
            (back, place.wrapping_sub(self.newest.value()).cast_signed())
        } else {
            (front, place.wrapping_sub(self.base).cast_signed())
        };
        let ticks = distance.saturating_mul(span) / steps;
        RtpTime(from.identity.timestamp.0.wrapping_add((ticks & 0xFFFF_FFFF) as u32))
    }

    /// Ticks from the oldest to the newest place.
    fn span(&self) -> i64 {
        let ends = self.entries.front().zip(self.entries.back());
        ends.map_or(0, |(front, back)| back.identity.timestamp.distance(front.identity.timestamp)).into()
    }

    /// Whether a packet that would have come at `line` on a leg without lag may belong to `place` by its timestamp:
    /// where a packet is known, it has the same; elsewhere it agrees with its neighbours' to within `tolerance`. Ahead of
    /// all, with the time passed, or, as a sender's clock may be no 90 kHz, with the ticks a packet so far.
    pub(super) fn plausible(&self, place: u64, timestamp: RtpTime, line: i64, tolerance: i64) -> bool {
        let newest = self.newest.value();
        if place <= newest {
            let Some(entry) = self.entry(place) else {
                return self.plausible_before(place, timestamp, line, tolerance);
            };
            let off = i64::from(timestamp.distance(entry.identity.timestamp));
            return match entry.state {
                State::Missing => off.abs() <= ticks(tolerance),
                _ => off == 0,
            };
        }
        let Some(back) = self.entries.back() else { return false };
        let media = i64::from(timestamp.distance(back.identity.timestamp));
        let by_time = media - ticks(line - back.line);
        let by_rate = i64::from(timestamp.distance(self.expected(place)));
        let (ahead, steps) = (place - newest, self.entries.len() as i64 - 1);
        // Four times the mean rate by either clock; a young stream has none yet.
        let rate = steps < 16 || {
            let lines = self.entries.front().map_or(0, |front| back.line - front.line);
            let packets = |span: i64, of: i64| i128::from(span.max(0)) * i128::from(steps) / i128::from(of.max(1));
            let most = packets(media, self.span()).max(packets(line - back.line, lines)) * 4;
            i128::from(ahead) <= most + i128::from(NEAR)
        };
        let near = by_time.abs() <= ticks(tolerance) || (by_rate.abs() <= ticks(tolerance) && ahead <= MAX_DROPOUT);
        ahead <= MOST_AHEAD && self.has_room(ahead) && near && rate
    }

    /// As [`Self::plausible`], for a packet before the first one, while that waits.
    fn plausible_before(&self, place: u64, timestamp: RtpTime, line: i64, tolerance: i64) -> bool {
        let Some(front) = self.entries.front() else { return false };
        let media = i64::from(timestamp.distance(front.identity.timestamp));
        let before = self.base.saturating_sub(place);
        !self.begun && before <= MOST_BEFORE && (media - ticks(line - front.line)).abs() <= ticks(tolerance)
    }

    /// Whether a sequence number is so near to the last one of its leg that it needs no other evidence.
    pub(super) fn follows(&self, place: u64, last_of_leg: u64) -> bool {
        place.abs_diff(last_of_leg) <= NEAR && self.has_room(place.saturating_sub(self.newest.value()))
    }

    /// Whether so many places can be added.
    pub(super) fn has_room(&self, more: u64) -> bool {
        self.waiting() as u64 + more <= MOST_PLACES as u64
    }

    /// Make the places up to `place`; those between are missing, their times evenly spread.
    pub(super) fn extend(&mut self, place: u64, line: i64, due: i64, timestamp: RtpTime) {
        let Some(back) = self.entries.back().copied() else { return };
        let steps = place.saturating_sub(self.newest.value());
        let (line, due) = (line.max(back.line), due.max(back.due));
        let media = i64::from(timestamp.distance(back.identity.timestamp));
        for step in 1..=steps {
            let part = |whole: i64| (i128::from(whole) * i128::from(step) / i128::from(steps)) as i64;
            let ticks = (part(media) & 0xFFFF_FFFF) as u32;
            let between = RtpTime(back.identity.timestamp.0.wrapping_add(ticks));
            let entry = Entry::missing(back.line + part(line - back.line), back.due + part(due - back.due), between);
            self.entries.push_back(entry);
        }
        self.newest = self.newest.add(steps);
    }

    /// Make places before the first one, as long as that waits. Whether that is possible.
    pub(super) fn extend_before(&mut self, place: u64, line: i64, delay: i64, timestamp: RtpTime) -> bool {
        let steps = self.base.saturating_sub(place);
        if self.begun || steps > MOST_BEFORE || !self.has_room(steps) {
            return false;
        }
        let Some(front) = self.entries.front().copied() else { return false };
        let (line, due) = (line.min(front.line), line.saturating_add(delay).min(front.due));
        for _ in 0..steps {
            self.entries.push_front(Entry::missing(line, due, timestamp));
        }
        self.base = place;
        self.next = place;
        true
    }

    /// A packet of this stream came.
    pub(super) fn alive(&mut self, at: i64) {
        let pause = (at - self.last).clamp(0, SILENCE.1);
        self.pause = (self.pause - self.pause / 64).max(pause);
        self.last = self.last.max(at);
    }

    /// From when on this stream counts as silent.
    pub(super) fn silent_from(&self) -> i64 {
        self.last + (self.pause * 2).clamp(SILENCE.0, SILENCE.1)
    }
}

impl Entry {
    const fn missing(line: i64, due: i64, timestamp: RtpTime) -> Self {
        let identity = Identity { timestamp, length: 0, print: 0 };
        Self { line, due, identity, state: State::Missing, first: 0, seen: 0, filled: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(first: u16, packets: u64, ticks: u32) -> Epoch {
        let mut epoch = Epoch::new(&Header::new(33, Seq(first), RtpTime(0), 1), 0, 1000, 0, VecDeque::new());
        let start = epoch.base;
        for n in 1..packets {
            let line = n as i64 * 1000;
            epoch.extend(start + n, line, line + 1000, RtpTime(n as u32 * ticks));
        }
        epoch
    }

    #[test]
    fn the_times_of_a_gap_are_spread_evenly() {
        let mut epoch = epoch(65_000, 3, 10);
        epoch.extend(epoch.newest.value() + 4, 6000, 8000, RtpTime(60));
        let entry = |n| epoch.entries.get(n).map(|e| (e.line, e.due, e.identity.timestamp.0));
        assert_eq!(entry(2), Some((2000, 3000, 20)));
        assert_eq!(entry(3), Some((3000, 4250, 30)));
        assert_eq!(entry(5), Some((5000, 6750, 50)));
        assert_eq!(entry(6), Some((6000, 8000, 60)));
    }

    #[test]
    fn times_never_fall() {
        let mut epoch = epoch(65_000, 3, 10);
        epoch.extend(epoch.newest.value() + 2, 500, 600, RtpTime(40));
        let last = epoch.entries.back().map(|e| (e.line, e.due));
        assert_eq!(last, Some((2000, 3000)));
    }

    #[test]
    fn the_timestamp_tells_the_turn_when_more_than_half_a_turn_is_held() {
        let epoch = epoch(65_000, 150_000, 9);
        let newest = epoch.newest.value();
        for back in [0, 1, 20_000, 40_000, 70_000, 100_000, 149_999] {
            let place = newest - back;
            let timestamp = RtpTime((149_999 - back) as u32 * 9);
            assert_eq!(epoch.seek(Seq((place & 0xFFFF) as u16), timestamp), place, "{back} back");
        }
        for ahead in [1, 100, 40_000] {
            let timestamp = RtpTime((149_999 + ahead) as u32 * 9);
            let place = newest + ahead;
            assert_eq!(epoch.seek(Seq((place & 0xFFFF) as u16), timestamp), place, "{ahead} ahead");
        }
    }

    #[test]
    fn a_print_tells_every_bit_of_a_payload() {
        let payload: Vec<u8> = (0..1316_u32).map(|n| (n * 7) as u8).collect();
        let print = fingerprint(&payload);
        for byte in 0..payload.len() {
            let mut other = payload.clone();
            other[byte] ^= 1 << (byte % 8);
            assert_ne!(fingerprint(&other), print, "byte {byte}");
        }
    }
}
