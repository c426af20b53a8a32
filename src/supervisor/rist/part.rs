//! Sources and outputs by RIST: opened, changed, and given the keys they ask for.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Place, RistOpen};
use crate::config::plan::{OutputPlan, RistEncryption, RistInput, RistProfile, RistRoute, SourcePlan};
use crate::flow::FlowCommand;
use crate::flow::egress::LegConfig;
use crate::flow::rist::{
    LegSockets, RistEvent, RistKeys, RistLeg, RistNews, RistOutputConfig, RistOutputSeed, RistSourceConfig,
    RistSourceSeed, SourceSockets,
};
use crate::flow::srt::Part;
use crate::flow::stats::{OutputStats, SourceStats};
use crate::io::endpoint::{Endpoint, EndpointSpec};
use crate::io::links::Links;
use crate::io::open::{Family, OpenError, ReceiveSpec, SendSpec};
use crate::proto::rist::LegId;
use crate::proto::rist::psk::{Key, Nonce, Parity};
use crate::proto::rist::tunnel::{SendKey, TunnelConfig, TunnelEvent, TunnelKeys};
use crate::supervisor::entry::{self, Entry, Env, Problem};
use crate::supervisor::kept::{LegKey, Owner};
use crate::supervisor::resolve::{self, SEND_BUFFER};

/// What to ask of the kernel for a socket of RTCP: in both directions.
const CONTROL_BUFFER: usize = 1 << 20;
/// The virtual ports of a tunnel, as librist has them.
const VIRTUAL_PORTS: (u16, u16) = (32_768, 1968);

fn failed(error: &OpenError) -> Problem {
    Problem::Open(error.to_string())
}

/// A key to send with, of the passphrase at this place and a nonce that is new.
fn send_key(encryption: &RistEncryption, place: usize) -> Result<SendKey, Problem> {
    let fault = || Problem::Open("the kernel gives no random numbers for a key".to_owned());
    let nonce = loop {
        let random = getrandom::u32().map_err(|_| fault())?;
        // Nearly always the first one.
        if let Some(nonce) = Nonce::new(random.to_be_bytes(), Parity::Even) {
            break nonce;
        }
    };
    let passphrase = encryption.passphrases.get(place).ok_or_else(|| Problem::Open("no passphrase".to_owned()))?;
    Ok(SendKey { nonce, key: Key::derive(passphrase.secret().bytes(), nonce, encryption.key_length) })
}

fn tunnel(profile: &RistProfile) -> Result<Box<TunnelConfig>, Problem> {
    let [a, b, c, d] = entry::random().to_be_bytes();
    Ok(Box::new(TunnelConfig {
        ports: VIRTUAL_PORTS,
        key: profile.encryption().map(|encryption| send_key(encryption, 0)).transpose()?,
        rotate_after: 0,
        // What others send so they have made public themselves.
        accept_weak_counter: true,
        // Of no vendor.
        mac: [2, 0, a, b, c, d],
    }))
}

fn source_config(plan: &SourcePlan, rist: &RistInput) -> RistSourceConfig {
    RistSourceConfig { latency: rist.latency, allow: rist.allow.clone(), max_bitrate: plan.max_bitrate }
}

fn output_config(plan: &OutputPlan, rist: &RistRoute) -> RistOutputConfig {
    RistOutputConfig { latency: rist.latency, ttl: plan.ttl, tos: plan.dscp.tos() }
}

/// What to open for a source's RTCP, where it has a port of its own.
pub(in crate::supervisor) fn control_spec(spec: &ReceiveSpec, profile: &RistProfile) -> Option<ReceiveSpec> {
    if matches!(profile, RistProfile::Main { .. }) {
        return None;
    }
    let mut control = ReceiveSpec { receive_buffer: CONTROL_BUFFER, ..spec.clone() };
    // The plan has checked that it is even.
    control.bind.set_port(spec.bind.port() | 1);
    Some(control)
}

