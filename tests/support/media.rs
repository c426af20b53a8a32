//! Test media: paced senders, and receivers that judge every byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mediaconnect::proto::mpegts::test_stream::{TestStream, Verdict, Verifier};
use mediaconnect::proto::rtp::header::{Header, MP2T};
use mediaconnect::proto::seq::{RtpTime, Seq};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use super::wait_for;

/// Transport-stream packets of an ordinary datagram.
pub const SEVEN: usize = 7 * 188;
/// Where every test stream over RTP begins: each run wraps.
pub const FIRST_SEQ: Seq = Seq(65_000);

/// How media goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Straight in UDP.
    Udp,
    /// In RTP.
    Rtp,
}

/// A test stream: what sender and receiver agree upon.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    pub seed: u64,
    pub bits_per_second: u64,
}

impl Stream {
    pub const fn at(bits_per_second: u64) -> Self {
        Self { seed: 1, bits_per_second }
    }

    /// The first `datagrams` datagrams of it.
    pub fn datagrams(self, datagrams: usize) -> Vec<u8> {
        let mut bytes = vec![0; datagrams * SEVEN];
        TestStream::new(self.seed, self.bits_per_second).fill(&mut bytes);
        bytes
    }

    /// How long so many datagrams last.
    pub fn length(self, datagrams: usize) -> Duration {
        let bits = (datagrams * SEVEN * 8) as u64;
        Duration::from_nanos(bits * 1_000_000_000 / self.bits_per_second)
    }

    fn verifier(self) -> Verifier {
        Verifier::new(self.seed, self.bits_per_second)
    }
}

/// An RTP packet with a fixed header.
pub fn rtp_packet(seq: Seq, timestamp: RtpTime, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    [&Header::new(MP2T, seq, timestamp, ssrc).write()[..], payload].concat()
}

/// A loopback address of IPv4.
pub const fn v4(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The loopback address of IPv6.
pub const fn v6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)
}

/// A socket to send from, of the destination's family.
pub fn sending_socket(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).expect("a socket")
}

/// A socket that receives on an address, with a buffer for a busy machine.
pub fn receiving_socket(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(IpProtocol::UDP)).expect("a socket");
    socket.set_recv_buffer_size(4 << 20).expect("a receive buffer, as large as the system grants");
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("bind {address}: {error}"));
    socket.into()
}

/// A paced sender of a test stream.
pub struct Feed {
    wire: Wire,
    to: SocketAddr,
    stream: Stream,
    socket: UdpSocket,
    packets: usize,
    ssrc: u32,
    every: Duration,
}

impl Feed {
    /// Of seven packets a datagram.
    pub fn new(wire: Wire, to: SocketAddr, stream: Stream) -> Self {
        Self { wire, to, stream, socket: sending_socket(to), packets: 7, ssrc: 0x1234_5678, every: Duration::ZERO }
    }

    /// All that is due in so long at once: a machine with many senders has fewer threads to wake.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// From this socket.
    pub fn from(self, socket: UdpSocket) -> Self {
        Self { socket, ..self }
    }

    /// With so many packets a datagram.
    pub fn packets(self, packets: usize) -> Self {
        Self { packets, ..self }
    }

    /// Send for so long; how many transport-stream packets were sent.
    pub fn send_for(self, time: Duration) -> u64 {
        self.run(&AtomicBool::new(false), time)
    }

    /// Send until stopped.
    pub fn start(self) -> Sending {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Sending { stop, thread: std::thread::spawn(move || self.run(&flag, Duration::MAX)) }
    }

    fn run(self, stop: &AtomicBool, time: Duration) -> u64 {
        let mut stream = TestStream::new(self.stream.seed, self.stream.bits_per_second);
        let (mut seq, mut payload, start) = (FIRST_SEQ, vec![0; self.packets * 188], Instant::now());
        while stream.due() < time && !stop.load(Ordering::Relaxed) {
            let early = stream.due().saturating_sub(start.elapsed());
            if !early.is_zero() {
                std::thread::sleep(early + self.every);
            }
            let timestamp = RtpTime(0xFFFF_0000).add(stream.due());
            stream.fill(&mut payload);
            // What cannot be sent (no receiver yet, no link) is lost like any other packet: the receiver judges.
            let _ = match self.wire {
                Wire::Udp => self.socket.send_to(&payload, self.to),
                Wire::Rtp => self.socket.send_to(&rtp_packet(seq, timestamp, self.ssrc, &payload), self.to),
            };
            seq = seq.add(1);
        }
        stream.index()
    }
}

/// A sender that runs by itself until it is stopped or dropped.
pub struct Sending {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sending {
    /// How many transport-stream packets were sent.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender does not panic")
    }
}

/// What a receiver got on one socket.
#[derive(Debug, Clone, Default)]
pub struct Received {
    pub verdict: Verdict,
    pub datagrams: u64,
    /// Transport-stream bytes of a datagram, and how many there were.
    pub sizes: BTreeMap<usize, u64>,
    /// Of RTP.
    pub ssrcs: BTreeSet<u32>,
    /// Of RTP.
    pub payload_types: BTreeSet<u8>,
    /// Of RTP: steps in sequence that were not 1.
    pub sequence_breaks: u64,
    /// Datagrams that should have been RTP.
    pub not_rtp: u64,
    last_seq: Option<Seq>,
}

impl Received {
    /// Every packet that was sent came once, in order, with all its bytes.
    #[track_caller]
    pub fn assert_all(&self, sent: u64) {
        assert!(self.verdict.is_perfect(), "{self:?}");
        assert_eq!((self.verdict.first, self.verdict.ok), (Some(0), sent), "{self:?}");
        assert_eq!((self.sequence_breaks, self.not_rtp), (0, 0), "{self:?}");
        assert!(self.ssrcs.len() <= 1, "{self:?}");
    }

