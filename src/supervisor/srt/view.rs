//! What is told of connections: documents, conditions, words.

use std::time::Duration;

use super::SrtOpen;
use super::call::Ended;
use super::door::TurnedAway;
use crate::config::plan::SrtPlan;
use crate::flow::srt::stats::{ConnectionStats, PeerStats};
use crate::flow::srt::{End, Part};
use crate::observe::condition::{CallTrouble, Condition};
use crate::observe::status::{PeerDoc, RefusedDoc, SrtDoc};
use crate::observe::text::rfc3339;
use crate::proto::srt::handshake::Reject;
use crate::proto::srt::stats::KeyState;
use crate::proto::srt::terms::Failure;
use crate::supervisor::view::millis;
use crate::time::Instant;

/// A refusal this long ago is over.
const RECENT: Duration = Duration::from_secs(60);
/// A connection that is silent for this long has nothing to send.
const SILENT: Duration = Duration::from_secs(2);
/// With fewer round trips than this, what is lost often does not come in time.
const ROUND_TRIPS: u32 = 4;

/// What was agreed on, in words.
pub(super) fn terms(peer: &PeerStats) -> String {
    let Some(facts) = peer.facts.get() else { return String::new() };
    let cipher = facts.cipher.map_or_else(|| "in clear".to_owned(), |cipher| cipher.to_string());
    let id = facts.stream_id.as_ref().map_or_else(String::new, |id| format!(", stream ID {id:?}"));
    let passphrase =
        peer.passphrase.as_ref().map_or_else(String::new, |used| format!(" (passphrase {:?})", used.name()));
    let [receive, send] = [facts.receive_latency, facts.send_latency].map(|latency| latency.as_millis());
    let latency = if receive == send { format!("{receive} ms") } else { format!("{receive} ms in, {send} ms out") };
    format!("SRT {}, {cipher}{passphrase}, latency {latency}{id}", version(facts.version))
}

fn version(version: u32) -> String {
    format!("{}.{}.{}", version >> 16 & 0xFF, version >> 8 & 0xFF, version & 0xFF)
}

/// Why a connection ended, or an attempt came to nothing.
pub(in crate::supervisor) fn end_in_words(end: &End) -> String {
    match end {
        End::Handshake(failure) => failure.to_string(),
        End::PeerClosed => "the peer closed it".to_owned(),
        End::Silent => "the peer fell silent for 5 s".to_owned(),
        End::KeyExhausted => "the peer never took a new key, and the old one was used up".to_owned(),
        End::Closed => "closed here".to_owned(),
    }
}

/// A connection's figures; `receives`: of a source.
pub(in crate::supervisor) fn peer_doc(peer: &PeerStats, receives: bool) -> PeerDoc {
    let facts = peer.facts.get();
    PeerDoc {
        address: peer.address.to_string(),
        since: facts.map(|facts| rfc3339(facts.since)).unwrap_or_default(),
        number: Some(peer.number),
        srt: facts.map(|facts| {
            let f = peer.figures();
            let (sent, received) = (&f.sent, &f.received);
            let pick = |of_source: u64, of_output: u64| if receives { of_source } else { of_output };
            let capacity = u64::from(f.peer_capacity) * 1456 * 8;
            Box::new(SrtDoc {
                version: version(facts.version),
                cipher: facts.cipher.map_or_else(|| "none".to_owned(), |cipher| cipher.to_string()),
                passphrase: peer.passphrase.as_ref().map(|used| used.name().to_owned()),
                stream_id: facts.stream_id.clone(),
                latency_ms: millis(if receives { facts.receive_latency } else { facts.send_latency }),
                rtt_ms: f.rtt_measured.then(|| millis(f.rtt)),
                rtt_var_ms: f.rtt_measured.then(|| millis(f.rtt_var)),
                packets: pick(received.unique, sent.packets),
                bytes: pick(received.unique_bytes, sent.bytes),
                packets_lost: pick(received.lost, sent.lost),
                packets_retransmitted: pick(received.retransmitted, sent.retransmitted),
                packets_dropped: pick(received.dropped, sent.dropped),
                packets_belated: received.belated,
                packets_duplicate: received.duplicates,
                packets_undecrypted: received.undecrypted,
                naks: pick(received.naks, sent.naks),
                acks: pick(received.acks, sent.acks),
                buffer_ms: millis(if receives { f.buffered_span } else { f.send_buffer }),
                buffer_packets: pick(f.buffered, f.in_flight + f.unsent),
                flow_window: pick(f.buffer_room, f.flow_window),
                flight: f.in_flight,
                link_capacity_bps: (f.peer_capacity > 0).then_some(capacity),
                key_refreshes: pick(f.receive_key_refreshes, f.send_key_refreshes),
                key_unconfirmed: f.send_key == KeyState::Unconfirmed,
                packets_invalid: f.invalid,
                memory_bytes: f.memory,
            })
        }),
    }
}

