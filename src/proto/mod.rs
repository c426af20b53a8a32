//! The workshops: protocols as deterministic state machines. No sockets, no clock, no logging; time is an argument.

pub mod hitless;
pub mod mpegts;
pub mod rtp;
pub mod seq;
