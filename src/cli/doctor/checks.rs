//! The judgements: what the flows need against what there is. No file is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::host::{Card, Host};
use super::needs::{Join, Needs};
use super::{Finding, Verdict};
use crate::config::value::Interface;
use crate::supervisor::resolve::{RECEIVE_BUFFER, SEND_BUFFER};

/// Fewer slots are soon full: of 1 Gbit/s they hold some 10 ms.
const RING_SLOTS: u32 = 1024;

/// All of them, in the order in which they are shown.
pub(super) fn judge(needs: &Needs, host: &Host) -> Vec<Finding> {
    let joined = joined(needs, host);
    let mut findings = Vec::new();
    findings.extend(buffers(needs, host));
    findings.extend(needs.interfaces.iter().map(|(wanted, who)| interface(wanted, who, host)));
    findings.extend(joined.unrouted);
    findings.extend(joined.by_interface.iter().map(|(name, joins)| reverse_path(name, joins, host)));
    findings.extend(joined.by_interface.iter().map(|(name, joins)| igmp_version(name, joins, host)));
    findings.extend(memberships(needs, host));
    findings.extend(senders(needs, host));
    findings.extend(ports(needs, host));
    findings.extend(rings(needs, host, joined.by_interface.keys()));
    findings.push(clock(host));
    findings.push(descriptors(needs, host));
    findings
}

