//! The words of conditions about several sources together, and about FEC.

use super::{Condition, Role, count, rfc3339, span};

impl Condition {
    pub(super) fn air_message(&self) -> String {
        match self {
            Self::Covered { role: Role::Standby, of } => format!("standby {}", of.message()),
            Self::Covered { role: Role::Leg, of } => format!("one leg of several, {}", of.message()),
            Self::FailoverSwitched { primary, on_air, at, why, gap, .. } => {
                let why = if why.is_empty() { String::new() } else { format!(": {why} (gap {} ms)", gap.as_millis()) };
                format!("source {on_air} is on air instead of the primary {primary} since {}{why}", rfc3339(*at))
            }
            Self::OperatorSwitch { source, by, since, .. } => {
                format!("source {source} was put on air by {by} at {}", rfc3339(*since))
            }
            Self::LegsNotIdentical { source } => {
                format!("source {source} is set aside: its packets are not those of the other legs (ST 2022-7)")
            }
            Self::LegUnmatched { source, window } => format!(
                "source {source}: none of its packets matches those of the other legs within the recovery window of {}",
                span(*window)
            ),
            Self::MergeDegraded { active, legs, idle } => format!(
                "{active} of {legs} legs {} part in the merge; not {}",
                if *active == 1 { "takes" } else { "take" },
                idle.join(", ")
            ),
            Self::LegTooLate { source, skew, window, late } => {
                let behind = match skew {
                    Some(skew) => format!("{} behind the other legs, more than", span(*skew)),
                    None => "further behind the other legs than".to_owned(),
                };
                let late = count(*late, "packet");
                format!("source {source}: {behind} the recovery window of {}; {late} too late", span(*window))
            }
            Self::ContentKeyWrong { source, parity, file } => {
                format!("source {source}: the {parity} key, {file}, is not the one that its content is encrypted with")
            }
            Self::ContentKeyMissing { source, packets, .. } => {
                format!("source {source}: {} encrypted with a key that is not there", count(*packets, "packet"))
            }
            Self::ContentWithheld { output, packets, all } => format!(
                "output {output}: {} withheld because no PMT names {}",
                count(*packets, "packet"),
                if *all { "anything" } else { "their PIDs" }
            ),
            Self::OutputUneven { output, packets, smoothing } => format!(
                "output {output}: {} came too unevenly for a smoothing of {}, and left at once",
                count(*packets, "packet"),
                span(*smoothing)
            ),
            Self::OutputLegFailed { output, destination, open: true } => {
                format!("output {output}: its leg to {destination} can't be reached; the other leg sends")
            }
            Self::OutputLegFailed { output, destination, open: false } => {
                format!(
                    "output {output}: its leg to {destination} has no address or interface yet; the other leg sends"
                )
            }
            Self::FecMissing { source, ports: [column, row] } => {
                format!("source {source}: media arrives, but no FEC on ports {column} (columns) and {row} (rows)")
            }
            Self::FecInvalid { source, kind, port, packets } => {
                format!("source {source}: {} on port {port}: not {kind} FEC, or of no use", count(*packets, "packet"))
            }
            Self::FecInsufficient { source, packets, columns: 0, .. } => {
                format!("source {source}: {} lost for good before FEC was known", count(*packets, "packet"))
            }
            Self::FecInsufficient { source, packets, columns, rows } => format!(
                "source {source}: {} lost for good, more than FEC of {columns} x {rows} brings back",
                count(*packets, "packet")
            ),
            _ => self.media_message(),
        }
    }

    pub(super) fn air_help(&self) -> String {
        match self {
            Self::Covered { of, .. } => match **of {
                Self::SourceSilent { .. } | Self::SourceLost { .. } => {
                    format!("The flow goes on without it. {}", of.sender_help())
                }
                _ => format!("The flow goes on without it. {}", of.help()),
            },
            Self::FailoverSwitched { flow, operator: true, .. } => {
                format!("`mediaconnectctl switch {flow} --clear` lets the flow choose by itself again.")
            }
            Self::FailoverSwitched { primary, returns: Some(hold), .. } if hold.is_zero() => {
                format!("It goes back by itself with the first data on {primary}.")
            }
            Self::FailoverSwitched { primary, returns: Some(hold), .. } => {
                format!("It goes back by itself once {primary} has been well for {}.", span(*hold))
            }
            Self::FailoverSwitched { flow, primary, returns: None, .. } => format!(
                "`return` is \"manual\": go back with `mediaconnectctl switch {flow} {primary}`, then \
                 `mediaconnectctl switch {flow} --clear`."
            ),
            Self::OperatorSwitch { flow, .. } => format!(
                "It stays there, also when it is silent, until `mediaconnectctl switch {flow} --clear`."
            ),
            Self::LegsNotIdentical { .. } | Self::LegUnmatched { .. } => {
                "Feed all legs from one RTP sender, or from senders that are synchronised to send identical packets (else \
                 set `mode = \"failover\"`); if this leg is merely late, raise `recovery-window` in [failover]."
                    .into()
            }
            Self::MergeDegraded { .. } => {
                "A loss on the legs that are left is no longer made up for; see the conditions of the others.".into()
            }
            Self::LegTooLate { skew, .. } => format!(
                "Raise `recovery-window` in [failover]{}, or shorten the way of the late leg.",
                skew.map_or(String::new(), |skew| format!(" to at least {}", span(skew.mul_f64(1.25))))
            ),
            Self::FecMissing { ports: [column, row], .. } => format!(
                "Check that the sender sends FEC, and to which ports: `tcpdump -ni any udp port {column} or udp port \
                 {row}`; set `fec-ports` to their offsets, or `protocol = \"rtp\"` if there is none."
            ),
            Self::ContentKeyWrong { file, .. } => format!(
                "Compare {file} with the sender's key, digit by digit; what comes is passed on as it was decrypted, and is of no use."
            ),
            Self::ContentKeyMissing { odd: true, .. } => {
                "Add `odd-key-file` with the sender's odd key to `decryption`; what it is needed for passes as it is.".into()
            }
            Self::ContentKeyMissing { odd: false, .. } => {
                "See that both key files of `decryption` can be read; what came without its key passes as it is.".into()
            }
            Self::ContentWithheld { all: true, .. } => {
                "Nothing leaves in clear before the tables are known: see that the source carries PAT and PMT.".into()
            }
            Self::ContentWithheld { all: false, .. } => {
                "What no table names would leave in clear: let the multiplexer name it in a PMT, or leave it out.".into()
            }
            Self::OutputUneven { .. } => {
                "Raise its `smoothing` above the jitter of the source, which `mediaconnectctl status FLOW` shows.".into()
            }
            Self::OutputLegFailed { open: true, .. } => {
                "Check the receiver and the network of that leg: a loss on the other is not made up for.".into()
            }
            Self::OutputLegFailed { open: false, .. } => {
                "Check the host name and the interface of that leg; it joins by itself as soon as both are there.".into()
            }
            Self::FecInvalid { .. } => "Check the ports that the sender sends FEC to, and set `fec-ports` to their \
                                        offsets from the media port: columns first, then rows."
                .into(),
            Self::FecInsufficient { .. } => {
                "FEC mends bursts up to its columns (L): let the sender use more of them, or rows too; or merge two legs."
                    .into()
            }
            _ => self.media_help(),
        }
    }

    /// What to do where nothing comes.
    fn sender_help(&self) -> String {
        match self {
            Self::SourceLost { .. } => "Check the sender and the network to it.".into(),
            _ => self.help(),
        }
    }
}
