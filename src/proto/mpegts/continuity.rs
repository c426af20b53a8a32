//! Continuity counters, as ETSI TR 101 290 checks them (table 5.0a, 1.4).

use super::packet::{NULL_PID, PIDS, PacketHeader};

/// There was a packet with a counter.
const SEEN: u8 = 0x80;
/// The last packet has come twice.
const REPEATED: u8 = 0x10;
/// The last counter.
const COUNTER: u8 = 0x0F;

/// How a packet stands to the one before it on its PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It follows, or it is the first, or it has no counter.
    Next,
    /// It is the same once more, which is legal once.
    Repeated,
    /// Packets are missing, in the wrong order, or came too often.
    Broken,
}

/// The last continuity counter of one PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter(u8);

impl Counter {
    /// How a packet stands to the one before it. `discontinuity` is its `discontinuity_indicator`.
    ///
    /// The counter counts packets with payload (ISO/IEC 13818-1, section 2.4.3.3). One repetition is legal, a second is
    /// not; after the indicator any counter is. A packet with a transport error must not come here: none of its fields
    /// can be trusted.
    #[inline]
    pub fn take(&mut self, header: PacketHeader, discontinuity: bool) -> Order {
        let counter = header.continuity() & COUNTER;
        let last = self.0;
        if last & SEEN == 0 || discontinuity {
            if header.payload() || discontinuity {
                self.0 = SEEN | counter;
            }
            return Order::Next;
        }
        if !header.payload() {
            return Order::Next;
        }
        if counter == last & COUNTER {
            self.0 = last | REPEATED;
            return if last & REPEATED == 0 { Order::Repeated } else { Order::Broken };
        }
        self.0 = SEEN | counter;
        if counter == (last + 1) & COUNTER { Order::Next } else { Order::Broken }
    }
}

/// The last continuity counter of every PID: a byte each, 8 kB.
#[derive(Debug, Clone)]
pub struct Continuity {
    pids: Box<[Counter]>,
}

impl Default for Continuity {
    fn default() -> Self {
        Self { pids: vec![Counter::default(); PIDS].into_boxed_slice() }
    }
}

impl Continuity {
    /// Whether a packet follows on the one before it on its PID, as [`Counter::take`] says. Null packets have no order.
    pub fn follows(&mut self, header: PacketHeader, discontinuity: bool) -> bool {
        let Some(counter) = self.pids.get_mut(usize::from(header.pid())).filter(|_| header.pid() != NULL_PID) else {
            return true;
        };
        counter.take(header, discontinuity) != Order::Broken
    }

    /// Forget all: the next packet of each PID is its first.
    pub fn reset(&mut self) {
        self.pids.fill(Counter::default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::mpegts::packet::{PACKET_LEN, SYNC};

    fn header(pid: u16, continuity: u8, payload: bool) -> PacketHeader {
        let mut packet = [0; PACKET_LEN];
        let [high, low] = pid.to_be_bytes();
        packet[..4].copy_from_slice(&[SYNC, high, low, if payload { 0x10 } else { 0x20 } | continuity]);
        PacketHeader::parse(&packet).unwrap()
    }

    /// How many of these packets on one PID do not follow.
    fn errors(packets: &[(u8, bool, bool)]) -> usize {
        let mut continuity = Continuity::default();
        packets.iter().filter(|(cc, payload, mark)| !continuity.follows(header(256, *cc, *payload), *mark)).count()
    }

    fn errors_of(counters: &[u8]) -> usize {
        errors(&counters.iter().map(|cc| (*cc, true, false)).collect::<Vec<_>>())
    }

    #[test]
    fn counters_in_order_wrap_from_any_start() {
        assert_eq!(errors_of(&[14, 15, 0, 1, 2]), 0);
    }

    #[test]
    fn a_gap_and_a_wrong_order_are_errors() {
        assert_eq!(errors_of(&[1, 2, 4, 5]), 1);
        assert_eq!(errors_of(&[1, 3, 2, 4]), 3);
    }

    #[test]
    fn a_packet_may_come_twice_and_not_three_times() {
        assert_eq!(errors_of(&[1, 2, 2, 3, 3, 4]), 0);
        assert_eq!(errors_of(&[1, 2, 2, 2, 3]), 1);
    }

    #[test]
    fn packets_without_payload_do_not_count() {
        assert_eq!(errors(&[(1, true, false), (1, false, false), (1, false, false), (2, true, false)]), 0);
        assert_eq!(errors(&[(7, false, false), (1, true, false)]), 0, "nor do they begin the count");
        assert_eq!(errors(&[(1, true, false), (1, false, false), (3, true, false)]), 1);
    }

    #[test]
    fn an_indicated_discontinuity_begins_anew() {
        assert_eq!(errors(&[(1, true, false), (9, true, true), (10, true, false)]), 0);
        assert_eq!(
            errors(&[(1, true, false), (9, false, true), (10, true, false)]),
            0,
            "on a packet without payload too"
        );
        assert_eq!(errors(&[(1, true, false), (9, true, true), (11, true, false)]), 1);
    }

    #[test]
    fn null_packets_have_no_order_and_pids_have_one_each() {
        let mut continuity = Continuity::default();
        for cc in [3, 9, 9, 9, 0] {
            assert!(continuity.follows(header(NULL_PID, cc, true), false));
        }
        for n in 0..40 {
            assert!(continuity.follows(header(0x1FFE, n % 16, true), false));
            assert!(continuity.follows(header(0, (n + 5) % 16, true), false));
        }
        continuity.reset();
        assert!(continuity.follows(header(0, 9, true), false));
    }

    proptest! {
        /// Packets lost, and packets with an adaptation field only, anywhere: an error a gap, unless 16 fit into it.
        #[test]
        fn every_gap_is_one_error(start in 0_u8..16, steps in prop::collection::vec((0_u8..15, 0_usize..3), 1..200)) {
            let mut continuity = Continuity::default();
            let mut cc = start;
            prop_assert!(continuity.follows(header(33, cc, true), false));
            for (lost, empty) in steps {
                for _ in 0..empty {
                    prop_assert!(continuity.follows(header(33, cc, false), false));
                }
                cc = (cc + 1 + lost) % 16;
                prop_assert_eq!(continuity.follows(header(33, cc, true), false), lost == 0);
            }
        }
    }
}
