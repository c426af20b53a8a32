//! Requests for retransmission (TR-06-1, section 5.3.2), with numbers of 16 bits or of 32 (TR-06-2, section 8.4).

use crate::proto::rtp::rtcp::{Packet, write_app, write_feedback};

/// The name of RIST's application-defined packets.
pub(super) const NAME: [u8; 4] = *b"RIST";
/// Subtype of a request by ranges.
const RANGE: u8 = 0;
/// Subtype of the upper 16 bits of the numbers that follow.
const EXTSEQ: u8 = 1;
/// Format of a request by bitmasks: the generic NACK of RFC 4585.
const BITMASK: u8 = 1;
/// Most entries of a request.
pub(super) const MOST_ENTRIES: usize = 16;

/// Packets behind each other that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one, as on the wire.
    pub(super) first: u16,
    /// How many, 1 to 65,536.
    pub(super) count: u32,
}

/// What a packet of RTCP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// These, by bitmasks.
    Bitmask(&'a [u8]),
    /// These, by ranges.
    Range(&'a [u8]),
    /// The requests after it have these upper 16 bits.
    Extension(u16),
}

impl<'a> Request<'a> {
    /// What is asked for, of the source with this SSRC; its lowest bit does not count.
    pub(super) fn read(packet: &Packet<'a>, source: u32) -> Option<Self> {
        match *packet {
            Packet::App { subtype: RANGE, ssrc, name: NAME, data } if ssrc | 1 == source | 1 => Some(Self::Range(data)),
            Packet::App { subtype: EXTSEQ, name: NAME, data: &[e0, e1, _, _, ..], .. } => {
                Some(Self::Extension(u16::from_be_bytes([e0, e1])))
            }
            Packet::Feedback { format: BITMASK, media, fci, .. } if media | 1 == source | 1 => Some(Self::Bitmask(fci)),
            _ => None,
        }
    }

    /// The packets asked for.
    pub(super) fn runs(self) -> impl Iterator<Item = Run> {
        let (entries, by_range) = match self {
            Self::Bitmask(fci) => (fci, false),
            Self::Range(data) => (data, true),
            Self::Extension(_) => (&[][..], true),
        };
        entries.as_chunks::<4>().0.iter().flat_map(move |&[f0, f1, m0, m1]| {
            let (first, more) = (u16::from_be_bytes([f0, f1]), u16::from_be_bytes([m0, m1]));
            if by_range { Runs { first, mask: 0, count: u32::from(more) + 1 } } else { Runs::of_mask(first, more) }
        })
    }
}

/// The runs of one entry.
struct Runs {
    first: u16,
    /// A bit for each of those from `first` on; of a range: none.
    mask: u32,
    count: u32,
}

impl Runs {
    const fn of_mask(first: u16, more: u16) -> Self {
        Self { first, mask: (more as u32) << 1 | 1, count: 0 }
    }
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.count > 0 {
            return Some(Run { first: self.first, count: std::mem::take(&mut self.count) });
        }
        let skip = self.mask.trailing_zeros();
        if self.mask == 0 {
            return None;
        }
        self.mask >>= skip;
        let count = self.mask.trailing_ones();
        let first = self.first.wrapping_add(skip as u16);
        // At most 17.
        self.mask >>= count;
        self.first = first.wrapping_add(count as u16);
        Some(Run { first, count })
    }
}

/// Who asks whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parties {
    /// Our SSRC.
    pub(super) receiver: u32,
    /// The source's.
    pub(super) media: u32,
}

