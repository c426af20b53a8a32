//! What a shard's thread runs: its tasks, their sockets' readiness, their timers.
//!
//! At live bitrates packets come one by one, and each time the thread wakes costs more than all that is done to a packet.
//! So the loop is our own: a wake is one epoll_pwait2, whose timeout is the one timer of the shard. Sockets whose packets
//! may be gathered for a while sit in an epoll of their own (module `quantum`): the first packet starts the wait, and no other
//! wakes the thread before it is over.

use crate::time::Instant;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::LocalSet;

use super::sys::{Epoll, Events};
use super::timers::Timers;

mod quantum;
mod sleep;
#[cfg(test)]
mod tests;
mod unpark;

use quantum::Quanta;
pub use sleep::Sleep;
use unpark::Unpark;

/// Most events taken from the kernel at once.
const EVENTS: usize = 256;
/// The token of what wakes the thread from outside.
const UNPARK: u64 = u64::MAX;
/// Set in the tokens of quanta; the rest is the number.
const QUANTUM: u64 = 1 << 63;

/// The tasks, sockets and timers of one thread; clones are the same one.
#[derive(Clone)]
pub struct Reactor(Rc<Inner>);

struct Inner {
    epoll: Epoll,
    unpark: Arc<Unpark>,
    sockets: RefCell<Sockets>,
    quanta: RefCell<Quanta>,
    timers: RefCell<Timers>,
    /// Who has stepped back until the others have had their turn.
    deferred: RefCell<Vec<Waker>>,
    turns: Cell<u64>,
}

#[derive(Default)]
struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// What is known of a registered socket.
#[derive(Default)]
struct Slot {
    /// Tells a registration from earlier ones in the same place.
    generation: u32,
    ready: bool,
    waker: Option<Waker>,
}

