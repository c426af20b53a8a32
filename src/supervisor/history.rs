//! The main figures of each source and output over the last hours, in little memory: each second for ten minutes, and
//! each ten seconds for three hours. It begins with the first media, and of a figure that was never other than 0 nothing
//! is kept.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Number;

use super::entry::Entry;
use crate::flow::stats::{OutputStats, SourceStats};
use crate::observe::status::{HistoryDoc, HistorySeries};
use crate::observe::text::rfc3339;
use crate::time::Instant;

/// Steps of a second.
const FINE: usize = 600;
/// Steps of [`STEP`] seconds.
const COARSE: usize = 1080;
/// Seconds of a coarse step.
const STEP: usize = 10;

/// What a figure is, and how those of ten seconds become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A rate: the mean.
    Rate,
    /// A counter: what it grew by.
    Count,
    /// A time in ms: the one that is furthest from 0.
    Time,
}

/// A figure's name in the document, and what it is.
type Figure = (&'static str, Kind);

const SOURCE: [Figure; 7] = [
    ("bitrate-bps", Kind::Rate),
    ("packets-lost", Kind::Count),
    ("packets-recovered", Kind::Count),
    ("packets-unrecovered", Kind::Count),
    ("jitter-ms", Kind::Time),
    ("round-trip-ms", Kind::Time),
    ("skew-ms", Kind::Time),
];

const OUTPUT: [Figure; 4] = [
    ("bitrate-bps", Kind::Rate),
    ("packets-dropped", Kind::Count),
    ("packets-lost", Kind::Count),
    ("packets-retransmitted", Kind::Count),
];

/// A source's.
pub(super) type SourceHistory = History<{ SOURCE.len() }>;
/// An output's.
pub(super) type OutputHistory = History<{ OUTPUT.len() }>;

impl SourceHistory {
    /// Of a source that has carried media.
    pub(super) fn of_source(now: Instant) -> Box<Self> {
        Self::new(&SOURCE, now)
    }

    /// Take the figures of now.
    pub(super) fn take(&mut self, bps: u64, stats: &SourceStats, now: Instant) {
        let time = |ns: u64| (ns > 0).then(|| ns as f64 / 1e6);
        let leg = &stats.leg;
        let skew = (leg.skewed.value() == 1).then(|| leg.skew_ns[0].value().cast_signed() as f64 / 1e6);
        let count = |figure: u64| Some(figure as f64);
        self.record(
            [
                Some(bps as f64),
                count(stats.lost.value()),
                count(stats.recovered.value()),
                count(stats.unrecovered.value()),
                time(stats.jitter_ns.value()),
                time(stats.round_trip_ns.value()),
                skew,
            ],
            now,
        );
    }
}

impl OutputHistory {
    /// Of an output that has carried media.
    pub(super) fn of_output(now: Instant) -> Box<Self> {
        Self::new(&OUTPUT, now)
    }

    /// Take the figures of now.
    pub(super) fn take(&mut self, bps: u64, stats: &OutputStats, now: Instant) {
        let counters = [&stats.dropped, &stats.lost, &stats.retransmitted].map(|figure| Some(figure.value() as f64));
        let [dropped, lost, retransmitted] = counters;
        self.record([Some(bps as f64), dropped, lost, retransmitted], now);
    }
}

/// One figure over time, as [`Short`]s; slots are used in turn.
#[derive(Debug)]
struct Column {
    fine: [Short; FINE],
    coarse: [Short; COARSE],
}

/// `N` figures over time.
#[derive(Debug)]
pub(super) struct History<const N: usize> {
    figures: &'static [Figure; N],
    began: Instant,
    /// Seconds that are taken, from the beginning.
    seconds: usize,
    /// Where the counters stood.
    counters: [f64; N],
    /// `None`: never other than 0, or than absent.
    columns: [Option<Box<Column>>; N],
}

impl<const N: usize> History<N> {
    fn new(figures: &'static [Figure; N], began: Instant) -> Box<Self> {
        Box::new(Self { figures, began, seconds: 0, counters: [0.0; N], columns: std::array::from_fn(|_| None) })
    }

    /// Take these figures, counters as they stand, unless those of this second are taken. Seconds that nobody took are
    /// absent.
    fn record(&mut self, values: [Option<f64>; N], now: Instant) {
        let second = usize::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(usize::MAX - 1);
        if second < self.seconds {
            return;
        }
        // What lies further back than any slot need not be marked.
        self.seconds = self.seconds.max(second.saturating_sub((COARSE + 1) * STEP));
        while self.seconds < second {
            self.put([Short::ABSENT; N]);
        }
        let figures = self.figures;
        let shorts = std::array::from_fn(|n| match (figures[n].1, values[n]) {
            (_, None) => Short::ABSENT,
            (Kind::Count, Some(value)) => {
                Short::new((value - std::mem::replace(&mut self.counters[n], value)).max(0.0))
            }
            (Kind::Rate, Some(value)) => Short::new(value),
            (Kind::Time, Some(ms)) => Short::new(ms * MICROS),
        });
        self.put(shorts);
    }

    fn put(&mut self, shorts: [Short; N]) {
        let (second, figures) = (self.seconds, self.figures);
        self.seconds += 1;
        for (n, short) in shorts.into_iter().enumerate() {
            let nothing = neutral(figures[n].1);
            if self.columns[n].is_none() && (short == nothing || short == Short::ABSENT) {
                continue;
            }
            let column = self.columns[n]
                .get_or_insert_with(|| Box::new(Column { fine: [nothing; FINE], coarse: [nothing; COARSE] }));
            column.fine[second % FINE] = short;
            if self.seconds.is_multiple_of(STEP) {
                let ten = (self.seconds - STEP..self.seconds).filter_map(|s| column.fine[s % FINE].value());
                column.coarse[second / STEP % COARSE] = fold(figures[n].1, ten).map_or(Short::ABSENT, Short::new);
            }
        }
    }

    /// How many steps there are of the last `since`; `fine`: of a second.
    fn steps(&self, since: Duration, fine: bool) -> usize {
        let (step, most, there) = if fine { (1, FINE, self.seconds) } else { (STEP, COARSE, self.seconds / STEP) };
        usize::try_from(since.as_secs()).unwrap_or(usize::MAX).div_ceil(step).min(most).min(there)
    }

    /// The last `steps`, preceded by those that are missing to make `length`.
    fn read(&self, steps: usize, length: usize, fine: bool) -> HistorySeries {
        let columns = self.columns.iter().zip(self.figures);
        let named = columns.filter_map(|(column, (name, kind))| {
            let column = column.as_ref()?;
            let (ring, end) =
                if fine { (&column.fine[..], self.seconds) } else { (&column.coarse[..], self.seconds / STEP) };
            let values = (end - steps..end).map(|at| number(ring[at % ring.len()], *kind));
            Some(((*name).to_owned(), std::iter::repeat_n(None, length - steps).chain(values).collect()))
        });
        named.collect()
    }
}

/// A time is kept in µs.
const MICROS: f64 = 1000.0;

fn neutral(kind: Kind) -> Short {
    if kind == Kind::Time { Short::ABSENT } else { Short::new(0.0) }
}

fn fold(kind: Kind, values: impl Iterator<Item = f64>) -> Option<f64> {
    match kind {
        Kind::Rate => {
            let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
            (n > 0).then(|| sum / f64::from(n))
        }
        Kind::Count => values.reduce(|a, b| a + b),
        Kind::Time => values.reduce(|a, b| if b.abs() > a.abs() { b } else { a }),
    }
}

fn number(short: Short, kind: Kind) -> Option<Number> {
    let value = short.value()?;
    match kind {
        Kind::Rate | Kind::Count => Some(Number::from(value as u64)),
        Kind::Time => Number::from_f64(value / MICROS),
    }
}

/// A whole number in two bytes, to 1 in 2000: a sign, 5 bits of exponent and 10 of mantissa. Up to 1023 it is exact, and
/// the greatest is 2 · 10¹²: Tbit/s, or weeks in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short(u16);

impl Short {
    /// No value. As a number it would be the least of all, which is not used.
    const ABSENT: Self = Self(u16::MAX);
    const GREATEST: u64 = 2047 << 30;
    const SIGN: u16 = 0x8000;

    fn new(value: f64) -> Self {
        // Rounded and in range, so that the cast is exact.
        let size = (value.abs().round() as u64).min(Self::GREATEST - 1);
        let bits = u64::BITS - size.leading_zeros();
        let mut exponent = bits.saturating_sub(10);
        // An exponent of 1 and more has a leading bit that is not written.
        let mut mantissa = if exponent == 0 { size } else { rounded(size, exponent - 1) };
        if mantissa == 2048 {
            (exponent, mantissa) = (exponent + 1, 1024);
        }
        let code = ((exponent as u16) << 10 | (mantissa as u16 & 0x3FF)).min(Self::SIGN - 2);
        Self(if value < 0.0 { code | Self::SIGN } else { code })
    }

    fn value(self) -> Option<f64> {
        if self == Self::ABSENT {
            return None;
        }
        let (exponent, mantissa) = (self.0 >> 10 & 0x1F, u64::from(self.0 & 0x3FF));
        let size = if exponent == 0 { mantissa } else { (mantissa | 0x400) << (exponent - 1) };
        Some(if self.0 & Self::SIGN == 0 { size as f64 } else { -(size as f64) })
    }
}

const fn rounded(size: u64, shift: u32) -> u64 {
    if shift == 0 { size } else { ((size >> (shift - 1)) + 1) >> 1 }
}

impl Entry {
    /// The last `since` of all sources and outputs.
    pub(super) fn history(&self, since: Duration) -> HistoryDoc {
        let fine = since <= Duration::from_secs(FINE as u64);
        let sources = || self.sources.iter().filter_map(|(name, s)| Some((name, s.sample.history.as_deref()?)));
        let outputs = || self.outputs.iter().filter_map(|(name, o)| Some((name, o.sample.history.as_deref()?)));
        let of_sources = sources().map(|(_, history)| history.steps(since, fine));
        let length = of_sources.chain(outputs().map(|(_, history)| history.steps(since, fine))).max().unwrap_or(0);
        let source = |(name, history): (&String, &SourceHistory)| {
            (name.clone(), history.read(history.steps(since, fine), length, fine))
        };
        let output = |(name, history): (&String, &OutputHistory)| {
            (name.clone(), history.read(history.steps(since, fine), length, fine))
        };
        HistoryDoc {
            flow: self.name.to_string(),
            step_seconds: if fine { 1 } else { STEP as u64 },
            steps: length,
            until: rfc3339(SystemTime::now()),
            sources: sources().map(source).collect(),
            outputs: outputs().map(output).collect(),
        }
    }

    /// The bit rate of a source over the last minute, in kbit/s; empty: it has carried nothing.
    pub(super) fn last_minute(&self, source: &str) -> Vec<u64> {
        let history = self.sources.get(source).and_then(|s| s.sample.history.as_deref());
        let Some(history) = history else { return Vec::new() };
        let steps = history.steps(Duration::from_secs(60), true);
        let series: BTreeMap<_, _> = history.read(steps, steps, true);
        let rates = series.get(SOURCE[0].0).into_iter().flatten();
        rates.map(|rate| rate.as_ref().and_then(Number::as_u64).unwrap_or(0) / 1000).collect()
    }
}

#[cfg(test)]
mod tests;
