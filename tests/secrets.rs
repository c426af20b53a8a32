//! Keys, as the daemon sees them come, change and go; and that it shows none.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

mod support;

use support::daemon::{Daemon, Setup, condition};
use support::ports::free_port;
use support::wait_for;

/// Long and odd enough to be found wherever it is shown.
const KEY: &str = "Xylophon-7-Quitte";
const OTHER_KEY: &str = "Zwieback-9-Jojoba";

/// A flow whose output `keyed` is encrypted with `venue-a`, and its output `plain` is not.
fn flow(description: &str) -> String {
    let [input, listens, plain] = [(); 3].map(|()| free_port());
    format!(
        "description = '{description}'\n\
         [sources.main]\nprotocol = 'rtp'\nbind = '127.0.0.1:{input}'\n\n\
         [outputs.keyed]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:{listens}'\npassphrase-file = 'venue-a'\n\n\
         [outputs.plain]\nprotocol = 'udp'\ndestination = '127.0.0.1:{plain}'\n"
    )
}

fn key_path(daemon: &Daemon) -> PathBuf {
    daemon.root().join("etc/secrets/venue-a")
}

fn write_key(daemon: &Daemon, key: &str) {
    fs::create_dir_all(daemon.root().join("etc/secrets")).unwrap();
    let partial = daemon.root().join("etc/secrets/.venue-a.new");
    fs::write(&partial, format!("{key}\n")).unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(partial, key_path(daemon)).unwrap();
}

/// A daemon with that flow and its key.
fn keyed() -> Daemon {
    let daemon = Setup::new().start_until_ready();
    write_key(&daemon, KEY);
    daemon.write_flow("news", &flow("first"));
    wait_for("the flow", || daemon.ask("GET", "/v1/flows/news").ok().filter(|(code, _)| *code == 200));
    daemon
}

fn plan(daemon: &Daemon) -> Value {
    serde_json::from_slice(&daemon.ctl(&["plan", "--json"]).stdout).unwrap()
}

fn is_stale(daemon: &Daemon) -> bool {
    daemon.flow("news")["stale-config"] == true
}

#[test]
fn a_key_file_that_changes_is_taken_and_changes_its_part_alone() {
    let daemon = keyed();
    daemon.ctl_ok(&["freeze"]);
    write_key(&daemon, OTHER_KEY);
    let touches = wait_for("the change", || plan(&daemon)["changes"][0]["touches"].as_array().cloned());
    let touch = json!({ "kind": "output", "name": "keyed", "effect": "in-place", "because": ["passphrase-file"] });
    assert_eq!(touches, [touch]);
    let generation = || daemon.status()["config"]["generation"].as_u64().unwrap();
    let before = generation();
    daemon.ctl_ok(&["thaw"]);
    assert_eq!(generation(), before + 1);
    assert_eq!(plan(&daemon)["changes"], json!([]));
    // Without being asked, as with any other file.
    write_key(&daemon, KEY);
    wait_for("the change back", || (generation() == before + 2).then_some(()));
    daemon.wait_for_log("output keyed changed in place (passphrase-file)");
}

#[test]
fn a_flow_whose_key_is_spoilt_goes_on_as_it_was() {
    let daemon = keyed();
    write_key(&daemon, "short");
    daemon.wait_for_flow("news", "a spoilt key is noticed", |flow| flow["stale-config"] == true);
    let flow = daemon.flow("news");
    let why = condition(&flow, "stale-config").unwrap_or_else(|| panic!("{flow:#}"));
    assert!(why["message"].as_str().unwrap().contains("holds a passphrase that is too short"), "{why}");
    assert_eq!(flow["outputs"]["plain"]["state"], "idle");
    fs::remove_file(key_path(&daemon)).unwrap();
    let gone =
        |daemon: &Daemon| plan(daemon)["diagnostics"][0]["message"].as_str().unwrap().contains("there is no key file");
    wait_for("its end is noticed", || gone(&daemon).then_some(()));
    assert!(is_stale(&daemon));
    write_key(&daemon, KEY);
    daemon.wait_for_flow("news", "it is whole again", |flow| flow["stale-config"] == false);
}

#[test]
fn after_a_restart_a_flow_waits_for_its_key_and_says_so() {
    let mut daemon = keyed();
    fs::remove_file(key_path(&daemon)).unwrap();
    daemon.kill_and_restart_until_ready();
    assert_eq!(daemon.ask("GET", "/v1/flows/news").unwrap().0, 404);
    let status = daemon.status();
    let said = status["config"]["diagnostics"][0].clone();
    assert!(said["message"].as_str().unwrap().starts_with("`passphrase-file`: there is no key file"), "{status:#}");
    assert_eq!((&said["line"], &said["flow"]), (&json!(9), &json!("news")));
    // Its file breaks as well. Once the key is back, the last good version can run.
    let good = fs::read(daemon.flow_path("news")).unwrap();
    daemon.write_flow("news", "broken");
    write_key(&daemon, KEY);
    wait_for("the last good version", || daemon.ask("GET", "/v1/flows/news").ok().filter(|(code, _)| *code == 200));
    assert!(is_stale(&daemon));
    assert_eq!(daemon.flow("news")["description"], "first");
    fs::write(daemon.flow_path("news"), good).unwrap();
    daemon.wait_for_flow("news", "it is whole again", |flow| flow["stale-config"] == false);
}

