//! One stream over two legs: the same packets on both, or each on one.

use std::collections::BTreeMap;

use super::super::super::nack::Request;
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
fn what_does_not_come_is_asked_for_on_one_leg_and_the_other_in_turn() {
    let mut pair = two_legs(33, Loss::None, 1000).pair();
    let asked = Rc::new(RefCell::new(BTreeMap::<u16, Vec<(u64, usize)>>::new()));
    let seen = asked.clone();
    pair.tap = Some(Box::new(move |leg, to_receiver, at, port, bytes| {
        if port == Port::Media {
            // One of a hundred gets lost however often it is sent.
            return u16::from_be_bytes([bytes[2], bytes[3]]) % 100 != 57;
        }
        for packet in Compound::parse(bytes).unwrap().packets().filter(|_| !to_receiver) {
            let runs = Request::read(&packet, 0x1234_5678).into_iter().flat_map(Request::runs);
            for seq in runs.flat_map(|run| (0..run.count).map(move |step| run.first.wrapping_add(step as u16))) {
                seen.borrow_mut().entry(seq).or_default().push((at, leg));
            }
        }
        true
    }));
    pair.send(5000, 1000);
    pair.run(8 * S);
    assert_eq!((pair.lost(), asked.borrow().len()), (50, 50));
    for requests in asked.borrow().values() {
        // One that is made twice, as it may get lost, counts once.
        let mut turns = requests.clone();
        turns.dedup_by(|again, first| again.1 == first.1 && again.0 - first.0 < 50 * MS);
        assert!(turns.len() >= 5 && turns.windows(2).all(|two| two[0].1 != two[1].1), "{requests:?}");
    }
}

#[test]
fn a_leg_that_hears_no_requests_is_made_up_for_by_the_other() {
    let mut setup = two_legs(35, Loss::Random(30), 1000);
    setup.legs[0][1] = DEAD;
    let mut pair = setup.pair();
    pair.tap = Some(Box::new(split));
    pair.send(20_000, 1000);
    pair.run(23 * S);
    pair.tap = None;
    finish(&mut pair);
    let (legs, sent) = (legs(&pair), pair.legs.iter().map(|leg| pair.sender.leg_stats(*leg).unwrap()));
    let sent: Vec<_> = sent.collect();
    assert_eq!(pair.lost(), 0, "{legs:?}");
    assert!(legs[0].requests > 10 && legs[0].first > 9000, "it is asked in vain: {legs:?}");
    assert!(sent[0].control == 0 && sent[1].retransmitted > 500, "{sent:?}");
}

#[test]
fn a_leg_with_half_of_the_stream_that_dies_is_made_up_for_by_the_other() {
    let mut pair = two_legs(37, Loss::Random(10), 1000).pair();
    pair.tap = Some(Box::new(split));
    pair.send(10_000, 1000);
    pair.run(10 * S);
    pair.change(0, 0, DEAD);
    pair.change(0, 1, DEAD);
    pair.send(10_000, 1000);
    pair.run(12 * S);
    pair.tap = None;
    finish(&mut pair);
    let legs = legs(&pair);
    assert_eq!(pair.lost(), 0, "{:?} {legs:?}", pair.receiver.stats());
    assert!(legs[1].recovered > 4900 && legs[0].first < 5100, "{legs:?}");
}

#[test]
fn a_sender_that_is_started_anew_is_followed_on_both_legs() {
    for (ssrc, seq) in [(0x4444_4444, 100), (0x1234_5678, 40_000)] {
        let setup = two_legs(39, Loss::Random(50), 1000);
        let mut pair = setup.pair();
        pair.send(5000, 1000);
        pair.run(5600 * MS);
        pair.restart(&setup, ssrc, seq);
        pair.send(5000, 1000);
        pair.run(5 * S);
        finish(&mut pair);
        let received = pair.receiver.stats();
        let anew: Vec<_> = pair.delivered.iter().filter(|delivered| delivered.discontinuity).collect();
        assert_eq!((pair.lost(), received.restarts, received.ssrc), (0, 1, ssrc), "{received:?}");
        assert!(anew.len() == 1 && anew[0].index == FIRST_INDEX + 5000, "{anew:?}");
        assert!(pair.sender.stats().retransmitted > 5, "what both legs lost is asked of the new one");
    }
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
