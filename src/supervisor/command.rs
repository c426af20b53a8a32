//! What operators ask, carried out.

use std::time::SystemTime;

use super::Supervisor;
use super::air;
use super::apply;
use super::control::{Actor, Command, Outcome, Refusal, Request};
use super::store::{Freeze, Override, Switch};
use crate::config::diff::{Action, Change, Effect, Kind, Touch};
use crate::config::value::FlowName;
use crate::flow::srt::Part;
use crate::observe::event::{Event, emit};

impl Supervisor {
    /// Carry out a request, log it, and answer.
    pub(super) async fn answer(&mut self, request: Request) {
        let Request { command: asked, actor, reply } = request;
        let read = asked == Command::Plan;
        let (command, flow) = asked.in_words();
        let result = self.obey(asked.clone(), &actor).await;
        if !read {
            let error = result.as_ref().err().map(Refusal::to_string);
            self.state.borrow().audit.record(actor.clone().record(&asked, error.clone()));
            emit(Event::OperatorCommand { by: actor.name, uid: actor.uid, command, flow, error });
        }
        // Who asked may have gone.
        let _ = reply.send(result);
    }

    async fn obey(&mut self, command: Command, actor: &Actor) -> Result<Outcome, Refusal> {
        match command {
            Command::Reload => {
                self.watch.settle().await;
                Ok(self.reload().await)
            }
            Command::Plan => {
                self.watch.settle().await;
                Ok(apply::prepare(&self.state.borrow(), &mut self.watch).plan())
            }
            Command::Start(flow) => self.set_flow(flow, Some(true), actor).await,
            Command::Stop(flow) => self.set_flow(flow, Some(false), actor).await,
            Command::ClearFlow(flow) => self.set_flow(flow, None, actor).await,
            Command::Enable(flow, output) => self.set_output(flow, output, Some(true), actor).await,
            Command::Disable(flow, output) => self.set_output(flow, output, Some(false), actor).await,
            Command::ClearOutput(flow, output) => self.set_output(flow, output, None, actor).await,
            Command::Restart(flow) => {
                let parts = {
                    let s = self.state.borrow();
                    let entry = s.flows.get(&flow).ok_or_else(|| no_flow(&flow))?;
                    running(entry.plan.enabled, &flow)?;
                    let sources = entry.plan.sources.keys().map(|n| (Kind::Source, n.clone()));
                    sources.chain(entry.plan.outputs.keys().map(|n| (Kind::Output, n.clone()))).collect()
                };
                Ok(self.reopen(&flow, parts).await)
            }
            Command::RestartSource(flow, source) => self.restart_part(flow, Kind::Source, source).await,
            Command::RestartOutput(flow, output) => self.restart_part(flow, Kind::Output, output).await,
            Command::Disconnect(flow, peer) => self.disconnect(&flow, &peer, actor),
            Command::Switch(flow, source) => self.switch(&flow, Some(source), actor),
            Command::ClearSwitch(flow) => self.switch(&flow, None, actor),
            Command::Freeze(flow, until) => self.freeze(flow, until, actor),
            Command::Thaw(flow) => self.thaw(flow, actor).await,
            Command::Panic(flow) => {
                self.state.borrow().flows.get(&flow).ok_or_else(|| no_flow(&flow))?.panic();
                Ok(Outcome::default())
            }
        }
    }

    async fn set_flow(&mut self, flow: FlowName, word: Option<bool>, actor: &Actor) -> Result<Outcome, Refusal> {
        {
            let mut s = self.state.borrow_mut();
            let file_enabled = s.flows.get(&flow).ok_or_else(|| no_flow(&flow))?.file.enabled;
            match word.filter(|enabled| *enabled != file_enabled) {
                Some(enabled) => {
                    s.overrides.flows.insert(flow.to_string(), set(enabled, file_enabled, actor));
                }
                None => {
                    s.overrides.flows.remove(flow.as_str());
                }
            }
            s.keep_overrides();
        }
        Ok(self.carry_out(&flow).await)
    }

