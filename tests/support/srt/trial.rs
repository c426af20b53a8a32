//! What is still missing after SRT has done what it can, over networks that lose: the same packets with the same fate,
//! whoever sends and receives.

use std::time::Duration;

use super::Options;
use super::link::Link;
use super::media::{STUFFING, numbered};
use super::nat::{Damage, Weather};

/// There and back.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);
/// Of the stream.
const BITS_PER_SECOND: u64 = 16_000_000;

/// Networks, by what they are called in tables.
pub fn networks() -> Vec<(&'static str, Weather)> {
    let still = Damage { seed: 7, delay: ROUND_TRIP / 2, ..Damage::default() };
    let late = Duration::from_millis(20);
    [
        ("2 % lost", Damage { loss: 2, ..still }),
        ("5 % lost", Damage { loss: 5, ..still }),
        ("10 % lost", Damage { loss: 10, ..still }),
        ("bursts of 50", Damage { burst_every: 2000, burst_length: 50, ..still }),
        ("5 % late by 20 ms", Damage { reorder: 5, reorder_by: late, ..still }),
        ("5 % twice", Damage { duplicate: 5, ..still }),
    ]
    .map(|(name, damage)| (name, Weather::both(damage)))
    .to_vec()
}

/// One to be made.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    pub link: Link,
    /// Of [`networks`].
    pub network: usize,
    /// Latency in round trips.
    pub round_trips: u32,
    pub packets: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub packets: u64,
    /// Never came.
    pub missing: u64,
    /// Came again, or after a later one.
    pub out_of_order: u64,
    /// The network dropped it when it was sent first.
    pub dropped: u64,
    /// The network dropped it however often it was sent.
    pub never_passed: u64,
    /// How often one was sent again.
    pub retransmitted: u64,
}

impl Trial {
    /// All networks with these latencies.
    pub fn grid(link: Link, round_trips: &[u32], packets: u64) -> Vec<Self> {
        let networks = 0..networks().len();
        networks
            .flat_map(|n| round_trips.iter().map(move |r| (n, *r)))
            .map(|(network, round_trips)| Self { link, network, round_trips, packets })
            .collect()
    }

    /// What this network is called.
    pub fn name(self) -> &'static str {
        networks()[self.network].0
    }

    /// Send so many packets, and see which of them come.
    #[track_caller]
    pub fn run(self) -> Outcome {
        let (_, weather) = networks().swap_remove(self.network);
        let options = Options::new().latency(ROUND_TRIP.as_millis() as u32 * self.round_trips);
        let (mut sender, nat, receiver) = self.link.through(weather, &options, &options);
        let feeding = sender.feed_with(self.packets, (0..self.packets).map(numbered), BITS_PER_SECOND);
        let length = Duration::from_secs(self.packets * super::PACKET_BITS / BITS_PER_SECOND);
        std::thread::sleep(length);
        feeding.wait_until_sent();
        // What follows is stuffing: when that comes, nothing before it will.
        receiver.wait_for_number(STUFFING);
        let report = nat.report(self.link.way());
        let numbers = receiver.numbers();
        let (mut came, mut out_of_order, mut newest) = (vec![false; self.packets as usize], 0, None);
        for number in numbers {
            came[number as usize] = true;
            out_of_order += u64::from(newest.is_some_and(|newest| number <= newest));
            newest = newest.max(Some(number));
        }
        // By their numbers, so that stuffing is not among them.
        let data = || report.data.range(..self.packets as u32).map(|(_, passage)| passage);
        Outcome {
            packets: self.packets,
            missing: came.iter().filter(|came| !**came).count() as u64,
            out_of_order,
            dropped: data().filter(|passage| !passage.first_passed).count() as u64,
            never_passed: data().filter(|passage| passage.passed == 0).count() as u64,
            retransmitted: data().map(|passage| u64::from(passage.came.saturating_sub(1))).sum(),
        }
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
    for (number, (name, _)) in networks().into_iter().enumerate() {
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
