use super::*;

fn get(path: &str) -> Result<Asked, Unroutable> {
    route(&Method::GET, path, None)
}

fn post(target: &str) -> Result<Asked, Unroutable> {
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    route(&Method::POST, path, query)
}

fn flow(name: &str) -> FlowName {
    name.parse().unwrap()
}

#[test]
fn readers_get_documents() {
    for (path, document) in [
        ("/healthz", Document::Health),
        ("/readyz", Document::Ready),
        ("/metrics", Document::Metrics),
        ("/v1/status", Document::Status),
        ("/v1/flows", Document::Flows),
        ("/v1/flows/news", Document::Flow("news".into())),
        ("/v1/flows/n%65ws", Document::Flow("news".into())),
        ("/v1/flows/news/history", Document::History("news".into(), HISTORY)),
        ("/v1/flows/news/thumbnail", Document::Thumbnail("news".into())),
        ("/v1/overview", Document::Overview),
        ("/v1/overview/live", Document::Live),
        ("/", Document::Page(page::file("").unwrap())),
        ("/dashboard/main.js", Document::Page(page::file("main.js").unwrap())),
    ] {
        assert_eq!(get(path), Ok(Asked::Read(document.clone())), "{path}");
        assert_eq!(route(&Method::HEAD, path, None), Ok(Asked::Read(document)), "{path}");
        assert_eq!(post(path), Err(Unroutable::Method(Allowed::Read)), "{path}");
    }
    assert_eq!(get("/v1/plan"), Ok(Asked::Plan));
}

#[test]
fn a_history_goes_as_far_back_as_it_is_asked_for() {
    let ask = |query: &str| route(&Method::GET, "/v1/flows/news/history", Some(query));
    for (query, seconds) in [("", 600), ("since=3h", 10_800), ("since=1m%2030s", 90)] {
        let document = Document::History("news".into(), Duration::from_secs(seconds));
        assert_eq!(ask(query), Ok(Asked::Read(document)), "{query}");
    }
    for query in ["since=", "since=0s", "since=yesterday", "since=%ff", "sinse=3h", "since"] {
        assert!(matches!(ask(query), Err(Unroutable::Query(_))), "{query}");
    }
}

#[test]
fn followers_say_where_to_begin_and_whether_to_go_on() {
    let asked = |follow, replay| Ok(Asked::Read(Document::Events(Following { follow, replay })));
    let events = |query| route(&Method::GET, "/v1/events", query);
    assert_eq!(events(None), asked(true, false));
    assert_eq!(events(Some("replay=true")), asked(true, true));
    assert_eq!(events(Some("follow=false&replay=false")), asked(false, false));
    assert_eq!(events(Some("replay=1")), Err(Unroutable::Query("replay is true or false".into())));
    assert_eq!(events(Some("from=2")), Err(Unroutable::Query("unknown parameter 'from'".into())));
}

#[test]
fn operators_post_commands() {
    let out = || "play out".to_owned();
    for (target, command) in [
        ("/v1/reload", Command::Reload),
        ("/v1/freeze", Command::Freeze(None, None)),
        ("/v1/thaw", Command::Thaw(None)),
        ("/v1/flows/news/start", Command::Start(flow("news"))),
        ("/v1/flows/news/start?clear=true", Command::ClearFlow(flow("news"))),
        ("/v1/flows/news/start?clear=false", Command::Start(flow("news"))),
        ("/v1/flows/news/stop", Command::Stop(flow("news"))),
        ("/v1/flows/news/stop?clear=true", Command::ClearFlow(flow("news"))),
        ("/v1/flows/news/restart", Command::Restart(flow("news"))),
        ("/v1/flows/news/switch/play%20out", Command::Switch(flow("news"), out())),
        ("/v1/flows/news/switch/stop", Command::Switch(flow("news"), "stop".into())),
        ("/v1/flows/news/switch?clear=true", Command::ClearSwitch(flow("news"))),
        ("/v1/flows/news/freeze", Command::Freeze(Some(flow("news")), None)),
        ("/v1/flows/news/thaw", Command::Thaw(Some(flow("news")))),
        ("/v1/flows/news/outputs/play%20out/enable", Command::Enable(flow("news"), out())),
        ("/v1/flows/news/outputs/play%20out/disable", Command::Disable(flow("news"), out())),
        ("/v1/flows/news/outputs/play%20out/disable?clear=true", Command::ClearOutput(flow("news"), out())),
        ("/v1/flows/news/outputs/play%20out/restart", Command::RestartOutput(flow("news"), out())),
        ("/v1/flows/news/sources/a/restart", Command::RestartSource(flow("news"), "a".into())),
        ("/v1/flows/news/panic", Command::Panic(flow("news"))),
    ] {
        assert_eq!(post(target), Ok(Asked::Act(command)), "{target}");
        let path = target.split('?').next().unwrap();
        assert_eq!(get(path), Err(Unroutable::Method(Allowed::Act)), "{target}");
    }
}

#[test]
fn a_freeze_may_end_by_itself() {
    let Ok(Asked::Act(Command::Freeze(None, Some(until)))) = post("/v1/freeze?until=2h%2030m") else {
        panic!("no freeze")
    };
    assert!(until > SystemTime::now());
    let instant = "/v1/flows/news/freeze?until=2199-01-01T00:00:00%2B01:00";
    assert!(matches!(post(instant), Ok(Asked::Act(Command::Freeze(Some(_), Some(_))))));
}

#[test]
fn parameters_that_mean_nothing_are_refused() {
    for target in [
        "/v1/freeze?untill=2h",
        "/v1/freeze?until=tonight",
        "/v1/freeze?until",
        "/v1/freeze?until=%ff",
        "/v1/freeze?clear=true",
        "/v1/thaw?until=2h",
        "/v1/flows/news/start?clear=maybe",
        "/v1/flows/news/start?until=2h",
        "/v1/flows/news/restart?clear=true",
        "/v1/flows/news/outputs/a/restart?clear=true",
        "/v1/reload?now",
    ] {
        assert!(matches!(post(target), Err(Unroutable::Query(_))), "{target}: {:?}", post(target));
    }
}

#[test]
fn other_paths_are_not_found() {
    for path in [
        "",
        "*",
        "//",
        "/v1",
        "/v1/",
        "/v1/flows/",
        "/healthz/",
        "/v1/flows/a/b",
        "/v1/flows/a/outputs/b",
        "/v1/flows/a/outputs/b/stop",
        "/v1/flows/a/sources/b/enable",
        "/v1/%2",
        "/v1/flows/%ff",
        "/v2/status",
        "/v1/flows/a/outputs/b/enable/c",
    ] {
        let asked = post(path);
        if path == "/v1/flows/" {
            assert_eq!(get(path), Ok(Asked::Read(Document::Flow(String::new()))));
        } else {
            assert!(matches!(asked, Err(Unroutable::NotFound(_))), "{path}: {asked:?}");
        }
    }
}

#[test]
fn a_command_for_what_cannot_be_a_flow_is_not_found() {
    assert_eq!(post("/v1/flows/News/stop"), Err(Unroutable::NotFound("there is no flow 'News'".into())));
}

proptest::proptest! {
    #[test]
    fn no_request_line_panics(path in "\\PC*", query in proptest::option::of("\\PC*")) {
        let _ = route(&Method::POST, &path, query.as_deref());
        let _ = route(&Method::GET, &format!("/v1/{path}"), query.as_deref());
    }

    #[test]
    fn what_is_encoded_decodes_to_itself(text in "\\PC*") {
        proptest::prop_assert_eq!(decode(&encode(&text)), Some(text));
    }
}
