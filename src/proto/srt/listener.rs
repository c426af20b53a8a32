//! The end that is called: answers without keeping anything, until somebody proved to be where it says it is.
//!
//! An induction is answered by a cookie, which is a keyed hash of the caller's address and of the minute. A conclusion
//! that brings it back becomes a [`Conclusion`]: the host decides on it, and keeps what it wants to. Nothing is kept
//! here, so a flood of forged handshakes costs no memory; and no answer is longer than what it answers, but the one to
//! a conclusion that was accepted.
//!
//! A host with passphrases goes on like this, away from the packet path: for each passphrase that may be the right one
//! [`Conclusion::derive`] a [`Kek`], and ask whether it [`unlocks`](Conclusion::unlocks) the caller's keys; then
//! [`Conclusion::accept_encrypted`] with the one that does, or with none, which is refused for the right reason. One
//! without passphrases calls [`Conclusion::accept`].

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::crypto::Kek;
use super::handshake::{Handshake, Kind, MAGIC, PeerIp, Reject, VERSION_5};
use super::km::{KeyLength, KeyMaterial};
use super::negotiated::{HsFlags, Negotiated};
use super::seq::{SeqNo, SocketId, Timestamp};
use super::terms::{Peer, Request, Terms, Unlocked, peer_base};

/// How long a cookie is given out. It is accepted for as long again.
const EPOCH: Duration = Duration::from_secs(60);

/// A listening port, as far as handshakes go. It never changes.
#[derive(Clone)]
pub struct Listener {
    /// Keyed with the secret.
    hash: Hmac<Sha1>,
    start: Instant,
    /// What callers that have no wish of their own shall take.
    key_length: Option<KeyLength>,
}

/// What to do about a datagram for no socket.
#[derive(Debug)]
pub enum Answer {
    /// Send this back.
    Send(Vec<u8>),
    /// Send this back: it was a conclusion that cannot be accepted, whoever it is for.
    Refuse(Reject, Vec<u8>),
    /// Somebody wants in.
    Conclude(Box<Conclusion>),
    /// Nothing.
    Ignore(Ignored),
}

/// Why a datagram gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It is no handshake packet for socket 0.
    NoHandshake,
    /// A conclusion without a cookie that was given to this address in the last minute or two.
    Cookie,
    /// A handshake that no caller sends.
    NoCall,
}

impl Listener {
    /// A port whose cookies are made with `secret`: random, of its own, and fresh with every start of the process.
    pub fn new(secret: &[u8; 64], start: Instant) -> Self {
        Self { hash: Hmac::new(secret.into()), start, key_length: None }
    }

    /// Advertise a key length. A caller that was not told one takes it; libsrt takes 128 bits without.
    pub const fn set_key_length(&mut self, key_length: Option<KeyLength>) {
        self.key_length = key_length;
    }

    /// Take a datagram for socket 0. `arrival` is when it came, by the kernel's stamp where there is one.
    pub fn handle_datagram(&self, now: Instant, arrival: Instant, from: SocketAddr, datagram: &[u8]) -> Answer {
        let Some((handshake, timestamp, SocketId::NONE)) = Handshake::of_datagram(datagram) else {
            return Answer::Ignore(Ignored::NoHandshake);
        };
        match handshake.kind {
            Kind::Induction => Answer::Send(self.induction(now, from, &handshake)),
            Kind::Conclusion if !self.is_ours(now, from, handshake.cookie) => Answer::Ignore(Ignored::Cookie),
            Kind::Conclusion => {
                let header = Header { peer: from, start: self.start, handshake: handshake.without_blocks() };
                match read(&handshake) {
                    Ok((values, request)) => {
                        let peer_base = peer_base(arrival, timestamp);
                        Answer::Conclude(Box::new(Conclusion { header, values, peer_base, request }))
                    }
                    Err(reject) => Answer::Refuse(reject, header.reject(now, reject)),
                }
            }
            _ => Answer::Ignore(Ignored::NoCall),
        }
    }

    /// As long as the request, at most: whoever forges a sender's address gains nothing.
    fn induction(&self, now: Instant, from: SocketAddr, request: &Handshake<'_>) -> Vec<u8> {
        let answer = Handshake {
            version: VERSION_5,
            encryption: self.key_length.map_or(0, KeyLength::eighth),
            extensions: MAGIC,
            cookie: self.cookie(from, self.epoch(now)),
            peer_ip: PeerIp::from(from.ip()),
            // The caller's own, as libsrt does.
            socket: request.socket,
            ..request.without_blocks()
        };
        answer.write(timestamp(self.start, now), request.socket)
    }

    fn epoch(&self, now: Instant) -> u64 {
        // Not 0, so that there is one before it.
        1 + now.saturating_duration_since(self.start).as_secs() / EPOCH.as_secs()
    }

    fn is_ours(&self, now: Instant, from: SocketAddr, cookie: u32) -> bool {
        let epoch = self.epoch(now);
        [epoch, epoch - 1].iter().any(|epoch| self.cookie(from, *epoch) == cookie)
    }

