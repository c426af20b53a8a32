//! A source of RIST: its sockets, and what comes there, in order and in time; or as a leg of a merge.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::remotes::{Remotes, RemotesState};
use super::stats::{Figures, PUBLISH, SourceFigures};
use super::{RistEvent, RistKeys, RistSourceConfig, RistSourceSeed, SourceSockets, cname, ntp_now};
use crate::flow::egress::MediaPacket;
use crate::flow::gate::Gate;
use crate::flow::ingest::transport_stream;
use crate::flow::merge::Leg;
use crate::flow::port::Port;
use crate::flow::reuse;
use crate::flow::source::{Input, Source};
use crate::flow::stats::{Invalid, SourceStats};
use crate::io::batch::{ReceiveBatch, Report, SendBatch, Target, TrainLimit};
use crate::io::endpoint::Endpoint;
use crate::io::reactor::Reactor;
use crate::proto::mpegts::packet::SYNC;
use crate::proto::rist::receiver::{Delivery, From, Receiver, ReceiverConfig, ReceiverEvent, Released, Transmit};
use crate::proto::rist::stats::ReceiverStats;
use crate::proto::rist::{LegId, Port as PortKind, Profile, RemoteId};
use crate::proto::rtp::header::Header;
use crate::time::Instant;

/// Batches read of a socket at a time: a flood does not hold up the other sources of the thread.
const BATCHES: usize = 4;
/// How long a packet may come after later ones before it is asked for: on one path, and where several senders share the
/// work on paths of their own.
const REORDER: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(70));
/// But no more than this part of the time there is.
const REORDER_PART: u32 = 4;
/// A sender that was not heard for so long has no part in that.
const ALIVE: Duration = Duration::from_secs(1);
/// Where feedback goes to a group.
const GROUP: RemoteId = RemoteId(u32::MAX);

/// A source of RIST of a running flow.
pub(in crate::flow) struct RistInput {
    receiver: Receiver,
    leg: LegId,
    ports: Ports,
    /// Where feedback goes whoever sends.
    group: Option<Target>,
    intake: Intake,
    remotes: Remotes,
    config: RistSourceConfig,
    /// Of the merge that it is a leg of.
    window: Option<Duration>,
    released: Vec<Released>,
    /// For datagrams in the making.
    datagram: Vec<u8>,
    /// What of its figures was counted.
    counted: ReceiverStats,
    undecrypted: u64,
    /// The place of the passphrase that its sender uses, as was told.
    sender_uses: Option<usize>,
    figures: SourceFigures,
    publishes: Arc<Figures<SourceFigures>>,
    published: Option<Instant>,
}

/// Where a source stands, but for what waits in its sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::flow) struct RistSourceState {
    receiver: Receiver,
    leg: LegId,
    remotes: RemotesState,
    counted: ReceiverStats,
    undecrypted: u64,
    sender_uses: Option<usize>,
}

/// What a packet passes on its way to the outputs or the merge.
struct Intake {
    gate: Gate,
    /// Packets and bytes of transport stream accepted since the last publication.
    accepted: (u64, u64),
    stats: Arc<SourceStats>,
}

impl Intake {
    /// A packet of transport stream within the bit rate; any other is counted for what it is.
    fn admit<'p>(&mut self, packet: &'p [u8], header: &Header, now: Instant) -> Option<&'p [u8]> {
        let payload = transport_stream(packet, header, &self.stats)?;
        if !self.gate.is_within_bitrate(payload.len(), now) {
            return None;
        }
        self.accepted = (self.accepted.0 + 1, self.accepted.1 + payload.len() as u64);
        Some(payload)
    }

    /// The same on its way to a merge.
    fn pass(&mut self, packet: &[u8], header: &Header, arrival: Instant, now: Instant, merge: &mut Leg<'_>) {
        if self.admit(packet, header, now).is_some() {
            merge.packet(arrival, packet, header);
        }
    }
}

