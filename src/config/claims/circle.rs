//! Flows that feed each other over SRT on this machine: a chain of them is fine, a circle is not.

use std::collections::BTreeSet;

use super::claim::{Claim, Conflict, End, Use, loops};
use crate::config::value::FlowName;
use crate::proto::srt::access::Access;

/// What sends, and what it feeds.
type Feed = (FlowName, FlowName);

/// Which flows feed which, as far as that is certain.
#[derive(Debug, Default)]
pub(super) struct Feeds(BTreeSet<Feed>);

/// Does one of them call the other? Then which flow feeds which. The address is literal, and the stream ID matches.
fn feed(a: &Claim, b: &Claim) -> Option<Feed> {
    let (caller, listener) = if matches!(a.what, Use::Call { .. }) { (a, b) } else { (b, a) };
    let Use::Call { ip, interface, stream_id, end } = &caller.what else { return None };
    let Use::Listen { ip: bound, interface: on, stream_id: pattern, end: listens } = &listener.what else {
        return None;
    };
    let is_meant = pattern.as_ref().is_none_or(|p| p.matches(stream_id.as_deref().unwrap_or_default()));
    let calls = caller.port == listener.port && loops(*ip, interface.as_ref(), *bound, on.as_ref());
    match (end, listens) {
        _ if !calls || !is_meant => None,
        (End::Output, End::Source) => Some((caller.flow.clone()?, listener.flow.clone()?)),
        // At the port for entitlements the stream ID says of which flow.
        (End::Source, End::Output) => {
            let called = || entitled_flow(stream_id.as_deref()?);
            Some((listener.flow.clone().or_else(called)?, caller.flow.clone()?))
        }
        // Neither would send anything, or both would: that is not a circle.
        _ => None,
    }
}

/// The flow whose entitlement a stream ID calls for.
fn entitled_flow(stream_id: &str) -> Option<FlowName> {
    Access::parse(stream_id).ok()??.resource?.split_once('/')?.0.parse().ok()
}

impl Feeds {
    /// Note what a claim comes to beside one that is granted.
    pub(super) fn note(&mut self, claim: &Claim, granted: &Claim) {
        self.0.extend(feed(claim, granted));
    }

    /// The first of `pairs`, each a claim and one that is granted, by which what a flow sends comes back to it; all of
    /// them taken together.
    pub(super) fn circle(&self, pairs: &[(&Claim, &Claim)]) -> Option<Conflict> {
        let news: Vec<_> = pairs.iter().filter_map(|(claim, granted)| feed(claim, granted)).collect();
        let all: Vec<&Feed> = self.0.iter().chain(&news).collect();
        pairs.iter().find_map(|(claim, granted)| {
            let (from, to) = feed(claim, granted)?;
            reaches(&all, &to, &from).then(|| conflict(claim, granted))
        })
    }
}

/// Does what `from` sends come to `to`?
fn reaches(feeds: &[&Feed], from: &FlowName, to: &FlowName) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(flow) = next.pop() {
        if flow == to {
            return true;
        }
        next.extend(
            feeds.iter().filter(|(feeder, _)| feeder == flow).map(|(_, fed)| fed).filter(|fed| seen.insert(*fed)),
        );
    }
    false
}

fn conflict(claim: &Claim, granted: &Claim) -> Conflict {
    let owner = granted.owner(claim);
    let does = if matches!(granted.what, Use::Call { .. }) { "calls" } else { "listens" };
    let (message, help) = if claim.flow == granted.flow {
        (format!("loop: {owner} {does} here"), "an output must not feed a source of its own flow: change one of them")
    } else {
        let message = format!("loop: {owner} {does} here, and what this flow sends comes back to it that way");
        (message, "flows may feed each other one way only: change one of them")
    };
    Conflict { place: claim.place, message, help }
}
