//! Records to the systemd journal by its native protocol (systemd.io, JOURNAL_NATIVE_PROTOCOL): one datagram a record.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::log::Record;
use super::text::cut;

/// A message longer than this is cut: far below what a datagram to journald may hold.
const LONGEST: usize = 32 * 1024;
/// Milliseconds that a busy journald may keep us waiting.
const PATIENCE: u16 = 100;

/// The sink.
pub(super) struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
    stalled: bool,
}

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // A journald that is not there yet is found at the first record.
        let _ = socket.connect(path);
        Ok(Self { path: path.to_owned(), socket, stalled: false })
    }

    /// Connected, so that `poll` sees a full queue; connected anew when journald was restarted.
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let datagram = encode(record);
        match self.socket.send(&datagram) {
            Ok(_) => {
                self.stalled = false;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock && !self.stalled => {
                let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                self.stalled = poll(&mut fds, PollTimeout::from(PATIENCE))? == 0;
                self.socket.send(&datagram).map(drop)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(e),
            Err(_) => {
                self.socket.connect(&self.path)?;
                self.socket.send(&datagram).map(drop)
            }
        }
    }
}

fn encode(record: &Record) -> Vec<u8> {
    let mut to = Vec::with_capacity(512);
    push(&mut to, "MESSAGE", cut(&record.message, LONGEST));
    push(&mut to, "PRIORITY", &record.severity().to_string());
    push(&mut to, "SYSLOG_IDENTIFIER", "mediaconnectd");
    push(&mut to, "SYSLOG_FACILITY", "3");
    push(&mut to, "MEDIACONNECT_TARGET", &record.target);
    if let Some(id) = record.message_id {
        push(&mut to, "MESSAGE_ID", id);
    }
    for (name, value) in &record.fields {
        push(&mut to, &field_name(name), value);
    }
    to
}

/// `flow` is `MEDIACONNECT_FLOW`; what the journal allows in no name becomes `_`.
fn field_name(name: &str) -> String {
    let tidy = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "MEDIACONNECT_".chars().chain(tidy).take(64).collect()
}

/// `NAME=value`, or the form with a length where the value has more than one line.
fn push(to: &mut Vec<u8>, name: &str, value: &str) {
    to.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        to.push(b'\n');
        to.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value.as_bytes());
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::event::Event;

    fn lost() -> Record {
        Record::of(&Event::SourceLost {
            flow: "news".parse().unwrap(),
            source: "a".into(),
            silent_for: std::time::Duration::from_millis(500),
            bitrate_bps: 8_000_000,
            covered: false,
        })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = vec![0; 65_536];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[test]
    fn an_event_carries_the_fields_of_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        Journal::open(&path).unwrap().write(&lost()).unwrap();
        assert_eq!(
            received(&journald),
            "MESSAGE=news/a lost: nothing for 500ms, 8.00 Mbit/s before\nPRIORITY=4\n\
             SYSLOG_IDENTIFIER=mediaconnectd\nSYSLOG_FACILITY=3\nMEDIACONNECT_TARGET=mediaconnect::flow\n\
             MESSAGE_ID=0c82498ab11e41c9a2b81d039a9f97a3\n\
             MEDIACONNECT_EVENT=source-lost\nMEDIACONNECT_FLOW=news\nMEDIACONNECT_SOURCE=a\n"
        );
    }

    #[test]
    fn a_restart_of_journald_loses_nothing_that_comes_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut journal = Journal::open(&path).unwrap();
        assert!(journal.write(&lost()).is_err(), "no journald yet");
        for _ in 0..2 {
            let journald = UnixDatagram::bind(&path).unwrap();
            journal.write(&lost()).unwrap();
            assert!(received(&journald).contains("PRIORITY=4"));
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_journald_that_does_not_read_costs_an_error_and_no_wait_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _journald = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert!((0..100_000).any(|_| journal.write(&lost()).is_err()));
    }

    #[test]
    fn a_value_of_several_lines_takes_the_form_with_a_length() {
        let mut to = Vec::new();
        push(&mut to, "MESSAGE", "a\nb");
        assert_eq!(to, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }

    #[test]
    fn a_message_beyond_a_datagram_is_cut() {
        let record = Record::new(tracing::Level::INFO, "t", "é".repeat(LONGEST));
        assert!(encode(&record).len() < LONGEST + 200);
    }
}
