//! The first room of the corridor: datagrams come in, and media packets of this source's protocol go on.

use crate::time::Instant;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::plan::{ContentKeys, SourceProtocol};
use crate::config::value::Bitrate;
use crate::io::batch::ReceiveBatch;
use crate::io::open::Receiver;
use crate::io::reactor::Reactor;
use crate::proto::fec2022_1::header::FecStream;

use super::analysis::Analysis;
use super::cipher::Decryption;
use super::gate::Gate;
use super::ingest::{Ingest, Protocol};
use super::merge::Leg;
use super::port::Port;
use super::rist::source::RistInput;
use super::srt::source::SrtInput;
use super::stats::SourceStats;

/// Datagrams of FEC that are read at a time. They wait for the media that came before them.
const FEC_BATCH: usize = 16;
/// So often at a time: a flood of it does not hold up the media.
const FEC_BATCHES: usize = 4;
/// What a source checks; changed while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConfig {
    /// How its datagrams are read.
    pub protocol: SourceProtocol,
    /// Who may send; `None`: everybody.
    pub allow: Option<Vec<IpNet>>,
    /// What comes above this is dropped.
    pub max_bitrate: Option<Bitrate>,
}

/// The sockets of a source.
#[derive(Debug)]
pub struct Receivers {
    /// Where its media comes.
    pub media: Receiver,
    /// Of an `rtp-fec` source: where its column and its row FEC come.
    pub fec: Option<[Receiver; 2]>,
}

/// A socket for FEC, and what was read of it.
struct FecPort {
    port: Port<Receiver>,
    stream: FecStream,
    batch: ReceiveBatch,
    /// So many of the batch are dealt with.
    taken: usize,
}

/// One source of a running flow.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) stats: Arc<SourceStats>,
    pub(super) input: Input,
    /// Of its content. That of the first leg of a merge serves for what it gives.
    pub(super) decryption: Option<Box<Decryption>>,
    pub(super) analysis: Analysis,
}

/// Where its packets come from.
#[expect(clippy::large_enum_variant, reason = "nearly every source has sockets, and each packet passes here")]
pub(super) enum Input {
    /// From sockets of its own.
    Sockets(SocketInput),
    /// From connections.
    Srt(Box<SrtInput>),
    /// By RIST.
    Rist(Box<RistInput>),
}

/// The sockets of a source, and the state of what comes there.
pub(super) struct SocketInput {
    pub(super) ingest: Ingest,
    pub(super) stats: Arc<SourceStats>,
    protocol: SourceProtocol,
    media: Port<Receiver>,
    fec: Option<Box<[FecPort; 2]>>,
    gate: Gate,
}

/// Where sockets stand, but for what waits in them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SocketsState {
    /// Of what the kernel dropped, so much is counted.
    overflow: u32,
    protocol: Protocol,
}

impl Source {
    /// Decrypt what comes with these keys; `None`: no more.
    pub(super) fn decrypt(&mut self, keys: Option<&ContentKeys>) {
        match (&mut self.decryption, keys) {
            (Some(decryption), Some(keys)) => decryption.set_keys(keys),
            (there, keys) => *there = keys.map(|keys| Box::new(Decryption::new(keys))),
        }
    }

    /// Change what is checked, without a gap.
    pub(super) fn retune(&mut self, config: SourceConfig, now: Instant) {
        if let Input::Sockets(sockets) = &mut self.input {
            sockets.retune(config, now);
        }
    }

    /// Take part in a merge, or no more. What was held back is dropped.
    pub(super) fn set_leg(&mut self, leg: bool) {
        if let Input::Sockets(sockets) = &mut self.input {
            sockets.set_leg(leg);
        }
    }

    /// The window of the merge that it is a leg of, where that matters to it.
    pub(super) fn set_window(&mut self, window: Option<Duration>, now: Instant) {
        if let Input::Rist(rist) = &mut self.input {
            rist.set_window(window, now);
        }
    }

    /// Whether data waits in one of its sockets.
    pub(super) fn is_ready(&self) -> bool {
        match &self.input {
            Input::Sockets(sockets) => sockets.is_ready(),
            Input::Rist(rist) => rist.is_ready(),
            Input::Srt(_) => false,
        }
    }

    /// Whether it hears FEC streams.
    pub(super) fn has_fec(&self) -> bool {
        matches!(&self.input, Input::Sockets(sockets) if sockets.fec.is_some())
    }

    /// Look for input; [`Self::is_ready`] tells.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        match &mut self.input {
            Input::Sockets(sockets) => sockets.poll_ready(cx),
            Input::Rist(rist) => rist.poll_ready(cx),
            Input::Srt(_) => {}
        }
    }

    /// Coalesce datagrams in the kernel, or don't.
    pub(super) fn set_gro(&self, on: bool) {
        if let Input::Sockets(sockets) = &self.input {
            sockets.media.socket.set_gro(on);
        }
    }

    /// Whether its packets come over connections.
    pub(super) fn is_srt(&self) -> bool {
        matches!(self.input, Input::Srt(_))
    }

    /// Whether its datagrams are taken as they come.
    pub(super) const fn is_datagrams(&self) -> bool {
        matches!(self.input, Input::Sockets(_))
    }

    /// What it is by RIST.
    pub(super) fn rist(&self) -> Option<&RistInput> {
        if let Input::Rist(rist) = &self.input { Some(rist) } else { None }
    }

    /// Forget connections that are over.
    pub(super) fn prune(&mut self) {
        if let Input::Srt(srt) = &mut self.input {
            srt.prune();
        }
    }

    /// When there is something to do without input.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.input {
            Input::Sockets(sockets) => sockets.due(),
            Input::Srt(srt) => srt.next_release(),
            Input::Rist(rist) => rist.due(),
        }
    }
}

