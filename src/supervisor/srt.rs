//! SRT in the hall: ports that are called, calls that are made, and what flows tell of their connections.

mod answer;
mod call;
mod conditions;
mod desk;
mod door;
mod entitlement;
mod keys;
mod part;
mod ports;
mod terms;
mod view;

use std::sync::Arc;

pub(super) use self::call::{Call, Ended, Home};
pub(super) use self::conditions::{Media, conditions};
pub(super) use self::desk::{Desk, Register};
pub(super) use self::door::{Roster, Tally};
pub(super) use self::entitlement::EntitlementEntry;
pub(super) use self::keys::{Derived, Keys};
use self::ports::OpenDoor;
pub(super) use self::ports::Ports;
pub(super) use self::view::{end_in_words, peer_doc, refused_doc, terms};
use crate::io::endpoint::EndpointSpec;

/// A source or output that is open by SRT.
#[derive(Debug)]
pub(super) struct SrtOpen {
    /// What its socket was opened with.
    spec: EndpointSpec,
    way: Way,
    /// Its connections.
    pub(super) roster: Arc<Roster>,
}

/// Who calls whom.
#[derive(Debug)]
enum Way {
    /// It is called.
    Door(OpenDoor),
    /// It calls.
    Call(Box<Call>),
}
