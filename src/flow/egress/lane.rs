//! Outputs that packets leave for at the same times.

use crate::time::Instant;
use std::time::Duration;

use crate::config::value::Bitrate;
use crate::flow::cipher::Variant;
use crate::flow::pace::{PaceCounters, Pacer, SourceClock};
use crate::flow::repacket::Repacketiser;
use crate::io::batch::{Report, SendBatch, TrainLimit, Trains};
use crate::io::open::Sender;
use crate::proto::fec2022_1::header::FecStream;

use super::output::{Framing, Kind, Output};
use super::{MediaPacket, SenderKey};

/// Most datagrams to one destination at a time where nothing paces them: no more than a shallow switch buffer holds.
const TRAIN: usize = 16;
/// As many packets at once, or more, fill what is read at a time: more wait, and whatever trains they leave in follow
/// on each other.
const BURST: usize = crate::flow::BATCH;
/// What smoothing has room for, within the bound of a pacer's memory.
const FASTEST: Bitrate = Bitrate::from_bps(10_000_000_000);

/// Outputs with the same `smoothing` and `encryption`, and what is done once for all of them.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) smoothing: Option<Duration>,
    pub(super) variant: Variant,
    pub(super) outputs: Vec<Output>,
    /// Without smoothing it is there only until the last packet has left that waited when smoothing ended.
    pacer: Option<Box<Pacer>>,
    /// What of the pacer's figures is counted.
    counted: PaceCounters,
    /// One for each `datagram-packets` in use: regathering the same stream gives all its outputs the same datagrams.
    repacketisers: Vec<Repacketiser>,
}

impl Lane {
    /// A lane without outputs.
    pub(super) fn new(smoothing: Option<Duration>, variant: Variant, now: Instant) -> Self {
        let pacer = smoothing.map(|smoothing| Box::new(Pacer::new(smoothing, FASTEST, now)));
        Self { smoothing, variant, pacer, ..Self::default() }
    }

    /// One with another smoothing, and with all that waits here waiting there too.
    pub(super) fn fork(&self, smoothing: Option<Duration>, now: Instant) -> Self {
        let mut fork = Self::new(smoothing, self.variant, now);
        if let Some(mut pacer) = self.pacer.clone() {
            pacer.set_smoothing(smoothing.unwrap_or_default(), FASTEST);
            fork.pacer = Some(pacer);
            fork.counted = self.counted;
        }
        fork.repacketisers.clone_from(&self.repacketisers);
        fork
    }

    /// Add an output.
    pub(super) fn add(&mut self, output: Output) {
        self.outputs.push(output);
        self.fit();
    }

    /// Take an output out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Output> {
        let at = self.outputs.iter().position(|o| o.name == name)?;
        let output = self.outputs.remove(at);
        self.fit();
        Some(output)
    }

    /// Just the repacketisers that the outputs need.
    fn fit(&mut self) {
        let Self { outputs, repacketisers, .. } = self;
        let used = |packets| outputs.iter().any(|o| matches!(o.framing, Framing::Repacketised(n) if n == packets));
        repacketisers.retain(|r| used(r.packets()));
        for packets in (1..=7).filter(|packets| used(*packets)) {
            if repacketisers.iter().all(|r| r.packets() != packets) {
                repacketisers.push(Repacketiser::new(packets));
            }
        }
    }

    /// When something that waits must be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        let waits = self.repacketisers.iter().filter_map(Repacketiser::due);
        waits.chain(self.pacer.as_ref().and_then(|pacer| pacer.poll_timeout())).min()
    }

    /// Send all that waits, now.
    pub(super) fn flush(&mut self, exit: &mut Exit<'_>) {
        self.smoothing = None;
        if let Some(pacer) = &mut self.pacer {
            pacer.set_smoothing(Duration::ZERO, FASTEST);
        }
        self.repacketisers.iter_mut().for_each(|repacketiser| repacketiser.hurry(exit.now));
        self.deliver(&[], exit);
    }

    /// Take packets in, and send what may leave.
    pub(super) fn deliver(&mut self, packets: &[MediaPacket<'_>], exit: &mut Exit<'_>) {
        let Self { smoothing, outputs, pacer, counted, repacketisers, .. } = self;
        if smoothing.is_none()
            && let Some(mut last) = pacer.take()
        {
            let_go(&mut last, counted, repacketisers, outputs, exit);
        }
        let Some(pacer) = pacer else {
            return exit.send(packets.iter().copied(), repacketisers, outputs);
        };
        for packet in packets {
            // Not a timestamp made of the time of arrival: that would be taken for the source's own clock.
            let clock = if packet.is_rtp() { SourceClock::Rtp(packet.timestamp) } else { SourceClock::Stream };
            // The time of delivery, not of arrival: what a merge or FEC has held back on purpose is not late.
            if pacer.push(packet, clock, exit.now).is_err() {
                let_go(pacer, counted, repacketisers, outputs, exit);
                // Now that it is empty there is room.
                let _ = pacer.push(packet, clock, exit.now);
            }
        }
        let_go(pacer, counted, repacketisers, outputs, exit);
    }
}

/// Send what is due in a pacer.
fn let_go(
    pacer: &mut Pacer,
    counted: &mut PaceCounters,
    repacketisers: &mut [Repacketiser],
    outputs: &mut [Output],
    exit: &mut Exit<'_>,
) {
    pacer.release(exit.now);
    exit.send(pacer.released(), repacketisers, outputs);
    pacer.sent();
    let now = *pacer.counters();
    let then = std::mem::replace(counted, now);
    if (now.late, now.early, now.overflow) != (then.late, then.early, then.overflow) {
        for output in outputs {
            output.stats.smoothing.late.add(now.late - then.late);
            output.stats.smoothing.early.add(now.early - then.early);
            output.stats.smoothing.overflow.add(now.overflow - then.overflow);
        }
    }
}

