//! The token of a forge: read, sent, and never shown.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::error::ForgeError;
use crate::model::limits::FORGE_TOKEN_BYTES_MAX;

/// A token. It has no text for people: neither `Debug` nor an error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Returns the token in a text, without white space around it.
    ///
    /// # Errors
    /// Why it is none; the text is not in the sentence.
    pub fn parse(text: &str) -> Result<Token, String> {
        let token = text.trim();
        if token.is_empty() {
            return Err("it is empty".to_string());
        }
        if token.len() as u64 > FORGE_TOKEN_BYTES_MAX {
            return Err(format!("it has more than {FORGE_TOKEN_BYTES_MAX} bytes"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has spaces, line breaks or characters that are not ASCII".to_string());
        }
        Ok(Token(token.to_string()))
    }

    /// Returns the text, for a header alone.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// Returns a text without the token: what a forge answers might repeat it.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Where the token is.
#[derive(Debug, Clone)]
pub enum TokenSource {
    Given(Token),
    /// The first line of a file, which is read for each call: a token that is replaced is used at once.
    File(PathBuf),
}

impl TokenSource {
    /// Returns the token.
    ///
    /// # Errors
    /// `ForgeError::NoToken`: the file cannot be read, or has no token.
    pub fn read(&self) -> Result<Token, ForgeError> {
        match self {
            TokenSource::Given(token) => Ok(token.clone()),
            TokenSource::File(path) => {
                let fail = |why: String| ForgeError::NoToken { place: path.display().to_string(), why };
                let text = first_line(path).map_err(|error| fail(error.to_string()))?;
                Token::parse(&text).map_err(fail)
            }
        }
    }
}

fn first_line(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    // One byte more than a token may have, and a line break of two.
    File::open(path)?.take(FORGE_TOKEN_BYTES_MAX + 3).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = Token::parse(" ghp_secret\r\n").unwrap();
        assert_eq!((token.secret(), format!("{token:?}").as_str()), ("ghp_secret", "Token"));
        assert_eq!(token.redact("bad ghp_secret!"), "bad …!");
        for (text, why) in [("", "empty"), (" \n", "empty"), ("a b", "spaces"), ("a\u{e9}", "ASCII")] {
            let said = Token::parse(text).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let long = Token::parse(&"x".repeat(10_000)).unwrap_err();
        assert!(long.contains("bytes") && !long.contains("xx"), "{long}");
    }

    #[test]
    fn a_file_has_it_on_its_first_line_and_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = TokenSource::File(path.clone());
        let said = source.read().unwrap_err().to_string();
        assert!(said.contains("cannot be read from"), "{said}");
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\nanother\n")).unwrap();
            assert_eq!(source.read().unwrap().secret(), token);
        }
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert!(source.read().unwrap_err().to_string().contains("more than"));
    }
}
