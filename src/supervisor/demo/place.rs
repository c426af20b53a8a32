//! Where the demo lives: a temporary directory with a real configuration tree, and free ports of loopback.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::media::{PER_DATAGRAM, Wrapping};
use super::{DemoError, FAR_FLOW, FLOW, HOP};
use crate::io::open::{ReceiveSpec, Receiver, open_receiver};
use crate::supervisor::Dirs;

/// Of the demo's flow: name, protocol with its keys for the flow file, and what must come out.
const OUTPUTS: [(&str, &str, Wrapping); 4] = [
    ("udp-as-received", "protocol = \"udp\"", Wrapping::Udp(PER_DATAGRAM)),
    ("udp-three-a-datagram", "protocol = \"udp\"\ndatagram-packets = 3", Wrapping::Udp(3)),
    ("rtp-regenerated", "protocol = \"rtp\"", Wrapping::RtpRegenerated),
    ("rtp-passthrough", "protocol = \"rtp\"\nheader = \"passthrough\"", Wrapping::RtpPassthrough),
];
/// The output of the flow behind the SRT hop.
const FAR_OUTPUT: &str = "udp-after-srt";
/// The file in `secrets` with the passphrase of the hop.
const PASSPHRASE_FILE: &str = "hop";
/// Below the range from which Linux by default gives ports to whoever asks for any.
const PORTS: std::ops::Range<u16> = 12_000..20_000;
/// How old files look: the daemon waits for one that might still be written.
const AGE: Duration = Duration::from_secs(60);
/// From one port to the next: room for what belongs to an RTP port.
const STEP: u16 = 10;
/// Bytes of datagrams that may wait at a receiver, as asked of the kernel.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The demo's places. Its directory is gone with it.
pub(super) struct Place {
    root: PathBuf,
    /// Of the flow's source.
    pub(super) source: u16,
    /// Of the SRT source of the flow behind it.
    hop: u16,
    /// Of `[http] listen`.
    pub(super) http: SocketAddr,
}

/// An output of the demo's flows, and where it ends.
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
        let hop = ports.take(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))?;
        let http = ports.take(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let mut outputs = Vec::new();
        let far = (FAR_OUTPUT, Wrapping::Udp(PER_DATAGRAM));
        for (name, wrapping) in OUTPUTS.map(|(name, _, wrapping)| (name, wrapping)).into_iter().chain([far]) {
            outputs.push(Output { name, wrapping, receiver: ports.take(receiver)?.0 });
        }
        let root = make_root().map_err(|source| DemoError::Place { path: std::env::temp_dir(), source })?;
        // From here on the directory is removed whatever happens. The daemon binds the first three ports itself.
        let place = Self { root, source: source.1, hop: hop.1, http: (Ipv4Addr::LOCALHOST, http.1).into() };
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
        self.write_passphrase()?;
        write_whole(&self.flow_file(), &flow(self.source, self.hop, outputs)?)?;
        write_whole(&self.root.join(format!("etc/flows.d/{FAR_FLOW}.toml")), &far_flow(self.hop, outputs)?)?;
        Ok(log)
    }

    /// Another one each time; only this user may read it.
    fn write_passphrase(&self) -> io::Result<()> {
        let secrets = self.root.join("etc/secrets");
        fs::create_dir(&secrets)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(secrets.join(PASSPHRASE_FILE))?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        writeln!(file, "{:032x}", u128::from_ne_bytes(random))?;
        file.set_modified(SystemTime::now() - AGE)
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

/// As a file of long ago.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    File::options().write(true).open(path)?.set_modified(SystemTime::now() - AGE)
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

fn flow(source: u16, hop: u16, outputs: &[Output]) -> io::Result<String> {
    let mut text = format!(
        "# The demo's flow. Edit it while the demo runs, and watch what happens.\n\
         description = \"Test pattern\"\n\n\
         [sources.generator]\nprotocol = \"rtp\"\nbind = \"127.0.0.1:{source}\"\n"
    );
    for (Output { name, receiver, .. }, (_, keys, _)) in outputs.iter().zip(OUTPUTS) {
        let destination = receiver.local_addr()?;
        text.push_str(&format!("\n[outputs.{name}]\n{keys}\ndestination = \"{destination}\"\n"));
    }
    text.push_str(&format!(
        "\n# Encrypted, to the flow {FAR_FLOW}. Its passphrase is in secrets/{PASSPHRASE_FILE}.\n\
         [outputs.{HOP}]\nprotocol = \"srt-caller\"\ndestination = \"127.0.0.1:{hop}\"\n{}",
        hop_keys()
    ));
    Ok(text)
}

/// The flow at the other end of the SRT hop.
fn far_flow(hop: u16, outputs: &[Output]) -> io::Result<String> {
    let far = outputs.iter().find(|output| output.name == FAR_OUTPUT).ok_or(ErrorKind::NotFound)?;
    Ok(format!(
        "# What the demo's flow sends by SRT comes in here.\n\
         description = \"Test pattern, after SRT\"\n\n\
         [sources.{HOP}]\nprotocol = \"srt-listener\"\nbind = \"127.0.0.1:{hop}\"\n{}\n\
         [outputs.{FAR_OUTPUT}]\nprotocol = \"udp\"\ndestination = \"{}\"\n",
        hop_keys(),
        far.receiver.local_addr()?
    ))
}

/// The keys that both ends of the SRT hop have. The latency outlasts a standstill of a busy machine.
fn hop_keys() -> String {
    format!("stream-id = \"demo\"\npassphrase-file = \"{PASSPHRASE_FILE}\"\nkey-length = 32\nlatency = \"500ms\"\n")
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