enum Ports {
    Simple { media: Port<Endpoint>, control: Port<Endpoint> },
    Main { tunnel: Port<Endpoint> },
}

impl Ports {
    fn iter(&self) -> impl Iterator<Item = &Port<Endpoint>> {
        let (first, second) = match self {
            Self::Simple { media, control } => (control, Some(media)),
            Self::Main { tunnel } => (tunnel, None),
        };
        std::iter::once(first).chain(second)
    }

    /// With what comes there. Who sends is heard before media is: that is how it is known whom to answer.
    fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Port<Endpoint>, PortKind)> {
        let (first, second) = match self {
            Self::Simple { media, control } => ((control, PortKind::Control), Some((media, PortKind::Media))),
            Self::Main { tunnel } => ((tunnel, PortKind::Tunnel), None),
        };
        std::iter::once(first).chain(second)
    }

    /// Where control goes from.
    fn control(&self) -> &Endpoint {
        match self {
            Self::Simple { control, .. } => &control.socket,
            Self::Main { tunnel } => &tunnel.socket,
        }
    }
}

impl RistInput {
    /// Receive from these sockets.
    ///
    /// # Errors
    /// Where descriptors have run out.
    pub(in crate::flow) fn new(
        seed: RistSourceSeed,
        stats: Arc<SourceStats>,
        reactor: &Reactor,
        now: Instant,
    ) -> std::io::Result<Self> {
        let RistSourceSeed { sockets, config, ssrc, figures } = seed;
        let receiver_config = ReceiverConfig {
            latency: config.latency,
            reorder: REORDER.0,
            delivery: Delivery::Buffered,
            ssrc,
            cname: cname(ssrc),
            ntp: ntp_now(),
        };
        let mut receiver = Receiver::new(now, receiver_config);
        let (ports, profile, group) = match sockets {
            SourceSockets::Simple { media, control, group } => {
                let profile = Profile::Simple { feedback: group.map(|_| GROUP) };
                // As far as what outputs send to a group.
                let target = group.map(|(group, interface)| Target::new(group, Some(super::GROUP_TTL), 0, interface));
                (
                    Ports::Simple { media: Port::new(media, reactor)?, control: Port::new(control, reactor)? },
                    profile,
                    target,
                )
            }
            SourceSockets::Main { tunnel, config } => {
                (Ports::Main { tunnel: Port::new(tunnel, reactor)? }, Profile::Main(config), None)
            }
        };
        let Some(leg) = receiver.add_leg(profile) else {
            return Err(std::io::Error::other("a receiver without room for its first leg"));
        };
        let mut input = Self {
            receiver,
            leg,
            ports,
            group,
            intake: Intake { gate: Gate::new(stats.clone()), accepted: (0, 0), stats },
            remotes: Remotes::default(),
            config: config.clone(),
            window: None,
            released: Vec::new(),
            datagram: Vec::new(),
            counted: ReceiverStats::default(),
            undecrypted: 0,
            sender_uses: None,
            figures: SourceFigures::default(),
            publishes: figures,
            published: None,
        };
        input.retune(config, now);
        Ok(input)
    }

    /// What comes is dealt with no more; what goes on in [`Self::resume`].
    pub(in crate::flow) fn into_state(self) -> RistSourceState {
        let Self { receiver, leg, remotes, counted, undecrypted, sender_uses, .. } = self;
        RistSourceState { receiver, leg, remotes: remotes.into_state(), counted, undecrypted, sender_uses }
    }

    /// Go on where another one stood that had the same sockets. Its keys are asked for anew: the passphrases may be others
    /// by now.
    pub(in crate::flow) fn resume(&mut self, state: RistSourceState, now: Instant) {
        let has_tunnel = state.receiver.leg_stats(state.leg).is_some_and(|leg| leg.tunnel.is_some());
        if has_tunnel != matches!(self.ports, Ports::Main { .. }) {
            return;
        }
        let RistSourceState { receiver, leg, remotes, counted, undecrypted, sender_uses } = state;
        self.remotes = Remotes::resumed(remotes, self.ports.control());
        (self.receiver, self.leg, self.counted) = (receiver, leg, counted);
        (self.undecrypted, self.sender_uses) = (undecrypted, sender_uses);
        self.receiver.set_delivery(if self.window.is_some() { Delivery::AtOnce } else { Delivery::Buffered });
        self.set_times(now);
        self.receiver.renew_keys(now);
    }

