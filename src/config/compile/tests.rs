use std::time::Duration;

use crate::config::plan::{
    DaemonPlan, DatagramRoute, FailoverPlan, FailoverRules, FlowPlan, LegPlan, OutputProtocol, ReturnMode, RistInput,
    RistProfile, RtpHeader, SourceProtocol, SrtMode, SrtPlan, Stream, SwitchOn,
};
use crate::config::secrets::{KeyFile, Secrets};
use crate::config::testing::write_key;
use crate::config::value::{Bitrate, Interface};
use crate::config::{Context, parse_flow};
use crate::proto::fec2022_1::matrix::Matrix;
use crate::proto::rist::psk;
use crate::proto::srt::access::StreamIdPattern;
use crate::proto::srt::km::KeyLength;

fn plan(text: &str) -> FlowPlan {
    plan_with(text, &Secrets::none())
}

fn plan_with(text: &str, secrets: &Secrets) -> FlowPlan {
    let name = "news".parse().unwrap();
    let (plan, faults) = parse_flow(&name, "news.toml".as_ref(), text.as_bytes(), &DaemonPlan::default(), secrets);
    plan.unwrap_or_else(|| panic!("{faults:?}"))
}

fn route<'p>(plan: &'p FlowPlan, output: &str) -> &'p DatagramRoute {
    plan.outputs[output].datagrams().unwrap()
}

