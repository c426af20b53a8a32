//! Who may receive a flow by entitlement, and by what port.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::config::secrets::KeyFile;
use crate::config::value::{Bind, Bitrate, Interface};
use crate::proto::srt::km::KeyLength;

/// `[entitlements.NAME]` of a flow: the subscribers listed may receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementPlan {
    /// Free text for people.
    pub description: String,
    /// `false`: nobody gets it.
    pub enabled: bool,
    /// Stems of files of `subscribers.d`, which may be missing yet; at least one.
    pub subscribers: BTreeSet<String>,
    /// Sessions at the same time, of all subscribers together; at least 1.
    pub max_sessions: usize,
    /// From then on nobody gets it; `None`: it does not expire.
    pub expires: Option<SystemTime>,
    /// The least latency of sessions, 20 ms to 30 s in whole milliseconds; the greater of both ends counts.
    pub latency: Duration,
    /// Advertised to callers that have no wish of their own; the greatest of all entitlements counts.
    pub key_length: KeyLength,
}

/// `subscribers.d/NAME.toml`: a party that may receive entitled flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberPlan {
    /// The stem of the file.
    pub name: String,
    /// Free text for people.
    pub description: String,
    /// `false`: it gets nothing.
    pub enabled: bool,
    /// At least one, the newest first: each of them is accepted. No name is listed twice.
    pub passphrases: Vec<KeyFile>,
    /// From where it may call; at least one.
    pub allow: Vec<IpNet>,
    /// Sessions at the same time, of all entitlements together; `None`: as many as these allow.
    pub max_sessions: Option<usize>,
    /// Of all its sessions together, over some seconds; `None`: as much as they carry.
    pub max_bitrate: Option<Bitrate>,
}

impl SubscriberPlan {
    /// The keys in which it differs.
    pub fn because(&self, new: &Self) -> Vec<String> {
        let Self { name: _, description, enabled, passphrases, allow, max_sessions, max_bitrate } = self;
        let several = passphrases.len().max(new.passphrases.len()) > 1;
        let keys = [
            (if several { "passphrase-files" } else { "passphrase-file" }, *passphrases != new.passphrases),
            ("allow", *allow != new.allow),
            ("max-sessions", *max_sessions != new.max_sessions),
            ("max-bitrate", *max_bitrate != new.max_bitrate),
            ("enabled", *enabled != new.enabled),
            ("description", *description != new.description),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
    }
}

/// `[entitlements]` of `mediaconnect.toml`: the one port at which subscribers call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitlementPort {
    /// Where; never a multicast group.
    pub bind: Bind,
    /// The interface it is bound to; `None`: any.
    pub interface: Option<Interface>,
}

/// Which entitlement of another appliance a source asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitled {
    /// As whom: the stem of a file of `subscribers.d` there.
    pub subscriber: String,
    /// `FLOW/NAME`.
    pub entitlement: String,
}

impl Entitled {
    /// What the appliance is told.
    pub fn stream_id(&self) -> String {
        format!("#!::u={},r={},m=request", self.subscriber, self.entitlement)
    }
}
