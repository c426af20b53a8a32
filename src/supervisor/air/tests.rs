use super::*;
use crate::config::diagnostic::Diagnostic;
use crate::config::parse_flow;
use crate::config::plan::DaemonPlan;
use crate::config::secrets::Secrets;

fn plan(failover: &str) -> FlowPlan {
    let source = |name: &str, port: u16, keys: &str| {
        format!("[sources.{name}]\nprotocol = 'rtp'\nbind = '127.0.0.1:{port}'\n{keys}\n")
    };
    let text = [&source("a", 5000, ""), &source("b", 6000, "enabled = false"), failover].concat();
    let (name, daemon) = ("news".parse().unwrap(), DaemonPlan::default());
    let parsed = parse_flow(&name, "news.toml".as_ref(), text.as_bytes(), &daemon, &Secrets::none());
    let (Some(plan), diagnostics) = parsed else { panic!("{:?}", parsed.1) };
    assert!(diagnostics.iter().all(|d: &Diagnostic| d.flow.as_deref() == Some("news")));
    plan
}

#[test]
fn the_task_is_told_every_key_of_the_table() {
    let text = "[failover]\nmode = 'failover'\nprimary = 'a'\nhold = '7s'\n\
                switch-on = { silence = '0s', min-bitrate = '1M', continuity-errors = 20, pat-loss = '1s', unrecovered = 50 }";
    let all = AirConfig::Failover {
        primary: Some("a".to_owned()),
        back: Return::Hold(Duration::from_secs(7)),
        triggers: Triggers {
            silence: None,
            min_bitrate: Some(1_000_000),
            continuity_errors: Some(20),
            pat_loss: Some(Duration::from_secs(1)),
            unrecovered: Some(50),
        },
    };
    assert_eq!(config(&plan(text)), all);
    let plain = plan("[failover]\nmode = 'failover'\nreturn = 'manual'");
    let default = AirConfig::Failover { primary: None, back: Return::Manual, triggers: Triggers::default() };
    assert_eq!(config(&plain), default, "silence alone, as by default");
    let merge = plan("[failover]\nmode = 'merge'\nrecovery-window = '300ms'");
    assert_eq!(config(&merge), AirConfig::Merge { window: Duration::from_millis(300) });
}

#[test]
fn only_an_enabled_source_of_a_flow_that_fails_over_may_be_switched_to() {
    let failover = plan("[failover]\nmode = 'failover'");
    assert_eq!(may_switch(&failover, "a"), Ok(()));
    assert!(matches!(may_switch(&failover, "b"), Err(Refusal::Conflict(why)) if why.contains("is disabled")));
    assert!(matches!(may_switch(&failover, "c"), Err(Refusal::NotFound(_))));
    let merge = plan("[failover]\nmode = 'merge'");
    assert!(matches!(may_switch(&merge, "a"), Err(Refusal::Conflict(why)) if why.contains("merges")));
    let single = FlowPlan { failover: None, ..failover };
    assert!(matches!(may_switch(&single, "a"), Err(Refusal::Conflict(why)) if why.contains("no [failover]")));
}

#[test]
fn every_reason_has_a_word_and_a_sentence_of_its_own() {
    use Trigger::{ContinuityErrors, MinBitrate, PatLoss, Silence, Unrecovered};
    let failed = [Silence, MinBitrate, ContinuityErrors, PatLoss, Unrecovered].map(Reason::Failed);
    let all = failed.into_iter().chain([Reason::Start, Reason::PrimaryBack, Reason::Operator, Reason::Removed]);
    let (mut codes, mut words) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for reason in all {
        assert!(codes.insert(reason_code(reason)) && words.insert(reason_in_words(reason, Some("a"))), "{reason:?}");
    }
    assert_eq!(reason_in_words(failed[0], Some("a")), "a was silent");
    assert_eq!(reason_in_words(Reason::Removed, None), "the one before was removed or disabled");
}
