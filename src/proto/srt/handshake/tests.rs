use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::crypto::{Kek, MAX_KEY, StreamKeys, StreamSecret};
use super::super::km::{KeyLength, KmAnswer, KmState, Salt};
use super::super::negotiated::HsFlags;
use super::super::packet::{HEADER_LEN, Key};
use super::super::terms::{Encryption, is_stream_id};
use super::super::vectors::{CONCLUDED, CONCLUSION, INDUCED, INDUCTION, KM_1, PASSPHRASE, bytes};
use super::*;

const CALLER: SocketId = SocketId(0x05f5_98cc);
const LISTENER: SocketId = SocketId(0x2f88_e7ca);

/// A handshake with these extension bits and blocks.
fn with_blocks(extensions: u16, blocks: &[u8]) -> Handshake<'_> {
    Handshake {
        version: VERSION_5,
        encryption: 0,
        extensions,
        isn: SeqNo::new(1),
        mss: 1500,
        flow_window: 8192,
        kind: Kind::Conclusion,
        socket: CALLER,
        cookie: 1,
        peer_ip: PeerIp::default(),
        blocks,
    }
}

const HSREQ: &str = "00010003 00010501 000000bf 00780000";

fn read(extensions: u16, hex: &str) -> Result<(), Reject> {
    with_blocks(extensions, &bytes(hex)).read_extensions().map(drop)
}

#[test]
fn the_four_packets_of_a_call_are_read_and_written_as_libsrt_does() {
    for packet in [INDUCTION, INDUCED, CONCLUSION, CONCLUDED].map(bytes) {
        let (handshake, timestamp, destination) = Handshake::of_datagram(&packet).unwrap();
        assert!(handshake.is_valid());
        assert_eq!(handshake.isn, SeqNo::new(0x5f5b_f8a5));
        assert_eq!((handshake.mss, handshake.flow_window), (1500, 8192));
        assert_eq!(handshake.peer_ip, PeerIp::from(IpAddr::from(Ipv4Addr::LOCALHOST)));
        assert_eq!(handshake.write(timestamp, destination), packet);
    }
}

#[test]
fn an_induction_of_libsrt_has_a_version_of_old() {
    let packet = bytes(INDUCTION);
    let (handshake, _, destination) = Handshake::of_datagram(&packet).unwrap();
    assert_eq!((handshake.kind, handshake.version, handshake.extensions), (Kind::Induction, VERSION_4, 2));
    assert_eq!((handshake.socket, handshake.cookie, destination), (CALLER, 0, SocketId::NONE));

    let packet = bytes(INDUCED);
    let (handshake, _, destination) = Handshake::of_datagram(&packet).unwrap();
    assert_eq!((handshake.kind, handshake.version, handshake.extensions), (Kind::Induction, VERSION_5, MAGIC));
    assert_eq!((handshake.socket, handshake.cookie, destination), (CALLER, 0xcfc7_cf27, CALLER));
}

#[test]
fn the_extensions_of_libsrt_are_read_and_written_alike() {
    let km = bytes(KM_1);
    let hs = HsBlock { version: 0x0001_0501, flags: HsFlags(0xBF), receive_latency: 120, send_latency: 0 };
    let packet = bytes(CONCLUSION);
    let (handshake, ..) = Handshake::of_datagram(&packet).unwrap();
    let extensions = handshake.read_extensions().unwrap();
    assert_eq!(extensions.hs, Some(Ask::Request(hs)));
    assert_eq!(extensions.km, Some(Ask::Request(&km[..])));
    assert_eq!(extensions.stream_id.as_deref(), Some("ABCDEFG"));
    assert_eq!(extensions.write(), (7, packet[HEADER_LEN + FIXED_LEN..].to_vec()));

    let packet = bytes(CONCLUDED);
    let (handshake, ..) = Handshake::of_datagram(&packet).unwrap();
    assert_eq!(handshake.socket, LISTENER);
    let extensions = handshake.read_extensions().unwrap();
    assert_eq!(extensions.hs, Some(Ask::Response(HsBlock { send_latency: 120, ..hs })));
    assert_eq!(extensions.km, Some(Ask::Response(&km[..])));
    assert_eq!(extensions.write(), (3, packet[HEADER_LEN + FIXED_LEN..].to_vec()));
}

