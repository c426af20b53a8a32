//! The last room of the corridor: what came in leaves, for all outputs at once.
//!
//! Outputs with the same smoothing form a lane. A lane sends socket by socket: the trains that several outputs or
//! both legs of one send alike are built once, and addressed to each.

mod config;
mod lane;
mod output;

use crate::time::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::config::{LegConfig, OutputConfig, SenderKey};
use self::lane::{Exit, Lane};
use self::output::Output;
pub(in crate::flow) use self::output::RtpState;
use super::cipher::{Encryption, EncryptionStats, Variant};
use super::rist::output::RistOutputs;
use super::srt::output::SrtOutputs;
use super::stats::OutputStats;
use super::tap::Tap;
use crate::config::plan::ContentEncryption;
use crate::io::batch::SendBatch;
use crate::io::open::Sender;
use crate::proto::mpegts::psi::Psi;
use crate::proto::seq::RtpTime;

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

impl<'p> MediaPacket<'p> {
    /// The bytes to keep of it, and where in them its payload is, and how long.
    pub(super) fn layout(&self) -> (&'p [u8], (usize, usize)) {
        let (datagram, payload) = (self.datagram, self.payload);
        let start = (payload.as_ptr() as usize).wrapping_sub(datagram.as_ptr() as usize);
        let inside = start.checked_add(payload.len()).is_some_and(|end| end <= datagram.len());
        if inside { (datagram, (start, payload.len())) } else { (payload, (0, payload.len())) }
    }

    /// Whether its source is RTP: it has a header, and its timestamp is the source's own.
    pub const fn is_rtp(&self) -> bool {
        self.datagram.len() > self.payload.len()
    }
}

/// An encryption, and where its figures go.
pub type EncryptionSeed = (ContentEncryption, Arc<EncryptionStats>);

/// All outputs of a flow, their sockets, and who looks on.
#[derive(Default)]
pub struct Egress {
    senders: Vec<(SenderKey, Sender)>,
    /// None without outputs.
    lanes: Vec<Lane>,
    encryptions: Vec<(u32, Encryption)>,
    /// Encryptions so far.
    encrypted: u32,
    /// Where the RTP of outputs stood in the process before this one that are not open yet.
    left: BTreeMap<String, RtpState>,
    pub(super) srt: SrtOutputs,
    pub(super) rist: RistOutputs,
    /// Whoever looks at what is sent.
    pub(super) tap: Option<Box<Tap>>,
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
    pub fn open(&mut self, name: String, config: &OutputConfig, variant: Variant, ssrc: u32, stats: Arc<OutputStats>) {
        self.close(&name);
        let left = self.left.remove(&name);
        let mut output = Output::new(name, config, ssrc, stats);
        left.into_iter().for_each(|state| output.resume(state));
        let fits = |lane: &&mut Lane| (lane.smoothing, lane.variant) == (config.smoothing, variant);
        if let Some(lane) = self.lanes.iter_mut().find(fits) {
            return lane.add(output);
        }
        let mut lane = Lane::new(config.smoothing, variant, Instant::now());
        lane.add(output);
        self.lanes.push(lane);
    }

