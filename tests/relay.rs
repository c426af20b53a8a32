//! The relay itself: media goes through the real daemon, and every byte of it is judged.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mediaconnect::proto::rtp::header::Header;
use mediaconnect::proto::seq::{RtpTime, Seq};
use support::daemon::{Daemon, Setup, count};
use support::media::{
    Feed, SEVEN, Sink, Stream, Wire, receive_marks, receiving_socket, rtp_packet, sending_socket, v4, v6,
};
use support::netns::{Namespace, in_own_network, run};
use support::ports::free_port;
use support::proxy::{Impairment, Proxy};
use support::{PATIENCE, wait_for};

const STREAM: Stream = Stream::at(5_000_000);
const TWO_SECONDS: Duration = Duration::from_secs(2);

/// A flow with one source on a loopback port, and outputs `udp` and `rtp`.
fn to_udp_and_rtp(protocol: &str, bind: SocketAddr, udp: SocketAddr, rtp: SocketAddr) -> String {
    format!(
        "[sources.main]\nprotocol = '{protocol}'\nbind = '{bind}'\n\
         [outputs.udp]\nprotocol = 'udp'\ndestination = '{udp}'\n\
         [outputs.rtp]\nprotocol = 'rtp'\ndestination = '{rtp}'\n"
    )
}

/// A flow from a source on IPv4 loopback to UDP on IPv4 loopback, with more keys for each.
fn one_to_one(protocol: &str, input: u16, source_keys: &str, output_protocol: &str, output: u16, keys: &str) -> String {
    format!(
        "[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{input}'\n{source_keys}\n\
         [outputs.out]\nprotocol = '{output_protocol}'\ndestination = '127.0.0.1:{output}'\n{keys}\n"
    )
}

fn relays_to_udp_and_rtp(wire: Wire, loopback: fn(u16) -> SocketAddr) {
    let [input, udp, rtp] = [free_port(), free_port(), free_port()].map(loopback);
    let (at_udp, at_rtp) = (Sink::bind(Wire::Udp, udp, STREAM), Sink::bind(Wire::Rtp, rtp, STREAM));
    let protocol = if wire == Wire::Udp { "udp" } else { "rtp" };
    let daemon = Daemon::with_flow(&to_udp_and_rtp(protocol, input, udp, rtp));
    let sent = Feed::new(wire, input, STREAM).send_for(TWO_SECONDS);
    at_udp.assert_all(sent);
    at_rtp.assert_all(sent);
    let rtp = at_rtp.received();
    assert_eq!(rtp.payload_types.into_iter().collect::<Vec<_>>(), [33]);
    assert_eq!(at_udp.received().sizes.keys().collect::<Vec<_>>(), [&SEVEN], "datagrams as they were received");

    let flow = daemon.wait_for_flow("flow", "every datagram is counted", |flow| {
        ["sources/main/packets", "outputs/udp/packets", "outputs/rtp/packets"]
            .iter()
            .all(|at| count(flow, at) == sent / 7)
    });
    assert_eq!(flow["state"], "active");
    assert_eq!(flow["sources"]["main"]["state"], "receiving");
    assert_eq!(flow["sources"]["main"]["on-air"], true);
    assert_eq!(flow["outputs"]["udp"]["state"], "sending");
    for counter in ["packets-lost", "packets-unrecovered", "packets-denied", "packets-invalid"] {
        assert_eq!(count(&flow, &format!("sources/main/{counter}")), 0, "{counter}");
    }
}

#[test]
fn udp_goes_to_udp_and_rtp() {
    relays_to_udp_and_rtp(Wire::Udp, v4);
}

#[test]
fn rtp_goes_to_udp_and_rtp() {
    relays_to_udp_and_rtp(Wire::Rtp, v4);
}

#[test]
fn udp_goes_to_udp_and_rtp_over_ipv6() {
    relays_to_udp_and_rtp(Wire::Udp, v6);
}

#[test]
fn rtp_goes_to_udp_and_rtp_over_ipv6() {
    relays_to_udp_and_rtp(Wire::Rtp, v6);
}

