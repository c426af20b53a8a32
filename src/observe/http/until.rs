//! The time that a freeze ends: an instant or a duration.

use std::time::{Duration, SystemTime};

/// A text that is no time in the future.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UntilError {
    /// Neither form fits.
    #[error("'{0}' is no time: write an RFC 3339 instant such as 2026-03-01T22:00:00Z, or a duration such as 2h")]
    Form(String),
    /// The instant is over.
    #[error("'{0}' is in the past")]
    Past(String),
}

/// Reads an RFC 3339 instant (`Z` or an offset) or a humantime duration from `now`.
///
/// # Errors
/// The text has neither form, or the instant is not after `now`.
pub fn parse(text: &str, now: SystemTime) -> Result<SystemTime, UntilError> {
    let text = text.trim();
    let form = || UntilError::Form(text.to_owned());
    let until = match instant(text) {
        Some(t) => t,
        None => {
            let wait = humantime::parse_duration(text).map_err(|_| form())?;
            // Far enough for every event, near enough for every formatter of times.
            if wait > Duration::from_secs(100 * 365 * 86400) {
                return Err(form());
            }
            now.checked_add(wait).ok_or_else(form)?
        }
    };
    if until > now { Ok(until) } else { Err(UntilError::Past(text.to_owned())) }
}

fn instant(text: &str) -> Option<SystemTime> {
    if let Ok(t) = humantime::parse_rfc3339(text) {
        return Some(t);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let two = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u64>().ok())?;
    let (hours, minutes) = (two(hours).filter(|h| *h < 24)?, two(minutes).filter(|m| *m < 60)?);
    let ahead = Duration::from_secs(hours * 3600 + minutes * 60);
    let t = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    match offset.as_bytes()[0] {
        b'+' => t.checked_sub(ahead),
        b'-' => t.checked_add(ahead),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn an_instant_may_be_in_utc_or_with_an_offset() {
        let now = at("2026-03-01T12:00:00Z");
        let end = at("2026-03-01T20:00:00Z");
        for text in ["2026-03-01T20:00:00Z", "2026-03-01T22:00:00+02:00", "2026-03-01T15:30:00-04:30"] {
            assert_eq!(parse(text, now), Ok(end), "{text}");
        }
    }

    #[test]
    fn a_duration_counts_from_now() {
        let now = at("2026-03-01T12:00:00Z");
        assert_eq!(parse("2h 30m", now), Ok(at("2026-03-01T14:30:00Z")));
    }

    #[test]
    fn what_is_over_or_no_time_is_refused() {
        let now = at("2026-03-01T12:00:00Z");
        assert!(matches!(parse("2026-03-01T11:59:59Z", now), Err(UntilError::Past(_))));
        assert!(matches!(parse("0s", now), Err(UntilError::Past(_))));
        for text in
            ["", "tonight", "22:00", "2026-03-01T20:00:00", "2026-03-01T20:00:00+99:99", "9999999999y", "ééé+02:00"]
        {
            assert!(matches!(parse(text, now), Err(UntilError::Form(_))), "{text}");
        }
    }
}
