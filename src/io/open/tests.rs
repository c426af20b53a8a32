use std::error::Error;

use super::*;
use crate::io::batch::{ReceiveBatch, Report, SendBatch, Target};
use crate::io::testing::{LOCAL, in_own_network, ip, payloads, readable, readable_within, receiver, run, sender, spec};

const LO: u32 = 1;

fn lo() -> InterfaceRef {
    InterfaceRef { name: "lo".into(), index: LO }
}

/// Where multicast is tried.
struct Place {
    family: Family,
    interface: InterfaceRef,
    /// The address packets have that leave by the interface.
    source: IpAddr,
}

/// IPv4 on the loopback interface, IPv6 on an interface of a network of its own: the loopback has no IPv6 multicast.
fn in_each_family(test: fn(Place)) {
    let (probe, address) = receiver(Ipv4Addr::UNSPECIFIED.into());
    let place = Place { family: Family::V4, interface: lo(), source: LOCAL };
    let probe_address = place.at("239.255.7.77", address.port());
    multicast::join(&probe, probe_address.ip(), &[], LO).unwrap();
    place.send(&sender(Family::V4), probe_address, b"whence?");
    assert!(readable(&probe));
    let mut batch = ReceiveBatch::default();
    batch.receive(&probe).unwrap();
    let source = batch.datagrams().next().unwrap().source.ip();
    test(Place { source, ..place });
    in_own_network(move || {
        ip("link add video0 index 70 type veth peer name far0");
        ip("link set far0 up");
        ip("link set video0 up");
        ip("addr add fd77::1/64 dev video0 nodad");
        let interface = InterfaceRef { name: "video0".into(), index: 70 };
        test(Place { family: Family::V6, interface, source: "fd77::1".parse().unwrap() });
    });
}

impl Place {
    /// An address given for IPv4; its like for IPv6.
    fn at(&self, v4: &str, port: u16) -> SocketAddr {
        let v4: Ipv4Addr = v4.parse().unwrap();
        let [a, b, c, d] = v4.octets().map(u16::from);
        let ip = match (self.family, a) {
            (Family::V4, _) => v4.into(),
            (Family::V6, 232) => Ipv6Addr::new(0xff35, 0, 0, 0, 0, 0, 0x8000 | b, c << 8 | d).into(),
            (Family::V6, 239) => Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, b, c << 8 | d).into(),
            (Family::V6, _) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, a, b, c << 8 | d).into(),
        };
        SocketAddr::new(ip, port)
    }

    fn join(&self, group: SocketAddr, sources: &[IpAddr]) -> Receiver {
        let interface = Some(self.interface.clone());
        let multicast_sources = sources.to_vec();
        open_receiver(&ReceiveSpec { interface, multicast_sources, ..spec(group.ip(), group.port()) }).unwrap()
    }

    fn send(&self, sender: &Sender, address: SocketAddr, payload: &[u8]) {
        send_by(sender, address, payload, Some(self.interface.index));
    }
}

fn free_port() -> u16 {
    UdpSocket::bind((LOCAL, 0)).unwrap().local_addr().unwrap().port()
}

/// Sends one datagram.
fn send(sender: &Sender, address: SocketAddr, payload: &[u8]) {
    send_by(sender, address, payload, None);
}

fn send_by(sender: &Sender, address: SocketAddr, payload: &[u8], interface: Option<u32>) {
    let mut batch = SendBatch::new();
    let mut session = batch.session();
    session.push(&[], payload);
    let trains = session.finish();
    session.message(&Target::new(address, None, 0, interface), trains, 0);
    session.flush(sender, |r| {
        let Report::Message { outcome, .. } = r else { panic!("{r:?}") };
        assert_eq!((outcome.sent, outcome.error), (1, None), "to {address}");
    });
}

/// What has arrived is exactly `expected`.
#[track_caller]
fn holds(receiver: &Receiver, expected: &[&[u8]]) {
    assert_eq!(payloads(&mut ReceiveBatch::default(), receiver, expected.len()), expected);
    assert_eq!(ReceiveBatch::default().receive(receiver).unwrap().messages, 0);
}

