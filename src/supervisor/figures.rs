//! The figures of FEC, merge and failover, as documents.

use std::time::Duration;

use super::air::reason_code;
use super::entry::Entry;
use super::store::Switch;
use super::view::{millis, signed_millis};
use crate::config::plan::FailoverPlan;
use crate::flow::cipher::{DecryptionStats, EncryptionStats};
use crate::flow::stats::{FecStats, FecStreamStats, SmoothingStats, SourceStats};
use crate::observe::status::{
    AirMode, DecryptionDoc, EncryptionDoc, FailoverDoc, FecDoc, FecStreamDoc, LegDoc, MergeDoc, OverrideDoc, SkewDoc,
    SmoothingDoc, SwitchDoc,
};
use crate::observe::text::rfc3339;
use crate::proto::hitless::SkewClass;

impl Entry {
    /// Which source is on air, or that all are.
    pub(super) fn failover_doc(&self) -> Option<FailoverDoc> {
        let rules = match self.plan.failover.as_ref()? {
            FailoverPlan::Failover(rules) => Some(rules),
            FailoverPlan::Merge { .. } => None,
        };
        Some(FailoverDoc {
            mode: if rules.is_some() { AirMode::Failover } else { AirMode::Merge },
            primary: rules.and_then(|rules| rules.primary.clone()),
            on_air: rules.and_then(|_| self.on_air().map(str::to_owned)),
            switches: self.stats.switches.value(),
            operator_choice: self.choice().map(str::to_owned),
            last_switch: self.last_switch.as_ref().filter(|_| rules.is_some()).map(|last| SwitchDoc {
                at: rfc3339(last.at),
                from: last.from.clone(),
                to: last.to.clone(),
                reason: reason_code(last.reason).to_owned(),
                gap_ms: millis(last.gap),
            }),
        })
    }

    /// What the legs of a merge make together.
    pub(super) fn merge_doc(&self) -> Option<MergeDoc> {
        let Some(FailoverPlan::Merge { .. }) = self.plan.failover else { return None };
        let merge = &self.stats.merge;
        let (recovered, unrecovered) = (merge.recovered.value(), merge.unrecovered.value());
        let (active_legs, skew) = (merge.active_legs.value(), Duration::from_nanos(merge.skew_ns.value()));
        Some(MergeDoc {
            packets: merge.delivered.value(),
            packets_lost: recovered + unrecovered,
            packets_recovered: recovered,
            packets_unrecovered: unrecovered,
            active_legs,
            skew_ms: millis(skew),
            delay_ms: millis(Duration::from_nanos(merge.delay_ns.value())),
            class: SkewClass::of(skew).filter(|_| active_legs > 1).map(|class| format!("{class:?}")),
        })
    }
}

/// Of an `rtp-fec` source.
pub(super) fn fec_doc(fec: &FecStats) -> FecDoc {
    let stream = |stream: &FecStreamStats| FecStreamDoc {
        packets: stream.packets.value(),
        lost: stream.lost.value(),
        invalid: stream.invalid.value(),
    };
    let [column, row] = &fec.streams;
    FecDoc {
        columns: fec.columns.value(),
        rows: fec.rows.value(),
        column: stream(column),
        row: stream(row),
        recovered_by_column: fec.recovered_by_column.value(),
        recovered_by_row: fec.recovered_by_row.value(),
        rejected: fec.rejected.value(),
    }
}

/// The parities of which a bit is set, the even one's first.
pub(super) fn parities(bits: u64) -> Vec<String> {
    [(1, "even"), (2, "odd")].into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name.to_owned()).collect()
}

/// Of a source.
pub(super) fn decryption_doc(stats: &DecryptionStats) -> DecryptionDoc {
    DecryptionDoc {
        scheme: "cissa".to_owned(),
        packets_decrypted: stats.descrambled.value(),
        packets_without_key: stats.without_key.value(),
        wrong_keys: parities(stats.wrong.value()),
    }
}

/// Of an output.
pub(super) fn encryption_doc(stats: &EncryptionStats) -> EncryptionDoc {
    EncryptionDoc {
        scheme: "cissa".to_owned(),
        key: if stats.parity.value() == 0 { "even" } else { "odd" }.to_owned(),
        packets_encrypted: stats.scrambled.value(),
        packets_scrambled_before: stats.already.value(),
        packets_withheld: stats.withheld.value(),
    }
}

/// Of an output.
pub(super) fn smoothing_doc(stats: &SmoothingStats) -> SmoothingDoc {
    SmoothingDoc {
        packets_late: stats.late.value(),
        packets_early: stats.early.value(),
        packets_overflow: stats.overflow.value(),
    }
}

/// Of a leg of a merge.
pub(super) fn leg_doc(stats: &SourceStats) -> LegDoc {
    let leg = &stats.leg;
    let skew = |n: usize| signed_millis(leg.skew_ns[n].value().cast_signed());
    LegDoc {
        first: leg.first.value(),
        unique: leg.unique.value(),
        late: stats.late.value(),
        different: leg.different.value(),
        aside: leg.aside.value() == 1,
        skew_ms: (leg.skewed.value() == 1).then(|| SkewDoc { now: skew(0), min: skew(1), max: skew(2) }),
    }
}

/// An operator's word on which source is on air.
pub(super) fn switch_doc(word: &Switch) -> OverrideDoc {
    OverrideDoc { action: format!("switch {}", word.source), by: word.by.clone(), since: rfc3339(word.since) }
}
