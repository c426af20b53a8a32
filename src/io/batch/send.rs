//! Datagrams out: trains of equal ones as one message, many messages a system call.

use std::os::fd::AsFd;

use super::target::{SendError, Target};
use crate::io::open::Sender;
use crate::io::sys::{Gatherer, Lent, Pieces, SEND_BATCH, Wire};

/// Most bytes of a train. With IP and UDP headers it must stay below 64 KiB.
const TRAIN_BYTES: usize = 65_000;
/// How often a message is tried again that failed because of another one's destination.
const RETRIES: usize = 3;

/// Headers and lists of what is to be sent, reused by all outputs of a shard.
pub struct SendBatch {
    gatherer: Gatherer,
    lists: Lists,
}

/// How many datagrams may go as one message: 1 to 64, the most that every kernel with UDP_SEGMENT takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainLimit(u16);

impl TrainLimit {
    /// Each datagram is a message of its own.
    pub const SINGLE: Self = Self(1);
    /// As many as the kernel takes.
    pub const MAX: Self = Self(64);

    /// `datagrams`, brought into the range.
    pub const fn new(datagrams: usize) -> Self {
        match datagrams {
            0 => Self::SINGLE,
            1..=64 => Self(datagrams as u16),
            _ => Self::MAX,
        }
    }
}

/// The datagrams between [`Session::begin`] and [`Session::finish`], for [`Session::message`]. Of one session only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trains {
    start: u32,
    end: u32,
    datagrams: u32,
    bytes: u64,
}

impl Trains {
    /// How many datagrams.
    pub fn datagrams(&self) -> u32 {
        self.datagrams
    }

    /// UDP payload bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }
}

/// What became of the datagrams of one [`Session::message`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams the kernel took.
    pub sent: u32,
    /// UDP payload bytes of those.
    pub sent_bytes: u64,
    /// Datagrams it did not take; they are gone.
    pub dropped: u32,
    /// Why, for the last of those.
    pub error: Option<SendError>,
    /// The path takes these datagrams only one by one: the caller may spare the next attempt with
    /// [`Target::refuse_segmentation`].
    pub segmentation_refused: bool,
}

/// What [`Session::flush`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Once for each [`Session::message`], in their order.
    Message {
        /// As given with the message.
        tag: u32,
        /// What became of it.
        outcome: Outcome,
    },
    /// The network says that an earlier datagram did not arrive.
    Unreachable {
        /// Where that datagram was to go.
        destination: std::net::SocketAddr,
        /// What the network says.
        error: SendError,
    },
}

/// Datagrams that go as one message: all of `segment` bytes, only the last may be shorter.
#[derive(Clone, Copy)]
struct Train {
    row: Pieces,
    segment: usize,
    datagrams: u16,
    bytes: usize,
    /// Where in [`Lists::singles`] its datagrams are, one by one, if that was needed.
    singles: Option<u32>,
}

impl Train {
    fn takes(&self, len: usize, limit: TrainLimit) -> bool {
        let closed = self.bytes < self.segment * usize::from(self.datagrams);
        !closed && self.datagrams < limit.0 && len > 0 && len <= self.segment && self.bytes + len <= TRAIN_BYTES
    }
}

/// What a [`Wire`] carries.
#[derive(Clone, Copy)]
struct Load {
    request: u32,
    train: u32,
    datagrams: u16,
    bytes: u32,
}

struct Request {
    tag: u32,
    outcome: Outcome,
}

#[derive(Default)]
struct Lists {
    trains: Vec<Train>,
    singles: Vec<Pieces>,
    /// The messages to send, and beside each what it carries.
    wires: Vec<Wire>,
    loads: Vec<Load>,
    requests: Vec<Request>,
    /// One train's messages, datagram by datagram.
    spare: Vec<Wire>,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SendBatch {
    /// An empty batch. Its lists grow with what is sent, and stay.
    pub fn new() -> Self {
        Self { gatherer: Gatherer::new(), lists: Lists::default() }
    }

    /// Starts to collect datagrams, whose bytes must stay as they are for `'p`.
    pub fn session<'b, 'p>(&'b mut self) -> Session<'b, 'p> {
        let lists = &mut self.lists;
        lists.trains.clear();
        lists.singles.clear();
        lists.wires.clear();
        lists.loads.clear();
        lists.requests.clear();
        Session { lent: self.gatherer.lend(), lists, first: 0, limit: TrainLimit::SINGLE }
    }
}

/// Datagrams being collected and sent: build trains (`begin`, `push` …, `finish`), address them to any number of targets
/// (`message` …), `flush` to a sender; all of it as often as needed. What is not flushed is not sent.
pub struct Session<'b, 'p> {
    lent: Lent<'b, 'p>,
    lists: &'b mut Lists,
    /// The first train since `begin`.
    first: usize,
    limit: TrainLimit,
}

impl<'p> Session<'_, 'p> {
    /// Starts new trains of at most so many datagrams each.
    pub fn begin(&mut self, limit: TrainLimit) {
        self.first = self.lists.trains.len();
        self.limit = limit;
    }

