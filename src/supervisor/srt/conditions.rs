//! What is not as it should be of a source or output by SRT: one story each, however many things it shows in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::SrtOpen;
use super::call::{Ended, Home};
use super::door::{LastEnd, TurnedAway};
use super::view::{end_in_words, number};
use crate::config::plan::{SrtMode, SrtPlan};
use crate::config::value::FlowName;
use crate::flow::srt::stats::PeerStats;
use crate::flow::srt::{End, Part};
use crate::observe::condition::{CallTrouble, Condition, Refusal, Refused};
use crate::proto::srt::handshake::Reject;
use crate::proto::srt::terms::Failure;
use crate::time::Instant;

/// A refusal, or a packet that came too late, this long ago is over.
const RECENT: Duration = Duration::from_secs(60);
/// Where nobody is connected, those who were turned away are of interest for longer: some who try do so by hand.
const REFUSED: Duration = Duration::from_secs(600);
/// A connection that is silent for this long has nothing to send.
const SILENT: Duration = Duration::from_secs(2);
/// With fewer round trips than this, what is lost often does not come in time.
const ROUND_TRIPS: u32 = 4;

/// What a part has to do with media now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Media {
    /// An output has to send what comes.
    Sends,
    /// Nothing has come on a source yet.
    Awaited,
    /// It comes on a source.
    Comes,
    /// It came on a source, and stopped.
    Lost {
        /// For how long.
        silent_for: Duration,
        /// And before.
        bitrate_bps: u64,
    },
}

/// What is known of a source or output that is open.
struct Scene<'a> {
    flow: &'a FlowName,
    part: &'a Part,
    plan: &'a SrtPlan,
    media: Media,
    peers: Vec<Arc<PeerStats>>,
    /// Others are called at the same port.
    shared: bool,
    /// Newest first.
    refusals: Vec<TurnedAway>,
    last_end: Option<LastEnd>,
    /// Of one that calls: why the last attempt came to nothing, and how many did.
    call: Option<(Option<&'a Ended>, u64)>,
    /// Since it was opened.
    waited: Duration,
    now: Instant,
    wall: SystemTime,
}

/// What is not as it should be of a source or output that is open by SRT. `waited`: since it was opened.
pub(in crate::supervisor) fn conditions(
    Home { flow, part }: Home<'_>,
    open: &SrtOpen,
    plan: &SrtPlan,
    media: Media,
    (waited, now): (Duration, Instant),
    add: &mut dyn FnMut(Condition),
) {
    let scene = Scene {
        flow,
        part,
        plan,
        media,
        peers: open.connected(),
        shared: open.is_shared(),
        refusals: open.roster.refusals(),
        last_end: open.roster.last_end(),
        call: open.call().map(|call| (call.last.as_ref().map(|(ended, _)| ended), call.failures)),
        waited,
        now,
        wall: SystemTime::now(),
    };
    scene.tell(add);
}

