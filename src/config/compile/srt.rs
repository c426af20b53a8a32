//! SRT, as source and as output: who calls whom, and with what key.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::plan::{SrtEncryption, SrtMode, SrtPlan};
use super::super::section::{At, Section};
use super::super::source::shown;
use super::super::value::{Bind, Destination, Host};
use super::{End, Flow, narrow};
use crate::proto::srt::access::StreamIdPattern;
use crate::proto::srt::handshake::MAX_STREAM_ID;
use crate::proto::srt::km::KeyLength;
use crate::proto::srt::rekey::KM_REFRESH;
use crate::proto::srt::terms::is_stream_id;

/// libsrt's own.
pub(super) const LATENCY: Duration = Duration::from_millis(120);
/// The least that the contract has.
pub(super) const LEAST_LATENCY: Duration = Duration::from_millis(20);
const MAX_CALLERS: usize = 16;

impl<'t> Flow<'_, 't> {
    /// `None`: refused.
    pub(super) fn srt(&mut self, s: &Section<'_, 't>, protocol: &str, end: End) -> Option<SrtPlan> {
        let mode = match protocol {
            "srt-listener" => self.listener(s, end),
            "srt-caller" => self.caller(s, end),
            "entitlement" => self.entitled(s),
            _ => self.rendezvous(s),
        };
        let latency = s.duration_from(LEAST_LATENCY, "latency").map_or(LATENCY, in_millis);
        let encryption = self.encryption(s);
        Some(SrtPlan { mode: mode?, latency, encryption })
    }

    fn listener(&mut self, s: &Section<'_, 't>, end: End) -> Option<SrtMode> {
        let bind = self.unicast_bind(s);
        let allow = self.allow(s, bind.as_ref(), end);
        let stream_id = s.text("stream-id").and_then(|At { value, span }| {
            self.place(s, "stream-id", &span);
            let pattern = StreamIdPattern::new(&value);
            let refuse = |e| self.source.error(&span, format!("`stream-id`: {} {e}", shown(&value)), None);
            pattern.map_err(refuse).ok()
        });
        let max_callers = match end {
            End::Source => 1,
            End::Output => s.whole("max-callers").and_then(narrow).unwrap_or(MAX_CALLERS),
        };
        Some(SrtMode::Listener { bind: bind?.value, allow, stream_id, max_callers })
    }

    fn caller(&mut self, s: &Section<'_, 't>, end: End) -> Option<SrtMode> {
        let calling = self.calling(s, end);
        let stream_id = s.text("stream-id").and_then(|At { value, span }| {
            let problem = match value.len() {
                0 => "is empty",
                _ if is_stream_id(&value) => return Some(value),
                _ if value.len() > MAX_STREAM_ID => "is longer than 512 bytes, which no listener takes",
                _ => "contains a zero byte, which no listener takes",
            };
            let help = value.is_empty().then(|| "leave it out to send none".to_owned());
            self.source.error(&span, format!("`stream-id`: {} {problem}", shown(&value)), help);
            None
        });
        let (local, remote) = calling?;
        Some(SrtMode::Caller { local, remote, stream_id, entitled: None })
    }

    /// From where it calls, if that is written, and whom.
    pub(super) fn calling(&mut self, s: &Section<'_, 't>, end: End) -> Option<(Option<Bind>, Destination)> {
        let (local, remote_key) = match end {
            End::Source => (if s.has("bind") { Some(self.unicast_bind(s)) } else { None }, "remote"),
            End::Output => (s.whole("source-port").map(|port| self.source_port(s, port)), "destination"),
        };
        let remote = self.remote(s, remote_key);
        self.refuse_mismatch(local.iter().flatten().next(), remote.as_ref());
        let local = match local {
            Some(local) => Some(local?.value),
            None => None,
        };
        Some((local, remote?.value))
    }

    fn rendezvous(&mut self, s: &Section<'_, 't>) -> Option<SrtMode> {
        let bind = self.unicast_bind(s);
        let remote = self.remote(s, "remote");
        self.refuse_mismatch(bind.as_ref(), remote.as_ref());
        Some(SrtMode::Rendezvous { bind: bind?.value, remote: remote?.value })
    }

    fn unicast_bind(&mut self, s: &Section<'_, 't>) -> Option<At<Bind>> {
        let bind = self.bind(s, "write bind = \":5000\"")?;
        if let Some(group) = bind.value.ip.filter(IpAddr::is_multicast) {
            self.source.error(
                &bind.span,
                format!("`bind`: {group} is a multicast group; SRT is between two hosts"),
                None,
            );
            return None;
        }
        Some(bind)
    }

    /// The port of all addresses that an output calls from.
    fn source_port(&mut self, s: &Section<'_, 't>, port: u64) -> Option<At<Bind>> {
        let span = s.key_span("source-port")?;
        self.place(s, "source-port", &span);
        Some(At { value: Bind { ip: None, port: narrow(port)? }, span })
    }

    fn remote(&mut self, s: &Section<'_, 't>, key: &str) -> Option<At<Destination>> {
        let remote = self.peer(s, key, &format!("write {key} = \"203.0.113.20:5000\""))?;
        if let Host::Address(ip) = remote.value.host {
            if ip.is_multicast() || ip == IpAddr::from(Ipv4Addr::BROADCAST) {
                let what = if ip.is_multicast() { "a multicast group" } else { "the broadcast address" };
                let message = format!("`{key}`: {ip} is {what}; SRT is between two hosts");
                self.source.error(&remote.span, message, None);
                return None;
            }
            self.link_local(s, ip, &remote.span);
        }
        Some(remote)
    }

    /// A port that calls itself, or one of the other family.
    fn refuse_mismatch(&self, local: Option<&At<Bind>>, remote: Option<&At<Destination>>) {
        let (Some(At { value: bind, .. }), Some(At { value: remote, span })) = (local, remote) else { return };
        let Host::Address(ip) = remote.host else { return };
        if bind.ip.is_some_and(|bound| bound.is_ipv4() != ip.is_ipv4() && !is_dual(bound)) {
            self.source.error(
                span,
                format!("{ip} cannot be called from {bind}: they are not of the same family"),
                None,
            );
        } else if remote.port == bind.port && (bind.ip == Some(ip) || bind.ip.is_none_or(is_any) && ip.is_loopback()) {
            self.source.error(span, format!("{remote} is its own port: it would call itself"), None);
        }
    }

    /// `None`: in clear, or refused.
    fn encryption(&mut self, s: &Section<'_, 't>) -> Option<SrtEncryption> {
        let key_length = s.number("key-length").and_then(|bytes| KeyLength::from_bytes(usize::try_from(bytes).ok()?));
        let km_refresh_rate = s.whole("km-refresh-rate").and_then(narrow).unwrap_or(KM_REFRESH);
        let passphrases = self.passphrases(s, &["key-length", "km-refresh-rate"])?;
        Some(SrtEncryption { passphrases, key_length: key_length.unwrap_or_default(), km_refresh_rate })
    }
}

/// Up to the next one: the protocol counts in them.
pub(super) fn in_millis(time: Duration) -> Duration {
    let millis = time.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn is_any(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

/// `[::]`, which takes both families.
fn is_dual(ip: IpAddr) -> bool {
    ip.is_ipv6() && ip.is_unspecified()
}
