//! Just enough of RIST's wire format to tell packets apart in a network: nothing of this is the daemon's.

use crate::support::media::SEVEN;
use crate::support::nat::{self, Wire};
use crate::support::sample::{STUFFING, numbered};

/// A network between a sender and a receiver.
pub type Nat = nat::Nat<Rist>;
/// What a network does.
pub type Weather = nat::Weather<Rist>;

/// RIST as a network sees it.
#[derive(Debug, Default)]
pub struct Rist;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Media that is sent for the first time, stuffing apart.
    Media,
    /// Media that is marked as sent again.
    Retransmission,
    /// Media that is no part of a stream.
    Stuffing,
    /// RTCP that asks for something to be sent again.
    Nack,
    /// RTCP that asks for an echo or is one.
    Echo,
    /// Any other RTCP.
    Report,
    /// In a tunnel, and encrypted.
    Encrypted,
    /// In a tunnel: neither of these.
    Other,
}

impl Wire for Rist {
    type Kind = Kind;
    /// The nonce of a tunnel.
    type Key = [u8; 4];
    const DATA: Kind = Kind::Media;
    const PORTS: u16 = 2;

    fn kind(packet: &[u8]) -> Kind {
        match open(packet) {
            Inner::Clear(packet) if is_rtcp(packet) => rtcp_kind(packet),
            Inner::Clear(packet) => media_kind(packet),
            Inner::Encrypted(_) => Kind::Encrypted,
            Inner::Other => Kind::Other,
        }
    }

    fn number(kind: Kind) -> u64 {
        kind as u64
    }

    fn is_kept(_kind: Kind) -> bool {
        false
    }

    fn key(packet: &[u8]) -> Option<[u8; 4]> {
        match open(packet) {
            Inner::Encrypted(nonce) => Some(nonce),
            Inner::Clear(_) | Inner::Other => None,
        }
    }

    /// Streams have a beginning that the sequence numbers don't show: datagrams bear numbers of their own.
    fn place(&mut self, packet: &[u8]) -> Option<u32> {
        let Inner::Clear(packet) = open(packet) else { return None };
        if is_rtcp(packet) {
            return None;
        }
        number(payload(packet)?).filter(|number| *number != STUFFING).and_then(|number| u32::try_from(number).ok())
    }
}

/// What is in a tunnel, or a packet without one.
enum Inner<'a> {
    Clear(&'a [u8]),
    Encrypted([u8; 4]),
    Other,
}

/// GRE has a zero where RTP and RTCP have their version, unless it has a checksum, which nobody sends.
fn open(packet: &[u8]) -> Inner<'_> {
    let [first, _, kind @ ..] = packet else { return Inner::Other };
    if first >> 6 == 2 {
        return Inner::Clear(packet);
    }
    let (has_key, has_sequence) = (first & 0x20 != 0, first & 0x10 != 0);
    if has_key {
        return kind.get(2..6).and_then(|nonce| nonce.try_into().ok()).map_or(Inner::Other, Inner::Encrypted);
    }
    let header = if has_sequence { 8 } else { 4 };
    let is_reduced = kind.starts_with(&[0x88, 0xB6]);
    // Two virtual ports.
    packet.get(header + 4..).filter(|_| is_reduced).map_or(Inner::Other, Inner::Clear)
}

fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..224).contains(kind))
}

fn rtcp_kind(compound: &[u8]) -> Kind {
    let mut rest = compound;
    while let [first, kind, high, low, body @ ..] = rest {
        let (subtype, length) = (first & 31, usize::from(u16::from_be_bytes([*high, *low])) * 4);
        let is_rist = body.get(4..8) == Some(b"RIST");
        match (kind, subtype) {
            (205, 1) => return Kind::Nack,
            (204, 0) if is_rist => return Kind::Nack,
            (204, 2 | 3) if is_rist => return Kind::Echo,
            _ => rest = body.get(length..).unwrap_or_default(),
        }
    }
    Kind::Report
}

fn media_kind(packet: &[u8]) -> Kind {
    let is_again = packet.get(11).is_some_and(|ssrc| ssrc & 1 != 0);
    let is_stuffing = payload(packet).and_then(number) == Some(STUFFING);
    match (is_again, is_stuffing) {
        (true, _) => Kind::Retransmission,
        (false, true) => Kind::Stuffing,
        (false, false) => Kind::Media,
    }
}

/// Of RTP, which has no padding here.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let first = packet.first()?;
    let fixed = 12 + usize::from(first & 15) * 4;
    let extension = if first & 0x10 == 0 {
        0
    } else {
        let length = packet.get(fixed + 2..fixed + 4)?;
        4 + usize::from(u16::from_be_bytes([length[0], length[1]])) * 4
    };
    packet.get(fixed + extension..)
}

/// Of a numbered datagram.
fn number(payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(payload.get(4..12)?.try_into().ok()?);
    (payload.len() == SEVEN && payload == numbered(number)).then_some(number)
}
