//! What subscribers got on one day, by UTC: for whoever sends the bill.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// Seconds over which a rate is a mean.
const SLOT: u64 = 300;
const HEAD: &str = "date,flow,entitlement,subscriber,sessions,seconds,bytes,p95-bps\n";

/// Whom an account is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::supervisor) struct Holder {
    pub(in crate::supervisor) flow: String,
    pub(in crate::supervisor) entitlement: String,
    pub(in crate::supervisor) subscriber: String,
}

/// What a subscriber got of an entitlement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::supervisor) struct Account {
    /// That began on the day.
    pub(in crate::supervisor) sessions: u64,
    /// Of all sessions together.
    pub(in crate::supervisor) milliseconds: u64,
    /// Of transport stream, each once however often it was sent.
    pub(in crate::supervisor) bytes: u64,
    /// Bytes by the number of five minutes of the day, from 0; of those in which there was a session.
    slots: BTreeMap<u64, u64>,
}

impl Account {
    /// A session was there for so long, and carried so much.
    pub(in crate::supervisor) fn add(&mut self, milliseconds: u64, bytes: u64, slot: u64) {
        self.milliseconds += milliseconds;
        self.bytes += bytes;
        *self.slots.entry(slot).or_default() += bytes;
    }

    /// The 95th percentile of the bit rate: of the means of five minutes each, in which there was a session, the greatest
    /// but for the top twentieth (nearest rank). `None`: there was none.
    pub(in crate::supervisor) fn p95_bps(&self) -> Option<u64> {
        let mut rates: Vec<_> = self.slots.values().map(|bytes| bytes * 8 / SLOT).collect();
        rates.sort_unstable();
        let rank = (rates.len() * 95).div_ceil(100);
        rates.get(rank.checked_sub(1)?).copied()
    }
}

/// All accounts of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(in crate::supervisor) struct Day {
    pub(in crate::supervisor) date: Date,
    pub(in crate::supervisor) accounts: BTreeMap<Holder, Account>,
}

/// As it is kept over a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    date: Date,
    accounts: Vec<(Holder, Account)>,
}

impl From<Kept> for Day {
    fn from(Kept { date, accounts }: Kept) -> Self {
        Self { date, accounts: accounts.into_iter().collect() }
    }
}

impl From<Day> for Kept {
    fn from(Day { date, accounts }: Day) -> Self {
        Self { date, accounts: accounts.into_iter().collect() }
    }
}

/// The day, and which five minutes of it.
pub(in crate::supervisor) fn date_and_slot(wall: SystemTime) -> (Date, u64) {
    let time = Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
    let minutes = u64::from(time.hour().unsigned_abs()) * 60 + u64::from(time.minute().unsigned_abs());
    (time.date(), minutes * 60 / SLOT)
}

impl Day {
    /// Without accounts.
    pub(in crate::supervisor) const fn new(date: Date) -> Self {
        Self { date, accounts: BTreeMap::new() }
    }

    /// The file's name.
    pub(in crate::supervisor) fn file(&self) -> String {
        format!("entitlements-{}.csv", self.date)
    }

    /// A line an account, and one above.
    pub(in crate::supervisor) fn csv(&self) -> String {
        let mut text = HEAD.to_owned();
        for (Holder { flow, entitlement, subscriber }, account) in &self.accounts {
            let Account { sessions, milliseconds, bytes, .. } = account;
            let (seconds, p95) = (milliseconds.div_ceil(1000), account.p95_bps().unwrap_or(0));
            let date = self.date;
            // Names have no commas and quotes. Writing to a String cannot fail.
            let _ = writeln!(text, "{date},{flow},{entitlement},{subscriber},{sessions},{seconds},{bytes},{p95}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_leaves_out_the_top_twentieth_of_the_five_minutes() {
        let mut account = Account::default();
        assert_eq!(account.p95_bps(), None);
        // 1 to 100 kbit/s, whatever the order.
        for slot in 0..100 {
            account.add(300_000, (100 - slot) * 37_500, slot);
        }
        assert_eq!(account.p95_bps(), Some(95_000));
        let mut one = Account::default();
        one.add(1000, 300_000, 7);
        assert_eq!((one.p95_bps(), one.bytes, one.milliseconds), (Some(8000), 300_000, 1000));
    }

    #[test]
    fn a_day_is_kept_and_becomes_lines() {
        let holder = |subscriber: &str| Holder {
            flow: "news".into(),
            entitlement: "main".into(),
            subscriber: subscriber.into(),
        };
        let mut day = Day::new("2026-11-28".parse().unwrap());
        day.accounts.insert(holder("b"), Account { sessions: 1, ..Account::default() });
        day.accounts.entry(holder("a")).or_default().add(61_500, 30_000_000, 3);
        let again: Day = serde_json::from_slice(&serde_json::to_vec(&day).unwrap()).unwrap();
        assert_eq!(again, day);
        assert_eq!(day.file(), "entitlements-2026-11-28.csv");
        let text = "date,flow,entitlement,subscriber,sessions,seconds,bytes,p95-bps\n\
                    2026-11-28,news,main,a,0,62,30000000,800000\n2026-11-28,news,main,b,1,0,0,0\n";
        assert_eq!(day.csv(), text);
    }

    #[test]
    fn the_day_is_that_of_utc() {
        let at = |text: &str| date_and_slot(humantime::parse_rfc3339(text).unwrap());
        let date = |text: &str| text.parse::<Date>().unwrap();
        assert_eq!(at("2026-11-28T00:00:00Z"), (date("2026-11-28"), 0));
        assert_eq!(at("2026-11-28T23:59:59Z"), (date("2026-11-28"), 287));
        assert_eq!(at("2026-11-28T00:05:00Z").1, 1);
    }
}
