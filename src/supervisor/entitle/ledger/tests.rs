use super::*;
use crate::flow::srt::{End, ReturnPath};
use crate::proto::srt::seq::SocketId;
use crate::proto::srt::stats::ConnectionStats;

struct Site {
    state: tempfile::TempDir,
    log: tempfile::TempDir,
}

/// A time of the day 2026-11-28.
fn at(time: &str) -> SystemTime {
    humantime::parse_rfc3339(&format!("2026-11-28T{time}Z")).unwrap()
}

impl Site {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), log: tempfile::tempdir().unwrap() }
    }

    fn ledger(&self, wall: SystemTime) -> Ledger {
        let audit = Audit::start(self.state.path(), self.state.path()).unwrap();
        Ledger::open(self.state.path(), &self.log.path().join("log"), Arc::new(audit), wall)
    }

    /// The file of a day of November 2026; `None`: there is none.
    fn csv(&self, day: u32) -> Option<String> {
        let path = self.log.path().join(format!("log/entitlements-2026-11-{day}.csv"));
        Some(std::fs::read_to_string(path).ok()?.lines().skip(1).map(|line| line.to_owned() + "\n").collect())
    }
}

fn news(peer: &Arc<PeerStats>, what: LinkEvent) -> LinkNews {
    let (flow, part) = ("news".parse().unwrap(), Part::Entitlement("main".to_owned()));
    LinkNews { flow, part, peer: peer.clone(), what }
}

fn peer() -> Arc<PeerStats> {
    Arc::new(PeerStats::of_subscriber("203.0.113.7:4000".parse().unwrap(), None, Some("acme".into())))
}

fn path(peer: &PeerStats) -> ReturnPath {
    ReturnPath { bound: "127.0.0.1:7000".parse().unwrap(), local: None, remote: peer.address, socket: SocketId(1) }
}

fn has_sent(peer: &PeerStats, bytes: u64) {
    let mut figures = ConnectionStats::default();
    figures.sent.bytes = bytes;
    peer.publish(Instant::now(), || figures);
}

fn holder() -> Holder {
    Holder { flow: "news".into(), entitlement: "main".into(), subscriber: "acme".into() }
}

