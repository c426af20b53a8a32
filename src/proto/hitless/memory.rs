//! Copies of the packets that wait: bytes behind bytes in blocks, so that a packet takes what it is long and no more.
//! Packets leave about as they came, so blocks empty one after the other and are used again.

use serde::{Deserialize, Serialize};

/// Where a held packet lies: ask [`super::Merger::held`] for its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotId {
    block: u32,
    start: u32,
    len: u32,
}

/// Bytes of a block: memory grows and shrinks by this. No datagram is longer.
const BLOCK: usize = 128 << 10;
/// Most blocks: 256 MiB, 200 Mbit/s for 10 s.
const BLOCKS: usize = 2048;
/// With fewer blocks left than this, memory is tight: room for what may come before packets are released.
const RESERVE: usize = 64;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::proto) struct Memory {
    blocks: Vec<Block>,
    /// Numbers of the empty blocks that have their memory.
    free: Vec<u32>,
    /// Numbers of the blocks that have given theirs back.
    bare: Vec<u32>,
    /// The block that is being filled.
    filling: Option<u32>,
    /// Out of use, but the caller may still read them until the end of the batch.
    released: Vec<SlotId>,
    released_bytes: usize,
    /// Most blocks in use since the last [`Memory::trim`].
    peak: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Block {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    packets: u32,
}

impl Memory {
    /// Copy a packet; `None` when the memory is used up.
    pub(in crate::proto) fn store(&mut self, packet: &[u8]) -> Option<SlotId> {
        if packet.len() > BLOCK {
            return None;
        }
        let room = |block: &Block| BLOCK - block.bytes.len() >= packet.len();
        let number = match self.filling {
            Some(number) if room(&self.blocks[number as usize]) => number,
            _ => self.next_block()?,
        };
        let block = &mut self.blocks[number as usize];
        // Both are at most BLOCK.
        let (start, len) = (block.bytes.len() as u32, packet.len() as u32);
        block.bytes.extend_from_slice(packet);
        block.packets += 1;
        Some(SlotId { block: number, start, len })
    }

    fn next_block(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            self.fill(number);
            return Some(number);
        }
        let number = match self.bare.pop() {
            Some(number) => number,
            None if self.blocks.len() < BLOCKS => {
                self.blocks.push(Block::default());
                self.blocks.len() as u32 - 1
            }
            None => return None,
        };
        self.blocks[number as usize].bytes.reserve_exact(BLOCK);
        self.fill(number);
        Some(number)
    }

    fn fill(&mut self, number: u32) {
        let full = self.filling.replace(number);
        // The last packet of the block may have left while it was being filled.
        if let Some(full) = full.filter(|full| self.blocks[*full as usize].packets == 0) {
            self.blocks[full as usize].bytes.clear();
            self.free.push(full);
        }
        self.peak = self.peak.max(self.in_use());
    }

    pub(in crate::proto) fn packet(&self, slot: SlotId) -> &[u8] {
        let start = slot.start as usize;
        &self.blocks[slot.block as usize].bytes[start..start + slot.len as usize]
    }

    /// Give a packet's room back whose bytes nobody was told of.
    pub(in crate::proto) fn discard(&mut self, slot: SlotId) {
        let block = &mut self.blocks[slot.block as usize];
        block.packets -= 1;
        if block.packets == 0 && self.filling != Some(slot.block) {
            block.bytes.clear();
            self.free.push(slot.block);
        }
    }

    /// Give a packet's room back at the next [`Memory::recycle`].
    pub(in crate::proto) fn release(&mut self, slot: SlotId) {
        self.released.push(slot);
        self.released_bytes += slot.len as usize;
    }

    pub(in crate::proto) fn recycle(&mut self) {
        while let Some(slot) = self.released.pop() {
            self.discard(slot);
        }
        self.released_bytes = 0;
        if self.in_use() <= 1 {
            // Next to nothing is held: the stream may have ended.
            self.shrink(2);
        }
    }

    /// Give back free blocks while there are more than `keep` in all.
    fn shrink(&mut self, keep: usize) {
        while self.free.len() + self.in_use() > keep
            && let Some(number) = self.free.pop()
        {
            self.blocks[number as usize].bytes = Vec::new();
            self.bare.push(number);
        }
    }

    fn in_use(&self) -> usize {
        self.blocks.len() - self.bare.len() - self.free.len()
    }

    /// Whether packets should leave before their time. Those that were released and not recycled yet count as gone.
    pub(in crate::proto) fn tight(&self) -> bool {
        self.in_use() > BLOCKS - RESERVE + self.released_bytes / BLOCK
    }

    /// Give back the memory that was not needed since the last call.
    pub(in crate::proto) fn trim(&mut self) {
        self.shrink(self.peak);
        self.peak = self.in_use();
    }

    /// Bytes of all blocks.
    pub(in crate::proto) fn bytes(&self) -> usize {
        (self.in_use() + self.free.len()) * BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_packet_is_readable_until_it_is_recycled() {
        let mut memory = Memory::default();
        let first = memory.store(b"first").unwrap();
        let second = memory.store(b"second").unwrap();
        memory.release(first);
        assert_eq!((memory.packet(first), memory.packet(second)), (&b"first"[..], &b"second"[..]));
        memory.recycle();
        assert_eq!(memory.packet(second), b"second");
    }

    #[test]
    fn memory_is_bounded_and_used_again() {
        let mut memory = Memory::default();
        let all: Vec<_> = std::iter::from_fn(|| memory.store(&[7; 1328])).collect();
        assert_eq!(all.len(), BLOCKS * (BLOCK / 1328));
        assert_eq!(memory.bytes(), BLOCKS * BLOCK);
        assert!(memory.tight());
        all.into_iter().for_each(|slot| memory.discard(slot));
        assert!(!memory.tight());
        assert!(memory.store(&[0; 65_535]).is_some());
        assert_eq!(memory.store(&[0; BLOCK + 1]), None);
        assert_eq!(memory.bytes(), BLOCKS * BLOCK);
    }

    #[test]
    fn memory_that_is_no_longer_needed_is_given_back() {
        let mut memory = Memory::default();
        let held: Vec<_> = (0..1000).filter_map(|_| memory.store(&[7; 1328])).collect();
        let most = memory.bytes();
        assert_eq!(most, 11 * BLOCK);
        memory.trim();
        let (most_of_it, rest) = held.split_at(800);
        most_of_it.iter().for_each(|slot| memory.release(*slot));
        memory.recycle();
        memory.trim();
        assert_eq!(memory.bytes(), most, "they were in use since the last trim");
        memory.trim();
        assert_eq!(memory.bytes(), 3 * BLOCK, "what the rest takes");
        rest.iter().for_each(|slot| memory.release(*slot));
        memory.recycle();
        assert_eq!(memory.bytes(), 2 * BLOCK, "nothing is held, and the next stream begins at once");
    }

    #[test]
    fn a_steady_stream_takes_what_its_window_holds() {
        let (mut memory, mut held) = (Memory::default(), std::collections::VecDeque::new());
        for n in 0..100_000_u32 {
            held.push_back((n, memory.store(&n.to_be_bytes().repeat(50)).unwrap()));
            if held.len() > 5000 {
                let (first, slot) = held.pop_front().unwrap();
                assert_eq!(memory.packet(slot)[196..], first.to_be_bytes());
                memory.release(slot);
                memory.recycle();
            }
        }
        assert!(memory.bytes() <= 5000 * 200 + 2 * BLOCK, "{}", memory.bytes());
    }
}
