//! The words of conditions about entitlements, of a flow and of the appliance.

use std::path::PathBuf;
use std::time::SystemTime;

use super::{Refused, Severity, count, port, rfc3339};

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
            Self::Refused { refused, .. } => refused.help(),
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
