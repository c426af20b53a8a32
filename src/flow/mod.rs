//! The corridor: files in the order a packet walks: source, ingest, egress.

mod air;
pub mod analysis;
pub mod cipher;
mod command;
pub mod delay;
pub mod egress;
pub mod failover;
mod gate;
mod handover;
mod history;
mod ingest;
mod load;
mod merge;
mod orders;
pub mod pace;
mod police;
mod port;
mod repacket;
mod ring;
pub mod rist;
pub mod source;
pub mod srt;
pub mod stats;
pub mod tap;
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

use tokio::sync::mpsc::UnboundedSender;

use crate::config::value::{FlowName, Gather};
use crate::io::batch::{ReceiveBatch, SendBatch};
use crate::io::clock::thread_cpu_time;
use crate::io::reactor::{Reactor, Sleep};

use self::air::Air;
pub use self::air::AirConfig;
use self::analysis::Analysis;
use self::cipher::{Decryption, DecryptionStats};
pub use self::command::{FlowCommand, FlowNews, FlowSeed};
use self::egress::{Egress, MediaPacket};
pub use self::handover::FlowState;
pub use self::load::Load;
use self::load::LoadMeter;
pub use self::orders::{Courier, Inbox, Orders, orders};
use self::rist::source::{RistInput, share_asking};
use self::rist::{RistEvent, RistNews};
use self::source::{Input, Source};
use self::srt::{FlowLinks, Multiplexers, Part};
use self::stats::FlowStats;
use self::timeline::Timeline;

/// Most messages of one system call.
const BATCH: usize = 64;
/// What `auto` gives, whatever the load, where a protocol's own buffer hides it.
const HIDDEN: Duration = Duration::from_millis(5);

/// What all flows of one data-plane thread share: its reactor, its buffers, its load.
pub struct ShardContext {
    reactor: Reactor,
    buffers: RefCell<Buffers>,
    multiplexers: Multiplexers,
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
            multiplexers: Multiplexers::default(),
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
    analyse: bool,
    /// Of what a merge gives.
    merged: Analysis,
    timeline: Timeline,
    egress: Egress,
    /// When packets that a protocol's buffer held were last released.
    released: Option<Instant>,
    links: FlowLinks,
    /// When it last was seen to.
    served: Option<Instant>,
    name: FlowName,
    news: UnboundedSender<FlowNews>,
    /// It waits for [`FlowCommand::Resume`] before it reads.
    resumes: bool,
    /// What is about connections, until then.
    held: Vec<FlowCommand>,
}

enum Wake {
    Command(Option<FlowCommand>),
    Service,
}

impl Flow {
    /// A flow without sockets; they come by command.
    pub fn new(seed: FlowSeed, shard: Rc<ShardContext>) -> Self {
        let FlowSeed { name, gather, analyse, stats, commands, news, resumes } = seed;
        Self {
            shard,
            gather,
            stats,
            commands,
            sources: Vec::new(),
            air: Air::Single,
            analyse,
            merged: Analysis::default(),
            timeline: Timeline::default(),
            egress: Egress::default(),
            released: None,
            links: FlowLinks::new(name.clone(), news.clone()),
            served: None,
            name,
            news,
            resumes,
            held: Vec::new(),
        }
    }

