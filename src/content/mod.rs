//! The projection room: whether pictures and sound are as they should be, and a small picture of what is on air.
//!
//! Decoding is for others: a helper, `mediaconnect-thumbnail`, runs ffmpeg in a sandbox of its own. The daemon connects to
//! the helper's socket, hands it a copy of what is on air, and hears what it saw. Nothing that happens to the helper
//! touches the relay: what it does not take in time is not offered again, and what it says is not believed unread.

mod choice;
mod ffmpeg;
pub mod helper;
mod judge;
mod prompt;
mod session;
pub mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::wire::Wanted;
use crate::config::plan::{ContentPlan, FlowPlan};
use crate::observe::text::span;

/// Something wrong with the pictures or the sound of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentFault {
    /// The picture is black.
    Black,
    /// The picture does not move.
    Frozen,
    /// There is nothing to be heard.
    Silent,
    /// A program names a picture that does not come.
    VideoMissing,
    /// A program names a sound that does not come.
    AudioMissing,
}

impl ContentFault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Black, Self::Frozen, Self::Silent, Self::VideoMissing, Self::AudioMissing];

    /// The name of its condition and of its alarm.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Black => "content-black",
            Self::Frozen => "content-frozen",
            Self::Silent => "content-silent",
            Self::VideoMissing => "video-missing",
            Self::AudioMissing => "audio-missing",
        }
    }
}

/// What is wrong, and for how long; in words, without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub fault: ContentFault,
    /// For how long.
    pub lasted: Duration,
    /// The program and the PID of what is missing.
    pub stream: Option<(u16, u16)>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lasted = span(self.lasted);
        let what = match self.fault {
            ContentFault::Black => return write!(f, "the picture has been black for {lasted}"),
            ContentFault::Frozen => return write!(f, "the picture has not moved for {lasted}"),
            ContentFault::Silent => return write!(f, "there has been no sound for {lasted}"),
            ContentFault::VideoMissing => "picture",
            ContentFault::AudioMissing => "sound",
        };
        let (program, pid) = self.stream.unwrap_or_default();
        write!(f, "the {what} of program {program}, PID {pid}, has not come for {lasted}")
    }
}

impl Wanted {
    /// By the plan of a flow; `None`: no helper is needed.
    pub fn of(plan: &FlowPlan) -> Option<Self> {
        let ContentPlan { black, frozen, silence } = plan.content.unwrap_or_default();
        let wanted = Self { thumbnails: plan.thumbnails, black, frozen, silence, ..Self::NOTHING };
        (wanted.pictures() || wanted.sound()).then_some(wanted)
    }
}

/// Where the helper listens, beside the daemon's runtime directory: systemd removes that when the daemon stops, and the
/// helper's socket is there before and after.
pub fn socket(runtime: &Path) -> PathBuf {
    match runtime.file_name() {
        Some(name) => {
            let mut name = OsString::from(name);
            name.push("-thumbnail.sock");
            runtime.with_file_name(name)
        }
        None => runtime.join("thumbnail.sock"),
    }
}

/// Whether there is a program `ffmpeg`.
pub fn ffmpeg_is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(ffmpeg::PROGRAM).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_beside_the_runtime_directory() {
        for (runtime, expected) in [
            ("/run/mediaconnect", "/run/mediaconnect-thumbnail.sock"),
            ("./run/", "./run-thumbnail.sock"),
            ("run", "run-thumbnail.sock"),
            ("/", "/thumbnail.sock"),
        ] {
            assert_eq!(socket(Path::new(runtime)), Path::new(expected), "{runtime}");
        }
    }

    #[test]
    fn a_finding_says_what_and_for_how_long() {
        let of = |fault, stream| Finding { fault, lasted: Duration::from_secs(12), stream }.to_string();
        assert_eq!(of(ContentFault::Black, None), "the picture has been black for 12s");
        let missing = of(ContentFault::AudioMissing, Some((1, 257)));
        assert_eq!(missing, "the sound of program 1, PID 257, has not come for 12s");
    }
}
