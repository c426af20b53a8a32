//! `[alarms.*]` of a flow or of all flows, and `[notifiers.*]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::key_file::key_file;
use super::keys::quoted;
use super::plan::{AlarmPlan, Builtin, Metric, NotifierPlan, PLAYPEN, Rule, Side, TrapPlan, Way};
use super::secrets::{Form, KeyName, Secrets};
use super::section::{At, Section, nearest};
use super::source::{Source, shown};
use super::value::{Destination, Url};
use crate::observe::status::Severity;

/// `for` where it is not written.
const HOLD: Duration = Duration::from_secs(10);

/// What alarms may name.
pub(super) struct Known<'a> {
    /// The alarms that those of the same name build on.
    pub(super) alarms: &'a BTreeMap<String, AlarmPlan>,
    /// The names of notifiers.
    pub(super) notifiers: &'a [&'a str],
    /// The file that defines notifiers is refused.
    pub(super) refused: bool,
}

/// `[alarms.*]`; those with an error are left out.
pub(super) fn alarms(source: &Source<'_>, root: &Section<'_, '_>, known: &Known<'_>) -> BTreeMap<String, AlarmPlan> {
    let mut plans = BTreeMap::new();
    for (name, s) in root.named("alarms") {
        s.refuse_unknown(None);
        let builtin = Builtin::ALL.into_iter().find(|builtin| builtin.name() == name);
        let rule = match builtin {
            Some(builtin) => {
                for key in ["metric", "below", "above"] {
                    if let Some(at) = s.key_span(key) {
                        let help = "give an alarm of your own another name".to_owned();
                        source.error(&at, format!("`{key}`: the alarm {name:?} is built in"), Some(help));
                    }
                }
                Some(Rule::Builtin(builtin))
            }
            None => rule(source, &s),
        };
        let default = builtin.and_then(|_| known.alarms.get(&name)).cloned();
        let hold = s.duration("for");
        let clear_after = s.duration("clear-after");
        let severity = s.choice("severity").map(severity);
        let notify = notify(source, &s, known);
        let enabled = s.flag("enabled");
        let Some(rule) = rule else { continue };
        let plan = match default {
            Some(default) => AlarmPlan {
                enabled: enabled.unwrap_or(default.enabled),
                rule,
                hold: hold.unwrap_or(default.hold),
                clear_after: clear_after.unwrap_or(default.clear_after),
                notify: notify.or(default.notify),
                severity: severity.unwrap_or(default.severity),
            },
            None => AlarmPlan {
                enabled: enabled.unwrap_or(true),
                rule,
                hold: hold.unwrap_or(HOLD),
                clear_after: clear_after.or(hold).unwrap_or(HOLD),
                notify,
                severity: severity.unwrap_or(Severity::Major),
            },
        };
        plans.insert(name, plan);
    }
    plans
}

/// The severity at this place of the list of words.
fn severity(place: usize) -> Severity {
    [Severity::Critical, Severity::Major, Severity::Minor, Severity::Info][place.min(3)]
}

fn rule(source: &Source<'_>, s: &Section<'_, '_>) -> Option<Rule> {
    if !s.has("metric") {
        s.missing("metric", "write metric = \"source-bitrate\"");
    }
    let sides = [("below", Side::Below), ("above", Side::Above)];
    match (s.has("below"), s.key_span("above")) {
        (true, Some(at)) => {
            source.error(&at, "`below` and `above` exclude each other", Some("make two alarms of it".into()));
            return None;
        }
        (false, None) => {
            let help = "write below = \"1M\", or above = 0".to_owned();
            source.missing(s.at(), format!("[{}] needs `below` or `above`", s.path()), Some(help));
        }
        _ => {}
    }
    let metric = Metric::at(s.choice("metric")?)?;
    let (key, wrong) = sides.into_iter().find(|(key, _)| s.has(key))?;
    Some(Rule::Metric { metric, wrong, threshold: s.threshold(key, metric.quantity())? })
}

fn notify(source: &Source<'_>, s: &Section<'_, '_>, known: &Known<'_>) -> Option<Vec<String>> {
    let names = s.text_list("notify")?;
    for At { value: name, span } in &names {
        if known.notifiers.contains(&name.as_str()) {
            continue;
        }
        let (problem, help) = match nearest(name, known.notifiers.iter().copied()) {
            _ if known.refused => ("cannot be looked up", "fix mediaconnect.toml first".to_owned()),
            Some(near) => ("is not defined in mediaconnect.toml", format!("did you mean {near:?}?")),
            None => ("is not defined in mediaconnect.toml", format!("add [notifiers.{name}] there")),
        };
        source.error(span, format!("`notify`: notifier {} {problem}", shown(name)), Some(help));
    }
    Some(names.into_iter().map(|name| name.value).collect())
}

/// What `[notifiers.*]` says.
pub(super) struct Notifiers {
    /// Without those that have an error.
    pub(super) plans: BTreeMap<String, NotifierPlan>,
    /// All that are written.
    pub(super) names: Vec<String>,
    /// A key that one names is being written.
    pub(super) waits: bool,
}

