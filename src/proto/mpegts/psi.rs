//! Program-specific information (ISO/IEC 13818-1, section 2.4.4): which programs there are, and what they are made of.
//!
//! Sections are put together from their packets, checked, and read. What is kept is bounded and taken once; sections
//! that lie harm nothing but themselves.

use crate::time::Instant;
use serde::{Deserialize, Serialize};

use super::packet::{NULL_PID, PACKET_LEN, PIDS, PacketHeader};

mod section;

pub use section::Section;
pub(crate) use section::streams_of;
use section::{Assembler, StreamLoop, Whole};

/// The PID of the program association table.
pub const PAT_PID: u16 = 0;
/// The PID of the conditional access table.
pub const CAT_PID: u16 = 1;
/// The PIDs of NIT, SDT and BAT, EIT, RST, TDT and TOT (ETSI EN 300 468, table 1).
pub(crate) const SI_PIDS: std::ops::RangeInclusive<u16> = 0x10..=0x14;
/// The `table_id` of the program association table.
pub const PAT: u8 = 0x00;
/// The `table_id` of the conditional access table.
pub const CAT: u8 = 0x01;
/// The `table_id` of a program map table.
pub const PMT: u8 = 0x02;
/// The `table_id` of the service description table of this transport stream.
pub const SDT: u8 = 0x42;
/// The lowest PID that a table or stream may name; those below are reserved.
const LOWEST_PID: u16 = 0x10;
/// Programs that are kept; a transport stream of more is followed for the first ones.
pub const MAX_PROGRAMS: usize = 64;
/// Elementary streams that are kept, of all programs together.
pub const MAX_STREAMS: usize = 256;
/// Sections of a PAT that are followed: each names up to 253 programs.
const MAX_PAT_SECTIONS: usize = 8;

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = crc << 1 ^ if crc & 0x8000_0000 == 0 { 0 } else { 0x04C1_1DB7 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The CRC of sections (ISO/IEC 13818-1, annex A); over a section with its CRC it is 0.
pub fn crc32(data: &[u8]) -> u32 {
    crc_over(u32::MAX, data)
}

/// The CRC so far, taken over more bytes.
fn crc_over(crc: u32, data: &[u8]) -> u32 {
    data.iter().fold(crc, |crc, &byte| crc << 8 ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}

/// A set of PIDs, 1 kB.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PidSet(Box<[u64]>);

impl PidSet {
    fn new() -> Self {
        Self(vec![0; PIDS / 64].into_boxed_slice())
    }

    fn insert(&mut self, pid: u16) {
        self.0[usize::from(pid) / 64 % (PIDS / 64)] |= 1 << (pid % 64);
    }

    fn contains(&self, pid: u16) -> bool {
        self.0[usize::from(pid) / 64 % (PIDS / 64)] & 1 << (pid % 64) != 0
    }
}

/// A program of the program association table, and its program map table once that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// 1 to 65535.
    pub number: u16,
    /// Where its program map table is.
    pub pmt_pid: u16,
    /// `None`: its program map table has not come.
    pub map: Option<ProgramMap>,
    /// The PAT's section that names it.
    section: u8,
}

/// What a program map table says of its program as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramMap {
    /// 0x1FFF: the program has no PCR.
    pub pcr_pid: u16,
    /// 5 bits.
    pub version: u8,
    /// By this a change is noticed even of a table that keeps its version.
    crc: u32,
}

/// An elementary stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementaryStream {
    /// The program's number.
    pub program: u16,
    /// Where its packets are.
    pub pid: u16,
    /// What it carries (ISO/IEC 13818-1, table 2-34).
    pub stream_type: u8,
}

