//! Networks that lose and delay what a test says, and write down what they carried and what they lost.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use super::media::{receiving_socket, sending_socket};
use super::wait_for;

/// Whether the datagram with this number, counted from 0, is lost. Asked once for each, in order.
pub type Loss = Box<dyn FnMut(u64) -> bool + Send>;

/// xorshift64*: seeded, the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

/// Nothing is lost.
pub fn nothing() -> Loss {
    Box::new(|_| false)
}

/// Each is lost by this chance, in percent.
pub fn percent(chance: u64, seed: u64) -> Loss {
    let mut random = Random::new(seed);
    Box::new(move |_| random.below(100) < chance)
}

/// In every `every`, one burst of 1 to `longest`.
pub fn bursts(longest: u64, every: u64, seed: u64) -> Loss {
    assert!(longest < every, "a burst has room");
    let mut random = Random::new(seed);
    let mut burst = 0..0;
    Box::new(move |n| {
        if n.is_multiple_of(every) {
            let length = 1 + random.below(longest);
            let start = n + random.below(every - length + 1);
            burst = start..start + length;
        }
        burst.contains(&n)
    })
}

/// `loss`, but only of these.
pub fn only(range: std::ops::Range<u64>, mut loss: Loss) -> Loss {
    Box::new(move |n| loss(n) && range.contains(&n))
}

/// A way that datagrams go.
pub struct Path {
    to: SocketAddr,
    loss: Loss,
    delay: Duration,
    jitter: Duration,
    random: Random,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    sender: UdpSocket,
    passed: Vec<bool>,
}

impl Path {
    pub fn to(to: SocketAddr, loss: Loss) -> Self {
        let (under_way, passed) = (VecDeque::new(), Vec::new());
        let (delay, jitter, random) = (Duration::ZERO, Duration::ZERO, Random::new(1));
        Self { to, loss, delay, jitter, random, under_way, sender: sending_socket(to), passed }
    }

    /// So much later.
    pub fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Each by up to this later, in order.
    pub fn jittered(self, jitter: Duration, seed: u64) -> Self {
        Self { jitter, random: Random::new(seed), ..self }
    }

    fn take(&mut self, datagram: &[u8], arrived: Instant) {
        let lost = (self.loss)(self.passed.len() as u64);
        self.passed.push(!lost);
        if lost {
            return;
        }
        let jitter = Duration::from_micros(self.random.below(self.jitter.as_micros() as u64 + 1));
        let before = self.under_way.back().map(|(due, _)| *due);
        let due = (arrived + self.delay + jitter).max(before.unwrap_or(arrived));
        self.under_way.push_back((due, datagram.to_vec()));
    }

    fn send_on(&mut self) {
        while self.due().is_some_and(|due| due <= Instant::now()) {
            let Some((_, datagram)) = self.under_way.pop_front() else { break };
            // Where nobody listens yet, or any more, it is lost.
            let _ = self.sender.send_to(&datagram, self.to);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }
}

/// What came to one address, and what became of it on each of its paths.
#[derive(Debug)]
pub struct Carried {
    pub datagrams: Vec<Vec<u8>>,
    pub passed: Vec<Vec<bool>>,
}

impl Carried {
    /// How many were lost on a path.
    pub fn lost(&self, path: usize) -> u64 {
        self.passed[path].iter().filter(|passed| !**passed).count() as u64
    }
}

/// A running network: what comes to an address goes all of its paths.
pub struct Network {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Carried>>,
}

impl Network {
    /// With these addresses, and the paths from each. What came earlier is sent on earlier, whatever address it came to.
    pub fn start(routes: impl IntoIterator<Item = (SocketAddr, Vec<Path>)>) -> Self {
        let routes: Vec<_> = routes.into_iter().map(|(address, paths)| (stamped_socket(address), paths)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || carry(routes, &flag)) }
    }

    /// Send on all that is under way, and end: what came to each address.
    pub fn stop(self) -> Vec<Carried> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the network does not panic")
    }
}

fn carry(routes: Vec<(UdpSocket, Vec<Path>)>, stop: &AtomicBool) -> Vec<Carried> {
    let (sockets, mut paths): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
    let mut carried: Vec<_> = paths.iter().map(|_| Carried { datagrams: Vec::new(), passed: Vec::new() }).collect();
    loop {
        let due = paths.iter().flatten().filter_map(Path::due).min();
        let ending = stop.load(Ordering::Relaxed);
        let came = receive(&sockets, due.map_or(Duration::from_millis(20), |due| due - Instant::now().min(due)));
        if came.is_empty() && due.is_none() && ending {
            break;
        }
        let now = Instant::now();
        for (_, at, datagram) in came {
            paths[at].iter_mut().for_each(|path| path.take(&datagram, now));
            carried[at].datagrams.push(datagram);
            // One by one, so that the order is the same at the receiver, whatever address it is for.
            paths[at].iter_mut().for_each(Path::send_on);
        }
        paths.iter_mut().flatten().for_each(Path::send_on);
    }
    for (carried, paths) in carried.iter_mut().zip(paths) {
        carried.passed = paths.into_iter().map(|path| path.passed).collect();
    }
    carried
}