#[test]
fn a_bind_without_address_hears_both_families() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let _daemon = Daemon::with_flow(&format!(
        "[sources.main]\nprotocol = 'udp'\nbind = ':{input}'\nallow = ['127.0.0.0/8', '::1']\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    ));
    let (over_v4, over_v6) = (sending_socket(v4(1)), sending_socket(v6(1)));
    let bytes = STREAM.datagrams(2);
    over_v4.send_to(&bytes[..SEVEN], v4(input)).unwrap();
    sink.wait_for_end(7);
    over_v6.send_to(&bytes[SEVEN..], v6(input)).unwrap();
    sink.assert_all(14);
}

#[test]
fn a_daemon_that_is_ready_has_opened_its_flows() {
    let (input, output) = (free_port(), free_port());
    let daemon = Setup::new().flow("flow", &one_to_one("udp", input, "", "udp", output, "")).start_until_ready();
    assert_eq!(daemon.flow("flow")["state"], "active");
}

#[test]
fn a_reload_that_has_returned_is_applied() {
    let daemon = Setup::new().start();
    daemon.write_flow("flow", &one_to_one("udp", free_port(), "", "udp", free_port(), ""));
    daemon.ctl_ok(&["reload"]);
    assert_eq!(daemon.flow("flow")["state"], "active");
}

#[test]
fn senders_that_are_not_allowed_are_counted_and_named() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let daemon = Daemon::with_flow(&one_to_one("udp", input, "allow = ['127.0.0.1/32']", "udp", output, ""));
    let stranger = UdpSocket::bind("127.0.0.66:0").unwrap();
    for _ in 0..10 {
        stranger.send_to(&STREAM.datagrams(1), v4(input)).unwrap();
    }
    daemon.wait_for_flow("flow", "ten are denied, and from where", |flow| {
        count(flow, "sources/main/packets-denied") == 10
            && flow["sources"]["main"]["denied-addresses"][0].as_str().is_some_and(|from| from == "127.0.0.66")
    });
    daemon.wait_for_condition("flow", "source-denied");
    let sent = Feed::new(Wire::Udp, v4(input), STREAM).send_for(Duration::from_millis(500));
    sink.assert_all(sent);
    assert_eq!(count(&daemon.flow("flow"), "sources/main/packets-denied"), 10);
}

#[test]
fn ttl_and_dscp_are_on_every_packet() {
    let input = free_port();
    let outputs = [v4(free_port()), v6(free_port())];
    let receivers = outputs.map(receiving_socket);
    let _daemon = Daemon::with_flow(&format!(
        "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.four]\nprotocol = 'udp'\ndestination = '{}'\nttl = 7\ndscp = 'ef'\n\
         [outputs.six]\nprotocol = 'rtp'\ndestination = '{}'\nttl = 9\ndscp = 34\n",
        outputs[0], outputs[1]
    ));
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    for (receiver, wanted) in receivers.iter().zip([(7, 46 << 2), (9, 34 << 2)]) {
        for _ in 0..20 {
            assert_eq!(receive_marks(receiver), wanted);
        }
    }
    feed.stop();
}

#[test]
fn without_ttl_and_dscp_packets_go_with_64_and_0() {
    let (input, output) = (free_port(), free_port());
    let receiver = receiving_socket(v4(output));
    let _daemon = Daemon::with_flow(&one_to_one("udp", input, "", "udp", output, ""));
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    assert_eq!(receive_marks(&receiver), (64, 0));
    feed.stop();
}

#[test]
fn datagrams_are_regathered_across_those_received() {
    for (received, sent_on) in [(7, 3), (1, 7), (3, 2)] {
        let (input, output) = (free_port(), free_port());
        let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
        let keys = format!("datagram-packets = {sent_on}");
        let _daemon = Daemon::with_flow(&one_to_one("udp", input, "", "udp", output, &keys));
        let sent = Feed::new(Wire::Udp, v4(input), STREAM).packets(received).send_for(Duration::from_secs(1));
        // The end comes too, though it may not fill a datagram.
        sink.assert_all(sent);
        let sizes = sink.received().sizes;
        let whole = sizes.get(&(sent_on * 188)).copied().unwrap_or(0);
        assert!(whole * sent_on as u64 >= sent * 9 / 10, "{received} to {sent_on}: {sizes:?}");
        assert!(sizes.keys().all(|size| *size <= sent_on * 188), "{sizes:?}");
    }
}

