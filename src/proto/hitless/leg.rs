//! One leg of a merge: where it stands, how far it lags, and whether it carries the same packets.

use crate::time::Instant;
use serde::{Deserialize, Serialize};

use super::epoch::{Entry, Epoch, Identity, MAX_DROPOUT, State};
use super::stats::{LegCounters, Skew};
use super::{Incoming, MOST_LEGS};
use crate::proto::rtp::header::Header;
use crate::proto::rtp::stats::Jitter;

/// Heard from within this time, a leg is active.
const ACTIVE: i64 = 1_000_000_000;
/// Seconds in which an aside leg must carry the same packets before it takes part again.
pub(super) const CLEAN_SECONDS: u32 = 5;
/// Copies, of that many one may differ.
const TOLERATED: u64 = 100;

/// Which stream a leg's packets belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Home {
    /// None yet.
    #[default]
    None,
    /// The merged stream.
    Current,
    /// The one that may follow it.
    Pending,
}

/// A packet that other legs have yet to bring, of a leg that does not take part.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Probe {
    pub(super) place: u64,
    pub(super) identity: Identity,
    pub(super) at: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) home: Home,
    /// The newest place it brought, at home.
    pub(super) newest: u64,
    /// The SSRC under which it takes part.
    pub(super) accepted: Option<u32>,
    /// From this place on its packets are expected.
    pub(super) since: u64,
    /// How far behind the common line its packets come. Negative: before.
    pub(super) lag: i64,
    pub(super) last: Option<i64>,
    /// It carried other packets than the leg that was kept.
    pub(super) aside: bool,
    pub(super) probe: Option<Probe>,
    /// The last place at which it was the same, of a leg that does not take part.
    same_at: Option<u64>,
    /// Since when it has sent packets that have no place.
    pub(super) foreign_since: Option<i64>,
    /// Copies compared in this second, and those that differed.
    second: (u64, u64),
    clean: u32,
    /// Packets lost lately: halved every second.
    pub(super) lost_lately: u64,
    lost_before: u64,
    jitter: Jitter,
    pub(super) counters: LegCounters,
}

impl Leg {
    /// A packet came on this leg.
    pub(super) fn count(&mut self, Incoming { arrival, at, packet, header, .. }: &Incoming<'_>) {
        let counters = &mut self.counters;
        counters.ssrc_changes += u64::from(counters.received > 0 && counters.ssrc != header.ssrc);
        counters.ssrc = header.ssrc;
        counters.received += 1;
        counters.bytes += packet.len() as u64;
        counters.last_arrival = counters.last_arrival.max(Some(*arrival));
        self.last = self.last.max(Some(*at));
    }

    /// It was heard from lately.
    pub(super) fn sends(&self, now: i64) -> bool {
        self.last.is_some_and(|last| now - last <= ACTIVE)
    }

    /// It was, and takes part.
    pub(super) fn active(&self, now: i64) -> bool {
        self.home == Home::Current && self.sends(now)
    }

    /// Take part in an epoch, from `place` on.
    pub(super) fn join(&mut self, home: Home, place: u64, lag: i64, ssrc: u32) {
        self.counters.resyncs += u64::from(self.home == Home::Current && home == Home::Pending);
        self.home = home;
        self.accepted = Some(ssrc);
        self.newest = place;
        self.since = place;
        self.lag = lag;
        self.probe = None;
        self.same_at = None;
        self.jitter = Jitter::default();
        if home == Home::Current {
            self.foreign_since = None;
        }
    }

    /// Take part no longer.
    pub(super) fn leave(&mut self) {
        self.home = Home::None;
        self.accepted = None;
    }

    /// Its packet came in this place.
    pub(super) fn advance(&mut self, arrival: Instant, place: u64, header: &Header) {
        if place >= self.newest {
            self.jitter.update(arrival, header.timestamp, &mut self.counters.jitter);
            self.newest = place;
        }
    }

    /// A leg that takes no part had this packet where another leg has one, too. Whether it belongs: two the same, in
    /// sequence (`MIN_SEQUENTIAL`, RFC 3550, A.1).
    pub(super) fn same(&mut self, place: u64, same: bool) -> bool {
        let sequential = same && self.same_at.is_some_and(|last| (1..=2).contains(&place.wrapping_sub(last)));
        self.same_at = same.then_some(place);
        sequential
    }

    /// As [`Self::same`], for packets that came before the other leg's: one at a time is remembered, so they are not
    /// in sequence, but twice all the same.
    pub(super) fn same_before(&mut self, place: u64, same: bool) -> bool {
        let again = same && self.same_at.is_some();
        self.same_at = same.then_some(place);
        again
    }

    /// Remember this packet, if no other leg has brought it yet, and none is remembered. Of a leg set aside, one whose
    /// payload can be compared.
    pub(super) fn send_ahead(&mut self, epoch: &Epoch, place: u64, identity: &Identity, at: i64, window: i64) {
        let newest = epoch.newest.value();
        let old = |probe: Probe| probe.place <= newest || at - probe.at > window + ACTIVE;
        if place > newest && (!self.aside || identity.print != 0) && self.probe.is_none_or(old) {
            self.probe = Some(Probe { place, identity: *identity, at });
        }
    }

    /// Compare a copy with the first.
    pub(super) fn compare(&mut self, first: &Identity, copy: &Identity) {
        let differs = u64::from(first != copy);
        self.counters.compared += 1;
        self.counters.different += differs;
        self.second = (self.second.0 + 1, self.second.1 + differs);
    }

