use proptest::prelude::*;

use super::super::crypto::{MAX_KEY, StreamKeys, StreamSecret};
use super::super::km::{KeyLength, Salt};
use super::super::packet::{DataHeader, Key};
use super::super::seq::MsgNo;
use super::super::terms::RENDEZVOUS_TIMEOUT;
use super::super::vectors::PASSPHRASE;
use super::*;

const A: SocketId = SocketId(0x0010_000A);
const B: SocketId = SocketId(0x0010_000B);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn encryption(passphrase: &[u8], salt: u8) -> Encryption {
    let salt = Salt([salt; 16]);
    let secret = StreamSecret::new(KeyLength::Aes128, &[0x17; MAX_KEY]);
    Encryption { kek: Kek::derive(passphrase, salt, KeyLength::Aes128), keys: StreamKeys::new(salt, Key::Even, secret) }
}

/// One end, with the passphrases its host may derive keys from.
struct End {
    rendezvous: Rendezvous,
    start: Instant,
    passphrases: Vec<&'static [u8]>,
    outcome: Option<Result<Box<Negotiated>, Failure>>,
}

impl End {
    fn new(now: Instant, local: SocketId, cookie: u32, passphrases: &[&'static [u8]]) -> Self {
        let terms = Terms {
            local,
            start: now,
            mss: 1500,
            flow_window: 8192,
            receive_latency: ms(if local == A { 200 } else { 120 }),
            send_latency: ms(0),
        };
        let config = RendezvousConfig {
            terms,
            isn: SeqNo::new(local.0 * 1000),
            peer: [127, 0, 0, 1].into(),
            cookie,
            encryption: passphrases.first().map(|secret| encryption(secret, (local.0 & 0xFF) as u8)),
            timeout: RENDEZVOUS_TIMEOUT,
        };
        let rendezvous = Rendezvous::new(now, config);
        Self { rendezvous, start: now, passphrases: passphrases.to_vec(), outcome: None }
    }

    fn send(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sent: Vec<_> = std::iter::from_fn(|| self.rendezvous.poll_transmit(now)).collect();
        while let Some(event) = self.rendezvous.poll_event() {
            match event {
                HandshakeEvent::NeedKek { salt, key_length } => {
                    let derive = |secret: &&[u8]| Kek::derive(secret, salt, key_length);
                    let keks: Vec<_> = self.passphrases.iter().map(derive).collect();
                    self.rendezvous.provide_kek(now, &keks);
                }
                HandshakeEvent::Connected(negotiated) => {
                    // A connection sends this first.
                    sent.extend(negotiated.reply.clone());
                    self.outcome = Some(Ok(negotiated));
                }
                HandshakeEvent::Failed(failure) => self.outcome = Some(Err(failure)),
            }
        }
        sent.extend(std::iter::from_fn(|| self.rendezvous.poll_transmit(now)));
        sent
    }

    /// A datagram comes. An end that is connected answers what a connection does.
    fn take(&mut self, now: Instant, packet: &[u8]) -> Vec<Vec<u8>> {
        if let Some(Ok(negotiated)) = &self.outcome {
            let repeated = Handshake::of_datagram(packet).is_some_and(|(h, ..)| h.kind != Kind::Agreement);
            return if repeated { negotiated.reply.clone().into_iter().collect() } else { Vec::new() };
        }
        self.rendezvous.handle_datagram(now, now, packet);
        self.send(now)
    }

    fn negotiated(self) -> Box<Negotiated> {
        match self.outcome {
            Some(Ok(negotiated)) => negotiated,
            other => panic!("{other:?}"),
        }
    }

    fn failure(self) -> Failure {
        match self.outcome {
            Some(Err(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
}

/// Let two ends meet, the second one so much later, 10 ms apart; `lost` says what does not arrive.
fn meet(mut a: End, mut b: End, later: Duration, mut lost: impl FnMut() -> bool) -> (End, End) {
    let start = a.start;
    // When it arrives, whether at `b`, and what.
    let mut way: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    let mut now = start;
    loop {
        for (end, other_is_b, up) in [(&mut a, true, true), (&mut b, false, now >= start + later)] {
            if up && end.outcome.is_none() {
                end.rendezvous.handle_timeout(now);
                way.extend(end.send(now).into_iter().map(|packet| (now + ms(10), other_is_b, packet)));
            }
        }
        way.retain(|(at, to_b, _)| *at > now || !(lost() || (*to_b && now < start + later)));
        let (here, later_ones): (Vec<_>, Vec<_>) = way.drain(..).partition(|(at, ..)| *at <= now);
        way = later_ones;
        for (_, to_b, packet) in here {
            let answers = if to_b { b.take(now, &packet) } else { a.take(now, &packet) };
            way.extend(answers.into_iter().map(|packet| (now + ms(10), !to_b, packet)));
        }
        let pending = |end: &End| end.rendezvous.poll_timeout().filter(|_| end.outcome.is_none());
        let timers = [pending(&a), pending(&b).map(|at| at.max(start + later))];
        match way.iter().map(|(at, ..)| *at).chain(timers.into_iter().flatten()).min() {
            Some(next) => now = next.max(now + Duration::from_micros(1)),
            None => return (a, b),
        }
    }
}

fn agree(a: &Negotiated, b: &Negotiated) {
    assert_eq!((a.local, a.remote), (b.remote, b.local));
    assert_eq!((a.send_isn, a.receive_isn), (b.receive_isn, b.send_isn));
    assert_eq!((a.receive_latency, a.send_latency), (b.send_latency, b.receive_latency));
    assert_ne!(a.initiator, b.initiator);
    assert_eq!(a.keys.is_some(), b.keys.is_some());
    if let (Some(a), Some(b)) = (&a.keys, &b.keys) {
        let mut payload = [0x47; 188];
        assert!(a.apply(Key::Even, SeqNo::new(1), &mut payload) && b.apply(Key::Even, SeqNo::new(1), &mut payload));
        assert_eq!(payload, [0x47; 188]);
    }
}

#[test]
fn the_greater_cookie_begins() {
    let role = |ours: i32, theirs: i32| contest(ours.cast_unsigned(), theirs.cast_unsigned());
    assert_eq!(role(2, 1), Some(Role::Initiator));
    assert_eq!(role(1, 2), Some(Role::Responder));
    assert_eq!(role(1, -1), Some(Role::Initiator), "they are signed");
    assert_eq!(role(-1, -2), Some(Role::Initiator));
}

#[test]
fn cookies_that_lie_far_apart_are_taken_the_wrong_way_round_as_libsrt_does() {
    let role = |ours: i32, theirs: i32| contest(ours.cast_unsigned(), theirs.cast_unsigned());
    // The example in libsrt's sources.
    assert_eq!(role(-1_480_577_720, 811_599_203), Some(Role::Initiator));
    assert_eq!(role(811_599_203, -1_480_577_720), Some(Role::Responder));
    assert_eq!(role(i32::MAX, i32::MIN), Some(Role::Responder));
    assert_eq!(role(1 << 30, -(1 << 30)), Some(Role::Initiator), "2^31 apart the greater one counts");
    assert_eq!(role(-(1 << 30), 1 << 30), Some(Role::Responder));
}

#[test]
fn equal_cookies_and_none_are_a_draw() {
    assert_eq!(contest(7, 7), None);
    assert_eq!(contest(0, 7), None);
    assert_eq!(contest(7, 0), None);
}

#[test]
fn two_ends_meet_whoever_is_first_and_whoever_begins() {
    let now = Instant::now();
    for (ours, theirs) in [(5, 3), (3, 5)] {
        for later in [0, 7, 10, 90, 240, 260, 3000] {
            let (a, b) = (End::new(now, A, ours, &[]), End::new(now, B, theirs, &[]));
            let (a, b) = meet(a, b, ms(later), || false);
            let (a, b) = (a.negotiated(), b.negotiated());
            agree(&a, &b);
            assert_eq!(a.initiator, ours > theirs);
            assert_eq!((a.receive_latency, a.send_latency), (ms(200), ms(120)));
            assert_eq!((a.send_isn, b.send_isn), (SeqNo::new(A.0 * 1000), SeqNo::new(B.0 * 1000)));
            assert_eq!(a.peer_base, now + ms(10), "both clocks began together, half a round trip is in it");
            assert_eq!(b.peer_base, now + ms(10));
        }
    }
}

#[test]
fn the_responder_finds_the_right_one_of_its_passphrases() {
    let now = Instant::now();
    for (ours, theirs) in [(5, 3), (3, 5)] {
        let a = End::new(now, A, ours, &[PASSPHRASE, b"an older one"]);
        let b = End::new(now, B, theirs, &[PASSPHRASE]);
        let (a, b) = meet(a, b, ms(0), || false);
        let (a, b) = (a.negotiated(), b.negotiated());
        agree(&a, &b);
        assert!(a.keys.is_some());
    }
    let a = End::new(now, A, 3, &[b"a newer one", PASSPHRASE]);
    let b = End::new(now, B, 5, &[PASSPHRASE]);
    let (a, b) = meet(a, b, ms(0), || false);
    agree(&a.negotiated(), &b.negotiated());
}

#[test]
fn passphrases_that_do_not_match_end_it_on_both_ends() {
    let now = Instant::now();
    let other = &b"another one"[..];
    let cases = [
        (Some(PASSPHRASE), Some(other), Reject::BadSecret),
        (Some(PASSPHRASE), None, Reject::Unsecure),
        (None, Some(PASSPHRASE), Reject::Unsecure),
    ];
    for (initiator, responder, reject) in cases {
        let (a, b) = (End::new(now, A, 5, initiator.as_slice()), End::new(now, B, 3, responder.as_slice()));
        let (a, b) = meet(a, b, ms(0), || false);
        assert_eq!((a.failure(), b.failure()), (Failure::Rejected(reject), Failure::Refused(reject)));
    }
}

#[test]
fn a_draw_ends_it() {
    let now = Instant::now();
    let (a, b) = meet(End::new(now, A, 5, &[]), End::new(now, B, 5, &[]), ms(0), || false);
    assert_eq!(a.failure(), Failure::Refused(Reject::RendezvousCookie));
    assert_eq!(b.failure(), Failure::Refused(Reject::RendezvousCookie));
}

#[test]
fn alone_an_end_waves_four_times_a_second_for_half_a_minute() {
    let now = Instant::now();
    let mut a = End::new(now, A, 5, &[]);
    let mut waves = 0;
    let mut at = now;
    loop {
        let sent = a.send(at);
        for wave in &sent {
            let (handshake, timestamp, destination) = Handshake::of_datagram(wave).unwrap();
            assert_eq!((handshake.kind, handshake.version, handshake.cookie), (Kind::WaveAHand, VERSION_5, 5));
            assert_eq!((handshake.extensions, destination), (0, SocketId::NONE));
            assert_eq!(timestamp, Timestamp::after(at - now));
        }
        waves += sent.len();
        let Some(next) = a.rendezvous.poll_timeout() else { break };
        at = next;
        a.rendezvous.handle_timeout(at);
    }
    assert_eq!((waves, at), (120, now + RENDEZVOUS_TIMEOUT));
    assert_eq!(a.failure(), Failure::NoAnswer);
}

/// A responder whose answer is on its way, and what it sent.
fn answered(now: Instant) -> (End, Vec<u8>) {
    let (mut a, mut b) = (End::new(now, A, 5, &[]), End::new(now, B, 3, &[]));
    let waves = b.send(now);
    let conclusion = a.send(now).into_iter().chain(a.take(now, &waves[0])).next_back().unwrap();
    let answer = b.take(now, &conclusion).pop().unwrap();
    assert_eq!(Handshake::of_datagram(&answer).map(|(h, ..)| h.extensions), Some(1));
    (b, answer)
}

#[test]
fn data_and_keepalives_count_as_an_agreement() {
    let now = Instant::now();
    let data = DataHeader::live(SeqNo::new(A.0 * 1000), MsgNo::FIRST, Timestamp(0), B).write().to_vec();
    let mut keepalive = Vec::new();
    Control::KeepAlive.write(Timestamp(0), B, &mut keepalive);
    for packet in [&data, &keepalive] {
        let (mut b, _) = answered(now);
        let mut elsewhere = packet.clone();
        elsewhere[15] ^= 1;
        b.take(now, &elsewhere);
        assert!(b.outcome.is_none(), "it is for another socket");
        b.take(now, packet);
        assert_eq!(b.negotiated().remote, A);
    }
    let mut early = End::new(now, B, 3, &[]);
    early.take(now, &data);
    assert!(early.outcome.is_none(), "nothing was agreed yet");
}

#[test]
fn a_shutdown_ends_it() {
    let now = Instant::now();
    let (mut b, _) = answered(now);
    let mut shutdown = Vec::new();
    Control::Shutdown.write(Timestamp(0), B, &mut shutdown);
    b.take(now, &shutdown);
    assert_eq!(b.failure(), Failure::BrokenOff);
}

#[test]
fn an_answer_is_repeated_until_the_peer_agrees() {
    let now = Instant::now();
    let (mut b, answer) = answered(now);
    b.rendezvous.handle_timeout(now + ms(249));
    assert!(b.send(now + ms(249)).is_empty());
    b.rendezvous.handle_timeout(now + ms(250));
    let again = b.send(now + ms(250)).pop().unwrap();
    assert_eq!((&again[12..], &again[8..12]), (&answer[12..], &250_000_u32.to_be_bytes()[..]));
}

#[test]
fn a_peer_that_starts_anew_is_met_anew() {
    let now = Instant::now();
    let (mut b, _) = answered(now);
    let other = SocketId(0x0010_000C);
    let mut again = End::new(now, other, 2, &[]);
    let waves = again.send(now);
    let conclusion = b.take(now, &waves[0]).pop().unwrap();
    let (handshake, _, destination) = Handshake::of_datagram(&conclusion).unwrap();
    assert_eq!((handshake.kind, destination), (Kind::Conclusion, other));
    assert_ne!(handshake.extensions, 0, "this time it begins");
    let (again, b) = meet(again, b, ms(0), || false);
    agree(&again.negotiated(), &b.negotiated());
}

#[test]
fn keys_for_what_is_no_longer_asked_are_let_pass() {
    let now = Instant::now();
    let (mut a, mut b) = (End::new(now, A, 5, &[PASSPHRASE]), End::new(now, B, 3, &[PASSPHRASE]));
    let waves = b.send(now);
    let conclusion = a.send(now).into_iter().chain(a.take(now, &waves[0])).next_back().unwrap();
    b.rendezvous.handle_datagram(now, now, &conclusion);
    let Some(HandshakeEvent::NeedKek { salt, key_length }) = b.rendezvous.poll_event() else { panic!("no question") };
    b.rendezvous.handle_datagram(now, now, &conclusion);
    assert!(b.rendezvous.poll_event().is_none(), "it is asked once");
    b.rendezvous.provide_kek(now, &[Kek::derive(PASSPHRASE, Salt([9; 16]), key_length)]);
    assert!(b.rendezvous.poll_event().is_none());
    b.rendezvous.provide_kek(now, &[Kek::derive(PASSPHRASE, salt, key_length)]);
    let answer = b.send(now).pop().unwrap();
    assert_eq!(Handshake::of_datagram(&answer).map(|(h, ..)| h.extensions), Some(3));
    b.rendezvous.provide_kek(now, &[]);
    assert!(b.rendezvous.poll_event().is_none());
}

#[test]
fn a_refusal_counts_only_when_it_is_for_this_socket() {
    let now = Instant::now();
    let (mut b, answer) = answered(now);
    let mut refusal = answer;
    refusal[36..40].copy_from_slice(&1010_u32.to_be_bytes());
    for elsewhere in [SocketId::NONE, A] {
        refusal[12..16].copy_from_slice(&elsewhere.0.to_be_bytes());
        b.take(now, &refusal);
        assert!(b.outcome.is_none());
    }
    refusal[12..16].copy_from_slice(&B.0.to_be_bytes());
    b.take(now, &refusal);
    assert_eq!(b.failure(), Failure::Rejected(Reject::BadSecret));
}

#[test]
fn an_old_version_is_refused() {
    let now = Instant::now();
    let mut a = End::new(now, A, 5, &[]);
    let mut old = End::new(now, B, 3, &[]).send(now).pop().unwrap();
    old[19] = 4;
    let refusal = a.take(now, &old).pop().unwrap();
    assert_eq!(Handshake::of_datagram(&refusal).map(|(h, ..)| h.kind), Some(Kind::Reject(Reject::Version)));
    assert_eq!(a.failure(), Failure::Refused(Reject::Version));
}

proptest! {
    #[test]
    fn both_ends_draw_opposite_roles(ours: u32, theirs: u32) {
        let roles = (contest(ours, theirs), contest(theirs, ours));
        let opposite = matches!(
            roles,
            (Some(Role::Initiator), Some(Role::Responder)) | (Some(Role::Responder), Some(Role::Initiator))
        );
        prop_assert!(opposite || ours == theirs && roles == (None, None) || ours == 0 || theirs == 0);
    }

    #[test]
    fn two_ends_meet_whatever_is_lost_as_long_as_something_arrives(
        ours in 1_u32..,
        theirs in 1_u32..,
        lost: u64,
        later in 0_u64..1000,
        secured: bool,
    ) {
        prop_assume!(ours != theirs);
        let now = Instant::now();
        let passphrases: &[&'static [u8]] = if secured { &[PASSPHRASE] } else { &[] };
        let (a, b) = (End::new(now, A, ours, passphrases), End::new(now, B, theirs, passphrases));
        let mut count = 0_u32;
        let (a, b) = meet(a, b, ms(later), || {
            count += 1;
            count <= 40 && lost >> count & 1 == 1
        });
        agree(&a.negotiated(), &b.negotiated());
    }

    #[test]
    fn nothing_panics(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..4)) {
        let now = Instant::now();
        let (mut b, _) = answered(now);
        for packet in &packets {
            b.take(now, packet);
        }
    }

    #[test]
    fn no_damaged_handshake_panics(at in 16_usize..80, byte: u8, cut in 60_usize..90) {
        let now = Instant::now();
        let (mut b, answer) = answered(now);
        let mut packet = answer;
        packet[12..16].copy_from_slice(&B.0.to_be_bytes());
        packet[at] = byte;
        packet.truncate(cut);
        b.take(now, &packet);
        b.take(now, &packet);
    }
}
