//! All that a flow's connections have to send, in as few system calls as there are sockets.

use std::rc::Rc;

use super::{Link, Multiplexer};
use crate::flow::history::Histories;
use crate::io::batch::{Outcome, Report, SendBatch, SendError, TrainLimit};
use crate::time::Instant;

/// Most packets to one peer as one message.
const TRAIN: TrainLimit = TrainLimit::new(24);
/// Most links in one go: what is encrypted for them stays in the processor's cache until it is sent.
const LINKS: usize = 32;

/// Let links transmit. `control` is memory to be used again; `account` hears what the kernel did not take.
pub(in crate::flow) fn transmit(
    links: &[Rc<Link>],
    histories: &Histories,
    batch: &mut SendBatch,
    control: &mut Vec<u8>,
    now: Instant,
    mut account: impl FnMut(&Link, u32, SendError),
) {
    let mut rest = links;
    while let Some(first) = rest.first() {
        let multiplexer: &Multiplexer = &first.multiplexer;
        let same = rest.iter().take(LINKS).take_while(|link| std::ptr::eq(&*link.multiplexer, multiplexer)).count();
        let (now_links, later) = rest.split_at(same);
        rest = later;
        let mut session = batch.session();
        for (link, tag) in now_links.iter().zip(0u32..) {
            session.begin(TRAIN);
            link.transmit(now, histories.get(link.variant.get()), &mut session, control);
            let trains = session.finish();
            if !trains.is_empty() {
                session.message(&link.target.borrow(), trains, tag);
            }
        }
        session.flush(multiplexer.endpoint.sender(), |report| {
            let Report::Message { tag, outcome: Outcome { dropped, error, segmentation_refused, .. } } = report else {
                return;
            };
            let Some(link) = now_links.get(tag as usize) else { return };
            if segmentation_refused {
                link.target.borrow().refuse_segmentation();
            }
            if let Some(error) = error {
                link.stats.send_errors.add(dropped.into());
                account(link, dropped, error);
            }
        });
    }
}
