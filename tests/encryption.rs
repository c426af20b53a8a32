//! Content encryption, live: what one daemon encrypts another decrypts, bit by bit, and on the way nothing is in clear.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use mediaconnect::proto::mpegts::packet::{PACKET_LEN, PacketHeader};
use support::daemon::{Daemon, Setup, condition, count};
use support::ends::Got;
use support::feed::{Feeding, Inlet};
use support::media::SEVEN;
use support::ports::free_port;
use support::{sample, wait_for};

/// Faster than the stream is, so that 60 s of it take 15.
const RATE: u64 = 4 * sample::BITS_PER_SECOND;
const EVEN: &str = "00112233445566778899aabbccddeeff";
const ODD: &str = "FFEEDDCCBBAA99887766554433221100";
const BOTH: &str = "encryption = { scheme = 'cissa', key-file = 'even', odd-key-file = 'odd', key-period = '1s' }";

fn source(protocol: &str, port: u16, more: &str) -> String {
    format!("[sources.main]\nprotocol = '{protocol}'\nbind = '127.0.0.1:{port}'\n{more}\n")
}

fn output(name: &str, protocol: &str, port: u16, more: &str) -> String {
    format!("[outputs.{name}]\nprotocol = '{protocol}'\ndestination = '127.0.0.1:{port}'\n{more}\n")
}

fn daemon(flow: &str) -> Daemon {
    Setup::new()
        .flow("flow", flow)
        .secret("even", EVEN)
        .secret("odd", ODD)
        .secret("other", &EVEN.replace('0', "1"))
        .start()
}

fn packets(bytes: &[u8]) -> impl Iterator<Item = (PacketHeader, &[u8; PACKET_LEN])> {
    bytes.as_chunks().0.iter().map(|packet| (PacketHeader::parse(packet).unwrap(), packet))
}

/// The PIDs of picture and sound.
const MEDIA: [u16; 2] = [256, 257];

/// What openssl makes of a packet's payload.
fn by_openssl(key: &str, packet: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(["enc", "-d", "-aes-128-cbc", "-nopad", "-K", key, "-iv", "445642544D4350544145534349535341"]);
    let mut openssl = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    openssl.stdin.take().unwrap().write_all(packet).unwrap();
    openssl.wait_with_output().unwrap().stdout
}

#[test]
fn what_is_encrypted_with_two_keys_in_turn_is_what_it_was_when_it_is_decrypted() {
    let [input, link, seen, plain, out] = [(); 5].map(|()| free_port());
    let [between, clear, came] = [seen, plain, out].map(Got::at);
    let first = source("udp", input, "")
        + &output("link", "rtp", link, BOTH)
        + &output("seen", "udp", seen, BOTH)
        + &output("plain", "udp", plain, "");
    let keys = "decryption = { scheme = 'cissa', key-file = 'even', odd-key-file = 'odd' }";
    let second = daemon(&(source("rtp", link, keys) + &output("out", "udp", out, "")));
    let first = daemon(&first);
    // 60 s.
    let whole = sample::stream().repeat(3);
    let stream = whole.chunks(SEVEN).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
    let _feeding = Feeding::start(Inlet::udp(input), (whole.len() / SEVEN) as u64, stream, RATE);
    came.assert_received(&whole);
    clear.assert_received(&whole);

    let encrypted = between.wait_for_length(whole.len() as u64);
    let mut parities = [0, 0];
    for ((header, packet), (was, before)) in packets(&encrypted).zip(packets(&whole)) {
        assert_eq!((header.pid(), header.continuity()), (was.pid(), was.continuity()));
        if MEDIA.contains(&was.pid()) && was.payload() {
            let [even, odd] = [2, 3].map(|scrambling| header.scrambling() == scrambling);
            assert!(even || odd, "nothing is in clear");
            parities[usize::from(odd)] += 1;
            let payload = header.payload_of(packet);
            let whole = payload.len() / 16 * 16;
            // Not each of them: it takes a process.
            if parities[usize::from(odd)] % 500 == 1 {
                let plain = by_openssl(if even { EVEN } else { ODD }, &payload[..whole]);
                assert_eq!([&plain, &payload[whole..]].concat(), was.payload_of(before));
            }
        } else {
            assert_eq!(packet, before, "tables, and what has no payload");
        }
    }
    assert!(parities.iter().all(|packets| *packets > 1000), "{parities:?}");
    assert!(first.ctl_ok(&["status", "flow"]).contains("CISSA with the "));
    assert!(second.ctl_ok(&["status", "flow"]).contains(" decrypted, 0 without a key"));
    let (sent, received) = (first.flow("flow"), second.flow("flow"));
    assert_eq!(count(&sent, "outputs/link/encryption/packets-withheld"), 0);
    assert!(count(&received, "sources/main/decryption/packets-decrypted") >= (parities[0] + parities[1]) as u64);
    assert_eq!(count(&received, "sources/main/decryption/packets-without-key"), 0);
}

