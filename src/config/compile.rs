//! A flow's file to its plan: one function a rule, each reports; a plan comes out only if none has an error.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::alarms::{Known, alarms};
use super::daemon::group_name;
use super::diagnostic::Diagnostic;
use super::keys::{FLOW, FOREIGN_PROTOCOLS, SOURCE_PROTOCOLS, Standing};
use super::plan::{
    AlarmPlan, ContentPlan, DaemonPlan, DatagramInput, FlowPlan, SourceInput, SourcePlan, SourceProtocol, Stream,
};
use super::ports::LocalPorts;
use super::secrets::Secrets;
use super::section::{At, Section, Span, nearest};
use super::source::{Source, shown};
use super::value::{Bind, FlowName, Interface};

mod entitlement;
mod failover;
mod output;
mod passphrase;
mod rist;
mod srt;
#[cfg(test)]
mod tests;

pub(super) use self::entitlement::subscriber;

/// `thumbnails.every` where it is not written.
const THUMBNAIL: Duration = Duration::from_secs(5);

/// What a flow's file is judged against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    /// `mediaconnect.toml`, as far as it is valid.
    pub(super) daemon: &'a DaemonPlan,
    /// Is it refused, so that what it defines may be missing from `daemon`?
    pub(super) daemon_refused: bool,
    /// The ports that the system hands out by itself.
    pub(super) local_ports: &'a LocalPorts,
    /// Is ffmpeg installed?
    pub(super) ffmpeg: bool,
    /// The keys that the file may name.
    pub(super) secrets: &'a Secrets,
    /// Who has a file in `subscribers.d`; `None`: that is not known.
    pub(super) subscribers: Option<&'a BTreeSet<String>>,
}

/// Line and column of the values that may conflict with other flows, by path: `sources.a.bind`.
pub(super) type Places = BTreeMap<String, (usize, usize)>;

/// A file of a flow or a subscriber, judged alone.
#[derive(Debug)]
pub(super) struct Compiled<P = FlowPlan> {
    pub(super) plan: Option<P>,
    pub(super) places: Places,
    /// Nothing is wrong, but a key that it names is being written.
    pub(super) waits: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What is to be known before a change, and is no fault.
    pub(super) notes: Vec<Diagnostic>,
}

/// The plan of the flow `name` from the `text` of its `file`.
pub(super) fn flow(name: &FlowName, file: &Path, text: &[u8], site: &Site<'_>) -> Compiled {
    let source = Source::new(file, Some(name.as_str()), text);
    let mut places = Places::new();
    let mut waits = false;
    let plan = source.document().and_then(|document| {
        let root = Section::root(&source, &document, FLOW);
        Flow { source: &source, site, places: &mut places, waits: &mut waits }.plan(name, &root)
    });
    Compiled::new(plan, places, waits, source)
}

impl<P> Compiled<P> {
    fn new(plan: Option<P>, places: Places, waits: bool, source: Source<'_>) -> Self {
        let refused = source.has_errors();
        Self {
            plan: plan.filter(|_| !refused && !waits),
            places,
            waits: waits && !refused,
            notes: if refused { Vec::new() } else { source.take_notes() },
            diagnostics: source.into_diagnostics(),
        }
    }
}

/// One table of `[sources]`.
struct SourcePart {
    name: String,
    /// `None`: refused.
    plan: Option<SourcePlan>,
    /// The name in the header.
    at: Span,
    /// The key `protocol`, or the header.
    protocol_at: Span,
}

/// Which end of a stream something is, as the flow sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Media comes from there.
    Source,
    /// Media goes there.
    Output,
}

struct Flow<'a, 't> {
    source: &'a Source<'t>,
    site: &'a Site<'a>,
    places: &'a mut Places,
    /// A key is being written.
    waits: &'a mut bool,
}

