use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::vectors::{KM_1, KM_2, PASSPHRASE, bytes};
use super::*;

static KEK: LazyLock<Kek> = LazyLock::new(|| Kek::derive(PASSPHRASE, SALT, KeyLength::Aes128));
const SALT: Salt = Salt(*b"\xb9\xdd\x1f\x7a\x47\x28\x30\xb2\x8d\xe2\x62\x85\x48\x44\x5f\x7c");

fn unwrapped(message: &str) -> StreamKeys {
    KEK.unwrap(&KeyMaterial::parse(&bytes(message)).unwrap()).unwrap()
}

fn secret(key: &Option<StreamKey>) -> Vec<u8> {
    key.as_ref().unwrap().secret.bytes().to_vec()
}

#[test]
fn the_key_encryption_key_comes_from_the_last_half_of_the_salt() {
    assert_eq!(KEK.key[..16].to_vec(), bytes("7ed3220c221a0c1719713f74550c2cc7"));
    let mut other = SALT;
    other.0[7] ^= 1;
    assert_eq!(Kek::derive(PASSPHRASE, other, KeyLength::Aes128).key, KEK.key);
    other.0[8] ^= 1;
    assert_ne!(Kek::derive(PASSPHRASE, other, KeyLength::Aes128).key, KEK.key);
}

#[test]
fn the_even_key_of_libsrt_is_unwrapped_and_wrapped_alike() {
    let keys = unwrapped(KM_1);
    assert!(keys.has(Key::Even) && !keys.has(Key::Odd));
    assert_eq!(secret(&keys.even), bytes("356142da75567ec4f48977995ee923f1"));
    assert_eq!(KEK.wrap(&keys), Some(bytes(KM_1)));
}

#[test]
fn both_keys_of_libsrt_are_unwrapped_and_wrapped_alike() {
    let keys = unwrapped(KM_2);
    assert_eq!(secret(&keys.even), bytes("356142da75567ec4f48977995ee923f1"));
    assert_eq!(secret(&keys.odd), bytes("541783a411ee49caa717f26b58407ba2"));
    assert_eq!(KEK.wrap(&keys), Some(bytes(KM_2)));
}

#[test]
fn data_packets_of_libsrt_are_decrypted_and_encrypted_alike() {
    let keys = unwrapped(KM_2);
    let packets = [
        (Key::Even, 0x5f5b_f8a5, "106570f5eed03bb938abd11b83e0a2b5", "edc1933f0b6714a7c3aaaa1bba60dbff"),
        (Key::Odd, 0x5f5b_f9d1, "a004244a43e4ce5e2f7a3db2e3ea4994", "a86bb88c7697999a8cab9aded15bf39a"),
    ];
    for (key, seq, cipher, plain) in packets {
        let mut payload = bytes(cipher);
        assert!(keys.apply(key, SeqNo::new(seq), &mut payload));
        assert_eq!(payload, bytes(plain));
        assert!(keys.apply(key, SeqNo::new(seq), &mut payload));
        assert_eq!(payload, bytes(cipher));
    }
    assert_eq!(keys.counter(SeqNo::new(0x5f5b_f8a5)).to_vec(), bytes("b9dd1f7a472830b28de23ddeb0e10000"));
    assert_eq!(keys.counter(SeqNo::new(0x5f5b_f9d1)).to_vec(), bytes("b9dd1f7a472830b28de23ddeb1950000"));
}

#[test]
fn a_wrong_passphrase_is_told_apart_from_a_key_for_another_salt_or_length() {
    let message = bytes(KM_1);
    let km = KeyMaterial::parse(&message).unwrap();
    let wrong = Kek::derive(b"not this one", SALT, KeyLength::Aes128);
    assert_eq!(wrong.unwrap(&km).err(), Some(UnwrapError::WrongPassphrase));
    let mut salt = SALT;
    salt.0[0] ^= 1;
    let other = Kek::derive(PASSPHRASE, salt, KeyLength::Aes128);
    assert_eq!(other.unwrap(&km).err(), Some(UnwrapError::OtherKek));
    let longer = Kek::derive(PASSPHRASE, SALT, KeyLength::Aes256);
    assert_eq!(longer.unwrap(&km).err(), Some(UnwrapError::OtherKek));
    assert!(KEK.is_for(&km) && !longer.is_for(&km));
}

