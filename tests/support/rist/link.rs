//! Two ends, and if need be a network between them.

use std::net::SocketAddr;

use super::ends::{Receiver, Sender};
use super::packet::{Nat, Weather};
use super::{Options, Program};
use crate::support::media::v4;
use crate::support::ports::free_port;

/// Who sends, who receives.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub sender: Program,
    pub receiver: Program,
}

impl Link {
    pub const fn new(sender: Program, receiver: Program) -> Self {
        Self { sender, receiver }
    }

    /// Start both ends, the receiver first.
    #[track_caller]
    pub fn start(self, options: &Options) -> (Sender, Receiver) {
        self.start_at(&[v4(free_port())], options)
    }

    /// Start both ends, with two paths between them.
    #[track_caller]
    pub fn start_bonded(self, options: &Options) -> (Sender, Receiver) {
        self.start_at(&[v4(free_port()), v4(free_port())], options)
    }

    /// Start both ends, the receiver first, at one address or at several.
    #[track_caller]
    pub fn start_at(self, at: &[SocketAddr], options: &Options) -> (Sender, Receiver) {
        let receiver = Receiver::start(self.receiver, at, options);
        (Sender::start(self.sender, at, options), receiver)
    }

    /// Start both ends with a network between them.
    #[track_caller]
    pub fn through(self, weather: Weather, options: &Options) -> (Sender, Nat, Receiver) {
        self.through_both(weather, options, options)
    }

    /// Start both ends, each told something else, with a network between them.
    #[track_caller]
    pub fn through_both(self, weather: Weather, sender: &Options, receiver: &Options) -> (Sender, Nat, Receiver) {
        let [called, port] = [free_port(), free_port()];
        let nat = Nat::start(called, port, weather);
        let receiver = Receiver::start(self.receiver, &[v4(port)], receiver);
        (Sender::start(self.sender, &[v4(called)], sender), nat, receiver)
    }
}
