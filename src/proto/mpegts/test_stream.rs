//! A test-pattern transport stream: every byte follows from a seed, a rate and the packet's index, so that a receiver
//! can verify each packet alone.
//!
//! One program (number 1): PAT, PMT on PID 0x1000, and private data (stream type 0x06) with the PCR on PID 0x0100. Every
//! packet bears `MCTP`, its index and a checksum: data packets in the payload, tables in the private data of their
//! adaptation field. PAT, PMT and PCR come every 33 ms (below 180 kbit/s: every 4 packets), continuity counters are in
//! order, the PCR is exact for the rate.

use super::packet::{PACKET_LEN, SYNC};
use super::psi::crc32;

/// The PID of the data and the PCR.
pub const DATA_PID: u16 = 0x0100;
/// The PID of the PMT.
pub const PMT_PID: u16 = 0x1000;
/// Marks a packet's index.
const MAGIC: [u8; 4] = *b"MCTP";
/// Magic, index, checksum.
const TAG_LEN: usize = 4 + 8 + 4;
/// How many indexes behind the newest the verifier remembers.
const MEMORY: u64 = 1 << 16;

/// What all packets of a test stream follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
    bits_per_second: u64,
    /// Packets from one PAT to the next: PAT, PMT, data with PCR, data.
    unit: u64,
}

impl Pattern {
    /// The pattern of a seed at a rate in bit/s (of whole transport-stream packets; at least 1).
    pub const fn new(seed: u64, bits_per_second: u64) -> Self {
        let bits_per_second = if bits_per_second == 0 { 1 } else { bits_per_second };
        let unit = bits_per_second / (PACKET_LEN as u64 * 8) / 30;
        Self { seed, bits_per_second, unit: if unit < 4 { 4 } else { unit } }
    }

    /// The packet with this index, counted from 0.
    pub fn packet(&self, index: u64) -> [u8; PACKET_LEN] {
        let mut packet = [0xFF; PACKET_LEN];
        let (round, place) = (index / self.unit, index % self.unit);
        match place {
            0 => self.table(&mut packet, 0, round, index, &PAT),
            1 => self.table(&mut packet, PMT_PID, round, index, &PMT),
            _ => {
                let count = round.wrapping_mul(self.unit - 2).wrapping_add(place - 2);
                self.data(&mut packet, count, index, place == 2);
            }
        }
        packet
    }

