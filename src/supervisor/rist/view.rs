//! What is told of sources and outputs by RIST.

use std::net::SocketAddr;

use super::RistOpen;
use crate::config::plan::{RistEncryption, RistInput, RistProfile, RistRoute};
use crate::flow::rist::stats::{SenderLegStats, TunnelStats};
use crate::observe::status::{RistLegDoc, RistOutputDoc, RistSourceDoc};
use crate::proto::rist::psk::KeyLength;
use crate::supervisor::view::millis;
use crate::time::Instant;

impl RistProfile {
    /// As configuration has it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Main { .. } => "main",
        }
    }

    /// What this end encrypts with.
    fn cipher(&self) -> String {
        match self.encryption() {
            Some(RistEncryption { key_length: KeyLength::Aes128, .. }) => "AES-128",
            Some(RistEncryption { key_length: KeyLength::Aes256, .. }) => "AES-256",
            None => "none",
        }
        .to_owned()
    }
}

/// Packets that could not be read.
pub(super) fn unread(tunnel: &TunnelStats) -> u64 {
    tunnel.undecrypted + tunnel.garbage + tunnel.in_clear
}

/// A source's figures; without any, before it is open.
pub(in crate::supervisor) fn source_doc(plan: &RistInput, open: Option<&RistOpen>) -> RistSourceDoc {
    let figures = open.and_then(RistOpen::received).unwrap_or_default();
    let (stream, senders) = (figures.stream, figures.senders);
    RistSourceDoc {
        profile: plan.profile.word().to_owned(),
        cipher: plan.profile.cipher(),
        latency_ms: millis(plan.latency),
        senders: figures.heard as u64,
        rtt_ms: senders.rtt.map(millis),
        packets_total: stream.received,
        bytes_total: stream.bytes,
        packets_retransmitted: stream.retransmitted,
        packets_requested: stream.requests,
        naks: stream.nacks,
        packets_elsewhere: stream.elsewhere,
        packets_no_room: stream.overflow + stream.early,
        buffer_packets: stream.waiting,
        timestamp_jumps: stream.timestamp_jumps,
        clock_usable: !stream.clock_unusable,
        control_packets: senders.control,
        control_invalid: senders.control_invalid,
        packets_other_profile: senders.other_profile,
        send_errors: figures.send_errors,
    }
}

/// An output's figures; without any, before it is open.
pub(in crate::supervisor) fn output_doc(plan: &RistRoute, open: Option<&RistOpen>, now: Instant) -> RistOutputDoc {
    let figures = open.and_then(RistOpen::sent).unwrap_or_default();
    let stream = figures.stream;
    let doc = |leg: SenderLegStats, address: SocketAddr| RistLegDoc {
        address: address.to_string(),
        rtt_ms: leg.rtt.map(millis),
        packets: leg.packets,
        packets_retransmitted: leg.retransmitted,
        control_packets: leg.control,
        control_invalid: leg.control_invalid,
        silent_ms: leg.control_at.map(|at| millis(now.saturating_duration_since(at))),
        packets_undecrypted: leg.tunnel.as_ref().map(unread),
    };
    let addresses = open.map(RistOpen::legs).unwrap_or_default();
    let legs = figures.legs.into_iter().zip(addresses);
    RistOutputDoc {
        profile: plan.profile.word().to_owned(),
        cipher: plan.profile.cipher(),
        latency_ms: millis(plan.latency),
        naks: stream.nacks,
        packets_repeated: stream.repeated,
        packets_gone: stream.gone,
        packets_over_budget: stream.over_budget,
        send_errors: figures.send_errors,
        legs: legs.filter_map(|(figures, leg)| Some(doc(figures?, leg?.address))).collect(),
    }
}
