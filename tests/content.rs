//! What is on air is looked at: black, frozen, silent and missing content is told, and a picture is served. And whatever
//! becomes of the helper that looks, the relay does not notice.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::daemon::{Daemon, condition, count};
use support::feed::{Feeding, Inlet, PACKET_BITS};
use support::media::{Feed, SEVEN, Sink, Stream, Wire, v4};
use support::paths::Recorder;
use support::ports::free_port;
use support::{PATIENCE, sample, wait_for};
use tempfile::TempDir;

const STREAM: Stream = Stream::at(2_000_000);
/// How long each fault must last, and how long it lasts.
const THRESHOLD: Duration = Duration::from_secs(3);
const LASTS: Duration = Duration::from_secs(6);
/// The faults of the stream below, and when they begin.
const FAULTS: [(&str, u64); 3] = [("black", 4), ("frozen", 14), ("silent", 24)];
/// A fault is told, and is over, within this time; on a machine that is busy, now and then within the other.
const PROMPT: Duration = Duration::from_secs(2);
const BUSY: Duration = Duration::from_secs(5);
/// 34 s of picture and sound, in which all faults are, one after the other. Each key frame of the frozen picture is coded
/// anew, and pictures are out of order: none of that must make a fault late.
const RECIPE: &str = "-f lavfi -i testsrc=size=640x360:rate=25 -f lavfi -i testsrc2=size=640x360:rate=25 \
    -f lavfi -i sine=frequency=1000:sample_rate=48000 -t 34 -filter_complex \
    [1:v]select='lt(n,1)',loop=loop=-1:size=1,setpts=N/25/TB[still];\
    [0:v]drawbox=t=fill:color=black:enable='gte(t,4)*lt(t,10)'[moving];\
    [moving][still]overlay=enable='gte(t,14)*lt(t,20)'[v];[2:a]volume=0:enable='gte(t,24)*lt(t,30)'[a] \
    -map [v] -map [a] -c:v libx264 -threads 1 -preset ultrafast -bf 2 -pix_fmt yuv420p -g 25 -b:v 2400k -minrate 2400k \
    -maxrate 2400k -bufsize 1200k -x264-params nal-hrd=cbr -c:a aac -b:a 128k -f mpegts -muxrate 3M";

fn flow(input: u16, output: u16, monitoring: &str) -> String {
    format!(
        "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n[monitoring]\n{monitoring}\n"
    )
}

/// Where outputs go that nobody looks at. Nobody reads there, but nothing is refused.
fn sink() -> u16 {
    static SINK: LazyLock<UdpSocket> = LazyLock::new(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    SINK.local_addr().unwrap().port()
}

/// Helpers that a daemon finds, without systemd. They end when dropped.
struct Helpers {
    child: Child,
}

impl Helpers {
    fn start(daemon: &Daemon) -> Self {
        Self::start_with(daemon, std::env::var_os("PATH"))
    }

    /// With programs of these folders.
    fn start_with(daemon: &Daemon, path: Option<OsString>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mediaconnect-thumbnail"));
        command.arg("--listen").arg(socket(daemon)).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("PATH", path.unwrap_or_default());
        Self { child: command.stderr(Stdio::null()).spawn().unwrap() }
    }

    /// The processes that serve a connection. One that has only been forked yet is a copy of the listener.
    fn all(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let arguments = |pid: &&str| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let serving = children.split_whitespace().filter(|pid| {
            let arguments = arguments(pid);
            !arguments.is_empty() && !arguments.contains("--listen")
        });
        serving.map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
    }

    /// The only one there is, once it is there.
    #[track_caller]
    fn only(&self) -> Pid {
        wait_for("a helper runs", || <[Pid; 1]>::try_from(self.all()).ok())[0]
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        let all = self.all();
        let _ = self.child.kill().and_then(|()| self.child.wait());
        // What is stopped would stay.
        all.into_iter().for_each(|helper| _ = kill(helper, Signal::SIGKILL));
    }
}

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.root().join("run-thumbnail.sock")
}

/// What the control socket answers: head and body.
fn fetch(daemon: &Daemon, path: &str) -> (String, Vec<u8>) {
    let mut stream = UnixStream::connect(daemon.root().join("run/control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), answer[end..].to_vec())
}

/// Width and height of a JPEG, by its frame header (ITU-T T.81, B.2.2).
fn size(jpeg: &[u8]) -> (u16, u16) {
    assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]), "no whole JPEG");
    let mut rest = &jpeg[2..];
    loop {
        let [0xFF, marker, high, low, ..] = *rest else { panic!("no frame header") };
        if marker == 0xC0 {
            return (u16::from_be_bytes([rest[7], rest[8]]), u16::from_be_bytes([rest[5], rest[6]]));
        }
        rest = &rest[2 + usize::from(u16::from_be_bytes([high, low]))..];
    }
}

