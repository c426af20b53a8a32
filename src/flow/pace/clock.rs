//! When the packets of a stream would arrive if nothing had delayed them: the source's clock, carried over to ours.
//!
//! The stream's bytes bear ticks of a clock: RTP timestamps, else PCRs, else (the source has no clock) times of arrival
//! at intervals, smoothed. Between two ticks packets are spread by their bytes, because a sender may give one timestamp
//! to many packets; after the newest tick they follow at the rate so far, until the next one puts them right. Each tick
//! moves the expected arrival on by what the source's clock says, at the speed of that clock as it is measured against
//! ours by [`Drift`].
//!
//! A clock must earn its place: RTP timestamps that run back are times of presentation, those that never change or count
//! something else than 90 kHz are none at all, and then the next best clock is taken.
//!
//! Times here are seconds on our clock since some start: after ten years a `f64` still tells 60 ns apart.

use crate::proto::mpegts::packet::{PACKET_LEN, PacketHeader};
use crate::proto::mpegts::pcr::{Pcr, PcrFollower, PcrSample};
use crate::proto::seq::RtpTime;

use super::drift::Drift;

/// What gives the pace, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timebase {
    /// RTP timestamps.
    Rtp,
    /// The PCRs of one program.
    Pcr,
    /// The rate of arrival.
    Rate,
}

/// What clock a packet bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceClock {
    /// The RTP timestamp of its source, as it came or rebased by a constant.
    Rtp(RtpTime),
    /// None but what its payload may hold.
    Stream,
}

/// A clock without a tick for this long is stopped: a lesser one takes over, seconds.
const STOPPED: f64 = 1.0;
/// A clock that goes back by more than this, or ahead of our time by more than this and the smoothing, has been set
/// anew, seconds.
const LEAP: f64 = 1.0;
/// The rate so far is that of about so much of the stream, seconds.
const RATE_OVER: f64 = 1.0;
/// A clock that had to be corrected to the same side so often in so many seconds is worse than none.
const DISTRUST: (i32, f64) = (3, 10.0);
/// After so many seconds it is tried again.
const DISTRUST_FOR: f64 = 3600.0;
/// An arrival moves the time of a source without clock by these parts of what it differs: in phase and in rate.
const ARRIVAL_GAIN: (f64, f64) = (0.1, 0.005);

/// A point of the stream whose time is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mark {
    /// Bytes of the stream before it.
    pub(super) position: u64,
    /// When it would arrive.
    pub(super) due: f64,
}

/// What a packet has told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Nothing new.
    Within,
    /// The time of all between two marks.
    Joined(Mark, Mark),
    /// The clock begins anew here.
    Anchored(Mark),
}

/// A tick of some clock.
struct Tick {
    timebase: Timebase,
    position: u64,
    /// Seconds of that clock since its last one; `None`: it does not follow on that.
    step: Option<f64>,
}

/// The source's clock.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    smoothing: f64,
    timebase: Timebase,
    mark: Option<Mark>,
    /// When the newest tick of the time base arrived.
    ticked: f64,
    rtp: Option<RtpTime>,
    pcr: PcrFollower,
    /// Seconds and bytes that give the rate.
    rate: (f64, f64),
    drift: Drift,
    /// The best time base that is trusted; until when the better ones are not.
    trusted: (Timebase, f64),
    /// When the clock was corrected first of late, and how often to the later since; negative: to the earlier.
    corrected: (f64, i32),
}

impl Clock {
    pub(super) fn new(smoothing: f64) -> Self {
        Self {
            smoothing,
            timebase: Timebase::Rate,
            mark: None,
            ticked: 0.0,
            rtp: None,
            pcr: PcrFollower::default(),
            rate: (0.0, 0.0),
            drift: Drift::default(),
            trusted: (Timebase::Rtp, 0.0),
            corrected: (0.0, 0),
        }
    }

    pub(super) const fn set_smoothing(&mut self, smoothing: f64) {
        self.smoothing = smoothing;
    }

    pub(super) const fn timebase(&self) -> Timebase {
        self.timebase
    }

    /// How much faster our clock runs than the source's, in parts of 1.
    pub(super) const fn drift(&self) -> f64 {
        self.drift.frequency()
    }

