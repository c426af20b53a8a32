use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::*;
use crate::config::plan::{OutputProtocol, RtpHeader};
use crate::config::value::Dscp;
use crate::io::open::{SendSpec, open_sender};
use crate::proto::fec2022_1::decode::Decoder;
use crate::proto::fec2022_1::header::FecStream;
use crate::proto::fec2022_1::matrix::Matrix;
use crate::proto::rtp::header::Header;
use crate::proto::rtp::receive::Released;
use crate::proto::seq::Seq;

const UDP: OutputProtocol = OutputProtocol::Udp { datagram_packets: None };
const REGENERATE: RtpHeader = RtpHeader::Regenerate { payload_type: 33, ssrc: None };
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const MS: Duration = Duration::from_millis(1);
/// Between the packets of the source.
const INTERVAL: Duration = Duration::from_millis(10);

/// An RTP packet of the source; all follows from its number.
struct Packet {
    datagram: Vec<u8>,
    start: usize,
    timestamp: RtpTime,
}

impl Packet {
    fn new(number: u64, extended: bool) -> Self {
        let timestamp = RtpTime(number as u32 * RtpTime::ticks(INTERVAL));
        let mut datagram = Header::new(33, Seq(number as u16), timestamp, 0xCAFE).write().to_vec();
        if extended {
            // A contributing source, and an extension of a word.
            datagram[0] |= 0x11;
            datagram.extend([1, 2, 3, 4, 0xAB, 0xCD, 0, 1, number as u8, 6, 7, 8]);
        }
        let start = datagram.len();
        for n in 0..1 + number % 3 {
            let mut packet = [number.wrapping_mul(31) as u8 ^ n as u8; 188];
            packet[..4].copy_from_slice(&[0x47, 0, 1, 0x10]);
            packet[4..12].copy_from_slice(&number.to_be_bytes());
            datagram.extend(packet);
        }
        Self { datagram, start, timestamp }
    }

    fn media(&self, arrival: Instant) -> MediaPacket<'_> {
        let payload = &self.datagram[self.start..];
        let Self { datagram, timestamp, .. } = self;
        MediaPacket { payload, datagram, arrival, timestamp: *timestamp, discontinuity: false }
    }
}

/// Where an output sends to: nothing is lost here, because the kernel queues a datagram within the call that sends it.
struct Sink(UdpSocket);

impl Sink {
    fn bind(ip: IpAddr, port: u16) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((ip, port))?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    fn new() -> Self {
        Self::bind(V4, 0).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// All that has come since it was asked last.
    fn take(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.0.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())).collect()
    }
}

/// A sink for media, and those for FEC on its port + 2 and + 4.
fn sinks_with_fec() -> (Sink, [Sink; 2]) {
    let free = || {
        let media = Sink::new();
        let port = media.address().port();
        let [column, row] = [2, 4].map(|more| port.checked_add(more).and_then(|port| Sink::bind(V4, port).ok()));
        Some((media, [column?, row?]))
    };
    (0..100).find_map(|_| free()).expect("three free ports")
}

/// Nobody listens there.
fn dead() -> SocketAddr {
    Sink::new().address()
}

