//! How each program is told to send or to receive.
//!
//! No bytes are changed: ffmpeg would make a transport stream anew, so it gets and gives `data`, which it passes on.

use std::path::Path;
use std::process::Command;

use super::{Options, Place, Program, wheel};
use crate::support::media::SEVEN;
use crate::support::peers::command;

/// What GStreamer and the libsrt in it say of a connection goes to standard error.
const GSTREAMER_LOG: &str = "srtobject:4,srtlib:4";

/// From standard input to SRT; `srt-live-transmit` from a UDP port. It looks for input where its buffer does not know
/// that there is some, and so is a few datagrams behind with a pipe.
pub(super) fn sending(program: Program, place: Place, options: &Options, udp: u16) -> Command {
    let uri = uri(program, place, options);
    match program {
        Program::LiveTransmit => {
            let mut command = live_transmit(options);
            command.arg(format!("udp://127.0.0.1:{udp}?rcvbuf=4000000")).arg(uri);
            command
        }
        Program::Ffmpeg | Program::NewFfmpeg => {
            let mut command = ffmpeg(program);
            command.args(raw_input("pipe:0")).args(raw_output(&uri));
            command
        }
        Program::Gstreamer => {
            let mut command = gstreamer();
            command.args(["fdsrc", "fd=0", &format!("blocksize={SEVEN}"), "!", "srtsink", "sync=false"]);
            command.args(properties(&uri, options));
            command
        }
        Program::Mediaconnect => panic!("the daemon is told by a file"),
    }
}

/// From SRT to a file; `srt-live-transmit` to standard output, of which it keeps up to 8 KiB back.
pub(super) fn receiving(program: Program, place: Place, options: &Options, recording: &Path) -> Command {
    let uri = uri(program, place, options);
    let file = recording.to_str().expect("a name in UTF-8");
    match program {
        Program::LiveTransmit => {
            let mut command = live_transmit(options);
            command.args([&uri, "file://con"]);
            command
        }
        Program::Ffmpeg | Program::NewFfmpeg => {
            let mut command = ffmpeg(program);
            command.args(raw_input(&uri)).args(raw_output(file));
            command
        }
        Program::Gstreamer => {
            let mut command = gstreamer();
            command.arg("srtsrc").args(properties(&uri, options));
            command.args(["!", "filesink", "buffer-mode=unbuffered", &format!("location={file}")]);
            command
        }
        Program::Mediaconnect => panic!("the daemon is told by a file"),
    }
}

fn live_transmit(options: &Options) -> Command {
    let mut command = command("srt-live-transmit");
    let again = if options.again { "-a:yes" } else { "-a:no" };
    // The log has more than connections come and go, but notes are few.
    command.args(["-v", "-ll:note", again, &format!("-chunk:{SEVEN}")]);
    if let Some(file) = &options.statistics {
        command.args(["-s:50", "-pf:json", &format!("-statsout:{}", file.display())]);
    }
    command
}

fn ffmpeg(program: Program) -> Command {
    let mut command = if program == Program::NewFfmpeg { Command::new(wheel::ffmpeg()) } else { command("ffmpeg") };
    command.args(["-hide_banner", "-nostats", "-loglevel", "info", "-y"]);
    command
}

fn raw_input(from: &str) -> Vec<String> {
    let size = SEVEN.to_string();
    ["-f", "data", "-raw_packet_size", &size, "-i", from].map(str::to_owned).to_vec()
}

fn raw_output(to: &str) -> Vec<String> {
    "-map 0 -c copy -f data -flush_packets 1".split(' ').chain([to]).map(str::to_owned).collect()
}

fn gstreamer() -> Command {
    let mut command = command("gst-launch-1.0");
    command.arg("-q").env("GST_DEBUG", GSTREAMER_LOG).env("GST_DEBUG_NO_COLOR", "1");
    command
}

/// Of srtsrc and srtsink. The URI sets all the others back, so it comes first; a stream ID in it would be taken apart.
fn properties(uri: &str, options: &Options) -> Vec<String> {
    let stream_id = options.stream_id.iter().map(|id| format!("streamid=\"{id}\""));
    [format!("uri={uri}")].into_iter().chain(stream_id).collect()
}

/// The address of an SRT connection. Most of its keys are named alike everywhere.
fn uri(program: Program, place: Place, options: &Options) -> String {
    let is_ffmpeg = matches!(program, Program::Ffmpeg | Program::NewFfmpeg);
    let (host, keys) = match place {
        Place::Listener(port) => (format!("127.0.0.1:{port}"), "mode=listener".to_owned()),
        Place::Caller(port) => (format!("127.0.0.1:{port}"), "mode=caller".to_owned()),
        Place::Rendezvous { local, remote, port } => {
            assert!(!is_ffmpeg, "ffmpeg binds the address that it calls: it can do no rendezvous");
            let local = match program {
                Program::Gstreamer => format!("localaddress={local}&localport={port}"),
                _ => format!("adapter={local}"),
            };
            (format!("{remote}:{port}"), format!("mode=rendezvous&{local}"))
        }
    };
    let mut uri = format!("srt://{host}?{keys}");
    let mut add = |key: &str, value: &str| uri.extend(["&", key, "=", value]);
    let latency = |ms: u32| if is_ffmpeg { (u64::from(ms) * 1000).to_string() } else { ms.to_string() };
    if let Some(passphrase) = &options.passphrase {
        add("passphrase", passphrase);
    }
    if let Some(length) = options.key_length {
        add("pbkeylen", &length.to_string());
    }
    if let Some(ms) = options.latency {
        add("latency", &latency(ms));
    }
    if let Some([receive, send]) = options.latencies {
        add("rcvlatency", &latency(receive));
        add("peerlatency", &latency(send));
    }
    if let Some([every, announce]) = options.refresh {
        add("kmrefreshrate", &every.to_string());
        add("kmpreannounce", &announce.to_string());
    }
    if let Some(stream_id) = options.stream_id.as_deref().filter(|_| program != Program::Gstreamer) {
        // Only the new ffmpeg undoes escapes; the others take every byte as it is, so they can't have a &.
        let escaped = stream_id.replace('%', "%25").replace('#', "%23").replace('&', "%26");
        add("streamid", if program == Program::NewFfmpeg { &escaped } else { stream_id });
    }
    uri
}
