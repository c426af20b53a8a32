use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::proto::mpegts::packet::SYNC;
use crate::proto::mpegts::test_stream::{DATA_PID, PMT_PID, Pattern};

/// A section with its CRC.
fn section(table: u8, extension: u16, version: u8, numbers: (u8, u8), body: &[u8]) -> Vec<u8> {
    let [a, b] = extension.to_be_bytes();
    let [high, low] = u16::try_from(5 + body.len() + 4).unwrap().to_be_bytes();
    let mut section = vec![table, 0xB0 | high, low, a, b, 0xC1 | version << 1, numbers.0, numbers.1];
    section.extend(body);
    section.extend(crc32(&section).to_be_bytes());
    section
}

fn pat(version: u8, programs: &[(u16, u16)]) -> Vec<u8> {
    pat_part(version, (0, 0), programs)
}

fn pat_part(version: u8, numbers: (u8, u8), programs: &[(u16, u16)]) -> Vec<u8> {
    let entries = programs.iter().flat_map(|(n, pid)| [n.to_be_bytes(), (pid | 0xE000).to_be_bytes()].concat());
    section(0, 7, version, numbers, &entries.collect::<Vec<_>>())
}

fn pmt(program: u16, version: u8, pcr_pid: u16, streams: &[(u8, u16)]) -> Vec<u8> {
    // A descriptor of the program, and one of each stream.
    let mut body = [&(pcr_pid | 0xE000).to_be_bytes()[..], &[0xF0, 3, 5, 1, 0xAA]].concat();
    for (stream_type, pid) in streams {
        body.push(*stream_type);
        body.extend((pid | 0xE000).to_be_bytes());
        body.extend([0xF0, 6, 10, 4, b'd', b'e', b'u', 0]);
    }
    section(2, program, version, (0, 0), &body)
}

/// A transport stream for [`Psi`], packet by packet.
struct Bench {
    psi: Psi,
    counters: [u8; PIDS],
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { psi: Psi::default(), counters: [0; PIDS], now: Instant::now() }
    }

    fn packets(&mut self, pid: u16, payloads: &[(bool, Vec<u8>)]) -> Vec<[u8; PACKET_LEN]> {
        let packet = |(unit_start, payload): &(bool, Vec<u8>)| {
            let mut packet = [0xFF; PACKET_LEN];
            let counter = &mut self.counters[usize::from(pid)];
            let [high, low] = pid.to_be_bytes();
            packet[..4].copy_from_slice(&[SYNC, high | u8::from(*unit_start) << 6, low, 0x10 | (*counter % 16)]);
            packet[4..][..payload.len()].copy_from_slice(payload);
            *counter = (*counter + 1) % 16;
            packet
        };
        payloads.iter().map(packet).collect()
    }

    /// The packets of sections, each section beginning a packet of its own.
    fn sections(&mut self, pid: u16, sections: &[Vec<u8>]) -> Vec<[u8; PACKET_LEN]> {
        let mut payloads = Vec::new();
        for section in sections {
            let bytes = [&[0][..], section].concat();
            payloads.extend(bytes.chunks(184).enumerate().map(|(n, part)| (n == 0, part.to_vec())));
        }
        self.packets(pid, &payloads)
    }

    fn feed(&mut self, packets: &[[u8; PACKET_LEN]]) {
        for packet in packets {
            self.psi.handle(PacketHeader::parse(packet).unwrap(), packet, self.now);
        }
    }

    fn send(&mut self, pid: u16, section: Vec<u8>) {
        let packets = self.sections(pid, &[section]);
        self.feed(&packets);
    }

    fn programs(&self) -> Vec<(u16, u16)> {
        self.psi.programs().iter().map(|p| (p.number, p.pmt_pid)).collect()
    }

    fn streams(&self) -> Vec<(u16, u8, u16)> {
        self.psi.streams().iter().map(|s| (s.program, s.stream_type, s.pid)).collect()
    }

    fn has_map(&self, program: u16) -> bool {
        self.psi.programs().iter().any(|p| p.number == program && p.map.is_some())
    }

    fn changes(&self) -> u64 {
        self.psi.counters().changes
    }
}

