//! What the tests of this room share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, poll};

use super::batch::ReceiveBatch;
use super::open::{Family, ReceiveSpec, Receiver, SendSpec, Sender, open_receiver, open_sender};
use super::sys::own_network;

pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A plain receiver on `ip`; port 0: a free one.
pub(super) fn spec(ip: IpAddr, port: u16) -> ReceiveSpec {
    ReceiveSpec {
        bind: SocketAddr::new(ip, port),
        dual_stack: false,
        interface: None,
        multicast_sources: Vec::new(),
        receive_buffer: 4 << 20,
        timestamps: false,
        gro: false,
    }
}

pub(super) fn receiver(ip: IpAddr) -> (Receiver, SocketAddr) {
    let receiver = open_receiver(&spec(ip, 0)).unwrap();
    let address = receiver.local_addr().unwrap();
    (receiver, address)
}

pub(super) fn sender(family: Family) -> Sender {
    open_sender(&SendSpec { family, source_port: None, send_buffer: 4 << 20 }).unwrap()
}

/// Whether input comes within ten seconds.
pub(super) fn readable(socket: impl AsFd) -> bool {
    readable_within(socket, 10_000)
}

/// Whether input, or an error, comes within so many milliseconds.
pub(super) fn readable_within(socket: impl AsFd, ms: u16) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, ms).unwrap() == 1
}

/// The next `count` payloads.
pub(super) fn payloads(batch: &mut ReceiveBatch, socket: &impl AsFd, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count {
        assert!(readable(socket), "{} of {count} datagrams came", all.len());
        batch.receive(socket).unwrap();
        all.extend(batch.datagrams().map(|d| d.payload.to_vec()));
    }
    all
}

/// A UDP port of 127.0.0.1 on which nobody listens.
pub(super) fn dead_address() -> SocketAddr {
    std::net::UdpSocket::bind((LOCAL, 0)).unwrap().local_addr().unwrap()
}

/// Runs `test` in a network namespace of its own, with a loopback interface that is up. For an ordinary user the whole
/// test runs once more, as root of a user namespace.
pub(super) fn in_own_network(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return again_in_user_namespace();
    }
    let thread = std::thread::spawn(|| {
        own_network().expect("a network namespace");
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn again_in_user_namespace() {
    let this_thread = std::thread::current();
    let test = this_thread.name().expect("the test's name");
    let mut again = std::process::Command::new("unshare");
    again.args(["--user", "--map-root-user", "--"]).arg(std::env::current_exe().unwrap());
    let output = again.args([test, "--exact", "--nocapture"]).output().expect("unshare starts (package util-linux)");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test} as root of a user namespace (run it as root where those are forbidden):\n{text}"
    );
}

/// `ip` with these arguments.
pub(super) fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

/// A command of words without spaces.
pub(super) fn run(command: &str) {
    let mut words = command.split(' ');
    let status = std::process::Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}
