//! From one process of the daemon to the next: on restart and after `kill -9`, sockets and what waits in them outlive it,
//! and on restart so does what it held. Needs root.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::time::Duration;

use mediaconnect::proto::mpegts::packet::{PACKET_LEN, PacketHeader};
use nix::sys::signal::{Signal, kill};
use support::ends::Got;
use support::feed::{Feeding, Inlet};
use support::machine::{BOOKWORM, Machine};
use support::media::{Feed, Received, SEVEN, Sending, Sink, Stream, Wire, receiving_socket, v4};
use support::package::{NEWER, PACKAGE, install};
use support::rist::{self, Options, PASSPHRASE, Profile, Program};
use support::srt::{self, Place};
use support::srt_and_rist::SrtAndRist;
use support::{sample, wait_for};

const STREAM: Stream = Stream::at(5_000_000);
/// What a hundred flows are sent and give is looked at so often.
const OFTEN: Duration = Duration::from_millis(20);
/// Ports in a machine are all free.
const INPUT: u16 = 5000;
const OUTPUT: u16 = 20000;

fn source(name: &str, port: u16, protocol: &str) -> String {
    format!("[sources.{name}]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{port}'\n")
}

fn output(port: u16, protocol: &str) -> String {
    format!("[outputs.out]\nprotocol = '{protocol}'\ndestination = '127.0.0.1:{port}'\n")
}

/// One flow of each kind, its feeds, and who receives it.
struct Relayed {
    machine: Machine,
    peers: SrtAndRist,
    feeds: Vec<(usize, Sending)>,
    sinks: Vec<Sink>,
    names: Vec<String>,
}

