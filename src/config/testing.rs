//! What tests of files share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Uid, setfsuid};

/// Make or replace a key file of the configuration directory `dir`.
pub(crate) fn write_key(dir: &Path, name: &str, text: &str) {
    let folder = dir.join(super::secrets::FOLDER);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
}

/// Run as a user to whom nothing belongs, as far as files go; whoever runs the tests, if that is not root.
pub(crate) fn as_nobody<T>(run: impl FnOnce() -> T) -> T {
    let own = Uid::effective();
    if own.is_root() {
        // Of this thread alone, and of those it starts.
        setfsuid(Uid::from_raw(65534));
    }
    let result = run();
    setfsuid(own);
    result
}
