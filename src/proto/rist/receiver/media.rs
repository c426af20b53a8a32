//! The way in of media: out of the tunnel, into its place.

use super::super::Port;
use super::super::clock::Tick;
use super::super::extension::Extension;
use super::super::gre;
use super::super::tunnel::Opened;
use super::requests::UNKNOWN;
use super::ring::{Slot, State};
use super::stream::{Seat, Stream};
use super::{Delivery, FIRST_PLACE, From, Receiver, ReceiverEvent};
use crate::proto::rtp::header::{FIXED_LEN, Header, HeaderError};
use crate::time::Instant;

/// Most places of a stream with numbers of 16 bits, and of 32.
const MOST_PLACES: (u64, u64) = (65_000, 262_144);
/// Restarts among what waits.
const MOST_RESTARTS: usize = 16;

/// Where the bytes of a packet that goes on are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the datagram, from here on.
    Datagram(usize),
    /// In what came out of the tunnel, from here on.
    Plain(usize),
    /// In the receiver.
    Whole,
}

/// The same, within a tunnel or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    AsItCame,
    Whole,
}

/// A packet of media on its way in.
#[derive(Clone, Copy)]
struct Media<'a> {
    leg: u8,
    at: Tick,
    arrival: Instant,
    packet: &'a [u8],
    header: Header,
    extension: Option<Extension>,
}

impl Receiver {
    /// Take a datagram, whatever it is. Of a packet of media that goes on, its header, where it lies, and when it came.
    pub(super) fn take(
        &mut self,
        now: Tick,
        (at, arrival): (Tick, Instant),
        from: From,
        datagram: &[u8],
        plain: &mut Vec<u8>,
    ) -> Option<(Header, Origin, Tick)> {
        let leg = self.leg_mut(from.leg)?;
        let inner = match (&mut leg.tunnel, from.port) {
            (None, Port::Media) => Opened::Media(0),
            (None, _) => Opened::Control(0),
            (Some(tunnel), _) => {
                let opened = tunnel.open(now, datagram, plain);
                if opened == Opened::Nothing && matches!(Header::parse(datagram), Ok(_) | Err(HeaderError::Rtcp(_))) {
                    leg.stats.other_profile += 1;
                }
                opened
            }
        };
        let clear = plain.is_empty();
        let bytes = if clear { datagram } else { plain };
        match inner {
            Opened::Nothing => None,
            Opened::Control(start) => {
                self.handle_control(now, at, from, &bytes[start..]);
                None
            }
            Opened::Media(start) => {
                let (header, place, came) = self.handle_media(now, at, arrival, from, &bytes[start..])?;
                let origin = match place {
                    Bytes::Whole => Origin::Whole,
                    Bytes::AsItCame if clear => Origin::Datagram(start),
                    Bytes::AsItCame => Origin::Plain(start),
                };
                Some((header, origin, came))
            }
        }
    }

    fn handle_media(
        &mut self,
        now: Tick,
        at: Tick,
        arrival: Instant,
        from: From,
        packet: &[u8],
    ) -> Option<(Header, Bytes, Tick)> {
        let header = match Header::parse(packet) {
            Ok(header) => header,
            // One port for both (RFC 5761).
            Err(HeaderError::Rtcp(_)) => {
                self.handle_control(now, at, from, packet);
                return None;
            }
            Err(_) => {
                let tunnelled = gre::Header::read(packet).is_some();
                self.stats.received += 1;
                self.stats.invalid += 1;
                if let Some(leg) = self.leg_mut(from.leg) {
                    leg.count_media(at, packet.len());
                    leg.stats.other_profile += u64::from(tunnelled && leg.tunnel.is_none());
                }
                return None;
            }
        };
        self.stats.received += 1;
        self.stats.bytes += packet.len() as u64;
        self.leg_mut(from.leg)?.count_media(at, packet.len());
        let extension = Extension::read(packet, &header);
        let media = Media { leg: from.leg.0, at, arrival, packet, header, extension };
        let Some((place, again)) = self.seat(&media) else {
            self.stats.stray += 1;
            return None;
        };
        self.put(&media, place, again)
    }

