//! A network between callers and a listener that damages what it carries in both directions, the same way in every run.
//! How it tells packets apart is a [`Wire`]: of SRT, of RIST.
//!
//! What becomes of a data packet depends on the seed, on its number in its stream and on how often it has been sent
//! before, not on when it comes: whoever sends and receives, each packet has the same fate. What becomes of any other
//! packet depends on how many of its kind have come before.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::media::{receiving_socket, v4};

/// How packets of a protocol are told apart, and what is known of those that went one way.
pub trait Wire: Default + Send + 'static {
    /// What a packet is.
    type Kind: Copy + Debug + Ord + Send + Sync;
    /// What a data packet is encrypted with.
    type Key: Copy + Debug + PartialEq + Send;
    /// Data that is sent for the first time: one of these begins a burst.
    const DATA: Self::Kind;
    /// How many ports in a row a listener has.
    const PORTS: u16;

    /// What a packet is.
    fn kind(packet: &[u8]) -> Self::Kind;
    /// A number of a kind's own.
    fn number(kind: Self::Kind) -> u64;
    /// Whether packets of this kind are kept as they came.
    fn is_kept(kind: Self::Kind) -> bool;
    /// What a packet is encrypted with, if keys come in its kind's order.
    fn key(packet: &[u8]) -> Option<Self::Key>;
    /// The number of a data packet in its stream, counted from 0. Asked for each packet of this direction, in order.
    fn place(&mut self, packet: &[u8]) -> Option<u32>;
    /// A caller has sent this, whichever direction this is.
    fn called(&mut self, _packet: &[u8]) {}
}

/// What a network does to one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Damage {
    pub seed: u64,
    pub delay: Duration,
    /// Dropped one by one, in percent.
    pub loss: u64,
    /// Of so many data packets, one begins a burst, in which all that comes is dropped.
    pub burst_every: u64,
    pub burst_length: u64,
    /// Sent on twice, in percent.
    pub duplicate: u64,
    /// Late by `reorder_by`, in percent.
    pub reorder: u64,
    pub reorder_by: Duration,
}

/// What a network does.
#[derive(Debug)]
pub struct Weather<W: Wire> {
    /// From callers to the listener.
    pub forth: Damage,
    /// From the listener to callers.
    pub back: Damage,
    /// Dropped besides: of a direction and a kind, the packets with these numbers, counted from 0.
    pub drop: Vec<(Way, W::Kind, std::ops::Range<u64>)>,
}

impl<W: Wire> Default for Weather<W> {
    fn default() -> Self {
        Self { forth: Damage::default(), back: Damage::default(), drop: Vec::new() }
    }
}

impl<W: Wire> Weather<W> {
    /// The same both ways, each with its own dice.
    pub fn both(damage: Damage) -> Self {
        Self { forth: damage, back: Damage { seed: damage.seed ^ 0x5555, ..damage }, drop: Vec::new() }
    }

    /// Nothing happens but that it takes so long there and back.
    pub fn round_trip(time: Duration) -> Self {
        Self::both(Damage { delay: time / 2, ..Damage::default() })
    }

    /// Without some packets besides.
    #[must_use]
    pub fn without(mut self, way: Way, kind: W::Kind, numbers: std::ops::Range<u64>) -> Self {
        self.drop.push((way, kind, numbers));
        self
    }
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a caller to the listener.
    Forth,
    /// From the listener to a caller.
    Back,
}

/// What a network did with a data packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// How often it came.
    pub came: u32,
    /// How often it was sent on, duplicates apart.
    pub passed: u32,
    /// Whether it was sent on the first time.
    pub first_passed: bool,
}

/// What went one way.
#[derive(Debug)]
pub struct Report<W: Wire> {
    /// What came, by kind.
    pub came: BTreeMap<W::Kind, u64>,
    /// Of these, what was dropped.
    pub dropped: BTreeMap<W::Kind, u64>,
    pub duplicated: u64,
    pub reordered: u64,
    /// Every data packet by its number.
    pub data: BTreeMap<u32, Passage>,
    /// Each key that was not that of the packet before.
    pub keys: Vec<W::Key>,
    /// Packets of the kinds that are kept, as they came.
    pub kept: Vec<Vec<u8>>,
}

impl<W: Wire> Default for Report<W> {
    fn default() -> Self {
        let [came, dropped] = [BTreeMap::new(), BTreeMap::new()];
        Self { came, dropped, duplicated: 0, reordered: 0, data: BTreeMap::new(), keys: Vec::new(), kept: Vec::new() }
    }
}