    async fn set_output(
        &mut self,
        flow: FlowName,
        output: String,
        word: Option<bool>,
        actor: &Actor,
    ) -> Result<Outcome, Refusal> {
        {
            let mut s = self.state.borrow_mut();
            let file = &s.flows.get(&flow).ok_or_else(|| no_flow(&flow))?.file;
            let plan = file.outputs.get(&output);
            let file_enabled = plan.ok_or_else(|| no_part(&flow, Kind::Output, &output))?.enabled;
            let outputs = s.overrides.outputs.entry(flow.to_string()).or_default();
            match word.filter(|enabled| *enabled != file_enabled) {
                Some(enabled) => {
                    outputs.insert(output, set(enabled, file_enabled, actor));
                }
                None => {
                    outputs.remove(&output);
                }
            }
            s.overrides.outputs.retain(|_, outputs| !outputs.is_empty());
            s.keep_overrides();
        }
        Ok(self.carry_out(&flow).await)
    }

    /// Make a flow run what its file and the operators say.
    async fn carry_out(&mut self, flow: &FlowName) -> Outcome {
        let file = self.state.borrow().flows.get(flow).map(|e| e.file.clone());
        let changes = apply::transition(&self.state, vec![(flow.clone(), file)]).await;
        Outcome { changes, diagnostics: Vec::new() }
    }

    async fn restart_part(&mut self, flow: FlowName, kind: Kind, name: String) -> Result<Outcome, Refusal> {
        {
            let s = self.state.borrow();
            let plan = &s.flows.get(&flow).ok_or_else(|| no_flow(&flow))?.plan;
            let enabled = match kind {
                Kind::Source => plan.sources.get(&name).map(|p| p.enabled),
                _ => plan.outputs.get(&name).map(|p| p.enabled),
            };
            running(plan.enabled, &flow)?;
            if !enabled.ok_or_else(|| no_part(&flow, kind, &name))? {
                return Err(Refusal::Conflict(format!("{} {name} of flow {flow} is disabled", word(kind))));
            }
        }
        Ok(self.reopen(&flow, vec![(kind, name)]).await)
    }

    async fn reopen(&mut self, flow: &FlowName, parts: Vec<(Kind, String)>) -> Outcome {
        let because = vec!["restart".to_owned()];
        let touch = |(kind, name)| Touch { kind, name, effect: Effect::Reopen, because: because.clone() };
        let touches = parts.into_iter().map(touch).collect();
        let change = Change { flow: flow.to_string(), action: Action::Change, touches };
        apply::reopen(&self.state, &change).await;
        Outcome { changes: vec![change], diagnostics: Vec::new() }
    }

    /// End connections; what a flow has of them by itself it makes anew.
    fn disconnect(&mut self, flow: &FlowName, peer: &str, actor: &Actor) -> Result<Outcome, Refusal> {
        let mut s = self.state.borrow_mut();
        let ended = s.flows.get_mut(flow).ok_or_else(|| no_flow(flow))?.disconnect(peer, &actor.name);
        if ended.is_empty() {
            let message = format!("flow {flow} has no connection to {peer}: see the peers in `status {flow}`");
            return Err(Refusal::NotFound(message));
        }
        let touch = |(part, address): (Part, String)| {
            let kind = match part {
                Part::Source(_) => Kind::Source,
                Part::Output(_) => Kind::Output,
                Part::Entitlement(_) => Kind::Entitlement,
            };
            let because = vec![format!("disconnect {address}")];
            Touch { kind, name: part.to_string(), effect: Effect::InPlace, because }
        };
        let touches = ended.into_iter().map(touch).collect();
        let change = Change { flow: flow.to_string(), action: Action::Change, touches };
        Ok(Outcome { changes: vec![change], diagnostics: Vec::new() })
    }

