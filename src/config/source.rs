//! One file: its bytes, its lines, offset to line and column, and the faults found in it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Level, printable};

/// A flow with 500 outputs and every key written is below 200 KiB.
const LARGEST: u64 = 1024 * 1024;

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It may be readable at the next try.
    #[error("cannot be read: {}", reason(.0))]
    Io(#[from] io::Error),
    /// It will not get better by itself.
    #[error("is {0}, not a file")]
    NotAFile(&'static str),
    /// More than [`LARGEST`].
    #[error("is larger than 1 MiB, which no configuration needs")]
    TooLarge,
}

/// The system's words without the number: `permission denied`.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.get(..1).unwrap_or_default().to_lowercase() + words.get(1..).unwrap_or_default()
}

/// A regular file; never blocks on a pipe or device. Symbolic links are followed.
pub(super) fn open(path: &Path) -> Result<File, ReadError> {
    use std::os::unix::fs::FileTypeExt;

    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() {
        return Err(ReadError::NotAFile(match kind {
            k if k.is_dir() => "a directory",
            k if k.is_fifo() => "a named pipe",
            _ => "a device",
        }));
    }
    Ok(file)
}

/// The bytes of a regular file, at most 1 MiB.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let file = open(path)?;
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(ReadError::TooLarge);
    }
    Ok(text)
}

/// A file's text and what is wrong with it.
#[derive(Debug)]
pub(super) struct Source<'t> {
    file: PathBuf,
    flow: Option<String>,
    text: &'t str,
    /// Offsets at which lines start.
    lines: Vec<usize>,
    /// The lines that hold syntax errors: what was recovered from them means nothing.
    torn: RefCell<Vec<usize>>,
    found: RefCell<Vec<Diagnostic>>,
    /// What is no fault.
    notes: RefCell<Vec<Diagnostic>>,
}

