//! The end that calls: an induction gets a cookie from the listener, a conclusion brings it back with all the rest.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::control::Control;
use super::handshake::{DATAGRAM_SOCKET, Handshake, Kind, MAGIC, Reject, VERSION_4, VERSION_5};
use super::packet::stamp;
use super::seq::{SeqNo, SocketId, Timestamp};
use super::terms::{Encryption, Failure, HandshakeEvent, Peer, REPEAT, Settled, Terms, peer_base, usable};

/// How to call.
#[derive(Clone)]
pub struct CallerConfig {
    /// What we bring.
    pub terms: Terms,
    /// The sequence number of the first packet in both directions: random.
    pub isn: SeqNo,
    /// The address that is called.
    pub peer: IpAddr,
    /// What to tell the listener of us; see [`is_stream_id`](super::terms::is_stream_id).
    pub stream_id: Option<String>,
    /// With a passphrase: our keys.
    pub encryption: Option<Encryption>,
    /// How long to try: [`CONNECT_TIMEOUT`](super::terms::CONNECT_TIMEOUT).
    pub timeout: Duration,
}

/// A call that is being made.
///
/// After each call of [`Self::handle_datagram`] and [`Self::handle_timeout`], and at the beginning: send what
/// [`Self::poll_transmit`] gives until `None`, ask [`Self::poll_event`], and set a timer to [`Self::poll_timeout`]. After
/// [`HandshakeEvent::Connected`] and [`HandshakeEvent::Failed`] nothing more comes, but what there is to send.
pub struct Caller {
    config: CallerConfig,
    /// The key material message of our keys.
    km: Option<Vec<u8>>,
    stage: Stage,
    /// The packet of this stage, sent again and again.
    packet: Vec<u8>,
    /// It is to be sent now.
    due: bool,
    repeat_at: Instant,
    deadline: Instant,
    farewell: Option<Vec<u8>>,
    event: Option<HandshakeEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Induction,
    Conclusion,
    Done,
}

impl Caller {
    /// Begin to call.
    pub fn new(now: Instant, config: CallerConfig) -> Self {
        let config = CallerConfig { isn: usable(config.isn), ..config };
        let induction = Handshake {
            version: VERSION_4,
            extensions: DATAGRAM_SOCKET,
            ..config.terms.handshake(Kind::Induction, config.isn, config.peer)
        };
        Self {
            packet: induction.write(Timestamp(0), SocketId::NONE),
            km: config.encryption.as_ref().and_then(Encryption::message),
            stage: Stage::Induction,
            due: true,
            repeat_at: now + REPEAT,
            deadline: now + config.timeout,
            farewell: None,
            event: None,
            config,
        }
    }

    /// Our socket.
    pub const fn local(&self) -> SocketId {
        self.config.terms.local
    }

    /// Take a datagram from the address that is called. `arrival` is when it came, by the kernel's stamp where there is
    /// one. What is not the answer that is waited for is let pass.
    pub fn handle_datagram(&mut self, now: Instant, arrival: Instant, datagram: &[u8]) {
        let Some((handshake, timestamp, destination)) = Handshake::of_datagram(datagram) else { return };
        if destination != self.config.terms.local || self.stage == Stage::Done {
            return;
        }
        match (handshake.kind, self.stage) {
            (Kind::Reject(reject), _) => self.fail(Failure::Rejected(reject)),
            (Kind::Induction, Stage::Induction) => self.induced(now, &handshake),
            // It must be an answer to our packet: the listener returns our sequence number, which nobody else knows.
            (Kind::Conclusion, Stage::Conclusion) if handshake.isn == self.config.isn => {
                self.concluded(now, peer_base(arrival, timestamp), &handshake);
            }
            _ => {}
        }
    }

    /// Let the time of [`Self::poll_timeout`] have come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stage == Stage::Done {
            return;
        }
        if now >= self.deadline {
            self.fail(if self.stage == Stage::Induction { Failure::NoAnswer } else { Failure::NotConcluded });
        } else if now >= self.repeat_at {
            self.due = true;
            self.repeat_at = now + REPEAT;
        }
    }

    /// A packet to be sent to the address that is called.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if let Some(farewell) = self.farewell.take() {
            return Some(farewell);
        }
        if !std::mem::take(&mut self.due) {
            return None;
        }
        stamp(&mut self.packet, self.config.terms.timestamp(now));
        Some(self.packet.clone())
    }

    /// When [`Self::handle_timeout`] is due. It may change with every datagram.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.stage == Stage::Done { None } else { Some(self.repeat_at.min(self.deadline)) }
    }

    /// What happened; ask until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<HandshakeEvent> {
        self.event.take()
    }

    /// The listener answered the induction.
    fn induced(&mut self, now: Instant, answer: &Handshake<'_>) {
        if answer.version < VERSION_5 {
            return self.fail(Failure::Refused(Reject::Version));
        }
        if answer.extensions != MAGIC {
            return self.fail(Failure::Refused(Reject::Rogue));
        }
        let config = &self.config;
        let (bits, blocks) = config.terms.request(config.stream_id.as_deref(), self.km.as_deref()).write();
        let conclusion = Handshake {
            encryption: config.encryption.as_ref().map_or(0, |encryption| encryption.keys.key_length().eighth()),
            extensions: bits,
            cookie: answer.cookie,
            blocks: &blocks,
            ..config.terms.handshake(Kind::Conclusion, config.isn, config.peer)
        };
        self.packet = conclusion.write(Timestamp(0), SocketId::NONE);
        self.stage = Stage::Conclusion;
        self.due = true;
        self.repeat_at = now + REPEAT;
    }

    /// The listener took us in, as far as it is concerned.
    fn concluded(&mut self, now: Instant, peer_base: Instant, answer: &Handshake<'_>) {
        let terms = &self.config.terms;
        match self.settle(answer) {
            Ok((peer, settled)) => {
                let mut negotiated = terms.negotiated(peer, settled, peer_base, self.config.isn);
                negotiated.initiator = true;
                negotiated.stream_id.clone_from(&self.config.stream_id);
                self.finish(HandshakeEvent::Connected(Box::new(negotiated)));
            }
            Err(reject) => {
                // It believes that we are connected.
                let mut farewell = Vec::new();
                Control::Shutdown.write(terms.timestamp(now), answer.socket, &mut farewell);
                self.farewell = Some(farewell);
                self.fail(Failure::Refused(reject));
            }
        }
    }

    fn settle(&self, answer: &Handshake<'_>) -> Result<(Peer, Settled), Reject> {
        if answer.version != VERSION_5 {
            return Err(Reject::Version);
        }
        let peer = Peer::read(answer)?;
        let settled = self.config.terms.conclude(answer, self.km.as_deref(), self.config.encryption.as_ref())?;
        Ok((peer, settled))
    }

    fn fail(&mut self, failure: Failure) {
        self.finish(HandshakeEvent::Failed(failure));
    }

    fn finish(&mut self, event: HandshakeEvent) {
        self.stage = Stage::Done;
        self.due = false;
        self.event = Some(event);
    }
}

#[cfg(test)]
mod tests;
