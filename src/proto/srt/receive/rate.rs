//! How fast packets arrive, for acknowledgements and status: nothing is decided by it.

use serde::{Deserialize, Serialize};

use crate::proto::srt::clock::{SECOND, Tick};

/// What is counted is made into a rate after so long.
const SPAN: i64 = SECOND / 2;
/// Pairs whose median tells what the path carries.
const PAIRS: usize = 16;

/// Rates of what arrives.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Rate {
    since: Option<Tick>,
    packets: u32,
    bytes: u64,
    packet_rate: u32,
    byte_rate: u32,
    /// When the first of a pair came.
    pair: Option<Tick>,
    /// Microseconds between the packets of the last pairs; 0 is none.
    gaps: [u32; PAIRS],
    next: u8,
}

impl Rate {
    /// A packet came, with its number: senders let every 16th and the one after it follow on each other.
    pub(super) fn arrived(&mut self, at: Tick, seq: u64, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        match seq % 16 {
            0 => self.pair = Some(at),
            1 => {
                let gap = self.pair.take().map(|first| at.since(first));
                // Those that were read together have the same stamp, which says nothing.
                if let Some(gap) = gap.and_then(|gap| u32::try_from(gap).ok()).filter(|gap| *gap > 0) {
                    self.gaps[usize::from(self.next)] = gap;
                    self.next = (self.next + 1) % PAIRS as u8;
                }
            }
            _ => self.pair = None,
        }
    }

    /// Packets and bytes a second.
    pub(super) fn received(&mut self, now: Tick) -> (u32, u32) {
        let since = *self.since.get_or_insert(now);
        let span = now.since(since);
        if span >= SPAN {
            let rate = |count: u64| u32::try_from(count * SECOND as u64 / span.unsigned_abs()).unwrap_or(u32::MAX);
            (self.packet_rate, self.byte_rate) = (rate(self.packets.into()), rate(self.bytes));
            (self.since, self.packets, self.bytes) = (Some(now), 0, 0);
        }
        (self.packet_rate, self.byte_rate)
    }

    /// Packets a second that the path carries; 0: not known.
    pub(super) fn capacity(&self) -> u32 {
        let mut gaps = self.gaps;
        gaps.sort_unstable();
        let known = &gaps[gaps.partition_point(|gap| *gap == 0)..];
        known.get(known.len() / 2).map_or(0, |gap| SECOND as u32 / gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_half_second() {
        let mut rate = Rate::default();
        assert_eq!(rate.received(Tick(0)), (0, 0));
        for n in 0..500 {
            rate.arrived(Tick(n * 1000), n as u64, 100);
        }
        assert_eq!(rate.received(Tick(499_000)), (0, 0), "not yet");
        assert_eq!(rate.received(Tick(500_000)), (1000, 100_000));
        assert_eq!(rate.received(Tick(1_000_000)), (0, 0));
    }

    #[test]
    fn the_path_is_measured_by_pairs_that_came_whole() {
        let mut rate = Rate::default();
        assert_eq!(rate.capacity(), 0);
        for n in 0..20 {
            let at = Tick(n * 20_000);
            rate.arrived(at, n as u64 * 16, 1316);
            match n % 4 {
                0 => rate.arrived(at, n as u64 * 16 + 1, 1316),
                1 => rate.arrived(at.add(50), n as u64 * 16 + 2, 1316),
                _ => rate.arrived(at.add(100), n as u64 * 16 + 1, 1316),
            }
        }
        assert_eq!(rate.capacity(), 10_000);
    }
}
