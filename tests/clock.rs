//! The system's clock is set while flows run: they go on, and nothing is lost.
//!
//! It is set for the daemon alone, by libfaketime. The kernel's receive stamps keep to the true time, so each contradicts
//! the clock from then on, where after a real step only those do that are under way.

mod support;

use support::daemon::{Setup, write_atomically};
use support::media::{Feed, Sink, Stream, Wire, v4};
use support::ports::free_port;
use support::srt::ends::srt_section;
use support::srt::{Options, Place};
use support::wait_for;

const STREAM: Stream = Stream::at(5_000_000);
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";
/// From the true time.
const STEPS: [&str; 5] = ["+1h", "-2h", "+1d", "-3s", "-1d"];

fn source(name: &str, protocol: &str, port: u16) -> String {
    format!("[sources.{name}]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{port}'\n")
}

fn output(protocol: &str, port: u16) -> String {
    format!("[outputs.out]\nprotocol = '{protocol}'\ndestination = '127.0.0.1:{port}'\n")
}

/// The day and hour of the last line: its first 13 characters.
fn hour(log: &str) -> Option<String> {
    log.lines().last()?.get(..13).map(str::to_owned)
}

#[test]
fn a_clock_that_is_set_disturbs_no_flow() {
    let [udp, rtp, fec, srt, rist] = [(); 5].map(|()| [free_port(), free_port()]);
    let (legs, merged) = ([free_port(), free_port()], free_port());
    let ([by_srt, by_rist], bystander) = ([free_port(), free_port()], free_port());
    let two = source("a", "rtp", legs[0]) + &source("b", "rtp", legs[1]);
    let srt_to = |section, place| srt_section(section, place, &Options::new());
    let here = Setup::new()
        .flow("udp", &(source("main", "udp", udp[0]) + &output("udp", udp[1]) + "smoothing = '100ms'\n"))
        .flow("rtp", &(source("main", "rtp", rtp[0]) + &output("rtp", rtp[1])))
        .flow("fec", &(source("main", "rtp-fec", fec[0]) + &output("rtp-fec", fec[1])))
        .flow("merge", &(two + "[failover]\nmode = 'merge'\n" + &output("rtp", merged)))
        .flow("srt", &(source("main", "udp", srt[0]) + &srt_to("outputs.out", Place::Listener(by_srt))))
        .flow("rist", &(source("main", "udp", rist[0]) + &output("rist", by_rist)));
    let there = Setup::new()
        .flow("srt", &(srt_to("sources.main", Place::Caller(by_srt)) + &output("udp", srt[1])))
        .flow("rist", &(source("main", "rist", by_rist) + &output("udp", rist[1])));
    let clock = here.path("clock");
    let set = |to: &str| write_atomically(&clock, to);
    set("+0");
    let daemons = [here, there].map(|setup| {
        setup
            .environment("LD_PRELOAD", LIBRARY)
            .environment("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a name in ASCII"))
            .environment("FAKETIME_CACHE_DURATION", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .start()
    });
    daemons[1].wait_for_log("srt/main is connected");

    let flows = [
        (Wire::Udp, vec![udp[0]], udp[1]),
        (Wire::Rtp, vec![rtp[0]], rtp[1]),
        (Wire::Rtp, vec![fec[0]], fec[1]),
        (Wire::Rtp, legs.to_vec(), merged),
        (Wire::Udp, vec![srt[0]], srt[1]),
        (Wire::Udp, vec![rist[0]], rist[1]),
    ];
    let sinks = flows.each_ref().map(|(wire, _, to)| Sink::bind(*wire, v4(*to), STREAM));
    let feeds = flows
        .each_ref()
        .map(|(wire, from, _)| from.iter().map(|from| Feed::new(*wire, v4(*from), STREAM).start()).collect::<Vec<_>>());
    sinks.iter().for_each(Sink::wait_for_media);
    for step in STEPS {
        let before = daemons.each_ref().map(|daemon| hour(&daemon.log()));
        set(step);
        for (daemon, before) in daemons.iter().zip(before) {
            let there = |code| daemon.ask("GET", "/v1/flows/bystander").ok().filter(|(answer, _)| *answer == code);
            // What it logs bears its time; it looks at the file once a second.
            wait_for("its clock is set", || {
                daemon.write_flow("bystander", &source("main", "udp", bystander));
                wait_for("a flow is added", || there(200));
                daemon.remove_flow("bystander");
                wait_for("a flow is removed", || there(404));
                (hour(&daemon.log()) != before).then_some(())
            });
        }
    }
    let sent = feeds.map(|feeds| feeds.into_iter().map(|feed| feed.stop()).max().unwrap_or(0));
    for (sink, sent) in sinks.iter().zip(sent) {
        sink.assert_all(sent);
    }
}
