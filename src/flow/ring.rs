//! Copies of datagrams that wait for their time, first in, first out: bytes behind bytes in blocks, which are used again.
//! Memory grows by a block with what has to wait, up to a bound, and what it has it keeps. Nothing is ever moved: to copy
//! what waits into larger memory would hold up the flow.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Bytes of a block: the longest datagram fits.
const BLOCK: usize = 64 << 10;

/// Where a datagram lies in the ring.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::flow) struct Span {
    /// Blocks are counted from the ring's first on.
    block: u64,
    start: u32,
    len: u32,
}

/// First in, first out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::flow) struct Ring {
    /// Those in use, the oldest first; the last one is being filled.
    #[serde(with = "blocks")]
    blocks: VecDeque<Vec<u8>>,
    /// The number of the first of `blocks`.
    first: u64,
    /// Empty ones.
    #[serde(skip)]
    spare: Vec<Vec<u8>>,
    /// Of all blocks.
    capacity: usize,
    limit: usize,
}

/// As they are handed over: byte strings, not lists of numbers.
mod blocks {
    use std::collections::VecDeque;

    use serde::{Deserialize, Deserializer, Serializer};
    use serde_bytes::{ByteBuf, Bytes};

    pub(super) fn serialize<S: Serializer>(blocks: &VecDeque<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(blocks.iter().map(|block| Bytes::new(block)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VecDeque<Vec<u8>>, D::Error> {
        Ok(Vec::<ByteBuf>::deserialize(from)?.into_iter().map(ByteBuf::into_vec).collect())
    }
}

impl Ring {
    /// One that takes at most `limit` bytes of memory.
    pub(in crate::flow) const fn new(limit: usize) -> Self {
        Self { blocks: VecDeque::new(), first: 0, spare: Vec::new(), capacity: 0, limit }
    }

    /// Take at most `limit` bytes of memory from now on; what is taken already stays.
    pub(in crate::flow) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// It was handed over: its blocks are as long as what is in them.
    pub(in crate::flow) fn recount(&mut self) {
        self.capacity = self.blocks.iter().map(Vec::capacity).sum();
    }

    /// Copy a datagram. `None`: there is no room.
    pub(in crate::flow) fn push(&mut self, datagram: &[u8]) -> Option<Span> {
        let len = datagram.len();
        let block = match self.blocks.back_mut() {
            Some(last) if last.capacity() - last.len() >= len => last,
            _ => {
                let empty = self.empty(len)?;
                self.blocks.push_back(empty);
                self.blocks.back_mut()?
            }
        };
        let start = block.len() as u32;
        block.extend_from_slice(datagram);
        Some(Span { block: self.first + self.blocks.len() as u64 - 1, start, len: len as u32 })
    }

    /// A block with room for so many bytes.
    fn empty(&mut self, len: usize) -> Option<Vec<u8>> {
        if let Some(at) = self.spare.iter().rposition(|block| block.capacity() >= len) {
            return Some(self.spare.swap_remove(at));
        }
        let bytes = BLOCK.max(len).min(self.limit.saturating_sub(self.capacity));
        if bytes < len {
            return None;
        }
        let block = Vec::with_capacity(bytes);
        self.capacity += block.capacity();
        Some(block)
    }

    /// The bytes of a datagram that is held.
    pub(in crate::flow) fn get(&self, span: Span) -> &[u8] {
        &self.blocks[(span.block - self.first) as usize][span.start as usize..][..span.len as usize]
    }

    /// Free all before `oldest`; `None`: all.
    pub(in crate::flow) fn free_before(&mut self, oldest: Option<Span>) {
        let end = self.first + self.blocks.len() as u64;
        let keep = oldest.map_or(end, |span| span.block);
        while self.first < keep
            && let Some(mut block) = self.blocks.pop_front()
        {
            self.first += 1;
            block.clear();
            self.spare.push(block);
        }
    }

    /// Memory taken, in bytes.
    pub(in crate::flow) const fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_steady_stream_takes_what_its_window_holds() {
        let (mut ring, mut held) = (Ring::new(64 << 20), VecDeque::new());
        for n in 0..20_000_u32 {
            held.push_back(ring.push(&n.to_be_bytes().repeat(329)).unwrap());
            if held.len() > 1000 {
                held.pop_front();
                ring.free_before(held.front().copied());
                assert_eq!(ring.get(held[0])[..4], (n - 999).to_be_bytes());
            }
        }
        assert!(ring.capacity() <= 1000 * 1316 + 3 * BLOCK, "{}", ring.capacity());
        ring.free_before(None);
        assert!(ring.push(&[0; BLOCK]).is_some(), "a block of its own");
    }

    proptest! {
        /// Against a queue of vectors: any sizes, any rhythm.
        #[test]
        fn what_is_held_is_never_overwritten(
            limit in 1000_usize..200_000,
            steps in prop::collection::vec((1_usize..3000, 0_usize..4), 1..500),
        ) {
            let (mut ring, mut held) = (Ring::new(limit), VecDeque::<(Span, Vec<u8>)>::new());
            for (n, (len, free)) in steps.into_iter().enumerate() {
                let datagram = vec![(n % 251) as u8; len];
                match ring.push(&datagram) {
                    Some(span) => held.push_back((span, datagram)),
                    None => prop_assert!(ring.capacity() + len > limit),
                }
                for (span, datagram) in &held {
                    prop_assert_eq!(ring.get(*span), &datagram[..]);
                }
                // At times more leave than come, at times fewer.
                let free = if n / 50 % 2 == 0 { free / 2 } else { free };
                held.drain(..free.min(held.len()));
                ring.free_before(held.front().map(|(span, _)| *span));
                prop_assert!(ring.capacity() <= limit);
            }
        }
    }
}
