//! The real daemon in a directory of its own, and what an operator does with it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::netns::Namespace;
use super::{PATIENCE, wait_for};

/// Settings of every test: nothing listens on TCP.
const SETTINGS: &str = "[http]\nlisten = []\n";

/// A running daemon. It is killed when dropped, and its log is shown if the test failed.
pub struct Daemon {
    root: TempDir,
    child: Child,
}

/// A daemon to be started.
pub struct Setup<'a> {
    root: TempDir,
    namespace: Option<&'a Namespace>,
    environment: Vec<(&'a str, &'a str)>,
}

impl<'a> Setup<'a> {
    /// Without flows.
    pub fn new() -> Self {
        let root = TempDir::with_prefix("mediaconnect-test-").expect("a temporary directory");
        fs::create_dir_all(root.path().join("etc/flows.d")).expect("flows.d");
        fs::write(root.path().join("etc/mediaconnect.toml"), SETTINGS).expect("mediaconnect.toml");
        Self { root, namespace: None, environment: Vec::new() }
    }

    /// With one flow more.
    pub fn flow(self, name: &str, text: &str) -> Self {
        write_atomically(&self.root.path().join("etc/flows.d").join(format!("{name}.toml")), text);
        self
    }

    /// With a file of this text in `secrets`, which others can't read.
    pub fn secret(self, name: &str, text: &str) -> Self {
        write_secret(self.root.path(), name, text);
        self
    }

    /// With one subscriber more.
    pub fn subscriber(self, name: &str, text: &str) -> Self {
        fs::create_dir_all(self.root.path().join("etc/subscribers.d")).expect("subscribers.d");
        write_atomically(&self.root.path().join("etc/subscribers.d").join(format!("{name}.toml")), text);
        self
    }

    /// With a directory of this name beside `flows.d`.
    pub fn directory(self, name: &str) -> Self {
        fs::create_dir_all(self.root.path().join("etc").join(name)).expect("a directory");
        self
    }

    /// With these lines at the end of `mediaconnect.toml`.
    pub fn settings(self, text: &str) -> Self {
        fs::write(self.root.path().join("etc/mediaconnect.toml"), format!("{SETTINGS}{text}")).expect("settings");
        self
    }

    /// With HTTP on a loopback port.
    pub fn http(self, port: u16) -> Self {
        let settings = format!("[http]\nlisten = ['127.0.0.1:{port}']\n");
        fs::write(self.root.path().join("etc/mediaconnect.toml"), settings).expect("settings");
        self
    }

    /// In another network.
    pub fn in_namespace(self, namespace: &'a Namespace) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// With a variable in its environment, at its first start.
    pub fn environment(mut self, name: &'a str, value: &'a str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// A file beside its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Start it, and wait until every flow is open, or has said why it is not.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let daemon = self.start_until_ready();
        daemon.wait_until_open();
        daemon
    }

    /// Start it, and wait only until it says that it is ready.
    #[track_caller]
    pub fn start_until_ready(self) -> Daemon {
        let mut daemon = Daemon { child: spawn(self.root.path(), self.namespace, &self.environment), root: self.root };
        daemon.wait_until_ready();
        daemon
    }
}

fn spawn(root: &Path, namespace: Option<&Namespace>, environment: &[(&str, &str)]) -> Child {
    let log = File::options().create(true).append(true).open(root.join("stderr")).expect("a file for stderr");
    let program = env!("CARGO_BIN_EXE_mediaconnectd");
    let mut command = namespace.map_or_else(|| Command::new(program), |namespace| namespace.command(program));
    command
        .args(places(root))
        .arg("--log-dir")
        .arg(root.join("log"))
        .arg("--foreground")
        .env_remove("NOTIFY_SOCKET")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().expect("mediaconnectd starts")
}

fn write_secret(root: &Path, name: &str, text: &str) {
    let (dir, path) = (root.join("etc/secrets"), root.join("etc/secrets").join(name));
    fs::create_dir_all(&dir).expect("secrets");
    let new = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o640).open(&new).expect("a secret");
    file.write_all(text.as_bytes()).and_then(|()| fs::rename(&new, &path)).expect("a secret is written");
}

/// The options that move all places under one root.
fn places(root: &Path) -> [PathBuf; 6] {
    ["--config".into(), root.join("etc"), "--runtime".into(), root.join("run"), "--state".into(), root.join("state")]
}

impl Daemon {
    /// One flow, named `flow`.
    #[track_caller]
    pub fn with_flow(text: &str) -> Self {
        Setup::new().flow("flow", text).start()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it holds.
    pub fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("the daemon runs");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("proc(5)") * 4096
    }

    /// Everything of this daemon lies below it: `etc`, `run`, `state`, `log`.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The file of a flow.
    pub fn flow_path(&self, name: &str) -> PathBuf {
        self.root().join("etc/flows.d").join(format!("{name}.toml"))
    }

    /// Create or replace a flow's file, by an atomic rename.
    pub fn write_flow(&self, name: &str, text: &str) {
        write_atomically(&self.flow_path(name), text);
    }

    /// The file of a subscriber.
    pub fn subscriber_path(&self, name: &str) -> PathBuf {
        self.root().join("etc/subscribers.d").join(format!("{name}.toml"))
    }

    /// Create or replace a subscriber's file, by an atomic rename.
    pub fn write_subscriber(&self, name: &str, text: &str) {
        write_atomically(&self.subscriber_path(name), text);
    }

