//! Packets: the header of 16 bytes, and data packets (draft-sharabayko-srt, section 3).

use serde::{Deserialize, Serialize};

use super::control::{Control, ControlError};
use super::seq::{MsgNo, SeqNo, SocketId, Timestamp};

/// Bytes of every packet's header.
pub const HEADER_LEN: usize = 16;
/// The first bit: control, not data.
pub(super) const CONTROL: u32 = 0x8000_0000;

const IN_ORDER: u32 = 1 << 29;
const RETRANSMITTED: u32 = 1 << 26;

/// Why a datagram is not an SRT packet. The connection it came for is none the worse: it is counted and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than the header.
    #[error("{0} bytes are too few for an SRT packet")]
    Short(usize),
    /// Both bits for the key are set in a data packet.
    #[error("a data packet cannot be encrypted with both keys")]
    BothKeys,
    /// A control packet whose body does not fit its type.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Which of the two stream keys (the field KK).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// KK 01; the first of a connection.
    Even,
    /// KK 10.
    Odd,
}

impl Key {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    /// As on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Even => 1,
            Self::Odd => 2,
        }
    }
}

/// Where a packet stands in its message (the field PP). In live mode always alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// 00.
    Middle,
    /// 01.
    Last,
    /// 10.
    First,
    /// 11: the whole message.
    Solo,
}

impl Boundary {
    const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Middle,
            1 => Self::Last,
            2 => Self::First,
            _ => Self::Solo,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Middle => 0,
            Self::Last => 1,
            Self::First => 2,
            Self::Solo => 3,
        }
    }
}

/// The header of a data packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// One more each packet; a retransmitted one keeps its own.
    pub seq: SeqNo,
    /// [`MsgNo::NONE`] in a packet of the packet filter.
    pub message: MsgNo,
    /// The key the payload is encrypted with; `None` in clear.
    pub key: Option<Key>,
    /// Sent before (R).
    pub retransmitted: bool,
    /// Not to be delivered before the messages in front of it (O). Never set in live mode.
    pub in_order: bool,
    /// Its place in the message.
    pub boundary: Boundary,
    /// When the sender's application had it. A retransmitted packet keeps its own.
    pub timestamp: Timestamp,
    /// The receiver's socket.
    pub destination: SocketId,
}

impl DataHeader {
    /// The header of a packet of live mode that is sent for the first time.
    pub const fn live(seq: SeqNo, message: MsgNo, timestamp: Timestamp, destination: SocketId) -> Self {
        let boundary = Boundary::Solo;
        Self { seq, message, key: None, retransmitted: false, in_order: false, boundary, timestamp, destination }
    }

    /// As on the wire.
    pub const fn write(&self) -> [u8; HEADER_LEN] {
        let key = match self.key {
            Some(key) => key.bits() as u32,
            None => 0,
        };
        let mut flags = self.boundary.bits() << 30 | key << 27 | self.message.value();
        if self.in_order {
            flags |= IN_ORDER;
        }
        if self.retransmitted {
            flags |= RETRANSMITTED;
        }
        header([self.seq.value(), flags, self.timestamp.0, self.destination.0])
    }

    fn parse([w0, w1, w2, w3]: [u32; 4]) -> Result<Self, PacketError> {
        let key = match w1 >> 27 & 3 {
            0 => None,
            1 => Some(Key::Even),
            2 => Some(Key::Odd),
            _ => return Err(PacketError::BothKeys),
        };
        Ok(Self {
            seq: SeqNo::new(w0),
            message: MsgNo::new(w1),
            key,
            retransmitted: w1 & RETRANSMITTED != 0,
            in_order: w1 & IN_ORDER != 0,
            boundary: Boundary::from_bits(w1 >> 30),
            timestamp: Timestamp(w2),
            destination: SocketId(w3),
        })
    }
}

/// A packet, checked; what it carries is borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A data packet and its payload, which may be empty.
    Data(DataHeader, &'a [u8]),
    /// A control packet.
    Control {
        /// When it was sent, on its sender's clock.
        timestamp: Timestamp,
        /// The receiver's socket; [`SocketId::NONE`] in a handshake.
        destination: SocketId,
        /// What it says.
        control: Control<'a>,
    },
}

impl<'a> Packet<'a> {
    /// Read a whole datagram.
    ///
    /// # Errors
    /// Whatever [`PacketError`] names. A control packet of unknown type is none: [`Control::Other`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let Some((fixed, body)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(PacketError::Short(datagram.len()));
        };
        let words = words(fixed);
        if words[0] & CONTROL == 0 {
            return Ok(Self::Data(DataHeader::parse(words)?, body));
        }
        let control = Control::parse(words[0], words[1], body)?;
        Ok(Self::Control { timestamp: Timestamp(words[2]), destination: SocketId(words[3]), control })
    }
}

/// The socket a datagram is for, without looking at the rest of it; `None` when it is too short for an SRT packet.
pub fn destination(datagram: &[u8]) -> Option<SocketId> {
    datagram.first_chunk::<HEADER_LEN>().map(|fixed| SocketId(words(fixed)[3]))
}

