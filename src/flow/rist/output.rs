//! The outputs of RIST of a flow: one stream for all of them, and for each a sender with its legs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stats::{Figures, OutputFigures, PUBLISH};
use super::{GROUP_TTL, LegSockets, RistKeys, RistLeg, RistOutputConfig, RistOutputSeed, cname, ntp_now};
use crate::flow::cipher::Variant;
use crate::flow::egress::MediaPacket;
use crate::flow::history::{Histories, History};
use crate::flow::port::Port;
use crate::flow::stats::OutputStats;
use crate::io::batch::{Outcome, ReceiveBatch, Report, SendBatch, Session, Target, TrainLimit};
use crate::io::clock::Stamps;
use crate::io::endpoint::Endpoint;
use crate::io::open;
use crate::io::reactor::Reactor;
use crate::proto::rist::LegId;
use crate::proto::rist::sender::{History as _, MediaOut, Sender, SenderConfig, SenderEvent, SenderProfile};
use crate::proto::rist::stats::SenderStats;
use crate::proto::rist::tunnel::TunnelEvent;
use crate::proto::seq::Seq;
use crate::time::Instant;

/// Most packets to one place as one message.
const TRAIN: TrainLimit = TrainLimit::new(24);
/// Batches read of a socket at a time.
const BATCHES: usize = 4;
/// A packet is asked for until it is due at the receiver, and that takes its time to come.
const KEEP: Duration = Duration::from_millis(200);
/// Packets that may be sent again for each hundred that are sent.
const RETRANSMIT_PERCENT: u32 = 50;
/// MPEG-TS (RFC 3551).
const MP2T: u8 = 33;

/// All outputs of RIST of a flow.
#[derive(Default)]
pub(in crate::flow) struct RistOutputs {
    outputs: Vec<RistOutput>,
    /// While there is an output.
    histories: Histories,
    scratch: Scratch,
}

/// What one output has to send; memory to be used again.
#[derive(Default)]
struct Scratch {
    media: Vec<MediaOut>,
    control: Vec<u8>,
    controls: Vec<(LegId, Range<usize>)>,
}

/// Where all of them stand, but for what waits in their sockets.
#[derive(Serialize, Deserialize)]
pub(in crate::flow) struct RistOutputsState {
    outputs: Vec<RistOutputState>,
    histories: Histories,
}

impl RistOutputsState {
    /// The SSRC that each output has sent with.
    pub(in crate::flow) fn ssrcs(&self) -> impl Iterator<Item = (String, u32)> {
        self.outputs.iter().map(|state| (state.name.clone(), state.ssrc))
    }
}

#[derive(Serialize, Deserialize)]
struct RistOutputState {
    name: String,
    sender: Sender,
    ssrc: u32,
    legs: [Option<(LegId, SocketAddr)>; 2],
    variant: Variant,
    counted: SenderStats,
}

struct RistOutput {
    name: String,
    sender: Sender,
    ssrc: u32,
    legs: [Option<Leg>; 2],
    config: RistOutputConfig,
    variant: Variant,
    /// What of its figures was counted.
    counted: SenderStats,
    figures: OutputFigures,
    publishes: Arc<Figures<OutputFigures>>,
    published: Option<Instant>,
    stats: Arc<OutputStats>,
}

/// One place an output sends to.
struct Leg {
    id: LegId,
    address: SocketAddr,
    interface: Option<u32>,
    way: Way,
    media: Target,
    control: Target,
}

/// The sockets of a leg.
enum Way {
    Simple { media: open::Sender, control: Port<Endpoint> },
    Main { tunnel: Port<Endpoint> },
}

impl Way {
    /// What is heard.
    const fn port(&self) -> &Port<Endpoint> {
        match self {
            Self::Simple { control: port, .. } | Self::Main { tunnel: port } => port,
        }
    }

    const fn port_mut(&mut self) -> &mut Port<Endpoint> {
        match self {
            Self::Simple { control: port, .. } | Self::Main { tunnel: port } => port,
        }
    }
}

