//! Other people's programs on both sides of the daemon.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mediaconnect::proto::mpegts::test_stream::TestStream;
use mediaconnect::proto::seq::{RtpTime, Seq};
use support::daemon::Daemon;
use support::media::{Feed, SEVEN, Sink, Stream, Wire, rtp_packet, sending_socket, v4};
use support::peers::{Peer, command};
use support::ports::free_port;
use support::wait_for;
use tempfile::TempDir;

const STREAM: Stream = Stream::at(3_000_000);
/// Datagrams of a test file: 3.5 s of it.
const DATAGRAMS: usize = 1000;

/// A flow from one source on loopback to one output on loopback.
fn flow(protocol: &str, input: u16, output_protocol: &str, output: u16) -> String {
    format!(
        "[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = '{output_protocol}'\ndestination = '127.0.0.1:{output}'\n"
    )
}

/// A directory with the test stream in `media.ts`.
fn file_of_media() -> TempDir {
    let dir = TempDir::with_prefix("mediaconnect-media-").unwrap();
    fs::write(dir.path().join("media.ts"), STREAM.datagrams(DATAGRAMS)).unwrap();
    dir
}

/// Wait until a recording has grown to the whole test stream, and compare it byte by byte.
#[track_caller]
fn assert_recorded(path: &Path) {
    let wanted = STREAM.datagrams(DATAGRAMS);
    wait_for("all of it is recorded", || {
        fs::metadata(path).is_ok_and(|file| file.len() >= wanted.len() as u64).then_some(())
    });
    assert!(fs::read(path).unwrap() == wanted, "the recording is the stream, byte by byte");
}

/// ffmpeg as the sender of the MediaConnect tutorial: picture and sound in real time.
fn ffmpeg_sender(to: u16) -> Peer {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg
        .args("-hide_banner -loglevel error -nostdin -re -f lavfi -i testsrc=size=640x360:rate=25".split(' '))
        .args("-re -f lavfi -i sine=frequency=1000:sample_rate=48000".split(' '))
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -b:v 1500k".split(' '))
        .args("-c:a aac -b:a 128k -f rtp_mpegts".split(' '))
        .arg(format!("rtp://127.0.0.1:{to}?pkt_size=1328"));
    Peer::start(&mut ffmpeg)
}

/// ffmpeg as a receiver that decodes ten seconds of whatever `input` names.
fn ffmpeg_receiver(input: &[&str]) -> Peer {
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-nostdin"]).args(input);
    ffmpeg.args("-map 0:v -map 0:a -t 10 -progress - -f null -".split(' '));
    Peer::start(&mut ffmpeg)
}

/// The receiver has decoded ten seconds of picture and has nothing to complain about.
#[track_caller]
fn assert_decoded(receiver: &mut Peer) {
    let status = receiver.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}");
    assert_eq!(receiver.stderr(), "");
    let progress = receiver.stdout();
    let frames = progress.lines().rev().find_map(|line| line.strip_prefix("frame=")).unwrap().trim();
    assert!((245..=255).contains(&frames.parse().unwrap_or(0)), "10 s of 25 frames a second, not {frames}");
}

#[test]
fn ffmpeg_decodes_ten_seconds_by_sdp_and_over_udp() {
    let [input, rtp, udp] = [free_port(), free_port(), free_port()];
    let text =
        format!("{}[outputs.udp]\nprotocol = 'udp'\ndestination = '127.0.0.1:{udp}'\n", flow("rtp", input, "rtp", rtp));
    let daemon = Daemon::with_flow(&text);
    let sdp = daemon.root().join("flow.sdp");
    fs::write(&sdp, daemon.ctl_ok(&["sdp", "flow", "out"])).unwrap();
    let mut by_sdp = ffmpeg_receiver(&["-protocol_whitelist", "file,udp,rtp", "-i", sdp.to_str().unwrap()]);
    let mut over_udp = ffmpeg_receiver(&["-i", &format!("udp://127.0.0.1:{udp}?fifo_size=1000000")]);
    by_sdp.wait_until_bound(rtp);
    over_udp.wait_until_bound(udp);
    let _sender = ffmpeg_sender(input);
    assert_decoded(&mut by_sdp);
    assert_decoded(&mut over_udp);
}

#[test]
fn ffmpeg_decodes_ten_seconds_of_rtp_without_sdp() {
    let (input, rtp) = (free_port(), free_port());
    let _daemon = Daemon::with_flow(&flow("rtp", input, "rtp", rtp));
    let mut receiver = ffmpeg_receiver(&["-i", &format!("rtp://127.0.0.1:{rtp}")]);
    // ffmpeg learns the payload type from a first packet, which it loses while it opens the port anew: without this
    // one, that would be the first picture.
    let learning = receiver.wait_until_bound(rtp);
    let null_packet = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat();
    let primer = rtp_packet(Seq(1), RtpTime(0), 1, &null_packet);
    sending_socket(v4(input)).send_to(&primer, v4(input)).unwrap();
    receiver.wait_until_bound_anew(rtp, Some(&learning));
    let _sender = ffmpeg_sender(input);
    assert_decoded(&mut receiver);
}

