//! SMPTE ST 2022-1: forward error correction of MPEG-TS in RTP, by exclusive or over a matrix of L columns and D rows.
//!
//! The stream's packets fill the matrix row by row. Each column, and optionally each row, has a FEC packet: the XOR of
//! its members. One missing member of a set is the XOR of the FEC packet and of the others.

pub mod decode;
pub mod encode;
pub mod header;
mod history;
pub mod matrix;
mod review;
mod sets;
mod streams;
#[cfg(test)]
mod testing;

/// XOR `source` into the front of `target`, which is at least as long.
fn xor(target: &mut [u8], source: &[u8]) {
    target.iter_mut().zip(source).for_each(|(target, source)| *target ^= source);
}
