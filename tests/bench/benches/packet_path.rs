//! The parts of the packet path, one by one: `cargo bench` here, or `cargo bench -- rtp` for some of them.
//!
//! Those whose name begins with `kernel` make system calls; all others are the product's own work. Divide by the number
//! of datagrams that the name gives.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aes::Aes128;
use aes::cipher::{BlockModeEncrypt, InnerIvInit, KeyInit};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mediaconnect::config::plan::{OutputProtocol, RtpHeader};
use mediaconnect::config::value::Dscp;
use mediaconnect::flow::cipher::Variant;
use mediaconnect::flow::egress::{Egress, LegConfig, MediaPacket, OutputConfig};
use mediaconnect::flow::stats::OutputStats;
use mediaconnect::io::batch::{ReceiveBatch, SendBatch, Target, TrainLimit};
use mediaconnect::io::open::{Family, ReceiveSpec, Receiver, SendSpec, Sender, open_receiver, open_sender};
use mediaconnect::proto::cissa::{Descrambler, Scrambler};
use mediaconnect::proto::fec2022_1::matrix::Matrix;
use mediaconnect::proto::mpegts::monitor::Monitor;
use mediaconnect::proto::mpegts::packet::{PACKET_LEN, check_datagram};
use mediaconnect::proto::mpegts::pcr::Pcr;
use mediaconnect::proto::mpegts::psi::crc32;
use mediaconnect::proto::rtp::header::{Header, MP2T};
use mediaconnect::proto::rtp::receive::RtpReceiver;
use mediaconnect::proto::seq::{RtpTime, Seq};
use mediaconnect::time::Instant;
use mediaconnect_bench::mark::{self, Mark};

/// Datagrams of one train: 5 ms of 20 Mbit/s are 9.5.
const TRAIN: u64 = 10;

fn datagrams(count: u64, rtp: bool) -> Vec<Vec<u8>> {
    let datagram = |sequence| {
        let mut datagram = vec![0; mark::datagram_len(rtp)];
        mark::prepare(&mut datagram);
        mark::write(&mut datagram, 0, Mark { sequence, sent_ns: sequence * 526_400 });
        datagram
    };
    (0..count).map(datagram).collect()
}

fn headers(c: &mut Criterion) {
    let packet = datagrams(1, true).remove(0);
    let header = Header::new(MP2T, Seq(7), RtpTime(9), 11);
    c.bench_function("rtp header, parse", |b| b.iter(|| Header::parse(black_box(&packet))));
    c.bench_function("rtp header, write", |b| b.iter(|| black_box(&header).write()));
    let payload = datagrams(1, false).remove(0);
    c.bench_function("transport stream, check a datagram", |b| b.iter(|| check_datagram(black_box(&payload))));
}

/// A packet at a time, 65,536 in all so that sequence numbers go on from one round to the next; every `swapped`th pair
/// in the wrong order.
fn receive_rtp(c: &mut Criterion, name: &str, swapped: Option<usize>) {
    let mut packets = datagrams(1 << 16, true);
    if let Some(every) = swapped {
        packets.chunks_exact_mut(every).for_each(|chunk| chunk.swap(0, 1));
    }
    let mut receiver = RtpReceiver::new(Duration::from_millis(50));
    let mut released = Vec::new();
    let mut next = packets.iter().cycle();
    let mut now = Instant::now();
    c.bench_function(name, |b| {
        b.iter(|| {
            let Some(packet) = next.next() else { return };
            let Ok(header) = Header::parse(packet) else { return };
            now += Duration::from_micros(526);
            receiver.handle_packet(now, packet, &header, &mut released);
            released.clear();
            receiver.recycle();
        });
    });
    assert_eq!(receiver.counters().lost, 0, "the stream is whole");
}

fn receivers(c: &mut Criterion) {
    receive_rtp(c, "rtp header and receiver, a packet in order", None);
    receive_rtp(c, "rtp header and receiver, a packet, one pair in 10 swapped", Some(10));
}

