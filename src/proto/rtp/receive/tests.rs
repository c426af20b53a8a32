//! The receiver under a simulated network, in virtual time: every run is the same, and every run wraps.

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;
use crate::proto::rtp::header::FIXED_LEN;
use crate::proto::seq::Seq;

const WINDOW: Duration = Duration::from_millis(50);
const FIRST: u16 = 65_000;
const A: u32 = 0xAAAA_0000;
const B: u32 = 0xBBBB_0000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The receiver, and what came out of it: each batch's bytes are read at its end only, as a flow does.
struct Bench {
    receiver: RtpReceiver,
    start: Instant,
    out: Vec<Released>,
    /// SSRC, sequence number, discontinuity.
    delivered: Vec<(u32, u16, bool)>,
    sent: usize,
}

impl Bench {
    fn new(window: Duration) -> Self {
        let (receiver, start) = (RtpReceiver::new(window), Instant::now());
        Self { receiver, start, out: Vec::new(), delivered: Vec::new(), sent: 0 }
    }

    fn send(&mut self, at: Duration, ssrc: u32, seq: u16) {
        let timestamp = RtpTime(0xFFFF_0000).add(at);
        self.send_packet(at, &Header::new(33, Seq(seq), timestamp, ssrc), &[]);
    }

    fn send_packet(&mut self, at: Duration, header: &Header, more: &[u8]) {
        self.pass_time(at);
        let packet = [&header.write()[..], &header.seq.0.to_be_bytes(), more].concat();
        let header = Header::parse(&packet).unwrap();
        self.receiver.handle_packet(self.start + at, &packet, &header, &mut self.out);
        self.end_batch(&packet);
        self.sent += 1;
        if self.sent.is_multiple_of(HAND_OVER) {
            self.receiver = handed_over(&self.receiver);
        }
    }

    /// Call the receiver at each time it asks for, up to `at`.
    fn pass_time(&mut self, at: Duration) {
        while let Some(timeout) = self.receiver.poll_timeout().filter(|timeout| *timeout <= self.start + at) {
            self.receiver.handle_timeout(timeout, &mut self.out);
            assert!(self.receiver.poll_timeout().is_none_or(|next| next > timeout), "a timeout is dealt with");
            self.end_batch(&[]);
        }
    }

    fn end(&mut self) -> RtpCounters {
        self.receiver.flush(&mut self.out);
        self.end_batch(&[]);
        let counters = *self.receiver.counters();
        assert_eq!(
            counters.received,
            counters.delivered + counters.duplicate + counters.late + counters.stray,
            "every packet is in one place: {counters:?}"
        );
        assert_eq!(counters.delivered, self.delivered.len() as u64);
        assert_eq!(self.receiver.poll_timeout(), None);
        counters
    }

    fn end_batch(&mut self, now: &[u8]) {
        for released in self.out.drain(..) {
            let bytes = self.receiver.bytes(&released, now);
            let payload = &bytes[released.header.payload()];
            let seq = released.header.seq.0;
            assert_eq!(payload[..2], seq.to_be_bytes(), "the bytes are those of the packet");
            assert_eq!(bytes[..FIXED_LEN], released.header.write());
            self.delivered.push((released.header.ssrc, seq, released.discontinuity));
        }
        self.receiver.recycle();
    }

    fn seqs(&self) -> Vec<u16> {
        self.delivered.iter().map(|(_, seq, _)| *seq).collect()
    }
}

/// What the next process makes of what this one leaves to it. Machines are handed over amid every simulation: none must
/// notice.
pub(crate) fn handed_over<T: Serialize + DeserializeOwned>(machine: &T) -> T {
    rmp_serde::from_slice(&rmp_serde::to_vec_named(machine).unwrap()).unwrap()
}

/// So many packets come between two times at which a machine is handed over.
pub(crate) const HAND_OVER: usize = 397;

