//! Copies of packets that wait. Memory is taken on first use, kept, and bounded.

use super::header::Header;
use serde::{Deserialize, Serialize};

/// A packet that was held back: ask [`super::receive::RtpReceiver::held`] for its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotId(u32);

/// Room that every slot has from the start: an Ethernet frame's worth.
const SLOT_LEN: usize = 1536;
/// Bytes that all slots together may take.
const LIMIT: usize = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    #[serde(with = "serde_bytes")]
    packet: Vec<u8>,
    header: Header,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::proto) struct Slots {
    slots: Vec<Slot>,
    free: Vec<SlotId>,
    /// Out of use, but the caller may still read them until the end of the batch.
    released: Vec<SlotId>,
    /// Capacity of all slots.
    bytes: usize,
}

impl Slots {
    /// Copy a packet; `None` when the memory is used up.
    pub(in crate::proto) fn store(&mut self, packet: &[u8], header: &Header) -> Option<SlotId> {
        let Some(id) = self.free.pop() else { return self.grow(packet, header) };
        let slot = &mut self.slots[id.0 as usize];
        let more = packet.len().saturating_sub(slot.packet.capacity());
        if self.bytes + more > LIMIT {
            self.free.push(id);
            return None;
        }
        self.bytes += more;
        slot.packet.clear();
        slot.packet.reserve_exact(packet.len());
        slot.packet.extend_from_slice(packet);
        slot.header = *header;
        Some(id)
    }

    fn grow(&mut self, packet: &[u8], header: &Header) -> Option<SlotId> {
        let capacity = packet.len().max(SLOT_LEN);
        if self.bytes + capacity > LIMIT {
            return None;
        }
        let id = SlotId(u32::try_from(self.slots.len()).ok()?);
        let mut copy = Vec::with_capacity(capacity);
        copy.extend_from_slice(packet);
        self.bytes += capacity;
        self.slots.push(Slot { packet: copy, header: *header });
        Some(id)
    }

    pub(in crate::proto) fn packet(&self, id: SlotId) -> &[u8] {
        &self.slots[id.0 as usize].packet
    }

    pub(in crate::proto) fn header(&self, id: SlotId) -> Header {
        self.slots[id.0 as usize].header
    }

    /// Give a slot back whose bytes nobody was told of.
    pub(in crate::proto) fn discard(&mut self, id: SlotId) {
        self.free.push(id);
    }

    /// Give a slot back at the next [`Slots::recycle`].
    pub(in crate::proto) fn release(&mut self, id: SlotId) {
        self.released.push(id);
    }

    pub(in crate::proto) fn recycle(&mut self) {
        self.free.append(&mut self.released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::seq::{RtpTime, Seq};

    const HEADER: Header = Header::new(33, Seq(0), RtpTime(0), 0);

    #[test]
    fn a_released_slot_is_readable_until_it_is_recycled() {
        let mut slots = Slots::default();
        let first = slots.store(b"first", &HEADER).unwrap();
        slots.release(first);
        let second = slots.store(b"second", &HEADER).unwrap();
        assert_eq!((slots.packet(first), slots.packet(second)), (&b"first"[..], &b"second"[..]));
        slots.recycle();
        assert_eq!(slots.store(b"third", &HEADER), Some(first));
        assert_eq!(slots.packet(first), b"third");
    }

    #[test]
    fn memory_is_bounded_for_packets_of_any_size() {
        let mut slots = Slots::default();
        let small: Vec<_> = std::iter::from_fn(|| slots.store(&[0; 100], &HEADER)).collect();
        assert_eq!(small.len(), LIMIT / SLOT_LEN);
        small.into_iter().for_each(|id| slots.discard(id));
        assert_eq!(slots.store(&[0; 60_000], &HEADER), None, "no slot may grow beyond the bound");
        assert!(slots.store(&[0; SLOT_LEN], &HEADER).is_some());
        let held: usize = slots.slots.iter().map(|slot| slot.packet.capacity()).sum();
        assert_eq!(held, slots.bytes);
    }
}
