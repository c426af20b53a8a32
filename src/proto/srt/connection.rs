//! An established connection, as a state machine without I/O.
//!
//! # How a host drives it
//! Whenever something arrived, a packet was put into the [`History`], or [`Connection::poll_timeout`] or
//! [`Connection::next_release`] is reached; many connections at a time, a few milliseconds late if that is cheaper:
//!
//! 1. [`handle_datagram`](Connection::handle_datagram) for everything that arrived, then
//!    [`handle_timeout`](Connection::handle_timeout). In this order: after a stall the peer's packets still lie in the
//!    socket, and it must not be taken for dead.
//! 2. [`release`](Connection::release), read [`released`](Connection::released),
//!    [`recycle`](Connection::recycle).
//! 3. [`poll_control`](Connection::poll_control) until `false`, [`poll_data`](Connection::poll_data) until `None`. What
//!    they return counts as sent. `None` also ends a train: where [`poll_timeout`](Connection::poll_timeout) is due at
//!    once, there is more, from 1. on; other connections should have their turn before.
//! 4. [`poll_event`](Connection::poll_event) until `None`.
//!
//! Then [`poll_timeout`](Connection::poll_timeout) and [`next_release`](Connection::next_release) say when to come back.
//! Every call to a method with `&mut self` may change both.
//!
//! # What the network can do to it
//! Nothing that arrives panics, and nothing ends the connection but a SHUTDOWN, silence, or the host. What cannot be is
//! counted ([`ConnectionStats::invalid`]) and changes nothing. Memory is bounded by the [`ConnectionConfig`].

mod config;
mod control;

use crate::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::UDP_HEADERS;
use super::clock::{Clock, MILLISECOND, SECOND, Tick, micros, span};
use super::crypto::{Kek, MAX_KEY};
use super::km::{KeyLength, KmState, Salt};
use super::negotiated::{HsFlags, Negotiated};
use super::packet::{DataHeader, HEADER_LEN, Packet};
use super::receive::{Arrived, Bounds, Receiver};
use super::rekey::{ReceiveKeys, SendKeys};
use super::rtt::Rtt;
use super::send::{SendRules, Sender};
use super::seq::{MsgNo, SeqNo, SocketId};
use super::stats::{ConnectionStats, KeyState, ReceiveCounters, SendCounters};
use super::tsbpd::Tsbpd;
use super::window::ExtSeq;

pub use self::config::ConnectionConfig;
pub use super::send::{DataOut, History, SendOrder};

/// After this time without sending anything, a keepalive.
const KEEPALIVE: i64 = SECOND;
/// When the peer seems dead, so much longer is waited for what may lie in the socket.
const LAST_CALL: i64 = 100 * MILLISECOND;
/// Between looks at what memory can be given back.
const TRIM: i64 = SECOND;
/// Keepalives tell of the peer's clock this often at most: it sends one a second.
const KEEPALIVE_SAMPLE: i64 = SECOND / 2;
/// Events that nobody fetched: later ones are dropped.
const MOST_EVENTS: usize = 32;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseReason {
    /// The host closed it.
    Local,
    /// The peer closed it.
    PeerShutdown,
    /// Nothing came from the peer for longer than [`ConnectionConfig::idle_timeout`].
    PeerIdle,
    /// The peer never confirmed a new key, and the old one must not be used for any packet more.
    KeyExhausted,
}

/// What the host should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionEvent {
    /// It ends, and this is why. What waits is still released in its time; nothing is received or sent any more, but for
    /// a SHUTDOWN.
    Ending(CloseReason),
    /// It has ended, and everything was released: it may be dropped.
    Closed(CloseReason),
    /// Give it the next key with [`Connection::provide_secret`], in the next minutes.
    NeedSecret,
    /// What we send has a new key.
    SendKeyRefreshed,
    /// What we receive will have a new key.
    ReceiveKeyRefreshed,
    /// The peer does not confirm the next key. The old one stays.
    KeyUnconfirmed,
    /// The peer refuses the next key. The old one stays.
    KeyRefused(KmState),
    /// The peer announces keys that need another key encryption key. For each passphrase that may be the right one, derive
    /// it, away from the packet path, and call [`Connection::provide_kek`].
    NeedKek {
        /// The peer's salt.
        salt: Salt,
        /// How long the peer's keys are.
        key_length: KeyLength,
    },
}

