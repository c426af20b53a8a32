//! Who may send to a source, how much, and when it came.

use crate::time::Instant;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::config::value::Bitrate;
use crate::io::batch::Datagram;
use crate::io::clock::Stamps;

use super::police::Police;
use super::stats::{ADDRESSES, Seen, SourceStats};

/// How often the addresses seen are published at most.
const PUBLISH: Duration = Duration::from_millis(200);
/// After how long a reader of them is done for sure.
const READER: Duration = Duration::from_millis(5);

/// The checks that every datagram of a source passes, whatever its protocol.
pub(super) struct Gate {
    allow: Option<Vec<IpNet>>,
    /// The last address that `allow` let in: nearly always the next one too.
    allowed: Option<IpAddr>,
    police: Option<Police>,
    max_bitrate: Option<Bitrate>,
    addresses: Addresses,
    stamps: Stamps,
    stats: Arc<SourceStats>,
}

impl Gate {
    /// One that lets everything in.
    pub(super) fn new(stats: Arc<SourceStats>) -> Self {
        let (addresses, stamps) = (Addresses::default(), Stamps::new());
        Self { allow: None, allowed: None, police: None, max_bitrate: None, addresses, stamps, stats }
    }

    /// Change what is checked.
    pub(super) fn retune(&mut self, allow: Option<Vec<IpNet>>, max_bitrate: Option<Bitrate>, now: Instant) {
        self.allow = allow;
        self.allowed = None;
        if self.max_bitrate != max_bitrate {
            self.max_bitrate = max_bitrate;
            self.police = max_bitrate.map(|rate| Police::new(rate, now));
        }
    }

    /// Whether this address may send; if not, it is counted and remembered.
    pub(super) fn allows(&mut self, ip: IpAddr) -> bool {
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

    /// Whether so many bytes are within the bit rate; if not, their packet is counted.
    pub(super) fn is_within_bitrate(&mut self, bytes: usize, now: Instant) -> bool {
        let within = self.police.as_mut().is_none_or(|police| police.admit(bytes, now));
        self.stats.over_bitrate.add(u64::from(!within));
        within
    }

    /// When the kernel took the datagram in.
    pub(super) fn arrival(&mut self, datagram: &Datagram<'_>, now: Instant) -> Instant {
        self.stamps.moment(datagram.arrival, now)
    }

    /// A datagram of this sender was accepted.
    pub(super) fn note_sender(&mut self, address: SocketAddr) {
        self.addresses.sender(address);
    }

    /// When [`Self::publish`] is to be called again.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.addresses.due
    }

    /// Publish the addresses that were seen.
    pub(super) fn publish(&mut self, now: Instant) {
        self.addresses.publish(&self.stats, now);
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
