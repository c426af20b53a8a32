use std::net::IpAddr;

use super::*;
use crate::flow::srt::stats::{ConnectionStats, Facts};
use crate::observe::condition::Refusal;
use crate::observe::status::Severity;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// From it on everything happens: times before are of the past.
const PAST: Duration = Duration::from_secs(3600);

fn flow() -> FlowName {
    "news".parse().unwrap()
}

fn source() -> Part {
    Part::Source("venue".to_owned())
}

fn output() -> Part {
    Part::Output("cloud".to_owned())
}

fn listener() -> SrtPlan {
    let mode = SrtMode::Listener { bind: ":5000".parse().unwrap(), allow: None, stream_id: None, max_callers: 1 };
    SrtPlan { mode, latency: 120 * MS, encryption: None }
}

fn caller() -> SrtPlan {
    let remote = "ingest.example.net:5000".parse().unwrap();
    SrtPlan {
        mode: SrtMode::Caller { local: None, remote, stream_id: None, entitled: None },
        latency: 120 * MS,
        encryption: None,
    }
}

/// A scene an hour after the beginning of all things.
struct Stage {
    flow: FlowName,
    part: Part,
    plan: SrtPlan,
    now: Instant,
    wall: SystemTime,
    media: Media,
    peers: Vec<Arc<PeerStats>>,
    shared: bool,
    refusals: Vec<TurnedAway>,
    last_end: Option<LastEnd>,
    last: Option<Ended>,
    tries: u64,
}

impl Stage {
    fn new(part: Part, plan: SrtPlan, media: Media) -> Self {
        // The monotonic clock of a machine that has just started has no hour behind it.
        let (now, wall) = (Instant::now() + PAST, SystemTime::now() + PAST);
        let (peers, refusals) = (Vec::new(), Vec::new());
        let (flow, shared, last_end, last, tries) = (flow(), false, None, None, 0);
        Self { flow, part, plan, now, wall, media, peers, shared, refusals, last_end, last, tries }
    }

    /// Somebody was turned away so long ago; who comes later stands before those who came earlier.
    fn refused(mut self, address: &str, why: Refusal, ago: Duration, count: u64) -> Self {
        let (address, last): (IpAddr, _) = (address.parse().unwrap(), self.wall - ago);
        self.refusals.insert(0, TurnedAway { address, why, stream_id: None, count, last });
        self
    }

    /// A connection ended.
    fn ended(mut self, ago: Duration, why: &str) -> Self {
        let peer = "203.0.113.10:41522".parse().unwrap();
        self.last_end = Some(LastEnd { at: self.now - ago, peer, why: why.to_owned() });
        self
    }

    /// Somebody is connected since then, and sent media so long ago.
    fn peer(mut self, since: Duration, silent_for: Duration, figures: ConnectionStats) -> Self {
        let peer = PeerStats::new("203.0.113.10:41522".parse().unwrap(), None);
        let facts = Facts {
            version: 0x1_0501,
            receive_latency: 120 * MS,
            send_latency: 120 * MS,
            cipher: None,
            stream_id: None,
            mss: 1500,
            since: self.wall - since,
        };
        peer.facts.set(facts).unwrap();
        peer.last_data.set(self.now - silent_for);
        // Lost lately is what is more than before.
        peer.publish(self.now - SECOND, || figures);
        self.peers.push(Arc::new(peer));
        self
    }

    /// Attempts came to nothing, the last one so.
    fn failed(mut self, why: Ended, tries: u64) -> Self {
        (self.last, self.tries) = (Some(why), tries);
        self
    }

    fn told(&self) -> Vec<Condition> {
        let Self { flow, part, plan, media, shared, now, wall, .. } = self;
        let calls = !matches!(plan.mode, SrtMode::Listener { .. });
        let scene = Scene {
            flow,
            part,
            plan,
            media: *media,
            peers: self.peers.clone(),
            shared: *shared,
            refusals: self.refusals.clone(),
            last_end: self.last_end.clone(),
            call: calls.then_some((self.last.as_ref(), self.tries)),
            waited: 600 * SECOND,
            now: *now,
            wall: *wall,
        };
        let mut told = Vec::new();
        scene.tell(&mut |condition| told.push(condition));
        told
    }

    /// Codes and messages.
    fn words(&self) -> Vec<(&'static str, String)> {
        self.told().iter().map(|condition| (condition.code(), condition.message())).collect()
    }

