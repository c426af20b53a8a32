//! Strangers, broken senders and faults of our own: the daemon stays, and what is healthy does not notice.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mediaconnect::proto::seq::{RtpTime, Seq};
use support::crowd::{Judge, Random, Traffic};
use support::daemon::{Setup, count};
use support::flood::{GROWTH, extent, flood};
use support::media::{SEVEN, Stream, rtp_packet, v4};
use support::ports::free_port;
use support::wait_for;

/// Flows that are to notice nothing.
const HEALTHY: usize = 4;

fn flow(protocol: &str, input: u16, keys: &str, output: u16) -> String {
    format!(
        "[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{input}'\n{keys}\n\
         [outputs.udp]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    )
}

/// Healthy flows `healthy-N` under traffic, each with an output that is judged.
struct Healthy {
    judge: Judge,
    ports: Vec<u16>,
}

impl Healthy {
    fn new() -> Self {
        Self { judge: Judge::start(HEALTHY), ports: (0..HEALTHY).map(|_| free_port()).collect() }
    }

    fn add_to<'a>(&self, setup: Setup<'a>) -> Setup<'a> {
        self.ports.iter().enumerate().fold(setup, |setup, (n, port)| {
            setup.flow(&format!("healthy-{n}"), &flow("udp", *port, "", self.judge.port(n)))
        })
    }

    fn start(&self) -> Traffic {
        let traffic = Traffic::start(&self.ports, 100);
        (0..HEALTHY).for_each(|n| _ = self.judge.wait_for_media(n));
        traffic
    }

    #[track_caller]
    fn assert_none_lost(&self, traffic: Traffic) {
        for (n, sent) in traffic.stop().into_iter().enumerate() {
            self.judge.assert_all(n, sent);
        }
    }
}

/// A datagram such as nobody should send, or nearly.
fn bad_datagram(random: &mut Random, media: &[u8]) -> Vec<u8> {
    let valid = &media[..SEVEN];
    let (seq, timestamp) = (Seq(random.next() as u16), RtpTime(random.next() as u32));
    let rtp = rtp_packet(seq, timestamp, random.below(3) as u32, valid);
    let noise = |random: &mut Random, length: usize| (0..length).map(|_| random.next() as u8).collect::<Vec<_>>();
    match random.below(10) {
        0 => {
            let length = random.below(1473);
            noise(random, length)
        }
        1 => {
            let length = random.below(20);
            noise(random, length)
        }
        2 => {
            let length = random.below(9000);
            noise(random, length)
        }
        // An RTP header with any fields: CSRCs, extension, padding, any payload type, and any length behind it.
        3 => {
            let mut packet = rtp;
            noise(random, 16).iter().zip(&mut packet).for_each(|(noise, byte)| *byte = *noise);
            packet[0] = 0x80 | packet[0] & 0x3F;
            packet.truncate(random.below(1400));
            packet
        }
        4 => rtp[..random.below(rtp.len())].to_vec(),
        5 => valid[..random.below(valid.len())].to_vec(),
        6 | 7 => {
            let mut packet = if random.below(2) == 0 { rtp } else { valid.to_vec() };
            for _ in 0..1 + random.below(8) {
                let at = random.below(packet.len());
                packet[at] ^= 1 << random.below(8);
            }
            packet
        }
        8 => [&[0x80, 200 + random.below(5) as u8, 0, 6][..], &noise(random, 24)].concat(),
        _ => rtp,
    }
}

#[test]
fn a_flood_of_random_datagrams_harms_nothing_and_no_memory_grows() {
    let (most, longest) = extent(1_000_000, Duration::from_secs(20));
    let healthy = Healthy::new();
    let inputs: Vec<_> = (0..6).map(|_| free_port()).collect();
    let nowhere = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let allow = "allow = ['127.0.0.1/32', '127.0.0.2/32']";
    let every_output = format!(
        "{}[outputs.sevens]\nprotocol = 'udp'\ndestination = '127.0.0.2:{nowhere}'\ndatagram-packets = 7\n\
         [outputs.rtp]\nprotocol = 'rtp'\ndestination = '127.0.0.3:{nowhere}'\n\
         [outputs.passthrough]\nprotocol = 'rtp'\ndestination = '127.0.0.4:{nowhere}'\nheader = 'passthrough'\n",
        flow("rtp", inputs[1], allow, nowhere)
    );
    let setup = healthy
        .add_to(Setup::new())
        .flow("bad-0", &flow("udp", inputs[0], allow, nowhere))
        .flow("bad-1", &every_output)
        .flow("bad-2", &flow("udp", inputs[2], "max-bitrate = '1M'", nowhere))
        .flow("bad-3", &flow("rtp", inputs[3], "reorder-window = '2s'", nowhere))
        .flow("bad-4", &flow("rtp", inputs[4], "reorder-window = '0s'", nowhere))
        .flow("bad-5", &flow("udp", inputs[5], "allow = ['203.0.113.1/32']", nowhere));
    let mut daemon = setup.start();
    let traffic = healthy.start();
    let targets: Vec<_> = inputs.iter().copied().map(v4).collect();
    let mut random = Random::new(5);

    let media = Stream::at(1_000_000).datagrams(1);
    let bad = |random: &mut Random| bad_datagram(random, &media);
    flood(&mut random, &targets, (most / 10, longest / 5), bad);
    let before = daemon.resident();
    let began = Instant::now();
    let datagrams = flood(&mut random, &targets, (most, longest), bad);
    let took = began.elapsed();
    let after = daemon.resident();

    assert!(daemon.is_alive());
    let seen: u64 = (0..6)
        .map(|n| {
            let flow = daemon.flow(&format!("bad-{n}"));
            let figure = |name: &str| count(&flow, &format!("sources/main/{name}"));
            ["packets", "packets-denied", "packets-invalid", "packets-over-bitrate", "packets-kernel-dropped"]
                .into_iter()
                .map(figure)
                .sum::<u64>()
        })
        .sum();
    println!(
        "{datagrams} datagrams in {took:.1?}, {seen} seen by sources; memory {} KiB before, {} KiB after",
        before >> 10,
        after >> 10
    );
    assert!(seen > datagrams / 2, "the flood arrived: {seen}");
    assert!(after.saturating_sub(before) <= GROWTH, "from {before} to {after} bytes");
    healthy.assert_none_lost(traffic);
}