#[test]
fn passthrough_sends_the_very_bytes_of_the_source() {
    let (input, output) = (free_port(), free_port());
    let receiver = receiving_socket(v4(output));
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let _daemon = Daemon::with_flow(&one_to_one("rtp", input, "", "rtp", output, "header = 'passthrough'"));
    let (sender, media) = (sending_socket(v4(input)), STREAM.datagrams(1));
    let dressed = |seq: u16| {
        let mut packet = vec![0x80 | 0x20 | 0x10 | 1, 0x80 | 33];
        packet.extend(seq.to_be_bytes());
        packet.extend([1, 2, 3, 4, 0xCA, 0xFE, 0, 1]); // timestamp, SSRC
        packet.extend([0, 0, 0, 77]); // a contributing source
        packet.extend([0xBE, 0xDE, 0, 1, 0x10, 9, 0, 0]); // an extension
        packet.extend(&media);
        packet.extend([0, 0, 0, 4]); // padding
        packet
    };
    let mut buffer = [0; 2048];
    for seq in [65_534, 65_535, 0, 1] {
        let packet = dressed(seq);
        sender.send_to(&packet, v4(input)).unwrap();
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], packet, "sequence {seq}");
    }
}

#[test]
fn an_rtp_output_has_the_payload_type_and_ssrc_of_its_keys() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
    let keys = "payload-type = 100\nssrc = 3405691582";
    let _daemon = Daemon::with_flow(&one_to_one("rtp", input, "", "rtp", output, keys));
    let sent = Feed::new(Wire::Rtp, v4(input), STREAM).send_for(Duration::from_millis(500));
    sink.assert_all(sent);
    let received = sink.received();
    assert!(received.payload_types.iter().eq(&[100]) && received.ssrcs.iter().eq(&[0xCAFE_BABE]), "{received:?}");
}

#[test]
fn what_arrives_wrongly_is_counted_and_named() {
    let media = STREAM.datagrams(1);
    let rtp = rtp_packet(Seq(1), RtpTime(0), 1, &media);
    let cases = [
        ("udp", rtp, "source-protocol-mismatch", "RTP", None),
        ("rtp", media, "source-protocol-mismatch", "RTP", None),
        ("udp", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "source-not-ts", "MPEG", None),
        ("udp", [&[0x47][..], &[0; 203]].concat().repeat(6), "source-not-ts", "MPEG", Some("204")),
    ];
    for (protocol, datagram, code, word, reason) in cases {
        let (input, output) = (free_port(), free_port());
        let receiver = receiving_socket(v4(output));
        let daemon = Daemon::with_flow(&one_to_one(protocol, input, "", "udp", output, ""));
        let sender = sending_socket(v4(input));
        for _ in 0..20 {
            sender.send_to(&datagram, v4(input)).unwrap();
        }
        let condition = daemon.wait_for_condition("flow", code);
        assert!(condition["message"].as_str().unwrap().contains(word), "{condition}");
        let flow = daemon.wait_for_flow("flow", "20 invalid", |flow| count(flow, "sources/main/packets-invalid") == 20);
        assert_eq!(count(&flow, "sources/main/packets"), 0);
        let (named, times) = flow["sources"]["main"]["invalid"].as_object().unwrap().iter().next().unwrap();
        assert!(times == 20 && named.contains(reason.unwrap_or_default()), "{named} {times}");
        receiver.set_nonblocking(true).unwrap();
        assert!(receiver.recv(&mut [0; 2048]).is_err(), "nothing of it is sent on");
        let explained = daemon.ctl(&["explain", "flow"]);
        assert_eq!(explained.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&explained.stdout).contains(word));
    }
}

