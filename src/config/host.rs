//! What of this host files are judged against.

use super::ports::LocalPorts;
use crate::content;

/// The default is a host that hands out no ports, and has all that may be needed.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) local_ports: LocalPorts,
    /// Is ffmpeg installed?
    pub(super) ffmpeg: bool,
}

impl Host {
    /// This one, now.
    pub(super) fn this() -> Self {
        Self { local_ports: LocalPorts::of_this_host(), ffmpeg: content::ffmpeg_is_installed() }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self { local_ports: LocalPorts::default(), ffmpeg: true }
    }
}
