//! One end of a tunnel of the main profile: what goes around RTP and RTCP, and the keys.
//!
//! Every datagram of the tunnel has a GRE header, and where there is a passphrase everything behind it is encrypted. Each
//! end has a nonce of its own, and a key derived from it. Deriving takes long, so it is the host's: it gives the tunnel
//! the key to send with, again before that one is used up ([`TunnelEvent::NeedSendKey`]), and derives those that the
//! peer's nonces ask for ([`TunnelEvent::NeedKey`]). A nonce is asked for when two packets had it, four times a second at
//! most, and takes the place of a known one only when a packet could be read with it: whoever sends made-up nonces costs
//! next to nothing and pushes nobody out.

mod keys;

use super::clock::{MILLISECOND, SECOND, Tick};
use super::gre::{CLEAR_LEN, Content, Header, KeepAlive, PORTS_LEN, Ports, SEALED_LEN};
use super::psk::{CounterForm, Key, KeyLength, Nonce};
use super::stats::TunnelStats;
use crate::proto::rtp::header;
use crate::proto::rtp::rtcp::Compound;
use serde::{Deserialize, Serialize};

use self::keys::{ReceiveKeys, Tried};

/// Between keep-alives: TR-06-2, section 5.5, has 1 to 10 s.
const KEEP_ALIVE: i64 = SECOND;
/// So many follow on each other at the start.
const FIRST_KEEP_ALIVES: u8 = 3;
/// In this time.
const FIRST_INTERVAL: i64 = 20 * MILLISECOND;
/// Packets before the last one that a key may be used for, from which on the next key is asked for.
const ANNOUNCED: u32 = 1 << 20;

/// The key to send with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendKey {
    /// What it was derived with. For one passphrase never the same twice.
    pub nonce: Nonce,
    /// Derived from it.
    pub key: Key,
}

/// How a tunnel is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TunnelConfig {
    /// The virtual ports of what we send unasked: where from, and the even one to which media goes. librist uses 32768
    /// and 1968. An answer goes to where the question came from.
    pub ports: (u16, u16),
    /// `None`: in clear, and only what is in clear is taken.
    pub key: Option<SendKey>,
    /// Packets sent with one key, after which the next one is asked for; as many as there can be where it is 0.
    pub rotate_after: u32,
    /// Take packets with the counter of the 2020 edition, which uses key stream twice.
    pub accept_weak_counter: bool,
    /// A number of this device, for keep-alives.
    pub mac: [u8; 6],
}

/// What the host should do for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelEvent {
    /// The peer encrypts with keys of this nonce: for each passphrase that may be the right one, derive such a key, away
    /// from the packet path, and provide them.
    NeedKey {
        /// The peer's.
        nonce: Nonce,
        /// What it uses.
        length: KeyLength,
    },
    /// Provide the next key to send with, derived from a fresh nonce. Without it sending ends when the
    /// present one is used up.
    NeedSendKey,
    /// What the peer encrypts makes no sense with any passphrase.
    WrongPassphrase,
}

/// Keys for a tunnel that asked for them.
#[derive(Debug)]
pub enum TunnelKeys {
    /// To read what the peer encrypts with this nonce: one for each passphrase that may be the right one.
    Receive(Nonce, Vec<Key>),
    /// To send with from now on.
    Send(SendKey),
}

/// What came out of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// RTP, from here on.
    Media(usize),
    /// RTCP, from here on.
    Control(usize),
    /// Something of the tunnel itself, or nothing that is of use.
    Nothing,
}

/// One end of a tunnel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tunnel {
    config: TunnelConfig,
    seq: u32,
    /// Packets sent with the present key.
    used: u32,
    asked_for_key: bool,
    /// The ports of the peer's last RTCP.
    peer_ports: Option<Ports>,
    receive: ReceiveKeys,
    keep_alive_due: Tick,
    keep_alives: u8,
    pub(super) stats: TunnelStats,
    need_send_key: bool,
}

impl Tunnel {
    pub(super) fn new(config: TunnelConfig) -> Self {
        Self {
            config,
            seq: 0,
            used: 0,
            asked_for_key: false,
            peer_ports: None,
            receive: ReceiveKeys::default(),
            keep_alive_due: Tick::LONG_AGO,
            keep_alives: 0,
            stats: TunnelStats::default(),
            need_send_key: false,
        }
    }

