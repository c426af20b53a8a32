//! The workshops: protocols as deterministic state machines. No sockets, no clock, no logging; time is an argument.

pub mod cissa;
pub mod fec2022_1;
pub mod hitless;
pub mod mpegts;
#[cfg(test)]
mod netem;
pub mod rist;
pub mod rtp;
pub mod seq;
pub mod srt;
