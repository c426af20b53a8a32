//! Extension blocks of a handshake: type and length in words, then the contents.

use super::{Handshake, Reject, reverse_groups};
use crate::proto::srt::negotiated::HsFlags;

/// Bytes of the longest stream ID.
pub const MAX_STREAM_ID: usize = 512;
const MAX_CONGESTION: usize = 16;
const MAX_FILTER: usize = 64;

// Bits of the handshake's extension field: which blocks there are. Without the bit libsrt does not look for the block.
const HAS_HS: u16 = 1;
const HAS_KM: u16 = 2;
const HAS_CONFIG: u16 = 4;

const HSREQ: u16 = 1;
const HSRSP: u16 = 2;
const KMREQ: u16 = 3;
const KMRSP: u16 = 4;
const SID: u16 = 5;
const CONGESTION: u16 = 6;
const FILTER: u16 = 7;
const GROUP: u16 = 8;

/// What HSREQ and HSRSP hold: the version, what the sender can do, and the latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HsBlock {
    /// 0x00MMmmpp.
    pub version: u32,
    /// What the sender can do.
    pub flags: HsFlags,
    /// Milliseconds: the latency at which the sender of this block receives.
    pub receive_latency: u16,
    /// Milliseconds: the latency at which its receiver is to receive.
    pub send_latency: u16,
}

/// A block that asks, or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<T> {
    /// HSREQ or KMREQ.
    Request(T),
    /// HSRSP or KMRSP.
    Response(T),
}

/// The extension blocks of a handshake, checked for size and number. Of what comes twice where libsrt takes the first,
/// the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions<'a> {
    /// HSREQ (1) or HSRSP (2).
    pub hs: Option<Ask<HsBlock>>,
    /// KMREQ (3) or KMRSP (4), unread: see [`km`](crate::proto::srt::km).
    pub km: Option<Ask<&'a [u8]>>,
    /// SID (5): 1 to [`MAX_STREAM_ID`] bytes.
    pub stream_id: Option<String>,
    /// CONGESTION (6); left out when it is `live`.
    pub congestion: Option<String>,
    /// FILTER (7): what the packet filter is to be.
    pub filter: Option<String>,
    /// GROUP (8) is there.
    pub group: bool,
}

impl<'a> Handshake<'a> {
    /// Read the extension blocks, in any order. Blocks of unknown types are skipped.
    ///
    /// # Errors
    /// [`Reject::Rogue`], mostly: a block is announced and not there, is too long or short, or comes twice.
    pub fn read_extensions(&self) -> Result<Extensions<'a>, Reject> {
        let mut read = Extensions::default();
        let announced = |bit: u16| self.extensions & bit != 0;
        for (kind, body) in blocks(self.blocks) {
            match kind {
                HSREQ | HSRSP if announced(HAS_HS) && read.hs.is_none() => {
                    let block = HsBlock::parse(body).ok_or(Reject::Rogue)?;
                    read.hs = Some(if kind == HSREQ { Ask::Request(block) } else { Ask::Response(block) });
                }
                KMREQ | KMRSP if announced(HAS_KM) && read.km.is_none() => {
                    read.km = Some(if kind == KMREQ { Ask::Request(body) } else { Ask::Response(body) });
                }
                SID if announced(HAS_CONFIG) => once(&mut read.stream_id, text(body, MAX_STREAM_ID)?)?,
                CONGESTION if announced(HAS_CONFIG) => once(&mut read.congestion, text(body, MAX_CONGESTION)?)?,
                FILTER if announced(HAS_CONFIG) => once(&mut read.filter, text(body, MAX_FILTER)?)?,
                GROUP if announced(HAS_CONFIG) => read.group = true,
                _ => {}
            }
        }
        let missing = announced(HAS_HS) && read.hs.is_none() || announced(HAS_KM) && read.km.is_none();
        if missing { Err(Reject::Rogue) } else { Ok(read) }
    }
}

impl Extensions<'_> {
    /// The extension field of the handshake, and the blocks in the order of libsrt.
    pub fn write(&self) -> (u16, Vec<u8>) {
        let mut bits = 0;
        let mut out = Vec::new();
        match self.hs {
            Some(Ask::Request(hs)) => block(&mut out, HSREQ, &hs.write()),
            Some(Ask::Response(hs)) => block(&mut out, HSRSP, &hs.write()),
            None => {}
        }
        if self.hs.is_some() {
            bits |= HAS_HS;
        }
        for (kind, text) in [(SID, &self.stream_id), (CONGESTION, &self.congestion), (FILTER, &self.filter)] {
            if let Some(text) = text {
                let mut body = text.as_bytes().to_vec();
                body.resize(body.len().next_multiple_of(4), 0);
                reverse_groups(&mut body);
                block(&mut out, kind, &body);
                bits |= HAS_CONFIG;
            }
        }
        if self.group {
            block(&mut out, GROUP, &[0; 8]);
            bits |= HAS_CONFIG;
        }
        match self.km {
            Some(Ask::Request(km)) => block(&mut out, KMREQ, km),
            Some(Ask::Response(km)) => block(&mut out, KMRSP, km),
            None => {}
        }
        if self.km.is_some() {
            bits |= HAS_KM;
        }
        (bits, out)
    }
}

impl HsBlock {
    /// What is longer than three words is of the future.
    fn parse(body: &[u8]) -> Option<Self> {
        let ([version, flags, latency, ..], _) = body.as_chunks::<4>() else { return None };
        let [receive @ .., s0, s1] = *latency;
        Some(Self {
            version: u32::from_be_bytes(*version),
            flags: HsFlags(u32::from_be_bytes(*flags)),
            receive_latency: u16::from_be_bytes(receive),
            send_latency: u16::from_be_bytes([s0, s1]),
        })
    }

    fn write(&self) -> [u8; 12] {
        let latency = u32::from(self.receive_latency) << 16 | u32::from(self.send_latency);
        let mut out = [0; 12];
        for (place, word) in out.as_chunks_mut::<4>().0.iter_mut().zip([self.version, self.flags.0, latency]) {
            *place = word.to_be_bytes();
        }
        out
    }
}

/// Type and contents of each block; like libsrt, end at the first one that is longer than what is left.
fn blocks(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let ([k0, k1, w0, w1], after) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([*w0, *w1])) * 4;
        let (body, next) = after.split_at_checked(len)?;
        rest = next;
        Some((u16::from_be_bytes([*k0, *k1]), body))
    })
}

fn block(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    out.extend(kind.to_be_bytes());
    // Far below 65,536 words: a handshake goes into one packet.
    out.extend(((body.len() / 4) as u16).to_be_bytes());
    out.extend(body);
}

/// A text, filled up with zeros to whole words whose bytes come in reverse. Some bytes must be there, all of UTF-8, and
/// no zero among them: libsrt's `srt_listen_callback` would see another text than the rest of it.
fn text(body: &[u8], most: usize) -> Result<String, Reject> {
    if body.is_empty() || body.len() > most {
        return Err(Reject::Rogue);
    }
    let mut bytes = body.to_vec();
    reverse_groups(&mut bytes);
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(len);
    match String::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
        _ => Err(Reject::Rogue),
    }
}

fn once(place: &mut Option<String>, text: String) -> Result<(), Reject> {
    if place.replace(text).is_some() { Err(Reject::Rogue) } else { Ok(()) }
}
