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

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: usize, column: usize) -> Diagnostic {
        Diagnostic {
            severity: Level::Error,
            file: "flows.d/a\u{1b}.toml".into(),
            line,
            column,
            flow: None,
            message: "wrong".into(),
            help: Some("do it right".into()),
        }
    }

    #[test]
    fn a_fault_is_one_line() {
        assert_eq!(fault(3, 8).line(), "flows.d/a\\u{1b}.toml:3:8: error: wrong; do it right");
        assert_eq!(fault(0, 0).line(), "flows.d/a\\u{1b}.toml: error: wrong; do it right");
    }

    #[test]
    fn the_caret_stands_below_the_character() {
        let text = "\u{feff}a = 1\r\n\tüb = \"\u{1b}\"\r\n";
        assert_eq!(fault(2, 3).snippet(text), "  |\n2 | \tüb = \"\u{fffd}\"\n  | \t ^\n");
        assert_eq!(fault(9, 1).snippet(text), "");
        assert_eq!(fault(0, 0).snippet(text), "");
    }
}
