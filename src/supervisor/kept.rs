//! What outlives the process, in the service manager's store: the sockets of sources and outputs, in which packets wait
//! until the next process reads them; a list of what they are, and of whom there are connections with; and, when the
//! daemon was told to end, where each flow stands.
//!
//! Names in the store are short, since all of them are passed in one string of at most 128 KiB: a number, and what it is
//! stands in the list.

mod connections;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub(super) use self::connections::Place;
use self::connections::{Bound, Peers, another};
use crate::config::value::FlowName;
use crate::flow::FlowState;
use crate::flow::egress::SenderKey;
use crate::flow::srt::{Part, ReturnPath};
use crate::io::endpoint::{Endpoint, EndpointSpec, open_answering, open_endpoint};
use crate::io::fdstore;
use crate::io::links::InterfaceRef;
use crate::io::open::{OpenError, ReceiveSpec, Receiver, SendSpec, Sender, open_receiver, open_sender};
use crate::observe::event::{Event, emit};
use crate::time::Instant;

/// In the runtime directory.
const STOP_MARK: &str = "stopping";
/// The list of sockets.
const LIST: &str = "list";
/// Where the flows stand.
const STATE: &str = "state";
/// Of what is in [`STATE`]: another one is not read. To be counted up with every change of what a flow's state means.
const STATE_VERSION: u32 = 2;
/// Sockets that are kept: their names, of up to eight letters each, fit into the string. `FileDescriptorStoreMax=` is two
/// more.
const MOST: usize = 14_000;
/// How long the service manager may take to hear what it was told.
const HEARD: Duration = Duration::from_secs(1);
/// How long sockets of the process before wait for a flow that wants them; one of its host names may not be known yet.
const UNCLAIMED: Duration = Duration::from_secs(60);

/// What a socket is, by which it is found again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SocketKey {
    /// Bound and joined so.
    In { bind: SocketAddr, dual_stack: bool, interface: Option<InterfaceRef>, senders: Vec<IpAddr>, answers: bool },
    /// What a flow sends from.
    Out { flow: String, key: SenderKey },
    /// What an output by RIST sends from, and is answered at.
    Leg { flow: String, leg: LegKey, bind: SocketAddr },
    /// Of a port of SRT; `None`: where calls come.
    Port { port: Bound, place: Option<Place> },
    /// What a source or an output by SRT calls from.
    Call { flow: String, part: Part, from: Bound },
}

/// A socket of an output by RIST.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LegKey {
    pub(super) output: String,
    pub(super) number: usize,
    /// Of RTCP; else of media, or of both.
    pub(super) control: bool,
}

impl SocketKey {
    /// `answers`: it is sent from, too.
    pub(super) fn of(spec: &ReceiveSpec, answers: bool) -> Self {
        let ReceiveSpec { bind, dual_stack, interface, multicast_sources: senders, .. } = spec.clone();
        Self::In { bind, dual_stack, interface, senders, answers }
    }

    /// The local port that was asked for; `None`: any.
    fn port(&self) -> Option<u16> {
        match self {
            Self::In { bind, .. } | Self::Leg { bind, .. } => Some(bind.port()).filter(|port| *port != 0),
            Self::Port { port: bound, .. } | Self::Call { from: bound, .. } => {
                Some(bound.port()).filter(|port| *port != 0)
            }
            Self::Out { key, .. } => key.source_port,
        }
    }
}

/// Whose sockets they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Source(String),
    /// One that calls.
    Output(String),
    Sender(SenderKey),
    Leg(LegKey),
    /// It is nobody's alone.
    Port(Bound),
}

impl Owner {
    /// Whether it is an output of this name that answers or calls, or one of its legs.
    pub(super) fn is_of_output(&self, name: &str, number: Option<usize>) -> bool {
        match self {
            Self::Leg(leg) => leg.output == name && number.is_none_or(|number| leg.number == number),
            Self::Output(output) => output == name && number.is_none(),
            _ => false,
        }
    }
}

/// A line of the list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Listed {
    Socket {
        number: u32,
        key: SocketKey,
    },
    /// There is a connection.
    Peer(ReturnPath),
    /// There is none any more.
    PeerGone(ReturnPath),
}

/// Where the flows stood.
#[derive(Debug, Serialize, Deserialize)]
struct Left<F> {
    version: u32,
    /// When they were read last.
    at: Instant,
    flows: BTreeMap<String, F>,
}

