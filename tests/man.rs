//! The manual pages say what the program has, and are well formed. Needs mandoc.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use mediaconnect::cli::args::Cli;
use mediaconnect::config::diagnostic::Diagnostic;
use mediaconnect::config::{Context, load, schema};

const PAGES: &[&str] = &[
    "mediaconnectctl.1",
    "mediaconnectd.8",
    "mediaconnect-thumbnail.8",
    "mediaconnect.toml.5",
    "mediaconnect-flow.5",
    "mediaconnect-subscriber.5",
    "mediaconnect-metrics.7",
];

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man").join(name)).unwrap()
}

/// The literal displays that `wanted` picks.
fn examples(name: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let page = page(name);
    let displays = page.split(".Bd -literal\n").skip(1).filter_map(|rest| rest.split(".Ed\n").next());
    displays.filter(|text| wanted(text)).map(str::to_owned).collect()
}

fn diagnostics(files: &[(&str, &str)]) -> Vec<Diagnostic> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("flows.d")).unwrap();
    std::fs::create_dir(dir.path().join("secrets")).unwrap();
    std::fs::create_dir(dir.path().join("subscribers.d")).unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }
    load(dir.path(), &Context::default()).diagnostics
}

#[test]
fn the_pages_are_well_formed() {
    for name in PAGES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man").join(name);
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(file).output();
        let lint = lint.expect("this test needs mandoc: apt-get install mandoc");
        assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    }
}

#[test]
fn every_command_and_option_is_in_the_manual() {
    let page = page("mediaconnectctl.1");
    let cli = Cli::command();
    let options = |command: &clap::Command| -> Vec<String> {
        command.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)).collect()
    };
    for long in options(&cli) {
        assert!(page.contains(&format!(".It Fl -{long} ")), "--{long}");
    }
    for command in cli.get_subcommands() {
        let name = command.get_name();
        let items: Vec<_> = page
            .lines()
            .filter(|line| line.strip_prefix(".It Cm ").is_some_and(|rest| rest.split(' ').next() == Some(name)))
            .collect();
        assert_eq!(items.len(), 1, "{name}");
        for long in options(command) {
            assert!(items[0].contains(&format!("Fl -{long}")), "{name} --{long}");
        }
        for argument in command.get_positionals().filter(|a| a.get_value_parser().possible_values().is_none()) {
            let shown = argument.get_id().as_str().to_uppercase();
            assert!(items[0].contains(&format!("Ar {}", shown.trim_end_matches('S'))), "{name} {shown}");
        }
    }
}

#[test]
fn the_example_flows_are_valid() {
    let networks = "[networks.contribution]\ninterface = \"eth1\"\n[networks.media]\ninterface = \"eth2\"\n";
    let flows = examples("mediaconnect-flow.5", |text| text.contains("[sources."));
    assert_eq!(flows.len(), 2);
    for flow in flows {
        // The second one shows a source alone, which warns.
        let files = [("mediaconnect.toml", networks), ("flows.d/example.toml", flow.as_str())];
        let faults: Vec<_> = diagnostics(&files).into_iter().map(|d| d.line()).collect();
        assert!(faults.iter().all(|line| line.contains(": warning: ")), "{faults:?}");
    }
}

#[test]
fn the_examples_of_srt_and_rist_are_valid() {
    let page = page("mediaconnect-flow.5");
    let displays = page.split(".Bd -literal -offset indent\n").skip(1);
    let flows: Vec<_> = displays.map(|rest| rest.split_once(".Ed\n").unwrap().0).collect();
    let [srt, rist] = flows.as_slice() else { panic!("{flows:?}") };
    for (flow, keys) in [
        (srt, ["secrets/venue-a-new", "secrets/venue-a", "secrets/affiliates"].as_slice()),
        (rist, &["secrets/venue-c-new", "secrets/venue-c"]),
    ] {
        let mut files = vec![("flows.d/example.toml", *flow)];
        files.extend(keys.iter().map(|key| (*key, "correct horse battery\n")));
        assert_eq!(diagnostics(&files), []);
    }
}

#[test]
fn the_example_of_an_entitlement_and_its_subscriber_is_valid() {
    let entitlement = examples("mediaconnect-flow.5", |text| text.contains("[entitlements."));
    let subscriber = examples("mediaconnect-subscriber.5", |text| text.contains("allow =") && !text.contains("cat >"));
    let ([entitlement], [subscriber]) = (&entitlement[..], &subscriber[..]) else { panic!("one of each") };
    let flow = format!("[sources.a]\nprotocol = \"udp\"\nbind = \"127.0.0.1:5000\"\n{entitlement}");
    let files = [
        ("mediaconnect.toml", "[entitlements]\nbind = \":7000\"\n"),
        ("flows.d/example.toml", flow.as_str()),
        ("subscribers.d/affiliate-7.toml", subscriber.as_str()),
        ("subscribers.d/affiliate-9.toml", subscriber.as_str()),
        ("secrets/affiliate-7", "correct horse battery\n"),
    ];
    assert_eq!(diagnostics(&files), []);
}

#[test]
fn the_example_settings_are_valid() {
    let settings = examples("mediaconnect.toml.5", |text| text.contains("[http]"));
    assert_eq!(settings.len(), 1);
    let faults = diagnostics(&[("mediaconnect.toml", &settings[0])]);
    assert!(faults.is_empty(), "{faults:?}");
}

/// The names of all properties in a JSON Schema, at every depth.
fn keys(schema: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        found.extend(properties.keys().cloned());
    }
    let children = schema.as_object().map(|o| o.values().collect::<Vec<_>>());
    for child in children.or_else(|| schema.as_array().map(|a| a.iter().collect())).unwrap_or_default() {
        keys(child, found);
    }
}

#[test]
fn every_key_is_in_the_manual() {
    for (name, schema) in [
        ("mediaconnect-flow.5", schema::flow()),
        ("mediaconnect-subscriber.5", schema::subscriber()),
        ("mediaconnect.toml.5", schema::daemon()),
    ] {
        let page = page(name);
        let mut found = std::collections::BTreeSet::new();
        keys(&schema, &mut found);
        assert!(found.contains("description") || found.contains("interface"), "{found:?}");
        for key in found {
            let named = page.lines().any(|line| {
                let item = line.strip_prefix(".It Cm ").is_some_and(|l| l.split(" , ").any(|k| k == key));
                item || line.starts_with(&format!(".Ss [{key}")) || line.starts_with(&format!(".Ss [log.{key}]"))
            });
            assert!(named, "{name}: {key}");
        }
    }
}