/// The way out.
pub(super) struct Exit<'e> {
    pub(super) senders: &'e [(SenderKey, Sender)],
    pub(super) batch: &'e mut SendBatch,
    pub(super) now: Instant,
}

impl Exit<'_> {
    /// Send packets to every one of these outputs, and what waits in `repacketisers` and is due.
    fn send<'p>(
        &mut self,
        packets: impl Iterator<Item = MediaPacket<'p>> + Clone,
        repacketisers: &mut [Repacketiser],
        outputs: &mut [Output],
    ) {
        let Self { senders, batch, now } = self;
        let now = *now;
        let count = packets.clone().count();
        if count == 0 && repacketisers.iter().all(|r| r.due().is_none_or(|due| due > now)) {
            return;
        }
        for repacketiser in &mut *repacketisers {
            packets.clone().for_each(|packet| repacketiser.push(packet.payload, now));
        }
        outputs.iter_mut().for_each(|output| output.protect(packets.clone()));
        let limit = train_limit(count);
        for (key, sender) in *senders {
            send_from(*key, sender, packets.clone(), limit, repacketisers, outputs, (batch, now));
        }
        outputs.iter_mut().for_each(|output| output.advance(count, now));
        repacketisers.iter_mut().for_each(|repacketiser| repacketiser.sent(now));
    }
}

/// For so many packets at once. A train of its own for a short remainder would leave right behind the one before it: it
/// costs a message and spares no buffer.
fn train_limit(packets: usize) -> TrainLimit {
    match packets {
        BURST.. => TrainLimit::MAX,
        _ if packets <= TRAIN + TRAIN / 2 => TrainLimit::new(TRAIN + TRAIN / 2),
        _ => TrainLimit::new(TRAIN),
    }
}

/// Send packets to the legs of one socket.
fn send_from<'p>(
    key: SenderKey,
    sender: &Sender,
    packets: impl Iterator<Item = MediaPacket<'p>> + Clone,
    limit: TrainLimit,
    repacketisers: &[Repacketiser],
    outputs: &[Output],
    (batch, now): (&mut SendBatch, Instant),
) {
    let mut session = batch.session();
    let mut as_received = None;
    let mut passthrough = None;
    let mut repacketised: [Option<Trains>; 8] = [None; 8];
    for (index, output) in (0u32..).zip(outputs) {
        let legs = || output.legs.iter().zip(0u32..).filter(|(leg, _)| leg.sender == key);
        if legs().next().is_none() {
            continue;
        }
        let trains = match &output.framing {
            Framing::AsReceived => *as_received.get_or_insert_with(|| {
                session.begin(limit);
                packets.clone().for_each(|p| session.push(&[], p.payload));
                session.finish()
            }),
            Framing::Passthrough => *passthrough.get_or_insert_with(|| {
                session.begin(limit);
                packets.clone().for_each(|p| session.push(&[], p.datagram));
                session.finish()
            }),
            Framing::Repacketised(n) => *repacketised[usize::from(*n)].get_or_insert_with(|| {
                session.begin(limit);
                let gathered = repacketisers.iter().filter(|r| r.packets() == *n);
                gathered.flat_map(|r| r.ready(now)).for_each(|d| session.push(&[], d));
                session.finish()
            }),
            Framing::Rtp(stream) => {
                session.begin(limit);
                packets.clone().enumerate().for_each(|(n, p)| session.push(&stream.header(n, &p), p.payload));
                session.finish()
            }
        };
        legs().for_each(|(leg, at)| session.message(&leg.media, trains, tag(index, at, Kind::Media)));
        let Some(fec) = &output.fec else { continue };
        for stream in FecStream::ALL {
            session.begin(limit);
            fec.ready(stream).for_each(|packet| session.push(&[], packet));
            let trains = session.finish();
            if trains.is_empty() {
                continue;
            }
            for (leg, at) in legs() {
                let target = leg.fec.as_deref().map(|targets| &targets[stream as usize]);
                target.into_iter().for_each(|target| session.message(target, trains, tag(index, at, Kind::Fec)));
            }
        }
    }
    session.flush(sender, |report| account(outputs, report, now));
}

/// The output, which of its legs, and what it was about.
fn tag(output: u32, leg: u32, kind: Kind) -> u32 {
    output << 2 | leg << 1 | u32::from(kind == Kind::Fec)
}

fn account(outputs: &[Output], report: Report, now: Instant) {
    match report {
        Report::Message { tag, outcome } => {
            let Some(output) = outputs.get((tag >> 2) as usize) else { return };
            let Some(leg) = output.legs.get((tag >> 1 & 1) as usize) else { return };
            let kind = if tag & 1 == 1 { Kind::Fec } else { Kind::Media };
            output.account(leg, kind, outcome, now);
            if outcome.segmentation_refused {
                leg.media.refuse_segmentation();
                leg.fec.iter().flat_map(|targets| &**targets).for_each(|target| target.refuse_segmentation());
            }
        }
        // Not of FEC: a receiver of the media may well do without.
        Report::Unreachable { destination, error } => {
            for output in outputs {
                for leg in output.legs.iter().filter(|leg| leg.media.address() == destination) {
                    output.fault(leg, error, 1, now);
                }
            }
        }
    }
}
