//! What a picture is like, and the headers of MPEG-2 video (ITU-T H.262, sections 6.2.2.1 and 6.2.2.3).

use super::bits::Bits;

/// What a picture is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Video {
    /// In pixels, without what is cut off.
    pub width: u16,
    /// In lines of a frame, without what is cut off.
    pub height: u16,
    /// `None`: the stream does not say.
    pub frame_rate: Option<FrameRate>,
    /// How its lines were taken.
    pub scan: Scan,
    /// How its colours were sampled.
    pub chroma: Chroma,
    /// Bits of a sample of luma: 8 to 16.
    pub bit_depth: u8,
    /// As the standard names it; `None`: an unusual one.
    pub profile: Option<&'static str>,
    /// As it is coded: 10 times the number in H.264, 30 times in HEVC, and 4, 6, 8, 10 for high to low in MPEG-2.
    pub level: u8,
}

/// How lines were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scan {
    /// Whole frames.
    Progressive,
    /// Two fields a frame, or each frame as the encoder likes.
    Interlaced,
}

/// How colours were sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chroma {
    /// Not at all.
    Monochrome,
    /// 4:2:0.
    Yuv420,
    /// 4:2:2.
    Yuv422,
    /// 4:4:4.
    Yuv444,
}

impl Chroma {
    /// As all standards code it.
    pub(super) const fn of(format: u32) -> Option<Self> {
        Some(match format {
            0 => Self::Monochrome,
            1 => Self::Yuv420,
            2 => Self::Yuv422,
            3 => Self::Yuv444,
            _ => return None,
        })
    }

    /// Pixels of luma to one of chroma, in width and height.
    pub(super) const fn subsampling(self) -> (u32, u32) {
        match self {
            Self::Yuv420 => (2, 2),
            Self::Yuv422 => (2, 1),
            Self::Monochrome | Self::Yuv444 => (1, 1),
        }
    }

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monochrome => "4:0:0",
            Self::Yuv420 => "4:2:0",
            Self::Yuv422 => "4:2:2",
            Self::Yuv444 => "4:4:4",
        }
    }
}

/// Frames a second, as a fraction in lowest terms: 30000/1001.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRate {
    /// Frames.
    pub frames: u32,
    /// In so many seconds.
    pub seconds: u32,
}

impl FrameRate {
    /// `None`: it is none.
    pub(super) const fn new(frames: u32, seconds: u32) -> Option<Self> {
        if frames == 0 || seconds == 0 {
            return None;
        }
        let (mut a, mut b) = (frames, seconds);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        Some(Self { frames: frames / a, seconds: seconds / a })
    }
}

/// The NAL units of a byte stream (ITU-T H.264 and H.265, annex B), each of at least one byte.
pub(super) fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_prefix(stream);
    std::iter::from_fn(move || {
        let from = rest?;
        rest = after_prefix(from);
        let end = rest.map_or(from.len(), |next| from.len() - next.len() - 3);
        Some(&from[..end])
    })
    .filter(|unit| !unit.is_empty())
}

/// What follows on the next start code prefix.
fn after_prefix(stream: &[u8]) -> Option<&[u8]> {
    let at = stream.windows(3).position(|prefix| prefix == [0, 0, 1])?;
    stream.get(at + 3..)
}

/// The picture that the headers of an MPEG-1 or MPEG-2 sequence describe.
pub(super) fn mpeg2(stream: &[u8]) -> Option<Video> {
    let mut units = nal_units(stream);
    let sequence = units.find(|unit| unit[0] == 0xB3)?;
    let mut bits = Bits::new(&sequence[1..]);
    let (width, height) = (bits.bits(12)?, bits.bits(12)?);
    bits.skip(4)?;
    let (frames, seconds) = match bits.bits(4)? {
        1 => (24_000, 1001),
        2 => (24, 1),
        3 => (25, 1),
        4 => (30_000, 1001),
        5 => (30, 1),
        6 => (50, 1),
        7 => (60_000, 1001),
        8 => (60, 1),
        _ => (0, 0),
    };
    let mpeg1 = Video {
        width: u16::try_from(width).ok()?,
        height: u16::try_from(height).ok()?,
        frame_rate: FrameRate::new(frames, seconds),
        scan: Scan::Progressive,
        chroma: Chroma::Yuv420,
        bit_depth: 8,
        profile: None,
        level: 0,
    };
    let video = match units.next() {
        Some([0xB5, extension @ ..]) if extension.first().is_some_and(|byte| byte >> 4 == 1) => {
            let mut bits = Bits::new(extension);
            bits.skip(5)?;
            let (profile, level) = (bits.byte(3)?, bits.byte(4)?);
            let (progressive, chroma) = (bits.bit()?, Chroma::of(bits.bits(2)?)?);
            let (width, height) = (width | bits.bits(2)? << 12, height | bits.bits(2)? << 12);
            bits.skip(12 + 1 + 8 + 1)?;
            let (more_frames, more_seconds) = (bits.bits(2)? + 1, bits.bits(5)? + 1);
            Video {
                width: u16::try_from(width).ok()?,
                height: u16::try_from(height).ok()?,
                frame_rate: FrameRate::new(frames * more_frames, seconds * more_seconds),
                scan: if progressive { Scan::Progressive } else { Scan::Interlaced },
                chroma,
                profile: [
                    Some("4:2:2"),
                    Some("High"),
                    Some("Spatially Scalable"),
                    Some("SNR Scalable"),
                    Some("Main"),
                    Some("Simple"),
                    None,
                    None,
                ][usize::from(profile)],
                level,
                ..mpeg1
            }
        }
        // At the end of what was kept, an extension may follow; anything else does so in MPEG-1 only.
        None | Some([0xB5]) => return None,
        Some(_) => mpeg1,
    };
    (video.width > 0 && video.height > 0).then_some(video)
}
