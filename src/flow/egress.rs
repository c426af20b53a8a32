//! The last room of the corridor: what came in leaves, for all outputs at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::config::plan::{OutputProtocol, RtpHeader};
use crate::config::value::Dscp;
use crate::io::batch::{Report, SendBatch, Target, TrainLimit, Trains};
use crate::io::open::{Family, Sender};
use crate::proto::rtp::header::{FIXED_LEN, Header};
use crate::proto::seq::{RtpTime, Seq};

use super::repacket::Repacketiser;
use super::stats::OutputStats;

/// Most datagrams to one destination at a time where nothing paces them: no more than a shallow switch buffer holds.
const TRAIN: usize = 16;

/// A media packet on its way through the flow.
#[derive(Debug, Clone, Copy)]
pub struct MediaPacket<'p> {
    /// Whole transport-stream packets.
    pub payload: &'p [u8],
    /// The datagram as it came; for an RTP source, with its header.
    pub datagram: &'p [u8],
    /// When it came.
    pub arrival: Instant,
    /// When the payload is due, at 90 kHz.
    pub timestamp: RtpTime,
    /// The timestamp does not follow from the one before.
    pub discontinuity: bool,
}

/// The outputs that share a socket share these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SenderKey {
    /// Of the destinations.
    pub family: Family,
    /// `None`: one of the system's choice.
    pub source_port: Option<u16>,
}

/// Where an output sends, and how: the plan with all names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    /// Resolved.
    pub address: SocketAddr,
    /// `None`: 16 for multicast, 64 for unicast.
    pub ttl: Option<u8>,
    /// On every datagram.
    pub dscp: Dscp,
    /// The interface's index; `None`: the route's.
    pub interface: Option<u32>,
    /// What is sent.
    pub protocol: OutputProtocol,
    /// The local port.
    pub source_port: Option<u16>,
}

impl OutputConfig {
    /// The socket it sends from.
    pub fn sender(&self) -> SenderKey {
        SenderKey { family: Family::of(self.address.ip()), source_port: self.source_port }
    }

    fn target(&self) -> Target {
        // Without a word about it the socket's own is used: that spares the kernel some work with each packet.
        Target::new(self.address, self.ttl, self.dscp.tos(), self.interface)
    }
}

/// What an output sends, with its state.
#[derive(Debug)]
enum Framing {
    AsReceived,
    Repacketised(u8),
    Rtp { header: Header, offset: u32 },
    Passthrough,
}

struct Output {
    name: String,
    sender: SenderKey,
    address: SocketAddr,
    target: Target,
    framing: Framing,
    stats: Arc<OutputStats>,
}

/// All outputs of a flow, and their sockets.
#[derive(Default)]
pub struct Egress {
    senders: Vec<(SenderKey, Sender)>,
    outputs: Vec<Output>,
    /// One for each `datagram-packets` in use: regathering the same stream gives all its outputs the same datagrams.
    repacketisers: Vec<Repacketiser>,
}

impl Egress {
    /// Use this socket for the outputs with its key.
    pub fn add_sender(&mut self, key: SenderKey, sender: Sender) {
        self.drop_sender(key);
        self.senders.push((key, sender));
    }

    /// Close a socket.
    pub fn drop_sender(&mut self, key: SenderKey) {
        self.senders.retain(|(k, _)| *k != key);
    }

    /// Add an output, or replace the one of that name.
    pub fn open(&mut self, name: String, config: &OutputConfig, ssrc: u32, stats: Arc<OutputStats>) {
        self.close(&name);
        let framing = match config.protocol {
            OutputProtocol::Udp { datagram_packets: None } => Framing::AsReceived,
            OutputProtocol::Udp { datagram_packets: Some(packets) } => {
                if self.repacketisers.iter().all(|r| r.packets() != usize::from(packets)) {
                    self.repacketisers.push(Repacketiser::new(packets));
                }
                Framing::Repacketised(packets)
            }
            OutputProtocol::Rtp(RtpHeader::Passthrough)
            | OutputProtocol::RtpFec { header: RtpHeader::Passthrough, .. } => Framing::Passthrough,
            OutputProtocol::Rtp(RtpHeader::Regenerate { payload_type, .. })
            | OutputProtocol::RtpFec { header: RtpHeader::Regenerate { payload_type, .. }, .. } => {
                // Random starts, as RFC 3550 section 5.1 asks; drawn by the control plane with the SSRC.
                let seq = Seq((ssrc.rotate_left(7) >> 16) as u16);
                let offset = ssrc.wrapping_mul(0x9E37_79B1);
                Framing::Rtp { header: Header::new(payload_type, seq, RtpTime(0), ssrc), offset }
            }
        };
        let output =
            Output { name, sender: config.sender(), address: config.address, target: config.target(), framing, stats };
        self.outputs.push(output);
    }