#[test]
fn datagrams_with_some_sync_bytes_missing_pass_untouched() {
    let (input, output) = (free_port(), free_port());
    let receiver = receiving_socket(v4(output));
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = Daemon::with_flow(&one_to_one("udp", input, "", "udp", output, ""));
    let mut media = STREAM.datagrams(1);
    media[0] = 0;
    media[3 * 188] = 0x46;
    sending_socket(v4(input)).send_to(&media, v4(input)).unwrap();
    let mut buffer = [0; 2048];
    let length = receiver.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], media);
    daemon.wait_for_flow("flow", "two sync errors", |flow| count(flow, "sources/main/sync-errors") == 2);
}

#[test]
fn what_is_above_the_maximum_bitrate_is_dropped_and_counted() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let daemon = Daemon::with_flow(&one_to_one("udp", input, "max-bitrate = '2M'", "udp", output, ""));
    let sent = Feed::new(Wire::Udp, v4(input), STREAM).send_for(Duration::from_secs(3));
    let flow = daemon.wait_for_flow("flow", "every datagram is counted once", |flow| {
        count(flow, "sources/main/packets") + count(flow, "sources/main/packets-over-bitrate") == sent / 7
    });
    let share = count(&flow, "sources/main/packets") * 700 / sent;
    assert!((30..60).contains(&share), "{share} % of 5 Mbit/s came through 2 Mbit/s");
    assert_eq!(sink.received().verdict.corrupt, 0);
}

#[test]
fn loss_repeats_and_disorder_are_counted_as_the_network_made_them() {
    let [input, middle, output] = [free_port(), free_port(), free_port()];
    let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
    let daemon = Daemon::with_flow(&one_to_one("rtp", input, "reorder-window = '200ms'", "rtp", output, ""));
    let impairment = Impairment {
        seed: 7,
        loss: 2,
        duplicate: 3,
        reorder: 5,
        reorder_by: 3,
        delay: Duration::from_millis(5),
        ..Impairment::default()
    };
    let proxy = Proxy::start(v4(middle), v4(input), impairment);
    let sent = Feed::new(Wire::Rtp, v4(middle), STREAM).send_for(Duration::from_secs(4)) / 7;
    let report = proxy.stop();
    assert_eq!(report.received, sent, "the test's own network keeps up");
    assert!(report.dropped > 5 && report.duplicated > 5 && report.reordered > 5, "{report:?}");
    let flow = daemon
        .wait_for_flow("flow", "all is delivered", |flow| count(flow, "outputs/out/packets") >= sent - report.dropped);
    assert_eq!(count(&flow, "sources/main/packets-duplicate"), report.duplicated);
    assert_eq!(count(&flow, "sources/main/packets-late"), 0);
    assert!(count(&flow, "sources/main/packets-reordered") >= report.reordered / 2, "{report:?} {flow:#}");
    // A loss at the very end or before the first packet leaves no gap.
    let lost = count(&flow, "sources/main/packets-lost");
    assert!((report.dropped - 2..=report.dropped).contains(&lost), "{report:?} {lost}");
    assert_eq!(count(&flow, "sources/main/packets-unrecovered"), lost);
    assert_eq!(count(&flow, "sources/main/packets-recovered"), 0);
    let received = sink.received();
    assert_eq!((received.verdict.corrupt, received.verdict.duplicated, received.verdict.reordered), (0, 0, 0));
    assert_eq!(received.sequence_breaks, 0, "an output of its own sequence has no gaps");
}

#[test]
fn a_source_that_starts_anew_loses_nothing() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
    let daemon = Daemon::with_flow(&one_to_one("rtp", input, "", "rtp", output, ""));
    let (sender, media) = (sending_socket(v4(input)), STREAM.datagrams(300));
    let start = Instant::now();
    for (index, payload) in media.chunks(SEVEN).enumerate() {
        let index = index as u16;
        let (ssrc, seq) = match index {
            0..100 => (1, 65_500_u16.wrapping_add(index)),
            100..200 => (2, index),
            _ => (2, index + 30_000),
        };
        let due = Duration::from_millis(2) * u32::from(index);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        sender.send_to(&rtp_packet(Seq(seq), RtpTime(0).add(due), ssrc, payload), v4(input)).unwrap();
    }
    sink.assert_all(2100);
    let flow = daemon.flow("flow");
    assert_eq!(count(&flow, "sources/main/restarts"), 2);
    assert_eq!(count(&flow, "sources/main/packets-lost"), 0);
    assert_eq!(flow["sources"]["main"]["ssrc"], "0x00000002");
}