impl RistOutputs {
    /// Add an output; its legs come later.
    pub(in crate::flow) fn open(
        &mut self,
        name: String,
        seed: RistOutputSeed,
        variant: Variant,
        stats: Arc<OutputStats>,
        now: Instant,
    ) {
        let RistOutputSeed { config, ssrc, figures } = seed;
        let mut sender = Sender::new(
            now,
            SenderConfig {
                ssrc,
                cname: cname(ssrc),
                // Random, as RFC 3550 section 5.1 asks; drawn by the control plane with the SSRC.
                first_seq: Seq((ssrc.rotate_left(7) >> 16) as u16),
                payload_type: MP2T,
                ntp: ntp_now(),
                retransmit_percent: RETRANSMIT_PERCENT,
                delete_nulls: false,
                extended: false,
            },
        );
        sender.begin_sending(self.histories.keep(variant, config.latency + KEEP, now).end());
        self.outputs.push(RistOutput {
            name,
            sender,
            ssrc: ssrc & !1,
            legs: [None, None],
            config,
            variant,
            counted: SenderStats::default(),
            figures: OutputFigures::default(),
            publishes: figures,
            published: None,
            stats,
        });
        self.keep(now);
    }

    /// Change how an output sends.
    pub(in crate::flow) fn retune(&mut self, name: &str, config: RistOutputConfig) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.name == name) {
            output.config = config;
            for leg in output.legs.iter_mut().flatten() {
                [leg.media, leg.control] = targets(&leg.way, leg.address, leg.interface, config);
            }
            self.keep(Instant::now());
        }
    }

    /// Send to another place by this leg, or to none.
    ///
    /// # Errors
    /// Where descriptors have run out.
    pub(in crate::flow) fn set_leg(
        &mut self,
        name: &str,
        number: usize,
        leg: Option<RistLeg>,
        reactor: &Reactor,
        now: Instant,
    ) -> std::io::Result<()> {
        let Some(output) = self.outputs.iter_mut().find(|output| output.name == name) else { return Ok(()) };
        let Some(there) = output.legs.get_mut(number) else { return Ok(()) };
        if let Some(gone) = there.take() {
            output.sender.remove_leg(gone.id);
        }
        let Some(RistLeg { address, interface, sockets }) = leg else { return Ok(()) };
        let (way, profile) = match sockets {
            LegSockets::Simple { media, control } => {
                (Way::Simple { media, control: Port::new(control, reactor)? }, SenderProfile::Simple)
            }
            LegSockets::Main { tunnel, config } => {
                (Way::Main { tunnel: Port::new(tunnel, reactor)? }, SenderProfile::Main(config))
            }
        };
        if let Some(id) = output.sender.add_leg(now, profile) {
            let [media, control] = targets(&way, address, interface, output.config);
            *there = Some(Leg { id, address, interface, way, media, control });
        }
        Ok(())
    }

    /// Remove an output, and tell its receivers.
    pub(in crate::flow) fn close(&mut self, name: &str, send: &mut SendBatch) {
        if let Some(at) = self.outputs.iter().position(|output| output.name == name) {
            self.outputs.remove(at).say_bye(send);
            self.keep(Instant::now());
        }
    }

    /// What goes on in [`Self::resume`]. Receivers are not told.
    pub(in crate::flow) fn suspend(&mut self) -> RistOutputsState {
        let state = |RistOutput { name, sender, ssrc, legs, variant, counted, .. }| {
            let legs = legs.map(|leg| leg.map(|leg| (leg.id, leg.address)));
            RistOutputState { name, sender, ssrc, legs, variant, counted }
        };
        let outputs = self.outputs.drain(..).map(state).collect();
        RistOutputsState { outputs, histories: std::mem::take(&mut self.histories) }
    }

    /// Go on where others stood. Those that share a history do it all of them, or none. Keys are asked for anew: the
    /// passphrases may be others by now.
    pub(in crate::flow) fn resume(&mut self, state: RistOutputsState, now: Instant) {
        let RistOutputsState { outputs: states, mut histories } = state;
        let mut variants: Vec<Variant> = self.outputs.iter().map(|output| output.variant).collect();
        variants.dedup();
        let mut states: BTreeMap<_, _> = states.into_iter().map(|state| (state.name.clone(), state)).collect();
        for variant in variants {
            let of_variant = || self.outputs.iter().filter(|output| output.variant == variant);
            let mut before = of_variant().map(|output| {
                states.get(&output.name).filter(|state| output.is_gone_on_with_by(state)).map(|state| state.variant)
            });
            let Some(Some(first)) = before.next() else { continue };
            if before.any(|other| other != Some(first)) {
                continue;
            }
            let Some(history) = histories.take(first) else { continue };
            self.histories.resume(variant, history);
            for output in self.outputs.iter_mut().filter(|output| output.variant == variant) {
                if let Some(state) = states.remove(&output.name) {
                    output.resume(state, now);
                }
            }
        }
        self.keep(now);
    }

    /// Keep what the most patient output needs.
    fn keep(&mut self, now: Instant) {
        let Self { outputs, histories, .. } = self;
        for output in &*outputs {
            let of_variant = outputs.iter().filter(|other| other.variant == output.variant);
            let longest = of_variant.map(|other| other.config.latency).max().unwrap_or_default();
            histories.keep(output.variant, longest + KEEP, now);
        }
        histories.retain(|variant| outputs.iter().any(|output| output.variant == variant));
    }

    /// Whether an output sends this variant.
    pub(in crate::flow) fn has(&self, variant: Variant) -> bool {
        self.outputs.iter().any(|output| output.variant == variant)
    }

    /// Keys that an output asked for.
    pub(in crate::flow) fn provide(&mut self, name: &str, RistKeys { leg, keys }: RistKeys) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.name == name) {
            output.sender.provide_keys(leg, keys);
        }
    }

    /// The passphrases of an output are others: ask for all keys anew.
    pub(in crate::flow) fn renew_keys(&mut self, name: &str, now: Instant) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.name == name) {
            output.sender.renew_keys(now);
        }
    }

    /// What tunnels ask for; ask until `None`.
    pub(in crate::flow) fn poll_event(&mut self) -> Option<(&str, LegId, TunnelEvent)> {
        self.outputs.iter_mut().find_map(|output| {
            let SenderEvent::Tunnel(leg, event) = output.sender.poll_event()?;
            Some((&*output.name, leg, event))
        })
    }

    /// Whether there is none.
    pub(in crate::flow) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Whether data waits in a socket.
    pub(in crate::flow) fn is_ready(&self) -> bool {
        self.ports().any(|port| port.ready)
    }

    /// Look for input; [`Self::is_ready`] tells.
    pub(in crate::flow) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        let legs = self.outputs.iter_mut().flat_map(|output| output.legs.iter_mut().flatten());
        legs.for_each(|leg| leg.way.port_mut().poll_ready(cx));
    }

    /// When there is something to send without input.
    pub(in crate::flow) fn due(&self) -> Option<Instant> {
        self.outputs.iter().filter_map(|output| output.sender.poll_timeout()).min()
    }

    /// When a socket is looked at next, as far as is known.
    pub(in crate::flow) fn next_look(&self) -> Option<Instant> {
        self.ports().filter_map(Port::next_look).min()
    }

    fn ports(&self) -> impl Iterator<Item = &Port<Endpoint>> {
        let legs = self.outputs.iter().flat_map(|output| output.legs.iter().flatten());
        legs.map(|leg| leg.way.port())
    }

    /// Packets for every output of a variant; they leave with the next [`Self::transmit`].
    pub(in crate::flow) fn push(&mut self, variant: Variant, packets: &[MediaPacket<'_>], now: Instant) {
        self.histories.extend(variant, packets, now);
    }

    /// Hear what receivers tell. How many datagrams there were.
    pub(in crate::flow) fn receive(&mut self, batch: &mut ReceiveBatch, budget: Duration, now: Instant) -> u64 {
        self.outputs.iter_mut().map(|output| output.receive(batch, budget, now)).sum()
    }

    /// Let all of them send what they have, and publish their figures.
    pub(in crate::flow) fn transmit(&mut self, send: &mut SendBatch, now: Instant) {
        let Self { outputs, histories, scratch } = self;
        for output in outputs {
            let Some(history) = histories.get(output.variant) else { continue };
            output.transmit(history, send, scratch, now);
            output.publish(now);
        }
    }
}

