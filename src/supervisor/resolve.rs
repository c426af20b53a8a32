//! From what a plan names to what a socket needs: interface names become indices, host names addresses.

use crate::time::Instant;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::plan::{
    DatagramInput, DatagramRoute, FlowPlan, LegPlan, OutputPlan, RistInput, SourcePlan, SourceProtocol, SrtMode,
};
use crate::config::value::{Bind, Destination, Gather, Host, Interface};
use crate::flow::egress::{LegConfig, OutputConfig};
use crate::io::endpoint::EndpointSpec;
use crate::io::links::Links;
use crate::io::open::{InterfaceRef, ReceiveSpec};

/// What to ask of the kernel for a source: with its overhead, half a second of 150 Mbit/s, or 80 ms of 1 Gbit/s.
pub(crate) const RECEIVE_BUFFER: usize = 16 << 20;
/// The same for what is sent.
pub(crate) const SEND_BUFFER: usize = 4 << 20;
/// How long an answer of the resolver is used.
const REFRESH: Duration = Duration::from_secs(60);
/// How long until a failed look-up is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Why something can't be opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// The interface is not there.
    Interface(String),
    /// The name has not been looked up yet.
    Pending(String),
    /// The name could not be looked up.
    Name { name: String, error: String },
}

/// The answer to a look-up.
#[derive(Debug)]
pub(super) struct Answer {
    name: String,
    result: Result<Vec<IpAddr>, String>,
}

#[derive(Debug)]
struct Lookup {
    /// The last good answer, kept through later failures.
    addresses: Vec<IpAddr>,
    error: Option<String>,
    due: Instant,
    running: bool,
}

/// Host names and their addresses: asked in the background, refreshed every 60 s while in use.
#[derive(Debug)]
pub(super) struct Names {
    lookups: RefCell<BTreeMap<String, Lookup>>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Names {
    pub(super) fn new(answers: mpsc::UnboundedSender<Answer>) -> Self {
        Self { lookups: RefCell::default(), answers }
    }

    /// The address of a name; asks for it where it is not known.
    fn address(&self, name: &str, now: Instant) -> Result<IpAddr, Unresolved> {
        let mut lookups = self.lookups.borrow_mut();
        let lookup = lookups.entry(name.to_owned()).or_insert_with(|| Lookup {
            addresses: Vec::new(),
            error: None,
            due: now,
            running: false,
        });
        self.ask(name, lookup, now);
        match (lookup.addresses.first(), &lookup.error) {
            (Some(ip), _) => Ok(*ip),
            (None, Some(error)) => Err(Unresolved::Name { name: name.to_owned(), error: error.clone() }),
            (None, None) => Err(Unresolved::Pending(name.to_owned())),
        }
    }

    /// The address of a destination.
    pub(super) fn resolve(&self, destination: &Destination, now: Instant) -> Result<IpAddr, Unresolved> {
        match &destination.host {
            Host::Address(ip) => Ok(*ip),
            Host::Name(name) => self.address(name, now),
        }
    }

    /// Ask anew for a destination's name, however young the last answer is.
    pub(super) fn ask_again(&self, destination: &Destination, now: Instant) {
        if let Host::Name(name) = &destination.host
            && let Some(lookup) = self.lookups.borrow_mut().get_mut(name)
        {
            lookup.due = now;
            self.ask(name, lookup, now);
        }
    }

    fn ask(&self, name: &str, lookup: &mut Lookup, now: Instant) {
        if lookup.running || lookup.due > now {
            return;
        }
        lookup.running = true;
        let (name, answers) = (name.to_owned(), self.answers.clone());
        tokio::task::spawn_local(async move {
            let result = match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(found) => Ok(found.map(|a| a.ip()).collect()),
                Err(error) => Err(error.to_string()),
            };
            // Nobody waits for it when the daemon stops.
            let _ = answers.send(Answer { name, result });
        });
    }

    /// Take in an answer; whether it changes an address.
    pub(super) fn answered(&self, answer: Answer, now: Instant) -> bool {
        let mut lookups = self.lookups.borrow_mut();
        let Some(lookup) = lookups.get_mut(&answer.name) else { return false };
        lookup.running = false;
        match answer.result {
            Ok(found) if !found.is_empty() => {
                lookup.due = now + REFRESH;
                lookup.error = None;
                // The order of several addresses changes from answer to answer: stay with the one in use.
                let stays = lookup.addresses.first().is_some_and(|ip| found.contains(ip));
                if !stays {
                    lookup.addresses = found;
                }
                !stays
            }
            Ok(_) => self.failed(lookup, "it has no address".to_owned(), now),
            Err(error) => self.failed(lookup, error, now),
        }
    }

    #[expect(clippy::unused_self, reason = "belongs to the names")]
    fn failed(&self, lookup: &mut Lookup, error: String, now: Instant) -> bool {
        lookup.due = now + RETRY;
        lookup.error.replace(error).is_none() && lookup.addresses.is_empty()
    }

