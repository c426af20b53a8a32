//! What several sources of a flow are to each other.

use std::time::Duration;

use crate::config::value::Bitrate;

/// `[failover]`: what the sources of a flow are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailoverPlan {
    /// All carry the same RTP packets: they are merged into one stream (ST 2022-7). Every source carries RTP.
    Merge {
        /// How far the sources may be apart, and the delay that is added; 10 ms to 15 s.
        recovery_window: Duration,
    },
    /// One of them is on air.
    Failover(FailoverRules),
}

/// Which source is on air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverRules {
    /// The preferred one, a key of `sources`; `None`: the survivor stays on air.
    pub primary: Option<String>,
    /// When the primary takes over again.
    pub return_mode: ReturnMode,
    /// For [`ReturnMode::Hold`]: how long the primary must have been well; up to 1 h.
    pub hold: Duration,
    /// What takes a source off air.
    pub switch_on: SwitchOn,
}

impl Default for FailoverRules {
    fn default() -> Self {
        Self {
            primary: None,
            return_mode: ReturnMode::Hold,
            hold: Duration::from_secs(5),
            switch_on: SwitchOn::default(),
        }
    }
}

/// When the primary takes over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnMode {
    /// With its first data.
    Immediate,
    /// Once it has been well for the hold time.
    Hold,
    /// By the operator, or when the one on air fails.
    Manual,
}

/// What takes a source off air. `None`: not that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchOn {
    /// No data for so long; 50 ms to 10 s.
    pub silence: Option<Duration>,
    /// Less than this over a second.
    pub min_bitrate: Option<Bitrate>,
    /// So many continuity errors in a second; at least 1.
    pub continuity_errors: Option<u32>,
    /// No PAT for so long; 100 ms to 60 s.
    pub pat_loss: Option<Duration>,
    /// So many packets gone for good in a second; at least 1.
    pub unrecovered: Option<u32>,
}

impl Default for SwitchOn {
    fn default() -> Self {
        Self {
            silence: Some(Duration::from_millis(500)),
            min_bitrate: None,
            continuity_errors: None,
            pat_loss: None,
            unrecovered: None,
        }
    }
}
