//! Who owns which port, group and interface: every enabled source and output puts in its claims, and of two that cannot
//! both be met one flow is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::compile::Places;
use super::diagnostic::{Diagnostic, Level};
use super::plan::{FlowPlan, OutputPlan, Stream, mixes};
use super::value::{Destination, FlowName, Interface};

/// What is claimed of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    /// Datagrams to this address, on this interface, from these senders (none: any).
    Receive { ip: Option<IpAddr>, interface: Option<Interface>, senders: Vec<IpAddr> },
    /// The local port of a sender.
    SendFrom,
    /// Not the port of this machine but of a receiver: it must not be one of our own.
    SendTo { ip: IpAddr, interface: Option<Interface> },
}

/// One claim of a flow.
#[derive(Debug, Clone)]
struct Claim {
    flow: FlowName,
    /// `source "a"`
    part: String,
    /// `FILE:LINE:COLUMN`
    written: String,
    place: (usize, usize),
    port: u16,
    /// What comes, or goes, there.
    stream: Stream,
    what: Use,
}

/// Can a datagram be for both addresses? `[::]` takes IPv4 too.
fn addresses_meet(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let covers = |wild: Option<IpAddr>, other: Option<IpAddr>| match wild {
        None => true,
        Some(IpAddr::V6(v6)) => v6.is_unspecified(),
        Some(IpAddr::V4(v4)) => v4.is_unspecified() && other.is_none_or(|ip| ip.is_ipv4()),
    };
    a == b || covers(a, b) || covers(b, a)
}

/// Two that are named and differ don't; one that is left to the system may be any.
fn interfaces_meet(a: Option<&Interface>, b: Option<&Interface>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a == b)
}

/// Do datagrams sent to `ip` come back to this receiver? Only where that is certain.
fn loops(ip: IpAddr, out: Option<&Interface>, bound: Option<IpAddr>, interface: Option<&Interface>) -> bool {
    if ip.is_multicast() {
        return bound == Some(ip) && interfaces_meet(out, interface);
    }
    let on_loopback = interface.is_none_or(|i| *i == Interface::Name("lo".into()));
    bound == Some(ip) || (ip.is_loopback() && on_loopback && addresses_meet(bound, Some(ip)))
}

impl Claim {
    /// Does it claim the same, wherever that is written?
    fn is_same(&self, other: &Self) -> bool {
        (self.port, &self.what) == (other.port, &other.what)
    }

    /// Why `self` cannot be met beside `other`: the message, and the way out.
    fn against(&self, other: &Self) -> Option<(String, &'static str)> {
        let owner = || {
            let flow = if self.flow == other.flow { "this flow".into() } else { format!("flow \"{}\"", other.flow) };
            let fec =
                if other.stream == Stream::Media { String::new() } else { format!("{} of ", other.stream.name()) };
            format!("{fec}{} of {flow} ({})", other.part, other.written)
        };
        // The text stands where the media port is written.
        let fec = if self.stream == Stream::Media { String::new() } else { format!(" (for {})", self.stream.name()) };
        let here = || if fec.is_empty() { "here".to_owned() } else { format!("on port {}{fec}", self.port) };
        let taken =
            || (format!("port {}{fec} is already taken by {}", self.port, owner()), "give one of them another port");
        let another = "an output must not feed a source of the same appliance: change one of them";
        match (&self.what, &other.what) {
            (
                Use::Receive { ip, interface, senders },
                Use::Receive { ip: other_ip, interface: other_interface, senders: other_senders },
            ) => {
                if !addresses_meet(*ip, *other_ip) || !interfaces_meet(interface.as_ref(), other_interface.as_ref()) {
                    return None;
                }
                let Some(group) = ip.filter(|ip| ip.is_multicast() && *other_ip == Some(*ip)) else {
                    return Some(taken());
                };
                let apart = !senders.is_empty() && !other_senders.is_empty();
                if apart && !senders.iter().any(|s| other_senders.contains(s)) {
                    return None;
                }
                let message = format!("{}{fec} is already received by {}", SocketAddr::new(group, self.port), owner());
                Some((message, "one flow can feed many outputs: add yours to that flow"))
            }
            (Use::SendTo { ip, interface }, Use::Receive { ip: bound, interface: on, .. })
                if loops(*ip, interface.as_ref(), *bound, on.as_ref()) =>
            {
                Some((format!("loop: {} receives {}", owner(), here()), another))
            }
            (Use::Receive { ip: bound, interface: on, .. }, Use::SendTo { ip, interface })
                if loops(*ip, interface.as_ref(), *bound, on.as_ref()) =>
            {
                Some((format!("loop: {} sends {}", owner(), here()), another))
            }
            (Use::SendFrom, Use::Receive { .. }) | (Use::Receive { .. }, Use::SendFrom) => Some(taken()),
            (Use::SendFrom, Use::SendFrom) if self.flow != other.flow => Some(taken()),
            _ => None,
        }
    }
}