/// The members of a group tell it what they miss, at the port after that of media (TR-06-1, section 5.1).
fn group_spec(leg: LegConfig, links: &Links) -> ReceiveSpec {
    let mut bind = leg.address;
    bind.set_port(bind.port().saturating_add(1));
    ReceiveSpec {
        bind,
        dual_stack: false,
        interface: leg.interface.and_then(|index| links.of_index(index)),
        multicast_sources: Vec::new(),
        receive_buffer: CONTROL_BUFFER,
        timestamps: true,
        gro: false,
    }
}

impl Entry {
    fn rist_source_sockets(
        &self,
        name: &str,
        spec: &ReceiveSpec,
        profile: &RistProfile,
    ) -> Result<SourceSockets, Problem> {
        let open = |spec: &ReceiveSpec| {
            let socket = self.kept.answering(&self.name, Owner::Source(name.to_owned()), spec, CONTROL_BUFFER);
            socket.map_err(|error| failed(&error))
        };
        let first = open(spec)?;
        let Some(control) = control_spec(spec, profile) else {
            return Ok(SourceSockets::Main { tunnel: first, config: tunnel(profile)? });
        };
        let group = spec.bind.ip().is_multicast().then(|| (control.bind, spec.interface.as_ref().map(|i| i.index)));
        Ok(SourceSockets::Simple { media: first, control: open(&control)?, group })
    }

    fn leg_sockets(
        &self,
        (output, number): (&str, usize),
        leg: LegConfig,
        rist: &RistRoute,
        links: &Links,
    ) -> Result<LegSockets, Problem> {
        let family = Family::of(leg.address.ip());
        let key = |control: bool| LegKey { output: output.to_owned(), number, control };
        let hearing = |key: LegKey, port: u16, send_buffer: usize| -> Result<Endpoint, Problem> {
            let spec = EndpointSpec {
                bind: SocketAddr::new(family.unspecified(), port),
                dual_stack: false,
                interface: None,
                local_addresses: false,
                receive_buffer: CONTROL_BUFFER,
                send_buffer,
            };
            self.kept.leg(&self.name, key, &spec).map_err(|error| failed(&error))
        };
        match &rist.profile {
            RistProfile::Simple => {
                let spec = SendSpec { family, source_port: rist.source_port, send_buffer: SEND_BUFFER };
                let media = self.kept.leg_sender(&self.name, key(false), &spec).map_err(|error| failed(&error))?;
                let control = if leg.address.ip().is_multicast() {
                    let (spec, owner) = (group_spec(leg, links), Owner::Leg(key(true)));
                    let socket = self.kept.answering(&self.name, owner, &spec, CONTROL_BUFFER);
                    socket.map_err(|error| failed(&error))?
                } else {
                    // The plan leaves room for it.
                    let port = rist.source_port.map_or(0, |port| port.saturating_add(1));
                    hearing(key(true), port, CONTROL_BUFFER)?
                };
                Ok(LegSockets::Simple { media, control })
            }
            RistProfile::Main { .. } => {
                let tunnel_socket = hearing(key(false), rist.source_port.unwrap_or(0), SEND_BUFFER)?;
                Ok(LegSockets::Main { tunnel: tunnel_socket, config: tunnel(&rist.profile)? })
            }
        }
    }
}

impl Entry {
    /// Open a source by RIST. Beside it the bytes of receive buffer that the kernel granted.
    pub(in crate::supervisor) fn open_rist_source<S>(
        &mut self,
        name: &str,
        plan: &SourcePlan,
        rist: &RistInput,
        stats: Arc<SourceStats>,
        env: &Env<'_>,
    ) -> Result<(entry::Part<S>, usize), Problem> {
        let spec = resolve::rist_source(plan, rist, env.links).map_err(Problem::Unresolved)?;
        let sockets = self.rist_source_sockets(name, &spec, &rist.profile).inspect_err(|_| {
            // All of them, or none.
            self.kept.release(&self.name, &Owner::Source(name.to_owned()));
        })?;
        let granted = match &sockets {
            SourceSockets::Simple { media: first, .. } | SourceSockets::Main { tunnel: first, .. } => first.granted(),
        };
        // From here on the task says whether it is on air; until it does, it is not.
        stats.on_air.set(0);
        self.ensure_task(env);
        let figures = Arc::default();
        let seed = RistSourceSeed {
            sockets,
            config: source_config(plan, rist),
            ssrc: entry::random(),
            figures: Arc::clone(&figures),
        };
        self.send(FlowCommand::OpenRistSource { name: name.to_owned(), seed: Box::new(seed), stats });
        let place = Place::Source(Box::new(spec), figures);
        Ok((entry::Part::Rist(Box::new(RistOpen { profile: rist.profile.clone(), place })), granted))
    }

