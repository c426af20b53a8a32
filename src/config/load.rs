//! A configuration directory to plans: which files count, and what becomes of each.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::claims::{Claim, Contender, settle, within};
use super::compile::{self, Compiled, Places, Site};
use super::daemon::{self, Settings};
use super::diagnostic::{Diagnostic, Level};
use super::host::Host;
use super::plan::{DaemonPlan, FlowPlan, SubscriberPlan};
use super::secrets::{Secrets, credentials_directory};
use super::source::{ReadError, read, reason};
use super::value::FlowName;

/// What is known besides the files: what runs already. The default is nothing.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The last good plans. They go on running when their file is refused, busy or unreadable, keep their claims, and
    /// win conflicts where unchanged.
    pub previous: &'a BTreeMap<FlowName, Arc<FlowPlan>>,
    /// The last good `mediaconnect.toml`: flows are judged by it while the file is refused, busy or unreadable.
    pub previous_daemon: Option<&'a DaemonPlan>,
    /// The last good subscribers. They stay what they are when their file is refused, busy or unreadable.
    pub previous_subscribers: &'a BTreeMap<String, Arc<SubscriberPlan>>,
    /// Files still open for writing: not read now.
    pub busy: &'a BTreeSet<PathBuf>,
    /// A path under the configuration directory, to the file whose content stands for it. It may not exist in the
    /// directory yet. Such a flow loses every conflict.
    pub overlays: &'a BTreeMap<PathBuf, PathBuf>,
    /// Where keys are looked for before `secrets`; by default `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<&'a Path>,
    /// It is the daemon that asks: a key that it may not read is missing. For others, who may not be meant to read keys,
    /// that is a warning.
    pub by_daemon: bool,
}

impl Default for Context<'_> {
    fn default() -> Self {
        const NO_FLOWS: &BTreeMap<FlowName, Arc<FlowPlan>> = &BTreeMap::new();
        const NOBODY: &BTreeMap<String, Arc<SubscriberPlan>> = &BTreeMap::new();
        const NO_FILES: &BTreeSet<PathBuf> = &BTreeSet::new();
        const NO_OVERLAYS: &BTreeMap<PathBuf, PathBuf> = &BTreeMap::new();
        Self {
            previous: NO_FLOWS,
            previous_daemon: None,
            previous_subscribers: NOBODY,
            busy: NO_FILES,
            overlays: NO_OVERLAYS,
            credentials: credentials_directory(),
            by_daemon: false,
        }
    }
}

/// What a configuration directory says.
#[derive(Debug)]
pub struct Loaded {
    /// `mediaconnect.toml`, or the defaults where there is none; `None`: refused, busy or unreadable.
    pub daemon: Option<DaemonPlan>,
    /// Every flow whose file exists.
    pub flows: BTreeMap<FlowName, FlowFile>,
    /// `false`: `flows.d` is missing or unreadable, and that a flow is not in `flows` means nothing.
    pub complete: bool,
    /// Every subscriber whose file exists.
    pub subscribers: BTreeMap<String, SubscriberFile>,
    /// `false`: `subscribers.d` can't be read, and that somebody is not in `subscribers` means nothing.
    pub subscribers_complete: bool,
    /// Of all files, by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// What is to be known before a change, and is no fault: keys that stay as they are until a restart.
    pub notes: Vec<Diagnostic>,
}

/// What a flow's file says.
pub type FlowFile = PlanFile<FlowPlan>;
/// What a subscriber's file says.
pub type SubscriberFile = PlanFile<SubscriberPlan>;

/// What a file of `flows.d` or `subscribers.d` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanFile<P> {
    /// Do this.
    Valid {
        /// What to do.
        plan: Arc<P>,
        /// The file's bytes.
        text: Vec<u8>,
    },
    /// It has errors, or claims what another flow has.
    Rejected,
    /// It can't be read now.
    Unreadable,
    /// It, or a key that it names, is still being written or went away a moment ago.
    Busy,
}

/// Read and judge the configuration directory `dir`.
///
/// ```no_run
/// use mediaconnect::config::{Context, load};
/// let loaded = load("/etc/mediaconnect".as_ref(), &Context::default());
/// for diagnostic in &loaded.diagnostics {
///     println!("{}", diagnostic.line());
/// }
/// ```
pub fn load(dir: &Path, context: &Context<'_>) -> Loaded {
    load_on(dir, context, &Host::this())
}

/// `mediaconnect.toml` of the configuration directory `dir` alone; `None`: refused or unreadable.
pub fn load_settings(dir: &Path, secrets: &Secrets) -> Option<DaemonPlan> {
    let (mut report, mut notes) = (Vec::new(), Vec::new());
    load_daemon(&Found::in_dir(dir, &Context::default(), &mut report), secrets, &mut report, &mut notes).0
}

