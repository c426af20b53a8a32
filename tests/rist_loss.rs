//! RIST over networks that lose, and what is missing in the end: the daemon at either end, and librist for comparison.
//!
//! `cargo test --test rist_loss -- --ignored --nocapture` prints the table.

mod support;

use support::network::Outcome;
use support::rist::link::Link;
use support::rist::trial::{Trial, table};
use support::rist::{Profile, Program};
use support::side_by_side::for_all_with;

const US: Program = Program::Mediaconnect;
const LIBRIST: Program = Program::Librist;

/// The pairs that are compared: the title, who sends, who receives.
const PAIRS: [(&str, Program, Program); 4] = [
    ("librist to librist", LIBRIST, LIBRIST),
    ("librist to us", LIBRIST, US),
    ("us to librist", US, LIBRIST),
    ("us to us", US, US),
];

/// Of each pair, every network.
fn outcomes(profile: Profile, packets: u64) -> Vec<(&'static str, Vec<(Trial, Outcome)>)> {
    let pair = |(title, sender, receiver)| {
        // What an overloaded machine delays is too late, whoever sent it.
        (title, for_all_with(3, Trial::all(Link::new(sender, receiver), profile, packets), Trial::run))
    };
    let outcomes = PAIRS.map(pair).to_vec();
    println!("{profile:?}. {}", table(&outcomes));
    outcomes
}

/// With us at an end, no more is missing than from librist to librist; nothing comes twice or out of order from us.
#[track_caller]
fn assert_never_worse(outcomes: &[(&str, Vec<(Trial, Outcome)>)]) {
    let of = |column: usize, network: usize| {
        outcomes[column].1.iter().find(|(trial, _)| trial.network == network).map(|(_, outcome)| *outcome)
    };
    let mut faults = Vec::new();
    for (column, (title, trials)) in outcomes.iter().enumerate().skip(1) {
        for (trial, outcome) in trials {
            let theirs = of(0, trial.network).expect("it was tried too");
            let misses_more = trial.confirms(*outcome, |ours| ours.missing > theirs.missing);
            if misses_more || trial.link.receiver == US && outcome.out_of_order > 0 {
                faults.push((column, *title, trial.network, *outcome, theirs));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn with_us_no_more_is_missing_than_from_librist_to_librist() {
    assert_never_worse(&outcomes(Profile::Simple, 3000));
}

#[test]
fn nor_in_a_tunnel() {
    assert_never_worse(&outcomes(Profile::Main(None), 3000));
}

#[test]
#[ignore = "eight minutes: 100,000 packets over each network, both ways, and librist beside them"]
fn tables_of_us_and_librist() {
    for profile in [Profile::Simple, Profile::Main(None)] {
        assert_never_worse(&outcomes(profile, 100_000));
    }
}
