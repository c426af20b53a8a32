//! The audit trail: who changed what and when, in `audit.jsonl` under the log directory.
//!
//! A line is a record. Each names the SHA-256 of the line before it, so that a line that is changed, left out or put in
//! between does not fit any more; of the last one, the head, the log tells, the state directory and the running daemon. A
//! thread of its own writes, so that a slow or full disk holds up nothing.

mod chain;
mod record;
mod verify;
mod writer;

pub(crate) use self::chain::hash;
pub use self::chain::{Head, HeadError};
pub use self::record::{FileChange, KeyChange, Record, Session, changed_keys};
pub use self::verify::{Anchor, Fault, Verdict, files, verify};
pub use self::writer::{Audit, AuditStatus};

/// The file that is written to. Full ones beside it end in `.1`, `.2` and so on, the oldest first.
pub const FILE: &str = "audit.jsonl";
/// In the state directory: the head, so that a cut tail shows.
pub const HEAD_FILE: &str = "audit-head.json";
