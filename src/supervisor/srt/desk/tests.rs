use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::config::plan::DaemonPlan;
use crate::config::secrets::Secrets;
use crate::config::testing::write_key;
use crate::config::value::Bind;
use crate::config::{Context, parse_flow, parse_subscriber};
use crate::flow::orders;
use crate::flow::srt::Part;
use crate::io::endpoint::open_endpoint;
use crate::io::links::Links;
use crate::supervisor::resolve;
use crate::supervisor::srt::door::Rules;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// What there is in the files of these tests.
struct Site {
    keys: tempfile::TempDir,
    register: Register,
}

impl Site {
    fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        for key in ["old", "new"] {
            write_key(keys.path(), key, &format!("the passphrase {key}"));
        }
        Self { keys, register: Register::default() }
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(self.keys.path(), &Context { credentials: None, ..Context::default() })
    }

    fn subscriber(mut self, name: &str, more: &str) -> Self {
        let text = format!("passphrase-file = 'old'\nallow = ['203.0.113.0/24']\n{more}");
        let (plan, said) = parse_subscriber(
            &name.parse().unwrap(),
            name.as_ref(),
            text.as_bytes(),
            &DaemonPlan::default(),
            &self.secrets(),
        );
        self.register.add_subscriber(Arc::new(plan.unwrap_or_else(|| panic!("{said:?}"))));
        self
    }

    /// A flow of 8 Mbit/s, all of whose entitlements are open.
    fn flow(mut self, name: &str, text: &str) -> Self {
        let text = format!("{text}\n[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:5000'\n");
        let name: FlowName = name.parse().unwrap();
        let (plan, said) =
            parse_flow(&name, name.as_str().as_ref(), text.as_bytes(), &DaemonPlan::default(), &self.secrets());
        let plan = Arc::new(plan.unwrap_or_else(|| panic!("{said:?}")));
        let doors = plan.entitlements.keys().map(|entitlement| (entitlement.clone(), door(&name, entitlement)));
        let doors = doors.collect();
        self.register.flows.insert(name.to_string(), Granting { plan, bps: 8_000_000, doors });
        self
    }

    /// What becomes of a call with this stream ID and the right passphrase, and what it is told.
    fn call(&self, stream_id: &str) -> (&'static str, u32) {
        self.call_from(HERE, stream_id)
    }

    fn call_from(&self, from: IpAddr, stream_id: &str) -> (&'static str, u32) {
        let caller = self.register.caller(Some(stream_id), from);
        match caller.and_then(|caller| self.register.admit(&caller, SystemTime::now())) {
            Ok(Some(_)) => ("in", 0),
            Ok(None) => ("later", 0),
            Err(why) => (why.code(), number(reject(&why))),
        }
    }

    fn roster(&self, flow: &str, entitlement: &str) -> &Arc<Roster> {
        &self.register.flows[flow].doors[entitlement].roster
    }

    fn peer(&self, subscriber: &str) -> PeerStats {
        let passphrase = self.register.subscribers[subscriber].passphrases.first().cloned();
        PeerStats::of_subscriber(SocketAddr::new(HERE, 4000), passphrase, Some(subscriber.into()))
    }

    fn session(&self, flow: &str, entitlement: &str, subscriber: &str) {
        self.roster(flow, entitlement).add(Arc::new(self.peer(subscriber)));
    }
}

fn door(flow: &FlowName, entitlement: &str) -> Arc<Door> {
    let bind = Bind { ip: Some(Ipv4Addr::LOCALHOST.into()), port: 0 };
    let spec = resolve::listening(bind, None, &Links::default()).unwrap();
    let rules = Rules {
        pattern: None,
        allow: None,
        passphrases: Vec::new(),
        km_refresh: 1 << 24,
        latency: Duration::from_millis(120),
        most: 1,
    };
    Arc::new(Door {
        flow: flow.clone(),
        part: Part::Entitlement(entitlement.to_owned()),
        rules: Mutex::new(Arc::new(rules)),
        courier: orders().0.courier(),
        endpoint: Arc::new(open_endpoint(&spec).unwrap()),
        place: 1,
        roster: Arc::default(),
    })
}

