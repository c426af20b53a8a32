//! The serde model: what is written, with spans; nothing is decided here.
