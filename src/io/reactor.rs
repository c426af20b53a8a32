//! Readiness and precise timers of one shard.
//!
//! Tokio alone would do both, but wakes the thread for every datagram that arrives and counts time in milliseconds. Here
//! a socket wakes the thread once, and then not before its flow asks again; and all timers share one timerfd.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::sys::{self, ClockId, Epoll, Events, TimerFd, Watched};
use super::timers::Timers;

#[cfg(test)]
mod tests;

/// Most events taken from the kernel at once.
const EVENTS: usize = 256;

/// The readiness and the timers of a shard's thread; clones are the same one.
#[derive(Clone)]
pub struct Reactor(Rc<Inner>);

struct Inner {
    epoll: Epoll,
    timer: TimerFd,
    /// Both clocks at one moment: what an [`Instant`] is to the kernel.
    base: (Instant, u64),
    sockets: RefCell<Sockets>,
    timers: RefCell<Timers>,
    /// The deadline for which the timerfd is set. It may be earlier than any timer's, after one was taken out.
    armed: Cell<Option<Instant>>,
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
    armed: bool,
    ready: bool,
    waker: Option<Waker>,
}

impl Reactor {
    /// A reactor without sockets and timers.
    ///
    /// # Errors
    /// Where the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (epoll, timer) = (Epoll::new()?, TimerFd::new()?);
        // In this order, so that the timerfd can't be early.
        let start = Instant::now();
        let base = (start, sys::now(ClockId::Monotonic));
        Ok(Self(Rc::new(Inner {
            epoll,
            timer,
            base,
            sockets: RefCell::default(),
            timers: RefCell::default(),
            armed: Cell::new(None),
        })))
    }

    /// Wakes the tasks that wait, for ever. Each shard spawns this once on its own runtime.
    ///
    /// # Errors
    /// It ends only with an error, and only where the runtime has no I/O driver or descriptors have run out.
    pub async fn drive(self) -> io::Result<()> {
        let (timer, outer) = (self.0.timer.watch()?, self.0.epoll.watch()?);
        let mut events = Events::with_capacity(EVENTS);
        poll_fn(|cx| match self.0.turn(cx, &timer, &outer, &mut events) {
            Ok(()) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        })
        .await
    }

    /// Watches a socket for input. It is armed: the first input makes it ready, once.
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
        *slot = Slot { generation: slot.generation.wrapping_add(1), armed: true, ready: false, waker: None };
        let token = u64::from(slot.generation) << 32 | u64::from(index);
        drop(sockets);
        let registration =
            Registration { inner: self.0.clone(), fd: Rc::new(fd), index, token, each: RefCell::default() };
        registration.inner.epoll.add_once(registration.fd.as_fd(), token)?;
        Ok(registration)
    }

    /// A future that ends at `deadline`, never before it, and usually some tens of microseconds after.
    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep { inner: self.0.clone(), deadline, timer: None }
    }
}

impl Inner {
    /// Wakes all whose time or input has come; `cx` is woken for the next.
    fn turn(&self, cx: &mut Context<'_>, timer: &Watched, outer: &Watched, events: &mut Events) -> io::Result<()> {
        while let Poll::Ready(guard) = timer.poll_read_ready(cx) {
            guard?.clear_ready();
            self.expire()?;
        }
        while let Poll::Ready(guard) = outer.poll_read_ready(cx) {
            let mut guard = guard?;
            let n = self.epoll.poll(events)?;
            (0..n).for_each(|i| self.notify(events.token(i)));
            if n == events.capacity() {
                // More wait; but first those who were woken.
                cx.waker().wake_by_ref();
                return Ok(());
            }
            // Whatever becomes ready from here on is an edge of its own.
            guard.clear_ready();
        }
        Ok(())
    }

