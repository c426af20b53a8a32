//! The analysis of transport streams, live: what a source carries and what is wrong with it, in status, metrics and
//! conditions. What each check finds is tested with the monitor itself.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use serde_json::{Value, json};
use support::daemon::{Daemon, count};
use support::feed::{Feeding, Inlet};
use support::media::{Feed, SEVEN, Sink, Stream, Wire, receiving_socket, v4};
use support::ports::free_port;
use support::proxy::{Impairment, Proxy};
use support::sample;

const STREAM: Stream = Stream::at(2_000_000);
/// What a busy machine can't bring about: the others go by the time of arrival.
const TIMELESS: [&str; 4] = ["sync_byte", "continuity_count", "transport", "crc"];

fn flow(source: &str, output: u16) -> String {
    format!("[sources.main]\n{source}\n[outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n")
}

fn udp(port: u16) -> String {
    format!("protocol = 'udp'\nbind = '127.0.0.1:{port}'")
}

/// The streams of the first program, once all of their headers were found.
fn streams(ts: &Value) -> Option<&Vec<Value>> {
    let streams = ts["programs"][0]["streams"].as_array()?;
    let known = |stream: &Value| !stream["width"].is_null() || !stream["sample-rate"].is_null();
    (streams.len() == 2 && streams.iter().all(known)).then_some(streams)
}

#[track_caller]
fn assert_no_errors(ts: &Value) {
    for check in TIMELESS {
        assert_eq!(ts["errors"][check], 0, "{check}: {ts:#}");
    }
}

#[test]
fn what_a_source_carries_and_what_is_wrong_with_it_is_told() {
    let (input, output) = (free_port(), free_port());
    let _receiver = receiving_socket(v4(output));
    let daemon = Daemon::with_flow(&flow(&udp(input), output));
    // From the third second on, one of a hundred datagrams is missing.
    let lost = |n: usize| n > 900 && n.is_multiple_of(100);
    let whole = sample::stream().chunks(SEVEN).map(<[u8]>::to_vec).enumerate();
    let holed = whole.filter(move |(n, _)| !lost(*n)).map(|(_, datagram)| datagram);
    let length = (sample::stream().len() / SEVEN) as u64;
    let _feeding = Feeding::alone(Inlet::udp(input), length, holed, sample::BITS_PER_SECOND);

    let flow = daemon.wait_for_flow("flow", "what it carries", |flow| {
        streams(&flow["sources"]["main"]["transport-stream"]).is_some()
    });
    let ts = &flow["sources"]["main"]["transport-stream"];
    let streams = streams(ts).unwrap();
    let of = |stream: &Value, keys: &[&str]| keys.iter().map(|key| stream[*key].clone()).collect::<Vec<_>>();
    assert_eq!(
        of(&streams[0], &["codec", "width", "height", "frame-rate", "scan", "chroma", "bit-depth"]),
        [json!("H.264"), json!(640), json!(360), json!("25"), json!("progressive"), json!("4:2:0"), json!(8)]
    );
    assert_eq!(of(&streams[1], &["codec", "sample-rate", "channels"]), [json!("AAC"), json!(48000), json!(1)]);
    assert_eq!(ts["programs"][0]["name"], "Service01");
    assert_eq!(ts["programs"][0]["provider"], "FFmpeg");
    assert!(flow["transport-stream"].is_null(), "it is the source's: {flow:#}");

    daemon.wait_for_flow("flow", "errors are counted", |flow| {
        count(flow, "sources/main/transport-stream/errors/continuity_count") > 2
    });
    let said = daemon.wait_for_condition("flow", "transport-stream-errors");
    assert_eq!(said["severity"], "info", "the relay goes on");
    assert!(said["message"].as_str().unwrap().contains("continuity_count"), "{said}");
    assert_eq!(daemon.ctl(&["explain", "flow"]).status.code(), Some(0));
    let shown = daemon.ctl_ok(&["status", "flow"]);
    assert!(shown.contains("H.264 High") || shown.contains("H.264 Constrained Baseline"), "{shown}");
    assert!(shown.contains("640x360 25 fps progressive 4:2:0 8 bit"), "{shown}");
    assert!(shown.contains("errors by TR 101 290: ") && shown.contains("(now)"), "{shown}");
    let metrics = daemon.ask("GET", "/metrics").unwrap().1;
    let series =
        |check| format!("mediaconnect_source_ts_errors_total{{flow=\"flow\",source=\"main\",check=\"{check}\"}} ");
    assert!(metrics.contains(&(series("crc") + "0\n")), "{metrics}");
    assert!(metrics.contains(&series("continuity_count")) && !metrics.contains(&(series("continuity_count") + "0\n")));
}

