//! Where callers for entitlements are received: one port for all of them. Who they are is in their stream ID, and what
//! they may have in the files of subscribers and flows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ipnet::IpNet;

use super::OpenDoor;
use super::door::{Door, Roster, reject};
use super::view::number;
use crate::config::plan::{EntitlementPlan, FlowPlan, SubscriberPlan};
use crate::config::value::FlowName;
use crate::flow::srt::stats::PeerStats;
use crate::observe::condition::Refusal;
use crate::observe::event::{Event, emit};
use crate::proto::srt::access::{Access, Mode};
use crate::proto::srt::km::KeyLength;

/// The desk of a port.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Desk {
    register: Mutex<Arc<Register>>,
    /// Who was turned away; nobody stays here.
    pub(in crate::supervisor) roster: Roster,
}

impl Desk {
    pub(super) fn register(&self) -> Arc<Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who may have what from now on.
    pub(in crate::supervisor) fn set_register(&self, register: Arc<Register>) {
        *self.register.lock().unwrap_or_else(PoisonError::into_inner) = register;
    }

    /// Note that somebody was turned away. What a stranger says of itself is told, and not kept by its name.
    pub(super) fn refuse(&self, register: &Register, from: SocketAddr, why: &Refusal, stream_id: Option<&str>) {
        let wanted = stream_id.and_then(|id| Wanted::read(id).ok());
        let subscriber = wanted.and_then(|wanted| register.subscribers.get(wanted.subscriber));
        let meant = wanted.and_then(|wanted| register.meant(&wanted));
        emit(Event::EntitlementRefused {
            flow: meant.map(|(_, flow)| flow.plan.name.clone()),
            entitlement: wanted.filter(|_| meant.is_some()).map(|wanted| wanted.entitlement.to_owned()),
            subscriber: subscriber.map(|subscriber| subscriber.name.clone()),
            peer: from,
            code: number(reject(why)),
            reason: why.code(),
            why: why.words().to_owned(),
            stream_id: stream_id.map(str::to_owned),
        });
        self.roster.refuse(from.ip(), why.clone(), stream_id);
        let door = wanted.and_then(|wanted| meant?.1.doors.get(wanted.entitlement));
        door.iter().for_each(|door| door.roster.refuse(from.ip(), why.clone(), stream_id));
    }
}

/// Who may have what.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Register {
    subscribers: BTreeMap<String, Arc<SubscriberPlan>>,
    flows: BTreeMap<String, Granting>,
    /// What callers take who have no wish of their own; `None`: what they always take.
    pub(super) key_length: Option<KeyLength>,
}

/// A flow that has entitlements.
#[derive(Debug)]
struct Granting {
    plan: Arc<FlowPlan>,
    /// What a session of it would carry.
    bps: u64,
    /// By the entitlement's name; none while the flow is not open.
    doors: BTreeMap<String, Arc<Door>>,
}

/// What a stream ID asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted<'a> {
    subscriber: &'a str,
    flow: &'a str,
    entitlement: &'a str,
}

impl<'a> Wanted<'a> {
    /// Read `#!::u=SUBSCRIBER,r=FLOW/ENTITLEMENT`, whose keys may be in any order and among others.
    fn read(stream_id: &'a str) -> Result<Self, Refusal> {
        let access = Access::parse(stream_id).ok().flatten().ok_or(Refusal::Malformed)?;
        let receives = access.mode == Mode::Request && matches!(access.kind, None | Some("stream"));
        let resource = access.resource.and_then(|resource| resource.split_once('/'));
        match (access.user, resource) {
            (Some(subscriber), Some((flow, entitlement))) if receives && !subscriber.is_empty() => {
                Ok(Self { subscriber, flow, entitlement })
            }
            _ => Err(Refusal::Malformed),
        }
    }
}

/// Somebody who is known, and calls from where it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    /// Whose passphrase it has yet to show.
    pub(super) subscriber: &'a SubscriberPlan,
    wanted: Wanted<'a>,
}

impl Register {
    /// A subscriber.
    pub(in crate::supervisor) fn add_subscriber(&mut self, plan: Arc<SubscriberPlan>) {
        self.subscribers.insert(plan.name.clone(), plan);
    }

