//! The sending side: what is in flight, what is sent again, and when.
//!
//! It keeps no payload. Packets lie in a [`History`] that all receivers of a stream share, by an index that never wraps;
//! a packet gets its sequence number when it is first sent, and that number says where it lies as long as it may have to
//! be sent again. What is given up without having been sent never gets a number: the numbers that the peer sees have no
//! gap but for what was lost on the way, and never jump beyond its buffer.

mod pace;
mod repair;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

use super::clock::{Clock, MILLISECOND, SECOND, Tick};
use super::loss::LossList;
use super::packet::{DataHeader, HEADER_LEN, Key};
use super::receive::ACK_INTERVAL;
use super::rekey::SendKeys;
use super::rtt::Rtt;
use super::seq::{MsgNo, SeqNo, SocketId};
use super::stats::SendCounters;
use super::window::ExtSeq;

use self::pace::{Budget, Pace};
use self::repair::{Blocked, Copy};

/// What is older than the peer's latency, and than this, is given up (libsrt's `SRT_TLPKTDROP_MINTHRESHOLD_MS`).
const LEAST_DROP: i64 = SECOND;
/// And by so much: twice libsrt's timer.
const DROP_MARGIN: i64 = 20 * MILLISECOND;
/// Places at which packets were left out, that are remembered.
const MOST_SEGMENTS: usize = 16;

/// The packets of a stream, as the host keeps them for all its receivers.
///
/// Indices go up by one each packet and never come again. What was overwritten is gone: `None`.
pub trait History {
    /// The first index that is still there.
    fn first(&self) -> u64;
    /// The index after the last one.
    fn end(&self) -> u64;
    /// A payload.
    fn payload(&self, index: u64) -> Option<&[u8]>;
    /// When a packet came into being: what its time stamp says.
    fn origin(&self, index: u64) -> Option<Instant>;
}

/// Which data leaves first when both wait. It matters only while the pace holds them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SendOrder {
    /// What is sent again, then what was never sent: as libsrt before 1.5.5, and draft-sharabayko-srt. What was lost has
    /// less time left. Simulated with 150 ms outages, a latency of 6 round trips and a pace of 1.3 times the stream, a
    /// fifth as many packets stay lost as with [`Self::FreshFirst`]; in steady overload it is better, too, as the
    /// [budget](super::connection::ConnectionConfig::retransmit_percent) bounds what may be sent again.
    #[default]
    LossesFirst,
    /// What was never sent, then what is sent again: as libsrt from 1.5.5 on.
    FreshFirst,
}

/// A data packet to be sent: this header, and the payload at `index`, encrypted where there is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataOut {
    /// As it goes before the payload.
    pub header: [u8; HEADER_LEN],
    /// Where the payload lies in the [`History`].
    pub index: u64,
    /// The sequence number, for [`Connection::seal`](super::connection::Connection::seal).
    pub seq: SeqNo,
    /// The key to encrypt with; `None`: in clear.
    pub key: Option<Key>,
    /// It was sent before.
    pub retransmitted: bool,
}

/// What the sender is to go by.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct SendRules {
    pub(super) remote: SocketId,
    /// Packets in the peer's buffer.
    pub(super) window: u32,
    /// Age at which a packet is given up; `None`: never.
    pub(super) drop_after: Option<i64>,
    /// Whether the peer knows the flag for what is sent again.
    pub(super) mark_again: bool,
    pub(super) order: SendOrder,
    /// Packets sent again for each hundred.
    pub(super) budget: u32,
    /// Bits a second.
    pub(super) rate: u64,
    pub(super) train: u16,
    /// The peer's, microseconds.
    pub(super) latency: i64,
}

/// From here on, the packet with this sequence number has this index.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Segment {
    seq: ExtSeq,
    index: u64,
}

