//! What a plain YAML scalar means: the core schema of YAML 1.2.2 (section 10.3).

use serde_json::Number;

use super::node::Content;

/// A plain scalar that is a number and has no JSON form.
pub struct Unrepresentable;

/// Returns the value of a plain scalar in the core schema (YAML 1.2.2, section 10.3.2).
pub fn resolve(text: &str) -> Result<Content, Unrepresentable> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Content::Null),
        "true" | "True" | "TRUE" => return Ok(Content::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Content::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Err(Unrepresentable),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Err(Unrepresentable);
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(Content::String(text.to_string()));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return match u64::from_str_radix(digits, radix) {
                Ok(number) => Ok(Content::Number(number.into())),
                Err(_) => Err(Unrepresentable),
            };
        }
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        // `012` is 10 in YAML 1.1 and 12 in 1.2: the author most likely meant the text.
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Ok(Content::String(text.to_string()));
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let number = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
        return number.map(Content::Number).map_err(|_| Unrepresentable);
    }
    if !is_float(unsigned) {
        return Ok(Content::String(text.to_string()));
    }
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    number.map(Content::Number).ok_or(Unrepresentable)
}

/// Returns true for `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digit = !whole.is_empty() || !fraction.is_empty();
    let exponent_is_legal = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    has_digit && digits(whole) && digits(fraction) && exponent_is_legal
}

/// Returns the suffix of the core schema's tag of a value, such as `int`.
pub fn core_type(content: &Content) -> &'static str {
    match content {
        Content::Null => "null",
        Content::Bool(_) => "bool",
        Content::Number(number) if number.is_f64() => "float",
        Content::Number(_) => "int",
        Content::String(_) => "str",
        Content::Seq(_) => "seq",
        Content::Map(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(text: &str, expect: Option<Value>) {
        let found = resolve(text).ok().map(|content| match content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(value),
            Content::Number(number) => Value::Number(number),
            Content::String(text) => Value::String(text),
            Content::Seq(_) | Content::Map(_) => panic!("a scalar is no collection"),
        });
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        check("", Some(Value::Null));
        check("~", Some(Value::Null));
        check("NULL", Some(Value::Null));
        check("nULL", Some(json!("nULL")));
        check("True", Some(json!(true)));
        for word in ["yes", "NO", "on", "y", "-", "+", ".", "1_000", "12:30:45", "0x", "0b1", "1e", "e5", "--1", "0o8"]
        {
            check(word, Some(json!(word)));
        }
        check("0", Some(json!(0)));
        check("+7", Some(json!(7)));
        check("-9223372036854775808", Some(json!(i64::MIN)));
        check("18446744073709551615", Some(json!(u64::MAX)));
        check("0x1F", Some(json!(31)));
        check("0o17", Some(json!(15)));
        check("012", Some(json!("012")));
        check("1.50", Some(json!(1.5)));
        check(".5", Some(json!(0.5)));
        check("-1e3", Some(json!(-1000.0)));
        check("2.", Some(json!(2.0)));
        for bad in [".inf", "-.INF", ".nan", "1e999", "18446744073709551616", "0xFFFFFFFFFFFFFFFFF"] {
            check(bad, None);
        }
    }
}
