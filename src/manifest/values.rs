//! The small languages inside of scalars: durations, amounts, probabilities.

use std::time::Duration;

use crate::model::delivery::Amount;
use crate::model::fleet::Probability;
use crate::model::limits;

/// Returns the duration of a text such as `20ms`, `30s`, `24h` or `1h30m`; the error is whole sentences.
pub fn duration(text: &str) -> Result<Duration, String> {
    exact_duration(text).map_err(|sentence| match near_duration(text) {
        Some(near) => format!("{sentence} Did you mean `{near}`?"),
        None => sentence,
    })
}

/// Returns the text of a duration that another one most likely means: with spaces, with the names of units, in capitals,
/// with decimals, or in the form of ISO 8601.
fn near_duration(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let (units, spoken) = match lower.strip_prefix('p') {
        // `PT5M` is five minutes, and `P5M` five months, which are no duration.
        Some(iso) => (iso.replace('t', " "), iso.split('t').next().is_some_and(|date| date.contains('m'))),
        None => (lower.replace(" and ", " ").replace(',', " "), false),
    };
    let mut rest = units.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() && !spoken {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail.trim_start();
    }
    let millis = (seconds * 1_000.0).round();
    if spoken || !(1.0..=limits::DURATION_MAX.as_millis() as f64).contains(&millis) {
        return None;
    }
    let near = crate::model::text::duration(Duration::from_millis(millis as u64));
    (near != text && exact_duration(&near).is_ok()).then_some(near)
}

fn exact_duration(text: &str) -> Result<Duration, String> {
    let malformed =
        || "A duration is a number with a unit of `ms`, `s`, `m`, `h` or `d`, such as `30s` or `1h30m`.".to_string();
    let mut millis: u128 = 0;
    let mut unit_last = u64::MAX;
    let mut rest = text;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(malformed()),
        };
        if factor >= unit_last {
            return Err(
                "The parts of a duration go from the largest unit to the smallest, such as `1h30m`.".to_string()
            );
        }
        if number.is_empty() {
            return Err(malformed());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        millis += u128::from(number) * u128::from(factor);
        unit_last = factor;
        rest = tail;
    }
    if millis > limits::DURATION_MAX.as_millis() {
        return Err(too_long());
    }
    Ok(Duration::from_millis(u64::try_from(millis).expect("DURATION_MAX fits into 64 bits of milliseconds")))
}

fn too_long() -> String {
    format!("A duration is at most {} days.", limits::DURATION_MAX.as_secs() / 86_400)
}

/// Returns the amount of a text such as `10%` (a number is not text); the error is a sentence.
pub fn amount(text: &str) -> Result<Amount, String> {
    let malformed = "A percentage is a whole number from 0 to 100 and `%`, such as `10%`; a number of devices \
                     stands without quotes.";
    let digits = text.strip_suffix('%').unwrap_or_default();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u8>() {
        Ok(percent) if is_number && percent <= 100 => Ok(Amount::Percent(percent)),
        _ => Err(with_near(malformed, text, |near| near.parse::<u8>().is_ok_and(|percent| percent <= 100))),
    }
}

/// Returns a sentence, with the percentage that a text most likely means: without spaces, with the sign for its word, or
/// without decimals that are zero.
fn with_near(sentence: &str, text: &str, is_right: impl Fn(&str) -> bool) -> String {
    let lower = text.trim().to_ascii_lowercase();
    let number = ["%", "percent", "per cent", "pct"].iter().find_map(|sign| lower.strip_suffix(sign)).map(str::trim);
    let number = number.map(|number| match number.split_once('.') {
        Some((whole, decimals)) if decimals.bytes().all(|byte| byte == b'0') => whole,
        _ => number,
    });
    match number.filter(|number| is_right(number)) {
        Some(number) => format!("{sentence} Did you mean `{number}%`?"),
        None => sentence.to_string(),
    }
}

