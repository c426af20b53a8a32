//! The first room of the corridor: datagrams come in, and media packets of this source's protocol go on.

use crate::time::Instant;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::config::plan::SourceProtocol;
use crate::config::value::Bitrate;
use crate::io::batch::{Datagram, ReceiveBatch};
use crate::io::clock::Offset;
use crate::io::open::Receiver;
use crate::io::reactor::{Reactor, Registration};
use crate::proto::fec2022_1::header::FecStream;

use super::ingest::Ingest;
use super::merge::Leg;
use super::police::Police;
use super::srt::source::SrtInput;
use super::stats::{ADDRESSES, Invalid, Seen, SourceStats};

/// How often the clocks of the kernel's stamps and of the timers are compared.
const COMPARE_CLOCKS: Duration = Duration::from_secs(1);
/// Datagrams of FEC that are read at a time. They wait for the media that came before them.
const FEC_BATCH: usize = 16;
/// So often at a time: a flood of it does not hold up the media.
const FEC_BATCHES: usize = 4;
/// How often the addresses seen are published at most.
const PUBLISH: Duration = Duration::from_millis(200);
/// After how long a reader of them is done for sure.
const READER: Duration = Duration::from_millis(5);

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

/// One socket of a source.
struct Port {
    receiver: Receiver,
    registration: Registration,
    /// Data waits in it.
    ready: bool,
    overflow: u32,
}

/// A socket for FEC, and what was read of it.
struct FecPort {
    port: Port,
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
}

/// Where its packets come from.
#[expect(clippy::large_enum_variant, reason = "nearly every source has sockets, and each packet passes here")]
pub(super) enum Input {
    /// From sockets of its own.
    Sockets(SocketInput),
    /// From connections.
    Srt(Box<SrtInput>),
}

/// The sockets of a source, and the state of what comes there.
pub(super) struct SocketInput {
    pub(super) ingest: Ingest,
    pub(super) stats: Arc<SourceStats>,
    protocol: SourceProtocol,
    media: Port,
    fec: Option<Box<[FecPort; 2]>>,
    allow: Option<Vec<IpNet>>,
    /// The last address that `allow` let in: nearly always the next one too.
    allowed: Option<IpAddr>,
    police: Option<Police>,
    max_bitrate: Option<Bitrate>,
    addresses: Addresses,
    clocks: (Instant, Offset),
}

impl Port {
    fn new(receiver: Receiver, reactor: &Reactor) -> std::io::Result<Self> {
        let registration = reactor.register(&receiver)?;
        Ok(Self { receiver, registration, ready: false, overflow: 0 })
    }

    /// Read one batch into `batch`. The next packets may gather for `budget`.
    fn receive(&mut self, batch: &mut ReceiveBatch, budget: Duration, stats: &SourceStats) {
        // A socket's error is that of an earlier datagram; what waits is read at the next wake.
        let received = batch.receive(&self.receiver).unwrap_or_default();
        if let Some(overflow) = received.overflow {
            stats.kernel_dropped.add(u64::from(overflow.wrapping_sub(self.overflow)));
            self.overflow = overflow;
        }
        stats.invalid[Invalid::Truncated as usize].add(received.truncated as u64);
        // A full batch: more waits. What comes from here on is told by the registration.
        self.ready = received.full;
        self.registration.served(received.messages);
        // For want of a descriptor it stays as it was, and works.
        let _ = self.registration.gather(budget);
    }
}

impl Source {
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

