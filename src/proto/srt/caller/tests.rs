use proptest::prelude::*;

use super::super::crypto::{Kek, MAX_KEY, StreamKeys, StreamSecret};
use super::super::handshake::{Ask, Extensions, FIXED_LEN, HsBlock};
use super::super::km::{KeyLength, KeyMaterial, KmState, Salt};
use super::super::listener::{Answer, Listener};
use super::super::negotiated::{HsFlags, Negotiated};
use super::super::packet::{HEADER_LEN, Key, Packet};
use super::super::terms::CONNECT_TIMEOUT;
use super::super::vectors::{CONCLUSION, INDUCED, INDUCTION, KM_1, PASSPHRASE, bytes};
use super::*;

const CALLER: SocketId = SocketId(0x05f5_98cc);
const LISTENER: SocketId = SocketId(0x2f88_e7ca);
const ISN: SeqNo = SeqNo::new(0x5f5b_f8a5);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A caller on a clock of its own.
struct Call {
    caller: Caller,
    start: Instant,
    now: Instant,
}

fn terms(local: SocketId, start: Instant) -> Terms {
    Terms { local, start, mss: 1500, flow_window: 8192, receive_latency: ms(120), send_latency: ms(0) }
}

fn config(start: Instant) -> CallerConfig {
    CallerConfig {
        terms: terms(CALLER, start),
        isn: ISN,
        peer: [127, 0, 0, 1].into(),
        stream_id: Some("ABCDEFG".to_owned()),
        encryption: None,
        timeout: CONNECT_TIMEOUT,
    }
}

fn encryption(passphrase: &[u8], length: KeyLength) -> Encryption {
    let salt = Salt([0x42; 16]);
    let keys = StreamKeys::new(salt, Key::Even, StreamSecret::new(length, &[0x17; MAX_KEY]));
    Encryption { kek: Kek::derive(passphrase, salt, length), keys }
}

impl Call {
    fn new(change: impl FnOnce(&mut CallerConfig)) -> Self {
        let start = Instant::now();
        let mut config = config(start);
        change(&mut config);
        Self { caller: Caller::new(start, config), start, now: start }
    }

    /// A call that got a cookie, and whose conclusion was sent.
    fn induced(change: impl FnOnce(&mut CallerConfig)) -> Self {
        let mut call = Self::new(change);
        assert!(call.sent().is_some());
        call.take(&bytes(INDUCED));
        assert!(call.sent().is_some());
        call
    }

    fn sent(&mut self) -> Option<Vec<u8>> {
        self.caller.poll_transmit(self.now)
    }

    fn take(&mut self, packet: &[u8]) {
        self.caller.handle_datagram(self.now, self.now, packet);
    }

