//! What cannot be, and what was made up.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::super::control::{Ack, Control, LossRange, write_nak};
use super::super::super::seq::Timestamp;
use super::super::super::testing::*;
use super::super::*;

const PATH: Path = Path { jitter: MS, ..Path::of(20).losing(Loss::Random(20)) };
/// Packets of a stream, one a millisecond.
const PACKETS: u64 = 2000;

/// A stream with losses, into which packets are forged while it runs: for each end, what to do with the numbers of the
/// data that end 0 sends, and how many of those forged are refused.
fn stream_withstands(name: &str, to: usize, refused: u64, forge: impl Fn(SeqNo) -> Vec<Vec<u8>>) {
    let setup = Setup::new(1, PATH, 400);
    let mut pair = setup.pair();
    pair.send(0, PACKETS, 1000);
    let mut forged = 0;
    for step in 1..20 {
        pair.run(100 * MS);
        // About where the stream is.
        for packet in forge(setup.isn.add(step * 100)) {
            pair.forge(to, &packet);
            forged += 1;
        }
    }
    pair.run(2 * S);
    assert_eq!((pair.lost(), pair.ends[1].gaps), (0, 0), "{name}");
    assert_eq!(pair.stats(to).invalid, forged * refused, "{name}");
    assert!(pair.stats(to).rtt < Duration::from_millis(80), "{name}: {:?}", pair.stats(to).rtt);
    let resent = pair.stats(0).sent.retransmitted;
    assert!((20..250).contains(&resent), "{name}: {resent} sent again");
}

fn control(to: usize, control: &Control<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    control.write(Timestamp(0x1234_5678), SocketId(1 + to as u32), &mut packet);
    packet
}

fn ack(seq: SeqNo, room: u32) -> Vec<u8> {
    let (rtt, rtt_var) = (Duration::from_micros(u64::from(u32::MAX)), Duration::from_micros(u64::from(u32::MAX)));
    control(0, &Control::Ack(Ack { number: 0xFFFF_FFFF, seq, rtt, rtt_var, free_packets: room, rates: None }))
}

fn nak(first: SeqNo, last: SeqNo) -> Vec<u8> {
    let mut packet = Vec::new();
    write_nak(Timestamp(0), SocketId(1), [LossRange { first, last }], 1472, &mut packet);
    packet
}

fn raw(to: usize, type_and_body: &[u32]) -> Vec<u8> {
    let (head, body) = type_and_body.split_at(2);
    let words = head.iter().copied().chain([0, 1 + to as u32]).chain(body.iter().copied());
    words.flat_map(u32::to_be_bytes).collect()
}

#[test]
fn acknowledgements_of_what_was_never_sent_change_nothing() {
    for ahead in [1000, 100_000, 0x3FFF_0000] {
        stream_withstands("beyond", 0, 1, move |near| vec![ack(near.add(ahead), 8192)]);
        stream_withstands("light", 0, 1, move |near| vec![control(0, &Control::LightAck(near.add(ahead)))]);
    }
    for behind in [3000, 100_000, 0x3FFF_0000] {
        stream_withstands("long ago", 0, 0, move |near| vec![ack(near.sub(behind), 0)]);
        stream_withstands("light", 0, 0, move |near| vec![control(0, &Control::LightAck(near.sub(behind)))]);
    }
    stream_withstands("malformed", 0, 1, |near| {
        let seq = near.value();
        vec![
            raw(0, &[0x8002_0000, 1, seq | 0x8000_0000, 1, 1, 1]),
            raw(0, &[0x8002_0000, 1, seq, 1]),
            raw(0, &[0x8002_0000, 1]),
            raw(0, &[0x8002_0000, 1, seq, 1, 1, 1, 1, 1, 1, 1, 1]),
        ]
    });
}

#[test]
fn reports_of_what_was_never_sent_change_nothing() {
    stream_withstands("beyond", 0, 1, |near| vec![nak(near.add(1000), near.add(1000))]);
    stream_withstands("reaches beyond", 0, 1, |near| vec![nak(near.sub(10), near.add(1000))]);
    stream_withstands("long ago", 0, 0, |near| vec![nak(near.sub(5000), near.sub(4000))]);
    stream_withstands("half a turn", 0, 1, |near| vec![nak(near.sub(0x2000_0000), near.add(0x1FFF_0000))]);
    stream_withstands("malformed", 0, 1, |near| {
        let seq = near.value();
        vec![
            raw(0, &[0x8003_0000, 0]),
            raw(0, &[0x8003_0000, 0, seq | 0x8000_0000]),
            raw(0, &[0x8003_0000, 0, seq | 0x8000_0000, near.sub(1).value()]),
            raw(0, &[0x8003_0000, 0, seq | 0x8000_0000, seq | 0x8000_0000]),
        ]
    });
}