#[test]
fn the_program_of_a_test_stream_is_read() {
    let (pattern, mut bench) = (Pattern::new(1, 3_000_000), Bench::new());
    let packets: Vec<_> = (0..1000).map(|index| pattern.packet(index)).collect();
    bench.feed(&packets);
    assert_eq!(bench.programs(), [(1, PMT_PID)]);
    assert_eq!(bench.streams(), [(1, 0x06, DATA_PID)]);
    assert_eq!(bench.psi.programs()[0].map.unwrap().pcr_pid, DATA_PID);
    assert_eq!((bench.psi.transport_stream(), bench.psi.pat_version()), (Some(1), Some(0)));
    let counters = *bench.psi.counters();
    assert!(counters.pat > 10 && counters.pmt > 10, "{counters:?}");
    assert_eq!(counters, PsiCounters { pat: counters.pat, pmt: counters.pmt, changes: 2, ..PsiCounters::default() });
}

#[test]
fn programs_come_with_the_pat_and_streams_with_their_pmt() {
    let mut bench = Bench::new();
    bench.send(100, pmt(1, 0, 256, &[(0x1B, 256)]));
    assert_eq!(bench.psi.counters().pmt, 0, "nothing says that PID 100 has a table");
    bench.send(0, pat(0, &[(0, 16), (1, 100), (2, 200)]));
    assert_eq!(bench.programs(), [(1, 100), (2, 200)], "program 0 is the network information table");
    bench.send(200, pmt(1, 0, 256, &[(0x1B, 256)]));
    assert!(bench.streams().is_empty(), "the table of program 1 is on PID 100");
    bench.send(100, pmt(1, 3, 256, &[(0x1B, 256), (0x0F, 257)]));
    bench.send(200, pmt(2, 0, NULL_PID, &[(0x24, 300)]));
    assert_eq!(bench.streams(), [(1, 0x1B, 256), (1, 0x0F, 257), (2, 0x24, 300)]);
    let map = bench.psi.programs()[0].map.unwrap();
    assert_eq!((map.version, map.pcr_pid), (3, 256));
}

#[test]
fn a_change_is_followed_and_a_repetition_is_none() {
    let mut bench = Bench::new();
    bench.send(0, pat(0, &[(1, 100), (2, 200)]));
    bench.send(100, pmt(1, 0, 256, &[(0x1B, 256)]));
    bench.send(200, pmt(2, 0, 300, &[(0x1B, 300)]));
    let changes = bench.changes();
    bench.send(0, pat(0, &[(1, 100), (2, 200)]));
    bench.send(100, pmt(1, 0, 256, &[(0x1B, 256)]));
    assert_eq!(bench.changes(), changes);
    bench.send(100, pmt(1, 1, 257, &[(0x24, 257)]));
    assert_eq!(bench.streams(), [(2, 0x1B, 300), (1, 0x24, 257)]);
    bench.send(100, pmt(1, 1, 258, &[(0x24, 258)]));
    assert_eq!(bench.streams(), [(2, 0x1B, 300), (1, 0x24, 258)], "even where the version stays");
    bench.send(0, pat(1, &[(1, 100), (3, 200)]));
    assert_eq!(bench.programs(), [(1, 100), (3, 200)]);
    assert_eq!(bench.streams(), [(1, 0x24, 258)], "a program that stays keeps its streams");
    bench.send(0, pat(2, &[(1, 101), (3, 200)]));
    assert!(!bench.has_map(1) && bench.streams().is_empty(), "its table is elsewhere now");
}

