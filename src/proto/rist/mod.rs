//! RIST.
#![allow(dead_code)]
mod extension;
mod nack;
mod gre;
mod psk;
