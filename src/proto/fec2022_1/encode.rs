//! Sending: the FEC packets of an outgoing RTP stream. Without I/O and without time.
//!
//! Blocks of L x D packets follow each other. A row's FEC packet is ready with its last packet. The columns of a block
//! are sent during the next one, a column every D packets, and never two FEC packets after one media packet: no burst
//! is added.

use super::header::{FEC_LEN, FecHeader, FecStream, Parity};
use super::matrix::Matrix;
use super::xor;
use crate::proto::rtp::header::FIXED_LEN;
use crate::proto::seq::{RtpTime, Seq};
use serde::{Deserialize, Serialize};

/// The FEC packets of one stream.
#[derive(Debug, Serialize, Deserialize)]
pub struct Encoder {
    matrix: Matrix,
    /// Columns of the block that is being filled, then those of the block before.
    columns: [Vec<Set>; 2],
    /// How many columns of the block before are sent; all of them: none waits.
    columns_sent: u8,
    /// How many of them may be sent by now.
    columns_due: u8,
    row: Set,
    row_ready: bool,
    /// Packets in the block that is being filled.
    filled: u16,
    /// SSRC and sequence number of the newest packet.
    last: Option<(u32, Seq)>,
    timestamp: RtpTime,
    /// Of the next FEC packet of each stream.
    seqs: [Seq; 2],
    /// One FEC packet has followed the newest media packet.
    sent: bool,
}

/// A row or column as far as it has gone, laid out as the packet that goes out.
#[derive(Debug, Serialize, Deserialize)]
struct Set {
    base: Seq,
    parity: Parity,
    #[serde(with = "serde_bytes")]
    packet: Vec<u8>,
}

impl Encoder {
    /// An encoder whose two FEC streams begin with the sequence numbers `first` (column, row).
    pub fn new(matrix: Matrix, first: [Seq; 2]) -> Self {
        let columns = || (0..matrix.columns()).map(|_| Set::new()).collect();
        Self {
            matrix,
            columns: [columns(), columns()],
            columns_sent: matrix.columns(),
            columns_due: 0,
            row: Set::new(),
            row_ready: false,
            filled: 0,
            last: None,
            timestamp: RtpTime(0),
            seqs: first,
            sent: false,
        }
    }

    /// The matrix it was made with.
    pub const fn matrix(&self) -> Matrix {
        self.matrix
    }

    /// Take the RTP packet that goes out now: its fixed header, and all that follows it. Then ask
    /// [`Self::poll_transmit`]. Another SSRC, or a sequence number that does not follow on the last, begins a new block;
    /// rows and columns that are incomplete are dropped then.
    pub fn push(&mut self, fixed: &[u8; FIXED_LEN], rest: &[u8]) {
        let [_, _, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *fixed;
        let (seq, ssrc) = (Seq(u16::from_be_bytes([s0, s1])), u32::from_be_bytes([r0, r1, r2, r3]));
        // UDP carries no more than 16 bits say.
        let Ok(length) = u16::try_from(rest.len()) else { return };
        if self.last != Some((ssrc, Seq(seq.0.wrapping_sub(1)))) {
            self.filled = 0;
            if self.last.is_some_and(|(last, _)| last != ssrc) {
                self.columns_sent = self.matrix.columns();
            }
        }
        self.last = Some((ssrc, seq));
        self.timestamp = RtpTime(u32::from_be_bytes([t0, t1, t2, t3]));
        (self.sent, self.row_ready) = (false, false);

        let (l, d) = (u16::from(self.matrix.columns()), u16::from(self.matrix.rows()));
        if self.filled == 0 {
            self.columns_due = self.columns_sent;
        }
        let (row, column) = (self.filled / l, self.filled % l);
        if self.filled.is_multiple_of(d) && self.columns_due < self.matrix.columns() {
            self.columns_due += 1;
        }
        let parity = Parity::of(fixed, length);
        self.columns[0][usize::from(column)].add(row == 0, seq, parity, rest);
        if self.matrix.row_stream() {
            self.row.add(column == 0, seq, parity, rest);
            self.row_ready = column + 1 == l;
        }
        self.filled += 1;
        if self.filled == l * d {
            self.filled = 0;
            self.columns.swap(0, 1);
            (self.columns_sent, self.columns_due) = (0, 0);
        }
    }

    /// The FEC packet that is to follow the newest media packet, whole, and its stream; then `None` until the next
    /// [`Self::push`]. A row's that is not taken before is lost.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<(FecStream, &[u8])> {
        if std::mem::replace(&mut self.sent, true) {
            return None;
        }
        let (l, d) = (self.matrix.columns(), self.matrix.rows());
        let (stream, offset, na, set) = if self.row_ready {
            (FecStream::Row, 1, l, &mut self.row)
        } else if self.columns_sent < self.columns_due {
            self.columns_sent += 1;
            (FecStream::Column, l, d, &mut self.columns[1][usize::from(self.columns_sent) - 1])
        } else {
            return None;
        };
        let seq = &mut self.seqs[stream as usize];
        let header =
            FecHeader { stream, seq: *seq, timestamp: self.timestamp, base: set.base, offset, na, parity: set.parity };
        *seq = seq.add(1);
        set.packet[..FEC_LEN].copy_from_slice(&header.write());
        Some((stream, &set.packet))
    }
}

impl Set {
    /// With room for an Ethernet frame's worth.
    fn new() -> Self {
        Self { base: Seq(0), parity: Parity::default(), packet: Vec::with_capacity(1536) }
    }

    /// Add a member.
    fn add(&mut self, first: bool, seq: Seq, parity: Parity, rest: &[u8]) {
        if first {
            self.base = seq;
            self.parity = Parity::default();
            self.packet.clear();
            self.packet.resize(FEC_LEN, 0);
        }
        self.parity.fold(parity);
        let (same, more) = rest.split_at(rest.len().min(self.packet.len() - FEC_LEN));
        xor(&mut self.packet[FEC_LEN..], same);
        self.packet.extend_from_slice(more);
    }
}

#[cfg(test)]
mod tests;
