//! A daemon with a flow under traffic, whose outputs are judged datagram by datagram.

use serde_json::Value;

use crate::support::crowd::{Judge, Traffic};
use crate::support::daemon::{Daemon, Setup};
use crate::support::ports::free_port;
use crate::support::wait_for;

/// Flow `flow` from `input`; output `oN` goes to socket N of the judge.
pub(crate) struct Rig {
    pub(crate) daemon: Daemon,
    pub(crate) judge: Judge,
    pub(crate) input: u16,
    traffic: Traffic,
}

/// A flow's file.
pub(crate) fn flow(input: u16, outputs: &[(&str, u16)]) -> String {
    let source = format!("[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n");
    let output =
        |(name, port): &(&str, u16)| format!("[outputs.{name}]\nprotocol = 'udp'\ndestination = '127.0.0.1:{port}'\n");
    outputs.iter().map(output).fold(source, |text, output| text + &output)
}

/// The same with a description.
pub(crate) fn described(description: &str, text: &str) -> String {
    format!("description = '{description}'\n{text}")
}

impl Rig {
    /// With the first of two outputs.
    pub(crate) fn start() -> Self {
        Self::with(Setup::new())
    }

    /// The same beside what is set up already, which need not be valid.
    pub(crate) fn with(setup: Setup<'_>) -> Self {
        let (judge, input) = (Judge::start(2), free_port());
        let daemon = setup.flow("flow", &flow(input, &[("o0", judge.port(0))])).start_until_ready();
        let traffic = Traffic::start(&[input], 250);
        judge.wait_for_media(0);
        Self { daemon, judge, input, traffic }
    }

    /// The file as it was at the start.
    pub(crate) fn text(&self) -> String {
        flow(self.input, &[("o0", self.judge.port(0))])
    }

    /// With both outputs.
    pub(crate) fn both(&self) -> String {
        flow(self.input, &[("o0", self.judge.port(0)), ("o1", self.judge.port(1))])
    }

    /// Write the flow's file, and wait until it is applied.
    #[track_caller]
    pub(crate) fn apply(&self, text: &str) {
        self.daemon.write_flow("flow", text);
        self.daemon.ctl_ok(&["reload"]);
    }

    /// Send to another port.
    pub(crate) fn redirect(&self, port: u16) {
        self.traffic.redirect(0, port);
    }

    /// Wait until the flow's description is this one.
    #[track_caller]
    pub(crate) fn wait_for_description(&self, description: &str) {
        self.daemon.wait_for_flow("flow", description, |flow| flow["description"] == description);
    }

    /// All that was sent went out by the first output, from one and the same port.
    #[track_caller]
    pub(crate) fn assert_none_lost(self) {
        let sent = self.traffic.stop();
        self.judge.assert_all(0, sent[0]);
        assert_eq!(self.judge.tally(0).moves, 0, "the output's socket is the same");
    }
}

/// What `mediaconnectctl plan` says, one word a touch: `source main reopen`.
#[track_caller]
pub(crate) fn plan(daemon: &Daemon) -> Vec<String> {
    let output = daemon.ctl(&["plan", "--json"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut said = Vec::new();
    for change in plan["changes"].as_array().unwrap() {
        let who = format!("{} {}:", word(&change["flow"]), word(&change["action"]));
        let touch = |touch: &Value| {
            format!("{who} {} {} {}", word(&touch["kind"]), word(&touch["name"]), word(&touch["effect"]))
        };
        let touches: Vec<_> = change["touches"].as_array().unwrap().iter().map(touch).collect();
        said.extend(if touches.is_empty() { vec![who] } else { touches });
    }
    said
}

/// The daemon's own condition of a code.
pub(crate) fn daemon_condition(daemon: &Daemon, code: &str) -> Option<Value> {
    let status = daemon.status();
    status["conditions"].as_array()?.iter().find(|condition| condition["code"] == code).cloned()
}

/// Wait until the daemon has, or has no longer, a condition of a code.
#[track_caller]
pub(crate) fn wait_for_daemon_condition(daemon: &Daemon, code: &str, there: bool) {
    wait_for(code, || (daemon_condition(daemon, code).is_some() == there).then_some(()));
}
