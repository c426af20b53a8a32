//! Two ends, and if need be a network between them.

use super::ends::{Receiver, Sender};
use super::packet::{Nat, Weather};
use super::{Options, Place, Program};
use crate::support::nat::Way;
use crate::support::ports::free_port;

/// A connection to be made: who sends, who receives, and who of both listens.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub sender: Program,
    pub receiver: Program,
    pub listens: Listens,
}

/// Who listens; the other one calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listens {
    Sender,
    Receiver,
}

impl Link {
    /// The sender calls the receiver.
    pub fn pushed(sender: Program, receiver: Program) -> Self {
        Self { sender, receiver, listens: Listens::Receiver }
    }

    /// The receiver calls the sender.
    pub fn pulled(sender: Program, receiver: Program) -> Self {
        Self { sender, receiver, listens: Listens::Sender }
    }

    /// The way that media goes: the same as a caller's, or the other one.
    pub fn way(self) -> Way {
        if self.listens == Listens::Receiver { Way::Forth } else { Way::Back }
    }

    /// Start both ends; who listens is there first.
    #[track_caller]
    pub fn start(self, sender: &Options, receiver: &Options) -> (Sender, Receiver) {
        let port = free_port();
        self.start_between(port, port, sender, receiver)
    }

    /// Start both ends with a network between them.
    #[track_caller]
    pub fn through(self, weather: Weather, sender: &Options, receiver: &Options) -> (Sender, Nat, Receiver) {
        let [called, port] = [free_port(), free_port()];
        let nat = Nat::start(called, port, weather);
        let (sender, receiver) = self.start_between(called, port, sender, receiver);
        (sender, nat, receiver)
    }

    #[track_caller]
    fn start_between(self, called: u16, port: u16, sender: &Options, receiver: &Options) -> (Sender, Receiver) {
        let (calls, listens) = (Place::Caller(called), Place::Listener(port));
        if self.listens == Listens::Receiver {
            let receiver = Receiver::start(self.receiver, listens, receiver);
            (Sender::start(self.sender, calls, sender), receiver)
        } else {
            let sender = Sender::start(self.sender, listens, sender);
            let receiver = Receiver::start(self.receiver, calls, receiver);
            (sender, receiver)
        }
    }
}