/// Append a request for the first of `lost`, which rise, by whichever kind takes fewer entries. How many of them it is
/// for: as many as [`MOST_ENTRIES`] hold. `extended`: with the upper 16 bits.
pub(super) fn write(parties: Parties, lost: &[u32], extended: bool, out: &mut Vec<u8>) -> usize {
    let Some(&first) = lost.first() else { return 0 };
    let same = |at: &&u32| !extended || **at >> 16 == first >> 16;
    let lost = &lost[..lost.iter().take_while(same).count()];
    let (ranges, masks) = (Entries::of(lost, range), Entries::of(lost, mask));
    let by_mask = (masks.count, ranges.covered) < (ranges.count, masks.covered);
    let entries = if by_mask { masks } else { ranges };
    if extended {
        write_app(EXTSEQ, parties.media, NAME, &[first & 0xFFFF_0000], out);
    }
    let words = &entries.words[..entries.count];
    if by_mask {
        write_feedback(BITMASK, parties.receiver, parties.media, words, out);
    } else {
        write_app(RANGE, parties.media, NAME, words, out);
    }
    entries.covered
}

/// A request as it is being made.
struct Entries {
    words: [u32; MOST_ENTRIES],
    count: usize,
    /// So many of the lost packets.
    covered: usize,
}

impl Entries {
    fn of(lost: &[u32], entry: fn(&[u32]) -> (usize, u16)) -> Self {
        let mut entries = Self { words: [0; MOST_ENTRIES], count: 0, covered: 0 };
        while entries.covered < lost.len() && entries.count < MOST_ENTRIES {
            let rest = &lost[entries.covered..];
            let (covered, more) = entry(rest);
            entries.words[entries.count] = rest[0] << 16 | u32::from(more);
            entries.count += 1;
            entries.covered += covered;
        }
        entries
    }
}

/// How many of these one range holds, and its second half.
fn range(lost: &[u32]) -> (usize, u16) {
    let run = lost.iter().zip(lost[0]..).take(1 << 16).take_while(|(at, expected)| *at == expected).count();
    (run, (run - 1) as u16)
}

/// How many of these one bitmask holds, and its second half.
fn mask(lost: &[u32]) -> (usize, u16) {
    let near = |at: &&u32| **at - lost[0] <= 16;
    let held = lost.iter().take_while(near).count();
    (held, lost[1..held].iter().fold(0, |mask, at| mask | 1 << (at - lost[0] - 1)))
}

