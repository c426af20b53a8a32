//! Bad configuration, and exactly what is said about it; and `mediaconnectctl check` and `schema` as programs.
//!
//! `tests/config/NAME.toml` is a flow's file, or `mediaconnect.toml` if NAME starts with `daemon-`; `tests/config/NAME/`
//! is a whole directory. `NAME.expect` holds the diagnostics, one a line. With `UPDATE_EXPECT=1` the files are written
//! instead of compared: read the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "a test that can't set itself up shall fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mediaconnect::config::{Context, load};

/// What is in the key files, and must be in nothing that is said.
const PASSPHRASE: &str = "correct horse battery";
/// The networks and notifiers that the flows of the table may use.
const SETTINGS: &str = r#"[networks.contribution]
interface = "eth1"

[networks.media]
cidr = "10.2.0.0/16"

[notifiers.noc]
webhook = "http://192.0.2.9/hook"
"#;

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
        copy_dir(case, dir);
        return lay_out_secrets(&dir.join("secrets"));
    }
    fs::create_dir(dir.join("flows.d")).unwrap();
    let name = case.file_name().unwrap().to_str().unwrap();
    if name.starts_with("daemon-") {
        fs::copy(case, dir.join("mediaconnect.toml")).unwrap();
    } else {
        fs::write(dir.join("mediaconnect.toml"), SETTINGS).unwrap();
        fs::copy(case, dir.join("flows.d").join(name)).unwrap();
    }
    lay_out_secrets(&dir.join("secrets"));
}

/// Key files that the files of the table may name.
fn lay_out_secrets(dir: &Path) {
    fs::create_dir_all(dir.join("folder")).unwrap();
    let many = (1..=9).map(|n| (format!("k{n}"), PASSPHRASE.as_bytes().to_vec()));
    let named = [
        ("venue-a", PASSPHRASE.into()),
        ("venue-a-new", "another one\r\n".into()),
        ("short", "ninebytes".into()),
        ("long", [b'x'; 80].into()),
        ("empty", b"\n".into()),
        ("lines", "correct horse\nbattery\n".into()),
        ("zero", b"c\0o\0r\0r\0e\0c\0t\0".into()),
        ("mark", "\u{feff}correct horse".into()),
        ("exposed", PASSPHRASE.into()),
        ("writable", PASSPHRASE.into()),
        ("large", [b'x'; 5000].into()),
        ("even", "00112233445566778899aabbccddeeff".into()),
        ("odd", "FFEEDDCCBBAA99887766554433221100\n".into()),
    ];
    for (name, text) in named.map(|(name, text): (&str, Vec<u8>)| (name.to_owned(), text)).into_iter().chain(many) {
        let mode = match name.as_str() {
            "exposed" => 0o644,
            "writable" => 0o642,
            _ => 0o640,
        };
        fs::write(dir.join(&name), text).unwrap();
        fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(mode)).unwrap();
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
        assert!(!format!("{loaded:?}").contains("horse"), "{}: a key is shown", case.display());
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

/// `mediaconnectctl` with `--config DIR` and these arguments: exit code and standard output.
fn ctl(dir: &Path, args: &[&str]) -> (i32, String) {
    let ctl = Command::new(env!("CARGO_BIN_EXE_mediaconnectctl")).arg("--config").arg(dir).args(args).output().unwrap();
    (ctl.status.code().unwrap(), String::from_utf8(ctl.stdout).unwrap())
}

fn site(flow: &str) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    lay_out(&table().join(flow), temp.path());
    temp
}

#[test]
fn check_says_what_is_wrong_and_where_and_exits_with_1() {
    let temp = site("key-unknown.toml");
    let (code, said) = ctl(temp.path(), &["check"]);
    let file = temp.path().join("flows.d/key-unknown.toml");
    assert_eq!(code, 1);
    let first = format!("{}:1:1: error: unknown key `descripton`; did you mean `description`?\n", file.display());
    assert!(said.starts_with(&first), "{said}");
    assert!(said.ends_with("\n3 errors\n"), "{said}");
}

#[test]
fn check_of_valid_files_exits_with_0() {
    let temp = site("valid-full.toml");
    assert_eq!(ctl(temp.path(), &["check"]), (0, "1 flow valid\n".into()));
    assert_eq!(ctl(temp.path(), &["check", "valid-full.toml"]).0, 0);
}

