//! A flow whose sources are the legs of one stream (ST 2022-7).

use crate::time::Instant;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proto::hitless::{LegCounters, LegId, MergeCounters, MergeEvent, Merger, Released};
use crate::proto::rtp::header::Header;

use super::analysis::Analysis;
use super::egress::MediaPacket;
use super::source::Source;
use super::stats::{FlowEvent, FlowStats, Invalid, SourceStats};

/// The merge of a flow's sources.
pub(super) struct Merge {
    merger: Merger,
    /// By the place of their source.
    legs: Vec<Member>,
    released: Vec<Released>,
    window: Duration,
    /// Its figures when this process began with it.
    before: MergeCounters,
    /// What the source that was read last has brought, where another is by RIST.
    heard: Vec<(Instant, Header)>,
}

/// A source of the merge.
struct Member {
    /// `None`: there are too many.
    id: Option<LegId>,
    /// Its figures when it became a leg.
    before: Before,
    /// It asks for what no leg has brought.
    asks: bool,
}

#[derive(Clone, Copy)]
struct Before {
    lost: u64,
    recovered: u64,
    unrecovered: u64,
    duplicate: u64,
    late: u64,
    stray: u64,
    restarts: u64,
}

impl Before {
    fn of(s: &SourceStats) -> Self {
        Self {
            lost: s.lost.value(),
            recovered: s.recovered.value(),
            unrecovered: s.unrecovered.value(),
            duplicate: s.duplicate.value(),
            late: s.late.value(),
            stray: s.invalid[Invalid::StrayRtp as usize].value(),
            restarts: s.restarts.value(),
        }
    }

    /// Of a leg that has counted before in another process: that is not counted again. Figures wrap.
    fn less(self, leg: &LegCounters, merge: &MergeCounters) -> Self {
        let unrecovered = leg.lost.min(merge.unrecovered);
        Self {
            lost: self.lost.wrapping_sub(leg.lost),
            recovered: self.recovered.wrapping_sub(leg.lost - unrecovered),
            unrecovered: self.unrecovered.wrapping_sub(unrecovered),
            duplicate: self.duplicate.wrapping_sub(leg.duplicate),
            late: self.late.wrapping_sub(leg.late),
            stray: self.stray.wrapping_sub(leg.stray),
            restarts: self.restarts.wrapping_sub(leg.resyncs),
        }
    }
}

/// What a merge leaves to one that goes on with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MergeState {
    merger: Merger,
    legs: Vec<Option<LegId>>,
}

/// One leg, on the way in.
pub(super) struct Leg<'m> {
    merger: &'m mut Merger,
    id: Option<LegId>,
    /// `None`: nobody wants to know.
    heard: Option<&'m mut Vec<(Instant, Header)>>,
    analysis: &'m mut Analysis,
    now: Instant,
}

impl Leg<'_> {
    /// A packet has come, or was brought back.
    pub(super) fn packet(&mut self, arrival: Instant, packet: &[u8], header: &Header) {
        if let Some(id) = self.id {
            self.merger.handle_packet(id, arrival, packet, header);
        }
        if let Some(heard) = &mut self.heard {
            heard.push((arrival, *header));
        }
        self.analysis.of_leg(&packet[header.payload()], header.seq, arrival, self.now);
    }
}

impl Merge {
    /// With a leg for each source that there is.
    pub(super) fn new(window: Duration, sources: &[Source]) -> Self {
        let mut merge = Self {
            merger: Merger::new(window),
            legs: Vec::new(),
            released: Vec::new(),
            window,
            before: MergeCounters::default(),
            heard: Vec::new(),
        };
        sources.iter().for_each(|source| merge.push(source));
        merge
    }

    /// It is over: release all that waits.
    pub(super) fn flush(&mut self) {
        self.merger.flush(&mut self.released);
    }

    pub(super) fn set_window(&mut self, window: Duration) {
        self.merger.set_window(window);
        self.window = window;
    }

    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// What the source that was read last has brought.
    pub(super) fn heard(&self) -> &[(Instant, Header)] {
        &self.heard
    }

    pub(super) fn forget_heard(&mut self) {
        self.heard.clear();
    }

    /// What goes on in [`Self::resume`].
    pub(super) fn into_state(self) -> MergeState {
        MergeState { merger: self.merger, legs: self.legs.iter().map(|member| member.id).collect() }
    }

    /// Go on where a merge of the same sources stood.
    pub(super) fn resume(&mut self, MergeState { mut merger, legs }: MergeState) {
        merger.set_window(self.window);
        let counters = *merger.counters();
        for (member, id) in self.legs.iter_mut().zip(legs) {
            member.id = id;
            if let Some(leg) = id.and_then(|id| merger.leg(id)) {
                member.before = member.before.less(leg, &counters);
            }
        }
        self.before = counters;
        self.merger = merger;
    }

