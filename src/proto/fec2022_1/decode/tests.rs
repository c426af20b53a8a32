//! The decoder in virtual time, against a solver that tries everything: every run is the same, and every run wraps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proto::fec2022_1::encode::Encoder;
use crate::proto::fec2022_1::matrix::Matrix;
use crate::proto::fec2022_1::testing::{FIRST, Fec, SSRC, fec, media, recoverable, seq};
use crate::proto::rtp::receive::Place;
use crate::proto::rtp::receive::tests::Random;

const WINDOW: Duration = Duration::from_millis(20);
/// From one media packet to the next.
const PACE: Duration = Duration::from_micros(100);

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
    let (mut encoder, mut sent, start) = (Encoder::new(matrix, first), Vec::new(), packets.start);
    for index in packets {
        let packet = media(SSRC, index);
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
    /// Released bytes may be forged: there is an enemy.
    enemy: bool,
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
            enemy: false,
        }
    }

    fn media(&mut self, at: Duration, index: u64) {
        self.pass_time(at);
        let packet = media(self.ssrc, index);
        let header = Header::parse(&packet).unwrap();
        self.decoder.handle_packet(self.start + at, &packet, &header, &mut self.out);
        self.end_batch(&packet);
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
            if !self.enemy {
                assert_eq!(bytes, media(self.ssrc, index), "bit by bit what was sent");
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
#[derive(Debug, Clone, Copy, Default)]
struct Network {
    /// Chance of media and FEC packets, in 1/1000.
    loss: u64,
    /// Media packets lost in one go.
    burst: u64,
    /// Percent.
    duplicates: u64,
    jitter: Duration,
}

/// Send over a network; the first and the last 300 packets of media come. What was lost and what should be recovered
/// is checked against the solver. Media lost, recovered.
fn simulate(sent: &[Sent], seed: u64, network: Network) -> (Bench, u64, u64) {
    let (mut random, mut arrivals, mut lost, mut sets) =
        (Random(seed << 8 | 1), Vec::new(), BTreeSet::new(), Vec::new());
    let total = sent.iter().filter(|sent| matches!(sent, Sent::Media(_))).count() as u64;
    let (mut media_sent, mut burst_left) = (0, 0);
    for packet in sent {
        let at = PACE * media_sent as u32;
        let spared = media_sent == 0 || media_sent + 300 > total;
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
    arrivals.sort_by_key(|(at, number, _)| (*at, *number));
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
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_can_be_recovered_is_recovered_and_nothing_else_is_lost(
        l in 1_u64..=20, d in 4_u64..=20, row_stream: bool,
        loss in 0_u64..300, burst in 0_u64..25, first: u16, seed in 0_u64..1 << 40,
    ) {
        let d = d.min(100 / l);
        let sent = encoded(matrix(l, d, row_stream && l >= 4), 0..900, [Seq(first), Seq(first)]);
        simulate(&sent, seed, Network { loss, burst, ..Network::default() });
    }

    #[test]
    fn jitter_and_duplicates_change_nothing(
        l in 4_u64..=10, d in 4_u64..=10, row_stream: bool,
        loss in 0_u64..200, duplicates in 0_u64..30, jitter in 0_u64..18, seed in 0_u64..1 << 40,
    ) {
        let sent = encoded(matrix(l, d, row_stream), 0..900, [Seq(65_530), Seq(3)]);
        simulate(&sent, seed, Network { loss, duplicates, jitter: ms(jitter), burst: 0 });
    }
}

#[test]
fn every_single_loss_is_recovered() {
    for (l, d, row_stream) in
        [(1, 4, false), (4, 4, true), (20, 5, true), (20, 5, false), (5, 20, true), (1, 20, false)]
    {
        let sent = encoded(matrix(l, d, row_stream), 0..4 * l * d, [Seq(0); 2]);
        for lost in 1..2 * l * d {
            let mut bench = Bench::new();
            for (at, packet) in
                sent.iter().enumerate().filter(|(_, packet)| !matches!(packet, Sent::Media(index) if *index == lost))
            {
                bench.send(PACE * at as u32, packet);
            }
            let counters = bench.end();
            assert_eq!((counters.lost, counters.recovered), (0, 1), "{l} x {d}, {lost}");
        }
    }
}