    /// Delete a flow's file.
    pub fn remove_flow(&self, name: &str) {
        fs::remove_file(self.flow_path(name)).expect("the flow has a file");
    }

    /// Create or replace a file in `secrets`.
    pub fn write_secret(&self, name: &str, text: &str) {
        write_secret(self.root(), name, text);
    }

    /// What it has written on standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root().join("stderr")).unwrap_or_default()
    }

    /// Wait until it has written this: a line may come a moment after its effect. All it has written.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("the daemon says: {text}"), || Some(self.log()).filter(|log| log.contains(text)))
    }

    /// Run `mediaconnectctl`.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mediaconnectctl"));
        command.args(places(self.root())).args(arguments).stdin(Stdio::null());
        command.output().expect("mediaconnectctl starts")
    }

    /// Run `mediaconnectctl`, which must exit 0; its standard output.
    #[track_caller]
    pub fn ctl_ok(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "mediaconnectctl {arguments:?}: {}\n{out}{err}", output.status);
        out
    }

    /// Ask the control socket; status code and body.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn ask(&self, method: &str, path: &str) -> std::io::Result<(u16, String)> {
        ask(&self.root().join("run/control.sock"), method, path)
    }

    /// The JSON behind a path.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let (code, body) = self.ask("GET", path).expect("the control socket answers");
        assert_eq!(code, 200, "GET {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// `/v1/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.json("/v1/status")
    }

    /// `/v1/flows/NAME`.
    #[track_caller]
    pub fn flow(&self, name: &str) -> Value {
        self.json(&format!("/v1/flows/{name}"))
    }

    /// Wait until a flow's document is as it should be, and give it.
    #[track_caller]
    pub fn wait_for_flow(&self, name: &str, what: &str, mut ready: impl FnMut(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let flow = self.flow(name);
            if ready(&flow) {
                return flow;
            }
            assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}; instead: {flow:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Wait until a flow has a condition of this code, and give the condition.
    #[track_caller]
    pub fn wait_for_condition(&self, name: &str, code: &str) -> Value {
        let flow = self.wait_for_flow(name, code, |flow| condition(flow, code).is_some());
        condition(&flow, code).cloned().unwrap_or_default()
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Send it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("the daemon runs");
    }

    /// Wait until it ends by itself; whether with exit code 0.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> bool {
        wait_for("the daemon ends", || self.child.try_wait().ok().flatten()).success()
    }

    /// Kill it (SIGKILL), and start it again on the same files. Returns when every flow is open.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        self.kill_and_restart_until_ready();
        self.wait_until_open();
    }

    /// The same, but wait only until it says that it is ready.
    #[track_caller]
    pub fn kill_and_restart_until_ready(&mut self) {
        self.kill();
        self.child = spawn(self.root.path(), None, &[]);
        self.wait_until_ready();
    }

    /// Kill it (SIGKILL).
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("the daemon runs");
        self.child.wait().expect("the daemon ends");
    }

    /// Start one that was killed again on the same files, in a network. Returns when every flow is open.
    #[track_caller]
    pub fn start_again_in(&mut self, namespace: &Namespace) {
        self.child = spawn(self.root.path(), Some(namespace), &[]);
        self.wait_until_ready();
        self.wait_until_open();
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        wait_for("the daemon is ready", || {
            let ended = self.child.try_wait().expect("the daemon's state");
            assert!(ended.is_none(), "the daemon ended while starting: {ended:?}");
            matches!(self.ask("GET", "/readyz"), Ok((200, _))).then_some(())
        });
    }

    #[track_caller]
    fn wait_until_open(&self) {
        let files = fs::read_dir(self.root().join("etc/flows.d")).expect("flows.d").count();
        wait_for("every flow is open", || {
            let flows = &self.status()["flows"];
            (flows["total"] == files && flows["starting"] == 0).then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let socket = self.root().join("run/control.sock");
        if std::thread::panicking()
            && let Ok((_, flows)) = ask(&socket, "GET", "/v1/flows")
        {
            eprintln!("--- what the daemon says of its flows\n{flows}");
        }
        let killed = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- the daemon's log (ended: {killed:?})\n{}---", self.log());
        }
    }
}

/// Ask a control socket; status code and body.
///
/// # Errors
/// Nobody listens.
pub fn ask(socket: &Path, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask_over(stream, method, path)
}

/// Ask for a document over HTTP on a loopback port; status code and body.
///
/// # Errors
/// Nobody listens.
pub fn ask_port(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask_over(stream, "GET", path)
}

fn ask_over(mut stream: impl Read + Write, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((code, if chunked { unchunk(body) } else { body.to_owned() }))
}

/// A flow's condition of a code.
pub fn condition<'a>(flow: &'a Value, code: &str) -> Option<&'a Value> {
    flow["conditions"].as_array()?.iter().find(|condition| condition["code"] == code)
}

/// A counter in a document, by its path: `"sources/main/packets-lost"`.
#[track_caller]
pub fn count(flow: &Value, path: &str) -> u64 {
    let value = flow.pointer(&format!("/{path}")).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no counter {path} in {flow:#}"))
}

/// Create or replace a file, by an atomic rename.
pub fn write_atomically(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).expect("a file is written");
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        whole.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or("");
    }
    whole
}
