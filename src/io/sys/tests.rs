use std::net::Ipv6Addr;
use std::os::fd::AsFd;

use socket2::SockRef;

use super::*;
use crate::io::batch::{ReceiveBatch, SendBatch, Target, TrainLimit};
use crate::io::open::Family;
use crate::io::testing::{LOCAL, readable, readable_within, receiver, sender};

impl Lent<'_, '_> {
    pub(in crate::io) fn pieces(&self, row: Pieces) -> usize {
        (row.end - row.start) as usize
    }

    pub(in crate::io) fn bytes(&self, row: Pieces) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in &self.gatherer.iovecs[row.start as usize..row.end as usize] {
            // SAFETY: as for `send`: all pieces of a session can be read.
            all.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len) });
        }
        all
    }
}

/// Moves this thread into a network namespace of its own.
pub(in crate::io) fn own_network() -> io::Result<()> {
    // SAFETY: no pointers; other threads stay where they are.
    let r = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn every_datagram_has_the_dscp_and_ttl_of_its_target_with_and_without_trains() {
    for (family, ip) in [(Family::V4, LOCAL), (Family::V6, Ipv6Addr::LOCALHOST.into())] {
        let v6 = family == Family::V6;
        let (socket, address) = receiver(ip);
        let options = if v6 {
            SockRef::from(&socket).set_recv_tclass_v6(true).unwrap();
            SockRef::from(&socket).set_recv_hoplimit_v6(true).unwrap();
            [(libc::IPPROTO_IPV6, libc::IPV6_TCLASS), (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)]
        } else {
            SockRef::from(&socket).set_recv_tos_v4(true).unwrap();
            set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTTL, &1_i32).unwrap();
            [(libc::IPPROTO_IP, libc::IP_TOS), (libc::IPPROTO_IP, libc::IP_TTL)]
        };
        let loopback = 1;
        let targets = [
            Target::new(address, None, 0, None),
            Target::new(address, Some(3), 0xb8, None),
            Target::new(address, Some(255), 0x88, Some(loopback)),
            Target::new(address, None, 0x28, Some(loopback)),
        ];
        let expected = [(0, 64), (0xb8, 3), (0x88, 255), (0x28, 64)];
        let sender = sender(family);
        let mut batch = SendBatch::new();
        let payload = [0; 100];
        for limit in [TrainLimit::SINGLE, TrainLimit::MAX] {
            let mut session = batch.session();
            session.begin(limit);
            (0..5).for_each(|_| session.push(&[], &payload));
            let trains = session.finish();
            targets.iter().for_each(|t| session.message(t, trains, 0));
            session.flush(&sender, |_| {});
        }
        let mut ring = ReceiveRing::new(64);
        let mut seen = Vec::new();
        while seen.len() < 40 {
            assert!(readable(&socket));
            for i in 0..ring.receive(socket.as_fd()).unwrap() {
                let control = &ring.controls[i].bytes[..ring.headers[i].msg_hdr.msg_controllen];
                let value = |wanted| {
                    let message = control_messages(control).find(|m| (m.level, m.kind) == wanted);
                    // IP_TOS comes as one octet, the others as int.
                    message.map_or(-1, |m| i32::from(m.data[0]))
                };
                seen.push((value(options[0]), value(options[1])));
            }
        }
        let each: Vec<_> = expected.iter().flat_map(|&e| [e; 5]).collect();
        assert_eq!(seen, each.repeat(2), "{family:?}");
    }
}

#[test]
fn addresses_survive_the_way_to_the_kernel_and_back() {
    for text in ["192.0.2.1:5000", "[2001:db8::1]:65535", "[fe80::1%7]:1"] {
        let address: SocketAddr = text.parse().unwrap();
        let name = Name::new(address);
        assert_eq!(name.address(name.len as usize), Some(address));
    }
    let mapped = Name::new("[::ffff:192.0.2.1]:5000".parse().unwrap());
    assert_eq!(mapped.address(NAME_BYTES), Some("192.0.2.1:5000".parse().unwrap()));
    assert_eq!(Name::EMPTY.address(0), None);
    assert_eq!(Name::EMPTY.address(NAME_BYTES), None);
}