#[test]
fn a_passphrase_that_is_refused_is_told_in_little_endian() {
    let blocks = bytes("00020003 00010501 000000bf 00780078 00040001 04000000");
    let extensions = with_blocks(3, &blocks).read_extensions().unwrap();
    let Some(Ask::Response(km)) = extensions.km else { panic!("no KMRSP") };
    assert_eq!(KmAnswer::parse(km), Some(KmAnswer::Failed(Some(KmState::BadSecret))));
    assert_eq!(extensions.write(), (3, blocks));
}

#[test]
fn a_key_of_256_bits_is_announced_as_libsrt_does() {
    let secret = StreamSecret::new(KeyLength::Aes256, &[0x17; MAX_KEY]);
    let keys = StreamKeys::new(Salt([0x42; 16]), Key::Even, secret);
    let encryption = Encryption { kek: Kek::derive(PASSPHRASE, keys.salt(), KeyLength::Aes256), keys };
    let km = encryption.message().unwrap();
    let extensions = Extensions { km: Some(Ask::Request(&km)), ..Extensions::default() };
    let (_, blocks) = extensions.write();
    assert_eq!(blocks[..20].to_vec(), bytes("00030012 12202901 00000000 02000200 00000408"));
    assert_eq!(KeyLength::Aes256.eighth(), 4, "with both other extensions the second word is 0004 0007");
}

#[test]
fn blocks_come_in_any_order_and_unknown_ones_are_skipped() {
    let km = "0003000e 12202901 00000000 02000200 00000404 b9dd1f7a472830b28de2628548445f7c
        cf8c669143dc1442933d7a6fb0312a8fdcf4d4eef2af58e1";
    let sid = "00050002 44434241 00474645";
    let unknown = "00630001 01020304";
    let empty = "00640000";
    for order in [[HSREQ, km, sid, unknown, empty], [unknown, sid, empty, km, HSREQ], [km, empty, HSREQ, unknown, sid]]
    {
        let blocks = bytes(&order.concat());
        let extensions = with_blocks(7, &blocks).read_extensions().unwrap();
        assert!(matches!(extensions.hs, Some(Ask::Request(_))) && matches!(extensions.km, Some(Ask::Request(_))));
        assert_eq!(extensions.stream_id.as_deref(), Some("ABCDEFG"));
    }
}

#[test]
fn a_block_that_is_not_announced_is_not_looked_for() {
    let blocks = bytes(&[HSREQ, "00050002 44434241 00474645"].concat());
    let extensions = with_blocks(1, &blocks).read_extensions().unwrap();
    assert_eq!(extensions.stream_id, None);
    assert_eq!(with_blocks(0, &blocks).read_extensions(), Ok(Extensions::default()));
}

#[test]
fn a_block_that_is_announced_and_missing_is_refused() {
    assert_eq!(read(1, ""), Err(Reject::Rogue));
    assert_eq!(read(3, HSREQ), Err(Reject::Rogue));
    assert_eq!(read(5, HSREQ), Ok(()), "CONFIG announces any of several blocks, or one that is not known here");
    assert_eq!(read(1, "00010004 00010501 000000bf 00780000"), Err(Reject::Rogue), "it ends after the packet");
    assert_eq!(read(1, "00010002 00010501 000000bf"), Err(Reject::Rogue), "it is too short");
    assert_eq!(read(1, "00010004 00010501 000000bf 00780000 00000001"), Ok(()), "it is of the future");
}

#[test]
fn a_stream_id_has_1_to_512_bytes() {
    let sid = |text: &str| {
        let extensions = Extensions { stream_id: Some(text.to_owned()), ..Extensions::default() };
        let (bits, blocks) = extensions.write();
        with_blocks(bits, &blocks).read_extensions().map(|read| read.stream_id.unwrap())
    };
    for text in ["a", "abcd", "abcde", "#!::u=admin,r=bluesbrothers1_hi", "äöü", &"x".repeat(511), &"x".repeat(512)]
    {
        assert_eq!(sid(text).as_deref(), Ok(text));
    }
    assert_eq!(sid(&"x".repeat(513)), Err(Reject::Rogue));
    assert_eq!(read(4, "00050000"), Err(Reject::Rogue), "no bytes");
    assert_eq!(read(4, "00050001 00000000"), Err(Reject::Rogue), "nothing but padding");
    assert_eq!(read(4, "00050001 000000ff"), Err(Reject::Rogue), "no UTF-8");
    assert_eq!(read(4, "00050001 00410042"), Err(Reject::Rogue), "B, zero, A: two readers would see two texts");
    assert_eq!(read(4, "00050001 00000041 00050001 00000041"), Err(Reject::Rogue), "two of them");
}

