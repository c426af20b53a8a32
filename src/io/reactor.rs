//! Readiness and precise timers of one shard.
