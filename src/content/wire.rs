//! What the daemon and its helper say to each other.
//!
//! The daemon begins with a line of JSON that says what is wanted, and sends transport stream from then on. The helper
//! answers with messages: a letter, a length of four bytes, and so many bytes. Neither waits for the other.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes that come before each message.
pub const HEAD: usize = 5;
/// Of a picture, in bytes.
pub const LARGEST_PICTURE: usize = 512 * 1024;
/// Of a report, in bytes.
const LARGEST_REPORT: usize = 4096;
/// Of the first line, in bytes.
const LONGEST_LINE: u64 = 1024;
/// What is spoken here: the daemon and its helper come with the same package, but may be started at different times.
const VERSION: u32 = 1;
/// How a JPEG begins.
const JPEG: [u8; 2] = [0xFF, 0xD8];

/// Why something is no message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No kind of message.
    #[error("0x{0:02x} begins no message")]
    Kind(u8),
    /// Larger than a message of its kind may be.
    #[error("a message of {0} bytes")]
    Length(usize),
    /// Something else than a picture.
    #[error("a picture that is no JPEG")]
    Picture,
    /// No JSON, or another document.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Another version of what is spoken here.
    #[error("it speaks version {0} of the helper's protocol, not {VERSION}: restart the one that was not updated")]
    Version(u32),
    /// The other end is gone, or can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What the daemon wants of a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wanted {
    pub(super) version: u32,
    /// A picture so often.
    #[serde(with = "milliseconds")]
    pub thumbnails: Option<Duration>,
    /// To be told when the picture has been black for so long.
    #[serde(with = "milliseconds")]
    pub black: Option<Duration>,
    /// To be told when the picture has not moved for so long.
    #[serde(with = "milliseconds")]
    pub frozen: Option<Duration>,
    /// To be told when there has been no sound for so long.
    #[serde(with = "milliseconds")]
    pub silence: Option<Duration>,
}

/// In documents, a time is in milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_millis() as u64).serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

impl Wanted {
    /// Nothing.
    pub const NOTHING: Self = Self { version: VERSION, thumbnails: None, black: None, frozen: None, silence: None };

    /// Whether pictures must be decoded for it.
    pub const fn pictures(&self) -> bool {
        self.thumbnails.is_some() || self.black.is_some() || self.frozen.is_some()
    }

    /// Whether sound must be decoded for it.
    pub const fn sound(&self) -> bool {
        self.silence.is_some()
    }

    /// As the first line.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Read the first line.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn read(from: &mut impl BufRead) -> Result<Self, WireError> {
        let mut line = Vec::new();
        from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        let wanted: Self = serde_json::from_slice(&line)?;
        if wanted.version == VERSION { Ok(wanted) } else { Err(WireError::Version(wanted.version)) }
    }
}

/// What is known of one thing that is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing was decoded that would tell.
    #[default]
    Unknown,
    /// It is as it should be, or not wrong for long enough.
    Right,
    /// It is wrong, for so many ms.
    Wrong(u64),
}

/// What a helper has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Report {
    /// Of the picture.
    pub black: State,
    /// Of the picture.
    pub frozen: State,
    /// Of the sound.
    pub silent: State,
    /// Why the helper ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JPEG.
    Picture,
    /// A [`Report`].
    Report,
}

/// What a helper tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A JPEG.
    Picture(Vec<u8>),
    /// What it has found.
    Report(Report),
}

impl Kind {
    /// What a message is, and how many bytes of it follow.
    ///
    /// # Errors
    /// It is none.
    pub fn of_head(head: [u8; HEAD]) -> Result<(Self, usize), WireError> {
        let [letter, length @ ..] = head;
        let (kind, most) = match letter {
            b'P' => (Self::Picture, LARGEST_PICTURE),
            b'R' => (Self::Report, LARGEST_REPORT),
            other => return Err(WireError::Kind(other)),
        };
        let length = u32::from_be_bytes(length) as usize;
        if length <= most { Ok((kind, length)) } else { Err(WireError::Length(length)) }
    }
}

impl Message {
    /// What is behind a head.
    ///
    /// # Errors
    /// It is not what the head says.
    pub fn parse(kind: Kind, body: Vec<u8>) -> Result<Self, WireError> {
        match kind {
            Kind::Picture if body.starts_with(&JPEG) => Ok(Self::Picture(body)),
            Kind::Picture => Err(WireError::Picture),
            Kind::Report => Ok(Self::Report(serde_json::from_slice(&body)?)),
        }
    }

