//! As much as one appliance is promised to carry: a thousand flows, five hundred outputs of one, and no growth.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use support::crowd::{Judge, ONE, Traffic, numbered};
use support::daemon::{Daemon, Setup, count};
use support::media::v4;
use support::ports::free_port;
use support::wait_for;

const FLOWS: usize = 1000;
const OUTPUTS: usize = 500;
/// What a daemon of a thousand idle flows may hold, in bytes.
const IDLE: u64 = 60 << 20;
/// What a process may hold more in the end than after the warm-up, in bytes: pages that its allocator keeps at hand.
const SLACK: u64 = 2 << 20;

/// Whether there is time for ten and more times as much.
fn long() -> bool {
    std::env::var_os("MEDIACONNECT_LONG").is_some()
}

fn name(flow: usize) -> String {
    format!("flow-{flow:04}")
}

/// The flow's own address of loopback in a network: one port serves all flows.
fn address(network: u8, flow: usize) -> String {
    format!("127.{network}.{}.{}", flow / 250, flow % 250 + 1)
}

fn flow(input: &str, output: &str) -> String {
    format!(
        "[sources.main]\nprotocol = 'udp'\nbind = '{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '{output}'\n"
    )
}

/// The same with a fixed budget: one that follows the load takes a descriptor more or less.
fn steady_flow(input: &str, output: &str) -> String {
    format!("gather = '0s'\n{}", flow(input, output))
}

/// A thousand flows. The first one receives on `port` of 127.0.0.1 and sends to socket 0 of the judge; the others idle.
fn thousand(port: u16, judge: &Judge) -> Setup<'static> {
    let first = flow(&v4(port).to_string(), &v4(judge.port(0)).to_string());
    let setup = Setup::new().flow(&name(0), &first);
    (1..FLOWS).fold(setup, |setup, n| {
        setup.flow(&name(n), &flow(&format!("{}:{port}", address(1, n)), &format!("{}:{port}", address(2, n))))
    })
}

/// What a process holds.
#[derive(Debug, Clone)]
struct Held {
    memory: u64,
    /// What each is open to.
    descriptors: Vec<String>,
    threads: usize,
}

fn held(daemon: &Daemon) -> Held {
    let of = |what: &str| format!("/proc/{}/{what}", daemon.pid());
    let entries = |what: &str| std::fs::read_dir(of(what)).unwrap().map(|entry| entry.unwrap().path());
    // One may be closed meanwhile.
    let open_to = |path: std::path::PathBuf| Some(std::fs::read_link(path).ok()?.display().to_string());
    let statm = std::fs::read_to_string(of("statm")).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    Held {
        memory: pages * 4096,
        descriptors: entries("fd").filter_map(open_to).collect(),
        threads: entries("task").count(),
    }
}

/// Longer than any of them takes to end.
const LONG: Duration = Duration::from_secs(25);

/// Threads that look up names, and connections, end a moment after their work.
#[track_caller]
fn assert_no_growth(daemon: &Daemon, before: &Held, after_what: &str) {
    let began = Instant::now();
    let after = wait_for("threads and descriptors are those of before", || {
        let after = held(daemon);
        let grown = after.descriptors.len() > before.descriptors.len() || after.threads > before.threads;
        if grown && began.elapsed() > LONG {
            panic!("{after_what}: {before:#?}, {after:#?}");
        }
        (!grown).then_some(after)
    });
    println!("{after_what}: {} KiB before, {} KiB after", before.memory >> 10, after.memory >> 10);
    assert!(after.memory.saturating_sub(before.memory) <= SLACK, "{after_what}: {before:?}, {after:?}");
}

