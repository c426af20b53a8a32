//! The difference between what runs and what shall run: pure, and the only source of both `plan` and the apply.

use serde::{Deserialize, Serialize};

/// What happens to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It comes into being, or is enabled.
    Start,
    /// It ends, or is disabled.
    Stop,
    /// Parts of it are touched.
    Change,
    /// Its file is refused; what runs goes on.
    Reject,
}

/// What a touch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The flow as a whole.
    Flow,
    /// One source.
    Source,
    /// One output.
    Output,
    /// A part of `mediaconnect.toml`.
    Daemon,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Opened.
    Open,
    /// Closed.
    Close,
    /// Closed and opened again.
    Reopen,
    /// Changed while it runs; no packet is lost.
    InPlace,
    /// Takes effect at the next restart of the daemon.
    Restart,
}

/// One part of a flow that a change touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Source, output, …
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What is done.
    pub effect: Effect,
    /// The keys that force it.
    pub because: Vec<String>,
}

/// What a reload does to one flow; `flow` is empty for `mediaconnect.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The flow's name.
    pub flow: String,
    /// What happens to it.
    pub action: Action,
    /// Which parts, in the order of kind and name.
    pub touches: Vec<Touch>,
}
