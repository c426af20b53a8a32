//! The ports at which callers are answered: each open as long as a source or output can be reached there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::answer::{Answerer, Doors};
use super::desk::Desk;
use super::door::{Door, Roster, Rules};
use super::terms::{PLACE_SHIFT, PLACES, STEERING};
use crate::config::value::FlowName;
use crate::flow::Courier;
use crate::flow::srt::Part;
use crate::io::endpoint::{Endpoint, EndpointSpec, open_beside, open_endpoint};
use crate::io::open::OpenError;
use crate::proto::srt::seq::SocketId;
use crate::supervisor::kept::{Kept, Place};

/// All ports of SRT of the appliance.
pub(in crate::supervisor) struct Ports {
    /// Where their sockets are kept.
    kept: Rc<Kept>,
    /// How many data-plane threads there are.
    threads: usize,
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
    /// So many of them are those of the process before this one.
    left: usize,
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

    /// Lead callers to it.
    pub(super) fn let_in(&self) {
        lock(&self.doors.list).push(self.door.clone());
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
    /// Without a port yet.
    pub(in crate::supervisor) fn new(kept: Rc<Kept>, threads: usize) -> Self {
        Self { kept, threads, answerer: None, ports: BTreeMap::new(), desk: None }
    }

    /// A door at a port. Nobody is led to it before [`OpenDoor::let_in`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open(&mut self, spec: &EndpointSpec, behind: Behind, rules: Rules) -> Result<OpenDoor, OpenError> {
        let kept = self.kept.clone();
        self.port(spec)?.open(spec, &kept, behind, rules)
    }

    /// The socket of a connection that was made in the process before this one; `None`: this thread does not have it.
    pub(super) fn socket_of(&self, spec: &EndpointSpec, link: SocketId, shard: usize) -> Option<Arc<Endpoint>> {
        let number = (link.0 >> PLACE_SHIFT).checked_sub(1)?;
        let port = self.ports.get(spec)?;
        let (of, endpoint) = port.places[..port.left].get(number as usize)?;
        (*of == shard).then(|| endpoint.clone())
    }

    /// Answer no more calls: those that come wait for the next process.
    pub(in crate::supervisor) fn stop_answering(&mut self) {
        self.answerer = None;
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

    /// A place behind the desk: who comes there is the desk's business. `None`: there is no desk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open_at_desk(&mut self, behind: Behind, rules: Rules) -> Option<Result<OpenDoor, OpenError>> {
        let Self { kept, ports, desk, .. } = self;
        let spec = desk.as_ref()?;
        Some(ports.get_mut(spec)?.open(spec, kept, behind, rules))
    }

    fn port(&mut self, spec: &EndpointSpec) -> Result<&mut Port, OpenError> {
        let Self { kept, threads, answerer, ports, .. } = self;
        Ok(match ports.entry(spec.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let at = |e| OpenError::at_bind(spec.bind, e);
                let answerer = match answerer {
                    Some(answerer) => answerer,
                    none => none.insert(Answerer::start().map_err(at)?),
                };
                let (first, places) = match kept.left_port(spec) {
                    Some(left) => left,
                    None => (kept.port_socket(spec, None, || open_endpoint(spec))?, Vec::new()),
                };
                // With fewer threads than there were, one has the places of several.
                let place = |(shard, socket)| (shard % *threads, Arc::new(socket));
                let places: Vec<_> = places.into_iter().map(place).collect();
                let (left, first, doors) = (places.len(), Arc::new(first), Arc::<Doors>::default());
                let number = answerer.open(first.clone(), doors.clone());
                free.insert(Port { first, number, doors, places, left })
            }
        })
    }

    /// Close the ports at which nobody can be reached any more. They are closed when all of these have answered.
    pub(in crate::supervisor) fn sweep(&mut self) -> Vec<oneshot::Receiver<()>> {
        let Self { kept, answerer, ports, .. } = self;
        let mut closing = Vec::new();
        ports.retain(|spec, port| {
            let used = !lock(&port.doors.list).is_empty() || lock(&port.doors.desk).is_some();
            if !used {
                closing.extend(answerer.as_ref().map(|answerer| answerer.close(port.number)));
                kept.release_port(spec);
            }
            used
        });
        closing
    }
}

impl Port {
    /// A door that nobody is led to yet.
    fn open(&mut self, spec: &EndpointSpec, kept: &Kept, behind: Behind, rules: Rules) -> Result<OpenDoor, OpenError> {
        let Behind { flow, part, courier, shard, roster } = behind;
        let (place, endpoint) = self.place(spec, kept, shard)?;
        let granted = endpoint.granted();
        let rules = Mutex::new(Arc::new(rules));
        let door = Arc::new(Door { flow, part, rules, courier, endpoint, place, roster });
        Ok(OpenDoor { door, doors: self.doors.clone(), granted })
    }

    /// The place and socket of a thread.
    fn place(&mut self, spec: &EndpointSpec, kept: &Kept, shard: usize) -> Result<(u32, Arc<Endpoint>), OpenError> {
        let at = match self.places.iter().position(|(of, _)| *of == shard) {
            Some(at) => at,
            None if self.places.len() as u32 + 1 >= PLACES => {
                return Err(OpenError::at_bind(spec.bind, std::io::Error::other("too many data-plane threads")));
            }
            None => {
                let place = Place { number: self.places.len() as u32 + 1, shard };
                let open = || open_beside(spec, &self.first, STEERING);
                self.places.push((shard, Arc::new(kept.port_socket(spec, Some(place), open)?)));
                self.places.len() - 1
            }
        };
        Ok((at as u32 + 1, self.places[at].1.clone()))
    }
}
