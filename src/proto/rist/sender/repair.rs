//! What is asked for, and sent again.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::super::LegId;
use super::super::clock::{MILLISECOND, SECOND, Tick};
use super::super::nack::Request;
use super::super::stats::SenderStats;
use super::{History, LegSet, MOST_LEGS, MediaOut, Sender};

/// Packets that wait to be sent again: no history is longer.
const MOST_WAITING: u64 = 65_536;
/// Ranges of them.
const MOST_RANGES: usize = 4096;
/// Packets of each leg whose last time of being sent again is remembered: a power of two.
const REMEMBERED: usize = 1024;
/// Numbers that lie further back than this lie ahead.
const BEFORE_SENT: u64 = 65_536 - 1024;
/// The round trip where it is not known.
const UNKNOWN: i64 = 20 * MILLISECOND;
/// What waits longer than this, and than a round trip, will be asked for again.
const LONGEST_WAIT: i64 = 100 * MILLISECOND;
/// What the budget is counted in: hundredths of a packet.
const PACKET: i64 = 100;
/// Packets a second that may be sent again in any case: the end of a stream, too, gets repaired.
const LEAST_AGAIN: i64 = 100;
/// Packets that may be sent again at once in any case.
const LEAST_BURST: i64 = 64;

/// Packets that were asked for together.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Asked {
    next: u64,
    end: u64,
    leg: u8,
    at: Tick,
}

/// When a packet was last sent again.
#[derive(Debug, Clone, Copy)]
struct Sent {
    index: u64,
    at: Tick,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Repair {
    asked: VecDeque<Asked>,
    /// Packets in it.
    waiting: u64,
    /// Forgotten when the sender is handed over: then a packet may be sent again once more.
    #[serde(skip)]
    sent: [Option<Box<[Sent; REMEMBERED]>>; MOST_LEGS],
    percent: i64,
    tokens: i64,
    tokens_at: Tick,
    /// Packets sent for the first time in this second, and in the one before.
    second: (Tick, i64, i64),
    /// The last question was refused for want of budget.
    is_short: bool,
}

impl Repair {
    pub(super) fn new(percent: u32) -> Self {
        Self {
            asked: VecDeque::new(),
            waiting: 0,
            sent: Default::default(),
            percent: percent.min(10_000).into(),
            tokens: LEAST_BURST * PACKET,
            tokens_at: Tick::LONG_AGO,
            second: (Tick::LONG_AGO, 0, 0),
            is_short: false,
        }
    }

    /// A packet leaves for the first time.
    pub(super) fn earn(&mut self, now: Tick) {
        self.tokens += self.percent;
        if now.since(self.second.0) >= SECOND {
            self.second = (now, 0, self.second.1);
        }
        self.second.1 += 1;
    }

    /// Whether one may be sent again. As many at once as the budget has in a second.
    fn allows(&mut self, now: Tick) -> bool {
        let earned = now.since(self.tokens_at).clamp(0, SECOND) * LEAST_AGAIN * PACKET / SECOND;
        if earned > 0 {
            (self.tokens, self.tokens_at) = (self.tokens + earned, now);
        }
        let most = (self.second.1.max(self.second.2) * self.percent).max(LEAST_BURST * PACKET);
        self.tokens = self.tokens.min(most);
        self.tokens >= PACKET
    }

    /// When something can be sent again.
    pub(super) fn due(&self) -> Tick {
        if self.asked.is_empty() {
            Tick::NEVER
        } else if self.is_short {
            self.tokens_at.add(SECOND / LEAST_AGAIN + 1)
        } else {
            Tick::LONG_AGO
        }
    }

    fn ask(&mut self, asked: Asked) {
        let room = MOST_WAITING - self.waiting;
        let end = asked.end.min(asked.next + room);
        if end > asked.next && self.asked.len() < MOST_RANGES {
            self.waiting += end - asked.next;
            self.asked.push_back(Asked { end, ..asked });
            self.is_short = false;
        }
    }

