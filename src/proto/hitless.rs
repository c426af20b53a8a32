//! Hitless merge, ST 2022-7: several legs that carry the same RTP packets become one stream. Without I/O; time is an
//! argument.
//!
//! Legs are aligned by sequence number, unwrapped against the newest of any leg; where more than half a turn of its 16
//! bits is held, the RTP timestamp tells the turn. The first copy of a packet is held, later ones are compared with it
//! and dropped. Every packet leaves at a fixed delay, the recovery window, after it came on the leading leg, or would
//! have come: a packet that only a lagging leg has leaves when its neighbours let expect, so that the loss of a leg
//! moves nothing. When the leading leg changes, or the window, the delay follows by 2 % of the time that passes.
//! Whatever is missing when its time comes is given up.
//!
//! A leg takes part when its SSRC and timestamps say that it belongs, or, with another SSRC, when two of its packets were
//! the same as those of another leg. A packet that does not belong begins a second stream beside the first, without
//! going out. If all legs turn silent or move there, it follows once the first one's packets have left: one clean
//! restart. As long as a leg goes on with the first, what is due of the second is dropped.
//!
//! When more than 1 % of a leg's copies differ within a second, the legs are not identical: the one that lost least
//! lately is kept, the others take part again after 5 s of identical packets, or if the one kept falls silent.
//!
//! Memory grows in blocks with what the window holds, is given back when not needed, and ends at 256 MiB and 262,144
//! packets; beyond that packets leave early.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::epoch::{Entry, Epoch, Identity, State};
use self::leg::{Home, Leg, judge_guest, judge_member, learn};
use self::memory::Memory;
pub use self::memory::SlotId;
pub use self::stats::{LegCounters, MergeCounters, Skew, SkewClass};
use super::rtp::header::Header;
use super::seq::RtpTime;

mod epoch;
mod leg;
mod memory;
mod release;
mod review;
mod stats;

/// Most legs of a merge.
pub const MOST_LEGS: usize = 8;
/// Events kept until they are polled.
const MOST_EVENTS: usize = 16;

/// A leg of a [`Merger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LegId(u8);

/// A packet whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Where its bytes are: [`Merger::held`], until [`Merger::recycle`].
    pub slot: SlotId,
    /// Its header; the payload's range counts in the whole packet.
    pub header: Header,
    /// The leg that brought it first.
    pub leg: LegId,
    /// The stream began anew with this packet. Not set on the very first one.
    pub discontinuity: bool,
}

/// A packet on its way in, and what is known of it.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    /// The number of its leg.
    leg: usize,
    arrival: Instant,
    /// That, on the merger's clock.
    at: i64,
    packet: &'a [u8],
    header: &'a Header,
    identity: Identity,
}

/// What an operator should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeEvent {
    /// A leg does not carry the packets of the stream; it is set aside.
    LegsNotIdentical {
        /// The one set aside.
        leg: LegId,
    },
    /// A leg that was set aside takes part again: it carried the same packets for 5 s, or the one kept fell silent.
    LegRejoined {
        /// That leg.
        leg: LegId,
    },
}

/// Legs in, one stream out.
///
/// On each wake give it the packets of all legs by [`Self::handle_packet`], each with its own time of arrival, then
/// call [`Self::handle_timeout`] once: that releases. Arrivals of different legs may be handed in out of order.
#[derive(Debug)]
pub struct Merger {
    window: i64,
    /// From the common line to a packet's time.
    delay: i64,
    /// Times are counted from here.
    origin: Option<Instant>,
    /// The latest arrival.
    now: i64,
    next_second: i64,
    legs: [Option<Leg>; MOST_LEGS],
    leader: usize,
    current: Option<Epoch>,
    pending: Option<Epoch>,
    /// The next packet delivered is the first after a restart.
    fresh: bool,
    /// Places of an epoch that is over, for the next one.
    spare: VecDeque<Entry>,
    memory: Memory,
    counters: MergeCounters,
    events: VecDeque<MergeEvent>,
}

