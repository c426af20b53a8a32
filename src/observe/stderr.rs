//! Records to standard error, without waiting long for a reader that has stopped reading.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::log::Record;

/// What a pipe takes without blocking once `poll` says it is writable (PIPE_BUF).
const CHUNK: usize = 4096;
/// How long a reader may keep us waiting.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether stderr goes to the journal, which then understands `<N>` before a line (sd-daemon(3)).
pub(super) fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata());
    stderr.is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}

/// The sink.
pub(super) struct Stderr {
    prefix: bool,
    stalled: bool,
}

impl Default for Stderr {
    fn default() -> Self {
        Self { prefix: is_journal(), stalled: false }
    }
}

impl Stderr {
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = line(record, self.prefix);
        let stderr = io::stderr();
        for chunk in line.as_bytes().chunks(CHUNK) {
            // Non-blocking mode would leak to whoever else has this terminal or pipe open.
            let patience = if self.stalled { Duration::ZERO } else { PATIENCE };
            let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
            let ready = poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO))?;
            self.stalled = ready == 0;
            if self.stalled {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads"));
            }
            stderr.lock().write_all(chunk)?;
        }
        Ok(())
    }
}

/// `2026-11-22T18:00:00.123Z info flow=news source=a message`, with the journal's `<N>` where it is understood.
fn line(record: &Record, prefix: bool) -> String {
    let mut line = if prefix { format!("<{}>", record.severity()) } else { format!("{} ", timestamp(record.time)) };
    line.push_str(&record.level.as_str().to_ascii_lowercase());
    for (name, value) in record.fields.iter().filter(|(name, _)| *name != "event") {
        line.push_str(&format!(" {name}={value}"));
    }
    line.push(' ');
    line.push_str(&record.line());
    line.push('\n');
    line
}

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new(tracing::Level::INFO, "mediaconnect::flow", "receives\nagain".to_owned());
        record.time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_123);
        record.fields = vec![("event", "source-back".into()), ("flow", "news".into()), ("source", "a".into())];
        record
    }

    #[test]
    fn a_line_has_time_level_fields_and_message_and_is_one_line() {
        assert_eq!(line(&record(), false), "1970-01-01T00:00:01.123Z info flow=news source=a receives\\nagain\n");
    }

    #[test]
    fn the_journal_gets_its_prefix_and_keeps_its_own_time() {
        assert_eq!(line(&record(), true), "<6>info flow=news source=a receives\\nagain\n");
    }
}