fn config(protocol: OutputProtocol, legs: &[SocketAddr]) -> OutputConfig {
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

fn smoothed(address: SocketAddr, ms: u64) -> OutputConfig {
    OutputConfig { smoothing: (ms > 0).then_some(MS * ms as u32), ..config(UDP, &[address]) }
}

/// Outputs, and a source with a clock of its own.
struct Bench {
    egress: Egress,
    batch: SendBatch,
    now: Instant,
    /// The next packet's number.
    next: u64,
}

impl Bench {
    fn new() -> Self {
        crate::flow::stats::start_clock();
        Self { egress: Egress::default(), batch: SendBatch::new(), now: Instant::now(), next: 0 }
    }

    fn open(&mut self, name: &str, config: &OutputConfig) -> Arc<OutputStats> {
        for key in config.senders() {
            let spec = SendSpec { family: key.family, source_port: None, send_buffer: 4 << 20 };
            self.egress.add_sender(key, open_sender(&spec).unwrap());
        }
        let stats = Arc::new(OutputStats::default());
        self.egress.open(name.to_owned(), config, Variant::Clear, 0xFFFE_0000, stats.clone());
        stats
    }

    /// `count` packets of the source come at once.
    fn deliver(&mut self, count: u64) -> Vec<Packet> {
        self.deliver_packets((0..count).map(|n| Packet::new(self.next + n, false)).collect())
    }

    fn deliver_packets(&mut self, packets: Vec<Packet>) -> Vec<Packet> {
        self.next += packets.len() as u64;
        let media: Vec<_> = packets.iter().map(|packet| packet.media(self.now)).collect();
        self.egress.deliver(&media, &mut self.batch, self.now);
        packets
    }

    /// Time passes; all that is due on the way is sent. `at` hears when.
    fn run(&mut self, time: Duration, mut at: impl FnMut(Instant)) {
        let until = self.now + time;
        while let Some(due) = self.egress.due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.egress.deliver(&[], &mut self.batch, self.now);
            at(self.now);
        }
        self.now = until;
    }
}

/// The number of a transport-stream datagram's packet.
fn number(datagram: &[u8]) -> u64 {
    u64::from_be_bytes(datagram[4..12].try_into().unwrap())
}

fn numbers(sink: &Sink) -> Vec<u64> {
    sink.take().iter().map(|datagram| number(datagram)).collect()
}

fn assert_same_on_both_legs(protocol: OutputProtocol, ips: [IpAddr; 2]) {
    let (mut bench, sinks) = (Bench::new(), ips.map(|ip| Sink::bind(ip, 0).unwrap()));
    let other = Sink::new();
    bench.open("other", &config(protocol, &[other.address()]));
    let stats = bench.open("out", &config(protocol, &[sinks[0].address(), sinks[1].address()]));
    let (mut sent, mut payload) = (0, 0);
    for count in [1, 40, 7, 1, 1, 23] {
        let packets = bench.deliver(count);
        let [first, second] = [sinks[0].take(), sinks[1].take()];
        assert_eq!(first, second);
        assert_eq!(first, other.take(), "the same SSRC was asked for");
        for (n, (packet, datagram)) in packets.iter().zip(&first).enumerate() {
            let header = Header::parse(datagram).unwrap();
            assert_eq!(datagram[header.payload()], packet.datagram[packet.start..]);
            if protocol.header() == Some(REGENERATE) {
                let before = Header::parse(&first[0]).unwrap();
                assert_eq!(header.seq.0.wrapping_sub(before.seq.0) as usize, n);
                assert_eq!(header.timestamp.distance(before.timestamp), n as i32 * 900);
            } else {
                assert_eq!(*datagram, packet.datagram);
            }
        }
        assert_eq!(first.len() as u64, count);
        sent += count;
        payload += packets.iter().map(|p| p.datagram.len() - p.start).sum::<usize>() as u64;
        assert_eq!((stats.packets.value(), stats.bytes.value()), (sent, payload), "they count once");
        assert_eq!([0, 1].map(|leg| stats.legs[leg].packets.value()), [sent; 2]);
    }
    assert_eq!((stats.dropped.value(), stats.faults().count()), (0, 0));
}

#[test]
fn both_legs_carry_the_same_packets() {
    assert_same_on_both_legs(OutputProtocol::Rtp(REGENERATE), [V4, V4]);
    assert_same_on_both_legs(OutputProtocol::Rtp(RtpHeader::Passthrough), [V4, V4]);
}

#[test]
fn both_legs_carry_the_same_packets_over_ipv4_and_ipv6() {
    assert_same_on_both_legs(OutputProtocol::Rtp(REGENERATE), [V6, V4]);
}