impl Relayed {
    /// So many flows: by UDP, by UDP with smoothing, by RTP with headers of our own, with FEC, merged of two legs, and one
    /// of two sources in standby, in turn. And peers by SRT and RIST; `again`: those that connect again.
    fn start(machine: Machine, flows: usize, again: bool) -> Self {
        // More than two cores do without a gap while all begin.
        let many = flows > 6;
        let buffer = if many { 10_000 } else { 3_000 };
        machine.ok(&["sh", "-c", "echo 127.0.0.1 receiver.example.net >> /etc/hosts"]);
        let (mut feeds, mut sinks, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..flows {
            let (input, out) = (INPUT + 20 * n as u16, OUTPUT + 20 * n as u16);
            let two = |protocol: &str| source("a", input, protocol) + &source("b", input + 10, protocol);
            let (kind, wire, text) = match n % 6 {
                0 => ("udp", Wire::Udp, source("main", input, "udp") + &output(out, "udp")),
                1 => {
                    ("smooth", Wire::Udp, source("main", input, "udp") + &output(out, "udp") + "smoothing = '100ms'\n")
                }
                // A name takes its time to be looked up.
                2 => {
                    let output = output(out, "rtp").replace("127.0.0.1", "receiver.example.net");
                    ("rtp", Wire::Rtp, source("main", input, "rtp") + &output)
                }
                3 => ("fec", Wire::Rtp, source("main", input, "rtp-fec") + &output(out, "rtp-fec")),
                4 => ("merge", Wire::Rtp, two("rtp") + "[failover]\nmode = 'merge'\n" + &output(out, "rtp")),
                _ => ("standby", Wire::Rtp, two("rtp") + "[failover]\nmode = 'failover'\n" + &output(out, "rtp")),
            };
            let name = format!("{kind}-{n}");
            machine.write_flow(&name, &text);
            feeds.push((n, input, wire));
            if kind == "merge" {
                feeds.push((n, input + 10, wire));
            }
            sinks.push(Sink::every(OFTEN, vec![receiving_socket(v4(out))], wire, STREAM));
            names.push(name);
        }
        SrtAndRist::write_flows(&machine, buffer);
        machine.start();
        for name in &names {
            let idle = || machine.flow(name)["outputs"]["out"]["state"] == "idle";
            wait_for("its output is open", || idle().then_some(()));
        }
        let feed = |(n, port, wire)| (n, Feed::new(wire, v4(port), STREAM).every(OFTEN).start());
        let feeds = feeds.into_iter().map(feed).collect();
        sinks.iter().for_each(Sink::wait_for_media);
        let peers = SrtAndRist::start(again, buffer);
        let peers = if many { peers.count_from_now() } else { peers };
        Self { machine, peers, feeds, sinks, names }
    }

    /// Wait until every flow sends again what comes now.
    fn wait_until_all_flow(&self) {
        let count = |sink: &Sink| sink.received().datagrams;
        let before: Vec<_> = self.sinks.iter().map(count).collect();
        self.peers.wait_for_more(&self.peers.lengths());
        wait_for("all flows send", || {
            self.sinks.iter().zip(&before).all(|(sink, before)| count(sink) > before + 20).then_some(())
        });
    }

    /// What was sent to each flow, by the leg that sent most.
    fn stop(&mut self) -> Vec<u64> {
        let mut sent = vec![0; self.sinks.len()];
        for (n, feed) in self.feeds.drain(..) {
            sent[n] = feed.stop().max(sent[n]);
        }
        sent
    }

    /// How many times the journal has this line.
    fn said(&self, line: &str) -> usize {
        self.machine.journal().matches(line).count()
    }

    /// Descriptors in systemd's store.
    fn stored(&self) -> usize {
        self.machine.property("NFileDescriptorStore").parse().unwrap()
    }

    /// Do so often what restarts it: nobody misses a packet, sees one twice, or a break in RTP.
    fn assert_restarts_lose_nothing(mut self, restarts: usize, restart: impl Fn(&Machine, usize)) {
        for number in 0..restarts {
            restart(&self.machine, number);
            self.wait_until_all_flow();
        }
        assert_eq!(
            self.said("of the process before this one are gone on with"),
            restarts,
            "{}",
            self.machine.journal()
        );
        let journal = self.machine.journal();
        let gaps = journal.lines().filter_map(|line| line.split_once("nothing was read for "));
        println!("nothing was read for {}", gaps.map(|(_, gap)| gap).collect::<Vec<_>>().join(", "));
        let sent = self.stop();
        for ((sink, sent), name) in self.sinks.iter().zip(sent).zip(&self.names) {
            println!("{name}: {sent} packets");
            sink.assert_all(sent);
        }
        self.peers.assert_gapless();
    }

    /// Kill it so often: what is lost is what was read and not sent yet.
    fn assert_kills_cost_what_was_held(mut self, kills: usize) -> Vec<(String, Received)> {
        let stored = self.stored();
        for _ in 0..kills {
            kill(self.machine.main_process(), Signal::SIGKILL).unwrap();
            self.wait_until_all_flow();
        }
        assert_eq!(self.said("which was killed, are read on"), kills, "{}", self.machine.journal());
        assert_eq!(self.stored(), stored);
        self.stop();
        for (name, numbers) in self.peers.numbers() {
            let missing: u64 = numbers.windows(2).map(|pair| pair[1].saturating_sub(pair[0] + 1)).sum();
            println!("{name}: {missing} of {} packets lost by {kills} kills", numbers.len() as u64 + missing);
            assert!(numbers.is_sorted(), "{name}: nothing comes twice");
        }
        let received = self.sinks.iter().map(Sink::received);
        self.names.iter().cloned().zip(received).collect()
    }
}

fn restart(machine: &Machine, _: usize) {
    machine.ok(&["systemctl", "restart", "mediaconnectd"]);
}

#[test]
fn no_packet_is_lost_by_restarts() {
    Relayed::start(Machine::boot(), 6, false).assert_restarts_lose_nothing(20, restart);
}

#[test]
fn after_kill_9_packets_wait_in_the_sockets() {
    for (name, Received { verdict, .. }) in Relayed::start(Machine::boot(), 6, true).assert_kills_cost_what_was_held(20)
    {
        println!("{name}: {} of {} packets lost by 20 kills", verdict.missing, verdict.ok + verdict.missing);
        assert_eq!((verdict.corrupt, verdict.duplicated, verdict.reordered), (0, 0, 0), "{name}: {verdict:?}");
    }
}

#[test]
#[ignore = "half a gigabit a second beside its senders and receivers: `cargo test --release`, on a quiet machine"]
fn no_packet_of_a_hundred_flows_is_lost_by_restarts() {
    Relayed::start(Machine::boot(), 100, false).assert_restarts_lose_nothing(20, restart);
}

#[test]
#[ignore = "half a gigabit a second beside its senders and receivers: `cargo test --release`, on a quiet machine"]
fn no_packet_of_a_hundred_flows_is_lost_by_upgrades() {
    let upgrade = |machine: &Machine, number: usize| {
        let package = if number.is_multiple_of(2) { NEWER } else { PACKAGE };
        machine.ok(&["dpkg", "--install", "--force-downgrade", package]);
    };
    Relayed::start(install(BOOKWORM), 100, false).assert_restarts_lose_nothing(20, upgrade);
}

#[test]
#[ignore = "half a gigabit a second beside its senders and receivers: `cargo test --release`, on a quiet machine"]
fn after_kill_9_the_packets_of_a_hundred_flows_wait_in_the_sockets() {
    let received = Relayed::start(Machine::boot(), 100, true).assert_kills_cost_what_was_held(20);
    for kind in ["udp", "smooth", "rtp", "fec", "merge", "standby"] {
        let of = || received.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, received)| received.verdict);
        let (missing, ok) = (of().map(|v| v.missing).sum::<u64>(), of().map(|v| v.ok).sum::<u64>());
        println!("{kind}: {missing} of {} packets lost by 20 kills of {} flows", ok + missing, of().count());
    }
}

