use proptest::prelude::*;

use super::*;
use crate::proto::mpegts::packet::{NULL_PID, SYNC};
use crate::proto::mpegts::test_stream::{DATA_PID, PMT_PID, TestStream};
use crate::time::Instant;

type Packet = [u8; PACKET_LEN];

/// ETSI TS 103 127, annex B.
const KEY: Key = 0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF_u128.to_be_bytes();
const TEXT: &[u8] = b"This is the payload used for creating the test vectors for the DVB IPTV scrambler/descrambler. ";
/// What the first 176 bytes of it become.
const CIPHER: &str = "15CE67E0CB01B53CE76054E57A4AD120A0DFA4EAAAE932C6783F51AE19FAEE108BDB78F3113EC2B572CC208500A52CECA114126C\
                      58244DF563E7A9B4E041CBC3FBFFFBD83C8FBFFB10E83EA38204BAD702FB01A27B622C4F85AAB6AA75559720D65AB844CEA28CF2\
                      E1FE5E7AC19D44818919C23249F140757B5D16C0AF45B25F509B9DA0619712C59F0B39B06F1FBE90123F212983936A95317FCB62\
                      F4346A1B1E164840303AFF838A019BF810A8E0B2";
const OTHER: Key = [7; BLOCK];

/// A packet of annex B, with so many bytes of adaptation field.
fn vector(adaptation: usize) -> Packet {
    let mut packet = [0xFF; PACKET_LEN];
    packet[..4].copy_from_slice(&[SYNC, 0x60, 0x80, if adaptation > 0 { 0x31 } else { 0x11 }]);
    if adaptation > 0 {
        packet[4..6].copy_from_slice(&[(adaptation - 1) as u8, 0]);
    }
    let payload = &mut packet[4 + adaptation..];
    payload.iter_mut().zip(TEXT.iter().cycle()).for_each(|(to, from)| *to = *from);
    packet
}

fn encrypt(key: &Key, packets: &mut [Packet]) {
    let mut lanes = Lanes::new();
    for packet in packets {
        let header = PacketHeader::parse(packet).unwrap();
        assert!(lanes.push(blocks(header, packet)), "fewer than {LANES}");
    }
    Encryptor::new(key).encrypt(&mut lanes);
}

#[test]
fn the_vectors_of_the_standard() {
    let mut packets = [0, 7, 8, 9].map(vector);
    encrypt(&KEY, &mut packets);
    let cipher: Vec<u8> =
        CIPHER.as_bytes().chunks(2).map(|hex| u8::from_str_radix(str::from_utf8(hex).unwrap(), 16).unwrap()).collect();
    assert_eq!(cipher.len(), 176);
    for (packet, (adaptation, whole)) in packets.iter().zip([(0, 176), (7, 176), (8, 176), (9, 160)]) {
        let payload = &packet[4 + adaptation..];
        assert_eq!(payload[..whole], cipher[..whole], "{adaptation}");
        assert_eq!(packet[..4 + adaptation], vector(adaptation)[..4 + adaptation]);
        assert_eq!(payload[whole..], vector(adaptation)[4 + adaptation + whole..], "the rest stays in clear");
    }
    let decryptor = Decryptor::new(&KEY);
    for (packet, adaptation) in packets.iter_mut().zip([0, 7, 8, 9]) {
        decryptor.decrypt(blocks(PacketHeader::parse(packet).unwrap(), packet));
        assert_eq!(*packet, vector(adaptation));
    }
}

/// A test stream, which begins with a PAT and a PMT: the first `packets` packets.
fn stream(packets: usize) -> Vec<u8> {
    let mut bytes = vec![0; packets * PACKET_LEN];
    TestStream::new(1, 2_000_000).fill(&mut bytes);
    bytes
}

fn packets(bytes: &[u8]) -> impl Iterator<Item = (PacketHeader, &Packet)> {
    bytes.as_chunks::<PACKET_LEN>().0.iter().map(|packet| (PacketHeader::parse(packet).unwrap(), packet))
}

fn scramble(scrambler: &mut Scrambler, bytes: &mut [u8]) {
    bytes.chunks_mut(7 * PACKET_LEN).for_each(|datagram| scrambler.scramble(datagram, Instant::now()));
}