    /// Change where an output sends, what is on each datagram (TTL, DSCP) and the smoothing, without a gap: what waits
    /// to be sent still is, at once where there is no smoothing any more.
    pub fn retune(&mut self, name: &str, config: &OutputConfig) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.outputs.iter().any(|o| o.name == name)) else { return };
        if lane.smoothing == config.smoothing {
            let output = lane.outputs.iter_mut().find(|o| o.name == name);
            return output.into_iter().for_each(|output| output.retarget(config));
        }
        // A lane of its own, even where there is another with this smoothing: something else waits there.
        let mut fork = lane.fork(config.smoothing, Instant::now());
        if let Some(mut output) = lane.remove(name) {
            output.retarget(config);
            fork.add(output);
            self.lanes.push(fork);
        }
        self.lanes.retain(|lane| !lane.outputs.is_empty());
    }

    /// What an output with this encryption sends. The same for all of them, whose keys are these from now on.
    pub(super) fn variant(&mut self, encryption: Option<Box<EncryptionSeed>>, now: Instant) -> Variant {
        let Some((config, stats)) = encryption.map(|seed| *seed) else { return Variant::Clear };
        if let Some((number, known)) = self.encryptions.iter_mut().find(|(_, known)| known.config().is_same(&config)) {
            if *known.config() != config {
                known.set_keys(config.keys);
            }
            return Variant::Encrypted(*number);
        }
        self.encrypted += 1;
        self.encryptions.push((self.encrypted, Encryption::new(config, stats, now)));
        Variant::Encrypted(self.encrypted)
    }

    /// Forget encryptions that no output has any more.
    pub(super) fn prune(&mut self) {
        let Self { encryptions, lanes, srt, rist, .. } = self;
        encryptions.retain(|(number, _)| {
            let variant = Variant::Encrypted(*number);
            lanes.iter().any(|lane| lane.variant == variant) || srt.has(variant) || rist.has(variant)
        });
    }

    /// Remove an output.
    pub fn close(&mut self, name: &str) {
        self.lanes.iter_mut().for_each(|lane| drop(lane.remove(name)));
        self.lanes.retain(|lane| !lane.outputs.is_empty());
    }

    /// Send all that waits, and end: where the RTP of each output stands, by its name.
    pub(super) fn suspend(&mut self, batch: &mut SendBatch, now: Instant) -> BTreeMap<String, RtpState> {
        let Self { senders, lanes, .. } = self;
        lanes.iter_mut().for_each(|lane| lane.flush(&mut Exit { senders, batch, now }));
        let outputs = lanes.drain(..).flat_map(|lane| lane.outputs);
        outputs.filter_map(|output| Some((output.name.clone(), output.into_state()?))).collect()
    }

    /// What its encryptions know of the tables of the flow's stream: the same, all of them.
    pub(super) fn tables(&self) -> Option<&Psi> {
        self.encryptions.first().map(|(_, encryption)| encryption.tables())
    }

    /// Let all encryptions go on with that.
    pub(super) fn set_tables(&mut self, tables: &Psi) {
        self.encryptions.iter_mut().for_each(|(_, encryption)| encryption.set_tables(tables.clone()));
    }

    /// Go on with the RTP of outputs, also of those that are still to be opened.
    pub(super) fn resume(&mut self, states: BTreeMap<String, RtpState>) {
        self.left = states;
        for output in self.lanes.iter_mut().flat_map(|lane| &mut lane.outputs) {
            if let Some(state) = self.left.remove(&output.name) {
                output.resume(state);
            }
        }
    }

    /// Whether there is no output.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.srt.is_empty() && self.rist.is_empty()
    }

    /// Whether some output has smoothing.
    pub fn smooths(&self) -> bool {
        self.lanes.iter().any(|lane| lane.smoothing.is_some())
    }

    /// When something that waits must be sent.
    pub fn due(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(Lane::due).min()
    }

    /// Send packets to every output, those with smoothing in their time. With none, send what waits and is due.
    pub fn deliver(&mut self, packets: &[MediaPacket<'_>], batch: &mut SendBatch, now: Instant) {
        let Self { senders, lanes, encryptions, srt, rist, .. } = self;
        let mut send = |variant, packets: &[MediaPacket<'_>]| {
            let mut exit = Exit { senders, batch, now };
            let lanes = lanes.iter_mut().filter(|lane| lane.variant == variant);
            lanes.for_each(|lane| lane.deliver(packets, &mut exit));
            srt.push(variant, packets, now);
            rist.push(variant, packets, now);
        };
        send(Variant::Clear, packets);
        for (number, encryption) in encryptions {
            encryption.packets(packets, now, |packets| send(Variant::Encrypted(*number), packets));
        }
        if let Some(tap) = &mut self.tap {
            tap.packets(packets, now);
        }
    }
}

#[cfg(test)]
mod tests;
