//! ETSI TR 101 290 checks and per-PID figures of one transport stream, and the metadata that is read on the way.
//!
//! Make it with the stream's first packet, and hand it every datagram with the time of its arrival; that is the clock
//! by which tables, PCRs, PTSs and PIDs are late. A stream that falls silent loses sync, and nothing else: the other
//! checks wait for its return. Errors of the first second do not count, nor those of the first second after
//! [`Monitor::restart`].
//!
//! What is kept is bounded: some 20 kB for a stream of a program or two; at most 100 kB for one that names and sends all
//! it can. A packet that is neither table, nor beginning of a PES packet, nor bears an adaptation field costs one look
//! into a table, a compare and three counts.

use std::time::Duration;

use crate::time::Instant;

use super::continuity::Order;
use super::metadata::Metadata;
use super::packet::{NULL_PID, PACKET_LEN, PacketHeader, SYNC};
use super::psi::{self, PAT_PID, Psi};

mod check;
mod clock;
mod pids;

pub use check::{CLEAR, Check, CheckState};
use check::{Checks, Repetition};
pub use clock::ClockFigures;
use clock::{Clock, PCR_PERIOD};
pub use pids::MAX_PIDS;
use pids::{Pids, Slot, watch};

/// Errors do not count for so long after a start or a switch.
pub const FREEZE: Duration = Duration::from_secs(1);
/// PAT and PMT come at least this often (TR 101 290, 1.3.a and 1.5.a).
pub const TABLE_PERIOD: Duration = Duration::from_millis(500);
/// A picture's or a sound's packets come at least this often (1.6).
pub const PID_PERIOD: Duration = Duration::from_secs(5);
/// PTSs come at least this often (2.5).
pub const PTS_PERIOD: Duration = Duration::from_millis(700);
/// Where packets are scrambled, the CAT comes at least this often (2.6, which leaves the time open).
pub const CAT_PERIOD: Duration = Duration::from_secs(5);
/// Rates are measured, and silence is noticed, once in so long.
const TICK: Duration = Duration::from_secs(1);
/// So many wrong sync bytes in a row lose sync, and so many right ones find it.
const SYNC_LOST: u8 = 2;
const SYNC_FOUND: u8 = 5;

/// One PID's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidFigures {
    /// 13 bits; never that of null packets.
    pub pid: u16,
    /// Of whole packets, in the last second.
    pub bits_per_second: u64,
    /// Packets so far.
    pub packets: u64,
    /// Packets so far that did not follow on the one before.
    pub continuity_errors: u32,
    /// Packets so far with `transport_scrambling_control` other than 0.
    pub scrambled: u64,
    /// It bears the clock of a program.
    pub clock: Option<ClockFigures>,
}

/// Whether packets begin with sync bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sync {
    /// Right or wrong ones in a row, whichever it takes to change `lost`.
    run: u8,
    lost: bool,
    /// Packets have stopped.
    silent: bool,
}

/// Monitors one transport stream.
#[derive(Debug, Clone)]
pub struct Monitor {
    psi: Psi,
    metadata: Metadata,
    pids: Pids,
    clocks: Vec<Clock>,
    checks: Checks,
    sync: Sync,
    pat: Repetition,
    /// By program number.
    pmts: Vec<(u16, Repetition)>,
    /// Since the first scrambled packet after a CAT; with the newest scrambled packet.
    cat: Option<(Repetition, Instant)>,
    /// Nothing is late before this.
    due: Instant,
    /// Places of packets so far, right ones and wrong ones.
    places: u64,
    nulls: u64,
    window: Window,
}

/// Where the window of rates began.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    places: u64,
    nulls: u64,
    bits_per_second: u64,
    null_share: Option<f32>,
}

impl Monitor {
    /// For a stream whose first packet arrives now.
    pub fn new(now: Instant) -> Self {
        Self {
            psi: Psi::new(true),
            metadata: Metadata::default(),
            pids: Pids::new(),
            clocks: Vec::new(),
            checks: Checks::new(now, FREEZE),
            sync: Sync::default(),
            pat: Repetition::from(now),
            pmts: Vec::new(),
            cat: None,
            due: now,
            places: 0,
            nulls: 0,
            window: Window { began: now, places: 0, nulls: 0, bits_per_second: 0, null_share: None },
        }
    }

