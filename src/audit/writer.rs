//! The thread that writes the trail.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::chain::{Head, Link, hash};
use super::{FILE, HEAD_FILE, Record};
use crate::observe::event::{Event, emit};
use crate::observe::text::rfc3339;
use crate::time::Instant;

/// Records that wait while the disk is slow.
const WAITING: usize = 1024;
/// A file that is as long is put aside.
const FULL: u64 = 64 << 20;
/// How often the head is told, whether there are records or not.
const TELL: Duration = Duration::from_secs(3600);
/// How often what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So much of the end is read at first to find the last record.
const READ: u64 = 64 << 10;
/// Refusals that are recorded at once, and how long until one more is: anybody on this host can be refused.
const REFUSALS: u32 = 20;
const REFUSAL: Duration = Duration::from_secs(60);

/// How the trail fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuditStatus {
    /// The last record that is written; absent: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// Why nothing can be written now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Records that were never written.
    pub records_lost: u64,
}

/// The trail of a running daemon. Dropped, it writes what waits.
#[derive(Debug)]
pub struct Audit {
    to: Option<SyncSender<(SystemTime, Record)>>,
    thread: Option<JoinHandle<()>>,
    status: Arc<Mutex<AuditStatus>>,
    path: PathBuf,
    /// Records that found no room to wait.
    crowded: Arc<Mutex<Option<Gap>>>,
    refusals: Mutex<Refusals>,
}

/// What may be recorded of those who have no right to act.
#[derive(Debug)]
struct Refusals {
    /// So many may be recorded now.
    left: u32,
    /// Since when the next one is gained.
    since: Instant,
    /// Not recorded since the last one that was.
    held: u64,
}

/// Records that are lost.
#[derive(Debug, Clone)]
struct Gap {
    records: u64,
    from: SystemTime,
    to: SystemTime,
    why: String,
}

impl Gap {
    fn add(gap: &mut Option<Self>, at: SystemTime, why: &str) {
        let gap = gap.get_or_insert_with(|| Self { records: 0, from: at, to: at, why: why.to_owned() });
        gap.records += 1;
        gap.to = at;
    }

    fn record(&self) -> Record {
        let Self { records, from, to, why } = self;
        Record::Gap { records: *records, from: rfc3339(*from), to: rfc3339(*to), why: why.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Audit {
    /// Go on with the trail of these directories.
    ///
    /// # Errors
    /// There is no thread for it. That nothing can be written is no error: the status says so, and it is tried again.
    pub fn start(log_dir: &Path, state_dir: &Path) -> io::Result<Self> {
        Self::start_with(log_dir, state_dir, FULL)
    }

    fn start_with(log_dir: &Path, state_dir: &Path, full: u64) -> io::Result<Self> {
        let (to, records) = sync_channel(WAITING);
        let status = Arc::<Mutex<AuditStatus>>::default();
        let crowded = Arc::<Mutex<Option<Gap>>>::default();
        let mut writer = Writer {
            path: log_dir.join(FILE),
            head_path: state_dir.join(HEAD_FILE),
            full,
            file: None,
            head: None,
            gap: None,
            status: status.clone(),
            crowded: crowded.clone(),
        };
        let path = writer.path.clone();
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&records))?;
        let refusals = Mutex::new(Refusals { left: REFUSALS, since: Instant::now(), held: 0 });
        Ok(Self { to: Some(to), thread: Some(thread), status, path, crowded, refusals })
    }

    /// Record this. Never waits: where there is no room, a gap is recorded.
    pub fn record(&self, record: Record) {
        let at = SystemTime::now();
        if self.to.as_ref().is_some_and(|to| to.try_send((at, record)).is_err()) {
            Gap::add(&mut lock(&self.crowded), at, "more came at once than could be written");
        }
    }

    /// Whether one more who has no right to act is to be recorded, and how many before were not: whoever floods the trail
    /// would fill the disk.
    pub fn admits_refusal(&self) -> Option<u64> {
        let mut refusals = lock(&self.refusals);
        let gained = (refusals.since.elapsed().as_secs() / REFUSAL.as_secs()) as u32;
        if gained > 0 {
            refusals.left = refusals.left.saturating_add(gained).min(REFUSALS);
            refusals.since = Instant::now();
        }
        if refusals.left == 0 {
            refusals.held += 1;
            return None;
        }
        refusals.left -= 1;
        Some(std::mem::take(&mut refusals.held))
    }

    /// How it fares.
    pub fn status(&self) -> AuditStatus {
        lock(&self.status).clone()
    }

    /// The file that is written to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Writer {
    path: PathBuf,
    head_path: PathBuf,
    full: u64,
    file: Option<File>,
    /// `None`: not looked for yet.
    head: Option<Head>,
    gap: Option<Gap>,
    status: Arc<Mutex<AuditStatus>>,
    crowded: Arc<Mutex<Option<Gap>>>,
}

impl Writer {
    fn run(&mut self, records: &Receiver<(SystemTime, Record)>) {
        let mut told = Instant::now();
        loop {
            match records.recv_timeout(RETRY) {
                Ok((at, record)) => {
                    self.take(at, &record);
                    told = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => self.catch_up(),
                Err(RecvTimeoutError::Disconnected) => return self.catch_up(),
            }
            if told.elapsed() >= TELL {
                self.head.iter().for_each(tell);
                told = Instant::now();
            }
        }
    }

    fn take(&mut self, at: SystemTime, record: &Record) {
        self.catch_up();
        // What comes after a gap comes after its record.
        if self.gap.is_some() {
            let why = self.gap.as_ref().map(|gap| gap.why.clone()).unwrap_or_default();
            return self.lose(at, &why);
        }
        if let Err(error) = self.append(at, record) {
            self.fail(at, &error);
        }
    }

    /// Record what could not be written, if that is possible by now.
    fn catch_up(&mut self) {
        if let Some(crowded) = lock(&self.crowded).take() {
            lock(&self.status).records_lost += crowded.records;
            match &mut self.gap {
                Some(gap) => (gap.records, gap.to) = (gap.records + crowded.records, crowded.to),
                None => self.gap = Some(crowded),
            }
        }
        let Some(gap) = self.gap.clone() else { return };
        if self.append(SystemTime::now(), &gap.record()).is_ok() {
            self.gap = None;
            if lock(&self.status).error.take().is_some() {
                emit(Event::AuditBack { records: gap.records });
            }
        }
    }

    fn fail(&mut self, at: SystemTime, error: &io::Error) {
        let why = error.to_string();
        self.lose(at, &why);
        emit(Event::AuditFailed { path: self.path.clone(), error: why.clone() });
        lock(&self.status).error = Some(why);
    }

    fn lose(&mut self, at: SystemTime, why: &str) {
        Gap::add(&mut self.gap, at, why);
        lock(&self.status).records_lost += 1;
    }

    fn append(&mut self, at: SystemTime, record: &Record) -> io::Result<()> {
        let mut file = self.open()?;
        let head = match self.head.take() {
            Some(head) => head,
            None => self.resume(&mut file)?,
        };
        let (line, next) = match head.next(record, at) {
            Ok(next) => next,
            Err(error) => {
                self.head = Some(head);
                return Err(error.into());
            }
        };
        if let Err(error) = write_line(&mut file, &line) {
            (self.head, self.file) = (Some(head), None);
            return Err(error);
        }
        keep(&self.head_path, &next);
        tell(&next);
        lock(&self.status).head = Some(next.clone());
        (self.head, self.file) = (Some(next), Some(file));
        Ok(())
    }

    /// The file, which may be full, or have been moved away.
    fn open(&mut self) -> io::Result<File> {
        if let Some(file) = self.file.take() {
            let (ours, there) = (file.metadata()?, fs::metadata(&self.path).ok());
            if there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                if ours.len() < self.full {
                    return Ok(file);
                }
                let free = (1..).map(|n| self.path.with_extension(format!("jsonl.{n}"))).find(|path| !path.exists());
                if let Some(aside) = free {
                    fs::rename(&self.path, aside)?;
                }
            }
        }
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        File::options().read(true).append(true).create(true).mode(0o640).open(&self.path)
    }