#[test]
fn a_wildcard_receiver_hears_both_families_and_names_ipv4_senders_as_such() {
    let any = ReceiveSpec { dual_stack: true, ..spec(Ipv6Addr::UNSPECIFIED.into(), 0) };
    let receiver = open_receiver(&any).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let mut batch = ReceiveBatch::default();
    for (family, ip) in [(Family::V4, LOCAL), (Family::V6, Ipv6Addr::LOCALHOST.into())] {
        let sender = sender(family);
        send(&sender, SocketAddr::new(ip, port), b"hello");
        assert!(readable(&receiver));
        batch.receive(&receiver).unwrap();
        let source = batch.datagrams().next().unwrap().source;
        assert_eq!(source, SocketAddr::new(ip, sender.local_addr().unwrap().port()));
    }
}

#[test]
fn an_ipv6_receiver_that_is_not_dual_stack_leaves_the_port_to_ipv4() {
    // Another program may have just this port on IPv4.
    let shared = (0..20).any(|_| {
        let v6 = open_receiver(&spec(Ipv6Addr::UNSPECIFIED.into(), 0)).unwrap();
        open_receiver(&spec(Ipv4Addr::UNSPECIFIED.into(), v6.local_addr().unwrap().port())).is_ok()
    });
    assert!(shared);
}

#[test]
fn without_ipv6_a_wildcard_receiver_hears_ipv4() {
    let error = |errno| OpenError::at_bind("[::]:5000".parse().unwrap(), io::Error::from_raw_os_error(errno));
    assert!(lacks_family(&error(libc::EAFNOSUPPORT)));
    assert!(lacks_family(&error(libc::EADDRNOTAVAIL)));
    assert!(!lacks_family(&error(libc::EADDRINUSE)));
    in_own_network(|| {
        run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
        let any = ReceiveSpec { dual_stack: true, ..spec(Ipv6Addr::UNSPECIFIED.into(), 0) };
        let receiver = open_receiver(&any).unwrap();
        let port = receiver.local_addr().unwrap().port();
        send(&sender(Family::V4), SocketAddr::new(LOCAL, port), b"hello");
        holds(&receiver, &[b"hello"]);
    });
}

#[test]
fn the_buffer_that_was_granted_is_known() {
    let small = open_receiver(&ReceiveSpec { receive_buffer: 64 << 10, ..spec(LOCAL, 0) }).unwrap();
    assert_eq!(small.granted(), 64 << 10);
}

#[test]
fn errors_say_what_to_do() {
    let (_taken, address) = receiver(LOCAL);
    let e = open_receiver(&spec(LOCAL, address.port())).unwrap_err();
    assert!(matches!(e, OpenError::AddressInUse { bind, .. } if bind == address), "{e}");
    assert_eq!(e.to_string(), format!("{address} is in use by another program on this host"));
    assert!(e.source().is_some());

    let e = open_receiver(&spec("192.0.2.77".parse().unwrap(), 5000)).unwrap_err();
    assert!(matches!(e, OpenError::AddressNotAvailable { .. }));
    assert_eq!(e.to_string(), "no interface of this host has the address 192.0.2.77");

    let interface = Some(InterfaceRef { name: "nosuch0".into(), index: 4_000_000 });
    let e = open_receiver(&ReceiveSpec { interface: interface.clone(), ..spec(LOCAL, 0) }).unwrap_err();
    assert!(matches!(e, OpenError::NoSuchInterface { .. }));
    assert_eq!(e.to_string(), "there is no interface nosuch0");
    for address in ["239.1.2.3", "ff15::77"] {
        let e = open_receiver(&ReceiveSpec { interface: interface.clone(), ..spec(address.parse().unwrap(), 0) })
            .unwrap_err();
        assert!(matches!(e, OpenError::NoSuchInterface { .. }));
        assert!(e.to_string().ends_with("there is no interface nosuch0"), "{e}");
    }
}

