//! The back door: `mediaconnectctl`.

pub mod args;
mod audit;
mod changes;
pub mod check;
mod client;
mod doctor;
mod events;
mod explain;
mod health;
mod history;
#[cfg(test)]
mod sample;
pub mod schema;
pub mod sdp;
mod status;
mod text;
mod top;
mod versions;

use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

use self::args::{Cli, Command, Part};
use self::client::{Client, flow_path};
use self::explain::Explained;
use self::text::{Style, print, print_error};
use crate::config::plan::{FlowPlan, OutputRoute};
use crate::config::value::{Destination, FlowName, Host};
use crate::config::{Context, FlowFile, load};
use crate::observe::http::encode;
use crate::observe::status::{ConditionDoc, FlowDoc, FlowsDoc, StatusDoc};
use crate::supervisor::control::Outcome;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// Done, valid, healthy.
    Yes = 0,
    /// Rejected, refused, not healthy.
    No = 1,
    /// Wrong usage, no such flow.
    Usage = 2,
    /// The daemon can't be reached.
    Unreachable = 3,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command was not carried out.
#[derive(Debug)]
struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    fn new(code: Code, message: String) -> Self {
        Self { code, message }
    }
}

/// Runs `mediaconnectctl` by the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Check(args) => return check::run(args, &cli.places.config),
        Command::Schema { of } => return schema::run(*of),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "mediaconnectctl", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(Code::Yes)
        }
        Command::Audit { command: args::Audit::Verify { head, json } } => audit::run(&cli.places, head, *json),
        Command::Rollback { flow, to } => {
            talk(versions::rollback(&Client::new(cli.places.socket()), &cli.places, flow, *to))
        }
        Command::CheckHealth { flow } => return health::run(&Client::new(cli.places.socket()), flow.as_deref()),
        Command::Doctor { json } => Ok(doctor::run(&cli.places, *json)),
        Command::Sdp { flow, output } => print_sdp(&cli.places.config, flow, output),
        command => ask(&Client::new(cli.places.socket()), command),
    };
    done.unwrap_or_else(|failure| {
        print_error(&format!("mediaconnectctl: {}\n", text::clean(&failure.message)));
        failure.code
    })
    .into()
}

fn print_sdp(config_dir: &Path, flow: &str, output: &str) -> Result<Code, Failure> {
    let usage = |e: String| Failure::new(Code::Usage, e);
    let mut plan = load_flow(config_dir, flow)?;
    if let Some(OutputRoute::Datagrams(route)) = plan.outputs.get_mut(output).map(|out| &mut out.route) {
        resolve(&mut route.destination);
    }
    print(&sdp::sdp(&plan, output).map_err(|e| usage(e.to_string()))?);
    Ok(Code::Yes)
}

/// RFC 8866 allows a name as connection address, but ffmpeg does not read one.
fn resolve(destination: &mut Destination) {
    if let Host::Name(name) = &destination.host {
        match (name.as_str(), destination.port).to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(address)) => destination.host = Host::Address(address.ip()),
            Ok(None) | Err(_) => {
                print_error(&format!(
                    "mediaconnectctl: warning: {name} can't be resolved; its name stands in the SDP\n"
                ));
            }
        }
    }
}

/// The flow as its file has it now, whatever the daemon runs.
fn load_flow(config_dir: &Path, name: &str) -> Result<FlowPlan, Failure> {
    let loaded = load(config_dir, &Context::default());
    let flows_dir = config_dir.join("flows.d");
    let flow = name.parse::<FlowName>().ok().and_then(|name| loaded.flows.get(&name));
    let what = match flow {
        Some(FlowFile::Valid { plan, .. }) => return Ok(FlowPlan::clone(plan)),
        Some(FlowFile::Unreadable) => format!("the file of flow '{name}' in {} can't be read", flows_dir.display()),
        Some(FlowFile::Rejected | FlowFile::Busy) => {
            let errors = loaded.diagnostics.iter().filter(|d| d.flow.as_deref() == Some(name));
            print_error(&changes::render_diagnostics(&errors.cloned().collect::<Vec<_>>()));
            return Err(Failure::new(Code::No, format!("the file of flow '{name}' has errors")));
        }
        None => format!("there is no flow '{name}' in {}", flows_dir.display()),
    };
    Err(Failure::new(Code::Usage, what))
}

