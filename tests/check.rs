//! Bad configuration, and exactly what is said about it; and `mediaconnectctl check` and `schema` as programs.
//!
//! `tests/config/NAME.toml` is a flow's file, or `mediaconnect.toml` if NAME starts with `daemon-`; `tests/config/NAME/`
//! is a whole directory. `NAME.expect` holds the diagnostics, one a line. With `UPDATE_EXPECT=1` the files are written
//! instead of compared: read the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "a test that can't set itself up shall fail")]

use std::fs;
use std::path::{Path, PathBuf};

use mediaconnect::config::{Context, load};

/// The networks that the flows of the table may use.
const NETWORKS: &str = "[networks.contribution]\ninterface = \"eth1\"\n\n[networks.media]\ncidr = \"10.2.0.0/16\"\n";

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy_dir(&entry.path(), &to) } else { _ = fs::copy(entry.path(), to).unwrap() }
    }
}

/// The case as a configuration directory.
fn lay_out(case: &Path, dir: &Path) {
    if case.is_dir() {
        return copy_dir(case, dir);
    }
    fs::create_dir(dir.join("flows.d")).unwrap();
    let name = case.file_name().unwrap().to_str().unwrap();
    if name.starts_with("daemon-") {
        fs::copy(case, dir.join("mediaconnect.toml")).unwrap();
    } else {
        fs::write(dir.join("mediaconnect.toml"), NETWORKS).unwrap();
        fs::copy(case, dir.join("flows.d").join(name)).unwrap();
    }
}

#[test]
fn every_bad_file_gets_exactly_its_diagnostics() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut cases: Vec<_> = fs::read_dir(table()).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_none_or(|e| e != "expect"));
    cases.sort();
    assert!(cases.len() >= 60);
    let mut wrong = String::new();
    for case in cases {
        let temp = tempfile::tempdir().unwrap();
        lay_out(&case, temp.path());
        let loaded = load(temp.path(), &Context::default());
        let root = format!("{}/", temp.path().display());
        let said: String = loaded.diagnostics.iter().map(|d| d.line().replace(&root, "") + "\n").collect();
        let expected = case.with_extension("expect");
        if update {
            fs::write(&expected, &said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong += &format!("--- {}\n{said}", case.display());
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{wrong}");
}
