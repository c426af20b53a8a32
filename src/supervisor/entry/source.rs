//! The sources of a flow: opened, closed and retuned.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Closing, Entry, Env, Part, Problem, SourceEntry, describe};
use crate::config::plan::{
    ContentKeys, DatagramInput, FlowPlan, SourceInput, SourcePlan, SourceProtocol, SrtMode, SrtPlan,
};
use crate::config::value::Interface;
use crate::flow::FlowCommand;
use crate::flow::source::{Receivers, SourceConfig};
use crate::flow::srt::{self, SrtSourceConfig};
use crate::flow::stats::SourceStats;
use crate::io::links::Links;
use crate::io::open::{OpenError, ReceiveSpec, Receiver};
use crate::observe::event::{Event, emit};
use crate::supervisor::kept::{Owner, SocketKey};
use crate::supervisor::resolve::{self, RECEIVE_BUFFER};
use crate::supervisor::rist::control_spec;
use crate::supervisor::sample::SourceSample;

/// What to ask of the kernel for a socket of FEC: there is at most one packet of it for four of media.
const FEC_RECEIVE_BUFFER: usize = 1 << 20;

impl Entry {
    pub(super) fn open_source(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.sources.get(name) else { return };
        let wanted = self.plan.enabled && plan.enabled;
        let plan = plan.clone();
        let entry = self.sources.entry(name.to_owned()).or_insert_with(|| {
            Box::new(SourceEntry {
                part: Part::Closed,
                stats: Arc::default(),
                granted: 0,
                opened: env.now,
                sample: SourceSample::default(),
                decryption: None,
            })
        });
        if !wanted || entry.part.is_open() {
            return;
        }
        let stats = entry.stats.clone();
        let opened = match &plan.input {
            SourceInput::Datagrams(input) => self.open_sockets(name, &plan, input, stats, env),
            SourceInput::Srt(srt) => self.open_srt_source(name, &plan, srt, stats, env),
            SourceInput::Rist(rist) => self.open_rist_source(name, &plan, rist, stats, env),
        };
        let Some(entry) = self.sources.get_mut(name) else { return };
        let (part, granted) = match opened {
            Ok(opened) => opened,
            Err(problem) => {
                let error = describe(&problem);
                let waiting = entry.part.fail(problem, env.now);
                if waiting.tries == 1 {
                    let retry_in = waiting.retry_at.saturating_duration_since(env.now);
                    emit(Event::SourceFailed { flow: self.name.clone(), source: name.to_owned(), error, retry_in });
                }
                return self.end_if_idle();
            }
        };
        if let Some(waiting) = entry.part.waiting() {
            let after = env.now.saturating_duration_since(waiting.since);
            emit(Event::SourceOpened { flow: self.name.clone(), source: name.to_owned(), after });
        }
        entry.granted = granted;
        entry.opened = env.now;
        if granted < RECEIVE_BUFFER {
            let (asked, granted) = (RECEIVE_BUFFER as u64, granted as u64);
            emit(Event::ReceiveBufferSmall { flow: self.name.clone(), source: name.to_owned(), asked, granted });
        }
        entry.part = part;
        entry.decryption = None;
        self.decrypt(name, plan.decryption);
        if self.choice.as_deref() == Some(name) {
            // To the task it is a new source: it has forgotten that it was chosen.
            self.send(FlowCommand::Switch(self.choice.clone()));
        }
    }

    /// The sockets of a source, and the bytes of receive buffer that the kernel granted.
    fn open_sockets(
        &mut self,
        name: &str,
        plan: &SourcePlan,
        input: &DatagramInput,
        stats: Arc<SourceStats>,
        env: &Env<'_>,
    ) -> Result<(Part<ReceiveSpec>, usize), Problem> {
        let spec = resolve::source(plan, input, &self.plan, env.links).map_err(Problem::Unresolved)?;
        let receivers = open_receivers(&spec, input.protocol, |spec| self.kept.receiver(&self.name, name, spec));
        // All of them, or none.
        let receivers = receivers.map_err(|error| {
            self.kept.release(&self.name, &Owner::Source(name.to_owned()));
            Problem::Open(error.to_string())
        })?;
        let granted = receivers.media.granted();
        // From here on the task says whether it is on air; until it does, it is not.
        stats.on_air.set(0);
        self.ensure_task(env);
        let config = source_config(plan, input);
        self.send(FlowCommand::OpenSource { name: name.to_owned(), config, receivers, stats });
        Ok((Part::Open(spec), granted))
    }

    pub(super) fn close_source(&mut self, name: &str, closing: &mut Closing) {
        let Some(entry) = self.sources.get_mut(name) else { return };
        if std::mem::replace(&mut entry.part, Part::Closed).is_open() {
            let (done, closed) = oneshot::channel();
            self.send(FlowCommand::CloseSource(name.to_owned(), done));
            self.kept.release(&self.name, &Owner::Source(name.to_owned()));
            closing.push(closed);
        }
    }