fn site() -> Site {
    let entitlements = "[entitlements.main]\nsubscribers = ['acme', 'off', 'small']\nmax-sessions = 3\n\
                        [entitlements.over]\nsubscribers = ['acme']\nexpires = '2026-01-01T00:00:00Z'\n\
                        [entitlements.off]\nsubscribers = ['acme']\nenabled = false\n\
                        [entitlements.one]\nsubscribers = ['acme']\n";
    Site::new()
        .subscriber("acme", "max-sessions = 3")
        .subscriber("other", "")
        .subscriber("off", "enabled = false")
        .subscriber("small", "max-bitrate = '10M'")
        .flow("news", entitlements)
        .flow("stopped", "enabled = false\n[entitlements.main]\nsubscribers = ['acme']\n")
}

#[test]
fn a_subscriber_gets_what_it_is_entitled_to_however_it_asks() {
    let site = site();
    for id in [
        "#!::u=acme,r=news/main",
        "#!::r=news/main,u=acme",
        "#!::m=request,r=news/main,u=acme,t=stream",
        "#!:{u=acme,r=news/main}",
        "#!::h=relay.example.net,s=17,u=acme,acme_x=1,r=news/main",
    ] {
        assert_eq!(site.call(id), ("in", 0), "{id}");
    }
}

#[test]
fn whoever_is_refused_is_told_by_the_code_of_the_first_check_that_fails() {
    let site = site();
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    for id in [
        "",
        "live",
        "#!::",
        "#!::u=acme",
        "#!::r=news/main",
        "#!::u=,r=news/main",
        "#!::u=acme,r=news",
        "#!::u=acme,r=news/main,m=publish",
        "#!::u=acme,r=news/main,m=bidirectional",
        "#!::u=acme,r=news/main,t=file",
        "#!::u=acme,u=other,r=news/main",
    ] {
        // Before all others: also from elsewhere.
        assert_eq!(site.call_from(elsewhere, id), ("stream-id-malformed", 1400), "{id:?}");
    }
    for (id, from, told) in [
        ("#!::u=nobody,r=nothing/x", elsewhere, ("unknown-subscriber", 1401)),
        ("#!::u=acme,r=nothing/x", elsewhere, ("address", 1403)),
        ("#!::u=acme,r=nothing/x", HERE, ("unknown-entitlement", 1404)),
        ("#!::u=acme,r=news/nothing", HERE, ("unknown-entitlement", 1404)),
        ("#!::u=off,r=news/main", HERE, ("disabled", 1403)),
        ("#!::u=acme,r=stopped/main", HERE, ("disabled", 1403)),
        ("#!::u=acme,r=news/off", HERE, ("disabled", 1403)),
        ("#!::u=other,r=news/main", HERE, ("not-entitled", 1403)),
        ("#!::u=acme,r=news/over", HERE, ("expired", 1403)),
    ] {
        assert_eq!(site.call_from(from, id), told, "{id}");
    }
}

#[test]
fn sessions_are_capped_by_entitlement_and_by_subscriber() {
    let site = site();
    site.session("news", "one", "acme");
    assert_eq!(site.call("#!::u=acme,r=news/one"), ("max-sessions", 1402), "one is the default");
    site.session("news", "main", "acme");
    assert_eq!(site.call("#!::u=acme,r=news/main").0, "in");
    site.session("news", "main", "acme");
    assert_eq!(site.call("#!::u=acme,r=news/main").0, "max-sessions", "three of one subscriber");
    assert_eq!(site.call("#!::u=small,r=news/main").0, "in", "one more of another");
    site.session("news", "main", "small");
    assert_eq!(site.call("#!::u=small,r=news/main").0, "max-sessions", "three of one entitlement, before its bit rate");
}

