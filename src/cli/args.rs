//! The command line of `mediaconnectctl`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::check::CheckArgs;
use super::schema::Kind;
use crate::audit::Head;
use crate::observe::http::{UntilError, parse_until};

/// Ask and steer mediaconnectd, the relay for live MPEG-TS.
#[derive(Debug, Parser)]
#[command(name = "mediaconnectctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Where the daemon's files are.
    #[command(flatten)]
    pub places: Places,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, valid, healthy; 1 rejected, refused, not healthy; 2 wrong usage, no such flow;
3 the daemon can't be reached. See mediaconnectctl(1).";

/// The directories that the daemon and its tool share.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// Configuration
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/mediaconnect", help_heading = "Places")]
    pub config: PathBuf,
    /// Control socket
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/mediaconnect", help_heading = "Places")]
    pub runtime: PathBuf,
    /// Last good versions and overrides
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/mediaconnect", help_heading = "Places")]
    pub state: PathBuf,
    /// Audit trail
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/log/mediaconnect", help_heading = "Places")]
    pub log_dir: PathBuf,
}

impl Places {
    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration files; needs no daemon
    Check(CheckArgs),
    /// Say what a reload would do
    Plan {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the configuration again, and wait until it is applied
    Reload {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all flows, or one in detail
    Status {
        /// The flow; without: all
        flow: Option<String>,
        /// Print JSON; with --watch one document a line
        #[arg(long)]
        json: bool,
        /// Show it again every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
        /// Show the flow's figures over so long, such as 10m or 3h
        #[arg(long, value_name = "TIME", requires = "flow", conflicts_with = "watch", value_parser = since)]
        since: Option<Duration>,
    },
    /// Watch all flows, and each in detail, on the whole terminal
    Top,
    /// Say for Nagios how all flows fare, or one
    CheckHealth {
        /// The flow; without: all
        flow: Option<String>,
    },
    /// Show what happened of late: the events that the daemon keeps
    Events {
        /// And what happens from now on, until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// Print JSON, one document a line
        #[arg(long)]
        json: bool,
    },
    /// Say what is wrong with a flow, and what to do
    Explain {
        /// The flow
        flow: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a flow whatever its file says
    Start {
        /// The flow
        flow: String,
        /// Follow the file again: drop an earlier start or stop
        #[arg(long)]
        clear: bool,
    },
    /// Stop a flow whatever its file says
    Stop {
        /// The flow
        flow: String,
        /// Follow the file again: drop an earlier start or stop
        #[arg(long)]
        clear: bool,
    },
    /// Run an output whatever the file says
    Enable {
        /// The flow
        flow: String,
        /// The output
        output: String,
        /// Follow the file again: drop an earlier enable or disable
        #[arg(long)]
        clear: bool,
    },
    /// Stop an output whatever the file says
    Disable {
        /// The flow
        flow: String,
        /// The output
        output: String,
        /// Follow the file again: drop an earlier enable or disable
        #[arg(long)]
        clear: bool,
    },
    /// Close and open again a flow, or one source or output of it
    Restart {
        /// The flow
        flow: String,
        /// Only one part of it
        #[arg(requires = "name")]
        part: Option<Part>,
        /// The part's name
        name: Option<String>,
    },
    /// End the connection of one peer; a caller may call again
    Disconnect {
        /// The flow
        flow: String,
        /// The peer's address, with its port where it has several connections, or its number in status
        peer: String,
    },
    /// Put a source on air, whatever the file says
    Switch {
        /// The flow
        flow: String,
        /// The source
        #[arg(required_unless_present = "clear", conflicts_with = "clear")]
        source: Option<String>,
        /// Follow the file again: drop an earlier switch
        #[arg(long)]
        clear: bool,
    },
    /// Hold configuration changes back during an event
    Freeze {
        /// The flow; without: all
        flow: Option<String>,
        /// Thaw by itself then: an RFC 3339 time or a duration such as 2h
        #[arg(long, value_name = "TIME", value_parser = until)]
        until: Option<SystemTime>,
    },
    /// Apply what a freeze has held back
    Thaw {
        /// The flow; without: all
        flow: Option<String>,
    },
    /// Show the good versions that a flow's file has had
    History {
        /// The flow; without: the newest version of each
        flow: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an earlier version of a flow's file, and apply it
    Rollback {
        /// The flow
        flow: String,
        /// The version, by its number in history; without: the one before
        #[arg(long, value_name = "N")]
        to: Option<u64>,
    },
    /// Look after the audit trail
    Audit {
        /// What to do
        #[command(subcommand)]
        command: Audit,
    },
    /// Check this host against what the flows need of it, and say what mends it; needs no daemon
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the SDP of an RTP output, for receivers; needs no daemon
    Sdp {
        /// The flow
        flow: String,
        /// The output
        output: String,
    },
    /// Print the JSON Schema of the configuration files
    Schema {
        /// Of which file
        #[arg(value_name = "FILE", default_value = "flow")]
        of: Kind,
    },
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to do with the audit trail.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Say whether it is as it was written; needs no daemon
    Verify {
        /// A last record as the log told it, from where nobody could change it
        #[arg(long, value_name = "HEAD")]
        head: Vec<Head>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A part of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One of its sources
    Source,
    /// One of its outputs
    Output,
}

fn since(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.as_secs() > 0 => Ok(time),
        Ok(_) => Err("it is at least 1s".to_owned()),
        Err(error) => Err(format!("{error}; write 10m or 3h")),
    }
}

fn until(text: &str) -> Result<SystemTime, UntilError> {
    parse_until(text, SystemTime::now())
}