#[test]
fn malformed_control_data_ends_the_walk() {
    assert_eq!(control_messages(&[]).count(), 0);
    assert_eq!(control_messages(&[0; 64]).count(), 0);
    assert_eq!(control_messages(&[0xff; 64]).count(), 0);
    let mut control = Control::EMPTY;
    control.push_segment(1316);
    control.push_ttl(false, 9);
    let found: Vec<_> =
        control_messages(&control.bytes[..control.len]).map(|m| (m.level, m.kind, m.data.len())).collect();
    assert_eq!(found, [(libc::SOL_UDP, libc::UDP_SEGMENT, 2), (libc::IPPROTO_IP, libc::IP_TTL, 4)]);
    assert_eq!(control_messages(&control.bytes[..control.len - 8]).count(), 1);
}

#[test]
fn the_longest_control_data_fits() {
    let mut control = Control::EMPTY;
    control.push_ttl(true, 1);
    control.push_tos(true, 1);
    control.push_packet_info(1, Ipv6Addr::UNSPECIFIED.into());
    control.push_segment(1);
    assert_eq!(control_messages(&control.bytes[..control.len]).count(), 4);
}

#[test]
fn headers_fill_one_chunk_after_the_other() {
    let mut gatherer = Gatherer::new();
    for _ in 0..2 {
        let mut lent = gatherer.lend();
        let mut row = lent.row();
        let mut expected = Vec::new();
        for n in 0..100_u8 {
            let header = vec![n; 1500];
            lent.push_made(&mut row, header.len(), |place| place.copy_from_slice(&header));
            expected.extend(header);
        }
        assert_eq!(lent.bytes(row), expected);
        let cut = lent.cut(row, 1400, 200);
        assert_eq!(lent.bytes(cut), [[0; 100], [1; 100]].concat());
        assert!(!lent.can_grow(row));
    }
    assert_eq!(gatherer.chunks.len(), 3);
}

#[test]
fn an_error_on_the_socket_is_passed_over_and_data_behind_it_read() {
    // A connected socket hears that its peer is gone; the data that comes after that must not be lost.
    let socket = std::net::UdpSocket::bind((LOCAL, 0)).unwrap();
    let peer = std::net::UdpSocket::bind((LOCAL, 0)).unwrap();
    let peer_address = peer.local_addr().unwrap();
    socket.connect(peer_address).unwrap();
    drop(peer);
    // The kernel limits how often it says so for the whole host, so one question may stay unanswered. A send that fails
    // has taken the answer, and the next one gets another.
    let mut questions = 0;
    while !readable_within(&socket, 100) {
        questions += 1;
        assert!(questions < 100);
        let _ = socket.send(b"anyone there?");
    }
    let peer = std::net::UdpSocket::bind(peer_address).unwrap();
    peer.send_to(b"now there is", socket.local_addr().unwrap()).unwrap();
    let mut input = ReceiveBatch::default();
    while input.receive(&socket).unwrap().messages == 0 {
        assert!(readable(&socket));
    }
    assert_eq!(input.datagrams().next().unwrap().payload, b"now there is");
}

#[test]
fn an_interface_without_a_ring_and_no_interface_are_told_apart() {
    assert_eq!(receive_ring("lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    assert_eq!(receive_ring("not-there").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    assert_eq!(receive_ring("a-name-too-long-for-one").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn the_clock_is_synchronised_or_not_as_the_kernel_says_twice() {
    // The kernel's own answer, by the older call of the same meaning.
    // SAFETY: all zeros make a valid timex.
    let mut t: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `t` is alive and of the right type.
    let state = unsafe { libc::ntp_adjtime(&mut t) };
    assert_eq!(clock_is_synchronised(), t.status & libc::STA_UNSYNC == 0, "{state} {}", t.status);
}
