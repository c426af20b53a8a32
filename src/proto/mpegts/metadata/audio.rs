//! What a sound is like, by the headers of its frames.

use super::bits::Bits;
use crate::proto::mpegts::codec::Codec;

/// What a sound is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// Hz.
    pub sample_rate: u32,
    /// With that for low frequencies; `None`: the header does not say.
    pub channels: Option<u8>,
    /// The profile of AAC, the layer of MPEG audio; `None`: the codec has none.
    pub profile: Option<&'static str>,
}

/// A frame's header.
struct Frame {
    audio: Audio,
    /// Bytes to the next one.
    len: usize,
}

/// The sound of frames of a codec. A frame counts if it is the first thing there, or if another follows on it: chance
/// makes sync words, too.
pub(super) fn audio(codec: Codec, stream: &[u8]) -> Option<Audio> {
    let header = match codec {
        Codec::MpegAudio => mpeg_audio,
        Codec::Aac => adts,
        Codec::AacLatm => latm,
        Codec::Ac3 | Codec::Eac3 => ac3,
        _ => return None,
    };
    let sync = match codec {
        Codec::AacLatm => [0x56, 0xE0],
        Codec::Ac3 | Codec::Eac3 => [0x0B, 0x77],
        _ => [0xFF, 0xE0],
    };
    // Most bytes are no beginning; of the second, the bits that are set must be.
    let mut begins = stream.windows(2).enumerate().filter(|(_, two)| two[0] == sync[0] && two[1] & sync[1] == sync[1]);
    begins.find_map(|(at, _)| {
        let frame = header(&stream[at..]).filter(|frame| frame.len > 0)?;
        let same = |next: Frame| next.audio.sample_rate == frame.audio.sample_rate;
        match stream.get(at + frame.len..) {
            Some([]) | None => at == 0,
            Some(next) if next.len() < 16 => at == 0,
            Some(next) => header(next).is_some_and(same),
        }
        .then_some(frame.audio)
    })
}

const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// The channels of an AAC channel configuration; 0 is told elsewhere.
const fn aac_channels(configuration: u8) -> Option<u8> {
    match configuration {
        1..=6 => Some(configuration),
        7 | 12 | 14 => Some(8),
        11 => Some(7),
        13 => Some(24),
        _ => None,
    }
}

const fn aac_profile(object_type: u8) -> Option<&'static str> {
    Some(match object_type {
        1 => "Main",
        2 => "LC",
        3 => "SSR",
        4 => "LTP",
        5 => "HE-AAC",
        29 => "HE-AACv2",
        _ => return None,
    })
}

/// ISO/IEC 13818-7, section 6.2.
fn adts(data: &[u8]) -> Option<Frame> {
    let mut bits = Bits::new(data);
    if bits.bits(12)? != 0xFFF {
        return None;
    }
    bits.skip(1)?;
    if bits.bits(2)? != 0 {
        return None;
    }
    bits.skip(1)?;
    let profile = bits.byte(2)? + 1;
    let sample_rate = *AAC_RATES.get(bits.bits(4)? as usize)?;
    bits.skip(1)?;
    let channels = aac_channels(bits.byte(3)?);
    bits.skip(4)?;
    let len = bits.bits(13)? as usize;
    (len >= 7).then_some(Frame { audio: Audio { sample_rate, channels, profile: aac_profile(profile) }, len })
}

/// ISO/IEC 14496-3, sections 1.7.2 and 1.7.3; only where the configuration is in this very frame.
fn latm(data: &[u8]) -> Option<Frame> {
    let mut bits = Bits::new(data);
    if bits.bits(11)? != 0x2B7 {
        return None;
    }
    let len = bits.bits(13)? as usize + 3;
    if bits.bit()? {
        return None;
    }
    let version = bits.bit()?;
    if version && bits.bit()? {
        return None;
    }
    let value = |bits: &mut Bits<'_>| bits.bits(2).and_then(|more| bits.skip(8 * (more + 1)));
    if version {
        value(&mut bits)?;
    }
    bits.skip(1 + 6 + 4 + 3)?;
    if version {
        value(&mut bits)?;
    }
    let object_type = bits.byte(5)?;
    let rate = |bits: &mut Bits<'_>| match bits.bits(4)? {
        15 => bits.bits(24),
        index => AAC_RATES.get(index as usize).copied(),
    };
    let mut sample_rate = rate(&mut bits)?;
    let channels = bits.byte(4)?;
    if matches!(object_type, 5 | 29) {
        sample_rate = rate(&mut bits)?;
    }
    // Parametric stereo makes two of one.
    let channels = if object_type == 29 { Some(2) } else { aac_channels(channels) };
    Some(Frame { audio: Audio { sample_rate, channels, profile: aac_profile(object_type) }, len })
}

