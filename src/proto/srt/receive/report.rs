//! Loss reports (NAK).
//!
//! A packet that is missing is reported as soon as a later one is there. Reports of packets that were handled together
//! are made at the end: what was only out of order among them is not reported.
//!
//! It is reported again when the answer should have come, and did not. libsrt instead repeats its whole list at a fixed
//! interval of about half a round trip, and leaves it to the sender to ignore what it answered lately. Here each packet
//! has its own time, so that a round takes one round trip and not up to one and a half; and it is known until when an
//! answer is of use: until the next packet after the gap is due. In the last rounds before that, more than one report is
//! made: packets that were lost several times are few, and it costs next to nothing to ask for them twice and three
//! times. A report also gets lost: one that is answered only once is made twice, shortly after each other.

use serde::{Deserialize, Serialize};

use super::{Receiver, Slot};
use crate::proto::srt::clock::{MILLISECOND, Tick};
use crate::proto::srt::control::LossRange;
use crate::proto::srt::rtt::Rtt;
use crate::proto::srt::window::ExtSeq;

/// Before the round trip is known; or a quarter of the latency, if that is less.
const FIRST_REPEAT: i64 = 300 * MILLISECOND;
/// Not sooner than this.
const LEAST_REPEAT: i64 = 20 * MILLISECOND;
/// An answer takes so much longer than the round trip, at least: both ends look only every few milliseconds.
const LEAST_MARGIN: i64 = 5 * MILLISECOND;
/// How long after a report it is made once more, in case it got lost.
const TWICE: i64 = 10 * MILLISECOND;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reports {
    /// When there is something to report.
    due: Tick,
}

/// When which packet is reported.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Schedule {
    now: Tick,
    /// After a report its answer takes so long.
    rtt: i64,
    /// And so long until it is clear that it does not come.
    round: i64,
    /// Each report is made twice.
    twice: bool,
    /// Without a round trip, after this time in any case.
    blind: Option<i64>,
}

impl Reports {
    pub(super) const fn new() -> Self {
        Self { due: Tick::NEVER }
    }

    /// Packets are missing that were not before.
    pub(super) fn gap(&mut self, now: Tick) {
        self.due = self.due.min(now);
    }
}

impl Schedule {
    fn new(rtt: &Rtt, latency: i64, now: Tick) -> Self {
        let margin = (4 * rtt.var()).max(LEAST_MARGIN);
        let twice = rtt.is_measured() && rtt.suppression() > TWICE + LEAST_MARGIN;
        let blind = (!rtt.is_measured()).then(|| (latency / 4).clamp(LEAST_REPEAT, FIRST_REPEAT));
        Self { now, rtt: rtt.rtt(), round: rtt.rtt() + margin, twice, blind }
    }

    /// After which time a packet is to be reported again; an answer is of use until `deadline`.
    fn pause(&self, slot: &Slot, deadline: Tick) -> i64 {
        if let Some(blind) = self.blind {
            return blind;
        }
        // Time for more, with a little doubt about the round trip.
        let left = deadline.since(slot.at.add(self.rtt));
        if left < self.rtt - self.round {
            return i64::MAX;
        }
        let pause = match (left / self.round, slot.requests) {
            (1.., ..=1) | (2.., _) => self.round,
            (_, ..=1) => self.round * 2 / 3,
            (1, _) => self.round / 2,
            _ => self.round / 3,
        };
        pause.max(LEAST_REPEAT)
    }

    /// When a packet that was reported before is to be reported again.
    fn again(&self, slot: &Slot, deadline: Tick) -> Tick {
        if slot.once_more { slot.at.add(TWICE) } else { slot.at.add(self.pause(slot, deadline)) }
    }

    /// A packet is reported.
    fn report(&self, slot: &mut Slot) {
        if slot.once_more {
            slot.once_more = false;
            return;
        }
        slot.requests = slot.requests.saturating_add(1);
        slot.at = self.now;
        slot.once_more = self.twice;
    }
}

impl Receiver {
    /// When a loss report is to be sent.
    pub(in crate::proto::srt) const fn report_due(&self) -> Tick {
        if self.missing == 0 { Tick::NEVER } else { self.reports.due }
    }

    /// The loss report that is due, of at most so many bytes after its header. There may be more than one.
    pub(in crate::proto::srt) fn poll_report(&mut self, now: Tick, rtt: &Rtt, limit: usize) -> Option<Vec<LossRange>> {
        if self.report_due() > now {
            return None;
        }
        let schedule = Schedule::new(rtt, self.tsbpd.latency(), now);
        let mut losses = Losses { ranges: Vec::new(), room: limit };
        self.reports.due = Tick::NEVER;
        let mut at = self.ack;
        while let Some(first) = self.settled.next_clear(at, self.end) {
            at = self.settled.next_set(first, self.end).unwrap_or(self.end);
            if !self.report_run(first, at, &schedule, &mut losses) {
                self.reports.due = now;
                break;
            }
        }
        if losses.ranges.is_empty() {
            return None;
        }
        self.counters.naks += 1;
        Some(losses.ranges)
    }

    /// Report what is due of these, which are all missing. `false`: there is no room for more.
    fn report_run(&mut self, first: ExtSeq, after: ExtSeq, schedule: &Schedule, losses: &mut Losses) -> bool {
        let next = self.stored.next_set(after, self.end);
        let deadline = next.map_or(Tick::NEVER, |next| self.due(self.slot(next)));
        let tolerated = self.end.sub(self.bounds.reorder_tolerance.into());
        let size = self.slots.len();
        let (mut at, mut start) = (first, None);
        while at < after {
            let slot = &mut self.slots[at.slot(size)];
            let due = match slot.requests {
                0 if at < tolerated => schedule.now,
                // It may only be out of order.
                0 => slot.at.add(schedule.round.max(LEAST_REPEAT)),
                _ => schedule.again(slot, deadline),
            };
            if due > schedule.now {
                self.reports.due = self.reports.due.min(due);
                if start.take().is_some_and(|start| !losses.add(start, at)) {
                    return false;
                }
            } else {
                start.get_or_insert(at);
                schedule.report(slot);
                self.reports.due = self.reports.due.min(schedule.again(slot, deadline));
            }
            at = at.add(1);
        }
        start.is_none_or(|start| losses.add(start, after))
    }
}

/// A loss report as it is being made.
#[derive(Serialize, Deserialize)]
struct Losses {
    ranges: Vec<LossRange>,
    room: usize,
}

impl Losses {
    /// Add a range. `false`: there is no room for it, and it is reported the next time.
    fn add(&mut self, first: ExtSeq, after: ExtSeq) -> bool {
        let range = LossRange { first: first.seq(), last: after.sub(1).seq() };
        let size = if range.first == range.last { 4 } else { 8 };
        let fits = size <= self.room;
        if fits {
            self.room -= size;
            self.ranges.push(range);
        }
        fits
    }
}