    fn take(&mut self, datagram: &[u8], wire: Wire, verifier: &mut Verifier) {
        self.datagrams += 1;
        let payload = match (wire, Header::parse(datagram)) {
            (Wire::Udp, _) => datagram,
            (Wire::Rtp, Ok(header)) => {
                self.ssrcs.insert(header.ssrc);
                self.payload_types.insert(header.payload_type);
                let before = self.last_seq.replace(header.seq);
                self.sequence_breaks += u64::from(before.is_some_and(|before| header.seq.distance(before) != 1));
                &datagram[header.payload()]
            }
            (Wire::Rtp, Err(_)) => {
                self.not_rtp += 1;
                return;
            }
        };
        *self.sizes.entry(payload.len()).or_default() += 1;
        verifier.check(payload);
        self.verdict = *verifier.verdict();
    }
}

/// Receivers of one test stream, on one or many sockets.
pub struct Sink {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Sink {
    /// On an address.
    pub fn bind(wire: Wire, address: SocketAddr, stream: Stream) -> Self {
        Self::on(vec![receiving_socket(address)], wire, stream)
    }

    /// On these sockets.
    pub fn on(sockets: Vec<UdpSocket>, wire: Wire, stream: Stream) -> Self {
        Self::every(Duration::ZERO, sockets, wire, stream)
    }

    /// On these sockets, looking at them only so often: a machine with many receivers has fewer threads to wake.
    pub fn every(time: Duration, sockets: Vec<UdpSocket>, wire: Wire, stream: Stream) -> Self {
        let received = Arc::new(Mutex::new(vec![Received::default(); sockets.len()]));
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, shared) = (Arc::clone(&stop), Arc::clone(&received));
        let thread = std::thread::spawn(move || receive(&sockets, wire, stream, time, &flag, &shared));
        Self { stop, thread: Some(thread), received }
    }

    /// What the only socket has received so far.
    pub fn received(&self) -> Received {
        self.all().swap_remove(0)
    }

    /// What each socket has received so far.
    pub fn all(&self) -> Vec<Received> {
        self.received.lock().expect("the receiver does not panic").clone()
    }

    /// Wait until the last of `sent` packets has come on each socket.
    #[track_caller]
    pub fn wait_for_end(&self, sent: u64) -> Vec<Received> {
        let start = Instant::now();
        loop {
            let all = self.all();
            if all.iter().all(|one| one.verdict.newest.is_some_and(|newest| newest + 1 >= sent)) {
                return all;
            }
            assert!(start.elapsed() < super::PATIENCE, "of {sent} packets only these came: {:#?}", brief(&all));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Wait until every one of `sent` packets has come on each socket, once, in order, with all its bytes.
    #[track_caller]
    pub fn assert_all(&self, sent: u64) {
        assert!(sent > 0, "something was sent");
        for received in self.wait_for_end(sent) {
            received.assert_all(sent);
        }
    }

    /// Wait until something has come on each socket.
    #[track_caller]
    pub fn wait_for_media(&self) {
        wait_for("media comes", || self.all().iter().all(|one| one.verdict.ok > 0).then_some(()));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            panic!("a receiver panicked");
        }
    }
}

/// The first few, for a message.
fn brief(all: &[Received]) -> Vec<&Verdict> {
    all.iter().map(|one| &one.verdict).take(5).collect()
}

fn receive(
    sockets: &[UdpSocket],
    wire: Wire,
    stream: Stream,
    every: Duration,
    stop: &AtomicBool,
    shared: &Mutex<Vec<Received>>,
) {
    let mut verifiers = vec![stream.verifier(); sockets.len()];
    let mut buffer = vec![0; 65_536];
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket option"));
    let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    while !stop.load(Ordering::Relaxed) {
        poll(&mut ready, PollTimeout::from(50_u8)).expect("poll");
        std::thread::sleep(every);
        for (index, socket) in sockets.iter().enumerate() {
            if !ready[index].any().unwrap_or(false) {
                continue;
            }
            while let Ok(length) = socket.recv(&mut buffer) {
                let mut all = shared.lock().expect("nobody panics with this lock");
                all[index].take(&buffer[..length], wire, &mut verifiers[index]);
            }
        }
    }
}

/// The next datagram's TTL or hop limit, and its traffic class (DSCP and ECN), as the receiver sees them.
pub fn receive_marks(socket: &UdpSocket) -> (u8, u8) {
    if socket.local_addr().expect("it is bound").is_ipv4() {
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true).expect("IP_RECVTTL");
        setsockopt(socket, sockopt::IpRecvTos, &true).expect("IP_RECVTOS");
    } else {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true).expect("IPV6_RECVHOPLIMIT");
        setsockopt(socket, sockopt::Ipv6RecvTClass, &true).expect("IPV6_RECVTCLASS");
    }
    socket.set_read_timeout(Some(super::PATIENCE)).expect("a socket option");
    let (mut buffer, mut control) = ([0; 2048], nix::cmsg_space!(i32, i32));
    let (mut hops, mut class) = (None, None);
    // A datagram that was queued before the options were set bears no marks.
    while hops.is_none() || class.is_none() {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())
            .expect("a datagram");
        for mark in message.cmsgs().expect("room for all marks") {
            match mark {
                ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                    hops = u8::try_from(ttl).ok()
                }
                ControlMessageOwned::Ipv4Tos(tos) => class = Some(tos),
                ControlMessageOwned::Ipv6TClass(tclass) => class = u8::try_from(tclass).ok(),
                _ => {}
            }
        }
    }
    (hops.unwrap_or_default(), class.unwrap_or_default())
}
