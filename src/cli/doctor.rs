//! `mediaconnectctl doctor`: is this host fit for its flows, and if not, what makes it so? No daemon is needed.

mod checks;
mod host;
mod needs;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use self::host::Host;
use self::needs::Needs;
use super::args::Places;
use super::client::Client;
use super::text::{Paint, Style, clean, print, word};
use super::{Code, pretty, talk};
use crate::config::{Context, FlowFile, Loaded, load};
use crate::observe::status::FlowsDoc;
use crate::supervisor::resolve::RECEIVE_BUFFER;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// As it is needed.
    #[default]
    Ok,
    /// It can't be read here.
    Unknown,
    /// It may cost something.
    Warning,
    /// It does.
    Problem,
}

/// One thing that was looked at: "`subject` is `found`; `needed`".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    subject: String,
    /// As it is.
    found: String,
    /// What of the flows asks for it, and how much.
    needed: String,
    /// What comes of it; empty: all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// A command; empty: none helps.
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
}

/// Looks, prints, and says whether there is something to mend.
pub(super) fn run(places: &Places, json: bool) -> Code {
    let loaded = load(&places.config, &Context::default());
    let plans = loaded.flows.values().filter_map(|file| match file {
        FlowFile::Valid { plan, .. } => Some(&**plan),
        FlowFile::Rejected | FlowFile::Unreadable | FlowFile::Busy => None,
    });
    let desk = loaded.daemon.as_ref().and_then(|daemon| daemon.entitlements.as_ref());
    let host = Host::read(&places.socket());
    let mut findings = vec![configuration(&loaded)];
    findings.extend(checks::judge(&Needs::of(plans, desk), &host));
    let running = talk(async { Client::new(places.socket()).read::<FlowsDoc>("/v1/flows").await });
    findings.extend(running.ok().and_then(|flows| opened_before(&flows, host.receive_buffer)));
    let fine = findings.iter().all(|finding| finding.verdict < Verdict::Warning);
    print(&if json {
        pretty(&json!({ "ok": fine, "checks": findings }))
    } else {
        render(&findings, Style::of_stdout())
    });
    if fine { Code::Yes } else { Code::No }
}

/// Of a flow whose file is not understood nothing is known.
fn configuration(loaded: &Loaded) -> Finding {
    let valid = loaded.flows.values().filter(|file| matches!(file, FlowFile::Valid { .. })).count();
    let unknown = loaded.flows.len() - valid;
    let finding = Finding {
        check: "configuration",
        subject: "the configuration".to_owned(),
        found: match (valid, unknown) {
            (1, 0) => "1 flow".to_owned(),
            (valid, 0) => format!("{valid} flows"),
            (valid, unknown) => format!("{valid} flows, and {unknown} that can't be read"),
        },
        needed: "this is what they need".to_owned(),
        ..Finding::default()
    };
    if unknown == 0 && loaded.complete && loaded.daemon.is_some() {
        return finding;
    }
    let reason = "what is not read may need more".to_owned();
    Finding { verdict: Verdict::Warning, reason, fix: "mediaconnectctl check".to_owned(), ..finding }
}

/// Sockets that were opened before `net.core.rmem_max` was raised keep what they were granted.
fn opened_before(running: &FlowsDoc, most: Option<u64>) -> Option<Finding> {
    let enough = most.is_some_and(|most| most >= RECEIVE_BUFFER as u64);
    let small = |flow: &&_| has_small_buffer(flow);
    let flows: Vec<_> = running.flows.iter().filter(small).map(|flow| flow.name.as_str()).collect();
    let first = flows.first().filter(|_| enough)?;
    Some(Finding {
        check: "receive-buffer",
        verdict: Verdict::Warning,
        subject: format!("the buffer of {}", flows.join(", ")),
        found: "as it was before net.core.rmem_max was raised".to_owned(),
        needed: format!("its sources ask for {RECEIVE_BUFFER}"),
        reason: "a burst, or a moment without CPU, costs packets".to_owned(),
        fix: format!("mediaconnectctl restart {first}    # when it may be interrupted"),
    })
}

fn has_small_buffer(flow: &crate::observe::status::FlowDoc) -> bool {
    flow.conditions.iter().any(|condition| condition.code == "receive-buffer-small")
}

fn render(findings: &[Finding], style: Style) -> String {
    let mut out = String::new();
    for finding in findings {
        let paint = match finding.verdict {
            Verdict::Ok => Paint::Good,
            Verdict::Unknown => Paint::Plain,
            Verdict::Warning => Paint::Warn,
            Verdict::Problem => Paint::Bad,
        };
        let verdict = style.paint(paint, &format!("{:<8}", word(finding.verdict)));
        let Finding { subject, found, needed, reason, fix, .. } = finding;
        // Writing to a string does not fail.
        let _ = writeln!(out, "{verdict} {}", clean(&format!("{subject} is {found}; {needed}")));
        if !reason.is_empty() {
            let _ = writeln!(out, "         {}", clean(reason));
        }
        if !fix.is_empty() {
            let _ = writeln!(out, "         {} {}", style.paint(Paint::Strong, "fix:"), clean(fix));
        }
    }
    if findings.iter().any(|finding| finding.fix.starts_with("sysctl -w")) {
        out.push_str(
            "\nsysctl -w holds until the next boot. For good: put NAME = VALUE into a file of /etc/sysctl.d.\n",
        );
    }
    out
}
