//! What is missing, and when it is asked for.
//!
//! A packet is asked for when it did not come within the time that is given to reordering, again when the answer should
//! have come, and no more when an answer would come too late. From the second time on a request is made twice, shortly
//! after each other, as it gets lost like all packets: of senders that know echoes, and so answer once a round trip. With
//! several legs each is asked in turn, the quickest first. All of it is bounded by a budget.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::super::clock::{MILLISECOND, SECOND, Tick};
use super::ring::{Ring, State};

/// Between two requests for a packet where the round trip is not known: 7 in 930 ms (TR-06-1, appendix B).
pub(super) const UNKNOWN: i64 = 132 * MILLISECOND;
/// Never sooner than this.
const LEAST: i64 = 20 * MILLISECOND;
/// After a request it is made once more.
const TWICE: i64 = 10 * MILLISECOND;
/// Packets a second that may be asked for in any case.
const LEAST_RATE: i64 = 1000;
/// Packets that may be asked for at once in any case.
const LEAST_BURST: i64 = 1000;
/// What the budget is counted in: nanoseconds of a packet a second.
const PACKET: i64 = SECOND;
/// Most packets a second that a budget reckons with.
const MOST_RATE: i64 = 1_000_000;

/// A packet that is missing.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Missing {
    place: u64,
    due: Tick,
    /// When it is asked for next.
    next: Tick,
    /// When it was asked for: first, and last.
    asked_first: Tick,
    asked_at: Tick,
    asked: u8,
    /// On which leg.
    leg: u8,
    /// Once more is to come.
    again: bool,
}

/// A leg that can be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Askable {
    pub(super) leg: u8,
    /// Its round trip, if it is known.
    pub(super) rtt: Option<i64>,
    pub(super) patience: i64,
    /// It answers once a round trip, however often it is asked.
    pub(super) once: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Requests {
    missing: VecDeque<Missing>,
    due: Tick,
    budget: i64,
    budget_at: Tick,
}

impl Default for Requests {
    fn default() -> Self {
        Self { missing: VecDeque::new(), due: Tick::NEVER, budget: LEAST_BURST * PACKET, budget_at: Tick::LONG_AGO }
    }
}

impl Requests {
    /// This one is missing, and may be asked for from `next` on. Places rise.
    pub(super) fn add(&mut self, place: u64, due: Tick, next: Tick) {
        self.missing.push_back(Missing {
            place,
            due,
            next,
            asked_first: next,
            asked_at: next,
            asked: 0,
            leg: 0,
            again: false,
        });
        self.due = self.due.min(next);
    }

    /// When [`Self::scan`] has something to do.
    pub(super) fn due(&self) -> Tick {
        if self.missing.is_empty() { Tick::NEVER } else { self.due }
    }

    /// What is missing is of a stream that is over.
    pub(super) fn clear(&mut self) {
        self.missing.clear();
    }

    /// One that was missing came, sent again. On which leg it was asked for, and how long ago it was first, if it was asked for
    /// once or twice: were only quick answers counted, the round trip would never be seen to be longer.
    pub(super) fn answered(&self, place: u64, arrival: Tick) -> Option<(u8, i64)> {
        let at = self.missing.binary_search_by_key(&place, |missing| missing.place).ok()?;
        let missing = &self.missing[at];
        (1..=2).contains(&missing.asked).then(|| (missing.leg, arrival.since(missing.asked_first)))
    }

    /// Ask for what is due: `ask` is told of each leg and place. `rate`: packets a second that the stream has. How many
    /// are given up.
    pub(super) fn scan(&mut self, now: Tick, ring: &Ring, legs: &[Askable], rate: i64, mut ask: impl FnMut(u8, u64)) {
        self.refill(now, rate);
        self.due = Tick::NEVER;
        let (budget, due) = (&mut self.budget, &mut self.due);
        self.missing.retain_mut(|missing| {
            let there = ring.get(missing.place).is_none_or(|slot| slot.state != State::Missing);
            if there || missing.place < ring.head() {
                return false;
            }
            if missing.next > now {
                *due = (*due).min(missing.next);
                return true;
            }
            let Some(askable) = legs.get(usize::from(missing.asked) % legs.len().max(1)) else {
                // Nobody to be asked.
                missing.next = now.add(LEAST);
                *due = (*due).min(missing.next);
                return missing.due > now;
            };
            // Later than this an answer is of no use.
            if now.add(askable.rtt.unwrap_or(0)) > missing.due {
                return false;
            }
            if *budget < PACKET {
                missing.next = now.add(2 * MILLISECOND);
                *due = (*due).min(missing.next);
                return true;
            }
            *budget -= PACKET;
            if std::mem::take(&mut missing.again) {
                ask(missing.leg, missing.place);
                missing.next = missing.asked_at.add(askable.patience.max(LEAST));
            } else {
                ask(askable.leg, missing.place);
                (missing.leg, missing.asked_at) = (askable.leg, now);
                if missing.asked == 0 {
                    missing.asked_first = now;
                }
                missing.asked = missing.asked.saturating_add(1);
                let patience = askable.patience.max(LEAST);
                missing.again = askable.once && missing.asked > 1 && patience > 2 * TWICE;
                missing.next = now.add(if missing.again { TWICE } else { patience });
            }
            *due = (*due).min(missing.next);
            true
        });
    }

    /// As many packets a second as the stream has, and as many at once as it has in half a second.
    fn refill(&mut self, now: Tick, rate: i64) {
        let rate = rate.clamp(0, MOST_RATE);
        let earned = now.since(self.budget_at).clamp(0, SECOND).saturating_mul(rate + LEAST_RATE);
        let most = LEAST_BURST.max(rate / 2) * PACKET;
        self.budget = self.budget.saturating_add(earned).min(most);
        self.budget_at = now;
    }

    /// Bytes taken from the system.
    pub(super) fn bytes(&self) -> usize {
        self.missing.capacity() * size_of::<Missing>()
    }

    /// Give back memory where nothing is missing.
    pub(super) fn trim(&mut self) {
        if self.missing.is_empty() {
            self.missing = VecDeque::new();
        }
    }
}
