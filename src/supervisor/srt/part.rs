//! Sources and outputs by SRT: opened, changed while they run, and called again.

use std::net::IpAddr;
use std::sync::Arc;

use super::call::{Call, CallPlan, Home};
use super::door::{Roster, Rules};
use super::keys::{Derived, Job, Work};
use super::ports::Behind;
use super::view::end_in_words;
use super::{SrtOpen, Way};
use crate::config::plan::{OutputPlan, SourcePlan, SrtMode, SrtPlan};
use crate::config::value::Interface;
use crate::flow::FlowCommand;
use crate::flow::srt::stats::{PeerStats, Phase};
use crate::flow::srt::{End, Keks, LinkEvent, LinkNews, LinkState, Part, SrtOutputConfig, SrtSourceConfig};
use crate::flow::stats::{OutputStats, SourceStats};
use crate::io::endpoint::Endpoint;
use crate::io::open::ReceiveSpec;
use crate::observe::event::{Event, emit};
use crate::proto::srt::km::{KeyLength, Salt};
use crate::proto::srt::rekey::KM_REFRESH;
use crate::supervisor::entry::{self, Entry, Env, Problem};
use crate::supervisor::resolve;
use crate::time::Instant;

impl SrtOpen {
    /// When it calls next.
    fn next_call(&self) -> Option<Instant> {
        if let Way::Call(call) = &self.way { call.due() } else { None }
    }

    /// Its call, if it makes one.
    pub(in crate::supervisor) fn call(&self) -> Option<&Call> {
        if let Way::Call(call) = &self.way { Some(call) } else { None }
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        if let Way::Call(call) = &mut self.way { Some(call) } else { None }
    }

    /// Whether others are called at its port too.
    pub(super) fn is_shared(&self) -> bool {
        matches!(&self.way, Way::Door(door) if door.is_shared())
    }

    fn granted(&self) -> usize {
        match &self.way {
            Way::Door(door) => door.granted,
            Way::Call(call) => call.granted(),
        }
    }

    /// Its connections that are made.
    pub(in crate::supervisor) fn connected(&self) -> Vec<Arc<PeerStats>> {
        let mut peers = self.roster.peers();
        peers.retain(|peer| peer.phase() == Phase::Connected);
        peers
    }
}

fn km_refresh(plan: &SrtPlan) -> u32 {
    plan.encryption.as_ref().map_or(KM_REFRESH, |encryption| encryption.km_refresh_rate)
}

fn rules(plan: &SrtPlan) -> Option<Rules> {
    let SrtMode::Listener { allow, stream_id, max_callers, .. } = &plan.mode else { return None };
    Some(Rules {
        pattern: stream_id.clone(),
        allow: allow.clone(),
        passphrases: plan.passphrases().to_vec(),
        km_refresh: km_refresh(plan),
        latency: plan.latency,
        most: *max_callers,
    })
}

fn call_plan(plan: &SrtPlan) -> Option<CallPlan> {
    let (rendezvous, stream_id) = match &plan.mode {
        SrtMode::Listener { .. } => return None,
        SrtMode::Caller { stream_id, .. } => (false, stream_id.clone()),
        SrtMode::Rendezvous { .. } => (true, None),
    };
    Some(CallPlan {
        remote: plan.mode.remote()?.clone(),
        stream_id,
        rendezvous,
        latency: plan.latency,
        passphrases: plan.passphrases().to_vec(),
        key_length: plan.encryption.as_ref().map_or(KeyLength::Aes128, |encryption| encryption.key_length),
        km_refresh: km_refresh(plan),
    })
}

fn output_config(plan: &OutputPlan) -> SrtOutputConfig {
    SrtOutputConfig { ttl: plan.ttl, tos: plan.dscp.tos() }
}

impl Entry {
    /// Open a source by SRT. Beside it the bytes of receive buffer that the kernel granted.
    pub(in crate::supervisor) fn open_srt_source(
        &mut self,
        name: &str,
        plan: &SourcePlan,
        srt: &SrtPlan,
        stats: Arc<SourceStats>,
        env: &Env<'_>,
    ) -> Result<(entry::Part<ReceiveSpec>, usize), Problem> {
        let config = SrtSourceConfig { max_bitrate: plan.max_bitrate };
        // From here on the task says whether it is on air; until it does, it is not.
        stats.on_air.set(0);
        let open = FlowCommand::OpenSrtSource { name: name.to_owned(), config, stats };
        let srt = self.open_srt(Part::Source(name.to_owned()), srt, plan.interface.as_ref(), open, env)?;
        let granted = srt.granted();
        Ok((entry::Part::Connecting(Box::new(srt)), granted))
    }

