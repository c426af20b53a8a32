//! SRT between other people's programs and the daemon. Whoever has SRT is a [`Program`]: each of them can be at either
//! end of a connection, so what is tried between two peers is tried with the daemon in the place of one.

pub mod cases;
pub mod ends;
pub mod link;
pub mod matrix;
pub mod packet;
pub mod trial;
pub mod wheel;

mod command;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Who is at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `srt-live-transmit`, with libsrt 1.5.1.
    LiveTransmit,
    /// Debian's ffmpeg 5.1, with libsrt 1.5.1.
    Ffmpeg,
    /// GStreamer 1.22, with libsrt 1.5.1.
    Gstreamer,
    /// ffmpeg with libsrt 1.5.7.
    NewFfmpeg,
    /// The daemon: a flow from UDP to SRT, or from SRT to UDP.
    Mediaconnect,
}

impl Program {
    /// All but the daemon.
    pub const PEERS: [Self; 4] = [Self::LiveTransmit, Self::Ffmpeg, Self::Gstreamer, Self::NewFfmpeg];
}

/// How an end comes to its connection, all on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It listens on this port.
    Listener(u16),
    /// It calls this port.
    Caller(u16),
    /// Both call each other. `srt-live-transmit` has the same port at both ends, so the addresses differ.
    Rendezvous { local: Ipv4Addr, remote: Ipv4Addr, port: u16 },
}

impl Place {
    /// The two ends of a rendezvous.
    pub fn rendezvous(port: u16) -> [Self; 2] {
        let [a, b] = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
        [Self::Rendezvous { local: a, remote: b, port }, Self::Rendezvous { local: b, remote: a, port }]
    }

    /// The other end's place, for a connection without anything between.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Listener(port) => Self::Caller(port),
            Self::Caller(port) => Self::Listener(port),
            Self::Rendezvous { local, remote, port } => Self::Rendezvous { local: remote, remote: local, port },
        }
    }
}

/// What an end is told, apart from where its other end is. What is not said is as the program has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub passphrase: Option<String>,
    /// Bytes: 16, 24 or 32.
    pub key_length: Option<u8>,
    pub stream_id: Option<String>,
    /// Milliseconds, for both directions.
    pub latency: Option<u32>,
    /// Milliseconds, for what this end receives and for what it sends. Peers only.
    pub latencies: Option<[u32; 2]>,
    /// Packets with one key, and how many packets before its end the next one is announced. Peers only.
    pub refresh: Option<[u32; 2]>,
    /// Whether `srt-live-transmit` waits or calls again when a connection ends. The others: GStreamer does, ffmpeg not.
    pub again: bool,
    /// Where `srt-live-transmit` writes its figures, a line of JSON each time.
    pub statistics: Option<PathBuf>,
    /// More keys of the daemon's source or output, as lines of TOML.
    pub keys: String,
}

impl Options {
    /// Not encrypted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encrypted, with a key of so many bytes.
    #[must_use]
    pub fn encrypted(self, passphrase: &str, key_length: u8) -> Self {
        Self { passphrase: Some(passphrase.to_owned()), key_length: Some(key_length), ..self }
    }

    /// Called so, or for a listener of the daemon's: let in who calls so.
    #[must_use]
    pub fn stream_id(self, stream_id: &str) -> Self {
        Self { stream_id: Some(stream_id.to_owned()), ..self }
    }

    /// In milliseconds.
    #[must_use]
    pub fn latency(self, latency: u32) -> Self {
        Self { latency: Some(latency), ..self }
    }

    /// In milliseconds, of what this end receives and of what it sends.
    #[must_use]
    pub fn latencies(self, receive: u32, send: u32) -> Self {
        Self { latencies: Some([receive, send]), ..self }
    }

    /// A new key after so many packets, announced so many before.
    #[must_use]
    pub fn refresh(self, every: u32, announce: u32) -> Self {
        Self { refresh: Some([every, announce]), ..self }
    }

    /// For more than one connection, one after the other.
    #[must_use]
    pub fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// With figures in this file.
    #[must_use]
    pub fn statistics(self, file: &Path) -> Self {
        Self { statistics: Some(file.to_owned()), ..self }
    }

    /// With these lines in the daemon's source or output.
    #[must_use]
    pub fn keys(self, keys: &str) -> Self {
        Self { keys: keys.to_owned(), ..self }
    }
}
