//! The windows: events, logs, status, metrics.

pub mod alarm;
pub mod condition;
pub mod event;
pub mod feed;
pub mod http;
mod journal;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod snmp;
pub mod status;
mod stderr;
mod syslog;
pub mod text;
mod throttle;
