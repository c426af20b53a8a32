//! The second room of the corridor: a source's protocol, driven by its datagrams.

use crate::time::Instant;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::plan::SourceProtocol;
use crate::io::batch::Datagram;
use crate::proto::fec2022_1::decode::{Decoder, FecCounters};
use crate::proto::fec2022_1::header::FecStream;
use crate::proto::mpegts::packet::{Wire, check_datagram, classify};
use crate::proto::rtp::header::{Header, carries_mp2t};
use crate::proto::rtp::receive::{Place, Released, RtpReceiver};
use crate::proto::rtp::stats::RtpCounters;
use crate::proto::seq::RtpTime;

use super::egress::MediaPacket;
use super::merge::Leg;
use super::stats::{Invalid, SourceStats};

/// One source's protocol, and the packets it has put in order since the last collection.
#[derive(Debug)]
pub(super) struct Ingest {
    protocol: Protocol,
    ready: Vec<Ready>,
    /// Media accepted since the last [`Self::recycle`]: packets and bytes of transport stream.
    accepted: (u64, u64),
    stats: Arc<SourceStats>,
}

/// A source's protocol, with its state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Protocol {
    Udp {
        start: Instant,
    },
    Rtp(Box<Rtp<RtpReceiver>>),
    RtpFec(Box<Rtp<Decoder>>),
    /// RTP in a merge, which puts it in order.
    Leg,
    /// The same with FEC: the decoder brings back what it can.
    LegFec(Box<Rtp<Decoder>>),
}

/// RTP, and what it has put in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rtp<R> {
    receiver: R,
    #[serde(skip)]
    released: Vec<Released>,
    counted: RtpCounters,
}

/// A packet in order: where its bytes are, and what is known of it.
#[derive(Debug)]
struct Ready {
    place: ReadyPlace,
    header: Option<Header>,
    arrival: Instant,
    timestamp: RtpTime,
    discontinuity: bool,
}

#[derive(Debug)]
enum ReadyPlace {
    /// The number in the list of accepted datagrams.
    Arrived(usize),
    Held(Place),
}

impl Ingest {
    /// `leg`: of a merge.
    pub(super) fn new(protocol: SourceProtocol, leg: bool, stats: Arc<SourceStats>) -> Self {
        let protocol = match (protocol, leg) {
            (SourceProtocol::Udp, _) => Protocol::Udp { start: Instant::now() },
            (SourceProtocol::Rtp { .. }, true) => Protocol::Leg,
            (SourceProtocol::Rtp { reorder_window }, false) => {
                Protocol::Rtp(Rtp::new(RtpReceiver::new(reorder_window)))
            }
            (SourceProtocol::RtpFec { reorder_window, .. }, true) => {
                Protocol::LegFec(Rtp::new(Decoder::new(reorder_window)))
            }
            (SourceProtocol::RtpFec { reorder_window, .. }, false) => {
                Protocol::RtpFec(Rtp::new(Decoder::new(reorder_window)))
            }
        };
        Self { protocol, ready: Vec::new(), accepted: (0, 0), stats }
    }

    pub(super) fn retune(&mut self, protocol: SourceProtocol) {
        let (SourceProtocol::Rtp { reorder_window } | SourceProtocol::RtpFec { reorder_window, .. }) = protocol else {
            return;
        };
        match &mut self.protocol {
            Protocol::Rtp(rtp) => rtp.receiver.set_window(reorder_window),
            Protocol::RtpFec(rtp) | Protocol::LegFec(rtp) => rtp.receiver.set_window(reorder_window),
            Protocol::Udp { .. } | Protocol::Leg => {}
        }
    }

    /// The protocol as it stands, for [`Self::resume`].
    pub(super) fn into_protocol(self) -> Protocol {
        self.protocol
    }

    /// Go on where another one, of the same kind, stood.
    pub(super) fn resume(&mut self, protocol: Protocol) {
        if std::mem::discriminant(&self.protocol) == std::mem::discriminant(&protocol) {
            self.protocol = protocol;
        }
    }

    /// Take in a media datagram that came at `arrival` and will be number `index` of those accepted. Whether it is
    /// accepted.
    pub(super) fn handle(&mut self, datagram: &Datagram<'_>, arrival: Instant, index: usize) -> bool {
        let packet = datagram.payload;
        if let Protocol::Udp { start } = self.protocol {
            let Ok(ts) = check_datagram(packet) else {
                self.reject(packet);
                return false;
            };
            self.stats.sync_errors.add(ts.sync_errors as u64);
            self.accepted = (self.accepted.0 + 1, self.accepted.1 + packet.len() as u64);
            let timestamp = RtpTime(RtpTime::ticks(arrival.saturating_duration_since(start)));
            let place = ReadyPlace::Arrived(index);
            self.ready.push(Ready { place, header: None, arrival, timestamp, discontinuity: false });
            return true;
        }
        let Some(header) = self.check_rtp(packet) else { return false };
        match &mut self.protocol {
            Protocol::Rtp(rtp) => {
                rtp.receiver.handle_packet(arrival, packet, &header, &mut rtp.released);
                rtp.hand_on(Some(index), &mut self.ready);
            }
            Protocol::RtpFec(rtp) => {
                rtp.receiver.handle_packet(arrival, packet, &header, &mut rtp.released);
                rtp.hand_on(Some(index), &mut self.ready);
            }
            Protocol::Udp { .. } | Protocol::Leg | Protocol::LegFec(_) => {}
        }
        true
    }

