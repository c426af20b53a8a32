//! The corridor: files in the order a packet walks.

pub mod stats;
