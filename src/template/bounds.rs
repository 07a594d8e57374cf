//! Bounds of values that IoT Central adds to a schema: `minValue`, `maxValue`, `decimalPlaces`, `minLength` and
//! `maxLength`.

use serde_json::{Number, Value};

use super::json::{below, literal};

/// The bounds of a number or a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bounds {
    min_value: Option<Number>,
    max_value: Option<Number>,
    decimal_places: Option<u64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
}

impl Bounds {
    /// Returns the bounds that an element has, with the pointers and messages of those that are none.
    pub fn of(element: &Value, pointer: &str) -> (Option<Bounds>, Vec<(String, String)>) {
        let mut problems = Vec::new();
        let mut number = |key: &str| {
            let value = literal(element.get(key)?);
            let found = value.as_number().cloned();
            if found.is_none() {
                problems.push((below(pointer, key), format!("`{key}` must be a number")));
            }
            found
        };
        let (min_value, max_value) = (number("minValue"), number("maxValue"));
        let mut count = |key: &str| {
            let value = literal(element.get(key)?);
            // Tools write 2.0 for 2.
            let whole = value.as_f64().filter(|value| value.fract() == 0.0 && (0.0..1e9).contains(value));
            if whole.is_none() {
                problems.push((below(pointer, key), format!("`{key}` must be a whole number, 0 or more")));
            }
            whole.map(|whole| whole as u64)
        };
        let bounds = Bounds {
            min_value,
            max_value,
            decimal_places: count("decimalPlaces"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
        };
        ((bounds != Bounds::default()).then_some(bounds), problems)
    }

    /// Returns what is expected of a value that is out of bounds, as it follows "expects"; `None` for one within them.
    pub fn broken_by(&self, value: &Value) -> Option<String> {
        match value {
            Value::Number(number) => self.broken_by_number(number),
            Value::String(text) => {
                let characters = text.chars().count() as u64;
                let short = self.min_length.filter(|least| characters < *least);
                let long = self.max_length.filter(|most| characters > *most);
                let least = short.map(|least| format!("at least {}", counted(least, "character")));
                least.or(long.map(|most| format!("at most {}", counted(most, "character"))))
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn broken_by_number(&self, number: &Number) -> Option<String> {
        let value = number.as_f64()?;
        let bound = |bound: &Option<Number>| bound.as_ref().and_then(Number::as_f64);
        if let Some(least) =
            self.min_value.as_ref().filter(|_| bound(&self.min_value).is_some_and(|least| value < least))
        {
            return Some(format!("at least {least}"));
        }
        if let Some(most) = self.max_value.as_ref().filter(|_| bound(&self.max_value).is_some_and(|most| value > most))
        {
            return Some(format!("at most {most}"));
        }
        let places = self.decimal_places.filter(|most| decimal_places(number) > *most)?;
        Some(format!("at most {}", counted(places, "decimal place")))
    }
}

/// Returns the digits after the point of a number as it is written.
fn decimal_places(number: &Number) -> u64 {
    let text = number.to_string();
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let fraction = digits.split_once('.').map_or("", |(_, fraction)| fraction.trim_end_matches('0'));
    let places = fraction.len() as i64 - exponent.parse::<i64>().unwrap_or(0);
    u64::try_from(places).unwrap_or(0)
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_held_to_their_bounds() {
        let (bounds, problems) = Bounds::of(
            &json!({"minValue": -5, "maxValue": {"@value": 10.5}, "decimalPlaces": 1, "minLength": 2, "maxLength": 4.0}),
            "",
        );
        let bounds = bounds.unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let check = |value: Value, expected: Option<&str>| assert_eq!(bounds.broken_by(&value).as_deref(), expected);
        check(json!(10.5), None);
        check(json!(-5), None);
        check(json!(3.0), None);
        check(json!(-5.1), Some("at least -5"));
        check(json!(11), Some("at most 10.5"));
        check(json!(1.25), Some("at most 1 decimal place"));
        check(json!(1e-7), Some("at most 1 decimal place"));
        check(json!("äö"), None);
        check(json!("a"), Some("at least 2 characters"));
        check(json!("abcde"), Some("at most 4 characters"));
        check(json!(true), None);
        let (none, problems) = Bounds::of(&json!({"maxLength": -1, "minValue": "0"}), "/x");
        assert_eq!(none, None);
        let pointers: Vec<&str> = problems.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/x/minValue", "/x/maxLength"]);
        assert_eq!(Bounds::of(&json!({"name": "x"}), "").0, None);
    }
}