/// To where media goes, and control.
fn targets(way: &Way, address: SocketAddr, interface: Option<u32>, config: RistOutputConfig) -> [Target; 2] {
    let ttl = config.ttl.or(address.ip().is_multicast().then_some(GROUP_TTL));
    let mut control = address;
    if matches!(way, Way::Simple { .. }) {
        // The plan leaves room for it.
        control.set_port(address.port().saturating_add(1));
    }
    [address, control].map(|address| Target::new(address, ttl, config.tos, interface))
}

impl RistOutput {
    /// Whether it sends to the same places in the same way.
    fn is_gone_on_with_by(&self, state: &RistOutputState) -> bool {
        self.legs.iter().zip(&state.legs).all(|(leg, before)| match (leg, before) {
            (None, None) => true,
            (Some(leg), Some((id, address))) => {
                let has_tunnel = state.sender.leg_stats(*id).is_some_and(|leg| leg.tunnel.is_some());
                leg.address == *address && has_tunnel == matches!(leg.way, Way::Main { .. })
            }
            _ => false,
        })
    }

    fn resume(&mut self, state: RistOutputState, now: Instant) {
        let RistOutputState { sender, ssrc, legs, counted, .. } = state;
        (self.sender, self.ssrc, self.counted) = (sender, ssrc, counted);
        for (leg, before) in self.legs.iter_mut().zip(legs) {
            if let (Some(leg), Some((id, _))) = (leg, before) {
                leg.id = id;
            }
        }
        self.sender.renew_keys(now);
    }

