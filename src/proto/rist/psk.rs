//! Encryption with a pre-shared passphrase (TR-06-2, section 7): AES in counter mode over everything behind the GRE header.
//!
//! The key is PBKDF2 with HMAC-SHA256, 1024 rounds, over the passphrase and the nonce of 4 bytes that every packet carries;
//! the counter begins with the packet's sequence number in its first 4 bytes. (The text of 2020 has it in the last 4, where
//! the counter of one packet runs into that of the next: such packets can be read, but are never sent.)
//!
//! It has no integrity: who knows the content can change it, and what was recorded can be played again.

use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore, consts::U16};
use aes::{Aes128Enc, Aes256Enc};
use ctr::{CtrCore, flavors::Ctr32BE};
use pbkdf2::pbkdf2_hmac;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

const ROUNDS: u32 = 1024;

/// How long a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyLength {
    /// AES-128.
    Aes128,
    /// AES-256.
    Aes256,
}

/// Which of two passphrases a nonce belongs to, while one replaces the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Parity {
    /// The first one.
    #[default]
    Even,
    /// The other one.
    Odd,
}

/// What a key is derived with besides the passphrase, as on the wire. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce([u8; 4]);

/// A key, expanded once; it clears itself.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "KeyBytes", into = "KeyBytes")]
pub struct Key {
    cipher: Box<Cipher>,
    bytes: Zeroizing<[u8; 32]>,
}

/// The same as it is handed over.
#[derive(Serialize, Deserialize)]
struct KeyBytes {
    length: KeyLength,
    bytes: [u8; 32],
}

impl Drop for KeyBytes {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl From<KeyBytes> for Key {
    fn from(from: KeyBytes) -> Self {
        Self::new(&from.bytes, from.length)
    }
}

impl From<Key> for KeyBytes {
    fn from(key: Key) -> Self {
        Self { length: key.length(), bytes: *key.bytes }
    }
}

#[derive(Clone)]
enum Cipher {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

/// Without what is secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.length()).finish()
    }
}

/// Where the sequence number lies in the first counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CounterForm {
    /// In the first 4 bytes.
    First,
    /// In the last 4: key stream is used twice.
    Last,
}

impl Nonce {
    /// A nonce to send with, from 4 random bytes that were never used for this passphrase. `None`: nothing but zeros are
    /// left of them; take others.
    pub fn new(random: [u8; 4], parity: Parity) -> Option<Self> {
        let [first, rest @ ..] = random;
        let top = if parity == Parity::Odd { 0x80 } else { 0 };
        Self::read([first & 0x7F | top, rest[0], rest[1], rest[2]])
    }

    /// As it was received; `None`: zero, which stands for none.
    pub(super) fn read(bytes: [u8; 4]) -> Option<Self> {
        (bytes != [0; 4]).then_some(Self(bytes))
    }

    /// As on the wire.
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// Which passphrase it is for.
    pub const fn parity(self) -> Parity {
        if self.0[0] & 0x80 == 0 { Parity::Even } else { Parity::Odd }
    }
}

impl Key {
    /// Derive the key of a passphrase and a nonce. This takes up to a millisecond: never on the packet path.
    pub fn derive(passphrase: &[u8], nonce: Nonce, length: KeyLength) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        let (short, _) = bytes.split_at_mut(16);
        match length {
            KeyLength::Aes128 => pbkdf2_hmac::<Sha256>(passphrase, &nonce.0, ROUNDS, short),
            KeyLength::Aes256 => pbkdf2_hmac::<Sha256>(passphrase, &nonce.0, ROUNDS, &mut *bytes),
        }
        Self::new(&bytes, length)
    }

    fn new(bytes: &[u8; 32], length: KeyLength) -> Self {
        let cipher = Box::new(match length {
            KeyLength::Aes128 => {
                let (short, _) = bytes.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
                Cipher::Aes128(Aes128Enc::new(short.into()))
            }
            KeyLength::Aes256 => Cipher::Aes256(Aes256Enc::new(bytes.into())),
        });
        Self { cipher, bytes: Zeroizing::new(*bytes) }
    }

    /// How long it is.
    pub const fn length(&self) -> KeyLength {
        match &*self.cipher {
            Cipher::Aes128(_) => KeyLength::Aes128,
            Cipher::Aes256(_) => KeyLength::Aes256,
        }
    }

    /// Encrypt, or decrypt, in place: with a counter that is the same.
    pub(super) fn apply(&self, seq: u32, form: CounterForm, bytes: &mut [u8]) {
        let counter = match form {
            CounterForm::First => u128::from(seq) << 96,
            CounterForm::Last => u128::from(seq),
        };
        match &*self.cipher {
            Cipher::Aes128(cipher) => apply(cipher, counter, bytes),
            Cipher::Aes256(cipher) => apply(cipher, counter, bytes),
        }
    }
}

