//! The command line of `mediaconnectd`.

use std::path::PathBuf;
use std::time::Duration;

use super::Dirs;

/// The mediaconnect daemon: relays live MPEG-TS, one file in flows.d a flow.
#[derive(Debug, clap::Parser)]
#[command(name = "mediaconnectd", version, about)]
pub(super) struct Args {
    /// Where mediaconnect.toml, flows.d and secrets are.
    #[arg(long, value_name = "DIR", default_value = "/etc/mediaconnect")]
    config: PathBuf,
    /// Where the control socket is made.
    #[arg(long, value_name = "DIR", default_value = "/run/mediaconnect")]
    runtime: PathBuf,
    /// Where last good versions and what operators set are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mediaconnect")]
    state: PathBuf,
    /// Where the audit trail is kept.
    #[arg(long, value_name = "DIR", default_value = "/var/log/mediaconnect")]
    log_dir: PathBuf,
    /// Stay in the foreground. It always does: the service manager does the rest.
    #[arg(long)]
    foreground: bool,
    /// Show what it does: relay a test pattern over loopback, verify every byte, draw a table. Needs no configuration
    /// and no root; all is in a temporary directory, the directories above are not used.
    #[arg(long)]
    demo: bool,
    /// End the demo after that time, such as 10s; exit 0 only if every output received everything.
    #[arg(long, value_name = "DURATION", requires = "demo", value_parser = humantime::parse_duration)]
    demo_for: Option<Duration>,
}

impl Args {
    /// `--demo`, and for how long; without end: `Some(None)`.
    pub(super) fn demo(&self) -> Option<Option<Duration>> {
        self.demo.then_some(self.demo_for)
    }

    pub(super) fn dirs(&self) -> Dirs {
        let Self { config, runtime, state, log_dir, foreground: _, demo: _, demo_for: _ } = self;
        Dirs { config: config.clone(), runtime: runtime.clone(), state: state.clone(), log: log_dir.clone() }
    }
}
