//! The back door: `mediaconnectctl`.

pub mod check;
pub mod schema;
