//! When a fault of pictures or sound has lasted for long enough. Time is that of the stream.

use std::time::Duration;

use super::ffmpeg::Look;
use super::wire::{Report, State, Wanted};

/// Sound whose loudest sample is below this is none, dBFS.
const SILENCE: f64 = -60.0;
/// From one picture to the next it is never longer: what is further away is another stream, or another time.
const FURTHEST: Duration = Duration::from_secs(15);

/// What has been seen and heard so far.
#[derive(Debug)]
pub(super) struct Judge {
    black: Spell,
    frozen: Spell,
    silent: Spell,
    /// The times of the newest ones.
    picture_at: Option<i64>,
    sound_at: Option<i64>,
}

/// One thing that is looked for.
#[derive(Debug)]
struct Spell {
    threshold: Option<Duration>,
    /// How long it has been wrong; `None`: it is right.
    lasted: Option<Duration>,
    /// Something was seen that tells.
    known: bool,
}

impl Spell {
    const fn new(threshold: Option<Duration>) -> Self {
        Self { threshold, lasted: None, known: false }
    }

    /// It is `wrong` now; the look before was `step` ago. `since_then`: it must have been wrong in between, too.
    fn look(&mut self, wrong: bool, step: Duration, since_then: bool) {
        let step = if self.lasted.is_some() || since_then { step } else { Duration::ZERO };
        self.lasted = wrong.then(|| self.lasted.unwrap_or_default() + step);
        // One that is wrong from the first look on may have been so for long enough already.
        self.known |= !wrong || self.is_over();
    }

    fn is_over(&self) -> bool {
        self.threshold.zip(self.lasted).is_some_and(|(threshold, lasted)| lasted >= threshold)
    }

    fn state(&self) -> State {
        match (self.threshold, self.lasted) {
            (Some(_), Some(lasted)) if self.is_over() => State::Wrong(lasted.as_millis() as u64),
            (Some(_), _) if self.known => State::Right,
            _ => State::Unknown,
        }
    }
}

impl Judge {
    pub(super) const fn new(wanted: &Wanted) -> Self {
        Self {
            black: Spell::new(wanted.black),
            frozen: Spell::new(wanted.frozen),
            silent: Spell::new(wanted.silence),
            picture_at: None,
            sound_at: None,
        }
    }

    /// Something was seen or heard.
    pub(super) fn look(&mut self, look: Look) {
        match look {
            Look::Picture { at, black, frozen } => {
                let step = step(self.picture_at.replace(at), at);
                self.black.look(black, step, false);
                // A black picture does not move either: that is said once.
                let told_as_black = black && self.black.threshold.is_some();
                self.frozen.look(frozen && !told_as_black, step, true);
            }
            Look::Sound { at, peak } => {
                let step = step(self.sound_at.replace(at), at);
                self.silent.look(peak < SILENCE, step, true);
            }
        }
    }

    /// What is known by now.
    pub(super) fn report(&self) -> Report {
        Report { black: self.black.state(), frozen: self.frozen.state(), silent: self.silent.state(), fault: None }
    }
}

/// From one time in the stream to the next, as far as that makes sense.
fn step(before: Option<i64>, at: i64) -> Duration {
    let ms = before.and_then(|before| at.checked_sub(before)).and_then(|ms| u64::try_from(ms).ok());
    ms.map(Duration::from_millis).filter(|step| *step <= FURTHEST).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Option<Duration> = Some(Duration::from_secs(10));

    /// The states of black and frozen at each second, as letters: `?`, `.` or `W`. Of a picture `b` is black, `f` the same
    /// as the one before, and `B` both.
    fn pictures(wanted: Wanted, seen: &str) -> [String; 2] {
        let mut judge = Judge::new(&wanted);
        let mut states = [String::new(), String::new()];
        for (second, look) in seen.chars().enumerate() {
            let at = second as i64 * 1000;
            judge.look(Look::Picture { at, black: "bB".contains(look), frozen: "fB".contains(look) });
            let report = judge.report();
            states[0].push(letter(report.black));
            states[1].push(letter(report.frozen));
        }
        states
    }

    fn letter(state: State) -> char {
        match state {
            State::Unknown => '?',
            State::Right => '.',
            State::Wrong(ms) => {
                assert!(ms >= 10_000);
                'W'
            }
        }
    }

    #[test]
    fn a_fault_counts_when_it_has_lasted_and_is_over_with_the_first_good_picture() {
        let both = Wanted { black: TEN, frozen: TEN, ..Wanted::NOTHING };
        let seen = format!("..b{}.{}", "B".repeat(11), "f".repeat(12));
        let [black, frozen] = pictures(both, &seen);
        assert_eq!(black, "............WW.............");
        assert_eq!(frozen, "........................WWW");
    }

    #[test]
    fn a_black_picture_does_not_move_either_where_black_is_not_looked_for() {
        let seen = format!(".b{}.", "B".repeat(10));
        let [black, frozen] = pictures(Wanted { frozen: TEN, ..Wanted::NOTHING }, &seen);
        assert_eq!(black, "?????????????");
        assert_eq!(frozen, "...........W.");
    }

    #[test]
    fn what_was_wrong_from_the_first_picture_on_is_not_known_to_be_right_before() {
        let [black, _] = pictures(Wanted { black: TEN, ..Wanted::NOTHING }, &"B".repeat(12));
        assert_eq!(black, "??????????WW");
        let [black, _] = pictures(Wanted { black: TEN, ..Wanted::NOTHING }, "B.BB");
        assert_eq!(black, "?...");
    }

    #[test]
    fn silence_is_what_is_below_60_db() {
        let mut judge = Judge::new(&Wanted { silence: TEN, ..Wanted::NOTHING });
        let mut hear = |at, peak| {
            judge.look(Look::Sound { at, peak });
            judge.report().silent
        };
        assert_eq!(hear(0, -20.0), State::Right);
        for at in (250..10_000).step_by(250) {
            assert_eq!(hear(at, f64::NEG_INFINITY), State::Right);
        }
        assert_eq!(hear(10_000, -60.1), State::Wrong(10_000));
        assert_eq!(hear(10_250, f64::NEG_INFINITY), State::Wrong(10_250));
        assert_eq!(hear(10_500, -59.9), State::Right);
    }

    #[test]
    fn a_jump_in_time_neither_makes_a_fault_nor_ends_it() {
        let mut judge = Judge::new(&Wanted { black: TEN, ..Wanted::NOTHING });
        let mut see = |at| {
            judge.look(Look::Picture { at, black: true, frozen: false });
            judge.report().black
        };
        assert_eq!(see(0), State::Unknown);
        assert_eq!(see(9_000), State::Unknown);
        for at in [95_443_717, -5_000, i64::MAX, i64::MIN] {
            assert_eq!(see(at), State::Unknown);
        }
        assert_eq!(see(i64::MIN + 1_000), State::Wrong(10_000));
    }
}