    fn notify(&self, token: u64) {
        let mut sockets = self.sockets.borrow_mut();
        let Some(slot) = sockets.slots.get_mut((token & u64::from(u32::MAX)) as usize) else { return };
        if u64::from(slot.generation) != token >> 32 {
            return;
        }
        slot.armed = false;
        slot.ready = true;
        let waker = slot.waker.take();
        drop(sockets);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes whoever's time has come.
    fn expire(&self) -> io::Result<()> {
        self.armed.set(None);
        let now = Instant::now();
        loop {
            let waker = self.timers.borrow_mut().expire(now);
            match waker {
                Some(waker) => waker.wake(),
                None => break,
            }
        }
        self.arm()
    }

    /// Sets the timerfd, if the next deadline is before the one it is set for.
    fn arm(&self) -> io::Result<()> {
        let Some(next) = self.timers.borrow().next() else { return Ok(()) };
        if self.armed.get().is_some_and(|armed| armed <= next) {
            return Ok(());
        }
        let (start, ns) = self.base;
        self.timer.set(ns + next.saturating_duration_since(start).as_nanos() as u64)?;
        self.armed.set(Some(next));
        Ok(())
    }
}

/// A socket's place in the reactor; dropping it gives the place up. For one task at a time.
pub struct Registration {
    inner: Rc<Inner>,
    /// A duplicate: the socket may be closed first.
    fd: Rc<OwnedFd>,
    index: u32,
    token: u64,
    /// Set by [`Registration::rearm_each`]: past the inner epoll, straight to tokio.
    each: RefCell<Option<Watched>>,
}

impl Registration {
    /// Ready once input has come since the socket was armed. That is then used up: nothing more comes, and nothing wakes
    /// the thread, before [`rearm`](Self::rearm).
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sockets = self.inner.sockets.borrow_mut();
        let slot = &mut sockets.slots[self.index as usize];
        if std::mem::take(&mut slot.ready) {
            return Poll::Ready(());
        }
        if let Some(each) = &*self.each.borrow() {
            return each.poll_read_ready(cx).map(|guard| {
                if let Ok(mut guard) = guard {
                    // Before the caller reads: what comes from here on is an edge of its own.
                    guard.clear_ready();
                }
            });
        }
        match &mut slot.waker {
            Some(w) => w.clone_from(cx.waker()),
            None => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// [`poll_ready`](Self::poll_ready) as a future; dropping it loses nothing.
    pub async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Asks for input once more. What waits already counts, so there is no need to read until nothing is left.
    ///
    /// # Errors
    /// None in practice.
    pub fn rearm(&self) -> io::Result<()> {
        self.each.replace(None);
        let mut sockets = self.inner.sockets.borrow_mut();
        let slot = &mut sockets.slots[self.index as usize];
        if slot.armed || slot.ready {
            return Ok(());
        }
        slot.armed = true;
        self.inner.epoll.rearm(self.fd.as_fd(), self.token)
    }

    /// Asks for all input from now on: each datagram that comes makes ready, without a system call between one and the
    /// next. For flows that handle packets as they come. Input counts when it comes, so before waiting the caller must
    /// have read until nothing was left. [`rearm`](Self::rearm) ends it. Only within the shard's runtime.
    ///
    /// # Errors
    /// None in practice.
    pub fn rearm_each(&self) -> io::Result<()> {
        if self.each.borrow().is_none() {
            self.each.replace(Some(sys::watch(&self.fd)?));
        }
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Fails only if `register` failed to add it.
        let _ = self.inner.epoll.remove(self.fd.as_fd());
        let mut sockets = self.inner.sockets.borrow_mut();
        let slot = &mut sockets.slots[self.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let waker = slot.waker.take();
        sockets.free.push(self.index);
        drop(sockets);
        drop(waker);
    }
}

/// A future that ends at its deadline. Polled again after that it is ready again, until [`reset`](Self::reset).
pub struct Sleep {
    inner: Rc<Inner>,
    deadline: Instant,
    timer: Option<u32>,
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends at `deadline` instead. A task that waits already must poll it again to be woken by the new one.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now >= self.deadline {
            if let Some(id) = self.timer {
                self.inner.timers.borrow_mut().cancel(id);
            }
            return Poll::Ready(());
        }
        let mut timers = self.inner.timers.borrow_mut();
        let id = self.timer.unwrap_or_else(|| timers.insert(now));
        timers.schedule(id, self.deadline, cx.waker());
        drop(timers);
        self.timer = Some(id);
        if self.inner.arm().is_err() {
            // A timerfd takes every time there is. Should one ever not: rather busy than asleep for ever.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            self.inner.timers.borrow_mut().remove(id);
        }
    }
}
