//! The receiving side: order, loss and time.
//!
//! Packets wait in a ring by their sequence numbers until they are due by their time stamps ([`super::tsbpd`]), and are
//! released in order. When a packet is due and those before it are missing, these are given up (TLPKTDROP). What is
//! missing is reported ([`report`]); what is there is acknowledged ([`ack`]).
//!
//! The ring has three marks: what was released and may still be read (`tail`), what is to be released next (`head`), and
//! what comes after everything seen (`end`). A packet is settled when nothing is to be done to get it any more: it came,
//! or the sender gave it up.

mod ack;
mod jump;
mod memory;
mod rate;
mod report;

use serde::{Deserialize, Serialize};

use super::clock::{SECOND, Tick};
use super::packet::{DataHeader, Key};
use super::rekey::ReceiveKeys;
use super::rtt::Rtt;
use super::seq::{SeqNo, Timestamp};
use super::stats::ReceiveCounters;
use super::tsbpd::Tsbpd;
use super::window::{BitRing, ExtSeq};

pub(super) use self::ack::ACK_INTERVAL;
use self::ack::Acks;
use self::jump::Stray;
use self::memory::{Memory, Place};
use self::rate::Rate;
use self::report::Reports;

/// Slots of the smallest ring.
const LEAST_SLOTS: usize = 64;
/// A packet that claims to be due later than its latency and this after its arrival is due then: no time stamp holds up
/// what follows for longer.
const MOST_AHEAD: i64 = 2 * SECOND;

/// What there is of a packet that has a place in the ring.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Slot {
    /// Its time on the peer's clock.
    time: i64,
    /// When it came. Of one that is missing: when that was last reported.
    at: Tick,
    place: Place,
    /// It could not be decrypted when it came: the key may still be on its way.
    sealed: Option<Key>,
    /// How often it was asked for.
    requests: u8,
    /// The report is to be made once more, as it may get lost.
    once_more: bool,
}

/// The bounds of a receiver.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Bounds {
    pub(super) packets: u32,
    pub(super) bytes: usize,
    /// Payload bytes of the largest packet.
    pub(super) payload: usize,
    pub(super) reorder_tolerance: u32,
}

/// A data packet as it arrives.
#[derive(Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) header: &'a DataHeader,
    pub(super) payload: &'a [u8],
    pub(super) arrival: Tick,
    pub(super) now: Tick,
}

/// What the peer sent and we have not delivered yet.
#[derive(Serialize, Deserialize)]
pub(super) struct Receiver {
    pub(super) tsbpd: Tsbpd,
    pub(super) counters: ReceiveCounters,
    bounds: Bounds,
    tail: ExtSeq,
    head: ExtSeq,
    end: ExtSeq,
    /// The first that is not settled, or the end.
    ack: ExtSeq,
    /// The first that is stored and not released.
    first: Option<ExtSeq>,
    /// What was released last, and one more.
    released: ExtSeq,
    /// Missing ones: before the end and not settled.
    missing: u64,
    /// Stored and not released.
    stored_count: u64,
    settled: BitRing,
    stored: BitRing,
    /// As many as the bits of either.
    slots: Vec<Slot>,
    memory: Memory,
    /// The latest time on the peer's clock that was plausible.
    newest: i64,
    acks: Acks,
    reports: Reports,
    stray: Option<Stray>,
    /// The sender gave up everything before this, which lies beyond the ring.
    jump_to: Option<ExtSeq>,
    rate: Rate,
    /// Most places in use since the last [`Receiver::trim`].
    peak: usize,
}

/// A packet that is due, with all that is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due<'a> {
    pub(super) payload: &'a [u8],
    pub(super) seq: SeqNo,
    pub(super) due: Tick,
    pub(super) arrival: Tick,
    pub(super) origin: Tick,
    pub(super) gap: u64,
}

/// How full the buffer is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    /// Packets that wait.
    pub(super) packets: u64,
    /// From the first of them to the last, microseconds.
    pub(super) span: i64,
    /// Packets that there is room for.
    pub(super) room: u64,
}