fn apply<C: BlockCipherEncrypt<BlockSize = U16>>(cipher: &C, counter: u128, bytes: &mut [u8]) {
    let stream = CtrCore::<&C, Ctr32BE>::inner_iv_init(cipher, &counter.to_be_bytes().into());
    // The carry out of the last 4 bytes would only matter to the form that is not sent, at the end of its numbers.
    // It fails beyond 2^32 blocks.
    let _ = stream.try_apply_keystream_partial(bytes.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TR-06-2, appendix B.
    #[test]
    fn keys_are_derived_as_the_specification_shows() {
        let nonce = Nonce::read(*b"RIST").unwrap();
        let passphrase = b"Reliable Internet Stream Transport";
        let mut key = [0; 32];
        pbkdf2_hmac::<Sha256>(passphrase, &nonce.bytes(), ROUNDS, &mut key);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "1c2b0cfc90ae2638fea78c7fb297704718bff7f4052743001a9b7ebb51cc9f1c");
        for length in [KeyLength::Aes128, KeyLength::Aes256] {
            let (mut a, mut b) = ([0; 40], [0; 40]);
            Key::derive(passphrase, nonce, length).apply(7, CounterForm::First, &mut a);
            Key::new(&key, length).apply(7, CounterForm::First, &mut b);
            assert_eq!((a, Key::new(&key, length).length()), (b, length));
        }
    }

    /// The first packet of ristsender 0.2.7 with AES-128: SR and SDES in a tunnel.
    #[test]
    fn what_librist_encrypts_is_read() {
        let nonce = Nonce::read([0xDF, 0x96, 0x12, 0xD4]).unwrap();
        let key = Key::derive(b"secret-phrase", nonce, KeyLength::Aes128);
        let mut bytes = [
            0xF4, 0x55, 0x59, 0x5A, 0x5C, 0x4F, 0xFB, 0x3A, 0x33, 0xD0, 0x41, 0xD8, 0x9C, 0xCB, 0xC0, 0x39, 0x76, 0x36,
            0xA9, 0x0A, 0x16, 0x0E, 0x88, 0xD2, 0x3E, 0x6C, 0xC8, 0xE2, 0x5D, 0xDD, 0x53, 0x13, 0xA5, 0xD3, 0x79, 0xA9,
            0x9D, 0x1F, 0xC5, 0xC9, 0x43, 0xEC, 0x39, 0x95, 0x6A, 0xF1, 0xD1, 0x4A,
        ];
        key.apply(0, CounterForm::First, &mut bytes);
        assert_eq!(bytes[..8], [0x80, 0x00, 0x07, 0xB1, 0x80, 0xC8, 0x00, 0x06]);
        assert_eq!(bytes[32..38], [0x81, 0xCA, 0x00, 0x03, bytes[8], bytes[9]]);
        key.apply(0, CounterForm::Last, &mut bytes);
        assert_eq!(bytes[..4], [0xF4, 0x55, 0x59, 0x5A], "of number 0, both forms are the same");
    }

    #[test]
    fn the_form_that_is_sent_never_uses_a_block_of_the_key_stream_twice() {
        let key = Key::derive(b"secret-phrase", Nonce::read([1; 4]).unwrap(), KeyLength::Aes128);
        let stream = |seq, form| {
            let mut bytes = [0; 64];
            key.apply(seq, form, &mut bytes);
            bytes
        };
        assert_eq!(stream(5, CounterForm::Last)[16..], stream(6, CounterForm::Last)[..48], "the one that is not sent");
        let mut blocks: Vec<_> =
            (0..500).flat_map(|seq| stream(seq, CounterForm::First).as_chunks::<16>().0.to_vec()).collect();
        let count = blocks.len();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!(blocks.len(), count);
    }

    #[test]
    fn a_nonce_tells_the_passphrase_and_is_never_zero() {
        assert_eq!(Nonce::new([0x80, 0, 0, 0], Parity::Even), None);
        assert_eq!(Nonce::new([0; 4], Parity::Odd).map(Nonce::bytes), Some([0x80, 0, 0, 0]));
        for parity in [Parity::Even, Parity::Odd] {
            assert_eq!(Nonce::new([0xFF; 4], parity).map(Nonce::parity), Some(parity));
        }
        assert_eq!(Nonce::read([0; 4]), None);
    }
}