    /// Receive → ingest → deliver → timers, until the commands end.
    pub async fn run(mut self) {
        let mut sleep = self.shard.reactor.sleep_until(Instant::now());
        while self.resumes {
            match poll_fn(|cx| self.commands.poll(cx)).await {
                None => return,
                // What they were sent must be there first.
                Some(command) if command.is_about_links() => self.held.push(command),
                Some(command) => self.obey(command),
            }
        }
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
            if self.sources.iter().any(Source::is_ready) || self.egress.rist.is_ready() {
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
        service |= self.links.poll(cx);
        for source in &mut self.sources {
            source.poll_ready(cx);
            service |= source.is_ready();
        }
        self.egress.rist.poll_ready(cx);
        service |= self.egress.rist.is_ready();
        if service { Poll::Ready(Wake::Service) } else { Poll::Pending }
    }

    fn due(&self) -> Option<Instant> {
        let sources = self.sources.iter().filter(|source| source.is_datagrams()).filter_map(Source::due);
        let released = self.sources.iter().filter(|source| source.is_srt()).filter_map(Source::due).min();
        let links = self.links.due(released, self.budget());
        let air = self.air.due().map(|due| match (&self.air, self.released) {
            // One wake a budget releases, as it receives.
            (Air::Merge(_), Some(last)) => due.max(last + self.budget()),
            _ => due,
        });
        let analyses = self.sources.iter().map(|source| &source.analysis).chain([&self.merged]);
        let others = self.egress.due().into_iter().chain(links).chain(self.rist_due());
        sources.chain(air).chain(others).chain(analyses.filter_map(Analysis::due)).min()
    }

    /// When sources and outputs of RIST are to be seen to.
    fn rist_due(&self) -> Option<Instant> {
        let inputs = || self.sources.iter().filter_map(Source::rist);
        let due = inputs().filter_map(RistInput::due).chain(self.egress.rist.due()).min()?;
        let look = inputs().filter_map(RistInput::next_look).chain(self.egress.rist.next_look()).min();
        Some(with_the_next_look(due, look, self.served, self.budget()))
    }

    /// How long packets may gather now.
    fn budget(&self) -> Duration {
        let fec = || self.sources.iter().any(Source::has_fec);
        let rist = || !self.egress.rist.is_empty() || self.sources.iter().any(|source| source.rist().is_some());
        let holds = || self.egress.smooths() || !self.links.is_empty() || fec() || rist();
        let hidden = || matches!(self.air, Air::Merge(_)) || holds();
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
        self.served = Some(now);
        let received = self.links.receive(&mut buffers.receive, budget, now)
            + self.egress.rist.receive(&mut buffers.receive, budget, now);
        shard.packets.set(shard.packets.get() + received);
        for index in 0..self.sources.len() {
            let source = &self.sources[index];
            if source.is_ready() || source.due().is_some_and(|due| due <= now) {
                delivered |= self.serve(index, buffers, budget, now);
            }
        }
        self.air.handle_timeout(now, &self.sources, &self.stats);
        delivered |= self.release(buffers, now);
        self.sources.iter_mut().for_each(|source| source.analysis.handle_timeout(now, &source.stats.analysis));
        self.merged.handle_timeout(now, &self.stats.merge.analysis);
        if !delivered && self.egress.due().is_some_and(|due| due <= now) {
            self.egress.deliver(&[], &mut buffers.send, now);
        }
        self.transmit(&mut buffers.send, now);
        self.transmit_rist(&mut buffers.send, now);
    }

    /// Let all connections send what they have, and hear what became of them.
    fn transmit(&mut self, send: &mut SendBatch, now: Instant) {
        if self.links.is_empty() {
            return;
        }
        self.egress.srt.settle(now);
        self.links.transmit(&self.egress.srt, send, now);
        self.egress.srt.publish(now);
        if self.links.hear() {
            self.egress.srt.settle(now);
            self.sources.iter_mut().for_each(Source::prune);
        }
    }

    /// Let what is by RIST send what it has, and ask for what it needs.
    fn transmit_rist(&mut self, send: &mut SendBatch, now: Instant) {
        let Self { sources, air, egress, name, news, .. } = self;
        // The supervisor is gone only when the process ends.
        let tell = |part, leg, event| _ = news.send(FlowNews::Rist(RistNews { flow: name.clone(), part, leg, event }));
        for source in &mut *sources {
            let Source { name, input: Input::Rist(rist), .. } = source else { continue };
            rist.transmit(send, now);
            rist.publish(now);
            while let Some((leg, event)) = rist.poll_event() {
                tell(Part::Source(name.clone()), leg, event);
            }
        }
        if matches!(air, Air::Merge(_)) {
            share_asking(sources, now);
        }
        egress.rist.transmit(send, now);
        while let Some((name, leg, event)) = egress.rist.poll_event() {
            tell(Part::Output(name.to_owned()), leg, RistEvent::Tunnel(event));
        }
    }

    /// Hand on what a merge has released. Whether there was something.
    fn release(&mut self, buffers: &mut Buffers, now: Instant) -> bool {
        let Self { air, sources, merged, egress, timeline, stats, released, .. } = self;
        let Air::Merge(merge) = air else { return false };
        let mut packets = reuse(std::mem::take(&mut buffers.media));
        merge.collect(&mut packets);
        let some = !packets.is_empty();
        if some {
            *released = Some(now);
            let mut onward = |packets: &mut [MediaPacket<'_>]| {
                merged.packets(packets, Some(now), now);
                deliver(egress, timeline, packets, &mut buffers.send, now, stats);
            };
            match sources.first_mut() {
                // All legs have the same keys.
                Some(Source { decryption, stats, .. }) => {
                    decrypted(decryption, &stats.decryption, &mut packets, onward)
                }
                None => onward(&mut packets),
            }
        }
        buffers.media = reuse(packets);
        merge.recycle();
        some
    }

    /// Read a source, and hand on what its time has come for. Whether something went to the outputs.
    fn serve(&mut self, index: usize, buffers: &mut Buffers, budget: Duration, now: Instant) -> bool {
        let Self { sources, air, timeline, egress, shard, stats, .. } = self;
        let Source { input, decryption, analysis, .. } = &mut sources[index];
        let source = match input {
            Input::Sockets(sockets) => sockets,
            Input::Srt(_) => return self.serve_srt(index, buffers, now),
            Input::Rist(_) => return self.serve_rist(index, buffers, budget, now),
        };
        let mut arrived = reuse(std::mem::take(&mut buffers.datagrams));
        let mut packets = reuse(std::mem::take(&mut buffers.media));
        let mut leg = if let Air::Merge(merge) = air { Some(merge.leg(index, analysis, now)) } else { None };
        source.receive(&mut buffers.receive, &mut arrived, budget, now, leg.as_mut());
        shard.packets.set(shard.packets.get() + arrived.len() as u64);
        // After what has come, by its time of arrival: it may fill the gap whose time is up.
        source.ingest.handle_timeout(now, leg.as_mut());
        source.ingest.collect(&arrived, &mut packets);
        let mut out = false;
        if !packets.is_empty() {
            decrypted(decryption, &source.stats.decryption, &mut packets, |packets| {
                analysis.packets(packets, None, now);
                out = air.takes(index, packets, &source.stats, now);
                if out {
                    deliver(egress, timeline, packets, &mut buffers.send, now, stats);
                }
            });
        }
        buffers.datagrams = reuse(arrived);
        buffers.media = reuse(packets);
        source.recycle(now);
        self.share(index, now);
        out
    }

    /// Read a source of RIST, and hand on what is due. Whether something went to the outputs.
    fn serve_rist(&mut self, index: usize, buffers: &mut Buffers, budget: Duration, now: Instant) -> bool {
        let Self { sources, air, timeline, egress, shard, stats: flow_stats, .. } = self;
        let Source { input: Input::Rist(rist), stats, decryption, analysis, .. } = &mut sources[index] else {
            return false;
        };
        let Buffers { receive, send, media, .. } = buffers;
        let mut delivered = false;
        let buffer = std::mem::take(media);
        let received;
        if let Air::Merge(merge) = air {
            let mut leg = merge.leg(index, analysis, now);
            received = rist.receive(receive, budget, now, Some(&mut leg));
            *media = rist.release(now, buffer, Some(&mut leg), |_| {});
        } else {
            received = rist.receive(receive, budget, now, None);
            *media = rist.release(now, buffer, None, |packets| {
                decrypted(decryption, &stats.decryption, packets, |packets| {
                    analysis.packets(packets, Some(now), now);
                    if air.takes(index, packets, stats, now) {
                        deliver(egress, timeline, packets, send, now, flow_stats);
                        delivered = true;
                    }
                });
            });
        }
        shard.packets.set(shard.packets.get() + received);
        self.share(index, now);
        delivered
    }

    /// Tell sources of RIST in a merge what another source has brought: they need not ask for it.
    fn share(&mut self, index: usize, now: Instant) {
        let Air::Merge(merge) = &mut self.air else { return };
        for (at, source) in self.sources.iter_mut().enumerate() {
            if let (true, Input::Rist(rist)) = (at != index, &mut source.input) {
                rist.have_elsewhere(merge.heard(), now);
            }
        }
        merge.forget_heard();
    }

    /// Hand on what a source of SRT has received and is due. Whether something went to the outputs.
    fn serve_srt(&mut self, index: usize, buffers: &mut Buffers, now: Instant) -> bool {
        let Self { sources, air, timeline, egress, stats: flow_stats, .. } = self;
        let Source { input: Input::Srt(srt), stats, decryption, analysis, .. } = &mut sources[index] else {
            return false;
        };
        let Buffers { send, media, .. } = buffers;
        let mut delivered = false;
        *media = srt.release(now, std::mem::take(media), |packets| {
            decrypted(decryption, &stats.decryption, packets, |packets| {
                analysis.packets(packets, Some(now), now);
                if air.takes(index, packets, stats, now) {
                    deliver(egress, timeline, packets, send, now, flow_stats);
                    delivered = true;
                }
            });
        });
        delivered
    }
}

/// With a gather budget, what is due may wait until the sockets are looked at next: it takes no wake of its own.
fn with_the_next_look(due: Instant, look: Option<Instant>, served: Option<Instant>, budget: Duration) -> Instant {
    if budget.is_zero() { due } else { due.max(look.or(served.map(|served| served + budget)).unwrap_or(due)) }
}

/// Decrypt packets, where they are to be, and hand them on.
fn decrypted(
    decryption: &mut Option<Box<Decryption>>,
    stats: &DecryptionStats,
    packets: &mut [MediaPacket<'_>],
    then: impl FnOnce(&mut [MediaPacket<'_>]),
) {
    match decryption {
        Some(decryption) => decryption.packets(packets, stats, then),
        None => then(packets),
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