    /// Take in a media datagram of a leg, which goes straight to the merge. Whether it is accepted.
    pub(super) fn handle_leg(&mut self, datagram: &Datagram<'_>, arrival: Instant, leg: &mut Leg<'_>) -> bool {
        let Some(header) = self.check_rtp(datagram.payload) else { return false };
        leg.packet(arrival, datagram.payload, &header);
        if let Protocol::LegFec(rtp) = &mut self.protocol {
            rtp.receiver.handle_packet(arrival, datagram.payload, &header, &mut rtp.released);
            rtp.merge_recovered(arrival, leg);
        }
        true
    }

    /// Take in a datagram that came to the port of a FEC stream. In a merge, what it brings back goes to the `leg`.
    pub(super) fn handle_fec(
        &mut self,
        stream: FecStream,
        datagram: &Datagram<'_>,
        arrival: Instant,
        leg: Option<&mut Leg<'_>>,
    ) {
        let (Protocol::RtpFec(rtp) | Protocol::LegFec(rtp)) = &mut self.protocol else { return };
        // One that can't be used is counted there.
        let _ = rtp.receiver.handle_fec(arrival, stream, datagram.payload, &mut rtp.released);
        match leg {
            Some(leg) => rtp.merge_recovered(arrival, leg),
            None => rtp.hand_on(None, &mut self.ready),
        }
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, leg: Option<&mut Leg<'_>>) {
        match &mut self.protocol {
            Protocol::Udp { .. } | Protocol::Leg => {}
            Protocol::Rtp(rtp) => {
                rtp.receiver.handle_timeout(now, &mut rtp.released);
                rtp.hand_on(None, &mut self.ready);
            }
            Protocol::RtpFec(rtp) => {
                rtp.receiver.handle_timeout(now, &mut rtp.released);
                rtp.hand_on(None, &mut self.ready);
            }
            Protocol::LegFec(rtp) => {
                rtp.receiver.handle_timeout(now, &mut rtp.released);
                if let Some(leg) = leg {
                    rtp.merge_recovered(now, leg);
                }
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.protocol {
            Protocol::Udp { .. } | Protocol::Leg => None,
            Protocol::Rtp(rtp) => rtp.receiver.poll_timeout(),
            Protocol::RtpFec(rtp) | Protocol::LegFec(rtp) => rtp.receiver.poll_timeout(),
        }
    }

    /// The packets that are ready, in the source's own time.
    pub(super) fn collect<'p>(&'p self, arrived: &[&'p [u8]], media: &mut Vec<MediaPacket<'p>>) {
        for ready in &self.ready {
            let datagram = match (&ready.place, &self.protocol) {
                (ReadyPlace::Arrived(index), _) => arrived[*index],
                (ReadyPlace::Held(Place::Held(slot)), Protocol::Rtp(rtp)) => rtp.receiver.held(*slot),
                (ReadyPlace::Held(Place::Held(slot)), Protocol::RtpFec(rtp)) => rtp.receiver.held(*slot),
                (ReadyPlace::Held(_), _) => continue,
            };
            let payload = ready.header.map_or(datagram, |h| &datagram[h.payload()]);
            let Ready { arrival, timestamp, discontinuity, .. } = *ready;
            media.push(MediaPacket { payload, datagram, arrival, timestamp, discontinuity });
        }
    }

    /// What was collected has been sent, or is not wanted; publish the figures.
    pub(super) fn recycle(&mut self, now: Instant) {
        self.ready.clear();
        let (packets, bytes) = std::mem::take(&mut self.accepted);
        if packets > 0 {
            self.stats.packets.add(packets);
            self.stats.bytes.add(bytes);
            self.stats.last_packet.set(now);
        }
        match &mut self.protocol {
            Protocol::Udp { .. } | Protocol::Leg => {}
            Protocol::Rtp(rtp) => {
                rtp.receiver.recycle();
                let counters = *rtp.receiver.counters();
                publish(counters, &mut rtp.counted, &self.stats);
            }
            Protocol::RtpFec(rtp) => {
                rtp.receiver.recycle();
                let counters = *rtp.receiver.counters();
                publish(counters, &mut rtp.counted, &self.stats);
                publish_fec(rtp.receiver.fec_counters(), rtp.receiver.matrix(now), &self.stats);
            }
            Protocol::LegFec(rtp) => {
                rtp.receiver.recycle();
                publish_fec(rtp.receiver.fec_counters(), rtp.receiver.matrix(now), &self.stats);
            }
        }
    }

    /// The header of an RTP packet with transport stream; any other is counted for what it is.
    fn check_rtp(&mut self, packet: &[u8]) -> Option<Header> {
        let Ok(header) = Header::parse(packet) else {
            self.reject(packet);
            return None;
        };
        let payload = transport_stream(packet, &header, &self.stats)?;
        self.accepted = (self.accepted.0 + 1, self.accepted.1 + payload.len() as u64);
        Some(header)
    }

    fn reject(&self, packet: &[u8]) {
        let by_rtp = !matches!(self.protocol, Protocol::Udp { .. });
        self.stats.invalid[what_it_is(packet, by_rtp) as usize].add(1);
    }
}

/// The payload of an RTP packet with transport stream; any other is counted for what it is.
pub(super) fn transport_stream<'p>(packet: &'p [u8], header: &Header, stats: &SourceStats) -> Option<&'p [u8]> {
    let payload = &packet[header.payload()];
    let checked = carries_mp2t(header.payload_type).then(|| check_datagram(payload));
    let Some(Ok(ts)) = checked else {
        let reason = match classify(packet) {
            Wire::RtpTs => Invalid::PayloadType,
            _ => what_it_is(packet, true),
        };
        stats.invalid[reason as usize].add(1);
        return None;
    };
    stats.sync_errors.add(ts.sync_errors as u64);
    Some(payload)
}

