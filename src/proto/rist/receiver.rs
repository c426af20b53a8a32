//! The receiving end: order, loss, recovery and time, over one leg or several.
//!
//! # How a host drives it
//! Whenever something arrived, or [`Receiver::poll_timeout`] or [`Receiver::next_release`] is reached; a few milliseconds
//! late if that is cheaper:
//!
//! 1. [`handle_datagram`](Receiver::handle_datagram) for everything that arrived, on whatever leg and port, then
//!    [`handle_timeout`](Receiver::handle_timeout).
//! 2. [`release`](Receiver::release), read [`held`](Receiver::held) of what was released, [`recycle`](Receiver::recycle).
//! 3. [`poll_transmit`](Receiver::poll_transmit) until `None`.
//! 4. [`poll_event`](Receiver::poll_event) until `None`.
//!
//! Every call to a method with `&mut self` may change when to come back.
//!
//! # Legs, ports and addresses
//! A leg is where a sender's packets come to: in the simple profile a port of media and the next one, of RTCP; in the main
//! profile one port with a tunnel. All legs carry packets of one stream: the same ones, or each a part of them. The host
//! knows addresses, this end only numbers that the host gives them ([`RemoteId`](super::RemoteId)): feedback of a leg goes to where RTCP of
//! the stream's sender last came from, and to nowhere else. So a sender behind NAT is answered through the hole that its
//! own RTCP made, follows within 100 ms when that moves, and is never sent anything at the address that its media comes
//! from. RTCP that names another stream, while the stream goes on, moves nothing. A host should check addresses against
//! its list of those that may send before it hands anything in.
//!
//! # As a leg of a merge
//! With [`Delivery::AtOnce`] nothing waits here: every packet goes through to the merge as it comes, also those that were
//! sent again. Tell this end of the packets that the other sources of the merge bring, by [`Receiver::have_elsewhere`]:
//! what they have is not asked for, and what is missing at all of them is, also where this end would not have noticed yet.
//! Give it the merge's window as latency, and as time for reordering the skew that is to be allowed for; it waits longer
//! where it learns that others bring what is missing here later than that, as long as there is time to ask. Where two such
//! legs can repair the same stream, let only the one with the shorter round trip ask ([`Receiver::set_asking`]).
//!
//! # What the network can do to it
//! Nothing that arrives panics. What cannot be is counted and changes nothing. Memory is bounded: payloads by 256 MiB,
//! places by 65,000 packets, or 262,144 with extended sequence numbers; beyond that packets leave early.

mod control;
mod leg;
mod media;
mod requests;
mod ring;
mod stream;
mod timing;
mod types;

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use super::clock::{Clock, MILLISECOND, SECOND, Tick, nanos};
use super::stats::{ReceiverLegStats, ReceiverStats};
use super::tunnel::TunnelKeys;
use super::{LegId, Profile};
use crate::proto::hitless::SlotId;
use crate::proto::hitless::memory::Memory;
use crate::proto::rtp::header::Header;
use crate::proto::rtp::stats::Jitter;
use crate::time::Instant;

use self::leg::Leg;
use self::media::Origin;
use self::requests::{Askable, Requests};
use self::ring::{Ring, State};
use self::stream::{Candidate, Stream};
pub use self::types::{Delivery, From, Passed, ReceiverConfig, ReceiverEvent, Released, Transmit};

/// Most legs of a receiver.
pub const MOST_LEGS: usize = 8;
/// The place of the first packet: none is ever so far before it.
const FIRST_PLACE: u64 = 1 << 33;
/// Between looks at what memory can be given back.
const TRIM: i64 = SECOND;
/// Events that nobody fetched: later ones are dropped.
const MOST_EVENTS: usize = 32;

