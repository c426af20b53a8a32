use proptest::prelude::*;

use super::*;

/// A history of a source, `seconds` after it began, of which each second was taken twice, as the daemon does.
fn lived(seconds: u64, mut figures: impl FnMut(u64) -> [Option<f64>; 7]) -> Box<SourceHistory> {
    let start = Instant::now();
    let mut history = SourceHistory::of_source(start);
    for s in 0..seconds {
        let values = figures(s);
        history.record(values, start + Duration::from_secs(s));
        history.record(values, start + Duration::from_millis(s * 1000 + 500));
    }
    history
}

fn rates(history: &SourceHistory, since: u64, fine: bool) -> Vec<u64> {
    let steps = history.steps(Duration::from_secs(since), fine);
    let series = history.read(steps, steps, fine);
    series["bitrate-bps"].iter().map(|v| v.as_ref().unwrap().as_u64().unwrap()).collect()
}

const NOTHING: [Option<f64>; 7] = [Some(0.0), Some(0.0), Some(0.0), Some(0.0), None, None, None];

fn rate(bps: f64) -> [Option<f64>; 7] {
    [Some(bps), Some(0.0), Some(0.0), Some(0.0), None, None, None]
}

#[test]
fn seconds_are_kept_for_ten_minutes_and_ten_seconds_for_three_hours() {
    let history = lived(4 * 3600, |s| rate((s % 1000) as f64));
    let fine = rates(&history, 10_800, true);
    assert_eq!(fine.len(), 600);
    assert_eq!((fine[0], fine[599]), ((4 * 3600 - 600) % 1000, (4 * 3600 - 1) % 1000));
    assert_eq!(rates(&history, 5, true), [395, 396, 397, 398, 399]);
    let coarse = rates(&history, u64::MAX, false);
    assert_eq!(coarse.len(), 1080);
    // The mean of 3600 to 3609 is 604.5.
    assert_eq!(coarse[0], 605);
    assert_eq!(coarse[1079], 395);
}

#[test]
fn a_source_that_has_carried_data_takes_less_than_64_kb_and_a_figure_that_is_always_zero_takes_nothing() {
    let column = size_of::<Column>();
    assert!(size_of::<SourceHistory>() + SOURCE.len() * column < 64_000);
    let columns = |history: &SourceHistory| history.columns.iter().flatten().count();
    assert_eq!(columns(&lived(1000, |_| NOTHING)), 0);
    assert_eq!(columns(&lived(1000, |_| rate(1e6))), 1);
    let full =
        lived(1000, |s| [Some(1e6), Some(s as f64), Some(s as f64), Some(s as f64), Some(1.), Some(1.), Some(-1.)]);
    assert_eq!(columns(&full), SOURCE.len());
}

#[test]
fn counters_are_what_they_grew_by_and_ten_seconds_of_them_their_sum() {
    let history =
        lived(40, |s| [Some(1.0), Some(if s < 15 { 0.0 } else { (s * 3) as f64 }), None, None, None, None, None]);
    let of = |fine| {
        let steps = history.steps(Duration::MAX, fine);
        let series = history.read(steps, steps, fine);
        series["packets-lost"].iter().map(|v| v.as_ref().unwrap().as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(true)[13..18], [0, 0, 45, 3, 3]);
    assert_eq!(of(false), [0, 45 + 4 * 3, 30, 30]);
}

#[test]
fn a_counter_that_begins_anew_is_not_negative() {
    let history = lived(3, |s| [Some(1.0), Some([5.0, 2.0, 4.0][s as usize]), None, None, None, None, None]);
    let series = history.read(3, 3, true);
    assert_eq!(serde_json::json!(series["packets-lost"]), serde_json::json!([5, 0, 2]));
}

#[test]
fn times_keep_their_sign_and_the_one_furthest_from_zero_stands_for_ten_seconds() {
    let history = lived(20, |s| [Some(1.0), None, None, None, (s > 12).then_some(0.25), None, Some(s as f64 - 15.0)]);
    let series = history.read(2, 2, false);
    assert_eq!(serde_json::json!(series["skew-ms"]), serde_json::json!([-15.0, -5.0]));
    assert_eq!(serde_json::json!(series["jitter-ms"]), serde_json::json!([null, 0.25]));
}

#[test]
fn seconds_that_nobody_took_are_absent() {
    let start = Instant::now();
    let mut history = SourceHistory::of_source(start);
    for s in [0, 1, 4] {
        history.record(rate(7.0), start + Duration::from_secs(s));
    }
    assert_eq!(
        serde_json::json!(history.read(5, 6, true)["bitrate-bps"]),
        serde_json::json!([null, 7, 7, null, null, 7])
    );
    // A sleep of years takes no time, and leaves nothing of before.
    history.record(rate(9.0), start + Duration::from_secs(1 << 32));
    let series = history.read(1080, 1080, false);
    assert!(series["bitrate-bps"].iter().all(Option::is_none));
    assert_eq!(serde_json::json!(history.read(2, 2, true)["bitrate-bps"]), serde_json::json!([null, 9]));
}

#[test]
fn small_numbers_are_exact_and_the_greatest_are_cut() {
    for value in 0..1024 {
        assert_eq!(Short::new(f64::from(value)).value(), Some(f64::from(value)));
        assert_eq!(Short::new(f64::from(-value)).value(), Some(f64::from(-value)));
    }
    for value in [f64::MAX, f64::INFINITY, -f64::MAX] {
        assert!(Short::new(value).value().is_some_and(|v| v.abs() > 2e12 && v.signum() == value.signum()));
    }
    assert_eq!(Short::ABSENT.value(), None);
}

proptest! {
    #[test]
    fn any_number_is_kept_to_one_in_two_thousand(value in -2_000_000_000_000_i64..2_000_000_000_000, shift in 0_u32..40) {
        let value = (value >> shift) as f64;
        let kept = Short::new(value).value().unwrap();
        prop_assert!((kept - value).abs() <= value.abs() / 2000.0, "{value} became {kept}");
    }
}
