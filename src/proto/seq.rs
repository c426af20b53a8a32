//! Sequence numbers and media time that wrap.
