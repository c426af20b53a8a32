//! When the peer's sequence numbers jump.
//!
//! After a long stall a sender goes on with numbers that lie beyond every buffer; a peer that is confused, with some that
//! lie far behind. Neither is a reason to end the connection, as libsrt does, and none of it is believed at once: one
//! packet that strays is dropped. The window follows when several in a row come from elsewhere, newer by their time
//! stamps than all before, when none comes any more that fits, and when nothing waits to be released. What came in the
//! meantime is then missing, and reported.

use serde::{Deserialize, Serialize};

use super::Receiver;
use crate::proto::srt::clock::{SECOND, Tick};
use crate::proto::srt::seq::SeqNo;
use crate::proto::srt::window::ExtSeq;

/// So many packets in a row show that the numbers jumped.
const CONFIRMED: u32 = 8;
/// In a row: not further apart than this.
const NEAR: u32 = 256;
/// And not longer.
const SPAN: i64 = SECOND;
/// No sender gives up more packets at a time: at 1 Gbit/s those of more than ten seconds.
pub(super) const FURTHEST: u64 = 1 << 20;

/// Packets that came from elsewhere.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Stray {
    first: SeqNo,
    last: SeqNo,
    at: Tick,
    packets: u32,
}

impl Receiver {
    /// A packet is out of every window. Its place, if the window followed.
    pub(super) fn strayed(&mut self, seq: SeqNo, time: i64, now: Tick) -> Option<ExtSeq> {
        if time <= self.newest {
            return None;
        }
        let alone = Stray { first: seq, last: seq, at: now, packets: 0 };
        let mut stray = self.stray.unwrap_or(alone);
        if seq.distance(stray.last).unsigned_abs() > NEAR || now.since(stray.at) > SPAN {
            stray = alone;
        }
        if seq.is_after(stray.last) {
            stray.last = seq;
        }
        if seq.is_before(stray.first) {
            stray.first = seq;
        }
        stray.at = now;
        stray.packets += 1;
        self.stray = Some(stray);
        if stray.packets < CONFIRMED || self.first.is_some() || self.tail != self.head {
            return None;
        }
        // There must be room after the first one for what still comes.
        let most = i32::try_from(self.bounds.packets / 2).unwrap_or(i32::MAX);
        let first = if seq.distance(stray.first) > most { seq.sub(most.unsigned_abs()) } else { stray.first };
        self.jump(self.end.next_at(first));
        Some(self.end.next_at(seq))
    }

    /// Follow a sender that gave up more than the ring holds, once nothing waits any more.
    pub(super) fn follow(&mut self) {
        if let Some(to) = self.jump_to
            && self.first.is_none()
            && self.tail == self.head
        {
            self.jump_to = None;
            if to > self.end {
                self.jump(to);
            }
        }
    }

    /// Begin anew at this place, with nothing held.
    fn jump(&mut self, to: ExtSeq) {
        let skipped = to.since(self.head);
        // Half a turn ahead is behind.
        if skipped < 1 << 30 {
            self.counters.dropped += skipped;
        } else {
            self.released = to;
        }
        self.counters.jumps += 1;
        self.vacate(self.end);
        (self.tail, self.head, self.ack, self.end) = (to, to, to, to);
        (self.missing, self.stray, self.jump_to) = (0, None, None);
    }
}
