//! Connections that we begin: calls and rendezvous, again and again until they are made, and again when they end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::door::Roster;
use super::keys::{Job, Work};
use super::terms;
use crate::config::secrets::KeyFile;
use crate::config::value::Destination;
use crate::flow::FlowCommand;
use crate::flow::srt::stats::PeerStats;
use crate::flow::srt::{End, LinkSeed, Opening, Part};
use crate::io::endpoint::Endpoint;
use crate::proto::srt::caller::CallerConfig;
use crate::proto::srt::crypto::{Kek, MAX_KEY, StreamKeys, StreamSecret};
use crate::proto::srt::handshake::Reject;
use crate::proto::srt::km::{KeyLength, SALT_LEN, Salt};
use crate::proto::srt::packet::Key;
use crate::proto::srt::rendezvous::RendezvousConfig;
use crate::proto::srt::seq::{SeqNo, SocketId};
use crate::proto::srt::terms::{CONNECT_TIMEOUT, Encryption, Failure, RENDEZVOUS_TIMEOUT};
use crate::supervisor::entry::Env;
use crate::supervisor::resolve::Unresolved;
use crate::time::Instant;

/// How long until the next attempt: after a connection that was, and after attempts that came to nothing, growing to the
/// last.
const AGAIN: Duration = Duration::from_millis(250);
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// What does not go away by itself is tried less often.
const REFUSED: Duration = Duration::from_secs(5);

/// How to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct CallPlan {
    /// Whom.
    pub(in crate::supervisor) remote: Destination,
    /// What to say; `None`: nothing.
    pub(in crate::supervisor) stream_id: Option<String>,
    /// Both call.
    pub(in crate::supervisor) rendezvous: bool,
    /// The least latency.
    pub(in crate::supervisor) latency: Duration,
    /// Any of these may be the right one; none: in clear.
    pub(in crate::supervisor) passphrases: Vec<KeyFile>,
    /// Of the keys that we make.
    pub(in crate::supervisor) key_length: KeyLength,
    /// Packets that are sent with one key.
    pub(in crate::supervisor) km_refresh: u32,
}

/// A source or output that calls.
pub(in crate::supervisor) struct Call {
    plan: CallPlan,
    endpoint: Arc<Endpoint>,
    pub(in crate::supervisor) roster: Arc<Roster>,
    stage: Stage,
    /// Attempts that came to nothing since the last connection.
    pub(in crate::supervisor) failures: u64,
    /// Why the last attempt came to nothing, or the last connection ended.
    pub(in crate::supervisor) last: Option<(Ended, SystemTime)>,
    /// Which of the passphrases is used.
    passphrase: usize,
    /// Derived from that passphrase.
    kek: Option<Kek>,
    /// Tells answers to an older question from those to the present one.
    asked: u64,
}

/// Without what is secret.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("remote", &self.plan.remote).field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) enum Ended {
    /// It ended.
    Link(End),
    /// Its name has no address.
    Name(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until then.
    Resting(Instant),
    /// A key is being derived.
    Deriving,
    /// An attempt or a connection, by its number.
    Open(u64),
}

/// Where a call belongs.
#[derive(Debug, Clone, Copy)]
pub(in crate::supervisor) struct Home<'a> {
    pub(in crate::supervisor) flow: &'a crate::config::value::FlowName,
    pub(in crate::supervisor) part: &'a Part,
}

impl Call {
    /// One that begins at once.
    pub(in crate::supervisor) fn new(
        plan: CallPlan,
        endpoint: Arc<Endpoint>,
        roster: Arc<Roster>,
        now: Instant,
    ) -> Self {
        Self {
            plan,
            endpoint,
            roster,
            stage: Stage::Resting(now),
            failures: 0,
            last: None,
            passphrase: 0,
            kek: None,
            asked: 0,
        }
    }

    /// A connection of the process before this one goes on.
    pub(super) fn goes_on(&mut self, peer: &PeerStats) {
        self.stage = Stage::Open(peer.number);
        let its = self.plan.passphrases.iter().position(|key| peer.fits(std::slice::from_ref(key)));
        self.passphrase = its.unwrap_or(0);
    }

    /// Bytes of receive buffer that the kernel granted.
    pub(in crate::supervisor) fn granted(&self) -> usize {
        self.endpoint.granted()
    }

    /// When [`Self::go_on`] has something to do.
    pub(in crate::supervisor) fn due(&self) -> Option<Instant> {
        if let Stage::Resting(until) = self.stage { Some(until) } else { None }
    }

    /// Call, if it is time to. What the flow's task is to be told.
    pub(in crate::supervisor) fn go_on(&mut self, home: Home<'_>, env: &Env<'_>) -> Option<FlowCommand> {
        if !matches!(self.stage, Stage::Resting(until) if until <= env.now) {
            return None;
        }
        let ip = match env.names.resolve(&self.plan.remote, env.now) {
            Ok(ip) => ip,
            Err(Unresolved::Pending(_)) => {
                self.stage = Stage::Resting(env.now + AGAIN);
                return None;
            }
            Err(Unresolved::Name { error, .. } | Unresolved::Interface(error)) => {
                self.failed(Ended::Name(error), env);
                return None;
            }
        };
        if self.plan.passphrases.get(self.passphrase).is_some() && self.kek.is_none() {
            self.derive(home, env);
            return None;
        }
        self.dial(SocketAddr::new(ip, self.plan.remote.port), home.part, env)
    }

