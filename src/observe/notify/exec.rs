//! A program, run for each document: never by a shell, never for longer than it may.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Fault;
use crate::config::plan::Way;
use crate::observe::feed::{EventDoc, Told};
use crate::observe::text::span;
use crate::time::Instant;

/// A program that fails so often with the same document does not get it again: the next ones wait.
const ATTEMPTS: u32 = 5;
/// Between looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Is it enough?
pub(super) const fn gives_up(way: &Way, attempts: u32) -> bool {
    matches!(way, Way::Exec(_)) && attempts >= ATTEMPTS
}

/// Run `command` with the document on its standard input, for at most `timeout`.
pub(super) async fn run(command: Vec<String>, told: Arc<Told>, timeout: Duration) -> Result<(), Fault> {
    let ran = tokio::task::spawn_blocking(move || run_now(&command, &told.doc, timeout)).await;
    ran.unwrap_or_else(|error| Err(Fault::Later(error.to_string())))
}

fn run_now(command: &[String], doc: &EventDoc, timeout: Duration) -> Result<(), Fault> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let failed = |error: &dyn std::fmt::Display| Fault::Later(format!("{program}: {error}"));
    let input = serde_json::to_string(doc).map_err(|e| Fault::Never(e.to_string()))?;
    let mut child = Command::new(program)
        .args(arguments)
        // Nothing of the daemon's own, such as the service manager's socket.
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .envs(variables(doc))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| failed(&e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A document fits into a pipe: this never waits. A program need not read it.
        let _ = writeln!(stdin, "{input}");
    }
    match wait(&mut child, timeout).map_err(|e| failed(&e))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(&status)),
        None => Err(failed(&format!("it was killed after {}", span(timeout)))),
    }
}

/// `None`: it took too long, and is killed with all that it started.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= timeout {
            let group = Pid::from_raw(child.id().cast_signed());
            // It may have ended just now.
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// The document in the environment: what does not apply is not set.
fn variables(doc: &EventDoc) -> impl Iterator<Item = (String, String)> {
    let document = serde_json::to_value(doc).unwrap_or_default();
    let fields = document.as_object().cloned().unwrap_or_default();
    fields.into_iter().filter_map(|(name, value)| {
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => return None,
            other => other.to_string(),
        };
        Some((format!("MEDIACONNECT_{}", name.replace('-', "_").to_uppercase()), text))
    })
}
