//! One leg of a sender: what it has told and heard.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::super::clock::{Clock, MILLISECOND, SECOND, Tick, short, span};
use super::super::nack::Request;
use super::super::rtt::{self, Echo, Heard, Reports, Rtt};
use super::super::stats::SenderLegStats;
use super::super::tunnel::{Opened, Tunnel};
use super::super::{LegId, clock};
use super::{Sender, SenderProfile};
use crate::proto::rtp::rtcp::{
    Block, Compound, Packet, SenderReport, blocks, write_extended_report, write_receiver_report, write_sender_report,
    write_source_description,
};

/// Between two reports: at most 100 ms (TR-06-1, section 5.2), though the host looks only every few milliseconds.
const REPORT: i64 = 90 * MILLISECOND;
/// The first ones follow on each other: no receiver of librist takes media before it has one.
const FIRST: (u8, i64) = (3, 20 * MILLISECOND);
/// So long is asked for echoes that nobody answers.
const ECHOES: i64 = 5 * SECOND;
/// Echoes, and reports, that wait for an answer.
const MOST_ANSWERS: usize = 8;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) tunnel: Option<Tunnel>,
    since: Tick,
    report_due: Tick,
    reported: u8,
    pub(super) rtt: Rtt,
    reports: Reports,
    echoed: bool,
    echoes: VecDeque<Echo>,
    /// Reference times of receivers, with their SSRC, and when they came.
    references: VecDeque<(u32, u64, Tick)>,
    heard: Tick,
    pub(super) stats: SenderLegStats,
}

impl Leg {
    pub(super) fn new(profile: SenderProfile, now: Tick) -> Self {
        let tunnel = match profile {
            SenderProfile::Simple => None,
            SenderProfile::Main(config) => Some(Tunnel::new(*config)),
        };
        Self {
            tunnel,
            since: now,
            report_due: Tick::LONG_AGO,
            reported: 0,
            rtt: Rtt::default(),
            reports: Reports::default(),
            echoed: false,
            echoes: VecDeque::new(),
            references: VecDeque::new(),
            heard: Tick::LONG_AGO,
            stats: SenderLegStats::default(),
        }
    }

    /// Whether media may leave: not before a report has, and not without a key.
    pub(super) fn can_send(&self) -> bool {
        self.reported > 0 && self.tunnel.as_ref().is_none_or(Tunnel::can_send)
    }

    /// When there is something to send.
    pub(super) fn due(&self) -> Tick {
        if !self.echoes.is_empty() || !self.references.is_empty() {
            return Tick::LONG_AGO;
        }
        self.report_due.min(self.tunnel.as_ref().map_or(Tick::NEVER, Tunnel::due))
    }

    fn asks_echo(&self, now: Tick) -> bool {
        self.echoed || now.since(self.since) < ECHOES || now.since(self.heard) < ECHOES
    }

    pub(super) fn stats(&self, clock: &Clock) -> SenderLegStats {
        SenderLegStats {
            rtt: self.rtt.get().map(span),
            control_at: (self.heard > Tick::LONG_AGO).then(|| clock.instant(self.heard)),
            tunnel: self.tunnel.as_ref().map(|tunnel| tunnel.stats),
            ..self.stats
        }
    }
}

impl Sender {
    /// A datagram came on a leg.
    pub(super) fn take(&mut self, now: Tick, arrival: Tick, leg: LegId, datagram: &[u8], plain: &mut Vec<u8>) {
        let Some(there) = self.leg_mut(leg) else { return };
        let control = match there.tunnel.as_mut().map(|tunnel| tunnel.open(now, datagram, plain)) {
            None => datagram,
            Some(Opened::Control(start)) if plain.is_empty() => &datagram[start..],
            Some(Opened::Control(start)) => &plain[start..],
            Some(Opened::Media(_) | Opened::Nothing) => return,
        };
        there.stats.control += 1;
        let Ok(compound) = Compound::parse(control) else {
            there.stats.control_invalid += 1;
            return;
        };
        there.heard = there.heard.max(arrival);
        let (ssrc, clock) = (self.config.ssrc, self.clock);
        let mut upper = None;
        for packet in compound.packets() {
            if let Some(request) = Request::read(&packet, ssrc) {
                match request {
                    Request::Extension(bits) => upper = Some(bits),
                    _ => self.requested(now, leg, request, upper),
                }
                continue;
            }
            let Some(leg) = self.leg_mut(leg) else { return };
            match packet {
                // What else librist has in its reports is left over from before.
                Packet::ReceiverReport { block: Some(block), .. } => {
                    if let Some(rtt) = leg.reports.answered(block.last_report, block.delay, arrival) {
                        leg.rtt.other(rtt);
                    }
                }
                Packet::ExtendedReport { ssrc: from, blocks: rest } => {
                    for block in blocks(rest) {
                        if let Block::ReferenceTime(ntp) = block
                            && leg.references.len() < MOST_ANSWERS
                        {
                            leg.references.push_back((from, ntp, arrival));
                        }
                    }
                }
                _ => match rtt::hear(&packet, ssrc, &clock, arrival) {
                    Some(Heard::Asked(echo)) if leg.echoes.len() < MOST_ANSWERS => leg.echoes.push_back(echo),
                    Some(Heard::Answered(rtt)) => {
                        leg.rtt.echo(rtt);
                        leg.echoed = true;
                    }
                    _ => {}
                },
            }
        }
    }

    /// Append what a leg has to tell. Whether there is something.
    pub(super) fn transmit(&mut self, number: usize, now: Tick, out: &mut Vec<u8>) -> bool {
        let timestamp = self.media_time(now);
        let Some(leg) = self.legs[number].as_mut().filter(|leg| leg.due() <= now) else { return false };
        if let Some(tunnel) = leg.tunnel.as_mut().filter(|_| leg.reported > 0)
            && tunnel.poll_keep_alive(now, out)
        {
            return true;
        }
        let start = out.len();
        out.resize(start + leg.tunnel.as_ref().map_or(0, Tunnel::overhead), 0);
        let (ssrc, clock) = (self.config.ssrc, self.clock);
        let is_report = leg.report_due <= now;
        match timestamp.filter(|_| is_report) {
            Some(timestamp) => {
                let ntp = clock.ntp(now);
                leg.reports.sent(ntp, now);
                let low = |count: u64| (count & 0xFFFF_FFFF) as u32;
                let (packets, octets) = (low(self.stats.packets), low(self.stats.bytes));
                write_sender_report(&SenderReport { ssrc, ntp, timestamp, packets, octets }, out);
            }
            None => write_receiver_report(ssrc, None, out),
        }
        write_source_description(ssrc, &self.config.cname, out);
        if is_report {
            leg.reported = leg.reported.saturating_add(1);
            leg.report_due = now.add(if leg.reported < FIRST.0 { FIRST.1 } else { REPORT });
            if leg.asks_echo(now) {
                rtt::ask(ssrc, &clock, now, out);
            }
        }
        while let Some(echo) = leg.echoes.pop_front() {
            rtt::answer(&echo, now, out);
        }
        while let Some((receiver, ntp, came)) = leg.references.pop_front() {
            let delay = Block::Delay(receiver, clock::middle(ntp), short(now.since(came)));
            write_extended_report(ssrc, delay, out);
        }
        let sealed = leg.tunnel.as_mut().is_none_or(|tunnel| tunnel.seal_control(&mut out[start..]));
        if !sealed {
            out.truncate(start);
        }
        sealed
    }
}