impl Reactor {
    /// A reactor without sockets and timers.
    ///
    /// # Errors
    /// Where the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (epoll, unpark) = (Epoll::new()?, Unpark::new()?);
        epoll.add(unpark.as_fd(), UNPARK)?;
        Ok(Self(Rc::new(Inner {
            epoll,
            unpark: Arc::new(unpark),
            sockets: RefCell::default(),
            quanta: RefCell::default(),
            timers: RefCell::default(),
            deferred: RefCell::default(),
            turns: Cell::new(0),
        })))
    }

    /// Runs `main`, and all tasks that are spawned with [`tokio::task::spawn_local`] meanwhile, until `main` ends.
    /// `each_turn` is called after every wait, with the time.
    ///
    /// # Errors
    /// None in practice: where the kernel refuses to wait.
    pub fn run<F: Future>(&self, main: F, mut each_turn: impl FnMut(Instant)) -> io::Result<F::Output> {
        let tasks = LocalSet::new();
        let mut main = pin!(tasks.run_until(main));
        let waker = Waker::from(self.0.unpark.clone());
        let mut cx = Context::from_waker(&waker);
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.0.unpark.begin();
            if let Poll::Ready(output) = main.as_mut().poll(&mut cx) {
                return Ok(output);
            }
            each_turn(self.0.turn(&mut events)?);
        }
    }

    /// Watches a socket for input; each input makes it ready. What waits already counts.
    ///
    /// # Errors
    /// Where descriptors have run out: the registration keeps one of its own.
    pub fn register(&self, socket: impl AsFd) -> io::Result<Registration> {
        let fd = socket.as_fd().try_clone_to_owned()?;
        let mut sockets = self.0.sockets.borrow_mut();
        let index = sockets.free.pop().unwrap_or_else(|| {
            sockets.slots.push(Slot::default());
            (sockets.slots.len() - 1) as u32
        });
        let slot = &mut sockets.slots[index as usize];
        *slot = Slot { generation: next_generation(slot.generation), ready: false, waker: None };
        let token = u64::from(slot.generation) << 32 | u64::from(index);
        drop(sockets);
        let registration = Registration { inner: self.0.clone(), fd, index, token, quantum: Cell::new(None) };
        self.0.epoll.add(registration.fd.as_fd(), token)?;
        Ok(registration)
    }

    /// A future that ends at `deadline`, never before it, and usually some tens of microseconds after.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep::new(self.0.clone(), deadline)
    }

    /// Ends once all others of the thread whose input or time has come have had their turn.
    pub async fn yield_turn(&self) {
        let turn = self.0.turns.get();
        poll_fn(|cx| {
            if self.0.turns.get() != turn {
                return Poll::Ready(());
            }
            self.0.deferred.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// How many descriptors it watches with a gather budget; for tests.
    #[cfg(test)]
    fn quanta(&self) -> usize {
        self.0.quanta.borrow().len()
    }
}

impl Inner {
    /// Waits until something comes, and wakes all whose input or time has come. The time after the wait.
    fn turn(&self, events: &mut Events) -> io::Result<Instant> {
        self.quanta.borrow_mut().settle(&self.epoll)?;
        let timeout = if self.deferred.borrow().is_empty() && self.unpark.park() { self.patience() } else { NONE };
        let n = self.epoll.wait(events, timeout)?;
        self.unpark.begin();
        let now = Instant::now();
        for token in (0..n).map(|i| events.token(i)) {
            match token {
                UNPARK => {}
                _ if token & QUANTUM != 0 => self.quanta.borrow_mut().begin(token & !QUANTUM, now),
                _ => self.notify(token),
            }
        }
        loop {
            // One batch of events at a time: whoever is woken may change the quanta.
            let due = self.quanta.borrow_mut().look(now, events)?;
            let Some(n) = due else { break };
            (0..n).for_each(|i| self.notify(events.token(i)));
        }
        loop {
            let waker = self.timers.borrow_mut().expire(now);
            let Some(waker) = waker else { break };
            waker.wake();
        }
        self.turns.set(self.turns.get().wrapping_add(1));
        self.deferred.borrow_mut().drain(..).for_each(Waker::wake);
        Ok(now)
    }

    /// How long there is nothing to do; `None`: until something comes.
    fn patience(&self) -> Option<Duration> {
        let (timer, quantum) = (self.timers.borrow().next(), self.quanta.borrow().next());
        let next = [timer, quantum].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn notify(&self, token: u64) {
        let mut sockets = self.sockets.borrow_mut();
        let Some(slot) = sockets.slots.get_mut((token & u64::from(u32::MAX)) as usize) else { return };
        if u64::from(slot.generation) != token >> 32 {
            return;
        }
        slot.ready = true;
        let waker = slot.waker.take();
        drop(sockets);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// No wait at all.
const NONE: Option<Duration> = Some(Duration::ZERO);

/// Below the bit that marks quanta.
fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1) & (u32::MAX >> 1)
}

/// A socket's place in the reactor; dropping it gives the place up. For one task at a time.
pub struct Registration {
    inner: Rc<Inner>,
    /// A duplicate: the socket may be closed first.
    fd: OwnedFd,
    index: u32,
    token: u64,
    /// Which quantum it is in; `None`: it wakes at once.
    quantum: Cell<Option<usize>>,
}

impl Registration {
    /// Ready once input has come since the last time it was, or since [`gather`](Self::gather) changed the budget. That
    /// is then used up: before waiting again the caller must have read until nothing was left.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sockets = self.inner.sockets.borrow_mut();
        let slot = &mut sockets.slots[self.index as usize];
        if std::mem::take(&mut slot.ready) {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(w) => w.clone_from(cx.waker()),
            None => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// As [`poll_ready`](Self::poll_ready), without a wish to be woken.
    pub fn take_ready(&self) -> bool {
        std::mem::take(&mut self.inner.sockets.borrow_mut().slots[self.index as usize].ready)
    }

    /// [`poll_ready`](Self::poll_ready) as a future; dropping it loses nothing.
    pub async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// From now on input makes ready only when it, or other input of a socket with the same budget, has waited for
    /// `budget`. Zero: at once. Nothing happens where that is so already.
    ///
    /// # Errors
    /// Where descriptors have run out: the first socket of a budget needs one more. It then stays as it was.
    pub fn gather(&self, budget: Duration) -> io::Result<()> {
        let mut quanta = self.inner.quanta.borrow_mut();
        if self.quantum.get().map_or(Duration::ZERO, |q| quanta.budget(q)) == budget {
            return Ok(());
        }
        let new = if budget.is_zero() { None } else { Some(quanta.enter(budget, &self.inner.epoll)?) };
        let old = self.quantum.replace(new);
        quanta.epoll(old).unwrap_or(&self.inner.epoll).remove(self.fd.as_fd())?;
        quanta.epoll(new).unwrap_or(&self.inner.epoll).add(self.fd.as_fd(), self.token)?;
        if let Some(old) = old {
            quanta.leave(old);
        }
        Ok(())
    }

    /// When its quantum is looked at next. A timer that may wait until then takes no wake of its own. `None`: it has none,
    /// or that depends on what comes.
    pub fn next_look(&self) -> Option<Instant> {
        self.inner.quanta.borrow().next_look(self.quantum.get()?)
    }

    /// This many messages were read. While more than one comes in a budget, the socket's quantum goes on without being
    /// woken by the first of them.
    pub fn served(&self, messages: usize) {
        if let Some(quantum) = self.quantum.get() {
            self.inner.quanta.borrow_mut().served(quantum, messages);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut quanta = self.inner.quanta.borrow_mut();
        let quantum = self.quantum.get();
        // Fails only if `register` or `gather` failed to add it.
        let _ = quanta.epoll(quantum).unwrap_or(&self.inner.epoll).remove(self.fd.as_fd());
        if let Some(quantum) = quantum {
            quanta.leave(quantum);
        }
        drop(quanta);
        let mut sockets = self.inner.sockets.borrow_mut();
        let slot = &mut sockets.slots[self.index as usize];
        slot.generation = next_generation(slot.generation);
        let waker = slot.waker.take();
        sockets.free.push(self.index);
        drop(sockets);
        drop(waker);
    }
}
