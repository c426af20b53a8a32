//! The clock of a program: how often its PCRs come, how evenly, and how exactly.

use std::time::Duration;

use crate::proto::mpegts::packet::PACKET_LEN;
use crate::proto::mpegts::pcr::{Pcr, PcrTracker};
use crate::time::Instant;

use super::check::Repetition;

/// The longest time from one PCR to the next (TR 101 290, 2.3a and 2.3b).
pub(super) const PCR_PERIOD: Duration = Duration::from_millis(100);
/// The same in ticks.
const PERIOD_TICKS: i64 = (Pcr::HZ / 10).cast_signed();
/// How far a PCR may be off (TR 101 290, 2.4): 500 ns, in ticks.
const ACCURACY: f64 = 0.000_000_5 * Pcr::HZ as f64;

/// What is wrong with a PCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults {
    pub(super) discontinuity: bool,
    pub(super) accuracy: bool,
}

/// A program's clock, of the last whole second in which PCRs came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockFigures {
    /// The longest time between two PCRs, by their arrival.
    pub interval: Option<Duration>,
    /// How far arrival and PCR drifted apart and together, peak to peak.
    pub jitter: Option<Duration>,
    /// How far a PCR was off at most, by its place in the stream: an estimate, only where the multiplex has a constant
    /// rate.
    pub accuracy: Option<Duration>,
}

/// Follows the PCRs of one PID: 250 bytes.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    pub(super) pid: u16,
    pub(super) late: Repetition,
    tracker: PcrTracker,
    arrival: Option<Instant>,
    /// Where arrival less PCR is measured from.
    base: Option<(Instant, u64)>,
    mux: Mux,
    window: Window,
    pub(super) figures: ClockFigures,
}

/// The window in which figures are gathered.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    interval: Option<Duration>,
    /// The least and the greatest of arrival less PCR, in nanoseconds.
    offsets: Option<(i64, i64)>,
    /// In ticks.
    accuracy: Option<f64>,
}

impl Clock {
    pub(super) fn new(pid: u16, now: Instant) -> Self {
        Self {
            pid,
            late: Repetition::from(now),
            tracker: PcrTracker::default(),
            arrival: None,
            base: None,
            mux: Mux::default(),
            window: Window::default(),
            figures: ClockFigures::default(),
        }
    }

    /// Take the next PCR, at so many bytes of the stream.
    pub(super) fn sample(&mut self, pcr: Pcr, indicated: bool, position: u64, arrival: Instant) -> Faults {
        let mut faults = Faults::default();
        let first = self.tracker.last().is_none();
        let sample = self.tracker.sample(pcr, indicated, position);
        self.late = Repetition::from(arrival);
        if let Some(last) = self.arrival.replace(arrival) {
            self.window.interval = self.window.interval.max(Some(arrival.saturating_duration_since(last)));
        }
        if sample.step == 0 && !first && !indicated {
            // The packet came twice.
            return faults;
        }
        faults.discontinuity = !first && !indicated && !(0..=PERIOD_TICKS).contains(&sample.step);
        if sample.discontinuity || self.base.is_none() {
            self.base = Some((arrival, sample.time));
        }
        if let Some((at, time)) = self.base {
            let arrived = arrival.saturating_duration_since(at).as_nanos() as i64;
            let offset = arrived - (i128::from(sample.time - time) * 1000 / 27) as i64;
            let (least, most) = self.window.offsets.filter(|_| !sample.discontinuity).unwrap_or((offset, offset));
            self.window.offsets = Some((least.min(offset), most.max(offset)));
        }
        if sample.discontinuity {
            self.mux = Mux::default();
        }
        if faults.discontinuity {
            // One fault is enough: the stream goes on from here.
            self.mux.anchor(position, sample.time);
        } else if let Some(error) = self.mux.sample(position, sample.time) {
            faults.accuracy = error > ACCURACY;
            self.window.accuracy = Some(self.window.accuracy.map_or(error, |most| most.max(error)));
        }
        faults
    }

