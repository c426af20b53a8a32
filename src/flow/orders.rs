//! The way of commands to a flow's task: to see that none is there costs a packet's wake one load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::FlowCommand;

/// Gives commands to a flow's task. Dropping it ends the task.
#[derive(Debug)]
pub struct Orders(Arc<Shared>);

/// What a flow's task takes its commands from.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// There is something to be seen to under the lock.
    news: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<FlowCommand>,
    closed: bool,
    /// Nobody takes commands any more.
    deaf: bool,
    /// Of the task, while nothing is new to it.
    waker: Option<Waker>,
}

/// A way to one flow's task.
pub fn orders() -> (Orders, Inbox) {
    // The first look leaves the waker.
    let shared = Arc::new(Shared { news: AtomicBool::new(true), state: Mutex::default() });
    (Orders(shared.clone()), Inbox(shared))
}

impl Orders {
    /// Tell the task. It may have ended by a panic: then nobody hears it.
    pub fn send(&self, command: FlowCommand) {
        self.0.change(|state| {
            if !state.deaf {
                state.waiting.push_back(command);
            }
        });
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.0.change(|state| state.closed = true);
    }
}

impl Inbox {
    /// The next command, in the order they were sent; `None` when there are no more. For one task only.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<FlowCommand>> {
        if !self.0.news.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let mut state = self.0.lock();
        if let Some(command) = state.waiting.pop_front() {
            return Poll::Ready(Some(command));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        self.0.news.store(false, Ordering::Release);
        Poll::Pending
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.deaf = true;
        // Whoever waits for an answer hears that there will be none.
        let unheard = std::mem::take(&mut state.waiting);
        drop(state);
        drop(unheard);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.news.store(true, Ordering::Release);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
