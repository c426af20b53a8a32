//! `datagram-packets`: transport-stream packets regathered into datagrams of a fixed number.

use crate::time::Instant;
use std::time::Duration;

use crate::proto::mpegts::packet::PACKET_LEN;

/// What waits is sent after at most this long.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Gathers packets until datagrams are full, or their time is up.
#[derive(Debug, Clone)]
pub(super) struct Repacketiser {
    datagram: usize,
    pending: Vec<u8>,
    due: Option<Instant>,
}

impl Repacketiser {
    /// Datagrams of `packets` transport-stream packets, 1 to 7.
    pub(super) fn new(packets: u8) -> Self {
        Self { datagram: usize::from(packets) * PACKET_LEN, pending: Vec::new(), due: None }
    }

    /// Transport-stream packets a datagram.
    pub(super) fn packets(&self) -> u8 {
        (self.datagram / PACKET_LEN) as u8
    }

    /// Take in whole packets.
    pub(super) fn push(&mut self, payload: &[u8], now: Instant) {
        if self.pending.is_empty() {
            self.due = Some(now + LONGEST_WAIT);
        }
        self.pending.extend_from_slice(payload);
    }

    /// What waits must be sent now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = (!self.pending.is_empty()).then_some(now);
    }

    /// When what waits must be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The datagrams that may leave now: full ones, and at its time what is left.
    pub(super) fn ready(&self, now: Instant) -> impl Iterator<Item = &[u8]> {
        self.pending[..self.ready_len(now)].chunks(self.datagram)
    }

    /// What [`Self::ready`] gave at the same `now` has been sent.
    pub(super) fn sent(&mut self, now: Instant) {
        let len = self.ready_len(now);
        if len == 0 {
            return;
        }
        self.pending.drain(..len);
        self.due = (!self.pending.is_empty()).then(|| now + LONGEST_WAIT);
    }

    fn ready_len(&self, now: Instant) -> usize {
        if self.due.is_some_and(|due| due <= now) {
            return self.pending.len();
        }
        self.pending.len() - self.pending.len() % self.datagram
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_leaves_once_and_in_order_and_only_the_last_datagram_before_a_pause_is_short(
            packets in 1u8..=7,
            input in prop::collection::vec((1usize..=10, 0u64..30), 1..60),
        ) {
            let mut now = Instant::now();
            let mut r = Repacketiser::new(packets);
            let (mut sent, mut given, mut next) = (Vec::new(), Vec::new(), 0u8);
            for (count, wait) in input {
                let later = now + Duration::from_millis(wait);
                if r.due().is_some_and(|due| due <= later) {
                    now = r.due().unwrap();
                    let out: Vec<Vec<u8>> = r.ready(now).map(<[u8]>::to_vec).collect();
                    prop_assert!(out.iter().rev().skip(1).all(|d| d.len() == usize::from(packets) * PACKET_LEN));
                    given.extend(out.concat());
                    r.sent(now);
                    prop_assert_eq!(r.due(), None);
                }
                now = later;
                let payload: Vec<u8> = (0..count).flat_map(|_| { next = next.wrapping_add(1); [next; PACKET_LEN] }).collect();
                sent.extend_from_slice(&payload);
                r.push(&payload, now);
                let out: Vec<Vec<u8>> = r.ready(now).map(<[u8]>::to_vec).collect();
                prop_assert!(out.iter().all(|d| d.len() == usize::from(packets) * PACKET_LEN));
                given.extend(out.concat());
                r.sent(now);
            }
            if let Some(due) = r.due() {
                given.extend(r.ready(due).collect::<Vec<_>>().concat());
                r.sent(due);
            }
            prop_assert_eq!(r.due(), None);
            prop_assert_eq!(sent, given);
        }
    }
}
