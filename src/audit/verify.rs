//! Is the trail as it was written?

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::FILE;
use super::chain::{Head, Link, NONE, hash};
use super::writer::aside;

/// A head as somebody else knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Who.
    pub by: String,
    /// What.
    pub head: Head,
}

/// What is wrong with a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// In which file.
    pub file: PathBuf,
    /// In which line; 0: in none.
    pub line: usize,
    /// What.
    pub message: String,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// Nothing is wrong.
    pub intact: bool,
    /// How many there are.
    pub records: u64,
    /// The number of the first one; more than 1: earlier files are not here.
    pub first: u64,
    /// The last one.
    pub head: Option<Head>,
    /// In the order of the trail.
    pub faults: Vec<Fault>,
    /// Heads known elsewhere that the trail bears out, by who knows them.
    pub confirmed: BTreeMap<String, u64>,
    /// Heads known elsewhere that say nothing of what is here: of records that are in earlier files, or of other trails.
    pub unrelated: BTreeMap<String, u64>,
}

/// The files of a trail, in the order of their records.
///
/// # Errors
/// One can't be read.
pub fn files(log_dir: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let current = log_dir.join(FILE);
    let mut all = Vec::new();
    for path in aside(&current).chain(current.exists().then(|| current.clone())) {
        let text = fs::read(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let first = text.split(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice::<Link>(line).ok());
        // One without a record is at its place by its name alone: the one that is written to comes last.
        all.push((first.map_or(u64::MAX, |link| link.seq), path, text));
    }
    all.sort();
    Ok(all.into_iter().map(|(_, path, text)| (path, text)).collect())
}

/// Look at every line, and compare with what others know.
pub fn verify(files: &[(PathBuf, Vec<u8>)], anchors: &[Anchor]) -> Verdict {
    let mut walk = Walk::default();
    for (path, text) in files {
        let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
        let cut = lines.pop().filter(|rest| !rest.is_empty());
        for (number, line) in (1..).zip(&lines) {
            walk.line(path, number, line);
        }
        if let Some(rest) = cut {
            walk.fault(path, lines.len() + 1, "the last line has no end: it was cut, or is being written");
            walk.torn = Some(hash(rest));
        }
    }
    walk.finish(anchors)
}

#[derive(Default)]
struct Walk {
    verdict: Verdict,
    /// By number.
    hashes: BTreeMap<u64, String>,
    trail: String,
    seq: u64,
    /// Of the record before; empty: there is none.
    previous: String,
    /// Of a line that is no record: the next one must account for it.
    torn: Option<String>,
    place: PathBuf,
}

impl Walk {
    fn fault(&mut self, file: &Path, line: usize, message: impl Into<String>) {
        self.verdict.faults.push(Fault { file: file.to_owned(), line, message: message.into() });
    }

    fn line(&mut self, path: &Path, number: usize, line: &[u8]) {
        path.clone_into(&mut self.place);
        let Ok(link) = serde_json::from_slice::<Link>(line) else {
            if self.torn.replace(hash(line)).is_some() {
                self.fault(path, number, "it is no record");
            }
            return;
        };
        let Link { trail, seq, previous, kind, sha256 } = link;
        if self.torn.take().is_some_and(|torn| kind != "torn" || torn != sha256) {
            self.fault(path, number.saturating_sub(1), "it is no record, and the next one does not account for it");
        }
        if self.previous.is_empty() {
            self.verdict.first = seq;
            self.trail = trail;
            if seq == 1 && previous != NONE {
                self.fault(path, number, "it is the first record, and names one before it");
            }
        } else if trail != self.trail {
            self.fault(path, number, format!("another trail begins: {trail}"));
            self.hashes.clear();
            self.trail = trail;
        } else if seq != self.seq + 1 {
            let message = format!("record {seq} follows record {}: records were left out, put in, or moved", self.seq);
            self.fault(path, number, message);
        } else if previous != self.previous {
            let message = format!("record {} was changed: record {seq} names another hash of it", self.seq);
            self.fault(path, number, message);
        }
        self.seq = seq;
        self.previous = hash(line);
        self.hashes.insert(seq, self.previous.clone());
        self.verdict.records += 1;
    }

    fn finish(mut self, anchors: &[Anchor]) -> Verdict {
        let place = std::mem::take(&mut self.place);
        if self.torn.is_some() && self.verdict.faults.is_empty() {
            self.fault(&place, 0, "what is no record stands at the end");
        }
        for Anchor { by, head } in anchors {
            let about = |what: &str| format!("{by} knows record {} as {}: {what}", head.seq, head.hash);
            let known = self.hashes.get(&head.seq);
            if head.trail != self.trail || known.is_none() && head.seq < self.verdict.first {
                *self.verdict.unrelated.entry(by.clone()).or_default() += 1;
            } else if head.seq > self.seq {
                let message = about(&format!("the tail is cut, the trail ends with record {}", self.seq));
                self.fault(&place, 0, message);
            } else if known != Some(&head.hash) {
                self.fault(&place, 0, about("it was changed, or the trail was written anew"));
            } else {
                *self.verdict.confirmed.entry(by.clone()).or_default() += 1;
            }
        }
        if self.verdict.records > 0 {
            self.verdict.head = Some(Head { trail: self.trail, seq: self.seq, hash: self.previous });
        } else {
            self.verdict.faults.push(Fault { file: place, line: 0, message: "there are no records".to_owned() });
        }
        self.verdict.intact = self.verdict.faults.is_empty();
        self.verdict
    }
}