/// What is kept, and what the process before this one left.
#[derive(Debug)]
pub(super) struct Kept {
    /// There may be a store.
    on: bool,
    /// There when the service is stopped, not started anew: the unit's `ExecStop=` makes it.
    stop_mark: PathBuf,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    list: Option<File>,
    lines: usize,
    next: u32,
    keys: BTreeMap<u32, SocketKey>,
    /// `None`: the appliance's.
    owners: BTreeMap<Option<FlowName>, BTreeMap<Owner, Vec<u32>>>,
    peers: Peers,
    /// From the process before this one, not taken yet.
    waiting: BTreeMap<SocketKey, Vec<(u32, OwnedFd)>>,
    since: Instant,
    left: Option<Left<FlowState>>,
    /// So many sockets were taken, and so many flows went on.
    taken: (usize, usize),
    /// So many peers by SRT were told to connect again.
    sent_away: usize,
    /// Something was removed, and that may not have been heard yet.
    removed: bool,
}

fn name(number: u32) -> String {
    format!("{number:x}")
}

/// Whether it could be told. Nothing can be done about a service manager that does not listen.
fn tell(told: io::Result<()>) -> bool {
    if let Err(error) = &told {
        emit(Event::NotifyFailed { error: error.to_string() });
    }
    told.is_ok()
}

fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?))
}

impl Kept {
    /// With what the process before this one left.
    pub(super) fn start(runtime: &Path) -> Self {
        let stop_mark = runtime.join(STOP_MARK);
        // Of an earlier stop, where the directory outlived that.
        let _ = std::fs::remove_file(&stop_mark);
        let mut inner = Inner::new();
        let on = fdstore::is_there();
        if on {
            inner.begin(fdstore::take_kept());
        }
        Self { on, stop_mark, inner: RefCell::new(inner) }
    }

    /// A socket for a source, open already or not.
    ///
    /// # Errors
    /// As [`open_receiver`].
    pub(super) fn receiver(&self, flow: &FlowName, source: &str, spec: &ReceiveSpec) -> Result<Receiver, OpenError> {
        let (owner, key) = (Owner::Source(source.to_owned()), SocketKey::of(spec, false));
        self.have(Some(flow), owner, key, |socket| Receiver::resume(socket, spec.gro), || open_receiver(spec))
    }

    /// The same for outputs.
    ///
    /// # Errors
    /// As [`open_sender`].
    pub(super) fn sender(&self, flow: &FlowName, key: SenderKey, spec: &SendSpec) -> Result<Sender, OpenError> {
        let socket_key = SocketKey::Out { flow: flow.to_string(), key };
        self.have(Some(flow), Owner::Sender(key), socket_key, Sender::resume, || open_sender(spec))
    }

    /// The same for who answers where it is sent to.
    ///
    /// # Errors
    /// As [`open_answering`].
    pub(super) fn answering(
        &self,
        flow: &FlowName,
        owner: Owner,
        spec: &ReceiveSpec,
        send_buffer: usize,
    ) -> Result<Endpoint, OpenError> {
        self.have(Some(flow), owner, SocketKey::of(spec, true), Endpoint::resume, || open_answering(spec, send_buffer))
    }

    /// The same for a leg of an output by RIST, whose socket hears.
    ///
    /// # Errors
    /// As [`open_endpoint`].
    pub(super) fn leg(&self, flow: &FlowName, leg: LegKey, spec: &EndpointSpec) -> Result<Endpoint, OpenError> {
        let key = SocketKey::Leg { flow: flow.to_string(), leg: leg.clone(), bind: spec.bind };
        self.have(Some(flow), Owner::Leg(leg), key, Endpoint::resume, || open_endpoint(spec))
    }

    /// The same for one that only sends.
    ///
    /// # Errors
    /// As [`open_sender`].
    pub(super) fn leg_sender(&self, flow: &FlowName, leg: LegKey, spec: &SendSpec) -> Result<Sender, OpenError> {
        let bind = SocketAddr::new(spec.family.unspecified(), spec.source_port.unwrap_or(0));
        let key = SocketKey::Leg { flow: flow.to_string(), leg: leg.clone(), bind };
        self.have(Some(flow), Owner::Leg(leg), key, Sender::resume, || open_sender(spec))
    }

    fn have<S: AsFd>(
        &self,
        flow: Option<&FlowName>,
        owner: Owner,
        key: SocketKey,
        resume: impl FnOnce(OwnedFd) -> S,
        open: impl FnOnce() -> Result<S, OpenError>,
    ) -> Result<S, OpenError> {
        if let Some(socket) = self.claim(flow, &owner, &key) {
            return Ok(resume(socket));
        }
        match open() {
            Ok(socket) => {
                self.put(flow, owner, key, socket.as_fd());
                Ok(socket)
            }
            Err(error) => {
                // One that nobody has wanted yet may be in its way: the next try finds it closed.
                if key.port().is_some() {
                    self.forget(|kept| kept.port() != key.port());
                }
                Err(error)
            }
        }
    }

