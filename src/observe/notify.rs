//! Notifiers: alarms, and events where it is wanted, are told to other systems. On a thread of its own, each notifier with
//! a bounded queue of its own: one that hangs holds up nothing but itself.

mod exec;
mod trap;
mod webhook;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::event::{Event, emit};
use super::feed::{EventType, Next, Reader, Told, feed};
use super::status::NotifierDoc;
use super::text::span;
use crate::config::plan::{NotifierPlan, Way};
use crate::time::Instant;

/// What may wait for one notifier; beyond it the oldest is dropped.
const BOUND: usize = 1000;
/// Between attempts: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Programs and look-ups of names at the same time, of all notifiers.
const THREADS: usize = 16;

/// Why something was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// Another attempt may do.
    Later(String),
    /// None will.
    Never(String),
}

type Plans = BTreeMap<String, NotifierPlan>;
type Figures = Arc<Mutex<BTreeMap<String, NotifierDoc>>>;

/// All notifiers, as they run.
#[derive(Debug)]
pub struct Notifiers {
    plans: watch::Sender<Plans>,
    figures: Figures,
}

impl Notifiers {
    /// Tell what happens from now on.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(plans: &Plans) -> io::Result<Self> {
        let (plans, changed) = watch::channel(plans.clone());
        let (reader, figures) = (feed().reader(false), Figures::default());
        let shared = figures.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(THREADS).build()?;
        let run = move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run(changed, reader, &shared));
            // What is being told or looked up is nobody's any more.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("notify".to_owned()).spawn(run)?;
        Ok(Self { plans, figures })
    }

    /// Go on as these plans say. What waits for a notifier that stays waits on.
    pub fn apply(&self, plans: &Plans) {
        self.plans.send_if_modified(|now| {
            let changed = now != plans;
            if changed {
                now.clone_from(plans);
            }
            changed
        });
    }

    /// What each does.
    pub fn docs(&self) -> BTreeMap<String, NotifierDoc> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn run(mut plans: watch::Receiver<Plans>, mut reader: Reader, figures: &Figures) {
    let mut workers = BTreeMap::new();
    let first = plans.borrow_and_update().clone();
    reconcile(&mut workers, &first, figures);
    loop {
        tokio::select! {
            biased;
            // First: what comes after a change goes by it.
            changed = plans.changed() => match changed {
                Ok(()) => {
                    let now = plans.borrow_and_update().clone();
                    reconcile(&mut workers, &now, figures);
                }
                Err(_) => return,
            },
            () = reader.more() => {}
        }
        loop {
            match feed().next(&mut reader) {
                Next::Event(told) => workers.values().for_each(|worker| worker.offer(&told)),
                Next::Missed(n) => workers.values().for_each(|worker| worker.line.drop_some(n, "they came too fast")),
                Next::Nothing => break,
            }
        }
    }
}

fn reconcile(workers: &mut BTreeMap<String, Worker>, plans: &Plans, figures: &Figures) {
    let wanted = |name: &String| plans.get(name).filter(|plan| plan.enabled);
    workers.retain(|name, _| wanted(name).is_some());
    figures.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| wanted(name).is_some());
    for (name, plan) in plans.iter().filter(|(_, plan)| plan.enabled) {
        let line = match workers.remove(name) {
            Some(worker) if worker.plan == *plan => {
                workers.insert(name.clone(), worker);
                continue;
            }
            Some(worker) => worker.line.clone(),
            None => Rc::new(Line::new(name, figures)),
        };
        line.figure(|doc| plan.way.name().clone_into(&mut doc.way));
        let task = spawn_local(tell_all(plan.clone(), line.clone()));
        workers.insert(name.clone(), Worker { plan: plan.clone(), line, task });
    }
}

/// One notifier.
struct Worker {
    plan: NotifierPlan,
    line: Rc<Line>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    fn offer(&self, told: &Arc<Told>) {
        let wanted = match told.doc.r#type {
            EventType::Raised | EventType::Cleared => {
                told.notify.as_ref().is_none_or(|names| names.contains(&self.line.name))
            }
            // What notifiers do is not told by notifiers: it would never end.
            EventType::Event => self.plan.events && !told.doc.event.starts_with("notifier-"),
        };
        if wanted {
            self.line.push(told.clone());
        }
    }
}

