//! Sections (ISO/IEC 13818-1, section 2.4.4.1): put together from the payloads of their packets.

use super::{SI_PIDS, is_free, length, pid};
use crate::proto::mpegts::packet::PacketHeader;

/// The longest section of PAT, PMT, CAT, NIT and SDT, with its header. Of a longer one (EIT), only the CRC is checked.
const KEPT: usize = 1024;
/// The longest section of any table.
const LONGEST: usize = 4096;
/// PIDs whose sections may be incomplete at the same time; of more, the oldest is dropped.
const PENDING: usize = 4;

/// A section with the long header, without its CRC.
#[derive(Debug, Clone, Copy)]
pub struct Section<'s> {
    /// `table_id`.
    pub table: u8,
    /// `transport_stream_id`, `program_number`, or what else the table puts there.
    pub extension: u16,
    /// 5 bits.
    pub version: u8,
    /// In force already.
    pub current: bool,
    /// Which section of the table it is.
    pub number: u8,
    /// The number of the table's last section.
    pub last: u8,
    /// What follows on the header.
    pub body: &'s [u8],
    /// As it was sent.
    pub crc: u32,
}

impl<'s> Section<'s> {
    /// Read a whole section. `None`: it is too short, has no long header, or has a number above its last.
    pub(super) fn read(bytes: &'s [u8]) -> Option<Self> {
        let (&[table, syntax, _, a, b, state, number, last], rest) = bytes.split_first_chunk()?;
        let (body, crc) = rest.split_last_chunk()?;
        let section = Self {
            table,
            extension: u16::from_be_bytes([a, b]),
            version: state >> 1 & 0x1F,
            current: state & 1 != 0,
            number,
            last,
            body,
            crc: u32::from_be_bytes(*crc),
        };
        (syntax & 0x80 != 0 && number <= last).then_some(section)
    }
}

/// A section as it came: nothing of it is checked but its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<'s> {
    /// Up to [`KEPT`] of its bytes, at least 3.
    pub(super) bytes: &'s [u8],
    /// The CRC over all of its bytes, its own included.
    pub(super) crc: u32,
}

/// The streams of a program map table: type, PID and descriptors of each; `None` where the loop contradicts its length.
pub(super) struct StreamLoop<'s>(pub(super) &'s [u8]);

impl<'s> Iterator for StreamLoop<'s> {
    type Item = Option<(u8, u16, &'s [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((&[stream_type, a, b, c, d], rest)) = self.0.split_first_chunk() else {
            self.0 = &[];
            return Some(None);
        };
        let split = rest.split_at_checked(length(c, d));
        self.0 = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(descriptors, _)| (stream_type, pid(a, b), descriptors)))
    }
}

/// The streams of a section of a program map table that [`Psi`] handed on: type, PID and descriptors of each.
pub(crate) fn streams_of<'s>(section: &Section<'s>) -> impl Iterator<Item = (u8, u16, &'s [u8])> {
    let streams = section.body.split_first_chunk().and_then(|(&[_, _, c, d], rest)| rest.get(length(c, d)..));
    StreamLoop(streams.unwrap_or_default()).map_while(|stream| stream).filter(|(_, pid, _)| is_free(*pid))
}

/// The beginnings of sections, by PID.
#[derive(Debug, Clone, Default)]
pub(super) struct Assembler {
    pub(super) slots: Box<[Slot; PENDING]>,
    /// Counts the beginnings.
    clock: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    pid: u16,
    /// The continuity counter of the last packet.
    counter: u8,
    /// When it began.
    began: u32,
    /// 0: nothing is pending.
    len: usize,
    /// The CRC over what came.
    crc: u32,
    bytes: [u8; KEPT],
}

impl Default for Slot {
    fn default() -> Self {
        Self { pid: 0, counter: 0, began: 0, len: 0, crc: u32::MAX, bytes: [0; KEPT] }
    }
}

/// What became of some bytes.
enum Fed {
    /// The section ends after so many of them.
    Whole(usize),
    /// All were taken, and more are needed.
    Part,
    /// No section that is followed is so long.
    TooLong,
}

impl Assembler {
    /// Take the payload of the next packet on a PID, and hand on every section that ends in it. Whether something in
    /// it was malformed.
    pub(super) fn push(&mut self, header: PacketHeader, payload: &[u8], mut section: impl FnMut(Whole<'_>)) -> bool {
        if !header.payload() {
            return false;
        }
        let mut tail = payload;
        let mut heads: &[u8] = &[];
        if header.unit_start() {
            let Some((&pointer, rest)) = payload.split_first() else { return true };
            let Some((before, from)) = rest.split_at_checked(usize::from(pointer)) else {
                self.forget(header.pid());
                return true;
            };
            (tail, heads) = (before, from);
        }
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.len > 0 && slot.pid == header.pid()) {
            if header.continuity() == slot.counter {
                // It came twice.
                return false;
            }
            let follows = header.continuity() == (slot.counter + 1) & 0x0F;
            slot.counter = header.continuity();
            if follows && let Fed::Whole(_) = slot.feed(tail) {
                section(slot.whole());
                slot.len = 0;
            } else if !follows || header.unit_start() {
                slot.len = 0;
            }
        }
        // What is left after the last section is stuffing.
        while !heads.is_empty() && heads[0] != 0xFF {
            let slot = self.begin(header);
            match slot.feed(heads) {
                Fed::Part => return false,
                Fed::TooLong => {
                    slot.len = 0;
                    return true;
                }
                Fed::Whole(end) => {
                    section(slot.whole());
                    slot.len = 0;
                    heads = &heads[end..];
                }
            }
        }
        false
    }

    fn forget(&mut self, pid: u16) {
        self.slots.iter_mut().filter(|slot| slot.pid == pid).for_each(|slot| slot.len = 0);
    }

    /// An empty slot for a PID: a free one, or that of the oldest beginning.
    fn begin(&mut self, header: PacketHeader) -> &mut Slot {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let age = |slot: &Slot| if slot.len == 0 { u32::MAX } else { clock.wrapping_sub(slot.began) };
        let at = (0..PENDING).max_by_key(|&at| age(&self.slots[at])).unwrap_or(0);
        let slot = &mut self.slots[at];
        (slot.pid, slot.counter, slot.began, slot.len) = (header.pid(), header.continuity(), clock, 0);
        slot.crc = u32::MAX;
        slot
    }
}

impl Slot {
    fn whole(&self) -> Whole<'_> {
        Whole { bytes: &self.bytes[..self.len.min(KEPT)], crc: self.crc }
    }

    fn feed(&mut self, data: &[u8]) -> Fed {
        let mut rest = data;
        // Tables of service information may be longer than they are kept.
        let longest = if SI_PIDS.contains(&self.pid) { LONGEST } else { KEPT };
        loop {
            let wanted = match self.bytes {
                [_, a, b, ..] if self.len >= 3 => 3 + length(a, b),
                _ => 3,
            };
            if wanted > longest {
                self.len = 0;
                return Fed::TooLong;
            }
            let (now, later) = rest.split_at(rest.len().min(wanted - self.len));
            if let Some(room) = self.bytes.get_mut(self.len..) {
                let kept = now.len().min(room.len());
                room[..kept].copy_from_slice(&now[..kept]);
            }
            self.crc = super::crc_over(self.crc, now);
            self.len += now.len();
            rest = later;
            if self.len < wanted {
                return Fed::Part;
            }
            // Three bytes tell the length; a section of no more than these is whole too.
            let [_, a, b, ..] = self.bytes;
            if self.len == 3 + length(a, b) {
                return Fed::Whole(data.len() - rest.len());
            }
        }
    }
}
