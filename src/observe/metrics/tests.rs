use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::audit::AuditStatus;
use crate::observe::status::{ConfigDoc, EntitlementsDoc, FlowCounts};

fn status() -> StatusDoc {
    StatusDoc {
        version: "0.1.0".into(),
        uptime_seconds: 3600,
        config: ConfigDoc {
            generation: 3,
            last_reload: "2026-11-22T18:00:00Z".into(),
            success: false,
            diagnostics: Vec::new(),
        },
        flows: FlowCounts { total: 2, active: 1, standby: 1, starting: 0, error: 0, stale: 1 },
        conditions: Vec::new(),
        entitlements: None,
        alarms: Vec::new(),
        notifiers: BTreeMap::new(),
        http_requests_refused: 3,
        audit: AuditStatus::default(),
    }
}

fn flow(name: &str) -> FlowDoc {
    let source = serde_json::json!({
        "protocol": "rtp", "state": "receiving", "on-air": true, "description": "", "bind": ":5000", "peers": [],
        "bitrate-bps": 8_000_000, "packets": 1000, "bytes": 1_316_000, "packets-lost": 4, "packets-recovered": 1,
        "packets-unrecovered": 3, "packets-duplicate": 2, "packets-reordered": 5, "packets-late": 6,
        "packets-denied": 7, "denied-addresses": [], "packets-invalid": 8, "invalid": {}, "packets-over-bitrate": 9,
        "packets-kernel-dropped": 10, "sync-errors": 11, "jitter-ms": 1.5, "restarts": 12,
        "receive-buffer-bytes": 425_984
    });
    let output = serde_json::json!({
        "protocol": "udp", "state": "sending", "description": "", "destination": "127.0.0.1:1", "peers": [],
        "bitrate-bps": 8_000_000, "packets": 900, "bytes": 1_184_400, "packets-dropped": 13,
        "packets-retransmitted": 0, "errors": { "ENETUNREACH": 13 }
    });
    serde_json::from_value(serde_json::json!({
        "name": name, "state": "active", "stale-config": true, "tags": {}, "description": "", "gather": "auto",
        "gather-budget-ms": 0.5, "added-delay-ms": { "p50": 0.25, "p99": 1.5 },
        "sources": { "a": source }, "outputs": { "x": output },
        "conditions": [{ "code": "stale-config", "severity": "major", "since": "", "message": "", "help": "" }]
    }))
    .unwrap()
}

