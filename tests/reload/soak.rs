//! Many flows under traffic, and a thousand edits of every kind a sysadmin, an editor or a tool makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::crowd::{Judge, Random, Traffic};
use crate::support::daemon::{Daemon, Setup};
use crate::support::ports::free_port;

/// All flows.
const FLOWS: usize = 200;
/// Of these, the first go on all the time; the others also lose their files and change their sources.
const KEPT: usize = 150;
/// Datagrams a second of each flow.
const RATE: u32 = 40;
/// Edits.
const EDITS: usize = 1000;
/// Of what can be.
const SEED: u64 = 2;

const BROKEN: [&str; 6] = [
    "[sources.main\nprotocol = 'udp'\n",
    "description = 'no sources'\n",
    "[sources.main]\nprotocol = 'udp'\nbnid = '127.0.0.1:5000'\n",
    "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:99999'\n",
    "",
    "description = 'a'\ndescription = 'b'\n",
];

/// What a flow's file is to say.
#[derive(Debug, Clone)]
struct Spec {
    version: usize,
    source: u16,
    /// Destinations of the outputs that come and go.
    extra: BTreeSet<u16>,
    ttl: u8,
    allow: bool,
}

struct Soak {
    daemon: Daemon,
    judge: Judge,
    /// What comes and goes sends there, and nobody looks.
    nowhere: std::net::UdpSocket,
    random: Random,
    /// Ports of the flows that come and go.
    pool: Vec<u16>,
    /// The last valid version of each file that is there.
    on_disk: BTreeMap<usize, Spec>,
    /// Files that are broken now.
    broken: BTreeSet<usize>,
    version: usize,
    counts: BTreeMap<&'static str, usize>,
}

fn name(flow: usize) -> String {
    format!("flow-{flow:03}")
}

impl Soak {
    fn text(&self, flow: usize, spec: &Spec) -> String {
        let Spec { version, source, extra, ttl, allow } = spec;
        let allow = if *allow { "allow = ['127.0.0.0/8']\n" } else { "" };
        let mut text = format!(
            "description = 'version {version}'\ntags = {{ Version = '{version}' }}\n\n\
             [sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{source}'\n{allow}\n"
        );
        for (output, socket) in [("a", flow), ("b", FLOWS + flow)] {
            let port = self.judge.port(socket);
            text += &format!("[outputs.{output}]\nprotocol = 'udp'\ndestination = '127.0.0.1:{port}'\nttl = {ttl}\n\n");
        }
        let port = self.nowhere.local_addr().unwrap().port();
        for host in extra {
            text += &format!("[outputs.x-{host}]\nprotocol = 'udp'\ndestination = '127.1.{flow}.{host}:{port}'\n\n");
        }
        text
    }

    fn path(&self, flow: usize) -> PathBuf {
        self.daemon.flow_path(&name(flow))
    }

    /// Another version of a flow, with the same source.
    fn change(&mut self, flow: usize) -> Spec {
        self.version += 1;
        let mut spec = self.on_disk[&flow].clone();
        spec.version = self.version;
        match self.random.below(4) {
            0 => spec.ttl = 1 + self.random.below(200) as u8,
            1 => spec.allow = !spec.allow,
            _ => {
                let host = 1 + self.random.below(4) as u16;
                if !spec.extra.remove(&host) {
                    spec.extra.insert(host);
                }
            }
        }
        spec
    }

    fn written(&mut self, flow: usize, spec: Spec) {
        self.on_disk.insert(flow, spec);
        self.broken.remove(&flow);
    }

