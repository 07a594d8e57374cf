//! When a period begins that a person asks about.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::manifest::parse_duration;

/// The forms that [`beginning`] reads, for a message.
pub const FORMS: &str = "30d, 12h, 4w, 90m, a date (2027-03-01) or a time (2027-03-01T06:00:00Z)";

/// Returns the beginning of a period: a time back from now, at least a second (`30d`, `12h`, `4w`, `90m`), a date or
/// a time of the clock in UTC, or an instant. `None` for any other text, and for a time that no instant can have.
pub fn beginning(text: &str, now: Timestamp) -> Option<Timestamp> {
    let of_clock = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    back(text, now).or_else(|| text.parse().ok()).or_else(of_clock)
}

fn back(text: &str, now: Timestamp) -> Option<Timestamp> {
    // A week is no unit of the documents.
    let weeks = text.strip_suffix('w').and_then(|weeks| weeks.parse::<u64>().ok());
    let days = weeks.and_then(|weeks| weeks.checked_mul(7)).map(|days| format!("{days}d"));
    let span = SignedDuration::try_from(parse_duration(days.as_deref().unwrap_or(text)).ok()?).ok()?;
    now.checked_sub(span).ok().filter(|at| *at < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_some_time_ago_or_at_a_time() {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(beginning(text, now), expect.map(|at| at.parse().unwrap()), "{text}");
        };
        check("30d", Some("2026-10-21T10:00:00Z"));
        check("12h", Some("2026-11-19T22:00:00Z"));
        check("4w", Some("2026-10-23T10:00:00Z"));
        check("90m", Some("2026-11-20T08:30:00Z"));
        check("2026-03-01", Some("2026-03-01T00:00:00Z"));
        check("2026-03-01T06:00:00", Some("2026-03-01T06:00:00Z"));
        check("2026-03-01T06:00:00+02:00", Some("2026-03-01T04:00:00Z"));
        for text in
            ["", "all", "0d", "d", "-1d", "1y", "3", "2026-03", "99999999999999d", "99999999999999999999w", "1é"]
        {
            check(text, None);
        }
    }
}