    /// Open an output by SRT.
    pub(in crate::supervisor) fn open_srt_output<S>(
        &mut self,
        name: &str,
        plan: &OutputPlan,
        srt: &SrtPlan,
        stats: Arc<OutputStats>,
        env: &Env<'_>,
    ) -> Result<entry::Part<S>, Problem> {
        let (part, config, encryption) = (Part::Output(name.to_owned()), output_config(plan), self.encryption(plan));
        let open = FlowCommand::OpenSrtOutput { part: part.clone(), config, encryption, stats };
        let srt = self.open_srt(part, srt, plan.interface.as_ref(), open, env)?;
        Ok(entry::Part::Connecting(Box::new(srt)))
    }

    fn open_srt(
        &mut self,
        part: Part,
        plan: &SrtPlan,
        interface: Option<&Interface>,
        open: FlowCommand,
        env: &Env<'_>,
    ) -> Result<SrtOpen, Problem> {
        let spec = resolve::endpoint(&plan.mode, interface, env.links).map_err(Problem::Unresolved)?;
        let failed = |error: crate::io::open::OpenError| Problem::Open(error.to_string());
        self.ensure_task(env);
        let Some(task) = &self.task else { return Err(Problem::Open("the flow has no task".to_owned())) };
        let roster = Arc::new(Roster::new(self.tallies.entry(part.clone()).or_default().clone()));
        let way = match (rules(plan), call_plan(plan)) {
            (Some(rules), _) => {
                let (flow, courier) = (self.name.clone(), task.commands.courier());
                let shard = task.shard;
                let behind = Behind { flow, part: part.clone(), courier, shard, roster: roster.clone() };
                let door = env.ports.borrow_mut().open(&spec, behind, rules.clone()).map_err(failed)?;
                // Who comes in finds the part there, and those who are in already.
                self.send(open);
                let ports = env.ports.borrow();
                let went_on = self.go_on_with(&part, &roster, |link| ports.socket_of(&spec, link.id(), shard));
                unwelcome(&went_on, &rules).into_iter().for_each(|peer| self.send(FlowCommand::CloseLink(peer)));
                door.let_in();
                Way::Door(door)
            }
            (None, Some(plan)) => {
                let (endpoint, was_open) = self.kept.calling(&self.name, &part, &spec).map_err(failed)?;
                let endpoint = Arc::new(endpoint);
                self.send(open);
                let went_on = self.go_on_with(&part, &roster, |_| was_open.then(|| endpoint.clone()));
                let passphrases = plan.passphrases.clone();
                let mut call = Call::new(plan, endpoint, roster.clone(), env.now);
                for peer in &went_on {
                    call.goes_on(peer);
                    if !peer.fits(&passphrases) {
                        peer.close_because(PASSPHRASE_GONE.to_owned());
                        self.send(FlowCommand::CloseLink(peer.number));
                    }
                }
                let home = Home { flow: &self.name, part: &part };
                if let Some(command) = call.go_on(home, env) {
                    self.send(command);
                }
                Way::Call(Box::new(call))
            }
            (None, None) => return Err(Problem::Open("neither called nor calling".to_owned())),
        };
        Ok(SrtOpen { spec, way, roster })
    }

    /// Connections of a part that were made in the process before this one go on, by these sockets.
    pub(super) fn go_on_with(
        &mut self,
        part: &Part,
        roster: &Roster,
        socket: impl Fn(&LinkState) -> Option<Arc<Endpoint>>,
    ) -> Vec<Arc<PeerStats>> {
        let mut peers = Vec::new();
        for link in self.links_before(part) {
            // Whoever is left is told to connect again.
            let Some(socket) = socket(&link).filter(|_| self.kept.goes_on(&link.path)) else { continue };
            let seed = link.into_seed(socket);
            roster.add(seed.stats.clone());
            peers.push(seed.stats.clone());
            self.send(FlowCommand::OpenLink(part.clone(), Box::new(seed)));
        }
        peers
    }

    fn open_parts(&mut self) -> impl Iterator<Item = (Part, &mut SrtOpen)> {
        let sources = self.sources.iter_mut();
        let sources = sources.filter_map(|(name, s)| Some((Part::Source(name.clone()), s.part.srt_mut()?)));
        let outputs = self.outputs.iter_mut();
        sources.chain(outputs.filter_map(|(name, o)| Some((Part::Output(name.clone()), o.part.srt_mut()?))))
    }

    fn open_part(&mut self, part: &Part) -> Option<&mut SrtOpen> {
        match part {
            Part::Source(name) => self.sources.get_mut(name)?.part.srt_mut(),
            Part::Output(name) => self.outputs.get_mut(name)?.part.srt_mut(),
            Part::Entitlement(_) => None,
        }
    }