/// xorshift64*: seeded, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a network does to packets, in percent and times.
#[derive(Debug, Clone, Copy)]
struct Network {
    loss: u64,
    /// One packet in a thousand begins a burst of this many lost ones; 200 at least come between two bursts.
    burst: u64,
    duplicates: u64,
    jitter: Duration,
}

const SENT: u64 = 4000;

/// Send 4000 packets, one every 500 us, over a network; the first comes first, and the last comes last.
fn simulate(seed: u64, network: Network, window: Duration) -> (Vec<u64>, u64, RtpCounters) {
    let (mut random, mut arrivals, mut burst, mut quiet) = (Random(seed << 8 | 1), Vec::new(), 0, 0);
    for index in 0..SENT {
        let sent = Duration::from_micros(index * 500);
        if index == 0 || index == SENT - 1 {
            arrivals.push((sent + if index == 0 { Duration::ZERO } else { network.jitter }, index));
            continue;
        }
        if (quiet..SENT - 1000).contains(&index) && network.burst > 0 && random.below(1000) == 0 {
            burst = index + network.burst;
            quiet = burst + 200;
        }
        if index < burst || random.chance(network.loss) {
            continue;
        }
        for _ in 0..=u64::from(random.chance(network.duplicates)) {
            let jitter = random.below(network.jitter.as_micros() as u64 + 1);
            arrivals.push((sent + Duration::from_micros(jitter), index));
        }
    }
    arrivals.sort_unstable();
    let mut bench = Bench::new(window);
    for &(at, index) in &arrivals {
        bench.send(at, A, FIRST.wrapping_add(index as u16));
    }
    let counters = bench.end();
    assert_eq!(counters.received, arrivals.len() as u64);
    let delivered = bench.seqs().iter().map(|seq| u64::from(seq.wrapping_sub(FIRST))).collect();
    arrivals.sort_unstable_by_key(|(_, index)| *index);
    arrivals.dedup_by_key(|(_, index)| *index);
    (delivered, arrivals.len() as u64, counters)
}

#[test]
fn everything_that_arrives_within_the_window_is_delivered_once_and_in_order() {
    for seed in 1..=60 {
        let network = Network {
            loss: [0, 1, 10, 30][seed as usize % 4],
            burst: [0, 20, 300][seed as usize % 3],
            duplicates: [0, 5, 40][seed as usize / 4 % 3],
            jitter: ms([0, 3, 20, 45][seed as usize / 2 % 4]),
        };
        let (delivered, arrived, counters) = simulate(seed, network, WINDOW);
        assert!(delivered.is_sorted_by(|a, b| a < b), "seed {seed}: in order, and nothing twice");
        assert_eq!(delivered.len() as u64, arrived, "seed {seed} {network:?}: {counters:?}");
        assert_eq!(counters.lost + counters.delivered, SENT, "seed {seed}");
        assert_eq!((counters.late, counters.stray, counters.restarts), (0, 0, 0), "seed {seed} {network:?}");
    }
}

#[test]
fn what_comes_after_the_window_is_late_and_never_out_of_order() {
    let mut late = 0;
    for seed in 1..=60 {
        let network = Network { loss: seed % 10, burst: seed % 50, duplicates: seed % 20, jitter: ms(5 + seed % 40) };
        let (delivered, _, counters) = simulate(seed, network, ms(seed % 4));
        assert!(delivered.is_sorted_by(|a, b| a < b), "seed {seed}: in order, and nothing twice");
        assert_eq!(counters.lost + counters.delivered, SENT, "seed {seed}: {counters:?}");
        assert_eq!(counters.restarts, 0, "seed {seed}: {counters:?}");
        late += counters.late;
    }
    assert!(late > 1000, "{late}");
}

