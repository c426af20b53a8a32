//! The difference between what runs and what shall run: pure, and the only source of both `plan` and the apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::plan::{
    ControlPlan, DaemonPlan, DatagramInput, DatagramRoute, EntitlementPlan, FailoverPlan, FailoverRules, FlowPlan,
    HttpPlan, Limits, LogPlan, OutputPlan, OutputProtocol, OutputRoute, RtpHeader, SourceInput, SourcePlan,
    SourceProtocol, SubscriberPlan,
};
use super::value::Interface;

mod rist;
mod srt;

/// What happens to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It comes into being, or is enabled.
    Start,
    /// It ends, or is disabled.
    Stop,
    /// Parts of it are touched.
    Change,
    /// Its file is refused; what runs goes on.
    Reject,
}

/// What a touch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The flow as a whole.
    Flow,
    /// One source.
    Source,
    /// One output.
    Output,
    /// One entitlement.
    Entitlement,
    /// A file of `subscribers.d`.
    Subscriber,
    /// A part of `mediaconnect.toml`.
    Daemon,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Opened.
    Open,
    /// Closed.
    Close,
    /// Closed and opened again.
    Reopen,
    /// Changed while it runs; no packet is lost.
    InPlace,
    /// Takes effect at the next restart of the daemon.
    Restart,
}

/// One part of a flow that a change touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Source, output, …
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What is done.
    pub effect: Effect,
    /// The keys that force it.
    pub because: Vec<String>,
}

/// What a reload does to one flow; `flow` is empty for `mediaconnect.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The flow's name.
    pub flow: String,
    /// What happens to it.
    pub action: Action,
    /// Which parts, in the order of kind and name.
    pub touches: Vec<Touch>,
}

/// What it takes to get from `old` to `new`, `None` standing for a flow that is not there; `None`: nothing.
pub fn diff_flow(old: Option<&FlowPlan>, new: Option<&FlowPlan>) -> Option<Change> {
    if old == new {
        return None;
    }
    let runs = |plan: Option<&FlowPlan>| plan.is_some_and(|p| p.enabled);
    let toggled: &[&str] = if old.is_some() && new.is_some() { &["enabled"] } else { &[] };
    let (action, touches) = match (old, new) {
        (Some(old), Some(new)) if old.enabled == new.enabled => (Action::Change, changed_parts(old, new)),
        (old, Some(new)) if runs(Some(new)) || old.is_none() => (Action::Start, all_parts(new, Effect::Open, toggled)),
        (Some(old), _) => (Action::Stop, all_parts(old, Effect::Close, toggled)),
        (None, _) => return None,
    };
    let flow = new.or(old).map(|plan| plan.name.to_string()).unwrap_or_default();
    Some(Change { flow, action, touches })
}