#[test]
fn other_texts_have_their_own_limits() {
    let words = |kind: u16, words: usize| {
        format!("{kind:04x}{words:04x}{}", "65666768".repeat(words)) // any letters
    };
    assert_eq!(read(4, &words(6, 4)), Ok(()));
    assert_eq!(read(4, &words(6, 5)), Err(Reject::Rogue));
    assert_eq!(read(4, &words(7, 16)), Ok(()));
    assert_eq!(read(4, &words(7, 17)), Err(Reject::Rogue));
}

#[test]
fn the_peers_address_comes_in_groups_of_four_bytes_turned_around() {
    let v4 = PeerIp::from(IpAddr::from(Ipv4Addr::new(203, 0, 113, 10)));
    assert_eq!(v4.0.to_vec(), bytes("0a7100cb 00000000 00000000 00000000"));
    assert_eq!(PeerIp::from(IpAddr::from(Ipv4Addr::new(203, 0, 113, 10).to_ipv6_mapped())), v4);
    let v6 = PeerIp::from(IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x1234)));
    assert_eq!(v6.0.to_vec(), bytes("b80d0120 00000000 00000000 34120000"));
}

#[test]
fn values_no_connection_can_be_made_of_are_told() {
    let valid = with_blocks(0, &[]);
    assert!(valid.is_valid());
    assert!(!Handshake { version: 3, ..valid }.is_valid());
    assert!(!Handshake { isn: SeqNo::MAX, ..valid }.is_valid());
    assert!(!Handshake { mss: 231, ..valid }.is_valid());
    assert!(!Handshake { flow_window: 1, ..valid }.is_valid());
    let packet = bytes(INDUCTION);
    assert_eq!(Handshake::parse(&packet[16..63]), Err(HandshakeError::Short(47)));
    let mut packet = packet[16..].to_vec();
    packet[8] |= 0x80;
    assert_eq!(Handshake::parse(&packet), Err(HandshakeError::Sequence));
}

#[test]
fn kinds_are_read_as_written() {
    for word in [0, 1, 2, 7, 999, 1000, 1010, 2401, 3000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF] {
        assert_eq!(Kind::from_wire(word).wire(), word);
    }
    assert_eq!(Kind::from_wire(1011), Kind::Reject(Reject::Unsecure));
    assert_eq!(Kind::from_wire(2), Kind::Other(2));
}

proptest! {
    #[test]
    fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&data);
    }

    #[test]
    fn no_extension_blocks_panic(
        extensions in 0_u16..16,
        blocks in proptest::collection::vec((0_u16..10, 0_u16..6, proptest::collection::vec(any::<u8>(), 0..24)), 0..6),
    ) {
        let blocks: Vec<u8> = blocks
            .iter()
            .flat_map(|(kind, words, body)| [&kind.to_be_bytes()[..], &words.to_be_bytes(), body].concat())
            .collect();
        let packet = with_blocks(extensions, &blocks).write(Timestamp(0), SocketId(0));
        fuzz(&packet[HEADER_LEN..]);
    }

    #[test]
    fn a_damaged_conclusion_does_not_panic(at in 0_usize..152, byte: u8, cut in 0_usize..152) {
        let mut packet = bytes(CONCLUSION);
        packet[at] = byte;
        fuzz(&packet[HEADER_LEN..]);
        packet.truncate(cut);
        fuzz(packet.get(HEADER_LEN..).unwrap_or_default());
    }

    #[test]
    fn stream_ids_are_read_as_written(text in "\\PC{1,128}") {
        prop_assume!(is_stream_id(&text));
        let extensions = Extensions { stream_id: Some(text), ..Extensions::default() };
        let (bits, blocks) = extensions.write();
        prop_assert_eq!(with_blocks(bits, &blocks).read_extensions(), Ok(extensions));
    }
}
