//! Joins and leaves by interface index.
