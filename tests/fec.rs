//! Forward error correction (ST 2022-1) between the daemon and other people's programs, over networks that lose.
//!
//! What FEC can bring back is worked out from what the network let pass, by the bytes of the FEC packets: nothing of
//! this is the daemon's own arithmetic.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::daemon::{Daemon, count};
use support::media::{Feed, SEVEN, Stream, Wire, v4};
use support::paths::{Carried, Loss, Network, Path, Recorder, bursts, nothing, only, percent};
use support::peers::{Peer, command};
use support::ports::free_port;
use support::wait_for;
use tempfile::TempDir;

const STREAM: Stream = Stream::at(8_000_000);
/// Datagrams of a test stream.
const DATAGRAMS: usize = 3000;
/// Losses are between the first matrices and the last ones, so that each has the FEC packets it needs around it.
const LOSSY: std::ops::Range<u64> = 300..2500;
/// A busy machine may bring FEC packets late: that is not what is tested here.
const PATIENT: &str = "reorder-window = '2s'";

/// What a network does to media, column FEC and row FEC.
type Losses = [Loss; 3];

/// A network on three ports of FEC, in front of those of the daemon or of a peer.
fn network(listen: u16, to: u16, losses: Losses) -> Network {
    let routes = losses.into_iter().zip([0, 2, 4]);
    Network::start(routes.map(|(loss, port)| (v4(listen + port), vec![Path::to(v4(to + port), only(LOSSY, loss))])))
}

/// A flow that takes in RTP with FEC, and sends what it has to a UDP port.
fn fec_to_udp(input: u16, keys: &str, output: u16) -> String {
    format!(
        "[sources.main]\nprotocol = 'rtp-fec'\nbind = '127.0.0.1:{input}'\n{keys}\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    )
}

/// A flow that takes in UDP, and sends it with FEC.
fn udp_to_fec(input: u16, output: u16, keys: &str) -> String {
    format!(
        "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'rtp-fec'\ndestination = '127.0.0.1:{output}'\n{keys}\n"
    )
}

fn seq(rtp: &[u8]) -> u16 {
    u16::from_be_bytes([rtp[2], rtp[3]])
}

/// The numbers of the media packets that a FEC packet protects, by SNBase, offset and NA (ST 2022-1 clause 8.4).
fn members<'a>(fec: &[u8], numbers: &'a BTreeMap<u16, usize>) -> impl Iterator<Item = usize> + use<'a> {
    let (base, offset, na) = (u16::from_be_bytes([fec[12], fec[13]]), u16::from(fec[25]), u16::from(fec[26]));
    (0..na).map(move |n| numbers[&base.wrapping_add(n * offset)])
}

/// The media packets that are gone whatever a receiver does: rows and columns are gone through until nothing moves.
fn unrecoverable(carried: &[Carried]) -> BTreeSet<usize> {
    let [media, fec @ ..] = carried else { panic!("media and FEC were carried") };
    let numbers: BTreeMap<u16, usize> = media.datagrams.iter().enumerate().map(|(n, rtp)| (seq(rtp), n)).collect();
    assert_eq!(numbers.len(), media.datagrams.len(), "each has its own sequence number");
    let lost =
        |carried: &Carried| (0..carried.datagrams.len()).filter(|n| !carried.passed[0][*n]).collect::<BTreeSet<_>>();
    let mut missing = lost(media);
    let passed = |stream: &Carried| {
        let lost = lost(stream);
        let passed = stream.datagrams.iter().enumerate().filter(move |(n, _)| !lost.contains(n));
        passed.map(|(_, packet)| members(packet, &numbers).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let sets: Vec<_> = fec.iter().flat_map(passed).collect();
    loop {
        let single = sets.iter().find_map(|set| {
            let mut absent = set.iter().filter(|member| missing.contains(member));
            absent.next().filter(|_| absent.next().is_none())
        });
        match single {
            Some(member) => missing.remove(member),
            None => return missing,
        };
    }
}

/// The payloads that a perfect receiver has, of plain RTP.
fn receivable<'c>(media: &'c Carried, gone: &BTreeSet<usize>) -> Vec<&'c [u8]> {
    let all = media.datagrams.iter().enumerate();
    all.filter(|(n, _)| !gone.contains(n)).map(|(_, rtp)| &rtp[12..]).collect()
}

