//! `sdp`: what a receiver needs to know of an RTP output (RFC 8866, RFC 3551).

use std::fmt::Write;

use crate::config::plan::{FlowPlan, RtpHeader};
use crate::config::value::{Destination, Host};

/// Why there is no SDP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The flow has other outputs, or none.
    #[error("flow {flow} has no output '{output}'; it has {}", has(.known))]
    NoOutput {
        /// The flow.
        flow: String,
        /// What was asked for.
        output: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Only RTP needs an SDP.
    #[error("output {output} of flow {flow} is {protocol}, which needs no SDP{}", receive(.protocol, .destination))]
    NotRtp {
        /// The flow.
        flow: String,
        /// The output.
        output: String,
        /// What it is.
        protocol: &'static str,
        /// As written.
        destination: String,
    },
}

fn has(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

/// How to receive it without.
fn receive(protocol: &str, destination: &str) -> String {
    if protocol == "udp" { format!(": receive udp://{destination}") } else { String::new() }
}

/// The dynamic and static payload type of MPEG-TS (RFC 3551, table 5).
const MP2T: u8 = 33;
/// The time to live of multicast where the plan has none.
const MULTICAST_TTL: u8 = 16;

/// The session description of one RTP output.
///
/// # Errors
/// The flow has no such output, or it does not send RTP.
pub fn sdp(plan: &FlowPlan, output: &str) -> Result<String, SdpError> {
    let flow = plan.name.to_string();
    let Some(out) = plan.outputs.get(output) else {
        let known = plan.outputs.keys().cloned().collect();
        return Err(SdpError::NoOutput { flow, output: output.to_owned(), known });
    };
    let rtp = out.datagrams().and_then(|route| Some((&route.destination, route.protocol.header()?)));
    let Some((destination, header)) = rtp else {
        let (protocol, destination) = (out.protocol_name(), out.place());
        return Err(SdpError::NotRtp { flow, output: output.to_owned(), protocol, destination });
    };
    let payload_type = match header {
        RtpHeader::Regenerate { payload_type, .. } => payload_type,
        // The source's own, which is MP2T's unless the sender is unusual.
        RtpHeader::Passthrough => MP2T,
    };
    let (family, address, origin) = connection(destination, out.ttl);
    let port = destination.port;
    let session = session_id(&format!("{flow}/{output} {destination} {payload_type}"));
    let mut text = String::new();
    let _ = write!(
        text,
        "v=0\r\n\
         o=- {session} 1 IN {family} {origin}\r\n\
         s={flow}\r\n"
    );
    if !plan.description.is_empty() {
        // A line of SDP ends at the first control character (RFC 8866, section 9: byte-string).
        let line: String = plan.description.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = write!(text, "i={line}\r\n");
    }
    let _ = write!(
        text,
        "c=IN {family} {address}\r\n\
         t=0 0\r\n\
         m=video {port} RTP/AVP {payload_type}\r\n\
         a=rtpmap:{payload_type} MP2T/90000\r\n"
    );
    Ok(text)
}

/// Address type, connection address, and the origin's address of the same type.
fn connection(destination: &Destination, ttl: Option<u8>) -> (&'static str, String, &'static str) {
    match &destination.host {
        Host::Address(std::net::IpAddr::V4(ip)) if ip.is_multicast() => {
            ("IP4", format!("{ip}/{}", ttl.unwrap_or(MULTICAST_TTL)), "127.0.0.1")
        }
        Host::Address(std::net::IpAddr::V4(ip)) => ("IP4", ip.to_string(), "127.0.0.1"),
        Host::Address(std::net::IpAddr::V6(ip)) => ("IP6", ip.to_string(), "::1"),
        Host::Name(name) => ("IP4", name.clone(), "127.0.0.1"),
    }
}

/// The same for the same output, another for another (FNV-1a): receivers tell sessions apart by it.
fn session_id(what: &str) -> u32 {
    what.bytes().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::plan::{DatagramRoute, OutputPlan, OutputProtocol, OutputRoute, SrtMode, SrtPlan};
    use crate::config::value::{Dscp, Gather};

    fn plan(host: Host, ttl: Option<u8>, protocol: OutputProtocol) -> FlowPlan {
        let destination = Destination { host, port: 5004 };
        let route = DatagramRoute { protocol, destination, legs: Vec::new(), source_port: None, smoothing: None };
        let out = OutputPlan {
            description: String::new(),
            enabled: true,
            route: OutputRoute::Datagrams(route),
            interface: None,
            ttl,
            dscp: Dscp::default(),
            encryption: None,
        };
        FlowPlan {
            name: "news".parse().unwrap(),
            description: String::new(),
            enabled: true,
            gather: Gather::Auto,
            operators: Vec::new(),
            tags: BTreeMap::new(),
            sources: BTreeMap::new(),
            failover: None,
            entitlements: BTreeMap::new(),
            outputs: BTreeMap::from([("playout".to_owned(), out)]),
            analyse: true,
            thumbnails: None,
            content: None,
            alarms: BTreeMap::new(),
        }
    }

    fn rtp(payload_type: u8) -> OutputProtocol {
        OutputProtocol::Rtp(RtpHeader::Regenerate { payload_type, ssrc: None })
    }

    fn to(address: &str) -> Host {
        Host::Address(address.parse().unwrap())
    }

    fn connection_of(host: Host, ttl: Option<u8>) -> String {
        let text = sdp(&plan(host, ttl, rtp(33)), "playout").unwrap();
        text.lines().find(|l| l.starts_with("c=")).unwrap().to_owned()
    }

    #[test]
    fn a_multicast_output_has_its_group_and_time_to_live() {
        let text = sdp(&plan(to("239.10.0.1"), Some(8), rtp(33)), "playout").unwrap();
        assert!(text.ends_with("\r\n"));
        insta::assert_snapshot!(text.replace("\r\n", "\n"), @r#"
            v=0
            o=- 3419845740 1 IN IP4 127.0.0.1
            s=news
            c=IN IP4 239.10.0.1/8
            t=0 0
            m=video 5004 RTP/AVP 33
            a=rtpmap:33 MP2T/90000
            "#);
    }

    #[test]
    fn the_connection_is_where_the_packets_go() {
        assert_eq!(connection_of(to("239.10.0.1"), None), "c=IN IP4 239.10.0.1/16");
        assert_eq!(connection_of(to("198.51.100.7"), Some(3)), "c=IN IP4 198.51.100.7");
        assert_eq!(connection_of(to("ff3e::1"), Some(3)), "c=IN IP6 ff3e::1");
        assert_eq!(connection_of(to("2001:db8::7"), None), "c=IN IP6 2001:db8::7");
        assert_eq!(connection_of(Host::Name("dec.example.net".into()), None), "c=IN IP4 dec.example.net");
    }

    #[test]
    fn the_payload_type_is_the_outputs() {
        let text = sdp(&plan(to("10.0.0.9"), None, rtp(96)), "playout").unwrap();
        assert!(text.contains("m=video 5004 RTP/AVP 96\r\na=rtpmap:96 MP2T/90000\r\n"), "{text}");
        let text = sdp(&plan(to("10.0.0.9"), None, OutputProtocol::Rtp(RtpHeader::Passthrough)), "playout").unwrap();
        assert!(text.contains("RTP/AVP 33\r\n"), "{text}");
    }

    #[test]
    fn a_description_stays_one_line() {
        let mut plan = plan(to("10.0.0.9"), None, rtp(33));
        plan.description = "Venue A\r\nm=audio 1 RTP/AVP 0".into();
        let text = sdp(&plan, "playout").unwrap();
        assert!(text.contains("i=Venue A  m=audio 1 RTP/AVP 0\r\n"), "{text}");
    }

    #[test]
    fn without_rtp_or_without_the_output_there_is_none() {
        let udp = plan(to("10.0.0.9"), None, OutputProtocol::Udp { datagram_packets: None });
        assert_eq!(
            sdp(&udp, "playout").unwrap_err().to_string(),
            "output playout of flow news is udp, which needs no SDP: receive udp://10.0.0.9:5004"
        );
        let mut srt = udp.clone();
        let mode = SrtMode::Rendezvous { bind: ":5004".parse().unwrap(), remote: "10.0.0.9:5004".parse().unwrap() };
        let route = SrtPlan { mode, latency: std::time::Duration::from_millis(120), encryption: None };
        srt.outputs.get_mut("playout").unwrap().route = OutputRoute::Srt(route);
        assert_eq!(
            sdp(&srt, "playout").unwrap_err().to_string(),
            "output playout of flow news is srt-rendezvous, which needs no SDP"
        );
        assert_eq!(sdp(&udp, "playuot").unwrap_err().to_string(), "flow news has no output 'playuot'; it has playout");
    }
}