/// The text of one flow's file alone, as kept from when it was last good. What other flows claim is not looked at.
pub fn parse_flow(
    name: &FlowName,
    file: &Path,
    text: &[u8],
    daemon: &DaemonPlan,
    secrets: &Secrets,
) -> (Option<FlowPlan>, Vec<Diagnostic>) {
    let Host { local_ports, ffmpeg } = &Host::default();
    let site = Site { daemon, daemon_refused: false, local_ports, ffmpeg: *ffmpeg, secrets, subscribers: None };
    let Compiled { plan, diagnostics, .. } = judge(name, file, text, &site);
    (plan, diagnostics)
}

/// The text of one subscriber's file alone.
pub fn parse_subscriber(
    name: &FlowName,
    file: &Path,
    text: &[u8],
    daemon: &DaemonPlan,
    secrets: &Secrets,
) -> (Option<SubscriberPlan>, Vec<Diagnostic>) {
    let Host { local_ports, ffmpeg } = &Host::default();
    let site = Site { daemon, daemon_refused: false, local_ports, ffmpeg: *ffmpeg, secrets, subscribers: None };
    let Compiled { plan, diagnostics, .. } = compile::subscriber(name, file, text, &site);
    (plan, diagnostics)
}

/// The bytes of a configuration file, as [`load`] reads it: a regular file of at most 1 MiB.
///
/// # Errors
/// What is to be said when it can't be read.
pub fn read_file(file: &Path) -> Result<Vec<u8>, Diagnostic> {
    read(file).map_err(|e| whole_file(file, Level::Error, None, e.to_string(), ""))
}

/// [`load`] on a host.
fn load_on(dir: &Path, context: &Context<'_>, host: &Host) -> Loaded {
    let mut report = Vec::new();
    let mut notes = Vec::new();
    let found = Found::in_dir(dir, context, &mut report);
    let secrets = Secrets::new(dir, context);
    let (daemon, partial) = load_daemon(&found, &secrets, &mut report, &mut notes);
    let known = found.subscribers.keys().map(FlowName::to_string).collect();
    let site = Site {
        daemon: daemon.as_ref().or(context.previous_daemon).unwrap_or(&partial),
        daemon_refused: daemon.is_none() && context.previous_daemon.is_none(),
        local_ports: &host.local_ports,
        ffmpeg: host.ffmpeg,
        secrets: &secrets,
        subscribers: found.subscribers_complete.then_some(&known),
    };
    let mut flows = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (name, entry) in &found.flows {
        let compile = |text: &[u8]| judge(name, &entry.file, text, &site);
        let (flow, written) = load_file(entry, Some(name), compile, &mut report, &mut notes);
        flows.insert(name.clone(), flow);
        places.insert(name.clone(), written);
    }
    let mut subscribers = BTreeMap::new();
    for (name, entry) in &found.subscribers {
        let compile = |text: &[u8]| compile::subscriber(name, &entry.file, text, &site);
        subscribers.insert(name.to_string(), load_file(entry, None, compile, &mut report, &mut notes).0);
    }
    refuse_conflicts(&found, context, &places, &site, &mut flows, &mut report);
    report.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity, &a.message).cmp(&(&b.file, b.line, b.column, b.severity, &b.message))
    });
    // Once a file is enough.
    let mut said = BTreeSet::new();
    notes.retain(|note| said.insert((note.file.clone(), note.message.clone())));
    Loaded {
        daemon,
        flows,
        complete: found.complete,
        subscribers,
        subscribers_complete: found.subscribers_complete,
        diagnostics: report,
        notes,
    }
}

/// One flow judged alone, with the conflicts in it.
fn judge(name: &FlowName, file: &Path, text: &[u8], site: &Site<'_>) -> Compiled {
    let mut compiled = compile::flow(name, file, text, site);
    if let Some(plan) = &compiled.plan {
        let places = &compiled.places;
        let alone = Contender { name, wanted: Some(plan), running: None, file, places, late: false };
        let faults = within(&alone, plan);
        if !faults.is_empty() {
            compiled.plan = None;
            compiled.diagnostics.extend(faults);
        }
    }
    compiled
}

/// A file that counts.
#[derive(Debug)]
struct Entry {
    /// Where its content is, and what messages call it.
    file: PathBuf,
    /// Still being written.
    busy: bool,
    /// Stands for a file of the directory.
    overlay: bool,
}

/// What is in the directory.
#[derive(Debug)]
struct Found {
    daemon: Entry,
    flows: BTreeMap<FlowName, Entry>,
    complete: bool,
    subscribers: BTreeMap<FlowName, Entry>,
    subscribers_complete: bool,
    /// The directory itself, if it is there: that `mediaconnect.toml` is not in it means that it is not.
    dir: Option<File>,
}

