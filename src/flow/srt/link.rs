//! One connection of a flow, from its handshake to its end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stats::{PeerState, PeerStats, Phase};
use super::{Bell, End, LinkEvent, LinkSeed, Multiplexer, Opening, Part, ReturnPath};
use crate::flow::cipher::Variant;
use crate::flow::history::History;
use crate::io::batch::{Session, Target};
use crate::io::endpoint::Endpoint;
use crate::proto::srt::caller::Caller;
use crate::proto::srt::connection::{CloseReason, Connection, ConnectionConfig, ConnectionEvent};
use crate::proto::srt::crypto::{Kek, MAX_KEY};
use crate::proto::srt::negotiated::Negotiated;
use crate::proto::srt::packet::HEADER_LEN;
use crate::proto::srt::rendezvous::Rendezvous;
use crate::proto::srt::seq::SocketId;
use crate::proto::srt::stats::{ReceiveCounters, SendCounters};
use crate::proto::srt::terms::HandshakeEvent;
use crate::time::Instant;

/// How often figures are published at most.
const PUBLISH: Duration = Duration::from_millis(200);

/// A connection as it is handed over to the daemon's next process.
#[derive(Serialize, Deserialize)]
pub struct LinkState {
    /// Whose it is.
    pub part: Part,
    /// How its peer is reached.
    pub path: ReturnPath,
    peer: PeerState,
    going_on: GoingOn,
}

/// What goes on of it.
#[derive(Serialize, Deserialize)]
pub struct GoingOn {
    connection: Box<Connection>,
    /// What it was sent.
    pub(in crate::flow) variant: Variant,
    is_rendezvous: bool,
    /// What the kernel had dropped of its socket's, for want of room.
    overflow: u32,
}

impl LinkState {
    /// Our socket's number.
    pub const fn id(&self) -> SocketId {
        self.going_on.connection.local()
    }

    /// The same connection, by the socket that it has always had.
    pub fn into_seed(self, endpoint: Arc<Endpoint>) -> LinkSeed {
        let Self { path: ReturnPath { local, remote, .. }, peer, going_on, .. } = self;
        let stats = Arc::new(PeerStats::going_on(remote, peer));
        let (opening, config) = (Opening::GoOn(Box::new(going_on)), ConnectionConfig::default());
        LinkSeed { endpoint, remote, local, opening, config, stats }
    }
}

/// A connection, known to its multiplexer by its number and owned by one flow.
pub(in crate::flow) struct Link {
    /// Whose it is.
    pub(super) part: Part,
    /// Of an output: what it sends.
    pub(super) variant: Cell<Variant>,
    /// Our socket's number: the peer writes it into every packet.
    pub(super) id: SocketId,
    pub(super) remote: SocketAddr,
    /// The address of this host that the peer called.
    local: Option<IpAddr>,
    pub(super) is_rendezvous: bool,
    pub(super) multiplexer: Rc<Multiplexer>,
    pub(super) target: RefCell<Target>,
    /// How long the flow lets packets gather.
    pub(super) budget: Cell<Duration>,
    pub(super) state: RefCell<State>,
    pub(in crate::flow) stats: Arc<PeerStats>,
    config: ConnectionConfig,
    bell: Rc<Bell>,
    events: RefCell<VecDeque<LinkEvent>>,
    published: Cell<Option<Instant>>,
    /// It was told that it is over.
    ended: Cell<bool>,
}

pub(super) enum State {
    Calling(Box<Caller>),
    Meeting(Box<Rendezvous>),
    Connected(Box<Connection>),
    Over,
}

