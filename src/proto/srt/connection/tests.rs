use super::super::testing::*;
use super::SendOrder;

#[test]
fn explore() {
    let losses = [
        ("none", Loss::None), ("2 %", Loss::Random(20)), ("5 %", Loss::Random(50)), ("10 %", Loss::Random(100)),
        ("bursts", Loss::Bursts(500, 10)),
    ];
    let packets: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    for both in [false, true] {
    for (name, loss) in losses {
        for latency in [2, 4, 6, 8] {
            let clean = Path { jitter: 2000, ..Path::of(49) };
            let seed = std::env::var("SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
            let mut setup = Setup::new(seed, clean, latency * 100);
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


#[test]
fn budgets() {
    for (name, kind) in [("10 %", 0), ("10 % + bursts 50ms", 1), ("outage 200 ms/5s", 2), ("limit 1.3", 3), ("limit 1.1", 4), ("limit 1.5, 10 %", 5), ("limit 1.05, 2 %", 6), ("limit 1.3 outage", 7)] {
        for order in [SendOrder::FreshFirst, SendOrder::LossesFirst] {
            for percent in [10, 25, 50, 100, 400] {
                let clean = Path { jitter: 2000, ..Path::of(49) };
                let mut setup = Setup::new(3, clean, 600);
                setup.config.order = order;
                setup.config.retransmit_percent = percent;
                // 1000 packets of 1400 bytes: 11.2 Mbit/s = 1.4 MB/s
                let limit = |f: f64| Some((1000.0 * (16.0 + 28.0 + 100.0) * f) as u64);
                setup.paths[0] = match kind {
                    0 => clean.losing(Loss::Random(100)),
                    1 => clean.losing(Loss::Bursts(450, 50)),
                    2 => clean.losing(Loss::Bursts(5000, 200)),
                    3 => Path { rate: limit(1.3), ..clean.losing(Loss::Random(50)) },
                    4 => Path { rate: limit(1.1), ..clean.losing(Loss::Random(50)) },
                    5 => Path { rate: limit(1.5), ..clean.losing(Loss::Random(100)) },
                    6 => Path { rate: limit(1.05), ..clean.losing(Loss::Random(20)) },
                    _ => Path { rate: limit(1.3), ..clean.losing(Loss::Bursts(5000, 200)) },
                };
                let mut pair = setup.pair();
                pair.ends[0].stream.bytes = 100;
                let packets = 50_000;
                pair.send(0, packets, 1000);
                pair.run(packets * 1000 + 3 * S);
                let a = pair.stats(0);
                println!("{name:20} {order:?} {percent:4}: lost {:5} resent {:5.1} % rtt {:?}", pair.lost(), a.sent.retransmitted as f64 * 100.0 / packets as f64, a.rtt);
            }
        }
    }
}
