use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Context;
use crate::config::plan::{ContentPlan, LegPlan, ReturnMode, SrtMode, SwitchOn};
use crate::config::secrets::Secrets;
use crate::config::testing::write_key;
use crate::config::value::{Bind, Bitrate, Dscp, FlowName, Gather};
use crate::proto::fec2022_1::matrix::Matrix;

fn flow() -> FlowPlan {
    let text = "[sources.in]\nprotocol = \"rtp\"\nbind = \"127.0.0.1:5000\"\n\n[outputs.one]\nprotocol = \"udp\"\ndestination = \"198.51.100.7:5000\"\n\n[outputs.two]\nprotocol = \"rtp\"\ndestination = \"198.51.100.7:5002\"\n";
    let name: FlowName = "news".parse().unwrap();
    let (plan, _) = crate::config::parse_flow(
        &name,
        "news.toml".as_ref(),
        text.as_bytes(),
        &DaemonPlan::default(),
        &Secrets::none(),
    );
    plan.unwrap()
}

fn source(plan: &mut FlowPlan) -> &mut SourcePlan {
    plan.sources.get_mut("in").unwrap()
}

fn input(plan: &mut FlowPlan) -> &mut DatagramInput {
    let SourceInput::Datagrams(input) = &mut source(plan).input else { panic!("not received in datagrams") };
    input
}

fn route<'p>(plan: &'p mut FlowPlan, name: &str) -> &'p mut DatagramRoute {
    let OutputRoute::Datagrams(route) = &mut output(plan, name).route else { panic!("not sent in datagrams") };
    route
}

fn output<'p>(plan: &'p mut FlowPlan, name: &str) -> &'p mut OutputPlan {
    plan.outputs.get_mut(name).unwrap()
}

/// `change: source in reopen [bind]; output two in-place [ttl dscp]`
pub(super) fn told(change: Option<Change>) -> String {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let Some(change) = change else { return "nothing".into() };
    let touches: Vec<_> = change
        .touches
        .iter()
        .map(|t| {
            let (kind, effect) = (serde_json::to_value(t.kind).unwrap(), serde_json::to_value(t.effect).unwrap());
            format!("{} {} {} [{}]", word(kind), t.name, word(effect), t.because.join(" "))
        })
        .collect();
    format!("{}: {}", word(serde_json::to_value(change.action).unwrap()), touches.join("; "))
}

fn after(edit: impl Fn(&mut FlowPlan)) -> String {
    let mut new = flow();
    edit(&mut new);
    told(diff_flow(Some(&flow()), Some(&new)))
}

#[test]
fn a_flow_starts_and_stops_with_its_enabled_parts() {
    let mut plan = flow();
    output(&mut plan, "two").enabled = false;
    assert_eq!(told(diff_flow(None, Some(&plan))), "start: source in open []; output one open []");
    assert_eq!(told(diff_flow(Some(&plan), None)), "stop: source in close []; output one close []");
    let mut off = plan.clone();
    off.enabled = false;
    assert_eq!(told(diff_flow(None, Some(&off))), "start: ");
    assert_eq!(told(diff_flow(Some(&off), None)), "stop: ");
    assert_eq!(told(diff_flow(Some(&off), Some(&plan))), "start: source in open [enabled]; output one open [enabled]");
    assert_eq!(told(diff_flow(Some(&plan), Some(&off))), "stop: source in close [enabled]; output one close [enabled]");
}

#[test]
fn some_keys_of_a_source_change_while_it_runs() {
    assert_eq!(after(|p| input(p).allow = Some(vec![])), "change: source in in-place [allow]");
    assert_eq!(
        after(|p| source(p).max_bitrate = Some(Bitrate::from_bps(1))),
        "change: source in in-place [max-bitrate]"
    );
    assert_eq!(after(|p| source(p).description = "x".into()), "change: source in in-place [description]");
    assert_eq!(
        after(|p| input(p).protocol = SourceProtocol::Rtp { reorder_window: Duration::ZERO }),
        "change: source in in-place [reorder-window]"
    );
}