impl Found {
    fn in_dir(dir: &Path, context: &Context<'_>, report: &mut Vec<Diagnostic>) -> Self {
        let readable = match std::fs::read_dir(dir) {
            Ok(_) => true,
            // Execute permission alone is enough to open the files.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => true,
            Err(e) => {
                let message = format!("the configuration directory cannot be read: {}", reason(&e));
                report.push(whole_file(dir, Level::Error, None, message, "name it with --config DIR"));
                false
            }
        };
        // Given from the directory on, or like any other path.
        let places = |given: &Path| [dir.join(given), given.to_owned()].into_iter().filter_map(|p| absolute(p).ok());
        let overlays: BTreeMap<_, _> =
            context.overlays.iter().flat_map(|(given, file)| places(given).map(move |place| (place, file))).collect();
        let busy: BTreeSet<_> = context.busy.iter().flat_map(|given| places(given)).collect();
        let entry = |path: PathBuf| {
            let place = absolute(&path).unwrap_or_else(|_| path.clone());
            match overlays.get(&place) {
                Some(file) => Entry { file: (*file).clone(), busy: false, overlay: true },
                None => Entry { busy: busy.contains(&place), file: path, overlay: false },
            }
        };
        let overlaid = |folder: &Path| -> BTreeSet<OsString> {
            let folder = absolute(folder).ok();
            let inside = overlays.keys().filter(|place| place.parent() == folder.as_deref());
            inside.filter_map(|place| place.file_name()).map(OsStr::to_owned).collect()
        };
        // The names in a folder, and whether it could be read; `known`: what there was before.
        let mut folder = |folder: &str, known: Vec<String>, goes_on: &str, help: &str, optional: bool| {
            let path = dir.join(folder);
            let (mut names, complete) = match listing(&path) {
                Ok(names) => (names, true),
                Err(e) if optional && known.is_empty() && e.kind() == io::ErrorKind::NotFound => {
                    (BTreeSet::new(), true)
                }
                Err(e) => {
                    if readable {
                        let message = format!("the directory cannot be read: {}; {goes_on}", reason(&e));
                        report.push(whole_file(&path, Level::Warning, None, message, help));
                    }
                    (BTreeSet::new(), false)
                }
            };
            // A file that is replaced while the directory is being read may not be in the list.
            let inside = opened(&path);
            let known = known.into_iter().map(|name| OsString::from(format!("{name}.toml")));
            names.extend(known.filter(|name| inside.as_ref().is_some_and(|dir| is_in(dir, name))));
            // One that went away a moment ago is about to come back: it is no more to be taken than one being written.
            let place = absolute(&path).ok();
            let busy_here = busy.iter().filter(|busy| busy.parent() == place.as_deref());
            names.extend(busy_here.filter_map(|place| place.file_name()).map(OsStr::to_owned));
            names.extend(overlaid(&path));
            let mut entries = BTreeMap::new();
            for file_name in names {
                let entry = entry(path.join(&file_name));
                match stem(&file_name) {
                    Some(Ok(name)) => _ = entries.insert(name, entry),
                    Some(Err(why)) => {
                        let why = if optional { why.replace("flow", "subscriber") } else { why };
                        report.push(whole_file(&entry.file, Level::Error, None, why, "rename the file"));
                    }
                    None => {}
                }
            }
            (entries, complete)
        };
        let known = context.previous.keys().map(FlowName::to_string).collect();
        let (flows, complete) =
            folder("flows.d", known, "flows that run go on", "each file NAME.toml in it is a flow", false);
        let known = context.previous_subscribers.keys().cloned().collect();
        let help = "each file NAME.toml in it is a subscriber";
        let (subscribers, subscribers_complete) =
            folder("subscribers.d", known, "subscribers stay what they are", help, true);
        let daemon = entry(dir.join("mediaconnect.toml"));
        let dir = opened(dir).filter(|_| readable);
        Self { daemon, flows, complete, subscribers, subscribers_complete, dir }
    }
}

/// A directory that stays the same one wherever it is moved.
fn opened(dir: &Path) -> Option<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir).ok()
}

/// Is there anything of this name? A link that leads nowhere is there.
fn is_in(dir: &File, name: &OsStr) -> bool {
    fstatat(dir, Path::new(name), AtFlags::AT_SYMLINK_NOFOLLOW) != Err(Errno::ENOENT)
}

