//! A sender and a receiver in a network of the tests: seeded, in virtual time.
//!
//! Everything happens at microseconds of one true time. Each end has a clock of its own that may run fast or slow, and
//! looks at what has happened only every few milliseconds, as a shard that gathers does.

use std::collections::VecDeque;
use std::time::Duration;

use super::psk::{Key, KeyLength, Nonce, Parity};
use super::receiver::{Delivery, From, Receiver, ReceiverConfig, ReceiverEvent, Released};
use super::sender::{History, Sender, SenderConfig, SenderEvent, SenderProfile};
use super::tunnel::{SendKey, TunnelConfig, TunnelEvent, TunnelKeys};
use super::{LegId, Port, Profile, RemoteId};
use crate::proto::hitless::{self, Merger};
pub(super) use crate::proto::netem::{Link, Loss, MS, Path, S};
use crate::proto::rtp::header::Header;
use crate::proto::rtp::receive::tests::{HAND_OVER, handed_over};
use crate::proto::seq::{RtpTime, Seq};
use crate::time::Instant;

/// The index of a stream's first packet is not 0.
pub(super) const FIRST_INDEX: u64 = 1_000_000;
/// Every run wraps.
pub(super) const FIRST_SEQ: u16 = 65_000;

/// A datagram on its way: to which port, and its bytes.
type Datagram = (Port, Vec<u8>);

/// The packets that are sent: each says its index, and more that follows from it.
pub(super) struct Stream {
    first: u64,
    packets: VecDeque<(Vec<u8>, RtpTime)>,
    pub(super) kept: usize,
    /// Packets of transport stream in each; 0: only 24 bytes.
    pub(super) ts: usize,
}

pub(super) fn payload(index: u64, ts: usize) -> Vec<u8> {
    let mixed = index.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let mut payload = Vec::new();
    for (n, &byte) in mixed.iter().enumerate().take(ts) {
        let is_null = n > 0 && byte.is_multiple_of(3);
        let mut packet = vec![if is_null { 0xFF } else { byte }; 188];
        packet[..4].copy_from_slice(&if is_null { [0x47, 0x1F, 0xFF, 0x10] } else { [0x47, 0x01, n as u8, 0x10] });
        payload.extend(packet);
    }
    payload.truncate(payload.len().max(16));
    let at = if ts > 0 { 8 } else { 0 };
    if payload.len() < 24 {
        payload = vec![0; 24];
    }
    payload[at..at + 8].copy_from_slice(&index.to_be_bytes());
    payload[at + 8..at + 16].copy_from_slice(&mixed);
    payload
}

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

    fn timestamp(&self, index: u64) -> Option<RtpTime> {
        self.get(index).map(|(_, timestamp)| *timestamp)
    }
}

impl Stream {
    fn get(&self, index: u64) -> Option<&(Vec<u8>, RtpTime)> {
        self.packets.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn push(&mut self, timestamp: RtpTime) {
        let payload = payload(self.end(), self.ts);
        self.packets.push_back((payload, timestamp));
        if self.packets.len() > self.kept {
            self.packets.pop_front();
            self.first += 1;
        }
    }
}

/// How a pair begins.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// Of each leg: to the receiver, and back.
    pub(super) legs: Vec<[Path; 2]>,
    pub(super) latency: u64,
    pub(super) reorder: u64,
    /// Main profile; with keys of this length.
    pub(super) main: bool,
    pub(super) key: Option<KeyLength>,
    pub(super) delete_nulls: bool,
    pub(super) extended: bool,
    pub(super) percent: u32,
    /// How fast the sender's clock runs, millionths more or less.
    pub(super) ppm: i64,
    pub(super) first_seq: u16,
    pub(super) ts: usize,
    /// Packets that the sender keeps.
    pub(super) kept: usize,
    /// Each leg comes to a receiver of its own, and all of them are merged, with the latency as window.
    pub(super) merged: bool,
}

/// What the wall clock shows.
const NTP: u64 = 0xEEB4_21EA_0000_0000;

