use std::cell::Cell;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::Receiver;
use tokio::task::LocalSet;

use super::*;
use crate::config::diff::{Action, Change};
use crate::observe::status::FlowsDoc;
use crate::supervisor::control::{Outcome, Refusal, Request as Asking};

struct Shown {
    ready: bool,
    turns: Cell<u64>,
    /// How many overviews were made.
    made: Cell<u64>,
    flows: Vec<FlowDoc>,
    readers: Option<String>,
}

impl Shown {
    fn new() -> Self {
        let doc: FlowsDoc = serde_json::from_str(include_str!("../../../tests/ctl/flows.json")).unwrap();
        Self { ready: true, turns: Cell::default(), made: Cell::default(), flows: doc.flows, readers: None }
    }
}

impl View for Shown {
    fn ready(&self) -> bool {
        self.ready
    }
    fn status(&self) -> StatusDoc {
        serde_json::from_str(include_str!("../../../tests/ctl/status.json")).unwrap()
    }
    fn flows(&self, each: &mut dyn FnMut(&FlowDoc)) {
        self.flows.iter().for_each(each);
    }
    fn flow(&self, name: &str) -> Option<FlowDoc> {
        self.flows.iter().find(|f| f.name == name).cloned()
    }
    fn history(&self, name: &str, since: Duration) -> Option<HistoryDoc> {
        self.flow(name).map(|flow| HistoryDoc {
            flow: flow.name,
            step_seconds: 1,
            steps: usize::try_from(since.as_secs()).unwrap(),
            until: String::new(),
            sources: [].into(),
            outputs: [].into(),
        })
    }
    fn thumbnail(&self, name: &str) -> Option<Result<Bytes, String>> {
        let picture = || Bytes::from_static(b"a picture");
        self.flow(name).map(|flow| if flow.name == "news" { Ok(picture()) } else { Err("none yet".to_owned()) })
    }
    fn overview(&self, about: bool) -> OverviewDoc {
        self.made.set(self.made.get() + 1);
        let doc: OverviewDoc = serde_json::from_str(include_str!("../../../tests/ctl/overview.json")).unwrap();
        OverviewDoc { about: doc.about.filter(|_| about), generation: self.turns.get(), ..doc }
    }
    fn pulse(&self) -> Pulse {
        Pulse { turns: self.turns.get(), generation: self.turns.get() / 2 }
    }
    fn tag_labels(&self) -> Vec<TagLabel> {
        vec![TagLabel { tag: "Channel".to_owned(), label: "tag_Channel".to_owned() }]
    }
    fn control(&self) -> ControlPlan {
        ControlPlan { operators: "no-such-group-anywhere".into(), readers: self.readers.clone() }
    }
    fn operators(&self, _flow: &FlowName) -> Vec<String> {
        Vec::new()
    }
    fn token(&self) -> Option<KeyFile> {
        None
    }
    fn versions(&self) -> VersionsDoc {
        VersionsDoc::default()
    }
    fn versions_of(&self, _flow: &FlowName) -> Vec<VersionDoc> {
        Vec::new()
    }
    fn version(&self, _flow: &FlowName, _number: u64) -> Option<VersionTextDoc> {
        None
    }
    fn audit_refused(&self, _actor: Actor, _command: &Command) {}
    fn count_refused(&self) {}
}

/// A supervisor that notes what it is asked, and knows one flow.
async fn supervise(mut requests: Receiver<Asking>, log: Rc<RefCell<Vec<(Command, u32)>>>) {
    while let Some(request) = requests.recv().await {
        log.borrow_mut().push((request.command.clone(), request.actor.uid));
        let answer = match &request.command {
            Command::Stop(name) if name.as_str() != "news" => {
                Err(Refusal::NotFound(format!("there is no flow '{name}'")))
            }
            Command::Thaw(_) => Err(Refusal::Conflict("nothing is frozen".into())),
            Command::Restart(_) => Err(Refusal::Stopping),
            _ => {
                let change = Change { flow: "news".into(), action: Action::Stop, touches: vec![] };
                Ok(Outcome { changes: vec![change], diagnostics: vec![] })
            }
        };
        let _ = request.reply.send(answer);
    }
}

struct Bench {
    dir: TempDir,
    server: Rc<Server>,
    log: Rc<RefCell<Vec<(Command, u32)>>>,
}