    /// Another stream begins with the next packet.
    pub(super) fn restart(&mut self) {
        (self.mark, self.rtp, self.rate) = (None, None, (0.0, 0.0));
        self.pcr = PcrFollower::default();
        self.trusted = (Timebase::Rtp, 0.0);
        self.corrected = (0.0, 0);
    }

    /// Take the next packet, that begins at `position` of the stream and arrived at `now`.
    pub(super) fn advance(&mut self, position: u64, now: f64, clock: SourceClock, payload: &[u8]) -> Step {
        if now >= self.trusted.1 {
            self.trusted.0 = Timebase::Rtp;
        }
        let stopped = self.mark.is_none() || now - self.ticked > STOPPED;
        let rtp = match clock {
            SourceClock::Rtp(time) => self.rtp_tick(time, position, now).filter(|_| self.trusted.0 == Timebase::Rtp),
            SourceClock::Stream => None,
        };
        let by_rtp = matches!(clock, SourceClock::Rtp(_)) && self.timebase == Timebase::Rtp && !stopped;
        let tick = if rtp.is_some() || by_rtp { rtp } else { self.pcr_tick(payload, position) };
        let gone = clock == SourceClock::Stream && self.timebase == Timebase::Rtp;
        match tick.filter(|tick| tick.timebase <= self.timebase || stopped || gone) {
            Some(tick) => self.tick(&tick, now),
            None if self.timebase == Timebase::Rate || stopped => self.arrival(position, now),
            None => Step::Within,
        }
    }

    /// When a packet after the newest mark would arrive.
    pub(super) fn predict(&self, position: u64) -> f64 {
        self.mark.map_or(0.0, |mark| mark.due + bytes_between(mark.position, position) * self.slowness())
    }

    /// A packet arrived so long after it would have (negative: before).
    pub(super) fn sample(&mut self, now: f64, error: f64) {
        if self.timebase != Timebase::Rate {
            self.drift.sample(now, error);
        }
    }

    /// From the newest mark on everything arrives later by this.
    pub(super) fn shift(&mut self, by: f64) {
        if let Some(mark) = &mut self.mark {
            mark.due += by;
        }
        self.drift.pause();
    }

    /// The clock had to be corrected by so much. One that always errs on the same side runs at another speed than it
    /// should; on alternate sides it is the network that does.
    pub(super) fn blame(&mut self, now: f64, error: f64) {
        if self.timebase == Timebase::Rate {
            return;
        }
        let (since, often) = self.corrected;
        let again = now - since <= DISTRUST.1 && (often > 0) == (error > 0.0);
        let side = if error > 0.0 { 1 } else { -1 };
        self.corrected = if again { (since, often + side) } else { (now, side) };
        if self.corrected.1.abs() >= DISTRUST.0 {
            self.corrected = (now, 0);
            self.distrust(self.timebase, now);
        }
    }

    /// Go by a lesser time base for a while.
    fn distrust(&mut self, timebase: Timebase, now: f64) {
        let next = if timebase == Timebase::Rtp { Timebase::Pcr } else { Timebase::Rate };
        self.trusted = (self.trusted.0.max(next), now + DISTRUST_FOR);
        if self.timebase < next {
            self.timebase = Timebase::Rate;
        }
    }

    fn slowness(&self) -> f64 {
        if self.rate.1 > 0.0 { self.rate.0 / self.rate.1 } else { 0.0 }
    }

    fn rtp_tick(&mut self, time: RtpTime, position: u64, now: f64) -> Option<Tick> {
        let ticks = self.rtp.map(|last| f64::from(time.distance(last)) / RtpTime::HZ as f64);
        if let Some(step) = ticks.filter(|step| (-LEAP..=0.0).contains(step)) {
            if step < 0.0 {
                // These are times of presentation, as ffmpeg sends them, and pictures are not sent in that order.
                self.distrust(Timebase::Rtp, now);
            }
            return None;
        }
        self.rtp = Some(time);
        Some(Tick { timebase: Timebase::Rtp, position, step: ticks.filter(|step| *step > 0.0) })
    }

