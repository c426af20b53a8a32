//! Receiving one RTP stream: order, loss, duplicates, jitter, and the stream's restarts. Without I/O; time is an
//! argument.
//!
//! Packets in order pass without a copy. One that comes early is copied and waits, at most for the reorder window, for
//! those before it; then the missing ones are given up and count as lost.
//!
//! A packet that does not belong where the stream stands (another SSRC; more than 100 behind it; further ahead than
//! twice the window holds) may be a stray, or the first of a stream that began anew. It is held and delivers nothing
//! until both are sure: two of that kind came in sequence (`MIN_SEQUENTIAL` of RFC 3550, appendix A.1), and the stream
//! has been silent for twice its longest recent pause, at least 20 ms and at most 500 ms. If the stream goes on
//! instead, those held are dropped and counted, so that two senders on one port never take turns. A confirmed one that
//! is the same SSRC at most `MAX_DROPOUT` ahead, or as far ahead as the silence explains, is the same stream after a
//! loss; any other is a restart: what waits is delivered in order, then the new stream from its first held packet.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use super::header::Header;
use super::reorder::{Reorder, Standing, Waiting};
pub use super::slots::SlotId;
use super::slots::Slots;
use super::stats::{Jitter, RtpCounters};
use crate::proto::seq::{ExtSeq, RtpTime};

/// Further ahead than this begins a new stream (RFC 3550, appendix A.1).
const MAX_DROPOUT: u64 = 3000;
/// Further behind than this may begin a new stream (RFC 3550, appendix A.1).
const MAX_MISORDER: u64 = 100;
/// Bounds of the silence after which another stream may take over.
const SILENCE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A packet whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Where its bytes are.
    pub place: Place,
    /// Its header; the payload's range counts in the whole packet.
    pub header: Header,
    /// When it came.
    pub arrival: Instant,
    /// It did not come: forward error correction brought it back, at `arrival`.
    pub recovered: bool,
    /// The stream began anew with this packet. Not set on the very first one.
    pub discontinuity: bool,
}

/// Where the bytes of a released packet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is the packet just handed in.
    Now,
    /// In the receiver: [`RtpReceiver::held`], until [`RtpReceiver::recycle`].
    Held(SlotId),
}

/// Who looks on as packets join the stream: forward error correction needs them whatever their order.
pub(in crate::proto) trait Tap {
    /// A packet of the stream came, for the first time. Its place may have been given up already.
    fn joined(&mut self, arrival: Instant, seq: ExtSeq, packet: &[u8], header: &Header);
    /// The stream begins anew: what joined before has nothing to do with what joins now.
    fn restarted(&mut self);
}

/// Nobody looks on.
impl Tap for () {
    fn joined(&mut self, _: Instant, _: ExtSeq, _: &[u8], _: &Header) {}
    fn restarted(&mut self) {}
}

/// The receiving end of one RTP stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct RtpReceiver<T = ()> {
    tap: T,
    window: Duration,
    slots: Slots,
    stream: Option<Stream>,
    candidate: Candidate,
    counters: RtpCounters,
}

/// The stream that is being delivered.
#[derive(Debug, Serialize, Deserialize)]
struct Stream {
    ssrc: u32,
    order: Reorder,
    jitter: Jitter,
    /// The newest packet's time of arrival and timestamp.
    last: (Instant, RtpTime),
    /// The longest recent pause between packets, forgotten slowly.
    pause: Duration,
    since: Instant,
    accepted: u64,
    /// The next packet delivered is the first after a restart.
    fresh: bool,
}

/// Packets that may become the stream. Memory is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Candidate {
    ssrc: u32,
    /// Two came in sequence.
    sequential: bool,
    /// In order of sequence.
    held: VecDeque<Held>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Held {
    seq: ExtSeq,
    slot: SlotId,
    arrival: Instant,
}

/// The bytes of a packet on its way in.
#[derive(Clone, Copy)]
enum Bytes<'a> {
    Now(&'a [u8]),
    Held(SlotId),
}

impl RtpReceiver {
    /// A receiver that lets a packet wait for `window` at most. Zero: whatever comes early is released at once, and what
    /// comes after it is late.
    pub fn new(window: Duration) -> Self {
        Self::with_tap(window, ())
    }
}

#[expect(private_bounds, reason = "the tap is the workshops' own business")]
impl<T: Tap> RtpReceiver<T> {
    /// A receiver with someone who looks on.
    pub(in crate::proto) fn with_tap(window: Duration, tap: T) -> Self {
        Self {
            tap,
            window,
            slots: Slots::default(),
            stream: None,
            candidate: Candidate::default(),
            counters: RtpCounters::default(),
        }
    }

