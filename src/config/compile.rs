//! A flow's file to its plan: one function a rule, each reports; a plan comes out only if none has an error.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::Diagnostic;
use super::keys::{FLOW, FOREIGN_PROTOCOLS, OUTPUT_PROTOCOLS, SOURCE_PROTOCOLS, Standing};
use super::plan::{DaemonPlan, FlowPlan, OutputPlan, OutputProtocol, RtpHeader, SourcePlan, SourceProtocol};
use super::ports::LocalPorts;
use super::section::{At, Section, Span, nearest};
use super::source::{Source, shown};
use super::value::{Bind, Destination, FlowName, Host, Interface};

/// What a flow's file is judged against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    /// `mediaconnect.toml`, as far as it is valid.
    pub(super) daemon: &'a DaemonPlan,
    /// Is it refused, so that what it defines may be missing from `daemon`?
    pub(super) daemon_refused: bool,
    /// The ports that the system hands out by itself.
    pub(super) local_ports: &'a LocalPorts,
}

/// Line and column of the values that may conflict with other flows, by path: `sources.a.bind`.
pub(super) type Places = BTreeMap<String, (usize, usize)>;

/// A flow's file, judged alone.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) plan: Option<FlowPlan>,
    pub(super) places: Places,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// The plan of the flow `name` from the `text` of its `file`.
pub(super) fn flow(name: &FlowName, file: &Path, text: &[u8], site: &Site<'_>) -> Compiled {
    let source = Source::new(file, Some(name.as_str()), text);
    let mut places = Places::new();
    let plan = source.document().and_then(|document| {
        let root = Section::root(&source, &document, FLOW);
        Flow { source: &source, site, places: &mut places }.plan(name, &root)
    });
    let plan = plan.filter(|_| !source.has_errors());
    Compiled { plan, places, diagnostics: source.into_diagnostics() }
}

struct Flow<'a, 't> {
    source: &'a Source<'t>,
    site: &'a Site<'a>,
    places: &'a mut Places,
}