    /// The last PCR of a datagram.
    fn pcr_tick(&mut self, payload: &[u8], position: u64) -> Option<Tick> {
        if self.trusted.0 > Timebase::Pcr {
            return None;
        }
        let (mut newest, mut step) = (None::<PcrSample>, Some(0.0));
        for (position, packet) in (position..).step_by(PACKET_LEN).zip(payload.as_chunks().0) {
            let header = PacketHeader::parse(packet).filter(|header| header.adaptation() && !header.transport_error());
            if let Some(sample) = header.and_then(|header| self.pcr.handle(header, packet, position)) {
                let ticks = (!sample.discontinuity).then_some(sample.step as f64 / Pcr::HZ as f64);
                step = step.zip(ticks).map(|(sum, step)| sum + step);
                newest = Some(sample);
            }
        }
        newest.map(|sample| Tick { timebase: Timebase::Pcr, position: sample.position, step })
    }

    fn tick(&mut self, tick: &Tick, now: f64) -> Step {
        let changed = self.timebase != tick.timebase;
        (self.timebase, self.ticked) = (tick.timebase, now);
        let Some(last) = self.mark.filter(|_| !changed) else {
            return self.set_anew(tick.position, now);
        };
        let due = tick.step.map(|step| last.due + step * (1.0 + self.drift.speed()));
        if let Some(due) = due.filter(|due| due - now <= self.smoothing + LEAP) {
            return self.join(last, Mark { position: tick.position, due });
        }
        let step = self.set_anew(tick.position, now);
        if let Step::Anchored(_) = step {
            self.blame(now, due.map_or(1.0, |due| now - due));
        }
        step
    }

    fn join(&mut self, last: Mark, next: Mark) -> Step {
        // A pause is no rate.
        if next.due - last.due <= STOPPED {
            self.rate.0 += next.due - last.due;
            self.rate.1 += bytes_between(last.position, next.position);
        }
        if self.rate.0 > RATE_OVER {
            self.rate = (self.rate.0 / 2.0, self.rate.1 / 2.0);
        }
        self.mark = Some(next);
        Step::Joined(last, next)
    }

    /// The clock's ticks begin anew: at what the rate has led to, if that is near enough.
    fn set_anew(&mut self, position: u64, now: f64) -> Step {
        if let Some(last) = self.mark.filter(|_| self.slowness() == 0.0)
            && (0.0..=self.smoothing).contains(&(now - last.due))
        {
            // So early nothing better is known than when packets come.
            return self.join(last, Mark { position, due: now });
        }
        let predicted = self.predict(position);
        if self.mark.is_some() && (now - predicted).abs() <= self.smoothing / 2.0 {
            self.mark = Some(Mark { position, due: predicted });
            self.drift.pause();
            return Step::Within;
        }
        let mark = Mark { position, due: now };
        self.mark = Some(mark);
        self.drift = Drift::default();
        Step::Anchored(mark)
    }

    /// A packet without any clock: its arrival is a tick, if the last one is a while ago.
    fn arrival(&mut self, position: u64, now: f64) -> Step {
        let elapsed = now - self.ticked;
        let Some(last) = self.mark.filter(|_| self.timebase == Timebase::Rate) else {
            (self.timebase, self.ticked) = (Timebase::Rate, now);
            return self.set_anew(position, now);
        };
        let bytes = bytes_between(last.position, position);
        if elapsed < self.smoothing / 4.0 || bytes == 0.0 {
            return Step::Within;
        }
        self.ticked = now;
        let error = now - self.predict(position);
        if elapsed > STOPPED {
            return self.set_anew(position, now);
        }
        if self.slowness() > 0.0 && error.abs() <= self.smoothing / 2.0 {
            let due = (now - error * (1.0 - ARRIVAL_GAIN.0)).max(last.due);
            let slowness = (self.slowness() + error * ARRIVAL_GAIN.1 / bytes).max(0.0);
            self.rate = (slowness, 1.0);
            self.mark = Some(Mark { position, due });
        } else {
            let due = now.max(last.due);
            self.rate = ((due - last.due) / bytes, 1.0);
            self.mark = Some(Mark { position, due });
        }
        self.mark.map_or(Step::Within, |mark| Step::Joined(last, mark))
    }
}

fn bytes_between(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64
}
