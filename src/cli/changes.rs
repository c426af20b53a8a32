//! `plan` and `reload`: what changes, in words.

use std::fmt::Write;

use super::Code;
use super::text::clean;
use crate::config::diagnostic::{Diagnostic, Level};
use crate::config::diff::{Action, Change, Effect, Kind};
use crate::supervisor::control::Outcome;

/// One line a change, one a touch.
pub(super) fn render(changes: &[Change]) -> String {
    let mut out = String::new();
    for change in changes {
        let of_subscribers = change.touches.iter().any(|touch| touch.kind == Kind::Subscriber);
        let whose = match change.flow.as_str() {
            "" if of_subscribers => "subscribers.d",
            "" => "mediaconnect.toml",
            flow => flow,
        };
        let action = match change.action {
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Change => "change",
            Action::Reject => "rejected, what runs goes on",
        };
        let _ = writeln!(out, "{}: {action}", clean(whose));
        for touch in &change.touches {
            let kind = match touch.kind {
                Kind::Flow => "flow",
                Kind::Source => "source",
                Kind::Output => "output",
                Kind::Entitlement => "entitlement",
                Kind::Subscriber => "subscriber",
                Kind::Daemon => "section",
            };
            let effect = match touch.effect {
                Effect::Open => "open",
                Effect::Close => "close",
                Effect::Reopen => "reopen",
                Effect::InPlace => "in place",
                Effect::Restart => "at the next restart of the daemon",
            };
            let name = if touch.name.is_empty() { String::new() } else { format!(" {}", clean(&touch.name)) };
            let because =
                if touch.because.is_empty() { String::new() } else { format!(" ({})", touch.because.join(", ")) };
            let _ = writeln!(out, "  {kind}{name}: {effect}{}", clean(&because));
        }
    }
    out
}

/// `FILE:LINE:COLUMN: error: MESSAGE`, a line each.
pub(super) fn render_diagnostics(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| d.line() + "\n").collect()
}

/// 1 where a file is rejected.
pub(super) fn code(outcome: &Outcome) -> Code {
    let rejected = outcome.diagnostics.iter().any(|d| d.severity == Level::Error)
        || outcome.changes.iter().any(|c| c.action == Action::Reject);
    if rejected { Code::No } else { Code::Yes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diff::Touch;

    fn touch(kind: Kind, name: &str, effect: Effect, because: &[&str]) -> Touch {
        Touch { kind, name: name.into(), effect, because: because.iter().map(|s| (*s).to_owned()).collect() }
    }

    fn error(line: usize, help: Option<&str>) -> Diagnostic {
        Diagnostic {
            severity: Level::Error,
            file: "/etc/mediaconnect/flows.d/news.toml".into(),
            line,
            column: 1,
            flow: Some("news".into()),
            message: "unknown key 'destinatoin'".into(),
            help: help.map(Into::into),
        }
    }

    #[test]
    fn a_plan_reads_as_what_happens_to_each_flow_and_why() {
        let changes = [
            Change {
                flow: String::new(),
                action: Action::Change,
                touches: vec![
                    touch(Kind::Daemon, "log", Effect::InPlace, &["level"]),
                    touch(Kind::Daemon, "limits", Effect::Restart, &["workers"]),
                ],
            },
            Change {
                flow: "news".into(),
                action: Action::Change,
                touches: vec![
                    touch(Kind::Source, "a", Effect::Reopen, &["bind", "interface"]),
                    touch(Kind::Output, "playout", Effect::InPlace, &["ttl"]),
                    touch(Kind::Output, "spare", Effect::Close, &[]),
                ],
            },
            Change { flow: "old".into(), action: Action::Stop, touches: vec![] },
            Change { flow: "broken".into(), action: Action::Reject, touches: vec![] },
        ];
        insta::assert_snapshot!(render(&changes), @r#"
            mediaconnect.toml: change
              section log: in place (level)
              section limits: at the next restart of the daemon (workers)
            news: change
              source a: reopen (bind, interface)
              output playout: in place (ttl)
              output spare: close
            old: stop
            broken: rejected, what runs goes on
            "#);
    }

    #[test]
    fn a_diagnostic_is_one_line() {
        let lines = render_diagnostics(&[error(14, Some("did you mean 'destination'?")), error(0, None)]);
        insta::assert_snapshot!(lines, @r#"
            /etc/mediaconnect/flows.d/news.toml:14:1: error: unknown key 'destinatoin'; did you mean 'destination'?
            /etc/mediaconnect/flows.d/news.toml: error: unknown key 'destinatoin'
            "#);
    }

    #[test]
    fn what_rejects_a_file_makes_the_exit_code_one() {
        let good = Outcome::default();
        assert_eq!(code(&good), Code::Yes);
        let warned = Diagnostic { severity: Level::Warning, ..error(1, None) };
        assert_eq!(code(&Outcome { diagnostics: vec![warned], ..Outcome::default() }), Code::Yes);
        assert_eq!(code(&Outcome { diagnostics: vec![error(1, None)], ..Outcome::default() }), Code::No);
        let reject = Change { flow: "a".into(), action: Action::Reject, touches: vec![] };
        assert_eq!(code(&Outcome { changes: vec![reject], ..Outcome::default() }), Code::No);
    }
}