#[test]
fn packets_in_order_are_never_copied() {
    let mut receiver = RtpReceiver::new(WINDOW);
    let (start, mut out) = (Instant::now(), Vec::new());
    for index in 0..3000 {
        let header = Header::new(33, Seq(FIRST).add(index), RtpTime(0), A);
        let arrival = start + ms(index.into());
        receiver.handle_packet(arrival, &header.write(), &header, &mut out);
        assert_eq!(
            out.pop(),
            Some(Released { place: Place::Now, header, arrival, recovered: false, discontinuity: false })
        );
        assert_eq!(receiver.poll_timeout(), None);
    }
}

#[test]
fn a_packet_waits_for_the_one_before_it_and_no_longer_than_the_window() {
    let mut bench = Bench::new(WINDOW);
    [(0, 65_534), (1, 65_535), (3, 1), (4, 2)].into_iter().for_each(|(at, seq)| bench.send(ms(at), A, seq));
    assert_eq!(bench.seqs(), [65_534, 65_535]);
    assert_eq!(bench.receiver.poll_timeout(), Some(bench.start + ms(3) + WINDOW));
    bench.send(ms(10), A, 0);
    assert_eq!(bench.seqs(), [65_534, 65_535, 0, 1, 2]);
    bench.send(ms(11), A, 4);
    bench.pass_time(ms(60));
    assert_eq!(bench.delivered.len(), 5);
    bench.pass_time(ms(61));
    assert_eq!(bench.seqs()[5..], [4]);
    bench.send(ms(62), A, 3);
    bench.send(ms(63), A, 4);
    let counters = bench.end();
    assert_eq!((counters.lost, counters.late, counters.duplicate, counters.reordered), (1, 1, 1, 1));
}

#[test]
fn without_a_window_nothing_is_held() {
    let mut bench = Bench::new(Duration::ZERO);
    [(0, 10), (1, 12), (2, 11), (3, 12), (4, 13)].into_iter().for_each(|(at, seq)| bench.send(ms(at), A, seq));
    assert_eq!(bench.seqs(), [10, 12, 13]);
    let counters = bench.end();
    assert_eq!((counters.lost, counters.late, counters.duplicate), (1, 1, 1));
}

#[test]
fn a_shorter_window_holds_at_once_for_what_waits() {
    let mut bench = Bench::new(ms(500));
    [(0, 10), (1, 12)].into_iter().for_each(|(at, seq)| bench.send(ms(at), A, seq));
    bench.receiver.set_window(ms(5));
    bench.pass_time(ms(6));
    assert_eq!(bench.seqs(), [10, 12]);
}

/// 20 packets of a running stream, 5 ms apart, the last one at 95 ms with sequence number 19.
fn running() -> Bench {
    let mut bench = Bench::new(WINDOW);
    (0..20).for_each(|n| bench.send(ms(n * 5), A, n as u16));
    bench
}

fn assert_restart_loses_nothing(mut bench: Bench, ssrc: u32, first: u16) {
    let before = bench.delivered.len();
    (0..20).for_each(|n| bench.send(ms(100 + n * 5), ssrc, first.wrapping_add(n as u16)));
    let counters = bench.end();
    assert_eq!((counters.restarts, counters.lost, counters.ssrc), (1, 0, ssrc));
    let fresh: Vec<_> = (0..20).map(|n| (ssrc, first.wrapping_add(n), n == 0)).collect();
    assert_eq!(bench.delivered[before..], fresh, "all of the new stream, the first one marked");
}

#[test]
fn a_new_ssrc_is_a_restart_that_loses_nothing() {
    assert_restart_loses_nothing(running(), B, 65_530);
    assert_restart_loses_nothing(running(), B, 20);
}

#[test]
fn a_jump_in_sequence_is_a_restart_that_loses_nothing() {
    assert_restart_loses_nothing(running(), A, 19 + 3001);
    assert_restart_loses_nothing(running(), A, 40_000);
    assert_restart_loses_nothing(running(), A, 65_000);
}

