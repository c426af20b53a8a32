//! `status FLOW --since TIME`: figures over time, as a table.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Number;

use super::text::{Align, Paint, Style, Table, clean};
use crate::observe::status::{HistoryDoc, HistorySeries};
use crate::observe::text::{rate, rfc3339, span};

/// Lines of a table at most.
const LINES: usize = 20;

const COLUMNS: [(&str, Align); 7] = [
    ("UNTIL", Align::Left),
    ("BITRATE", Align::Right),
    ("LOWEST", Align::Right),
    ("LOST", Align::Right),
    ("UNRECOVERED", Align::Right),
    ("DROPPED", Align::Right),
    ("JITTER", Align::Right),
];

/// A table for each source and output that has carried media; some steps share a line where there are many.
pub(super) fn table(history: &HistoryDoc, style: Style) -> String {
    if history.sources.is_empty() && history.outputs.is_empty() {
        return format!("{}: no media has come since the daemon started\n", clean(&history.flow));
    }
    let together = history.steps.div_ceil(LINES).max(1);
    let each = Duration::from_secs(history.step_seconds * together as u64);
    let mut out = format!(
        "{}: the last {}, a line for {}\n",
        style.paint(Paint::Strong, &history.flow),
        span(Duration::from_secs(history.step_seconds * history.steps as u64)),
        span(each)
    );
    let parts = history.sources.iter().map(|(name, series)| ("source", name, series));
    for (what, name, series) in parts.chain(history.outputs.iter().map(|(name, series)| ("output", name, series))) {
        let _ = writeln!(out, "\n{}", style.paint(Paint::Strong, &format!("{what} {name}")));
        out.push_str(&one(history, series, together, style));
    }
    out
}

fn one(history: &HistoryDoc, series: &HistorySeries, together: usize, style: Style) -> String {
    let end = humantime::parse_rfc3339(&history.until).unwrap_or(std::time::UNIX_EPOCH);
    let mut table = Table::new(&COLUMNS);
    let values = |name: &str, range: std::ops::Range<usize>| -> Vec<f64> {
        let list = series.get(name).and_then(|list| list.get(range)).unwrap_or_default();
        list.iter().filter_map(|value| value.as_ref().and_then(Number::as_f64)).collect()
    };
    // Lines end with the last step: the first one may be shorter.
    let ends: Vec<_> = (0..).map(|n| history.steps.saturating_sub(n * together)).take_while(|end| *end > 0).collect();
    for stop in ends.into_iter().rev() {
        let range = stop.saturating_sub(together)..stop;
        let later = (history.steps - stop) as u64 * history.step_seconds;
        let rates = values("bitrate-bps", range.clone());
        let sum = |name| values(name, range.clone()).iter().sum::<f64>() as u64;
        let shown = |bps: Option<f64>| (bps.map_or_else(|| "-".to_owned(), |bps| rate(bps as u64)), Paint::Plain);
        let lost = |n: u64, paint| (n.to_string(), if n > 0 { paint } else { Paint::Plain });
        let jitter = values("jitter-ms", range.clone()).into_iter().reduce(f64::max);
        table.row([
            (rfc3339(end - Duration::from_secs(later)), Paint::Plain),
            shown((!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)),
            shown(rates.iter().copied().reduce(f64::min)),
            lost(sum("packets-lost"), Paint::Plain),
            lost(sum("packets-unrecovered"), Paint::Warn),
            lost(sum("packets-dropped"), Paint::Warn),
            (jitter.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3} ms")), Paint::Plain),
        ]);
    }
    table.render(style, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_share_a_line_and_the_last_line_ends_now() {
        let (mut rates, mut lost) = (vec![Some(Number::from(4_000_000)); 45], vec![Some(Number::from(0)); 45]);
        rates[44] = Some(Number::from(1_000_000));
        rates[0] = None;
        (lost[3], lost[4]) = (Some(Number::from(2)), Some(Number::from(5)));
        let series = HistorySeries::from([("bitrate-bps".to_owned(), rates), ("packets-unrecovered".to_owned(), lost)]);
        let history = HistoryDoc {
            flow: "news".to_owned(),
            step_seconds: 1,
            steps: 45,
            until: "2026-03-01T10:00:00Z".to_owned(),
            sources: [("a".to_owned(), series)].into(),
            outputs: std::collections::BTreeMap::new(),
        };
        let text = table(&history, Style { colour: false });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "news: the last 45s, a line for 3s");
        assert_eq!(lines.len(), 4 + 15);
        assert_eq!(
            lines[3..6],
            [
                "UNTIL                     BITRATE       LOWEST  LOST  UNRECOVERED  DROPPED  JITTER",
                "2026-03-01T09:59:18Z  4.00 Mbit/s  4.00 Mbit/s     0            0        0       -",
                "2026-03-01T09:59:21Z  4.00 Mbit/s  4.00 Mbit/s     0            7        0       -",
            ]
        );
        assert_eq!(lines[18], "2026-03-01T10:00:00Z  3.00 Mbit/s  1.00 Mbit/s     0            0        0       -");
        let nothing = HistoryDoc { sources: [].into(), steps: 0, ..history };
        assert_eq!(table(&nothing, Style { colour: false }), "news: no media has come since the daemon started\n");
    }
}
