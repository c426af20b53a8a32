//! The corridor: files in the order a packet walks: source, ingest, egress.

mod air;
pub mod delay;
pub mod egress;
pub mod failover;
mod ingest;
mod load;
mod merge;
mod orders;
pub mod pace;
mod police;
mod repacket;
pub mod source;
pub mod stats;
mod timeline;

use crate::time::Instant;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::value::Gather;
use crate::io::batch::{ReceiveBatch, SendBatch};
use crate::io::clock::thread_cpu_time;
use crate::io::open::Sender;
use crate::io::reactor::{Reactor, Sleep};

use self::air::Air;
pub use self::air::AirConfig;
use self::egress::{Egress, MediaPacket, OutputConfig, SenderKey};
pub use self::load::Load;
use self::load::LoadMeter;
pub use self::orders::{Inbox, Orders, orders};
use self::source::{Receivers, Source, SourceConfig};
use self::stats::{FlowStats, OutputStats, SourceStats};
use self::timeline::Timeline;

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
        receivers: Receivers,
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

/// What a flow's task is made of.
#[derive(Debug)]
pub struct FlowSeed {
    /// The gather budget.
    pub gather: Gather,
    /// Where its own figures go.
    pub stats: Arc<FlowStats>,
    /// Its orders; it ends when they end.
    pub commands: Inbox,
}

/// Most messages of one system call.
const BATCH: usize = 64;
/// What `auto` gives, whatever the load, where a protocol's own buffer hides it.
const HIDDEN: Duration = Duration::from_millis(5);

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
    commands: Inbox,
    sources: Vec<Source>,
    air: Air,
    timeline: Timeline,
    egress: Egress,
    /// When packets that a protocol's buffer held were last released.
    released: Option<Instant>,
}

enum Wake {
    Command(Option<FlowCommand>),
    Service,
}