impl SocketInput {
    pub(super) fn new(
        config: SourceConfig,
        receivers: Receivers,
        stats: Arc<SourceStats>,
        reactor: &Reactor,
    ) -> std::io::Result<Self> {
        let port = |receiver| Port::new(receiver, reactor);
        let fec = match receivers.fec {
            Some([column, row]) => {
                let port = |receiver, stream| {
                    Ok::<_, std::io::Error>(FecPort {
                        port: port(receiver)?,
                        stream,
                        batch: ReceiveBatch::new(FEC_BATCH),
                        taken: 0,
                    })
                };
                Some(Box::new([port(column, FecStream::Column)?, port(row, FecStream::Row)?]))
            }
            None => None,
        };
        let mut source = Self {
            ingest: Ingest::new(config.protocol, false, stats.clone()),
            protocol: config.protocol,
            media: port(receivers.media)?,
            fec,
            gate: Gate::new(stats.clone()),
            stats,
        };
        source.retune(config, Instant::now());
        Ok(source)
    }

    fn retune(&mut self, config: SourceConfig, now: Instant) {
        self.gate.retune(config.allow, config.max_bitrate, now);
        self.protocol = config.protocol;
        self.ingest.retune(config.protocol);
    }

    fn set_leg(&mut self, leg: bool) {
        self.ingest = Ingest::new(self.protocol, leg, self.stats.clone());
    }

    fn is_ready(&self) -> bool {
        self.media.ready || self.fec.as_ref().is_some_and(|ports| ports.iter().any(|fec| fec.port.ready))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) {
        self.media.poll_ready(cx);
        if let Some(ports) = &mut self.fec {
            ports.iter_mut().for_each(|fec| fec.port.poll_ready(cx));
        }
    }

    /// What comes is dealt with no more; what goes on in [`Self::resume`].
    pub(super) fn into_state(self) -> SocketsState {
        SocketsState { overflow: self.media.overflow(), protocol: self.ingest.into_protocol() }
    }

    /// Go on where another one stood that read the same sockets.
    pub(super) fn resume(&mut self, SocketsState { overflow, protocol }: SocketsState) {
        self.media.set_overflow(overflow);
        self.ingest.resume(protocol);
        self.ingest.retune(self.protocol);
    }

    /// Give the FEC that came before `until` to the protocol; `None`: all of it.
    fn receive_fec(&mut self, until: Option<Instant>, budget: Duration, now: Instant, mut leg: Option<&mut Leg<'_>>) {
        let Some(mut ports) = self.fec.take() else { return };
        for FecPort { port, stream, batch, taken } in &mut *ports {
            let mut batches = FEC_BATCHES;
            loop {
                let Some(datagram) = batch.datagrams().nth(*taken) else {
                    if !port.ready || batches == 0 {
                        break;
                    }
                    port.receive(batch, budget, &self.stats);
                    *taken = 0;
                    batches -= 1;
                    continue;
                };
                let arrival = self.gate.arrival(&datagram, now);
                if until.is_some_and(|until| arrival > until) {
                    break;
                }
                *taken += 1;
                if self.gate.allows(datagram.source.ip()) {
                    self.ingest.handle_fec(*stream, &datagram, arrival, leg.as_deref_mut());
                }
            }
        }
        self.fec = Some(ports);
    }

    /// Read one batch of media, and give each datagram that passes the checks to the protocol; those accepted are added
    /// to `datagrams`, or go to the merge. Before each goes the FEC that came before it: however much waits, FEC is never
    /// far from what it protects.
    pub(super) fn receive<'p>(
        &mut self,
        batch: &'p mut ReceiveBatch,
        datagrams: &mut Vec<&'p [u8]>,
        budget: Duration,
        now: Instant,
        mut leg: Option<&mut Leg<'_>>,
    ) {
        if !self.media.ready {
            return self.receive_fec(None, budget, now, leg);
        }
        self.media.receive(batch, budget, &self.stats);
        let batch: &'p ReceiveBatch = batch;
        for datagram in batch.datagrams() {
            if !self.gate.allows(datagram.source.ip()) || !self.gate.is_within_bitrate(datagram.payload.len(), now) {
                continue;
            }
            let arrival = self.gate.arrival(&datagram, now);
            self.receive_fec(Some(arrival), budget, now, leg.as_deref_mut());
            let accepted = match &mut leg {
                Some(leg) => self.ingest.handle_leg(&datagram, arrival, leg),
                None => self.ingest.handle(&datagram, arrival, datagrams.len()),
            };
            if accepted {
                datagrams.push(datagram.payload);
                self.gate.note_sender(datagram.source);
            }
        }
        if !self.media.ready {
            self.receive_fec(None, budget, now, leg);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.ingest.due().into_iter().chain(self.gate.due()).min()
    }

    /// What was collected has been sent, or is not wanted; publish the figures.
    pub(super) fn recycle(&mut self, now: Instant) {
        self.ingest.recycle(now);
        self.gate.publish(now);
    }
}