/// A flow that wants to run, or goes on running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contender<'a> {
    /// The flow.
    pub(super) name: &'a FlowName,
    /// What its file says now; `None`: refused, busy or unreadable.
    pub(super) wanted: Option<&'a FlowPlan>,
    /// What runs, and goes on running if the file is refused.
    pub(super) running: Option<&'a FlowPlan>,
    /// Its file, for messages.
    pub(super) file: &'a Path,
    /// Where `wanted` says it.
    pub(super) places: &'a Places,
    /// Loses against all others: the file that is being checked.
    pub(super) late: bool,
}

impl Contender<'_> {
    /// The claims of `plan`, which is what the file says or what runs.
    fn claims(&self, plan: &FlowPlan) -> Vec<Claim> {
        let as_written = self.wanted == Some(plan);
        let claim = |part: String, path: &str, (stream, port), what| {
            let place = self.places.get(path).copied().filter(|_| as_written).unwrap_or_default();
            let file = self.file.display();
            let written = match place {
                (0, _) => format!("{file}, as it runs now"),
                (line, column) => format!("{file}:{line}:{column}"),
            };
            Claim { flow: plan.name.clone(), part, written, place, port, stream, what }
        };
        let mut claims = Vec::new();
        if !plan.enabled {
            return claims;
        }
        for (name, source) in plan.sources.iter().filter(|(_, s)| s.enabled) {
            let what = Use::Receive {
                ip: source.bind.ip,
                interface: source.interface.clone(),
                senders: source.multicast_sources.clone(),
            };
            for port in source.ports() {
                claims.push(claim(format!("source {name:?}"), &format!("sources.{name}.bind"), port, what.clone()));
            }
        }
        for (name, output) in plan.outputs.iter().filter(|(_, o)| o.enabled) {
            let part = format!("output {name:?}");
            for (path, (to, interface)) in places_of_paths(name, output).zip(output.paths()) {
                let Some(to) = to.address() else { continue };
                for (stream, offset) in output.protocol.streams() {
                    let Some(port) = to.port().checked_add(offset) else { continue };
                    let what = Use::SendTo { ip: to.ip(), interface: interface.cloned() };
                    claims.push(claim(part.clone(), &path, (stream, port), what));
                }
            }
            if let Some(port) = output.source_port {
                let part = format!("`source-port` of {part}");
                claims.push(claim(part, &format!("outputs.{name}.source-port"), (Stream::Media, port), Use::SendFrom));
            }
        }
        claims
    }

    /// What its file claims and it has already.
    fn kept_claims(&self) -> Vec<Claim> {
        let (Some(wanted), Some(running), false) = (self.wanted, self.running, self.late) else { return Vec::new() };
        let held = self.claims(running);
        self.claims(wanted).into_iter().filter(|claim| held.iter().any(|own| own.is_same(claim))).collect()
    }

    fn diagnostic(&self, severity: Level, (line, column): (usize, usize), message: String, help: &str) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.to_owned(),
            line,
            column,
            flow: Some(self.name.to_string()),
            message,
            help: Some(help.to_owned()),
        }
    }
}