#[test]
fn drop_requests_of_what_is_nowhere_near_change_nothing() {
    let drop = |first, last| vec![control(1, &Control::DropRequest { message: MsgNo::NONE, first, last })];
    stream_withstands("beyond", 1, 1, |near| drop(near.add(5000), near.add(6000)));
    stream_withstands("far beyond", 1, 1, |near| drop(near, near.add(0x2000_0000)));
    stream_withstands("from long ago", 1, 1, |near| drop(near.sub(0x1000_0000), near));
    stream_withstands("delivered", 1, 0, |near| drop(near.sub(3000), near.sub(1000)));
    stream_withstands("inverted", 1, 1, |near| drop(near.add(10), near));
}

#[test]
fn answers_to_what_was_never_asked_change_nothing() {
    stream_withstands("ACKACK", 1, 1, |near| vec![control(1, &Control::AckAck(near.value() | 0x4000_0000))]);
    stream_withstands("KMRSP", 0, 1, |_| vec![control(0, &Control::KmResponse(&[1; 72]))]);
    stream_withstands("KMREQ", 1, 0, |_| vec![control(1, &Control::KmRequest(&[1; 1400]))]);
    stream_withstands("peer error", 0, 0, |_| vec![control(0, &Control::PeerError(4000))]);
    stream_withstands("congestion", 0, 0, |_| vec![control(0, &Control::CongestionWarning)]);
    stream_withstands("unknown", 0, 0, |_| vec![control(0, &Control::Other { kind: 99, subtype: 0 })]);
    stream_withstands("handshake", 1, 1, |near| vec![control(1, &Control::Handshake(&near.value().to_be_bytes()))]);
    stream_withstands("keepalive", 1, 0, |_| vec![control(1, &Control::KeepAlive)]);
}

#[test]
fn what_is_for_another_socket_changes_nothing() {
    stream_withstands("data", 1, 1, |near| vec![data(near.add(1), Timestamp(0), SocketId(77), 24)]);
    stream_withstands("data of a filter", 1, 1, |near| {
        let mut packet = data(near.add(1), Timestamp(0), SocketId(2), 24);
        packet[4..8].copy_from_slice(&0xC000_0000_u32.to_be_bytes());
        vec![packet]
    });
    stream_withstands("too long", 1, 1, |near| vec![data(near.add(1), Timestamp(0), SocketId(2), 1457)]);
    stream_withstands("shutdown", 1, 1, |_| {
        let mut packet = Vec::new();
        Control::Shutdown.write(Timestamp(0), SocketId(77), &mut packet);
        vec![packet]
    });
}

fn data(seq: SeqNo, timestamp: Timestamp, to: SocketId, bytes: usize) -> Vec<u8> {
    let mut packet = DataHeader::live(seq, MsgNo::FIRST, timestamp, to).write().to_vec();
    packet.extend(vec![0xEE; bytes]);
    packet
}

#[test]
fn data_with_numbers_from_elsewhere_is_dropped_and_counted() {
    for jump in [9000, 100_000, 0x3000_0000, 0x7000_0000] {
        let name = format!("by {jump:#x}");
        stream_withstands(&name, 1, 0, move |near| {
            // Four in a row, with a time stamp of now, and many more that stand alone.
            let stamp = Timestamp::after(Duration::from_millis(u64::from(near.sub(0x7FFF_F000).value())));
            let row = (0..4).map(move |n| data(near.add(jump + n), stamp, SocketId(2), 24));
            let alone = (0..50).map(move |n| data(near.add(jump + 10_000 * n), stamp, SocketId(2), 24));
            row.chain(alone).collect()
        });
    }
}