fn sessions(c: &mut Criterion) {
    let payloads = datagrams(TRAIN, false);
    let header = Header::new(MP2T, Seq(7), RtpTime(9), 11).write();
    let mut batch = SendBatch::new();
    for count in [1_u16, 10, 50] {
        let targets: Vec<_> = (0..count)
            .map(|n| Target::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 6000 + n)), Some(64), 0, None))
            .collect();
        let mut group = c.benchmark_group("send batch, build");
        group.throughput(Throughput::Elements(TRAIN * u64::from(count)));
        group.bench_function(format!("{TRAIN} datagrams to {count} targets"), |b| {
            b.iter(|| {
                let mut session = batch.session();
                session.begin(TrainLimit::new(16));
                payloads.iter().for_each(|payload| session.push(&[], payload));
                let trains = session.finish();
                (0..).zip(&targets).for_each(|(tag, target)| session.message(target, trains, tag));
            });
        });
        group.bench_function(format!("{TRAIN} datagrams to {count} targets, RTP headers of their own"), |b| {
            b.iter(|| {
                let mut session = batch.session();
                for (tag, target) in (0..).zip(&targets) {
                    session.begin(TrainLimit::new(16));
                    payloads.iter().for_each(|payload| session.push(&header, payload));
                    let trains = session.finish();
                    session.message(target, trains, tag);
                }
            });
        });
    }
}

fn receiver(gro: bool) -> (Receiver, SocketAddr) {
    let spec = ReceiveSpec {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        dual_stack: false,
        interface: None,
        multicast_sources: Vec::new(),
        receive_buffer: 1 << 20,
        timestamps: true,
        gro,
    };
    let receiver = open_receiver(&spec).expect("a port of loopback");
    let address = receiver.local_addr().expect("it is bound");
    (receiver, address)
}

fn sender() -> Sender {
    open_sender(&SendSpec { family: Family::V4, source_port: None, send_buffer: 1 << 20 }).expect("a socket")
}

/// Sends one train to `address`.
fn send_train(batch: &mut SendBatch, sender: &Sender, address: SocketAddr, payloads: &[Vec<u8>]) {
    let mut session = batch.session();
    session.begin(TrainLimit::MAX);
    payloads.iter().for_each(|payload| session.push(&[], payload));
    let trains = session.finish();
    session.message(&Target::new(address, None, 0, None), trains, 0);
    session.flush(sender, |_| {});
}

fn receiving(c: &mut Criterion) {
    let payloads = datagrams(TRAIN, false);
    let sender = sender();
    let mut sending = SendBatch::new();
    for (name, gro) in [("as they came", false), ("joined by GRO", true)] {
        let (receiver, address) = receiver(gro);
        let mut batch = ReceiveBatch::new(64);
        send_train(&mut sending, &sender, address, &payloads);
        batch.receive(&receiver).expect("a socket that can be read");
        assert_eq!(batch.datagrams().count() as u64, TRAIN, "loopback delivers at once");
        let mut group = c.benchmark_group("receive batch");
        group.throughput(Throughput::Elements(TRAIN));
        group.bench_function(format!("split {TRAIN} datagrams {name}"), |b| {
            b.iter(|| batch.datagrams().map(|d| black_box(d).payload.len()).sum::<usize>());
        });
        group.bench_function(format!("kernel: send and receive {TRAIN} datagrams {name}"), |b| {
            b.iter(|| {
                send_train(&mut sending, &sender, address, &payloads);
                batch.receive(&receiver)
            });
        });
    }
}