impl Merger {
    /// A merge without legs. `window` is how far the legs may lie apart, and the delay added: 10 ms to 15 s.
    pub fn new(window: Duration) -> Self {
        let window = nanos(window);
        Self {
            window,
            delay: window,
            origin: None,
            now: 0,
            next_second: 0,
            legs: Default::default(),
            leader: 0,
            current: None,
            pending: None,
            fresh: false,
            spare: VecDeque::new(),
            memory: Memory::default(),
            counters: MergeCounters::default(),
            events: VecDeque::with_capacity(MOST_EVENTS),
        }
    }

    /// Change the window. The delay follows by 2 % of the time that passes.
    pub fn set_window(&mut self, window: Duration) {
        self.window = nanos(window);
    }

    /// Add a leg; `None`: there are [`MOST_LEGS`] already.
    pub fn add_leg(&mut self) -> Option<LegId> {
        let free = self.legs.iter().position(Option::is_none)?;
        self.legs[free] = Some(Leg::default());
        // Below MOST_LEGS.
        Some(LegId(free as u8))
    }

    /// Remove a leg. What it brought stays.
    pub fn remove_leg(&mut self, id: LegId) {
        self.legs[usize::from(id.0)] = None;
        for epoch in self.current.iter_mut().chain(&mut self.pending) {
            epoch.entries.iter_mut().for_each(|entry| entry.seen &= !(1 << id.0));
        }
        self.choose_leader();
    }

    /// The figures of a leg; `None` after it was removed.
    pub fn leg(&self, id: LegId) -> Option<&LegCounters> {
        self.legs[usize::from(id.0)].as_ref().map(|leg| &leg.counters)
    }

    /// The figures of the merge.
    pub const fn counters(&self) -> &MergeCounters {
        &self.counters
    }

    /// Legs that take part and were heard from in the last second.
    pub fn active_legs(&self, now: Instant) -> usize {
        let now = self.at(now);
        self.legs.iter().flatten().filter(|leg| leg.active(now)).count()
    }

    /// How far the active legs lie apart; zero with fewer than two.
    pub fn skew(&self, now: Instant) -> Duration {
        let now = self.at(now);
        let lags = || self.legs.iter().flatten().filter(|leg| leg.active(now)).map(|leg| leg.lag);
        let span = lags().max().zip(lags().min()).map_or(0, |(most, least)| most - least);
        Duration::from_nanos(span.unsigned_abs())
    }

    /// The class of ST 2022-7 that the active legs meet; `None` with fewer than two, or beyond all classes.
    pub fn class(&self, now: Instant) -> Option<SkewClass> {
        if self.active_legs(now) < 2 { None } else { SkewClass::of(self.skew(now)) }
    }

    /// The delay now: the window, or on the way to it.
    pub fn delay(&self) -> Duration {
        let lead = self.legs[self.leader].as_ref().map_or(0, |leg| leg.lag);
        Duration::from_nanos((self.delay - lead).max(0).unsigned_abs())
    }

    /// Bytes of memory taken for packets.
    pub fn memory(&self) -> usize {
        self.memory.bytes()
    }

    /// The whole packet that was released.
    pub fn held(&self, slot: SlotId) -> &[u8] {
        self.memory.packet(slot)
    }

    /// The packets released so far are sent: their memory may be used again.
    pub fn recycle(&mut self) {
        self.memory.recycle();
    }

