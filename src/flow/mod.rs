//! The corridor: files in the order a packet walks: source, ingest, egress.

pub mod egress;
pub mod failover;
mod ingest;
mod police;
mod repacket;
pub mod source;
pub mod stats;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::config::value::Gather;
use crate::io::batch::{ReceiveBatch, SendBatch};
use crate::io::open::{Receiver, Sender};
use crate::io::reactor::{Reactor, Sleep};

use self::egress::{Egress, MediaPacket, OutputConfig, SenderKey};
use self::source::{Source, SourceConfig};
use self::stats::{OutputStats, SourceStats};

/// What the control plane tells a flow's task.
#[derive(Debug)]
pub enum FlowCommand {
    /// Receive from this socket.
    OpenSource {
        /// The source's name.
        name: String,
        /// What is checked.
        config: SourceConfig,
        /// Open and bound.
        receiver: Receiver,
        /// Where its figures go.
        stats: Arc<SourceStats>,
    },
    /// Change what a source checks.
    RetuneSource(String, SourceConfig),
    /// Close a source's socket, and say so.
    CloseSource(String, oneshot::Sender<()>),
    /// Send from this socket for the outputs with this key.
    AddSender(SenderKey, Sender),
    /// Close that socket, and say so.
    DropSender(SenderKey, oneshot::Sender<()>),
    /// Add an output.
    OpenOutput {
        /// The output's name.
        name: String,
        /// Where and how.
        config: OutputConfig,
        /// For RTP headers made here.
        ssrc: u32,
        /// Where its figures go.
        stats: Arc<OutputStats>,
    },
    /// Change what is on an output's datagrams.
    RetuneOutput(String, OutputConfig),
    /// Remove an output.
    CloseOutput(String),
    /// The gather budget.
    Gather {
        /// How long.
        gather: Gather,
        /// Per source: whether the kernel coalesces.
        gro: bool,
    },
    /// Panic; for tests, in debug builds only.
    Panic,
}

/// What a flow's task is made of.
#[derive(Debug)]
pub struct FlowSeed {
    /// The gather budget.
    pub gather: Gather,
    /// Its orders; it ends when they end.
    pub commands: mpsc::UnboundedReceiver<FlowCommand>,
}

/// Most messages of one system call.
const BATCH: usize = 64;
/// The longest budget that `auto` gives.
const AUTO_LONGEST: Duration = Duration::from_millis(2);
/// How often the load of a shard is measured, at most.
const LOAD_INTERVAL: Duration = Duration::from_millis(100);

/// What all flows of one data-plane thread share: its reactor, its buffers, its load.
pub struct ShardContext {
    reactor: Reactor,
    buffers: RefCell<Buffers>,
    load: Cell<Load>,
}

struct Buffers {
    receive: ReceiveBatch,
    send: SendBatch,
    datagrams: Vec<&'static [u8]>,
    media: Vec<MediaPacket<'static>>,
}

#[derive(Clone, Copy)]
struct Load {
    measured: Instant,
    cpu: Duration,
    auto: Duration,
}

impl ShardContext {
    /// For the thread that calls.
    ///
    /// # Errors
    /// When the reactor can't be had.
    pub fn new() -> std::io::Result<Self> {
        let buffers = Buffers {
            receive: ReceiveBatch::new(BATCH),
            send: SendBatch::new(),
            datagrams: Vec::with_capacity(4096),
            media: Vec::with_capacity(4096),
        };
        let load = Load { measured: Instant::now(), cpu: crate::io::clock::thread_cpu_time(), auto: Duration::ZERO };
        Ok(Self { reactor: Reactor::new()?, buffers: RefCell::new(buffers), load: Cell::new(load) })
    }

    /// The thread's reactor.
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// The budget of `auto` now: none up to half load, then more up to full load.
    fn auto_budget(&self, now: Instant) -> Duration {
        let load = self.load.get();
        let elapsed = now.saturating_duration_since(load.measured);
        if elapsed < LOAD_INTERVAL {
            return load.auto;
        }
        let cpu = crate::io::clock::thread_cpu_time();
        let busy = cpu.saturating_sub(load.cpu).as_secs_f64() / elapsed.as_secs_f64();
        let auto = AUTO_LONGEST.mul_f64(((busy - 0.5) * 2.0).clamp(0.0, 1.0));
        self.load.set(Load { measured: now, cpu, auto });
        auto
    }
}

/// A flow's task: owns its sockets and its state.
pub struct Flow {
    shard: Rc<ShardContext>,
    gather: Gather,
    commands: mpsc::UnboundedReceiver<FlowCommand>,
    sources: Vec<Source>,
    egress: Egress,
    /// When gathered packets are read; `None`: the sources are armed.
    gathering: Option<Instant>,
    /// The last batch was full: more waits already.
    backlog: bool,
}

enum Wake {
    Command(Option<FlowCommand>),
    Readable,
    Timer,
}

impl Flow {
    /// A flow without sockets; they come by command.
    pub fn new(seed: FlowSeed, shard: Rc<ShardContext>) -> Self {
        Self {
            shard,
            gather: seed.gather,
            commands: seed.commands,
            sources: Vec::new(),
            egress: Egress::default(),
            gathering: None,
            backlog: false,
        }
    }

