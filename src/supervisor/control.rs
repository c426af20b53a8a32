//! What an operator may ask of the supervisor. The HTTP routes turn requests into these; the supervisor answers.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::audit::Record;
use crate::config::diagnostic::Diagnostic;
use crate::config::diff::Change;
use crate::config::value::FlowName;

/// Who asks, by the socket's peer credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's id.
    pub uid: u32,
    /// The process.
    pub pid: i32,
    /// The user's name, or `uid N`.
    pub name: String,
}

impl Actor {
    /// For the audit trail. `refused`: why it was not done.
    pub(super) fn record(self, command: &Command, refused: Option<String>) -> Record {
        let Self { uid, pid, name: by } = self;
        let (command, flow) = command.in_words();
        Record::Act { by, uid, pid, command, flow: flow.map(|flow| flow.to_string()), refused }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read the files and apply them.
    Reload,
    /// Read the files and say what a reload would do.
    Plan,
    /// Run a flow whatever its file says.
    Start(FlowName),
    /// Stop a flow whatever its file says.
    Stop(FlowName),
    /// Drop what `Start` or `Stop` set.
    ClearFlow(FlowName),
    /// Run an output whatever the file says.
    Enable(FlowName, String),
    /// Stop an output whatever the file says.
    Disable(FlowName, String),
    /// Drop what `Enable` or `Disable` set.
    ClearOutput(FlowName, String),
    /// Close and open all of a flow.
    Restart(FlowName),
    /// Close and open one source.
    RestartSource(FlowName, String),
    /// Close and open one output.
    RestartOutput(FlowName, String),
    /// End a connection: by the peer's address and port, its address, or its number in status.
    Disconnect(FlowName, String),
    /// Put a source on air, whatever `[failover]` says.
    Switch(FlowName, String),
    /// Drop what `Switch` set.
    ClearSwitch(FlowName),
    /// Hold changes back: of one flow, or of all; until a time, or until `Thaw`.
    Freeze(Option<FlowName>, Option<std::time::SystemTime>),
    /// Let them through again, and apply what waits.
    Thaw(Option<FlowName>),
    /// Make the flow's task panic; for tests, in debug builds only.
    Panic(FlowName),
}

impl Command {
    /// The one flow that it is about; `None`: all of them.
    pub const fn flow(&self) -> Option<&FlowName> {
        match self {
            Self::Reload | Self::Plan => None,
            Self::Freeze(flow, _) | Self::Thaw(flow) => flow.as_ref(),
            Self::Start(flow)
            | Self::Stop(flow)
            | Self::ClearFlow(flow)
            | Self::Enable(flow, _)
            | Self::Disable(flow, _)
            | Self::ClearOutput(flow, _)
            | Self::Restart(flow)
            | Self::RestartSource(flow, _)
            | Self::RestartOutput(flow, _)
            | Self::Disconnect(flow, _)
            | Self::Switch(flow, _)
            | Self::ClearSwitch(flow)
            | Self::Panic(flow) => Some(flow),
        }
    }

    /// As `mediaconnectctl` takes it, without the flow; and the flow.
    pub(crate) fn in_words(&self) -> (String, Option<FlowName>) {
        let words = match self {
            Self::Reload => "reload".to_owned(),
            Self::Plan => "plan".to_owned(),
            Self::Start(_) => "start".to_owned(),
            Self::Stop(_) => "stop".to_owned(),
            Self::ClearFlow(_) => "start --clear".to_owned(),
            Self::Enable(_, output) => format!("enable {output}"),
            Self::Disable(_, output) => format!("disable {output}"),
            Self::ClearOutput(_, output) => format!("enable {output} --clear"),
            Self::Restart(_) => "restart".to_owned(),
            Self::RestartSource(_, source) => format!("restart source {source}"),
            Self::RestartOutput(_, output) => format!("restart output {output}"),
            Self::Disconnect(_, peer) => format!("disconnect {peer}"),
            Self::Switch(_, source) => format!("switch {source}"),
            Self::ClearSwitch(_) => "switch --clear".to_owned(),
            Self::Freeze(..) => "freeze".to_owned(),
            Self::Thaw(_) => "thaw".to_owned(),
            Self::Panic(_) => "panic".to_owned(),
        };
        (words, self.flow().cloned())
    }
}

/// The answer to `Reload` and `Plan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Per flow, in the order of names.
    pub changes: Vec<Change>,
    /// Of all files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No flow, source or output of that name.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense now.
    #[error("{0}")]
    Conflict(String),
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// A command on its way to the supervisor.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub actor: Actor,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// The way to the supervisor.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Request>);

impl Handle {
    /// A handle, and the end that the supervisor reads.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (tx, rx) = mpsc::channel(64);
        (Self(tx), rx)
    }

    /// Ask, and wait until it is done.
    ///
    /// # Errors
    /// A refusal says why nothing was done.
    pub async fn ask(&self, command: Command, actor: Actor) -> Result<Outcome, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request { command, actor, reply }).await.map_err(|_| Refusal::Stopping)?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }
}
