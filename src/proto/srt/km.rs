//! Key material messages (draft-sharabayko-srt, section 3.2.2): the stream keys, wrapped, as they go to the peer in the
//! handshake and at each refresh; and its answers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a salt.
pub const SALT_LEN: usize = 16;
/// What wrapping adds to the keys (RFC 3394).
pub(super) const WRAP_LEN: usize = 8;

/// Version 1 of a message of type 2, by Haivision.
const SIGNATURE: [u8; 3] = [0x12, 0x20, 0x29];
/// Bytes in front of the salt.
const HEAD_LEN: usize = 16;
const AES_CTR: u8 = 2;
const AES_GCM: u8 = 4;
const NO_AUTHENTICATION: u8 = 0;
const MPEG_TS_IN_SRT: u8 = 2;

/// How long the keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum KeyLength {
    /// 16 bytes.
    #[default]
    Aes128,
    /// 24 bytes.
    Aes192,
    /// 32 bytes.
    Aes256,
}

impl KeyLength {
    /// 16, 24 or 32.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// From 16, 24 or 32.
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            16 => Some(Self::Aes128),
            24 => Some(Self::Aes192),
            32 => Some(Self::Aes256),
            _ => None,
        }
    }

    /// As in a handshake: an eighth of the bytes.
    pub(super) const fn eighth(self) -> u16 {
        match self {
            Self::Aes128 => 2,
            Self::Aes192 => 3,
            Self::Aes256 => 4,
        }
    }
}

impl fmt::Display for KeyLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AES-{}", self.bytes() * 8)
    }
}

/// Which stream keys a message holds (the field KK).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeySet {
    /// 01.
    Even,
    /// 10.
    Odd,
    /// 11: first the even one, then the odd one.
    Both,
}

impl KeySet {
    /// How many keys: 1 or 2.
    pub const fn keys(self) -> usize {
        match self {
            Self::Even | Self::Odd => 1,
            Self::Both => 2,
        }
    }
}

/// The salt that is mixed into the passphrase and into every counter. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Salt(pub [u8; SALT_LEN]);

/// Why a key material message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KmError {
    /// Its length does not fit the keys it announces.
    #[error("key material of {0} bytes does not fit what it announces")]
    Length(usize),
    /// Not a message of this kind and version.
    #[error("not key material of version 1")]
    Signature,
    /// Neither or an unknown key is announced.
    #[error("key material without a key")]
    NoKey,
    /// Another cipher than AES-CTR; 4 is AES-GCM.
    #[error("cipher {0} is not supported, only AES-CTR")]
    Cipher(u8),
    /// An authentication that AES-CTR does not have, another stream than MPEG-TS in SRT, or a key encryption key that
    /// does not come from the passphrase.
    #[error("key material of an unsupported kind")]
    Unsupported,
    /// A salt that is not of 16 bytes.
    #[error("salt of {0} bytes, not 16")]
    SaltLength(usize),
    /// Keys that are not of 16, 24 or 32 bytes.
    #[error("keys of {0} bytes, not 16, 24 or 32")]
    KeyLength(usize),
}

impl KmError {
    /// What is answered in a KMRSP.
    pub const fn state(self) -> KmState {
        match self {
            Self::Cipher(AES_GCM) => KmState::BadCryptoMode,
            // libsrt's answer to what it cannot read.
            _ => KmState::NoSecret,
        }
    }
}

/// A key material message, checked. The keys in it are wrapped: [`Kek::unwrap`](super::crypto::Kek::unwrap).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMaterial<'a> {
    /// Which keys it holds.
    pub keys: KeySet,
    /// How long each one is.
    pub key_length: KeyLength,
    /// The salt of these keys.
    pub salt: Salt,
    /// The keys, wrapped: 8 bytes more than they are.
    pub wrapped: &'a [u8],
}

