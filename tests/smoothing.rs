//! Smoothing: what a network has made uneven leaves evenly.
//!
//! How even is judged beside a bare sender that sleeps from one packet to the next, in the same seconds, on the same
//! machine, by the kernel's receive stamps.

mod support;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use support::daemon::Daemon;
use support::media::{Feed, SEVEN, Stream, Wire, v4};
use support::paths::{Network, Path, Recorded, Recorder, nothing};
use support::ports::free_port;

const STREAM: Stream = Stream::at(5_000_000);
/// Datagrams of a test stream: 8 s of it.
const DATAGRAMS: usize = 3800;

/// The interarrival jitter (RFC 3550 section 6.4.1) after each datagram, in microseconds: its median. The machine stops
/// everybody now and then, for longer than all jitter that is to be seen here. The datagrams' own times are those of a
/// constant rate.
fn jitter(recorded: &[Recorded]) -> f64 {
    let interval = STREAM.length(1000).as_secs_f64() / 1000.0;
    let mut jitter = 0.0;
    let mut all: Vec<_> = recorded
        .windows(2)
        .map(|pair| {
            let came = pair[1].at.as_secs_f64() - pair[0].at.as_secs_f64();
            jitter += ((came - interval).abs() - jitter) / 16.0;
            jitter * 1e6
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// What the code that the compiler did not optimise takes for a packet, at most, in microseconds.
const UNOPTIMISED: f64 = if cfg!(debug_assertions) { 100.0 } else { 0.0 };

/// One at a time: the machine is to be quiet.
static ALONE: Mutex<()> = Mutex::new(());

fn smooths(wire: Wire) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let [middle, input, output, bare, watch] = std::array::from_fn(|_| free_port());
    let [out, beside, seen] = [output, bare, watch].map(|port| Recorder::bind(v4(port)));
    let protocol = if wire == Wire::Rtp { "rtp" } else { "udp" };
    let _daemon = Daemon::with_flow(&format!(
        "[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\nsmoothing = '100ms'\n"
    ));
    let uneven = Path::to(v4(input), nothing()).jittered(Duration::from_millis(20), 1);
    let same = Path::to(v4(watch), nothing()).jittered(Duration::from_millis(20), 1);
    let network = Network::start([(v4(middle), vec![uneven, same])]);
    let seconds = STREAM.length(DATAGRAMS);
    let bare = std::thread::spawn(move || Feed::new(Wire::Udp, v4(bare), STREAM).send_for(seconds));
    Feed::new(wire, v4(middle), STREAM).send_for(seconds);
    bare.join().unwrap();
    network.stop();

    let media = STREAM.datagrams(DATAGRAMS);
    let wanted: Vec<_> = media.chunks(SEVEN).collect();
    out.assert_payloads(&wanted);
    beside.assert_payloads(&wanted);
    let [before, smooth, bare] = [&seen, &out, &beside].map(|recorder| jitter(&recorder.recorded()));
    println!("jitter in us: {before:.0} before, {smooth:.0} after, {bare:.0} of a bare timer");
    assert!(before > 1000.0, "the network makes jitter: {before}");
    assert!(smooth <= 2.0 * bare + UNOPTIMISED, "{smooth} us, of a bare timer {bare} us");
}

#[test]
fn rtp_leaves_as_evenly_as_from_a_bare_timer() {
    smooths(Wire::Rtp);
}

#[test]
fn a_transport_stream_leaves_as_evenly_by_its_pcr() {
    smooths(Wire::Udp);
}
