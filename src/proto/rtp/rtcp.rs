//! RTCP, RFC 3550 section 6: compound packets read and written, with extended reports (RFC 3611) and transport-layer
//! feedback (RFC 4585).
//!
//! Writers append to a compound packet that the caller builds; readers look at one whose structure was checked as a whole.

use crate::proto::seq::RtpTime;

/// Sender report.
const SR: u8 = 200;
/// Receiver report.
const RR: u8 = 201;
/// Source description.
const SDES: u8 = 202;
/// Goodbye.
const BYE: u8 = 203;
/// Application-defined.
const APP: u8 = 204;
/// Transport-layer feedback (RFC 4585).
const RTPFB: u8 = 205;
/// Extended report (RFC 3611).
const XR: u8 = 207;

/// The item of a source description that names its sender.
const CNAME: u8 = 1;
/// The longest CNAME, in bytes.
pub const MAX_CNAME: usize = 255;
/// Block of an extended report: a receiver's reference time (RFC 3611, section 4.4).
const RRTR: u8 = 4;
/// Block of an extended report: the delay since the last receiver report (RFC 3611, section 4.5).
const DLRR: u8 = 5;

/// Why a datagram is no RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// Shorter than a packet's header, or than its length says.
    #[error("RTCP packet longer than its datagram")]
    Truncated,
    /// The first two bits are not 2.
    #[error("RTCP version {0}, not 2")]
    Version(u8),
    /// The padding is empty, longer than the packet, or not at the end of the compound packet.
    #[error("RTCP padding does not fit its packet")]
    Padding,
    /// A packet of this type is too short for what it must hold.
    #[error("RTCP packet of type {0} too short")]
    Short(u8),
}

/// A compound packet whose structure holds.
#[derive(Debug, Clone, Copy)]
pub struct Compound<'a>(&'a [u8]);

/// One packet of a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A sender report; its report blocks are left out.
    SenderReport(SenderReport),
    /// A receiver report, with the first of its blocks.
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// What it says about one source.
        block: Option<ReportBlock>,
    },
    /// A source description: the first source, and its CNAME.
    SourceDescription {
        /// The source.
        ssrc: u32,
        /// Its name.
        cname: Option<&'a [u8]>,
    },
    /// A source leaves: the first that is named.
    Bye {
        /// The source.
        ssrc: Option<u32>,
    },
    /// Application-defined.
    App {
        /// 0 to 31.
        subtype: u8,
        /// The source.
        ssrc: u32,
        /// Of the application.
        name: [u8; 4],
        /// Whole 32-bit words.
        data: &'a [u8],
    },
    /// Transport-layer feedback.
    Feedback {
        /// 1: the generic NACK.
        format: u8,
        /// Who sends it.
        sender: u32,
        /// Which source it is about.
        media: u32,
        /// Whole 32-bit words.
        fci: &'a [u8],
    },
    /// An extended report.
    ExtendedReport {
        /// Who reports.
        ssrc: u32,
        /// Its blocks: ask [`blocks`].
        blocks: &'a [u8],
    },
    /// Any other type.
    Other(u8),
}

/// What a sender reports (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The sender.
    pub ssrc: u32,
    /// Wall-clock time: seconds since 1900 in the upper, their fraction in the lower 32 bits.
    pub ntp: u64,
    /// The same moment on the media clock.
    pub timestamp: RtpTime,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// What a receiver reports about a source (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Of 256 packets since the last report, so many were lost.
    pub fraction: u8,
    /// Packets lost in all, -2^23 to 2^23 - 1.
    pub lost: i32,
    /// The highest sequence number received, extended to 32 bits.
    pub highest: u32,
    /// Interarrival jitter in ticks of the media clock.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's time; 0 without one.
    pub last_report: u32,
    /// Since that report came, in 1/65,536 s.
    pub delay: u32,
}

/// A block of an extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// A receiver's reference time, as [`SenderReport::ntp`].
    ReferenceTime(u64),
    /// An answer to that: the receiver it is for, the middle 32 bits of its time, and the delay in 1/65,536 s.
    Delay(u32, u32, u32),
}

impl<'a> Compound<'a> {
    /// Check a whole datagram.
    ///
    /// # Errors
    /// Whatever [`RtcpError`] names, in any of its packets.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtcpError> {
        let mut rest = datagram;
        loop {
            let (head, after) = split(rest)?;
            let padded = rest[0] & 0x20 != 0;
            if padded && !after.is_empty() {
                return Err(RtcpError::Padding);
            }
            read(head)?;
            if after.is_empty() {
                return Ok(Self(datagram));
            }
            rest = after;
        }
    }

    /// Its packets, in order.
    pub fn packets(self) -> impl Iterator<Item = Packet<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (head, after) = split(rest).ok()?;
            rest = after;
            read(head).ok()
        })
    }
}

