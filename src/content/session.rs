//! One connection: the stream goes to ffmpeg, and what ffmpeg sees goes back. Each pipe has a thread of its own, so that
//! none waits for another.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::choice::Choice;
use super::ffmpeg::{self, Log, PROGRAM};
use super::judge::Judge;
use super::wire::{LARGEST_PICTURE, Message, Report, State, Wanted, WireError};
use crate::proto::mpegts::monitor::Monitor;
use crate::proto::mpegts::packet::PACKET_LEN;
use crate::time::Instant;

/// A report is sent so often, also where there is nothing new: the daemon takes silence for a helper that hangs.
const BEAT: Duration = Duration::from_secs(5);
/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for ffmpeg, which stops reading while it decodes: 8 MiB.
const QUEUE: usize = 128;
/// ffmpeg hangs if it has not read for so long, and the daemon if it has not.
const STUCK: Duration = Duration::from_secs(20);
/// A line of ffmpeg's log, or of what comes before a picture.
const LONGEST_LINE: u64 = 4096;

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// The daemon closed it.
    Closed,
    /// It can't go on.
    Fault(String),
}

/// What the threads share.
struct Shared {
    daemon: Mutex<UnixStream>,
    judge: Mutex<Judge>,
    /// What the daemon was told last.
    told: Mutex<Report>,
    ffmpeg: Mutex<Option<Child>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serve the daemon until it closes the connection.
///
/// # Errors
/// Why it can't be served any longer, in words; the daemon has been told.
pub(super) fn serve(stream: UnixStream) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    stream.set_nonblocking(false).map_err(words)?;
    stream.set_write_timeout(Some(STUCK)).map_err(words)?;
    let mut input = BufReader::new(stream.try_clone().map_err(words)?);
    let wanted = Wanted::read(&mut input).map_err(|error| format!("the daemon did not say what it wants: {error}"));
    let shared = Arc::new(Shared {
        daemon: Mutex::new(stream),
        judge: Mutex::new(Judge::new(wanted.as_ref().unwrap_or(&Wanted::NOTHING))),
        told: Mutex::default(),
        ffmpeg: Mutex::default(),
    });
    let end = match wanted {
        Ok(wanted) => {
            let (ends, end) = channel();
            let mut intake = Intake::new(wanted, shared.clone(), ends.clone());
            thread::spawn(move || ends.send(intake.run(input)));
            shared.beat_until(&end)
        }
        Err(why) => End::Fault(why),
    };
    if let Some(ffmpeg) = &mut *lock(&shared.ffmpeg) {
        // It may have ended by itself.
        let _ = ffmpeg.kill().and_then(|()| ffmpeg.wait());
    }
    match end {
        End::Closed => Ok(()),
        End::Fault(why) => {
            let report = Report { fault: Some(why.clone()), ..lock(&shared.judge).report() };
            // One who has gone need not know.
            let _ = shared.send(&Message::Report(report));
            Err(why)
        }
    }
}

impl Shared {
    fn send(&self, message: &Message) -> Result<(), WireError> {
        message.write(&mut *lock(&self.daemon))
    }

    /// Tell what is known, if that is news; `always`: in any case.
    fn report(&self, always: bool) -> Result<(), WireError> {
        let report = lock(&self.judge).report();
        let mut told = lock(&self.told);
        if always || news(&told) != news(&report) {
            self.send(&Message::Report(report.clone()))?;
            *told = report;
        }
        Ok(())
    }

    /// Give signs of life until a thread says that it is over.
    fn beat_until(&self, end: &Receiver<End>) -> End {
        loop {
            match end.recv_timeout(BEAT) {
                Ok(end) => return end,
                Err(RecvTimeoutError::Timeout) if self.report(true).is_ok() => {}
                Err(_) => return End::Closed,
            }
        }
    }
}

/// What of a report is worth a message: not that time has passed.
fn news(report: &Report) -> [State; 3] {
    [report.black, report.frozen, report.silent].map(|state| match state {
        State::Wrong(_) => State::Wrong(0),
        other => other,
    })
}

/// What comes from the daemon, on its way to ffmpeg.
struct Intake {
    wanted: Wanted,
    shared: Arc<Shared>,
    ends: Sender<End>,
    /// From the first packet on.
    monitor: Option<(Monitor, Instant)>,
    /// The changes of the multiplex that are known.
    changed: u64,
    running: Option<Running>,
}

/// What ffmpeg is given.
struct Running {
    choice: Choice,
    queue: SyncSender<Vec<u8>>,
    full_since: Option<Instant>,
}

impl Intake {
    fn new(wanted: Wanted, shared: Arc<Shared>, ends: Sender<End>) -> Self {
        Self { wanted, shared, ends, monitor: None, changed: 0, running: None }
    }

