//! What the manual says about handing a flow to another appliance, done as it stands there.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::daemon::{Daemon, Setup};
use support::ends::Got;
use support::feed::{Feeding, Inlet};
use support::media::SEVEN;
use support::netns::{Namespace, in_own_network};
use support::sample::stream;

/// The commands of the example: on the appliance that gives, on the one that receives, and at the end.
fn commands() -> [String; 3] {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man/mediaconnect-subscriber.5");
    let page = fs::read_to_string(page).unwrap();
    let (_, examples) = page.split_once(".Sh EXAMPLES\n").unwrap();
    let displays = examples.split(".Bd -literal\n").skip(1).filter_map(|rest| rest.split(".Ed\n").next());
    displays.map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
}

/// Run commands of the manual on an appliance whose places are others; what they print.
#[track_caller]
fn follow(commands: &str, appliance: &Daemon) -> String {
    let root = appliance.root().to_str().unwrap();
    let ctl = env!("CARGO_BIN_EXE_mediaconnectctl");
    let places = format!("--config {root}/etc --runtime {root}/run --state {root}/state");
    let script = commands.replace("/etc/mediaconnect/", &format!("{root}/etc/"));
    let script = format!("set -eu -o pipefail\nmediaconnectctl() {{ {ctl} {places} \"$@\"; }}\n{script}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{commands}{out}{err}");
    out
}

/// As the package leaves it.
fn installed() -> Setup<'static> {
    Setup::new().directory("subscribers.d").directory("secrets")
}

#[test]
fn the_manual_leads_from_nothing_to_an_encrypted_flow_on_another_appliance() {
    in_own_network("the_manual_leads_from_nothing_to_an_encrypted_flow_on_another_appliance", || {
        let other_site = Namespace::joined(("here", &["198.51.100.1/24"]), ("there", &["198.51.100.7/24"]));
        let giving = installed().start();
        let receiving = installed().in_namespace(&other_site).start();
        let got = other_site.make(|| Got::at(5010));
        let [give, receive, end] = commands();
        follow(&give, &giving);
        fs::copy(giving.root().join("etc/secrets/affiliate-7"), receiving.root().join("etc/secrets/affiliate-7"))
            .unwrap();
        follow(&receive, &receiving);
        receiving.wait_for_log("is connected to 198.51.100.1:7000");

        let whole = 2000;
        let stream = &stream()[..whole * SEVEN];
        let packets = stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
        let _feeding = Feeding::start(Inlet::udp(5000), whole as u64, packets, 5_000_000);
        got.assert_received(stream);
        assert_eq!(receiving.flow("from-the-network")["sources"]["network"]["peers"][0]["srt"]["cipher"], "AES-128");

        let status = follow(&end, &giving);
        assert!(status.contains("affiliate-7") && status.contains("198.51.100.7"), "{status}");
        giving.wait_for_log("session of subscriber affiliate-7");
        receiving.wait_for_log("(1401)");
    });
}
