//! Control packets (draft-sharabayko-srt, section 3.2): what they say, read and written.

use std::time::Duration;

pub use super::nak::{LossRange, LossRanges, write_nak};
use super::packet::{self, CONTROL};
use super::seq::{MsgNo, SeqNo, SocketId, Timestamp};

const HANDSHAKE: u16 = 0;
const KEEPALIVE: u16 = 1;
const ACK: u16 = 2;
pub(super) const NAK: u16 = 3;
const CONGESTION_WARNING: u16 = 4;
const SHUTDOWN: u16 = 5;
const ACKACK: u16 = 6;
const DROP_REQUEST: u16 = 7;
const PEER_ERROR: u16 = 8;
const EXTENDED: u16 = 0x7FFF;
const KM_REQUEST: u16 = 3;
const KM_RESPONSE: u16 = 4;

/// What libsrt adds to packets that have no body. Some decoders call a packet without it malformed.
const PADDING: [u8; 4] = [0; 4];

/// Why the body of a control packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Not a length that the type may have.
    #[error("control packet of type {kind} with a body of {len} bytes")]
    Length {
        /// The control type.
        kind: u16,
        /// Bytes after the header.
        len: usize,
    },
    /// A sequence number with its top bit set.
    #[error("control packet of type {kind} with a sequence number beyond 31 bits")]
    Sequence {
        /// The control type.
        kind: u16,
    },
    /// A range of sequence numbers that ends before it begins, or a loss list that ends within one.
    #[error("control packet of type {kind} with a range that ends before it begins")]
    Range {
        /// The control type.
        kind: u16,
    },
}