#[test]
fn a_restart_delivers_what_waited_first() {
    let mut bench = running();
    bench.send(ms(98), A, 21);
    assert_eq!(bench.delivered.len(), 20);
    [(100, 7), (101, 8)].into_iter().for_each(|(at, seq)| bench.send(ms(at), B, seq));
    bench.pass_time(ms(300));
    assert_eq!(bench.delivered[20..], [(A, 21, false), (B, 7, true), (B, 8, false)]);
    assert_eq!(bench.end().lost, 1);
}

#[test]
fn a_restart_out_of_order_is_put_in_order() {
    let mut bench = running();
    [(100, 8), (101, 7), (102, 10), (103, 9)].into_iter().for_each(|(at, seq)| bench.send(ms(at), B, seq));
    bench.pass_time(ms(300));
    assert_eq!(bench.seqs()[20..], [7, 8, 9, 10]);
}

#[test]
fn a_single_wild_packet_restarts_nothing() {
    for (ssrc, seq) in [(A, 30_000), (A, 5000), (A, 60_000), (B, 20)] {
        let mut bench = running();
        bench.send(ms(97), ssrc, seq);
        (20..60).for_each(|n| bench.send(ms(n * 5), A, n as u16));
        let counters = bench.end();
        assert_eq!((counters.stray, counters.restarts, counters.lost), (1, 0, 0), "{seq}");
        assert_eq!(bench.seqs(), (0..60).collect::<Vec<_>>(), "{seq}");
    }
}

#[test]
fn a_second_sender_on_the_port_never_takes_turns_with_the_first() {
    let mut bench = running();
    for n in 20..500 {
        bench.send(ms(n * 5), A, n as u16);
        bench.send(ms(n * 5 + 1), B, 3 * n as u16);
        bench.send(ms(n * 5 + 2), B, 3 * n as u16 + 1);
    }
    (500..520).for_each(|n| bench.send(ms(n * 5), A, n as u16));
    let counters = bench.end();
    assert_eq!((counters.stray, counters.restarts, counters.lost), (960, 0, 0));
    assert!(bench.delivered.iter().all(|(ssrc, ..)| *ssrc == A));
}

#[test]
fn the_second_sender_takes_over_when_the_first_falls_silent() {
    let mut bench = running();
    for n in 20..60_u16 {
        bench.send(ms(u64::from(n) * 5), B, n);
        if n < 40 {
            bench.send(ms(u64::from(n) * 5 + 2), A, n);
        }
    }
    let counters = bench.end();
    assert_eq!((counters.restarts, counters.ssrc, counters.lost), (1, B, 0));
    assert_eq!(counters.stray, 20, "those of the time before");
    assert_eq!(bench.delivered[40], (B, 40, true));
}

#[test]
fn a_slow_stream_is_not_replaced_in_its_own_pauses() {
    let mut bench = Bench::new(WINDOW);
    for n in 0..50 {
        bench.send(ms(n * 100), A, n as u16);
        [30, 40].into_iter().for_each(|at| bench.send(ms(n * 100 + at), B, n as u16 + (at / 10) as u16));
    }
    // The first pair comes before the stream's pace is known.
    assert!(bench.end().restarts <= 2);
}

#[test]
fn an_outage_is_loss_and_no_restart() {
    let mut bench = running();
    // 200 packets a second for 25 s: 5000 of them are lost, more than MAX_DROPOUT.
    (5020..5040).for_each(|n| bench.send(ms(n * 5), A, n as u16));
    let counters = bench.end();
    assert_eq!((counters.lost, counters.restarts, counters.delivered), (5000, 0, 40));
}

#[test]
fn a_long_burst_is_loss_and_no_restart() {
    let mut bench = running();
    (1020..1100).for_each(|n| bench.send(ms(100 + n / 100), A, n as u16));
    let counters = bench.end();
    assert_eq!((counters.lost, counters.restarts, counters.delivered), (1000, 0, 100));
}

