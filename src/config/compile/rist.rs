//! RIST, as source and as output: its ports, and with what it is encrypted.

use std::time::Duration;

use super::super::plan::{LegPlan, OutputRoute, RistEncryption, RistInput, RistProfile, RistRoute, Stream};
use super::super::section::{At, Section, Span};
use super::super::value::Interface;
use super::{End, Flow, narrow, no_such_port};
use crate::proto::rist::psk::KeyLength;

/// TR-06-1, appendix B.
const LATENCY: Duration = Duration::from_secs(1);

impl<'t> Flow<'_, 't> {
    /// `None`: refused.
    pub(super) fn rist_input(&mut self, s: &Section<'_, 't>) -> Option<RistInput> {
        let bind = self.bind(s, "write bind = \":5000\", or a multicast group such as \"239.1.1.1:5000\"");
        let multicast_sources = self.multicast_sources(s, bind.as_ref());
        let allow = self.allow(s, bind.as_ref(), End::Source);
        let latency = s.duration("latency").unwrap_or(LATENCY);
        let profile = self.rist_profile(s);
        let At { value: bind, span } = bind?;
        if profile == RistProfile::Simple && self.is_even(s, "bind", bind.port, &span) {
            self.local_port(bind.port + 1, &span);
        }
        Some(RistInput { bind, multicast_sources, allow, latency, profile })
    }

    /// The route, the interface, and where each of the places that it sends to is written. `None`: refused.
    pub(super) fn rist_route(&mut self, s: &Section<'_, 't>) -> Option<(OutputRoute, Option<Interface>, Vec<Span>)> {
        let has_legs = s.has("legs");
        let paths = self.paths(s, has_legs);
        let latency = s.duration("latency").unwrap_or(LATENCY);
        let profile = self.rist_profile(s);
        let source_port = self.rist_source_port(s, &profile);
        let paths = paths?;
        if profile == RistProfile::Simple {
            for (leg, span) in &paths {
                self.is_even(s, "destination", leg.destination.port, span);
            }
        }
        let (legs, spans): (Vec<_>, Vec<_>) = paths.into_iter().unzip();
        let LegPlan { destination, interface } = legs.first()?.clone();
        let legs = if has_legs { legs } else { Vec::new() };
        Some((OutputRoute::Rist(RistRoute { destination, legs, latency, profile, source_port }), interface, spans))
    }

    fn rist_source_port(&mut self, s: &Section<'_, 't>, profile: &RistProfile) -> Option<u16> {
        let port = s.whole("source-port").and_then(narrow);
        let span = s.key_span("source-port")?;
        self.place(s, "source-port", &span);
        if s.has("legs") {
            let message = "`source-port` and `legs` exclude each other with rist: each leg has a port of its own";
            self.source.error(&span, message, Some("remove `source-port`: the system chooses".into()));
        } else if let (Some(port), RistProfile::Simple) = (port.filter(|port| *port == u16::MAX), profile) {
            self.source.error(&span, no_such_port(Stream::Rtcp, port, 1), None);
        }
        port
    }

    /// TR-06-1, section 5.1: media on an even port, RTCP on the next. Another port is reported.
    fn is_even(&self, s: &Section<'_, 't>, key: &str, port: u16, at: &Span) -> bool {
        if port.is_multiple_of(2) {
            return true;
        }
        let even = if port == 1 { 2 } else { port - 1 };
        let what = if s.has("profile") { "profile = \"simple\"" } else { "the simple profile, the default," };
        let message = format!("`{key}`: port {port} is odd, and {what} has media on an even port, RTCP on the next");
        let help = format!("use port {even}; or profile = \"main\" at both ends, which needs one port");
        self.source.error(at, message, Some(help));
        false
    }

    fn rist_profile(&mut self, s: &Section<'_, 't>) -> RistProfile {
        let profile = s.choice("profile");
        if profile == Some(0) || !s.has("profile") {
            for key in ["passphrase-file", "passphrase-files", "key-length"] {
                let Some(at) = s.key_span(key) else { continue };
                let message = format!("`{key}` needs profile = \"main\": the simple profile cannot be encrypted");
                let help = "write profile = \"main\", as the other end must too; or remove it".to_owned();
                self.source.error(&at, message, Some(help));
            }
            return RistProfile::Simple;
        }
        // AES-192 is for SRT only.
        let key_length = match s.number_of("key-length", &[16, 32]) {
            Some(32) => KeyLength::Aes256,
            _ => KeyLength::Aes128,
        };
        let passphrases = self.passphrases(s, &["key-length"]);
        RistProfile::Main { encryption: passphrases.map(|passphrases| RistEncryption { passphrases, key_length }) }
    }
}
