use proptest::prelude::*;

use super::*;
use crate::proto::mpegts::packet::{PacketHeader, check_datagram};

const RATE: u64 = 5_000_000;

fn datagrams(count: usize) -> Vec<[u8; 1316]> {
    let mut stream = TestStream::new(7, RATE);
    let mut next = || {
        let mut datagram = [0; 1316];
        stream.fill(&mut datagram);
        datagram
    };
    (0..count).map(|_| next()).collect()
}

fn judge<'a>(datagrams: impl IntoIterator<Item = &'a [u8]>) -> Verdict {
    let mut verifier = Verifier::new(7, RATE);
    datagrams.into_iter().for_each(|datagram| verifier.check(datagram));
    *verifier.verdict()
}

#[test]
fn the_stream_is_valid_transport_stream() {
    let pattern = Pattern::new(1, RATE);
    let mut continuity = std::collections::HashMap::new();
    let mut last_pcr = None;
    for index in 0..20_000 {
        let packet = pattern.packet(index);
        assert!(check_datagram(&packet).is_ok());
        let header = PacketHeader::parse(&packet).unwrap();
        assert!(!header.transport_error() && header.scrambling() == 0 && header.payload());
        let before = continuity.insert(header.pid(), header.continuity());
        assert!(before.is_none_or(|before| (before + 1) & 0x0F == header.continuity()), "packet {index}");
        if header.adaptation() && packet[5] & 0x10 != 0 {
            let base = packet[6..11].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)) >> 7;
            let pcr = base * 300 + (u64::from(packet[10] & 1) << 8 | u64::from(packet[11]));
            assert_eq!(pcr, index * 1504 * 27_000_000 / RATE);
            assert!(last_pcr.is_none_or(|last| pcr - last < 40 * 27_000), "40 ms at most between two PCRs");
            last_pcr = Some(pcr);
        }
    }
    let mut pids: Vec<_> = continuity.into_keys().collect();
    pids.sort_unstable();
    assert_eq!(pids, [0, DATA_PID, PMT_PID]);
}

#[test]
fn sections_check_out() {
    assert_eq!(super::crc32(b"123456789"), 0x0376_E6E7, "the check value of CRC-32/MPEG-2");
    let pattern = Pattern::new(1, RATE);
    for index in [0, 1] {
        let packet = pattern.packet(index);
        let section = &packet[5 + usize::from(packet[4]) + 1..];
        let length = 3 + (usize::from(section[1] & 0x0F) << 8 | usize::from(section[2]));
        assert_eq!(super::crc32(&section[..length]), 0, "over a section and its CRC it is 0");
        assert!(section[length..].iter().all(|byte| *byte == 0xFF));
    }
}

#[test]
fn a_whole_stream_in_any_grouping_is_perfect() {
    let all = datagrams(3000).concat();
    for packets in [1, 3, 7, 40] {
        let verdict = judge(all.chunks(packets * PACKET_LEN));
        assert!(verdict.is_perfect(), "{verdict:?}");
        assert_eq!((verdict.ok, verdict.first, verdict.newest), (21_000, Some(0), Some(20_999)));
    }
}

#[test]
fn losses_repeats_swaps_and_damage_are_told_apart() {
    let mut sent = datagrams(10);
    sent.remove(3);
    assert_eq!(judge(sent.iter().map(|d| &d[..])).missing, 7);

    let mut sent = datagrams(10);
    sent[4] = sent[3];
    let verdict = judge(sent.iter().map(|d| &d[..]));
    assert_eq!((verdict.ok, verdict.missing, verdict.duplicated), (63, 7, 7));

    let mut sent = datagrams(10);
    sent.swap(4, 5);
    let verdict = judge(sent.iter().map(|d| &d[..]));
    assert_eq!((verdict.ok, verdict.missing, verdict.reordered), (70, 0, 7));

    let mut sent = datagrams(10);
    sent[4][3 * PACKET_LEN + 100] ^= 1;
    sent[6][4 + 5] ^= 1; // an index
    let verdict = judge(sent.iter().map(|d| &d[..]));
    assert_eq!((verdict.ok, verdict.missing, verdict.corrupt), (68, 2, 2));
    assert!(!verdict.is_perfect());
    assert!(!Verdict::default().is_perfect(), "nothing is not perfect");
}

#[test]
fn another_seed_is_another_stream() {
    let mut verifier = Verifier::new(8, RATE);
    datagrams(2).iter().for_each(|datagram| verifier.check(datagram));
    assert_eq!((verifier.verdict().ok, verifier.verdict().corrupt), (0, 14));
}

#[test]
fn packets_are_due_by_the_rate() {
    let mut stream = TestStream::new(0, 1_504_000);
    assert_eq!(stream.due(), std::time::Duration::ZERO);
    stream.fill(&mut [0; 1316]);
    assert_eq!((stream.index(), stream.due()), (7, std::time::Duration::from_millis(7)));
}

proptest! {
    #[test]
    fn any_index_at_any_rate_is_verified_alone(seed: u64, rate in 1_u64..2_000_000_000, index in 0..u64::MAX / 2) {
        let packet = Pattern::new(seed, rate).packet(index);
        let mut verifier = Verifier::new(seed, rate);
        verifier.check(&packet);
        prop_assert!(verifier.verdict().is_perfect());
        prop_assert_eq!(verifier.verdict().newest, Some(index));
    }

    #[test]
    fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        Verifier::new(1, RATE).check(&data);
    }
}