/// What libsrt does after a stall that was longer than its buffer: it goes on with numbers that lie far ahead. And what a
/// confused one does.
#[test]
fn a_peer_whose_numbers_really_jumped_is_followed() {
    for jump in [9000, 1_000_000, 0x3FFF_0000, 0x7FFF_0000, 0x5000_0000] {
        let setup = Setup::new(1, Path::of(20), 120);
        let base = Instant::now();
        let mut connection = Connection::new(setup.negotiated(1, base), &setup.config, base);
        let (mut delivered, mut asked, mut out) = (Vec::new(), BTreeSet::new(), Vec::new());
        for n in 0..2000_u32 {
            let now = base + Duration::from_millis(u64::from(n) + 20);
            let seq = setup.isn.add(if n < 1000 { n } else { n + jump });
            let stamp = Timestamp(n * 1000);
            connection.handle_datagram(now, now, &data(seq, stamp, SocketId(2), 24));
            connection.handle_timeout(now);
            connection.release(now);
            delivered.extend(connection.released().map(|packet| packet.seq));
            connection.recycle();
            while connection.poll_control(now, &mut out) {
                if let Ok(Packet::Control { control: Control::Nak(losses), .. }) = Packet::parse(&out) {
                    asked.extend(losses.ranges().map(|range| (range.first.value(), range.packets())));
                    assert!(losses.ranges().all(|range| range.last.is_before(seq) && range.packets() < 300));
                }
                out.clear();
            }
        }
        // Those that came until what was there before was delivered are missing, and were asked for.
        let stats = connection.stats(base + Duration::from_secs(3)).received;
        let after =
            delivered.iter().filter(|seq| !seq.is_before(setup.isn.add(1000 + jump)) || jump > 0x7000_0000).count();
        assert_eq!(stats.jumps, 1, "by {jump:#x}: {stats:?}");
        assert!(delivered.len() > 1600 && after > 700, "by {jump:#x}: {} and {after}", delivered.len());
        let asked: Vec<_> = asked.into_iter().collect();
        assert_eq!(asked.len(), 1, "by {jump:#x}: {asked:?}");
        assert!((100..200).contains(&asked[0].1), "by {jump:#x}: {asked:?}");
        assert!(delivered.is_sorted_by(|a, b| b.distance(*a) > 0 || jump > 0x3FFF_FFFF));
    }
}

#[test]
fn a_sender_that_gives_up_more_than_the_buffer_holds_is_followed() {
    let setup = Setup::new(1, Path::of(20), 120);
    // With nothing in the buffer, and with something that waits.
    for waits in [false, true] {
        let mut pair = setup.pair();
        pair.run(20 * MS);
        let stamp = |pair: &Pair| Timestamp((pair.now - 20 * MS) as u32);
        let mut packet = data(setup.isn, stamp(&pair), SocketId(2), 24);
        packet[16..40].copy_from_slice(&payload(FIRST_INDEX, 24));
        pair.forge(1, &packet);
        pair.run(if waits { 10 * MS } else { 200 * MS });
        let (first, last) = (setup.isn.add(1), setup.isn.add(20_000));
        pair.forge_after(1, last.next());
        pair.forge_control(1, &Control::DropRequest { message: MsgNo::NONE, first, last });
        pair.run(200 * MS);
        let mut packet = data(last.next(), stamp(&pair), SocketId(2), 24);
        packet[16..40].copy_from_slice(&payload(FIRST_INDEX + 1, 24));
        pair.forge(1, &packet);
        pair.run(200 * MS);
        let stats = pair.stats(1).received;
        assert_eq!((pair.ends[1].delivered, pair.ends[1].gaps), (2, 20_000), "{stats:?}");
        assert_eq!((stats.dropped, stats.jumps, stats.naks, stats.no_room), (20_000, 1, 0, 0), "{stats:?}");
    }
}

#[test]
fn what_the_sender_gave_up_is_asked_for_no_more_and_acknowledged() {
    let setup = Setup::new(1, Path::of(20), 2000);
    let mut pair = setup.pair();
    pair.run(20 * MS);
    for n in [0, 5] {
        pair.forge(1, &data(setup.isn.add(n), Timestamp(0), SocketId(2), 24));
    }
    pair.run(100 * MS);
    assert!(pair.stats(1).received.naks >= 1);
    pair.forge_control(1, &Control::DropRequest { message: MsgNo::NONE, first: setup.isn, last: setup.isn.add(4) });
    let naks = pair.stats(1).received.naks;
    let mut acked = Vec::new();
    let now = pair.ends[1].instant(pair.now + 20 * MS);
    let mut out = Vec::new();
    while pair.ends[1].connection.poll_control(now, &mut out) {
        if let Ok(Packet::Control { control: Control::Ack(ack), .. }) = Packet::parse(&out) {
            acked.push(ack.seq);
        }
        out.clear();
    }
    assert_eq!(acked, [setup.isn.add(6)]);
    assert_eq!(pair.stats(1).received.naks, naks);
    // It may come all the same.
    pair.forge(1, &data(setup.isn.add(2), Timestamp(0), SocketId(2), 24));
    assert_eq!((pair.stats(1).buffered, pair.stats(1).received.duplicates), (3, 0));
}

