//! The decoder in virtual time, against a solver that tries everything: every run is the same, and every run wraps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::fec2022_1::encode::Encoder;
use crate::proto::fec2022_1::matrix::Matrix;
use crate::proto::fec2022_1::testing::{CAPTURES, Capture, Fec, SSRC, datagrams, fec, media, recoverable, seq};
use crate::proto::rtp::receive::Place;
use crate::proto::rtp::receive::tests::{HAND_OVER, Random, handed_over};

const WINDOW: Duration = Duration::from_millis(20);
/// From one media packet to the next.
const PACE: Duration = Duration::from_micros(100);

/// The reorder window is 200, 40 and 10 packets at these.
const PACES: [Duration; 3] = [PACE, Duration::from_micros(500), ms(2)];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a sender sends, in order: media packets by index, and FEC packets.
#[derive(Debug, Clone)]
enum Sent {
    Media(u64),
    Fec(Fec),
}

/// So many packets through our encoder.
fn encoded(matrix: Matrix, packets: std::ops::Range<u64>, first: [Seq; 2]) -> Vec<Sent> {
    encoded_as(SSRC, matrix, packets, first)
}

fn encoded_as(ssrc: u32, matrix: Matrix, packets: std::ops::Range<u64>, first: [Seq; 2]) -> Vec<Sent> {
    let (mut encoder, mut sent, start) = (Encoder::new(matrix, first), Vec::new(), packets.start);
    for index in packets {
        let packet = media(ssrc, index);
        let (fixed, rest) = packet.split_first_chunk().unwrap();
        encoder.push(fixed, rest);
        sent.push(Sent::Media(index));
        while let Some((stream, packet)) = encoder.poll_transmit() {
            let header = FecHeader::parse(packet).unwrap();
            let base = start + u64::from(header.base.0.wrapping_sub(seq(start)));
            let members = (0..u64::from(header.na)).map(|i| base + i * u64::from(header.offset)).collect();
            sent.push(Sent::Fec(Fec { stream, packet: packet.to_vec(), members }));
        }
    }
    sent
}

fn matrix(columns: u64, rows: u64, row_stream: bool) -> Matrix {
    Matrix::new(columns, rows, row_stream).unwrap()
}

/// The decoder, and what came out of it: each batch's bytes are read at its end only, as a flow does.
struct Bench {
    decoder: Decoder,
    start: Instant,
    now: Duration,
    out: Vec<Released>,
    /// When, SSRC, index, discontinuity.
    delivered: Vec<(Duration, u32, u64, bool)>,
    ssrc: u32,
    /// Lost, and an enemy is about: what is released in their place may be forged.
    forgeable: BTreeSet<u64>,
}

impl Bench {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(WINDOW),
            start: Instant::now(),
            now: Duration::ZERO,
            out: Vec::new(),
            delivered: Vec::new(),
            ssrc: SSRC,
            forgeable: BTreeSet::new(),
        }
    }

    fn media(&mut self, at: Duration, index: u64) {
        self.pass_time(at);
        let packet = media(self.ssrc, index);
        let header = Header::parse(&packet).unwrap();
        self.decoder.handle_packet(self.start + at, &packet, &header, &mut self.out);
        self.end_batch(&packet);
        if index.is_multiple_of(HAND_OVER as u64) {
            self.decoder = handed_over(&self.decoder);
        }
    }

    fn fec(&mut self, at: Duration, port: FecStream, packet: &[u8]) -> Result<(), FecError> {
        self.pass_time(at);
        let result = self.decoder.handle_fec(self.start + at, port, packet, &mut self.out);
        assert!(self.out.iter().all(|released| released.place != Place::Now));
        self.end_batch(&[]);
        result
    }

    fn send(&mut self, at: Duration, sent: &Sent) {
        match sent {
            Sent::Media(index) => self.media(at, *index),
            Sent::Fec(fec) => self.fec(at, fec.stream, &fec.packet).unwrap(),
        }
    }

    /// Call the decoder at each time it asks for, up to `at`.
    fn pass_time(&mut self, at: Duration) {
        while let Some(timeout) = self.decoder.poll_timeout().filter(|timeout| *timeout <= self.start + at) {
            self.now = self.now.max(timeout - self.start);
            self.decoder.handle_timeout(timeout, &mut self.out);
            assert!(self.decoder.poll_timeout().is_none_or(|next| next > timeout), "a timeout is dealt with");
            self.end_batch(&[]);
        }
        self.now = self.now.max(at);
    }

    fn end(&mut self) -> RtpCounters {
        self.decoder.flush(&mut self.out);
        self.end_batch(&[]);
        let (rtp, fec) = (*self.decoder.counters(), self.decoder.fec_counters());
        assert_eq!(rtp.received + rtp.recovered, rtp.delivered + rtp.duplicate + rtp.late + rtp.stray, "{rtp:?}");
        assert_eq!(rtp.recovered, fec.recovered_by_column + fec.recovered_by_row);
        assert_eq!(rtp.delivered, self.delivered.len() as u64);
        assert_eq!(self.decoder.poll_timeout(), None);
        rtp
    }

    fn end_batch(&mut self, now: &[u8]) {
        for released in std::mem::take(&mut self.out) {
            let bytes = self.decoder.bytes(&released, now);
            assert_eq!(Header::parse(bytes), Ok(released.header));
            let newest = self.delivered.last().filter(|_| !released.discontinuity).map_or(0, |(_, _, index, _)| *index);
            let step = released.header.seq.distance(Seq(seq(newest)));
            let index = newest.checked_add_signed(step.into()).unwrap();
            if !self.forgeable.contains(&index) {
                assert_eq!(bytes, media(released.header.ssrc, index), "bit by bit what was sent");
            }
            self.delivered.push((self.now, released.header.ssrc, index, released.discontinuity));
        }
        self.decoder.recycle();
    }

    fn indexes(&self) -> BTreeSet<u64> {
        assert!(self.delivered.is_sorted_by(|a, b| a.2 < b.2), "in order, and nothing twice");
        self.delivered.iter().map(|(_, _, index, _)| *index).collect()
    }

    /// When a packet was delivered.
    fn delivered_at(&self, index: u64) -> Duration {
        self.delivered.iter().find(|(_, _, delivered, _)| *delivered == index).expect("delivered").0
    }
}