#[test]
fn a_pat_of_several_sections_is_one_table() {
    let mut bench = Bench::new();
    bench.send(0, pat_part(0, (0, 1), &[(1, 101), (2, 102)]));
    bench.send(0, pat_part(0, (1, 1), &[(3, 103)]));
    assert_eq!(bench.programs(), [(1, 101), (2, 102), (3, 103)]);
    bench.send(103, pmt(3, 0, 300, &[(0x1B, 300)]));
    bench.send(0, pat_part(1, (0, 1), &[(1, 101), (3, 103)]));
    bench.send(0, pat_part(1, (1, 1), &[(2, 102)]));
    let mut programs = bench.programs();
    programs.sort_unstable();
    assert_eq!(programs, [(1, 101), (2, 102), (3, 103)], "programs that move between sections are not lost");
    assert!(bench.has_map(3));
    bench.send(0, pat_part(2, (0, 0), &[(1, 101)]));
    assert_eq!(bench.programs(), [(1, 101)], "a table that shrinks keeps nothing of its former sections");
    bench.send(0, pat_part(3, (200, 200), &[(9, 109)]));
    assert_eq!((bench.programs(), bench.psi.counters().not_kept), (vec![(1, 101)], 1));
}

#[test]
fn tables_that_are_not_yet_in_force_change_nothing() {
    let mut bench = Bench::new();
    let mut next = pat(0, &[(1, 100)]);
    next[5] &= !1;
    let end = next.len() - 4;
    let crc = crc32(&next[..end]).to_be_bytes();
    next[end..].copy_from_slice(&crc);
    bench.send(0, next);
    assert_eq!((bench.programs(), bench.psi.pat_seen()), (vec![], None));
}

#[test]
fn long_sections_are_put_together_from_their_packets_on_several_pids_at_once() {
    let many = |first: u16| (first..first + 60).map(|pid| (0x06, pid)).collect::<Vec<_>>();
    let mut bench = Bench::new();
    bench.send(0, pat(0, &[(1, 100), (2, 200)]));
    let one = bench.sections(100, &[pmt(1, 0, 256, &many(256))]);
    let two = bench.sections(200, &[pmt(2, 0, 512, &many(512))]);
    assert!(one.len() == 4 && two.len() == 4);
    for (a, b) in one.iter().zip(&two) {
        bench.feed(&[*a, *b, *b]);
    }
    assert_eq!(bench.streams().len(), 120, "whatever comes between, and a packet that comes twice");
}

#[test]
fn a_section_may_begin_and_end_anywhere_in_a_packet() {
    let (pat, long) = (pat(0, &[(1, 100)]), pmt(1, 0, 256, &(256..276).map(|pid| (0x06, pid)).collect::<Vec<_>>()));
    let filler = section(0x80, 1, 0, (0, 0), &[0; 250]);
    for split in 1..pat.len() {
        let mut bench = Bench::new();
        // A foreign section, then the first bytes of the PAT; its rest before the pointer of the next packet.
        let pad = section(0x80, 1, 0, (0, 0), &vec![0; 183 - 12 - split]);
        let (head, tail) = pat.split_at(split);
        let first = [&[0], &pad[..], head].concat();
        let second = [&[u8::try_from(tail.len()).unwrap()], tail, &filler[..30]].concat();
        let packets = bench.packets(0, &[(true, first), (true, second)]);
        bench.feed(&packets);
        assert_eq!(bench.programs(), [(1, 100)], "{split} bytes in the first packet");
        assert_eq!(bench.psi.counters().foreign, 1);
        bench.send(100, long.clone());
        assert_eq!(bench.streams().len(), 20);
    }
}

#[test]
fn a_section_with_a_lost_packet_is_dropped_whole() {
    let mut bench = Bench::new();
    bench.send(0, pat(0, &[(1, 100)]));
    let long = pmt(1, 0, 256, &(256..316).map(|pid| (0x06, pid)).collect::<Vec<_>>());
    let mut packets = bench.sections(100, std::slice::from_ref(&long));
    packets.remove(2);
    bench.feed(&packets);
    assert!(!bench.has_map(1));
    assert_eq!(bench.psi.counters().crc_errors, 0, "the counter told before the CRC could");
    bench.send(100, long);
    assert!(bench.has_map(1));
}

