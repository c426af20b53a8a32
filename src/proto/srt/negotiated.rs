//! What both ends agreed on: where every handshake ends, and every connection begins.

use std::fmt;
use std::time::{Duration, Instant};

use super::crypto::{Kek, StreamKeys};
use super::seq::{SeqNo, SocketId};

/// What an end can do, or does (draft-sharabayko-srt, section 3.2.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HsFlags(pub u32);

impl HsFlags {
    /// It sends time stamps to deliver by.
    pub const TSBPD_SEND: Self = Self(0x01);
    /// It delivers by time stamps.
    pub const TSBPD_RECEIVE: Self = Self(0x02);
    /// It could encrypt.
    pub const CRYPT: Self = Self(0x04);
    /// It drops what comes too late.
    pub const TOO_LATE_DROP: Self = Self(0x08);
    /// It repeats NAKs.
    pub const NAK_REPORT: Self = Self(0x10);
    /// It marks retransmitted packets.
    pub const REXMIT_FLAG: Self = Self(0x20);
    /// It sends a stream of bytes, not messages.
    pub const STREAM: Self = Self(0x40);
    /// It knows packet filters.
    pub const FILTER: Self = Self(0x80);
    /// What we say of ourselves.
    pub const OURS: Self = Self(0x3F);

    /// Whether all of these are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These without those.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

/// What a handshake came to. A connection is made of it.
pub struct Negotiated {
    /// Our socket: the destination of what the peer sends.
    pub local: SocketId,
    /// The peer's socket: the destination of what we send.
    pub remote: SocketId,
    /// The sequence number of the first packet that we send.
    pub send_isn: SeqNo,
    /// The sequence number of the first packet that the peer sends. The same as ours, but for a rendezvous.
    pub receive_isn: SeqNo,
    /// The origin of our time stamps. The handshake used it already: data must, too.
    pub start: Instant,
    /// The origin of the peer's time stamps on our clock: when the packet with its HSREQ or HSRSP arrived, less its time
    /// stamp. So half a round trip is in it.
    pub peer_base: Instant,
    /// Bytes of the largest IP packet, the smaller of both ends' wishes.
    pub mss: u16,
    /// Packets that the peer has room for at the beginning.
    pub flow_window: u32,
    /// How long after its time stamp we deliver what the peer sends.
    pub receive_latency: Duration,
    /// How long after its time stamp the peer delivers what we send.
    pub send_latency: Duration,
    /// The peer's version of SRT: 0x00MMmmpp.
    pub peer_version: u32,
    /// What the peer can do.
    pub peer_flags: HsFlags,
    /// The stream keys that both directions begin with; `None` in clear.
    pub keys: Option<StreamKeys>,
    /// What wrapped them, for later refreshes; there whenever there are keys.
    pub kek: Option<Kek>,
    /// We sent the HSREQ, and the keys are ours.
    pub initiator: bool,
    /// What the caller sent. `None`: nothing, or nobody called.
    pub stream_id: Option<String>,
    /// Our last handshake packet, of a listener or a rendezvous. The connection sends it before anything else, and again
    /// whenever the peer's socket repeats a handshake (of any kind but an agreement): it did not get ours. Each time the
    /// packet gets the time of its sending, by [`stamp`](super::packet::stamp): the peer reckons our clock from it.
    pub reply: Option<Vec<u8>>,
}

/// Without the keys.
impl fmt::Debug for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiated")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("send_isn", &self.send_isn)
            .field("receive_isn", &self.receive_isn)
            .field("mss", &self.mss)
            .field("flow_window", &self.flow_window)
            .field("receive_latency", &self.receive_latency)
            .field("send_latency", &self.send_latency)
            .field("key_length", &self.keys.as_ref().map(StreamKeys::key_length))
            .field("initiator", &self.initiator)
            .field("stream_id", &self.stream_id)
            .finish_non_exhaustive()
    }
}
