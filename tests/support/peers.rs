//! Other people's programs: ffmpeg, multicat, socat, GStreamer, srt-live-transmit, ristsender, ristreceiver and
//! keepalived.

use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::wait_for;

/// Programs and the Debian packages that hold them.
const PACKAGES: [(&str, &str); 10] = [
    ("ffmpeg", "ffmpeg"),
    ("ffprobe", "ffmpeg"),
    ("multicat", "multicat"),
    ("ingests", "multicat"),
    ("socat", "socat"),
    ("srt-live-transmit", "srt-tools"),
    ("ristsender", "rist-tools"),
    ("ristreceiver", "rist-tools"),
    ("gst-launch-1.0", "gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"),
    ("keepalived", "keepalived"),
];

/// A command of a peer, which is installed first where it is missing and we are root.
#[track_caller]
pub fn command(program: &str) -> Command {
    let packages = PACKAGES.iter().find(|(name, _)| *name == program).map(|(_, packages)| *packages);
    let packages = packages.unwrap_or_else(|| panic!("{program} is no known peer"));
    if !is_installed(program) {
        install(program, packages);
    }
    Command::new(program)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[track_caller]
fn install(program: &str, packages: &str) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "{program} is missing; install the peers of the tests: sudo apt-get install --no-install-recommends {packages}"
    );
    let lock = File::create(std::env::temp_dir().join("mediaconnect-test-apt")).expect("a lock file");
    lock.lock().expect("the lock");
    if is_installed(program) {
        return;
    }
    for arguments in ["update".to_owned(), format!("install --yes --no-install-recommends {packages}")] {
        let mut apt = Command::new("apt-get");
        apt.args(arguments.split(' ')).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let status = apt.stdout(Stdio::null()).status().expect("apt-get starts");
        assert!(status.success(), "apt-get {arguments}: {status}");
    }
}

/// A running peer. It is killed when dropped, and what it wrote is shown if the test failed.
pub struct Peer {
    name: String,
    child: Child,
    output: TempDir,
}

impl Peer {
    /// Start it. Its standard output and error go to files.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self::launch(command, None)
    }

    /// Start it. Its standard output, which is what it is run for, goes to this file.
    #[track_caller]
    pub fn start_into(command: &mut Command, stdout: File) -> Self {
        Self::launch(command, Some(stdout))
    }

    #[track_caller]
    fn launch(command: &mut Command, stdout: Option<File>) -> Self {
        let output = TempDir::with_prefix("mediaconnect-peer-").expect("a temporary directory");
        let file = |name: &str| File::create(output.path().join(name)).expect("a file for output");
        let stdout = stdout.unwrap_or_else(|| file("stdout"));
        let child = command.stdout(stdout).stderr(file("stderr")).spawn();
        let name = command.get_program().to_string_lossy().into_owned();
        Self { child: child.unwrap_or_else(|error| panic!("{name}: {error}")), name, output }
    }

    /// The program's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it wrote on standard output.
    pub fn stdout(&self) -> String {
        read(&self.output.path().join("stdout"))
    }

    /// What it wrote on standard error.
    pub fn stderr(&self) -> String {
        read(&self.output.path().join("stderr"))
    }

    /// Its standard input, if that was piped.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input was piped")
    }

    /// Wait until it ends by itself, at most so long.
    #[track_caller]
    pub fn wait(&mut self, most: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the peer's state") {
                return status;
            }
            assert!(start.elapsed() < most, "{} has not ended after {most:?}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ask it to end (SIGINT, as Ctrl-C does), and wait until it has.
    #[track_caller]
    pub fn interrupt(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("the peer runs");
        self.wait(super::PATIENCE)
    }

    /// Wait until somebody receives on a UDP port, which only this peer does; which socket it is.
    #[track_caller]
    pub fn wait_until_bound(&mut self, port: u16) -> BoundSocket {
        self.wait_until_bound_anew(port, None)
    }

    /// Wait until the peer has closed that socket and receives on the port by another.
    #[track_caller]
    pub fn wait_until_bound_anew(&mut self, port: u16, before: Option<&BoundSocket>) -> BoundSocket {
        wait_for(&format!("{} listens on port {port}", self.name), || {
            let ended = self.child.try_wait().expect("the peer's state");
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            bound_socket(port).filter(|socket| Some(socket) != before)
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- {}: standard output and error\n{}{}---", self.name, self.stdout(), self.stderr());
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A socket, by its inode.
#[derive(Debug, PartialEq, Eq)]
pub struct BoundSocket(String);

/// Who receives on a UDP port of this network, by the kernel's tables.
fn bound_socket(port: u16) -> Option<BoundSocket> {
    let wanted = format!(":{port:04X}");
    ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"].iter().find_map(|table| {
        read(Path::new(table)).lines().find_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let here = columns.get(1).is_some_and(|address| address.ends_with(&wanted));
            columns.get(9).filter(|_| here).map(|inode| BoundSocket((*inode).to_owned()))
        })
    })
}
