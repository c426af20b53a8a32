//! ffmpeg with a newer libsrt than Debian's: the one that the Python package `imageio-ffmpeg` brings along.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Its ffmpeg has libsrt 1.5.7.
const PACKAGE: &str = "imageio-ffmpeg==0.8.1";

/// The program, which is got by pip at the first use and kept with the build.
#[track_caller]
pub fn ffmpeg() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = dir.join(PACKAGE.replace("==", "-"));
    if program.exists() {
        return program;
    }
    let lock = File::create(program.with_extension("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if !program.exists() {
        let downloaded = tempfile::tempdir_in(dir).expect("a temporary directory");
        let binary = unpack(downloaded.path());
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it may be run");
        fs::rename(binary, &program).expect("the program gets its name");
    }
    program
}

#[track_caller]
fn unpack(dir: &Path) -> PathBuf {
    // Only this one file, whatever else is installed.
    python(dir, &["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", PACKAGE]);
    let wheel = only(dir, |name| name.ends_with(".whl"));
    python(dir, &["-m", "zipfile", "-e", wheel.to_str().expect("a name in UTF-8"), "."]);
    only(&dir.join("imageio_ffmpeg/binaries"), |name| name.starts_with("ffmpeg-"))
}

#[track_caller]
fn python(dir: &Path, arguments: &[&str]) {
    let mut command = Command::new("python3");
    let output = command.args(arguments).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.expect("python3 starts (packages python3, python3-pip)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} (packages python3, python3-pip): {}\n{error}", output.status);
}

#[track_caller]
fn only(dir: &Path, is_it: impl Fn(&str) -> bool) -> PathBuf {
    let entries = fs::read_dir(dir).expect("it was unpacked").flatten();
    let mut found = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        is_it(&name)
    });
    found.next().expect("the package holds it")
}