fn listing(dir: &Path) -> io::Result<BTreeSet<OsString>> {
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Does the file count, by its name? Others are of editors and packages.
fn is_toml(file_name: &OsStr) -> bool {
    let name = file_name.to_string_lossy();
    let foreign = name.starts_with('.') || name.contains(".dpkg-") || name.contains(".rpm");
    name.ends_with(".toml") && !foreign
}

/// The flow or subscriber of a file of this name; `None`: the file does not count.
fn stem(file_name: &OsStr) -> Option<Result<FlowName, String>> {
    let name = file_name.to_string_lossy();
    let stem = name.strip_suffix(".toml").filter(|_| is_toml(file_name))?;
    Some(stem.parse().map_err(|e| format!("{stem:?} is not a valid flow name: {e}")))
}

fn whole_file(file: &Path, severity: Level, flow: Option<&FlowName>, message: String, help: &str) -> Diagnostic {
    let help = (!help.is_empty()).then(|| help.to_owned());
    let flow = flow.map(FlowName::to_string);
    Diagnostic { severity, file: file.to_owned(), line: 0, column: 0, flow, message, help }
}

/// The plan, and what is valid of it where it is refused.
fn load_daemon(
    found: &Found,
    secrets: &Secrets,
    report: &mut Vec<Diagnostic>,
    notes: &mut Vec<Diagnostic>,
) -> (Option<DaemonPlan>, DaemonPlan) {
    let Entry { file, busy, overlay } = &found.daemon;
    if *busy || found.dir.is_none() && !overlay {
        return (None, DaemonPlan::default());
    }
    // Asked of the directory that was opened, which may have been moved away since.
    let is_absent = || !overlay && found.dir.as_ref().is_some_and(|dir| !is_in(dir, "mediaconnect.toml".as_ref()));
    let text = match read(file) {
        Ok(text) => text,
        Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound && is_absent() => Vec::new(),
        // Moved away in between: the next look tells.
        Err(ReadError::Io(e)) if is_absent_now(file, &e) && !overlay => return (None, DaemonPlan::default()),
        Err(e) => {
            report.push(whole_file(file, Level::Error, None, e.to_string(), ""));
            return (None, DaemonPlan::default());
        }
    };
    let Settings { plan, waits, diagnostics, notes: of_file } = daemon::compile(file, &text, secrets);
    let refused = diagnostics.iter().any(|d| d.severity == Level::Error);
    report.extend(diagnostics);
    notes.extend(of_file);
    ((!refused && !waits).then(|| plan.clone()), plan)
}

/// Not there at all; a link that leads nowhere is there.
fn is_absent_now(file: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && file.symlink_metadata().is_err()
}

fn load_file<P>(
    entry: &Entry,
    flow: Option<&FlowName>,
    compile: impl FnOnce(&[u8]) -> Compiled<P>,
    report: &mut Vec<Diagnostic>,
    notes: &mut Vec<Diagnostic>,
) -> (PlanFile<P>, Places) {
    let file = &entry.file;
    if entry.busy {
        return (PlanFile::Busy, Places::new());
    }
    let text = match read(file) {
        Ok(text) => text,
        // Gone since the directory was listed, or gone with the directory: the next look tells.
        Err(ReadError::Io(e)) if is_absent_now(file, &e) && !entry.overlay => return (PlanFile::Busy, Places::new()),
        Err(e) => {
            report.push(whole_file(file, Level::Error, flow, e.to_string(), ""));
            let said = if matches!(e, ReadError::Io(_)) { PlanFile::Unreadable } else { PlanFile::Rejected };
            return (said, Places::new());
        }
    };
    let Compiled { plan, places, waits, diagnostics, notes: of_file } = compile(&text);
    report.extend(diagnostics);
    notes.extend(of_file);
    let said = match plan {
        Some(plan) => PlanFile::Valid { plan: Arc::new(plan), text },
        None if waits => PlanFile::Busy,
        None => PlanFile::Rejected,
    };
    (said, places)
}

/// Weigh the flows against each other, those that go on running without a valid file included.
fn refuse_conflicts(
    found: &Found,
    context: &Context<'_>,
    places: &BTreeMap<FlowName, Places>,
    site: &Site<'_>,
    flows: &mut BTreeMap<FlowName, FlowFile>,
    report: &mut Vec<Diagnostic>,
) {
    let nowhere = Places::new();
    let gone = context.previous.keys().filter(|name| !found.complete && !flows.contains_key(name));
    let names = flows.keys().chain(gone);
    let contender = |name| {
        let entry = found.flows.get(name);
        Contender {
            name,
            wanted: match flows.get(name) {
                Some(FlowFile::Valid { plan, .. }) => Some(plan),
                _ => None,
            },
            running: context.previous.get(name).map(|plan| &**plan),
            file: entry.map_or(Path::new("flows.d"), |entry| &entry.file),
            places: places.get(name).unwrap_or(&nowhere),
            late: entry.is_some_and(|entry| entry.overlay),
        }
    };
    let contenders: Vec<_> = names.map(contender).collect();
    let port = site.daemon.entitlements.as_ref().map(Claim::of_entitlements);
    let (refused, said) = settle(&contenders, port.as_ref(), site.daemon.limits.max_flows);
    report.extend(said);
    for name in refused {
        flows.insert(name, FlowFile::Rejected);
    }
}

#[cfg(test)]
mod tests;