/// Returns the probability of a text such as `2%` or `0.5%`; the error is a sentence.
pub fn probability(text: &str) -> Result<Probability, String> {
    const DECIMALS: usize = 4;
    let malformed = "A probability is a percentage from `0%` to `100%` with at most four decimals, such as `0.5%`.";
    let malformed =
        with_near(malformed, text, |near| near.parse::<f64>().is_ok_and(|number| (0.0..=100.0).contains(&number)));
    let number = text.strip_suffix('%').ok_or(&malformed)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS || whole.len() > 3 {
        return Err(malformed);
    }
    let whole: u32 = whole.parse().expect("at most three digits");
    let decimals: u32 = format!("{decimals:0<DECIMALS$}").parse().expect("four digits");
    let per_million = whole * 10_000 + decimals;
    if per_million > 1_000_000 { Err(malformed) } else { Ok(Probability { per_million }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(duration(text).ok(), expect.map(Duration::from_millis), "{text}");
        };
        check("20ms", Some(20));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("24h", Some(86_400_000));
        check("7d", Some(604_800_000));
        check("1h30m", Some(5_400_000));
        check("0s", Some(0));
        for bad in
            ["", "30", "s", "30 s", "-1s", "1.5h", "30m1h", "1h1h", "99999999999999999999s", "367d", "5min", "١s"]
        {
            check(bad, None);
        }
    }

    #[test]
    fn other_ways_to_write_a_duration_are_understood_and_not_taken() {
        let check = |text: &str, near: Option<&str>| {
            let sentence = duration(text).unwrap_err();
            match near {
                Some(near) => assert!(sentence.ends_with(&format!(" Did you mean `{near}`?")), "{text}: {sentence}"),
                None => assert!(!sentence.contains("Did you mean"), "{text}: {sentence}"),
            }
        };
        for (text, near) in [
            ("30 sec", "30s"),
            ("5min", "5m"),
            ("PT5M", "5m"),
            ("PT1H30M", "90m"),
            ("P1D", "1d"),
            ("P1DT2H", "26h"),
            ("1 hour", "1h"),
            ("90 seconds", "90s"),
            ("1.5h", "90m"),
            ("30S", "30s"),
            ("2 weeks", "14d"),
            ("1 h 30 m", "90m"),
            ("30m1h", "90m"),
            ("250 ms", "250ms"),
            ("1 hour and 5 minutes", "65m"),
        ] {
            check(text, Some(near));
        }
        for text in ["", "30", "s", "-1s", "P1M", "soon", "5 fortnights", "367d", "0 sec", "1.2.3s", "1 month"] {
            check(text, None);
        }
    }

    #[test]
    fn other_ways_to_write_a_percentage_are_understood_and_not_taken() {
        for (text, near) in
            [("10 %", "10%"), ("10 percent", "10%"), ("10.0%", "10%"), ("100 PCT", "100%"), (" 5%", "5%")]
        {
            let sentence = amount(text).unwrap_err();
            assert!(sentence.ends_with(&format!(" Did you mean `{near}`?")), "{text}: {sentence}");
        }
        for text in ["101%", "10", "%", "-1%", "1.5%", "a %"] {
            assert!(!amount(text).unwrap_err().contains("Did you mean"), "{text}");
        }
        assert!(probability("0.5 %").unwrap_err().ends_with("Did you mean `0.5%`?"));
        assert!(!probability("200 %").unwrap_err().contains("Did you mean"));
    }

    #[test]
    fn percentages() {
        let check =
            |text: &str, expect: Option<u8>| assert_eq!(amount(text).ok(), expect.map(Amount::Percent), "{text}");
        check("0%", Some(0));
        check("100%", Some(100));
        for bad in ["101%", "10", "%", "-1%", "+1%", "1.5%", "10 %", "256%"] {
            check(bad, None);
        }
    }

    #[test]
    fn probabilities() {
        let check = |text: &str, expect: Option<u32>| {
            assert_eq!(probability(text).ok().map(|found| found.per_million), expect, "{text}");
        };
        check("1%", Some(10_000));
        check("0.5%", Some(5_000));
        check("0.0001%", Some(1));
        check("100%", Some(1_000_000));
        for bad in ["100.1%", "0.00001%", ".5%", "5.%", "5", "-1%", "9999%"] {
            check(bad, None);
        }
    }
}
