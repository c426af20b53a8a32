//! What is known of one FEC stream: its matrix, where its sets lie and when they come, and its figures.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::header::FecHeader;
use super::sets::Span;
use crate::proto::seq::{ExtSeq, Seq};

/// A FEC stream that is silent for so long has ended.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// Sequence numbers of FEC packets that are waited for before they count as lost.
const WINDOW: u32 = 32;
/// Further off than this a sequence number begins a new FEC stream.
const JUMP: u64 = 1000;

/// Counts of one FEC stream since the decoder was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FecStreamCounters {
    /// FEC packets that could be read; duplicates too.
    pub received: u64,
    /// Missing by the FEC stream's own sequence numbers, told 32 packets later.
    pub lost: u64,
    /// Came again; part of `received`.
    pub duplicate: u64,
    /// Not FEC packets, or such that cannot be used.
    pub invalid: u64,
    /// Over media packets too long gone or too far ahead, or before any media; part of `received`.
    pub stray: u64,
}

/// Where the set lies that covers a media packet, as far as can be told before its FEC packet comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Expected {
    /// It cannot be told.
    Unknown,
    /// There is none.
    Nowhere,
    /// These packets, and the FEC packet is due when the media packet `due` comes.
    Set { span: Span, due: ExtSeq },
}

/// One FEC stream.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) counters: FecStreamCounters,
    /// Offset and NA. A change is believed when two FEC packets agree.
    shape: Option<(u8, u8)>,
    proposed: Option<(u8, u8)>,
    /// The newest set of each residue of the base modulo the offset: a column's follow each other without a gap, whether
    /// the sender aligns its columns to blocks or not.
    tracks: Vec<Option<Track>>,
    /// FEC packets since the newest media packet, by track and base. What was sent just before them may have been lost:
    /// only the next media packet that comes shows for sure how far the media had gone.
    fresh: Vec<(u8, ExtSeq)>,
    newest: Option<ExtSeq>,
    last: Option<Instant>,
    /// The newest sequence number, and a bit for it (lowest) and each before it: it came.
    recent: Option<(ExtSeq, u32)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Track {
    base: ExtSeq,
    /// Media packets from the base to the first that comes after the FEC packet; forgotten slowly. Known when it came.
    lag: Option<u64>,
}

impl Stream {
    /// A FEC packet over `span` came.
    pub(super) fn learn(&mut self, now: Instant, fec: &FecHeader, span: Span) {
        self.last = self.last.max(Some(now));
        let shape = Some((fec.offset, fec.na));
        if self.shape != shape {
            if self.shape.is_some() && self.proposed != shape {
                self.proposed = shape;
                return;
            }
            self.shape = shape;
            self.tracks.clear();
            self.tracks.resize(fec.offset.into(), None);
            self.fresh.clear();
        }
        self.proposed = None;
        let residue = (span.base.value() % u64::from(fec.offset)) as u8;
        let track = self.tracks[usize::from(residue)].get_or_insert(Track { base: span.base, lag: None });
        track.base = track.base.max(span.base);
        track.lag = track.lag.map(|lag| lag - lag / 16);
        if self.fresh.len() < usize::from(u8::MAX) {
            self.fresh.push((residue, span.base));
        }
    }

    /// The newest media packet is this one.
    pub(super) fn media_came(&mut self, newest: ExtSeq) {
        if self.newest.replace(newest) == Some(newest) {
            return;
        }
        for (residue, base) in self.fresh.drain(..) {
            if let Some(Some(track)) = self.tracks.get_mut(usize::from(residue)) {
                track.lag = track.lag.max(Some(newest.since(base)));
            }
        }
    }

    /// The set that covers a media packet.
    pub(super) fn expected(&self, seq: ExtSeq) -> Expected {
        let Some((offset, na)) = self.shape else { return Expected::Nowhere };
        let track = self.tracks.get((seq.value() % u64::from(offset)) as usize).copied().flatten();
        let (Some(Track { base: known, lag: Some(lag) }), None) = (track, self.proposed) else {
            return Expected::Unknown;
        };
        let period = u64::from(offset) * u64::from(na);
        // Both are of one residue, and sets of one residue follow each other at this period.
        let base = if seq >= known {
            known.add(seq.since(known) / period * period)
        } else {
            known.sub(known.since(seq).div_ceil(period) * period)
        };
        Expected::Set { span: Span { base, offset, na }, due: base.add(lag) }
    }

    /// Offset and NA, while the stream lives.
    pub(super) fn shape(&self, now: Instant) -> Option<(u8, u8)> {
        self.shape.filter(|_| self.last.is_some_and(|last| now < last + SILENCE))
    }

    /// Whether any came since the media stream began.
    pub(super) const fn seen(&self) -> bool {
        self.last.is_some()
    }

    /// Count a FEC packet by its sequence number.
    pub(super) fn count(&mut self, seq: Seq) {
        self.counters.received += 1;
        let fresh = (ExtSeq::start(seq), u32::MAX);
        let (newest, bits) = self.recent.unwrap_or(fresh);
        let seq = newest.unwrap(seq);
        let (ahead, behind) = (seq.since(newest), newest.since(seq));
        self.recent = Some(if ahead > JUMP || behind > JUMP {
            fresh
        } else if ahead > 0 {
            let gone = ahead.min(u64::from(WINDOW)) as u32;
            // The bits that leave are those of packets that had their time.
            let left = bits.unbounded_shr(WINDOW - gone);
            self.counters.lost += ahead - u64::from(left.count_ones());
            (seq, bits.unbounded_shl(gone) | 1)
        } else if behind < u64::from(WINDOW) {
            let bit = 1 << behind;
            self.counters.duplicate += u64::from(self.recent.is_some() && bits & bit != 0);
            (newest, bits | bit)
        } else {
            (newest, bits)
        });
    }

    /// The media began anew: all that was told in its sequence numbers is void.
    pub(super) fn forget(&mut self) {
        (self.shape, self.proposed, self.last, self.newest) = (None, None, None, None);
        self.tracks.clear();
        self.fresh.clear();
    }
}