/// Counts since the tables were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PsiCounters {
    /// Sections of the program association table, right ones.
    pub pat: u64,
    /// Program map tables of known programs, right ones.
    pub pmt: u64,
    /// Sections with a wrong CRC (TR 101 290, 2.2).
    pub crc_errors: u64,
    /// Other tables on the PID of the PAT (TR 101 290, 1.3).
    pub foreign: u64,
    /// Other tables on the PID of the CAT (TR 101 290, 2.6).
    pub foreign_on_cat: u64,
    /// Scrambled packets on the PIDs of PAT and PMT (TR 101 290, 1.3 and 1.5).
    pub scrambled: u64,
    /// Sections that are too long, too short, or contradict themselves.
    pub malformed: u64,
    /// Programs, streams and sections of the PAT for which there was no room, each time they came.
    pub not_kept: u64,
    /// Changes of anything that [`Psi::programs`] and [`Psi::streams`] show.
    pub changes: u64,
}

/// The programs of a transport stream: 5 kB, and up to 4 kB for the programs and streams that there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Psi {
    /// What is half there begins anew.
    #[serde(skip)]
    assembler: Assembler,
    /// PIDs of the tables that are followed.
    pids: PidSet,
    /// CAT, NIT, SDT, BAT, EIT and TOT too.
    service_information: bool,
    tables: Tables,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tables {
    transport_stream: Option<u16>,
    /// The CRC of each section of the PAT: a change is noticed even of a table that keeps its version.
    pat: [Option<u32>; MAX_PAT_SECTIONS],
    pat_version: u8,
    pat_seen: Option<Instant>,
    programs: Vec<Program>,
    streams: Vec<ElementaryStream>,
    counters: PsiCounters,
    /// The PIDs of the program map tables are others than before.
    moved: bool,
}

impl Default for Psi {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Psi {
    /// Follow PAT and PMTs; with service information, the CRCs of CAT, NIT, SDT, BAT, EIT and TOT are checked too.
    pub fn new(service_information: bool) -> Self {
        let tables = Tables {
            transport_stream: None,
            pat: [None; MAX_PAT_SECTIONS],
            pat_version: 0,
            pat_seen: None,
            programs: Vec::new(),
            streams: Vec::new(),
            counters: PsiCounters::default(),
            moved: true,
        };
        let mut psi = Self { assembler: Assembler::default(), pids: PidSet::new(), service_information, tables };
        psi.follow_tables();
        psi
    }

    /// Take one packet of any PID. It must have no transport error.
    pub fn handle(&mut self, header: PacketHeader, packet: &[u8; PACKET_LEN], now: Instant) {
        self.handle_with(header, packet, now, |_| {});
    }