impl Link {
    /// Begin a connection. The flow's task hears of it by `bell`.
    pub(in crate::flow) fn open(
        part: Part,
        seed: LinkSeed,
        multiplexer: Rc<Multiplexer>,
        bell: Rc<Bell>,
        budget: Duration,
        (ttl, tos): (Option<u8>, u8),
        now: Instant,
    ) -> Rc<Self> {
        let LinkSeed { endpoint, remote, local, opening, config, stats } = seed;
        let (id, is_rendezvous) = match &opening {
            Opening::Accepted(negotiated) => (negotiated.local, false),
            Opening::Call(config) => (config.terms.local, false),
            Opening::Meet(config) => (config.terms.local, true),
            Opening::GoOn(before) => (before.connection.local(), before.is_rendezvous),
        };
        let (state, accepted) = match opening {
            Opening::Accepted(negotiated) => (State::Over, Some(negotiated)),
            Opening::Call(config) => (State::Calling(Box::new(Caller::new(now, *config))), None),
            Opening::Meet(config) => (State::Meeting(Box::new(Rendezvous::new(now, *config))), None),
            Opening::GoOn(before) => {
                multiplexer.has_overflown(before.overflow);
                stats.publish(now, || before.connection.stats(now));
                (State::Connected(before.connection), None)
            }
        };
        let going_on = if let State::Connected(connection) = &state { Some(connection.remote()) } else { None };
        let link = Rc::new(Self {
            part,
            variant: Cell::default(),
            id,
            remote,
            local,
            is_rendezvous,
            target: RefCell::new(Target::from_endpoint(&endpoint, remote, local, (ttl, tos))),
            multiplexer,
            budget: Cell::new(budget),
            state: RefCell::new(state),
            stats,
            config,
            bell,
            events: RefCell::default(),
            published: Cell::new(None),
            ended: Cell::new(false),
        });
        if !link.multiplexer.add(&link) {
            // Nobody was answered yet: who called does so again, and gets another number.
            *link.state.borrow_mut() = State::Over;
            link.stats.set_phase(Phase::Over);
        } else if let Some(negotiated) = accepted {
            link.connect(&mut link.state.borrow_mut(), *negotiated, now);
        } else if let Some(socket) = going_on {
            link.note(LinkEvent::WentOn(link.return_path(socket)));
        }
        link.bell.ring();
        link
    }

    /// What is on each datagram is another now.
    pub(super) fn retarget(&self, options: (Option<u8>, u8)) {
        *self.target.borrow_mut() = Target::from_endpoint(&self.multiplexer.endpoint, self.remote, self.local, options);
    }

    /// What goes on in the next process; `None`: it is not connected. Its peer is not told.
    pub(in crate::flow) fn suspend(&self, now: Instant) -> Option<LinkState> {
        let state = std::mem::replace(&mut *self.state.borrow_mut(), State::Over);
        let State::Connected(connection) = state else { return None };
        self.stats.publish(now, || connection.stats(now));
        let peer = self.stats.state()?;
        let path = self.return_path(connection.remote());
        let (variant, overflow) = (self.variant.get(), self.multiplexer.overflow());
        let going_on = GoingOn { connection, variant, is_rendezvous: self.is_rendezvous, overflow };
        Some(LinkState { part: self.part.clone(), path, peer, going_on })
    }

    /// What it has sent.
    pub(super) fn sent(&self) -> SendCounters {
        if let State::Connected(connection) = &*self.state.borrow() {
            *connection.sent()
        } else {
            SendCounters::default()
        }
    }

    /// What it has received.
    pub(super) fn received(&self) -> ReceiveCounters {
        match &*self.state.borrow() {
            State::Connected(connection) => *connection.received(),
            _ => ReceiveCounters::default(),
        }
    }

    /// How long packets may gather.
    pub(in crate::flow) fn set_budget(&self, budget: Duration) {
        if self.budget.replace(budget) != budget {
            self.multiplexer.set_budget();
        }
    }

    fn connect(&self, state: &mut State, negotiated: Negotiated, now: Instant) {
        self.stats.connected(&negotiated);
        let path = self.return_path(negotiated.remote);
        *state = State::Connected(Box::new(Connection::new(negotiated, &self.config, now)));
        self.note(LinkEvent::Connected(path));
    }

