//! The small languages inside of scalars: durations, amounts, probabilities.

use std::time::Duration;

use crate::model::delivery::Amount;
use crate::model::fleet::Probability;
use crate::model::limits;

/// Returns the duration of a text such as `20ms`, `30s`, `24h` or `1h30m`; the error is a sentence.
pub fn duration(text: &str) -> Result<Duration, String> {
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
    let digits = text.strip_suffix('%').ok_or(malformed)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u8>() {
        Ok(percent) if is_number && percent <= 100 => Ok(Amount::Percent(percent)),
        _ => Err(malformed.to_string()),
    }
}

/// Returns the probability of a text such as `2%` or `0.5%`; the error is a sentence.
pub fn probability(text: &str) -> Result<Probability, String> {
    const DECIMALS: usize = 4;
    let malformed = "A probability is a percentage from `0%` to `100%` with at most four decimals, such as `0.5%`.";
    let number = text.strip_suffix('%').ok_or(malformed)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS || whole.len() > 3 {
        return Err(malformed.to_string());
    }
    let whole: u32 = whole.parse().expect("at most three digits");
    let decimals: u32 = format!("{decimals:0<DECIMALS$}").parse().expect("four digits");
    let per_million = whole * 10_000 + decimals;
    if per_million > 1_000_000 { Err(malformed.to_string()) } else { Ok(Probability { per_million }) }
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
