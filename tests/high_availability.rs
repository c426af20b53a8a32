//! What packaging/high-availability says: two appliances stand in for each other, by the files that it ships.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use support::daemon::{Daemon, Setup, count};
use support::media::{Feed, SEVEN, Sink, Stream, Wire};
use support::netns::{Namespace, in_own_network, run};
use support::paths::Recorder;
use support::peers::{Peer, command};
use support::wait_for;
use tempfile::TempDir;

const STREAM: Stream = Stream::at(5_000_000);
/// Where the examples send the stream in the end.
const DECODER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 30)), 5000);
/// The address that keepalived moves.
const INGEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/high-availability");
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The network of the examples: a switch, to which hosts are joined. The sender and the decoder are in the test's own
/// network, on the switch itself.
fn switch() {
    // An address of its own: else it takes one of its hosts', and another one when that is cut off.
    run("ip link add switch address 02:00:5e:00:00:01 type bridge".split(' '));
    for address in ["192.0.2.1/24", "192.0.2.30/24"] {
        run(["ip", "address", "add", address, "dev", "switch"]);
    }
    run("ip link set switch up".split(' '));
    run("ip route add 239.0.0.0/8 dev switch".split(' '));
}

/// A host on the switch, by the interface `eth0`. `cable` is the switch's end of its cable.
fn host(cable: &str, address: &str) -> Namespace {
    let host = Namespace::joined((cable, &[]), ("eth0", &[address]));
    run(["ip", "link", "set", cable, "master", "switch"]);
    host.run("ip route add 239.0.0.0/8 dev eth0".split(' '));
    host
}

fn appliance(host: &Namespace, flow: &str) -> Daemon {
    Setup::new().flow("news", &example(flow)).in_namespace(host).start()
}

#[test]
fn of_two_appliances_that_pass_through_either_may_die_and_nothing_is_lost() {
    in_own_network("of_two_appliances_that_pass_through_either_may_die_and_nothing_is_lost", || {
        switch();
        let hosts = [host("cable-a", "192.0.2.11/24"), host("cable-b", "192.0.2.12/24")];
        let receiving = host("cable-r", "192.0.2.20/24");
        let receiver = appliance(&receiving, "active-active/receiver.toml");
        let mut appliances = [
            appliance(&hosts[0], "active-active/appliance-a.toml"),
            appliance(&hosts[1], "active-active/appliance-b.toml"),
        ];
        let decoder = Sink::bind(Wire::Rtp, DECODER, STREAM);
        let legs = |wanted| {
            receiver
                .wait_for_flow("news", &format!("{wanted} legs"), |flow| count(flow, "merge/active-legs") == wanted);
        };
        let goes_on = || {
            let before = decoder.received().verdict.ok;
            wait_for("it goes on", || (decoder.received().verdict.ok > before + 2000).then_some(()));
        };

        let feed = Feed::new(Wire::Rtp, "239.10.0.1:5000".parse().unwrap(), STREAM).start();
        decoder.wait_for_media();
        for (appliance, host) in appliances.iter_mut().zip(&hosts) {
            legs(2);
            goes_on();
            appliance.kill();
            legs(1);
            goes_on();
            appliance.start_again_in(host);
        }
        legs(2);
        goes_on();
        decoder.assert_all(feed.stop());

        let flow = receiver.flow("news");
        assert_eq!(count(&flow, "merge/packets-unrecovered"), 0, "{flow:#}");
        assert!(count(&flow, "sources/a/packets") < count(&flow, "merge/packets"), "{flow:#}");
        assert!(count(&flow, "sources/b/packets") < count(&flow, "merge/packets"), "{flow:#}");
        println!("two appliances, each killed once: {} packets, 0 lost", count(&flow, "merge/packets"));
    });
}

/// keepalived as it is shipped for an appliance, beside the daemon that it watches.
struct Keepalived<'a> {
    host: &'a Namespace,
    peer: Peer,
    /// Its configuration.
    _dir: TempDir,
}

impl<'a> Keepalived<'a> {
    #[track_caller]
    fn start(host: &'a Namespace, daemon: &Daemon) -> Self {
        // Installs it where it is missing.
        command("keepalived");
        let dir = TempDir::with_prefix("mediaconnect-keepalived-").unwrap();
        let root = daemon.root().display();
        let ctl = env!("CARGO_BIN_EXE_mediaconnectctl");
        let mut text = example("keepalived.conf");
        // All that differs from what is shipped: where the daemon's places are; and where programs are built, others
        // than root may write.
        for (shipped, here) in [
            (
                "/usr/bin/mediaconnectctl",
                &*format!("{ctl} --config {root}/etc --runtime {root}/run --state {root}/state"),
            ),
            ("enable_script_security\n", "\n"),
        ] {
            assert_eq!(text.matches(shipped).count(), 1, "{shipped} in keepalived.conf");
            text = text.replace(shipped, here);
        }
        let file = dir.path().join("keepalived.conf");
        fs::write(&file, text).unwrap();
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--no-syslog", "--log-detail", "--vrrp", "--use-file"]).arg(file);
        command.arg("--pid").arg(dir.path().join("pid")).arg("--vrrp_pid").arg(dir.path().join("vrrp-pid"));
        Self { host, peer: Peer::start(&mut command), _dir: dir }
    }

