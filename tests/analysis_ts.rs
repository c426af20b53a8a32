//! TR 101 290 and metadata of streams by ffmpeg: what we read is what ffprobe reads, and nothing is wrong with them.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dvb_conformance::{ConformanceMonitor, Indicator};
use mediaconnect::proto::mpegts::codec::Codec;
use mediaconnect::proto::mpegts::metadata::{Chroma, Details, Metadata, Scan, Stream};
use mediaconnect::proto::mpegts::monitor::{Check, CheckState, Monitor};
use mediaconnect::proto::mpegts::packet::{PACKET_LEN, PacketHeader};
use mediaconnect::time::Instant;
use serde_json::{Value, json};
use support::media::SEVEN;
use support::peers::command;
use tempfile::TempDir;

/// Make a file of a constant rate, given in kbit/s; `arguments` are parted by spaces, `{}` in one of them is a space.
fn encode(at: &Path, rate: u64, arguments: &str) -> Vec<u8> {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args("-hide_banner -loglevel error -nostdin".split(' '));
    ffmpeg.args(arguments.split_ascii_whitespace().map(|argument| argument.replace("{}", " ")));
    ffmpeg.args(["-muxrate", &format!("{rate}k"), "-f", "mpegts"]).arg(at);
    assert!(ffmpeg.status().unwrap().success(), "{arguments}");
    fs::read(at).unwrap()
}

/// How long bytes take at so many kbit/s.
fn time(bytes: usize, rate: u64) -> Duration {
    Duration::from_nanos(bytes as u64 * 8 * 1_000_000 / rate)
}

/// A monitor to which the bytes came at that rate.
fn monitor(bytes: &[u8], rate: u64) -> Monitor {
    let began = Instant::now();
    let mut monitor = Monitor::new(began);
    for (n, datagram) in bytes.chunks(SEVEN).enumerate() {
        let arrival = began + time(n * SEVEN, rate);
        while let Some(at) = monitor.poll_timeout().filter(|at| *at <= arrival) {
            monitor.handle_timeout(at);
        }
        monitor.handle_datagram(datagram, arrival);
    }
    monitor
}

#[track_caller]
fn nothing_is_wrong(monitor: &Monitor) {
    for check in Check::ALL {
        assert_eq!(*monitor.check(check), CheckState::default(), "{}", check.name());
    }
}

/// Programs by number, streams by PID, each with what ffprobe says of it.
type Content = (BTreeMap<u64, Value>, BTreeMap<u64, Value>);

