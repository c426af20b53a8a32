//! The status documents as Prometheus text.
