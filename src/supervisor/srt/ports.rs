//! The ports at which callers are answered: each open as long as a source or output can be reached there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::answer::{Answerer, Doors};
use super::desk::Desk;
use super::door::{Door, Roster, Rules};
use super::terms::{PLACES, STEERING};
use crate::config::value::FlowName;
use crate::flow::Courier;
use crate::flow::srt::Part;
use crate::io::endpoint::{Endpoint, EndpointSpec, open_beside, open_endpoint};
use crate::io::open::OpenError;

/// All ports of SRT of the appliance.
#[derive(Default)]
pub(in crate::supervisor) struct Ports {
    /// Not before there is a port.
    answerer: Option<Answerer>,
    ports: BTreeMap<EndpointSpec, Port>,
    /// The port that has the desk.
    desk: Option<EndpointSpec>,
}

struct Port {
    /// Where calls come.
    first: Arc<Endpoint>,
    /// For [`Answerer::close`].
    number: u64,
    doors: Arc<Doors>,
    /// A socket for each data-plane thread that has a flow here, by the thread. Its place at the port is its number in
    /// this list, from 1.
    places: Vec<(usize, Arc<Endpoint>)>,
}

/// Who is behind a door.
pub(super) struct Behind {
    pub(super) flow: FlowName,
    pub(super) part: Part,
    pub(super) courier: Courier,
    /// The data-plane thread of the flow.
    pub(super) shard: usize,
    pub(super) roster: Arc<Roster>,
}

/// A door that is open. Dropping it shuts it; the port stays until [`Ports::sweep`].
pub(in crate::supervisor) struct OpenDoor {
    door: Arc<Door>,
    doors: Arc<Doors>,
    /// Bytes of receive buffer that the kernel granted.
    pub(in crate::supervisor) granted: usize,
}

impl std::fmt::Debug for OpenDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenDoor").field("flow", &self.door.flow).field("part", &self.door.part).finish_non_exhaustive()
    }
}

impl OpenDoor {
    /// Whether others can be reached at its port too.
    pub(super) fn is_shared(&self) -> bool {
        lock(&self.doors.list).len() > 1
    }

    pub(super) fn door(&self) -> Arc<Door> {
        self.door.clone()
    }

    /// Who is let in from now on.
    pub(super) fn set_rules(&self, rules: Rules) {
        self.door.set_rules(rules);
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        lock(&self.doors.list).retain(|door| !Arc::ptr_eq(door, &self.door));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ports {
    /// Let callers reach somebody; `ready` is called just before.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open(
        &mut self,
        spec: &EndpointSpec,
        behind: Behind,
        rules: Rules,
        ready: impl FnOnce(),
    ) -> Result<OpenDoor, OpenError> {
        let port = self.port(spec)?;
        let open = port.open(spec, behind, rules)?;
        ready();
        lock(&port.doors.list).push(open.door.clone());
        Ok(open)
    }

    /// Receive callers for entitlements at a port.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(in crate::supervisor) fn open_desk(&mut self, spec: EndpointSpec, desk: Arc<Desk>) -> Result<(), OpenError> {
        self.close_desk();
        *lock(&self.port(&spec)?.doors.desk) = Some(desk);
        self.desk = Some(spec);
        Ok(())
    }

    /// Receive no more of them. The port stays until [`Self::sweep`].
    pub(in crate::supervisor) fn close_desk(&mut self) {
        if let Some(port) = self.desk.take().and_then(|spec| self.ports.get(&spec)) {
            *lock(&port.doors.desk) = None;
        }
    }

    /// The port that has the desk; `None`: there is none.
    pub(in crate::supervisor) const fn desk(&self) -> Option<&EndpointSpec> {
        self.desk.as_ref()
    }

    /// A place behind the desk: who comes there is the desk's business. `ready` is called just before; `None`: there is no
    /// desk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open_at_desk(
        &mut self,
        behind: Behind,
        rules: Rules,
        ready: impl FnOnce(),
    ) -> Option<Result<OpenDoor, OpenError>> {
        let spec = self.desk.clone()?;
        let open = self.ports.get_mut(&spec)?.open(&spec, behind, rules);
        if open.is_ok() {
            ready();
        }
        Some(open)
    }

    fn port(&mut self, spec: &EndpointSpec) -> Result<&mut Port, OpenError> {
        let Self { answerer, ports, .. } = self;
        Ok(match ports.entry(spec.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let at = |e| OpenError::at_bind(spec.bind, e);
                let answerer = match answerer {
                    Some(answerer) => answerer,
                    none => none.insert(Answerer::start().map_err(at)?),
                };
                let (first, doors) = (Arc::new(open_endpoint(spec)?), Arc::<Doors>::default());
                let number = answerer.open(first.clone(), doors.clone());
                free.insert(Port { first, number, doors, places: Vec::new() })
            }
        })
    }

    /// Close the ports at which nobody can be reached any more. They are closed when all of these have answered.
    pub(in crate::supervisor) fn sweep(&mut self) -> Vec<oneshot::Receiver<()>> {
        let Self { answerer, ports, .. } = self;
        let mut closing = Vec::new();
        ports.retain(|_, port| {
            let used = !lock(&port.doors.list).is_empty() || lock(&port.doors.desk).is_some();
            if let (false, Some(answerer)) = (used, &answerer) {
                closing.push(answerer.close(port.number));
            }
            used
        });
        closing
    }
}

impl Port {
    /// A door that nobody is led to yet.
    fn open(&mut self, spec: &EndpointSpec, behind: Behind, rules: Rules) -> Result<OpenDoor, OpenError> {
        let Behind { flow, part, courier, shard, roster } = behind;
        let (place, endpoint) = self.place(spec, shard)?;
        let granted = endpoint.granted();
        let rules = Mutex::new(Arc::new(rules));
        let door = Arc::new(Door { flow, part, rules, courier, endpoint, place, roster });
        Ok(OpenDoor { door, doors: self.doors.clone(), granted })
    }

    /// The place and socket of a thread.
    fn place(&mut self, spec: &EndpointSpec, shard: usize) -> Result<(u32, Arc<Endpoint>), OpenError> {
        let at = match self.places.iter().position(|(of, _)| *of == shard) {
            Some(at) => at,
            None if self.places.len() as u32 + 1 >= PLACES => {
                return Err(OpenError::at_bind(spec.bind, std::io::Error::other("too many data-plane threads")));
            }
            None => {
                self.places.push((shard, Arc::new(open_beside(spec, &self.first, STEERING)?)));
                self.places.len() - 1
            }
        };
        Ok((at as u32 + 1, self.places[at].1.clone()))
    }
}