fn by_ffprobe(file: &Path) -> Content {
    let mut ffprobe = command("ffprobe");
    ffprobe.args(["-v", "error", "-show_programs", "-show_streams", "-of", "json"]).arg(file);
    let answer: Value = serde_json::from_slice(&ffprobe.output().unwrap().stdout).unwrap();
    let pid =
        |stream: &Value| u64::from_str_radix(stream["id"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let programs = answer["programs"].as_array().unwrap().iter().map(|program| {
        let mut pids: Vec<_> = program["streams"].as_array().unwrap().iter().map(pid).collect();
        pids.sort_unstable();
        let tags = &program["tags"];
        let content = json!({ "service": tags["service_name"], "provider": tags["service_provider"], "pids": pids });
        (program["program_id"].as_u64().unwrap(), content)
    });
    let streams = answer["streams"].as_array().unwrap().iter().map(|stream| {
        let content = if stream["codec_type"] == "video" {
            json!({
                "codec": stream["codec_name"], "profile": stream["profile"], "level": stream["level"],
                "width": stream["width"], "height": stream["height"], "pixels": stream["pix_fmt"],
                "rate": stream["r_frame_rate"],
                "progressive": matches!(stream["field_order"].as_str(), None | Some("progressive" | "unknown")),
            })
        } else {
            json!({
                "codec": stream["codec_name"], "rate": stream["sample_rate"], "channels": stream["channels"],
                "language": stream["tags"]["language"],
                // Of sound, ffprobe names the profile of AAC only.
                "profile": stream["profile"],
            })
        };
        (pid(stream), content)
    });
    (programs.collect(), streams.collect())
}

/// The same as we read it, in ffprobe's words.
fn by_us(metadata: &Metadata) -> Content {
    let mut programs = BTreeMap::new();
    for service in metadata.services() {
        let streams = metadata.streams().iter().filter(|stream| stream.program == service.program);
        let mut pids: Vec<_> = streams.map(|stream| stream.pid).collect();
        pids.sort_unstable();
        let content = json!({ "service": service.name, "provider": service.provider, "pids": pids });
        programs.insert(service.program.into(), content);
    }
    (programs, metadata.streams().iter().map(|stream| (stream.pid.into(), in_words_of_ffprobe(stream))).collect())
}

fn in_words_of_ffprobe(stream: &Stream) -> Value {
    match stream.details {
        Details::Video(video) => {
            let chroma = match video.chroma {
                Chroma::Monochrome => "gray",
                Chroma::Yuv420 => "yuv420p",
                Chroma::Yuv422 => "yuv422p",
                Chroma::Yuv444 => "yuv444p",
            };
            let depth = if video.bit_depth > 8 { format!("{}le", video.bit_depth) } else { String::new() };
            json!({
                "codec": match stream.codec {
                    Codec::H264 => "h264",
                    Codec::Hevc => "hevc",
                    Codec::Mpeg2Video => "mpeg2video",
                    codec => codec.name(),
                },
                "profile": video.profile, "level": video.level, "width": video.width, "height": video.height,
                "pixels": format!("{chroma}{depth}"),
                "rate": video.frame_rate.map(|rate| format!("{}/{}", rate.frames, rate.seconds)),
                "progressive": video.scan == Scan::Progressive,
            })
        }
        Details::Audio(audio) => {
            let (codec, profile) = match (stream.codec, audio.profile) {
                (Codec::Aac, profile) => ("aac", profile),
                (Codec::AacLatm, profile) => ("aac_latm", profile),
                (Codec::Ac3, profile) => ("ac3", profile),
                (Codec::Eac3, profile) => ("eac3", profile),
                (Codec::MpegAudio, Some("Layer II")) => ("mp2", None),
                (Codec::MpegAudio, Some("Layer III")) => ("mp3", None),
                (codec, profile) => (codec.name(), profile),
            };
            json!({
                "codec": codec, "rate": audio.sample_rate.to_string(), "channels": audio.channels,
                "language": stream.language.map(|language| language.as_str().to_owned()), "profile": profile,
            })
        }
        Details::Unknown => json!({ "codec": stream.codec.name() }),
    }
}

/// Make a file, and compare; `streams` says how many there must be.
#[track_caller]
fn agrees_with_ffprobe(rate: u64, streams: usize, arguments: &str) -> Monitor {
    let dir = TempDir::with_prefix("mediaconnect-analysis-").unwrap();
    let file = dir.path().join("media.ts");
    let bytes = encode(&file, rate, arguments);
    let monitor = monitor(&bytes, rate);
    nothing_is_wrong(&monitor);
    let (ours, theirs) = (by_us(monitor.metadata()), by_ffprobe(&file));
    assert_eq!(ours.1.len(), streams);
    assert_eq!(ours, theirs);
    monitor
}

#[test]
fn interlaced_h264_with_aac_and_a_named_service() {
    let monitor = agrees_with_ffprobe(
        3000,
        2,
        "-f lavfi -i testsrc=size=720x576:rate=25 -f lavfi -i sine=sample_rate=48000 -t 4 -map 0 -map 1
         -c:v libx264 -preset ultrafast -flags +ildct+ilme -x264-params tff=1 -profile:v main -g 25 -b:v 1000k
         -pix_fmt yuv420p -c:a aac -ac 2 -metadata:s:a:0 language=deu
         -metadata service_name=Das{}Erste{}für{}Süd -metadata service_provider=ARD",
    );
    assert_eq!(monitor.metadata().services()[0].name, "Das Erste für Süd");
    assert_eq!(monitor.metadata().changed(), 4, "a program, two streams and a service came, and nothing changed");
    assert!(monitor.null_share().unwrap() > 0.3);
    assert!(monitor.bits_per_second().abs_diff(3_000_000) < 30_000, "{}", monitor.bits_per_second());
    let clock = monitor.pids().find_map(|pid| pid.clock).unwrap();
    assert!(clock.accuracy.unwrap() < Duration::from_nanos(500), "{clock:?}");
    assert!(clock.interval.unwrap() <= Duration::from_millis(100), "{clock:?}");
}

#[test]
fn hevc_of_ten_bits_with_odd_sizes_and_ac3_of_six_channels() {
    agrees_with_ffprobe(
        3000,
        2,
        "-f lavfi -i testsrc=size=322x182:rate=30000/1001 -f lavfi -i sine=sample_rate=48000 -t 4 -map 0 -map 1
         -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=30 -pix_fmt yuv420p10le -b:v 500k
         -c:a ac3 -ac 6 -b:a 384k -metadata:s:a:0 language=fra",
    );
}

#[test]
fn interlaced_mpeg2_of_422_with_mp2() {
    agrees_with_ffprobe(
        7000,
        2,
        "-f lavfi -i testsrc=size=720x576:rate=25 -f lavfi -i sine=sample_rate=44100 -t 4 -map 0 -map 1
         -c:v mpeg2video -flags +ildct+ilme -top 1 -pix_fmt yuv422p -b:v 4000k -maxrate 4000k -bufsize 800k -g 12
         -c:a mp2 -ac 1 -b:a 128k",
    );
}

#[test]
fn two_programs_of_h264_mpeg2_eac3_mp3_and_latm() {
    let monitor = agrees_with_ffprobe(
        6000,
        5,
        "-f lavfi -i testsrc=size=318x180:rate=50 -f lavfi -i sine=sample_rate=48000 -t 4
         -map 0 -map 1 -map 1 -map 0 -map 1 -c:v:0 libx264 -preset:v ultrafast -pix_fmt:v:0 yuv422p10le -b:v 600k -g 50
         -c:v:1 mpeg2video -pix_fmt:v:1 yuv420p -g:v:1 25 -c:a:0 eac3 -c:a:1 libmp3lame -ac:a:1 1 -c:a:2 aac -ac:a:2 1
         -mpegts_flags +latm -program program_num=5:title=One:st=0:st=1:st=2
         -program program_num=900:title=Zwei:st=3:st=4",
    );
    assert_eq!(monitor.pids().filter(|pid| pid.clock.is_some()).count(), 2);
}

#[test]
fn ten_minutes_of_a_stream_by_ffmpeg_are_right() {
    let dir = TempDir::with_prefix("mediaconnect-analysis-").unwrap();
    let bytes = encode(
        &dir.path().join("media.ts"),
        500,
        "-f lavfi -i testsrc=size=64x64:rate=25 -f lavfi -i sine=sample_rate=48000 -t 600 -map 0 -map 1
         -c:v libx264 -preset ultrafast -g 50 -b:v 100k -maxrate 150k -bufsize 50k -c:a mp2 -b:a 64k",
    );
    let monitor = monitor(&bytes, 500);
    assert!(bytes.len() > 37_000_000, "{} bytes", bytes.len());
    nothing_is_wrong(&monitor);
}

/// What another program counts.
fn by_dvb_conformance(bytes: &[u8], rate: u64) -> BTreeMap<&'static str, u64> {
    let mut monitor = ConformanceMonitor::new();
    let mut errors = BTreeMap::new();
    for (n, packet) in bytes.chunks(PACKET_LEN).enumerate() {
        // As they come to us: seven at a time.
        for event in monitor.feed(packet, time(n / 7 * SEVEN, rate)) {
            let check = match event.indicator {
                Indicator::TsSyncLoss => Check::TsSyncLoss,
                Indicator::SyncByteError => Check::SyncByte,
                Indicator::PatError2 => Check::Pat,
                Indicator::ContinuityCountError => Check::ContinuityCount,
                Indicator::PmtError2 => Check::Pmt,
                Indicator::PidError => Check::Pid,
                Indicator::TransportError => Check::Transport,
                Indicator::CrcError => Check::Crc,
                Indicator::PcrRepetitionError => Check::PcrRepetition,
                Indicator::PcrDiscontinuityError => Check::PcrDiscontinuity,
                Indicator::PtsError => Check::Pts,
                Indicator::CatError => Check::Cat,
                // Of the third priority.
                _ => continue,
            };
            *errors.entry(check.name()).or_default() += 1;
        }
    }
    errors
}

fn errors(monitor: &Monitor) -> BTreeMap<&'static str, u64> {
    let all = Check::ALL.iter().map(|check| (check.name(), monitor.check(*check).count));
    all.filter(|(_, errors)| *errors > 0).collect()
}

