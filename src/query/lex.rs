//! Query text to tokens. Never fails: what cannot be a token becomes a [`TokenKind::Bad`] that the parser reports when
//! it gets there, so one bad character does not hide the errors around it.

use super::ast::{Number, is_name_char};
use super::error::QueryErrorKind;

/// A token with its half-open byte range in the query text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueryToken {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// A bare name; the parser recognises keywords, so that `tags.in` works.
    Word(String),
    /// `[[name]]` after a dot.
    Escaped(String),
    String(String),
    Number(Number),
    /// An operator or punctuation.
    Symbol(Symbol),
    /// Not a token of the language.
    Bad(QueryErrorKind),
    /// The end of the text.
    End,
}

/// Operators and punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Dot,
    Comma,
    ParenOpen,
    ParenClose,
    BracketOpen,
    BracketClose,
}

/// Symbols by their text; longer ones before their prefixes.
const SYMBOLS: [(&str, Symbol); 18] = [
    ("!=", Symbol::NotEqual),
    ("<>", Symbol::NotEqual),
    ("<=", Symbol::LessOrEqual),
    (">=", Symbol::GreaterOrEqual),
    ("=", Symbol::Equal),
    ("<", Symbol::Less),
    (">", Symbol::Greater),
    ("+", Symbol::Plus),
    ("-", Symbol::Minus),
    ("*", Symbol::Star),
    ("/", Symbol::Slash),
    ("%", Symbol::Percent),
    (".", Symbol::Dot),
    (",", Symbol::Comma),
    ("(", Symbol::ParenOpen),
    (")", Symbol::ParenClose),
    ("[", Symbol::BracketOpen),
    ("]", Symbol::BracketClose),
];

/// Operators of other languages and their equals here; longer ones before their prefixes.
const FOREIGN: [(&str, &str); 8] =
    [("===", "="), ("!==", "!="), ("==", "="), ("=>", ">="), ("=<", "<="), ("&&", "AND"), ("||", "OR"), ("!", "NOT")];

