//! Two connections in a network of the tests: seeded, in virtual time.
//!
//! Everything happens at microseconds of one true time. Each end has a clock of its own that may run fast or slow, and
//! looks at what has happened only every few milliseconds, as a shard that gathers does.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use crate::time::Instant;

use super::connection::{Connection, ConnectionConfig, ConnectionEvent, DataOut, History};
use super::control::Control;
use super::crypto::{Kek, StreamKeys, StreamSecret};
use super::km::{KeyLength, Salt};
use super::negotiated::{HsFlags, Negotiated};
use super::packet::{Key, Packet};
use super::seq::{SeqNo, SocketId};
use super::stats::ConnectionStats;
pub(super) use crate::proto::netem::{Link, Loss, MS, Path, S};
use crate::proto::rtp::receive::tests::{HAND_OVER, handed_over};

/// The packets that an end sends: each says its index, and more that follows from it.
pub(super) struct Stream {
    first: u64,
    packets: VecDeque<(Vec<u8>, Instant)>,
    /// So many are kept.
    pub(super) kept: usize,
    /// Bytes of each.
    pub(super) bytes: usize,
}

pub(super) fn payload(index: u64, bytes: usize) -> Vec<u8> {
    let mut payload = index.to_be_bytes().to_vec();
    let mixed = index.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    payload.extend(mixed.iter().cycle().take(bytes.max(8) - 8));
    payload
}

impl Stream {
    fn new() -> Self {
        // The index of a connection's first packet is not 0: a receiver joins late.
        Self { first: FIRST_INDEX, packets: VecDeque::new(), kept: 20_000, bytes: 24 }
    }

    pub(super) fn push(&mut self, origin: Instant) {
        let payload = payload(self.end(), self.bytes);
        self.packets.push_back((payload, origin));
        if self.packets.len() > self.kept {
            self.packets.pop_front();
            self.first += 1;
        }
    }

