//! Which packets are the stream's, and where its numbers stand.
//!
//! Packets have places that only grow; a stream's numbers, which begin anywhere, lie at a fixed distance from them. So a
//! stream that follows on another has the next places, and what waits of the old one still leaves in its time.

use super::super::clock::{MILLISECOND, SECOND, Tick};
use super::timing::Timing;
use crate::proto::rtp::header::Header;
use crate::proto::seq::Seq;
use serde::{Deserialize, Serialize};

/// Further ahead than this may begin a new stream (RFC 3550, appendix A.1).
const MAX_DROPOUT: u64 = 3000;
/// No gap is longer.
const MOST_AHEAD: u64 = 60_000;
/// Packets of a new stream that must come in sequence (RFC 3550, appendix A.1).
const MIN_SEQUENTIAL: u8 = 2;
/// Bounds of the silence after which another stream may take over.
const SILENCE: (i64, i64) = (20 * MILLISECOND, 500 * MILLISECOND);
/// A copy that comes this much later, beyond the latency, is no copy but another stream.
const LATEST: i32 = 10 * 90_000;

/// The stream that is received.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stream {
    /// Of packets sent for the first time, but for the lowest bit.
    pub(super) ssrc: u32,
    /// Its lowest bit is set where nothing was sent again: a sender that knows no RIST.
    odd: bool,
    /// Numbers of 32 bits.
    pub(super) extended: bool,
    /// The newest number.
    newest: u64,
    /// From a number to its place.
    shift: u64,
    /// The first place.
    first: u64,
    /// When the newest packet came, and the longest recent pause, forgotten slowly.
    pub(super) last: Tick,
    pause: i64,
    /// Packets a second, over about a second.
    rate: i64,
    counted: (Tick, i64),
    pub(super) timing: Timing,
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// In this place; whether it was sent again.
    At(u64, bool),
    /// Nowhere in this stream.
    None,
}

/// Another stream, which may follow.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Candidate {
    ssrc: u32,
    first: Seq,
    next: Seq,
    count: u8,
}

/// The number of a stream's first packet: one turn up, so that those before it have one too.
fn begin(seq: Seq, upper: Option<u16>) -> u64 {
    let low = upper.map_or(u64::from(seq.0), |upper| u64::from(upper) << 16 | u64::from(seq.0));
    (1 << 32) + low
}

impl Stream {
    /// With its first packet, in this place.
    pub(super) fn new(header: &Header, upper: Option<u16>, place: u64, arrival: Tick, latency: i64) -> Self {
        let newest = begin(header.seq, upper);
        Self {
            ssrc: header.ssrc & !1,
            odd: header.ssrc & 1 != 0,
            extended: upper.is_some(),
            newest,
            shift: place.wrapping_sub(newest),
            first: place,
            last: arrival,
            pause: 0,
            rate: 0,
            counted: (arrival, 0),
            timing: Timing::new(latency, arrival, header.timestamp),
        }
    }

    /// The one that a candidate is.
    pub(super) fn from_candidate(
        candidate: Candidate,
        header: &Header,
        upper: Option<u16>,
        place: u64,
        arrival: Tick,
        latency: i64,
    ) -> Self {
        let mut stream = Self::new(header, upper, place, arrival, latency);
        let before = u64::try_from(header.seq.distance(candidate.first)).unwrap_or(0).min(MAX_DROPOUT);
        stream.shift = stream.shift.wrapping_add(before);
        stream
    }

    /// The newest place.
    pub(super) const fn newest(&self) -> u64 {
        self.newest.wrapping_add(self.shift)
    }

    /// The number on the wire that a place has; `None`: it is of an earlier stream.
    pub(super) fn number(&self, place: u64) -> Option<u32> {
        (place >= self.first).then(|| (place.wrapping_sub(self.shift) & 0xFFFF_FFFF) as u32)
    }

    /// The highest number received, extended to 32 bits, as reports name it.
    pub(super) const fn highest(&self) -> u32 {
        (self.newest & 0xFFFF_FFFF) as u32
    }

    /// Packets a second.
    pub(super) const fn rate(&self) -> i64 {
        self.rate
    }