/// A packet whose time has come.
#[derive(Debug, Clone, Copy)]
pub struct ReleasedPacket<'a> {
    /// What the sender put in, decrypted. Whether it is what it should be is for the host to say.
    pub payload: &'a [u8],
    /// Its sequence number.
    pub seq: SeqNo,
    /// When it came.
    pub arrival: Instant,
    /// The sender's time stamp on our clock, as if the path took no more time than when the connection began.
    pub origin: Instant,
    /// Its time for delivery: `origin` and the latency.
    pub due: Instant,
    /// How many packets are missing between the one before and this one.
    pub gap_before: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Open,
    /// What waits is released, then it is closed.
    Draining(CloseReason),
    /// The peer is still to be told.
    Leaving(CloseReason),
    Closed,
}

/// An established connection: see the [module](self).
#[derive(Serialize, Deserialize)]
pub struct Connection {
    clock: Clock,
    local: SocketId,
    remote: SocketId,
    /// Bytes of the largest SRT packet.
    largest: usize,
    state: State,
    rtt: Rtt,
    receiver: Receiver,
    sender: Sender,
    send_latency: i64,
    send_keys: Option<Box<SendKeys>>,
    receive_keys: Option<Box<ReceiveKeys>>,
    /// Refreshes of the send keys that were told.
    told_refreshes: u64,
    /// The handshake packet to be repeated.
    reply: Option<Vec<u8>>,
    reply_due: bool,
    /// The body of a KMRSP to be sent.
    km_reply: Option<Vec<u8>>,
    invalid: u64,
    idle_timeout: i64,
    idle_at: Tick,
    /// The peer seems dead, and what lies in the socket is waited for.
    last_call: bool,
    /// When something was last sent.
    spoke: Tick,
    trimmed: Tick,
    keepalive_sampled: Tick,
    events: VecDeque<ConnectionEvent>,
}

impl Connection {
    /// A connection as it comes out of a handshake.
    pub fn new(negotiated: Negotiated, config: &ConnectionConfig, now: Instant) -> Self {
        let clock = Clock::new(negotiated.start);
        let now = clock.tick(now);
        let largest = usize::from(negotiated.mss).saturating_sub(UDP_HEADERS).max(2 * HEADER_LEN);
        let bounds = Bounds {
            packets: config.receive_packets.clamp(32, 1 << 24),
            bytes: config.receive_bytes,
            payload: largest - HEADER_LEN,
            reorder_tolerance: config.reorder_tolerance,
        };
        let latency = micros(negotiated.receive_latency);
        let tsbpd = Tsbpd::new(clock.tick(negotiated.peer_base), latency);
        let peer = negotiated.peer_flags;
        let rules = SendRules {
            remote: negotiated.remote,
            window: negotiated.flow_window.max(2),
            drop_after: peer.contains(HsFlags::TOO_LATE_DROP).then(|| SendRules::drop_after(negotiated.send_latency)),
            mark_again: peer.contains(HsFlags::REXMIT_FLAG),
            order: config.order,
            budget: config.retransmit_percent,
            rate: config.max_bandwidth,
            train: config.train,
            latency: micros(negotiated.send_latency),
        };
        let keys = negotiated.keys.zip(negotiated.kek);
        let message = keys.as_ref().and_then(|(keys, kek)| kek.wrap(keys));
        let receive_isn = ExtSeq::start(negotiated.receive_isn);
        let receive_keys =
            keys.clone().map(|(keys, kek)| Box::new(ReceiveKeys::new(keys, kek, message.as_deref(), receive_isn)));
        let periods = (config.km_refresh, config.km_preannounce);
        let send_isn = ExtSeq::start(negotiated.send_isn);
        let send_keys = keys.map(|(keys, kek)| Box::new(SendKeys::new(keys, kek, send_isn, periods)));
        let idle_timeout = micros(config.idle_timeout);
        Self {
            clock,
            local: negotiated.local,
            remote: negotiated.remote,
            largest,
            state: State::Open,
            rtt: Rtt::default(),
            receiver: Receiver::new(negotiated.receive_isn, tsbpd, bounds),
            sender: Sender::new(negotiated.send_isn, rules),
            send_latency: micros(negotiated.send_latency),
            send_keys,
            receive_keys,
            told_refreshes: 0,
            reply_due: negotiated.reply.is_some(),
            reply: negotiated.reply,
            km_reply: None,
            invalid: 0,
            idle_timeout,
            idle_at: now.add(idle_timeout),
            last_call: false,
            spoke: now,
            trimmed: now,
            keepalive_sampled: now,
            events: VecDeque::new(),
        }
    }

