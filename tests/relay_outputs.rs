//! What outputs do with a stream: two legs, FEC, smoothing, through the real daemon.

mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use mediaconnect::proto::fec2022_1::header::{FecHeader, FecStream};
use mediaconnect::proto::rtp::header::Header;
use support::daemon::{Daemon, Setup, count};
use support::media::{Feed, SEVEN, Sink, Stream, Wire, receiving_socket, v4, v6};
use support::netns::{in_own_network, run};
use support::ports::free_port;
use support::{PATIENCE, wait_for};

const STREAM: Stream = Stream::at(5_000_000);
/// Enough to tell; the media of about a second.
const PACKETS: usize = 500;

/// A flow from a source on IPv4 loopback to outputs.
fn flow(protocol: &str, input: u16, outputs: &str) -> String {
    format!("[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{input}'\n{outputs}")
}

fn two_legs(name: &str, header: &str, [first, second]: [&str; 2]) -> String {
    format!(
        "[outputs.{name}]\nprotocol = 'rtp'\nheader = '{header}'\n\
         legs = [{{ destination = {first} }}, {{ destination = {second} }}]\n"
    )
}

/// The next `count` datagrams.
fn datagrams(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 2048];
    let mut next = || {
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    (0..count).map(|_| next()).collect()
}

/// So many datagrams of each socket, read as they come.
fn datagrams_of_all(sockets: &[UdpSocket], counts: &[usize]) -> Vec<Vec<Vec<u8>>> {
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            sockets.iter().zip(counts).map(|(socket, count)| scope.spawn(|| datagrams(socket, *count))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    })
}

#[test]
fn both_legs_carry_the_same_rtp_packets_whatever_their_families() {
    let input = free_port();
    let legs = [v4(free_port()), v6(free_port())];
    let sockets = legs.map(receiving_socket);
    let text = two_legs("out", "regenerate", [&format!("'{}'", legs[0]), &format!("'{}'", legs[1])]);
    let daemon = Daemon::with_flow(&flow("udp", input, &text));
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let packets = datagrams_of_all(&sockets, &[PACKETS; 2]);
    assert_eq!(packets[0], packets[1]);
    let sent = feed.stop() / 7;
    let flow =
        daemon.wait_for_flow("flow", "each packet counts once", |flow| count(flow, "outputs/out/packets") == sent);
    assert_eq!(flow["outputs"]["out"]["state"], "sending");
    assert_eq!(flow["outputs"]["out"]["peers"].as_array().unwrap().len(), 2);
}

#[test]
fn two_appliances_fed_by_the_same_source_send_the_same_packets() {
    let inputs = [free_port(), free_port()];
    let outputs = [(); 4].map(|()| v4(free_port()));
    let sockets = outputs.map(receiving_socket);
    let legs = outputs.map(|output| format!("'{output}'"));
    let _appliances = [0, 1].map(|n| {
        let text = two_legs("out", "passthrough", [&legs[2 * n], &legs[2 * n + 1]]);
        Daemon::with_flow(&flow("rtp", inputs[n], &text))
    });
    let feeds = inputs.map(|input| Feed::new(Wire::Rtp, v4(input), STREAM).start());
    let packets = datagrams_of_all(&sockets, &[PACKETS; 4]);
    for feed in feeds {
        feed.stop();
    }
    assert!(packets.iter().all(|leg| *leg == packets[0]));
}

#[test]
fn a_leg_whose_interface_is_missing_joins_when_it_appears_and_the_other_loses_nothing() {
    in_own_network("a_leg_whose_interface_is_missing_joins_when_it_appears_and_the_other_loses_nothing", || {
        let (input, output) = (free_port(), free_port());
        let group = SocketAddr::new(Ipv4Addr::new(239, 9, 3, 3).into(), free_port());
        let sink = Sink::bind(Wire::Rtp, v4(output), STREAM);
        let second = format!("'{group}', interface = 'later'");
        let text = two_legs("out", "regenerate", [&format!("'127.0.0.1:{output}'"), &second]);
        let daemon = Daemon::with_flow(&flow("udp", input, &text));
        let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
        sink.wait_for_media();
        let peers = |daemon: &Daemon| daemon.flow("flow")["outputs"]["out"]["peers"].as_array().unwrap().len();
        assert_eq!(peers(&daemon), 1);
        run(["ip", "link", "add", "later", "type", "veth", "peer", "name", "end"]);
        run(["ip", "address", "add", "10.9.3.1/24", "dev", "later"]);
        run(["ip", "link", "set", "end", "up"]);
        let member = receiving_socket(group);
        member.join_multicast_v4(&Ipv4Addr::new(239, 9, 3, 3), &Ipv4Addr::new(10, 9, 3, 1)).unwrap();
        run(["ip", "link", "set", "later", "up"]);
        assert_eq!(datagrams(&member, 100).len(), 100);
        wait_for("both legs are shown", || (peers(&daemon) == 2).then_some(()));
        run(["ip", "link", "delete", "later"]);
        wait_for("one leg is shown", || (peers(&daemon) == 1).then_some(()));
        sink.assert_all(feed.stop());
    });
}