    fn srt_plan(&self, part: &Part) -> Option<&SrtPlan> {
        match part {
            Part::Source(name) => self.plan.sources.get(name)?.srt(),
            Part::Output(name) => self.plan.outputs.get(name)?.srt(),
            Part::Entitlement(_) => None,
        }
    }

    /// When [`Self::call`] has something to do.
    pub(in crate::supervisor) fn next_call(&self) -> Option<Instant> {
        let sources = self.sources.values().filter_map(|source| source.part.srt());
        let outputs = self.outputs.values().filter_map(|output| output.part.srt());
        sources.chain(outputs).filter_map(SrtOpen::next_call).min()
    }

    /// Make the calls that are due.
    pub(in crate::supervisor) fn call(&mut self, env: &Env<'_>) {
        let flow = self.name.clone();
        let calls = self.open_parts().filter_map(|(part, srt)| Some((part, srt.call_mut()?)));
        let commands: Vec<_> =
            calls.filter_map(|(part, call)| call.go_on(Home { flow: &flow, part: &part }, env)).collect();
        commands.into_iter().for_each(|command| self.send(command));
    }

    /// Change what can be while connections go on; those that would not be made any more end.
    pub(in crate::supervisor) fn retune_srt(&mut self, part: &Part, plan: &SrtPlan, env: &Env<'_>) {
        let Some(open) = self.open_part(part) else { return };
        let ending = match (&mut open.way, rules(plan), call_plan(plan)) {
            (Way::Door(door), Some(rules), _) => {
                let ending = unwelcome(&open.roster.peers(), &rules);
                door.set_rules(rules);
                ending
            }
            (Way::Call(call), _, Some(plan)) => {
                let ending = call.retune(plan, env.now);
                let peers = ending.iter().filter_map(|number| open.roster.peer(*number));
                peers.for_each(|peer| peer.close_because(PASSPHRASE_GONE.to_owned()));
                ending
            }
            _ => Vec::new(),
        };
        ending.into_iter().for_each(|peer| self.send(FlowCommand::CloseLink(peer)));
        self.call(env);
    }

    /// The same for an output, and what is on its datagrams.
    pub(in crate::supervisor) fn retune_srt_output(&mut self, name: &str, env: &Env<'_>) {
        let Some(plan) = self.plan.outputs.get(name) else { return };
        let Some(srt) = plan.srt().cloned() else { return };
        self.send(FlowCommand::RetuneSrtOutput(name.to_owned(), output_config(plan)));
        self.retune_srt(&Part::Output(name.to_owned()), &srt, env);
    }

    /// Whether the socket of a part would be another one if it were opened now.
    pub(in crate::supervisor) fn srt_moved(&self, part: &Part, interface: Option<&Interface>, env: &Env<'_>) -> bool {
        let open = match part {
            Part::Source(name) => self.sources.get(name).and_then(|source| source.part.srt()),
            Part::Output(name) => self.outputs.get(name).and_then(|output| output.part.srt()),
            Part::Entitlement(_) => None,
        };
        let (Some(open), Some(plan)) = (open, self.srt_plan(part)) else { return false };
        resolve::endpoint(&plan.mode, interface, env.links).as_ref() != Ok(&open.spec)
    }

    /// The flow's task tells of a connection.
    pub(in crate::supervisor) fn hear(&mut self, news: LinkNews, env: &Env<'_>) {
        let LinkNews { part, peer, what, .. } = news;
        let flow = self.name.clone();
        match what {
            // Told by the ledger.
            LinkEvent::Connected(_) if matches!(part, Part::Entitlement(_)) => {}
            LinkEvent::WentOn(_) => {}
            LinkEvent::Connected(_) => {
                if let Some(call) = self.open_part(&part).and_then(SrtOpen::call_mut) {
                    call.connected(peer.number);
                }
                emit(Event::SrtConnected { flow, part, peer: peer.address, terms: super::view::terms(&peer) });
            }
            LinkEvent::NeedKek(salt, length) => self.derive(part, &peer, salt, length, env),
            LinkEvent::KeyUnconfirmed => {
                let why = "it does not take the next key; the present one stays in use".to_owned();
                emit(Event::SrtKeyUnconfirmed { flow, part, peer: peer.address, why });
            }
            LinkEvent::Ended(end) if matches!(part, Part::Entitlement(_)) => {
                let why = peer.why_closed().map_or_else(|| end_in_words(&end), str::to_owned);
                let entry = self.entitlements.get(&part.to_string()).filter(|_| peer.facts.get().is_some());
                entry.iter().for_each(|entry| entry.roster.ended(peer.address, why.clone()));
            }
            LinkEvent::Ended(end) => {
                let was_connected = peer.facts.get().is_some();
                if was_connected {
                    let why = peer.why_closed().map_or_else(|| end_in_words(&end), str::to_owned);
                    let open = self.open_part(&part);
                    open.iter().for_each(|open| open.roster.ended(peer.address, why.clone()));
                    // Receivers come and go.
                    let called = matches!(part, Part::Output(_)) && open.is_some_and(|open| open.call().is_none());
                    let orderly = end == End::Closed || end == End::PeerClosed && called;
                    emit(Event::SrtEnded { flow, part: part.clone(), peer: peer.address, why, orderly });
                }
                self.ended(&part, &peer, end, was_connected, env);
            }
        }
    }

