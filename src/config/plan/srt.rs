//! What SRT needs to know, as source and as output.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use super::Entitled;
use crate::config::secrets::KeyFile;
use crate::config::source::shown;
use crate::config::value::{Bind, Destination};
use crate::proto::srt::access::StreamIdPattern;
use crate::proto::srt::km::KeyLength;

/// How a source or an output connects by SRT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtPlan {
    /// Who calls whom.
    pub mode: SrtMode,
    /// The least latency of this end, 20 ms to 30 s in whole milliseconds; the greater of both ends counts.
    pub latency: Duration,
    /// `None`: in clear, and a peer that encrypts is refused.
    pub encryption: Option<SrtEncryption>,
}

/// With what a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtEncryption {
    /// At least one, the newest first: that one is offered, and each of them is accepted. No name is listed twice.
    pub passphrases: Vec<KeyFile>,
    /// Of the keys this end makes.
    pub key_length: KeyLength,
    /// Packets that are sent with one stream key (libsrt's `SRTO_KMREFRESHRATE`); 64 to 2^25.
    pub km_refresh_rate: u32,
}

/// Who calls whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SrtMode {
    /// This end is called.
    Listener {
        /// Where; never a multicast group. Others may share it, with patterns that don't overlap.
        bind: Bind,
        /// Who may call; `None`: everybody (allowed only for loopback).
        allow: Option<Vec<IpNet>>,
        /// The stream IDs of those who are meant; `None`: all callers are.
        stream_id: Option<StreamIdPattern>,
        /// How many at the same time; 1 for a source.
        max_callers: usize,
    },
    /// This end calls.
    Caller {
        /// From where, a port that is its own; `None`: of the system's choice.
        local: Option<Bind>,
        /// Whom; never a multicast group.
        remote: Destination,
        /// What to tell the listener, 1 to 512 bytes; `None`: nothing.
        stream_id: Option<String>,
        /// The entitlement that the stream ID asks for; `None`: it is a caller's own.
        entitled: Option<Box<Entitled>>,
    },
    /// Both ends call.
    Rendezvous {
        /// From where, a port that is its own.
        bind: Bind,
        /// Whom; never a multicast group.
        remote: Destination,
    },
}

/// Who is called, and for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::config) struct Call {
    protocol: &'static str,
    to: Destination,
    stream_id: Option<String>,
}

impl fmt::Display for Call {
    /// `srt-caller to 203.0.113.7:5000 with stream ID "live"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.protocol, self.to)?;
        self.stream_id.iter().try_for_each(|id| write!(f, " with stream ID {}", shown(id)))
    }
}

impl SrtPlan {
    /// All passphrases, the newest first; none: in clear.
    pub fn passphrases(&self) -> &[KeyFile] {
        self.encryption.as_ref().map_or(&[], |encryption| &encryption.passphrases)
    }
}

impl SrtMode {
    /// The name in configuration and status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Listener { .. } => "srt-listener",
            Self::Caller { entitled: Some(_), .. } => "entitlement",
            Self::Caller { .. } => "srt-caller",
            Self::Rendezvous { .. } => "srt-rendezvous",
        }
    }

    /// The port of this host that it is bound to; `None`: one of the system's choice.
    pub const fn bind(&self) -> Option<Bind> {
        match self {
            Self::Listener { bind, .. } | Self::Rendezvous { bind, .. } => Some(*bind),
            Self::Caller { local, .. } => *local,
        }
    }

    /// Whom it calls; `None`: it is called.
    pub const fn remote(&self) -> Option<&Destination> {
        match self {
            Self::Listener { .. } => None,
            Self::Caller { remote, .. } | Self::Rendezvous { remote, .. } => Some(remote),
        }
    }

    /// The entitlement that it asks for; `None`: it asks for none.
    pub fn entitled(&self) -> Option<&Entitled> {
        match self {
            Self::Caller { entitled, .. } => entitled.as_deref(),
            Self::Listener { .. } | Self::Rendezvous { .. } => None,
        }
    }

    /// How many peers there may be at the same time; `None`: it calls.
    pub const fn max_callers(&self) -> Option<usize> {
        match self {
            Self::Listener { max_callers, .. } => Some(*max_callers),
            Self::Caller { .. } | Self::Rendezvous { .. } => None,
        }
    }

    /// What it shares with another that calls the same peer for the same; `None`: it is called.
    pub(in crate::config) fn call(&self) -> Option<Call> {
        let stream_id = match self {
            Self::Caller { stream_id, .. } => stream_id.clone(),
            Self::Listener { .. } | Self::Rendezvous { .. } => None,
        };
        Some(Call { protocol: self.name(), to: self.remote()?.clone(), stream_id })
    }

    /// Whom it calls, or where it is called; for people.
    pub fn place(&self) -> String {
        match self {
            Self::Listener { bind, .. } => bind.to_string(),
            Self::Caller { remote, .. } | Self::Rendezvous { remote, .. } => remote.to_string(),
        }
    }
}
