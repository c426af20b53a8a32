use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::config::ports::LocalPorts;
use crate::config::testing::{as_nobody, write_key};

const FLOW: &str = "[sources.in]\nprotocol = \"udp\"\nbind = \"127.0.0.1:PORT\"\n\n[outputs.out]\nprotocol = \"udp\"\ndestination = \"198.51.100.7:PORT\"\n";

fn flow(port: u16) -> String {
    FLOW.replace("PORT", &port.to_string())
}

/// A host that hands out these ports by itself.
fn handing_out(range: &str) -> Host {
    Host { local_ports: LocalPorts::parse(range, ""), ..Host::default() }
}

/// A configuration directory, and what runs by it.
struct Site {
    dir: tempfile::TempDir,
    running: BTreeMap<FlowName, Arc<FlowPlan>>,
    daemon: Option<DaemonPlan>,
    busy: BTreeSet<PathBuf>,
    overlays: BTreeMap<PathBuf, PathBuf>,
    credentials: Option<PathBuf>,
    subscribers: BTreeMap<String, Arc<SubscriberPlan>>,
}

impl Site {
    fn new(flows: &[(&str, u16)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("flows.d")).unwrap();
        let site = Self {
            dir,
            running: BTreeMap::new(),
            daemon: None,
            busy: BTreeSet::new(),
            overlays: BTreeMap::new(),
            credentials: None,
            subscribers: BTreeMap::new(),
        };
        flows.iter().for_each(|(name, port)| site.write(name, &flow(*port)));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("flows.d").join(format!("{name}.toml"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Loaded {
        let context = Context {
            previous: &self.running,
            previous_daemon: self.daemon.as_ref(),
            previous_subscribers: &self.subscribers,
            busy: &self.busy,
            overlays: &self.overlays,
            credentials: self.credentials.as_deref(),
            by_daemon: true,
        };
        load_on(self.dir.path(), &context, &Host::default())
    }

    /// Load, and run what is valid.
    fn run(&mut self) {
        let loaded = self.load();
        for (name, file) in loaded.flows {
            if let FlowFile::Valid { plan, .. } = file {
                self.running.insert(name, plan);
            }
        }
        self.daemon = loaded.daemon.or(self.daemon.take());
        for (name, file) in loaded.subscribers {
            if let SubscriberFile::Valid { plan, .. } = file {
                self.subscribers.insert(name, plan);
            }
        }
    }
}

fn word<P>(file: &PlanFile<P>) -> &'static str {
    match file {
        PlanFile::Valid { .. } => "valid",
        PlanFile::Rejected => "rejected",
        PlanFile::Unreadable => "unreadable",
        PlanFile::Busy => "busy",
    }
}

/// `a valid, b rejected`
fn verdicts(loaded: &Loaded) -> String {
    loaded.flows.iter().map(|(name, file)| format!("{name} {}", word(file))).collect::<Vec<_>>().join(", ")
}

/// The same of subscribers.
fn of_subscribers(loaded: &Loaded) -> String {
    loaded.subscribers.iter().map(|(name, file)| format!("{name} {}", word(file))).collect::<Vec<_>>().join(", ")
}

fn only(loaded: &Loaded) -> &Diagnostic {
    let [one] = loaded.diagnostics.as_slice() else { panic!("not one diagnostic: {:?}", loaded.diagnostics) };
    one
}

#[test]
fn no_daemon_file_means_the_defaults_and_so_does_an_empty_one() {
    let site = Site::new(&[]);
    assert_eq!(site.load().daemon, Some(DaemonPlan::default()));
    fs::write(site.dir.path().join("mediaconnect.toml"), "").unwrap();
    assert_eq!(site.load().daemon, Some(DaemonPlan::default()));
    assert!(site.load().complete);
}

#[test]
fn a_missing_directory_of_flows_means_nothing_about_flows() {
    let mut site = Site::new(&[("a", 5000)]);
    site.run();
    fs::rename(site.dir.path().join("flows.d"), site.dir.path().join("elsewhere")).unwrap();
    let loaded = site.load();
    assert!(!loaded.complete);
    assert!(loaded.daemon.is_some());
    assert_eq!(only(&loaded).severity, Level::Warning);
    assert_eq!(only(&loaded).file, site.dir.path().join("flows.d"));
}

#[test]
fn a_missing_configuration_directory_says_nothing_about_the_daemon_either() {
    let loaded = load("/nonexistent/mediaconnect".as_ref(), &Context::default());
    assert_eq!((loaded.daemon.as_ref(), loaded.complete), (None, false));
    assert_eq!(only(&loaded).severity, Level::Error);
}

#[test]
fn pipes_directories_and_endless_files_are_refused_without_a_hang() {
    let site = Site::new(&[]);
    nix::unistd::mkfifo(&site.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(site.path("folder")).unwrap();
    symlink("/dev/zero", site.path("zero")).unwrap();
    fs::File::create(site.path("large")).unwrap().set_len(1 << 40).unwrap();
    symlink("nowhere", site.path("link")).unwrap();
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "folder rejected, large rejected, link unreadable, pipe rejected, zero rejected");
    let said: Vec<_> = loaded.diagnostics.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "is a directory, not a file",
            "is larger than 1 MiB, which no configuration needs",
            "cannot be read: no such file or directory",
            "is a named pipe, not a file",
            "is a device, not a file",
        ]
    );
}