    /// Take a datagram. What is in it lies in `plain` if that is not empty, else in the datagram itself.
    pub(super) fn open(&mut self, now: Tick, datagram: &[u8], plain: &mut Vec<u8>) -> Opened {
        plain.clear();
        let Some(header) = Header::read(datagram) else {
            self.stats.invalid += 1;
            return Opened::Nothing;
        };
        let opened = match header.nonce {
            None if self.config.key.is_none() => {
                judge(&header, &datagram[header.len..]).map(|inner| (inner, header.len))
            }
            None => {
                self.stats.in_clear += 1;
                return Opened::Nothing;
            }
            Some(nonce) => {
                let opened = self.decrypt(now, &header, nonce, &datagram[header.len..], plain);
                if opened.is_none() {
                    plain.clear();
                    return Opened::Nothing;
                }
                opened.map(|inner| (inner, 0))
            }
        };
        let Some((inner, before)) = opened else {
            self.stats.invalid += 1;
            return Opened::Nothing;
        };
        match inner {
            Inner::Media(at) => Opened::Media(before + at),
            Inner::Control(at, ports) => {
                self.peer_ports = Some(ports);
                Opened::Control(before + at)
            }
            Inner::KeepAlive(keep_alive) => {
                self.stats.keep_alives += 1;
                self.stats.peer_restores_nulls = Some(keep_alive.restores_nulls());
                Opened::Nothing
            }
            Inner::Other => {
                self.stats.other += 1;
                Opened::Nothing
            }
        }
    }

    fn decrypt(
        &mut self,
        now: Tick,
        header: &Header,
        nonce: [u8; 4],
        body: &[u8],
        plain: &mut Vec<u8>,
    ) -> Option<Inner> {
        let form = if header.version == 0 { CounterForm::Last } else { CounterForm::First };
        let nonce = Nonce::read(nonce);
        let usable = self.config.key.is_some() && (form == CounterForm::First || self.config.accept_weak_counter);
        let (Some(nonce), true) = (nonce, usable) else {
            self.stats.undecrypted += 1;
            return None;
        };
        let tried = self.receive.open(now, nonce, header.key_length, |key| {
            plain.clear();
            plain.extend_from_slice(body);
            key.apply(header.seq, form, plain);
            let inner = judge(header, plain)?;
            Some((inner, inner.is_proof(plain)))
        });
        match tried {
            Tried::Read(inner) => {
                self.stats.peer_key = self.receive.right();
                Some(inner)
            }
            Tried::Unknown => {
                self.stats.undecrypted += 1;
                None
            }
            Tried::Garbage => {
                self.stats.garbage += 1;
                None
            }
        }
    }

    /// Keys that it asked for.
    pub(super) fn provide(&mut self, keys: TunnelKeys) {
        match keys {
            TunnelKeys::Receive(nonce, keys) => self.receive.provide(nonce, keys),
            TunnelKeys::Send(key) if self.config.key.is_some() => {
                self.config.key = Some(key);
                (self.used, self.asked_for_key, self.need_send_key) = (0, false, false);
                self.stats.send_keys += 1;
            }
            // In clear it asks for none.
            TunnelKeys::Send(_) => {}
        }
    }

    /// Ask for all keys anew. Those in use stay so until then.
    pub(super) fn renew_keys(&mut self, now: Tick) {
        if self.config.key.is_some() {
            (self.asked_for_key, self.need_send_key) = (true, true);
            self.receive.renew(now);
            self.stats.peer_key = None;
        }
    }

    /// What the host should do; ask until `None`.
    pub(super) fn poll_event(&mut self) -> Option<TunnelEvent> {
        if std::mem::take(&mut self.need_send_key) {
            return Some(TunnelEvent::NeedSendKey);
        }
        self.receive.poll_event()
    }

    /// Bytes before a packet of RTP or RTCP.
    pub(super) const fn overhead(&self) -> usize {
        if self.config.key.is_some() { SEALED_LEN } else { CLEAR_LEN }
    }

    /// Whether a packet may still be sent: not when the key is used up.
    pub(super) const fn can_send(&self) -> bool {
        self.config.key.is_none() || self.used < u32::MAX
    }