/// What [`Places`] calls each of [`OutputPlan::paths`].
fn places_of_paths(name: &str, output: &OutputPlan) -> impl Iterator<Item = String> {
    let single = output.legs.is_empty().then(|| format!("outputs.{name}.destination"));
    let leg = move |number: usize| format!("outputs.{name}.legs.{number}.destination");
    single.into_iter().chain((1..=output.legs.len()).map(leg))
}

/// Of several faults at one place the first is enough: media and FEC ports conflict together.
fn one_a_place(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    faults.retain(|fault| seen.insert((fault.line, fault.column)));
    faults
}

/// Conflicts of a flow with itself.
pub(super) fn within(contender: &Contender<'_>, plan: &FlowPlan) -> Vec<Diagnostic> {
    let mut board = Board::default();
    let mut faults = Vec::new();
    // Sources first, so that the fault is shown at the output.
    for claim in contender.claims(plan) {
        faults.extend(
            board.fault(&claim).map(|(text, help)| contender.diagnostic(Level::Error, claim.place, text, help)),
        );
        board.take(claim);
    }
    one_a_place(faults)
}

/// The claims that are granted.
#[derive(Debug, Default)]
struct Board {
    /// Ports of this machine.
    taken: BTreeMap<u16, Vec<Claim>>,
    /// Ports of receivers. Many outputs send to the same one, and none of them minds another.
    fed: BTreeMap<u16, Vec<Claim>>,
    /// Destinations: what is sent there, by which protocol, and who does.
    sent_to: BTreeMap<Destination, Vec<(&'static str, Stream, String)>>,
}

impl Board {
    fn fault(&self, claim: &Claim) -> Option<(String, &'static str)> {
        let taken = self.taken.get(&claim.port).into_iter().flatten();
        let fed = self.fed.get(&claim.port).filter(|_| !matches!(claim.what, Use::SendTo { .. })).into_iter().flatten();
        taken.chain(fed).find_map(|granted| claim.against(granted))
    }

    fn take(&mut self, claim: Claim) {
        let ports = if matches!(claim.what, Use::SendTo { .. }) { &mut self.fed } else { &mut self.taken };
        ports.entry(claim.port).or_default().push(claim);
    }

