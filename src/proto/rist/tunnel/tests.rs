use super::super::psk::Parity;
use super::*;
use crate::proto::rtp::receive::tests::Random;
use crate::proto::rtp::rtcp::write_receiver_report;
use crate::proto::seq::{RtpTime, Seq};

const PHRASE: &[u8] = b"correct horse";

fn key(nonce: [u8; 4], phrase: &[u8], length: KeyLength) -> SendKey {
    let nonce = Nonce::new(nonce, Parity::Even).unwrap();
    SendKey { nonce, key: Key::derive(phrase, nonce, length) }
}

fn tunnel(key: Option<SendKey>) -> Tunnel {
    let (ports, mac) = ((32_768, 1968), [2, 0, 0, 0, 0, 1]);
    Tunnel::new(TunnelConfig { ports, key, rotate_after: 0, accept_weak_counter: false, mac })
}

fn rtp(seq: u16) -> Vec<u8> {
    [&header::Header::new(33, Seq(seq), RtpTime(5), 6).write()[..], &[0x47; 188]].concat()
}

fn media(from: &mut Tunnel, packet: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; from.overhead()];
    datagram.extend(packet);
    assert!(from.seal_media(&mut datagram));
    datagram
}

fn control(from: &mut Tunnel) -> Vec<u8> {
    let mut datagram = vec![0; from.overhead()];
    write_receiver_report(8, None, &mut datagram);
    assert!(from.seal_control(&mut datagram));
    datagram
}

/// Answer what is asked for, with these passphrases. How often was it?
fn answer(tunnel: &mut Tunnel, phrases: &[&[u8]]) -> usize {
    let mut asked = 0;
    while let Some(event) = tunnel.poll_event() {
        if let TunnelEvent::NeedKey { nonce, length } = event {
            asked += 1;
            let keys = phrases.iter().map(|phrase| Key::derive(phrase, nonce, length)).collect();
            tunnel.provide(TunnelKeys::Receive(nonce, keys));
        }
    }
    asked
}

#[test]
fn packets_go_through_in_clear_and_their_answers_back() {
    let (mut a, mut b, mut plain) = (tunnel(None), tunnel(None), Vec::new());
    let datagram = media(&mut a, &rtp(7));
    assert_eq!(datagram[..8], [0, 0, 0x88, 0xB6, 0x80, 0, 0x07, 0xB0]);
    assert_eq!(b.open(Tick(0), &datagram, &mut plain), Opened::Media(8));
    assert_eq!((&datagram[8..], plain.is_empty()), (&rtp(7)[..], true));
    let datagram = control(&mut a);
    assert_eq!(datagram[4..8], [0x80, 0, 0x07, 0xB1]);
    assert_eq!(b.open(Tick(0), &datagram, &mut plain), Opened::Control(8));
    assert_eq!(control(&mut b)[4..8], [0x07, 0xB1, 0x80, 0], "to where it came from");
}

#[test]
fn packets_go_through_with_keys_of_either_length_whichever_passphrase_it_is() {
    for length in [KeyLength::Aes128, KeyLength::Aes256] {
        let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, length)));
        let mut b = tunnel(Some(key([9, 9, 9, 9], b"another", KeyLength::Aes128)));
        let mut plain = Vec::new();
        for n in 0..2 {
            assert_eq!(b.open(Tick(0), &media(&mut a, &rtp(n)), &mut plain), Opened::Nothing);
        }
        assert_eq!(b.stats.undecrypted, 2);
        assert_eq!(answer(&mut b, &[b"another", PHRASE, b"third"]), 1);
        for n in 2..200 {
            assert_eq!(b.open(Tick(0), &media(&mut a, &rtp(n)), &mut plain), Opened::Media(4));
            assert_eq!(plain[4..], rtp(n));
        }
        assert_eq!(b.open(Tick(0), &control(&mut a), &mut plain), Opened::Control(4));
        assert_eq!((b.stats.garbage, b.poll_event()), (0, None));
    }
}

#[test]
fn a_new_key_is_asked_for_in_time_and_no_packet_gets_lost_by_it() {
    let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    let mut b = tunnel(Some(key([9, 9, 9, 9], PHRASE, KeyLength::Aes128)));
    a.config.rotate_after = 100;
    let (mut plain, mut lost, mut keys) = (Vec::new(), 0, 0);
    for n in 0..1000_u16 {
        let datagram = media(&mut a, &rtp(n));
        lost += u32::from(b.open(Tick(i64::from(n) * 10 * MILLISECOND), &datagram, &mut plain) == Opened::Nothing);
        answer(&mut b, &[PHRASE]);
        while let Some(event) = a.poll_event() {
            assert_eq!(event, TunnelEvent::NeedSendKey);
            keys += 1;
            a.provide(TunnelKeys::Send(key([keys, 7, 7, 7], PHRASE, KeyLength::Aes128)));
        }
    }
    // Two packets show a nonce, and their keys are derived; both are asked for again by RIST.
    assert_eq!((keys, lost), (10, 20));
}

