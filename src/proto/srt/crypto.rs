//! Encryption: from the passphrase to the key that wraps, from there to the stream keys, and AES-CTR over payloads.
//!
//! The key encryption key is PBKDF2 with HMAC-SHA1, 2048 rounds, over the passphrase and the last 8 bytes of the salt;
//! stream keys are wrapped by RFC 3394. The counter of a packet is its sequence number at bytes 10 to 13, exclusive or
//! the first 14 bytes of the salt, with the number of the block in the last two. (The formula in section 6.2.2 of
//! draft-sharabayko-srt is another one; this is what libsrt does, and what the words there say.)

use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore, consts::U16};
use aes::{Aes128, Aes128Enc, Aes192, Aes192Enc, Aes256, Aes256Enc};
use aes_kw::AesKw;
use aes_kw::cipher::common::InnerInit;
use ctr::{CtrCore, flavors::Ctr32BE};
use pbkdf2::pbkdf2_hmac;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::km::{KeyLength, KeyMaterial, KeySet, SALT_LEN, Salt, WRAP_LEN};
use super::packet::Key;
use super::seq::SeqNo;

/// The shortest passphrase libsrt takes, in bytes.
pub const MIN_PASSPHRASE: usize = 10;
/// The longest passphrase every version of libsrt takes, in bytes.
pub const MAX_PASSPHRASE: usize = 79;
/// Bytes of the longest key.
pub const MAX_KEY: usize = 32;

const ROUNDS: u32 = 2048;
/// Bytes of two longest keys, wrapped.
const MAX_WRAPPED: usize = 2 * MAX_KEY + WRAP_LEN;

/// Why key material did not give keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// It was wrapped with another passphrase, or was damaged.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// It has another salt or key length than the key encryption key was derived for.
    #[error("the key encryption key is for another salt or key length")]
    OtherKek,
}

/// The key encryption key of one passphrase, salt and key length.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kek {
    salt: Salt,
    length: KeyLength,
    key: Zeroizing<[u8; MAX_KEY]>,
}

impl Kek {
    /// Derive it. This takes up to a millisecond: never on the packet path.
    pub fn derive(passphrase: &[u8], salt: Salt, length: KeyLength) -> Self {
        let mut key = Zeroizing::new([0; MAX_KEY]);
        let (_, tail) = salt.0.split_at(SALT_LEN - 8);
        pbkdf2_hmac::<Sha1>(passphrase, tail, ROUNDS, &mut key[..length.bytes()]);
        Self { salt, length, key }
    }

    /// The salt it was derived with.
    pub const fn salt(&self) -> Salt {
        self.salt
    }

    /// The key length it was derived for.
    pub const fn key_length(&self) -> KeyLength {
        self.length
    }

    /// Whether it was derived with the salt and for the key length of this key material.
    pub fn is_for(&self, km: &KeyMaterial<'_>) -> bool {
        self.salt == km.salt && self.length == km.key_length
    }

    /// The key material message of all stream keys that there are. `None`: there are none, or they have another salt or
    /// length.
    pub fn wrap(&self, keys: &StreamKeys) -> Option<Vec<u8>> {
        if keys.salt != self.salt || keys.length != self.length {
            return None;
        }
        let set = match (&keys.even, &keys.odd) {
            (Some(_), Some(_)) => KeySet::Both,
            (Some(_), None) => KeySet::Even,
            (None, Some(_)) => KeySet::Odd,
            (None, None) => return None,
        };
        let len = self.length.bytes();
        let mut plain = Zeroizing::new([0; 2 * MAX_KEY]);
        for (place, key) in plain.chunks_exact_mut(len).zip(keys.even.iter().chain(&keys.odd)) {
            place.copy_from_slice(key.secret.bytes());
        }
        let mut wrapped = [0; MAX_WRAPPED];
        let wrapped = self.wrap_into(&plain[..set.keys() * len], &mut wrapped)?;
        Some(KeyMaterial { keys: set, key_length: self.length, salt: self.salt, wrapped }.write())
    }

