//! Keys: in which file one is looked for, who may read that file, and what must be in it. A key is only ever in memory,
//! and nothing prints it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf, absolute};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroizing;

pub use self::secret::{HandedKey, KeyFile, Secret};
use super::load::Context;
use super::source::{ReadError, open, reason};
use super::value::ValueError;
use crate::proto::srt::crypto::{MAX_PASSPHRASE, MIN_PASSPHRASE};

mod secret;

/// The folder of the configuration directory.
pub const FOLDER: &str = "secrets";
/// No key file is near as long.
const LARGEST: usize = 4096;
/// No chain of certificates is near as long.
const LARGEST_CHAIN: usize = 64 << 10;
/// Bytes of a token.
const TOKEN: std::ops::RangeInclusive<usize> = 16..=512;
/// Bytes of a content key.
const CONTENT_KEY: usize = 16;

/// A key file as it is named in the configuration: a path inside `secrets`, or an absolute one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = ValueError;

    fn from_str(s: &str) -> Result<Self, ValueError> {
        let path = Path::new(s);
        let inside = |part| matches!(part, Component::Normal(_));
        let is_file = path.is_absolute() || path.components().all(inside) && path.file_name().is_some();
        if s.contains(char::is_control) || !is_file {
            return Err(ValueError::new(
                "is not the name of a file in `secrets`",
                "write a name such as \"venue-a\", or an absolute path",
            ));
        }
        Ok(Self(s.to_owned()))
    }
}

/// Why a key is not there. No text of the file is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No file has the name.
    #[error("there is no key file {}{}", path.display(), if *credentials { ", nor one in $CREDENTIALS_DIRECTORY" } else { "" })]
    Missing {
        /// Where it was looked for last.
        path: PathBuf,
        /// It was looked for there first.
        credentials: bool,
        /// What is to be written there.
        form: Form,
    },
    /// The system does not give it.
    #[error("key file {} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        why: String,
        /// This user may not.
        denied: bool,
    },
    /// Whoever is on this host can read or change it.
    #[error("key file {} can be {} by everyone", path.display(), if *writable { "written" } else { "read" })]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Also changed.
        writable: bool,
    },
    /// What is in it is no key.
    #[error("key file {} {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: ContentFault,
    },
    /// It is being written: the next look tells.
    #[error("key file {} is being written", .0.display())]
    Busy(PathBuf),
}

impl SecretError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        let words = match self {
            Self::Missing { form, .. } => {
                return Some(format!("write {form} into it, owner root:mediaconnect, mode 0640"));
            }
            Self::Unreadable { denied: true, .. } => "let the daemon read it: owner root:mediaconnect, mode 0640",
            Self::Exposed { path, .. } => return Some(format!("chmod 640 {}", path.display())),
            Self::Content { fault, .. } => fault.help(),
            Self::Unreadable { .. } | Self::Busy(_) => return None,
        };
        Some(words.to_owned())
    }
}

/// What is wrong in a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A directory, a pipe, a device.
    #[error("is {0}, not a file")]
    NotAFile(&'static str),
    /// More than any key.
    #[error("is larger than {} KiB, which no such file is", .0 >> 10)]
    TooLarge(usize),
    /// Nothing, or a line break alone.
    #[error("is empty")]
    Empty,
    /// UTF-16, or no text at all.
    #[error("holds zero bytes, which no passphrase has")]
    Zero,
    /// Some editors put one in front of a text.
    #[error("begins with a byte order mark")]
    ByteOrderMark,
    /// More than the one at the end.
    #[error("has more than one line")]
    Lines,
    /// Fewer than 10 bytes.
    #[error("holds a passphrase that is too short")]
    Short,
    /// More than 79 bytes.
    #[error("holds a passphrase that is too long")]
    Long,
    /// A content key of another form.
    #[error("holds no key of 32 hexadecimal digits")]
    NotHex,
    /// A community that no trap can carry.
    #[error("holds no community of one line of 1 to 255 bytes")]
    NotCommunity,
    /// A token that no header carries, or that is guessed.
    #[error("holds no token of one line of 16 to 512 letters, digits or signs")]
    NotToken,
}