#[test]
fn a_leg_that_comes_or_goes_leaves_the_stream_of_the_other_as_it_is() {
    let (mut bench, sinks) = (Bench::new(), [Sink::new(), Sink::bind(V6, 0).unwrap()]);
    let both = config(OutputProtocol::Rtp(REGENERATE), &[sinks[0].address(), sinks[1].address()]);
    let second = OutputConfig { legs: [None, both.legs[1]], ..both.clone() };
    let first = OutputConfig { legs: [both.legs[0], None], ..both.clone() };
    bench.open("out", &both);
    let stats = bench.open("out", &second);
    let mut seen: [Vec<u16>; 2] = Default::default();
    for config in [&second, &both, &first, &both, &second] {
        bench.egress.retune("out", config);
        bench.deliver(5);
        for (seen, sink) in seen.iter_mut().zip(&sinks) {
            seen.extend(sink.take().iter().map(|datagram| Header::parse(datagram).unwrap().seq.0));
        }
    }
    let begin = seen[1][0];
    let expected = |deliveries: &[u16]| -> Vec<u16> {
        deliveries.iter().flat_map(|d| (0..5).map(move |n| begin.wrapping_add(d * 5 + n))).collect()
    };
    assert_eq!(seen, [expected(&[1, 2, 3]), expected(&[0, 1, 3, 4])]);
    assert_eq!(stats.packets.value(), 25);
    assert_eq!([0, 1].map(|leg| stats.legs[leg].packets.value()), [15, 20]);
}

#[test]
fn an_output_has_a_fault_when_all_of_its_legs_have() {
    let (mut bench, sink) = (Bench::new(), Sink::new());
    let stats = bench.open("out", &config(OutputProtocol::Rtp(REGENERATE), &[sink.address(), dead()]));
    (0..10).for_each(|_| drop(bench.deliver(1)));
    assert_eq!(sink.take().len(), 10, "the other leg goes on");
    assert!(stats.legs[1].faults.value() > 0 && stats.legs[1].last_fault.value().is_some());
    assert_eq!(stats.faults().map(|(_, n)| n).sum::<u64>(), stats.legs[1].faults.value());
    assert_eq!((stats.legs[0].faults.value(), stats.last_fault.value()), (0, None));
    assert_eq!(stats.packets.value(), 10);

    drop(sink);
    bench.run(MS, drop);
    (0..10).for_each(|_| drop(bench.deliver(1)));
    assert!(stats.legs[0].faults.value() > 0);
    assert_eq!(stats.last_fault.value(), stats.legs[0].last_fault.value());
}