    /// The one thing that is told.
    #[track_caller]
    fn one(&self) -> Condition {
        let told = self.told();
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].clone()
    }

    /// The one thing that is told, and what is to be done.
    #[track_caller]
    fn story(&self) -> (&'static str, Severity, String) {
        let one = self.one();
        (one.code(), one.severity(), one.message())
    }
}

const LOST: Media = Media::Lost { silent_for: Duration::from_secs(10), bitrate_bps: 8_000_000 };

fn quiet() -> ConnectionStats {
    ConnectionStats::default()
}

#[test]
fn a_source_that_nobody_called_says_so() {
    let (code, severity, message) = Stage::new(source(), listener(), Media::Awaited).story();
    assert_eq!((code, severity), ("srt-no-caller", Severity::Critical));
    assert_eq!(message, "source venue: nobody called :5000 in 10m");
}

#[test]
fn a_source_that_turned_everybody_away_says_whom_and_why_and_nothing_else() {
    let stage =
        Stage::new(source(), listener(), Media::Awaited).refused("203.0.113.7", Refusal::WrongPassphrase, SECOND, 12);
    let (code, severity, message) = stage.story();
    assert_eq!((code, severity), ("srt-callers-refused", Severity::Critical));
    let words = "source venue: nobody is connected, and 12 calls from 203.0.113.7 refused: wrong passphrase";
    assert_eq!(message, words);
    assert!(stage.one().help().contains("letter by letter"));
    let two = stage.refused("203.0.113.8", Refusal::Address, SECOND, 1);
    let (.., message) = two.story();
    assert!(
        message.ends_with("1 call from 203.0.113.8 refused: its address is denied by `allow` (others too: see status)")
    );
    assert!(two.one().help().contains("add 203.0.113.8 to `allow`"));
}

#[test]
fn refusals_of_long_ago_are_no_reason_but_those_called() {
    let away = |ago| Stage::new(source(), listener(), Media::Awaited).refused("203.0.113.7", Refusal::Address, ago, 1);
    assert_eq!(away(120 * SECOND).story().0, "srt-callers-refused", "who tries by hand");
    let mut long = Stage::new(source(), listener(), Media::Awaited);
    long = long.ended(3000 * SECOND, "the peer closed it").refused("203.0.113.7", Refusal::Address, 700 * SECOND, 1);
    let message = long.story().2;
    let words = "source venue: the connection of 203.0.113.10:41522 ended (the peer closed it), and nobody called :5000 in \
                 11m 40s";
    assert_eq!(message, words);
}

#[test]
fn a_publisher_that_went_away_is_one_story() {
    let stage = Stage::new(source(), listener(), LOST).ended(11 * SECOND, "the peer closed it");
    let (code, severity, message) = stage.story();
    assert_eq!((code, severity), ("source-lost", Severity::Critical));
    let words = "source venue: lost for 10s, 8.00 Mbit/s before: the connection of 203.0.113.10:41522 ended (the peer closed \
                 it), and nobody called :5000 in 11s";
    assert_eq!(message, words);
    assert!(stage.one().help().contains("calls port 5000 of this host"));
    // It calls again, with another passphrase.
    let refused = stage.refused("203.0.113.10", Refusal::WrongPassphrase, 2 * SECOND, 3);
    let (code, _, message) = refused.story();
    assert_eq!(code, "source-lost");
    assert!(message.ends_with("before: nobody is connected, and 3 calls from 203.0.113.10 refused: wrong passphrase"));
}

#[test]
fn a_publisher_that_stays_and_sends_nothing_is_one_story() {
    let stage = Stage::new(source(), listener(), LOST).peer(60 * SECOND, 10 * SECOND, quiet());
    let (code, _, message) = stage.story();
    assert_eq!(code, "source-lost");
    let end = "before: 203.0.113.10:41522 is connected and has sent no media for 10s";
    assert!(message.ends_with(end), "{message}");
    let never = Stage::new(source(), listener(), Media::Awaited).peer(60 * SECOND, 60 * SECOND, quiet());
    let (code, severity, message) = never.story();
    assert_eq!((code, severity), ("srt-no-data", Severity::Critical));
    assert_eq!(message, "source venue: 203.0.113.10:41522 is connected and has sent no media for 1m");
    let fresh = Stage::new(source(), listener(), Media::Awaited).peer(SECOND, SECOND, quiet());
    assert_eq!(fresh.told(), [], "it has had no time yet");
}

#[test]
fn what_is_in_the_buffer_still_is_media() {
    let stage = Stage::new(source(), listener(), Media::Comes).ended(SECOND, "the peer closed it");
    assert_eq!(stage.told(), []);
}