#[test]
fn content_that_is_encrypted_goes_on_at_once() {
    let machine = Machine::boot();
    machine.write_secret("content", "00112233445566778899aabbccddeeff");
    let cissa = "encryption = { scheme = 'cissa', key-file = 'content' }\n";
    machine.write_flow("news", &(source("main", INPUT, "udp") + &output(OUTPUT, "udp") + cissa));
    machine.start();
    let got = Got::at(OUTPUT);
    let (stream, whole) = (&sample::stream()[..1500 * SEVEN], 1500);
    let packets = stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
    let feeding = Feeding::start(Inlet::udp(INPUT), whole, packets, 4 * sample::BITS_PER_SECOND);
    restart_amid(&machine, &feeding, whole, 4);
    let received = got.wait_for_length(stream.len() as u64);
    let packets =
        |bytes: &[u8]| bytes.as_chunks::<PACKET_LEN>().0.iter().map(PacketHeader::parse).collect::<Option<Vec<_>>>();
    let (received, sent) = (packets(&received).unwrap(), packets(stream).unwrap());
    assert!(received.iter().any(|packet| packet.scrambling() != 0));
    // What is withheld, for want of tables, is a null packet.
    let place = |packet: &PacketHeader| (packet.pid(), packet.continuity());
    let other = received.iter().zip(&sent).position(|(received, sent)| place(received) != place(sent));
    assert_eq!(other, None);
}

/// A restart of the service, so often, while so many datagrams are fed.
fn restart_amid(machine: &Machine, feeding: &Feeding, whole: u64, restarts: u64) {
    let begun = feeding.sent();
    for part in 1..=restarts {
        wait_for("a part of it is sent", || (feeding.sent() > begun + part * whole / (restarts + 2)).then_some(()));
        machine.ok(&["systemctl", "restart", "mediaconnectd"]);
    }
}

