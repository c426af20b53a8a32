//! The thread that answers calls: cookies, who may come in, passphrases. What takes long here holds up no packet of a
//! connection, and a flood of calls fills a socket of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::desk::{Desk, Register};
use super::door::{Door, Rules, reject};
use super::terms;
use crate::config::secrets::KeyFile;
use crate::flow::FlowCommand;
use crate::flow::srt::stats::{PeerStats, Phase};
use crate::flow::srt::{LinkSeed, Opening};
use crate::io::batch::{ReceiveBatch, SendBatch, Target, TrainLimit};
use crate::io::clock::Stamps;
use crate::io::endpoint::Endpoint;
use crate::io::reactor::Reactor;
use crate::observe::condition::Refusal;
use crate::proto::srt::crypto::Kek;
use crate::proto::srt::handshake::Reject;
use crate::proto::srt::listener::{Answer, CallId, Conclusion, Listener};
use crate::proto::srt::negotiated::Negotiated;
use crate::proto::srt::packet::stamp;
use crate::proto::srt::seq::{SocketId, Timestamp};
use crate::proto::srt::terms::Terms;
use crate::time::Instant;

/// How long a caller may still repeat a call that was answered.
const REPEATS: Duration = Duration::from_secs(10);
/// Keys that are derived for one address at once, and again each second: a host of many receivers calls with all of them
/// at once when it starts.
const DERIVED_BY_ONE: f64 = 32.0;
/// The same for all together: less than a third of a core.
const DERIVED_BY_ALL: f64 = 512.0;
/// Addresses whose calls are counted; more of them share what all may.
const ADDRESSES: usize = 4096;

/// Who can be reached at a port.
#[derive(Default)]
pub(super) struct Doors {
    pub(super) list: Mutex<Vec<Arc<Door>>>,
    /// Where those are received who call for an entitlement.
    pub(super) desk: Mutex<Option<Arc<Desk>>>,
}

enum Order {
    Open { number: u64, endpoint: Arc<Endpoint>, doors: Arc<Doors> },
    Close { number: u64, done: oneshot::Sender<()> },
}

/// The thread. Dropping it ends it.
pub(super) struct Answerer {
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
    opened: u64,
}

impl Answerer {
    /// Start it.
    ///
    /// # Errors
    /// When a thread or its reactor can't be had.
    pub(super) fn start() -> std::io::Result<Self> {
        let (orders, inbox) = unbounded_channel();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("srt-calls".to_owned()).spawn(move || {
            let reactor = match Reactor::new() {
                Ok(reactor) => reactor,
                Err(error) => return drop(started.send(Err(error))),
            };
            // Nobody waits for it when the daemon gave up meanwhile.
            let _ = started.send(Ok(()));
            if let Err(error) = reactor.run(serve(reactor.clone(), inbox), |_| {}) {
                tracing::error!(target: "mediaconnect::srt", "calls by SRT can't be waited for: {error}");
            }
        })?;
        start.recv().map_err(std::io::Error::other)??;
        Ok(Self { orders: Some(orders), thread: Some(thread), opened: 0 })
    }

    /// Answer calls at this socket. A number for [`Self::close`].
    pub(super) fn open(&mut self, endpoint: Arc<Endpoint>, doors: Arc<Doors>) -> u64 {
        self.opened += 1;
        self.order(Order::Open { number: self.opened, endpoint, doors });
        self.opened
    }

    /// Answer no more. The socket is closed when this has answered.
    pub(super) fn close(&self, number: u64) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close { number, done });
        closed
    }

    fn order(&self, order: Order) {
        // A thread that is gone has said so.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself when its orders end.
            let _ = thread.join();
        }
    }
}

async fn serve(reactor: Reactor, mut orders: UnboundedReceiver<Order>) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    let mut ports: HashMap<u64, tokio::task::JoinHandle<()>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Open { number, endpoint, doors } => {
                let port = answer(reactor.clone(), endpoint, doors, shared.clone());
                ports.insert(number, tokio::task::spawn_local(port));
            }
            Order::Close { number, done } => {
                if let Some(port) = ports.remove(&number) {
                    port.abort();
                    // What it has is dropped then.
                    let _ = port.await;
                }
                // Nobody may wait for it.
                let _ = done.send(());
            }
        }
    }
}

/// What all ports of the thread share.
#[derive(Default)]
struct Shared {
    receive: ReceiveBatch,
    send: SendBatch,
    budget: Budget,
}