#[test]
fn what_the_tables_name_is_hidden_and_comes_back_whole() {
    let clear = stream(700);
    let mut bytes = clear.clone();
    let mut scrambler = Scrambler::new(Some(&KEY), None);
    scramble(&mut scrambler, &mut bytes);
    for ((header, packet), (_, before)) in packets(&bytes).zip(packets(&clear)) {
        if header.pid() == DATA_PID {
            assert_eq!(header.scrambling(), 2, "even");
            assert_ne!(packet[172..], before[172..]);
        } else {
            assert_eq!(packet, before, "tables and null packets");
        }
    }
    let data = packets(&clear).filter(|(header, _)| header.pid() == DATA_PID).count() as u64;
    assert_eq!(*scrambler.counters(), ScrambleCounters { scrambled: data, already: 0, withheld: 0 });
    let mut descrambler = Descrambler::new(Some(&KEY), None);
    bytes.chunks_mut(7 * PACKET_LEN).for_each(|datagram| descrambler.descramble(datagram));
    assert_eq!(bytes, clear);
    assert_eq!(descrambler.counters().descrambled, data);
}

#[test]
fn nothing_is_in_clear_before_the_tables_or_on_pids_they_do_not_name() {
    let mut scrambler = Scrambler::new(Some(&KEY), None);
    // Without PAT and PMT.
    let mut early = stream(9)[2 * PACKET_LEN..].to_vec();
    scramble(&mut scrambler, &mut early);
    assert!(packets(&early).all(|(header, _)| header.pid() == NULL_PID), "what is withheld leaves a null packet");
    assert_eq!(scrambler.counters().withheld, 7);
    let mut known = stream(7);
    scramble(&mut scrambler, &mut known);
    let mut other = vector(0);
    other[2] = 0x81;
    scramble(&mut scrambler, &mut other);
    assert_eq!(packets(&other).next().unwrap().0.pid(), NULL_PID);
    // Not even what says that it is scrambled, or is no packet at all.
    let mut pretending = vector(0);
    (pretending[2], pretending[3]) = (0x81, 0x91);
    scramble(&mut scrambler, &mut pretending);
    assert_eq!(packets(&pretending).next().unwrap().0.pid(), NULL_PID);
    let mut junk = [0x11; PACKET_LEN + 5];
    scramble(&mut scrambler, &mut junk);
    assert_eq!((junk[0], &junk[PACKET_LEN..]), (SYNC, &[0; 5][..]));
}

#[test]
fn what_is_scrambled_already_passes_and_what_is_too_short_is_marked() {
    let mut scrambler = Scrambler::new(Some(&KEY), None);
    scramble(&mut scrambler, &mut stream(7));
    let of_data = |mut packet: Packet| {
        packet[1..3].copy_from_slice(&DATA_PID.to_be_bytes());
        packet
    };
    let mut already = of_data(vector(0));
    already[3] |= 0xC0;
    let before = already;
    scramble(&mut scrambler, &mut already);
    assert_eq!((already, scrambler.counters().already), (before, 1));
    let short = of_data(vector(170));
    let mut marked = short;
    scramble(&mut scrambler, &mut marked);
    assert_eq!((marked[3] & SCRAMBLING, &marked[4..]), (0x80, &short[4..]));
    Descrambler::new(Some(&KEY), None).descramble(&mut marked);
    assert_eq!(marked, short);
}

#[test]
fn keys_change_by_parity_without_a_packet_lost() {
    let clear = stream(700);
    let mut bytes = clear.clone();
    let mut scrambler = Scrambler::new(Some(&KEY), Some(&OTHER));
    let mut descrambler = Descrambler::new(Some(&KEY), Some(&OTHER));
    for (n, datagram) in bytes.chunks_mut(7 * PACKET_LEN).enumerate() {
        scrambler.set_parity(if n / 10 % 2 == 0 { Parity::Even } else { Parity::Odd });
        scrambler.scramble(datagram, Instant::now());
        let parities: Vec<_> =
            packets(datagram).filter(|(h, _)| h.pid() == DATA_PID).map(|(h, _)| h.scrambling()).collect();
        assert!(parities.iter().all(|parity| Parity::of(*parity) == Some(scrambler.parity())));
        descrambler.descramble(datagram);
    }
    assert_eq!(bytes, clear);
    // A key that is gone lets nothing out.
    scrambler.set_parity(Parity::Odd);
    scrambler.set_key(Parity::Odd, None);
    let mut more = stream(7);
    scramble(&mut scrambler, &mut more);
    assert!(packets(&more).all(|(header, _)| header.pid() != DATA_PID));
}

