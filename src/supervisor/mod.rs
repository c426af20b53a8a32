//! The hall: plans become running flows.

pub mod control;
mod entry;
mod resolve;
pub mod service;
mod shard;
mod store;
pub mod watch;
