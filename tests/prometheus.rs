//! Debian's Prometheus reads what the daemon exposes; and the alert rules, the dashboard and the manual name nothing that
//! is not there.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::daemon::{Daemon, Setup, ask_port};
use support::media::{Feed, Sending, Stream, Wire, receiving_socket, v4};
use support::peers::Peer;
use support::ports::free_port;
use support::wait_for;
use tempfile::TempDir;

const RULES: &str = include_str!("../packaging/prometheus/mediaconnect.rules.yml");
const TEST_OF_RULES: &str = include_str!("../packaging/prometheus/mediaconnect.rules.test.yml");
const EXAMPLE: &str = include_str!("../packaging/prometheus/prometheus.example.yml");
const DASHBOARD: &str = include_str!("../packaging/grafana/mediaconnect.json");
const CLOUDWATCH: &str = include_str!("../packaging/man/mediaconnect-metrics.7");

/// All metrics, as the daemon's manual lists them; that it lists those and no others is tested where they are made.
fn known() -> BTreeSet<&'static str> {
    let page = include_str!("../packaging/man/mediaconnectd.8");
    page.lines().filter_map(|line| line.strip_prefix(".It Li ")).filter(|item| item.starts_with(PREFIX)).collect()
}

const PREFIX: &str = "mediaconnect_";

/// The words of a text, as names of metrics and variables are words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    words(text).filter(|word| word.starts_with(PREFIX)).collect()
}

#[test]
fn rules_dashboard_and_manual_name_metrics_that_exist() {
    let known = known();
    for (file, text, least) in [
        ("mediaconnect.rules.yml", RULES, 20),
        ("mediaconnect.rules.test.yml", TEST_OF_RULES, 20),
        ("mediaconnect.json", DASHBOARD, 40),
        ("mediaconnect-metrics.7", CLOUDWATCH, 30),
    ] {
        let named = named(text);
        assert!(named.len() >= least, "{file} names only {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

/// What a text compares this label with: `label="a"`, `label=~"a|b"`.
fn compared<'a>(text: &'a str, label: &str) -> BTreeSet<&'a str> {
    let values = text.split(label).skip(1).filter_map(|rest| {
        let value = rest.trim_start_matches(['!', '=', '~']);
        // In JSON the quotation marks are escaped.
        let value = value.strip_prefix("\\\"").or(value.strip_prefix('"')).filter(|_| value.len() < rest.len())?;
        value.split(['"', '\\']).next()
    });
    values.flat_map(|value| value.split('|')).collect()
}

/// All Rust below a directory, as one text.
fn code_in(dir: &Path) -> String {
    let paths = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let text = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => code_in(&path),
        Some(rs) if rs == "rs" => fs::read_to_string(&path).expect("Rust"),
        _ => String::new(),
    };
    paths.map(text).collect()
}

#[test]
fn labels_are_compared_with_what_they_can_be() {
    let code = code_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let exists = |value: &str| code.contains(&format!("\"{value}\""));
    for (label, text, least) in
        [("code", RULES, 20), ("alarm", RULES, 5), ("check", RULES, 6), ("severity", RULES, 2), ("state", DASHBOARD, 2)]
    {
        let values = compared(text, label);
        assert!(values.len() >= least, "{label}: {values:?}");
        let unknown: Vec<_> = values.into_iter().filter(|value| !exists(value)).collect();
        assert!(unknown.is_empty(), "{label}: {unknown:?}");
    }
    let checks: Vec<_> = CLOUDWATCH.lines().filter_map(|line| Some(line.split_once(" Ta Li ")?.1)).collect();
    assert!(checks.len() == 12 && checks.iter().all(|check| exists(check)), "{checks:?}");
}

/// The dashboard, and the expressions of each of its panels by the panel's title.
fn panels(dashboard: &Value) -> Vec<(&str, Vec<&str>)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let charts = panels.iter().filter(|panel| panel["type"] != "row");
    charts
        .map(|panel| {
            let targets = panel["targets"].as_array().expect("targets");
            let expressions = targets.iter().map(|target| target["expr"].as_str().expect("an expression"));
            (panel["title"].as_str().expect("a title"), expressions.collect())
        })
        .collect()
}

#[test]
fn the_dashboard_asks_the_chosen_data_source_by_variables_it_has() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let variables: BTreeSet<_> = variables.map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(variables, BTreeSet::from(["datasource", "flow", "instance"]));
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().expect("an ID")), "{title}: its ID is there twice");
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            let used = expression.split('$').skip(1).filter_map(|rest| words(rest).next());
            let of_grafana = ["__rate_interval", "__range"];
            let unknown: Vec<_> = used.filter(|name| !variables.contains(name) && !of_grafana.contains(name)).collect();
            assert!(unknown.is_empty(), "{title}: {unknown:?} in {expression}");
            assert!(expression.contains("$instance"), "{title}: {expression}");
        }
    }
    assert!(ids.len() > 20);
}

