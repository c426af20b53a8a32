//! `explain`: what is wrong with a flow and what to do, or that all is well.

use std::fmt::Write;

use serde::Serialize;

use super::Code;
use super::status::legs;
use super::text::{Paint, Style, clean, word};
use crate::config::diagnostic::{Diagnostic, Level};
use crate::observe::status::{
    AirMode, AlarmDoc, ConditionDoc, FlowDoc, FlowState, OutputState, Severity, SourceState, StatusDoc,
};
use crate::observe::text::{count, rate};

/// The condition of a file that is rejected.
const REJECTED: &str = "config-rejected";

/// `explain --json`.
#[derive(Debug, Serialize)]
pub(super) struct Explained<'a> {
    flow: &'a str,
    healthy: bool,
    state: FlowState,
    /// The first sentence.
    summary: String,
    conditions: &'a [ConditionDoc],
    /// The operators' own that are raised: what the built-in ones tell is in `conditions`.
    alarms: Vec<&'a AlarmDoc>,
}

impl<'a> Explained<'a> {
    pub(super) fn of(flow: &'a FlowDoc) -> Self {
        let receiving = flow.sources.values().any(|s| s.on_air && s.state == SourceState::Receiving);
        // By a figure and a threshold; the built-in ones have neither.
        let alarms: Vec<_> = flow.alarms.iter().filter(|alarm| alarm.threshold.is_some()).collect();
        let mut severities = flow.conditions.iter().map(|c| c.severity).chain(alarms.iter().map(|a| a.severity));
        let wrong = severities.any(|severity| severity != Severity::Info);
        let healthy = flow.state == FlowState::Active && receiving && !wrong;
        let summary = if healthy { well(flow) } else { unwell(flow, wrong) };
        Self { flow: &flow.name, healthy, state: flow.state, summary, conditions: &flow.conditions, alarms }
    }

    /// Of one that has never run, by what [`rejected`] says of its file.
    pub(super) fn of_rejected(flow: &'a str, conditions: &'a [ConditionDoc]) -> Self {
        let summary = "has never run: its file is rejected".to_owned();
        Self { flow, healthy: false, state: FlowState::Error, summary, conditions, alarms: Vec::new() }
    }

    pub(super) fn code(&self) -> Code {
        if self.healthy { Code::Yes } else { Code::No }
    }

    pub(super) fn render(&self, style: Style) -> String {
        let paint = if self.healthy { Paint::Good } else { Paint::Bad };
        let mut out = format!("{}: {}\n", style.paint(paint, self.flow), clean(&self.summary));
        out.push_str(&conditions(self.conditions, style));
        out.push_str(&alarms(self.alarms.iter().copied(), style));
        out
    }
}

/// What is wrong with the file of a flow that has never run; none: no file of that name is rejected.
pub(super) fn rejected(flow: &str, status: &StatusDoc) -> Vec<ConditionDoc> {
    let of_flow = |d: &&Diagnostic| d.severity == Level::Error && d.flow.as_deref() == Some(flow);
    // Of all files together, as of the first one.
    let known = status.conditions.iter().find(|condition| condition.code == REJECTED);
    let since = known.map_or(&status.config.last_reload, |condition| &condition.since);
    let condition = |d: &Diagnostic| {
        let file = d.file.display();
        let hint = d.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
        ConditionDoc {
            code: REJECTED.to_owned(),
            severity: Severity::Critical,
            since: since.clone(),
            message: match d.line {
                0 => format!("{file}: {}{hint}", d.message),
                line => format!("{file}:{line}:{}: {}{hint}", d.column, d.message),
            },
            help: format!(
                "Mend the file, and it starts by itself; `mediaconnectctl check {file}` shows all of its faults."
            ),
        }
    };
    status.config.diagnostics.iter().filter(of_flow).map(condition).collect()
}

/// Each condition with its next step.
pub(super) fn conditions(conditions: &[ConditionDoc], style: Style) -> String {
    let mut out = String::new();
    for c in conditions {
        let severity = style.paint(Paint::of(c.severity), &word(c.severity));
        let _ = writeln!(out, "  {severity}, since {}: {}", clean(&c.since), clean(&c.message));
        if !c.help.is_empty() {
            let _ = writeln!(out, "    {}", clean(&c.help));
        }
    }
    out
}

/// Each alarm that is raised.
pub(super) fn alarms<'a>(alarms: impl IntoIterator<Item = &'a AlarmDoc>, style: Style) -> String {
    let mut out = String::new();
    for alarm in alarms {
        let part = alarm.source.as_ref().or(alarm.output.as_ref()).map_or(String::new(), |part| format!(" {part}"));
        let head = style.paint(Paint::of(alarm.severity), &format!("alarm {}{part}", alarm.name));
        let _ = writeln!(out, "  {head}, {}, since {}: {}", word(alarm.severity), alarm.since, clean(&alarm.message));
    }
    out
}