    /// The stream keys in a key material message.
    ///
    /// # Errors
    /// It was wrapped with another passphrase, or this key is for another salt or key length.
    pub fn unwrap(&self, km: &KeyMaterial<'_>) -> Result<StreamKeys, UnwrapError> {
        if !self.is_for(km) {
            return Err(UnwrapError::OtherKek);
        }
        let mut plain = Zeroizing::new([0; 2 * MAX_KEY]);
        let plain = plain.get_mut(..km.keys.keys() * self.length.bytes()).ok_or(UnwrapError::OtherKek)?;
        self.unwrap_into(km.wrapped, plain).ok_or(UnwrapError::WrongPassphrase)?;
        let (first, second) = plain.split_at(self.length.bytes());
        let secret = |key: &[u8]| {
            let mut bytes = Zeroizing::new([0; MAX_KEY]);
            bytes[..key.len()].copy_from_slice(key);
            StreamSecret { length: self.length, bytes }
        };
        let first_key = if km.keys == KeySet::Odd { Key::Odd } else { Key::Even };
        let mut keys = StreamKeys::new(self.salt, first_key, secret(first));
        if km.keys == KeySet::Both {
            keys.set(Key::Odd, secret(second));
        }
        Ok(keys)
    }

    fn wrap_into<'w>(&self, plain: &[u8], wrapped: &'w mut [u8]) -> Option<&'w [u8]> {
        let key = &self.key[..self.length.bytes()];
        match self.length {
            KeyLength::Aes128 => kw::<Aes128>(key)?.wrap_key(plain, wrapped).ok(),
            KeyLength::Aes192 => kw::<Aes192>(key)?.wrap_key(plain, wrapped).ok(),
            KeyLength::Aes256 => kw::<Aes256>(key)?.wrap_key(plain, wrapped).ok(),
        }
    }

    fn unwrap_into(&self, wrapped: &[u8], plain: &mut [u8]) -> Option<()> {
        let key = &self.key[..self.length.bytes()];
        match self.length {
            KeyLength::Aes128 => kw::<Aes128>(key)?.unwrap_key(wrapped, plain).ok()?,
            KeyLength::Aes192 => kw::<Aes192>(key)?.unwrap_key(wrapped, plain).ok()?,
            KeyLength::Aes256 => kw::<Aes256>(key)?.unwrap_key(wrapped, plain).ok()?,
        };
        Some(())
    }
}

fn kw<C: KeyInit>(key: &[u8]) -> Option<AesKw<C>> {
    C::new_from_slice(key).ok().map(AesKw::inner_init)
}

/// One stream key, as it goes into key material. Cleared when dropped.
#[derive(Clone, Serialize, Deserialize)]
pub struct StreamSecret {
    length: KeyLength,
    bytes: Zeroizing<[u8; MAX_KEY]>,
}

impl StreamSecret {
    /// A key of `length` from the first bytes of `random`, which must be fresh, unpredictable and used for nothing else.
    pub fn new(length: KeyLength, random: &[u8; MAX_KEY]) -> Self {
        let mut bytes = Zeroizing::new([0; MAX_KEY]);
        bytes[..length.bytes()].copy_from_slice(&random[..length.bytes()]);
        Self { length, bytes }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.bytes()]
    }
}

/// The stream keys of one direction: the one in use, and while it is being replaced also the other one.
///
/// Both directions begin with the same ones, and go apart with the first refresh.
#[derive(Clone, Serialize, Deserialize)]
pub struct StreamKeys {
    salt: Salt,
    length: KeyLength,
    even: Option<StreamKey>,
    odd: Option<StreamKey>,
}

impl StreamKeys {
    /// One key, as a connection begins with: libsrt takes the even one.
    pub fn new(salt: Salt, key: Key, secret: StreamSecret) -> Self {
        let mut keys = Self { salt, length: secret.length, even: None, odd: None };
        keys.set(key, secret);
        keys
    }

    /// The salt.
    pub const fn salt(&self) -> Salt {
        self.salt
    }

    /// How long the keys are.
    pub const fn key_length(&self) -> KeyLength {
        self.length
    }

    /// Whether this key is there.
    pub const fn has(&self, key: Key) -> bool {
        match key {
            Key::Even => self.even.is_some(),
            Key::Odd => self.odd.is_some(),
        }
    }

