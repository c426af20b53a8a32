//! When to stop waiting: whether a missing packet can still come, or be recovered by FEC packets that are here or can
//! still come.
//!
//! A packet may come by itself for the reorder window after its absence was seen. A FEC packet may come until the same
//! time after it was due: senders keep their pace, so it is due as many packets after its first member as the one before
//! it of the same row or column was. With all that may come taken as present, rows and columns are gone through until
//! nothing moves. If the packet that others wait for is still missing then, nothing can bring it back, and it is given
//! up.

use crate::time::Instant;
use serde::{Deserialize, Serialize};

use super::decode::{Decoder, MAX_DELAY};
use super::sets::Span;
use super::streams::Expected;
use crate::proto::rtp::receive::Released;
use crate::proto::seq::ExtSeq;

/// Passes over the missing packets before the question is left open until more is known: a bound on the work.
const PASSES: usize = 8;
/// Missing packets that are looked at. More of them, in the time of two matrices, are beyond any recovery.
const MISSING: usize = 128;

/// The last review's outcome. None is needed before one of its conditions changes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Review {
    number: u32,
    hope: Option<Hope>,
    /// Memory of the review.
    missing: Vec<ExtSeq>,
}

/// The packet `gap` can still come, as far as is known before time `until`, or the media packet `before`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Hope {
    gap: ExtSeq,
    until: Option<Instant>,
    before: Option<ExtSeq>,
}

impl Review {
    /// When the next review is due at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.hope?.until
    }

    pub(super) const fn end(&mut self) {
        self.hope = None;
    }
}

impl Hope {
    fn until(&mut self, time: Instant) {
        self.until = Some(self.until.map_or(time, |until| until.min(time)));
    }

    fn before(&mut self, media: ExtSeq) {
        self.before = Some(self.before.map_or(media, |before| before.min(media)));
    }
}

impl Decoder {
    /// Give up what nothing can bring back. `fec`: a FEC packet came.
    pub(super) fn review(&mut self, now: Instant, fec: bool, out: &mut Vec<Released>) {
        while let (Some(gap), Some(_), Some(newest)) = (self.receiver.gap(), self.live, self.history().newest()) {
            if let Some(hope) = self.review.hope.filter(|hope| hope.gap == gap) {
                let over =
                    hope.until.is_some_and(|until| until <= now) || hope.before.is_some_and(|before| newest >= before);
                if !fec && !over {
                    return;
                }
            }
            self.review.hope = self.hope(gap, newest, now);
            if self.review.hope.is_some() {
                return;
            }
            self.receiver.give_up(out);
        }
        self.review.hope = None;
    }

    /// Whether and how long there is hope for `gap`.
    fn hope(&mut self, gap: ExtSeq, newest: ExtSeq, now: Instant) -> Option<Hope> {
        if !self.history().covers(gap) {
            return None;
        }
        let mut hope = Hope { gap, until: None, before: None };
        let number = self.review.number.wrapping_add(1).max(1);
        self.review.number = number;
        let mut missing = std::mem::take(&mut self.review.missing);
        missing.clear();
        for seq in (0..newest.since(gap)).map(|n| gap.add(n)) {
            if self.history().has(seq) {
                continue;
            }
            match self.history().at(seq).map(|at| at + self.grace()).filter(|until| *until > now) {
                Some(until) => {
                    hope.until(until);
                    self.receiver.tap_mut().assume(seq, number);
                }
                None if missing.len() < MISSING => missing.push(seq),
                None => {}
            }
        }
        let mut lost = false;
        for _ in 0..PASSES {
            let before = missing.len();
            missing.retain(|&seq| {
                let closes = [0, 1].into_iter().any(|stream| self.closes(seq, stream, newest, now, &mut hope));
                if closes {
                    self.receiver.tap_mut().assume(seq, number);
                }
                !closes
            });
            let closed = missing.first() != Some(&gap);
            lost = !closed && missing.len() == before;
            if closed || lost {
                break;
            }
        }
        self.review.missing = missing;
        (!lost).then_some(hope)
    }

    /// Whether a set can bring `seq` back, with all that may come taken as present.
    fn closes(&self, seq: ExtSeq, stream: usize, newest: ExtSeq, now: Instant, hope: &mut Hope) -> bool {
        let set = self.sets.get(self.history().sets(seq)[stream]).map(|set| set.span);
        let Some(span) = set.or_else(|| match self.expected(stream, seq, now) {
            // The receiver's window ends the wait.
            Expected::Unknown => Some(Span { base: seq, offset: 1, na: 1 }),
            Expected::Nowhere => None,
            Expected::Set { span, due } if due > newest => {
                hope.before(due);
                Some(span)
            }
            Expected::Set { span, due } => {
                let until = self.history().at(due).map(|at| at + self.grace()).filter(|until| *until > now)?;
                hope.until(until);
                Some(span)
            }
        }) else {
            return false;
        };
        let there = |other: ExtSeq| {
            other > newest || self.history().has(other) || self.history().assumed(other, self.review.number)
        };
        span.members().all(|other| other == seq || there(other))
    }

    /// Where a set of a stream is to be expected that has not come.
    fn expected(&self, stream: usize, seq: ExtSeq, now: Instant) -> Expected {
        let known = &self.streams[stream];
        let young = self.live.is_some_and(|(first, _)| now < first + MAX_DELAY);
        match known.shape(now) {
            Some(_) => known.expected(seq),
            None if young && !known.seen() => Expected::Unknown,
            None => Expected::Nowhere,
        }
    }
}
