//! What a flow's task leaves to the one that goes on with it in the daemon's next process. What waits in sockets stays
//! there; what was read and is held (by a merge, for order, for FEC) goes along; and what goes out by RTP goes on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Flow;
use super::FlowCommand;
use super::air::{Air, AirState};
use super::egress::RtpState;
use super::history::Histories;
use super::rist::output::RistOutputsState;
use super::rist::source::RistSourceState;
use super::source::{Input, SocketsState, Source};
use super::srt::{LinkState, Part};
use super::timeline::Timeline;
use crate::proto::mpegts::psi::Psi;
use crate::time::Instant;

/// Where a flow stands.
#[derive(Serialize, Deserialize)]
pub struct FlowState {
    timeline: Timeline,
    /// In their order.
    sources: Vec<SourceState>,
    air: AirState,
    outputs: BTreeMap<String, RtpState>,
    rist: RistOutputsState,
    /// What was sent by SRT.
    sent: Histories,
    links: Vec<LinkState>,
    /// For content encryption.
    tables: Option<Psi>,
    /// The number of the data-plane thread: connections are known by it.
    shard: usize,
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
    /// The origin of its timestamps.
    Srt(Instant),
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

    /// The number of the data-plane thread it ran on.
    pub const fn shard(&self) -> usize {
        self.shard
    }

    /// It ran on this thread.
    #[must_use]
    pub fn of_shard(self, shard: usize) -> Self {
        Self { shard, ..self }
    }

    /// Its connections by SRT.
    pub fn links(&self) -> &[LinkState] {
        &self.links
    }

    /// Those of one source, output or entitlement: whoever takes them lets them go on, by [`FlowCommand::OpenLink`].
    ///
    /// [`FlowCommand::OpenLink`]: super::FlowCommand::OpenLink
    pub fn take_links(&mut self, part: &Part) -> Vec<LinkState> {
        let links = std::mem::take(&mut self.links);
        let (taken, left) = links.into_iter().partition(|link| link.part == *part);
        self.links = left;
        taken
    }
}

impl Flow {
    /// Send what waits to be sent, and end: where all of it stands.
    pub(super) fn suspend(&mut self) -> FlowState {
        let (shard, now) = (self.shard.clone(), Instant::now());
        // Whom they have said goodbye to hears it.
        self.transmit(&mut shard.buffers.borrow_mut().send, now);
        let outputs = self.egress.suspend(&mut shard.buffers.borrow_mut().send, now);
        let state = |Source { name, input, .. }| match input {
            Input::Sockets(sockets) => SourceState { name, input: InputState::Sockets(sockets.into_state()) },
            Input::Rist(rist) => SourceState { name, input: InputState::Rist(Box::new(rist.into_state())) },
            Input::Srt(srt) => SourceState { name, input: InputState::Srt(srt.origin()) },
        };
        FlowState {
            timeline: std::mem::take(&mut self.timeline),
            sources: self.sources.drain(..).map(state).collect(),
            air: std::mem::replace(&mut self.air, Air::Single).into_state(),
            outputs,
            rist: self.egress.rist.suspend(),
            sent: self.egress.srt.suspend(),
            links: self.links.suspend(now),
            tables: self.egress.tables().cloned(),
            shard: 0,
        }
    }

    /// Go on where another one stood. What is configured otherwise by now begins anew.
    pub(super) fn resume(&mut self, state: FlowState) {
        let FlowState { timeline, sources, air, outputs, rist, sent, tables, .. } = state;
        let now = Instant::now();
        self.timeline = timeline;
        self.egress.resume(outputs);
        self.egress.rist.resume(rist, now);
        self.egress.srt.resume(sent);
        if let Some(tables) = tables {
            self.egress.set_tables(&tables);
        }
        let same = self.sources.iter().map(|source| &source.name).eq(sources.iter().map(|source| &source.name));
        for SourceState { name, input: state } in sources {
            let Some(source) = self.sources.iter_mut().find(|source| source.name == name) else { continue };
            match (&mut source.input, state) {
                (Input::Sockets(sockets), InputState::Sockets(state)) => sockets.resume(state),
                (Input::Rist(rist), InputState::Rist(state)) => rist.resume(*state, now),
                (Input::Srt(srt), InputState::Srt(origin)) => srt.resume(origin),
                _ => {}
            }
        }
        if same {
            self.air.resume(air, now);
        }
        let mut held = std::mem::take(&mut self.held);
        // By those that go on it is known what goes on of what was sent.
        held.sort_by_key(|command| !matches!(command, FlowCommand::OpenLink(_, seed) if seed.goes_on()));
        held.into_iter().for_each(|command| self.obey(command));
        self.egress.srt.resumed();
    }
}
