//! Sends marked datagrams at an exact rate, and prints as JSON what it really sent.

use std::io::IoSlice;

use clap::Parser;
use mediaconnect_bench::batch::{Address, Outgoing, SendBatch};
use mediaconnect_bench::clock::{exact_sleep, monotonic_ns, realtime_ns, sleep_until};
use mediaconnect_bench::mark::{self, Mark, PAYLOAD};
use mediaconnect_bench::socket::{Ports, bind, loopback};
use serde_json::json;

/// Most messages of one system call.
const BATCH: usize = 64;
/// So many datagrams behind its schedule is late: the rate was too much for this machine.
const LATE: u64 = 2000;

/// Sends marked datagrams of seven transport-stream packets.
#[derive(Parser)]
struct Arguments {
    /// Ports of loopback to send to, a stream each: 6001, 6001,6005 or 6001+10
    #[arg(long)]
    to: Ports,
    /// Bit/s of transport stream, each stream
    #[arg(long)]
    rate: f64,
    /// For how long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// So many datagrams of each stream, however long it takes, instead of --seconds
    #[arg(long)]
    datagrams: Option<u64>,
    /// Send only at multiples of so many microseconds, all that is due; 0: each datagram at its time
    #[arg(long, default_value_t = 0)]
    tick_us: u64,
    /// Let the kernel cut trains of up to so many datagrams (UDP_SEGMENT); with one stream only
    #[arg(long, default_value_t = 1)]
    train: usize,
    /// With RTP headers
    #[arg(long)]
    rtp: bool,
}

fn main() {
    let arguments = Arguments::parse();
    exact_sleep();
    let streams = arguments.to.0.len() as u64;
    let per_second = arguments.rate / (PAYLOAD as f64 * 8.0) * streams as f64;
    let datagrams = arguments.datagrams.unwrap_or((per_second * arguments.seconds) as u64 / streams) * streams;
    let mut generator = Generator::new(&arguments);
    let tick = arguments.tick_us * 1000;
    let interval = 1e9 / per_second;
    let start = monotonic_ns();
    // Too slow a machine shall not go on for ever.
    let give_up = start + (datagrams as f64 * interval) as u64 + 1_000_000_000;
    let mut late = 0_u64;
    while generator.sent < datagrams {
        let now = monotonic_ns();
        if now > give_up {
            break;
        }
        let due = (((now - start) as f64 / interval) as u64 + 1).min(datagrams);
        if due > generator.sent {
            late += u64::from(due - generator.sent > LATE);
            generator.send(due);
            continue;
        }
        let next = (generator.sent as f64 * interval) as u64;
        sleep_until(start + next.checked_div(tick).map_or(next, |ticks| (ticks + 1) * tick));
    }
    let seconds = (monotonic_ns() - start) as f64 / 1e9;
    println!(
        "{}",
        json!({
            "sent": generator.sent,
            "per_stream": generator.sent / streams,
            "seconds": seconds,
            "late": late,
            "refused": generator.refused,
        })
    );
}

/// Numbers datagrams, one stream after the other, and sends them.
struct Generator {
    socket: std::net::UdpSocket,
    to: Vec<Address>,
    train: usize,
    datagram: usize,
    bytes: Vec<u8>,
    batch: SendBatch,
    sent: u64,
    refused: usize,
}

impl Generator {
    fn new(arguments: &Arguments) -> Self {
        let datagram = mark::datagram_len(arguments.rtp);
        let alone = arguments.to.0.len() == 1;
        let train = if alone { arguments.train.clamp(1, 65_000 / datagram) } else { 1 };
        let mut bytes = vec![0; BATCH * train * datagram];
        bytes.chunks_exact_mut(datagram).for_each(mark::prepare);
        Self {
            socket: bind(0, 0),
            to: arguments.to.0.iter().map(|&port| loopback(port).into()).collect(),
            train,
            datagram,
            bytes,
            batch: SendBatch::default(),
            sent: 0,
            refused: 0,
        }
    }

    /// Up to that number, but no more than one batch.
    fn send(&mut self, due: u64) {
        let streams = self.to.len() as u64;
        let count = (due - self.sent).min((BATCH * self.train) as u64) as usize;
        let sent_ns = realtime_ns();
        let bytes = &mut self.bytes[..count * self.datagram];
        for (datagram, number) in bytes.chunks_exact_mut(self.datagram).zip(self.sent..) {
            mark::write(datagram, (number % streams) as u32, Mark { sequence: number / streams, sent_ns });
        }
        let pieces: Vec<_> = bytes.chunks(self.train * self.datagram).map(IoSlice::new).collect();
        let messages = pieces.iter().zip(self.sent..).map(|(piece, number)| Outgoing {
            pieces: std::slice::from_ref(piece),
            to: Some(&self.to[(number % streams) as usize]),
            segment: (piece.len() > self.datagram).then_some(self.datagram as u16),
        });
        self.refused += self.batch.send(&self.socket, messages);
        self.sent += count as u64;
    }
}
