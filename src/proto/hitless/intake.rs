//! The way in: where a packet belongs, and whether it is the first copy.

use super::epoch::{Entry, Epoch, Identity, State};
use super::leg::{Home, judge_guest, judge_member, learn};
use super::{Incoming, Merger};
use crate::proto::seq::RtpTime;

impl Merger {
    /// The first packet of all.
    pub(super) fn begin(&mut self, incoming: &Incoming<'_>) {
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
    pub(super) fn admit(&mut self, home: Home, incoming: &Incoming<'_>) -> Option<u64> {
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
    pub(super) fn watch(&mut self, Incoming { leg, at, header, identity, .. }: &Incoming<'_>) {
        let (Some(epoch), Some(leg)) = (&self.current, &mut self.legs[*leg]) else { return };
        leg.counters.stray += 1;
        let place = epoch.seek(header.seq, header.timestamp);
        leg.send_ahead(epoch, place, identity, *at, self.window);
        if let Some(entry) = epoch.entry(place).filter(|entry| entry.state != State::Missing) {
            leg.compare(&entry.identity, identity);
        }
    }

    /// A packet that does not belong to the current epoch: it may begin or continue the pending one.
    pub(super) fn consider(&mut self, incoming: &Incoming<'_>) {
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
    pub(super) fn put(&mut self, home: Home, place: u64, incoming: &Incoming<'_>) {
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