impl Bench {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn ask(&self, request: &str) -> Reply {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        // A server that refuses the connection does not read the request.
        let _ = stream.write_all(request.as_bytes()).await;
        Reply::read(&mut stream).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str) -> Reply {
        self.ask(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")).await
    }

    async fn until_nobody_is_connected(&self) {
        while !self.server.parties.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

struct Reply {
    head: String,
    body: String,
}

impl Reply {
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        // A connection that ends by a reset has still said what it said.
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Self { head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// Runs `test` against a control socket whose peers look like `peer`; `None`: as they are.
fn with(view: Shown, peer: Option<Peer>, times: Option<Duration>, test: impl AsyncFnOnce(&Bench)) {
    with_view(Rc::new(view), peer, times, test);
}

fn with_view(view: Rc<Shown>, peer: Option<Peer>, times: Option<Duration>, test: impl AsyncFnOnce(&Bench)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let dir = tempfile::tempdir().unwrap();
        let (handle, requests) = Handle::new();
        let mut server = Server::new(view, Some(handle));
        if let Some(time) = times {
            (server.head_time, server.write_time) = (time, time);
        }
        let bench = Bench { dir, server: Rc::new(server), log: Rc::default() };
        let listener = UnixListener::bind(bench.socket()).unwrap();
        let serving = accept_all(bench.server.clone(), async || {
            let (stream, _) = listener.accept().await?;
            let real = Peer::of(&stream)?;
            Ok((stream, Origin::Unix(peer.clone().unwrap_or(real))))
        });
        tokio::select! {
            () = serving => unreachable!("the server ended"),
            () = supervise(requests, bench.log.clone()) => unreachable!("the supervisor ended"),
            () = test(&bench) => {}
        }
    });
}

fn stranger() -> Option<Peer> {
    Some(Peer { uid: 54321, gid: 54321, groups: vec![], pid: 1 })
}

#[test]
fn documents_are_served_as_json() {
    with(Shown::new(), None, None, async |b| {
        let status = b.get("/v1/status").await;
        assert_eq!(status.status(), 200);
        assert_eq!(status.json()["flows"]["total"], 3);
        assert!(status.head.contains("content-type: application/json"), "{}", status.head);
        assert!(status.head.contains("x-content-type-options: nosniff"));
        assert!(status.head.contains("cache-control: no-store"));
        assert_eq!(b.get("/v1/flows").await.json()["flows"][0]["name"], "news");
        assert_eq!(b.get("/v1/flows/sport").await.json()["name"], "sport");
        let missing = b.get("/v1/flows/nosuch").await;
        assert_eq!((missing.status(), missing.json()), (404, json!({ "error": "there is no flow 'nosuch'" })));
    });
}

#[test]
fn the_dashboard_may_run_its_own_script_and_nothing_else() {
    with(Shown::new(), None, None, async |b| {
        let page = b.get("/").await;
        assert_eq!(page.status(), 200);
        assert!(page.head.contains("content-type: text/html; charset=utf-8"), "{}", page.head);
        for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
            assert!(
                page.head.lines().any(|l| l.starts_with("content-security-policy: ") && l.contains(rule)),
                "{rule}"
            );
        }
        // All that it names is there, and it has no script, style or handler in it.
        let named: Vec<_> = page.body.split('"').filter(|text| text.starts_with("/dashboard/")).collect();
        assert_eq!(named.len(), 3, "{named:?}");
        for path in named {
            assert_eq!(b.get(path).await.status(), 200, "{path}");
        }
        for word in ["<style", " style=", " onclick=", "http://", "https://"] {
            assert!(!page.body.contains(word), "{word}");
        }
        let script = b.get("/dashboard/main.js").await;
        assert!(script.head.contains("content-type: text/javascript"), "{}", script.head);
        for import in script.body.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert_eq!(b.get(&format!("/dashboard/{import}")).await.status(), 200, "{import}");
        }
    });
}

#[test]
fn the_script_writes_no_html() {
    for name in ["main.js", "overview.js", "flow.js", "plot.js", "dom.js", "figures.js"] {
        let text = page::file(name).unwrap().text;
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!text.contains(word), "{name}: {word}");
        }
    }
}

