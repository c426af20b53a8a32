//! The loss list of a NAK (draft-sharabayko-srt, appendix A): single sequence numbers, and ranges.

use serde::{Deserialize, Serialize};

use super::control::{ControlError, NAK};
use super::packet::{self, CONTROL, HEADER_LEN};
use super::seq::{SeqNo, SocketId, Timestamp};

/// Set on the first of two words that make a range.
const RANGE: u32 = 0x8000_0000;

/// Packets that are missing, from the first to the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossRange {
    /// The first one.
    pub first: SeqNo,
    /// The last one, not before the first.
    pub last: SeqNo,
}

impl LossRange {
    /// One packet.
    pub const fn one(seq: SeqNo) -> Self {
        Self { first: seq, last: seq }
    }

    /// How many packets: at least 1, at most 2^30.
    pub const fn packets(&self) -> u32 {
        self.last.distance(self.first).unsigned_abs() + 1
    }
}

/// A loss list that was checked: at least one entry, every range in order. Read without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossRanges<'a>(&'a [[u8; 4]]);

impl<'a> LossRanges<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ControlError> {
        let (words @ [_, ..], []) = body.as_chunks::<4>() else {
            return Err(ControlError::Length { kind: NAK, len: body.len() });
        };
        let mut at = words.iter().map(|word| u32::from_be_bytes(*word));
        while let Some(first) = at.next() {
            if first & RANGE == 0 {
                continue;
            }
            let last = at.next().ok_or(ControlError::Range { kind: NAK })?;
            let last = SeqNo::from_wire(last).ok_or(ControlError::Sequence { kind: NAK })?;
            if last.is_before(SeqNo::new(first)) {
                return Err(ControlError::Range { kind: NAK });
            }
        }
        Ok(Self(words))
    }

    /// The entries, in the order in which they were written; they may overlap.
    pub fn ranges(&self) -> impl Iterator<Item = LossRange> + use<'a> {
        let mut words = self.0.iter().map(|word| u32::from_be_bytes(*word));
        std::iter::from_fn(move || {
            let first = words.next()?;
            // There is a last one: parsing saw to it.
            let last = if first & RANGE == 0 { first } else { words.next()? };
            Some(LossRange { first: SeqNo::new(first), last: SeqNo::new(last) })
        })
    }

    pub(super) const fn as_bytes(&self) -> &'a [u8] {
        self.0.as_flattened()
    }
}

/// Append a NAK to `out` that is at most `limit` bytes long, header included (`mss` less
/// [`UDP_HEADERS`](super::UDP_HEADERS)), and say how many of `losses` are in it; none: nothing was written.
///
/// What did not get in belongs into the next one.
pub fn write_nak(
    timestamp: Timestamp,
    destination: SocketId,
    losses: impl IntoIterator<Item = LossRange>,
    limit: usize,
    out: &mut Vec<u8>,
) -> usize {
    let start = out.len();
    out.extend(packet::header([CONTROL | u32::from(NAK) << 16, 0, timestamp.0, destination.0]));
    let mut written = 0;
    for LossRange { first, last } in losses {
        let size = if first == last { 4 } else { 8 };
        if out.len() - start + size > limit {
            break;
        }
        if first != last {
            out.extend((first.value() | RANGE).to_be_bytes());
        }
        out.extend(last.value().to_be_bytes());
        written += 1;
    }
    if out.len() == start + HEADER_LEN {
        out.truncate(start);
    }
    written
}