impl Receiver {
    pub(super) fn new(isn: SeqNo, tsbpd: Tsbpd, bounds: Bounds) -> Self {
        let start = ExtSeq::start(isn);
        Self {
            tsbpd,
            counters: ReceiveCounters::default(),
            bounds,
            tail: start,
            head: start,
            end: start,
            ack: start,
            first: None,
            released: start,
            missing: 0,
            stored_count: 0,
            settled: BitRing::default(),
            stored: BitRing::default(),
            slots: Vec::new(),
            memory: Memory::new(bounds.bytes),
            newest: i64::MIN,
            acks: Acks::new(start),
            reports: Reports::new(),
            stray: None,
            jump_to: None,
            rate: Rate::default(),
            peak: 0,
        }
    }

    /// Take a data packet in. `keys` are those of an encrypted connection.
    pub(super) fn handle_data(&mut self, packet: Arrived<'_>, keys: Option<&mut ReceiveKeys>) {
        let Arrived { header, payload, arrival, now } = packet;
        self.counters.packets += 1;
        self.counters.bytes += payload.len() as u64;
        self.counters.retransmitted += u64::from(header.retransmitted);
        if keys.is_some() != header.key.is_some() {
            return self.undecrypted(payload.len());
        }
        let time = self.tsbpd.unwrap(header.timestamp, arrival);
        let at = self.end.unwrap(header.seq);
        if at < self.head {
            if self.head.since(at) <= 2 * u64::from(self.bounds.packets) {
                return self.belated(time, now);
            }
        } else if at.since(self.tail) < u64::from(self.bounds.packets) {
            return self.insert(at, time, packet, keys);
        }
        // Out of every window. Where the peer's numbers really jumped, the window follows.
        match self.strayed(header.seq, time, now) {
            Some(there) => self.insert(there, time, packet, keys),
            None => self.counters.no_room += 1,
        }
    }

    fn insert(&mut self, at: ExtSeq, time: i64, packet: Arrived<'_>, keys: Option<&mut ReceiveKeys>) {
        let Arrived { header, payload, arrival, now } = packet;
        self.fit(at);
        if at < self.end && self.stored.get(at) {
            self.counters.duplicates += 1;
            return;
        }
        let Some(place) = self.memory.store(payload) else {
            self.counters.no_room += 1;
            return;
        };
        let mut sealed = header.key;
        if let Some((keys, key)) = keys.zip(header.key)
            && keys.open(key, at, self.memory.payload_mut(place))
        {
            sealed = None;
        }
        if at > self.end {
            self.mark_missing(at, now);
        }
        if at >= self.end {
            self.end = at.add(1);
        } else {
            self.fill_in(at, header);
        }
        let size = self.slots.len();
        self.slots[at.slot(size)] = Slot { time, at: arrival, place, sealed, ..Slot::default() };
        self.stored.set(at);
        self.settled.set(at);
        if at == self.ack {
            self.ack = self.settled.next_clear(at.add(1), self.end).unwrap_or(self.end);
        }
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.stored_count += 1;
        self.newest = self.newest.max(time.min(arrival.since(self.tsbpd.origin(0)) + SECOND));
        self.stray = None;
        self.counters.unique += 1;
        self.counters.unique_bytes += payload.len() as u64;
        self.rate.arrived(arrival, u64::from(header.seq.value()), payload.len());
        self.acks.arrived();
    }

    /// A packet came after later ones.
    fn fill_in(&mut self, at: ExtSeq, header: &DataHeader) {
        if !self.settled.get(at) {
            self.missing -= 1;
            self.counters.recovered += 1;
        }
        if !header.retransmitted {
            let distance = self.end.since(at) - 1;
            self.counters.reorder_distance = self.counters.reorder_distance.max(distance);
        }
    }

