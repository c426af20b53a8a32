//! The receiver's side.

use super::{Decryptor, Key, Parity, SCRAMBLING, blocks};
use crate::proto::mpegts::packet::{PACKET_LEN, PacketHeader};

/// So many PES packets in a row that do not begin as one must: the key is a wrong one.
const WRONG: u8 = 8;

/// Counts since the descrambler was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DescrambleCounters {
    /// Packets decrypted.
    pub descrambled: u64,
    /// Scrambled packets for whose parity there is no key: they pass as they are.
    pub without_key: u64,
    /// Packets decrypted in which a PES packet should begin and does not: the key is a wrong one, or a packet is damaged.
    pub no_pes: u64,
}

/// Decrypts one transport stream.
pub struct Descrambler {
    keys: [Option<Decryptor>; 2],
    /// Beginnings in a row that were none, by parity.
    wrong: [u8; 2],
    counters: DescrambleCounters,
}

impl Descrambler {
    /// With the keys that there are.
    pub fn new(even: Option<&Key>, odd: Option<&Key>) -> Self {
        Self {
            keys: [even, odd].map(|key| key.map(Decryptor::new)),
            wrong: [0; 2],
            counters: DescrambleCounters::default(),
        }
    }

    /// Replace a key; it counts from the next packet on.
    pub fn set_key(&mut self, parity: Parity, key: Option<&Key>) {
        self.keys[parity as usize] = key.map(Decryptor::new);
        self.wrong[parity as usize] = 0;
    }

    /// The figures so far.
    pub const fn counters(&self) -> &DescrambleCounters {
        &self.counters
    }

    /// Whether the key of this parity is a wrong one: of the last 8 packets in which a PES packet should begin
    /// none did.
    pub const fn is_wrong(&self, parity: Parity) -> bool {
        self.wrong[parity as usize] >= WRONG
    }

    /// Decrypt a datagram's transport-stream packets in place.
    pub fn descramble(&mut self, payload: &mut [u8]) {
        for packet in payload.as_chunks_mut::<PACKET_LEN>().0 {
            let Some(header) = PacketHeader::parse(packet).filter(|header| !header.transport_error()) else { continue };
            let Some(parity) = Parity::of(header.scrambling()) else { continue };
            let Some(key) = &self.keys[parity as usize] else {
                self.counters.without_key += 1;
                continue;
            };
            packet[3] &= !SCRAMBLING;
            key.decrypt(blocks(header, packet));
            self.counters.descrambled += 1;
            // A payload of less than a block was never encrypted.
            let payload = header.payload_of(packet);
            if header.unit_start() && payload.len() >= super::BLOCK {
                let wrong = &mut self.wrong[parity as usize];
                if payload.starts_with(&[0, 0, 1]) {
                    *wrong = 0;
                } else {
                    *wrong = wrong.saturating_add(1);
                    self.counters.no_pes += 1;
                }
            }
        }
    }
}
