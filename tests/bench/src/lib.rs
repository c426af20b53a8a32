//! What the three programs of the benchmark share. `README.md` beside this says how it measures.
//!
//! - [`mark`]: what is in the datagrams: transport-stream packets that carry a sequence number and a time of sending.
//! - [`batch`]: recvmmsg and sendmmsg with UDP_SEGMENT and UDP_GRO; the only unsafe code.
//! - [`socket`]: UDP sockets on loopback, and lists of ports.
//! - [`clock`]: clocks, and sleep to the microsecond.
//! - [`histogram`]: percentiles of latencies.
//! - [`srt`]: just enough of it to be sent a stream.

pub mod batch;
pub mod clock;
pub mod histogram;
pub mod mark;
pub mod socket;
pub mod srt;