impl Scene<'_> {
    fn tell(&self, add: &mut dyn FnMut(Condition)) {
        let absence = self.absence();
        // The same refusals are not told twice.
        let told = matches!(absence, Some(Condition::SrtCallersRefused { .. }));
        let refused = self.refused(RECENT).filter(|_| !told);
        match (self.media, absence) {
            (Media::Lost { silent_for, bitrate_bps }, of) => add(match of {
                Some(of) => {
                    Condition::SrtLost { source: self.part.to_string(), silent_for, bitrate_bps, of: of.into() }
                }
                None => Condition::SourceLost { source: self.part.to_string(), silent_for, bitrate_bps },
            }),
            // What is in the buffer still comes.
            (Media::Comes, _) | (_, None) => {}
            // Who is turned away is not nobody.
            (Media::Sends, Some(Condition::SrtNobody { .. })) if refused.is_some() => {}
            (_, Some(absence)) => add(absence),
        }
        if let Some(refused) = refused {
            add(Condition::SrtRefused { part: self.name(), refused });
        }
        self.undecrypted().into_iter().for_each(&mut *add);
        self.too_late().into_iter().for_each(add);
    }

    /// As conditions begin.
    fn name(&self) -> String {
        match self.part {
            Part::Source(name) => format!("source {name}"),
            Part::Output(name) => format!("output {name}"),
            Part::Entitlement(name) => format!("entitlement {name}"),
        }
    }

    const fn is_output(&self) -> bool {
        matches!(self.part, Part::Output(_))
    }

    /// Why nothing comes, or nothing can be sent.
    fn absence(&self) -> Option<Condition> {
        let (part, output) = (self.name(), self.is_output());
        if let Some(peer) = self.peers.first() {
            let silent_for = self.now.saturating_duration_since(peer.silent_since());
            let patience = if matches!(self.media, Media::Lost { .. }) { Duration::from_secs(1) } else { SILENT };
            let peer = peer.address.to_string();
            return (!output && silent_for >= patience).then_some(Condition::SrtNoData { part, peer, silent_for });
        }
        if let Some((last, tries)) = self.call {
            // The first attempt deserves its time.
            let (why, trouble) = trouble(last?, self.plan);
            let end = self.last_end.as_ref().filter(|_| trouble == CallTrouble::Ended);
            let why = end.map_or(why, |end| format!("the connection ended: {}", end.why));
            let remote = self.plan.mode.place();
            return Some(Condition::SrtNotConnected { part, output, remote, why, trouble, tries });
        }
        if let Some(refused) = self.refused(REFUSED).filter(|_| !output) {
            return Some(Condition::SrtCallersRefused { part, refused });
        }
        let alone = self.last_end.as_ref().map_or(self.waited, |end| self.now.saturating_duration_since(end.at));
        let called = self.refusals.first().map(|refused| self.ago(refused));
        let last = self.last_end.as_ref().filter(|_| !output);
        Some(Condition::SrtNobody {
            part,
            output,
            bind: self.plan.mode.place(),
            silent_for: if output { alone } else { alone.min(called.unwrap_or(alone)) },
            last: last.map(|end| (end.peer.to_string(), end.why.clone())),
        })
    }

    fn ago(&self, refused: &TurnedAway) -> Duration {
        self.wall.duration_since(refused.last).unwrap_or_default()
    }

    /// The last one who was turned away within this time.
    fn refused(&self, within: Duration) -> Option<Refused> {
        // Of what was before the last connection ended, nothing is left.
        let since = self.last_end.as_ref().filter(|_| self.peers.is_empty());
        let since = since.map_or(within, |end| within.min(self.now.saturating_duration_since(end.at)));
        let mut recent = self.refusals.iter().filter(|refused| self.ago(refused) < since && !self.is_moot(refused));
        let TurnedAway { address, why, stream_id, count, .. } = recent.next()?.clone();
        let publisher = self.peers.first().filter(|_| !self.is_output()).map(|peer| peer.number);
        Some(Refused {
            flow: self.flow.clone(),
            address: address.to_string(),
            why,
            stream_id,
            times: count,
            others: recent.next().is_some(),
            publisher,
        })
    }

    /// Since then that caller has been let in; or, where there is room for one, somebody has. And where somebody is
    /// connected, who calls for what is not there may have meant another one.
    fn is_moot(&self, refused: &TurnedAway) -> bool {
        let is_anybodys = matches!(refused.why, Refusal::StreamId | Refusal::Protocol(_));
        if is_anybodys && !self.peers.is_empty() && (self.shared || !self.is_output()) {
            return true;
        }
        self.peers.iter().any(|peer| {
            let since = peer.facts.get().map(|facts| facts.since);
            let is_meant = !self.is_output() || peer.address.ip() == refused.address;
            is_meant && since.is_some_and(|since| since >= refused.last)
        })
    }

    fn undecrypted(&self) -> Option<Condition> {
        let mut recent = self.peers.iter().map(|peer| (peer, peer.figures())).filter(|_| !self.is_output());
        let (peer, (figures, _)) = recent.find(|(_, (_, lately))| self.is_recent(lately.undecrypted))?;
        Some(Condition::SrtUndecrypted {
            flow: self.flow.clone(),
            part: self.name(),
            peer: peer.address.to_string(),
            number: peer.number,
            packets: figures.received.undecrypted,
        })
    }

    fn is_recent(&self, at: Option<Instant>) -> bool {
        at.is_some_and(|at| self.now.saturating_duration_since(at) < RECENT)
    }

    /// Of peers to or from which packets came too late: the worst of those whose latency is too short, and of those
    /// whose is not.
    fn too_late(&self) -> Vec<Condition> {
        let output = self.is_output();
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for peer in &self.peers {
            let (figures, lately) = peer.figures();
            let Some(facts) = peer.facts.get().filter(|_| self.is_recent(lately.dropped)) else { continue };
            if !figures.rtt_measured {
                continue;
            }
            let (latency, dropped) = if output {
                (facts.send_latency, figures.sent.dropped)
            } else {
                (facts.receive_latency, figures.received.dropped)
            };
            let is_short = latency < figures.rtt * ROUND_TRIPS;
            if is_short { &mut short } else { &mut long }.push(Late {
                peer: peer.address,
                latency,
                rtt: figures.rtt,
                dropped,
            });
        }
        let part = || self.name();
        let short = worst(&short).map(|(Late { peer, latency, rtt, dropped }, others)| Condition::SrtLatencyLow {
            part: part(),
            peer: peer.to_string(),
            latency,
            rtt,
            dropped,
            others,
        });
        let long = worst(&long).map(|(Late { peer, latency, rtt, dropped }, others)| Condition::SrtDropped {
            part: part(),
            peer: peer.to_string(),
            latency,
            rtt,
            dropped,
            others,
        });
        short.into_iter().chain(long).collect()
    }
}

