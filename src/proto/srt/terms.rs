//! What each end brings into a handshake, and what comes of it: the rules that all roles share.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::VERSION;
use super::crypto::{Kek, StreamKeys};
use super::handshake::{Ask, Extensions, Handshake, HsBlock, Kind, MAX_STREAM_ID, PeerIp, Reject, VERSION_5};
use super::km::{KeyLength, KeyMaterial, KmAnswer, KmError, KmState, Salt};
use super::negotiated::{HsFlags, Negotiated};
use super::seq::{SeqNo, SocketId, Timestamp};

/// How long after the last one a handshake packet is sent again.
pub(super) const REPEAT: Duration = Duration::from_millis(250);
/// How long a caller tries (libsrt's `SRTO_CONNTIMEO`).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a rendezvous tries: libsrt takes ten times as long as for a call.
pub const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(30);
/// Versions before 1.3.0 do not speak this handshake.
const LOWEST_VERSION: u32 = 0x0001_0300;

/// What we bring into a handshake, whatever our role.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Our socket, not [`SocketId::NONE`].
    pub local: SocketId,
    /// The origin of our time stamps: not after the first packet is sent.
    pub start: Instant,
    /// Bytes of the largest IP packet we want; at least [`MIN_MSS`](super::handshake::MIN_MSS).
    pub mss: u16,
    /// Packets that we have room for; at least 2.
    pub flow_window: u32,
    /// The least latency at which we receive (`SRTO_RCVLATENCY`); whole milliseconds, at most 65,535 of them.
    pub receive_latency: Duration,
    /// The least latency at which the peer is to receive (`SRTO_PEERLATENCY`); likewise.
    pub send_latency: Duration,
}

/// What an end with a passphrase that offers keys needs. Both were made elsewhere, with the same salt.
#[derive(Clone)]
pub struct Encryption {
    /// The key encryption key.
    pub kek: Kek,
    /// The even stream key.
    pub keys: StreamKeys,
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing came from the peer in time.
    #[error("no answer")]
    NoAnswer,
    /// The peer answered, but did not bring the handshake to its end in time.
    #[error("the peer answered, but the handshake was not concluded in time")]
    NotConcluded,
    /// The peer of a rendezvous shut down before there was a connection. That is all libsrt does until 1.5.1, whatever the
    /// reason; mostly the passphrases do not match.
    #[error("the peer broke off the handshake and gave no reason")]
    BrokenOff,
    /// The peer says no.
    #[error("rejected by the peer: {0}")]
    Rejected(Reject),
    /// We say no to what the peer sent.
    #[error("the peer's answer is refused: {0}")]
    Refused(Reject),
}

/// What a caller or a rendezvous tells its host.
#[derive(Debug)]
pub enum HandshakeEvent {
    /// A rendezvous got keys. For each passphrase that may be the right one, derive a key encryption key with this salt
    /// and length, away from the packet path, and call `provide_kek`.
    NeedKek {
        /// The peer's salt.
        salt: Salt,
        /// How long the peer's keys are.
        key_length: KeyLength,
    },
    /// It is done: the connection is made of this.
    Connected(Box<Negotiated>),
    /// It came to nothing.
    Failed(Failure),
}

/// The peer's own values, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) socket: SocketId,
    pub(super) isn: SeqNo,
    pub(super) mss: u32,
    pub(super) flow_window: u32,
}

impl Peer {
    pub(super) fn read(handshake: &Handshake<'_>) -> Result<Self, Reject> {
        let Handshake { socket, isn, mss, flow_window, .. } = *handshake;
        if handshake.is_valid() && socket != SocketId::NONE {
            Ok(Self { socket, isn, mss, flow_window })
        } else {
            Err(Reject::Rogue)
        }
    }
}

/// What the end that begins asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) hs: HsBlock,
    pub(super) stream_id: Option<String>,
    /// Key material that can be read.
    pub(super) km: Option<Vec<u8>>,
}

impl Request {
    /// Read the extensions of a conclusion that asks.
    pub(super) fn read(handshake: &Handshake<'_>) -> Result<Self, Reject> {
        let Extensions { hs, km, stream_id, congestion, filter, group } = handshake.read_extensions()?;
        let Some(Ask::Request(hs)) = hs else { return Err(Reject::Rogue) };
        if hs.version < LOWEST_VERSION {
            return Err(Reject::Rogue);
        }
        if hs.flags.contains(HsFlags::STREAM) {
            return Err(Reject::MessageApi);
        }
        if congestion.is_some_and(|name| name != "live") {
            return Err(Reject::Congestion);
        }
        // A libsrt that asks for a filter or a group, and gets neither, drops the connection: better say why.
        if filter.is_some() {
            return Err(Reject::Filter);
        }
        if group {
            return Err(Reject::Group);
        }
        let km = match km {
            None => None,
            Some(Ask::Response(_)) => return Err(Reject::Rogue),
            Some(Ask::Request(message)) => match KeyMaterial::parse(message) {
                Ok(_) => Some(message.to_vec()),
                Err(KmError::Cipher(_)) => return Err(Reject::Crypto),
                Err(_) => return Err(Reject::Rogue),
            },
        };
        Ok(Self { hs, stream_id, km })
    }