    /// Open an output by RIST. Its SSRC is a new one, as receivers have heard that the one before left, but for that of the
    /// process before, which has not said so.
    pub(in crate::supervisor) fn open_rist_output<S>(
        &mut self,
        name: &str,
        plan: &OutputPlan,
        rist: &RistRoute,
        stats: Arc<OutputStats>,
        env: &Env<'_>,
    ) -> Result<(entry::Part<S>, u32), Problem> {
        let legs = resolve::legs(plan, &rist.destination, &rist.legs, (env.links, env.names), env.now);
        let legs = legs.map_err(Problem::Unresolved)?;
        let open = |number: usize| -> Result<Option<LegSockets>, Problem> {
            legs[number].map(|leg| self.leg_sockets((name, number), leg, rist, env.links)).transpose()
        };
        let sockets = open(0).and_then(|first| Ok([first, open(1)?])).inspect_err(|_| {
            self.kept.release_all(&self.name, |owner| owner.is_of_output(name, None));
        })?;
        self.ensure_task(env);
        let before = self.ssrcs.remove(name);
        let (figures, ssrc) = (Arc::default(), before.unwrap_or_else(|| entry::random() & !1));
        let seed = RistOutputSeed { config: output_config(plan, rist), ssrc, figures: Arc::clone(&figures) };
        let encryption = self.encryption(plan);
        self.send(FlowCommand::OpenRistOutput { name: name.to_owned(), seed, encryption, stats });
        for (number, (leg, sockets)) in legs.into_iter().zip(sockets).enumerate() {
            if let (Some(leg), Some(sockets)) = (leg, sockets) {
                self.set_rist_leg(name, number, Some((leg, sockets)));
            }
        }
        let place = Place::Output(legs, figures);
        Ok((entry::Part::Rist(Box::new(RistOpen { profile: rist.profile.clone(), place })), ssrc))
    }

    fn set_rist_leg(&self, name: &str, number: usize, leg: Option<(LegConfig, LegSockets)>) {
        let leg =
            leg.map(|(LegConfig { address, interface }, sockets)| Box::new(RistLeg { address, interface, sockets }));
        self.send(FlowCommand::SetRistLeg(name.to_owned(), number, leg));
    }

    /// Change what can be while a source goes on.
    pub(in crate::supervisor) fn retune_rist_source(&mut self, name: &str) {
        let Some(plan) = self.plan.sources.get(name).cloned() else { return };
        let Some(rist) = plan.rist() else { return };
        self.send(FlowCommand::RetuneRistSource(name.to_owned(), source_config(&plan, rist)));
        let open = self.sources.get_mut(name).and_then(|source| source.part.rist_mut());
        if open.is_some_and(|open| open.take_profile(&rist.profile)) {
            self.send(FlowCommand::RenewRistKeys(Part::Source(name.to_owned())));
        }
    }

