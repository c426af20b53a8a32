//! The back door: `mediaconnectctl`.
