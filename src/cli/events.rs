//! `events`: what happened of late, and what happens.

use std::time::Duration;

use super::client::Client;
use super::text::{Paint, Style, clean, print, print_error, word};
use super::{Code, Failure};
use crate::observe::feed::{EventDoc, EventType};

/// Until a daemon that has gone is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Print what the daemon keeps; `follow`: and what comes, also from a daemon that is restarted meanwhile.
pub(super) async fn run(client: &Client, follow: bool, json: bool) -> Result<Code, Failure> {
    let mut printer = Printer { json, style: Style::of_stdout(), last: None };
    let path = if follow { "/v1/events?replay=true" } else { "/v1/events?follow=false" };
    client.stream(path, None, &mut |text| printer.take(text)).await?;
    if !follow {
        return Ok(Code::Yes);
    }
    let mut said = false;
    loop {
        let last = printer.last.clone();
        match client.stream(path, last.as_deref(), &mut |text| printer.take(text)).await {
            Ok(()) => said = false,
            Err(failure) if !said => {
                print_error(&format!("mediaconnectctl: {}\n", clean(&failure.message)));
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

struct Printer {
    json: bool,
    style: Style,
    /// The id of the last event.
    last: Option<String>,
}

impl Printer {
    /// One message of the stream, without the empty line that ends it.
    fn take(&mut self, message: &str) {
        let (mut id, mut data) = (None, None);
        for line in message.lines() {
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("data", value)) => data = Some(value),
                _ => {}
            }
        }
        let Some(data) = data else { return };
        self.last = id.or(self.last.take());
        if self.json {
            return print(&format!("{data}\n"));
        }
        match serde_json::from_str::<EventDoc>(data) {
            Ok(doc) => print(&line(&doc, self.style)),
            // Not an event: the daemon says that it keeps some no longer.
            Err(_) => print_error(&format!("mediaconnectctl: events are missing: {}\n", clean(data))),
        }
    }
}

/// Time, how bad, what.
fn line(doc: &EventDoc, style: Style) -> String {
    let (of, paint) = match doc.r#type {
        EventType::Cleared => ("cleared".to_owned(), Paint::Good),
        EventType::Raised | EventType::Event => (word(doc.severity), Paint::of(doc.severity)),
    };
    format!("{}  {}  {}\n", clean(&doc.time), style.paint(paint, &format!("{of:<8}")), clean(&doc.message))
}