impl<'a> KeyMaterial<'a> {
    /// Read a whole message.
    ///
    /// # Errors
    /// Whatever [`KmError`] names.
    pub fn parse(message: &'a [u8]) -> Result<Self, KmError> {
        let length = KmError::Length(message.len());
        let Some((head, rest)) = message.split_first_chunk::<HEAD_LEN>() else { return Err(length) };
        let [s0, s1, s2, flags, kek @ .., c0, c1, c2, _, _, _, salt_words, key_words] = head;
        if [*s0, *s1, *s2] != SIGNATURE {
            return Err(KmError::Signature);
        }
        let keys = match flags & 3 {
            0 => return Err(KmError::NoKey),
            1 => KeySet::Even,
            2 => KeySet::Odd,
            _ => KeySet::Both,
        };
        if *c0 != AES_CTR {
            return Err(KmError::Cipher(*c0));
        }
        if [*c1, *c2] != [NO_AUTHENTICATION, MPEG_TS_IN_SRT] || *kek != [0; 4] {
            return Err(KmError::Unsupported);
        }
        let (salt_len, key_len) = (usize::from(*salt_words) * 4, usize::from(*key_words) * 4);
        if salt_len != SALT_LEN {
            return Err(KmError::SaltLength(salt_len));
        }
        let key_length = KeyLength::from_bytes(key_len).ok_or(KmError::KeyLength(key_len))?;
        let Some((salt, wrapped)) = rest.split_first_chunk::<SALT_LEN>() else { return Err(length) };
        if wrapped.len() != keys.keys() * key_len + WRAP_LEN {
            return Err(length);
        }
        Ok(Self { keys, key_length, salt: Salt(*salt), wrapped })
    }

    /// The whole message.
    pub fn write(&self) -> Vec<u8> {
        let flags = match self.keys {
            KeySet::Even => 1,
            KeySet::Odd => 2,
            KeySet::Both => 3,
        };
        let [s0, s1, s2] = SIGNATURE;
        let salt_words = (SALT_LEN / 4) as u8;
        // At most 8.
        let key_words = (self.key_length.bytes() / 4) as u8;
        let mut message = Vec::with_capacity(HEAD_LEN + SALT_LEN + self.wrapped.len());
        message.extend([s0, s1, s2, flags, 0, 0, 0, 0]);
        message.extend([AES_CTR, NO_AUTHENTICATION, MPEG_TS_IN_SRT, 0, 0, 0, salt_words, key_words]);
        message.extend(self.salt.0);
        message.extend(self.wrapped);
        message
    }
}

/// How far one end of a connection is with encryption, in the words of libsrt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KmState {
    /// 0: it has no passphrase, and got no keys.
    Unsecured,
    /// 1: it waits for an answer.
    Securing,
    /// 2: it has the keys.
    Secured,
    /// 3: it got keys, but has no passphrase.
    NoSecret,
    /// 4: its passphrase is another one.
    BadSecret,
    /// 5: it uses another cipher mode.
    BadCryptoMode,
}

impl KmState {
    const fn from_wire(word: u32) -> Option<Self> {
        Some(match word {
            0 => Self::Unsecured,
            1 => Self::Securing,
            2 => Self::Secured,
            3 => Self::NoSecret,
            4 => Self::BadSecret,
            5 => Self::BadCryptoMode,
            _ => return None,
        })
    }

    /// The body of a KMRSP that says so: one word, little-endian, as libsrt sends it.
    pub const fn write(self) -> [u8; 4] {
        (self as u32).to_le_bytes()
    }
}

/// What a peer answers to key material.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KmAnswer<'a> {
    /// It has the keys, if this is the message that was sent, byte for byte.
    Echo(&'a [u8]),
    /// It has not, and why. `None`: a state that is not known here.
    Failed(Option<KmState>),
}

