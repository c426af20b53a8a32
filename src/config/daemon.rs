//! `mediaconnect.toml` to its plan.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::alarms::{self, Known};
use super::diagnostic::Diagnostic;
use super::key_file::key_file;
use super::keys::DAEMON;
use super::plan::{
    ControlPlan, DaemonPlan, EntitlementPort, HttpPlan, Limits, LogPlan, LogTarget, SyslogFormat, SyslogPlan,
    SyslogServer, TagLabel, TlsPlan,
};
use super::secrets::{Form, Secrets};
use super::section::{At, Section, nearest, no_such};
use super::source::{Source, shown};
use super::value::{Bind, Destination, Interface};
use crate::observe::http::{TlsError, server_config};

/// The file, judged.
pub(super) struct Settings {
    /// What is valid in it: meant to be used only if no error is among the diagnostics, except that flows may still be
    /// judged by it.
    pub(super) plan: DaemonPlan,
    /// Nothing is wrong, but a key that it names is being written.
    pub(super) waits: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What is to be known before a change, and is no fault.
    pub(super) notes: Vec<Diagnostic>,
}

/// What is valid in the file, and what is not.
pub(super) fn compile(file: &Path, text: &[u8], secrets: &Secrets) -> Settings {
    let source = Source::new(file, None, text);
    let mut waits = false;
    let plan = source.document().map(|document| {
        let root = Section::root(&source, &document, DAEMON);
        let default = DaemonPlan::default();
        let notifiers = alarms::notifiers(&source, &root, secrets);
        waits = notifiers.waits;
        let names: Vec<_> = notifiers.names.iter().map(String::as_str).collect();
        let known = Known { alarms: &default.alarms, notifiers: &names, refused: false };
        let mut alarms = default.alarms.clone();
        alarms.extend(alarms::alarms(&source, &root, &known));
        let networks = networks(&source, &root);
        DaemonPlan {
            alarms,
            notifiers: notifiers.plans,
            log: root.table("log").map_or(default.log.clone(), |s| log(&source, &s, default.log)),
            http: root
                .table("http")
                .map_or(default.http.clone(), |s| http(&source, &s, default.http, secrets, &mut waits)),
            control: root.table("control").map_or(default.control.clone(), |s| control(&source, &s, default.control)),
            entitlements: root.table("entitlements").and_then(|s| entitlements(&source, &s, &networks)),
            networks,
            gather: root.table("defaults").and_then(|s| s.gather("gather")).unwrap_or(default.gather),
            limits: root.table("limits").map_or(default.limits.clone(), |s| limits(&s, default.limits)),
        }
    });
    Settings {
        plan: plan.unwrap_or_default(),
        waits: waits && !source.has_errors(),
        notes: if source.has_errors() { Vec::new() } else { source.take_notes() },
        diagnostics: source.into_diagnostics(),
    }
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

fn log(source: &Source<'_>, s: &Section<'_, '_>, default: LogPlan) -> LogPlan {
    let level = s.text("level");
    if let Some(At { value, span }) = &level {
        for item in value.split(',').map(str::trim) {
            let (target, level) = item.split_once('=').map_or((None, item), |(target, level)| (Some(target), level));
            let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
            if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                let fault = no_such(level, LEVELS);
                source.error(span, format!("`level`: {} {}", shown(level), fault.problem), fault.help);
            } else if target.is_some_and(|t| t.is_empty() || t.contains(odd)) {
                let help = "write it as in \"info,mediaconnect::flow=debug\"".to_owned();
                source.error(span, format!("`level`: {} names no part of the program", shown(item)), Some(help));
            }
        }
    }
    let targets = s.choices("targets").unwrap_or_default();
    let mut all: Vec<_> =
        targets.into_iter().map(|i| [LogTarget::Journal, LogTarget::Syslog, LogTarget::Stderr][i.min(2)]).collect();
    all.sort_unstable();
    all.dedup();
    LogPlan {
        level: level.map_or(default.level, |l| l.value),
        targets: all,
        syslog: s.table("syslog").map_or(default.syslog.clone(), |s| syslog(source, &s, default.syslog)),
    }
}

