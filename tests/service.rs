//! The service on a real systemd: unit, journal, syslog, reload, watchdog, users, sandbox. Needs root.

mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use support::feed::{Feeding, Inlet};
use support::machine::{HELPER_UNIT, Machine, UNIT, text};
use support::media::{Feed, SEVEN, Sink, Stream, Wire, v4};
use support::netns::{Namespace, run};
use support::srt::wheel;
use support::{sample, wait_for};

const STREAM: Stream = Stream::at(5_000_000);
/// Ports in a machine are all free.
const INPUT: u16 = 5000;
const OUTPUT: u16 = 6000;

/// A flow over loopback, from one port to another.
fn flow(input: u16, output: u16) -> String {
    format!(
        "[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{output}'\n"
    )
}

/// A machine in which the service runs with a flow `news`, and which relays media.
fn relaying() -> (Machine, Sink) {
    let machine = Machine::boot();
    machine.write_flow("news", &flow(INPUT, OUTPUT));
    machine.start();
    let sink = Sink::bind(Wire::Udp, v4(OUTPUT), STREAM);
    (machine, sink)
}

/// Where /proc has a data-plane thread of the process.
fn shard_of(process: Pid) -> PathBuf {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let name = |path: &Path| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    threads.map(|entry| entry.path()).find(|path| name(path).starts_with("shard-")).expect("a shard")
}

/// Every line of the journal's records that are of an event.
fn of_event(records: &[Value], event: &str) -> Vec<Value> {
    records.iter().filter(|record| record["MEDIACONNECT_EVENT"] == event).cloned().collect()
}

#[test]
fn the_units_have_no_mistakes_and_little_exposure() {
    let machine = Machine::boot();
    let units = ["mediaconnectd.service", "mediaconnect-thumbnail.socket", "mediaconnect-thumbnail@.service"];
    let verify = machine.run(&[&["systemd-analyze", "verify", "--man=no"], &units[..]].concat());
    assert!(verify.status.success() && text(&verify).is_empty(), "{}", text(&verify));
    for (unit, threshold) in [(UNIT, "15"), (HELPER_UNIT, "5")] {
        let threshold = format!("--threshold={threshold}");
        machine.ok(&["systemd-analyze", "security", "--offline=true", &threshold, "--no-pager", unit]);
    }
}

/// A value of a process's status, as proc(5) has it.
fn status_of(process: Pid, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_default().to_owned()
}

#[test]
fn pictures_are_looked_at_in_a_sandbox_that_outlasts_the_daemon() {
    // What Debian's needs would be half of the machine.
    let machine = Machine::boot_with(&[(&wheel::ffmpeg(), "/usr/bin/ffmpeg")]);
    machine.ok(&["systemctl", "start", "mediaconnect-thumbnail.socket"]);
    machine.write_flow("news", &(flow(INPUT, OUTPUT) + "[monitoring]\nthumbnails = { every = '1s' }\n"));
    machine.start();
    let stream = sample::stream().chunks(SEVEN).map(<[u8]>::to_vec).cycle();
    let _feeding = Feeding::alone(Inlet::udp(INPUT), u64::MAX, stream, sample::BITS_PER_SECOND);
    let time = || machine.flow("news")["thumbnail"]["time"].clone();
    let new_picture =
        |before: &Value| wait_for("a new picture", || Some(time()).filter(|time| time.is_string() && time != before));
    let helper_but = |before: Option<Pid>| {
        wait_for("a helper", || {
            let units = machine.ok(&["systemctl", "list-units", "--plain", "--no-legend", "mediaconnect-thumbnail@*"]);
            let unit = units.split_whitespace().next()?.to_owned();
            let main = machine.ok(&["systemctl", "show", "--value", "--property", "MainPID", &unit]);
            Some((unit, machine.process(main.trim()).filter(|helper| Some(*helper) != before)?))
        })
    };
    new_picture(&Value::Null);
    let (unit, helper) = helper_but(None);

    let slice = machine.ok(&["systemctl", "show", "--value", "--property", "Slice", &unit]);
    assert_eq!(slice.trim(), "system-mediaconnect.slice");
    let users = ["root", "mediaconnect"].map(|user| machine.ok(&["id", "-u", user]).trim().to_owned());
    let user = status_of(helper, "Uid").split('\t').next().unwrap_or_default().to_owned();
    assert!(!user.is_empty() && !users.contains(&user), "a user of its own: {user}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status_of(helper, set), "0000000000000000", "{set}");
    }
    assert_eq!((status_of(helper, "NoNewPrivs"), status_of(helper, "Seccomp")), ("1".into(), "2".into()));
    let network = |process: Pid| std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
    assert_ne!(network(helper), network(machine.main_process()), "it has no network");
    // Nobody but the daemon has a helper.
    let socket = machine.ok(&["stat", "--format", "%U %a", "/run/mediaconnect-thumbnail.sock"]);
    assert_eq!(socket.trim(), "mediaconnect 600");

    kill(helper, Signal::SIGKILL).unwrap();
    let (_, helper) = helper_but(Some(helper));
    new_picture(&time());
    machine.ok(&["systemctl", "restart", "mediaconnectd"]);
    helper_but(Some(helper));
    new_picture(&time());
    let failed = machine.ok(&["systemctl", "list-units", "--failed", "--plain", "--no-legend", "mediaconnect*"]);
    assert_eq!(failed, "", "nothing is left behind");
}

