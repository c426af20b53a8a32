//! `mediaconnectd --demo`, as somebody runs it who has just heard of it.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use support::{PATIENCE, wait_for};

const OUTPUTS: [&str; 5] =
    ["udp-as-received", "udp-three-a-datagram", "rtp-regenerated", "rtp-passthrough", "udp-after-srt"];

/// A running demo, in a temporary directory of the test's own. It is killed when dropped.
struct Demo {
    temporary: TempDir,
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it has written so far.
    text: String,
}

impl Demo {
    fn start(length: &str) -> Self {
        let temporary = TempDir::with_prefix("mediaconnect-test-").expect("a temporary directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_mediaconnectd"))
            .args(["--demo", "--demo-for", length])
            .env("TMPDIR", temporary.path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("mediaconnectd starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { temporary, child, stdout, text: String::new() }
    }

    /// Read until a line is wanted, and give it. It writes at least one every second.
    #[track_caller]
    fn line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let mut line = String::new();
            let length = self.stdout.read_line(&mut line).expect("lines of text");
            assert!(length > 0 && start.elapsed() < PATIENCE, "{what} is missing:\n{}", self.text);
            self.text.push_str(&line);
            if wanted(&line) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// The last word of the line that begins so.
    #[track_caller]
    fn told(&mut self, beginning: &str) -> String {
        let line = self.line(beginning, |line| line.starts_with(beginning));
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// Read to the end.
    fn end(mut self) -> (ExitStatus, String) {
        self.stdout.read_to_string(&mut self.text).expect("text");
        let status = self.child.wait().expect("it ends");
        let left: Vec<_> = fs::read_dir(self.temporary.path()).expect("the directory").collect();
        assert!(left.is_empty(), "the demo removes what it made: {left:?}");
        (status, std::mem::take(&mut self.text))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The body behind a URL of this host.
fn get(url: &str) -> Option<String> {
    let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(address.parse::<SocketAddr>().ok()?).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// The figures of an output in the last table: datagrams, packets, verified, missing, corrupt.
#[track_caller]
fn figures(text: &str, name: &str) -> [u64; 5] {
    let row = text.lines().rev().find(|line| line.split_whitespace().take(2).eq(["output", name]));
    let row = row.unwrap_or_else(|| panic!("{name} is not in the table:\n{text}"));
    let figures: Vec<u64> = row.split_whitespace().skip(3).map(|figure| figure.parse().expect("a figure")).collect();
    figures.try_into().expect("five figures")
}

#[test]
fn the_demo_verifies_every_byte_of_every_output() {
    let mut demo = Demo::start("3s");
    let metrics = demo.told("and by HTTP:");
    let status = metrics.replace("/metrics", "/v1/flows/demo");
    wait_for("the flow runs, by HTTP", || get(&status).filter(|flow| flow.contains("\"active\"")));
    let metrics = wait_for("metrics, by HTTP", || get(&metrics));
    assert!(OUTPUTS.iter().all(|name| metrics.contains(&format!("output=\"{name}\""))), "{metrics}");
    let (ended, text) = demo.end();
    assert!(ended.success(), "{ended}\n{text}");
    let sent = figures(&text, OUTPUTS[0])[1];
    assert!(sent > 0, "{text}");
    for name in OUTPUTS {
        let [datagrams, packets, verified, missing, corrupt] = figures(&text, name);
        assert_eq!([packets, verified, missing, corrupt], [sent, sent, 0, 0], "{name}:\n{text}");
        let a_datagram = if name == "udp-three-a-datagram" { 3 } else { 7 };
        assert!(datagrams >= sent.div_ceil(a_datagram), "{name}:\n{text}");
    }
    assert!(text.ends_with(&format!("OK: each of 5 outputs received all {sent} TS packets, every byte verified\n")));
}

#[test]
fn the_srt_hop_of_the_demo_is_encrypted_by_a_passphrase_that_only_its_user_can_read() {
    let mut demo = Demo::start("3s");
    let flow = PathBuf::from(demo.told("edit the flow:"));
    let status = demo.told("and by HTTP:").replace("/metrics", "/v1/flows/demo");
    let key = flow.parent().and_then(Path::parent).expect("a directory").join("secrets/hop");
    assert_eq!(fs::metadata(&key).expect("the passphrase").permissions().mode() & 0o777, 0o600);
    wait_for("the hop is connected, and encrypted", || get(&status).filter(|flow| flow.contains("\"AES-256\"")));
    let passphrase = fs::read_to_string(&key).expect("the passphrase");
    let (ended, text) = demo.end();
    assert!(ended.success() && !text.contains(passphrase.trim_end()), "{ended}\n{text}");
}

#[test]
fn an_output_that_is_switched_off_meanwhile_is_named_and_no_other_loses_anything() {
    let mut demo = Demo::start("1h");
    let file = PathBuf::from(demo.told("edit the flow:"));
    demo.line("the first figures", |line| line.contains(" 0 missing, 0 corrupt"));
    let flow = fs::read_to_string(&file).expect("the flow's file");
    let changed = flow.replace("[outputs.rtp-regenerated]\n", "[outputs.rtp-regenerated]\nenabled = false\n");
    assert_ne!(changed, flow);
    let new = file.with_extension("new");
    fs::write(&new, changed).and_then(|()| fs::rename(&new, &file)).expect("the flow's file is replaced");
    demo.line("what is missing", |line| line.contains(" TS packets sent") && !line.contains(" 0 missing"));
    kill(Pid::from_raw(demo.child.id().cast_signed()), Signal::SIGINT).expect("the demo runs");
    let (ended, text) = demo.end();
    assert_eq!(ended.code(), Some(1), "{text}");
    let [_, packets, verified, missing, corrupt] = figures(&text, "rtp-regenerated");
    assert!(packets == verified && missing > 0 && corrupt == 0, "{text}");
    let sent = verified + missing;
    let failed: Vec<_> = text.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert_eq!(failed, [format!("FAILED: output rtp-regenerated: {missing} of {sent} TS packets missing")]);
    for name in OUTPUTS.iter().filter(|name| **name != "rtp-regenerated") {
        assert_eq!(figures(&text, name)[1..], [sent, sent, 0, 0], "{name}:\n{text}");
    }
}

#[test]
fn the_length_of_a_demo_without_a_demo_is_wrong_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_mediaconnectd")).args(["--demo-for", "3s"]).output();
    let output = output.expect("mediaconnectd starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--demo"), "{output:?}");
}
