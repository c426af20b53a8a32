//! The tunnel's headers (TR-06-2, section 5): GRE, the reduced overhead with its virtual ports, and keep-alives.

use super::psk::KeyLength;
use serde::{Deserialize, Serialize};

const CHECKSUM: u8 = 0x80;
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
const LONG_KEY: u8 = 0x40;

/// Protocol type: a keep-alive.
const KEEP_ALIVE: u16 = 0x88B5;
/// Protocol type: virtual ports, and a packet of RTP or RTCP.
const REDUCED: u16 = 0x88B6;
/// Protocol type of the editions after 2020: a type and a subtype follow.
const VSF: u16 = 0xCCE0;
/// Its subtypes.
const VSF_REDUCED: u32 = 0;
const VSF_KEEP_ALIVE: u32 = 0x8000;

/// Bytes of what we put before a packet in clear.
pub(super) const CLEAR_LEN: usize = 4 + PORTS_LEN;
/// The same where it is encrypted.
pub(super) const SEALED_LEN: usize = 12 + PORTS_LEN;
/// Bytes of the virtual ports.
pub(super) const PORTS_LEN: usize = 4;

/// A GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The nonce of the key, where it is encrypted.
    pub(super) nonce: Option<[u8; 4]>,
    pub(super) key_length: KeyLength,
    /// 0 where there is none.
    pub(super) seq: u32,
    /// RVer: of the protocol in the tunnel.
    pub(super) version: u8,
    protocol: u16,
    /// Its bytes.
    pub(super) len: usize,
}

/// What a packet of the tunnel is, by its protocol type and what follows on the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// RTP or RTCP.
    Reduced(Ports),
    /// The bytes after the header are [`KeepAlive`]'s.
    KeepAlive,
    /// Something else that is known to be: whole IP packets, authentication.
    Other,
}

/// Virtual ports. RTP goes to an even one, its RTCP to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) source: u16,
    pub(super) destination: u16,
}

impl Header {
    /// Read the header of a whole datagram; `None`: it is no packet of a tunnel.
    pub(super) fn read(datagram: &[u8]) -> Option<Self> {
        let (&[first, second, p0, p1], rest) = datagram.split_first_chunk::<4>()?;
        let protocol = u16::from_be_bytes([p0, p1]);
        // The rest is reserved. Bits of the version of GRE are 0.
        let unknown = first & !(CHECKSUM | KEY | SEQUENCE) != 0 || second & 7 != 0;
        if unknown || !matches!(protocol, KEEP_ALIVE | REDUCED | VSF | 0x0800 | 0x888E) {
            return None;
        }
        let mut words = rest.as_chunks::<4>().0.iter().copied();
        let mut option = |bit: u8| if first & bit != 0 { words.next().map(Some) } else { Some(None) };
        let (checksum, nonce, seq) = (option(CHECKSUM)?, option(KEY)?, option(SEQUENCE)?);
        let options = [checksum.is_some(), nonce.is_some(), seq.is_some()];
        Some(Self {
            nonce,
            key_length: if second & LONG_KEY != 0 { KeyLength::Aes256 } else { KeyLength::Aes128 },
            seq: seq.map_or(0, u32::from_be_bytes),
            version: second >> 3 & 7,
            protocol,
            len: 4 + 4 * options.iter().filter(|there| **there).count(),
        })
    }

    /// What the packet is, from what follows on the header, in clear; and the length of that.
    pub(super) fn content(&self, body: &[u8]) -> Option<(Content, usize)> {
        let (kind, before) = match self.protocol {
            REDUCED => (VSF_REDUCED, 0),
            KEEP_ALIVE => (VSF_KEEP_ALIVE, 0),
            VSF => (u32::from_be_bytes(*body.first_chunk()?), 4),
            _ => return Some((Content::Other, 0)),
        };
        Some(match kind {
            VSF_REDUCED => {
                let &[s0, s1, d0, d1] = body.get(before..)?.first_chunk()?;
                let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
                (Content::Reduced(Ports { source, destination }), before + PORTS_LEN)
            }
            VSF_KEEP_ALIVE => (Content::KeepAlive, before),
            // Nonces to come, negotiation of buffers.
            _ if kind >> 16 == 0 => (Content::Other, before),
            _ => return None,
        })
    }