#[test]
fn a_symbolic_link_is_followed() {
    let site = Site::new(&[]);
    fs::write(site.dir.path().join("real"), flow(5000)).unwrap();
    symlink("../real", site.path("a")).unwrap();
    assert_eq!(verdicts(&site.load()), "a valid");
}

#[test]
fn a_busy_file_is_not_read() {
    let mut site = Site::new(&[("a", 5000)]);
    site.busy.insert(site.path("a"));
    assert_eq!(verdicts(&site.load()), "a busy");
    site.busy = [PathBuf::from("mediaconnect.toml")].into();
    assert_eq!(site.load().daemon, None);
    assert!(site.load().diagnostics.is_empty());
}

#[test]
fn a_running_flow_whose_file_breaks_keeps_its_port() {
    let mut site = Site::new(&[("m", 5000)]);
    site.run();
    site.write("m", "broken");
    site.write("a", &flow(5000));
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected, m rejected");
    let said = &loaded.diagnostics[0];
    assert!(said.message.contains("port 5000 is already taken by source \"in\" of flow \"m\""), "{said:?}");
    assert!(said.message.ends_with("m.toml, as it runs now)"), "{said:?}");
}

#[test]
fn a_flow_that_runs_unchanged_wins_against_one_with_an_earlier_name() {
    let mut site = Site::new(&[("m", 5000)]);
    site.run();
    site.write("a", &flow(5000));
    assert_eq!(verdicts(&site.load()), "a rejected, m valid");
}

#[test]
fn running_flows_may_swap_their_ports() {
    let mut site = Site::new(&[("a", 5000), ("b", 6000)]);
    site.run();
    site.write("a", &flow(6000));
    site.write("b", &flow(5000));
    assert_eq!(verdicts(&site.load()), "a valid, b valid");
}

#[test]
fn what_a_refused_flow_falls_back_on_is_not_given_away() {
    let mut site = Site::new(&[("b", 5000), ("c", 7000)]);
    site.run();
    // b wants the port of c and is refused, so a cannot have the port that b was about to leave.
    site.write("b", &flow(7000));
    site.write("a", &flow(5000));
    assert_eq!(verdicts(&site.load()), "a rejected, b rejected, c valid");
}

#[test]
fn flows_that_run_go_before_new_ones_where_max_flows_is_reached() {
    let mut site = Site::new(&[("m", 5000), ("n", 5001)]);
    fs::write(site.dir.path().join("mediaconnect.toml"), "[limits]\nmax-flows = 2\n").unwrap();
    site.run();
    site.write("a", &flow(5002));
    assert_eq!(verdicts(&site.load()), "a rejected, m valid, n valid");
    site.write("n", "broken");
    assert_eq!(verdicts(&site.load()), "a rejected, m valid, n rejected");
    fs::remove_file(site.path("n")).unwrap();
    assert_eq!(verdicts(&site.load()), "a valid, m valid");
}

#[test]
fn flows_are_judged_by_the_last_good_daemon_file() {
    let mut site = Site::new(&[]);
    let daemon = site.dir.path().join("mediaconnect.toml");
    fs::write(&daemon, "[networks.media]\ninterface = \"eth1\"\n").unwrap();
    site.run();
    fs::write(&daemon, "[networks.media]\ninterfaec = \"eth1\"\n").unwrap();
    site.write("a", &flow(5000).replace("\n\n", "\nnetwork = \"media\"\n\n"));
    let loaded = site.load();
    assert_eq!(loaded.daemon, None);
    assert_eq!(verdicts(&loaded), "a valid");
}