    /// When the packet with this index begins, from the stream's start.
    pub fn due(&self, index: u64) -> std::time::Duration {
        let bits = u128::from(index) * PACKET_LEN as u128 * 8;
        let nanos = bits * 1_000_000_000 / u128::from(self.bits_per_second);
        std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn table(&self, packet: &mut [u8; PACKET_LEN], pid: u16, count: u64, index: u64, section: &[u8]) {
        header(packet, pid, true, true, count);
        packet[4] = 2 + TAG_LEN as u8;
        packet[5] = 0x02; // transport_private_data_flag
        packet[6] = TAG_LEN as u8;
        self.tag(&mut packet[7..], index, 0);
        let payload = &mut packet[7 + TAG_LEN..];
        payload[0] = 0; // pointer_field
        payload[1..=section.len()].copy_from_slice(section);
        let crc = crc32(section).to_be_bytes();
        payload[1 + section.len()..][..4].copy_from_slice(&crc);
    }

    fn data(&self, packet: &mut [u8; PACKET_LEN], count: u64, index: u64, with_pcr: bool) {
        header(packet, DATA_PID, false, with_pcr, count);
        let payload = if with_pcr {
            packet[4] = 7;
            packet[5] = 0x10; // PCR_flag
            packet[6..12].copy_from_slice(&self.pcr(index));
            &mut packet[12..]
        } else {
            &mut packet[4..]
        };
        let (mut state, mut sum) = (self.mix(index), 0_u64);
        // 20 or 21 words: the payload is filled to its end.
        for word in payload[TAG_LEN..].as_chunks_mut::<8>().0 {
            state = state.wrapping_mul(0xD129_0B26_3B4F_55B5).wrapping_add(0x9E37_79B9_7F4A_7C15);
            let fill = state ^ state >> 29;
            sum = sum.rotate_left(5) ^ fill;
            *word = fill.to_be_bytes();
        }
        self.tag(payload, index, sum);
    }

    /// Magic, index, and a checksum over the index and the fill.
    fn tag(&self, at: &mut [u8], index: u64, sum: u64) {
        let sum = self.mix(index ^ sum);
        at[..4].copy_from_slice(&MAGIC);
        at[4..12].copy_from_slice(&index.to_be_bytes());
        at[12..16].copy_from_slice(&((sum >> 32) as u32).to_be_bytes());
    }

    /// The program clock reference of the packet with this index (ISO/IEC 13818-1, section 2.4.3.5).
    fn pcr(&self, index: u64) -> [u8; 6] {
        let ticks = u128::from(index) * (PACKET_LEN as u128 * 8) * 27_000_000 / u128::from(self.bits_per_second);
        let base = (ticks / 300 % (1 << 33)) as u64;
        let extension = (ticks % 300) as u64;
        let field = base << 15 | 0x3F << 9 | extension;
        let [.., a, b, c, d, e, f] = field.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// One well-mixed number from the seed and another (the finaliser of splitmix64).
    const fn mix(&self, n: u64) -> u64 {
        let mut z = self.seed ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// Program 1 on [`PMT_PID`]; without its CRC.
const PAT: [u8; 12] = [0x00, 0xB0, 13, 0x00, 0x01, 0xC1, 0, 0, 0x00, 0x01, 0xE0 | (PMT_PID >> 8) as u8, 0x00];

/// PCR and private data on [`DATA_PID`]; without its CRC.
const PMT: [u8; 17] = [
    0x02,
    0xB0,
    18,
    0x00,
    0x01,
    0xC1,
    0,
    0,
    0xE0 | (DATA_PID >> 8) as u8,
    (DATA_PID & 0xFF) as u8,
    0xF0,
    0,
    0x06,
    0xE0 | (DATA_PID >> 8) as u8,
    (DATA_PID & 0xFF) as u8,
    0xF0,
    0,
];

fn header(packet: &mut [u8; PACKET_LEN], pid: u16, unit_start: bool, adaptation: bool, count: u64) {
    let [pid_high, pid_low] = pid.to_be_bytes();
    packet[0] = SYNC;
    packet[1] = u8::from(unit_start) << 6 | pid_high;
    packet[2] = pid_low;
    packet[3] = u8::from(adaptation) << 5 | 0x10 | (count & 0x0F) as u8;
}

/// Makes the packets of a test stream one after the other.
#[derive(Debug, Clone)]
pub struct TestStream {
    pattern: Pattern,
    index: u64,
}

impl TestStream {
    /// The stream of a seed at a rate in bit/s, from its first packet.
    pub const fn new(seed: u64, bits_per_second: u64) -> Self {
        Self { pattern: Pattern::new(seed, bits_per_second), index: 0 }
    }

    /// Fill a datagram of n x 188 bytes with the next n packets. What is left over stays as it is.
    pub fn fill(&mut self, datagram: &mut [u8]) {
        for packet in datagram.as_chunks_mut::<PACKET_LEN>().0 {
            *packet = self.pattern.packet(self.index);
            self.index += 1;
        }
    }

    /// The index of the packet that comes next: how many there have been.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// When the next packet is due, from the stream's start.
    pub fn due(&self) -> std::time::Duration {
        self.pattern.due(self.index)
    }
}

/// What became of a test stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Right to the last byte, each index once.
    pub ok: u64,
    /// Between the first and the newest index, and never right.
    pub missing: u64,
    /// Came again.
    pub duplicated: u64,
    /// Came after a later one; part of `ok`.
    pub reordered: u64,
    /// No packet of this stream: wrong bytes.
    pub corrupt: u64,
    /// The first right index.
    pub first: Option<u64>,
    /// The greatest right index.
    pub newest: Option<u64>,
}

impl Verdict {
    /// Whether something came, and all of it was right and in order.
    pub const fn is_perfect(&self) -> bool {
        self.ok > 0 && self.missing == 0 && self.duplicated == 0 && self.reordered == 0 && self.corrupt == 0
    }
}

/// Judges received packets of a test stream, whatever datagrams they come in.
#[derive(Debug, Clone)]
pub struct Verifier {
    pattern: Pattern,
    verdict: Verdict,
    /// One bit an index, of the last [`MEMORY`]: was right.
    seen: Vec<u64>,
}

impl Verifier {
    /// For the stream of the same seed and rate. It judges from the first right packet on.
    pub fn new(seed: u64, bits_per_second: u64) -> Self {
        let seen = vec![0; (MEMORY / 64) as usize];
        Self { pattern: Pattern::new(seed, bits_per_second), verdict: Verdict::default(), seen }
    }

    /// Judge the packets of a datagram. What is no whole packet is corrupt.
    pub fn check(&mut self, datagram: &[u8]) {
        let (packets, rest) = datagram.as_chunks::<PACKET_LEN>();
        for packet in packets {
            match index_of(packet).filter(|index| self.pattern.packet(*index) == *packet) {
                Some(index) => self.count(index),
                None => self.verdict.corrupt += 1,
            }
        }
        self.verdict.corrupt += u64::from(!rest.is_empty());
    }

    /// The verdict so far.
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn count(&mut self, index: u64) {
        let first = *self.verdict.first.get_or_insert(index);
        let newest = self.verdict.newest;
        if newest.is_none_or(|newest| index > newest) {
            let missing = newest.map_or(0, |newest| index - newest - 1);
            for back in 0..=missing.min(MEMORY - 1) {
                self.mark(index - back, back == 0);
            }
            self.verdict.missing = self.verdict.missing.saturating_add(missing);
            self.verdict.newest = Some(index);
            self.verdict.ok += 1;
            return;
        }
        let forgotten = newest.is_some_and(|newest| newest - index >= MEMORY);
        if forgotten || self.was_seen(index) {
            self.verdict.duplicated += 1;
            return;
        }
        self.mark(index, true);
        self.verdict.ok += 1;
        self.verdict.reordered += 1;
        if index > first {
            self.verdict.missing = self.verdict.missing.saturating_sub(1);
        }
    }

    fn was_seen(&self, index: u64) -> bool {
        self.seen[(index % MEMORY / 64) as usize] & 1 << (index % 64) != 0
    }

    fn mark(&mut self, index: u64, right: bool) {
        let (word, bit) = (&mut self.seen[(index % MEMORY / 64) as usize], 1 << (index % 64));
        *word = if right { *word | bit } else { *word & !bit };
    }
}

/// The index that a packet says it has.
fn index_of(packet: &[u8; PACKET_LEN]) -> Option<u64> {
    let at = match (packet[3] >> 4 & 3, packet[5]) {
        (1, _) => 4,
        (3, 0x02) => 7,
        (3, 0x10) => 12,
        _ => return None,
    };
    let (magic, rest) = packet[at..].split_first_chunk::<4>()?;
    (*magic == MAGIC).then_some(u64::from_be_bytes(*rest.first_chunk()?))
}

#[cfg(test)]
mod tests;
