//! What outlives the process: the last good version of each file, and what operators set against the files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::versions::Versions;
use crate::config::value::FlowName;

/// An operator's word against a file: run it, or don't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Override {
    /// What the operator wants.
    pub(super) enabled: bool,
    /// What the file said then; once it says otherwise, the file counts again.
    pub(super) file_enabled: bool,
    /// Who.
    pub(super) by: String,
    /// When.
    pub(super) since: SystemTime,
}

/// An operator's word on which source of a flow is on air.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Switch {
    /// This one.
    pub(super) source: String,
    /// Who.
    pub(super) by: String,
    /// When.
    pub(super) since: SystemTime,
}

/// Changes held back during an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Freeze {
    /// Who.
    pub(super) by: String,
    /// When.
    pub(super) since: SystemTime,
    /// It ends by itself then; `None`: at `thaw`.
    pub(super) until: Option<SystemTime>,
}

/// All of it, as kept in `overrides.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Overrides {
    /// By flow.
    pub(super) flows: BTreeMap<String, Override>,
    /// By flow and output.
    pub(super) outputs: BTreeMap<String, BTreeMap<String, Override>>,
    /// By flow.
    pub(super) switches: BTreeMap<String, Switch>,
    /// Of all flows.
    pub(super) frozen: Option<Freeze>,
    /// Of single flows.
    pub(super) frozen_flows: BTreeMap<String, Freeze>,
}

impl Overrides {
    /// The freeze that holds `flow` now: its own, or that of all.
    pub(super) fn freeze_of(&self, flow: &FlowName) -> Option<&Freeze> {
        self.frozen_flows.get(flow.as_str()).or(self.frozen.as_ref())
    }

    /// Drop the freezes whose time has come; whether there was one.
    pub(super) fn expire(&mut self, now: SystemTime) -> bool {
        let over = |f: &Freeze| f.until.is_some_and(|t| t <= now);
        let before = (self.frozen.is_some(), self.frozen_flows.len());
        self.frozen = self.frozen.take().filter(|f| !over(f));
        self.frozen_flows.retain(|_, f| !over(f));
        before != (self.frozen.is_some(), self.frozen_flows.len())
    }
}

/// The state directory.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

const FLOWS: &str = "flows";
const SUBSCRIBERS: &str = "subscribers";
/// In the configuration directory, too.
pub(super) const DAEMON_FILE: &str = "mediaconnect.toml";
const OVERRIDES_FILE: &str = "overrides.json";

impl Store {
    /// Make the directory where it is missing.
    ///
    /// # Errors
    /// When it can't be made.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir.join(FLOWS))?;
        fs::create_dir_all(dir.join(SUBSCRIBERS))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The last good text of every flow that is `wanted`.
    pub(super) fn flows(&self, wanted: impl Fn(&FlowName) -> bool) -> BTreeMap<FlowName, Vec<u8>> {
        self.texts(FLOWS, wanted)
    }

    /// The last good text of every subscriber that is `wanted`.
    pub(super) fn subscribers(&self, wanted: impl Fn(&FlowName) -> bool) -> BTreeMap<FlowName, Vec<u8>> {
        self.texts(SUBSCRIBERS, wanted)
    }