/// What came out is all that could be received, and the source's figures say so. How many packets were lost, and how
/// many of them for good.
#[track_caller]
fn assert_recovered(daemon: &Daemon, out: &Recorder, carried: &[Carried]) -> (u64, u64) {
    let (gone, media) = (unrecoverable(carried), &carried[0]);
    assert!(media.datagrams.len() as u64 > LOSSY.end + 300, "only {} were sent", media.datagrams.len());
    let wanted = receivable(media, &gone);
    out.wait_for(wanted.last().unwrap());
    // Where they differ, this tells more.
    eprintln!("{:#}", daemon.flow("flow"));
    out.assert_payloads(&wanted);
    let (lost, gone) = (media.lost(0), gone.len() as u64);
    let received = media.datagrams.len() as u64 - lost;
    let wanted = [
        ("outputs/out/packets", received + lost - gone),
        ("sources/main/packets", received),
        ("sources/main/packets-lost", lost),
        ("sources/main/packets-unrecovered", gone),
        ("sources/main/packets-recovered", lost - gone),
        ("sources/main/fec/rejected", 0),
    ];
    let flow = daemon.wait_for_flow("flow", &format!("{wanted:?}"), |flow| {
        wanted.iter().all(|(counter, wanted)| count(flow, counter) == *wanted)
    });
    let by = |stream: &str| count(&flow, &format!("sources/main/fec/recovered-by-{stream}"));
    assert_eq!(by("column") + by("row"), lost - gone);
    (lost, gone)
}

/// ffmpeg, with its own FEC of L x D, at a constant rate.
fn ffmpeg_with_fec(columns: u8, rows: u8, to: u16) -> Peer {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg
        .args("-hide_banner -loglevel error -nostdin -re -f lavfi -i testsrc=size=320x180:rate=50".split(' '))
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 25 -b:v 500k -t 5".split(' '))
        .args("-f rtp_mpegts -mpegts_muxer_options muxrate=8M -fec".split(' '))
        .arg(format!("prompeg=l={columns}:d={rows}"))
        .arg(format!("rtp://127.0.0.1:{to}?pkt_size=1328"));
    Peer::start(&mut ffmpeg)
}

fn ffmpeg_is_recovered(columns: u8, rows: u8, keys: &str, losses: Losses) -> (u64, u64) {
    let [middle, input, output] = [free_port(), free_port(), free_port()];
    let out = Recorder::bind(v4(output));
    let daemon = Daemon::with_flow(&fec_to_udp(input, keys, output));
    let network = network(middle, input, losses);
    let status = ffmpeg_with_fec(columns, rows, middle).wait(Duration::from_secs(60));
    assert!(status.success(), "{status}");
    let outcome = assert_recovered(&daemon, &out, &network.stop());
    let flow = daemon.flow("flow");
    let fec = |counter: &str| count(&flow, &format!("sources/main/fec/{counter}"));
    assert!(fec("column/packets") > 100 && fec("row/packets") > 100, "{flow:#}");
    outcome
}

#[test]
fn two_percent_of_ffmpegs_packets_come_back() {
    let (lost, _) = ffmpeg_is_recovered(5, 5, PATIENT, [percent(2, 1), nothing(), nothing()]);
    assert!(lost > 20, "{lost}");
}

#[test]
fn of_ffmpegs_packets_and_its_fec_five_percent_are_lost_and_all_comes_back_that_can() {
    let (lost, gone) = ffmpeg_is_recovered(10, 10, PATIENT, [percent(5, 2), percent(5, 3), percent(5, 4)]);
    assert!(lost > 60 && gone < lost / 10, "{lost} {gone}");
}

