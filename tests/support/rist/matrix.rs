//! The same work with every program, both ways, with whatever it has.

use std::net::{Ipv4Addr, SocketAddr};

use super::link::Link;
use super::{Options, Profile, Program};
use crate::support::ports::free_port;
use crate::support::sample::{BITS_PER_SECOND, stream};

/// Faster than the stream is, so that its 20 s take 10.
pub const RATE: u64 = 2 * BITS_PER_SECOND;

/// How a stream goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From one to one.
    Plain(Profile),
    /// Its null packets are left out and put in again.
    NullDeletion(Profile),
    /// Twice, over two paths.
    Duplicated(Profile),
    /// Half over one path, half over another.
    Split,
    /// To a group, in a network where groups are on loopback.
    Multicast,
}

/// One of the matrix: what we do, with whom, and how.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub us: Program,
    pub peer: Program,
    pub we_send: bool,
    pub mode: Mode,
}

impl Case {
    /// All we do with this peer.
    pub fn all(us: Program, peer: Program) -> Vec<Self> {
        let both = [true, false].map(|we_send| {
            let modes = if we_send { received(peer) } else { sent(peer) };
            modes.into_iter().map(move |mode| Self { us, peer, we_send, mode })
        });
        both.into_iter().flatten().collect()
    }

    /// To a group, both ways. Of the peers only these find each other there.
    pub fn multicast(us: Program) -> Vec<Self> {
        let peers = [Program::Librist, Program::Gstreamer].into_iter();
        let ways = peers.flat_map(|peer| [(peer, true), (peer, false)]);
        ways.map(|(peer, we_send)| Self { us, peer, we_send, mode: Mode::Multicast }).collect()
    }

    /// A real transport stream comes as it was sent.
    #[track_caller]
    pub fn run(self) {
        let [sender, receiver] = if self.we_send { [self.us, self.peer] } else { [self.peer, self.us] };
        let link = Link::new(sender, receiver);
        let simple = Options::new(Profile::Simple);
        let (mut sender, receiver) = match self.mode {
            Mode::Plain(profile) => link.start(&Options::new(profile)),
            Mode::NullDeletion(profile) => link.start(&Options::new(profile).null_deletion()),
            Mode::Duplicated(profile) => link.start_bonded(&Options::new(profile)),
            Mode::Split => link.start_bonded(&simple.split()),
            Mode::Multicast => link.start_at(&[group()], &simple),
        };
        let _feeding = sender.feed(&receiver, stream(), RATE);
        receiver.got.assert_received(stream());
    }
}

/// A group that is this test's alone, by its port.
fn group() -> SocketAddr {
    (Ipv4Addr::new(239, 255, 77, 1), free_port()).into()
}

/// What this program can send.
fn sent(program: Program) -> Vec<Mode> {
    let plain = Profile::ALL.map(Mode::Plain);
    match program {
        Program::Librist => {
            let nulls = [Profile::Main(None), Profile::Main(Some(32))].map(Mode::NullDeletion);
            plain.into_iter().chain(nulls).chain([Mode::Duplicated(Profile::Main(None))]).collect()
        }
        Program::Ffmpeg => plain.to_vec(),
        Program::Gstreamer => {
            let nulls = Mode::NullDeletion(Profile::Simple);
            vec![plain[0], nulls, Mode::Duplicated(Profile::Simple), Mode::Split]
        }
        Program::Mediaconnect => plain.into_iter().chain(both_ways_of_two()).collect(),
    }
}

/// What this program can receive, of what we send.
fn received(program: Program) -> Vec<Mode> {
    let plain = Profile::ALL.map(Mode::Plain);
    match program {
        Program::Ffmpeg => plain.to_vec(),
        Program::Gstreamer => vec![plain[0], Mode::Duplicated(Profile::Simple)],
        // With the simple profile it takes what comes to two ports for two streams.
        Program::Librist => plain.into_iter().chain([Mode::Duplicated(Profile::Main(None))]).collect(),
        Program::Mediaconnect => plain.into_iter().chain(both_ways_of_two()).collect(),
    }
}

fn both_ways_of_two() -> [Mode; 2] {
    [Profile::Simple, Profile::Main(Some(16))].map(Mode::Duplicated)
}

/// The matrix for the README.
pub fn table() -> String {
    let mut table = "| | sends to us | receives from us |\n|---|---|---|\n".to_owned();
    for peer in Program::PEERS {
        let groups = Case::multicast(Program::Mediaconnect).into_iter().filter(|case| case.peer == peer);
        let all: Vec<_> = Case::all(Program::Mediaconnect, peer).into_iter().chain(groups).collect();
        let cell = |we_send: bool| {
            let modes = all.iter().filter(|case| case.we_send == we_send).map(|case| mode_name(case.mode));
            modes.collect::<Vec<_>>().join(", ")
        };
        table += &format!("| {} | {} | {} |\n", name(peer), cell(false), cell(true));
    }
    table
}

fn name(program: Program) -> &'static str {
    match program {
        Program::Librist => "ristsender, ristreceiver; librist 0.2.7",
        Program::Ffmpeg => "ffmpeg 5.1, librist 0.2.7",
        Program::Gstreamer => "GStreamer 1.22",
        Program::Mediaconnect => "mediaconnectd itself",
    }
}

fn profile_name(profile: Profile) -> String {
    match profile {
        Profile::Simple => "simple".to_owned(),
        Profile::Main(None) => "main".to_owned(),
        Profile::Main(Some(bytes)) => format!("main with AES-{}", u32::from(bytes) * 8),
    }
}

fn mode_name(mode: Mode) -> String {
    match mode {
        Mode::Plain(profile) => profile_name(profile),
        Mode::NullDeletion(profile) => format!("{} without null packets", profile_name(profile)),
        Mode::Duplicated(profile) => format!("{} over two paths", profile_name(profile)),
        Mode::Split => "simple split over two paths".to_owned(),
        Mode::Multicast => "simple to a group".to_owned(),
    }
}
