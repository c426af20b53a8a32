//! One output: what it sends, to which legs, and what became of it.

use crate::time::Instant;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::plan::{OutputProtocol, RtpHeader};
use crate::io::batch::{Outcome, SendError, Target};
use crate::proto::fec2022_1::encode::Encoder;
use crate::proto::fec2022_1::header::FecStream;
use crate::proto::fec2022_1::matrix::Matrix;
use crate::proto::rtp::header::{FIXED_LEN, Header};
use crate::proto::seq::{RtpTime, Seq};

use super::{MediaPacket, OutputConfig, SenderKey};
use crate::flow::stats::OutputStats;

/// What an output sends, with its state.
#[derive(Debug)]
pub(super) enum Framing {
    AsReceived,
    Repacketised(u8),
    Rtp(RtpStream),
    Passthrough,
}

impl Framing {
    fn new(protocol: OutputProtocol, ssrc: u32) -> Self {
        match (protocol, protocol.header()) {
            (_, Some(RtpHeader::Passthrough)) => Self::Passthrough,
            (_, Some(RtpHeader::Regenerate { payload_type, .. })) => {
                // Random starts, as RFC 3550 section 5.1 asks; drawn by the control plane with the SSRC.
                let seq = Seq((ssrc.rotate_left(7) >> 16) as u16);
                let offset = ssrc.wrapping_mul(0x9E37_79B1);
                Self::Rtp(RtpStream { header: Header::new(payload_type, seq, RtpTime(0), ssrc), offset })
            }
            (OutputProtocol::Udp { datagram_packets: Some(packets) }, None) => Self::Repacketised(packets),
            (_, None) => Self::AsReceived,
        }
    }

    /// Bytes of each datagram that are no transport stream.
    const fn overhead(&self) -> u64 {
        match self {
            Self::Rtp(_) | Self::Passthrough => FIXED_LEN as u64,
            Self::AsReceived | Self::Repacketised(_) => 0,
        }
    }
}

/// RTP headers made here.
#[derive(Debug)]
pub(super) struct RtpStream {
    /// With the sequence number of the first packet that is not sent yet.
    header: Header,
    offset: u32,
}

impl RtpStream {
    /// Of the packet that is number `n` of those not sent yet.
    pub(super) fn header(&self, n: usize, packet: &MediaPacket<'_>) -> [u8; FIXED_LEN] {
        let mut header = self.header;
        header.seq = Seq(header.seq.0.wrapping_add(n as u16));
        header.timestamp = RtpTime(packet.timestamp.0.wrapping_add(self.offset));
        header.marker = packet.discontinuity;
        header.write()
    }
}

/// The FEC packets of an output.
#[derive(Debug)]
pub(super) struct Fec {
    encoder: Encoder,
    /// Those that follow the media about to be sent, and where each lies. Memory is kept.
    bytes: Vec<u8>,
    packets: Vec<(FecStream, Range<usize>)>,
}

impl Fec {
    fn new(matrix: Matrix, ssrc: u32) -> Self {
        let first = ssrc.wrapping_mul(0x85EB_CA6B);
        let first = [Seq((first >> 16) as u16), Seq(first as u16)];
        Self { encoder: Encoder::new(matrix, first), bytes: Vec::with_capacity(4096), packets: Vec::with_capacity(16) }
    }

    fn push(&mut self, fixed: &[u8; FIXED_LEN], rest: &[u8]) {
        self.encoder.push(fixed, rest);
        while let Some((stream, packet)) = self.encoder.poll_transmit() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(packet);
            self.packets.push((stream, start..self.bytes.len()));
        }
    }

    /// The packets of one stream that are to be sent now.
    pub(super) fn ready(&self, of: FecStream) -> impl Iterator<Item = &[u8]> {
        let mine = self.packets.iter().filter(move |(stream, _)| *stream == of);
        mine.map(|(_, range)| &self.bytes[range.clone()])
    }
}

/// Datagrams that left since the last count.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    media: u32,
    bytes: u64,
    fec: u32,
}

/// One place an output sends to.
pub(super) struct Leg {
    pub(super) number: usize,
    pub(super) sender: SenderKey,
    pub(super) media: Target,
    /// Columns, rows.
    pub(super) fec: Option<Box<[Target; 2]>>,
    sent: Cell<Sent>,
}

fn legs(config: &OutputConfig) -> Vec<Leg> {
    let fec = matches!(config.protocol, OutputProtocol::RtpFec { .. });
    let leg = |(number, leg)| Leg {
        number,
        sender: config.sender(leg),
        media: config.target(leg),
        fec: fec.then(|| Box::new(config.fec_targets(leg))),
        sent: Cell::default(),
    };
    config.legs().map(leg).collect()
}

/// What a message of a session was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Media,
    Fec,
}

