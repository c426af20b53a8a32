//! What the flows need of their host, by their plans. Those that are disabled count: they may be enabled at any time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::plan::{EntitlementPort, FlowPlan, OutputRoute, SourceInput};
use crate::config::value::{Bind, Destination, Host, Interface};

/// Descriptors of the daemon besides those of sockets of flows: its control sockets, logs, timers, and who asks it.
const OTHER_DESCRIPTORS: u64 = 256;

/// Who binds to the port at which subscribers call.
const DESK: &str = "[entitlements]";

/// A group that a source joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    /// `FLOW/SOURCE`.
    pub(super) who: String,
    pub(super) group: IpAddr,
    /// Of a source-specific join; empty: any-source.
    pub(super) senders: Vec<IpAddr>,
    /// `None`: the one that the route to the group names.
    pub(super) interface: Option<Interface>,
}

/// What all flows need together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    /// How many sources there are.
    pub(super) sources: usize,
    /// How many outputs there are.
    pub(super) outputs: usize,
    /// Every socket joins one group.
    pub(super) joins: Vec<Join>,
    /// The ports that are bound to, and by whom (`FLOW/PART`).
    pub(super) ports: BTreeMap<u16, String>,
    /// Those that are named, and one who does.
    pub(super) interfaces: BTreeMap<Interface, String>,
    /// At most so many descriptors are open.
    pub(super) descriptors: u64,
}

impl Needs {
    /// `desk`: where subscribers call.
    pub(super) fn of<'a>(flows: impl IntoIterator<Item = &'a FlowPlan>, desk: Option<&EntitlementPort>) -> Self {
        let mut needs = Self {
            sources: 0,
            outputs: 0,
            joins: Vec::new(),
            ports: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            descriptors: OTHER_DESCRIPTORS,
        };
        for flow in flows {
            needs.add_sources(flow);
            needs.add_outputs(flow);
        }
        if let Some(desk) = desk {
            needs.bind([desk.bind.port], DESK);
            needs.use_interface(desk.interface.as_ref(), DESK);
        }
        needs
    }

    fn add_sources(&mut self, flow: &FlowPlan) {
        for (name, source) in &flow.sources {
            self.sources += 1;
            let who = format!("{}/{name}", flow.name);
            let mut join = |bind: Bind, senders: &[IpAddr]| {
                if let Some(group) = bind.ip.filter(IpAddr::is_multicast) {
                    let interface = source.interface.clone();
                    self.joins.push(Join { who: who.clone(), group, senders: senders.to_vec(), interface });
                }
            };
            let ports: Vec<u16> = match &source.input {
                SourceInput::Datagrams(input) => {
                    join(input.bind, &input.multicast_sources);
                    input.ports().map(|(_, port)| port).collect()
                }
                SourceInput::Rist(rist) => {
                    join(rist.bind, &rist.multicast_sources);
                    rist.ports().map(|(_, port)| port).collect()
                }
                SourceInput::Srt(srt) => srt.mode.bind().map(|bind| bind.port).into_iter().collect(),
            };
            self.descriptors += ports.len().max(1) as u64;
            self.bind(ports, &who);
            self.use_interface(source.interface.as_ref(), &who);
        }
    }

    fn add_outputs(&mut self, flow: &FlowPlan) {
        for (name, output) in &flow.outputs {
            self.outputs += 1;
            let who = format!("{}/{name}", flow.name);
            let ports: Vec<u16> = match &output.route {
                OutputRoute::Datagrams(route) => route.source_port.into_iter().collect(),
                OutputRoute::Rist(rist) => rist.source_ports().map(|(_, port)| port).collect(),
                OutputRoute::Srt(srt) => srt.mode.bind().map(|bind| bind.port).into_iter().collect(),
            };
            self.bind(ports, &who);
            for (_, interface) in output.paths() {
                self.use_interface(interface, &who);
            }
            self.use_interface(output.interface.as_ref(), &who);
            // One for each leg and each of its ports; of RIST they are never shared.
            self.descriptors += (output.legs().len().max(1) * output.streams().len().max(1)) as u64;
            if let Some(rist) = output.rist() {
                self.join_returns(rist.profile.streams().len() > 1, output.paths(), &who);
            }
        }
    }

    /// The members of a group that RIST sends to tell it what they miss, on RTCP's port.
    fn join_returns<'a>(
        &mut self,
        has_rtcp: bool,
        paths: impl Iterator<Item = (&'a Destination, Option<&'a Interface>)>,
        who: &str,
    ) {
        for (destination, interface) in paths.filter(|_| has_rtcp) {
            if let Host::Address(group) = destination.host
                && group.is_multicast()
            {
                let (who, interface) = (who.to_owned(), interface.cloned());
                self.joins.push(Join { who, group, senders: Vec::new(), interface });
            }
        }
    }

    fn bind(&mut self, ports: impl IntoIterator<Item = u16>, who: &str) {
        for port in ports {
            self.ports.entry(port).or_insert_with(|| who.to_owned());
        }
    }

    fn use_interface(&mut self, interface: Option<&Interface>, who: &str) {
        if let Some(interface) = interface {
            self.interfaces.entry(interface.clone()).or_insert_with(|| who.to_owned());
        }
    }
}