impl ContentFault {
    const fn help(self) -> &'static str {
        match self {
            Self::NotHex => "write 32 digits of 0-9 and a-f, either case, and nothing else",
            Self::NotCommunity => "write one line of 1 to 255 bytes, the community and nothing else",
            Self::NotToken => "`openssl rand -hex 32` makes one",
            Self::TooLarge(_) => "see that it is the right file",
            Self::ByteOrderMark => "save it without one",
            _ => "write one line of 10 to 79 bytes, the passphrase and nothing else",
        }
    }
}

/// What a key file is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Of SRT or RIST: one line of 10 to 79 bytes.
    Passphrase,
    /// Of content encryption: 32 hexadecimal digits; in memory 16 bytes.
    ContentKey,
    /// Of SNMP: one line of 1 to 255 bytes.
    Community,
    /// Of HTTP: one line of 16 to 512 visible characters of ASCII.
    Token,
    /// Certificates in PEM, which are no secret.
    Certificate,
    /// A private key in PEM.
    PrivateKey,
}

impl Form {
    const fn largest(self) -> usize {
        match self {
            Self::Certificate | Self::PrivateKey => LARGEST_CHAIN,
            _ => LARGEST,
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "the passphrase, 10 to 79 bytes,",
            Self::ContentKey => "the key, 32 hexadecimal digits,",
            Self::Community => "the community, 1 to 255 bytes,",
            Self::Token => "the token, 16 to 512 characters,",
            Self::Certificate => "the certificate and those that it builds on, in PEM,",
            Self::PrivateKey => "the private key, in PEM,",
        })
    }
}

/// A key that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub secret: Arc<Secret>,
    /// systemd has handed it over when it started the service: it stays as it is until the next start.
    pub from_credentials: bool,
}

/// Where keys are looked for, and those that were read: a key that is named twice is read once.
#[derive(Debug)]
pub struct Secrets {
    credentials: Option<PathBuf>,
    folder: PathBuf,
    /// Absolute paths of files that are being written.
    busy: BTreeSet<PathBuf>,
    by_daemon: bool,
    known: RefCell<BTreeMap<(KeyName, Form), Result<Found, SecretError>>>,
}

impl Secrets {
    /// Those of the configuration directory `dir`, as they are now.
    pub fn new(dir: &Path, context: &Context<'_>) -> Self {
        let places = |given: &PathBuf| [dir.join(given), given.clone()].into_iter().filter_map(|p| absolute(p).ok());
        Self {
            credentials: context.credentials.map(Path::to_owned),
            folder: dir.join(FOLDER),
            busy: context.busy.iter().flat_map(places).collect(),
            by_daemon: context.by_daemon,
            known: RefCell::default(),
        }
    }

    /// None at all.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self::new(Path::new("/nonexistent"), &Context { credentials: None, ..Context::default() })
    }

    /// What the file of this name holds, in this form. What is in PEM is not looked at.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn find(&self, name: &KeyName, form: Form) -> Result<Found, SecretError> {
        let mut known = self.known.borrow_mut();
        known.entry((name.clone(), form)).or_insert_with(|| self.look_up(name, form)).clone()
    }

    /// Is this only because another user asks than the one that the daemon runs as?
    pub(super) const fn may_be_readable(&self, error: &SecretError) -> bool {
        !self.by_daemon && matches!(error, SecretError::Unreadable { denied: true, .. })
    }

    fn look_up(&self, name: &KeyName, form: Form) -> Result<Found, SecretError> {
        let candidates = [(self.credentials.as_ref(), true), (Some(&self.folder), false)];
        // An absolute path stands for itself, whatever it is joined to.
        let absolute = Path::new(name.as_str()).is_absolute();
        let mut path = PathBuf::new();
        for (folder, from_credentials) in candidates {
            let Some(folder) = folder.filter(|_| !(absolute && from_credentials)) else { continue };
            path = folder.join(name.as_str());
            if std::path::absolute(&path).is_ok_and(|place| self.busy.contains(&place)) {
                return Err(SecretError::Busy(path));
            }
            match open(&path) {
                Ok(file) => {
                    let secret = read(file, &path, form)?;
                    return Ok(Found { secret: Arc::new(secret), from_credentials });
                }
                Err(ReadError::Io(e)) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(ReadError::Io(e)) => return Err(unreadable(path, &e)),
                Err(ReadError::NotAFile(kind)) => {
                    return Err(SecretError::Content { path, fault: ContentFault::NotAFile(kind) });
                }
                Err(ReadError::TooLarge) => {
                    return Err(SecretError::Content { path, fault: ContentFault::TooLarge(form.largest()) });
                }
            }
        }
        let credentials = self.credentials.is_some() && !absolute;
        Err(SecretError::Missing { path, credentials, form })
    }
}