#[test]
fn a_caller_says_why_it_is_not_connected() {
    let story = |end: End| Stage::new(source(), caller(), Media::Awaited).failed(Ended::Link(end), 4).story();
    let (code, severity, message) = story(End::Handshake(Failure::NoAnswer));
    assert_eq!((code, severity), ("srt-not-connected", Severity::Critical));
    assert_eq!(message, "source venue: no connection to ingest.example.net:5000: no answer (4 attempts)");
    let (.., message) = story(End::Handshake(Failure::Rejected(Reject::BadSecret)));
    assert!(message.contains("wrong passphrase, says the peer (1010)"), "{message}");
    let (.., message) = story(End::Handshake(Failure::Rejected(Reject::Unsecure)));
    assert!(message.contains("the other end has a passphrase, and none is set here (1011)"), "{message}");
    let (.., message) = story(End::Handshake(Failure::Rejected(Reject::NOT_FOUND)));
    assert!(message.contains("rejected by the peer: there is no such resource (1404)"), "{message}");
    let name = Ended::Name("no such host".to_owned());
    let (.., message) = Stage::new(source(), caller(), Media::Awaited).failed(name, 1).story();
    assert!(message.ends_with("its name can't be looked up: no such host (1 attempt)"), "{message}");
    assert_eq!(Stage::new(source(), caller(), Media::Awaited).told(), [], "the first attempt goes on");
}

#[test]
fn each_failure_of_a_call_has_its_own_next_step() {
    let help = |failure| {
        let stage = Stage::new(output(), caller(), Media::Sends).failed(Ended::Link(End::Handshake(failure)), 1);
        stage.one().help()
    };
    let rejected = |reject| help(Failure::Rejected(reject));
    assert!(help(Failure::NoAnswer).contains("firewalls let UDP port 5000 through"));
    assert!(help(Failure::NotConcluded).contains("does not let this call in"));
    assert!(rejected(Reject::BadSecret).contains("letter by letter"));
    assert!(rejected(Reject::FORBIDDEN).contains("allow this host's address"));
    assert!(rejected(Reject::NOT_FOUND).contains("Set `stream-id`"));
    assert!(rejected(Reject::OVERLOAD).contains("raise its limit"));
    assert!(rejected(Reject::CONFLICT).contains("Another caller is there"));
    assert!(rejected(Reject::Filter).contains("without packet filter"));
    assert!(rejected(Reject::Resource).contains("Ask at the other end"));
    let bind = ":5000".parse().unwrap();
    let remote = "203.0.113.10:6000".parse().unwrap();
    let mut both = caller();
    both.mode = SrtMode::Rendezvous { bind, remote };
    let stage = Stage::new(output(), both, Media::Sends).failed(Ended::Link(End::Handshake(Failure::NoAnswer)), 1);
    assert!(stage.one().help().contains("from its port 6000"), "{}", stage.one().help());
}

#[test]
fn a_caller_that_lost_its_peer_says_how() {
    let (part, end) = (source(), Ended::Link(End::Closed));
    let stage = Stage::new(part, caller(), LOST).failed(end, 0).ended(SECOND, "disconnected by alice");
    let (code, _, message) = stage.story();
    assert_eq!(code, "source-lost");
    let words = "before: no connection to ingest.example.net:5000: the connection ended: disconnected by alice";
    assert!(message.ends_with(words), "{message}");
}

#[test]
fn an_output_that_waits_for_receivers_is_well_and_one_that_can_not_call_is_not() {
    let (code, severity, message) = Stage::new(output(), listener(), Media::Sends).story();
    assert_eq!((code, severity), ("srt-no-receiver", Severity::Info));
    assert_eq!(message, "output cloud: no receiver is connected to :5000, for 10m");
    let failed = Ended::Link(End::Handshake(Failure::NoAnswer));
    let (code, severity, _) = Stage::new(output(), caller(), Media::Sends).failed(failed, 1).story();
    assert_eq!((code, severity), ("srt-output-not-connected", Severity::Major));
}

#[test]
fn receivers_that_are_turned_away_are_told_for_a_minute() {
    let away = |ago| Stage::new(output(), listener(), Media::Sends).refused("198.51.100.9", Refusal::Full, ago, 2);
    let (code, severity, message) = away(SECOND).story();
    assert_eq!((code, severity), ("srt-refused", Severity::Major));
    let words = "output cloud: 2 calls from 198.51.100.9 refused: as many as `max-callers` are connected already";
    assert_eq!(message, words);
    assert!(away(SECOND).one().help().contains("`mediaconnectctl disconnect news PEER`"));
    assert_eq!(away(61 * SECOND).story().0, "srt-no-receiver");
}

