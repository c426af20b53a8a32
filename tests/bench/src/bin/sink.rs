//! Receives marked datagrams until its standard input ends; then prints as JSON what came, what did not, and how late.
//!
//! It sleeps between its readings, so that it costs little; the kernel's stamps say when a datagram really came.

use std::io::Read;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use mediaconnect_bench::batch::ReceiveBatch;
use mediaconnect_bench::clock::{exact_sleep, monotonic_ns, sleep_until};
use mediaconnect_bench::histogram::Histogram;
use mediaconnect_bench::mark::{self, Mark};
use mediaconnect_bench::socket::{Ports, bind, coalesce, loopback, stamp};
use mediaconnect_bench::srt::Caller;
use serde_json::{Value, json};

/// Sequence numbers beyond this are not ours.
const LAST_SEQUENCE: u64 = 1 << 28;

/// Receives marked datagrams and counts what is missing; ends with its standard input.
#[derive(Parser)]
struct Arguments {
    /// Ports of loopback to receive on: 6001, 6001,6005 or 6001+10
    #[arg(long)]
    ports: Ports,
    /// Leave the first so many datagrams of each port out of counts and latencies
    #[arg(long, default_value_t = 0)]
    skip: u64,
    /// Leave out what was sent before that, in nanoseconds since 1970: leftovers of an earlier measurement
    #[arg(long, default_value_t = 0)]
    since_ns: u64,
    /// Receive coalesced (UDP_GRO), as behind a network card that does it
    #[arg(long)]
    coalesce: bool,
    /// Receive by SRT: from each port call one of these of loopback, by turns
    #[arg(long)]
    srt: Option<Ports>,
    /// Make this file when all calls are answered
    #[arg(long, requires = "srt")]
    ready: Option<std::path::PathBuf>,
}

/// What came on one port.
struct Port {
    socket: UdpSocket,
    /// With the port that it calls.
    srt: Option<(Caller, u16)>,
    datagrams: u64,
    counted: u64,
    duplicates: u64,
    reordered: u64,
    unmarked: u64,
    newest: u64,
    /// A bit for each sequence number.
    seen: Vec<u64>,
    first_ns: u64,
}

impl Port {
    fn new(socket: UdpSocket, srt: Option<(Caller, u16)>) -> Self {
        Self {
            socket,
            srt,
            datagrams: 0,
            counted: 0,
            duplicates: 0,
            reordered: 0,
            unmarked: 0,
            newest: 0,
            seen: vec![0; 1024],
            first_ns: 0,
        }
    }

    fn datagram(&mut self, bytes: &[u8], arrival_ns: u64, arguments: &Arguments, latencies: &mut Histogram) {
        let bytes = match &mut self.srt {
            None => bytes,
            Some((caller, _)) => match caller.receive(bytes) {
                None => return,
                Some(payload) => payload,
            },
        };
        let mut marked = false;
        for mark in mark::read(bytes) {
            marked = true;
            if mark.sent_ns < arguments.since_ns {
                continue;
            }
            if self.first_ns == 0 {
                self.first_ns = arrival_ns;
            }
            if self.is_new(mark) && mark.sequence >= arguments.skip {
                self.counted += 1;
                latencies.add(arrival_ns.saturating_sub(mark.sent_ns));
            }
        }
        self.datagrams += 1;
        self.unmarked += u64::from(!marked);
    }

