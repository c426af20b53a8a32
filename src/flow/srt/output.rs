//! The outputs of SRT of a flow, entitlements among them: one stream for all of them, and for each receiver a connection.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::link::State;
use super::stats::Phase;
use super::{Link, Part, SrtOutputConfig};
use crate::flow::cipher::Variant;
use crate::flow::egress::MediaPacket;
use crate::flow::history::Histories;
use crate::flow::stats::OutputStats;
use crate::io::batch::SendError;
use crate::proto::srt::send::History as _;
use crate::proto::srt::stats::SendCounters;
use crate::time::Instant;

/// A sender gives a packet up when it is as old as its receiver's latency, but not before a second; a little more.
const KEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(200));

/// All outputs of SRT of a flow.
#[derive(Default)]
pub(in crate::flow) struct SrtOutputs {
    outputs: Vec<SrtOutput>,
    /// While somebody is connected.
    histories: Histories,
    /// Those of the process before this one that nobody goes on with yet.
    left: Histories,
    /// Variants whose history goes on, and what they were then.
    adopted: BTreeMap<Variant, Variant>,
}

struct SrtOutput {
    part: Part,
    config: SrtOutputConfig,
    variant: Variant,
    members: Vec<Member>,
    stats: Arc<OutputStats>,
}

struct Member {
    link: Rc<Link>,
    /// It sends.
    sends: bool,
    /// What of its figures was counted.
    counted: SendCounters,
}

impl SrtOutputs {
    /// Add an output; its receivers come later.
    pub(in crate::flow) fn open(
        &mut self,
        part: Part,
        config: SrtOutputConfig,
        variant: Variant,
        stats: Arc<OutputStats>,
    ) {
        self.outputs.push(SrtOutput { part, config, variant, members: Vec::new(), stats });
    }

    /// Change what is on its datagrams.
    pub(in crate::flow) fn retune(&mut self, part: &Part, config: SrtOutputConfig) {
        let Some(output) = self.outputs.iter_mut().find(|output| output.part == *part) else { return };
        output.config = config;
        output.members.iter().for_each(|member| member.link.retarget((config.ttl, config.tos)));
    }

    /// Remove an output. Its connections, which are to be closed.
    pub(in crate::flow) fn close(&mut self, part: &Part) -> Vec<Rc<Link>> {
        let Some(at) = self.outputs.iter().position(|output| output.part == *part) else { return Vec::new() };
        self.outputs.remove(at).members.into_iter().map(|member| member.link).collect()
    }

    /// What is on the datagrams of an output; `None`: there is no such output.
    pub(in crate::flow) fn options(&self, part: &Part) -> Option<(Option<u8>, u8)> {
        let output = self.outputs.iter().find(|output| output.part == *part)?;
        Some((output.config.ttl, output.config.tos))
    }

    /// An output sends to this connection too.
    pub(in crate::flow) fn add(&mut self, part: &Part, link: Rc<Link>) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.part == *part) {
            link.variant.set(output.variant);
            let counted = link.sent();
            output.members.push(Member { link, sends: false, counted });
        }
    }

    /// What goes on in [`Self::resume`].
    pub(in crate::flow) fn suspend(&mut self) -> Histories {
        self.outputs.clear();
        std::mem::take(&mut self.histories)
    }

    /// Go on with what was sent: connections that do go on come next.
    pub(in crate::flow) fn resume(&mut self, histories: Histories) {
        self.left = histories;
    }

    /// All connections that go on have come.
    pub(in crate::flow) fn resumed(&mut self) {
        self.left = Histories::default();
        self.adopted.clear();
    }

    /// Whether a connection that was sent this variant can go on: what its output sends follows from that.
    pub(in crate::flow) fn adopt(&mut self, part: &Part, before: Variant) -> bool {
        let Some(output) = self.outputs.iter().find(|output| output.part == *part) else { return false };
        if let Some(adopted) = self.adopted.get(&output.variant) {
            return *adopted == before;
        }
        let Some(history) = self.left.take(before).filter(|_| self.histories.get(output.variant).is_none()) else {
            return false;
        };
        self.histories.resume(output.variant, history);
        self.adopted.insert(output.variant, before);
        true
    }

    /// Whether there is none.
    pub(in crate::flow) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Whether an output sends this variant.
    pub(in crate::flow) fn has(&self, variant: Variant) -> bool {
        self.outputs.iter().any(|output| output.variant == variant)
    }

    /// What was sent lately.
    pub(in crate::flow) const fn histories(&self) -> &Histories {
        &self.histories
    }

    /// Packets for every receiver of a variant; they leave when the links transmit.
    pub(in crate::flow) fn push(&mut self, variant: Variant, packets: &[MediaPacket<'_>], now: Instant) {
        self.histories.extend(variant, packets, now);
    }

    /// Let connections that came to be take part, and forget those that are over.
    pub(in crate::flow) fn settle(&mut self, now: Instant) {
        let Self { outputs, histories, .. } = self;
        let mut keep = BTreeMap::<Variant, Duration>::new();
        for (variant, member) in outputs.iter_mut().flat_map(|o| o.members.iter_mut().map(|member| (o.variant, member)))
        {
            let Some(facts) = member.link.stats.facts.get() else { continue };
            let time = keep.entry(variant).or_default();
            *time = (*time).max(facts.send_latency.max(KEEP.0) + KEEP.1);
            if !std::mem::replace(&mut member.sends, true) {
                member.link.begin_sending(histories.keep(variant, *time, now).end());
            }
        }
        keep.iter().for_each(|(variant, time)| _ = histories.keep(*variant, *time, now));
        histories.retain(|variant| keep.contains_key(&variant));
        for output in outputs {
            output.members.retain(|member| !member.link.is_over());
        }
    }

    /// Publish the figures.
    pub(in crate::flow) fn publish(&mut self, now: Instant) {
        for output in &mut self.outputs {
            let stats = &output.stats;
            for Member { link, counted, .. } in &mut output.members {
                let State::Connected(connection) = &*link.state.borrow() else { continue };
                let sent = *connection.sent();
                let then = std::mem::replace(counted, sent);
                if sent.packets > then.packets {
                    stats.packets.add(sent.packets - then.packets);
                    stats.bytes.add(sent.bytes - then.bytes);
                    stats.last_sent.set(now);
                }
                stats.retransmitted.add(sent.retransmitted - then.retransmitted);
                stats.dropped.add(sent.dropped - then.dropped);
                stats.lost.add(sent.lost - then.lost);
                stats.arq_requests.add(sent.naks - then.naks);
            }
            let connected = output.members.iter().filter(|member| member.link.stats.phase() == Phase::Connected);
            stats.connected.set(connected.count() as u64);
        }
    }

    /// The kernel did not take packets of a connection.
    pub(in crate::flow) fn fault(&self, link: &Link, dropped: u32, error: SendError, now: Instant) {
        let number = link.stats.number;
        let output = self.outputs.iter().find(|output| output.members.iter().any(|m| m.link.stats.number == number));
        if let Some(output) = output {
            output.stats.count_fault(error, dropped.into());
            output.stats.last_fault.set(now);
        }
    }
}