pub(super) const PHRASE: &[u8] = b"correct horse battery";

impl Setup {
    /// One leg, the same both ways.
    pub(super) fn new(seed: u64, path: Path, latency: u64) -> Self {
        Self {
            seed,
            legs: vec![[path, path]],
            latency,
            reorder: 25,
            main: false,
            key: None,
            delete_nulls: false,
            extended: false,
            percent: 50,
            ppm: 0,
            first_seq: FIRST_SEQ,
            ts: 0,
            kept: 40_000,
            merged: false,
        }
    }

    fn tunnel(&self, end: u8) -> Box<TunnelConfig> {
        let key = self.key.map(|length| send_key([end, 2, 3, 4], length));
        let ports = (32_768, 1968);
        Box::new(TunnelConfig { ports, key, rotate_after: 0, accept_weak_counter: false, mac: [2, 0, 0, 0, 0, end] })
    }

    fn sender(&self, ssrc: u32, first_seq: u16) -> SenderConfig {
        SenderConfig {
            ssrc,
            cname: b"sender".to_vec(),
            first_seq: Seq(first_seq),
            payload_type: 33,
            ntp: NTP,
            retransmit_percent: self.percent,
            delete_nulls: self.delete_nulls,
            extended: self.extended,
        }
    }

    fn profile(&self) -> SenderProfile {
        if self.main { SenderProfile::Main(self.tunnel(1)) } else { SenderProfile::Simple }
    }

    pub(super) fn pair(&self) -> Pair {
        let base = Instant::now();
        let sender = self.sender(0x1234_5678, self.first_seq);
        let receiver = ReceiverConfig {
            latency: Duration::from_millis(self.latency),
            reorder: Duration::from_millis(self.reorder),
            delivery: if self.merged { Delivery::AtOnce } else { Delivery::Buffered },
            ssrc: 0x9999_0000,
            cname: b"receiver".to_vec(),
            ntp: NTP,
        };
        let merged = self.merged.then(|| Merged::new(base, &receiver));
        let mut pair = Pair {
            sender: Sender::new(base, sender),
            receiver: Receiver::new(base, receiver),
            merged,
            legs: Vec::new(),
            links: Vec::new(),
            stream: Stream { first: FIRST_INDEX, packets: VecDeque::new(), kept: self.kept, ts: self.ts },
            base,
            ppm: self.ppm,
            now: 0,
            forged: false,
            every: 0,
            next_packet: 0,
            last_index: FIRST_INDEX,
            timestamp: 0xFFF0_0000,
            gather: 5 * MS,
            delivered: Vec::new(),
            released: Vec::new(),
            events: Vec::new(),
            tap: None,
            worst_late: 0,
            length: self.key,
            keys_derived: 0,
            renonce: 0,
            services: 0,
        };
        pair.sender.begin_sending(FIRST_INDEX);
        for (number, paths) in self.legs.iter().enumerate() {
            let back = if self.main { Profile::Main(self.tunnel(2)) } else { Profile::Simple { feedback: None } };
            let sending = pair.sender.add_leg(base, self.profile()).unwrap();
            match &mut pair.merged {
                Some(merged) if number > 0 => assert_eq!(merged.second.add_leg(back), Some(pair.legs[0])),
                _ => assert_eq!(Some(sending), pair.receiver.add_leg(back)),
            }
            pair.legs.push(sending);
            let seed = self.seed * 64 + number as u64 * 2 + 1;
            pair.links.push([Link::new(paths[0], seed), Link::new(paths[1], seed + 1)]);
        }
        pair
    }
}

pub(super) fn send_key(nonce: [u8; 4], length: KeyLength) -> SendKey {
    let nonce = Nonce::new(nonce, Parity::Even).unwrap();
    SendKey { nonce, key: Key::derive(PHRASE, nonce, length) }
}

/// What is looked at of every datagram: its leg, whether to the receiver, when, its port, its bytes. `false`: it gets lost.
pub(super) type Tap = Box<dyn FnMut(usize, bool, u64, Port, &mut [u8]) -> bool>;

