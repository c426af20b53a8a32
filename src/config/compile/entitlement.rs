//! Entitlements: those that a flow grants, who they are granted to, and those that a source asks another appliance for.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use super::super::keys::SUBSCRIBER;
use super::super::plan::{Entitled, EntitlementPlan, SrtMode, SubscriberPlan};
use super::super::section::{At, Section, is_part_name, nearest};
use super::super::source::{Source, shown};
use super::super::value::FlowName;
use super::srt::{LATENCY, LEAST_LATENCY, in_millis};
use super::{Compiled, End, Flow, Places, Site, narrow};
use crate::proto::srt::km::KeyLength;

/// The plan of the subscriber `name` from the `text` of its `file`.
pub(in crate::config) fn subscriber(
    name: &FlowName,
    file: &Path,
    text: &[u8],
    site: &Site<'_>,
) -> Compiled<SubscriberPlan> {
    let source = Source::new(file, None, text);
    let (mut places, mut waits) = (Places::new(), false);
    let plan = source.document().and_then(|document| {
        let root = Section::root(&source, &document, SUBSCRIBER);
        Flow { source: &source, site, places: &mut places, waits: &mut waits }.subscriber(name, &root)
    });
    Compiled::new(plan, Places::new(), waits, source)
}

impl<'t> Flow<'_, 't> {
    fn subscriber(&mut self, name: &FlowName, s: &Section<'_, 't>) -> Option<SubscriberPlan> {
        self.require_passphrase(s, "its file in secrets/");
        let passphrases = self.passphrases(s, &[]);
        if !s.has("allow") {
            s.missing(
                "allow",
                "write allow = [\"ADDRESS OF THE RECEIVER\"], or [\"0.0.0.0/0\", \"::/0\"] for everywhere",
            );
        }
        let allow = self.allow(s, None, End::Output);
        let description = s.text("description").map(|d| d.value).unwrap_or_default();
        let (max_sessions, max_bitrate) = (s.whole("max-sessions").and_then(narrow), s.bitrate("max-bitrate"));
        let enabled = s.flag("enabled").unwrap_or(true);
        let (passphrases, allow) = (passphrases?, allow?);
        Some(SubscriberPlan {
            name: name.to_string(),
            description,
            enabled,
            passphrases,
            allow,
            max_sessions,
            max_bitrate,
        })
    }

    fn require_passphrase(&self, s: &Section<'_, 't>, what: &str) {
        if !s.has("passphrase-file") && !s.has("passphrase-files") {
            s.missing("passphrase-file", &format!("write passphrase-file = \"NAME\", {what}"));
        }
    }

    /// `[entitlements]` of a flow.
    pub(super) fn entitlements(&self, root: &Section<'_, 't>) -> Vec<(String, Option<EntitlementPlan>)> {
        let sections = root.named("entitlements");
        let Site { daemon, daemon_refused, .. } = *self.site;
        if let (Some((_, first)), None, false) = (sections.first(), &daemon.entitlements, daemon_refused) {
            let help = "add [entitlements] with bind = \":7000\" there".to_owned();
            let message = "mediaconnect.toml has no [entitlements]: there is no port at which subscribers could call";
            self.source.warning(first.at(), message, Some(help));
        }
        sections.into_iter().map(|(name, s)| (name, self.entitlement(&s))).collect()
    }

    fn entitlement(&self, s: &Section<'_, 't>) -> Option<EntitlementPlan> {
        s.refuse_unknown(None);
        let subscribers = self.subscribers(s);
        let max_sessions = s.whole("max-sessions").and_then(narrow).unwrap_or(1);
        if let (Some(subscribers), false, Some(at)) = (&subscribers, s.has("max-sessions"), s.key_span("subscribers"))
            && subscribers.len() > 1
        {
            let message = format!("{} subscribers share one session: `max-sessions` is 1", subscribers.len());
            let help = format!("write max-sessions = {}, or 1 if one of them at a time is meant", subscribers.len());
            self.source.warning(&at, message, Some(help));
        }
        let key_length = s.number("key-length").and_then(|bytes| KeyLength::from_bytes(usize::try_from(bytes).ok()?));
        Some(EntitlementPlan {
            description: s.text("description").map(|d| d.value).unwrap_or_default(),
            enabled: s.flag("enabled").unwrap_or(true),
            max_sessions,
            expires: s.time("expires").map(SystemTime::from),
            latency: s.duration_from(LEAST_LATENCY, "latency").map_or(LATENCY, in_millis),
            key_length: key_length.unwrap_or_default(),
            subscribers: subscribers?,
        })
    }

    /// Who is entitled. Files may come in any order: one that is not there yet is worth a warning.
    fn subscribers(&self, s: &Section<'_, 't>) -> Option<BTreeSet<String>> {
        if !s.has("subscribers") {
            s.missing("subscribers", "write subscribers = [\"NAME\"], the stems of files in subscribers.d");
        }
        let listed = s.text_list("subscribers")?;
        if let (true, Some(at)) = (s.is_empty_list("subscribers"), s.key_span("subscribers")) {
            let help = "list stems of files in subscribers.d, or write enabled = false".to_owned();
            self.source.error(&at, "`subscribers` is empty, so nobody would be entitled", Some(help));
        }
        let mut names = BTreeSet::new();
        for At { value: name, span } in listed {
            if name.parse::<FlowName>().is_err() {
                let stem = name.strip_suffix(".toml").filter(|stem| stem.parse::<FlowName>().is_ok());
                let help = match stem {
                    Some(stem) => format!("write {stem:?}"),
                    None => "a name is 1 to 63 of a-z, 0-9 and '-', and starts with a letter or digit".to_owned(),
                };
                let message = format!("`subscribers`: {} is not the stem of a file in subscribers.d", shown(&name));
                self.source.error(&span, message, Some(help));
                continue;
            }
            if !names.insert(name.clone()) {
                self.source.error(&span, format!("`subscribers`: {name:?} is listed twice"), None);
                continue;
            }
            if let Some(known) = self.site.subscribers.filter(|known| !known.contains(&name)) {
                let near = nearest(&name, known.iter().map(String::as_str));
                let help = near
                    .map_or_else(|| format!("add subscribers.d/{name}.toml"), |near| format!("did you mean {near:?}?"));
                let message =
                    format!("there is no subscribers.d/{name}.toml: until it is there, {name:?} gets nothing");
                self.source.warning(&span, message, Some(help));
            }
        }
        Some(names)
    }

    /// A source that asks another appliance.
    pub(super) fn entitled(&mut self, s: &Section<'_, 't>) -> Option<SrtMode> {
        self.require_passphrase(s, "the file in secrets/ with the subscriber's passphrase");
        let calling = self.calling(s, End::Source);
        for (key, help) in [
            ("subscriber", "write subscriber = \"NAME\", as the other appliance calls this one"),
            ("entitlement", "write entitlement = \"FLOW/NAME\", as it is at the other appliance"),
        ] {
            if !s.has(key) {
                s.missing(key, help);
            }
        }
        let subscriber = s.text("subscriber").and_then(|At { value, span }| {
            let valid = value.parse::<FlowName>().is_ok();
            let help = "it is the stem of a file in subscribers.d of the other appliance".to_owned();
            let refuse =
                || self.source.error(&span, format!("`subscriber`: {} is not a name", shown(&value)), Some(help));
            if !valid {
                refuse();
            }
            valid.then_some(value)
        });
        let entitlement = s.text("entitlement").and_then(|At { value, span }| {
            let parts = value.split_once('/');
            let valid = parts.is_some_and(|(flow, name)| flow.parse::<FlowName>().is_ok() && is_part_name(name));
            if !valid {
                let help = "write \"FLOW/NAME\", as it is at the other appliance".to_owned();
                self.source.error(&span, format!("`entitlement`: {} is none", shown(&value)), Some(help));
            }
            valid.then_some(value)
        });
        let (local, remote) = calling?;
        let entitled = Entitled { subscriber: subscriber?, entitlement: entitlement? };
        Some(SrtMode::Caller {
            local,
            remote,
            stream_id: Some(entitled.stream_id()),
            entitled: Some(Box::new(entitled)),
        })
    }
}
