//! The words of conditions about connections by SRT.

use std::time::Duration;

use super::{Condition, Severity, count, host, port, rate, span};
use crate::config::value::FlowName;

/// Why a caller was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `allow` does not list it.
    Address,
    /// Its passphrase is another one.
    WrongPassphrase,
    /// It has no passphrase, and must have one.
    NoPassphrase,
    /// It has a passphrase, and must not.
    PassphraseUnexpected,
    /// Its stream ID is for nothing at this port.
    StreamId,
    /// As many as may are in already.
    Full,
    /// A publisher is there already.
    Taken,
    /// It speaks something else; in words.
    Protocol(String),
    /// Its stream ID does not say as an entitlement's caller who it is and what it wants.
    Malformed,
    /// No subscriber has the name.
    UnknownSubscriber,
    /// There is no such flow or entitlement.
    UnknownEntitlement,
    /// The entitlement is for others.
    NotEntitled,
    /// Somebody disabled it; in words.
    Disabled(&'static str),
    /// The time of the entitlement is over.
    Expired,
    /// As many sessions as may be are there already.
    Sessions,
    /// The subscriber would get more than it may.
    Bitrate,
}

impl Refusal {
    /// The codes of those by which sources and outputs turn callers away.
    pub const CODES: &'static [&'static str] = Self::ALL.split_at(8).0;

    /// The codes of those by which callers for entitlements are turned away.
    pub const OF_ENTITLEMENTS: [&'static str; 12] = [
        "stream-id-malformed",
        "unknown-subscriber",
        "address",
        "wrong-passphrase",
        "no-passphrase",
        "unknown-entitlement",
        "not-entitled",
        "disabled",
        "expired",
        "max-sessions",
        "max-bitrate",
        "protocol",
    ];

    /// The codes of all of them, in the order of their numbers.
    pub const ALL: [&'static str; 16] = [
        "address",
        "wrong-passphrase",
        "no-passphrase",
        "passphrase-unexpected",
        "stream-id",
        "full",
        "taken",
        "protocol",
        "stream-id-malformed",
        "unknown-subscriber",
        "unknown-entitlement",
        "not-entitled",
        "disabled",
        "expired",
        "max-sessions",
        "max-bitrate",
    ];

    /// Its place in [`Self::ALL`].
    pub const fn number(&self) -> usize {
        match self {
            Self::Address => 0,
            Self::WrongPassphrase => 1,
            Self::NoPassphrase => 2,
            Self::PassphraseUnexpected => 3,
            Self::StreamId => 4,
            Self::Full => 5,
            Self::Taken => 6,
            Self::Protocol(_) => 7,
            Self::Malformed => 8,
            Self::UnknownSubscriber => 9,
            Self::UnknownEntitlement => 10,
            Self::NotEntitled => 11,
            Self::Disabled(_) => 12,
            Self::Expired => 13,
            Self::Sessions => 14,
            Self::Bitrate => 15,
        }
    }

    /// The stable word, in status and metrics.
    pub const fn code(&self) -> &'static str {
        Self::ALL[self.number()]
    }

    /// In words, to stand after "refused:".
    pub fn words(&self) -> &str {
        match self {
            Self::Address => "its address is denied by `allow`",
            Self::WrongPassphrase => "wrong passphrase",
            Self::NoPassphrase => "it has no passphrase, and one is required",
            Self::PassphraseUnexpected => "it has a passphrase, and none is set here",
            Self::StreamId => "its stream ID matches nothing at this port",
            Self::Full => "as many as `max-callers` are connected already",
            Self::Taken => "another publisher is connected",
            Self::Protocol(words) => words,
            Self::Malformed => "its stream ID is not #!::u=SUBSCRIBER,r=FLOW/ENTITLEMENT",
            Self::UnknownSubscriber => "there is no such subscriber",
            Self::UnknownEntitlement => "there is no such flow or entitlement",
            Self::NotEntitled => "the entitlement does not list this subscriber",
            Self::Disabled(words) => words,
            Self::Expired => "the entitlement has expired",
            Self::Sessions => "as many as `max-sessions` are connected already",
            Self::Bitrate => "it would get more than its `max-bitrate`",
        }
    }

    /// Of a caller from this address; `disconnect` ends a connection.
    fn help(&self, address: &str, stream_id: Option<&str>, disconnect: &str) -> String {
        match self {
            Self::Address => format!("If it is right, add {address} to `allow` here."),
            Self::WrongPassphrase => {
                "Compare the caller's passphrase with the file that `passphrase-file` names here, letter by letter; while \
                 keys are changed, list both in `passphrase-files`."
                    .into()
            }
            Self::NoPassphrase => "Set the passphrase on the caller, or remove `passphrase-file` here.".into(),
            Self::PassphraseUnexpected => "Set `passphrase-file` here, or remove the passphrase on the caller.".into(),
            Self::StreamId => match stream_id {
                Some(id) => format!("It called with stream ID {id:?}: change it on the caller, or `stream-id` here."),
                None => "It called without a stream ID: set one on the caller, or remove `stream-id` here.".into(),
            },
            Self::Full => {
                format!("Raise `max-callers` of this output, or end a connection with `{disconnect}`.")
            }
            Self::Taken => format!("Stop one of the two senders; `{disconnect}` ends the one that is connected."),
            Self::Malformed => "Set the stream ID of the caller to #!::u=SUBSCRIBER,r=FLOW/ENTITLEMENT,m=request.".into(),
            Self::UnknownSubscriber => {
                "Mend the name after `u=` at the caller, or write a file of that name into subscribers.d.".into()
            }
            Self::UnknownEntitlement => {
                "Mend FLOW/ENTITLEMENT after `r=` at the caller, or add the entitlement to the flow.".into()
            }
            Self::NotEntitled => "If it shall have it, add it to `subscribers` of this entitlement.".into(),
            Self::Disabled(_) => "If it shall have it, enable what is disabled, or start the flow.".into(),
            Self::Expired => "If it shall have it for longer, change `expires` of this entitlement.".into(),
            Self::Sessions => {
                format!("Raise `max-sessions` of the entitlement or of the subscriber, or end a session with `{disconnect}`.")
            }
            Self::Bitrate => "Raise or remove `max-bitrate` of the subscriber.".into(),
            Self::Protocol(_) => {
                "The caller must be SRT 1.3 or later in live mode, without groups, packet filter or AES-GCM.".into()
            }
        }
    }
}

