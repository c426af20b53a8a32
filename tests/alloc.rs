//! The packet path allocates nothing: real flows on a real shard thread, more than a million packets, and a counting
//! allocator.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]
#![allow(unsafe_code, reason = "a global allocator is made of unsafe functions")]

mod support;

use mediaconnect::time::Instant;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

use mediaconnect::config::plan::{OutputProtocol, RtpHeader, SourceProtocol};
use mediaconnect::config::value::{Bitrate, Dscp, Gather};
use mediaconnect::flow::egress::{LegConfig, OutputConfig};
use mediaconnect::flow::source::{Receivers, SourceConfig};
use mediaconnect::flow::stats::{OutputStats, SourceStats};
use mediaconnect::flow::tap::Tap;
use mediaconnect::flow::{Flow, FlowCommand, FlowSeed, Orders, ShardContext, orders};
use mediaconnect::io::open::{ReceiveSpec, SendSpec, open_receiver, open_sender};
use mediaconnect::proto::fec2022_1::matrix::Matrix;
use mediaconnect::proto::seq::{RtpTime, Seq};
use nix::sys::socket::{setsockopt, sockopt};
use support::media::{Stream, receiving_socket, rtp_packet, v4};

/// Packets of each flow while allocations are counted.
const PACKETS: u64 = 520_000;
/// What waits to be smoothed may be more than it ever was before, when the machine was busy: memory is taken for it once,
/// and kept. Whatever allocates for packets does so in every round.
const ROUNDS: usize = 4;
/// Packets of each flow before.
const WARM_UP: u64 = 30_000;
/// Bytes of transport stream in a packet.
const PAYLOAD: usize = 2 * 188;
/// Datagrams that the kernel makes of one send.
const TRAIN: usize = 32;
/// Most packets on their way to a flow: none is lost for want of buffer.
const WINDOW: u64 = 512;

/// The reorder window while memory is taken, and after that.
const LONG: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(20);

/// The system's allocator, which counts what the data-plane thread asks of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static COUNTING: AtomicBool = AtomicBool::new(false);
/// While it does not count.
static BEFORE: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// The first one ends the process, and says where it is.
static TRACE: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

