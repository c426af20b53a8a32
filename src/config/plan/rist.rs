//! What RIST needs to know, as source and as output.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{LegPlan, Stream};
use crate::config::secrets::KeyFile;
use crate::config::value::{Bind, Destination};
use crate::proto::rist::psk::KeyLength;

/// How a source is received by RIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistInput {
    /// Where it receives; a multicast group is joined. With the simple profile the port is even.
    pub bind: Bind,
    /// The senders of a source-specific multicast join; empty: any-source.
    pub multicast_sources: Vec<IpAddr>,
    /// Who may send; `None`: everybody (allowed only for loopback and multicast).
    pub allow: Option<Vec<IpNet>>,
    /// The receiver's buffer: how long after a packet was sent it goes on, so that what is lost can be sent again; 10 ms
    /// to 30 s.
    pub latency: Duration,
    /// What goes over which port.
    pub profile: RistProfile,
}

/// How an output is sent by RIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistRoute {
    /// To whom; unicast or multicast. The first leg's where there are `legs`. With the simple profile all ports are even.
    pub destination: Destination,
    /// Two places that the same packets go to, never alike; empty: to `destination` alone.
    pub legs: Vec<LegPlan>,
    /// The history kept: how long what was sent can be sent again; 10 ms to 30 s.
    pub latency: Duration,
    /// What goes over which port.
    pub profile: RistProfile,
    /// The local port, never with `legs`; `None`: one of the system's choice. With the simple profile RTCP has the next
    /// one, which is there.
    pub source_port: Option<u16>,
}

/// What goes over which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RistProfile {
    /// RTP over an even port, RTCP over the next (VSF TR-06-1).
    Simple,
    /// Both in a tunnel over one port (VSF TR-06-2).
    Main {
        /// `None`: in clear, and only what is in clear is taken.
        encryption: Option<RistEncryption>,
    },
}

/// With what a tunnel is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RistEncryption {
    /// At least one, the newest first: this end sends with that one, and takes what is encrypted with any of them. An
    /// output has one. No name is listed twice.
    pub passphrases: Vec<KeyFile>,
    /// Of the keys this end makes.
    pub key_length: KeyLength,
}

impl RistInput {
    /// The ports it receives on, and what comes there.
    pub fn ports(&self) -> impl Iterator<Item = (Stream, u16)> {
        self.profile.ports_from(self.bind.port)
    }
}

impl RistRoute {
    /// The local ports, and what goes from there; none: the system chooses.
    pub fn source_ports(&self) -> impl Iterator<Item = (Stream, u16)> {
        self.source_port.into_iter().flat_map(|port| self.profile.ports_from(port))
    }
}

impl RistProfile {
    /// What goes over its ports, and what is added to the one that is written for each.
    pub const fn streams(&self) -> &'static [(Stream, u16)] {
        match self {
            Self::Simple => &[(Stream::Media, 0), (Stream::Rtcp, 1)],
            Self::Main { .. } => &[(Stream::Media, 0)],
        }
    }

    fn ports_from(&self, port: u16) -> impl Iterator<Item = (Stream, u16)> + use<> {
        self.streams().iter().filter_map(move |(stream, offset)| Some((*stream, port.checked_add(*offset)?)))
    }

    /// With what it is encrypted; `None`: in clear.
    pub const fn encryption(&self) -> Option<&RistEncryption> {
        match self {
            Self::Main { encryption: Some(encryption) } => Some(encryption),
            Self::Main { encryption: None } | Self::Simple => None,
        }
    }

    /// All passphrases, the newest first; none: in clear.
    pub fn passphrases(&self) -> &[KeyFile] {
        self.encryption().map_or(&[], |encryption| &encryption.passphrases)
    }
}