#[test]
fn it_is_active_when_flows_run_and_stops_cleanly() {
    let machine = Machine::boot();
    machine.write_flow("news", &flow(INPUT, OUTPUT));
    // What nothing refers to, systemd forgets when it has ended.
    machine.ok(&["systemctl", "enable", "mediaconnectd"]);
    machine.ok(&["systemctl", "start", "--no-block", "mediaconnectd"]);
    wait_for("the service is active", || {
        let active = machine.property("ActiveState") == "active";
        // Asked in this order: what is active was ready before.
        let ready = machine.ask("/readyz").is_some_and(|(code, _)| code == 200);
        assert!(ready || !active, "active before it is ready");
        active.then_some(())
    });
    assert_eq!(machine.flow("news")["state"], "active", "it is not ready before its flows are");

    let status = machine.ok(&["systemctl", "status", "--no-pager", "mediaconnectd"]);
    assert!(status.contains("Status: \"1 flows: 1 active, 0 in error, 0 stale\""), "{status}");
    machine.write_flow("more", &flow(INPUT + 1, OUTPUT + 1));
    wait_for("the status follows", || machine.property("StatusText").starts_with("2 flows: 2 active").then_some(()));

    machine.ok(&["systemctl", "stop", "mediaconnectd"]);
    let ended =
        ["ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus"].map(|name| machine.property(name));
    assert_eq!(ended, ["inactive", "dead", "success", "1", "0"], "exited (1) with 0\n{}", machine.journal());
    assert!(!machine.path("/run/mediaconnect").exists(), "nothing is left behind");
}

#[test]
fn a_thousand_flows_start_before_there_is_a_network() {
    const FLOWS: u16 = 1000;
    let machine = Machine::boot();
    for number in 0..FLOWS {
        // Half of them wait for an interface that is not there.
        let interface = if number % 2 == 0 { "" } else { "interface = 'late'\n" };
        let (group, port) = (format!("239.78.{}.{}", number / 250, number % 250 + 1), 10_000 + number);
        let bind = if number % 2 == 0 { "127.0.0.1".to_owned() } else { group };
        let text = format!("[sources.main]\nprotocol = 'udp'\nbind = '{bind}:{port}'\n{interface}");
        machine.write_flow(&format!("flow-{number}"), &text);
    }
    machine.start();
    let status = |active: u16, error: u16| format!("1000 flows: {active} active, {error} in error, 0 stale");
    assert_eq!(machine.property("StatusText"), status(FLOWS / 2, FLOWS / 2), "it is ready, whatever is missing");
    for command in
        ["link add late type veth peer far", "address add 10.78.0.1/24 dev late", "link set late up", "link set far up"]
    {
        run(["ip"].into_iter().chain(command.split(' ')));
    }
    wait_for("all are active", || (machine.property("StatusText") == status(FLOWS, 0)).then_some(()));
    assert_eq!(machine.property("NRestarts"), "0");
}

