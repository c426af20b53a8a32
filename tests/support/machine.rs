//! A Debian machine with systemd and rsyslog, as a container: the programs are put in it as the package would.
//!
//! Its tree is made once, by debootstrap, and kept with the build; each test boots it anew, and what is changed in it is
//! gone with the test. Needs root, and the packages debootstrap and systemd-container.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::daemon::{ask, write_atomically};
use super::{netns, wait_for};

/// What a machine is made of.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Debian's release.
    pub release: &'static str,
    /// What is installed beside [`PACKAGES`]; each starts with a comma.
    pub more: &'static str,
}

/// Debian 12, whose C library the programs were built with.
pub const BOOKWORM: Image = Image { release: "bookworm", more: "" };

/// Debian 13.
pub const TRIXIE: Image = Image { release: "trixie", more: "" };

/// What a minimal Debian needs on top.
const PACKAGES: &str = "systemd,systemd-sysv,rsyslog,iproute2,libgcc-s1";

/// What a package installs, from the source tree to the machine.
const INSTALLED: [(&str, &str); 7] = [
    ("systemd/mediaconnectd.service", UNIT),
    ("systemd/mediaconnect-thumbnail.socket", "/usr/lib/systemd/system/mediaconnect-thumbnail.socket"),
    ("systemd/mediaconnect-thumbnail@.service", HELPER_UNIT),
    ("systemd/system-mediaconnect.slice", "/usr/lib/systemd/system/system-mediaconnect.slice"),
    ("systemd/mediaconnect.sysusers", "/usr/lib/sysusers.d/mediaconnect.conf"),
    ("etc/sysctl.d/60-mediaconnect.conf", "/etc/sysctl.d/60-mediaconnect.conf"),
    ("etc/mediaconnect.toml", "/usr/share/mediaconnect/mediaconnect.toml"),
];

/// Where the unit is installed.
pub const UNIT: &str = "/usr/lib/systemd/system/mediaconnectd.service";

/// Where the helper's unit is installed.
pub const HELPER_UNIT: &str = "/usr/lib/systemd/system/mediaconnect-thumbnail@.service";

/// A running machine. It is killed when dropped, or when the test's thread ends in whatever way.
pub struct Machine {
    unshare: Child,
    /// What its console shows.
    console: NamedTempFile,
    /// Its process 1, as seen from here.
    leader: u32,
}

impl Machine {
    /// With the programs, the unit, its user, and the settings as they are shipped; nothing is started yet. The calling
    /// thread is in the machine's network from now on.
    #[track_caller]
    pub fn boot() -> Self {
        Self::boot_with(&[])
    }

