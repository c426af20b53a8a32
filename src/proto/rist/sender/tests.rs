//! The sender alone: what it sends, and what it answers.

use std::time::Duration;

use super::super::nack;
use super::super::testing::{FIRST_SEQ, payload};
use super::*;
use crate::proto::rtp::receive::tests::Random;
use crate::proto::rtp::rtcp::{
    Block, Compound, Packet, ReportBlock, blocks, write_app, write_extended_report, write_feedback,
    write_receiver_report, write_source_description,
};

const SSRC: u32 = 0x1234_5678;
const MS: Duration = Duration::from_millis(1);

/// The packets of a stream, from this index on.
struct Stream {
    first: u64,
    packets: Vec<Vec<u8>>,
}

impl History for Stream {
    fn first(&self) -> u64 {
        self.first
    }

    fn end(&self) -> u64 {
        self.packets.len() as u64
    }

    fn payload(&self, index: u64) -> Option<&[u8]> {
        self.packets.get(index as usize).map(Vec::as_slice).filter(|_| index >= self.first)
    }

    fn timestamp(&self, index: u64) -> Option<RtpTime> {
        (index < self.end()).then_some(RtpTime((index * 90) as u32))
    }
}

struct Bench {
    sender: Sender,
    leg: LegId,
    stream: Stream,
    base: Instant,
    now: Instant,
}

impl Bench {
    fn new(change: impl FnOnce(&mut SenderConfig)) -> Self {
        let mut config = SenderConfig {
            ssrc: SSRC | 1,
            cname: b"us".to_vec(),
            first_seq: Seq(FIRST_SEQ),
            payload_type: 33,
            ntp: 0xEEB4_21EA_0000_0000,
            retransmit_percent: 50,
            delete_nulls: false,
            extended: false,
        };
        change(&mut config);
        let base = Instant::now();
        let mut sender = Sender::new(base, config);
        let leg = sender.add_leg(base, SenderProfile::Simple).unwrap();
        sender.begin_sending(0);
        Self { sender, leg, stream: Stream { first: 0, packets: vec![] }, base, now: base }
    }

    fn control(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let mut out = Vec::new();
        while let Some(leg) = self.sender.poll_control(self.now, &mut out) {
            assert_eq!(leg, self.leg);
            sent.push(std::mem::take(&mut out));
        }
        sent
    }

    fn media(&mut self) -> Vec<(Header, Vec<u8>, MediaOut)> {
        let mut sent = Vec::new();
        while let Some(media) = self.sender.poll_media(self.now, &self.stream) {
            let payload = self.stream.payload(media.index).unwrap();
            let mut out = Vec::new();
            assert!(self.sender.datagram(self.leg, &media, payload, &mut out));
            assert_eq!(out.len(), self.sender.datagram_len(self.leg, &media, payload));
            sent.push((Header::parse(&out).unwrap(), out, media));
        }
        sent
    }

    /// Send so many packets, one each millisecond.
    fn feed(&mut self, packets: u64) {
        for _ in 0..packets {
            self.stream.packets.push(payload(self.stream.end(), 1));
            self.now += MS;
            self.control();
            let fresh = self.media().iter().filter(|(_, _, media)| !media.again).count();
            // The first one comes twice.
            assert_eq!(fresh, if self.stream.end() == 1 { 2 } else { 1 });
        }
    }

    fn hear(&mut self, packet: impl FnOnce(&mut Vec<u8>)) {
        let mut control = Vec::new();
        write_receiver_report(9, None, &mut control);
        write_source_description(9, b"them", &mut control);
        packet(&mut control);
        self.sender.handle_datagram(self.now, self.now, self.leg, &control);
    }

    fn ask(&mut self, ranges: &[(u16, u16)]) {
        let words: Vec<u32> = ranges.iter().map(|(first, more)| u32::from(*first) << 16 | u32::from(*more)).collect();
        self.hear(|out| write_app(0, SSRC, nack::NAME, &words, out));
    }

    fn seqs(&mut self) -> Vec<u16> {
        self.media().iter().map(|(header, ..)| header.seq.0).collect()
    }
}

