//! What is known of a source or output of RIST: written by the task that has it, read by anybody.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use crate::proto::rist::stats::{ReceiverLegStats, ReceiverStats, SenderLegStats, SenderStats, TunnelStats};
use crate::time::Instant;

/// How often figures are published at most.
pub(super) const PUBLISH: Duration = Duration::from_millis(200);

/// Figures as of a fifth of a second ago.
#[derive(Debug, Default)]
pub struct Figures<T>(Mutex<T>);

impl<T: Copy> Figures<T> {
    /// The figures are these now, unless somebody reads them just then.
    pub(super) fn publish(&self, figures: T) {
        if let Ok(mut published) = self.0.try_lock() {
            *published = figures;
        }
    }

    /// Read them.
    pub fn read(&self) -> T {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A count of something that should not be, and when it last grew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grown {
    count: u64,
    at: Option<Instant>,
}

impl Grown {
    pub(super) fn update(&mut self, count: u64, now: Instant) {
        if count != std::mem::replace(&mut self.count, count) {
            self.at = Some(now);
        }
    }

    /// The count.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The count, if it grew within this time, and after all was well (`well_at`).
    pub fn since(&self, well_at: Option<Instant>, span: Duration, now: Instant) -> Option<u64> {
        let grown = self.at.filter(|at| now.saturating_duration_since(*at) < span)?;
        well_at.is_none_or(|well| well <= grown).then_some(self.count)
    }
}

/// What came through a tunnel and could not be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct TunnelTroubles {
    /// In clear, where there is a passphrase.
    pub in_clear: Grown,
    /// Encrypted, and there is no key for it.
    pub undecrypted: Grown,
    /// Encrypted with another passphrase.
    pub garbage: Grown,
}

impl TunnelTroubles {
    pub(super) fn update(&mut self, stats: Option<&TunnelStats>, now: Instant) {
        let Some(TunnelStats { in_clear, undecrypted, garbage, .. }) = stats else { return };
        self.in_clear.update(*in_clear, now);
        self.undecrypted.update(*undecrypted, now);
        self.garbage.update(*garbage, now);
    }
}

/// Of a source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SourceFigures {
    /// Of the stream.
    pub stream: ReceiverStats,
    /// Of its senders together.
    pub senders: ReceiverLegStats,
    /// How many addresses RTCP came from lately.
    pub heard: usize,
    /// Of the other profile.
    pub other_profile: Grown,
    /// Of its tunnel, if it has one.
    pub tunnel: TunnelTroubles,
    /// Since when media comes without a break of a second.
    pub media_since: Option<Instant>,
    /// Datagrams of control that the kernel did not take.
    pub send_errors: u64,
}

/// Of an output.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputFigures {
    /// Of the stream.
    pub stream: SenderStats,
    /// By number; `None`: there is no such leg, or it is not open.
    pub legs: [Option<SenderLegStats>; 2],
    /// Of their tunnels, if they have some.
    pub tunnels: [TunnelTroubles; 2],
    /// Asked for when they were not kept any more.
    pub gone: Grown,
    /// Asked for beyond what may be sent again.
    pub over_budget: Grown,
    /// Datagrams of control that the kernel did not take.
    pub send_errors: u64,
}
