//! All connections of one flow.

use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::output::SrtOutputs;
use super::transmit::transmit;
use super::{Bell, Keks, Link, LinkNews, LinkSeed, LinkState, Multiplexer, Part};
use crate::config::value::FlowName;
use crate::flow::{FlowNews, ShardContext, with_the_next_look};
use crate::io::batch::{ReceiveBatch, SendBatch};
use crate::time::Instant;

/// The connections of a flow, of its sources and its outputs.
pub(in crate::flow) struct FlowLinks {
    flow: FlowName,
    /// Those of one socket behind each other.
    links: Vec<Rc<Link>>,
    multiplexers: Vec<Rc<Multiplexer>>,
    bell: Rc<Bell>,
    news: UnboundedSender<FlowNews>,
    /// When they were last seen to.
    served: Option<Instant>,
    /// For control packets in the making.
    control: Vec<u8>,
}

impl FlowLinks {
    pub(in crate::flow) fn new(flow: FlowName, news: UnboundedSender<FlowNews>) -> Self {
        Self {
            flow,
            links: Vec::new(),
            multiplexers: Vec::new(),
            bell: Rc::default(),
            news,
            served: None,
            control: Vec::new(),
        }
    }

    /// Whether there is none.
    pub(in crate::flow) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether something came for one of them.
    pub(in crate::flow) fn poll(&self, cx: &Context<'_>) -> bool {
        !self.links.is_empty() && self.bell.poll(cx)
    }

    /// When they are to be seen to, or the first of what they received is due (`release`). With a gather budget that may
    /// wait for the next look at the sockets, and takes no wake of its own.
    pub(in crate::flow) fn due(&self, release: Option<Instant>, budget: Duration) -> Option<Instant> {
        let due = self.links.iter().filter_map(|link| link.due()).chain(release).min()?;
        let look = self.multiplexers.iter().filter_map(|multiplexer| multiplexer.next_look()).min();
        Some(with_the_next_look(due, look, self.served, budget))
    }

    /// Begin a connection.
    ///
    /// # Errors
    /// Where descriptors have run out.
    pub(in crate::flow) fn open(
        &mut self,
        part: Part,
        seed: LinkSeed,
        shard: &Rc<ShardContext>,
        budget: Duration,
        options: (Option<u8>, u8),
        now: Instant,
    ) -> std::io::Result<Rc<Link>> {
        let multiplexer = shard.multiplexers.of(&seed.endpoint, shard)?;
        if !self.multiplexers.iter().any(|known| Rc::ptr_eq(known, &multiplexer)) {
            self.multiplexers.push(multiplexer.clone());
        }
        let place = self.links.iter().rposition(|link| Rc::ptr_eq(&link.multiplexer, &multiplexer));
        let link = Link::open(part, seed, multiplexer, self.bell.clone(), budget, options, now);
        self.links.insert(place.map_or(self.links.len(), |place| place + 1), link.clone());
        Ok(link)
    }

    /// What goes on of them in the next process.
    pub(in crate::flow) fn suspend(&mut self, now: Instant) -> Vec<LinkState> {
        // Other flows on them are suspended next.
        self.multiplexers.drain(..).for_each(|multiplexer| multiplexer.stop());
        self.links.drain(..).filter_map(|link| link.suspend(now)).collect()
    }

    /// End a connection.
    pub(in crate::flow) fn close(&self, number: u64) {
        self.links.iter().filter(|link| link.stats.number == number).for_each(|link| link.close());
    }

    /// Keys that a connection asked for.
    pub(in crate::flow) fn provide(&self, keks: &Keks, now: Instant) {
        let links = self.links.iter().filter(|link| link.stats.number == keks.peer);
        links.for_each(|link| link.provide_keks(&keks.keks, now));
    }

    /// Take in what has come. How many datagrams there were, of other flows too.
    pub(in crate::flow) fn receive(&mut self, batch: &mut ReceiveBatch, budget: Duration, now: Instant) -> u64 {
        if self.links.is_empty() {
            return 0;
        }
        self.served = Some(now);
        let received = self.multiplexers.iter().map(|multiplexer| multiplexer.receive_ready(batch)).sum();
        for link in &self.links {
            link.set_budget(budget);
            link.handle_timeout(now);
        }
        received
    }

    /// Let all of them send what they have.
    pub(in crate::flow) fn transmit(&mut self, outputs: &SrtOutputs, send: &mut SendBatch, now: Instant) {
        transmit(&self.links, outputs.histories(), send, &mut self.control, now, |link, dropped, error| {
            outputs.fault(link, dropped, error, now);
        });
    }

    /// Tell what happened to them. Whether some are over.
    pub(in crate::flow) fn hear(&mut self) -> bool {
        for link in &self.links {
            while let Some(what) = link.poll_event() {
                // The supervisor is gone only when the process ends.
                let (flow, part, peer) = (self.flow.clone(), link.part.clone(), link.stats.clone());
                let _ = self.news.send(FlowNews::Link(LinkNews { flow, part, peer, what }));
            }
        }
        let before = self.links.len();
        self.links.retain(|link| !link.is_over());
        let some = self.links.len() < before;
        if some {
            let links = &self.links;
            self.multiplexers.retain(|known| links.iter().any(|link| Rc::ptr_eq(&link.multiplexer, known)));
        }
        some
    }
}