    /// The same, with these files of ours in it, too.
    #[track_caller]
    pub fn boot_with(files: &[(&Path, &str)]) -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = INSTALLED.map(|(from, to)| (sources.join(from), to));
        let programs = [
            (env!("CARGO_BIN_EXE_mediaconnectd"), "/usr/bin/mediaconnectd"),
            (env!("CARGO_BIN_EXE_mediaconnectctl"), "/usr/bin/mediaconnectctl"),
            (env!("CARGO_BIN_EXE_mediaconnect-thumbnail"), "/usr/bin/mediaconnect-thumbnail"),
        ];
        let ours = installed.iter().map(|(from, to)| (from.as_path(), *to));
        let ours = ours.chain(programs.map(|(from, to)| (Path::new(from), to))).chain(files.iter().copied());
        let machine = Self::boot_bare(BOOKWORM, &ours.collect::<Vec<_>>());
        // As the package's script does.
        machine.ok(&["systemd-sysusers"]);
        machine.ok(&["mkdir", "-p", "/etc/mediaconnect/flows.d"]);
        machine.ok(&["cp", "/usr/share/mediaconnect/mediaconnect.toml", "/etc/mediaconnect"]);
        machine
    }

    /// With nothing of ours in it but these files. The calling thread is in the machine's network from now on.
    #[track_caller]
    pub fn boot_bare(image: Image, files: &[(&Path, &str)]) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the tests of the service boot a container: they must be run as root"
        );
        let tree = tree(image);
        // Killed, systemd-nspawn leaves the machine running. In a process namespace of its own all ends with it, and it
        // ends with this thread.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit"]);
        command.args(["--private-network", "--console=read-only", "--volatile=overlay", "--machine=mediaconnect-test"]);
        command.arg("--directory").arg(&tree);
        let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
        command.args(files.iter().map(|(from, to)| bind(from, to)));
        let console = NamedTempFile::with_prefix("mediaconnect-test-").expect("a temporary file");
        let output = || fs::File::options().append(true).open(console.path()).expect("a temporary file");
        command.arg("--boot").stdin(Stdio::null()).stdout(output()).stderr(output());
        let unshare = command.spawn().expect("setpriv starts (package util-linux)");

        let mut machine = Self { unshare, console, leader: 0 };
        machine.leader = wait_for("systemd-nspawn (package systemd-container) has started process 1", || {
            let ended = machine.unshare.try_wait().expect("its state");
            assert!(ended.is_none(), "systemd-nspawn (package systemd-container) ended at once: {ended:?}");
            // Its first child only prepares the ground for process 1.
            let is_init =
                |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n");
            children(machine.unshare.id()).into_iter().flat_map(children).find(is_init)
        });
        wait_for("the machine has booted", || {
            // Degraded: some unit of Debian's does not like containers of this kind.
            let state = machine.run(&["systemctl", "is-system-running"]).stdout;
            [&b"running\n"[..], b"degraded\n"].contains(&&state[..]).then_some(())
        });
        netns::join(machine.leader);
        machine
    }

    /// A path in the machine, as seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// The text of a file in the machine; empty where it does not exist.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Create or replace a file in the machine.
    pub fn write(&self, path: &str, text: &str) {
        write_atomically(&self.path(path), text);
    }

    /// Create or replace a flow's file.
    pub fn write_flow(&self, name: &str, text: &str) {
        self.write(&format!("/etc/mediaconnect/flows.d/{name}.toml"), text);
    }

    /// Have the shell run this, as root, whenever the service is about to start.
    #[track_caller]
    pub fn before_each_start(&self, command: &str) {
        self.ok(&["mkdir", "-p", "/run/systemd/system/mediaconnectd.service.d"]);
        let service = format!("[Service]\nExecStartPre=+/bin/sh -c '{command}'\n");
        self.write("/run/systemd/system/mediaconnectd.service.d/before.conf", &service);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// A file that holds a key, as the daemon wants it.
    #[track_caller]
    pub fn write_secret(&self, name: &str, key: &str) {
        self.ok(&["install", "-d", "-m", "2750", "-g", "mediaconnect", "/etc/mediaconnect/secrets"]);
        let write = format!("echo '{key}' | install -m 640 /dev/stdin /etc/mediaconnect/secrets/{name}");
        self.ok(&["sh", "-c", &write]);
    }

    /// Run a command in the machine, as root.
    pub fn run(&self, command: &[&str]) -> Output {
        let mut enter = Command::new("nsenter");
        enter.args(["--all", "--target", &self.leader.to_string(), "--"]).args(command).stdin(Stdio::null());
        enter.output().expect("nsenter starts (package util-linux)")
    }

    /// Run a command in the machine, which must exit 0; its standard output.
    #[track_caller]
    pub fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let text = text(&output);
        assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Start the service; systemd says when it is ready.
    #[track_caller]
    pub fn start(&self) {
        let output = self.run(&["systemctl", "start", "mediaconnectd"]);
        assert!(output.status.success(), "{}\n{}", text(&output), self.journal());
    }

    /// A property of the service, as systemd sees it.
    #[track_caller]
    pub fn property(&self, name: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", name, "mediaconnectd"]).trim().to_owned()
    }

    /// The service's main process, as seen from here.
    #[track_caller]
    pub fn main_process(&self) -> Pid {
        self.process(&self.property("MainPID")).expect("the service runs")
    }

    /// A process as seen from here, by its number in the machine.
    pub fn process(&self, inside: &str) -> Option<Pid> {
        let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&self.leader.to_string());
        let is_it = |pid: &String| {
            let status = status(pid);
            let nested = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            nested.split_whitespace().last() == Some(inside) && namespace(pid) == own
        };
        let pid = names.filter(|name| name.parse::<i32>().is_ok()).find(is_it)?;
        pid.parse().ok().map(Pid::from_raw)
    }

    /// What the journal has of the service, a line each.
    pub fn journal(&self) -> String {
        String::from_utf8_lossy(&self.run(&["journalctl", "--no-pager", "--unit", "mediaconnectd"]).stdout).into_owned()
    }

    /// What the service has sent to the journal, with all fields.
    #[track_caller]
    pub fn records(&self) -> Vec<Value> {
        let lines = self.ok(&["journalctl", "--unit", "mediaconnectd", "--output", "json"]);
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Ask the daemon's control socket; `None` while nobody listens.
    pub fn ask(&self, path: &str) -> Option<(u16, String)> {
        ask(&self.path("/run/mediaconnect/control.sock"), "GET", path).ok()
    }

    /// `/v1/flows/NAME`; `null` while it does not exist.
    pub fn flow(&self, name: &str) -> Value {
        let answer = self.ask(&format!("/v1/flows/{name}")).filter(|(code, _)| *code == 200);
        answer.map_or(Value::Null, |(_, body)| serde_json::from_str(&body).expect("JSON"))
    }

    /// Wait until a flow is in a state, and give its document.
    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} is {state}"), || Some(self.flow(name)).filter(|flow| flow["state"] == state))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = fs::read(self.console.path()).unwrap_or_default();
            eprintln!("--- the machine's console\n{}---", String::from_utf8_lossy(&console));
            eprintln!("--- the service's journal\n{}---", self.journal());
        }
        // As the first of its namespace it takes all processes with it, and is there until they are gone. Nothing can be
        // done about a machine that is gone already.
        for nspawn in children(self.unshare.id()) {
            let _ = kill(Pid::from_raw(nspawn.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.unshare.wait();
    }
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Both outputs of a command.
pub fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// The machine's tree, made at the first use.
#[track_caller]
fn tree(Image { release, more }: Image) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let packages = format!("{PACKAGES}{more}");
    let tree = dir.join(format!("{release}-{}", packages.replace(',', "-")));
    let lock = File::create(tree.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !tree.exists() {
        let new = tree.with_extension("new");
        // What an interrupted run has left.
        let _ = fs::remove_dir_all(&new);
        let mut command = Command::new("debootstrap");
        command.args(["--variant=minbase", &format!("--include={packages}"), release]).arg(&new).stdin(Stdio::null());
        let output = command.output().expect("debootstrap starts (package debootstrap)");
        assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
        fs::rename(&new, &tree).expect("the tree gets its name");
    }
    tree
}
