//! The hall: plans become running flows.

pub mod control;
pub mod service;
pub mod watch;
