//! Failover in virtual time: sources that send every 10 ms, and what goes wrong with them.

use proptest::prelude::*;

use super::*;
use crate::proto::rtp::receive::tests::{Random, handed_over};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What happens to a source, or what the operator does. Sources are numbers.
#[derive(Debug, Clone, Copy)]
enum Act {
    Add,
    Remove(usize),
    Stop(usize),
    Go(usize),
    /// Continuity errors a second.
    Errors(usize, u64),
    /// Packets lost for good a second.
    Unrecovered(usize, u64),
    /// Bits a second.
    Rate(usize, u64),
    Pat(usize, bool),
    Switch(usize),
    Clear,
    Retune(FailoverConfig),
}
use Act::{Add, Clear, Errors, Go, Pat, Rate, Remove, Retune, Stop, Switch as To, Unrecovered};

struct Feed {
    id: SourceId,
    sends: bool,
    rates: [u64; 3],
    pat: bool,
    sample: Sample,
}

/// The machine, its sources, and a clock.
struct World {
    failover: Failover,
    feeds: Vec<Feed>,
    start: Instant,
    events: Vec<(u64, Switch)>,
    /// Times in ms of packets that went out, and their source.
    out: Vec<(u64, SourceId)>,
}

impl World {
    fn new(sources: usize, config: FailoverConfig) -> Self {
        let mut world = Self {
            failover: Failover::new(config),
            feeds: Vec::new(),
            start: Instant::now(),
            events: Vec::new(),
            out: Vec::new(),
        };
        (0..sources).for_each(|_| world.act(0, Add));
        world
    }

    fn act(&mut self, at: u64, act: Act) {
        let now = self.start + ms(at);
        match act {
            Add => {
                let (id, sample) = (self.failover.add(), Sample::default());
                self.feeds.push(Feed { id, sends: true, rates: [0, 0, 5_000_000], pat: true, sample });
            }
            Remove(n) => {
                self.feeds[n].sends = false;
                self.failover.remove(self.feeds[n].id, now);
            }
            Stop(n) => self.feeds[n].sends = false,
            Go(n) => self.feeds[n].sends = true,
            Errors(n, rate) => self.feeds[n].rates[0] = rate,
            Unrecovered(n, rate) => self.feeds[n].rates[1] = rate,
            Rate(n, rate) => self.feeds[n].rates[2] = rate,
            Pat(n, pat) => self.feeds[n].pat = pat,
            To(n) => assert!(self.failover.switch(self.feeds[n].id, now)),
            Clear => self.failover.clear(now),
            Retune(config) => self.failover.retune(config, now),
        }
    }

    /// Ten milliseconds: what is due before, then the packets, then the figures.
    fn step(&mut self, at: u64) {
        let now = self.start + ms(at);
        while let Some(due) = self.failover.poll_timeout().filter(|due| *due <= now) {
            self.failover.handle_timeout(due);
            assert!(self.failover.poll_timeout().is_none_or(|next| next > due), "a timeout is dealt with");
        }
        let mut went_out = Vec::new();
        for feed in self.feeds.iter_mut().filter(|feed| feed.sends) {
            if self.failover.packet(feed.id, now) {
                went_out.push((at, feed.id));
            }
        }
        let first = self.events.len();
        while let Some(event) = self.failover.poll_event() {
            self.events.push((at, event));
        }
        assert!(went_out.len() <= 1 + self.events.len() - first, "two sources on air at {at} ms");
        self.out.extend(went_out);
        if at.is_multiple_of(500) {
            for feed in &mut self.feeds {
                let [errors, unrecovered, bits] = feed.rates.map(|rate| if feed.sends { rate / 2 } else { 0 });
                feed.sample.continuity_errors += errors;
                feed.sample.unrecovered += unrecovered;
                feed.sample.bytes += bits / 8;
                feed.sample.pats += u64::from(feed.pat && feed.sends);
                self.failover.sample(feed.id, now, feed.sample);
            }
            self.failover.handle_timeout(now);
        }
    }