/// What a network does to packets.
#[derive(Debug, Clone, Copy)]
struct Network {
    /// From one media packet to the next.
    pace: Duration,
    /// Chance of media and FEC packets, in 1/1000.
    loss: u64,
    /// Media packets lost in one go.
    burst: u64,
    /// Percent.
    duplicates: u64,
    jitter: Duration,
    /// Sockets are read so often, one after the other: media first, or FEC first. Zero: at once.
    gather: Duration,
    fec_first: bool,
}

impl Default for Network {
    fn default() -> Self {
        let (jitter, gather) = (Duration::ZERO, Duration::ZERO);
        Self { pace: PACE, loss: 0, burst: 0, duplicates: 0, jitter, gather, fec_first: false }
    }
}

/// Send over a network; the first packets of media and the last 300 come. What was lost and what should be recovered
/// is checked against the solver. Media lost, recovered.
fn simulate(sent: &[Sent], seed: u64, network: Network) -> (Bench, u64, u64) {
    let (mut random, mut arrivals, mut lost, mut sets) =
        (Random(seed << 8 | 1), Vec::new(), BTreeSet::new(), Vec::new());
    let total = sent.iter().filter(|sent| matches!(sent, Sent::Media(_))).count() as u64;
    let (mut media_sent, mut burst_left) = (0, 0);
    // FEC packets read before any media are of no use, and before FEC packets are seen nothing waits for them.
    let at_once = 1 + (network.gather.as_micros() / network.pace.as_micros()) as u64;
    let span = sent
        .iter()
        .map(|sent| if let Sent::Fec(fec) = sent { fec.members[fec.members.len() - 1] - fec.members[0] } else { 0 });
    let first_kept = if network.pace == PACE { at_once } else { at_once + 3 * span.max().unwrap_or(0) };
    for packet in sent {
        let at = network.pace * media_sent as u32;
        let spared = media_sent < first_kept || media_sent + 300 > total;
        if matches!(packet, Sent::Media(_)) {
            media_sent += 1;
            // The mean rate of loss is the same with bursts.
            if burst_left == 0 && random.below(1000 * network.burst.max(1)) < network.loss {
                burst_left = network.burst.max(1);
            }
        }
        let gone = match packet {
            Sent::Media(index) => {
                let gone = burst_left > 0 && !spared;
                burst_left = burst_left.saturating_sub(1);
                if gone {
                    lost.insert(*index);
                }
                gone
            }
            Sent::Fec(_) => random.below(1000) < network.loss && !spared,
        };
        if gone {
            continue;
        }
        if let Sent::Fec(fec) = packet {
            sets.push(fec);
        }
        for _ in 0..=u64::from(random.chance(network.duplicates)) {
            let jitter = Duration::from_micros(random.below(network.jitter.as_micros() as u64 + 1));
            arrivals.push((at + if media_sent <= 1 { Duration::ZERO } else { jitter }, arrivals.len(), packet));
        }
    }
    let gather = network.gather.as_nanos().max(1);
    arrivals.sort_by_key(|(at, number, packet)| {
        let is_second = !network.gather.is_zero() && matches!(packet, Sent::Fec(_)) != network.fec_first;
        (at.as_nanos() / gather, is_second, *at, *number)
    });
    let mut bench = Bench::new();
    arrivals.iter().for_each(|(at, _, packet)| bench.send(*at, packet));
    let counters = bench.end();
    let recoverable = recoverable(&lost, &sets);
    let wanted: BTreeSet<u64> = lost.difference(&recoverable).copied().collect();
    let indexes = bench.indexes();
    let first = match sent[0] {
        Sent::Media(index) => index,
        Sent::Fec(_) => unreachable!("media goes first"),
    };
    let missing: BTreeSet<u64> = (first..first + total).filter(|index| !indexes.contains(index)).collect();
    assert_eq!(missing, wanted, "seed {seed}, {network:?}: unrecovered are exactly those that can't be recovered");
    assert_eq!(counters.lost, wanted.len() as u64, "seed {seed}, {network:?}");
    assert!(counters.recovered >= recoverable.len() as u64);
    assert_eq!((counters.late, counters.stray, counters.restarts), (0, 0, 0), "seed {seed}, {network:?}");
    assert_eq!(bench.decoder.fec_counters().rejected, 0);
    (bench, lost.len() as u64, recoverable.len() as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_can_be_recovered_is_recovered_and_nothing_else_is_lost(
        l in 1_u64..=20, d in 4_u64..=20, row_stream: bool,
        loss in 0_u64..300, burst in 0_u64..25, first: u16, seed in 0_u64..1 << 40, pace in 0..3_usize,
    ) {
        let d = d.min(100 / l);
        let sent = encoded(matrix(l, d, row_stream && l >= 4), 0..900, [Seq(first), Seq(first)]);
        simulate(&sent, seed, Network { pace: PACES[pace], loss, burst, ..Network::default() });
    }

    #[test]
    fn jitter_duplicates_and_ports_read_in_turn_change_nothing(
        l in 4_u64..=10, d in 4_u64..=10, row_stream: bool,
        loss in 0_u64..200, duplicates in 0_u64..30, jitter in 0_u64..13, seed in 0_u64..1 << 40,
        gather in 0_u64..=5, fec_first: bool, pace in 0..3_usize,
    ) {
        let sent = encoded(matrix(l, d, row_stream), 0..900, [Seq(65_530), Seq(3)]);
        simulate(&sent, seed, Network { pace: PACES[pace], loss, burst: 0, duplicates, jitter: ms(jitter), gather: ms(gather), fec_first });
    }
}

#[test]
fn bursts_before_fec_packets_do_not_make_the_next_ones_due_too_early() {
    // Bursts longer than the reorder window, columns only: what is given up too early is lost.
    let sent = encoded(matrix(8, 6, false), 0..900, [Seq(0); 2]);
    for seed in 460..480 {
        simulate(&sent, seed, Network { pace: ms(2), loss: 91, burst: 14, ..Network::default() });
    }
}

#[test]
fn every_single_loss_is_recovered() {
    for (l, d, row_stream) in [(1, 4, false), (4, 4, true), (20, 5, true), (5, 20, false), (1, 20, false)] {
        let sent = encoded(matrix(l, d, row_stream), 0..4 * l * d, [Seq(0); 2]);
        for lost in 1..2 * l * d {
            let bench = play(&sent, PACE, |packet| matches!(packet, Sent::Media(index) if *index == lost));
            let counters = bench.decoder.counters();
            assert_eq!((counters.lost, counters.recovered), (0, 1), "{l} x {d}, {lost}");
            assert_eq!(bench.delivered.len() as u64, 4 * l * d);
        }
    }
}

/// Send all but what is lost, each media packet `pace` after the one before.
fn play(sent: &[Sent], pace: Duration, lost: impl Fn(&Sent) -> bool) -> Bench {
    let (mut bench, mut at) = (Bench::new(), Duration::ZERO);
    for packet in sent {
        if let Sent::Media(index) = packet {
            at = pace * *index as u32;
        }
        if !lost(packet) {
            bench.send(at, packet);
        }
    }
    bench.end();
    bench
}

/// A FEC packet of this stream and first member.
fn is_fec(packet: &Sent, stream: FecStream, base: u64) -> bool {
    matches!(packet, Sent::Fec(fec) if fec.stream == stream && fec.members[0] == base)
}

fn is_media(packet: &Sent, indexes: &[u64]) -> bool {
    matches!(packet, Sent::Media(index) if indexes.contains(index))
}

/// 5 x 5 with rows.
fn five_by_five() -> Vec<Sent> {
    encoded(matrix(5, 5, true), 0..300, [Seq(65_530), Seq(0)])
}

const MS: Duration = ms(1);

#[test]
fn without_loss_nothing_waits_and_nothing_is_copied_for_it() {
    let mut decoder = Decoder::new(WINDOW);
    let (start, mut out, mut at) = (Instant::now(), Vec::new(), start_of(0));
    for packet in five_by_five() {
        match packet {
            Sent::Media(index) => {
                at = start_of(index);
                let packet = media(SSRC, index);
                let header = Header::parse(&packet).unwrap();
                let arrival = start + at;
                decoder.handle_packet(arrival, &packet, &header, &mut out);
                assert_eq!(
                    out.pop(),
                    Some(Released { place: Place::Now, header, arrival, recovered: false, discontinuity: false })
                );
            }
            Sent::Fec(fec) => decoder.handle_fec(start + at, fec.stream, &fec.packet, &mut out).unwrap(),
        }
        assert_eq!((out.len(), decoder.poll_timeout()), (0, None));
    }
    let now = start + at;
    assert_eq!(decoder.matrix(now), (Some(5), Some(5)));
    assert!(decoder.sees(FecStream::Row, now) && decoder.sees(FecStream::Column, now));
    assert!(!decoder.sees(FecStream::Row, now + SILENCE));
    assert_eq!(decoder.matrix(now + SILENCE), (None, None));
}

const fn start_of(index: u64) -> Duration {
    ms(index)
}

#[test]
fn a_packet_waits_until_its_row_brings_back_the_one_before_it() {
    let bench = play(&five_by_five(), MS, |packet| is_media(packet, &[131]));
    assert_eq!(bench.delivered_at(131), ms(134), "the row's last packet, then its FEC packet");
    assert_eq!(bench.delivered_at(132), ms(134));
    assert_eq!(bench.delivered_at(135), ms(135));
    assert_eq!(bench.decoder.fec_counters().recovered_by_row, 1);
}

#[test]
fn without_its_row_a_packet_comes_back_with_its_column() {
    let sent = five_by_five();
    let bench = play(&sent, MS, |packet| is_media(packet, &[127]) || is_fec(packet, FecStream::Row, 125));
    assert_eq!(bench.delivered_at(127), ms(160), "the third column of the block from 125 on");
    assert_eq!(bench.decoder.fec_counters().recovered_by_column, 1);
}

#[test]
fn what_no_fec_packet_can_bring_back_is_given_up_when_it_cannot_be_late_any_more() {
    let square = [125, 126, 130, 131];
    let bench = play(&five_by_five(), MS, |packet| is_media(packet, &square));
    assert_eq!(bench.delivered_at(127), ms(132) + WINDOW, "131 is seen to be missing at 132");
    assert_eq!(bench.delivered_at(132), ms(132) + WINDOW);
    assert_eq!(bench.decoder.counters().lost, 4);
}

#[test]
fn rows_and_columns_help_each_other() {
    // 125 and 126 share a row, 126 and 131 a column.
    let lost = |packet: &Sent| is_media(packet, &[125, 126, 131]) || is_fec(packet, FecStream::Row, 130);
    let bench = play(&five_by_five(), MS, lost);
    assert_eq!(bench.delivered_at(125), ms(150), "by its column, then 126 by its row, then 131 by its column");
    assert_eq!(bench.delivered_at(131), ms(155));
    let fec = bench.decoder.fec_counters();
    assert_eq!((fec.recovered_by_column, fec.recovered_by_row, bench.decoder.counters().lost), (2, 1, 0));
}

#[test]
fn a_fec_packet_that_is_lost_is_waited_for_no_longer_than_a_packet_may_be_late() {
    let lost = |packet: &Sent| {
        is_media(packet, &[125, 126])
            || is_fec(packet, FecStream::Column, 125)
            || is_fec(packet, FecStream::Column, 126)
    };
    let bench = play(&five_by_five(), MS, lost);
    assert_eq!(bench.delivered_at(127), ms(156) + WINDOW, "column 126 was due before 156");
    let counters = bench.decoder.fec_counters();
    assert_eq!((bench.decoder.counters().lost, counters.column.lost, counters.row.lost), (2, 0, 0));
}

#[test]
fn a_packet_that_is_only_late_comes_before_anything_is_given_up() {
    let mut bench = Bench::new();
    let late = [125, 126, 130, 131];
    for packet in five_by_five() {
        if let Sent::Media(index) = packet {
            late.iter().filter(|late| index == **late + 14).for_each(|late| bench.media(ms(index), *late));
        }
        if !is_media(&packet, &late) {
            bench.send(bench.now.max(if let Sent::Media(index) = packet { ms(index) } else { bench.now }), &packet);
        }
    }
    let counters = bench.end();
    assert_eq!((counters.lost, counters.delivered), (0, 300));
}

#[test]
fn before_and_after_fec_packets_are_seen_the_reorder_window_is_all() {
    let sent: Vec<_> = (0..3000).map(Sent::Media).collect();
    let bench = play(&sent, MS, |packet| is_media(packet, &[100]));
    assert_eq!(bench.delivered_at(101), ms(101) + WINDOW);

    let stops = five_by_five().into_iter().chain((300..3000).map(Sent::Media)).collect::<Vec<_>>();
    let bench = play(&stops, MS, |packet| is_media(packet, &[2000]));
    assert_eq!(bench.delivered_at(2001), ms(2001) + WINDOW);
    assert_eq!(bench.decoder.delay(), WINDOW);
}

#[test]
fn no_packet_waits_longer_than_the_cap_in_a_slow_stream() {
    let lost =
        |packet: &Sent| is_media(packet, &[125, 126]) || matches!(packet, Sent::Fec(fec) if fec.members[0] > 100);
    let bench = play(&five_by_five(), ms(20), lost);
    assert_eq!(bench.delivered_at(127), ms(20) * 127 + MAX_DELAY);
}

#[test]
fn a_source_that_stops_behind_a_gap_is_waited_for_as_long_as_its_matrix_takes() {
    let mut sent = five_by_five();
    sent.retain(|packet| {
        matches!(packet, Sent::Media(index) if *index < 128) || matches!(packet, Sent::Fec(fec) if fec.members[0] < 75)
    });
    let mut bench = Bench::new();
    for (number, packet) in sent.iter().filter(|packet| !is_media(packet, &[126])).enumerate() {
        bench.send(
            bench.now.max(if let Sent::Media(index) = packet { ms(*index) } else { ms(number as u64 / 2) }),
            packet,
        );
    }
    let delay = bench.decoder.delay();
    assert!(
        (ms(75)..ms(130)).contains(&delay),
        "50 packets of 1 ms, half as much again, the reorder window: {delay:?}"
    );
    bench.pass_time(ms(127) + delay);
    assert_eq!(bench.delivered.last().map(|(at, _, index, _)| (*at, *index)), Some((ms(127) + delay, 127)));
}

#[test]
fn a_fec_packet_read_before_its_media_recovers_nothing_that_comes() {
    let sent = five_by_five();
    let mut bench = Bench::new();
    let mut at = Duration::ZERO;
    // Three media packets later than sent, as when the FEC port is read first.
    let (mut held, mut lost) = (std::collections::VecDeque::new(), 0);
    for packet in &sent {
        match packet {
            Sent::Media(index) => {
                held.push_back(*index);
                at = ms(*index);
                if held.len() > 3 {
                    bench.media(
                        at,
                        held.pop_front().filter(|index| *index != 129).unwrap_or_else(|| {
                            lost += 1;
                            128
                        }),
                    );
                }
            }
            Sent::Fec(fec) => bench.fec(at, fec.stream, &fec.packet).unwrap(),
        }
    }
    assert_eq!(
        (lost, bench.delivered_at(129)),
        (1, ms(133)),
        "lost at the end of its row: known when the next one comes"
    );
    let counters = bench.end();
    assert_eq!((counters.recovered, counters.duplicate, counters.lost), (1, 1, 0));
}

/// FEC packets made field by field, each sent after the media packet that `sent_after` says.
fn made(
    total: u64,
    (l, d): (u64, u64),
    rows: bool,
    first_base: impl Fn(u64) -> u64,
    sent_after: impl Fn(u64, u64) -> u64,
) -> Vec<Sent> {
    let mut out: Vec<(u64, u64, Sent)> = (0..total).map(|index| (index, 0, Sent::Media(index))).collect();
    let packet = |index| media(SSRC, index);
    let mut columns: Vec<_> = (0..l)
        .flat_map(|column| {
            let bases = (first_base(column)..total.saturating_sub(l * d)).step_by((l * d) as usize);
            bases.map(|base| (sent_after(column, base + (d - 1) * l), base)).collect::<Vec<_>>()
        })
        .collect();
    columns.sort_unstable();
    for (number, (after, base)) in columns.into_iter().enumerate() {
        out.push((
            after,
            2,
            Sent::Fec(fec(FecStream::Column, 65_530_u16.wrapping_add(number as u16), base, l as u8, d as u8, packet)),
        ));
    }
    for (number, base) in (0..total.saturating_sub(l)).step_by(l as usize).enumerate().filter(|_| rows) {
        out.push((base + l - 1, 1, Sent::Fec(fec(FecStream::Row, number as u16, base, 1, l as u8, packet))));
    }
    out.sort_by_key(|(after, kind, _)| (*after, *kind));
    out.into_iter().map(|(.., sent)| sent).collect()
}

#[test]
fn columns_that_are_sent_later_and_later_are_used_as_well() {
    for (l, d, rows) in [(5, 5, true), (10, 10, true), (8, 5, false), (20, 5, true)] {
        let sent = made(900, (l, d), rows, |column| column, |column, last| last + l - column + d * column);
        for seed in 1..6 {
            let (_, lost, recovered) = simulate(&sent, seed, Network { loss: 20, ..Network::default() });
            assert!(recovered > 0 && lost >= recovered);
        }
    }
}

#[test]
fn columns_that_begin_one_row_after_each_other_are_used_as_well() {
    for (l, d, rows) in [(5, 5, true), (10, 10, true), (8, 5, false), (20, 5, false)] {
        let sent = made(900, (l, d), rows, |column| column * (l + 1), |_, last| last);
        for seed in 1..6 {
            let (_, lost, recovered) = simulate(&sent, seed, Network { loss: 10, ..Network::default() });
            assert!(recovered > 0 && lost >= recovered);
        }
    }
}

#[test]
fn a_matrix_that_changes_is_followed() {
    for seed in 1..20 {
        let mut sent = encoded(matrix(5, 5, true), 0..400, [Seq(65_500), Seq(9)]);
        sent.extend(encoded(matrix(10, 6, true), 400..1000, [Seq(7), Seq(40_000)]));
        sent.extend(encoded(matrix(3, 7, false), 1000..1600, [Seq(100), Seq(0)]));
        let (bench, _, recovered) = simulate(&sent, seed, Network { loss: 40, ..Network::default() });
        assert!(recovered > 20);
        assert_eq!(bench.decoder.matrix(bench.start + bench.now), (Some(3), Some(7)));
    }
}

#[test]
fn a_restart_is_protected_from_its_first_blocks_on() {
    let old = encoded(matrix(10, 10, true), 0..250, [Seq(0); 2]);
    let new = encoded_as(SSRC + 1, matrix(5, 5, true), 0..1200, [Seq(0); 2]);
    let mut bench = Bench::new();
    let mut at = Duration::ZERO;
    let lost = [203, 402, 403, 1100];
    for (ssrc, packet) in old.iter().map(|p| (SSRC, p)).chain(new.iter().map(|p| (SSRC + 1, p))) {
        bench.ssrc = ssrc;
        at += if matches!(packet, Sent::Media(_)) { PACE } else { Duration::ZERO };
        if !(ssrc != SSRC && is_media(packet, &lost)) {
            bench.send(at, packet);
        }
    }
    let counters = bench.end();
    assert_eq!((counters.restarts, counters.lost, counters.recovered, counters.ssrc), (1, 0, 4, SSRC + 1));
    assert_eq!(bench.delivered[250], (bench.delivered[250].0, SSRC + 1, 0, true));
    assert_eq!(bench.delivered.len(), 1450);
}

#[test]
fn late_lost_and_duplicate_fec_packets_are_counted() {
    let sent = encoded(matrix(5, 5, true), 0..1500, [Seq(65_530), Seq(0)]);
    let mut bench = Bench::new();
    for packet in &sent {
        match packet {
            Sent::Media(index) => bench.media(ms(*index), *index),
            Sent::Fec(fec) if [100, 101, 150].contains(&fec.members[0]) && fec.stream == FecStream::Column => {}
            Sent::Fec(fec) => {
                bench.send(bench.now, packet);
                if fec.members[0] == 105 {
                    bench.send(bench.now, packet);
                }
            }
        }
    }
    let Sent::Fec(oldest) = sent.iter().find(|packet| matches!(packet, Sent::Fec(_))).unwrap() else { unreachable!() };
    bench.fec(bench.now, FecStream::Row, &oldest.packet).unwrap();
    let counters = bench.decoder.fec_counters();
    assert_eq!((counters.column.lost, counters.row.lost), (3, 0));
    assert_eq!((counters.column.duplicate, counters.row.duplicate), (0, 1));
    assert_eq!((counters.row.received, counters.row.stray), (302, 1), "1500 packets ago");
    assert_eq!((counters.column.received, counters.column.invalid), (292, 0));
    bench.fec(bench.now, FecStream::Column, &[0x80; 40]).unwrap_err();
    assert_eq!(bench.decoder.fec_counters().column.invalid, 1);
}

#[test]
fn padding_contributing_sources_and_extension_are_recovered_with_the_rest() {
    let odd = |index: u64| {
        let mut packet = media(SSRC, index);
        if index.is_multiple_of(3) {
            packet[0] |= 0x31; // padding, extension, one contributing source
            packet.splice(12..12, [9, 9, 9, 9, 0xBE, 0xDE, 0, 0]);
            packet.extend([0, 2]);
        }
        packet
    };
    let mut decoder = Decoder::new(WINDOW);
    let (start, mut out) = (Instant::now(), Vec::new());
    for index in (0..9).filter(|index| *index != 3) {
        let packet = odd(index);
        decoder.handle_packet(start, &packet, &Header::parse(&packet).unwrap(), &mut out);
    }
    out.clear();
    let row = fec(FecStream::Row, 0, 2, 1, 4, odd);
    decoder.handle_fec(start, FecStream::Row, &row.packet, &mut out).unwrap();
    assert_eq!(out.len(), 6);
    assert_eq!(decoder.bytes(&out[0], &[]), odd(3));
}

/// A gap at 52, and its row's FEC packet changed.
fn lied(change: impl Fn(&mut Vec<u8>)) -> (RtpCounters, FecCounters) {
    let (mut bench, sent) = (Bench::new(), encoded(matrix(5, 5, true), 0..75, [Seq(0); 2]));
    for packet in sent.iter().filter(|packet| !is_media(packet, &[52])) {
        match packet {
            Sent::Fec(fec) if fec.stream == FecStream::Row && fec.members[0] == 50 => {
                let mut packet = fec.packet.clone();
                change(&mut packet);
                bench.fec(bench.now, FecStream::Row, &packet).unwrap();
            }
            packet => bench.send(bench.now + PACE, packet),
        }
    }
    (bench.end(), bench.decoder.fec_counters())
}

#[test]
fn a_fec_packet_that_lies_is_found_out_and_brings_back_nothing() {
    type Change = dyn Fn(&mut Vec<u8>);
    let (counters, fec) = lied(|_| {});
    assert_eq!((counters.recovered, fec.rejected), (1, 0), "the truth");
    let lies: [(&str, &Change); 7] = [
        ("longer than its payload", &|packet| packet[14] ^= 0x40),
        ("not a multiple of 188", &|packet| packet[15] ^= 1),
        ("no sync byte", &|packet| packet[28] ^= 1),
        ("another payload type", &|packet| packet[16] ^= 1),
        ("shorter than its members", &|packet| packet.truncate(100)),
        ("bytes behind the end", &|packet| packet.push(1)),
        ("a padding that is none", &|packet| packet[0] ^= 0x20),
    ];
    for (lie, change) in lies {
        let (counters, fec) = lied(change);
        assert_eq!((counters.recovered, counters.lost, fec.rejected), (0, 1, 1), "{lie}");
    }
}

#[test]
fn packets_of_other_senders_are_recovered_bit_by_bit() {
    for Capture { name, columns, rows, row_stream, packets } in CAPTURES {
        let datagrams = datagrams(packets);
        let media: Vec<&[u8]> = datagrams.iter().filter(|(port, _)| *port == 0).map(|(_, media)| *media).collect();
        let first = Header::parse(media[0]).unwrap().seq;
        let sets: Vec<Vec<u16>> = datagrams
            .iter()
            .filter(|(port, _)| *port != 0)
            .map(|(port, packet)| {
                let fec = FecHeader::parse(packet).unwrap();
                let (stream, offset, na) =
                    if *port == 2 { (FecStream::Column, columns, rows) } else { (FecStream::Row, 1, columns) };
                assert_eq!((fec.stream, fec.offset, fec.na), (stream, offset, na), "{name}");
                (0..u16::from(na)).map(|i| fec.base.add(i * u16::from(offset)).0.wrapping_sub(first.0)).collect()
            })
            .collect();
        let mut covered = 0;
        for lost in 1..media.len() - 1 {
            // The captures are shorter than this wait.
            let (mut decoder, start, mut out) = (Decoder::new(ms(500)), Instant::now(), Vec::new());
            let mut delivered = Vec::new();
            for (number, (port, datagram)) in
                datagrams.iter().filter(|(_, datagram)| *datagram != media[lost]).enumerate()
            {
                let at = start + MS * number as u32;
                match port {
                    0 => decoder.handle_packet(at, datagram, &Header::parse(datagram).unwrap(), &mut out),
                    2 => decoder.handle_fec(at, FecStream::Column, datagram, &mut out).unwrap(),
                    _ => decoder.handle_fec(at, FecStream::Row, datagram, &mut out).unwrap(),
                }
                delivered.extend(out.drain(..).map(|released| decoder.bytes(&released, datagram).to_vec()));
                decoder.recycle();
            }
            decoder.flush(&mut out);
            delivered.extend(out.drain(..).map(|released| decoder.bytes(&released, &[]).to_vec()));
            let recoverable = sets.iter().any(|set| set.contains(&(lost as u16)));
            covered += usize::from(recoverable);
            let wanted = media.iter().enumerate().filter(|(index, _)| recoverable || *index != lost);
            assert!(delivered.iter().eq(wanted.map(|(_, packet)| *packet)), "{name}, {lost}");
            assert_eq!(decoder.counters().recovered, u64::from(recoverable), "{name}, {lost}");
            assert_eq!(decoder.sees(FecStream::Row, start), row_stream, "{name}");
        }
        assert!(covered >= 24, "{name}: {covered}");
    }
}

/// Fuzz body: four bytes a step, media among genuine, changed and invented FEC packets. All media that comes is
/// delivered, in order, once; memory is bounded.
pub(crate) fn fuzz(data: &[u8]) {
    let Some(([l, d, kind], data)) = data.split_first_chunk::<3>() else { return };
    let l = u64::from(l % 20) + 1;
    let rows = (u64::from(d % 17) + 4).min(100 / l);
    let steps = data.as_chunks::<4>().0;
    let sent = encoded(matrix(l, rows, kind % 2 == 0 && l >= 4), 0..(steps.len() as u64).min(6000), [Seq(65_500); 2]);
    let (mut bench, mut arrived) = (Bench::new(), BTreeSet::new());
    for (packet, &[step, a, b, c]) in sent.iter().zip(steps) {
        bench.pass_time(bench.now + if step % 16 == 15 { ms(a.into()) } else { PACE });
        let at = bench.now;
        let port = FecStream::ALL[usize::from(a % 2)];
        match packet {
            Sent::Media(index) if *index > 0 && step % 8 == 1 => drop(bench.forgeable.insert(*index)),
            Sent::Media(index) => {
                arrived.insert(*index);
                bench.media(at, *index);
            }
            Sent::Fec(fec) => {
                let mut packet = fec.packet.clone();
                if step % 4 == 0 {
                    let place = usize::from(u16::from_be_bytes([a, b])) % packet.len();
                    packet[if step % 8 == 0 { place } else { place % 28 }] ^= c;
                }
                let _ = bench.fec(at, fec.stream, &packet);
            }
        }
        let newest = arrived.last().copied().unwrap_or(0);
        let base = seq(newest).wrapping_add_signed(i16::from(b.cast_signed()) * if step & 0x80 == 0 { 1 } else { 200 });
        if step % 8 >= 5 {
            let mut invented = vec![0x80, 0x60, c, a, 0, 0, 0, 0, 0, 0, 0, 0];
            invented.extend(base.to_be_bytes());
            invented.extend([0, a, 33, 0, 0, 0, 1, 2, 3, 4, a & 0x47, if step & 0x40 == 0 { 1 } else { b }, c, 0]);
            invented.resize(28 + usize::from(a) * 4, c);
            let _ = bench.fec(at, port, &invented);
        }
        if step % 8 == 4 {
            let _ = bench.fec(at, port, &[a, b, c, step].repeat(usize::from(step)));
        }
        assert!(bench.decoder.history().len() <= 2048 && bench.decoder.sets.len() <= 256);
    }
    bench.end();
    assert!(bench.indexes().is_superset(&arrived), "all media that came");
}

proptest! {
    #[test]
    fn no_enemy_on_the_fec_ports_harms_the_media(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz(&data);
    }
}

/// 4000 packets for each pattern, rate and matrix: lost, and what of it stays lost.
#[test]
fn residual_loss_by_pattern_rate_and_matrix() {
    use std::fmt::Write;
    let matrices = [(5, 5, true), (10, 10, true), (20, 5, true), (10, 10, false), (20, 5, false), (1, 10, false)];
    let mut grid = String::from("lost > unrecovered of 4000");
    let sent: Vec<_> = matrices.iter().map(|&(l, d, rows)| encoded(matrix(l, d, rows), 0..4000, [Seq(0); 2])).collect();
    for (l, d, rows) in matrices {
        write!(grid, " | {:>11}", format!("{l}x{d}{}", if rows { "+rows" } else { "" })).unwrap();
    }
    for (pattern, burst) in [("single", 1), ("bursts of 5", 5), ("bursts of 10", 10), ("bursts of 20", 20)] {
        for loss in [20, 100] {
            write!(grid, "\n{:<26}", format!("{pattern}, {}.{} %", loss / 10, loss % 10)).unwrap();
            for sent in &sent {
                let (_, lost, recovered) = simulate(sent, 7, Network { loss, burst, ..Network::default() });
                write!(grid, " | {:>11}", format!("{lost} > {}", lost - recovered)).unwrap();
            }
        }
    }
    insta::assert_snapshot!(grid);
}
