//! What is sent again, and what the peer is told is not.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::{DataOut, History, Sender};
use crate::proto::srt::clock::{Clock, MILLISECOND, Tick};
use crate::proto::srt::control::{Control, LossRange, LossRanges};
use crate::proto::srt::packet::{DataHeader, Key};
use crate::proto::srt::rekey::SendKeys;
use crate::proto::srt::rtt::Rtt;
use crate::proto::srt::seq::MsgNo;
use crate::proto::srt::window::ExtSeq;
use crate::time::Instant;

/// Between two drop requests.
pub(super) const DROP_INTERVAL: i64 = 20 * MILLISECOND;
/// A peer answers this much later than the path takes: its timers, and ours.
const PROBE_MARGIN: i64 = 20 * MILLISECOND;
/// What was sent again so often is not sent again without being asked for.
const MOST_GUESSES: u8 = 4;
/// What was sent takes so much longer than the path does, at most: hosts look only now and then.
const ARRIVAL_MARGIN: i64 = 10 * MILLISECOND;
/// Copies that wait to be sent.
const MOST_COPIES: usize = 1024;
/// Packets that the budget must still allow for a copy.
const COPY_RESERVE: i64 = 16;
/// Probes come at twice the interval each, until this many.
const MOST_BACKOFF: u32 = 6;

/// Why nothing is sent just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Blocked {
    /// There is nothing, or the peer has no room.
    Nothing,
    /// The pace, or the end of a train.
    Pace,
    /// The budget for what is sent again.
    Budget,
}

/// A packet that is to be sent once more after it was sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Copy {
    due: Tick,
    at: ExtSeq,
    /// How often.
    left: u8,
    /// Microseconds from one to the next.
    pause: i64,
}

/// How often a packet is sent besides, when it is sent again and the peer delivers it in so long. With every round the
/// packets are fewer, and a copy of one costs less; in the last one nothing is left to be saved. As long as the round
/// trip is not known, a libsrt asks for it again only after 300 ms.
fn copies(left: i64, before: bool, rtt: &Rtt) -> u8 {
    if left < 0 {
        return 0;
    }
    let round = rtt.rtt() * 9 / 8 + PROBE_MARGIN / 2;
    match (left / round, before) {
        (0 | 1, true) => 4,
        (0 | 1, false) => 1,
        _ => (!rtt.is_measured()).into(),
    }
}

impl Sender {
    /// A packet that was sent before and is missing at the peer.
    pub(super) fn again<H: History>(
        &mut self,
        now: Tick,
        clock: &Clock,
        history: &H,
        keys: Option<&SendKeys>,
        rtt: &Rtt,
    ) -> Option<DataOut> {
        // A report that comes sooner was made before what was sent last can have arrived.
        let recent = now.add(-(rtt.rtt() - 4 * rtt.var()).max(rtt.rtt() * 7 / 8));
        while let Some(at) = self.losses.first(self.next) {
            let again = self.losses.again(at);
            if again.is_some_and(|(last, _)| last >= recent) {
                self.losses.remove(at);
                continue;
            }
            if !self.budget.allows(now, self.next.since(self.base), 1) {
                self.blocked = Blocked::Budget;
                return None;
            }
            self.losses.remove(at);
            let Some(out) = self.resend(at, now, clock, history, keys) else {
                // It is gone, and so is everything before it.
                let before = self.base;
                while self.base <= at {
                    self.give_up(None);
                    self.base = self.base.add(1);
                }
                self.gave_up(before, now);
                continue;
            };
            self.losses.sent_again(at, now);
            let left = self.rules.latency - now.since(clock.tick(history.origin(out.index)?));
            self.plan_copies(at, left, again.is_some(), now, rtt);
            return Some(out);
        }
        None
    }

    /// Copies of what is sent again now follow in time, and not so close that one interruption takes them all.
    fn plan_copies(&mut self, at: ExtSeq, left: i64, before: bool, now: Tick, rtt: &Rtt) {
        let copies = if now == self.guessed { 0 } else { copies(left, before, rtt) };
        if copies > 0 && self.copies.len() < MOST_COPIES {
            let pause = (rtt.rtt() / 8).min(left / (i64::from(copies) + 1));
            self.copies.push(Reverse(Copy { due: now.add(pause), at, left: copies, pause }));
        }
    }

    /// One more of what was sent again, where nothing else is to be sent.
    pub(super) fn copy<H: History>(
        &mut self,
        now: Tick,
        clock: &Clock,
        history: &H,
        keys: Option<&SendKeys>,
    ) -> Option<DataOut> {
        while let Some(&Reverse(Copy { due, at, left, pause })) = self.copies.peek()
            && due <= now
        {
            self.copies.pop();
            // They must not take away what others need.
            if at < self.base || !self.budget.allows(now, self.next.since(self.base), COPY_RESERVE) {
                continue;
            }
            if left > 1 {
                self.copies.push(Reverse(Copy { due: now.add(pause), at, left: left - 1, pause }));
            }
            if let Some(out) = self.resend(at, now, clock, history, keys) {
                return Some(out);
            }
        }
        None
    }