    /// Adds a datagram: `header` (copied, at most 64 KiB) and `payload` (not copied).
    pub fn push(&mut self, header: &[u8], payload: &'p [u8]) {
        let train = self.train(header.len() + payload.len());
        let row = &mut self.lists.trains[train].row;
        self.lent.push_made(row, header.len(), |place| place.copy_from_slice(header));
        self.lent.push(row, payload);
    }

    /// Adds a datagram of `len` bytes (at most 64 KiB) that `fill` writes, all of it.
    pub fn push_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) {
        let train = self.train(len);
        self.lent.push_made(&mut self.lists.trains[train].row, len, fill);
    }

    /// The train that the next datagram belongs to, with it counted already.
    fn train(&mut self, len: usize) -> usize {
        let trains = &mut self.lists.trains;
        let joins = trains[self.first..].last().is_some_and(|t| t.takes(len, self.limit) && self.lent.can_grow(t.row));
        if !joins {
            trains.push(Train { row: self.lent.row(), segment: len, datagrams: 0, bytes: 0, singles: None });
        }
        let last = trains.len() - 1;
        trains[last].datagrams += 1;
        trains[last].bytes += len;
        last
    }

    /// The trains since [`begin`](Self::begin), to be sent as often as wanted in this session.
    pub fn finish(&mut self) -> Trains {
        let new = &self.lists.trains[self.first..];
        let trains = Trains {
            start: self.first as u32,
            end: self.lists.trains.len() as u32,
            datagrams: new.iter().map(|t| u32::from(t.datagrams)).sum(),
            bytes: new.iter().map(|t| t.bytes as u64).sum(),
        };
        self.first = self.lists.trains.len();
        trains
    }

    /// Queues `trains` for `target`; the report about them carries `tag`.
    pub fn message(&mut self, target: &Target, trains: Trains, tag: u32) {
        let request = self.lists.requests.len() as u32;
        self.lists.requests.push(Request { tag, outcome: Outcome::default() });
        for index in trains.start..trains.end {
            let Some(&train) = self.lists.trains.get(index as usize) else { return };
            let load = Load { request, train: index, datagrams: train.datagrams, bytes: train.bytes as u32 };
            let mut wire = Wire { name: target.name, control: target.control, pieces: train.row };
            if train.datagrams == 1 {
                self.lists.queue(wire, load);
            } else if target.segmentation() {
                wire.control.push_segment(train.segment as u16);
                self.lists.queue(wire, load);
            } else {
                for (i, single) in self.lists.singles(&mut self.lent, index).enumerate() {
                    wire.pieces = self.lists.singles[single];
                    self.lists.queue(wire, Load { datagrams: 1, bytes: train.length(i), ..load });
                }
            }
        }
    }

    /// Sends all that is queued: by sendmmsg, each message with its own control data. A message that fails costs only
    /// itself; `report` hears of every message, and of destinations the network says can't be reached.
    ///
    /// With IP_RECVERR an ICMP error about one destination fails the next send, whatever its destination; so a message
    /// that fails is tried again once the error queue is empty, and only then the error is its own.
    pub fn flush(&mut self, sender: &Sender, mut report: impl FnMut(Report)) {
        let mut next = 0;
        while next < self.lists.wires.len() {
            let load = self.lists.loads[next];
            let request = load.request as usize;
            let refused = self.lists.requests[request].outcome.segmentation_refused;
            if load.datagrams > 1 && (refused || !sender.segmentation()) {
                self.send_singly(sender, next, &mut report);
                next += 1;
                continue;
            }
            let mut end = self.lists.wires.len();
            if !sender.segmentation() {
                // Where UDP_SEGMENT is unknown it would be passed over, and the train sent as one datagram.
                end = self.lists.loads[next..].iter().position(|l| l.datagrams > 1).map_or(end, |n| next + n);
            }
            match attempt(&mut self.lent, sender, &self.lists.wires[next..end], &mut report) {
                Ok(sent) => {
                    for l in &self.lists.loads[next..next + sent] {
                        self.lists.requests[l.request as usize].outcome.add(l.datagrams, l.bytes, None);
                    }
                    next += sent;
                }
                Err(errno) if load.datagrams > 1 && refuses_segmentation(errno) => {
                    self.send_singly(sender, next, &mut report);
                    next += 1;
                }
                Err(errno) => {
                    let error = Some(SendError::from_errno(errno));
                    self.lists.requests[request].outcome.add(load.datagrams, load.bytes, error);
                    next += 1;
                }
            }
        }
        self.lists.wires.clear();
        self.lists.loads.clear();
        for Request { tag, outcome } in self.lists.requests.drain(..) {
            report(Report::Message { tag, outcome });
        }
    }

    /// Sends the train of wire `index` datagram by datagram.
    fn send_singly(&mut self, sender: &Sender, index: usize, report: &mut impl FnMut(Report)) {
        let load = self.lists.loads[index];
        let train = self.lists.trains[load.train as usize];
        let mut wire = self.lists.wires[index];
        wire.control.pop_segment();
        let singles = self.lists.singles(&mut self.lent, load.train);
        self.lists.spare.clear();
        for single in singles {
            self.lists.spare.push(Wire { pieces: self.lists.singles[single], ..wire });
        }
        let outcome = &mut self.lists.requests[load.request as usize].outcome;
        let mut next = 0;
        while next < self.lists.spare.len() {
            let result = attempt(&mut self.lent, sender, &self.lists.spare[next..], report);
            let (count, error) = match result {
                Ok(sent) => (sent, None),
                Err(errno) => (1, Some(SendError::from_errno(errno))),
            };
            for i in next..next + count {
                outcome.add(1, train.length(i), error);
            }
            outcome.segmentation_refused |= error.is_none();
            next += count;
        }
    }
}