fn well(flow: &FlowDoc) -> String {
    let several = flow.failover.as_ref().is_some_and(|f| f.mode == AirMode::Failover);
    let received: Vec<String> = flow
        .sources
        .iter()
        .filter(|(_, s)| s.state == SourceState::Receiving)
        .map(|(name, s)| {
            let from = s.peers.first().map_or(String::new(), |p| format!(" from {}", p.address));
            let (packets, lost) = (count(s.packets, "packet"), s.packets_unrecovered);
            let role = if several && !s.on_air { " (standby)" } else { "" };
            format!("source {name}{role} receives {}{from}, {packets}, {lost} lost", rate(s.bitrate_bps))
        })
        .chain(flow.merge.as_ref().map(legs))
        .collect();
    format!("healthy; {}; {}", received.join("; "), outputs(flow))
}

fn outputs(flow: &FlowDoc) -> String {
    let sending = flow.outputs.values().filter(|o| o.state == OutputState::Sending).count();
    format!("{sending} of {} outputs sending", flow.outputs.len())
}

fn unwell(flow: &FlowDoc, told: bool) -> String {
    match flow.state {
        FlowState::Standby => "not running (standby)".to_owned(),
        FlowState::Starting if !told => "not running yet: its sockets are being opened".to_owned(),
        FlowState::Error if !told => "can't be opened; it is retried".to_owned(),
        _ if told => {
            let on_air = flow.failover.as_ref().and_then(|f| f.on_air.as_ref());
            let on_air = on_air.map_or(String::new(), |name| format!("; source {name} is on air"));
            let merged = flow.merge.as_ref().map_or(String::new(), |merge| format!("; {}", legs(merge)));
            format!("not healthy ({}){on_air}{merged}; {}", word(flow.state), outputs(flow))
        }
        _ => {
            let waits: Vec<String> = flow
                .sources
                .iter()
                .map(|(name, s)| format!("source {name} on {} is {}", s.bind, word(s.state)))
                .collect();
            format!("no media yet; {}", waits.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn a_healthy_flow_is_told_in_figures() {
        let flow = sample::flow("sport");
        let explained = Explained::of(&flow);
        assert_eq!(explained.code(), Code::Yes);
        insta::assert_snapshot!(explained.render(PLAIN), @r#"
            sport: healthy; source feed receives 40.0 Mbit/s from 10.0.0.5:4000, 9000 packets, 0 lost; 1 of 1 outputs sending
            "#);
    }

    #[test]
    fn an_unhealthy_flow_is_told_with_the_next_steps() {
        let flow = sample::flow("news");
        let explained = Explained::of(&flow);
        assert_eq!(explained.code(), Code::No);
        insta::assert_snapshot!(explained.render(PLAIN), @r#"
            news: not healthy (active); 1 of 2 outputs sending
              major, since 2026-03-01T09:41:07Z: output playout: 239.10.0.1:5000 can't be reached: network is unreachable, 812 packets dropped
                Try `ip route get 239.10.0.1`; it is retried.
              major, since 2026-03-01T09:30:00Z: /etc/mediaconnect/flows.d/news.toml:14:1: unknown key 'destinatoin'; the last good version runs
                Mend the file; `mediaconnectctl check /etc/mediaconnect/flows.d/news.toml` shows all of its faults.
            "#);
    }

    #[test]
    fn a_stopped_flow_is_told_with_who_stopped_it() {
        let flow = sample::flow("test-card");
        let explained = Explained::of(&flow);
        assert_eq!(explained.code(), Code::No);
        insta::assert_snapshot!(explained.render(PLAIN), @r#"
            test-card: not running (standby)
              info, since 2026-03-01T07:00:00Z: stopped by bob since 2026-03-01T07:00:00Z
                Start it with `mediaconnectctl start test-card`.
            "#);
    }

    #[test]
    fn a_flow_on_its_backup_is_told_with_the_reason() {
        let flow = sample::flow("backup");
        let explained = Explained::of(&flow);
        assert_eq!(explained.code(), Code::No);
        insta::assert_snapshot!(explained.render(PLAIN), @r#"
            backup: not healthy (active); source b is on air; 1 of 1 outputs sending
              major, since 2026-03-01T07:59:01Z: standby source a: lost for 1m 1s, 20.0 Mbit/s before
                The flow goes on without it. Check the sender and the network to it.
              minor, since 2026-03-01T07:59:00Z: source b is on air instead of the primary a since 2026-03-01T07:59:00Z: a was silent (gap 512 ms)
                `mediaconnectctl switch backup --clear` lets the flow choose by itself again.
              info, since 2026-03-01T08:00:00Z: source b was put on air by alice at 2026-03-01T08:00:00Z
                It stays there, also when it is silent, until `mediaconnectctl switch backup --clear`.
            "#);
    }

    #[test]
    fn a_healthy_merge_is_told_in_figures() {
        let flow = sample::flow("twin");
        let explained = Explained::of(&flow);
        assert_eq!(explained.code(), Code::Yes);
        insta::assert_snapshot!(explained.render(PLAIN), @r#"
            twin: healthy; source a receives 20.0 Mbit/s from 10.0.0.5:4000, 8990 packets, 1 lost; source b receives 20.0 Mbit/s from 10.0.1.5:4000, 8985 packets, 1 lost; merged from 2 legs, 12.5 ms apart, class B: 9000 packets, 1 lost; 1 of 1 outputs sending
            "#);
    }

    #[test]
    fn a_healthy_flow_names_the_source_on_standby() {
        let mut flow = sample::flow("backup");
        flow.conditions.clear();
        flow.sources.get_mut("a").unwrap().state = SourceState::Receiving;
        assert_eq!(Explained::of(&flow).code(), Code::Yes);
        insta::assert_snapshot!(Explained::of(&flow).render(PLAIN), @r#"
            backup: healthy; source a (standby) receives 0 bit/s from 10.0.0.5:4000, 8000 packets, 0 lost; source b receives 20.0 Mbit/s from 10.0.1.5:4000, 9000 packets, 2 lost; 1 of 1 outputs sending
            "#);
    }

    #[test]
    fn media_on_standby_alone_is_not_healthy() {
        let mut flow = sample::flow("backup");
        flow.conditions.clear();
        for source in flow.sources.values_mut() {
            source.state = if source.on_air { SourceState::Lost } else { SourceState::Receiving };
        }
        assert_eq!(Explained::of(&flow).code(), Code::No);
    }

    #[test]
    fn information_alone_leaves_a_flow_healthy() {
        let mut flow = sample::flow("sport");
        flow.conditions = sample::flow("test-card").conditions;
        assert_eq!(Explained::of(&flow).code(), Code::Yes);
    }

    #[test]
    fn a_flow_that_has_received_nothing_yet_is_not_called_healthy() {
        let mut flow = sample::flow("sport");
        for source in flow.sources.values_mut() {
            source.state = SourceState::Idle;
        }
        let explained = Explained::of(&flow);
        assert_eq!(explained.code(), Code::No);
        assert_eq!(explained.render(PLAIN), "sport: no media yet; source feed on :6000 is idle\n");
    }

    #[test]
    fn an_alarm_of_the_operators_own_is_told_and_counts() {
        let mut flow = sample::flow("sport");
        flow.alarms = vec![AlarmDoc {
            id: "1".to_owned(),
            name: "too-low".to_owned(),
            severity: Severity::Major,
            source: Some("feed".to_owned()),
            output: None,
            since: "2026-03-01T09:41:07Z".to_owned(),
            message: "bitrate of source feed is 40.0 Mbit/s, below 50.0 Mbit/s".to_owned(),
            value: Some(4e7),
            threshold: Some(5e7),
        }];
        assert_eq!(Explained::of(&flow).code(), Code::No);
        insta::assert_snapshot!(Explained::of(&flow).render(PLAIN), @r#"
            sport: not healthy (active); 1 of 1 outputs sending
              alarm too-low feed, major, since 2026-03-01T09:41:07Z: bitrate of source feed is 40.0 Mbit/s, below 50.0 Mbit/s
            "#);
    }

    #[test]
    fn what_a_built_in_alarm_tells_is_told_once_as_a_condition() {
        let mut flow = sample::flow("backup");
        let alarm = AlarmDoc {
            id: "1".to_owned(),
            name: "source-lost".to_owned(),
            severity: Severity::Major,
            source: Some("a".to_owned()),
            output: None,
            since: "2026-03-01T07:59:01Z".to_owned(),
            message: "nothing for 1m 1s".to_owned(),
            value: None,
            threshold: None,
        };
        flow.alarms = vec![alarm];
        let with = Explained::of(&flow).render(PLAIN);
        flow.alarms.clear();
        assert_eq!(with, Explained::of(&flow).render(PLAIN));
    }

    #[test]
    fn json_has_the_verdict_and_the_conditions() {
        let flow = sample::flow("news");
        let json = serde_json::to_value(Explained::of(&flow)).unwrap();
        assert_eq!((json["flow"].as_str(), json["healthy"].as_bool()), (Some("news"), Some(false)));
        assert_eq!(json["conditions"][0]["code"], "output-unreachable");
    }
}
