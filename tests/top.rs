//! `mediaconnectctl top` on a terminal of 80 x 24, which tmux plays.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::daemon::Setup;
use support::media::{Feed, Stream, Wire, v4};
use support::ports::free_port;
use support::wait_for;
use tempfile::TempDir;

#[test]
fn a_flow_has_a_history_from_its_first_media_on_and_an_idle_one_has_none() {
    let [input, silent] = [free_port(), free_port()];
    let flow = |port| {
        format!(
            "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{port}'\n\
             [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:9'\n"
        )
    };
    let daemon = Setup::new().flow("arena", &flow(input)).flow("zoo", &flow(silent)).start();
    Feed::new(Wire::Udp, v4(input), Stream::at(2_000_000)).send_for(Duration::from_secs(3));
    let most = |rates: &Value| rates.as_array()?.iter().filter_map(Value::as_u64).max();
    let history = wait_for("a history of three seconds", || {
        Some(daemon.json("/v1/flows/arena/history")).filter(|history| history["steps"].as_u64() >= Some(3))
    });
    assert_eq!(history["step-seconds"], 1);
    for part in ["sources/main", "outputs/out"] {
        let rates = history.pointer(&format!("/{part}/bitrate-bps")).expect(part);
        assert!(most(rates).is_some_and(|bps| (500_000..4_000_000).contains(&bps)), "{part}: {rates}");
    }
    // A figure that is always 0 is not there.
    assert!(history["sources"]["main"]["packets-lost"].is_null(), "{history:#}");
    let idle = daemon.json("/v1/flows/zoo/history?since=3h");
    assert_eq!((&idle["steps"], &idle["sources"], &idle["outputs"]), (&json!(0), &json!({}), &json!({})));
    let table = daemon.ctl_ok(&["status", "arena", "--since", "10m"]);
    assert!(table.contains("source main\nUNTIL") && table.contains("output out\nUNTIL"), "{table}");
    assert!(daemon.ctl_ok(&["status", "zoo", "--since", "10m"]).contains("no media has come"));
    let overview = daemon.json("/v1/overview");
    assert_eq!((&overview["flows"][0]["name"], &overview["flows"][1]["name"]), (&json!("arena"), &json!("zoo")));
    assert!(most(&overview["about"]["arena"]["minute-kbps"]).is_some_and(|kbps| kbps > 500), "{overview:#}");
}

/// A server of tmux with one window, which ends when dropped.
struct Terminal {
    dir: TempDir,
}

impl Terminal {
    fn run(command: &str) -> Self {
        let terminal = Self { dir: TempDir::with_prefix("mediaconnect-test-tmux-").expect("a temporary directory") };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command]);
        terminal
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.socket()).args(arguments).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        let output = command.stdin(Stdio::null()).output().expect("tmux is installed: see tests/run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        wait_for(&format!("{text:?} on the screen"), || Some(self.screen()).filter(|screen| screen.contains(text)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_live_flows_sorts_them_and_goes_into_one() {
    let [input, silent] = [free_port(), free_port()];
    let flow = |port| {
        format!(
            "description = 'For the hall'\n[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{port}'\n\
             [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:9'\n"
        )
    };
    let daemon = Setup::new().flow("arena", &flow(input)).flow("zoo", &flow(silent)).start();
    let stream = Stream::at(2_000_000);
    Feed::new(Wire::Udp, v4(input), stream).send_for(Duration::from_secs(2));

    let ctl = env!("CARGO_BIN_EXE_mediaconnectctl");
    let run = daemon.root().join("run");
    // What it leaves behind is seen by what is printed after it.
    let terminal = Terminal::run(&format!("{ctl} --runtime {} top; echo left with $?; sleep 60", run.display()));
    let first = terminal.wait_for("order: worst");
    assert!(first.lines().count() <= 24 && first.lines().all(|line| line.chars().count() <= 80), "{first}");
    terminal.wait_for("2 flows");
    terminal.tmux(&["send-keys", "s"]);
    let by_name = terminal.wait_for("order: name");
    let place = |name: &str| by_name.lines().position(|line| line.starts_with(name));
    assert!(place("arena") < place("zoo"), "{by_name}");
    terminal.tmux(&["send-keys", "Home", "Enter"]);
    let detail = terminal.wait_for("source main (udp, on air)");
    assert!(detail.contains("main: the last") && detail.contains("For the hall"), "{detail}");
    terminal.tmux(&["send-keys", "q"]);
    terminal.wait_for("order: name");
    terminal.tmux(&["send-keys", "/", "z", "Enter"]);
    let found = terminal.wait_for("found by 'z'");
    assert!(found.contains("zoo") && !found.contains("arena"), "{found}");
    terminal.tmux(&["send-keys", "q"]);
    terminal.wait_for("left with 0");
}
