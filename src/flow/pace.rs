//! `smoothing`: packets leave evenly, at the source's own clock.
//!
//! A packet that came at its time leaves `smoothing` later; one that was early waits longer, one that was late less.
//! What comes later than that leaves at once, nothing is dropped for it. No packet waits for more than twice the
//! smoothing, so a source that is faster than its clock says, or whose clock lies, can't fill the memory.
//!
//! The delay is `smoothing` on average. It settles in the first half of it, on the mean of what has come until then;
//! after that only the speed of the expected times is changed, by 800 ppm at most, and never the delay in a step. A step
//! there is when the source gives cause: its clock is set anew, or everything comes too late or too early for longer
//! than the greater of 500 ms and the smoothing.

use crate::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

use crate::config::value::Bitrate;
use crate::proto::seq::RtpTime;

use super::egress::MediaPacket;

mod clock;
mod drift;

use super::ring::{Ring, Span};
use clock::{Clock, Mark, Step};
pub use clock::{SourceClock, Timebase};

/// What comes too late or too early for this long, or for longer than the smoothing, moves the clock, seconds.
const PATIENCE: f64 = 0.5;
/// Bounds of the memory for packets that wait.
const MEMORY: (usize, usize) = (256 << 10, 64 << 20);

/// Everything that waits must leave before there is room for another packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the smoothing buffer is full")]
pub struct Full;

/// Counts since the pacer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PaceCounters {
    /// Packets taken in.
    pub packets: u64,
    /// Packets that came too late to leave evenly: they left at once.
    pub late: u64,
    /// Packets that came too early: they left after twice the smoothing.
    pub early: u64,
    /// Packets that left before their time for want of memory.
    pub overflow: u64,
    /// How often the delay was set anew: at the start, after a break of the source's clock, and after correcting it.
    pub anchored: u64,
}

/// A packet that waits.
#[derive(Debug, Clone)]
struct Waiting {
    span: Span,
    /// Where the payload is in the datagram.
    payload: (usize, usize),
    timestamp: RtpTime,
    /// The timestamp is that of its arrival.
    by_arrival: bool,
    discontinuity: bool,
    /// Bytes of the stream before it.
    position: u64,
    arrival: f64,
    /// When it would have arrived if nothing had delayed it.
    expected: f64,
}

/// Holds the packets of a flow, and lets them go evenly. One serves all outputs with the same smoothing.
///
/// [`Self::push`] what arrives; at [`Self::poll_timeout`] or later [`Self::release`], send [`Self::released`], then
/// [`Self::sent`].
#[derive(Debug, Clone)]
pub struct Pacer {
    smoothing: f64,
    start: Instant,
    clock: Clock,
    ring: Ring,
    waiting: VecDeque<Waiting>,
    /// The first so many of them are on their way out.
    released: usize,
    /// When the last one was due that left.
    last_due: f64,
    last_arrival: f64,
    position: u64,
    /// A new anchor: the stream's position there, and when what has come since says how good it was.
    settling: Option<(u64, f64)>,
    /// Packets are too late (or early: negative), since one that arrived then.
    strain: Option<(f64, f64)>,
    /// A timestamp by arrival, and that arrival.
    media_time: Option<(RtpTime, f64)>,
    full: bool,
    counters: PaceCounters,
}

impl Pacer {
    /// One that delays packets by `smoothing` on average, of a source of at most `max_rate`. Memory is taken when
    /// packets come: at most what they are in twice the smoothing at that rate, and 64 MiB.
    pub fn new(smoothing: Duration, max_rate: Bitrate, now: Instant) -> Self {
        Self {
            smoothing: smoothing.as_secs_f64(),
            start: now,
            clock: Clock::new(smoothing.as_secs_f64()),
            ring: Ring::new(memory(smoothing, max_rate)),
            waiting: VecDeque::new(),
            released: 0,
            last_due: 0.0,
            last_arrival: 0.0,
            position: 0,
            settling: None,
            strain: None,
            media_time: None,
            full: false,
            counters: PaceCounters::default(),
        }
    }