    fn receive(&mut self, batch: &mut ReceiveBatch, budget: Duration, now: Instant) -> u64 {
        let (mut datagrams, mut stamps) = (0, Stamps::new());
        for leg in self.legs.iter_mut().flatten() {
            let port = leg.way.port_mut();
            for _ in 0..BATCHES {
                if !port.ready {
                    break;
                }
                port.read(batch, budget);
                for datagram in batch.datagrams() {
                    datagrams += 1;
                    // Of a group anybody may be a member; else it is the one who is sent to.
                    let group = leg.address.ip().is_multicast();
                    let is_theirs = group || datagram.source.ip() == leg.address.ip();
                    if !is_theirs || group && is_of(datagram.payload, self.ssrc) {
                        continue;
                    }
                    let arrival = stamps.moment(datagram.arrival, now);
                    self.sender.handle_datagram(now, arrival, leg.id, datagram.payload);
                }
            }
        }
        self.sender.handle_timeout(now);
        datagrams
    }

    fn transmit(&mut self, history: &History, send: &mut SendBatch, scratch: &mut Scratch, now: Instant) {
        let Scratch { media, control, controls } = scratch;
        media.clear();
        control.clear();
        controls.clear();
        loop {
            let start = control.len();
            let Some(leg) = self.sender.poll_control(now, control) else { break };
            controls.push((leg, start..control.len()));
        }
        while let Some(out) = self.sender.poll_media(now, history) {
            media.push(out);
        }
        if controls.is_empty() && media.is_empty() {
            return;
        }
        let Self { sender, legs, stats, figures, .. } = self;
        let send_errors = &mut figures.send_errors;
        let legs = &*legs;
        for number in 0..legs.len() {
            let Some(leg) = &legs[number] else { continue };
            let mut session = send.session();
            session.begin(TRAIN);
            for (_, range) in controls.iter().filter(|(of, _)| *of == leg.id) {
                let bytes = &control[range.clone()];
                session.push_with(bytes.len(), |place| place.copy_from_slice(bytes));
            }
            let trains = session.finish();
            if !trains.is_empty() {
                session.message(&leg.control, trains, CONTROL);
            }
            let port = leg.way.port().socket.sender();
            let from = match &leg.way {
                Way::Simple { media, .. } => {
                    session.flush(port, |report| account(legs, number, report, stats, send_errors, now));
                    media
                }
                Way::Main { .. } => port,
            };
            session.begin(TRAIN);
            media
                .iter()
                .filter(|out| out.legs.contains(leg.id))
                .for_each(|out| push(&mut session, sender, leg, out, history));
            let trains = session.finish();
            if !trains.is_empty() {
                session.message(&leg.media, trains, MEDIA);
            }
            session.flush(from, |report| account(legs, number, report, stats, send_errors, now));
        }
    }