    /// Change what is checked, without a gap.
    pub(in crate::flow) fn retune(&mut self, config: RistSourceConfig, now: Instant) {
        self.intake.gate.retune(config.allow.clone(), config.max_bitrate, now);
        self.config = config;
        self.set_times(now);
    }

    /// Be a leg of a merge with this window, or no more. What was held back goes to the merge at once.
    pub(in crate::flow) fn set_window(&mut self, window: Option<Duration>, now: Instant) {
        if self.window.is_some() != window.is_some() {
            self.receiver.set_delivery(if window.is_some() { Delivery::AtOnce } else { Delivery::Buffered });
            self.receiver.set_asking(true);
        }
        self.window = window;
        self.set_times(now);
    }

    fn set_times(&mut self, now: Instant) {
        let latency = self.window.unwrap_or(self.config.latency);
        let part = latency / REORDER_PART;
        let reorder = match self.window {
            // As far as the legs may lie apart and what is missing still be asked for.
            Some(_) => part,
            None if self.remotes.heard_within(ALIVE, now) > 1 => REORDER.1.min(part),
            None => REORDER.0.min(part),
        };
        self.receiver.set_latency(latency);
        self.receiver.set_reorder(reorder);
    }

    /// Whether data waits in one of its sockets.
    pub(in crate::flow) fn is_ready(&self) -> bool {
        self.ports.iter().any(|port| port.ready)
    }

