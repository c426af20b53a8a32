//! The second room of the corridor: a source's protocol, driven by its datagrams.

use std::sync::Arc;
use std::time::Instant;

use crate::config::plan::SourceProtocol;
use crate::io::batch::Datagram;
use crate::proto::mpegts::packet::{Wire, check_datagram, classify};
use crate::proto::rtp::header::{Header, carries_mp2t};
use crate::proto::rtp::receive::{Place, Released, RtpReceiver};
use crate::proto::rtp::stats::RtpCounters;
use crate::proto::seq::RtpTime;

use super::egress::MediaPacket;
use super::stats::{Invalid, SourceStats};

/// One source's protocol, and the packets it has put in order since the last collection.
#[derive(Debug)]
pub(super) struct Ingest {
    protocol: Protocol,
    ready: Vec<Ready>,
    stats: Arc<SourceStats>,
}

#[derive(Debug)]
enum Protocol {
    Udp { start: Instant },
    Rtp(Box<Rtp>),
}

#[derive(Debug)]
struct Rtp {
    receiver: RtpReceiver,
    released: Vec<Released>,
    counted: RtpCounters,
    /// Timestamps handed on: those of the stream, and over a restart as much later as time has passed.
    rebase: u32,
    last: Option<(Instant, RtpTime)>,
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
    pub(super) fn new(protocol: SourceProtocol, stats: Arc<SourceStats>) -> Self {
        let now = Instant::now();
        let protocol = match protocol {
            SourceProtocol::Udp => Protocol::Udp { start: now },
            SourceProtocol::Rtp { reorder_window } | SourceProtocol::RtpFec { reorder_window, .. } => {
                Protocol::Rtp(Box::new(Rtp {
                    receiver: RtpReceiver::new(reorder_window),
                    released: Vec::with_capacity(64),
                    counted: RtpCounters::default(),
                    rebase: 0,
                    last: None,
                }))
            }
        };
        Self { protocol, ready: Vec::with_capacity(256), stats }
    }

    pub(super) fn retune(&mut self, protocol: SourceProtocol) {
        if let (
            Protocol::Rtp(rtp),
            SourceProtocol::Rtp { reorder_window } | SourceProtocol::RtpFec { reorder_window, .. },
        ) = (&mut self.protocol, protocol)
        {
            rtp.receiver.set_window(reorder_window);
        }
    }

    /// Take in a datagram that came at `arrival` and will be number `index` of those accepted. Whether it is accepted.
    pub(super) fn handle(&mut self, datagram: &Datagram<'_>, arrival: Instant, index: usize, now: Instant) -> bool {
        match &mut self.protocol {
            Protocol::Udp { start } => {
                let Ok(ts) = check_datagram(datagram.payload) else {
                    self.reject(classify(datagram.payload));
                    return false;
                };
                self.stats.sync_errors.add(ts.sync_errors as u64);
                let timestamp = RtpTime(RtpTime::ticks(arrival.saturating_duration_since(*start)));
                let place = ReadyPlace::Arrived(index);
                self.ready.push(Ready { place, header: None, arrival, timestamp, discontinuity: false });
            }
            Protocol::Rtp(rtp) => {
                let header = Header::parse(datagram.payload).ok();
                let media = header.filter(|h| carries_mp2t(h.payload_type));
                let checked = media.map(|h| check_datagram(&datagram.payload[h.payload()]));
                let (Some(header), Some(Ok(ts))) = (media, checked) else {
                    match (header, classify(datagram.payload)) {
                        (Some(_), Wire::RtpTs) => self.stats.invalid[Invalid::PayloadType as usize].add(1),
                        (_, wire) => self.reject(wire),
                    }
                    return false;
                };
                self.stats.sync_errors.add(ts.sync_errors as u64);
                rtp.receiver.handle_packet(arrival, datagram.payload, &header, &mut rtp.released);
                rtp.hand_on(Some(index), now, &mut self.ready);
            }
        }
        true
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Protocol::Rtp(rtp) = &mut self.protocol else { return };
        rtp.receiver.handle_timeout(now, &mut rtp.released);
        rtp.hand_on(None, now, &mut self.ready);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.protocol {
            Protocol::Udp { .. } => None,
            Protocol::Rtp(rtp) => rtp.receiver.poll_timeout(),
        }
    }

    /// Add the packets that are ready to `media`, and count them.
    pub(super) fn collect<'p>(&'p self, arrived: &[&'p [u8]], media: &mut Vec<MediaPacket<'p>>, now: Instant) {
        let mut bytes = 0;
        for ready in &self.ready {
            let datagram = match (&ready.place, &self.protocol) {
                (ReadyPlace::Arrived(index), _) => arrived[*index],
                (ReadyPlace::Held(Place::Held(slot)), Protocol::Rtp(rtp)) => rtp.receiver.held(*slot),
                (ReadyPlace::Held(_), _) => continue,
            };
            let payload = ready.header.map_or(datagram, |h| &datagram[h.payload()]);
            bytes += payload.len();
            let Ready { arrival, timestamp, discontinuity, .. } = *ready;
            media.push(MediaPacket { payload, datagram, arrival, timestamp, discontinuity });
        }
        if self.ready.is_empty() {
            return;
        }
        self.stats.packets.add(self.ready.len() as u64);
        self.stats.bytes.add(bytes as u64);
        self.stats.last_packet.set(now);
    }

    /// What was collected has been sent; publish the figures.
    pub(super) fn recycle(&mut self) {
        self.ready.clear();
        let Protocol::Rtp(rtp) = &mut self.protocol else { return };
        rtp.receiver.recycle();
        let now = *rtp.receiver.counters();
        let then = std::mem::replace(&mut rtp.counted, now);
        let s = &self.stats;
        s.lost.add(now.lost - then.lost);
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

    fn reject(&self, wire: Wire) {
        let rtp_source = matches!(self.protocol, Protocol::Rtp(_));
        let reason = match wire {
            Wire::Ts if rtp_source => Invalid::TsOnRtp,
            Wire::RtpTs if !rtp_source => Invalid::RtpOnUdp,
            Wire::Rtcp => Invalid::Rtcp,
            Wire::Rtp(_) => Invalid::RtpNotTs,
            Wire::Ts204 => Invalid::Ts204,
            Wire::TsPart => Invalid::CutTs,
            Wire::Empty => Invalid::Empty,
            Wire::Ts | Wire::RtpTs | Wire::Other => Invalid::NotTs,
        };
        self.stats.invalid[reason as usize].add(1);
    }
}

impl Rtp {
    fn hand_on(&mut self, index: Option<usize>, now: Instant, ready: &mut Vec<Ready>) {
        for Released { place, header, arrival, discontinuity } in self.released.drain(..) {
            if discontinuity && let Some((at, last)) = self.last {
                let continued = last.add(now.saturating_duration_since(at));
                self.rebase = continued.0.wrapping_sub(header.timestamp.0);
            }
            let timestamp = RtpTime(header.timestamp.0.wrapping_add(self.rebase));
            self.last = Some((now, timestamp));
            let place = match (place, index) {
                (Place::Now, Some(index)) => ReadyPlace::Arrived(index),
                (place, _) => ReadyPlace::Held(place),
            };
            ready.push(Ready { place, header: Some(header), arrival, timestamp, discontinuity });
        }
    }
}
