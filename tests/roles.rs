//! Who may read and who may act: real users at the control socket, and whoever reaches `[http] listen`.

#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::daemon::{Daemon, Setup};
use support::ports::free_port;
use support::wait_for;

const TOKEN: &str = "Xylophon-7-Quitte-Zwieback";

fn flow(more: &str) -> String {
    let [input, out] = [(); 2].map(|()| free_port());
    format!(
        "{more}\n[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{out}'\n"
    )
}

/// The status that a program of curl's command line gets.
fn status(mut curl: Command, arguments: &[&str]) -> u16 {
    curl.args(["--silent", "--max-time", "20", "--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
    let out = curl.output().expect("curl and setpriv (packages curl, util-linux)");
    String::from_utf8(out.stdout).unwrap().parse().unwrap()
}

/// Everybody but root, by user, group and supplementary groups.
const PEOPLE: [(&str, &str, &str, &str); 5] = [
    ("an operator by the primary group", "4101", "games", ""),
    ("an operator by a supplementary group", "4102", "4102", "games,mail"),
    ("an operator of the flow news", "4103", "4103", "operator"),
    ("a reader", "4104", "4104", "news"),
    ("somebody else", "4105", "4105", "mail"),
];

/// Reading; acting on `news`, on `sport`, on a flow that is not there, and on all.
const REQUESTS: [(&str, &str); 5] = [
    ("GET", "/v1/flows"),
    ("POST", "/v1/flows/news/restart"),
    ("POST", "/v1/flows/sport/restart"),
    ("POST", "/v1/flows/nosuch/restart"),
    ("POST", "/v1/reload"),
];

#[test]
fn at_the_control_socket_everybody_may_do_what_their_groups_may_and_no_more() {
    assert!(nix::unistd::geteuid().is_root(), "run this as root: nobody else can be other users");
    for (readers, reads) in [("news", [200, 200, 403, 200, 403]), ("everyone", [200; 5])] {
        let daemon = Setup::new()
            .flow("news", &flow("operators = ['operator']"))
            .flow("sport", &flow(""))
            .settings(&format!("[control]\noperators = 'games'\nreaders = '{readers}'\n"))
            .start();
        fs::set_permissions(daemon.root(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket = daemon.root().join("run/control.sock");
        let socket = socket.to_str().unwrap();
        let ask = |mut command: Command, (method, path): (&str, &str)| {
            command.arg("--unix-socket").arg(socket);
            status(command, &["--request", method, &format!("http://localhost{path}")])
        };
        for (request, right) in REQUESTS.into_iter().zip([200, 200, 200, 404, 200]) {
            assert_eq!(ask(Command::new("curl"), request), right, "root: {request:?}");
        }
        let all = [200, 200, 404, 200];
        let acts = [all, all, [200, 403, 403, 403], [403; 4], [403; 4]];
        for (((who, user, group, groups), reads), acts) in PEOPLE.into_iter().zip(reads).zip(acts) {
            for (request, right) in REQUESTS.into_iter().zip([reads].into_iter().chain(acts)) {
                let mut setpriv = Command::new("setpriv");
                setpriv.args(["--reuid", user, "--regid", group]);
                let _ =
                    if groups.is_empty() { setpriv.arg("--clear-groups") } else { setpriv.args(["--groups", groups]) };
                setpriv.arg("curl");
                assert_eq!(ask(setpriv, request), right, "{who}, readers {readers}: {request:?}");
            }
        }
        daemon.wait_for_log("uid 4105 (uid 4105) is not one of those who may: ");
        let trail = daemon.root().join("log/audit.jsonl");
        wait_for("a record of it", || {
            let text = fs::read_to_string(&trail).ok()?;
            text.contains(r#""uid":4105"#).then_some(())
        });
    }
}

#[test]
fn the_operators_of_a_flow_change_in_place() {
    let daemon = Setup::new().flow("news", &flow("")).start();
    let before = daemon.flow("news");
    let text = fs::read_to_string(daemon.flow_path("news")).unwrap();
    daemon.write_flow("news", &format!("operators = ['operator', 'news']\n{text}"));
    daemon.wait_for_log("flow news changed in place (operators)");
    assert_eq!(daemon.flow("news")["sources"]["main"]["peers"], before["sources"]["main"]["peers"]);
}

#[test]
fn with_a_token_http_is_for_those_who_have_it() {
    let port = free_port();
    let settings = format!("[http]\nlisten = ['127.0.0.1:{port}']\ntoken-file = 'token'\n");
    let daemon = Setup::new().secret("token", TOKEN).flow("news", &flow("")).start();
    fs::write(daemon.root().join("etc/mediaconnect.toml"), &settings).unwrap();
    daemon.wait_for_log("[http] listens on");
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let ask = |path: &str, arguments: &[&str]| status(Command::new("curl"), &[arguments, &[&at(path)]].concat());
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let right = bearer(TOKEN);
    for path in ["/", "/dashboard/main.js", "/metrics", "/v1/status", "/v1/flows", "/v1/flows/news", "/v1/overview"] {
        assert_eq!(ask(path, &[]), 401, "{path}");
        assert_eq!(ask(path, &["--header", &bearer("Xylophon-7-Quitte-Zwiebacl")]), 401, "{path}");
        assert_eq!(ask(path, &["--user", "noc:wrong-but-long-enough"]), 401, "{path}");
        assert_eq!(ask(path, &["--header", &right]), 200, "{path}");
        assert_eq!(ask(path, &["--user", &format!("noc:{TOKEN}")]), 200, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path, &[]), 200, "{path}");
    }
    assert_eq!(ask("/v1/reload", &["--request", "POST", "--header", &right]), 403, "only on the control socket");
    assert_eq!(daemon.status()["http-requests-refused"], 21);
    daemon.wait_for_log("[http] refused 127.0.0.1");

    // Another token in the file counts at once, and the one before no more.
    daemon.write_secret("token", "Jojoba-9-Marille-Papaya");
    wait_for("the other token", || (ask("/metrics", &["--header", &right]) == 401).then_some(()));
    assert_eq!(ask("/metrics", &["--header", &bearer("Jojoba-9-Marille-Papaya")]), 200);
    let said = daemon.log() + &daemon.status().to_string() + &daemon.ctl_ok(&["status", "news"]);
    assert!(!said.contains("Xylophon") && !said.contains("Jojoba"), "{said}");
}

/// A certificate for localhost, and its key.
fn certificate(dir: &Path, name: &str) -> (String, String) {
    let [cert, key] = ["crt", "key"].map(|suffix| dir.join(format!("{name}.{suffix}")));
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '));
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out"]);
    let made = openssl.arg(&cert).arg("-keyout").arg(&key).output().expect("openssl (package openssl)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (fs::read_to_string(cert).unwrap(), fs::read_to_string(key).unwrap())
}

fn over_tls(daemon: &Daemon, port: u16, trusts: &Path) -> u16 {
    let url = format!("https://localhost:{port}/v1/status");
    let header = format!("Authorization: Bearer {TOKEN}");
    let code = status(Command::new("curl"), &["--cacert", trusts.to_str().unwrap(), "--header", &header, &url]);
    assert!(daemon.status()["config"]["generation"].as_u64().unwrap() > 0);
    code
}

#[test]
fn tls_is_spoken_with_the_certificate_that_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let [(cert, key), (other_cert, other_key)] = ["one", "other"].map(|name| certificate(dir.path(), name));
    let [one, other] = ["one.crt", "other.crt"].map(|name| dir.path().join(name));
    let port = free_port();
    let settings = format!(
        "[http]\nlisten = [':{port}']\ntoken-file = 'token'\n\
         tls = {{ certificate-file = 'http.crt', key-file = 'http.key' }}\n"
    );
    let daemon = Setup::new().secret("token", TOKEN).secret("http.crt", &cert).secret("http.key", &key).start();
    fs::write(daemon.root().join("etc/mediaconnect.toml"), &settings).unwrap();
    daemon.wait_for_log("[http] listens on");
    assert_eq!(over_tls(&daemon, port, &one), 200);
    assert_eq!(over_tls(&daemon, port, &other), 0, "curl does not trust it");
    let plain = format!("http://localhost:{port}/healthz");
    assert_eq!(status(Command::new("curl"), &[&plain]), 400);

    // Half of a pair is refused, and the pair before goes on.
    daemon.write_secret("http.crt", &other_cert);
    daemon.wait_for_log("the key does not go with the certificate");
    assert_eq!(over_tls(&daemon, port, &one), 200);
    daemon.write_secret("http.key", &other_key);
    wait_for("the other certificate", || (over_tls(&daemon, port, &other) == 200).then_some(()));
    assert_eq!(over_tls(&daemon, port, &one), 0);
    let said = daemon.log() + &daemon.status().to_string();
    assert!(!said.contains("PRIVATE") && !said.contains(key.lines().nth(1).unwrap()), "{said}");
}
