//! Service quanta: sockets whose packets may wait a while, so that one wake of the thread serves many.

use crate::time::Instant;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::super::sys::{Epoll, Events};
use super::QUANTUM;

/// All quanta of a thread: one for each budget in use.
#[derive(Default)]
pub(super) struct Quanta(Vec<Option<Quantum>>);

/// The sockets with one gather budget.
struct Quantum {
    budget: Duration,
    /// Holds the sockets; itself in the thread's epoll, where it wakes once.
    epoll: Epoll,
    sockets: usize,
    state: State,
    /// The last look but one, or one since, found much.
    busy: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// The first input wakes the thread.
    Armed,
    /// Looked at then, and not before.
    Until(Instant),
    /// Looked at then; so many messages were read since.
    Looked(Instant, usize),
}

impl Quanta {
    /// Takes one more socket in; gives the number of its quantum.
    pub(super) fn enter(&mut self, budget: Duration, thread: &Epoll) -> io::Result<usize> {
        let known = self.0.iter_mut().position(|q| q.as_ref().is_some_and(|q| q.budget == budget));
        if let Some(known) = known {
            self.get_mut(known).sockets += 1;
            return Ok(known);
        }
        let number = self.0.iter().position(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        let epoll = Epoll::new()?;
        thread.add_once(epoll.as_fd(), QUANTUM | number as u64)?;
        self.0[number] = Some(Quantum { budget, epoll, sockets: 1, state: State::Armed, busy: false });
        Ok(number)
    }

    /// Lets a socket go. The last one's leave closes the epoll, which takes it out of the thread's.
    pub(super) fn leave(&mut self, number: usize) {
        let quantum = self.get_mut(number);
        quantum.sockets -= 1;
        if quantum.sockets == 0 {
            self.0[number] = None;
        }
    }

    /// The quantum's epoll; `None` for no quantum.
    pub(super) fn epoll(&self, number: Option<usize>) -> Option<&Epoll> {
        number.and_then(|n| self.0[n].as_ref()).map(|q| &q.epoll)
    }

    /// The quantum's budget.
    pub(super) fn budget(&self, number: usize) -> Duration {
        self.0[number].as_ref().map_or(Duration::ZERO, |q| q.budget)
    }

    /// The first input has come: the quantum is looked at a budget later. An event of one that is gone does nothing.
    pub(super) fn begin(&mut self, number: u64, now: Instant) {
        let quantum = usize::try_from(number).ok().and_then(|n| self.0.get_mut(n)?.as_mut());
        if let Some(quantum) = quantum
            && matches!(quantum.state, State::Armed)
        {
            quantum.state = State::Until(now + quantum.budget);
        }
    }

    /// Takes events of a quantum whose time has come: how many. `None`: no more.
    pub(super) fn look(&mut self, now: Instant, events: &mut Events) -> io::Result<Option<usize>> {
        for quantum in self.0.iter_mut().flatten() {
            if let State::Until(due) = quantum.state
                && due <= now
            {
                let n = quantum.epoll.poll(events)?;
                if n < events.capacity() {
                    quantum.state = State::Looked(due, 0);
                }
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    /// So many messages were read from a socket of the quantum.
    pub(super) fn served(&mut self, number: usize, messages: usize) {
        if let State::Looked(_, served) = &mut self.get_mut(number).state {
            *served += messages;
        }
    }

    /// What was looked at is looked at again a budget later, if more than one message a budget comes: that takes one
    /// wake. Else the next message wakes the thread, and its budget's end again. Who sends in bursts may leave out one
    /// budget in between.
    pub(super) fn settle(&mut self, thread: &Epoll) -> io::Result<()> {
        for (number, quantum) in self.0.iter_mut().enumerate() {
            let Some(quantum) = quantum else { continue };
            let State::Looked(due, served) = quantum.state else { continue };
            let before = std::mem::replace(&mut quantum.busy, served > 1);
            if served > 1 || before {
                // Evenly, unless that moment has gone by.
                quantum.state = State::Until((due + quantum.budget).max(Instant::now()));
            } else {
                thread.rearm(quantum.epoll.as_fd(), QUANTUM | number as u64)?;
                quantum.state = State::Armed;
            }
        }
        Ok(())
    }

    /// When a quantum is to be looked at, as far as is known.
    pub(super) fn next_look(&self, number: usize) -> Option<Instant> {
        let quantum = self.0[number].as_ref()?;
        match quantum.state {
            State::Armed => None,
            State::Until(due) => Some(due),
            State::Looked(due, _) => Some(due + quantum.budget),
        }
    }

    /// When the next is to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |q: &Quantum| if let State::Until(due) = q.state { Some(due) } else { None };
        self.0.iter().flatten().filter_map(due).min()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    fn get_mut(&mut self, number: usize) -> &mut Quantum {
        // A number is held by a socket that entered and has not left.
        self.0[number].as_mut().expect("a quantum lives as long as a socket is in it")
    }
}