#[test]
fn the_journal_has_the_fields_of_each_line() {
    let (machine, _) = relaying();
    let started = wait_for("the flow's start is in the journal", || {
        of_event(&machine.records(), "flow-started").into_iter().find(|record| record["MEDIACONNECT_FLOW"] == "news")
    });
    assert_eq!(started["MESSAGE_ID"], "b7bf584aa5cc4dcb97c5de118775fb0c");
    assert_eq!(started["SYSLOG_IDENTIFIER"], "mediaconnectd");
    assert_eq!(started["_SYSTEMD_UNIT"], "mediaconnectd.service");
    assert_eq!(started["PRIORITY"], "6");
    let whole = machine.records();
    let strays: Vec<_> = whole.iter().filter(|record| record["_TRANSPORT"] == "stdout").collect();
    assert!(strays.is_empty(), "nothing is said beside the journal's own protocol: {strays:#?}");

    machine.write("/etc/mediaconnect/mediaconnect.toml", "[log]\nlevel = 'error'\n");
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    machine.write_flow("unsaid", &flow(INPUT + 1, OUTPUT + 1));
    machine.wait_for_state("unsaid", "active");
    machine.write("/etc/mediaconnect/mediaconnect.toml", "[log]\nlevel = 'info'\n");
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    machine.write_flow("said", &flow(INPUT + 2, OUTPUT + 2));
    let starts = wait_for("lines of the new level come", || {
        let starts = of_event(&machine.records(), "flow-started");
        starts.iter().any(|record| record["MEDIACONNECT_FLOW"] == "said").then_some(starts)
    });
    assert!(starts.iter().all(|record| record["MEDIACONNECT_FLOW"] != "unsaid"), "{starts:#?}");
}