#[test]
fn a_history_is_served_as_far_back_as_is_asked() {
    with(Shown::new(), None, None, async |b| {
        assert_eq!(b.get("/v1/flows/news/history?since=2m").await.json()["steps"], 120);
        assert_eq!(b.get("/v1/flows/nosuch/history").await.error(), "there is no flow 'nosuch'");
        let wrong = b.get("/v1/flows/news/history?since=soon").await;
        assert_eq!((wrong.status(), wrong.error().as_str()), (400, "since is a duration such as 10m"));
    });
}

/// Listens to the overview; what comes is added to the text.
async fn listen(b: &Bench) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(b.socket()).await.unwrap();
    stream.write_all(b"GET /v1/overview/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    (stream, String::new())
}

async fn hear(stream: &mut UnixStream, heard: &mut String, events: usize) {
    let mut buffer = [0; 4096];
    while heard.matches("event: overview\ndata: {").count() < events {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the stream ended: {heard}");
        heard.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
}

#[test]
fn a_thumbnail_is_served_as_a_picture_that_nobody_keeps_and_where_there_is_none_it_is_said_why() {
    with(Shown::new(), None, None, async |b| {
        let picture = b.get("/v1/flows/news/thumbnail?at=2026-11-22T18:00:00Z").await;
        assert_eq!((picture.status(), picture.body.as_str()), (200, "a picture"));
        for header in ["content-type: image/jpeg", "cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(picture.head.contains(header), "{}", picture.head);
        }
        let none = b.get("/v1/flows/sport/thumbnail").await;
        assert_eq!((none.status(), none.error().as_str()), (404, "none yet"));
        let no_flow = b.get("/v1/flows/nosuch/thumbnail").await;
        assert_eq!((no_flow.status(), no_flow.error().as_str()), (404, "there is no flow 'nosuch'"));
    });
}

#[test]
fn overviews_are_made_once_for_all_who_listen_and_not_when_nobody_does() {
    let view = Rc::new(Shown::new());
    with_view(view.clone(), None, None, async |b| {
        let (mut all, start) = (Vec::new(), crate::time::Instant::now());
        for _ in 0..5 {
            all.push(listen(b).await);
        }
        for (stream, heard) in &mut all {
            hear(stream, heard, 3).await;
            assert!(heard.to_ascii_lowercase().contains("content-type: text/event-stream"), "{heard}");
            // What changes rarely is in the first one only.
            assert_eq!(heard.matches("\"about\"").count(), 1, "{heard}");
        }
        // The first ones are each listener's own, those that follow are everybody's.
        assert!(view.made.get() <= 5 + start.elapsed().as_secs(), "{} in {:?}", view.made.get(), start.elapsed());
        drop(all);
        b.until_nobody_is_connected().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let made = view.made.get();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(view.made.get(), made);
        let (mut stream, mut heard) = listen(b).await;
        hear(&mut stream, &mut heard, 2).await;
    });
}

#[test]
fn a_change_of_conditions_does_not_wait_for_the_second_to_end() {
    let view = Rc::new(Shown::new());
    with_view(view.clone(), None, None, async |b| {
        let (mut stream, mut heard) = listen(b).await;
        hear(&mut stream, &mut heard, 2).await;
        // Six within six tenths of a second or so; without them it would take six.
        let start = crate::time::Instant::now();
        for n in 3..9 {
            view.turns.set(n);
            hear(&mut stream, &mut heard, usize::try_from(n).unwrap()).await;
        }
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        // The configuration changed meanwhile.
        assert!(heard.matches("\"about\"").count() > 1, "{heard}");
    });
}

#[test]
fn health_is_always_ok_and_readiness_waits_for_the_first_apply() {
    with(Shown { ready: false, ..Shown::new() }, None, None, async |b| {
        let health = b.get("/healthz").await;
        assert_eq!((health.status(), health.body.as_str()), (200, "ok\n"));
        assert_eq!(b.get("/readyz").await.status(), 503);
    });
    with(Shown::new(), None, None, async |b| assert_eq!(b.get("/readyz").await.status(), 200));
}

#[test]
fn metrics_have_the_content_type_of_their_format() {
    with(Shown::new(), None, None, async |b| {
        let plain = b.get("/metrics").await;
        assert!(plain.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", plain.head);
        let accept = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\
                      Connection: close\r\n\r\n";
        let open = b.ask(accept).await;
        assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    });
}

#[test]
fn head_has_the_length_and_no_body() {
    with(Shown::new(), None, None, async |b| {
        let head = b.ask("HEAD /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert_eq!((head.status(), head.body.as_str()), (200, ""));
        let length = b.get("/v1/status").await.body.len();
        assert!(head.head.contains(&format!("content-length: {length}")), "{}", head.head);
    });
}

#[test]
fn other_methods_and_paths_are_refused_in_words() {
    with(Shown::new(), None, None, async |b| {
        let wrong = b.post("/v1/status").await;
        assert_eq!(wrong.status(), 405);
        assert!(wrong.head.contains("allow: get, head"), "{}", wrong.head);
        let wrong = b.get("/v1/reload").await;
        assert_eq!(wrong.status(), 405);
        assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
        for path in ["/v1", "/v1/eventz", "/v1/overview/x", "/favicon.ico", "/dashboard/", "/dashboard/nosuch.js"] {
            assert_eq!(b.get(path).await.status(), 404, "{path}");
        }
        assert_eq!(b.post("/v1/freeze?untill=2h").await.error(), "unknown parameter 'untill'");
    });
}

#[test]
fn commands_reach_the_supervisor_with_their_actor() {
    with(Shown::new(), None, None, async |b| {
        let stop = b.post("/v1/flows/news/stop").await;
        assert_eq!((stop.status(), stop.json()["changes"][0]["action"].as_str()), (200, Some("stop")));
        let plan = b.get("/v1/plan").await;
        assert_eq!(plan.status(), 200);
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(*b.log.borrow(), [(Command::Stop("news".parse().unwrap()), own), (Command::Plan, own)]);
    });
}

#[test]
fn the_supervisors_refusals_have_their_status() {
    with(Shown::new(), None, None, async |b| {
        let missing = b.post("/v1/flows/nosuch/stop").await;
        assert_eq!((missing.status(), missing.error().as_str()), (404, "there is no flow 'nosuch'"));
        let conflict = b.post("/v1/thaw").await;
        assert_eq!((conflict.status(), conflict.error().as_str()), (409, "nothing is frozen"));
        let stopping = b.post("/v1/flows/news/restart").await;
        assert_eq!((stopping.status(), stopping.error().as_str()), (503, "the daemon is stopping"));
    });
}

#[test]
fn a_user_outside_the_operators_group_reads_but_does_not_act() {
    with(Shown::new(), stranger(), None, async |b| {
        assert_eq!(b.get("/v1/status").await.status(), 200);
        assert_eq!(b.get("/v1/plan").await.status(), 200);
        let denied = b.post("/v1/flows/news/stop").await;
        assert_eq!(denied.status(), 403);
        assert!(denied.error().contains("'no-such-group-anywhere'"), "{}", denied.error());
        assert!(denied.error().contains("this host has no such group"), "{}", denied.error());
        assert!(!b.log.borrow().iter().any(|(c, _)| matches!(c, Command::Stop(_))));
    });
}

#[test]
fn a_user_outside_the_readers_group_reads_nothing() {
    let view = Shown { readers: Some("no-such-readers".into()), ..Shown::new() };
    with(view, stranger(), None, async |b| {
        for path in [
            "/",
            "/v1/overview",
            "/v1/overview/live",
            "/v1/status",
            "/v1/flows",
            "/v1/flows/news",
            "/metrics",
            "/healthz",
            "/v1/plan",
        ] {
            let denied = b.get(path).await;
            assert_eq!(denied.status(), 403, "{path}");
            assert!(denied.error().contains("'no-such-readers'"), "{}", denied.error());
        }
        assert_eq!(b.post("/v1/reload").await.status(), 403);
        assert!(b.log.borrow().is_empty());
    });
}

#[test]
fn over_tcp_documents_are_read_and_nothing_acts() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ask = async |line: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            Reply::read(&mut stream).await
        };
        let test = async {
            assert_eq!(ask("GET /v1/status").await.status(), 200);
            assert_eq!(ask("GET /metrics").await.status(), 200);
            for line in ["POST /v1/reload", "POST /v1/flows/news/stop", "GET /v1/plan"] {
                let denied = ask(line).await;
                assert_eq!((denied.status(), denied.error().as_str()), (403, "only on the control socket"), "{line}");
            }
        };
        tokio::select! {
            () = serve_tcp(listener, Rc::new(Shown::new()), Tls::default()) => unreachable!("the server ended"),
            () = test => {}
        }
    });
}