/// What it takes to get from `old` to `new`; one touch a section of `mediaconnect.toml`.
pub fn diff_daemon(old: &DaemonPlan, new: &DaemonPlan) -> Vec<Touch> {
    let DaemonPlan { log, http, control, networks, gather, limits, entitlements, alarms, notifiers } = old;
    let mut touches = Vec::new();
    let mut touch = |name: &str, effect, keys: &[(&str, bool)]| {
        let because = names(keys);
        if !because.is_empty() {
            touches.push(Touch { kind: Kind::Daemon, name: name.to_owned(), effect, because });
        }
    };
    let LogPlan { level, targets, syslog } = log;
    touch(
        "log",
        Effect::InPlace,
        &[
            ("level", *level != new.log.level),
            ("targets", *targets != new.log.targets),
            ("syslog", *syslog != new.log.syslog),
        ],
    );
    let HttpPlan { listen, tag_labels, token, tls } = http;
    touch(
        "http",
        Effect::InPlace,
        &[
            ("listen", *listen != new.http.listen),
            ("tag-labels", *tag_labels != new.http.tag_labels),
            ("token-file", *token != new.http.token),
            ("tls", *tls != new.http.tls),
        ],
    );
    let ControlPlan { operators, readers } = control;
    touch(
        "control",
        Effect::InPlace,
        &[("operators", *operators != new.control.operators), ("readers", *readers != new.control.readers)],
    );
    let every: BTreeSet<_> = networks.keys().chain(new.networks.keys()).collect();
    for name in every {
        let (was, is) = (networks.get(name), new.networks.get(name));
        let by = |kind: fn(&Interface) -> bool| was != is && (was.is_some_and(kind) || is.is_some_and(kind));
        let by_name = by(|i| matches!(i, Interface::Name(_)));
        let by_cidr = by(|i| matches!(i, Interface::Cidr(_)));
        touch(&format!("networks.{name}"), Effect::InPlace, &[("interface", by_name), ("cidr", by_cidr)]);
    }
    touch("defaults", Effect::InPlace, &[("gather", *gather != new.gather)]);
    let (old, new_port) = (entitlements.as_ref(), new.entitlements.as_ref());
    let bind = old.map(|port| port.bind) != new_port.map(|port| port.bind);
    let network = old.map(|port| &port.interface) != new_port.map(|port| &port.interface);
    touch(
        "entitlements",
        port_effect(old.is_some(), new_port.is_some()),
        &[("bind", bind), ("network", network && !bind)],
    );
    named_tables("alarms", alarms, &new.alarms, &mut touch);
    named_tables("notifiers", notifiers, &new.notifiers, &mut touch);
    let Limits { max_flows, max_outputs_per_flow, workers, worker_cpus } = limits;
    touch(
        "limits",
        Effect::InPlace,
        &[
            ("max-flows", *max_flows != new.limits.max_flows),
            ("max-outputs-per-flow", *max_outputs_per_flow != new.limits.max_outputs_per_flow),
        ],
    );
    touch(
        "limits",
        Effect::Restart,
        &[("workers", *workers != new.limits.workers), ("worker-cpus", *worker_cpus != new.limits.worker_cpus)],
    );
    touches
}

/// What happens to a port that was there, and is to be.
const fn port_effect(was: bool, is: bool) -> Effect {
    match (was, is) {
        (false, _) => Effect::Open,
        (true, false) => Effect::Close,
        (true, true) => Effect::Reopen,
    }
}

/// What it takes to get from the subscribers `old` to `new`.
pub fn diff_subscribers(
    old: &BTreeMap<String, Arc<SubscriberPlan>>,
    new: &BTreeMap<String, Arc<SubscriberPlan>>,
) -> Vec<Touch> {
    let every: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let touch = |name: &String| {
        let (effect, because) = match (old.get(name), new.get(name)) {
            (Some(was), Some(is)) if was != is => (Effect::InPlace, was.because(is)),
            (None, Some(_)) => (Effect::Open, Vec::new()),
            (Some(_), None) => (Effect::Close, Vec::new()),
            _ => return None,
        };
        Some(Touch { kind: Kind::Subscriber, name: name.clone(), effect, because })
    };
    every.into_iter().filter_map(touch).collect()
}

/// The named tables of a section that differ, by their names.
fn named_tables<T: PartialEq>(
    section: &str,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    touch: &mut impl FnMut(&str, Effect, &[(&str, bool)]),
) {
    let every: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differ: Vec<_> = every.into_iter().map(|name| (name.as_str(), old.get(name) != new.get(name))).collect();
    touch(section, Effect::InPlace, &differ);
}

/// The names of the keys that differ.
fn names(keys: &[(&str, bool)]) -> Vec<String> {
    keys.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()).collect()
}