async fn answer(reactor: Reactor, endpoint: Arc<Endpoint>, doors: Arc<Doors>, shared: Rc<RefCell<Shared>>) {
    let registration = match reactor.register(&endpoint) {
        Ok(registration) => registration,
        Err(error) => {
            tracing::error!(target: "mediaconnect::srt", "a port of SRT can't be watched: {error}");
            return;
        }
    };
    let Some(mut port) = Port::new(endpoint, doors) else { return };
    loop {
        registration.ready().await;
        while port.serve(&mut shared.borrow_mut()) {
            reactor.yield_turn().await;
        }
    }
}

/// One port.
struct Port {
    endpoint: Arc<Endpoint>,
    listener: Listener,
    doors: Arc<Doors>,
    answered: HashMap<CallId, Answered>,
    /// For socket numbers.
    calls: u32,
}

/// A call that was let in.
struct Answered {
    reply: Vec<u8>,
    start: Instant,
    at: Instant,
    peer: Arc<PeerStats>,
}

/// What is sent back.
struct Reply {
    to: SocketAddr,
    from: Option<IpAddr>,
    packet: Vec<u8>,
}

impl Port {
    fn new(endpoint: Arc<Endpoint>, doors: Arc<Doors>) -> Option<Self> {
        let mut secret = [0; 64];
        if let Err(error) = getrandom::fill(&mut secret) {
            tracing::error!(target: "mediaconnect::srt", "no random numbers, so no calls are answered: {error}");
            return None;
        }
        let calls = u32::from_be_bytes([secret[0], secret[1], secret[2], secret[3]]);
        let listener = Listener::new(&secret, Instant::now());
        Some(Self { endpoint, listener, doors, answered: HashMap::new(), calls })
    }

    /// Answer one batch. Whether more waits.
    fn serve(&mut self, shared: &mut Shared) -> bool {
        let Shared { receive, send, budget } = shared;
        // A socket's error is that of an earlier datagram.
        let received = receive.receive(&self.endpoint).unwrap_or_default();
        let now = Instant::now();
        let mut stamps = Stamps::new();
        self.listener.set_key_length(self.desk().and_then(|desk| desk.register().key_length));
        let mut replies = Vec::new();
        for datagram in receive.datagrams() {
            let arrival = stamps.moment(datagram.arrival, now);
            let packet = match self.listener.handle_datagram(now, arrival, datagram.source, datagram.payload) {
                Answer::Send(packet) => Some(packet),
                Answer::Refuse(reject, packet) => {
                    self.refuse_all(datagram.source, Refusal::Protocol(reject.to_string()), None);
                    Some(packet)
                }
                Answer::Conclude(conclusion) => self.conclude(&conclusion, datagram.local, budget, now),
                Answer::Ignore(_) => None,
            };
            replies.extend(packet.map(|packet| Reply { to: datagram.source, from: datagram.local, packet }));
        }
        self.answered.retain(|_, answered| now - answered.at < REPEATS && answered.peer.phase() != Phase::Over);
        self.send(&replies, send);
        received.full
    }

    fn send(&self, replies: &[Reply], send: &mut SendBatch) {
        let targets: Vec<_> = replies
            .iter()
            .map(|reply| Target::from_endpoint(&self.endpoint, reply.to, reply.from, (None, 0)))
            .collect();
        let mut session = send.session();
        for (reply, target) in replies.iter().zip(&targets) {
            session.begin(TrainLimit::SINGLE);
            session.push(&[], &reply.packet);
            let train = session.finish();
            session.message(target, train, 0);
        }
        // What the kernel does not take, the caller asks for again.
        session.flush(self.endpoint.sender(), |_| {});
    }