/// Run `promtool` in the directory of the files for Prometheus, with this on its standard input.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus"));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("Debian's prometheus is installed: see tests/run");
    // It may end without having read.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("promtool ends")
}

/// What it said, on both.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

#[test]
fn promtool_accepts_the_rules_their_test_and_the_example() {
    for arguments in [
        ["check", "rules", "mediaconnect.rules.yml"],
        ["test", "rules", "mediaconnect.rules.test.yml"],
        ["check", "config", "prometheus.example.yml"],
    ] {
        let output = promtool(&arguments, "");
        assert!(output.status.success(), "promtool {arguments:?}: {}\n{}", output.status, said(&output));
    }
}

/// Three flows, one feeding the next: two legs of RTP are merged and go on by SRT, to us and from there to a caller, which
/// has a silent backup.
struct Relayed {
    daemon: Daemon,
    http: u16,
    feeds: [Sending; 2],
    /// Nobody reads there, and nothing is refused.
    _sink: UdpSocket,
}

impl Relayed {
    #[track_caller]
    fn start() -> Self {
        let [leg_a, leg_b, srt, affiliates, backup, http] = std::array::from_fn(|_| free_port());
        let socket = receiving_socket(v4(free_port()));
        let sink = socket.local_addr().expect("it is bound");
        let first = format!(
            "[sources.a]\nprotocol = 'rtp'\nbind = '127.0.0.1:{leg_a}'\n\
             [sources.b]\nprotocol = 'rtp'\nbind = '127.0.0.1:{leg_b}'\n[failover]\nmode = 'merge'\n\
             [outputs.decoder]\nprotocol = 'udp'\ndestination = '{sink}'\n\
             [outputs.next]\nprotocol = 'srt-caller'\ndestination = '127.0.0.1:{srt}'\n"
        );
        let second = format!(
            "[sources.main]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:{srt}'\n\
             [outputs.affiliates]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:{affiliates}'\n"
        );
        let third = format!(
            "[sources.main]\nprotocol = 'srt-caller'\nremote = '127.0.0.1:{affiliates}'\n\
             [sources.backup]\nprotocol = 'udp'\nbind = '127.0.0.1:{backup}'\n\
             [failover]\nmode = 'failover'\nprimary = 'main'\n\
             [outputs.decoder]\nprotocol = 'udp'\ndestination = '{sink}'\n"
        );
        let setup = Setup::new().http(http).flow("first", &first).flow("second", &second).flow("third", &third);
        let daemon = setup.start();
        let feeds = [leg_a, leg_b].map(|leg| Feed::new(Wire::Rtp, v4(leg), Stream::at(2_000_000)).start());
        daemon.wait_for_flow("third", "media comes through all flows", |flow| {
            flow["sources"]["main"]["state"] == "receiving" && flow["outputs"]["decoder"]["state"] == "sending"
        });
        Self { daemon, http, feeds, _sink: socket }
    }
}

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let relayed = Relayed::start();
    let (code, text) = relayed.daemon.ask("GET", "/metrics").expect("the daemon answers");
    assert_eq!(code, 200, "{text}");
    for feed in relayed.feeds {
        assert!(feed.stop() > 0);
    }
    let output = promtool(&["check", "metrics"], &text);
    // Bits, as everybody in this field counts them.
    let said = said(&output);
    let faults: Vec<_> =
        said.lines().filter(|line| !line.ends_with(r#"use base unit "bytes" instead of "bits""#)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(said.lines().count(), 2, "the bit rates of sources and outputs: {said}");

    let named = named(&text);
    assert!(named.len() > 50, "{named:?}");
    let unknown: Vec<_> = named.difference(&known()).copied().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Prometheus with the example's configuration, the alert rules among it, but quicker.
struct Prometheus {
    peer: Peer,
    port: u16,
    _dir: TempDir,
}

impl Prometheus {
    #[track_caller]
    fn start(scraped: u16) -> Self {
        let port = free_port();
        let dir = TempDir::with_prefix("mediaconnect-test-prometheus-").expect("a temporary directory");
        let mut config = EXAMPLE.to_owned();
        for (from, to) in [
            ("127.0.0.1:9740", format!("127.0.0.1:{scraped}")),
            ("scrape_interval: 5s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 5s", "evaluation_interval: 1s".to_owned()),
        ] {
            assert!(config.contains(from), "{from} in {config}");
            config = config.replace(from, &to);
        }
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config).expect("prometheus.yml");
        fs::write(dir.path().join("mediaconnect.rules.yml"), RULES).expect("the rules");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        // What is wrong with a scrape is said at this level only.
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=debug");
        Self { peer: Peer::start(command.stdin(Stdio::null())), port, _dir: dir }
    }

    /// The data behind a path of its API; `None` until it is up.
    #[track_caller]
    fn api(&self, path: &str) -> Option<Value> {
        let (_, body) = ask_port(self.port, &format!("/api/v1/{path}")).ok()?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    /// The series that an expression gives now.
    #[track_caller]
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.api(&format!("query?query={encoded}"))?;
        Some(data["result"].as_array().expect("a result").clone())
    }

    /// Wait until an expression gives series, or one of several does.
    #[track_caller]
    fn wait_for(&self, expressions: &[String]) -> Vec<Value> {
        wait_for(&format!("series of {expressions:?}"), || {
            expressions.iter().filter_map(|expression| self.query(expression)).find(|series| !series.is_empty())
        })
    }

    /// The names of the alerts about a flow, or of the appliance for `null`, pending or firing.
    #[track_caller]
    fn alerts(&self, flow: &Value) -> BTreeSet<String> {
        let data = self.api("alerts").expect("Prometheus answers");
        let labels = data["alerts"].as_array().expect("alerts").iter().map(|alert| &alert["labels"]);
        let of_flow = labels.filter(|labels| &labels["flow"] == flow);
        let names = of_flow.map(|labels| labels["alertname"].as_str().expect("a name").to_owned());
        names.filter(|name| !BUSY.contains(&name.as_str())).collect()
    }
}

/// What a busy machine may bring about.
const BUSY: [&str; 4] =
    ["MediaconnectKernelDrops", "MediaconnectPacketsUnrecovered", "MediaconnectTsErrors", "MediaconnectTsUndecodable"];

/// Panels that show something while all is well. Of others the expressions are tried.
const SHOWN: [&str; 20] = [
    "Flows that are active",
    "Media in",
    "Media out",
    "Flows",
    "Bit rate of each source",
    "Round trip, and the latency agreed on",
    "Jitter",
    "Recovery",
    "Source on air",
    "Switches",
    "Legs that take part in the merge",
    "Skew of the merge",
    "Skew of each leg",
    "Recovered and lost by the merge",
    "Bit rate of each output",
    "Outputs that send",
    "Receivers",
    "Configuration",
    "Flows by state",
    "Appliances",
];

#[test]
fn prometheus_scrapes_the_daemon_fills_the_dashboard_and_alerts_when_the_media_is_gone() {
    let relayed = Relayed::start();
    let prometheus = Prometheus::start(relayed.http);
    prometheus.wait_for(&[r#"up{job="mediaconnect"} == 1"#.to_owned()]);
    prometheus.wait_for(&["count(mediaconnect_source_bitrate_bits_per_second > 1e6) == 4".to_owned()]);

    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = panels(&dashboard);
    let missing: Vec<_> = SHOWN.iter().filter(|title| panels.iter().all(|(panel, _)| panel != *title)).collect();
    assert!(missing.is_empty(), "no such panels: {missing:?}");
    for (title, expressions) in panels {
        let variables = [("$instance", ".*"), ("$flow", ".*"), ("$__rate_interval", "10s"), ("$__range", "10s")];
        let filled =
            |text: &str| variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let expressions: Vec<_> = expressions.into_iter().map(filled).collect();
        for expression in &expressions {
            assert!(prometheus.query(expression).is_some(), "{title}: Prometheus is gone");
        }
        if SHOWN.contains(&title) {
            prometheus.wait_for(&expressions);
        }
    }

    let rules = wait_for("every rule has been evaluated", || {
        let groups = prometheus.api("rules")?["groups"].as_array()?.clone();
        let rules: Vec<_> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    assert_eq!(rules.len(), RULES.matches("- alert: ").count());
    let failed: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(failed.is_empty(), "{failed:#?}");

    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    wait_for("the alert of the silent backup, and no other", || {
        (prometheus.alerts(&json!("third")) == only("MediaconnectBackupMissing")).then_some(())
    });
    for flow in ["first", "second"] {
        assert_eq!(prometheus.alerts(&json!(flow)), BTreeSet::new(), "{flow}");
    }
    assert_eq!(prometheus.alerts(&Value::Null), only("MediaconnectRestarted"));
    for feed in relayed.feeds {
        assert!(feed.stop() > 0);
    }
    for flow in ["first", "third"] {
        wait_for("the alert of lost media", || {
            prometheus.alerts(&json!(flow)).contains("MediaconnectSourceLost").then_some(())
        });
    }

    let targets = prometheus.api("targets").expect("Prometheus answers");
    let [target] = targets["activeTargets"].as_array().expect("targets").as_slice() else { panic!("{targets:#}") };
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target:#}");
    let log = prometheus.peer.stderr();
    assert!(log.contains("Server is ready to receive web requests"), "{log}");
    let is_bad = |line: &&str| {
        let [warns, fails] = ["level=warn", "level=error"].map(|level| line.contains(level));
        warns || fails || line.contains("Scrape failed") || line.contains("Append failed")
    };
    let bad: Vec<_> = log.lines().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
