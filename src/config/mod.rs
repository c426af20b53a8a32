//! The front door: what the operator wrote becomes what we will run.

pub mod claims;
mod compile;
pub mod diagnostic;
pub mod diff;
pub mod plan;
mod raw;
pub mod schema;
mod source;
pub mod value;
