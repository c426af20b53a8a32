//! Acknowledgements (libsrt's `sendCtrlAck`).
//!
//! A full one every 10 ms while there is something new; the last one again after a round trip and four variations until
//! an ACKACK confirms it; at once when a full buffer gets room. A light one every 64 packets in between.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Receiver;
use crate::proto::srt::clock::{MILLISECOND, Tick};
use crate::proto::srt::control::{Ack, AckRates, Control};
use crate::proto::srt::rtt::Rtt;
use crate::proto::srt::window::ExtSeq;

/// Between two full ones.
pub(in crate::proto::srt) const ACK_INTERVAL: i64 = 10 * MILLISECOND;
/// Packets between two light ones.
const LIGHT_INTERVAL: u32 = 64;
/// Full ones whose ACKACK is waited for.
const MOST_RECORDS: usize = 1024;
/// Numbers go up to this and begin again.
const LAST_NUMBER: u32 = 0x7FFF_FFFF;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Record {
    sent: Tick,
    upto: ExtSeq,
    starved: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Acks {
    /// Of the last full one.
    number: u32,
    /// The last full ones, one after the other.
    records: VecDeque<Record>,
    /// What the last full one said.
    upto: ExtSeq,
    /// What the last one said, full or light.
    any_upto: ExtSeq,
    /// What was said and confirmed.
    confirmed: ExtSeq,
    last: Tick,
    /// Packets since the last one, full or light.
    packets: u32,
    /// The last one said that there is no room.
    starved: bool,
    /// The peer has not confirmed yet that there is room again.
    relief: bool,
}

impl Acks {
    pub(super) const fn new(start: ExtSeq) -> Self {
        Self {
            number: 0,
            records: VecDeque::new(),
            upto: start,
            any_upto: start,
            confirmed: start,
            last: Tick(i64::MIN / 2),
            packets: 0,
            starved: false,
            relief: false,
        }
    }

    /// A packet came.
    pub(super) const fn arrived(&mut self) {
        self.packets += 1;
    }

    /// An ACKACK came: when its ACK was sent, if there was one.
    pub(super) fn answered(&mut self, number: u32) -> Option<Tick> {
        let before = self.number.wrapping_sub(number) & LAST_NUMBER;
        let at = self.records.len().checked_sub(before as usize + 1)?;
        let record = *self.records.get(at)?;
        self.records.drain(..=at);
        self.confirmed = self.confirmed.max(record.upto);
        if !record.starved {
            self.relief = false;
        }
        Some(record.sent)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
    }

    pub(super) fn trim(&mut self) {
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }
}

impl Receiver {
    /// When an acknowledgement is to be sent.
    pub(in crate::proto::srt) fn ack_due(&self, rtt: &Rtt) -> Tick {
        let acks = &self.acks;
        if acks.starved && self.room() > 0 {
            Tick(i64::MIN)
        } else if self.ack > acks.upto {
            acks.last.add(ACK_INTERVAL)
        } else if acks.upto > acks.confirmed || acks.relief {
            acks.last.add(rtt.answered_after().max(ACK_INTERVAL))
        } else {
            Tick::NEVER
        }
    }

    /// The acknowledgement that is due.
    pub(in crate::proto::srt) fn poll_ack(&mut self, now: Tick, rtt: &Rtt) -> Option<Control<'static>> {
        if self.ack_due(rtt) > now {
            return self.poll_light_ack();
        }
        let room = self.room();
        let (receive_rate, receive_bytes) = self.rate.received(now);
        let link_capacity = self.rate.capacity();
        let (ack, acks) = (self.ack, &mut self.acks);
        let rates = AckRates { receive_rate, link_capacity, receive_bytes: Some(receive_bytes) };
        let rates = (now.since(acks.last) >= ACK_INTERVAL).then_some(rates);
        acks.relief |= acks.starved;
        acks.starved = room == 0;
        acks.number = if acks.number == LAST_NUMBER { 0 } else { acks.number + 1 };
        (acks.upto, acks.any_upto, acks.last, acks.packets) = (ack, ack, now, 0);
        if acks.records.len() == MOST_RECORDS {
            acks.records.pop_front();
        }
        acks.records.push_back(Record { sent: now, upto: ack, starved: acks.starved });
        let (rtt, rtt_var) = rtt.advice();
        self.counters.acks += 1;
        Some(Control::Ack(Ack { number: acks.number, seq: ack.seq(), rtt, rtt_var, free_packets: room, rates }))
    }

    fn poll_light_ack(&mut self) -> Option<Control<'static>> {
        if self.acks.packets < LIGHT_INTERVAL || self.ack <= self.acks.any_upto {
            return None;
        }
        (self.acks.any_upto, self.acks.packets) = (self.ack, 0);
        self.counters.light_acks += 1;
        Some(Control::LightAck(self.ack.seq()))
    }
}