    /// Receive → ingest → deliver → timers, until the commands end.
    pub async fn run(mut self) {
        let mut sleep = self.shard.reactor.sleep_until(Instant::now());
        loop {
            let due = self.due();
            if let Some(due) = due {
                sleep.reset(due);
            }
            match poll_fn(|cx| self.poll_wake(cx, &mut sleep, due.is_some())).await {
                Wake::Command(None) => return,
                Wake::Command(Some(command)) => self.obey(command),
                Wake::Readable => {
                    let now = Instant::now();
                    let budget = self.budget(now);
                    if budget.is_zero() || self.backlog {
                        self.service(now, budget);
                    } else {
                        self.gathering = Some(now + budget);
                    }
                }
                Wake::Timer => {
                    let now = Instant::now();
                    self.service(now, self.budget(now));
                }
            }
            if self.backlog {
                // Other flows of the shard have their turn.
                tokio::task::yield_now().await;
            }
        }
    }

    fn budget(&self, now: Instant) -> Duration {
        match self.gather {
            Gather::For(time) => time,
            Gather::Auto => self.shard.auto_budget(now),
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>, sleep: &mut Sleep, armed: bool) -> Poll<Wake> {
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(Wake::Command(command));
        }
        if armed && Pin::new(sleep).poll(cx).is_ready() {
            return Poll::Ready(Wake::Timer);
        }
        let mut fresh = false;
        for source in &mut self.sources {
            if !source.ready && source.registration.poll_ready(cx).is_ready() {
                source.ready = true;
            }
            fresh |= source.ready;
        }
        if fresh && self.gathering.is_none() { Poll::Ready(Wake::Readable) } else { Poll::Pending }
    }

    fn due(&self) -> Option<Instant> {
        let sources = self.sources.iter().filter_map(|s| s.ingest.due());
        sources.chain(self.gathering).chain(self.egress.due()).min()
    }

    /// One batch of each source that has data, and whatever its time has come for.
    fn service(&mut self, now: Instant, budget: Duration) {
        self.backlog = false;
        let shard = self.shard.clone();
        let mut buffers = shard.buffers.borrow_mut();
        let mut delivered = false;
        for source in &mut self.sources {
            if !source.ready && source.ingest.due().is_none_or(|due| due > now) {
                continue;
            }
            let Buffers { receive, send, datagrams, media } = &mut *buffers;
            let fresh = source.ready;
            if fresh {
                let received = source.receive(receive);
                self.backlog |= received.full;
                // While packets keep coming, one wake a budget serves them; a pause arms the socket again, and the
                // kernel tells at once if more has come since.
                source.ready = received.full || (received.messages > 0 && !budget.is_zero());
                let armed = source.ready || source.arm(budget).is_ok();
                source.ready |= !armed;
            }
            let mut arrived = reuse(std::mem::take(datagrams));
            let mut packets = reuse(std::mem::take(media));
            if fresh {
                source.take_in(receive, &mut arrived, now);
            }
            // After what has come, by its time of arrival: it may fill the gap whose time is up.
            source.ingest.handle_timeout(now);
            source.ingest.collect(&arrived, &mut packets, now);
            self.egress.deliver(&packets, send, now);
            delivered = true;
            *datagrams = reuse(arrived);
            *media = reuse(packets);
            source.ingest.recycle();
        }
        let waits = !self.backlog && self.sources.iter().any(|s| s.ready);
        self.gathering = waits.then_some(now + budget);
        if !delivered && self.egress.due().is_some_and(|due| due <= now) {
            self.egress.deliver(&[], &mut buffers.send, now);
        }
    }

    fn obey(&mut self, command: FlowCommand) {
        match command {
            FlowCommand::OpenSource { name, config, receiver, stats } => {
                match Source::new(name, config, receiver, stats, &self.shard.reactor) {
                    Ok(source) => self.sources.push(source),
                    Err(error) => {
                        tracing::error!(target: "mediaconnect::flow", "a source's socket can't be watched: {error}")
                    }
                }
            }
            FlowCommand::RetuneSource(name, config) => {
                if let Some(source) = self.sources.iter_mut().find(|s| s.name == name) {
                    source.retune(config, Instant::now());
                }
            }
            FlowCommand::CloseSource(name, done) => {
                self.sources.retain(|s| s.name != name);
                // Nobody waits any more when the answer is late.
                let _ = done.send(());
            }
            FlowCommand::AddSender(key, sender) => self.egress.add_sender(key, sender),
            FlowCommand::DropSender(key, done) => {
                self.egress.drop_sender(key);
                let _ = done.send(());
            }
            FlowCommand::OpenOutput { name, config, ssrc, stats } => self.egress.open(name, &config, ssrc, stats),
            FlowCommand::RetuneOutput(name, config) => self.egress.retune(&name, &config),
            FlowCommand::CloseOutput(name) => self.egress.close(&name),
            FlowCommand::Gather { gather, gro } => {
                self.gather = gather;
                self.sources.iter().for_each(|s| s.set_gro(gro));
            }
            FlowCommand::Panic => panic!("asked to, by a test"),
        }
    }
}

/// An empty vector of slices with another lifetime, in the same memory.
fn reuse<'b, A, B>(mut vector: Vec<A>) -> Vec<B>
where
    A: Relative<With<'b> = B>,
{
    vector.clear();
    vector.into_iter().map(|_| unreachable!("it was cleared")).collect()
}

/// A type that is the same but for its lifetime.
trait Relative {
    type With<'b>;
}

impl Relative for &[u8] {
    type With<'b> = &'b [u8];
}

impl Relative for MediaPacket<'_> {
    type With<'b> = MediaPacket<'b>;
}
