//! Counters become figures over time: rates, states, conditions and the events of their changes.

use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::history::{OutputHistory, SourceHistory};
use crate::flow::delay::{DelaySnapshot, Delays};
use crate::flow::stats::{Invalid, OutputStats, SmoothingStats, SourceStats};
use crate::observe::condition::Condition;
use crate::observe::status::{ConditionDoc, OutputState, SourceState};

/// How often counters are read.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// How long delays are collected before the oldest are forgotten.
const DELAY_WINDOW: Duration = Duration::from_secs(5);
/// A source that has been silent for this long is lost.
const SILENCE: Duration = Duration::from_secs(1);
/// A fault that happened within this time counts as one that is there.
const RECENT: Duration = Duration::from_secs(60);
/// An output whose last fault is this young is in error.
pub(super) const FAULT: Duration = Duration::from_secs(3);

/// The rate of a counter of bytes, over the last second.
#[derive(Debug, Default)]
struct Rate {
    samples: [Option<(Instant, u64)>; 3],
    bps: u64,
    /// The rate while it was flowing.
    last_bps: u64,
}

impl Rate {
    fn update(&mut self, bytes: u64, now: Instant) {
        let (newest, full_bps) = (self.samples[2].map_or(bytes, |(_, newest)| newest), self.bps);
        if let Some((at, before)) = self.samples.iter().flatten().next() {
            let span = now.saturating_duration_since(*at).as_micros().max(1);
            let bits = u128::from(bytes.wrapping_sub(*before)) * 8;
            self.bps = u64::try_from(bits * 1_000_000 / span).unwrap_or(u64::MAX);
        }
        if bytes != newest {
            // The stream may end within this very sample: the one before was full.
            self.last_bps = if full_bps > 0 { full_bps } else { self.bps };
        }
        self.samples.rotate_left(1);
        self.samples[2] = Some((now, bytes));
    }
}

/// A counter of faults: how many, and whether lately.
#[derive(Debug, Default)]
pub(super) struct Trend {
    value: u64,
    changed: Option<Instant>,
}

impl Trend {
    fn update(&mut self, value: u64, now: Instant) {
        if value != self.value {
            self.changed = Some(now);
            self.value = value;
        }
    }

    /// Whether it grew within this time.
    pub(super) fn within(&self, span: Duration, now: Instant) -> bool {
        self.changed.is_some_and(|at| now.saturating_duration_since(at) < span)
    }

    /// The count, if it grew lately.
    pub(super) fn recent(&self, now: Instant) -> Option<u64> {
        self.changed.filter(|at| now.saturating_duration_since(*at) < RECENT).map(|_| self.value)
    }
}

/// What became of a source or output between two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// As before.
    None,
    /// The first media.
    First,
    /// It was well, and is not.
    Lost,
    /// It is well again, after this long.
    Back(Duration),
}

/// A source over time.
#[derive(Debug)]
pub(super) struct SourceSample {
    rate: Rate,
    pub(super) state: SourceState,
    lost_at: Option<Instant>,
    pub(super) denied: Trend,
    pub(super) invalid: [Trend; Invalid::ALL.len()],
    pub(super) over_bitrate: Trend,
    pub(super) kernel_dropped: Trend,
    /// Scrambled with a key that is not there.
    pub(super) without_key: Trend,
    pub(super) sync_errors: Trend,
    pub(super) unrecovered: Trend,
    pub(super) late: Trend,
    /// Packets that were of use to the merge.
    pub(super) merged: Trend,
    /// Of the column stream, then of the row stream.
    pub(super) fec_invalid: [Trend; 2],
    /// Media has come without a break since then.
    pub(super) receiving_since: Option<Instant>,
    restarts: u64,
    /// From the first media on.
    pub(super) history: Option<Box<SourceHistory>>,
}

impl Default for SourceSample {
    fn default() -> Self {
        Self {
            rate: Rate::default(),
            state: SourceState::Idle,
            lost_at: None,
            denied: Trend::default(),
            invalid: Default::default(),
            over_bitrate: Trend::default(),
            kernel_dropped: Trend::default(),
            without_key: Trend::default(),
            sync_errors: Trend::default(),
            unrecovered: Trend::default(),
            late: Trend::default(),
            merged: Trend::default(),
            fec_invalid: Default::default(),
            receiving_since: None,
            restarts: 0,
            history: None,
        }
    }
}

