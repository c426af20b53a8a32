//! The outputs of a flow: opened, closed and retuned, and the sockets that they share.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{Closing, Entry, Env, OutputEntry, Part, Problem, describe, random};
use crate::config::plan::{DatagramRoute, OutputPlan, OutputRoute, RtpHeader};
use crate::flow::FlowCommand;
use crate::flow::egress::{EncryptionSeed, OutputConfig, SenderKey};
use crate::flow::stats::OutputStats;
use crate::io::open::{SendSpec, Sender};
use crate::observe::event::{Event, emit};
use crate::supervisor::kept::Owner;
use crate::supervisor::resolve::{self, SEND_BUFFER, Unresolved};
use crate::supervisor::sample::OutputSample;

impl Entry {
    pub(super) fn open_output(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.outputs.get(name) else { return };
        let wanted = self.plan.enabled && plan.enabled;
        let entry = self.outputs.entry(name.to_owned()).or_insert_with(|| {
            Box::new(OutputEntry {
                part: Part::Closed,
                stats: Arc::default(),
                ssrc: random(),
                opened: SystemTime::now(),
                sample: OutputSample::default(),
            })
        });
        if !wanted || entry.part.is_open() {
            return;
        }
        if !matches!(plan.route, OutputRoute::Rist(_))
            && let Some(ssrc) = self.ssrcs.remove(name)
        {
            entry.ssrc = ssrc;
        }
        if let Some(RtpHeader::Regenerate { ssrc: Some(ssrc), .. }) = plan.header() {
            entry.ssrc = ssrc;
        }
        let (plan, mut ssrc, stats) = (plan.clone(), entry.ssrc, entry.stats.clone());
        let opened = match &plan.route {
            OutputRoute::Datagrams(route) => self.open_sending(name, &plan, route, (ssrc, stats), env),
            OutputRoute::Srt(srt) => self.open_srt_output(name, &plan, srt, stats, env),
            OutputRoute::Rist(rist) => self.open_rist_output(name, &plan, rist, stats, env).map(|(part, own)| {
                ssrc = own;
                part
            }),
        };
        let Some(entry) = self.outputs.get_mut(name) else { return };
        match opened {
            Ok(part) => {
                entry.part = part;
                entry.ssrc = ssrc;
                entry.opened = SystemTime::now();
            }
            Err(problem) => {
                let pending = matches!(problem, Problem::Unresolved(Unresolved::Pending(_)));
                let error = describe(&problem);
                let waiting = entry.part.fail(problem, env.now);
                if waiting.tries == 1 && !pending {
                    let (flow, output, destination) = (self.name.clone(), name.to_owned(), plan.place());
                    emit(Event::OutputFailed { flow, output, destination, error });
                }
                self.end_if_idle();
            }
        }
    }

    fn open_sending(
        &mut self,
        name: &str,
        plan: &OutputPlan,
        route: &DatagramRoute,
        (ssrc, stats): (u32, Arc<OutputStats>),
        env: &Env<'_>,
    ) -> Result<Part<OutputConfig>, Problem> {
        let config = resolve::output(plan, route, env.links, env.names, env.now).map_err(Problem::Unresolved)?;
        let senders = self.open_senders(&config)?;
        self.ensure_task(env);
        self.hold_senders(&config, senders);
        let (name, encryption) = (name.to_owned(), self.encryption(plan));
        self.send(FlowCommand::OpenOutput { name, config: config.clone(), encryption, ssrc, stats });
        Ok(Part::Open(config))
    }

    pub(super) fn close_output(&mut self, name: &str, closing: &mut Closing) {
        let Some(entry) = self.outputs.get_mut(name) else { return };
        let part = std::mem::replace(&mut entry.part, Part::Closed);
        if !part.is_open() {
            return;
        }
        let (done, closed) = oneshot::channel();
        self.send(FlowCommand::CloseOutput(name.to_owned(), done));
        closing.push(closed);
        self.kept.release_all(&self.name, |owner| owner.is_of_output(name, None));
        if let Part::Open(config) = part {
            closing.extend(self.release_senders(&config));
        }
    }