    fn switch(&mut self, flow: &FlowName, source: Option<String>, actor: &Actor) -> Result<Outcome, Refusal> {
        let mut s = self.state.borrow_mut();
        let entry = s.flows.get_mut(flow).ok_or_else(|| no_flow(flow))?;
        source.as_ref().map_or(Ok(()), |source| air::may_switch(&entry.plan, source))?;
        let before = entry.choice().map(str::to_owned);
        entry.choose(source.clone());
        match source.clone() {
            Some(source) => {
                let word = Switch { source, by: actor.name.clone(), since: SystemTime::now() };
                s.overrides.switches.insert(flow.to_string(), word);
            }
            None => drop(s.overrides.switches.remove(flow.as_str())),
        }
        s.keep_overrides();
        if source == before {
            return Ok(Outcome::default());
        }
        let touch = Touch {
            kind: Kind::Source,
            name: source.or(before).unwrap_or_default(),
            effect: Effect::InPlace,
            because: vec!["switch".to_owned()],
        };
        let change = Change { flow: flow.to_string(), action: Action::Change, touches: vec![touch] };
        Ok(Outcome { changes: vec![change], diagnostics: Vec::new() })
    }

    fn freeze(&mut self, flow: Option<FlowName>, until: Option<SystemTime>, actor: &Actor) -> Result<Outcome, Refusal> {
        let mut s = self.state.borrow_mut();
        if until.is_some_and(|until| until <= SystemTime::now()) {
            return Err(Refusal::Conflict("that time is over".to_owned()));
        }
        let freeze = Freeze { by: actor.name.clone(), since: SystemTime::now(), until };
        match &flow {
            Some(name) => {
                s.flows.get(name).ok_or_else(|| no_flow(name))?;
                s.overrides.frozen_flows.insert(name.to_string(), freeze);
            }
            None => s.overrides.frozen = Some(freeze),
        }
        s.keep_overrides();
        emit(Event::Frozen { flow, by: actor.name.clone(), until });
        Ok(Outcome::default())
    }

    async fn thaw(&mut self, flow: Option<FlowName>, actor: &Actor) -> Result<Outcome, Refusal> {
        {
            let mut s = self.state.borrow_mut();
            match &flow {
                Some(name) => {
                    s.flows.get(name).ok_or_else(|| no_flow(name))?;
                    if s.overrides.frozen_flows.remove(name.as_str()).is_none() {
                        let all = s.overrides.frozen.is_some();
                        let hint = if all { "; all flows are: thaw without a name" } else { "" };
                        return Err(Refusal::Conflict(format!("flow {name} is not frozen{hint}")));
                    }
                }
                None if s.overrides.frozen.is_none() && s.overrides.frozen_flows.is_empty() => {
                    return Err(Refusal::Conflict("nothing is frozen".to_owned()));
                }
                None => {
                    s.overrides.frozen = None;
                    s.overrides.frozen_flows.clear();
                }
            }
            s.keep_overrides();
        }
        emit(Event::Thawed { flow, by: actor.name.clone() });
        Ok(self.reload().await)
    }
}

fn set(enabled: bool, file_enabled: bool, actor: &Actor) -> Override {
    Override { enabled, file_enabled, by: actor.name.clone(), since: SystemTime::now() }
}

fn word(kind: Kind) -> &'static str {
    if kind == Kind::Source { "source" } else { "output" }
}

fn no_flow(flow: &FlowName) -> Refusal {
    Refusal::NotFound(format!("there is no flow {flow}"))
}

fn no_part(flow: &FlowName, kind: Kind, name: &str) -> Refusal {
    Refusal::NotFound(format!("flow {flow} has no {} {name}", word(kind)))
}

fn running(enabled: bool, flow: &FlowName) -> Result<(), Refusal> {
    if enabled { Ok(()) } else { Err(Refusal::Conflict(format!("flow {flow} is stopped"))) }
}
