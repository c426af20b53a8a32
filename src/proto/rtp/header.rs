//! The fixed RTP header, RFC 3550 section 5.1: a checked view, and its 12 bytes.

use serde::{Deserialize, Serialize};
use std::ops::Range;

use crate::proto::seq::{RtpTime, Seq};

/// The payload type of MPEG-TS (RFC 3551, table 5).
pub const MP2T: u8 = 33;
/// Of the first byte: an extension follows on the header.
pub(in crate::proto) const EXTENSION: u8 = 0x10;
/// Bytes of a header without contributing sources and extension.
pub const FIXED_LEN: usize = 12;

/// Whether a payload type may carry MPEG-TS: the static 33, or a dynamic one (96 to 127), whose meaning only the two
/// ends know.
pub const fn carries_mp2t(payload_type: u8) -> bool {
    payload_type == MP2T || (payload_type >= 96 && payload_type <= 127)
}

/// Why a datagram is not an RTP media packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than the fixed header.
    #[error("{0} bytes are too few for an RTP header")]
    Short(usize),
    /// The first two bits are not 2.
    #[error("RTP version {0}, not 2")]
    Version(u8),
    /// RTCP on the media port (RFC 5761, section 4), by its packet type.
    #[error("RTCP packet of type {0}, not media")]
    Rtcp(u8),
    /// The list of contributing sources or the extension ends after the packet.
    #[error("RTP header longer than its packet")]
    Truncated,
    /// The padding is empty, or longer than the payload.
    #[error("RTP padding of {0} bytes does not fit the packet")]
    Padding(u8),
}

/// The header of an RTP packet, and where its payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// For MPEG-TS: the timestamp is discontinuous (RFC 2250, section 2.1).
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// One more each packet.
    pub seq: Seq,
    /// When the first byte of the payload is due, at 90 kHz.
    pub timestamp: RtpTime,
    /// The synchronisation source.
    pub ssrc: u32,
    start: usize,
    end: usize,
}

impl Header {
    /// A header to be written, without contributing sources, extension and padding.
    pub const fn new(payload_type: u8, seq: Seq, timestamp: RtpTime, ssrc: u32) -> Self {
        let payload_type = payload_type & 0x7F;
        Self { marker: false, payload_type, seq, timestamp, ssrc, start: FIXED_LEN, end: FIXED_LEN }
    }

    /// Read the header of a whole datagram.
    ///
    /// # Errors
    /// Whatever [`HeaderError`] names. The payload may be empty, and its type may be any but RTCP's.
    pub fn parse(packet: &[u8]) -> Result<Self, HeaderError> {
        let Some((fixed, rest)) = packet.split_first_chunk::<FIXED_LEN>() else {
            return Err(HeaderError::Short(packet.len()));
        };
        let [first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *fixed;
        if first >> 6 != 2 {
            return Err(HeaderError::Version(first >> 6));
        }
        if is_rtcp(second) {
            return Err(HeaderError::Rtcp(second | 0x80));
        }
        let mut header_len = usize::from(first & 0x0F) * 4;
        if first & EXTENSION != 0 {
            let words = rest.get(header_len..header_len + 4).ok_or(HeaderError::Truncated)?;
            header_len += 4 + 4 * usize::from(u16::from_be_bytes([words[2], words[3]]));
        }
        let mut payload = rest.len().checked_sub(header_len).ok_or(HeaderError::Truncated)?;
        if first & 0x20 != 0 {
            // `rest` may be empty here; a padded packet without payload then has padding 0, which is not allowed.
            let padding = rest.last().copied().unwrap_or(0);
            let kept = payload.checked_sub(usize::from(padding)).filter(|_| padding > 0);
            payload = kept.ok_or(HeaderError::Padding(padding))?;
        }
        let start = FIXED_LEN + header_len;
        Ok(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            seq: Seq(u16::from_be_bytes([s0, s1])),
            timestamp: RtpTime(u32::from_be_bytes([t0, t1, t2, t3])),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            start,
            end: start + payload,
        })
    }

