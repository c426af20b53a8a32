//! The events of late, as documents for those who follow them: a ring that all readers share. A reader is only a place
//! in it, so that a slow one costs nothing, and is told what it missed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::Level;

use super::log::Record;
use super::status::Severity;
use super::text::{cut, hostname};

/// Events that are kept.
const KEPT: usize = 1024;

/// A message longer than this, in bytes, is cut: a document fits a pipe, and into a datagram.
const LONGEST: usize = 4096;

/// An event as `/v1/events` and notifiers tell it. What does not apply is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EventDoc {
    /// Of an event its own; of an alarm the same when it is raised and when it is cleared.
    pub id: String,
    /// RFC 3339 in UTC, to the millisecond.
    pub time: String,
    /// What this is.
    pub r#type: EventType,
    /// The kind, in the words of AWS's EventBridge.
    pub detail_type: String,
    /// The event's stable name, as in the journal's `MEDIACONNECT_EVENT`.
    pub event: String,
    /// How bad.
    pub severity: Severity,
    /// The flow it is about.
    pub flow: Option<String>,
    /// The source it is about.
    pub source: Option<String>,
    /// The output it is about.
    pub output: Option<String>,
    /// The alarm's name.
    pub alarm: Option<String>,
    /// In words.
    pub message: String,
    /// The figure that an alarm is about, in its base unit.
    pub value: Option<f64>,
    /// What the figure is held against.
    pub threshold: Option<f64>,
    /// The name of this host.
    pub host: String,
}

/// The `type` of an [`EventDoc`], and the `event:` of a server-sent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// An alarm began.
    #[serde(rename = "alarm.raised")]
    Raised,
    /// An alarm ended.
    #[serde(rename = "alarm.cleared")]
    Cleared,
    /// Something happened.
    #[serde(rename = "event")]
    Event,
}

impl EventType {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raised => "alarm.raised",
            Self::Cleared => "alarm.cleared",
            Self::Event => "event",
        }
    }
}

/// An event in the ring.
#[derive(Debug)]
pub struct Told {
    /// Its number since the start, from 1.
    pub number: u64,
    /// What it says.
    pub doc: EventDoc,
    /// The notifiers that are told of an alarm; `None`: all.
    pub notify: Option<Vec<String>>,
}

/// What a reader finds at its place.
#[derive(Debug, Clone)]
pub enum Next {
    /// The next event.
    Event(Arc<Told>),
    /// So many events are forgotten by now: the reader was too slow, or came too late.
    Missed(u64),
    /// None yet.
    Nothing,
}

struct Ring {
    kept: VecDeque<Arc<Told>>,
    /// Of the newest event.
    newest: u64,
}

/// The ring.
pub struct Feed {
    /// Tells the events of this run of the daemon from those of another.
    run: String,
    host: String,
    ring: Mutex<Ring>,
    alarms: AtomicU64,
    newest: watch::Sender<u64>,
}

/// A place in the ring.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The last event that was read.
    after: u64,
    newest: watch::Receiver<u64>,
}

/// The feed of this process.
pub fn feed() -> &'static Feed {
    static FEED: OnceLock<Feed> = OnceLock::new();
    FEED.get_or_init(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Feed::new(format!("{:x}", since.as_millis()), hostname())
    })
}