#[test]
fn rist_from_and_to_librist_goes_on() {
    const PROFILES: [Profile; 3] = [Profile::Simple, Profile::Main(None), Profile::Main(Some(16))];
    let machine = Machine::boot();
    machine.write_secret("key", PASSPHRASE);
    let port = |n: usize, of: u16| INPUT + 100 * n as u16 + of;
    for (n, profile) in PROFILES.into_iter().enumerate() {
        let keys = match profile {
            Profile::Simple => "profile = 'simple'\nlatency = '3s'\n",
            Profile::Main(None) => "profile = 'main'\nlatency = '3s'\n",
            Profile::Main(Some(_)) => "profile = 'main'\nlatency = '3s'\npassphrase-file = 'key'\n",
        };
        let inward = source("main", port(n, 0), "rist") + keys + &output(port(n, 10), "udp");
        let outward = source("main", port(n, 20), "udp") + &output(port(n, 30), "rist") + keys;
        machine.write_flow(&format!("in-{n}"), &inward);
        machine.write_flow(&format!("out-{n}"), &outward);
    }
    machine.start();
    let (stream, whole) = (&sample::stream()[..3000 * SEVEN], 3000);
    let packets = || stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
    let rate = 2 * sample::BITS_PER_SECOND;
    let (mut feedings, mut gots, mut senders, mut receivers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (n, profile) in PROFILES.into_iter().enumerate() {
        // More than a restart takes, on a machine that is busy with everything else.
        let options = Options { buffer: 3000, ..Options::new(profile) };
        let got = Got::at(port(n, 10));
        let mut sender = rist::ends::Sender::start(Program::Librist, &[v4(port(n, 0))], &options);
        feedings.push(sender.feed_for(&got, whole, packets(), rate));
        senders.push(sender);
        gots.push(got);
        let receiver = rist::ends::Receiver::start(Program::Librist, &[v4(port(n, 30))], &options);
        let datagrams = packets().chain(std::iter::repeat_with(sample::stuffing));
        let feeding = Feeding::led(Inlet::udp(port(n, 20)), whole, datagrams, rate);
        receiver.wait_for_more(SEVEN as u64);
        feeding.begin();
        feedings.push(feeding);
        receivers.push(receiver);
    }
    restart_amid(&machine, &feedings[feedings.len() - 1], whole, 5);
    gots.iter().for_each(|got| got.assert_received(stream));
    receivers.iter().for_each(|receiver| receiver.got.assert_received(stream));
}

/// How many connections by SRT were made: lines of the journal.
fn connected(machine: &Machine) -> usize {
    machine.records().iter().filter(|record| record["MEDIACONNECT_EVENT"] == "srt-connected").count()
}

#[test]
fn srt_from_and_to_other_peoples_programs_goes_on() {
    let machine = Machine::boot();
    machine.write_secret("key", PASSPHRASE);
    let (stream, whole) = (&sample::stream()[..3000 * SEVEN], 3000);
    let packets = || stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
    let rate = 2 * sample::BITS_PER_SECOND;
    let port = |n: usize| INPUT + 10 * n as u16;
    // Two who send and two who receive share a port; keys change all the time.
    let plain = srt::Options::new;
    let id = |options: srt::Options, id: &str| options.stream_id(id);
    let secret = || plain().encrypted(PASSPHRASE, 32).keys("km-refresh-rate = 400");
    let inward = [
        (srt::Program::LiveTransmit, Place::Listener(port(0)), id(plain(), "one")),
        (srt::Program::Ffmpeg, Place::Listener(port(0)), id(secret(), "other")),
        (srt::Program::LiveTransmit, Place::Caller(port(2)), secret()),
        (srt::Program::LiveTransmit, Place::rendezvous(port(3))[0], plain()),
    ];
    let outward = [
        (&[srt::Program::Ffmpeg, srt::Program::LiveTransmit][..], Place::Listener(port(0)), id(secret(), "play")),
        (&[srt::Program::Ffmpeg], Place::Listener(port(5)), plain()),
        (&[srt::Program::Gstreamer], Place::Caller(port(6)), secret()),
        (&[srt::Program::LiveTransmit], Place::rendezvous(port(7))[0], plain()),
    ];
    for (n, (_, place, options)) in inward.iter().enumerate() {
        let source = srt::ends::srt_section("sources.main", *place, options);
        machine.write_flow(&format!("in-{n}"), &(source + &output(OUTPUT + n as u16, "udp")));
    }
    for (n, (_, place, options)) in outward.iter().enumerate() {
        let many = if let Place::Listener(_) = place { "max-callers = 2\n" } else { "" };
        let output = srt::ends::srt_section("outputs.out", *place, options) + many;
        machine.write_flow(&format!("out-{n}"), &(source("main", OUTPUT + 100 + n as u16, "udp") + &output));
    }
    machine.start();
    // The key rate is ours alone.
    let theirs = |options: &srt::Options| srt::Options { keys: String::new(), ..options.clone() };
    let (mut feedings, mut gots, mut ends) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    for (n, (program, place, options)) in inward.iter().enumerate() {
        let got = Got::at(OUTPUT + n as u16);
        let mut sender = srt::ends::Sender::start(*program, place.opposite(), &theirs(options));
        feedings.push(sender.feed_with(whole, packets(), rate));
        gots.push(got);
        ends.0.push(sender);
    }
    for (n, (programs, place, options)) in outward.iter().enumerate() {
        let begin = |program| srt::ends::Receiver::start(program, place.opposite(), &theirs(options));
        let receivers: Vec<_> = programs.iter().copied().map(begin).collect();
        let datagrams = packets().chain(std::iter::repeat_with(sample::stuffing));
        let feeding = Feeding::led(Inlet::udp(OUTPUT + 100 + n as u16), whole, datagrams, rate);
        for receiver in &receivers {
            // srt-live-transmit keeps some of it back.
            wait_for("it receives", || (receiver.length() > 10 * SEVEN as u64).then_some(()));
        }
        feeding.begin();
        feedings.push(feeding);
        ends.1.extend(receivers);
    }
    assert_eq!(connected(&machine), 9);
    restart_amid(&machine, &feedings[feedings.len() - 1], whole, 5);
    gots.iter().for_each(|got| got.assert_received(stream));
    ends.1.iter().for_each(|receiver| receiver.assert_received(stream));
    assert_eq!(connected(&machine), 9, "nobody has connected again: {}", machine.journal());
}

/// A flow by SRT, from a daemon that calls it, and to one that calls it.
struct Calls {
    machine: Machine,
    _sender: srt::ends::Sender,
    _feeding: Feeding,
    receiver: srt::ends::Receiver,
}

impl Calls {
    const NEWS: [&str; 2] = [
        "[sources.main]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:5000'\n",
        "[outputs.out]\nprotocol = 'srt-listener'\nbind = '127.0.0.1:5010'\n",
    ];

    fn start() -> Self {
        let machine = Machine::boot();
        machine.write_flow("news", &Self::NEWS.concat());
        machine.start();
        let start = srt::ends::Receiver::start;
        let receiver = start(srt::Program::Mediaconnect, Place::Caller(5010), &srt::Options::new());
        let mut sender =
            srt::ends::Sender::start(srt::Program::Mediaconnect, Place::Caller(5000), &srt::Options::new());
        receiver.wait_until_connected();
        let endless = 1_000_000;
        let feeding = sender.feed_with(endless, (0..endless).map(sample::numbered), 5_000_000);
        wait_for("it arrives", || (receiver.length() > 100 * SEVEN as u64).then_some(()));
        Self { machine, _sender: sender, _feeding: feeding, receiver }
    }

    /// Wait until the journal has this line so many times.
    fn wait_until_said(&self, line: &str, times: usize) {
        wait_for(line, || (self.machine.journal().matches(line).count() == times).then_some(()));
    }

    /// Wait until what comes now arrives.
    fn wait_until_it_arrives(&self) {
        let before = self.receiver.length();
        wait_for("it arrives again", || (self.receiver.length() > before + 200 * SEVEN as u64).then_some(()));
    }
}

#[test]
fn after_kill_9_peers_of_srt_are_told_to_connect_again() {
    let calls = Calls::start();
    for kills in 1..=5 {
        kill(calls.machine.main_process(), Signal::SIGKILL).unwrap();
        wait_for("they connect again", || (connected(&calls.machine) == 2 * (kills + 1)).then_some(()));
        calls.wait_until_it_arrives();
        calls.wait_until_said("what it held is lost; 2 peers by SRT must connect again", kills);
    }
    let numbers = calls.receiver.numbers();
    let missing: u64 = numbers.windows(2).map(|pair| pair[1].saturating_sub(pair[0] + 1)).sum();
    println!("5 kills: {missing} of {} datagrams lost", numbers.len() as u64 + missing);
    assert!(numbers.is_sorted(), "nothing comes twice");
}

#[test]
fn peers_of_srt_whose_part_has_changed_meanwhile_are_told_to_connect_again() {
    let calls = Calls::start();
    // Between the two processes: the one before would carry it out.
    calls.machine.before_each_start(
        "mv /root/news.toml /etc/mediaconnect/flows.d/; test -s /etc/mediaconnect/flows.d/news.toml || \
         rm /etc/mediaconnect/flows.d/news.toml",
    );
    let restart_with = |text: &str| {
        calls.machine.write("/root/news.toml", text);
        calls.machine.ok(&["systemctl", "restart", "mediaconnectd"]);
    };
    let restart_with_more = |keys: &str| restart_with(&(Calls::NEWS.concat() + keys));
    // What can be changed while it runs can be here, too.
    restart_with_more("allow = ['127.0.0.0/8']\n");
    calls.wait_until_it_arrives();
    assert_eq!(connected(&calls.machine), 2);
    restart_with_more("latency = '400ms'\n");
    wait_for("it has connected again", || (connected(&calls.machine) == 3).then_some(()));
    calls.wait_until_it_arrives();
    calls.wait_until_said("; 1 peer by SRT must connect again", 1);
    restart_with_more("latency = '400ms'\nallow = ['192.0.2.0/24']\n");
    calls.wait_until_said("`allow` does not list it any more", 1);
    restart_with("");
    calls.wait_until_said("; 1 peer by SRT must connect again", 2);
}

#[test]
fn sessions_of_subscribers_go_on() {
    let machine = Machine::boot();
    machine.write_secret("acme", PASSPHRASE);
    machine.write("/etc/mediaconnect/mediaconnect.toml", "[entitlements]\nbind = '127.0.0.1:6000'\n");
    machine.ok(&["mkdir", "-p", "/etc/mediaconnect/subscribers.d"]);
    let acme = "passphrase-file = 'acme'\nallow = ['127.0.0.0/8']\n";
    machine.write("/etc/mediaconnect/subscribers.d/acme.toml", acme);
    let entitlement = "[entitlements.main]\nsubscribers = ['acme']\nmax-sessions = 4\n";
    machine.write_flow("news", &(source("main", INPUT, "udp") + entitlement));
    machine.start();
    let options = srt::Options::new().encrypted(PASSPHRASE, 16).stream_id("#!::u=acme,r=news/main");
    let start = |_| srt::ends::Receiver::start(srt::Program::LiveTransmit, Place::Caller(6000), &options);
    let receivers: Vec<_> = (0..3).map(start).collect();
    let endless = 1_000_000;
    let feeding = Feeding::start(Inlet::udp(INPUT), endless, (0..endless).map(sample::numbered), 5_000_000);
    for receiver in &receivers {
        wait_for("it receives", || (receiver.length() > 10 * SEVEN as u64).then_some(()));
    }
    for _ in 0..3 {
        machine.ok(&["systemctl", "restart", "mediaconnectd"]);
        let sent = feeding.sent();
        receivers.iter().for_each(|receiver| receiver.wait_for_number(sent + 100));
    }
    for receiver in &receivers {
        let numbers = receiver.numbers();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "it misses nothing");
    }
    let (opened, closed) = sessions(&machine);
    assert_eq!((opened, closed), (12, 9));
    machine.ok(&["rm", "/etc/mediaconnect/subscribers.d/acme.toml"]);
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    wait_for("they are gone", || (sessions(&machine) == (12, 12)).then_some(()));
}