/// The receiving end: see the [module](self).
#[derive(Debug, Serialize, Deserialize)]
pub struct Receiver {
    config: ReceiverConfig,
    clock: Clock,
    latency: i64,
    reorder: i64,
    /// How much later than here other sources of a merge bring what is missing here.
    lag: i64,
    asks: bool,
    legs: [Option<Box<Leg>>; MOST_LEGS],
    stream: Option<Stream>,
    candidate: Option<Candidate>,
    ring: Ring,
    memory: Memory,
    requests: Requests,
    /// Released before their time, and not handed on yet.
    ready: Vec<Released>,
    /// The due time of the newest packet.
    newest_due: Tick,
    /// The first places of streams that followed on another.
    restarted: VecDeque<u64>,
    /// What came out of a tunnel, and a packet as it goes on.
    plain: Vec<u8>,
    whole: Vec<u8>,
    jitter: (Jitter, u32),
    nack_due: Tick,
    trimmed: Tick,
    stats: ReceiverStats,
    events: VecDeque<ReceiverEvent>,
}

impl Receiver {
    /// A receiver without legs.
    pub fn new(now: Instant, config: ReceiverConfig) -> Self {
        Self {
            clock: Clock::new(now, config.ntp),
            latency: nanos(config.latency).clamp(0, 3600 * SECOND),
            reorder: nanos(config.reorder).clamp(0, 3600 * SECOND),
            lag: 0,
            asks: true,
            legs: Default::default(),
            stream: None,
            candidate: None,
            ring: Ring::default(),
            memory: Memory::default(),
            requests: Requests::default(),
            ready: Vec::new(),
            newest_due: Tick::LONG_AGO,
            restarted: VecDeque::new(),
            plain: Vec::new(),
            whole: Vec::new(),
            jitter: (Jitter::default(), 0),
            nack_due: Tick::LONG_AGO,
            trimmed: Tick::LONG_AGO,
            stats: ReceiverStats::default(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Add a leg; `None`: there are [`MOST_LEGS`] already.
    pub fn add_leg(&mut self, profile: Profile) -> Option<LegId> {
        let free = self.legs.iter().position(Option::is_none)?;
        self.legs[free] = Some(Box::new(Leg::new(profile)));
        // Below MOST_LEGS.
        Some(LegId(free as u8))
    }

    /// Remove a leg. What it brought stays.
    pub fn remove_leg(&mut self, leg: LegId) {
        if let Some(leg) = self.legs.get_mut(usize::from(leg.0)) {
            *leg = None;
        }
    }

    /// Change the latency; packets that wait keep their time.
    pub fn set_latency(&mut self, latency: Duration) {
        self.latency = nanos(latency).clamp(0, 3600 * SECOND);
        if let Some(stream) = &mut self.stream {
            stream.timing.set_latency(self.latency);
        }
    }

    /// Change the time that is given to reordering.
    pub fn set_reorder(&mut self, reorder: Duration) {
        self.reorder = nanos(reorder).clamp(0, 3600 * SECOND);
    }

    /// Change when packets are handed on. Those that wait are with the next [`Self::release`], where they go through at once
    /// from now on.
    pub fn set_delivery(&mut self, delivery: Delivery) {
        self.config.delivery = delivery;
        self.lag = 0;
        if delivery == Delivery::AtOnce {
            while self.ring.first().is_some() {
                self.release_first();
            }
        }
    }

    /// Whether what is missing is asked for: from the start it is.
    pub const fn set_asking(&mut self, asks: bool) {
        self.asks = asks;
    }

    /// Take a datagram. `arrival`: when it came, by the kernel's stamp where there is one; `now`: when it is looked at.
    /// With [`Delivery::AtOnce`], the packet of media that it held, if the stream has it.
    pub fn handle_datagram<'a>(
        &'a mut self,
        now: Instant,
        arrival: Instant,
        from: From,
        datagram: &'a [u8],
    ) -> Option<Passed<'a>> {
        let now = self.clock.tick(now);
        let at = self.clock.tick(arrival).min(now);
        let mut plain = std::mem::take(&mut self.plain);
        let taken = self.take(now, (at, arrival), from, datagram, &mut plain);
        self.plain = plain;
        let (header, origin, came) = taken.filter(|_| self.config.delivery == Delivery::AtOnce)?;
        let packet = match origin {
            Origin::Datagram(start) => &datagram[start..],
            Origin::Plain(start) => &self.plain[start..],
            Origin::Whole => &self.whole,
        };
        Some(Passed { packet, header, came: self.clock.instant(came) })
    }

    /// Another source has brought this packet, which came at `arrival`: it need not be asked for here.
    pub fn have_elsewhere(&mut self, now: Instant, arrival: Instant, header: &Header) {
        let (now, arrival) = (self.clock.tick(now), self.clock.tick(arrival));
        self.note_elsewhere(arrival.min(now), header);
    }

    /// Do what time asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.tick(now);
        if self.config.delivery == Delivery::AtOnce {
            self.release_due(now);
        }
        if self.requests.due() <= now {
            self.scan(now);
        }
        if now.since(self.trimmed) >= TRIM {
            self.trimmed = now;
            self.memory.trim();
            self.requests.trim();
            if self.stream.as_ref().is_none_or(|stream| now.since(stream.last) > TRIM) {
                self.rest();
            }
        }
    }