/// A packet that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) index: u64,
    pub(super) at: u64,
    pub(super) gap: u64,
    pub(super) discontinuity: bool,
}

/// A second receiver, and the merge of both, as a flow drives them.
pub(super) struct Merged {
    pub(super) second: Receiver,
    pub(super) merger: Merger,
    legs: [hitless::LegId; 2],
    /// What the receiver that was read last has brought.
    heard: Vec<(Instant, Header)>,
    released: Vec<hitless::Released>,
}

impl Merged {
    fn new(base: Instant, config: &ReceiverConfig) -> Self {
        let mut merger = Merger::new(config.latency);
        let legs = [(); 2].map(|()| merger.add_leg().unwrap());
        let second = Receiver::new(base, ReceiverConfig { ssrc: 0x8888_0000, ..config.clone() });
        Self { second, merger, legs, heard: Vec::new(), released: Vec::new() }
    }

    /// Of both receivers, the one that is nearer asks.
    fn share_asking(&mut self, first: &mut Receiver, leg: LegId) {
        let rtt = |receiver: &Receiver| receiver.leg_stats(leg).and_then(|leg| leg.rtt).unwrap_or(Duration::MAX);
        let second = rtt(&self.second) < rtt(first);
        first.set_asking(!second);
        self.second.set_asking(second);
    }
}

/// Both ends, and what is between them.
pub(super) struct Pair {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
    pub(super) merged: Option<Merged>,
    pub(super) legs: Vec<LegId>,
    links: Vec<[Link<Datagram>; 2]>,
    pub(super) stream: Stream,
    pub(super) base: Instant,
    ppm: i64,
    pub(super) now: u64,
    /// Others than the sender send: nothing is looked at that is delivered.
    pub(super) forged: bool,
    every: u64,
    next_packet: u64,
    last_index: u64,
    timestamp: u32,
    pub(super) gather: u64,
    pub(super) delivered: Vec<Delivered>,
    released: Vec<Released>,
    pub(super) events: Vec<ReceiverEvent>,
    pub(super) tap: Option<Tap>,
    /// Microseconds after its time that a packet was released, at most.
    pub(super) worst_late: u64,
    length: Option<KeyLength>,
    pub(super) keys_derived: u64,
    renonce: u8,
    pub(super) services: u64,
}

impl Pair {
    pub(super) fn instant(&self, at: u64) -> Instant {
        self.base + Duration::from_micros(at)
    }

    /// The sender's clock.
    fn sender_instant(&self, at: u64) -> Instant {
        let at = at as i64;
        let skew = at / 1_000_000 * self.ppm + at % 1_000_000 * self.ppm / 1_000_000;
        self.base + Duration::from_micros(at.saturating_add(skew).max(0) as u64)
    }

    /// Send so many packets, one every so many microseconds, from now on.
    pub(super) fn send(&mut self, packets: u64, every: u64) {
        self.every = every;
        self.next_packet = self.now;
        self.last_index = self.stream.end() + packets;
    }

    /// The sender is started anew: another one, with another stream, in its place.
    pub(super) fn restart(&mut self, setup: &Setup, ssrc: u32, first_seq: u16) {
        let at = self.sender_instant(self.now);
        self.sender = Sender::new(at, setup.sender(ssrc, first_seq));
        self.sender.begin_sending(self.stream.end());
        for leg in &self.legs {
            assert_eq!(self.sender.add_leg(at, setup.profile()), Some(*leg));
        }
        self.timestamp = self.timestamp.wrapping_add(0x3000_0000);
    }

    /// Change a direction of a leg.
    pub(super) fn change(&mut self, leg: usize, direction: usize, path: Path) {
        self.links[leg][direction].path = path;
    }

    fn feeds(&self) -> bool {
        self.stream.end() < self.last_index
    }

