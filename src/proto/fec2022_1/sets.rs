//! FEC packets that wait for their members.

use super::header::{FecHeader, FecStream, Parity};
use crate::proto::rtp::header::Header;
use crate::proto::rtp::slots::{SlotId, Slots};
use crate::proto::seq::ExtSeq;
use serde::{Deserialize, Serialize};

/// How many FEC packets wait at most; then the oldest goes. Two blocks of any matrix of the standard have at most 116.
const SETS: usize = 256;

/// The media packets that one FEC packet protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) base: ExtSeq,
    pub(super) offset: u8,
    pub(super) na: u8,
}

impl Span {
    pub(super) fn members(self) -> impl Iterator<Item = ExtSeq> {
        (0..self.na).map(move |i| self.base.add(u64::from(i) * u64::from(self.offset)))
    }

    pub(super) fn last(self) -> ExtSeq {
        self.base.add(u64::from(self.na - 1) * u64::from(self.offset))
    }
}

/// A FEC packet that waits.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Set {
    id: u32,
    pub(super) stream: FecStream,
    pub(super) span: Span,
    /// Members that are not there, at most: a lying FEC packet can make it too many, never too few.
    missing: u8,
    pub(super) parity: Parity,
    packet: SlotId,
}

/// FEC packets by number. Numbers begin at 1, and are not used twice (in 4 thousand million).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Sets {
    ring: Vec<Option<Set>>,
    slots: Slots,
    newest: u32,
}

impl Sets {
    /// FEC packets that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ring.iter().flatten().count()
    }

    /// Keep a FEC packet. `None`: no memory.
    pub(super) fn keep(&mut self, packet: &[u8], fec: &FecHeader, span: Span, missing: u8) -> Option<u32> {
        if self.ring.is_empty() {
            self.ring = vec![None; SETS];
        }
        let id = self.newest.wrapping_add(1).max(1);
        self.free(self.ring[id as usize % SETS].map_or(0, |oldest| oldest.id));
        let header = Header::new(super::header::FEC_PAYLOAD_TYPE, fec.seq, fec.timestamp, 0);
        let packet = self.slots.store(packet, &header)?;
        self.newest = id;
        self.ring[id as usize % SETS] = Some(Set { id, stream: fec.stream, span, missing, parity: fec.parity, packet });
        Some(id)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Set> {
        self.ring.get(id as usize % SETS)?.as_ref().filter(|set| set.id == id)
    }

    /// The whole FEC packet.
    pub(super) fn packet(&self, set: &Set) -> &[u8] {
        self.slots.packet(set.packet)
    }

    /// A member came. How many are missing now.
    pub(super) fn member_came(&mut self, id: u32) -> Option<u8> {
        let set = self.ring.get_mut(id as usize % SETS)?.as_mut().filter(|set| set.id == id)?;
        set.missing = set.missing.saturating_sub(1);
        Some(set.missing)
    }

    pub(super) fn missing(&self, id: u32) -> Option<u8> {
        self.get(id).map(|set| set.missing)
    }

    pub(super) fn free(&mut self, id: u32) {
        if let Some(place) = self.ring.get_mut(id as usize % SETS)
            && let Some(set) = place.take_if(|set| set.id == id)
        {
            self.slots.discard(set.packet);
        }
    }

    /// Forget all. Memory is kept.
    pub(super) fn clear(&mut self) {
        for set in self.ring.iter_mut().filter_map(Option::take) {
            self.slots.discard(set.packet);
        }
    }
}
