//! Light traffic for many flows at once: every datagram is numbered, so that a single one that is missing shows.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::media::{receiving_socket, sending_socket, v4};
use super::wait_for;

/// A datagram's length: one transport-stream packet.
pub const ONE: usize = 188;

/// A null packet that bears the number of its stream and its own.
pub fn numbered(stream: u32, number: u64) -> [u8; ONE] {
    let mut packet = [0; ONE];
    packet[..4].copy_from_slice(&[0x47, 0x1F, 0xFF, 0x10]);
    packet[4..8].copy_from_slice(&stream.to_be_bytes());
    packet[8..16].copy_from_slice(&number.to_be_bytes());
    packet
}

fn number_of(datagram: &[u8]) -> Option<(u32, u64)> {
    let stream = u32::from_be_bytes(datagram.get(4..8)?.try_into().ok()?);
    let number = u64::from_be_bytes(datagram.get(8..16)?.try_into().ok()?);
    (datagram == numbered(stream, number)).then_some((stream, number))
}

/// One sender for all streams.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    thread: JoinHandle<Vec<u64>>,
}

impl Traffic {
    /// Stream `n` goes to the `n`th of these ports of loopback, so many datagrams a second each.
    pub fn start(ports: &[u16], per_second: u32) -> Self {
        let targets = Arc::new(Mutex::new(ports.iter().map(|port| v4(*port)).collect::<Vec<_>>()));
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, shared) = (Arc::clone(&stop), Arc::clone(&targets));
        let thread = std::thread::spawn(move || send(&flag, &shared, Duration::from_secs(1) / per_second));
        Self { stop, targets, thread }
    }

    /// Send a stream to another port from now on.
    pub fn redirect(&self, stream: usize, port: u16) {
        self.targets.lock().expect("the sender does not panic")[stream] = v4(port);
    }

    /// Stop; how many datagrams of each stream were sent.
    pub fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender does not panic")
    }
}

fn send(stop: &AtomicBool, targets: &Mutex<Vec<SocketAddr>>, interval: Duration) -> Vec<u64> {
    let socket = sending_socket(v4(1));
    let streams = targets.lock().expect("nobody panics with this lock").len();
    let mut sent = vec![0; streams];
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // Spread over the interval, a few at a time: no burst that a small buffer can't hold.
        for first in (0..streams).step_by(8) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += interval * 8.min(streams as u32) / streams as u32;
            let to = targets.lock().expect("nobody panics with this lock").clone();
            for stream in first..(first + 8).min(streams) {
                // Refused where nobody listens at the moment: that is what some tests are about.
                let _ = socket.send_to(&numbered(stream as u32, sent[stream]), to[stream]);
                sent[stream] += 1;
            }
        }
    }
    sent
}

/// What has come on one socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of the first datagram.
    pub first: Option<u64>,
    /// The greatest number.
    pub last: Option<u64>,
    /// Datagrams.
    pub received: u64,
    /// Numbers that were jumped over.
    pub missing: u64,
    /// Numbers that did not grow.
    pub repeated: u64,
    /// Datagrams of another stream than the first, or not of a test at all.
    pub foreign: u64,
    stream: Option<u32>,
    /// The port it came from, and how often that changed.
    pub from: u16,
    /// How often the sender's port changed.
    pub moves: u64,
}

impl Tally {
    fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some((stream, number)) = number_of(datagram).filter(|(s, _)| self.stream.is_none_or(|own| own == *s))
        else {
            self.foreign += 1;
            return;
        };
        self.stream = Some(stream);
        self.received += 1;
        self.first.get_or_insert(number);
        match self.last {
            Some(last) if number <= last => self.repeated += 1,
            Some(last) => self.missing += number - last - 1,
            None => {}
        }
        self.last = self.last.max(Some(number));
        self.moves += u64::from(self.from != 0 && self.from != from.port());
        self.from = from.port();
    }

    /// Everything from the first datagram on came once and in order.
    pub fn is_unbroken(&self) -> bool {
        self.first.is_some() && (self.missing, self.repeated, self.foreign) == (0, 0, 0)
    }
}

