//! The words of conditions about RIST.

use std::time::Duration;

use super::srt::{latency_for, millis};
use super::{Severity, count, port, span};

/// What is not as it should be of a source or output by RIST.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what their names say; `words` shows each in its sentence")]
pub enum RistTrouble {
    /// What arrives is of the other profile than this one.
    OtherProfile { profile: &'static str, packets: u64 },
    /// What the peer encrypts makes no sense with any passphrase.
    WrongPassphrase { packets: u64 },
    /// The peer has no passphrase, and this end has one.
    InClear { packets: u64 },
    /// The peer has a passphrase, and this end has none.
    Encrypted { packets: u64 },
    /// Media comes, and no RTCP of its sender: what is lost can't be asked for.
    NoControl { port: u16, since: Duration },
    /// Nothing is heard of a receiver.
    NoFeedback { destination: String, main: bool, since: Duration },
    /// Packets are lost for good, and the latency is short for the round trip.
    LatencyLow { latency: Duration, rtt: Duration, packets: u64 },
    /// Packets are lost for good, and the latency is long enough for the round trip.
    Unrecovered { latency: Duration, rtt: Duration, packets: u64 },
    /// A receiver asks for what is not kept any more.
    HistoryShort { latency: Duration, packets: u64 },
    /// A receiver asks for more than may be sent again.
    OverBudget { packets: u64 },
    /// The sender's timestamps are of no clock of 90 kHz.
    ClockUnusable,
}

impl RistTrouble {
    /// The stable word.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::OtherProfile { .. } => "rist-other-profile",
            Self::WrongPassphrase { .. } => "rist-wrong-passphrase",
            Self::InClear { .. } => "rist-in-clear",
            Self::Encrypted { .. } => "rist-encrypted",
            Self::NoControl { .. } => "rist-no-control",
            Self::NoFeedback { .. } => "rist-no-feedback",
            Self::LatencyLow { .. } => "rist-latency-low",
            Self::Unrecovered { .. } => "rist-unrecovered",
            Self::HistoryShort { .. } => "rist-history-short",
            Self::OverBudget { .. } => "rist-over-budget",
            Self::ClockUnusable => "rist-clock-unusable",
        }
    }

    /// How bad, of a source or an output.
    pub(super) const fn severity(&self, output: bool) -> Severity {
        match self {
            Self::OtherProfile { .. }
            | Self::WrongPassphrase { .. }
            | Self::InClear { .. }
            | Self::Encrypted { .. } => {
                // The media of an output leaves all the same.
                if output { Severity::Major } else { Severity::Critical }
            }
            Self::NoControl { .. } | Self::LatencyLow { .. } | Self::HistoryShort { .. } | Self::NoFeedback { .. } => {
                Severity::Major
            }
            Self::Unrecovered { .. } | Self::OverBudget { .. } | Self::ClockUnusable => Severity::Minor,
        }
    }

    /// Without whose condition it is.
    pub(super) fn words(&self) -> String {
        match self {
            Self::OtherProfile { profile, packets } => {
                let other = if *profile == "main" { "simple" } else { "main" };
                format!("{} of the {other} profile came, and `profile` is \"{profile}\"", count(*packets, "packet"))
            }
            Self::WrongPassphrase { packets } => {
                format!("{} could not be read: the peer has another passphrase", count(*packets, "packet"))
            }
            Self::InClear { packets } => {
                format!("{} came in clear: the peer has no passphrase, and one is set here", count(*packets, "packet"))
            }
            Self::Encrypted { packets } => {
                format!("{} came encrypted: the peer has a passphrase, and none is set here", count(*packets, "packet"))
            }
            Self::NoControl { port, since } => format!(
                "media has come for {} without any RTCP of its sender to port {port}: nothing that is lost can be asked for",
                span(*since)
            ),
            Self::NoFeedback { destination, since, .. } => {
                format!("nothing has been heard of a receiver at {destination} for {}", span(*since))
            }
            Self::LatencyLow { latency, rtt, packets } => format!(
                "{} lost for good: the latency of {} is only {:.1} round trips of {}",
                count(*packets, "packet"),
                millis(*latency),
                round_trips(*latency, *rtt),
                millis(*rtt)
            ),
            Self::Unrecovered { latency, rtt, packets } => format!(
                "{} lost for good, though the latency of {} is {:.1} round trips of {}",
                count(*packets, "packet"),
                millis(*latency),
                round_trips(*latency, *rtt),
                millis(*rtt)
            ),
            Self::HistoryShort { latency, packets } => format!(
                "{} asked for when no longer kept: the latency here is {}, that of the receiver is longer",
                count(*packets, "packet"),
                millis(*latency)
            ),
            Self::OverBudget { packets } => {
                format!("{} not sent again: more was asked for than half of what is sent", count(*packets, "packet"))
            }
            Self::ClockUnusable => {
                "the sender's timestamps are of no clock of 90 kHz: packets are released by their arrival, jitter and all"
                    .to_owned()
            }
        }
    }

    /// The next step.
    pub(super) fn help(&self, output: bool) -> String {
        let peer = if output { "receiver" } else { "sender" };
        match self {
            Self::OtherProfile { profile, .. } => {
                let other = if *profile == "main" { "simple" } else { "main" };
                format!("Set `profile = \"{other}\"` here, or \"{profile}\" on the {peer}.")
            }
            Self::WrongPassphrase { .. } => format!(
                "Compare the {peer}'s passphrase with the file that `passphrase-file` names here, letter by letter; while \
                 keys are changed, list both in `passphrase-files` of the source."
            ),
            Self::InClear { .. } => format!("Set the passphrase on the {peer}, or remove `passphrase-file` here."),
            Self::Encrypted { .. } => format!("Set `passphrase-file` here, or remove the passphrase on the {peer}."),
            Self::NoControl { port, .. } => format!(
                "Let UDP port {port} in to this host, on every firewall on the way; `tcpdump -ni any udp port {port}` shows \
                 whether it comes. A sender of plain RTP sends none: use `protocol = \"rtp\"` for it."
            ),
            Self::NoFeedback { destination, main, .. } => {
                let port = port(destination).parse::<u16>().map_or(0, |port| port.saturating_add(u16::from(!main)));
                let also = if *main { ", and that profile and passphrase are the same there" } else { "" };
                format!(
                    "Check that a receiver is on at {destination} and that firewalls let UDP port {port} through, both \
                     ways{also}."
                )
            }
            Self::LatencyLow { rtt, .. } => format!(
                "Set `latency = \"{}\"` or more on this source, and no less on the sender: it takes four round trips to \
                 bring back what is lost.",
                millis(latency_for(*rtt))
            ),
            Self::Unrecovered { .. } => {
                "The path was interrupted for longer than the latency, carries less than the stream's rate, or the sender \
                 keeps less than it is asked for: look at the path's bandwidth and at the sender's own buffer; a higher \
                 `latency` bridges longer gaps."
                    .into()
            }
            Self::HistoryShort { .. } => "Set `latency` of this output to the receiver's buffer, or more.".into(),
            Self::OverBudget { .. } => {
                "The path loses more than can be repaired: look at its bandwidth, or lower the stream's rate.".into()
            }
            Self::ClockUnusable => "Set the sender to RTP timestamps of 90 kHz, as MPEG-TS has them (RFC 2250).".into(),
        }
    }
}