    /// What happened; ask until `None`. It may change with every packet.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<MergeEvent> {
        self.events.pop_front()
    }

    /// Take one packet of a leg. `arrival` is when it came, by the kernel's stamp where there is one.
    /// [`Self::poll_timeout`] may change.
    pub fn handle_packet(&mut self, id: LegId, arrival: Instant, packet: &[u8], header: &Header) {
        let Some(leg) = &mut self.legs[usize::from(id.0)] else { return };
        let origin = *self.origin.get_or_insert(arrival);
        let at = clock(origin, arrival);
        let identity = Identity::of(packet, header);
        let incoming = Incoming { leg: usize::from(id.0), arrival, at, packet, header, identity };
        leg.count(&incoming);
        self.pass(at);
        let aside = self.legs[incoming.leg].as_ref().is_some_and(|leg| leg.aside);
        if self.current.is_none() {
            self.begin(&incoming);
        }
        if aside && !self.rescue(incoming.leg, at) {
            self.watch(&incoming);
            return;
        }
        match self.admit(Home::Current, &incoming) {
            Some(place) => self.put(Home::Current, place, &incoming),
            None => self.consider(&incoming),
        }
    }

    /// On the merger's clock.
    fn at(&self, time: Instant) -> i64 {
        self.origin.map_or(0, |origin| clock(origin, time))
    }

    /// The first packet of all.
    fn begin(&mut self, incoming: &Incoming<'_>) {
        self.leader = incoming.leg;
        self.delay = self.window;
        let epoch = self.new_epoch(incoming, 0);
        if let Some(leg) = &mut self.legs[incoming.leg] {
            leg.join(Home::Current, epoch.base, 0, incoming.header.ssrc);
        }
        self.current = Some(epoch);
    }

    /// An epoch that begins with a packet, on a leg with such a lag.
    fn new_epoch(&mut self, incoming: &Incoming<'_>, lag: i64) -> Epoch {
        let line = incoming.at - lag;
        let entries = std::mem::take(&mut self.spare);
        Epoch::new(incoming.header, line, line.saturating_add(self.delay), incoming.at, entries)
    }

    /// The place of a packet in an epoch, if it belongs there; its leg then takes part.
    fn admit(&mut self, home: Home, incoming: &Incoming<'_>) -> Option<u64> {
        let Incoming { leg: number, at, header, identity, .. } = incoming;
        let epoch = if home == Home::Pending { &self.pending } else { &self.current };
        let (epoch, leg) = (epoch.as_ref()?, self.legs[*number].as_ref()?);
        if leg.home == home && leg.accepted == Some(header.ssrc) {
            let others = || self.legs.iter().enumerate().filter(|(other, _)| other != number);
            let alone = || !others().any(|(_, leg)| leg.as_ref().is_some_and(|leg| leg.sends(*at)));
            return judge_member(epoch, leg, header, *at, alone);
        }
        let leg = self.legs[*number].as_mut()?;
        let (place, lag) = judge_guest(epoch, leg, identity, header, *at, self.window.max(self.delay))?;
        // Out of the stream that was, the lag is known best.
        let lag = if leg.home == Home::Current { leg.lag } else { lag };
        leg.join(home, place, lag, header.ssrc);
        Some(place)
    }

    /// A packet of a leg that was set aside: only compare it.
    fn watch(&mut self, Incoming { leg, at, header, identity, .. }: &Incoming<'_>) {
        let (Some(epoch), Some(leg)) = (&self.current, &mut self.legs[*leg]) else { return };
        leg.counters.stray += 1;
        let place = epoch.seek(header.seq, header.timestamp);
        leg.send_ahead(epoch, place, identity, *at, self.window);
        if let Some(entry) = epoch.entry(place).filter(|entry| entry.state != State::Missing) {
            leg.compare(&entry.identity, identity);
        }
    }

    /// A packet that does not belong to the current epoch: it may begin or continue the pending one.
    fn consider(&mut self, incoming: &Incoming<'_>) {
        if self.pending.as_ref().is_some_and(|pending| pending.head().is_none() && pending.silent_from() <= incoming.at)
        {
            self.drop_pending();
        }
        let mut place = self.admit(Home::Pending, incoming);
        let replaceable = |pending: &Epoch| !pending.sequential || pending.silent_from() <= incoming.at;
        if place.is_none() && self.pending.as_ref().is_none_or(replaceable) {
            self.drop_pending();
            let lag = self.legs[incoming.leg].as_ref().map_or(0, |leg| leg.lag);
            let epoch = self.new_epoch(incoming, lag);
            place = Some(epoch.base);
            self.pending = Some(epoch);
        }
        match place {
            Some(place) => self.put(Home::Pending, place, incoming),
            None => self.count_stray(incoming.leg),
        }
        if let Some(leg) = self.legs[incoming.leg].as_mut().filter(|leg| leg.home != Home::Current) {
            leg.foreign_since.get_or_insert(incoming.at);
        }
    }

    fn count_stray(&mut self, leg: usize) {
        if let Some(leg) = &mut self.legs[leg] {
            leg.counters.stray += 1;
        }
    }

    /// A packet has a place: keep it if it is the first copy, else compare it.
    fn put(&mut self, home: Home, place: u64, incoming: &Incoming<'_>) {
        let Incoming { leg: number, arrival, at, packet, header, identity } = *incoming;
        let epoch = if home == Home::Pending { &mut self.pending } else { &mut self.current };
        let (Some(epoch), Some(leg)) = (epoch, &mut self.legs[number]) else { return };
        epoch.alive(at);
        leg.advance(arrival, place, header);
        self.counters.foreign_ssrc += u64::from(header.ssrc != epoch.ssrc);
        let (line, bit) = (at - leg.lag, 1 << number);
        let before = place < epoch.base;
        if before && !epoch.extend_before(place, line, self.delay, header.timestamp) {
            leg.counters.late += 1;
            return;
        }
        let ahead = place.saturating_sub(epoch.newest.value());
        if ahead > 0 {
            let jump = epoch.entries.back().is_some_and(|back| {
                u64::from(header.timestamp.distance(back.identity.timestamp).unsigned_abs()) > RtpTime::HZ
            });
            self.counters.timestamp_jumps += u64::from(jump && ahead == 1);
            epoch.extend(place, line, line.saturating_add(self.delay), header.timestamp);
        }
        let late = place < epoch.next;
        let present = |place: u64| epoch.entry(place).is_some_and(|entry| entry.state != State::Missing);
        let beside = present(place + 1) || present(place.wrapping_sub(1));
        let Some(entry) = epoch.entry_mut(place) else { return };
        let again = entry.seen & bit != 0;
        entry.seen |= bit;
        if entry.state == State::Missing && !late {
            let Some(slot) = self.memory.store(packet) else {
                leg.counters.overflow += 1;
                return;
            };
            leg.counters.first += 1;
            *entry = Entry {
                identity,
                state: State::Held(slot),
                first: number as u8,
                filled: ahead == 0 && !before,
                ..*entry
            };
            let line = entry.line;
            epoch.sequential |= beside;
            self.meet(home, place, &identity, line);
            return;
        }
        let count = if late { &mut leg.counters.late } else { &mut leg.counters.duplicate };
        *count += 1;
        if entry.state != State::Missing && !again {
            leg.compare(&entry.identity, &identity);
            let entry = *entry;
            learn(&mut self.legs, self.leader, &entry, number, at);
        }
    }

    /// A packet has come that a leg which takes no part may have brought before.
    fn meet(&mut self, home: Home, place: u64, identity: &Identity, line: i64) {
        if home != Home::Current {
            return;
        }
        for leg in self.legs.iter_mut().flatten() {
            let Some(probe) = leg.probe.filter(|probe| probe.place == place && leg.home != home) else { continue };
            leg.probe = None;
            if leg.aside {
                leg.compare(identity, &probe.identity);
            } else if leg.same_before(place, probe.identity == *identity) {
                let ssrc = leg.counters.ssrc;
                leg.join(Home::Current, place, probe.at - line, ssrc);
            }
        }
    }
}

/// A time on a clock that starts at `origin`.
fn clock(origin: Instant, time: Instant) -> i64 {
    match time.checked_duration_since(origin) {
        Some(after) => nanos(after),
        None => -nanos(origin.saturating_duration_since(time)),
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