/// A datagram: when the kernel took it, which socket it came to, its bytes.
type Stamped = (Duration, usize, Vec<u8>);

/// All that waits, by its time; nothing comes for `most`: none.
fn receive(sockets: &[UdpSocket], most: Duration) -> Vec<Stamped> {
    let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    // A poll ends up to a millisecond late: the last one is slept.
    let whole = u16::try_from(most.as_millis()).unwrap_or(u16::MAX);
    poll(&mut ready, PollTimeout::from(whole)).expect("poll");
    let mut came = Vec::new();
    for (at, socket) in sockets.iter().enumerate() {
        came.extend(std::iter::from_fn(|| receive_stamped(socket)).map(|(stamp, datagram)| (stamp, at, datagram)));
    }
    if came.is_empty() && whole == 0 {
        std::thread::sleep(most.min(Duration::from_micros(200)));
    }
    came.sort_by_key(|(stamp, ..)| *stamp);
    came
}

fn stamped_socket(address: SocketAddr) -> UdpSocket {
    let socket = receiving_socket(address);
    socket.set_nonblocking(true).expect("a socket option");
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("SO_TIMESTAMPNS");
    socket
}

/// The next datagram, and when the kernel took it.
fn receive_stamped(socket: &UdpSocket) -> Option<(Duration, Vec<u8>)> {
    let (mut buffer, mut control) = ([0; 2048], nix::cmsg_space!(nix::sys::time::TimeSpec));
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
    let stamp = message.cmsgs().expect("room for the stamp").find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let (stamp, length) = (stamp.expect("every datagram has a stamp"), message.bytes);
    Some((stamp, buffer[..length].to_vec()))
}

/// A datagram as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// When the kernel took it, on the system's clock.
    pub at: Duration,
    pub datagram: Vec<u8>,
}

/// Keeps every datagram that comes to an address.
pub struct Recorder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    recorded: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    pub fn bind(address: SocketAddr) -> Self {
        let socket = stamped_socket(address);
        let (stop, recorded) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (flag, shared) = (Arc::clone(&stop), Arc::clone(&recorded));
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                let came = receive(std::slice::from_ref(&socket), Duration::from_millis(20));
                let came = came.into_iter().map(|(at, _, datagram)| Recorded { at, datagram });
                shared.lock().expect("nobody panics with this lock").extend(came);
            }
        });
        Self { stop, thread: Some(thread), recorded }
    }

    /// What has come so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.recorded.lock().expect("the receiver does not panic").clone()
    }

    /// The newest datagram, if any has come.
    pub fn newest(&self) -> Vec<Vec<u8>> {
        let recorded = self.recorded.lock().expect("the receiver does not panic");
        recorded.last().map(|newest| newest.datagram.clone()).into_iter().collect()
    }

    /// How many bytes those are.
    pub fn length(&self) -> u64 {
        let recorded = self.recorded.lock().expect("the receiver does not panic");
        recorded.iter().map(|one| one.datagram.len() as u64).sum()
    }

    /// Wait until `end` is the newest datagram, or ends with it; all that came.
    #[track_caller]
    pub fn wait_for(&self, end: &[u8]) -> Vec<Recorded> {
        wait_for("the last datagram comes", || {
            let recorded = self.recorded.lock().expect("the receiver does not panic");
            recorded.last().is_some_and(|last| last.datagram.ends_with(end)).then(|| recorded.clone())
        })
    }

    /// Wait for the last of these payloads: exactly these came, in this order, each at the end of a datagram.
    #[track_caller]
    pub fn assert_payloads(&self, wanted: &[&[u8]]) {
        let recorded = self.wait_for(wanted.last().expect("something is wanted"));
        let differs = recorded.iter().zip(wanted).position(|(came, wanted)| !came.datagram.ends_with(wanted));
        assert_eq!(differs, None, "this datagram of {} is not that of {} wanted", recorded.len(), wanted.len());
        assert_eq!(recorded.len(), wanted.len());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            panic!("a recorder panicked");
        }
    }
}