    fn claim(&self, flow: Option<&FlowName>, owner: &Owner, key: &SocketKey) -> Option<OwnedFd> {
        let inner = &mut *self.inner.borrow_mut();
        let (number, socket) = inner.waiting.get_mut(key)?.pop()?;
        inner.own(flow, owner.clone(), number);
        inner.taken.0 += 1;
        Some(socket)
    }

    fn put(&self, flow: Option<&FlowName>, owner: Owner, key: SocketKey, socket: BorrowedFd<'_>) {
        let inner = &mut *self.inner.borrow_mut();
        if !self.on || inner.keys.len() >= MOST {
            return;
        }
        let number = inner.next;
        // First it is listed: one in the store that is not would be of no use.
        let listed = inner.write(&Listed::Socket { number, key: key.clone() });
        if listed.is_ok() && tell(fdstore::put(&name(number), socket)) {
            inner.next += 1;
            inner.keys.insert(number, key);
            inner.own(flow, owner, number);
        }
    }

    /// The sockets of a source or a sender are closed.
    pub(super) fn release(&self, flow: &FlowName, owner: &Owner) {
        self.release_all(flow, |other| other == owner);
    }

    /// Those of a flow whose owners these are.
    pub(super) fn release_all(&self, flow: &FlowName, which: impl Fn(&Owner) -> bool) {
        self.release_of(Some(flow), which);
    }

    fn release_of(&self, flow: Option<&FlowName>, which: impl Fn(&Owner) -> bool) {
        let (inner, flow) = (&mut *self.inner.borrow_mut(), flow.cloned());
        let Some(owners) = inner.owners.get_mut(&flow) else { return };
        let mut closed = Vec::new();
        owners.retain(|owner, numbers| {
            let stays = !which(owner);
            if !stays {
                closed.append(numbers);
            }
            stays
        });
        if owners.is_empty() {
            inner.owners.remove(&flow);
        }
        closed.into_iter().for_each(|number| inner.remove(number));
    }

    /// Of the sockets that packets come to, just these are wanted. Peers by SRT of others are told.
    pub(super) fn want(&self, wanted: &BTreeSet<SocketKey>) {
        let is_wanted = |key: &SocketKey| match key {
            SocketKey::In { .. } | SocketKey::Call { .. } => wanted.contains(key),
            // All places of a port stay, or none.
            SocketKey::Port { port, .. } => wanted.contains(&SocketKey::Port { port: port.clone(), place: None }),
            SocketKey::Out { .. } | SocketKey::Leg { .. } => true,
        };
        let told = self.say_goodbye_by(|key| !is_wanted(key));
        self.inner.borrow_mut().sent_away += told;
        self.forget(is_wanted);
    }

    /// What nobody wanted for long is closed, and connections are forgotten whose end nobody told.
    pub(super) fn forget_unclaimed(&self) {
        self.forget_lost();
        if self.inner.borrow().since.elapsed() >= UNCLAIMED {
            self.forget(|_| false);
        }
    }

    fn forget(&self, keep: impl Fn(&SocketKey) -> bool) {
        let inner = &mut *self.inner.borrow_mut();
        let mut forgotten = Vec::new();
        inner.waiting.retain(|key, kept| {
            let stays = keep(key);
            if !stays {
                forgotten.append(kept);
            }
            stays
        });
        forgotten.into_iter().for_each(|(number, _)| inner.remove(number));
    }

    /// When what was removed is closed by the service manager too; `None`: there is nothing to wait for.
    pub(super) fn settled(&self) -> Option<oneshot::Receiver<()>> {
        if !std::mem::take(&mut self.inner.borrow_mut().removed) {
            return None;
        }
        let (done, settled) = oneshot::channel();
        let barrier = fdstore::barrier().and_then(pipe::Receiver::from_owned_fd).ok()?;
        tokio::task::spawn_local(async move {
            heard(barrier).await;
            // Nobody waits any more when it is late.
            let _ = done.send(());
        });
        Some(settled)
    }