/// Fuzz body: whatever asks is read to its end, and stays within what one packet can say.
#[cfg(test)]
pub(super) fn fuzz(data: &[u8]) {
    use crate::proto::rtp::rtcp::Compound;
    let Ok(compound) = Compound::parse(data) else { return };
    for packet in compound.packets() {
        let Some(request) = Request::read(&packet, 0) else { continue };
        assert!(request.runs().all(|run| (1..=1 << 16).contains(&run.count)));
        assert!(request.runs().count() <= data.len() * 9);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::proto::rtp::rtcp::Compound;

    const PARTIES: Parties = Parties { receiver: 0x1111_1110, media: 0xBAD6_F6D2 };

    /// What a compound packet asks for, with its upper bits where they are given.
    fn asked(bytes: &[u8]) -> Vec<u32> {
        let (mut upper, mut asked) = (0, Vec::new());
        for packet in Compound::parse(bytes).unwrap().packets() {
            match Request::read(&packet, PARTIES.media) {
                Some(Request::Extension(bits)) => upper = u32::from(bits) << 16,
                Some(request) => {
                    asked.extend(request.runs().flat_map(|run| {
                        (0..run.count).map(move |n| upper | u32::from(run.first.wrapping_add(n as u16)))
                    }))
                }
                None => {}
            }
        }
        asked
    }

    fn written(lost: &[u32], extended: bool) -> (Vec<u8>, usize) {
        let mut out = Vec::new();
        let covered = write(PARTIES, lost, extended, &mut out);
        (out, covered)
    }

    #[test]
    fn whichever_kind_is_smaller_is_sent() {
        let (packet, _) = written(&[5, 6, 7, 8, 9], false);
        assert_eq!(packet, [0x80, 204, 0, 3, 0xBA, 0xD6, 0xF6, 0xD2, b'R', b'I', b'S', b'T', 0, 5, 0, 4]);
        let (packet, _) = written(&[5, 7, 9, 21], false);
        assert_eq!(packet, [0x81, 205, 0, 3, 0x11, 0x11, 0x11, 0x10, 0xBA, 0xD6, 0xF6, 0xD2, 0, 5, 0x80, 0x0A]);
        let (packet, _) = written(&[5, 6, 7, 8, 9, 22], false);
        assert_eq!(packet[1], 204, "two of either");
    }

    #[test]
    fn numbers_wrap() {
        assert_eq!(asked(&written(&[0xFFFE, 0xFFFF, 0x1_0000, 0x1_0001], false).0), [0xFFFE, 0xFFFF, 0, 1]);
        assert_eq!(asked(&written(&[0xFFFE, 0x1_0000, 0x1_0003], false).0), [0xFFFE, 0, 3]);
        let (packet, covered) = written(&[0xFFFE, 0x1_0000, 0x1_0003], true);
        assert_eq!((asked(&packet), covered), (vec![0xFFFE], 1), "upper bits are the same for all of one request");
        assert_eq!(packet[..16], [0x81, 204, 0, 3, 0xBA, 0xD6, 0xF6, 0xD2, b'R', b'I', b'S', b'T', 0, 0, 0, 0]);
    }

    #[test]
    fn a_range_may_ask_for_a_whole_turn_and_no_more() {
        let all: Vec<u32> = (100..100 + (1 << 16)).collect();
        let (packet, covered) = written(&all, false);
        assert_eq!((packet.len(), covered), (16, 1 << 16));
        assert_eq!(packet[12..], [0, 100, 0xFF, 0xFF]);
    }

    #[test]
    fn requests_to_others_and_other_formats_are_none() {
        let fci = [0, 1, 0, 0];
        let ask = |format, media| Request::read(&Packet::Feedback { format, sender: 0, media, fci: &fci }, 0x10);
        assert!(ask(1, 0x10).is_some() && ask(1, 0x11).is_some());
        assert!(ask(1, 0x12).is_none() && ask(2, 0x10).is_none());
        let app = |subtype, name| Request::read(&Packet::App { subtype, ssrc: 0x10, name, data: &fci }, 0x11);
        assert!(app(0, NAME).is_some() && app(0, *b"TSIR").is_none() && app(4, NAME).is_none());
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_what_was_lost(
            start in 0_u32..0xFFFF_0000, steps in proptest::collection::vec((1_u32..40, 1_u32..6), 1..60), extended: bool,
        ) {
            let (mut at, mut lost) = (start, Vec::new());
            for (gap, run) in steps {
                at += gap;
                lost.extend(at..at + run);
                at += run;
            }
            let (mut rest, mut all) = (&lost[..], Vec::new());
            while !rest.is_empty() {
                let (packet, covered) = written(rest, extended);
                prop_assert!(covered > 0 && packet.len() <= 16 + 12 + 4 * MOST_ENTRIES);
                all.extend(asked(&packet));
                rest = &rest[covered..];
            }
            let mask = if extended { u32::MAX } else { 0xFFFF };
            let wanted: Vec<_> = lost.iter().map(|at| at & mask).collect();
            prop_assert_eq!(&all, &wanted, "in order, and none twice");
            let distinct: BTreeSet<_> = all.iter().collect();
            prop_assert_eq!(distinct.len(), all.len());
        }

        #[test]
        fn nothing_panics(kind in 204_u8..206, first in 0x80_u8..0x84, body in proptest::collection::vec(any::<u32>(), 2..40)) {
            let mut data = vec![first, kind, 0, body.len() as u8];
            data.extend(body.iter().flat_map(|word| word.to_be_bytes()));
            if kind == 204 {
                data[4..12].copy_from_slice(b"\0\0\0\0RIST");
            }
            fuzz(&data);
        }
    }
}