fn syslog(source: &Source<'_>, s: &Section<'_, '_>, default: SyslogPlan) -> SyslogPlan {
    let server = s.text("server").and_then(|At { value, span }| {
        let network = |rest: &str| {
            let help = || Some("write \"udp://10.0.0.9:514\" or \"tcp://10.0.0.9:601\"".to_owned());
            rest.parse::<Destination>()
                .map_err(|e| source.error(&span, format!("`server`: {} {}", shown(&value), e.problem), help()))
                .ok()
        };
        if let Some(rest) = value.strip_prefix("udp://") {
            return network(rest).map(SyslogServer::Udp);
        }
        if let Some(rest) = value.strip_prefix("tcp://") {
            return network(rest).map(SyslogServer::Tcp);
        }
        if value.starts_with('/') {
            return Some(SyslogServer::Path(value.into()));
        }
        let help = "write \"/dev/log\", \"udp://10.0.0.9:514\" or \"tcp://10.0.0.9:601\"".to_owned();
        source.error(&span, format!("`server`: {} is neither a path nor a server", shown(&value)), Some(help));
        None
    });
    let server = server.unwrap_or(default.server);
    let format = match (s.choice("format"), &server) {
        (Some(0), _) | (None, SyslogServer::Path(_)) => SyslogFormat::Rfc3164,
        _ => SyslogFormat::Rfc5424,
    };
    let facility = s.choice("facility").and_then(|code| u8::try_from(code).ok()).unwrap_or(default.facility);
    SyslogPlan { server, format, facility }
}

fn http(source: &Source<'_>, s: &Section<'_, '_>, default: HttpPlan, secrets: &Secrets, waits: &mut bool) -> HttpPlan {
    let insecure = s.flag("insecure").unwrap_or(false);
    let tag_labels = tag_labels(source, s);
    let token = s.parsed("token-file");
    let token = token.and_then(|name| key_file(source, secrets, waits, "token-file", &name, Form::Token));
    let tls = s.table("tls").and_then(|s| tls(source, &s, secrets, waits));
    let listen = s.parsed_list::<Bind>("listen").map_or(default.listen, |listen| {
        let mut addresses = Vec::new();
        for At { value: bind, span } in listen {
            let address = SocketAddr::new(bind.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), bind.port);
            let missing = match (s.has("token-file"), s.has("tls")) {
                (true, true) => None,
                (false, true) => Some("`token-file`: anybody could read"),
                (true, false) => Some("`tls`: the token could be overheard"),
                (false, false) => Some("`token-file` and `tls`: anybody could read"),
            };
            if address.ip().is_multicast() {
                source.error(&span, format!("`listen`: {bind} is a multicast group"), None);
            } else if addresses.contains(&address) {
                source.error(&span, format!("`listen`: {bind} is listed twice"), Some("keep one of them".into()));
            } else if let (Some(missing), false) = (missing, address.ip().is_loopback() || insecure) {
                let help = "add them, listen on 127.0.0.1, or write insecure = true".to_owned();
                let problem = format!("`listen`: {bind} can be reached from the network, without {missing}");
                source.error(&span, problem, Some(help));
            }
            addresses.push(address);
        }
        addresses
    });
    HttpPlan { listen, tag_labels, token, tls }
}

fn tls(source: &Source<'_>, s: &Section<'_, '_>, secrets: &Secrets, waits: &mut bool) -> Option<TlsPlan> {
    let mut file = |key, help, form: Form| {
        if !s.has(key) {
            s.missing(key, help);
        }
        let name = s.parsed(key)?;
        Some((key_file(source, secrets, waits, key, &name, form)?, name.span))
    };
    let certificate = file("certificate-file", "write certificate-file = \"http.crt\"", Form::Certificate);
    let key = file("key-file", "write key-file = \"http.key\"", Form::PrivateKey);
    let ((certificate, certificate_at), (key, key_at)) = (certificate?, key?);
    let read = [&certificate, &key].iter().all(|file| !file.secret().bytes().is_empty());
    if let (true, Err(error)) = (read, server_config(certificate.secret().bytes(), key.secret().bytes())) {
        let (of, at, help) = match error {
            TlsError::Certificate => {
                ("certificate-file", &certificate_at, "it begins with -----BEGIN CERTIFICATE-----")
            }
            TlsError::Key => ("key-file", &key_at, "it begins with -----BEGIN PRIVATE KEY----- or the like"),
            TlsError::Pair(_) => {
                let help =
                    "`openssl x509 -noout -pubkey` and `openssl pkey -pubout` tell which key belongs to a certificate";
                ("key-file", &key_at, help)
            }
        };
        source.error(at, format!("`{of}`: {error}"), Some(help.to_owned()));
        return None;
    }
    Some(TlsPlan { certificate, key })
}

/// Each tag is a label of every series of a flow.
const MOST_TAG_LABELS: usize = 8;