    /// Our socket: the destination of what the peer sends.
    pub const fn local(&self) -> SocketId {
        self.local
    }

    /// The peer's socket.
    pub const fn remote(&self) -> SocketId {
        self.remote
    }

    /// A datagram from the peer's address. `arrival`: when it came, by the kernel's stamp where there is one; `now`: when
    /// it is looked at. Also a handshake that the peer repeats to [`SocketId::NONE`] belongs here.
    pub fn handle_datagram(&mut self, now: Instant, arrival: Instant, datagram: &[u8]) {
        if self.state != State::Open {
            return;
        }
        let now = self.clock.tick(now);
        let arrival = self.clock.tick(arrival).min(now);
        let valid = match Packet::parse(datagram) {
            Ok(Packet::Data(header, payload)) if header.destination == self.local => {
                self.handle_data(&header, payload, arrival, now)
            }
            Ok(Packet::Control { timestamp, destination, control }) => {
                self.handle_control(&control, timestamp, destination, arrival, now)
            }
            Ok(Packet::Data(..)) | Err(_) => false,
        };
        if valid {
            self.idle_at = now.add(self.idle_timeout);
            self.last_call = false;
        } else {
            self.invalid += 1;
        }
    }

    fn handle_data(&mut self, header: &DataHeader, payload: &[u8], arrival: Tick, now: Tick) -> bool {
        // Without a message number it belongs to a packet filter, and none was agreed on.
        if payload.len() + HEADER_LEN > self.largest || header.message == MsgNo::NONE {
            return false;
        }
        let packet = Arrived { header, payload, arrival, now };
        self.receiver.handle_data(packet, self.receive_keys.as_deref_mut());
        true
    }