/// UDP_SEGMENT is refused with EIO where the path can't do it, with EMSGSIZE or, by older kernels, EINVAL where the
/// segments are longer than the MTU.
fn refuses_segmentation(errno: i32) -> bool {
    matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE)
}

/// Sends the first messages of `wires`: how many, or the errno of the first, which is its own.
fn attempt(
    lent: &mut Lent<'_, '_>,
    sender: &Sender,
    wires: &[Wire],
    report: &mut impl FnMut(Report),
) -> Result<usize, i32> {
    let mut tries = 0;
    loop {
        let errno = match lent.send(sender.as_fd(), wires) {
            Ok(sent) => {
                // The kernel stopped at a message that failed and keeps its errno to itself. If that came from the error
                // queue, this is the only time it shows.
                if sent < wires.len().min(SEND_BATCH) {
                    sender.drain_errors(|destination, error| report(Report::Unreachable { destination, error }));
                }
                return Ok(sent);
            }
            Err(e) => e.raw_os_error().unwrap_or(libc::EIO),
        };
        // No ICMP message is turned into one of these.
        if matches!(errno, libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EPERM) {
            return Err(errno);
        }
        let drained = sender.drain_errors(|destination, error| report(Report::Unreachable { destination, error }));
        // The first time even with an empty queue: where that is full, an error comes without an entry.
        if tries == RETRIES || (tries > 0 && drained == 0) {
            return Err(errno);
        }
        tries += 1;
    }
}

impl Outcome {
    fn add(&mut self, datagrams: u16, bytes: u32, error: Option<SendError>) {
        match error {
            None => {
                self.sent += u32::from(datagrams);
                self.sent_bytes += u64::from(bytes);
            }
            Some(_) => {
                self.dropped += u32::from(datagrams);
                self.error = error;
            }
        }
    }
}

impl Train {
    /// The length of its datagram `i`.
    fn length(&self, i: usize) -> u32 {
        self.bytes.saturating_sub(i * self.segment).min(self.segment) as u32
    }
}

impl Lists {
    fn queue(&mut self, wire: Wire, load: Load) {
        self.wires.push(wire);
        self.loads.push(load);
    }

    /// Where in `self.singles` the datagrams of train `index` are, one by one.
    fn singles(&mut self, lent: &mut Lent<'_, '_>, index: u32) -> std::ops::Range<usize> {
        let train = &mut self.trains[index as usize];
        let count = usize::from(train.datagrams);
        if let Some(start) = train.singles {
            return start as usize..start as usize + count;
        }
        let start = self.singles.len();
        train.singles = Some(start as u32);
        for i in 0..count {
            self.singles.push(lent.cut(train.row, i * train.segment, train.segment));
        }
        start..start + count
    }
}

#[cfg(test)]
impl Session<'_, '_> {
    /// The bytes of each datagram of `trains`, after a look at each train's limits.
    pub(super) fn datagrams_of(&mut self, trains: Trains, limit: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for index in trains.start..trains.end {
            let train = self.lists.trains[index as usize];
            let count = usize::from(train.datagrams);
            assert!(count >= 1 && count <= limit.min(64) && (count == 1 || train.bytes <= TRAIN_BYTES));
            assert!(self.lent.pieces(train.row) <= 1024);
            assert_eq!(train.bytes.div_ceil(train.segment.max(1)).max(1), count);
            for single in self.lists.singles(&mut self.lent, index) {
                all.push(self.lent.bytes(self.lists.singles[single]));
            }
            assert_eq!(self.lent.bytes(train.row), all[all.len() - count..].concat());
        }
        all
    }
}
