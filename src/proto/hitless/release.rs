//! The way out: what is due leaves, what is missing then is given up, and one epoch follows another.

use crate::time::Instant;
use std::time::Duration;

use super::epoch::{Entry, Epoch, MOST_PLACES, State};
use super::leg::{Home, Leg};
use super::{LegId, Merger, Released};
use crate::proto::rtp::header::Header;

/// What has left is remembered for this time, or for the window if that is longer.
const MEMORY: i64 = 500_000_000;

impl Merger {
    /// Time has passed: release whatever its time has come for. Afterwards [`Self::poll_timeout`] is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Released>) {
        let now = self.at(now);
        loop {
            let early = self.memory.tight();
            if self.drained() {
                if !self.follow(now) {
                    break;
                }
            } else if self.current.as_ref().and_then(Epoch::head).is_some_and(|head| head.due <= now) {
                self.release_head(out);
            } else if early {
                self.counters.early += 1;
                self.release_head(out);
            } else {
                self.drop_overdue(now);
                break;
            }
        }
        self.forget(now);
    }

    /// When [`Self::handle_timeout`] is to be called at the latest. `None`: nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        let due = match current.head() {
            Some(head) => head.due,
            // Nothing is to be released; but when the stream has ended, its last packets are yet to be counted.
            None => {
                let counted = current.entries.len().checked_sub(2).map(|last| current.entries[last].due);
                let counted = counted.map(|due| due.saturating_add(self.window.max(MEMORY)).saturating_add(1));
                self.follows_at().into_iter().chain(counted).min()?
            }
        };
        self.origin.map(|origin| origin + Duration::from_nanos(due.max(0).unsigned_abs()))
    }

    /// The flow ends: release all that waits, and give up what is missing between. A later packet begins anew.
    pub fn flush(&mut self, out: &mut Vec<Released>) {
        while !self.drained() || self.follow(i64::MAX) {
            self.release_head(out);
        }
        self.drop_pending();
        self.end_epoch();
    }

    /// Nothing waits in the current epoch.
    fn drained(&self) -> bool {
        self.current.as_ref().and_then(Epoch::head).is_none()
    }

    /// The first waiting place of the current epoch is over.
    fn release_head(&mut self, out: &mut Vec<Released>) {
        let lead = self.legs[self.leader].as_ref().map_or(0, |leg| leg.lag);
        let Some(epoch) = &mut self.current else { return };
        let place = epoch.next;
        let Some(entry) = epoch.entry_mut(place) else { return };
        match entry.state {
            State::Held(slot) => {
                let came = Duration::from_nanos(entry.line.saturating_add(lead).max(0).unsigned_abs());
                entry.state = State::Delivered;
                let leg = LegId(entry.first);
                self.memory.release(slot);
                self.counters.delivered += 1;
                // It was parsed when it came.
                if let (Ok(header), Some(origin)) = (Header::parse(self.memory.packet(slot)), self.origin) {
                    let discontinuity = std::mem::take(&mut self.fresh);
                    out.push(Released { slot, header, leg, arrival: origin + came, discontinuity });
                }
            }
            _ => self.counters.unrecovered += 1,
        }
        epoch.next += 1;
        epoch.begun = true;
    }

    /// When the pending epoch may follow on the current one, which is drained.
    fn follows_at(&self) -> Option<i64> {
        let (current, pending) = (self.current.as_ref()?, self.pending.as_ref().filter(|p| p.sequential)?);
        Some(pending.head()?.due.max(current.silent_from()))
    }

    /// The current epoch is drained: if the time of the pending one has come, it takes its place. Whether it did.
    fn follow(&mut self, now: i64) -> bool {
        self.drop_overdue(now);
        if self.follows_at().is_none_or(|at| at > now) {
            return false;
        }
        self.end_epoch();
        self.current = self.pending.take();
        self.counters.restarts += 1;
        self.legs.iter_mut().flatten().filter(|leg| leg.home == Home::Pending).for_each(Leg::arrive);
        self.choose_leader();
        true
    }

    /// The current epoch, which is drained, is over.
    fn end_epoch(&mut self) {
        self.forget(i64::MAX);
        let Some(over) = self.current.take() else { return };
        if let Some(last) = over.entries.front() {
            self.retire(over.base, last);
        }
        self.spare = over.entries;
        self.fresh = true;
        self.legs.iter_mut().flatten().filter(|leg| leg.home == Home::Current).for_each(Leg::leave);
    }

    /// Drop what is due of the pending epoch while the current one goes on.
    fn drop_overdue(&mut self, now: i64) {
        let (Some(current), Some(pending)) = (&self.current, &mut self.pending) else { return };
        while pending.head().is_some_and(|head| head.due <= now && head.due < current.last) {
            let place = pending.next;
            if let Some(entry) = pending.entry_mut(place)
                && let State::Held(slot) = entry.state
            {
                entry.state = State::Delivered;
                self.memory.discard(slot);
                if let Some(leg) = &mut self.legs[usize::from(entry.first)] {
                    leg.counters.first -= 1;
                    leg.counters.stray += 1;
                }
            }
            pending.next += 1;
            pending.begun = true;
            while pending.base < pending.next && pending.entries.len() > 1 {
                pending.entries.pop_front();
                pending.base += 1;
            }
        }
    }

    /// Give the pending epoch up.
    pub(super) fn drop_pending(&mut self) {
        let Some(mut pending) = self.pending.take() else { return };
        for entry in pending.entries.drain(..) {
            let State::Held(slot) = entry.state else { continue };
            self.memory.discard(slot);
            if let Some(leg) = &mut self.legs[usize::from(entry.first)] {
                leg.counters.first -= 1;
                leg.counters.stray += 1;
            }
        }
        self.spare = pending.entries;
        for leg in self.legs.iter_mut().flatten().filter(|leg| leg.home == Home::Pending) {
            leg.leave();
        }
    }

    /// Forget places whose packets left long ago; only now is it known which legs had them.
    fn forget(&mut self, now: i64) {
        let keep = self.window.max(MEMORY);
        loop {
            let Some(epoch) = &mut self.current else { return };
            let gone = epoch.entries.len() - epoch.waiting();
            let old = epoch.entries.front().is_some_and(|entry| now.saturating_sub(entry.due) > keep);
            // The last place stays: the next one is reckoned from it.
            if gone == 0 || epoch.entries.len() < 2 || !(old || gone > MOST_PLACES) {
                return;
            }
            let (base, entry) = (epoch.base, epoch.entries.pop_front());
            epoch.base += 1;
            if let Some(entry) = entry {
                self.retire(base, &entry);
            }
        }
    }

    fn retire(&mut self, place: u64, entry: &Entry) {
        let delivered = entry.state == State::Delivered;
        let mut missed = false;
        for (number, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg else { continue };
            let seen = entry.seen & 1 << number != 0;
            if !seen && leg.home == Home::Current && leg.since <= place {
                leg.counters.lost += 1;
                missed = true;
            }
            leg.counters.unique += u64::from(delivered && entry.seen == 1 << number);
        }
        self.counters.recovered += u64::from(delivered && missed);
    }
}
