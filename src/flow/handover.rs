//! What a flow's task leaves to the one that goes on with it in the daemon's next process. What waits in sockets stays
//! there; what was read and is held (by a merge, for order, for FEC) goes along; and what goes out by RTP goes on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Flow;
use super::air::{Air, AirState};
use super::egress::RtpState;
use super::source::{Input, SocketsState, Source};
use super::timeline::Timeline;
use crate::proto::mpegts::psi::Psi;
use crate::time::Instant;

/// Where a flow stands. Of sources and outputs over connections there is nothing in it: these begin anew.
#[derive(Debug, Serialize, Deserialize)]
pub struct FlowState {
    timeline: Timeline,
    /// In their order.
    sources: Vec<SourceState>,
    air: AirState,
    outputs: BTreeMap<String, RtpState>,
    /// For content encryption.
    tables: Option<Psi>,
}

/// Where a source stands.
#[derive(Debug, Serialize, Deserialize)]
struct SourceState {
    name: String,
    /// `None`: it is by connections.
    sockets: Option<SocketsState>,
}

impl FlowState {
    /// The SSRC that an output has sent with; `None`: it has sent no RTP headers of its own.
    pub fn ssrc(&self, output: &str) -> Option<u32> {
        self.outputs.get(output).map(|output| output.ssrc)
    }
}

impl Flow {
    /// Send what waits to be sent, and end: where all of it stands.
    pub(super) fn suspend(&mut self) -> FlowState {
        let (shard, now) = (self.shard.clone(), Instant::now());
        let outputs = self.egress.suspend(&mut shard.buffers.borrow_mut().send, now);
        let state = |Source { name, input, .. }| match input {
            Input::Sockets(sockets) => SourceState { name, sockets: Some(sockets.into_state()) },
            Input::Srt(_) | Input::Rist(_) => SourceState { name, sockets: None },
        };
        FlowState {
            timeline: std::mem::take(&mut self.timeline),
            sources: self.sources.drain(..).map(state).collect(),
            air: std::mem::replace(&mut self.air, Air::Single).into_state(),
            outputs,
            tables: self.egress.tables().cloned(),
        }
    }

    /// Go on where another one stood. What is configured otherwise by now begins anew.
    pub(super) fn resume(&mut self, state: FlowState) {
        let FlowState { timeline, sources, air, outputs, tables } = state;
        self.timeline = timeline;
        self.egress.resume(outputs);
        if let Some(tables) = tables {
            self.egress.set_tables(&tables);
        }
        let same = self.sources.iter().map(|source| &source.name).eq(sources.iter().map(|source| &source.name));
        for SourceState { name, sockets: state } in sources {
            let source = self.sources.iter_mut().find(|source| source.name == name);
            if let (Some(Source { input: Input::Sockets(sockets), .. }), Some(state)) = (source, state) {
                sockets.resume(state);
            }
        }
        if same {
            self.air.resume(air, Instant::now());
        }
    }
}