    /// A flow with entitlements, what it carries now, and those of its entitlements that are open.
    pub(in crate::supervisor) fn add_flow<'a>(
        &mut self,
        plan: Arc<FlowPlan>,
        bps: u64,
        open: impl Iterator<Item = (&'a String, &'a OpenDoor)>,
    ) {
        let lengths = plan.entitlements.values().map(|plan| plan.key_length);
        let longer = lengths.filter(|length| *length != KeyLength::Aes128).chain(self.key_length);
        self.key_length = longer.max_by_key(|length| length.bytes());
        let doors = open.map(|(name, open)| (name.clone(), open.door())).collect();
        self.flows.insert(plan.name.to_string(), Granting { plan, bps, doors });
    }

    fn meant(&self, wanted: &Wanted<'_>) -> Option<(&EntitlementPlan, &Granting)> {
        let flow = self.flows.get(wanted.flow)?;
        Some((flow.plan.entitlements.get(wanted.entitlement)?, flow))
    }

    /// Who calls, as far as that can be said before it shows its passphrase.
    ///
    /// # Errors
    /// Its stream ID is malformed, it is not known, or it calls from elsewhere.
    pub(super) fn caller<'a>(&'a self, stream_id: Option<&'a str>, from: IpAddr) -> Result<Caller<'a>, Refusal> {
        let wanted = Wanted::read(stream_id.unwrap_or_default())?;
        let subscriber = self.subscribers.get(wanted.subscriber).ok_or(Refusal::UnknownSubscriber)?;
        if !allows(&subscriber.allow, from) {
            return Err(Refusal::Address);
        }
        Ok(Caller { subscriber, wanted })
    }

    /// Whether somebody who has shown its passphrase gets what it calls for, and by which door; `None`: it can't be said
    /// at the moment.
    ///
    /// # Errors
    /// There is no such entitlement, it is not for this subscriber, not now, or not for one more.
    pub(super) fn admit(&self, caller: &Caller<'_>, wall: SystemTime) -> Result<Option<&Arc<Door>>, Refusal> {
        let Caller { subscriber, wanted } = caller;
        let (plan, flow) = self.meant(wanted).ok_or(Refusal::UnknownEntitlement)?;
        if let Some(why) = withheld(subscriber, plan, &flow.plan, wall) {
            return Err(why);
        }
        // Its flow is being opened.
        let Some(door) = flow.doors.get(wanted.entitlement) else { return Ok(None) };
        let is_its = |peer: &Arc<PeerStats>| peer.subscriber.as_deref() == Some(&subscriber.name);
        // How many it has, and what they carry.
        let (mut sessions, mut bps) = (0, flow.bps);
        for flow in self.flows.values() {
            let its = flow.doors.values().map(|door| door.roster.peers().iter().filter(|peer| is_its(peer)).count());
            let its = its.sum::<usize>();
            sessions += its;
            bps = bps.saturating_add(flow.bps.saturating_mul(its as u64));
        }
        if door.roster.peers().len() >= plan.max_sessions
            || subscriber.max_sessions.is_some_and(|most| sessions >= most)
        {
            return Err(Refusal::Sessions);
        }
        if subscriber.max_bitrate.is_some_and(|most| bps > most.bps()) {
            return Err(Refusal::Bitrate);
        }
        Ok(Some(door))
    }

    /// Why a session may not go on; `None`: it may.
    pub(in crate::supervisor) fn revoked(
        &self,
        flow: &FlowName,
        entitlement: &str,
        peer: &PeerStats,
        wall: SystemTime,
    ) -> Option<String> {
        let subscriber = peer.subscriber.as_deref().and_then(|name| self.subscribers.get(name));
        let Some(subscriber) = subscriber else { return Some("its subscriber is gone".to_owned()) };
        if !allows(&subscriber.allow, peer.address.ip()) {
            return Some("`allow` of the subscriber does not list it any more".to_owned());
        }
        if !peer.fits(&subscriber.passphrases) {
            return Some("its passphrase is not listed any more".to_owned());
        }
        let wanted = Wanted { subscriber: &subscriber.name, flow: flow.as_str(), entitlement };
        let Some((plan, flow)) = self.meant(&wanted) else { return Some("the entitlement is gone".to_owned()) };
        withheld(subscriber, plan, &flow.plan, wall).map(|why| why.words().to_owned())
    }
}

fn allows(allow: &[IpNet], from: IpAddr) -> bool {
    allow.iter().any(|net| net.contains(&from))
}

/// Why a subscriber does not get an entitlement now, however many there are.
fn withheld(subscriber: &SubscriberPlan, plan: &EntitlementPlan, flow: &FlowPlan, wall: SystemTime) -> Option<Refusal> {
    if !subscriber.enabled {
        Some(Refusal::Disabled("the subscriber is disabled"))
    } else if !flow.enabled {
        Some(Refusal::Disabled("the flow is stopped"))
    } else if !plan.enabled {
        Some(Refusal::Disabled("the entitlement is disabled"))
    } else if !plan.subscribers.contains(&subscriber.name) {
        Some(Refusal::NotEntitled)
    } else {
        plan.expires.filter(|expires| *expires <= wall).map(|_| Refusal::Expired)
    }
}

#[cfg(test)]
mod tests;