/// A setting that must be at least `least`, or why it can't be judged.
fn setting(check: &'static str, name: &str, found: Option<u64>, least: u64, why: String, loss: &str) -> Finding {
    let finding = Finding { check, subject: name.to_owned(), needed: why, ..Finding::default() };
    match found {
        Some(found) if found >= least => Finding { found: found.to_string(), ..finding },
        Some(found) => Finding {
            verdict: Verdict::Problem,
            found: found.to_string(),
            reason: loss.to_owned(),
            fix: format!("sysctl -w {name}={least}"),
            ..finding
        },
        None => Finding {
            verdict: Verdict::Unknown,
            found: "not to be read here".to_owned(),
            fix: format!("sysctl {name}    # on the host of this container"),
            ..finding
        },
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn buffers(needs: &Needs, host: &Host) -> Vec<Finding> {
    let (receive, send) = (RECEIVE_BUFFER as u64, SEND_BUFFER as u64);
    let mut findings = Vec::new();
    if needs.sources > 0 {
        let why = format!("the sockets of {} ask for {receive}", counted(needs.sources, "source"));
        let loss = "a burst, or a moment without CPU, costs packets";
        findings.push(setting("receive-buffer", "net.core.rmem_max", host.receive_buffer, receive, why, loss));
    }
    if needs.outputs > 0 {
        let why = format!("the sockets of {} ask for {send}", counted(needs.outputs, "output"));
        let loss = "what the network can't take at once is lost";
        findings.push(setting("send-buffer", "net.core.wmem_max", host.send_buffer, send, why, loss));
    }
    findings
}

fn interface(wanted: &Interface, who: &str, host: &Host) -> Finding {
    let finding = Finding {
        check: "interface",
        subject: wanted.to_string(),
        needed: format!("{who} uses it"),
        reason: "its flows wait for it".to_owned(),
        ..Finding::default()
    };
    let found = host.links.find(wanted).and_then(|found| Some((host.links.get(&found.name)?, found.name)));
    let (problem, found, fix) = match found {
        None => {
            (true, "not there", "ip -brief address    # what there is; `interface` or [networks] names it".to_owned())
        }
        Some((link, name)) if !link.up => (true, "down", format!("ip link set {name} up")),
        Some((link, name)) if !link.running => {
            (true, "without a carrier", format!("ip -statistics link show {name}    # is the cable in?"))
        }
        Some(_) => (false, "up", String::new()),
    };
    let finding = Finding { found: found.to_owned(), ..finding };
    if problem {
        Finding { verdict: Verdict::Problem, fix, ..finding }
    } else {
        Finding { reason: String::new(), ..finding }
    }
}

/// The joins of IPv4, by the interface on which they are, and those that have none.
struct Joined<'a> {
    by_interface: BTreeMap<&'a str, Vec<&'a Join>>,
    unrouted: Vec<Finding>,
}

fn joined<'a>(needs: &'a Needs, host: &'a Host) -> Joined<'a> {
    let mut joined = Joined { by_interface: BTreeMap::new(), unrouted: Vec::new() };
    for join in &needs.joins {
        let IpAddr::V4(group) = join.group else { continue };
        let interface = match &join.interface {
            // One that is not there is reported already.
            Some(wanted) => host.links.find(wanted).and_then(|found| host.links.iter().find(|(n, _)| *n == found.name)),
            None => host.route_to(group).and_then(|name| host.links.iter().find(|(n, _)| *n == name)),
        };
        match interface {
            Some((name, _)) => joined.by_interface.entry(name).or_default().push(join),
            None if join.interface.is_none() => joined.unrouted.push(Finding {
                check: "interface",
                verdict: Verdict::Problem,
                subject: format!("the route to {group}"),
                found: "not there".to_owned(),
                needed: format!("{} joins the group where it leads", join.who),
                reason: "the group can't be joined".to_owned(),
                fix: format!("# in the flow's file: interface = \"…\" for {}", join.who),
            }),
            None => {}
        }
    }
    joined
}

fn reverse_path(name: &str, joins: &[&Join], host: &Host) -> Finding {
    let reverse_path = host.cards.get(name).map_or(0, |card| card.reverse_path);
    let elsewhere = joins.iter().flat_map(|join| &join.senders).find(
        |sender| matches!(sender, IpAddr::V4(sender) if host.route_to(*sender).is_some_and(|route| route != name)),
    );
    let finding = Finding {
        check: "reverse-path-filter",
        subject: format!("rp_filter of {name}"),
        found: ["0 (off)", "1 (strict)", "2 (loose)"][reverse_path.min(2) as usize].to_owned(),
        needed: format!("{} by multicast", counted(joins.len(), "source")),
        ..Finding::default()
    };
    if reverse_path != 1 {
        return finding;
    }
    let fix = format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2");
    match elsewhere {
        Some(sender) => {
            let reason = format!("datagrams of {sender} are dropped: the route to it is another");
            Finding { verdict: Verdict::Problem, reason, fix, ..finding }
        }
        None => {
            let reason = "datagrams of senders whose route is another are dropped, and not counted".to_owned();
            Finding { verdict: Verdict::Warning, reason, fix, ..finding }
        }
    }
}

fn igmp_version(name: &str, joins: &[&Join], host: &Host) -> Finding {
    let Card { forced_igmp, igmp, .. } = host.cards.get(name).cloned().unwrap_or_default();
    let specific = joins.iter().filter(|join| !join.senders.is_empty()).count();
    let version = if forced_igmp > 0 { Some(forced_igmp) } else { igmp };
    let finding = Finding {
        check: "igmp-version",
        subject: format!("IGMP on {name}"),
        found: version.map_or("not known".to_owned(), |version| format!("version {version}")),
        needed: match specific {
            0 => format!("{} from any sender: any version will do", counted(joins.len(), "join")),
            specific => format!("{} from chosen senders: version 3", counted(specific, "join")),
        },
        ..Finding::default()
    };
    if specific == 0 || version.is_none_or(|version| version >= 3) {
        return finding;
    }
    let reason = "the network is not told which senders are wanted".to_owned();
    if forced_igmp > 0 {
        let fix = format!("sysctl -w net.ipv4.conf.all.force_igmp_version=0 net.ipv4.conf.{name}.force_igmp_version=0");
        return Finding { verdict: Verdict::Problem, reason, fix, ..finding };
    }
    let fix = "# on the router or switch that queries: IGMP version 3".to_owned();
    Finding { verdict: Verdict::Warning, reason, fix, ..finding }
}

fn memberships(needs: &Needs, host: &Host) -> Option<Finding> {
    let joins = needs.joins.iter().filter(|join| join.group.is_ipv4()).count();
    let why = format!("{}, each by a socket of its own: 1 is enough", counted(joins, "join"));
    let name = "net.ipv4.igmp_max_memberships";
    (joins > 0).then(|| setting("igmp-memberships", name, host.memberships, 1, why, "no group can be joined"))
}

/// The longest list of senders, of each family.
fn senders(needs: &Needs, host: &Host) -> Vec<Finding> {
    let families = [(true, "net.ipv4.igmp_max_msf", host.senders), (false, "net.ipv6.mld_max_msf", host.senders_v6)];
    let longest = |v4| {
        let joins = needs.joins.iter().filter(move |join| join.group.is_ipv4() == v4 && !join.senders.is_empty());
        joins.max_by_key(|join| join.senders.len())
    };
    let finding = |(v4, name, found)| {
        let join = longest(v4)?;
        let why = format!("{} lists {}", join.who, counted(join.senders.len(), "sender"));
        Some(setting("igmp-senders", name, found, join.senders.len() as u64, why, "the join fails"))
    };
    families.into_iter().filter_map(finding).collect()
}

fn ports(needs: &Needs, host: &Host) -> Option<Finding> {
    let given: Vec<_> = needs.ports.iter().filter(|(port, _)| host.local_ports.range_of(**port).is_some()).collect();
    let finding = Finding {
        check: "local-ports",
        subject: "net.ipv4.ip_local_port_range".to_owned(),
        found: host
            .local_ports
            .range()
            .map_or("not to be read here".to_owned(), |(low, high)| format!("{low} to {high}")),
        needed: format!("{} of flows outside of it, or reserved", counted(needs.ports.len(), "port")),
        ..Finding::default()
    };
    if needs.ports.is_empty() {
        return None;
    }
    let Some((first, who)) = given.first() else { return Some(finding) };
    let others = if given.len() > 1 { format!(" and {} more", given.len() - 1) } else { String::new() };
    let reserved = given.iter().map(|(port, _)| port.to_string());
    let reserved: Vec<_> =
        Some(host.reserved_ports.clone()).filter(|text| !text.is_empty()).into_iter().chain(reserved).collect();
    Some(Finding {
        verdict: Verdict::Warning,
        reason: format!("another program may be given port {first} ({who}){others} before the flow starts"),
        fix: format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", reserved.join(",")),
        ..finding
    })
}

/// Of the interfaces that flows name, or join on; without any, of that of the default route.
fn rings<'a>(needs: &Needs, host: &Host, joined: impl Iterator<Item = &'a &'a str>) -> Vec<Finding> {
    let named = needs.interfaces.keys().filter_map(|wanted| host.links.find(wanted)).map(|found| found.name);
    let mut used: BTreeSet<String> = named.chain(joined.map(|name| (*name).to_owned())).collect();
    if used.is_empty() && needs.sources > 0 {
        used.extend(host.route_to([0, 0, 0, 0].into()).map(str::to_owned));
    }
    used.iter().filter_map(|name| ring(name, host.cards.get(name)?)).collect()
}