    /// What we send in clear.
    pub(super) const fn write_clear(content: Content) -> [u8; 4] {
        let [p0, p1] = Self::protocol_of(content).to_be_bytes();
        [0, 0, p0, p1]
    }

    /// What we send encrypted: with the sequence number in the first bytes of the counter, which version 1 says.
    pub(super) const fn write_sealed(content: Content, nonce: [u8; 4], key_length: KeyLength, seq: u32) -> [u8; 12] {
        let [p0, p1] = Self::protocol_of(content).to_be_bytes();
        let long = if matches!(key_length, KeyLength::Aes256) { LONG_KEY } else { 0 };
        let ([n0, n1, n2, n3], [s0, s1, s2, s3]) = (nonce, seq.to_be_bytes());
        [KEY | SEQUENCE, 1 << 3 | long, p0, p1, n0, n1, n2, n3, s0, s1, s2, s3]
    }

    const fn protocol_of(content: Content) -> u16 {
        if matches!(content, Content::KeepAlive) { KEEP_ALIVE } else { REDUCED }
    }
}

impl Ports {
    /// As on the wire.
    pub(super) const fn write(self) -> [u8; PORTS_LEN] {
        let ([s0, s1], [d0, d1]) = (self.source.to_be_bytes(), self.destination.to_be_bytes());
        [s0, s1, d0, d1]
    }

    /// Those of an answer.
    pub(super) const fn swapped(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }

    /// Whether it is RTCP that goes there.
    pub(super) const fn is_control(self) -> bool {
        self.destination % 2 == 1
    }
}

/// What a keep-alive says of who sends it (section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeepAlive {
    /// A number of the device, as MAC addresses are.
    pub(super) mac: [u8; 6],
    /// The flags `X R B A P E L N`, `D T V J` and 4 that are reserved, from the top.
    pub(super) capabilities: u16,
}

/// Null packet deletion.
const N: u16 = 0x0100;
/// Reduced overhead.
const V: u16 = 0x0020;

impl KeepAlive {
    /// Bytes of one without a text.
    pub(super) const LEN: usize = 8;

    /// Ours: null packet deletion, reduced overhead.
    pub(super) const fn of(mac: [u8; 6]) -> Self {
        Self { mac, capabilities: N | V }
    }

    /// Read one; the text in JSON that may follow says nothing that we need.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let &[m0, m1, m2, m3, m4, m5, c0, c1] = body.first_chunk::<{ Self::LEN }>()?;
        Some(Self { mac: [m0, m1, m2, m3, m4, m5], capabilities: u16::from_be_bytes([c0, c1]) })
    }

    /// As on the wire.
    pub(super) const fn write(&self) -> [u8; Self::LEN] {
        let ([m0, m1, m2, m3, m4, m5], [c0, c1]) = (self.mac, self.capabilities.to_be_bytes());
        [m0, m1, m2, m3, m4, m5, c0, c1]
    }

    /// Whether null packet deletion is among what it can do.
    pub(super) const fn restores_nulls(&self) -> bool {
        self.capabilities & N != 0
    }
}

