//! The two ends of an SRT connection, each a program of its own.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::{Options, Place, Program, command};
use crate::support::daemon::{Daemon, Setup};
use crate::support::ends::{Got, Running, keep_apart};
use crate::support::feed::{Feeding, Inlet};
use crate::support::media::SEVEN;
use crate::support::peers::Peer;
use crate::support::ports::free_port;
use crate::support::sample::stuffing;
use crate::support::{PATIENCE, wait_for};

#[track_caller]
fn wait_until_open(running: &mut Running, place: Place) {
    match (running, place) {
        (Running::Peer(peer), Place::Listener(port) | Place::Rendezvous { port, .. }) => {
            peer.wait_until_bound(port);
        }
        (Running::Peer(_), Place::Caller(_)) | (Running::Daemon(_), _) => {}
    }
}

/// Whatever says so, as the end of a connection.
#[track_caller]
fn wait_until_connected(running: &Running, program: Program, kind: &str) {
    match running {
        Running::Daemon(daemon) => {
            let end = if kind == "target" { "/outputs/out/peers" } else { "/sources/main/peers" };
            daemon.wait_for_flow("flow", "it is connected", |flow| peers(flow, end) > 0);
        }
        Running::Peer(_) if program == Program::LiveTransmit => {
            let said = [format!("SRT {kind} connected"), format!("Accepted SRT {kind} connection")];
            wait_for("srt-live-transmit is connected", || {
                let log = running.log();
                said.iter().any(|said| log.contains(said)).then_some(())
            });
        }
        // They say nothing. What they send waits in their input until then.
        Running::Peer(_) => {}
    }
}

fn peers(flow: &Value, path: &str) -> usize {
    flow.pointer(path).and_then(Value::as_array).map_or(0, Vec::len)
}

/// The end that sends.
pub struct Sender {
    program: Program,
    running: Running,
    inlet: Option<Inlet>,
}

impl Sender {
    /// Start it. One that listens does so when this returns.
    #[track_caller]
    pub fn start(program: Program, place: Place, options: &Options) -> Self {
        let udp = free_port();
        let (mut running, inlet) = if program == Program::Mediaconnect {
            let source = format!("[sources.in]\nprotocol = 'udp'\nbind = '127.0.0.1:{udp}'\n");
            let output = srt_section("outputs.out", place, options);
            (Running::Daemon(Box::new(daemon(&(source + &output), options))), Inlet::udp(udp))
        } else {
            let mut command = command::sending(program, place, options, udp);
            let mut peer = Peer::start(command.stdin(Stdio::piped()));
            let mut pipe = peer.stdin();
            let inlet = if program == Program::LiveTransmit {
                Inlet::udp(udp)
            } else {
                keep_apart(&pipe);
                // ffmpeg opens its output, and listens, only when it has seen some input.
                pipe.write_all(&stuffing()).expect("it reads its input");
                Inlet::Pipe(pipe)
            };
            (Running::Peer(peer), inlet)
        };
        wait_until_open(&mut running, place);
        Self { program, running, inlet: Some(inlet) }
    }

    /// Wait until it says that it is connected, if it says such things.
    #[track_caller]
    pub fn wait_until_connected(&self) {
        wait_until_connected(&self.running, self.program, "target");
    }

    /// Once it is connected, send these datagrams at so many bit/s, and then stuffing until that is stopped.
    #[track_caller]
    pub fn feed(&mut self, stream: &'static [u8], bits_per_second: u64) -> Feeding {
        let datagrams = stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
        self.feed_with(stream.len() as u64 / SEVEN as u64, datagrams, bits_per_second)
    }

    /// The same without stuffing.
    #[track_caller]
    pub fn feed_alone(&mut self, stream: &'static [u8], bits_per_second: u64) -> Feeding {
        self.wait_until_connected();
        let datagrams = stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
        Feeding::alone(self.inlet(), stream.len() as u64 / SEVEN as u64, datagrams, bits_per_second)
    }

    /// The same with any datagrams.
    #[track_caller]
    pub fn feed_with(
        &mut self,
        length: u64,
        datagrams: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Feeding {
        self.wait_until_connected();
        Feeding::start(self.inlet(), length, datagrams, bits_per_second)
    }

    /// Datagrams of stuffing that it was given when it was started.
    pub fn primed(&self) -> u64 {
        u64::from(matches!(self.inlet, Some(Inlet::Pipe(_))))
    }

    /// Where to feed it; it takes what comes there.
    #[track_caller]
    fn inlet(&mut self) -> Inlet {
        let inlet = self.inlet.take().expect("it is not being fed");
        // Not earlier: one that is refused ends, perhaps before anybody has looked at its ports.
        if let (Running::Peer(peer), Inlet::Udp(_, port)) = (&mut self.running, &inlet) {
            peer.wait_until_bound(*port);
        }
        inlet
    }

    /// It can be fed again.
    pub fn stopped(&mut self, feeding: Feeding) {
        self.inlet = Some(feeding.stop());
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Wait until it has said this; all it has said.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.running.wait_for_log(text)
    }

    /// Let it end when it has sent what it was fed, and wait until it has. It must not be fed any more.
    #[track_caller]
    pub fn finish(&mut self) {
        let inlet = self.inlet.take();
        match &mut self.running {
            // Its input ends.
            Running::Peer(peer) if matches!(inlet, Some(Inlet::Pipe(_))) => {
                drop(inlet);
                peer.wait(PATIENCE);
            }
            running => running.interrupt(),
        }
    }

    /// The daemon, if it is that.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.running.daemon()
    }
}

