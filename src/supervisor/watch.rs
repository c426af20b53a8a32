//! What makes the supervisor look at the files again: notifications of the kernel, and a slow tick for what they miss
//! (NFS, overlays, links to files elsewhere).
//!
//! Notifications are never interpreted: any change means "look again" (then contents are compared), a short quiet after
//! the last. The one thing they tell is which files are open for writing: these are not to be taken yet, and hold
//! nothing else back.

mod pending;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::sys::memfd::{MFdFlags, memfd_create};
use notify::event::{EventKind, ModifyKind};
use notify::{Config, EventHandler, INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::pending::{Due, Pending, STALLED, is_ours};
use crate::config::secrets::FOLDER;
use crate::observe::event::{Event, emit};

/// How often the files are looked at in any case.
const TICK: Duration = Duration::from_secs(60);
/// How often where the kernel gives no notifications.
const POLL: Duration = Duration::from_secs(5);
/// A file written so shortly before is not trusted: the kernel notifies only after it has changed the file, and a writer
/// may have been put to sleep in between.
const DOUBT: Duration = Duration::from_millis(50);
/// How long the watcher may take to tell what it knows.
const ECHO: Duration = Duration::from_millis(500);

/// Of the directories that are watched, so many hold files that are read.
const OURS: usize = 4;

/// Watches a configuration directory, its `flows.d`, `subscribers.d` and `secrets`, and the directories they lie in.
pub struct Watch {
    /// As it was given: `busy` names files in its terms.
    config: PathBuf,
    shared: Arc<Shared>,
    watcher: Option<INotifyWatcher>,
    /// What is watched, and which directory it was: device and inode.
    armed: BTreeMap<PathBuf, (u64, u64)>,
    next_tick: Instant,
    /// Files seen empty, and since when.
    empty: BTreeMap<PathBuf, Instant>,
    /// How often the files were looked at.
    looks: u64,
    /// Why there are no notifications.
    polling: Option<String>,
}

struct Shared {
    /// Absolute.
    config: PathBuf,
    watched: Vec<PathBuf>,
    pending: Mutex<Pending>,
    news: Notify,
    echo: Option<Echo>,
}

/// A file of our own under the same watch: once a write to it is heard of, so is all that happened before.
struct Echo {
    file: fs::File,
    path: PathBuf,
    heard: Mutex<u64>,
    more: Condvar,
    /// Whether it is heard at all: a kernel without it is not waited for each time.
    works: AtomicBool,
}

impl Echo {
    fn new() -> Option<Self> {
        let file = fs::File::from(memfd_create("echo", MFdFlags::MFD_CLOEXEC).ok()?);
        // Writes by the first descriptor raise no notification; by one opened through its path they do.
        let file = fs::File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Some(Self { file, path, heard: Mutex::default(), more: Condvar::new(), works: AtomicBool::new(true) })
    }

    /// Wait until all that has happened is noted.
    fn catch_up(&self) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *heard;
        if !self.works.load(Ordering::Relaxed) || self.file.write_at(b"!", 0).is_err() {
            return;
        }
        let waited = self.more.wait_timeout_while(heard, ECHO, |heard| *heard == before);
        if before == 0 && waited.is_ok_and(|(_, waited)| waited.timed_out()) {
            self.works.store(false, Ordering::Relaxed);
        }
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.more.notify_all();
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notifications' way in; runs on the watcher's thread.
struct Intake(Arc<Shared>);

impl EventHandler for Intake {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        let now = Instant::now();
        match event {
            Ok(event) if self.0.echo.as_ref().is_some_and(|echo| event.paths.contains(&echo.path)) => {
                if matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))) {
                    self.0.echo.iter().for_each(Echo::hear);
                }
                return;
            }
            // What else happens in the directories above is not our business.
            Ok(event)
                if event.need_rescan()
                    || event.paths.iter().any(|p| p.starts_with(&self.0.config) || self.0.watched.contains(p)) =>
            {
                self.0.pending().note(&event, &self.0.watched, now);
            }
            Ok(_) => return,
            Err(_) => self.0.pending().dirty(now, Duration::ZERO),
        }
        self.0.news.notify_one();
    }
}

