//! Encryption, and keys that are replaced.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::super::control::Control;
use super::super::super::crypto::{StreamKeys, StreamSecret};
use super::super::super::km::{KeyMaterial, KmAnswer};
use super::super::super::packet::{Key, Packet};
use super::super::super::seq::Timestamp;
use super::super::super::testing::*;
use super::super::*;

const PATH: Path = Path::of(20);

/// Every 500 packets another key, announced 100 before.
fn setup(path: Path) -> Setup {
    let config = ConnectionConfig { km_refresh: 500, km_preannounce: 100, ..ConnectionConfig::default() };
    Setup { key_length: Some(KeyLength::Aes128), config, ..Setup::new(1, path, 240) }
}

#[test]
fn keys_are_replaced_three_times_in_both_directions_while_packets_are_lost() {
    for key_length in [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256] {
        let mut pair = Setup { key_length: Some(key_length), ..setup(PATH.losing(Loss::Random(50))) }.pair();
        let switches = Rc::new(RefCell::new([Vec::new(), Vec::new()]));
        let seen = switches.clone();
        pair.tap = Some(Box::new(move |end, _, packet| {
            if let Packet::Data(header, _) = packet
                && !header.retransmitted
            {
                let keys = &mut seen.borrow_mut()[end];
                if keys.last().is_none_or(|(key, _)| *key != header.key) {
                    keys.push((header.key, header.message.value()));
                }
            }
            true
        }));
        pair.send(0, 2000, 1000);
        pair.send(1, 2000, 1000);
        pair.run(3 * S);
        for number in [0, 1] {
            let (end, stats) = (&pair.ends[number], pair.stats(number));
            assert_eq!((end.delivered, end.gaps, stats.received.undecrypted), (2000, 0, 0), "{key_length}");
            assert_eq!((stats.send_key_refreshes, stats.receive_key_refreshes), (3, 4), "and the next is there");
            assert_eq!((stats.send_key, stats.receive_key), (KeyState::Secured, KeyState::Secured));
            let told = |event| end.events.iter().filter(|told| **told == event).count();
            let refreshes = [ConnectionEvent::SendKeyRefreshed, ConnectionEvent::ReceiveKeyRefreshed];
            assert_eq!(refreshes.map(told), [3, 4]);
            let (even, odd) = (Some(Key::Even), Some(Key::Odd));
            let (keys, at): (Vec<_>, Vec<_>) = switches.borrow()[number].iter().copied().unzip();
            assert_eq!(keys, [even, odd, even, odd]);
            // When the peer has confirmed the next one, which may have taken a second question.
            assert!(at.windows(2).all(|at| (500..550).contains(&(at[1] - at[0]))), "{at:?}");
        }
    }
}

#[test]
fn what_is_sent_again_is_the_same_bytes_also_after_the_key_was_replaced() {
    let mut pair = setup(PATH.losing(Loss::Random(100))).pair();
    let (again, late) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (count, count_late) = (again.clone(), late.clone());
    let (mut first, mut newest) = (std::collections::BTreeMap::new(), None);
    pair.tap = Some(Box::new(move |end, _, packet| {
        if let (0, Packet::Data(header, payload)) = (end, packet) {
            let known = first.entry(header.message.value()).or_insert_with(|| (header.key, payload.to_vec()));
            assert_eq!(*known, (header.key, payload.to_vec()));
            count.set(count.get() + u32::from(header.retransmitted));
            count_late.set(count_late.get() + u32::from(header.retransmitted && header.key != newest));
            newest = if header.retransmitted { newest } else { header.key };
        }
        true
    }));
    pair.send(0, 3000, 1000);
    pair.run(4 * S);
    assert_eq!((pair.lost(), pair.stats(1).received.undecrypted), (0, 0));
    assert!(again.get() > 300 && late.get() > 10, "{again:?} {late:?}");
}