#[test]
fn the_others_open_the_source_again_and_nothing_else() {
    assert_eq!(after(|p| input(p).bind.port = 1), "change: source in reopen [bind]");
    assert_eq!(after(|p| input(p).protocol = SourceProtocol::Udp), "change: source in reopen [protocol]");
    assert_eq!(
        after(|p| source(p).interface = Some(Interface::Name("eth1".into()))),
        "change: source in reopen [interface]"
    );
    assert_eq!(
        after(|p| {
            input(p).multicast_sources = vec![IpAddr::from([203, 0, 113, 7])];
            input(p).allow = Some(vec![]);
        }),
        "change: source in reopen [multicast-sources allow]"
    );
}

#[test]
fn some_keys_of_an_output_change_while_it_runs() {
    assert_eq!(
        after(|p| {
            output(p, "one").ttl = Some(3);
            output(p, "one").dscp = Dscp::new(46).unwrap();
        }),
        "change: output one in-place [ttl dscp]"
    );
    assert_eq!(after(|p| output(p, "two").description = "x".into()), "change: output two in-place [description]");
}

#[test]
fn the_others_open_the_output_again_and_nothing_else() {
    assert_eq!(after(|p| route(p, "one").destination.port = 1), "change: output one reopen [destination]");
    assert_eq!(after(|p| route(p, "one").source_port = Some(1)), "change: output one reopen [source-port]");
    assert_eq!(
        after(|p| route(p, "one").protocol = OutputProtocol::Udp { datagram_packets: Some(1) }),
        "change: output one reopen [datagram-packets]"
    );
    assert_eq!(
        after(|p| route(p, "two").protocol = OutputProtocol::Rtp(RtpHeader::Passthrough)),
        "change: output two reopen [header]"
    );
    assert_eq!(
        after(|p| {
            route(p, "two").protocol = OutputProtocol::Rtp(RtpHeader::Regenerate { payload_type: 96, ssrc: Some(1) });
        }),
        "change: output two reopen [payload-type ssrc]"
    );
}

#[test]
fn parts_come_and_go_by_themselves() {
    assert_eq!(after(|p| _ = p.outputs.remove("one")), "change: output one close []");
    let three = output(&mut flow(), "one").clone();
    assert_eq!(after(|p| _ = p.outputs.insert("three".into(), three.clone())), "change: output three open []");
    assert_eq!(after(|p| output(p, "one").enabled = false), "change: output one close [enabled]");
    assert_eq!(after(|p| source(p).enabled = false), "change: source in close [enabled]");
}

#[test]
fn nothing_is_opened_in_a_flow_or_part_that_is_off() {
    let mut old = flow();
    output(&mut old, "one").enabled = false;
    let mut new = old.clone();
    route(&mut new, "one").destination.port = 1;
    assert_eq!(told(diff_flow(Some(&old), Some(&new))), "change: output one in-place [destination]");
    let (mut old, mut new) = (flow(), flow());
    (old.enabled, new.enabled) = (false, false);
    input(&mut new).bind.port = 1;
    new.outputs.remove("two");
    assert_eq!(told(diff_flow(Some(&old), Some(&new))), "change: source in in-place [bind]; output two in-place []");
}

/// What it takes from the flow after `first` to the one after `second`.
fn between(first: impl Fn(&mut FlowPlan), second: impl Fn(&mut FlowPlan)) -> String {
    let (mut old, mut new) = (flow(), flow());
    first(&mut old);
    second(&mut new);
    told(diff_flow(Some(&old), Some(&new)))
}

fn fec_source(window: u64, fec_ports: [u16; 2]) -> impl Fn(&mut FlowPlan) {
    move |p| input(p).protocol = SourceProtocol::RtpFec { reorder_window: Duration::from_millis(window), fec_ports }
}

