//! The handshake packet (draft-sharabayko-srt, section 3.2.1): 48 fixed bytes, then extension blocks.
//!
//! Who sends what when: [`caller`](super::caller), [`listener`](super::listener), [`rendezvous`](super::rendezvous).

use std::net::IpAddr;

pub use self::extension::{Ask, Extensions, HsBlock, MAX_STREAM_ID};
pub use self::reject::Reject;
use super::control::Control;
use super::packet::Packet;
use super::seq::{SeqNo, SocketId, Timestamp};

mod extension;
mod reject;

/// Bytes of a handshake without extensions.
pub const FIXED_LEN: usize = 48;
/// The handshake version with extensions, the only one spoken here.
pub const VERSION_5: u32 = 5;
/// The version of the first packet of a caller, for the sake of listeners that only knew this one; and the lowest.
pub const VERSION_4: u32 = 4;
/// What a listener of version 5 sets in the extension field of its answer to an induction.
pub const MAGIC: u16 = 0x4A17;
/// What a caller sets in the extension field of an induction: a type of socket, of old.
pub(super) const DATAGRAM_SOCKET: u16 = 2;
/// The smallest `mss` that is of use: room for one transport-stream packet.
pub const MIN_MSS: u16 = 28 + 16 + 188;
/// The smallest flow window that libsrt takes.
const MIN_FLOW_WINDOW: u32 = 2;

/// What a handshake packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 0: the first packets of a rendezvous.
    WaveAHand,
    /// 1: the first packet of a caller, and its answer.
    Induction,
    /// -1: it carries the extensions.
    Conclusion,
    /// -2: the last packet of a rendezvous.
    Agreement,
    /// 1000 and above.
    Reject(Reject),
    /// None of these.
    Other(u32),
}

impl Kind {
    fn from_wire(word: u32) -> Self {
        match word {
            0 => Self::WaveAHand,
            1 => Self::Induction,
            0xFFFF_FFFF => Self::Conclusion,
            0xFFFF_FFFE => Self::Agreement,
            _ => match Reject::from_wire(word) {
                Some(reject) => Self::Reject(reject),
                None => Self::Other(word),
            },
        }
    }

    fn wire(self) -> u32 {
        match self {
            Self::WaveAHand => 0,
            Self::Induction => 1,
            Self::Conclusion => 0xFFFF_FFFF,
            Self::Agreement => 0xFFFF_FFFE,
            Self::Reject(reject) => reject.wire(),
            Self::Other(word) => word,
        }
    }
}

/// The receiver's address as the sender sees it: 16 bytes, of which IPv4 takes the first 4. Each group of 4 bytes comes
/// in reverse, as libsrt sends it from a little-endian machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PeerIp(pub [u8; 16]);

impl From<IpAddr> for PeerIp {
    fn from(address: IpAddr) -> Self {
        let mut bytes = [0; 16];
        match address.to_canonical() {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        reverse_groups(&mut bytes);
        Self(bytes)
    }
}

/// Turn each group of 4 bytes around.
fn reverse_groups(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|group| group.reverse());
}

/// Why the body of a handshake packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Shorter than the fixed part.
    #[error("{0} bytes are too few for an SRT handshake")]
    Short(usize),
    /// A sequence number with its top bit set.
    #[error("SRT handshake with an initial sequence number beyond 31 bits")]
    Sequence,
}

/// A handshake packet's body: the fixed part, and the extension blocks as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// 4 or 5.
    pub version: u32,
    /// The key length that the sender would like, as an eighth of its bytes; 0: none.
    pub encryption: u16,
    /// Which extensions there are; in an induction something else.
    pub extensions: u16,
    /// The sequence number of the sender's first data packet.
    pub isn: SeqNo,
    /// Bytes of the largest IP packet the sender wants.
    pub mss: u32,
    /// Packets that the sender has room for.
    pub flow_window: u32,
    /// What it is for.
    pub kind: Kind,
    /// The sender's socket; in an answer to an induction the caller's.
    pub socket: SocketId,
    /// What proves that the caller gets what is sent to its address; in a rendezvous what the roles are drawn by.
    pub cookie: u32,
    /// The receiver's address.
    pub peer_ip: PeerIp,
    /// The extension blocks.
    pub blocks: &'a [u8],
}