    /// Take a datagram's payload, with the time of its arrival. It should be n x 188 bytes; a rest that is no whole
    /// packet is one without a sync byte. Call [`Self::poll_timeout`] again afterwards.
    pub fn handle_datagram(&mut self, payload: &[u8], arrival: Instant) {
        if self.sync.silent {
            self.sync = Sync::default();
            self.restart(arrival);
            (self.window.began, self.window.places, self.window.nulls) = (arrival, self.places, self.nulls);
        }
        if arrival > self.due {
            self.find_late(arrival);
        }
        let (packets, rest) = payload.as_chunks();
        for packet in packets {
            self.packet(packet, arrival);
            self.places += 1;
        }
        if !rest.is_empty() {
            self.sync_byte(false, arrival);
        }
    }

    /// The stream begins anew: it comes from another sender, or there is a break that is known. What comes next is the
    /// first packet on each PID; tables and metadata stay until others come.
    pub fn restart(&mut self, now: Instant) {
        self.checks.freeze_until(now + FREEZE);
        self.metadata.abort();
        for slot in self.pids.iter_mut() {
            (slot.counter, slot.absent, slot.pts) = (<_>::default(), Repetition::from(now), None);
            slot.watch &= !watch::COLLECT;
        }
        self.clocks.iter_mut().for_each(|clock| clock.restart(now));
        self.pmts.iter_mut().for_each(|pmt| pmt.1 = Repetition::from(now));
        (self.pat, self.cat, self.due) = (Repetition::from(now), None, now);
    }

