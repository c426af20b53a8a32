//! Whether a source is fit to be on air: it has data, and no trigger holds against it.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Rates are judged over windows of at least this.
const WINDOW: Duration = Duration::from_secs(1);

/// What makes a source unfit. `None`: not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggers {
    /// No packet for so long: 50 ms to 10 s.
    pub silence: Option<Duration>,
    /// Fewer bits a second than this.
    pub min_bitrate: Option<u64>,
    /// So many continuity errors a second, or more.
    pub continuity_errors: Option<u64>,
    /// No PAT for so long.
    pub pat_loss: Option<Duration>,
    /// So many packets lost for good a second, or more.
    pub unrecovered: Option<u64>,
}

impl Default for Triggers {
    fn default() -> Self {
        let silence = Some(Duration::from_millis(500));
        Self { silence, min_bitrate: None, continuity_errors: None, pat_loss: None, unrecovered: None }
    }
}

/// One of [`Triggers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// No packet.
    Silence,
    /// Too few bits.
    MinBitrate,
    /// Too many continuity errors.
    ContinuityErrors,
    /// No PAT.
    PatLoss,
    /// Too many packets lost for good.
    Unrecovered,
}

/// A source's figures so far; they only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes received.
    pub bytes: u64,
    /// Continuity errors.
    pub continuity_errors: u64,
    /// PATs seen.
    pub pats: u64,
    /// Packets lost for good.
    pub unrecovered: u64,
}

/// One source's state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Health {
    /// The last packet.
    last: Option<Instant>,
    /// It has had data without a break since then; `None`: it has none.
    since: Option<Instant>,
    /// It has had data, and no trigger held, since then.
    healthy_since: Option<Instant>,
    /// The rate that was out of bounds in the last window.
    bad_rate: Option<Trigger>,
    /// Where the window of rates began.
    window: Option<(Instant, Sample)>,
    /// When the count of PATs last changed, and that count.
    pat: Option<(Instant, u64)>,
    /// That is too long ago.
    no_pat: bool,
}

impl Health {
    /// Packets came. Whether that is news: there was no data before.
    pub(super) fn packet(&mut self, now: Instant, triggers: &Triggers) -> bool {
        let quiet = self.since.is_none() || !self.fresh(now, triggers);
        self.last = self.last.max(Some(now));
        if quiet {
            *self = Self { last: self.last, since: Some(now), healthy_since: Some(now), ..Self::default() };
        }
        quiet
    }

    /// Compare the figures with the triggers.
    pub(super) fn sample(&mut self, now: Instant, sample: Sample, triggers: &Triggers) {
        let Some(since) = self.since else { return };
        let before = self.fault();
        let pat = self.pat.get_or_insert((since, sample.pats));
        if pat.1 != sample.pats {
            *pat = (now, sample.pats);
        }
        let pat_age = now.saturating_duration_since(pat.0);
        self.no_pat = triggers.pat_loss.is_some_and(|limit| pat_age >= limit);
        let &mut (began, then) = self.window.get_or_insert((now, sample));
        let elapsed = now.saturating_duration_since(began);
        if elapsed >= WINDOW {
            self.window = Some((now, sample));
            self.bad_rate = bad_rate(&then, &sample, elapsed, triggers);
        }
        self.note_fault(before, now);
    }

    /// The triggers changed: faults that are no longer watched are over.
    pub(super) fn retune(&mut self, now: Instant, triggers: &Triggers) {
        let before = self.fault();
        self.no_pat &= triggers.pat_loss.is_some();
        self.bad_rate.take_if(|fault| match fault {
            Trigger::MinBitrate => triggers.min_bitrate.is_none(),
            Trigger::ContinuityErrors => triggers.continuity_errors.is_none(),
            Trigger::Unrecovered => triggers.unrecovered.is_none(),
            Trigger::Silence | Trigger::PatLoss => false,
        });
        self.note_fault(before, now);
    }

    /// It is healthy until a fault comes, and from when the last one went.
    fn note_fault(&mut self, before: Option<Trigger>, now: Instant) {
        match (before, self.fault()) {
            (None, Some(_)) => self.healthy_since = None,
            (Some(_), None) => self.healthy_since = self.since.map(|_| now),
            _ => {}
        }
    }

    /// When silence sets in, if nothing comes. `None`: it has, or is not watched.
    pub(super) fn silent_at(&self, triggers: &Triggers) -> Option<Instant> {
        self.since.and(self.last).zip(triggers.silence).map(|(last, silence)| last + silence)
    }

    /// Time has passed: note silence.
    pub(super) fn pass(&mut self, now: Instant, triggers: &Triggers) {
        if self.silent_at(triggers).is_some_and(|at| at <= now) {
            *self = Self { last: self.last, ..Self::default() };
        }
    }

    /// It has data, as far as was noted.
    pub(super) const fn has_data(&self) -> bool {
        self.since.is_some()
    }

    /// It has data now.
    pub(super) fn fresh(&self, now: Instant, triggers: &Triggers) -> bool {
        self.since.is_some() && self.silent_at(triggers).is_none_or(|at| at > now)
    }

    /// It sent within a quarter of the time that makes a silence.
    pub(super) fn sends(&self, now: Instant, triggers: &Triggers) -> bool {
        let quarter = triggers.silence.map(|silence| silence / 4);
        self.last.zip(quarter).is_none_or(|(last, quarter)| now.saturating_duration_since(last) < quarter)
    }

    /// It has had data since then, without a break.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// It has been fit to be on air since then, as far as was noted.
    pub(super) const fn healthy_since(&self) -> Option<Instant> {
        self.healthy_since
    }

    /// What holds against it, silence apart.
    pub(super) fn fault(&self) -> Option<Trigger> {
        if self.no_pat { Some(Trigger::PatLoss) } else { self.bad_rate }
    }
}

fn bad_rate(then: &Sample, now: &Sample, elapsed: Duration, triggers: &Triggers) -> Option<Trigger> {
    let a_second = |count: u64| (u128::from(count) * 1_000_000_000 / elapsed.as_nanos().max(1)) as u64;
    let errors = a_second(now.continuity_errors.saturating_sub(then.continuity_errors));
    let unrecovered = a_second(now.unrecovered.saturating_sub(then.unrecovered));
    let bits = a_second(now.bytes.saturating_sub(then.bytes).saturating_mul(8));
    if triggers.unrecovered.is_some_and(|limit| unrecovered >= limit) {
        Some(Trigger::Unrecovered)
    } else if triggers.continuity_errors.is_some_and(|limit| errors >= limit) {
        Some(Trigger::ContinuityErrors)
    } else if triggers.min_bitrate.is_some_and(|limit| bits < limit) {
        Some(Trigger::MinBitrate)
    } else {
        None
    }
}
