//! Sequence numbers that no longer wrap, and a bit for each of those in a window that moves along them.

use serde::{Deserialize, Serialize};

use super::seq::SeqNo;

/// A sequence number of one direction that no longer wraps. Its low 31 bits are the [`SeqNo`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ExtSeq(u64);

impl ExtSeq {
    /// The first of a connection. It begins one turn up, so that what comes before it has a place too.
    pub(super) const fn start(seq: SeqNo) -> Self {
        Self((1 << 31) + seq.value() as u64)
    }

    /// What `seq` stands for when this one is near it: the nearest number with those low bits.
    pub(super) const fn unwrap(self, seq: SeqNo) -> Self {
        Self(self.0.saturating_add_signed(seq.distance(self.seq()) as i64))
    }

    /// The first from this one on that stands for `seq`, less than a turn away.
    pub(super) const fn next_at(self, seq: SeqNo) -> Self {
        Self(self.0 + (seq.value().wrapping_sub(self.seq().value()) & SeqNo::MAX.value()) as u64)
    }

    /// As on the wire.
    pub(super) const fn seq(self) -> SeqNo {
        SeqNo::new((self.0 & 0x7FFF_FFFF) as u32)
    }

    /// The one `n` places on.
    pub(super) const fn add(self, n: u64) -> Self {
        Self(self.0 + n)
    }

    /// The one `n` places before, 0 at the least.
    pub(super) const fn sub(self, n: u64) -> Self {
        Self(self.0.saturating_sub(n))
    }

    /// How far this one lies after `other`; 0 when it lies before.
    pub(super) const fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }

    /// Its place in a ring of a power of two.
    pub(super) const fn slot(self, size: usize) -> usize {
        self.0 as usize & (size - 1)
    }
}

/// Bits of a word.
const WORD: u64 = 64;

/// A bit for each number of a window. Who uses it says where the window is, and clears what leaves it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct BitRing {
    words: Vec<u64>,
}

impl BitRing {
    /// All clear, for windows of up to `size` numbers: a power of two of at least 64.
    pub(super) fn new(size: usize) -> Self {
        debug_assert!(size.is_power_of_two() && size >= 64, "{size}");
        Self { words: vec![0; size / 64] }
    }

    /// The same bits of this window in a ring of another size.
    pub(super) fn resized(&self, from: ExtSeq, to: ExtSeq, size: usize) -> Self {
        let mut resized = Self::new(size);
        let mut at = from;
        while let Some(start) = self.next_set(at, to) {
            at = self.next_clear(start, to).unwrap_or(to);
            resized.fill(start, at);
        }
        resized
    }

    /// Whether the bit is set.
    pub(super) fn get(&self, at: ExtSeq) -> bool {
        self.words[self.word(at)] & 1 << (at.0 % WORD) != 0
    }

    pub(super) fn set(&mut self, at: ExtSeq) {
        let word = self.word(at);
        self.words[word] |= 1 << (at.0 % WORD);
    }

    pub(super) fn clear(&mut self, at: ExtSeq) {
        let word = self.word(at);
        self.words[word] &= !(1 << (at.0 % WORD));
    }

    /// Set all from `from` to before `to`.
    pub(super) fn fill(&mut self, from: ExtSeq, to: ExtSeq) {
        self.each(from, to, |word, mask| *word |= mask);
    }

    /// Clear all from `from` to before `to`.
    pub(super) fn wipe(&mut self, from: ExtSeq, to: ExtSeq) {
        self.each(from, to, |word, mask| *word &= !mask);
    }

    /// How many are set from `from` to before `to`.
    pub(super) fn count(&self, from: ExtSeq, to: ExtSeq) -> u64 {
        parts(from, to).map(|(at, mask)| u64::from((self.words[self.word(at)] & mask).count_ones())).sum()
    }

    /// The first that is set from `from` to before `to`.
    pub(super) fn next_set(&self, from: ExtSeq, to: ExtSeq) -> Option<ExtSeq> {
        self.find(from, to, |word| word)
    }

    /// The first that is clear from `from` to before `to`.
    pub(super) fn next_clear(&self, from: ExtSeq, to: ExtSeq) -> Option<ExtSeq> {
        self.find(from, to, |word| !word)
    }

