//! What a flow has sent by SRT or RIST lately: each payload once, however many receivers it went to, for those who ask
//! again.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use super::cipher::Variant;
use super::egress::MediaPacket;
use super::ring::{Ring, Span};
use crate::proto::mpegts::packet::PACKET_LEN;
use crate::proto::rist::sender;
use crate::proto::seq::RtpTime;
use crate::proto::srt::send;
use crate::time::Instant;

/// Most bytes kept: 17 s of 100 Mbit/s.
const LIMIT: usize = 256 << 20;
/// What one packet carries: more does not fit into a packet of Ethernet (`SRT_LIVE_DEF_PLSIZE`).
const PAYLOAD: usize = 7 * PACKET_LEN;
/// What comes together in one go is no further apart than this, whatever its timestamps say.
const GATHERED: Duration = Duration::from_millis(20);

/// The histories of what is sent in clear, and by each encryption.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Histories(Vec<(Variant, Box<History>)>);

impl Histories {
    /// What was sent in this variant; `None`: nobody receives it.
    pub(super) fn get(&self, variant: Variant) -> Option<&History> {
        self.0.iter().find(|(known, _)| *known == variant).map(|(_, history)| &**history)
    }

    /// Keep this variant from now on, for so long.
    pub(super) fn keep(&mut self, variant: Variant, time: Duration, now: Instant) -> &mut History {
        let at = self.0.iter().position(|(known, _)| *known == variant).unwrap_or_else(|| {
            self.0.push((variant, Box::new(History::new(time, now))));
            self.0.len() - 1
        });
        self.0[at].1.set_keep(time);
        &mut self.0[at].1
    }

    /// Keep only these variants.
    pub(super) fn retain(&mut self, used: impl Fn(Variant) -> bool) {
        self.0.retain(|(variant, _)| used(*variant));
    }

    /// Go on with a history that was handed over.
    pub(super) fn resume(&mut self, variant: Variant, mut history: Box<History>) {
        history.ring.recount();
        match self.0.iter_mut().find(|(known, _)| *known == variant) {
            Some((_, there)) => *there = history,
            None => self.0.push((variant, history)),
        }
    }

    /// Take the history of a variant out.
    pub(super) fn take(&mut self, variant: Variant) -> Option<Box<History>> {
        let at = self.0.iter().position(|(known, _)| *known == variant)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Add packets of a variant that somebody receives.
    pub(super) fn extend(&mut self, variant: Variant, packets: &[MediaPacket<'_>], now: Instant) {
        if let Some((_, history)) = self.0.iter_mut().find(|(known, _)| *known == variant) {
            history.extend(packets, now);
        }
    }
}

/// Packets by number, from the flow's first on.
#[derive(Serialize, Deserialize)]
pub(super) struct History {
    /// From which on timestamps count.
    start: Instant,
    ring: Ring,
    packets: VecDeque<Kept>,
    /// The number of the first of `packets`.
    first: u64,
    keep: Duration,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    span: Span,
    origin: Instant,
}

impl History {
    /// One that keeps packets for so long.
    pub(super) fn new(keep: Duration, now: Instant) -> Self {
        Self { start: now, ring: Ring::new(LIMIT), packets: VecDeque::new(), first: 0, keep }
    }

    /// Keep packets for so long from now on.
    pub(super) const fn set_keep(&mut self, keep: Duration) {
        self.keep = keep;
    }

    /// Add packets that leave at `now`, in pieces of a size that every path carries.
    pub(super) fn extend(&mut self, packets: &[MediaPacket<'_>], now: Instant) {
        let Some(last) = packets.last() else { return };
        for packet in packets {
            // Receivers deliver by these times: what was gathered shall not come out at once.
            let ticks = last.timestamp.distance(packet.timestamp).max(0).cast_unsigned();
            let before = Duration::from_micros(u64::from(ticks) * 100 / 9).min(GATHERED);
            packet.payload.chunks(PAYLOAD).for_each(|payload| self.push(payload, now - before));
        }
    }

    /// Add a packet that came into being at `origin`, or when the one before did if that was later.
    fn push(&mut self, payload: &[u8], origin: Instant) {
        let origin = self.packets.back().map_or(origin, |kept| kept.origin.max(origin));
        while self.packets.front().is_some_and(|kept| kept.origin + self.keep < origin) {
            self.drop_first();
        }
        let span = loop {
            if let Some(span) = self.ring.push(payload) {
                break span;
            }
            if self.packets.is_empty() {
                // Longer than all memory: there is no such datagram.
                return;
            }
            self.drop_first();
        };
        self.packets.push_back(Kept { span, origin });
    }

    fn drop_first(&mut self) {
        self.packets.pop_front();
        self.first += 1;
        self.ring.free_before(self.packets.front().map(|kept| kept.span));
    }

    fn get(&self, index: u64) -> Option<&Kept> {
        self.packets.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// A packet's payload; `None`: it is gone, or not there yet.
    pub(super) fn payload(&self, index: u64) -> Option<&[u8]> {
        self.get(index).map(|kept| self.ring.get(kept.span))
    }
}

impl send::History for History {
    fn first(&self) -> u64 {
        self.first
    }

    fn end(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    fn payload(&self, index: u64) -> Option<&[u8]> {
        self.payload(index)
    }

    fn origin(&self, index: u64) -> Option<Instant> {
        self.get(index).map(|kept| kept.origin)
    }
}

impl sender::History for History {
    fn first(&self) -> u64 {
        self.first
    }

    fn end(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    fn payload(&self, index: u64) -> Option<&[u8]> {
        self.payload(index)
    }

    fn timestamp(&self, index: u64) -> Option<RtpTime> {
        Some(RtpTime(RtpTime::ticks(self.get(index)?.origin.saturating_duration_since(self.start))))
    }
}

#[cfg(test)]
mod tests {
    use super::send::History as _;
    use super::*;

    #[test]
    fn packets_are_kept_for_their_time_and_known_by_their_numbers() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_millis(100), start);
        let at = |n: u64| start + Duration::from_millis(n);
        for n in 0..1000_u64 {
            history.push(&n.to_be_bytes().repeat(1 + n as usize % 160), at(n));
            assert_eq!(history.end(), n + 1);
            for number in history.first()..history.end() {
                let payload = history.payload(number).unwrap();
                assert_eq!(payload, number.to_be_bytes().repeat(1 + number as usize % 160));
                assert_eq!(history.origin(number), Some(at(number)));
                assert_eq!(sender::History::timestamp(&history, number), Some(RtpTime(number as u32 * 90)));
            }
            assert_eq!(history.first(), n.saturating_sub(100));
            assert_eq!((history.payload(n + 1), n.checked_sub(101).and_then(|n| history.payload(n))), (None, None));
        }
        history.push(b"after a pause", at(2000));
        assert_eq!((history.first(), history.end(), history.payload(999)), (1000, 1001, None));
        assert_eq!(history.payload(1000), Some(&b"after a pause"[..]));
    }

    #[test]
    fn memory_is_bounded_whatever_is_to_be_kept() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(3600), start);
        let payload = vec![7; 1 << 20];
        (0..400).for_each(|_| history.push(&payload, start));
        assert!(history.ring.capacity() <= LIMIT);
        assert_eq!(history.end(), 400);
        assert!(history.payload(399).is_some() && history.first() > 100);
    }
}