    /// Whether none was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.lookups.borrow().is_empty()
    }

    /// Ask again for what is due; forget names that `used` does not hold.
    pub(super) fn refresh(&self, used: impl Fn(&str) -> bool, now: Instant) {
        let mut lookups = self.lookups.borrow_mut();
        lookups.retain(|name, _| used(name));
        for (name, lookup) in lookups.iter_mut() {
            self.ask(name, lookup, now);
        }
    }
}

fn interface(wanted: Option<&Interface>, links: &Links) -> Result<Option<InterfaceRef>, Unresolved> {
    wanted.map(|w| links.find(w).ok_or_else(|| Unresolved::Interface(w.to_string()))).transpose()
}

/// Where a bind leads: an address without an IP is all of them, of both families.
fn all_addresses(bind: Bind) -> (SocketAddr, bool) {
    let unspecified = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let dual_stack = bind.ip.is_none_or(|ip| ip == unspecified);
    (SocketAddr::new(bind.ip.unwrap_or(unspecified), bind.port), dual_stack)
}

/// What to open for connections by SRT; without a `bind`, a port of the system's choice.
pub(super) fn endpoint(mode: &SrtMode, wanted: Option<&Interface>, links: &Links) -> Result<EndpointSpec, Unresolved> {
    let (bind, dual_stack) = all_addresses(mode.bind().unwrap_or(Bind { ip: None, port: 0 }));
    // Who is called answers from there; who calls knows.
    let local_addresses = matches!(mode, SrtMode::Listener { .. });
    let interface = interface(wanted, links)?;
    Ok(EndpointSpec {
        bind,
        dual_stack,
        interface,
        local_addresses,
        receive_buffer: RECEIVE_BUFFER,
        send_buffer: SEND_BUFFER,
    })
}

/// What to open where others call by SRT.
pub(super) fn listening(bind: Bind, wanted: Option<&Interface>, links: &Links) -> Result<EndpointSpec, Unresolved> {
    let mode = SrtMode::Listener { bind, allow: None, stream_id: None, max_callers: 1 };
    endpoint(&mode, wanted, links)
}

/// What to open for a source.
pub(super) fn source(
    plan: &SourcePlan,
    input: &DatagramInput,
    flow: &FlowPlan,
    links: &Links,
) -> Result<ReceiveSpec, Unresolved> {
    let rtp = input.protocol.is_rtp();
    // One time stamp for a whole coalesced buffer would spoil RTP's jitter, unless packets are gathered on purpose.
    // FEC is read in the order of arrival with its media, for which each packet needs its own.
    let fec = matches!(input.protocol, SourceProtocol::RtpFec { .. });
    let gro = !fec
        && match flow.gather {
            Gather::For(time) => !time.is_zero(),
            Gather::Auto => !rtp,
        };
    let (bind, dual_stack) = all_addresses(input.bind);
    Ok(ReceiveSpec {
        bind,
        dual_stack,
        interface: interface(plan.interface.as_ref(), links)?,
        multicast_sources: input.multicast_sources.clone(),
        receive_buffer: RECEIVE_BUFFER,
        timestamps: true,
        gro,
    })
}

/// What to open for a source by RIST: of its first port.
pub(super) fn rist_source(plan: &SourcePlan, rist: &RistInput, links: &Links) -> Result<ReceiveSpec, Unresolved> {
    let (bind, dual_stack) = all_addresses(rist.bind);
    Ok(ReceiveSpec {
        bind,
        dual_stack,
        interface: interface(plan.interface.as_ref(), links)?,
        multicast_sources: rist.multicast_sources.clone(),
        receive_buffer: RECEIVE_BUFFER,
        timestamps: true,
        gro: true,
    })
}

/// Where an output sends: to its two legs, or to one destination. A leg that has no address or interface yet is left out
/// while there is another.
pub(super) fn legs(
    plan: &OutputPlan,
    destination: &Destination,
    legs: &[LegPlan],
    (links, names): (&Links, &Names),
    now: Instant,
) -> Result<[Option<LegConfig>; 2], Unresolved> {
    let leg = |destination: &Destination, wanted: Option<&Interface>| {
        let ip = names.resolve(destination, now)?;
        let interface = interface(wanted, links)?.map(|i| i.index);
        Ok(LegConfig { address: SocketAddr::new(ip, destination.port), interface })
    };
    match legs {
        [first, second, ..] => {
            let [first, second] = [first, second].map(|plan| leg(&plan.destination, plan.interface.as_ref()));
            match (first, second) {
                (Err(error), Err(_)) => Err(error),
                (first, second) => Ok([first.ok(), second.ok()]),
            }
        }
        _ => Ok([Some(leg(destination, plan.interface.as_ref())?), None]),
    }
}

/// What to send with for an output.
pub(super) fn output(
    plan: &OutputPlan,
    route: &DatagramRoute,
    links: &Links,
    names: &Names,
    now: Instant,
) -> Result<OutputConfig, Unresolved> {
    Ok(OutputConfig {
        legs: legs(plan, &route.destination, &route.legs, (links, names), now)?,
        ttl: plan.ttl,
        dscp: plan.dscp,
        protocol: route.protocol,
        source_port: route.source_port,
        smoothing: route.smoothing,
    })
}