impl<'t> Flow<'_, 't> {
    fn plan(&mut self, name: &FlowName, root: &Section<'_, 't>) -> Option<FlowPlan> {
        let sources = self.sources(root);
        let protocols: Vec<_> = sources.iter().map(|(_, plan)| plan.as_ref().map(|p| p.protocol)).collect();
        let only_rtp = protocols.iter().all(|p| !matches!(p, Some(SourceProtocol::Udp)));
        let outputs = self.outputs(root, only_rtp);
        Some(FlowPlan {
            name: name.clone(),
            description: root.text("description").map(|d| d.value).unwrap_or_default(),
            enabled: root.flag("enabled").unwrap_or(true),
            gather: root.gather("gather").unwrap_or(self.site.daemon.gather),
            tags: root.texts("tags").into_iter().collect(),
            sources: sources.into_iter().map(|(name, plan)| Some((name, plan?))).collect::<Option<_>>()?,
            failover: None,
            outputs: outputs.into_iter().map(|(name, plan)| Some((name, plan?))).collect::<Option<_>>()?,
        })
    }

    fn sources(&mut self, root: &Section<'_, 't>) -> Vec<(String, Option<SourcePlan>)> {
        let sections = root.named("sources");
        // Tables that are there but no sources have been reported already.
        if sections.is_empty() && !(root.has("sources") && self.source.has_errors()) {
            let help = "add [sources.NAME] with `protocol` and `bind`".to_owned();
            self.source.missing(&root.key_span("sources").unwrap_or(0..0), "a flow needs a source", Some(help));
        }
        let mut starts: Vec<_> = sections.iter().map(|(_, s)| s.at().clone()).collect();
        starts.sort_by_key(|at| at.start);
        if let (Some(second), false) = (starts.get(1), root.has("failover")) {
            let message = "two or more sources require [failover], which is not available in this version";
            self.source.error(second, message, Some("keep one source".into()));
        }
        sections.into_iter().map(|(name, s)| (name, self.source_plan(&s))).collect()
    }

    fn source_plan(&mut self, s: &Section<'_, 't>) -> Option<SourcePlan> {
        let protocol = self.protocol(s, SOURCE_PROTOCOLS)?;
        let bind = self.bind(s);
        let interface = self.interface(s);
        let multicast_sources = self.multicast_sources(s, bind.as_ref());
        let allow = self.allow(s, bind.as_ref());
        if let Some(At { value: Bind { ip: Some(ip), .. }, span }) = &bind {
            self.link_local(s, *ip, span);
        }
        let max_bitrate = s.bitrate("max-bitrate");
        let description = s.text("description").map(|d| d.value).unwrap_or_default();
        let enabled = s.flag("enabled").unwrap_or(true);
        let reorder_window = s.duration("reorder-window").unwrap_or(Duration::from_millis(50));
        let plan = SourcePlan {
            description,
            enabled,
            protocol: match protocol {
                "rtp" => SourceProtocol::Rtp { reorder_window },
                _ => SourceProtocol::Udp,
            },
            bind: bind?.value,
            interface,
            multicast_sources,
            allow,
            max_bitrate,
        };
        Some(plan)
    }

    /// The protocol, or which one is likely meant; empty: it is not written. `None`: this version does not have it, and
    /// nothing more is to be said about its table. Keys without a meaning for it are reported.
    fn protocol(&self, s: &Section<'_, 't>, known: &[(&'static str, Standing)]) -> Option<&'static str> {
        if !s.has("protocol") {
            s.missing("protocol", "write protocol = \"rtp\" or \"udp\"");
        }
        let Some(At { value: word, span }) = s.text("protocol") else {
            s.refuse_unheard_of();
            return Some("");
        };
        let found = known.iter().chain(FOREIGN_PROTOCOLS).find(|(name, _)| *name == word);
        match found {
            Some((name, Standing::Available)) => {
                s.refuse_unknown(Some(name));
                return Some(name);
            }
            Some((name, Standing::Later)) => {
                self.source.error(&span, format!("protocol {name:?} is not available in this version"), None);
                s.refuse_unheard_of();
            }
            Some((name, Standing::Impossible(why, instead))) => {
                let message = format!("protocol {name:?} cannot exist here: {why}");
                self.source.error(&span, message, Some((*instead).to_owned()));
            }
            None => {
                let near = nearest(&word, known.iter().map(|(name, _)| *name));
                let all: Vec<_> =
                    known.iter().filter(|(_, s)| *s == Standing::Available).map(|(name, _)| *name).collect();
                let help = match near {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("this version has {}", super::keys::quoted(&all)),
                };
                self.source.error(&span, format!("unknown protocol {}", shown(&word)), Some(help));
                if let Some(near) = near.filter(|near| all.contains(near)) {
                    s.refuse_unknown(Some(near));
                    return Some(near);
                }
                s.refuse_unheard_of();
            }
        }
        None
    }

    fn bind(&mut self, s: &Section<'_, 't>) -> Option<At<Bind>> {
        if !s.has("bind") {
            s.missing("bind", "write bind = \":5000\", or a multicast group such as \"239.1.1.1:5000\"");
        }
        let bind: At<Bind> = s.parsed("bind")?;
        self.place(s, "bind", &bind.span);
        if bind.value.ip == Some(Ipv4Addr::BROADCAST.into()) {
            self.source.error(&bind.span, "`bind`: 255.255.255.255 is the broadcast address", None);
            return None;
        }
        if let Some((low, high)) = self.site.local_ports.range_of(bind.value.port) {
            let port = bind.value.port;
            let message = format!(
                "port {port} is one of those the system hands out by itself ({low} to {high}): another program may hold it when the flow starts"
            );
            let help = format!("use a port outside, or reserve it: sysctl net.ipv4.ip_local_reserved_ports={port}");
            self.source.warning(&bind.span, message, Some(help));
        }
        Some(bind)
    }

    fn multicast_sources(&self, s: &Section<'_, 't>, bind: Option<&At<Bind>>) -> Vec<IpAddr> {
        let senders = s.addresses("multicast-sources");
        let Some(At { value: Bind { ip, .. }, span }) = bind else { return Vec::new() };
        let group = ip.filter(IpAddr::is_multicast);
        let at = s.key_span("multicast-sources");
        let Some(group) = group else {
            if let Some(at) = at {
                let help = "remove it; `allow` says who may send to a unicast address".to_owned();
                self.source.error(
                    &at,
                    "`multicast-sources` has no meaning: `bind` is not a multicast group",
                    Some(help),
                );
            }
            return Vec::new();
        };
        for At { value: sender, span } in senders.iter().flatten() {
            if sender.is_ipv4() != group.is_ipv4() {
                self.source.error(
                    span,
                    format!("`multicast-sources`: {sender} is not of the same family as the group {group}"),
                    None,
                );
            } else if sender.is_multicast() || sender.is_unspecified() {
                self.source.error(span, format!("`multicast-sources`: {sender} cannot be a sender"), None);
            }
        }
        if (at.is_none() || s.is_empty_list("multicast-sources")) && is_source_specific(group) {
            let help = "add multicast-sources = [\"ADDRESS OF THE SENDER\"]".to_owned();
            self.source.warning(
                span,
                format!("{group} is a source-specific group: without `multicast-sources` nothing may arrive"),
                Some(help),
            );
        }
        senders.into_iter().flatten().map(|sender| sender.value).collect()
    }

    fn allow(&self, s: &Section<'_, 't>, bind: Option<&At<Bind>>) -> Option<Vec<IpNet>> {
        if !s.has("allow") {
            let At { value: bind, span } = bind?;
            if bind.ip.is_none_or(|ip| !ip.is_loopback() && !ip.is_multicast()) {
                self.source.missing(
                    span,
                    format!("`bind` {bind} can be reached from the network, so `allow` is required"),
                    Some("add allow = [\"ADDRESS OF THE SENDER\"], or [\"0.0.0.0/0\", \"::/0\"] for everybody".into()),
                );
            }
            return None;
        }
        let nets = s.networks("allow")?;
        if let (true, Some(at)) = (s.is_empty_list("allow"), s.key_span("allow")) {
            let help = "list the senders, or [\"0.0.0.0/0\", \"::/0\"] for everybody".to_owned();
            self.source.error(&at, "`allow` is empty, so nobody could send", Some(help));
        }
        if let Some(At { span, .. }) = nets.iter().find(|net| net.value.prefix_len() == 0) {
            self.source.warning(span, "`allow` admits everybody", Some("list the senders if you know them".into()));
        }
        Some(nets.into_iter().map(|net| net.value).collect())
    }

    /// `network` or `interface`, not both.
    fn interface(&self, s: &Section<'_, 't>) -> Option<Interface> {
        let named = s.text("network");
        let interface = s.parsed("interface");
        if let (Some(at), true) = (s.key_span("interface"), s.has("network")) {
            self.source.error(&at, "`network` and `interface` exclude each other", Some("keep one of them".into()));
            return None;
        }
        let Some(At { value: name, span }) = named else { return interface.map(|i: At<Interface>| i.value) };
        let networks = &self.site.daemon.networks;
        if let Some(interface) = networks.get(&name) {
            return Some(interface.clone());
        }
        let (problem, help) = match nearest(&name, networks.keys().map(String::as_str)) {
            _ if self.site.daemon_refused => ("cannot be looked up", Some("fix mediaconnect.toml first".to_owned())),
            Some(near) => ("is not defined in mediaconnect.toml", Some(format!("did you mean {near:?}?"))),
            None => (
                "is not defined in mediaconnect.toml",
                Some(format!("add [networks.{name}] there, or write `interface`")),
            ),
        };
        self.source.error(&span, format!("network {} {problem}", shown(&name)), help);
        None
    }

    /// A link-local address means nothing without its link.
    fn link_local(&self, s: &Section<'_, 't>, ip: IpAddr, at: &Span) {
        if matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) && !s.has("network") && !s.has("interface") {
            let help = "add `interface` or `network`".to_owned();
            self.source.missing(at, format!("{ip} is link-local: it says nothing without its interface"), Some(help));
        }
    }

    fn outputs(&mut self, root: &Section<'_, 't>, only_rtp: bool) -> Vec<(String, Option<OutputPlan>)> {
        let sections = root.named("outputs");
        let most = self.site.daemon.limits.max_outputs_per_flow;
        if let (true, Some(at)) = (sections.len() > most, root.key_span("outputs")) {
            let message = format!("{} outputs are more than max-outputs-per-flow = {most} allows", sections.len());
            self.source.error(
                &at,
                message,
                Some("raise it in [limits] of mediaconnect.toml, or split the flow".into()),
            );
        }
        if sections.is_empty() && !root.has("outputs") && !self.source.is_torn() {
            self.source.warning(&(0..0), "the flow has no outputs: it is received and watched, but sent nowhere", None);
        }
        let mut seen: Vec<(&str, Destination, String)> = Vec::new();
        let mut plans = Vec::new();
        // In the order of the file, so that the second of two alike is the one that is refused.
        let mut sections = sections;
        sections.sort_by_key(|(_, s)| s.at().start);
        for (name, s) in sections {
            let plan = self.output_plan(&s, only_rtp);
            if let Some((plan, span)) = &plan {
                let protocol = plan.protocol.name();
                match seen.iter().find(|(p, d, _)| *p == protocol && *d == plan.destination) {
                    Some((.., twin)) => {
                        let message = format!("output {twin:?} already sends {protocol} to {}", plan.destination);
                        self.source.error(span, message, Some("remove one of them".into()));
                    }
                    None => seen.push((protocol, plan.destination.clone(), name.clone())),
                }
            }
            plans.push((name, plan.map(|(plan, _)| plan)));
        }
        plans
    }

    fn output_plan(&mut self, s: &Section<'_, 't>, only_rtp: bool) -> Option<(OutputPlan, Span)> {
        let protocol = self.protocol(s, OUTPUT_PROTOCOLS)?;
        let destination = self.destination(s);
        let interface = self.interface(s);
        let source_port = s.whole("source-port");
        if let Some(at) = s.key_span("source-port") {
            self.place(s, "source-port", &at);
        }
        let ttl = s.whole("ttl");
        let protocol = match protocol {
            "rtp" => OutputProtocol::Rtp(self.rtp_header(s, only_rtp)),
            _ => OutputProtocol::Udp { datagram_packets: s.whole("datagram-packets").and_then(narrow) },
        };
        let description = s.text("description").map(|d| d.value).unwrap_or_default();
        let (enabled, dscp) = (s.flag("enabled").unwrap_or(true), s.dscp("dscp").unwrap_or_default());
        let At { value: destination, span } = destination?;
        let plan = OutputPlan {
            description,
            enabled,
            protocol,
            destination,
            interface,
            legs: Vec::new(),
            source_port: source_port.and_then(narrow),
            ttl: ttl.and_then(narrow),
            dscp,
            smoothing: None,
        };
        Some((plan, span))
    }

    fn destination(&mut self, s: &Section<'_, 't>) -> Option<At<Destination>> {
        if !s.has("destination") && !s.has("legs") {
            s.missing("destination", "write destination = \"203.0.113.7:5000\"");
        }
        let destination: At<Destination> = s.parsed("destination")?;
        self.place(s, "destination", &destination.span);
        if let Host::Address(ip) = destination.value.host {
            if ip.is_unspecified() {
                let help = format!(
                    "for this machine write \"{}:{}\"",
                    if ip.is_ipv4() { "127.0.0.1" } else { "[::1]" },
                    destination.value.port
                );
                self.source.error(&destination.span, format!("`destination`: nobody has the address {ip}"), Some(help));
                return None;
            }
            if ip == IpAddr::from(Ipv4Addr::BROADCAST) {
                let help = "send to a multicast group instead".to_owned();
                self.source.error(&destination.span, "`destination`: broadcast is not supported", Some(help));
                return None;
            }
            self.link_local(s, ip, &destination.span);
        }
        Some(destination)
    }

    fn rtp_header(&self, s: &Section<'_, 't>, only_rtp: bool) -> RtpHeader {
        let payload_type = s.whole("payload-type").and_then(narrow).unwrap_or(33);
        let ssrc = s.whole("ssrc").and_then(narrow);
        if s.choice("header") != Some(1) {
            return RtpHeader::Regenerate { payload_type, ssrc };
        }
        for key in ["payload-type", "ssrc"] {
            if let Some(at) = s.key_span(key) {
                self.source.error(&at, format!("`{key}` has no meaning with header = \"passthrough\""), None);
            }
        }
        if let (false, Some(at)) = (only_rtp, s.key_span("header")) {
            let help = "remove it: headers are made anew (\"regenerate\")".to_owned();
            self.source.error(
                &at,
                "header = \"passthrough\" needs an rtp source; this flow's carries no RTP headers",
                Some(help),
            );
        }
        RtpHeader::Passthrough
    }

    fn place(&mut self, s: &Section<'_, 't>, key: &str, at: &Span) {
        self.places.insert(format!("{}.{key}", s.path()), self.source.position(at.start));
    }
}

/// The table of keys has checked the range.
fn narrow<T: TryFrom<u64>>(value: u64) -> Option<T> {
    T::try_from(value).ok()
}

/// 232/8 (RFC 4607) and ff3x::/32 (RFC 3306).
fn is_source_specific(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4.octets()[0] == 232,
        IpAddr::V6(v6) => v6.segments()[0] & 0xfff0 == 0xff30 && v6.segments()[1] == 0,
    }
}