    pub(in crate::proto) const fn tap(&self) -> &T {
        &self.tap
    }

    pub(in crate::proto) const fn tap_mut(&mut self) -> &mut T {
        &mut self.tap
    }

    /// The longest that a packet waits.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// Change the window; what waits already waits by the new one. [`Self::poll_timeout`] may change.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// The figures so far.
    pub const fn counters(&self) -> &RtpCounters {
        &self.counters
    }

    /// The whole packet behind [`Place::Held`].
    pub fn held(&self, slot: SlotId) -> &[u8] {
        self.slots.packet(slot)
    }

    /// The whole packet of a released one; `now` is the packet just handed in.
    pub fn bytes<'a>(&'a self, released: &Released, now: &'a [u8]) -> &'a [u8] {
        match released.place {
            Place::Now => now,
            Place::Held(slot) => self.held(slot),
        }
    }

    /// The packets released so far are sent: their memory may be used again.
    pub fn recycle(&mut self) {
        self.slots.recycle();
    }

    /// Take one packet. Those whose turn has come are added to `out`, in order; [`Place::Now`] among them is this one.
    /// `arrival` is when it came, by the kernel's stamp where there is one. [`Self::poll_timeout`] may change.
    pub fn handle_packet(&mut self, arrival: Instant, packet: &[u8], header: &Header, out: &mut Vec<Released>) {
        self.counters.received += 1;
        let arrival = self.stream.as_ref().map_or(arrival, |stream| stream.last.0.max(arrival));
        self.handle_timeout(arrival, out);
        if self.stream.is_none() {
            self.stream = Some(Stream::new(arrival, header));
            self.counters.ssrc = header.ssrc;
        }
        let Some(stream) = &mut self.stream else { return };
        if stream.covers(header, self.window) {
            self.drop_candidate();
            self.accept(arrival, Bytes::Now(packet), header, out);
        } else {
            self.consider(arrival, packet, header);
            self.handle_timeout(arrival, out);
        }
    }

    /// Time has passed: release what has waited long enough. Afterwards [`Self::poll_timeout`] is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Released>) {
        if self.takeover().is_some_and(|at| at <= now) {
            self.confirm(out);
        }
        while let Some(stream) = &self.stream
            && let Some((arrival, seq)) = stream.order.oldest()
            && arrival + self.window <= now
        {
            self.release_before(seq.add(1), out);
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest. `None`: nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.stream.as_ref().and_then(|stream| stream.order.oldest());
        let release = oldest.map(|(arrival, _)| arrival + self.window);
        release.into_iter().chain(self.takeover()).min()
    }

    /// The source ends: release all that waits, and give up what is missing between.
    pub fn flush(&mut self, out: &mut Vec<Released>) {
        if self.candidate.sequential {
            self.confirm(out);
        }
        self.drop_candidate();
        self.release_all(out);
    }

    /// The missing packet that others wait for.
    pub(in crate::proto) fn gap(&self) -> Option<ExtSeq> {
        self.stream.as_ref().filter(|stream| stream.order.oldest().is_some()).map(|stream| stream.order.next())
    }

    /// Wait no longer for the packet that [`Self::gap`] names.
    pub(in crate::proto) fn give_up(&mut self, out: &mut Vec<Released>) {
        if let Some(gap) = self.gap() {
            self.release_before(gap.add(1), out);
        }
    }