    fn return_path(&self, socket: SocketId) -> ReturnPath {
        // Every socket has one.
        let bound = self.multiplexer.endpoint.local_addr().unwrap_or(self.remote);
        ReturnPath { bound, local: self.local, remote: self.remote, socket }
    }

    fn note(&self, event: LinkEvent) {
        self.events.borrow_mut().push_back(event);
    }

    fn end(&self, end: End) {
        if !self.ended.replace(true) {
            self.stats.set_phase(Phase::Over);
            self.note(LinkEvent::Ended(end));
        }
    }

    /// A datagram from its peer.
    pub(super) fn handle_datagram(&self, now: Instant, arrival: Instant, datagram: &[u8]) {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Calling(caller) => {
                caller.handle_datagram(now, arrival, datagram);
                self.settle(&mut state, now);
            }
            State::Meeting(rendezvous) => {
                rendezvous.handle_datagram(now, arrival, datagram);
                // The one that made the connection may be its first.
                if self.settle(&mut state, now)
                    && let State::Connected(connection) = &mut *state
                {
                    connection.handle_datagram(now, arrival, datagram);
                }
            }
            State::Connected(connection) => connection.handle_datagram(now, arrival, datagram),
            State::Over => {}
        }
        self.bell.ring();
    }

    /// Hear what a handshake has come to. Whether there is a connection of it now.
    fn settle(&self, state: &mut State, now: Instant) -> bool {
        loop {
            let event = match state {
                State::Calling(caller) => caller.poll_event(),
                State::Meeting(rendezvous) => rendezvous.poll_event(),
                State::Connected(_) | State::Over => None,
            };
            match event {
                None => return false,
                Some(HandshakeEvent::NeedKek { salt, key_length }) => self.note(LinkEvent::NeedKek(salt, key_length)),
                Some(HandshakeEvent::Connected(negotiated)) => {
                    self.connect(state, *negotiated, now);
                    return true;
                }
                Some(HandshakeEvent::Failed(failure)) => self.end(End::Handshake(failure)),
            }
        }
    }

    /// Keys that it asked for.
    pub(in crate::flow) fn provide_keks(&self, keks: &[Kek], now: Instant) {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Meeting(rendezvous) => {
                rendezvous.provide_kek(now, keks);
                self.settle(&mut state, now);
            }
            State::Connected(connection) => connection.provide_kek(keks),
            State::Calling(_) | State::Over => {}
        }
        self.bell.ring();
    }

    /// Time has passed.
    pub(in crate::flow) fn handle_timeout(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Calling(caller) => {
                caller.handle_timeout(now);
                self.settle(&mut state, now);
            }
            State::Meeting(rendezvous) => {
                rendezvous.handle_timeout(now);
                self.settle(&mut state, now);
            }
            State::Connected(connection) => connection.handle_timeout(now),
            State::Over => {}
        }
    }

    /// When [`Self::handle_timeout`] and [`Self::transmit`] are due.
    pub(in crate::flow) fn due(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Calling(caller) => caller.poll_timeout(),
            State::Meeting(rendezvous) => rendezvous.poll_timeout(),
            State::Connected(connection) => connection.poll_timeout(),
            State::Over => None,
        }
    }

    /// When the next packet that was received is due.
    pub(in crate::flow) fn next_release(&self) -> Option<Instant> {
        if let State::Connected(connection) = &*self.state.borrow() { connection.next_release() } else { None }
    }

    /// Close it in order: the peer is told with the next [`Self::transmit`].
    pub(in crate::flow) fn close(&self) {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Connected(connection) => connection.close(),
            State::Calling(_) | State::Meeting(_) => {
                *state = State::Over;
                self.end(End::Closed);
            }
            State::Over => {}
        }
        self.bell.ring();
    }

    /// Begin to send what comes after this in a history.
    pub(super) fn begin_sending(&self, index: u64) {
        if let State::Connected(connection) = &mut *self.state.borrow_mut() {
            connection.begin_sending(index);
        }
    }

    /// Add all that may leave now to the trains that are being built. Whether some of it is media that the peer must have.
    pub(super) fn transmit<'p>(
        &self,
        now: Instant,
        history: Option<&'p History>,
        session: &mut Session<'_, 'p>,
        control: &mut Vec<u8>,
    ) {
        let mut state = self.state.borrow_mut();
        let mut handshake = |packet: Vec<u8>| session.push_with(packet.len(), |place| place.copy_from_slice(&packet));
        match &mut *state {
            State::Calling(caller) => {
                while let Some(packet) = caller.poll_transmit(now) {
                    handshake(packet);
                }
                if self.ended.get() {
                    *state = State::Over;
                }
            }
            State::Meeting(rendezvous) => {
                while let Some(packet) = rendezvous.poll_transmit(now) {
                    handshake(packet);
                }
                if self.ended.get() {
                    *state = State::Over;
                }
            }
            State::Connected(connection) => {
                if let Some(history) = history {
                    transmit_data(connection, now, history, session);
                }
                control.clear();
                // Behind the data of the same train: it costs no message of its own.
                while connection.poll_control(now, control) {
                    session.push_with(control.len(), |place| place.copy_from_slice(control));
                    control.clear();
                }
                self.hear(connection, now);
                if connection.is_closed() {
                    *state = State::Over;
                }
            }
            State::Over => {}
        }
    }

    /// What the connection has to tell; and its figures, from time to time.
    fn hear(&self, connection: &mut Connection, now: Instant) {
        while let Some(event) = connection.poll_event() {
            match event {
                ConnectionEvent::Closed(reason) => {
                    self.stats.publish(now, || connection.stats(now));
                    self.end(match reason {
                        CloseReason::Local => End::Closed,
                        CloseReason::PeerShutdown => End::PeerClosed,
                        CloseReason::PeerIdle => End::Silent,
                        CloseReason::KeyExhausted => End::KeyExhausted,
                    });
                }
                ConnectionEvent::NeedSecret => {
                    let mut secret = zeroize::Zeroizing::new([0; MAX_KEY]);
                    // Where the kernel has none to give, the present key stays, and it asks again.
                    if getrandom::fill(&mut *secret).is_err() {
                        break;
                    }
                    connection.provide_secret(&secret);
                }
                ConnectionEvent::NeedKek { salt, key_length } => self.note(LinkEvent::NeedKek(salt, key_length)),
                ConnectionEvent::KeyUnconfirmed | ConnectionEvent::KeyRefused(_) => {
                    self.note(LinkEvent::KeyUnconfirmed)
                }
                ConnectionEvent::Ending(_)
                | ConnectionEvent::SendKeyRefreshed
                | ConnectionEvent::ReceiveKeyRefreshed => {}
            }
        }
        if self.published.get().is_none_or(|at| now - at >= PUBLISH) {
            self.published.set(Some(now));
            self.stats.publish(now, || connection.stats(now));
        }
    }

    /// What happened; ask until `None`.
    pub(in crate::flow) fn poll_event(&self) -> Option<LinkEvent> {
        self.events.borrow_mut().pop_front()
    }

    /// Whether it is over and everything was told.
    pub(in crate::flow) fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over) && self.events.borrow().is_empty()
    }
}

fn transmit_data<'p>(connection: &mut Connection, now: Instant, history: &'p History, session: &mut Session<'_, 'p>) {
    while let Some(out) = connection.poll_data(now, history) {
        let Some(payload) = history.payload(out.index) else { continue };
        if out.key.is_none() {
            session.push(&out.header, payload);
            continue;
        }
        session.push_with(HEADER_LEN + payload.len(), |place| {
            let (header, body) = place.split_at_mut(HEADER_LEN);
            header.copy_from_slice(&out.header);
            body.copy_from_slice(payload);
            connection.seal(&out, body);
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stats.set_phase(Phase::Over);
        self.multiplexer.remove(self);
    }
}
