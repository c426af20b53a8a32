//! Networks of a test's own: nothing of the host's is touched, and all is gone with the test.
//!
//! A test that needs one runs itself again in a new network namespace (`unshare`), as root or, for an ordinary user,
//! as root of a user namespace. There it may make further namespaces, joined to its own by a veth pair.

use std::ffi::OsStr;
use std::fs::File;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, setns};

use super::wait_for;

/// Set in the process that runs in the new namespace.
const MARK: &str = "MEDIACONNECT_TEST_NETWORK";

/// Run a test's body in a network of its own. `test` is the test's full name in its crate.
#[track_caller]
pub fn in_own_network(test: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        run(["ip", "link", "set", "lo", "up"]);
        return body();
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let this = std::env::current_exe().expect("the test's own program");
    command.arg("--net").arg("--").arg(this).args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, "1");
    super::ports::same_user(&mut command);
    let output = command.output().expect("unshare starts (package util-linux)");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test} in its own network (needs root, or user namespaces for ordinary users):\n{text}"
    );
    // Its figures, for those who ask with --nocapture.
    print!("{text}");
}

/// Let groups of IPv4 be on loopback, whoever sends to them. For [a network of one's own](in_own_network).
pub fn route_groups_to_loopback() {
    run(["ip", "link", "set", "lo", "multicast", "on"]);
    run(["ip", "route", "add", "239.0.0.0/8", "dev", "lo"]);
}

/// Bring the calling thread, and what it starts from now on, into the network of a process. Needs root.
pub fn join(pid: u32) {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("the process runs");
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("the thread changes its network (needs root)");
}

/// Another network namespace, joined to this one by a veth pair. It ends with its value.
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// With the interface `there` in it, joined to `here` in this one. Both are up, with these addresses (CIDR).
    pub fn joined(here: (&str, &[&str]), there: (&str, &[&str])) -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare starts");
        let namespace = Self { holder };
        // This thread's: it may have joined another than the process has.
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("this namespace");
        let other = format!("/proc/{}/ns/net", namespace.holder.id());
        wait_for("the namespace is there", || std::fs::read_link(&other).ok().filter(|there| *there != own));
        let pid = namespace.holder.id().to_string();
        run(["ip", "link", "add", here.0, "type", "veth", "peer", "name", there.0, "netns", &pid]);
        for (name, addresses, inside) in [(here.0, here.1, false), (there.0, there.1, true)] {
            let ip = |arguments: &[&str]| if inside { namespace.run(arguments) } else { run(arguments) };
            // Duplicate address detection would keep IPv6 waiting for a second.
            addresses.iter().for_each(|address| {
                let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
                ip(&[&["ip", "address", "add", address, "dev", name], nodad].concat());
            });
            ip(&["ip", "link", "set", name, "up"]);
        }
        namespace.run(["ip", "link", "set", "lo", "up"]);
        namespace
    }

    /// What `make` makes in there: a socket stays in the network it was made in. Needs root.
    pub fn make<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            join(self.holder.id());
            make()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().expect("it is made"))
    }

    /// A command to be run in there. Its process id is the program's own.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--").arg(program);
        command
    }

    /// Run a command in there; it must exit 0.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) {
        let mut words = command.into_iter();
        let program = words.next().expect("a command has a program");
        succeed(self.command(program).args(words));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a holder that is gone already.
        let _ = self.holder.kill().and_then(|()| self.holder.wait());
    }
}

/// Run a command; it must exit 0.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) {
    let mut words = command.into_iter();
    let program = words.next().expect("a command has a program");
    succeed(Command::new(program).args(words));
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
}
