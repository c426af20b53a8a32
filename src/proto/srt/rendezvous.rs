//! Two ends that call each other, from the port that the other one calls (draft-sharabayko-srt, section 4.3.2).
//!
//! Both wave, with a cookie of their own. The greater cookie makes the initiator, which does what a caller does in its
//! conclusion; the responder answers as a listener does in its own. The initiator is connected then, and says so by an
//! agreement, which its connection sends ([`Negotiated::reply`]); the responder is connected when it gets that, or
//! anything else of a connection.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::control::Control;
use super::crypto::Kek;
use super::handshake::{Handshake, Kind, Reject, VERSION_5};
use super::negotiated::Negotiated;
use super::packet::{Packet, stamp};
use super::seq::{SeqNo, SocketId, Timestamp};
use super::terms::{
    Encryption, Failure, HandshakeEvent, Peer, REPEAT, Request, Settled, Terms, Unlocked, peer_base, usable,
};

/// How to meet.
#[derive(Clone)]
pub struct RendezvousConfig {
    /// What we bring.
    pub terms: Terms,
    /// The sequence number of our first packet: random.
    pub isn: SeqNo,
    /// The peer's address.
    pub peer: IpAddr,
    /// What the roles are drawn by: random, and not 0, which never wins.
    pub cookie: u32,
    /// With a passphrase: our keys, which are used if we become the initiator.
    pub encryption: Option<Encryption>,
    /// How long to try: [`RENDEZVOUS_TIMEOUT`](super::terms::RENDEZVOUS_TIMEOUT).
    pub timeout: Duration,
}

/// A rendezvous that is being tried.
///
/// It is driven as a [`Caller`](super::caller::Caller) is. On [`HandshakeEvent::NeedKek`] the host derives keys, and gives
/// them to [`Self::provide_kek`].
pub struct Rendezvous {
    config: RendezvousConfig,
    /// The key material message of our keys.
    km: Option<Vec<u8>>,
    /// Who the peer is, once it was heard.
    met: Option<Met>,
    stage: Stage,
    /// The packet of this stage, sent again and again.
    packet: Vec<u8>,
    /// It is to be sent now.
    due: bool,
    repeat_at: Instant,
    deadline: Instant,
    /// A last packet, after a failure.
    farewell: Option<Vec<u8>>,
    event: Option<HandshakeEvent>,
}

/// What the roles were drawn with. A peer that starts anew has another socket and another cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Met {
    socket: SocketId,
    cookie: u32,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

/// A request that waits for a key.
struct Asked {
    peer: Peer,
    peer_base: Instant,
    request: Request,
}

enum Stage {
    /// We wave, or the roles are drawn and our conclusion is on its way.
    Meeting,
    /// As responder: the key is being derived.
    Waiting(Box<Asked>),
    /// As responder: our answer is on its way.
    Answered(Box<Negotiated>),
    Done,
}

impl Rendezvous {
    /// Begin to wave.
    pub fn new(now: Instant, config: RendezvousConfig) -> Self {
        let config = RendezvousConfig { isn: usable(config.isn), ..config };
        let mut rendezvous = Self {
            km: config.encryption.as_ref().and_then(Encryption::message),
            met: None,
            stage: Stage::Meeting,
            packet: Vec::new(),
            due: false,
            repeat_at: now,
            deadline: now + config.timeout,
            farewell: None,
            event: None,
            config,
        };
        let wave = rendezvous.handshake(Kind::WaveAHand).write(Timestamp(0), SocketId::NONE);
        rendezvous.send(now, wave);
        rendezvous
    }

    /// Our socket.
    pub const fn local(&self) -> SocketId {
        self.config.terms.local
    }

    /// Take a datagram from the peer's address. `arrival` is when it came, by the kernel's stamp where there is one.
    ///
    /// If [`HandshakeEvent::Connected`] comes of it, the connection must get this datagram too: it may be its first one.
    pub fn handle_datagram(&mut self, now: Instant, arrival: Instant, datagram: &[u8]) {
        let local = self.config.terms.local;
        match Packet::parse(datagram) {
            _ if matches!(self.stage, Stage::Done) => {}
            Ok(Packet::Control { timestamp, destination, control: Control::Handshake(body) }) => {
                if let Ok(handshake) = Handshake::parse(body) {
                    // Who does not know our socket yet can only begin.
                    let begins = matches!(handshake.kind, Kind::WaveAHand | Kind::Conclusion);
                    if destination == local || begins && destination == SocketId::NONE {
                        self.handle_handshake(now, peer_base(arrival, timestamp), &handshake);
                    }
                }
            }
            Ok(Packet::Control { destination, control: Control::Shutdown, .. }) if destination == local => {
                self.fail(Failure::BrokenOff);
            }
            Ok(Packet::Data(header, _)) if header.destination == local => self.agreed(),
            Ok(Packet::Control { destination, .. }) if destination == local => self.agreed(),
            _ => {}
        }
    }