#[test]
fn check_exits_with_2_when_it_is_called_wrongly() {
    let temp = site("valid-full.toml");
    for args in [&["check", "--no-such-option"][..], &["check", "nowhere.toml"], &["check", "--overlay", "x"]] {
        assert_eq!(ctl(temp.path(), args), (2, String::new()), "{args:?}");
    }
}

#[test]
fn check_speaks_json() {
    let temp = site("key-unknown.toml");
    let (code, said) = ctl(temp.path(), &["check", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["valid"]), (1, &false.into()));
    let first = &said["diagnostics"][0];
    assert_eq!(first["severity"], "error");
    assert_eq!((&first["line"], &first["column"]), (&1.into(), &1.into()));
    assert_eq!(first["flow"], "key-unknown");
    assert_eq!(first["message"], "unknown key `descripton`");
    assert_eq!(first["help"], "did you mean `description`?");
}

#[test]
fn an_overlay_is_checked_against_the_rest() {
    let temp = site("dir-families-apart");
    let candidate = temp.path().join("candidate");
    fs::copy(temp.path().join("flows.d/a.toml"), &candidate).unwrap();
    let overlay = |name: &str| ctl(temp.path(), &["check", "--overlay", &format!("{name}={}", candidate.display())]).0;
    assert_eq!((overlay("a"), overlay("new")), (0, 1));
}

#[test]
fn the_schemas_are_json() {
    let temp = site("valid-full.toml");
    for (args, key) in
        [(&["schema"][..], "sources"), (&["schema", "subscriber"], "allow"), (&["schema", "daemon"], "networks")]
    {
        let (code, said) = ctl(temp.path(), args);
        let schema: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, &schema["$schema"]), (0, &"https://json-schema.org/draft/2020-12/schema".into()));
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn the_schema_has_every_key_of_srt_with_its_range_and_default() {
    let temp = site("valid-full.toml");
    let schema: serde_json::Value = serde_json::from_str(&ctl(temp.path(), &["schema", "flow"]).1).unwrap();
    let keys = ["latency", "passphrase-file", "passphrase-files", "key-length", "km-refresh-rate", "stream-id"];
    for (table, others) in [("sources", &["remote", "allow"][..]), ("outputs", &["bind", "remote", "max-callers"])] {
        let found = &schema["properties"][table]["additionalProperties"]["properties"];
        for key in keys.iter().chain(others) {
            assert!(found[*key]["description"].is_string(), "{table} {key}: {found}");
        }
        let rate = &found["km-refresh-rate"];
        let range = [&rate["minimum"], &rate["maximum"], &rate["default"]].map(serde_json::Value::as_u64);
        assert_eq!(range, [Some(64), Some(1 << 25), Some(16_777_216)]);
        assert_eq!(found["key-length"]["enum"], serde_json::json!([16, 24, 32]));
    }
}

/// `etc/` holds the commented files that the package installs.
#[test]
fn every_shipped_example_is_valid() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("flows.d")).unwrap();
    if etc.join("mediaconnect.toml").exists() {
        fs::copy(etc.join("mediaconnect.toml"), temp.path().join("mediaconnect.toml")).unwrap();
    }
    for example in fs::read_dir(etc.join("flows.d")).into_iter().flatten() {
        let example = example.unwrap();
        let name = example.file_name().into_string().unwrap();
        let name = name.strip_suffix(".example").unwrap_or(&name).to_owned();
        fs::copy(example.path(), temp.path().join("flows.d").join(name)).unwrap();
    }
    let loaded = load(temp.path(), &Context::default());
    assert_eq!(loaded.diagnostics, []);
    // With encryption too, which needs keys.
    let secrets = temp.path().join("secrets");
    lay_out_secrets(&secrets);
    for flow in fs::read_dir(temp.path().join("flows.d")).unwrap().map(|e| e.unwrap().path()) {
        let text = fs::read_to_string(&flow).unwrap().replace("\n# passphrase-file = ", "\npassphrase-file = ");
        for name in text.lines().filter_map(|line| line.strip_prefix("passphrase-file = \"")?.split('"').next()) {
            fs::write(secrets.join(name), PASSPHRASE).unwrap();
            fs::set_permissions(secrets.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        }
        fs::write(flow, text).unwrap();
    }
    let loaded = load(temp.path(), &Context::default());
    assert_eq!(loaded.diagnostics, []);
    let encrypted = format!("{loaded:?}").matches("KeyFile(").count();
    assert_eq!(encrypted, 5);
}