/// An egress with outputs to sockets that nobody reads: once they are full, the kernel drops what comes.
fn egress(protocol: OutputProtocol, count: u16) -> (Egress, Vec<UdpSocket>) {
    let readers: Vec<_> =
        (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback")).collect();
    let mut egress = Egress::default();
    for (n, reader) in readers.iter().enumerate() {
        let config = OutputConfig {
            legs: [Some(LegConfig { address: reader.local_addr().expect("it is bound"), interface: None }), None],
            ttl: None,
            dscp: Dscp::default(),
            protocol,
            source_port: None,
            smoothing: None,
        };
        config.senders().for_each(|key| egress.add_sender(key, sender()));
        egress.open(format!("output-{n}"), &config, Variant::Clear, 11, Arc::new(OutputStats::default()));
    }
    (egress, readers)
}

fn delivering(c: &mut Criterion) {
    let datagrams = datagrams(TRAIN, true);
    let media: Vec<_> = (0..)
        .zip(&datagrams)
        .map(|(n, datagram)| MediaPacket {
            payload: &datagram[mark::RTP_HEADER..],
            datagram,
            arrival: Instant::now(),
            timestamp: RtpTime(n * 47),
            discontinuity: false,
        })
        .collect();
    let udp = OutputProtocol::Udp { datagram_packets: None };
    let rtp = OutputProtocol::Rtp(RtpHeader::Regenerate { payload_type: MP2T, ssrc: None });
    let matrix = Matrix::new(10, 10, true).expect("a legal matrix");
    let fec = OutputProtocol::RtpFec { header: RtpHeader::Regenerate { payload_type: MP2T, ssrc: None }, matrix };
    for (name, protocol) in [("udp", udp), ("rtp", rtp), ("rtp-fec 10x10", fec)] {
        for count in [1, 10] {
            let (mut egress, _readers) = egress(protocol, count);
            let mut batch = SendBatch::new();
            let mut group = c.benchmark_group("egress");
            group.throughput(Throughput::Elements(TRAIN * u64::from(count)));
            group.bench_function(format!("kernel: deliver {TRAIN} datagrams to {count} {name} outputs"), |b| {
                b.iter(|| egress.deliver(black_box(&media), &mut batch, Instant::now()));
            });
        }
    }
}

/// A picture, a sound and null packets at 20 Mbit/s, from memory that is at hand: per packet of the transport stream.
fn analysis(c: &mut Criterion) {
    let media = media();
    let mut monitor = Monitor::new(Instant::now());
    let (mut now, mut next) = (Instant::now(), media.chunks_exact(7 * PACKET_LEN).cycle());
    let mut analyse = || {
        let Some(datagram) = next.next() else { return };
        now += Duration::from_nanos(526_400);
        monitor.handle_datagram(black_box(datagram), now);
        if monitor.poll_timeout().is_some_and(|at| at <= now) {
            monitor.handle_timeout(now);
        }
    };
    // Two seconds of it.
    (0..4000).for_each(|_| analyse());
    let mut group = c.benchmark_group("transport stream, TR 101 290 and metadata");
    group.throughput(Throughput::Elements(7));
    group.bench_function("7 packets", |b| b.iter(&mut analyse));
    group.finish();
    assert!(monitor.metadata().streams().len() == 2 && monitor.bits_per_second() > 19_000_000);
}

/// Packets of 200 ms that are repeated: a PAT and a PMT every 25 ms, PES packets of a picture with PCR every 40 ms and of
/// a sound every 100 ms, one null packet in 20.
fn media() -> Vec<u8> {
    let section = |body: &[u8]| [&[0][..], body, &crc32(body).to_be_bytes()].concat();
    let pat = section(&[0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0]);
    let streams = [0x1B, 0xE1, 0, 0xF0, 0, 0x03, 0xE1, 1, 0xF0, 0];
    let pmt = section(&[&[0x02, 0xB0, 23, 0, 1, 0xC1, 0, 0, 0xE1, 0, 0xF0, 0][..], &streams].concat());
    let (rate, count) = (20_000_000_u64, 2688);
    let (mut counters, mut out) = ([0_u8; 4], Vec::new());
    let mut put = |pid: u16, start: bool, pcr: Option<u64>, payload: &[u8]| {
        let mut packet = [0x55; PACKET_LEN];
        let [high, low] = pid.to_be_bytes();
        let counter = &mut counters[match pid {
            0 => 0,
            0x1000 => 1,
            0x100 => 2,
            _ => 3,
        }];
        packet[..4].copy_from_slice(&[0x47, high | u8::from(start) << 6, low, 0x10 | (*counter % 16)]);
        *counter = counter.wrapping_add(u8::from(pid != 0x1FFF));
        let mut at = 4;
        if let Some(pcr) = pcr {
            packet[3] |= 0x20;
            packet[4..6].copy_from_slice(&[7, 0x10]);
            packet[6..12].copy_from_slice(&Pcr::new(pcr).write());
            at = 12;
        }
        packet[at..][..payload.len()].copy_from_slice(payload);
        out.extend(packet);
    };
    let pes = [0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
    // A parameter set of H.264, and a frame's header of MPEG audio.
    let picture = [
        &pes[..],
        &[
            0x00, 0x00, 0x01, 0x09, 0xF0, 0x00, 0x00, 0x01, 0x67, 0x4D, 0x40, 0x1E, 0xF4, 0x05, 0xA1, 0x26, 0xC0, 0x44,
            0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xC8, 0x7C, 0x50, 0xAA, 0x80, 0x00, 0x00, 0x01, 0x68,
            0xDE, 0x3C, 0x80, 0x00, 0x00, 0x01, 0x65,
        ],
    ]
    .concat();
    let sound = [&pes[..], &[0xFF, 0xFD, 0xA4, 0]].concat();
    for n in 0..count {
        let pcr = n * PACKET_LEN as u64 * 8 * Pcr::HZ / rate;
        match n {
            n if n % 336 == 0 => put(0, true, None, &pat),
            n if n % 336 == 1 => put(0x1000, true, None, &pmt),
            n if n % 560 == 2 => put(0x100, true, Some(pcr), &picture),
            n if n % 1344 == 3 => put(0x101, true, None, &sound),
            n if n % 20 == 4 => put(0x1FFF, false, None, &[]),
            n if n % 40 == 5 => put(0x101, false, None, &[]),
            _ => put(0x100, false, None, &[]),
        }
    }
    out
}

/// Content encryption of [`media`], and the plain ways of CBC beside it: in one chain, in which
/// each block waits for the one before, and packet by packet, which the processor overlaps as far as it looks ahead.
fn encryption(c: &mut Criterion) {
    let stream = media();
    let key = [7; 16];
    let iv = *b"DVBTMCPTAESCISSA";
    let mut scrambler = Scrambler::new(Some(&key), None);
    let mut group = c.benchmark_group("content encryption (DVB-CISSA)");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    let fresh = || stream.clone();
    let now = Instant::now();
    group.bench_function("encrypt", |b| {
        let by_datagram = |mut bytes: Vec<u8>| {
            bytes.chunks_mut(7 * PACKET_LEN).for_each(|datagram| scrambler.scramble(datagram, now));
            bytes
        };
        b.iter_batched(fresh, by_datagram, BatchSize::LargeInput);
    });
    let encrypted = |mut bytes: Vec<u8>| {
        let mut scrambler = Scrambler::new(Some(&key), None);
        bytes.chunks_mut(7 * PACKET_LEN).for_each(|datagram| scrambler.scramble(datagram, now));
        bytes
    };
    let encrypted = encrypted(stream.clone());
    let mut descrambler = Descrambler::new(Some(&key), None);
    group.bench_function("decrypt", |b| {
        let by_datagram = |mut bytes: Vec<u8>| {
            bytes.chunks_mut(7 * PACKET_LEN).for_each(|datagram| descrambler.descramble(datagram));
            bytes
        };
        b.iter_batched(|| encrypted.clone(), by_datagram, BatchSize::LargeInput);
    });
    let cipher = Aes128::new(&key.into());
    let chain = || cbc::Encryptor::<&Aes128>::inner_iv_init(&cipher, &iv.into());
    group.bench_function("serial CBC: one block after the other", |b| {
        let serial = |mut bytes: Vec<u8>| {
            let mut chain = chain();
            bytes.as_chunks_mut::<16>().0.iter_mut().for_each(|block| chain.encrypt_block(block.into()));
            bytes
        };
        b.iter_batched(fresh, serial, BatchSize::LargeInput);
    });
    group.bench_function("CBC: one packet after the other", |b| {
        let by_packet = |mut bytes: Vec<u8>| {
            for packet in bytes.as_chunks_mut::<PACKET_LEN>().0 {
                let mut chain = chain();
                packet[4..].as_chunks_mut::<16>().0.iter_mut().for_each(|block| chain.encrypt_block(block.into()));
            }
            bytes
        };
        b.iter_batched(fresh, by_packet, BatchSize::LargeInput);
    });
}

criterion_group!(packet_path, headers, receivers, sessions, receiving, delivering, analysis, encryption);
criterion_main!(packet_path);
