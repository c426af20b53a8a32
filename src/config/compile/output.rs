//! `[outputs.NAME]`: where a flow goes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::super::keys::OUTPUT_PROTOCOLS;
use super::super::plan::{
    Call, DatagramRoute, LegPlan, OutputPlan, OutputProtocol, OutputRoute, RtpHeader, SrtPlan, Stream, mixes,
};
use super::super::section::{At, Section, Span};
use super::super::value::{Destination, Host, Interface};
use super::{End, Flow, SourcePart, narrow, no_such_port};
use crate::proto::fec2022_1::matrix::Matrix;

/// A stream that an output sends to one place.
struct Sent {
    protocol: &'static str,
    stream: Stream,
    output: String,
    interface: Option<Interface>,
}

impl Sent {
    /// Why it cannot be sent to `to`, where `was` is sent: the message, and the way out.
    fn against(&self, was: &Self, to: &Destination) -> Option<(String, &'static str)> {
        if self.output == was.output {
            // The same group on two networks is two places.
            let message = format!("both legs send to {to}");
            return (self.interface == was.interface).then_some((message, "give one another destination or network"));
        }
        if !mixes((self.protocol, self.stream), (was.protocol, was.stream)) {
            return None;
        }
        let named = |sent: &Self| match sent.stream {
            Stream::Media => sent.protocol.to_owned(),
            other => other.name().to_owned(),
        };
        let already = format!("output {:?} already sends {} to {to}", was.output, named(was));
        Some(match self.stream {
            Stream::Media => (already, "remove one of them"),
            other => (format!("{already}, where the {} would go", other.name()), "give one of them another port"),
        })
    }
}

/// What the outputs before send, and where to.
#[derive(Default)]
struct Board {
    sent: BTreeMap<Destination, Vec<Sent>>,
    /// The output that calls so already.
    calls: BTreeMap<Call, String>,
}

