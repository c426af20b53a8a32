//! Datagrams that nobody asked for, faster than any stream.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::crowd::Random;

/// Datagrams a second.
const RATE: u64 = 50_000;
/// How many different ones there are at a time.
const POOL: usize = 4096;
/// What the memory of who gets them may grow by.
pub const GROWTH: u64 = 8 << 20;

/// How many to send: ten million where `MEDIACONNECT_LONG` is set, else this many, or what can be sent in this time.
pub fn extent(datagrams: u64, longest: Duration) -> (u64, Duration) {
    let long = std::env::var_os("MEDIACONNECT_LONG").is_some();
    if long { (10_000_000, Duration::MAX) } else { (datagrams, longest) }
}

/// Send so many of these to the targets from eight addresses of loopback; fewer where that takes too long. How many were
/// sent.
pub fn flood(
    random: &mut Random,
    targets: &[SocketAddr],
    (datagrams, longest): (u64, Duration),
    mut make: impl FnMut(&mut Random) -> Vec<u8>,
) -> u64 {
    let bind = |host| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).expect("a port of loopback");
    let senders: Vec<_> = (1..=8).map(bind).collect();
    let mut pool: Vec<_> = (0..POOL).map(|_| make(random)).collect();
    let start = Instant::now();
    for n in 0..datagrams {
        if n % 100 == 0 {
            if start.elapsed() > longest {
                return n;
            }
            std::thread::sleep(Duration::from_micros(n * 1_000_000 / RATE).saturating_sub(start.elapsed()));
            let at = random.below(pool.len());
            pool[at] = make(random);
        }
        let (sender, to) = (&senders[random.below(senders.len())], targets[random.below(targets.len())]);
        // What the kernel refuses is bad enough.
        let _ = sender.send_to(&pool[random.below(pool.len())], to);
    }
    datagrams
}