/// What is to be told by one notifier, oldest first.
struct Line {
    name: String,
    waiting: RefCell<VecDeque<Arc<Told>>>,
    more: Notify,
    figures: Figures,
}

impl Line {
    fn new(name: &str, figures: &Figures) -> Self {
        Self { name: name.to_owned(), waiting: RefCell::default(), more: Notify::new(), figures: figures.clone() }
    }

    fn figure(&self, change: impl FnOnce(&mut NotifierDoc)) {
        let mut all = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let doc = all.entry(self.name.clone()).or_default();
        doc.waiting = self.waiting.borrow().len();
        change(doc);
    }

    fn push(&self, told: Arc<Told>) {
        let full = self.waiting.borrow().len() == BOUND;
        if full {
            self.waiting.borrow_mut().pop_front();
        }
        self.waiting.borrow_mut().push_back(told);
        self.more.notify_one();
        if full {
            self.drop_some(1, &format!("more than {BOUND} wait"));
        } else {
            self.figure(|_| {});
        }
    }

    /// Count what is not told, and say so.
    fn drop_some(&self, count: u64, why: &str) {
        self.figure(|doc| doc.dropped += count);
        emit(Event::NotifierDropped { notifier: self.name.clone(), count, why: why.to_owned() });
    }

    /// The oldest; it stays in the line until it is [`Self::done`].
    async fn oldest(&self) -> Arc<Told> {
        loop {
            if let Some(told) = self.waiting.borrow().front() {
                return told.clone();
            }
            self.more.notified().await;
        }
    }

    /// Is it still to be told?
    fn is_oldest(&self, told: &Arc<Told>) -> bool {
        self.waiting.borrow().front().is_some_and(|oldest| Arc::ptr_eq(oldest, told))
    }

    fn done(&self, told: &Arc<Told>) {
        if self.is_oldest(told) {
            self.waiting.borrow_mut().pop_front();
        }
        self.figure(|_| {});
    }
}

/// Tell what waits, one after the other, for ever.
async fn tell_all(plan: NotifierPlan, line: Rc<Line>) {
    let up_since = Instant::now();
    let mut failing: Option<Instant> = None;
    loop {
        let told = line.oldest().await;
        let mut wait = RETRY.0;
        let mut attempts = 0;
        loop {
            let fault = attempt(&plan, &told, up_since).await.err();
            attempts += 1;
            match fault {
                None => {
                    line.figure(|doc| {
                        doc.told += 1;
                        doc.error = None;
                    });
                    if let Some(since) = failing.take() {
                        emit(Event::NotifierBack { notifier: line.name.clone(), after: since.elapsed() });
                    }
                    break;
                }
                Some(Fault::Later(error)) if !exec::gives_up(&plan.way, attempts) => {
                    line.figure(|doc| {
                        doc.failures += 1;
                        doc.error = Some(error.clone());
                    });
                    if failing.is_none() {
                        failing = Some(Instant::now());
                        emit(Event::NotifierFailed { notifier: line.name.clone(), error });
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                    // It may have been dropped for want of room.
                    if !line.is_oldest(&told) {
                        break;
                    }
                }
                Some(Fault::Later(error) | Fault::Never(error)) => {
                    line.figure(|doc| {
                        doc.failures += 1;
                        doc.error = Some(error.clone());
                    });
                    line.drop_some(1, &error);
                    break;
                }
            }
        }
        line.done(&told);
    }
}

async fn attempt(plan: &NotifierPlan, told: &Arc<Told>, up_since: Instant) -> Result<(), Fault> {
    let telling = async {
        match &plan.way {
            Way::Webhook(url) => webhook::post(url, told).await,
            Way::SnmpTrap(to) => trap::send(to, told, up_since).await,
            Way::Exec(_) => Ok(()),
        }
    };
    if let Way::Exec(command) = &plan.way {
        // It sees to its own time: nothing must be left running.
        return exec::run(command.clone(), told.clone(), plan.timeout).await;
    }
    let late = |_| Err(Fault::Later(format!("not done within {}", span(plan.timeout))));
    tokio::time::timeout(plan.timeout, telling).await.unwrap_or_else(late)
}