impl<'a> KmAnswer<'a> {
    /// Read the body of a KMRSP, in the handshake or in a control packet; `None` when it is empty or not of whole words.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        match body.as_chunks::<4>() {
            ([word], []) => Some(Self::Failed(KmState::from_wire(u32::from_le_bytes(*word)))),
            ([_, ..], []) => Some(Self::Echo(body)),
            _ => None,
        }
    }
}

/// Fuzz body: parse anything; what parses is written again but for the bytes that nobody uses.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    if let Ok(km) = KeyMaterial::parse(data) {
        let again = km.write();
        assert_eq!(again.len(), data.len());
        assert_eq!(KeyMaterial::parse(&again), Ok(km));
    }
    if let Some(KmAnswer::Failed(Some(state))) = KmAnswer::parse(data) {
        assert_eq!(state.write(), data);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::{KM_1, KM_2, bytes};
    use super::*;

    #[test]
    fn key_material_of_libsrt_is_read_and_written_alike() {
        for (message, keys) in [(bytes(KM_1), KeySet::Even), (bytes(KM_2), KeySet::Both)] {
            let km = KeyMaterial::parse(&message).unwrap();
            assert_eq!((km.keys, km.key_length), (keys, KeyLength::Aes128));
            assert_eq!(km.salt.0.to_vec(), bytes("b9dd1f7a472830b28de2628548445f7c"));
            assert_eq!(km.write(), message);
        }
    }

    #[test]
    fn broken_key_material_is_named() {
        let with = |at: usize, byte: u8| {
            let mut message = bytes(KM_1);
            message[at] = byte;
            KeyMaterial::parse(&message).unwrap_err()
        };
        assert_eq!(with(0, 0x22), KmError::Signature);
        assert_eq!(with(2, 0x28), KmError::Signature);
        assert_eq!(with(3, 0), KmError::NoKey);
        assert_eq!(with(3, 3), KmError::Length(56), "both keys are announced, one is there");
        assert_eq!(with(7, 1), KmError::Unsupported, "the key encryption key is not that of the passphrase");
        assert_eq!(with(8, 4), KmError::Cipher(4));
        assert_eq!(with(9, 1), KmError::Unsupported);
        assert_eq!(with(10, 1), KmError::Unsupported);
        assert_eq!(with(14, 3), KmError::SaltLength(12));
        assert_eq!(with(15, 5), KmError::KeyLength(20));
        assert_eq!(with(15, 6), KmError::Length(56));
        let message = bytes(KM_1);
        for len in 0..message.len() {
            assert_eq!(KeyMaterial::parse(&message[..len]), Err(KmError::Length(len)));
        }
        assert_eq!(KmError::Cipher(4).state(), KmState::BadCryptoMode);
        assert_eq!(KmError::Signature.state(), KmState::NoSecret);
    }

    #[test]
    fn an_answer_is_an_echo_or_a_state_in_little_endian() {
        assert_eq!(KmAnswer::parse(&bytes("04000000")), Some(KmAnswer::Failed(Some(KmState::BadSecret))));
        assert_eq!(KmState::BadSecret.write().to_vec(), bytes("04000000"));
        assert_eq!(KmState::NoSecret.write().to_vec(), bytes("03000000"));
        assert_eq!(KmAnswer::parse(&bytes("00000004")), Some(KmAnswer::Failed(None)));
        let echo = bytes(KM_1);
        assert_eq!(KmAnswer::parse(&echo), Some(KmAnswer::Echo(&echo)));
        assert_eq!(KmAnswer::parse(&[]), None);
        assert_eq!(KmAnswer::parse(&[0; 5]), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            fuzz(&data);
        }

        #[test]
        fn nothing_that_looks_like_key_material_panics(
            flags in 0_u8..4,
            ends in (3_u8..6, 3_u8..10),
            rest in proptest::collection::vec(any::<u8>(), 20..100),
        ) {
            let head = [0x12, 0x20, 0x29, flags, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, ends.0, ends.1];
            fuzz(&[&head[..], &rest].concat());
        }
    }
}
