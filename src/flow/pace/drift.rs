//! How fast the source's clock runs against ours: a phase-locked loop of the second order.
//!
//! Every second it looks at how much later than expected packets arrived on average, and lets the expected times run
//! faster or slower: never a step. A lasting difference of clocks ends up in the frequency, so that in the steady state
//! the delay is the wanted one; jitter is averaged over about a minute.

/// An average is taken over this long, seconds.
const WINDOW: f64 = 1.0;
/// The time constant of the loop, seconds; it is critically damped.
const TIME_CONSTANT: f64 = 60.0;
/// The speed changes by no more than this to correct a delay: 300 ppm.
const SLEW: f64 = 300e-6;
/// Clocks differ by no more than this: 500 ppm. Those that are made for it differ by 30, any quartz by 100.
const MOST: f64 = 500e-6;

/// The loop.
#[derive(Debug, Clone, Default)]
pub(super) struct Drift {
    /// The difference of the clocks.
    frequency: f64,
    /// The correction of the delay.
    slew: f64,
    /// What was wrong with the delay at the last look.
    last: f64,
    window: Option<Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    start: f64,
    sum: f64,
    count: f64,
}

impl Drift {
    /// How much faster than the source's clock expected times are to run, in parts of 1: 800 ppm at most.
    pub(super) const fn speed(&self) -> f64 {
        self.frequency + self.slew
    }

    /// How much faster our clock runs than the source's, in parts of 1.
    pub(super) const fn frequency(&self) -> f64 {
        self.frequency
    }

    /// What came before says nothing of what comes.
    pub(super) const fn pause(&mut self) {
        (self.window, self.slew, self.last) = (None, 0.0, 0.0);
    }

    /// A packet arrived at `now`, so many seconds later than expected.
    pub(super) fn sample(&mut self, now: f64, error: f64) {
        let window = self.window.get_or_insert(Window { start: now, sum: 0.0, count: 0.0 });
        let elapsed = now - window.start;
        if elapsed >= WINDOW && window.count > 0.0 {
            let mean = window.sum / window.count;
            self.window = Some(Window { start: now, sum: error, count: 1.0 });
            // Over a pause nothing was measured.
            self.correct(mean, elapsed.min(2.0 * WINDOW));
        } else {
            window.sum += error;
            window.count += 1.0;
        }
    }

    fn correct(&mut self, error: f64, elapsed: f64) {
        let wanted = error * (2.0 / TIME_CONSTANT);
        self.slew = wanted.clamp(-SLEW, SLEW);
        // A delay that is being corrected as fast as may be says nothing of the frequency, unless it still grows.
        if wanted == self.slew || error.abs() > self.last.abs() {
            let seen = self.slew / 2.0 / TIME_CONSTANT * elapsed;
            self.frequency = (self.frequency + seen).clamp(-MOST, MOST);
        }
        self.last = error;
    }
}
