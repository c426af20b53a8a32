//! RIST between other people's programs and the daemon. Whoever has RIST is a [`Program`]: each of them can be at either
//! end, so what is tried between two peers is tried with the daemon in the place of one.

pub mod cases;
pub mod ends;
pub mod link;
pub mod matrix;
pub mod packet;
pub mod trial;

mod command;

/// The passphrase of every test.
pub const PASSPHRASE: &str = "correct horse battery";

/// Who is at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `ristsender` and `ristreceiver`, with librist 0.2.7.
    Librist,
    /// Debian's ffmpeg 5.1, with librist 0.2.7.
    Ffmpeg,
    /// GStreamer 1.22, with RIST of its own: the simple profile.
    Gstreamer,
    /// The daemon: a flow from UDP to RIST, or from RIST to UDP.
    Mediaconnect,
}

impl Program {
    /// All but the daemon.
    pub const PEERS: [Self; 3] = [Self::Librist, Self::Ffmpeg, Self::Gstreamer];
}

/// How media and reports are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// On two ports.
    Simple,
    /// In a tunnel, encrypted with a key of so many bytes, if at all.
    Main(Option<u8>),
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Simple, Self::Main(None), Self::Main(Some(16)), Self::Main(Some(32))];

    /// Bytes of the key.
    pub const fn key_length(self) -> Option<u8> {
        match self {
            Self::Main(key_length) => key_length,
            Self::Simple => None,
        }
    }
}

/// What an end is told, apart from where its other end is. What is not said is as the program has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub profile: Profile,
    /// Used if the profile is encrypted.
    pub passphrase: &'static str,
    /// Of both ends, in milliseconds.
    pub buffer: u32,
    /// Whether null packets are left out. Senders among the peers only; not ffmpeg.
    pub null_deletion: bool,
    /// Packets with one key. `ristsender` only.
    pub key_rotation: Option<u32>,
    /// Whether packets go to one address each, not to every one. Senders with two only.
    pub split: bool,
}

impl Options {
    /// Of this profile.
    pub const fn new(profile: Profile) -> Self {
        let (buffer, passphrase) = (1000, PASSPHRASE);
        Self { profile, passphrase, buffer, null_deletion: false, key_rotation: None, split: false }
    }

    /// With another passphrase.
    #[must_use]
    pub const fn passphrase(self, passphrase: &'static str) -> Self {
        Self { passphrase, ..self }
    }

    /// In milliseconds.
    #[must_use]
    pub const fn buffer(self, buffer: u32) -> Self {
        Self { buffer, ..self }
    }

    /// Null packets are left out.
    #[must_use]
    pub const fn null_deletion(self) -> Self {
        Self { null_deletion: true, ..self }
    }

    /// A new key after so many packets.
    #[must_use]
    pub const fn key_rotation(self, packets: u32) -> Self {
        Self { key_rotation: Some(packets), ..self }
    }

    /// Each packet goes to one address only.
    #[must_use]
    pub const fn split(self) -> Self {
        Self { split: true, ..self }
    }
}