impl<'a> Handshake<'a> {
    /// Read the body of a control packet of type handshake.
    ///
    /// # Errors
    /// Whatever [`HandshakeError`] names. Of the values only the sequence number was checked: [`Self::is_valid`].
    pub fn parse(body: &'a [u8]) -> Result<Self, HandshakeError> {
        let Some((fixed, blocks)) = body.split_first_chunk::<FIXED_LEN>() else {
            return Err(HandshakeError::Short(body.len()));
        };
        let (words, _) = fixed.as_chunks::<4>();
        let word = |at: usize| u32::from_be_bytes(words[at]);
        let mut peer_ip = [0; 16];
        peer_ip.copy_from_slice(&fixed[32..]);
        Ok(Self {
            version: word(0),
            encryption: (word(1) >> 16) as u16,
            extensions: (word(1) & 0xFFFF) as u16,
            isn: SeqNo::from_wire(word(2)).ok_or(HandshakeError::Sequence)?,
            mss: word(3),
            flow_window: word(4),
            kind: Kind::from_wire(word(5)),
            socket: SocketId(word(6)),
            cookie: word(7),
            peer_ip: PeerIp(peer_ip),
            blocks,
        })
    }

    /// Read a datagram that is to be a handshake packet, with its time stamp and destination.
    pub(super) fn of_datagram(datagram: &'a [u8]) -> Option<(Self, Timestamp, SocketId)> {
        match Packet::parse(datagram).ok()? {
            Packet::Control { timestamp, destination, control: Control::Handshake(body) } => {
                Some((Self::parse(body).ok()?, timestamp, destination))
            }
            _ => None,
        }
    }

    /// Whether a connection can be made of these values.
    pub fn is_valid(&self) -> bool {
        self.version >= VERSION_4
            && self.isn != SeqNo::MAX
            && self.mss >= u32::from(MIN_MSS)
            && self.flow_window >= MIN_FLOW_WINDOW
    }

    /// The fixed part alone, which borrows nothing.
    pub(super) const fn without_blocks(&self) -> Handshake<'static> {
        let Self { version, encryption, extensions, isn, mss, flow_window, kind, socket, cookie, peer_ip, .. } = *self;
        Handshake { version, encryption, extensions, isn, mss, flow_window, kind, socket, cookie, peer_ip, blocks: &[] }
    }

    /// The whole packet.
    pub fn write(&self, timestamp: Timestamp, destination: SocketId) -> Vec<u8> {
        let words = [
            self.version,
            u32::from(self.encryption) << 16 | u32::from(self.extensions),
            self.isn.value(),
            self.mss,
            self.flow_window,
            self.kind.wire(),
            self.socket.0,
            self.cookie,
        ];
        let mut body = Vec::with_capacity(FIXED_LEN + self.blocks.len());
        body.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        body.extend(self.peer_ip.0);
        body.extend(self.blocks);
        let mut packet = Vec::with_capacity(super::packet::HEADER_LEN + body.len());
        Control::Handshake(&body).write(timestamp, destination, &mut packet);
        packet
    }
}

/// Fuzz body: parse anything; what parses is written as it was, and its extensions are read.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(handshake) = Handshake::parse(data) else { return };
    assert_eq!(handshake.write(Timestamp(0), SocketId(0))[super::packet::HEADER_LEN..], *data);
    if let Ok(extensions) = handshake.read_extensions() {
        let (bits, blocks) = extensions.write();
        let again = Handshake { extensions: bits, blocks: &blocks, ..handshake };
        assert_eq!(again.read_extensions(), Ok(extensions));
    }
    let _ = super::terms::Request::read(&handshake);
}

#[cfg(test)]
mod tests;