#[test]
fn a_report_goes_before_all_media_and_then_every_90_milliseconds() {
    let mut bench = Bench::new(|_| {});
    bench.stream.packets.push(payload(0, 7));
    assert!(bench.media().is_empty(), "nobody has been told of it");
    let first = bench.control();
    let packets: Vec<_> = Compound::parse(&first[0]).unwrap().packets().collect();
    assert_eq!(packets[0], Packet::ReceiverReport { ssrc: SSRC, block: None }, "there is no media time yet");
    assert_eq!(packets[1], Packet::SourceDescription { ssrc: SSRC, cname: Some(b"us") });
    let mut sent = bench.media();
    assert_eq!((sent.len(), &sent[0].1), (2, &sent[1].1), "the first one comes twice, for librist");
    let (header, datagram, media) = sent.remove(0);
    assert_eq!((header.ssrc, header.seq, header.payload_type), (SSRC, Seq(FIRST_SEQ), 33));
    assert_eq!(&datagram[header.payload()], payload(0, 7));
    assert!(media.is_plain() && media.head() == &datagram[..12] && media.legs.iter().eq([bench.leg]));
    let mut times = Vec::new();
    for n in 1..400 {
        bench.now = bench.base + MS * n;
        for control in bench.control() {
            times.push(n);
            let Some(Packet::SenderReport(report)) = Compound::parse(&control).unwrap().packets().next() else {
                panic!()
            };
            assert_eq!((report.ssrc, report.packets, report.octets), (SSRC, 1, 1316));
            assert_eq!((report.timestamp.0, report.ntp >> 32), (n * 90, 0xEEB4_21EA));
        }
    }
    assert_eq!(times, [20, 40, 130, 220, 310]);
}

#[test]
fn what_is_asked_for_is_sent_again_as_it_was_but_for_one_bit() {
    let mut bench = Bench::new(|_| {});
    bench.feed(1000);
    // Over the wrap, by either kind.
    bench.ask(&[(65_534, 3)]);
    let again = bench.media();
    let seqs: Vec<_> = again.iter().map(|(header, ..)| header.seq.0).collect();
    assert_eq!(seqs, [65_534, 65_535, 0, 1]);
    for (header, datagram, media) in again {
        assert_eq!((header.ssrc, media.again), (SSRC | 1, true));
        assert_eq!(header.timestamp.0, (media.index * 90) as u32);
        assert_eq!(&datagram[header.payload()], payload(media.index, 1));
    }
    bench.now += MS * 50;
    bench.hear(|out| write_feedback(1, 9, SSRC | 1, &[0xFFF0_8001], out));
    assert_eq!(bench.seqs(), [65_520, 65_521, 0]);
    bench.hear(|out| write_feedback(1, 9, SSRC + 2, &[0xFFF0_8001], out));
    assert!(bench.seqs().is_empty(), "of another source");
    let stats = bench.sender.stats();
    assert_eq!((stats.nacks, stats.requested, stats.retransmitted, stats.repeated), (2, 7, 7, 0));
}

#[test]
fn a_packet_is_sent_again_once_a_round_trip() {
    let mut bench = Bench::new(|_| {});
    bench.feed(100);
    // A round trip of 100 ms, by the receiver's report on ours.
    for _ in 0..20 {
        bench.now += MS * 90;
        let control = bench.control().remove(0);
        let Some(Packet::SenderReport(report)) = Compound::parse(&control).unwrap().packets().next() else { panic!() };
        let last_report = (report.ntp >> 16 & 0xFFFF_FFFF) as u32;
        bench.now += MS * 100;
        let block = ReportBlock { ssrc: SSRC, last_report, ..ReportBlock::default() };
        bench.hear(|out| write_receiver_report(9, Some(&block), out));
    }
    let rtt = bench.sender.leg_stats(bench.leg).unwrap().rtt.unwrap();
    assert!((99..=101).contains(&rtt.as_millis()), "{rtt:?}");
    let mut times = Vec::new();
    for n in 0..300 {
        bench.ask(&[(65_010, 0)]);
        times.extend(bench.media().iter().map(|_| n));
        bench.now += MS;
    }
    assert_eq!(times, [0, 88, 176, 264]);
    assert_eq!(bench.sender.stats().repeated, 296);
}

#[test]
fn a_request_for_everything_is_bounded_by_the_budget() {
    let mut bench = Bench::new(|_| {});
    bench.feed(70_000);
    let mut sent = Vec::new();
    for n in 0..1000_u64 {
        // All of 65,536, sixteen times over, a hundred times each millisecond.
        for _ in 0..100 {
            bench.ask(&[(0, u16::MAX); 16]);
        }
        bench.stream.packets.push(payload(bench.stream.end(), 1));
        bench.now += MS;
        bench.sender.handle_timeout(bench.now);
        sent.push(bench.media().iter().filter(|(_, _, media)| media.again).count() as u64);
        assert!(n > 0 || sent[0] <= 501, "at once: {}", sent[0]);
    }
    let total: u64 = sent.iter().sum();
    assert!(total <= 500 + 500 + 100 + 64, "{total} in a second of 1000 packets");
    assert!(bench.sender.repair.waiting() <= 65_536);
}