    /// As [`Self::handle`], and hand on each section of a PAT, a CAT, a known program's PMT and an SDT that is right and
    /// in force, before its content is taken.
    pub fn handle_with(
        &mut self,
        header: PacketHeader,
        packet: &[u8; PACKET_LEN],
        now: Instant,
        mut sink: impl FnMut(&Section<'_>),
    ) {
        if !self.pids.contains(header.pid()) {
            return;
        }
        if header.scrambling() != 0 {
            self.tables.counters.scrambled += 1;
            return;
        }
        let Self { assembler, tables, .. } = self;
        let malformed = assembler.push(header, header.payload_of(packet), |section| {
            match (header.pid(), section.bytes[0]) {
                (PAT_PID, _) => tables.pat_section(section, now, &mut sink),
                (CAT_PID, _) => tables.cat_section(section, &mut sink),
                (pid, PMT) => tables.pmt_section(pid, section, &mut sink),
                // Other tables may share the PID of a PMT.
                (pid, _) if SI_PIDS.contains(&pid) => tables.si_section(section, &mut sink),
                _ => {}
            }
        });
        self.tables.counters.malformed += u64::from(malformed);
        self.follow_tables();
    }

    /// The `transport_stream_id`; `None`: no PAT has come.
    pub const fn transport_stream(&self) -> Option<u16> {
        self.tables.transport_stream
    }

    /// The version of the PAT, 5 bits.
    pub fn pat_version(&self) -> Option<u8> {
        self.tables.transport_stream.map(|_| self.tables.pat_version)
    }

    /// Whether packets of this PID are looked at: it bears tables.
    pub fn follows(&self, pid: u16) -> bool {
        self.pids.contains(pid)
    }

    /// When the last right section of the PAT came.
    pub const fn pat_seen(&self) -> Option<Instant> {
        self.tables.pat_seen
    }

    /// The programs, in the order of the PAT.
    pub fn programs(&self) -> &[Program] {
        &self.tables.programs
    }

    /// The elementary streams of all programs.
    pub fn streams(&self) -> &[ElementaryStream] {
        &self.tables.streams
    }

    /// The figures so far.
    pub const fn counters(&self) -> &PsiCounters {
        &self.tables.counters
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let lists = (self.tables.programs.capacity(), self.tables.streams.capacity());
        let lists = lists.0 * size_of::<Program>() + lists.1 * size_of::<ElementaryStream>();
        size_of_val(&*self.assembler.slots) + size_of_val(&*self.pids.0) + lists
    }

    fn follow_tables(&mut self) {
        if !std::mem::take(&mut self.tables.moved) {
            return;
        }
        self.pids.0.fill(0);
        self.pids.insert(PAT_PID);
        if self.service_information {
            SI_PIDS.chain([CAT_PID]).for_each(|pid| self.pids.insert(pid));
        }
        self.tables.programs.iter().for_each(|program| self.pids.insert(program.pmt_pid));
    }
}

impl Tables {
    fn pat_section(&mut self, whole: Whole<'_>, now: Instant, sink: &mut impl FnMut(&Section<'_>)) {
        if whole.bytes[0] != PAT {
            self.counters.foreign += 1;
            return;
        }
        let Some(section) = self.check(whole) else { return };
        let (associations, []) = section.body.as_chunks::<4>() else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.pat += 1;
        self.pat_seen = Some(now);
        sink(&section);
        let number = usize::from(section.number);
        // A table that shrank keeps nothing of its former sections.
        let last = usize::from(section.last) + 1;
        let obsolete = self.pat.iter().skip(last).any(Option::is_some);
        let Some(known) = self.pat.get_mut(number) else {
            self.counters.not_kept += 1;
            return;
        };
        if *known == Some(section.crc) && !obsolete {
            return;
        }
        *known = Some(section.crc);
        self.pat.iter_mut().skip(last).for_each(|crc| *crc = None);
        self.transport_stream = Some(section.extension);
        self.pat_version = section.version;
        self.counters.changes += 1;
        self.moved = true;
        let named = || {
            let entries = associations.iter().map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), pid(c, d)));
            // Program 0 is the network information table.
            entries.filter(|(program, pid)| *program != 0 && is_free(*pid))
        };
        // Programs that stay keep their map.
        self.programs.retain(|program| match usize::from(program.section) {
            at if at == number => named().any(|entry| entry == (program.number, program.pmt_pid)),
            at => at < last,
        });
        for (program, pmt_pid) in named() {
            if let Some(known) = self.programs.iter_mut().find(|known| known.number == program) {
                // It may have come over from another section.
                let map = known.map.filter(|_| known.pmt_pid == pmt_pid);
                *known = Program { number: program, pmt_pid, map, section: section.number };
                continue;
            }
            if self.programs.len() == MAX_PROGRAMS {
                self.counters.not_kept += 1;
                continue;
            }
            self.programs.push(Program { number: program, pmt_pid, map: None, section: section.number });
        }
        let programs = &self.programs;
        self.streams.retain(|s| programs.iter().any(|program| program.number == s.program && program.map.is_some()));
    }

    fn cat_section(&mut self, whole: Whole<'_>, sink: &mut impl FnMut(&Section<'_>)) {
        if whole.bytes[0] != CAT {
            self.counters.foreign_on_cat += 1;
        } else if let Some(section) = self.check(whole) {
            sink(&section);
        }
    }

    /// Of other tables only the CRC is looked at, of those that have one (ETSI EN 300 468, table 2).
    fn si_section(&mut self, whole: Whole<'_>, sink: &mut impl FnMut(&Section<'_>)) {
        match whole.bytes[0] {
            SDT => {
                if let Some(section) = self.check(whole) {
                    sink(&section);
                }
            }
            0x40 | 0x41 | 0x46 | 0x4A | 0x4E..=0x6F | 0x73 => {
                self.counters.crc_errors += u64::from(whole.crc != 0);
            }
            _ => {}
        }
    }

    fn pmt_section(&mut self, on: u16, whole: Whole<'_>, sink: &mut impl FnMut(&Section<'_>)) {
        let Some(section) = self.check(whole) else { return };
        let known = self.programs.iter_mut().find(|p| p.number == section.extension && p.pmt_pid == on);
        let Some(program) = known else { return };
        let Some((&[a, b, c, d], rest)) = section.body.split_first_chunk() else {
            self.counters.malformed += 1;
            return;
        };
        let streams = rest.get(length(c, d)..).filter(|streams| StreamLoop(streams).all(|stream| stream.is_some()));
        let Some(streams) = streams else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.pmt += 1;
        sink(&section);
        if program.map.is_some_and(|map| map.crc == section.crc) {
            return;
        }
        program.map = Some(ProgramMap { pcr_pid: pid(a, b), version: section.version, crc: section.crc });
        self.counters.changes += 1;
        self.streams.retain(|stream| stream.program != section.extension);
        for (stream_type, pid, _) in StreamLoop(streams).flatten().filter(|(_, pid, _)| is_free(*pid)) {
            if self.streams.len() == MAX_STREAMS {
                self.counters.not_kept += 1;
                continue;
            }
            self.streams.push(ElementaryStream { program: section.extension, pid, stream_type });
        }
    }

    /// The section if it is whole, right, and in force.
    fn check<'s>(&mut self, whole: Whole<'s>) -> Option<Section<'s>> {
        if whole.crc != 0 {
            self.counters.crc_errors += 1;
            return None;
        }
        let section = Section::read(whole.bytes);
        self.counters.malformed += u64::from(section.is_none());
        section.filter(|section| section.current)
    }
}

