use std::collections::BTreeMap;

use super::checks::judge;
use super::host::{Card, Host, descriptor_limit, igmp_versions, routes};
use super::needs::Needs;
use super::*;
use crate::config::parse_flow;
use crate::config::plan::{DaemonPlan, EntitlementPort};
use crate::config::ports::LocalPorts;
use crate::config::secrets::Secrets;
use crate::io::links::{Link, Links, ReceiveRing};

const FLOW: &str = "
[sources.leg-1]
protocol = 'rtp-fec'
bind = '239.1.1.1:5000'
interface = 'eth1'
multicast-sources = ['10.1.0.5', '10.1.0.6']
[sources.leg-2]
protocol = 'rtp'
bind = '239.1.1.2:5000'
interface = 'eth2'
[sources.unicast]
protocol = 'rist'
bind = '10.3.0.1:40000'
allow = ['10.0.0.0/8']
[failover]
mode = 'merge'
[outputs.all]
protocol = 'udp'
destination = '239.2.2.2:6000'
interface = 'eth1'
[outputs.srt]
protocol = 'srt-listener'
bind = ':7000'
allow = ['10.0.0.0/8']
";

fn needs(text: &str) -> Needs {
    let name = "news".parse().unwrap();
    let (plan, faults) =
        parse_flow(&name, "news.toml".as_ref(), text.as_bytes(), &DaemonPlan::default(), &Secrets::none());
    Needs::of(&[plan.unwrap_or_else(|| panic!("{faults:?}"))], None)
}

fn link(index: u32) -> Link {
    Link { index, up: true, running: true, addresses: Vec::new() }
}

/// 10.1.0.0/16 by eth1, all else by eth0.
const ROUTES: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                      eth0 00000000 0100000A 0003 0 0 100 00000000 0 0 0\n\
                      eth1 0000010A 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
                      eth2 0005010A 00000000 0200 0 0 0 00FFFFFF 0 0 0\n";

/// A host on which all is well.
fn fit() -> Host {
    let card = Card {
        reverse_path: 2,
        forced_igmp: 0,
        igmp: Some(3),
        ring: Some(ReceiveRing { slots: 4096, most: 4096 }),
        missed: 0,
    };
    let names = ["eth0", "eth1", "eth2"].map(str::to_owned);
    Host {
        receive_buffer: Some(16 << 20),
        send_buffer: Some(16 << 20),
        memberships: Some(20),
        senders: Some(10),
        senders_v6: Some(64),
        local_ports: LocalPorts::parse("50000\t60999\n", "\n"),
        reserved_ports: String::new(),
        links: names.iter().cloned().zip((1..).map(link)).collect(),
        cards: names.into_iter().map(|name| (name, card.clone())).collect(),
        routes: routes(ROUTES),
        clock_synchronised: true,
        descriptors: Some(1024),
    }
}

/// What is not as it should be after a change of the host: check, verdict and command of each.
fn wrong(change: impl FnOnce(&mut Host)) -> Vec<(&'static str, Verdict, String)> {
    let mut host = fit();
    change(&mut host);
    let findings = judge(&needs(FLOW), &host).into_iter().filter(|finding| finding.verdict != Verdict::Ok);
    findings.map(|finding| (finding.check, finding.verdict, finding.fix)).collect()
}

fn card<'a>(host: &'a mut Host, name: &str) -> &'a mut Card {
    host.cards.get_mut(name).unwrap()
}

#[test]
fn needs_are_those_of_the_plans() {
    let needs = needs(FLOW);
    assert_eq!((needs.sources, needs.outputs), (3, 2));
    let joins: Vec<_> = needs.joins.iter().map(|join| (join.who.as_str(), join.senders.len())).collect();
    assert_eq!(joins, [("news/leg-1", 2), ("news/leg-2", 0)]);
    // FEC's too, and RTCP's.
    assert_eq!(needs.ports.keys().copied().collect::<Vec<_>>(), [5000, 5002, 5004, 7000, 40000, 40001]);
    assert_eq!(needs.interfaces.len(), 2);
    assert_eq!(needs.descriptors, 256 + 3 + 1 + 2 + 2);
    let rist = "[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:5000'\n\
                [outputs.b]\nprotocol = 'rist'\ndestination = '239.3.3.3:6000'\n";
    assert_eq!(super::tests::needs(rist).joins.len(), 1, "what receivers miss comes by the group");
}

#[test]
fn a_fit_host_has_nothing_to_mend() {
    assert_eq!(wrong(|_| ()), []);
    // Without flows only what concerns the daemon itself is looked at.
    let checks: Vec<_> = judge(&Needs::of([], None), &fit()).into_iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["clock", "descriptors"]);
}

