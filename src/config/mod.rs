//! The front door: what the operator wrote becomes what we will run.
//!
//! A file's bytes are read key by key against one table of keys, become a plan together with the secrets it names, and the
//! plans of all flows are weighed against each other: two cannot have the same port. Nothing is looked up on the network
//! or the interfaces; the same files always give the same answer.

mod alarms;
mod claims;
mod compile;
mod daemon;
pub mod diagnostic;
pub mod diff;
mod host;
mod key_file;
mod keys;
mod load;
pub mod plan;
pub(crate) mod ports;
pub mod schema;
pub mod secrets;
mod section;
mod source;
#[cfg(test)]
pub(crate) mod testing;
pub mod value;

pub use load::{
    Context, FlowFile, Loaded, SubscriberFile, load, load_settings, parse_flow, parse_subscriber, read_file,
};