/// Fuzz body: what is read lies inside the datagram.
#[cfg(test)]
pub(super) fn fuzz(data: &[u8]) {
    let Some(header) = Header::read(data) else { return };
    let body = &data[header.len..];
    if let Some((content, len)) = header.content(body) {
        let inner = &body[len..];
        if content == Content::KeepAlive
            && let Some(keep_alive) = KeepAlive::read(inner)
        {
            assert_eq!(keep_alive.write(), inner[..8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_librist_sends_is_read() {
        let clear = [0, 0, 0x88, 0xB6, 0x80, 0, 0x07, 0xB1, 0x80, 0xC8];
        let header = Header::read(&clear).unwrap();
        assert_eq!((header.nonce, header.len, header.version), (None, 4, 0));
        let ports = Ports { source: 32_768, destination: 1969 };
        assert_eq!(header.content(&clear[4..]), Some((Content::Reduced(ports), 4)));
        assert!(ports.is_control() && ports.swapped().write() == [0x07, 0xB1, 0x80, 0]);
        let sealed = [0x30, 0x08, 0x88, 0xB6, 0xDF, 0x96, 0x12, 0xD4, 0, 0, 0, 5, 0xF4, 0x55];
        let header = Header::read(&sealed).unwrap();
        assert_eq!((header.nonce, header.seq, header.len), (Some([0xDF, 0x96, 0x12, 0xD4]), 5, 12));
        assert_eq!((header.version, header.key_length), (1, KeyLength::Aes128));
        let written = Header::write_sealed(Content::Other, [0xDF, 0x96, 0x12, 0xD4], KeyLength::Aes128, 5);
        assert_eq!(written, sealed[..12]);
        assert_eq!(Header::write_clear(Content::Other), clear[..4]);
        // A whole IP packet, which ristreceiver sends to say who it is.
        let ip = Header::read(&[0, 0, 0x08, 0, 0x45]).unwrap();
        assert_eq!(ip.content(&[0x45]), Some((Content::Other, 0)));
        let long = Header::read(&[0x30, 0x48, 0x88, 0xB6, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
        assert_eq!((long.key_length, long.version), (KeyLength::Aes256, 1));
    }

    #[test]
    fn the_form_of_later_editions_is_read() {
        let reduced = [0x10, 0x10, 0xCC, 0xE0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 1, 0, 2];
        let header = Header::read(&reduced).unwrap();
        assert_eq!((header.seq, header.version, header.len), (9, 2, 8));
        let ports = Ports { source: 1, destination: 2 };
        assert_eq!(header.content(&reduced[8..]), Some((Content::Reduced(ports), 8)));
        assert_eq!(header.content(&[0, 0, 0x80, 0]), Some((Content::KeepAlive, 4)));
        assert_eq!(header.content(&[0, 0, 0x80, 1]), Some((Content::Other, 4)));
        assert_eq!(header.content(&[0, 1, 0, 0]), None);
        assert_eq!(header.content(&[0, 0, 0, 0, 0, 1, 0]), None);
    }

    #[test]
    fn rtp_and_what_is_cut_are_no_packets_of_a_tunnel() {
        assert_eq!(Header::read(&[0x80, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Header::read(&[0x30, 0x08, 0x88, 0xB6, 1, 2, 3, 4, 0, 0, 0]), None);
        assert_eq!(Header::read(&[0x47, 0x1F, 0xFF, 0x10]), None);
        assert_eq!(Header::read(&[0, 1, 0x88, 0xB6]), None, "version 1 of GRE");
        assert_eq!(Header::read(&[]), None);
    }

    #[test]
    fn a_keep_alive_tells_what_can_be_done() {
        let ours = KeepAlive::of([2, 0, 0, 0, 0, 1]);
        assert_eq!(ours.write(), [2, 0, 0, 0, 0, 1, 0x01, 0x20]);
        assert!(ours.restores_nulls());
        // Of librist: N, E, B; V.
        let theirs = KeepAlive::read(&[1, 2, 3, 4, 5, 6, 0x25, 0x20, b'{', b'}']);
        assert_eq!(theirs.map(|k| (k.capabilities, k.restores_nulls())), Some((0x2520, true)));
        assert_eq!(KeepAlive::read(&[0; 7]), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(
            flags in proptest::sample::select(&[0_u8, 0x10, 0x20, 0x30, 0x80, 0xB0][..]), second: u8,
            protocol in proptest::sample::select(&[KEEP_ALIVE, REDUCED, VSF, 0x0800][..]),
            body in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut data = vec![flags, second & 0xF8];
            data.extend(protocol.to_be_bytes());
            data.extend(body);
            fuzz(&data);
        }
    }
}
