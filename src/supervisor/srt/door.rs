//! What can be reached at a port: who is let in, who is in, and who was turned away.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::config::secrets::KeyFile;
use crate::config::value::FlowName;
use crate::flow::Courier;
use crate::flow::srt::Part;
use crate::flow::srt::stats::{PeerStats, Phase};
use crate::io::endpoint::Endpoint;
use crate::observe::condition::Refusal;
use crate::observe::event::{Event, emit};
use crate::proto::srt::access::StreamIdPattern;
use crate::proto::srt::handshake::Reject;
use crate::time::Instant;

/// How long a publisher is silent before another one that passes the same checks takes its place.
const SILENT: Duration = Duration::from_secs(1);
/// Refusals remembered, each of another address or reason.
const REFUSALS: usize = 8;

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// What the caller's stream ID must be like; `None`: anything.
    pub(super) pattern: Option<StreamIdPattern>,
    /// From where; `None`: anywhere.
    pub(super) allow: Option<Vec<IpNet>>,
    /// Any of these; none: in clear.
    pub(super) passphrases: Vec<KeyFile>,
    /// Packets that are sent with one key.
    pub(super) km_refresh: u32,
    /// The least latency.
    pub(super) latency: Duration,
    /// At a time.
    pub(super) most: usize,
}

/// What a caller is told that is turned away.
pub(super) fn reject(why: &Refusal) -> Reject {
    match why {
        Refusal::Address | Refusal::NotEntitled | Refusal::Disabled(_) | Refusal::Expired => Reject::FORBIDDEN,
        Refusal::WrongPassphrase => Reject::BadSecret,
        Refusal::NoPassphrase | Refusal::PassphraseUnexpected => Reject::Unsecure,
        Refusal::StreamId | Refusal::UnknownEntitlement => Reject::NOT_FOUND,
        Refusal::Malformed => Reject::BAD_REQUEST,
        Refusal::UnknownSubscriber => Reject::UNAUTHORIZED,
        Refusal::Full | Refusal::Sessions | Refusal::Bitrate => Reject::OVERLOAD,
        Refusal::Taken => Reject::CONFLICT,
        Refusal::Protocol(_) => Reject::Rogue,
    }
}

/// Callers that were turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct TurnedAway {
    pub(in crate::supervisor) address: IpAddr,
    pub(in crate::supervisor) why: Refusal,
    /// What it called with.
    pub(in crate::supervisor) stream_id: Option<String>,
    pub(in crate::supervisor) count: u64,
    pub(in crate::supervisor) last: SystemTime,
}

/// What a source or output counts of its connections, from the flow's start, however often it is opened.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Tally {
    /// Calls that were turned away, by [`Refusal::number`].
    refused: [AtomicU64; Refusal::ALL.len()],
    /// Connections that ended.
    disconnections: AtomicU64,
}

impl Tally {
    /// Calls that were turned away.
    pub(in crate::supervisor) fn refused(&self) -> u64 {
        self.refused.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The same by [`Refusal::code`], without zeroes.
    pub(in crate::supervisor) fn refused_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Refusal::ALL.into_iter().zip(&self.refused).map(|(code, count)| (code, count.load(Relaxed)));
        all.filter(|(_, count)| *count > 0)
    }

    /// Connections that ended.
    pub(in crate::supervisor) fn disconnections(&self) -> u64 {
        self.disconnections.load(Relaxed)
    }
}

/// The last connection that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervisor) struct LastEnd {
    pub(in crate::supervisor) at: Instant,
    pub(in crate::supervisor) peer: SocketAddr,
    /// In words.
    pub(in crate::supervisor) why: String,
}

/// The connections of a source or output, and who was turned away; shared by whoever lets in and whoever tells.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Roster {
    book: Mutex<Book>,
    pub(in crate::supervisor) tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Book {
    peers: Vec<Arc<PeerStats>>,
    refusals: VecDeque<TurnedAway>,
    ended: Option<LastEnd>,
}

impl Roster {
    /// An empty one, whose counts go on.
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        Self { book: Mutex::default(), tally }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more connection.
    pub(super) fn add(&self, peer: Arc<PeerStats>) {
        let mut book = self.book();
        book.peers.retain(|peer| peer.phase() != Phase::Over);
        book.peers.push(peer);
    }

    /// The connections that are not over.
    pub(in crate::supervisor) fn peers(&self) -> Vec<Arc<PeerStats>> {
        self.book().peers.iter().filter(|peer| peer.phase() != Phase::Over).cloned().collect()
    }

    /// The connection of this number, unless it is over.
    pub(super) fn peer(&self, number: u64) -> Option<Arc<PeerStats>> {
        self.peers().into_iter().find(|peer| peer.number == number)
    }

    /// A connection has ended.
    pub(in crate::supervisor) fn ended(&self, peer: SocketAddr, why: String) {
        self.tally.disconnections.fetch_add(1, Relaxed);
        self.book().ended = Some(LastEnd { at: Instant::now(), peer, why });
    }

    /// The last one that ended.
    pub(in crate::supervisor) fn last_end(&self) -> Option<LastEnd> {
        self.book().ended.clone()
    }

    pub(super) fn refuse(&self, address: IpAddr, why: Refusal, stream_id: Option<&str>) {
        self.tally.refused[why.number()].fetch_add(1, Relaxed);
        let mut book = self.book();
        let at = book.refusals.iter().position(|known| known.address == address && known.why == why);
        let count = at.and_then(|at| book.refusals.remove(at)).map_or(0, |known| known.count) + 1;
        book.refusals.truncate(REFUSALS - 1);
        let stream_id = stream_id.map(str::to_owned);
        book.refusals.push_front(TurnedAway { address, why, stream_id, count, last: SystemTime::now() });
    }

    /// The last refusals, newest first.
    pub(in crate::supervisor) fn refusals(&self) -> Vec<TurnedAway> {
        self.book().refusals.iter().cloned().collect()
    }
}

/// A source, an output or an entitlement at a port.
pub(super) struct Door {
    pub(super) flow: FlowName,
    pub(super) part: Part,
    pub(super) rules: Mutex<Arc<Rules>>,
    pub(super) courier: Courier,
    /// The socket of the flow's thread.
    pub(super) endpoint: Arc<Endpoint>,
    /// Its place at the port, which is in the socket numbers of its connections.
    pub(super) place: u32,
    pub(super) roster: Arc<Roster>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("flow", &self.flow).field("part", &self.part).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_rules(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Note that somebody was turned away.
    pub(super) fn refuse(&self, from: SocketAddr, why: Refusal, stream_id: Option<&str>) {
        emit(Event::SrtRefused {
            flow: self.flow.clone(),
            part: self.part.clone(),
            peer: from,
            why: why.words().to_owned(),
            stream_id: stream_id.map(str::to_owned),
        });
        self.roster.refuse(from.ip(), why, stream_id);
    }

    /// Whether there is room; a publisher that has fallen silent makes some, and is named.
    pub(super) fn room(&self, most: usize) -> Result<Option<u64>, Refusal> {
        let peers = self.roster.peers();
        if peers.len() < most {
            return Ok(None);
        }
        if !matches!(self.part, Part::Source(_)) {
            return Err(Refusal::Full);
        }
        let now = Instant::now();
        let silent = peers.iter().find(|peer| now - peer.silent_since() >= SILENT);
        silent.map(|peer| Some(peer.number)).ok_or(Refusal::Taken)
    }
}
