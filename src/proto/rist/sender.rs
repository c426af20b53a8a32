//! The sending end: media and its reports over one leg or several, and again what is asked for.
//!
//! # How a host drives it
//! Packets lie in a [`History`] that all receivers of a stream share. Whenever something arrived, a packet was put into the
//! history, or [`Sender::poll_timeout`] is reached; a few milliseconds late if that is cheaper:
//!
//! 1. [`handle_datagram`](Sender::handle_datagram) for everything that arrived, then
//!    [`handle_timeout`](Sender::handle_timeout).
//! 2. [`poll_control`](Sender::poll_control) until `None`, then [`poll_media`](Sender::poll_media) until `None`. In this
//!    order: a receiver of librist takes no media before it has heard who sends it. Both count as sent what they return.
//! 3. [`poll_event`](Sender::poll_event) until `None`.
//!
//! # Legs
//! Every leg sends to one address, a group's or a receiver's, and hears feedback from there: RTP from any port to the even
//! one, RTCP from and to the next; or all through one tunnel. All legs carry the same packets. What is asked for on a leg
//! is sent again on that leg, at most once a round trip each, and all of it is bounded by a budget: one small packet may
//! ask for 65,536 (TR-06-1, section 5.3.3).
//!
//! # What the network can do to it
//! Nothing that arrives panics. What cannot be is counted and changes nothing. Memory is bounded: 16 KiB for each leg that
//! was ever asked for something, and little else.

mod leg;
mod repair;
mod types;

use super::LegId;
use super::clock::{Clock, Tick};
use super::extension::{self, Extension};
use super::stats::{SenderLegStats, SenderStats};
use super::tunnel::{Tunnel, TunnelKeys};
use crate::proto::rtp::header::{self, FIXED_LEN, Header};
use crate::proto::rtp::rtcp::{write_bye, write_receiver_report, write_source_description};
use crate::proto::seq::{RtpTime, Seq};
use crate::time::Instant;
use serde::{Deserialize, Serialize};

use self::leg::Leg;
use self::repair::Repair;
use self::types::MOST_HEAD;
pub use self::types::{History, LegSet, MediaOut, SenderConfig, SenderEvent, SenderProfile};

/// Most legs of a sender.
pub const MOST_LEGS: usize = 8;

/// The sending end: see the [module](self).
#[derive(Debug, Serialize, Deserialize)]
pub struct Sender {
    config: SenderConfig,
    clock: Clock,
    legs: [Option<Box<Leg>>; MOST_LEGS],
    /// The index of the first packet. `None`: nothing is to be sent yet.
    start: Option<u64>,
    /// The next to be sent for the first time.
    next: u64,
    /// The first packet is to be sent once more, on these legs.
    repeat: LegSet,
    /// The timestamp sent last, and when.
    last: Option<(RtpTime, Tick)>,
    repair: Repair,
    plain: Vec<u8>,
    stats: SenderStats,
}

impl Sender {
    /// A sender without legs.
    pub fn new(now: Instant, config: SenderConfig) -> Self {
        let config = SenderConfig { ssrc: config.ssrc & !1, ..config };
        Self {
            clock: Clock::new(now, config.ntp),
            legs: Default::default(),
            start: None,
            next: 0,
            repeat: LegSet::default(),
            last: None,
            repair: Repair::new(config.retransmit_percent),
            plain: Vec::new(),
            stats: SenderStats::default(),
            config,
        }
    }

    /// Add a leg; `None`: there are [`MOST_LEGS`] already.
    pub fn add_leg(&mut self, now: Instant, profile: SenderProfile) -> Option<LegId> {
        let free = self.legs.iter().position(Option::is_none)?;
        self.legs[free] = Some(Box::new(Leg::new(profile, self.clock.tick(now))));
        // Below MOST_LEGS.
        Some(LegId(free as u8))
    }

    /// Remove a leg.
    pub fn remove_leg(&mut self, leg: LegId) {
        if let Some(there) = self.legs.get_mut(usize::from(leg.0)) {
            *there = None;
        }
    }

    /// Begin to send the packets of a history, from this index on. Later calls change nothing. Without it nothing but
    /// reports is sent, whatever the history holds.
    pub fn begin_sending(&mut self, index: u64) {
        if self.start.is_none() {
            (self.start, self.next) = (Some(index), index);
        }
    }