    /// Do what time asks for.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.tick(now);
        if self.state == State::Open {
            self.sender.handle_timeout(now, &self.rtt);
            if now >= self.idle_at {
                if self.last_call {
                    self.end(CloseReason::PeerIdle);
                } else {
                    (self.last_call, self.idle_at) = (true, now.add(LAST_CALL));
                }
            }
        }
        if now.since(self.trimmed) >= TRIM {
            self.trimmed = now;
            self.receiver.trim();
            self.sender.trim();
        }
        self.drained();
    }

    /// When [`Self::handle_timeout`] and the polls are due. Releases are not in it: [`Self::next_release`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.state {
            State::Open => self.due(),
            State::Leaving(_) => Tick(i64::MIN),
            State::Draining(_) | State::Closed => Tick::NEVER,
        };
        (due != Tick::NEVER).then(|| self.clock.instant(due))
    }

    fn due(&self) -> Tick {
        if self.reply_due || self.km_reply.is_some() || self.sender.has_ackack() {
            return Tick(i64::MIN);
        }
        let km = self.send_keys.as_ref().map_or(Tick::NEVER, |keys| keys.due());
        let receiver = self.receiver.ack_due(&self.rtt).min(self.receiver.report_due());
        receiver.min(self.sender.due(&self.rtt)).min(km).min(self.spoke.add(KEEPALIVE)).min(self.idle_at)
    }

    /// When the next packet is to be released.
    #[must_use]
    pub fn next_release(&self) -> Option<Instant> {
        let due = self.receiver.next_release();
        (due != Tick::NEVER && self.state != State::Closed).then(|| self.clock.instant(due))
    }

    /// Release the packets that are due; what is missing in front of one that is due is given up. They are in
    /// [`Self::released`] until [`Self::recycle`].
    pub fn release(&mut self, now: Instant) {
        let now = self.clock.tick(now);
        self.receiver.release(now, self.receive_keys.as_deref_mut());
    }

    /// What was released, in order.
    pub fn released(&self) -> impl Iterator<Item = ReleasedPacket<'_>> {
        self.receiver.released().map(|packet| ReleasedPacket {
            payload: packet.payload,
            seq: packet.seq,
            arrival: self.clock.instant(packet.arrival),
            origin: self.clock.instant(packet.origin),
            due: self.clock.instant(packet.due),
            gap_before: packet.gap,
        })
    }

    /// What was released has been read, and its memory is used again.
    pub fn recycle(&mut self) {
        self.receiver.recycle();
        self.drained();
    }

    /// Begin to send the packets of a history, from this index on. Later calls change nothing. Without it nothing is
    /// sent, whatever the history holds.
    pub fn begin_sending(&mut self, index: u64) {
        self.sender.begin(index);
    }

    /// The next data packet, one that was never sent or one that is sent again; `None` when none may leave now, and at the
    /// end of each train. Always ask with the same history.
    #[must_use]
    pub fn poll_data<H: History>(&mut self, now: Instant, history: &H) -> Option<DataOut> {
        // The peer cannot make anything of data before the answer to its handshake.
        if self.state != State::Open || self.reply_due {
            return None;
        }
        let now = self.clock.tick(now);
        let keys = self.send_keys.as_deref_mut();
        let out = self.sender.poll(now, &self.clock, history, keys, &self.rtt);
        if out.is_some() {
            self.spoke = now;
        } else if self.sender.exhausted {
            self.leave(CloseReason::KeyExhausted);
        }
        out
    }

    /// Encrypt the payload of a packet of [`Self::poll_data`] in place. Nothing happens to one in clear.
    pub fn seal(&self, out: &DataOut, payload: &mut [u8]) {
        if let (Some(key), Some(keys)) = (out.key, &self.send_keys) {
            // It is there: poll_data looked.
            let _ = keys.seal(key, out.seq, payload);
        }
    }

    /// Append one control packet that is to be sent; `false`: there is none.
    #[must_use]
    pub fn poll_control(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let now = self.clock.tick(now);
        let sent = match self.state {
            State::Open => self.poll_open(now, out),
            State::Leaving(reason) => self.say_goodbye(reason, now, out),
            State::Draining(_) | State::Closed => false,
        };
        if sent {
            self.spoke = now;
        }
        sent
    }

    /// End it: the peer is told with the next [`Self::poll_control`]. What waits to be released is dropped.
    pub fn close(&mut self) {
        match self.state {
            State::Open => self.leave(CloseReason::Local),
            State::Draining(reason) => {
                self.state = State::Closed;
                self.push_event(ConnectionEvent::Closed(reason));
            }
            State::Leaving(_) | State::Closed => {}
        }
    }

    /// Whether it has ended, and everything was released.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The next stream key, asked for by [`ConnectionEvent::NeedSecret`]: bytes that are fresh, unpredictable and used for
    /// nothing else. Without it the present key stays in use.
    pub fn provide_secret(&mut self, random: &[u8; MAX_KEY]) {
        if let Some(keys) = &mut self.send_keys {
            keys.provide(random);
        }
    }

    /// The key encryption keys that [`ConnectionEvent::NeedKek`] asked for; none: there is no passphrase.
    pub fn provide_kek(&mut self, candidates: &[Kek]) {
        let answer = self.receive_keys.as_mut().and_then(|keys| keys.provide(candidates));
        if let Some((message, reply)) = answer {
            self.answer_km(&message, &reply);
        }
    }

    /// What happened; ask until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        if let Some(keys) = &mut self.send_keys {
            if keys.refreshes() > self.told_refreshes {
                self.told_refreshes += 1;
                return Some(ConnectionEvent::SendKeyRefreshed);
            }
            if keys.wants_secret() {
                return Some(ConnectionEvent::NeedSecret);
            }
        }
        self.events.pop_front()
    }

    fn push_event(&mut self, event: ConnectionEvent) {
        // The last one is the one that counts.
        if self.events.len() < MOST_EVENTS || matches!(event, ConnectionEvent::Closed(_)) {
            self.events.push_back(event);
        }
    }

    /// Nothing more comes, and nothing more is sent.
    fn end(&mut self, reason: CloseReason) {
        self.state = State::Draining(reason);
        self.push_event(ConnectionEvent::Ending(reason));
        self.drained();
    }

    /// Tell the peer.
    fn leave(&mut self, reason: CloseReason) {
        self.state = State::Leaving(reason);
        self.push_event(ConnectionEvent::Ending(reason));
    }

    fn drained(&mut self) {
        if let State::Draining(reason) = self.state
            && self.receiver.is_drained()
        {
            self.state = State::Closed;
            self.push_event(ConnectionEvent::Closed(reason));
        }
    }

    /// Totals of what was sent.
    pub const fn sent(&self) -> &SendCounters {
        &self.sender.counters
    }

    /// Totals of what was received.
    pub const fn received(&self) -> &ReceiveCounters {
        &self.receiver.counters
    }

    /// The round trip; `None`: it is not measured yet.
    pub fn round_trip(&self) -> Option<Duration> {
        self.rtt.is_measured().then(|| self.rtt.spans().0)
    }

    /// Totals, and figures of the moment.
    pub fn stats(&self, now: Instant) -> ConnectionStats {
        let now = self.clock.tick(now);
        let (in_flight, flow_window, to_resend) = self.sender.flight();
        let (unsent, oldest) = self.sender.backlog();
        let (rtt, rtt_var) = self.rtt.spans();
        let fill = self.receiver.fill();
        let clear = KeyState::Clear;
        ConnectionStats {
            sent: self.sender.counters,
            received: self.receiver.counters,
            invalid: self.invalid,
            rtt,
            rtt_var,
            rtt_measured: self.rtt.is_measured(),
            in_flight,
            flow_window,
            to_resend,
            unsent,
            send_buffer: if in_flight > 0 { span(now.since(oldest)) } else { span(0) },
            send_latency: span(self.send_latency),
            peer_receive_rate: self.sender.peer_rate,
            peer_capacity: self.sender.peer_capacity,
            receive_latency: span(self.receiver.tsbpd.latency()),
            buffered: fill.packets,
            buffered_span: span(fill.span),
            buffer_room: fill.room,
            drift_us: self.receiver.tsbpd.drift(),
            send_key: self.send_keys.as_ref().map_or(clear, |keys| keys.state()),
            receive_key: if self.receive_keys.is_some() { KeyState::Secured } else { clear },
            send_key_refreshes: self.send_keys.as_ref().map_or(0, |keys| keys.refreshes()),
            receive_key_refreshes: self.receive_keys.as_ref().map_or(0, |keys| keys.refreshes()),
            memory: (size_of::<Self>() + self.receiver.memory_bytes() + self.sender.memory_bytes()) as u64,
        }
    }
}

/// Without the keys.
impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
