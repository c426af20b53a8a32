//! How a connection begins, idles and ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::super::control::Control;
use super::super::super::handshake::{Handshake, Kind, PeerIp};
use super::super::super::packet::{Packet, destination};
use super::super::super::seq::Timestamp;
use super::super::super::testing::*;
use super::super::*;

const PATH: Path = Path::of(20);

fn setup() -> Setup {
    Setup::new(1, PATH, 120)
}

#[test]
fn an_end_that_has_nothing_to_say_sends_a_keepalive_a_second() {
    let mut pair = setup().pair();
    let kinds = Rc::new(RefCell::new(Vec::new()));
    let seen = kinds.clone();
    pair.tap = Some(Box::new(move |end, now, packet| {
        assert!(matches!(packet, Packet::Control { control: Control::KeepAlive, .. }));
        seen.borrow_mut().push((end, now / MS));
        true
    }));
    pair.run(10 * S + 500 * MS);
    assert_eq!(kinds.borrow().len(), 20);
    assert!(kinds.borrow().iter().all(|(_, at)| at % 1000 < 60), "{:?}", kinds.borrow());
    assert!(pair.ends.iter().all(|end| end.events.is_empty()));
}

#[test]
fn a_peer_that_is_silent_for_five_seconds_is_dead() {
    let mut pair = setup().pair();
    pair.send(0, 1000, 1000);
    pair.run(S);
    pair.change(0, PATH.losing(Loss::Random(1000)));
    pair.run(4 * S + 900 * MS);
    assert!(pair.ends[1].events.is_empty());
    pair.run(300 * MS);
    let (ending, closed) = (CloseReason::PeerIdle, CloseReason::PeerIdle);
    assert_eq!(pair.ends[1].events, [ConnectionEvent::Ending(ending), ConnectionEvent::Closed(closed)]);
    assert!(pair.ends[1].connection.is_closed());
    assert_eq!((pair.ends[1].connection.poll_timeout(), pair.ends[1].connection.next_release()), (None, None));
}

#[test]
fn an_end_that_stood_still_for_long_looks_for_its_peer_first() {
    let mut pair = setup().pair();
    pair.send(0, 100_000, 1000);
    pair.run(S);
    pair.ends[1].asleep_until = pair.now + 4 * S;
    pair.ends[0].asleep_until = pair.now + 4 * S;
    pair.run(5 * S);
    assert!(pair.ends.iter().all(|end| end.events.is_empty()), "both woke up, and each heard of the other");
    // Longer than the peer waits: it hears a keepalive that lay in the socket, and no more.
    pair.ends[1].asleep_until = pair.now + 7 * S;
    pair.run(8 * S);
    assert!(pair.ends[1].events.is_empty(), "{:?}", pair.ends[1].events);
    assert_eq!(pair.ends[0].events.first(), Some(&ConnectionEvent::Ending(CloseReason::PeerIdle)));
}

#[test]
fn a_shutdown_is_sent_once_and_what_waits_is_delivered_in_its_time() {
    let mut pair = Setup::new(1, PATH, 800).pair();
    let shutdowns = Rc::new(Cell::new(0));
    let seen = shutdowns.clone();
    pair.tap = Some(Box::new(move |_, _, packet| {
        seen.set(seen.get() + u32::from(matches!(packet, Packet::Control { control: Control::Shutdown, .. })));
        true
    }));
    pair.send(0, 500, 1000);
    pair.run(520 * MS);
    pair.ends[0].connection.close();
    pair.run(60 * MS);
    let closed = [ConnectionEvent::Ending(CloseReason::Local), ConnectionEvent::Closed(CloseReason::Local)];
    assert_eq!(pair.ends[0].events, closed);
    assert_eq!(pair.ends[1].events, [ConnectionEvent::Ending(CloseReason::PeerShutdown)]);
    assert_eq!((pair.ends[1].delivered, pair.stats(1).buffered), (0, 500));
    pair.run(500 * MS);
    assert!((1..499).contains(&pair.ends[1].delivered), "{}", pair.ends[1].delivered);
    pair.run(S);
    assert_eq!((pair.ends[1].delivered, pair.ends[1].due_error), (500, Some((0, 0))));
    assert_eq!(pair.ends[1].events[1..], [ConnectionEvent::Closed(CloseReason::PeerShutdown)]);
    assert_eq!(shutdowns.get(), 1);
}

#[test]
fn nothing_is_sent_after_the_end_and_nothing_that_comes_changes_anything() {
    let mut pair = setup().pair();
    pair.send(0, 100, 1000);
    pair.run(200 * MS);
    pair.ends[1].connection.close();
    pair.ends[1].connection.close();
    pair.run(S);
    let (before, sent) = (pair.stats(1), Rc::new(Cell::new(0)));
    let seen = sent.clone();
    pair.tap = Some(Box::new(move |_, _, _| {
        seen.set(seen.get() + 1);
        true
    }));
    pair.send(0, 100, 1000);
    pair.forge_control(1, &Control::Shutdown);
    pair.forge(1, &[0; 100]);
    pair.run(10 * S);
    assert_eq!((pair.stats(1).received, pair.stats(1).invalid, sent.get()), (before.received, before.invalid, 0));
    assert_eq!(pair.ends[0].events.len(), 2, "both are over");
    pair.ends[1].connection.close();
    assert_eq!(pair.ends[1].connection.poll_event(), None);
}