#[test]
fn no_packet_about_keys_is_the_one_that_must_not_get_lost() {
    type Like = fn(&Control<'_>) -> bool;
    let kinds: [Like; 2] =
        [|control| matches!(control, Control::KmRequest(_)), |control| matches!(control, Control::KmResponse(_))];
    for like in kinds {
        for lost in 1..6 {
            let mut pair = Setup { latency: [800, 800], ..setup(PATH) }.pair();
            let mut left = lost;
            pair.tap = Some(Box::new(move |_, _, packet| match packet {
                Packet::Control { control, .. } if left > 0 && like(control) => {
                    left -= 1;
                    false
                }
                _ => true,
            }));
            pair.send(0, 1000, 1000);
            pair.run(3 * S);
            let stats = pair.stats(1).received;
            assert_eq!((pair.lost(), stats.undecrypted, pair.stats(0).send_key_refreshes), (0, 0, 1), "{lost} lost");
        }
    }
}

#[test]
fn a_key_that_the_peer_never_confirms_is_never_used() {
    let mut pair = setup(PATH).pair();
    let (requests, answers) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (count, pass) = (requests.clone(), answers.clone());
    pair.tap = Some(Box::new(move |_, _, packet| match packet {
        Packet::Control { control: Control::KmRequest(_), .. } => {
            count.set(count.get() + 1);
            true
        }
        Packet::Control { control: Control::KmResponse(_), .. } => pass.get(),
        Packet::Data(header, _) => {
            assert!(pass.get() || header.key == Some(Key::Even));
            true
        }
        Packet::Control { .. } => true,
    }));
    pair.send(0, 10_000, 1000);
    pair.run(2 * S);
    assert_eq!(pair.stats(0).send_key, KeyState::Unconfirmed);
    assert!((10..=13).contains(&requests.get()), "ten at once, then one a second: {}", requests.get());
    let unconfirmed =
        |pair: &Pair| pair.ends[0].events.iter().filter(|e| **e == ConnectionEvent::KeyUnconfirmed).count();
    assert_eq!(unconfirmed(&pair), 1);
    pair.run(2 * S);
    answers.set(true);
    pair.run(8 * S);
    assert_eq!((pair.lost(), pair.stats(1).received.undecrypted, unconfirmed(&pair)), (0, 0, 1));
    assert!(pair.stats(0).send_key_refreshes > 5, "{:?}", pair.stats(0));
}

#[test]
fn a_key_that_the_peer_refuses_is_not_used_until_it_takes_it() {
    let mut pair = setup(PATH).pair();
    pair.tap = Some(Box::new(|_, _, packet| !matches!(packet, Packet::Control { control: Control::KmRequest(_), .. })));
    pair.send(0, 5000, 1000);
    pair.run(600 * MS);
    for _ in 0..3 {
        pair.forge_control(0, &Control::KmResponse(&KmState::BadSecret.write()));
        pair.run(10 * MS);
    }
    let refused = ConnectionEvent::KeyRefused(KmState::BadSecret);
    assert_eq!(pair.ends[0].events.iter().filter(|event| **event == refused).count(), 1);
    assert_eq!(pair.stats(0).send_key, KeyState::Unconfirmed);
    pair.run(S);
    assert_eq!(pair.stats(0).send_key_refreshes, 0);
    pair.tap = None;
    pair.run(5 * S);
    assert_eq!((pair.lost(), pair.stats(1).received.undecrypted), (0, 0));
    assert!(pair.stats(0).send_key_refreshes >= 5);
}

#[test]
fn without_the_next_key_the_present_one_stays() {
    let mut pair = setup(PATH).pair();
    pair.ends[0].withhold = true;
    pair.send(0, 2000, 1000);
    pair.run(3 * S);
    assert_eq!(pair.ends[0].events, [ConnectionEvent::NeedSecret], "asked for once, with the first packet");
    assert_eq!((pair.lost(), pair.stats(0).send_key_refreshes), (0, 0));
    pair.ends[0].connection.provide_secret(&[9; 32]);
    pair.send(0, 500, 1000);
    pair.run(S);
    assert_eq!((pair.lost(), pair.stats(0).send_key_refreshes), (0, 1));
    assert!(pair.ends[1].events.iter().all(|event| *event != ConnectionEvent::NeedSecret), "it sends nothing");
}

#[test]
fn keys_that_were_recorded_and_come_again_change_nothing() {
    let mut pair = setup(PATH).pair();
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let messages = recorded.clone();
    pair.tap = Some(Box::new(move |_, _, packet| {
        if let Packet::Control { control: Control::KmRequest(message), .. } = packet {
            messages.borrow_mut().push(message.to_vec());
        }
        true
    }));
    pair.send(0, 3000, 1000);
    for _ in 0..60 {
        pair.run(50 * MS);
        let messages = recorded.borrow().clone();
        for message in &messages[..messages.len().saturating_sub(1)] {
            pair.forge_control(1, &Control::KmRequest(message));
        }
    }
    pair.run(S);
    let stats = pair.stats(1);
    assert_eq!((pair.lost(), stats.received.undecrypted, stats.receive_key_refreshes), (0, 0, 6));
    assert!(stats.invalid > 100);
}

/// A data packet for end 1, encrypted with this key.
fn data(keys: Option<(&StreamKeys, Key)>, seq: SeqNo, index: u64) -> Vec<u8> {
    let mut header = DataHeader::live(seq, MsgNo::FIRST, Timestamp(0), SocketId(2));
    header.key = keys.map(|(_, key)| key);
    let mut packet = header.write().to_vec();
    packet.extend(payload(FIRST_INDEX + index, 24));
    if let Some((keys, key)) = keys {
        assert!(keys.apply(key, seq, &mut packet[16..]));
    }
    packet
}

#[test]
fn once_secured_nothing_in_clear_is_taken_and_nothing_encrypted_before() {
    let setup = setup(PATH);
    let mut pair = setup.pair();
    pair.run(10 * MS);
    pair.forge(1, &data(None, setup.isn, 7));
    let stats = pair.stats(1).received;
    assert_eq!((stats.undecrypted, stats.undecrypted_bytes, stats.unique), (1, 24, 0));
    pair.send(0, 100, 1000);
    pair.run(S);
    assert_eq!((pair.lost(), pair.ends[1].delivered), (0, 100), "it has not taken the place of the real one");

    let keys = setup.negotiated(0, Instant::now()).keys.unwrap();
    let mut clear = Setup { key_length: None, ..setup }.pair();
    clear.run(10 * MS);
    clear.forge(1, &data(Some((&keys, Key::Even)), clear_isn(), 7));
    assert_eq!((clear.stats(1).received.undecrypted, clear.stats(1).received.unique), (1, 0));
}

fn clear_isn() -> SeqNo {
    Setup::new(1, PATH, 0).isn
}

/// The keys of a sender that has an odd one, too.
fn next_keys(setup: &Setup) -> (StreamKeys, Vec<u8>) {
    let Negotiated { keys, kek, .. } = setup.negotiated(0, Instant::now());
    let mut keys = keys.unwrap();
    keys.set(Key::Odd, StreamSecret::new(KeyLength::Aes128, &[0x77; 32]));
    let message = kek.unwrap().wrap(&keys).unwrap();
    (keys, message)
}

#[test]
fn a_packet_may_come_before_its_key() {
    let setup = setup(PATH);
    let (keys, message) = next_keys(&setup);
    let mut pair = setup.pair();
    pair.run(25 * MS);
    pair.forge(1, &data(Some((&keys, Key::Even)), setup.isn, 7));
    pair.forge(1, &data(Some((&keys, Key::Odd)), setup.isn.next(), 8));
    pair.run(100 * MS);
    pair.forge_control(1, &Control::KmRequest(&message));
    pair.run(200 * MS);
    assert_eq!((pair.ends[1].delivered, pair.stats(1).received.undecrypted), (2, 0));
}

/// A libsrt does not wait for an answer: it switches, and announces the next key all the same.
#[test]
fn a_peer_that_switched_before_its_key_came_is_understood_from_the_next_one_on() {
    let mut setup = Setup { latency: [0, 600], ..setup(PATH) };
    setup.config.km_preannounce = 10;
    let (mut keys, first) = next_keys(&setup);
    let kek = setup.negotiated(0, Instant::now()).kek.unwrap();
    let mut pair = setup.pair();
    let mut seq = setup.isn;
    let mut index = 0;
    let mut send = |pair: &mut Pair, keys: &StreamKeys, key, packets| {
        for _ in 0..packets {
            let mut packet = data(Some((keys, key)), seq, index);
            super::super::super::packet::stamp(&mut packet, Timestamp(pair.now as u32));
            pair.forge(1, &packet);
            (seq, index) = (seq.next(), index + 1);
            pair.run(MS);
        }
    };
    send(&mut pair, &keys, Key::Even, 50);
    pair.forge_control(1, &Control::KmRequest(&first));
    send(&mut pair, &keys, Key::Odd, 50);
    // The even key is replaced, and nobody tells: until the next announcement, just in time.
    keys.set(Key::Even, StreamSecret::new(KeyLength::Aes128, &[0x78; 32]));
    send(&mut pair, &keys, Key::Even, 50);
    pair.forge_control(1, &Control::KmRequest(&kek.wrap(&keys).unwrap()));
    send(&mut pair, &keys, Key::Even, 50);
    pair.run(S);
    assert_eq!((pair.ends[1].delivered, pair.stats(1).received.undecrypted), (200, 0));
}

#[test]
fn a_packet_whose_key_never_comes_is_counted_and_left_out() {
    let setup = setup(PATH);
    let (keys, _) = next_keys(&setup);
    let mut pair = setup.pair();
    pair.run(25 * MS);
    for (seq, key) in [(0, Key::Even), (1, Key::Odd), (2, Key::Odd), (3, Key::Even)] {
        pair.forge(1, &data(Some((&keys, key)), setup.isn.add(seq), 7 + u64::from(seq)));
    }
    pair.run(500 * MS);
    let stats = pair.stats(1);
    assert_eq!((pair.ends[1].delivered, pair.ends[1].gaps, stats.received.undecrypted), (2, 2, 2));
    assert_eq!((stats.buffered, pair.ends[1].last_index), (0, Some(FIRST_INDEX + 10)));
}

/// The control packets that an end has to send.
fn control_packets(pair: &mut Pair, end: usize) -> Vec<Vec<u8>> {
    let now = pair.ends[end].instant(pair.now);
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    while pair.ends[end].connection.poll_control(now, &mut packet) {
        packets.push(std::mem::take(&mut packet));
    }
    packets
}

/// What end 1 answers to a KMREQ.
fn answer(pair: &mut Pair) -> Vec<u8> {
    let packets = control_packets(pair, 1);
    let mut bodies = packets.iter().filter_map(|packet| match Packet::parse(packet) {
        Ok(Packet::Control { control: Control::KmResponse(body), .. }) => Some(body.to_vec()),
        _ => None,
    });
    bodies.next_back().unwrap_or_default()
}

#[test]
fn keys_with_another_salt_wait_for_their_key_encryption_key() {
    let setup = setup(PATH);
    let mut pair = setup.pair();
    let (salt, key_length) = (Salt([0x55; 16]), KeyLength::Aes256);
    let kek = Kek::derive(b"correct horse", salt, key_length);
    let keys = StreamKeys::new(salt, Key::Odd, StreamSecret::new(key_length, &[0x66; 32]));
    let message = kek.wrap(&keys).unwrap();
    pair.forge_control(1, &Control::KmRequest(&message));
    let wanted = ConnectionEvent::NeedKek { salt, key_length };
    assert_eq!(pair.ends[1].connection.poll_event(), Some(wanted));
    assert!(answer(&mut pair).is_empty(), "not yet");
    pair.forge_control(1, &Control::KmRequest(&message));
    assert_eq!(pair.ends[1].connection.poll_event(), None, "once a second at most: it is work");

    let wrong = Kek::derive(b"another horse", salt, key_length);
    pair.ends[1].connection.provide_kek(std::slice::from_ref(&wrong));
    assert_eq!(KmAnswer::parse(&answer(&mut pair)), Some(KmAnswer::Failed(Some(KmState::BadSecret))));
    assert_eq!(pair.ends[1].connection.poll_event(), None);

    pair.now += S;
    pair.forge_control(1, &Control::KmRequest(&message));
    assert_eq!(pair.ends[1].connection.poll_event(), Some(wanted));
    pair.ends[1].connection.provide_kek(&[wrong, kek]);
    assert_eq!(answer(&mut pair), message);
    assert_eq!(pair.ends[1].connection.poll_event(), Some(ConnectionEvent::ReceiveKeyRefreshed));
    pair.ends[1].connection.provide_kek(&[]);
    assert!(answer(&mut pair).is_empty(), "nobody asked");
    pair.forge(1, &data(Some((&keys, Key::Odd)), setup.isn, 7));
    pair.run(500 * MS);
    assert_eq!((pair.ends[1].delivered, pair.stats(1).received.undecrypted), (1, 0));
}

#[test]
fn what_cannot_be_unwrapped_is_refused_in_the_words_of_libsrt() {
    let setup = setup(PATH);
    let (_, message) = next_keys(&setup);
    let mut pair = setup.pair();
    let refusal = |pair: &mut Pair, message: &[u8]| {
        pair.forge_control(1, &Control::KmRequest(message));
        match KmAnswer::parse(&answer(pair)) {
            Some(KmAnswer::Failed(Some(state))) => state,
            other => panic!("{other:?}"),
        }
    };
    let mut damaged = message.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refusal(&mut pair, &damaged), KmState::BadSecret);
    assert_eq!(refusal(&mut pair, &message[..message.len() - 4]), KmState::NoSecret);
    assert_eq!(refusal(&mut pair, &[]), KmState::NoSecret);
    let mut other_cipher = message.clone();
    other_cipher[8] = 4;
    assert_eq!(refusal(&mut pair, &other_cipher), KmState::BadCryptoMode);
    let mut clear = Setup { key_length: None, ..setup }.pair();
    assert_eq!(refusal(&mut clear, &message), KmState::NoSecret, "a connection in clear has no passphrase");
    pair.forge_control(1, &Control::KmRequest(&message));
    assert_eq!(answer(&mut pair), message, "none of it did any harm");
    assert!(KeyMaterial::parse(&message).is_ok());
}
