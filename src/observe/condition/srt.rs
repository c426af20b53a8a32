//! The words of conditions about connections by SRT.

use std::time::Duration;

use super::{Condition, Severity, count, port, span};

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
}

impl Refusal {
    /// In words, to stand after "refused:".
    pub fn words(&self) -> &str {
        match self {
            Self::Address => "its address is not in `allow`",
            Self::WrongPassphrase => "its passphrase is wrong",
            Self::NoPassphrase => "it has no passphrase, and one is required",
            Self::PassphraseUnexpected => "it has a passphrase, and none is set here",
            Self::StreamId => "its stream ID matches nothing at this port",
            Self::Full => "`max-callers` are connected already",
            Self::Taken => "another publisher is connected",
            Self::Protocol(words) => words,
        }
    }

    /// Of a caller from this address.
    fn help(&self, address: &str, stream_id: Option<&str>) -> String {
        match self {
            Self::Address => format!("If it is right, add {address} to `allow` here."),
            Self::WrongPassphrase => {
                "Compare the passphrase of the caller with the file that `passphrase-file` names, letter by letter; while \
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
                "Raise `max-callers` of this output, or end one with `mediaconnectctl disconnect FLOW PEER`.".into()
            }
            Self::Taken => {
                "Stop one of the two senders; `mediaconnectctl disconnect FLOW PEER` ends the one that is connected.".into()
            }
            Self::Protocol(_) => {
                "The caller must be SRT 1.3 or later in live mode, without groups, packet filter or AES-GCM.".into()
            }
        }
    }
}

/// Why a call comes to nothing, by what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallTrouble {
    /// Nobody answers, or the name has no address.
    Unreachable,
    /// The passphrases differ, or only one end has one.
    Passphrase,
    /// The other end does not want this stream, or nobody more.
    Refused,
    /// The two ends do not speak the same.
    Protocol,
    /// It was connected, and the connection ended.
    Ended,
}

impl Condition {
    /// Of the conditions about SRT.
    pub(super) fn srt_code(&self) -> Option<&'static str> {
        Some(match self {
            Self::SrtNobody { .. } => "srt-no-caller",
            Self::SrtRefused { .. } => "srt-refused",
            Self::SrtNotConnected { .. } => "srt-not-connected",
            Self::SrtNoData { .. } => "srt-no-data",
            Self::SrtLatencyLow { .. } => "srt-latency-low",
            Self::SrtUndecrypted { .. } => "srt-undecrypted",
            _ => return None,
        })
    }

    /// Of the conditions about SRT.
    pub(super) fn srt_severity(&self) -> Option<Severity> {
        Some(match self {
            Self::SrtNobody { output: false, .. } | Self::SrtNoData { .. } | Self::SrtUndecrypted { .. } => {
                Severity::Critical
            }
            Self::SrtNotConnected { output, .. } => {
                if *output {
                    Severity::Major
                } else {
                    Severity::Critical
                }
            }
            Self::SrtRefused { .. } | Self::SrtLatencyLow { .. } => Severity::Major,
            Self::SrtNobody { output: true, .. } => Severity::Info,
            _ => return None,
        })
    }

    pub(super) fn srt_message(&self) -> Option<String> {
        Some(match self {
            Self::SrtNobody { part, bind, silent_for, .. } => {
                format!("{part}: nobody is connected to {bind}, for {}", span(*silent_for))
            }
            Self::SrtRefused { part, address, why, times, .. } => {
                format!("{part}: {} from {address} refused: {}", count(*times, "call"), why.words())
            }
            Self::SrtNotConnected { part, remote, why, tries, .. } => {
                let tries = if *tries > 0 { format!(" ({})", count(*tries, "attempt")) } else { String::new() };
                format!("{part}: no connection to {remote}: {why}{tries}")
            }
            Self::SrtNoData { part, peer, silent_for } => {
                format!("{part}: {peer} is connected and has sent no media for {}", span(*silent_for))
            }
            Self::SrtLatencyLow { part, peer, latency, rtt, dropped } => format!(
                "{part}: {} given up as too late; the latency of {} is {:.1} round trips to {peer} ({} each)",
                count(*dropped, "packet"),
                span(*latency),
                latency.as_secs_f64() / rtt.as_secs_f64().max(1e-6),
                millis(*rtt)
            ),
            Self::SrtUndecrypted { part, packets } => {
                format!("{part}: {} could not be decrypted", count(*packets, "packet"))
            }
            _ => return None,
        })
    }

    pub(super) fn srt_help(&self) -> Option<String> {
        Some(match self {
            Self::SrtNobody { bind, .. } => format!(
                "Check that the other end is a caller and calls this host on port {}; `tcpdump -ni any udp port {}` shows \
                 whether it reaches this host.",
                port(bind),
                port(bind)
            ),
            Self::SrtRefused { address, why, stream_id, .. } => why.help(address, stream_id.as_deref()),
            Self::SrtNotConnected { remote, trouble, .. } => match trouble {
                CallTrouble::Unreachable => format!(
                    "Check that a listener is on at {remote} and that firewalls let UDP port {} through, both ways; it is \
                     called again.",
                    port(remote)
                ),
                CallTrouble::Passphrase => {
                    "Compare the passphrases of both ends, letter by letter, and that both have one; it is called again."
                        .into()
                }
                CallTrouble::Refused => {
                    "Ask at the other end for its log: it has said no to this address, stream ID or number of callers; it \
                     is called again."
                        .into()
                }
                CallTrouble::Protocol => {
                    "The other end must be SRT 1.3 or later in live mode, without packet filter and AES-GCM.".into()
                }
                CallTrouble::Ended => "It is called again by itself.".into(),
            },
            Self::SrtNoData { .. } => {
                "Check that the sender has something to send: its encoder or its own source may have stopped.".into()
            }
            Self::SrtLatencyLow { rtt, .. } => {
                let wanted = Duration::from_millis(u64::try_from((*rtt * 4).as_millis()).unwrap_or(u64::MAX).div_ceil(10) * 10);
                format!("Set `latency = \"{}\"` or more on one end: four round trips bring back what is lost.", millis(wanted))
            }
            Self::SrtUndecrypted { .. } => {
                "The sender and this end have lost each other's keys: end the connection with `mediaconnectctl disconnect \
                 FLOW PEER`, it begins anew with fresh ones."
                    .into()
            }
            _ => return None,
        })
    }
}

fn millis(time: Duration) -> String {
    if time >= Duration::from_millis(10) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.1}ms", time.as_secs_f64() * 1e3)
    }
}
