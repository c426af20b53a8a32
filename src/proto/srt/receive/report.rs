//! Loss reports (NAK).
//!
//! A packet that is missing is reported as soon as a later one is there, and again each time when neither it came nor an
//! answer to the last report can still be on its way. Reports of packets that were handled together are made at the
//! end: what was only out of order among them is not reported.

use super::Receiver;
use crate::proto::srt::clock::{MILLISECOND, Tick};
use crate::proto::srt::control::LossRange;
use crate::proto::srt::rtt::Rtt;
use crate::proto::srt::window::ExtSeq;

/// Before the round trip is known.
const FIRST_REPEAT: i64 = 300 * MILLISECOND;
/// Not sooner than this.
const LEAST_REPEAT: i64 = 20 * MILLISECOND;

#[derive(Debug)]
pub(super) struct Reports {
    /// What is missing before this was reported.
    frontier: ExtSeq,
    /// When something is to be reported again.
    repeat: Tick,
    /// Since when there is something that was not reported; for the reorder tolerance.
    fresh: Tick,
}

impl Reports {
    pub(super) const fn new(start: ExtSeq) -> Self {
        Self { frontier: start, repeat: Tick::NEVER, fresh: Tick::NEVER }
    }

    /// Packets are missing that were not before.
    pub(super) fn gap(&mut self, now: Tick) {
        self.fresh = self.fresh.min(now);
    }
}

/// How long after a report the next one is made of the same packet, if it did not come.
fn repeat_after(rtt: &Rtt) -> i64 {
    if rtt.is_measured() { (rtt.answered_after() / 2).max(LEAST_REPEAT) } else { FIRST_REPEAT }
}

impl Receiver {
    /// When a loss report is to be sent.
    pub(in crate::proto::srt) fn report_due(&self, rtt: &Rtt) -> Tick {
        if self.missing == 0 {
            return Tick::NEVER;
        }
        let fresh = match self.bounds.reorder_tolerance {
            0 => self.reports.fresh,
            // What the tolerance covers waits no longer than this.
            _ if self.reports.fresh == Tick::NEVER => Tick::NEVER,
            _ if self.tolerated() > self.reports.frontier => Tick(i64::MIN),
            _ => self.reports.fresh.add(repeat_after(rtt)),
        };
        fresh.min(self.reports.repeat)
    }

    /// The loss report that is due, of at most so many bytes after its header. There may be more than one.
    pub(in crate::proto::srt) fn poll_report(&mut self, now: Tick, rtt: &Rtt, limit: usize) -> Option<Vec<LossRange>> {
        if self.missing == 0 {
            self.reports = Reports::new(self.end);
            return None;
        }
        let repeat = repeat_after(rtt);
        let mut losses = Losses { ranges: Vec::new(), room: limit };
        self.reports.frontier = self.reports.frontier.max(self.ack);
        if self.reports.fresh != Tick::NEVER {
            let overdue = self.reports.fresh.add(repeat) <= now;
            let upto = if overdue { self.end } else { self.tolerated() };
            self.report_fresh(upto, now, &mut losses);
            self.reports.repeat = self.reports.repeat.min(now.add(repeat));
        }
        if losses.ranges.is_empty() && self.reports.repeat <= now {
            self.report_again(now, repeat, &mut losses);
        }
        if losses.ranges.is_empty() {
            return None;
        }
        self.counters.naks += 1;
        Some(losses.ranges)
    }

    /// Up to where packets are missing, and not just out of order.
    fn tolerated(&self) -> ExtSeq {
        self.end.sub(self.bounds.reorder_tolerance.into())
    }

    /// What is missing from the frontier on.
    fn report_fresh(&mut self, upto: ExtSeq, now: Tick, losses: &mut Losses) {
        let mut at = self.reports.frontier;
        while let Some(first) = self.settled.next_clear(at, upto) {
            let after = self.settled.next_set(first, upto).unwrap_or(upto);
            if !losses.add(first, after) {
                // The rest goes into the next one.
                self.reports.frontier = first;
                return;
            }
            self.reported(first, after, now);
            at = after;
        }
        self.reports.frontier = self.reports.frontier.max(upto);
        if self.reports.frontier == self.end {
            self.reports.fresh = Tick::NEVER;
        }
    }

    /// What was reported for the last time so long ago.
    fn report_again(&mut self, now: Tick, repeat: i64, losses: &mut Losses) {
        let upto = self.reports.frontier;
        let mut next = Tick::NEVER;
        let mut at = self.ack;
        while let Some(first) = self.settled.next_clear(at, upto) {
            let run = self.settled.next_set(first, upto).unwrap_or(upto);
            let last = self.slot(first).at;
            let mut after = first.add(1);
            while after < run && self.slot(after).at == last {
                after = after.add(1);
            }
            at = after;
            if last.add(repeat) > now {
                next = next.min(last.add(repeat));
            } else if losses.add(first, after) {
                self.reported(first, after, now);
                next = next.min(now.add(repeat));
            } else {
                next = now;
                break;
            }
        }
        self.reports.repeat = next;
    }

    fn reported(&mut self, first: ExtSeq, after: ExtSeq, now: Tick) {
        let size = self.slots.len();
        let mut at = first;
        while at < after {
            self.slots[at.slot(size)].at = now;
            at = at.add(1);
        }
    }
}

/// A loss report as it is being made.
struct Losses {
    ranges: Vec<LossRange>,
    room: usize,
}

impl Losses {
    /// Add a range, if there is room for it.
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