#[test]
fn the_ports_of_fec_open_the_source_again_and_its_window_does_not() {
    let old = || fec_source(50, [2, 4]);
    assert_eq!(between(old(), fec_source(60, [2, 4])), "change: source in in-place [reorder-window]");
    assert_eq!(between(old(), fec_source(50, [2, 6])), "change: source in reopen [fec-ports]");
    assert_eq!(between(old(), fec_source(60, [4, 2])), "change: source in reopen [reorder-window fec-ports]");
    assert_eq!(between(|_| {}, old()), "change: source in reopen [protocol]");
}

fn fec_output(header: RtpHeader, columns: u64) -> impl Fn(&mut FlowPlan) {
    let matrix = Matrix::new(columns, 5, true).unwrap();
    move |p| route(p, "two").protocol = OutputProtocol::RtpFec { header, matrix }
}

#[test]
fn the_matrix_the_header_and_the_legs_open_the_output_again() {
    let regenerate = RtpHeader::Regenerate { payload_type: 33, ssrc: None };
    let other_type = RtpHeader::Regenerate { payload_type: 96, ssrc: None };
    let old = || fec_output(regenerate, 5);
    assert_eq!(between(|_| {}, old()), "change: output two reopen [protocol]");
    assert_eq!(between(old(), fec_output(regenerate, 6)), "change: output two reopen [fec]");
    assert_eq!(between(old(), fec_output(RtpHeader::Passthrough, 5)), "change: output two reopen [header]");
    assert_eq!(between(old(), fec_output(other_type, 6)), "change: output two reopen [payload-type fec]");
    let legs = |second: &'static str| {
        move |p: &mut FlowPlan| {
            let leg = |to: &str| LegPlan { destination: to.parse().unwrap(), interface: None };
            route(p, "two").legs = vec![leg("10.0.0.1:5000"), leg(second)];
            route(p, "two").destination = leg("10.0.0.1:5000").destination;
        }
    };
    assert_eq!(between(|_| {}, legs("10.0.0.2:5000")), "change: output two reopen [legs]");
    assert_eq!(between(legs("10.0.0.2:5000"), legs("10.0.0.3:5000")), "change: output two reopen [legs]");
    assert_eq!(between(legs("10.0.0.2:5000"), |_| {}), "change: output two reopen [legs]");
}

#[test]
fn smoothing_changes_while_the_output_runs() {
    let smooth = |ms| move |p: &mut FlowPlan| route(p, "one").smoothing = Some(Duration::from_millis(ms));
    assert_eq!(after(smooth(100)), "change: output one in-place [smoothing]");
    assert_eq!(between(smooth(100), smooth(200)), "change: output one in-place [smoothing]");
    assert_eq!(between(smooth(100), |_| {}), "change: output one in-place [smoothing]");
}

fn merge(ms: u64) -> impl Fn(&mut FlowPlan) {
    move |p| p.failover = Some(FailoverPlan::Merge { recovery_window: Duration::from_millis(ms) })
}

fn failover(rules: FailoverRules) -> impl Fn(&mut FlowPlan) {
    move |p| p.failover = Some(FailoverPlan::Failover(rules.clone()))
}

#[test]
fn the_rules_of_failover_and_merge_change_in_place() {
    let rules = FailoverRules::default;
    assert_eq!(between(merge(200), merge(300)), "change: flow news in-place [failover.recovery-window]");
    let primary = failover(FailoverRules { primary: Some("in".into()), ..rules() });
    assert_eq!(between(failover(rules()), primary), "change: flow news in-place [failover.primary]");
    let many = FailoverRules {
        return_mode: ReturnMode::Manual,
        hold: Duration::ZERO,
        switch_on: SwitchOn { silence: None, ..SwitchOn::default() },
        ..rules()
    };
    assert_eq!(
        between(failover(rules()), failover(many)),
        "change: flow news in-place [failover.return failover.hold failover.switch-on]"
    );
    // One source alone is passed on either way.
    assert_eq!(after(failover(rules())), "change: flow news in-place [failover.mode]");
    assert_eq!(between(failover(rules()), |_| {}), "change: flow news in-place [failover.mode]");
}

