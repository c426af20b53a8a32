//! Order by sequence number: what is next, what waits behind a gap, and what has been seen.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::slots::SlotId;
use crate::proto::seq::{ExtSeq, Seq};

/// Sequence numbers behind `next` whose fate is remembered.
const RECENT: u64 = 4096;
/// Of them in one row of the bit field.
const ROW: u64 = 32 * 64;

/// Where a packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the one that everything waits for.
    Next,
    /// Some before it are missing.
    Ahead,
    /// It was delivered before, or waits already.
    Duplicate,
    /// Its place was given up, or is too long ago to know.
    Late,
}

/// A packet behind a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) seq: ExtSeq,
    pub(super) slot: SlotId,
    pub(super) arrival: Instant,
    /// It was brought back.
    pub(super) recovered: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reorder {
    /// The first one neither delivered nor given up.
    next: ExtSeq,
    /// The greatest one accepted.
    newest: ExtSeq,
    /// In order of sequence; all at or after `next`.
    waiting: VecDeque<Waiting>,
    /// The same packets in order of arrival; those that wait no longer are dropped as they come to the front.
    arrivals: VecDeque<(Instant, ExtSeq)>,
    /// One bit a sequence number: delivered.
    recent: [[u64; 32]; (RECENT / ROW) as usize],
}

impl Reorder {
    /// A stream that begins with `first`, which is yet to be delivered.
    pub(super) const fn new(first: Seq) -> Self {
        let next = ExtSeq::start(first);
        let recent = [[0; 32]; (RECENT / ROW) as usize];
        Self { next, newest: next, waiting: VecDeque::new(), arrivals: VecDeque::new(), recent }
    }

    /// Begin anew; nothing may be waiting. Memory is kept.
    pub(super) fn restart(&mut self, first: Seq) {
        debug_assert!(self.waiting.is_empty(), "released before");
        self.arrivals.clear();
        self.next = ExtSeq::start(first);
        self.newest = self.next;
        self.recent = [[0; 32]; (RECENT / ROW) as usize];
    }

    pub(super) const fn next(&self) -> ExtSeq {
        self.next
    }

    pub(super) const fn newest(&self) -> ExtSeq {
        self.newest
    }

    pub(super) fn standing(&self, seq: ExtSeq) -> Standing {
        if seq == self.next {
            Standing::Next
        } else if seq > self.next {
            let waits = self.waiting.binary_search_by_key(&seq, |waiting| waiting.seq).is_ok();
            if waits { Standing::Duplicate } else { Standing::Ahead }
        } else if self.next.since(seq) <= RECENT && self.word(seq) & Self::bit(seq) != 0 {
            Standing::Duplicate
        } else {
            Standing::Late
        }
    }

    /// The packet that is `next` has been delivered straight.
    pub(super) fn pass(&mut self) {
        self.newest = self.newest.max(self.next);
        self.deliver_next();
    }

    /// Keep a packet that is [`Standing::Ahead`].
    pub(super) fn wait(&mut self, arrival: Instant, seq: ExtSeq, slot: SlotId, recovered: bool) {
        let at = match self.waiting.back() {
            Some(last) if last.seq > seq => self.waiting.partition_point(|waiting| waiting.seq < seq),
            _ => self.waiting.len(),
        };
        self.waiting.insert(at, Waiting { seq, slot, arrival, recovered });
        // Those that are put in together may come by sequence: the queue stays in order of time all the same.
        let arrival = self.arrivals.back().map_or(arrival, |&(last, _)| last.max(arrival));
        self.arrivals.push_back((arrival, seq));
        self.newest = self.newest.max(seq);
    }

    /// The packet that has waited longest: when it came, and which it is.
    pub(super) fn oldest(&self) -> Option<(Instant, ExtSeq)> {
        self.arrivals.front().copied()
    }

    /// Take the next packet that need not wait: the one in order, or, as long as that is missing, the first one before
    /// `target`. The number of those given up goes first.
    pub(super) fn release_before(&mut self, target: ExtSeq) -> (u64, Option<Waiting>) {
        let first = self.waiting.front().map(|waiting| waiting.seq);
        let to = match first {
            Some(first) if first == self.next || first < target => first,
            _ => self.next.max(target),
        };
        let lost = self.give_up(to);
        if first != Some(to) {
            return (lost, None);
        }
        let released = self.waiting.pop_front();
        self.deliver_next();
        while self.arrivals.front().is_some_and(|&(_, seq)| seq < self.next) {
            self.arrivals.pop_front();
        }
        (lost, released)
    }