#[test]
fn too_many_senders_of_a_group_are_an_error_with_the_limit_to_raise() {
    let multicast_sources = (1..=200).map(|n| Ipv4Addr::new(192, 0, 2, n).into()).collect();
    let interface = Some(lo());
    let e = open_receiver(&ReceiveSpec { interface, multicast_sources, ..spec("232.9.9.9".parse().unwrap(), 0) });
    let e = e.unwrap_err();
    assert!(matches!(e, OpenError::TooManyMemberships { .. }));
    assert!(e.to_string().contains("net.ipv4.igmp_max_msf"), "{e}");
}

#[test]
fn a_unicast_receiver_hears_only_its_interface() {
    let receiver =
        open_receiver(&ReceiveSpec { interface: Some(lo()), ..spec(Ipv4Addr::UNSPECIFIED.into(), 0) }).unwrap();
    let port = receiver.local_addr().unwrap().port();
    send(&sender(Family::V4), SocketAddr::new(LOCAL, port), b"hello");
    holds(&receiver, &[b"hello"]);
}

#[test]
fn two_groups_on_one_port_hear_only_their_own() {
    in_each_family(|place| {
        let port = free_port();
        let (a, b) = (place.at("239.255.7.1", port), place.at("239.255.7.2", port));
        let (first, second) = (place.join(a, &[]), place.join(b, &[]));
        let sender = sender(place.family);
        for (to, payload) in [(a, b"a1"), (b, b"b1"), (a, b"a2"), (b, b"b2")] {
            place.send(&sender, to, payload);
        }
        holds(&first, &[b"a1", b"a2"]);
        holds(&second, &[b"b1", b"b2"]);
    });
}

#[test]
fn one_group_on_two_interfaces_is_two_streams() {
    in_own_network(|| {
        for n in [0, 1] {
            ip(&format!("link add video{n} index 7{n} type veth peer name far{n}"));
            ip(&format!("link set far{n} up"));
            ip(&format!("link set video{n} up"));
            ip(&format!("addr add fd7{n}::1/64 dev video{n} nodad"));
            ip(&format!("addr add 10.7{n}.0.1/24 dev video{n}"));
        }
        for (family, group) in [(Family::V4, "239.255.7.5"), (Family::V6, "ff15::75")] {
            let (group, port) = (group.parse().unwrap(), free_port());
            let join = |n: u32| {
                let interface = Some(InterfaceRef { name: format!("video{n}"), index: 70 + n });
                open_receiver(&ReceiveSpec { interface, ..spec(group, port) }).unwrap()
            };
            let (first, second) = (join(0), join(1));
            let sender = sender(family);
            for (n, payload) in [(0, b"a1"), (1, b"b1"), (0, b"a2")] {
                send_by(&sender, SocketAddr::new(group, port), payload, Some(70 + n));
            }
            holds(&first, &[b"a1", b"a2"]);
            holds(&second, &[b"b1"]);
        }
    });
}

#[test]
fn a_wildcard_receiver_does_not_hear_groups_that_others_joined() {
    in_each_family(|place| {
        let local = if place.family == Family::V4 { LOCAL } else { Ipv6Addr::LOCALHOST.into() };
        let any = ReceiveSpec { dual_stack: true, ..spec(Ipv6Addr::UNSPECIFIED.into(), 0) };
        let wildcard = open_receiver(&any).unwrap();
        let port = wildcard.local_addr().unwrap().port();
        let _other = place.join(place.at("239.255.7.3", free_port()), &[]);
        let sender = sender(place.family);
        place.send(&sender, place.at("239.255.7.3", port), b"not for you");
        send(&sender, SocketAddr::new(local, port), b"for you");
        holds(&wildcard, &[b"for you"]);
    });
}

#[test]
fn a_source_specific_receiver_hears_only_its_sources() {
    in_each_family(|place| {
        let to = place.at("232.1.2.3", free_port());
        let (this, other) = ([place.source], [place.at("192.0.2.99", 0).ip()]);
        let sender = sender(place.family);
        let ours = place.join(to, &[other, this].concat());
        let not_ours = place.join(to, &other);
        let silent = |r: &Receiver| ReceiveBatch::default().receive(r).unwrap().messages == 0;
        place.send(&sender, to, b"one");
        holds(&ours, &[b"one"]);
        assert!(silent(&not_ours));

        multicast::join(&not_ours, to.ip(), &this, place.interface.index).unwrap();
        multicast::join(&not_ours, to.ip(), &this, place.interface.index).unwrap();
        place.send(&sender, to, b"two");
        holds(&not_ours, &[b"two"]);
        multicast::leave(&not_ours, to.ip(), &this, place.interface.index).unwrap();
        assert!(multicast::leave(&not_ours, to.ip(), &this, place.interface.index).is_err());
        place.send(&sender, to, b"three");
        holds(&ours, &[b"two", b"three"]);
        assert!(silent(&not_ours));
    });
}