    /// Have a key derived from the passphrase in turn, with a salt of its own.
    fn derive(&mut self, home: Home<'_>, env: &Env<'_>) {
        let Some(passphrase) = self.plan.passphrases.get(self.passphrase) else { return };
        let mut salt = [0; SALT_LEN];
        if getrandom::fill(&mut salt).is_err() {
            self.stage = Stage::Resting(env.now + BACK_OFF.1);
            return;
        }
        self.asked += 1;
        self.stage = Stage::Deriving;
        let job = Job { flow: home.flow.clone(), part: home.part.clone(), work: Work::Call(self.asked) };
        env.keys.derive(job, vec![passphrase.clone()], Salt(salt), self.plan.key_length);
    }

    /// A key was derived.
    pub(in crate::supervisor) fn derived(&mut self, asked: u64, kek: Option<Kek>, now: Instant) {
        if self.stage == Stage::Deriving && asked == self.asked {
            self.kek = kek;
            self.stage = Stage::Resting(now);
        }
    }

    fn dial(&mut self, remote: SocketAddr, part: &Part, env: &Env<'_>) -> Option<FlowCommand> {
        let mut random = zeroize::Zeroizing::new([0; MAX_KEY + 12]);
        if getrandom::fill(&mut *random).is_err() {
            self.stage = Stage::Resting(env.now + BACK_OFF.1);
            return None;
        }
        let (secret, numbers) = random.split_first_chunk::<MAX_KEY>()?;
        let number = |n: usize| numbers.get(n * 4..n * 4 + 4)?.try_into().ok().map(u32::from_be_bytes);
        let (id, isn, cookie) = (number(0)?, number(1)?, number(2)?);
        // Not 0, and with the two top bits clear.
        let local = SocketId(id & 0x3FFF_FFFF | 1);
        let terms = terms::terms(local, self.plan.latency, env.now);
        let encryption = self.kek.clone().map(|kek| {
            let secret = StreamSecret::new(kek.key_length(), secret);
            Encryption { keys: StreamKeys::new(kek.salt(), Key::Even, secret), kek }
        });
        let (isn, peer) = (SeqNo::new(isn), remote.ip());
        let opening = if self.plan.rendezvous {
            let timeout = RENDEZVOUS_TIMEOUT;
            Opening::Meet(Box::new(RendezvousConfig { terms, isn, peer, cookie: cookie | 1, encryption, timeout }))
        } else {
            let (stream_id, timeout) = (self.plan.stream_id.clone(), CONNECT_TIMEOUT);
            Opening::Call(Box::new(CallerConfig { terms, isn, peer, stream_id, encryption, timeout }))
        };
        let passphrase = self.plan.passphrases.get(self.passphrase).cloned();
        let stats = Arc::new(PeerStats::new(remote, passphrase));
        self.roster.add(stats.clone());
        self.stage = Stage::Open(stats.number);
        let config = terms::connection(self.plan.latency, self.plan.km_refresh);
        let endpoint = self.endpoint.clone();
        let seed = LinkSeed { endpoint, remote, local: None, opening, config, stats };
        Some(FlowCommand::OpenLink(part.clone(), Box::new(seed)))
    }

    /// An attempt has become a connection.
    pub(in crate::supervisor) fn connected(&mut self, peer: u64) {
        if self.stage == Stage::Open(peer) {
            self.failures = 0;
            self.last = None;
        }
    }

    /// An attempt came to nothing, or a connection ended. Whether it is ours.
    pub(in crate::supervisor) fn ended(&mut self, peer: u64, end: End, was_connected: bool, env: &Env<'_>) -> bool {
        if self.stage != Stage::Open(peer) {
            return false;
        }
        if was_connected {
            self.last = Some((Ended::Link(end), SystemTime::now()));
            self.rest(AGAIN, env);
        } else {
            self.failed(Ended::Link(end), env);
        }
        true
    }

    fn failed(&mut self, why: Ended, env: &Env<'_>) {
        let growing = BACK_OFF.0.saturating_mul(1 << self.failures.min(8)).min(BACK_OFF.1);
        self.failures += 1;
        let pause = match &why {
            // Another one may be the right one.
            Ended::Link(End::Handshake(Failure::Rejected(Reject::BadSecret) | Failure::BrokenOff))
                if self.plan.passphrases.len() > 1 =>
            {
                self.passphrase = (self.passphrase + 1) % self.plan.passphrases.len();
                self.kek = None;
                if self.passphrase == 0 { REFUSED } else { AGAIN }
            }
            Ended::Link(End::Handshake(Failure::Rejected(_) | Failure::Refused(_))) => growing.max(REFUSED),
            _ => growing,
        };
        self.last = Some((why, SystemTime::now()));
        self.rest(pause, env);
    }

    fn rest(&mut self, pause: Duration, env: &Env<'_>) {
        self.stage = Stage::Resting(env.now + pause);
        // By then it is known where the name leads now.
        env.names.ask_again(&self.plan.remote, env.now);
    }

    /// Change what can be while it runs. The connections that must end for it.
    pub(in crate::supervisor) fn retune(&mut self, plan: CallPlan, now: Instant) -> Vec<u64> {
        let mut ending = Vec::new();
        if self.plan.passphrases != plan.passphrases {
            let peers = self.roster.peers();
            ending.extend(peers.iter().filter(|peer| !peer.fits(&plan.passphrases)).map(|peer| peer.number));
            (self.passphrase, self.kek) = (0, None);
            if self.stage == Stage::Deriving {
                self.stage = Stage::Resting(now);
            }
        }
        self.plan = plan;
        ending
    }
}