#[test]
fn an_overlay_stands_for_a_file_and_loses_every_conflict() {
    let mut site = Site::new(&[("m", 5000)]);
    let candidate = site.dir.path().join("candidate");
    fs::write(&candidate, flow(5000)).unwrap();
    site.overlays.insert("flows.d/a.toml".into(), candidate.clone());
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected, m valid");
    assert_eq!(only(&loaded).file, candidate);
    site.overlays = [(site.path("m"), candidate)].into();
    assert_eq!(verdicts(&site.load()), "m valid");
}

#[test]
fn a_port_that_the_system_hands_out_is_a_warning() {
    let site = Site::new(&[("a", 40000)]);
    let loaded = load_on(site.dir.path(), &Context::default(), &handing_out("32768 60999"));
    assert_eq!(verdicts(&loaded), "a valid");
    assert_eq!((only(&loaded).severity, only(&loaded).line, only(&loaded).column), (Level::Warning, 3, 8));
}

#[test]
fn who_asks_for_what_ffmpeg_does_is_warned_once_where_it_is_not_installed() {
    let site = Site::new(&[("a", 5000)]);
    let monitored = |monitoring: &str, ffmpeg| {
        site.write("a", &format!("{}[monitoring]\n{monitoring}\n", flow(5000)));
        load_on(site.dir.path(), &Context::default(), &Host { ffmpeg, ..Host::default() })
    };
    for monitoring in [
        "thumbnails = {}",
        "content = { silence = \"10s\" }",
        "thumbnails = { every = \"1h\" }\ncontent = { black = \"10s\" }",
    ] {
        let loaded = monitored(monitoring, false);
        assert_eq!(verdicts(&loaded), "a valid");
        assert_eq!((only(&loaded).severity, only(&loaded).line, only(&loaded).column), (Level::Warning, 9, 1));
        assert_eq!(monitored(monitoring, true).diagnostics, []);
    }
    // Whether pictures and sound are there is seen without it.
    assert_eq!(monitored("transport-stream = true\ncontent = {}", false).diagnostics, []);
}

#[test]
fn what_is_said_does_not_depend_on_the_order_of_the_directory() {
    let names: Vec<_> = (0..20).map(|n| format!("f{n}")).collect();
    let said = |order: &mut dyn Iterator<Item = &String>| {
        let site = Site::new(&[]);
        order.for_each(|name| site.write(name, &flow(5000)));
        let root = format!("{}/", site.dir.path().display());
        site.load().diagnostics.iter().map(|d| d.line().replace(&root, "")).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut names.iter()), said(&mut names.iter().rev()));
}