#[test]
fn what_is_wrong_is_what_another_program_finds_wrong() {
    const RATE: u64 = 3000;
    const VIDEO: u16 = 256;
    const AUDIO: u16 = 257;
    const PMT: u16 = 4096;
    let dir = TempDir::with_prefix("mediaconnect-analysis-").unwrap();
    let clean = encode(
        &dir.path().join("media.ts"),
        RATE,
        "-f lavfi -i testsrc=size=320x180:rate=25 -f lavfi -i sine=sample_rate=48000 -t 12 -map 0 -map 1
         -c:v libx264 -preset ultrafast -g 25 -b:v 800k -maxrate 900k -bufsize 300k -c:a mp2 -b:a 128k",
    );
    // With this done to each packet of the PID, from 3 s on, that `pick` picks by its number and by its time after that.
    let spoilt = |pid: u16, pick: &dyn Fn(usize, Duration) -> bool, spoil: &dyn Fn(&mut [u8; PACKET_LEN])| {
        let (mut bytes, mut number) = (clean.clone(), 0);
        for (n, packet) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
            let of_pid = PacketHeader::parse(packet).is_some_and(|header| header.pid() == pid);
            let Some(after) = time(n * PACKET_LEN, RATE).checked_sub(Duration::from_secs(3)).filter(|_| of_pid) else {
                continue;
            };
            if pick(number, after) {
                spoil(packet);
            }
            number += 1;
        }
        bytes
    };
    let drop = |packet: &mut [u8; PACKET_LEN]| packet[..4].copy_from_slice(&[0x47, 0x1F, 0xFF, 0x10]);
    let for_ms = |ms| move |_: usize, after: Duration| after < Duration::from_millis(ms);
    let cases = [
        ("nothing", clean.clone()),
        ("three packets are lost", spoilt(VIDEO, &|n, _| [5, 90, 200].contains(&n), &drop)),
        ("packets in error", spoilt(AUDIO, &|n, _| n % 50 == 7, &|packet| packet[1] |= 0x80)),
        ("wrong sync bytes", spoilt(VIDEO, &|n, _| n % 300 == 20, &|packet| packet[0] = 0x48)),
        ("no PAT", spoilt(0, &for_ms(1300), &drop)),
        ("no PMT", spoilt(PMT, &for_ms(1300), &drop)),
        ("a PMT that is damaged", spoilt(PMT, &|n, _| n == 2, &|packet| packet[15] ^= 1)),
        ("no sound", spoilt(AUDIO, &for_ms(6000), &drop)),
        ("no picture", spoilt(VIDEO, &for_ms(2000), &drop)),
    ];
    for (what, bytes) in cases {
        let (mut ours, mut theirs) = (errors(&monitor(&bytes, RATE)), by_dvb_conformance(&bytes, RATE));
        assert_eq!(ours.is_empty(), what == "nothing", "{what}");
        if ours.contains_key("transport") {
            // They take the counter of a packet that says it is damaged, we don't.
            assert_eq!(ours.remove("continuity_count"), ours.get("transport").copied());
        }
        // They count once what is absent, we count how often its time has passed.
        for check in ["pat", "pmt", "pid", "pcr_repetition", "pts"] {
            for errors in [&mut ours, &mut theirs].into_iter().filter_map(|errors| errors.get_mut(check)) {
                *errors = 1;
            }
        }
        assert_eq!(ours, theirs, "{what}");
    }
}