    fn get(&self, index: u64) -> Option<&(Vec<u8>, Instant)> {
        self.packets.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

pub(super) const FIRST_INDEX: u64 = 1_000_000;

impl History for Stream {
    fn first(&self) -> u64 {
        self.first
    }

    fn end(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    fn payload(&self, index: u64) -> Option<&[u8]> {
        self.get(index).map(|(payload, _)| &payload[..])
    }

    fn origin(&self, index: u64) -> Option<Instant> {
        self.get(index).map(|(_, origin)| *origin)
    }
}

/// One of the two ends.
pub(super) struct End {
    pub(super) connection: Connection,
    base: Instant,
    /// How fast its clock runs, millionths more or less.
    ppm: i64,
    pub(super) stream: Stream,
    /// A packet every so many microseconds, since when, when the next, up to which index.
    pub(super) every: u64,
    pub(super) first_packet: u64,
    pub(super) next_packet: u64,
    pub(super) last_packet: u64,
    /// It looks at its packets every so many microseconds, if there are any.
    pub(super) gather: u64,
    phase: u64,
    /// The index of the packet released last, and of what was released in all.
    pub(super) last_index: Option<u64>,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
    /// By how much their times for delivery differ from what they truly should be, microseconds: least and most.
    pub(super) due_error: Option<(i64, i64)>,
    pub(super) events: Vec<ConnectionEvent>,
    /// It stands still until then.
    pub(super) asleep_until: u64,
    pub(super) services: u64,
    /// No next key is provided.
    pub(super) withhold: bool,
    secret: u8,
}

impl End {
    /// By how much its clock is ahead at this time.
    fn skew(&self, at: i64) -> i64 {
        at / 1_000_000 * self.ppm + at % 1_000_000 * self.ppm / 1_000_000
    }

    pub(super) fn instant(&self, at: u64) -> Instant {
        self.base + Duration::from_micros(at.saturating_add_signed(self.skew(at as i64)))
    }

    /// The true time at which its clock shows this.
    fn true_time(&self, at: Instant) -> u64 {
        let shown = at.saturating_duration_since(self.base).as_micros() as i64;
        let near = shown - self.skew(shown - self.skew(shown));
        // Rounded so that it is not woken a microsecond early.
        let mut guess = (near - 2).max(0) as u64;
        while self.instant(guess) < at {
            guess += 1;
        }
        guess
    }

    fn wake(&self, arrival: u64) -> u64 {
        let due = [self.connection.poll_timeout(), self.connection.next_release()];
        let timer = due.into_iter().flatten().min().map_or(u64::MAX, |due| self.true_time(due));
        let feed = if self.stream.end() < self.last_packet { self.next_packet } else { u64::MAX };
        let at = timer.min(arrival).min(feed).max(self.asleep_until);
        if at == u64::MAX {
            return at;
        }
        // The two ends do not look at the same times.
        let phase = self.phase % self.gather.max(1);
        (at + self.gather - phase).next_multiple_of(self.gather.max(1)) - self.gather + phase
    }

    pub(super) fn feed(&mut self, now: u64) {
        while self.next_packet <= now && self.stream.end() < self.last_packet {
            let origin = self.instant(self.next_packet);
            self.stream.push(origin);
            self.next_packet += self.every;
        }
    }

    /// Take what is due. `nominal` says when the packet with an index truly is.
    fn receive(&mut self, now: Instant, nominal: impl Fn(u64) -> u64) {
        self.connection.release(now);
        let mut last = self.last_index;
        for packet in self.connection.released() {
            let (head, _) = packet.payload.split_first_chunk::<8>().expect("a payload of ours");
            let index = u64::from_be_bytes(*head);
            assert_eq!(packet.payload, payload(index, packet.payload.len()), "byte for byte");
            assert!(last.is_none_or(|last| index > last), "{index} comes after {last:?}: in order, and never twice");
            assert!(packet.due <= now, "{index} is released before its time");
            let error = self.true_time(packet.due) as i64 - nominal(index) as i64;
            let (least, most) = self.due_error.unwrap_or((error, error));
            self.due_error = Some((least.min(error), most.max(error)));
            self.gaps += packet.gap_before;
            self.delivered += 1;
            last = Some(index);
        }
        self.last_index = last;
        self.connection.recycle();
    }

    /// Everything that it has to send.
    fn transmit(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        for turn in 0.. {
            assert!(turn < 10_000, "it says that there is more, and there is nothing");
            let mut packet = Vec::new();
            while self.connection.poll_control(now, &mut packet) {
                out.push(std::mem::take(&mut packet));
            }
            while let Some(data) = self.connection.poll_data(now, &self.stream) {
                out.push(datagram(&self.connection, &self.stream, &data));
            }
            if self.connection.poll_timeout().is_none_or(|due| due > now) {
                break;
            }
        }
        while let Some(event) = self.connection.poll_event() {
            if event == ConnectionEvent::NeedSecret && !self.withhold {
                self.secret += 1;
                self.connection.provide_secret(&[self.secret; 32]);
            } else {
                self.events.push(event);
            }
        }
    }

    pub(super) fn stats(&self, at: u64) -> ConnectionStats {
        self.connection.stats(self.instant(at))
    }
}

/// A data packet as a host makes it.
pub(super) fn datagram<H: History>(connection: &Connection, history: &H, data: &DataOut) -> Vec<u8> {
    let mut datagram = data.header.to_vec();
    datagram.extend(history.payload(data.index).expect("it is there"));
    let (_, payload) = datagram.split_at_mut(data.header.len());
    connection.seal(data, payload);
    datagram
}

/// What an end looks at of every packet that is sent: from which end, when, and what. `false`: it gets lost.
pub(super) type Tap = Box<dyn FnMut(usize, u64, &Packet<'_>) -> bool>;

/// Two ends and the two directions between them.
pub(super) struct Pair {
    pub(super) ends: [End; 2],
    links: [Link<Vec<u8>>; 2],
    latency: [u64; 2],
    /// What comes after the last data packet of each end.
    after: [SeqNo; 2],
    pub(super) now: u64,
    pub(super) tap: Option<Tap>,
}

/// The key encryption keys of all lengths: it takes long to make one.
fn kek(length: KeyLength) -> Kek {
    static KEKS: LazyLock<[Kek; 3]> = LazyLock::new(|| {
        let lengths = [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256];
        lengths.map(|length| Kek::derive(b"correct horse", Salt([7; 16]), length))
    });
    KEKS[length as usize].clone()
}

/// How a pair begins.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// From end 0 to end 1, and back.
    pub(super) paths: [Path; 2],
    /// The latency at which each end receives, in milliseconds.
    pub(super) latency: [u64; 2],
    pub(super) isn: SeqNo,
    pub(super) key_length: Option<KeyLength>,
    pub(super) ppm: [i64; 2],
    pub(super) config: ConnectionConfig,
    pub(super) flow_window: u32,
    pub(super) peer_flags: HsFlags,
    /// The connections are made so long after their clocks began.
    pub(super) began: u64,
}

impl Setup {
    /// The same both ways.
    pub(super) fn new(seed: u64, path: Path, latency: u64) -> Self {
        Self {
            seed,
            paths: [path, path],
            latency: [latency, latency],
            isn: SeqNo::new(0x7FFF_F000),
            key_length: None,
            ppm: [0, 0],
            config: ConnectionConfig::default(),
            flow_window: 8192,
            peer_flags: HsFlags(0xBF),
            began: 0,
        }
    }

    /// What the handshake came to for one end; its clock begins at `base`.
    pub(super) fn negotiated(&self, end: usize, base: Instant) -> Negotiated {
        let other = 1 - end;
        let kek = self.key_length.map(kek);
        let secret = |length| StreamKeys::new(Salt([7; 16]), Key::Even, StreamSecret::new(length, &[0xA5; 32]));
        Negotiated {
            local: SocketId(1 + end as u32),
            remote: SocketId(1 + other as u32),
            send_isn: self.isn,
            receive_isn: self.isn,
            start: base,
            peer_base: base + Duration::from_micros(self.paths[other].delay),
            mss: 1500,
            flow_window: self.flow_window,
            receive_latency: Duration::from_millis(self.latency[end]),
            send_latency: Duration::from_millis(self.latency[other]),
            peer_version: 0x0001_0503,
            peer_flags: self.peer_flags,
            keys: self.key_length.map(secret),
            kek,
            initiator: end == 0,
            stream_id: None,
            reply: None,
        }
    }

    pub(super) fn pair(&self) -> Pair {
        let base = Instant::now() + Duration::from_secs(1_000_000);
        let end = |number: usize| End {
            connection: Connection::new(
                self.negotiated(number, base),
                &self.config,
                base + Duration::from_micros(self.began),
            ),
            base,
            ppm: self.ppm[number],
            stream: Stream::new(),
            every: 1000,
            first_packet: 0,
            next_packet: 0,
            last_packet: FIRST_INDEX,
            gather: 5 * MS,
            phase: number as u64 * 1700,
            last_index: None,
            delivered: 0,
            gaps: 0,
            due_error: None,
            events: Vec::new(),
            asleep_until: 0,
            services: 0,
            withhold: false,
            secret: 0,
        };
        let link = |number: usize| Link::new(self.paths[number], self.seed * 2 + number as u64 + 1);
        Pair {
            ends: [end(0), end(1)],
            links: [link(0), link(1)],
            latency: self.latency,
            after: [self.isn; 2],
            now: self.began,
            tap: None,
        }
    }
}

impl Pair {
    /// An end sends so many packets, one every so many microseconds, from now on.
    pub(super) fn send(&mut self, end: usize, packets: u64, every: u64) {
        let sender = &mut self.ends[end];
        sender.connection.begin_sending(FIRST_INDEX);
        sender.last_packet = sender.stream.end() + packets;
        (sender.next_packet, sender.every) = (self.now.max(sender.next_packet), every);
        if sender.stream.end() == FIRST_INDEX {
            sender.first_packet = sender.next_packet;
        }
    }

    /// Let time pass until then.
    pub(super) fn run_until(&mut self, until: u64) {
        loop {
            let wakes = [0, 1].map(|end| self.ends[end].wake(self.links[1 - end].next()));
            let (at, end) = if wakes[0] <= wakes[1] { (wakes[0], 0) } else { (wakes[1], 1) };
            if at > until {
                self.now = self.now.max(until);
                return;
            }
            self.now = self.now.max(at);
            self.service(end);
        }
    }

    pub(super) fn run(&mut self, time: u64) {
        self.run_until(self.now + time);
    }

    fn service(&mut self, number: usize) {
        let now = self.now;
        let other = &self.ends[1 - number];
        let after = self.links[1 - number].path.delay + self.latency[number] * MS;
        let (first, every) = (other.first_packet, other.every);
        let nominal = move |index| first + (index - FIRST_INDEX) * every + after;
        let end = &mut self.ends[number];
        end.services += 1;
        if end.services.is_multiple_of(HAND_OVER as u64) {
            end.connection = handed_over(&end.connection);
        }
        let here = end.instant(now);
        while let Some((at, datagram)) = self.links[1 - number].arrived(now) {
            let arrival = end.instant(at);
            end.connection.handle_datagram(here, arrival, &datagram);
        }
        end.connection.handle_timeout(here);
        end.receive(here, nominal);
        end.feed(now);
        let mut out = Vec::new();
        end.transmit(here, &mut out);
        for datagram in out {
            let packet = Packet::parse(&datagram).expect("what is sent can be read");
            self.check(number, &packet);
            if self.tap.as_mut().is_none_or(|tap| tap(number, now, &packet)) {
                self.links[number].send(now, datagram.len(), datagram.clone());
            }
        }
    }

    /// What would make libsrt end the connection is never sent.
    fn check(&mut self, from: usize, packet: &Packet<'_>) {
        let after = self.after[1 - from];
        match *packet {
            Packet::Data(header, _) => {
                let own = &mut self.after[from];
                assert!(!header.seq.is_after(*own), "sequence numbers have no gap");
                if header.seq == *own {
                    *own = own.next();
                }
            }
            Packet::Control { control: Control::Ack(ack), .. } => assert!(!ack.seq.is_after(after)),
            Packet::Control { control: Control::LightAck(seq), .. } => assert!(!seq.is_after(after)),
            Packet::Control { control: Control::Nak(losses), .. } => {
                assert!(losses.ranges().all(|range| range.last.is_before(after) && !range.last.is_before(range.first)));
            }
            Packet::Control { .. } => {}
        }
    }

    /// From now on a direction does this to packets.
    pub(super) fn change(&mut self, direction: usize, path: Path) {
        self.links[direction].path = path;
    }

    /// Something that an end did not send arrives at the other one.
    pub(super) fn forge(&mut self, to: usize, datagram: &[u8]) {
        if let Ok(Packet::Data(header, _)) = Packet::parse(datagram) {
            let after = &mut self.after[1 - to];
            *after = if header.seq.is_before(*after) { *after } else { header.seq.next() };
        }
        let end = &mut self.ends[to];
        let now = end.instant(self.now);
        end.connection.handle_datagram(now, now, datagram);
    }

    /// Something that an end did not send arrives at the other one.
    pub(super) fn forge_control(&mut self, to: usize, control: &Control<'_>) {
        let mut datagram = Vec::new();
        control.write(super::seq::Timestamp(0), self.ends[to].connection.local(), &mut datagram);
        self.forge(to, &datagram);
    }

    /// The other end has sent everything before this.
    pub(super) fn forge_after(&mut self, to: usize, after: SeqNo) {
        self.after[1 - to] = after;
    }

    /// What end 1 has not delivered of what end 0 sent.
    pub(super) fn lost(&self) -> u64 {
        self.ends[0].stream.end() - FIRST_INDEX - self.ends[1].delivered
    }

    pub(super) fn stats(&self, end: usize) -> ConnectionStats {
        self.ends[end].stats(self.now)
    }
}