    /// One more output uses its sockets, of which these are new.
    fn hold_senders(&mut self, config: &OutputConfig, new: Vec<(SenderKey, Sender)>) {
        for (key, sender) in new {
            self.send(FlowCommand::AddSender(key, sender));
        }
        config.senders().for_each(|key| *self.senders.entry(key).or_default() += 1);
    }

    /// An output uses its sockets no more. The shared ones stay for the outputs to come; a port that was asked for is
    /// given back.
    fn release_senders(&mut self, config: &OutputConfig) -> Closing {
        let mut closing = Closing::new();
        for key in config.senders() {
            let users = self.senders.entry(key).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 && key.source_port.is_some() {
                self.senders.remove(&key);
                self.kept.release(&self.name, &Owner::Sender(key));
                let (done, closed) = oneshot::channel();
                self.send(FlowCommand::DropSender(key, done));
                closing.push(closed);
            }
        }
        closing
    }

    /// The encryption of an output: one for all that have the same.
    pub(in crate::supervisor) fn encryption(&mut self, plan: &OutputPlan) -> Option<Box<EncryptionSeed>> {
        let wanted = plan.encryption.as_ref()?;
        let all = &self.plan;
        self.encryptions.retain(|(known, _)| {
            all.outputs.values().any(|output| output.encryption.as_ref().is_some_and(|wanted| wanted.is_same(known)))
        });
        if let Some(known) = self.encryptions.iter_mut().find(|(known, _)| known.is_same(wanted)) {
            known.0.clone_from(wanted);
            return Some(Box::new(known.clone()));
        }
        let new = (wanted.clone(), Arc::default());
        self.encryptions.push(new.clone());
        Some(Box::new(new))
    }

    pub(super) fn retune_output(&mut self, name: &str, env: &Env<'_>) {
        let plan_of_all = self.plan.clone();
        let Some(plan) = plan_of_all.outputs.get(name) else { return };
        let open = self.outputs.get(name).is_some_and(|output| output.part.is_open());
        let is_known = |wanted| self.encryptions.iter().any(|(known, _)| known == wanted);
        if plan.encryption.as_ref().is_some_and(|wanted| open && !is_known(wanted))
            && let Some(encryption) = self.encryption(plan)
        {
            self.send(FlowCommand::Encrypt(encryption));
        }
        let route = match &plan.route {
            OutputRoute::Datagrams(route) => route,
            OutputRoute::Srt(_) => return self.retune_srt_output(name, env),
            OutputRoute::Rist(_) => return self.retune_rist_output(name, env),
        };
        let Ok(config) = resolve::output(plan, route, env.links, env.names, env.now) else { return };
        if !self.outputs.get(name).is_some_and(|output| matches!(output.part, Part::Open(_))) {
            return;
        }
        // Without a socket for a leg that has come everything stays as it is; this is tried again.
        let Ok(senders) = self.open_senders(&config) else { return };
        let Some(Part::Open(open)) = self.outputs.get_mut(name).map(|o| &mut o.part) else { return };
        let before = std::mem::replace(open, config.clone());
        self.hold_senders(&config, senders);
        self.send(FlowCommand::RetuneOutput(name.to_owned(), config));
        // Nobody has to wait for a socket that closes.
        drop(self.release_senders(&before));
    }

    /// The sockets an output needs besides those that are there.
    fn open_senders(&self, config: &OutputConfig) -> Result<Vec<(SenderKey, Sender)>, Problem> {
        let missing = config.senders().filter(|key| !self.senders.contains_key(key));
        let open = |key: SenderKey| {
            let spec = SendSpec { family: key.family, source_port: key.source_port, send_buffer: SEND_BUFFER };
            let sender = self.kept.sender(&self.name, key, &spec);
            Ok((key, sender.map_err(|error| Problem::Open(error.to_string()))?))
        };
        missing.map(open).collect()
    }
}
