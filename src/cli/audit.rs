//! `mediaconnectctl audit verify`: is the audit trail as it was written?

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::args::Places;
use super::client::Client;
use super::text::{Paint, Style, print};
use super::{Code, Failure, pretty, talk};
use crate::audit::{Anchor, HEAD_FILE, Head, Verdict, files, verify};
use crate::observe::event::AUDIT_HEAD_ID;
use crate::observe::status::StatusDoc;

/// Look at the trail, and compare it with what the state directory, the daemon, the journal and the caller know of it.
pub(super) fn run(places: &Places, known: &[Head], json: bool) -> Result<Code, Failure> {
    let mut anchors: Vec<_> = known.iter().map(|head| anchor("--head", head.clone())).collect();
    anchors.extend(from_state(&places.state));
    // What is written meanwhile is in the files, which are read afterwards.
    anchors.extend(from_daemon(&Client::new(places.socket())));
    anchors.extend(from_journal());
    let read = files(&places.log_dir).map_err(|error| Failure::new(Code::No, error.to_string()))?;
    if read.is_empty() {
        let message = format!("there is no audit trail in {}", places.log_dir.display());
        return Err(Failure::new(Code::No, message));
    }
    let verdict = verify(&read, &anchors);
    print(&if json { pretty(&json!(verdict)) } else { render(&verdict, &anchors, Style::of_stdout()) });
    Ok(if verdict.intact { Code::Yes } else { Code::No })
}

fn anchor(by: &str, head: Head) -> Anchor {
    Anchor { by: by.to_owned(), head }
}

fn from_state(state_dir: &Path) -> Option<Anchor> {
    let text = std::fs::read(state_dir.join(HEAD_FILE)).ok()?;
    Some(anchor("the state directory", serde_json::from_slice(&text).ok()?))
}

fn from_daemon(client: &Client) -> Option<Anchor> {
    let status: StatusDoc = talk(client.read("/v1/status")).ok()?;
    Some(anchor("the daemon", status.audit.head?))
}

/// All heads that the journal has; none where there is no journal, or it may not be read.
fn from_journal() -> Vec<Anchor> {
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--output=json", "--output-fields=MESSAGE", "--no-pager", "--quiet"]);
    let read = journalctl.arg(format!("MESSAGE_ID={AUDIT_HEAD_ID}")).stderr(Stdio::null()).output();
    let lines = read.map(|out| out.stdout).unwrap_or_default();
    String::from_utf8_lossy(&lines).lines().filter_map(of_journal).map(|head| anchor("the journal", head)).collect()
}

/// The head in a line of `journalctl --output=json`.
fn of_journal(line: &str) -> Option<Head> {
    let entry: Value = serde_json::from_str(line).ok()?;
    // A line that stands for others of its kind says so behind it.
    entry["MESSAGE"].as_str()?.split(' ').find_map(|word| word.parse().ok())
}

fn render(verdict: &Verdict, anchors: &[Anchor], style: Style) -> String {
    let mut out = String::new();
    for fault in &verdict.faults {
        let line = if fault.line > 0 { format!(":{}", fault.line) } else { String::new() };
        let _ = writeln!(out, "{}{line}: {}", fault.file.display(), style.paint(Paint::Bad, &fault.message));
    }
    if verdict.first > 1 {
        let _ = writeln!(out, "records before {} are in files that are not here", verdict.first);
    }
    for (by, count) in &verdict.confirmed {
        let _ = writeln!(out, "{by} bears out {count} of {}", anchors.iter().filter(|anchor| anchor.by == *by).count());
    }
    for (by, count) in &verdict.unrelated {
        let _ = writeln!(out, "{by} knows {count} of earlier files or other trails, which says nothing here");
    }
    if anchors.is_empty() {
        out.push_str("nothing else knows of this trail: a cut tail, or a trail written anew, would not show\n");
    }
    let head = verdict.head.as_ref().map(Head::to_string).unwrap_or_default();
    let _ = match verdict.intact {
        true => {
            writeln!(out, "{}: {} records, the last is {head}", style.paint(Paint::Good, "intact"), verdict.records)
        }
        false => writeln!(out, "{}: {} records", style.paint(Paint::Bad, "not intact"), verdict.records),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_in_what_journalctl_prints() {
        let head = format!("0123456789abcdef:12:{}", "ab".repeat(32));
        let line =
            format!(r#"{{"MESSAGE":"audit trail ends with {head} (3 more like it before, held back)","_PID":"7"}}"#);
        assert_eq!(of_journal(&line), Some(head.parse().unwrap()));
        for none in ["", "{}", r#"{"MESSAGE":[1,2]}"#, r#"{"MESSAGE":"audit trail ends with x"}"#] {
            assert_eq!(of_journal(none), None, "{none}");
        }
    }
}