    /// Change what is on each datagram (TTL, DSCP), without a gap.
    pub fn retune(&mut self, name: &str, config: &OutputConfig) {
        if let Some(output) = self.outputs.iter_mut().find(|o| o.name == name) {
            output.target = config.target();
        }
    }

    /// Remove an output.
    pub fn close(&mut self, name: &str) {
        self.outputs.retain(|o| o.name != name);
        let outputs = &self.outputs;
        let used = |r: &Repacketiser| {
            outputs.iter().any(|o| matches!(o.framing, Framing::Repacketised(n) if usize::from(n) == r.packets()))
        };
        self.repacketisers.retain(used);
    }

    /// Whether there is no output.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// When something that waits must be sent.
    pub fn due(&self) -> Option<Instant> {
        self.repacketisers.iter().filter_map(Repacketiser::due).min()
    }

    /// Send packets to every output. With none, send what waits and is due.
    pub fn deliver(&mut self, packets: &[MediaPacket<'_>], batch: &mut SendBatch, now: Instant) {
        for repacketiser in &mut self.repacketisers {
            for packet in packets {
                repacketiser.push(packet.payload, now);
            }
        }
        let Self { senders, outputs, repacketisers } = self;
        for (key, sender) in senders {
            let mut session = batch.session();
            let limit = TrainLimit::new(TRAIN);
            let mut as_received = None;
            let mut passthrough = None;
            let mut repacketised: [Option<Trains>; 8] = [None; 8];
            for (tag, output) in (0u32..).zip(outputs.iter_mut()).filter(|(_, o)| o.sender == *key) {
                let trains = match &mut output.framing {
                    Framing::AsReceived => *as_received.get_or_insert_with(|| {
                        session.begin(limit);
                        packets.iter().for_each(|p| session.push(&[], p.payload));
                        session.finish()
                    }),
                    Framing::Passthrough => *passthrough.get_or_insert_with(|| {
                        session.begin(limit);
                        packets.iter().for_each(|p| session.push(&[], p.datagram));
                        session.finish()
                    }),
                    Framing::Repacketised(n) => *repacketised[usize::from(*n)].get_or_insert_with(|| {
                        session.begin(limit);
                        let gathered = repacketisers.iter().filter(|r| r.packets() == usize::from(*n));
                        gathered.flat_map(|r| r.ready(now)).for_each(|d| session.push(&[], d));
                        session.finish()
                    }),
                    Framing::Rtp { header, offset } => {
                        session.begin(limit);
                        for packet in packets {
                            header.timestamp = RtpTime(packet.timestamp.0.wrapping_add(*offset));
                            header.marker = packet.discontinuity;
                            session.push(&header.write(), packet.payload);
                            header.seq = header.seq.add(1);
                        }
                        session.finish()
                    }
                };
                session.message(&output.target, trains, tag);
            }
            session.flush(sender, |report| account(outputs, report, now));
        }
        for repacketiser in repacketisers {
            repacketiser.sent(now);
        }
    }
}

fn account(outputs: &[Output], report: Report, now: Instant) {
    match report {
        Report::Message { tag, outcome } => {
            let Some(output) = outputs.get(tag as usize) else { return };
            let stats = &output.stats;
            if outcome.sent > 0 {
                let header = match output.framing {
                    Framing::Rtp { .. } | Framing::Passthrough => FIXED_LEN as u64,
                    Framing::AsReceived | Framing::Repacketised(_) => 0,
                };
                stats.packets.add(outcome.sent.into());
                stats.bytes.add(outcome.sent_bytes.saturating_sub(header * u64::from(outcome.sent)));
                stats.last_sent.set(now);
            }
            if let Some(error) = outcome.error {
                stats.dropped.add(outcome.dropped.into());
                stats.fault(error, outcome.dropped.into(), now);
            }
            if outcome.segmentation_refused {
                output.target.refuse_segmentation();
            }
        }
        Report::Unreachable { destination, error } => {
            for output in outputs.iter().filter(|o| o.address == destination) {
                output.stats.fault(error, 1, now);
            }
        }
    }
}
