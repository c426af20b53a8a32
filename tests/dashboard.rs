//! The dashboard of the real daemon, in a real browser.

mod support;

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::browser::Page;
use support::daemon::{Daemon, Setup};
use support::media::{SEVEN, Stream};
use support::peers::command;
use support::ports::free_port;

/// A killed source is red within this time.
const RED: Duration = Duration::from_secs(2);
/// A task of the page's main thread takes no longer.
const TASK: Duration = Duration::from_millis(50);

/// Media to some ports, until it is stopped.
struct Pump {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    fn start(ports: Vec<u16>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let media = Stream::at(1_000_000).datagrams(64);
            for datagram in media.chunks(SEVEN).cycle() {
                if flag.load(Ordering::Relaxed) {
                    return;
                }
                for port in &ports {
                    // Refused while nobody listens.
                    let _ = socket.send_to(datagram, ("127.0.0.1", *port));
                }
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Where all outputs go. Nobody reads there, but nothing is refused.
fn sink() -> u16 {
    static SINK: LazyLock<UdpSocket> = LazyLock::new(|| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    SINK.local_addr().expect("it is bound").port()
}

fn flow(input: u16, more: &str) -> String {
    let sink = sink();
    format!(
        "{more}\n[sources.main]\nprotocol = 'udp'\nbind = '127.0.0.1:{input}'\n\
         [outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{sink}'\n"
    )
}

/// A daemon with these flows, and the address of its dashboard.
fn serve(flows: impl IntoIterator<Item = (String, String)>) -> (Daemon, String) {
    let port = free_port();
    let setup = flows.into_iter().fold(Setup::new(), |setup, (name, text)| setup.flow(&name, &text));
    (setup.http(port).start(), format!("http://127.0.0.1:{port}"))
}

fn tile(name: &str) -> String {
    format!("document.querySelector('[data-flow={name:?}]')")
}

#[track_caller]
fn assert_no_errors(page: &Page) {
    // The events are the work of another part, which may not be there.
    let strange: Vec<_> =
        page.errors.iter().filter(|error| !error["url"].as_str().unwrap_or("").contains("/v1/events")).collect();
    assert!(strange.is_empty(), "{strange:#?}");
}

#[test]
fn flows_appear_and_go_and_a_killed_source_turns_red_within_two_seconds() {
    let input = free_port();
    let (daemon, url) = serve([("news".to_owned(), flow(input, ""))]);
    let mut page = Page::new(1280, 720);
    page.open(&url);
    page.wait_for(&format!("!!{}", tile("news")));
    daemon.write_flow("late", &flow(free_port(), "description = 'Came late'"));
    page.wait_for("document.body.innerText.includes('Came late')");
    daemon.remove_flow("late");
    page.wait_for(&format!("!{}", tile("late")));

    // A machine that is busy may be late once, but not each time.
    let mut took = Vec::new();
    for _ in 0..3 {
        let pump = Pump::start(vec![input]);
        page.wait_for(&format!("{}.classList.contains('ok')", tile("news")));
        page.eval(&format!(
            "(() => {{ const item = {}.parentNode; window.red = null; new MutationObserver((_, me) => {{ \
             if (item.firstChild.classList.contains('critical')) {{ window.red = Date.now(); me.disconnect(); }} \
             }}).observe(item, {{ subtree: true, attributes: true }}); }})()",
            tile("news")
        ));
        drop(pump);
        let killed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
        page.wait_for("window.red !== null");
        let red = Duration::from_millis(page.eval("window.red").as_u64().expect("a time"));
        took.push(red.saturating_sub(killed));
        if took.last().is_some_and(|took| *took <= RED) {
            break;
        }
    }
    assert!(took.iter().any(|took| *took <= RED), "red after {took:?}");
    assert!(page.eval(&format!("{}.innerText", tile("news"))).as_str().is_some_and(|text| text.contains("LOST")));
    page.wait_for("document.title.startsWith('(1)')");
    assert_no_errors(&page);
}

#[test]
fn a_flow_with_html_in_its_description_and_tags_shows_as_text() {
    let html = "<img src=x onerror='window.hacked=1'><b>bold</b>&amp;";
    let text = flow(
        free_port(),
        &format!("description = \"\"\"{html}\"\"\"\n[tags]\n\"<i>k</i>\" = '<script>window.hacked=1</script>'"),
    );
    let (_daemon, url) = serve([("html".to_owned(), text)]);
    let mut page = Page::new(1280, 720);
    page.open(&url);
    page.wait_for(&format!("!!{}", tile("html")));
    assert_eq!(page.eval(&format!("{}.querySelector('.about').textContent", tile("html"))), html);
    page.open(&format!("{url}/#/flow/html"));
    page.wait_for("!!document.querySelector('.flow h1')");
    assert_eq!(page.eval("document.querySelector('.flow .about').textContent"), html);
    assert_eq!(page.eval("document.querySelector('.tags').textContent"), "<i>k</i> <script>window.hacked=1</script>");
    for element in ["b", "i", "img", "script"] {
        let all = format!("[...document.querySelectorAll('main {element}')]");
        let made =
            page.eval(&format!("{all}.filter((made) => made.src || ['k', 'bold'].includes(made.textContent)).length"));
        assert_eq!(made, 0, "{element}");
    }
    assert_eq!(page.eval("window.hacked === undefined"), true);
    assert_no_errors(&page);
}

#[test]
fn a_flows_page_shows_its_sources_its_outputs_and_what_was() {
    let inputs = [free_port(), free_port()];
    let legs = format!(
        "description = 'From two venues'\n[sources.a]\nprotocol = 'udp'\nbind = '127.0.0.1:{}'\n\
         [sources.b]\nprotocol = 'udp'\nbind = '127.0.0.1:{}'\n[failover]\nmode = 'failover'\nprimary = 'a'\n\
         [outputs.decoder]\nprotocol = 'udp'\ndestination = '127.0.0.1:{}'\n",
        inputs[0],
        inputs[1],
        sink()
    );
    let (_daemon, url) = serve([("arena".to_owned(), legs), ("idle".to_owned(), flow(free_port(), ""))]);
    let _pump = Pump::start(inputs.to_vec());
    let mut page = Page::new(1600, 1200);
    page.open(&url);
    page.wait_for(&format!("!!{}", tile("arena")));
    // By the keyboard alone.
    page.eval(&format!("{}.focus()", tile("arena")));
    page.key("Enter", 13, "\r");
    page.wait_for("document.querySelectorAll('.leg').length === 2");
    page.wait_for("[...document.querySelectorAll('.leg')].every((leg) => leg.classList.contains('ok'))");
    assert_eq!(page.eval("document.querySelectorAll('.leg .air').length"), 1);
    page.wait_for("document.querySelectorAll('.plots canvas').length >= 1");
    let drawn = "(() => { const c = document.querySelector('.plots canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some((v) => v > 0); })()";
    page.wait_for(drawn);
    for (scheme, width, height, name) in [("dark", 1600, 1200, "flow-dark"), ("light", 390, 844, "flow-phone")] {
        page.look(scheme, width, height);
        page.wait_for("document.querySelectorAll('.leg').length === 2");
        assert_eq!(page.eval("document.documentElement.scrollWidth <= innerWidth"), true, "{name} is too wide");
        page.picture(name);
    }
    page.key("Escape", 27, "");
    page.wait_for(&format!("!!{}", tile("idle")));
    page.picture("overview-phone");
    assert_no_errors(&page);
}

/// A helper that sees this picture in any stream.
fn seeing(daemon: &Daemon, picture: Vec<u8>) {
    let listener = UnixListener::bind(daemon.root().join("run-thumbnail.sock")).expect("the helper's socket");
    std::thread::spawn(move || {
        let (mut daemon, _) = listener.accept().expect("the daemon calls");
        let length = u32::try_from(picture.len()).expect("a small picture").to_be_bytes();
        daemon.write_all(&[&b"P"[..], &length, &picture].concat()).expect("the daemon listens");
        // It reads as long as the daemon writes.
        let _ = std::io::copy(&mut daemon, &mut std::io::sink());
    });
}

#[test]
fn a_flows_page_shows_the_newest_picture() {
    let input = free_port();
    let monitoring = "[monitoring]\nthumbnails = { every = '1s' }\n";
    let (daemon, url) = serve([("arena".to_owned(), flow(input, "") + monitoring)]);
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args("-loglevel error -f lavfi -i testsrc=size=480x270 -frames:v 1 -c:v mjpeg -f image2pipe -".split(' '));
    let picture = ffmpeg.stdin(Stdio::null()).output().expect("ffmpeg starts").stdout;
    seeing(&daemon, picture);
    let _pump = Pump::start(vec![input]);
    let mut page = Page::new(1280, 720);
    page.open(&format!("{url}/#/flow/arena"));
    page.wait_for("document.querySelector('img.thumb')?.naturalWidth === 480");
    page.picture("flow-thumbnail");
    assert_no_errors(&page);
}

#[test]
fn two_hundred_flows_keep_no_task_over_50_ms() {
    let ports: Vec<u16> = (0..20).map(|_| free_port()).collect();
    let flows = (0..200).map(|n| {
        let port = ports[n % 20] + u16::try_from(n / 20).expect("ten ports of a block");
        (port, (format!("flow-{n:03}"), flow(port, &format!("description = 'Contribution number {n}'"))))
    });
    let (inputs, flows): (Vec<_>, Vec<_>) = flows.unzip();
    let (_daemon, url) = serve(flows);
    let _pump = Pump::start(inputs[..150].to_vec());
    let mut page = Page::new(1920, 1080);
    let length = std::env::var("MEDIACONNECT_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let tasks = page.tasks(|page| {
        page.open(&url);
        page.wait_for("document.querySelectorAll('.tile').length === 200");
        page.wait_for("document.querySelectorAll('.tile.ok').length >= 150");
        std::thread::sleep(Duration::from_secs(length));
    });
    assert!(tasks.len() > 100, "so few tasks were traced that none can be judged: {}", tasks.len());
    page.picture("overview-200");
    assert!(tasks[0] < TASK, "the longest tasks took {:?}", &tasks[..5]);
    assert_no_errors(&page);
}
