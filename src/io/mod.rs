//! The wiring: sockets in batches, readiness, precise timers. The only room with unsafe code.
//!
//! The control plane opens sockets ([`open`], [`links`]) and hands them to a shard, whose one thread waits for all of
//! them ([`reactor`]) and reads and writes them in batches ([`batch`]).

pub mod batch;
pub mod clock;
pub mod endpoint;
pub mod fdstore;
pub mod links;
pub mod multicast;
pub mod open;
pub mod peer;
pub mod reactor;
mod sys;
#[cfg(test)]
mod testing;
pub mod thread;
mod timers;
