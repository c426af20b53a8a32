//! How a flow's sources become one stream: one of them is on air, or all are merged.

use crate::time::Instant;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proto::mpegts::inspect::{Inspector, Interest};

use super::egress::MediaPacket;
use super::failover::{Failover, FailoverConfig, Return, Sample, SourceId, Triggers};
use super::merge::{Merge, MergeState};
use super::source::Source;
use super::stats::{FlowEvent, FlowStats, SourceStats};

/// How often the figures of sources are compared with the triggers.
const SAMPLE: Duration = Duration::from_millis(250);

/// How a flow's sources become one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AirConfig {
    /// There is one.
    Single,
    /// One is on air, the others stand by.
    Failover {
        /// The preferred one, by name.
        primary: Option<String>,
        /// How it comes back.
        back: Return,
        /// What makes a source unfit.
        triggers: Triggers,
    },
    /// All carry the same RTP packets (ST 2022-7).
    Merge {
        /// How far they may lie apart, and the delay added.
        window: Duration,
    },
}

/// What it leaves to one that goes on with the same sources, which are in the same order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AirState {
    Single,
    Standby { failover: Box<Failover>, seats: Vec<SourceId>, last: Option<SourceId> },
    Merge(Box<MergeState>),
}

/// The same, at work. Sources are known by their place in the flow's list.
pub(super) enum Air {
    Single,
    Standby(Box<Standby>),
    Merge(Box<Merge>),
}

/// Hot standby.
pub(super) struct Standby {
    failover: Failover,
    seats: Vec<Seat>,
    primary: Option<String>,
    /// Who sent last.
    last: Option<SourceId>,
    interest: Interest,
    /// `None`: no trigger needs figures.
    next_sample: Option<Instant>,
}

/// A source of a [`Standby`].
struct Seat {
    id: SourceId,
    inspector: Option<Inspector>,
    pat_seen: Option<Instant>,
    pats: u64,
}

impl Standby {
    fn new(sources: &[Source]) -> Self {
        let mut standby = Self {
            failover: Failover::new(FailoverConfig::default()),
            seats: Vec::new(),
            primary: None,
            last: None,
            interest: Interest::default(),
            next_sample: None,
        };
        sources.iter().for_each(|_| standby.push());
        standby
    }

    fn retune(&mut self, primary: Option<String>, back: Return, triggers: Triggers, sources: &[Source], now: Instant) {
        let interest = Interest {
            continuity: triggers.continuity_errors.is_some(),
            psi: triggers.pat_loss.is_some(),
            ..Interest::default()
        };
        if interest != self.interest {
            self.interest = interest;
            self.seats.iter_mut().for_each(|seat| seat.inspector = inspector(interest));
        }
        let rates = triggers.min_bitrate.is_some() || triggers.unrecovered.is_some() || !interest.is_none();
        self.next_sample = rates.then_some(now);
        self.primary = primary;
        let primary = self.primary_of(sources);
        self.failover.retune(FailoverConfig { primary, back, triggers }, now);
    }

    fn primary_of(&self, sources: &[Source]) -> Option<SourceId> {
        let at = sources.iter().position(|source| Some(&source.name) == self.primary.as_ref())?;
        self.seats.get(at).map(|seat| seat.id)
    }

    fn push(&mut self) {
        let (id, inspector) = (self.failover.add(), inspector(self.interest));
        self.seats.push(Seat { id, inspector, pat_seen: None, pats: 0 });
    }

    /// As [`Air::takes`].
    fn packets(&mut self, index: usize, media: &mut [MediaPacket<'_>], stats: &SourceStats, now: Instant) -> bool {
        let seat = &mut self.seats[index];
        if let Some(inspector) = &mut seat.inspector {
            for packet in media.iter() {
                if packet.discontinuity {
                    inspector.restart();
                }
                inspector.handle(packet.payload, packet.arrival);
            }
            stats.continuity_errors.set(inspector.counters().continuity_errors);
            if let Some(psi) = inspector.psi()
                && psi.pat_seen() != seat.pat_seen
            {
                seat.pat_seen = psi.pat_seen();
                seat.pats += 1;
            }
        }
        let id = seat.id;
        let out = self.failover.packet(id, now);
        if out && self.last != Some(id) {
            if self.last.is_some()
                && let Some(first) = media.first_mut()
            {
                first.discontinuity = true;
            }
            self.last = Some(id);
        }
        out
    }

    fn due(&self) -> Option<Instant> {
        self.failover.poll_timeout().into_iter().chain(self.next_sample).min()
    }

    /// All sources were read: decide, and tell what was decided.
    fn handle_timeout(&mut self, now: Instant, sources: &[Source], stats: &FlowStats) {
        if self.next_sample.is_some_and(|at| at <= now) {
            self.next_sample = Some(now + SAMPLE);
            for (seat, source) in self.seats.iter().zip(sources) {
                let s = &source.stats;
                let sample = Sample {
                    bytes: s.bytes.value(),
                    continuity_errors: s.continuity_errors.value(),
                    pats: seat.pats,
                    unrecovered: s.unrecovered.value(),
                };
                self.failover.sample(seat.id, now, sample);
            }
        }
        self.failover.handle_timeout(now);
        let on_air = self.failover.on_air();
        for (seat, source) in self.seats.iter().zip(sources) {
            source.stats.on_air.set((Some(seat.id) == on_air).into());
        }
        let name = |id| {
            let at = self.seats.iter().position(|seat| seat.id == id)?;
            sources.get(at).map(|source| source.name.clone())
        };
        while let Some(switch) = self.failover.poll_event() {
            let Some(to) = name(switch.to) else { continue };
            let from = switch.from.and_then(name);
            let counted = from.is_some();
            stats.note(FlowEvent::Switched { from, to, reason: switch.reason, gap: switch.gap });
            stats.switches.add(counted.into());
        }
    }
}

impl Air {
    /// What goes on in [`Self::resume`].
    pub(super) fn into_state(self) -> AirState {
        match self {
            Self::Single => AirState::Single,
            Self::Standby(standby) => {
                let Standby { failover, seats, last, .. } = *standby;
                let seats = seats.iter().map(|seat| seat.id).collect();
                AirState::Standby { failover: Box::new(failover), seats, last }
            }
            Self::Merge(merge) => AirState::Merge(Box::new(merge.into_state())),
        }
    }

