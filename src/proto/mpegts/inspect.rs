//! What is looked at in a passing transport stream: only what somebody wants to know, and never a byte changed.

use crate::time::Instant;

use super::continuity::Continuity;
use super::packet::{PACKET_LEN, PacketHeader};
use super::pcr::{PcrFollower, PcrSample};
use super::psi::Psi;

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Continuity counters; 8 kB.
    pub continuity: bool,
    /// PAT and PMTs; 5 kB, and up to 4 kB for what they name.
    pub psi: bool,
    /// The PCRs of one program.
    pub pcr: bool,
}

impl Interest {
    /// Nothing: there is no need for an [`Inspector`].
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Counts since the inspector was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InspectCounters {
    /// Packets with a sync byte.
    pub packets: u64,
    /// Packets with `transport_error_indicator` (TR 101 290, 2.1); none of their other fields is looked at.
    pub transport_errors: u64,
    /// Packets that do not follow on the one before on their PID (TR 101 290, 1.4).
    pub continuity_errors: u64,
}

/// Looks at the packets of one transport stream. It takes at most 18 kB.
#[derive(Debug, Clone)]
pub struct Inspector {
    continuity: Option<Continuity>,
    psi: Option<Psi>,
    pcr: Option<PcrFollower>,
    /// Bytes so far.
    position: u64,
    counters: InspectCounters,
}

impl Inspector {
    /// Look at these things.
    pub fn new(interest: Interest) -> Self {
        Self {
            continuity: interest.continuity.then(Continuity::default),
            psi: interest.psi.then(Psi::default),
            pcr: interest.pcr.then(PcrFollower::default),
            position: 0,
            counters: InspectCounters::default(),
        }
    }

    /// Look at a datagram's payload: n x 188 bytes, of which packets without a sync byte are skipped. The last PCR in
    /// it of the PID that is followed.
    pub fn handle(&mut self, payload: &[u8], now: Instant) -> Option<PcrSample> {
        let mut sample = None;
        for packet in payload.as_chunks::<PACKET_LEN>().0 {
            sample = self.packet(packet, now).or(sample);
            self.position += PACKET_LEN as u64;
        }
        sample
    }

    /// The stream begins anew: what comes next is its first packet on each PID. Tables stay until others come.
    pub fn restart(&mut self) {
        self.continuity.iter_mut().for_each(Continuity::reset);
        self.pcr.iter_mut().for_each(|pcr| *pcr = PcrFollower::default());
    }

    /// The figures so far.
    pub const fn counters(&self) -> &InspectCounters {
        &self.counters
    }

    /// The tables, if they are looked at.
    pub const fn psi(&self) -> Option<&Psi> {
        self.psi.as_ref()
    }

    /// The clock, if it is looked at.
    pub const fn pcr(&self) -> Option<&PcrFollower> {
        self.pcr.as_ref()
    }

    fn packet(&mut self, packet: &[u8; PACKET_LEN], now: Instant) -> Option<PcrSample> {
        let header = PacketHeader::parse(packet)?;
        self.counters.packets += 1;
        if header.transport_error() {
            self.counters.transport_errors += 1;
            return None;
        }
        let field = header.adaptation_field(packet);
        if let Some(continuity) = &mut self.continuity
            && !continuity.follows(header, field.is_some_and(|field| field.discontinuity()))
        {
            self.counters.continuity_errors += 1;
        }
        if let Some(psi) = &mut self.psi {
            psi.handle(header, packet, now);
        }
        self.pcr.as_mut()?.handle_field(header.pid(), field?, self.position)
    }
}

/// Fuzz body: any packets; counts agree with their number.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let mut inspector = Inspector::new(Interest { continuity: true, psi: true, pcr: true });
    let now = Instant::now();
    let mut packets = data.as_chunks::<PACKET_LEN>().0.to_vec();
    packets.iter_mut().for_each(|packet| packet[0] = super::packet::SYNC);
    packets.iter().for_each(|packet| _ = inspector.handle(packet, now));
    let counters = inspector.counters();
    assert_eq!(counters.packets, packets.len() as u64);
    assert!(counters.transport_errors + counters.continuity_errors <= counters.packets);
}

#[cfg(test)]
mod tests;