#[test]
fn a_key_that_is_used_up_is_never_used_again() {
    let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    a.used = u32::MAX - ANNOUNCED - 1;
    media(&mut a, &rtp(1));
    assert_eq!((a.poll_event(), a.poll_event()), (Some(TunnelEvent::NeedSendKey), None));
    a.used = u32::MAX - 1;
    media(&mut a, &rtp(1));
    let mut datagram = [0; 100];
    assert!(!a.can_send() && !a.seal_media(&mut datagram) && !a.seal_control(&mut datagram));
    assert_eq!(datagram, [0; 100]);
    a.provide(TunnelKeys::Send(key([1, 2, 3, 5], PHRASE, KeyLength::Aes128)));
    assert!(a.can_send() && a.seal_media(&mut datagram));
}

#[test]
fn a_flood_of_nonces_costs_next_to_nothing_and_shuts_nobody_out() {
    let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    let mut b = tunnel(Some(key([9, 9, 9, 9], PHRASE, KeyLength::Aes128)));
    let (mut random, mut plain, mut asked, mut read) = (Random(7), Vec::new(), 0, 0);
    for n in 0..20_000_u32 {
        // 10 s, in which there are 9 made-up packets to each real one, half of them twice.
        let now = Tick(i64::from(n) * SECOND / 2000);
        let mut datagram = media(&mut a, &rtp((n & 0xFFFF) as u16));
        if n % 10 != 0 {
            datagram[4..8].copy_from_slice(&((random.below(1 << 31) as u32) << 1).to_be_bytes());
            b.open(now, &datagram, &mut plain);
            if n % 2 == 0 {
                b.open(now, &datagram, &mut plain);
            }
        } else {
            read += u32::from(b.open(now, &datagram, &mut plain) != Opened::Nothing);
        }
        asked += answer(&mut b, &[PHRASE]);
    }
    assert!(asked <= 41, "{asked} keys in 10 s");
    assert!(read > 1800, "{read} of 2,000 packets were read");
}

#[test]
fn a_sender_that_changes_its_nonce_all_the_time_is_followed() {
    // Milliseconds between changes, and how many of a hundred packets are read then, at least. Of changes that are quicker
    // than questions are asked, some are missed.
    for (every, least) in [(300, 90), (260, 90), (240, 25)] {
        let mut a = tunnel(Some(key([0, 0, 0, 1], PHRASE, KeyLength::Aes128)));
        let mut b = tunnel(Some(key([9, 9, 9, 9], PHRASE, KeyLength::Aes128)));
        let (mut plain, mut read) = (Vec::new(), 0);
        for n in 0..2000_u16 {
            let ms = u32::from(n) * 10;
            if ms % every == 0 {
                let nonce = (ms / every + 2).to_be_bytes();
                a.provide(TunnelKeys::Send(key(nonce, PHRASE, KeyLength::Aes128)));
            }
            let opened = b.open(Tick(i64::from(ms) * MILLISECOND), &media(&mut a, &rtp(n)), &mut plain);
            read += u32::from(n >= 1000 && opened != Opened::Nothing);
            // For a second the host has something else to do: some nonces come and go.
            if !(500..1500).contains(&ms) {
                answer(&mut b, &[PHRASE]);
            }
        }
        assert!(read >= least * 10, "{read} of 1,000 packets, with changes every {every} ms");
    }
}

#[test]
fn a_wrong_passphrase_is_told_and_asked_for_again_only_later() {
    let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    let mut b = tunnel(Some(key([9, 9, 9, 9], b"another", KeyLength::Aes128)));
    let (mut plain, mut told, mut asked) = (Vec::new(), 0, 0);
    for n in 0..300_u16 {
        b.open(Tick(i64::from(n) * 100 * MILLISECOND), &media(&mut a, &rtp(n)), &mut plain);
        while let Some(event) = b.poll_event() {
            match event {
                TunnelEvent::NeedKey { nonce, length } => {
                    asked += 1;
                    b.provide(TunnelKeys::Receive(nonce, vec![Key::derive(b"another", nonce, length)]));
                }
                TunnelEvent::WrongPassphrase => told += 1,
                TunnelEvent::NeedSendKey => panic!("of the other end"),
            }
        }
    }
    assert_eq!((asked, told), (3, 3), "in 30 s");
}

#[test]
fn what_is_not_for_us_is_counted() {
    let mut sealed = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    let (mut clear, mut plain) = (tunnel(None), Vec::new());
    let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    assert_eq!(clear.open(Tick(0), &media(&mut a, &rtp(1)), &mut plain), Opened::Nothing);
    assert_eq!(sealed.open(Tick(0), &media(&mut tunnel(None), &rtp(1)), &mut plain), Opened::Nothing);
    assert_eq!(clear.open(Tick(0), &rtp(1), &mut plain), Opened::Nothing);
    assert_eq!((clear.stats.undecrypted, clear.stats.invalid, sealed.stats.in_clear), (1, 1, 1));
    // The counter of the 2020 edition.
    let mut datagram = media(&mut a, &rtp(1));
    datagram[1] = 0;
    assert_eq!(sealed.open(Tick(0), &datagram, &mut plain), Opened::Nothing);
    assert_eq!((sealed.stats.undecrypted, sealed.poll_event()), (1, None));
}

