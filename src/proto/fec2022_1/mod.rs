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
    let ((target, target_rest), (source, source_rest)) = (target.as_chunks_mut::<8>(), source.as_chunks::<8>());
    for (target, source) in target.iter_mut().zip(source) {
        *target = (u64::from_ne_bytes(*target) ^ u64::from_ne_bytes(*source)).to_ne_bytes();
    }
    let rest = target.get_mut(source.len()).map_or(target_rest, |word| word);
    rest.iter_mut().zip(source_rest).for_each(|(target, source)| *target ^= source);
}