impl<W: Wire> Clone for Report<W> {
    fn clone(&self) -> Self {
        Self {
            came: self.came.clone(),
            dropped: self.dropped.clone(),
            data: self.data.clone(),
            keys: self.keys.clone(),
            kept: self.kept.clone(),
            ..*self
        }
    }
}

impl<W: Wire> Report<W> {
    /// How many of a kind came.
    pub fn count(&self, kind: W::Kind) -> u64 {
        self.came.get(&kind).copied().unwrap_or(0)
    }

    /// How many of a kind were dropped.
    pub fn lost(&self, kind: W::Kind) -> u64 {
        self.dropped.get(&kind).copied().unwrap_or(0)
    }
}

/// A running network.
pub struct Nat<W: Wire> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    reports: Arc<Mutex<[Report<W>; 2]>>,
}

impl<W: Wire> Nat<W> {
    /// Whoever calls `listen` is passed on to `to`, each from a port of its own; so it is with the ports that follow.
    pub fn start(listen: u16, to: u16, weather: Weather<W>) -> Self {
        let fronts = (0..W::PORTS).map(|port| Front { socket: nonblocking(listen + port), to: v4(to + port) });
        let fronts: Vec<_> = fronts.collect();
        let stop = Arc::new(AtomicBool::new(false));
        let reports = Arc::new(Mutex::new([Report::default(), Report::default()]));
        let (flag, shared) = (Arc::clone(&stop), Arc::clone(&reports));
        let thread = std::thread::spawn(move || carry(&fronts, weather, &flag, &shared));
        Self { stop, thread: Some(thread), reports }
    }

    /// What went each way so far: forth and back.
    pub fn reports(&self) -> [Report<W>; 2] {
        self.reports.lock().expect("the network does not panic").clone()
    }

    /// What went one way so far.
    pub fn report(&self, way: Way) -> Report<W> {
        let [forth, back] = self.reports();
        if way == Way::Forth { forth } else { back }
    }
}

impl<W: Wire> Drop for Nat<W> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            panic!("the network panicked");
        }
    }
}

/// What each direction knows of what went through it.
struct Direction<W: Wire> {
    damage: Damage,
    drop: Vec<(W::Kind, std::ops::Range<u64>)>,
    wire: W,
    burst: u64,
    last_key: Option<W::Key>,
}

/// What becomes of a packet: how late it is sent on, and how often.
struct Fate {
    delays: [Option<Duration>; 2],
}

/// A number that depends on nothing but these (SplitMix64).
fn dice(seed: u64, stream: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
    for more in [number, 0] {
        mixed = mixed.wrapping_add(more).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
    }
    mixed
}

impl<W: Wire> Direction<W> {
    fn new(damage: Damage, drop: Vec<(W::Kind, std::ops::Range<u64>)>) -> Self {
        Self { damage, drop, wire: W::default(), burst: 0, last_key: None }
    }

    fn take(&mut self, datagram: &[u8], report: &mut Report<W>) -> Fate {
        let kind = W::kind(datagram);
        let of_kind = report.came.entry(kind).or_default();
        let number_of_kind = *of_kind;
        *of_kind += 1;
        if W::is_kept(kind) {
            report.kept.push(datagram.to_vec());
        }
        let place = self.wire.place(datagram);
        let (stream, number) = match place {
            Some(number) => {
                let passage = report.data.entry(number).or_default();
                passage.came += 1;
                (u64::from(passage.came), u64::from(number))
            }
            None => (1_000_000 + W::number(kind), number_of_kind),
        };
        if let Some(key) = W::key(datagram).filter(|key| self.last_key != Some(*key)) {
            self.last_key = Some(key);
            report.keys.push(key);
        }
        let damage = &self.damage;
        let happens = |what: u64, percent: u64| dice(damage.seed + what, stream, number) % 100 < percent;
        let begins = kind == W::DATA && damage.burst_every > 0;
        if begins && dice(damage.seed, 0, number).is_multiple_of(damage.burst_every) {
            self.burst = damage.burst_length;
        }
        let named = self.drop.iter().any(|(dropped, numbers)| *dropped == kind && numbers.contains(&number_of_kind));
        let in_burst = self.burst > 0;
        self.burst = self.burst.saturating_sub(1);
        if named || in_burst || happens(1, damage.loss) {
            *report.dropped.entry(kind).or_default() += 1;
            return Fate { delays: [None, None] };
        }
        if let Some(passage) = place.and_then(|number| report.data.get_mut(&number)) {
            passage.passed += 1;
            passage.first_passed |= passage.came == 1;
        }
        let late = happens(2, damage.reorder);
        let twice = happens(3, damage.duplicate);
        report.reordered += u64::from(late);
        report.duplicated += u64::from(twice);
        let delay = damage.delay + if late { damage.reorder_by } else { Duration::ZERO };
        Fate { delays: [Some(delay), twice.then_some(delay)] }
    }
}