impl<'t> Source<'t> {
    /// `text` as the content of `file`. A byte order mark is dropped; text that is not UTF-8 is cut where it stops
    /// being so, and reported.
    pub(super) fn new(file: &Path, flow: Option<&str>, text: &'t [u8]) -> Self {
        let (good, broken) = match str::from_utf8(text) {
            Ok(good) => (good, false),
            Err(e) => (str::from_utf8(&text[..e.valid_up_to()]).unwrap_or_default(), true),
        };
        let good = good.strip_prefix('\u{feff}').unwrap_or(good);
        let lines = std::iter::once(0).chain(good.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let source = Self {
            file: file.to_owned(),
            flow: flow.map(str::to_owned),
            text: good,
            lines,
            torn: RefCell::default(),
            found: RefCell::default(),
            notes: RefCell::default(),
        };
        if broken {
            let at = source.position(good.len());
            source.push(Level::Error, at, "the text is not UTF-8 from here on", Some("save the file as UTF-8".into()));
        }
        source
    }

    /// The tables of the file, with all syntax errors reported; `None` when what is left of it can't be judged.
    pub(super) fn document(&self) -> Option<DeTable<'t>> {
        if self.has_errors() {
            return None;
        }
        let (document, errors) = DeTable::parse_recoverable(self.text);
        let mut headers_hold = true;
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let at = self.position(span.start);
            let line = self.line(at.0);
            headers_hold &= !line.trim_start().starts_with('[');
            // One slip often yields several errors in a row; the first says it.
            if !self.torn.borrow().contains(&at.0) {
                let (message, help) = self.syntax(error.message(), &span);
                self.push(Level::Error, at, &message, help);
            }
            self.torn.borrow_mut().push(at.0);
        }
        headers_hold.then(|| document.into_inner())
    }

    /// The parser's words, made plainer where people hit them most.
    fn syntax(&self, message: &str, span: &Range<usize>) -> (String, Option<String>) {
        let found = if message != "duplicate key" && self.is_secret(span.start) {
            "(not shown)".to_owned()
        } else {
            shown(self.text.get(span.clone()).unwrap_or_default())
        };
        let help = |help: &str| Some(help.to_owned());
        if message == "duplicate key" {
            return (format!("{found} is written twice"), help("keep one of them"));
        }
        if message.starts_with("string values must be quoted") && span.is_empty() {
            return ("the value is missing".into(), help("write KEY = VALUE; text goes in double quotes"));
        }
        if message.starts_with("invalid boolean") || matches!(found.trim_matches('"'), "yes" | "no" | "on" | "off") {
            return (format!("{found} is neither true nor false"), help("write true or false, in lower case"));
        }
        if message.starts_with("string values must be quoted") {
            return (format!("the value {found} is not in quotes"), help("text goes in double quotes"));
        }
        let help = match message {
            "invalid basic string, expected `\"`" => help("a closing double quote is missing"),
            m if m.starts_with("key with no value") => help("write KEY = VALUE"),
            m if m.starts_with("unclosed table") => help("a closing bracket is missing"),
            m if m.starts_with("unexpected key or value") => help("one key a line"),
            _ => None,
        };
        (format!("TOML: {}", message.trim_end_matches(", expected nothing")), help)
    }

    /// Whether what stands here, by the key in front of it, may be a secret that its writer should have put into a file.
    fn is_secret(&self, at: usize) -> bool {
        let line = self.text.get(..at).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
        let key = line.rsplit('=').nth(1).unwrap_or(line).to_ascii_lowercase();
        ["pass", "secret", "token", "key", "community"].iter().any(|word| key.contains(word))
    }

    /// An error at a place of the text.
    pub(super) fn error(&self, at: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.at_span(Level::Error, at, message.into(), help);
    }

    /// A warning at a place of the text.
    pub(super) fn warning(&self, at: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.at_span(Level::Warning, at, message.into(), help);
    }

    /// Did the text hold syntax errors, so that what is missing may only be hidden by them?
    pub(super) fn is_torn(&self) -> bool {
        !self.torn.borrow().is_empty()
    }

    /// An error about something that is not there: in a file with syntax errors it may only be hidden by them.
    pub(super) fn missing(&self, at: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        if !self.is_torn() {
            self.error(at, message, help);
        }
    }

    fn at_span(&self, level: Level, at: &Range<usize>, message: String, help: Option<String>) {
        let at = self.position(at.start);
        if !self.torn.borrow().contains(&at.0) {
            self.push(level, at, &message, help);
        }
    }

    /// What is to be known before a change, and is no fault.
    pub(super) fn note(&self, at: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        let note = self.diagnostic(Level::Warning, self.position(at.start), &message.into(), help);
        self.notes.borrow_mut().push(note);
    }

    /// That the key file `name` is one of systemd's.
    pub(super) fn note_credential(&self, key: &str, name: &str, at: &Range<usize>) {
        let message = format!(
            "`{key}`: {} comes from $CREDENTIALS_DIRECTORY, which systemd fills when it starts the service",
            shown(name)
        );
        self.note(at, message, Some("a change of this key counts from the next restart of the daemon".into()));
    }

    fn push(&self, severity: Level, at: (usize, usize), message: &str, help: Option<String>) {
        self.found.borrow_mut().push(self.diagnostic(severity, at, message, help));
    }

    fn diagnostic(
        &self,
        severity: Level,
        (line, column): (usize, usize),
        message: &str,
        help: Option<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.clone(),
            line,
            column,
            flow: self.flow.clone(),
            message: printable(message),
            help: help.map(|h| printable(&h)),
        }
    }

    /// Is an error among what was found?
    pub(super) fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(|d| d.severity == Level::Error)
    }

    /// All that was found.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    /// What is no fault; told once.
    pub(super) fn take_notes(&self) -> Vec<Diagnostic> {
        self.notes.take()
    }

    /// Line and column, both from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines[line - 1];
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }

    fn line(&self, number: usize) -> &str {
        self.lines.get(number.saturating_sub(1)).and_then(|start| self.text[*start..].lines().next()).unwrap_or("")
    }
}

/// A piece of a file for a message: in quotes, and not endless.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}
