use super::*;

/// A thread under a load that follows from the packet rate and the budget.
struct Thread {
    meter: LoadMeter,
    load: Load,
    now: Instant,
    cpu: Duration,
    packets: u64,
}

impl Thread {
    fn new() -> Self {
        let now = Instant::now();
        Self { meter: LoadMeter::new(now, Duration::ZERO), load: Load::default(), now, cpu: Duration::ZERO, packets: 0 }
    }

    /// A wake costs 15 us and a packet 4 us. The budgets that were given, one for each measurement.
    fn run(&mut self, packets_per_second: f64, time: Duration) -> Vec<Duration> {
        let end = self.now + time;
        let mut budgets = Vec::new();
        while self.now < end {
            let budget = self.meter.budget().as_secs_f64();
            let wakes = packets_per_second / (1.0 + packets_per_second * budget);
            let busy = (wakes * 15e-6 + packets_per_second * 4e-6).min(1.0);
            self.now += INTERVAL;
            self.cpu += INTERVAL.mul_f64(busy);
            self.packets += (packets_per_second * INTERVAL.as_secs_f64()) as u64;
            assert!(self.meter.due(self.now));
            self.meter.measure(self.now, self.cpu, self.packets, &self.load);
            budgets.push(self.meter.budget());
        }
        budgets
    }
}

fn changes(budgets: &[Duration]) -> usize {
    budgets.windows(2).filter(|w| w[0] != w[1]).count()
}

#[test]
fn a_lightly_loaded_thread_handles_packets_at_once() {
    let mut thread = Thread::new();
    assert!(thread.run(20_000.0, Duration::from_secs(60)).iter().all(Duration::is_zero));
    assert!((370..=390).contains(&thread.load.permille()));
}

#[test]
fn a_busy_thread_gathers_and_then_stays_with_its_budget() {
    for rate in [35_000.0, 60_000.0, 100_000.0, 140_000.0, 300_000.0] {
        let mut thread = Thread::new();
        let settling = thread.run(rate, Duration::from_secs(1));
        assert!(changes(&settling) <= 3, "{rate}: {settling:?}");
        let settled = thread.run(rate, Duration::from_secs(60));
        assert!(settled.iter().all(|b| *b == settled[0] && !b.is_zero()), "{rate}: {settled:?}");
    }
}

#[test]
fn the_longest_budget_is_two_milliseconds() {
    let mut thread = Thread::new();
    assert_eq!(thread.run(1e6, Duration::from_secs(1)).last(), Some(&Duration::from_millis(2)));
}

#[test]
fn a_thread_that_has_less_to_do_handles_packets_at_once_again() {
    let mut thread = Thread::new();
    thread.run(200_000.0, Duration::from_secs(2));
    assert!(!thread.meter.budget().is_zero());
    let calming = thread.run(10_000.0, Duration::from_secs(5));
    assert_eq!(calming.last(), Some(&Duration::ZERO));
    // A moment of silence changes nothing.
    thread.run(200_000.0, Duration::from_secs(2));
    let before = thread.meter.budget();
    assert_eq!(thread.run(0.0, Duration::from_millis(500)).last(), Some(&before));
}

#[test]
fn a_rate_that_swings_around_the_limit_does_not_make_the_budget_swing() {
    let mut thread = Thread::new();
    thread.run(35_000.0, Duration::from_secs(2));
    let mut budgets = Vec::new();
    for _ in 0..50 {
        budgets.extend(thread.run(30_000.0, Duration::from_secs(1)));
        budgets.extend(thread.run(34_000.0, Duration::from_secs(1)));
    }
    assert_eq!(changes(&budgets), 0);
}