    /// Whether the first packet in flight was lost, and all reports of it. An acknowledgement shows it that ends there and
    /// came later than it would have arrived; and so does the silence of a peer that has acknowledged nothing for longer
    /// than it should. Where no reports come, either, the others are lost, too: then what was sent again is once more.
    pub(super) fn look_at_first(&mut self, now: Tick, rtt: &Rtt) {
        let told = self.told.take();
        if self.base == self.next || self.acked < self.base {
            return;
        }
        let (sent, times) = self.losses.again(self.base).unwrap_or((self.oldest.add(self.lag), 0));
        if times >= MOST_GUESSES {
            return;
        }
        let arrival = rtt.rtt() + (4 * rtt.var()).min(rtt.rtt() / 4) + ARRIVAL_MARGIN;
        let silent = now > sent.add(arrival + PROBE_MARGIN);
        if silent || told.is_some_and(|told| told > sent.add(arrival)) {
            self.losses.insert(self.base, self.base.add(1), self.base, self.next);
        }
        if silent && now > self.reported.add(rtt.rtt() * 3 / 4 + ARRIVAL_MARGIN) {
            self.guessed = now;
            self.losses.insert_sent_before(now.add(-arrival - PROBE_MARGIN), self.base, self.next);
        }
    }

    fn resend<H: History>(
        &mut self,
        at: ExtSeq,
        now: Tick,
        clock: &Clock,
        history: &H,
        keys: Option<&SendKeys>,
    ) -> Option<DataOut> {
        let (index, bytes, origin, key) = self.find(at, history, keys)?;
        let message = MsgNo::FIRST.add(at.since(self.start));
        let mut header = DataHeader::live(at.seq(), message, clock.tick(origin).timestamp(), self.rules.remote);
        header.key = key;
        header.retransmitted = self.rules.mark_again;
        self.pace.sent(now, bytes);
        self.budget.spend();
        self.counters.retransmitted += 1;
        self.counters.retransmitted_bytes += bytes as u64;
        Some(DataOut { header: header.write(), index, seq: at.seq(), key, retransmitted: true })
    }

    /// Where a packet that was sent lies, its length, its time, and its key.
    fn find<H: History>(
        &self,
        at: ExtSeq,
        history: &H,
        keys: Option<&SendKeys>,
    ) -> Option<(u64, usize, Instant, Option<Key>)> {
        let index = self.index_of(at)?;
        let key = match keys {
            Some(keys) => Some(keys.key_of(at)?),
            None => None,
        };
        Some((index, history.payload(index)?.len(), history.origin(index)?, key))
    }

    /// A loss report came. `false`: it names what was never sent, and nothing of it is believed.
    pub(in crate::proto::srt) fn handle_nak(&mut self, losses: &LossRanges<'_>, now: Tick) -> bool {
        let next = self.next;
        let place = move |range: LossRange| (next.unwrap(range.first), next.unwrap(range.last));
        if losses.ranges().map(place).any(|(first, last)| last >= next || first > last) {
            return false;
        }
        self.counters.naks += 1;
        self.reported = now;
        for (first, last) in losses.ranges().map(place) {
            if first < self.base && last >= self.acked {
                self.tell_dropped(now);
            }
            self.counters.lost += self.losses.insert(first, last.add(1), self.base, self.next);
        }
        true
    }

    /// The peer is to be told again what was given up.
    pub(super) fn tell_dropped(&mut self, now: Tick) {
        self.drop_due = self.drop_due.min(now.max(self.dropped_at.add(DROP_INTERVAL)));
    }

    /// What the peer is to be told that was given up.
    pub(in crate::proto::srt) fn poll_drop_request(&mut self, now: Tick) -> Option<Control<'static>> {
        if self.drop_due > now {
            return None;
        }
        self.drop_due = Tick::NEVER;
        if self.base <= self.acked {
            return None;
        }
        self.dropped_at = now;
        let (first, last) = (self.acked.seq(), self.base.sub(1).seq());
        Some(Control::DropRequest { message: MsgNo::NONE, first, last })
    }

    /// Something was sent for the first time.
    pub(super) const fn quiet(&mut self, now: Tick) {
        (self.quiet_since, self.probes) = (now, 0);
    }

    /// When the silence of the peer shows that the last packets were lost.
    fn probe_due(&self, rtt: &Rtt) -> Tick {
        if self.acked == self.next && !self.is_stuck() {
            return Tick::NEVER;
        }
        let wait = rtt.rtt() + (4 * rtt.var()).min(rtt.rtt() / 4) + PROBE_MARGIN;
        self.quiet_since.add(wait << self.probes.min(MOST_BACKOFF))
    }

    /// There is something to send, and the peer has no room.
    pub(super) fn is_stuck(&self) -> bool {
        self.unsent > 0 && self.next >= self.limit
    }

    /// Send the newest packet again when nothing came for too long: its arrival shows the peer what it lacks.
    pub(in crate::proto::srt) fn handle_timeout(&mut self, now: Tick, rtt: &Rtt) {
        if self.probe_due(rtt) > now {
            return;
        }
        (self.quiet_since, self.probes) = (now, self.probes + 1);
        if self.base < self.next {
            self.losses.insert(self.next.sub(1), self.next, self.base, self.next);
            self.counters.probes += 1;
        }
        if self.acked < self.base {
            self.tell_dropped(now);
        }
        if self.acked == self.next {
            // It may have told us of room, and that was lost.
            self.limit = self.limit.max(self.next.add(1));
        }
    }

    /// When something is to be done.
    pub(in crate::proto::srt) fn due(&self, rtt: &Rtt) -> Tick {
        let data = match self.blocked {
            Blocked::Nothing => self.copies.peek().map_or(Tick::NEVER, |Reverse(copy)| copy.due),
            Blocked::Pace => self.pace.due(),
            Blocked::Budget => self.budget.due(),
        };
        data.min(self.probe_due(rtt)).min(self.drop_due)
    }
}