/// The first packet, with its header and without its padding, and what comes after it.
fn split(datagram: &[u8]) -> Result<(&[u8], &[u8]), RtcpError> {
    let &[first, _, l0, l1, ..] = datagram else { return Err(RtcpError::Truncated) };
    if first >> 6 != 2 {
        return Err(RtcpError::Version(first >> 6));
    }
    let len = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
    let (packet, rest) = datagram.split_at_checked(len).ok_or(RtcpError::Truncated)?;
    if first & 0x20 == 0 {
        return Ok((packet, rest));
    }
    let padding = usize::from(packet[len - 1]);
    if padding == 0 || padding % 4 != 0 || padding > len - 4 {
        return Err(RtcpError::Padding);
    }
    Ok((&packet[..len - padding], rest))
}

/// Read one packet.
fn read(packet: &[u8]) -> Result<Packet<'_>, RtcpError> {
    let &[first, kind, _, _, ref body @ ..] = packet else { return Err(RtcpError::Truncated) };
    let count = first & 0x1F;
    let short = RtcpError::Short(kind);
    Ok(match kind {
        SR => {
            let (sender, blocks) = body.split_first_chunk::<24>().ok_or(short)?;
            if blocks.len() < usize::from(count) * BLOCK_LEN {
                return Err(short);
            }
            Packet::SenderReport(SenderReport {
                ssrc: word(sender, 0),
                ntp: u64::from(word(sender, 1)) << 32 | u64::from(word(sender, 2)),
                timestamp: RtpTime(word(sender, 3)),
                packets: word(sender, 4),
                octets: word(sender, 5),
            })
        }
        RR => {
            let (ssrc, blocks) = split_word(body).ok_or(short)?;
            if blocks.len() < usize::from(count) * BLOCK_LEN {
                return Err(short);
            }
            let block = blocks.first_chunk().filter(|_| count > 0).map(ReportBlock::read);
            Packet::ReceiverReport { ssrc, block }
        }
        SDES => match split_word(body) {
            Some((ssrc, items)) if count > 0 => Packet::SourceDescription { ssrc, cname: cname(items).ok_or(short)? },
            _ => Packet::Other(kind),
        },
        BYE => Packet::Bye { ssrc: split_word(body).filter(|_| count > 0).map(|(ssrc, _)| ssrc) },
        APP => {
            let (head, data) = body.split_first_chunk::<8>().ok_or(short)?;
            let &[.., n0, n1, n2, n3] = head;
            Packet::App { subtype: count, ssrc: word(head, 0), name: [n0, n1, n2, n3], data }
        }
        RTPFB => {
            let (head, fci) = body.split_first_chunk::<8>().ok_or(short)?;
            Packet::Feedback { format: count, sender: word(head, 0), media: word(head, 1), fci }
        }
        XR => {
            let (ssrc, blocks) = split_word(body).ok_or(short)?;
            Packet::ExtendedReport { ssrc, blocks }
        }
        _ => Packet::Other(kind),
    })
}

/// The blocks of an extended report that are of use for a round trip; where it is broken, those before that.
pub fn blocks(mut rest: &[u8]) -> impl Iterator<Item = Block> {
    let mut answers: &[u8] = &[];
    std::iter::from_fn(move || {
        loop {
            if let Some((answer, more)) = answers.split_first_chunk::<12>() {
                answers = more;
                return Some(Block::Delay(word(answer, 0), word(answer, 1), word(answer, 2)));
            }
            let (&[kind, _, l0, l1], after) = rest.split_first_chunk::<4>()?;
            let (body, after) = after.split_at_checked(4 * usize::from(u16::from_be_bytes([l0, l1])))?;
            rest = after;
            match (kind, body.first_chunk::<8>()) {
                (RRTR, Some(time)) => {
                    return Some(Block::ReferenceTime(u64::from(word(time, 0)) << 32 | u64::from(word(time, 1))));
                }
                (DLRR, _) => answers = body,
                _ => {}
            }
        }
    })
}

/// The CNAME among the items of a source; `None`: they do not fit.
fn cname(mut items: &[u8]) -> Option<Option<&[u8]>> {
    let mut found = None;
    loop {
        match *items {
            [] | [0, ..] => return Some(found),
            [kind, len, ref rest @ ..] => {
                let (text, rest) = rest.split_at_checked(usize::from(len))?;
                if kind == CNAME && found.is_none() {
                    found = Some(text);
                }
                items = rest;
            }
            [_] => return None,
        }
    }
}

/// The 32-bit word at this place; 0 beyond the end, which callers have ruled out.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(4 * at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_be_bytes(*word))
}

fn split_word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(word, rest)| (u32::from_be_bytes(*word), rest))
}