impl Feed {
    fn new(run: String, host: String) -> Self {
        let ring = Mutex::new(Ring { kept: VecDeque::new(), newest: 0 });
        Self { run, host, ring, alarms: AtomicU64::new(0), newest: watch::Sender::new(0) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of an event by its number: `RUN-NUMBER`.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// An id that no other alarm has: `RUN-aNUMBER`.
    pub fn new_alarm_id(&self) -> String {
        format!("{}-a{}", self.run, self.alarms.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn publish(&self, record: &Record) -> Arc<Told> {
        let mut ring = self.ring();
        ring.newest += 1;
        let number = ring.newest;
        let notify = record.alarm.as_ref().and_then(|alarm| alarm.1.notify.clone());
        let told = Arc::new(Told { number, doc: self.doc(record, number), notify });
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(told.clone());
        // Within the lock: a reader that is woken finds it.
        self.newest.send_replace(number);
        told
    }

    fn doc(&self, record: &Record, number: u64) -> EventDoc {
        let field = |name| record.field(name).map(str::to_owned);
        let (what, alarm) = record.alarm.as_deref().map(|(what, alarm)| (*what, alarm)).unzip();
        EventDoc {
            id: alarm.map_or_else(|| self.id(number), |alarm| alarm.id.clone()),
            time: humantime::format_rfc3339_millis(record.time).to_string(),
            r#type: what.unwrap_or(EventType::Event),
            detail_type: detail_type(record).to_owned(),
            event: field("event").unwrap_or_default(),
            severity: match (alarm, record.level) {
                (Some(alarm), _) => alarm.severity,
                (None, Level::ERROR) => Severity::Major,
                (None, Level::WARN) => Severity::Minor,
                (None, _) => Severity::Info,
            },
            flow: field("flow"),
            source: field("source"),
            output: field("output"),
            alarm: field("alarm"),
            message: cut(&record.line(), LONGEST).to_owned(),
            value: alarm.and_then(|alarm| alarm.value),
            threshold: alarm.and_then(|alarm| alarm.threshold),
            host: self.host.clone(),
        }
    }

    /// A reader of what comes from now on; `replay`: of what is kept, too.
    pub fn reader(&self, replay: bool) -> Reader {
        let newest = self.newest.subscribe();
        let after = if replay { self.oldest() - 1 } else { *newest.borrow() };
        Reader { after, newest }
    }

    /// A reader of what comes after the event of this id. One of another run of the daemon is before all that is kept.
    pub fn reader_after(&self, id: &str) -> Reader {
        let number = id.rsplit_once('-').filter(|(run, _)| *run == self.run).and_then(|(_, n)| n.parse::<u64>().ok());
        let mut reader = self.reader(true);
        if let Some(number) = number {
            let newest = *reader.newest.borrow();
            reader.after = number.min(newest);
        }
        reader
    }

    /// The number of the oldest event that is kept, or of the first to come.
    fn oldest(&self) -> u64 {
        let ring = self.ring();
        ring.kept.front().map_or(ring.newest + 1, |oldest| oldest.number)
    }

    /// What is at the reader's place; it moves on.
    pub fn next(&self, reader: &mut Reader) -> Next {
        let ring = self.ring();
        let Some(oldest) = ring.kept.front().map(|oldest| oldest.number) else { return Next::Nothing };
        if reader.after + 1 < oldest {
            let missed = oldest - 1 - reader.after;
            reader.after = oldest - 1;
            return Next::Missed(missed);
        }
        let at = usize::try_from(reader.after + 1 - oldest).unwrap_or(usize::MAX);
        let Some(told) = ring.kept.get(at) else { return Next::Nothing };
        reader.after = told.number;
        Next::Event(told.clone())
    }
}

impl Reader {
    /// Wait until there is more.
    pub async fn more(&mut self) {
        let after = self.after;
        if self.newest.wait_for(|newest| *newest > after).await.is_err() {
            // The feed lives as long as the process.
            std::future::pending().await
        }
    }
}

/// AWS's word for it, where there is one: EventBridge events of MediaConnect.
fn detail_type(record: &Record) -> &'static str {
    let name = record.field("event").unwrap_or_default();
    match name {
        "alarm-raised" | "alarm-cleared" => "MediaConnect Alert",
        "failover-switched" | "source-on-air" | "legs-not-identical" | "leg-rejoined" => "MediaConnect Flow Health",
        _ if name.starts_with("content-") => "MediaConnect Flow Content Quality",
        "thumbnail-failed" | "thumbnail-back" => "MediaConnect Flow Health",
        _ if name.starts_with("flow-") => "MediaConnect Flow Status Change",
        _ if record.field("source").is_some() => "MediaConnect Source Health",
        _ if record.field("output").is_some() => "MediaConnect Output Health",
        "restart-needed" | "frozen" | "thawed" | "operator-command" => "MediaConnect Config Change",
        _ if name.starts_with("config-") => "MediaConnect Config Change",
        _ => "MediaConnect Appliance Status Change",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::event::Event;

    fn feed() -> Feed {
        Feed::new("a".into(), "relay-1".into())
    }

    fn publish(feed: &Feed, source: &str) {
        let after = std::time::Duration::from_secs(1);
        let event = Event::SourceBack { flow: "news".parse().unwrap(), source: source.into(), after };
        feed.publish(&Record::of(&event));
    }

    fn read(feed: &Feed, reader: &mut Reader) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match feed.next(reader) {
                Next::Event(told) => all.push(told.doc.source.clone().unwrap()),
                Next::Missed(n) => all.push(format!("missed {n}")),
                Next::Nothing => return all,
            }
        }
    }

    #[test]
    fn a_reader_starts_at_the_end_at_the_beginning_or_after_an_id() {
        let feed = feed();
        ["a", "b", "c"].iter().for_each(|source| publish(&feed, source));
        let (mut now, mut all, mut after) = (feed.reader(false), feed.reader(true), feed.reader_after("a-2"));
        publish(&feed, "d");
        assert_eq!(read(&feed, &mut now), ["d"]);
        assert_eq!(read(&feed, &mut all), ["a", "b", "c", "d"]);
        assert_eq!(read(&feed, &mut after), ["c", "d"]);
        assert_eq!(read(&feed, &mut feed.reader_after("a-4")), Vec::<String>::new());
        for other_run in ["b-3", "3", "", "a-x"] {
            assert_eq!(read(&feed, &mut feed.reader_after(other_run)).len(), 4, "{other_run}");
        }
    }

    #[test]
    fn an_id_that_is_yet_to_come_is_taken_for_the_newest() {
        let feed = feed();
        publish(&feed, "a");
        let mut reader = feed.reader_after("a-99");
        publish(&feed, "b");
        assert_eq!(read(&feed, &mut reader), ["b"]);
    }

    #[test]
    fn a_reader_too_slow_is_told_how_many_it_missed() {
        let feed = feed();
        let mut reader = feed.reader(true);
        (0..KEPT + 3).for_each(|n| publish(&feed, &n.to_string()));
        let all = read(&feed, &mut reader);
        assert_eq!((all[0].as_str(), all[1].as_str(), all.len()), ("missed 3", "3", KEPT + 1));
    }

    #[tokio::test]
    async fn a_reader_at_the_end_is_woken() {
        let feed = feed();
        let mut reader = feed.reader(false);
        publish(&feed, "a");
        reader.more().await;
        assert_eq!(read(&feed, &mut reader), ["a"]);
    }

    #[test]
    fn a_document_has_the_fields_of_the_contract() {
        let feed = feed();
        publish(&feed, "a");
        let Next::Event(told) = feed.next(&mut feed.reader(true)) else { panic!("nothing published") };
        let mut doc = serde_json::to_value(&told.doc).unwrap();
        let time = doc["time"].take();
        assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok());
        let expected = serde_json::json!({
            "id": "a-1", "time": null, "type": "event", "detail-type": "MediaConnect Source Health",
            "event": "source-back", "severity": "info", "flow": "news", "source": "a", "output": null, "alarm": null,
            "message": "news/a is back after 1s", "value": null, "threshold": null, "host": "relay-1",
        });
        assert_eq!(doc, expected);
    }
}
