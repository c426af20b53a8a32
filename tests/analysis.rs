//! What we read in a transport stream against what another program reads in it.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mediaconnect::proto::mpegts::inspect::{InspectCounters, Inspector, Interest};
use mediaconnect::proto::mpegts::packet::PACKET_LEN;
use mediaconnect::proto::mpegts::pcr::Pcr;
use mediaconnect::time::Instant;
use support::media::SEVEN;
use support::peers::command;
use tempfile::TempDir;

/// Four seconds of two programs: picture and sound, and two sounds.
fn two_programs(at: &Path) -> Vec<u8> {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg
        .args("-hide_banner -loglevel error -nostdin -f lavfi -i testsrc=size=320x180:rate=25".split(' '))
        .args("-f lavfi -i sine=frequency=500 -f lavfi -i sine=frequency=1000 -t 4".split(' '))
        .args("-map 0:v -map 1:a -map 2:a -map 1:a -c:v libx264 -preset ultrafast -g 25 -b:v 800k".split(' '))
        .args(
            "-c:a:0 aac -c:a:1 mp2 -c:a:2 libmp3lame -muxrate 3000k -f mpegts -mpegts_transport_stream_id 77"
                .split(' '),
        )
        .args("-program program_num=5:st=0:st=1 -program program_num=900:st=2:st=3".split(' '))
        .arg(at);
    assert!(ffmpeg.status().unwrap().success());
    fs::read(at).unwrap()
}

/// The numbers of the programs with their PIDs for PMT and PCR, and the type of each PID, as ffprobe has them.
type Programs = BTreeMap<u64, (u64, u64, BTreeMap<u64, u64>)>;

fn by_ffprobe(file: &Path) -> Programs {
    let mut ffprobe = command("ffprobe");
    ffprobe.args(["-v", "error", "-show_programs", "-show_entries", "stream=id,codec_tag", "-of", "json"]).arg(file);
    let answer: serde_json::Value = serde_json::from_slice(&ffprobe.output().unwrap().stdout).unwrap();
    let number = |value: &serde_json::Value| {
        let hex = value.as_str().and_then(|text| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok());
        value.as_u64().or(hex).unwrap_or_else(|| panic!("no number: {value}"))
    };
    let program = |p: &serde_json::Value| {
        let streams = p["streams"].as_array().unwrap().iter().map(|s| (number(&s["id"]), number(&s["codec_tag"])));
        (number(&p["program_id"]), (number(&p["pmt_pid"]), number(&p["pcr_pid"]), streams.collect()))
    };
    answer["programs"].as_array().unwrap().iter().map(program).collect()
}

#[test]
fn programs_streams_and_clock_of_a_stream_by_ffmpeg_are_those_that_ffprobe_reads() {
    let dir = TempDir::with_prefix("mediaconnect-analysis-").unwrap();
    let file = dir.path().join("media.ts");
    let bytes = two_programs(&file);
    let mut inspector = Inspector::new(Interest { continuity: true, psi: true, pcr: true });
    let samples: Vec<_> =
        bytes.chunks(SEVEN).filter_map(|datagram| inspector.handle(datagram, Instant::now())).collect();

    let packets = (bytes.len() / PACKET_LEN) as u64;
    assert_eq!(*inspector.counters(), InspectCounters { packets, ..InspectCounters::default() });
    let psi = inspector.psi().unwrap();
    assert_eq!(psi.transport_stream(), Some(77));
    let program = |p: &mediaconnect::proto::mpegts::psi::Program| {
        let streams = psi.streams().iter().filter(|s| s.program == p.number);
        let streams = streams.map(|s| (s.pid.into(), s.stream_type.into())).collect();
        (p.number.into(), (p.pmt_pid.into(), p.map.unwrap().pcr_pid.into(), streams))
    };
    let ours: Programs = psi.programs().iter().map(program).collect();
    assert_eq!(ours.len(), 2);
    assert_eq!(ours, by_ffprobe(&file));
    assert_eq!((psi.counters().crc_errors, psi.counters().malformed, psi.counters().changes), (0, 0, 3));

    // Every PCR is where the rate puts it, but for the muxer's rounding.
    assert!(samples.len() > 30 && samples[0].discontinuity, "{}", samples.len());
    for sample in &samples[1..] {
        let rate = sample.bits_per_second().unwrap();
        assert!(rate.abs_diff(3_000_000) < 300, "{rate} bit/s");
        assert!(sample.step.unsigned_abs() < Pcr::HZ / 10, "{sample:?}");
    }
}
