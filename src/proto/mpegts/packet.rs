//! Transport-stream packets (ISO/IEC 13818-1, section 2.4.3.2), datagrams of them, and what else may arrive instead.

use super::pcr::Pcr;
use crate::proto::rtp::header::{Header, HeaderError};

/// Bytes of a transport-stream packet.
pub const PACKET_LEN: usize = 188;
/// Bytes of a packet with Reed-Solomon parity, as some modulators and demodulators pass on.
pub const PACKET_LEN_RS: usize = 204;
/// The first byte of every packet.
pub const SYNC: u8 = 0x47;
/// The PID of null packets.
pub const NULL_PID: u16 = 0x1FFF;
/// How many PIDs there are.
pub const PIDS: usize = 1 << 13;

/// A datagram that passes: its packets are relayed untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// At least one.
    pub packets: usize,
    /// Of those, without 0x47 in its place.
    pub sync_errors: usize,
}

/// A datagram whose bytes are no transport-stream packets; [`classify`] says what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not whole transport-stream packets")]
pub struct NotTs;

/// Check that a payload is n x 188 bytes with at least one 0x47 in its place. Sync errors are counted, not mended.
///
/// # Errors
/// It is anything else.
pub fn check_datagram(payload: &[u8]) -> Result<Datagram, NotTs> {
    let (packets, []) = payload.as_chunks::<PACKET_LEN>() else { return Err(NotTs) };
    let sync_errors = packets.iter().filter(|packet| packet[0] != SYNC).count();
    if sync_errors == packets.len() {
        return Err(NotTs);
    }
    Ok(Datagram { packets: packets.len(), sync_errors })
}

/// What a datagram looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Transport-stream packets straight in UDP.
    Ts,
    /// Transport-stream packets in RTP.
    RtpTs,
    /// RTP with something else in it, by its payload type.
    Rtp(u8),
    /// RTCP.
    Rtcp,
    /// Transport-stream packets of 204 bytes.
    Ts204,
    /// It begins like a transport stream, but its length is not a multiple of 188.
    TsPart,
    /// No bytes at all.
    Empty,
    /// None of these.
    Other,
}

/// Say what a datagram looks like, to name what arrives where something else was expected.
pub fn classify(datagram: &[u8]) -> Wire {
    if datagram.is_empty() {
        return Wire::Empty;
    }
    if check_datagram(datagram).is_ok() {
        return Wire::Ts;
    }
    match Header::parse(datagram) {
        Ok(header) if check_datagram(&datagram[header.payload()]).is_ok() => return Wire::RtpTs,
        Ok(header) => return Wire::Rtp(header.payload_type),
        Err(HeaderError::Rtcp(_)) => return Wire::Rtcp,
        Err(_) => {}
    }
    if let (packets, []) = datagram.as_chunks::<PACKET_LEN_RS>()
        && packets.iter().all(|packet| packet[0] == SYNC)
    {
        return Wire::Ts204;
    }
    // One 0x47 is also the G of a text: two in place are no accident.
    if datagram[0] == SYNC && datagram.get(PACKET_LEN) == Some(&SYNC) { Wire::TsPart } else { Wire::Other }
}

/// The header of one transport-stream packet, as it came: what is not asked for is not taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader(u32);

impl PacketHeader {
    /// Read the header; `None` without the sync byte.
    #[inline]
    pub const fn parse(packet: &[u8; PACKET_LEN]) -> Option<Self> {
        let [SYNC, b1, b2, b3, ..] = *packet else { return None };
        Some(Self(u32::from_be_bytes([SYNC, b1, b2, b3])))
    }

    /// The sender's demodulator gave up on this packet.
    #[inline]
    pub const fn transport_error(self) -> bool {
        self.0 & 1 << 23 != 0
    }

    /// A PES packet or a section begins here (`payload_unit_start_indicator`).
    #[inline]
    pub const fn unit_start(self) -> bool {
        self.0 & 1 << 22 != 0
    }