    fn run(&mut self, mut input: impl Read) -> End {
        let (mut buffer, mut filled) = (vec![0; CHUNK], 0);
        loop {
            match input.read(&mut buffer[filled..]) {
                Ok(0) => return End::Closed,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return End::Closed,
            }
            let whole = filled / PACKET_LEN * PACKET_LEN;
            if let Err(why) = self.packets(&buffer[..whole], Instant::now()) {
                return End::Fault(why);
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    /// Whole packets of the stream.
    fn packets(&mut self, packets: &[u8], now: Instant) -> Result<(), String> {
        let (monitor, since) = self.monitor.get_or_insert_with(|| (Monitor::new(now), now));
        monitor.handle_datagram(packets, now);
        let changed = monitor.metadata().changed();
        if self.running.is_none() || changed != self.changed {
            self.changed = changed;
            let choice = Choice::of(monitor, &self.wanted, *since, now);
            match (&self.running, choice) {
                (None, Some(choice)) => self.running = Some(self.start(choice)?),
                (Some(running), Some(choice)) if choice != running.choice => {
                    return Err("the programs are others than before".to_owned());
                }
                _ => {}
            }
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        let mut picked = Vec::with_capacity(packets.len());
        running.choice.pick(packets, &mut picked);
        match running.queue.try_send(picked) {
            Ok(()) => running.full_since = None,
            // What does not fit is left out: it looks like damage, as any loss does.
            Err(TrySendError::Full(_)) => {
                let since = *running.full_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= STUCK {
                    return Err(format!("{PROGRAM} has stopped reading"));
                }
            }
            // It has ended, and whoever reads its log says so.
            Err(TrySendError::Disconnected(_)) => {}
        }
        Ok(())
    }

    fn start(&self, choice: Choice) -> Result<Running, String> {
        let mut command = Command::new(PROGRAM);
        command.args(ffmpeg::arguments(&self.wanted, &choice)).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{PROGRAM} is not installed"),
            _ => format!("{PROGRAM} can't be started: {error}"),
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err("no pipes".to_owned()) };
        *lock(&self.shared.ffmpeg) = Some(child);
        let (queue, chunks) = sync_channel(QUEUE);
        thread::spawn(move || feed(&chunks, stdin));
        let (shared, ends) = (self.shared.clone(), self.ends.clone());
        thread::spawn(move || pass_pictures(&shared, BufReader::new(stdout)).map(|end| ends.send(end)));
        let (shared, ends) = (self.shared.clone(), self.ends.clone());
        thread::spawn(move || ends.send(read_log(&shared, BufReader::new(stderr))));
        Ok(Running { choice, queue, full_since: None })
    }
}

fn feed(chunks: &Receiver<Vec<u8>>, mut ffmpeg: ChildStdin) {
    while let Ok(chunk) = chunks.recv() {
        if ffmpeg.write_all(&chunk).is_err() {
            return;
        }
    }
}

/// `None`: there are no more, and whoever reads the log says why.
fn pass_pictures(shared: &Shared, mut from: impl BufRead) -> Option<End> {
    loop {
        let sent = match next_picture(&mut from) {
            Ok(picture) => shared.send(&Message::Picture(picture?)),
            Err(error) => return Some(End::Fault(format!("{PROGRAM}'s pictures can't be read: {error}"))),
        };
        match sent {
            Ok(()) => {}
            Err(WireError::Io(_)) => return Some(End::Closed),
            Err(error) => return Some(End::Fault(error.to_string())),
        }
    }
}

fn read_log(shared: &Shared, mut from: impl BufRead) -> End {
    let mut log = Log::default();
    while let Ok(Some(line)) = next_line(&mut from) {
        let Some(look) = log.line(&line) else { continue };
        lock(&shared.judge).look(look);
        if shared.report(false).is_err() {
            return End::Closed;
        }
    }
    End::Fault(match log.error() {
        Some(error) => format!("{PROGRAM} ended: {error}"),
        None => format!("{PROGRAM} ended"),
    })
}

/// A line without its end; of one that is too long, a part. `None`: there are no more.
fn next_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// The next part of what ffmpeg calls mpjpeg: lines that end in an empty one and say how long it is, and the part.
fn next_picture(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut length = None;
    while let Some(line) = next_line(from)? {
        match line.to_ascii_lowercase().strip_prefix("content-length:") {
            Some(text) => length = text.trim().parse::<usize>().ok(),
            None if line.is_empty() && length.is_some() => break,
            None => {}
        }
    }
    let Some(length) = length else { return Ok(None) };
    if length > LARGEST_PICTURE {
        return Err(io::Error::other(format!("one of {length} bytes")));
    }
    let mut picture = vec![0; length];
    from.read_exact(&mut picture)?;
    Ok(Some(picture))
}

#[cfg(test)]
mod tests;
