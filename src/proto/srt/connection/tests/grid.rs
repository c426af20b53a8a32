//! What is lost for good, by the loss of the network and the latency.

use std::fmt::Write as _;

use super::super::super::testing::*;

const LOSSES: [(&str, Loss); 5] = [
    ("none", Loss::None),
    ("2 %", Loss::Random(20)),
    ("5 %", Loss::Random(50)),
    ("10 %", Loss::Random(100)),
    ("bursts", Loss::Bursts(500, 10)),
];

/// 100 ms there and back.
const PATH: Path = Path { jitter: 2 * MS, ..Path::of(49) };

/// So many packets, a thousand a second.
fn send(seed: u64, paths: [Path; 2], round_trips: u64, packets: u64) -> Pair {
    let setup = Setup { paths, ..Setup::new(seed, PATH, round_trips * 100) };
    let mut pair = setup.pair();
    pair.send(0, packets, 1000);
    pair.run(packets * 1000 + 3 * S);
    assert_eq!(pair.lost(), pair.ends[1].gaps, "what is missing is told");
    pair
}

/// Lost, and sent again, of 20,000; the loss in the direction of the data, and in both.
#[test]
fn what_stays_lost_by_loss_and_latency() {
    let mut grid = String::from("            2 RTT        4 RTT        6 RTT        8 RTT\n");
    for (both, what) in [(false, "one way"), (true, "both ways")] {
        writeln!(grid, "{what}").unwrap();
        for (name, loss) in LOSSES {
            write!(grid, "{name:>6}").unwrap();
            for round_trips in [2, 4, 6, 8] {
                let back = if both { PATH.losing(loss) } else { PATH };
                let pair = send(1, [PATH.losing(loss), back], round_trips, 20_000);
                let again = pair.stats(0).sent.retransmitted * 1000 / 20_000;
                write!(grid, "{:4} {:2}.{} %", pair.lost(), again / 10, again % 10).unwrap();
                grid.push_str(if round_trips < 8 { "   " } else { "\n" });
            }
        }
    }
    insta::assert_snapshot!(grid, @r"
                2 RTT        4 RTT        6 RTT        8 RTT
    one way
      none   0  0.0 %      0  0.0 %      0  0.0 %      0  0.0 %
       2 %   1  4.1 %      0  2.1 %      0  2.0 %      0  2.0 %
       5 %   2  9.5 %      0  6.1 %      0  5.0 %      0  5.0 %
      10 %  15 20.4 %      0 14.6 %      0 11.0 %      0 11.0 %
    bursts   0  5.4 %      0  2.6 %      0  1.5 %      0  1.5 %
    both ways
      none   0  0.0 %      0  0.0 %      0  0.0 %      0  0.0 %
       2 %   1  4.1 %      0  2.2 %      0  2.0 %      0  2.0 %
       5 %   4  9.6 %      0  6.1 %      0  5.2 %      0  5.2 %
      10 %  19 20.3 %      0 17.5 %      0 11.9 %      0 11.9 %
    bursts   5  5.8 %      0  3.0 %      0  2.4 %      0  2.4 %
    ");
}

/// None of 100,000.
fn nothing_is_lost(seeds: std::ops::Range<u64>, paths: [Path; 2], round_trips: u64) {
    for seed in seeds {
        let pair = send(seed, paths, round_trips, 100_000);
        assert_eq!(pair.lost(), 0, "seed {seed}, latency of {round_trips} round trips, {paths:?}");
    }
}

fn nothing_is_lost_at_4_6_and_8_round_trips(loss: Loss) {
    for round_trips in [4, 6, 8] {
        nothing_is_lost(10..11, [PATH.losing(loss), PATH.losing(loss)], round_trips);
    }
}

#[test]
fn at_2_percent_of_loss_both_ways_nothing_stays_lost() {
    nothing_is_lost_at_4_6_and_8_round_trips(Loss::Random(20));
}

#[test]
fn at_5_percent_of_loss_both_ways_nothing_stays_lost() {
    nothing_is_lost_at_4_6_and_8_round_trips(Loss::Random(50));
}

#[test]
fn at_10_percent_of_loss_both_ways_nothing_stays_lost() {
    nothing_is_lost_at_4_6_and_8_round_trips(Loss::Random(100));
}

#[test]
fn of_bursts_both_ways_nothing_stays_lost() {
    nothing_is_lost_at_4_6_and_8_round_trips(Loss::Bursts(500, 10));
}

#[test]
fn of_what_is_reordered_and_duplicated_nothing_stays_lost() {
    let path = Path { reordered: 50, duplicates: 50, ..PATH.losing(Loss::Random(20)) };
    nothing_is_lost(10..11, [path, path], 4);
    nothing_is_lost(11..12, [path, path], 8);
}
