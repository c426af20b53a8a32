use std::time::Duration;

use crate::config::parse_flow;
use crate::config::plan::{
    DaemonPlan, DatagramRoute, FailoverPlan, FailoverRules, FlowPlan, LegPlan, OutputProtocol, ReturnMode, RtpHeader,
    SourceProtocol, Stream, SwitchOn,
};
use crate::config::secrets::Secrets;
use crate::config::value::{Bitrate, Interface};
use crate::proto::fec2022_1::matrix::Matrix;

fn plan(text: &str) -> FlowPlan {
    let name = "news".parse().unwrap();
    let daemon = DaemonPlan::default();
    let (plan, faults) = parse_flow(&name, "news.toml".as_ref(), text.as_bytes(), &daemon, &Secrets::none());
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
    let streams: Vec<_> = route(&plan, "columns-only").protocol.streams().collect();
    assert_eq!(streams, [(Stream::Media, 0), (Stream::ColumnFec, 2)]);
    assert_eq!(columns_only.header(), Some(RtpHeader::Passthrough));
}
