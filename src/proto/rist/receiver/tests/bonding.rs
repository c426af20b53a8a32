//! One stream over two legs: the same packets on both, or each on one.

use super::*;

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
    pair.change(0, 0, CLEAN.losing(Loss::Random(1000)));
    pair.change(0, 1, CLEAN.losing(Loss::Random(1000)));
    pair.send(20_000, 1000);
    pair.run(20 * S);
    finish(&mut pair);
    assert_eq!(pair.lost(), 0);
    let legs: Vec<_> = pair.legs.iter().map(|leg| pair.receiver.leg_stats(*leg).unwrap()).collect();
    assert!(legs[1].recovered > 900 && legs[0].requests > 0, "{legs:?}");
}

#[test]
fn a_stream_may_be_split_over_legs_which_are_asked_in_turn() {
    let mut setup = setup(19, Loss::Random(30), 1000);
    setup.legs.push([Path { delay: 70 * MS, ..CLEAN.losing(Loss::Random(30)) }, CLEAN]);
    setup.reorder = 70;
    let mut pair = setup.pair();
    let turn = Rc::new(RefCell::new(0_u64));
    pair.tap = Some(Box::new(move |leg, to_receiver, _, port, bytes| {
        let again = bytes.get(11).is_some_and(|ssrc| ssrc & 1 != 0);
        if !to_receiver || port != Port::Media || again {
            return true;
        }
        let seq = u64::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        *turn.borrow_mut() += 1;
        seq % 2 == leg as u64
    }));
    pair.send(20_000, 1000);
    pair.run(23 * S);
    pair.tap = None;
    finish(&mut pair);
    let legs: Vec<_> = pair.legs.iter().map(|leg| pair.receiver.leg_stats(*leg).unwrap()).collect();
    assert_eq!(pair.lost(), 0, "{:?} {legs:?}", pair.receiver.stats());
    assert!(legs.iter().all(|leg| leg.requests > 20 && leg.first > 9000), "{legs:?}");
}
