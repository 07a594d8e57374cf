//! Dates, times and durations as DTDL wants them: RFC 3339 and ISO 8601.

use jiff::civil::Date;

/// RFC 3339, `full-date`. Not in the year 0000, which the tools of DTDL do not have.
pub fn is_date(text: &str) -> bool {
    text.len() == "2026-11-20".len() && text.parse::<Date>().is_ok_and(|date| date.year() > 0)
}

/// RFC 3339, `full-time`; devices and IoT Central leave the offset out, which is as good.
pub fn is_time(text: &str) -> bool {
    clock(text).is_some_and(|rest| rest.is_empty() || is_offset(rest))
}

/// RFC 3339, `date-time`. Not a leap second, which no clock of a device has.
pub fn is_date_time(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked("2026-11-20".len()) else { return false };
    let time = rest.strip_prefix(['T', 't']).and_then(clock);
    is_date(date) && time.is_some_and(is_offset)
}

/// Returns what follows a time of day with seconds: `10:00:00`, `10:00:00.25`.
fn clock(text: &str) -> Option<&str> {
    let (time, rest) = text.split_at_checked("10:00:00".len())?;
    let [hour, minute, second] = numbers(time)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            (rest.len() < fraction.len()).then_some(rest)?
        }
        None => rest,
    };
    (hour < 24 && minute < 60 && second < 60).then_some(rest)
}

/// `Z` or `+01:00`.
fn is_offset(text: &str) -> bool {
    matches!(text, "Z" | "z")
        || text
            .strip_prefix(['+', '-'])
            .and_then(numbers)
            .is_some_and(|[hours, minutes]: [u8; 2]| hours < 24 && minutes < 60)
}

/// Returns numbers of two digits with colons between them.
fn numbers<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(':');
    for number in &mut numbers {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// ISO 8601, such as `P1DT2H` or `P3W5D`: weeks stand in the place of years and months, and only the last number may
/// have a fraction.
pub fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']).unwrap_or(text).strip_prefix('P') else { return false };
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (rest, None),
    };
    let days = parts(date, "YMD").or_else(|| parts(date, "WD"));
    match (days, time.map(|time| parts(time, "HMS"))) {
        (Some(days), None) => days.count > 0,
        (Some(days), Some(Some(hours))) => !days.has_fraction && hours.count > 0,
        _ => false,
    }
}

/// The parts of a duration.
struct Parts {
    count: usize,
    /// The last one has a fraction.
    has_fraction: bool,
}

/// Returns the parts of a text such as `1Y2M`, each with one of the units, in their order.
fn parts(text: &str, units: &str) -> Option<Parts> {
    let (mut rest, mut left) = (text, units);
    let mut parts = Parts { count: 0, has_fraction: false };
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, after) = rest.split_at(end);
        let unit = after.chars().next()?;
        left = &left[left.find(unit)? + 1..];
        let (whole, fraction) = match number.split_once(['.', ',']) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if parts.has_fraction || !is_digits(whole) || !fraction.is_none_or(is_digits) {
            return None;
        }
        parts = Parts { count: parts.count + 1, has_fraction: fraction.is_some() };
        rest = &after[1..];
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_it: fn(&str) -> bool, right: &[&str], wrong: &[&str]) {
        let refused: Vec<_> = right.iter().filter(|text| !is_it(text)).collect();
        let accepted: Vec<_> = wrong.iter().filter(|text| is_it(text)).collect();
        assert!(refused.is_empty() && accepted.is_empty(), "refused {refused:?}, accepted {accepted:?}");
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        check(
            is_date,
            &["2026-11-20", "2024-02-29", "0001-01-01", "9999-12-31"],
            &["2026-02-29", "2026-11-2", "2026-13-01", "20261120", "2026-11-20Z", "0000-01-01", ""],
        );
        check(
            is_time,
            &["10:00:00Z", "10:00:00", "23:59:59.999+05:30", "00:00:00z", "10:00:00-23:59"],
            &[
                "06:00Z",
                "24:00:00Z",
                "10:60:00Z",
                "10:00:60Z",
                "10:00:00+5",
                "10:00:00+24:00",
                "10:00:00.Z",
                "T10:00:00",
                "1:00:00",
                "10:00:00 Z",
                "",
            ],
        );
        check(
            is_date_time,
            &[
                "9999-12-31T23:59:59Z",
                "2026-11-20T10:00:00.123456789+01:00",
                "0001-01-01t00:00:00z",
                "1985-04-12T23:20:50.52Z",
            ],
            &[
                "1980-01-01T06:00Z",
                "1965-12-31T06:00:00+11",
                "1980-01-01T00:00:60Z",
                "2026-11-20 10:00:00Z",
                "2026-11-20T10:00:00",
                "2026-02-30T10:00:00Z",
                "2026-11-20",
                "2026-11-20T10:00:00Z[Europe/Berlin]",
                "0000-01-01T00:00:00Z",
                "",
            ],
        );
    }

    #[test]
    fn durations_are_those_of_iso_8601() {
        let words = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
        check(
            is_duration,
            &words(
                "P1D PT1H30M P3.4W P3,5W P1Y2M3DT4H5M6.7S -P1D PT0S P0.5Y P2W PT36H P1M P3W5D P2W4DT8H9M5S \
                 P2W4DT8H9M P2W4DT8H5S P2W4DT9M5S P2WT8H9M5S P2W1.5D",
            ),
            &words(
                "P1Y3W P2M3W P3W2M P3.4W5D P3.4WT1H P5D3W P3Y6M2W4DT8H P PT P1DT P2WT 1D P1H PT1D PT1M1H P1M1Y \
                 P1.5YT1H P1.5Y1M PT1.S PT.5S P1 p1d P-1D",
            ),
        );
        check(is_duration, &[], &["P1D ", " P1D", ""]);
    }
}
