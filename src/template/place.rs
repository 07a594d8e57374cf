//! From a JSON pointer to the place in the text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::json::unescaped;
use crate::diag::Position;

/// The bytes of a value in a JSON text, and of the key that it stands under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPlace {
    /// With its quotes; `None` for an item of a list and for the document itself.
    pub key: Option<Range<usize>>,
    pub value: Range<usize>,
}

/// Returns where a JSON pointer leads in the text of a JSON document, or its nearest existing parent; `None` when the
/// text is not JSON.
pub fn locate(text: &str, pointer: &str) -> Option<Position> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    position(text, place(text, pointer)?.value.start)
}

fn position(text: &str, at: usize) -> Option<Position> {
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Some(Position {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    })
}

/// Returns the keys of a JSON document that stand in one object more than once, with the place of the later one, at most
/// `most`. The parser keeps only the last of them, and says nothing.
pub fn repeated(text: &str, most: usize) -> Vec<(Position, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut found, mut open) = (Vec::new(), Vec::new());
    let mut scanner = Scanner { text, at: 0 };
    let mut is_key = false;
    while found.len() < most
        && let Some(byte) = scanner.peek()
    {
        let start = scanner.at;
        match byte {
            b'"' => {
                let Some(key) = scanner.string() else { break };
                if let Some(Some(keys)) = open.last_mut().filter(|_| is_key) {
                    let keys: &mut BTreeSet<String> = keys;
                    let is_new = keys.insert(key.to_string());
                    found.extend(position(text, start).filter(|_| !is_new).map(|at| (at, key.into_owned())));
                }
                continue;
            }
            b'{' => open.push(Some(BTreeSet::new())),
            b'[' => open.push(None),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
        is_key = match byte {
            b'{' | b',' => true,
            b':' => false,
            _ => is_key,
        };
        scanner.at += 1;
    }
    found
}

/// Returns the bytes at which a JSON pointer leads in the text of a JSON document, or its nearest existing parent;
/// `None` when the text is not JSON.
///
/// It walks the text once and reads only the keys on its way.
pub fn place(text: &str, pointer: &str) -> Option<ModelPlace> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut scanner = Scanner { text, at: start };
    scanner.space();
    let start = scanner.at;
    scanner.skip()?;
    let mut found = ModelPlace { key: None, value: start..scanner.at };
    for segment in pointer.split('/').skip(1) {
        let key = unescaped(segment);
        scanner.at = found.value.start;
        match scanner.find(&key)? {
            Some(inner) => found = inner,
            None => break,
        }
    }
    Some(found)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Returns where the member or item of the value at hand begins: the last one of its name, as the parser takes it.
    /// The inner `None` means that there is none, the outer that the text is not JSON.
    fn find(&mut self, key: &str) -> Option<Option<ModelPlace>> {
        let is_object = match self.peek()? {
            b'{' => true,
            b'[' => false,
            _ => return Some(None),
        };
        self.at += 1;
        let (mut found, mut index) = (None, 0);
        loop {
            self.space();
            if matches!(self.peek()?, b'}' | b']') {
                return Some(found);
            }
            let mut written = None;
            let is_it = if is_object {
                let start = self.at;
                let name = self.string()?;
                written = Some(start..self.at);
                self.space();
                self.at += 1; // the colon
                self.space();
                name == key
            } else {
                index += 1;
                key.parse() == Ok(index - 1)
            };
            let start = self.at;
            self.skip()?;
            if is_it {
                found = Some(ModelPlace { key: written, value: start..self.at });
            }
            self.space();
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
    }

    /// Returns the string at hand and moves past it.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        self.skip_string()?;
        let raw = self.text.get(start..self.at)?;
        if raw.contains('\\') {
            serde_json::from_str(raw).ok().map(Cow::Owned)
        } else {
            raw.get(1..raw.len() - 1).map(Cow::Borrowed)
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Moves past the value at hand.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth == 0 => return None,
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                byte if byte.is_ascii_whitespace() => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    let is_plain = |byte: u8| !matches!(byte, b',' | b']' | b'}') && !byte.is_ascii_whitespace();
                    while self.peek().is_some_and(is_plain) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_to_lines_and_columns() {
        let text = "{\n  \"a\": [1, {\"b/c\": \"x\\\"]\", \"é\": true}],\n  \"d\": {}, \"a~\\u0062\": null\n}";
        let check = |pointer: &str, line: usize, column: usize| {
            assert_eq!(locate(text, pointer), Some(Position { line, column }), "{pointer}");
        };
        check("", 1, 1);
        check("/a", 2, 8);
        check("/a/0", 2, 9);
        check("/a/1/b~1c", 2, 20);
        check("/a/1/é", 2, 33);
        check("/d", 3, 8);
        check("/a~0b", 3, 24);
        check("/d/nothing/here", 3, 8);
        check("/a/7", 2, 8);
        assert_eq!(locate("{\"a\": ", "/a/b"), None);
    }
    #[test]
    fn keys_that_are_twice_are_found() {
        let check = |text: &str, expect: &[(usize, usize, &str)]| {
            let found = repeated(text, 3);
            let found: Vec<_> = found.iter().map(|(at, key)| (at.line, at.column, key.as_str())).collect();
            assert_eq!(found, expect, "{text}");
        };
        check(r#"{"a": 1, "b": {"a": [{"a": 2}, {"a": "a", "c": "a"}]}}"#, &[]);
        check(r#"{"a": "b", "b": ["a", "a"], "c": {}, "d": {}}"#, &[]);
        check("\u{feff}{\"a\": 1,\n \"\\u0061\": {\"b\": [], \"b\": 2}}", &[(2, 2, "a"), (2, 22, "b")]);
        check(r#"[{"x{,": 1, "x{,": 2}, 3, {"x{,": 1}]"#, &[(1, 13, "x{,")]);
        check(r#"{"a": 1, "a": 1, "a": 1, "a": 1, "a": 1}"#, &[(1, 10, "a"), (1, 18, "a"), (1, 26, "a")]);
        check(r#"{"a": 1, "a"#, &[]);
        check("", &[]);
    }
}