/// Talk with the daemon.
fn talk<T>(talk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::new(Code::Unreachable, format!("no event loop: {e}")))?.block_on(talk)
}

/// The commands that need the daemon.
fn ask(client: &Client, command: &Command) -> Result<Code, Failure> {
    talk(async {
        match command {
            Command::Plan { json } => outcome(&client.read("/v1/plan").await?, *json, "nothing would change\n", print),
            Command::Reload { json } => {
                outcome(&client.act("/v1/reload").await?, *json, "nothing changed\n", print_error)
            }
            Command::Thaw { flow } => {
                outcome(&client.act(&of_flow(flow.as_ref(), "thaw")).await?, false, "", print_error)
            }
            Command::Status { flow: Some(flow), json, since: Some(since), .. } => {
                let path = format!("{}?since={}s", flow_path(flow, &["history"]), since.as_secs());
                let document: Value = client.read(&path).await?;
                let table = || Ok(history::table(&understood(&document)?, Style::of_stdout()));
                print(&if *json { pretty(&document) } else { table()? });
                Ok(Code::Yes)
            }
            Command::History { flow, json } => versions::history(client, flow.as_deref(), *json).await,
            Command::Top => top::run(client).await,
            Command::Status { flow, json, watch: false, .. } => {
                print(&show(client, flow.as_deref(), *json, false).await?);
                Ok(Code::Yes)
            }
            Command::Status { flow, json, watch: true, .. } => watch(client, flow.as_deref(), *json).await,
            Command::Events { follow, json } => events::run(client, *follow, *json).await,
            Command::Explain { flow, json } => explain(client, flow, *json).await,
            Command::Start { flow, clear } => act(client, flow_path(flow, &["start"]), *clear).await,
            Command::Stop { flow, clear } => act(client, flow_path(flow, &["stop"]), *clear).await,
            Command::Enable { flow, output, clear } => {
                act(client, flow_path(flow, &["outputs", output, "enable"]), *clear).await
            }
            Command::Disable { flow, output, clear } => {
                act(client, flow_path(flow, &["outputs", output, "disable"]), *clear).await
            }
            Command::Restart { flow, part, name } => {
                let path = match (part, name) {
                    (Some(Part::Source), Some(name)) => flow_path(flow, &["sources", name, "restart"]),
                    (Some(Part::Output), Some(name)) => flow_path(flow, &["outputs", name, "restart"]),
                    _ => flow_path(flow, &["restart"]),
                };
                act(client, path, false).await
            }
            Command::Disconnect { flow, peer } => act(client, flow_path(flow, &["disconnect", peer]), false).await,
            Command::Switch { flow, source, .. } => match source {
                Some(source) => act(client, flow_path(flow, &["switch", source]), false).await,
                None => act(client, flow_path(flow, &["switch"]), true).await,
            },
            Command::Freeze { flow, until } => act(client, freeze_path(flow.as_ref(), *until), false).await,
            Command::Check(_)
            | Command::CheckHealth { .. }
            | Command::Rollback { .. }
            | Command::Audit { .. }
            | Command::Schema { .. }
            | Command::Completions { .. }
            | Command::Doctor { .. }
            | Command::Sdp { .. } => Ok(Code::Yes),
        }
    })
}

fn of_flow(flow: Option<&String>, verb: &str) -> String {
    flow.map_or_else(|| format!("/v1/{verb}"), |flow| flow_path(flow, &[verb]))
}

fn freeze_path(flow: Option<&String>, until: Option<SystemTime>) -> String {
    let path = of_flow(flow, "freeze");
    match until {
        Some(until) => format!("{path}?until={}", encode(&humantime::format_rfc3339(until).to_string())),
        None => path,
    }
}

/// Steers, and says what that changed; silence where there is nothing to tell.
async fn act(client: &Client, path: String, clear: bool) -> Result<Code, Failure> {
    let path = if clear { format!("{path}?clear=true") } else { path };
    let outcome: Outcome = client.act(&path).await?;
    print(&changes::render(&outcome.changes));
    Ok(Code::Yes)
}