    /// Write a file in one of the ways in which files are written.
    fn write(&mut self, flow: usize, text: &[u8]) {
        let path = self.path(flow);
        // A write through a link would change a file that nobody watches.
        let way = if path.is_symlink() { self.random.below(2) } else { self.random.below(6) };
        let way = match way {
            0 => {
                let new = path.with_extension("toml.new");
                fs::write(&new, text).unwrap();
                fs::rename(&new, &path).unwrap();
                "renamed in"
            }
            1 => {
                let version = self.daemon.root().join(format!("versions/{}.{}", name(flow), self.random.next()));
                fs::write(&version, text).unwrap();
                let link = path.with_extension("link");
                symlink(&version, &link).unwrap();
                fs::rename(&link, &path).unwrap();
                "symlink swapped"
            }
            2 => {
                fs::write(&path, text).unwrap();
                "overwritten"
            }
            3 | 4 => {
                // The end of a table where there is one: what is there then is valid.
                let tables: Vec<_> =
                    text.windows(2).enumerate().filter(|(_, w)| *w == b"\n[").map(|(at, _)| at + 1).collect();
                let at = if tables.is_empty() || self.random.below(3) == 0 {
                    self.random.below(text.len() + 1)
                } else {
                    tables[self.random.below(tables.len())]
                };
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(&text[..at]).unwrap();
                self.pause(400);
                file.write_all(&text[at..]).unwrap();
                "half written, then finished"
            }
            _ => {
                // As vim does it with `backup`.
                let backup = path.with_extension("toml~");
                fs::rename(&path, &backup).unwrap();
                fs::write(&path, text).unwrap();
                fs::remove_file(&backup).unwrap();
                "by an editor"
            }
        };
        *self.counts.entry(way).or_default() += 1;
    }

    /// Mostly short, now and then up to `longest` ms.
    fn pause(&mut self, longest: usize) {
        let longest = if self.random.below(8) == 0 { longest } else { longest / 20 };
        sleep(Duration::from_millis(self.random.below(longest.max(1)) as u64));
    }

    fn edit(&mut self) {
        let flow = self.random.below(FLOWS);
        let there = self.on_disk.contains_key(&flow);
        match self.random.below(20) {
            0 => self.move_away("etc/flows.d"),
            1 if self.random.below(4) == 0 => self.move_away("etc"),
            2..=5 if there => {
                let text = if self.random.below(6) == 0 {
                    vec![0xFF, 0xFE, b'a']
                } else {
                    BROKEN[self.random.below(BROKEN.len())].as_bytes().to_vec()
                };
                self.write(flow, &text);
                self.broken.insert(flow);
                *self.counts.entry("broken").or_default() += 1;
            }
            6 if there => {
                let other = (flow + 1) % KEPT;
                let mut spec = self.change(flow);
                spec.source = self.on_disk[&other].source;
                let text = self.text(flow, &spec);
                self.write(flow, text.as_bytes());
                self.broken.insert(flow);
                *self.counts.entry("another's port").or_default() += 1;
            }
            7..=9 if there && flow >= KEPT => {
                fs::remove_file(self.path(flow)).unwrap();
                self.on_disk.remove(&flow);
                self.broken.remove(&flow);
                *self.counts.entry("deleted").or_default() += 1;
            }
            10 | 11 if there && flow >= KEPT => self.swap(flow),
            _ if there => {
                let spec = self.change(flow);
                let text = self.text(flow, &spec);
                self.write(flow, text.as_bytes());
                self.written(flow, spec);
            }
            _ => {
                self.version += 1;
                let used: BTreeSet<_> = self.on_disk.values().map(|spec| spec.source).collect();
                let source = *self.pool.iter().find(|port| !used.contains(port)).unwrap();
                let spec = Spec { version: self.version, source, extra: BTreeSet::new(), ttl: 3, allow: false };
                let text = self.text(flow, &spec);
                fs::write(self.path(flow), text).unwrap();
                self.written(flow, spec);
                *self.counts.entry("created again").or_default() += 1;
            }
        }
    }

    /// Two flows change their ports with each other.
    fn swap(&mut self, flow: usize) {
        let others: Vec<_> = self.on_disk.keys().copied().filter(|other| *other >= KEPT && *other != flow).collect();
        let other = others[self.random.below(others.len())];
        let (mut mine, mut theirs) = (self.change(flow), self.change(other));
        std::mem::swap(&mut mine.source, &mut theirs.source);
        for (flow, spec) in [(flow, mine), (other, theirs)] {
            let text = self.text(flow, &spec);
            self.write(flow, text.as_bytes());
            self.written(flow, spec);
        }
        *self.counts.entry("ports swapped").or_default() += 1;
    }

    fn move_away(&mut self, what: &str) {
        let (here, away) = (self.daemon.root().join(what), self.daemon.root().join("away"));
        fs::rename(&here, &away).unwrap();
        self.pause(1000);
        fs::rename(&away, &here).unwrap();
        *self.counts.entry("directory moved away and back").or_default() += 1;
    }

