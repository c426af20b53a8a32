//! What is to be sent again, and what was.
//!
//! A bit for each packet in flight that was reported missing, and when it was last sent again. Memory is taken at the
//! first report, grows with what is in flight, and is given back when nothing was lost for a while.

use serde::{Deserialize, Serialize};

use super::clock::Tick;
use super::window::{BitRing, ExtSeq};

/// The smallest ring.
const LEAST: usize = 64;

/// When a packet was sent again.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Again {
    at: Tick,
    /// How often; 0: never.
    times: u8,
}

/// The packets in flight: which are to be sent again, and which were.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LossList {
    pending: BitRing,
    again: Vec<Again>,
    /// How many are pending.
    count: u64,
    /// None is pending before this.
    cursor: ExtSeq,
    /// Something was reported since the last [`LossList::trim`].
    used: bool,
}

impl LossList {
    pub(super) fn new(start: ExtSeq) -> Self {
        Self { pending: BitRing::default(), again: Vec::new(), count: 0, cursor: start, used: false }
    }

    /// How many packets are to be sent again.
    pub(super) const fn len(&self) -> u64 {
        self.count
    }

    /// These are missing at the peer; `base` and `end` are the first and the one after the last in flight. How many were
    /// not known to be.
    pub(super) fn insert(&mut self, from: ExtSeq, to: ExtSeq, base: ExtSeq, end: ExtSeq) -> u64 {
        let (from, to) = (from.max(base), to.min(end));
        if from >= to {
            return 0;
        }
        self.used = true;
        self.fit(base, end);
        let fresh = to.since(from) - self.pending.count(from, to);
        self.pending.fill(from, to);
        self.count += fresh;
        self.cursor = if self.count == fresh { from } else { self.cursor.min(from) };
        fresh
    }

    /// Those are missing, too, that were last sent again before this.
    pub(super) fn insert_sent_before(&mut self, before: Tick, base: ExtSeq, end: ExtSeq) {
        let known = end.min(base.add(self.again.len() as u64));
        let mut at = base;
        while at < known {
            if self.again(at).is_some_and(|(last, times)| times <= 2 && last < before) {
                self.insert(at, at.add(1), base, end);
            }
            at = at.add(1);
        }
    }

    /// The first packet that is to be sent again.
    pub(super) fn first(&mut self, end: ExtSeq) -> Option<ExtSeq> {
        if self.count == 0 {
            return None;
        }
        let first = self.pending.next_set(self.cursor, end)?;
        self.cursor = first;
        Some(first)
    }

    /// It is not to be sent again.
    pub(super) fn remove(&mut self, at: ExtSeq) {
        self.pending.clear(at);
        self.count -= 1;
    }

    /// When it was last sent again, and how often.
    pub(super) fn again(&self, at: ExtSeq) -> Option<(Tick, u8)> {
        let again = self.again.get(at.slot(self.again.len().max(1)))?;
        (again.times > 0).then_some((again.at, again.times))
    }

    /// It was sent again.
    pub(super) fn sent_again(&mut self, at: ExtSeq, now: Tick) {
        let size = self.again.len().max(1);
        if let Some(again) = self.again.get_mut(at.slot(size)) {
            *again = Again { at: now, times: again.times.saturating_add(1) };
        }
    }

    /// It was sent for the first time; `base` is the first in flight.
    pub(super) fn sent(&mut self, at: ExtSeq, base: ExtSeq) {
        if self.again.is_empty() {
            return;
        }
        self.fit(base, at.add(1));
        let size = self.again.len();
        self.again[at.slot(size)] = Again::default();
    }

    /// Those from `base` to before `to` are no longer in flight.
    pub(super) fn forget(&mut self, base: ExtSeq, to: ExtSeq) {
        if self.count > 0 {
            self.count -= self.pending.count(base, to);
            self.pending.wipe(base, to);
            self.cursor = self.cursor.max(to);
        }
    }

    fn fit(&mut self, base: ExtSeq, end: ExtSeq) {
        // Within the flow window.
        let needed = end.since(base) as usize;
        let old = self.again.len();
        if needed <= old {
            return;
        }
        let size = needed.next_power_of_two().max(LEAST);
        let mut again = vec![Again::default(); size];
        for n in 0..old.min(needed) as u64 {
            let at = base.add(n);
            again[at.slot(size)] = self.again[at.slot(old)];
        }
        self.again = again;
        self.pending =
            if old == 0 { BitRing::new(size) } else { self.pending.resized(base, base.add(old as u64), size) };
    }

