//! The overview as server-sent events: made once for all who listen, and only while somebody does.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Place, Pulse, View};
use crate::observe::status::OverviewDoc;
use crate::time::Instant;

/// How often an overview is sent.
const EVERY: Duration = Duration::from_secs(1);
/// How soon one is sent if conditions changed.
const LOOK: Duration = Duration::from_millis(100);

/// The makers of events, and those who take them.
pub(super) struct Feed {
    view: Rc<dyn View>,
    /// A listener that is slow misses events, and gets the newest: none of them waits here.
    newest: watch::Sender<Bytes>,
    runs: Rc<Cell<bool>>,
}

impl Feed {
    pub(super) fn new(view: Rc<dyn View>) -> Self {
        Self { view, newest: watch::Sender::new(Bytes::new()), runs: Rc::default() }
    }

    /// An overview with all there is to know now, and then the events as they are made. Must be called within a
    /// [`tokio::task::LocalSet`]. The place is held as long.
    pub(super) fn listen(&self, place: Place) -> mpsc::Receiver<Bytes> {
        let (to, events) = mpsc::channel(1);
        let mut newest = self.newest.subscribe();
        if !self.runs.replace(true) {
            tokio::task::spawn_local(make(
                self.view.clone(),
                self.view.pulse(),
                self.newest.clone(),
                self.runs.clone(),
            ));
        }
        let first = event(&self.view.overview(true));
        tokio::task::spawn_local(async move {
            let (mut next, _place) = (first, place);
            loop {
                let gone = to.closed();
                tokio::select! {
                    sent = to.send(next) => if sent.is_err() { return },
                    () = gone => return,
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = to.closed() => return,
                }
                next = newest.borrow_and_update().clone();
            }
        });
        events
    }
}

/// Make events until nobody listens.
async fn make(view: Rc<dyn View>, mut told: Pulse, newest: watch::Sender<Bytes>, runs: Rc<Cell<bool>>) {
    let mut sent = Instant::now();
    while newest.receiver_count() > 0 {
        sleep(LOOK).await;
        let pulse = view.pulse();
        if pulse == told && sent.elapsed() < EVERY {
            continue;
        }
        sent = Instant::now();
        let Pulse { generation, .. } = std::mem::replace(&mut told, pulse);
        newest.send_replace(event(&view.overview(pulse.generation != generation)));
    }
    runs.set(false);
}

fn event(overview: &OverviewDoc) -> Bytes {
    let mut text = b"event: overview\ndata: ".to_vec();
    // Nothing in it can't be written as JSON, which has no line breaks.
    let _ = serde_json::to_writer(&mut text, overview);
    text.extend_from_slice(b"\n\n");
    Bytes::from(text)
}