fn tag_labels(source: &Source<'_>, s: &Section<'_, '_>) -> Vec<TagLabel> {
    let mut labels: Vec<TagLabel> = Vec::new();
    let tags = s.text_list("tag-labels").unwrap_or_default();
    if let (Some(span), true) = (s.key_span("tag-labels"), tags.len() > MOST_TAG_LABELS) {
        let problem = format!("`tag-labels`: {} tags are more than {MOST_TAG_LABELS}", tags.len());
        source.error(&span, problem, Some("keep those that you select metrics by".into()));
    }
    for At { value: tag, span } in tags {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let label: String = std::iter::once("tag_").chain([tag.as_str()]).flat_map(str::chars).map(plain).collect();
        if tag.is_empty() {
            source.error(&span, "`tag-labels`: a tag has a name", None);
        } else if labels.iter().any(|other| other.tag == tag) {
            let problem = format!("`tag-labels`: {} is listed twice", shown(&tag));
            source.error(&span, problem, Some("keep one of them".into()));
        } else if let Some(twin) = labels.iter().find(|other| other.label == label) {
            let problem = format!("`tag-labels`: {} and {} are both the label {label}", shown(&twin.tag), shown(&tag));
            source.error(&span, problem, Some("keep one of them".into()));
        } else {
            labels.push(TagLabel { tag, label });
        }
    }
    labels
}

fn control(source: &Source<'_>, s: &Section<'_, '_>, default: ControlPlan) -> ControlPlan {
    let group = |key: &str| group_name(source, key, s.text(key)?);
    ControlPlan {
        operators: group("operators").unwrap_or(default.operators),
        readers: group("readers").filter(|readers| readers != "everyone").or(default.readers),
    }
}

/// The name of a group that `key` gives; `None`: it can't be one, which is reported.
pub(super) fn group_name(source: &Source<'_>, key: &str, At { value, span }: At<String>) -> Option<String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | ',' | '/');
    if value.is_empty() || value.contains(odd) {
        let help = "`getent group` lists the groups".to_owned();
        source.error(&span, format!("`{key}`: {} is not a group name", shown(&value)), Some(help));
        return None;
    }
    Some(value)
}

fn networks(source: &Source<'_>, root: &Section<'_, '_>) -> BTreeMap<String, Interface> {
    let mut networks = BTreeMap::new();
    for (name, s) in root.named("networks") {
        s.refuse_unknown(None);
        let interface: Option<At<Interface>> = s.parsed("interface");
        let cidr = s.network("cidr").map(Interface::Cidr);
        match (s.key_span("interface"), s.has("cidr")) {
            (Some(at), true) => {
                let help = Some("keep one of them".to_owned());
                source.error(&at, "`interface` and `cidr` exclude each other", help);
            }
            (None, false) => {
                let help = "write interface = \"eth1\", or cidr = \"10.2.0.0/16\"".to_owned();
                source.missing(s.at(), format!("[{}] needs `interface` or `cidr`", s.path()), Some(help));
            }
            _ => networks.extend(interface.map(|i| i.value).or(cidr).map(|interface| (name, interface))),
        }
    }
    networks
}

fn entitlements(
    source: &Source<'_>,
    s: &Section<'_, '_>,
    networks: &BTreeMap<String, Interface>,
) -> Option<EntitlementPort> {
    if !s.has("bind") {
        s.missing("bind", "write bind = \":7000\"");
    }
    let bind: Option<At<Bind>> = s.parsed("bind");
    if let Some(At { value: Bind { ip: Some(ip), .. }, span }) = &bind
        && (ip.is_multicast() || *ip == IpAddr::from(Ipv4Addr::BROADCAST))
    {
        source.error(span, format!("`bind`: {ip} is no address of one host; SRT is between two hosts"), None);
    }
    let interface = s.text("network").map(|At { value: name, span }| {
        if !networks.contains_key(&name) {
            let near = nearest(&name, networks.keys().map(String::as_str));
            let help = near.map_or_else(|| format!("add [networks.{name}]"), |near| format!("did you mean {near:?}?"));
            source.error(&span, format!("network {} is not defined", shown(&name)), Some(help));
        }
        networks.get(&name).cloned()
    });
    Some(EntitlementPort { bind: bind?.value, interface: interface.flatten() })
}

fn limits(s: &Section<'_, '_>, default: Limits) -> Limits {
    let limit = |key, default| s.whole(key).and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
    Limits {
        max_flows: limit("max-flows", default.max_flows),
        max_outputs_per_flow: limit("max-outputs-per-flow", default.max_outputs_per_flow),
        workers: limit("workers", default.workers),
        worker_cpus: s.parsed("worker-cpus").map_or(default.worker_cpus, |cpus| cpus.value),
    }
}