/// A caller that was turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// By which flow.
    pub flow: FlowName,
    /// From where.
    pub address: String,
    /// Why.
    pub why: Refusal,
    /// What it called with.
    pub stream_id: Option<String>,
    /// How often.
    pub times: u64,
    /// Others were turned away lately, or for other reasons.
    pub others: bool,
    /// The number of the publisher that is connected.
    pub publisher: Option<u64>,
}

impl Refused {
    /// `3 calls from 203.0.113.7 refused: wrong passphrase`
    pub(super) fn words(&self) -> String {
        let Self { address, why, times, others, .. } = self;
        let others = if *others { " (others too: see status)" } else { "" };
        format!("{} from {address} refused: {}{others}", count(*times, "call"), why.words())
    }

    pub(super) fn help(&self) -> String {
        let peer = self.publisher.map_or_else(|| "PEER".to_owned(), |number| number.to_string());
        let disconnect = format!("mediaconnectctl disconnect {} {peer}", self.flow);
        self.why.help(&self.address, self.stream_id.as_deref(), &disconnect)
    }
}

/// Why a call comes to nothing, by what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallTrouble {
    /// The name has no address.
    Name,
    /// Nobody answers.
    NoAnswer,
    /// The other end of a rendezvous does not answer.
    NoRendezvous,
    /// Somebody answers, and does not come to the end.
    Unfinished,
    /// The passphrases differ.
    WrongPassphrase,
    /// The other end has a passphrase, and this one has none.
    NoPassphrase,
    /// This end has a passphrase, and the other one has none.
    PassphraseUnexpected,
    /// The other end does not know the stream ID.
    StreamId,
    /// The other end does not want this address or user.
    Forbidden,
    /// The other end has as many as it wants, or another one for the same.
    Busy,
    /// The other end does not want this stream, for a reason of its own.
    Refused,
    /// The two ends do not speak the same.
    Protocol,
    /// The other appliance knows no such subscriber.
    UnknownSubscriber,
    /// The other appliance has no such flow or entitlement.
    UnknownEntitlement,
    /// The other appliance does not let the subscriber have it: it is for others, disabled or expired, or the address is
    /// not allowed.
    NotEntitled,
    /// As many sessions as may be are there, or the subscriber would get more than it may.
    Sessions,
    /// The other end is no port for entitlements.
    NoEntitlements,
    /// It was connected, and the connection ended.
    Ended,
}

