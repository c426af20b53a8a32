//! One SRT connection as others see it: written by the task that has it, read by anybody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::secrets::{HandedKey, KeyFile};
use crate::flow::stats::{Figure, Moment};
use crate::proto::srt::crypto::StreamKeys;
use crate::proto::srt::km::KeyLength;
use crate::proto::srt::negotiated::Negotiated;
pub use crate::proto::srt::stats::ConnectionStats;
use crate::time::Instant;

/// Rates are means over this time, or a little longer.
const RATE_SPAN: Duration = Duration::from_secs(1);

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Bytes of the largest IP packet.
    pub mss: u16,
    /// Since when.
    pub since: SystemTime,
}

/// What was going on lately, from one publication of the figures to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lately {
    /// Bits a second that were sent, with what was sent again (`mbpsSendRate`, without headers).
    pub send_bps: u64,
    /// Bits a second that were received, whatever became of them (`mbpsRecvRate`, without headers).
    pub receive_bps: u64,
    /// When packets were last given up as too late, sent or received.
    pub dropped: Option<Instant>,
    /// When packets last came that could not be decrypted.
    pub undecrypted: Option<Instant>,
}

/// A connection's figures, from its first packet on.
#[derive(Debug)]
pub struct PeerStats {
    /// Unique as long as the process runs.
    pub number: u64,
    /// The peer.
    pub address: SocketAddr,
    /// The passphrase it uses; `None`: in clear.
    pub passphrase: Option<KeyFile>,
    /// Who it is, by name; `None`: no subscriber.
    pub subscriber: Option<Arc<str>>,
    phase: AtomicU8,
    began: Instant,
    /// The last data packet that was received.
    pub last_data: Moment,
    /// Datagrams that the kernel did not take.
    pub send_errors: Figure,
    /// There once it is connected.
    pub facts: OnceLock<Facts>,
    closing: OnceLock<String>,
    published: Mutex<Published>,
}

/// Who a peer is, as it is handed over to the daemon's next process.
#[derive(Serialize, Deserialize)]
pub(super) struct PeerState {
    passphrase: Option<HandedKey>,
    subscriber: Option<String>,
    facts: Facts,
}

/// The figures, and what they were before.
#[derive(Debug, Default)]
struct Published {
    figures: ConnectionStats,
    lately: Lately,
    /// When a span began over which rates are taken, and the bytes sent and received until then.
    span: Option<(Instant, [u64; 2])>,
}

