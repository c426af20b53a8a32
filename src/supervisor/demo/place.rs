//! Where the demo lives: a temporary directory with a real configuration tree, and free ports of loopback.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::media::{PER_DATAGRAM, Wrapping};
use super::{DemoError, FLOW};
use crate::io::open::{ReceiveSpec, Receiver, open_receiver};
use crate::supervisor::Dirs;

/// Name, protocol with its keys for the flow file, and what must come out.
const OUTPUTS: [(&str, &str, Wrapping); 4] = [
    ("udp-as-received", "protocol = \"udp\"", Wrapping::Udp(PER_DATAGRAM)),
    ("udp-three-a-datagram", "protocol = \"udp\"\ndatagram-packets = 3", Wrapping::Udp(3)),
    ("rtp-regenerated", "protocol = \"rtp\"", Wrapping::RtpRegenerated),
    ("rtp-passthrough", "protocol = \"rtp\"\nheader = \"passthrough\"", Wrapping::RtpPassthrough),
];
/// Below the range from which Linux by default gives ports to whoever asks for any.
const PORTS: std::ops::Range<u16> = 12_000..20_000;
/// From one port to the next: room for what belongs to an RTP port.
const STEP: u16 = 10;
/// Bytes of datagrams that may wait at a receiver, as asked of the kernel.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The demo's places. Its directory is gone with it.
pub(super) struct Place {
    root: PathBuf,
    /// Of the flow's source.
    pub(super) source: u16,
    /// Of `[http] listen`.
    pub(super) http: SocketAddr,
}

/// An output of the demo's flow, and where it ends.
pub(super) struct Output {
    pub(super) name: &'static str,
    pub(super) wrapping: Wrapping,
    pub(super) receiver: Receiver,
}

impl Place {
    /// Make the directory with its files, take ports, and listen for the log's lines.
    pub(super) fn make() -> Result<(Self, Vec<Output>, UnixDatagram), DemoError> {
        let mut ports = Ports::new();
        let source = ports.take(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
        let http = ports.take(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let mut outputs = Vec::new();
        for (name, _, wrapping) in OUTPUTS {
            outputs.push(Output { name, wrapping, receiver: ports.take(receiver)?.0 });
        }
        let root = make_root().map_err(|source| DemoError::Place { path: std::env::temp_dir(), source })?;
        // From here on the directory is removed whatever happens. The daemon binds the first two ports itself.
        let place = Self { root, source: source.1, http: (Ipv4Addr::LOCALHOST, http.1).into() };
        let log = place.fill(&outputs).map_err(|source| DemoError::Place { path: place.root.clone(), source })?;
        Ok((place, outputs, log))
    }

    /// For the daemon.
    pub(super) fn dirs(&self) -> Dirs {
        let [config, runtime, state, log] = ["etc", "run", "state", "log"].map(|name| self.root.join(name));
        Dirs { config, runtime, state, log }
    }

    /// The flow's file.
    pub(super) fn flow_file(&self) -> PathBuf {
        self.root.join(format!("etc/flows.d/{FLOW}.toml"))
    }

    fn fill(&self, outputs: &[Output]) -> io::Result<UnixDatagram> {
        fs::create_dir_all(self.root.join("etc/flows.d"))?;
        let lines = self.root.join("log-lines");
        let log = UnixDatagram::bind(&lines)?;
        write_whole(&self.root.join("etc/mediaconnect.toml"), &settings(self.http, &lines))?;
        write_whole(&self.flow_file(), &flow(self.source, outputs)?)?;
        Ok(log)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root)
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("mediaconnectd: can't remove {}: {error}", self.root.display());
        }
    }
}

/// As a file of long ago: the daemon waits for one that might still be written.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    File::options().write(true).open(path)?.set_modified(SystemTime::now() - Duration::from_secs(60))
}

fn make_root() -> io::Result<PathBuf> {
    let parent = std::env::temp_dir().canonicalize()?;
    let names = (0..100).map(|n| parent.join(format!("mediaconnect-demo-{}-{n}", std::process::id())));
    for root in names {
        // Nobody else's, and never one that somebody else has prepared.
        match DirBuilder::new().mode(0o700).create(&root) {
            Ok(()) => return Ok(root),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The log goes to where the demo shows it.
fn settings(http: SocketAddr, lines: &Path) -> String {
    let server = toml::Value::String(lines.to_string_lossy().into_owned());
    format!(
        "[log]\ntargets = [\"syslog\"]\n\n[log.syslog]\nserver = {server}\nformat = \"rfc3164\"\n\n\
         [http]\nlisten = [\"{http}\"]\n"
    )
}

fn flow(source: u16, outputs: &[Output]) -> io::Result<String> {
    let mut text = format!(
        "# The demo's flow. Edit it while the demo runs, and watch what happens.\n\
         description = \"Test pattern\"\n\n\
         [sources.generator]\nprotocol = \"rtp\"\nbind = \"127.0.0.1:{source}\"\n"
    );
    for (Output { name, receiver, .. }, (_, keys, _)) in outputs.iter().zip(OUTPUTS) {
        let destination = receiver.local_addr()?;
        text.push_str(&format!("\n[outputs.{name}]\n{keys}\ndestination = \"{destination}\"\n"));
    }
    Ok(text)
}

fn receiver(port: u16) -> io::Result<Receiver> {
    let spec = ReceiveSpec {
        bind: (Ipv4Addr::LOCALHOST, port).into(),
        dual_stack: false,
        interface: None,
        multicast_sources: Vec::new(),
        receive_buffer: RECEIVE_BUFFER,
        timestamps: false,
        gro: false,
    };
    open_receiver(&spec).map_err(io::Error::other)
}

/// Ports one after the other, each tried once.
struct Ports(std::vec::IntoIter<u16>);

impl Ports {
    fn new() -> Self {
        let mut all: Vec<u16> = PORTS.step_by(STEP.into()).collect();
        // Demos that start together begin apart.
        let first = std::process::id() as usize * 7 % all.len();
        all.rotate_left(first);
        Self(all.into_iter())
    }

    /// The next that opens, which it gives along.
    fn take<T>(&mut self, open: impl Fn(u16) -> io::Result<T>) -> Result<(T, u16), DemoError> {
        self.0.find_map(|port| Some((open(port).ok()?, port))).ok_or(DemoError::Ports(PORTS.start, PORTS.end - 1))
    }
}
