//! The first room of the corridor: datagrams come in, and media packets of this source's protocol go on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;

use crate::config::plan::SourceProtocol;
use crate::config::value::Bitrate;
use crate::io::batch::{Datagram, ReceiveBatch, Received};
use crate::io::clock::Offset;
use crate::io::open::Receiver;
use crate::io::reactor::{Reactor, Registration};

use super::ingest::Ingest;
use super::police::Police;
use super::stats::{ADDRESSES, Invalid, Seen, SourceStats};

/// How often the clocks of the kernel's stamps and of the timers are compared.
const COMPARE_CLOCKS: Duration = Duration::from_secs(1);
/// How often the addresses seen are published at most.
const PUBLISH: Duration = Duration::from_millis(200);

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

/// One source of a running flow: its socket and its state.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) registration: Registration,
    /// Data waits in the socket.
    pub(super) ready: bool,
    pub(super) ingest: Ingest,
    receiver: Receiver,
    allow: Option<Vec<IpNet>>,
    /// The last address that `allow` let in: nearly always the next one too.
    allowed: Option<IpAddr>,
    police: Option<Police>,
    max_bitrate: Option<Bitrate>,
    addresses: Addresses,
    clocks: (Instant, Offset),
    overflow: u32,
    stats: Arc<SourceStats>,
}

impl Source {
    pub(super) fn new(
        name: String,
        config: SourceConfig,
        receiver: Receiver,
        stats: Arc<SourceStats>,
        reactor: &Reactor,
    ) -> std::io::Result<Self> {
        let registration = reactor.register(&receiver)?;
        let mut source = Self {
            name,
            registration,
            ready: false,
            ingest: Ingest::new(config.protocol, stats.clone()),
            receiver,
            allow: None,
            allowed: None,
            police: None,
            max_bitrate: None,
            addresses: Addresses::default(),
            clocks: (Instant::now(), Offset::sample()),
            overflow: 0,
            stats,
        };
        source.retune(config, Instant::now());
        Ok(source)
    }

    /// Change what is checked, without a gap.
    pub(super) fn retune(&mut self, config: SourceConfig, now: Instant) {
        self.allow = config.allow;
        self.allowed = None;
        if self.max_bitrate != config.max_bitrate {
            self.max_bitrate = config.max_bitrate;
            self.police = config.max_bitrate.map(|rate| Police::new(rate, now));
        }
        self.ingest.retune(config.protocol);
    }

    /// Coalesce datagrams in the kernel, or don't.
    pub(super) fn set_gro(&self, on: bool) {
        self.receiver.set_gro(on);
    }

    /// Read one batch into `batch`. The next packets may gather for `budget`.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch, budget: Duration) -> Received {
        // A socket's error is that of an earlier datagram; what waits is read at the next wake.
        let received = batch.receive(&self.receiver).unwrap_or_default();
        if let Some(overflow) = received.overflow {
            self.stats.kernel_dropped.add(u64::from(overflow.wrapping_sub(self.overflow)));
            self.overflow = overflow;
        }
        self.stats.invalid[Invalid::Truncated as usize].add(received.truncated as u64);
        self.registration.served(received.messages);
        // For want of a descriptor it stays as it was, and works.
        let _ = self.registration.gather(budget);
        received
    }

    /// Give each datagram of the batch that passes the checks to the protocol.
    pub(super) fn take_in<'p>(&mut self, batch: &'p ReceiveBatch, datagrams: &mut Vec<&'p [u8]>, now: Instant) {
        if now.saturating_duration_since(self.clocks.0) >= COMPARE_CLOCKS {
            self.clocks = (now, Offset::sample());
        }
        for datagram in batch.datagrams() {
            // A step of the system's clock since then must not move a packet into the future.
            let arrival = datagram.arrival.map_or(now, |stamp| self.clocks.1.instant(stamp).min(now));
            if self.admit(&datagram, now) && self.ingest.handle(&datagram, arrival, datagrams.len(), now) {
                datagrams.push(datagram.payload);
                self.addresses.sender(datagram.source);
            }
        }
        self.addresses.publish(&self.stats, now);
    }

    fn admit(&mut self, datagram: &Datagram<'_>, now: Instant) -> bool {
        let ip = datagram.source.ip();
        if self.allowed != Some(ip) {
            if self.allow.as_ref().is_some_and(|list| !list.iter().any(|net| net.contains(&ip))) {
                self.stats.denied.add(1);
                self.addresses.denied(ip);
                return false;
            }
            self.allowed = Some(ip);
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
        if !self.changed || self.published.is_some_and(|last| now.saturating_duration_since(last) < PUBLISH) {
            return;
        }
        let Ok(mut seen) = stats.seen.try_lock() else { return };
        let Seen { peers, denied } = &mut *seen;
        peers.clear();
        peers.extend(self.peers.iter().flatten());
        denied.clear();
        denied.extend(self.denied.iter().flatten());
        self.changed = false;
        self.published = Some(now);
    }
}
