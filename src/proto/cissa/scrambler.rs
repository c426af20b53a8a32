//! The sender's side: what the tables say carries PES packets is encrypted, and nothing that they do not name gets out.

use super::{Encryptor, Key, Lanes, Parity, SCRAMBLING, blocks};
use crate::proto::mpegts::codec::carries_pes;
use crate::proto::mpegts::packet::{NULL_PID, PACKET_LEN, PIDS, PacketHeader, SYNC};
use crate::proto::mpegts::psi::Psi;
use crate::time::Instant;

/// PIDs of PSI and SI (EN 300 468, table 1), and of ATSC's PSIP.
const SI: std::ops::RangeInclusive<u16> = 0x0000..=0x001F;
const PSIP: u16 = 0x1FFB;

/// Counts since the scrambler was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrambleCounters {
    /// Packets encrypted, those among them too short to be.
    pub scrambled: u64,
    /// Packets that were scrambled already, and passed as they were.
    pub already: u64,
    /// Packets of PIDs that no table names, or that are no transport-stream packets: they became null packets.
    pub withheld: u64,
}

/// Encrypts one transport stream.
pub struct Scrambler {
    psi: Psi,
    /// What becomes of a PID's packets.
    fates: Box<[Fate; PIDS]>,
    keys: [Option<Encryptor>; 2],
    parity: Parity,
    counters: ScrambleCounters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Withhold,
    Clear,
    Scramble,
}

impl Scrambler {
    /// With the keys that there are; the even one is used first, if it is there.
    pub fn new(even: Option<&Key>, odd: Option<&Key>) -> Self {
        let parity = if even.is_some() { Parity::Even } else { Parity::Odd };
        let mut scrambler = Self {
            psi: Psi::default(),
            fates: Box::new([Fate::Withhold; PIDS]),
            keys: [even, odd].map(|key| key.map(Encryptor::new)),
            parity,
            counters: ScrambleCounters::default(),
        };
        scrambler.follow();
        scrambler
    }

    /// Replace a key. That of the parity in use counts from the next packet on.
    pub fn set_key(&mut self, parity: Parity, key: Option<&Key>) {
        self.keys[parity as usize] = key.map(Encryptor::new);
    }

    /// Use the key of this parity from the next packet on.
    pub fn set_parity(&mut self, parity: Parity) {
        self.parity = parity;
    }

    /// Which key is in use.
    pub const fn parity(&self) -> Parity {
        self.parity
    }

    /// The figures so far.
    pub const fn counters(&self) -> &ScrambleCounters {
        &self.counters
    }

    /// What it knows of the tables.
    pub const fn tables(&self) -> &Psi {
        &self.psi
    }

    /// Go on with what is known of the tables already.
    pub fn set_tables(&mut self, tables: Psi) {
        self.psi = tables;
        self.follow();
    }

    /// Encrypt a datagram's transport-stream packets in place. What may not leave becomes null packets, so that all others
    /// stay in their places; what is behind the last whole packet becomes zero.
    pub fn scramble(&mut self, payload: &mut [u8], now: Instant) {
        let (packets, rest) = payload.as_chunks_mut::<PACKET_LEN>();
        rest.fill(0);
        let mut lanes = Lanes::new();
        for packet in packets {
            let Some(header) = PacketHeader::parse(packet) else {
                self.counters.withheld += 1;
                withhold(packet);
                continue;
            };
            if self.psi.follows(header.pid()) && !header.transport_error() {
                let before = self.psi.counters().changes;
                self.psi.handle(header, packet, now);
                if self.psi.counters().changes != before {
                    self.follow();
                }
            }
            match self.fates[usize::from(header.pid())] {
                Fate::Clear => {}
                Fate::Scramble if header.scrambling() != 0 => self.counters.already += 1,
                Fate::Scramble if header.payload() => {
                    let Some(key) = &self.keys[self.parity as usize] else {
                        self.counters.withheld += 1;
                        withhold(packet);
                        continue;
                    };
                    self.counters.scrambled += 1;
                    packet[3] = packet[3] & !SCRAMBLING | self.parity.bits();
                    if !lanes.push(blocks(header, packet)) {
                        key.encrypt(&mut lanes);
                        lanes = Lanes::new();
                    }
                }
                // There is nothing in it to hide.
                Fate::Scramble => {}
                Fate::Withhold => {
                    self.counters.withheld += 1;
                    withhold(packet);
                }
            }
        }
        if let Some(key) = &self.keys[self.parity as usize] {
            key.encrypt(&mut lanes);
        }
    }

    /// The tables say something else.
    fn follow(&mut self) {
        self.fates.fill(Fate::Withhold);
        let clear = SI.chain([PSIP, NULL_PID]).chain(self.psi.programs().iter().map(|program| program.pmt_pid));
        for pid in clear {
            self.fates[usize::from(pid)] = Fate::Clear;
        }
        for stream in self.psi.streams() {
            let fate = &mut self.fates[usize::from(stream.pid)];
            // One that is said to be both is hidden; a table stays a table, whatever a stream says.
            if carries_pes(stream.stream_type) && !self.psi.follows(stream.pid) {
                *fate = Fate::Scramble;
            } else if *fate == Fate::Withhold {
                *fate = Fate::Clear;
            }
        }
        for pcr_pid in self.psi.programs().iter().filter_map(|program| Some(program.map?.pcr_pid)) {
            // Of a PCR alone there are packets without a payload. One with a payload that no stream claims is hidden.
            let fate = &mut self.fates[usize::from(pcr_pid)];
            if *fate == Fate::Withhold {
                *fate = Fate::Scramble;
            }
        }
    }
}

/// Put a null packet in its place.
fn withhold(packet: &mut [u8; PACKET_LEN]) {
    packet.fill(0xFF);
    packet[..4].copy_from_slice(&[SYNC, 0x1F, 0xFF, 0x10]);
}