    /// Look for input; [`Self::is_ready`] tells.
    pub(in crate::flow) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        self.ports.iter_mut().for_each(|(port, _)| port.poll_ready(cx));
    }

    /// When there is something to do without input.
    pub(in crate::flow) fn due(&self) -> Option<Instant> {
        let receiver = self.receiver.poll_timeout().into_iter().chain(self.receiver.next_release());
        receiver.chain(self.intake.gate.due()).min()
    }

    /// When its sockets are looked at next, as far as is known.
    pub(in crate::flow) fn next_look(&self) -> Option<Instant> {
        self.ports.iter().filter_map(Port::next_look).min()
    }

    /// Keys that it asked for.
    pub(in crate::flow) fn provide(&mut self, RistKeys { leg, keys }: RistKeys) {
        self.receiver.provide_keys(leg, keys);
    }

    /// The passphrases are others: ask for all keys anew.
    pub(in crate::flow) fn renew_keys(&mut self, now: Instant) {
        self.receiver.renew_keys(now);
        self.sender_uses = None;
        if let Some(tunnel) = &mut self.figures.senders.tunnel {
            tunnel.peer_key = None;
        }
    }

    /// What its tunnel asks for; ask until `None`.
    pub(in crate::flow) fn poll_event(&mut self) -> Option<(LegId, RistEvent)> {
        let used = self.figures.senders.tunnel.and_then(|tunnel| tunnel.peer_key);
        if used != std::mem::replace(&mut self.sender_uses, used)
            && let Some(used) = used
        {
            return Some((self.leg, RistEvent::SenderUses(used)));
        }
        loop {
            match self.receiver.poll_event()? {
                ReceiverEvent::Tunnel(leg, event) => return Some((leg, RistEvent::Tunnel(event))),
                // They show in its figures.
                ReceiverEvent::SourceRestarted(_) | ReceiverEvent::TimestampJump => {}
            }
        }
    }

    /// Read what waits. What goes through at once goes to the `leg` of the merge. How many datagrams there were.
    pub(in crate::flow) fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        budget: Duration,
        now: Instant,
        mut merge: Option<&mut Leg<'_>>,
    ) -> u64 {
        let Self { receiver, leg, ports, intake, remotes, .. } = self;
        let mut datagrams = 0;
        for (port, kind) in ports.iter_mut() {
            for _ in 0..BATCHES {
                if !port.ready {
                    break;
                }
                port.receive(batch, budget, &intake.stats);
                for datagram in batch.datagrams() {
                    datagrams += 1;
                    if !intake.gate.allows(datagram.source.ip()) {
                        continue;
                    }
                    if kind == PortKind::Media && datagram.payload.first() == Some(&SYNC) {
                        intake.stats.invalid[Invalid::TsOnRtp as usize].add(1);
                        continue;
                    }
                    let arrival = intake.gate.arrival(&datagram, now);
                    let remote = if kind == PortKind::Media {
                        // It is not answered.
                        GROUP
                    } else {
                        remotes.hear(&port.socket, datagram.source, datagram.local, now)
                    };
                    if kind != PortKind::Control {
                        intake.gate.note_sender(datagram.source);
                    }
                    let from = From { leg: *leg, port: kind, remote };
                    let passed = receiver.handle_datagram(now, arrival, from, datagram.payload);
                    if let (Some(passed), Some(merge)) = (passed, &mut merge) {
                        intake.pass(passed.packet, &passed.header, passed.came, now, merge);
                    }
                }
            }
        }
        self.receiver.handle_timeout(now);
        datagrams
    }

    /// Other sources of the merge have brought these packets.
    pub(in crate::flow) fn have_elsewhere(&mut self, packets: &[(Instant, Header)], now: Instant) {
        packets.iter().for_each(|(arrival, header)| self.receiver.have_elsewhere(now, *arrival, header));
    }

    /// Release what is due, and give it to `deliver`; or, of a leg, what was still held back to the merge.
    pub(in crate::flow) fn release<'b>(
        &mut self,
        now: Instant,
        buffer: Vec<MediaPacket<'b>>,
        merge: Option<&mut Leg<'_>>,
        deliver: impl FnOnce(&mut [MediaPacket<'_>]),
    ) -> Vec<MediaPacket<'b>> {
        let Self { receiver, intake, released, .. } = self;
        released.clear();
        receiver.release(now, released);
        let mut packets: Vec<MediaPacket<'_>> = reuse(buffer);
        if let Some(merge) = merge {
            for Released { slot, header, arrival, .. } in &*released {
                intake.pass(receiver.held(*slot), header, *arrival, now, merge);
            }
        } else {
            for Released { slot, header, arrival, discontinuity, .. } in &*released {
                let datagram = receiver.held(*slot);
                let Some(payload) = intake.admit(datagram, header, now) else { continue };
                let (arrival, timestamp, discontinuity) = (*arrival, header.timestamp, *discontinuity);
                packets.push(MediaPacket { payload, datagram, arrival, timestamp, discontinuity });
            }
            if !packets.is_empty() {
                deliver(&mut packets);
            }
        }
        let buffer = reuse(packets);
        self.receiver.recycle();
        buffer
    }

    /// Send what there is to tell the senders.
    pub(in crate::flow) fn transmit(&mut self, send: &mut SendBatch, now: Instant) {
        let Self { receiver, ports, group, remotes, datagram, figures, .. } = self;
        let mut session = send.session();
        let mut some = false;
        datagram.clear();
        while let Some(Transmit { remote, .. }) = receiver.poll_transmit(now, datagram) {
            let target = if remote == GROUP { group.as_ref() } else { remotes.target(remote) };
            if let Some(target) = target {
                session.begin(TrainLimit::SINGLE);
                session.push_with(datagram.len(), |place| place.copy_from_slice(datagram));
                let train = session.finish();
                session.message(target, train, 0);
                some = true;
            }
            datagram.clear();
        }
        if some {
            session.flush(ports.control().sender(), |report| {
                if let Report::Message { outcome, .. } = report {
                    figures.send_errors += u64::from(outcome.dropped);
                }
            });
        }
    }

    /// Publish the figures.
    pub(in crate::flow) fn publish(&mut self, now: Instant) {
        self.intake.gate.publish(now);
        let (packets, bytes) = std::mem::take(&mut self.intake.accepted);
        let s = &self.intake.stats;
        if packets > 0 {
            s.packets.add(packets);
            s.bytes.add(bytes);
            // What is in the buffer still is media.
            let break_over = s.last_packet.value().is_none_or(|last| now.saturating_duration_since(last) > ALIVE);
            self.figures.media_since = self.figures.media_since.filter(|_| !break_over).or(Some(now));
            s.last_packet.set(now);
        }
        let stream = self.receiver.stats();
        let then = std::mem::replace(&mut self.counted, stream);
        s.arq_requests.add(stream.requests - then.requests);
        s.arq_recovered.add(stream.recovered - then.recovered);
        s.invalid[Invalid::NotTs as usize].add(stream.invalid - then.invalid);
        // Of a leg, the merge tells the rest.
        if self.window.is_none() {
            count(&stream, &then, s);
        }
        if self.published.is_some_and(|at| now.saturating_duration_since(at) < PUBLISH) {
            return;
        }
        self.published = Some(now);
        self.set_times(now);
        let senders = self.receiver.leg_stats(self.leg).unwrap_or_default();
        let s = &self.intake.stats;
        s.round_trip_ns.set(senders.rtt.map_or(0, nanos));
        if let Some(tunnel) = senders.tunnel {
            let undecrypted = tunnel.undecrypted + tunnel.garbage + tunnel.in_clear;
            s.undecrypted.add(undecrypted - std::mem::replace(&mut self.undecrypted, undecrypted));
        }
        let figures = &mut self.figures;
        (figures.stream, figures.senders) = (stream, senders);
        figures.heard = self.remotes.heard_within(ALIVE, now);
        figures.other_profile.update(senders.other_profile, now);
        figures.tunnel.update(senders.tunnel.as_ref(), now);
        self.publishes.publish(*figures);
    }
}