#[test]
fn an_analysis_ends_and_begins_with_its_key_and_the_relay_does_not_notice() {
    let (input, output) = (free_port(), free_port());
    let sink = Sink::bind(Wire::Udp, v4(output), STREAM);
    let text = flow(&udp(input), output);
    let daemon = Daemon::with_flow(&text);
    let sender = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let analysed = |flow: &Value| flow["sources"]["main"]["transport-stream"]["programs"][0]["number"] == 1;
    let with = daemon.wait_for_flow("flow", "it is analysed", analysed);
    assert_no_errors(&with["sources"]["main"]["transport-stream"]);
    daemon.write_flow("flow", &(text.clone() + "[monitoring]\ntransport-stream = false\n"));
    let plan = daemon.ctl_ok(&["reload"]);
    assert_eq!(plan, "flow: change\n  flow flow: in place (monitoring.transport-stream)\n");
    daemon.wait_for_flow("flow", "it is not", |flow| flow["sources"]["main"]["transport-stream"].is_null());
    assert!(!daemon.ask("GET", "/metrics").unwrap().1.contains("ts_errors"));
    daemon.write_flow("flow", &text);
    daemon.ctl_ok(&["reload"]);
    daemon.wait_for_flow("flow", "it is analysed again", analysed);
    sink.assert_all(sender.stop());
}

#[test]
fn the_legs_of_a_merge_and_what_it_makes_of_them_are_analysed() {
    let (inputs, output) = ([free_port(), free_port()], free_port());
    let source = |name, port| format!("[sources.{name}]\nprotocol = 'rtp'\nbind = '127.0.0.1:{port}'\n");
    let sources = source("a", inputs[0]) + &source("b", inputs[1]);
    let merge = "[failover]\nmode = 'merge'\nrecovery-window = '100ms'\n";
    let daemon = Daemon::with_flow(&format!(
        "{sources}{merge}[outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    ));
    // Both legs bear the same packets; the second one loses some.
    let between = free_port();
    let _lossy = Proxy::start(v4(between), v4(inputs[1]), Impairment { seed: 1, loss: 20, ..Impairment::default() });
    let senders = [inputs[0], between].map(|port| Feed::new(Wire::Rtp, v4(port), STREAM).start());
    let flow = daemon.wait_for_flow("flow", "all are analysed", |flow| {
        let leg = |name: &str| flow["sources"][name]["transport-stream"]["programs"][0]["number"] == 1;
        let lost = flow["sources"]["b"]["transport-stream"]["errors"]["continuity_count"].as_u64() > Some(2);
        leg("a") && lost && flow["transport-stream"]["programs"][0]["number"] == 1
    });
    assert_no_errors(&flow["sources"]["a"]["transport-stream"]);
    assert_no_errors(&flow["transport-stream"]);
    let metrics = daemon.ask("GET", "/metrics").unwrap().1;
    assert!(metrics.contains("mediaconnect_flow_ts_errors_total{flow=\"flow\",check=\"continuity_count\"} 0\n"));
    senders.into_iter().for_each(|sender| _ = sender.stop());
}

#[test]
fn what_comes_by_srt_is_analysed_as_it_is_delivered() {
    let (input, port) = (free_port(), free_port());
    let receiving = Daemon::with_flow(&flow(&format!("protocol = 'srt-listener'\nbind = '127.0.0.1:{port}'"), 9));
    let _sending = Daemon::with_flow(&format!(
        "[sources.main]\n{}\n[outputs.out]\nprotocol = 'srt-caller'\ndestination = '127.0.0.1:{port}'\n",
        udp(input)
    ));
    let _sender = Feed::new(Wire::Udp, v4(input), STREAM).start();
    let flow = receiving.wait_for_flow("flow", "it is analysed", |flow| {
        let ts = &flow["sources"]["main"]["transport-stream"];
        ts["programs"][0]["number"] == 1 && ts["bitrate-bps"].as_u64() > Some(1_000_000)
    });
    assert_no_errors(&flow["sources"]["main"]["transport-stream"]);
}