#[test]
fn keep_alives_come_at_the_start_and_then_every_second() {
    let (mut a, mut b, mut plain) = (tunnel(None), tunnel(None), Vec::new());
    let mut times = Vec::new();
    for ms in (0..3000).step_by(5) {
        let mut out = Vec::new();
        if a.poll_keep_alive(Tick(ms * MILLISECOND), &mut out) {
            times.push(ms);
            assert_eq!(out[..4], [0, 0, 0x88, 0xB5]);
            assert_eq!((out.len(), b.open(Tick(0), &out, &mut plain)), (12, Opened::Nothing));
        }
    }
    assert_eq!(times, [0, 20, 40, 1040, 2040]);
    assert_eq!((b.stats.keep_alives, b.stats.peer_restores_nulls), (5, Some(true)));
    let mut sealed = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    let mut out = Vec::new();
    assert!(sealed.poll_keep_alive(Tick(0), &mut out));
    assert_eq!(out.len(), 20);
    let mut other = tunnel(Some(key([1, 2, 3, 5], PHRASE, KeyLength::Aes128)));
    other.open(Tick(0), &out, &mut plain);
    other.open(Tick(0), &out, &mut plain);
    answer(&mut other, &[b"another", PHRASE]);
    other.open(Tick(0), &out, &mut plain);
    assert_eq!(other.stats.keep_alives, 0, "it does not show which key is right");
    assert_eq!(other.open(Tick(0), &control(&mut sealed), &mut plain), Opened::Control(4));
    other.open(Tick(0), &out, &mut plain);
    assert_eq!(other.stats.keep_alives, 1);
}

#[test]
fn nothing_panics() {
    let mut b = tunnel(Some(key([9, 9, 9, 9], PHRASE, KeyLength::Aes128)));
    let (mut clear, mut random, mut plain) = (tunnel(None), Random(3), Vec::new());
    for _ in 0..20_000 {
        let len = random.below(60) as usize;
        let mut datagram: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        for (at, byte) in
            [[0, 0x10, 0x20, 0x30][random.below(4) as usize], 8, 0x88, 0xB4 + random.below(4) as u8].iter().enumerate()
        {
            if let Some(place) = datagram.get_mut(at) {
                *place = *byte;
            }
        }
        b.open(Tick(0), &datagram, &mut plain);
        clear.open(Tick(0), &datagram, &mut plain);
        answer(&mut b, &[PHRASE]);
    }
}

#[test]
fn a_passphrase_that_is_replaced_loses_nothing_and_one_that_is_gone_counts_no_more() {
    let mut a = tunnel(Some(key([1, 2, 3, 4], PHRASE, KeyLength::Aes128)));
    let mut b = tunnel(Some(key([9, 9, 9, 9], PHRASE, KeyLength::Aes128)));
    let (mut plain, mut n, mut now) = (Vec::new(), 0, Tick(0));
    let mut arrives = |a: &mut Tunnel, b: &mut Tunnel| {
        (n, now) = (n + 1, now.add(10 * MILLISECOND));
        b.open(now, &media(a, &rtp(n)), &mut plain) != Opened::Nothing
    };
    for _ in 0..3 {
        arrives(&mut a, &mut b);
        answer(&mut b, &[PHRASE]);
    }
    // Another one comes in front of it.
    b.renew_keys(Tick(SECOND));
    assert!(arrives(&mut a, &mut b), "while keys are derived");
    assert_eq!(b.poll_event(), Some(TunnelEvent::NeedSendKey));
    assert_eq!(answer(&mut b, &[b"another", PHRASE]), 1);
    assert!((0..100).all(|_| arrives(&mut a, &mut b)));
    // The sender takes it into use: as with any new key, two packets show the nonce.
    a.renew_keys(Tick(SECOND));
    assert_eq!(a.poll_event(), Some(TunnelEvent::NeedSendKey));
    a.provide(TunnelKeys::Send(key([7, 7, 7, 7], b"another", KeyLength::Aes256)));
    let mut lost = 0;
    for _ in 0..100 {
        lost += u32::from(!arrives(&mut a, &mut b));
        answer(&mut b, &[b"another", PHRASE]);
    }
    assert_eq!(lost, 2);
    // It is replaced once more, without a word to the sender: nothing of it is read any more.
    b.renew_keys(Tick(2 * SECOND));
    answer(&mut b, &[b"third"]);
    assert!(!(0..20).any(|_| arrives(&mut a, &mut b)));
    assert_eq!(b.poll_event(), Some(TunnelEvent::WrongPassphrase));
}
