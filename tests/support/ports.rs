//! Free ports, also between tests of several processes at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::Command;
use std::sync::Mutex;

/// Below the ephemeral range, so that no socket of the system's choice takes one away.
const RANGE: std::ops::Range<u16> = 20_000..32_000;
/// Ports of one reservation: room for an RTP port and what belongs to it.
const BLOCK: u16 = 10;

/// Tells a process in a user namespace whose locks to take.
const USER: &str = "MEDIACONNECT_TEST_USER";

/// Hand on whose tests these are.
pub fn same_user(command: &mut Command) {
    command.env(USER, user());
}

/// Locks are held until the process ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// An even port that no other test has, together with the nine that follow it.
pub fn free_port() -> u16 {
    let dir = std::env::temp_dir().join(format!("mediaconnect-test-ports-{}", user()));
    fs::create_dir_all(&dir).expect("a directory for port locks");
    let blocks = (RANGE.end - RANGE.start) / BLOCK;
    // Where the search begins is no secret and need not be random: it only keeps processes apart.
    let first = (std::process::id() * 37 % u32::from(blocks)) as u16;
    for n in 0..blocks {
        let port = RANGE.start + (first + n) % blocks * BLOCK;
        let lock = File::create(dir.join(port.to_string())).expect("a port's lock file");
        if lock.try_lock().is_err() || taken().range(port..port + BLOCK).next().is_some() {
            continue;
        }
        HELD.lock().expect("no test panics in here").push(lock);
        return port;
    }
    panic!("no free port in {RANGE:?}: is another test run hanging?");
}

/// Whose tests these are. In a user namespace everybody is 0: the process outside says who it is.
fn user() -> String {
    std::env::var(USER).unwrap_or_else(|_| nix::unistd::getuid().to_string())
}

/// The UDP ports of this network that somebody has, by the kernel's tables. To bind one and see would not do: while
/// another thread starts a program, that has this process's sockets too, for a moment, and so keeps a port taken that was
/// only tried here.
fn taken() -> BTreeSet<u16> {
    // This thread's network: it may have joined another one.
    let tables = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let port = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit_once(':')?.1, 16).ok();
    tables.iter().flat_map(|table| table.lines()).filter_map(port).collect()
}