/// An output with FEC, of which `lost` says which media packets do not arrive: all that was sent comes out of a decoder,
/// and no more than one FEC packet was sent for each media packet.
fn assert_recovers(header: RtpHeader, matrix: Matrix, extended: bool, batches: &[u64], lost: impl Fn(u64) -> bool) {
    let (mut bench, (media, fec)) = (Bench::new(), sinks_with_fec());
    let (second, second_fec) = sinks_with_fec();
    let protocol = OutputProtocol::RtpFec { header, matrix };
    let stats = bench.open("out", &config(protocol, &[media.address(), second.address()]));
    let (mut decoder, mut released) = (Decoder::new(50 * MS), Vec::<Released>::new());
    let (mut sent, mut received, mut fec_packets, mut lost_packets) = (Vec::new(), Vec::new(), 0, 0);
    for count in batches.iter().cycle().take(120) {
        let next = bench.next;
        let packets = (next..next + count).map(|n| Packet::new(n, extended)).collect();
        bench.deliver_packets(packets);
        let datagrams = media.take();
        assert_eq!(datagrams, second.take());
        for (number, datagram) in (next..).zip(datagrams) {
            // What is lost at the very beginning nobody misses.
            if number >= 10 && lost(number) {
                lost_packets += 1;
            } else {
                let header = Header::parse(&datagram).unwrap();
                decoder.handle_packet(bench.now, &datagram, &header, &mut released);
                received.extend(released.drain(..).map(|r| decoder.bytes(&r, &datagram).to_vec()));
            }
            sent.push(datagram);
        }
        let mut of_batch = 0;
        for ((stream, sink), second) in FecStream::ALL.into_iter().zip(&fec).zip(&second_fec) {
            let packets = sink.take();
            assert_eq!(packets, second.take());
            for packet in packets {
                of_batch += 1;
                decoder.handle_fec(bench.now, stream, &packet, &mut released).unwrap();
                received.extend(released.drain(..).map(|r| decoder.bytes(&r, &[]).to_vec()));
            }
        }
        assert!(of_batch <= *count, "{of_batch} FEC packets after {count} media packets");
        fec_packets += of_batch;
        decoder.recycle();
        bench.now += INTERVAL * *count as u32 / 10;
    }
    // What was lost at the very end has no FEC packet yet.
    assert!(received.len() + 2 * usize::from(matrix.columns() * matrix.rows()) >= sent.len());
    assert!(lost_packets > 10 && received == sent[..received.len()], "{lost_packets} lost");
    assert_eq!(stats.fec_packets.value(), fec_packets, "they count once");
    let rows = if matrix.row_stream() { 1.0 / f64::from(matrix.columns()) } else { 0.0 };
    let expected = sent.len() as f64 * (1.0 / f64::from(matrix.rows()) + rows);
    assert!((fec_packets as f64 - expected).abs() <= f64::from(2 * matrix.columns()), "{fec_packets} of {expected}");
    assert_eq!(stats.packets.value(), sent.len() as u64);
}

#[test]
fn what_is_lost_on_the_way_comes_back_by_columns_and_rows() {
    let matrix = Matrix::new(5, 5, true).unwrap();
    // A burst of a whole row, then single ones.
    let lost = |n: u64| n % 50 < 5 || n % 50 == 33;
    assert_recovers(REGENERATE, matrix, false, &[1, 7, 40, 1, 3], lost);
    assert_recovers(REGENERATE, matrix, false, &[1], |n| n > 20 && n % 7 == 0);
}

#[test]
fn what_is_lost_on_the_way_comes_back_by_columns_alone() {
    let matrix = Matrix::new(10, 4, false).unwrap();
    assert_recovers(REGENERATE, matrix, false, &[2, 17, 1], |n| n % 40 < 10);
}

#[test]
fn the_packets_of_the_source_are_protected_whole_with_their_header_extensions() {
    let matrix = Matrix::new(5, 5, true).unwrap();
    assert_recovers(RtpHeader::Passthrough, matrix, true, &[5, 1, 16], |n| n % 25 == 12 || n % 25 == 3);
}

#[test]
fn a_receiver_without_fec_is_no_fault() {
    let (mut bench, sink) = (Bench::new(), Sink::new());
    let protocol = OutputProtocol::RtpFec { header: REGENERATE, matrix: Matrix::new(4, 4, true).unwrap() };
    let stats = bench.open("out", &config(protocol, &[sink.address()]));
    let mut packets = 0;
    for _ in 0..20 {
        bench.deliver(10);
        packets += sink.take().len() as u64;
    }
    assert_eq!(packets, 200);
    assert_eq!((stats.packets.value(), stats.faults().count(), stats.last_fault.value()), (packets, 0, None));
}

#[test]
fn with_smoothing_packets_leave_one_by_one_at_the_sources_clock() {
    let (mut bench, [plain, even]) = (Bench::new(), [Sink::new(), Sink::new()]);
    bench.open("plain", &config(UDP, &[plain.address()]));
    let stats = bench.open("even", &smoothed(even.address(), 100));
    let (mut left, mut expected) = (Vec::new(), 0..);
    for burst in 0..100 {
        // Five packets of 10 ms each come at once.
        bench.deliver(5);
        assert_eq!(numbers(&plain), (burst * 5..burst * 5 + 5).collect::<Vec<_>>(), "at once");
        bench.run(5 * INTERVAL, |at| {
            for number in numbers(&even) {
                assert_eq!(Some(number), expected.next());
                left.push(at);
            }
        });
    }
    let settled = &left[250..];
    for (before, after) in settled.iter().zip(&settled[1..]) {
        let apart = *after - *before;
        assert!(apart >= 9 * MS && apart <= 11 * MS, "{apart:?}");
    }
    assert!(left.len() >= 480, "no more than the smoothing is under way: {} left", left.len());
    assert_eq!([&stats.smoothing.late, &stats.smoothing.overflow].map(|figure| figure.value()), [0, 0]);
}