impl<'t> Flow<'_, 't> {
    pub(super) fn outputs(
        &mut self,
        root: &Section<'_, 't>,
        sources: &[SourcePart],
    ) -> Vec<(String, Option<OutputPlan>)> {
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
        if sections.is_empty() && !root.has("outputs") && !root.has("entitlements") && !self.source.is_torn() {
            self.source.warning(&(0..0), "the flow has no outputs: it is received and watched, but sent nowhere", None);
        }
        let mut board = Board::default();
        let mut plans = Vec::new();
        // In the order of the file, so that the second of two alike is the one that is refused.
        let mut sections = sections;
        sections.sort_by_key(|(_, s)| s.at().start);
        for (name, s) in sections {
            let plan = self.output_plan(&s, sources);
            if let Some((plan, spans)) = &plan {
                match plan.srt() {
                    Some(srt) => self.refuse_call_twice(&name, srt, spans, &mut board.calls),
                    None => self.refuse_twice(&name, plan, spans, &mut board.sent),
                }
            }
            plans.push((name, plan.map(|(plan, _)| plan)));
        }
        plans
    }

    /// An output, or a leg, that sends to where another one of the flow sends already.
    fn refuse_twice(&self, name: &str, plan: &OutputPlan, spans: &[Span], sent: &mut BTreeMap<Destination, Vec<Sent>>) {
        for ((to, interface), span) in plan.paths().zip(spans) {
            let is = |stream| Sent {
                protocol: plan.protocol_name(),
                stream,
                output: name.to_owned(),
                interface: interface.cloned(),
            };
            let streams = plan.streams().iter();
            let own: Vec<_> = streams.filter_map(|(stream, n)| Some((to.at_offset(*n)?, is(*stream)))).collect();
            let fault = own.iter().find_map(|(to, is)| sent.get(to)?.iter().find_map(|was| is.against(was, to)));
            if let Some((message, help)) = fault {
                self.source.error(span, message, Some(help.into()));
            }
            own.into_iter().for_each(|(to, is)| sent.entry(to).or_default().push(is));
        }
    }

    /// An output that calls as another one of the flow does already.
    fn refuse_call_twice(&self, name: &str, srt: &SrtPlan, spans: &[Span], calls: &mut BTreeMap<Call, String>) {
        let (Some(call), Some(span)) = (srt.mode.call(), spans.first()) else { return };
        if let Some(was) = calls.get(&call) {
            let message = format!("output {was:?} already sends {call}");
            self.source.error(span, message, Some("remove one of them".into()));
        }
        calls.entry(call).or_insert_with(|| name.to_owned());
    }

    /// The plan, and where each of the places that it sends to is written.
    fn output_plan(&mut self, s: &Section<'_, 't>, sources: &[SourcePart]) -> Option<(OutputPlan, Vec<Span>)> {
        let protocol = self.protocol(s, OUTPUT_PROTOCOLS)?;
        let ttl = s.whole("ttl").and_then(narrow);
        let description = s.text("description").map(|d| d.value).unwrap_or_default();
        let (enabled, dscp) = (s.flag("enabled").unwrap_or(true), s.dscp("dscp").unwrap_or_default());
        let (route, interface, spans) = match protocol {
            "srt-listener" | "srt-caller" | "srt-rendezvous" => {
                let srt = self.srt(s, protocol, End::Output);
                let interface = self.interface(s);
                let to = ["destination", "remote"].into_iter().find_map(|key| s.value_span(key));
                (OutputRoute::Srt(srt?), interface, to.into_iter().collect())
            }
            "rist" => self.rist_route(s)?,
            _ => self.datagram_route(s, protocol, sources)?,
        };
        let encryption = self.content_encryption(s);
        Some((OutputPlan { description, enabled, route, interface, ttl, dscp, encryption }, spans))
    }

    fn datagram_route(
        &mut self,
        s: &Section<'_, 't>,
        protocol: &str,
        sources: &[SourcePart],
    ) -> Option<(OutputRoute, Option<Interface>, Vec<Span>)> {
        // Where they have no meaning, that is reported already.
        let has_legs = s.has("legs") && protocol != "udp";
        let paths = self.paths(s, has_legs);
        let source_port = s.whole("source-port").and_then(narrow);
        if let Some(at) = s.key_span("source-port") {
            self.place(s, "source-port", &at);
        }
        let smoothing = s.duration("smoothing");
        let protocol = match protocol {
            "rtp" => Some(OutputProtocol::Rtp(self.rtp_header(s, sources))),
            "rtp-fec" => {
                let header = self.rtp_header(s, sources);
                self.matrix(s).map(|matrix| OutputProtocol::RtpFec { header, matrix })
            }
            _ => Some(OutputProtocol::Udp { datagram_packets: s.whole("datagram-packets").and_then(narrow) }),
        };
        let (paths, protocol) = (paths?, protocol?);
        self.refuse_port_overflow(protocol, &paths);
        let (legs, spans): (Vec<_>, Vec<_>) = paths.into_iter().unzip();
        let LegPlan { destination, interface } = legs.first()?.clone();
        let legs = if has_legs { legs } else { Vec::new() };
        let route = DatagramRoute { protocol, destination, legs, source_port, smoothing };
        Some((OutputRoute::Datagrams(route), interface, spans))
    }

    fn refuse_port_overflow(&self, protocol: OutputProtocol, paths: &[(LegPlan, Span)]) {
        for (leg, span) in paths {
            let port = leg.destination.port;
            let beyond = protocol.streams().iter().find(|(_, offset)| port.checked_add(*offset).is_none());
            if let Some((stream, offset)) = beyond {
                self.source.error(span, no_such_port(*stream, port, *offset), None);
            }
        }
    }

    /// Its legs or its one destination, each with where it is written.
    pub(super) fn paths(&mut self, s: &Section<'_, 't>, has_legs: bool) -> Option<Vec<(LegPlan, Span)>> {
        if has_legs {
            return self.legs(s);
        }
        let interface = self.interface(s);
        self.destination(s).map(|At { value, span }| vec![(LegPlan { destination: value, interface }, span)])
    }

    /// Two places, each with where it is written.
    fn legs(&mut self, s: &Section<'_, 't>) -> Option<Vec<(LegPlan, Span)>> {
        for key in ["destination", "network", "interface"] {
            if let Some(at) = s.key_span(key) {
                let help = format!(
                    "each leg has its own: legs = [{{ destination = …, network = … }}, …]; remove `{key}` here"
                );
                self.source.error(&at, format!("`{key}` and `legs` exclude each other"), Some(help));
            }
        }
        let mut legs = Vec::new();
        for leg in s.tables("legs")? {
            let interface = self.interface(&leg);
            let destination = self.destination(&leg);
            legs.push(destination.map(|At { value, span }| (LegPlan { destination: value, interface }, span)));
        }
        legs.into_iter().collect()
    }

    /// The matrix of `fec`; `None`: refused.
    fn matrix(&self, s: &Section<'_, 't>) -> Option<Matrix> {
        let fec = s.table("fec");
        let at = fec.as_ref().map_or_else(|| s.at().clone(), |fec| fec.at().clone());
        let number = |key: &str| match &fec {
            Some(fec) if fec.has(key) => fec.whole_of_any_size(key),
            _ => Some(10),
        };
        let (columns, rows) = (number("columns"), number("rows"));
        let row_stream = fec.as_ref().and_then(|fec| fec.flag("row-stream")).unwrap_or(true);
        let matrix = Matrix::new(columns?, rows?, row_stream);
        matrix.inspect_err(|fault| self.source.error(&at, format!("`fec`: {fault}"), None)).ok()
    }

    fn destination(&mut self, s: &Section<'_, 't>) -> Option<At<Destination>> {
        let destination = self.peer(s, "destination", "write destination = \"203.0.113.7:5000\"")?;
        if let Host::Address(ip) = destination.value.host {
            if ip == IpAddr::from(Ipv4Addr::BROADCAST) {
                let help = "send to a multicast group instead".to_owned();
                self.source.error(&destination.span, "`destination`: broadcast is not supported", Some(help));
                return None;
            }
            self.link_local(s, ip, &destination.span);
        }
        Some(destination)
    }

    /// Somebody to send to, behind a key that must be written; `example`: what to write where it is missing.
    pub(super) fn peer(&mut self, s: &Section<'_, 't>, key: &str, example: &str) -> Option<At<Destination>> {
        if !s.has(key) {
            s.missing(key, example);
        }
        let peer: At<Destination> = s.parsed(key)?;
        self.place(s, key, &peer.span);
        if let Host::Address(ip) = peer.value.host
            && ip.is_unspecified()
        {
            let here = if ip.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            let help = format!("for this machine write \"{here}:{}\"", peer.value.port);
            self.source.error(&peer.span, format!("`{key}`: nobody has the address {ip}"), Some(help));
            return None;
        }
        Some(peer)
    }

    fn rtp_header(&self, s: &Section<'_, 't>, sources: &[SourcePart]) -> RtpHeader {
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
        // One that is disabled is never on air.
        let on_air = |s: &&SourcePart| s.plan.as_ref().is_some_and(|plan| plan.enabled && !plan.is_rtp());
        if let (Some(without), Some(at)) = (sources.iter().find(on_air), s.key_span("header")) {
            let message =
                format!("header = \"passthrough\" needs RTP: source {:?} carries no RTP headers", without.name);
            let help = "remove it: headers are made anew (\"regenerate\")".to_owned();
            self.source.error(&at, message, Some(help));
        }
        RtpHeader::Passthrough
    }
}
