//! Sections (ISO/IEC 13818-1, section 2.4.4.1): put together from the payloads of their packets.

use crate::proto::mpegts::packet::PacketHeader;

/// The longest section of PAT, PMT and CAT, with its header.
const LONGEST: usize = 1024;
/// PIDs whose sections may be incomplete at the same time; of more, the oldest is dropped.
const PENDING: usize = 3;

/// A section with the long header, without its CRC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'s> {
    /// `transport_stream_id` or `program_number`.
    pub(super) extension: u16,
    pub(super) version: u8,
    /// In force already.
    pub(super) current: bool,
    pub(super) number: u8,
    pub(super) last: u8,
    pub(super) body: &'s [u8],
    pub(super) crc: u32,
}

impl<'s> Section<'s> {
    /// Read a whole section. `None`: it is too short, has no long header, or has a number above its last.
    pub(super) fn read(bytes: &'s [u8]) -> Option<Self> {
        let (&[_, syntax, _, a, b, state, number, last], rest) = bytes.split_first_chunk()?;
        let (body, crc) = rest.split_last_chunk()?;
        let section = Self {
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
    bytes: [u8; LONGEST],
}

impl Default for Slot {
    fn default() -> Self {
        Self { pid: 0, counter: 0, began: 0, len: 0, bytes: [0; LONGEST] }
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
    pub(super) fn push(&mut self, header: &PacketHeader, payload: &[u8], mut section: impl FnMut(&[u8])) -> bool {
        if !header.payload {
            return false;
        }
        let mut tail = payload;
        let mut heads: &[u8] = &[];
        if header.unit_start {
            let Some((&pointer, rest)) = payload.split_first() else { return true };
            let Some((before, from)) = rest.split_at_checked(usize::from(pointer)) else {
                self.forget(header.pid);
                return true;
            };
            (tail, heads) = (before, from);
        }
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.len > 0 && slot.pid == header.pid) {
            if header.continuity == slot.counter {
                // It came twice.
                return false;
            }
            let follows = header.continuity == (slot.counter + 1) & 0x0F;
            slot.counter = header.continuity;
            if follows && let Fed::Whole(_) = slot.feed(tail) {
                section(&slot.bytes[..slot.len]);
                slot.len = 0;
            } else if !follows || header.unit_start {
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
                    section(&slot.bytes[..slot.len]);
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
    fn begin(&mut self, header: &PacketHeader) -> &mut Slot {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let age = |slot: &Slot| if slot.len == 0 { u32::MAX } else { clock.wrapping_sub(slot.began) };
        let at = (0..PENDING).max_by_key(|&at| age(&self.slots[at])).unwrap_or(0);
        let slot = &mut self.slots[at];
        (slot.pid, slot.counter, slot.began, slot.len) = (header.pid, header.continuity, clock, 0);
        slot
    }
}

impl Slot {
    fn feed(&mut self, data: &[u8]) -> Fed {
        let mut rest = data;
        loop {
            let wanted = match self.bytes {
                [_, a, b, ..] if self.len >= 3 => 3 + super::length(a, b),
                _ => 3,
            };
            if wanted > LONGEST {
                self.len = 0;
                return Fed::TooLong;
            }
            let (now, later) = rest.split_at(rest.len().min(wanted - self.len));
            self.bytes[self.len..][..now.len()].copy_from_slice(now);
            self.len += now.len();
            rest = later;
            if self.len < wanted {
                return Fed::Part;
            }
            // Three bytes tell the length; a section of no more than these is whole too.
            let [_, a, b, ..] = self.bytes;
            if self.len == 3 + super::length(a, b) {
                return Fed::Whole(data.len() - rest.len());
            }
        }
    }
}
