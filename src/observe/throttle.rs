//! Holds back floods of the same line: per kind, flow and part a token bucket, and the last line held is shown later.

use crate::time::Instant;
use std::collections::HashMap;
use std::time::Duration;

use super::log::Record;

/// Lines that pass at once.
const BURST: f64 = 5.0;
/// One more passes each of these.
const REFILL: Duration = Duration::from_secs(2);

/// Event's name, flow, and what else tells it from others.
pub(super) type Key = (&'static str, Option<String>, String);

struct Bucket {
    tokens: f64,
    filled: Instant,
    held: u64,
    last: Option<Record>,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() / REFILL.as_secs_f64();
        self.tokens = (self.tokens + gained).min(BURST);
        self.filled = now;
    }

    /// Lets `record` pass, with what was held before it.
    fn release(&mut self, mut record: Record) -> Record {
        self.tokens -= 1.0;
        if self.held > 0 {
            record.message.push_str(&format!(" ({} more like it before, held back)", self.held));
        }
        self.held = 0;
        self.last = None;
        record
    }
}

/// All buckets that are not full.
#[derive(Default)]
pub(super) struct Throttle {
    buckets: HashMap<Key, Bucket>,
}

impl Throttle {
    /// The record, if it may pass now; else it is held, and `sweep` returns the last one held.
    pub(super) fn admit(&mut self, key: Key, record: Record, now: Instant) -> Option<Record> {
        let new = || Bucket { tokens: BURST, filled: now, held: 0, last: None };
        let bucket = self.buckets.entry(key).or_insert_with(new);
        bucket.refill(now);
        if bucket.tokens >= 1.0 {
            return Some(bucket.release(record));
        }
        // The one held before counts as "more like it" once another takes its place.
        bucket.held += u64::from(bucket.last.replace(record).is_some());
        None
    }

    /// Records held whose time has come; forgets what is at rest. To be called about once a second.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Record> {
        let mut due = Vec::new();
        self.buckets.retain(|_, bucket| {
            bucket.refill(now);
            if bucket.tokens >= 1.0
                && let Some(record) = bucket.last.take()
            {
                due.push(bucket.release(record));
            }
            bucket.tokens < BURST
        });
        due
    }

    /// All that is held, at the end.
    pub(super) fn drain(&mut self) -> Vec<Record> {
        self.buckets.drain().filter_map(|(_, mut bucket)| bucket.last.take().map(|last| bucket.release(last))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(flow: &str) -> Key {
        ("source-lost", Some(flow.to_owned()), "a".to_owned())
    }

    fn record(text: &str) -> Record {
        Record::new(tracing::Level::INFO, "t", text.to_owned())
    }

    #[test]
    fn five_pass_then_the_flood_is_held_and_its_last_line_shown_with_the_count() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        for n in 0..5 {
            assert!(throttle.admit(key("news"), record(&n.to_string()), t0).is_some());
        }
        for n in 5..15 {
            assert!(throttle.admit(key("news"), record(&n.to_string()), t0).is_none());
        }
        assert!(throttle.sweep(t0 + Duration::from_secs(1)).is_empty());
        let shown = throttle.sweep(t0 + Duration::from_secs(2));
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].message, "14 (9 more like it before, held back)");
    }

    #[test]
    fn at_the_end_nothing_stays_held() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        for n in 0..7 {
            throttle.admit(key("news"), record(&n.to_string()), t0);
        }
        assert_eq!(throttle.drain()[0].message, "6 (1 more like it before, held back)");
        assert!(throttle.drain().is_empty());
    }

    #[test]
    fn a_flood_of_one_flow_holds_no_other_back() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            throttle.admit(key("news"), record("x"), t0);
        }
        assert!(throttle.admit(key("sport"), record("x"), t0).is_some());
    }

    #[test]
    fn buckets_at_rest_are_forgotten() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        for n in 0..1000 {
            throttle.admit(key(&n.to_string()), record("x"), t0);
        }
        throttle.sweep(t0 + REFILL);
        assert!(throttle.buckets.is_empty());
    }
}