#[test]
fn the_end_of_a_stream_is_repaired_too() {
    let mut bench = Bench::new(|config| config.retransmit_percent = 0);
    bench.feed(300);
    bench.now += MS * 5000;
    bench.ask(&[(65_000, 199)]);
    let mut sent = bench.seqs().len();
    assert_eq!(sent, 64);
    while let Some(due) = bench.sender.poll_timeout().filter(|_| sent < 200) {
        bench.now = bench.now.max(due);
        bench.control();
        bench.ask(&[(65_000 + sent as u16, 199 - sent as u16)]);
        sent += bench.seqs().len();
        bench.now += MS;
    }
    assert_eq!((sent, (bench.now - bench.base).as_millis() < 8000), (200, true));
}

#[test]
fn what_cannot_be_is_not_sent() {
    let mut bench = Bench::new(|_| {});
    bench.ask(&[(65_000, 10)]);
    assert!(bench.seqs().is_empty(), "nothing was sent yet");
    bench.feed(1000);
    bench.ask(&[(64_900, 99), (465, 10)]);
    assert!(bench.seqs().is_empty(), "before the first, after the last");
    bench.ask(&[(64_990, 10)]);
    assert_eq!(bench.seqs(), [65_000]);
    bench.stream.first = 500;
    bench.ask(&[(65_480, 29)]);
    assert_eq!(bench.seqs(), (65_500..65_510).collect::<Vec<_>>());
    assert_eq!(bench.sender.stats().gone, 20);
    let mut broken = Vec::new();
    write_app(0, SSRC, nack::NAME, &[65_500 << 16], &mut broken);
    broken.pop();
    bench.sender.handle_datagram(bench.now, bench.now, bench.leg, &broken);
    assert_eq!(bench.sender.leg_stats(bench.leg).unwrap().control_invalid, 1);
}

#[test]
fn numbers_of_32_bits_are_sent_and_asked_for() {
    let mut bench = Bench::new(|config| config.extended = true);
    bench.feed(70_000);
    bench.stream.packets.push(payload(70_000, 1));
    let (header, datagram, media) = bench.media().remove(0);
    assert_eq!(header.seq.0, (65_000 + 70_000_u32) as u16);
    assert_eq!(datagram[12..20], [0x52, 0x49, 0, 1, 0x40, 0, 0, 2]);
    assert_eq!(media.head().len(), 20);
    // 1,000 of the first turn, and 10 of the third.
    let ask = |upper: u32, first: u32, more: u32, out: &mut Vec<u8>| {
        write_app(1, SSRC, nack::NAME, &[upper << 16], out);
        write_app(0, SSRC, nack::NAME, &[first << 16 | more], out);
    };
    bench.hear(|out| {
        ask(0, 65_100, 2, out);
        ask(2, 10, 1, out);
    });
    let indices: Vec<_> = bench.media().iter().map(|(_, _, media)| media.index).collect();
    let third = (2 << 16) + 10 - 65_000;
    assert_eq!(indices, [100, 101, 102, third, third + 1]);
}

#[test]
fn null_packets_are_left_out_and_told_of() {
    let mut bench = Bench::new(|config| config.delete_nulls = true);
    bench.control();
    bench.stream.packets = (0..50).map(|index| payload(index, 7)).collect();
    let (mut deleted, mut bytes) = (0, 0);
    // The first one comes twice.
    for (header, datagram, media) in bench.media().split_off(1) {
        let mut restored = Vec::new();
        match Extension::read(&datagram, &header) {
            Some(extension) => {
                assert!(extension.restore(&datagram[header.payload()], &mut restored));
                deleted += extension.nulls.unwrap().count_ones();
            }
            None => restored.extend(&datagram[header.payload()]),
        }
        assert_eq!(restored, payload(media.index, 7));
        bytes += datagram.len();
    }
    assert!(deleted > 50 && bytes < 50 * 1316, "{deleted} {bytes}");
    assert_eq!(bench.sender.stats().nulls_deleted, u64::from(deleted));
}