#[test]
fn a_session_is_put_down_from_its_beginning_to_its_end() {
    let (site, start) = (Site::new(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut ledger = site.ledger(at("12:00:00"));
    let peer = peer();
    ledger.hear(&news(&peer, LinkEvent::Connected(path(&peer))), start, at("12:00:00"));
    has_sent(&peer, 3_000_000);
    ledger.tick(after(3), at("12:00:03"));
    let (total, today) = ledger.accounts(&holder());
    assert_eq!((total.bytes, total.milliseconds, today.sessions), (3_000_000, 3000, 1));
    has_sent(&peer, 4_000_000);
    ledger.hear(&news(&peer, LinkEvent::Ended(End::PeerClosed)), after(4), at("12:00:04"));
    ledger.hear(&news(&peer, LinkEvent::Ended(End::PeerClosed)), after(9), at("12:00:09"));
    ledger.tick(after(9), at("12:00:09"));
    let (total, _) = ledger.accounts(&holder());
    assert_eq!((total.bytes, total.milliseconds, ledger.bps_of("acme")), (4_000_000, 4000, 0));
    ledger.close("the daemon stops", after(10), at("12:00:10"));
    assert_eq!(site.csv(28).unwrap(), "2026-11-28,news,main,acme,1,4,4000000,106666\n");
    drop(ledger);
    let trail = std::fs::read_to_string(site.state.path().join(crate::audit::FILE)).unwrap();
    let of = r#""flow":"news","entitlement":"main","subscriber":"acme","peer":"203.0.113.7:4000""#;
    for (line, told) in trail.lines().zip([
        format!(r#""type":"session-opened",{of},"terms":"#),
        format!(r#""type":"session-closed",{of},"why":"the peer closed it","seconds":4,"bytes":4000000}}"#),
    ]) {
        assert!(line.contains(&told), "{line}");
    }
    assert_eq!(trail.lines().count(), 2);
}

#[test]
fn a_session_whose_flow_died_ends_all_the_same() {
    let (site, start) = (Site::new(), Instant::now());
    let mut ledger = site.ledger(at("12:00:00"));
    let peer = peer();
    ledger.hear(&news(&peer, LinkEvent::Connected(path(&peer))), start, at("12:00:00"));
    has_sent(&peer, 1000);
    peer.set_phase(Phase::Over);
    ledger.tick(start + Duration::from_secs(1), at("12:00:01"));
    assert_eq!((ledger.sessions.len(), ledger.accounts(&holder()).0.bytes), (0, 1000));
}

#[test]
fn a_day_is_written_when_it_is_over_and_goes_on_over_a_restart() {
    let (site, start) = (Site::new(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut ledger = site.ledger(at("23:50:00"));
    let peer = peer();
    ledger.hear(&news(&peer, LinkEvent::Connected(path(&peer))), start, at("12:00:00"));
    has_sent(&peer, 37_500);
    ledger.tick(after(70), at("23:51:10"));
    assert_eq!(site.csv(28), None, "it is not over");
    // Killed: what was kept a minute ago counts.
    drop(ledger);
    let mut ledger = site.ledger(at("23:58:00"));
    let again = self::peer();
    ledger.hear(&news(&again, LinkEvent::Connected(path(&again))), after(480), at("23:58:00"));
    has_sent(&again, 75_000);
    ledger.tick(after(540), at("23:59:00"));
    // A clock that is set back a little, and on again.
    ledger.tick(after(541), at("00:10:00") - Duration::from_secs(1200));
    assert_eq!(site.csv(28), None);
    let midnight = at("23:59:59") + Duration::from_secs(2);
    ledger.tick(after(602), midnight);
    assert_eq!(site.csv(28).unwrap(), "2026-11-28,news,main,acme,2,192,112500,2000\n");
    assert_eq!(ledger.accounts(&holder()).1, Account::default());
    has_sent(&again, 100_000);
    ledger.close("the daemon stops", after(700), midnight + Duration::from_secs(98));
    assert_eq!(site.csv(29).unwrap(), "2026-11-29,news,main,acme,0,98,25000,666\n");
}

#[test]
fn days_that_can_not_be_written_wait_and_are_written_later() {
    let (site, start) = (Site::new(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    // In place of the directory.
    std::fs::write(site.log.path().join("log"), "").unwrap();
    let mut ledger = site.ledger(at("23:59:00"));
    let peer = peer();
    ledger.hear(&news(&peer, LinkEvent::Connected(path(&peer))), start, at("12:00:00"));
    let midnight = at("23:59:59") + Duration::from_secs(1);
    ledger.tick(after(60), midnight);
    assert!(ledger.error.is_some());
    // Over a restart too.
    drop(ledger);
    let mut ledger = site.ledger(midnight + Duration::from_secs(60));
    assert!(ledger.error.is_some());
    std::fs::remove_file(site.log.path().join("log")).unwrap();
    ledger.tick(Instant::now() + KEEP, midnight + Duration::from_secs(120));
    assert!(ledger.error.is_none() && site.csv(28).unwrap().starts_with("2026-11-28,news,main,acme,1,"));
}

#[test]
fn the_newest_session_of_who_gets_too_much_for_long_is_the_one_to_end() {
    let (site, start) = (Site::new(), Instant::now());
    let mut ledger = site.ledger(at("12:00:00"));
    let peers = [peer(), peer()];
    peers.iter().for_each(|peer| ledger.hear(&news(peer, LinkEvent::Connected(path(peer))), start, at("12:00:00")));
    let mut first = None;
    for half in 0..=20_u32 {
        // 1 Mbit/s each.
        peers.iter().for_each(|peer| has_sent(peer, u64::from(half) * 62_500));
        ledger.tick(start + half * Duration::from_millis(500), at("12:00:01"));
        if first.is_none() && ledger.too_much("acme", 1_500_000).is_some() {
            first = Some(half);
        }
    }
    assert_eq!(first, Some(10), "after five seconds");
    assert_eq!(ledger.bps_of("acme"), 2_000_000);
    assert_eq!(ledger.too_much("acme", 1_500_000).unwrap().1.number, peers[1].number);
    assert!(ledger.too_much("acme", 2_500_000).is_none() && ledger.too_much("other", 1).is_none());
}

#[test]
fn of_a_session_that_goes_on_only_what_comes_now_is_put_down() {
    let (site, start) = (Site::new(), Instant::now());
    let mut ledger = site.ledger(at("12:00:00"));
    let peer = peer();
    has_sent(&peer, 5_000_000);
    ledger.hear(&news(&peer, LinkEvent::WentOn(path(&peer))), start, at("12:00:00"));
    has_sent(&peer, 7_000_000);
    ledger.close("the daemon begins anew", start + Duration::from_secs(2), at("12:00:02"));
    let (total, _) = ledger.accounts(&holder());
    assert_eq!((total.bytes, total.milliseconds, total.sessions), (2_000_000, 2000, 0));
}