#[test]
fn a_session_that_would_be_too_much_for_its_subscriber_is_refused() {
    assert_eq!(site().call("#!::u=small,r=news/main").0, "in", "8 of 10 Mbit/s");
    let site = site();
    site.session("news", "main", "acme");
    assert_eq!(site.call("#!::u=small,r=news/main").0, "in", "that is another's");
    site.session("news", "main", "small");
    assert_eq!(site.call("#!::u=small,r=news/main"), ("max-bitrate", 1402));
}

#[test]
fn a_flow_that_is_being_opened_is_waited_for() {
    let mut site = site();
    site.register.flows.get_mut("news").unwrap().doors.clear();
    assert_eq!(site.call("#!::u=acme,r=news/main").0, "later");
}

#[test]
fn a_session_goes_on_as_long_as_it_would_be_let_in() {
    let before = site();
    let peer = before.peer("acme");
    let news: FlowName = "news".parse().unwrap();
    let revoked = |site: &Site, of: &str| site.register.revoked(&news, of, &peer, SystemTime::now());
    assert_eq!(revoked(&before, "main"), None);
    for (of, why) in [("nothing", "gone"), ("over", "expired"), ("off", "disabled")] {
        assert!(revoked(&before, of).is_some_and(|said| said.contains(why)), "{of}");
    }
    // Caps are for those who come.
    assert_eq!(revoked(&site().subscriber("acme", "max-sessions = 1\nmax-bitrate = '1k'"), "main"), None);
    for (more, why) in [("enabled = false", "disabled"), ("description = 'x'", "")] {
        let said = revoked(&site().subscriber("acme", more), "main");
        assert_eq!(said.is_some(), !why.is_empty(), "{more}: {said:?}");
    }
    let mut gone = site();
    gone.register.subscribers.remove("acme");
    assert!(revoked(&gone, "main").unwrap().contains("gone"));
    let mut other = site();
    let subscriber = other.register.subscribers.get_mut("acme").unwrap();
    Arc::make_mut(subscriber).passphrases.clear();
    assert!(revoked(&other, "main").unwrap().contains("passphrase"));
    let subscriber = other.register.subscribers.get_mut("acme").unwrap();
    Arc::make_mut(subscriber).allow = vec!["192.0.2.0/24".parse().unwrap()];
    assert!(revoked(&other, "main").unwrap().contains("`allow`"));
}

#[test]
fn the_greatest_key_length_is_advertised() {
    let length = |text: &str| {
        let site = Site::new();
        let text = format!("{text}\n[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:5000'\n");
        let flow = |name: &str, text: &str| {
            let name = name.parse().unwrap();
            let plan = parse_flow(&name, "x".as_ref(), text.as_bytes(), &DaemonPlan::default(), &site.secrets()).0;
            Arc::new(plan.unwrap())
        };
        let mut register = Register::default();
        register.add_flow(flow("a", &text), 0, std::iter::empty());
        register.add_flow(flow("b", &text.replace("32", "24")), 0, std::iter::empty());
        register.key_length
    };
    assert_eq!(length("[entitlements.a]\nsubscribers = ['a']\n"), None);
    assert_eq!(length("[entitlements.a]\nsubscribers = ['a']\nkey-length = 32\n"), Some(KeyLength::Aes256));
}

#[test]
fn what_strangers_say_is_told_and_counted_and_grows_nothing() {
    let (site, desk) = (site(), Desk::default());
    for n in 0..1000_u16 {
        let from = SocketAddr::new(IpAddr::from([192, 0, (n >> 8) as u8, n as u8]), 1000);
        let id = format!("#!::u=stranger-{n},r=news/main");
        desk.refuse(&site.register, from, &Refusal::UnknownSubscriber, Some(&id));
        desk.refuse(&site.register, from, &Refusal::Malformed, Some(&"x".repeat(512)));
    }
    assert_eq!((desk.roster.tally.refused(), desk.roster.refusals().len()), (2000, 8));
    let of_entitlement = site.roster("news", "main");
    assert_eq!((of_entitlement.tally.refused(), of_entitlement.refusals().len()), (1000, 8));
}
