//! Lets a decoder of H.264 show each key frame as soon as it has it.
//!
//! A parameter set may say how far pictures are out of order (ITU-T H.264, E.2.1): a decoder then holds so many back. Where
//! it gets key frames alone, that is as many key frames: seconds. So that flag is taken out of what it gets, and it waits
//! for none.

use crate::proto::mpegts::metadata::order_said;
use crate::proto::mpegts::packet::{PACKET_LEN, PacketHeader};

const START_CODE: [u8; 3] = [0, 0, 1];
/// The kind of a NAL unit that is a sequence parameter set.
const PARAMETER_SET: u8 = 7;

/// Change the parameter set in a packet of a picture, if all of it is there. It stays as long as it was.
pub(super) fn show_at_once(packet: &mut [u8; PACKET_LEN]) {
    let Some(header) = PacketHeader::parse(packet) else { return };
    let start = PACKET_LEN - header.payload_of(packet).len();
    let mut rest = &mut packet[start..];
    while let Some(at) = find(rest) {
        rest = &mut rest[at + START_CODE.len()..];
        // Of the last one the end may be in the next packet.
        let Some(end) = find(rest) else { return };
        if rest[0] & 0x1F == PARAMETER_SET {
            return say_nothing_of_order(&mut rest[1..end]);
        }
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(START_CODE.len()).position(|three| three == START_CODE)
}

fn say_nothing_of_order(unit: &mut [u8]) {
    let Some([flag, next]) = order_said(unit) else { return };
    let mut changed = unit.to_vec();
    // The flag is the last bit now: after it comes the one that ends a NAL unit, and zeros, which belong to none.
    let clear = |bytes: &mut [u8], from: usize| {
        bytes[from / 8] &= !(0xFF >> (from % 8));
        bytes[from / 8 + 1..].fill(0);
    };
    clear(&mut changed, flag);
    changed[next / 8] |= 0x80 >> (next % 8);
    // What became an escape, or a start code, would say something else.
    let last = next / 8;
    let escapes =
        |bytes: &[u8]| bytes[..=last].windows(3).filter(|three| three[..2] == [0, 0] && three[2] <= 3).count();
    if escapes(&changed) == escapes(unit) {
        unit.copy_from_slice(&changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By x264, 1280x720, with 2 pictures out of order; and what is left when that is not said.
    const SAID: &str = "6764001facd9405005bb011000000300100000030320f1831960";
    const UNSAID: &str = "6764001facd9405005bb01100000030010000003032040000000";

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    /// A packet that begins a picture with these NAL units, cut where it ends.
    fn packet(units: &[&[u8]], adaptation: u8) -> [u8; PACKET_LEN] {
        let mut packet = [0xFF; PACKET_LEN];
        packet[..5].copy_from_slice(&[0x47, 0x41, 0, 0x30, adaptation]);
        let mut payload = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0xC0, 10, 0x31, 0, 9, 0x10, 0xA1, 0x11, 0, 7, 0xD8, 0x61];
        for unit in units {
            payload.extend([0, 0, 0, 1]);
            payload.extend(*unit);
        }
        payload.resize(PACKET_LEN, 0xAA);
        let start = 5 + usize::from(adaptation);
        packet[start..].copy_from_slice(&payload[..PACKET_LEN - start]);
        packet
    }

    #[test]
    fn the_flag_is_taken_out_and_the_rest_stays() {
        let (said, unsaid) = (bytes(SAID), bytes(UNSAID));
        let with = |unit: &[u8]| packet(&[&[9, 0x10], unit, &[0x68, 0xEF, 0xBC, 0xB0], &[0x65, 1, 2, 3]], 7);
        let mut changed = with(&said);
        show_at_once(&mut changed);
        assert_eq!(changed, with(&unsaid));
        show_at_once(&mut changed);
        assert_eq!(changed, with(&unsaid), "once is enough");
    }

    #[test]
    fn what_is_cut_or_no_parameter_set_stays_as_it_is() {
        let said = bytes(SAID);
        let mut packets = vec![
            packet(&[&[9, 0x10], &said], 183 - 19 - 6 - 4 - said.len() as u8),
            packet(&[&[9, 0x10], &[0x65, 1, 2, 3], &[0x41; 20]], 7),
            packet(&[&[0x67], &[0x68]], 0),
            [0x47; PACKET_LEN],
            [0; PACKET_LEN],
        ];
        packets.extend((1..said.len()).map(|length| packet(&[&said[..length], &[0x68]], 7)).filter(|packet| {
            // Of a cut one the end may look like that of a whole one, and then it is one.
            let mut changed = *packet;
            show_at_once(&mut changed);
            changed == *packet
        }));
        assert!(packets.len() > said.len());
        for packet in packets {
            let mut changed = packet;
            show_at_once(&mut changed);
            assert_eq!(changed, packet);
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_packets_never_panic(noise in proptest::collection::vec(0..4_u8, PACKET_LEN), at in 4..150_usize) {
            let mut packet: [u8; PACKET_LEN] = noise.try_into().unwrap();
            packet[..4].copy_from_slice(&[0x47, 0x41, 0, 0x10]);
            packet[at..at + 4].copy_from_slice(&[0, 0, 1, 0x67]);
            show_at_once(&mut packet);
        }
    }
}
