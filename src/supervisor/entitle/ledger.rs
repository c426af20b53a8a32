//! Every session of a subscriber, from its beginning to its end: told, and put down.
//!
//! A session ends here when its connection is over, whoever ended it and whatever became of its flow: so each that begins
//! also ends, once, and with all that it carried.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::day::{Account, Day, Holder, date_and_slot};
use crate::audit::{self, Audit, Record};
use crate::config::value::FlowName;
use crate::flow::srt::stats::{PeerStats, Phase};
use crate::flow::srt::{LinkEvent, LinkNews, Part};
use crate::observe::event::{Event, emit};
use crate::supervisor::srt::{end_in_words, terms};
use crate::supervisor::store::replace;
use crate::time::Instant;

/// How often the running day is kept for a restart.
const KEEP: Duration = Duration::from_secs(60);
/// Days whose files could not be written that are remembered.
const MOST_DAYS: usize = 31;
/// What a session carries is a mean over this time.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// A connection of a subscriber.
#[derive(Debug)]
struct Session {
    flow: FlowName,
    holder: Holder,
    peer: Arc<PeerStats>,
    began: Instant,
    /// What it had carried then.
    before: u64,
    /// Until when it is put down, and what it had carried then.
    counted: (Instant, u64),
    /// What it had carried at times of late.
    lately: VecDeque<(Instant, u64)>,
}

impl Session {
    fn bytes(&self) -> u64 {
        self.peer.figures().0.sent.bytes
    }

    fn record(&self) -> audit::Session {
        let Holder { flow, entitlement, subscriber } = self.holder.clone();
        audit::Session { flow, entitlement, subscriber, peer: self.peer.address }
    }

    /// What it carries, and over which time that is known.
    fn rate(&self) -> (u64, Duration) {
        let ends = self.lately.front().zip(self.lately.back());
        let Some((span, bytes)) = ends.map(|((began, before), (at, bytes))| (*at - *began, bytes - before)) else {
            return (0, Duration::ZERO);
        };
        (bytes.saturating_mul(8_000) / (span.as_millis() as u64).max(1), span)
    }
}

/// All sessions, and the accounts of the day.
#[derive(Debug)]
pub(in crate::supervisor) struct Ledger {
    /// By the connection's number.
    sessions: BTreeMap<u64, Session>,
    today: Day,
    /// Days that are over, and have no file yet.
    over: Vec<Day>,
    /// Since the daemon started.
    totals: BTreeMap<Holder, Account>,
    /// Where the running day is kept for a restart.
    kept_at: PathBuf,
    /// Where the files of days are written.
    log_dir: PathBuf,
    keep_due: Instant,
    changed: bool,
    audit: Arc<Audit>,
    /// What can't be written, and why.
    pub(in crate::supervisor) error: Option<(PathBuf, String)>,
}

impl Ledger {
    /// With what was kept in the state directory.
    pub(in crate::supervisor) fn open(state_dir: &Path, log_dir: &Path, audit: Arc<Audit>, wall: SystemTime) -> Self {
        let kept_at = state_dir.join("entitlements.json");
        let kept: Vec<Day> =
            std::fs::read(&kept_at).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let date = date_and_slot(wall).0;
        let mut ledger = Self {
            sessions: BTreeMap::new(),
            today: Day::new(date),
            over: kept,
            totals: BTreeMap::new(),
            kept_at,
            log_dir: log_dir.to_owned(),
            keep_due: Instant::now() + KEEP,
            changed: false,
            audit,
            error: None,
        };
        if let Some(at) = ledger.over.iter().position(|day| day.date == date) {
            ledger.today = ledger.over.remove(at);
        }
        ledger.write_days();
        ledger
    }

    /// A flow tells of a session.
    pub(in crate::supervisor) fn hear(&mut self, news: &LinkNews, now: Instant, wall: SystemTime) {
        let Part::Entitlement(entitlement) = &news.part else { return };
        let peer = &news.peer;
        match &news.what {
            LinkEvent::Connected(_) | LinkEvent::WentOn(_) => {
                let subscriber = peer.subscriber.as_deref().unwrap_or_default().to_owned();
                let holder = Holder { flow: news.flow.to_string(), entitlement: entitlement.clone(), subscriber };
                emit(Event::EntitlementOpened {
                    flow: news.flow.clone(),
                    entitlement: holder.entitlement.clone(),
                    subscriber: holder.subscriber.clone(),
                    peer: peer.address,
                    terms: terms(peer),
                });
                // One that goes on was counted when it began.
                let new = u64::from(matches!(news.what, LinkEvent::Connected(_)));
                self.today.accounts.entry(holder.clone()).or_default().sessions += new;
                self.totals.entry(holder.clone()).or_default().sessions += new;
                self.changed = true;
                // What it carried before this process was put down by that one.
                let carried = peer.figures().0.sent.bytes;
                let session = Session {
                    flow: news.flow.clone(),
                    holder,
                    peer: peer.clone(),
                    began: now,
                    before: carried,
                    counted: (now, carried),
                    lately: VecDeque::from([(now, carried)]),
                };
                self.audit.record(Record::SessionOpened { of: session.record(), terms: terms(peer) });
                self.sessions.insert(peer.number, session);
            }
            LinkEvent::Ended(end) => {
                let why = peer.why_closed().map_or_else(|| end_in_words(end), str::to_owned);
                self.end(peer.number, &why, now, wall);
            }
            LinkEvent::NeedKek(..) | LinkEvent::KeyUnconfirmed => {}
        }
    }