/// `$CREDENTIALS_DIRECTORY`, where systemd puts what `LoadCredential=` names.
pub(super) fn credentials_directory() -> Option<&'static Path> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let from_environment = || std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| dir != OsStr::new(""));
    DIRECTORY.get_or_init(|| from_environment().map(PathBuf::from)).as_deref()
}

fn unreadable(path: PathBuf, error: &io::Error) -> SecretError {
    SecretError::Unreadable { path, why: reason(error), denied: error.kind() == ErrorKind::PermissionDenied }
}

/// What an open file holds. Whose it is and what may be done to it is asked of the same file: a link is followed once.
fn read(mut file: File, path: &Path, form: Form) -> Result<Secret, SecretError> {
    let failed = |error| unreadable(path.to_owned(), &error);
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let shown = if form == Form::Certificate { 0o002 } else { 0o006 };
    if mode & shown != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
            writable: mode & 0o004 == 0 || form == Form::Certificate,
        });
    }
    // It does not grow, which would leave pieces behind.
    let mut buffer = Zeroizing::new(vec![0; form.largest() + 1]);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let parsed = match form {
        _ if filled > form.largest() => Err(ContentFault::TooLarge(form.largest())),
        Form::Passphrase => passphrase(line(&buffer[..filled])),
        Form::ContentKey => content_key(line(&buffer[..filled])),
        Form::Community => community(line(&buffer[..filled])),
        Form::Token => token(line(&buffer[..filled])),
        Form::Certificate | Form::PrivateKey if filled == 0 => Err(ContentFault::Empty),
        Form::Certificate | Form::PrivateKey => Ok(Secret::new(&buffer[..filled])),
    };
    parsed.map_err(|fault| SecretError::Content { path: path.to_owned(), fault })
}

/// Without the line break at the end.
fn line(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").map_or(text, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn passphrase(text: &[u8]) -> Result<Secret, ContentFault> {
    if text.is_empty() {
        return Err(ContentFault::Empty);
    }
    if text.contains(&0) {
        return Err(ContentFault::Zero);
    }
    if text.starts_with("\u{feff}".as_bytes()) {
        return Err(ContentFault::ByteOrderMark);
    }
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(ContentFault::Lines);
    }
    match text.len() {
        0..MIN_PASSPHRASE => Err(ContentFault::Short),
        MIN_PASSPHRASE..=MAX_PASSPHRASE => Ok(Secret::new(text)),
        _ => Err(ContentFault::Long),
    }
}

fn community(text: &[u8]) -> Result<Secret, ContentFault> {
    let odd = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
    if (1..=255).contains(&text.len()) && !text.iter().any(odd) {
        Ok(Secret::new(text))
    } else {
        Err(ContentFault::NotCommunity)
    }
}

fn token(text: &[u8]) -> Result<Secret, ContentFault> {
    if TOKEN.contains(&text.len()) && text.iter().all(u8::is_ascii_graphic) {
        Ok(Secret::new(text))
    } else {
        Err(ContentFault::NotToken)
    }
}

fn content_key(text: &[u8]) -> Result<Secret, ContentFault> {
    let mut key = Zeroizing::new([0; CONTENT_KEY]);
    if text.len() != 2 * CONTENT_KEY {
        return Err(ContentFault::NotHex);
    }
    for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or(ContentFault::NotHex)?;
            *byte = *byte << 4 | u8::try_from(value).unwrap_or_default();
        }
    }
    Ok(Secret::new(&key[..]))
}

#[cfg(test)]
mod tests;
