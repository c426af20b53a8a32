//! RIST to a group of IPv6, through a router that loses: media and RTCP go to the group, in both directions.

mod support;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use support::daemon::{Setup, count};
use support::media::{Feed, Sink, Stream, Wire};
use support::netns::{Namespace, in_own_network};
use support::paths::{Loss, nothing, only, percent};
use support::ports::free_port;

const STREAM: Stream = Stream::at(5_000_000);
/// Datagrams of a test stream: 3.2 s of it.
const DATAGRAMS: usize = 1500;
/// Losses leave the first packets alone, before which there is no gap, and the last ones, after which nothing shows it.
const LOSSY: std::ops::Range<u64> = 100..1400;
const GROUP: Ipv6Addr = Ipv6Addr::new(0xFF15, 0, 0, 0, 0, 0, 9, 1);

/// A multicast router between two cables: what is sent to one port of the group on either goes out on the other.
struct Router {
    stop: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Router {
    /// `loss`: of what goes from the first to the second.
    fn start(interfaces: [&str; 2], port: u16, loss: Loss) -> Self {
        let [first, second] = interfaces.map(|interface| Arc::new(member(interface, port)));
        let (stop, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pass = |from: &Arc<UdpSocket>, to: &Arc<UdpSocket>, mut loss: Loss| {
            let (from, to, stop, dropped) = (from.clone(), to.clone(), stop.clone(), dropped.clone());
            let mut buffer = vec![0; 65_536];
            std::thread::spawn(move || {
                for number in 0.. {
                    let length = loop {
                        match from.recv(&mut buffer) {
                            Ok(length) => break length,
                            Err(_) if stop.load(Ordering::Relaxed) => return,
                            Err(_) => {}
                        }
                    };
                    if loss(number) {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    } else {
                        to.send_to(&buffer[..length], (GROUP, port)).expect("the cable is there");
                    }
                }
            })
        };
        let threads = vec![pass(&first, &second, loss), pass(&second, &first, nothing())];
        Self { stop, dropped, threads }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a router does not panic"));
    }
}

/// A socket that hears the group on one cable, and nothing that it sends itself.
fn member(interface: &str, port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    // There is one of it on each cable.
    socket.set_reuse_address(true).unwrap();
    socket.bind_device(Some(interface.as_bytes())).unwrap();
    socket.bind(&SocketAddr::new(GROUP.into(), port).into()).unwrap();
    socket.join_multicast_v6(&GROUP, index).unwrap();
    socket.set_multicast_if_v6(index).unwrap();
    socket.set_multicast_loop_v6(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket.into()
}

#[test]
fn a_group_of_ipv6_is_asked_for_what_is_lost_and_sends_it_again() {
    in_own_network("a_group_of_ipv6_is_asked_for_what_is_lost_and_sends_it_again", || {
        let near = Namespace::joined(("near", &["fd09::1/64"]), ("there", &["fd09::2/64"]));
        let far = Namespace::joined(("far", &["fd0a::1/64"]), ("there", &["fd0a::2/64"]));
        let [input, port, output] = [free_port(), free_port(), free_port()];
        let media = Router::start(["near", "far"], port, only(LOSSY, percent(10, 1)));
        let _control = Router::start(["near", "far"], port + 1, nothing());
        let sink = Sink::bind(Wire::Udp, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), output), STREAM);
        let group = format!("'[{GROUP}]:{port}'\ninterface = 'there'\nlatency = '1s'\n");
        let sends = format!(
            "[sources.main]\nprotocol = 'udp'\nbind = '[fd09::2]:{input}'\nallow = ['fd09::1']\n\
             [outputs.out]\nprotocol = 'rist'\ndestination = {group}"
        );
        let receives = format!(
            "[sources.main]\nprotocol = 'rist'\nbind = {group}\
             [outputs.out]\nprotocol = 'udp'\ndestination = '[fd0a::1]:{output}'\n"
        );
        let receiving = Setup::new().flow("receives", &receives).in_namespace(&far).start();
        let sending = Setup::new().flow("sends", &sends).in_namespace(&near).start();
        receiving.wait_for_flow("receives", "the sender answers", |flow| {
            flow["sources"]["main"]["round-trip-ms"].is_number()
        });
        sending.wait_for_flow("sends", "a receiver answers", |flow| {
            flow["outputs"]["out"]["rist"]["legs"][0]["rtt-ms"].is_number()
        });
        let to = SocketAddr::new("fd09::2".parse().unwrap(), input);
        sink.assert_all(Feed::new(Wire::Udp, to, STREAM).send_for(STREAM.length(DATAGRAMS)));
        let dropped = media.dropped.load(Ordering::Relaxed);
        let recovered = count(&receiving.flow("receives"), "sources/main/packets-recovered");
        assert!(dropped > 80 && recovered > 60, "{dropped} dropped, {recovered} recovered");
        assert!(count(&sending.flow("sends"), "outputs/out/packets-retransmitted") >= recovered);
    });
}