    /// When [`Self::handle_timeout`] and the polls are due. Releases are not in it: [`Self::next_release`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.iter().flatten().map(|leg| leg.due(self.nack_due));
        let due = legs.min().unwrap_or(Tick::NEVER).min(self.requests.due());
        (due != Tick::NEVER).then(|| self.clock.instant(due))
    }

    /// When the next packet is to be released. With [`Delivery::AtOnce`] there is none.
    #[must_use]
    pub fn next_release(&self) -> Option<Instant> {
        if self.config.delivery == Delivery::AtOnce {
            return None;
        }
        if !self.ready.is_empty() {
            return Some(self.clock.instant(Tick::LONG_AGO));
        }
        self.ring.first().map(|slot| self.clock.instant(slot.due))
    }

    /// Release the packets that are due; what is missing in front of one that is due is given up.
    pub fn release(&mut self, now: Instant, out: &mut Vec<Released>) {
        self.release_due(self.clock.tick(now));
        out.append(&mut self.ready);
    }

    /// The source ends: release all that waits.
    pub fn flush(&mut self, out: &mut Vec<Released>) {
        while self.ring.first().is_some() {
            self.release_first();
        }
        out.append(&mut self.ready);
    }

    /// The whole packet that was released.
    pub fn held(&self, slot: SlotId) -> &[u8] {
        self.memory.packet(slot)
    }

    /// The packets released so far are sent: their memory may be used again.
    pub fn recycle(&mut self) {
        self.memory.recycle();
    }

    /// The passphrases are others: ask for all keys anew, by events. Those in use stay so until then.
    pub fn renew_keys(&mut self, now: Instant) {
        let now = self.clock.tick(now);
        let tunnels = self.legs.iter_mut().flatten().filter_map(|leg| leg.tunnel.as_mut());
        tunnels.for_each(|tunnel| tunnel.renew_keys(now));
    }

    /// Keys that the tunnel of a leg asked for.
    pub fn provide_keys(&mut self, leg: LegId, keys: TunnelKeys) {
        if let Some(tunnel) = self.leg_mut(leg).and_then(|leg| leg.tunnel.as_mut()) {
            tunnel.provide(keys);
        }
    }

    /// Append a datagram that is to be sent; `None`: there is none.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let now = self.clock.tick(now);
        (0..MOST_LEGS).find_map(|number| {
            let remote = self.transmit(number, now, out)?;
            // Below MOST_LEGS.
            Some(Transmit { leg: LegId(number as u8), remote })
        })
    }

    /// What happened; ask until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        for (number, leg) in (0..).zip(&mut self.legs) {
            if let Some(event) = leg.as_mut().and_then(|leg| leg.tunnel.as_mut()).and_then(|tunnel| tunnel.poll_event())
            {
                return Some(ReceiverEvent::Tunnel(LegId(number), event));
            }
        }
        self.events.pop_front()
    }

    /// The figures of all legs together.
    pub fn stats(&self) -> ReceiverStats {
        let mut stats = self.stats;
        if let Some(stream) = &self.stream {
            stats.ssrc = stream.ssrc;
            stats.packet_rate = u64::try_from(stream.rate()).unwrap_or(0);
            stats.clock_unusable = !stream.timing.is_trusted();
        }
        stats.waiting = self.ring.len();
        stats.jitter = crate::proto::rtp::stats::jitter_time(self.jitter.1);
        stats
    }

    /// The figures of a leg; `None` after it was removed.
    pub fn leg_stats(&self, leg: LegId) -> Option<ReceiverLegStats> {
        let leg = self.legs.get(usize::from(leg.0))?.as_ref()?;
        Some(leg.stats(&self.clock))
    }

    /// Bytes of memory taken.
    pub fn memory(&self) -> usize {
        let buffers = self.plain.capacity() + self.whole.capacity() + self.ready.capacity() * size_of::<Released>();
        self.memory.bytes() + self.ring.bytes() + self.requests.bytes() + buffers
    }

    fn leg_mut(&mut self, leg: LegId) -> Option<&mut Leg> {
        self.legs.get_mut(usize::from(leg.0))?.as_deref_mut()
    }

    fn tell(&mut self, event: ReceiverEvent) {
        if self.events.len() < MOST_EVENTS {
            self.events.push_back(event);
        }
    }

    /// What is due leaves.
    fn release_due(&mut self, now: Tick) {
        while self.ring.first().is_some_and(|slot| slot.due <= now) {
            self.release_first();
        }
    }

    /// The stream is silent: give back what nothing waits in.
    fn rest(&mut self) {
        self.ring.trim();
        (self.plain, self.whole) = (Vec::new(), Vec::new());
        if self.ring.first().is_none() && self.ready.is_empty() {
            self.memory = Memory::default();
            self.ready = Vec::new();
        }
    }

    /// The first packet that is there leaves; what is missing before it is given up.
    fn release_first(&mut self) {
        let Some((gap, slot)) = self.ring.pop() else { return };
        self.stats.unrecovered += gap;
        let State::Held(id) = slot.state else { return };
        self.memory.release(id);
        self.stats.delivered += 1;
        // It was parsed when it came.
        let Ok(header) = Header::parse(self.memory.packet(id)) else { return };
        let mut discontinuity = false;
        while self.restarted.front().is_some_and(|first| *first < self.ring.head()) {
            self.restarted.pop_front();
            discontinuity = true;
        }
        self.ready.push(Released {
            slot: id,
            header,
            arrival: self.clock.instant(slot.arrival),
            due: self.clock.instant(slot.due),
            gap_before: gap,
            recovered: slot.again,
            discontinuity,
        });
    }

    /// Look at what is missing, and ask for what is due.
    fn scan(&mut self, now: Tick) {
        let mut legs: Vec<Askable> = Vec::new();
        for (number, leg) in (0..).zip(&self.legs) {
            if let Some(leg) = leg.as_ref().filter(|leg| self.asks && leg.is_alive(now)) {
                let patience = leg.rtt.patience(requests::UNKNOWN);
                legs.push(Askable { leg: number, rtt: leg.rtt.get(), patience, once: leg.is_echoed() });
            }
        }
        legs.sort_by_key(|leg| leg.rtt.unwrap_or(i64::MAX));
        let rate = self.stream.as_ref().map_or(0, Stream::rate);
        let (all, stats) = (&mut self.legs, &mut self.stats);
        self.requests.scan(now, &self.ring, &legs, rate, |leg, place| {
            if let Some(leg) = all[usize::from(leg)].as_mut() {
                leg.asks.push(place);
                leg.stats.requests += 1;
                stats.requests += 1;
            }
        });
    }
}

/// Between two packets of requests.
const NACK_PAUSE: i64 = MILLISECOND;

#[cfg(test)]
mod tests;
