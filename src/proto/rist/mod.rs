//! RIST.
#![allow(dead_code)]
mod clock;
mod extension;
mod gre;
mod nack;
pub mod psk;
mod rtt;
pub mod stats;
pub mod tunnel;