    /// Where a packet belongs. `head`: the first place that is not over.
    pub(super) fn seat(&mut self, header: &Header, upper: Option<u16>, arrival: Tick, head: u64) -> Seat {
        if header.ssrc & !1 != self.ssrc {
            return Seat::None;
        }
        let odd = header.ssrc & 1 != 0;
        self.odd &= odd;
        let again = odd && !self.odd;
        let number = self.unwrap(header.seq, upper, again);
        let place = number.wrapping_add(self.shift);
        if place < self.first {
            // From before the stream: as far as a misordered start goes.
            let near = self.first - place <= MAX_DROPOUT;
            return if again || near { Seat::At(place, again) } else { Seat::None };
        }
        if again {
            return Seat::At(place, true);
        }
        let ahead = number.saturating_sub(self.newest);
        let fits = if ahead > 0 {
            ahead <= self.most_ahead(arrival)
        } else {
            // What is over and yet newer, or far older, is of another stream.
            let media = self.timing.ahead(header.timestamp);
            let foreign = media > 0 || (media < -LATEST && self.timing.is_trusted());
            place >= head || !foreign
        };
        if fits { Seat::At(place, false) } else { Seat::None }
    }

    /// Where a packet belongs that another source has brought.
    pub(super) fn seat_elsewhere(&self, seq: Seq, arrival: Tick) -> Option<u64> {
        let number = self.unwrap(seq, None, false);
        let ahead = number.saturating_sub(self.newest);
        (ahead <= self.most_ahead(arrival))
            .then(|| number.wrapping_add(self.shift))
            .filter(|place| *place >= self.first)
    }

    fn most_ahead(&self, arrival: Tick) -> u64 {
        let silence = arrival.since(self.last).clamp(0, 60 * SECOND);
        let sent = self.rate.saturating_mul(2).saturating_mul(silence / MILLISECOND) / 1000;
        u64::try_from(sent).unwrap_or(0).clamp(MAX_DROPOUT, MOST_AHEAD)
    }

    fn unwrap(&self, seq: Seq, upper: Option<u16>, again: bool) -> u64 {
        if let Some(upper) = upper.filter(|_| self.extended) {
            let wire = u32::from(upper) << 16 | u32::from(seq.0);
            let distance = wire.wrapping_sub(self.highest()).cast_signed();
            return self.newest.saturating_add_signed(distance.into());
        }
        if again {
            // It was asked for, so it lies behind.
            return self.newest - u64::from((self.highest() as u16).wrapping_sub(seq.0));
        }
        self.newest.saturating_add_signed(seq.distance(Seq(self.highest() as u16)).into())
    }

    /// A packet of this stream came that was not sent again, in this place; the first copy of it, or another one.
    pub(super) fn advance(&mut self, place: u64, arrival: Tick, first: bool) {
        self.newest = self.newest.max(place.wrapping_sub(self.shift));
        let pause = arrival.since(self.last).clamp(0, SILENCE.1);
        self.pause = (self.pause - self.pause / 64).max(pause);
        self.last = self.last.max(arrival);
        self.counted.1 += i64::from(first);
        let elapsed = arrival.since(self.counted.0);
        if elapsed >= SECOND / 4 {
            let rate = self.counted.1.saturating_mul(SECOND) / elapsed;
            self.rate = if self.rate == 0 { rate } else { (self.rate * 3 + rate) / 4 };
            self.counted = (arrival, 0);
        }
    }

    /// Whether it is silent, so that another may take over.
    pub(super) fn is_silent(&self, now: Tick) -> bool {
        now.since(self.last) >= (self.pause * 2).clamp(SILENCE.0, SILENCE.1)
    }

    /// A packet came that does not belong. The candidate, if it takes over with this packet.
    pub(super) fn consider(
        &self,
        candidate: &mut Option<Candidate>,
        header: &Header,
        arrival: Tick,
    ) -> Option<Candidate> {
        let ssrc = header.ssrc & !1;
        match candidate {
            Some(known) if known.ssrc == ssrc && header.seq.distance(known.next) == 0 => {
                known.next = header.seq.add(1);
                known.count = known.count.saturating_add(1);
            }
            // Also with gaps, once it is known.
            Some(known)
                if known.ssrc == ssrc && known.count >= MIN_SEQUENTIAL && header.seq.distance(known.next) > 0 =>
            {
                known.next = header.seq.add(1);
            }
            _ => {
                *candidate = Some(Candidate { ssrc, first: header.seq, next: header.seq.add(1), count: 1 });
            }
        }
        let takes_over = candidate.filter(|known| known.count >= MIN_SEQUENTIAL && self.is_silent(arrival));
        if takes_over.is_some() {
            *candidate = None;
        }
        takes_over
    }
}
