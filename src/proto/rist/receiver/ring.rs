//! The places of packets: those that wait, those that are missing, and what became of those before.

use super::super::clock::Tick;
use crate::proto::hitless::SlotId;
use serde::{Deserialize, Serialize};

/// Places of the smallest ring.
const LEAST: usize = 256;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum State {
    /// It did not come. Before the head of the ring: it was given up.
    #[default]
    Missing,
    /// It waits here.
    Held(SlotId),
    /// It came, and was handed on.
    Gone,
    /// It did not come, and need not: another source has brought it.
    Elsewhere,
}

/// One packet.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) state: State,
    /// When it is due. Of a missing one, an estimate.
    pub(super) due: Tick,
    /// When it came.
    pub(super) arrival: Tick,
    /// It was sent again.
    pub(super) again: bool,
}

/// A window of places: from the head, the next to be released, to the end, after the newest one. What lies before the
/// head is remembered as far as the ring goes back.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    head: u64,
    end: u64,
    /// The first at or after the head that is there.
    first: Option<u64>,
    /// Before this nothing is remembered.
    start: u64,
}

impl Ring {
    /// An empty one that begins here.
    pub(super) fn begin(&mut self, at: u64) {
        (self.head, self.end, self.start, self.first) = (at, at, at, None);
    }

    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Places in the window.
    pub(super) const fn len(&self) -> u64 {
        self.end - self.head
    }

    const fn index(&self, at: u64) -> usize {
        at as usize & (self.slots.len() - 1)
    }

    /// What is known of a place; `None`: nothing any more, or nothing yet.
    pub(super) fn get(&self, at: u64) -> Option<&Slot> {
        (at >= self.start && at < self.end).then(|| &self.slots[self.index(at)])
    }

    fn slot_mut(&mut self, at: u64) -> &mut Slot {
        let index = self.index(at);
        &mut self.slots[index]
    }

    /// Add places up to this one; they are missing until something else is said.
    pub(super) fn extend(&mut self, to: u64) {
        let needed = (to - self.head + 1) as usize;
        if needed + LEAST / 2 > self.slots.len() {
            self.resize((needed + LEAST / 2).next_power_of_two().max(LEAST));
        }
        while self.end <= to {
            let end = self.end;
            *self.slot_mut(end) = Slot::default();
            self.end += 1;
        }
        self.start = self.start.max(self.end.saturating_sub(self.slots.len() as u64));
    }

    fn resize(&mut self, size: usize) {
        let mut slots = vec![Slot::default(); size];
        self.start = self.start.max(self.end.saturating_sub(size as u64));
        for at in self.start..self.end {
            slots[at as usize & (size - 1)] = self.slots[self.index(at)];
        }
        self.slots = slots;
    }

    /// Put something in a place of the window.
    pub(super) fn put(&mut self, at: u64, slot: Slot) {
        *self.slot_mut(at) = slot;
        if slot.state != State::Missing {
            self.first = Some(self.first.map_or(at, |first| first.min(at)));
        }
    }

    /// When a missing one would be due.
    pub(super) fn estimate(&mut self, at: u64, due: Tick) {
        self.slot_mut(at).due = due;
    }

    /// The next that is there.
    pub(super) fn first(&self) -> Option<&Slot> {
        self.first.map(|first| &self.slots[self.index(first)])
    }

    /// Take the first that is there, and how many are missing before it.
    pub(super) fn pop(&mut self) -> Option<(u64, Slot)> {
        let at = self.first?;
        let gap = at - self.head;
        let slot = self.slot_mut(at);
        let popped = *slot;
        if matches!(popped.state, State::Held(_)) {
            slot.state = State::Gone;
        }
        self.head = at + 1;
        self.first = (self.head..self.end).find(|at| self.slots[self.index(*at)].state != State::Missing);
        Some((gap, popped))
    }

    /// Bytes taken from the system.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Nothing waits: give memory back beyond what a small stream takes.
    pub(super) fn trim(&mut self) {
        if self.head == self.end && self.slots.len() > LEAST {
            self.start = self.end;
            self.slots = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(due: i64) -> Slot {
        Slot { state: State::Gone, due: Tick(due), ..Slot::default() }
    }

    #[test]
    fn places_are_taken_in_order_with_the_gaps_before_them() {
        let mut ring = Ring::default();
        ring.begin(1000);
        for at in [1000, 1003, 1002, 1010] {
            if at >= ring.end() {
                ring.extend(at);
            }
            ring.put(at, gone(at as i64));
        }
        let popped: Vec<_> = std::iter::from_fn(|| ring.pop()).map(|(gap, slot)| (gap, slot.due.0)).collect();
        assert_eq!(popped, [(0, 1000), (1, 1002), (0, 1003), (6, 1010)]);
        assert_eq!((ring.head(), ring.end(), ring.len()), (1011, 1011, 0));
        assert_eq!(ring.get(1001).map(|slot| slot.state), Some(State::Missing), "what was given up is remembered");
        assert_eq!(ring.get(1002).map(|slot| slot.state), Some(State::Gone));
        assert!(ring.get(999).is_none() && ring.get(1011).is_none());
    }

    #[test]
    fn the_ring_grows_with_the_window_and_forgets_what_is_long_gone() {
        let mut ring = Ring::default();
        ring.begin(7);
        for at in 7..100_000 {
            ring.extend(at);
            ring.put(at, gone(at as i64));
            if ring.len() > 5000 {
                assert_eq!(ring.pop().map(|(gap, slot)| (gap, slot.due.0)), Some((0, at as i64 - 5000)));
            }
        }
        assert_eq!(ring.slots.len(), 8192);
        assert_eq!(ring.get(94_000).map(|slot| slot.due), Some(Tick(94_000)));
        assert!(ring.get(90_000).is_none());
        while ring.pop().is_some() {}
        ring.trim();
        assert_eq!(ring.bytes(), 0);
        ring.extend(100_010);
        ring.put(100_010, gone(1));
        assert_eq!(ring.pop().map(|(gap, _)| gap), Some(10));
        assert!(ring.get(99_999).is_none());
    }
}
