//! What file notifications add up to: when to look again, and which files are not to be looked at yet. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use tokio::time::Instant;

use crate::config::secrets::FOLDER;

/// Quiet after the last change before it is taken.
const QUIET: Duration = Duration::from_millis(50);
/// The same where a file went away: some editors put its successor there only after it.
const QUIET_AFTER_REMOVAL: Duration = Duration::from_millis(150);
/// No change waits longer than this for others to cease.
const LONGEST: Duration = Duration::from_secs(2);
/// A file that is open for writing is taken all the same after so long without a write.
pub(super) const STALLED: Duration = Duration::from_secs(2);

/// What has happened since the files were last looked at.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The first change that waits, and until when quiet is awaited.
    waiting: Option<(Instant, Instant)>,
    /// Open for writing, with the moment of the last write.
    writing: BTreeMap<PathBuf, Instant>,
    /// Came into being without an open so far: a link, or the first half of an open.
    created: BTreeSet<PathBuf>,
    /// Went away, and when: some writers put the successor there only after it.
    removed: BTreeMap<PathBuf, Instant>,
    /// Written since the last look.
    touched: BTreeSet<PathBuf>,
    /// Watched directories that may be other ones now, or in which something may have been missed.
    replaced: BTreeSet<PathBuf>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Look at the files.
    Now,
    /// Ask again then.
    At(Instant),
    /// Nothing waits.
    Never,
}

impl Pending {
    /// Takes a notification in. `watched` are the directories under watch: what happens to them re-arms.
    pub(super) fn note(&mut self, event: &notify::Event, watched: &[PathBuf], now: Instant) {
        if event.need_rescan() {
            self.replaced.extend(watched.iter().cloned());
            self.dirty(now, QUIET);
            return;
        }
        let Some(path) = event.paths.first() else { return };
        if watched.contains(path) {
            // Opened, listed, or a file in it was touched: no news of the directory itself.
            if !matches!(event.kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_))) {
                self.replaced.insert(path.clone());
                self.dirty(now, QUIET_AFTER_REMOVAL);
            }
            return;
        }
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) if is_ours(path) => self.wrote(path, now),
            EventKind::Access(AccessKind::Open(_)) => {
                if self.created.remove(path) && is_ours(path) {
                    self.wrote(path, now);
                }
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if is_ours(path) => {
                self.writing.remove(path);
                self.touched.insert(path.clone());
                self.dirty(now, QUIET);
            }
            EventKind::Create(CreateKind::File) => {
                self.removed.remove(path);
                self.created.insert(path.clone());
                self.dirty(now, QUIET);
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
                self.went(path, now);
                event.paths.get(1).map(|to| self.removed.remove(to));
                // Renamed while it is still open: the writer goes on under the new name.
                if let (Some(since), Some(to)) = (self.writing.remove(path), event.paths.get(1)) {
                    self.writing.insert(to.clone(), since);
                }
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                self.writing.remove(path);
                self.removed.remove(path);
                self.dirty(now, QUIET);
            }
            // `Both` follows where the new name is in a watched directory, and wants to know whether it was open.
            EventKind::Modify(ModifyKind::Name(_)) => {
                self.went(path, now);
                self.dirty(now, QUIET_AFTER_REMOVAL);
            }
            EventKind::Remove(_) => {
                self.writing.remove(path);
                self.went(path, now);
                self.dirty(now, QUIET_AFTER_REMOVAL);
            }
            EventKind::Modify(ModifyKind::Data(_)) | EventKind::Access(_) => {}
            _ => self.dirty(now, QUIET),
        }
    }

    /// A file is open for writing, or must be taken for that.
    pub(super) fn wrote(&mut self, path: &Path, at: Instant) {
        self.writing.insert(path.to_owned(), at);
        self.touched.insert(path.to_owned());
    }

    /// A file went away.
    fn went(&mut self, path: &Path, now: Instant) {
        if is_ours(path) {
            self.removed.insert(path.to_owned(), now);
        }
    }

    /// Something changed.
    pub(super) fn dirty(&mut self, now: Instant, quiet: Duration) {
        let (first, until) = self.waiting.unwrap_or((now, now));
        self.waiting = Some((first, until.max(now + quiet)));
    }

    /// Watched directories that are to be armed anew; told once.
    pub(super) fn take_replaced(&mut self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.replaced)
    }

    /// What is to be done now. A writer that stalled is no longer waited for.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let stalled = |since: &Instant| *since + STALLED <= now;
        if self.writing.values().any(stalled) {
            self.writing.retain(|_, since| !stalled(since));
            self.dirty(now, Duration::ZERO);
        }
        let change = self.waiting.map(|(first, until)| until.min(first + LONGEST));
        let stall = self.writing.values().map(|since| *since + STALLED).min();
        match (change, stall) {
            (Some(at), _) if at <= now => Due::Now,
            (Some(a), Some(b)) => Due::At(a.min(b)),
            (Some(at), None) | (None, Some(at)) => Due::At(at),
            (None, None) => Due::Never,
        }
    }

    /// Word was given that there is something to look at.
    pub(super) fn fired(&mut self) {
        self.waiting = None;
    }

    /// The files are about to be looked at: all that waited is seen to.
    pub(super) fn taken(&mut self) {
        self.waiting = None;
        self.created.clear();
        self.touched.clear();
    }

    /// Files that must not be trusted: open for writing now, written since the last look, or gone only a moment ago.
    pub(super) fn busy(&mut self, now: Instant) -> impl Iterator<Item = &PathBuf> {
        self.removed.retain(|_, at| now < *at + QUIET_AFTER_REMOVAL);
        if let Some(last) = self.removed.values().max() {
            self.dirty(now, *last + QUIET_AFTER_REMOVAL - now);
        }
        self.writing.keys().chain(&self.touched).chain(self.removed.keys())
    }
}

/// Whether the loader may read a file of this name; a write to any other is nobody's news. Of keys any name will do.
pub(super) fn is_ours(path: &Path) -> bool {
    let is_key = || path.parent().and_then(Path::file_name) == Some(OsStr::new(FOLDER));
    (path.extension() == Some(OsStr::new("toml")) || is_key())
        && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests;