    /// Where a flow stood, once.
    pub(super) fn state_of(&self, flow: &FlowName) -> Option<Box<FlowState>> {
        let inner = &mut *self.inner.borrow_mut();
        let state = inner.left.as_mut()?.flows.remove(flow.as_str())?;
        inner.taken.1 += 1;
        Some(Box::new(state))
    }

    /// All flows that there are have begun: tell what was taken over, if anything was. Flows that come later begin anew,
    /// and so do connections that nobody goes on with.
    pub(super) fn begun(&self) {
        let told = self.say_goodbye();
        let inner = &mut *self.inner.borrow_mut();
        let sent_away = inner.sent_away + told;
        let (left, (sockets, flows)) = (inner.left.take(), inner.taken);
        if sockets + sent_away > 0 {
            emit(Event::TakenOver { sockets, flows, sent_away, gap: left.map(|left| left.at.elapsed()) });
        }
    }

    /// Whether another process goes on when this one ends: there is a service manager, and it has not said that it stops
    /// the service.
    pub(super) fn outlives(&self) -> bool {
        self.on && !self.stop_mark.exists()
    }

    /// Leave where the flows stand to the next process.
    pub(super) async fn leave(&self, at: Instant, flows: BTreeMap<String, FlowState>) {
        let left = Left { version: STATE_VERSION, at, flows };
        let kept = rmp_serde::to_vec_named(&left).map_err(io::Error::other).map(Zeroizing::new).and_then(|bytes| {
            let mut file = memory(STATE)?;
            file.write_all(&bytes)?;
            fdstore::put(STATE, file.as_fd())?;
            fdstore::barrier().and_then(pipe::Receiver::from_owned_fd)
        });
        match kept {
            Ok(barrier) => _ = tokio::time::timeout(HEARD, heard(barrier)).await,
            Err(error) => emit(Event::NotifyFailed { error: error.to_string() }),
        }
    }
}

/// Wait for the end of a [barrier](fdstore::barrier).
async fn heard(mut barrier: pipe::Receiver) {
    // Nothing is ever written to it; an error is its end as well.
    let _ = barrier.read(&mut [0]).await;
}

impl Inner {
    fn new() -> Self {
        Self {
            list: None,
            lines: 0,
            next: 0,
            keys: BTreeMap::new(),
            owners: BTreeMap::new(),
            peers: Peers::default(),
            waiting: BTreeMap::new(),
            since: Instant::now(),
            left: None,
            taken: (0, 0),
            sent_away: 0,
            removed: false,
        }
    }

    fn begin(&mut self, kept: Vec<(String, OwnedFd)>) {
        let mut sockets = BTreeMap::new();
        let mut listed = BTreeMap::new();
        for (name, fd) in kept {
            match name.as_str() {
                LIST => {
                    let mut file = File::from(fd);
                    (listed, self.peers.before) = read_list(&mut file);
                    self.list = Some(file);
                }
                STATE => self.left = read_state(File::from(fd)),
                _ => match u32::from_str_radix(&name, 16) {
                    Ok(number) => _ = sockets.insert(number, fd),
                    Err(_) => _ = tell(fdstore::remove(&name)),
                },
            }
        }
        // It was true for this start alone.
        let _ = tell(fdstore::remove(STATE));
        for (number, fd) in sockets {
            self.next = self.next.max(number + 1);
            match listed.remove(&number) {
                Some(key) => {
                    if key.is_of_connections() {
                        self.peers.sockets.extend(another(&fd).map(|another| (key.clone(), another)));
                    }
                    self.keys.insert(number, key.clone());
                    self.waiting.entry(key).or_default().push((number, fd));
                }
                None => self.remove(number),
            }
        }
        if self.list.is_none()
            && let Ok(file) = memory(LIST)
            && tell(fdstore::put(LIST, file.as_fd()))
        {
            self.list = Some(file);
        }
        let _ = self.rewrite();
    }

    fn own(&mut self, flow: Option<&FlowName>, owner: Owner, number: u32) {
        self.owners.entry(flow.cloned()).or_default().entry(owner).or_default().push(number);
    }

    fn remove(&mut self, number: u32) {
        self.keys.remove(&number);
        self.removed |= tell(fdstore::remove(&name(number)));
    }

    /// Add a line to the list.
    fn write(&mut self, line: &Listed) -> io::Result<()> {
        if self.lines > 2 * (self.keys.len() + self.peers.len()) + 1000 {
            self.rewrite()?;
        }
        self.append(line)
    }

    fn append(&mut self, line: &Listed) -> io::Result<()> {
        let file = self.list.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.lines += 1;
        file.write_all(&line)
    }