#[test]
fn what_is_beyond_ffmpegs_fec_is_lost_and_nothing_else() {
    let (lost, gone) = ffmpeg_is_recovered(20, 5, PATIENT, [percent(15, 5), percent(15, 6), percent(15, 7)]);
    assert!(gone > 10 && gone < lost, "{lost} {gone}");
}

#[test]
fn bursts_as_long_as_a_row_of_ffmpegs_come_back() {
    // One in two matrices at most, so each column misses one.
    let outcome = ffmpeg_is_recovered(8, 6, PATIENT, [bursts(8, 2 * 48, 8), nothing(), nothing()]);
    assert!(outcome.0 > 50 && outcome.1 == 0, "{outcome:?}");
}

/// GStreamer, with its own FEC of L x D, sends a file.
fn gstreamer_with_fec(file: &std::path::Path, columns: u8, rows: u8, row_stream: bool, to: u16) -> Peer {
    let mut gstreamer = command("gst-launch-1.0");
    gstreamer
        .args(["-q", "filesrc", &format!("location={}", file.display()), "blocksize=1316"])
        .args("! identity sleep-time=1000 ! video/mpegts,systemstream=true,packetsize=188".split(' '))
        .args("! rtpmp2tpay ssrc=0 seqnum-offset=65000 ! rtpst2022-1-fecenc name=fec".split(' '))
        .args([format!("columns={columns}"), format!("rows={rows}"), format!("enable-row-fec={row_stream}")]);
    for (pad, port) in [("src", 0), ("fec_0", 2), ("fec_1", 4)] {
        gstreamer
            .args([&format!("fec.{pad}"), "!", "udpsink", "sync=false", "async=false", "host=127.0.0.1"])
            .arg(format!("port={}", to + port));
    }
    Peer::start(&mut gstreamer)
}

fn gstreamer_is_recovered(columns: u8, rows: u8, row_stream: bool, losses: Losses) -> (u64, u64) {
    let [middle, input, output] = [free_port(), free_port(), free_port()];
    let dir = file_of_media();
    let out = Recorder::bind(v4(output));
    let daemon = Daemon::with_flow(&fec_to_udp(input, PATIENT, output));
    let network = network(middle, input, losses);
    let mut sender = gstreamer_with_fec(&dir.path().join("media.ts"), columns, rows, row_stream, middle);
    let status = sender.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}");
    let carried = network.stop();
    let sent: Vec<u8> = carried[0].datagrams.iter().flat_map(|rtp| &rtp[12..]).copied().collect();
    assert!(sent == STREAM.datagrams(DATAGRAMS), "what was sent is the file");
    assert_eq!(carried[2].datagrams.is_empty(), !row_stream);
    assert_recovered(&daemon, &out, &carried)
}

/// A directory with the test stream in `media.ts`.
fn file_of_media() -> TempDir {
    let dir = TempDir::with_prefix("mediaconnect-media-").unwrap();
    fs::write(dir.path().join("media.ts"), STREAM.datagrams(DATAGRAMS)).unwrap();
    dir
}

#[test]
fn all_comes_back_that_gstreamers_rows_and_columns_allow() {
    let (lost, gone) = gstreamer_is_recovered(10, 5, true, [percent(5, 9), percent(5, 10), percent(5, 11)]);
    assert!(lost > 60 && gone < lost / 5, "{lost} {gone}");
}

#[test]
fn all_comes_back_that_gstreamers_columns_allow() {
    let (lost, gone) = gstreamer_is_recovered(5, 10, false, [percent(2, 12), percent(2, 13), nothing()]);
    assert!(lost > 20 && gone > 0 && gone < lost, "{lost} {gone}");
}

#[test]
fn bursts_as_long_as_a_row_of_gstreamers_come_back_by_columns_alone() {
    let outcome = gstreamer_is_recovered(6, 8, false, [bursts(6, 2 * 48, 14), nothing(), nothing()]);
    assert!(outcome.0 > 50 && outcome.1 == 0, "{outcome:?}");
}