    fn texts(&self, folder: &str, wanted: impl Fn(&FlowName) -> bool) -> BTreeMap<FlowName, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.dir.join(folder)) else { return BTreeMap::new() };
        entries
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                if path.extension()? != "toml" {
                    return None;
                }
                let name = path.file_stem()?.to_str()?.parse().ok().filter(&wanted)?;
                Some((name, fs::read(&path).ok()?))
            })
            .collect()
    }

    /// Where the last good text of a flow is kept.
    pub(super) fn flow_path(&self, flow: &FlowName) -> PathBuf {
        self.dir.join(FLOWS).join(format!("{flow}.toml"))
    }

    /// Where the last good text of a subscriber is kept.
    pub(super) fn subscriber_path(&self, name: &str) -> PathBuf {
        self.dir.join(SUBSCRIBERS).join(format!("{name}.toml"))
    }

    /// Keep a subscriber's text as its last good version. The one before, if it is another; empty: there was none.
    ///
    /// # Errors
    /// When it can't be written; the version before stays.
    pub(super) fn keep_subscriber(&self, name: &str, text: &[u8]) -> io::Result<Option<Vec<u8>>> {
        replace(&self.subscriber_path(name), text)
    }

    /// Forget a subscriber whose file was deleted.
    ///
    /// # Errors
    /// When the kept version can't be deleted.
    pub(super) fn forget_subscriber(&self, name: &str) -> io::Result<()> {
        remove(&self.subscriber_path(name))
    }

    /// Keep a flow's text as its last good version. The one before, if it is another; empty: there was none.
    ///
    /// # Errors
    /// When it can't be written; the version before stays.
    pub(super) fn keep_flow(&self, flow: &FlowName, text: &[u8]) -> io::Result<Option<Vec<u8>>> {
        replace(&self.flow_path(flow), text)
    }

    /// The good versions of flows.
    pub(super) fn versions(&self) -> Versions {
        Versions::new(self.dir.join("versions"))
    }

    /// Forget a flow whose file was deleted. Its last good version.
    ///
    /// # Errors
    /// When the kept version can't be deleted.
    pub(super) fn forget_flow(&self, flow: &FlowName) -> io::Result<Vec<u8>> {
        let path = self.flow_path(flow);
        let text = fs::read(&path).unwrap_or_default();
        remove(&path).map(|()| text)
    }

    /// The directory whose `mediaconnect.toml` is the last good one.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keep the appliance's text as its last good version; `None`: there is no file. The one before, if it is another.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn keep_daemon(&self, text: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let path = self.dir.join(DAEMON_FILE);
        match text {
            Some(text) => replace(&path, text),
            None => {
                let old = fs::read(&path).ok();
                remove(&path).map(|()| old)
            }
        }
    }

    /// What operators set; empty where nothing was set or it can't be read.
    pub(super) fn overrides(&self) -> Overrides {
        fs::read(self.dir.join(OVERRIDES_FILE))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Keep what operators set.
    ///
    /// # Errors
    /// When it can't be written; what was set holds until the daemon ends.
    pub(super) fn keep_overrides(&self, overrides: &Overrides) -> io::Result<()> {
        replace(&self.dir.join(OVERRIDES_FILE), &serde_json::to_vec_pretty(overrides)?).map(drop)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Replace a file as a whole: after a crash it is the old one or the new one. Left alone where it says that already; else
/// what it said, or nothing.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let old = fs::read(path);
    if old.as_ref().is_ok_and(|old| old == text) {
        return Ok(None);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".new");
    let mut file = fs::File::create(&partial)?;
    file.write_all(text)?;
    fs::rename(&partial, path)?;
    Ok(Some(old.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let news: FlowName = "news".parse().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.keep_flow(&news, b"one").unwrap();
        store.keep_flow(&news, b"two").unwrap();
        let set = Override { enabled: false, file_enabled: true, by: "ann".into(), since: SystemTime::UNIX_EPOCH };
        let switch = Switch { source: "b".into(), by: "ann".into(), since: SystemTime::UNIX_EPOCH };
        let overrides = Overrides {
            flows: [("news".to_owned(), set)].into(),
            switches: [("news".to_owned(), switch)].into(),
            ..Overrides::default()
        };
        store.keep_overrides(&overrides).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.flows(|_| true), [(news.clone(), b"two".to_vec())].into());
        assert_eq!(store.overrides(), overrides);
        store.forget_flow(&news).unwrap();
        store.forget_flow(&news).unwrap();
        assert!(store.flows(|_| true).is_empty());
    }

    #[test]
    fn a_broken_overrides_file_means_nothing_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(dir.path().join(OVERRIDES_FILE), b"{ nonsense").unwrap();
        assert_eq!(store.overrides(), Overrides::default());
    }

    #[test]
    fn a_freeze_ends_at_its_time() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let freeze = |until| Freeze { by: "ann".into(), since: at(0), until };
        let mut o = Overrides {
            frozen: Some(freeze(None)),
            frozen_flows: [("news".to_owned(), freeze(Some(at(10))))].into(),
            ..Overrides::default()
        };
        assert!(!o.expire(at(9)));
        assert!(o.expire(at(10)));
        assert!(o.frozen_flows.is_empty() && o.frozen.is_some());
    }
}
