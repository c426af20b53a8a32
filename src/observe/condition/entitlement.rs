//! The words of conditions about entitlements, of a flow and of the appliance.

use std::path::PathBuf;
use std::time::SystemTime;

use super::{Refusal, Refused, Severity, count, port, rfc3339};
use crate::proto::srt::access::Access;

/// What is not as it should be with entitlements.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what their names say; `words` shows each in its sentence")]
pub enum EntitlementTrouble {
    /// Of a flow: somebody who called was turned away lately.
    Refused { entitlement: String, refused: Refused },
    /// Of a flow: its time is over.
    Expired { entitlement: String, since: SystemTime },
    /// Of a flow: there is no port at which subscribers could call, or it can't be opened.
    Unreachable { entitlements: usize, wanted: bool },
    /// The port can't be opened.
    Failed { bind: String, error: String },
    /// A subscriber's newer file was rejected, and the last good one counts; line 0: the file as a whole.
    Stale { file: PathBuf, line: usize, column: usize, message: String },
    /// What subscribers got can't be written.
    Unwritten { path: PathBuf, error: String },
}

impl EntitlementTrouble {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "entitlement-refused",
            Self::Expired { .. } => "entitlement-expired",
            Self::Unreachable { .. } => "entitlements-unreachable",
            Self::Failed { .. } => "entitlements-failed",
            Self::Stale { .. } => "subscriber-stale",
            Self::Unwritten { .. } => "accounts-unwritten",
        }
    }

    pub(super) const fn severity(&self) -> Severity {
        match self {
            Self::Failed { .. } | Self::Stale { .. } | Self::Unwritten { .. } => Severity::Major,
            Self::Refused { .. } | Self::Unreachable { .. } => Severity::Minor,
            Self::Expired { .. } => Severity::Info,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Refused { entitlement, refused } => format!("entitlement {entitlement}: {}", refused.words()),
            Self::Expired { entitlement, since } => {
                format!("entitlement {entitlement}: expired at {}", rfc3339(*since))
            }
            Self::Unreachable { entitlements, wanted } => {
                let why = if *wanted { "the port of [entitlements] is not open" } else { "there is no [entitlements]" };
                format!("{} can't be called for: {why}", count(*entitlements as u64, "entitlement"))
            }
            Self::Failed { bind, error } => format!("[entitlements] can't listen on {bind}: {error}"),
            Self::Stale { file, line: 0, message, .. } => {
                format!("{} is rejected, its last good version counts: {message}", file.display())
            }
            Self::Stale { file, line, column, message } => {
                format!("{}:{line}:{column}: {message}; the last good version counts", file.display())
            }
            Self::Unwritten { path, error } => {
                format!("what subscribers get can't be written to {}: {error}", path.display())
            }
        }
    }

    pub(super) fn help(&self) -> String {
        match self {
            Self::Refused { refused, .. } => help(refused),
            Self::Expired { .. } => "Change `expires` if it shall be had for longer, or remove the entitlement.".into(),
            Self::Unreachable { wanted: true, .. } => {
                "See the conditions of the appliance: `mediaconnectctl status`.".into()
            }
            Self::Unreachable { wanted: false, .. } => {
                "Add [entitlements] with bind = \":7000\" to mediaconnect.toml.".into()
            }
            Self::Failed { bind, .. } => format!(
                "See who holds the port with `ss -lunp sport = :{}`, or change `bind` in [entitlements]; it is retried.",
                port(bind)
            ),
            Self::Stale { file, .. } => {
                format!("Mend the file; `mediaconnectctl check {}` shows all of its faults.", file.display())
            }
            Self::Unwritten { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!(
                    "See `df {}`, and that user mediaconnect may write there; it is tried again every minute.",
                    folder.display()
                )
            }
        }
    }
}

/// What is wrong with a subscriber stands in its file, not in the flow's.
fn help(refused: &Refused) -> String {
    let access = refused.stream_id.as_deref().and_then(|id| Access::parse(id).ok().flatten());
    let Some(subscriber) = access.and_then(|access| access.user) else { return refused.help() };
    let file = format!("subscribers.d/{subscriber}.toml");
    match &refused.why {
        Refusal::Address => format!("If it is right, add {} to `allow` in {file}.", refused.address),
        Refusal::WrongPassphrase => format!(
            "Compare the caller's passphrase with the file that `passphrase-file` in {file} names, letter by letter; while \
             keys are changed, list both in `passphrase-files`."
        ),
        Refusal::NoPassphrase => format!("Set the passphrase on the caller whose file {file} names."),
        _ => refused.help(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_is_helped_by_the_file_of_the_subscriber() {
        let refused = |why| Refused {
            flow: "news".parse().unwrap(),
            address: "203.0.113.7".to_owned(),
            why,
            stream_id: Some("#!::u=acme,r=news/main".to_owned()),
            times: 1,
            others: false,
            publisher: None,
        };
        assert_eq!(
            help(&refused(Refusal::Address)),
            "If it is right, add 203.0.113.7 to `allow` in subscribers.d/acme.toml."
        );
        for why in [Refusal::WrongPassphrase, Refusal::NoPassphrase] {
            assert!(help(&refused(why.clone())).contains("subscribers.d/acme.toml"), "{why:?}");
        }
        assert_eq!(help(&refused(Refusal::NotEntitled)), refused(Refusal::NotEntitled).help());
    }
}
