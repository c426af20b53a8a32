//! RTCP of a receiver: what is heard, and what is told.

use super::super::clock::{Tick, middle, short};
use super::super::rtt::{self, Heard};
use super::super::tunnel::Tunnel;
use super::super::{RemoteId, nack};
use super::{From, NACK_PAUSE, Receiver};
use crate::proto::rtp::rtcp::{
    Block, Compound, Packet, ReportBlock, blocks, write_extended_report, write_receiver_report,
    write_source_description,
};
use serde::{Deserialize, Serialize};

/// What was reported last, for the fraction that was lost since.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Reported {
    expected: u64,
    lost: u64,
}

impl Receiver {
    /// Take a packet of RTCP.
    pub(super) fn handle_control(&mut self, now: Tick, at: Tick, from: From, datagram: &[u8]) {
        let (ssrc, clock) = (self.config.ssrc, self.clock);
        let stream = self.stream.as_ref().filter(|stream| !stream.is_silent(now)).map(|stream| stream.ssrc);
        let Some(leg) = self.leg_mut(from.leg) else { return };
        leg.stats.control += 1;
        let compound = Compound::parse(datagram).ok().filter(|compound| {
            let mut sources = compound.packets().filter_map(|packet| match packet {
                Packet::SenderReport(report) => Some(report.ssrc),
                Packet::ReceiverReport { ssrc, .. } | Packet::SourceDescription { ssrc, .. } => Some(ssrc),
                _ => None,
            });
            sources.next().is_some_and(|source| stream.is_none_or(|stream| stream | 1 == source | 1))
        });
        let Some(compound) = compound else {
            leg.stats.control_invalid += 1;
            return;
        };
        leg.hear(from.remote, at);
        for packet in compound.packets() {
            match packet {
                Packet::SenderReport(report) => leg.last_report = Some((middle(report.ntp), at)),
                Packet::ExtendedReport { blocks: rest, .. } => {
                    for block in blocks(rest) {
                        let Block::Delay(receiver, last, delay) = block else { continue };
                        if receiver == ssrc
                            && let Some(rtt) = leg.reports.answered(last, delay, at)
                        {
                            leg.rtt.other(rtt);
                        }
                    }
                }
                _ => match rtt::hear(&packet, ssrc, &clock, at) {
                    Some(Heard::Asked(echo)) => leg.owe(echo),
                    Some(Heard::Answered(rtt)) => leg.echo(rtt),
                    None => {}
                },
            }
        }
    }

    /// Append what a leg has to send. Where it goes.
    pub(super) fn transmit(&mut self, number: usize, now: Tick, out: &mut Vec<u8>) -> Option<RemoteId> {
        let leg = self.legs[number].as_mut()?;
        let remote = leg.remote().filter(|_| leg.due(self.nack_due) <= now)?;
        if let Some(tunnel) = leg.tunnel.as_mut().filter(|_| leg.report_due != Tick::NEVER)
            && tunnel.poll_keep_alive(now, out)
        {
            return Some(remote);
        }
        let start = out.len();
        out.resize(start + leg.tunnel.as_ref().map_or(0, Tunnel::overhead), 0);
        let inner = out.len();
        if leg.report_due <= now {
            self.report(number, now, out);
        } else if leg.echoes.is_empty() {
            self.request(number, now, out);
        } else {
            write_receiver_report(self.config.ssrc, None, out);
            write_source_description(self.config.ssrc, &self.config.cname, out);
        }
        let leg = self.legs[number].as_mut()?;
        if out.len() == inner {
            out.truncate(start);
            return None;
        }
        while let Some(echo) = leg.echoes.pop_front() {
            rtt::answer(&echo, now, out);
        }
        if let Some(tunnel) = &mut leg.tunnel
            && !tunnel.seal_control(&mut out[start..])
        {
            out.truncate(start);
            return None;
        }
        Some(remote)
    }

    /// A report.
    fn report(&mut self, number: usize, now: Tick, out: &mut Vec<u8>) {
        let block = self.block(number, now);
        let (ssrc, clock) = (self.config.ssrc, self.clock);
        let Some(leg) = self.legs[number].as_mut() else { return };
        write_receiver_report(ssrc, block.as_ref(), out);
        write_source_description(ssrc, &self.config.cname, out);
        if leg.asks_report(now) {
            let ntp = clock.ntp(now);
            leg.reports.sent(ntp, now);
            write_extended_report(ssrc, Block::ReferenceTime(ntp), out);
        }
        if leg.asks_echo(now) {
            rtt::ask(ssrc, &clock, now, out);
        }
        leg.reported(now);
    }

    /// What there is to say about the stream; before its first packet there is nothing.
    fn block(&mut self, number: usize, now: Tick) -> Option<ReportBlock> {
        let stream = self.stream.as_ref()?;
        let leg = self.legs[number].as_mut()?;
        let (lost, expected) = (self.stats.recovered + self.stats.unrecovered, stream.newest());
        let before = std::mem::replace(&mut leg.reported, Reported { expected, lost });
        let share = (lost - before.lost) * 256 / (expected.saturating_sub(before.expected)).max(1);
        let (last_report, came) = leg.last_report.unwrap_or((0, now));
        Some(ReportBlock {
            ssrc: stream.ssrc,
            fraction: u8::try_from(share).unwrap_or(u8::MAX),
            lost: i32::try_from(lost).unwrap_or(i32::MAX),
            highest: stream.highest(),
            jitter: self.jitter.1 >> 4,
            last_report,
            delay: short(now.since(came)),
        })
    }

    /// A request for what is to be asked for on this leg; at most one each millisecond.
    fn request(&mut self, number: usize, now: Tick, out: &mut Vec<u8>) {
        let Some(leg) = self.legs[number].as_mut() else { return };
        let Some(stream) = self.stream.as_ref().filter(|_| self.nack_due <= now) else { return };
        let waiting = leg.asks[leg.asked..].iter();
        // More does not go into one request.
        let mut lost: Vec<u32> = waiting.take(MOST_ASKED).filter_map(|place| stream.number(*place)).collect();
        lost.dedup();
        if lost.is_empty() {
            leg.asks.clear();
            leg.asked = 0;
            return;
        }
        write_receiver_report(self.config.ssrc, None, out);
        write_source_description(self.config.ssrc, &self.config.cname, out);
        let parties = nack::Parties { receiver: self.config.ssrc, media: stream.ssrc };
        let taken = nack::write(parties, &lost, stream.extended, out);
        self.stats.nacks += 1;
        leg.asked += taken.max(1);
        if leg.asked >= leg.asks.len() {
            leg.asks.clear();
            leg.asked = 0;
        }
        // Those of a wake may follow on each other as if it had come in time.
        let pace = self.nack_due.max(now.add(-NACK_BURST * NACK_PAUSE));
        self.nack_due = pace.add(NACK_PAUSE);
    }
}

/// Packets of requests that may leave at once after a pause.
const NACK_BURST: i64 = 5;
/// Places that are looked at for one request.
const MOST_ASKED: usize = 4096;
