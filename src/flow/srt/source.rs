//! A source of SRT: what its connections have received, in the order and at the times of the sender.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::link::State;
use super::{Link, SrtSourceConfig};
use crate::config::value::Bitrate;
use crate::flow::egress::MediaPacket;
use crate::flow::police::Police;
use crate::flow::reuse;
use crate::flow::stats::{Invalid, SourceStats};
use crate::proto::mpegts::packet::{Wire, check_datagram, classify};
use crate::proto::seq::RtpTime;
use crate::proto::srt::connection::ReleasedPacket;
use crate::proto::srt::stats::ReceiveCounters;
use crate::time::Instant;

/// The connections of a source: the one that sends, and those before it that still have something.
pub(in crate::flow) struct SrtInput {
    members: Vec<Member>,
    police: Option<Police>,
    max_bitrate: Option<Bitrate>,
    /// The origin of the timestamps of its packets.
    start: Instant,
    /// Which connection's packet was the last one.
    last: Option<u64>,
    stats: Arc<SourceStats>,
}

struct Member {
    link: Rc<Link>,
    /// What of its figures was counted.
    counted: ReceiveCounters,
    /// And what of its socket's.
    overflow: u32,
}

impl SrtInput {
    pub(in crate::flow) fn new(config: &SrtSourceConfig, stats: Arc<SourceStats>, now: Instant) -> Self {
        let mut input = Self { members: Vec::new(), police: None, max_bitrate: None, start: now, last: None, stats };
        input.retune(config, now);
        input
    }

    /// Change what is checked, without a gap.
    pub(in crate::flow) fn retune(&mut self, config: &SrtSourceConfig, now: Instant) {
        if self.max_bitrate != config.max_bitrate {
            self.max_bitrate = config.max_bitrate;
            self.police = config.max_bitrate.map(|rate| Police::new(rate, now));
        }
    }

    /// Take packets of this connection too.
    pub(in crate::flow) fn add(&mut self, link: Rc<Link>) {
        let (counted, overflow) = (link.received(), link.multiplexer.overflow());
        self.members.push(Member { link, counted, overflow });
    }

    /// The origin of the timestamps of its packets, for [`Self::resume`].
    pub(in crate::flow) const fn origin(&self) -> Instant {
        self.start
    }

    /// Timestamps go on as they were from that origin on.
    pub(in crate::flow) const fn resume(&mut self, origin: Instant) {
        self.start = origin;
    }

    pub(in crate::flow) fn links(&self) -> impl Iterator<Item = &Rc<Link>> {
        self.members.iter().map(|member| &member.link)
    }

    /// Forget connections that are over.
    pub(in crate::flow) fn prune(&mut self) {
        self.members.retain(|member| !member.link.is_over());
    }

    /// When the next packet is due.
    pub(in crate::flow) fn next_release(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.link.next_release()).min()
    }

    /// Release what is due, and give it to `deliver`, one connection's packets after another's.
    pub(in crate::flow) fn release<'b>(
        &mut self,
        now: Instant,
        mut buffer: Vec<MediaPacket<'b>>,
        mut deliver: impl FnMut(&mut [MediaPacket<'_>]),
    ) -> Vec<MediaPacket<'b>> {
        let Self { members, police, start, last, stats, .. } = self;
        for Member { link, counted, overflow } in members {
            let State::Connected(connection) = &mut *link.state.borrow_mut() else { continue };
            connection.release(now);
            let mut packets: Vec<MediaPacket<'_>> = reuse(buffer);
            for released in connection.released() {
                let Some(mut packet) = admit(&released, *start, police.as_mut(), stats, now) else { continue };
                packet.discontinuity = last.is_some_and(|last| last != link.stats.number);
                *last = Some(link.stats.number);
                packets.push(packet);
            }
            if !packets.is_empty() {
                stats.packets.add(packets.len() as u64);
                stats.bytes.add(packets.iter().map(|packet| packet.payload.len() as u64).sum());
                // What is in the buffer still is media, and what nobody can decrypt is none.
                stats.last_packet.set(now);
                deliver(&mut packets);
            }
            buffer = reuse(packets);
            connection.recycle();
            let received = *connection.received();
            let then = std::mem::replace(counted, received);
            if received.unique > then.unique {
                link.stats.last_data.set(now);
            }
            let dropped = std::mem::replace(overflow, link.multiplexer.overflow());
            stats.kernel_dropped.add(link.multiplexer.overflow().wrapping_sub(dropped).into());
            publish(&received, &then, stats);
            stats.round_trip_ns.set(nanos(connection.round_trip().unwrap_or_default()));
        }
        buffer
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A packet of transport stream within the bit rate; any other is counted for what it is.
fn admit<'p>(
    released: &ReleasedPacket<'p>,
    start: Instant,
    police: Option<&mut Police>,
    stats: &SourceStats,
    now: Instant,
) -> Option<MediaPacket<'p>> {
    let payload = released.payload;
    let Ok(ts) = check_datagram(payload) else {
        let reason = match classify(payload) {
            Wire::Rtcp => Invalid::Rtcp,
            Wire::Rtp(_) => Invalid::RtpNotTs,
            Wire::RtpTs => Invalid::RtpOnUdp,
            Wire::Ts204 => Invalid::Ts204,
            Wire::TsPart => Invalid::CutTs,
            Wire::Empty => Invalid::Empty,
            Wire::Ts | Wire::Other => Invalid::NotTs,
        };
        stats.invalid[reason as usize].add(1);
        return None;
    };
    if police.is_some_and(|police| !police.admit(payload.len(), now)) {
        stats.over_bitrate.add(1);
        return None;
    }
    stats.sync_errors.add(ts.sync_errors as u64);
    let timestamp = RtpTime(RtpTime::ticks(released.due.saturating_duration_since(start)));
    Some(MediaPacket { payload, datagram: payload, arrival: released.arrival, timestamp, discontinuity: false })
}

/// What has changed since the last time.
fn publish(now: &ReceiveCounters, then: &ReceiveCounters, s: &SourceStats) {
    s.lost.add(now.lost - then.lost);
    s.recovered.add(now.recovered - then.recovered);
    s.unrecovered.add(now.dropped - then.dropped);
    s.duplicate.add(now.duplicates - then.duplicates);
    s.late.add(now.belated - then.belated);
    s.undecrypted.add(now.undecrypted - then.undecrypted);
    s.arq_requests.add(now.naks - then.naks);
    // What was only out of order was recovered too, and what was sent again may have been there already.
    let by_request = |counters: &ReceiveCounters| counters.recovered.min(counters.retransmitted);
    s.arq_recovered.add(by_request(now) - by_request(then));
}