#[test]
fn each_fault_is_found_with_the_command_that_mends_it() {
    use Verdict::{Problem, Unknown, Warning};
    let one = |check, verdict, fix: &str| vec![(check, verdict, fix.to_owned())];
    assert_eq!(
        wrong(|host| host.receive_buffer = Some(212_992)),
        one("receive-buffer", Problem, "sysctl -w net.core.rmem_max=16777216")
    );
    assert_eq!(
        wrong(|host| host.send_buffer = Some(212_992)),
        one("send-buffer", Problem, "sysctl -w net.core.wmem_max=4194304")
    );
    assert_eq!(
        wrong(|host| host.receive_buffer = None),
        one("receive-buffer", Unknown, "sysctl net.core.rmem_max    # on the host of this container")
    );
    assert_eq!(
        wrong(|host| host.memberships = Some(0)),
        one("igmp-memberships", Problem, "sysctl -w net.ipv4.igmp_max_memberships=1")
    );
    assert_eq!(wrong(|host| host.senders = Some(1)), one("igmp-senders", Problem, "sysctl -w net.ipv4.igmp_max_msf=2"));
    assert_eq!(wrong(|host| host.senders_v6 = Some(0)), [], "no flow joins over IPv6");
    let chrony = "apt install chrony    # or: timedatectl set-ntp true";
    assert_eq!(wrong(|host| host.clock_synchronised = false), one("clock", Warning, chrony));
    let limit = wrong(|host| host.descriptors = Some(263));
    assert_eq!((limit[0].0, limit[0].1), ("descriptors", Problem));
    assert_eq!(wrong(|host| host.descriptors = Some(264)), []);
}

#[test]
fn interfaces_must_be_there_up_and_connected() {
    let changed = |change: fn(&mut Link)| {
        let mut eth2 = link(3);
        change(&mut eth2);
        wrong(|host| {
            let others = host.links.iter().filter(|(name, _)| *name != "eth2");
            let links = others.map(|(name, link)| (name.to_owned(), link.clone()));
            host.links = links.chain([("eth2".to_owned(), eth2)]).collect();
        })
    };
    assert_eq!(changed(|link| link.up = false), [("interface", Verdict::Problem, "ip link set eth2 up".to_owned())]);
    assert_eq!(changed(|link| link.running = false)[0].1, Verdict::Problem);
    let missing = wrong(|host| host.links = Links::default());
    assert_eq!(missing.iter().filter(|(check, ..)| *check == "interface").count(), 2);
}

#[test]
fn a_group_without_interface_is_joined_where_its_route_leads() {
    let needs = needs("[sources.a]\nprotocol = 'udp'\nbind = '239.1.1.1:5000'\n");
    let mut host = fit();
    card(&mut host, "eth0").reverse_path = 1;
    let of_eth0 = |findings: &[Finding]| findings.iter().any(|finding| finding.subject == "rp_filter of eth0");
    assert!(of_eth0(&judge(&needs, &host)));
    host.routes.clear();
    let findings = judge(&needs, &host);
    let missing = findings.iter().find(|finding| finding.verdict == Verdict::Problem).unwrap();
    assert_eq!((missing.check, missing.subject.as_str()), ("interface", "the route to 239.1.1.1"));
}

#[test]
fn a_strict_filter_is_a_problem_for_senders_that_are_routed_elsewhere() {
    let strict = |name: &'static str| move |host: &mut Host| card(host, name).reverse_path = 1;
    let fix = |name| format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
    let check = "reverse-path-filter";
    // The senders are not known, or known to be behind it.
    assert_eq!(wrong(strict("eth2")), [(check, Verdict::Warning, fix("eth2"))]);
    assert_eq!(wrong(strict("eth1")), [(check, Verdict::Warning, fix("eth1"))]);
    let elsewhere = wrong(|host| {
        strict("eth1")(host);
        host.routes.retain(|route| route.interface == "eth0");
    });
    assert_eq!(elsewhere, [(check, Verdict::Problem, fix("eth1"))]);
    assert_eq!(wrong(|host| card(host, "eth1").reverse_path = 0), []);
}

#[test]
fn chosen_senders_need_igmp_version_3() {
    let forced = wrong(|host| card(host, "eth1").forced_igmp = 2);
    let fix = "sysctl -w net.ipv4.conf.all.force_igmp_version=0 net.ipv4.conf.eth1.force_igmp_version=0";
    assert_eq!(forced, [("igmp-version", Verdict::Problem, fix.to_owned())]);
    let heard = wrong(|host| card(host, "eth1").igmp = Some(2));
    assert_eq!((heard[0].0, heard[0].1), ("igmp-version", Verdict::Warning));
    assert_eq!(wrong(|host| card(host, "eth2").igmp = Some(2)), [], "there any sender is wanted");
}