impl SourceSample {
    /// Read the counters. `open`: its socket is.
    pub(super) fn update(&mut self, stats: &SourceStats, open: bool, now: Instant) -> (Turn, bool) {
        self.rate.update(stats.bytes.value(), now);
        self.denied.update(stats.denied.value(), now);
        for (trend, count) in self.invalid.iter_mut().zip(&stats.invalid) {
            trend.update(count.value(), now);
        }
        self.over_bitrate.update(stats.over_bitrate.value(), now);
        self.kernel_dropped.update(stats.kernel_dropped.value(), now);
        self.without_key.update(stats.decryption.without_key.value(), now);
        self.sync_errors.update(stats.sync_errors.value(), now);
        self.unrecovered.update(stats.unrecovered.value(), now);
        self.late.update(stats.late.value(), now);
        self.merged.update(stats.leg.first.value() + stats.duplicate.value(), now);
        for (trend, stream) in self.fec_invalid.iter_mut().zip(&stats.fec.streams) {
            trend.update(stream.invalid.value(), now);
        }
        if stats.packets.value() > 0 {
            let history = self.history.get_or_insert_with(|| SourceHistory::of_source(now));
            history.take(self.rate.bps, stats, now);
        }
        let restarts = stats.restarts.value();
        let restarted = std::mem::replace(&mut self.restarts, restarts) != restarts;
        let last = stats.last_packet.value();
        let silent = last.is_none_or(|at| now.saturating_duration_since(at) >= SILENCE);
        let was = self.state;
        self.state = match (open, silent, was) {
            (false, ..) => SourceState::Idle,
            (true, false, _) => SourceState::Receiving,
            (true, true, SourceState::Receiving | SourceState::Lost) => SourceState::Lost,
            (true, true, _) => SourceState::Idle,
        };
        self.receiving_since = match self.state {
            SourceState::Receiving => self.receiving_since.or(Some(now)),
            _ => None,
        };
        let turn = match (was, self.state) {
            (SourceState::Receiving, SourceState::Lost) => {
                self.lost_at = last;
                Turn::Lost
            }
            (SourceState::Lost, SourceState::Receiving) => {
                Turn::Back(self.lost_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)))
            }
            (SourceState::Idle, SourceState::Receiving) => Turn::First,
            _ => Turn::None,
        };
        (turn, restarted)
    }

    /// bit/s over the last second.
    pub(super) fn bps(&self) -> u64 {
        self.rate.bps
    }

    /// bit/s before it was lost.
    pub(super) fn last_bps(&self) -> u64 {
        self.rate.last_bps
    }
}

/// An output over time.
#[derive(Debug)]
pub(super) struct OutputSample {
    rate: Rate,
    pub(super) state: OutputState,
    /// Of smoothing: what left too late or too early.
    pub(super) uneven: Trend,
    failed_at: Option<Instant>,
    /// From the first media on.
    pub(super) history: Option<Box<OutputHistory>>,
}

impl Default for OutputSample {
    fn default() -> Self {
        Self {
            rate: Rate::default(),
            state: OutputState::Idle,
            uneven: Trend::default(),
            failed_at: None,
            history: None,
        }
    }
}

impl OutputSample {
    /// Read the counters. `open`: its socket is.
    pub(super) fn update(&mut self, stats: &OutputStats, open: bool, now: Instant) -> Turn {
        self.rate.update(stats.bytes.value(), now);
        if stats.packets.value() > 0 {
            let history = self.history.get_or_insert_with(|| OutputHistory::of_output(now));
            history.take(self.rate.bps, stats, now);
        }
        let SmoothingStats { late, early, overflow } = &stats.smoothing;
        self.uneven.update(late.value() + early.value() + overflow.value(), now);
        let within = |at: Option<Instant>, span| at.is_some_and(|at| now.saturating_duration_since(at) < span);
        self.state = if !open {
            OutputState::Idle
        } else if within(stats.last_fault.value(), FAULT) {
            OutputState::Error
        } else if within(stats.last_sent.value(), SILENCE) {
            OutputState::Sending
        } else {
            OutputState::Idle
        };
        match (self.failed_at, self.state) {
            (None, OutputState::Error) => {
                self.failed_at = Some(now);
                Turn::Lost
            }
            (Some(at), OutputState::Sending) => {
                self.failed_at = None;
                Turn::Back(now.saturating_duration_since(at))
            }
            (Some(_), OutputState::Idle) if !open => {
                self.failed_at = None;
                Turn::None
            }
            _ => Turn::None,
        }
    }

    /// bit/s over the last second.
    pub(super) fn bps(&self) -> u64 {
        self.rate.bps
    }
}

/// The delays of the last seconds.
#[derive(Debug, Default)]
pub(super) struct DelaySample {
    /// Taken when the windows began; for a flow that has carried nothing there are none.
    windows: Option<Box<[DelaySnapshot; 2]>>,
    began: Option<Instant>,
    total: u32,
    percentiles: Option<[Duration; 2]>,
}

impl DelaySample {
    /// Read the histogram.
    pub(super) fn update(&mut self, delays: &Delays, now: Instant) {
        let total = delays.total();
        if total == self.total && self.percentiles.is_none() {
            return;
        }
        self.total = total;
        let counts = delays.snapshot();
        let windows = self.windows.get_or_insert_default();
        self.percentiles = counts.percentiles(&windows[0], [0.5, 0.99]);
        if self.began.is_none_or(|at| now.saturating_duration_since(at) >= DELAY_WINDOW) {
            self.began = Some(now);
            windows.rotate_left(1);
            windows[1] = counts;
        }
    }

    /// The median and the 99th percentile of the last 5 to 10 seconds; `None` without packets.
    pub(super) fn percentiles(&self) -> Option<[Duration; 2]> {
        self.percentiles
    }
}