impl CallTrouble {
    fn help(self, remote: &str) -> String {
        let port = port(remote);
        match self {
            Self::Name => {
                format!("Try `getent hosts {}` on this host, or write an address; it is called again.", host(remote))
            }
            Self::NoAnswer => format!(
                "Check that a listener is on at {remote} and that firewalls let UDP port {port} through, both ways; it is \
                 called again."
            ),
            Self::NoRendezvous => format!(
                "Check that the other end calls too: in rendezvous mode, from its port {port} to the port that `bind` has \
                 here, which firewalls must let through both ways; it is called again."
            ),
            Self::Unfinished => {
                "Ask at the other end for its log: it answers, but does not let this call in; it may be serving another \
                 one. It is called again."
                    .into()
            }
            Self::WrongPassphrase => {
                "Compare the file that `passphrase-file` names here with the other end's passphrase, letter by letter; it \
                 is called again, with the next of `passphrase-files` if there are several."
                    .into()
            }
            Self::NoPassphrase => "Set `passphrase-file` here to the other end's passphrase; it is called again.".into(),
            Self::PassphraseUnexpected => {
                "Remove `passphrase-file` here, or set the passphrase at the other end; it is called again.".into()
            }
            Self::StreamId => {
                "Set `stream-id` here to what the other end expects, or ask there for its log; it is called again.".into()
            }
            Self::Forbidden => {
                "Let the other end allow this host's address, and the user in `stream-id`; it is called again.".into()
            }
            Self::Busy => {
                "Another caller is there, or too many: end one at the other end, or raise its limit; it is called again."
                    .into()
            }
            Self::Refused => "Ask at the other end for its log: it does not want this call; it is called again.".into(),
            Self::Protocol => {
                "The other end must be SRT 1.3 or later in live mode, without packet filter and AES-GCM.".into()
            }
            Self::UnknownSubscriber => {
                "Set `subscriber` here to the name that the other appliance has in its subscribers.d; it is called again."
                    .into()
            }
            Self::UnknownEntitlement => {
                "Set `entitlement` here to FLOW/NAME as it is at the other appliance; it is called again.".into()
            }
            Self::NotEntitled => {
                "Let the other appliance allow this host's address in the subscriber's file, list the subscriber in the \
                 entitlement, and see that neither is disabled or expired; its log says which. It is called again."
                    .into()
            }
            Self::Sessions => {
                "Another session is there: end it, or let the other appliance raise `max-sessions` (or `max-bitrate` of the \
                 subscriber); it is called again."
                    .into()
            }
            Self::NoEntitlements => {
                format!("Check that {remote} is the port of [entitlements] of the other appliance; it is called again.")
            }
            Self::Ended => "It is called again by itself.".into(),
        }
    }
}

