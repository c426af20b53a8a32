//! Just enough of SRT's wire format to tell packets apart in a network: nothing of this is the daemon's.

use crate::support::nat::{self, Wire};

/// A network between callers and a listener.
pub type Nat = nat::Nat<Srt>;
/// What a network does.
pub type Weather = nat::Weather<Srt>;

/// SRT as a network sees it: where the sequence numbers of a connection begin.
#[derive(Debug, Default)]
pub struct Srt(Option<u32>);

impl Wire for Srt {
    type Kind = Kind;
    type Key = Key;
    const DATA: Kind = Kind::Data;
    const PORTS: u16 = 1;

    fn kind(packet: &[u8]) -> Kind {
        kind(packet)
    }

    fn number(kind: Kind) -> u64 {
        kind as u64
    }

    fn is_kept(kind: Kind) -> bool {
        matches!(kind, Kind::Induction | Kind::Conclusion | Kind::Reject | Kind::WaveAHand | Kind::Agreement)
    }

    fn key(packet: &[u8]) -> Option<Key> {
        if kind(packet) == Kind::Data { key(packet) } else { None }
    }

    fn place(&mut self, packet: &[u8]) -> Option<u32> {
        let sequence = sequence(packet)?;
        Some(sequence.wrapping_sub(*self.0.get_or_insert(sequence)) & 0x7FFF_FFFF)
    }

    fn called(&mut self, packet: &[u8]) {
        // A new connection counts anew.
        self.0 = initial_sequence(packet).or(self.0);
    }
}

impl nat::Report<Srt> {
    /// Stream IDs that were asked for.
    pub fn stream_ids(&self) -> Vec<String> {
        self.kept.iter().filter_map(|packet| stream_id(packet)).collect()
    }

    /// Refusals, by their numbers.
    pub fn rejects(&self) -> Vec<u32> {
        self.kept.iter().filter_map(|packet| reject_code(packet)).collect()
    }
}

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The first time that this sequence number goes this way.
    Data,
    /// Marked as sent again.
    Retransmission,
    /// The first half of a handshake, either way.
    Induction,
    /// The second half of a handshake, either way.
    Conclusion,
    /// A refusal.
    Reject,
    /// Of a rendezvous.
    WaveAHand,
    /// Of a rendezvous.
    Agreement,
    KeepAlive,
    Ack,
    Nak,
    Shutdown,
    AckAck,
    DropRequest,
    KeyRequest,
    KeyResponse,
    Other,
}

/// Which of both keys a data packet is encrypted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    None,
    Even,
    Odd,
}

fn word(datagram: &[u8], index: usize) -> Option<u32> {
    let bytes = datagram.get(index * 4..index * 4 + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// What a datagram is.
pub fn kind(datagram: &[u8]) -> Kind {
    let Some(first) = word(datagram, 0) else { return Kind::Other };
    if sequence(datagram).is_some() {
        let again = word(datagram, 1).is_some_and(|second| second & 0x0400_0000 != 0);
        return if again { Kind::Retransmission } else { Kind::Data };
    }
    match (first >> 16 & 0x7FFF, first & 0xFFFF) {
        (0, _) => match word(datagram, 9) {
            Some(1) => Kind::Induction,
            Some(0xFFFF_FFFF) => Kind::Conclusion,
            Some(0xFFFF_FFFE) => Kind::Agreement,
            Some(0) => Kind::WaveAHand,
            _ => Kind::Reject,
        },
        (1, _) => Kind::KeepAlive,
        (2, _) => Kind::Ack,
        (3, _) => Kind::Nak,
        (5, _) => Kind::Shutdown,
        (6, _) => Kind::AckAck,
        (7, _) => Kind::DropRequest,
        (0x7FFF, 3) => Kind::KeyRequest,
        (0x7FFF, 4) => Kind::KeyResponse,
        _ => Kind::Other,
    }
}

/// Of a data packet.
pub fn sequence(datagram: &[u8]) -> Option<u32> {
    word(datagram, 0).filter(|first| first & 0x8000_0000 == 0 && datagram.len() >= 16)
}

/// Of a data packet.
pub fn key(datagram: &[u8]) -> Option<Key> {
    sequence(datagram)?;
    Some(match word(datagram, 1)? >> 27 & 3 {
        0 => Key::None,
        1 => Key::Even,
        _ => Key::Odd,
    })
}

/// Where the sequence numbers of a connection begin, by its handshake.
pub fn initial_sequence(datagram: &[u8]) -> Option<u32> {
    if kind(datagram) == Kind::Conclusion { word(datagram, 6) } else { None }
}

/// Why a handshake is refused: 1000 more than libsrt's number of the reason.
pub fn reject_code(datagram: &[u8]) -> Option<u32> {
    if kind(datagram) == Kind::Reject { word(datagram, 9) } else { None }
}

/// The stream ID in a handshake, whose bytes go in groups of four, each backwards.
pub fn stream_id(datagram: &[u8]) -> Option<String> {
    if kind(datagram) != Kind::Conclusion {
        return None;
    }
    let mut rest = datagram.get(64..)?;
    loop {
        let head = word(rest, 0)?;
        let (block, length) = (head >> 16, (head & 0xFFFF) as usize * 4);
        let body = rest.get(4..4 + length)?;
        if block == 5 {
            let bytes = body.chunks(4).flat_map(|group| group.iter().rev().copied()).collect::<Vec<_>>();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Some(text.trim_end_matches('\0').to_owned());
        }
        rest = rest.get(4 + length..)?;
    }
}