    fn ended(&mut self, part: &Part, peer: &PeerStats, end: End, was_connected: bool, env: &Env<'_>) {
        let remote = self.srt_plan(part).and_then(|plan| plan.mode.remote()).map(ToString::to_string);
        let flow = self.name.clone();
        let Some(call) = self.open_part(part).and_then(SrtOpen::call_mut) else { return };
        let why = end_in_words(&end);
        let known = call.last.as_ref().is_some_and(|(last, _)| *last == super::Ended::Link(end.clone()));
        if call.ended(peer.number, end, was_connected, env) && !was_connected && !known {
            let (part, remote) = (part.clone(), remote.unwrap_or_default());
            emit(Event::SrtCallFailed { flow, part, remote, why });
        }
    }

    /// A peer chose a salt: derive keys with it for each passphrase that may be the right one.
    fn derive(&self, part: Part, peer: &PeerStats, salt: Salt, length: KeyLength, env: &Env<'_>) {
        let passphrases = match part {
            // Of a subscriber's, the one that it came with.
            Part::Entitlement(_) => peer.passphrase.iter().cloned().collect(),
            _ => self.srt_plan(&part).map(|plan| plan.passphrases().to_vec()).unwrap_or_default(),
        };
        let job = Job { flow: self.name.clone(), part, work: Work::Peer(peer.number) };
        env.keys.derive(job, passphrases, salt, length);
    }

    /// Keys that were asked for are there.
    pub(in crate::supervisor) fn derived(&mut self, derived: Derived, env: &Env<'_>) {
        let Derived { job: Job { part, work, .. }, mut keks } = derived;
        match work {
            Work::Peer(peer) => self.send(FlowCommand::ProvideKeks(Keks { peer, keks })),
            Work::Call(asked) => {
                if let Some(call) = self.open_part(&part).and_then(SrtOpen::call_mut) {
                    call.derived(asked, keks.pop(), env.now);
                }
                self.call(env);
            }
        }
    }

    /// End the connections that an operator means by `peer`: their number, their address, or address and port. Their
    /// parts, and where they led.
    pub(in crate::supervisor) fn disconnect(&mut self, peer: &str, by: &str) -> Vec<(Part, String)> {
        let is_meant = |stats: &PeerStats| {
            let (address, number) = (stats.address, peer.parse::<u64>().ok());
            number == Some(stats.number)
                || peer.parse() == Ok(address)
                || peer.parse::<IpAddr>().is_ok_and(|ip| ip == address.ip())
        };
        let mut meant = Vec::new();
        for (part, open) in self.open_parts() {
            let peers = open.connected().into_iter().filter(|peer| is_meant(peer));
            meant.extend(peers.map(|peer| (part.clone(), peer)));
        }
        for (name, entry) in &self.entitlements {
            let peers = entry.connected().into_iter().filter(|peer| is_meant(peer));
            meant.extend(peers.map(|peer| (Part::Entitlement(name.clone()), peer)));
        }
        for (_, peer) in &meant {
            peer.close_because(format!("disconnected by {by}"));
            self.send(FlowCommand::CloseLink(peer.number));
        }
        meant.into_iter().map(|(part, peer)| (part, peer.address.to_string())).collect()
    }
}

/// Why connections end when passphrases change.
const PASSPHRASE_GONE: &str = "its passphrase is not listed any more";

/// Those that would not be let in any more.
fn unwelcome(peers: &[Arc<PeerStats>], rules: &Rules) -> Vec<u64> {
    let mut unwelcome = Vec::new();
    for peer in peers {
        let ip = peer.address.ip();
        let why = if rules.allow.as_ref().is_some_and(|list| !list.iter().any(|net| net.contains(&ip))) {
            "`allow` does not list it any more"
        } else if !peer.fits(&rules.passphrases) {
            PASSPHRASE_GONE
        } else {
            continue;
        };
        peer.close_because(why.to_owned());
        unwelcome.push(peer.number);
    }
    unwelcome
}
