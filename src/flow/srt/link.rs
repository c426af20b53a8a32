//! One connection of a flow, from its handshake to its end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::history::History;
use super::stats::{Phase, PeerStats};
use super::{Bell, End, LinkEvent, LinkSeed, Multiplexer, Opening, SrtOutputConfig};
use crate::io::batch::{Session, Target};
use crate::proto::srt::caller::Caller;
use crate::proto::srt::connection::{CloseReason, Connection, ConnectionConfig, ConnectionEvent};
use crate::proto::srt::crypto::Kek;
use crate::proto::srt::handshake::HandshakeEvent;
use crate::proto::srt::negotiated::Negotiated;
use crate::proto::srt::rendezvous::Rendezvous;
use crate::proto::srt::seq::SocketId;
use crate::time::Instant;

/// How often figures are published at most.
const PUBLISH: Duration = Duration::from_millis(200);

/// A connection, known to its multiplexer by its number and owned by one flow.
pub(in crate::flow) struct Link {
    /// Our socket's number: the peer writes it into every packet.
    pub(super) id: SocketId,
    pub(super) remote: SocketAddr,
    pub(super) is_rendezvous: bool,
    pub(super) multiplexer: Rc<Multiplexer>,
    pub(super) target: RefCell<Target>,
    /// How long the flow lets packets gather.
    pub(super) budget: Cell<Duration>,
    pub(super) state: RefCell<State>,
    events: RefCell<VecDeque<LinkEvent>>,
    bell: Rc<Bell>,
    pub(in crate::flow) stats: Arc<PeerStats>,
    published: Cell<Instant>,
}

pub(super) enum State {
    Calling(Box<Caller>),
    Meeting(Box<Rendezvous>),
    Connected(Box<Connection>),
    Over,
}