/// Since when each condition holds, by its code and the part it is about.
#[derive(Debug, Default)]
pub(super) struct Since(BTreeMap<(&'static str, String), SystemTime>);

impl Since {
    /// Remember since when these hold; forget those that hold no more. Whether there are others than before.
    pub(super) fn note(&mut self, conditions: &[(String, Condition)], now: SystemTime) -> bool {
        let is_noted = |(part, condition): &(String, Condition)| {
            self.0.keys().any(|(code, of)| *code == condition.code() && of == part)
        };
        // As nearly always.
        if conditions.len() == self.0.len() && conditions.iter().all(is_noted) {
            return false;
        }
        let key = |(part, condition): &(String, Condition)| (condition.code(), part.clone());
        let held = |key| (self.0.get(&key).copied().unwrap_or(now), key);
        let noted: BTreeMap<_, _> = conditions.iter().map(key).map(held).map(|(from, key)| (key, from)).collect();
        let changed = !noted.keys().eq(self.0.keys());
        self.0 = noted;
        changed
    }

    /// The documents of the conditions that hold now, worst first; those that hold no more are forgotten.
    pub(super) fn stamp(&mut self, conditions: Vec<(String, Condition)>, now: SystemTime) -> Vec<ConditionDoc> {
        self.note(&conditions, now);
        let from = |code, part| self.0.get(&(code, part)).copied().unwrap_or(now);
        let mut docs: Vec<_> = conditions.into_iter().map(|(part, c)| c.doc(from(c.code(), part))).collect();
        docs.sort_by_key(|doc| doc.severity);
        docs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_goes_from_idle_to_receiving_to_lost_and_back() {
        let (stats, mut sample) = (SourceStats::default(), SourceSample::default());
        crate::flow::stats::start_clock();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(sample.update(&stats, true, at(0)).0, Turn::None);
        assert_eq!(sample.state, SourceState::Idle);
        for n in 1..=4 {
            stats.bytes.add(62_500);
            stats.last_packet.set(at(n * 500));
            let turn = sample.update(&stats, true, at(n * 500)).0;
            assert_eq!(turn, if n == 1 { Turn::First } else { Turn::None });
        }
        assert_eq!(sample.bps(), 1_000_000);
        assert_eq!(sample.update(&stats, true, at(2500)).0, Turn::None);
        assert_eq!(sample.update(&stats, true, at(3000)).0, Turn::Lost);
        assert_eq!(sample.update(&stats, true, at(3500)).0, Turn::None);
        assert_eq!((sample.state, sample.bps(), sample.last_bps()), (SourceState::Lost, 0, 1_000_000));
        stats.last_packet.set(at(4000));
        assert_eq!(sample.update(&stats, true, at(4000)).0, Turn::Back(Duration::from_secs(2)));
        assert_eq!(sample.update(&stats, false, at(4500)).0, Turn::None);
        assert_eq!(sample.state, SourceState::Idle);
    }

    #[test]
    fn an_output_is_in_error_while_faults_are_young() {
        let (stats, mut sample) = (OutputStats::default(), OutputSample::default());
        crate::flow::stats::start_clock();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        stats.last_sent.set(at(1));
        stats.count_fault(crate::io::batch::SendError::ConnectionRefused, 1);
        stats.last_fault.set(at(1));
        assert_eq!(sample.update(&stats, true, at(1)), Turn::Lost);
        assert_eq!(sample.update(&stats, true, at(2)), Turn::None);
        stats.last_sent.set(at(5));
        assert_eq!(sample.update(&stats, true, at(5)), Turn::Back(Duration::from_secs(4)));
        assert_eq!(stats.last_fault_name(), "connection-refused");
    }

    #[test]
    fn the_delays_are_those_of_the_last_seconds() {
        let (delays, mut sample, start) = (Delays::default(), DelaySample::default(), Instant::now());
        let ms = Duration::from_millis;
        sample.update(&delays, start);
        assert_eq!((sample.percentiles(), sample.windows.is_none()), (None, true));
        for n in 1..=60_u32 {
            // Slow at first.
            let delay = if n <= 10 { ms(100) } else { ms(1) };
            (0..100).for_each(|_| delays.record(delay));
            sample.update(&delays, start + n * INTERVAL);
            let [median, p99] = sample.percentiles().unwrap();
            assert!(median >= delay || n <= 20, "{n}: {median:?}");
            assert!(p99 >= delay && (n <= 31 || p99 < ms(2)), "{n}: {p99:?}");
        }
        for n in 61..=82_u32 {
            sample.update(&delays, start + n * INTERVAL);
        }
        assert_eq!(sample.percentiles(), None);
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_holds() {
        let mut since = Since::default();
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let lost = |s| Condition::SourceLost { source: "a".into(), silent_for: Duration::from_secs(s), bitrate_bps: 1 };
        let one = since.stamp(vec![("a".into(), lost(1))], at(10));
        let two = since.stamp(vec![("a".into(), lost(6))], at(15));
        assert_eq!(one[0].since, two[0].since);
        since.stamp(Vec::new(), at(20));
        assert_ne!(since.stamp(vec![("a".into(), lost(1))], at(25))[0].since, one[0].since);
    }
}
