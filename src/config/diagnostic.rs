//! What is wrong with a file: one line for a log, a snippet for a terminal, JSON for a program.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file is rejected.
    Error,
    /// The file is taken.
    Warning,
}

/// One fault at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Level,
    /// The file.
    pub file: PathBuf,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// In characters, from 1; 0: the file as a whole.
    pub column: usize,
    /// The flow whose file it is; absent for other files.
    pub flow: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do; absent when the message says it.
    pub help: Option<String>,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl Diagnostic {
    /// For one line of a log: `FILE:LINE:COLUMN: error: MESSAGE; HELP`, without a line break or control character.
    pub fn line(&self) -> String {
        let file = printable(&self.file.to_string_lossy());
        let mut line = match self.line {
            0 => format!("{file}: {}: {}", self.severity, self.message),
            at => format!("{file}:{at}:{}: {}: {}", self.column, self.severity, self.message),
        };
        if let Some(help) = &self.help {
            line.push_str("; ");
            line.push_str(help);
        }
        line
    }

    /// For a terminal, below [`Self::line`]: the line of `text` that is meant, and a caret under the place. Empty for a
    /// fault of the file as a whole, and where `text` has no such line.
    pub fn snippet(&self, text: &str) -> String {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let Some(source) = self.line.checked_sub(1).and_then(|skip| text.lines().nth(skip)) else {
            return String::new();
        };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // A tab stays a tab, so that the caret stands below its character whatever the terminal's tab stops.
        let lead: String =
            source.chars().take(self.column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let source: String = source.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        format!("{margin} |\n{number} | {source}\n{margin} | {lead}^\n")
    }
}

/// `text` with its control characters escaped: what came from a file must not steer a terminal or break a log line.
pub(super) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}
