//! `mediaconnectctl schema`: JSON Schema of the files, for editors and for those who generate files.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ValueEnum;

use crate::config::schema;

/// Of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Kind {
    /// A flow: flows.d/NAME.toml
    #[default]
    Flow,
    /// A party that may receive entitled flows: subscribers.d/NAME.toml
    Subscriber,
    /// The appliance: mediaconnect.toml
    Daemon,
}

/// Print the schema.
pub fn run(kind: Kind) -> ExitCode {
    let schema = match kind {
        Kind::Flow => schema::flow(),
        Kind::Subscriber => schema::subscriber(),
        Kind::Daemon => schema::daemon(),
    };
    match writeln!(io::stdout(), "{schema:#}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