/// One receiver for many sockets.
pub struct Judge {
    stop: Arc<AtomicBool>,
    ports: Vec<u16>,
    tallies: Arc<Mutex<Vec<Tally>>>,
    thread: Option<JoinHandle<()>>,
}

impl Judge {
    /// On so many sockets of loopback, at ports of the system's choice.
    pub fn start(sockets: usize) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets: Vec<_> = (0..sockets).map(|_| receiving_socket(any)).collect();
        let ports = sockets.iter().map(|socket| socket.local_addr().expect("it is bound").port()).collect();
        let tallies = Arc::new(Mutex::new(vec![Tally::default(); sockets.len()]));
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, shared) = (Arc::clone(&stop), Arc::clone(&tallies));
        let thread = std::thread::spawn(move || receive(&sockets, &flag, &shared));
        Self { stop, ports, tallies, thread: Some(thread) }
    }

    /// The port of a socket.
    pub fn port(&self, socket: usize) -> u16 {
        self.ports[socket]
    }

    /// What has come on a socket.
    pub fn tally(&self, socket: usize) -> Tally {
        self.tallies.lock().expect("the receiver does not panic")[socket]
    }

    /// Begin to count anew.
    pub fn forget(&self, socket: usize) {
        self.tallies.lock().expect("the receiver does not panic")[socket] = Tally::default();
    }

    /// Wait until something has come on a socket.
    #[track_caller]
    pub fn wait_for_media(&self, socket: usize) -> Tally {
        wait_for("media comes", || Some(self.tally(socket)).filter(|tally| tally.received > 0))
    }

    /// Wait until so many more datagrams have come on a socket.
    #[track_caller]
    pub fn wait_for_more(&self, socket: usize, datagrams: u64) -> Tally {
        let before = self.tally(socket).received;
        wait_for("more media comes", || Some(self.tally(socket)).filter(|tally| tally.received >= before + datagrams))
    }

    /// Of `sent` datagrams, the first to the last came on this socket, once and in order.
    #[track_caller]
    pub fn assert_all(&self, socket: usize, sent: u64) {
        let tally = self.assert_unbroken(socket, sent);
        assert_eq!(tally.first, Some(0), "socket {socket}: {tally:?}");
    }

    /// Of `sent` datagrams, all from the first that came to the last came on this socket, once and in order.
    #[track_caller]
    pub fn assert_unbroken(&self, socket: usize, sent: u64) -> Tally {
        let tally = wait_for(&format!("all {sent} come on socket {socket}"), || {
            Some(self.tally(socket)).filter(|tally| tally.last.is_some_and(|last| last + 1 >= sent))
        });
        assert!(tally.is_unbroken(), "socket {socket}: {tally:?}");
        tally
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            panic!("the receiver panicked");
        }
    }
}

fn receive(sockets: &[UdpSocket], stop: &AtomicBool, tallies: &Mutex<Vec<Tally>>) {
    let mut buffer = [0; 2048];
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket option"));
    let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    while !stop.load(Ordering::Relaxed) {
        poll(&mut ready, PollTimeout::from(50_u8)).expect("poll");
        let mut tallies = tallies.lock().expect("nobody panics with this lock");
        for (index, socket) in sockets.iter().enumerate() {
            if ready[index].any().unwrap_or(false) {
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    tallies[index].take(&buffer[..length], from);
                }
            }
        }
        drop(tallies);
        // Many at a time: looking at hundreds of sockets costs more than reading from one.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// xorshift64*: seeded, the same everywhere.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    /// One of 0, 1, … `below` - 1.
    pub fn below(&mut self, below: usize) -> usize {
        (self.next() % below as u64) as usize
    }
}