#[test]
fn multicat_sends_and_records_rtp() {
    let ([input, output], dir) = ([free_port(), free_port()], file_of_media());
    let _daemon = Daemon::with_flow(&flow("rtp", input, "rtp", output));
    let mut recorder =
        Peer::start(command("multicat").arg(format!("@127.0.0.1:{output}")).arg(dir.path().join("recorded.ts")));
    recorder.wait_until_bound(output);
    let file = dir.path().join("media.ts");
    assert!(command("ingests").args(["-p", "256"]).arg(&file).status().unwrap().success());
    let _sender = Peer::start(command("multicat").args(["-p", "256"]).arg(&file).arg(format!("127.0.0.1:{input}")));
    assert_recorded(&dir.path().join("recorded.ts"));
}

#[test]
fn multicat_sends_and_records_udp() {
    let ([input, output], dir) = ([free_port(), free_port()], file_of_media());
    let _daemon = Daemon::with_flow(&flow("udp", input, "udp", output));
    let mut recorder = Peer::start(
        command("multicat").arg("-u").arg(format!("@127.0.0.1:{output}")).arg(dir.path().join("recorded.ts")),
    );
    recorder.wait_until_bound(output);
    let file = dir.path().join("media.ts");
    assert!(command("ingests").args(["-p", "256"]).arg(&file).status().unwrap().success());
    let _sender = Peer::start(command("multicat").arg("-U").arg(&file).arg(format!("127.0.0.1:{input}")));
    assert_recorded(&dir.path().join("recorded.ts"));
}

#[test]
fn socat_sends_and_records_udp() {
    let ([input, output], dir) = ([free_port(), free_port()], file_of_media());
    let _daemon = Daemon::with_flow(&flow("udp", input, "udp", output));
    let recorded = dir.path().join("recorded.ts");
    let mut recorder = Peer::start(
        command("socat")
            .arg("-u")
            .arg(format!("UDP4-RECV:{output},bind=127.0.0.1,rcvbuf=4194304"))
            .arg(format!("CREATE:{}", recorded.display())),
    );
    recorder.wait_until_bound(output);
    let mut sender = Peer::start(
        command("socat")
            .args(["-u", "-b1316", "STDIN"])
            .arg(format!("UDP4-SENDTO:127.0.0.1:{input}"))
            .stdin(Stdio::piped()),
    );
    let mut pipe = sender.stdin();
    let (mut stream, start) = (TestStream::new(STREAM.seed, STREAM.bits_per_second), Instant::now());
    let mut datagram = [0; SEVEN];
    for _ in 0..DATAGRAMS {
        // socat makes a datagram of what it finds: it is given time to find one alone.
        std::thread::sleep(stream.due().saturating_sub(start.elapsed()).max(Duration::from_micros(500)));
        stream.fill(&mut datagram);
        pipe.write_all(&datagram).unwrap();
    }
    assert_recorded(&recorded);
}

#[test]
fn gstreamer_takes_rtp_apart() {
    let ([input, output], dir) = ([free_port(), free_port()], TempDir::new().unwrap());
    let _daemon = Daemon::with_flow(&flow("udp", input, "rtp", output));
    let recorded = dir.path().join("recorded.ts");
    let caps = "caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T,payload=33";
    let mut recorder = Peer::start(
        command("gst-launch-1.0")
            .args(["-q", "udpsrc", "address=127.0.0.1", &format!("port={output}"), "buffer-size=4194304", caps])
            .args(["!", "rtpmp2tdepay", "!", "filesink", "buffer-mode=unbuffered"])
            .arg(format!("location={}", recorded.display())),
    );
    recorder.wait_until_bound(output);
    // udpsrc is bound before the pipeline plays, but its socket keeps what comes meanwhile.
    let sent = Feed::new(Wire::Udp, v4(input), STREAM).send_for(STREAM.length(DATAGRAMS));
    assert_eq!(sent, DATAGRAMS as u64 * 7);
    assert_recorded(&recorded);
}

#[test]
fn gstreamer_puts_rtp_together() {
    let ([input, output], dir) = ([free_port(), free_port()], file_of_media());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let _daemon = Daemon::with_flow(&flow("rtp", input, "udp", output));
    let mut sender = Peer::start(
        command("gst-launch-1.0")
            .args(["-q", "filesrc", &format!("location={}", dir.path().join("media.ts").display()), "blocksize=1316"])
            .args("! identity sleep-time=2000 ! video/mpegts,systemstream=true,packetsize=188 ! rtpmp2tpay".split(' '))
            .args(["!", "udpsink", "sync=false", "host=127.0.0.1", &format!("port={input}")]),
    );
    assert!(sender.wait(Duration::from_secs(60)).success());
    sink.assert_all(DATAGRAMS as u64 * 7);
}

#[test]
fn ffprobe_finds_a_program_in_the_test_stream() {
    let dir = file_of_media();
    let output = command("ffprobe")
        .args("-v error -of json -show_format -show_programs -show_streams".split(' '))
        .arg(dir.path().join("media.ts"))
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["format"]["format_name"], "mpegts", "{found:#}");
    assert_eq!(found["programs"][0]["pmt_pid"], 0x1000, "{found:#}");
    assert_eq!(found["programs"][0]["pcr_pid"], 0x100, "{found:#}");
    assert_eq!(found["streams"][0]["id"], "0x100", "{found:#}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