/// Where the RTP of an output stands.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::flow) struct RtpState {
    pub(in crate::flow) ssrc: u32,
    seq: Seq,
    fec: Option<Encoder>,
}

/// An output of a flow.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) legs: Vec<Leg>,
    pub(super) framing: Framing,
    pub(super) fec: Option<Box<Fec>>,
    pub(super) stats: Arc<OutputStats>,
}

impl Output {
    pub(super) fn new(name: String, config: &OutputConfig, ssrc: u32, stats: Arc<OutputStats>) -> Self {
        let fec = match config.protocol {
            OutputProtocol::RtpFec { matrix, .. } => Some(Box::new(Fec::new(matrix, ssrc))),
            OutputProtocol::Udp { .. } | OutputProtocol::Rtp(_) => None,
        };
        Self { name, legs: legs(config), framing: Framing::new(config.protocol, ssrc), fec, stats }
    }

    /// What goes on in [`Self::resume`], if it is of its own making.
    pub(super) fn into_state(self) -> Option<RtpState> {
        let Framing::Rtp(RtpStream { header, .. }) = self.framing else { return None };
        Some(RtpState { ssrc: header.ssrc, seq: header.seq, fec: self.fec.map(|fec| fec.encoder) })
    }

    /// Go on where another one stood. One with another SSRC is another stream.
    pub(super) fn resume(&mut self, state: RtpState) {
        let Framing::Rtp(RtpStream { header, .. }) = &mut self.framing else { return };
        if header.ssrc != state.ssrc {
            return;
        }
        header.seq = state.seq;
        if let (Some(fec), Some(encoder)) = (&mut self.fec, state.fec)
            && fec.encoder.matrix() == encoder.matrix()
        {
            fec.encoder = encoder;
        }
    }

    /// Change where it sends and what is on each datagram; the stream goes on as it is.
    pub(super) fn retarget(&mut self, config: &OutputConfig) {
        self.legs = legs(config);
    }

    /// Make the FEC packets that follow these media packets.
    pub(super) fn protect<'p>(&mut self, packets: impl Iterator<Item = MediaPacket<'p>>) {
        let Some(fec) = &mut self.fec else { return };
        for (n, packet) in packets.enumerate() {
            match &self.framing {
                Framing::Rtp(stream) => fec.push(&stream.header(n, &packet), packet.payload),
                Framing::Passthrough if packet.is_rtp() => {
                    if let Some((fixed, rest)) = packet.datagram.split_first_chunk() {
                        fec.push(fixed, rest);
                    }
                }
                Framing::Passthrough | Framing::AsReceived | Framing::Repacketised(_) => {}
            }
        }
    }

    /// So many packets have been sent, or could not be.
    pub(super) fn advance(&mut self, packets: usize, now: Instant) {
        if let Framing::Rtp(stream) = &mut self.framing {
            stream.header.seq = Seq(stream.header.seq.0.wrapping_add(packets as u16));
        }
        if let Some(fec) = &mut self.fec {
            fec.bytes.clear();
            fec.packets.clear();
        }
        // What left by any leg has left.
        let sent = self.legs.iter().map(|leg| leg.sent.take()).reduce(|a, b| Sent {
            media: a.media.max(b.media),
            bytes: a.bytes.max(b.bytes),
            fec: a.fec.max(b.fec),
        });
        let Some(sent) = sent else { return };
        if sent.media > 0 {
            self.stats.packets.add(sent.media.into());
            self.stats.bytes.add(sent.bytes);
            self.stats.last_sent.set(now);
        }
        self.stats.fec_packets.add(sent.fec.into());
    }

    /// A message has been sent, or not.
    pub(super) fn account(&self, leg: &Leg, kind: Kind, outcome: Outcome, now: Instant) {
        let mut sent = leg.sent.get();
        match kind {
            Kind::Media => {
                sent.media += outcome.sent;
                let overhead = self.framing.overhead() * u64::from(outcome.sent);
                sent.bytes += outcome.sent_bytes.saturating_sub(overhead);
                self.stats.legs[leg.number].packets.add(outcome.sent.into());
                if let Some(error) = outcome.error {
                    self.stats.dropped.add(outcome.dropped.into());
                    self.stats.legs[leg.number].dropped.add(outcome.dropped.into());
                    self.fault(leg, error, outcome.dropped, now);
                }
            }
            Kind::Fec => {
                sent.fec += outcome.sent;
                self.stats.fec_dropped.add(outcome.dropped.into());
            }
        }
        leg.sent.set(sent);
    }

    /// Something is wrong with a leg. The output has a fault while all of its legs have.
    pub(super) fn fault(&self, leg: &Leg, error: SendError, count: u32, now: Instant) {
        let there = self.legs.iter().map(|leg| leg.number);
        self.stats.note_fault(leg.number, there, error, count.into(), now);
    }
}
