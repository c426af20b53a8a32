//! The floor: the leanest relay this kernel allows. It checks, counts and reports nothing; a product can only come near.
//!
//! One input goes to all outputs; several inputs go each to the output in its place.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use clap::{Parser, ValueEnum};
use mediaconnect_bench::batch::{Address, Outgoing, ReceiveBatch, SendBatch};
use mediaconnect_bench::clock::{exact_sleep, monotonic_ns, sleep_until};
use mediaconnect_bench::socket::{Ports, bind, coalesce, loopback};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Most messages of one system call.
const BATCH: usize = 64;
/// Most datagrams of a train: as many of 1316 bytes as stay below 64 KiB.
const TRAIN: usize = 49;
const RECEIVE_BUFFER: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// recv, and one sendto for each output
    Copy,
    /// recvmmsg, and one sendmmsg for everything
    Mmsg,
    /// recvmmsg with UDP_GRO, and one UDP_SEGMENT message for each output
    Gso,
}

/// Relays UDP with as little work as can be.
#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    mode: Mode,
    /// Ports of loopback to receive on: 5001, or 5001+100
    #[arg(long)]
    from: Ports,
    /// Ports of loopback to send to
    #[arg(long)]
    to: Ports,
    /// Read only so often, all that has come (not with copy)
    #[arg(long, default_value_t = 0)]
    hold_us: u64,
}

struct Flow {
    receiver: UdpSocket,
    outputs: Vec<Output>,
}

struct Output {
    address: Address,
    /// Connected to that address.
    sender: UdpSocket,
}

impl Flow {
    fn new(mode: Mode, from: u16, to: &[u16]) -> Self {
        let receiver = bind(from, RECEIVE_BUFFER);
        if mode == Mode::Gso {
            coalesce(&receiver);
        }
        let output = |&port: &u16| {
            let sender = bind(0, 0);
            sender.connect(loopback(port)).unwrap_or_else(|error| panic!("port {port}: {error}"));
            Output { address: loopback(port).into(), sender }
        };
        Self { receiver, outputs: to.iter().map(output).collect() }
    }
}

struct Relay {
    mode: Mode,
    received: ReceiveBatch,
    batch: SendBatch,
    /// Not connected.
    sender: UdpSocket,
}

/// Messages of the same segment length that go out as one.
struct Train {
    first: usize,
    end: usize,
    segment: usize,
    datagrams: usize,
    /// Its last datagram is shorter, so nothing may follow.
    closed: bool,
}

impl Relay {
    /// Takes what waits and sends it on; with `wait` at least one datagram. Whether more may wait.
    fn turn(&mut self, flow: &Flow, wait: bool) -> bool {
        if self.mode == Mode::Copy {
            return self.copy(flow, wait);
        }
        let messages = self.received.receive(&flow.receiver, wait);
        if messages > 0 && self.mode == Mode::Mmsg {
            self.forward_each(flow);
        } else if messages > 0 {
            self.forward_trains(flow);
        }
        messages == self.received.slots()
    }

    fn copy(&self, flow: &Flow, wait: bool) -> bool {
        let mut datagram = [0; 2048];
        let flags = if wait { nix::sys::socket::MsgFlags::empty() } else { nix::sys::socket::MsgFlags::MSG_DONTWAIT };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&flow.receiver);
        let Ok(length) = nix::sys::socket::recv(fd, &mut datagram, flags) else { return false };
        for output in &flow.outputs {
            // A datagram that is refused is lost, as in all modes.
            let _ = self.sender.send_to(&datagram[..length], output.address.socket());
        }
        true
    }

    fn forward_each(&mut self, flow: &Flow) {
        let pieces: Vec<_> = self.received.messages().map(|m| IoSlice::new(m.bytes)).collect();
        let messages = flow.outputs.iter().flat_map(|output| {
            let to = Some(&output.address);
            pieces.iter().map(move |piece| Outgoing { pieces: std::slice::from_ref(piece), to, segment: None })
        });
        self.batch.send(&self.sender, messages);
    }

    fn forward_trains(&mut self, flow: &Flow) {
        let mut pieces = Vec::with_capacity(BATCH);
        let mut trains: Vec<Train> = Vec::with_capacity(BATCH);
        for (number, message) in self.received.messages().enumerate() {
            pieces.push(IoSlice::new(message.bytes));
            let datagrams = message.bytes.len().div_ceil(message.segment);
            let closed = message.bytes.len() % message.segment != 0;
            match trains.last_mut() {
                Some(t) if !t.closed && t.segment == message.segment && t.datagrams + datagrams <= TRAIN => {
                    t.end += 1;
                    t.datagrams += datagrams;
                    t.closed = closed;
                }
                _ => trains.push(Train { first: number, end: number + 1, segment: message.segment, datagrams, closed }),
            }
        }
        for output in &flow.outputs {
            if let ([piece], [Train { datagrams: 1, .. }]) = (&pieces[..], &trains[..]) {
                let _ = output.sender.send(piece);
                continue;
            }
            let messages = trains.iter().map(|train| Outgoing {
                pieces: &pieces[train.first..train.end],
                to: None,
                segment: (train.datagrams > 1).then_some(train.segment as u16),
            });
            self.batch.send(&output.sender, messages);
        }
    }
}

fn main() {
    let Arguments { mode, from, to, hold_us } = Arguments::parse();
    exact_sleep();
    let flows: Vec<_> = match &from.0[..] {
        [one] => vec![Flow::new(mode, *one, &to.0)],
        many => many.iter().zip(&to.0).map(|(&from, to)| Flow::new(mode, from, std::slice::from_ref(to))).collect(),
    };
    let slot = if mode == Mode::Gso { 65_536 } else { 2048 };
    let mut relay =
        Relay { mode, received: ReceiveBatch::new(BATCH, slot), batch: SendBatch::default(), sender: bind(0, 0) };
    let hold = hold_us * 1000;
    match &flows[..] {
        [flow] => relay_one(&mut relay, flow, hold),
        flows => relay_many(&mut relay, flows, hold).unwrap_or_else(|error| panic!("epoll: {error}")),
    }
}

fn relay_one(relay: &mut Relay, flow: &Flow, hold: u64) {
    let mut next = monotonic_ns();
    loop {
        if hold == 0 {
            relay.turn(flow, true);
            continue;
        }
        next = (next + hold).max(monotonic_ns());
        sleep_until(next);
        while relay.turn(flow, false) {}
    }
}

fn relay_many(relay: &mut Relay, flows: &[Flow], hold: u64) -> nix::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    for (flow, number) in flows.iter().zip(0..) {
        epoll.add(flow.receiver.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, number))?;
    }
    let mut events = [EpollEvent::empty(); 128];
    let timeout = if hold > 0 { EpollTimeout::ZERO } else { EpollTimeout::NONE };
    let mut next = monotonic_ns();
    loop {
        if hold > 0 {
            next = (next + hold).max(monotonic_ns());
            sleep_until(next);
        }
        let ready = epoll.wait(&mut events, timeout)?;
        for event in &events[..ready] {
            relay.turn(&flows[event.data() as usize], false);
        }
    }
}