    /// When [`Self::handle_timeout`] is to be called; `None`: the stream is silent, and nothing is to be done.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.sync.silent).then(|| self.window.began + TICK)
    }

    /// Time has passed. Call it when all that has arrived was handed over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        let elapsed = now.saturating_duration_since(self.window.began).as_micros().max(1);
        let rate = |packets: u64| (u128::from(packets) * PACKET_LEN as u128 * 8_000_000 / elapsed) as u64;
        let (places, nulls) = (self.places - self.window.places, self.nulls - self.window.nulls);
        self.window = Window {
            began: now,
            places: self.places,
            nulls: self.nulls,
            bits_per_second: rate(places),
            null_share: (places > 0).then(|| nulls as f32 / places as f32),
        };
        for slot in self.pids.iter_mut() {
            slot.bits_per_second = rate(slot.packets - slot.window);
            slot.window = slot.packets;
        }
        self.clocks.iter_mut().for_each(Clock::roll);
        if places == 0 {
            self.sync = Sync { silent: true, lost: true, run: 0 };
            self.checks.error(Check::TsSyncLoss, 1, now);
            return;
        }
        self.checks.pass(now);
        self.pids.forget(now);
        if self.metadata.handle_timeout(now) {
            self.probe();
        }
    }

    /// What became of a check.
    pub const fn check(&self, check: Check) -> &CheckState {
        self.checks.state(check)
    }

    /// Programs, services and streams.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// PAT and PMTs.
    pub const fn psi(&self) -> &Psi {
        &self.psi
    }

    /// The rate of the whole stream in the last second, null packets and all.
    pub const fn bits_per_second(&self) -> u64 {
        self.window.bits_per_second
    }

    /// The share of null packets in the last second, 0 to 1; `None`: no packets came.
    pub const fn null_share(&self) -> Option<f32> {
        self.window.null_share
    }

    /// The figures of each PID, in no order; at most [`MAX_PIDS`].
    pub fn pids(&self) -> impl Iterator<Item = PidFigures> {
        self.pids.iter().map(|slot| PidFigures {
            pid: slot.pid,
            bits_per_second: slot.bits_per_second,
            packets: slot.packets,
            continuity_errors: slot.continuity_errors,
            scrambled: slot.scrambled,
            clock: self.clocks.iter().find(|clock| clock.pid == slot.pid).map(|clock| clock.figures),
        })
    }

    #[inline]
    fn packet(&mut self, packet: &[u8; PACKET_LEN], arrival: Instant) {
        let header = PacketHeader::parse(packet);
        if header.is_none() || self.sync.lost || self.sync.run != 0 {
            self.sync_byte(packet[0] == SYNC, arrival);
        }
        let Some(header) = header else { return };
        if header.transport_error() {
            self.checks.error(Check::Transport, 1, arrival);
            return;
        }
        if header.pid() == NULL_PID {
            self.nulls += 1;
            return;
        }
        let slot = match self.pids.find(header.pid()) {
            Some(slot) => slot,
            None => {
                let watch = if self.psi.follows(header.pid()) { watch::PSI } else { 0 };
                let Some(slot) = self.pids.add(header.pid(), arrival, watch) else { return };
                slot
            }
        };
        slot.packets += 1;
        slot.seen = arrival;
        let plain = !header.adaptation() && header.scrambling() == 0;
        let order = if plain {
            slot.counter.take(header, false)
        } else {
            let field = header.adaptation_field(packet);
            slot.counter.take(header, field.is_some_and(|field| field.discontinuity()))
        };
        if order == Order::Broken && self.checks.error(Check::ContinuityCount, 1, arrival) {
            slot.continuity_errors = slot.continuity_errors.saturating_add(1);
        }
        let begins = header.unit_start() && slot.watch & (watch::PTS | watch::PROBE) != 0;
        if !plain || begins || slot.watch & (watch::PSI | watch::COLLECT) != 0 {
            self.look(header, packet, order, arrival);
        }
    }

    /// Look into a packet.
    fn look(&mut self, header: PacketHeader, packet: &[u8; PACKET_LEN], order: Order, arrival: Instant) {
        let Some(slot) = self.pids.find(header.pid()) else { return };
        if slot.watch & watch::PCR != 0
            && let Some(field) = header.adaptation_field(packet)
            && let Some(pcr) = field.pcr()
            && let Some(clock) = self.clocks.iter_mut().find(|clock| clock.pid == header.pid())
        {
            let position = self.places * PACKET_LEN as u64;
            let faults = clock.sample(pcr, field.discontinuity(), position, arrival);
            self.checks.error(Check::PcrDiscontinuity, faults.discontinuity.into(), arrival);
            self.checks.error(Check::PcrAccuracy, faults.accuracy.into(), arrival);
        }
        let psi = slot.watch & watch::PSI != 0;
        if header.scrambling() != 0 {
            slot.scrambled += 1;
            // Until it is in clear again, no PTS can be read.
            slot.pts = None;
            slot.watch &= !watch::COLLECT;
            let (cat, newest) = self.cat.get_or_insert((Repetition::from(arrival), arrival));
            *newest = arrival;
            self.due = self.due.min(cat.due(CAT_PERIOD));
            match header.pid() {
                PAT_PID => _ = self.checks.error(Check::Pat, 1, arrival),
                pid if psi && self.psi.programs().iter().any(|program| program.pmt_pid == pid) => {
                    self.checks.error(Check::Pmt, 1, arrival);
                }
                _ => {}
            }
        }
        if psi {
            self.tables(header, packet, arrival);
        } else if header.scrambling() == 0 && header.payload() {
            self.media(header, packet, order, arrival);
        }
    }

    /// A packet on the PID of a picture or a sound, in clear.
    fn media(&mut self, header: PacketHeader, packet: &[u8; PACKET_LEN], order: Order, arrival: Instant) {
        let Some(slot) = self.pids.find(header.pid()) else { return };
        let payload = header.payload_of(packet);
        if header.unit_start() && slot.watch & watch::PTS != 0 && has_pts(payload) {
            slot.pts = Some(Repetition::from(arrival));
            self.due = self.due.min(arrival + PTS_PERIOD);
        }
        if slot.watch & (watch::PROBE | watch::COLLECT) == 0 || order == Order::Repeated {
            return;
        }
        let broken = order == Order::Broken;
        if self.metadata.handle_media(header, payload, broken, arrival) {
            slot.watch |= watch::COLLECT;
        } else {
            slot.watch &= !watch::COLLECT;
            if !self.metadata.wants(header.pid()) {
                slot.watch &= !watch::PROBE;
            }
        }
    }

    /// A packet on the PID of a table.
    fn tables(&mut self, header: PacketHeader, packet: &[u8; PACKET_LEN], arrival: Instant) {
        let before = *self.psi.counters();
        let Self { pat, pmts, cat, metadata, .. } = self;
        self.psi.handle_with(header, packet, arrival, |section| match section.table {
            psi::PAT => *pat = Repetition::from(arrival),
            psi::CAT => *cat = None,
            psi::PMT => {
                let pmt = pmts.iter_mut().find(|(number, _)| *number == section.extension);
                pmt.into_iter().for_each(|(_, pmt)| *pmt = Repetition::from(arrival));
                metadata.handle_pmt(section, arrival);
            }
            _ => metadata.handle_sdt(section, arrival),
        });
        let after = *self.psi.counters();
        self.checks.error(Check::Pat, after.foreign - before.foreign, arrival);
        self.checks.error(Check::Cat, after.foreign_on_cat - before.foreign_on_cat, arrival);
        self.checks.error(Check::Crc, after.crc_errors - before.crc_errors, arrival);
        if after.changes != before.changes {
            self.follow(arrival);
        }
    }

    /// The tables say something else: look at what they name.
    fn follow(&mut self, now: Instant) {
        self.metadata.handle_programs(&self.psi, now);
        let programs = self.psi.programs();
        self.pmts.retain(|(number, _)| programs.iter().any(|program| program.number == *number));
        for program in programs {
            if !self.pmts.iter().any(|(number, _)| *number == program.number) {
                self.pmts.push((program.number, Repetition::from(now)));
            }
        }
        let clock_pids = programs.iter().filter_map(|program| program.map).map(|map| map.pcr_pid);
        self.clocks.retain(|clock| clock_pids.clone().any(|pid| pid == clock.pid));
        for pid in clock_pids.filter(|pid| *pid < NULL_PID) {
            if !self.clocks.iter().any(|clock| clock.pid == pid) {
                self.clocks.push(Clock::new(pid, now));
            }
        }
        for slot in self.pids.iter_mut() {
            slot.watch = (slot.watch & watch::COLLECT) | if self.psi.follows(slot.pid) { watch::PSI } else { 0 };
        }
        let tables = programs.iter().map(|program| (program.pmt_pid, watch::PSI | watch::NAMED));
        let clocks = self.clocks.iter().map(|clock| (clock.pid, watch::PCR | watch::NAMED));
        let streams = self.metadata.streams().iter().map(|stream| {
            let (media, still) = (stream.codec.is_media(), stream.still_picture);
            let pts = if still { 0 } else { watch::PTS };
            (stream.pid, watch::NAMED | if media { watch::MEDIA | pts } else { 0 })
        });
        for (pid, named) in tables.chain(clocks).chain(streams) {
            if let Some(slot) = self.pids.add(pid, now, named) {
                if slot.watch & watch::MEDIA == 0 {
                    slot.absent = Repetition::from(slot.seen);
                }
                slot.watch |= named;
            }
        }
        self.probe();
        self.due = now;
    }

    /// Have the beginnings of PES packets looked at that metadata wants.
    fn probe(&mut self) {
        for stream in self.metadata.wanted() {
            if let Some(slot) = self.pids.find(stream) {
                slot.watch |= watch::PROBE;
            }
        }
    }

    /// Count what is late, and note when the next thing will be.
    fn find_late(&mut self, now: Instant) {
        let checks = &mut self.checks;
        let mut due = now + PID_PERIOD;
        let mut late = |check, repetition: &mut Repetition, limit| {
            checks.error(check, repetition.overdue(now, limit), now);
            due = due.min(repetition.due(limit));
        };
        late(Check::Pat, &mut self.pat, TABLE_PERIOD);
        self.pmts.iter_mut().for_each(|(_, pmt)| late(Check::Pmt, pmt, TABLE_PERIOD));
        self.clocks.iter_mut().for_each(|clock| late(Check::PcrRepetition, &mut clock.late, PCR_PERIOD));
        self.cat = self.cat.filter(|(_, newest)| now.saturating_duration_since(*newest) < TICK);
        self.cat.iter_mut().for_each(|(cat, _)| late(Check::Cat, cat, CAT_PERIOD));
        for slot in self.pids.iter_mut().filter(|slot| slot.watch & watch::MEDIA != 0) {
            let Slot { absent, pts, seen, .. } = slot;
            absent.came(*seen);
            late(Check::Pid, absent, PID_PERIOD);
            pts.iter_mut().for_each(|pts| late(Check::Pts, pts, PTS_PERIOD));
        }
        self.due = due;
    }

    /// A packet began with a sync byte, or not.
    #[cold]
    fn sync_byte(&mut self, right: bool, arrival: Instant) {
        if !right {
            self.checks.error(Check::SyncByte, 1, arrival);
        }
        if right != self.sync.lost {
            self.sync.run = 0;
            return;
        }
        self.sync.run += 1;
        if self.sync.lost && self.sync.run == SYNC_FOUND {
            self.sync = Sync::default();
        } else if !self.sync.lost && self.sync.run == SYNC_LOST {
            self.sync = Sync { lost: true, ..Sync::default() };
            self.checks.error(Check::TsSyncLoss, 1, arrival);
        }
    }
}

/// Whether a PES packet begins here that has a PTS (ISO/IEC 13818-1, section 2.4.3.6).
fn has_pts(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, _, _, _, marker, flags, ..] if marker >> 6 == 2 && flags & 0x80 != 0)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
