//! The corridor: files in the order a packet walks: source, ingest, egress.

pub mod delay;
pub mod egress;
pub mod failover;
mod ingest;
mod load;
pub mod pace;
mod police;
mod repacket;
pub mod source;
pub mod stats;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::config::value::Gather;
use crate::io::batch::{ReceiveBatch, SendBatch};
use crate::io::clock::thread_cpu_time;
use crate::io::open::{Receiver, Sender};
use crate::io::reactor::{Reactor, Sleep};

use self::egress::{Egress, MediaPacket, OutputConfig, SenderKey};
use self::failover::{Return, Triggers};
pub use self::load::Load;
use self::load::LoadMeter;
use self::source::{Source, SourceConfig};
use self::stats::{FlowStats, OutputStats, SourceStats};

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
        /// Of an `rtp-fec` source: for its column FEC, then for its row FEC.
        fec: Option<[Receiver; 2]>,
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
    /// How its sources become one stream.
    Air(AirConfig),
    /// An operator puts a source on air; `None`: the operator's word is over.
    Switch(Option<String>),
    /// Panic; for tests, in debug builds only.
    Panic,
}

/// How a flow's sources become one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AirConfig {
    /// One is on air, the others stand by.
    Failover {
        /// The preferred one, by name.
        primary: Option<String>,
        /// How it comes back.
        back: Return,
        /// What makes a source unfit.
        triggers: Triggers,
    },
    /// All carry the same RTP packets (ST 2022-7).
    Merge {
        /// How far they may lie apart, and the delay added.
        window: Duration,
    },
}

/// What a flow's task is made of.
#[derive(Debug)]
pub struct FlowSeed {
    /// The gather budget.
    pub gather: Gather,
    /// Where its own figures go.
    pub stats: Arc<FlowStats>,
    /// Its orders; it ends when they end.
    pub commands: mpsc::UnboundedReceiver<FlowCommand>,
}

/// Most messages of one system call.
const BATCH: usize = 64;

/// What all flows of one data-plane thread share: its reactor, its buffers, its load.
pub struct ShardContext {
    reactor: Reactor,
    buffers: RefCell<Buffers>,
    meter: RefCell<LoadMeter>,
    packets: Cell<u64>,
    load: Arc<Load>,
}

struct Buffers {
    receive: ReceiveBatch,
    send: SendBatch,
    datagrams: Vec<&'static [u8]>,
    media: Vec<MediaPacket<'static>>,
}

impl ShardContext {
    /// For the thread that calls.
    ///
    /// # Errors
    /// When the reactor can't be had.
    pub fn new() -> io::Result<Self> {
        let buffers = Buffers {
            receive: ReceiveBatch::new(BATCH),
            send: SendBatch::new(),
            datagrams: Vec::with_capacity(4096),
            media: Vec::with_capacity(4096),
        };
        Ok(Self {
            reactor: Reactor::new()?,
            buffers: RefCell::new(buffers),
            meter: RefCell::new(LoadMeter::new(Instant::now(), thread_cpu_time())),
            packets: Cell::new(0),
            load: Arc::default(),
        })
    }

    /// Run `main`, which spawns the tasks of flows with [`tokio::task::spawn_local`], until it ends.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for packets; none in practice.
    pub fn run<F: Future>(&self, main: F) -> io::Result<F::Output> {
        self.reactor.run(main, |now| {
            let mut meter = self.meter.borrow_mut();
            if meter.due(now) {
                meter.measure(now, thread_cpu_time(), self.packets.get(), &self.load);
            }
        })
    }

    /// The thread's load.
    pub fn load(&self) -> Arc<Load> {
        self.load.clone()
    }
}

/// A flow's task: owns its sockets and its state.
pub struct Flow {
    shard: Rc<ShardContext>,
    gather: Gather,
    stats: Arc<FlowStats>,
    commands: mpsc::UnboundedReceiver<FlowCommand>,
    sources: Vec<Source>,
    egress: Egress,
}

enum Wake {
    Command(Option<FlowCommand>),
    Service,
}

impl Flow {
    /// A flow without sockets; they come by command.
    pub fn new(seed: FlowSeed, shard: Rc<ShardContext>) -> Self {
        let FlowSeed { gather, stats, commands } = seed;
        Self { shard, gather, stats, commands, sources: Vec::new(), egress: Egress::default() }
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
                Wake::Service => self.service(Instant::now()),
            }
            if self.sources.iter().any(|s| s.ready) {
                // A batch was full, so more waits. First all others of the shard.
                self.shard.reactor.yield_turn().await;
            }
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>, sleep: &mut Sleep, armed: bool) -> Poll<Wake> {
        if let Poll::Ready(command) = self.commands.poll_recv(cx) {
            return Poll::Ready(Wake::Command(command));
        }
        let mut service = armed && Pin::new(sleep).poll(cx).is_ready();
        for source in &mut self.sources {
            source.ready |= source.registration.poll_ready(cx).is_ready();
            service |= source.ready;
        }
        if service { Poll::Ready(Wake::Service) } else { Poll::Pending }
    }

    fn due(&self) -> Option<Instant> {
        let sources = self.sources.iter().filter_map(|s| s.ingest.due());
        sources.chain(self.egress.due()).min()
    }

    /// One batch of each source that has data, and whatever its time has come for.
    fn service(&mut self, now: Instant) {
        let shard = self.shard.clone();
        let budget = match self.gather {
            Gather::For(time) => time,
            Gather::Auto => shard.meter.borrow().budget(),
        };
        self.stats.budget.set(budget.as_nanos() as u64);
        let mut buffers = shard.buffers.borrow_mut();
        let mut delivered = false;
        for source in &mut self.sources {
            if !source.ready && source.ingest.due().is_none_or(|due| due > now) {
                continue;
            }
            let Buffers { receive, send, datagrams, media } = &mut *buffers;
            let fresh = source.ready;
            if fresh {
                let received = source.receive(receive, budget);
                // What comes from here on is told by the registration.
                source.ready = received.full;
            }
            let mut arrived = reuse(std::mem::take(datagrams));
            let mut packets = reuse(std::mem::take(media));
            if fresh {
                source.take_in(receive, &mut arrived, now);
                shard.packets.set(shard.packets.get() + arrived.len() as u64);
            }
            // After what has come, by its time of arrival: it may fill the gap whose time is up.
            source.ingest.handle_timeout(now);
            source.ingest.collect(&arrived, &mut packets, now);
            self.egress.deliver(&packets, send, now);
            delivered = true;
            if !self.egress.is_empty() {
                let sent = Instant::now();
                packets.iter().for_each(|p| self.stats.delays.record(sent.saturating_duration_since(p.arrival)));
            }
            *datagrams = reuse(arrived);
            *media = reuse(packets);
            source.ingest.recycle();
        }
        if !delivered && self.egress.due().is_some_and(|due| due <= now) {
            self.egress.deliver(&[], &mut buffers.send, now);
        }
    }

    fn obey(&mut self, command: FlowCommand) {
        match command {
            FlowCommand::OpenSource { name, config, receiver, stats, .. } => {
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
            FlowCommand::Air(_) | FlowCommand::Switch(_) => todo!("with the sources"),
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
