//! SRT while an operator is at work: who still qualifies notices nothing, and who does not is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use serde_json::Value;
use support::daemon::{Daemon, Setup, count};
use support::feed::{Feeding, Inlet};
use support::media::SEVEN;
use support::peers::{Peer, command};
use support::ports::free_port;
use support::sample::{numbered, numbers};
use support::srt::ends::{Receiver, Sender};
use support::srt::{Options, Place, Program};
use support::wait_for;

const OLD: &str = "correct horse battery";
const NEW: &str = "staple of another colour";
const RATE: u64 = 2_000_000;
/// In a feed that nobody ends before.
const ENDLESS: u64 = 1_000_000;

/// A flow `flow` from UDP to those who call, which is fed with numbered datagrams.
struct Rig {
    daemon: Daemon,
    udp: u16,
    port: u16,
    feeding: Feeding,
}

impl Rig {
    /// `keys` are lines of the output.
    #[track_caller]
    fn start(keys: &str) -> Self {
        let [udp, port] = [free_port(), free_port()];
        let setup = Setup::new().secret("old", OLD).secret("new", NEW).flow("flow", &flow(udp, port, keys));
        let daemon = setup.start();
        let feeding = Feeding::start(Inlet::udp(udp), ENDLESS, (0..ENDLESS).map(numbered), RATE);
        Self { daemon, udp, port, feeding }
    }

    /// Somebody who receives, and has begun to.
    #[track_caller]
    fn receiver(&self, passphrase: Option<&str>) -> Receiver {
        let options = passphrase.map_or_else(Options::new, |passphrase| Options::new().encrypted(passphrase, 16));
        let receiver = Receiver::start(Program::LiveTransmit, Place::Caller(self.port), &options);
        // srt-live-transmit keeps some of it back.
        wait_for("it receives", || (receiver.length() > 10 * SEVEN as u64).then_some(()));
        receiver
    }

    #[track_caller]
    fn reload_with(&self, keys: &str) {
        self.daemon.write_flow("flow", &flow(self.udp, self.port, keys));
        self.daemon.ctl_ok(&["reload"]);
    }

    /// The connections by their numbers, each with its address and the name of its passphrase.
    fn connections(&self) -> BTreeMap<u64, (String, String)> {
        connections(&self.daemon.flow("flow"))
    }

    #[track_caller]
    fn wait_until_left(&self, left: &BTreeMap<u64, (String, String)>) {
        self.daemon.wait_for_flow("flow", "just these are connected", |flow| connections(flow) == *left);
    }

    /// What is sent from now on reaches it, and nothing was missing before.
    #[track_caller]
    fn assert_undisturbed(&self, receiver: &Receiver) {
        receiver.wait_for_number(self.feeding.sent() + 1);
        assert_gapless(&receiver.numbers());
    }
}

fn flow(udp: u16, port: u16, keys: &str) -> String {
    format!(
        "[sources.in]\nprotocol = 'udp'\nbind = '127.0.0.1:{udp}'\n\
         [outputs.out]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:{port}'\n{keys}\n"
    )
}

fn connections(flow: &Value) -> BTreeMap<u64, (String, String)> {
    let peers = flow["outputs"]["out"]["peers"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one =
        |peer: &Value| Some((peer["number"].as_u64()?, (text(&peer["address"]), text(&peer["srt"]["passphrase"]))));
    peers.iter().map(|peer| one(peer).unwrap()).collect()
}

#[track_caller]
fn assert_gapless(numbers: &[u64]) {
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert!(numbers.len() > 10 && gap.is_none(), "{} datagrams, with a gap at {gap:?}", numbers.len());
}

#[test]
fn what_is_changed_for_others_disturbs_no_receiver() {
    let keys = "passphrase-files = ['new', 'old']\n";
    let rig = Rig::start(&format!("{keys}allow = ['127.0.0.0/8']\nmax-callers = 4"));
    let receivers = [OLD, NEW].map(|passphrase| rig.receiver(Some(passphrase)));
    let before = rig.connections();
    let names: Vec<_> = before.values().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["old", "new"]);
    rig.daemon.write_secret("newest", "a third one of them");
    for change in [
        "allow = ['127.0.0.1/32', '203.0.113.0/24']\nmax-callers = 4",
        "allow = ['127.0.0.1/32']\nmax-callers = 2",
        "allow = ['127.0.0.1/32']\nmax-callers = 1",
        "max-callers = 3\ndescription = 'affiliates'\nttl = 3\ndscp = 'af41'",
    ] {
        rig.reload_with(&format!("{keys}{change}"));
        assert_eq!(rig.connections(), before, "{change}");
    }
    rig.reload_with("passphrase-files = ['newest', 'new', 'old']\nmax-callers = 3");
    let newest = rig.receiver(Some("a third one of them"));
    for receiver in receivers.iter().chain([&newest]) {
        rig.assert_undisturbed(receiver);
    }
    let mut after = rig.connections();
    assert_eq!(after.pop_last().unwrap().1.1, "newest");
    assert_eq!(after, before);
}

