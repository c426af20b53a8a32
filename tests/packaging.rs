//! The Debian package: what it installs, starts, keeps over an upgrade, and leaves behind. Needs root, lintian and fish.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::machine::{BOOKWORM, Machine, TRIXIE, UNIT, text};
use support::media::{Feed, Sink, Stream, Wire, v4};
use support::netns::run;
use support::package::{NEWER, PACKAGE, boot, install, packages};
use support::srt_and_rist::SrtAndRist;
use support::wait_for;

const STREAM: Stream = Stream::at(5_000_000);
/// Ports in a machine are all free.
const INPUT: u16 = 5000;
const OUTPUT: u16 = 6000;

/// A flow over loopback, to one more port.
fn flow(outputs: &[u16]) -> String {
    let mut text = format!("[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{INPUT}'\n");
    for port in outputs {
        text += &format!("[outputs.to-{port}]\nprotocol = 'udp'\ndestination = '127.0.0.1:{port}'\n");
    }
    text
}

fn sink(port: u16) -> Sink {
    Sink::bind(Wire::Udp, v4(port), STREAM)
}

/// The installed package's version; empty: none.
fn version(machine: &Machine) -> String {
    let query = machine.run(&["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "mediaconnect"]);
    String::from_utf8_lossy(&query.stdout).into_owned()
}

#[test]
fn lintian_finds_no_error() {
    let mut lintian = Command::new("lintian");
    // Its warnings are for Debian's own archive.
    lintian.args(["--allow-root", "--fail-on", "error"]).args(packages());
    let output = lintian.stdin(Stdio::null()).output().expect("lintian starts (package lintian)");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_shells_complete_commands() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/completions");
    let programs = Path::new(env!("CARGO_BIN_EXE_mediaconnectctl")).parent().expect("a directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let in_bash = ". ./mediaconnectctl.bash; COMP_WORDS=(mediaconnectctl sto) COMP_CWORD=1\n\
                   _mediaconnectctl mediaconnectctl sto mediaconnectctl; echo \"${COMPREPLY[@]}\"";
    let in_fish =
        "source mediaconnectctl.fish; complete --do-complete 'mediaconnectctl sto' | string split --fields 1 \\t";
    for (shell, script) in [("bash", in_bash), ("fish", in_fish)] {
        let output = Command::new(shell).args(["-c", script]).env("PATH", &path).current_dir(&files).output();
        let output = output.unwrap_or_else(|e| panic!("{shell} starts (package {shell}): {e}"));
        assert_eq!(text(&output), "stop\n", "{shell}");
    }
}

#[test]
fn it_installs_a_service_without_flows_and_purges_everything() {
    let machine = install(BOOKWORM);
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(machine.ok(&["systemctl", "is-enabled", "mediaconnectd"]), "enabled\n");
    let socket = machine.ok(&["systemctl", "is-active", "mediaconnect-thumbnail.socket"]);
    assert_eq!(socket, "active\n");
    let status = machine.ok(&["mediaconnectctl", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["flows"]["total"], 0, "examples are not active: {status:#}");
    let check = machine.run(&["mediaconnectctl", "check"]);
    assert!(check.status.success(), "{}", text(&check));
    let key_files = machine.ok(&["stat", "--format", "%U:%G %a", "/etc/mediaconnect/secrets"]);
    assert_eq!(key_files, "root:mediaconnect 2750\n");
    machine.ok(&["test", "-e", "/etc/mediaconnect/flows.d/srt-from-an-encoder.toml.example"]);

    // What an administrator and the service leave.
    machine.write_flow("news", &flow(&[OUTPUT]));
    machine.write("/etc/mediaconnect/secrets/venue", "correct horse battery");
    machine.wait_for_state("news", "active");
    machine.ok(&["dpkg", "--remove", "mediaconnect"]);
    let active = machine.run(&["systemctl", "is-active", "mediaconnectd", "mediaconnect-thumbnail.socket"]);
    assert_eq!(String::from_utf8_lossy(&active.stdout), "inactive\ninactive\n");
    machine.ok(&["test", "-e", "/etc/mediaconnect/flows.d/news.toml"]);
    machine.ok(&["test", "-d", "/var/lib/mediaconnect"]);

    machine.ok(&["dpkg", "--purge", "mediaconnect"]);
    let find =
        ["find", "/", "-xdev", "-name", "*mediaconnect*", "-not", "-path", "/root/*", "-not", "-path", "/proc/*"];
    // dpkg's own log does not go.
    assert_eq!(machine.ok(&find), "", "nothing is left behind");
    for database in ["passwd", "group"] {
        let names = machine.ok(&["getent", database]);
        assert!(!names.contains("mediaconnect"), "{database}: {names}");
    }
}

#[test]
fn a_flow_is_made_edited_broken_and_mended_while_media_passes() {
    let machine = install(BOOKWORM);
    let first = sink(OUTPUT);
    machine.write_flow("news", &flow(&[OUTPUT]));
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    let feed = Feed::new(Wire::Udp, v4(INPUT), STREAM).start();
    first.wait_for_media();

    let second = sink(OUTPUT + 1);
    machine.write_flow("news", &flow(&[OUTPUT, OUTPUT + 1]));
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    second.wait_for_media();

    machine.write_flow("news", "[sources.main]\nprotocol = 'udp'\nbindd = ':1'\n");
    let reload = machine.run(&["systemctl", "reload", "mediaconnectd"]);
    assert!(!reload.status.success(), "a file is broken");
    // As what the operator is told to look at says it.
    let place = "/etc/mediaconnect/flows.d/news.toml:3:1: error: ";
    assert!(machine.journal().contains(place), "{}", machine.journal());
    wait_for("rsyslog's file says it, too", || machine.read("/var/log/syslog").contains(place).then_some(()));
    assert!(machine.flow("news")["stale-config"].as_bool().unwrap(), "it runs as it was");

    machine.write_flow("news", &flow(&[OUTPUT, OUTPUT + 1]));
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    assert!(!machine.flow("news")["stale-config"].as_bool().unwrap());
    machine.ok(&["systemctl", "restart", "mediaconnectd"]);
    first.assert_all(feed.stop());
}

#[test]
fn an_upgrade_restarts_once_at_its_end_loses_no_packet_or_connection_and_keeps_the_configuration() {
    let machine = install(BOOKWORM);
    machine.write("/etc/mediaconnect/mediaconnect.toml", "[limits]\nmax-flows = 7\n");
    machine.write_flow("news", &flow(&[OUTPUT]));
    SrtAndRist::write_flows(&machine, 3000);
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    let sink = sink(OUTPUT);
    let feed = Feed::new(Wire::Udp, v4(INPUT), STREAM).start();
    sink.wait_for_media();
    let peers = SrtAndRist::start(false, 3000);
    let before = machine.property("MainPID");
    let installed = version(&machine);

    machine.ok(&["dpkg", "--unpack", NEWER]);
    assert_eq!(machine.property("MainPID"), before, "nothing stops before the new one can start");
    let so_far = sink.received().datagrams;
    wait_for("media passes", || (sink.received().datagrams > so_far).then_some(()));
    machine.ok(&["dpkg", "--configure", "mediaconnect"]);
    assert_ne!(machine.property("MainPID"), before, "what runs is what is installed");
    assert_ne!(version(&machine), installed);
    assert_eq!(machine.property("NRestarts"), "0", "nothing failed on the way");
    assert_eq!(machine.flow("news")["state"], "active", "the command waits until flows run");
    assert_eq!(machine.read("/etc/mediaconnect/mediaconnect.toml"), "[limits]\nmax-flows = 7\n");
    for package in [PACKAGE, NEWER].iter().cycle().take(19) {
        machine.ok(&["dpkg", "--install", "--force-downgrade", package]);
    }
    sink.assert_all(feed.stop());
    peers.assert_gapless();

    machine.ok(&["dpkg", "--install", NEWER]);
    machine.ok(&["systemctl", "disable", "--now", "mediaconnectd"]);
    machine.ok(&["dpkg", "--install", "--force-downgrade", PACKAGE]);
    assert_eq!(machine.property("ActiveState"), "inactive", "what was disabled stays so");
    assert_eq!(version(&machine), installed);
}

#[test]
fn debian_13_runs_it_as_hardened() {
    let machine = install(TRIXIE);
    let check = machine.run(&["mediaconnectctl", "check"]);
    assert!(check.status.success(), "{}", text(&check));
    machine.write_flow("news", &flow(&[OUTPUT]));
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    let sink = sink(OUTPUT);
    sink.assert_all(Feed::new(Wire::Udp, v4(INPUT), STREAM).send_for(Duration::from_millis(200)));
    machine.ok(&["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", UNIT]);
}

/// What is not as it should be, by `doctor`: check and command of each; its exit code says the same.
fn to_mend(machine: &Machine) -> Vec<(String, String)> {
    let output = machine.run(&["mediaconnectctl", "doctor", "--json"]);
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    assert_eq!(output.status.code(), Some(i32::from(document["ok"] == false)), "{document:#}");
    let checks = document["checks"].as_array().unwrap().iter();
    let wrong = checks.filter(|check| ["warning", "problem"].iter().any(|verdict| check["verdict"] == *verdict));
    let text = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    wrong.map(|check| (text(check, "check"), text(check, "fix"))).collect()
}

/// As sysctl(8) of this machine's network.
fn set(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn what_doctor_finds_is_mended_by_its_commands() {
    let machine = install(BOOKWORM);
    for command in [
        "link add media type veth peer far",
        "address add 10.77.0.1/24 dev media",
        "link set media up",
        "link set far up",
    ] {
        run(["ip"].into_iter().chain(command.split(' ')));
    }
    let flow = "[sources.main]\nprotocol = 'udp'\nbind = '239.77.1.1:5000'\ninterface = 'media'\n\
                multicast-sources = ['10.77.0.2', '10.77.0.3']\n";
    machine.write_flow("news", flow);
    machine.wait_for_state("news", "active");
    // The rest is the host's: its clock, and how large buffers may be.
    let of_network = || {
        let mut found = to_mend(&machine);
        found.retain(|(check, _)| !["clock", "receive-buffer"].contains(&check.as_str()));
        found
    };
    set("net.ipv4.conf.all.rp_filter", "0");
    set("net.ipv4.conf.media.rp_filter", "0");
    assert_eq!(of_network(), []);
    for (name, bad, check) in [
        ("net.ipv4.conf.media.rp_filter", "1", "reverse-path-filter"),
        ("net.ipv4.conf.media.force_igmp_version", "2", "igmp-version"),
        ("net.ipv4.igmp_max_memberships", "0", "igmp-memberships"),
        ("net.ipv4.igmp_max_msf", "1", "igmp-senders"),
        ("net.ipv4.ip_local_port_range", "4000 6000", "local-ports"),
    ] {
        set(name, bad);
        let found = of_network();
        let [(found, fix)] = found.as_slice() else { panic!("{name}: {found:?}") };
        assert_eq!(found, check);
        for setting in fix.strip_prefix("sysctl -w ").expect(fix).split(' ') {
            let (name, value) = setting.split_once('=').expect(fix);
            set(name, value);
        }
        assert_eq!(of_network(), [], "{fix}");
    }
    run(["ip", "link", "set", "media", "down"]);
    assert_eq!(of_network(), [("interface".to_owned(), "ip link set media up".to_owned())]);
    run(["ip", "link", "delete", "media"]);
    assert_eq!(of_network()[0].0, "interface");
}

#[test]
fn an_image_without_a_running_systemd_takes_it() {
    // As an image is made: the package is there before anything runs.
    let machine = boot(BOOKWORM, &[]);
    let chroot = ["unshare", "--mount", "sh", "-c", &format!("umount --lazy /run && dpkg --install {PACKAGE}")];
    machine.ok(&chroot);
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.ok(&["systemctl", "is-enabled", "mediaconnectd"]), "enabled\n", "it starts with the machine");
    assert_eq!(machine.property("ActiveState"), "inactive");
    machine.ok(&["systemd-tmpfiles", "--create"]);
    machine.start();
}