impl Flow {
    /// A flow without sockets; they come by command.
    pub fn new(seed: FlowSeed, shard: Rc<ShardContext>) -> Self {
        let FlowSeed { gather, stats, commands } = seed;
        Self {
            shard,
            gather,
            stats,
            commands,
            sources: Vec::new(),
            air: Air::Single,
            timeline: Timeline::default(),
            egress: Egress::default(),
            released: None,
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
                Wake::Service => self.service(Instant::now()),
            }
            if self.sources.iter().any(Source::is_ready) {
                // A batch was full, so more waits. First all others of the shard.
                self.shard.reactor.yield_turn().await;
            }
        }
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>, sleep: &mut Sleep, armed: bool) -> Poll<Wake> {
        if let Poll::Ready(command) = self.commands.poll(cx) {
            return Poll::Ready(Wake::Command(command));
        }
        let mut service = armed && Pin::new(sleep).poll(cx).is_ready();
        for source in &mut self.sources {
            source.poll_ready(cx);
            service |= source.is_ready();
        }
        if service { Poll::Ready(Wake::Service) } else { Poll::Pending }
    }

    fn due(&self) -> Option<Instant> {
        let sources = self.sources.iter().filter_map(Source::due);
        let air = self.air.due().map(|due| match (&self.air, self.released) {
            // One wake a budget releases, as it receives.
            (Air::Merge(_), Some(last)) => due.max(last + self.budget()),
            _ => due,
        });
        sources.chain(air).chain(self.egress.due()).min()
    }

    /// How long packets may gather now.
    fn budget(&self) -> Duration {
        let fec = || self.sources.iter().any(Source::has_fec);
        let hidden = || matches!(self.air, Air::Merge(_)) || self.egress.smooths() || fec();
        match self.gather {
            Gather::For(time) => time,
            Gather::Auto if hidden() => HIDDEN,
            Gather::Auto => self.shard.meter.borrow().budget(),
        }
    }

    /// One batch of each socket that has data, and whatever its time has come for.
    fn service(&mut self, now: Instant) {
        let shard = self.shard.clone();
        let budget = self.budget();
        self.stats.budget.set(budget.as_nanos() as u64);
        let buffers = &mut *shard.buffers.borrow_mut();
        let mut delivered = false;
        for index in 0..self.sources.len() {
            let source = &self.sources[index];
            if source.is_ready() || source.due().is_some_and(|due| due <= now) {
                delivered |= self.serve(index, buffers, budget, now);
            }
        }
        self.air.handle_timeout(now, &self.sources, &self.stats);
        delivered |= self.release(buffers, now);
        if !delivered && self.egress.due().is_some_and(|due| due <= now) {
            self.egress.deliver(&[], &mut buffers.send, now);
        }
    }

    /// Hand on what a merge has released. Whether there was something.
    fn release(&mut self, buffers: &mut Buffers, now: Instant) -> bool {
        let Air::Merge(merge) = &mut self.air else { return false };
        let mut packets = reuse(std::mem::take(&mut buffers.media));
        merge.collect(&mut packets);
        let some = !packets.is_empty();
        if some {
            self.released = Some(now);
            deliver(&mut self.egress, &mut self.timeline, &mut packets, &mut buffers.send, now, &self.stats);
        }
        buffers.media = reuse(packets);
        merge.recycle();
        some
    }

    /// Read a source, and hand on what its time has come for. Whether something went to the outputs.
    fn serve(&mut self, index: usize, buffers: &mut Buffers, budget: Duration, now: Instant) -> bool {
        let Self { sources, air, timeline, egress, shard, stats, .. } = self;
        let source = &mut sources[index];
        let mut arrived = reuse(std::mem::take(&mut buffers.datagrams));
        let mut packets = reuse(std::mem::take(&mut buffers.media));
        let mut leg = if let Air::Merge(merge) = air { Some(merge.leg(index)) } else { None };
        source.receive(&mut buffers.receive, &mut arrived, budget, now, leg.as_mut());
        shard.packets.set(shard.packets.get() + arrived.len() as u64);
        // After what has come, by its time of arrival: it may fill the gap whose time is up.
        source.ingest.handle_timeout(now, leg.as_mut());
        source.ingest.collect(&arrived, &mut packets);
        let out = !packets.is_empty()
            && match air {
                Air::Standby(standby) => standby.packets(index, &mut packets, source, now),
                Air::Single | Air::Merge(_) => true,
            };
        if out {
            deliver(egress, timeline, &mut packets, &mut buffers.send, now, stats);
        }
        buffers.datagrams = reuse(arrived);
        buffers.media = reuse(packets);
        source.recycle(now);
        out
    }

    fn obey(&mut self, command: FlowCommand) {
        match command {
            FlowCommand::OpenSource { name, config, receivers, stats } => {
                match Source::new(name, config, receivers, stats, &self.shard.reactor) {
                    Ok(source) => {
                        self.sources.push(source);
                        self.air.push(&mut self.sources, Instant::now());
                    }
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
                if let Some(index) = self.sources.iter().position(|s| s.name == name) {
                    self.sources.remove(index);
                    self.air.remove(index, Instant::now());
                }
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
            FlowCommand::Air(config) => {
                let now = Instant::now();
                if let (Air::Merge(merge), false) = (&mut self.air, matches!(config, AirConfig::Merge { .. })) {
                    merge.flush();
                    let shard = self.shard.clone();
                    self.release(&mut shard.buffers.borrow_mut(), now);
                }
                self.air.retune(config, &mut self.sources, now);
            }
            FlowCommand::Switch(name) => {
                let index = name.and_then(|name| self.sources.iter().position(|s| s.name == name));
                self.air.switch(index, Instant::now());
            }
            FlowCommand::Panic => panic!("asked to, by a test"),
        }
    }
}

/// Put packets in the flow's time, send them to all outputs, and note how long they took.
fn deliver(
    egress: &mut Egress,
    timeline: &mut Timeline,
    packets: &mut [MediaPacket<'_>],
    send: &mut SendBatch,
    now: Instant,
    stats: &FlowStats,
) {
    timeline.place(packets, now);
    egress.deliver(packets, send, now);
    if !egress.is_empty() {
        let sent = Instant::now();
        packets.iter().for_each(|p| stats.delays.record(sent.saturating_duration_since(p.arrival)));
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