#[test]
fn a_passphrase_that_is_removed_ends_just_the_connections_that_used_it() {
    let rig = Rig::start("passphrase-files = ['new', 'old']");
    let mut receivers = [OLD, NEW].map(|passphrase| rig.receiver(Some(passphrase)));
    let mut left = rig.connections();
    left.retain(|_, (_, name)| name == "new");
    assert_eq!(left.len(), 1);
    rig.reload_with("passphrase-file = 'new'");
    rig.wait_until_left(&left);
    rig.assert_undisturbed(&receivers[1]);
    receivers[0].interrupt();
}

#[test]
fn a_key_file_that_changes_ends_just_the_connections_that_used_it() {
    let rig = Rig::start("passphrase-files = ['new', 'old']");
    let receivers = [OLD, NEW].map(|passphrase| rig.receiver(Some(passphrase)));
    let mut left = rig.connections();
    left.retain(|_, (_, name)| name == "new");
    // Nobody asks for a reload: a key is watched as a flow is.
    rig.daemon.write_secret("old", "nothing of the kind");
    rig.wait_until_left(&left);
    rig.assert_undisturbed(&receivers[1]);
    let _next = rig.receiver(Some("nothing of the kind"));
}

#[test]
fn who_is_not_allowed_any_more_is_gone() {
    let rig = Rig::start("allow = ['127.0.0.0/8']");
    let _receiver = rig.receiver(None);
    rig.reload_with("allow = ['127.0.0.2/32']");
    rig.wait_until_left(&BTreeMap::new());
}

#[test]
fn another_output_of_the_flow_is_no_business_of_receivers() {
    let (rig, other) = (Rig::start(""), free_port());
    let receiver = rig.receiver(None);
    let before = rig.connections();
    for latency in ["120ms", "500ms"] {
        let second =
            format!("\n[outputs.other]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:{other}'\nlatency = '{latency}'");
        rig.reload_with(&second);
    }
    rig.reload_with("");
    assert_eq!(rig.connections(), before);
    rig.assert_undisturbed(&receiver);
}

#[test]
fn one_peer_is_disconnected_by_address_or_by_number_and_the_others_stay() {
    let rig = Rig::start("max-callers = 3");
    let (stays, _gone, _gone_too) = (rig.receiver(None), rig.receiver(None), rig.receiver(None));
    let all = rig.connections();
    let numbers: Vec<_> = all.keys().copied().collect();
    rig.daemon.ctl_ok(&["disconnect", "flow", &all[&numbers[1]].0]);
    rig.daemon.ctl_ok(&["disconnect", "flow", &numbers[2].to_string()]);
    rig.wait_until_left(&BTreeMap::from([(numbers[0], all[&numbers[0]].clone())]));
    rig.assert_undisturbed(&stays);
    let nobody = rig.daemon.ctl(&["disconnect", "flow", "203.0.113.7:5000"]);
    assert!(!nobody.status.success());
}

#[test]
fn a_second_publisher_is_named_and_a_restarted_source_takes_the_first_again() {
    let port = free_port();
    let receiving = Receiver::start(Program::Mediaconnect, Place::Listener(port), &Options::new());
    let mut first = Sender::start(Program::LiveTransmit, Place::Caller(port), &Options::new().again());
    let feeding = first.feed_with(ENDLESS, (0..ENDLESS).map(numbered), RATE);
    receiving.wait_for_number(feeding.sent() + 1);
    let second = Sender::start(Program::LiveTransmit, Place::Caller(port), &Options::new());
    second.wait_for_log("REJECT reported from HS");
    let daemon = receiving.daemon().unwrap();
    let flow = daemon.wait_for_flow("flow", "it is named", |flow| {
        let refused = flow["sources"]["main"]["refused"].as_array();
        refused.is_some_and(|refused| refused.iter().any(|one| one["code"] == "taken" && one["address"] == "127.0.0.1"))
    });
    assert_eq!(flow["sources"]["main"]["peers"].as_array().unwrap().len(), 1);
    daemon.wait_for_log("127.0.0.1");
    receiving.wait_for_number(feeding.sent() + 1);
    assert_gapless(&receiving.numbers());
    daemon.ctl_ok(&["restart", "flow", "source", "main"]);
    receiving.wait_for_number(feeding.sent() + 1);
}

