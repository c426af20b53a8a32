//! The FEC packet, ST 2022-1 clause 8: an RTP header, 16 bytes of FEC header, and the XOR of the members' payloads.
//!
//! The RTP header's bits P, X, CC and M, and the fields named "recovery", are the XOR of those of the members; the
//! payload is the XOR of all that follows their fixed headers, the shorter ones filled up with zeros.

use crate::proto::rtp::header::FIXED_LEN;
use crate::proto::seq::{RtpTime, Seq};
use serde::{Deserialize, Serialize};

/// Bytes before the payload of a FEC packet.
pub const FEC_LEN: usize = FIXED_LEN + 16;
/// The payload type of both FEC streams.
pub const FEC_PAYLOAD_TYPE: u8 = 96;
/// A set may reach over this many media packets: four times what the standard allows a sender.
pub const MAX_SPAN: u16 = 400;

/// One of the two FEC streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FecStream {
    /// Over columns; by default on the media port + 2.
    Column,
    /// Over rows; by default on the media port + 4.
    Row,
}

impl FecStream {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Column, Self::Row];
}

/// Why a datagram is not a FEC packet that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FecError {
    /// Shorter than its headers, or without payload.
    #[error("{0} bytes are too few for a FEC packet")]
    Short(usize),
    /// Not RTP.
    #[error("RTP version {0}, not 2")]
    Version(u8),
    /// RTP, but of another kind.
    #[error("RTP payload type {0}, not FEC")]
    PayloadType(u8),
    /// Not XOR.
    #[error("FEC type {0}, not XOR")]
    Type(u8),
    /// The bit N: an extended header, of which none is defined.
    #[error("extended FEC header")]
    Extended,
    /// NA or offset is 0, or a row's offset is not 1.
    #[error("FEC over {na} packets at intervals of {offset}")]
    Set {
        /// Interval between members.
        offset: u8,
        /// Number of members.
        na: u8,
    },
    /// The set is longer than [`MAX_SPAN`].
    #[error("FEC over {0} media packets")]
    Span(u16),
}

/// The XOR of header fields: of one packet, of a set's members, or of what is left of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Parity {
    /// P, X and CC: the low 6 bits of the first byte.
    pub(super) flags: u8,
    /// M and PT: the second byte.
    pub(super) marker_type: u8,
    pub(super) timestamp: u32,
    /// Bytes after the fixed header.
    pub(super) length: u16,
}

impl Parity {
    /// The fields of one RTP packet with this fixed header and so many bytes after it.
    pub(super) const fn of(fixed: &[u8; FIXED_LEN], length: u16) -> Self {
        let [first, marker_type, _, _, t0, t1, t2, t3, ..] = *fixed;
        Self { flags: first & 0x3F, marker_type, timestamp: u32::from_be_bytes([t0, t1, t2, t3]), length }
    }

    pub(super) const fn fold(&mut self, other: Self) {
        self.flags ^= other.flags;
        self.marker_type ^= other.marker_type;
        self.timestamp ^= other.timestamp;
        self.length ^= other.length;
    }

    /// The fixed header these fields belong to.
    pub(super) fn fixed(self, seq: Seq, ssrc: u32) -> [u8; FIXED_LEN] {
        let mut fixed = [0; FIXED_LEN];
        fixed[0] = 0x80 | self.flags;
        fixed[1] = self.marker_type;
        fixed[2..4].copy_from_slice(&seq.0.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..].copy_from_slice(&ssrc.to_be_bytes());
        fixed
    }
}

/// The headers of a FEC packet. Its payload is what follows [`FEC_LEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FecHeader {
    /// By the bit D, not by the port.
    pub stream: FecStream,
    /// Of the FEC stream.
    pub seq: Seq,
    /// Of the FEC packet itself. Senders disagree on its meaning; no receiver needs it.
    pub timestamp: RtpTime,
    /// The first member.
    pub base: Seq,
    /// From one member to the next: L in a column, 1 in a row. At least 1.
    pub offset: u8,
    /// The number of members: D in a column, L in a row. At least 1.
    pub na: u8,
    pub(super) parity: Parity,
}

impl FecHeader {
    /// Read the headers of a whole datagram. The mask, the index and the sequence number's extension are not looked at:
    /// senders leave them 0, and nothing depends on them.
    ///
    /// # Errors
    /// Whatever [`FecError`] names.
    pub fn parse(packet: &[u8]) -> Result<Self, FecError> {
        let short = FecError::Short(packet.len());
        let (rtp, rest) = packet.split_first_chunk::<FIXED_LEN>().ok_or(short)?;
        let (fec, payload) = rest.split_first_chunk::<16>().ok_or(short)?;
        if payload.is_empty() {
            return Err(short);
        }
        // Not `Header::parse`: P, X and CC here tell nothing of this packet.
        let [first, second, s0, s1, t0, t1, t2, t3, ..] = *rtp;
        let [b0, b1, l0, l1, pt, _, _, _, r0, r1, r2, r3, kind, offset, na, _] = *fec;
        if first >> 6 != 2 {
            return Err(FecError::Version(first >> 6));
        }
        if second & 0x7F < FEC_PAYLOAD_TYPE {
            return Err(FecError::PayloadType(second & 0x7F));
        }
        if kind & 0x80 != 0 {
            return Err(FecError::Extended);
        }
        if kind >> 3 & 7 != 0 {
            return Err(FecError::Type(kind >> 3 & 7));
        }
        let stream = if kind & 0x40 == 0 { FecStream::Column } else { FecStream::Row };
        if na == 0 || offset == 0 || (stream == FecStream::Row && offset != 1) {
            return Err(FecError::Set { offset, na });
        }
        let span = u16::from(na) * u16::from(offset);
        if span > MAX_SPAN {
            return Err(FecError::Span(span));
        }
        Ok(Self {
            stream,
            seq: Seq(u16::from_be_bytes([s0, s1])),
            timestamp: RtpTime(u32::from_be_bytes([t0, t1, t2, t3])),
            base: Seq(u16::from_be_bytes([b0, b1])),
            offset,
            na,
            parity: Parity {
                flags: first & 0x3F,
                marker_type: second & 0x80 | pt & 0x7F,
                timestamp: u32::from_be_bytes([r0, r1, r2, r3]),
                length: u16::from_be_bytes([l0, l1]),
            },
        })
    }