    /// The place of a packet in the stream, which may begin with it.
    fn seat(&mut self, media: &Media<'_>) -> Option<(u64, bool)> {
        let Media { at, header, extension, .. } = media;
        let upper = extension.and_then(|extension| extension.upper);
        let Some(stream) = &mut self.stream else {
            self.stream = Some(Stream::new(header, upper, FIRST_PLACE, *at, self.latency));
            self.ring.begin(FIRST_PLACE);
            return Some((FIRST_PLACE, false));
        };
        if let Seat::At(place, again) = stream.seat(header, upper, *at, self.ring.head()) {
            if !again {
                self.candidate = self.candidate.filter(|_| place < self.ring.head());
            }
            return Some((place, again));
        }
        let candidate = stream.consider(&mut self.candidate, header, *at)?;
        let end = self.ring.end();
        let stream = Stream::from_candidate(candidate, header, upper, end, *at, self.latency);
        let place = stream.newest();
        self.stats.restarts += 1;
        self.requests.clear();
        if self.restarted.len() < MOST_RESTARTS {
            self.restarted.push_back(end);
        }
        self.jitter.0 = Default::default();
        self.tell(ReceiverEvent::SourceRestarted(stream.ssrc));
        self.stream = Some(stream);
        for leg in self.legs.iter_mut().flatten() {
            leg.asks.clear();
            leg.asked = 0;
        }
        Some((place, false))
    }

    fn put(&mut self, media: &Media<'_>, place: u64, again: bool) -> Option<(Header, Bytes, Tick)> {
        let &Media { leg, at, arrival, header, .. } = media;
        let (header, changed) = self.prepare(media, header, again)?;
        let stream = self.stream.as_mut()?;
        let stats = &mut self.legs[usize::from(leg)].as_mut()?.stats;
        self.stats.retransmitted += u64::from(again);
        stats.retransmitted += u64::from(again);
        let bytes = if changed { Bytes::Whole } else { Bytes::AsItCame };
        let by_timestamp = if again { stream.timing.again(header.timestamp) } else { None };
        // Of one that was sent again, when it would have.
        let came = by_timestamp.map_or(at, |due| due.add(-self.latency).min(at));
        let known = self.ring.get(place).copied();
        let missing = known.is_none_or(|slot| slot.state == State::Missing);
        let over = place < self.ring.head();
        if over || !missing {
            *(if missing { &mut self.stats.late } else { &mut self.stats.duplicates }) += 1;
            *(if missing { &mut stats.late } else { &mut stats.duplicates }) += 1;
            if !again {
                stream.advance(place, at, false);
                if known.is_some_and(|slot| slot.state == State::Elsewhere) {
                    stream.timing.original(at, header.timestamp);
                }
            }
            return Some((header, bytes, came));
        }
        let due = if again {
            let as_neighbours = || known.map_or(at.add(self.latency), |slot| slot.due);
            by_timestamp.unwrap_or_else(as_neighbours)
        } else {
            let (due, jumped) = stream.timing.original(at, header.timestamp);
            stream.advance(place, at, true);
            self.jitter.0.update(arrival, header.timestamp, &mut self.jitter.1);
            if jumped {
                self.stats.timestamp_jumps += 1;
                self.tell(ReceiverEvent::TimestampJump);
            }
            due
        };
        let state = match self.config.delivery {
            Delivery::AtOnce => State::Gone,
            Delivery::Buffered => {
                self.make_room(place);
                let Some(slot) = self.memory.store(if changed { &self.whole } else { media.packet }) else {
                    self.stats.overflow += 1;
                    return None;
                };
                State::Held(slot)
            }
        };
        if place >= self.ring.end() {
            self.open(place, due, at);
        } else if again {
            self.repaired(place, at);
        } else {
            self.stats.reordered += 1;
        }
        self.stats.first += 1;
        if let Some(leg) = &mut self.legs[usize::from(leg)] {
            leg.stats.first += 1;
            leg.stats.recovered += u64::from(again);
        }
        self.ring.put(place, Slot { state, due, arrival: at, again });
        Some((header, bytes, came))
    }

