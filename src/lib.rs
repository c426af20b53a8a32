//! mediaconnect: relays live MPEG-TS, one TOML file a flow.
//!
//! The map of the house, in the order a change and a packet walk it:
//!
//! - [`config`]: the front door. What the operator wrote becomes what we will run: raw → plan → diff.
//! - [`supervisor`]: the hall. Plans become running flows; triggers, commands and time change them.
//! - [`flow`]: the corridor. Files in the order a packet walks: receive, ingest, deliver.
//! - [`proto`]: the workshops. Protocols as deterministic state machines without I/O.
//! - [`content`]: the projection room. Pictures and sound, looked at by a helper that touches nothing here.
//! - [`io`]: the wiring. Sockets in batches, precise timers; the only unsafe room.
//! - [`observe`]: the windows. Events, logs, status, metrics, HTTP.
//! - [`audit`]: the ledger. Who changed what, in a chain that shows where it was tampered with.
//! - [`cli`]: the back door. `mediaconnectctl`.

#![warn(clippy::unwrap_used)]

pub mod audit;
pub mod cli;
pub mod config;
pub mod content;
pub mod flow;
pub mod io;
pub mod observe;
pub mod proto;
pub mod supervisor;
pub mod time;