/// Every enabled part of a flow that starts or stops.
fn all_parts(plan: &FlowPlan, effect: Effect, because: &[&str]) -> Vec<Touch> {
    let because: Vec<_> = because.iter().map(|key| (*key).to_owned()).collect();
    let touch = |kind, name: &String| Touch { kind, name: name.clone(), effect, because: because.clone() };
    let sources = plan.sources.iter().filter(|(_, s)| plan.enabled && s.enabled);
    let outputs = plan.outputs.iter().filter(|(_, o)| plan.enabled && o.enabled);
    let entitlements = plan.entitlements.keys().filter(|_| plan.enabled);
    sources
        .map(|(name, _)| touch(Kind::Source, name))
        .chain(outputs.map(|(name, _)| touch(Kind::Output, name)))
        .chain(entitlements.map(|name| touch(Kind::Entitlement, name)))
        .collect()
}

/// Two plans of a flow that is enabled in both, or in neither.
fn changed_parts(old: &FlowPlan, new: &FlowPlan) -> Vec<Touch> {
    let FlowPlan {
        name,
        description,
        enabled,
        gather,
        tags,
        operators,
        sources,
        failover,
        outputs,
        entitlements,
        analyse,
        thumbnails,
        content,
        alarms,
    } = old;
    let mut touches = Vec::new();
    let mut because = names(&[
        ("description", *description != new.description),
        ("gather", *gather != new.gather),
        ("tags", *tags != new.tags),
        ("operators", *operators != new.operators),
        ("monitoring.transport-stream", *analyse != new.analyse),
        ("monitoring.thumbnails", *thumbnails != new.thumbnails),
        ("monitoring.content", *content != new.content),
        ("alarms", *alarms != new.alarms),
    ]);
    because.extend(failover_keys(failover.as_ref(), new.failover.as_ref()));
    if !because.is_empty() {
        touches.push(Touch { kind: Kind::Flow, name: name.to_string(), effect: Effect::InPlace, because });
    }
    parts(&mut touches, Kind::Source, *enabled, sources, &new.sources);
    parts(&mut touches, Kind::Output, *enabled, outputs, &new.outputs);
    parts(&mut touches, Kind::Entitlement, *enabled, entitlements, &new.entitlements);
    touches
}

/// The keys of `[failover]` in which it differs.
fn failover_keys(old: Option<&FailoverPlan>, new: Option<&FailoverPlan>) -> Vec<String> {
    match (old, new) {
        (Some(FailoverPlan::Merge { recovery_window }), Some(FailoverPlan::Merge { recovery_window: new })) => {
            names(&[("failover.recovery-window", recovery_window != new)])
        }
        (Some(FailoverPlan::Failover(old)), Some(FailoverPlan::Failover(new))) => {
            let FailoverRules { primary, return_mode, hold, switch_on } = old;
            names(&[
                ("failover.primary", *primary != new.primary),
                ("failover.return", *return_mode != new.return_mode),
                ("failover.hold", *hold != new.hold),
                ("failover.switch-on", *switch_on != new.switch_on),
            ])
        }
        _ => names(&[("failover.mode", old != new)]),
    }
}

/// A source or an output.
trait Part: PartialEq + Clone {
    fn enabled(&self) -> bool;
    /// Take over from `new` what can be changed while it runs. What is not named here is opened again.
    fn retune(&mut self, new: &Self);
    /// The keys in which it differs.
    fn because(&self, new: &Self) -> Vec<String>;
}

/// The parts that differ.
fn parts<P: Part>(
    touches: &mut Vec<Touch>,
    kind: Kind,
    runs: bool,
    old: &BTreeMap<String, P>,
    new: &BTreeMap<String, P>,
) {
    let every: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in every {
        let (was, is) = (old.get(name), new.get(name));
        let open = |part: Option<&P>| runs && part.is_some_and(P::enabled);
        if was == is {
            continue;
        }
        let effect = match (open(was), open(is)) {
            (false, false) => Effect::InPlace,
            (false, true) => Effect::Open,
            (true, false) => Effect::Close,
            (true, true) => {
                let mut retuned = was.cloned();
                retuned.iter_mut().zip(is).for_each(|(part, new)| part.retune(new));
                if retuned.as_ref() == is { Effect::InPlace } else { Effect::Reopen }
            }
        };
        let because = was.zip(is).map(|(was, is)| was.because(is)).unwrap_or_default();
        touches.push(Touch { kind, name: name.clone(), effect, because });
    }
}

