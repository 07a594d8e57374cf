//! Plain words of YAML that do not mean what they look like, in what is sent to devices.

use super::Lowering;
use crate::diag::{Diagnostic, code, shown};
use crate::manifest::node::{self, Content, Node};

impl Lowering<'_> {
    /// Warns of plain words that YAML 1.1 reads as something else, and notes numbers that are not sent as they are
    /// written: the rule over numbers knows the templates. `pointer` leads to the node.
    pub(super) fn warn_of_plain_words(&mut self, node: &Node, pointer: &str) {
        let written = self.text.get(node.span.start..node.span.end).unwrap_or_default();
        let warning = match &node.content {
            Content::Bool(_) => None,
            Content::Null => of_null(written),
            Content::Number(number) => of_number(written, &number.to_string()),
            // A plain scalar is exactly as long as its text; quotes make it longer.
            Content::String(text) if written.len() == text.len() => of_text(text),
            Content::String(_) => None,
            Content::Seq(items) => {
                let items = items.iter().enumerate();
                return items.for_each(|(at, item)| self.warn_of_plain_words(item, &format!("{pointer}/{at}")));
            }
            Content::Map(entries) => {
                for (at, (key, node)) in entries.iter().enumerate() {
                    if node.content == Content::Null && node.span.start == node.span.end {
                        let before = at.checked_sub(1).map(|before| &entries[before].1);
                        let is_next = |node: &&Node| self.text.get(node.span.end..key.span.start) == Some(",");
                        let number =
                            before.filter(is_next).and_then(|node| self.text.get(node.span.start..node.span.end));
                        let (detail, help) = of_nothing(&key.text, number);
                        let warning = Diagnostic::new(code::AMBIGUOUS_SCALAR, key.span, detail);
                        self.diagnostics.push(warning.with_help(help));
                    }
                    let below = format!("{pointer}{}", node::pointer([key.text.as_str()]));
                    self.warn_of_plain_words(node, &below);
                }
                return;
            }
        };
        let Some((detail, help)) = warning else { return };
        let warning = Diagnostic::new(code::AMBIGUOUS_SCALAR, node.span, detail).with_help(help);
        match node.content {
            Content::Number(_) => self.numbers.push((pointer.to_string(), warning)),
            _ => self.diagnostics.push(warning),
        }
    }
}

/// A sentence, and what to do.
type Warning = Option<(String, String)>;

/// `Null` is the name of people, and of places.
fn of_null(written: &str) -> Warning {
    let detail = || format!("`{}` is null, which removes a value from a twin.", shown(written));
    let help = || format!("Write `null` to remove it, `\"{}\"` for the text.", shown(written));
    matches!(written, "Null" | "NULL").then(|| (detail(), help()))
}

/// A key without a value, mostly for want of a space, or because of a comma in a number. `before` is the text of the
/// value that a comma alone keeps apart from it.
fn of_nothing(key: &str, before: Option<&str>) -> (String, String) {
    let detail = format!("`{}` has no value: it is null, which removes a value from a twin.", shown(key));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let help = match (key.split_once(':'), before.filter(|before| is_number(before) && is_number(key))) {
        (Some((name, value)), _) if !name.is_empty() && !value.is_empty() => {
            format!("Write `{}: {}`, with a space behind the `:`, or `null` to remove it.", shown(name), shown(value))
        }
        (None, Some(whole)) if key.len() == 3 => format!("Write `{whole}{key}` or `{whole}.{key}` for the number."),
        (None, Some(whole)) => format!("Write `{whole}.{key}` for the number, or `null` to remove it."),
        _ => "Write `null` to remove it, or the value behind the `:`.".to_string(),
    };
    (detail, help)
}

/// A number whose text is not that of its value: the digits that are gone were those of a version, or of an id.
fn of_number(written: &str, sent: &str) -> Warning {
    let written = shown(written);
    let detail = || format!("`{written}` is a number, and is sent as {sent}.");
    let help = || format!("Write `{sent}` for the number, `\"{written}\"` for the text.");
    (written != sent).then(|| (detail(), help()))
}

fn of_text(text: &str) -> Warning {
    let lower = text.to_ascii_lowercase();
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let boolean = match lower.as_str() {
        "yes" | "on" => Some("true"),
        "no" | "off" => Some("false"),
        _ => None,
    };
    let number = if text.len() > 1 && text.starts_with('0') && is_digits(text) {
        Some(text.trim_start_matches('0').to_string())
    } else if text.contains('_') && text.split('_').all(is_digits) {
        Some(text.replace('_', ""))
    } else {
        let binary = lower.strip_prefix("0b").filter(|digits| digits.bytes().all(|byte| matches!(byte, b'0' | b'1')));
        binary.and_then(|digits| u64::from_str_radix(digits, 2).ok()).map(|number| number.to_string())
    };
    let (word, value) = match (boolean, number) {
        (Some(value), _) => ("boolean", value.to_string()),
        (None, Some(number)) => ("number", if number.is_empty() { "0".to_string() } else { number }),
        (None, None) => return None,
    };
    let text = shown(text);
    let detail = format!("`{text}` is sent as text. Older YAML tools read it as a {word}.");
    Some((detail, format!("Write `{value}` for the {word}, `\"{text}\"` for the text.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_what_it_looks_like_is_warned_of() {
        for (written, sent) in [("1.10", "1.1"), ("1e3", "1000.0"), ("0x1F", "31"), ("+7", "7"), ("2.", "2.0")] {
            let (detail, help) = of_number(written, sent).unwrap();
            assert_eq!(detail, format!("`{written}` is a number, and is sent as {sent}."));
            assert!(help.contains(&format!("`\"{written}\"` for the text")), "{help}");
        }
        assert_eq!(of_number("1.5", "1.5"), None);
        let told = |text: &str| of_text(text).map(|(_, help)| help);
        assert_eq!(told("NO").unwrap(), "Write `false` for the boolean, `\"NO\"` for the text.");
        assert_eq!(told("0123").unwrap(), "Write `123` for the number, `\"0123\"` for the text.");
        assert_eq!(told("000").unwrap(), "Write `0` for the number, `\"000\"` for the text.");
        assert_eq!(told("1_000").unwrap(), "Write `1000` for the number, `\"1_000\"` for the text.");
        assert_eq!(told("0b101").unwrap(), "Write `5` for the number, `\"0b101\"` for the text.");
        for text in ["1_", "_1", "a_1", "0b", "0b2", "12:30", "note", "offset", "0", "2026-11-20", "1.2.3"] {
            assert_eq!(told(text), None, "{text}");
        }
        let help = |key: &str, before| of_nothing(key, before).1;
        assert_eq!(help("mode:on", None), "Write `mode: on`, with a space behind the `:`, or `null` to remove it.");
        assert_eq!(help("5", Some("4")), "Write `4.5` for the number, or `null` to remove it.");
        assert_eq!(help("000", Some("1")), "Write `1000` or `1.000` for the number.");
        for (key, before) in [("mode:", Some("4")), ("5", Some("4.5")), ("5", Some("a")), ("a", Some("4"))] {
            assert_eq!(help(key, before), help("5", None), "{key} {before:?}");
        }
        assert!(of_null("Null").is_some() && of_null("null").is_none() && of_null("~").is_none());
    }
}