/// Returns the tokens of a text; the last one is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Vec<QueryToken> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found: Vec<QueryToken> = Vec::new();
    loop {
        if let Some(bad) = lexer.skip_blanks() {
            found.push(bad);
        }
        let start = lexer.at;
        let after_dot = found.last().is_some_and(|token| token.kind == TokenKind::Symbol(Symbol::Dot));
        let kind = lexer.next(after_dot);
        let is_end = kind == TokenKind::End;
        found.push(QueryToken { kind, start, end: lexer.at });
        if is_end {
            return found;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Moves past blanks and comments; returns a bad token for a comment without an end.
    fn skip_blanks(&mut self) -> Option<QueryToken> {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if !self.rest().starts_with("/*") {
                return None;
            }
            match self.rest()[2..].find("*/") {
                Some(length) => self.at += length + 4,
                None => {
                    let start = self.at;
                    self.at = self.text.len();
                    return Some(QueryToken {
                        kind: TokenKind::Bad(QueryErrorKind::UnterminatedComment),
                        start,
                        end: start + 2,
                    });
                }
            }
        }
    }

    fn next(&mut self, after_dot: bool) -> TokenKind {
        let Some(first) = self.rest().chars().next() else {
            return TokenKind::End;
        };
        if after_dot && self.rest().starts_with("[[") {
            return self.escaped_name();
        }
        if first == '\'' || first == '"' {
            return self.string(first);
        }
        if first.is_ascii_digit() && !after_dot {
            return self.number();
        }
        if is_name_char(first) {
            let word = self.take_while(is_name_char);
            return TokenKind::Word(word);
        }
        self.symbol(first)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let length = self.rest().find(|c| !keep(c)).unwrap_or(self.rest().len());
        let taken = self.rest()[..length].to_string();
        self.at += length;
        taken
    }

    fn escaped_name(&mut self) -> TokenKind {
        let Some(length) = self.rest()[2..].find("]]") else {
            self.at = self.text.len();
            return TokenKind::Bad(QueryErrorKind::UnterminatedName);
        };
        let name = self.rest()[2..2 + length].to_string();
        self.at += length + 4;
        if name.is_empty() { TokenKind::Bad(QueryErrorKind::EmptyName) } else { TokenKind::Escaped(name) }
    }

    fn symbol(&mut self, first: char) -> TokenKind {
        let foreign = FOREIGN.iter().find(|(text, _)| self.rest().starts_with(text));
        let symbol = SYMBOLS.iter().find(|(text, _)| self.rest().starts_with(text));
        // `!=` is ours although it starts with `!`; `==` is not although it starts with `=`.
        let foreign_length = foreign.map_or(0, |(text, _)| text.len());
        match symbol {
            Some((text, symbol)) if text.len() >= foreign_length => {
                self.at += text.len();
                TokenKind::Symbol(*symbol)
            }
            Some(_) | None => match foreign {
                Some((text, instead)) => {
                    self.at += text.len();
                    TokenKind::Bad(QueryErrorKind::ForeignOperator { found: (*text).to_string(), instead })
                }
                None => {
                    self.at += first.len_utf8();
                    TokenKind::Bad(QueryErrorKind::UnexpectedCharacter(first))
                }
            },
        }
    }

    /// Reads a number with everything that sticks to it, so that `12abc` is one error and not two tokens.
    fn number(&mut self) -> TokenKind {
        let start = self.at;
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.take_while(is_name_char);
        } else {
            self.take_while(is_name_char);
            let fraction = self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
            if fraction {
                self.at += 1;
                self.take_while(is_name_char);
            }
            let signed = self.rest().starts_with(['+', '-'])
                && self.text[start..self.at].ends_with(['e', 'E'])
                && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
            if signed {
                self.at += 1;
                self.take_while(is_name_char);
            }
        }
        let text = &self.text[start..self.at];
        match parse_number(text) {
            Some(number) => TokenKind::Number(number),
            None => TokenKind::Bad(QueryErrorKind::BadNumber(text.to_string())),
        }
    }

    fn string(&mut self, quote: char) -> TokenKind {
        let start = self.at;
        self.at += 1;
        let mut value = String::new();
        let mut problem = None;
        loop {
            let Some(next) = self.rest().chars().next() else {
                self.at = self.text.len();
                return TokenKind::Bad(QueryErrorKind::UnterminatedString(quote));
            };
            self.at += next.len_utf8();
            if next == quote {
                break;
            }
            if next != '\\' {
                value.push(next);
                continue;
            }
            match self.escape() {
                Some(c) => value.push(c),
                None => problem = problem.or(Some(self.text[start..self.at].to_string())),
            }
        }
        match problem {
            Some(text) => {
                let from = text.rfind('\\').unwrap_or(0);
                TokenKind::Bad(QueryErrorKind::BadEscape(text[from..].to_string()))
            }
            None => TokenKind::String(value),
        }
    }

    /// Reads what follows a backslash; `None` when it is no escape of the language.
    fn escape(&mut self) -> Option<char> {
        let letter = self.rest().chars().next()?;
        self.at += letter.len_utf8();
        match letter {
            '\'' | '"' | '\\' | '/' => Some(letter),
            'n' => Some('\n'),
            't' => Some('\t'),
            'r' => Some('\r'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'u' => self.unicode_escape(),
            _ => None,
        }
    }

    /// Reads four hex digits, and a second `\uXXXX` when they are the first half of a surrogate pair.
    fn unicode_escape(&mut self) -> Option<char> {
        let high = self.hex4()?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high);
        }
        if !self.rest().starts_with("\\u") {
            return None;
        }
        self.at += 2;
        let low = self.hex4()?;
        if !(0xDC00..0xE000).contains(&low) {
            return None;
        }
        char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let value = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(value)
    }
}

