//! Alarms: something stays wrong for a while, or is right again for a while. No clock of its own.

use std::time::{Duration, SystemTime};

use super::status::{AlarmDoc, Severity};
use super::text::rfc3339;
use crate::time::Instant;

/// Whether one thing is wrong, with hold on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    raised: bool,
    /// Since when it is otherwise than `raised` says.
    otherwise: Option<Instant>,
}

/// What a look at a [`Watch`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// As before.
    None,
    /// It has been wrong for long enough.
    Raise,
    /// It has been right for long enough.
    Clear,
}

impl Watch {
    /// Look: is it `wrong` now? It is raised when that has been so for `hold`, cleared when not so for `clear_after`.
    pub fn look(&mut self, wrong: bool, hold: Duration, clear_after: Duration, now: Instant) -> Turn {
        if wrong == self.raised {
            self.otherwise = None;
            return Turn::None;
        }
        let since = *self.otherwise.get_or_insert(now);
        let (wait, turn) = if wrong { (hold, Turn::Raise) } else { (clear_after, Turn::Clear) };
        if now.saturating_duration_since(since) < wait {
            return Turn::None;
        }
        (self.raised, self.otherwise) = (wrong, None);
        turn
    }

    /// Nothing is raised, and nothing may soon be: it need not be kept.
    pub const fn at_rest(&self) -> bool {
        !self.raised && self.otherwise.is_none()
    }
}

/// What of a flow an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// All of it; or the appliance.
    Whole,
    /// A source, by its name.
    Source(String),
    /// An output, by its name.
    Output(String),
}

impl Of {
    /// The source's name.
    pub fn source(&self) -> Option<&str> {
        if let Self::Source(name) = self { Some(name) } else { None }
    }

    /// The output's name.
    pub fn output(&self) -> Option<&str> {
        if let Self::Output(name) = self { Some(name) } else { None }
    }
}

/// An alarm that is raised.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The same until it is cleared.
    pub id: String,
    /// The name of its table, or of the built-in one.
    pub name: String,
    /// What of the flow it is about.
    pub of: Of,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, in words.
    pub message: String,
    /// The figure that was wrong, in its base unit.
    pub value: Option<f64>,
    /// What it is held against.
    pub threshold: Option<f64>,
    /// Whom it is told; `None`: all.
    pub notify: Option<Vec<String>>,
    /// When it was raised.
    pub since: SystemTime,
}

impl Alarm {
    /// As status shows it.
    pub fn doc(&self) -> AlarmDoc {
        AlarmDoc {
            id: self.id.clone(),
            name: self.name.clone(),
            severity: self.severity,
            source: self.of.source().map(str::to_owned),
            output: self.of.output().map(str::to_owned),
            since: rfc3339(self.since),
            message: self.message.clone(),
            value: self.value,
            threshold: self.threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a watch does each second, looking at `wrong`: `R`aise, `C`lear or nothing.
    fn watch(hold: u64, clear_after: u64, wrong: &str) -> String {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let seconds = Duration::from_secs;
        let turns = wrong.chars().zip(0..).map(|(wrong, s)| {
            match watch.look(wrong == 'x', seconds(hold), seconds(clear_after), start + seconds(s)) {
                Turn::None => '.',
                Turn::Raise => 'R',
                Turn::Clear => 'C',
            }
        });
        turns.collect()
    }

    #[test]
    fn without_hold_it_turns_at_once() {
        assert_eq!(watch(0, 0, "..xx..x."), "..R.C.RC");
    }

    #[test]
    fn it_is_raised_after_the_hold_and_not_by_less() {
        assert_eq!(watch(3, 0, ".xxx.xxxxx."), "........R.C");
    }

    #[test]
    fn it_is_cleared_when_it_has_been_right_for_long_enough_without_a_break() {
        assert_eq!(watch(0, 2, "x.x..x...."), "R.......C.");
    }

    #[test]
    fn flapping_within_the_hold_neither_raises_nor_clears() {
        assert_eq!(watch(2, 2, &"x.".repeat(20)), ".".repeat(40));
        assert_eq!(watch(2, 2, &format!("xxx{}", ".x".repeat(20))), format!("..R{}", ".".repeat(40)));
    }

    #[test]
    fn one_at_rest_is_neither_raised_nor_about_to_be() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert!(watch.at_rest());
        watch.look(true, Duration::from_secs(1), Duration::ZERO, now);
        assert!(!watch.at_rest());
        watch.look(false, Duration::from_secs(1), Duration::ZERO, now);
        assert!(watch.at_rest());
        watch.look(true, Duration::ZERO, Duration::ZERO, now);
        assert!(!watch.at_rest());
    }
}
