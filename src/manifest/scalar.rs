//! What a plain scalar means: the core schema of YAML 1.2.2.

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
        // `012` is 10 in YAML 1.1 and 12 in 1.2: neither is likely what was meant, and the text is.
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