/// Write the time of sending into a packet that was prepared before; nothing happens to what is too short for one.
pub fn stamp(packet: &mut [u8], timestamp: Timestamp) {
    if let Some(place) = packet.get_mut(8..12) {
        place.copy_from_slice(&timestamp.0.to_be_bytes());
    }
}

/// The four words of a header.
fn words(fixed: &[u8; HEADER_LEN]) -> [u32; 4] {
    let (words, _) = fixed.as_chunks::<4>();
    [0, 1, 2, 3].map(|at| u32::from_be_bytes(words[at]))
}

/// A header of four words.
pub(super) const fn header([w0, w1, w2, w3]: [u32; 4]) -> [u8; HEADER_LEN] {
    let all = (w0 as u128) << 96 | (w1 as u128) << 64 | (w2 as u128) << 32 | w3 as u128;
    all.to_be_bytes()
}

/// Fuzz body: parse anything; what parses is written as it was, or reads the same again.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    match Packet::parse(data) {
        Ok(Packet::Data(header, payload)) => {
            assert_eq!(header.write(), data[..HEADER_LEN]);
            assert_eq!(payload, &data[HEADER_LEN..]);
        }
        Ok(packet @ Packet::Control { timestamp, destination, control }) => {
            if let Control::Nak(losses) = control {
                assert!(losses.ranges().all(|range| !range.last.is_before(range.first)));
            }
            let mut again = Vec::new();
            control.write(timestamp, destination, &mut again);
            assert_eq!(Packet::parse(&again), Ok(packet));
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::bytes;
    use super::*;

    #[test]
    fn a_data_packet_of_libsrt_is_read_field_by_field() {
        let packet = bytes("5f5bf8a5 c8000001 0002d306 2f88e7ca 106570f5");
        let Ok(Packet::Data(header, payload)) = Packet::parse(&packet) else { panic!("not data") };
        assert_eq!((header.seq, header.message), (SeqNo::new(0x5f5b_f8a5), MsgNo::FIRST));
        assert_eq!((header.key, header.boundary), (Some(Key::Even), Boundary::Solo));
        assert!(!header.retransmitted && !header.in_order);
        assert_eq!((header.timestamp, header.destination), (Timestamp(0x0002_d306), SocketId(0x2f88_e7ca)));
        assert_eq!(payload, bytes("106570f5"));
        assert_eq!(header.write(), packet[..HEADER_LEN]);
    }

    #[test]
    fn a_data_packet_with_the_odd_key_is_written_as_libsrt_does() {
        let mut header =
            DataHeader::live(SeqNo::new(0x5f5b_f9d1), MsgNo::new(301), Timestamp(0x001a_d178), SocketId(0x2f88_e7ca));
        header.key = Some(Key::Odd);
        assert_eq!(header.write().to_vec(), bytes("5f5bf9d1 d000012d 001ad178 2f88e7ca"));
        header.retransmitted = true;
        assert_eq!(header.write().to_vec(), bytes("5f5bf9d1 d400012d 001ad178 2f88e7ca"));
    }

    #[test]
    fn an_empty_payload_is_a_packet_and_less_than_a_header_is_none() {
        let packet = bytes("5f5bf8a5 c0000001 0002d306 2f88e7ca");
        assert!(matches!(Packet::parse(&packet), Ok(Packet::Data(_, []))));
        assert_eq!(Packet::parse(&packet[..15]), Err(PacketError::Short(15)));
        assert_eq!(Packet::parse(&[]), Err(PacketError::Short(0)));
        assert_eq!(destination(&packet), Some(SocketId(0x2f88_e7ca)));
        assert_eq!(destination(&packet[..15]), None);
    }

    #[test]
    fn a_prepared_packet_gets_the_time_of_its_sending() {
        let mut packet = bytes("80060000 00000001 00000000 2f88e7ca 00000000");
        stamp(&mut packet, Timestamp(0x0002_d48b));
        assert_eq!(packet, bytes("80060000 00000001 0002d48b 2f88e7ca 00000000"));
        stamp(&mut [0; 11], Timestamp(1));
    }

    #[test]
    fn a_payload_is_never_encrypted_with_both_keys() {
        let packet = bytes("5f5bf8a5 d8000001 0002d306 2f88e7ca");
        assert_eq!(Packet::parse(&packet), Err(PacketError::BothKeys));
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            fuzz(&data);
        }

        #[test]
        fn data_headers_are_read_as_written(
            seq: u32, message: u32, key in 0..3, retransmitted: bool, in_order: bool, boundary: u32, ts: u32, id: u32,
        ) {
            let header = DataHeader {
                seq: SeqNo::new(seq),
                message: MsgNo::new(message),
                key: [None, Some(Key::Even), Some(Key::Odd)][key as usize],
                retransmitted,
                in_order,
                boundary: Boundary::from_bits(boundary),
                timestamp: Timestamp(ts),
                destination: SocketId(id),
            };
            let written = header.write();
            prop_assert_eq!(Packet::parse(&written), Ok(Packet::Data(header, &[])));
        }
    }
}