    /// Let the task decrypt what comes from a source with these keys, or not.
    fn decrypt(&mut self, name: &str, keys: Option<ContentKeys>) {
        let Some(entry) = self.sources.get_mut(name).filter(|entry| entry.decryption != keys) else { return };
        entry.decryption.clone_from(&keys);
        self.send(FlowCommand::Decrypt(name.to_owned(), keys));
    }

    pub(super) fn retune_source(&mut self, name: &str, env: &Env<'_>) {
        let open = self.sources.get(name).is_some_and(|s| s.part.is_open());
        let plan = self.plan.clone();
        let Some(plan) = plan.sources.get(name).filter(|_| open) else { return };
        self.decrypt(name, plan.decryption.clone());
        match &plan.input {
            SourceInput::Datagrams(input) => {
                self.send(FlowCommand::RetuneSource(name.to_owned(), source_config(plan, input)));
            }
            SourceInput::Srt(srt) => {
                let config = SrtSourceConfig { max_bitrate: plan.max_bitrate };
                self.send(FlowCommand::RetuneSrtSource(name.to_owned(), config));
                let (part, srt) = (srt::Part::Source(name.to_owned()), srt.clone());
                self.retune_srt(&part, &srt, env);
            }
            SourceInput::Rist(_) => self.retune_rist_source(name),
        }
    }
}

/// What to open for a source besides its media's socket: of its FEC, for the columns and the rows.
fn fec_specs(spec: &ReceiveSpec, protocol: SourceProtocol) -> Option<[ReceiveSpec; 2]> {
    let SourceProtocol::RtpFec { fec_ports, .. } = protocol else { return None };
    Some(fec_ports.map(|offset| {
        let mut spec = ReceiveSpec { receive_buffer: FEC_RECEIVE_BUFFER, ..spec.clone() };
        // The plan has checked that it is a port.
        spec.bind.set_port(spec.bind.port().wrapping_add(offset));
        spec
    }))
}

/// A source's socket, and those of its FEC.
fn open_receivers(
    spec: &ReceiveSpec,
    protocol: SourceProtocol,
    open: impl Fn(&ReceiveSpec) -> Result<Receiver, OpenError>,
) -> Result<Receivers, OpenError> {
    let media = open(spec)?;
    let fec = match fec_specs(spec, protocol) {
        Some([column, row]) => Some([open(&column)?, open(&row)?]),
        None => None,
    };
    Ok(Receivers { media, fec })
}

/// The sockets by which its sources and outputs are connected by SRT.
fn srt_sockets(plan: &FlowPlan, links: &Links) -> Vec<SocketKey> {
    let sources = plan.sources.iter().filter(|(_, source)| source.enabled);
    let sources = sources
        .filter_map(|(name, source)| Some((srt::Part::Source(name.clone()), source.srt()?, source.interface.as_ref())));
    let outputs = plan.outputs.iter().filter(|(_, output)| output.enabled);
    let outputs = outputs
        .filter_map(|(name, output)| Some((srt::Part::Output(name.clone()), output.srt()?, output.interface.as_ref())));
    let key = |(part, srt, interface): (srt::Part, &SrtPlan, Option<&Interface>)| {
        let spec = resolve::endpoint(&srt.mode, interface, links).ok()?;
        let called = matches!(srt.mode, SrtMode::Listener { .. });
        Some(if called { SocketKey::port_of(&spec) } else { SocketKey::calling(&plan.name, &part, &spec) })
    };
    sources.chain(outputs).filter_map(key).collect()
}

/// The sockets that packets for a flow come to, as far as that is known now.
pub(in crate::supervisor) fn sockets(plan: &FlowPlan, links: &Links) -> BTreeSet<SocketKey> {
    let keys = |source: &SourcePlan| -> Option<Vec<SocketKey>> {
        match &source.input {
            SourceInput::Datagrams(input) => {
                let spec = resolve::source(source, input, plan, links).ok()?;
                let fec = fec_specs(&spec, input.protocol).into_iter().flatten();
                Some(fec.chain([spec]).map(|spec| SocketKey::of(&spec, false)).collect())
            }
            SourceInput::Rist(rist) => {
                let spec = resolve::rist_source(source, rist, links).ok()?;
                let control = control_spec(&spec, &rist.profile);
                Some(control.into_iter().chain([spec]).map(|spec| SocketKey::of(&spec, true)).collect())
            }
            SourceInput::Srt(_) => None,
        }
    };
    let sources = plan.sources.values().filter(|source| source.enabled).filter_map(keys).flatten();
    sources.chain(srt_sockets(plan, links)).collect()
}

fn source_config(plan: &SourcePlan, input: &DatagramInput) -> SourceConfig {
    SourceConfig { protocol: input.protocol, allow: input.allow.clone(), max_bitrate: plan.max_bitrate }
}