    fn next_event(&self) -> u64 {
        let micros = |at: Instant, base: Instant| (at - base).as_micros() as u64 + 1;
        let merged = self.merged.as_ref();
        let second = merged.and_then(|merged| merged.second.poll_timeout());
        let merger = merged.and_then(|merged| merged.merger.poll_timeout());
        let timers = [self.receiver.poll_timeout(), self.receiver.next_release(), second, merger];
        let receiver = timers.into_iter().flatten().map(|at| micros(at, self.base)).min().unwrap_or(u64::MAX);
        let sender = self.sender.poll_timeout().map_or(u64::MAX, |at| micros(at, self.base));
        let feed = if self.feeds() { self.next_packet } else { u64::MAX };
        let links = self.links.iter().flatten().map(Link::next).min().unwrap_or(u64::MAX);
        receiver.min(sender).min(feed).min(links)
    }

    /// Let so much time pass.
    pub(super) fn run(&mut self, micros: u64) {
        let end = self.now + micros;
        loop {
            let next = self.next_event().max(self.now).saturating_add(self.gather);
            let next = next / self.gather.max(1) * self.gather.max(1);
            if next > end {
                break;
            }
            self.now = next.max(self.now + 1);
            self.serve();
        }
        self.now = end;
    }

    fn serve(&mut self) {
        self.services += 1;
        if self.services.is_multiple_of(HAND_OVER as u64) {
            (self.sender, self.receiver) = (handed_over(&self.sender), handed_over(&self.receiver));
        }
        let now = self.now;
        while self.feeds() && self.next_packet <= now {
            let media = RtpTime::ticks(self.sender_instant(self.next_packet) - self.base);
            self.stream.push(RtpTime(self.timestamp.wrapping_add(media)));
            self.next_packet += self.every;
        }
        let at = self.instant(now);
        for number in 0..self.legs.len() {
            while let Some((came, (_, datagram))) = self.links[number][1].arrived(now) {
                let (seen, came) = (self.sender_instant(now), self.sender_instant(came));
                self.sender.handle_datagram(seen, came, self.legs[number], &datagram);
            }
            self.receive(number);
        }
        if self.merged.is_none() {
            self.receiver.handle_timeout(at);
        }
        self.deliver(at);
        self.answer_events();
        let mut out = Vec::new();
        while let Some(transmit) = self.receiver.poll_transmit(at, &mut out) {
            assert_eq!(transmit.remote, RemoteId(7));
            let leg = self.legs.iter().position(|leg| *leg == transmit.leg).unwrap();
            self.travel(leg, false, Port::Control, std::mem::take(&mut out));
        }
        while let Some(merged) = &mut self.merged
            && merged.second.poll_transmit(at, &mut out).is_some()
        {
            self.travel(1, false, Port::Control, std::mem::take(&mut out));
        }
        self.transmit();
    }

    /// What has come on a leg.
    fn receive(&mut self, number: usize) {
        let (at, base) = (self.instant(self.now), self.base);
        let Self { receiver, merged, legs, links, now, .. } = self;
        let link = &mut links[number][0];
        let mut arrived = || {
            let (came, (port, datagram)) = link.arrived(*now)?;
            Some((base + Duration::from_micros(came), port, datagram))
        };
        let remote = RemoteId(7);
        let Some(Merged { second, merger, legs: merged_legs, heard, .. }) = merged else {
            while let Some((came, port, datagram)) = arrived() {
                let from = From { leg: legs[number], port, remote };
                assert!(receiver.handle_datagram(at, came, from, &datagram).is_none());
            }
            return;
        };
        let (receiver, other) = if number == 0 { (receiver, second) } else { (second, receiver) };
        while let Some((came, port, datagram)) = arrived() {
            let from = From { leg: legs[0], port, remote };
            if let Some(passed) = receiver.handle_datagram(at, came, from, &datagram) {
                merger.handle_packet(merged_legs[number], passed.came, passed.packet, &passed.header);
                heard.push((passed.came, passed.header));
            }
        }
        receiver.handle_timeout(at);
        heard.drain(..).for_each(|(came, header)| other.have_elsewhere(at, came, &header));
    }