    /// Put a key in the place of the one that was there, if it is as long as the others; `false`: it is not.
    pub fn set(&mut self, key: Key, secret: StreamSecret) -> bool {
        let fits = secret.length == self.length;
        if fits {
            *self.place(key) = StreamKey::new(secret);
        }
        fits
    }

    /// Forget a key.
    pub fn remove(&mut self, key: Key) {
        *self.place(key) = None;
    }

    /// Take over the keys that a refresh brought, with their salt. Where it brought none, the present one stays if it
    /// has the same salt and length.
    pub fn merge(&mut self, fresh: Self) {
        if fresh.salt != self.salt || fresh.length != self.length {
            *self = fresh;
            return;
        }
        let Self { even, odd, .. } = fresh;
        self.even = even.or_else(|| self.even.take());
        self.odd = odd.or_else(|| self.odd.take());
    }

    /// Encrypt, or decrypt, a payload in place: with CTR that is the same. `false`: there is no such key, and the payload
    /// is as it was.
    #[must_use]
    pub fn apply(&self, key: Key, seq: SeqNo, payload: &mut [u8]) -> bool {
        let key = match key {
            Key::Even => &self.even,
            Key::Odd => &self.odd,
        };
        let Some(key) = key else { return false };
        key.apply(self.counter(seq), payload);
        true
    }

    /// The first counter block of a packet.
    fn counter(&self, seq: SeqNo) -> [u8; 16] {
        let salt = u128::from_be_bytes(self.salt.0) >> 16 << 16;
        (salt ^ u128::from(seq.value()) << 16).to_be_bytes()
    }

    const fn place(&mut self, key: Key) -> &mut Option<StreamKey> {
        match key {
            Key::Even => &mut self.even,
            Key::Odd => &mut self.odd,
        }
    }
}

/// A stream key, expanded once. It is handed over as it was before.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "StreamSecret", into = "StreamSecret")]
struct StreamKey {
    secret: StreamSecret,
    /// Boxed, as most of the time there is only one of the two. It clears itself, too.
    cipher: Box<Cipher>,
}

impl TryFrom<StreamSecret> for StreamKey {
    type Error = &'static str;

    fn try_from(secret: StreamSecret) -> Result<Self, Self::Error> {
        Self::new(secret).ok_or("a key has another length than it says")
    }
}

impl From<StreamKey> for StreamSecret {
    fn from(key: StreamKey) -> Self {
        key.secret
    }
}

#[derive(Clone)]
enum Cipher {
    Aes128(Aes128Enc),
    Aes192(Aes192Enc),
    Aes256(Aes256Enc),
}

impl StreamKey {
    /// `None` never comes: the secret is as long as the cipher wants it.
    fn new(secret: StreamSecret) -> Option<Self> {
        let key = secret.bytes();
        let cipher = match secret.length {
            KeyLength::Aes128 => Cipher::Aes128(Aes128Enc::new_from_slice(key).ok()?),
            KeyLength::Aes192 => Cipher::Aes192(Aes192Enc::new_from_slice(key).ok()?),
            KeyLength::Aes256 => Cipher::Aes256(Aes256Enc::new_from_slice(key).ok()?),
        };
        Some(Self { secret, cipher: Box::new(cipher) })
    }

    fn apply(&self, counter: [u8; 16], payload: &mut [u8]) {
        match &*self.cipher {
            Cipher::Aes128(cipher) => ctr(cipher, counter, payload),
            Cipher::Aes192(cipher) => ctr(cipher, counter, payload),
            Cipher::Aes256(cipher) => ctr(cipher, counter, payload),
        }
    }
}

fn ctr<C: BlockCipherEncrypt<BlockSize = U16>>(cipher: &C, counter: [u8; 16], payload: &mut [u8]) {
    let stream = CtrCore::<&C, Ctr32BE>::inner_iv_init(cipher, &counter.into());
    // It fails beyond 2^32 blocks.
    let _ = stream.try_apply_keystream_partial(payload.into());
}

#[cfg(test)]
mod tests;