    /// A datagram that came on a leg from its address: RTCP, or of the tunnel. `arrival`: when it came, by the kernel's
    /// stamp where there is one; `now`: when it is looked at.
    pub fn handle_datagram(&mut self, now: Instant, arrival: Instant, leg: LegId, datagram: &[u8]) {
        let now = self.clock.tick(now);
        let arrival = self.clock.tick(arrival).min(now);
        let mut plain = std::mem::take(&mut self.plain);
        self.take(now, arrival, leg, datagram, &mut plain);
        self.plain = plain;
    }

    /// Do what time asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.tick(now);
        self.repair.forget_old(now, |leg| self.legs[leg].as_ref().and_then(|leg| leg.rtt.get()), &mut self.stats);
    }

    /// When [`Self::handle_timeout`] and the polls are due. What is new in the history is not in it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.legs.iter().flatten().map(|leg| leg.due());
        let due = legs.min().unwrap_or(Tick::NEVER).min(self.repair.due());
        (due != Tick::NEVER).then(|| self.clock.instant(due))
    }

    /// The next packet of media: one that was never sent, or one that is sent again; `None` when none may leave now. Always
    /// ask with the same history.
    #[must_use]
    pub fn poll_media<H: History>(&mut self, now: Instant, history: &H) -> Option<MediaOut> {
        let now = self.clock.tick(now);
        self.repeated(history).or_else(|| self.fresh(now, history)).or_else(|| self.again(now, history))
    }

    /// Append the datagram of a packet on one of its legs. `false`: the leg is gone, or its key is used up, and nothing was
    /// appended.
    pub fn datagram(&mut self, leg: LegId, media: &MediaOut, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.resize(start + self.datagram_len(leg, media, payload), 0);
        let written = self.write_datagram(leg, media, payload, &mut out[start..]);
        if !written {
            out.truncate(start);
        }
        written
    }

    /// The length of the datagram of a packet on one of its legs.
    pub fn datagram_len(&self, leg: LegId, media: &MediaOut, payload: &[u8]) -> usize {
        let tunnel = self.legs.get(usize::from(leg.0)).and_then(|leg| leg.as_ref()?.tunnel.as_ref());
        let around = tunnel.map_or(0, |tunnel| tunnel.overhead());
        around + media.head().len() + extension::len_without(payload, media.nulls)
    }

    /// Write that datagram to a place of that length. `false`: the leg is gone, or its key is used up.
    pub fn write_datagram(&mut self, leg: LegId, media: &MediaOut, payload: &[u8], place: &mut [u8]) -> bool {
        let Some(Some(leg)) = self.legs.get_mut(usize::from(leg.0)) else { return false };
        let around = leg.tunnel.as_ref().map_or(0, |tunnel| tunnel.overhead());
        let head = media.head();
        let Some(inner) = place.get_mut(around..) else { return false };
        let Some((first, rest)) = inner.split_at_mut_checked(head.len()) else { return false };
        if rest.len() != extension::len_without(payload, media.nulls) {
            return false;
        }
        first.copy_from_slice(head);
        extension::copy_without(payload, media.nulls, rest);
        leg.tunnel.as_mut().is_none_or(|tunnel| tunnel.seal_media(place))
    }

    /// Append a datagram of control that is to be sent: RTCP, or of the tunnel. On which leg; `None`: there is none.
    #[must_use]
    pub fn poll_control(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<LegId> {
        let now = self.clock.tick(now);
        // Below MOST_LEGS.
        (0..MOST_LEGS).find(|number| self.transmit(*number, now, out)).map(|number| LegId(number as u8))
    }

    /// Append the last datagram of control of a leg, which tells that the stream is over. `false`: there is no such leg, or
    /// its key is used up.
    #[must_use]
    pub fn write_bye(&mut self, leg: LegId, out: &mut Vec<u8>) -> bool {
        let (ssrc, start) = (self.config.ssrc, out.len());
        let Some(Some(there)) = self.legs.get_mut(usize::from(leg.0)) else { return false };
        out.resize(start + there.tunnel.as_ref().map_or(0, Tunnel::overhead), 0);
        write_receiver_report(ssrc, None, out);
        write_source_description(ssrc, &self.config.cname, out);
        write_bye(ssrc, out);
        let sealed = there.tunnel.as_mut().is_none_or(|tunnel| tunnel.seal_control(&mut out[start..]));
        if !sealed {
            out.truncate(start);
        }
        sealed
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

    /// What happened; ask until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        (0..).zip(&mut self.legs).find_map(|(number, leg)| {
            let event = leg.as_mut()?.tunnel.as_mut()?.poll_event()?;
            Some(SenderEvent::Tunnel(LegId(number), event))
        })
    }

    /// The figures of all legs together.
    pub const fn stats(&self) -> SenderStats {
        self.stats
    }

    /// The figures of a leg; `None` after it was removed.
    pub fn leg_stats(&self, leg: LegId) -> Option<SenderLegStats> {
        let leg = self.legs.get(usize::from(leg.0))?.as_ref()?;
        Some(leg.stats(&self.clock))
    }

    /// The sequence number that the packet at an index has, as on the wire.
    pub fn seq(&self, index: u64) -> Option<Seq> {
        Some(Seq((self.number(index)? & 0xFFFF) as u16))
    }

    fn leg_mut(&mut self, leg: LegId) -> Option<&mut Leg> {
        self.legs.get_mut(usize::from(leg.0))?.as_deref_mut()
    }

    /// The number of a packet, which never wraps: its low bits are the sequence number.
    fn number(&self, index: u64) -> Option<u64> {
        let start = self.start.filter(|start| index >= *start)?;
        Some(u64::from(self.config.first_seq.0) + (index - start))
    }

    /// A packet that was never sent.
    fn fresh<H: History>(&mut self, now: Tick, history: &H) -> Option<MediaOut> {
        self.start?;
        let legs = self.legs.iter().enumerate().filter(|(_, leg)| leg.as_ref().is_some_and(|leg| leg.can_send()));
        let legs = LegSet(legs.fold(0, |set, (number, _)| set | 1 << number));
        if legs.0 == 0 || self.next >= history.end() {
            return None;
        }
        let gone = history.first().saturating_sub(self.next);
        self.stats.skipped += gone;
        self.next += gone;
        let media = self.media(self.next, legs, false, history)?;
        let bytes = history.payload(self.next)?.len();
        if self.stats.packets == 0 {
            self.repeat = self.simple_legs(legs);
        }
        self.next += 1;
        self.last = Some((history.timestamp(media.index)?, now));
        self.stats.packets += 1;
        self.stats.bytes += bytes as u64;
        self.stats.nulls_deleted += u64::from(media.nulls.count_ones());
        self.repair.earn(now);
        for leg in legs.iter() {
            if let Some(leg) = self.leg_mut(leg) {
                leg.stats.packets += 1;
            }
        }
        Some(media)
    }

    /// The first packet, once more. A receiver of librist in the simple profile learns from it where media comes from, and
    /// drops it.
    fn repeated<H: History>(&mut self, history: &H) -> Option<MediaOut> {
        let legs = std::mem::take(&mut self.repeat);
        if legs == LegSet::default() { None } else { self.media(self.next.checked_sub(1)?, legs, false, history) }
    }

    fn simple_legs(&self, legs: LegSet) -> LegSet {
        let is_simple = |leg: &LegId| self.legs[leg.number()].as_ref().is_some_and(|leg| leg.tunnel.is_none());
        LegSet(legs.iter().filter(is_simple).fold(0, |set, leg| set | 1 << leg.0))
    }

    fn media<H: History>(&self, index: u64, legs: LegSet, again: bool, history: &H) -> Option<MediaOut> {
        let number = self.number(index)?;
        let (payload, timestamp) = (history.payload(index)?, history.timestamp(index)?);
        let seq = Seq((number & 0xFFFF) as u16);
        let fixed = Header::new(self.config.payload_type, seq, timestamp, self.config.ssrc | u32::from(again));
        let nulls = if self.config.delete_nulls { extension::nulls(payload) } else { 0 };
        let mut head = [0; MOST_HEAD];
        let (first, rest) = head.split_at_mut(FIXED_LEN);
        first.copy_from_slice(&fixed.write());
        let mut head_len = FIXED_LEN;
        if self.config.extended || nulls != 0 {
            first[0] |= header::EXTENSION;
            let upper = self.config.extended.then_some((number >> 16 & 0xFFFF) as u16);
            let nulls = self.config.delete_nulls.then_some(nulls);
            rest.copy_from_slice(&Extension { nulls, long: false, upper }.write());
            head_len = MOST_HEAD;
        }
        Some(MediaOut { head, head_len: head_len as u8, nulls, index, legs, again })
    }

    /// The media time of this moment, by the packet that was sent last.
    fn media_time(&self, now: Tick) -> Option<RtpTime> {
        let (timestamp, at) = self.last?;
        Some(timestamp.add(super::clock::span(now.since(at))))
    }
}

#[cfg(test)]
mod tests;
