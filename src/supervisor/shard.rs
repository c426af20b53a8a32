//! Data-plane threads: each runs its flows' tasks, and nothing of the control plane.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::service::Heartbeat;
use crate::config::plan::Limits;
use crate::config::value::FlowName;
use crate::flow::{Flow, FlowSeed, Load, ShardContext};
use crate::io::thread::pin_current_thread;
use crate::observe::event::{Event, emit};

/// What the names of the threads begin with.
pub(super) const THREAD: &str = "shard-";

/// Loads of threads count as the same up to this many thousandths.
const SAME_LOAD: u64 = 50;

/// How a flow's task ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which flow.
    pub(super) flow: FlowName,
    /// Which run of it: the number given to [`Shards::spawn`].
    pub(super) run: u64,
    /// What the panic said; `None`: it was told to stop.
    pub(super) panic: Option<String>,
}

enum Order {
    Spawn { flow: FlowName, run: u64, seed: Box<FlowSeed>, flows: Arc<AtomicUsize> },
    Beat,
}

struct Shard {
    orders: mpsc::UnboundedSender<Order>,
    flows: Arc<AtomicUsize>,
    load: Arc<Load>,
    heartbeat: Heartbeat,
    thread: Option<JoinHandle<()>>,
}

/// All data-plane threads. Dropping it ends them.
pub(super) struct Shards {
    shards: Vec<Shard>,
    unpinned: Vec<(u16, String)>,
}

impl Shards {
    /// Start as many threads as `limits` say, each on its CPU. Ends of flow tasks are told to `ended`.
    ///
    /// # Errors
    /// When a thread or its reactor can't be had.
    pub(super) fn start(limits: &Limits, ended: &mpsc::UnboundedSender<Ended>) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut this = Self { shards: Vec::new(), unpinned: Vec::new() };
        for n in 0..limits.threads(cores) {
            let (shard, refused) = Shard::start(n, limits.cpu_of(n), ended.clone())?;
            this.shards.push(shard);
            if let Some((cpu, error)) = &refused {
                emit(Event::WorkerUnpinned { cpu: *cpu, error: error.clone() });
            }
            this.unpinned.extend(refused);
        }
        Ok(this)
    }

    /// The CPUs that could not be had, once for each thread that was to run there, and why.
    pub(super) fn unpinned(&self) -> &[(u16, String)] {
        &self.unpinned
    }

    /// How many threads there are.
    pub(super) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Run a flow's task on the thread of this number, or where that thread now is if there are fewer; `None`: on the one
    /// with the least load, and of those with about the same the one with the fewest flows. The thread's number.
    pub(super) fn spawn(&self, flow: FlowName, run: u64, on: Option<usize>, seed: FlowSeed) -> usize {
        let weight = |(_, s): &(usize, &Shard)| (s.load.permille() / SAME_LOAD, s.flows.load(Ordering::Relaxed));
        let wanted = on.and_then(|on| self.shards.iter().enumerate().nth(on % self.shards.len().max(1)));
        let chosen = wanted.or_else(|| self.shards.iter().enumerate().min_by_key(weight));
        let Some((number, shard)) = chosen else { return 0 };
        shard.flows.fetch_add(1, Ordering::Relaxed);
        let order = Order::Spawn { flow, run, seed: Box::new(seed), flows: shard.flows.clone() };
        // A thread that is gone shows in its missing heartbeats.
        let _ = shard.orders.send(order);
        number
    }

    /// Ask every thread for a sign of life.
    pub(super) fn ask_beat(&self) {
        for shard in &self.shards {
            let _ = shard.orders.send(Order::Beat);
        }
    }

    /// What each thread answers with.
    pub(super) fn heartbeats(&self) -> impl Iterator<Item = Heartbeat> {
        self.shards.iter().map(|s| s.heartbeat.clone())
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            let (closed, _) = mpsc::unbounded_channel();
            shard.orders = closed;
        }
        for shard in &mut self.shards {
            if let Some(thread) = shard.thread.take() {
                // It ends by itself when its orders end; a panic has been reported by its hook.
                let _ = thread.join();
            }
        }
    }
}

impl Shard {
    /// A thread on `cpu`; beside it that CPU and the reason, if it could not be had.
    fn start(
        number: usize,
        cpu: Option<u16>,
        ended: mpsc::UnboundedSender<Ended>,
    ) -> std::io::Result<(Self, Option<(u16, String)>)> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let heartbeat = Heartbeat::default();
        let pulse = heartbeat.clone();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("{THREAD}{number}")).spawn(move || {
            let refused = cpu.and_then(|cpu| Some((cpu, pin_current_thread(cpu).err()?.to_string())));
            // Without it, timers are tens of microseconds later; all else works.
            let _ = crate::io::clock::set_precise_timeouts();
            let context = match ShardContext::new() {
                Ok(context) => Rc::new(context),
                Err(error) => return drop(started.send(Err(error))),
            };
            // Nobody waits for it when the daemon gave up meanwhile.
            let _ = started.send(Ok((context.load(), refused)));
            // A task of its own: what `run` is given itself is polled at each wake of any flow.
            let orders = serve(context.clone(), inbox, pulse, ended);
            if let Err(error) = context.run(async { tokio::task::spawn_local(orders).await }) {
                // No flow here would ever wake again: without heartbeats the watchdog has the service restarted.
                tracing::error!(target: "mediaconnect::daemon", "a data-plane thread can't wait for packets: {error}");
            }
        })?;
        let (load, unpinned) = start.recv().map_err(std::io::Error::other)??;
        Ok((Self { orders, flows: Arc::default(), load, heartbeat, thread: Some(thread) }, unpinned))
    }
}

async fn serve(
    context: Rc<ShardContext>,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    pulse: Heartbeat,
    ended: mpsc::UnboundedSender<Ended>,
) {
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Beat => pulse.beat(),
            Order::Spawn { flow, run, seed, flows } => {
                let task = tokio::task::spawn_local(Flow::new(*seed, context.clone()).run());
                let ended = ended.clone();
                tokio::task::spawn_local(async move {
                    let panic = task.await.err().map(|e| panic_text(e.try_into_panic().ok()));
                    flows.fetch_sub(1, Ordering::Relaxed);
                    // The supervisor is gone only when the process ends.
                    let _ = ended.send(Ended { flow, run, panic });
                });
            }
        }
    }
}

fn panic_text(payload: Option<Box<dyn std::any::Any + Send>>) -> String {
    let text = payload.as_ref().and_then(|p| {
        p.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| p.downcast_ref::<String>().cloned())
    });
    text.unwrap_or_else(|| "cancelled".to_owned())
}
