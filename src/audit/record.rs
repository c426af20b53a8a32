//! What is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::chain::hash;
use crate::observe::text::rfc3339;

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Record {
    /// The daemon has started.
    Start {
        /// Of the daemon.
        version: &'static str,
        /// The user that it runs as.
        uid: u32,
        /// Its process.
        pid: u32,
    },
    /// The daemon ends.
    Stop {
        /// SIGTERM or the like.
        why: String,
    },
    /// Configuration files were read, and what is new in them was applied or rejected.
    Apply {
        /// Counts the applies that changed something.
        generation: u64,
        /// File by file.
        files: Vec<FileChange>,
    },
    /// Somebody acted over the control socket, or was not let.
    Act {
        /// The user's name.
        by: String,
        /// The user.
        uid: u32,
        /// The process.
        pid: i32,
        /// As `mediaconnectctl` takes it.
        command: String,
        /// The flow that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        flow: Option<String>,
        /// Why it was refused; absent: it was done.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// A subscriber began to receive.
    SessionOpened {
        /// Who receives what.
        #[serde(flatten)]
        of: Session,
        /// What was agreed on.
        terms: String,
    },
    /// A subscriber receives no more.
    SessionClosed {
        /// Who received what.
        #[serde(flatten)]
        of: Session,
        /// Who ended it, and why.
        why: String,
        /// How long it lasted.
        seconds: u64,
        /// Sent, without what was sent again.
        bytes: u64,
    },
    /// Records could not be written for a while.
    Gap {
        /// How many.
        records: u64,
        /// When the first and the last of them were made, RFC 3339.
        from: String,
        /// The last.
        to: String,
        /// In the system's words.
        why: String,
    },
    /// The line before this one was never finished: the daemon or the machine ended while it was written.
    Torn {
        /// Of what is there of it.
        sha256: String,
    },
    /// The trail was gone when the daemon started, though records were written before.
    Missing {},
}

/// A subscriber's connection to an entitlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    /// The flow.
    pub flow: String,
    /// Of the flow.
    pub entitlement: String,
    /// Who receives.
    pub subscriber: String,
    /// Where.
    pub peer: SocketAddr,
}

/// A configuration file that is another now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileChange {
    /// Where it is.
    pub file: PathBuf,
    /// `applied`, `rejected` (what ran before goes on), or `removed`.
    pub result: &'static str,
    /// Of its bytes; absent: it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was written, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Key by key. Of a rejected one nothing: what is in it is not known to be no secret.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyChange>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl FileChange {
    /// A file with these bytes, and whose it is by what the system says now.
    pub fn of(file: &Path, result: &'static str, text: Option<&[u8]>) -> Self {
        let about = std::fs::metadata(file).ok().filter(|_| text.is_some());
        Self {
            file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
            result,
            sha256: text.map(hash),
            owner: about.as_ref().map(owner),
            modified: about.and_then(|about| about.modified().ok()).map(rfc3339),
            keys: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// The name of who owns a file, or `uid N`.
pub(crate) fn owner(about: &std::fs::Metadata) -> String {
    let uid = std::os::unix::fs::MetadataExt::uid(about);
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// A key that has another value now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyChange {
    /// With its tables: `outputs.playout.destination`.
    pub key: String,
    /// As TOML; absent: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// As TOML; absent: it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// In place of values that may hold a secret.
const HIDDEN: &str = "(not shown)";

/// The keys in which two texts in TOML differ. One that is none counts as empty.
pub fn changed_keys(old: &[u8], new: &[u8]) -> Vec<KeyChange> {
    let [old, new] = [old, new].map(|text| {
        let mut keys = BTreeMap::new();
        let text = std::str::from_utf8(text).unwrap_or_default();
        let table = text.trim_start_matches('\u{feff}').parse::<toml::Table>().unwrap_or_default();
        table.iter().for_each(|(key, value)| flatten(key, value, &mut keys));
        keys
    });
    let every: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |key: &String| KeyChange { key: key.clone(), old: shown(key, &old), new: shown(key, &new) };
    every.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(change).collect()
}

fn flatten(key: &str, value: &toml::Value, to: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            table.iter().for_each(|(name, value)| flatten(&format!("{key}.{name}"), value, to));
        }
        value => drop(to.insert(key.to_owned(), value.to_string())),
    }
}

/// A webhook's address may carry a token. Keys are in files, whose names are no secret.
fn shown(key: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let hidden = key.rsplit('.').next() == Some("webhook") || key.ends_with(".exec");
    values.get(key).map(|value| if hidden { HIDDEN.to_owned() } else { value.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_listed_with_both_values_and_no_secrets() {
        let old =
            b"description = \"a\"\n[sources.a]\nprotocol = \"srt-listener\"\nlatency = \"1s\"\n[outputs.x]\nttl = 3\n";
        let new = "\u{feff}description = \"a\"\n[sources.a]\nprotocol = \"srt-listener\"\npassphrase-file = \"k\"\n\
                   [notifiers.noc]\nwebhook = \"http://h/?token=Xylophon\"\n";
        let change = |key: &str, old: Option<&str>, new: Option<&str>| KeyChange {
            key: key.to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        };
        assert_eq!(
            changed_keys(old, new.as_bytes()),
            [
                change("notifiers.noc.webhook", None, Some(HIDDEN)),
                change("outputs.x.ttl", Some("3"), None),
                change("sources.a.latency", Some("\"1s\""), None),
                change("sources.a.passphrase-file", None, Some("\"k\"")),
            ]
        );
        assert_eq!(changed_keys(b"= nonsense", b""), []);
    }
}