    pub(super) fn key_material(&self) -> Option<KeyMaterial<'_>> {
        KeyMaterial::parse(self.km.as_deref()?).ok()
    }

    /// What an end with a passphrase makes of the keys. `kek` is that of the passphrase which fits, if one does.
    pub(super) fn unlock(&self, kek: Option<&Kek>) -> Result<Unlocked, Reject> {
        let km = self.key_material().ok_or(Reject::Unsecure)?;
        let kek = kek.ok_or(Reject::BadSecret)?;
        // One for another salt does not fit either.
        let keys = kek.unwrap(&km).map_err(|_| Reject::BadSecret)?;
        Ok(Unlocked { keys, kek: kek.clone() })
    }
}

/// The peer's keys, and what unwrapped them.
pub(super) struct Unlocked {
    keys: StreamKeys,
    kek: Kek,
}

/// What the extensions of both ends come to.
pub(super) struct Settled {
    receive_latency: Duration,
    send_latency: Duration,
    peer: HsBlock,
    keys: Option<StreamKeys>,
    kek: Option<Kek>,
}

impl Terms {
    /// The fixed part of our handshakes.
    pub(super) fn handshake(&self, kind: Kind, isn: SeqNo, to: IpAddr) -> Handshake<'static> {
        Handshake {
            version: VERSION_5,
            encryption: 0,
            extensions: 0,
            isn,
            mss: u32::from(self.mss),
            flow_window: self.flow_window,
            kind,
            socket: self.local,
            cookie: 0,
            peer_ip: PeerIp::from(to),
            blocks: &[],
        }
    }

    /// Our time stamp now.
    pub(super) fn timestamp(&self, now: Instant) -> Timestamp {
        Timestamp::after(now.saturating_duration_since(self.start))
    }

    /// The extensions of the end that begins.
    pub(super) fn request<'a>(&self, stream_id: Option<&str>, km: Option<&'a [u8]>) -> Extensions<'a> {
        let hs = HsBlock {
            version: VERSION,
            flags: HsFlags::OURS,
            receive_latency: millis(self.receive_latency),
            send_latency: millis(self.send_latency),
        };
        let stream_id = stream_id.map(str::to_owned);
        Extensions { hs: Some(Ask::Request(hs)), km: km.map(Ask::Request), stream_id, ..Extensions::default() }
    }

    /// What a request comes to, and the extensions of the answer. `unlocked` is `None` without a passphrase.
    ///
    /// # Errors
    /// [`Reject::Unsecure`]: one end has a passphrase, and the other has none.
    pub(super) fn answer<'a>(
        &self,
        request: &'a Request,
        unlocked: Option<Unlocked>,
    ) -> Result<(Settled, Extensions<'a>), Reject> {
        if request.km.is_some() != unlocked.is_some() {
            return Err(Reject::Unsecure);
        }
        let peer = request.hs;
        let mut flags = HsFlags::OURS;
        let mut receive_latency = millis(self.receive_latency);
        if peer.flags.contains(HsFlags::TSBPD_SEND) {
            receive_latency = receive_latency.max(peer.send_latency);
        }
        let mut send_latency = 0;
        if peer.flags.contains(HsFlags::TSBPD_RECEIVE) {
            send_latency = millis(self.send_latency).max(peer.receive_latency);
        } else {
            flags = flags.without(HsFlags::TSBPD_SEND);
        }
        if !peer.flags.contains(HsFlags::REXMIT_FLAG) {
            flags = flags.without(HsFlags::REXMIT_FLAG);
        }
        let hs = HsBlock { version: VERSION, flags, receive_latency, send_latency };
        let km = request.km.as_deref().map(Ask::Response);
        let extensions = Extensions { hs: Some(Ask::Response(hs)), km, ..Extensions::default() };
        let (keys, kek) = unlocked.map(|Unlocked { keys, kek }| (keys, kek)).unzip();
        let settled = Settled {
            receive_latency: duration(receive_latency),
            send_latency: duration(send_latency),
            peer,
            keys,
            kek,
        };
        Ok((settled, extensions))
    }

    /// What the answer to our request comes to; `km` is the key material that we sent.
    pub(super) fn conclude(
        &self,
        response: &Handshake<'_>,
        km: Option<&[u8]>,
        encryption: Option<&Encryption>,
    ) -> Result<Settled, Reject> {
        let extensions = response.read_extensions()?;
        let Some(Ask::Response(peer)) = extensions.hs else { return Err(Reject::Rogue) };
        if peer.version < LOWEST_VERSION {
            return Err(Reject::Rogue);
        }
        if extensions.congestion.is_some_and(|name| name != "live") {
            return Err(Reject::Congestion);
        }
        if extensions.filter.is_some() {
            return Err(Reject::Filter);
        }
        check_answer(km, extensions.km)?;
        // The peer had our wish and should have heeded it. What it receives at is for it to say.
        let mut receive_latency = millis(self.receive_latency);
        if peer.flags.contains(HsFlags::TSBPD_SEND) {
            receive_latency = receive_latency.max(peer.send_latency);
        }
        let receives = peer.flags.contains(HsFlags::TSBPD_RECEIVE);
        let send_latency = if receives { peer.receive_latency } else { 0 };
        Ok(Settled {
            receive_latency: duration(receive_latency),
            send_latency: duration(send_latency),
            peer,
            keys: encryption.map(|encryption| encryption.keys.clone()),
            kek: encryption.map(|encryption| encryption.kek.clone()),
        })
    }

    /// Put it all together. `send_isn` is the first sequence number that we send.
    pub(super) fn negotiated(&self, peer: Peer, settled: Settled, peer_base: Instant, send_isn: SeqNo) -> Negotiated {
        Negotiated {
            local: self.local,
            remote: peer.socket,
            send_isn,
            receive_isn: peer.isn,
            start: self.start,
            peer_base,
            mss: u16::try_from(peer.mss).map_or(self.mss, |mss| mss.min(self.mss)),
            flow_window: peer.flow_window,
            receive_latency: settled.receive_latency,
            send_latency: settled.send_latency,
            peer_version: settled.peer.version,
            peer_flags: settled.peer.flags,
            keys: settled.keys,
            kek: settled.kek,
            initiator: false,
            stream_id: None,
            reply: None,
        }
    }
}