#[test]
fn writing_out_the_defaults_changes_nothing() {
    let name: FlowName = "a".parse().unwrap();
    let daemon = DaemonPlan::default();
    let plan = |protocol: &str, source: &str, output: &str, root: &str| {
        let text = format!(
            "{root}\n[sources.in]\nprotocol = \"{protocol}\"\nbind = \"239.1.1.1:5000\"\n{source}\n[outputs.out]\nprotocol = \"{protocol}\"\ndestination = \"198.51.100.7:5000\"\n{output}\n"
        );
        let (plan, faults) = parse_flow(&name, "a.toml".as_ref(), text.as_bytes(), &daemon, &Secrets::none());
        plan.unwrap_or_else(|| panic!("{faults:?}\n{text}"))
    };
    use crate::config::keys::{FAILOVER, FEC, FLOW, Key, OUTPUT, SOURCE, SWITCH_ON};
    let all = |keys: &[Key], of: &str| {
        let written = keys.iter().filter(|k| !k.default.is_empty() && (k.on.is_empty() || k.on.contains(&of)));
        written.map(|k| format!("{} = {}\n", k.name, k.default)).collect::<String>()
    };
    // With what has no default, and what defaults need.
    let keys = tempfile::tempdir().unwrap();
    write_key(keys.path(), "k", "correct horse battery");
    let srt = |mode: &str, source: &str, output: &str| {
        let (place, to) = match mode {
            "srt-listener" => ("bind = \"127.0.0.1:5000\"", "bind = \"127.0.0.1:7000\""),
            "srt-caller" => ("remote = \"a:5000\"", "destination = \"b:5000\""),
            _ => ("bind = \":5000\"\nremote = \"a:5000\"", "bind = \":7000\"\nremote = \"b:5000\""),
        };
        let part = |kind: &str, place: &str, more: &str| {
            format!("[{kind}.x]\nprotocol = \"{mode}\"\npassphrase-file = \"k\"\n{place}\n{more}\n")
        };
        let text = part("sources", place, source) + &part("outputs", to, output);
        let secrets = Secrets::new(keys.path(), &Context::default());
        let (plan, faults) = parse_flow(&name, "a.toml".as_ref(), text.as_bytes(), &daemon, &secrets);
        plan.unwrap_or_else(|| panic!("{faults:?}\n{text}"))
    };
    for mode in ["srt-listener", "srt-caller", "srt-rendezvous"] {
        assert_eq!(srt(mode, &all(SOURCE, mode), &all(OUTPUT, mode)), srt(mode, "", ""));
    }
    for protocol in ["udp", "rtp", "rtp-fec"] {
        let fec = if protocol == "rtp-fec" { format!("[outputs.out.fec]\n{}", all(FEC, "")) } else { String::new() };
        let output = all(OUTPUT, protocol) + &fec;
        let written = plan(protocol, &all(SOURCE, protocol), &output, &all(FLOW, ""));
        assert_eq!(written, plan(protocol, "", "", ""));
    }
    for mode in ["merge", "failover"] {
        let bare = format!("[failover]\nmode = {mode:?}\n");
        let switch_on =
            if mode == "merge" { String::new() } else { format!("[failover.switch-on]\n{}", all(SWITCH_ON, "")) };
        let written = format!("{bare}{}{switch_on}", all(FAILOVER, mode));
        assert_eq!(plan("rtp", "", "", &written), plan("rtp", "", "", &bare));
    }
}

/// A flow whose source is of this protocol.
fn flow_of(protocol: &str, port: u16) -> String {
    flow(port).replacen("udp", protocol, 1)
}

#[test]
fn a_running_source_that_turns_to_fec_does_not_get_ports_that_others_have() {
    let mut site = Site::new(&[("a", 5000), ("b", 5004)]);
    site.run();
    site.write("a", &flow_of("rtp-fec", 5000));
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected, b valid");
    assert!(
        only(&loaded).message.starts_with("port 5004 (for row FEC) is already taken by source \"in\" of flow \"b\"")
    );
    fs::remove_file(site.path("b")).unwrap();
    assert_eq!(verdicts(&site.load()), "a valid");
}

#[test]
fn the_fec_ports_of_a_running_source_are_its_own() {
    let mut site = Site::new(&[]);
    site.write("m", &flow_of("rtp-fec", 5000));
    site.run();
    site.write("a", &flow(5002));
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected, m valid");
    assert!(only(&loaded).message.contains("by column FEC of source \"in\" of flow \"m\""));
    // Where they were given up, another may have them.
    site.write("m", &flow_of("rtp", 5000));
    assert_eq!(verdicts(&site.load()), "a valid, m valid");
}

#[test]
fn a_leg_of_a_running_output_does_not_get_a_source_of_ours() {
    let mut site = Site::new(&[]);
    let legs = "[sources.in]\nprotocol = \"rtp\"\nbind = \"127.0.0.1:5000\"\n\n[outputs.out]\nprotocol = \"rtp\"\nlegs = [{ destination = \"198.51.100.7:1\" }, { destination = \"239.1.1.1:7000\" }]\n";
    site.write("m", legs);
    site.run();
    site.write("a", &flow(7000).replace("127.0.0.1", "239.1.1.1"));
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected, m valid");
    assert!(only(&loaded).message.starts_with("loop: output \"out\" of flow \"m\""));
    assert_eq!(loaded.flows.len(), 2);
}

