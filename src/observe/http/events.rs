//! `/v1/events`: the feed as server-sent events (WHATWG HTML, section 9.2).

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use hyper::header::HeaderMap;

use super::Place;
use crate::observe::feed::{Next, Reader, Told, feed};

/// A comment is sent after so long without an event: a connection that is gone is noticed, by both ends.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What is sent at once, about, in bytes.
const BATCH: usize = 16 * 1024;
/// When a follower that lost its connection shall come back.
const GREETING: &str = "retry: 2000\n\n";

/// What a follower asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Following {
    /// Go on with what happens from now on; else end after what is kept.
    pub(super) follow: bool,
    /// Begin with what is kept.
    pub(super) replay: bool,
}

type Wait = Pin<Box<dyn Future<Output = (Reader, bool)>>>;

/// The body of an answer that goes on.
pub(super) struct Events {
    /// `None` while it is in `wait`.
    reader: Option<Reader>,
    wait: Option<Wait>,
    follow: bool,
    greeting: bool,
    _place: Place,
}

impl Events {
    /// `Last-Event-ID` says more than `asked.replay`.
    pub(super) fn new(asked: Following, headers: &HeaderMap, place: Place) -> Self {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let reader = match last {
            Some(id) => feed().reader_after(id.trim()),
            None => feed().reader(asked.replay || !asked.follow),
        };
        Self { reader: Some(reader), wait: None, follow: asked.follow, greeting: true, _place: place }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut text = String::new();
        if std::mem::take(&mut self.greeting) {
            text.push_str(GREETING);
        }
        loop {
            if let Some(wait) = &mut self.wait {
                let (reader, more) = ready!(wait.as_mut().poll(cx));
                (self.reader, self.wait) = (Some(reader), None);
                if !more {
                    text.push_str(":\n\n");
                }
            }
            let Some(mut reader) = self.reader.take() else { return Poll::Ready(None) };
            while text.len() < BATCH && write_next(&mut text, &mut reader) {}
            if !text.is_empty() {
                self.reader = Some(reader);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))));
            }
            if !self.follow {
                return Poll::Ready(None);
            }
            self.wait = Some(Box::pin(async move {
                let more = tokio::time::timeout(HEARTBEAT, reader.more()).await.is_ok();
                (reader, more)
            }));
        }
    }
}

/// Whether there was something.
fn write_next(to: &mut String, reader: &mut Reader) -> bool {
    match feed().next(reader) {
        Next::Event(told) => write_event(to, &told),
        Next::Missed(n) => {
            // Writing to a String cannot fail.
            let _ = write!(to, "event: missed\ndata: {{\"missed\":{n}}}\n\n");
        }
        Next::Nothing => return false,
    }
    true
}

fn write_event(to: &mut String, told: &Told) {
    // A document of texts and numbers can be written; JSON has no line breaks.
    let data = serde_json::to_string(&told.doc).unwrap_or_default();
    let _ = write!(to, "id: {}\nevent: {}\ndata: {data}\n\n", feed().id(told.number), told.doc.r#type.name());
}