    /// Those from the end to before this one are missing.
    fn mark_missing(&mut self, upto: ExtSeq, now: Tick) {
        let gap = upto.since(self.end);
        self.missing += gap;
        self.counters.lost += gap;
        self.reports.gap(now);
        let size = self.slots.len();
        let mut at = self.end;
        while at < upto {
            self.slots[at.slot(size)] = Slot { at: now, ..Slot::default() };
            at = at.add(1);
        }
    }

    /// Make the ring long enough for this place.
    fn fit(&mut self, at: ExtSeq) {
        // Below twice the bound in packets.
        let needed = at.since(self.tail) as usize + 1;
        self.peak = self.peak.max(needed);
        if needed > self.slots.len() {
            self.resize(needed.next_power_of_two().max(LEAST_SLOTS));
        }
    }

    fn resize(&mut self, size: usize) {
        let mut slots = vec![Slot::default(); size];
        let old = self.slots.len();
        let mut at = self.tail;
        while at < self.end {
            slots[at.slot(size)] = self.slots[at.slot(old)];
            at = at.add(1);
        }
        self.slots = slots;
        self.settled = self.settled.resized(self.tail, self.end, size);
        self.stored = self.stored.resized(self.tail, self.end, size);
    }

    fn slot(&self, at: ExtSeq) -> &Slot {
        &self.slots[at.slot(self.slots.len())]
    }

    fn undecrypted(&mut self, bytes: usize) {
        self.counters.undecrypted += 1;
        self.counters.undecrypted_bytes += bytes as u64;
    }

    fn belated(&mut self, time: i64, now: Tick) {
        self.counters.belated += 1;
        self.counters.belated_us += u64::try_from(now.since(self.tsbpd.due(time))).unwrap_or(0);
    }

    /// The sender gave these up. `false`: that cannot be.
    pub(super) fn handle_drop_request(&mut self, first: SeqNo, last: SeqNo) -> bool {
        let (first, after) = (self.end.unwrap(first), self.end.unwrap(last).add(1));
        let near = self.head.sub(u64::from(self.bounds.packets));
        if first > self.end || first < near || after.since(self.end) > jump::FURTHEST {
            return false;
        }
        if after <= self.ack {
            return true;
        }
        let limit = self.tail.add(self.bounds.packets.into());
        if after > limit {
            self.jump_to = Some(after);
        }
        let (from, to) = (first.max(self.ack), after.min(limit));
        if to > from {
            self.fit(to.sub(1));
            let known = to.min(self.end);
            self.missing -= known.since(from) - self.settled.count(from, known);
            self.settled.fill(from, to);
            self.end = self.end.max(to);
            self.ack = self.settled.next_clear(self.ack, self.end).unwrap_or(self.end);
        }
        self.pass_over();
        self.follow();
        true
    }

    /// With nothing stored there is nothing to wait for before what is settled: it was given up.
    fn pass_over(&mut self) {
        if self.first.is_none() && self.ack > self.head {
            self.counters.dropped += self.ack.since(self.head);
            let unread = self.tail < self.head;
            self.head = self.ack;
            if !unread {
                self.vacate(self.head);
            }
        }
    }

    /// When the next packet is due, with the gap in front of it if there is one.
    pub(super) fn next_release(&self) -> Tick {
        self.first.map_or(Tick::NEVER, |first| self.due(self.slot(first)))
    }

    fn due(&self, slot: &Slot) -> Tick {
        self.tsbpd.due(slot.time).min(slot.at.add(self.tsbpd.latency() + MOST_AHEAD))
    }

    /// Release what is due, and give up what is missing before it.
    pub(super) fn release(&mut self, now: Tick, mut keys: Option<&mut ReceiveKeys>) {
        while let Some(first) = self.first {
            let slot = *self.slot(first);
            if self.due(&slot) > now {
                break;
            }
            if first > self.head {
                self.counters.dropped += first.since(self.head);
                let from = self.ack.max(self.head);
                self.missing -= first.since(from) - self.settled.count(from, first);
            }
            self.head = first.add(1);
            self.stored_count -= 1;
            self.first = self.stored.next_set(self.head, self.end);
            if let Some(key) = slot.sealed
                && !keys.as_deref_mut().is_some_and(|keys| keys.open(key, first, self.memory.payload_mut(slot.place)))
            {
                self.undecrypted(usize::from(slot.place.bytes()));
                self.stored.clear(first);
                self.memory.discard(slot.place);
            }
        }
        if self.head > self.ack {
            self.ack = self.settled.next_clear(self.head, self.end).unwrap_or(self.end);
        }
    }