impl Published {
    fn update(&mut self, now: Instant, figures: ConnectionStats) {
        let then = std::mem::replace(&mut self.figures, figures);
        let (sent, received) = (&figures.sent, &figures.received);
        if sent.dropped > then.sent.dropped || received.dropped > then.received.dropped {
            self.lately.dropped = Some(now);
        }
        if received.undecrypted > then.received.undecrypted {
            self.lately.undecrypted = Some(now);
        }
        let bytes = [sent.bytes + sent.retransmitted_bytes, received.bytes];
        let (began, before) = *self.span.get_or_insert((now, bytes));
        let span = now.saturating_duration_since(began);
        if span >= RATE_SPAN {
            let rate = |n: usize| {
                let bits = u128::from(bytes[n].saturating_sub(before[n])) * 8;
                u64::try_from(bits * 1_000_000 / span.as_micros()).unwrap_or(u64::MAX)
            };
            (self.lately.send_bps, self.lately.receive_bps) = (rate(0), rate(1));
            self.span = Some((now, bytes));
        }
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl PeerStats {
    /// Of a connection that is about to be made.
    pub fn new(address: SocketAddr, passphrase: Option<KeyFile>) -> Self {
        Self::of_subscriber(address, passphrase, None)
    }

    /// The same, of a subscriber.
    pub fn of_subscriber(address: SocketAddr, passphrase: Option<KeyFile>, subscriber: Option<Arc<str>>) -> Self {
        Self {
            subscriber,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            address,
            passphrase,
            phase: AtomicU8::new(Phase::Connecting as u8),
            began: Instant::now(),
            last_data: Moment::default(),
            send_errors: Figure::default(),
            facts: OnceLock::new(),
            closing: OnceLock::new(),
            published: Mutex::default(),
        }
    }

    /// Of a connection that was made in the process before this one.
    pub(super) fn going_on(address: SocketAddr, state: PeerState) -> Self {
        let PeerState { passphrase, subscriber, facts } = state;
        let stats = Self::of_subscriber(address, passphrase.map(KeyFile::from), subscriber.map(Arc::from));
        // It has none yet.
        let _ = stats.facts.set(facts);
        stats.set_phase(Phase::Connected);
        stats
    }

    /// What [`Self::going_on`] needs; `None`: it is not connected.
    pub(super) fn state(&self) -> Option<PeerState> {
        let facts = self.facts.get().filter(|_| self.phase() == Phase::Connected)?.clone();
        let (passphrase, subscriber) = (self.passphrase.as_ref(), self.subscriber.as_deref());
        let (passphrase, subscriber) = (passphrase.map(HandedKey::from), subscriber.map(str::to_owned));
        Some(PeerState { passphrase, subscriber, facts })
    }

    /// Whether it uses one of these passphrases, whatever the file is called; or none, where there are none.
    pub fn fits(&self, passphrases: &[KeyFile]) -> bool {
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

    /// This end is about to close it; the first who says why counts.
    pub fn close_because(&self, why: String) {
        // Somebody may have said so before.
        let _ = self.closing.set(why);
    }

    /// Why this end closes it, in words, where there is more to say than that it does.
    pub fn why_closed(&self) -> Option<&str> {
        self.closing.get().map(String::as_str)
    }

    /// Since when no data has come.
    pub fn silent_since(&self) -> Instant {
        self.last_data.value().unwrap_or(self.began)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(super) fn connected(&self, negotiated: &Negotiated) {
        let facts = Facts {
            version: negotiated.peer_version,
            receive_latency: negotiated.receive_latency,
            send_latency: negotiated.send_latency,
            cipher: negotiated.keys.as_ref().map(StreamKeys::key_length),
            stream_id: negotiated.stream_id.clone(),
            mss: negotiated.mss,
            since: SystemTime::now(),
        };
        // It is connected once.
        let _ = self.facts.set(facts);
        self.set_phase(Phase::Connected);
    }

    /// The figures as they are now, unless somebody reads them just then.
    pub fn publish(&self, now: Instant, figures: impl FnOnce() -> ConnectionStats) {
        if let Ok(mut published) = self.published.try_lock() {
            published.update(now, figures());
        }
    }

    /// As of a fifth of a second ago; of a connection that rests, a second.
    pub fn figures(&self) -> (ConnectionStats, Lately) {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        (published.figures, published.lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_of_the_last_second_and_what_went_wrong_has_its_time() {
        let peer = PeerStats::new("127.0.0.1:5000".parse().unwrap(), None);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut figures = ConnectionStats::default();
        for n in 0..=10 {
            // 1 Mbit/s out, of which a fifth is sent again; 2 Mbit/s in.
            (figures.sent.bytes, figures.sent.retransmitted_bytes) = (n * 20_000, n * 5_000);
            figures.received.bytes = n * 50_000;
            peer.publish(at(n * 200), || figures);
            let (_, lately) = peer.figures();
            let expected = if n < 5 { (0, 0) } else { (1_000_000, 2_000_000) };
            assert_eq!((lately.send_bps, lately.receive_bps), expected, "{n}");
        }
        assert_eq!((peer.figures().1.dropped, peer.figures().1.undecrypted), (None, None));
        figures.received.dropped = 1;
        peer.publish(at(2200), || figures);
        figures.received.undecrypted = 1;
        peer.publish(at(2400), || figures);
        peer.publish(at(3000), || figures);
        let (last, lately) = peer.figures();
        assert_eq!(last, figures);
        assert_eq!((lately.dropped, lately.undecrypted), (Some(at(2200)), Some(at(2400))));
        assert_eq!((lately.send_bps, lately.receive_bps), (0, 0), "nothing for a second");
    }
}
