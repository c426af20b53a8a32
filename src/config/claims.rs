//! Who owns which port, group and interface: every enabled source and output puts in its claims, and of two that cannot
//! both be met one flow is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::circle::Feeds;
pub(super) use self::claim::Claim;
use self::claim::{Conflict, End, Use};
use super::compile::Places;
use super::diagnostic::{Diagnostic, Level};
use super::plan::{Call, FlowPlan, OutputPlan, OutputRoute, SourceInput, SrtMode, SrtPlan, Stream, mixes};
use super::value::{Destination, FlowName, Interface};

mod circle;
mod claim;

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
        let place = |path: &str| self.places.get(path).copied().filter(|_| as_written);
        let claim = |part: &str, path: &str, (stream, port), what| {
            let (place, file) = (place(path).unwrap_or_default(), self.file.display());
            let written = match place {
                (0, _) => format!("{file}, as it runs now"),
                (line, column) => format!("{file}:{line}:{column}"),
            };
            let (flow, part) = (Some(plan.name.clone()), part.to_owned());
            Claim { flow, part, written, place, stream_id_place: None, port, stream, what }
        };
        let srt_claims = |part: &str, path: &str, srt: &SrtPlan, interface: Option<&Interface>, end| -> Vec<Claim> {
            let claim = |(key, port, what)| Claim {
                stream_id_place: place(&format!("{path}.stream-id")),
                ..claim(part, &format!("{path}.{key}"), (Stream::Media, port), what)
            };
            uses(srt, interface, end).into_iter().map(claim).collect()
        };
        let mut claims = Vec::new();
        if !plan.enabled {
            return claims;
        }
        for (name, source) in plan.sources.iter().filter(|(_, s)| s.enabled) {
            let (part, path, interface) = (format!("source {name:?}"), format!("sources.{name}"), &source.interface);
            match &source.input {
                SourceInput::Datagrams(input) => {
                    let senders = input.multicast_sources.clone();
                    let what = Use::Receive { ip: input.bind.ip, interface: interface.clone(), senders };
                    claims.extend(input.ports().map(|port| claim(&part, &format!("{path}.bind"), port, what.clone())));
                }
                SourceInput::Rist(rist) => {
                    let senders = rist.multicast_sources.clone();
                    let what = Use::Receive { ip: rist.bind.ip, interface: interface.clone(), senders };
                    claims.extend(rist.ports().map(|port| claim(&part, &format!("{path}.bind"), port, what.clone())));
                }
                SourceInput::Srt(srt) => claims.extend(srt_claims(&part, &path, srt, interface.as_ref(), End::Source)),
            }
        }
        for (name, output) in plan.outputs.iter().filter(|(_, o)| o.enabled) {
            let (part, path) = (format!("output {name:?}"), format!("outputs.{name}"));
            for (path, (to, interface)) in places_of_paths(name, output).zip(output.paths()) {
                let Some(to) = to.address() else { continue };
                for (stream, offset) in output.streams() {
                    let Some(port) = to.port().checked_add(*offset) else { continue };
                    let what = Use::SendTo { ip: to.ip(), interface: interface.cloned() };
                    claims.push(claim(&part, &path, (*stream, port), what));
                }
            }
            let source_port = |(stream, port), what| {
                claim(&format!("`source-port` of {part}"), &format!("{path}.source-port"), (stream, port), what)
            };
            match &output.route {
                OutputRoute::Datagrams(route) => {
                    claims.extend(route.source_port.map(|port| source_port((Stream::Media, port), Use::SendFrom)));
                }
                OutputRoute::Rist(rist) => {
                    let own = Use::Own { ip: None, interface: None };
                    claims.extend(rist.source_ports().map(|port| source_port(port, own.clone())));
                }
                OutputRoute::Srt(srt) => {
                    claims.extend(srt_claims(&part, &path, srt, output.interface.as_ref(), End::Output));
                }
            }
        }
        claims
    }

    /// What its file claims and it has already.
    fn kept_claims(&self, board: &Board) -> Vec<Claim> {
        let (Some(wanted), Some(running), false) = (self.wanted, self.running, self.late) else { return Vec::new() };
        let held = self.claims(running);
        let is_kept = |claim: &Claim| held.iter().any(|own| own.is_same(claim)) && board.of_appliance(claim).is_none();
        self.claims(wanted).into_iter().filter(is_kept).collect()
    }

    fn refusal(&self, Conflict { place, message, help }: Conflict) -> Diagnostic {
        self.diagnostic(Level::Error, place, message, help)
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

/// What an SRT source or output claims: the key that says it, and the port.
fn uses(srt: &SrtPlan, interface: Option<&Interface>, end: End) -> Vec<(&'static str, u16, Use)> {
    let interface = interface.cloned();
    let local_key = |mode: &SrtMode| match (mode, end) {
        (SrtMode::Caller { .. }, End::Output) => "source-port",
        _ => "bind",
    };
    let mut uses = Vec::new();
    if let Some(bind) = srt.mode.bind() {
        let (ip, interface) = (bind.ip, interface.clone());
        let what = match &srt.mode {
            SrtMode::Listener { stream_id, .. } => Use::Listen { ip, interface, stream_id: stream_id.clone(), end },
            SrtMode::Caller { .. } | SrtMode::Rendezvous { .. } => Use::Own { ip, interface },
        };
        uses.push((local_key(&srt.mode), bind.port, what));
    }
    if let SrtMode::Caller { remote, stream_id, .. } = &srt.mode
        && let Some(to) = remote.address()
    {
        let key = if end == End::Output { "destination" } else { "remote" };
        uses.push((key, to.port(), Use::Call { ip: to.ip(), interface, stream_id: stream_id.clone(), end }));
    }
    uses
}

/// What [`Places`] calls each of [`OutputPlan::paths`].
fn places_of_paths(name: &str, output: &OutputPlan) -> impl Iterator<Item = String> {
    let legs = output.legs().len();
    let single = (legs == 0).then(|| format!("outputs.{name}.destination"));
    let leg = move |number: usize| format!("outputs.{name}.legs.{number}.destination");
    single.into_iter().chain((1..=legs).map(leg))
}

/// Of several faults at one place the first is enough: the port of media and those beside it conflict together.
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
        let fault = board.fault(&claim).or_else(|| board.circle(std::slice::from_ref(&claim)));
        faults.extend(fault.map(|fault| contender.refusal(fault)));
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
    /// Who calls whom for what.
    calls: BTreeMap<Call, String>,
    feeds: Feeds,
}

