//! Literals and texts in languages, as the "DTDL Language Specification" has them ("Representational literal",
//! "Localizable string").

use serde_json::Value;

/// The kinds of literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    /// Of 32 bits.
    Integer,
    Text,
}

impl Kind {
    fn holds(self, value: &Value) -> bool {
        match self {
            Kind::Boolean => value.is_boolean(),
            Kind::Integer => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Kind::Text => value.is_string(),
        }
    }

    fn is_type(self, value: &Value) -> bool {
        let word = match self {
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Text => "string",
        };
        let text = match value {
            Value::Array(words) if words.len() == 1 => words[0].as_str(),
            value => value.as_str(),
        };
        let text = text.unwrap_or_default();
        let rest = text.strip_prefix("xsd:").or_else(|| text.strip_prefix("http://www.w3.org/2001/XMLSchema#"));
        rest == Some(word)
    }
}

/// Returns a literal of a kind: bare, or as `{"@value": …}`, or as the only one of a list. `None` for anything else.
pub fn literal_of(value: &Value, kind: Kind, version: u8) -> Option<&Value> {
    let value = match value {
        Value::Array(items) if items.len() == 1 => &items[0],
        value => value,
    };
    let Some(members) = value.as_object() else { return kind.holds(value).then_some(value) };
    let is_type = members.get("@type").is_none_or(|word| kind.is_type(word));
    let is_keyword = |key: &String| is_keyword(key, "@type", version);
    let bare = members.get("@value").filter(|_| is_type && members.keys().all(is_keyword))?;
    kind.holds(bare).then_some(bare)
}

/// Returns true for a member that a value may have beside `@value`. Version 2 lets most keywords stand there.
fn is_keyword(key: &str, other: &str, version: u8) -> bool {
    let is_loose = version == 2 && key.starts_with('@') && !matches!(key, "@id" | "@context" | "@graph");
    key == "@value" || key == other || is_loose
}

/// Returns the texts of a text in languages; `None` when it is none: neither a string, nor an object of languages, nor a
/// list with one text for each language.
pub fn texts(value: &Value, version: u8) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Object(members) => {
            members.iter().map(|(language, text)| text.as_str().filter(|_| is_language(language))).collect()
        }
        Value::Array(items) => {
            let found: Vec<(&str, &str)> = items.iter().map(|item| tagged(item, version)).collect::<Option<_>>()?;
            let mut languages: Vec<&str> = found.iter().map(|(language, _)| *language).collect();
            languages.sort_unstable();
            let is_once = languages.windows(2).all(|pair| pair[0] != pair[1]);
            is_once.then(|| found.into_iter().map(|(_, text)| text).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Returns the language and the text of an item of a list. A text without a language is English.
fn tagged(item: &Value, version: u8) -> Option<(&str, &str)> {
    let Some(members) = item.as_object() else { return Some(("en", item.as_str()?)) };
    let language = match members.get("@language") {
        Some(language) => language.as_str().filter(|language| is_language(language))?,
        None => "en",
    };
    let is_keyword = |key: &String| is_keyword(key, "@language", version);
    members.keys().all(is_keyword).then_some((language, members.get("@value")?.as_str()?))
}

/// `^[a-z]{2,4}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$`, such as `en`, `zh-Hant-TW` or `es-419`.
fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let is_lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_name = parts.next().is_some_and(|name| (2..=4).contains(&name.len()) && is_lower(name));
    let mut rest: Vec<&str> = parts.collect();
    let is_script = |text: &str| {
        text.len() == 4 && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.get(1..).is_some_and(is_lower)
    };
    if rest.first().is_some_and(|part| is_script(part)) {
        rest.remove(0);
    }
    let is_region = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()))
            || (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    is_name && matches!(rest[..], [] | [_]) && rest.iter().all(|part| is_region(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_are_bare_or_objects() {
        let check = |value: Value, kind: Kind, expect: [bool; 2]| {
            assert_eq!([2, 3].map(|version| literal_of(&value, kind, version).is_some()), expect, "{value}");
        };
        check(json!("x"), Kind::Text, [true; 2]);
        check(json!(["x"]), Kind::Text, [true; 2]);
        check(json!({"@value": "x", "@type": "xsd:string"}), Kind::Text, [true; 2]);
        check(json!({"@value": "x", "@type": ["xsd:string"]}), Kind::Text, [true; 2]);
        check(json!({"@value": true, "@type": "http://www.w3.org/2001/XMLSchema#boolean"}), Kind::Boolean, [true; 2]);
        check(json!({"@value": "x", "@language": "en"}), Kind::Text, [true, false]);
        check(json!({"@value": "x", "@id": "y"}), Kind::Text, [false; 2]);
        check(json!({"@value": "x", "@type": "xsd:integer"}), Kind::Text, [false; 2]);
        check(json!({"@value": 3, "unit": "y"}), Kind::Integer, [false; 2]);
        check(json!(3_000_000_000_u64), Kind::Integer, [false; 2]);
        check(json!(3.5), Kind::Integer, [false; 2]);
        check(json!(["x", "y"]), Kind::Text, [false; 2]);
        check(json!([]), Kind::Text, [false; 2]);
        check(json!(null), Kind::Boolean, [false; 2]);
    }

    #[test]
    fn texts_are_those_of_the_language() {
        let check = |value: Value, expect: Option<usize>| {
            assert_eq!(texts(&value, 3).map(|texts| texts.len()), expect, "{value}");
        };
        check(json!("a"), Some(1));
        check(json!({}), Some(0));
        check(json!({"en": "a", "zh-Hant-TW": "b", "es-419": "c"}), Some(3));
        check(json!([{"@value": "a", "@language": "de"}, "b"]), Some(2));
        check(json!({"EN": "a"}), None);
        check(json!({"en_US": "a"}), None);
        check(json!({"en": 3}), None);
        check(json!({"@value": "a", "@language": "en"}), None);
        check(json!([{"en": "a"}]), None);
        check(json!(["a", {"@value": "b", "@language": "en"}]), None);
        check(json!([{"@value": "a", "@language": "de"}, {"@value": "b", "@language": "de"}]), None);
        check(json!(3), None);
    }
}