    /// Whether there is a connection.
    fn write_peer(&mut self, path: ReturnPath, is_there: bool) {
        // Where it can't be written, the peer notices by itself.
        let _ = self.write(&if is_there { Listed::Peer(path) } else { Listed::PeerGone(path) });
    }

    /// Leave just what is kept on the list. A process that is killed amid this leaves some unlisted, which the next one
    /// opens anew.
    fn rewrite(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.list else { return Ok(()) };
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        self.lines = 0;
        for (number, key) in self.keys.clone() {
            self.append(&Listed::Socket { number, key })?;
        }
        for path in self.peers.all() {
            self.append(&Listed::Peer(path))?;
        }
        Ok(())
    }
}

fn read_list(file: &mut File) -> (BTreeMap<u32, SocketKey>, BTreeSet<ReturnPath>) {
    let (mut sockets, mut peers) = (BTreeMap::new(), BTreeSet::new());
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    if read.is_err() {
        return (sockets, peers);
    }
    // The last line may have been cut short.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Listed>(line).ok()) {
        match line {
            Listed::Socket { number, key } => _ = sockets.insert(number, key),
            Listed::Peer(path) => _ = peers.insert(path),
            Listed::PeerGone(path) => _ = peers.remove(&path),
        }
    }
    (sockets, peers)
}

/// Where the flows stood. That of another version is not understood; its flows begin anew, with their sockets.
fn read_state(mut file: File) -> Option<Left<FlowState>> {
    // Keys may be in it.
    let mut bytes = Zeroizing::new(Vec::new());
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    // Never again, even if this process is killed before the service manager hears that it is to be removed.
    let emptied = file.set_len(0);
    let understood = read.and(emptied).map_err(|error| error.to_string()).and_then(|()| parse_state(&bytes));
    understood.inspect_err(|error| emit(Event::StateUnreadable { error: error.clone() })).ok()
}

fn parse_state(bytes: &[u8]) -> Result<Left<FlowState>, String> {
    let Left { version, .. } =
        rmp_serde::from_slice::<Left<serde::de::IgnoredAny>>(bytes).map_err(|e| e.to_string())?;
    if version != STATE_VERSION {
        return Err(format!("it is of version {version}, not {STATE_VERSION}"));
    }
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::srt::seq::SocketId;

    fn written(version: u32, flows: BTreeMap<String, u32>) -> Vec<u8> {
        rmp_serde::to_vec_named(&Left { version, at: Instant::now(), flows }).unwrap()
    }

    #[test]
    fn what_is_of_another_version_or_no_state_at_all_is_not_read() {
        let none = BTreeMap::new;
        assert_eq!(parse_state(&written(STATE_VERSION, none())).unwrap().flows.len(), 0);
        let other = parse_state(&written(STATE_VERSION + 1, none())).unwrap_err();
        assert!(other.contains("version 3, not 2"), "{other}");
        assert!(parse_state(&written(STATE_VERSION, BTreeMap::from([("news".to_owned(), 7)]))).is_err());
        assert!(parse_state(b"").is_err() && parse_state(b"nonsense").is_err());
    }

    #[test]
    fn a_list_that_was_cut_short_is_read_as_far_as_it_goes() {
        let mut inner = Inner { list: Some(tempfile::tempfile().unwrap()), ..Inner::new() };
        let key = |port: u16| SocketKey::In {
            bind: SocketAddr::from(([127, 0, 0, 1], port)),
            dual_stack: false,
            interface: None,
            senders: vec![],
            answers: false,
        };
        let path = |port| ReturnPath {
            bound: SocketAddr::from(([127, 0, 0, 1], port)),
            local: None,
            remote: SocketAddr::from(([127, 0, 0, 1], 9000)),
            socket: SocketId(7),
        };
        // More than there are sockets.
        inner.peers.before.extend((3000..5000).map(path));
        inner.rewrite().unwrap();
        inner.write_peer(path(6000), true);
        inner.peers.before.clear();
        inner.rewrite().unwrap();
        inner.write_peer(path(1), true);
        inner.write_peer(path(2), true);
        inner.write_peer(path(1), false);
        let socket = |number: u32| Listed::Socket { number, key: key(number as u16) };
        (1..=3).for_each(|number| inner.write(&socket(number)).unwrap());
        let mut file = inner.list.take().unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - 5).unwrap();
        let (sockets, peers) = read_list(&mut file);
        assert_eq!(sockets, BTreeMap::from([(1, key(1)), (2, key(2))]));
        assert_eq!(peers, BTreeSet::from([path(2)]));
    }
}
