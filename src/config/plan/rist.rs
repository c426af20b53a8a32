//! What RIST needs to know, as source and as output.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::LegPlan;
use crate::config::secrets::Passphrase;
use crate::config::value::{Bind, Destination};
use crate::proto::rist::psk::KeyLength;

/// The sockets of a source by RIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistInput {
    /// Where it receives; a multicast group is joined.
    pub bind: Bind,
    /// The senders of a source-specific multicast join; empty: any-source.
    pub multicast_sources: Vec<IpAddr>,
    /// Who may send; `None`: everybody.
    pub allow: Option<Vec<IpNet>>,
    /// The receiver's buffer.
    pub latency: Duration,
    /// The profile.
    pub profile: RistProfile,
}

/// Where an output by RIST sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistRoute {
    /// To whom.
    pub destination: Destination,
    /// Two places, or none.
    pub legs: Vec<LegPlan>,
    /// The history kept.
    pub latency: Duration,
    /// The profile.
    pub profile: RistProfile,
    /// The local port.
    pub source_port: Option<u16>,
}

/// The profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RistProfile {
    /// RTP and RTCP each on a port of their own.
    Simple,
    /// Both in a tunnel.
    Main {
        /// `None`: in clear.
        encryption: Option<RistEncryption>,
    },
}

/// With what a tunnel is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistEncryption {
    /// At least one, the newest first.
    pub passphrases: Vec<Passphrase>,
    /// Of the keys this end makes.
    pub key_length: KeyLength,
}