#[test]
fn fec_ports_that_the_system_hands_out_are_a_warning() {
    let site = Site::new(&[]);
    site.write("a", &flow_of("rtp-fec", 5000));
    let loaded = load_on(site.dir.path(), &Context::default(), &handing_out("5004 60999"));
    assert_eq!(verdicts(&loaded), "a valid");
    assert!(only(&loaded).message.starts_with("port 5004 is one of those the system hands out"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
        judge_both(&text);
    }

    #[test]
    fn text_that_looks_like_a_flow_never_panics(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "[", "]", "=", "\"", "\n", "\r\n", "{", "}", ",", ".", "#", "'''", "\u{feff}", "ü", "\\", " ", "[sources.a]\n",
                "[outputs.b]\n", "[[sources]]\n", "sources", "protocol = \"rtp\"\n", "protocol = \"udp\"\n", "bind = ",
                "\":5000\"\n", "\"239.1.1.1:5000\"", "\"[::1]:1\"", "destination = ", "allow = [", "\"0.0.0.0/0\"", "gather = ",
                "\"1ms\"", "max-bitrate = ", "1.5", "-1", "0x7fffffffffffffffffff", "true", "1979-05-27", "tags = {", "network = ",
                "[networks.a]\n", "[log]\nlevel = \"", "[http]\nlisten = [", "[limits]\n", "max-flows = ", "header = \"passthrough\"\n",
                "protocol = \"srt-listener\"\n", "protocol = \"srt-caller\"\n", "protocol = \"srt-rendezvous\"\n", "remote = \"a:1\"\n",
                "stream-id = \"a*\"\n", "passphrase-file = \"k\"\n", "passphrase-files = [", "key-length = 16\n", "latency = \"1s\"\n",
                "protocol = \"rtp-fec\"\n", "[failover]\n", "mode = \"merge\"\n", "mode = \"failover\"\n", "switch-on = {", "silence = \"0s\"",
                "primary = \"a\"\n", "fec = {", "columns = ", "fec-ports = [", "[[outputs.b.legs]]\n", "legs = [{ destination = \"a:1\" }", "65535",
            ]),
            0..60,
        )
    ) {
        judge_both(parts.concat().as_bytes());
    }

    #[test]
    fn a_broken_flow_is_still_judged_or_refused(at in 0usize..200, with in any::<u8>()) {
        let mut text = flow(5000).into_bytes();
        let at = at % text.len();
        text[at] = with;
        judge_both(&text);
    }
}

/// As a flow and as `mediaconnect.toml`: a plan comes out exactly if no error does, and every place is in the text.
fn judge_both(text: &[u8]) {
    let name: FlowName = "fuzz".parse().unwrap();
    let (plan, faults) = parse_flow(&name, "fuzz.toml".as_ref(), text, &DaemonPlan::default(), &Secrets::none());
    assert_eq!(plan.is_none(), faults.iter().any(|d| d.severity == Level::Error));
    let more = daemon::compile("mediaconnect.toml".as_ref(), text, &Secrets::none()).diagnostics;
    let shown = String::from_utf8_lossy(text);
    for fault in faults.iter().chain(&more) {
        assert!(fault.line >= 1 && fault.line <= shown.matches('\n').count() + 1, "{fault:?}");
        assert!(!fault.line().contains(char::is_control));
        fault.snippet(&shown);
    }
}

#[test]
fn a_newcomer_does_not_hold_up_an_edit_of_the_flow_whose_port_it_wants() {
    let mut site = Site::new(&[("a", 5000), ("b", 5001)]);
    site.run();
    site.write("a", &flow(5001));
    site.write("b", &format!("description = 'edited'\n{}", flow(5001)));
    assert_eq!(verdicts(&site.load()), "a rejected, b valid");
}

#[test]
fn a_file_that_went_away_a_moment_ago_is_busy() {
    let mut site = Site::new(&[("a", 5000), ("b", 5001)]);
    fs::remove_file(site.path("a")).unwrap();
    site.busy.insert(site.path("a"));
    assert_eq!(verdicts(&site.load()), "a busy, b valid");
}

/// A flow whose source listens for SRT, with these lines more.
fn srt(port: u16, more: &str) -> String {
    format!("[sources.in]\nprotocol = \"srt-listener\"\nbind = \"127.0.0.1:{port}\"\n{more}\n\n[outputs]\n")
}

const KEYED: &str = "passphrase-file = \"venue-a\"";

impl Site {
    fn key(&self, name: &str, text: &str) {
        write_key(self.dir.path(), name, text);
    }

