//! The demo's two ends: a generator of the test pattern over RTP, and receivers that verify every byte.

use crate::time::Instant;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use crate::io::open::Receiver;
use crate::proto::mpegts::packet::PACKET_LEN;
use crate::proto::mpegts::test_stream::{Pattern, TestStream, Verdict, Verifier};
use crate::proto::rtp::header::{FIXED_LEN, Header, MP2T};
use crate::proto::seq::{RtpTime, Seq};

/// Of the transport stream, in bit/s.
pub(super) const RATE: u64 = 5_000_000;
/// Transport-stream packets of a datagram.
pub(super) const PER_DATAGRAM: usize = 7;
/// Any will do: it makes the pattern.
const SEED: u64 = 0x6d63;
/// Sequence and timestamp wrap within the first seconds, as they do on air.
const FIRST_SEQ: Seq = Seq(65_000);
const FIRST_TIME: RtpTime = RtpTime(u32::MAX - 90_000);
const SSRC: u32 = 0x6d63_6465;
/// After a standstill of this machine the pace goes on from there: a burst would drown the receivers.
const CATCH_UP: Duration = Duration::from_millis(20);

/// The RTP header of the datagram with this number, counted from 0.
fn header(pattern: &Pattern, number: u64) -> [u8; FIXED_LEN] {
    let seq = FIRST_SEQ.add((number & 0xFFFF) as u16);
    Header::new(MP2T, seq, FIRST_TIME.add(pattern.due(number * PER_DATAGRAM as u64)), SSRC).write()
}

/// A running generator.
pub(super) struct Generator {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Generator {
    /// Send to this port on a thread of its own.
    pub(super) fn start(port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (flag, count) = (stop.clone(), sent.clone());
        let run = move || generate(&socket, to, &flag, &count);
        Ok(Self { stop, sent, thread: thread::Builder::new().name("generator".to_owned()).spawn(run)? })
    }

    /// Datagrams so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// End after the datagram in hand; how many there were.
    pub(super) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // What it had sent when it panicked still counts.
        let _ = self.thread.join();
        self.sent.load(Ordering::Relaxed)
    }
}

fn generate(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool, sent: &AtomicU64) {
    let (pattern, mut stream) = (Pattern::new(SEED, RATE), TestStream::new(SEED, RATE));
    let mut datagram = [0; FIXED_LEN + PER_DATAGRAM * PACKET_LEN];
    let mut start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let (due, elapsed) = (stream.due(), start.elapsed());
        thread::sleep(due.saturating_sub(elapsed));
        let late = elapsed.saturating_sub(due);
        if late > CATCH_UP {
            start += late;
        }
        let (head, payload) = datagram.split_at_mut(FIXED_LEN);
        head.copy_from_slice(&header(&pattern, sent.load(Ordering::Relaxed)));
        stream.fill(payload);
        // A source that is closed, as when its file is edited, misses this datagram: its receivers will say so.
        let _ = socket.send_to(&datagram, to);
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// How the transport stream is wrapped on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrapping {
    /// Straight in UDP, at most so many packets a datagram.
    Udp(usize),
    /// In RTP packets of the relay's own.
    RtpRegenerated,
    /// In the RTP packets that the generator made.
    RtpPassthrough,
}

/// What came out of an output.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    /// On the transport stream.
    pub(super) verdict: Verdict,
    pub(super) datagrams: u64,
    /// Datagrams whose size or RTP header is not as it should be.
    pub(super) misshapen: u64,
}

impl Received {
    /// Of so many transport-stream packets.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        let so_far = self.verdict.missing + self.verdict.first.unwrap_or(0);
        so_far.max(sent.saturating_sub(self.verdict.ok))
    }

    /// Packets with wrong bytes, in the transport stream or around it.
    pub(super) fn corrupt(&self) -> u64 {
        self.verdict.corrupt + self.misshapen
    }

    /// Each of so many packets came once, in order, with all its bytes.
    pub(super) fn is_everything(&self, sent: u64) -> bool {
        self.verdict.is_perfect() && self.missing(sent) == 0 && self.corrupt() == 0
    }
}

/// Receivers on a thread of their own, which ends with the process.
pub(super) struct Receivers(Arc<Mutex<Vec<Received>>>);

impl Receivers {
    /// One receiver a socket.
    pub(super) fn start(sockets: Vec<(Receiver, Wrapping)>) -> io::Result<Self> {
        let received = Arc::new(Mutex::new(vec![Received::default(); sockets.len()]));
        let shared = received.clone();
        thread::Builder::new().name("receivers".to_owned()).spawn(move || receive(sockets, &shared))?;
        Ok(Self(received))
    }