#[test]
fn rsyslog_gets_the_local_form_and_the_one_for_servers() {
    let machine = Machine::boot();
    let server = "module(load=\"imudp\")\ninput(type=\"imudp\" port=\"514\" ruleset=\"remote\")\n\
                  template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
                  ruleset(name=\"remote\") { action(type=\"omfile\" file=\"/var/log/remote\" template=\"raw\") }\n";
    machine.write("/etc/rsyslog.d/remote.conf", server);
    machine.ok(&["systemctl", "restart", "rsyslog"]);
    machine.write("/etc/mediaconnect/mediaconnect.toml", "[log]\ntargets = ['syslog']\n");
    machine.write_flow("news", &flow(INPUT, OUTPUT));
    machine.start();
    let pid = machine.property("MainPID");
    let find = |path: &str, what: &str| {
        wait_for(&format!("{path} has {what}"), || {
            machine.read(path).lines().find(|line| line.contains(what)).map(str::to_owned)
        })
    };
    let local = find("/var/log/syslog", "news started");
    assert!(local.contains(&format!(" mediaconnectd[{pid}]: news started")), "{local}");

    let remote = "[log]\ntargets = ['syslog']\nsyslog = { server = 'udp://127.0.0.1:514', facility = 'local3' }\n";
    machine.write("/etc/mediaconnect/mediaconnect.toml", remote);
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    machine.write_flow("more", &flow(INPUT + 1, OUTPUT + 1));
    let line = find("/var/log/remote", "more started");
    // local3 is 19, info 6.
    assert!(line.starts_with("<158>1 20"), "{line}");
    assert!(line.contains(&format!(" mediaconnectd {pid} flow-started [")), "{line}");
    assert!(!machine.read("/var/log/syslog").contains("more started"), "it moved, and is not doubled");
}

#[test]
fn a_reload_fails_when_a_file_is_rejected_and_flows_go_on() {
    let (machine, sink) = relaying();
    let feed = Feed::new(Wire::Udp, v4(INPUT), STREAM).start();
    sink.wait_for_media();
    machine.write_flow("more", &flow(INPUT + 1, OUTPUT + 1));
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    assert_eq!(machine.flow("more")["state"], "active", "a reload that succeeded is done");

    machine.write_flow("broken", "[sources.main]\nprotocol = 'udp'\nbindd = ':1'\n");
    let reload = machine.run(&["systemctl", "reload", "mediaconnectd"]);
    assert!(!reload.status.success(), "a file is broken");
    assert_eq!(machine.property("ActiveState"), "active", "the service goes on");
    wait_for("the journal says why", || {
        machine.journal().contains("/etc/mediaconnect/flows.d/broken.toml:3:1: error: ").then_some(())
    });

    machine.ok(&["rm", "/etc/mediaconnect/flows.d/broken.toml"]);
    machine.ok(&["systemctl", "reload", "mediaconnectd"]);
    sink.assert_all(feed.stop());
}

/// Wait until systemd has started the service anew, after which its flows run as before.
fn assert_back(machine: &Machine, before: Pid) {
    wait_for("systemd starts it again", || {
        let back = machine.property("NRestarts") == "1" && machine.property("ActiveState") == "active";
        back.then_some(())
    });
    assert_ne!(machine.main_process(), before);
    assert_eq!(machine.flow("news")["state"], "active");
    let sink = Sink::bind(Wire::Udp, v4(OUTPUT), STREAM);
    sink.assert_all(Feed::new(Wire::Udp, v4(INPUT), STREAM).send_for(std::time::Duration::from_millis(200)));
}

#[test]
fn it_is_back_after_kill_9() {
    let (machine, sink) = relaying();
    drop(sink);
    let before = machine.main_process();
    kill(before, Signal::SIGKILL).unwrap();
    assert_back(&machine, before);
}

#[test]
fn the_watchdog_restarts_a_process_that_hangs() {
    let (machine, sink) = relaying();
    drop(sink);
    let before = machine.main_process();
    kill(before, Signal::SIGSTOP).unwrap();
    assert_back(&machine, before);
    let journal = machine.journal();
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}

#[test]
fn the_watchdog_restarts_a_process_of_which_one_data_plane_thread_hangs() {
    let (machine, sink) = relaying();
    drop(sink);
    let before = machine.main_process();
    let shard = shard_of(before);
    let shard = Pid::from_raw(shard.file_name().unwrap().to_str().unwrap().parse().unwrap());
    // A debugger's grip holds a single thread; all others run.
    ptrace::seize(shard, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(shard).unwrap();
    // A dead thread is its debugger's to collect, and its process does not end before.
    wait_for("the process is killed", || {
        let state = waitpid(shard, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).unwrap();
        matches!(state, WaitStatus::Signaled(..)).then_some(())
    });
    assert_back(&machine, before);
    let journal = machine.journal();
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    assert!(!of_event(&machine.records(), "shard-stuck").is_empty(), "it says itself which thread:\n{journal}");
}

#[test]
fn it_runs_as_its_own_user_without_capabilities() {
    let (machine, _) = relaying();
    let field = |name: &str| status_of(machine.main_process(), name);
    let uid = machine.ok(&["id", "-u", "mediaconnect"]);
    assert_eq!(field("Uid").split('\t').next(), Some(uid.trim()));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()), "confined");
}

#[test]
fn the_sandbox_lets_data_plane_threads_have_cpus_of_their_own() {
    let machine = Machine::boot();
    let mine = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..CpuSet::count()).rev().find(|cpu| mine.is_set(*cpu).unwrap()).unwrap();
    machine.write("/etc/mediaconnect/mediaconnect.toml", &format!("[limits]\nworker-cpus = '{cpu}'\n"));
    machine.write_flow("news", &flow(INPUT, OUTPUT));
    machine.start();
    let status = std::fs::read_to_string(shard_of(machine.main_process()).join("status")).unwrap();
    assert!(status.contains(&format!("Cpus_allowed_list:\t{cpu}\n")), "{status}");
    assert!(of_event(&machine.records(), "worker-unpinned").is_empty(), "{}", machine.journal());
}