/// The sending side of a connection.
#[derive(Serialize, Deserialize)]
pub(super) struct Sender {
    pub(super) counters: SendCounters,
    rules: SendRules,
    /// In order; none before the first packet may be sent.
    segments: VecDeque<Segment>,
    /// The first of the connection.
    start: ExtSeq,
    /// The peer has everything before this, or has given it up.
    acked: ExtSeq,
    /// Everything before this is not sent any more.
    base: ExtSeq,
    /// What is sent next for the first time.
    next: ExtSeq,
    next_index: u64,
    message: MsgNo,
    /// The peer has room for what is before this.
    limit: ExtSeq,
    losses: LossList,
    copies: BinaryHeap<Reverse<Copy>>,
    /// When an acknowledgement came that ended where we are, if that was not looked at yet.
    told: Option<Tick>,
    /// When the last loss report came, and when packets were last found missing without one.
    reported: Tick,
    guessed: Tick,
    pace: Pace,
    budget: Budget,
    /// Why the last question for data got none.
    blocked: Blocked,
    /// What was too old was looked for at this time.
    looked: Tick,
    /// When the oldest packet in flight came into being.
    oldest: Tick,
    /// How long after they came into being packets are sent, microseconds.
    lag: i64,
    /// Packets that waited to be sent for the first time when that was last looked at.
    unsent: u64,
    /// When the peer is to be told what was given up, and when it was told.
    drop_due: Tick,
    dropped_at: Tick,
    /// When something was last sent for the first time, or as a probe.
    quiet_since: Tick,
    /// Probes since then.
    probes: u32,
    ackack: Option<u32>,
    ackack_at: Tick,
    ackacked: Option<u32>,
    pub(super) peer_rate: u32,
    pub(super) peer_capacity: u32,
    /// There is no key left to send with.
    pub(super) exhausted: bool,
}

impl SendRules {
    /// When what is sent is given up, for this latency of the peer.
    pub(super) fn drop_after(latency: Duration) -> i64 {
        super::clock::micros(latency).max(LEAST_DROP) + DROP_MARGIN
    }

    /// Packets that may be in flight. Not all that the peer has room for: were all of them lost and given up, libsrt's
    /// empty buffer would have no place for the next one, and would end the connection.
    fn most_in_flight(&self) -> u64 {
        u64::from(self.window - self.window / 16).max(2)
    }
}

impl Sender {
    pub(super) fn new(isn: SeqNo, rules: SendRules) -> Self {
        let start = ExtSeq::start(isn);
        Self {
            counters: SendCounters::default(),
            segments: VecDeque::new(),
            start,
            acked: start,
            base: start,
            next: start,
            next_index: 0,
            message: MsgNo::FIRST,
            limit: start.add(rules.most_in_flight()),
            losses: LossList::new(start),
            copies: BinaryHeap::new(),
            told: None,
            reported: Tick(i64::MIN / 2),
            guessed: Tick(i64::MIN / 2),
            pace: Pace::new(rules.rate, rules.train),
            budget: Budget::new(rules.budget),
            blocked: Blocked::Nothing,
            looked: Tick(i64::MIN),
            oldest: Tick::NEVER,
            lag: 0,
            unsent: 0,
            drop_due: Tick::NEVER,
            dropped_at: Tick(i64::MIN / 2),
            quiet_since: Tick(0),
            probes: 0,
            ackack: None,
            ackack_at: Tick(i64::MIN / 2),
            ackacked: None,
            peer_rate: 0,
            peer_capacity: 0,
            exhausted: false,
            rules,
        }
    }

    /// Begin to send, from this index on; later calls change nothing.
    pub(super) fn begin(&mut self, index: u64) {
        if self.segments.is_empty() {
            self.segments.push_back(Segment { seq: self.next, index });
            self.next_index = index;
        }
    }

