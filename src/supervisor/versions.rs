//! The good versions that each flow has had: what `history` lists and `rollback` takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::store::replace;
use crate::audit::{FileChange, changed_keys};
use crate::observe::status::{VersionDoc, VersionsDoc};
use crate::observe::text::rfc3339;

/// Versions kept of each flow.
const KEPT: usize = 20;

/// A directory with a directory for each flow, in which files `N.toml` are its versions and `N.json` tells of them.
#[derive(Debug)]
pub(super) struct Versions(PathBuf);

impl Versions {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The numbers of a flow's versions, the oldest first.
    fn numbers(&self, flow: &str) -> Vec<u64> {
        let entries = fs::read_dir(self.0.join(flow)).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".toml")?.parse().ok();
        let mut numbers: Vec<_> = entries.filter_map(|entry| number(entry.file_name())).collect();
        numbers.sort_unstable();
        numbers
    }

    fn path(&self, flow: &str, number: u64, kind: &str) -> PathBuf {
        self.0.join(flow).join(format!("{number}.{kind}"))
    }

    /// Add a version of a flow, as it stands in `file`.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn add(&self, flow: &str, text: &[u8], file: &Path) -> io::Result<()> {
        let numbers = self.numbers(flow);
        let number = numbers.last().map_or(1, |last| last + 1);
        let before = numbers.last().and_then(|last| self.text(flow, *last)).unwrap_or_default();
        let about = FileChange::of(file, "applied", Some(text));
        let version = VersionDoc {
            number,
            applied: rfc3339(SystemTime::now()),
            owner: about.owner,
            modified: about.modified,
            sha256: about.sha256.unwrap_or_default(),
            keys: changed_keys(&before, text).into_iter().map(|change| change.key).collect(),
        };
        fs::create_dir_all(self.0.join(flow))?;
        replace(&self.path(flow, number, "json"), &serde_json::to_vec(&version)?)?;
        replace(&self.path(flow, number, "toml"), text)?;
        for old in numbers.iter().take((numbers.len() + 1).saturating_sub(KEPT)) {
            fs::remove_file(self.path(flow, *old, "toml"))?;
            fs::remove_file(self.path(flow, *old, "json"))?;
        }
        Ok(())
    }

    /// A flow's versions, the newest first.
    pub(super) fn of(&self, flow: &str) -> Vec<VersionDoc> {
        self.numbers(flow).into_iter().rev().filter_map(|number| self.about(flow, number)).collect()
    }

    fn about(&self, flow: &str, number: u64) -> Option<VersionDoc> {
        serde_json::from_slice(&fs::read(self.path(flow, number, "json")).ok()?).ok()
    }

    /// The newest one of each flow that ever had one.
    pub(super) fn newest(&self) -> VersionsDoc {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let newest = |name: String| {
            let version = self.about(&name, *self.numbers(&name).last()?)?;
            Some((name, vec![version]))
        };
        VersionsDoc { flows: names.filter_map(newest).collect() }
    }

    /// The text of a version.
    pub(super) fn text(&self, flow: &str, number: u64) -> Option<Vec<u8>> {
        fs::read(self.path(flow, number, "toml")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_versions_are_kept_and_numbered_from_the_first_one_on() {
        let dir = tempfile::tempdir().unwrap();
        let (versions, file) = (Versions::new(dir.path().join("versions")), dir.path().join("news.toml"));
        for n in 1..=25 {
            let text = format!("description = \"{n}\"\n");
            fs::write(&file, &text).unwrap();
            versions.add("news", text.as_bytes(), &file).unwrap();
        }
        let all = versions.of("news");
        assert_eq!(all.iter().map(|version| version.number).collect::<Vec<_>>(), (6..=25).rev().collect::<Vec<_>>());
        assert_eq!(all[0].keys, ["description"]);
        assert_eq!(versions.text("news", 7).as_deref(), Some(&b"description = \"7\"\n"[..]));
        assert_eq!((versions.text("news", 5), versions.of("sport").len()), (None, 0));
        assert_eq!(versions.newest().flows.into_keys().collect::<Vec<_>>(), ["news"]);
    }
}
