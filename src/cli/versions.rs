//! `mediaconnectctl history` and `rollback`: the good versions that a flow's file has had.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::Places;
use super::check::{self, CheckArgs, Overlay};
use super::client::{Client, flow_path};
use super::text::{Align, Paint, Style, Table, print, print_error};
use super::{Code, Failure, outcome, pretty, understood};
use crate::audit::changed_keys;
use crate::config::value::FlowName;
use crate::observe::status::{VersionDoc, VersionTextDoc, VersionsDoc};

/// Print the versions of a flow, or the newest one of each.
pub(super) async fn history(client: &Client, flow: Option<&str>, json: bool) -> Result<Code, Failure> {
    let path = flow.map_or_else(|| "/v1/versions".to_owned(), |flow| flow_path(flow, &["versions"]));
    let document: Value = client.read(&path).await?;
    let table = || Ok(table(&understood(&document)?, Style::of_stdout()));
    print(&if json { pretty(&document) } else { table()? });
    Ok(Code::Yes)
}

const COLUMNS: [(&str, Align); 6] = [
    ("FLOW", Align::Left),
    ("VERSION", Align::Right),
    ("APPLIED", Align::Left),
    ("OWNER", Align::Left),
    ("SHA-256", Align::Left),
    ("CHANGED", Align::Left),
];

fn table(versions: &VersionsDoc, style: Style) -> String {
    let mut table = Table::new(&COLUMNS);
    for (flow, versions) in &versions.flows {
        for version in versions {
            let plain = |text: &str| (text.to_owned(), Paint::Plain);
            table.row([
                plain(flow),
                plain(&version.number.to_string()),
                plain(&version.applied),
                plain(version.owner.as_deref().unwrap_or("-")),
                plain(version.sha256.get(..12).unwrap_or_default()),
                plain(&keys(version)),
            ]);
        }
    }
    table.render(style, "")
}

/// As many keys as fit into a line.
fn keys(version: &VersionDoc) -> String {
    const SHOWN: usize = 4;
    let more = version.keys.len().saturating_sub(SHOWN);
    let mut text = version.keys.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match (version.keys.len(), version.number) {
        (0, _) => text.push_str("comments and spaces only"),
        (_, 1) => return "all of it".to_owned(),
        _ if more > 0 => text.push_str(&format!(" and {more} more")),
        _ => {}
    }
    text
}

/// Write an earlier version of a flow's file, as the user who runs this, and wait until it is applied.
pub(super) async fn rollback(client: &Client, places: &Places, flow: &str, to: Option<u64>) -> Result<Code, Failure> {
    let name: FlowName = flow.parse().map_err(|_| Failure::new(Code::Usage, format!("'{flow}' is no flow's name")))?;
    let versions: VersionsDoc = client.read(&flow_path(flow, &["versions"])).await?;
    let versions = versions.flows.into_values().next().unwrap_or_default();
    let link = places.config.join("flows.d").join(format!("{name}.toml"));
    // Whoever keeps the file elsewhere, and a link to it here, means that file.
    let path = fs::canonicalize(&link).unwrap_or(link);
    let there = fs::read(&path).unwrap_or_default();
    let to = match to {
        Some(to) => to,
        None => before(&versions, &crate::audit::hash(&there)).ok_or_else(|| {
            let message = format!("flow '{flow}' has no version before the one that is there: see `history {flow}`");
            Failure::new(Code::No, message)
        })?,
    };
    let version: VersionTextDoc = client.read(&flow_path(flow, &["versions", &to.to_string()])).await?;
    if version.text.as_bytes() == there {
        print(&format!("{} is version {to} already\n", path.display()));
        return Ok(Code::Yes);
    }
    let failed = |error: io::Error| Failure::new(Code::No, format!("can't write {}: {error}", path.display()));
    let new = New::beside(&path, version.text.as_bytes()).map_err(failed)?;
    let overlay = Overlay { path: Path::new("flows.d").join(format!("{name}.toml")), file: new.path.clone() };
    if !check::is_valid(&CheckArgs { overlays: vec![overlay], ..CheckArgs::default() }, &places.config) {
        let message = format!("version {to} of flow '{flow}' is not valid any more, and nothing was changed");
        return Err(Failure::new(Code::No, message));
    }
    for change in changed_keys(&there, version.text.as_bytes()) {
        let value = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        print(&format!("{}: {} -> {}\n", change.key, value(change.old), value(change.new)));
    }
    new.take_place(&path).map_err(failed)?;
    print(&format!("{} is version {to} again\n", path.display()));
    outcome(&client.act("/v1/reload").await?, false, "", print_error)
}

/// The version to go back to: before the one with this hash; where none has it, as after a deletion, the newest.
fn before(versions: &[VersionDoc], hash: &str) -> Option<u64> {
    let at = versions.iter().position(|version| version.sha256 == hash);
    versions.get(at.map_or(0, |at| at + 1)).map(|version| version.number)
}

/// A file that is to take another's place. Dropped, it is gone.
struct New {
    path: PathBuf,
}

impl New {
    /// In the same directory, under a name that the daemon passes over.
    fn beside(path: &Path, text: &[u8]) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = Self { path: path.with_file_name(format!(".{name}.rollback")) };
        // What a run that was killed has left, or a link that somebody else has put there.
        let _ = fs::remove_file(&new.path);
        let mut file = fs::File::create_new(&new.path)?;
        file.write_all(text)?;
        if let Ok(about) = fs::metadata(path) {
            fs::set_permissions(&new.path, fs::Permissions::from_mode(about.permissions().mode() & 0o7777))?;
            let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&about), std::os::unix::fs::MetadataExt::gid(&about));
            // Only root may give files away; for others the group alone.
            let _ = chown(&new.path, Some(uid), Some(gid)).or_else(|_| chown(&new.path, None, Some(gid)));
        }
        file.sync_all()?;
        Ok(new)
    }

    fn take_place(self, of: &Path) -> io::Result<()> {
        fs::rename(&self.path, of)
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // It is gone where it took its place.
        let _ = fs::remove_file(&self.path);
    }
}