    /// What is stale is what is broken, and what runs is what is on disk once it is mended.
    fn assert_all_runs(&mut self) {
        self.daemon.ctl(&["reload"]);
        let running = self.running();
        for flow in 0..KEPT {
            let stale = running[&name(flow)]["stale-config"] == true;
            assert_eq!(stale, self.broken.contains(&flow), "{:#}", running[&name(flow)]);
        }
        for flow in self.broken.clone() {
            let text = self.text(flow, &self.on_disk[&flow]);
            self.daemon.write_flow(&name(flow), &text);
        }
        self.daemon.ctl_ok(&["reload"]);
        let plan: Value = serde_json::from_str(&self.daemon.ctl_ok(&["plan", "--json"])).unwrap();
        assert_eq!(plan["changes"], serde_json::json!([]));
        let running = self.running();
        let names: Vec<_> = self.on_disk.keys().map(|flow| name(*flow)).collect();
        assert_eq!(running.keys().cloned().collect::<Vec<_>>(), names);
        for (flow, spec) in &self.on_disk {
            let doc = &running[&name(*flow)];
            assert_eq!(doc["description"], format!("version {}", spec.version), "{doc:#}");
            assert_eq!(doc["sources"]["main"]["bind"], format!("127.0.0.1:{}", spec.source));
            assert_eq!((&doc["state"], &doc["stale-config"]), (&"active".into(), &false.into()), "{doc:#}");
            let outputs: BTreeSet<_> = doc["outputs"].as_object().unwrap().keys().cloned().collect();
            let extra = spec.extra.iter().map(|host| format!("x-{host}"));
            assert_eq!(outputs, extra.chain(["a".to_owned(), "b".to_owned()]).collect());
        }
    }

    fn running(&self) -> BTreeMap<String, Value> {
        let flows = self.daemon.json("/v1/flows");
        let name = |flow: &Value| flow["name"].as_str().unwrap().to_owned();
        flows["flows"].as_array().unwrap().iter().map(|flow| (name(flow), flow.clone())).collect()
    }
}

fn start() -> (Soak, Traffic) {
    let ports: Vec<_> = (0..FLOWS.div_ceil(10))
        .flat_map(|_| {
            let port = free_port();
            port..port + 10
        })
        .collect();
    let soak = Soak {
        daemon: Setup::new().start(),
        judge: Judge::start(2 * FLOWS),
        nowhere: std::net::UdpSocket::bind("0.0.0.0:0").unwrap(),
        random: Random::new(SEED),
        pool: ports[KEPT..FLOWS].to_vec(),
        on_disk: BTreeMap::new(),
        broken: BTreeSet::new(),
        version: 0,
        counts: BTreeMap::new(),
    };
    let mut soak = soak;
    fs::create_dir(soak.daemon.root().join("versions")).unwrap();
    for (flow, port) in ports.iter().enumerate().take(FLOWS) {
        let spec = Spec { version: 0, source: *port, extra: BTreeSet::new(), ttl: 16, allow: false };
        soak.daemon.write_flow(&name(flow), &soak.text(flow, &spec));
        soak.on_disk.insert(flow, spec);
    }
    soak.daemon.ctl_ok(&["reload"]);
    assert_eq!(soak.daemon.status()["flows"]["active"], FLOWS, "all are applied when `reload` returns");
    (soak, Traffic::start(&ports[..FLOWS], RATE))
}

#[test]
fn a_thousand_edits_cost_no_packet_of_what_they_do_not_touch() {
    let (mut soak, traffic) = start();
    let began = Instant::now();
    for edit in 0..EDITS {
        soak.edit();
        soak.pause(400);
        assert!(edit % 50 != 0 || soak.daemon.is_alive());
    }
    let took = began.elapsed();
    soak.assert_all_runs();
    let sent = traffic.stop();
    let mut received = 0;
    for (flow, sent) in sent.into_iter().enumerate().take(KEPT) {
        for socket in [flow, FLOWS + flow] {
            soak.judge.assert_all(socket, sent);
            received += sent;
        }
    }
    assert!(soak.daemon.is_alive());
    println!("{EDITS} edits in {took:.1?}, {received} datagrams on {} outputs, none lost: {:?}", 2 * KEPT, soak.counts);
}