    /// Write it, head and all, at once.
    ///
    /// # Errors
    /// It is larger than it may be, or nobody takes it.
    pub fn write(&self, to: &mut impl Write) -> Result<(), WireError> {
        let (letter, body, most) = match self {
            Self::Picture(picture) => (b'P', picture.clone(), LARGEST_PICTURE),
            Self::Report(report) => (b'R', serde_json::to_vec(report)?, LARGEST_REPORT),
        };
        let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= most);
        let length = length.ok_or(WireError::Length(body.len()))?;
        let mut message = Vec::with_capacity(HEAD + body.len());
        message.push(letter);
        message.extend(length.to_be_bytes());
        message.extend(body);
        Ok(to.write_all(&message)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> Result<Message, WireError> {
        let mut head = [0; HEAD];
        bytes.read_exact(&mut head)?;
        let (kind, length) = Kind::of_head(head)?;
        let mut body = vec![0; length];
        bytes.read_exact(&mut body)?;
        Message::parse(kind, body)
    }

    fn framed(letter: u8, body: &[u8]) -> Vec<u8> {
        [&[letter][..], &(body.len() as u32).to_be_bytes(), body].concat()
    }

    #[test]
    fn what_is_wanted_is_a_line_of_its_own_and_what_follows_stays() {
        let wanted = Wanted { thumbnails: Some(Duration::from_secs(5)), ..Wanted::NOTHING };
        let line = wanted.line();
        assert_eq!(line, "{\"version\":1,\"thumbnails\":5000,\"black\":null,\"frozen\":null,\"silence\":null}\n");
        let mut stream = io::Cursor::new([line.as_bytes(), b"\x47\x1F"].concat());
        assert_eq!(Wanted::read(&mut stream).unwrap(), wanted);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\x47\x1F");
    }

    #[test]
    fn a_first_line_of_another_version_or_without_end_is_refused() {
        let wanted = |line: &str| Wanted::read(&mut line.as_bytes());
        let other = Wanted::NOTHING.line().replace("\"version\":1", "\"version\":2");
        assert!(matches!(wanted(&other), Err(WireError::Version(2))));
        for line in ["", "\n", "{}\n", &" ".repeat(5000), &Wanted::NOTHING.line().replace("}", ",\"more\":1}")] {
            assert!(matches!(wanted(line), Err(WireError::Json(_))), "{line}");
        }
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let report = Report { black: State::Wrong(10_040), fault: Some("it ends".to_owned()), ..Report::default() };
        for message in [Message::Report(report), Message::Picture([&JPEG[..], &[7; 1000]].concat())] {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            assert_eq!(read(&bytes).unwrap(), message);
        }
        let text = r#"{"black":{"wrong":10040},"frozen":"unknown","silent":"right"}"#;
        let Ok(Message::Report(report)) = read(&framed(b'R', text.as_bytes())) else { panic!("no report") };
        assert_eq!((report.black, report.silent), (State::Wrong(10_040), State::Right));
    }

    #[test]
    fn what_is_no_message_is_told_by_its_head_before_anything_is_kept() {
        let head = |letter, length: u32| {
            let [a, b, c, d] = length.to_be_bytes();
            Kind::of_head([letter, a, b, c, d])
        };
        let most = LARGEST_PICTURE as u32;
        assert!(matches!(head(b'P', most), Ok((Kind::Picture, LARGEST_PICTURE))));
        assert!(matches!(head(b'P', most + 1), Err(WireError::Length(_))));
        assert!(matches!(head(b'R', most), Err(WireError::Length(_))));
        assert!(matches!(head(b'P', u32::MAX), Err(WireError::Length(_))));
        assert!(matches!(head(0x47, 1), Err(WireError::Kind(0x47))));
    }

    #[test]
    fn a_picture_that_is_no_jpeg_and_a_report_that_is_another_document_are_refused() {
        for picture in [&b""[..], b"\xFF", b"\x89PNG", b"<svg/>"] {
            assert!(matches!(read(&framed(b'P', picture)), Err(WireError::Picture)), "{picture:?}");
        }
        let whole = r#"{"black":"right","frozen":"right","silent":"right"}"#;
        assert!(read(&framed(b'R', whole.as_bytes())).is_ok());
        for report in [
            "",
            "{}",
            "[]",
            &whole.replace("right", "wrong"),
            &whole.replace('}', ",\"more\":1}"),
            &whole.replacen("\"right\"", "{\"wrong\":-1}", 1),
        ] {
            assert!(matches!(read(&framed(b'R', report.as_bytes())), Err(WireError::Json(_))), "{report}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_sent() {
        let mut bytes = Vec::new();
        let picture = Message::Picture(vec![0xFF; LARGEST_PICTURE + 1]);
        assert!(matches!(picture.write(&mut bytes), Err(WireError::Length(_))));
        assert_eq!(bytes, b"");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
            let _ = Wanted::read(&mut &bytes[..]);
        }
    }
}