/// AC-3 and E-AC-3: ETSI TS 102 366, sections 4.4.1 and E.1.2.2.
fn ac3(data: &[u8]) -> Option<Frame> {
    let mut bits = Bits::new(data);
    if bits.bits(16)? != 0x0B77 {
        return None;
    }
    // The identification is in the same place in both.
    let bsid = data.get(5)? >> 3;
    let modes = |mode: u8, lfe: bool| [2, 1, 2, 3, 3, 4, 4, 5][usize::from(mode & 7)] + u8::from(lfe);
    if bsid <= 10 {
        bits.skip(16)?;
        let (rate_code, size_code) = (bits.byte(2)?, bits.byte(6)?);
        let rate = *[48_000_u32, 44_100, 32_000].get(usize::from(rate_code))?;
        let kbits = *[32_u32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640]
            .get(usize::from(size_code / 2))?;
        // 1536 samples a frame; at 44.1 kHz every other is a word longer.
        let words = kbits * 1000 * 1536 / 16 / rate + u32::from(rate == 44_100 && size_code % 2 == 1);
        bits.skip(8)?;
        let mode = bits.byte(3)?;
        let skipped = match mode {
            1 => 0,
            2 => 2,
            mode => 2 * (u32::from(mode & 1) + u32::from(mode & 4 != 0)),
        };
        bits.skip(skipped)?;
        let channels = Some(modes(mode, bits.bit()?));
        let sample_rate = rate >> bsid.saturating_sub(8);
        return Some(Frame { audio: Audio { sample_rate, channels, profile: None }, len: words as usize * 2 });
    }
    if !(11..=16).contains(&bsid) {
        return None;
    }
    let stream = bits.bits(2)?;
    bits.skip(3)?;
    let len = (bits.bits(11)? as usize + 1) * 2;
    let sample_rate = match bits.bits(2)? {
        3 => *[24_000, 22_050, 16_000].get(bits.bits(2)? as usize)?,
        code => {
            bits.skip(2)?;
            [48_000, 44_100, 32_000][code as usize]
        }
    };
    let (mode, lfe) = (bits.byte(3)?, bits.bit()?);
    // A dependent substream adds to the one before: its own channels are not those of the sound.
    (stream != 1)
        .then_some(Frame { audio: Audio { sample_rate, channels: Some(modes(mode, lfe)), profile: None }, len })
}

/// ISO/IEC 11172-3, section 2.4.1.3, and 13818-3, section 2.4.2.3.
fn mpeg_audio(data: &[u8]) -> Option<Frame> {
    let &[0xFF, b, c, d, ..] = data else { return None };
    if b & 0xE0 != 0xE0 {
        return None;
    }
    // 0: MPEG-2.5, 2: MPEG-2, 3: MPEG-1.
    let (version, layer) = (b >> 3 & 3, 4 - (b >> 1 & 3));
    let (rate_code, padding) = (usize::from(c >> 4), u32::from(c >> 1 & 1));
    let rate = *[44_100_u32, 48_000, 32_000].get(usize::from(c >> 2 & 3))?;
    let sample_rate = match version {
        3 => rate,
        2 => rate / 2,
        0 => rate / 4,
        _ => return None,
    };
    let kbits: &[u32; 16] = match (version, layer) {
        (3, 1) => &[0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0],
        (3, 2) => &[0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0],
        (3, 3) => &[0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0],
        (_, 1) => &[0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0],
        (_, 2 | 3) => &[0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0],
        _ => return None,
    };
    let bits = kbits[rate_code] * 1000;
    let len = match (version, layer) {
        (_, 1) => (12 * bits / sample_rate + padding) * 4,
        (0 | 2, 3) => 72 * bits / sample_rate + padding,
        _ => 144 * bits / sample_rate + padding,
    };
    let profile = ["Layer I", "Layer II", "Layer III"].get(usize::from(layer) - 1).copied();
    let channels = Some(if d >> 6 == 3 { 1 } else { 2 });
    (bits > 0).then_some(Frame { audio: Audio { sample_rate, channels, profile }, len: len as usize })
}
