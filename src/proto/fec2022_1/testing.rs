//! What the tests of both ends share: media that follows from its index, FEC packets made byte by byte from the clause,
//! and a solver that tries everything.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::header::FecStream;

/// Every stream of the tests wraps.
pub(super) const FIRST: u16 = 65_400;
pub(super) const SSRC: u32 = 0xAAAA_0000;

/// The sequence number of a media packet.
pub(super) const fn seq(index: u64) -> u16 {
    FIRST.wrapping_add(index as u16)
}

/// A media packet with 1 to 3 packets of transport stream; all follows from SSRC and index.
pub(super) fn media(ssrc: u32, index: u64) -> Vec<u8> {
    /// Made once: the tests send them over and over.
    static MADE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..6000).map(|index| make(SSRC, index)).collect());
    let made = MADE.get(index as usize).filter(|_| ssrc == SSRC);
    made.cloned().unwrap_or_else(|| make(ssrc, index))
}

fn make(ssrc: u32, index: u64) -> Vec<u8> {
    let mut state = (u64::from(ssrc) << 20 ^ index).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let marker = if next() >> 60 == 0 { 0x80 } else { 0 };
    let timestamp = (0xFFFF_F000_u32).wrapping_add(index as u32 * 9 + (next() >> 61) as u32);
    let mut packet = vec![0x80, marker | 33];
    packet.extend(seq(index).to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    for _ in 0..=(next() >> 32) % 3 {
        let start = packet.len();
        (0..24).for_each(|_| packet.extend(next().to_le_bytes()));
        packet[start] = 0x47;
        packet.truncate(start + 188);
    }
    packet
}

/// A FEC packet, and which media packets it protects.
#[derive(Debug, Clone)]
pub(super) struct Fec {
    pub(super) stream: FecStream,
    pub(super) packet: Vec<u8>,
    pub(super) members: Vec<u64>,
}

/// A FEC packet over media packets, made field by field.
pub(super) fn fec(
    stream: FecStream,
    fec_seq: u16,
    base: u64,
    offset: u8,
    na: u8,
    packet: impl Fn(u64) -> Vec<u8>,
) -> Fec {
    let members: Vec<u64> = (0..u64::from(na)).map(|i| base + i * u64::from(offset)).collect();
    let packets: Vec<Vec<u8>> = members.iter().map(|index| packet(*index)).collect();
    let xor = |byte: &dyn Fn(&[u8]) -> u8| packets.iter().fold(0, |sum, packet| sum ^ byte(packet));
    let at = |n: usize| xor(&|packet| packet.get(n).copied().unwrap_or(0));
    let length = packets.iter().fold(0, |sum, packet| sum ^ (packet.len() as u16 - 12)).to_be_bytes();
    let [base_high, base_low] = u16::from_be_bytes([packets[0][2], packets[0][3]]).to_be_bytes();
    let [seq_high, seq_low] = fec_seq.to_be_bytes();
    let d = if stream == FecStream::Row { 0x40 } else { 0 };
    let mut out = vec![0x80 | at(0) & 0x3F, at(1) & 0x80 | 96, seq_high, seq_low, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend([base_high, base_low, length[0], length[1], 0x80 | at(1) & 0x7F, 0, 0, 0]);
    out.extend([at(4), at(5), at(6), at(7), d, offset, na, 0]);
    let longest = packets.iter().map(Vec::len).max().unwrap_or(12);
    out.extend((12..longest).map(at));
    Fec { stream, packet: out, members }
}

/// Which of `lost` can be recovered by going through all sets until nothing moves.
pub(super) fn recoverable(lost: &BTreeSet<u64>, sets: &[&Fec]) -> BTreeSet<u64> {
    let (mut missing, mut recovered) = (lost.clone(), BTreeSet::new());
    loop {
        let single = sets.iter().find_map(|set| {
            let mut absent = set.members.iter().filter(|member| missing.contains(*member));
            absent.next().filter(|_| absent.next().is_none()).copied()
        });
        let Some(index) = single else { return recovered };
        missing.remove(&index);
        recovered.insert(index);
    }
}

/// Traffic of another sender.
pub(super) struct Capture {
    pub(super) name: &'static str,
    pub(super) columns: u8,
    pub(super) rows: u8,
    pub(super) row_stream: bool,
    /// As it came over loopback, in order of arrival: port less the media port (one byte), length (two), the datagram.
    pub(super) packets: &'static [u8],
}

/// The packets are small: one or two packets of transport stream each, those of GStreamer of two sizes.
pub(super) const CAPTURES: [Capture; 3] = [
    Capture {
        name: "ffmpeg 5.1 prompeg",
        columns: 4,
        rows: 5,
        row_stream: true,
        packets: include_bytes!("decode/captures/ffmpeg-4x5.bin"),
    },
    Capture {
        name: "GStreamer 1.22 rtpst2022-1-fecenc",
        columns: 5,
        rows: 5,
        row_stream: true,
        packets: include_bytes!("decode/captures/gstreamer-5x5.bin"),
    },
    Capture {
        name: "the same, columns only",
        columns: 5,
        rows: 5,
        row_stream: false,
        packets: include_bytes!("decode/captures/gstreamer-5x5-columns.bin"),
    },
];

/// Port less the media port, and the datagram.
pub(super) fn datagrams(mut capture: &[u8]) -> Vec<(u8, &[u8])> {
    let mut datagrams = Vec::new();
    while let Some(([port, high, low], rest)) = capture.split_first_chunk() {
        let (datagram, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        datagrams.push((*port, datagram));
        capture = rest;
    }
    datagrams
}
