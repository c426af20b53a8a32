//! The two ends of RIST, each a program of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use super::{Options, Profile, Program, command};
use crate::support::daemon::{Daemon, Setup};
use crate::support::ends::{Got, Running, keep_apart};
use crate::support::feed::{Feeding, Inlet};
use crate::support::media::SEVEN;
use crate::support::peers::Peer;
use crate::support::ports::free_port;
use crate::support::sample::stuffing;
use crate::support::wait_for;

/// The end that sends.
pub struct Sender {
    running: Running,
    inlet: Option<Inlet>,
}

impl Sender {
    /// Start it, to one address or to several.
    #[track_caller]
    pub fn start(program: Program, to: &[SocketAddr], options: &Options) -> Self {
        let udp = free_port();
        let (running, inlet) = if program == Program::Mediaconnect {
            let source = format!("[sources.in]\nprotocol = 'udp'\nbind = '127.0.0.1:{udp}'\n");
            (Running::Daemon(Box::new(daemon(&(source + &output(to, options)), options))), Inlet::udp(udp))
        } else {
            let mut command = command::sending(program, to, options, udp);
            let mut peer = Peer::start(command.stdin(Stdio::piped()));
            let mut pipe = peer.stdin();
            let inlet = if program == Program::Ffmpeg {
                keep_apart(&pipe);
                // It opens its output only when it has seen some input.
                pipe.write_all(&stuffing()).expect("it reads its input");
                Inlet::Pipe(pipe)
            } else {
                peer.wait_until_bound(udp);
                Inlet::udp(udp)
            };
            (Running::Peer(peer), inlet)
        };
        Self { running, inlet: Some(inlet) }
    }

    /// Send stuffing until a second of it has come, so that reports have gone both ways on every path, then these datagrams at so many bit/s, and then stuffing until that is stopped.
    #[track_caller]
    pub fn feed(&mut self, to: &Receiver, stream: &'static [u8], bits_per_second: u64) -> Feeding {
        let datagrams = stream.chunks_exact(SEVEN).map(<[u8]>::to_vec);
        self.feed_with(to, stream.len() as u64 / SEVEN as u64, datagrams, bits_per_second)
    }

    /// The same with any datagrams.
    #[track_caller]
    pub fn feed_with(
        &mut self,
        to: &Receiver,
        length: u64,
        datagrams: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Feeding {
        self.feed_for(&to.got, length, datagrams, bits_per_second)
    }

    /// The same, for whoever gets it in the end.
    #[track_caller]
    pub fn feed_for(
        &mut self,
        got: &Got,
        length: u64,
        datagrams: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Feeding {
        let stream = datagrams.chain(std::iter::repeat_with(stuffing));
        let (before, feeding) = (got.length(), self.feed_stuffing(length, stream, bits_per_second));
        wait_for("something comes", || (got.length() >= before + bits_per_second / 8).then_some(()));
        feeding.begin();
        feeding
    }

    /// Nothing but stuffing, at so many bit/s.
    pub fn feed_nothing(&mut self, bits_per_second: u64) -> Feeding {
        self.feed_stuffing(0, std::iter::repeat_with(stuffing), bits_per_second)
    }

    fn feed_stuffing(
        &mut self,
        length: u64,
        then: impl Iterator<Item = Vec<u8>> + Send + 'static,
        bits_per_second: u64,
    ) -> Feeding {
        Feeding::led(self.inlet.take().expect("it is not being fed"), length, then, bits_per_second)
    }

    /// It can be fed again.
    pub fn stopped(&mut self, feeding: Feeding) {
        self.inlet = Some(feeding.stop());
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// The daemon, if it is that.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.running.daemon()
    }
}

/// The end that receives. ffmpeg's does not end when it is asked to, so it is killed, like all of them.
pub struct Receiver {
    running: Running,
    pub got: Got,
}

impl Receiver {
    /// Start it, at one address or at several. It listens when this returns.
    #[track_caller]
    pub fn start(program: Program, at: &[SocketAddr], options: &Options) -> Self {
        let udp = free_port();
        let (running, got) = if program == Program::Mediaconnect {
            let got = Got::at(udp);
            let output = format!("[outputs.out]\nprotocol = 'udp'\ndestination = '127.0.0.1:{udp}'\n");
            (Running::Daemon(Box::new(daemon(&(sources(at, options) + &output), options))), got)
        } else {
            let got = if program == Program::Librist { Got::at(udp) } else { Got::in_file() };
            let file = got.file();
            let to = file.as_deref().map_or(command::Into::Udp(udp), command::Into::File);
            let mut peer = Peer::start(command::receiving(program, at, options, to).stdin(Stdio::null()));
            for address in at {
                peer.wait_until_bound(address.port());
            }
            (Running::Peer(peer), got)
        };
        Self { running, got }
    }

    /// Wait until something has come since there were so many bytes.
    #[track_caller]
    pub fn wait_for_more(&self, bytes: u64) {
        wait_for("it receives", || (self.got.length() > bytes).then_some(()));
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.running.log()
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
    let setup = if options.profile.key_length().is_some() { setup.secret("key", options.passphrase) } else { setup };
    setup.start()
}

/// The daemon's output. To several addresses, the same packets go to each.
fn output(to: &[SocketAddr], options: &Options) -> String {
    let to = match to {
        [one] => format!("destination = '{one}'\n{}", interface(one)),
        several => {
            let legs: Vec<_> = several.iter().map(|to| format!("{{ destination = '{to}' }}")).collect();
            format!("legs = [{}]\n", legs.join(", "))
        }
    };
    format!("[outputs.out]\nprotocol = 'rist'\n{to}{}", keys(options))
}

/// The daemon's source, `main`. With several addresses there are more, which are merged.
fn sources(at: &[SocketAddr], options: &Options) -> String {
    let names = ["main", "second", "third"];
    let source = |(name, at): (&str, &SocketAddr)| {
        format!("[sources.{name}]\nprotocol = 'rist'\nbind = '{at}'\n{}{}", interface(at), keys(options))
    };
    let sources: String = names.into_iter().zip(at).map(source).collect();
    if at.len() == 1 { sources } else { sources + "[failover]\nmode = 'merge'\n" }
}

fn interface(address: &SocketAddr) -> &'static str {
    if address.ip().is_multicast() { "interface = 'lo'\n" } else { "" }
}

fn keys(options: &Options) -> String {
    let profile = if options.profile == Profile::Simple { "simple" } else { "main" };
    let mut keys = format!("profile = '{profile}'\nlatency = '{}ms'\n", options.buffer);
    if let Some(length) = options.profile.key_length() {
        keys += &format!("passphrase-file = 'key'\nkey-length = {length}\n");
    }
    keys
}