#[test]
fn srt_and_rist_carry_the_same_encryption_beside_outputs_in_clear() {
    let [input, srt, rist, clear] = [(); 4].map(|()| free_port());
    let outs = [(); 3].map(|()| free_port());
    let got = outs.map(Got::at);
    let keys = "decryption = { scheme = 'cissa', key-file = 'even' }";
    let one = "encryption = { scheme = 'cissa', key-file = 'even' }";
    let calls = |more: &str| format!("[outputs.{more}]\nprotocol = 'srt-listener'\n");
    let first = daemon(
        &(source("udp", input, "")
            + &calls("srt")
            + &format!("bind = '127.0.0.1:{srt}'\n{one}\n")
            + &output("rist", "rist", rist, one)
            + &calls("clear")
            + &format!("bind = '127.0.0.1:{clear}'\n")),
    );
    let caller = |port: u16, more: &str, out: u16| {
        let remote = format!("[sources.main]\nprotocol = 'srt-caller'\nremote = '127.0.0.1:{port}'\n{more}\n");
        daemon(&(remote + &output("out", "udp", out, "")))
    };
    let _others = [
        caller(srt, keys, outs[0]),
        daemon(&(source("rist", rist, keys) + &output("out", "udp", outs[1], ""))),
        caller(clear, "", outs[2]),
    ];
    for name in ["srt", "clear"] {
        let path = format!("/outputs/{name}/peers/0");
        first.wait_for_flow("flow", "it is connected", |flow| flow.pointer(&path).is_some());
    }
    let stream = sample::stream().chunks(SEVEN).map(<[u8]>::to_vec);
    let feeding = Feeding::led(Inlet::udp(input), (sample::stream().len() / SEVEN) as u64, stream, RATE);
    for one in &got {
        wait_for("stuffing comes", || (one.length() > 0).then_some(()));
    }
    feeding.begin();
    for one in &got {
        one.assert_received(sample::stream());
    }
}

#[test]
fn a_wrong_key_is_noticed_and_mended_while_it_runs() {
    let [input, link, out] = [(); 3].map(|()| free_port());
    let encrypted = |file: &str| format!("encryption = {{ scheme = 'cissa', key-file = '{file}' }}");
    let keys = "decryption = { scheme = 'cissa', key-file = 'other' }";
    let second = daemon(&(source("udp", link, keys) + &output("out", "udp", out, "")));
    let first = daemon(&(source("udp", input, "") + &output("link", "udp", link, &encrypted("even"))));
    let stream = sample::stream().chunks(SEVEN).map(<[u8]>::to_vec).cycle();
    let _feeding = Feeding::alone(Inlet::udp(input), u64::MAX, stream, sample::BITS_PER_SECOND);
    let wrong = second.wait_for_condition("flow", "content-key-wrong");
    assert!(wrong["message"].as_str().unwrap().contains("even key, other"), "{wrong}");

    second.write_secret("other", EVEN);
    second.wait_for_log("source main changed in place (decryption)");
    second.wait_for_flow("flow", "it is right", |flow| condition(flow, "content-key-wrong").is_none());
    let before = second.flow("flow");
    // Both ends change to another key, one after the other.
    first.write_secret("even", ODD);
    first.wait_for_log("output link changed in place (encryption)");
    second.wait_for_condition("flow", "content-key-wrong");
    second.write_secret("other", ODD);
    second.wait_for_flow("flow", "it is right again", |flow| condition(flow, "content-key-wrong").is_none());
    assert_eq!(second.flow("flow")["sources"]["main"]["since"], before["sources"]["main"]["since"]);
    for daemon in [&first, &second] {
        let said = daemon.log() + &daemon.flow("flow").to_string() + &daemon.ctl_ok(&["status", "flow"]);
        assert!(![EVEN, ODD].iter().any(|key| said.to_lowercase().contains(&key.to_lowercase())), "{said}");
    }
}
