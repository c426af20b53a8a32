//! A network for the tests of protocols: seeded, in virtual time.
//!
//! Everything happens at microseconds of one true time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::rtp::receive::tests::Random;

/// Microseconds of a millisecond, and of a second.
pub(super) const MS: u64 = 1000;
pub(super) const S: u64 = 1_000_000;
/// With rate limits: what would wait longer is dropped.
const QUEUE: u64 = 200 * MS;
/// Headers of IPv4 and UDP.
const HEADERS: u64 = 28;

/// How packets get lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loss {
    None,
    /// So many of a thousand, each by itself.
    Random(u64),
    /// Gilbert and Elliott: bursts in which everything is lost, so many milliseconds apart, and so many long, both on
    /// average.
    Bursts(u64, u64),
}

/// What one direction does to packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    /// Microseconds from end to end.
    pub(super) delay: u64,
    /// Up to so many more, each packet by itself, but none overtakes.
    pub(super) jitter: u64,
    pub(super) loss: Loss,
    /// Of a thousand, so many come twice.
    pub(super) duplicates: u64,
    /// Of a thousand, so many come up to 10 ms later than others after them.
    pub(super) reordered: u64,
    /// Bytes a second, if there is a limit; up to 200 ms wait.
    pub(super) rate: Option<u64>,
}

impl Path {
    /// Nothing but this delay in milliseconds.
    pub(super) const fn of(delay: u64) -> Self {
        Self { delay: delay * MS, jitter: 0, loss: Loss::None, duplicates: 0, reordered: 0, rate: None }
    }

    pub(super) const fn losing(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }
}

/// One direction, and the datagrams on their way.
pub(super) struct Link<T> {
    pub(super) path: Path,
    random: Random,
    bursting: bool,
    /// When that changes.
    turns: u64,
    /// When, in what order, and what.
    travelling: BinaryHeap<Reverse<(u64, u64, T)>>,
    sent: u64,
    last: u64,
    free_at: u64,
}

impl<T: Ord + Clone> Link<T> {
    pub(super) fn new(path: Path, seed: u64) -> Self {
        let random = Random(seed << 8 | 1);
        Self { path, random, bursting: false, turns: 0, travelling: BinaryHeap::new(), sent: 0, last: 0, free_at: 0 }
    }

    fn loses(&mut self, now: u64) -> bool {
        match self.path.loss {
            Loss::None => false,
            Loss::Random(of_thousand) => self.random.below(1000) < of_thousand,
            Loss::Bursts(apart, long) => {
                while self.turns <= now {
                    self.bursting = !self.bursting && self.turns > 0;
                    let mean = if self.bursting { long } else { apart } * MS;
                    self.turns += self.exponential(mean);
                }
                self.bursting
            }
        }
    }

    fn exponential(&mut self, mean: u64) -> u64 {
        let uniform = (self.random.below(1 << 30) + 1) as f64 / (1_u64 << 30) as f64;
        (uniform.ln() * -(mean as f64)) as u64 + 1
    }

    /// A datagram of so many bytes.
    pub(super) fn send(&mut self, now: u64, length: usize, datagram: T) {
        if self.loses(now) {
            return;
        }
        let mut leaves = now;
        if let Some(rate) = self.path.rate {
            leaves = self.free_at.max(now);
            if leaves > now + QUEUE {
                return;
            }
            leaves += (length as u64 + HEADERS) * S / rate;
            self.free_at = leaves;
        }
        let jitter = self.random.below(self.path.jitter + 1);
        let at = (leaves + self.path.delay + jitter).max(self.last);
        if self.random.below(1000) < self.path.reordered {
            let late = self.random.below(10 * MS);
            self.travel(at + late, datagram.clone());
        } else {
            self.last = at;
            self.travel(at, datagram.clone());
        }
        if self.random.below(1000) < self.path.duplicates {
            let late = self.random.below(5 * MS);
            self.travel(at + late, datagram);
        }
    }

    fn travel(&mut self, at: u64, datagram: T) {
        self.sent += 1;
        self.travelling.push(Reverse((at, self.sent, datagram)));
    }

    /// When the next one arrives.
    pub(super) fn next(&self) -> u64 {
        self.travelling.peek().map_or(u64::MAX, |Reverse((at, ..))| *at)
    }

    /// One that has arrived by now, and when.
    pub(super) fn arrived(&mut self, now: u64) -> Option<(u64, T)> {
        self.travelling.peek().filter(|Reverse((at, ..))| *at <= now)?;
        self.travelling.pop().map(|Reverse((at, _, datagram))| (at, datagram))
    }
}