    fn publish(&mut self, now: Instant) {
        let sent = self.sender.stats();
        let then = std::mem::replace(&mut self.counted, sent);
        let stats = &self.stats;
        if sent.packets > then.packets {
            stats.packets.add(sent.packets - then.packets);
            stats.bytes.add(sent.bytes - then.bytes);
        }
        stats.retransmitted.add(sent.retransmitted - then.retransmitted);
        stats.lost.add(sent.requested - then.requested);
        stats.arq_requests.add(sent.nacks - then.nacks);
        if self.published.is_some_and(|at| now.saturating_duration_since(at) < PUBLISH) {
            return;
        }
        self.published = Some(now);
        let figures = &mut self.figures;
        figures.stream = sent;
        figures.legs = [0, 1].map(|n: usize| self.sender.leg_stats(self.legs[n].as_ref()?.id));
        for (troubles, leg) in figures.tunnels.iter_mut().zip(&figures.legs) {
            troubles.update(leg.as_ref().and_then(|leg| leg.tunnel.as_ref()), now);
        }
        figures.gone.update(sent.gone, now);
        figures.over_budget.update(sent.over_budget, now);
        self.publishes.publish(*figures);
    }

    /// The stream is over.
    fn say_bye(&mut self, send: &mut SendBatch) {
        for leg in self.legs.iter().flatten() {
            let mut bye = Vec::new();
            if self.sender.write_bye(leg.id, &mut bye) {
                let mut session = send.session();
                session.begin(TRAIN);
                session.push(&[], &bye);
                let train = session.finish();
                session.message(&leg.control, train, CONTROL);
                // Who does not hear of it sees that nothing comes any more.
                session.flush(leg.way.port().socket.sender(), |_| {});
            }
        }
    }
}

/// What messages of a session are about.
const CONTROL: u32 = 0;
const MEDIA: u32 = 1;

/// Add a packet to the trains of a leg.
fn push<'p>(session: &mut Session<'_, 'p>, sender: &mut Sender, leg: &Leg, out: &MediaOut, history: &'p History) {
    let Some(payload) = history.payload(out.index) else { return };
    if out.is_plain() && matches!(leg.way, Way::Simple { .. }) {
        return session.push(out.head(), payload);
    }
    let len = sender.datagram_len(leg.id, out, payload);
    session.push_with(len, |place| {
        if !sender.write_datagram(leg.id, out, payload, place) {
            // A key is used up within a train once in a lifetime: what was in this memory before must not leave.
            place.fill(0);
        }
    });
}

/// A message was sent, or not.
fn account(
    legs: &[Option<Leg>],
    number: usize,
    report: Report,
    stats: &OutputStats,
    send_errors: &mut u64,
    now: Instant,
) {
    let there = || (0..legs.len()).filter(|leg| legs[*leg].is_some());
    let Some(leg) = &legs[number] else { return };
    match report {
        Report::Message { tag: MEDIA, outcome } => {
            let Outcome { sent, dropped, error, segmentation_refused, .. } = outcome;
            stats.legs[number].packets.add(sent.into());
            if sent > 0 {
                stats.last_sent.set(now);
            }
            if segmentation_refused {
                leg.media.refuse_segmentation();
            }
            if let Some(error) = error {
                stats.dropped.add(dropped.into());
                stats.legs[number].dropped.add(dropped.into());
                stats.note_fault(number, there(), error, dropped.into(), now);
            }
        }
        Report::Message { outcome, .. } => *send_errors += u64::from(outcome.dropped),
        Report::Unreachable { destination, error } if destination == leg.address => {
            stats.note_fault(number, there(), error, 1, now);
        }
        Report::Unreachable { .. } => {}
    }
}

/// Whether a packet of RTCP is of this sender: to a group, its own come back to it.
fn is_of(control: &[u8], ssrc: u32) -> bool {
    control.get(4..8) == Some(&ssrc.to_be_bytes())
}