/// Why a datagram is of no use to a source; `by_rtp`: with RTP headers.
fn what_it_is(packet: &[u8], by_rtp: bool) -> Invalid {
    match classify(packet) {
        Wire::Ts if by_rtp => Invalid::TsOnRtp,
        Wire::RtpTs if !by_rtp => Invalid::RtpOnUdp,
        Wire::Rtcp => Invalid::Rtcp,
        Wire::Rtp(_) => Invalid::RtpNotTs,
        Wire::Ts204 => Invalid::Ts204,
        Wire::TsPart => Invalid::CutTs,
        Wire::Empty => Invalid::Empty,
        Wire::Ts | Wire::RtpTs | Wire::Other => Invalid::NotTs,
    }
}

impl<R> Rtp<R> {
    fn new(receiver: R) -> Box<Self> {
        Box::new(Self { receiver, released: Vec::new(), counted: RtpCounters::default() })
    }

    fn hand_on(&mut self, index: Option<usize>, ready: &mut Vec<Ready>) {
        for Released { place, header, arrival, discontinuity, .. } in self.released.drain(..) {
            let place = match (place, index) {
                (Place::Now, Some(index)) => ReadyPlace::Arrived(index),
                (place, _) => ReadyPlace::Held(place),
            };
            ready.push(Ready { place, header: Some(header), arrival, timestamp: header.timestamp, discontinuity });
        }
    }
}

impl Rtp<Decoder> {
    /// Of the packets released, hand those on that FEC brought back: the merge has the others.
    fn merge_recovered(&mut self, now: Instant, leg: &mut Leg<'_>) {
        // About when one would have come: with the packet after it.
        let mut arrival = now;
        for released in self.released.iter().rev() {
            match (released.recovered, released.place) {
                (true, Place::Held(slot)) => leg.packet(arrival, self.receiver.held(slot), &released.header),
                _ => arrival = released.arrival,
            }
        }
        self.released.clear();
    }
}

/// What has changed since the last time.
fn publish(now: RtpCounters, counted: &mut RtpCounters, s: &SourceStats) {
    let then = std::mem::replace(counted, now);
    let (lost, recovered) = (now.lost - then.lost, now.recovered - then.recovered);
    s.lost.add(lost + recovered);
    s.recovered.add(recovered);
    s.unrecovered.add(lost);
    s.duplicate.add(now.duplicate - then.duplicate);
    s.reordered.add(now.reordered - then.reordered);
    s.late.add(now.late - then.late);
    s.invalid[Invalid::StrayRtp as usize].add(now.stray - then.stray);
    s.restarts.add(now.restarts - then.restarts);
    s.jitter_ns.set(u64::try_from(now.jitter().as_nanos()).unwrap_or(u64::MAX));
    if now.received > 0 {
        s.ssrc.set(1 << 32 | u64::from(now.ssrc));
    }
}

fn publish_fec(now: FecCounters, (columns, rows): (Option<u8>, Option<u8>), s: &SourceStats) {
    for (stream, counters) in s.fec.streams.iter().zip([now.column, now.row]) {
        stream.packets.set(counters.received);
        stream.lost.set(counters.lost);
        stream.invalid.set(counters.invalid);
    }
    s.fec.recovered_by_column.set(now.recovered_by_column);
    s.fec.recovered_by_row.set(now.recovered_by_row);
    s.fec.rejected.set(now.rejected);
    s.fec.columns.set(columns.unwrap_or(0).into());
    s.fec.rows.set(rows.unwrap_or(0).into());
}
