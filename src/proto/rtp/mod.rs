//! RTP, RFC 3550, as it carries MPEG-TS (RFC 2250).

pub mod header;
pub mod receive;
mod reorder;
pub mod rtcp;
pub(in crate::proto) mod slots;
pub mod stats;
