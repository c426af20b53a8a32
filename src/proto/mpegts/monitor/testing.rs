//! A multiplex of a constant rate for tests, packet by packet, that faults can be put into.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::proto::mpegts::packet::{NULL_PID, PACKET_LEN, PIDS, PacketHeader, SYNC};
use crate::proto::mpegts::pcr::Pcr;
use crate::proto::mpegts::psi::crc32;
use crate::time::Instant;

use super::{Check, Monitor};

pub(super) const PMT_PID: u16 = 0x1000;
/// The picture, with the PCR.
pub(super) const VIDEO: u16 = 0x100;
pub(super) const AUDIO: u16 = 0x101;
/// Packets a second: 1.504 Mbit/s.
pub(super) const RATE: u64 = 1000;
/// Packets from one PAT to the next: PAT, PMT, picture with PCR and PTS, sound with PTS, and what fills.
pub(super) const UNIT: usize = 32;

pub(super) type Packet = [u8; PACKET_LEN];

/// A section with its CRC.
pub(super) fn section(table: u8, extension: u16, body: &[u8]) -> Vec<u8> {
    let [a, b] = extension.to_be_bytes();
    let [high, low] = u16::try_from(5 + body.len() + 4).unwrap().to_be_bytes();
    let mut section = vec![table, 0xB0 | high, low, a, b, 0xC1, 0, 0];
    section.extend(body);
    section.extend(crc32(&section).to_be_bytes());
    section
}

/// A packet with a section from its first byte on. The counter is 0.
pub(super) fn table(pid: u16, section: &[u8]) -> Packet {
    let mut packet = packet(pid, true);
    packet[4] = 0;
    packet[5..][..section.len()].copy_from_slice(section);
    packet
}

pub(super) fn packet(pid: u16, unit_start: bool) -> Packet {
    let mut packet = [0xFF; PACKET_LEN];
    let [high, low] = pid.to_be_bytes();
    packet[..4].copy_from_slice(&[SYNC, high | u8::from(unit_start) << 6, low, 0x10]);
    packet
}

pub(super) fn pid_of(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1F, packet[2]])
}

pub(super) fn pat() -> Vec<u8> {
    section(0, 1, &[0, 1, 0xE0 | (PMT_PID >> 8) as u8, 0])
}

/// H.264 and MPEG audio.
pub(super) fn pmt() -> Vec<u8> {
    section(2, 1, &[0xE1, 0, 0xF0, 0, 0x1B, 0xE1, 0, 0xF0, 0, 0x03, 0xE1, 1, 0xF0, 0])
}

fn with_pcr(mut packet: Packet, index: u64) -> Packet {
    let pcr = Pcr::new(index * Pcr::HZ / RATE);
    packet[3] |= 0x20;
    packet[4..6].copy_from_slice(&[7, 0x10]);
    packet[6..12].copy_from_slice(&pcr.write());
    packet
}

pub(super) const PES: [u8; 14] = [0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];

/// The packets of so many seconds, without a fault.
pub(super) fn clean(seconds: u64) -> Vec<Packet> {
    let make = |index: u64| match index as usize % UNIT {
        0 => table(0, &pat()),
        1 => table(PMT_PID, &pmt()),
        2 => {
            let mut video = with_pcr(packet(VIDEO, true), index);
            video[12..][..PES.len()].copy_from_slice(&PES);
            video
        }
        3 => {
            let mut audio = packet(AUDIO, true);
            audio[4..][..PES.len()].copy_from_slice(&PES);
            audio
        }
        4..=20 => packet(VIDEO, false),
        21..=24 => packet(AUDIO, false),
        _ => packet(NULL_PID, false),
    };
    let mut packets: Vec<_> = (0..seconds * RATE).map(make).collect();
    count(&mut packets);
    packets
}

/// Give every packet with a payload the counter that it should have.
pub(super) fn count(packets: &mut [Packet]) {
    let mut counters = vec![0_u8; PIDS];
    for packet in packets {
        let counter = &mut counters[usize::from(pid_of(packet))];
        packet[3] = packet[3] & 0xF0 | *counter;
        *counter = (*counter + u8::from(packet[3] & 0x10 != 0)) % 16;
    }
}

/// Where the packets of a PID are between two moments, in milliseconds.
pub(super) fn places(packets: &[Packet], pid: u16, from: usize, to: usize) -> Vec<usize> {
    (from..to).filter(|at| pid_of(&packets[*at]) == pid).collect()
}

/// Monitors packets that come at [`RATE`].
pub(super) struct Bench {
    pub(super) monitor: Monitor,
    pub(super) began: Instant,
    pub(super) sent: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        Self { monitor: Monitor::new(began), began, sent: 0 }
    }

    pub(super) fn now(&self) -> Instant {
        self.began + Duration::from_micros(self.sent * 1_000_000 / RATE)
    }

    /// Each packet in a datagram of its own, at its time.
    pub(super) fn feed(&mut self, packets: &[Packet]) -> &mut Self {
        for packet in packets {
            self.pass();
            self.monitor.handle_datagram(packet, self.now());
            self.sent += 1;
        }
        self
    }

    /// So many milliseconds without a packet.
    pub(super) fn pause(&mut self, milliseconds: u64) -> &mut Self {
        for _ in 0..milliseconds {
            self.pass();
            self.sent += 1;
        }
        self
    }

    fn pass(&mut self) {
        while self.monitor.poll_timeout().is_some_and(|at| at <= self.now()) {
            self.monitor.handle_timeout(self.now());
        }
    }

    /// All checks that have counted.
    pub(super) fn errors(&self) -> BTreeMap<&'static str, u64> {
        let all = Check::ALL.iter().map(|check| (check.name(), self.monitor.check(*check).count));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

/// The errors of these packets.
pub(super) fn errors(packets: &[Packet]) -> BTreeMap<&'static str, u64> {
    Bench::new().feed(packets).errors()
}

/// The PIDs of packets with the sync byte.
pub(super) fn pids(packets: &[Packet]) -> BTreeSet<u16> {
    packets.iter().filter_map(PacketHeader::parse).map(|header| header.pid()).collect()
}
