//! One leg of a receiver: whom it hears, how far away that is, and what it is to be told.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::super::clock::{Clock, MILLISECOND, SECOND, Tick, span};
use super::super::rtt::{Echo, Reports, Rtt};
use super::super::stats::ReceiverLegStats;
use super::super::tunnel::Tunnel;
use super::super::{Profile, RemoteId};
use super::control::Reported;

/// A leg can be asked as long as something came on it within this time.
const ALIVE: i64 = SECOND;
/// Nothing is sent any more to one that has been silent for so long.
const SILENT: i64 = 10 * SECOND;
/// Between two reports: at most 100 ms (TR-06-1, section 5.2), though the host looks only every few milliseconds.
pub(super) const REPORT: i64 = 90 * MILLISECOND;
/// So long is asked for echoes that nobody answers.
const ECHOES: i64 = 5 * SECOND;
/// Echoes that wait for an answer.
const MOST_ECHOES: usize = 8;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leg {
    pub(super) tunnel: Option<Tunnel>,
    /// Where feedback goes, whatever RTCP comes from: a group.
    fixed: Option<RemoteId>,
    /// Where RTCP last came from.
    heard_from: Option<RemoteId>,
    /// When, and since when.
    pub(super) heard: Tick,
    since: Tick,
    media: Tick,
    pub(super) report_due: Tick,
    /// The last sender report: the middle of its time, and when it came.
    pub(super) last_report: Option<(u32, Tick)>,
    pub(super) rtt: Rtt,
    pub(super) reports: Reports,
    echoed: bool,
    pub(super) echoes: VecDeque<Echo>,
    /// Places that are to be asked for, from the first that is not yet.
    pub(super) asks: Vec<u64>,
    pub(super) asked: usize,
    pub(super) reported: Reported,
    pub(super) stats: ReceiverLegStats,
}

impl Leg {
    pub(super) fn new(profile: Profile) -> Self {
        let (tunnel, fixed) = match profile {
            Profile::Simple { feedback } => (None, feedback),
            Profile::Main(config) => (Some(Tunnel::new(*config)), None),
        };
        Self {
            tunnel,
            fixed,
            heard_from: None,
            heard: Tick::LONG_AGO,
            since: Tick::LONG_AGO,
            media: Tick::LONG_AGO,
            report_due: Tick::NEVER,
            last_report: None,
            rtt: Rtt::default(),
            reports: Reports::default(),
            echoed: false,
            echoes: VecDeque::new(),
            asks: Vec::new(),
            asked: 0,
            reported: Reported::default(),
            stats: ReceiverLegStats::default(),
        }
    }

    /// Where feedback goes.
    pub(super) fn remote(&self) -> Option<RemoteId> {
        self.heard_from.map(|remote| self.fixed.unwrap_or(remote))
    }

    /// Whether it can be asked for something.
    pub(super) fn is_alive(&self, now: Tick) -> bool {
        let last = self.heard.max(self.media);
        self.remote().is_some() && now.since(last) <= ALIVE && now.since(self.heard) <= SILENT
    }

    /// RTCP of the stream's sender came: who comes anew is answered at once.
    pub(super) fn hear(&mut self, remote: RemoteId, arrival: Tick) {
        if self.heard_from != Some(remote) || arrival.since(self.heard) > ALIVE {
            self.since = arrival;
            self.report_due = Tick::LONG_AGO;
        }
        self.heard_from = Some(remote);
        self.heard = self.heard.max(arrival);
    }

    /// An echo came that is to be answered.
    pub(super) fn owe(&mut self, echo: Echo) {
        if self.echoes.len() < MOST_ECHOES {
            self.echoes.push_back(echo);
        }
    }

    /// An echo of ours was answered.
    pub(super) fn echo(&mut self, ns: i64) {
        self.rtt.echo(ns);
        self.echoed = true;
    }

    /// Whether the sender answers echoes.
    pub(super) const fn is_echoed(&self) -> bool {
        self.echoed
    }

    /// Whether to ask for an echo.
    pub(super) fn asks_echo(&self, now: Tick) -> bool {
        self.echoed || now.since(self.since) < ECHOES
    }

    /// Whether to ask by extended reports: until echoes are answered.
    pub(super) fn asks_report(&self, now: Tick) -> bool {
        !self.echoed && now.since(self.since) < ECHOES
    }

    /// A packet of media came.
    pub(super) fn count_media(&mut self, arrival: Tick, bytes: usize) {
        self.media = self.media.max(arrival);
        self.stats.received += 1;
        self.stats.bytes += bytes as u64;
    }

    /// A report leaves; the next one.
    pub(super) fn reported(&mut self, now: Tick) {
        let silent = now.since(self.heard) > SILENT;
        self.report_due = if silent { Tick::NEVER } else { now.add(REPORT) };
    }

    /// When there is something to send.
    pub(super) fn due(&self, nack_due: Tick) -> Tick {
        if self.remote().is_none() {
            return Tick::NEVER;
        }
        if !self.echoes.is_empty() {
            return Tick::LONG_AGO;
        }
        let asks = if self.asked < self.asks.len() { nack_due } else { Tick::NEVER };
        let keep_alive = match &self.tunnel {
            Some(tunnel) if self.report_due != Tick::NEVER => tunnel.due(),
            _ => Tick::NEVER,
        };
        self.report_due.min(asks).min(keep_alive)
    }

    pub(super) fn stats(&self, clock: &Clock) -> ReceiverLegStats {
        let at = |tick: Tick| (tick > Tick::LONG_AGO).then(|| clock.instant(tick));
        ReceiverLegStats {
            rtt: self.rtt.get().map(span),
            control_at: at(self.heard),
            media_at: at(self.media),
            tunnel: self.tunnel.as_ref().map(|tunnel| tunnel.stats),
            ..self.stats
        }
    }
}