    /// Let the time of [`Self::poll_timeout`] have come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Done) {
            return;
        }
        if now >= self.deadline {
            self.fail(if self.met.is_none() { Failure::NoAnswer } else { Failure::NotConcluded });
        } else if now >= self.repeat_at {
            self.send_again(now);
        }
    }

    /// The keys that came of the passphrases which may be right, after [`HandshakeEvent::NeedKek`].
    pub fn provide_kek(&mut self, now: Instant, candidates: &[Kek]) {
        let Stage::Waiting(asked) = &self.stage else { return };
        let Some(km) = asked.request.key_material() else { return };
        if !candidates.is_empty() && !candidates.iter().any(|kek| kek.is_for(&km)) {
            // They are for what a peer sent that has started anew since.
            return;
        }
        let right = candidates.iter().find(|kek| kek.unwrap(&km).is_ok());
        let unlocked = asked.request.unlock(right);
        let Stage::Waiting(asked) = std::mem::replace(&mut self.stage, Stage::Meeting) else { return };
        match unlocked {
            Ok(unlocked) => self.answer(now, &asked, Some(unlocked)),
            Err(reject) => self.refuse(now, asked.peer.socket, reject),
        }
    }

    /// A packet to be sent to the peer's address.
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

    /// When [`Self::handle_timeout`] is due. It may change with every datagram, and with [`Self::provide_kek`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.stage, Stage::Done) { None } else { Some(self.repeat_at.min(self.deadline)) }
    }

    /// What happened; ask until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<HandshakeEvent> {
        self.event.take()
    }

    fn handle_handshake(&mut self, now: Instant, peer_base: Instant, handshake: &Handshake<'_>) {
        let extended = handshake.extensions != 0;
        match handshake.kind {
            Kind::Reject(reject) => self.fail(Failure::Rejected(reject)),
            Kind::WaveAHand | Kind::Conclusion => {
                let Ok(peer) = Peer::read(handshake) else { return };
                if handshake.version < VERSION_5 {
                    return self.refuse(now, peer.socket, Reject::Version);
                }
                let Some(role) = self.meet(now, handshake) else { return };
                match (handshake.kind, role) {
                    (Kind::Conclusion, Role::Initiator) if extended => self.conclude(now, peer, peer_base, handshake),
                    (Kind::Conclusion, Role::Responder) if extended => self.asked(now, peer, peer_base, handshake),
                    // The peer has not heard enough of us yet.
                    _ => self.send_again(now),
                }
            }
            Kind::Agreement => self.agreed(),
            Kind::Induction | Kind::Other(_) => {}
        }
    }

    /// Draw the roles, if this is not the peer they were drawn with, and begin to conclude. `None`: a draw.
    fn meet(&mut self, now: Instant, handshake: &Handshake<'_>) -> Option<Role> {
        let Handshake { socket, cookie, .. } = *handshake;
        if let Some(met) = self.met
            && (met.socket, met.cookie) == (socket, cookie)
        {
            return Some(met.role);
        }
        let Some(role) = contest(self.config.cookie, cookie) else {
            self.refuse(now, socket, Reject::RendezvousCookie);
            return None;
        };
        self.met = Some(Met { socket, cookie, role });
        self.stage = Stage::Meeting;
        let mut conclusion = self.handshake(Kind::Conclusion);
        let request = self.config.terms.request(None, self.km.as_deref());
        let (bits, blocks) = request.write();
        if role == Role::Initiator {
            conclusion = Handshake { extensions: bits, blocks: &blocks, ..conclusion };
        }
        let packet = conclusion.write(Timestamp(0), socket);
        self.send(now, packet);
        Some(role)
    }

    /// As initiator: the peer answered.
    fn conclude(&mut self, now: Instant, peer: Peer, peer_base: Instant, answer: &Handshake<'_>) {
        match self.config.terms.conclude(answer, self.km.as_deref(), self.config.encryption.as_ref()) {
            Ok(settled) => {
                let mut negotiated = self.negotiated(peer, settled, peer_base);
                negotiated.initiator = true;
                self.finish(HandshakeEvent::Connected(Box::new(negotiated)));
            }
            Err(reject) => self.refuse(now, peer.socket, reject),
        }
    }

    /// As responder: the peer asked.
    fn asked(&mut self, now: Instant, peer: Peer, peer_base: Instant, handshake: &Handshake<'_>) {
        match &self.stage {
            // It has not got our answer, or not yet.
            Stage::Answered(_) => return self.send_again(now),
            Stage::Waiting(_) => return,
            Stage::Meeting | Stage::Done => {}
        }
        let request = match Request::read(handshake) {
            Ok(request) => request,
            Err(reject) => return self.refuse(now, peer.socket, reject),
        };
        match (request.key_material(), &self.config.encryption) {
            (Some(km), Some(_)) => {
                self.event = Some(HandshakeEvent::NeedKek { salt: km.salt, key_length: km.key_length });
                self.stage = Stage::Waiting(Box::new(Asked { peer, peer_base, request }));
            }
            (None, None) => self.answer(now, &Asked { peer, peer_base, request }, None),
            _ => self.refuse(now, peer.socket, Reject::Unsecure),
        }
    }

    /// As responder: answer what the peer asked, and wait for it to agree.
    fn answer(&mut self, now: Instant, asked: &Asked, unlocked: Option<Unlocked>) {
        match self.config.terms.answer(&asked.request, unlocked) {
            Ok((settled, extensions)) => {
                let (bits, blocks) = extensions.write();
                let answer = Handshake { extensions: bits, blocks: &blocks, ..self.handshake(Kind::Conclusion) };
                let packet = answer.write(Timestamp(0), asked.peer.socket);
                self.stage = Stage::Answered(Box::new(self.negotiated(asked.peer, settled, asked.peer_base)));
                self.send(now, packet);
            }
            Err(reject) => self.refuse(now, asked.peer.socket, reject),
        }
    }

    /// As responder: the peer got our answer.
    fn agreed(&mut self) {
        if let Stage::Answered(_) = &self.stage
            && let Stage::Answered(negotiated) = std::mem::replace(&mut self.stage, Stage::Done)
        {
            self.finish(HandshakeEvent::Connected(negotiated));
        }
    }

    fn negotiated(&self, peer: Peer, settled: Settled, peer_base: Instant) -> Negotiated {
        let agreement = self.handshake(Kind::Agreement).write(Timestamp(0), peer.socket);
        let negotiated = self.config.terms.negotiated(peer, settled, peer_base, self.config.isn);
        Negotiated { reply: Some(agreement), ..negotiated }
    }

    fn handshake(&self, kind: Kind) -> Handshake<'static> {
        let encryption = self.config.encryption.as_ref().map_or(0, |encryption| encryption.keys.key_length().eighth());
        let fixed = self.config.terms.handshake(kind, self.config.isn, self.config.peer);
        Handshake { cookie: self.config.cookie, encryption, ..fixed }
    }

    /// Send this packet now, and again until there is another one.
    fn send(&mut self, now: Instant, packet: Vec<u8>) {
        self.packet = packet;
        self.send_again(now);
    }

    fn send_again(&mut self, now: Instant) {
        self.due = true;
        self.repeat_at = now + REPEAT;
    }

    /// Tell the peer why not.
    fn refuse(&mut self, now: Instant, socket: SocketId, reject: Reject) {
        let refusal = self.handshake(Kind::Reject(reject));
        self.farewell = Some(refusal.write(self.config.terms.timestamp(now), socket));
        self.fail(Failure::Refused(reject));
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

/// Who begins: the end with the greater cookie, as signed numbers; `None` is a draw.
///
/// libsrt looks at bit 31 of their difference in 64 bits instead. Where the cookies lie more than 2^31 apart that bit is
/// the wrong way round: there, the smaller one begins.
fn contest(ours: u32, theirs: u32) -> Option<Role> {
    if ours == 0 || theirs == 0 || ours == theirs {
        return None;
    }
    let difference = i64::from(ours.cast_signed()) - i64::from(theirs.cast_signed());
    // Exactly 2^31 apart both ends have that bit set, and libsrt goes by the greater one.
    let halfway = difference.unsigned_abs() == 1 << 31;
    let initiator = if halfway { difference > 0 } else { difference & 0x8000_0000 == 0 };
    Some(if initiator { Role::Initiator } else { Role::Responder })
}

#[cfg(test)]
mod tests;