    /// 13 bits; 0x1FFF are null packets.
    #[inline]
    pub const fn pid(self) -> u16 {
        (self.0 >> 8) as u16 & NULL_PID
    }

    /// `transport_scrambling_control`; 0 is in clear.
    #[inline]
    pub const fn scrambling(self) -> u8 {
        (self.0 >> 6) as u8 & 3
    }

    /// Whether there is an adaptation field.
    #[inline]
    pub const fn adaptation(self) -> bool {
        self.0 & 1 << 5 != 0
    }

    /// Whether there is a payload.
    #[inline]
    pub const fn payload(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// 4 bits.
    #[inline]
    pub const fn continuity(self) -> u8 {
        self.0 as u8 & 0x0F
    }

    /// The adaptation field of this header's packet. `None`: it has none, or one that does not fit.
    pub fn adaptation_field(self, packet: &[u8; PACKET_LEN]) -> Option<AdaptationField<'_>> {
        let end = 5 + usize::from(packet[4]);
        if self.adaptation() { packet.get(5..end).map(AdaptationField) } else { None }
    }

    /// The payload of this header's packet; empty where there is none, or where the adaptation field does not fit.
    pub fn payload_of(self, packet: &[u8; PACKET_LEN]) -> &[u8] {
        let start = if self.adaptation() { 5 + usize::from(packet[4]) } else { 4 };
        if self.payload() { packet.get(start..).unwrap_or_default() } else { &[] }
    }
}

/// An adaptation field (ISO/IEC 13818-1, section 2.4.3.4): its bytes after the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptationField<'p>(&'p [u8]);

impl AdaptationField<'_> {
    const fn flags(self) -> u8 {
        if let [flags, ..] = self.0 { *flags } else { 0 }
    }

    /// The packet's continuity counter, or its PCR, need not follow from those before (`discontinuity_indicator`).
    pub const fn discontinuity(self) -> bool {
        self.flags() & 0x80 != 0
    }

    /// Decoding may begin here (`random_access_indicator`).
    pub const fn random_access(self) -> bool {
        self.flags() & 0x40 != 0
    }

    /// The program clock reference.
    pub fn pcr(self) -> Option<Pcr> {
        let field = self.0.get(1..)?.first_chunk()?;
        (self.flags() & 0x10 != 0).then(|| Pcr::read(field))
    }
}