impl Part for SourcePlan {
    fn enabled(&self) -> bool {
        self.enabled
    }

    fn retune(&mut self, new: &Self) {
        self.description.clone_from(&new.description);
        self.max_bitrate = new.max_bitrate;
        self.decryption.clone_from(&new.decryption);
        match (&mut self.input, &new.input) {
            (SourceInput::Datagrams(input), SourceInput::Datagrams(new)) => {
                input.allow.clone_from(&new.allow);
                match (&mut input.protocol, new.protocol) {
                    (SourceProtocol::Rtp { reorder_window }, SourceProtocol::Rtp { reorder_window: new })
                    | (
                        SourceProtocol::RtpFec { reorder_window, .. },
                        SourceProtocol::RtpFec { reorder_window: new, .. },
                    ) => *reorder_window = new,
                    _ => {}
                }
            }
            (SourceInput::Srt(srt), SourceInput::Srt(new)) => srt::retune(srt, new),
            (SourceInput::Rist(rist), SourceInput::Rist(new)) => rist::retune_input(rist, new),
            _ => {}
        }
    }

    fn because(&self, new: &Self) -> Vec<String> {
        let Self { description, enabled, input, interface, max_bitrate, decryption } = self;
        let mut keys = vec![("protocol", self.protocol_name() != new.protocol_name())];
        match (input, &new.input) {
            (SourceInput::Datagrams(input), SourceInput::Datagrams(new)) => keys.extend(input_keys(input, new)),
            (SourceInput::Srt(srt), SourceInput::Srt(new)) => keys.extend(srt::keys(srt, new, "remote", "bind")),
            (SourceInput::Rist(rist), SourceInput::Rist(new)) => keys.extend(rist::input_keys(rist, new)),
            _ => {}
        }
        keys.extend([
            ("interface", *interface != new.interface),
            ("max-bitrate", *max_bitrate != new.max_bitrate),
            ("decryption", *decryption != new.decryption),
            ("enabled", *enabled != new.enabled),
            ("description", *description != new.description),
        ]);
        names(&keys)
    }
}