/// Records of the trail that sessions were opened, and closed.
fn sessions(machine: &Machine) -> (usize, usize) {
    let trail = machine.read("/var/log/mediaconnect/audit.jsonl");
    ["session-opened", "session-closed"].map(|kind| trail.matches(&format!("\"{kind}\"")).count()).into()
}

/// Whether a compound packet of RTCP has a goodbye in it (RFC 3550, section 6.6).
fn says_goodbye(mut rtcp: &[u8]) -> bool {
    while let [_, kind, high, low, ..] = rtcp {
        if *kind == 203 {
            return true;
        }
        let length = 4 * (1 + usize::from(u16::from_be_bytes([*high, *low])));
        rtcp = rtcp.get(length..).unwrap_or_default();
    }
    false
}

#[test]
fn receivers_of_rist_are_told_of_a_stop_and_not_of_a_restart() {
    let machine = Machine::boot();
    machine.write_flow("news", &(source("main", INPUT, "udp") + &output(OUTPUT, "rist")));
    let [_media, control] = [OUTPUT, OUTPUT + 1].map(|port| receiving_socket(v4(port)));
    control.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    machine.start();
    let _feed = Feed::new(Wire::Udp, v4(INPUT), STREAM).start();
    let heard = || {
        let mut datagram = [0; 1500];
        let length = control.recv(&mut datagram).expect("reports come");
        says_goodbye(&datagram[..length])
    };
    for _ in 0..3 {
        assert!(!heard());
        machine.ok(&["systemctl", "restart", "mediaconnectd"]);
    }
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_secs(1) {
        assert!(!heard(), "it goes on");
    }
    machine.ok(&["systemctl", "stop", "mediaconnectd"]);
    wait_for("a goodbye", || heard().then_some(()));
    machine.start();
    assert_eq!(machine.run(&["test", "-e", "/run/mediaconnect/stopping"]).status.code(), Some(1));
}