/// Fuzz body: classify anything; what passes is no shorter than a packet, and is named as transport stream.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let wire = classify(data);
    match check_datagram(data) {
        Ok(datagram) => {
            assert_eq!(datagram.packets * PACKET_LEN, data.len());
            assert!(datagram.sync_errors < datagram.packets);
            assert_eq!(wire, Wire::Ts);
        }
        Err(NotTs) => assert_ne!(wire, Wire::Ts),
    }
    for packet in data.as_chunks().0 {
        let Some(header) = PacketHeader::parse(packet) else { continue };
        let field = header.adaptation_field(packet);
        let before = field.map_or(4, |field| 5 + field.0.len());
        let payload = header.payload_of(packet);
        assert!(payload.is_empty() || before + payload.len() == PACKET_LEN);
        assert!(field.and_then(AdaptationField::pcr).is_none_or(|pcr| pcr.ticks() < Pcr::TURN));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ts(packets: usize) -> Vec<u8> {
        let mut packet = [0xAB; PACKET_LEN];
        packet[0] = SYNC;
        packet.repeat(packets)
    }

    fn rtp(payload_type: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x80, payload_type, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9][..], payload].concat()
    }

    #[test]
    fn whole_packets_pass_and_sync_errors_are_counted() {
        assert_eq!(check_datagram(&ts(1)), Ok(Datagram { packets: 1, sync_errors: 0 }));
        let mut seven = ts(7);
        seven[188] = 0x48;
        seven[376] = 0;
        assert_eq!(check_datagram(&seven), Ok(Datagram { packets: 7, sync_errors: 2 }));
        assert_eq!(check_datagram(&ts(40)).map(|d| d.packets), Ok(40), "jumbo frames carry more than 7");
    }

    #[test]
    fn anything_else_does_not_pass() {
        assert_eq!(check_datagram(&[]), Err(NotTs));
        assert_eq!(check_datagram(&ts(1)[..187]), Err(NotTs));
        assert_eq!(check_datagram(&[0; 376]), Err(NotTs), "no 0x47 in its place");
    }

    #[test]
    fn what_arrives_wrongly_is_named() {
        assert_eq!(classify(&ts(7)), Wire::Ts);
        assert_eq!(classify(&rtp(33, &ts(7))), Wire::RtpTs);
        assert_eq!(classify(&rtp(96, &[1; 100])), Wire::Rtp(96));
        assert_eq!(classify(&rtp(200, &[0; 16])), Wire::Rtcp);
        assert_eq!(classify(&[&[SYNC][..], &[7; 203]].concat().repeat(6)), Wire::Ts204);
        assert_eq!(classify(&ts(2)[..300]), Wire::TsPart);
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), Wire::Other);
        assert_eq!(classify(&[]), Wire::Empty);
    }

    #[test]
    fn packet_headers_are_read() {
        let mut packet = [0; PACKET_LEN];
        packet[..4].copy_from_slice(&[SYNC, 0x5F, 0xFF, 0x3A]);
        let header = PacketHeader::parse(&packet).unwrap();
        assert_eq!((header.pid(), header.continuity()), (0x1FFF, 10));
        assert!(header.unit_start() && header.adaptation() && header.payload() && !header.transport_error());
        packet[0] = 0;
        assert_eq!(PacketHeader::parse(&packet), None);
    }

    #[test]
    fn adaptation_field_and_payload_are_found() {
        let mut packet = [0xAA; PACKET_LEN];
        packet[..13].copy_from_slice(&[SYNC, 0x01, 0x00, 0x30, 8, 0xD0, 0, 0, 0, 0, 0x7E, 0x05, 0xFF]);
        let header = PacketHeader::parse(&packet).unwrap();
        let field = header.adaptation_field(&packet).unwrap();
        assert!(field.discontinuity() && field.random_access());
        assert_eq!(field.pcr().map(Pcr::ticks), Some(5));
        assert_eq!(header.payload_of(&packet).len(), PACKET_LEN - 13);

        packet[4] = 0;
        let field = header.adaptation_field(&packet).unwrap();
        assert!(!field.discontinuity() && field.pcr().is_none(), "one byte of stuffing has no flags");
        assert_eq!(header.payload_of(&packet).len(), PACKET_LEN - 5);

        packet[4] = 6;
        assert_eq!(header.adaptation_field(&packet).unwrap().pcr(), None, "the flag without the field");

        packet[4] = 184;
        assert_eq!(header.adaptation_field(&packet), None, "longer than the packet");
        assert!(header.payload_of(&packet).is_empty());

        packet[3] = 0x10;
        assert_eq!(PacketHeader::parse(&packet).unwrap().payload_of(&packet).len(), 184);
        packet[3] = 0x20;
        assert!(PacketHeader::parse(&packet).unwrap().payload_of(&packet).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz(&data);
        }

        #[test]
        fn no_packet_panics(packet in proptest::array::uniform32(any::<u8>()), length: u8, control in 0_u8..4) {
            let mut packet = packet.repeat(6);
            packet.truncate(PACKET_LEN);
            packet[0] = SYNC;
            packet[3] = control << 4;
            packet[4] = length;
            fuzz(&packet);
        }

        #[test]
        fn no_length_near_a_packet_panics(n in 0_usize..5, off in 0_usize..3, fill in prop::sample::select(vec![0_u8, 0x47, 0x80, 0xB2])) {
            fuzz(&vec![fill; (n * PACKET_LEN + off).saturating_sub(1)]);
        }
    }
}
