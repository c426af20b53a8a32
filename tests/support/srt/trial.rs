//! What is still missing after SRT has done what it can, over networks that lose: the same packets with the same fate,
//! whoever sends and receives.

use std::time::Duration;

use super::Options;
use super::link::Link;
use super::packet::Weather;
use crate::support::feed::PACKET_BITS;
use crate::support::network::{self, BITS_PER_SECOND, ROUND_TRIP};
use crate::support::sample::{STUFFING, numbered};

pub use crate::support::network::Outcome;

/// One to be made.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    pub link: Link,
    /// Of [`network::all`].
    pub network: usize,
    /// Latency in round trips.
    pub round_trips: u32,
    pub packets: u64,
}

impl Trial {
    /// All networks with these latencies.
    pub fn grid(link: Link, round_trips: &[u32], packets: u64) -> Vec<Self> {
        let networks = 0..network::all().len();
        networks
            .flat_map(|n| round_trips.iter().map(move |r| (n, *r)))
            .map(|(network, round_trips)| Self { link, network, round_trips, packets })
            .collect()
    }

    /// What this network is called.
    pub fn name(self) -> &'static str {
        network::all()[self.network].0
    }

    /// Send so many packets, and see which of them come.
    #[track_caller]
    pub fn run(self) -> Outcome {
        let (_, damage) = network::all()[self.network];
        let options = Options::new().latency(ROUND_TRIP.as_millis() as u32 * self.round_trips);
        let (mut sender, nat, receiver) = self.link.through(Weather::both(damage), &options, &options);
        let feeding = sender.feed_with(self.packets, (0..self.packets).map(numbered), BITS_PER_SECOND);
        let length = Duration::from_secs(self.packets * PACKET_BITS / BITS_PER_SECOND);
        std::thread::sleep(length);
        feeding.wait_until_sent();
        // What follows is stuffing: when that comes, nothing before it will.
        receiver.wait_for_number(STUFFING);
        Outcome::of(self.packets, &receiver.numbers(), &nat.report(self.link.way()))
    }
}

/// A table of what is missing, a line for each network and a column for each latency.
pub fn table(title: &str, outcomes: &[(Trial, Outcome)]) -> String {
    let mut latencies: Vec<_> = outcomes.iter().map(|(trial, _)| trial.round_trips).collect();
    latencies.sort_unstable();
    latencies.dedup();
    let packets = outcomes.first().map_or(0, |(_, outcome)| outcome.packets);
    let mut text =
        format!("{title}: missing of {packets} packets, by latency (and sent again, in % of the packets)\n| |");
    text.extend(latencies.iter().map(|latency| format!(" {latency} RTT |")));
    text += "\n|---|";
    text.extend(latencies.iter().map(|_| "--:|"));
    for (number, (name, _)) in network::all().into_iter().enumerate() {
        let line: Vec<_> = latencies
            .iter()
            .filter_map(|latency| {
                outcomes.iter().find(|(trial, _)| trial.network == number && trial.round_trips == *latency)
            })
            .map(|(_, outcome)| {
                let again = outcome.retransmitted as f64 * 100.0 / outcome.packets as f64;
                format!(" {} ({again:.1}) |", outcome.missing)
            })
            .collect();
        text += &format!("\n| {name} |{}", line.concat());
    }
    text + "\n"
}
