//! A flow whose sources are the legs of one stream (ST 2022-7).

use std::time::{Duration, Instant};

use crate::proto::hitless::{LegId, MergeEvent, Merger, Released};
use crate::proto::rtp::header::Header;

use super::egress::MediaPacket;
use super::source::Source;
use super::stats::{FlowEvent, FlowStats, SourceStats};

/// The merge of a flow's sources.
pub(super) struct Merge {
    merger: Merger,
    /// By the place of their source. `None`: there are too many.
    legs: Vec<Option<LegId>>,
    released: Vec<Released>,
}

/// One leg, on the way in.
pub(super) struct Leg<'m> {
    merger: &'m mut Merger,
    id: Option<LegId>,
}

impl Leg<'_> {
    /// A packet has come, or was brought back.
    pub(super) fn packet(&mut self, arrival: Instant, packet: &[u8], header: &Header) {
        if let Some(id) = self.id {
            self.merger.handle_packet(id, arrival, packet, header);
        }
    }
}

impl Merge {
    /// With a leg for each of `sources` that there are.
    pub(super) fn new(window: Duration, sources: usize) -> Self {
        let mut merger = Merger::new(window);
        let legs = (0..sources).map(|_| merger.add_leg()).collect();
        Self { merger, legs, released: Vec::new() }
    }

    /// It is over: release all that waits.
    pub(super) fn flush(&mut self) {
        self.merger.flush(&mut self.released);
    }

    pub(super) fn set_window(&mut self, window: Duration) {
        self.merger.set_window(window);
    }

    /// A source was added at the end.
    pub(super) fn push(&mut self) {
        self.legs.push(self.merger.add_leg());
    }

    /// The source at `index` is gone.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(id) = self.legs.remove(index) {
            self.merger.remove_leg(id);
        }
    }

    pub(super) fn leg(&mut self, index: usize) -> Leg<'_> {
        Leg { merger: &mut self.merger, id: self.legs[index] }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.merger.poll_timeout()
    }

    /// Release what is due, and publish the figures.
    pub(super) fn handle_timeout(&mut self, now: Instant, sources: &[Source], stats: &FlowStats) {
        self.merger.handle_timeout(now, &mut self.released);
        while let Some(event) = self.merger.poll_event() {
            let (MergeEvent::LegsNotIdentical { leg } | MergeEvent::LegRejoined { leg }) = event;
            let Some(index) = self.legs.iter().position(|l| *l == Some(leg)) else { continue };
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
        stats.merge.delivered.set(merge.delivered);
        stats.merge.recovered.set(merge.recovered);
        stats.merge.unrecovered.set(merge.unrecovered);
        stats.merge.active_legs.set(self.merger.active_legs(now) as u64);
        stats.merge.skew_ns.set(nanos(self.merger.skew(now)));
        stats.merge.delay_ns.set(nanos(self.merger.delay()));
        for (source, id) in sources.iter().zip(&self.legs) {
            let Some(leg) = id.and_then(|id| self.merger.leg(id)) else { continue };
            let s: &SourceStats = &source.stats;
            // Missing on every leg is missing on this one.
            let unrecovered = leg.lost.min(merge.unrecovered);
            s.lost.set(leg.lost);
            s.unrecovered.set(unrecovered);
            s.recovered.set(leg.lost - unrecovered);
            s.duplicate.set(leg.duplicate);
            s.late.set(leg.late);
            s.restarts.set(leg.resyncs);
            s.ssrc.set(if leg.received > 0 { 1 << 32 | u64::from(leg.ssrc) } else { 0 });
            s.jitter_ns.set(nanos(leg.jitter()));
            let recent = leg.last_arrival.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(1));
            s.on_air.set((recent && s.leg.aside.value() == 0).into());
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