/// Everything below the daemon's directories but the keys themselves.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("secrets") {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// What the daemon and its commands say now, in every form they have.
fn all_that_is_said(daemon: &Daemon) -> Vec<Vec<u8>> {
    let all = |output: Output| [output.stdout, output.stderr].concat();
    let json = ["plan", "reload", "status", "explain"].map(|command| all(daemon.ctl(&[command, "--json"])));
    let words = ["check", "plan", "reload", "status", "explain", "history"].map(|command| all(daemon.ctl(&[command])));
    let paths = ["/v1/status", "/v1/flows", "/v1/flows/news", "/v1/flows/news/history", "/v1/plan", "/metrics"];
    let answers = paths.map(|path| daemon.ask("GET", path).unwrap().1.into_bytes());
    [json.to_vec(), words.to_vec(), answers.to_vec()].concat()
}

#[test]
fn no_key_is_ever_shown() {
    let daemon = keyed();
    let [rist, input, port] = [(); 3].map(|()| free_port());
    // Of every kind, and a webhook whose address is one. Hexadecimal where that is its form.
    let keys = [
        ("venue-a", KEY),
        ("rist", "Quarkstrudel-3-Obazda"),
        ("content", "5ca1ab1e0ddba11fdeadbea7f01dab1e"),
        ("party", "Fuchsschwanz-5-Kimme"),
        ("token", "Wolpertinger-2-Haferl-4-Schmankerl"),
    ];
    let webhook = "Zirbelnuss";
    fs::create_dir(daemon.root().join("etc/subscribers.d")).unwrap();
    daemon.write_subscriber("party", "passphrase-file = 'party'\nallow = ['127.0.0.1']\n");
    let settings = format!(
        "[log]\nlevel = 'debug'\n[http]\nlisten = ['127.0.0.1:{}']\ntoken-file = 'token'\n\
         [entitlements]\nbind = '127.0.0.1:{port}'\n\
         [notifiers.noc]\nwebhook = 'http://127.0.0.1:{}/?token={webhook}'\n",
        free_port(),
        free_port()
    );
    let more = format!(
        "[sources.spare]\nprotocol = 'rist'\nbind = '127.0.0.1:{input}'\nprofile = 'main'\npassphrase-file = 'rist'\n\
         decryption = {{ scheme = 'cissa', key-file = 'content' }}\n[failover]\nmode = 'failover'\n\
         [outputs.rist]\nprotocol = 'rist'\ndestination = '127.0.0.1:{rist}'\nprofile = 'main'\n\
         passphrase-file = 'rist'\nencryption = {{ scheme = 'cissa', key-file = 'content' }}\n\
         [entitlements.main]\nsubscribers = ['party']\n"
    );
    let mut shown = Vec::new();
    let short = |key: &str| key[..5].to_owned();
    let odd = |key: &str| format!("{key}\u{7}");
    let twice = |key: &str| format!("{key}\n{key}");
    let forms: [&dyn Fn(&str) -> String; 4] = [&short, &odd, &twice, &str::to_owned];
    for form in forms {
        keys.iter().for_each(|(name, key)| daemon.write_secret(name, &form(key)));
        support::daemon::write_atomically(&daemon.root().join("etc/mediaconnect.toml"), &settings);
        daemon.write_flow("news", &(flow("first") + &more));
        shown.extend(all_that_is_said(&daemon));
    }
    let flow = daemon.flow("news");
    assert!(flow["stale-config"] == false && flow["entitlements"]["main"].is_object(), "all of it runs: {flow:#}");
    let mut kept = Vec::new();
    files(daemon.root(), &mut kept);
    for file in ["state/flows/news.toml", "log/audit.jsonl", "stderr"] {
        assert!(kept.contains(&daemon.root().join(file)), "{kept:?}");
    }
    // Where an operator wrote the webhook, and the copies of that file.
    kept.retain(|path| !path.ends_with("mediaconnect.toml"));
    shown.extend(kept.into_iter().map(|path| fs::read(path).unwrap()));
    let parts = keys.iter().flat_map(|(_, key)| key.split('-')).filter(|part| part.len() > 3);
    let parts = parts.flat_map(|part| [part, &part[part.len().saturating_sub(8)..]]).chain([webhook]);
    for part in parts {
        for text in &shown {
            let text = String::from_utf8_lossy(text);
            assert!(!text.contains(part), "{part} is in {text}");
        }
    }
}
