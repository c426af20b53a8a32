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

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use self::epoch::{Entry, Epoch, Identity};
use self::leg::{Home, Leg};
use self::memory::Memory;
pub use self::memory::SlotId;
pub use self::stats::{LegCounters, MergeCounters, Skew, SkewClass};
use super::rtp::header::Header;

mod epoch;
mod intake;
mod leg;
pub(in crate::proto) mod memory;
mod release;
mod review;
mod stats;

/// Most legs of a merge.
pub const MOST_LEGS: usize = 8;
/// Events kept until they are polled.
const MOST_EVENTS: usize = 16;

/// A leg of a [`Merger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// When it came on the leading leg, or would have come.
    pub arrival: Instant,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
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

    /// Whether a leg takes part and was heard from in the last second.
    pub fn is_active(&self, id: LegId, now: Instant) -> bool {
        self.legs[usize::from(id.0)].as_ref().is_some_and(|leg| leg.active(self.at(now)))
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
}

/// A time on a clock that starts at `origin`.
fn clock(origin: Instant, time: Instant) -> i64 {
    nanos(time - origin) - nanos(origin - time)
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
