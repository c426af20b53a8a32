//! `[failover]`: what several sources are to each other.

use std::time::Duration;

use super::super::keys::{FAILOVER, Form, quoted};
use super::super::plan::{FailoverPlan, FailoverRules, ReturnMode, SwitchOn};
use super::super::section::{At, Section, nearest};
use super::super::source::shown;
use super::{Flow, SourcePart, narrow};

impl<'t> Flow<'_, 't> {
    pub(super) fn failover(&self, root: &Section<'_, 't>, sources: &[SourcePart]) -> Option<FailoverPlan> {
        let mut starts: Vec<_> = sources.iter().map(|s| &s.at).collect();
        starts.sort_by_key(|at| at.start);
        let second = starts.get(1);
        let Some(s) = root.open("failover") else {
            if let (Some(second), false) = (second, root.has("failover")) {
                let help = "add [failover] with mode = \"failover\" (one of them is on air), or \"merge\" where all carry the same RTP packets (ST 2022-7)";
                self.source.missing(second, "two or more sources need [failover] with a `mode`", Some(help.into()));
            }
            return None;
        };
        if second.is_some() && !s.has("mode") {
            s.missing("mode", "write mode = \"failover\" (one source is on air) or \"merge\" (ST 2022-7)");
        }
        let mode = s.choice("mode").map(|at| mode_name(at));
        s.refuse_unknown(mode);
        let window = s.duration("recovery-window").unwrap_or(Duration::from_millis(200));
        let rules = self.rules(&s, sources);
        match mode? {
            "merge" => {
                self.refuse_unmergeable(sources);
                self.refuse_other_keys(sources);
                Some(FailoverPlan::Merge { recovery_window: window })
            }
            _ => Some(FailoverPlan::Failover(rules)),
        }
    }

    /// A merge goes by RTP sequence numbers.
    fn refuse_unmergeable(&self, sources: &[SourcePart]) {
        for SourcePart { name, plan, protocol_at, .. } in sources {
            let Some(plan) = plan.as_ref().filter(|plan| !plan.is_rtp()) else { continue };
            let message = format!(
                "mode = \"merge\" cannot take in source {name:?}: {} has no RTP sequence numbers to align it by",
                plan.protocol_name()
            );
            let help = "receive it as rtp, rtp-fec or rist, or write mode = \"failover\"".to_owned();
            self.source.error(protocol_at, message, Some(help));
        }
    }

    /// What is merged is decrypted afterwards.
    fn refuse_other_keys(&self, sources: &[SourcePart]) {
        let mut all = sources.iter().filter_map(|source| Some((source, &source.plan.as_ref()?.decryption)));
        let Some((first, keys)) = all.next() else { return };
        for (other, _) in all.filter(|(_, other)| *other != keys) {
            let message = format!("sources {:?} and {:?} of a merge differ in `decryption`", first.name, other.name);
            let help = "a merge takes the same packets of all of them: give them the same keys".to_owned();
            self.source.error(&other.at, message, Some(help));
        }
    }

    fn rules(&self, s: &Section<'_, 't>, sources: &[SourcePart]) -> FailoverRules {
        let FailoverRules { return_mode, hold, switch_on, .. } = FailoverRules::default();
        let rules = FailoverRules {
            primary: self.primary(s, sources),
            return_mode: match s.choice("return") {
                Some(0) => ReturnMode::Immediate,
                Some(2) => ReturnMode::Manual,
                _ => return_mode,
            },
            hold: s.duration("hold").unwrap_or(hold),
            switch_on: s.table("switch-on").map_or(switch_on, |s| switch_on_of(&s)),
        };
        if let (true, Some(at)) = (rules.return_mode != ReturnMode::Hold, s.key_span("hold")) {
            let help = "remove it, or write return = \"hold\"".to_owned();
            self.source.warning(&at, "`hold` counts only with return = \"hold\"", Some(help));
        }
        rules
    }

    fn primary(&self, s: &Section<'_, 't>, sources: &[SourcePart]) -> Option<String> {
        let At { value: name, span } = s.text("primary")?;
        if !sources.is_empty() && sources.iter().all(|source| source.name != name) {
            let names: Vec<_> = sources.iter().map(|source| &*source.name).collect();
            let help = match nearest(&name, names.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("write {}", quoted(&names)),
            };
            self.source.error(&span, format!("`primary`: the flow has no source {}", shown(&name)), Some(help));
        }
        Some(name)
    }
}

/// The word of `mode` at this place of its list.
fn mode_name(at: usize) -> &'static str {
    match FAILOVER.first().map(|key| key.form) {
        Some(Form::Choice(words)) => words.get(at).copied().unwrap_or_default(),
        _ => "",
    }
}

fn switch_on_of(s: &Section<'_, '_>) -> SwitchOn {
    let SwitchOn { silence, .. } = SwitchOn::default();
    SwitchOn {
        silence: s.duration("silence").map_or(silence, |time| Some(time).filter(|time| !time.is_zero())),
        min_bitrate: s.bitrate("min-bitrate"),
        continuity_errors: s.whole("continuity-errors").and_then(narrow),
        pat_loss: s.duration("pat-loss"),
        unrecovered: s.whole("unrecovered").and_then(narrow),
    }
}