impl Encryption {
    /// The key material message.
    pub(super) fn message(&self) -> Option<Vec<u8>> {
        self.kek.wrap(&self.keys)
    }
}

/// Whether the peer took our keys, or agrees that there are none.
fn check_answer(sent: Option<&[u8]>, answer: Option<Ask<&[u8]>>) -> Result<(), Reject> {
    let answer = match answer {
        None => None,
        Some(Ask::Response(body)) => Some(KmAnswer::parse(body).ok_or(Reject::Rogue)?),
        Some(Ask::Request(_)) => return Err(Reject::Rogue),
    };
    match (sent, answer) {
        (None, None) => Ok(()),
        (Some(sent), Some(KmAnswer::Echo(echo))) if sent == echo => Ok(()),
        (Some(_), Some(KmAnswer::Echo(_) | KmAnswer::Failed(Some(KmState::BadSecret)))) => Err(Reject::BadSecret),
        (Some(_), Some(KmAnswer::Failed(Some(KmState::BadCryptoMode)))) => Err(Reject::Crypto),
        // One of the two has no passphrase.
        (None, Some(_)) | (Some(_), None | Some(KmAnswer::Failed(_))) => Err(Reject::Unsecure),
    }
}

/// When the peer's clock of time stamps began, on ours.
pub(super) fn peer_base(arrival: Instant, timestamp: Timestamp) -> Instant {
    arrival.checked_sub(timestamp.span()).unwrap_or(arrival)
}

/// The last value of 31 bits is the one first sequence number that libsrt refuses.
pub(super) fn usable(isn: SeqNo) -> SeqNo {
    if isn == SeqNo::MAX { SeqNo::new(0) } else { isn }
}

/// Whether this can be sent as a stream ID: 1 to [`MAX_STREAM_ID`] bytes, none of them zero.
pub fn is_stream_id(text: &str) -> bool {
    (1..=MAX_STREAM_ID).contains(&text.len()) && !text.contains('\0')
}

fn millis(latency: Duration) -> u16 {
    u16::try_from(latency.as_millis()).unwrap_or(u16::MAX)
}

const fn duration(millis: u16) -> Duration {
    Duration::from_millis(millis as u64)
}