/// Series to value, by a strict reader of either format: metadata before samples, no family twice, no series twice,
/// names and labels well-formed, suffixes as the type wants them.
fn read(text: &str, format: Format) -> BTreeMap<String, f64> {
    let (mut series, mut seen, mut family, mut kind) = (BTreeMap::new(), BTreeSet::new(), String::new(), String::new());
    let body = match format {
        Format::OpenMetrics => text.strip_suffix("# EOF\n").expect("ends in # EOF"),
        Format::Prometheus => text,
    };
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let [word, name, rest] = meta.splitn(3, ' ').collect::<Vec<_>>().try_into().expect("three words");
            match word {
                "HELP" => {
                    assert!(seen.insert(name.to_owned()), "{name} twice");
                    name.clone_into(&mut family);
                    assert!(rest.ends_with('.'), "{line}");
                }
                "TYPE" => rest.clone_into(&mut kind),
                "UNIT" => assert!(format == Format::OpenMetrics && name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (key, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) =
            key.split_once('{').map_or((key, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
        let suffix = match (format, kind.as_str()) {
            (Format::OpenMetrics, "counter") => "_total",
            (Format::OpenMetrics, "info") => "_info",
            _ => "",
        };
        assert_eq!(name, format!("{family}{suffix}"), "{line}");
        assert!(kind != "counter" || name.ends_with("_total"), "{line}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        labels_are_well_formed(labels);
        assert!(series.insert(key.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
    }
    series
}

fn labels_are_well_formed(labels: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, tail) = rest.split_once("=\"").expect("name=\"");
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{labels}");
        let mut escaped = false;
        let end = tail.find(|c| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        });
        rest = &tail[end.expect("a closing quote") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn render(status: &StatusDoc, flows: &[FlowDoc], format: Format) -> String {
    let mut scrape = Scrape::new(format, Vec::new());
    flows.iter().for_each(|flow| scrape.add(flow));
    scrape.finish(status)
}

#[test]
fn tags_become_labels_of_all_series_of_their_flow() {
    let label = |tag: &str| TagLabel { tag: tag.to_owned(), label: format!("tag_{tag}") };
    let mut scrape = Scrape::new(Format::Prometheus, vec![label("Channel"), label("Site")]);
    let long = "ö".repeat(100);
    let tags = [("Channel", "a\"b\\c\n"), ("Other", "x"), ("Site", long.as_str())];
    let mut tagged = flow("news");
    tagged.tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    scrape.add(&tagged);
    scrape.add(&flow("plain"));
    let text = scrape.finish(&status());
    let tags = format!(r#"flow="news",tag_Channel="a\"b\\c\n",tag_Site="{}""#, "ö".repeat(64));
    for series in [
        format!("mediaconnect_flow_active{{{tags}}} "),
        format!("mediaconnect_source_packets_total{{{tags},source=\"a\"}} "),
        format!("mediaconnect_output_packets_total{{{tags},output=\"x\"}} "),
    ] {
        assert!(text.contains(&series), "{series} in {text}");
    }
    assert!(text.contains("mediaconnect_flow_active{flow=\"plain\"} "), "{text}");
    assert!(!text.contains("tag_Other"));
}

const BOTH: [Format; 2] = [Format::Prometheus, Format::OpenMetrics];

#[test]
fn the_names_of_the_contract_carry_the_values_of_the_documents() {
    for format in BOTH {
        let series = read(&render(&status(), &[flow("news")], format), format);
        let source = |name: &str| series[&format!("mediaconnect_source_{name}{{flow=\"news\",source=\"a\"}}")];
        let output = |name: &str| series[&format!("mediaconnect_output_{name}{{flow=\"news\",output=\"x\"}}")];
        assert_eq!(source("bitrate_bits_per_second"), 8e6);
        assert_eq!(source("packets_total"), 1000.0);
        assert_eq!(source("packets_lost_total"), 4.0);
        assert_eq!(source("packets_recovered_total"), 1.0);
        assert_eq!(source("packets_unrecovered_total"), 3.0);
        assert_eq!(source("packets_denied_total"), 7.0);
        assert_eq!(source("connected"), 1.0);
        assert_eq!(source("selected"), 1.0);
        assert_eq!(source("jitter_seconds"), 0.0015);
        assert_eq!(output("bitrate_bits_per_second"), 8e6);
        assert_eq!(output("packets_total"), 900.0);
        assert_eq!(output("packets_dropped_total"), 13.0);
        assert_eq!(output("packets_retransmitted_total"), 0.0);
        assert_eq!(output("connected"), 1.0);
        assert_eq!(series["mediaconnect_config_last_reload_success"], 0.0);
        assert_eq!(series["mediaconnect_config_last_reload_timestamp_seconds"], 1_795_370_400.0);
        assert_eq!(series["mediaconnect_config_stale_flows"], 1.0);
        assert_eq!(series["mediaconnect_http_requests_refused_total"], 3.0);
        assert_eq!(series["mediaconnect_build_info{version=\"0.1.0\"}"], 1.0);
        assert_eq!(series["mediaconnect_output_errors_total{flow=\"news\",output=\"x\",error=\"ENETUNREACH\"}"], 13.0);
        let condition = "mediaconnect_flow_condition{flow=\"news\",code=\"stale-config\",severity=\"major\"}";
        assert_eq!(series[condition], 1.0);
    }
}

#[test]
fn what_has_no_value_has_no_series_and_no_metadata() {
    let mut flow = flow("news");
    for source in flow.sources.values_mut() {
        (source.jitter_ms, source.receive_buffer_bytes) = (None, 0);
    }
    flow.conditions.clear();
    flow.outputs.clear();
    for format in BOTH {
        let text = render(&status(), std::slice::from_ref(&flow), format);
        read(&text, format);
        for name in ["jitter", "receive_buffer", "_condition", "mediaconnect_output_"] {
            assert!(!text.contains(name), "{name}");
        }
    }
}

#[test]
fn fec_failover_and_merge_have_series_only_where_they_mean_something() {
    let plain = render(&status(), &[flow("news")], Format::OpenMetrics);
    for name in ["_fec_", "_failover_", "_merge_"] {
        assert!(!plain.contains(name), "{name}");
    }
    let mut failover = flow("failover");
    failover.failover = serde_json::from_value(serde_json::json!({ "mode": "failover", "switches": 4 })).unwrap();
    let mut merge = flow("merge");
    merge.failover = serde_json::from_value(serde_json::json!({ "mode": "merge", "switches": 0 })).unwrap();
    merge.merge = serde_json::from_value(serde_json::json!({
        "packets": 100, "packets-lost": 9, "packets-recovered": 7, "packets-unrecovered": 2, "active-legs": 2,
        "skew-ms": 12.5, "delay-ms": 200, "class": "B"
    }))
    .unwrap();
    let leg = merge.sources.get_mut("a").unwrap();
    let stream = |packets| serde_json::json!({ "packets": packets, "lost": 2, "invalid": 3 });
    leg.fec = serde_json::from_value(serde_json::json!({
        "columns": 10, "rows": 5, "column": stream(20), "row": stream(30), "recovered-by-column": 4,
        "recovered-by-row": 5, "rejected": 0
    }))
    .unwrap();
    leg.leg = serde_json::from_value(serde_json::json!({
        "first": 90, "unique": 6, "late": 0, "different": 1, "aside": false,
        "skew-ms": { "now": -2, "min": -3, "max": 4 }
    }))
    .unwrap();
    for format in BOTH {
        let series = read(&render(&status(), &[failover.clone(), merge.clone()], format), format);
        let of = |name: &str, flow: &str| series.get(&format!("mediaconnect_flow_{name}{{flow=\"{flow}\"}}"));
        assert_eq!(of("failover_switches_total", "failover"), Some(&4.0));
        assert_eq!(of("failover_switches_total", "merge"), None);
        assert_eq!(of("merge_active", "failover"), None);
        assert_eq!(of("merge_active", "merge"), Some(&1.0));
        assert_eq!(of("merge_active_legs", "merge"), Some(&2.0));
        assert_eq!(of("merge_skew_seconds", "merge"), Some(&0.0125));
        assert_eq!(of("merge_delay_seconds", "merge"), Some(&0.2));
        assert_eq!(of("merge_packets_recovered_total", "merge"), Some(&7.0));
        assert_eq!(of("merge_packets_unrecovered_total", "merge"), Some(&2.0));
        let source = |name: &str| series[&format!("mediaconnect_source_{name}{{flow=\"merge\",source=\"a\"}}")];
        assert_eq!(source("fec_packets_total"), 50.0);
        assert_eq!(source("fec_packets_lost_total"), 4.0);
        assert_eq!(source("fec_packets_invalid_total"), 6.0);
        assert_eq!(source("fec_recovered_total"), 9.0);
        assert_eq!(source("merge_unique_total"), 6.0);
        assert_eq!(source("merge_different_total"), 1.0);
        assert_eq!(source("merge_skew_seconds"), -0.002);
        assert_eq!(source("selected"), 1.0);
    }
}

#[test]
fn content_has_series_where_it_is_looked_for_and_known() {
    assert!(!render(&status(), &[flow("news")], Format::OpenMetrics).contains("_breaching"));
    let mut watched = flow("news");
    watched.content = serde_json::from_value(serde_json::json!({
        "black": true, "silent": false, "video-missing": false, "packets-dropped": 7, "helper-failures": 1
    }))
    .unwrap();
    for format in BOTH {
        let series = read(&render(&status(), std::slice::from_ref(&watched), format), format);
        let of = |name: &str| series.get(&format!("mediaconnect_flow_{name}{{flow=\"news\"}}")).copied();
        assert_eq!(of("black_frames_breaching"), Some(1.0));
        assert_eq!(of("frozen_frames_breaching"), None);
        assert_eq!(of("silent_audio_breaching"), Some(0.0));
        assert_eq!((of("video_stream_missing"), of("audio_stream_missing")), (Some(0.0), None));
        assert_eq!(of("content_packets_dropped_total"), Some(7.0));
    }
}

#[test]
fn label_values_are_escaped() {
    let text = render(&status(), &[flow("a\"b\\c\nd")], Format::Prometheus);
    assert!(text.contains(r#"flow="a\"b\\c\nd""#));
    read(&text, Format::Prometheus);
}

#[test]
fn two_parts_in_one_condition_are_one_series() {
    let mut flow = flow("news");
    flow.conditions.push(flow.conditions[0].clone());
    read(&render(&status(), &[flow], Format::OpenMetrics), Format::OpenMetrics);
}

fn alarm(name: &str, source: &str) -> AlarmDoc {
    AlarmDoc {
        id: "5f-a1".into(),
        name: name.into(),
        severity: Severity::Major,
        source: Some(source.into()),
        output: None,
        since: String::new(),
        message: String::new(),
        value: None,
        threshold: None,
    }
}

#[test]
fn alarms_that_are_raised_are_counted_and_notifiers_have_series() {
    let raised =
        FlowDoc { alarms: vec![alarm("low", "a"), alarm("source-lost", "a"), alarm("low", "b")], ..flow("news") };
    let noc = NotifierDoc { told: 7, dropped: 1, failures: 3, waiting: 2, ..NotifierDoc::default() };
    let status = StatusDoc { notifiers: BTreeMap::from([("noc".to_owned(), noc)]), ..status() };
    for format in BOTH {
        let series = read(&render(&status, std::slice::from_ref(&raised), format), format);
        let of_flow = |name: &str| {
            series[&format!("mediaconnect_flow_alarm{{flow=\"news\",alarm=\"{name}\",severity=\"major\"}}")]
        };
        assert_eq!((of_flow("low"), of_flow("source-lost")), (2.0, 1.0));
        let notifier = |name: &str| series[&format!("mediaconnect_notifier_{name}{{notifier=\"noc\"}}")];
        let all = ["told_total", "dropped_total", "failures_total", "waiting"].map(notifier);
        assert_eq!(all, [7.0, 1.0, 3.0, 2.0]);
    }
}

#[test]
fn families_are_in_the_order_of_their_names() {
    fn sorted<T>(families: &[Family<T>]) -> bool {
        families.is_sorted_by_key(|family| family.name)
    }
    assert!(sorted(SOURCE) && sorted(OUTPUT) && sorted(FLOW));
}

#[test]
fn the_manual_lists_every_metric_and_no_other() {
    fn names<T>(families: &[Family<T>]) -> impl Iterator<Item = String> {
        families
            .iter()
            .map(|family| format!("{}{}", family.name, if family.kind == Kind::Counter { "_total" } else { "" }))
    }
    let page = include_str!("../../../packaging/man/mediaconnectd.8");
    let listed =
        page.lines().filter_map(|line| line.strip_prefix(".It Li ").filter(|n| n.starts_with("mediaconnect_")));
    let flow = FlowDoc { alarms: vec![alarm("low", "a")], ..flow("news") };
    let status = StatusDoc {
        entitlements: Some(EntitlementsDoc::default()),
        conditions: flow.conditions.clone(),
        alarms: flow.alarms.clone(),
        notifiers: BTreeMap::from([("noc".to_owned(), NotifierDoc::default())]),
        ..status()
    };
    let text = render(&status, &[flow], Format::Prometheus);
    let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned);
    let by_reason = [SOURCE_REFUSED, OUTPUT_REFUSED, SOURCE_TS_ERRORS, FLOW_TS_ERRORS];
    let by_reason = by_reason.map(|name| format!("{name}_total"));
    let exposed: BTreeSet<_> =
        names(FLOW).chain(names(SOURCE)).chain(names(OUTPUT)).chain(names(ENTITLEMENT)).chain(names(ACCOUNT)).collect();
    let exposed: BTreeSet<_> = exposed.into_iter().chain(by_reason).chain(shown).collect();
    assert_eq!(listed.map(str::to_owned).collect::<BTreeSet<_>>(), exposed);
}

#[test]
fn entitlements_and_their_subscribers_have_series_of_their_own() {
    let account = AccountDoc { enabled: true, sessions: 1, seconds: 60, bytes: 5000, today_p95_bps: Some(4000) };
    let accounts = [("acme".to_owned(), account), ("other".to_owned(), AccountDoc::default())];
    let entitlement = serde_json::json!({
        "state": "connected", "description": "", "subscribers": BTreeMap::from(accounts), "max-sessions": 2,
        "peers": [{ "address": "203.0.113.7:4000", "since": "", "subscriber": "acme" }], "bitrate-bps": 3000,
        "packets": 4, "bytes": 5264, "packets-dropped": 0, "packets-retransmitted": 1, "packets-lost": 1,
        "disconnections": 3, "calls-refused": 0
    });
    let entitlements = BTreeMap::from([("main".to_owned(), serde_json::from_value(entitlement).unwrap())]);
    let refused_by_reason = BTreeMap::from([("expired".to_owned(), 7)]);
    let status = StatusDoc {
        entitlements: Some(EntitlementsDoc { refused_by_reason, ..EntitlementsDoc::default() }),
        ..status()
    };
    let text = render(&status, &[FlowDoc { entitlements, ..flow("news") }], Format::Prometheus);
    let series = read(&text, Format::Prometheus);
    let of = "{flow=\"news\",entitlement=\"main\"";
    for (name, value) in [
        (format!("mediaconnect_entitlement_sessions{of}}}"), 1.0),
        (format!("mediaconnect_entitlement_bytes_total{of}}}"), 5264.0),
        (format!("mediaconnect_entitlement_subscriber_seconds_total{of},subscriber=\"acme\"}}"), 60.0),
        (format!("mediaconnect_entitlement_subscriber_p95_bits_per_second{of},subscriber=\"acme\"}}"), 4000.0),
        (format!("mediaconnect_entitlement_subscriber_sessions{of},subscriber=\"other\"}}"), 0.0),
        ("mediaconnect_entitlement_refused_total{reason=\"expired\"}".to_owned(), 7.0),
        ("mediaconnect_entitlement_refused_total{reason=\"max-sessions\"}".to_owned(), 0.0),
    ] {
        assert_eq!(series.get(&name), Some(&value), "{name}");
    }
    assert!(!series.keys().any(|name| name.contains("p95") && name.contains("other")), "there was none");
}
