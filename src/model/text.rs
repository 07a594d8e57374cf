//! Text of people and devices made safe to show: no character that controls a terminal or reorders a line gets through.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns the text with every control character (C0 but tab and line feed, DEL, C1) and every bidirectional or
/// invisible format character spelled `\u{..}`.
///
/// Terminals act on control characters, and bidirectional ones make a line read differently from what it says
/// ("Trojan Source", CVE-2021-42574).
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            write!(safe, "\\u{{{:x}}}", u32::from(c)).expect("writing to a String cannot fail");
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Returns the text sanitised and on one line: tabs and line feeds are spelled out as well.
pub fn sanitize_line(text: &str) -> Cow<'_, str> {
    match sanitize(text) {
        safe if safe.contains(['\n', '\t']) => Cow::Owned(safe.replace('\n', "\\n").replace('\t', "\\t")),
        safe => safe,
    }
}

/// Returns JSON in which no character controls a terminal: every unsafe one, which can only stand inside a string, is
/// spelled `\uXXXX`.
pub fn sanitize_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) {
            // All of them are of the basic plane: one unit of UTF-16.
            write!(safe, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail");
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Returns a number with a comma between thousands.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns the first `chars_max` characters; a longer text ends with `…` in place of its last one.
pub fn shorten(text: &str, chars_max: usize) -> Cow<'_, str> {
    if text.chars().nth(chars_max).is_none() {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    Cow::Owned(short)
}

/// Returns a duration as a manifest has it: a whole number of the largest possible unit, such as `90m` or `2d`.
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds > 0 && seconds.is_multiple_of(*length));
    let (length, word) = unit.unwrap_or((1, "s"));
    format!("{}{word}", seconds / length)
}

/// Returns a number of devices in words.
pub fn devices_of(count: u64) -> String {
    if count == 1 { "1 device".to_string() } else { format!("{count} devices") }
}

/// Returns true when a text is what a pattern describes: `*` stands for any characters, `?` for one.
pub fn matches_wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to continue when the characters after the last `*` do not match here: one character later.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p + 1, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, from)) = retry {
            retry = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Returns true for a character that may not reach a terminal, a page or a log as it is.
pub fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_whole_texts() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(matches_wildcard(pattern, text), expect, "{pattern} {text}");
        };
        check("line-3-*", "line-3-0001", true);
        check("line-3-*", "line-30-1", false);
        check("*-0?", "lamp-07", true);
        check("*a*b*", "xxaxxbx", true);
        check("", "", true);
        check("a", "ab", false);
    }

    #[test]
    fn control_and_bidi_characters_are_spelled_out() {
        let check = |text: &str, expect: &str| assert_eq!(sanitize(text), expect);
        check("plain é\n\t", "plain é\n\t");
        check("\u{1b}[31mred", "\\u{1b}[31mred");
        check("a\u{9b}b\u{7f}\r", "a\\u{9b}b\\u{7f}\\u{d}");
        check("x\u{202e}y\u{2066}", "x\\u{202e}y\\u{2066}");
        assert_eq!(sanitize_line("a\nb"), "a\\nb");
    }

    #[test]
    fn json_stays_the_same_value_without_unsafe_characters() {
        let value = serde_json::json!({"a": "x\u{1b}[2J\u{9b}31m\u{202e}y\u{7f}\n"});
        let text = value.to_string();
        let safe = sanitize_json(&text);
        assert!(safe.is_ascii(), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        assert!(matches!(sanitize_json("{\"a\":\"é\"}"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(shorten("éééé", 4), "éééé");
        assert_eq!(shorten("ééééé", 4), "ééé…");
    }
}