#[test]
fn a_receiver_that_does_not_want_to_wait_may_close_while_it_drains() {
    let mut pair = Setup::new(1, PATH, 800).pair();
    pair.send(0, 100, 1000);
    pair.run(200 * MS);
    pair.ends[0].connection.close();
    pair.run(100 * MS);
    let connection = &mut pair.ends[1].connection;
    assert!(connection.next_release().is_some());
    connection.close();
    assert_eq!(connection.poll_event(), Some(ConnectionEvent::Closed(CloseReason::PeerShutdown)));
    assert_eq!((connection.next_release(), connection.poll_timeout()), (None, None));
}

/// A handshake packet as the peer would send it again.
fn repeated(kind: Kind) -> Vec<u8> {
    let handshake = Handshake {
        version: 5,
        encryption: 0,
        extensions: 0,
        isn: SeqNo::new(7),
        mss: 1500,
        flow_window: 8192,
        kind,
        socket: SocketId(2),
        cookie: 1,
        peer_ip: PeerIp([0; 16]),
        blocks: &[],
    };
    handshake.write(Timestamp(0), SocketId::NONE)
}

#[test]
fn the_answer_to_a_handshake_goes_first_and_again_whenever_it_is_asked_for() {
    let setup = setup();
    let base = Instant::now();
    let reply = {
        let mut packet = Vec::new();
        Control::KeepAlive.write(Timestamp(0xFFFF_FFFF), SocketId(2), &mut packet);
        packet
    };
    let negotiated = Negotiated { reply: Some(reply.clone()), ..setup.negotiated(0, base) };
    let mut connection = Connection::new(negotiated, &setup.config, base);
    connection.begin_sending(FIRST_INDEX);
    let mut pair = setup.pair();
    let stream = &mut pair.ends[0].stream;
    stream.push(base);
    let later = base + std::time::Duration::from_millis(7);
    assert!(connection.poll_timeout().is_some_and(|due| due <= base));
    assert_eq!(connection.poll_data(later, stream), None, "not before the answer");
    let poll = |connection: &mut Connection| {
        let mut out = Vec::new();
        connection.poll_control(later, &mut out).then_some(out)
    };
    let expected = {
        let mut expected = reply;
        super::super::super::packet::stamp(&mut expected, Timestamp(7000));
        expected
    };
    assert_eq!(poll(&mut connection), Some(expected.clone()));
    assert!(connection.poll_data(later, stream).is_some());
    assert_eq!(poll(&mut connection), None);
    for kind in [Kind::Conclusion, Kind::Conclusion, Kind::Agreement] {
        connection.handle_datagram(later, later, &repeated(kind));
    }
    assert_eq!(poll(&mut connection), Some(expected), "once for all that were there");
    assert_eq!(poll(&mut connection), None);
    connection.handle_datagram(later, later, &repeated(Kind::Agreement));
    assert_eq!((poll(&mut connection), connection.stats(later).invalid), (None, 0));
}

#[test]
fn every_packet_goes_to_the_peer_s_socket_with_the_time_of_its_sending() {
    let mut pair = Setup::new(1, PATH.losing(Loss::Random(100)), 120).pair();
    let base = pair.ends[0].instant(0);
    assert!(base > Instant::now());
    pair.tap = Some(Box::new(move |end, now, packet| {
        let (to, at) = match packet {
            Packet::Data(header, _) => (header.destination, None),
            Packet::Control { destination, timestamp, .. } => (*destination, Some(timestamp.0)),
        };
        assert_eq!(to, SocketId(2 - end as u32));
        assert!(at.is_none_or(|at| u64::from(at) == now));
        true
    }));
    pair.send(0, 1000, 1000);
    pair.run(4 * S);
    assert_eq!(destination(&repeated(Kind::Conclusion)), Some(SocketId::NONE));
}

#[test]
fn what_waits_shows_in_the_figures_of_both_ends() {
    let mut pair = Setup::new(1, PATH, 400).pair();
    pair.send(0, 2000, 1000);
    pair.run(S + 200 * MS);
    let (sender, receiver) = (pair.stats(0), pair.stats(1));
    assert!((395..=405).contains(&receiver.buffered), "{receiver:?}");
    assert!((390..=405).contains(&receiver.buffered_span.as_millis()), "{receiver:?}");
    assert_eq!(receiver.buffered + receiver.buffer_room, 8192);
    assert!((20..=75).contains(&sender.in_flight), "{sender:?}");
    assert!(sender.send_buffer.as_millis() <= 75, "{sender:?}");
    assert!(sender.rtt_measured && receiver.rtt_measured);
    assert!((40..=50).contains(&receiver.rtt.as_millis()) && sender.rtt == receiver.rtt, "{sender:?} {receiver:?}");
    assert!((980..=1020).contains(&sender.peer_receive_rate), "{sender:?}");
    assert_eq!(
        (sender.sent.packets, sender.unsent),
        (receiver.received.packets + sender.sent.packets - receiver.received.packets, 0)
    );
    pair.run(2 * S);
    let (sender, receiver) = (pair.stats(0), pair.stats(1));
    assert_eq!((receiver.buffered, receiver.buffered_span.as_millis(), sender.in_flight), (0, 0, 0));
    assert_eq!((sender.sent.packets, sender.sent.bytes), (2000, 2000 * 24));
    assert_eq!((receiver.received.unique, receiver.received.unique_bytes), (2000, 2000 * 24));
    assert_eq!((receiver.received.packets, receiver.received.bytes), (2000, 2000 * 24));
    assert_eq!((sender.sent.acks, sender.send_key), (receiver.received.acks, KeyState::Clear));
}
