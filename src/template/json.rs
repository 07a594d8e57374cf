//! JSON-LD as far as DTDL uses it: one value or a list of them, `@type` and `@value`, names and identifiers.

use serde_json::Value;

/// Returns the values of a member: those of a list, or the one that it is, each with its JSON pointer.
pub fn each<'a>(value: Option<&'a Value>, pointer: &str) -> Vec<(String, &'a Value)> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(at, item)| (format!("{pointer}/{at}"), item)).collect()
        }
        Some(value) => vec![(pointer.to_string(), value)],
    }
}

/// Returns the value of a member that has one, which may stand in a list.
pub fn one<'a>(value: &'a Value, pointer: &str) -> (String, &'a Value) {
    match value {
        Value::Array(items) if items.len() == 1 => (format!("{pointer}/0"), &items[0]),
        value => (pointer.to_string(), value),
    }
}

/// Returns a literal, which may be written as `{"@value": …}`.
pub fn literal(value: &Value) -> &Value {
    let value = match value {
        Value::Array(items) if items.len() == 1 => &items[0],
        value => value,
    };
    value.get("@value").unwrap_or(value)
}

/// Returns the pointer of a member.
pub fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Returns the key that a segment of a JSON pointer means.
pub fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

/// Returns true when the `@type` of an element has a word, be it among others.
pub fn has_type(element: &Value, word: &str) -> bool {
    let is_it = |value: &Value| value.as_str().is_some_and(|text| class_word(text) == word);
    match element.get("@type") {
        Some(Value::Array(words)) => words.iter().any(is_it),
        Some(value) => is_it(value),
        None => false,
    }
}

/// Returns the word of a class that is written as its identifier, such as `dtmi:dtdl:class:Property;3`.
pub fn class_word(text: &str) -> &str {
    match text.strip_prefix("dtmi:dtdl:class:") {
        Some(rest) => rest.split_once(';').map_or(rest, |(word, _)| word),
        None => text,
    }
}

/// Returns true for a name of DTDL: `^[a-zA-Z](?:[a-zA-Z0-9_]*[a-zA-Z0-9])?$`, at most `chars_max` characters.
pub fn is_name(name: &str, chars_max: usize) -> bool {
    name.len() <= chars_max
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns true for a digital twin model identifier. Version 3 of DTDL lets the version of a model be `1.2`, or be left
/// out.
pub fn is_dtmi(id: &str, is_version_3: bool) -> bool {
    let Some(rest) = id.strip_prefix("dtmi:") else { return false };
    let (path, version) = match rest.split_once(';') {
        Some((path, version)) => (path, Some(version)),
        None => (rest, None),
    };
    let is_number = |text: &str, digits: usize| {
        !text.is_empty()
            && text.len() <= digits
            && !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_version = match version.map(|version| version.split_once('.').unwrap_or((version, ""))) {
        None => is_version_3,
        Some((major, "")) => is_number(major, 9) && version.is_some_and(|version| !version.ends_with('.')),
        Some((major, minor)) => is_version_3 && is_number(major, 9) && is_number(minor, 6),
    };
    is_version && path.split(':').all(|segment| is_name(segment, id.len()))
}