    fn run(&mut self, acts: &[(u64, Act)], until: u64) {
        for at in (0..until).step_by(10) {
            for (_, act) in acts.iter().filter(|(when, _)| *when == at) {
                self.act(at, *act);
            }
            self.step(at);
            if at.is_multiple_of(1000) {
                self.failover = handed_over(&self.failover);
            }
        }
    }
}

fn config(primary: bool, back: Return) -> FailoverConfig {
    FailoverConfig { primary: primary.then_some(SourceId(0)), back, triggers: Triggers::default() }
}

fn hold() -> FailoverConfig {
    config(true, Return::Hold(ms(5000)))
}

fn quality() -> FailoverConfig {
    let triggers = Triggers {
        min_bitrate: Some(1_000_000),
        continuity_errors: Some(20),
        pat_loss: Some(ms(1000)),
        unrecovered: Some(50),
        ..Triggers::default()
    };
    FailoverConfig { triggers, ..hold() }
}

/// Each line: when, from which source to which, why, and the gap.
fn story(sources: usize, config: FailoverConfig, acts: &[(u64, Act)], until: u64) -> Vec<String> {
    let mut world = World::new(sources, config);
    world.run(acts, until);
    let line = |(at, Switch { from, to, reason, gap }): &(u64, Switch)| {
        let from = from.map_or("-".to_string(), |id| id.0.to_string());
        format!("{at}: {from} to {}, {reason:?}, {} ms", to.0, gap.as_millis())
    };
    world.events.iter().map(line).collect()
}

const START: &str = "0: - to 0, Start, 0 ms";
const SILENT: &str = "1490: 0 to 1, Failed(Silence), 500 ms";