/// A control packet's type and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// Type 0.
    Handshake(&'a [u8]),
    /// Type 1.
    KeepAlive,
    /// Type 2 with a number and with details.
    Ack(Ack),
    /// Type 2 of one word: everything before this was received. It has no number, is not answered and says nothing of
    /// the buffer.
    LightAck(SeqNo),
    /// Type 3.
    Nak(LossRanges<'a>),
    /// Type 4. Nobody sends it, nobody heeds it.
    CongestionWarning,
    /// Type 5.
    Shutdown,
    /// Type 6: the number of the [`Ack`] that it answers.
    AckAck(u32),
    /// Type 7: the sender gave these up.
    DropRequest {
        /// [`MsgNo::NONE`] when it does not say.
        message: MsgNo,
        /// The first packet dropped.
        first: SeqNo,
        /// The last packet dropped, not before the first.
        last: SeqNo,
    },
    /// Type 8, with its code. Only file transfers send it.
    PeerError(u32),
    /// Type 0x7FFF, subtype 3: see [`super::km`].
    KmRequest(&'a [u8]),
    /// Type 0x7FFF, subtype 4: see [`super::km`].
    KmResponse(&'a [u8]),
    /// A type that is not known here, to be let pass.
    Other {
        /// The control type, 15 bits.
        kind: u16,
        /// What stands in the second half of the word.
        subtype: u16,
    },
}

impl<'a> Control<'a> {
    /// Read what follows the header, whose first two words are given.
    pub(super) fn parse(w0: u32, w1: u32, body: &'a [u8]) -> Result<Self, ControlError> {
        let kind = (w0 >> 16 & 0x7FFF) as u16;
        let subtype = (w0 & 0xFFFF) as u16;
        let without_body = |control| match body.len() {
            0 | 4 => Ok(control),
            len => Err(ControlError::Length { kind, len }),
        };
        match kind {
            HANDSHAKE => Ok(Self::Handshake(body)),
            KEEPALIVE => without_body(Self::KeepAlive),
            ACK => parse_ack(w1, body),
            NAK => Ok(Self::Nak(LossRanges::parse(body)?)),
            CONGESTION_WARNING => without_body(Self::CongestionWarning),
            SHUTDOWN => without_body(Self::Shutdown),
            ACKACK => without_body(Self::AckAck(w1)),
            DROP_REQUEST => parse_drop_request(w1, body),
            PEER_ERROR => without_body(Self::PeerError(w1)),
            EXTENDED if subtype == KM_REQUEST => Ok(Self::KmRequest(body)),
            EXTENDED if subtype == KM_RESPONSE => Ok(Self::KmResponse(body)),
            _ => Ok(Self::Other { kind, subtype }),
        }
    }

    /// Append the whole packet to `out`, which is not cleared.
    pub fn write(&self, timestamp: Timestamp, destination: SocketId, out: &mut Vec<u8>) {
        let (kind, subtype) = self.kind();
        let w0 = CONTROL | u32::from(kind) << 16 | u32::from(subtype);
        out.extend(packet::header([w0, self.type_specific(), timestamp.0, destination.0]));
        match *self {
            Self::Handshake(body) | Self::KmRequest(body) | Self::KmResponse(body) => out.extend(body),
            Self::Nak(losses) => out.extend(losses.as_bytes()),
            Self::Ack(ack) => ack.write(out),
            Self::LightAck(seq) => out.extend(seq.value().to_be_bytes()),
            Self::DropRequest { first, last, .. } => {
                out.extend(first.value().to_be_bytes());
                out.extend(last.value().to_be_bytes());
            }
            Self::KeepAlive
            | Self::CongestionWarning
            | Self::Shutdown
            | Self::AckAck(_)
            | Self::PeerError(_)
            | Self::Other { .. } => out.extend(PADDING),
        }
    }

    const fn kind(&self) -> (u16, u16) {
        match *self {
            Self::Handshake(_) => (HANDSHAKE, 0),
            Self::KeepAlive => (KEEPALIVE, 0),
            Self::Ack(_) | Self::LightAck(_) => (ACK, 0),
            Self::Nak(_) => (NAK, 0),
            Self::CongestionWarning => (CONGESTION_WARNING, 0),
            Self::Shutdown => (SHUTDOWN, 0),
            Self::AckAck(_) => (ACKACK, 0),
            Self::DropRequest { .. } => (DROP_REQUEST, 0),
            Self::PeerError(_) => (PEER_ERROR, 0),
            Self::KmRequest(_) => (EXTENDED, KM_REQUEST),
            Self::KmResponse(_) => (EXTENDED, KM_RESPONSE),
            Self::Other { kind, subtype } => (kind & 0x7FFF, subtype),
        }
    }

    /// The header's second word.
    const fn type_specific(&self) -> u32 {
        match *self {
            Self::Ack(ack) => ack.number,
            Self::AckAck(number) => number,
            Self::DropRequest { message, .. } => message.value(),
            Self::PeerError(code) => code,
            _ => 0,
        }
    }
}

/// An acknowledgement that is to be answered by an ACKACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its own number: from 1, one more each, wrapping.
    pub number: u32,
    /// Everything before this was received, or given up.
    pub seq: SeqNo,
    /// The receiver's estimate of the round trip; microseconds of 32 bits on the wire.
    pub rtt: Duration,
    /// How far the round trip varies.
    pub rtt_var: Duration,
    /// Packets that the receiver has room for.
    pub free_packets: u32,
    /// Rates; left out of an acknowledgement that comes less than 10 ms after the last one with them.
    pub rates: Option<AckRates>,
}

/// What the receiver measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckRates {
    /// Packets a second that arrive.
    pub receive_rate: u32,
    /// Packets a second that the link could carry, by packet pairs.
    pub link_capacity: u32,
    /// Bytes a second that arrive. Old versions leave it out.
    pub receive_bytes: Option<u32>,
}

impl Ack {
    fn write(&self, out: &mut Vec<u8>) {
        let words = [self.seq.value(), micros(self.rtt), micros(self.rtt_var), self.free_packets];
        words.iter().for_each(|word| out.extend(word.to_be_bytes()));
        if let Some(rates) = self.rates {
            out.extend(rates.receive_rate.to_be_bytes());
            out.extend(rates.link_capacity.to_be_bytes());
            out.extend(rates.receive_bytes.iter().flat_map(|bytes| bytes.to_be_bytes()));
        }
    }
}

/// At most 71 minutes.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// Acknowledgements grew with the versions: 1, 4, 6 and 7 words; 1.0.2 alone had an eighth.
fn parse_ack<'a>(number: u32, body: &[u8]) -> Result<Control<'a>, ControlError> {
    let length = ControlError::Length { kind: ACK, len: body.len() };
    let (chunks, []) = body.as_chunks::<4>() else { return Err(length) };
    let word = |at: usize| chunks.get(at).copied().map(u32::from_be_bytes);
    let seq = SeqNo::from_wire(word(0).ok_or(length)?).ok_or(ControlError::Sequence { kind: ACK })?;
    if chunks.len() == 1 {
        return Ok(Control::LightAck(seq));
    }
    let (Some(rtt), Some(rtt_var), Some(free_packets), 4 | 6 | 7 | 8) = (word(1), word(2), word(3), chunks.len())
    else {
        return Err(length);
    };
    let rates = word(4).zip(word(5)).map(|(receive_rate, link_capacity)| AckRates {
        receive_rate,
        link_capacity,
        receive_bytes: word(6),
    });
    let span = |us| Duration::from_micros(u64::from(us));
    Ok(Control::Ack(Ack { number, seq, rtt: span(rtt), rtt_var: span(rtt_var), free_packets, rates }))
}

fn parse_drop_request<'a>(w1: u32, body: &[u8]) -> Result<Control<'a>, ControlError> {
    let kind = DROP_REQUEST;
    let ([first, last], []) = body.as_chunks::<4>() else {
        return Err(ControlError::Length { kind, len: body.len() });
    };
    let seq = |word: &[u8; 4]| SeqNo::from_wire(u32::from_be_bytes(*word)).ok_or(ControlError::Sequence { kind });
    let (first, last) = (seq(first)?, seq(last)?);
    if last.is_before(first) {
        return Err(ControlError::Range { kind });
    }
    Ok(Control::DropRequest { message: MsgNo::new(w1), first, last })
}

#[cfg(test)]
mod tests;