/// A port that is called, and whom its callers are passed on to.
struct Front {
    socket: UdpSocket,
    to: SocketAddr,
}

fn nonblocking(port: u16) -> UdpSocket {
    let socket = receiving_socket(v4(port));
    socket.set_nonblocking(true).expect("a socket option");
    socket
}

/// Who called which front, and the socket that stands for it at the listener.
struct Caller {
    front: usize,
    address: SocketAddr,
    socket: UdpSocket,
}

/// What is under way: when it is due, in which order it came; which way, whose.
type UnderWay = BTreeMap<(Instant, u64), (Way, usize, Vec<u8>)>;

fn carry<W: Wire>(fronts: &[Front], weather: Weather<W>, stop: &AtomicBool, reports: &Mutex<[Report<W>; 2]>) {
    let dropped = |wanted: Way| {
        let drop = weather.drop.iter().filter(move |(way, ..)| *way == wanted);
        drop.map(|(_, kind, numbers)| (*kind, numbers.clone())).collect::<Vec<_>>()
    };
    let mut forth = Direction::<W>::new(weather.forth, dropped(Way::Forth));
    let mut back = Direction::<W>::new(weather.back, dropped(Way::Back));
    let mut callers: Vec<Caller> = Vec::new();
    let (mut under_way, mut order, mut buffer) = (UnderWay::new(), 0, vec![0; 2048]);
    while !stop.load(Ordering::Relaxed) {
        wait(fronts, &callers, under_way.first_key_value().map(|((due, _), _)| *due));
        let mut reports = reports.lock().expect("nobody panics with this lock");
        let mut take =
            |way: Way, caller: usize, datagram: &[u8], direction: &mut Direction<W>, report: &mut Report<W>| {
                let now = Instant::now();
                for delay in direction.take(datagram, report).delays.into_iter().flatten() {
                    order += 1;
                    under_way.insert((now + delay, order), (way, caller, datagram.to_vec()));
                }
            };
        for (index, front) in fronts.iter().enumerate() {
            while let Ok((length, from)) = front.socket.recv_from(&mut buffer) {
                let known = callers.iter().position(|caller| (caller.front, caller.address) == (index, from));
                let caller = known.unwrap_or_else(|| {
                    callers.push(Caller { front: index, address: from, socket: nonblocking(0) });
                    callers.len() - 1
                });
                forth.wire.called(&buffer[..length]);
                back.wire.called(&buffer[..length]);
                take(Way::Forth, caller, &buffer[..length], &mut forth, &mut reports[0]);
            }
        }
        for (index, caller) in callers.iter().enumerate() {
            while let Ok(length) = caller.socket.recv(&mut buffer) {
                take(Way::Back, index, &buffer[..length], &mut back, &mut reports[1]);
            }
        }
        drop(reports);
        while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= Instant::now()) {
            let (way, caller, datagram) = first.remove();
            // Where nobody listens yet, or any more, it is lost.
            let caller = &callers[caller];
            let front = &fronts[caller.front];
            let _ = match way {
                Way::Forth => caller.socket.send_to(&datagram, front.to),
                Way::Back => front.socket.send_to(&datagram, caller.address),
            };
        }
    }
}

/// Wait until something comes or something is due.
fn wait(fronts: &[Front], callers: &[Caller], due: Option<Instant>) {
    let sockets = fronts.iter().map(|front| &front.socket).chain(callers.iter().map(|caller| &caller.socket));
    let mut ready: Vec<_> = sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let most = Duration::from_millis(20);
    let time = due.map_or(most, |due| due.saturating_duration_since(Instant::now()).min(most));
    ppoll(&mut ready, Some(TimeSpec::from_duration(time)), None).expect("ppoll");
}
