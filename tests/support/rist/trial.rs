//! What is still missing after RIST has done what it can, over networks that lose.

use std::time::Duration;

use super::link::Link;
use super::packet::Weather;
use super::{Options, Profile, Program};
use crate::support::feed::PACKET_BITS;
use crate::support::nat::Way;
use crate::support::network::{self, BITS_PER_SECOND, Outcome};
use crate::support::sample::{STUFFING, numbered};

/// In milliseconds.
const BUFFER: u32 = 1000;

/// One to be made.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    pub link: Link,
    /// In the clear, so that the network can tell packets apart.
    pub profile: Profile,
    /// Of [`network::all`].
    pub network: usize,
    pub packets: u64,
}

impl Trial {
    /// All networks.
    pub fn all(link: Link, profile: Profile, packets: u64) -> Vec<Self> {
        (0..network::all().len()).map(|network| Self { link, profile, network, packets }).collect()
    }

    /// Send so many packets, and see which of them come.
    #[track_caller]
    pub fn run(self) -> Outcome {
        let (_, damage) = network::all()[self.network];
        let options = Options::new(self.profile).buffer(BUFFER);
        let (mut sender, nat, receiver) = self.link.through(Weather::both(damage), &options);
        let stream = (0..self.packets).map(numbered);
        let feeding = sender.feed_with(&receiver, self.packets, stream, BITS_PER_SECOND);
        std::thread::sleep(Duration::from_secs(self.packets * PACKET_BITS / BITS_PER_SECOND));
        feeding.wait_until_sent();
        // What follows is stuffing: when that comes, nothing before it will.
        receiver.got.wait_for_number(STUFFING);
        Outcome::of(self.packets, &receiver.got.numbers(), &nat.report(Way::Forth))
    }

    /// Whether this is true of the outcome; where a peer sends, of another one as well, when it is tried once more, alone.
    /// Each packet has the same fate then, but what has overflowed a peer's receive buffer on a busy machine is not lost
    /// again.
    #[track_caller]
    pub fn confirms(self, outcome: Outcome, is_so: impl Fn(Outcome) -> bool) -> bool {
        is_so(outcome) && (self.link.sender == Program::Mediaconnect || is_so(self.run()))
    }
}

/// A table of what is missing, a line for each network and a column for each of these, which have a title.
pub fn table(columns: &[(&str, Vec<(Trial, Outcome)>)]) -> String {
    let packets = columns.iter().flat_map(|(_, outcomes)| outcomes).map(|(_, outcome)| outcome.packets).max();
    let mut text = format!(
        "Missing of {} packets, with a buffer of {BUFFER} ms and {} ms there and back (and sent again, in % of the \
         packets)\n\n| |",
        packets.unwrap_or_default(),
        network::ROUND_TRIP.as_millis()
    );
    text.extend(columns.iter().map(|(title, _)| format!(" {title} |")));
    text += "\n|---|";
    text.extend(columns.iter().map(|_| "--:|"));
    for (number, (name, _)) in network::all().into_iter().enumerate() {
        text += &format!("\n| {name} |");
        for (_, outcomes) in columns {
            let outcome = outcomes.iter().find(|(trial, _)| trial.network == number).map(|(_, outcome)| outcome);
            text += &outcome.map_or_else(
                || " |".to_owned(),
                |outcome| {
                    let again = outcome.retransmitted as f64 * 100.0 / outcome.packets as f64;
                    format!(" {} ({again:.1}) |", outcome.missing)
                },
            );
        }
    }
    text + "\n"
}