/// A caller that was turned away.
pub(in crate::supervisor) fn refused_doc(refused: &TurnedAway) -> RefusedDoc {
    RefusedDoc {
        address: refused.address.to_string(),
        reason: refused.why.words().to_owned(),
        stream_id: refused.stream_id.clone(),
        count: refused.count,
        last: rfc3339(refused.last),
    }
}

/// What is not as it should be of a source or output that is open by SRT. `waited`: since it was opened.
pub(in crate::supervisor) fn conditions(
    part: &Part,
    open: &SrtOpen,
    plan: &SrtPlan,
    waited: Duration,
    now: Instant,
    add: &mut dyn FnMut(Condition),
) {
    let output = matches!(part, Part::Output(_));
    let part = || if output { format!("output {part}") } else { format!("source {part}") };
    let peers = open.connected();
    let recent = |at: std::time::SystemTime| at.elapsed().is_ok_and(|ago| ago < RECENT);
    let refusals = open.roster.refusals().0;
    if let Some(refused) = refusals.iter().find(|refused| recent(refused.last)) {
        add(Condition::SrtRefused {
            part: part(),
            address: refused.address.to_string(),
            why: refused.why.clone(),
            stream_id: refused.stream_id.clone(),
            times: refused.count,
        });
    }
    match open.call() {
        Some(call) if peers.is_empty() => {
            // The first attempt deserves its time.
            if let Some((ended, _)) = &call.last {
                let (why, trouble) = trouble(ended);
                let (remote, tries) = (plan.mode.place(), call.failures);
                add(Condition::SrtNotConnected { part: part(), output, remote, why, trouble, tries });
            }
        }
        None if peers.is_empty() => {
            let (bind, silent_for) = (plan.mode.place(), open.roster.alone_for().unwrap_or(waited));
            add(Condition::SrtNobody { part: part(), output, bind, silent_for });
        }
        _ => {}
    }
    for peer in &peers {
        let (figures, address) = (peer.figures(), peer.address.to_string());
        let silent_for = now - peer.silent_since();
        if !output && silent_for >= SILENT {
            add(Condition::SrtNoData { part: part(), peer: address.clone(), silent_for });
        }
        if let Some(condition) = low_latency(peer, &figures, output, part()) {
            add(condition);
        }
        if figures.received.undecrypted > 0 && silent_for >= SILENT && !output {
            add(Condition::SrtUndecrypted { part: part(), packets: figures.received.undecrypted });
        }
    }
}

fn low_latency(peer: &PeerStats, figures: &ConnectionStats, output: bool, part: String) -> Option<Condition> {
    let facts = peer.facts.get()?;
    let latency = if output { facts.send_latency } else { facts.receive_latency };
    let dropped = if output { figures.sent.dropped } else { figures.received.dropped };
    let low = figures.rtt_measured && latency < figures.rtt * ROUND_TRIPS && dropped > 0;
    let (peer, rtt) = (peer.address.to_string(), figures.rtt);
    low.then_some(Condition::SrtLatencyLow { part, peer, latency, rtt, dropped })
}

fn trouble(ended: &Ended) -> (String, CallTrouble) {
    let end = match ended {
        Ended::Name(error) => return (format!("its name can't be looked up: {error}"), CallTrouble::Unreachable),
        Ended::Link(end) => end,
    };
    let trouble = match end {
        End::Handshake(Failure::NoAnswer | Failure::NotConcluded) => CallTrouble::Unreachable,
        End::Handshake(Failure::BrokenOff) => CallTrouble::Passphrase,
        End::Handshake(Failure::Rejected(reject) | Failure::Refused(reject)) => match reject {
            Reject::BadSecret | Reject::Unsecure => CallTrouble::Passphrase,
            Reject::Version
            | Reject::Rogue
            | Reject::MessageApi
            | Reject::Congestion
            | Reject::Filter
            | Reject::Group
            | Reject::Crypto => CallTrouble::Protocol,
            _ => CallTrouble::Refused,
        },
        End::PeerClosed | End::Silent | End::KeyExhausted | End::Closed => CallTrouble::Ended,
    };
    (end_in_words(end), trouble)
}
