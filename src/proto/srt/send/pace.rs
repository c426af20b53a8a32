//! How fast data may leave: a rate for everything (libsrt's LiveCC), trains of a few packets, and a budget for what is
//! sent again.

use serde::{Deserialize, Serialize};

use crate::proto::srt::clock::{MILLISECOND, SECOND, Tick};

/// Bytes of headers of a data packet: IPv4, UDP, SRT.
const HEADERS: u64 = 44;
/// So much time is made up for: a host that looks seldom still reaches the rate.
const MOST_DEBT: i64 = 10 * MILLISECOND * 1000;
/// Packets a second that may be sent again in any case: the end of a stream, too, gets repaired.
const LEAST_AGAIN: i64 = 100;
/// Packets that may be sent again at once in any case.
const LEAST_BURST: i64 = 64;
/// What the budget is counted in: hundredths of a packet.
const PACKET: i64 = 100;

/// When the next packet may leave, in nanoseconds of the connection's clock.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Nanoseconds a byte takes, times 2^16.
    per_byte: u64,
    next: i64,
    train: u16,
    left: u16,
}

impl Pace {
    /// `rate`: bits a second, headers included.
    pub(super) fn new(rate: u64, train: u16) -> Self {
        let per_byte = ((8 * 1_000_000_000) << 16) / rate.max(8000);
        Self { per_byte, next: 0, train: train.max(1), left: train.max(1) }
    }

    /// Whether a packet may leave now. `false` at the end of a train: the next question begins another one.
    pub(super) const fn allows(&mut self, now: Tick) -> bool {
        if self.next > now.0.saturating_mul(1000) {
            return false;
        }
        if self.left == 0 {
            self.left = self.train;
            return false;
        }
        true
    }

    /// A packet leaves.
    pub(super) fn sent(&mut self, now: Tick, bytes: usize) {
        let cost = (bytes as u64 + HEADERS).saturating_mul(self.per_byte) >> 16;
        let earliest = now.0.saturating_mul(1000) - MOST_DEBT;
        self.next = self.next.max(earliest).saturating_add(cost.cast_signed());
        self.left -= 1;
    }

    /// Nothing more is to be sent for now.
    pub(super) const fn rest(&mut self) {
        self.left = self.train;
    }

    /// When the next packet may leave.
    pub(super) const fn due(&self) -> Tick {
        Tick(self.next.div_euclid(1000)).add((self.next.rem_euclid(1000) > 0) as i64)
    }
}

/// How much may be sent again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Budget {
    /// Packets that may be sent again for each hundred sent for the first time.
    percent: i64,
    tokens: i64,
    at: Tick,
}

impl Budget {
    pub(super) const fn new(percent: u32) -> Self {
        Self { percent: percent as i64, tokens: LEAST_BURST * PACKET, at: Tick(0) }
    }

    /// A packet leaves for the first time.
    pub(super) const fn earn(&mut self) {
        self.tokens += self.percent;
    }

    /// Whether so many packets may be sent again now. So many may at once as are in flight: what an interruption of a round trip
    /// has cost.
    pub(super) fn allows(&mut self, now: Tick, in_flight: u64, packets: i64) -> bool {
        let most = LEAST_BURST.max(i64::try_from(in_flight).unwrap_or(i64::MAX / PACKET)) * PACKET;
        let earned = now.since(self.at).clamp(0, SECOND) * LEAST_AGAIN * PACKET / SECOND;
        if earned > 0 {
            (self.tokens, self.at) = (self.tokens + earned, now);
        }
        self.tokens = self.tokens.min(most);
        self.tokens >= packets * PACKET
    }

    /// A packet is sent again.
    pub(super) const fn spend(&mut self) {
        self.tokens -= PACKET;
    }

    /// When a packet may be sent again, if nothing else is earned.
    pub(super) const fn due(&self) -> Tick {
        let missing = PACKET - self.tokens;
        if missing <= 0 { self.at } else { self.at.add(missing * SECOND / (LEAST_AGAIN * PACKET) + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its headers 1250: 10 us at 1 Gbit/s.
    const BYTES: usize = 1250 - HEADERS as usize;

    #[test]
    fn the_rate_is_kept_whoever_asks_and_however_seldom() {
        for every in [1, 100, 5000] {
            let mut pace = Pace::new(1_000_000_000, 16);
            let mut sent = 0;
            for now in (1_000_000..2_000_000).step_by(every).map(Tick) {
                // Twice: the end of a train is not that of what is allowed.
                let mut refused = 0;
                while refused < 2 {
                    if pace.allows(now) {
                        pace.sent(now, BYTES);
                        (sent, refused) = (sent + 1, 0);
                    } else {
                        refused += 1;
                    }
                }
            }
            // And what 10 ms of standing still allow.
            assert!((100_000 - 500..=101_000).contains(&sent), "{sent} in a second, asked every {every} us");
        }
    }

    #[test]
    fn a_train_ends_after_its_packets() {
        let mut pace = Pace::new(1_000_000_000, 4);
        let now = Tick(1_000_000);
        let mut take = |most: usize| {
            let mut taken = 0;
            while taken < most && pace.allows(now) {
                pace.sent(now, BYTES);
                taken += 1;
            }
            if taken == most {
                pace.rest();
            }
            taken
        };
        assert_eq!([take(10), take(10), take(3), take(10)], [4, 4, 3, 4]);
    }

    #[test]
    fn it_says_when_a_packet_may_leave() {
        let mut pace = Pace::new(8 * 1250 * 1000, 100);
        let now = Tick(5_000_000);
        while pace.allows(now) {
            pace.sent(now, BYTES);
        }
        assert_eq!(pace.due(), now.add(1000), "a packet takes a millisecond");
        assert!(!pace.allows(pace.due().add(-1)) && pace.allows(pace.due()));
    }

    #[test]
    fn what_is_sent_again_is_a_share_of_what_is_sent_and_bursts_are_as_long_as_what_is_in_flight() {
        let mut budget = Budget::new(50);
        let spend = |budget: &mut Budget, now, in_flight| {
            let mut spent = 0;
            while budget.allows(now, in_flight, 1) {
                budget.spend();
                spent += 1;
            }
            spent
        };
        assert_eq!(spend(&mut budget, Tick(0), 0), 64);
        (0..1000).for_each(|_| budget.earn());
        assert_eq!(spend(&mut budget, Tick(0), 300), 300, "the rest is forgotten");
        (0..1000).for_each(|_| budget.earn());
        assert_eq!(spend(&mut budget, Tick(0), 10_000), 500);
        assert_eq!(budget.due(), Tick(10_001), "a hundred a second in any case");
        assert!(!budget.allows(Tick(9_900), 0, 1) && budget.allows(Tick(10_001), 0, 1));
        assert_eq!(spend(&mut budget, Tick(10 * SECOND), 0), 64);
    }
}