    fn doors(&self) -> Vec<Arc<Door>> {
        self.doors.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn desk(&self) -> Option<Arc<Desk>> {
        self.doors.desk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It can't be said which of them was meant.
    fn refuse_all(&self, from: SocketAddr, why: Refusal, stream_id: Option<&str>) {
        self.doors().iter().for_each(|door| door.refuse(from, why.clone(), stream_id));
        self.desk().iter().for_each(|desk| desk.refuse(&desk.register(), from, &why, stream_id));
    }

    /// Somebody wants in. What it is told; `None`: nothing here, either for now or because its flow does.
    fn conclude(
        &mut self,
        conclusion: &Conclusion,
        local: Option<IpAddr>,
        budget: &mut Budget,
        now: Instant,
    ) -> Option<Vec<u8>> {
        if let Some(answered) = self.answered.get_mut(&conclusion.id()) {
            stamp(&mut answered.reply, Timestamp::after(now - answered.start));
            return Some(answered.reply.clone());
        }
        let stream_id = conclusion.stream_id();
        let doors = self.doors();
        let meant = |door: &&Arc<Door>| {
            door.rules().pattern.as_ref().is_none_or(|pattern| pattern.matches(stream_id.unwrap_or_default()))
        };
        let Some(door) = doors.iter().find(meant) else {
            if let Some(desk) = self.desk() {
                return self.receive(&desk, conclusion, local, budget, now);
            }
            self.refuse_all(conclusion.peer(), Refusal::StreamId, stream_id);
            return Some(conclusion.reject(now, reject(&Refusal::StreamId)));
        };
        match self.admit(door, conclusion, budget, now) {
            Ok(Some((negotiated, passphrase, in_place_of))) => {
                let peer = PeerStats::new(conclusion.peer(), passphrase);
                self.let_in(door, conclusion.id(), (negotiated, peer), in_place_of, local, now);
                None
            }
            // It calls again in a quarter of a second.
            Ok(None) => None,
            Err(why) => {
                let told = reject(&why);
                door.refuse(conclusion.peer(), why, stream_id);
                Some(conclusion.reject(now, told))
            }
        }
    }

    /// Somebody calls for an entitlement. What it is told, as in [`Self::conclude`].
    fn receive(
        &mut self,
        desk: &Desk,
        conclusion: &Conclusion,
        local: Option<IpAddr>,
        budget: &mut Budget,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let register = desk.register();
        match self.entitle(&register, conclusion, budget, now) {
            Ok(Some((door, negotiated, peer))) => {
                self.let_in(&door, conclusion.id(), (negotiated, peer), None, local, now);
                None
            }
            // It calls again in a quarter of a second.
            Ok(None) => None,
            Err(why) => {
                desk.refuse(&register, conclusion.peer(), &why, conclusion.stream_id());
                Some(conclusion.reject(now, reject(&why)))
            }
        }
    }

    /// Whether a caller gets the entitlement that it calls for; `None`: that can't be said yet.
    fn entitle(
        &mut self,
        register: &Register,
        conclusion: &Conclusion,
        budget: &mut Budget,
        now: Instant,
    ) -> Result<Option<(Arc<Door>, Negotiated, PeerStats)>, Refusal> {
        let caller = register.caller(conclusion.stream_id(), conclusion.peer().ip())?;
        let Some((passphrase, kek)) = unlock(conclusion, &caller.subscriber.passphrases, budget, now)? else {
            return Ok(None);
        };
        let Some(door) = register.admit(&caller, SystemTime::now())? else { return Ok(None) };
        let terms = self.terms(door, &door.rules(), now);
        let negotiated = conclusion.accept_encrypted(&terms, Some(&kek)).map_err(not_spoken)?;
        let peer =
            PeerStats::of_subscriber(conclusion.peer(), Some(passphrase), Some(caller.subscriber.name.as_str().into()));
        Ok(Some((door.clone(), negotiated, peer)))
    }

    /// Whether a caller may come in by this door; `None`: too many keys were asked for lately.
    #[expect(clippy::type_complexity, reason = "what comes of it, whose passphrase it is, whose place it takes")]
    fn admit(
        &mut self,
        door: &Door,
        conclusion: &Conclusion,
        budget: &mut Budget,
        now: Instant,
    ) -> Result<Option<(Negotiated, Option<KeyFile>, Option<u64>)>, Refusal> {
        let (rules, from) = (door.rules(), conclusion.peer().ip());
        if rules.allow.as_ref().is_some_and(|list| !list.iter().any(|net| net.contains(&from))) {
            return Err(Refusal::Address);
        }
        // Before the passphrase: that is what costs.
        let in_place_of = door.room(rules.most)?;
        let terms = self.terms(door, &rules, now);
        if rules.passphrases.is_empty() {
            let negotiated = conclusion.accept(&terms).map_err(|_| Refusal::PassphraseUnexpected)?;
            return Ok(Some((negotiated, None, in_place_of)));
        }
        let Some((passphrase, kek)) = unlock(conclusion, &rules.passphrases, budget, now)? else { return Ok(None) };
        let negotiated = conclusion.accept_encrypted(&terms, Some(&kek)).map_err(not_spoken)?;
        Ok(Some((negotiated, Some(passphrase), in_place_of)))
    }

    /// For a connection more by this door.
    fn terms(&mut self, door: &Door, rules: &Rules, now: Instant) -> Terms {
        self.calls = self.calls.wrapping_add(1);
        let local = SocketId(door.place << terms::PLACE_SHIFT | self.calls & terms::CALL_MASK);
        terms::terms(local, rules.latency, now)
    }

    fn let_in(
        &mut self,
        door: &Door,
        call: CallId,
        (negotiated, peer): (Negotiated, PeerStats),
        in_place_of: Option<u64>,
        local: Option<IpAddr>,
        now: Instant,
    ) {
        let peer = Arc::new(peer);
        if let (Some(reply), start) = (negotiated.reply.clone(), negotiated.start) {
            self.answered.insert(call, Answered { reply, start, at: now, peer: peer.clone() });
        }
        door.roster.add(peer.clone());
        if let Some(silent) = in_place_of {
            if let Some(silent) = door.roster.peer(silent) {
                silent.close_because(format!("it was silent, and {} takes its place", call.peer));
            }
            door.courier.send(FlowCommand::CloseLink(silent));
        }
        let latency = negotiated.receive_latency.max(negotiated.send_latency);
        let config = terms::connection(latency, door.rules().km_refresh);
        let seed = LinkSeed {
            endpoint: door.endpoint.clone(),
            remote: call.peer,
            local,
            opening: Opening::Accepted(Box::new(negotiated)),
            config,
            stats: peer,
        };
        door.courier.send(FlowCommand::OpenLink(door.part.clone(), Box::new(seed)));
    }
}

/// Which of these passphrases the caller's is, and the key of it; `None`: too many keys were asked for lately.
fn unlock(
    conclusion: &Conclusion,
    passphrases: &[KeyFile],
    budget: &mut Budget,
    now: Instant,
) -> Result<Option<(KeyFile, Kek)>, Refusal> {
    if conclusion.key_material().is_none() {
        return Err(Refusal::NoPassphrase);
    }
    for passphrase in passphrases {
        if !budget.take(conclusion.peer().ip(), now) {
            return Ok(None);
        }
        let Some(kek) = conclusion.derive(passphrase.secret().bytes()) else { break };
        if conclusion.unlocks(&kek) {
            return Ok(Some((passphrase.clone(), kek)));
        }
    }
    Err(Refusal::WrongPassphrase)
}

fn not_spoken(reject: Reject) -> Refusal {
    Refusal::Protocol(reject.to_string())
}

/// How many keys may be derived: by each address, and by all.
#[derive(Default)]
struct Budget {
    all: Option<Bucket>,
    each: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, rate: f64, now: Instant) {
        self.tokens = (self.tokens + (now - self.filled).as_secs_f64() * rate).min(rate);
        self.filled = now;
    }
}

impl Budget {
    /// One more for this address, if it may.
    fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let fresh = |tokens| Bucket { tokens, filled: now };
        let all = self.all.get_or_insert(fresh(DERIVED_BY_ALL));
        all.fill(DERIVED_BY_ALL, now);
        if self.each.len() >= ADDRESSES {
            self.each.retain(|_, bucket| {
                bucket.fill(DERIVED_BY_ONE, now);
                bucket.tokens < DERIVED_BY_ONE
            });
        }
        if self.each.len() >= ADDRESSES && !self.each.contains_key(&address) {
            return false;
        }
        let each = self.each.entry(address).or_insert(fresh(DERIVED_BY_ONE));
        each.fill(DERIVED_BY_ONE, now);
        let may = all.tokens >= 1.0 && each.tokens >= 1.0;
        if may {
            all.tokens -= 1.0;
            each.tokens -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_derives_no_more_keys_than_it_may_and_all_together_not_either() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let taken =
            |budget: &mut Budget, n: u32, now: Instant| (0..1000).filter(|_| budget.take(address(n), now)).count();
        assert_eq!(taken(&mut budget, 1, now), 32);
        assert_eq!(taken(&mut budget, 2, now), 32, "another one is none the worse");
        assert_eq!(taken(&mut budget, 1, now + Duration::from_millis(500)), 16);
        let later = now + Duration::from_secs(10);
        assert_eq!((10..1000).map(|n| taken(&mut budget, n, later)).sum::<usize>(), 512);
        for n in 0..20_000 {
            budget.take(address(n), later + Duration::from_millis(n.into()));
        }
        assert!(budget.each.len() <= ADDRESSES);
    }
}
