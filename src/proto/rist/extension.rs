//! The header extension of the main profile (TR-06-2, section 8.3): null packets left out, and sequence numbers of 32
//! bits.
//!
//! A null packet is left out only if it comes back as it was: with nothing but 0xFF in it, its continuity count 0 and no
//! adaptation field. So what a receiver restores is the stream, bit for bit. (GStreamer fills what it restores with 0x00.)

use crate::proto::rtp::header::{FIXED_LEN, Header};

/// Bytes of an extension, with its own header.
pub(super) const LEN: usize = 8;
/// What names it.
const PROFILE: [u8; 4] = [b'R', b'I', 0, 1];
/// Bytes of a packet of transport stream.
const TS: usize = 188;
/// The same with Reed-Solomon bytes.
const TS_204: usize = 204;
/// Packets that the extension can tell of.
const MOST: usize = 7;

const NULL_DELETION: u8 = 0x80;
const SEQUENCE: u8 = 0x40;

/// What an extension says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extension {
    /// Null packets were left out at these places: bit 6 is the first. `None`: deletion is not in use.
    pub(super) nulls: Option<u8>,
    /// They were 204 bytes long.
    pub(super) long: bool,
    /// The upper 16 bits of the sequence number.
    pub(super) upper: Option<u16>,
}

impl Extension {
    /// The extension of a packet, if it has one.
    pub(super) fn read(packet: &[u8], header: &Header) -> Option<Self> {
        let at = header.payload().start.checked_sub(LEN).filter(|at| *at >= FIXED_LEN && packet[0] & 0x10 != 0)?;
        let &[p0, p1, p2, p3, flags, bits, u0, u1] = packet.get(at..)?.first_chunk::<LEN>()?;
        if [p0, p1, p2, p3] != PROFILE {
            return None;
        }
        Some(Self {
            nulls: (flags & NULL_DELETION != 0).then_some(bits & 0x7F),
            long: bits & 0x80 != 0,
            upper: (flags & SEQUENCE != 0).then_some(u16::from_be_bytes([u0, u1])),
        })
    }

    /// As on the wire. The size is left to be derived, as librist does.
    pub(super) fn write(&self) -> [u8; LEN] {
        let [p0, p1, p2, p3] = PROFILE;
        let [u0, u1] = self.upper.unwrap_or(0).to_be_bytes();
        let mut flags = 0;
        if self.nulls.is_some() {
            flags |= NULL_DELETION;
        }
        if self.upper.is_some() {
            flags |= SEQUENCE;
        }
        [p0, p1, p2, p3, flags, u8::from(self.long) << 7 | self.nulls.unwrap_or(0), u0, u1]
    }

    /// Append a payload with its null packets restored. `false`: it cannot be, and nothing was appended.
    pub(super) fn restore(&self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(nulls) = self.nulls.filter(|nulls| *nulls != 0) else {
            out.extend_from_slice(payload);
            return true;
        };
        let size = if self.long { TS_204 } else { TS };
        let count = payload.len() / size + nulls.count_ones() as usize;
        // The last places are not used.
        let beyond = count > MOST || nulls.trailing_zeros() < (MOST - count) as u32;
        if !payload.len().is_multiple_of(size) || beyond {
            return false;
        }
        let mut rest = payload.chunks_exact(size);
        for place in 0..count {
            if nulls & 0x40 >> place == 0 {
                // There are as many as places without a null packet.
                out.extend_from_slice(rest.next().unwrap_or(&[]));
            } else {
                let end = out.len() + size;
                out.extend(NULL_HEADER);
                out.resize(end, 0xFF);
            }
        }
        true
    }
}

const NULL_HEADER: [u8; 4] = [0x47, 0x1F, 0xFF, 0x10];

/// The places of the null packets of a payload that may be left out: bit 6 is the first. At least one packet stays.
pub(super) fn nulls(payload: &[u8]) -> u8 {
    let count = payload.len() / TS;
    if !payload.len().is_multiple_of(TS) || count > MOST || count == 0 {
        return 0;
    }
    let mut nulls = 0_u8;
    for (place, packet) in payload.as_chunks::<TS>().0.iter().enumerate() {
        if packet.starts_with(&NULL_HEADER) && packet[4..].iter().all(|byte| *byte == 0xFF) {
            nulls |= 0x40 >> place;
        }
    }
    // Peers may take an empty payload for none.
    if nulls.count_ones() as usize == count { nulls & !0x40 } else { nulls }
}

/// The length of a payload without these packets.
pub(super) const fn len_without(payload: &[u8], nulls: u8) -> usize {
    payload.len().saturating_sub(nulls.count_ones() as usize * TS)
}

/// Copy a payload without these packets; `place` is [`len_without`] long.
pub(super) fn copy_without(payload: &[u8], nulls: u8, place: &mut [u8]) {
    if nulls == 0 {
        return place.copy_from_slice(payload);
    }
    let kept = payload.as_chunks::<TS>().0.iter().enumerate().filter(|(at, _)| nulls & 0x40 >> at == 0);
    place.as_chunks_mut::<TS>().0.iter_mut().zip(kept).for_each(|(to, (_, packet))| *to = *packet);
}