#[test]
fn ports_change_hands_though_their_sockets_are_kept() {
    let machine = Machine::boot();
    let flow = |port: u16, out: u16| source("main", port, "udp") + &output(out, "udp");
    let files = |[one, other]: [u16; 2]| {
        machine.write_flow("one", &flow(one, OUTPUT));
        machine.write_flow("other", &flow(other, OUTPUT + 1));
    };
    files([INPUT, INPUT + 1]);
    machine.start();
    // Two sources and two senders, and the list.
    let stored = || machine.property("NFileDescriptorStore");
    assert_eq!(stored(), "5", "{}", machine.journal());
    for round in 0..5 {
        files(if round % 2 == 0 { [INPUT + 1, INPUT] } else { [INPUT, INPUT + 1] });
        machine.ok(&["systemctl", "reload", "mediaconnectd"]);
        for name in ["one", "other"] {
            assert_eq!(machine.flow(name)["state"], "active", "{}", machine.journal());
        }
        assert_eq!(stored(), "5");
    }
    let sink = Sink::bind(Wire::Udp, v4(OUTPUT + 1), STREAM);
    sink.assert_all(Feed::new(Wire::Udp, v4(INPUT), STREAM).send_for(std::time::Duration::from_millis(200)));
    machine.ok(&["rm", "/etc/mediaconnect/flows.d/one.toml"]);
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    wait_for("what nobody has any more is closed", || (stored() == "3").then_some(()));
}