    fn holds_ingest(&self) -> bool {
        let shown = self.host.command("ip").args("-4 -oneline address show dev eth0".split(' ')).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).contains(&format!("inet {INGEST}/"))
    }

    #[track_caller]
    fn wait_until_it_holds_ingest(&self, holds: bool) {
        wait_for(&format!("the ingest address is there: {holds}"), || (self.holds_ingest() == holds).then_some(()));
    }

    /// Wait until it has become a standby for the `times`th time.
    #[track_caller]
    fn wait_for_standby(&self, times: usize) {
        wait_for("keepalived stands by", || {
            let log = self.peer.stdout() + &self.peer.stderr();
            (log.matches("Entering BACKUP STATE").count() >= times).then_some(())
        });
    }
}

impl Drop for Keepalived<'_> {
    fn drop(&mut self) {
        // Asked to end, it waits for its child; that ends by itself where it is killed.
        if !std::thread::panicking() {
            self.peer.interrupt();
        }
    }
}

/// Datagrams that are missing in a row.
#[derive(Debug)]
struct Gap {
    packets: usize,
    /// Without a datagram.
    time: Duration,
    /// When the next one came, on the system's clock.
    end: Duration,
}

/// Of a stream of so many datagrams, what is missing. What came is right, in order, and goes on to the end.
#[track_caller]
fn gaps(recorder: &Recorder, datagrams: usize) -> Vec<Gap> {
    let sent = STREAM.datagrams(datagrams);
    let sent: Vec<_> = sent.chunks_exact(SEVEN).collect();
    let recorded = recorder.wait_for(sent[datagrams - 1]);
    let (mut gaps, mut next, mut before) = (Vec::new(), 0, recorded[0].at);
    for came in recorded {
        let packets = sent[next..].iter().position(|sent| came.datagram.ends_with(sent));
        let packets = packets.unwrap_or_else(|| panic!("after {next} datagrams came a wrong one, or an old one"));
        if packets > 0 {
            gaps.push(Gap { packets, time: came.at - before, end: came.at });
        }
        (next, before) = (next + packets + 1, came.at);
    }
    gaps
}

#[test]
fn the_ingest_address_moves_to_the_appliance_that_is_there() {
    in_own_network("the_ingest_address_moves_to_the_appliance_that_is_there", || {
        let groups = fs::read_to_string("/proc/self/setgroups").unwrap();
        assert_eq!(groups.trim(), "allow", "this test needs root: in a user namespace keepalived can't run its check");
        switch();
        let hosts = [host("cable-a", "192.0.2.11/24"), host("cable-b", "192.0.2.12/24")];
        let [mut a, b] = [0, 1].map(|n| appliance(&hosts[n], "active-standby/news.toml"));
        let keeps_a = Keepalived::start(&hosts[0], &a);
        keeps_a.wait_until_it_holds_ingest(true);
        let keeps_b = Keepalived::start(&hosts[1], &b);
        keeps_b.wait_for_standby(1);
        let decoder = Recorder::bind(DECODER);
        let relays = |appliance: &Daemon, wanted: u64| {
            let packets = |flow: &_| count(flow, "outputs/decoder/packets");
            let before = packets(&appliance.flow("news"));
            appliance.wait_for_flow("news", "it relays", |flow| packets(flow) > before + wanted);
        };
        let feed = Feed::new(Wire::Rtp, SocketAddr::new(INGEST.into(), 5000), STREAM).start();
        // The check comes once a second: each run kills at another moment of it, of 475 packets.
        relays(&a, 500 + u64::from(std::process::id()) * 37 % 475);
        assert!(!keeps_b.holds_ingest());

        let mut moves = Vec::new();
        let mut begins = |cause| moves.push((cause, SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()));
        begins("the daemon is killed");
        a.kill();
        relays(&b, 500);
        keeps_a.wait_until_it_holds_ingest(false);
        a.start_again_in(&hosts[0]);
        keeps_a.wait_for_standby(2);
        assert!(keeps_b.holds_ingest(), "who comes back does not take the address");

        begins("the host is gone");
        run("ip link set cable-b nomaster".split(' '));
        relays(&a, 500);

        // It still holds the address, as one that was only cut off would: one of them yields.
        begins("the host is back");
        run("ip link set cable-b master switch".split(' '));
        keeps_a.wait_until_it_holds_ingest(false);
        relays(&b, 500);

        begins("keepalived is stopped");
        drop(keeps_b);
        relays(&a, 500);

        let gaps = gaps(&decoder, usize::try_from(feed.stop()).unwrap() / 7);
        assert!(gaps.iter().all(|gap| gap.end > moves[0].1), "something is missing before the first move: {gaps:?}");
        for (at, (cause, begin)) in moves.iter().enumerate() {
            let end = moves.get(at + 1).map_or(Duration::MAX, |next| next.1);
            let of_this: Vec<_> = gaps.iter().filter(|gap| (*begin..end).contains(&gap.end)).collect();
            assert!(of_this.len() <= 1, "{cause}: the stream is not whole after the move: {of_this:?}");
            let (time, packets) = of_this.first().map_or((Duration::ZERO, 0), |gap| (gap.time, gap.packets));
            println!("{cause}: nothing came for {} ms, {packets} packets lost", time.as_millis());
            assert!(time < Duration::from_secs(10), "{cause}: {time:?}");
        }
    });
}
