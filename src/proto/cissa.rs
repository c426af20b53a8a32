//! DVB-CISSA version 1: AES-128 in CBC mode over the payload of each transport-stream packet (ETSI TS 103 127 V1.1.1,
//! section 6.3).
//!
//! The chain begins anew with each packet, from an IV that never changes, so packets are independent of each other: eight
//! of them go through AES side by side. Header and adaptation field stay in clear, and so does what is left of a payload
//! after whole blocks of 16 bytes. Equal payloads give equal ciphertext, and nothing proves that a packet is the one that
//! was sent: this keeps others from watching, no more.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128Dec, Aes128Enc};
use zeroize::Zeroize;

use super::mpegts::packet::{PACKET_LEN, PacketHeader};

mod descrambler;
mod scrambler;

pub use descrambler::{DescrambleCounters, Descrambler};
pub use scrambler::{ScrambleCounters, Scrambler};

/// `DVBTMCPTAESCISSA`.
const IV: [u8; BLOCK] = *b"DVBTMCPTAESCISSA";
const BLOCK: usize = 16;
/// So many packets go side by side.
const LANES: usize = 8;

type Block = Array<u8, U16>;

/// A key of 128 bits. Whoever keeps it wipes it.
pub type Key = [u8; BLOCK];

/// Which of two keys: one is in use while the other may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// `transport_scrambling_control` 10.
    Even,
    /// `transport_scrambling_control` 11.
    Odd,
}

impl Parity {
    /// By `transport_scrambling_control`; `None`: neither.
    const fn of(scrambling: u8) -> Option<Self> {
        match scrambling {
            2 => Some(Self::Even),
            3 => Some(Self::Odd),
            _ => None,
        }
    }

    /// `transport_scrambling_control` in its place in the packet.
    const fn bits(self) -> u8 {
        match self {
            Self::Even => 0x80,
            Self::Odd => 0xC0,
        }
    }
}

/// Where `transport_scrambling_control` is, in the fourth byte.
const SCRAMBLING: u8 = 0xC0;

/// The blocks of a packet's payload; what is left after them stays in clear.
fn blocks(header: PacketHeader, packet: &mut [u8; PACKET_LEN]) -> &mut [[u8; BLOCK]] {
    let start = PACKET_LEN - header.payload_of(packet).len();
    packet[start..].as_chunks_mut().0
}

/// Packets that go through AES side by side.
struct Lanes<'p> {
    lanes: [&'p mut [[u8; BLOCK]]; LANES],
    len: usize,
}

impl<'p> Lanes<'p> {
    fn new() -> Self {
        Self { lanes: Default::default(), len: 0 }
    }

    /// Take a packet's blocks. Whether there is room for another packet.
    fn push(&mut self, blocks: &'p mut [[u8; BLOCK]]) -> bool {
        self.lanes[self.len] = blocks;
        self.len += 1;
        self.len < LANES
    }
}

/// A key made ready to encrypt.
struct Encryptor(Aes128Enc);

impl Encryptor {
    fn new(key: &Key) -> Self {
        Self(Aes128Enc::new(&Array::from(*key)))
    }

    /// Encrypt the payloads of packets, the first block of each at once, then the second of each, and so on.
    fn encrypt(&self, Lanes { lanes, len }: &mut Lanes<'_>) {
        let lanes = &mut lanes[..*len];
        // The longest first: those that have ended are at the end.
        lanes.sort_unstable_by_key(|lane| std::cmp::Reverse(lane.len()));
        let mut chain = [Block::from(IV); LANES];
        let mut left = lanes.len();
        for n in 0..lanes.first().map_or(0, |lane| lane.len()) {
            while lanes[left - 1].len() <= n {
                left -= 1;
            }
            for (chained, lane) in chain.iter_mut().zip(&lanes[..left]) {
                xor(chained, &lane[n]);
            }
            self.0.encrypt_blocks(&mut chain[..left]);
            for (chained, lane) in chain.iter().zip(&mut lanes[..left]) {
                lane[n] = (*chained).into();
            }
        }
    }
}

/// A key made ready to decrypt.
struct Decryptor(Aes128Dec);

impl Decryptor {
    fn new(key: &Key) -> Self {
        Self(Aes128Dec::new(&Array::from(*key)))
    }

    /// Decrypt a packet's payload: all of its blocks at once.
    fn decrypt(&self, blocks: &mut [[u8; BLOCK]]) {
        let mut plain = [Block::default(); PACKET_LEN / BLOCK];
        let plain = &mut plain[..blocks.len()];
        for (plain, block) in plain.iter_mut().zip(&*blocks) {
            *plain = Block::from(*block);
        }
        self.0.decrypt_blocks(plain);
        let mut chained = IV;
        for (plain, block) in plain.iter_mut().zip(blocks) {
            xor(plain, &chained);
            chained = std::mem::replace(block, (*plain).into());
        }
        plain.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
    }
}

fn xor(to: &mut Block, with: &[u8; BLOCK]) {
    to.iter_mut().zip(with).for_each(|(to, with)| *to ^= with);
}

#[cfg(test)]
mod tests;