fn has_thumbnail(flow: &Value) -> bool {
    flow["thumbnail"]["path"] == "/v1/flows/flow/thumbnail"
}

#[test]
fn black_frozen_and_silent_content_is_told_in_time_and_a_picture_is_served() {
    let bytes = sample::made("faults-34s-3M.ts", RECIPE);
    let length = (bytes.len() / SEVEN) as u64;
    let input = free_port();
    let content = "content = { black = '3s', frozen = '3s', silence = '3s' }";
    let daemon = Daemon::with_flow(&flow(input, sink(), &format!("thumbnails = {{ every = '1s' }}\n{content}")));
    let helpers = Helpers::start(&daemon);
    // It connects when something is on air; that shall not count.
    let datagrams = bytes.chunks(SEVEN).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
    let feeding = Feeding::led(Inlet::udp(input), length, datagrams, sample::BITS_PER_SECOND);
    helpers.only();
    feeding.begin();

    let now = || Duration::from_nanos(feeding.sent() * PACKET_BITS * 1_000_000_000 / sample::BITS_PER_SECOND);
    let mut late = Vec::new();
    let mut turn = |fault: &str, wrong: bool, at: Duration| {
        let told = daemon.wait_for_flow("flow", fault, |flow| flow["content"][fault] == wrong);
        let now = now();
        // What is multiplexed is somewhat ahead of its time.
        assert!(now + Duration::from_secs(1) >= at, "{fault} is {wrong} at {now:?}, before {at:?}: {told:#}");
        late.push(now.saturating_sub(at));
        told
    };
    for (fault, begins) in FAULTS {
        let begins = Duration::from_secs(begins);
        turn(fault, false, Duration::ZERO);
        let told = turn(fault, true, begins + THRESHOLD);
        let code = format!("content-{fault}");
        assert_eq!(condition(&told, &code).unwrap()["severity"], "major", "{told:#}");
        let others = FAULTS.iter().filter(|(other, _)| *other != fault);
        others.for_each(|(other, _)| assert_eq!(told["content"][*other], false, "{other}: {told:#}"));
        let over = turn(fault, false, begins + LASTS);
        assert!(condition(&over, &code).is_none(), "{over:#}");
    }
    // Whether each was told at all is known by now; the first of three is that it was right before.
    let late: Vec<_> = late.chunks(3).flat_map(|three| three[1..].to_vec()).collect();
    println!("told so late: {late:?}");
    assert!(late.iter().all(|late| *late <= BUSY), "{late:?}");
    assert!(late.iter().any(|late| *late <= PROMPT), "{late:?}");
    for (fault, _) in FAULTS {
        daemon.wait_for_log(&format!("flow content-{fault}: "));
        daemon.wait_for_log(&format!("flow content-{fault} is over after "));
        daemon.wait_for_log(&format!("flow alarm content-{fault}: "));
        daemon.wait_for_log(&format!("flow alarm content-{fault} is over after "));
    }

    let flow = daemon.wait_for_flow("flow", "a picture", has_thumbnail);
    let (head, picture) = fetch(&daemon, flow["thumbnail"]["path"].as_str().unwrap());
    assert!(head.starts_with("http/1.1 200 ") && head.contains("content-type: image/jpeg"), "{head}");
    assert_eq!(size(&picture), (480, 270));
    let metrics = daemon.ask("GET", "/metrics").unwrap().1;
    assert!(metrics.contains("mediaconnect_flow_black_frames_breaching{flow=\"flow\"} 0\n"), "{metrics}");
    assert_eq!(count(&flow, "content/packets-dropped"), 0);
    assert_eq!(count(&flow, "content/helper-failures"), 0);
}