#[test]
fn what_is_changed_while_it_is_away_is_as_the_files_say() {
    let machine = Machine::boot();
    let flow = |port: u16, out: u16| source("main", port, "udp") + &output(out, "udp");
    for (name, n) in [("moved", 0), ("removed", 1), ("same", 2)] {
        machine.write_flow(name, &flow(INPUT + n, OUTPUT + n));
    }
    machine.start();
    let sink = Sink::bind(Wire::Udp, v4(OUTPUT + 2), STREAM);
    let feed = Feed::new(Wire::Udp, v4(INPUT + 2), STREAM).start();
    sink.wait_for_media();
    // Between the two processes: one moves to the port of one that goes, and a new one takes its place.
    machine.write("/root/moved.toml", &flow(INPUT + 1, OUTPUT));
    machine.write("/root/new.toml", &flow(INPUT, OUTPUT + 3));
    machine.before_each_start("mv /root/*.toml /etc/mediaconnect/flows.d/; rm /etc/mediaconnect/flows.d/removed.toml");
    machine.ok(&["systemctl", "restart", "mediaconnectd"]);
    for name in ["moved", "new", "same"] {
        assert_eq!(machine.flow(name)["state"], "active", "{}", machine.journal());
    }
    sink.assert_all(feed.stop());
    for (input, out) in [(INPUT + 1, OUTPUT), (INPUT, OUTPUT + 3)] {
        let sink = Sink::bind(Wire::Udp, v4(out), STREAM);
        sink.assert_all(Feed::new(Wire::Udp, v4(input), STREAM).send_for(std::time::Duration::from_millis(200)));
    }
}