#[test]
fn fec_leaves_on_its_own_ports_and_fits_the_media() {
    let (input, output) = (free_port(), free_port());
    let sockets = [0, 2, 4].map(|more| receiving_socket(v4(output + more)));
    let text = format!(
        "[outputs.out]\nprotocol = 'rtp-fec'\ndestination = '127.0.0.1:{output}'\nfec = {{ columns = 5, rows = 4 }}\n"
    );
    let daemon = Daemon::with_flow(&flow("udp", input, &text));
    let feed = Feed::new(Wire::Udp, v4(input), STREAM).start();
    // Whole blocks of 20; the columns of the last one are sent during the next.
    let blocks = PACKETS / 20;
    let [media, columns, rows] =
        datagrams_of_all(&sockets, &[PACKETS, (blocks - 1) * 5, blocks * 4]).try_into().unwrap();
    let sent = feed.stop() / 7;
    let first = Header::parse(&media[0]).unwrap().seq;
    for (stream, packets) in [(FecStream::Column, columns), (FecStream::Row, rows)] {
        for packet in packets {
            let fec = FecHeader::parse(&packet).unwrap();
            assert_eq!((fec.stream, packet.len()), (stream, 28 + SEVEN));
            let base = usize::from(fec.base.0.wrapping_sub(first.0));
            let members = (0..usize::from(fec.na)).map(|n| &media[base + n * usize::from(fec.offset)]);
            let mut sum = packet[28..].to_vec();
            members.for_each(|member| sum.iter_mut().zip(&member[12..]).for_each(|(sum, byte)| *sum ^= byte));
            assert!(sum.iter().all(|byte| *byte == 0));
        }
    }
    daemon.wait_for_flow("flow", "media is counted alone", |flow| count(flow, "outputs/out/packets") == sent);
}

#[test]
fn a_reload_that_changes_smoothing_or_legs_loses_nothing() {
    let (input, ports) = (free_port(), [(); 4].map(|()| free_port()));
    let sinks = ports.map(|port| Sink::bind(Wire::Rtp, v4(port), STREAM));
    let text = |smoothing: &str, legs: bool| {
        let output = |name: &str, keys: &str| format!("[outputs.{name}]\nprotocol = 'rtp'\n{keys}\n");
        let destination = |port: u16| format!("destination = '127.0.0.1:{port}'");
        let legs = match legs {
            true => format!("legs = [{{ {} }}, {{ {} }}]", destination(ports[2]), destination(ports[3])),
            false => destination(ports[2]),
        };
        let changed = format!("{}\n{smoothing}", destination(ports[0]));
        let steady = format!("{}\nsmoothing = '50ms'", destination(ports[1]));
        let all = [output("changed", &changed), output("steady", &steady), output("legs", &legs)].concat();
        flow("rtp", input, &all)
    };
    let daemon = Setup::new().flow("flow", &text("", true)).start();
    let feed = Feed::new(Wire::Rtp, v4(input), STREAM).start();
    sinks.iter().for_each(Sink::wait_for_media);
    for (smoothing, legs) in
        [("smoothing = '100ms'", true), ("smoothing = '20ms'", true), ("smoothing = '50ms'", false), ("", true)]
    {
        let before = sinks[0].received().verdict.ok;
        daemon.write_flow("flow", &text(smoothing, legs));
        daemon.ctl_ok(&["reload"]);
        wait_for("media goes on", || (sinks[0].received().verdict.ok > before + 700).then_some(()));
    }
    let sent = feed.stop();
    sinks[..2].iter().for_each(|sink| sink.assert_all(sent));
}