    fn failure(&mut self) -> Failure {
        match self.caller.poll_event() {
            Some(HandshakeEvent::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn connected(&mut self) -> Box<Negotiated> {
        match self.caller.poll_event() {
            Some(HandshakeEvent::Connected(negotiated)) => negotiated,
            other => panic!("{other:?}"),
        }
    }

    /// Let time pass until something is sent, or nothing more is to come.
    fn wait(&mut self) -> Option<Vec<u8>> {
        while let Some(at) = self.caller.poll_timeout() {
            self.now = at;
            self.caller.handle_timeout(at);
            let sent = self.sent();
            if sent.is_some() {
                return sent;
            }
        }
        None
    }

    /// An answer to the conclusion, changed by `change`.
    fn answer<'k>(&self, change: impl FnOnce(&mut Handshake<'static>, &mut Extensions<'k>)) -> Vec<u8> {
        let hs = HsBlock { version: 0x0001_0501, flags: HsFlags(0xBF), receive_latency: 0, send_latency: 120 };
        let mut extensions = Extensions { hs: Some(Ask::Response(hs)), ..Extensions::default() };
        let mut handshake = Handshake {
            socket: LISTENER,
            cookie: 0xcfc7_cf27,
            ..terms(LISTENER, self.start).handshake(Kind::Conclusion, ISN, [127, 0, 0, 1].into())
        };
        change(&mut handshake, &mut extensions);
        let (bits, blocks) = extensions.write();
        Handshake { extensions: bits, blocks: &blocks, ..handshake }.write(Timestamp(5000), CALLER)
    }

    fn refuses<'k>(mut self, change: impl FnOnce(&mut Handshake<'static>, &mut Extensions<'k>)) -> Reject {
        self.now += ms(7);
        self.take(&self.answer(change));
        let shutdown = self.sent().expect("the listener believes that we are connected");
        let expected =
            Packet::Control { timestamp: Timestamp(7000), destination: LISTENER, control: Control::Shutdown };
        assert_eq!(Packet::parse(&shutdown), Ok(expected));
        assert_eq!(self.sent(), None);
        match self.failure() {
            Failure::Refused(reject) => reject,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_packets_of_a_call_are_those_of_libsrt() {
    let mut call = Call::new(|config| {
        let message = bytes(KM_1);
        let km = KeyMaterial::parse(&message).unwrap();
        let kek = Kek::derive(PASSPHRASE, km.salt, km.key_length);
        config.encryption = Some(Encryption { keys: kek.unwrap(&km).unwrap(), kek });
    });
    call.now += Duration::from_micros(0x1b7);
    assert_eq!(call.sent(), Some(bytes(INDUCTION)));
    assert_eq!(call.sent(), None);
    call.now += Duration::from_micros(0x4be - 0x1b7);
    call.take(&bytes(INDUCED));
    let mut golden = bytes(CONCLUSION);
    golden[21] = 2; // we tell the key length here, too
    golden[64 + 4..64 + 12].copy_from_slice(&bytes("00010503 0000003f"));
    assert_eq!(call.sent(), Some(golden));
}

#[test]
fn each_packet_is_repeated_every_250_ms_with_a_new_time_stamp() {
    let mut call = Call::new(|_| {});
    let first = call.sent().unwrap();
    let again = call.wait().unwrap();
    assert_eq!(call.now, call.start + ms(250));
    assert_eq!(again[8..12], 250_000_u32.to_be_bytes());
    assert_eq!((&again[..8], &again[12..]), (&first[..8], &first[12..]));
    call.take(&bytes(INDUCED));
    let conclusion = call.sent().unwrap();
    let again = call.wait().unwrap();
    assert_eq!(call.now, call.start + ms(500));
    assert_eq!(conclusion[12..], again[12..]);
    assert_eq!(again[8..12], 500_000_u32.to_be_bytes());
}

#[test]
fn without_an_answer_a_call_ends_after_three_seconds() {
    let mut call = Call::new(|_| {});
    let mut packets = 1;
    assert!(call.sent().is_some());
    while call.wait().is_some() {
        packets += 1;
    }
    assert_eq!((packets, call.now), (12, call.start + CONNECT_TIMEOUT));
    assert_eq!(call.failure(), Failure::NoAnswer);
    assert_eq!((call.caller.poll_timeout(), call.sent()), (None, None));

    let mut call = Call::induced(|config| config.timeout = ms(600));
    while call.wait().is_some() {}
    assert_eq!(call.now, call.start + ms(600));
    assert_eq!(call.failure(), Failure::NotConcluded);
    call.caller.handle_timeout(call.now + ms(1000));
    assert!(call.caller.poll_event().is_none(), "it fails once");
}

#[test]
fn a_timer_served_late_is_made_up_for_once() {
    let mut call = Call::new(|_| {});
    assert!(call.sent().is_some());
    call.now += ms(1999);
    call.caller.handle_timeout(call.now);
    assert!(call.sent().is_some() && call.sent().is_none());
    assert_eq!(call.caller.poll_timeout(), Some(call.start + ms(2249)));
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let mut early = Call::new(|_| {});
    let mut late = Call::induced(|_| {});
    for (call, wire, reject) in [(&mut early, 2403_u32, Reject::FORBIDDEN), (&mut late, 1010, Reject::BadSecret)] {
        let mut packet = bytes(INDUCED);
        packet[36..40].copy_from_slice(&wire.to_be_bytes());
        call.take(&packet);
        assert_eq!(call.failure(), Failure::Rejected(reject));
        assert_eq!(call.caller.poll_timeout(), None);
    }
    assert_eq!(Failure::Rejected(Reject::BadSecret).to_string(), "rejected by the peer: the passphrase is wrong");
}

#[test]
fn a_listener_of_another_kind_is_refused() {
    let with = |at: usize, byte: u8| {
        let mut call = Call::new(|_| {});
        let mut packet = bytes(INDUCED);
        packet[at] = byte;
        call.take(&packet);
        call.failure()
    };
    assert_eq!(with(19, 4), Failure::Refused(Reject::Version), "it has no extensions");
    assert_eq!(with(23, 0x18), Failure::Refused(Reject::Rogue), "without the magic number");
}

#[test]
fn what_is_not_the_answer_waited_for_is_let_pass() {
    let mut call = Call::new(|_| {});
    assert!(call.sent().is_some());
    let mut elsewhere = bytes(INDUCED);
    elsewhere[15] ^= 1;
    call.take(&elsewhere);
    call.take(&call.answer(|_, _| {}));
    call.take(&bytes(INDUCTION));
    call.take(&bytes("5f5bf8a5 c8000001 0002d306 05f598cc 106570f5"));
    assert!(call.sent().is_none() && call.caller.poll_event().is_none());
    call.take(&bytes(INDUCED));
    assert!(call.sent().is_some());
    call.take(&bytes(INDUCED));
    call.take(&call.answer(|handshake, _| handshake.isn = ISN.next()));
    assert!(call.sent().is_none() && call.caller.poll_event().is_none());
    call.take(&call.answer(|_, _| {}));
    call.connected();
    call.take(&call.answer(|_, _| {}));
    assert!(call.caller.poll_event().is_none(), "it is connected once");
}

#[test]
fn a_call_that_is_taken_ends_in_what_was_agreed() {
    let mut call = Call::induced(|_| {});
    call.now += ms(30);
    let answer = call.answer(|handshake, extensions| {
        (handshake.mss, handshake.flow_window) = (1360, 25_600);
        extensions.hs = Some(Ask::Response(HsBlock {
            version: 0x0001_0507,
            flags: HsFlags(0xBF),
            receive_latency: 800,
            send_latency: 350,
        }));
    });
    call.caller.handle_datagram(call.now + ms(2), call.now, &answer);
    let negotiated = call.connected();
    assert_eq!((negotiated.local, negotiated.remote), (CALLER, LISTENER));
    assert_eq!((negotiated.send_isn, negotiated.receive_isn), (ISN, ISN));
    assert_eq!((negotiated.mss, negotiated.flow_window), (1360, 25_600));
    assert_eq!((negotiated.receive_latency, negotiated.send_latency), (ms(350), ms(800)), "the other way round");
    assert_eq!((negotiated.peer_version, negotiated.peer_flags), (0x0001_0507, HsFlags(0xBF)));
    assert_eq!(negotiated.start, call.start);
    assert_eq!(negotiated.peer_base, call.now - ms(5), "by the kernel's time of arrival");
    assert_eq!(negotiated.stream_id.as_deref(), Some("ABCDEFG"));
    assert!(negotiated.keys.is_none() && negotiated.initiator && negotiated.reply.is_none());
}

#[test]
fn a_listener_cannot_make_us_receive_sooner_than_we_want() {
    let mut call = Call::induced(|config| config.terms.receive_latency = ms(400));
    call.take(&call.answer(|_, _| {}));
    assert_eq!(call.connected().receive_latency, ms(400));
}

#[test]
fn an_answer_that_does_not_fit_the_call_is_refused_with_a_shutdown() {
    let plain = || Call::induced(|_| {});
    assert_eq!(plain().refuses(|_, extensions| extensions.hs = None), Reject::Rogue);
    assert_eq!(plain().refuses(|handshake, _| handshake.version = 4), Reject::Version);
    assert_eq!(plain().refuses(|handshake, _| handshake.mss = 0), Reject::Rogue);
    assert_eq!(plain().refuses(|_, extensions| extensions.filter = Some("fec".to_owned())), Reject::Filter);
    assert_eq!(plain().refuses(|_, e| e.congestion = Some("file".to_owned())), Reject::Congestion);
    let hs = HsBlock { version: 0x0001_0200, flags: HsFlags(0xBF), receive_latency: 0, send_latency: 0 };
    assert_eq!(plain().refuses(|_, extensions| extensions.hs = Some(Ask::Response(hs))), Reject::Rogue);
}

#[test]
fn what_the_listener_says_of_our_keys_decides() {
    let secured = || Call::induced(|config| config.encryption = Some(encryption(PASSPHRASE, KeyLength::Aes128)));
    let says = |state: KmState| {
        let state = state.write();
        secured().refuses(|_, extensions| extensions.km = Some(Ask::Response(&state)))
    };
    assert_eq!(says(KmState::BadSecret), Reject::BadSecret);
    assert_eq!(says(KmState::NoSecret), Reject::Unsecure);
    assert_eq!(says(KmState::Unsecured), Reject::Unsecure);
    assert_eq!(says(KmState::BadCryptoMode), Reject::Crypto);
    assert_eq!(secured().refuses(|_, _| {}), Reject::Unsecure, "it says nothing");
    let other = bytes(KM_1);
    assert_eq!(secured().refuses(|_, e| e.km = Some(Ask::Response(&other))), Reject::BadSecret, "not our keys");

    let mut call = secured();
    let echo = encryption(PASSPHRASE, KeyLength::Aes128).message().unwrap();
    call.take(&call.answer(|_, extensions| extensions.km = Some(Ask::Response(&echo))));
    let negotiated = call.connected();
    assert!(negotiated.keys.is_some_and(|keys| keys.has(Key::Even)) && negotiated.kek.is_some());

    let wants = KmState::Unsecured.write();
    let plain = Call::induced(|_| {});
    assert_eq!(plain.refuses(|_, e| e.km = Some(Ask::Response(&wants))), Reject::Unsecure, "the listener has one");
}

#[test]
fn the_one_sequence_number_that_libsrt_refuses_is_not_begun_with() {
    let mut call = Call::new(|config| config.isn = SeqNo::MAX);
    let induction = call.sent().unwrap();
    let (handshake, ..) = Handshake::of_datagram(&induction).unwrap();
    assert_eq!(handshake.isn, SeqNo::new(0));
}

/// A call to a listener of ours; the packets at `lost` do not arrive.
fn call_ours(
    change: impl FnOnce(&mut CallerConfig),
    passphrase: Option<&[u8]>,
    lost: u32,
) -> (Call, Option<Negotiated>) {
    let mut call = Call::new(change);
    let listener = Listener::new(&[1; 64], call.start);
    let from = "127.0.0.1:40000".parse().unwrap();
    let mut accepted: Option<Negotiated> = None;
    let mut count = 0;
    let mut arrives = || {
        count += 1;
        lost & (1 << (count - 1)) == 0
    };
    let mut next = call.sent();
    while let Some(packet) = next {
        call.now += ms(10);
        let mut answer = None;
        if arrives() {
            answer = match listener.handle_datagram(call.now, call.now, from, &packet) {
                Answer::Send(answer) | Answer::Refuse(_, answer) => Some(answer),
                Answer::Ignore(_) => None,
                Answer::Conclude(conclusion) => {
                    if accepted.is_none() {
                        let terms = terms(LISTENER, call.start);
                        let taken = match passphrase {
                            Some(secret) => conclusion.accept_encrypted(&terms, conclusion.derive(secret).as_ref()),
                            None => conclusion.accept(&terms),
                        };
                        match taken {
                            Ok(negotiated) => accepted = Some(negotiated),
                            Err(reject) => answer = Some(conclusion.reject(call.now, reject)),
                        }
                    }
                    accepted.as_ref().and_then(|accepted| accepted.reply.clone()).or(answer)
                }
            };
        }
        call.now += ms(10);
        if let Some(mut answer) = answer
            && arrives()
        {
            stamp(&mut answer, Timestamp::after(call.now - ms(10) - call.start));
            call.take(&answer);
        }
        next = call.sent().or_else(|| call.wait());
    }
    (call, accepted)
}

#[test]
fn our_caller_and_our_listener_agree_on_everything() {
    for length in [None, Some(KeyLength::Aes128), Some(KeyLength::Aes192), Some(KeyLength::Aes256)] {
        let (mut call, accepted) = call_ours(
            |config| {
                config.terms.receive_latency = ms(250);
                config.terms.send_latency = ms(90);
                config.encryption = length.map(|length| encryption(PASSPHRASE, length));
            },
            length.map(|_| PASSPHRASE),
            0,
        );
        let (ours, theirs) = (call.connected(), accepted.unwrap());
        assert_eq!((ours.local, ours.remote), (theirs.remote, theirs.local));
        assert_eq!((ours.send_isn, ours.mss, ours.flow_window), (theirs.receive_isn, theirs.mss, theirs.flow_window));
        assert_eq!((ours.receive_latency, ours.send_latency), (ms(250), ms(120)));
        assert_eq!((theirs.receive_latency, theirs.send_latency), (ms(120), ms(250)));
        assert_eq!(ours.peer_base, call.start + ms(10), "half a round trip is in it");
        assert_eq!(theirs.peer_base, call.start + ms(10));
        assert_eq!(ours.keys.as_ref().map(StreamKeys::key_length), length);
        if let (Some(ours), Some(theirs)) = (ours.keys, theirs.keys) {
            let mut payload = [0x47; 188];
            assert!(ours.apply(Key::Even, ISN, &mut payload) && theirs.apply(Key::Even, ISN, &mut payload));
            assert_eq!(payload, [0x47; 188]);
        }
    }
}

#[test]
fn passphrases_that_do_not_match_end_a_call_on_both_ends() {
    let other = &b"another one"[..];
    let cases = [
        (Some(PASSPHRASE), Some(other), Reject::BadSecret),
        (Some(PASSPHRASE), None, Reject::Unsecure),
        (None, Some(PASSPHRASE), Reject::Unsecure),
    ];
    for (caller, listener, reject) in cases {
        let encryption = caller.map(|secret| encryption(secret, KeyLength::Aes128));
        let (mut call, accepted) = call_ours(|config| config.encryption = encryption, listener, 0);
        assert!(accepted.is_none());
        assert_eq!(call.failure(), Failure::Rejected(reject));
    }
}

proptest! {
    #[test]
    fn a_call_gets_through_whatever_is_lost_as_long_as_something_arrives(lost in 0_u32..256) {
        let (mut call, accepted) = call_ours(|config| config.encryption = Some(encryption(PASSPHRASE, KeyLength::Aes128)), Some(PASSPHRASE), lost);
        let (ours, theirs) = (call.connected(), accepted.unwrap());
        prop_assert_eq!((ours.local, ours.remote), (theirs.remote, theirs.local));
        prop_assert_eq!(ours.peer_base, call.start + ms(10));
        prop_assert_eq!(theirs.peer_base, call.start + ms(10));
    }

    #[test]
    fn nothing_panics(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..4)) {
        let mut call = Call::induced(|_| {});
        packets.iter().for_each(|packet| call.take(packet));
    }

    #[test]
    fn no_damaged_answer_panics(at in HEADER_LEN + FIXED_LEN..HEADER_LEN + FIXED_LEN + 20, byte: u8, cut in 60_usize..90) {
        let mut call = Call::induced(|_| {});
        let state = KmState::BadSecret.write();
        let mut packet = call.answer(|_, extensions| extensions.km = Some(Ask::Response(&state)));
        packet[at] = byte;
        packet.truncate(cut);
        call.take(&packet);
    }
}
