//! A headless Chromium, driven by the DevTools protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use super::PATIENCE;

/// A page in a browser of its own, which ends when dropped.
pub struct Page {
    child: Child,
    _profile: TempDir,
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// Exceptions, and what the browser logs as an error: broken rules of the page's policy among them.
    pub errors: Vec<Value>,
    traced: Vec<Value>,
    trace_ended: bool,
}

impl Page {
    /// An empty page of so many pixels.
    pub fn new(width: u32, height: u32) -> Self {
        let profile = TempDir::with_prefix("mediaconnect-test-browser-").expect("a temporary directory");
        let mut child = Command::new("chromium-headless-shell")
            .args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-port=0", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("Debian's chromium-headless-shell is installed: see tests/run");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let port = said
            .find_map(|line| Some(line.ok()?.split_once("ws://127.0.0.1:")?.1.split('/').next()?.to_owned()))
            .expect("the browser says where it listens");
        // What else it says is of no interest, but it must get rid of it.
        std::thread::spawn(move || said.for_each(drop));
        let socket = connect(&port);
        let (errors, traced) = (Vec::new(), Vec::new());
        let mut page = Self { child, _profile: profile, socket, calls: 0, errors, traced, trace_ended: false };
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page
    }

    /// Load a page.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// What a JavaScript expression gives; promises are waited for.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer:#}");
        answer["result"]["value"].clone()
    }

    /// Wait until an expression is true.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        let start = Instant::now();
        while self.eval(expression) != true {
            if start.elapsed() > PATIENCE {
                let text = self.eval("document.body.innerText");
                panic!("waited {PATIENCE:?} in vain: {expression}; the page says: {text}; errors: {:#?}", self.errors);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The colours, and the size of a phone or of a screen.
    pub fn look(&mut self, scheme: &str, width: u32, height: u32) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Press a key that has this code, and gives this text.
    pub fn key(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let press = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", &press);
        }
    }

    /// Do something, and give the tasks of the page's main thread meanwhile: what CPU time each took, longest first. The
    /// machine may be busy with other things: the time on the clock says nothing of the page.
    pub fn tasks(&mut self, meanwhile: impl FnOnce(&mut Self)) -> Vec<Duration> {
        let config = json!({ "includedCategories": ["toplevel", "__metadata"] });
        self.call("Tracing.start", &json!({ "transferMode": "ReportEvents", "traceConfig": config }));
        meanwhile(self);
        self.trace_ended = false;
        self.call("Tracing.end", &json!({}));
        while !self.trace_ended {
            self.take();
        }
        let events = std::mem::take(&mut self.traced);
        let main = |event: &&Value| event["name"] == "thread_name" && event["args"]["name"] == "CrRendererMain";
        let thread = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
        let mains: Vec<_> = events.iter().filter(main).map(thread).collect();
        let task = |event: &&Value| event["name"].as_str().is_some_and(|name| name.ends_with("RunTask"));
        let on_main = events.iter().filter(task).filter(|event| mains.contains(&thread(event)));
        let mut tasks: Vec<_> = on_main.filter_map(|event| event["tdur"].as_u64()).map(Duration::from_micros).collect();
        tasks.sort_unstable_by(|a, b| b.cmp(a));
        tasks
    }

    /// Keep a picture where `MEDIACONNECT_TEST_SCREENSHOTS` names a folder.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("MEDIACONNECT_TEST_SCREENSHOTS") else { return };
        let answer = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = decode_base64(answer["data"].as_str().expect("a picture"));
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), bytes).expect("a picture is written");
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let request = json!({ "id": self.calls, "method": method, "params": parameters });
        self.socket.send(Message::text(request.to_string())).expect("the browser listens");
        loop {
            let message = self.take();
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message:#}");
                return message["result"].clone();
            }
        }
    }

    /// The next message, noted where it is an event.
    fn take(&mut self) -> Value {
        let message = loop {
            match self.socket.read().expect("the browser answers") {
                Message::Text(text) => break serde_json::from_str::<Value>(&text).expect("JSON"),
                _ => continue,
            }
        };
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(message["params"].clone()),
            Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                self.errors.push(message["params"]["entry"].clone());
            }
            Some("Tracing.dataCollected") => {
                self.traced.extend(message["params"]["value"].as_array().into_iter().flatten().cloned());
            }
            Some("Tracing.tracingComplete") => self.trace_ended = true,
            _ => {}
        }
        message
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // All of its processes: they do not end with their parent.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// To the only page that there is.
fn connect(port: &str) -> WebSocket<TcpStream> {
    let stream = || {
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the browser listens");
        stream.set_read_timeout(Some(2 * PATIENCE)).expect("a socket option");
        stream
    };
    let mut plain = BufReader::new(stream());
    write!(plain.get_mut(), "GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").expect("a request");
    // It keeps the connection, whatever it is asked for.
    let lines = plain.by_ref().lines().map(|line| line.expect("an answer")).take_while(|line| !line.is_empty());
    let lengths = lines.filter_map(|line| line.strip_prefix("Content-Length:")?.trim().parse().ok());
    let mut body = vec![0; lengths.last().expect("a length")];
    plain.read_exact(&mut body).expect("a body");
    let pages: Value = serde_json::from_slice(&body).expect("JSON");
    let page = pages.as_array().expect("pages").iter().find(|page| page["type"] == "page").expect("a page");
    let url = page["webSocketDebuggerUrl"].as_str().expect("its address");
    tungstenite::client(url, stream()).expect("a web socket").0
}

/// RFC 4648, section 4.
fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let bits = four.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