fn ring(name: &str, card: &Card) -> Option<Finding> {
    let ring = card.ring?;
    let finding = Finding {
        check: "receive-ring",
        subject: format!("the receive ring of {name}"),
        found: format!("{} of {} slots, {} datagrams missed", ring.slots, ring.most, card.missed),
        needed: format!("{} slots, and none missed", RING_SLOTS.min(ring.most)),
        ..Finding::default()
    };
    let fix = format!("ethtool -G {name} rx {}", ring.most);
    let can_grow = ring.slots < ring.most;
    let (verdict, reason) = match card.missed {
        0 if ring.slots >= RING_SLOTS || !can_grow => return Some(finding),
        0 => (Verdict::Warning, "a burst may fill it"),
        _ if can_grow => (Verdict::Problem, "it has been full: datagrams were lost before the kernel saw them"),
        _ => {
            let fix = format!("ethtool -S {name}    # and spread its interrupts over CPUs: /proc/interrupts");
            let reason = "it has been full at its largest: no CPU fetches in time".to_owned();
            return Some(Finding { verdict: Verdict::Warning, reason, fix, ..finding });
        }
    };
    Some(Finding { verdict, reason: reason.to_owned(), fix, ..finding })
}

fn clock(host: &Host) -> Finding {
    let finding = Finding {
        check: "clock",
        subject: "the clock".to_owned(),
        found: if host.clock_synchronised { "synchronised" } else { "not synchronised" }.to_owned(),
        needed: "logs, alarms and expiry go by it".to_owned(),
        ..Finding::default()
    };
    if host.clock_synchronised {
        return finding;
    }
    Finding {
        verdict: Verdict::Warning,
        reason: "its times can't be compared with those of other machines".to_owned(),
        fix: "apt install chrony    # or: timedatectl set-ntp true".to_owned(),
        ..finding
    }
}

fn descriptors(needs: &Needs, host: &Host) -> Finding {
    let finding = Finding {
        check: "descriptors",
        subject: "the limit of open files".to_owned(),
        found: host.descriptors.map_or("not to be read here".to_owned(), |limit| match limit {
            u64::MAX => "none".to_owned(),
            limit => limit.to_string(),
        }),
        needed: format!("at most {} are open", needs.descriptors),
        ..Finding::default()
    };
    match host.descriptors {
        Some(limit) if limit >= needs.descriptors => finding,
        Some(_) => Finding {
            verdict: Verdict::Problem,
            reason: "some flows can't open their sockets".to_owned(),
            fix:
                "systemctl edit mediaconnectd    # [Service] LimitNOFILE=1048576; then: systemctl restart mediaconnectd"
                    .to_owned(),
            ..finding
        },
        None => Finding { verdict: Verdict::Unknown, ..finding },
    }
}