#[test]
fn an_output_that_nobody_receives_costs_only_itself() {
    let [input, good, closed] = [free_port(), free_port(), free_port()];
    let sink = Sink::bind(Wire::Udp, v4(good), STREAM);
    let daemon = Daemon::with_flow(&format!(
        "{}[outputs.dead]\nprotocol = 'udp'\ndestination = '127.0.0.1:{closed}'\n",
        one_to_one("udp", input, "", "udp", good, "")
    ));
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    daemon.wait_for_condition("flow", "output-unreachable");
    let flow = daemon.flow("flow");
    assert_eq!(flow["outputs"]["dead"]["state"], "error");
    assert_eq!(flow["outputs"]["out"]["state"], "sending");
    let late = Sink::bind(Wire::Udp, v4(closed), STREAM);
    daemon.wait_for_flow("flow", "it sends again", |flow| flow["outputs"]["dead"]["state"] == "sending");
    late.wait_for_media();
    sink.assert_all(feed.stop());
    assert_eq!(count(&daemon.flow("flow"), "outputs/out/packets-dropped"), 0);
}

#[test]
fn five_hundred_outputs_receive_everything() {
    let (input, output) = (free_port(), free_port());
    let stream = Stream::at(500_000);
    let addresses: Vec<_> = (0..500_u16)
        .map(|n| SocketAddr::new(Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250) as u8 + 1).into(), output))
        .collect();
    let sink = Sink::on(addresses.iter().copied().map(receiving_socket).collect(), Wire::Udp, stream);
    let outputs: String = addresses
        .iter()
        .enumerate()
        .map(|(n, to)| format!("[outputs.o{n}]\nprotocol = 'udp'\ndestination = '{to}'\n"))
        .collect();
    let source = format!("[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n");
    let daemon = Daemon::with_flow(&format!("{source}{outputs}"));
    let sent = Feed::new(Wire::Udp, v4(input), stream).send_for(TWO_SECONDS);
    sink.assert_all(sent);
    assert_eq!(daemon.flow("flow")["outputs"].as_object().unwrap().len(), 500);
}

#[test]
fn ten_outputs_of_50_megabits_receive_every_byte() {
    let seconds = if std::env::var_os("MEDIACONNECT_LONG").is_some() { 60 } else { 10 };
    let (input, stream) = (free_port(), Stream::at(50_000_000));
    let ports: Vec<_> = (0..10).map(|_| free_port()).collect();
    let sinks: Vec<_> = ports.iter().map(|port| Sink::bind(Wire::Udp, v4(*port), stream)).collect();
    let outputs: String = ports
        .iter()
        .enumerate()
        .map(|(n, port)| format!("[outputs.o{n}]\nprotocol = 'udp'\ndestination = '127.0.0.1:{port}'\n"))
        .collect();
    let source = format!("[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n");
    let daemon = Daemon::with_flow(&format!("{source}{outputs}"));
    let sent = Feed::new(Wire::Udp, v4(input), stream).send_for(Duration::from_secs(seconds));
    sinks.iter().for_each(|sink| sink.assert_all(sent));
    let flow = daemon.flow("flow");
    assert_eq!(count(&flow, "sources/main/packets-kernel-dropped"), 0);
    assert!((0..10).all(|n| count(&flow, &format!("outputs/o{n}/packets-dropped")) == 0));
}

/// The test's network and the daemon's, joined by a cable: `here` (10.9.0.1, 10.9.0.3, fd09::1), `there` (10.9.0.2, fd09::2).
fn cable() -> Namespace {
    Namespace::joined(
        ("here", &["10.9.0.1/24", "10.9.0.3/24", "fd09::1/64"]),
        ("there", &["10.9.0.2/24", "fd09::2/64"]),
    )
}