    fn is_new(&mut self, mark: Mark) -> bool {
        if mark.sequence > LAST_SEQUENCE {
            return false;
        }
        let (word, bit) = ((mark.sequence / 64) as usize, 1 << (mark.sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize((word + 1).next_power_of_two(), 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return false;
        }
        self.seen[word] |= bit;
        self.reordered += u64::from(mark.sequence < self.newest);
        self.newest = self.newest.max(mark.sequence);
        true
    }

    /// Sends what SRT has to say to the port that was called.
    fn answer(&mut self, now_ns: u64) {
        let Some((caller, called)) = &mut self.srt else { return };
        if let Some(code) = caller.refused() {
            eprintln!("a call to port {called} is refused: {code}");
        }
        while let Some(packet) = caller.poll(now_ns) {
            // What is refused is sent again, or comes too late to matter.
            let _ = self.socket.send_to(&packet, loopback(*called));
        }
    }

    /// Reads until nothing waits.
    fn drain(&mut self, batch: &mut ReceiveBatch, arguments: &Arguments, latencies: &mut Histogram) {
        loop {
            let messages = batch.receive(&self.socket, false);
            for message in batch.messages() {
                for datagram in message.bytes.chunks(message.segment) {
                    self.datagram(datagram, message.arrival_ns, arguments, latencies);
                }
            }
            if messages < batch.slots() {
                return;
            }
        }
    }
}

fn main() {
    let arguments = Arguments::parse();
    exact_sleep();
    let count = arguments.ports.0.len();
    let receive_buffer = if count > 20 { 8 << 20 } else { 64 << 20 };
    let caller = |number: u16| {
        let called = &arguments.srt.as_ref()?.0;
        Some((Caller::new(number, monotonic_ns()), called[usize::from(number) % called.len()]))
    };
    let numbered = arguments.ports.0.iter().zip(0..);
    let mut ports: Vec<_> =
        numbered.map(|(&port, number)| Port::new(bind(port, receive_buffer), caller(number))).collect();
    for port in &ports {
        stamp(&port.socket);
        if arguments.coalesce {
            coalesce(&port.socket);
        }
    }
    let mut batch = if arguments.coalesce { ReceiveBatch::new(32, 65_536) } else { ReceiveBatch::new(64, 2048) };
    let mut latencies = Histogram::default();
    // The more ports there are, the longer the round.
    let pause = (count as u64 * 50_000).clamp(1_000_000, 20_000_000);
    let ended = Arc::new(AtomicBool::new(false));
    let end = ended.clone();
    std::thread::spawn(move || {
        // Whether it ends or breaks, it is over.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        end.store(true, Ordering::Relaxed);
    });
    let mut ready = arguments.ready.clone();
    loop {
        let last = ended.load(Ordering::Relaxed);
        for port in &mut ports {
            port.drain(&mut batch, &arguments, &mut latencies);
        }
        ports.iter_mut().for_each(|port| port.answer(monotonic_ns()));
        let connected = |port: &Port| port.srt.as_ref().is_some_and(|(caller, _)| caller.is_connected());
        if let Some(file) = ready.take_if(|_| ports.iter().all(connected)) {
            std::fs::write(&file, "").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        if last {
            break;
        }
        sleep_until(monotonic_ns() + pause);
    }
    for port in &ports {
        let Some((caller, called)) = &port.srt else { continue };
        let goodbye = caller.shutdown(monotonic_ns());
        let _ = goodbye.map(|packet| port.socket.send_to(&packet, loopback(*called)));
    }
    println!("{}", summary(&ports, &latencies));
}

fn summary(ports: &[Port], latencies: &Histogram) -> Value {
    let sum = |figure: fn(&Port) -> u64| ports.iter().map(figure).sum::<u64>();
    let microseconds = |ns: u64| ns as f64 / 1e3;
    json!({
        "datagrams": sum(|p| p.datagrams),
        "counted": sum(|p| p.counted),
        "duplicates": sum(|p| p.duplicates),
        "reordered": sum(|p| p.reordered),
        "unmarked": sum(|p| p.unmarked),
        "p50_us": microseconds(latencies.quantile(0.5)),
        "p99_us": microseconds(latencies.quantile(0.99)),
        "p999_us": microseconds(latencies.quantile(0.999)),
        "max_us": microseconds(latencies.largest()),
        "ports": ports.iter().map(|p| json!({ "counted": p.counted, "first_ns": p.first_ns })).collect::<Vec<_>>(),
    })
}
