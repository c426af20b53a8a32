use proptest::prelude::*;

use super::*;
use crate::proto::fec2022_1::testing::{CAPTURES, Capture, SSRC, datagrams, fec, media, seq};

fn encoder(columns: u64, rows: u64, row_stream: bool) -> Encoder {
    Encoder::new(Matrix::new(columns, rows, row_stream).unwrap(), [Seq(65_530), Seq(3)])
}

/// Send a packet; the FEC packets that follow it.
fn send(encoder: &mut Encoder, packet: &[u8]) -> Vec<(FecStream, Vec<u8>)> {
    let (fixed, rest) = packet.split_first_chunk().unwrap();
    encoder.push(fixed, rest);
    std::iter::from_fn(|| encoder.poll_transmit().map(|(stream, packet)| (stream, packet.to_vec()))).collect()
}

#[test]
fn a_column_of_four_is_the_xor_of_its_packets_byte_by_byte() {
    let packet = |second: u8, seq: u16, timestamp: u16, payload: &[u8]| {
        let ([s0, s1], [t0, t1]) = (seq.to_be_bytes(), timestamp.to_be_bytes());
        [&[0x80, second, s0, s1, 0, 0, t0, t1, 0xAA, 0, 0, 0][..], payload].concat()
    };
    let mut encoder = encoder(1, 4, false);
    for (second, seq, timestamp, payload) in [
        (33, 65_534, 100, &[1, 2, 3][..]),
        (0x80 | 33, 65_535, 200, &[4]),
        (33, 0, 300, &[8, 8]),
        (33, 1, 400, &[0x10, 0x20, 0x40]),
    ] {
        assert_eq!(send(&mut encoder, &packet(second, seq, timestamp, payload)), []);
    }
    let expected = vec![
        0x80,
        0x80 | 96,
        0xFF,
        0xFA,
        0,
        0,
        0x01,
        0xF4,
        0,
        0,
        0,
        0, // sequence 65530, the media clock now, SSRC 0
        0xFF,
        0xFE,
        0,
        3,
        0x80,
        0,
        0,
        0, // SNBase, 3^1^2^3, E and 33^33^33^33, mask
        0,
        0,
        0,
        0x10,
        0,
        1,
        4,
        0, // 100^200^300^400, column, offset, NA, extension
        0x1D,
        0x2A,
        0x43,
    ];
    assert_eq!(send(&mut encoder, &packet(33, 2, 500, &[9])), [(FecStream::Column, expected)]);
}

/// What an encoder sends after each of the first media packets.
fn schedule(encoder: &mut Encoder, packets: u64) -> Vec<(u64, FecStream, Vec<u8>)> {
    let after = |index| {
        let sent = send(encoder, &media(SSRC, index));
        assert!(sent.len() <= 1, "no burst: {} FEC packets after one media packet", sent.len());
        sent.into_iter().map(move |(stream, packet)| (index, stream, packet))
    };
    (0..packets).flat_map(after).collect()
}

#[test]
fn a_row_is_sent_with_its_last_packet_and_columns_spread_over_the_next_block() {
    let sent = schedule(&mut encoder(5, 4, true), 40);
    let times = |wanted| sent.iter().filter(|(_, s, _)| *s == wanted).map(|(at, ..)| *at).collect::<Vec<_>>();
    assert_eq!(times(FecStream::Row), [4, 9, 14, 19, 24, 29, 34, 39]);
    assert_eq!(times(FecStream::Column), [20, 25, 28, 32, 36], "every 4, and one later where a row ends");
}

#[test]
fn a_jump_begins_a_new_block_and_what_is_complete_is_sent_all_the_same() {
    let mut encoder = encoder(4, 4, true);
    // One block, 6 packets of the next, a gap, then two blocks.
    let sent: Vec<_> = (0..22).chain(30..62).flat_map(|index| send(&mut encoder, &media(SSRC, index))).collect();
    let bases = |wanted| {
        let base = |packet: &[u8]| u16::from_be_bytes([packet[12], packet[13]]).wrapping_sub(seq(0));
        sent.iter().filter(|(s, _)| *s == wanted).map(|(_, packet)| base(packet)).collect::<Vec<_>>()
    };
    assert_eq!(bases(FecStream::Column), [0, 1, 2, 3, 30, 31, 32, 33]);
    assert_eq!(bases(FecStream::Row), [0, 4, 8, 12, 16, 30, 34, 38, 42, 46, 50, 54, 58]);
}