const BLOCK_LEN: usize = 24;

impl ReportBlock {
    fn read(block: &[u8; BLOCK_LEN]) -> Self {
        Self {
            ssrc: word(block, 0),
            fraction: block[4],
            // Its sign is the top bit of 24.
            lost: (word(block, 1) << 8).cast_signed() >> 8,
            highest: word(block, 2),
            jitter: word(block, 3),
            last_report: word(block, 4),
            delay: word(block, 5),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.lost.clamp(-(1 << 23), (1 << 23) - 1).cast_unsigned() & 0x00FF_FFFF;
        let lost = u32::from(self.fraction) << 24 | lost;
        for word in [self.ssrc, lost, self.highest, self.jitter, self.last_report, self.delay] {
            out.extend(word.to_be_bytes());
        }
    }
}

/// Append a sender report without blocks.
pub fn write_sender_report(report: &SenderReport, out: &mut Vec<u8>) {
    head(0, SR, 6, out);
    out.extend(report.ssrc.to_be_bytes());
    out.extend(report.ntp.to_be_bytes());
    out.extend(report.timestamp.0.to_be_bytes());
    out.extend(report.packets.to_be_bytes());
    out.extend(report.octets.to_be_bytes());
}

/// Append a receiver report: with one block, or an empty one.
pub fn write_receiver_report(ssrc: u32, block: Option<&ReportBlock>, out: &mut Vec<u8>) {
    head(u8::from(block.is_some()), RR, if block.is_some() { 7 } else { 1 }, out);
    out.extend(ssrc.to_be_bytes());
    if let Some(block) = block {
        block.write(out);
    }
}

/// Append a source description: one source with its CNAME, of which the first [`MAX_CNAME`] bytes are written.
pub fn write_source_description(ssrc: u32, cname: &[u8], out: &mut Vec<u8>) {
    let cname = &cname[..cname.len().min(MAX_CNAME)];
    // One to four zero bytes after it.
    let items = (2 + cname.len()) / 4 * 4 + 4;
    // At most 260 bytes.
    head(1, SDES, 1 + (items / 4) as u16, out);
    let end = out.len() + 4 + items;
    out.extend(ssrc.to_be_bytes());
    out.extend([CNAME, cname.len() as u8]);
    out.extend_from_slice(cname);
    out.resize(end, 0);
}

/// Append a goodbye of one source.
pub fn write_bye(ssrc: u32, out: &mut Vec<u8>) {
    head(1, BYE, 1, out);
    out.extend(ssrc.to_be_bytes());
}

/// Append an application-defined packet with these 32-bit words.
pub fn write_app(subtype: u8, ssrc: u32, name: [u8; 4], data: &[u32], out: &mut Vec<u8>) {
    head(subtype, APP, (2 + data.len()) as u16, out);
    out.extend(ssrc.to_be_bytes());
    out.extend(name);
    data.iter().for_each(|word| out.extend(word.to_be_bytes()));
}

/// Append transport-layer feedback with these 32-bit words.
pub fn write_feedback(format: u8, sender: u32, media: u32, fci: &[u32], out: &mut Vec<u8>) {
    head(format, RTPFB, (2 + fci.len()) as u16, out);
    out.extend(sender.to_be_bytes());
    out.extend(media.to_be_bytes());
    fci.iter().for_each(|word| out.extend(word.to_be_bytes()));
}

/// Append an extended report with one block.
pub fn write_extended_report(ssrc: u32, block: Block, out: &mut Vec<u8>) {
    let (kind, words): (u8, &[u32]) = match block {
        Block::ReferenceTime(ntp) => (RRTR, &[(ntp >> 32) as u32, (ntp & 0xFFFF_FFFF) as u32]),
        Block::Delay(receiver, last, delay) => (DLRR, &[receiver, last, delay]),
    };
    head(0, XR, 2 + words.len() as u16, out);
    out.extend(ssrc.to_be_bytes());
    out.extend([kind, 0, 0, words.len() as u8]);
    words.iter().for_each(|word| out.extend(word.to_be_bytes()));
}

fn head(count: u8, kind: u8, length: u16, out: &mut Vec<u8>) {
    let [l0, l1] = length.to_be_bytes();
    out.extend([0x80 | (count & 0x1F), kind, l0, l1]);
}

/// Fuzz body: whatever parses can be read to its end.
#[cfg(test)]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(compound) = Compound::parse(data) else { return };
    let mut count = 0;
    for packet in compound.packets() {
        count += 1;
        if let Packet::ExtendedReport { blocks: rest, .. } = packet {
            assert!(blocks(rest).count() <= rest.len() / 12 + 1);
        }
    }
    assert!(count > 0 && count <= data.len() / 4);
}

#[cfg(test)]
mod tests;