fn note(bytes: usize) {
    // A thread that is ending has no locals any more, and is not the one that is watched.
    if !IS_SHARD.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    if !COUNTING.load(Ordering::Relaxed) {
        BEFORE.fetch_add(1, Ordering::Relaxed);
    } else {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
        if TRACE.load(Ordering::Relaxed) {
            COUNTING.store(false, Ordering::Relaxed);
            eprintln!("{bytes} bytes: {}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// A data-plane thread that runs these flows until their commands end.
fn shard(seeds: Vec<FlowSeed>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        IS_SHARD.set(true);
        let context = Rc::new(ShardContext::new().unwrap());
        let run = async {
            let start = |seed| tokio::task::spawn_local(Flow::new(seed, context.clone()).run());
            let flows: Vec<_> = seeds.into_iter().map(start).collect();
            for flow in flows {
                flow.await.unwrap();
            }
        };
        context.run(run).unwrap();
    })
}

/// One flow from the outside.
struct Outside {
    commands: Orders,
    input: SocketAddr,
    source: Arc<SourceStats>,
    outputs: Vec<(&'static str, Arc<OutputStats>)>,
}

fn source_config(rtp: bool, reorder_window: Duration) -> SourceConfig {
    SourceConfig {
        protocol: if rtp { SourceProtocol::Rtp { reorder_window } } else { SourceProtocol::Udp },
        allow: Some(vec!["127.0.0.1/32".parse().unwrap(), "127.0.0.2/32".parse().unwrap()]),
        max_bitrate: Some(Bitrate::from_bps(100_000_000_000)),
    }
}

fn output_config(protocol: OutputProtocol, legs: &[SocketAddr]) -> OutputConfig {
    let leg = |n: usize| legs.get(n).map(|address| LegConfig { address: *address, interface: None });
    OutputConfig {
        legs: [leg(0), leg(1)],
        ttl: None,
        dscp: Dscp::new(0).unwrap(),
        protocol,
        source_port: None,
        smoothing: None,
    }
}

/// A flow with a source of RTP or UDP, and these outputs.
fn flow(rtp: bool, gather: Gather, outputs: &[(&'static str, OutputConfig)]) -> (FlowSeed, Outside) {
    let (commands, inbox) = orders();
    let spec = ReceiveSpec {
        bind: v4(0),
        dual_stack: false,
        interface: None,
        multicast_sources: Vec::new(),
        receive_buffer: 4 << 20,
        timestamps: true,
        gro: gather != Gather::For(Duration::ZERO),
    };
    let receiver = open_receiver(&spec).unwrap();
    let input = receiver.local_addr().unwrap();
    let config = source_config(rtp, LONG);
    let source = Arc::new(SourceStats::default());
    let name = "main".to_owned();
    commands.send(FlowCommand::OpenSource {
        name,
        config,
        receivers: Receivers { media: receiver, fec: None },
        stats: source.clone(),
    });
    let mut of_outputs = Vec::new();
    for (ssrc, (name, config)) in outputs.iter().enumerate() {
        let config = config.clone();
        let key = config.senders().next().unwrap();
        if ssrc == 0 {
            let spec = SendSpec { family: key.family, source_port: None, send_buffer: 4 << 20 };
            commands.send(FlowCommand::AddSender(key, open_sender(&spec).unwrap()));
        }
        let stats = Arc::new(OutputStats::default());
        of_outputs.push((*name, stats.clone()));
        commands.send(FlowCommand::OpenOutput {
            name: (*name).to_owned(),
            config,
            encryption: None,
            ssrc: ssrc as u32,
            stats,
        });
    }
    (
        FlowSeed {
            resumes: false,
            analyse: true,
            name: "main".parse().unwrap(),
            gather,
            stats: Arc::default(),
            commands: inbox,
            news: unbounded_channel().0,
        },
        Outside { commands, input, source, outputs: of_outputs },
    )
}

/// A copy of what the flow sends goes here.
fn tapped(flow: &Outside) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let tap = Tap::new(ours, Arc::default()).unwrap();
    flow.commands.send(FlowCommand::Tap(Some(Box::new(tap))));
    theirs
}

impl Outside {
    /// Datagrams that the flow has seen from its sender.
    fn seen(&self) -> u64 {
        let SourceStats { packets, duplicate, late, kernel_dropped, .. } = &*self.source;
        [packets, duplicate, late, kernel_dropped].into_iter().map(|figure| figure.value()).sum()
    }

    /// Of those, how many do not wait in smoothing.
    fn done(&self) -> u64 {
        let smoothed = self.outputs.iter().find(|(name, _)| *name == "smoothed");
        // Before the source's figures, which are behind them at no time.
        let left = smoothed.map(|(_, stats)| stats.packets.value() + stats.dropped.value());
        let seen = self.seen();
        left.map_or(seen, |left| seen.saturating_sub(self.source.packets.value().saturating_sub(left)))
    }
}

/// A sender that lets the kernel take its trains apart, and never has more than a window under way.
struct Sender {
    socket: UdpSocket,
    stranger: UdpSocket,
    payload: Vec<u8>,
    rtp: bool,
    seq: u64,
    sent: u64,
    /// Numbers that were left out on purpose.
    skipped: u64,
}

impl Sender {
    fn new(rtp: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let length = PAYLOAD + if rtp { 12 } else { 0 };
        setsockopt(&socket, sockopt::UdpGsoSegment, &(length as i32)).unwrap();
        let stranger = UdpSocket::bind("127.0.0.66:0").unwrap();
        Self {
            socket,
            stranger,
            payload: Stream::at(1_000_000).datagrams(1)[..PAYLOAD].to_vec(),
            rtp,
            seq: 0,
            sent: 0,
            skipped: 0,
        }
    }

    /// The next train: of RTP, now and then one is missing, and now and then one comes late.
    fn train(&mut self) -> Vec<u8> {
        let mut order: Vec<_> = (self.seq..self.seq + TRAIN as u64).collect();
        self.seq += TRAIN as u64;
        if self.rtp {
            order.iter_mut().for_each(|seq| *seq += *seq / 9_973 + self.skipped);
            if (self.seq / TRAIN as u64).is_multiple_of(3) {
                order.swap(5, 9);
                order.swap(20, 21);
            }
        }
        self.sent += TRAIN as u64;
        let packet = |seq: u64| match self.rtp {
            true => rtp_packet(Seq(seq as u16), RtpTime(seq as u32 * 100), 7, &self.payload),
            false => self.payload.clone(),
        };
        order.into_iter().flat_map(packet).collect()
    }

    /// Send as much as ever is under way behind a gap, which is held back: what it takes is taken now.
    fn fill(&mut self, to: &Outside) {
        self.skipped += 1;
        self.send(to, WINDOW + 2 * TRAIN as u64);
    }

    fn send(&mut self, to: &Outside, packets: u64) {
        let until = self.sent + packets;
        let mut progress = (Instant::now(), 0);
        while self.sent < until {
            let seen = to.done();
            if self.sent > seen + WINDOW {
                if progress.1 != seen {
                    progress = (Instant::now(), seen);
                }
                assert!(progress.0.elapsed() < support::PATIENCE, "{} sent, {seen} seen", self.sent);
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let train = self.train();
            self.socket.send_to(&train, to.input).unwrap();
            if self.seq.is_multiple_of(4096) {
                // What is denied, and what is invalid, is on the packet path too.
                self.stranger.send_to(&train[..PAYLOAD], to.input).unwrap();
                self.socket.send_to(b"not media", to.input).unwrap();
            }
        }
    }
}

#[test]
fn a_million_packets_allocate_nothing() {
    TRACE.store(std::env::var_os("MEDIACONNECT_TRACE").is_some(), Ordering::Relaxed);
    // They are there and never read: the kernel drops what does not fit.
    let sinks: Vec<_> = (0..4).map(|_| receiving_socket(v4(0))).collect();
    let at = |n: usize| sinks[n].local_addr().unwrap();
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let udp = |datagram_packets| OutputProtocol::Udp { datagram_packets };
    let rtp = OutputProtocol::Rtp(RtpHeader::Regenerate { payload_type: 33, ssrc: None });
    let fec = OutputProtocol::RtpFec {
        header: RtpHeader::Regenerate { payload_type: 33, ssrc: None },
        matrix: Matrix::new(5, 4, true).unwrap(),
    };
    let outputs = [
        ("udp", output_config(udp(None), &[at(0)])),
        ("repacketised", output_config(udp(Some(7)), &[at(1)])),
        ("rtp", output_config(rtp, &[at(2)])),
        ("dead", output_config(udp(None), &[dead])),
        ("passthrough", output_config(OutputProtocol::Rtp(RtpHeader::Passthrough), &[at(3)])),
        ("fec on two legs", output_config(fec, &[at(0), at(1)])),
        ("smoothed", OutputConfig { smoothing: Some(Duration::from_millis(1)), ..output_config(rtp, &[at(2)]) }),
    ];
    let (rtp_seed, from_rtp) = flow(true, Gather::For(Duration::from_millis(1)), &outputs);
    let (udp_seed, from_udp) = flow(false, Gather::For(Duration::ZERO), &outputs[..4]);
    // Somebody looks on at both; one of them does not read.
    let (reader, _idler) = (tapped(&from_rtp), tapped(&from_udp));
    let reading = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()).unwrap());
    let shard = shard(vec![rtp_seed, udp_seed]);
    let flows = [(from_rtp, Sender::new(true)), (from_udp, Sender::new(false))];

    let began = Instant::now();
    let flows = flows.map(|(flow, mut sender)| {
        std::thread::spawn(move || {
            sender.send(&flow, WARM_UP / 2);
            sender.fill(&flow);
            flow.commands.send(FlowCommand::RetuneSource("main".to_owned(), source_config(sender.rtp, SHORT)));
            sender.send(&flow, WARM_UP / 2);
            (flow, sender)
        })
    });
    let mut flows = flows.map(|thread| thread.join().unwrap());
    let (mut allocations, mut bytes) = (0, 0);
    for _ in 0..ROUNDS {
        COUNTING.store(true, Ordering::Relaxed);
        let threads = flows.map(|(flow, mut sender)| {
            std::thread::spawn(move || {
                sender.send(&flow, PACKETS);
                (flow, sender)
            })
        });
        flows = threads.map(|thread| thread.join().unwrap());
        COUNTING.store(false, Ordering::Relaxed);
        (allocations, bytes) = (ALLOCATIONS.swap(0, Ordering::Relaxed), BYTES.swap(0, Ordering::Relaxed));
        println!("{allocations} allocations of {bytes} bytes");
        if allocations == 0 {
            break;
        }
    }

    let mut packets = 0;
    for (flow, sender) in flows {
        packets += flow.seen();
        let SourceStats { lost, reordered, denied, kernel_dropped, .. } = &*flow.source;
        let figures = [lost, reordered, denied, kernel_dropped].map(|figure| figure.value());
        println!(
            "{} sent, {} seen, lost, reordered, denied, dropped by the kernel: {figures:?}",
            sender.sent,
            flow.seen()
        );
        for (name, stats) in &flow.outputs {
            println!("  {name}: {} sent, faults {:?}", stats.packets.value(), stats.faults().collect::<Vec<_>>());
            assert!(stats.packets.value() > 0, "{name}");
        }
        assert!(denied.value() > 0 && (!sender.rtp || lost.value() > 0 && reordered.value() > 0));
        for (name, stats) in flow.outputs.iter().filter(|(name, _)| *name == "fec on two legs") {
            assert!(stats.fec_packets.value() > 0 && stats.legs[1].packets.value() > 0, "{name}");
        }
        let dead = &flow.outputs.iter().find(|(name, _)| *name == "dead").unwrap().1;
        assert!(dead.faults().count() > 0, "the dead destination is noticed");
        drop(flow.commands);
    }
    shard.join().unwrap();
    assert!(reading.join().unwrap() > PACKETS, "who looks on has seen it");
    println!("{packets} packets in {:.1?}", began.elapsed());
    assert!(packets > 1_000_000);
    assert!(BEFORE.load(Ordering::Relaxed) > 0, "allocations of that thread are seen");
    assert_eq!(allocations, 0, "of {bytes} bytes; MEDIACONNECT_TRACE=1 shows where the first one is");
}