#[test]
fn a_wrong_key_is_noticed_by_what_does_not_begin() {
    let mut pes = vector(0);
    pes[4..8].copy_from_slice(&[0, 0, 1, 0xE0]);
    let (mut right, mut wrong) = (Descrambler::new(Some(&KEY), None), Descrambler::new(Some(&OTHER), None));
    for n in 0..20 {
        assert_eq!(wrong.is_wrong(Parity::Even), n >= 8, "{n}");
        let mut packets = [pes];
        encrypt(&KEY, &mut packets);
        packets[0][3] |= 0x80;
        let mut copy = packets[0];
        right.descramble(&mut packets[0]);
        assert_eq!(packets[0], pes);
        wrong.descramble(&mut copy);
    }
    assert!(!right.is_wrong(Parity::Even));
    assert_eq!((right.counters().no_pes, wrong.counters().no_pes), (0, 20));
    wrong.set_key(Parity::Even, Some(&KEY));
    assert!(!wrong.is_wrong(Parity::Even));
    let mut odd = pes;
    odd[3] |= 0xC0;
    let before = odd;
    right.descramble(&mut odd);
    assert_eq!((odd, right.counters().without_key), (before, 1), "what has no key passes as it is");
}

/// As the standard has it, packet by packet and block by block.
fn serial(key: &Key, packet: &mut Packet) {
    let aes = Aes128Enc::new(&Array::from(*key));
    let mut chained = Block::from(IV);
    for block in blocks(PacketHeader::parse(packet).unwrap(), packet) {
        xor(&mut chained, block);
        aes.encrypt_block(&mut chained);
        *block = chained.into();
    }
}

fn any_packet() -> impl Strategy<Value = Packet> {
    (proptest::array::uniform32(any::<u8>()), 0..=255_u8, any::<u8>()).prop_map(|(seed, adaptation, flags)| {
        let mut packet = [0; PACKET_LEN];
        packet.iter_mut().zip(seed.iter().cycle()).enumerate().for_each(|(n, (to, from))| *to = from ^ n as u8);
        packet[..5].copy_from_slice(&[SYNC, 0x01, 0x00, 0x10 | flags & 0x20, adaptation]);
        packet
    })
}

proptest! {
    #[test]
    fn side_by_side_is_one_after_the_other(packets in proptest::collection::vec(any_packet(), 0..LANES)) {
        let (mut together, mut alone) = (packets.clone(), packets.clone());
        encrypt(&KEY, &mut together);
        alone.iter_mut().for_each(|packet| serial(&KEY, packet));
        prop_assert_eq!(&together, &alone);
        let decryptor = Decryptor::new(&KEY);
        for packet in &mut together {
            decryptor.decrypt(blocks(PacketHeader::parse(packet).unwrap(), packet));
        }
        prop_assert_eq!(together, packets);
    }

    /// Whatever comes, no payload of a PID that the tables do not say is in clear leaves as it came.
    #[test]
    fn nothing_leaks(bytes in proptest::collection::vec(any::<u8>(), 0..7 * PACKET_LEN), sync in any::<bool>()) {
        let mut bytes = bytes;
        if sync {
            bytes.chunks_mut(PACKET_LEN).for_each(|packet| packet[0] = SYNC);
        }
        let mut scrambler = Scrambler::new(Some(&KEY), None);
        scramble(&mut scrambler, &mut stream(7));
        scrambler.scramble(&mut bytes, Instant::now());
        for packet in bytes.as_chunks::<PACKET_LEN>().0 {
            let header = PacketHeader::parse(packet);
            prop_assert!(header.is_some(), "only transport-stream packets leave");
            let header = header.unwrap();
            let clear = header.pid() <= 0x1F || [NULL_PID, PMT_PID, 0x1FFB].contains(&header.pid());
            prop_assert!(clear || header.pid() == DATA_PID && (header.scrambling() != 0 || !header.payload()));
        }
    }
}