    /// The next data packet, if one may leave now.
    pub(super) fn poll<H: History>(
        &mut self,
        now: Tick,
        clock: &Clock,
        history: &H,
        keys: Option<&mut SendKeys>,
        rtt: &Rtt,
    ) -> Option<DataOut> {
        if self.segments.is_empty() || self.exhausted {
            return None;
        }
        if self.looked != now {
            self.looked = now;
            self.drop_late(now, clock, history, rtt);
            self.look_at_first(now, rtt);
        }
        if !self.pace.allows(now) {
            self.blocked = Blocked::Pace;
            return None;
        }
        self.blocked = Blocked::Nothing;
        let mut keys = keys;
        let out = match self.rules.order {
            SendOrder::FreshFirst => self
                .fresh(now, clock, history, keys.as_deref_mut())
                .or_else(|| self.again(now, clock, history, keys.as_deref(), rtt)),
            SendOrder::LossesFirst => self
                .again(now, clock, history, keys.as_deref(), rtt)
                .or_else(|| self.fresh(now, clock, history, keys.as_deref_mut())),
        };
        let out = out.or_else(|| self.copy(now, clock, history, keys.as_deref()));
        if out.is_none() {
            self.pace.rest();
        }
        out
    }

    /// A packet that was never sent.
    fn fresh<H: History>(
        &mut self,
        now: Tick,
        clock: &Clock,
        history: &H,
        keys: Option<&mut SendKeys>,
    ) -> Option<DataOut> {
        let was_stuck = self.is_stuck();
        self.unsent = history.end().saturating_sub(self.next_index);
        if self.is_stuck() && !was_stuck {
            self.quiet(now);
        }
        if self.unsent == 0 || self.next >= self.limit {
            return None;
        }
        let (index, bytes, origin) = self.next_packet(history)?;
        let origin = clock.tick(origin);
        let at = self.next;
        let key = match keys.map(|keys| keys.next_key(at, self.base, now)) {
            None => None,
            Some(Some(key)) => Some(key),
            Some(None) => {
                self.exhausted = true;
                return None;
            }
        };
        let mut header = DataHeader::live(at.seq(), self.message, origin.timestamp(), self.rules.remote);
        header.key = key;
        if self.base == at {
            self.oldest = origin;
        }
        // Forgotten slowly: what is in flight may have been sent later after its origin than this one.
        self.lag = now.since(origin).max(self.lag - self.lag / 32);
        self.losses.sent(at, self.base);
        self.message = self.message.next();
        self.next = at.add(1);
        self.next_index += 1;
        self.unsent -= 1;
        self.quiet(now);
        self.pace.sent(now, bytes);
        self.budget.earn();
        self.counters.packets += 1;
        self.counters.bytes += bytes as u64;
        Some(DataOut { header: header.write(), index, seq: at.seq(), key, retransmitted: false })
    }

    /// The next packet that is there: its index, length and time.
    fn next_packet<H: History>(&mut self, history: &H) -> Option<(u64, usize, Instant)> {
        loop {
            let index = self.next_index;
            if let (Some(payload), Some(origin)) = (history.payload(index), history.origin(index)) {
                return Some((index, payload.len(), origin));
            }
            if index >= history.end() {
                return None;
            }
            self.give_up(None);
            self.next_index += 1;
            self.mark_segment();
        }
    }

    /// Where a packet that was sent lies.
    fn index_of(&self, at: ExtSeq) -> Option<u64> {
        let segment = self.segments.iter().rev().find(|segment| segment.seq <= at)?;
        Some(segment.index + at.since(segment.seq))
    }

    /// Give up what is too old for the peer, and what the history does not have any more.
    fn drop_late<H: History>(&mut self, now: Tick, clock: &Clock, history: &H, rtt: &Rtt) {
        let unsent_cutoff = self.rules.drop_after.map_or(Tick(i64::MIN), |after| now.add(-after));
        // What was old when it was sent is not given up before it can be acknowledged.
        let cutoff = unsent_cutoff.add(-rtt.answered_after().min(SECOND));
        let before = self.base;
        while self.base < self.next {
            let index = self.index_of(self.base);
            let origin = index.and_then(|index| history.origin(index)).map(|origin| clock.tick(origin));
            if let Some(origin) = origin.filter(|origin| *origin >= cutoff) {
                self.oldest = origin;
                break;
            }
            self.give_up(index.and_then(|index| history.payload(index)));
            self.base = self.base.add(1);
        }
        if self.base > before {
            self.gave_up(before, now);
        }
        self.leave_out(unsent_cutoff, clock, history);
    }