fn case(name: &str) -> String {
    let file = format!("{}/tests/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let networks = [("\"contribution\"", "\"eth1\""), ("\"media\"", "\"eth3\""), ("network", "interface")];
    networks.iter().fold(std::fs::read_to_string(file).unwrap(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn every_rule_of_failover_is_in_the_plan() {
    let plan = plan(&case("valid-failover"));
    let rules = FailoverRules {
        primary: Some("in".into()),
        return_mode: ReturnMode::Hold,
        hold: Duration::from_secs(10),
        switch_on: SwitchOn {
            silence: Some(Duration::from_millis(300)),
            min_bitrate: Some(Bitrate::from_bps(1_000_000)),
            continuity_errors: Some(20),
            pat_loss: Some(Duration::from_secs(1)),
            unrecovered: Some(50),
        },
    };
    assert_eq!(plan.failover, Some(FailoverPlan::Failover(rules)));
    assert_eq!(route(&plan, "out").smoothing, Some(Duration::from_millis(100)));
}

#[test]
fn silence_is_on_unless_it_is_turned_off() {
    let silence = |written: &str| {
        let text = format!(
            "[sources.in]\nprotocol = \"udp\"\nbind = \"127.0.0.1:5000\"\n[outputs]\n[failover]\nmode = \"failover\"\n{written}"
        );
        match plan(&text).failover {
            Some(FailoverPlan::Failover(rules)) => rules.switch_on.silence,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(silence(""), Some(Duration::from_millis(500)));
    assert_eq!(silence("switch-on = { unrecovered = 1 }"), Some(Duration::from_millis(500)));
    assert_eq!(silence("switch-on = { silence = \"0s\" }"), None);
    assert_eq!(silence("switch-on.silence = \"50ms\""), Some(Duration::from_millis(50)));
}

#[test]
fn one_source_may_stand_without_a_mode() {
    assert_eq!(plan(&case("valid-failover-one-source")).failover, None);
}

#[test]
fn a_merge_of_fec_and_plain_rtp_goes_out_on_two_legs() {
    let plan = plan(&case("valid-merge"));
    assert_eq!(plan.failover, Some(FailoverPlan::Merge { recovery_window: Duration::from_secs(1) }));
    let protected = plan.sources["protected"].datagrams().unwrap();
    let reorder_window = Duration::from_millis(20);
    assert_eq!(protected.protocol, SourceProtocol::RtpFec { reorder_window, fec_ports: [10, 20] });
    let ports = [(Stream::Media, 6000), (Stream::ColumnFec, 6010), (Stream::RowFec, 6020)];
    assert_eq!(protected.ports().collect::<Vec<_>>(), ports);
    assert_eq!(plan.sources["in"].datagrams().unwrap().ports().collect::<Vec<_>>(), [(Stream::Media, 5000)]);

    let out = &plan.outputs["out"];
    let header = RtpHeader::Regenerate { payload_type: 96, ssrc: Some(7) };
    let matrix = Matrix::new(20, 5, true).unwrap();
    assert_eq!(route(&plan, "out").protocol, OutputProtocol::RtpFec { header, matrix });
    let leg = |interface: &str| LegPlan {
        destination: "239.2.2.2:5000".parse().unwrap(),
        interface: Some(Interface::Name(interface.into())),
    };
    assert_eq!(out.legs(), [leg("eth1"), leg("eth3")]);
    assert_eq!(route(&plan, "out").destination, out.legs()[0].destination);
    assert_eq!(out.interface, out.legs()[0].interface);
    assert_eq!(out.paths().map(|(to, _)| to.port).collect::<Vec<_>>(), [5000, 5000]);

    let columns_only = &plan.outputs["columns-only"];
    assert_eq!(columns_only.legs(), []);
    assert_eq!(columns_only.paths().map(|(to, _)| to.port).collect::<Vec<_>>(), [65533]);
    let streams = route(&plan, "columns-only").protocol.streams();
    assert_eq!(streams, [(Stream::Media, 0), (Stream::ColumnFec, 2)]);
    assert_eq!(columns_only.header(), Some(RtpHeader::Passthrough));
}

/// The plan of a case that names these keys.
fn keyed_plan(name: &str) -> FlowPlan {
    let dir = tempfile::tempdir().unwrap();
    write_key(dir.path(), "venue-a", "correct horse battery\n");
    write_key(dir.path(), "venue-a-new", "another passphrase\r\n");
    plan_with(&case(name), &Secrets::new(dir.path(), &Context { credentials: None, ..Context::default() }))
}

fn srt_plan() -> FlowPlan {
    keyed_plan("valid-srt")
}

/// Each with its file.
fn shown(passphrases: &[KeyFile]) -> Vec<(&str, &str)> {
    passphrases.iter().map(|p| (p.name(), str::from_utf8(p.secret().bytes()).unwrap())).collect()
}

/// The passphrases, and the key length.
fn keys(srt: &SrtPlan) -> (Vec<(&str, &str)>, Option<KeyLength>) {
    (shown(srt.passphrases()), srt.encryption.as_ref().map(|e| e.key_length))
}

#[test]
fn an_srt_listener_takes_those_who_are_meant() {
    let plan = srt_plan();
    let source = &plan.sources["venue-a"];
    let srt = source.srt().unwrap();
    let mode = SrtMode::Listener {
        bind: ":5000".parse().unwrap(),
        allow: Some(vec!["203.0.113.10/32".parse().unwrap()]),
        stream_id: Some(StreamIdPattern::new("live/venue-a").unwrap()),
        max_callers: 1,
    };
    assert_eq!((&srt.mode, srt.latency), (&mode, Duration::from_millis(400)));
    assert_eq!(keys(srt), (vec![("venue-a", "correct horse battery")], Some(KeyLength::Aes256)));
    assert_eq!(source.interface, Some(Interface::Name("eth1".into())));
    assert_eq!((source.protocol_name(), source.is_rtp(), source.place()), ("srt-listener", false, ":5000".into()));

    let output = &plan.outputs["affiliates"];
    let srt = output.srt().unwrap();
    let SrtMode::Listener { max_callers, stream_id, .. } = &srt.mode else { panic!("{srt:?}") };
    assert_eq!((*max_callers, stream_id.as_ref().unwrap().as_str()), (100, "affiliate/*"));
    assert_eq!(keys(srt).1, Some(KeyLength::Aes192));
    assert_eq!((output.ttl, output.dscp.value(), srt.latency), (Some(32), 34, Duration::from_millis(20)));
}

#[test]
fn an_srt_caller_offers_the_newest_passphrase_and_takes_the_others() {
    let plan = srt_plan();
    let srt = plan.sources["venue-b"].srt().unwrap();
    let mode = SrtMode::Caller {
        local: Some("192.0.2.10:5001".parse().unwrap()),
        remote: "venue-b.example.net:5000".parse().unwrap(),
        stream_id: Some("#!::r=live/venue-b,m=request".into()),
        entitled: None,
    };
    assert_eq!((&srt.mode, srt.latency), (&mode, Duration::from_millis(120)));
    let both = vec![("venue-a-new", "another passphrase"), ("venue-a", "correct horse battery")];
    assert_eq!(keys(srt), (both, Some(KeyLength::Aes128)));

    let output = plan.outputs["cloud"].srt().unwrap();
    let SrtMode::Caller { local, .. } = &output.mode else { panic!("{output:?}") };
    assert_eq!((*local, output.mode.bind()), (Some(":6000".parse().unwrap()), Some(":6000".parse().unwrap())));
    assert_eq!(plan.outputs["cloud"].place(), "ingest.example.net:5000");
}

#[test]
fn an_srt_rendezvous_has_two_addresses_and_srt_without_a_passphrase_is_in_clear() {
    let plan = srt_plan();
    let srt = plan.sources["venue-c"].srt().unwrap();
    let (bind, remote) = (":5002".parse().unwrap(), "[2001:db8::7]:5002".parse().unwrap());
    assert_eq!(srt.mode, SrtMode::Rendezvous { bind, remote });
    assert_eq!(srt.encryption, None);
    let open = plan.outputs["monitor"].srt().unwrap();
    let SrtMode::Listener { allow, stream_id, max_callers, .. } = &open.mode else { panic!("{open:?}") };
    assert_eq!((allow, stream_id, *max_callers), (&None, &None, 16));
}

#[test]
fn latency_is_in_whole_milliseconds() {
    let of = |written: &str| {
        let text = format!(
            "[sources.in]\nprotocol = \"srt-caller\"\nremote = \"a:1\"\nlatency = \"{written}\"\n\n[outputs]\n"
        );
        plan(&text).sources["in"].srt().unwrap().latency
    };
    assert_eq!(of("20ms 1us"), Duration::from_millis(21));
    assert_eq!([of("20ms"), of("30s")], [Duration::from_millis(20), Duration::from_secs(30)]);
}

#[test]
fn no_plan_shows_a_key() {
    for case in ["valid-srt", "valid-rist"] {
        let shown = format!("{:?}", keyed_plan(case));
        assert!(shown.contains("KeyFile(\"venue-a-new\")"));
        for word in ["correct", "horse", "battery", "another"] {
            assert!(!shown.contains(word), "{shown}");
        }
    }
}

#[test]
fn a_rist_source_has_two_ports_of_the_simple_profile_and_one_of_the_main_one() {
    let plan = keyed_plan("valid-rist");
    let source = &plan.sources["venue-a"];
    let simple = RistInput {
        bind: ":5000".parse().unwrap(),
        multicast_sources: Vec::new(),
        allow: Some(vec!["203.0.113.10/32".parse().unwrap()]),
        latency: Duration::from_secs(1),
        profile: RistProfile::Simple,
    };
    assert_eq!(source.rist(), Some(&simple));
    assert_eq!(simple.ports().collect::<Vec<_>>(), [(Stream::Media, 5000), (Stream::Rtcp, 5001)]);
    assert_eq!((source.protocol_name(), source.is_rtp(), source.place()), ("rist", true, ":5000".into()));
    assert_eq!(source.interface, Some(Interface::Name("eth1".into())));

    let group = plan.sources["venue-b"].rist().unwrap();
    assert_eq!(group.multicast_sources, ["203.0.113.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((&group.allow, group.latency), (&None, Duration::from_millis(10)));

    let main = plan.sources["venue-c"].rist().unwrap();
    assert_eq!(main.ports().collect::<Vec<_>>(), [(Stream::Media, 65535)]);
    assert_eq!(main.latency, Duration::from_secs(30));
    let both = [("venue-a-new", "another passphrase"), ("venue-a", "correct horse battery")];
    assert_eq!(shown(main.profile.passphrases()), both);
    assert_eq!(main.profile.encryption().unwrap().key_length, psk::KeyLength::Aes256);
}

#[test]
fn a_rist_output_has_legs_or_one_destination_and_may_have_a_port_and_a_passphrase() {
    let plan = keyed_plan("valid-rist");
    let output = &plan.outputs["affiliate"];
    let rist = output.rist().unwrap();
    assert_eq!((&rist.legs, &rist.profile, rist.latency), (&Vec::new(), &RistProfile::Simple, Duration::from_secs(2)));
    assert_eq!(rist.source_ports().collect::<Vec<_>>(), [(Stream::Media, 7000), (Stream::Rtcp, 7001)]);
    assert_eq!((output.ttl, output.dscp.value(), output.header()), (Some(32), 34, None));
    assert_eq!((output.protocol_name(), output.place()), ("rist", "198.51.100.7:5000".into()));

    let bonded = &plan.outputs["bonded"];
    let interface = |name: &str| Some(Interface::Name(name.into()));
    assert_eq!(
        bonded.paths().map(|(to, on)| (to.to_string(), on.cloned())).collect::<Vec<_>>(),
        ["eth1", "eth3"].map(|name| ("198.51.100.7:5002".to_owned(), interface(name)))
    );
    assert_eq!(bonded.rist().unwrap().legs, bonded.legs());
    assert_eq!(bonded.rist().unwrap().source_ports().count(), 0);

    let cloud = plan.outputs["cloud"].rist().unwrap();
    assert_eq!(cloud.source_ports().collect::<Vec<_>>(), [(Stream::Media, 65534)]);
    assert_eq!(shown(cloud.profile.passphrases()), [("venue-a", "correct horse battery")]);
    assert_eq!(cloud.profile.encryption().unwrap().key_length, psk::KeyLength::Aes128);
    assert_eq!(plan.outputs["open"].rist().unwrap().profile, RistProfile::Main { encryption: None });
}
