//! One SRT connection as others see it: written by the task that has it, read by anybody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::config::secrets::Passphrase;
use crate::flow::stats::{Figure, Moment};
use crate::proto::srt::crypto::StreamKeys;
use crate::proto::srt::km::KeyLength;
use crate::proto::srt::negotiated::Negotiated;
pub use crate::proto::srt::stats::ConnectionStats;
use crate::time::Instant;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The handshake goes on.
    Connecting,
    /// Media may pass.
    Connected,
    /// It is over.
    Over,
}

/// What a handshake came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The peer's version of SRT: 0x00MMmmpp.
    pub version: u32,
    /// How long after its time stamp we deliver what the peer sends.
    pub receive_latency: Duration,
    /// How long after its time stamp the peer delivers what we send.
    pub send_latency: Duration,
    /// `None`: in clear.
    pub cipher: Option<KeyLength>,
    /// What the caller sent.
    pub stream_id: Option<String>,
    /// Since when.
    pub since: SystemTime,
}

/// A connection's figures, from its first packet on.
#[derive(Debug)]
pub struct PeerStats {
    /// Unique as long as the process runs.
    pub number: u64,
    /// The peer.
    pub address: SocketAddr,
    /// The passphrase it uses; `None`: in clear.
    pub passphrase: Option<Passphrase>,
    phase: AtomicU8,
    began: Instant,
    /// The last data packet that was received.
    pub last_data: Moment,
    /// Datagrams that the kernel did not take.
    pub send_errors: Figure,
    /// There once it is connected.
    pub facts: OnceLock<Facts>,
    figures: Mutex<ConnectionStats>,
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl PeerStats {
    /// Of a connection that is about to be made.
    pub fn new(address: SocketAddr, passphrase: Option<Passphrase>) -> Self {
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            address,
            passphrase,
            phase: AtomicU8::new(Phase::Connecting as u8),
            began: Instant::now(),
            last_data: Moment::default(),
            send_errors: Figure::default(),
            facts: OnceLock::new(),
            figures: Mutex::default(),
        }
    }

    /// Whether it uses one of these passphrases, whatever the file is called; or none, where there are none.
    pub fn fits(&self, passphrases: &[Passphrase]) -> bool {
        match &self.passphrase {
            Some(used) => passphrases.iter().any(|passphrase| passphrase.secret() == used.secret()),
            None => passphrases.is_empty(),
        }
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connecting,
            1 => Phase::Connected,
            _ => Phase::Over,
        }
    }

    /// Since when no data has come.
    pub fn silent_since(&self) -> Instant {
        self.last_data.value().unwrap_or(self.began)
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(super) fn connected(&self, negotiated: &Negotiated) {
        let facts = Facts {
            version: negotiated.peer_version,
            receive_latency: negotiated.receive_latency,
            send_latency: negotiated.send_latency,
            cipher: negotiated.keys.as_ref().map(StreamKeys::key_length),
            stream_id: negotiated.stream_id.clone(),
            since: SystemTime::now(),
        };
        // It is connected once.
        let _ = self.facts.set(facts);
        self.set_phase(Phase::Connected);
    }

    /// The figures of the last time that nobody read them.
    pub(super) fn publish(&self, figures: impl FnOnce() -> ConnectionStats) {
        if let Ok(mut place) = self.figures.try_lock() {
            *place = figures();
        }
    }

    /// As of a fifth of a second ago, at most.
    pub fn figures(&self) -> ConnectionStats {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