    /// Leave out what was never sent and is too old.
    fn leave_out<H: History>(&mut self, cutoff: Tick, clock: &Clock, history: &H) {
        let before = self.next_index;
        let overwritten = history.first().saturating_sub(self.next_index);
        self.counters.dropped += overwritten;
        self.next_index += overwritten;
        while self.next_index < history.end()
            && history.origin(self.next_index).is_some_and(|origin| clock.tick(origin) < cutoff)
        {
            self.give_up(history.payload(self.next_index));
            self.next_index += 1;
        }
        if self.next_index != before {
            self.mark_segment();
        }
    }

    /// From here on indices are others than the numbers so far say.
    fn mark_segment(&mut self) {
        if self.segments.back().is_some_and(|segment| segment.seq == self.next) {
            self.segments.pop_back();
        } else if self.segments.len() == MOST_SEGMENTS {
            self.segments.pop_front();
        }
        self.segments.push_back(Segment { seq: self.next, index: self.next_index });
    }

    fn give_up(&mut self, payload: Option<&[u8]>) {
        self.counters.dropped += 1;
        self.counters.dropped_bytes += payload.map_or(0, |payload| payload.len() as u64);
    }

    /// Packets sent from `before` on to the base were given up: the peer is told.
    fn gave_up(&mut self, before: ExtSeq, now: Tick) {
        self.losses.forget(before, self.base);
        self.tell_dropped(now);
    }

    /// An acknowledgement came; a light one says nothing of the room. `false`: it cannot be.
    pub(super) fn handle_ack(&mut self, seq: SeqNo, room: Option<u32>, now: Tick) -> bool {
        let at = self.next.unwrap(seq);
        if at > self.next {
            return false;
        }
        if at < self.acked {
            return true;
        }
        if let Some(room) = room {
            self.limit = at.add(u64::from(room).min(self.rules.most_in_flight()));
        }
        if at > self.acked {
            self.acked = at;
            if at > self.base {
                self.losses.forget(self.base, at);
                self.base = at;
            }
            while self.segments.get(1).is_some_and(|second| second.seq <= self.base) {
                self.segments.pop_front();
            }
        }
        if self.acked >= self.base {
            self.drop_due = Tick::NEVER;
        }
        self.told = Some(now);
        true
    }

    /// A full acknowledgement is to be answered: at most one in 10 ms, but for one that comes again.
    pub(super) fn answer_ack(&mut self, number: u32, now: Tick) {
        if now.since(self.ackack_at) >= ACK_INTERVAL || self.ackacked == Some(number) {
            (self.ackack, self.ackacked, self.ackack_at) = (Some(number), Some(number), now);
        }
    }

    /// Whether an acknowledgement is to be answered.
    pub(super) const fn has_ackack(&self) -> bool {
        self.ackack.is_some()
    }

    /// The acknowledgement that is to be answered.
    pub(super) const fn poll_ackack(&mut self) -> Option<u32> {
        self.ackack.take()
    }

    /// Packets that wait to be sent for the first time, and since when the oldest is in flight.
    pub(super) const fn backlog(&self) -> (u64, Tick) {
        (self.unsent, self.oldest)
    }

    /// Packets in flight; how many may be; how many are to be sent again.
    pub(super) fn flight(&self) -> (u64, u64, u64) {
        (self.next.since(self.acked), self.limit.since(self.acked), self.losses.len())
    }

    /// Give back memory that was not needed lately.
    pub(super) fn trim(&mut self) {
        self.losses.trim();
        if self.copies.is_empty() {
            self.copies = BinaryHeap::new();
        }
    }

    /// Bytes taken from the system.
    pub(super) fn memory_bytes(&self) -> usize {
        let copies = self.copies.capacity() * size_of::<Copy>();
        self.losses.memory_bytes() + copies + self.segments.capacity() * size_of::<Segment>()
    }
}
