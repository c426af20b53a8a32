//! What a flow's task leaves to the one that goes on with it in the daemon's next process. What waits in sockets stays
//! there; what was read and is held (by a merge, for order, for FEC) goes along; and what goes out by RTP goes on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Flow;
use super::air::{Air, AirState};
use super::egress::RtpState;
use super::rist::output::RistOutputsState;
use super::rist::source::RistSourceState;
use super::source::{Input, SocketsState, Source};
use super::timeline::Timeline;
use crate::proto::mpegts::psi::Psi;
use crate::time::Instant;

/// Where a flow stands. Of sources and outputs over connections there is nothing in it: these begin anew.
#[derive(Serialize, Deserialize)]
pub struct FlowState {
    timeline: Timeline,
    /// In their order.
    sources: Vec<SourceState>,
    air: AirState,
    outputs: BTreeMap<String, RtpState>,
    rist: RistOutputsState,
    /// For content encryption.
    tables: Option<Psi>,
}

/// Where a source stands.
#[derive(Debug, Serialize, Deserialize)]
struct SourceState {
    name: String,
    input: InputState,
}

#[derive(Debug, Serialize, Deserialize)]
enum InputState {
    Sockets(SocketsState),
    Rist(Box<RistSourceState>),
    /// Its connections begin anew.
    Srt,
}

/// Without its keys.
impl fmt::Debug for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowState").finish_non_exhaustive()
    }
}

impl FlowState {
    /// The SSRCs that outputs have sent with that send RTP headers of their own.
    pub fn ssrcs(&self) -> BTreeMap<String, u32> {
        let by_rtp = self.outputs.iter().map(|(name, output)| (name.clone(), output.ssrc));
        by_rtp.chain(self.rist.ssrcs()).collect()
    }
}

impl Flow {
    /// Send what waits to be sent, and end: where all of it stands.
    pub(super) fn suspend(&mut self) -> FlowState {
        let (shard, now) = (self.shard.clone(), Instant::now());
        let outputs = self.egress.suspend(&mut shard.buffers.borrow_mut().send, now);
        let state = |Source { name, input, .. }| match input {
            Input::Sockets(sockets) => SourceState { name, input: InputState::Sockets(sockets.into_state()) },
            Input::Rist(rist) => SourceState { name, input: InputState::Rist(Box::new(rist.into_state())) },
            Input::Srt(_) => SourceState { name, input: InputState::Srt },
        };
        FlowState {
            timeline: std::mem::take(&mut self.timeline),
            sources: self.sources.drain(..).map(state).collect(),
            air: std::mem::replace(&mut self.air, Air::Single).into_state(),
            outputs,
            rist: self.egress.rist.suspend(),
            tables: self.egress.tables().cloned(),
        }
    }

    /// Go on where another one stood. What is configured otherwise by now begins anew.
    pub(super) fn resume(&mut self, state: FlowState) {
        let FlowState { timeline, sources, air, outputs, rist, tables } = state;
        let now = Instant::now();
        self.timeline = timeline;
        self.egress.resume(outputs);
        self.egress.rist.resume(rist, now);
        if let Some(tables) = tables {
            self.egress.set_tables(&tables);
        }
        let same = self.sources.iter().map(|source| &source.name).eq(sources.iter().map(|source| &source.name));
        for SourceState { name, input: state } in sources {
            let Some(source) = self.sources.iter_mut().find(|source| source.name == name) else { continue };
            match (&mut source.input, state) {
                (Input::Sockets(sockets), InputState::Sockets(state)) => sockets.resume(state),
                (Input::Rist(rist), InputState::Rist(state)) => rist.resume(*state, now),
                _ => {}
            }
        }
        if same {
            self.air.resume(air, now);
        }
    }
}