#[test]
fn what_is_wrong_is_counted_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.send(0, pat(0, &[(1, 100)]));
    bench.send(100, pmt(1, 0, 256, &[(0x1B, 256)]));
    let (programs, streams) = (bench.programs(), bench.streams());
    let count = |bench: &mut Bench, pid: u16, bytes: Vec<u8>, counter: fn(&PsiCounters) -> u64, what: &str| {
        let before = counter(bench.psi.counters());
        bench.send(pid, bytes);
        assert_eq!(counter(bench.psi.counters()), before + 1, "{what}");
        assert_eq!((bench.programs(), bench.streams()), (programs.clone(), streams.clone()), "{what}");
    };
    let mut broken = pat(1, &[(9, 900)]);
    broken[9] ^= 1;
    count(&mut bench, 0, broken, |c| c.crc_errors, "one bit of the PAT");
    count(&mut bench, 0, section(0x42, 1, 0, (0, 0), &[]), |c| c.foreign, "another table on PID 0");
    count(&mut bench, 0, section(0, 7, 1, (0, 0), &[0; 5]), |c| c.malformed, "half an entry");
    count(&mut bench, 0, section(0, 7, 1, (2, 1), &[0, 9, 0xE0, 99]), |c| c.malformed, "a number above the last");
    let lying = [&[0xE1, 0, 0xF0, 0][..], &[0x1B, 0xE1, 1, 0xF0, 9]].concat();
    count(&mut bench, 100, section(2, 1, 1, (0, 0), &lying), |c| c.malformed, "descriptors beyond the end");
    count(&mut bench, 100, section(2, 1, 1, (0, 0), &[0xE1, 0, 0xFF, 0xFF]), |c| c.malformed, "the program's as well");
    count(&mut bench, 100, section(2, 1, 1, (0, 0), &[0xE1]), |c| c.malformed, "no room for a PCR PID");
    count(&mut bench, 100, vec![2, 0xBF, 0xFF, 0, 0], |c| c.malformed, "longer than a section may be");
    let packets = bench.packets(100, &[(true, vec![184])]);
    bench.feed(&packets);
    assert_eq!(bench.psi.counters().malformed, 6 + 1, "a pointer beyond the packet");
    let mut packets = bench.sections(0, &[pat(1, &[])]);
    packets[0][3] |= 0x80;
    bench.feed(&packets);
    assert_eq!((bench.psi.counters().scrambled, bench.programs()), (1, programs));
}

#[test]
fn when_the_pat_was_last_seen_is_known() {
    let mut bench = Bench::new();
    assert_eq!(bench.psi.pat_seen(), None);
    bench.send(0, pat(0, &[(1, 100)]));
    let first = bench.now;
    assert_eq!(bench.psi.pat_seen(), Some(first));
    bench.now += Duration::from_millis(500);
    bench.send(0, section(0x42, 1, 0, (0, 0), &[]));
    bench.send(100, pmt(1, 0, 256, &[]));
    assert_eq!(bench.psi.pat_seen(), Some(first), "other tables are no PAT");
    bench.send(0, pat(0, &[(1, 100)]));
    assert_eq!(bench.psi.pat_seen(), Some(bench.now));
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let mut bench = Bench::new();
    let programs: Vec<_> = (1..200).map(|n| (n, 0x1000 + n)).collect();
    bench.send(0, pat(0, &programs));
    assert_eq!(bench.programs(), programs[..MAX_PROGRAMS]);
    assert_eq!(bench.psi.counters().not_kept, 199 - MAX_PROGRAMS as u64);
    for (program, pid) in &programs[..6] {
        bench.send(*pid, pmt(*program, 0, 256, &(256..336).map(|pid| (0x06, pid)).collect::<Vec<_>>()));
    }
    assert_eq!(bench.streams().len(), MAX_STREAMS);
    bench.send(0, pat(1, &[(1, 0), (2, 1), (3, 15), (4, 0x1FFF), (5, 100)]));
    assert_eq!(bench.programs(), [(5, 100)], "reserved PIDs and that of null packets have no table");
}