/// `srt-live-transmit` from this address to a file.
fn caller(address: &str, dir: &tempfile::TempDir) -> (Peer, std::path::PathBuf) {
    let path = dir.path().join(address.replace([':', '[', ']'], "-"));
    let mut command = command("srt-live-transmit");
    command.args(["-a:no", &format!("-chunk:{SEVEN}"), &format!("srt://{address}"), "file://con"]).stdin(Stdio::null());
    (Peer::start_into(&mut command, File::create(&path).unwrap()), path)
}

#[test]
fn who_calls_is_answered_from_the_address_that_was_called_by_either_protocol() {
    let [udp, port] = [free_port(), free_port()];
    let text = flow(udp, port, "allow = ['127.0.0.0/8', '::1/128']")
        .replace(&format!("127.0.0.1:{port}"), &format!(":{port}"));
    let daemon = Daemon::with_flow(&text);
    let _feeding = Feeding::start(Inlet::udp(udp), ENDLESS, (0..ENDLESS).map(numbered), RATE);
    let dir = tempfile::tempdir().unwrap();
    // libsrt takes no answer from another address than it called.
    let addresses = ["127.0.0.1", "127.0.0.7", "[::1]"].map(|host| format!("{host}:{port}"));
    let peers = addresses.each_ref().map(|address| caller(address, &dir));
    for (_peer, path) in &peers {
        wait_for("it receives", || (path.metadata().ok()?.len() > 100 * SEVEN as u64).then_some(()));
        assert_gapless(&numbers(&std::fs::read(path).unwrap()));
    }
    let flow = daemon.flow("flow");
    assert_eq!(flow["outputs"]["out"]["peers"].as_array().unwrap().len(), 3, "{flow:#}");
}

#[test]
fn no_secret_is_ever_shown() {
    let rig = Rig::start("passphrase-files = ['new', 'old']");
    let _receiver = rig.receiver(Some(OLD));
    let wrong = Options::new().encrypted("never mind the wrong one", 32);
    let refused = Receiver::start(Program::LiveTransmit, Place::Caller(rig.port), &wrong);
    refused.wait_for_log("REJECT reported from HS");
    rig.daemon.write_secret("new", "short");
    assert!(!rig.daemon.ctl(&["reload"]).status.success(), "too short");
    let mut said = rig.daemon.log();
    for path in ["/v1/status", "/v1/flows", "/v1/flows/flow", "/metrics"] {
        said += &rig.daemon.ask("GET", path).unwrap().1;
    }
    for arguments in [&["status"][..], &["status", "flow", "--json"], &["explain", "flow"], &["check"], &["plan"]] {
        let output = rig.daemon.ctl(arguments);
        said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    assert!(said.contains("old") && said.len() > 2000);
    for secret in [OLD, NEW, "never mind the wrong one"] {
        assert!(!said.contains(secret), "a secret is shown");
    }
}

#[test]
fn two_hundred_receivers_share_a_port_and_one_that_goes_takes_nothing_from_the_others() {
    const RECEIVERS: usize = 200;
    let [udp, port] = [free_port(), free_port()];
    let daemon = Daemon::with_flow(&flow(udp, port, &format!("max-callers = {RECEIVERS}")));
    let called = format!("[sources.main]\nprotocol = 'srt-caller'\nremote = '127.0.0.1:{port}'\nlatency = '500ms'\n");
    let receivers = (0..RECEIVERS).fold(Setup::new(), |setup, n| setup.flow(&format!("r{n}"), &called)).start();
    daemon.wait_for_flow("flow", "all are connected", |flow| connections(flow).len() == RECEIVERS);
    let feeding = Feeding::start(Inlet::udp(udp), 500, (0..500).map(numbered), 1_000_000);
    let flows = || receivers.json("/v1/flows")["flows"].as_array().unwrap().clone();
    let have = |least: u64, of: usize| {
        let with = |flow: &&Value| count(flow, "sources/main/packets") >= least;
        flows().iter().filter(with).count() >= of
    };
    wait_for("all receive", || have(50, RECEIVERS).then_some(()));
    let gone = *connections(&daemon.flow("flow")).keys().next().unwrap();
    daemon.ctl_ok(&["disconnect", "flow", &gone.to_string()]);
    feeding.wait_until_sent();
    wait_for("all others have all", || have(500, RECEIVERS - 1).then_some(()));
    // Not duplicates: where acknowledgements come late, the last packet is sent again.
    let figures = ["packets-unrecovered", "packets-late", "disconnections"];
    let of = |flow: &Value| figures.map(|figure| count(flow, &format!("sources/main/{figure}")));
    let disturbed: Vec<_> = flows().iter().map(of).filter(|counts| *counts != [0; 3]).collect();
    // The one that was disconnected calls again.
    assert_eq!(disturbed, [[0, 0, 1]], "{figures:?}");
}