    /// Put a packet of this stream in its place that was brought back by other means than its arrival. `false`: it is
    /// there already, or its place was given up.
    pub(in crate::proto) fn recover(
        &mut self,
        now: Instant,
        packet: &[u8],
        header: &Header,
        out: &mut Vec<Released>,
    ) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let seq = stream.order.newest().unwrap(header.seq);
        if !matches!(stream.order.standing(seq), Standing::Next | Standing::Ahead) {
            return false;
        }
        let Some(slot) = self.slots.store(packet, header) else { return false };
        self.counters.recovered += 1;
        stream.order.wait(now, seq, slot, true);
        let next = stream.order.next();
        self.release_before(next, out);
        true
    }

    /// When the candidate becomes the stream, if the stream stays silent until then.
    fn takeover(&self) -> Option<Instant> {
        self.stream.as_ref().filter(|_| self.candidate.sequential).map(|stream| stream.last.0 + stream.silence())
    }

    /// A packet of the stream: deliver it, let it wait, or drop it.
    fn accept(&mut self, arrival: Instant, bytes: Bytes<'_>, header: &Header, out: &mut Vec<Released>) {
        let Some(stream) = &mut self.stream else { return };
        let seq = stream.order.newest().unwrap(header.seq);
        let standing = stream.order.standing(seq);
        if standing != Standing::Duplicate {
            let packet = match bytes {
                Bytes::Now(packet) => packet,
                Bytes::Held(slot) => self.slots.packet(slot),
            };
            self.tap.joined(arrival, seq, packet, header);
        }
        match standing {
            Standing::Duplicate | Standing::Late => {
                let count =
                    if standing == Standing::Late { &mut self.counters.late } else { &mut self.counters.duplicate };
                *count += 1;
                stream.alive(arrival);
                if let Bytes::Held(slot) = bytes {
                    self.slots.discard(slot);
                }
                return;
            }
            Standing::Next | Standing::Ahead => {}
        }
        if seq < stream.order.newest() {
            self.counters.reordered += 1;
        }
        stream.jitter.update(arrival, header.timestamp, &mut self.counters.jitter);
        stream.accepted += 1;
        stream.alive(arrival);
        if seq >= stream.order.newest() {
            stream.last.1 = header.timestamp;
        }
        if standing == Standing::Ahead {
            let slot = match bytes {
                _ if self.window.is_zero() => None,
                Bytes::Held(slot) => Some(slot),
                Bytes::Now(packet) => self.slots.store(packet, header),
            };
            if let Some(slot) = slot {
                stream.order.wait(arrival, seq, slot, false);
                return;
            }
            // No window, or no memory: what is missing before this one is given up now.
            self.release_before(seq, out);
        }
        let place = match bytes {
            Bytes::Now(_) => Place::Now,
            Bytes::Held(slot) => {
                self.slots.release(slot);
                Place::Held(slot)
            }
        };
        self.deliver(place, *header, (arrival, false), out);
        if let Some(stream) = &mut self.stream {
            stream.order.pass();
            let next = stream.order.next();
            self.release_before(next, out);
        }
    }

    fn deliver(
        &mut self,
        place: Place,
        header: Header,
        (arrival, recovered): (Instant, bool),
        out: &mut Vec<Released>,
    ) {
        let Some(stream) = &mut self.stream else { return };
        self.counters.delivered += 1;
        out.push(Released { place, header, arrival, recovered, discontinuity: std::mem::take(&mut stream.fresh) });
    }

    /// Release what waits before `target` and all that follows on it; count what is missing before `target` as lost.
    fn release_before(&mut self, target: ExtSeq, out: &mut Vec<Released>) {
        while let Some(stream) = &mut self.stream {
            let (lost, slot) = stream.order.release_before(target);
            self.counters.lost += lost;
            let Some(Waiting { slot, arrival, recovered, .. }) = slot else { return };
            self.slots.release(slot);
            self.deliver(Place::Held(slot), self.slots.header(slot), (arrival, recovered), out);
        }
    }

    /// Release all that waits; count what is missing between as lost.
    fn release_all(&mut self, out: &mut Vec<Released>) {
        if let Some(stream) = &self.stream {
            self.release_before(stream.order.newest(), out);
        }
    }

    /// A packet that does not belong where the stream stands.
    fn consider(&mut self, arrival: Instant, packet: &[u8], header: &Header) {
        let seq = match self.candidate.held.back() {
            Some(newest) if self.candidate.ssrc == header.ssrc => Some(newest.seq.unwrap(header.seq))
                .filter(|seq| seq.value().abs_diff(newest.seq.value()) <= MAX_MISORDER),
            _ => None,
        };
        let seq = seq.unwrap_or_else(|| {
            self.drop_candidate();
            self.candidate.ssrc = header.ssrc;
            ExtSeq::start(header.seq)
        });
        let at = self.candidate.held.partition_point(|held| held.seq < seq);
        if self.candidate.held.get(at).is_some_and(|held| held.seq == seq) {
            self.counters.duplicate += 1;
            return;
        }
        let Some(slot) = self.slots.store(packet, header) else {
            // No memory for more doubt.
            self.counters.stray += 1;
            return;
        };
        self.candidate.sequential |= at > 0 && self.candidate.held[at - 1].seq.add(1) == seq;
        self.candidate.held.insert(at, Held { seq, slot, arrival });
    }

    /// The candidate is the stream now.
    fn confirm(&mut self, out: &mut Vec<Released>) {
        let Some(stream) = &self.stream else { return };
        let Some(first) = self.candidate.held.front().copied() else { return };
        let header = self.slots.header(first.slot);
        if !stream.explains(first.arrival, &header) {
            self.release_all(out);
            self.tap.restarted();
            self.counters.restarts += 1;
            self.counters.ssrc = header.ssrc;
            if let Some(stream) = &mut self.stream {
                stream.restart(first.arrival, &header);
            }
        }
        self.candidate.sequential = false;
        while let Some(Held { slot, arrival, .. }) = self.candidate.held.pop_front() {
            self.accept(arrival, Bytes::Held(slot), &self.slots.header(slot), out);
        }
    }

    /// The candidate was none: count its packets for what they are.
    fn drop_candidate(&mut self) {
        self.candidate.sequential = false;
        while let Some(Held { slot, .. }) = self.candidate.held.pop_front() {
            let header = self.slots.header(slot);
            self.slots.discard(slot);
            let standing = self.stream.as_ref().filter(|stream| stream.ssrc == header.ssrc).map(|stream| {
                let seq = stream.order.newest().unwrap(header.seq);
                (stream.order.standing(seq), stream.order.next().since(seq) <= MAX_DROPOUT)
            });
            match standing {
                Some((Standing::Duplicate, _)) => self.counters.duplicate += 1,
                Some((Standing::Late, true)) => self.counters.late += 1,
                _ => self.counters.stray += 1,
            }
        }
    }
}