#[test]
fn a_time_stamp_that_lies_far_ahead_does_not_hold_up_what_follows() {
    let setup = Setup::new(1, Path::of(20), 120);
    let mut pair = setup.pair();
    pair.run(20 * MS);
    let mut packet = data(setup.isn, Timestamp(1_800_000_000), SocketId(2), 24);
    packet[16..40].copy_from_slice(&payload(FIRST_INDEX, 24));
    pair.forge(1, &packet);
    pair.run(2 * S);
    assert_eq!(pair.ends[1].delivered, 0);
    pair.run(200 * MS);
    assert_eq!((pair.ends[1].delivered, pair.stats(1).buffered), (1, 0));
}

/// A million packets that nobody asked for.
#[test]
fn a_flood_takes_no_memory_and_the_stream_goes_on() {
    let setup = Setup::new(1, PATH, 400);
    let mut pair = setup.pair();
    pair.send(0, PACKETS, 1000);
    let mut state = 7_u64;
    let mut most = 0;
    for _ in 0..2000 {
        pair.run(MS);
        for _ in 0..100 {
            state = state.wrapping_mul(0xD129_0B26_3B4F_55B5).wrapping_add(0x9E37_79B9_7F4A_7C15);
            let (mixed, kind) = ((state >> 32) as u32, state >> 62);
            // Nothing that happens to be near: that could not be told from the peer's own.
            let seq = setup.isn.add(0x1000_0000 + (mixed & 0x3FFF_FFFF));
            let packet = match kind {
                0 | 1 => data(seq, Timestamp(mixed), SocketId(2), (mixed % 1456) as usize),
                2 => control(1, &Control::DropRequest { message: MsgNo::NONE, first: seq, last: seq.add(mixed >> 8) }),
                _ => control(1, &Control::AckAck(mixed | 0x100_0000)),
            };
            let now = pair.ends[1].instant(pair.now);
            pair.ends[1].connection.handle_datagram(now, now, &packet);
        }
        most = most.max(pair.stats(1).memory);
    }
    pair.run(2 * S);
    assert_eq!((pair.lost(), pair.ends[1].gaps), (0, 0));
    let (stats, received) = (pair.stats(1), pair.stats(1).received);
    assert!(stats.invalid + received.no_room + received.belated > 190_000, "{stats:?}");
    assert!(most < 150_000, "{most} bytes");
}

/// What was sent and can be read, as the fuzz body sees it.
struct Seen {
    newest: SeqNo,
    any: bool,
}

/// Fuzz body: a connection gets datagrams made of `data`, most of them near to what could be, at times made of it. It
/// must not panic, ask in vain for attention, send what makes libsrt end a connection, or take more memory than it may.
pub(crate) fn fuzz(data: &[u8]) {
    let mut setup = Setup::new(1, Path::of(1), 20);
    (setup.config.receive_packets, setup.config.receive_bytes) = (256, 128 << 10);
    let base = Instant::now() + Duration::from_secs(1000);
    let mut pair = setup.pair();
    let stream = &mut pair.ends[0].stream;
    let mut connection = Connection::new(setup.negotiated(0, base), &setup.config, base);
    connection.begin_sending(FIRST_INDEX);
    let mut now = base;
    let mut seen = Seen { newest: setup.isn.sub(1), any: false };
    let mut sent = 0_u32;
    for step in data.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..step.len()].copy_from_slice(step);
        let [kind, size, a, b, c, d, e, f] = bytes;
        let word = u32::from_be_bytes([c, d, e, f]);
        now += Duration::from_micros(u64::from(a) * u64::from(b));
        // Near to what the peer sends, and to what it gets.
        let (theirs, ours) = (seen.newest.add(word % 300).sub(20), setup.isn.add(sent).sub(word % 100));
        let mut datagram = Vec::new();
        let mut write = |control: &Control<'_>| control.write(Timestamp(word), SocketId(1), &mut datagram);
        match kind % 16 {
            0..=4 => {
                let stamp = Timestamp::after(now.saturating_duration_since(base)).0.wrapping_add(word >> 16);
                datagram = self::data(theirs, Timestamp(stamp), SocketId(1), usize::from(size) * 6);
            }
            5 => datagram = self::data(SeqNo::new(word), Timestamp(word), SocketId(1), 10),
            6 => write(&Control::LightAck(ours)),
            7 => {
                datagram = {
                    let mut packet = ack(ours, word >> 8 & 0x1FF);
                    packet[4..8].copy_from_slice(&[0, 0, 0, size]);
                    packet
                }
            }
            8 => datagram = nak(ours, ours.add(u32::from(size) % 32)),
            9 => write(&Control::DropRequest {
                message: MsgNo::NONE,
                first: theirs,
                last: theirs.add(word >> 12 & 0x7FF),
            }),
            10 => write(&Control::AckAck(u32::from(size))),
            11 => write(&Control::KmRequest(step)),
            12 => datagram = raw(0, &[0x8000_0000 | u32::from(size) << 16, word, word, word >> 3]),
            13 => stream.push(now),
            14 => now += Duration::from_millis(u64::from(size) * 4),
            _ if size == 0 => write(&Control::Shutdown),
            _ => datagram = data[..data.len().min(size.into())].to_vec(),
        }
        seen.look(&datagram, &connection);
        connection.handle_datagram(now, now, &datagram);
        connection.handle_timeout(now);
        connection.release(now);
        assert!(connection.released().all(|packet| packet.due <= now));
        connection.recycle();
        let mut out = Vec::new();
        for turn in 0.. {
            assert!(turn < 1000, "it asks for attention and has nothing to say");
            while connection.poll_control(now, &mut out) {
                seen.check(&out);
                out.clear();
            }
            while connection.poll_data(now, stream).inspect(|data| sent += u32::from(!data.retransmitted)).is_some() {}
            if connection.poll_timeout().is_none_or(|due| due > now) {
                break;
            }
            connection.handle_timeout(now);
        }
        assert!(connection.stats(now).memory < 400_000);
        while connection.poll_event().is_some() {}
    }
}