#[test]
fn a_helper_that_is_killed_costs_no_packet_and_comes_back() {
    let (input, output) = (free_port(), free_port());
    let recorder = Recorder::bind(v4(output));
    let daemon = Daemon::with_flow(&flow(input, output, "thumbnails = { every = '1s' }"));
    let helpers = Helpers::start(&daemon);
    let stream = || sample::stream().chunks(SEVEN).map(<[u8]>::to_vec);
    let mut sent = 0;
    for kills in 0..3 {
        // Each time the stream begins anew, as after a switch.
        let length = (sample::stream().len() / SEVEN) as u64;
        let feeding = Feeding::alone(Inlet::udp(input), length, stream(), sample::BITS_PER_SECOND);
        let before = daemon.flow("flow")["thumbnail"]["time"].clone();
        let flow = daemon
            .wait_for_flow("flow", "a new picture", |flow| has_thumbnail(flow) && flow["thumbnail"]["time"] != before);
        assert_eq!(count(&flow, "content/helper-failures"), kills);
        kill(helpers.only(), Signal::SIGKILL).unwrap();
        daemon.wait_for_flow("flow", "it is noticed", |flow| count(flow, "content/helper-failures") > kills);
        helpers.only();
        let inlet = feeding.stop();
        sent += wait_for("all that was sent is received", || {
            let flow = daemon.flow("flow");
            let [packets, out] = ["sources/main/packets", "outputs/out/packets"].map(|path| count(&flow, path));
            (recorder.length() == out * SEVEN as u64 && out == packets).then_some(out)
        }) - sent;
        drop(inlet);
    }
    let came = recorder.recorded();
    assert_eq!(came.len() as u64, sent);
    // Byte by byte, each time from the beginning of the stream, which stuffing may precede.
    let came: Vec<_> = came.into_iter().map(|one| one.datagram).collect();
    let (mut rest, mut rounds) = (&came[..], 0);
    while let Some(first) = rest.first() {
        if *first == sample::stuffing() {
            rest = &rest[1..];
            continue;
        }
        let same = rest.iter().zip(sample::stream().chunks(SEVEN)).take_while(|(a, b)| a == b).count();
        assert!(same > 0, "a datagram is missing after {} of {}", came.len() - rest.len(), came.len());
        (rest, rounds) = (&rest[same..], rounds + 1);
    }
    assert_eq!(rounds, 3, "nothing is missing between");
}

/// The processor time of what a process has started, of that alone.
fn eaten_by_children_of(process: Pid) -> Duration {
    let ticks = |child: &str| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // utime, proc_pid_stat(5).
        stat.split(' ').nth(13).and_then(|ticks| ticks.parse().ok()).unwrap_or_default()
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let all: u64 = children.map(|children| children.split_whitespace().map(ticks).sum::<u64>()).sum();
    Duration::from_millis(10 * all)
}

#[test]
fn a_decoder_that_eats_all_it_can_get_costs_no_packet() {
    let (input, output) = (free_port(), free_port());
    let recorder = Recorder::bind(v4(output));
    let daemon = Daemon::with_flow(&flow(input, output, "thumbnails = { every = '1s' }"));
    let programs = TempDir::with_prefix("mediaconnect-programs-").unwrap();
    let ffmpeg = programs.path().join("ffmpeg");
    // It ends by itself, whatever becomes of the test.
    fs::write(&ffmpeg, "#!/bin/sh\nulimit -t 5\nwhile :; do :; done &\nwhile :; do :; done\n").unwrap();
    fs::set_permissions(&ffmpeg, fs::Permissions::from_mode(0o755)).unwrap();
    let helpers = Helpers::start_with(&daemon, Some(programs.path().into()));
    let stream: Vec<_> = sample::stream().chunks(SEVEN).map(<[u8]>::to_vec).collect();
    let length = stream.len() as u64;
    let _feeding = Feeding::alone(Inlet::udp(input), length, stream.clone().into_iter(), sample::BITS_PER_SECOND);
    let helper = helpers.only();
    wait_for("it eats", || (eaten_by_children_of(helper) >= Duration::from_secs(2)).then_some(()));
    // Something of what came while it did.
    let more = count(&daemon.flow("flow"), "sources/main/packets") + 500;
    wait_for("it is relayed", || (recorder.length() >= more * SEVEN as u64).then_some(()));
    for (n, came) in recorder.recorded().iter().enumerate() {
        assert!(came.datagram == stream[n], "datagram {n} is another one");
    }
    assert_eq!(count(&daemon.flow("flow"), "content/helper-failures"), 0, "it still runs");
}

#[test]
fn a_helper_that_hangs_costs_no_packet_and_another_one_takes_its_place() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let monitored = |monitoring: &str| flow(input, output, monitoring);
    let daemon = Daemon::with_flow(&monitored("thumbnails = {}"));
    let helpers = Helpers::start(&daemon);
    let sender = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let hanging = helpers.only();
    kill(hanging, Signal::SIGSTOP).unwrap();
    let flow = daemon
        .wait_for_flow("flow", "what it does not take is dropped", |flow| count(flow, "content/packets-dropped") > 100);
    assert_eq!(count(&flow, "outputs/out/packets-dropped"), 0);
    // It is left after 30 s.
    let start = Instant::now();
    while !helpers.all().iter().any(|helper| *helper != hanging) {
        assert!(start.elapsed() < PATIENCE * 3, "no other took its place");
        std::thread::sleep(Duration::from_millis(50));
    }
    let flow = daemon.flow("flow");
    assert_eq!(count(&flow, "content/helper-failures"), 1);

    // Whoever asks for it no more has no helper, and the flow goes on.
    daemon.write_flow("flow", &monitored(""));
    daemon.wait_for_log("flow flow changed in place (monitoring.thumbnails)");
    wait_for("its helper ends", || (helpers.all() == [hanging]).then_some(()));
    assert!(daemon.flow("flow")["content"].is_null());
    sink.assert_all(sender.stop());
}