    /// The headers as they go out: SSRC 0, E = 1, mask, index and extension 0.
    pub(super) fn write(&self) -> [u8; FEC_LEN] {
        let mut out = [0; FEC_LEN];
        let parity = &self.parity;
        out[0] = 0x80 | parity.flags;
        out[1] = parity.marker_type & 0x80 | FEC_PAYLOAD_TYPE;
        out[2..4].copy_from_slice(&self.seq.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        out[12..14].copy_from_slice(&self.base.0.to_be_bytes());
        out[14..16].copy_from_slice(&parity.length.to_be_bytes());
        out[16] = 0x80 | parity.marker_type & 0x7F;
        out[20..24].copy_from_slice(&parity.timestamp.to_be_bytes());
        out[24] = u8::from(self.stream == FecStream::Row) << 6;
        out[25] = self.offset;
        out[26] = self.na;
        out
    }
}

/// Fuzz body: parse anything; what parses has members, and survives a rewrite.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(header) = FecHeader::parse(data) else { return };
    assert!(header.na > 0 && header.offset > 0 && u16::from(header.na) * u16::from(header.offset) <= MAX_SPAN);
    let again = [&header.write()[..], &data[FEC_LEN..]].concat();
    assert_eq!(FecHeader::parse(&again), Ok(header));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A column of 10 x 5: RTP header, FEC header, one byte of payload.
    const COLUMN: [u8; 29] = [
        0x80,
        0x60,
        0x12,
        0x34,
        0,
        0,
        0,
        9,
        0,
        0,
        0,
        0, // V=2, PT=96, sequence, timestamp, SSRC 0
        0xFF,
        0xFE,
        0x05,
        0x24,
        0x80 | 33,
        0,
        0,
        0, // SNBase, length recovery, E and PT recovery, mask
        0xA,
        0xB,
        0xC,
        0xD,
        0x00,
        10,
        5,
        0, // timestamp recovery, N D type index, offset, NA, extension
        0x47,
    ];

    fn with(at: usize, byte: u8) -> Result<FecHeader, FecError> {
        let mut packet = COLUMN;
        packet[at] = byte;
        FecHeader::parse(&packet)
    }

    #[test]
    fn a_column_packet_is_read_field_by_field() {
        let header = FecHeader::parse(&COLUMN).unwrap();
        assert_eq!((header.stream, header.seq, header.timestamp), (FecStream::Column, Seq(0x1234), RtpTime(9)));
        assert_eq!((header.base, header.offset, header.na), (Seq(65_534), 10, 5));
        let parity = Parity { flags: 0, marker_type: 33, timestamp: 0x0A0B_0C0D, length: 1316 };
        assert_eq!(header.parity, parity);
        assert_eq!(header.write(), COLUMN[..FEC_LEN]);
    }

    #[test]
    fn the_rtp_headers_flags_are_those_of_the_members() {
        let header = with(0, 0xBF).unwrap();
        assert_eq!(header.parity.flags, 0x3F, "neither padding nor extension of the FEC packet");
        assert_eq!(with(1, 0xE0).unwrap().parity.marker_type, 0x80 | 33);
    }

    #[test]
    fn a_row_packet_has_the_bit_d() {
        assert_eq!(with(24, 0x40), Err(FecError::Set { offset: 10, na: 5 }), "members of a row are neighbours");
        let mut row = COLUMN;
        (row[24], row[25]) = (0x40, 1);
        assert_eq!(FecHeader::parse(&row).map(|header| header.stream), Ok(FecStream::Row));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(FecHeader::parse(&COLUMN[..28]), Err(FecError::Short(28)), "no payload");
        assert_eq!(FecHeader::parse(&[]), Err(FecError::Short(0)));
        assert_eq!(with(0, 0x47), Err(FecError::Version(1)));
        assert_eq!(with(1, 33), Err(FecError::PayloadType(33)), "media on the FEC port");
        assert_eq!(with(1, 200), Err(FecError::PayloadType(72)), "RTCP on the FEC port");
        assert_eq!(with(24, 0x80), Err(FecError::Extended));
        assert_eq!(with(24, 0x08), Err(FecError::Type(1)), "Hamming");
        assert_eq!(with(25, 0), Err(FecError::Set { offset: 0, na: 5 }));
        assert_eq!(with(26, 0), Err(FecError::Set { offset: 10, na: 0 }));
        assert_eq!(with(26, 40).map(|header| header.na), Ok(40));
        assert_eq!(with(26, 41), Err(FecError::Span(410)));
    }

    #[test]
    fn a_sender_without_the_bit_e_is_understood() {
        assert_eq!(with(16, 33), FecHeader::parse(&COLUMN));
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            fuzz(&data);
        }

        #[test]
        fn nothing_that_looks_like_fec_panics(kind: u8, data in proptest::collection::vec(any::<u8>(), 27..40)) {
            let mut packet = [&[0x80, 0x60][..], &data].concat();
            packet[24] = kind & 0x47;
            fuzz(&packet);
        }
    }
}
