//! The document of `/v1/flows/NAME/history`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// Figures over time, by their names as in the flow's document. All lists have the same length and end now; `null`:
/// nothing is known. A figure that was never other than 0, or than absent, is not there.
pub type HistorySeries = BTreeMap<String, Vec<Option<Number>>>;

/// The main figures of a flow's sources and outputs over the last minutes or hours. Counters are what they grew by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HistoryDoc {
    /// The flow's name.
    pub flow: String,
    /// Of one step: 1, or 10 where more than ten minutes are asked for.
    pub step_seconds: u64,
    /// The length of every list.
    pub steps: usize,
    /// The end of the last step, to a step: RFC 3339, UTC.
    pub until: String,
    /// By name, those that have carried media.
    pub sources: BTreeMap<String, HistorySeries>,
    /// By name, those that have carried media.
    pub outputs: BTreeMap<String, HistorySeries>,
}