    /// A packet as it goes on: under the stream's SSRC, without the extension, and with its null packets. Whether that is
    /// another than came; then it lies in `whole`.
    fn prepare(&mut self, media: &Media<'_>, header: Header, again: bool) -> Option<(Header, bool)> {
        if media.extension.is_none() && !again {
            return Some((header, false));
        }
        let mut fixed = header;
        fixed.ssrc &= !u32::from(again);
        self.whole.clear();
        let payload = &media.packet[header.payload()];
        match media.extension {
            Some(extension) => {
                self.whole.extend(fixed.write());
                if !extension.restore(payload, &mut self.whole) {
                    self.stats.invalid += 1;
                    return None;
                }
            }
            None => {
                self.whole.extend_from_slice(media.packet);
                if let Some(place) = self.whole.get_mut(FIXED_LEN - 4..FIXED_LEN) {
                    place.copy_from_slice(&fixed.ssrc.to_be_bytes());
                }
            }
        }
        Header::parse(&self.whole).ok().map(|header| (header, true))
    }

    /// The window is to reach this place, and there is to be memory: what is in the way leaves.
    fn make_room(&mut self, place: u64) {
        let extended = self.stream.as_ref().is_some_and(|stream| stream.extended);
        let most = if extended { MOST_PLACES.1 } else { MOST_PLACES.0 };
        while place.saturating_sub(self.ring.head()) >= most || self.memory.tight() {
            if self.ring.first().is_none() {
                break;
            }
            self.stats.early += 1;
            self.release_first();
        }
        if place.saturating_sub(self.ring.head()) >= most {
            self.stats.unrecovered += place - self.ring.head();
            self.ring.begin(place);
        }
    }

    /// A packet has come, or is known to be, that lies after all others: those between are missing.
    fn open(&mut self, place: u64, due: Tick, at: Tick) {
        let end = self.ring.end();
        self.ring.extend(place);
        let gap = (place - end).cast_signed();
        let before = self.newest_due.min(due);
        for step in 0..gap {
            let part = i128::from(due.since(before)) * i128::from(step + 1) / i128::from(gap + 1);
            let (missing, due) = (end + step.unsigned_abs(), before.add(part as i64));
            self.ring.estimate(missing, due);
            self.requests.add(missing, due, at.add(self.wait()));
        }
        self.newest_due = due;
    }

    /// How long a packet may come after later ones before it is asked for: longer than what reordering is given where
    /// another source brings it so much later, but no longer than leaves time for two answers.
    fn wait(&self) -> i64 {
        let round_trip = self.legs.iter().flatten().filter_map(|leg| leg.rtt.get()).min();
        let time = self.latency - round_trip.unwrap_or(UNKNOWN) * 5 / 2;
        self.reorder.max((self.lag + self.lag / 4).min(time))
    }

    /// A missing packet was sent again, and is there.
    fn repaired(&mut self, place: u64, at: Tick) {
        self.stats.recovered += 1;
        if let Some((leg, rtt)) = self.requests.answered(place, at)
            && let Some(leg) = &mut self.legs[usize::from(leg)]
        {
            leg.rtt.other(rtt);
        }
    }

    /// Another source has brought a packet.
    pub(super) fn note_elsewhere(&mut self, at: Tick, header: &Header) {
        let Some(stream) = &self.stream else { return };
        let Some(place) = stream.seat_elsewhere(header.seq, at).filter(|place| *place >= self.ring.head()) else {
            return;
        };
        let due = stream.timing.again(header.timestamp).unwrap_or(at.add(self.latency));
        if place >= self.ring.end() {
            self.open(place, due, at);
        } else if self.ring.get(place).is_some_and(|slot| slot.state != State::Missing) {
            return;
        } else {
            // It follows what comes late sooner than what comes early: of several sources the latest counts.
            let more = at.since(due) + self.latency - self.lag;
            self.lag += more / if more > 0 { 16 } else { 64 };
        }
        self.stats.elsewhere += 1;
        self.ring.put(place, Slot { state: State::Elsewhere, due, arrival: at, again: false });
    }
}