/// A PID that a table may name.
const fn is_free(pid: u16) -> bool {
    pid >= LOWEST_PID && pid < NULL_PID
}

const fn pid(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high & 0x1F, low])
}

const fn length(high: u8, low: u8) -> usize {
    u16::from_be_bytes([high & 0x0F, low]) as usize
}

/// Fuzz body: any payloads on the PIDs that are followed; whatever is shown is within its bounds.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let (mut psi, now) = (Psi::default(), Instant::now());
    for (cc, data) in (0_u8..).zip(data.chunks(185)) {
        let mut packet = [0xFF; PACKET_LEN];
        let (control, payload) = data.split_first().unwrap_or((&0, &[]));
        let pid = if control & 1 == 0 { 0 } else { psi.programs().first().map_or(0, |program| program.pmt_pid) };
        let [high, low] = pid.to_be_bytes();
        packet[..4].copy_from_slice(&[super::packet::SYNC, high | control & 0x40, low, 0x10 | cc & 0x0F]);
        packet[4..][..payload.len()].copy_from_slice(payload);
        let Some(header) = PacketHeader::parse(&packet) else { continue };
        psi.handle(header, &packet, now);
        assert!(psi.programs().len() <= MAX_PROGRAMS && psi.streams().len() <= MAX_STREAMS);
        assert!(psi.programs().iter().all(|p| p.number != 0 && is_free(p.pmt_pid)));
        assert!(psi.streams().iter().all(|s| psi.programs().iter().any(|p| p.number == s.program && p.map.is_some())));
        assert!(psi.pids.contains(0) && psi.programs().iter().all(|p| psi.pids.contains(p.pmt_pid)));
    }
}

#[cfg(test)]
mod tests;
