//! Connections by SRT over the end of the process: the sockets of their ports and calls, and whom they are with. Whoever
//! nobody goes on with, because the process was killed or its part is gone, is told to connect again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Kept, Owner, SocketKey};
use crate::config::value::FlowName;
use crate::flow::srt::stats::{PeerStats, Phase};
use crate::flow::srt::{LinkEvent, LinkNews, Part, ReturnPath};
use crate::io::batch::{SendBatch, Target, TrainLimit};
use crate::io::endpoint::{Endpoint, EndpointSpec, open_endpoint};
use crate::io::links::InterfaceRef;
use crate::io::open::OpenError;
use crate::proto::srt::control::Control;
use crate::proto::srt::seq::Timestamp;

/// What a socket of SRT is bound to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::supervisor) struct Bound {
    bind: SocketAddr,
    dual_stack: bool,
    interface: Option<InterfaceRef>,
}

impl From<&EndpointSpec> for Bound {
    fn from(spec: &EndpointSpec) -> Self {
        let EndpointSpec { bind, dual_stack, interface, .. } = spec.clone();
        Self { bind, dual_stack, interface }
    }
}

impl Bound {
    pub(super) const fn port(&self) -> u16 {
        self.bind.port()
    }
}

/// A place at a port: which data-plane thread reads its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::supervisor) struct Place {
    /// From 1, in the order they were opened: the kernel knows them by it.
    pub(in crate::supervisor) number: u32,
    /// The thread.
    pub(in crate::supervisor) shard: usize,
}

/// A port as the process before left it: the socket where calls come, and those of its places in their order, with their
/// threads.
pub(in crate::supervisor) type LeftPort = (Endpoint, Vec<(usize, Endpoint)>);

/// Whom connections are with.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// By the connection's number.
    now: BTreeMap<u64, (Arc<PeerStats>, ReturnPath)>,
    /// Those of the process before this one that nobody goes on with yet.
    pub(super) before: BTreeSet<ReturnPath>,
    /// Second descriptors of the sockets by which they are reached.
    pub(super) sockets: Vec<(SocketKey, OwnedFd)>,
    /// Nobody can be gone on with any more.
    told: bool,
}

impl Peers {
    /// All of them.
    pub(super) fn all(&self) -> Vec<ReturnPath> {
        self.now.values().map(|(_, path)| *path).chain(self.before.iter().copied()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }
}

impl Kept {
    /// A socket to call from, open already or not; beside it whether it was open.
    ///
    /// # Errors
    /// As [`open_endpoint`].
    pub(in crate::supervisor) fn calling(
        &self,
        flow: &FlowName,
        part: &Part,
        spec: &EndpointSpec,
    ) -> Result<(Endpoint, bool), OpenError> {
        let owner = match part {
            Part::Source(name) => Owner::Source(name.clone()),
            Part::Output(name) | Part::Entitlement(name) => Owner::Output(name.clone()),
        };
        let key = SocketKey::calling(flow, part, spec);
        if let Some(socket) = self.claim(Some(flow), &owner, &key) {
            return Ok((Endpoint::resume(socket), true));
        }
        Ok((self.have(Some(flow), owner, key, Endpoint::resume, || open_endpoint(spec))?, false))
    }

    /// A port as the process before left it; `None`: it had none there, or not all of it is left.
    pub(in crate::supervisor) fn left_port(&self, spec: &EndpointSpec) -> Option<LeftPort> {
        let port = Bound::from(spec);
        let mut places: Vec<Place> = {
            let inner = self.inner.borrow();
            let place = |key: &SocketKey| match key {
                SocketKey::Port { port: of, place } if *of == port => *place,
                _ => None,
            };
            inner.waiting.keys().filter_map(place).collect()
        };
        places.sort();
        // The kernel counts the sockets: one missing, and all others are other ones.
        let whole = places.iter().zip(1..).all(|(place, number)| place.number == number);
        let claim = |place| {
            let key = SocketKey::Port { port: port.clone(), place };
            Some(Endpoint::resume(self.claim(None, &Owner::Port(port.clone()), &key)?))
        };
        let Some(first) = claim(None).filter(|_| whole) else {
            self.forget(|key| !matches!(key, SocketKey::Port { port: of, .. } if *of == port));
            self.release_port(spec);
            return None;
        };
        let places = places.into_iter().filter_map(|place| Some((place.shard, claim(Some(place))?))).collect();
        Some((first, places))
    }

    /// A socket of a port, opened by `open`.
    ///
    /// # Errors
    /// Those of `open`.
    pub(in crate::supervisor) fn port_socket(
        &self,
        spec: &EndpointSpec,
        place: Option<Place>,
        open: impl FnOnce() -> Result<Endpoint, OpenError>,
    ) -> Result<Endpoint, OpenError> {
        let port = Bound::from(spec);
        self.have(None, Owner::Port(port.clone()), SocketKey::Port { port, place }, Endpoint::resume, open)
    }