/// The end that receives.
pub struct Receiver {
    program: Program,
    running: Running,
    got: Got,
}

impl Receiver {
    /// Start it. One that listens does so when this returns.
    #[track_caller]
    pub fn start(program: Program, place: Place, options: &Options) -> Self {
        let (mut running, got) = if program == Program::Mediaconnect {
            let udp = free_port();
            let got = Got::at(udp);
            let source = srt_section("sources.main", place, options);
            let output = format!("[outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{udp}'\n");
            (Running::Daemon(Box::new(daemon(&(source + &output), options))), got)
        } else {
            let got = Got::in_file();
            let recording = got.file().expect("it is one");
            let mut command = command::receiving(program, place, options, &recording);
            command.stdin(Stdio::null());
            let file = File::create(&recording).expect("a file for what is received");
            let to_stdout = program == Program::LiveTransmit;
            let peer = if to_stdout { Peer::start_into(&mut command, file) } else { Peer::start(&mut command) };
            (Running::Peer(peer), got)
        };
        wait_until_open(&mut running, place);
        Self { program, running, got }
    }

    /// Wait until it says that it is connected, if it says such things.
    #[track_caller]
    pub fn wait_until_connected(&self) {
        wait_until_connected(&self.running, self.program, "source");
    }

    /// All that it has received and passed on so far, without stuffing at its beginning.
    pub fn received(&self) -> Vec<u8> {
        self.got.bytes()
    }

    /// How many bytes that is, stuffing included.
    pub fn length(&self) -> u64 {
        self.got.length()
    }

    /// Wait until as many bytes have come as were sent, and compare them.
    #[track_caller]
    pub fn assert_received(&self, sent: &[u8]) {
        self.got.assert_received(sent);
    }

    /// Wait until the newest of numbered datagrams, or one that has come a few before it, has this number or a later one.
    #[track_caller]
    pub fn wait_for_number(&self, number: u64) {
        self.got.wait_for_number(number);
    }

    /// The numbers of numbered datagrams that have come so far.
    #[track_caller]
    pub fn numbers(&self) -> Vec<u64> {
        self.got.numbers()
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Wait until it has said this; all it has said.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.running.wait_for_log(text)
    }

    /// Ask it to end, and wait until it has.
    #[track_caller]
    pub fn interrupt(&mut self) {
        self.running.interrupt();
    }

    /// The daemon, if it is that.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.running.daemon()
    }
}

/// A daemon with this one flow.
#[track_caller]
fn daemon(flow: &str, options: &Options) -> Daemon {
    let setup = Setup::new().flow("flow", flow);
    let setup = options.passphrase.iter().fold(setup, |setup, passphrase| setup.secret("key", passphrase));
    setup.start()
}

/// A source or an output of the daemon.
pub fn srt_section(name: &str, place: Place, options: &Options) -> String {
    let mut lines = vec![format!("[{name}]")];
    lines.extend(match place {
        Place::Listener(port) => vec!["protocol = 'srt-listener'".to_owned(), format!("bind = '127.0.0.1:{port}'")],
        Place::Caller(port) => vec!["protocol = 'srt-caller'".to_owned(), called(name, format!("127.0.0.1:{port}"))],
        Place::Rendezvous { local, remote, port } => vec![
            "protocol = 'srt-rendezvous'".to_owned(),
            format!("bind = '{local}:{port}'"),
            format!("remote = '{remote}:{port}'"),
        ],
    });
    lines.extend(options.latency.map(|ms| format!("latency = '{ms}ms'")));
    lines.extend(options.passphrase.iter().map(|_| "passphrase-file = 'key'".to_owned()));
    lines.extend(options.key_length.map(|length| format!("key-length = {length}")));
    lines.extend(options.stream_id.iter().map(|id| format!("stream-id = '{id}'")));
    lines.push(options.keys.clone());
    lines.join("\n") + "\n"
}

/// Who is called: a source's `remote`, an output's `destination`.
fn called(section: &str, address: String) -> String {
    let key = if section.starts_with("outputs") { "destination" } else { "remote" };
    format!("{key} = '{address}'")
}
