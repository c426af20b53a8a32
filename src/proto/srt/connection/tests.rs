use super::super::testing::*;

#[test]
fn explore() {
    let losses = [
        ("none", Loss::None), ("2 %", Loss::Random(20)), ("5 %", Loss::Random(50)), ("10 %", Loss::Random(100)),
        ("bursts", Loss::Bursts(200, 100)),
    ];
    let packets: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    for both in [false, true] {
    for (name, loss) in losses {
        for latency in [2, 4, 6, 8] {
            let clean = Path::of(50);
            let mut setup = Setup::new(1, clean, latency * 100);
            setup.paths[0] = clean.losing(loss);
            if both { setup.paths[1] = clean.losing(loss); }
            let mut pair = setup.pair();
            pair.send(0, packets, 1000);
            pair.run(packets * 1000 + 3 * S);
            let (a, b) = (pair.stats(0), pair.stats(1));
            println!("{both:5} {name:7} {latency} RTT: lost {:5}  resent {:6} ({:4.1} %)  dup {:5} naks {:5} acks {:5} probes {} rtt {:?}/{:?} late {} services {} {}",
                pair.lost(), a.sent.retransmitted, a.sent.retransmitted as f64 * 100.0 / packets as f64,
                b.received.duplicates, b.received.naks, b.received.acks, a.sent.probes, a.rtt, a.rtt_var, pair.ends[1].worst_late,
                pair.ends[0].services, pair.ends[1].services);
            if pair.lost() > packets / 10 { println!("{a:#?} {b:#?}"); }
        }
    }
    }
}
