//! The reload contract, point by point, and all of it at once on many flows under traffic.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

#[path = "reload/files.rs"]
mod files;
#[path = "reload/keys.rs"]
mod keys;
#[path = "reload/operator.rs"]
mod operator;
#[path = "reload/restart.rs"]
mod restart;
#[path = "reload/rig.rs"]
mod rig;
#[path = "reload/settings.rs"]
mod settings;
#[path = "reload/soak.rs"]
mod soak;