#[test]
fn operators_act_and_others_only_read() {
    let (machine, _) = relaying();
    machine.ok(&["useradd", "--groups", "mediaconnect-operators", "olga"]);
    machine.ok(&["useradd", "rita"]);
    let as_user = |user: &str, command: &[&str]| {
        machine.run(&[&["runuser", "-u", user, "--", "mediaconnectctl"], command].concat())
    };
    let refused = as_user("rita", &["stop", "news"]);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("mediaconnect-operators"), "it says whom to ask: {}", text(&refused));
    assert_eq!(machine.flow("news")["state"], "active");
    let read = as_user("rita", &["status"]);
    assert!(read.status.success() && text(&read).contains("news"), "{}", text(&read));

    let stopped = as_user("olga", &["stop", "news"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    let standby = machine.wait_for_state("news", "standby");
    assert!(standby["conditions"].to_string().contains("olga"), "it shows who: {standby:#}");
    // The journal has it a little later than status.
    wait_for("the journal says who", || {
        let commands = of_event(&machine.records(), "operator-command");
        commands.iter().any(|record| record["MESSAGE"].to_string().contains("olga")).then_some(())
    });
}

#[test]
fn the_sandbox_allows_interfaces_that_come_later_multicast_and_large_buffers() {
    let machine = Machine::boot();
    let late = "[sources.main]\nprotocol = 'udp'\nbind = '239.77.1.1:5000'\ninterface = 'late'\n\
                [outputs.near]\nprotocol = 'udp'\ndestination = '127.0.0.1:6000'\n\
                [outputs.far]\nprotocol = 'udp'\ndestination = '239.77.2.2:6000'\ninterface = 'late'\n";
    machine.write_flow("late", late);
    machine.start();
    assert_eq!(machine.flow("late")["state"], "error", "its interface is not there");
    let cable = Namespace::joined(("late", &["10.77.0.1/24"]), ("far", &["10.77.0.2/24"]));
    run(["ip", "route", "add", "default", "dev", "late"]);
    machine.wait_for_state("late", "active");

    let near = Sink::bind(Wire::Udp, v4(OUTPUT), STREAM);
    let (sender, receiver) = cable.make(|| {
        let far = Ipv4Addr::new(10, 77, 0, 2);
        let sender = UdpSocket::bind((far, 0)).unwrap();
        socket2::SockRef::from(&sender).set_multicast_if_v4(&far).unwrap();
        let receiver = UdpSocket::bind((Ipv4Addr::new(239, 77, 2, 2), OUTPUT)).unwrap();
        receiver.join_multicast_v4(&Ipv4Addr::new(239, 77, 2, 2), &far).unwrap();
        (sender, receiver)
    });
    let far = Sink::on(vec![receiver], Wire::Udp, STREAM);
    let group = SocketAddr::from((Ipv4Addr::new(239, 77, 1, 1), INPUT));
    let sent = Feed::new(Wire::Udp, group, STREAM).from(sender).send_for(std::time::Duration::from_secs(1));
    near.assert_all(sent);
    far.assert_all(sent);

    // The machine's kernel is this one: what it grants at most is not the container's to say.
    let most: u64 = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
    let flow = machine.flow("late");
    assert_eq!(flow["sources"]["main"]["receive-buffer-bytes"], most.min(16 << 20), "{flow:#}");
    let told = support::daemon::condition(&flow, "receive-buffer-small").is_some();
    assert_eq!(told, most < 16 << 20, "{flow:#}");
}

#[test]
fn the_shipped_settings_of_the_kernel_exist_and_allow_the_buffers() {
    let settings = include_str!("../etc/sysctl.d/60-mediaconnect.conf");
    let lines = settings.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (name, value) = line.split_once(" = ").expect(line);
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        assert!(std::path::Path::new(&path).exists(), "{name}: no such setting");
        let least = if name.ends_with("mem_max") { 16 << 20 } else { 1 };
        assert!(value.parse::<u64>().is_ok_and(|value| value >= least), "{line}");
    }
}