impl Stream {
    fn new(arrival: Instant, first: &Header) -> Self {
        Self {
            ssrc: first.ssrc,
            order: Reorder::new(first.seq),
            jitter: Jitter::default(),
            last: (arrival, first.timestamp),
            pause: Duration::ZERO,
            since: arrival,
            accepted: 0,
            fresh: false,
        }
    }

    fn restart(&mut self, arrival: Instant, first: &Header) {
        self.ssrc = first.ssrc;
        self.order.restart(first.seq);
        self.jitter = Jitter::default();
        self.last = (arrival, first.timestamp);
        self.pause = Duration::ZERO;
        self.since = arrival;
        self.accepted = 0;
        self.fresh = true;
    }

    /// Whether a packet belongs where this stream stands.
    fn covers(&self, header: &Header, window: Duration) -> bool {
        if header.ssrc != self.ssrc {
            return false;
        }
        let (seq, newest) = (self.order.newest().unwrap(header.seq), self.order.newest());
        if seq > newest {
            let ahead = self.packets_in(window).saturating_mul(2).clamp(MAX_MISORDER, MAX_DROPOUT);
            seq.since(newest) <= ahead
        } else {
            seq >= self.order.next() || newest.since(seq) <= MAX_MISORDER
        }
    }

    /// Whether a packet that this stream does not cover is a later one of it, after a loss: as near as `MAX_DROPOUT`, or
    /// as far as its own timestamp and the packets of such a time say.
    fn explains(&self, arrival: Instant, header: &Header) -> bool {
        let newest = self.order.newest();
        let ahead = newest.unwrap(header.seq).since(newest);
        if header.ssrc != self.ssrc || ahead == 0 {
            return false;
        }
        let silence = arrival.saturating_duration_since(self.last.0);
        let media = header.timestamp.distance(self.last.1);
        let drift = media.wrapping_sub(RtpTime::ticks(silence).cast_signed()).unsigned_abs();
        ahead <= MAX_DROPOUT
            || (u64::from(drift) < RtpTime::HZ / 2 && ahead <= self.packets_in(silence).saturating_mul(2))
    }

    /// How many packets this stream sends in such a time, by its mean rate so far.
    fn packets_in(&self, span: Duration) -> u64 {
        let elapsed = self.last.0.saturating_duration_since(self.since).as_micros().max(1);
        u64::try_from(u128::from(self.accepted) * span.as_micros() / elapsed).unwrap_or(u64::MAX)
    }

    /// How long this stream must be silent before another may take over.
    fn silence(&self) -> Duration {
        (self.pause * 2).clamp(SILENCE.0, SILENCE.1)
    }

    fn alive(&mut self, arrival: Instant) {
        let pause = arrival.saturating_duration_since(self.last.0).min(SILENCE.1);
        self.pause = (self.pause - self.pause / 64).max(pause);
        self.last.0 = self.last.0.max(arrival);
    }
}

#[cfg(test)]
pub(crate) mod tests;
