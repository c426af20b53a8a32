use proptest::prelude::*;

use super::super::handshake::{Ask, Extensions, HsBlock};
use super::super::packet::{HEADER_LEN, Key};
use super::super::vectors::{CONCLUDED, CONCLUSION, INDUCED, INDUCTION, KM_1, PASSPHRASE, bytes};
use super::*;

const SECRET: [u8; 64] = [0x5A; 64];
const CALLER: SocketId = SocketId(0x05f5_98cc);
const LOCAL: SocketId = SocketId(0x2f88_e7ca);

/// A listener on a clock that starts at its own start.
struct Port {
    listener: Listener,
    start: Instant,
    from: SocketAddr,
}

impl Port {
    fn new() -> Self {
        let start = Instant::now();
        Self { listener: Listener::new(&SECRET, start), start, from: "127.0.0.1:40000".parse().unwrap() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn take(&self, seconds: u64, from: SocketAddr, datagram: &[u8]) -> Answer {
        self.listener.handle_datagram(self.at(seconds), self.at(seconds), from, datagram)
    }

    fn cookie(&self, seconds: u64, from: SocketAddr) -> u32 {
        let Answer::Send(answer) = self.take(seconds, from, &bytes(INDUCTION)) else { panic!("no answer") };
        handshake(&answer).cookie
    }

    /// libsrt's conclusion with our cookie.
    fn conclusion(&self) -> Vec<u8> {
        let mut packet = bytes(CONCLUSION);
        packet[44..48].copy_from_slice(&self.cookie(0, self.from).to_be_bytes());
        packet
    }

    /// A conclusion of ours, changed by `change`.
    fn conclude<'k>(&self, change: impl FnOnce(&mut Handshake<'static>, &mut Extensions<'k>)) -> Answer {
        let hs = HsBlock { version: 0x0001_0501, flags: HsFlags(0xBF), receive_latency: 120, send_latency: 0 };
        let mut extensions = Extensions { hs: Some(Ask::Request(hs)), ..Extensions::default() };
        let packet = bytes(CONCLUSION);
        let mut handshake = handshake(&packet).without_blocks();
        handshake.cookie = self.cookie(0, self.from);
        change(&mut handshake, &mut extensions);
        let (bits, blocks) = extensions.write();
        if handshake.version == VERSION_5 {
            handshake.extensions = bits;
        }
        let handshake = Handshake { blocks: &blocks, ..handshake };
        self.take(1, self.from, &handshake.write(Timestamp(1_000_000), SocketId::NONE))
    }

    fn call(&self, change: impl FnOnce(&mut HsBlock)) -> Box<Conclusion> {
        match self.conclude(|_, extensions| {
            if let Some(Ask::Request(hs)) = &mut extensions.hs {
                change(hs);
            }
        }) {
            Answer::Conclude(conclusion) => conclusion,
            other => panic!("{other:?}"),
        }
    }

    fn refused<'k>(&self, change: impl FnOnce(&mut Handshake<'static>, &mut Extensions<'k>)) -> Reject {
        match self.conclude(change) {
            Answer::Refuse(reject, packet) => {
                let (answer, _, destination) = Handshake::of_datagram(&packet).unwrap();
                assert_eq!((answer.kind, destination), (Kind::Reject(reject), CALLER));
                assert_eq!((packet.len(), answer.extensions), (64, 0), "no extensions");
                reject
            }
            other => panic!("{other:?}"),
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            local: LOCAL,
            start: self.at(1),
            mss: 1500,
            flow_window: 8192,
            receive_latency: Duration::from_millis(120),
            send_latency: Duration::from_millis(0),
        }
    }
}

fn handshake(packet: &[u8]) -> Handshake<'_> {
    Handshake::of_datagram(packet).unwrap().0
}