    /// Change the delay, for what waits already too: what has waited for as long is due at once.
    /// [`Self::poll_timeout`] may change.
    pub fn set_smoothing(&mut self, smoothing: Duration, max_rate: Bitrate) {
        self.smoothing = smoothing.as_secs_f64();
        self.clock.set_smoothing(self.smoothing);
        self.ring.set_limit(memory(smoothing, max_rate));
    }

    /// Take in the next packet, that arrived at `arrival`; earlier times than of the one before count as that.
    /// [`Self::poll_timeout`] may change.
    ///
    /// # Errors
    /// There is no room: send everything that waits, which is due now, and push it again.
    pub fn push(&mut self, packet: &MediaPacket<'_>, clock: SourceClock, arrival: Instant) -> Result<(), Full> {
        let (bytes, payload) = packet.layout();
        let Some(span) = self.ring.push(bytes) else {
            self.full = true;
            return Err(Full);
        };
        let now = arrival.saturating_duration_since(self.start).as_secs_f64().max(self.last_arrival);
        self.last_arrival = now;
        let position = self.position;
        self.position += packet.payload.len() as u64;
        if packet.discontinuity {
            self.clock.restart();
        }
        let step = self.clock.advance(position, now, clock, packet.payload);
        self.waiting.push_back(Waiting {
            span,
            payload,
            timestamp: packet.timestamp,
            by_arrival: clock == SourceClock::Stream,
            discontinuity: packet.discontinuity,
            position,
            arrival: now,
            expected: self.clock.predict(position),
        });
        self.counters.packets += 1;
        match step {
            Step::Within => {}
            Step::Joined(from, to) => self.spread(from, to),
            Step::Anchored(mark) => {
                self.counters.anchored += 1;
                self.strain = None;
                self.settling = Some((mark.position.min(position), now + self.smoothing / 2.0));
            }
        }
        self.settle(now);
        Ok(())
    }

