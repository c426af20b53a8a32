//! Both ends against each other in a simulated network, in virtual time: every run is the same, and every run wraps.

use super::super::testing::*;

#[test]
fn explore() {
    let losses = [
        ("none", Loss::None), ("2 %", Loss::Random(20)), ("5 %", Loss::Random(50)), ("10 %", Loss::Random(100)),
        ("bursts", Loss::Bursts(500, 10)),
    ];
    for both in [false, true] {
        for (name, loss) in losses {
            for latency in [300, 500, 1000] {
                let clean = Path { jitter: 2000, ..Path::of(49) };
                let mut setup = Setup::new(1, clean, latency);
                setup.legs[0][0] = clean.losing(loss);
                if both { setup.legs[0][1] = clean.losing(loss); }
                let mut pair = setup.pair();
                pair.send(100_000, 1000);
                pair.run(100_000 * 1000 + 3 * S);
                let (a, b) = (pair.sender.stats(), pair.receiver.stats());
                println!("{both:5} {name:7} {latency}: lost {:5} resent {} dup {} req {} nacks {} rec {} unrec {} late {} services {} rtt {:?}/{:?}", pair.lost(), a.retransmitted, b.duplicates, b.requests, b.nacks, b.recovered, b.unrecovered, pair.worst_late, pair.services, pair.sender.leg_stats(pair.legs[0]).unwrap().rtt, pair.receiver.leg_stats(pair.legs[0]).unwrap().rtt);
                if pair.lost() > 50_000 { println!("{a:#?} {b:#?}"); }
            }
        }
    }
}
