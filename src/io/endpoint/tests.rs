use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use super::*;
use crate::io::batch::{ReceiveBatch, SendBatch, Target, TrainLimit};
use crate::io::open::{ReceiveSpec, open_receiver};
use crate::io::testing::{LOCAL, in_own_network, ip, readable, readable_within, spec};

const STEERING: Steering = Steering { offset: 12, shift: 20 };

fn endpoint_spec(ip: IpAddr) -> EndpointSpec {
    EndpointSpec {
        bind: SocketAddr::new(ip, 0),
        dual_stack: ip.is_unspecified() && ip.is_ipv6(),
        interface: None,
        local_addresses: true,
        receive_buffer: 1 << 20,
        send_buffer: 1 << 20,
    }
}

/// A datagram with that number in its place.
fn numbered(number: u32) -> Vec<u8> {
    let mut datagram = vec![7; 40];
    datagram[12..16].copy_from_slice(&number.to_be_bytes());
    datagram
}

fn count(endpoint: &Endpoint) -> usize {
    let mut batch = ReceiveBatch::default();
    let mut count = 0;
    while batch.receive(endpoint).unwrap().messages > 0 {
        count += batch.datagrams().count();
    }
    count
}

fn send(from: &Endpoint, target: &Target, datagrams: &[Vec<u8>]) {
    let mut batch = SendBatch::new();
    let mut session = batch.session();
    session.begin(TrainLimit::MAX);
    datagrams.iter().for_each(|datagram| session.push_with(datagram.len(), |place| place.copy_from_slice(datagram)));
    let trains = session.finish();
    session.message(target, trains, 0);
    session.flush(from.sender(), |_| {});
}

#[test]
fn a_number_in_the_datagram_says_which_socket_of_the_port_gets_it() {
    for ip in [LOCAL, Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()] {
        let spec = endpoint_spec(ip);
        let first = open_endpoint(&spec).unwrap();
        let others = [(); 3].map(|()| open_beside(&spec, &first, STEERING).unwrap());
        let port = first.local_addr().unwrap().port();
        assert!(others.iter().all(|other| other.local_addr().unwrap() == first.local_addr().unwrap()));
        for sender_ip in [LOCAL, Ipv6Addr::LOCALHOST.into()] {
            if !ip.is_unspecified() && ip != sender_ip {
                continue;
            }
            // Of many peers, which the kernel would else scatter.
            for _ in 0..8 {
                let peer = UdpSocket::bind((sender_ip, 0)).unwrap();
                for number in [0, 5, 1 << 20, (1 << 20) + 77, 3 << 20, (3 << 20) + 1, (3 << 20) + 2] {
                    peer.send_to(&numbered(number), (sender_ip, port)).unwrap();
                }
                peer.send_to(b"short", (sender_ip, port)).unwrap();
                assert!(others.iter().zip([true, false, true]).all(|(other, some)| !some || readable(other)));
                assert_eq!((count(&first), others.each_ref().map(count)), (3, [2, 0, 3]));
            }
        }
    }
}

#[test]
fn a_port_is_shared_with_nobody_else() {
    let spec = endpoint_spec(LOCAL);
    let first = open_endpoint(&spec).unwrap();
    let taken = EndpointSpec { bind: first.local_addr().unwrap(), ..spec.clone() };
    assert!(matches!(open_endpoint(&taken), Err(OpenError::AddressInUse { .. })));
    let _second = open_beside(&spec, &first, STEERING).unwrap();
    assert!(matches!(open_endpoint(&taken), Err(OpenError::AddressInUse { .. })));
    let port = taken.bind.port();
    let receiver = ReceiveSpec { bind: taken.bind, ..self::spec(LOCAL, port) };
    assert!(matches!(open_receiver(&receiver), Err(OpenError::AddressInUse { .. })));
    assert!(open_beside(&spec, &first, STEERING).is_ok());
}

#[test]
fn an_answer_comes_from_the_address_that_was_called() {
    in_own_network(|| {
        for address in ["10.9.0.1/32", "10.9.0.2/32", "fd99::1/128 nodad", "fd99::2/128 nodad"] {
            ip(&format!("addr add {address} dev lo"));
        }
        for bind in [Ipv4Addr::UNSPECIFIED.into(), IpAddr::from(Ipv6Addr::UNSPECIFIED)] {
            let endpoint = open_endpoint(&endpoint_spec(bind)).unwrap();
            let port = endpoint.local_addr().unwrap().port();
            for called in ["127.0.0.1", "10.9.0.1", "10.9.0.2", "::1", "fd99::1", "fd99::2"] {
                let called: IpAddr = called.parse().unwrap();
                if called.is_ipv6() && bind.is_ipv4() {
                    continue;
                }
                let peer = UdpSocket::bind(SocketAddr::new(if called.is_ipv4() { LOCAL } else { called }, 0)).unwrap();
                peer.send_to(b"hello", (called, port)).unwrap();
                assert!(readable(&endpoint));
                let mut batch = ReceiveBatch::default();
                batch.receive(&endpoint).unwrap();
                let datagram = batch.datagrams().next().unwrap();
                assert_eq!((datagram.local, datagram.source), (Some(called), peer.local_addr().unwrap()));
                assert!(datagram.arrival.is_some());
                let target = Target::from_endpoint(&endpoint, datagram.source, datagram.local, (Some(9), 0xb8));
                send(&endpoint, &target, &vec![vec![1; 100]; 3]);
                for _ in 0..3 {
                    let mut buffer = [0; 200];
                    let (len, from) = peer.recv_from(&mut buffer).unwrap();
                    assert_eq!((len, from), (100, SocketAddr::new(called, port)));
                }
            }
        }
    });
}

#[test]
fn a_peer_that_is_gone_disturbs_no_other() {
    let endpoint = open_endpoint(&endpoint_spec(LOCAL)).unwrap();
    let (gone, there) = (crate::io::testing::dead_address(), UdpSocket::bind((LOCAL, 0)).unwrap());
    let target = |address| Target::from_endpoint(&endpoint, address, None, (None, 0));
    let alive = target(there.local_addr().unwrap());
    for _ in 0..20 {
        send(&endpoint, &target(gone), &[vec![0; 20]]);
        send(&endpoint, &alive, &[vec![1; 20]]);
        assert!(readable_within(&there, 1000));
        there.recv(&mut [0; 20]).unwrap();
    }
    assert!(!readable_within(&endpoint, 0), "no error of the peer that is gone");
}