#[test]
fn without_a_helper_the_flow_says_where_it_looks_for_one_and_finds_it_when_it_comes() {
    let input = free_port();
    let daemon = Daemon::with_flow(&flow(input, sink(), "thumbnails = {}"));
    let _sender = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let said = daemon.wait_for_condition("flow", "thumbnail-unavailable");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains(socket(&daemon).to_str().unwrap()) && message.contains("can't be reached"), "{said:#}");
    assert!(
        said["help"].as_str().unwrap().contains("systemctl enable --now mediaconnect-thumbnail.socket"),
        "{said:#}"
    );
    let (head, body) = fetch(&daemon, "/v1/flows/flow/thumbnail");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("no thumbnail yet"), "{body:?}");
    let helpers = Helpers::start(&daemon);
    helpers.only();
    daemon.wait_for_flow("flow", "all is well", |flow| condition(flow, "thumbnail-unavailable").is_none());
    daemon.wait_for_log("flow its pictures and sound are looked at again after ");
}

#[test]
fn a_helper_that_does_not_speak_as_it_should_is_left_and_counted() {
    let input = free_port();
    let daemon = Daemon::with_flow(&flow(input, sink(), "thumbnails = {}"));
    let listener = UnixListener::bind(socket(&daemon)).unwrap();
    let _sender = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let picture = |bytes: &[u8]| [&b"P"[..], &(bytes.len() as u32).to_be_bytes(), bytes].concat();
    for said in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &picture(b"\x89PNG"), b"P\x00\x08\x00\x01", b"R\x00\x00\x00\x02[]"] {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        let mut wanted = String::new();
        stream.read_line(&mut wanted).unwrap();
        let wanted: Value = serde_json::from_str(&wanted).unwrap();
        assert_eq!((&wanted["version"], &wanted["thumbnails"]), (&1.into(), &5000.into()));
        let failures = count(&daemon.flow("flow"), "content/helper-failures");
        stream.get_mut().write_all(said).unwrap();
        daemon.wait_for_flow("flow", "it is counted", |flow| count(flow, "content/helper-failures") == failures + 1);
        // What was under way may come, and then the end, or a reset: not all that was said was read.
        let mut packets = Vec::new();
        let _ = stream.read_to_end(&mut packets);
        assert!(packets.chunks_exact(188).all(|packet| packet[0] == 0x47), "whole packets, from the first on");
    }
    let flow = daemon.flow("flow");
    assert!(flow["thumbnail"].is_null(), "{flow:#}");
    let said = daemon.wait_for_condition("flow", "thumbnail-unavailable");
    assert!(said["message"].as_str().unwrap().contains("it does not speak as it should"), "{said:#}");
}

#[test]
fn a_picture_that_is_named_and_does_not_come_is_missing() {
    let input = free_port();
    let daemon = Daemon::with_flow(&flow(input, sink(), "content = {}"));
    // ffmpeg's first picture is on PID 256, its first sound on 257.
    let without = |pid: Option<u16>| {
        let wanted = move |packet: &&[u8]| Some(u16::from_be_bytes([packet[1] & 0x1F, packet[2]])) != pid;
        let packets = sample::stream().chunks(188).cycle().filter(wanted);
        let mut packets = packets.map(<[u8]>::to_vec);
        std::iter::from_fn(move || Some(packets.by_ref().take(7).flatten().collect::<Vec<u8>>()))
    };
    let feed = |inlet, pid| Feeding::alone(inlet, u64::MAX, without(pid), sample::BITS_PER_SECOND);
    let feeding = feed(Inlet::udp(input), None);
    let there = |flow: &Value| flow["content"]["video-missing"] == false && flow["content"]["audio-missing"] == false;
    daemon.wait_for_flow("flow", "both are there", there);
    let feeding = feed(feeding.stop(), Some(256));
    let said = daemon.wait_for_condition("flow", "video-missing");
    daemon.wait_for_log("flow alarm video-missing: ");
    assert!(
        said["message"].as_str().unwrap().contains("the picture of program 1, PID 256, has not come for "),
        "{said}"
    );
    assert_eq!(daemon.flow("flow")["content"]["audio-missing"], false);
    let feeding = feed(feeding.stop(), Some(257));
    daemon.wait_for_condition("flow", "audio-missing");
    daemon.wait_for_log("flow alarm audio-missing: ");
    daemon.wait_for_flow("flow", "the picture is back", |flow| flow["content"]["video-missing"] == false);
    let _feeding = feed(feeding.stop(), None);
    daemon.wait_for_flow("flow", "both are back", there);
    daemon.wait_for_log("flow alarm video-missing is over after ");
    daemon.wait_for_log("flow alarm audio-missing is over after ");
}