    /// A port is closed.
    pub(in crate::supervisor) fn release_port(&self, spec: &EndpointSpec) {
        let port = Bound::from(spec);
        self.release_of(None, |owner| matches!(owner, Owner::Port(of) if *of == port));
    }

    /// A connection of the process before this one is to go on; `false`: its peer was told to connect again.
    pub(in crate::supervisor) fn goes_on(&self, path: &ReturnPath) -> bool {
        let peers = &mut self.inner.borrow_mut().peers;
        peers.before.remove(path);
        !peers.told
    }

    /// A flow tells of a connection: it is put down whom it is with, for the case that this process is killed.
    pub(in crate::supervisor) fn hear(&self, news: &LinkNews) {
        if !self.on {
            return;
        }
        let inner = &mut *self.inner.borrow_mut();
        match &news.what {
            LinkEvent::Connected(path) | LinkEvent::WentOn(path) => {
                inner.peers.now.insert(news.peer.number, (news.peer.clone(), *path));
                inner.write_peer(*path, true);
            }
            LinkEvent::Ended(_) => {
                if let Some((_, path)) = inner.peers.now.remove(&news.peer.number) {
                    inner.write_peer(path, false);
                }
            }
            LinkEvent::NeedKek(..) | LinkEvent::KeyUnconfirmed => {}
        }
    }

    /// Forget connections whose end nobody told: their flow's task is gone.
    pub(super) fn forget_lost(&self) {
        let inner = &mut *self.inner.borrow_mut();
        let is_lost = |(_, (peer, _)): &(u64, (Arc<PeerStats>, ReturnPath))| peer.phase() == Phase::Over;
        let (lost, now) = std::mem::take(&mut inner.peers.now).into_iter().partition(is_lost);
        inner.peers.now = now;
        lost.into_values().for_each(|(_, path)| inner.write_peer(path, false));
    }

    /// Tell those that nobody goes on with: they need not wait until they notice. How many there were.
    pub(super) fn say_goodbye(&self) -> usize {
        self.inner.borrow_mut().peers.told = true;
        self.say_goodbye_by(|_| true)
    }

    /// The same for those that are reached by some of the sockets, which are closed.
    pub(super) fn say_goodbye_by(&self, which: impl Fn(&SocketKey) -> bool) -> usize {
        let inner = &mut *self.inner.borrow_mut();
        let (closed, kept) = std::mem::take(&mut inner.peers.sockets).into_iter().partition(|(key, _)| which(key));
        inner.peers.sockets = kept;
        let mut batch = SendBatch::new();
        let mut told = Vec::new();
        for socket in closed.into_iter().map(|(_, socket): (SocketKey, OwnedFd)| Endpoint::resume(socket)) {
            let Ok(bound) = socket.local_addr() else { continue };
            let its = inner.peers.before.iter().filter(|path| path.bound == bound).copied().collect::<Vec<_>>();
            for path in its {
                shut_down(&path, &socket, &mut batch);
                inner.peers.before.remove(&path);
                told.push(path);
            }
        }
        told.iter().for_each(|path| inner.write_peer(*path, false));
        told.len()
    }
}

impl SocketKey {
    /// Where calls come.
    pub(in crate::supervisor) fn port_of(spec: &EndpointSpec) -> Self {
        Self::Port { port: spec.into(), place: None }
    }

    /// What a source or output calls from.
    pub(in crate::supervisor) fn calling(flow: &FlowName, part: &Part, spec: &EndpointSpec) -> Self {
        Self::Call { flow: flow.to_string(), part: part.clone(), from: spec.into() }
    }

    /// Whether packets of SRT come to it.
    pub(super) const fn is_of_connections(&self) -> bool {
        matches!(self, Self::Port { .. } | Self::Call { .. })
    }
}

/// A second descriptor of a socket, to say goodbye by.
pub(super) fn another(socket: &OwnedFd) -> Option<OwnedFd> {
    // Where there are none left, its peers notice by themselves.
    socket.as_fd().try_clone_to_owned().ok()
}

fn shut_down(path: &ReturnPath, socket: &Endpoint, batch: &mut SendBatch) {
    let mut packet = Vec::new();
    // Nobody looks at the time of it.
    Control::Shutdown.write(Timestamp(0), path.socket, &mut packet);
    let target = Target::from_endpoint(socket, path.remote, path.local, (None, 0));
    let mut session = batch.session();
    session.begin(TrainLimit::SINGLE);
    session.push(&[], &packet);
    let train = session.finish();
    session.message(&target, train, 0);
    // What does not arrive, the peer notices by itself.
    session.flush(socket.sender(), |_| {});
}