    /// The head of the trail that is there; a new one where there never was any.
    fn resume(&self, file: &mut File) -> io::Result<Head> {
        let kept = fs::read(&self.head_path).ok().and_then(|text| serde_json::from_slice::<Head>(&text).ok());
        let end = last_line(file)?;
        let mut note = None;
        let mut head = match &end {
            Some((line, whole)) => match serde_json::from_slice::<Link>(line) {
                Ok(link) if *whole => Head { trail: link.trail, seq: link.seq, hash: hash(line) },
                _ => {
                    note = Some(Record::Torn { sha256: hash(line) });
                    kept.clone().unwrap_or_else(new_trail)
                }
            },
            None => kept.clone().unwrap_or_else(new_trail),
        };
        if let Some((_, false)) = end {
            file.write_all(b"\n")?;
        }
        // What was written last is known here too. If it is not there, the trail goes on so that this shows for ever.
        if let Some(kept) = kept.filter(|kept| kept.trail == head.trail && kept.seq >= head.seq) {
            let gone = end.is_none() && aside(&self.path).next().is_none();
            if note.is_none() && kept.seq > 0 && (kept != head || gone) {
                note = Some(Record::Missing {});
            }
            head = kept;
        }
        if let Some(note) = note {
            let (line, next) = head.next(&note, SystemTime::now())?;
            write_line(file, &line)?;
            head = next;
        }
        Ok(head)
    }
}

fn new_trail() -> Head {
    let mut random = [0; 8];
    // Without randomness it is a number all the same.
    let _ = getrandom::fill(&mut random);
    Head::new(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The files that were put aside.
pub(super) fn aside(path: &Path) -> impl Iterator<Item = PathBuf> {
    let prefix = format!("{FILE}.");
    let entries = path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let named = move |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    entries.map(|entry| entry.path()).filter(named)
}

/// The line goes whole to the disk, or not at all.
fn write_line(file: &mut File, line: &str) -> io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        // Of what nobody was told of nothing is to stay.
        let _ = file.set_len(before);
    }
    written
}

/// The last line without its end, and whether it has one; `None`: the file is empty.
fn last_line(file: &mut File) -> io::Result<Option<(Vec<u8>, bool)>> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(None);
    }
    let mut reach = READ;
    loop {
        let from = length.saturating_sub(reach);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        (&mut *file).take(length - from).read_to_end(&mut tail)?;
        let whole = tail.last() == Some(&b'\n');
        if whole {
            tail.pop();
        }
        match tail.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => return Ok(Some((tail.split_off(end + 1), whole))),
            None if from == 0 => return Ok(Some((tail, whole))),
            // A record of a thousand files is long.
            None => reach *= 4,
        }
    }
}

/// Keep the head beside the trail's own place: whoever cuts the one must find the other.
fn keep(path: &Path, head: &Head) {
    let partial = path.with_extension("new");
    let text = serde_json::to_vec(head).unwrap_or_default();
    // The trail itself is written; without this a cut tail is found by the log alone.
    let _ = fs::write(&partial, text).and_then(|()| fs::rename(&partial, path));
}

fn tell(head: &Head) {
    emit(Event::AuditHead { head: head.to_string() });
}

#[cfg(test)]
mod tests;