    /// Note where the flow sends to, and warn where another does already.
    fn note_destinations(&mut self, contender: &Contender<'_>, plan: &FlowPlan) -> Vec<Diagnostic> {
        let (mut doubts, mut news) = (Vec::new(), Vec::new());
        for (name, output) in plan.outputs.iter().filter(|(_, o)| plan.enabled && o.enabled) {
            let protocol = output.protocol.name();
            let owner = format!("output {name:?} of flow \"{}\" ({})", contender.name, contender.file.display());
            for (path, (to, _)) in places_of_paths(name, output).zip(output.paths()) {
                let streams = output.protocol.streams();
                let own: Vec<_> = streams.filter_map(|(stream, n)| Some((to.at_offset(n)?, stream))).collect();
                let first = own.iter().find_map(|(to, stream)| {
                    let others = self.sent_to.get(to)?;
                    let first = others.iter().find(|(p, s, _)| mixes((protocol, *stream), (*p, *s)))?;
                    Some((to, first))
                });
                if let Some((to, (other, stream, first))) = first {
                    let at = contender.places.get(&path).copied().unwrap_or_default();
                    let what = if *stream == Stream::Media { *other } else { stream.name() };
                    let message = format!("{first} also sends {what} to {to}");
                    doubts.push(contender.diagnostic(
                        Level::Warning,
                        at,
                        message,
                        "the receiver gets both streams mixed",
                    ));
                }
                news.extend(own.into_iter().map(|(to, stream)| (to, (protocol, stream, owner.clone()))));
            }
        }
        // Not before: one flow's outputs have been weighed against each other already.
        for (to, sent) in news {
            self.sent_to.entry(to).or_default().push(sent);
        }
        doubts
    }
}

/// Which flows are refused because of others, and what is to be said.
///
/// What a flow has already and goes on wanting is its own, whatever else changes in its file. The rest goes to flows that
/// run on unchanged first, then by name; to `late` ones last. A refused flow that runs keeps what it runs with, so what
/// others wanted of that is refused too; one that does not run claims nothing.
pub(super) fn settle(contenders: &[Contender<'_>], max_flows: usize) -> (BTreeSet<FlowName>, Vec<Diagnostic>) {
    let mut order: Vec<_> = contenders.iter().collect();
    let changed = |c: &Contender<'_>| c.running.is_none() || c.wanted != c.running;
    order.sort_by_key(|c| (c.late, changed(c), c.name));
    let mut refused = BTreeSet::new();
    let mut said = Vec::new();
    loop {
        let (news, doubts) = pass(&order, &refused, max_flows);
        // A refused flow that runs falls back on its old claims, which others must have met first: start over.
        let back = news.iter().find(|(c, _)| c.running.is_some());
        match back {
            Some((contender, faults)) => {
                refused.insert(contender.name.clone());
                said.extend(faults.iter().cloned());
            }
            None => {
                for (contender, faults) in news {
                    refused.insert(contender.name.clone());
                    said.extend(faults);
                }
                said.extend(doubts);
                return (refused, said);
            }
        }
    }
}

type Refusals<'c, 'a> = Vec<(&'c Contender<'a>, Vec<Diagnostic>)>;

/// One round of [`settle`]: those refused, why, and warnings about the others.
fn pass<'c, 'a>(
    order: &[&'c Contender<'a>],
    refused: &BTreeSet<FlowName>,
    max_flows: usize,
) -> (Refusals<'c, 'a>, Vec<Diagnostic>) {
    let mut board = Board::default();
    let mut doubts = Vec::new();
    let mut refusals = Vec::new();
    let falls_back = |c: &Contender<'_>| c.wanted.is_none() || refused.contains(c.name);
    for contender in order {
        if let (true, Some(plan)) = (falls_back(contender), contender.running) {
            contender.claims(plan).into_iter().for_each(|claim| board.take(claim));
            board.note_destinations(contender, plan);
        }
    }
    let judged = |c: &&&Contender<'_>| !falls_back(c);
    for contender in order.iter().filter(judged) {
        contender.kept_claims().into_iter().for_each(|claim| board.take(claim));
    }
    let (mut old, mut new) = (0, 0);
    let running = order.iter().filter(|c| c.running.is_some()).count();
    for contender in order {
        old += usize::from(contender.running.is_some());
        let Some(plan) = contender.wanted.filter(|_| !falls_back(contender)) else { continue };
        let over = if contender.running.is_some() { old > max_flows } else { running + new >= max_flows };
        if over {
            let message = format!("one flow more than max-flows = {max_flows} allows");
            let help = "raise it in [limits] of mediaconnect.toml, or delete a flow";
            refusals.push((*contender, vec![contender.diagnostic(Level::Error, (0, 0), message, help)]));
            continue;
        }
        let kept = contender.kept_claims();
        let is_kept = |claim: &Claim| kept.iter().any(|own| own.is_same(claim));
        let claims: Vec<_> = contender.claims(plan).into_iter().filter(|claim| !is_kept(claim)).collect();
        let fault = |claim: &Claim| {
            let (message, help) = board.fault(claim)?;
            Some(contender.diagnostic(Level::Error, claim.place, message, help))
        };
        let faults = one_a_place(claims.iter().filter_map(fault).collect());
        if !faults.is_empty() {
            refusals.push((*contender, faults));
            continue;
        }
        new += usize::from(contender.running.is_none());
        claims.into_iter().for_each(|claim| board.take(claim));
        doubts.extend(board.note_destinations(contender, plan));
    }
    (refusals, doubts)
}