#[test]
fn between_merge_and_failover_nothing_is_opened_anew() {
    let in_place = "change: flow news in-place [failover.mode]";
    assert_eq!(after(merge(200)), in_place);
    assert_eq!(between(merge(200), |_| {}), in_place);
    assert_eq!(between(merge(200), failover(FailoverRules::default())), in_place);
    assert_eq!(between(failover(FailoverRules::default()), merge(200)), in_place);
}

#[test]
fn a_source_joins_and_leaves_a_merge_alone() {
    let both = |p: &mut FlowPlan| {
        merge(200)(p);
        let first = source(p).clone();
        input(p).bind = Bind { ip: None, port: 5002 };
        let second = std::mem::replace(source(p), first);
        p.sources.insert("second".into(), second);
    };
    assert_eq!(between(merge(200), both), "change: source second open []");
    assert_eq!(between(both, merge(200)), "change: source second close []");
}

#[test]
fn what_belongs_to_the_flow_changes_in_place() {
    assert_eq!(
        after(|p| {
            p.description = "x".into();
            p.gather = Gather::For(Duration::ZERO);
            p.tags.insert("a".into(), "b".into());
            p.analyse = false;
            p.thumbnails = Some(Duration::from_secs(5));
            p.content = Some(ContentPlan::default());
        }),
        "change: flow news in-place [description gather tags monitoring.transport-stream monitoring.thumbnails \
         monitoring.content]"
    );
}

