//! SRT in a flow: connections of its sources and outputs, which share the UDP sockets of their thread.
//!
//! A datagram comes to a multiplexer, which hands it to the link it is for and wakes the flow that owns it. The
//! flow releases what a source has received, pushes what its outputs are to send, and then lets all links transmit in one
//! go, data and control together: so one wake a gather budget serves receiving, releasing and sending.

mod link;
mod links;
mod multiplexer;
pub(super) mod output;
pub(super) mod source;
pub mod stats;
mod transmit;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Waker};

use serde::{Deserialize, Serialize};

pub(super) use self::link::Link;
pub use self::link::{GoingOn, LinkState};
pub(super) use self::links::FlowLinks;
pub(super) use self::multiplexer::{Multiplexer, Multiplexers};
use self::stats::PeerStats;
use crate::config::value::{Bitrate, FlowName};
use crate::io::endpoint::Endpoint;
use crate::proto::srt::caller::CallerConfig;
use crate::proto::srt::connection::ConnectionConfig;
use crate::proto::srt::crypto::Kek;
use crate::proto::srt::km::{KeyLength, Salt};
use crate::proto::srt::negotiated::Negotiated;
use crate::proto::srt::rendezvous::RendezvousConfig;
use crate::proto::srt::seq::SocketId;
use crate::proto::srt::terms::Failure;

/// A source, an output or an entitlement of a flow, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// A source.
    Source(String),
    /// An output.
    Output(String),
    /// An entitlement: to its connections it is an output.
    Entitlement(String),
}

/// Its name.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Source(name) | Self::Output(name) | Self::Entitlement(name)) = self;
        f.write_str(name)
    }
}

/// How a connection begins.
pub enum Opening {
    /// Somebody called and was let in.
    Accepted(Box<Negotiated>),
    /// We call.
    Call(Box<CallerConfig>),
    /// Both call.
    Meet(Box<RendezvousConfig>),
    /// It was made in the daemon's process before this one, and goes on.
    GoOn(Box<GoingOn>),
}

/// A connection for a flow's task to make.
pub struct LinkSeed {
    /// The socket it goes by.
    pub endpoint: Arc<Endpoint>,
    /// The peer.
    pub remote: SocketAddr,
    /// The address of this host that the peer called; `None`: the route's.
    pub local: Option<IpAddr>,
    /// How it begins.
    pub opening: Opening,
    /// Its bounds.
    pub config: ConnectionConfig,
    /// Where its figures go.
    pub stats: Arc<PeerStats>,
}

impl LinkSeed {
    /// Whether it was made in the process before this one.
    pub(super) const fn goes_on(&self) -> bool {
        matches!(self.opening, Opening::GoOn(_))
    }
}

/// Without what is secret.
impl fmt::Debug for LinkSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSeed").field("remote", &self.remote).field("local", &self.local).finish_non_exhaustive()
    }
}

/// What a source of SRT checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtSourceConfig {
    /// What comes above this is dropped.
    pub max_bitrate: Option<Bitrate>,
}

/// What is on every datagram of an output of SRT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SrtOutputConfig {
    /// `None`: 64.
    pub ttl: Option<u8>,
    /// The whole TOS octet.
    pub tos: u8,
}

/// What a flow's task tells of its connections.
#[derive(Debug)]
pub struct LinkNews {
    /// Of which flow.
    pub flow: FlowName,
    /// Of which source or output.
    pub part: Part,
    /// The connection.
    pub peer: Arc<PeerStats>,
    /// What happened.
    pub what: LinkEvent,
}

/// How the peer of a connection is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReturnPath {
    /// By the socket that is bound to this.
    pub bound: SocketAddr,
    /// From this address of it; `None`: the route's.
    pub local: Option<IpAddr>,
    /// Where the peer is.
    pub remote: SocketAddr,
    /// The peer's socket.
    pub socket: SocketId,
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The handshake is done.
    Connected(ReturnPath),
    /// A connection of the daemon's process before this one goes on.
    WentOn(ReturnPath),
    /// The peer sent keys with a salt that is new: derive with it, and answer by `FlowCommand::ProvideKeks`.
    NeedKek(Salt, KeyLength),
    /// The peer does not take the next key; the present one stays.
    KeyUnconfirmed,
    /// It is over.
    Ended(End),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The handshake came to nothing.
    Handshake(Failure),
    /// The peer shut it down.
    PeerClosed,
    /// Nothing came from the peer for too long.
    Silent,
    /// The peer never confirmed a new key, and the present one was used up.
    KeyExhausted,
    /// We closed it.
    Closed,
}

/// Keys for a connection that asked for them: one for each passphrase that may be the right one.
pub struct Keks {
    /// The connection, by [`PeerStats::number`].
    pub peer: u64,
    /// In the order of the passphrases.
    pub keks: Vec<Kek>,
}

/// Without what is secret.
impl fmt::Debug for Keks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keks").field("peer", &self.peer).field("keks", &self.keks.len()).finish()
    }
}

/// Wakes a flow's task when one of its connections has something for it.
#[derive(Default)]
pub(super) struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    pub(super) fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether it was rung since the last time. The task is woken when it is rung next.
    pub(super) fn poll(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        self.rung.take()
    }
}
