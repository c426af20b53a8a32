//! What is known of each PID that occurs: one small record each, found by one look into a table.

use std::time::Duration;

use crate::proto::mpegts::continuity::Counter;
use crate::proto::mpegts::packet::PIDS;
use crate::time::Instant;

use super::check::Repetition;

/// PIDs that are followed at the same time. Packets of more are counted, and not looked at.
pub const MAX_PIDS: usize = 255;
/// A PID that no table names is forgotten after so long without a packet.
const FORGET: Duration = Duration::from_secs(30);

/// What its packets are looked at for.
pub(super) mod watch {
    /// Tables.
    pub(in super::super) const PSI: u8 = 1;
    /// PCRs.
    pub(in super::super) const PCR: u8 = 1 << 1;
    /// Presence: a picture or a sound.
    pub(in super::super) const MEDIA: u8 = 1 << 2;
    /// PTSs.
    pub(in super::super) const PTS: u8 = 1 << 3;
    /// The beginning of the next PES packet, for metadata.
    pub(in super::super) const PROBE: u8 = 1 << 4;
    /// What follows on such a beginning.
    pub(in super::super) const COLLECT: u8 = 1 << 5;
    /// A table names it.
    pub(in super::super) const NAMED: u8 = 1 << 6;
}

/// One PID.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) pid: u16,
    pub(super) counter: Counter,
    /// Bits of [`watch`].
    pub(super) watch: u8,
    pub(super) continuity_errors: u32,
    pub(super) packets: u64,
    /// Of those, scrambled.
    pub(super) scrambled: u64,
    /// The packets at the beginning of the window.
    pub(super) window: u64,
    pub(super) bits_per_second: u64,
    /// When the newest packet came.
    pub(super) seen: Instant,
    pub(super) absent: Repetition,
    /// Since the newest PTS; `None`: none is awaited.
    pub(super) pts: Option<Repetition>,
}

/// All PIDs that occur: 8 kB, and 80 bytes each.
#[derive(Debug, Clone)]
pub(super) struct Pids {
    /// The place of each PID's slot, plus 1.
    index: Box<[u8; PIDS]>,
    slots: Vec<Slot>,
}

impl Pids {
    pub(super) fn new() -> Self {
        Self { index: Box::new([0; PIDS]), slots: Vec::new() }
    }

    /// The slot of a PID that is followed.
    #[inline]
    pub(super) fn find(&mut self, pid: u16) -> Option<&mut Slot> {
        let place = self.index[usize::from(pid) % PIDS];
        self.slots.get_mut(usize::from(place).wrapping_sub(1))
    }

    /// A slot for a PID, if there is room. One that a table names takes the place of one that none names.
    pub(super) fn add(&mut self, pid: u16, now: Instant, watch: u8) -> Option<&mut Slot> {
        if self.find(pid).is_some() {
            return self.find(pid);
        }
        if self.slots.len() == MAX_PIDS {
            let strange = self.slots.iter().position(|slot| slot.watch & watch::NAMED == 0);
            self.remove(strange.filter(|_| watch & watch::NAMED != 0)?);
        }
        self.slots.push(Slot {
            pid,
            counter: Counter::default(),
            watch,
            continuity_errors: 0,
            packets: 0,
            scrambled: 0,
            window: 0,
            bits_per_second: 0,
            seen: now,
            absent: Repetition::from(now),
            pts: None,
        });
        self.index[usize::from(pid) % PIDS] = self.slots.len() as u8;
        self.slots.last_mut()
    }

    /// Forget what no table names and nothing was heard of.
    pub(super) fn forget(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(slot) = self.slots.get(at) {
            if slot.watch & watch::NAMED == 0 && now.saturating_duration_since(slot.seen) >= FORGET {
                self.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let gone = self.slots.swap_remove(at);
        self.index[usize::from(gone.pid) % PIDS] = 0;
        if let Some(moved) = self.slots.get(at) {
            self.index[usize::from(moved.pid) % PIDS] = at as u8 + 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        PIDS + self.slots.capacity() * size_of::<Slot>()
    }
}