#[test]
fn memory_is_compact() {
    let mut bench = Bench::new();
    bench.send(0, pat(0, &(1..65).map(|n| (n, 0x1000 + n)).collect::<Vec<_>>()));
    for n in 1..65 {
        bench.send(0x1000 + n, pmt(n, 0, 256, &(0..4).map(|at| (0x06, 0x100 + 4 * n + at)).collect::<Vec<_>>()));
    }
    assert_eq!((bench.psi.programs().len(), bench.psi.streams().len()), (MAX_PROGRAMS, MAX_STREAMS));
    // And the counters of all PIDs.
    let all = PIDS + bench.psi.memory();
    assert!(all + size_of::<crate::proto::mpegts::inspect::Inspector>() <= 18 << 10, "{all} bytes");
}

proptest! {
    #[test]
    fn nothing_panics(data in prop::collection::vec(any::<u8>(), 0..4000)) {
        fuzz(&data);
    }

    /// Right sections with bytes turned over, with right CRCs and wrong ones.
    #[test]
    fn no_section_that_lies_panics(
        flips in prop::collection::vec((0_usize..60, any::<u8>()), 0..6),
        mend: bool,
        on_pmt: bool,
    ) {
        let mut bench = Bench::new();
        bench.send(0, pat(0, &[(1, 100), (2, 200)]));
        let mut bytes = if on_pmt { pmt(1, 0, 256, &[(0x1B, 256), (0x0F, 257)]) } else { pat(1, &[(1, 100), (3, 300)]) };
        let end = bytes.len() - 4;
        for (at, flip) in flips {
            bytes[at % end] ^= flip;
        }
        if mend {
            let crc = crc32(&bytes[..end]).to_be_bytes();
            bytes[end..].copy_from_slice(&crc);
        }
        bench.send(if on_pmt { 100 } else { 0 }, bytes);
        prop_assert!(bench.streams().iter().all(|(.., pid)| is_free(*pid)));
    }

    /// Tables cut into packets in any way arrive the same.
    #[test]
    fn the_cut_of_a_section_does_not_matter(cuts in prop::collection::vec(1_usize..184, 1..60), streams in 1_u16..80) {
        let mut bench = Bench::new();
        bench.send(0, pat(0, &[(1, 100)]));
        let wanted: Vec<_> = (256..256 + streams).map(|pid| (0x06, pid)).collect();
        let bytes = pmt(1, 0, 256, &wanted);
        let (mut rest, mut payloads, mut cuts) = (&bytes[..], Vec::new(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (part, more) = rest.split_at(cuts.next().unwrap().min(rest.len()).min(183));
            payloads.push((payloads.is_empty(), part.to_vec()));
            rest = more;
        }
        payloads[0].1.insert(0, 0);
        // A packet that is cut short is filled by its adaptation field.
        let packets = bench.packets(100, &payloads);
        for (mut packet, (_, payload)) in packets.into_iter().zip(payloads) {
            let stuffing = 184 - payload.len();
            if stuffing > 0 {
                packet[3] |= 0x20;
                packet.copy_within(4..4 + payload.len(), 4 + stuffing);
                packet[4] = u8::try_from(stuffing - 1).unwrap();
                packet[5..4 + stuffing].fill(if stuffing > 1 { 0 } else { 0xFF });
            }
            bench.feed(&[packet]);
        }
        prop_assert_eq!(bench.streams().len(), wanted.len());
    }
}
