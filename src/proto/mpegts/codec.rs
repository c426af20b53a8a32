//! What an elementary stream carries, by what its program map table says (ISO/IEC 13818-1, table 2-34; ETSI EN 300 468;
//! the registrations of SMPTE-RA).

/// The descriptors of a loop: tag and content of each, up to the first that contradicts the loop's length.
#[derive(Debug, Clone)]
pub struct Descriptors<'s>(pub &'s [u8]);

impl<'s> Iterator for Descriptors<'s> {
    type Item = (u8, &'s [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let split = rest.split_at_checked(usize::from(length));
        self.0 = split.map_or(&[], |(_, rest)| rest);
        split.map(|(content, _)| (tag, content))
    }
}

/// What an elementary stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ISO/IEC 11172-2.
    Mpeg1Video,
    /// ITU-T H.262.
    Mpeg2Video,
    /// ISO/IEC 14496-2.
    Mpeg4Video,
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
    /// ITU-T H.266.
    Vvc,
    /// ISO/IEC 15444-1.
    Jpeg2000,
    /// ISO/IEC 21122.
    JpegXs,
    /// AV1.
    Av1,
    /// SMPTE ST 421.
    Vc1,
    /// ISO/IEC 11172-3 and 13818-3, layers I to III.
    MpegAudio,
    /// AAC in ADTS frames.
    Aac,
    /// AAC in LATM.
    AacLatm,
    /// ETSI TS 102 366.
    Ac3,
    /// ETSI TS 102 366, annex E.
    Eac3,
    /// ETSI TS 103 190.
    Ac4,
    /// ETSI TS 102 114.
    Dts,
    /// Opus.
    Opus,
    /// Uncompressed, SMPTE ST 302.
    Smpte302,
    /// ETSI EN 300 472.
    Teletext,
    /// ETSI EN 300 743.
    DvbSubtitles,
    /// ANSI/SCTE 35.
    Scte35,
    /// SMPTE ST 336.
    Klv,
    /// Timed metadata in ID3.
    Id3,
    /// Sections of some other kind.
    Sections,
    /// PES packets of some other kind.
    Private,
    /// Anything else.
    Unknown,
}

/// What a codec is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// All else; it may be silent for long.
    Data,
}

impl Codec {
    /// By the stream type and the descriptors of the stream.
    pub fn of(stream_type: u8, descriptors: Descriptors<'_>) -> Self {
        match stream_type {
            0x01 => Self::Mpeg1Video,
            0x02 => Self::Mpeg2Video,
            0x03 | 0x04 => Self::MpegAudio,
            0x05 | 0x0A..=0x0D => Self::Sections,
            0x0F => Self::Aac,
            0x10 => Self::Mpeg4Video,
            0x11 => Self::AacLatm,
            0x15 => descriptors.clone().find_map(registered).unwrap_or(Self::Id3),
            0x1B | 0x1F | 0x20 => Self::H264,
            0x21 => Self::Jpeg2000,
            0x24 | 0x25 => Self::Hevc,
            0x32 => Self::JpegXs,
            0x33 | 0x34 => Self::Vvc,
            0x81 => Self::Ac3,
            0x86 => Self::Scte35,
            0x87 => Self::Eac3,
            0xEA => Self::Vc1,
            0x06 | 0x80.. => {
                let known =
                    descriptors.clone().find_map(described).or_else(|| descriptors.clone().find_map(registered));
                known.unwrap_or(if stream_type == 0x06 { Self::Private } else { Self::Unknown })
            }
            _ => Self::Unknown,
        }
    }

    /// What it is for.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Mpeg1Video
            | Self::Mpeg2Video
            | Self::Mpeg4Video
            | Self::H264
            | Self::Hevc
            | Self::Vvc
            | Self::Jpeg2000
            | Self::JpegXs
            | Self::Av1
            | Self::Vc1 => Kind::Video,
            Self::MpegAudio
            | Self::Aac
            | Self::AacLatm
            | Self::Ac3
            | Self::Eac3
            | Self::Ac4
            | Self::Dts
            | Self::Opus
            | Self::Smpte302 => Kind::Audio,
            _ => Kind::Data,
        }
    }

    /// Pictures or sound.
    pub const fn is_media(self) -> bool {
        !matches!(self.kind(), Kind::Data)
    }

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mpeg1Video => "MPEG-1 video",
            Self::Mpeg2Video => "MPEG-2 video",
            Self::Mpeg4Video => "MPEG-4 video",
            Self::H264 => "H.264",
            Self::Hevc => "HEVC",
            Self::Vvc => "VVC",
            Self::Jpeg2000 => "JPEG 2000",
            Self::JpegXs => "JPEG XS",
            Self::Av1 => "AV1",
            Self::Vc1 => "VC-1",
            Self::MpegAudio => "MPEG audio",
            Self::Aac => "AAC",
            Self::AacLatm => "AAC LATM",
            Self::Ac3 => "AC-3",
            Self::Eac3 => "E-AC-3",
            Self::Ac4 => "AC-4",
            Self::Dts => "DTS",
            Self::Opus => "Opus",
            Self::Smpte302 => "SMPTE 302M",
            Self::Teletext => "teletext",
            Self::DvbSubtitles => "DVB subtitles",
            Self::Scte35 => "SCTE-35",
            Self::Klv => "KLV",
            Self::Id3 => "ID3",
            Self::Sections => "sections",
            Self::Private => "private data",
            Self::Unknown => "unknown",
        }
    }
}