    fn find(&self, from: ExtSeq, to: ExtSeq, pick: impl Fn(u64) -> u64) -> Option<ExtSeq> {
        parts(from, to).find_map(|(at, mask)| {
            let hit = pick(self.words[self.word(at)]) & mask;
            (hit != 0).then(|| ExtSeq(at.0 / WORD * WORD + u64::from(hit.trailing_zeros())))
        })
    }

    fn each(&mut self, from: ExtSeq, to: ExtSeq, change: impl Fn(&mut u64, u64)) {
        for (at, mask) in parts(from, to) {
            let word = self.word(at);
            change(&mut self.words[word], mask);
        }
    }

    const fn word(&self, at: ExtSeq) -> usize {
        (at.0 / WORD) as usize & (self.words.len() - 1)
    }
}

/// The words that a range touches: a number in each, and the bits of the range in it.
fn parts(from: ExtSeq, to: ExtSeq) -> impl Iterator<Item = (ExtSeq, u64)> {
    let mut at = from.0;
    std::iter::from_fn(move || {
        if at >= to.0 {
            return None;
        }
        let here = at;
        let end = to.0.min((at / WORD + 1) * WORD);
        at = end;
        let bits = end - here;
        Some((ExtSeq(here), u64::MAX >> (WORD - bits) << (here % WORD)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connection_that_starts_at_zero_has_room_before_it() {
        let start = ExtSeq::start(SeqNo::new(0));
        let before = start.unwrap(SeqNo::MAX);
        assert_eq!((before.seq(), start.since(before), before.since(start)), (SeqNo::MAX, 1, 0));
        assert_eq!(start.next_at(SeqNo::MAX).since(start), 0x7FFF_FFFF);
        assert_eq!(start.next_at(SeqNo::new(0)), start);
    }

    proptest! {
        #[test]
        fn unwrapping_finds_the_nearest(seq: u32, turns in 0_u64..1 << 40, step in -0x4000_0000_i64..0x4000_0000) {
            let near = ExtSeq::start(SeqNo::new(seq)).add(turns);
            let wanted = ExtSeq(near.0.checked_add_signed(step).unwrap());
            prop_assert_eq!(near.unwrap(wanted.seq()), wanted);
            let next = near.next_at(wanted.seq());
            prop_assert!(next >= near && next.since(near) < 1 << 31 && next.seq() == wanted.seq());
        }

        /// Against a set of numbers, over windows that lie anywhere in the ring.
        #[test]
        fn the_ring_is_a_set(
            start in 0_u64..1 << 33,
            steps in proptest::collection::vec((0_u8..4, 0_u64..256, 0_u64..256), 1..40),
        ) {
            let (start, mut ring, mut model) = (ExtSeq(start), BitRing::new(256), BTreeSet::new());
            let end = start.add(256);
            for (kind, a, b) in steps {
                let (from, to) = (start.add(a.min(b)), start.add(a.max(b)));
                match kind {
                    0 => (ring.set(from), model.insert(from)).1,
                    1 => (ring.clear(from), model.remove(&from)).1,
                    2 => (ring.fill(from, to), model.extend((from.0..to.0).map(ExtSeq)), false).2,
                    _ => (ring.wipe(from, to), model.retain(|at| *at < from || *at >= to), false).2,
                };
                prop_assert_eq!(ring.next_set(from, to), model.range(from..to).next().copied());
                let clear = (from.0..to.0).map(ExtSeq).find(|at| !model.contains(at));
                prop_assert_eq!(ring.next_clear(from, to), clear);
                prop_assert_eq!(ring.count(from, to), model.range(from..to).count() as u64);
                prop_assert!((start.0..end.0).map(ExtSeq).all(|at| ring.get(at) == model.contains(&at)));
            }
            let (from, to) = (start.add(50), start.add(100));
            let small = ring.resized(from, to, 64);
            prop_assert!((from.0..to.0).map(ExtSeq).all(|at| small.get(at) == model.contains(&at)));
            prop_assert_eq!(small.count(from, from.add(64)), model.range(from..to).count() as u64);
        }
    }
}
