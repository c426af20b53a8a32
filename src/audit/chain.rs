//! Lines that hold on to each other.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Record;
use crate::observe::text::rfc3339;

/// What the first record names as the one before it.
pub(super) const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// SHA-256 of a line without its end, or of a file, in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last record of a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which trail: drawn at random with its first record.
    pub trail: String,
    /// Counts the records, from 1.
    pub seq: u64,
    /// SHA-256 of its line, in hexadecimal digits.
    pub hash: String,
}

impl Head {
    /// Of a trail without records.
    pub(super) fn new(trail: String) -> Self {
        Self { trail, seq: 0, hash: NONE.to_owned() }
    }

    /// The line of the record that follows, without its end, and the head that it makes.
    ///
    /// # Errors
    /// Never: a record is always JSON.
    pub(super) fn next(&self, record: &Record, time: SystemTime) -> serde_json::Result<(String, Self)> {
        let seq = self.seq + 1;
        let Self { trail, hash: previous, .. } = self;
        let line = serde_json::to_string(&Line { trail, seq, time: rfc3339(time), previous, record })?;
        let hash = hash(line.as_bytes());
        Ok((line, Self { trail: trail.clone(), seq, hash }))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    trail: &'a str,
    seq: u64,
    time: String,
    previous: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

/// What of a line makes the chain.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Link {
    pub(super) trail: String,
    pub(super) seq: u64,
    pub(super) previous: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Of a record of type `torn`.
    #[serde(default)]
    pub(super) sha256: String,
}

/// A text that is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a head as the log shows it: TRAIL:NUMBER:HASH")]
pub struct HeadError;

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.trail, self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(s: &str) -> Result<Self, HeadError> {
        let [trail, seq, hash] = s.split(':').collect::<Vec<_>>().try_into().map_err(|_| HeadError)?;
        let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex(trail, 16) || !hex(hash, 64) {
            return Err(HeadError);
        }
        Ok(Self { trail: trail.to_owned(), seq: seq.parse().map_err(|_| HeadError)?, hash: hash.to_ascii_lowercase() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_shown() {
        let head = Head { trail: "0123456789abcdef".to_owned(), seq: 7, hash: hash(b"a line") };
        assert_eq!(head.to_string().parse(), Ok(head.clone()));
        for wrong in ["", "0123456789abcdef:7", &format!("{head}:x"), &format!("x{head}"), "0123456789abcdef:7:abc"] {
            assert_eq!(wrong.parse::<Head>(), Err(HeadError), "{wrong}");
        }
    }
}