/// GStreamer, which undoes the losses and records the stream.
fn gstreamer_recorder(port: u16, recording: &std::path::Path) -> Peer {
    let source = |port: u16| format!("udpsrc address=127.0.0.1 port={port} buffer-size=4194304");
    let mut gstreamer = command("gst-launch-1.0");
    gstreamer
        .args("-q rtpst2022-1-fecdec name=fec size-time=2000000000".split(' '))
        // What was recovered comes out of order.
        .args("! rtpjitterbuffer latency=1000 ! rtpmp2tdepay ! filesink buffer-mode=unbuffered".split(' '))
        .arg(format!("location={}", recording.display()))
        .args(source(port).split(' '))
        .arg("caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T,payload=33")
        .args(["!", "fec.sink"]);
    for (pad, fec_port) in [("fec_0", port + 2), ("fec_1", port + 4)] {
        gstreamer.args(source(fec_port).split(' ')).args([
            "caps=application/x-rtp,payload=96",
            "!",
            &format!("fec.{pad}"),
        ]);
    }
    let mut peer = Peer::start(&mut gstreamer);
    for port in [port, port + 2, port + 4] {
        peer.wait_until_bound(port);
    }
    peer
}

fn gstreamer_recovers(keys: &str, losses: Losses) {
    let [input, middle, output] = [free_port(), free_port(), free_port()];
    let dir = TempDir::with_prefix("mediaconnect-media-").unwrap();
    let recording = dir.path().join("recorded.ts");
    let _recorder = gstreamer_recorder(output, &recording);
    // GStreamer's recovered packets have the SSRC 0.
    let _daemon = Daemon::with_flow(&udp_to_fec(input, middle, &format!("ssrc = 0\n{keys}")));
    let network = network(middle, output, losses);
    Feed::new(Wire::Udp, v4(input), STREAM).send_for(STREAM.length(DATAGRAMS));
    let wanted = STREAM.datagrams(DATAGRAMS);
    wait_for("all of it is recorded", || {
        fs::metadata(&recording).is_ok_and(|file| file.len() >= wanted.len() as u64).then_some(())
    });
    let recorded = fs::read(&recording).unwrap();
    let differs = recorded.chunks(SEVEN).zip(wanted.chunks(SEVEN)).position(|(a, b)| a != b);
    assert_eq!((differs, recorded.len()), (None, wanted.len()), "the recording is the stream, byte by byte");
    let carried = network.stop();
    assert!(carried[0].lost(0) > 20 && unrecoverable(&carried).is_empty(), "the losses can be undone");
}

#[test]
fn gstreamer_brings_back_single_losses_by_our_fec() {
    gstreamer_recovers("fec = { columns = 10, rows = 5 }", [bursts(1, 50, 15), nothing(), nothing()]);
}

#[test]
fn gstreamer_brings_back_bursts_by_our_columns() {
    let keys = "fec = { columns = 8, rows = 6, row-stream = false }";
    gstreamer_recovers(keys, [bursts(8, 2 * 48, 16), nothing(), nothing()]);
}

/// One daemon sends with FEC, the network loses, another receives.
fn recovers_what_another_sent(keys: &str, losses: Losses) -> (u64, u64) {
    let [input, middle, between, output] = [free_port(), free_port(), free_port(), free_port()];
    let out = Recorder::bind(v4(output));
    let _sender = Daemon::with_flow(&udp_to_fec(input, middle, keys));
    let receiver = Daemon::with_flow(&fec_to_udp(between, PATIENT, output));
    let network = network(middle, between, losses);
    Feed::new(Wire::Udp, v4(input), STREAM).send_for(STREAM.length(DATAGRAMS));
    out.wait_for(&last_bytes());
    let carried = network.stop();
    let sent: Vec<u8> = carried[0].datagrams.iter().flat_map(|rtp| &rtp[12..]).copied().collect();
    assert!(sent == STREAM.datagrams(DATAGRAMS), "what was sent is the stream");
    assert_recovered(&receiver, &out, &carried)
}

/// Of the test stream.
fn last_bytes() -> Vec<u8> {
    STREAM.datagrams(DATAGRAMS).split_off((DATAGRAMS - 1) * SEVEN)
}