    /// Give the memory back if nothing was reported since the last call.
    pub(super) fn trim(&mut self) {
        if !std::mem::take(&mut self.used) && self.count == 0 {
            (self.pending, self.again) = (BitRing::default(), Vec::new());
        }
    }

    /// Bytes taken from the system.
    pub(super) fn memory_bytes(&self) -> usize {
        self.again.len() * size_of::<Again>() + self.again.len() / 8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::seq::SeqNo;
    use super::*;

    const ISN: SeqNo = SeqNo::new(0x7FFF_FFF0);

    #[test]
    fn the_first_in_order_is_sent_first_and_none_twice() {
        let (base, mut list) = (ExtSeq::start(ISN), LossList::new(ExtSeq::start(ISN)));
        let end = base.add(300);
        assert_eq!((list.first(end), list.again(base), list.memory_bytes()), (None, None, 0));
        assert_eq!(list.insert(base.add(200), base.add(203), base, end), 3);
        assert_eq!(list.insert(base.add(5), base.add(6), base, end), 1);
        assert_eq!(list.insert(base.add(201), base.add(204), base, end), 1, "two of them are known");
        assert_eq!((list.first(end), list.len()), (Some(base.add(5)), 5));
        list.remove(base.add(5));
        list.sent_again(base.add(5), Tick(70));
        assert_eq!(list.again(base.add(5)), Some((Tick(70), 1)));
        assert_eq!(list.first(end), Some(base.add(200)));
        list.forget(base, base.add(202));
        assert_eq!((list.first(end), list.len()), (Some(base.add(202)), 2));
    }

    #[test]
    fn what_is_not_in_flight_is_left_out() {
        let (base, mut list) = (ExtSeq::start(ISN), LossList::new(ExtSeq::start(ISN)));
        assert_eq!(list.insert(base.sub(10), base.add(10), base, base.add(4)), 4);
        assert_eq!(list.insert(base.sub(10), base, base, base.add(4)), 0);
    }

    #[test]
    fn memory_is_given_back_when_nothing_was_lost_for_a_while() {
        let (base, mut list) = (ExtSeq::start(ISN), LossList::new(ExtSeq::start(ISN)));
        let end = base.add(10);
        list.insert(base, end, base, end);
        list.trim();
        list.trim();
        assert!(list.memory_bytes() > 0, "something is to be sent");
        list.forget(base, end);
        list.trim();
        assert_eq!(list.memory_bytes(), 0);
        list.sent(end, end);
        assert_eq!(list.memory_bytes(), 0);
    }

    proptest! {
        /// Against a map, while the window moves and the ring grows.
        #[test]
        fn the_list_is_a_sorted_map(steps in proptest::collection::vec((0_u8..5, 0_u64..400, 1_u64..400), 1..60)) {
            let start = ExtSeq::start(ISN);
            let (mut base, mut end, mut list) = (start, start, LossList::new(start));
            let (mut pending, mut again) = (BTreeSet::new(), BTreeMap::new());
            for (n, (kind, a, b)) in steps.into_iter().enumerate() {
                let now = Tick(n as i64 + 1);
                match kind {
                    0 => for _ in 0..b {
                        list.sent(end, base);
                        end = end.add(1);
                    },
                    1 => {
                        list.insert(base.add(a), base.add(a + b), base, end);
                        pending.extend((a..a + b).map(|n| base.add(n)).filter(|at| *at < end));
                    }
                    2 => {
                        let to = base.add(a).min(end);
                        list.forget(base, to);
                        pending.retain(|at| *at >= to);
                        again.retain(|at, _: &mut (Tick, u8)| *at >= to);
                        base = to;
                    }
                    _ => for _ in 0..b / 8 {
                        let first = list.first(end);
                        prop_assert_eq!(first, pending.first().copied());
                        let Some(first) = first else { break };
                        list.remove(first);
                        list.sent_again(first, now);
                        pending.remove(&first);
                        let times = again.get(&first).map_or(1, |(_, times)| times + 1);
                        again.insert(first, (now, times));
                    },
                }
                prop_assert_eq!(list.len(), pending.len() as u64);
                for at in (0..end.since(base)).map(|n| base.add(n)) {
                    prop_assert_eq!(list.again(at), again.get(&at).copied());
                }
            }
        }
    }
}
