//! The newest media packets, copied, whatever order they came in: what XOR needs.

use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::proto::rtp::header::Header;
use crate::proto::rtp::receive::Tap;
use crate::proto::rtp::slots::{SlotId, Slots};
use crate::proto::seq::{ExtSeq, Seq};

/// Cells from the first packet on: enough for any matrix of the standard.
const CELLS: usize = 512;

/// In a cell that was never used: no stream's packet comes so far before its first.
const NOWHERE: ExtSeq = ExtSeq::start(Seq(0)).sub(1 << 16);

/// What is known of one sequence number.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cell {
    seq: ExtSeq,
    packet: Option<SlotId>,
    /// When it came, or was first seen to be missing. `None`: neither yet.
    at: Option<Instant>,
    /// The FEC sets that wait for it: column, row. 0: none.
    sets: [u32; 2],
    /// The review that takes it for present.
    assumed: u32,
}

/// A ring of cells around the newest packet: three quarters behind it, one quarter ahead for FEC that comes early.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    /// A power of two of them, or none.
    cells: Vec<Cell>,
    slots: Slots,
    /// The first and the newest packet of this stream.
    ends: Option<(ExtSeq, ExtSeq)>,
    ssrc: u32,
    /// Came, or were seen to be missing, since [`Self::take_news`].
    news: Vec<ExtSeq>,
    restarted: bool,
}

impl History {
    pub(super) fn newest(&self) -> Option<ExtSeq> {
        self.ends.map(|(_, newest)| newest)
    }

    pub(super) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Cells: what bounds the packets kept.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether the ring has room for this one, as things stand.
    pub(super) fn covers(&self, seq: ExtSeq) -> bool {
        let len = self.cells.len() as u64;
        self.newest().is_some_and(|newest| newest.since(seq) < len - len / 4 && seq.since(newest) < len / 4)
    }

    /// Make room for sets that reach over `span` packets: what is needed of them spans twice as many.
    pub(super) fn fit(&mut self, span: u16) {
        let len = (usize::from(span) * 4).next_power_of_two();
        if self.cells.is_empty() || len <= self.cells.len() {
            return;
        }
        let old = std::mem::replace(&mut self.cells, vec![Cell::new(NOWHERE); len]);
        for cell in old.into_iter().filter(|cell| cell.seq != NOWHERE) {
            self.cells[cell.seq.value() as usize & (len - 1)] = cell;
        }
    }

    pub(super) fn has(&self, seq: ExtSeq) -> bool {
        self.cell(seq).is_some_and(|cell| cell.packet.is_some())
    }

    pub(super) fn packet(&self, seq: ExtSeq) -> Option<&[u8]> {
        self.cell(seq)?.packet.map(|slot| self.slots.packet(slot))
    }

    /// When it came, or was first seen to be missing.
    pub(super) fn at(&self, seq: ExtSeq) -> Option<Instant> {
        self.cell(seq)?.at
    }

    /// The FEC sets that wait for it: column, row.
    pub(super) fn sets(&self, seq: ExtSeq) -> [u32; 2] {
        self.cell(seq).map_or([0; 2], |cell| cell.sets)
    }

    /// A FEC set waits for this one, which [`Self::covers`].
    pub(super) fn link(&mut self, seq: ExtSeq, stream: usize, set: u32) {
        self.claim(seq).sets[stream] = set;
    }

    pub(super) fn assume(&mut self, seq: ExtSeq, review: u32) {
        self.claim(seq).assumed = review;
    }

    pub(super) fn assumed(&self, seq: ExtSeq, review: u32) -> bool {
        self.cell(seq).is_some_and(|cell| cell.assumed == review)
    }

    /// Keep a packet.
    pub(super) fn keep(&mut self, at: Instant, seq: ExtSeq, packet: &[u8], header: &Header) {
        if !self.covers(seq) || self.has(seq) {
            return;
        }
        let slot = self.slots.store(packet, header);
        let cell = self.claim(seq);
        (cell.packet, cell.at) = (slot, Some(at));
        self.news.push(seq);
    }

    /// The time that the newest `packets` took, extrapolated when there were not so many.
    pub(super) fn span(&self, packets: u16) -> Option<Duration> {
        let (first, newest) = self.ends?;
        let known = newest.since(first).min(u64::from(packets));
        let from = self.at(newest.sub(known))?;
        let span = self.at(newest)?.saturating_duration_since(from);
        Some(span * u32::from(packets) / u32::try_from(known).ok().filter(|known| *known > 0)?)
    }

    /// Whether the stream began anew since the last call.
    pub(super) const fn take_restart(&mut self) -> bool {
        std::mem::replace(&mut self.restarted, false)
    }

    /// Which came, or were seen to be missing, since the last call. Give the list back to [`Self::news_read`].
    pub(super) fn take_news(&mut self) -> Vec<ExtSeq> {
        std::mem::take(&mut self.news)
    }

    /// Keep the list's memory.
    pub(super) fn news_read(&mut self, mut list: Vec<ExtSeq>) {
        list.clear();
        self.news = list;
    }

    fn cell(&self, seq: ExtSeq) -> Option<&Cell> {
        let mask = self.cells.len().wrapping_sub(1);
        self.cells.get(seq.value() as usize & mask).filter(|cell| cell.seq == seq)
    }

    /// The cell of a sequence number; what it held of another is forgotten. Not before the first packet.
    fn claim(&mut self, seq: ExtSeq) -> &mut Cell {
        let mask = self.cells.len() - 1;
        let cell = &mut self.cells[seq.value() as usize & mask];
        if cell.seq != seq {
            if let Some(slot) = cell.packet {
                self.slots.discard(slot);
            }
            *cell = Cell::new(seq);
        }
        cell
    }
}

impl Tap for History {
    fn joined(&mut self, arrival: Instant, seq: ExtSeq, packet: &[u8], header: &Header) {
        if self.cells.is_empty() {
            self.cells = vec![Cell::new(NOWHERE); CELLS];
        }
        let (first, newest) = *self.ends.get_or_insert((seq, seq));
        if seq > newest {
            self.ends = Some((first, seq));
            let len = self.cells.len() as u64;
            for back in (1..seq.since(newest).min(len - len / 4)).rev() {
                let missing = seq.sub(back);
                self.claim(missing).at = Some(arrival);
                self.news.push(missing);
            }
        }
        self.ssrc = header.ssrc;
        self.keep(arrival, seq, packet, header);
    }

    fn restarted(&mut self) {
        for cell in &mut self.cells {
            if let Some(slot) = cell.packet {
                self.slots.discard(slot);
            }
            *cell = Cell::new(NOWHERE);
        }
        self.ends = None;
        self.news.clear();
        self.restarted = true;
    }
}

impl Cell {
    const fn new(seq: ExtSeq) -> Self {
        Self { seq, packet: None, at: None, sets: [0; 2], assumed: 0 }
    }
}