#[test]
fn a_connection_serves_one_request_after_another() {
    with(Shown::new(), None, None, async |b| {
        let two =
            "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let reply = b.ask(two).await;
        assert!(reply.body.starts_with("ok\nHTTP/1.1 200 OK"), "{}", reply.body);
    });
}

#[test]
fn a_body_that_nobody_asked_for_does_no_harm() {
    with(Shown::new(), None, None, async |b| {
        let lie = "POST /v1/flows/news/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc";
        assert_eq!(b.ask(lie).await.status(), 200);
        b.until_nobody_is_connected().await;
    });
}

#[test]
fn malformed_requests_are_answered_or_cut_and_the_next_one_works() {
    with(Shown::new(), None, None, async |b| {
        for bad in [
            "nonsense\r\n\r\n".to_owned(),
            "GET / HTTP/9.9\r\n\r\n".to_owned(),
            "GET  / \r\n\r\n".to_owned(),
            "\0\0\0\0\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\nHost\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_SIZE)),
            format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5000)),
            format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(1 << 20)),
        ] {
            let mut stream = UnixStream::connect(b.socket()).await.unwrap();
            // The server may answer and close before all is written.
            let _ = stream.write_all(bad.as_bytes()).await;
            let reply = Reply::read(&mut stream).await;
            assert!(matches!(reply.status(), 0 | 400..=499), "{:?}: {}", &bad[..20.min(bad.len())], reply.head);
        }
        assert_eq!(b.get("/healthz").await.status(), 200);
    });
}