    /// Go on where one of the same kind stood, with the same sources.
    pub(super) fn resume(&mut self, state: AirState, now: Instant) {
        match (self, state) {
            (Self::Merge(merge), AirState::Merge(state)) => merge.resume(*state),
            (Self::Standby(standby), AirState::Standby { failover, seats, last }) => {
                let config = *standby.failover.config();
                let primary = standby.seats.iter().position(|seat| Some(seat.id) == config.primary);
                standby.failover = *failover;
                standby.last = last;
                standby.seats.iter_mut().zip(&seats).for_each(|(seat, id)| seat.id = *id);
                let primary = primary.and_then(|at| seats.get(at)).copied();
                standby.failover.retune(FailoverConfig { primary, ..config }, now);
            }
            _ => {}
        }
    }

    /// Work by another configuration.
    pub(super) fn retune(&mut self, config: AirConfig, sources: &mut [Source], now: Instant) {
        let was_merge = matches!(self, Self::Merge(_));
        let merge_window = if let AirConfig::Merge { window } = config { Some(window) } else { None };
        match (&mut *self, config) {
            (_, AirConfig::Single) => *self = Self::Single,
            (Self::Merge(merge), AirConfig::Merge { window }) => merge.set_window(window),
            (_, AirConfig::Merge { window }) => *self = Self::Merge(Box::new(Merge::new(window, sources))),
            (Self::Standby(standby), AirConfig::Failover { primary, back, triggers }) => {
                standby.retune(primary, back, triggers, sources, now);
            }
            (_, AirConfig::Failover { primary, back, triggers }) => {
                let mut standby = Standby::new(sources);
                standby.retune(primary, back, triggers, sources, now);
                *self = Self::Standby(Box::new(standby));
            }
        }
        let is_merge = matches!(self, Self::Merge(_));
        if is_merge != was_merge {
            sources.iter_mut().for_each(|source| source.set_leg(is_merge));
        }
        sources.iter_mut().for_each(|source| source.set_window(merge_window, now));
    }

    /// A source was added at the end of the list.
    pub(super) fn push(&mut self, sources: &mut [Source], now: Instant) {
        match self {
            Self::Single => {}
            Self::Standby(standby) => {
                standby.push();
                let (config, primary) = (*standby.failover.config(), standby.primary_of(sources));
                standby.failover.retune(FailoverConfig { primary, ..config }, now);
            }
            Self::Merge(merge) => {
                if let Some(source) = sources.last_mut() {
                    source.set_leg(true);
                    source.set_window(Some(merge.window()), now);
                    merge.push(source);
                }
            }
        }
    }

    /// The source at `index` is gone.
    pub(super) fn remove(&mut self, index: usize, now: Instant) {
        match self {
            Self::Single => {}
            Self::Standby(standby) => standby.failover.remove(standby.seats.remove(index).id, now),
            Self::Merge(merge) => merge.remove(index),
        }
    }

    /// The operator's word; `None`: it is over.
    pub(super) fn switch(&mut self, index: Option<usize>, now: Instant) {
        let Self::Standby(standby) = self else { return };
        match index.and_then(|index| standby.seats.get(index)) {
            Some(seat) => _ = standby.failover.switch(seat.id, now),
            None => standby.failover.clear(now),
        }
    }

    /// Packets of a source came, or were released: whether they go out.
    pub(super) fn takes(
        &mut self,
        index: usize,
        packets: &mut [MediaPacket<'_>],
        stats: &SourceStats,
        now: Instant,
    ) -> bool {
        match self {
            Self::Standby(standby) => standby.packets(index, packets, stats, now),
            Self::Single | Self::Merge(_) => true,
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Single => None,
            Self::Standby(standby) => standby.due(),
            Self::Merge(merge) => merge.due(),
        }
    }

    /// Call it when all sources were read.
    pub(super) fn handle_timeout(&mut self, now: Instant, sources: &[Source], stats: &FlowStats) {
        match self {
            Self::Single => {}
            Self::Standby(standby) => standby.handle_timeout(now, sources, stats),
            Self::Merge(merge) => merge.handle_timeout(now, sources, stats),
        }
    }
}

fn inspector(interest: Interest) -> Option<Inspector> {
    (!interest.is_none()).then(|| Inspector::new(interest))
}