#[test]
fn a_late_burst_is_late_and_no_restart() {
    let mut bench = Bench::new(ms(10));
    let us = Duration::from_micros;
    (0..1000).for_each(|n| bench.send(us(n * 500), A, n as u16));
    (1300..2000).for_each(|n| bench.send(us(n * 500), A, n as u16));
    (1000..1200).for_each(|n| bench.send(us(2000 * 500 + n), A, n as u16));
    (2000..3000).for_each(|n| bench.send(us(n * 500 + 1300), A, n as u16));
    let counters = bench.end();
    assert_eq!((counters.late, counters.lost, counters.restarts, counters.stray), (200, 300, 0, 0));
}

#[test]
fn memory_used_up_costs_the_gap_and_not_the_packets_behind_it() {
    let mut bench = Bench::new(ms(10_000));
    let packet = vec![0; 60_000];
    for seq in std::iter::once(0).chain(2..400) {
        let header = Header::new(33, Seq(seq), RtpTime(0), A);
        bench.send_packet(ms(seq.into()), &header, &packet);
    }
    let counters = bench.end();
    assert_eq!((counters.lost, counters.delivered, counters.late), (1, 399, 0));
}

#[test]
fn the_receiver_goes_on_after_a_flush() {
    let mut bench = running();
    bench.send(ms(97), A, 21);
    bench.end();
    bench.send(ms(100), A, 22);
    assert_eq!(bench.seqs()[20..], [21, 22]);
}

/// Fuzz body: five bytes a packet (time, kind and size of the step, sequence), then the invariants.
pub(crate) fn fuzz(data: &[u8]) {
    let Some((&window, data)) = data.split_first() else { return };
    let mut bench = Bench::new(ms(window.into()));
    let (mut at, mut seq) = (Duration::ZERO, FIRST);
    for &[step, kind, a, b, c] in data.as_chunks::<5>().0 {
        at += Duration::from_micros(u64::from(step) * u64::from(step) * 4);
        let wild = u16::from_be_bytes([a, b]);
        let shown = match kind % 8 {
            0..=4 => {
                seq = seq.wrapping_add(1);
                seq
            }
            5 => seq.wrapping_sub(u16::from(a % 16)),
            6 => seq.wrapping_add(wild % 256),
            _ => wild,
        };
        let mut header =
            Header::new(33, Seq(shown), RtpTime(u32::from_be_bytes([a, b, c, kind])), A + u32::from(kind / 8 % 2));
        header.marker = c & 1 != 0;
        bench.send_packet(at, &header, &[]);
        if kind & 0x80 != 0 {
            bench.pass_time(at + ms(c.into()));
            at += ms(c.into());
        }
    }
    let counters = bench.end();
    let epochs = bench.delivered.split(|(.., discontinuity)| *discontinuity);
    assert_eq!(bench.delivered.iter().filter(|(.., fresh)| *fresh).count() as u64, counters.restarts);
    for epoch in epochs {
        let forward = |pair: &[(u32, u16, bool)]| Seq(pair[1].1).distance(Seq(pair[0].1)) > 0 && pair[0].0 == pair[1].0;
        assert!(epoch.windows(2).all(forward), "in order, nothing twice, one SSRC");
    }
}

proptest! {
    #[test]
    fn no_traffic_breaks_the_order(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz(&data);
    }
}

proptest! {
    // Each case is 4000 packets.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_steady_network_is_accounted_for(seed in 1_u64..1 << 40, loss in 0_u64..60, burst in 0_u64..400, duplicates in 0_u64..60, jitter in 0_u64..80, window in 0_u64..80) {
        let network = Network { loss, burst, duplicates, jitter: ms(jitter) };
        let (delivered, arrived, counters) = simulate(seed, network, ms(window));
        prop_assert!(delivered.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(counters.lost + counters.delivered, SENT);
        prop_assert!(counters.delivered <= arrived);
        if jitter <= window {
            // Under heavy loss, so few may come between two bursts that none is sure to belong to the stream.
            prop_assert!(counters.delivered + counters.stray >= arrived);
        }
    }
}