impl Board {
    /// What the appliance has that a claim cannot be met beside.
    fn of_appliance(&self, claim: &Claim) -> Option<Conflict> {
        self.beside(claim).filter(|granted| granted.flow.is_none()).find_map(|granted| claim.against(granted))
    }

    fn fault(&self, claim: &Claim) -> Option<Conflict> {
        self.beside(claim).find_map(|granted| claim.against(granted))
    }

    /// What is granted of the port that a claim is about; of those that only send, receivers.
    fn beside(&self, claim: &Claim) -> impl Iterator<Item = &Claim> {
        let taken = self.taken.get(&claim.port).into_iter().flatten();
        taken.chain(self.fed.get(&claim.port).filter(|_| !claim.what.is_remote()).into_iter().flatten())
    }

    /// Why these claims, which have no other fault, cannot be met together: what a flow sends would come back to it.
    fn circle(&self, claims: &[Claim]) -> Option<Conflict> {
        let pairs: Vec<_> =
            claims.iter().flat_map(|claim| self.beside(claim).map(move |granted| (claim, granted))).collect();
        self.feeds.circle(&pairs)
    }

    fn take(&mut self, claim: Claim) {
        let Self { taken, fed, feeds, .. } = self;
        let others = taken.get(&claim.port).into_iter().chain(fed.get(&claim.port)).flatten();
        others.for_each(|granted| feeds.note(&claim, granted));
        let ports = if claim.what.is_remote() { fed } else { taken };
        ports.entry(claim.port).or_default().push(claim);
    }

