//! One stream over two legs: the same packets on both, or each on one.

use super::super::super::stats::ReceiverLegStats;
use super::*;

/// 20 ms more there than by the first one.
const FARTHER: Path = Path { delay: 70 * MS, ..CLEAN };
/// Nothing comes through.
const DEAD: Path = CLEAN.losing(Loss::Random(1000));

/// Two legs, both with this loss.
fn two_legs(seed: u64, loss: Loss, latency: u64) -> Setup {
    let mut setup = setup(seed, loss, latency);
    setup.legs.push([FARTHER.losing(loss), CLEAN]);
    setup.reorder = 70;
    setup
}

fn legs(pair: &Pair) -> Vec<ReceiverLegStats> {
    pair.legs.iter().map(|leg| pair.receiver.leg_stats(*leg).unwrap()).collect()
}

/// What is sent for the first time goes by one leg and the other in turn, as senders of other makes do.
fn split(leg: usize, to_receiver: bool, _at: u64, port: Port, bytes: &mut [u8]) -> bool {
    let again = bytes.get(11).is_some_and(|ssrc| ssrc & 1 != 0);
    !to_receiver || port != Port::Media || again || usize::from(bytes[3] & 1) == leg
}

#[test]
fn two_legs_with_the_same_packets_need_next_to_no_repair() {
    let mut setup = setup(17, Loss::Random(50), 1000);
    setup.legs.push([Path { delay: 80 * MS, ..CLEAN.losing(Loss::Random(50)) }, CLEAN]);
    setup.reorder = 70;
    let mut pair = setup.pair();
    pair.send(20_000, 1000);
    pair.run(20 * S);
    // A quarter of a percent is missing on both.
    let received = pair.receiver.stats();
    assert!(received.recovered < 100 && received.duplicates > 17_000, "{received:?}");
    // Then one of them ends altogether.
    pair.change(0, 0, DEAD);
    pair.change(0, 1, DEAD);
    pair.send(20_000, 1000);
    pair.run(20 * S);
    finish(&mut pair);
    assert_eq!(pair.lost(), 0);
    let legs = legs(&pair);
    assert!(legs[1].recovered > 900 && legs[0].requests > 0, "{legs:?}");
}

#[test]
fn a_stream_may_be_split_over_legs_which_are_asked_in_turn() {
    let mut pair = two_legs(19, Loss::Random(30), 1000).pair();
    pair.tap = Some(Box::new(split));
    pair.send(20_000, 1000);
    pair.run(23 * S);
    pair.tap = None;
    finish(&mut pair);
    let legs = legs(&pair);
    assert_eq!(pair.lost(), 0, "{:?} {legs:?}", pair.receiver.stats());
    assert!(legs.iter().all(|leg| leg.requests > 20 && leg.first > 9000), "{legs:?}");
}

#[test]
fn of_two_sources_with_half_of_the_stream_each_only_what_got_lost_is_asked_for() {
    // Milliseconds that the second one's path is longer, and most requests. 400 packets get lost; at first some are asked
    // for that come later. In the end there is no time to wait for the second one and to ask twice: asking goes first.
    for (skew, most) in [(0, 500), (20, 500), (80, 500), (120, 600), (160, 20_000)] {
        let loss = Loss::Random(20);
        let mut setup = setup(41, loss, 400);
        setup.legs.push([Path { delay: (49 + skew) * MS, ..CLEAN.losing(loss) }, CLEAN]);
        (setup.reorder, setup.merged) = (100, true);
        let mut pair = setup.pair();
        pair.tap = Some(Box::new(split));
        pair.send(20_000, 1000);
        pair.run(20 * S);
        let merged = pair.merged.as_ref().unwrap();
        // What is sent again may come by both: it does not make them seem further apart.
        let seen = merged.merger.skew(pair.instant(pair.now)).as_millis() as u64;
        assert!((skew..=skew + 2).contains(&seen), "{seen} ms apart, not {skew}");
        pair.run(3 * S);
        let merged = pair.merged.as_ref().unwrap();
        let (first, second) = (pair.receiver.stats(), merged.second.stats());
        assert_eq!(pair.lost(), 0, "{skew} ms: {first:?} {second:?}");
        assert!(first.requests + second.requests <= most, "{skew} ms: {first:?} {second:?}");
        assert!(first.elsewhere > 9500 && second.elsewhere > 9500, "{skew} ms: {first:?} {second:?}");
    }
}