    /// The window ends.
    pub(super) fn roll(&mut self) {
        let Window { interval, offsets, accuracy } = std::mem::take(&mut self.window);
        self.figures = ClockFigures {
            interval,
            jitter: offsets.map(|(least, most)| Duration::from_nanos(most.abs_diff(least))),
            accuracy: accuracy.map(|ticks| Duration::from_secs_f64(ticks / Pcr::HZ as f64)),
        };
    }

    /// The stream begins anew.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self { figures: self.figures, ..Self::new(self.pid, now) };
    }
}

/// A multiplex has a constant rate if for so many PCRs in a row, and so long, no interval was off by more than 1 %.
const STEADY: (u32, u64) = (16, 2 * Pcr::HZ);
/// The rate is measured over up to so long; that is as exact as it has to be.
const BASELINE: u64 = 60 * Pcr::HZ;
/// So many intervals off by more than 1 %, twice as many as right ones, and the rate is not constant any more.
const UNSTEADY: u8 = 12;

/// A place in the stream, in bytes and in ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    position: u64,
    time: f64,
}

/// The multiplex behind a clock: where its rate is constant, each byte has its time, and each PCR can be judged.
///
/// What is compared is a PCR with the line through those before. One that is off counts once; if the next agrees with
/// it, the line moves. Where whole packets are missing, the line moves as well.
#[derive(Debug, Clone, Copy, Default)]
struct Mux {
    /// Where the measurement of the rate began; `None`: nowhere yet.
    origin: Option<Point>,
    last: Point,
    /// On the line.
    reference: Point,
    ticks_per_byte: f64,
    samples: u32,
    odd: u8,
    steady: bool,
}

impl Mux {
    /// Go on from here, at the same rate.
    fn anchor(&mut self, position: u64, time: u64) {
        let here = Point { position, time: time as f64 };
        (self.origin, self.last, self.reference, self.samples) = (Some(here), here, here, 0);
    }

    /// How many ticks a PCR is off; `None` where that cannot be said.
    fn sample(&mut self, position: u64, time: u64) -> Option<f64> {
        let here = Point { position, time: time as f64 };
        let Some(origin) = self.origin else {
            self.anchor(position, time);
            return None;
        };
        let bytes = position.saturating_sub(self.last.position) as f64;
        let ticks = here.time - self.last.time;
        self.last = here;
        let mean = (here.time - origin.time) / (position.saturating_sub(origin.position).max(1) as f64);
        if !self.steady {
            if (ticks - bytes * mean).abs() > (ticks * 0.01).max(27.0) {
                self.anchor(position, time);
                return None;
            }
            self.samples += 1;
            if self.samples >= STEADY.0 && here.time - origin.time >= STEADY.1 as f64 {
                (self.steady, self.reference, self.ticks_per_byte, self.odd) = (true, here, mean, 0);
            }
            return None;
        }
        let step_error = ticks - bytes * self.ticks_per_byte;
        let along = position.saturating_sub(self.reference.position) as f64 * self.ticks_per_byte;
        let expected = self.reference.time + along;
        let error = here.time - expected;
        if step_error.abs() > ticks * 0.01 {
            self.odd += 2;
            if self.odd > UNSTEADY {
                *self = Self::default();
                self.anchor(position, time);
                return None;
            }
        } else {
            self.odd = self.odd.saturating_sub(1);
        }
        if error.abs() <= ACCURACY {
            self.reference = Point { position, time: expected + error / 8.0 };
            if (STEADY.1 as f64..BASELINE as f64).contains(&(here.time - origin.time)) {
                self.ticks_per_byte = mean;
            }
            return Some(error.abs());
        }
        let packet = PACKET_LEN as f64 * self.ticks_per_byte;
        let missing = (error / packet).round();
        let is_loss = missing != 0.0 && (error - missing * packet).abs() <= ACCURACY;
        if is_loss || step_error.abs() <= ACCURACY {
            self.anchor(position, time);
            return None;
        }
        self.reference = Point { position, time: expected };
        Some(error.abs())
    }
}
