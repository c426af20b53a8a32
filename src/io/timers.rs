//! Deadlines and who waits for them: a heap that knows where each timer is, so one can be moved or taken out.

use crate::time::Instant;
use std::task::Waker;

#[cfg(test)]
mod tests;

/// Not in the heap.
const NOWHERE: u32 = u32::MAX;

/// Timers by deadline. Memory grows with the number of timers, and stays.
#[derive(Default)]
pub(super) struct Timers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// A binary heap of slots, the earliest first.
    heap: Vec<u32>,
}

struct Slot {
    deadline: Instant,
    position: u32,
    waker: Option<Waker>,
}

impl Timers {
    /// A new timer, which does not run.
    pub(super) fn insert(&mut self, now: Instant) -> u32 {
        let slot = Slot { deadline: now, position: NOWHERE, waker: None };
        match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        }
    }

    /// Takes the timer out for good.
    pub(super) fn remove(&mut self, id: u32) {
        self.cancel(id);
        self.free.push(id);
    }

    /// Lets it run out at `deadline`, and then wake `waker`.
    pub(super) fn schedule(&mut self, id: u32, deadline: Instant, waker: &Waker) {
        let slot = &mut self.slots[id as usize];
        match &mut slot.waker {
            Some(w) => w.clone_from(waker),
            None => slot.waker = Some(waker.clone()),
        }
        if slot.position == NOWHERE {
            slot.deadline = deadline;
            slot.position = self.heap.len() as u32;
            self.heap.push(id);
        } else if slot.deadline == deadline {
            return;
        } else {
            slot.deadline = deadline;
        }
        self.settle(self.slots[id as usize].position as usize);
    }

    /// Stops it.
    pub(super) fn cancel(&mut self, id: u32) {
        self.slots[id as usize].waker = None;
        let position = std::mem::replace(&mut self.slots[id as usize].position, NOWHERE);
        if position == NOWHERE {
            return;
        }
        self.heap.swap_remove(position as usize);
        if (position as usize) < self.heap.len() {
            self.settle(position as usize);
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|&id| self.slots[id as usize].deadline)
    }

    /// Takes one timer off that has run out by `now`, the earliest first, and gives its waker.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Waker> {
        let &id = self.heap.first()?;
        if self.slots[id as usize].deadline > now {
            return None;
        }
        let waker = self.slots[id as usize].waker.take();
        self.cancel(id);
        waker
    }

    /// Moves what is at `i` to where it belongs, and notes where things went.
    fn settle(&mut self, mut i: usize) {
        while i > 0 && self.before(i, (i - 1) / 2) {
            self.swap(i, (i - 1) / 2);
            i = (i - 1) / 2;
        }
        loop {
            let children = 2 * i + 1..(2 * i + 3).min(self.heap.len());
            let Some(first) = children.reduce(|a, b| if self.before(b, a) { b } else { a }) else { break };
            if !self.before(first, i) {
                break;
            }
            self.swap(i, first);
            i = first;
        }
        self.slots[self.heap[i] as usize].position = i as u32;
    }

    fn before(&self, a: usize, b: usize) -> bool {
        self.slots[self.heap[a] as usize].deadline < self.slots[self.heap[b] as usize].deadline
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.slots[self.heap[a] as usize].position = a as u32;
        self.slots[self.heap[b] as usize].position = b as u32;
    }
}