    fn cookie(&self, from: SocketAddr, epoch: u64) -> u32 {
        let mut hash = self.hash.clone();
        match from.ip().to_canonical() {
            IpAddr::V4(v4) => hash.update(&v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => hash.update(&v6.octets()),
        }
        hash.update(&from.port().to_be_bytes());
        hash.update(&epoch.to_be_bytes());
        let [c0, c1, c2, c3, ..] = hash.finalize().into_bytes().0;
        u32::from_be_bytes([c0, c1, c2, c3])
    }
}

/// What a conclusion holds, if it is one that anybody may accept.
fn read(handshake: &Handshake<'_>) -> Result<(Peer, Request), Reject> {
    if handshake.version != VERSION_5 {
        return Err(Reject::Version);
    }
    Ok((Peer::read(handshake)?, Request::read(handshake)?))
}

fn timestamp(start: Instant, now: Instant) -> Timestamp {
    Timestamp::after(now.saturating_duration_since(start))
}

/// What an answer to a conclusion repeats of it.
#[derive(Debug, Clone)]
struct Header {
    peer: SocketAddr,
    /// The origin of the port's time stamps.
    start: Instant,
    handshake: Handshake<'static>,
}

impl Header {
    fn reject(&self, now: Instant, reject: Reject) -> Vec<u8> {
        let answer = Handshake {
            version: VERSION_5,
            encryption: 0,
            extensions: 0,
            kind: Kind::Reject(reject),
            peer_ip: PeerIp::from(self.peer.ip()),
            ..self.handshake
        };
        answer.write(timestamp(self.start, now), self.handshake.socket)
    }
}

/// A call from an address that was proved: what it is for, and how it is answered.
#[derive(Debug, Clone)]
pub struct Conclusion {
    header: Header,
    values: Peer,
    peer_base: Instant,
    request: Request,
}

/// What tells one call from another. A caller repeats its conclusion until it is answered: the same answer is due then,
/// [`Negotiated::reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The caller's address.
    pub peer: SocketAddr,
    /// The caller's socket.
    pub socket: SocketId,
    /// Its first sequence number.
    pub isn: SeqNo,
}

impl Conclusion {
    /// Which call this is.
    pub const fn id(&self) -> CallId {
        CallId { peer: self.header.peer, socket: self.values.socket, isn: self.values.isn }
    }

    /// The caller's address.
    pub const fn peer(&self) -> SocketAddr {
        self.header.peer
    }

    /// What the caller wants, in words of its own or of libsrt's access control: see [`access`](super::access).
    pub fn stream_id(&self) -> Option<&str> {
        self.request.stream_id.as_deref()
    }

    /// The caller's version of SRT: 0x00MMmmpp.
    pub const fn version(&self) -> u32 {
        self.request.hs.version
    }

    /// What the caller can do.
    pub const fn flags(&self) -> HsFlags {
        self.request.hs.flags
    }

    /// Bytes of the largest IP packet the caller wants.
    pub const fn mss(&self) -> u32 {
        self.values.mss
    }

    /// Packets that the caller has room for.
    pub const fn flow_window(&self) -> u32 {
        self.values.flow_window
    }

    /// The least latency at which the caller receives.
    pub const fn receive_latency(&self) -> Duration {
        Duration::from_millis(self.request.hs.receive_latency as u64)
    }

    /// The least latency at which the caller wants us to receive.
    pub const fn send_latency(&self) -> Duration {
        Duration::from_millis(self.request.hs.send_latency as u64)
    }

    /// The keys that the caller offers, wrapped; `None`: it has no passphrase.
    pub fn key_material(&self) -> Option<KeyMaterial<'_>> {
        self.request.key_material()
    }

    /// The key encryption key of a passphrase for this caller's keys; `None`: it has none. This takes up to a
    /// millisecond: never on the packet path.
    pub fn derive(&self, passphrase: &[u8]) -> Option<Kek> {
        self.key_material().map(|km| Kek::derive(passphrase, km.salt, km.key_length))
    }

    /// Whether the caller's keys were wrapped with this.
    pub fn unlocks(&self, kek: &Kek) -> bool {
        self.key_material().is_some_and(|km| kek.unwrap(&km).is_ok())
    }

    /// The answer of a host that does not want this caller.
    pub fn reject(&self, now: Instant, reject: Reject) -> Vec<u8> {
        self.header.reject(now, reject)
    }

    /// Let the caller in, in clear. The answer to the caller is [`Negotiated::reply`].
    ///
    /// # Errors
    /// [`Reject::Unsecure`]: the caller has a passphrase. The answer to the caller is [`Self::reject`] with it.
    pub fn accept(&self, terms: &Terms) -> Result<Negotiated, Reject> {
        self.conclude(terms, None)
    }

    /// Let the caller in if it has our passphrase. `kek` is the one that unlocks its keys; `None`: none does, or it has
    /// none. The answer to the caller is [`Negotiated::reply`].
    ///
    /// # Errors
    /// [`Reject::BadSecret`]: its passphrase is another one. [`Reject::Unsecure`]: it has none. The answer to the caller
    /// is [`Self::reject`] with it.
    pub fn accept_encrypted(&self, terms: &Terms, kek: Option<&Kek>) -> Result<Negotiated, Reject> {
        self.conclude(terms, Some(self.request.unlock(kek)?))
    }

    fn conclude(&self, terms: &Terms, unlocked: Option<Unlocked>) -> Result<Negotiated, Reject> {
        let (settled, extensions) = terms.answer(&self.request, unlocked)?;
        let (bits, blocks) = extensions.write();
        let mut negotiated = terms.negotiated(self.values, settled, self.peer_base, self.values.isn);
        let answer = Handshake {
            extensions: bits,
            encryption: negotiated.keys.as_ref().map_or(0, |keys| keys.key_length().eighth()),
            mss: u32::from(negotiated.mss),
            cookie: self.header.handshake.cookie,
            blocks: &blocks,
            // The caller's own sequence number is that of both directions.
            ..terms.handshake(Kind::Conclusion, self.values.isn, self.header.peer.ip())
        };
        negotiated.reply = Some(answer.write(Timestamp(0), self.values.socket));
        negotiated.stream_id.clone_from(&self.request.stream_id);
        Ok(negotiated)
    }
}

#[cfg(test)]
mod tests;
