//! What is wrong with a file: one line for a log, a snippet for a terminal, JSON for a program.

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
