//! A network that damages what it carries, the same way in every run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::media::{receiving_socket, sending_socket};

/// What the network does, in percent of the datagrams, and how long they are under way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    pub seed: u64,
    /// Dropped one by one.
    pub loss: u64,
    /// Followed by `burst_length` dropped ones.
    pub burst: u64,
    pub burst_length: u64,
    /// Sent on twice.
    pub duplicate: u64,
    /// Kept back until `reorder_by` later ones are sent on.
    pub reorder: u64,
    pub reorder_by: u64,
    pub delay: Duration,
}

/// What the network did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub received: u64,
    pub dropped: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

/// A running network between a sender and a receiver.
pub struct Proxy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Proxy {
    /// From one address to another.
    pub fn start(listen: SocketAddr, to: SocketAddr, impairment: Impairment) -> Self {
        let (input, output) = (receiving_socket(listen), sending_socket(to));
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || run(&input, &output, to, impairment, &flag)) }
    }

    /// Send on all that is under way, and end.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the network does not panic")
    }
}

/// xorshift64*: seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn percent(&mut self, chance: u64) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % 100 < chance
    }
}

fn run(input: &UdpSocket, output: &UdpSocket, to: SocketAddr, impairment: Impairment, stop: &AtomicBool) -> Report {
    let (mut random, mut report) = (Random(impairment.seed << 1 | 1), Report::default());
    let mut under_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    let mut kept: Option<(u64, Vec<u8>)> = None;
    let (mut buffer, mut order, mut burst) = (vec![0; 65_536], 0, 0);
    let mut quiet = false;
    while !(quiet && under_way.is_empty() && stop.load(Ordering::Relaxed)) {
        let next = under_way.peek().map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        let wait =
            next.unwrap_or(Duration::from_millis(20)).clamp(Duration::from_micros(50), Duration::from_millis(20));
        input.set_read_timeout(Some(wait)).expect("a socket option");
        let received = input.recv(&mut buffer).ok();
        quiet = received.is_none();
        let mut send = |datagram: Vec<u8>| {
            order += 1;
            under_way.push(Reverse((Instant::now() + impairment.delay, order, datagram)));
        };
        if let Some(length) = received {
            report.received += 1;
            let datagram = buffer[..length].to_vec();
            if burst > 0 || random.percent(impairment.loss) {
                burst = u64::saturating_sub(burst, 1);
                report.dropped += 1;
            } else if kept.is_none() && random.percent(impairment.reorder) {
                report.reordered += 1;
                kept = Some((impairment.reorder_by, datagram));
            } else {
                if random.percent(impairment.duplicate) {
                    report.duplicated += 1;
                    send(datagram.clone());
                }
                send(datagram);
                burst = if random.percent(impairment.burst) { impairment.burst_length } else { 0 };
                kept = kept.map(|(more, datagram)| (more - 1, datagram));
            }
        }
        if let Some((_, datagram)) = kept.take_if(|(more, _)| *more == 0 || quiet) {
            send(datagram);
        }
        while let Some(Reverse((_, _, datagram))) = pop_due(&mut under_way) {
            output.send_to(&datagram, to).expect("the receiver is there");
        }
    }
    report
}

fn pop_due<T: Ord>(under_way: &mut BinaryHeap<Reverse<(Instant, u64, T)>>) -> Option<Reverse<(Instant, u64, T)>> {
    let due = under_way.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now());
    if due { under_way.pop() } else { None }
}
