//! What is told of connections: documents, words.

use std::time::Duration;

use super::door::TurnedAway;
use crate::flow::srt::End;
use crate::flow::srt::stats::{Facts, PeerStats};
use crate::observe::status::{KeyStateDoc, PeerDoc, RefusedDoc, SrtDoc};
use crate::observe::text::rfc3339;
use crate::proto::srt::handshake::Reject;
use crate::proto::srt::stats::KeyState;
use crate::proto::srt::terms::Failure;
use crate::supervisor::view::{millis, signed_millis};

/// Of a full packet, as libsrt reckons with the capacity of a path.
const PACKET_BITS: u64 = 1456 * 8;

/// What was agreed on, in words.
pub(in crate::supervisor) fn terms(peer: &PeerStats) -> String {
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
        End::Handshake(Failure::Rejected(reject @ Reject::BadSecret)) => {
            format!("wrong passphrase, says the peer ({})", number(*reject))
        }
        End::Handshake(failure @ Failure::Rejected(reject)) => format!("{failure} ({})", number(*reject)),
        End::Handshake(failure) => failure.to_string(),
        End::PeerClosed => "the peer closed it".to_owned(),
        End::Silent => "the peer fell silent for 5 s".to_owned(),
        End::KeyExhausted => "the peer never took a new key, and the old one was used up".to_owned(),
        End::Closed => "closed here".to_owned(),
    }
}

/// The number by which people know a refusal: 1010 for a wrong passphrase, as on the wire; 1403 for forbidden, as in
/// libsrt's API.
pub(super) fn number(reject: Reject) -> u32 {
    match reject {
        Reject::Predefined(_) | Reject::User(_) => reject.code(),
        _ => reject.wire(),
    }
}

/// A connection's figures; `receives`: of a source.
pub(in crate::supervisor) fn peer_doc(peer: &PeerStats, receives: bool) -> PeerDoc {
    let facts = peer.facts.get();
    PeerDoc {
        address: peer.address.to_string(),
        since: facts.map(|facts| rfc3339(facts.since)).unwrap_or_default(),
        number: Some(peer.number),
        subscriber: peer.subscriber.as_deref().map(str::to_owned),
        bytes: peer.subscriber.as_ref().map(|_| peer.figures().0.sent.bytes),
        srt: facts.map(|facts| Box::new(srt_doc(peer, facts, receives))),
    }
}

fn srt_doc(peer: &PeerStats, facts: &Facts, receives: bool) -> SrtDoc {
    let (f, lately) = peer.figures();
    let (sent, received) = (&f.sent, &f.received);
    let pick = |of_source: u64, of_output: u64| if receives { of_source } else { of_output };
    let of_source = |figure: u64| receives.then_some(figure);
    let of_output = |figure: u64| (!receives).then_some(figure);
    let [latency, reverse] = [facts.receive_latency, facts.send_latency].map(millis);
    let (latency_ms, reverse_latency_ms) = if receives { (latency, reverse) } else { (reverse, latency) };
    let capacity = u64::from(f.peer_capacity) * PACKET_BITS;
    SrtDoc {
        version: version(facts.version),
        cipher: facts.cipher.map_or_else(|| "none".to_owned(), |cipher| cipher.to_string()),
        passphrase: peer.passphrase.as_ref().map(|used| used.name().to_owned()),
        stream_id: facts.stream_id.clone(),
        mss_bytes: facts.mss.into(),
        latency_ms,
        reverse_latency_ms,
        rtt_ms: f.rtt_measured.then(|| millis(f.rtt)),
        rtt_var_ms: f.rtt_measured.then(|| millis(f.rtt_var)),
        rate_bps: pick(lately.receive_bps, lately.send_bps),
        packets: pick(received.unique, sent.packets),
        bytes: pick(received.unique_bytes, sent.bytes),
        packets_total: pick(received.packets, sent.packets + sent.retransmitted),
        bytes_total: pick(received.bytes, sent.bytes + sent.retransmitted_bytes),
        packets_lost: pick(received.lost, sent.lost),
        packets_recovered: of_source(received.recovered),
        packets_retransmitted: pick(received.retransmitted, sent.retransmitted),
        bytes_retransmitted: of_output(sent.retransmitted_bytes),
        packets_dropped: pick(received.dropped, sent.dropped),
        bytes_dropped: of_output(sent.dropped_bytes),
        packets_belated: of_source(received.belated),
        belated_ms: receives
            .then(|| millis(Duration::from_micros(received.belated_us.checked_div(received.belated).unwrap_or(0)))),
        packets_duplicate: of_source(received.duplicates),
        packets_undecrypted: of_source(received.undecrypted),
        bytes_undecrypted: of_source(received.undecrypted_bytes),
        packets_no_room: of_source(received.no_room),
        sequence_jumps: of_source(received.jumps),
        reorder_distance: of_source(received.reorder_distance),
        naks: pick(received.naks, sent.naks),
        acks: pick(received.acks, sent.acks),
        light_acks: of_source(received.light_acks),
        probes: of_output(sent.probes),
        buffer_ms: millis(if receives { f.buffered_span } else { f.send_buffer }),
        buffer_packets: pick(f.buffered, f.in_flight + f.unsent),
        flow_window: pick(f.buffer_room, f.flow_window),
        flight: f.in_flight,
        packets_unsent: of_output(f.unsent),
        packets_to_resend: of_output(f.to_resend),
        peer_rate_pps: of_output(f.peer_receive_rate.into()),
        link_capacity_bps: (f.peer_capacity > 0).then_some(capacity),
        drift_ms: receives.then(|| signed_millis(f.drift_us.saturating_mul(1000))),
        key_state: match if receives { f.receive_key } else { f.send_key } {
            KeyState::Clear => KeyStateDoc::Clear,
            KeyState::Secured => KeyStateDoc::Secured,
            KeyState::Announcing => KeyStateDoc::Announcing,
            KeyState::Unconfirmed => KeyStateDoc::Unconfirmed,
        },
        key_refreshes: pick(f.receive_key_refreshes, f.send_key_refreshes),
        packets_invalid: f.invalid,
        send_errors: peer.send_errors.value(),
        memory_bytes: f.memory,
    }
}

/// A caller that was turned away.
pub(in crate::supervisor) fn refused_doc(refused: &TurnedAway) -> RefusedDoc {
    RefusedDoc {
        address: refused.address.to_string(),
        code: refused.why.code().to_owned(),
        reason: refused.why.words().to_owned(),
        stream_id: refused.stream_id.clone(),
        count: refused.count,
        last: rfc3339(refused.last),
    }
}