#[test]
fn ports_that_the_system_hands_out_are_to_be_reserved_beside_those_that_are() {
    let found = wrong(|host| {
        host.local_ports = LocalPorts::parse("32768 60999", "33000-33001");
        host.reserved_ports = "33000-33001".to_owned();
    });
    let fix = "sysctl -w net.ipv4.ip_local_reserved_ports=33000-33001,40000,40001";
    assert_eq!(found, [("local-ports", Verdict::Warning, fix.to_owned())]);
    assert_eq!(wrong(|host| host.local_ports = LocalPorts::parse("32768 60999", "40000-40001")), []);
}

#[test]
fn the_port_at_which_subscribers_call_counts_too() {
    let desk = EntitlementPort { bind: "[::]:55000".parse().unwrap(), interface: Some("eth9".parse().unwrap()) };
    let findings = judge(&Needs::of([], Some(&desk)), &fit());
    let wrong = findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
    assert!(wrong.clone().any(|finding| finding.fix.ends_with("reserved_ports=55000")), "{findings:?}");
    assert!(wrong.clone().any(|finding| finding.subject.contains("eth9")), "{findings:?}");
}

#[test]
fn a_ring_that_was_full_or_is_small_is_to_grow_as_far_as_it_can() {
    let ring = |slots, most, missed| {
        wrong(move |host| {
            let card = card(host, "eth1");
            (card.ring, card.missed) = (Some(ReceiveRing { slots, most }), missed);
        })
    };
    let fix = "ethtool -G eth1 rx 4096".to_owned();
    assert_eq!(ring(256, 4096, 0), [("receive-ring", Verdict::Warning, fix.clone())]);
    assert_eq!(ring(1024, 4096, 0), []);
    assert_eq!(ring(2048, 4096, 7), [("receive-ring", Verdict::Problem, fix)]);
    assert_eq!(ring(256, 256, 0), [], "it can't grow");
    assert_eq!(ring(4096, 4096, 7)[0].1, Verdict::Warning);
}

#[test]
fn the_kernel_s_tables_are_read() {
    let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
                2\teth1      :     3      V2\n\t\t\t\t0101A8EF     1 0:00000000\t\t0\n";
    assert_eq!(igmp_versions(igmp), BTreeMap::from([("lo".to_owned(), 3), ("eth1".to_owned(), 2)]));
    let host = fit();
    assert_eq!(host.route_to([10, 1, 9, 9].into()), Some("eth1"));
    assert_eq!(host.route_to([239, 1, 1, 1].into()), Some("eth0"));
    assert_eq!(host.routes.len(), 2, "one that rejects leads nowhere");
    let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                  Max open files            1024                 1048576              files\n";
    assert_eq!(descriptor_limit(limits), Some(1024));
    assert_eq!(descriptor_limit(&limits.replace("1024 ", "unlimited ")), Some(u64::MAX));
    assert_eq!(descriptor_limit(""), None);
}

#[test]
fn this_host_can_be_read() {
    let host = Host::read("/nonexistent".as_ref());
    assert!(host.links.iter().any(|(name, _)| name == "lo") && host.cards.contains_key("lo"));
    assert!(host.memberships.is_some() && host.descriptors.is_some());
    assert_eq!(host.cards["lo"].ring, None);
}

#[test]
fn what_is_printed_names_figure_need_loss_and_command() {
    let mut host = fit();
    host.receive_buffer = Some(212_992);
    let findings = judge(&needs("[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:5000'\n"), &host);
    assert_eq!(
        render(&findings, Style { colour: false }),
        "problem  net.core.rmem_max is 212992; the sockets of 1 source ask for 16777216\n\
         \x20        a burst, or a moment without CPU, costs packets\n\
         \x20        fix: sysctl -w net.core.rmem_max=16777216\n\
         ok       net.ipv4.ip_local_port_range is 50000 to 60999; 1 port of flows outside of it, or reserved\n\
         ok       the receive ring of eth0 is 4096 of 4096 slots, 0 datagrams missed; 1024 slots, and none missed\n\
         ok       the clock is synchronised; logs, alarms and expiry go by it\n\
         ok       the limit of open files is 1024; at most 257 are open\n\
         \n\
         sysctl -w holds until the next boot. For good: put NAME = VALUE into a file of /etc/sysctl.d.\n"
    );
}