impl<'t> Flow<'_, 't> {
    fn plan(&mut self, name: &FlowName, root: &Section<'_, 't>) -> Option<FlowPlan> {
        let sources = self.sources(root);
        let failover = self.failover(root, &sources);
        let outputs = self.outputs(root, &sources);
        let entitlements = self.entitlements(root);
        let alarms = self.alarms(root);
        let monitoring = root.table("monitoring");
        let analyse = monitoring.as_ref().and_then(|s| s.flag("transport-stream")).unwrap_or(true);
        let (thumbnails, content) = monitoring.map(|s| self.content(&s)).unwrap_or_default();
        Some(FlowPlan {
            name: name.clone(),
            description: root.text("description").map(|d| d.value).unwrap_or_default(),
            enabled: root.flag("enabled").unwrap_or(true),
            gather: root.gather("gather").unwrap_or(self.site.daemon.gather),
            tags: root.texts("tags").into_iter().collect(),
            operators: self.operators(root),
            sources: sources.into_iter().map(|s| Some((s.name, s.plan?))).collect::<Option<_>>()?,
            failover,
            outputs: outputs.into_iter().map(|(name, plan)| Some((name, plan?))).collect::<Option<_>>()?,
            entitlements: entitlements.into_iter().map(|(name, plan)| Some((name, plan?))).collect::<Option<_>>()?,
            analyse,
            thumbnails,
            content,
            alarms,
        })
    }

    fn operators(&self, root: &Section<'_, 't>) -> Vec<String> {
        let names = root.text_list("operators").unwrap_or_default();
        names.into_iter().filter_map(|name| group_name(self.source, "operators", name)).collect()
    }

    /// How often a picture is taken, and what is looked for in pictures and sound.
    fn content(&self, s: &Section<'_, 't>) -> (Option<Duration>, Option<ContentPlan>) {
        let thumbnails = s.table("thumbnails").map(|s| s.duration("every").unwrap_or(THUMBNAIL));
        let content = s.table("content").map(|s| {
            let watched = |key| s.duration(key).filter(|time| !time.is_zero());
            ContentPlan { black: watched("black"), frozen: watched("frozen"), silence: watched("silence") }
        });
        let asks = [("thumbnails", thumbnails.is_some()), ("content", content.is_some_and(|c| c.decodes()))];
        // Once is enough.
        let asking = asks.into_iter().find(|(_, asks)| *asks && !self.site.ffmpeg);
        if let Some((key, at)) = asking.and_then(|(key, _)| Some((key, s.key_span(key)?))) {
            let help =
                "install the package ffmpeg; without it the flow runs, and nothing looks at its content".to_owned();
            self.source.warning(&at, format!("`{key}` needs ffmpeg, which is not installed"), Some(help));
        }
        (thumbnails, content)
    }

    fn alarms(&self, root: &Section<'_, 't>) -> BTreeMap<String, AlarmPlan> {
        let Site { daemon, daemon_refused: refused, .. } = *self.site;
        let notifiers: Vec<_> = daemon.notifiers.keys().map(String::as_str).collect();
        alarms(self.source, root, &Known { alarms: &daemon.alarms, notifiers: &notifiers, refused })
    }

    fn sources(&mut self, root: &Section<'_, 't>) -> Vec<SourcePart> {
        let sections = root.named("sources");
        // Tables that are there but no sources have been reported already.
        if sections.is_empty() && !(root.has("sources") && self.source.has_errors()) {
            let help = "add [sources.NAME] with `protocol` and `bind`".to_owned();
            self.source.missing(&root.key_span("sources").unwrap_or(0..0), "a flow needs a source", Some(help));
        }
        let part = |(name, s): (String, Section<'_, 't>)| SourcePart {
            name,
            plan: self.source_plan(&s),
            at: s.at().clone(),
            protocol_at: s.key_span("protocol").unwrap_or_else(|| s.at().clone()),
        };
        sections.into_iter().map(part).collect()
    }

    fn source_plan(&mut self, s: &Section<'_, 't>) -> Option<SourcePlan> {
        let protocol = self.protocol(s, SOURCE_PROTOCOLS)?;
        let input = match protocol {
            "srt-listener" | "srt-caller" | "srt-rendezvous" | "entitlement" => {
                self.srt(s, protocol, End::Source).map(SourceInput::Srt)
            }
            "rist" => self.rist_input(s).map(SourceInput::Rist),
            _ => self.datagram_input(s, protocol).map(SourceInput::Datagrams),
        };
        let interface = self.interface(s);
        let max_bitrate = s.bitrate("max-bitrate");
        let description = s.text("description").map(|d| d.value).unwrap_or_default();
        let enabled = s.flag("enabled").unwrap_or(true);
        let decryption = self.content_decryption(s);
        Some(SourcePlan { description, enabled, input: input?, interface, max_bitrate, decryption })
    }

    fn datagram_input(&mut self, s: &Section<'_, 't>, protocol: &str) -> Option<DatagramInput> {
        let bind = self.bind(s, "write bind = \":5000\", or a multicast group such as \"239.1.1.1:5000\"");
        let multicast_sources = self.multicast_sources(s, bind.as_ref());
        let allow = self.allow(s, bind.as_ref(), End::Source);
        let reorder_window = s.duration("reorder-window").unwrap_or(Duration::from_millis(50));
        let protocol = match protocol {
            "rtp" => SourceProtocol::Rtp { reorder_window },
            "rtp-fec" => SourceProtocol::RtpFec { reorder_window, fec_ports: self.fec_ports(s, bind.as_ref()) },
            _ => SourceProtocol::Udp,
        };
        Some(DatagramInput { protocol, bind: bind?.value, multicast_sources, allow })
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

    /// Where it listens; `example`: what to write where it is missing.
    fn bind(&mut self, s: &Section<'_, 't>, example: &str) -> Option<At<Bind>> {
        if !s.has("bind") {
            s.missing("bind", example);
        }
        let bind: At<Bind> = s.parsed("bind")?;
        self.place(s, "bind", &bind.span);
        if bind.value.ip == Some(Ipv4Addr::BROADCAST.into()) {
            self.source.error(&bind.span, "`bind`: 255.255.255.255 is the broadcast address", None);
            return None;
        }
        if let Some(ip) = bind.value.ip {
            self.link_local(s, ip, &bind.span);
        }
        self.local_port(bind.value.port, &bind.span);
        Some(bind)
    }

    /// A port that another program may be given.
    fn local_port(&self, port: u16, at: &Span) {
        if let Some((low, high)) = self.site.local_ports.range_of(port) {
            let message = format!(
                "port {port} is one of those the system hands out by itself ({low} to {high}): another program may hold it when the flow starts"
            );
            let help = format!("use a port outside, or reserve it: sysctl net.ipv4.ip_local_reserved_ports={port}");
            self.source.warning(at, message, Some(help));
        }
    }

    /// Column and row: what is added to the port of `bind`.
    fn fec_ports(&self, s: &Section<'_, 't>, bind: Option<&At<Bind>>) -> [u16; 2] {
        let written = s.pair("fec-ports");
        let ports = written.map_or([2, 4], |pair| pair.map(|n| narrow(n).unwrap_or(u16::MAX)));
        let at = s.key_span("fec-ports").filter(|_| written.is_some());
        if let (true, Some(at)) = (ports[0] == ports[1], &at) {
            let help = "column FEC and row FEC come on ports of their own, as in [2, 4]".to_owned();
            self.source.error(at, format!("`fec-ports`: both are {}", ports[0]), Some(help));
        }
        let Some(At { value: bind, span }) = bind else { return ports };
        for (stream, offset) in [Stream::ColumnFec, Stream::RowFec].into_iter().zip(ports) {
            let at = at.as_ref().unwrap_or(span);
            match bind.port.checked_add(offset) {
                Some(port) => self.local_port(port, at),
                None => {
                    self.source.error(at, no_such_port(stream, bind.port, offset), None);
                    break;
                }
            }
        }
        ports
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

    /// Who may send to `bind`, or call there.
    fn allow(&self, s: &Section<'_, 't>, bind: Option<&At<Bind>>, end: End) -> Option<Vec<IpNet>> {
        // What those do who are listed, and who they are.
        let (act, who) = match end {
            End::Source => ("send", "sender"),
            End::Output => ("receive", "receiver"),
        };
        if !s.has("allow") {
            let At { value: bind, span } = bind?;
            if bind.ip.is_none_or(|ip| !ip.is_loopback() && !ip.is_multicast()) {
                let address = who.to_uppercase();
                self.source.missing(
                    span,
                    format!("`bind` {bind} can be reached from the network, so `allow` is required"),
                    Some(format!(
                        "add allow = [\"ADDRESS OF THE {address}\"], or [\"0.0.0.0/0\", \"::/0\"] for everybody"
                    )),
                );
            }
            return None;
        }
        let nets = s.networks("allow")?;
        if let (true, Some(at)) = (s.is_empty_list("allow"), s.key_span("allow")) {
            let help = format!("list the {who}s, or [\"0.0.0.0/0\", \"::/0\"] for everybody");
            self.source.error(&at, format!("`allow` is empty, so nobody could {act}"), Some(help));
        }
        if let Some(At { span, .. }) = nets.iter().find(|net| net.value.prefix_len() == 0) {
            let help = format!("list the {who}s if you know them");
            self.source.warning(span, "`allow` admits everybody", Some(help));
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

    fn place(&mut self, s: &Section<'_, 't>, key: &str, at: &Span) {
        self.places.insert(format!("{}.{key}", s.path()), self.source.position(at.start));
    }
}

/// Why `port` is too high.
fn no_such_port(stream: Stream, port: u16, offset: u16) -> String {
    format!("the {} of port {port} is on port {port} + {offset}, beyond 65535", stream.name())
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