    /// What each has received so far.
    pub(super) fn all(&self) -> Vec<Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn receive(sockets: Vec<(Receiver, Wrapping)>, shared: &Mutex<Vec<Received>>) {
    let (sockets, mut judges): (Vec<_>, Vec<_>) = sockets.into_iter().map(|(s, w)| (s, Judge::new(w))).unzip();
    let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let mut buffer = [0; 65_536];
    while let Ok(_) | Err(Errno::EINTR) = poll(&mut ready, PollTimeout::NONE) {
        for ((socket, judge), index) in sockets.iter().zip(&mut judges).zip(0..) {
            while let Ok(length) = recv(socket.as_fd().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                judge.take(&buffer[..length]);
                shared.lock().unwrap_or_else(PoisonError::into_inner)[index] = judge.received;
            }
        }
    }
}

/// Judges the datagrams of one output.
struct Judge {
    wrapping: Wrapping,
    pattern: Pattern,
    verifier: Verifier,
    received: Received,
    /// Of RTP: sequence and SSRC of the datagram before.
    last: Option<(Seq, u32)>,
}

impl Judge {
    fn new(wrapping: Wrapping) -> Self {
        let (pattern, verifier) = (Pattern::new(SEED, RATE), Verifier::new(SEED, RATE));
        Self { wrapping, pattern, verifier, received: Received::default(), last: None }
    }

    fn take(&mut self, datagram: &[u8]) {
        self.received.datagrams += 1;
        let is_well_shaped = match self.wrapping {
            Wrapping::Udp(packets) => {
                self.verifier.check(datagram);
                datagram.len() <= packets * PACKET_LEN
            }
            _ => Header::parse(datagram).is_ok_and(|header| self.take_rtp(header, datagram)),
        };
        self.received.misshapen += u64::from(!is_well_shaped);
        self.received.verdict = *self.verifier.verdict();
    }

    /// Whether its header is as it should be.
    fn take_rtp(&mut self, header: Header, datagram: &[u8]) -> bool {
        let before = *self.verifier.verdict();
        self.verifier.check(&datagram[header.payload()]);
        let now = self.verifier.verdict();
        if self.wrapping == Wrapping::RtpPassthrough {
            // Which datagram it is, its newest packet tells.
            let Some(newest) = now.newest.filter(|newest| Some(*newest) != before.newest) else { return true };
            return datagram.starts_with(&self::header(&self.pattern, newest / PER_DATAGRAM as u64));
        }
        let last = self.last.replace((header.seq, header.ssrc));
        // Where packets are missing, or the output was opened anew, the sequence may jump.
        let steps = last.is_none_or(|(seq, ssrc)| {
            header.seq.distance(seq) == 1 || header.ssrc != ssrc || now.missing != before.missing
        });
        header.payload_type == MP2T && steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datagrams of the generator.
    fn datagrams(count: u64) -> Vec<Vec<u8>> {
        let (pattern, mut stream) = (Pattern::new(SEED, RATE), TestStream::new(SEED, RATE));
        let mut payload = [0; PER_DATAGRAM * PACKET_LEN];
        let packet = |number| {
            stream.fill(&mut payload);
            [&header(&pattern, number)[..], &payload].concat()
        };
        (0..count).map(packet).collect()
    }

    fn judged<'a>(wrapping: Wrapping, datagrams: impl IntoIterator<Item = &'a [u8]>) -> Received {
        let mut judge = Judge::new(wrapping);
        datagrams.into_iter().for_each(|datagram| judge.take(datagram));
        judge.received
    }

    #[test]
    fn everything_is_everything() {
        let sent = datagrams(1000);
        for wrapping in [Wrapping::RtpPassthrough, Wrapping::RtpRegenerated] {
            assert!(judged(wrapping, sent.iter().map(Vec::as_slice)).is_everything(7000));
        }
        let payloads = sent.iter().map(|datagram| &datagram[FIXED_LEN..]);
        assert!(judged(Wrapping::Udp(7), payloads.clone()).is_everything(7000));
        let received = judged(Wrapping::Udp(3), payloads.flat_map(|payload| payload.chunks(3 * PACKET_LEN)));
        assert!(received.is_everything(7000), "{received:?}");
    }

    #[test]
    fn what_is_lost_is_missing_wherever_it_was() {
        let sent = datagrams(10);
        for (from, to) in [(0, 2), (4, 6), (8, 10)] {
            let kept = (0..10).filter(|n| !(from..to).contains(n)).map(|n| sent[n].as_slice());
            let received = judged(Wrapping::RtpPassthrough, kept);
            assert_eq!((received.missing(70), received.corrupt()), (14, 0));
            assert!(!received.is_everything(70));
        }
        assert_eq!(judged(Wrapping::RtpPassthrough, []).missing(70), 70);
        assert!(!judged(Wrapping::RtpPassthrough, []).is_everything(0));
    }

    #[test]
    fn a_wrong_header_and_a_wrong_size_are_seen() {
        let mut sent = datagrams(10);
        assert_eq!(judged(Wrapping::Udp(3), sent.iter().map(|datagram| &datagram[FIXED_LEN..])).corrupt(), 10);
        // A timestamp is the relay's own business where it makes the header, and not where it passes it on.
        sent[4][7] ^= 1;
        assert_eq!(judged(Wrapping::RtpRegenerated, sent.iter().map(Vec::as_slice)).corrupt(), 0);
        assert_eq!(judged(Wrapping::RtpPassthrough, sent.iter().map(Vec::as_slice)).corrupt(), 1);
        sent[4][3] ^= 1;
        assert_eq!(judged(Wrapping::RtpRegenerated, sent.iter().map(Vec::as_slice)).corrupt(), 2);
        sent[4].truncate(5);
        let received = judged(Wrapping::RtpRegenerated, sent.iter().map(Vec::as_slice));
        assert_eq!((received.corrupt(), received.missing(70)), (1, 7));
    }
}