/// Fuzz body: whatever an extension says, restoring either works out or leaves all as it was.
#[cfg(test)]
pub(super) fn fuzz(data: &[u8]) {
    let Ok(header) = Header::parse(data) else { return };
    let Some(extension) = Extension::read(data, &header) else { return };
    let (payload, mut out) = (&data[header.payload()], vec![1, 2, 3]);
    let restored = extension.restore(payload, &mut out);
    assert!(if restored { out.len() >= 3 + payload.len() } else { out == [1, 2, 3] });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::seq::{RtpTime, Seq};

    fn ts(kinds: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            let mut packet = [0xFF; TS];
            packet[..4].copy_from_slice(&NULL_HEADER);
            match kind {
                b'0' => {}
                b'c' => packet[3] = 0x17,
                b'b' => packet[100] = 0xFE,
                _ => packet[..8].copy_from_slice(&[0x47, 0x01, n as u8, 0x10, 1, 2, 3, 4]),
            }
            payload.extend(packet);
        }
        payload
    }

    fn packet(extension: Extension, payload: &[u8]) -> Vec<u8> {
        let mut packet = Header::new(33, Seq(1), RtpTime(2), 4).write().to_vec();
        packet[0] |= 0x10;
        packet.extend(extension.write());
        packet.extend(payload);
        packet
    }

    #[test]
    fn the_form_of_librist_is_read_and_written() {
        // By ristsender 0.2.7 with -n: nulls at 1, 3 and 5 of seven.
        let bytes = [0x52, 0x49, 0, 1, 0x80, 0x2A, 0, 0];
        let extension = Extension { nulls: Some(0x2A), long: false, upper: None };
        assert_eq!(extension.write(), bytes);
        let packet = packet(extension, &ts(b"dddd"));
        let read = Extension::read(&packet, &Header::parse(&packet).unwrap());
        assert_eq!(read, Some(extension));
        let mut restored = Vec::new();
        assert!(extension.restore(&ts(b"dddd"), &mut restored));
        assert_eq!(restored.len(), 7 * TS);
        let places: Vec<_> = restored.as_chunks::<TS>().0.iter().map(|ts| ts[1] == 0x1F).collect();
        assert_eq!(places, [false, true, false, true, false, true, false]);
    }

    #[test]
    fn only_what_comes_back_as_it_was_is_left_out() {
        assert_eq!(nulls(&ts(b"d0d0d0d")), 0x2A);
        assert_eq!(nulls(&ts(b"c0b")), 0x20, "a count, or something in it, would be lost");
        assert_eq!(nulls(&ts(b"000")), 0x30, "one stays");
        assert_eq!(nulls(&ts(b"0")), 0);
        assert_eq!(nulls(&ts(b"00000000")), 0, "more than the extension can tell of");
        assert_eq!(nulls(&ts(b"00")[1..]), 0);
        assert_eq!(nulls(&[]), 0);
    }

    #[test]
    fn what_does_not_add_up_is_not_restored() {
        let restore = |nulls, long, payload: &[u8]| {
            Extension { nulls: Some(nulls), long, upper: None }.restore(payload, &mut Vec::new())
        };
        assert!(restore(0x40, false, &[]), "all were null packets");
        assert!(!restore(0x40, false, &[0; 187]));
        assert!(!restore(0x7F, false, &[0; TS]), "eight");
        assert!(!restore(0x01, false, &[0; TS]), "the seventh of two");
        assert!(restore(0x20, true, &[0; TS_204]));
        assert!(!restore(0x20, true, &[0; TS]));
    }

    #[test]
    fn other_extensions_are_none() {
        let mut packet = packet(Extension { nulls: None, long: false, upper: Some(7) }, &[]);
        let read = |packet: &[u8]| Extension::read(packet, &Header::parse(packet).unwrap());
        assert_eq!(read(&packet), Some(Extension { nulls: None, long: false, upper: Some(7) }));
        packet[12] = 0xBE;
        assert_eq!(read(&packet), None);
        packet[0] &= !0x10;
        packet[12] = 0x52;
        assert_eq!(read(&packet), None, "that is payload");
    }

    proptest! {
        #[test]
        fn a_payload_comes_back_bit_for_bit(kinds in proptest::collection::vec(proptest::sample::select(&b"00dcb"[..]), 1..8)) {
            let payload = ts(&kinds);
            let nulls = nulls(&payload);
            let mut sent = vec![0; len_without(&payload, nulls)];
            copy_without(&payload, nulls, &mut sent);
            prop_assert!(!sent.is_empty());
            let mut restored = Vec::new();
            let extension = Extension { nulls: Some(nulls), long: false, upper: None };
            prop_assert!(extension.restore(&sent, &mut restored));
            prop_assert_eq!(restored, payload);
        }

        #[test]
        fn nothing_panics(flags: u8, bits: u8, len in 0_usize..1600, more in 0_u8..16) {
            let mut packet = packet(Extension::default(), &vec![7; len]);
            packet.splice(12..12, vec![0; 4 * usize::from(more)]);
            packet[0] |= more;
            let at = 12 + 4 * usize::from(more) + 4;
            (packet[at], packet[at + 1]) = (flags, bits);
            fuzz(&packet);
        }
    }
}