    fn end(&mut self, number: u64, why: &str, now: Instant, wall: SystemTime) {
        self.count(number, now, wall);
        let Some(session) = self.sessions.remove(&number) else { return };
        let of = session.record();
        let Session { flow, holder, peer, began, before, counted: (_, bytes), .. } = session;
        let bytes = bytes - before;
        let seconds = (now - began).as_secs();
        self.audit.record(Record::SessionClosed { of, why: why.to_owned(), seconds, bytes });
        emit(Event::EntitlementClosed {
            flow,
            entitlement: holder.entitlement,
            subscriber: holder.subscriber,
            peer: peer.address,
            why: why.to_owned(),
            lasted: now - began,
            bytes,
        });
    }

    /// Put down what a session has carried since the last time.
    fn count(&mut self, number: u64, now: Instant, wall: SystemTime) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let bytes = session.bytes();
        let (then, before) = std::mem::replace(&mut session.counted, (now, bytes));
        let (milliseconds, more) = (now.saturating_duration_since(then).as_millis() as u64, bytes - before);
        let slot = date_and_slot(wall).1;
        self.today.accounts.entry(session.holder.clone()).or_default().add(milliseconds, more, slot);
        self.totals.entry(session.holder.clone()).or_default().add(milliseconds, more, slot);
        session.lately.push_back((now, bytes));
        while session.lately.get(1).is_some_and(|(at, _)| now - *at >= RATE_SPAN) {
            session.lately.pop_front();
        }
        self.changed = true;
    }

    /// Put down what all sessions have carried; end those that are over; and turn the page where a day is over.
    pub(in crate::supervisor) fn tick(&mut self, now: Instant, wall: SystemTime) {
        for number in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.count(number, now, wall);
            // Its flow is gone, and did not live to tell.
            let peer = self.sessions.get(&number).map(|session| session.peer.clone());
            if let Some(peer) = peer.filter(|peer| peer.phase() == Phase::Over) {
                self.end(number, peer.why_closed().unwrap_or("its flow ended"), now, wall);
            }
        }
        let date = date_and_slot(wall).0;
        // A clock that is set back a little does not begin a day anew.
        if date > self.today.date || date.tomorrow().is_ok_and(|tomorrow| self.today.date > tomorrow) {
            let over = std::mem::replace(&mut self.today, Day::new(date));
            self.over.push(over);
            self.over.drain(..self.over.len().saturating_sub(MOST_DAYS));
            self.write_days();
            self.keep();
        } else if now >= self.keep_due && (self.changed || self.error.is_some()) {
            self.keep_due = now + KEEP;
            self.write_days();
            self.keep();
        }
    }

    /// The daemon ends, and this is why: all sessions have, and what was put down is written.
    pub(in crate::supervisor) fn close(&mut self, why: &str, now: Instant, wall: SystemTime) {
        for number in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.end(number, why, now, wall);
        }
        self.write_days();
        let day = self.today.clone();
        self.write(&day);
        self.keep();
    }

    /// The files of days that are over.
    fn write_days(&mut self) {
        let mut over = std::mem::take(&mut self.over);
        over.retain(|day| !self.write(day));
        self.over = over;
    }

    /// Whether the file of a day is written, or needs not be.
    fn write(&mut self, day: &Day) -> bool {
        if day.accounts.is_empty() {
            return true;
        }
        let path = self.log_dir.join(day.file());
        let written = std::fs::create_dir_all(&self.log_dir).and_then(|()| replace(&path, day.csv().as_bytes()));
        self.note(&path, written.map(drop))
    }

    fn keep(&mut self) {
        let days: Vec<_> = self.over.iter().chain([&self.today]).filter(|day| !day.accounts.is_empty()).collect();
        if days.is_empty() && !self.kept_at.exists() {
            return;
        }
        let path = self.kept_at.clone();
        let kept = serde_json::to_vec(&days).map_err(std::io::Error::from).and_then(|text| replace(&path, &text));
        self.changed &= !self.note(&path, kept.map(drop));
    }

    /// Say once what can't be written, and when it can.
    fn note(&mut self, path: &Path, written: std::io::Result<()>) -> bool {
        let known = self.error.as_ref().is_some_and(|(of, _)| of == path);
        match written {
            Ok(()) => {
                if known {
                    self.error = None;
                    emit(Event::AccountsWritten { path: path.to_owned() });
                }
                true
            }
            Err(error) => {
                if self.error.is_none() {
                    emit(Event::AccountsUnwritten { path: path.to_owned(), error: error.to_string() });
                    self.error = Some((path.to_owned(), error.to_string()));
                }
                false
            }
        }
    }

    /// What a subscriber's sessions carry together, bit/s.
    fn bps_of(&self, subscriber: &str) -> u64 {
        self.of(subscriber).map(|session| session.rate().0).sum()
    }

    fn of(&self, subscriber: &str) -> impl Iterator<Item = &Session> {
        self.sessions.values().filter(move |session| session.holder.subscriber == subscriber)
    }

    /// The newest session of a subscriber whose sessions have carried more than this, bit/s, for some seconds.
    pub(in crate::supervisor) fn too_much(&self, subscriber: &str, most: u64) -> Option<(FlowName, Arc<PeerStats>)> {
        let known = self.of(subscriber).all(|session| session.rate().1 >= RATE_SPAN);
        let newest = self.of(subscriber).last().filter(|_| known && self.bps_of(subscriber) > most)?;
        Some((newest.flow.clone(), newest.peer.clone()))
    }

    /// What a subscriber got of an entitlement: since the daemon started, and today.
    pub(in crate::supervisor) fn accounts(&self, holder: &Holder) -> (Account, Account) {
        let of = |accounts: &BTreeMap<Holder, Account>| accounts.get(holder).cloned().unwrap_or_default();
        (of(&self.totals), of(&self.today.accounts))
    }
}

#[cfg(test)]
mod tests;