    /// Note where the flow sends to, and warn where another does already.
    fn note_destinations(&mut self, contender: &Contender<'_>, plan: &FlowPlan) -> Vec<Diagnostic> {
        let (mut doubts, mut news) = (Vec::new(), Vec::new());
        let mut new_calls = Vec::new();
        for (name, output) in plan.outputs.iter().filter(|(_, o)| plan.enabled && o.enabled) {
            let owner = format!("output {name:?} of flow \"{}\" ({})", contender.name, contender.file.display());
            let mut warn = |path: &str, message: String, help| {
                let at = contender.places.get(path).copied().unwrap_or_default();
                doubts.push(contender.diagnostic(Level::Warning, at, message, help));
            };
            if let Some(srt) = output.srt() {
                let Some(call) = srt.mode.call() else { continue };
                if let Some(first) = self.calls.get(&call) {
                    let key = if matches!(srt.mode, SrtMode::Caller { .. }) { "destination" } else { "remote" };
                    let help = "one that takes a single caller refuses the other";
                    warn(&format!("outputs.{name}.{key}"), format!("{first} also sends {call}"), help);
                }
                new_calls.push((call, owner));
                continue;
            }
            let protocol = output.protocol_name();
            for (path, (to, _)) in places_of_paths(name, output).zip(output.paths()) {
                let streams = output.streams().iter();
                let own: Vec<_> = streams.filter_map(|(stream, n)| Some((to.at_offset(*n)?, *stream))).collect();
                let first = own.iter().find_map(|(to, stream)| {
                    let others = self.sent_to.get(to)?;
                    let first = others.iter().find(|(p, s, _)| mixes((protocol, *stream), (*p, *s)))?;
                    Some((to, first))
                });
                if let Some((to, (other, stream, first))) = first {
                    let what = if *stream == Stream::Media { *other } else { stream.name() };
                    warn(&path, format!("{first} also sends {what} to {to}"), "the receiver gets both streams mixed");
                }
                news.extend(own.into_iter().map(|(to, stream)| (to, (protocol, stream, owner.clone()))));
            }
        }
        // Not before: one flow's outputs have been weighed against each other already.
        for (to, sent) in news {
            self.sent_to.entry(to).or_default().push(sent);
        }
        for (call, owner) in new_calls {
            self.calls.entry(call).or_insert(owner);
        }
        doubts
    }
}

/// Which flows are refused because of others, and what is to be said.
///
/// What a flow has already and goes on wanting is its own, whatever else changes in its file. The rest goes to flows that
/// run on unchanged first, then by name; to `late` ones last. Before all of them comes the appliance's own `port`. A refused flow that runs keeps what it runs with, so what
/// others wanted of that is refused too; one that does not run claims nothing.
pub(super) fn settle(
    contenders: &[Contender<'_>],
    port: Option<&Claim>,
    max_flows: usize,
) -> (BTreeSet<FlowName>, Vec<Diagnostic>) {
    let mut order: Vec<_> = contenders.iter().collect();
    let changed = |c: &Contender<'_>| c.running.is_none() || c.wanted != c.running;
    order.sort_by_key(|c| (c.late, changed(c), c.name));
    let mut refused = BTreeSet::new();
    let mut said = Vec::new();
    loop {
        let (news, doubts) = pass(&order, &refused, port, max_flows);
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
    port: Option<&Claim>,
    max_flows: usize,
) -> (Refusals<'c, 'a>, Vec<Diagnostic>) {
    let mut board = Board::default();
    port.into_iter().for_each(|port| board.take(port.clone()));
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
        contender.kept_claims(&board).into_iter().for_each(|claim| board.take(claim));
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
        let kept = contender.kept_claims(&board);
        let is_kept = |claim: &Claim| kept.iter().any(|own| own.is_same(claim));
        let claims: Vec<_> = contender.claims(plan).into_iter().filter(|claim| !is_kept(claim)).collect();
        let mut faults: Vec<_> = claims.iter().filter_map(|claim| board.fault(claim)).collect();
        if faults.is_empty() {
            faults.extend(board.circle(&claims));
        }
        let faults = one_a_place(faults.into_iter().map(|fault| contender.refusal(fault)).collect());
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