/// Its name, how many sources, how they fail over, what happens, and what comes of it.
type Story<'a> = (&'a str, usize, FailoverConfig, &'a [(u64, Act)], &'a [&'a str]);

fn tell(stories: &[Story<'_>]) {
    for (name, sources, config, acts, expected) in stories {
        assert_eq!(story(*sources, *config, acts, 25_000), *expected, "{name}");
    }
}

#[test]
fn silence_switches() {
    let none = config(false, Return::Manual);
    let silence = |silence| FailoverConfig { triggers: Triggers { silence, ..Triggers::default() }, ..hold() };
    let (long, never) = (silence(Some(ms(2000))), silence(None));
    tell(&[
        ("a healthy source stays", 2, hold(), &[], &[START]),
        ("silence switches after 500 ms, not before", 2, none, &[(1000, Stop(0))], &[START, SILENT]),
        ("a short silence is none", 2, none, &[(1000, Stop(0)), (1480, Go(0))], &[START]),
        (
            "nothing to switch to, then it comes back",
            2,
            none,
            &[(0, Stop(1)), (1000, Stop(0)), (4000, Go(0))],
            &[START],
        ),
        (
            "nothing to switch to, then the other comes",
            2,
            none,
            &[(0, Stop(1)), (1000, Stop(0)), (4000, Go(1))],
            &[START, "4000: 0 to 1, Failed(Silence), 3010 ms"],
        ),
        (
            "the one that was healthy longest takes over",
            3,
            none,
            &[(0, Stop(1)), (500, Go(1)), (1000, Stop(0))],
            &[START, "1490: 0 to 2, Failed(Silence), 500 ms"],
        ),
        ("a longer silence", 2, long, &[(1000, Stop(0))], &[START, "2990: 0 to 1, Failed(Silence), 2000 ms"]),
        ("silence off", 2, never, &[(1000, Stop(0))], &[START]),
        (
            "retuned to a shorter silence",
            2,
            long,
            &[(1000, Stop(0)), (1600, Retune(none))],
            &[START, "1600: 0 to 1, Failed(Silence), 610 ms"],
        ),
    ]);
}

#[test]
fn the_primary_comes_back_by_its_rule() {
    let (immediate, manual) = (config(true, Return::Immediate), config(true, Return::Manual));
    tell(&[
        (
            "without a primary the survivor stays",
            2,
            config(false, Return::Immediate),
            &[(1000, Stop(0)), (2000, Go(0))],
            &[START, SILENT],
        ),
        (
            "the primary is back after the hold",
            2,
            hold(),
            &[(1000, Stop(0)), (3000, Go(0))],
            &[START, SILENT, "8000: 1 to 0, PrimaryBack, 10 ms"],
        ),
        (
            "an unstable primary is not back",
            2,
            hold(),
            &[(1000, Stop(0)), (3000, Go(0)), (7000, Stop(0)), (7600, Go(0)), (12_000, Stop(0)), (12_600, Go(0))],
            &[START, SILENT, "17600: 1 to 0, PrimaryBack, 10 ms"],
        ),
        (
            "immediately means with its first data",
            2,
            immediate,
            &[(1000, Stop(0)), (3000, Go(0))],
            &[START, SILENT, "3000: 1 to 0, PrimaryBack, 10 ms"],
        ),
        ("manually means never", 2, manual, &[(1000, Stop(0)), (3000, Go(0))], &[START, SILENT]),
        (
            "manually, but the other one fails",
            2,
            manual,
            &[(1000, Stop(0)), (3000, Go(0)), (4000, Stop(1))],
            &[START, SILENT, "4490: 1 to 0, Failed(Silence), 500 ms"],
        ),
        (
            "before the primary's data whichever has data goes on air",
            2,
            hold(),
            &[(0, Stop(0)), (2000, Go(0))],
            &["0: - to 1, Start, 0 ms", "7000: 1 to 0, PrimaryBack, 10 ms"],
        ),
        (
            "a primary that is not back yet is no better than others",
            3,
            hold(),
            &[(1000, Stop(0)), (3000, Go(0)), (4000, Stop(1))],
            &[START, SILENT, "4490: 1 to 2, Failed(Silence), 500 ms", "8000: 2 to 0, PrimaryBack, 10 ms"],
        ),
    ]);
}

#[test]
fn the_operator_wins_and_sources_come_and_go() {
    let none = config(false, Return::Manual);
    tell(&[
        (
            "the operator's choice wins",
            2,
            hold(),
            &[(1000, To(1)), (20_000, Clear)],
            &[START, "1000: 0 to 1, Operator, 10 ms", "20000: 1 to 0, PrimaryBack, 10 ms"],
        ),
        (
            "the operator's choice stays when silent",
            2,
            hold(),
            &[(1000, To(1)), (2000, Stop(1)), (5000, Go(1))],
            &[START, "1000: 0 to 1, Operator, 10 ms"],
        ),
        (
            "a silent choice, cleared",
            2,
            none,
            &[(1000, To(1)), (2000, Stop(1)), (5000, Clear)],
            &[START, "1000: 0 to 1, Operator, 10 ms", "5000: 1 to 0, Failed(Silence), 3010 ms"],
        ),
        (
            "a choice that never sends, cleared, is no switch",
            2,
            none,
            &[(0, Stop(1)), (1000, To(1)), (3000, Clear)],
            &[START],
        ),
        (
            "the operator's choice is removed",
            2,
            hold(),
            &[(1000, To(1)), (3000, Remove(1))],
            &[START, "1000: 0 to 1, Operator, 10 ms", "3000: 1 to 0, Removed, 10 ms"],
        ),
        ("the primary is removed", 2, hold(), &[(1000, Remove(0))], &[START, "1000: 0 to 1, Removed, 10 ms"]),
        (
            "the only one is removed, another comes",
            1,
            none,
            &[(1000, Remove(0)), (3000, Add)],
            &[START, "3000: 0 to 1, Removed, 2010 ms"],
        ),
        (
            "a source that is added is a standby",
            1,
            none,
            &[(1000, Add), (2000, Stop(0))],
            &[START, "2490: 0 to 1, Failed(Silence), 500 ms"],
        ),
    ]);
}

#[test]
fn quality_switches() {
    tell(&[
        (
            "continuity errors",
            2,
            quality(),
            &[(1010, Errors(0, 40)), (4010, Errors(0, 0))],
            &[START, "2010: 0 to 1, Failed(ContinuityErrors), 10 ms", "10000: 1 to 0, PrimaryBack, 10 ms"],
        ),
        ("few continuity errors", 2, quality(), &[(1010, Errors(0, 18))], &[START]),
        (
            "unrecovered packets",
            2,
            quality(),
            &[(1010, Unrecovered(0, 50))],
            &[START, "2010: 0 to 1, Failed(Unrecovered), 10 ms"],
        ),
        (
            "a bitrate below the floor",
            2,
            quality(),
            &[(1010, Rate(0, 900_000))],
            &[START, "2010: 0 to 1, Failed(MinBitrate), 10 ms"],
        ),
        ("no PAT", 2, quality(), &[(1200, Pat(0, false))], &[START, "2010: 0 to 1, Failed(PatLoss), 10 ms"]),
        ("no PAT, but it is not watched", 2, hold(), &[(1200, Pat(0, false))], &[START]),
        (
            "if none is healthy the one on air stays",
            2,
            quality(),
            &[(1010, Errors(0, 40)), (1010, Errors(1, 400))],
            &[START],
        ),
        (
            "if none is healthy, data beats none",
            2,
            quality(),
            &[(1010, Errors(1, 400)), (4000, Stop(0))],
            &[START, "4490: 0 to 1, Failed(Silence), 500 ms"],
        ),
        (
            "a fault that is no longer watched is none",
            2,
            quality(),
            &[(1010, Errors(0, 40)), (6000, Retune(hold()))],
            &[START, "2010: 0 to 1, Failed(ContinuityErrors), 10 ms", "11000: 1 to 0, PrimaryBack, 10 ms"],
        ),
    ]);
}

#[test]
fn the_deadline_of_silence_is_exact() {
    let mut failover = Failover::new(config(false, Return::Manual));
    let (a, b, start) = (failover.add(), failover.add(), Instant::now());
    assert!(failover.packet(a, start));
    assert!(!failover.packet(b, start + ms(400)));
    assert_eq!(failover.poll_timeout(), Some(start + ms(500)));
    failover.handle_timeout(start + Duration::from_micros(499_999));
    assert_eq!(failover.on_air(), Some(a));
    failover.handle_timeout(start + ms(500));
    assert_eq!((failover.on_air(), failover.healthy(a, start + ms(500))), (Some(b), false));
    assert_eq!(failover.fault(a, start + ms(500)), Some(Trigger::Silence));
    assert_eq!(failover.fault(b, start + ms(500)), None);
    assert!(failover.packet(b, start + ms(501)));
    let [first, second, none] = std::array::from_fn(|_| failover.poll_event());
    assert_eq!(first.map(|e| (e.from, e.to)), Some((None, a)));
    assert_eq!(second, Some(Switch { from: Some(a), to: b, reason: Reason::Failed(Trigger::Silence), gap: ms(501) }));
    assert_eq!(none, None);
}

#[test]
fn a_stall_of_the_whole_process_is_no_silence() {
    let mut failover = Failover::new(hold());
    let (a, b, start) = (failover.add(), failover.add(), Instant::now());
    failover.packet(a, start);
    failover.packet(b, start);
    // Two seconds later all sources are read, the standby first.
    let later = start + ms(2000);
    assert!(!failover.packet(b, later));
    assert!(failover.packet(a, later));
    failover.handle_timeout(later);
    assert_eq!(failover.on_air(), Some(a));
}

#[test]
fn unknown_sources_change_nothing() {
    let mut failover = Failover::new(hold());
    let (now, unknown) = (Instant::now(), SourceId(7));
    assert!(!failover.switch(unknown, now) && !failover.packet(unknown, now));
    failover.sample(unknown, now, Sample::default());
    failover.remove(unknown, now);
    failover.handle_timeout(now);
    assert_eq!((failover.on_air(), failover.poll_timeout(), failover.poll_event()), (None, None, None));
}

/// What must hold however sources come and go. `outages` are those of each source, by start and end in ms.
fn check(world: &World, hold: u64, outages: &[Vec<(u64, u64)>]) {
    let silent = |source: usize, at: u64| outages[source].iter().any(|(from, to)| (*from..*to).contains(&at));
    // Healthy without a break since when.
    let healthy_since = |source: usize, at: u64| {
        let long = outages[source].iter().filter(|(from, to)| *from < at && to - from >= 500);
        long.map(|(_, to)| *to).max().unwrap_or(0)
    };
    // Each source that is chosen and turns out to be silent too costs a quarter more.
    let most = 500 + 125 * (outages.len() as u64 - 1);
    for pair in world.events.windows(2) {
        let ((_, before), (at, event)) = (pair[0], pair[1]);
        assert_eq!(event.from, Some(before.to), "an unbroken chain");
        match event.reason {
            Reason::PrimaryBack => {
                assert_eq!(event.to.0, 0);
                let since = healthy_since(0, at);
                assert!(at >= since + hold, "back at {at}, healthy since {since} only");
                assert!(event.gap <= ms(most), "the other one was on air until then");
            }
            Reason::Failed(Trigger::Silence) => {
                let from = before.to.0 as usize;
                // Since the last packet on air; it may send again while another one turns out to be silent too.
                let last = at - event.gap.as_millis() as u64;
                assert!(silent(from, last + 10), "{from} was not silent after {last}");
                let both = (0..outages.len()).all(|source| silent(source, at - 10));
                assert!(event.gap >= ms(500) || both);
            }
            _ => panic!("{event:?}"),
        }
    }
    // As long as any source sends, something goes out within that.
    for pair in world.out.windows(2) {
        let (last, next) = (pair[0].0, pair[1].0);
        let steady = outages.iter().any(|outages| outages.iter().all(|(from, to)| *to + 10 < last || *from > next));
        assert!(!steady || next - last <= most + 15, "silence on air from {last} to {next}");
    }
}

fn cut(seed: u64, cuts: u64, sources: usize, hold: u64) {
    let mut random = Random(seed << 8 | 1);
    let mut outages = vec![Vec::new(); sources];
    let mut acts = Vec::new();
    let mut free = vec![1000; sources];
    for _ in 0..cuts {
        let source = random.below(sources as u64) as usize;
        let from = free[source] + random.below(800) * 10;
        let to = from + 10 + random.below(300) * 10;
        free[source] = to + 10;
        outages[source].push((from, to));
        acts.extend([(from, Stop(source)), (to, Go(source))]);
    }
    let until = free.iter().max().map_or(0, |last| last + 10_000);
    let mut world = World::new(sources, config(true, Return::Hold(ms(hold))));
    world.run(&acts, until);
    check(&world, hold, &outages);
    assert_eq!(world.failover.on_air(), Some(SourceId(0)), "in the end the primary is back");
}

#[test]
fn a_hundred_random_cuts() {
    for seed in 1..=5 {
        cut(seed, 100, 2, 5000);
        cut(seed, 100, 3, 1000);
    }
    // One on air comes back just before the switch, after the one that was chosen first fell silent too.
    cut(343_932_593_460, 13, 4, 1000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_cuts_put_two_on_air_or_flap(seed in 1_u64..1 << 40, cuts in 1_u64..40, sources in 1_usize..5, hold in 0_u64..9) {
        cut(seed, cuts, sources, hold * 1000);
    }

    #[test]
    fn any_acts_keep_one_known_source_on_air(acts in proptest::collection::vec((0_u64..400, 0_usize..12, 0_usize..3, 0_u64..100), 0..40)) {
        let act = |(at, kind, source, n): (u64, usize, usize, u64)| (at * 50, match kind {
            0 => Remove(source),
            1 | 2 => Stop(source),
            3 | 4 => Go(source),
            5 => Errors(source, n),
            6 => Unrecovered(source, n * 2),
            7 => Rate(source, n * 40_000),
            8 => Pat(source, n % 2 == 0),
            9 => Clear,
            10 => Retune(if n % 2 == 0 { quality() } else { config(n % 3 == 0, Return::Immediate) }),
            _ => Add,
        });
        let acts: Vec<_> = acts.into_iter().map(act).collect();
        let mut world = World::new(3, quality());
        world.run(&acts, 20_500);
        for pair in world.events.windows(2) {
            prop_assert_eq!(pair[1].1.from, Some(pair[0].1.to));
            prop_assert!(pair[1].1.to != pair[0].1.to);
        }
        for (at, id) in &world.out {
            let removed = acts.iter().any(|(when, act)| when < at && matches!(act, Remove(n) if *n == id.0 as usize));
            prop_assert!(!removed, "{} ms: {:?} was removed", at, id);
        }
    }
}
