//! The checks of TR 101 290 and what became of them.

use std::time::Duration;

use crate::time::Instant;

/// So long without an error, and a check is no longer in error.
pub const CLEAR: Duration = Duration::from_secs(10);

/// A check of ETSI TR 101 290 V1.4.1, of the first priority (table 5.0a) and the second (table 5.0b).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Check {
    /// 1.1: two or more sync bytes in a row were wrong, or packets stopped; five right ones end it. Counted as it begins.
    TsSyncLoss,
    /// 1.2: a packet does not begin with 0x47.
    SyncByte,
    /// 1.3.a: no PAT for more than 0.5 s, and again for each further 0.5 s; another table on PID 0; PID 0 is scrambled.
    Pat,
    /// 1.4: a packet is lost, in the wrong order, or came more than twice.
    ContinuityCount,
    /// 1.5.a: no PMT of a program for more than 0.5 s, and again for each further 0.5 s; its PID is scrambled.
    Pmt,
    /// 1.6: a picture or a sound that a PMT names has had no packet for more than 5 s, and again for each further 5 s.
    Pid,
    /// 2.1: a packet has the `transport_error_indicator`.
    Transport,
    /// 2.2: a section of PAT, PMT, CAT, NIT, SDT, BAT, EIT or TOT has a wrong CRC.
    Crc,
    /// 2.3a: no PCR of a program for more than 100 ms, and again for each further 100 ms.
    PcrRepetition,
    /// 2.3b: a PCR lies more than 100 ms after the one before, or before it, without a `discontinuity_indicator`.
    PcrDiscontinuity,
    /// 2.4: a PCR is off by more than 500 ns; only where the multiplex has a constant rate.
    PcrAccuracy,
    /// 2.5: a picture or a sound has had no PTS for more than 700 ms, and again for each further 700 ms.
    Pts,
    /// 2.6: packets are scrambled and no CAT came for more than 5 s, and again for each further 5 s; another table on
    /// PID 1.
    Cat,
}

impl Check {
    /// All of them, in the order of TR 101 290.
    pub const ALL: [Self; 13] = [
        Self::TsSyncLoss,
        Self::SyncByte,
        Self::Pat,
        Self::ContinuityCount,
        Self::Pmt,
        Self::Pid,
        Self::Transport,
        Self::Crc,
        Self::PcrRepetition,
        Self::PcrDiscontinuity,
        Self::PcrAccuracy,
        Self::Pts,
        Self::Cat,
    ];

    /// As the operator reads it, in metrics too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TsSyncLoss => "ts_sync_loss",
            Self::SyncByte => "sync_byte",
            Self::Pat => "pat",
            Self::ContinuityCount => "continuity_count",
            Self::Pmt => "pmt",
            Self::Pid => "pid",
            Self::Transport => "transport",
            Self::Crc => "crc",
            Self::PcrRepetition => "pcr_repetition",
            Self::PcrDiscontinuity => "pcr_discontinuity",
            Self::PcrAccuracy => "pcr_accuracy",
            Self::Pts => "pts",
            Self::Cat => "cat",
        }
    }

    /// 1: the stream cannot be decoded without it; 2: recommended.
    pub const fn priority(self) -> u8 {
        if (self as u8) < Self::Transport as u8 { 1 } else { 2 }
    }
}

/// What became of a check since the monitor was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckState {
    /// Errors.
    pub count: u64,
    /// The first error.
    pub first: Option<Instant>,
    /// The newest error.
    pub last: Option<Instant>,
    /// Seconds with at least one error.
    pub errored_seconds: u64,
    /// It is in error since then: from the first error until [`CLEAR`] has passed without one.
    pub in_error_since: Option<Instant>,
}

/// All checks. Errors do not count while they are frozen.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    states: [CheckState; Check::ALL.len()],
    began: Instant,
    frozen_until: Instant,
}

impl Checks {
    pub(super) fn new(now: Instant, freeze: Duration) -> Self {
        Self { states: Default::default(), began: now, frozen_until: now + freeze }
    }

    pub(super) fn freeze_until(&mut self, until: Instant) {
        self.frozen_until = until;
    }

    /// So many errors at once. Whether they count.
    pub(super) fn error(&mut self, check: Check, count: u64, at: Instant) -> bool {
        if count == 0 || at < self.frozen_until {
            return false;
        }
        let second = |at: Instant| at.saturating_duration_since(self.began).as_secs();
        let state = &mut self.states[check as usize];
        state.errored_seconds += u64::from(state.last.is_none_or(|last| second(last) != second(at)));
        state.count += count;
        state.first.get_or_insert(at);
        state.in_error_since.get_or_insert(at);
        state.last = state.last.max(Some(at));
        true
    }

    /// Time has passed: what has been right for long enough is in error no more.
    pub(super) fn pass(&mut self, now: Instant) {
        for state in &mut self.states {
            if state.last.is_some_and(|last| now.saturating_duration_since(last) >= CLEAR) {
                state.in_error_since = None;
            }
        }
    }

    pub(super) const fn state(&self, check: Check) -> &CheckState {
        &self.states[check as usize]
    }
}

/// Something that must come again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repetition {
    since: Instant,
}

impl Repetition {
    pub(super) const fn from(now: Instant) -> Self {
        Self { since: now }
    }

    /// It came last at this time.
    pub(super) fn came(&mut self, at: Instant) {
        self.since = self.since.max(at);
    }

    /// How many whole limits have passed without it that were not yet counted.
    pub(super) fn overdue(&mut self, now: Instant, limit: Duration) -> u64 {
        let gap = now.saturating_duration_since(self.since);
        if gap <= limit {
            return 0;
        }
        // At the limit itself it is not yet late.
        let (gap, limit) = (gap.as_nanos() as u64, limit.as_nanos() as u64);
        let count = (gap - 1) / limit;
        self.since += Duration::from_nanos(count * limit);
        count
    }

    /// It is not late before this.
    pub(super) fn due(&self, limit: Duration) -> Instant {
        self.since + limit
    }
}