impl Condition {
    /// Of the conditions about SRT.
    pub(super) fn srt_code(&self) -> Option<&'static str> {
        Some(match self {
            Self::SrtNobody { output: false, .. } => "srt-no-caller",
            Self::SrtNobody { output: true, .. } => "srt-no-receiver",
            Self::SrtCallersRefused { .. } => "srt-callers-refused",
            Self::SrtRefused { .. } => "srt-refused",
            Self::SrtNotConnected { output: false, .. } => "srt-not-connected",
            Self::SrtNotConnected { output: true, .. } => "srt-output-not-connected",
            Self::SrtNoData { .. } => "srt-no-data",
            Self::SrtUndecrypted { .. } => "srt-undecrypted",
            Self::SrtLatencyLow { .. } => "srt-latency-low",
            Self::SrtDropped { .. } => "srt-dropped",
            Self::SrtLost { .. } => "source-lost",
            _ => return None,
        })
    }

    /// Of the conditions about SRT.
    pub(super) fn srt_severity(&self) -> Option<Severity> {
        Some(match self {
            Self::SrtNobody { output: false, .. }
            | Self::SrtCallersRefused { .. }
            | Self::SrtNotConnected { output: false, .. }
            | Self::SrtNoData { .. }
            | Self::SrtUndecrypted { .. }
            | Self::SrtLost { .. } => Severity::Critical,
            Self::SrtNotConnected { output: true, .. } | Self::SrtRefused { .. } | Self::SrtLatencyLow { .. } => {
                Severity::Major
            }
            Self::SrtDropped { .. } => Severity::Minor,
            Self::SrtNobody { output: true, .. } => Severity::Info,
            _ => return None,
        })
    }

    pub(super) fn srt_message(&self) -> Option<String> {
        let (part, words) = (self.srt_part()?, self.srt_words()?);
        Some(match self {
            Self::SrtLost { silent_for, bitrate_bps, .. } => {
                format!("source {part}: lost for {}, {} before: {words}", span(*silent_for), rate(*bitrate_bps))
            }
            _ => format!("{part}: {words}"),
        })
    }

    fn srt_part(&self) -> Option<&str> {
        match self {
            Self::SrtNobody { part, .. }
            | Self::SrtCallersRefused { part, .. }
            | Self::SrtRefused { part, .. }
            | Self::SrtNotConnected { part, .. }
            | Self::SrtNoData { part, .. }
            | Self::SrtUndecrypted { part, .. }
            | Self::SrtLatencyLow { part, .. }
            | Self::SrtDropped { part, .. } => Some(part),
            Self::SrtLost { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Without whose condition it is.
    fn srt_words(&self) -> Option<String> {
        Some(match self {
            Self::SrtNobody { output, bind, silent_for, last, .. } => {
                let silent = span(*silent_for);
                match (output, last) {
                    (true, _) => format!("no receiver is connected to {bind}, for {silent}"),
                    (false, None) => format!("nobody called {bind} in {silent}"),
                    (false, Some((peer, why))) => {
                        format!("the connection of {peer} ended ({why}), and nobody called {bind} in {silent}")
                    }
                }
            }
            Self::SrtCallersRefused { refused, .. } => format!("nobody is connected, and {}", refused.words()),
            Self::SrtRefused { refused, .. } => refused.words(),
            Self::SrtNotConnected { remote, why, tries, .. } => {
                let tries = if *tries > 0 { format!(" ({})", count(*tries, "attempt")) } else { String::new() };
                format!("no connection to {remote}: {why}{tries}")
            }
            Self::SrtNoData { peer, silent_for, .. } => {
                format!("{peer} is connected and has sent no media for {}", span(*silent_for))
            }
            Self::SrtUndecrypted { peer, packets, .. } => {
                format!("{} of {peer} could not be decrypted", count(*packets, "packet"))
            }
            Self::SrtLatencyLow { peer, latency, rtt, dropped, others, .. } => format!(
                "{} came too late: the latency of {} is only {:.1} round trips of {} to {peer}{}",
                count(*dropped, "packet"),
                millis(*latency),
                latency.as_secs_f64() / rtt.as_secs_f64().max(1e-6),
                millis(*rtt),
                and_others(*others),
            ),
            Self::SrtDropped { peer, latency, rtt, dropped, others, .. } => format!(
                "{} came too late, though the latency of {} is {:.1} round trips of {} to {peer}{}",
                count(*dropped, "packet"),
                millis(*latency),
                latency.as_secs_f64() / rtt.as_secs_f64().max(1e-6),
                millis(*rtt),
                and_others(*others),
            ),
            Self::SrtLost { of, .. } => of.srt_words()?,
            _ => return None,
        })
    }

    pub(super) fn srt_help(&self) -> Option<String> {
        Some(match self {
            Self::SrtNobody { output: true, .. } => {
                "This is fine if no receiver is to be there; else let it call, as SRT caller.".into()
            }
            Self::SrtNobody { output: false, bind, .. } => format!(
                "Check that the sender is on, and calls port {} of this host as SRT caller; `tcpdump -ni any udp port {}` \
                 shows whether it reaches this host.",
                port(bind),
                port(bind)
            ),
            Self::SrtCallersRefused { refused, .. } | Self::SrtRefused { refused, .. } => refused.help(),
            Self::SrtNotConnected { remote, trouble, .. } => trouble.help(remote),
            Self::SrtNoData { .. } => {
                "Check that the sender has something to send: its encoder or its own source may have stopped.".into()
            }
            Self::SrtUndecrypted { flow, number, .. } => format!(
                "The sender and this end have lost each other's keys: end the connection with `mediaconnectctl disconnect \
                 {flow} {number}`; the next one has fresh keys."
            ),
            Self::SrtLatencyLow { part, rtt, .. } => {
                let kind = part.split(' ').next().unwrap_or("source");
                format!(
                    "Set `latency = \"{}\"` or more on this {kind}: it takes four round trips to bring back what is lost.",
                    millis(latency_for(*rtt))
                )
            }
            Self::SrtDropped { .. } => {
                "The path was interrupted for longer than the latency, or carries less than the stream's rate: look at \
                 its bandwidth and at `packets-retransmitted` in status; a higher `latency` bridges longer gaps."
                    .into()
            }
            Self::SrtLost { of, .. } => of.srt_help()?,
            _ => return None,
        })
    }
}

fn and_others(others: usize) -> String {
    if others > 0 { format!(", and likewise of {}", count(others as u64, "other peer")) } else { String::new() }
}

/// What brings back what is lost: four round trips, rounded up to 10 ms, within what may be configured.
pub(super) fn latency_for(rtt: Duration) -> Duration {
    let wanted = u64::try_from((rtt * 4).as_micros()).unwrap_or(u64::MAX).div_ceil(10_000) * 10;
    Duration::from_millis(wanted.clamp(20, 30_000))
}

/// As configuration has it; below 10 ms with a decimal.
pub(super) fn millis(time: Duration) -> String {
    if time >= Duration::from_millis(10) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.1}ms", time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_refusals_are_told_apart() {
        let all = [
            Refusal::Address,
            Refusal::WrongPassphrase,
            Refusal::NoPassphrase,
            Refusal::PassphraseUnexpected,
            Refusal::StreamId,
            Refusal::Full,
            Refusal::Taken,
            Refusal::Protocol("groups (bonding) do not match".into()),
        ];
        let codes: Vec<_> = all.iter().map(Refusal::code).collect();
        assert_eq!(codes, Refusal::CODES);
        for refusal in &all {
            let (words, help) = (refusal.words(), refusal.help("203.0.113.7", None, ""));
            assert!(!words.is_empty() && !words.ends_with('.'), "{words}");
            assert!(help.ends_with('.') && !help.contains("  "), "{help}");
        }
        assert!(Refusal::Address.help("203.0.113.7", None, "").contains("add 203.0.113.7 to `allow`"));
        assert!(Refusal::StreamId.help("", Some("live/1"), "").contains("stream ID \"live/1\""));
        assert!(Refusal::StreamId.help("", None, "").contains("without a stream ID"));
    }

    #[test]
    fn the_latency_to_set_is_four_round_trips_rounded_up() {
        let for_rtt = |us| millis(latency_for(Duration::from_micros(us)));
        assert_eq!(for_rtt(100_000), "400ms");
        assert_eq!(for_rtt(100_001), "410ms");
        assert_eq!(for_rtt(48_200), "200ms");
        assert_eq!(for_rtt(100), "20ms", "as little as may be set");
        assert_eq!(for_rtt(10_000_000), "30000ms", "as much as may be set");
    }

    #[test]
    fn every_trouble_of_a_call_has_a_next_step() {
        use CallTrouble as T;
        let all = [
            T::Name,
            T::NoAnswer,
            T::NoRendezvous,
            T::Unfinished,
            T::WrongPassphrase,
            T::NoPassphrase,
            T::PassphraseUnexpected,
            T::StreamId,
            T::Forbidden,
            T::Busy,
            T::Refused,
            T::Protocol,
            T::UnknownSubscriber,
            T::UnknownEntitlement,
            T::NotEntitled,
            T::Sessions,
            T::NoEntitlements,
            T::Ended,
        ];
        for trouble in all {
            let help = trouble.help("ingest.example.net:5000");
            assert!(help.ends_with('.') && help.len() > 20 && !help.contains("  "), "{trouble:?}: {help}");
        }
        assert!(T::Name.help("ingest.example.net:5000").contains("`getent hosts ingest.example.net`"));
    }
}
