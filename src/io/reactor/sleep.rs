//! Timers of tasks.

use crate::time::Instant;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Inner;

/// A future that ends at its deadline. Polled again after that it is ready again, until [`reset`](Self::reset).
pub struct Sleep {
    inner: Rc<Inner>,
    deadline: Instant,
    pub(super) timer: Option<u32>,
}

impl Sleep {
    pub(super) fn new(inner: Rc<Inner>, deadline: Instant) -> Self {
        Self { inner, deadline, timer: None }
    }

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
        let mut timers = self.inner.timers.borrow_mut();
        if now >= self.deadline {
            if let Some(id) = self.timer {
                timers.cancel(id);
            }
            return Poll::Ready(());
        }
        let id = self.timer.unwrap_or_else(|| timers.insert(now));
        timers.schedule(id, self.deadline, cx.waker());
        drop(timers);
        self.timer = Some(id);
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
