//! The documents of `tests/ctl`, for tests.

use crate::observe::status::{FlowDoc, FlowsDoc, StatusDoc};

pub(super) fn status() -> StatusDoc {
    serde_json::from_str(include_str!("../../tests/ctl/status.json")).unwrap()
}

pub(super) fn flows() -> Vec<FlowDoc> {
    serde_json::from_str::<FlowsDoc>(include_str!("../../tests/ctl/flows.json")).unwrap().flows
}

/// Of several sources: `backup` fails over, `twin` merges.
pub(super) fn air() -> Vec<FlowDoc> {
    serde_json::from_str::<FlowsDoc>(include_str!("../../tests/ctl/air.json")).unwrap().flows
}

pub(super) fn flow(name: &str) -> FlowDoc {
    flows().into_iter().chain(air()).into_iter().find(|f| f.name == name).unwrap()
}
