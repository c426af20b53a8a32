//! RIST: media over RTP, recovered by retransmission (VSF TR-06-1, simple profile), in a tunnel that may be encrypted
//! (TR-06-2, main profile).
//!
//! - [`receiver`], [`sender`]: the two ends, each over one leg or several.
//! - [`tunnel`], [`psk`]: what the main profile puts around RTP and RTCP.
//! - [`stats`]: their figures.

mod clock;
mod extension;
mod gre;
mod nack;
pub mod psk;
pub mod receiver;
mod rtt;
pub mod sender;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod tunnel;

use self::tunnel::TunnelConfig;
use serde::{Deserialize, Serialize};

/// A leg of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LegId(u8);

impl LegId {
    /// Its number, below the most legs of its end; a removed leg's is given again.
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// An address of a peer, by a number that the host gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteId(pub u32);

/// A port of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Port {
    /// Simple profile: the even one, of media.
    Media,
    /// Simple profile: the next one, of RTCP.
    Control,
    /// Main profile: the only one.
    Tunnel,
}

/// The profile of a leg of a receiver.
#[derive(Debug, Clone)]
pub enum Profile {
    /// RTP and RTCP each on a port of their own.
    Simple {
        /// Where feedback goes whoever sends: the group, of multicast. `None`: to where RTCP comes from.
        feedback: Option<RemoteId>,
    },
    /// Both in a tunnel.
    Main(Box<TunnelConfig>),
}