#[test]
fn who_dawdles_over_the_request_is_cut_off() {
    with(Shown::new(), None, Some(Duration::from_millis(50)), async |b| {
        for start in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: x\r\n", "GET /healthz HTTP/1.1\r\n\r\n"] {
            let mut stream = UnixStream::connect(b.socket()).await.unwrap();
            stream.write_all(start.as_bytes()).await.unwrap();
            // Ends only because the server closes it: nothing more is sent.
            Reply::read(&mut stream).await;
        }
        b.until_nobody_is_connected().await;
    });
}

#[test]
fn who_does_not_read_the_answer_is_cut_off() {
    let mut view = Shown::new();
    view.flows[0].description = "x".repeat(8 << 20);
    with(view, None, Some(Duration::from_millis(50)), async |b| {
        let mut stream = UnixStream::connect(b.socket()).await.unwrap();
        stream.write_all(b"GET /v1/flows HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        b.until_nobody_is_connected().await;
    });
}

#[test]
fn one_user_cannot_take_all_connections() {
    with(Shown::new(), None, None, async |b| {
        let mut held = Vec::new();
        for _ in 0..MOST_OF_ONE {
            let mut stream = UnixStream::connect(b.socket()).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream.readable().await.unwrap();
            held.push(stream);
        }
        let refused = b.get("/healthz").await;
        assert_eq!((refused.status(), refused.error().as_str()), (503, "too many connections of yours"));
        held.clear();
        b.until_nobody_is_connected().await;
        assert_eq!(b.get("/healthz").await.status(), 200);
    });
}

/// What `read` gives until it ends with `end`.
async fn until(stream: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(end) {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the stream ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

async fn follow(b: &Bench, query: &str) -> UnixStream {
    let mut stream = UnixStream::connect(b.socket()).await.unwrap();
    stream.write_all(format!("GET /v1/events{query} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[test]
fn events_begin_at_once_with_their_head() {
    with(Shown::new(), None, None, async |b| {
        let head = until(&mut follow(b, "").await, "retry: 2000\n\n\r\n").await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
    });
}

#[test]
fn one_user_cannot_take_all_places_to_follow_events_and_a_place_is_free_when_its_connection_ends() {
    with(Shown::new(), None, None, async |b| {
        let mut held = Vec::new();
        for _ in 0..MOST_FOLLOWERS_OF_ONE {
            let mut stream = follow(b, "").await;
            until(&mut stream, "retry: 2000\n\n\r\n").await;
            held.push(stream);
        }
        let refused = b.get("/v1/events").await;
        assert_eq!((refused.status(), refused.error().as_str()), (503, "too many follow the events"));
        assert_eq!(b.get("/v1/status").await.status(), 200);
        held.clear();
        b.until_nobody_is_connected().await;
        assert!(b.server.followers.borrow().is_empty());
    });
}