fn index_of(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

/// A socket that sends to multicast groups over the cable, from one of the test's addresses.
fn multicast_sender(from: &str) -> UdpSocket {
    let from: IpAddr = from.parse().unwrap();
    let socket = UdpSocket::bind((from, 0)).unwrap();
    let options = socket2::SockRef::from(&socket);
    match from {
        IpAddr::V4(from) => options.set_multicast_if_v4(&from).unwrap(),
        IpAddr::V6(_) => options.set_multicast_if_v6(index_of("here")).unwrap(),
    }
    socket
}

/// A socket that has joined a group on the test's end of the cable.
fn multicast_receiver(group: SocketAddr) -> UdpSocket {
    let socket = receiving_socket(group);
    match group.ip() {
        IpAddr::V4(group) => socket.join_multicast_v4(&group, &Ipv4Addr::new(10, 9, 0, 1)).unwrap(),
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index_of("here")).unwrap(),
    }
    socket
}

fn multicast_flow(input: SocketAddr, source_keys: &str, output: SocketAddr) -> String {
    format!(
        "[sources.main]\nprotocol = 'rtp'\nbind = '{input}'\ninterface = 'there'\n{source_keys}\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '{output}'\ninterface = 'there'\n"
    )
}

fn relays_multicast(from: &str, groups: [&str; 2]) {
    let cable = cable();
    let [input, output] = groups.map(|group| SocketAddr::new(group.parse().unwrap(), free_port()));
    // One flow is judged by its marks, the other by its bytes.
    let [other_input, other_output] = [input, output].map(|address| SocketAddr::new(address.ip(), address.port() + 2));
    let marked = multicast_receiver(output);
    let sink = Sink::on(vec![multicast_receiver(other_output)], Wire::Udp, STREAM);
    let _daemon = Setup::new()
        .flow("marked", &multicast_flow(input, "", output))
        .flow("judged", &multicast_flow(other_input, "", other_output))
        .in_namespace(&cable)
        .start();
    let feed = Feed::new(Wire::Rtp, input, STREAM).from(multicast_sender(from)).start();
    assert_eq!(receive_marks(&marked), (16, 0), "multicast goes 16 hops");
    feed.stop();
    let sent = Feed::new(Wire::Rtp, other_input, STREAM).from(multicast_sender(from)).send_for(TWO_SECONDS);
    sink.assert_all(sent);
}

#[test]
fn any_source_multicast_is_joined_and_sent() {
    in_own_network("any_source_multicast_is_joined_and_sent", || {
        relays_multicast("10.9.0.1", ["239.9.1.1", "239.9.2.2"]);
    });
}

#[test]
fn any_source_multicast_is_joined_and_sent_over_ipv6() {
    in_own_network("any_source_multicast_is_joined_and_sent_over_ipv6", || {
        relays_multicast("fd09::1", ["ff15::9:1", "ff15::9:2"]);
    });
}

#[test]
fn source_specific_multicast_hears_its_sources_only() {
    in_own_network("source_specific_multicast_hears_its_sources_only", || {
        let cable = cable();
        let [input, output] =
            ["232.9.1.1", "239.9.2.2"].map(|group| SocketAddr::new(group.parse().unwrap(), free_port()));
        let sink = Sink::on(vec![multicast_receiver(output)], Wire::Udp, STREAM);
        let flow = multicast_flow(input, "multicast-sources = ['10.9.0.1']", output);
        let daemon = Setup::new().flow("flow", &flow).in_namespace(&cable).start();
        let stranger = Feed::new(Wire::Rtp, input, Stream { seed: 99, ..STREAM }).from(multicast_sender("10.9.0.3"));
        let stranger = stranger.start();
        let sent = Feed::new(Wire::Rtp, input, STREAM).from(multicast_sender("10.9.0.1")).send_for(TWO_SECONDS);
        sink.assert_all(sent);
        assert!(stranger.stop() > 0);
        assert_eq!(count(&daemon.flow("flow"), "sources/main/packets"), sent / 7);
    });
}