    /// Put what goes around a packet around it: it begins after [`Self::overhead`]. `false`: the key is used up.
    pub(super) fn seal_media(&mut self, datagram: &mut [u8]) -> bool {
        let (source, destination) = self.config.ports;
        self.seal(Content::Reduced(Ports { source, destination }), datagram)
    }

    /// The same for RTCP.
    pub(super) fn seal_control(&mut self, datagram: &mut [u8]) -> bool {
        let (source, destination) = self.config.ports;
        let ours = Ports { source, destination: destination | 1 };
        self.seal(Content::Reduced(self.peer_ports.map_or(ours, Ports::swapped)), datagram)
    }

    fn seal(&mut self, content: Content, datagram: &mut [u8]) -> bool {
        let Some(SendKey { nonce, key }) = &self.config.key else {
            let head = Header::write_clear(content);
            write_behind(&head, content, datagram);
            return true;
        };
        if self.used == u32::MAX {
            return false;
        }
        let head = Header::write_sealed(content, nonce.bytes(), key.length(), self.seq);
        write_behind(&head, content, datagram);
        if let Some(body) = datagram.get_mut(head.len()..) {
            key.apply(self.seq, CounterForm::First, body);
        }
        self.seq = self.seq.wrapping_add(1);
        self.used += 1;
        let limit = match self.config.rotate_after {
            0 => u32::MAX - ANNOUNCED,
            packets => packets.min(u32::MAX - ANNOUNCED),
        };
        if self.used >= limit && !self.asked_for_key {
            (self.asked_for_key, self.need_send_key) = (true, true);
        }
        true
    }

    /// When the next keep-alive is due.
    pub(super) const fn due(&self) -> Tick {
        self.keep_alive_due
    }

    /// Append a keep-alive if one is due.
    pub(super) fn poll_keep_alive(&mut self, now: Tick, out: &mut Vec<u8>) -> bool {
        if self.keep_alive_due > now {
            return false;
        }
        let first = self.keep_alives + 1 < FIRST_KEEP_ALIVES;
        self.keep_alives = self.keep_alives.saturating_add(1);
        self.keep_alive_due = now.add(if first { FIRST_INTERVAL } else { KEEP_ALIVE });
        let start = out.len();
        out.resize(start + self.overhead() - PORTS_LEN, 0);
        out.extend(KeepAlive::of(self.config.mac).write());
        let sealed = self.seal(Content::KeepAlive, &mut out[start..]);
        if !sealed {
            out.truncate(start);
        }
        sealed
    }
}

fn write_behind(head: &[u8], content: Content, datagram: &mut [u8]) {
    let Some((place, rest)) = datagram.split_at_mut_checked(head.len()) else { return };
    place.copy_from_slice(head);
    if let (Content::Reduced(ports), Some(place)) = (content, rest.first_chunk_mut()) {
        *place = ports.write();
    }
}

/// What a packet of the tunnel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    Media(usize),
    Control(usize, Ports),
    KeepAlive(KeepAlive),
    Other,
}

impl Inner {
    /// Whether it shows that the key was the right one: random bytes do not look like this.
    fn is_proof(self, plain: &[u8]) -> bool {
        match self {
            Self::Control(..) => true,
            Self::Media(at) => header::Header::parse(&plain[at..]).is_ok_and(|media| {
                header::carries_mp2t(media.payload_type) && plain.get(at + media.payload().start) == Some(&0x47)
            }),
            Self::KeepAlive(_) | Self::Other => false,
        }
    }
}

/// What a body in clear holds; `None`: it makes no sense.
fn judge(header: &Header, body: &[u8]) -> Option<Inner> {
    let (content, len) = header.content(body)?;
    let inner = body.get(len..)?;
    match content {
        Content::Reduced(ports) if ports.is_control() => {
            Compound::parse(inner).ok().map(|_| Inner::Control(len, ports))
        }
        // RTCP may go by the port of media, too (RFC 5761).
        Content::Reduced(ports) => match header::Header::parse(inner) {
            Ok(_) => Some(Inner::Media(len)),
            Err(header::HeaderError::Rtcp(_)) => Compound::parse(inner).ok().map(|_| Inner::Control(len, ports)),
            Err(_) => None,
        },
        Content::KeepAlive => KeepAlive::read(inner).map(Inner::KeepAlive),
        Content::Other => Some(Inner::Other),
    }
}

#[cfg(test)]
mod tests;
