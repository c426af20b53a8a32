//! What a connection costs when it idles, and when it does not.

use super::super::super::testing::*;
use super::super::*;

const PATH: Path = Path::of(20);

#[test]
fn an_idle_connection_takes_less_than_two_kilobytes_and_with_keys_than_four() {
    let mut pair = Setup::new(1, PATH, 120).pair();
    pair.run(5 * S);
    for end in [0, 1] {
        assert!(pair.stats(end).memory < 2048, "{}", pair.stats(end).memory);
    }
    // With the keys: each direction has one, expanded, and for a while two.
    let keys = size_of::<SendKeys>() + size_of::<ReceiveKeys>() + 4 * size_of::<aes::Aes256Enc>();
    assert!(size_of::<Connection>() + keys < 4096, "{} and {keys}", size_of::<Connection>());
}

#[test]
fn a_receiver_takes_what_it_holds_and_little_more_and_gives_it_back() {
    // 5 Mbit/s at 120 ms: 57 packets.
    let mut pair = Setup::new(2, PATH.losing(Loss::Random(20)), 120).pair();
    pair.ends[0].stream.bytes = 1316;
    pair.send(0, 2000, 2105);
    pair.run(3 * S);
    let held = pair.stats(1).buffered * 1316;
    let (sender, receiver) = (pair.stats(0).memory, pair.stats(1).memory);
    assert!(held > 50 * 1316 && receiver < held * 3 / 2 + 32_000, "{receiver} bytes for {held}");
    assert!(sender < 4096, "{sender} bytes for a sender of which something was lost");
    pair.run(6 * S);
    assert_eq!(pair.lost(), 0);
    for end in [0, 1] {
        assert!(pair.stats(end).memory < 2200, "end {end}: {} bytes when it idles again", pair.stats(end).memory);
    }
}

#[test]
fn the_receive_buffer_is_bounded_in_packets_and_in_bytes() {
    for (packets, bytes) in [(512, 64 << 20), (8192, 512 << 10)] {
        let mut setup = Setup::new(3, PATH, 8000);
        (setup.config.receive_packets, setup.config.receive_bytes) = (packets, bytes);
        setup.flow_window = 1_000_000;
        let mut pair = setup.pair();
        pair.ends[0].stream.bytes = 1316;
        pair.send(0, 8000, 250);
        let mut most = 0;
        for _ in 0..300 {
            pair.run(10 * MS);
            most = most.max(pair.stats(1).memory);
        }
        let stats = pair.stats(1);
        assert!(stats.buffered <= u64::from(packets) && most <= bytes as u64 + 400_000, "{most} {stats:?}");
        assert!(stats.buffered * 1316 * 5 / 4 > (u64::from(packets) * 1316).min(bytes as u64), "it is used, too");
        assert_eq!(stats.buffer_room, 0);
        assert!(stats.received.no_room < 10, "the sender waits for room, and only asks: {stats:?}");
        // In 8 s all of it is due, and there is room again.
        pair.run(10 * S);
        let before = pair.ends[1].delivered;
        pair.send(0, 100, 1000);
        pair.run(10 * S);
        assert_eq!(pair.ends[1].delivered - before, 100);
    }
}
