//! `mediaconnectctl check`: are the files valid? No daemon is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::config::diagnostic::{Diagnostic, Level};
use crate::config::plan::DaemonPlan;
use crate::config::secrets::Secrets;
use crate::config::value::FlowName;
use crate::config::{Context, FlowFile, load, parse_flow};

/// Check configuration files. Exit code: 0 valid, 1 invalid, 2 wrong usage.
///
/// Without FILE the whole configuration directory is judged. With FILE or --overlay the exit code is about those files
/// and their conflicts with the rest; faults elsewhere are warnings.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// A file of the configuration directory, or a new version of one that lies elsewhere: NAME.toml stands for that
    /// flow, mediaconnect.toml for itself. A file elsewhere with any other name is judged as a flow by itself, without
    /// its conflicts; to have those, use --overlay
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Judge FILE as if it were the file of NAME: a flow's name, or a path under --config such as mediaconnect.toml.
    /// For Ansible: validate: mediaconnectctl check --overlay news=%s
    #[arg(long = "overlay", value_name = "NAME=FILE", value_parser = parse_overlay)]
    pub overlays: Vec<Overlay>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One `--overlay NAME=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The path under the configuration directory that it stands for.
    pub path: PathBuf,
    /// Where the content is.
    pub file: PathBuf,
}

fn parse_overlay(text: &str) -> Result<Overlay, String> {
    let (name, file) = text.split_once('=').ok_or("write NAME=FILE")?;
    let path =
        if name.parse::<FlowName>().is_ok() { Path::new("flows.d").join(format!("{name}.toml")) } else { name.into() };
    if !is_config_path(&path) {
        return Err(format!(
            "{name:?} is neither a flow's name nor mediaconnect.toml, flows.d/NAME.toml or subscribers.d/NAME.toml"
        ));
    }
    if file.is_empty() {
        return Err("write NAME=FILE".into());
    }
    Ok(Overlay { path, file: file.into() })
}

/// `mediaconnect.toml`, or a file of `flows.d` or `subscribers.d` with a valid name.
fn is_config_path(path: &Path) -> bool {
    let folder = path.parent().filter(|p| *p == Path::new("flows.d") || *p == Path::new("subscribers.d"));
    path == Path::new("mediaconnect.toml") || folder.is_some() && name_of(path).is_some()
}

fn flow_of(path: &Path) -> Option<FlowName> {
    name_of(path).filter(|_| path.starts_with("flows.d"))
}

fn name_of(path: &Path) -> Option<FlowName> {
    path.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()
}

/// Check the files of the configuration directory `dir` and print what is wrong.
pub fn run(args: &CheckArgs, dir: &Path) -> ExitCode {
    match Request::new(args, dir) {
        Ok(request) => {
            let verdict = request.judge(dir);
            // A reader that has gone away, as in `check | head`, doesn't change what the files are.
            let _ = if args.json { verdict.print_json() } else { verdict.print() };
            if verdict.valid { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(why) => {
            eprintln!("mediaconnectctl check: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether the files are valid; what is wrong goes to standard error.
pub(super) fn is_valid(args: &CheckArgs, dir: &Path) -> bool {
    let Ok(request) = Request::new(args, dir) else { return false };
    let verdict = request.judge(dir);
    for diagnostic in verdict.diagnostics.iter().filter(|d| d.severity == Level::Error) {
        super::text::print_error(&format!("{}\n", diagnostic.line()));
    }
    verdict.valid
}

/// What is asked, by the places of the files.
#[derive(Debug, Default)]
struct Request {
    /// Path under the directory, to the file that is judged in its place.
    overlays: BTreeMap<PathBuf, PathBuf>,
    /// Judged by themselves.
    alone: Vec<PathBuf>,
    /// Nothing is named: all files count.
    everything: bool,
}

impl Request {
    fn new(args: &CheckArgs, dir: &Path) -> Result<Self, String> {
        let mut request = Self { everything: args.files.is_empty() && args.overlays.is_empty(), ..Self::default() };
        for Overlay { path, file } in &args.overlays {
            request.overlay(path, file)?;
        }
        for given in &args.files {
            let file = [given.clone(), dir.join("flows.d").join(given), dir.join(given)]
                .into_iter()
                .find(|path| path.symlink_metadata().is_ok())
                .ok_or_else(|| format!("{}: no such file", given.display()))?;
            match place_under(dir, &file) {
                Some(path) => request.overlay(&path, &file)?,
                None => request.alone.push(file),
            }
        }
        Ok(request)
    }

    fn overlay(&mut self, path: &Path, file: &Path) -> Result<(), String> {
        match self.overlays.insert(path.to_owned(), file.to_owned()) {
            Some(other) if other != file => {
                Err(format!("{} and {} both stand for {}", other.display(), file.display(), path.display()))
            }
            _ => Ok(()),
        }
    }

    fn judge(&self, dir: &Path) -> Verdict {
        let loaded = load(dir, &Context { overlays: &self.overlays, ..Context::default() });
        let mut diagnostics = loaded.diagnostics;
        let named: BTreeSet<_> = self.overlays.values().collect();
        for other in diagnostics.iter_mut().filter(|d| !self.everything && !named.contains(&d.file)) {
            other.severity = Level::Warning;
        }
        let is_valid = |name: &FlowName| matches!(loaded.flows.get(name), Some(FlowFile::Valid { .. }));
        let mut flows = match self.everything {
            true => loaded.flows.keys().filter(|name| is_valid(name)).count(),
            false => self.overlays.keys().filter_map(|path| flow_of(path)).filter(|name| is_valid(name)).count(),
        };
        let daemon = loaded.daemon.unwrap_or_default();
        for file in &self.alone {
            let (valid, faults) = judge_alone(file, &daemon, &Secrets::new(dir, &Context::default()));
            flows += usize::from(valid);
            diagnostics.extend(faults);
        }
        let valid = !diagnostics.iter().any(|d| d.severity == Level::Error);
        Verdict { valid, flows, diagnostics }
    }
}

/// Which path of the directory the file is, or by its name stands for.
fn place_under(dir: &Path, file: &Path) -> Option<PathBuf> {
    let name = Path::new(file.file_name()?);
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_in = |place: &Path| parent.canonicalize().ok().zip(place.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    if name == Path::new("mediaconnect.toml") {
        return Some(name.to_owned());
    }
    // A badly named file of these folders keeps its place, so that its name is what is reported.
    let folder = ["flows.d", "subscribers.d"].into_iter().find(|folder| is_in(&dir.join(folder)));
    let path = Path::new(folder.unwrap_or("flows.d")).join(name);
    (folder.is_some() || is_config_path(&path)).then_some(path)
}

fn judge_alone(file: &Path, daemon: &DaemonPlan, secrets: &Secrets) -> (bool, Vec<Diagnostic>) {
    let stem = file.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
    let Some(name) = stem.or_else(|| "flow".parse::<FlowName>().ok()) else { return (false, Vec::new()) };
    match crate::config::read_file(file) {
        Ok(text) => {
            let (plan, faults) = parse_flow(&name, file, &text, daemon, secrets);
            (plan.is_some(), faults)
        }
        Err(fault) => (false, vec![fault]),
    }
}

/// What came out.
#[derive(Debug, Serialize)]
struct Verdict {
    valid: bool,
    #[serde(skip)]
    flows: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Verdict {
    fn print_json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, self)?;
        writeln!(out)
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let snippets = out.is_terminal();
        for diagnostic in &self.diagnostics {
            writeln!(out, "{}", diagnostic.line())?;
            if snippets {
                let text = crate::config::read_file(&diagnostic.file).unwrap_or_default();
                write!(out, "{}", diagnostic.snippet(&String::from_utf8_lossy(&text)))?;
            }
        }
        writeln!(out, "{}", self.summary())
    }

    /// `3 flows valid`, `2 errors, 1 warning`.
    fn summary(&self) -> String {
        let number = |level| self.diagnostics.iter().filter(|d| d.severity == level).count();
        let (errors, warnings) = (number(Level::Error), number(Level::Warning));
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        if self.valid {
            parts.push(format!("{} valid", counted(self.flows, "flow")));
        } else {
            parts.push(counted(errors, "error"));
        }
        if warnings > 0 {
            parts.push(counted(warnings, "warning"));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests;