/// Prints what changes, and to `faults` what is wrong with the files.
fn outcome(document: &Value, json: bool, unchanged: &str, faults: fn(&str)) -> Result<Code, Failure> {
    let outcome: Outcome = understood(document)?;
    if json {
        print(&pretty(document));
    } else {
        let text = changes::render(&outcome.changes);
        print(if text.is_empty() { unchanged } else { &text });
        faults(&changes::render_diagnostics(&outcome.diagnostics));
    }
    Ok(changes::code(&outcome))
}

async fn explain(client: &Client, flow: &str, json: bool) -> Result<Code, Failure> {
    let (document, rejected);
    let explained = match client.read::<FlowDoc>(&flow_path(flow, &[])).await {
        Ok(doc) => {
            document = doc;
            Explained::of(&document)
        }
        Err(missing) => {
            rejected = refused(client, flow, missing).await?;
            Explained::of_rejected(flow, &rejected)
        }
    };
    if json {
        print(&pretty(&json!(explained)));
    } else {
        print(&explained.render(Style::of_stdout()));
    }
    Ok(explained.code())
}

/// Why a flow that the daemon does not know has never run.
///
/// # Errors
/// No file of it is rejected: it is `missing`.
async fn refused(client: &Client, flow: &str, missing: Failure) -> Result<Vec<ConditionDoc>, Failure> {
    if missing.code != Code::Usage {
        return Err(missing);
    }
    let errors = explain::rejected(flow, &client.read("/v1/status").await?);
    if errors.is_empty() { Err(missing) } else { Ok(errors) }
}

/// `status`, once: JSON on one line (`compact`) or on many, or a table.
async fn show(client: &Client, flow: Option<&str>, json: bool, compact: bool) -> Result<String, Failure> {
    let (document, flows) = match flow {
        Some(flow) => match client.read::<Value>(&flow_path(flow, &[])).await {
            Ok(document) => (document, None),
            Err(missing) => {
                let errors = refused(client, flow, missing).await?;
                let errors: Vec<_> = errors.into_iter().map(|error| error.message).collect();
                let message = format!("flow '{flow}' has never run: {}", errors.join("; "));
                return Err(Failure::new(Code::Usage, message));
            }
        },
        None => (client.read("/v1/status").await?, Some(client.read::<Value>("/v1/flows").await?)),
    };
    if json {
        let mut document = document;
        if let (Some(flows), Some(all)) = (flows, document.as_object_mut()) {
            all.insert("flow-list".to_owned(), flows["flows"].clone());
        }
        return Ok(if compact { format!("{document}\n") } else { pretty(&document) });
    }
    let style = Style::of_stdout();
    match flows {
        None => Ok(status::detail(&understood::<FlowDoc>(&document)?, style)),
        Some(flows) => {
            let flows: FlowsDoc = understood(&flows)?;
            Ok(status::overview(&understood::<StatusDoc>(&document)?, &flows.flows, style))
        }
    }
}

/// `status --watch`: fails only where the first look does; a daemon that restarts comes back.
async fn watch(client: &Client, flow: Option<&str>, json: bool) -> Result<Code, Failure> {
    let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut shown = show(client, flow, json, true).await?;
    loop {
        if json {
            print(&shown);
        } else if on_terminal {
            // Home; each line cleared to its end, then what is left of the screen.
            print(&format!("\x1b[H{}\x1b[J", shown.replace('\n', "\x1b[K\n")));
        } else {
            print(&format!("{shown}\n"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        match show(client, flow, json, true).await {
            Ok(text) => shown = text,
            Err(failure) if json => return Err(failure),
            Err(failure) => shown = format!("{}\n", text::clean(&failure.message)),
        }
    }
}

fn understood<T: serde::de::DeserializeOwned>(document: &Value) -> Result<T, Failure> {
    T::deserialize(document).map_err(|e| {
        let message = format!("the answer is not understood ({e}); is the daemon of another version?");
        Failure::new(Code::Unreachable, message)
    })
}

fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}