#[test]
fn what_smoothing_can_not_make_even_is_counted() {
    let (mut bench, sink) = (Bench::new(), Sink::new());
    let stats = bench.open("even", &smoothed(sink.address(), 20));
    for _ in 0..100 {
        bench.deliver(1);
        bench.run(INTERVAL, drop);
    }
    // Ten packets' time passes without any.
    bench.run(100 * MS, drop);
    bench.deliver(10);
    bench.run(100 * MS, drop);
    assert_eq!(numbers(&sink), (0..110).collect::<Vec<_>>());
    assert!((1..10).contains(&stats.smoothing.late.value()), "{}", stats.smoothing.late.value());
}

#[test]
fn a_change_of_smoothing_loses_and_doubles_nothing() {
    let (mut bench, sinks) = (Bench::new(), [(); 3].map(|()| Sink::new()));
    let [changed, steady, plain] = [0, 1, 2].map(|n: usize| sinks[n].address());
    bench.open("changed", &smoothed(changed, 0));
    bench.open("steady", &smoothed(steady, 100));
    bench.open("plain", &smoothed(plain, 0));
    let mut seen: [Vec<u64>; 3] = Default::default();
    for (n, smoothing) in [0, 100, 100, 30, 0, 0, 200, 100, 0, 100].into_iter().enumerate() {
        bench.egress.retune("changed", &smoothed(changed, smoothing));
        for _ in 0..10 {
            bench.deliver(2);
            bench.run(2 * INTERVAL, drop);
        }
        let until = bench.next;
        for (seen, sink) in seen.iter_mut().zip(&sinks) {
            seen.extend(numbers(sink));
        }
        let reached = |of: usize| seen[of].len() as u64;
        assert_eq!(reached(2), until, "without smoothing nothing waits");
        let wait = smoothing / 10 + 4;
        assert!(reached(0) + wait >= until, "{n}: {} of {until} with {smoothing} ms", reached(0));
        assert!(smoothing == 0 || reached(0) < until, "{n}: something waits");
    }
    bench.run(Duration::from_secs(1), drop);
    for (mut seen, sink) in seen.into_iter().zip(&sinks) {
        seen.extend(numbers(sink));
        assert_eq!(seen, (0..bench.next).collect::<Vec<_>>());
    }
    assert!(bench.egress.due().is_none());
}

#[test]
fn outputs_that_come_and_go_leave_the_others_as_they_are() {
    let (mut bench, sinks) = (Bench::new(), [Sink::new(), Sink::new(), Sink::new()]);
    bench.open("stays", &smoothed(sinks[0].address(), 50));
    let regathered = OutputProtocol::Udp { datagram_packets: Some(7) };
    let other = OutputConfig { smoothing: Some(50 * MS), ..config(regathered, &[sinks[1].address()]) };
    for n in 0..40 {
        match n % 4 {
            0 => drop(bench.open("other", &other)),
            2 => bench.egress.close("other"),
            _ => {}
        }
        bench.deliver(3);
        bench.run(3 * INTERVAL, drop);
    }
    bench.run(Duration::from_secs(1), drop);
    assert_eq!(numbers(&sinks[0]), (0..bench.next).collect::<Vec<_>>());
    assert!(!sinks[1].take().is_empty());
    bench.egress.close("other");
    bench.egress.close("stays");
    assert!(bench.egress.is_empty());
}