#[test]
fn multicast_comes_back_after_the_interface_was_down() {
    in_own_network("multicast_comes_back_after_the_interface_was_down", || {
        let cable = cable();
        let [input, output] =
            ["239.9.1.1", "239.9.2.2"].map(|group| SocketAddr::new(group.parse().unwrap(), free_port()));
        let daemon = Setup::new().flow("flow", &multicast_flow(input, "", output)).in_namespace(&cable).start();
        let sink = Sink::on(vec![multicast_receiver(output)], Wire::Udp, STREAM);
        let feed = Feed::new(Wire::Rtp, input, STREAM).from(multicast_sender("10.9.0.1")).start();
        sink.wait_for_media();
        cable.run(["ip", "link", "set", "there", "down"]);
        daemon.wait_for_flow("flow", "the source is lost", |flow| flow["sources"]["main"]["state"] == "lost");
        cable.run(["ip", "link", "set", "there", "up"]);
        daemon.wait_for_flow("flow", "the source is back", |flow| flow["sources"]["main"]["state"] == "receiving");
        let before = sink.received().verdict.ok;
        wait_for("the output is back", || (sink.received().verdict.ok > before + 1000).then_some(()));
        assert_eq!(sink.received().verdict.corrupt, 0);
        feed.stop();
    });
}

#[test]
fn a_flow_opens_when_its_interface_appears() {
    in_own_network("a_flow_opens_when_its_interface_appears", || {
        let cable = cable();
        cable.run(["ip", "link", "set", "there", "down"]);
        cable.run(["ip", "link", "set", "there", "name", "elsewhere"]);
        let [input, output] =
            ["239.9.1.1", "239.9.2.2"].map(|group| SocketAddr::new(group.parse().unwrap(), free_port()));
        let daemon = Setup::new().flow("flow", &multicast_flow(input, "", output)).in_namespace(&cable).start();
        daemon.wait_for_condition("flow", "interface-missing");
        let sink = Sink::on(vec![multicast_receiver(output)], Wire::Udp, STREAM);
        let feed = Feed::new(Wire::Rtp, input, STREAM).from(multicast_sender("10.9.0.1")).start();
        cable.run(["ip", "link", "set", "elsewhere", "name", "there"]);
        cable.run(["ip", "link", "set", "there", "up"]);
        sink.wait_for_media();
        daemon.wait_for_flow("flow", "the flow is active", |flow| flow["state"] == "active");
        feed.stop();
    });
}

#[test]
fn multicast_on_loopback_needs_no_second_machine() {
    in_own_network("multicast_on_loopback_needs_no_second_machine", || {
        run(["ip", "link", "set", "lo", "multicast", "on"]);
        run(["ip", "route", "add", "239.0.0.0/8", "dev", "lo"]);
        let [input, output] =
            ["239.9.1.1", "239.9.2.2"].map(|group| SocketAddr::new(group.parse().unwrap(), free_port()));
        let receiver = receiving_socket(output);
        receiver.join_multicast_v4(&Ipv4Addr::new(239, 9, 2, 2), &Ipv4Addr::LOCALHOST).unwrap();
        let sink = Sink::on(vec![receiver], Wire::Udp, STREAM);
        let flow = multicast_flow(input, "", output).replace("'there'", "'lo'");
        let _daemon = Daemon::with_flow(&flow);
        let sent = Feed::new(Wire::Rtp, input, STREAM).send_for(Duration::from_secs(1));
        sink.assert_all(sent);
    });
}

/// What a header of this crate and the wire agree on is no proof alone: two bytes by hand.
#[test]
fn rtp_outputs_are_rtp_by_the_bytes() {
    let (input, output) = (free_port(), free_port());
    let receiver = receiving_socket(v4(output));
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let _daemon = Daemon::with_flow(&one_to_one("udp", input, "", "rtp", output, ""));
    let media = STREAM.datagrams(1);
    let (sender, mut buffer) = (sending_socket(v4(input)), [0; 2048]);
    let mut packets = Vec::new();
    for _ in 0..3 {
        sender.send_to(&media, v4(input)).unwrap();
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!((length, buffer[0], buffer[1] & 0x7F), (12 + SEVEN, 0x80, 33));
        assert_eq!(&buffer[12..length], media);
        packets.push(Header::parse(&buffer[..length]).unwrap());
    }
    assert!(packets.windows(2).all(|pair| pair[1].seq.distance(pair[0].seq) == 1 && pair[1].ssrc == pair[0].ssrc));
}
