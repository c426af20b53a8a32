//! Payloads that wait: bytes behind bytes in small blocks, so that a packet takes what it is long. They leave about as
//! they came, so blocks empty one after the other and are used again.

use serde::{Deserialize, Deserializer, Serialize};

/// Bytes of a block: memory grows and shrinks by this. No payload is longer.
pub(super) const BLOCK: usize = 16 << 10;

/// Where a payload lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    block: u32,
    start: u16,
    len: u16,
}

impl Place {
    /// Bytes of the payload.
    pub(super) const fn bytes(self) -> u16 {
        self.len
    }
}

/// All payloads of a connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    blocks: Vec<Block>,
    /// Numbers of the empty blocks that have their memory.
    free: Vec<u32>,
    /// Numbers of the blocks that have given theirs back.
    bare: Vec<u32>,
    /// The block that is being filled.
    filling: Option<u32>,
    /// Most blocks in use since the last [`Memory::trim`].
    peak: usize,
    /// Most blocks.
    limit: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Block {
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "block")]
    bytes: Vec<u8>,
    packets: u32,
}

/// One that was handed over, with room for what a block has room for.
fn block<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let mut bytes: Vec<u8> = serde_bytes::deserialize(from)?;
    if !bytes.is_empty() {
        bytes.reserve_exact(BLOCK.saturating_sub(bytes.len()));
    }
    Ok(bytes)
}

impl Memory {
    /// For so many bytes, at least two blocks.
    pub(super) fn new(bytes: usize) -> Self {
        Self { limit: bytes.div_ceil(BLOCK).clamp(2, u32::MAX as usize), ..Self::default() }
    }

    /// Copy a payload; `None` when the memory is used up.
    pub(super) fn store(&mut self, payload: &[u8]) -> Option<Place> {
        // Below 2^16, as a block's length is.
        let len = payload.len() as u16;
        if payload.len() > BLOCK {
            return None;
        }
        let room = |block: &Block| BLOCK - block.bytes.len() >= payload.len();
        let number = match self.filling {
            Some(number) if room(&self.blocks[number as usize]) => number,
            _ => self.next_block()?,
        };
        let block = &mut self.blocks[number as usize];
        let start = block.bytes.len() as u16;
        block.bytes.extend_from_slice(payload);
        block.packets += 1;
        Some(Place { block: number, start, len })
    }

    fn next_block(&mut self) -> Option<u32> {
        let number = if let Some(number) = self.free.pop() {
            number
        } else if let Some(number) = self.bare.pop() {
            number
        } else if self.blocks.len() < self.limit {
            self.blocks.push(Block::default());
            self.blocks.len() as u32 - 1
        } else {
            return None;
        };
        // Free ones have it, unless they were handed over.
        self.blocks[number as usize].bytes.reserve_exact(BLOCK);
        self.filling = Some(number);
        self.peak = self.peak.max(self.in_use());
        Some(number)
    }

    pub(super) fn payload(&self, place: Place) -> &[u8] {
        let start = usize::from(place.start);
        &self.blocks[place.block as usize].bytes[start..start + usize::from(place.len)]
    }

    pub(super) fn payload_mut(&mut self, place: Place) -> &mut [u8] {
        let start = usize::from(place.start);
        &mut self.blocks[place.block as usize].bytes[start..start + usize::from(place.len)]
    }

    /// Give a payload's room back.
    pub(super) fn discard(&mut self, place: Place) {
        let block = &mut self.blocks[place.block as usize];
        block.packets -= 1;
        if block.packets == 0 {
            block.bytes.clear();
            // That one is filled again from its beginning.
            if self.filling != Some(place.block) {
                self.free.push(place.block);
            }
        }
    }

    /// Give back the memory that was not needed since the last call; all of it when nothing is held.
    pub(super) fn trim(&mut self) {
        if self.blocks.iter().all(|block| block.packets == 0) {
            *self = Self { limit: self.limit, ..Self::default() };
            return;
        }
        while self.free.len() + self.in_use() > self.peak
            && let Some(number) = self.free.pop()
        {
            self.blocks[number as usize].bytes = Vec::new();
            self.bare.push(number);
        }
        self.peak = self.in_use();
    }

    fn in_use(&self) -> usize {
        self.blocks.len() - self.bare.len() - self.free.len()
    }

    /// Payloads of so many bytes that there is room for, at least.
    pub(super) fn room(&self, payload: usize) -> usize {
        (self.limit - self.in_use()) * (BLOCK / payload.clamp(1, BLOCK))
    }

    /// Bytes taken from the system.
    pub(super) fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| block.bytes.capacity()).sum::<usize>();
        let lists = self.free.capacity() + self.bare.capacity();
        blocks + self.blocks.capacity() * size_of::<Block>() + lists * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn memory_is_bounded_and_used_again() {
        let mut memory = Memory::new(64 * BLOCK);
        let per_block = BLOCK / 1316;
        assert_eq!(memory.room(1316), 64 * per_block);
        let all: Vec<_> = std::iter::from_fn(|| memory.store(&[7; 1316])).collect();
        assert_eq!((all.len(), memory.room(1316)), (64 * per_block, 0));
        assert!(memory.bytes() >= 64 * BLOCK && memory.bytes() < 65 * BLOCK);
        all.into_iter().for_each(|place| memory.discard(place));
        assert!(memory.store(&[0; BLOCK]).is_some());
        assert_eq!(memory.store(&[0; BLOCK + 1]), None);
        assert!(memory.store(&[]).is_some(), "an empty payload is one");
        assert!(memory.bytes() < 65 * BLOCK);
    }

    #[test]
    fn memory_that_is_no_longer_needed_is_given_back() {
        let mut memory = Memory::new(1 << 20);
        assert_eq!(memory.bytes(), 0);
        let held: Vec<_> = (0..400).filter_map(|_| memory.store(&[7; 1316])).collect();
        let most = memory.bytes();
        memory.trim();
        let (most_of_it, rest) = held.split_at(300);
        most_of_it.iter().for_each(|place| memory.discard(*place));
        memory.trim();
        assert!(memory.bytes() >= most, "it was in use since the last trim");
        memory.trim();
        assert!(memory.bytes() < 11 * BLOCK, "what the rest takes");
        rest.iter().for_each(|place| memory.discard(*place));
        memory.trim();
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn a_steady_stream_takes_what_its_window_holds() {
        let (mut memory, mut held) = (Memory::new(4 << 20), VecDeque::new());
        for n in 0..100_000_u32 {
            held.push_back((n, memory.store(&n.to_be_bytes().repeat(50)).unwrap()));
            if held.len() > 5000 {
                // Now and then the second one leaves first.
                let (first, place) = held.remove(usize::from(n % 7 == 0)).unwrap();
                assert_eq!(memory.payload(place)[196..], first.to_be_bytes());
                memory.discard(place);
            }
        }
        assert!(memory.bytes() <= 5000 * 200 + 5 * BLOCK, "{}", memory.bytes());
    }
}