/// Something else than HTTP, or too little of it.
fn bad_request(random: &mut Random) -> Vec<u8> {
    let noise: Vec<u8> = (0..random.below(5000)).map(|_| random.next() as u8).collect();
    match random.below(6) {
        0 => noise,
        1 => b"GET /v1/flows HTTP/1.1\r\nHost: ".to_vec(),
        2 => [b"GET /", &noise[..], b" HTTP/1.1\r\n\r\n"].concat(),
        3 => [b"POST /v1/flows/../../etc/stop HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", &noise[..]].concat(),
        4 => [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 40_000], b"\r\n\r\n"].concat(),
        _ => b"GET /v1/status HTTP/1.1\r\n\r\n".repeat(20),
    }
}

#[test]
fn garbage_and_crowds_on_the_sockets_of_http_harm_nothing() {
    let healthy = Healthy::new();
    let http = free_port();
    let mut daemon = healthy.add_to(Setup::new()).start();
    let settings = format!("[http]\nlisten = ['127.0.0.1:{http}']\n");
    std::fs::write(daemon.root().join("etc/mediaconnect.toml"), settings).unwrap();
    daemon.ctl_ok(&["reload"]);
    let traffic = healthy.start();
    let socket = daemon.root().join("run/control.sock");
    let mut random = Random::new(6);
    // Half of them go away at once, the others stay and say no more.
    let mut kept: (Vec<UnixStream>, Vec<TcpStream>) = Default::default();
    for round in 0..300 {
        let request = bad_request(&mut random);
        if let Ok(mut stream) = UnixStream::connect(&socket) {
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let _ = stream.write_all(&request);
            kept.0.extend(Some(stream).filter(|_| round % 2 == 0));
        }
        let to = SocketAddr::from(([127, 0, 0, 1], http));
        if let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(100)) {
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            let _ = stream.write_all(&request);
            kept.1.extend(Some(stream).filter(|_| round % 2 == 0));
        }
    }
    assert!(daemon.is_alive());
    drop(kept);
    wait_for("the control socket answers", || matches!(daemon.ask("GET", "/v1/status"), Ok((200, _))).then_some(()));
    wait_for("HTTP answers", || {
        let mut stream = TcpStream::connect(("127.0.0.1", http)).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    healthy.assert_none_lost(traffic);
}

/// The way to force a panic is in debug builds only.
#[cfg(debug_assertions)]
#[test]
fn a_panic_of_one_flow_ends_no_other_and_the_flow_comes_back() {
    let (healthy, judge, input) = (Healthy::new(), Judge::start(1), free_port());
    let mut daemon = healthy.add_to(Setup::new()).flow("faulty", &flow("udp", input, "", judge.port(0))).start();
    let (traffic, faulty) = (healthy.start(), Traffic::start(&[input], 100));
    judge.wait_for_media(0);
    for times in 1..=3 {
        let answer = daemon.ask("POST", "/v1/flows/faulty/panic").unwrap();
        assert_eq!(answer.0, 200, "{}", answer.1);
        daemon.wait_for_flow("faulty", "it has failed and is back", |flow| {
            let said = support::daemon::condition(flow, "flow-panicked").map(|c| c["message"].to_string());
            let counted = said.is_some_and(|said| said.contains(&format!("{times} time")));
            counted && flow["state"] == "active"
        });
        judge.wait_for_more(0, 20);
    }
    daemon.wait_for_log("flow=faulty");
    daemon.wait_for_log("asked to, by a test");
    assert!(daemon.is_alive());
    faulty.stop();
    healthy.assert_none_lost(traffic);
}