#[test]
fn who_was_let_in_at_last_is_not_told_any_more_and_a_second_publisher_is() {
    let stage = Stage::new(source(), listener(), Media::Comes);
    let stage = stage.refused("203.0.113.10", Refusal::WrongPassphrase, 30 * SECOND, 1);
    let fixed = stage.peer(20 * SECOND, Duration::ZERO, quiet());
    assert_eq!(fixed.told(), []);
    let second = fixed.refused("203.0.113.66", Refusal::Taken, SECOND, 5);
    let (code, _, message) = second.story();
    assert_eq!(code, "srt-refused");
    assert_eq!(message, "source venue: 5 calls from 203.0.113.66 refused: another publisher is connected");
    let number = second.peers[0].number;
    assert!(second.one().help().contains(&format!("`mediaconnectctl disconnect news {number}`")));
}

#[test]
fn a_stray_call_at_a_shared_port_troubles_only_those_who_wait() {
    let stray = |stage: Stage| stage.refused("192.0.2.1", Refusal::StreamId, SECOND, 1);
    let fed = stray(Stage::new(source(), listener(), Media::Comes).peer(60 * SECOND, Duration::ZERO, quiet()));
    assert_eq!(fed.told(), []);
    assert_eq!(stray(Stage::new(source(), listener(), Media::Awaited)).story().0, "srt-callers-refused");
    let mut served = stray(Stage::new(output(), listener(), Media::Sends).peer(60 * SECOND, Duration::ZERO, quiet()));
    assert_eq!(served.story().0, "srt-refused", "nobody else can have been meant");
    served.shared = true;
    assert_eq!(served.told(), []);
}

/// Figures of a connection with this round trip, to or from which packets came too late.
fn late(rtt: Duration, dropped: u64) -> ConnectionStats {
    let mut figures = ConnectionStats { rtt, rtt_measured: true, ..quiet() };
    (figures.received.dropped, figures.sent.dropped) = (dropped, dropped);
    figures
}

#[test]
fn too_little_latency_is_told_with_the_figure_to_set() {
    let stage = |rtt| Stage::new(source(), listener(), Media::Comes).peer(60 * SECOND, Duration::ZERO, late(rtt, 250));
    let (code, severity, message) = stage(100 * MS).story();
    assert_eq!((code, severity), ("srt-latency-low", Severity::Major));
    let words = "source venue: 250 packets came too late: the latency of 120ms is only 1.2 round trips of 100ms to \
                 203.0.113.10:41522";
    assert_eq!(message, words);
    let help = stage(100 * MS).one().help();
    assert!(help.starts_with("Set `latency = \"400ms\"` or more on this source:"), "{help}");
    // The latency is long enough, and still packets come too late.
    let (code, severity, message) = stage(20 * MS).story();
    assert_eq!((code, severity), ("srt-dropped", Severity::Minor));
    assert!(message.contains("though the latency of 120ms is 6.0 round trips of 20ms"), "{message}");
}

#[test]
fn of_many_receivers_the_worst_is_told() {
    let mut stage = Stage::new(output(), listener(), Media::Sends);
    for dropped in [3, 90, 7] {
        stage = stage.peer(60 * SECOND, Duration::ZERO, late(100 * MS, dropped));
    }
    let (code, _, message) = stage.story();
    assert_eq!(code, "srt-latency-low");
    assert!(message.starts_with("output cloud: 90 packets"), "{message}");
    assert!(message.ends_with(", and likewise of 2 other peers"), "{message}");
    assert!(stage.one().help().contains("on this output"));
}

#[test]
fn what_came_too_late_a_while_ago_is_over() {
    let mut stage =
        Stage::new(source(), listener(), Media::Comes).peer(300 * SECOND, Duration::ZERO, late(100 * MS, 9));
    stage.now += 61 * SECOND;
    stage.peers[0].last_data.set(stage.now);
    assert_eq!(stage.words(), []);
}

#[test]
fn media_that_nobody_can_decrypt_is_named() {
    let mut figures = quiet();
    figures.received.undecrypted = 40;
    let stage = Stage::new(source(), listener(), Media::Awaited).peer(60 * SECOND, Duration::ZERO, figures);
    let (code, severity, message) = stage.story();
    assert_eq!((code, severity), ("srt-undecrypted", Severity::Critical));
    assert_eq!(message, "source venue: 40 packets of 203.0.113.10:41522 could not be decrypted");
    let number = stage.peers[0].number;
    assert!(stage.one().help().contains(&format!("`mediaconnectctl disconnect news {number}`")));
}
