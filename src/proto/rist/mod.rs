//! RIST.
