//! How each program is told to send or to receive.
//!
//! No bytes are changed: ffmpeg would make a transport stream anew, so it gets and gives `data`, which it passes on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Options, Profile, Program};
use crate::support::media::SEVEN;
use crate::support::peers::command;

/// From a UDP port to RIST; ffmpeg from standard input.
pub(super) fn sending(program: Program, to: &[SocketAddr], options: &Options, udp: u16) -> Command {
    match program {
        Program::Librist => {
            let mut command = librist("ristsender", options);
            if options.null_deletion {
                command.arg("-n");
            }
            let weight = if options.split { 5 } else { 0 };
            let rotation = options.key_rotation.map(|packets| format!("&key-rotation={packets}")).unwrap_or_default();
            let url = |to: &SocketAddr| format!("rist://{to}?buffer={}&weight={weight}{rotation}", options.buffer);
            let urls: Vec<_> = to.iter().map(|to| url(to) + interface(to)).collect();
            command.args(["-i", &format!("udp://@127.0.0.1:{udp}"), "-o", &urls.join(",")]);
            command
        }
        Program::Ffmpeg => {
            let mut command = ffmpeg();
            command.args(raw_input("pipe:0", &[])).args("-map 0 -c copy -f data -flush_packets 1".split(' '));
            command.args(rist_options(options)).arg(format!("rist://{}", only(to)));
            command
        }
        Program::Gstreamer => {
            let mut command = gstreamer(options);
            // Of a pipe, what is read before the pipeline plays gets a time far ahead, for which the sink waits.
            command.args(["udpsrc", "address=127.0.0.1", &format!("port={udp}"), "buffer-size=4000000"]);
            command.args(["caps=video/mpegts,systemstream=true,packetsize=188", "!", "rtpmp2tpay", "pt=33"]);
            command.args(["!", "ristsink", &format!("sender-buffer={}", options.buffer + 200)]);
            command.args(addresses(to)).arg(format!("bonding-method={}", u8::from(options.split)));
            command.arg(format!("drop-null-ts-packets={}", options.null_deletion));
            command
        }
        Program::Mediaconnect => panic!("the daemon is told by a file"),
    }
}

/// From RIST to a file; `ristreceiver` to a UDP port.
pub(super) fn receiving(program: Program, at: &[SocketAddr], options: &Options, to: Into<'_>) -> Command {
    match (program, to) {
        (Program::Librist, Into::Udp(udp)) => {
            let mut command = librist("ristreceiver", options);
            let urls: Vec<_> =
                at.iter().map(|at| format!("rist://@{at}?buffer={}", options.buffer) + interface(at)).collect();
            command.args(["-i", &urls.join(","), "-o", &format!("udp://127.0.0.1:{udp}")]);
            command
        }
        (Program::Ffmpeg, Into::File(file)) => {
            let mut command = ffmpeg();
            command.args(raw_input(&format!("rist://@{}", only(at)), &rist_options(options)));
            command.args("-map 0 -c copy -f data -flush_packets 1".split(' ')).arg(file);
            command
        }
        (Program::Gstreamer, Into::File(file)) => {
            let mut command = gstreamer(options);
            command.args(["ristsrc", &format!("receiver-buffer={}", options.buffer)]).args(addresses(at));
            // Else a busy machine loses packets in the system's small buffers.
            command.args((0..at.len()).map(|n| format!("rist_rtp_udpsrc{n}::buffer-size=4000000")));
            command.args(["!", "rtpmp2tdepay", "!", "filesink", "buffer-mode=unbuffered"]);
            command.arg(format!("location={}", file.display()));
            command
        }
        (program, _) => panic!("{program:?} can't receive into that"),
    }
}

/// Where what is received goes.
pub(super) enum Into<'a> {
    File(&'a Path),
    Udp(u16),
}

fn only(addresses: &[SocketAddr]) -> SocketAddr {
    let [address] = addresses else { panic!("it can have one address only") };
    *address
}

/// Of groups: they are on loopback.
fn interface(address: &SocketAddr) -> &'static str {
    if address.ip().is_multicast() { "&miface=lo" } else { "" }
}

fn librist(program: &str, options: &Options) -> Command {
    let mut command = command(program);
    command.args(["-v", "6", "-S", "500", "-p", if options.profile == Profile::Simple { "0" } else { "1" }]);
    if let Some(length) = options.profile.key_length() {
        command.args(["-s", options.passphrase, "-e", &bits(length)]);
    }
    command
}

fn bits(bytes: u8) -> String {
    (u32::from(bytes) * 8).to_string()
}

fn ffmpeg() -> Command {
    let mut command = command("ffmpeg");
    command.args(["-hide_banner", "-nostats", "-loglevel", "info", "-y"]);
    command
}

fn raw_input(from: &str, options: &[String]) -> Vec<String> {
    let size = SEVEN.to_string();
    let format = ["-f", "data", "-raw_packet_size", &size].map(str::to_owned).into_iter();
    format.chain(options.iter().cloned()).chain(["-i".to_owned(), from.to_owned()]).collect()
}

/// Of ffmpeg, which takes no notice of them in the address.
fn rist_options(options: &Options) -> Vec<String> {
    let profile = if options.profile == Profile::Simple { "simple" } else { "main" };
    let mut all = vec!["-rist_profile".to_owned(), profile.to_owned()];
    all.extend(["-buffer_size".to_owned(), options.buffer.to_string()]);
    if let Some(length) = options.profile.key_length() {
        all.extend(["-secret", options.passphrase, "-encryption"].map(str::to_owned));
        all.push(bits(length));
    }
    all
}

fn gstreamer(options: &Options) -> Command {
    assert_eq!(options.profile, Profile::Simple, "GStreamer has no other");
    let mut command = command("gst-launch-1.0");
    command.arg("-q");
    command
}

fn addresses(addresses: &[SocketAddr]) -> Vec<String> {
    match addresses {
        [one] => {
            let group = one.ip().is_multicast().then_some("multicast-iface=lo multicast-loopback=true");
            let words = group.into_iter().flat_map(|words| words.split(' ')).map(str::to_owned);
            [format!("address={}", one.ip()), format!("port={}", one.port())].into_iter().chain(words).collect()
        }
        several => {
            let list: Vec<_> = several.iter().map(ToString::to_string).collect();
            vec![format!("bonding-addresses={}", list.join(","))]
        }
    }
}