/// Of several sources of a merge that can ask for the same packets only the nearest that still sends does.
pub(in crate::flow) fn share_asking(sources: &mut [Source], now: Instant) {
    let sends =
        |stats: &SourceStats| stats.last_packet.value().is_some_and(|last| now.saturating_duration_since(last) < ALIVE);
    let round_trip = |stats: &SourceStats| match stats.round_trip_ns.value() {
        0 => u64::MAX,
        ns => ns,
    };
    let able = sources.iter().enumerate().filter(|(_, s)| matches!(s.input, Input::Rist(_)) && sends(&s.stats));
    let nearest = able.min_by_key(|(_, source)| round_trip(&source.stats)).map(|(at, _)| at);
    for (at, source) in sources.iter_mut().enumerate() {
        if let Input::Rist(rist) = &mut source.input {
            rist.receiver.set_asking(nearest.is_none_or(|nearest| nearest == at));
        }
    }
}

/// What has changed since the last time.
fn count(now: &ReceiverStats, then: &ReceiverStats, s: &SourceStats) {
    let (recovered, unrecovered) = (now.recovered - then.recovered, now.unrecovered - then.unrecovered);
    s.lost.add(recovered + unrecovered);
    s.recovered.add(recovered);
    s.unrecovered.add(unrecovered);
    s.duplicate.add(now.duplicates - then.duplicates);
    s.reordered.add(now.reordered - then.reordered);
    s.late.add(now.late - then.late);
    s.restarts.add(now.restarts - then.restarts);
    s.invalid[Invalid::StrayRtp as usize].add(now.stray - then.stray);
    s.jitter_ns.set(nanos(now.jitter));
    if now.received > 0 {
        s.ssrc.set(1 << 32 | u64::from(now.ssrc));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
