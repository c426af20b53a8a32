//! The Debian package, with the programs that the tests are built with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::machine::{Image, Machine, text};

/// Where a machine has the package.
pub const PACKAGE: &str = "/root/mediaconnect.deb";
/// Where it has the same with a higher version.
pub const NEWER: &str = "/root/mediaconnect-newer.deb";

/// The package, and the same with a higher version: built at the first use.
#[track_caller]
pub fn packages() -> [&'static Path; 2] {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILT.get_or_init(|| ["1", "2"].map(build)).each_ref().map(PathBuf::as_path)
}

#[track_caller]
fn build(revision: &str) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let new = tempfile::tempdir_in(kept).expect("a temporary directory");
    // cargo-deb takes no programs but a release's: a target directory in which ours stand for them.
    let programs = Path::new(env!("CARGO_BIN_EXE_mediaconnectd")).parent().expect("a directory");
    std::os::unix::fs::symlink(programs, new.path().join("release")).expect("a link");
    let package = new.path().join("mediaconnect.deb");
    let mut command = Command::new("packaging/deb/build");
    command.args(["--no-build", "--fast", "--deb-revision", revision, "--output"]).arg(&package);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", new.path()).stdin(Stdio::null());
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    let path = kept.join(format!("mediaconnect-{revision}.deb"));
    std::fs::rename(package, &path).expect("it gets its name");
    path
}

/// A machine that has the packages, none of them installed, and these files of ours.
#[track_caller]
pub fn boot(image: Image, files: &[(&Path, &str)]) -> Machine {
    let [package, newer] = packages();
    Machine::boot_bare(image, &[&[(package, PACKAGE), (newer, NEWER)], files].concat())
}

/// A machine in which the package is installed.
#[track_caller]
pub fn install(image: Image) -> Machine {
    let machine = boot(image, &[]);
    machine.ok(&["dpkg", "--install", PACKAGE]);
    machine
}