#[test]
fn a_damaged_message_is_a_wrong_passphrase() {
    let golden = bytes(KM_1);
    for at in 32..golden.len() {
        let mut message = golden.clone();
        message[at] ^= 0x40;
        let km = KeyMaterial::parse(&message).unwrap();
        assert_eq!(KEK.unwrap(&km).err(), Some(UnwrapError::WrongPassphrase), "byte {at}");
    }
}

#[test]
fn without_its_key_a_payload_stays_as_it_is() {
    let mut keys = unwrapped(KM_1);
    let mut payload = *b"media";
    assert!(!keys.apply(Key::Odd, SeqNo::new(1), &mut payload));
    keys.remove(Key::Even);
    assert!(!keys.apply(Key::Even, SeqNo::new(1), &mut payload));
    assert_eq!(&payload, b"media");
    assert_eq!(KEK.wrap(&keys), None, "there is nothing to send");
}

#[test]
fn a_refresh_brings_a_key_and_keeps_the_other() {
    let mut keys = unwrapped(KM_1);
    let odd = StreamKeys::new(SALT, Key::Odd, StreamSecret::new(KeyLength::Aes128, &[7; MAX_KEY]));
    keys.merge(odd.clone());
    assert!(keys.has(Key::Even) && keys.has(Key::Odd));
    assert_eq!(secret(&keys.odd), [7; 16]);

    let other_salt = StreamKeys::new(Salt([1; 16]), Key::Odd, StreamSecret::new(KeyLength::Aes128, &[8; MAX_KEY]));
    keys.merge(other_salt);
    assert!(!keys.has(Key::Even), "the even key is of no use with another salt");
    assert_eq!(keys.salt(), Salt([1; 16]));
    assert_eq!(KEK.wrap(&keys), None, "this key is not for that salt");
    assert!(!keys.set(Key::Even, StreamSecret::new(KeyLength::Aes256, &[9; MAX_KEY])), "not as long as the odd one");
    assert!(!keys.has(Key::Even));
}

#[test]
fn keys_of_every_length_go_the_whole_way() {
    for length in [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256] {
        let random = std::array::from_fn(|at| at as u8);
        let mut keys = StreamKeys::new(SALT, Key::Even, StreamSecret::new(length, &random));
        keys.set(Key::Odd, StreamSecret::new(length, &[0x55; MAX_KEY]));
        let kek = Kek::derive(PASSPHRASE, SALT, length);
        let message = kek.wrap(&keys).unwrap();
        let km = KeyMaterial::parse(&message).unwrap();
        assert_eq!((km.keys, km.key_length), (KeySet::Both, length));
        let again = kek.unwrap(&km).unwrap();
        assert_eq!(secret(&again.even), random[..length.bytes()]);
        assert_eq!(secret(&again.odd), [0x55; MAX_KEY][..length.bytes()]);

        let mut payload = [0x47; 1316];
        assert!(keys.apply(Key::Odd, SeqNo::MAX, &mut payload));
        assert_ne!(payload, [0x47; 1316]);
        assert!(again.apply(Key::Odd, SeqNo::MAX, &mut payload));
        assert_eq!(payload, [0x47; 1316]);
    }
}

proptest! {
    #[test]
    fn every_block_has_a_counter_of_its_own(salt: [u8; 16], a: u32, b: u32) {
        let keys = StreamKeys::new(Salt(salt), Key::Even, StreamSecret::new(KeyLength::Aes128, &[0; MAX_KEY]));
        let (a, b) = (SeqNo::new(a), SeqNo::new(b));
        let counter = keys.counter(a);
        prop_assert_eq!(counter[14..].to_vec(), vec![0, 0], "room for 65,536 blocks");
        prop_assert_eq!(counter == keys.counter(b), a == b);
    }
}