impl Seen {
    /// What comes in.
    fn look(&mut self, datagram: &[u8], connection: &Connection) {
        match Packet::parse(datagram) {
            // Within its window, or where that jumps to.
            Ok(Packet::Data(header, _))
                if header.destination == connection.local()
                    && (!self.any || header.seq.is_after(self.newest) || header.seq.distance(self.newest) < -600) =>
            {
                (self.newest, self.any) = (header.seq, true);
            }
            Ok(Packet::Control { control: Control::DropRequest { last, .. }, .. }) if last.is_after(self.newest) => {
                (self.newest, self.any) = (last, true);
            }
            _ => {}
        }
    }

    /// What goes out.
    fn check(&self, packet: &[u8]) {
        let Ok(Packet::Control { control, .. }) = Packet::parse(packet) else { panic!("it cannot be read") };
        match control {
            Control::Ack(Ack { seq, .. }) | Control::LightAck(seq) => {
                let beyond = seq.distance(self.newest.next());
                assert!(beyond <= 0 || beyond > 600, "acknowledges {seq}; the newest that came is {}", self.newest);
            }
            Control::Nak(losses) => {
                for range in losses.ranges() {
                    assert!(!range.last.is_before(range.first));
                    let beyond = range.last.distance(self.newest);
                    assert!(!(0..=600).contains(&beyond), "reports what is yet to come");
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_comes_nothing_panics_and_nothing_runs_away(data in proptest::collection::vec(any::<u8>(), 0..4000)) {
        fuzz(&data);
    }

    /// Released in order, once, byte for byte and in time: the ends of a pair see to it.
    #[test]
    fn what_is_delivered_is_what_was_sent(
        seed in 1_u64..1 << 40,
        loss in 0_u64..400,
        (duplicates, reordered) in (0_u64..300, 0_u64..300),
        (delay, jitter) in (0_u64..80, 0_u64..20),
        latency in 0_u64..300,
        isn: u32,
        encrypted: bool,
    ) {
        let path = Path { jitter: jitter * MS, duplicates, reordered, ..Path::of(delay).losing(Loss::Random(loss)) };
        let key_length = encrypted.then_some(KeyLength::Aes128);
        let mut setup = Setup { key_length, isn: SeqNo::new(isn % 0x7FFF_FFFF), ..Setup::new(seed, path, latency) };
        (setup.config.km_refresh, setup.config.km_preannounce) = (200, 100);
        let mut pair = setup.pair();
        pair.send(0, 600, 1000);
        pair.send(1, 300, 2000);
        pair.run(4 * S);
        let sent = [300, 600];
        for number in [0, 1] {
            let (end, received) = (&pair.ends[number], pair.stats(number).received);
            prop_assert!(end.delivered <= sent[number]);
            prop_assert_eq!(received.unique, end.delivered + received.undecrypted);
            prop_assert_eq!(received.packets, received.unique + received.duplicates + received.belated + received.no_room);
            // What was given up at the very end has nothing after it that would tell.
            prop_assert!(end.gaps <= received.dropped + received.undecrypted);
            prop_assert!(end.delivered + received.dropped + received.undecrypted <= sent[number]);
            prop_assert_eq!(pair.stats(number).buffered, 0);
        }
    }
}
