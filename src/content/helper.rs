//! `mediaconnect-thumbnail`: looks at the stream of one flow, and tells the daemon what it saw.
//!
//! systemd starts one for each connection, in a sandbox. Where there is no systemd, it listens by itself, and runs itself
//! once more for each connection.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};

use super::session;

/// This very program, also when its file was replaced since.
const SELF: &str = "/proc/self/exe";
/// After an accept that failed, as when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at the pictures and the sound of one flow for mediaconnectd: it runs ffmpeg, and tells what that sees. systemd
/// starts it for each connection to its socket.
#[derive(Debug, clap::Parser)]
#[command(name = "mediaconnect-thumbnail", version, about)]
struct Args {
    /// Without systemd: make this Unix socket, and serve each connection to it. The daemon looks for it beside its runtime
    /// directory: for /run/mediaconnect it is /run/mediaconnect-thumbnail.sock.
    #[arg(long, value_name = "SOCKET")]
    listen: Option<PathBuf>,
}

/// `mediaconnect-thumbnail`: run until the daemon closes the connection.
pub fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    let ended = match args.listen {
        Some(path) => listen(&path).map_err(|error| format!("can't listen on {}: {error}", path.display())),
        None => standard_input().map_err(|error| error.to_string()).and_then(session::serve),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mediaconnect-thumbnail: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The connection that systemd hands over.
fn standard_input() -> io::Result<UnixStream> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let none = "standard input is no connection: mediaconnect-thumbnail.socket starts this program, or --listen SOCKET";
    stream.peer_addr().map_err(|_| io::Error::other(none))?;
    Ok(stream)
}

/// Serve each connection by a process of its own, without end.
fn listen(path: &Path) -> io::Result<()> {
    let listener = bind(path)?;
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        match Command::new(SELF).stdin(OwnedFd::from(stream)).stdout(Stdio::null()).spawn() {
            // Whoever ends must be waited for.
            Ok(mut child) => drop(thread::spawn(move || child.wait())),
            Err(error) => eprintln!("mediaconnect-thumbnail: can't start another: {error}"),
        }
    }
}

/// For this user alone. A socket that nobody listens on any more is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::other("another one listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(_) => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}