    /// When the next packet is to leave. `None`: none waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting
            .get(self.released)
            .map(|waiting| if self.full { self.start } else { self.instant(self.due(waiting)) })
    }

    /// Let everything go whose time has come. How many packets are on their way out.
    pub fn release(&mut self, now: Instant) -> usize {
        let full = std::mem::take(&mut self.full);
        while let Some(waiting) = self.waiting.get(self.released) {
            let due = self.due(waiting);
            if self.instant(due) > now {
                if !full {
                    break;
                }
                self.counters.overflow += 1;
            } else {
                self.last_due = due;
            }
            let (arrival, error) = (waiting.arrival, waiting.arrival - waiting.expected);
            self.retime(due);
            self.released += 1;
            self.judge(arrival, error);
        }
        self.released
    }

    /// The packets on their way out, in the order they came. The timestamps of those of [`SourceClock::Stream`] are no
    /// longer those of their arrival, but as even as they leave.
    pub fn released(&self) -> impl Iterator<Item = MediaPacket<'_>> + Clone {
        self.waiting.iter().take(self.released).map(|waiting| {
            let datagram = self.ring.get(waiting.span);
            let (start, len) = waiting.payload;
            let (timestamp, discontinuity) = (waiting.timestamp, waiting.discontinuity);
            let arrival = self.instant(waiting.arrival);
            MediaPacket { payload: &datagram[start..][..len], datagram, arrival, timestamp, discontinuity }
        })
    }

    /// They are sent: their memory may be used again.
    pub fn sent(&mut self) {
        self.waiting.drain(..self.released);
        self.released = 0;
        self.ring.free_before(self.waiting.front().map(|waiting| waiting.span));
    }

    /// The figures so far.
    pub const fn counters(&self) -> &PaceCounters {
        &self.counters
    }

    /// What gives the pace.
    pub const fn timebase(&self) -> Timebase {
        self.clock.timebase()
    }

    /// How much slower the source's clock runs than ours, in parts per million, as far as it is known.
    pub const fn drift_ppm(&self) -> f64 {
        self.clock.drift() * 1e6
    }

    /// Memory taken for packets, in bytes.
    pub const fn memory(&self) -> usize {
        self.ring.capacity()
    }

    fn instant(&self, time: f64) -> Instant {
        self.start + Duration::try_from_secs_f64(time).unwrap_or_default()
    }

    fn due(&self, waiting: &Waiting) -> f64 {
        let due = (waiting.expected + self.smoothing).min(waiting.arrival + 2.0 * self.smoothing);
        due.max(self.last_due)
    }

    /// The times of two marks are known: packets between them are spread by their bytes.
    fn spread(&mut self, from: Mark, to: Mark) {
        let bytes = to.position.saturating_sub(from.position).max(1) as f64;
        let slowness = (to.due - from.due) / bytes;
        for waiting in self.waiting.iter_mut().skip(self.released).rev() {
            let Some(offset) = waiting.position.checked_sub(from.position) else { break };
            waiting.expected = from.due + offset as f64 * slowness;
        }
    }

    /// Half a smoothing after an anchor none of its packets has left, unless they are few: the mean of them is better
    /// than the first.
    fn settle(&mut self, now: f64) {
        let Some((position, _)) = self.settling.filter(|(_, at)| now >= *at) else { return };
        self.settling = None;
        let fresh = self.waiting.iter().skip(self.released).skip_while(|waiting| waiting.position < position);
        let (mut count, mut sum, mut first) = (0, 0.0, None);
        for waiting in fresh {
            first = first.or(Some(waiting));
            (count, sum) = (count + 1, sum + waiting.arrival - waiting.expected);
        }
        if let Some(first) = first.filter(|first| first.position == position) {
            // Nothing may have been due already.
            let least = now - self.smoothing - first.expected;
            self.shift(count, (sum / count as f64).max(least));
        }
    }

    /// The newest `count` packets and all that come are expected later by this.
    fn shift(&mut self, count: usize, by: f64) {
        self.waiting.iter_mut().rev().take(count).for_each(|waiting| waiting.expected += by);
        self.clock.shift(by);
    }

    /// The next packet leaves: if it has no timestamp but that of its arrival, this is when it is due.
    fn retime(&mut self, due: f64) {
        let Some(waiting) = self.waiting.get_mut(self.released).filter(|waiting| waiting.by_arrival) else { return };
        let base = self.media_time.filter(|_| !waiting.discontinuity);
        let (timestamp, since) = base.unwrap_or((waiting.timestamp, waiting.arrival));
        self.media_time = Some((timestamp, since));
        waiting.timestamp = timestamp.add(Duration::try_from_secs_f64(due - since).unwrap_or_default());
    }

    /// A packet leaves that arrived so much later than expected.
    fn judge(&mut self, arrival: f64, error: f64) {
        if error.abs() <= self.smoothing {
            self.strain = None;
            self.clock.sample(arrival, error);
            return;
        }
        let (count, side) = if error > 0.0 { (&mut self.counters.late, 1.0) } else { (&mut self.counters.early, -1.0) };
        *count += 1;
        let (_, since) = self.strain.filter(|(before, _)| *before == side).unwrap_or((side, arrival));
        self.strain = Some((side, since));
        if arrival - since >= PATIENCE.max(self.smoothing) {
            self.strain = None;
            self.settling = None;
            self.counters.anchored += 1;
            self.shift(self.waiting.len() - self.released, error);
            self.clock.blame(arrival, error);
        }
    }
}

/// Most memory for packets that wait.
fn memory(smoothing: Duration, max_rate: Bitrate) -> usize {
    let bytes = max_rate.bps() as f64 / 8.0 * 2.0 * smoothing.as_secs_f64();
    (bytes as usize).clamp(MEMORY.0, MEMORY.1)
}

#[cfg(test)]
mod tests;
