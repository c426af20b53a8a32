//! The datagrams: seven transport-stream packets, the first of which carries a mark, with or without an RTP header.

/// Bytes of a transport-stream packet.
const TS_PACKET: usize = 188;
/// Transport-stream packets of a datagram.
const TS_PACKETS: usize = 7;
/// Bytes of transport stream in a datagram.
pub const PAYLOAD: usize = TS_PACKETS * TS_PACKET;
/// Bytes of an RTP header.
pub const RTP_HEADER: usize = 12;

/// Begins a mark.
const MAGIC: [u8; 4] = *b"BNCH";
/// Where in a transport-stream packet the mark lies: right after its header.
const MARK_AT: usize = 4;
/// Bytes of a mark: magic, sequence number, time of sending.
const MARK: usize = 4 + 8 + 8;

/// What a datagram says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// From 0, one more with each datagram of a stream.
    pub sequence: u64,
    /// When it was sent, in nanoseconds since 1970.
    pub sent_ns: u64,
}

/// Bytes of a datagram.
pub const fn datagram_len(rtp: bool) -> usize {
    if rtp { RTP_HEADER + PAYLOAD } else { PAYLOAD }
}

/// What of a datagram never changes.
pub fn prepare(datagram: &mut [u8]) {
    let start = datagram.len() - PAYLOAD;
    for packet in datagram[start..].chunks_exact_mut(TS_PACKET) {
        packet.fill(0xFF);
        // PID 0x0100, payload only.
        packet[..4].copy_from_slice(&[0x47, 0x01, 0x00, 0x10]);
    }
    datagram[start + MARK_AT..][..4].copy_from_slice(&MAGIC);
}

/// What is its own: mark, continuity counters and, if it is as long as one with it, the RTP header of stream `stream`.
pub fn write(datagram: &mut [u8], stream: u32, mark: Mark) {
    if datagram.len() == datagram_len(true) {
        // A 90 kHz clock: one tick is 11 111 ns.
        let timestamp = (mark.sent_ns / 11_111) as u32;
        datagram[..2].copy_from_slice(&[0x80, 33]);
        datagram[2..4].copy_from_slice(&(mark.sequence as u16).to_be_bytes());
        datagram[4..8].copy_from_slice(&timestamp.to_be_bytes());
        datagram[8..12].copy_from_slice(&(stream + 1).to_be_bytes());
    }
    let start = datagram.len() - PAYLOAD;
    let first = mark.sequence.wrapping_mul(TS_PACKETS as u64);
    for (packet, number) in datagram[start..].chunks_exact_mut(TS_PACKET).zip(first..) {
        packet[3] = 0x10 | (number & 0x0F) as u8;
    }
    let at = &mut datagram[start + MARK_AT + MAGIC.len()..];
    at[..8].copy_from_slice(&mark.sequence.to_le_bytes());
    at[8..16].copy_from_slice(&mark.sent_ns.to_le_bytes());
}

/// The marks of a datagram: one, or as many as were put into it by a relay that cuts datagrams anew.
pub fn read(datagram: &[u8]) -> impl Iterator<Item = Mark> {
    let header = if datagram.len() % TS_PACKET == RTP_HEADER { RTP_HEADER } else { 0 };
    datagram[header..].chunks(TS_PACKET).filter_map(|packet| {
        let mark = packet.get(MARK_AT..MARK_AT + MARK)?;
        let (magic, rest) = mark.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        (*magic == MAGIC)
            .then_some(Mark { sequence: u64::from_le_bytes(*sequence), sent_ns: u64::from_le_bytes(*sent) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_with_and_without_rtp() {
        for rtp in [false, true] {
            let mut datagram = vec![0; datagram_len(rtp)];
            let mark = Mark { sequence: 70_000, sent_ns: 1_700_000_000_000_000_000 };
            prepare(&mut datagram);
            write(&mut datagram, 0, mark);
            assert_eq!(read(&datagram).collect::<Vec<_>>(), [mark]);
            assert_eq!(datagram[datagram.len() - PAYLOAD], 0x47);
        }
    }

    #[test]
    fn datagrams_cut_anew_keep_their_marks_and_strangers_have_none() {
        let (mut one, mut two) = (vec![0; PAYLOAD], vec![0; PAYLOAD]);
        for (datagram, sequence) in [(&mut one, 1), (&mut two, 2)] {
            prepare(datagram);
            write(datagram, 0, Mark { sequence, sent_ns: 5 });
        }
        let joined = [&one[TS_PACKET..], &two[..TS_PACKET]].concat();
        assert_eq!(read(&joined).map(|m| m.sequence).collect::<Vec<_>>(), [2]);
        assert_eq!(read(b"").count() + read(&[0x47; 12]).count() + read(&[0x47; 1316]).count(), 0);
    }
}