    /// Change what can be while an output goes on: its legs too may come and go.
    pub(in crate::supervisor) fn retune_rist_output(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.outputs.get(name).cloned() else { return };
        let Some(rist) = plan.rist() else { return };
        self.send(FlowCommand::RetuneRistOutput(name.to_owned(), output_config(&plan, rist)));
        let Some(open) = self.outputs.get_mut(name).and_then(|output| output.part.rist_mut()) else { return };
        let renewed = open.take_profile(&rist.profile);
        let (mut legs, mut changes) = (open.legs(), Vec::new());
        let now = resolve::legs(&plan, &rist.destination, &rist.legs, (env.links, env.names), env.now);
        if let Ok(now) = now {
            for (number, (there, wanted)) in legs.iter_mut().zip(now).enumerate().filter(|(_, (a, b))| **a != *b) {
                self.kept.release_all(&self.name, |owner| owner.is_of_output(name, Some(number)));
                // Without sockets for it the leg stays as it is; this is tried again.
                let sockets = wanted.map(|leg| self.leg_sockets((name, number), leg, rist, env.links)).transpose();
                let Ok(sockets) = sockets else { continue };
                *there = wanted;
                changes.push((number, wanted.zip(sockets)));
            }
            if let Some(open) = self.outputs.get_mut(name).and_then(|output| output.part.rist_mut())
                && let Place::Output(there, _) = &mut open.place
            {
                *there = legs;
            }
        }
        changes.into_iter().for_each(|(number, leg)| self.set_rist_leg(name, number, leg));
        if renewed {
            self.send(FlowCommand::RenewRistKeys(Part::Output(name.to_owned())));
        }
    }

    /// A tunnel asks for keys. They are derived away from every thread that has something else to do.
    pub(in crate::supervisor) fn hear_rist(&self, news: RistNews) {
        let RistNews { part, leg, event, .. } = news;
        let profile = match &part {
            Part::Source(name) => self.plan.sources.get(name).and_then(|plan| Some(&plan.rist()?.profile)),
            Part::Output(name) => self.plan.outputs.get(name).and_then(|plan| Some(&plan.rist()?.profile)),
            Part::Entitlement(_) => None,
        };
        let Some(encryption) = profile.and_then(RistProfile::encryption).cloned() else { return };
        let answers = matches!(part, Part::Source(_));
        match event {
            RistEvent::Tunnel(TunnelEvent::NeedKey { nonce, length }) => self.derive_rist(part, leg, move || {
                let passphrases = encryption.passphrases.iter();
                let keys =
                    passphrases.map(|passphrase| Key::derive(passphrase.secret().bytes(), nonce, length)).collect();
                Some(TunnelKeys::Receive(nonce, keys))
            }),
            // Which one the sender knows is told when it is.
            RistEvent::Tunnel(TunnelEvent::NeedSendKey) if answers && encryption.passphrases.len() > 1 => {}
            // Where there is none to have, the present one stays.
            RistEvent::Tunnel(TunnelEvent::NeedSendKey) => {
                self.derive_rist(part, leg, move || send_key(&encryption, 0).ok().map(TunnelKeys::Send));
            }
            RistEvent::SenderUses(place) if encryption.passphrases.len() > 1 => {
                self.derive_rist(part, leg, move || send_key(&encryption, place).ok().map(TunnelKeys::Send));
            }
            // A wrong one shows in the figures, and in a condition; where there is one alone it is in use.
            RistEvent::Tunnel(TunnelEvent::WrongPassphrase) | RistEvent::SenderUses(_) => {}
        }
    }

    fn derive_rist(&self, part: Part, leg: LegId, keys: impl FnOnce() -> Option<TunnelKeys> + Send + 'static) {
        let Some(task) = &self.task else { return };
        let courier = task.commands.courier();
        // The flow's task has them as soon as they are there; nobody waits here.
        drop(tokio::task::spawn_blocking(move || {
            if let Some(keys) = keys() {
                courier.send(FlowCommand::ProvideRistKeys(part, RistKeys { leg, keys }));
            }
        }));
    }
}

impl RistOpen {
    /// The profile is this now. Whether its keys are others.
    fn take_profile(&mut self, profile: &RistProfile) -> bool {
        let before = std::mem::replace(&mut self.profile, profile.clone());
        let secrets = |profile: &RistProfile| {
            let encryption = profile.encryption()?;
            Some((encryption.passphrases.iter().map(|p| p.secret().clone()).collect::<Vec<_>>(), encryption.key_length))
        };
        secrets(&before) != secrets(profile)
    }
}
