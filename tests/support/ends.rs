//! The two ends of a connection, each a program of its own: what runs there, and what has been received.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::media::{SEVEN, v4};
use super::paths::Recorder;
use super::peers::Peer;
use super::sample::{STUFFING, assert_same, numbers, stuffing};
use super::{PATIENCE, wait_for};

/// What runs at an end.
pub enum Running {
    Peer(Peer),
    Daemon(Box<Daemon>),
}

impl Running {
    /// All it has said.
    pub fn log(&self) -> String {
        match self {
            Self::Peer(peer) => peer.stdout() + &peer.stderr(),
            Self::Daemon(daemon) => daemon.log(),
        }
    }

    /// Wait until it has said this; all it has said.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("{} says: {text}", self.name()), || Some(self.log()).filter(|log| log.contains(text)))
    }

    fn name(&self) -> &str {
        match self {
            Self::Peer(peer) => peer.name(),
            Self::Daemon(_) => "the daemon",
        }
    }

    /// Ask it to end, and wait until it has.
    #[track_caller]
    pub fn interrupt(&mut self) {
        match self {
            Self::Peer(peer) => {
                peer.interrupt();
            }
            Self::Daemon(daemon) => {
                daemon.signal(nix::sys::signal::Signal::SIGTERM);
                assert!(daemon.wait_for_end(), "the daemon ends well");
            }
        }
    }

    /// The daemon, if it is that.
    pub fn daemon(&self) -> Option<&Daemon> {
        match self {
            Self::Daemon(daemon) => Some(daemon),
            Self::Peer(_) => None,
        }
    }
}

/// What is written at a time is also read at a time: else a busy reader would send packets that begin amid another.
pub fn keep_apart(pipe: &ChildStdin) {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_DIRECT)).expect("pipe(7): packets, since Linux 3.4");
    fcntl(pipe, FcntlArg::F_SETPIPE_SZ(1 << 20)).expect("room for 256 packets");
}

/// What has been received.
pub enum Got {
    File(TempDir),
    Udp(Recorder),
}

impl Got {
    /// In an empty file.
    pub fn in_file() -> Self {
        Self::File(TempDir::with_prefix("mediaconnect-media-").expect("a temporary directory"))
    }

    /// At this port of loopback.
    pub fn at(port: u16) -> Self {
        Self::Udp(Recorder::bind(v4(port)))
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(dir) => Some(recording(dir)),
            Self::Udp(_) => None,
        }
    }

    /// All that has been received so far, without stuffing at its beginning.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = match self {
            Self::File(dir) => fs::read(recording(dir)).unwrap_or_default(),
            Self::Udp(recorder) => recorder.recorded().into_iter().flat_map(|datagram| datagram.datagram).collect(),
        };
        let stuffing = stuffing();
        bytes[bytes.chunks(SEVEN).take_while(|datagram| *datagram == stuffing).count() * SEVEN..].to_vec()
    }

    /// How many bytes have been received so far, stuffing included.
    pub fn length(&self) -> u64 {
        match self {
            Self::File(dir) => fs::metadata(recording(dir)).map_or(0, |file| file.len()),
            Self::Udp(recorder) => recorder.length(),
        }
    }

    /// Wait until at least so many bytes have come, and give all that came.
    #[track_caller]
    pub fn wait_for_length(&self, bytes: u64) -> Vec<u8> {
        let (start, mut length) = (Instant::now(), 0);
        loop {
            let came = self.length();
            // Not all is looked at each time it has grown by some datagrams.
            if came >= bytes.max(length + 1) {
                // What comes from now on is looked at again.
                length = came;
                let received = self.bytes();
                if received.len() as u64 >= bytes {
                    return received;
                }
            }
            assert!(start.elapsed() < PATIENCE, "received {} of {bytes} bytes", self.length());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Wait until as many bytes have come as were sent, and compare them.
    #[track_caller]
    pub fn assert_received(&self, sent: &[u8]) {
        assert_same(&self.wait_for_length(sent.len() as u64), sent);
    }

    /// Wait until the newest of numbered datagrams, or one that has come a few before it, has this number or a later one.
    #[track_caller]
    pub fn wait_for_number(&self, number: u64) {
        wait_for(&format!("number {number} is received"), || {
            let newest = match self {
                Self::File(dir) => read_end(&recording(dir)).chunks_exact(SEVEN).map(<[u8]>::to_vec).collect(),
                Self::Udp(recorder) => recorder.newest(),
            };
            let has_come = |datagram: &Vec<u8>| numbers(datagram).iter().any(|newest| *newest >= number);
            newest.iter().any(has_come).then_some(())
        });
    }

    /// The numbers of numbered datagrams that have come so far.
    #[track_caller]
    pub fn numbers(&self) -> Vec<u64> {
        numbers(&self.bytes()).into_iter().filter(|number| *number != STUFFING).collect()
    }
}

fn recording(dir: &TempDir) -> PathBuf {
    dir.path().join("recorded.ts")
}

/// The last whole datagrams of a file.
fn read_end(path: &Path) -> Vec<u8> {
    let (mut bytes, size) = (Vec::new(), SEVEN as u64);
    let read = File::open(path).and_then(|mut file| {
        let whole = file.metadata()?.len() / size;
        file.seek(SeekFrom::Start(whole.saturating_sub(4) * size))?;
        file.read_to_end(&mut bytes)
    });
    read.expect("what has been received");
    bytes
}