    /// What was released since the last [`Self::recycle`].
    pub(super) fn released(&self) -> impl Iterator<Item = Due<'_>> {
        let (mut at, mut before) = (self.tail, self.released);
        std::iter::from_fn(move || {
            at = self.stored.next_set(at, self.head)?;
            let gap = at.since(before);
            let seq = at.seq();
            let slot = self.slot(at);
            at = at.add(1);
            before = at;
            let (payload, origin) = (self.memory.payload(slot.place), self.tsbpd.origin(slot.time));
            Some(Due { payload, seq, due: self.due(slot), arrival: slot.at, origin, gap })
        })
    }

    /// What was released has been read.
    pub(super) fn recycle(&mut self) {
        if self.tail == self.head {
            return;
        }
        let mut at = self.tail;
        while let Some(there) = self.stored.next_set(at, self.head) {
            self.memory.discard(self.slot(there).place);
            at = there.add(1);
            self.released = at;
        }
        self.vacate(self.head);
        self.pass_over();
        self.follow();
    }

    /// Nothing before this is held any more.
    fn vacate(&mut self, to: ExtSeq) {
        self.settled.wipe(self.tail, to);
        self.stored.wipe(self.tail, to);
        self.tail = to;
    }

    /// An ACKACK came, with its time stamp. `false`: there is no ACK that it answers.
    pub(super) fn handle_ackack(&mut self, number: u32, timestamp: Timestamp, arrival: Tick, rtt: &mut Rtt) -> bool {
        let Some(sent) = self.acks.answered(number) else { return false };
        let sample = arrival.since(sent);
        if rtt.sample(sample) {
            self.tsbpd.sample(timestamp, arrival, Some(sample));
        }
        true
    }

    /// Room that the sender may use beyond what is acknowledged, packets.
    fn room(&self) -> u32 {
        let by_count = u64::from(self.bounds.packets).saturating_sub(self.ack.since(self.tail));
        let by_bytes = self.memory.room(self.bounds.payload) as u64;
        // At most the bound.
        by_count.min(by_bytes) as u32
    }

    /// Whether packets ever came.
    pub(super) const fn has_received(&self) -> bool {
        self.counters.packets > 0
    }

    /// Whether everything was released and read.
    pub(super) fn is_drained(&self) -> bool {
        self.first.is_none() && self.tail == self.head
    }

    /// How full the buffer is.
    pub(super) fn fill(&self) -> Fill {
        let span = self.first.map_or(0, |first| (self.newest - self.slot(first).time).max(0));
        Fill { packets: self.stored_count, span, room: self.room().into() }
    }

    /// Bytes taken from the system.
    pub(super) fn memory_bytes(&self) -> usize {
        let ring = self.slots.len() * size_of::<Slot>() + self.slots.len() / 4;
        self.memory.bytes() + ring + self.acks.memory_bytes()
    }

    /// Give back what was not needed since the last call: about once a second.
    pub(super) fn trim(&mut self) {
        self.memory.trim();
        self.acks.trim();
        let needed = self.end.since(self.tail) as usize;
        let peak = std::mem::replace(&mut self.peak, needed).max(needed);
        if peak == 0 {
            (self.slots, self.settled, self.stored) = (Vec::new(), BitRing::default(), BitRing::default());
        } else if self.slots.len() >= 4 * peak.next_power_of_two().max(LEAST_SLOTS) {
            self.resize((2 * peak).next_power_of_two().max(LEAST_SLOTS));
        }
    }
}
