//! What an output is to do: the plan with all names resolved.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::plan::OutputProtocol;
use crate::config::value::Dscp;
use crate::io::batch::Target;
use crate::io::open::Family;
use crate::proto::fec2022_1::header::FecStream;

/// What is added to a leg's port for the column and for the row FEC (ST 2022-1).
const FEC_PORTS: [u16; 2] = [2, 4];

/// The outputs that share a socket share these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SenderKey {
    /// Of the destinations.
    pub family: Family,
    /// `None`: one of the system's choice.
    pub source_port: Option<u16>,
}

/// One place an output sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegConfig {
    /// Resolved.
    pub address: SocketAddr,
    /// The interface's index; `None`: the route's.
    pub interface: Option<u32>,
}

/// Where an output sends, and how: the plan with all names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    /// By number. `None`: there is no such leg, or it waits for its interface or its name.
    pub legs: [Option<LegConfig>; 2],
    /// `None`: 16 for multicast, 64 for unicast.
    pub ttl: Option<u8>,
    /// On every datagram.
    pub dscp: Dscp,
    /// What is sent.
    pub protocol: OutputProtocol,
    /// The local port.
    pub source_port: Option<u16>,
    /// Packets leave evenly, so long after they came; `None`: as they come.
    pub smoothing: Option<Duration>,
}

impl OutputConfig {
    /// The legs that are there, with their numbers.
    pub fn legs(&self) -> impl Iterator<Item = (usize, LegConfig)> {
        self.legs.iter().enumerate().filter_map(|(number, leg)| Some((number, (*leg)?)))
    }

    /// The sockets it sends from, each once: two where the legs are of different families.
    pub fn senders(&self) -> impl Iterator<Item = SenderKey> {
        let [first, second] = self.legs.map(|leg| leg.map(|leg| self.sender(leg)));
        first.into_iter().chain(second.filter(|key| Some(*key) != first))
    }

    /// The socket a leg sends from.
    pub(super) fn sender(&self, leg: LegConfig) -> SenderKey {
        SenderKey { family: Family::of(leg.address.ip()), source_port: self.source_port }
    }

    /// Where its media goes.
    pub(super) fn target(&self, leg: LegConfig) -> Target {
        // Without a word about it the socket's own is used: that spares the kernel some work with each packet.
        Target::new(leg.address, self.ttl, self.dscp.tos(), leg.interface)
    }

    /// Where its FEC goes: columns, rows.
    pub(super) fn fec_targets(&self, leg: LegConfig) -> [Target; 2] {
        FecStream::ALL.map(|stream| {
            let mut leg = leg;
            // The plan leaves room for it.
            leg.address.set_port(leg.address.port().saturating_add(FEC_PORTS[stream as usize]));
            self.target(leg)
        })
    }
}