    /// A second is over: whether its copies differed too often. A single one never is too often.
    pub(super) fn end_second(&mut self) -> bool {
        let (compared, different) = std::mem::take(&mut self.second);
        let differs = different > 1 && different * TOLERATED > compared;
        if compared > 0 {
            // One that differs does no harm to a leg that takes part, but one set aside begins again.
            self.clean = if different * TOLERATED > compared { 0 } else { self.clean + 1 };
        }
        self.lost_lately = self.lost_lately / 2 + (self.counters.lost - self.lost_before);
        self.lost_before = self.counters.lost;
        differs
    }

    /// The pending epoch, which it was part of, is the current one now.
    pub(super) fn arrive(&mut self) {
        self.home = Home::Current;
        self.foreign_since = None;
    }

    /// Take part again, if its packets belong.
    pub(super) fn take_back(&mut self) {
        self.aside = false;
        self.foreign_since = None;
    }

    /// Put aside: it must carry the same packets for some seconds before it takes part again.
    pub(super) fn put_aside(&mut self) {
        self.leave();
        self.aside = true;
        self.clean = 0;
        self.probe = None;
    }

    pub(super) fn clean(&self) -> bool {
        self.clean >= CLEAN_SECONDS
    }

    /// A packet came so far behind the leading leg.
    pub(super) fn skewed(&mut self, now: i64, packet: i64) {
        let skew = self.counters.skew.get_or_insert(Skew { now_ns: now, min_ns: packet, max_ns: packet });
        skew.now_ns = now;
        skew.min_ns = skew.min_ns.min(packet);
        skew.max_ns = skew.max_ns.max(packet);
    }
}

/// Learn from the second copy of a packet, which came at `at` on leg `second`, how far the legs lie apart. The leader's
/// lag is the anchor and never moves; between two others both move, so that their mean stays.
pub(super) fn learn(legs: &mut [Option<Leg>; MOST_LEGS], leader: usize, entry: &Entry, second: usize, at: i64) {
    let lag_of = |legs: &[Option<Leg>; MOST_LEGS], leg: usize| legs[leg].as_ref().map(|leg| leg.lag);
    let (first, anchor) = (usize::from(entry.first), lag_of(legs, leader).unwrap_or(0));
    let Some(lag) = lag_of(legs, second) else { return };
    let error = at - lag - entry.line;
    if second != leader {
        let part = if first == leader || entry.filled { 16 } else { 32 };
        if let Some(leg) = &mut legs[second] {
            leg.lag += error / part;
            leg.skewed(leg.lag - anchor, at - entry.line - anchor);
        }
    }
    if first != leader && first != second && !entry.filled {
        let part = if second == leader { 16 } else { 32 };
        if let Some(leg) = &mut legs[first] {
            let packet = entry.line + leg.lag - (at - lag + anchor);
            leg.lag -= error / part;
            leg.skewed(leg.lag - anchor, packet);
        }
    }
}

/// Half a second: how far a timestamp may lie off its time on a leg whose lag is known.
const TOLERANCE: i64 = 500_000_000;

/// Where the packet of a leg that is part of the epoch stands. `alone`: no other leg could contradict.
pub(super) fn judge_member(
    epoch: &Epoch,
    leg: &Leg,
    header: &Header,
    at: i64,
    alone: impl FnOnce() -> bool,
) -> Option<u64> {
    let place = epoch.seek(header.seq, header.timestamp);
    let ahead = place.saturating_sub(epoch.newest.value());
    let fits = epoch.follows(place, leg.newest)
        || epoch.plausible(place, header.timestamp, at - leg.lag, TOLERANCE)
        || ((1..=MAX_DROPOUT).contains(&ahead) && epoch.has_room(ahead) && alone());
    fits.then_some(place)
}

/// Where the packet of a leg that is not part of the epoch stands, and how far that leg lags. By its SSRC and timestamp
/// it may belong at once; with another SSRC, once two of its packets were the same as another leg's.
pub(super) fn judge_guest(
    epoch: &Epoch,
    leg: &mut Leg,
    identity: &Identity,
    header: &Header,
    at: i64,
    window: i64,
) -> Option<(u64, i64)> {
    let place = epoch.seek(header.seq, header.timestamp);
    let back = epoch.entries.back()?;
    let entry = epoch.entry(place);
    let tolerance = window + TOLERANCE;
    let plausible = || epoch.plausible(place, header.timestamp, at, tolerance);
    // The second of a stream that may follow needs its sequence only (`MIN_SEQUENTIAL`).
    let second = !epoch.sequential && place == epoch.newest.value() + 1;
    if header.ssrc == epoch.ssrc && (second || plausible()) {
        // 100 us are 9 ticks.
        let ahead = i64::from(header.timestamp.distance(back.identity.timestamp)) * 100_000 / 9;
        let lag = at - entry.map_or(back.line + ahead, |entry| entry.line);
        // A clock of no 90 kHz says nothing.
        return Some((place, if lag.abs() <= tolerance { lag } else { 0 }));
    }
    leg.send_ahead(epoch, place, identity, at, window);
    let entry = entry.filter(|entry| entry.state != State::Missing)?;
    leg.same(place, entry.identity == *identity).then_some((place, at - entry.line))
}