    /// Packets that wait.
    #[cfg(test)]
    pub(super) const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// What waits too long will be asked for again.
    pub(super) fn forget_old(&mut self, now: Tick, rtt: impl Fn(usize) -> Option<i64>, stats: &mut SenderStats) {
        while let Some(front) = self.asked.front()
            && now.since(front.at) > rtt(usize::from(front.leg)).unwrap_or(0).max(LONGEST_WAIT)
        {
            let count = front.end - front.next;
            stats.over_budget += count;
            self.waiting -= count;
            self.asked.pop_front();
        }
    }

    /// The next one that is asked for.
    fn next(&mut self) -> Option<(u64, u8)> {
        let front = self.asked.front_mut()?;
        let next = (front.next, front.leg);
        front.next += 1;
        self.waiting -= 1;
        if front.next == front.end {
            self.asked.pop_front();
        }
        Some(next)
    }

    /// A packet is to be sent again. `false`: that was done within the round trip.
    fn is_new(&mut self, index: u64, leg: u8, now: Tick, rtt: Option<i64>) -> bool {
        let Some(sent) = self.sent.get_mut(usize::from(leg)) else { return false };
        let sent = sent.get_or_insert_with(|| Box::new([Sent { index: u64::MAX, at: Tick::LONG_AGO }; REMEMBERED]));
        let place = &mut sent[index as usize & (REMEMBERED - 1)];
        // A little sooner: what is measured varies.
        let pause = rtt.map_or(UNKNOWN, |rtt| rtt * 7 / 8);
        if place.index == index && now.since(place.at) < pause {
            return false;
        }
        *place = Sent { index, at: now };
        true
    }
}

impl Sender {
    /// A request came on a leg; of numbers with these upper bits, or of the newest ones.
    pub(super) fn requested(&mut self, now: Tick, leg: LegId, request: Request<'_>, upper: Option<u16>) {
        self.stats.nacks += 1;
        let Some((start, newest)) = self.start.zip(self.next.checked_sub(1)).filter(|(start, newest)| start <= newest)
        else {
            return;
        };
        let newest_number = u64::from(self.config.first_seq.0) + (newest - start);
        for run in request.runs() {
            // The last one before the newest that has these low bits.
            let back: u64 = match upper.filter(|_| self.config.extended) {
                Some(upper) => {
                    let number = u32::from(upper) << 16 | u32::from(run.first);
                    u64::from(((newest_number & 0xFFFF_FFFF) as u32).wrapping_sub(number))
                }
                None => u64::from(((newest_number & 0xFFFF) as u16).wrapping_sub(run.first)),
            };
            self.stats.requested += u64::from(run.count);
            if back >= if upper.is_some() { 1 << 31 } else { BEFORE_SENT } {
                // GStreamer asks for packets that it expects and that were not sent yet.
                continue;
            }
            // Indices are far below 2^63.
            let first = newest.cast_signed() - back.cast_signed();
            let end = (first + i64::from(run.count)).min(newest.cast_signed() + 1);
            let first = first.max(start.cast_signed());
            if first < end {
                let (next, end) = (first.unsigned_abs(), end.unsigned_abs());
                self.repair.ask(Asked { next, end, leg: leg.0, at: now });
            }
        }
    }

    /// A packet that is asked for.
    pub(super) fn again<H: History>(&mut self, now: Tick, history: &H) -> Option<MediaOut> {
        while !self.repair.asked.is_empty() {
            if !self.repair.allows(now) {
                self.repair.is_short = true;
                return None;
            }
            let (index, leg) = self.repair.next()?;
            let rtt = match self.legs[usize::from(leg)].as_ref() {
                Some(leg) if leg.can_send() => leg.rtt.get(),
                _ => continue,
            };
            if index < history.first() {
                self.stats.gone += 1;
                continue;
            }
            if !self.repair.is_new(index, leg, now, rtt) {
                self.stats.repeated += 1;
                continue;
            }
            let Some(media) = self.media(index, LegSet(1 << leg), true, history) else { continue };
            self.repair.tokens -= PACKET;
            self.stats.retransmitted += 1;
            if let Some(leg) = &mut self.legs[usize::from(leg)] {
                leg.stats.retransmitted += 1;
            }
            return Some(media);
        }
        None
    }
}