/// Returns the number that a text means; `None` when it is malformed or not finite.
fn parse_number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        // Twin integers have 52 bits; more than 128 are refused.
        let value = u128::from_str_radix(digits, 16).ok()?;
        return Some(i64::try_from(value).map_or(Number::Real(value as f64), Number::Integer));
    }
    let legal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !text.bytes().all(legal) {
        return None;
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Some(Number::Integer(integer));
    }
    let real = text.parse::<f64>().ok()?;
    real.is_finite().then_some(Number::Real(real))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn numbers_take_every_documented_form() {
        let check = |text: &str, expect: Number| assert_eq!(kinds(text)[0], TokenKind::Number(expect), "{text}");
        check("0", Number::Integer(0));
        check("42", Number::Integer(42));
        check("1.5", Number::Real(1.5));
        check("1e3", Number::Real(1000.0));
        check("1.5E-3", Number::Real(0.0015));
        check("2e+2", Number::Real(200.0));
        check("0x1F", Number::Integer(31));
        check("0Xff", Number::Integer(255));
        check("9223372036854775807", Number::Integer(i64::MAX));
        check("9223372036854775808", Number::Real(9_223_372_036_854_775_808.0));
    }

    #[test]
    fn malformed_numbers_are_one_bad_token() {
        let check =
            |text: &str| assert_eq!(kinds(text)[0], TokenKind::Bad(QueryErrorKind::BadNumber(text.to_string())));
        check("12abc");
        check("0x");
        check("0xfg");
        check("1e999");
        check("1e");
    }

    #[test]
    fn strings_take_both_quotes_and_every_escape() {
        let check = |text: &str, expect: &str| {
            assert_eq!(kinds(text)[0], TokenKind::String(expect.to_string()), "{text}");
        };
        check("'a'", "a");
        check("\"a\"", "a");
        check("'say \"hi\"'", "say \"hi\"");
        check(r"'it\'s'", "it's");
        check(r#""a\"b\\c""#, "a\"b\\c");
        check(r"'\u0041\u00e9'", "A\u{e9}");
        check(r"'\ud83d\ude00'", "\u{1f600}");
        check(r"'\n\t\r\/\b\f'", "\n\t\r/\u{8}\u{c}");
        check("'\u{1f600}'", "\u{1f600}");
    }

    #[test]
    fn broken_strings_are_one_bad_token() {
        let check = |text: &str, expect: QueryErrorKind| assert_eq!(kinds(text)[0], TokenKind::Bad(expect), "{text}");
        check("'abc", QueryErrorKind::UnterminatedString('\''));
        check("\"abc'", QueryErrorKind::UnterminatedString('"'));
        check(r"'a\xb'", QueryErrorKind::BadEscape("\\x".to_string()));
        check(r"'\ud83d'", QueryErrorKind::BadEscape("\\ud83d".to_string()));
        check(r"'\u12'", QueryErrorKind::BadEscape("\\u".to_string()));
    }

    #[test]
    fn names_comments_and_symbols_keep_their_bytes() {
        let found = tokens("tags.[[a b]]/* c */<> 'é'");
        let ranges: Vec<_> = found.iter().map(|token| (token.start, token.end)).collect();
        assert_eq!(ranges, [(0, 4), (4, 5), (5, 12), (19, 21), (22, 26), (26, 26)]);
        assert_eq!(found[2].kind, TokenKind::Escaped("a b".to_string()));
        assert_eq!(found[3].kind, TokenKind::Symbol(Symbol::NotEqual));
    }

    #[test]
    fn brackets_are_arrays_unless_after_a_dot() {
        assert_eq!(kinds("[[")[..2], [TokenKind::Symbol(Symbol::BracketOpen), TokenKind::Symbol(Symbol::BracketOpen)]);
        assert_eq!(kinds(".[[]]")[1], TokenKind::Bad(QueryErrorKind::EmptyName));
        assert_eq!(kinds(".[[a]")[1], TokenKind::Bad(QueryErrorKind::UnterminatedName));
        assert_eq!(kinds(".2nd")[1], TokenKind::Word("2nd".to_string()));
    }
}
