//! Which files may be of a kind, told without reading them as YAML: thousands of files are passed over that way.

/// Returns true when the text of a YAML file may have one of some words in a scalar, whichever way it is written. False
/// is certain: a word that is plain, in quotes or in a block stands there as it is, and one with escapes, or over lines
/// that a backslash joins, stands there once these are resolved. Lines that are folded have a blank between them.
pub fn may_mention(bytes: &[u8], words: &[&str]) -> bool {
    let has = |text: &[u8]| words.iter().any(|word| text.windows(word.len()).any(|part| part == word.as_bytes()));
    // A NUL is part of no UTF-8 that YAML allows: the text is of another encoding, and what it says is not known.
    has(bytes) || bytes.contains(&0) || bytes.contains(&b'\\') && has(&resolved(bytes))
}

/// Returns a text with the escapes of double quotes (YAML 1.2, 5.7) resolved wherever they are. What is no escape stays.
fn resolved(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            text.push(*first);
            continue;
        }
        let digits = match after.first() {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            Some(other @ (b'"' | b'/' | b'\\')) => {
                text.push(*other);
                rest = &after[1..];
                continue;
            }
            Some(b'\n' | b'\r') => {
                let line = after.strip_prefix(b"\r").unwrap_or(after);
                let line = line.strip_prefix(b"\n").unwrap_or(line);
                let blank = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                rest = &line[blank..];
                continue;
            }
            Some(_) | None => 0,
        };
        let code = after.get(1..=digits).filter(|code| digits > 0 && code.iter().all(u8::is_ascii_hexdigit));
        let code =
            code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u32::from_str_radix(code, 16).ok());
        match code.and_then(char::from_u32) {
            Some(character) => {
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[1 + digits..];
            }
            None => text.push(b'\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_however_it_is_written() {
        for text in [
            "kind: Policy",
            "kind: 'Policy'",
            "kind: >-\n  Policy\n",
            r#"kind: "Pol\x69cy""#,
            r#""k\u0069nd": "\U00000050olicy""#,
            "kind: \"Pol\\\n      icy\"",
            "kind: \"Pol\\\r\n\ticy\"",
            "kind: \"Pol\\\n  \\x69cy\"",
            r#"a: '\'
kind: "Polic\x79""#,
            "P\0o\0l\0",
        ] {
            assert!(may_mention(text.as_bytes(), &["Organization", "Policy"]), "{text:?}");
        }
        for text in ["kind: Job", "kind: \"Pol\\\\x69cy\"", "kind: \"Pol\n  icy\"", "a: \\x", "a: \\u12", "a: \\"] {
            assert!(!may_mention(text.as_bytes(), &["Policy"]), "{text:?}");
        }
    }
}