    /// A source was added at the end.
    pub(super) fn push(&mut self, source: &Source) {
        let (id, asks) = (self.merger.add_leg(), source.rist().is_some());
        self.legs.push(Member { id, before: Before::of(&source.stats), asks });
    }

    /// The source at `index` is gone.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(id) = self.legs.remove(index).id {
            self.merger.remove_leg(id);
        }
    }

    pub(super) fn leg<'m>(&'m mut self, index: usize, analysis: &'m mut Analysis, now: Instant) -> Leg<'m> {
        let asked = self.legs.iter().enumerate().any(|(at, member)| at != index && member.asks);
        let Self { merger, legs, heard, .. } = self;
        Leg { merger, id: legs[index].id, heard: asked.then_some(heard), analysis, now }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.merger.poll_timeout()
    }

    /// Release what is due, and publish the figures.
    pub(super) fn handle_timeout(&mut self, now: Instant, sources: &[Source], stats: &FlowStats) {
        self.merger.handle_timeout(now, &mut self.released);
        while let Some(event) = self.merger.poll_event() {
            let (MergeEvent::LegsNotIdentical { leg } | MergeEvent::LegRejoined { leg }) = event;
            let Some(index) = self.legs.iter().position(|member| member.id == Some(leg)) else { continue };
            let Some(source) = sources.get(index) else { continue };
            let aside = matches!(event, MergeEvent::LegsNotIdentical { .. });
            source.stats.leg.aside.set(aside.into());
            let source = source.name.clone();
            stats.note(if aside { FlowEvent::LegsNotIdentical { source } } else { FlowEvent::LegRejoined { source } });
        }
        self.publish(now, sources, stats);
    }

    /// The packets that were released, in the legs' own time.
    pub(super) fn collect<'p>(&'p self, media: &mut Vec<MediaPacket<'p>>) {
        for Released { slot, header, arrival, discontinuity, .. } in &self.released {
            let datagram = self.merger.held(*slot);
            let (payload, timestamp) = (&datagram[header.payload()], header.timestamp);
            media.push(MediaPacket { payload, datagram, arrival: *arrival, timestamp, discontinuity: *discontinuity });
        }
    }

    /// What was collected has been sent.
    pub(super) fn recycle(&mut self) {
        self.released.clear();
        self.merger.recycle();
    }

    fn publish(&self, now: Instant, sources: &[Source], stats: &FlowStats) {
        let merge = self.merger.counters();
        stats.merge.delivered.set(merge.delivered - self.before.delivered);
        stats.merge.recovered.set(merge.recovered - self.before.recovered);
        stats.merge.unrecovered.set(merge.unrecovered - self.before.unrecovered);
        stats.merge.active_legs.set(self.merger.active_legs(now) as u64);
        stats.merge.skew_ns.set(nanos(self.merger.skew(now)));
        stats.merge.delay_ns.set(nanos(self.merger.delay()));
        for (source, Member { id, before, .. }) in sources.iter().zip(&self.legs) {
            let Some(leg) = id.and_then(|id| self.merger.leg(id)) else { continue };
            let s: &SourceStats = &source.stats;
            // Missing on every leg is missing on this one.
            let unrecovered = leg.lost.min(merge.unrecovered);
            s.lost.set(before.lost.wrapping_add(leg.lost));
            s.unrecovered.set(before.unrecovered.wrapping_add(unrecovered));
            s.recovered.set(before.recovered.wrapping_add(leg.lost - unrecovered));
            s.duplicate.set(before.duplicate.wrapping_add(leg.duplicate));
            s.late.set(before.late.wrapping_add(leg.late));
            s.restarts.set(before.restarts.wrapping_add(leg.resyncs));
            s.ssrc.set(if leg.received > 0 { 1 << 32 | u64::from(leg.ssrc) } else { 0 });
            s.jitter_ns.set(nanos(leg.jitter()));
            s.on_air.set(id.is_some_and(|id| self.merger.is_active(id, now)).into());
            s.invalid[Invalid::StrayRtp as usize].set(before.stray.wrapping_add(leg.stray));
            s.leg.first.set(leg.first);
            s.leg.unique.set(leg.unique);
            s.leg.different.set(leg.different);
            if let Some(skew) = leg.skew {
                s.leg.skewed.set(1);
                let [now, min, max] = &s.leg.skew_ns;
                now.set(skew.now_ns as u64);
                min.set(skew.min_ns as u64);
                max.set(skew.max_ns as u64);
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