fn input_keys(old: &DatagramInput, new: &DatagramInput) -> [(&'static str, bool); 5] {
    let DatagramInput { protocol, bind, multicast_sources, allow } = old;
    let (window, fec_ports) = match (*protocol, new.protocol) {
        (SourceProtocol::Rtp { reorder_window }, SourceProtocol::Rtp { reorder_window: new }) => {
            (reorder_window != new, false)
        }
        (
            SourceProtocol::RtpFec { reorder_window, fec_ports },
            SourceProtocol::RtpFec { reorder_window: new_window, fec_ports: new_ports },
        ) => (reorder_window != new_window, fec_ports != new_ports),
        _ => (false, false),
    };
    [
        ("bind", *bind != new.bind),
        ("multicast-sources", *multicast_sources != new.multicast_sources),
        ("allow", *allow != new.allow),
        ("reorder-window", window),
        ("fec-ports", fec_ports),
    ]
}

impl Part for OutputPlan {
    fn enabled(&self) -> bool {
        self.enabled
    }

    fn retune(&mut self, new: &Self) {
        self.description.clone_from(&new.description);
        self.ttl = new.ttl;
        self.dscp = new.dscp;
        if let (Some(old), Some(new)) = (&mut self.encryption, &new.encryption)
            && old.is_same(new)
        {
            old.clone_from(new);
        }
        match (&mut self.route, &new.route) {
            (OutputRoute::Datagrams(route), OutputRoute::Datagrams(new)) => route.smoothing = new.smoothing,
            (OutputRoute::Srt(srt), OutputRoute::Srt(new)) => srt::retune(srt, new),
            (OutputRoute::Rist(rist), OutputRoute::Rist(new)) => rist::retune_route(rist, new),
            _ => {}
        }
    }

    fn because(&self, new: &Self) -> Vec<String> {
        let Self { description, enabled, route, interface, ttl, dscp, encryption } = self;
        let mut because = names(&[("protocol", self.protocol_name() != new.protocol_name())]);
        because.extend(match (route, &new.route) {
            (OutputRoute::Datagrams(route), OutputRoute::Datagrams(new)) => route_keys(route, new),
            (OutputRoute::Srt(srt), OutputRoute::Srt(new)) => names(&srt::keys(srt, new, "destination", "source-port")),
            (OutputRoute::Rist(rist), OutputRoute::Rist(new)) => names(&rist::route_keys(rist, new)),
            _ => Vec::new(),
        });
        // With legs the first of them is the destination: not a key of its own.
        let one_place = self.legs().is_empty() && new.legs().is_empty();
        because.extend(names(&[
            ("interface", one_place && *interface != new.interface),
            ("ttl", *ttl != new.ttl),
            ("dscp", *dscp != new.dscp),
            ("encryption", *encryption != new.encryption),
            ("enabled", *enabled != new.enabled),
            ("description", *description != new.description),
        ]));
        because
    }
}

fn route_keys(old: &DatagramRoute, new: &DatagramRoute) -> Vec<String> {
    let DatagramRoute { protocol, destination, legs, source_port, smoothing } = old;
    let one_place = legs.is_empty() && new.legs.is_empty();
    let mut keys = names(&[
        ("destination", one_place && *destination != new.destination),
        ("legs", *legs != new.legs),
        ("source-port", *source_port != new.source_port),
        ("smoothing", *smoothing != new.smoothing),
    ]);
    keys.extend(match (*protocol, new.protocol) {
        (OutputProtocol::Udp { datagram_packets }, OutputProtocol::Udp { datagram_packets: new }) => {
            names(&[("datagram-packets", datagram_packets != new)])
        }
        (OutputProtocol::Rtp(was), OutputProtocol::Rtp(is)) => header_keys(was, is),
        (OutputProtocol::RtpFec { header: was, matrix }, OutputProtocol::RtpFec { header: is, matrix: new_matrix }) => {
            header_keys(was, is).into_iter().chain(names(&[("fec", matrix != new_matrix)])).collect()
        }
        _ => Vec::new(),
    });
    keys
}

impl Part for EntitlementPlan {
    /// One that is not has its place all the same: those who call are told.
    fn enabled(&self) -> bool {
        true
    }

    /// Sessions that may go on do.
    fn retune(&mut self, new: &Self) {
        self.clone_from(new);
    }

    fn because(&self, new: &Self) -> Vec<String> {
        let Self { description, enabled, subscribers, max_sessions, expires, latency, key_length } = self;
        names(&[
            ("subscribers", *subscribers != new.subscribers),
            ("max-sessions", *max_sessions != new.max_sessions),
            ("expires", *expires != new.expires),
            ("latency", *latency != new.latency),
            ("key-length", *key_length != new.key_length),
            ("enabled", *enabled != new.enabled),
            ("description", *description != new.description),
        ])
    }
}

fn header_keys(old: RtpHeader, new: RtpHeader) -> Vec<String> {
    match (old, new) {
        (
            RtpHeader::Regenerate { payload_type, ssrc },
            RtpHeader::Regenerate { payload_type: new_type, ssrc: new_ssrc },
        ) => names(&[("payload-type", payload_type != new_type), ("ssrc", ssrc != new_ssrc)]),
        _ => names(&[("header", old != new)]),
    }
}

#[cfg(test)]
mod tests;