fn ignored(answer: Answer) -> Ignored {
    match answer {
        Answer::Ignore(ignored) => ignored,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_induction_is_answered_as_libsrt_does_with_a_cookie_of_our_own() {
    let port = Port::new();
    let Answer::Send(mut answer) = port.take(0, port.from, &bytes(INDUCTION)) else { panic!("no answer") };
    let mut golden = bytes(INDUCED);
    assert_ne!(answer[44..48], golden[44..48]);
    for packet in [&mut answer, &mut golden] {
        packet[8..12].fill(0);
        packet[44..48].fill(0);
    }
    assert_eq!(answer, golden);
}

#[test]
fn a_listener_may_advertise_a_key_length() {
    let mut port = Port::new();
    port.listener.set_key_length(Some(KeyLength::Aes256));
    let Answer::Send(answer) = port.take(0, port.from, &bytes(INDUCTION)) else { panic!("no answer") };
    assert_eq!(answer[20..24].to_vec(), bytes("0004 4a17"));
}

#[test]
fn the_answer_to_an_induction_is_no_longer_than_it() {
    let port = Port::new();
    let long = [bytes(INDUCTION), vec![0; 1000]].concat();
    let Answer::Send(answer) = port.take(0, port.from, &long) else { panic!("no answer") };
    assert_eq!(answer.len(), 64);
    assert_eq!(ignored(port.take(0, port.from, &bytes(INDUCTION)[..63])), Ignored::NoHandshake);
}

#[test]
fn a_cookie_holds_for_its_minute_and_the_next_one() {
    let port = Port::new();
    let mut packet = bytes(CONCLUSION);
    for (given, accepted, late) in [(0, 119, 120), (59, 119, 120), (60, 179, 180), (600, 719, 720)] {
        packet[44..48].copy_from_slice(&port.cookie(given, port.from).to_be_bytes());
        assert!(matches!(port.take(given, port.from, &packet), Answer::Conclude(_)));
        assert!(matches!(port.take(accepted, port.from, &packet), Answer::Conclude(_)), "{accepted}");
        assert_eq!(ignored(port.take(late, port.from, &packet)), Ignored::Cookie, "{late}");
    }
}

#[test]
fn a_cookie_is_of_one_address_and_one_port() {
    let port = Port::new();
    let packet = port.conclusion();
    for other in ["127.0.0.1:40001", "127.0.0.2:40000", "[::1]:40000"] {
        assert_eq!(ignored(port.take(0, other.parse().unwrap(), &packet)), Ignored::Cookie);
    }
    let mapped = "[::ffff:127.0.0.1]:40000".parse().unwrap();
    assert!(matches!(port.take(0, mapped, &packet), Answer::Conclude(_)), "the same on a socket of both families");
}

#[test]
fn a_cookie_of_another_listener_is_of_no_use() {
    let port = Port::new();
    let packet = port.conclusion();
    let mut secret = SECRET;
    secret[63] ^= 1;
    let other = Listener::new(&secret, port.start);
    let answer = other.handle_datagram(port.at(0), port.at(0), port.from, &packet);
    assert_eq!(ignored(answer), Ignored::Cookie);
}

#[test]
fn a_conclusion_of_libsrt_is_read() {
    let port = Port::new();
    let Answer::Conclude(call) = port.take(0, port.from, &port.conclusion()) else { panic!("no call") };
    assert_eq!(call.id(), CallId { peer: port.from, socket: CALLER, isn: SeqNo::new(0x5f5b_f8a5) });
    assert_eq!(call.stream_id(), Some("ABCDEFG"));
    assert_eq!((call.version(), call.flags()), (0x0001_0501, HsFlags(0xBF)));
    assert_eq!((call.mss(), call.flow_window()), (1500, 8192));
    assert_eq!((call.receive_latency(), call.send_latency()), (Duration::from_millis(120), Duration::ZERO));
    assert_eq!(call.key_material().unwrap().key_length, KeyLength::Aes128);
}

#[test]
fn a_call_is_accepted_as_libsrt_does() {
    let port = Port::new();
    let Answer::Conclude(call) = port.take(2, port.from, &port.conclusion()) else { panic!("no call") };
    let kek = call.derive(PASSPHRASE).unwrap();
    let accepted = call.accept_encrypted(&port.terms(), Some(&kek)).unwrap();

    let mut golden = bytes(CONCLUDED);
    golden[8..12].fill(0); // stamped when it is sent
    golden[21] = 2; // we tell the key length here, too
    golden[44..48].copy_from_slice(&port.cookie(0, port.from).to_be_bytes());
    golden[64 + 4..64 + 12].copy_from_slice(&bytes("00010503 0000003f"));
    assert_eq!(accepted.reply, Some(golden));

    assert_eq!((accepted.local, accepted.remote), (LOCAL, CALLER));
    assert_eq!((accepted.send_isn, accepted.receive_isn), (SeqNo::new(0x5f5b_f8a5), SeqNo::new(0x5f5b_f8a5)));
    assert_eq!(accepted.start, port.at(1));
    assert_eq!(accepted.peer_base, port.at(2) - Duration::from_micros(0x4be));
    assert_eq!(accepted.stream_id.as_deref(), Some("ABCDEFG"));
    assert!(accepted.kek.is_some() && !accepted.initiator);
    let mut payload = bytes("106570f5eed03bb938abd11b83e0a2b5");
    assert!(accepted.keys.unwrap().apply(Key::Even, SeqNo::new(0x5f5b_f8a5), &mut payload));
    assert_eq!(payload, bytes("edc1933f0b6714a7c3aaaa1bba60dbff"), "libsrt's first packet");
}

#[test]
fn of_several_passphrases_the_right_one_unlocks() {
    let port = Port::new();
    let Answer::Conclude(call) = port.take(0, port.from, &port.conclusion()) else { panic!("no call") };
    let keks = [&b"the newest one"[..], PASSPHRASE, b"the oldest one"].map(|secret| call.derive(secret).unwrap());
    let unlocks = keks.each_ref().map(|kek| call.unlocks(kek));
    assert_eq!(unlocks, [false, true, false]);
    assert!(call.accept_encrypted(&port.terms(), Some(&keks[1])).is_ok());
    assert_eq!(call.accept_encrypted(&port.terms(), Some(&keks[2])).unwrap_err(), Reject::BadSecret);
    assert_eq!(call.accept_encrypted(&port.terms(), None).unwrap_err(), Reject::BadSecret);
}

#[test]
fn a_passphrase_on_one_end_only_is_refused() {
    let port = Port::new();
    let Answer::Conclude(encrypted) = port.take(0, port.from, &port.conclusion()) else { panic!("no call") };
    assert_eq!(encrypted.accept(&port.terms()).unwrap_err(), Reject::Unsecure);
    let plain = port.call(|_| {});
    assert!(plain.key_material().is_none() && plain.derive(PASSPHRASE).is_none());
    let kek = encrypted.derive(PASSPHRASE).unwrap();
    assert!(!plain.unlocks(&kek));
    assert_eq!(plain.accept_encrypted(&port.terms(), Some(&kek)).unwrap_err(), Reject::Unsecure);
    assert_eq!(plain.accept_encrypted(&port.terms(), None).unwrap_err(), Reject::Unsecure);
    assert!(plain.accept(&port.terms()).unwrap().keys.is_none());
}

#[test]
fn a_refusal_of_the_host_goes_to_the_caller_in_its_number() {
    let port = Port::new();
    let packet = port.call(|_| {}).reject(port.at(3), Reject::FORBIDDEN);
    let (answer, timestamp, destination) = Handshake::of_datagram(&packet).unwrap();
    assert_eq!((destination, timestamp), (CALLER, Timestamp(3_000_000)));
    assert_eq!(answer.kind, Kind::Reject(Reject::FORBIDDEN));
    assert_eq!(packet[36..40], 2403_u32.to_be_bytes());
    assert_eq!(answer.isn, SeqNo::new(0x5f5b_f8a5));
}

#[test]
fn the_greater_latency_of_both_ends_counts_in_each_direction() {
    let port = Port::new();
    let cases = [
        // caller's receive, send; ours; in force here: receive, send
        ((120, 0), (120, 0), (120, 120)),
        ((20, 2000), (120, 120), (2000, 120)),
        ((800, 0), (50, 300), (50, 800)),
        ((65_535, 65_535), (20, 20), (65_535, 65_535)),
    ];
    for (caller, ours, in_force) in cases {
        let call = port.call(|hs| (hs.receive_latency, hs.send_latency) = caller);
        let ms = Duration::from_millis;
        let terms = Terms { receive_latency: ms(ours.0), send_latency: ms(ours.1), ..port.terms() };
        let accepted = call.accept(&terms).unwrap();
        assert_eq!((accepted.receive_latency, accepted.send_latency), (ms(in_force.0), ms(in_force.1)));
        let reply = accepted.reply.unwrap();
        let Some(Ask::Response(hs)) = handshake(&reply).read_extensions().unwrap().hs else { panic!("no HSRSP") };
        assert_eq!((u64::from(hs.receive_latency), u64::from(hs.send_latency)), in_force);
    }
}

#[test]
fn a_caller_that_does_not_deliver_by_time_stamps_gets_no_latency() {
    let port = Port::new();
    let call = port.call(|hs| {
        hs.flags = hs.flags.without(HsFlags::TSBPD_SEND).without(HsFlags::TSBPD_RECEIVE);
        hs.send_latency = 5000;
    });
    let accepted = call.accept(&port.terms()).unwrap();
    assert_eq!((accepted.receive_latency, accepted.send_latency), (Duration::from_millis(120), Duration::ZERO));
    let reply = accepted.reply.unwrap();
    let Some(Ask::Response(hs)) = handshake(&reply).read_extensions().unwrap().hs else { panic!("no HSRSP") };
    assert_eq!((hs.flags, hs.send_latency), (HsFlags(0x3E), 0));
}

#[test]
fn the_smaller_mss_counts() {
    let port = Port::new();
    for (theirs, ours, both) in [(1500, 1500, 1500), (1360, 1500, 1360), (1500, 1400, 1400), (9000, 1500, 1500)] {
        let Answer::Conclude(call) = port.conclude(|handshake, _| handshake.mss = theirs) else { panic!("no call") };
        let accepted = call.accept(&Terms { mss: ours, ..port.terms() }).unwrap();
        assert_eq!(accepted.mss, both);
        assert_eq!(handshake(&accepted.reply.unwrap()).mss, u32::from(both));
    }
}

#[test]
fn handshakes_of_other_versions_are_refused() {
    let port = Port::new();
    for version in [0, 4, 6] {
        assert_eq!(port.refused(|handshake, _| handshake.version = version), Reject::Version);
    }
}

#[test]
fn what_a_call_must_not_be_is_refused_by_its_number() {
    let port = Port::new();
    let hs = |change: fn(&mut HsBlock)| {
        port.refused(|_, extensions| match &mut extensions.hs {
            Some(Ask::Request(hs)) => change(hs),
            _ => unreachable!(),
        })
    };
    assert_eq!(hs(|hs| hs.version = 0x0001_02FF), Reject::Rogue, "before 1.3.0");
    assert_eq!(hs(|hs| hs.flags = HsFlags(0xBF | 0x40)), Reject::MessageApi);
    assert_eq!(port.refused(|_, extensions| extensions.hs = None), Reject::Rogue);
    assert_eq!(port.refused(|handshake, _| handshake.mss = 32), Reject::Rogue);
    assert_eq!(port.refused(|_, e| e.congestion = Some("file".to_owned())), Reject::Congestion);
    assert_eq!(port.refused(|_, e| e.filter = Some("fec,cols:10".to_owned())), Reject::Filter);
    assert_eq!(port.refused(|_, e| e.group = true), Reject::Group);
    assert_eq!(port.refused(|_, e| e.km = Some(Ask::Request(&[0; 56]))), Reject::Rogue);
    let mut gcm = bytes(KM_1);
    gcm[8..10].copy_from_slice(&[4, 1]);
    assert_eq!(port.refused(|_, e| e.km = Some(Ask::Request(&gcm))), Reject::Crypto);
    assert!(matches!(port.conclude(|_, e| e.congestion = Some("live".to_owned())), Answer::Conclude(_)));
}

#[test]
fn a_refusal_needs_a_cookie_too() {
    let port = Port::new();
    let answer = port.conclude(|handshake, _| {
        handshake.version = 4;
        handshake.cookie ^= 1;
    });
    assert_eq!(ignored(answer), Ignored::Cookie, "or whoever forges addresses could make us answer to them");
}

#[test]
fn what_is_no_call_is_ignored() {
    let port = Port::new();
    let packet = port.conclusion();
    for kind in [0, 0xFFFF_FFFE, 7, 1010_u32] {
        let mut other = packet.clone();
        other[36..40].copy_from_slice(&kind.to_be_bytes());
        assert_eq!(ignored(port.take(0, port.from, &other)), Ignored::NoCall);
    }
    let mut addressed = packet.clone();
    addressed[15] = 1;
    assert_eq!(ignored(port.take(0, port.from, &addressed)), Ignored::NoHandshake);
    let mut data = packet.clone();
    data[0] = 0;
    assert_eq!(ignored(port.take(0, port.from, &data)), Ignored::NoHandshake);
    assert_eq!(ignored(port.take(0, port.from, &[])), Ignored::NoHandshake);
}

proptest! {
    #[test]
    fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let port = Port::new();
        port.take(0, port.from, &data);
    }

    #[test]
    fn no_damaged_conclusion_panics(at in HEADER_LEN + 48..152, byte: u8, cut in HEADER_LEN + 48..153) {
        let port = Port::new();
        let mut packet = port.conclusion();
        packet[at] = byte;
        packet.truncate(cut);
        if let Answer::Conclude(call) = port.take(0, port.from, &packet) {
            let _ = call.accept(&port.terms());
        }
    }
}
