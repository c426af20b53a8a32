//! How figures are written for people: times, spans, rates, counts.

use std::time::{Duration, SystemTime};

/// A moment as RFC 3339 in UTC, to the second: `2026-11-22T18:00:00Z`.
pub fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A span in at most two units, such as `350ms`, `4s` or `2h 5m`.
pub fn span(of: Duration) -> String {
    let s = of.as_secs();
    let coarse = match s {
        0 => Duration::from_millis(of.as_millis() as u64),
        1..3600 => Duration::from_secs(s),
        3600..86_400 => Duration::from_secs(s - s % 60),
        _ => Duration::from_secs(s - s % 3600),
    };
    humantime::format_duration(coarse).to_string()
}

/// A bit rate with three figures: `850 bit/s`, `4.20 Mbit/s`, `51.3 Mbit/s`.
pub fn rate(bps: u64) -> String {
    let (value, unit) = match bps {
        0..1_000 => return format!("{bps} bit/s"),
        1_000..1_000_000 => (bps as f64 / 1e3, "kbit/s"),
        1_000_000..1_000_000_000 => (bps as f64 / 1e6, "Mbit/s"),
        _ => (bps as f64 / 1e9, "Gbit/s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// A count with its noun: `1 packet`, `0 packets`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The host's name as it is now; `-` is RFC 5424's nil value.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// The beginning of `text`, at most `most` bytes.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
        let cases = [(0, "0s"), (350, "350ms"), (4_200, "4s"), (65_000, "1m 5s"), (7_505_000, "2h 5m")];
        for (ms, text) in cases {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
        assert_eq!(span(Duration::from_secs(90_061)), "1day 1h");
    }

    #[test]
    fn rates_have_three_figures() {
        let cases =
            [(850, "850 bit/s"), (4_200_000, "4.20 Mbit/s"), (51_300_000, "51.3 Mbit/s"), (450_000, "450 kbit/s")];
        for (bps, text) in cases {
            assert_eq!(rate(bps), text);
        }
    }

    #[test]
    fn moments_are_utc_to_the_second() {
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn counts_agree_with_their_noun() {
        assert_eq!(count(1, "packet"), "1 packet");
        assert_eq!(count(2, "packet"), "2 packets");
    }
}