impl Watch {
    /// Begin to watch; what does not exist yet is watched as soon as it does. Call it before the first load, so that
    /// nothing is missed in between. Where the kernel gives no notifications, the files are looked at every 5 s.
    pub fn start(config_dir: &Path) -> Self {
        // Fails only where the working directory is gone; then nothing can be watched, and polling says so.
        let config = std::path::absolute(config_dir).unwrap_or_else(|_| config_dir.to_owned());
        let folders = ["flows.d", "subscribers.d", FOLDER].map(|folder| config.join(folder));
        let mut watched = folders.to_vec();
        watched.push(config.clone());
        watched.extend(config.ancestors().skip(1).map(Path::to_owned));
        let shared = Shared { config, watched, pending: Mutex::default(), news: Notify::new(), echo: Echo::new() };
        let mut watch = Self {
            config: config_dir.to_owned(),
            shared: Arc::new(shared),
            watcher: None,
            armed: BTreeMap::new(),
            next_tick: Instant::now(),
            empty: BTreeMap::new(),
            looks: 0,
            polling: None,
        };
        watch.arm(&BTreeSet::new());
        watch.next_tick = Instant::now() + watch.tick();
        watch
    }

    /// Wait until the files are to be looked at: a short quiet after the last change, at the latest 2 s after the first,
    /// or at a slow tick. Cancel-safe: what was noticed stays noticed.
    pub async fn changed(&mut self) {
        loop {
            let replaced = self.shared.pending().take_replaced();
            if !replaced.is_empty() {
                self.arm(&replaced);
            }
            let now = Instant::now();
            if now >= self.next_tick {
                self.arm(&BTreeSet::new());
                self.next_tick = now + self.tick();
                self.shared.pending().dirty(now, Duration::ZERO);
            }
            let due = self.shared.pending().due(now);
            let wake = match due {
                Due::Now => {
                    self.shared.pending().fired();
                    return;
                }
                Due::At(at) => at.min(self.next_tick),
                Due::Never => self.next_tick,
            };
            tokio::select! {
                () = self.shared.news.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Wait until no file is busy, at most 2 s. For whoever asks for a reload right after writing a file, and wants it
    /// to be taken.
    pub async fn settle(&mut self) {
        let deadline = Instant::now() + STALLED;
        loop {
            self.begin();
            if self.busy().is_empty() {
                return;
            }
            tokio::select! {
                () = self.changed() => {}
                () = sleep_until(deadline) => return,
            }
        }
    }

    /// The files are about to be read: what was written until now is seen to. Call it before each reading, whatever
    /// the reading's cause.
    pub fn begin(&mut self) {
        self.catch_up();
        self.shared.pending().taken();
        self.looks += 1;
    }

    /// Files that are not to be taken: open for writing (until they are closed, or quiet for 2 s), written since `begin`
    /// or (except at the first look) in the 50 ms before, or empty for less than 2 s. `changed` returns again for each of
    /// them. Paths begin with the `config_dir` given.
    ///
    /// Ask *after* reading the files, and treat those named as unchanged: a file that was being written while it was
    /// read is always among them.
    pub fn busy(&mut self) -> BTreeSet<PathBuf> {
        self.catch_up();
        let doubt = if self.watcher.is_some() { DOUBT } else { STALLED };
        let now = Instant::now();
        let mut seen_empty = std::mem::take(&mut self.empty);
        let mut pending = self.shared.pending();
        let mut busy: BTreeSet<PathBuf> = pending.busy(now).cloned().collect();
        // At the start a file that was written just before is what there is to run.
        let dirs = if self.looks > 1 { &self.shared.watched[..OURS] } else { &[] };
        for (path, meta) in dirs.iter().flat_map(|dir| ours(dir)) {
            if meta.len() == 0 {
                // What a file looks like that is about to be written: the kernel empties it first, may then wait for the
                // disk, and notifies last.
                let since = seen_empty.remove(&path).unwrap_or(now);
                self.empty.insert(path.clone(), since);
                if now < since + STALLED {
                    pending.wrote(&path, since);
                    busy.insert(path);
                    continue;
                }
            }
            // Of a file known to be busy there is, or will be, a notification.
            if age(&meta).is_some_and(|age| age < doubt) && busy.insert(path) {
                pending.dirty(now, doubt);
            }
        }
        drop(pending);
        let here = |path: &PathBuf| path.strip_prefix(&self.shared.config).map(|rest| self.config.join(rest)).ok();
        busy.iter().filter_map(here).collect()
    }

    fn catch_up(&self) {
        if let (Some(_), Some(echo)) = (&self.watcher, &self.shared.echo) {
            echo.catch_up();
        }
    }

    /// Why the kernel gives no notifications; `None`: it does.
    pub fn polling(&self) -> Option<&str> {
        self.polling.as_deref()
    }

    /// How often the files are looked at without any notification.
    pub fn tick(&self) -> Duration {
        if self.polling.is_some() { POLL } else { TICK }
    }

    /// Watch what is there now. What was written just before in directories that are new, are other ones than before, or
    /// are among `suspect`, is not known to be closed.
    fn arm(&mut self, suspect: &BTreeSet<PathBuf>) {
        match self.try_arm(suspect) {
            Ok(()) => {
                if self.polling.take().is_some() {
                    emit(Event::WatchBack);
                }
            }
            Err(error) => {
                self.watcher = None;
                self.armed.clear();
                if self.polling.is_none() {
                    emit(Event::WatchPolling { error: error.to_string(), every: POLL });
                }
                self.polling = Some(error.to_string());
                self.next_tick = self.next_tick.min(Instant::now() + POLL);
            }
        }
    }

    fn try_arm(&mut self, suspect: &BTreeSet<PathBuf>) -> notify::Result<()> {
        let first = self.watcher.is_none();
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(INotifyWatcher::new(Intake(Arc::clone(&self.shared)), Config::default())?),
        };
        if first && let Some(echo) = &self.shared.echo {
            watcher.watch(&echo.path, RecursiveMode::NonRecursive)?;
        }
        // `flows.d`, `subscribers.d`, `secrets`, the configuration directory, and above it up to the nearest that exists.
        let all = &self.shared.watched;
        let top = (OURS..all.len()).find(|&at| all[at].is_dir()).unwrap_or(all.len() - 1);
        for path in &all[..=top] {
            // Read before watching: if it is replaced in between, the next look finds another one and arms again.
            let identity = fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|meta| (meta.dev(), meta.ino()));
            let known = self.armed.remove(path);
            if known.is_some() && known != identity {
                // Of a directory that is gone the watch is gone too.
                let _ = watcher.unwatch(path);
            }
            let Some(identity) = identity else { continue };
            // Also where it is the same one as before: its watch may have gone with an earlier move.
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => continue,
                // Keys may be open to those only who know their names: the tick has to do for them.
                Err(error) if is_denied(&error) && path.ends_with(FOLDER) => continue,
                Err(error) => return Err(error),
            }
            self.armed.insert(path.clone(), identity);
            let doubtful = known != Some(identity) || suspect.contains(path);
            if doubtful && !first && path.starts_with(&self.shared.config) {
                hold_recent(path, &mut self.shared.pending());
            }
        }
        Ok(())
    }
}

/// Takes files written in the last 2 s for open.
fn hold_recent(dir: &Path, pending: &mut Pending) {
    let now = Instant::now();
    for (path, meta) in ours(dir) {
        if let Some(age) = age(&meta).filter(|age| *age < STALLED) {
            pending.wrote(&path, now.checked_sub(age).unwrap_or(now));
        }
    }
    pending.dirty(now, Duration::ZERO);
}

/// Files of a directory that the loader reads.
fn ours(dir: &Path) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| is_ours(path)).filter_map(|path| fs::metadata(&path).ok().map(|meta| (path, meta)))
}

/// How long ago it was written.
fn age(meta: &fs::Metadata) -> Option<Duration> {
    // Asked after the file: a time in the future is a wrong clock's, not a writer's.
    SystemTime::now().duration_since(meta.modified().ok()?).ok()
}

/// Removed between the look and the watch: its parent tells when it is back.
fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(e) => e.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn is_denied(error: &notify::Error) -> bool {
    matches!(&error.kind, notify::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests;