/// A peer to or from which packets came too late.
#[derive(Debug, Clone, Copy)]
struct Late {
    peer: SocketAddr,
    latency: Duration,
    rtt: Duration,
    dropped: u64,
}

/// The one that lost most, and how many others there are.
fn worst(late: &[Late]) -> Option<(Late, usize)> {
    Some((*late.iter().max_by_key(|late| late.dropped)?, late.len() - 1))
}

/// Why a call came to nothing, in words, and by what to do about it.
fn trouble(ended: &Ended, plan: &SrtPlan) -> (String, CallTrouble) {
    let end = match ended {
        Ended::Name(error) => return (format!("its name can't be looked up: {error}"), CallTrouble::Name),
        Ended::Link(end) => end,
    };
    let rendezvous = matches!(plan.mode, SrtMode::Rendezvous { .. });
    let trouble = match end {
        End::Handshake(Failure::NoAnswer) if rendezvous => CallTrouble::NoRendezvous,
        End::Handshake(Failure::NoAnswer) => CallTrouble::NoAnswer,
        End::Handshake(Failure::NotConcluded) => CallTrouble::Unfinished,
        End::Handshake(Failure::BrokenOff) => CallTrouble::WrongPassphrase,
        End::Handshake(Failure::Rejected(Reject::Unsecure) | Failure::Refused(Reject::Unsecure)) => {
            let (words, trouble) = if plan.passphrases().is_empty() {
                ("the other end has a passphrase, and none is set here", CallTrouble::NoPassphrase)
            } else {
                ("a passphrase is set here, and the other end has none", CallTrouble::PassphraseUnexpected)
            };
            return (format!("{words} ({})", number(Reject::Unsecure)), trouble);
        }
        End::Handshake(Failure::Rejected(reject)) if plan.mode.entitled().is_some() => match *reject {
            Reject::BadSecret => CallTrouble::WrongPassphrase,
            Reject::UNAUTHORIZED => CallTrouble::UnknownSubscriber,
            Reject::OVERLOAD => CallTrouble::Sessions,
            Reject::FORBIDDEN => CallTrouble::NotEntitled,
            Reject::NOT_FOUND => CallTrouble::UnknownEntitlement,
            Reject::BAD_REQUEST => CallTrouble::NoEntitlements,
            _ => CallTrouble::Refused,
        },
        End::Handshake(Failure::Rejected(reject) | Failure::Refused(reject)) => match *reject {
            Reject::BadSecret => CallTrouble::WrongPassphrase,
            Reject::Version
            | Reject::Rogue
            | Reject::MessageApi
            | Reject::Congestion
            | Reject::Filter
            | Reject::Group
            | Reject::Crypto => CallTrouble::Protocol,
            Reject::NOT_FOUND | Reject::BAD_REQUEST => CallTrouble::StreamId,
            Reject::FORBIDDEN | Reject::UNAUTHORIZED => CallTrouble::Forbidden,
            Reject::OVERLOAD | Reject::CONFLICT | Reject::Backlog => CallTrouble::Busy,
            _ => CallTrouble::Refused,
        },
        End::PeerClosed | End::Silent | End::KeyExhausted | End::Closed => CallTrouble::Ended,
    };
    (end_in_words(end), trouble)
}

#[cfg(test)]
mod tests;