fn round_trips(latency: Duration, rtt: Duration) -> f64 {
    latency.as_secs_f64() / rtt.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_a_code_words_and_a_next_step() {
        let (latency, rtt, since) = (Duration::from_millis(200), Duration::from_millis(90), Duration::from_secs(7));
        let destination = "192.0.2.7:5000".to_owned();
        let all = [
            RistTrouble::OtherProfile { profile: "main", packets: 3 },
            RistTrouble::WrongPassphrase { packets: 3 },
            RistTrouble::InClear { packets: 3 },
            RistTrouble::Encrypted { packets: 3 },
            RistTrouble::NoControl { port: 5001, since },
            RistTrouble::NoFeedback { destination, main: false, since },
            RistTrouble::LatencyLow { latency, rtt, packets: 3 },
            RistTrouble::Unrecovered { latency, rtt, packets: 3 },
            RistTrouble::HistoryShort { latency, packets: 3 },
            RistTrouble::OverBudget { packets: 3 },
            RistTrouble::ClockUnusable,
        ];
        let mut codes: Vec<_> = all.iter().map(RistTrouble::code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all.len());
        for trouble in &all {
            for output in [false, true] {
                let (words, help) = (trouble.words(), trouble.help(output));
                assert!(words.len() > 20 && !words.ends_with('.') && !words.contains("  "), "{words}");
                assert!(help.len() > 20 && help.ends_with('.') && !help.contains("  "), "{help}");
            }
        }
        assert!(all[5].help(true).contains("UDP port 5001"), "the port of RTCP");
        assert!(all[6].help(false).contains("`latency = \"360ms\"`"), "the figure to set");
        assert!(all[0].help(false).contains("\"simple\"` here"));
    }
}