/// The DVB descriptors that say what private data is.
fn described((tag, content): (u8, &[u8])) -> Option<Codec> {
    Some(match (tag, content) {
        (0x6A, _) => Codec::Ac3,
        (0x7A, _) => Codec::Eac3,
        (0x7B, _) => Codec::Dts,
        (0x7C, _) => Codec::Aac,
        (0x56 | 0x46, _) => Codec::Teletext,
        (0x59, _) => Codec::DvbSubtitles,
        (0x7F, [0x15, ..]) => Codec::Ac4,
        _ => return None,
    })
}

/// The registration descriptor (ISO/IEC 13818-1, section 2.6.8).
fn registered((tag, content): (u8, &[u8])) -> Option<Codec> {
    let format = content.first_chunk().filter(|_| tag == 0x05)?;
    Some(match format {
        b"AC-3" => Codec::Ac3,
        b"EAC3" => Codec::Eac3,
        b"AC-4" => Codec::Ac4,
        b"DTS1" | b"DTS2" | b"DTS3" => Codec::Dts,
        b"Opus" => Codec::Opus,
        b"BSSD" => Codec::Smpte302,
        b"HEVC" => Codec::Hevc,
        b"AV01" => Codec::Av1,
        b"VC-1" => Codec::Vc1,
        b"KLVA" => Codec::Klv,
        b"CUEI" => Codec::Scte35,
        b"ID3 " => Codec::Id3,
        _ => return None,
    })
}

/// A language of ISO 639-2: three letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Language([u8; 3]);

impl Language {
    /// The first one that a stream's descriptors name: of sound, teletext or subtitles.
    pub fn of(mut descriptors: Descriptors<'_>) -> Option<Self> {
        descriptors.find_map(|(tag, content)| {
            let code = content.first_chunk().filter(|_| matches!(tag, 0x0A | 0x46 | 0x56 | 0x59))?;
            code.iter().all(u8::is_ascii_alphabetic).then_some(Self(*code))
        })
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Whether the descriptors say that a video stream may be a still picture (ISO/IEC 13818-1, sections 2.6.2 and 2.6.64).
pub(super) fn still_picture(mut descriptors: Descriptors<'_>) -> bool {
    descriptors.any(|(tag, content)| match (tag, content) {
        (0x02, [flags, ..]) => flags & 0x01 != 0,
        (0x28, [_, _, _, flags, ..]) => flags & 0x80 != 0,
        _ => false,
    })
}

/// Whether streams of this type come in PES packets, and not in sections (ISO/IEC 13818-1, table 2-34; ANSI/SCTE 35 and
/// ATSC A/90). Types that are not known do.
pub const fn carries_pes(stream_type: u8) -> bool {
    !matches!(stream_type, 0x05 | 0x0A..=0x0D | 0x13 | 0x14 | 0x16..=0x18 | 0x1A | 0x86 | 0x95)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stream_type: u8, descriptors: &[u8]) -> Codec {
        Codec::of(stream_type, Descriptors(descriptors))
    }

    #[test]
    fn stream_types_name_codecs() {
        assert_eq!(of(0x1B, &[]), Codec::H264);
        assert_eq!(of(0x24, &[]), Codec::Hevc);
        assert_eq!(of(0x02, &[]), Codec::Mpeg2Video);
        assert_eq!(of(0x0F, &[]), Codec::Aac);
        assert_eq!(of(0x81, &[]), Codec::Ac3);
        assert_eq!(of(0x86, &[]), Codec::Scte35);
        assert_eq!((of(0x06, &[]), of(0x99, &[]), of(0x7F, &[])), (Codec::Private, Codec::Unknown, Codec::Unknown));
    }

    #[test]
    fn private_data_is_what_its_descriptors_say() {
        assert_eq!(of(0x06, &[0x0A, 4, b'd', b'e', b'u', 0, 0x6A, 1, 0]), Codec::Ac3);
        assert_eq!(of(0x06, &[0x05, 4, b'O', b'p', b'u', b's']), Codec::Opus);
        assert_eq!(of(0x06, &[0x56, 5, b'd', b'e', b'u', 0x09, 0]), Codec::Teletext);
        assert_eq!(of(0x06, &[0x59, 0]), Codec::DvbSubtitles);
        assert_eq!(of(0x06, &[0x05, 200, b'O']), Codec::Private, "a length that lies");
        assert_eq!(of(0x1B, &[0x6A, 0]), Codec::H264, "but a type of its own goes first");
    }

    #[test]
    fn languages_are_three_letters() {
        let of = |bytes: &[u8]| Language::of(Descriptors(bytes)).map(|language| language.as_str().to_owned());
        assert_eq!(of(&[0x52, 1, 7, 0x0A, 4, b'd', b'e', b'u', 0]).as_deref(), Some("deu"));
        assert_eq!(of(&[0x0A, 4, 0xFF, b'e', b'u', 0]), None);
        assert_eq!(of(&[0x0A, 0]), None);
    }

    #[test]
    fn still_pictures_are_announced() {
        assert!(still_picture(Descriptors(&[0x02, 3, 0x01, 0, 0])));
        assert!(still_picture(Descriptors(&[0x28, 4, 100, 0, 40, 0xBF])));
        assert!(!still_picture(Descriptors(&[0x28, 4, 100, 0, 40, 0x3F])));
    }
}