    /// Where the payload lies in the packet that was parsed, without padding.
    pub const fn payload(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The fixed header. Contributing sources, extension and padding of a parsed packet are left out.
    pub const fn write(&self) -> [u8; FIXED_LEN] {
        let [s0, s1] = self.seq.0.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.0.to_be_bytes();
        let [r0, r1, r2, r3] = self.ssrc.to_be_bytes();
        [0x80, (self.marker as u8) << 7 | (self.payload_type & 0x7F), s0, s1, t0, t1, t2, t3, r0, r1, r2, r3]
    }
}

/// Whether a packet's second byte makes it RTCP: 192 to 223 (RFC 5761, section 4), or the payload types 72 to 76 that
/// RFC 3551 keeps free because they look like RTCP without its top bit.
const fn is_rtcp(second: u8) -> bool {
    matches!(second, 192..=223 | 72..=76)
}

/// Fuzz body: parse anything; what parses lies inside the packet, and its fixed part survives a rewrite.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(header) = Header::parse(data) else { return };
    assert!(data.get(header.payload()).is_some());
    let again = Header::parse(&header.write()).unwrap();
    assert_eq!(again.write(), header.write());
    assert_eq!(
        (again.marker, again.payload_type, again.seq, again.timestamp, again.ssrc),
        (header.marker, header.payload_type, header.seq, header.timestamp, header.ssrc)
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: [u8; 16] = [0x80, 33, 0xFF, 0xFE, 0, 1, 2, 3, 0xDE, 0xAD, 0xBE, 0xEF, 0x47, 1, 2, 3];

    #[test]
    fn a_plain_packet_is_read_field_by_field() {
        let header = Header::parse(&PLAIN).unwrap();
        assert_eq!(header.seq, Seq(65_534));
        assert_eq!(header.timestamp, RtpTime(0x0001_0203));
        assert_eq!((header.ssrc, header.payload_type, header.marker), (0xDEAD_BEEF, MP2T, false));
        assert_eq!(&PLAIN[header.payload()], [0x47, 1, 2, 3]);
        assert_eq!(header.write(), PLAIN[..12]);
    }

    #[test]
    fn contributing_sources_extension_and_padding_are_no_payload() {
        let mut packet = vec![0x80 | 0x20 | 0x10 | 2, 0x80 | 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        packet.extend([1; 8]); // two contributing sources
        packet.extend([0xBE, 0xDE, 0, 1, 7, 7, 7, 7]); // one word of extension
        packet.extend(*b"media");
        packet.extend([0, 0, 3]); // padding
        let header = Header::parse(&packet).unwrap();
        assert_eq!(&packet[header.payload()], b"media");
        assert!(header.marker);
        assert_eq!(header.payload_type, 96);
    }

    #[test]
    fn an_empty_payload_is_a_packet() {
        assert!(Header::parse(&PLAIN[..12]).unwrap().payload().is_empty());
    }

    #[test]
    fn broken_headers_are_named() {
        let with = |at: usize, byte: u8| {
            let mut packet = PLAIN;
            packet[at] = byte;
            Header::parse(&packet).unwrap_err()
        };
        assert_eq!(Header::parse(&PLAIN[..11]).unwrap_err(), HeaderError::Short(11));
        assert_eq!(with(0, 0x47), HeaderError::Version(1));
        assert_eq!(with(0, 0x82), HeaderError::Truncated, "two contributing sources need 8 bytes, 4 are there");
        assert_eq!(with(0, 0x90), HeaderError::Truncated, "the extension's length is beyond the packet");
        assert_eq!(Header::parse(&[&PLAIN[..], &[0]].concat()).map(|h| h.payload().len()), Ok(5));
        let mut padded = PLAIN;
        padded[0] |= 0x20;
        for (last, fits) in [(0, false), (1, true), (4, true), (5, false), (255, false)] {
            padded[15] = last;
            assert_eq!(Header::parse(&padded).is_ok(), fits, "padding {last} of 4 bytes");
        }
    }

    #[test]
    fn rtcp_on_the_media_port_is_no_media() {
        for second in [200_u8, 201, 202, 203, 204, 205, 206, 207, 192, 223] {
            let mut packet = PLAIN;
            packet[1] = second;
            assert_eq!(Header::parse(&packet).unwrap_err(), HeaderError::Rtcp(second));
        }
        let mut packet = PLAIN;
        packet[1] = 72;
        assert_eq!(Header::parse(&packet).unwrap_err(), HeaderError::Rtcp(200));
        for media in [33, 96, 127, 0x80 | 33, 0x80 | 96] {
            packet[1] = media;
            assert!(Header::parse(&packet).is_ok(), "{media}");
        }
    }

    #[test]
    fn mpeg_ts_comes_as_type_33_or_a_dynamic_one() {
        let types: Vec<u8> = (0..=255).filter(|t| carries_mp2t(*t)).collect();
        assert_eq!(types, std::iter::once(33).chain(96..=127).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            fuzz(&data);
        }

        #[test]
        fn nothing_that_looks_like_rtp_panics(first in 0x80_u8..0xC0, data in proptest::collection::vec(any::<u8>(), 11..64)) {
            fuzz(&[&[first][..], &data].concat());
        }

        #[test]
        fn what_is_written_is_read_back(pt in 96_u8..128, seq: u16, ts: u32, ssrc: u32, marker: bool) {
            let mut header = Header::new(pt, Seq(seq), RtpTime(ts), ssrc);
            header.marker = marker;
            prop_assert_eq!(Header::parse(&header.write()), Ok(header));
        }
    }
}
