//! Datagrams in batches: one system call for many, buffers and headers reused from batch to batch.

mod receive;
mod send;
mod target;
#[cfg(test)]
mod tests;

pub use receive::{Datagram, ReceiveBatch, Received};
pub use send::{Outcome, Report, SendBatch, Session, TrainLimit, Trains};
pub use target::{SendError, Target};