#[test]
fn every_shape_of_matrix_goes_from_one_daemon_to_another() {
    let shapes = [
        ("fec = { columns = 4, rows = 4 }", 0),
        ("fec = { columns = 20, rows = 5 }", 20),
        ("fec = { columns = 5, rows = 20 }", 30),
        ("fec = { columns = 1, rows = 4, row-stream = false }", 40),
        ("fec = { columns = 20, rows = 4, row-stream = false }", 50),
        ("", 60),
    ];
    std::thread::scope(|scope| {
        for (keys, seed) in shapes {
            scope.spawn(move || {
                let losses = [percent(5, seed), percent(3, seed + 1), percent(3, seed + 2)];
                let (lost, gone) = recovers_what_another_sent(keys, losses);
                assert!(lost > 60 && gone < lost, "{keys}: {lost} {gone}");
            });
        }
    });
}

#[test]
fn a_leg_with_fec_and_one_without_are_merged() {
    let [input, middle, a, b, output] = std::array::from_fn(|_| free_port());
    let out = Recorder::bind(v4(output));
    let _sender = Daemon::with_flow(&udp_to_fec(input, middle, "fec = { columns = 5, rows = 5 }"));
    let receiver = Daemon::with_flow(&format!(
        "[sources.a]\nprotocol = 'rtp-fec'\nbind = '127.0.0.1:{a}'\n{PATIENT}\n\
         [sources.b]\nprotocol = 'rtp'\nbind = '127.0.0.1:{b}'\n\
         [failover]\nmode = 'merge'\nrecovery-window = '1s'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    ));
    let path = |port, loss| Path::to(v4(port), only(LOSSY, loss));
    let legs = vec![path(a, percent(20, 70)), path(b, percent(30, 71)).delayed(Duration::from_millis(50))];
    let network = Network::start([
        (v4(middle), legs),
        (v4(middle + 2), vec![path(a + 2, percent(5, 72))]),
        (v4(middle + 4), vec![path(a + 4, percent(5, 73))]),
    ]);
    Feed::new(Wire::Udp, v4(input), STREAM).send_for(STREAM.length(DATAGRAMS));
    out.wait_for(&last_bytes());
    let carried = network.stop();
    let media = &carried[0];
    let gone: BTreeSet<_> = unrecoverable(&carried).into_iter().filter(|n| !media.passed[1][*n]).collect();
    assert!(gone.len() > 3 && gone.len() < 200, "{}", gone.len());
    out.assert_payloads(&receivable(media, &gone));
    receiver.wait_for_flow("flow", "all is counted", |flow| {
        count(flow, "merge/packets") == (DATAGRAMS - gone.len()) as u64
            && count(flow, "merge/packets-unrecovered") == gone.len() as u64
    });
}

#[test]
fn what_came_while_the_daemon_was_held_up_is_recovered_too() {
    let [middle, input, output, between] = std::array::from_fn(|_| free_port());
    let out = Recorder::bind(v4(output));
    let _sender = Daemon::with_flow(&udp_to_fec(input, middle, "fec = { columns = 5, rows = 5 }"));
    let receiver = Daemon::with_flow(&fec_to_udp(between, PATIENT, output));
    let network = network(middle, between, [bursts(1, 25, 80), nothing(), nothing()]);
    let feed = std::thread::spawn(move || {
        Feed::new(Wire::Udp, v4(input), STREAM).send_for(STREAM.length(DATAGRAMS));
    });
    let come = || out.recorded().len();
    wait_for("losses have begun", || (come() > 1000).then_some(()));
    receiver.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(500));
    receiver.signal(Signal::SIGCONT);
    feed.join().unwrap();
    out.wait_for(&last_bytes());
    let (lost, gone) = assert_recovered(&receiver, &out, &network.stop());
    assert_eq!(count(&receiver.flow("flow"), "sources/main/packets-kernel-dropped"), 0);
    assert!(lost > 50 && gone == 0, "{lost} {gone}");
}