#[test]
fn only_the_workers_need_a_restart() {
    let old = DaemonPlan::default();
    assert_eq!(diff_daemon(&old, &old), []);
    let mut new = old.clone();
    new.log.level = "debug".into();
    new.http.listen.clear();
    new.control.readers = Some("video".into());
    new.networks.insert("media".into(), Interface::Name("eth1".into()));
    new.gather = Gather::For(Duration::ZERO);
    new.limits = Limits { max_flows: 1, max_outputs_per_flow: 1, workers: 1, worker_cpus: "0-1".parse().unwrap() };
    let told: Vec<_> = diff_daemon(&old, &new)
        .into_iter()
        .map(|t| {
            format!("{}{} [{}]", t.name, if t.effect == Effect::Restart { " restart" } else { "" }, t.because.join(" "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "log [level]",
            "http [listen]",
            "control [readers]",
            "networks.media [interface]",
            "defaults [gather]",
            "limits [max-flows max-outputs-per-flow]",
            "limits restart [workers worker-cpus]",
        ]
    );
}

fn any_flow() -> impl Strategy<Value = FlowPlan> {
    let source =
        (any::<bool>(), 1u16..4, any::<bool>(), prop::option::of(1u64..3)).prop_map(|(enabled, port, rtp, rate)| {
            let mut plan = flow().sources.remove("in").unwrap();
            plan.enabled = enabled;
            plan.max_bitrate = rate.map(Bitrate::from_bps);
            let SourceInput::Datagrams(input) = &mut plan.input else { panic!("it is RTP") };
            input.bind = Bind { ip: None, port };
            if !rtp {
                input.protocol = SourceProtocol::Udp;
            }
            plan
        });
    let output = (any::<bool>(), 1u16..4, prop::option::of(1u8..3)).prop_map(|(enabled, port, ttl)| {
        let mut plan = flow().outputs.remove("one").unwrap();
        plan.enabled = enabled;
        let OutputRoute::Datagrams(route) = &mut plan.route else { panic!("it is UDP") };
        route.destination.port = port;
        plan.ttl = ttl;
        plan
    });
    let sources = prop::collection::btree_map("[ab]", source, 0..3);
    let outputs = prop::collection::btree_map("[abc]", output, 0..4);
    let modes = [
        None,
        Some(FailoverPlan::Merge { recovery_window: Duration::from_millis(200) }),
        Some(FailoverPlan::Failover(FailoverRules::default())),
    ];
    (any::<bool>(), "[xy]", sources, prop::sample::select(modes.to_vec()), outputs).prop_map(
        |(enabled, description, sources, failover, outputs)| FlowPlan {
            enabled,
            description,
            sources,
            failover,
            outputs,
            ..flow()
        },
    )
}

proptest! {
    #[test]
    fn no_difference_is_no_change(plan in any_flow()) {
        prop_assert_eq!(diff_flow(Some(&plan), Some(&plan.clone())), None);
    }

    #[test]
    fn touches_are_exactly_the_parts_that_differ(old in any_flow(), new in any_flow()) {
        prop_assume!(old != new && old.enabled == new.enabled);
        let change = diff_flow(Some(&old), Some(&new)).unwrap();
        let touched: Vec<_> = change.touches.iter().map(|t| (t.kind, t.name.clone())).collect();
        let mut differ = Vec::new();
        if old.description != new.description || old.failover != new.failover {
            differ.push((Kind::Flow, "news".to_owned()));
        }
        for name in ["a", "b"].iter().filter(|n| old.sources.get(**n) != new.sources.get(**n)) {
            differ.push((Kind::Source, (*name).to_owned()));
        }
        for name in ["a", "b", "c"].iter().filter(|n| old.outputs.get(**n) != new.outputs.get(**n)) {
            differ.push((Kind::Output, (*name).to_owned()));
        }
        prop_assert_eq!(touched, differ);
    }

    #[test]
    fn what_is_open_afterwards_is_what_shall_be_open(old in any_flow(), new in any_flow()) {
        let open = |plan: &FlowPlan| {
            let sources = plan.sources.iter().filter(|(_, s)| plan.enabled && s.enabled);
            let outputs = plan.outputs.iter().filter(|(_, o)| plan.enabled && o.enabled);
            let sources = sources.map(|(n, _)| (Kind::Source, n.clone()));
            sources.chain(outputs.map(|(n, _)| (Kind::Output, n.clone()))).collect::<BTreeSet<_>>()
        };
        let mut is_open = open(&old);
        for touch in diff_flow(Some(&old), Some(&new)).into_iter().flat_map(|c| c.touches) {
            let part = (touch.kind, touch.name);
            match touch.effect {
                Effect::Open => prop_assert!(is_open.insert(part)),
                Effect::Close => prop_assert!(is_open.remove(&part)),
                Effect::Reopen => prop_assert!(is_open.contains(&part)),
                Effect::InPlace => {}
                Effect::Restart => prop_assert!(false),
            }
        }
        prop_assert_eq!(is_open, open(&new));
    }
}

/// Keys of a configuration directory, by name and text.
pub(super) fn keys(keys: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    keys.iter().for_each(|(name, text)| write_key(dir.path(), name, text));
    dir
}

/// A flow whose source and output `listens` are called, and whose source and output `calls` call, with these lines more.
fn srt_flow(listens: &str, calls: &str, keys: &tempfile::TempDir) -> FlowPlan {
    let text = format!(
        "failover.mode = \"failover\"\n\
         [sources.listens]\nprotocol = \"srt-listener\"\nbind = \"127.0.0.1:5000\"\n{listens}\n\
         [sources.calls]\nprotocol = \"srt-caller\"\nremote = \"203.0.113.7:5000\"\n{calls}\n\
         [outputs.listens]\nprotocol = \"srt-listener\"\nbind = \"127.0.0.1:7000\"\n{listens}\n\
         [outputs.calls]\nprotocol = \"srt-caller\"\ndestination = \"203.0.113.8:5000\"\n{calls}\n"
    );
    plan_of(&text, keys)
}

/// The flow that is written so.
pub(super) fn plan_of(text: &str, keys: &tempfile::TempDir) -> FlowPlan {
    let secrets = Secrets::new(keys.path(), &Context { credentials: None, ..Context::default() });
    let (name, daemon) = ("news".parse().unwrap(), DaemonPlan::default());
    let (plan, faults) = crate::config::parse_flow(&name, "news.toml".as_ref(), text.as_bytes(), &daemon, &secrets);
    plan.unwrap_or_else(|| panic!("{faults:?}\n{text}"))
}

/// What it takes from one flow to the other, each by the keys of the parts that listen and of those that call.
fn srt_between(old: (&str, &str), new: (&str, &str)) -> String {
    let keys = keys(&[("a", "passphrase a"), ("b", "passphrase b"), ("c", "passphrase c")]);
    told(diff_flow(Some(&srt_flow(old.0, old.1, &keys)), Some(&srt_flow(new.0, new.1, &keys))))
}

const ONE: &str = "passphrase-file = \"a\"";

#[test]
fn passphrases_come_go_and_change_places_while_connections_run() {
    let told =
        |part: &str, key: &str| format!("change: source {part} in-place [{key}]; output {part} in-place [{key}]");
    let files = "passphrase-files = [\"b\", \"a\"]";
    for (part, pick) in [("calls", false), ("listens", true)] {
        let of = |keys| if pick { (keys, "") } else { ("", keys) };
        let between = |old, new| srt_between(of(old), of(new));
        assert_eq!(between(ONE, files), told(part, "passphrase-files"), "added");
        assert_eq!(between(files, ONE), told(part, "passphrase-files"), "removed");
        assert_eq!(between(files, "passphrase-files = [\"a\", \"b\"]"), told(part, "passphrase-files"), "reordered");
        assert_eq!(between(ONE, "passphrase-file = \"c\""), told(part, "passphrase-file"), "changed");
        assert_eq!(between(ONE, ""), told(part, "passphrase-file"), "in clear from now on");
        assert_eq!(between("", "passphrase-file = \"a\"\nkey-length = 32"), told(part, "passphrase-file"), "no more");
        assert_eq!(between(ONE, "passphrase-files = [\"a\"]"), "nothing");
    }
}

#[test]
fn a_key_file_with_something_else_in_it_is_a_changed_passphrase() {
    let (old, same, new) =
        (keys(&[("a", "passphrase a")]), keys(&[("a", "passphrase a\n")]), keys(&[("a", "another one")]));
    let flow = |keys| srt_flow(ONE, "", keys);
    assert_eq!(told(diff_flow(Some(&flow(&old)), Some(&flow(&same)))), "nothing");
    assert_eq!(
        told(diff_flow(Some(&flow(&old)), Some(&flow(&new)))),
        "change: source listens in-place [passphrase-file]; output listens in-place [passphrase-file]"
    );
}

#[test]
fn a_changed_key_touches_only_the_parts_that_use_it() {
    let (old, new) =
        (keys(&[("a", "passphrase a"), ("b", "passphrase b")]), keys(&[("a", "passphrase a"), ("b", "passphrase B")]));
    let flow = |keys| srt_flow(ONE, "passphrase-file = \"b\"", keys);
    assert_eq!(
        told(diff_flow(Some(&flow(&old)), Some(&flow(&new)))),
        "change: source calls in-place [passphrase-file]; output calls in-place [passphrase-file]"
    );
}

#[test]
fn who_may_call_changes_while_connections_run() {
    let between = |old, new| srt_between((old, ""), (new, ""));
    assert_eq!(
        between("", "allow = [\"127.0.0.1\"]"),
        "change: source listens in-place [allow]; output listens in-place [allow]"
    );
    let with = |max_callers| {
        let mut plan = srt_flow("", "", &keys(&[]));
        let OutputRoute::Srt(srt) = &mut output(&mut plan, "listens").route else { panic!("it is SRT") };
        let SrtMode::Listener { max_callers: most, .. } = &mut srt.mode else { panic!("it listens") };
        *most = max_callers;
        output(&mut plan, "calls").ttl = Some(3);
        plan
    };
    assert_eq!(told(diff_flow(Some(&with(1)), Some(&with(2)))), "change: output listens in-place [max-callers]");
    assert_eq!(
        told(diff_flow(Some(&srt_flow("", "", &keys(&[]))), Some(&with(16)))),
        "change: output calls in-place [ttl]"
    );
    let mut policed = srt_flow("", "", &keys(&[]));
    policed.sources.get_mut("calls").unwrap().max_bitrate = Some(Bitrate::from_bps(1));
    assert_eq!(
        told(diff_flow(Some(&srt_flow("", "", &keys(&[]))), Some(&policed))),
        "change: source calls in-place [max-bitrate]"
    );
}

#[test]
fn the_terms_of_a_connection_open_it_again_and_no_other() {
    let listens = |old, new| srt_between((old, ""), (new, ""));
    let calls = |old, new| srt_between(("", old), ("", new));
    let told = |part: &str, key: &str| format!("change: source {part} reopen [{key}]; output {part} reopen [{key}]");
    let long = "passphrase-file = \"a\"\nkey-length = 32";
    for (key, old, new) in [
        ("latency", "", "latency = \"1s\""),
        ("stream-id", "", "stream-id = \"x\""),
        ("stream-id", "stream-id = \"x\"", "stream-id = \"y\""),
        ("key-length", ONE, long),
        ("interface", "", "interface = \"lo\""),
    ] {
        assert_eq!(listens(old, new), told("listens", key));
        assert_eq!(calls(old, new), told("calls", key));
    }
    assert_eq!(listens(ONE, "passphrase-file = \"b\"\nkey-length = 32"), told("listens", "passphrase-file key-length"));
}

/// The flow with another mode of the part `calls`.
fn calling(mode: SrtMode) -> FlowPlan {
    let mut plan = srt_flow("", "", &keys(&[]));
    let OutputRoute::Srt(srt) = &mut output(&mut plan, "calls").route else { panic!("it is SRT") };
    srt.mode = mode.clone();
    let SourceInput::Srt(srt) = &mut plan.sources.get_mut("calls").unwrap().input else { panic!("it is SRT") };
    srt.mode = mode;
    plan
}

#[test]
fn whom_it_calls_and_from_where_is_called_as_it_is_written() {
    let caller = |local: Option<u16>, remote: &str| SrtMode::Caller {
        local: local.map(|port| Bind { ip: None, port }),
        remote: remote.parse().unwrap(),
        stream_id: None,
        entitled: None,
    };
    let meet =
        |port, remote: &str| SrtMode::Rendezvous { bind: Bind { ip: None, port }, remote: remote.parse().unwrap() };
    let between = |old, new| told(diff_flow(Some(&calling(old)), Some(&calling(new))));
    assert_eq!(
        between(caller(None, "a:1"), caller(None, "b:1")),
        "change: source calls reopen [remote]; output calls reopen [destination]"
    );
    assert_eq!(
        between(caller(None, "a:1"), caller(Some(1), "a:1")),
        "change: source calls reopen [bind]; output calls reopen [source-port]"
    );
    assert_eq!(
        between(meet(1, "a:1"), meet(2, "b:1")),
        "change: source calls reopen [bind remote]; output calls reopen [bind remote]"
    );
    assert_eq!(
        between(caller(None, "a:1"), meet(1, "a:1")),
        "change: source calls reopen [protocol]; output calls reopen [protocol]"
    );
}

#[test]
fn from_srt_to_datagrams_only_the_protocol_is_named() {
    let mut new = srt_flow("", "", &keys(&[]));
    new.sources.insert("listens".into(), flow().sources.remove("in").unwrap());
    new.outputs.insert("listens".into(), flow().outputs.remove("one").unwrap());
    assert_eq!(
        told(diff_flow(Some(&srt_flow("", "", &keys(&[]))), Some(&new))),
        "change: source listens reopen [protocol]; output listens reopen [protocol]"
    );
}