#[test]
fn an_any_source_group_can_be_left_and_joined_again() {
    in_each_family(|place| {
        let (to, index) = (place.at("239.255.7.9", free_port()), place.interface.index);
        let sender = sender(place.family);
        let receiver = place.join(to, &[]);
        multicast::join(&receiver, to.ip(), &[], index).unwrap();
        multicast::leave(&receiver, to.ip(), &[], index).unwrap();
        place.send(&sender, to, b"unheard");
        multicast::join(&receiver, to.ip(), &[], index).unwrap();
        place.send(&sender, to, b"heard");
        holds(&receiver, &[b"heard"]);
        multicast::rejoin(&receiver, to.ip(), &[], index, index).unwrap();
        place.send(&sender, to, b"again");
        holds(&receiver, &[b"again"]);
    });
}

#[test]
fn a_group_is_joined_again_after_its_interface_was_deleted_and_made_anew() {
    in_own_network(|| {
        let make = |n: u32| {
            ip(&format!("link add video0 index {n} type veth peer name far0"));
            ip("link set video0 up");
            ip("link set far0 up");
            ip("addr add 10.77.0.1/24 dev video0");
            ip("addr add 10.77.0.2/24 dev far0");
            // From far0 to video0 in one namespace.
            run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.video0.rp_filter=0");
            run("sysctl -qw net.ipv4.conf.video0.accept_local=1");
        };
        make(100);
        let port = free_port();
        let to = SocketAddr::new("239.1.1.1".parse().unwrap(), port);
        let interface = Some(InterfaceRef { name: "video0".into(), index: 100 });
        let receiver = open_receiver(&ReceiveSpec { interface, ..spec(to.ip(), port) }).unwrap();
        let sender = sender(Family::V4);
        let far = || crate::io::links::Links::read().unwrap().get("far0").unwrap().index;
        // An interface that has just come up may still drop packets without a word.
        let arrives = |payload: &[u8]| {
            let sent = (0..100).find(|_| {
                send_by(&sender, to, payload, Some(far()));
                readable_within(&receiver, 100)
            });
            assert!(sent.is_some(), "{}", payload.escape_ascii());
            assert!(payloads(&mut ReceiveBatch::default(), &receiver, 1).iter().all(|p| p == payload));
        };
        arrives(b"before");
        let mut old = 100;
        // More often than a socket may have memberships; once with the same index.
        for n in (101..130).chain([129]) {
            ip("link del video0");
            make(n);
            multicast::rejoin(&receiver, to.ip(), &[], old, n).unwrap();
            old = n;
        }
        arrives(b"after");
        // Down and up needs nothing.
        ip("link set video0 down");
        ip("link set video0 up");
        arrives(b"up again");
    });
}

#[test]
fn a_sender_has_the_port_it_was_given_and_hears_nothing() {
    let port = free_port();
    let spec = SendSpec { family: Family::V4, source_port: Some(port), send_buffer: 1 << 20 };
    let sender = open_sender(&spec).unwrap();
    assert_eq!(sender.local_addr().unwrap().port(), port);
    assert!(sender.segmentation());
    assert!(matches!(open_sender(&spec), Err(OpenError::AddressInUse { .. })));
    let (other, address) = receiver(LOCAL);
    send(&self::sender(Family::V4), SocketAddr::new(LOCAL, port), b"unwanted");
    send(&sender, address, b"wanted");
    holds(&other, &[b"wanted"]);
    assert_eq!(ReceiveBatch::default().receive(&sender).unwrap().messages, 0);
    assert_eq!(sender.drain_errors(|_, _| {}), 0);
}