    fn key_path(&self, name: &str) -> PathBuf {
        self.dir.path().join("secrets").join(name)
    }

    /// What its source is encrypted with, as the files say.
    fn passphrase(&self, flow: &str) -> Option<Vec<u8>> {
        let loaded = self.load();
        let FlowFile::Valid { plan, .. } = &loaded.flows[&flow.parse().unwrap()] else { return None };
        Some(plan.sources["in"].srt()?.passphrases().first()?.secret().bytes().to_vec())
    }
}

#[test]
fn another_key_in_its_file_is_another_plan() {
    let mut site = Site::new(&[("other", 6000)]);
    site.key("venue-a", "correct horse battery");
    site.write("a", &srt(5000, KEYED));
    site.run();
    let is_news = |site: &Site| {
        let loaded = site.load();
        let changed = |name: &&FlowName| {
            let FlowFile::Valid { plan, .. } = &loaded.flows[name] else { panic!("{loaded:?}") };
            site.running.get(*name) != Some(plan)
        };
        loaded.flows.keys().filter(changed).map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(is_news(&site), [""; 0]);
    site.key("venue-a", "correct horse battery\n");
    assert_eq!(is_news(&site), [""; 0], "only a line break came");
    site.key("venue-a", "another passphrase");
    assert_eq!(is_news(&site), ["a"]);
    assert_eq!(site.passphrase("a").unwrap(), b"another passphrase");
}

#[test]
fn a_flow_whose_key_is_gone_or_refused_is_rejected_where_the_key_is_named() {
    let mut site = Site::new(&[]);
    site.key("venue-a", "correct horse battery");
    site.write("a", &srt(5000, KEYED));
    site.run();
    site.key("venue-a", "short");
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected");
    assert_eq!((only(&loaded).line, only(&loaded).column, only(&loaded).severity), (4, 19, Level::Error));
    assert_eq!(only(&loaded).file, site.path("a"));
    fs::remove_file(site.key_path("venue-a")).unwrap();
    assert_eq!(verdicts(&site.load()), "a rejected");
    // What runs goes on, and with it the claim on its port.
    site.write("b", &srt(5000, ""));
    assert_eq!(verdicts(&site.load()), "a rejected, b rejected");
    site.key("venue-a", "correct horse battery");
    assert_eq!(verdicts(&site.load()), "a valid, b rejected");
}

#[test]
fn a_flow_waits_for_a_key_that_is_being_written() {
    let mut site = Site::new(&[("b", 6000)]);
    site.key("venue-a", "half");
    site.write("a", &srt(5000, KEYED));
    site.busy.insert(site.key_path("venue-a"));
    let loaded = site.load();
    assert_eq!((verdicts(&loaded), loaded.diagnostics), ("a busy, b valid".into(), vec![]));
    // What is wrong besides is no matter of waiting.
    site.write("a", &srt(5000, &format!("{KEYED}\nlatency = \"1ms\"")));
    assert_eq!(verdicts(&site.load()), "a rejected, b valid");
}

#[test]
fn whoever_may_not_read_keys_can_check_the_rest() {
    let site = Site::new(&[]);
    site.key("venue-a", "short");
    fs::set_permissions(site.key_path("venue-a"), fs::Permissions::from_mode(0o200)).unwrap();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    site.write("a", &srt(5000, KEYED));
    let by = |by_daemon| as_nobody(|| load(site.dir.path(), &Context { by_daemon, ..Context::default() }));
    assert_eq!(verdicts(&by(true)), "a rejected");
    let loaded = by(false);
    assert_eq!(verdicts(&loaded), "a valid");
    assert_eq!(only(&loaded).severity, Level::Warning);
    assert!(only(&loaded).message.ends_with("cannot be read: permission denied; it is not checked"));
    fs::remove_file(site.key_path("venue-a")).unwrap();
    assert_eq!(verdicts(&by(false)), "a rejected", "one that is not there is not there for the daemon either");
}

#[test]
fn a_plan_says_which_keys_change_only_at_a_restart() {
    let mut site = Site::new(&[]);
    let credentials = site.dir.path().join("credentials");
    write_key(&credentials, "venue-a", "a credential");
    site.credentials = Some(credentials.join("secrets"));
    site.key("venue-b", "correct horse battery");
    let keys = "passphrase-files = [\"venue-a\", \"venue-b\"]";
    site.write("a", &srt(5000, keys));
    site.write("b", &srt(5001, "passphrase-file = \"venue-b\""));
    let loaded = site.load();
    assert_eq!((verdicts(&loaded), loaded.diagnostics), ("a valid, b valid".into(), vec![]));
    let [note] = loaded.notes.as_slice() else { panic!("{:?}", loaded.notes) };
    let file = site.path("a");
    assert_eq!(
        note.line(),
        format!(
            "{}:4:21: warning: `passphrase-files`: \"venue-a\" comes from $CREDENTIALS_DIRECTORY, which systemd fills when it \
             starts the service; a change of this key counts from the next restart of the daemon",
            file.display()
        )
    );
}

#[test]
fn a_running_listener_keeps_its_stream_ids() {
    let mut site = Site::new(&[]);
    site.write("m", &srt(5000, "stream-id = \"live/*\""));
    site.run();
    site.write("a", &srt(5000, "stream-id = \"live/a\""));
    site.write("b", &srt(5000, "stream-id = \"vod/b\""));
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a rejected, b valid, m valid");
    assert!(only(&loaded).message.starts_with("port 5000 is shared with source \"in\" of flow \"m\""));
    // Given up for others, they are free; a file that broke gives up nothing.
    site.write("m", &srt(5000, "stream-id = \"live/m\""));
    assert_eq!(verdicts(&site.load()), "a valid, b valid, m valid");
    site.write("m", "broken");
    assert_eq!(verdicts(&site.load()), "a rejected, b valid, m rejected");
}

#[test]
fn a_chain_of_running_flows_is_not_closed_to_a_circle() {
    let chained = |from: u16, to: u16| {
        let out = format!("[outputs.out]\nprotocol = \"srt-caller\"\ndestination = \"127.0.0.1:{to}\"\n");
        srt(from, "").replace("[outputs]\n", &out)
    };
    let mut site = Site::new(&[]);
    site.write("a", &chained(5000, 5001));
    site.write("b", &chained(5001, 5002));
    site.run();
    assert_eq!(verdicts(&site.load()), "a valid, b valid");
    site.write("c", &chained(5002, 5000));
    let loaded = site.load();
    assert_eq!(verdicts(&loaded), "a valid, b valid, c rejected");
    assert!(only(&loaded).message.starts_with("loop: "));
    site.write("c", &chained(5002, 5003));
    assert_eq!(verdicts(&site.load()), "a valid, b valid, c valid");
    // A change of what runs may close it as well, and then the change is refused.
    site.run();
    site.write("b", &chained(5001, 5000));
    assert_eq!(verdicts(&site.load()), "a valid, b rejected, c valid");
}

#[test]
fn subscribers_are_taken_as_flows_are() {
    let mut site = Site::new(&[("a", 5000)]);
    let folder = site.dir.path().join("subscribers.d");
    let loaded = site.load();
    assert_eq!((loaded.subscribers_complete, loaded.diagnostics.len()), (true, 0), "there need not be any");
    write_key(site.dir.path(), "key", "correct horse battery");
    fs::create_dir(&folder).unwrap();
    let good = "passphrase-file = 'key'\nallow = ['203.0.113.7']\n";
    for (file, text) in [("acme.toml", good), ("b.toml", "x = 1"), ("c.toml~", "x"), ("Bad.toml", good)] {
        fs::write(folder.join(file), text).unwrap();
    }
    fs::write(folder.join("d.toml"), good).unwrap();
    site.busy.insert(folder.join("d.toml"));
    site.run();
    let loaded = site.load();
    assert_eq!(of_subscribers(&loaded), "acme valid, b rejected, d busy");
    assert_eq!(verdicts(&loaded), "a valid", "no error in one file touches another");
    let bad = loaded.diagnostics.iter().find(|d| d.file.ends_with("Bad.toml")).unwrap();
    assert!(bad.message.contains("\"Bad\" is not a valid subscriber name"), "{}", bad.message);
    fs::rename(&folder, site.dir.path().join("elsewhere")).unwrap();
    let loaded = site.load();
    assert_eq!((loaded.subscribers_complete, of_subscribers(&loaded)), (false, "d busy".into()), "nobody is gone");
    assert!(
        loaded.diagnostics.iter().any(|d| d.file == folder && d.message.contains("subscribers stay what they are"))
    );
}
