//! A UDP socket of one thread, and the connections that share it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;

use tokio::task::AbortHandle;

use super::Link;
use crate::flow::ShardContext;
use crate::io::batch::{Datagram, ReceiveBatch};
use crate::io::clock::Stamps;
use crate::io::endpoint::Endpoint;
use crate::io::reactor::Registration;
use crate::proto::srt::packet;
use crate::proto::srt::seq::SocketId;
use crate::time::Instant;

/// Batches read at a time: a flood of one port does not hold up the other sockets of the thread.
const BATCHES: usize = 4;

/// All multiplexers of a thread, by their socket.
#[derive(Default)]
pub(in crate::flow) struct Multiplexers(RefCell<HashMap<*const Endpoint, Weak<Multiplexer>>>);

/// See the module's documentation. It is there as long as there is a connection.
pub(in crate::flow) struct Multiplexer {
    pub(super) endpoint: Arc<Endpoint>,
    registration: Registration,
    links: RefCell<HashMap<SocketId, Weak<Link>, BuildHasherDefault<IdHasher>>>,
    stamps: Cell<Stamps>,
    overflow: Cell<u32>,
    /// A batch was full: more waits.
    more: Cell<bool>,
    stopped: Cell<bool>,
    reader: RefCell<Option<AbortHandle>>,
}

/// The numbers are random: they need no hashing.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u32(&mut self, number: u32) {
        // The table looks at the top bits too.
        self.0 = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Multiplexers {
    /// The one of this socket.
    ///
    /// # Errors
    /// Where descriptors have run out.
    pub(in crate::flow) fn of(
        &self,
        endpoint: &Arc<Endpoint>,
        shard: &Rc<ShardContext>,
    ) -> io::Result<Rc<Multiplexer>> {
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.get(&Arc::as_ptr(endpoint)).and_then(Weak::upgrade) {
            return Ok(known);
        }
        all.retain(|_, multiplexer| multiplexer.strong_count() > 0);
        let multiplexer = Rc::new(Multiplexer {
            registration: shard.reactor.register(endpoint)?,
            endpoint: endpoint.clone(),
            links: RefCell::default(),
            stamps: Cell::default(),
            overflow: Cell::new(0),
            more: Cell::new(false),
            stopped: Cell::new(false),
            reader: RefCell::default(),
        });
        all.insert(Arc::as_ptr(endpoint), Rc::downgrade(&multiplexer));
        let reader = tokio::task::spawn_local(read(Rc::downgrade(&multiplexer), shard.clone()));
        *multiplexer.reader.borrow_mut() = Some(reader.abort_handle());
        Ok(multiplexer)
    }
}

/// Reads whatever comes while no flow does.
async fn read(multiplexer: Weak<Multiplexer>, shard: Rc<ShardContext>) {
    loop {
        let ready = poll_fn(|cx| {
            let Some(multiplexer) = multiplexer.upgrade() else { return Poll::Ready(None) };
            let ready = multiplexer.more.get() || multiplexer.registration.poll_ready(cx).is_ready();
            if ready { Poll::Ready(Some(multiplexer)) } else { Poll::Pending }
        });
        let Some(multiplexer) = ready.await else { return };
        if multiplexer.stopped.get() {
            return;
        }
        shard.packets.set(shard.packets.get() + multiplexer.receive(&mut shard.buffers.borrow_mut().receive));
        let more = multiplexer.more.get();
        drop(multiplexer);
        if more {
            shard.reactor.yield_turn().await;
        }
    }
}

impl Drop for Multiplexer {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get_mut() {
            reader.abort();
        }
    }
}

impl Multiplexer {
    /// Take part; until it is dropped, a link gets what comes for its number. `false`: another one has it.
    pub(super) fn add(&self, link: &Rc<Link>) -> bool {
        let is_free = self.link(link.id).is_none();
        if is_free {
            self.links.borrow_mut().insert(link.id, Rc::downgrade(link));
            self.set_budget();
        }
        is_free
    }

    pub(super) fn remove(&self, link: &Link) {
        let is_its = self.links.borrow().get(&link.id).is_some_and(|known| std::ptr::eq(known.as_ptr(), link));
        if is_its {
            self.links.borrow_mut().remove(&link.id);
            self.set_budget();
        }
    }

    /// Read no more: what comes waits for the next process.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    /// The kernel had dropped so many datagrams already in the process before this one.
    pub(super) fn has_overflown(&self, overflow: u32) {
        self.overflow.set(self.overflow.get().max(overflow));
    }

    /// Packets may gather as long as the most impatient of the flows lets them.
    pub(super) fn set_budget(&self) {
        let budget = self.links.borrow().values().filter_map(Weak::upgrade).map(|link| link.budget.get()).min();
        if let Some(budget) = budget {
            // For want of a descriptor it stays as it was, and works.
            let _ = self.registration.gather(budget);
        }
    }

    /// Read what waits, if something does. How many datagrams there were.
    pub(in crate::flow) fn receive_ready(&self, batch: &mut ReceiveBatch) -> u64 {
        let ready = !self.stopped.get() && (self.more.get() || self.registration.take_ready());
        if ready { self.receive(batch) } else { 0 }
    }

    /// Read what waits, hand it out, and ring for those it is for. How many datagrams there were.
    fn receive(&self, batch: &mut ReceiveBatch) -> u64 {
        let now = Instant::now();
        let (mut datagrams, mut messages) = (0, 0);
        self.more.set(true);
        for _ in 0..BATCHES {
            // A socket's error is that of an earlier datagram; what waits is read at the next wake.
            let received = batch.receive(&self.endpoint).unwrap_or_default();
            for datagram in batch.datagrams() {
                datagrams += 1;
                self.hand_out(&datagram, now);
            }
            messages += received.messages;
            if let Some(overflow) = received.overflow {
                self.overflow.set(overflow);
            }
            if !received.full {
                self.more.set(false);
                break;
            }
        }
        self.registration.served(messages);
        datagrams
    }

    fn hand_out(&self, datagram: &Datagram<'_>, now: Instant) {
        let Some(id) = packet::destination(datagram.payload) else { return };
        let link = if id == SocketId::NONE { self.meeting(datagram.source) } else { self.link(id) };
        // A peer is where it was when it was let in. What comes from elsewhere is not its.
        let Some(link) = link.filter(|link| link.remote == datagram.source) else { return };
        let mut stamps = self.stamps.get();
        let arrival = stamps.moment(datagram.arrival, now);
        self.stamps.set(stamps);
        link.handle_datagram(now, arrival, datagram.payload);
    }

    fn link(&self, id: SocketId) -> Option<Rc<Link>> {
        self.links.borrow().get(&id)?.upgrade()
    }

    /// A rendezvous with this peer, which does not know our number yet.
    fn meeting(&self, remote: SocketAddr) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        links.values().filter_map(Weak::upgrade).find(|link| link.remote == remote && link.is_rendezvous)
    }

    /// When the next packets are read, as far as is known.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.registration.next_look()
    }

    /// Datagrams that the kernel has dropped for want of room.
    pub(super) fn overflow(&self) -> u32 {
        self.overflow.get()
    }
}