#[test]
fn a_thousand_flow_files_are_all_bound() {
    let (port, judge) = (free_port(), Judge::start(1));
    let setup = thousand(port, &judge);
    let began = Instant::now();
    let daemon = setup.start();
    println!("bound after {:.2?}", began.elapsed());

    let flows = &daemon.status()["flows"];
    assert_eq!((flows["total"].as_u64(), flows["active"].as_u64()), (Some(FLOWS as u64), Some(FLOWS as u64)));
    let first = std::iter::once(v4(port).to_string());
    for address in first.chain((1..FLOWS).map(|n| format!("{}:{port}", address(1, n)))) {
        let taken = UdpSocket::bind(&address).map_err(|error| error.kind());
        assert_eq!(taken.err(), Some(std::io::ErrorKind::AddrInUse), "{address}");
    }
    let held = held(&daemon);
    println!("{} KiB, {} descriptors", held.memory >> 10, held.descriptors.len());
    assert!(held.memory < IDLE, "{held:?}");
}

#[test]
fn documents_of_a_thousand_flows_are_complete_and_no_packet_is_lost_while_they_are_taken() {
    let (port, judge) = (free_port(), Judge::start(1));
    let daemon = thousand(port, &judge).start();
    let traffic = Traffic::start(&[port], 500);
    judge.wait_for_media(0);
    // These ask for the longest documents, and never read a byte.
    let idlers: Vec<_> = ["/metrics", "/v1/flows"]
        .repeat(4)
        .into_iter()
        .map(|path| {
            let mut stream = UnixStream::connect(daemon.root().join("run/control.sock")).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let names: Vec<_> = (0..FLOWS).map(name).collect();
    let mut took = BTreeMap::<_, Duration>::new();
    for _ in 0..10 {
        for path in ["/v1/flows", "/metrics", "/v1/status"] {
            let began = Instant::now();
            let (code, text) = daemon.ask("GET", path).unwrap();
            let least = took.entry(path).or_insert(Duration::MAX);
            *least = began.elapsed().min(*least);
            assert_eq!(code, 200, "{text}");
            match path {
                "/v1/flows" => {
                    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
                    let flows = document["flows"].as_array().unwrap();
                    assert_eq!(flows.iter().map(|flow| flow["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
                    let whole = |flow: &&serde_json::Value| {
                        flow["state"] == "active"
                            && flow["sources"]["main"]["packets"].is_u64()
                            && flow["outputs"]["out"]["packets"].is_u64()
                    };
                    assert_eq!(flows.iter().filter(whole).count(), FLOWS);
                }
                "/metrics" => {
                    for family in ["flow_active{flow", "source_packets_total{flow", "output_packets_total{flow"] {
                        let series = text.lines().filter(|line| line.starts_with(&format!("mediaconnect_{family}")));
                        assert_eq!(series.count(), FLOWS, "{family}");
                    }
                }
                _ => assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["flows"]["active"], FLOWS),
            }
        }
    }
    println!("fastest answers: {took:?}");
    drop(idlers);
    judge.assert_all(0, traffic.stop()[0]);
}

#[test]
fn five_hundred_outputs_of_one_flow_receive_every_byte() {
    let (port, judge) = (free_port(), Judge::start(OUTPUTS));
    let mut text = format!("[sources.main]\nprotocol = 'udp'\nbind = '{}'\n", v4(port));
    for n in 0..OUTPUTS {
        text += &format!("[outputs.to-{n}]\nprotocol = 'udp'\ndestination = '{}'\n", v4(judge.port(n)));
    }
    let daemon = Daemon::with_flow(&text);
    let traffic = Traffic::start(&[port], 20);
    judge.wait_for_more(0, 60);
    let sent = traffic.stop()[0];
    (0..OUTPUTS).for_each(|n| judge.assert_all(n, sent));
    let flow = daemon.flow("flow");
    for n in 0..OUTPUTS {
        assert_eq!(count(&flow, &format!("outputs/to-{n}/packets")), sent);
    }
}

#[test]
fn nothing_grows_over_a_million_packets() {
    const TRAIN: u64 = 32;
    let (packets, port) = (if long() { 20_000_000 } else { 1_000_000 }, free_port());
    let nowhere = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = steady_flow(&v4(port).to_string(), &nowhere.to_string());
    let rtp = format!("[outputs.rtp]\nprotocol = 'rtp'\ndestination = '127.0.0.2:{}'\n", nowhere.port());
    let daemon = Daemon::with_flow(&(text + &rtp));

    // The kernel takes trains apart, which makes the sender faster than the flow: what it drops does not count.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&sender, sockopt::UdpGsoSegment, &(ONE as i32)).unwrap();
    let train: Vec<u8> = (0..TRAIN).flat_map(|n| numbered(0, n)).collect();
    let relay = |packets: u64| {
        let seen = || count(&daemon.flow("flow"), "sources/main/packets");
        let until = seen() + packets;
        while seen() < until {
            for _ in 0..20 {
                for _ in 0..10 {
                    sender.send_to(&train, v4(port)).unwrap();
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        }
    };
    relay(packets / 10);
    let before = held(&daemon);
    let began = Instant::now();
    relay(packets);
    println!("{packets} packets in {:.1?}", began.elapsed());
    assert_no_growth(&daemon, &before, "relaying");
}

#[test]
fn nothing_grows_over_ten_thousand_restarts_of_a_flow() {
    let (port, judge) = (free_port(), Judge::start(1));
    let daemon = Daemon::with_flow(&steady_flow(&v4(port).to_string(), &v4(judge.port(0)).to_string()));
    let traffic = Traffic::start(&[port], 1000);
    let restart = |times: usize| {
        for _ in 0..times {
            let (code, said) = daemon.ask("POST", "/v1/flows/flow/restart").unwrap();
            assert_eq!(code, 200, "{said}");
        }
    };
    let times = if long() { 100_000 } else { 10_000 };
    restart(1_000);
    judge.wait_for_more(0, 100);
    let before = held(&daemon);
    let began = Instant::now();
    restart(times);
    println!("{times} restarts in {:.1?}", began.elapsed());
    assert_no_growth(&daemon, &before, "restarting");
    judge.wait_for_more(0, 100);
    traffic.stop();
}

/// The threads of the data plane and the main one, with the CPUs that each may use.
fn cpus_of_threads(daemon: &Daemon) -> BTreeMap<String, String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().map(|task| task.unwrap().path());
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    let of = |task: std::path::PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        Some((field(&status, "Name:"), field(&status, "Cpus_allowed_list:")))
    };
    tasks.filter_map(of).filter(|(name, _)| name.starts_with("shard-") || name == "mediaconnectd").collect()
}

#[test]
fn threads_run_on_the_cpus_they_are_given_and_on_any_where_these_can_not_be_had() {
    let mine = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..CpuSet::count()).rev().find(|cpu| mine.is_set(*cpu).unwrap()).unwrap();
    let (port, judge) = (free_port(), Judge::start(1));
    let text = flow(&v4(port).to_string(), &v4(judge.port(0)).to_string());
    let settings = format!("[limits]\nworker-cpus = '{cpu},4095'\n");
    let daemon = Setup::new().settings(&settings).flow("flow", &text).start();

    let threads = cpus_of_threads(&daemon);
    assert_eq!(threads.keys().collect::<Vec<_>>(), ["mediaconnectd", "shard-0", "shard-1"], "one for each CPU listed");
    assert_eq!(threads["shard-0"], cpu.to_string());
    assert_eq!(threads["shard-1"], threads["mediaconnectd"], "as if nothing was asked");
    let status = daemon.status();
    let said = support::daemon::condition(&status, "worker-cpu").expect("it is said");
    assert!(said["message"].as_str().unwrap().contains("1 data-plane thread on any CPU instead of CPU 4095"), "{said}");
    daemon.wait_for_log("CPU 4095");

    let traffic = Traffic::start(&[port], 100);
    judge.wait_for_more(0, 20);
    judge.assert_all(0, traffic.stop()[0]);
}
