//! The wiring: sockets in batches, readiness, precise timers. The only room with unsafe code.

pub mod batch;
pub mod clock;
pub mod links;
pub mod multicast;
pub mod open;
pub mod peer;
pub mod reactor;
mod sys;