    fn transmit(&mut self) {
        let at = self.sender_instant(self.now);
        self.sender.handle_timeout(at);
        let mut out = Vec::new();
        while let Some(leg) = self.sender.poll_control(at, &mut out) {
            let leg = self.legs.iter().position(|there| *there == leg).unwrap();
            self.travel(leg, true, Port::Control, std::mem::take(&mut out));
        }
        while let Some(media) = self.sender.poll_media(at, &self.stream) {
            let payload = self.stream.payload(media.index).unwrap().to_vec();
            for leg in media.legs.iter() {
                let mut out = Vec::new();
                assert!(self.sender.datagram(leg, &media, &payload, &mut out));
                let leg = self.legs.iter().position(|there| *there == leg).unwrap();
                self.travel(leg, true, Port::Media, out);
            }
        }
    }

    fn travel(&mut self, leg: usize, to_receiver: bool, port: Port, mut datagram: Vec<u8>) {
        if let Some(tap) = &mut self.tap
            && !tap(leg, to_receiver, self.now, port, &mut datagram)
        {
            return;
        }
        self.links[leg][usize::from(!to_receiver)].send(self.now, datagram.len(), (port, datagram));
    }

    fn deliver(&mut self, at: Instant) {
        if let Some(mut merged) = self.merged.take() {
            merged.merger.handle_timeout(at, &mut merged.released);
            for released in merged.released.drain(..) {
                self.note(&merged.merger.held(released.slot)[released.header.payload()], 0, released.discontinuity);
            }
            merged.merger.recycle();
            merged.share_asking(&mut self.receiver, self.legs[0]);
            self.merged = Some(merged);
            return;
        }
        self.receiver.release(at, &mut self.released);
        for released in std::mem::take(&mut self.released) {
            if self.forged {
                continue;
            }
            assert_eq!(released.header.ssrc & 1, 0);
            self.worst_late = self.worst_late.max((at - released.due).as_micros() as u64);
            let payload = self.receiver.held(released.slot)[released.header.payload()].to_vec();
            self.note(&payload, released.gap_before, released.discontinuity);
        }
        self.receiver.recycle();
    }

    /// This was delivered.
    fn note(&mut self, there: &[u8], gap: u64, discontinuity: bool) {
        let place = if self.stream.ts > 0 { 8..16 } else { 0..8 };
        let index = u64::from_be_bytes(there[place].try_into().unwrap());
        assert_eq!(there, payload(index, self.stream.ts), "byte for byte");
        let last = self.delivered.last().map(|delivered| delivered.index);
        assert!(last.is_none_or(|last| index > last), "{index} comes after {last:?}: in order, and never twice");
        self.delivered.push(Delivered { index, at: self.now, gap, discontinuity });
    }

    fn answer_events(&mut self) {
        let derive = |nonce, length| {
            let keys = [&b"another one"[..], PHRASE].map(|phrase| Key::derive(phrase, nonce, length));
            TunnelKeys::Receive(nonce, keys.into())
        };
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Tunnel(leg, TunnelEvent::NeedKey { nonce, length }) => {
                    self.keys_derived += 1;
                    self.receiver.provide_keys(leg, derive(nonce, length));
                }
                event => self.events.push(event),
            }
        }
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Tunnel(leg, TunnelEvent::NeedKey { nonce, length }) => {
                    self.sender.provide_keys(leg, derive(nonce, length));
                }
                SenderEvent::Tunnel(leg, TunnelEvent::NeedSendKey) => {
                    self.renonce += 1;
                    let key = send_key([9, 9, 9, self.renonce], self.length.unwrap());
                    self.sender.provide_keys(leg, TunnelKeys::Send(key));
                }
                SenderEvent::Tunnel(_, TunnelEvent::WrongPassphrase) => panic!("it is right"),
            }
        }
    }

    /// What was sent and not delivered.
    pub(super) fn lost(&self) -> u64 {
        self.stream.end() - FIRST_INDEX - self.delivered.len() as u64
    }
}
