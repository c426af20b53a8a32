//! `check-health`: one line for Nagios and its kin, with performance data, and an exit code of their own (Monitoring
//! Plugins Development Guidelines).

use std::fmt::Write;
use std::process::ExitCode;

use super::client::{Client, flow_path};
use super::text::{clean, print, word};
use super::{Code, talk};
use crate::observe::status::{ConditionDoc, FlowDoc, FlowState, OutputState, OverviewDoc, RowDoc, Severity};
use crate::observe::text::{count, rate};

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Health {
    const fn of(state: FlowState, worst: Option<Severity>) -> Self {
        match (state, worst) {
            (FlowState::Error, _) | (_, Some(Severity::Critical)) => Self::Critical,
            (_, Some(Severity::Major | Severity::Minor)) => Self::Warning,
            (_, Some(Severity::Info) | None) => Self::Ok,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What is printed, and how the process ends.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    health: Health,
    text: String,
}

/// Ask, print, and say how it is. What can't be known is 3, and never looks like a state of a flow.
pub(super) fn run(client: &Client, flow: Option<&str>) -> ExitCode {
    let report = talk(async {
        match flow {
            Some(flow) => Ok(of_flow(&client.read(&flow_path(flow, &[])).await?)),
            None => Ok(of_all(&client.read("/v1/overview").await?)),
        }
    });
    let report = report.unwrap_or_else(|failure| {
        debug_assert!(failure.code != Code::Yes, "a failure is none");
        Report { health: Health::Unknown, text: line(Health::Unknown, &failure.message, &[], &[]) }
    });
    print(&report.text);
    ExitCode::from(report.health as u8)
}

/// `label`, value with its unit, and most; `None`: there is no most.
type Figure = (String, String, Option<usize>);

fn of_all(overview: &OverviewDoc) -> Report {
    let health = |row: &RowDoc| Health::of(row.state, row.worst.as_ref().map(|worst| worst.severity));
    let appliance = overview.conditions.first().map(|c| Health::of(FlowState::Active, Some(c.severity)));
    let worst = overview.flows.iter().map(health).chain(appliance).max().unwrap_or(Health::Ok);
    let all = overview.flows.len();
    let of = |wanted: Health| overview.flows.iter().filter(|row| health(row) == wanted).count();
    let (critical, warned) = (of(Health::Critical), of(Health::Warning));
    let state = |wanted: FlowState| overview.flows.iter().filter(|row| row.state == wanted).count();
    let mut said = format!("{}, {} active", count(all as u64, "flow"), state(FlowState::Active));
    for (n, what) in [(state(FlowState::Standby), "standby"), (critical, "critical"), (warned, "with warnings")] {
        if n > 0 {
            let _ = write!(said, ", {n} {what}");
        }
    }
    let mut details: Vec<String> = overview.conditions.iter().map(condition).collect();
    let mut ill: Vec<_> = overview.flows.iter().filter(|row| health(row) != Health::Ok).collect();
    ill.sort_by_key(|row| std::cmp::Reverse(health(row)));
    details.extend(ill.into_iter().map(|row| {
        let what = row.worst.as_ref().map_or_else(String::new, |worst| format!(": {}", worst.message));
        format!("{}: {}{what}", health(row).name(), row.name)
    }));
    let bps: u64 = overview.flows.iter().map(|row| row.bitrate_bps).sum();
    let lost: u64 = overview.flows.iter().map(|row| row.packets_unrecovered).sum();
    let part = |label: &str, n: usize| (label.to_owned(), n.to_string(), Some(all));
    let figures = [
        ("flows".to_owned(), all.to_string(), None),
        part("active", state(FlowState::Active)),
        part("critical", critical),
        part("warning", warned),
        part("stale", overview.flows.iter().filter(|row| row.stale).count()),
        ("bitrate_bps".to_owned(), bps.to_string(), None),
        ("packets_unrecovered".to_owned(), format!("{lost}c"), None),
    ];
    Report { health: worst, text: line(worst, &said, &figures, &details) }
}

fn of_flow(flow: &FlowDoc) -> Report {
    let health = Health::of(flow.state, flow.conditions.iter().map(|c| c.severity).min());
    let sending = flow.outputs.values().filter(|o| o.state == OutputState::Sending).count();
    let mut said = format!("{} {}", flow.name, word(flow.state));
    for (name, source) in &flow.sources {
        let _ = write!(said, ", source {name} {} {}", word(source.state), rate(source.bitrate_bps));
    }
    let _ = write!(said, ", {sending} of {} sending", count(flow.outputs.len() as u64, "output"));
    let mut figures = Vec::new();
    for (name, source) in &flow.sources {
        figures.push((format!("{name} bitrate_bps"), source.bitrate_bps.to_string(), None));
        figures.push((format!("{name} packets_lost"), format!("{}c", source.packets_lost), None));
        figures.push((format!("{name} packets_unrecovered"), format!("{}c", source.packets_unrecovered), None));
        let time = |label: &str, ms: f64| (format!("{name} {label}"), format!("{:.6}s", ms / 1e3), None);
        figures.extend(source.jitter_ms.map(|ms| time("jitter", ms)));
        figures.extend(source.round_trip_ms.map(|ms| time("round_trip", ms)));
    }
    figures.extend(
        flow.merge
            .as_ref()
            .map(|merge| ("packets_unrecovered".to_owned(), format!("{}c", merge.packets_unrecovered), None)),
    );
    figures.push(("outputs_sending".to_owned(), sending.to_string(), Some(flow.outputs.len())));
    let details: Vec<_> = flow.conditions.iter().map(condition).collect();
    Report { health, text: line(health, &said, &figures, &details) }
}

fn condition(condition: &ConditionDoc) -> String {
    format!("{}: {}", word(condition.severity), condition.message)
}

/// The worst stands in the first line, which is all that pages and text messages show.
fn line(health: Health, said: &str, figures: &[Figure], details: &[String]) -> String {
    let plain = |text: &str| clean(text).replace('|', "/");
    let mut out = format!("MEDIACONNECT {} - {}", health.name(), plain(said));
    if let Some(first) = details.first() {
        let _ = write!(out, "; {}", plain(first));
    }
    for (n, (label, value, most)) in figures.iter().enumerate() {
        let most = most.map_or_else(String::new, |most| format!(";{most}"));
        // Labels may have any characters but these two.
        let label = plain(label).replace(['\'', '='], "_");
        let _ = write!(out, "{}'{label}'={value};;;0{most}", if n == 0 { " | " } else { " " });
    }
    out.push('\n');
    for detail in details {
        out.push_str(&plain(detail));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_flow_is_as_bad_as_its_worst_condition() {
        use FlowState::{Active, Error, Standby, Starting};
        for (state, worst, health) in [
            (Active, None, Health::Ok),
            (Standby, Some(Severity::Info), Health::Ok),
            (Starting, None, Health::Ok),
            (Active, Some(Severity::Minor), Health::Warning),
            (Active, Some(Severity::Major), Health::Warning),
            (Active, Some(Severity::Critical), Health::Critical),
            (Error, None, Health::Critical),
        ] {
            assert_eq!(Health::of(state, worst), health, "{state:?} {worst:?}");
        }
    }

    #[test]
    fn a_flow_has_figures_of_each_source() {
        let report = of_flow(&sample::flow("twin"));
        assert_eq!(report.health, Health::Ok);
        assert_eq!(
            report.text,
            "MEDIACONNECT OK - twin active, source a receiving 20.0 Mbit/s, source b receiving 20.0 Mbit/s, 1 of 1 output \
             sending | 'a bitrate_bps'=20000000;;;0 'a packets_lost'=10c;;;0 'a packets_unrecovered'=1c;;;0 \
             'a jitter'=0.000400s;;;0 'b bitrate_bps'=20000000;;;0 'b packets_lost'=13c;;;0 \
             'b packets_unrecovered'=1c;;;0 'b jitter'=0.000400s;;;0 'packets_unrecovered'=1c;;;0 \
             'outputs_sending'=1;;;0;1\n"
        );
    }

    #[test]
    fn what_separates_performance_data_is_not_in_the_words() {
        let text =
            line(Health::Warning, "a|b", &[("it's=x|".to_owned(), "1".to_owned(), None)], &["c|d\ne".to_owned()]);
        assert_eq!(text, "MEDIACONNECT WARNING - a/b; c/d\u{fffd}e | 'it_s_x/'=1;;;0\nc/d\u{fffd}e\n");
    }
}