    /// Whether data waits in one of its sockets.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.input, Input::Sockets(sockets) if sockets.is_ready())
    }

    /// Whether it hears FEC streams.
    pub(super) fn has_fec(&self) -> bool {
        matches!(&self.input, Input::Sockets(sockets) if sockets.fec.is_some())
    }

    /// Look for input; [`Self::is_ready`] tells.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        if let Input::Sockets(sockets) = &mut self.input {
            sockets.poll_ready(cx);
        }
    }

    /// Coalesce datagrams in the kernel, or don't.
    pub(super) fn set_gro(&self, on: bool) {
        if let Input::Sockets(sockets) = &self.input {
            sockets.media.receiver.set_gro(on);
        }
    }

    /// Whether its packets come over connections.
    pub(super) fn is_srt(&self) -> bool {
        matches!(self.input, Input::Srt(_))
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
            allow: None,
            allowed: None,
            police: None,
            max_bitrate: None,
            addresses: Addresses::default(),
            clocks: (Instant::now(), Offset::sample()),
            stats,
        };
        source.retune(config, Instant::now());
        Ok(source)
    }

    fn retune(&mut self, config: SourceConfig, now: Instant) {
        self.allow = config.allow;
        self.allowed = None;
        if self.max_bitrate != config.max_bitrate {
            self.max_bitrate = config.max_bitrate;
            self.police = config.max_bitrate.map(|rate| Police::new(rate, now));
        }
        self.protocol = config.protocol;
        self.ingest.retune(config.protocol);
    }

    fn set_leg(&mut self, leg: bool) {
        self.ingest = Ingest::new(self.protocol, leg, self.stats.clone());
    }

    fn is_ready(&self) -> bool {
        self.media.ready || self.fec.iter().flat_map(|ports| &**ports).any(|fec| fec.port.ready)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) {
        let fec = self.fec.iter_mut().flat_map(|ports| &mut **ports).map(|fec| &mut fec.port);
        for port in std::iter::once(&mut self.media).chain(fec) {
            port.ready |= port.registration.poll_ready(cx).is_ready();
        }
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
                let arrival = self.arrival(&datagram, now);
                if until.is_some_and(|until| arrival > until) {
                    break;
                }
                *taken += 1;
                if self.allows(datagram.source.ip()) {
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
        if now.saturating_duration_since(self.clocks.0) >= COMPARE_CLOCKS {
            self.clocks = (now, Offset::sample());
        }
        let batch: &'p ReceiveBatch = batch;
        for datagram in batch.datagrams() {
            if !self.admit(&datagram, now) {
                continue;
            }
            let arrival = self.arrival(&datagram, now);
            self.receive_fec(Some(arrival), budget, now, leg.as_deref_mut());
            let accepted = match &mut leg {
                Some(leg) => self.ingest.handle_leg(&datagram, arrival, leg),
                None => self.ingest.handle(&datagram, arrival, datagrams.len()),
            };
            if accepted {
                datagrams.push(datagram.payload);
                self.addresses.sender(datagram.source);
            }
        }
        if !self.media.ready {
            self.receive_fec(None, budget, now, leg);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.ingest.due().into_iter().chain(self.addresses.due).min()
    }

    /// What was collected has been sent, or is not wanted; publish the figures.
    pub(super) fn recycle(&mut self, now: Instant) {
        self.ingest.recycle(now);
        self.addresses.publish(&self.stats, now);
    }

    /// When the kernel took the datagram in. A step of the system's clock must not move it into the future.
    fn arrival(&self, datagram: &Datagram<'_>, now: Instant) -> Instant {
        datagram.arrival.map_or(now, |stamp| self.clocks.1.instant(stamp).min(now))
    }

    fn allows(&mut self, ip: IpAddr) -> bool {
        if self.allowed != Some(ip) {
            if self.allow.as_ref().is_some_and(|list| !list.iter().any(|net| net.contains(&ip))) {
                self.stats.denied.add(1);
                self.addresses.denied(ip);
                return false;
            }
            self.allowed = Some(ip);
        }
        true
    }

    fn admit(&mut self, datagram: &Datagram<'_>, now: Instant) -> bool {
        if !self.allows(datagram.source.ip()) {
            return false;
        }
        if let Some(police) = &mut self.police
            && !police.admit(datagram.payload.len(), now)
        {
            self.stats.over_bitrate.add(1);
            return false;
        }
        true
    }
}

/// The last addresses seen: kept here, published without waiting.
#[derive(Debug, Default)]
struct Addresses {
    peers: [Option<(SocketAddr, SystemTime)>; ADDRESSES],
    denied: [Option<IpAddr>; ADDRESSES],
    changed: bool,
    published: Option<Instant>,
    /// When to publish what could not be yet.
    due: Option<Instant>,
}

impl Addresses {
    fn sender(&mut self, address: SocketAddr) {
        if self.peers[0].is_some_and(|(known, _)| known == address) {
            return;
        }
        let at = self.peers.iter().position(|p| p.is_some_and(|(known, _)| known == address));
        match at {
            Some(at) => self.peers[..=at].rotate_right(1),
            None => {
                self.peers.rotate_right(1);
                self.peers[0] = Some((address, SystemTime::now()));
            }
        }
        self.changed = true;
    }

    fn denied(&mut self, ip: IpAddr) {
        if self.denied[0] == Some(ip) {
            return;
        }
        let at = self.denied.iter().position(|d| *d == Some(ip)).unwrap_or(ADDRESSES - 1);
        self.denied[..=at].rotate_right(1);
        self.denied[0] = Some(ip);
        self.changed = true;
    }

    fn publish(&mut self, stats: &SourceStats, now: Instant) {
        self.due = None;
        if !self.changed {
            return;
        }
        if let Some(last) = self.published.filter(|last| now.saturating_duration_since(*last) < PUBLISH) {
            self.due = Some(last + PUBLISH);
            return;
        }
        let Ok(mut seen) = stats.seen.try_lock() else {
            self.due = Some(now + READER);
            return;
        };
        let Seen { peers, denied } = &mut *seen;
        peers.clear();
        peers.extend(self.peers.iter().flatten());
        denied.clear();
        denied.extend(self.denied.iter().flatten());
        self.changed = false;
        self.published = Some(now);
    }
}
