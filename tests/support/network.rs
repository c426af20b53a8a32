//! Networks that streams of numbered datagrams are tried over, and what is missing in the end: the same datagrams have the
//! same fate, whoever sends and receives.

use std::time::Duration;

use super::nat::{Damage, Report, Wire};

/// There and back.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Of the stream.
pub const BITS_PER_SECOND: u64 = 16_000_000;

/// All of them, by what they are called in tables. They do the same in both directions.
pub fn all() -> [(&'static str, Damage); 6] {
    let still = Damage { seed: 7, delay: ROUND_TRIP / 2, ..Damage::default() };
    let late = Duration::from_millis(20);
    [
        ("2 % lost", Damage { loss: 2, ..still }),
        ("5 % lost", Damage { loss: 5, ..still }),
        ("10 % lost", Damage { loss: 10, ..still }),
        ("bursts of 50", Damage { burst_every: 2000, burst_length: 50, ..still }),
        ("5 % late by 20 ms", Damage { reorder: 5, reorder_by: late, ..still }),
        ("5 % twice", Damage { duplicate: 5, ..still }),
    ]
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub packets: u64,
    /// Never came.
    pub missing: u64,
    /// Came again, or after a later one.
    pub out_of_order: u64,
    /// The network dropped it when it was sent first.
    pub dropped: u64,
    /// The network dropped it however often it was sent.
    pub never_passed: u64,
    /// How often one was sent again.
    pub retransmitted: u64,
}

impl Outcome {
    /// Of so many packets these numbers came in the end; their network tells this of them.
    #[track_caller]
    pub fn of<W: Wire>(packets: u64, numbers: &[u64], report: &Report<W>) -> Self {
        let (mut came, mut out_of_order, mut newest) = (vec![false; packets as usize], 0, None);
        for number in numbers {
            came[*number as usize] = true;
            out_of_order += u64::from(newest.is_some_and(|newest| *number <= newest));
            newest = newest.max(Some(*number));
        }
        // By their numbers, so that stuffing is not among them.
        let data = || report.data.range(..packets as u32).map(|(_, passage)| passage);
        Self {
            packets,
            missing: came.iter().filter(|came| !**came).count() as u64,
            out_of_order,
            dropped: data().filter(|passage| !passage.first_passed).count() as u64,
            never_passed: data().filter(|passage| passage.passed == 0).count() as u64,
            retransmitted: data().map(|passage| u64::from(passage.came.saturating_sub(1))).sum(),
        }
    }
}
