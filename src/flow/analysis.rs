//! TR 101 290 and metadata of a stream that passes: the monitor at work, and what it publishes once a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::proto::mpegts::metadata::{Change, Service, Stream};
use crate::proto::mpegts::monitor::{Check, CheckState, Monitor, PidFigures};
use crate::proto::mpegts::psi::Program;
use crate::proto::seq::Seq;
use crate::time::Instant;

use super::egress::MediaPacket;
use super::stats::Figure;

/// What an analysis has found, from its start.
#[derive(Debug, Default)]
pub struct AnalysisStats {
    /// Errors, by [`Check`].
    pub errors: [Figure; Check::ALL.len()],
    /// The rest; `None`: nothing has been analysed. Locked by the flow's task once a second, and never waited for.
    report: Mutex<Option<Box<Report>>>,
}

/// What an analysis knows of a stream, as of the last second.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By [`Check`].
    pub checks: [CheckState; Check::ALL.len()],
    /// The whole stream's rate, null packets and all.
    pub bits_per_second: u64,
    /// The share of null packets, 0 to 1; `None`: no packets came.
    pub null_share: Option<f32>,
    /// Of the PAT.
    pub programs: Vec<Program>,
    /// Of the SDT.
    pub services: Vec<Service>,
    /// Of the PMTs.
    pub streams: Vec<Stream>,
    /// By PID.
    pub pids: Vec<PidFigures>,
    /// The newest changes, the oldest of them first.
    pub changes: Vec<Change>,
    /// Changes so far.
    pub changed: u64,
}

impl AnalysisStats {
    /// Look at the report, if there is one.
    pub fn read<T>(&self, read: impl FnOnce(&Report) -> T) -> Option<T> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(read)
    }

    /// All errors of one priority.
    pub fn errors_of(&self, priority: u8) -> u64 {
        let counted = Check::ALL.iter().zip(&self.errors).filter(|(check, _)| check.priority() == priority);
        counted.map(|(_, errors)| errors.value()).sum()
    }
}

/// The analysis of one stream, which begins with its first packet.
#[derive(Debug, Default)]
pub(super) struct Analysis {
    on: bool,
    monitor: Option<Box<Monitor>>,
    /// By how much the packets' time is behind the clock: that of a buffer they have waited in.
    lag: Duration,
    /// The time of the last packet.
    last: Option<Instant>,
    /// The last packet of a leg of a merge.
    seq: Option<Seq>,
}

/// A packet of a leg that comes so many places too late is not late: the stream has begun anew.
const LATE: i16 = 1024;

impl Analysis {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Analyse, or analyse no more: what was found is dropped then, but for the counts.
    pub(super) fn set(&mut self, on: bool, stats: &AnalysisStats) {
        self.on = on;
        if !on && self.monitor.take().is_some() {
            *stats.report.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Packets of the stream, in order. `released`: they come out of a buffer that gives them back their timing, and
    /// this is the time; else they count by their arrival.
    pub(super) fn packets(&mut self, packets: &[MediaPacket<'_>], released: Option<Instant>, now: Instant) {
        for packet in packets {
            if let (true, Some(monitor)) = (packet.discontinuity, &mut self.monitor) {
                monitor.restart(released.unwrap_or(packet.arrival));
            }
            self.datagram(packet.payload, released.unwrap_or(packet.arrival), now);
        }
    }

    /// A packet of a leg of a merge, as it came, or was brought back: late ones are left out.
    pub(super) fn of_leg(&mut self, payload: &[u8], seq: Seq, at: Instant, now: Instant) {
        let ahead = self.seq.map_or(1, |last| seq.distance(last));
        if !(-LATE..=0).contains(&ahead) {
            self.seq = Some(seq);
            self.datagram(payload, at, now);
        }
    }

    /// One packet of the stream.
    pub(super) fn datagram(&mut self, payload: &[u8], at: Instant, now: Instant) {
        if !self.on {
            return;
        }
        // One that was brought back may be younger than the next.
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        self.lag = now.saturating_duration_since(at);
        self.monitor.get_or_insert_with(|| Box::new(Monitor::new(at))).handle_datagram(payload, at);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.monitor.as_ref()?.poll_timeout()? + self.lag)
    }

    /// Call it when all that has come was handed over.
    pub(super) fn handle_timeout(&mut self, now: Instant, stats: &AnalysisStats) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        let Some(monitor) = &mut self.monitor else { return };
        monitor.handle_timeout(now - self.lag);
        for check in Check::ALL {
            stats.errors[check as usize].set(monitor.check(check).count);
        }
        // A reader has it for a moment: then it stays as it was for a second.
        if let Ok(mut report) = stats.report.try_lock() {
            report.get_or_insert_default().update(monitor);
        }
    }
}

impl Report {
    fn update(&mut self, monitor: &Monitor) {
        self.checks = Check::ALL.map(|check| *monitor.check(check));
        (self.bits_per_second, self.null_share) = (monitor.bits_per_second(), monitor.null_share());
        self.pids.clear();
        self.pids.extend(monitor.pids());
        self.programs.clear();
        self.programs.extend_from_slice(monitor.psi().programs());
        let metadata = monitor.metadata();
        // What is known of a stream for the first time is no change of it.
        if self.streams != metadata.streams() {
            self.streams = metadata.streams().to_vec();
        }
        if self.services != metadata.services() {
            self.services = metadata.services().to_vec();
        }
        if self.changed != metadata.changed() {
            self.changes.clear();
            self.changes.extend(metadata.changes());
            self.changed = metadata.changed();
        }
    }
}
