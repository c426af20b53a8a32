//! Buffers and headers reused from batch to batch.