    fn give_up(&mut self, to: ExtSeq) -> u64 {
        let lost = to.since(self.next);
        for back in 1..=lost.min(RECENT) {
            let seq = self.next.add(lost - back);
            *self.word_mut(seq) &= !Self::bit(seq);
        }
        self.next = to;
        lost
    }

    fn deliver_next(&mut self) {
        *self.word_mut(self.next) |= Self::bit(self.next);
        self.next = self.next.add(1);
    }

    const fn word(&self, seq: ExtSeq) -> u64 {
        let at = seq.value() % RECENT;
        self.recent[(at / ROW) as usize][(at % ROW / 64) as usize]
    }

    const fn word_mut(&mut self, seq: ExtSeq) -> &mut u64 {
        let at = seq.value() % RECENT;
        &mut self.recent[(at / ROW) as usize][(at % ROW / 64) as usize]
    }

    const fn bit(seq: ExtSeq) -> u64 {
        1 << (seq.value() % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::rtp::header::Header;
    use crate::proto::rtp::slots::Slots;
    use crate::proto::seq::RtpTime;

    fn reorder_with(first: u16, waiting: &[u16]) -> Reorder {
        let (mut slots, now, mut reorder) = (Slots::default(), Instant::now(), Reorder::new(Seq(first)));
        for &seq in waiting {
            let slot = slots.store(b"", &Header::new(33, Seq(seq), RtpTime(0), 0)).unwrap();
            let seq = reorder.newest().unwrap(Seq(seq));
            reorder.wait(now, seq, slot, false);
        }
        reorder
    }

    #[test]
    fn what_was_delivered_is_a_duplicate_and_what_was_given_up_is_late() {
        let mut reorder = reorder_with(65_534, &[0, 3]);
        let at = |n| ExtSeq::start(Seq(65_534)).add(n);
        reorder.pass();
        assert_eq!(reorder.standing(at(0)), Standing::Duplicate);
        assert_eq!(reorder.standing(at(1)), Standing::Next);
        assert_eq!(reorder.standing(at(2)), Standing::Duplicate, "it waits");
        assert_eq!(reorder.standing(at(3)), Standing::Ahead);
        assert!(matches!(reorder.release_before(at(3)), (1, Some(_))));
        assert!(matches!(reorder.release_before(at(3)), (0, None)));
        assert_eq!(reorder.standing(at(1)), Standing::Late);
        assert_eq!(reorder.standing(at(2)), Standing::Duplicate);
        assert!(matches!(reorder.release_before(at(9)), (2, Some(_))));
        assert!(matches!(reorder.release_before(at(9)), (3, None)));
        assert_eq!(reorder.next(), at(9));
        assert_eq!(reorder.oldest(), None);
    }

    #[test]
    fn packets_wait_in_order_whatever_order_they_came_in() {
        let mut reorder = reorder_with(10, &[14, 12, 13, 11]);
        let in_order: Vec<_> = reorder.waiting.iter().map(|waiting| waiting.seq.seq().0).collect();
        assert_eq!(in_order, [11, 12, 13, 14]);
        assert_eq!(reorder.release_before(reorder.next()), (0, None), "10 is missing");
        reorder.pass();
        for _ in 0..4 {
            assert!(matches!(reorder.release_before(reorder.next()), (0, Some(_))));
        }
        assert_eq!(reorder.release_before(reorder.next()), (0, None));
    }

    #[test]
    fn a_gap_longer_than_the_memory_forgets_everything_before_it() {
        let mut reorder = reorder_with(0, &[]);
        (0..5000).for_each(|_| reorder.pass());
        let (before, after) = (reorder.next(), reorder.next().add(20_000));
        assert_eq!(reorder.release_before(after), (20_000, None));
        assert!(reorder.recent.as_flattened().iter().all(|word| *word == 0));
        assert_eq!(reorder.standing(before), Standing::Late);
    }
}