#[test]
fn echoes_and_reference_times_are_answered() {
    let mut bench = Bench::new(|_| {});
    bench.feed(100);
    bench.control();
    bench.hear(|out| {
        write_app(2, 0xABCD, nack::NAME, &[1, 2, 0], out);
        write_extended_report(0xABCE, Block::ReferenceTime(0x1111_2222_3333_4444), out);
    });
    bench.now += MS * 4;
    let answers = bench.control();
    let packets: Vec<_> = Compound::parse(&answers[0]).unwrap().packets().collect();
    let data = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x0F, 0xA0];
    assert!(packets.contains(&Packet::App { subtype: 3, ssrc: 0xABCD, name: *b"RIST", data: &data }), "{packets:?}");
    let delay = packets.iter().find_map(|packet| match packet {
        Packet::ExtendedReport { blocks: rest, .. } => blocks(rest).next(),
        _ => None,
    });
    assert_eq!(delay, Some(Block::Delay(0xABCE, 0x2222_3333, 262)));
    // A flood of them is answered as far as a few packets go.
    for _ in 0..1000 {
        bench.hear(|out| write_app(2, 0xABCD, nack::NAME, &[1, 2, 0], out));
    }
    assert_eq!(bench.control().len(), 1);
}

#[test]
fn several_legs_get_the_same_packets_and_each_its_own_repairs() {
    let mut bench = Bench::new(|_| {});
    let second = bench.sender.add_leg(bench.base, SenderProfile::Simple).unwrap();
    bench.stream.packets = (0..100).map(|index| payload(index, 1)).collect();
    let mut out = Vec::new();
    while bench.sender.poll_control(bench.now, &mut out).is_some() {}
    for index in std::iter::once(0).chain(0..100) {
        let media = bench.sender.poll_media(bench.now, &bench.stream).unwrap();
        assert_eq!((media.index, media.legs.iter().collect::<Vec<_>>()), (index, vec![bench.leg, second]));
    }
    let mut control = Vec::new();
    write_receiver_report(9, None, &mut control);
    write_app(0, SSRC, nack::NAME, &[65_010 << 16], &mut control);
    bench.sender.handle_datagram(bench.now, bench.now, second, &control);
    let media = bench.sender.poll_media(bench.now, &bench.stream).unwrap();
    assert_eq!((media.index, media.legs.iter().collect::<Vec<_>>()), (10, vec![second]));
    bench.sender.remove_leg(second);
    assert!(!bench.sender.datagram(second, &media, &payload(10, 1), &mut out));
    assert_eq!(bench.sender.add_leg(bench.base, SenderProfile::Simple), Some(second));
}

#[test]
fn a_history_that_runs_ahead_leaves_a_gap() {
    let mut bench = Bench::new(|_| {});
    bench.feed(10);
    (0..90).for_each(|_| bench.stream.packets.push(vec![0x47; 188]));
    bench.stream.first = 50;
    assert_eq!(bench.seqs(), (65_050..65_100).collect::<Vec<_>>());
    assert_eq!(bench.sender.stats().skipped, 40);
}

#[test]
fn nothing_that_arrives_panics() {
    let mut bench = Bench::new(|config| config.extended = true);
    bench.feed(2000);
    let mut random = Random(77);
    for _ in 0..20_000 {
        let words: Vec<u32> = (0..random.below(20)).map(|_| random.below(1 << 32) as u32).collect();
        let kind = random.below(5) as u8;
        match random.below(3) {
            0 => bench.hear(|out| write_app(kind, SSRC, nack::NAME, &words, out)),
            1 => bench.hear(|out| write_feedback(1, 9, SSRC, &words, out)),
            _ => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                bench.sender.handle_datagram(bench.now, bench.now, bench.leg, &bytes);
            }
        }
        bench.now += MS / 4;
        bench.sender.handle_timeout(bench.now);
        bench.media();
        bench.control();
    }
}

#[test]
fn a_stream_that_is_over_says_so() {
    let mut bench = Bench::new(|_| {});
    let mut bye = Vec::new();
    assert!(bench.sender.write_bye(bench.leg, &mut bye));
    let packets: Vec<_> = Compound::parse(&bye).unwrap().packets().collect();
    assert!(
        matches!(
            packets[..],
            [
                Packet::ReceiverReport { ssrc: SSRC, block: None },
                Packet::SourceDescription { ssrc: SSRC, .. },
                Packet::Bye { ssrc: Some(SSRC) },
            ]
        ),
        "{packets:?}"
    );
    bench.sender.remove_leg(bench.leg);
    assert!(!bench.sender.write_bye(bench.leg, &mut bye));
}