/// `[notifiers.*]`.
pub(super) fn notifiers(source: &Source<'_>, root: &Section<'_, '_>, secrets: &Secrets) -> Notifiers {
    let mut all = Notifiers { plans: BTreeMap::new(), names: Vec::new(), waits: false };
    for (name, s) in root.named("notifiers") {
        s.refuse_unknown(None);
        all.names.push(name.clone());
        let ways = ["webhook", "exec", "snmp-trap"];
        let written: Vec<_> = ways.into_iter().filter_map(|way| s.key_span(way)).collect();
        match written.as_slice() {
            [] => {
                let help = "write webhook = \"http://192.0.2.9:8080/hook\", exec = [\"/usr/local/bin/page\"], or snmp-trap = \
                            { target = \"192.0.2.9:162\", community-file = \"snmp\" }";
                source.missing(s.at(), format!("[{}] needs one of {}", s.path(), quoted(&ways)), Some(help.into()));
            }
            [_, second, ..] => {
                let help = "make a notifier of each".to_owned();
                let message = format!("[{}]: {} exclude each other", s.path(), quoted(&ways));
                source.error(second, message, Some(help));
                continue;
            }
            [_] => {}
        }
        let way =
            webhook(source, &s).or_else(|| exec(source, &s)).or_else(|| trap(source, &s, secrets, &mut all.waits));
        let enabled = s.flag("enabled").unwrap_or(true);
        let events = s.flag("events").unwrap_or(false);
        let timeout = s.duration("timeout").unwrap_or(Duration::from_secs(10));
        all.plans.extend(way.map(|way| (name, NotifierPlan { enabled, events, way, timeout })));
    }
    all
}

fn webhook(source: &Source<'_>, s: &Section<'_, '_>) -> Option<Way> {
    let At { value, span } = s.text("webhook")?;
    let authority = value.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    if authority.is_some_and(|authority| authority.contains('@')) {
        // It is not shown: what stands before the @ may be a key.
        let help = "write it without, such as \"http://192.0.2.9:8080/hook\"".to_owned();
        source.error(
            &span,
            "`webhook`: the URL carries a user name: a key never stands in a configuration file",
            Some(help),
        );
        return None;
    }
    s.parsed::<Url>("webhook").map(|url| Way::Webhook(url.value))
}

fn exec(source: &Source<'_>, s: &Section<'_, '_>) -> Option<Way> {
    let command = s.text_list("exec")?;
    let at = s.value_span("exec")?;
    let Some(program) = command.first() else {
        let help = "write exec = [\"/usr/local/bin/page\"]".to_owned();
        source.error(&at, "`exec` is empty", Some(help));
        return None;
    };
    if let Some(At { span, .. }) = command.iter().find(|part| part.value.contains('\0')) {
        source.error(span, "`exec`: no program takes a zero byte", None);
        return None;
    }
    if !program.value.starts_with('/') {
        let help = "write its absolute path; no shell is there to look for it".to_owned();
        source.error(&program.span, format!("`exec`: {} is not an absolute path", shown(&program.value)), Some(help));
        return None;
    }
    Some(Way::Exec(command.into_iter().map(|part| part.value).collect()))
}

fn trap(source: &Source<'_>, s: &Section<'_, '_>, secrets: &Secrets, waits: &mut bool) -> Option<Way> {
    let s = s.table("snmp-trap")?;
    for (key, help) in
        [("target", "write target = \"192.0.2.9:162\""), ("community-file", "write community-file = \"snmp\"")]
    {
        if !s.has(key) {
            s.missing(key, help);
        }
    }
    let target = s.parsed::<Destination>("target");
    let enterprise = match s.text("enterprise") {
        None => Some(PLAYPEN.to_vec()),
        Some(At { value, span }) => {
            let numbers = object_identifier(&value);
            if numbers.is_none() {
                let help = "write numbers with dots between them, such as \"1.3.6.1.4.1.8072.9999.9999\"".to_owned();
                source.error(&span, format!("`enterprise`: {} is no object identifier", shown(&value)), Some(help));
            }
            numbers
        }
    };
    let name = s.parsed::<KeyName>("community-file")?;
    let community = key_file(source, secrets, waits, "community-file", &name, Form::Community)?;
    Some(Way::SnmpTrap(TrapPlan { target: target?.value, community, enterprise: enterprise? }))
}

/// Up to 32 numbers of an object identifier that can be encoded (X.690, 8.19).
fn object_identifier(text: &str) -> Option<Vec<u32>> {
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let parts: Vec<_> = text.split('.').collect();
    let numbers = parts.iter().map(|part| Some(part).filter(|part| digits(part))?.parse().ok());
    let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
    match numbers[..] {
        [0 | 1, 0..40, _, ..] | [2, 0..40, _, ..] if numbers.len() <= 32 => Some(numbers),
        _ => None,
    }
}
