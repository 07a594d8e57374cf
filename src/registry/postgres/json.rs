//! How JSON and texts are kept in columns of PostgreSQL.
//!
//! PostgreSQL has no U+0000 in a text, nor in a string of `jsonb`. In keys, strings and texts alike, U+0000 is kept as
//! U+0001 U+0001, and U+0001 as U+0001 U+0002. So the order of two texts by their bytes stays what it was, as do their
//! starts; their lengths, ends and parts do not.
//!
//! `jsonb` has decimal numbers without an exponent, and keeps the digits behind the point. A float that is written
//! without a point would come back as an integer, and one whose digits were cut would not be equal to an integer that
//! it is equal to: floats from 2^53 on, all of which are whole, are written with all their digits and `.0`. `jsonb` has
//! no -0.0 either; it is written as 0.0, which is equal.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use serde_json::{Map, Number, Serializer, Value};

/// Every float from here on is whole, and not every whole number is a float.
const WHOLE_FROM: f64 = 9_007_199_254_740_992.0;
/// The character that opens an escape.
const ESCAPE: char = '\u{1}';
/// What follows [`ESCAPE`] in the place of U+0000.
const ZERO: char = '\u{1}';
/// What follows [`ESCAPE`] in the place of U+0001.
const ONE: char = '\u{2}';

/// Returns JSON for a parameter of type `jsonb`; [`read`] is the inverse.
pub fn stored(value: &Value) -> String {
    written(value)
}

/// Returns JSON of an object, as [`stored`] does.
pub fn stored_members(members: &Map<String, Value>) -> String {
    written(members)
}

fn written(value: &impl serde::Serialize) -> String {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = Serializer::with_formatter(&mut bytes, Stored);
    value.serialize(&mut serializer).expect("a value is written to memory");
    String::from_utf8(bytes).expect("JSON is written as UTF-8")
}

/// Returns a number as [`stored`] writes it.
pub fn stored_number(number: &Number) -> String {
    match (number.is_f64(), number.as_f64()) {
        (true, Some(real)) => stored_real(real),
        (true, None) | (false, _) => number.to_string(),
    }
}

/// Returns a float as [`stored`] writes it. The float must be finite.
pub fn stored_real(real: f64) -> String {
    match Number::from_f64(real) {
        _ if real.abs() >= WHOLE_FROM => format!("{real:.1}"),
        _ if real == 0.0 => "0.0".to_string(),
        Some(number) => number.to_string(),
        None => unreachable!("only a number that is not finite is none of JSON, and {real} is below 2^53"),
    }
}

/// Returns a text for a column of texts; [`read_text`] is the inverse.
pub fn stored_text(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte > 1) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.extend([ESCAPE, ZERO]),
            ESCAPE => stored.extend([ESCAPE, ONE]),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// Returns the value of the text of a `jsonb`.
///
/// # Errors
/// The text is no JSON.
pub fn read(text: &str) -> serde_json::Result<Value> {
    let value = serde_json::from_str(text)?;
    // PostgreSQL writes it so, and an escaped backslash before these digits only costs time.
    Ok(if text.contains("\\u0001") { unescaped(value) } else { value })
}

/// Returns the text of a column of texts.
pub fn read_text(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut read = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != ESCAPE {
            read.push(character);
            continue;
        }
        match characters.next() {
            Some(ZERO) => read.push('\0'),
            Some(ONE) => read.push(ESCAPE),
            // Not written by us: it stays what it is.
            other => read.extend([ESCAPE].into_iter().chain(other)),
        }
    }
    read
}

fn unescaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(read_text(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(unescaped).collect()),
        Value::Object(members) => {
            let members = members.into_iter().map(|(key, value)| (read_text(key), unescaped(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Writes compact JSON, but for what `jsonb` cannot keep.
struct Stored;

impl Formatter for Stored {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value != 0.0 && value.abs() < WHOLE_FROM {
            return CompactFormatter.write_f64(writer, value);
        }
        writer.write_all(stored_real(value).as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(0) => writer.write_all(b"\\u0001\\u0001"),
            CharEscape::AsciiControl(1) => writer.write_all(b"\\u0001\\u0002"),
            other => CompactFormatter.write_char_escape(writer, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_have_all_their_digits() {
        let check = |real: f64, expect: &str| assert_eq!(stored(&json!(real)), expect);
        check(1.5, "1.5");
        check(-0.0, "0.0");
        check(1e15, "1000000000000000.0");
        check(9_007_199_254_740_991.0, "9007199254740991.0");
        check(-9_007_199_254_740_992.0, "-9007199254740992.0");
        check(1.152921504606847e18, "1152921504606846976.0");
        check(5e-324, "5e-324");
        assert_eq!(stored(&json!(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn what_we_did_not_write_stays() {
        for text in ["\u{1}", "a\u{1}b", "\u{1}\u{3}"] {
            assert_eq!(read_text(text.to_string()), text);
        }
    }
}