#[test]
fn another_ssrc_begins_anew_with_nothing_of_the_old_stream() {
    let mut encoder = encoder(4, 4, false);
    assert_eq!((0..17).flat_map(|index| send(&mut encoder, &media(SSRC, index))).count(), 1);
    assert_eq!((0..16).flat_map(|index| send(&mut encoder, &media(SSRC + 1, index))).count(), 0);
    let (_, packet) = send(&mut encoder, &media(SSRC + 1, 16)).pop().unwrap();
    assert_eq!(packet[12..14], seq(0).to_be_bytes());
    assert_eq!(packet[2..4], 65_531_u16.to_be_bytes(), "the FEC stream goes on");
}

#[test]
fn sending_takes_no_more_memory_than_was_there_at_first() {
    let mut encoder = encoder(10, 10, true);
    let places = |encoder: &Encoder| {
        let sets = encoder.columns.iter().flatten().chain([&encoder.row]);
        sets.map(|set| set.packet.as_ptr()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = places(&encoder);
    schedule(&mut encoder, 1000);
    assert_eq!(places(&encoder), before);
}

#[test]
fn other_senders_make_the_same_fec_packets_of_the_same_media() {
    for Capture { name, columns, rows, row_stream, packets } in CAPTURES {
        let (datagrams, mut encoder) = (datagrams(packets), encoder(columns.into(), rows.into(), row_stream));
        let theirs: Vec<&[u8]> = datagrams.iter().filter(|(port, _)| *port != 0).map(|(_, packet)| *packet).collect();
        let media = datagrams.iter().filter(|(port, _)| *port == 0);
        let ours: Vec<_> = media.flat_map(|(_, packet)| send(&mut encoder, packet)).map(|(_, packet)| packet).collect();
        let mut same = 0;
        for ours in &ours {
            // At the end of a capture, columns are under way at one of the two.
            let Some(theirs) = theirs.iter().find(|theirs| theirs[12..14] == ours[12..14] && theirs[24] == ours[24])
            else {
                continue;
            };
            // The sequence numbers and timestamps of FEC streams are each sender's own.
            assert_eq!((&ours[..2], &ours[8..]), (&theirs[..2], &theirs[8..]), "{name}");
            same += 1;
        }
        assert!(same >= 5 && same + 5 >= ours.len(), "{name}: {same} of {}", ours.len());
    }
}

proptest! {
    #[test]
    fn every_fec_packet_is_what_the_clause_says(l in 1_u64..=20, d in 4_u64..=20, row_stream: bool) {
        let d = d.min(100 / l);
        let row_stream = row_stream && l >= 4;
        let sent = schedule(&mut encoder(l, d, row_stream), 4 * l * d);
        let mut sent_of = [0; 2];
        for (at, stream, packet) in sent {
            let number = sent_of[stream as usize];
            sent_of[stream as usize] += 1;
            let (first, base, offset, na) = match stream {
                FecStream::Column => (65_530_u16, number / l * l * d + number % l, l as u8, d as u8),
                FecStream::Row => (3, number * l, 1, l as u8),
            };
            let mut wanted = fec(stream, first.wrapping_add(number as u16), base, offset, na, |i| media(SSRC, i)).packet;
            wanted[4..8].copy_from_slice(&media(SSRC, at)[4..8]);
            prop_assert_eq!(packet, wanted, "{:?} {}", stream, number);
        }
        let [columns, rows] = sent_of;
        prop_assert_eq!((columns, rows), (3 * l, if row_stream { 4 * d } else { 0 }));
    }
}
