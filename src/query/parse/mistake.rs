//! Errors that suggest what the author meant by text outside of the language.

use super::{Failed, Parser, QueryErrorKind, Symbol, TokenKind};
use crate::query::ast::is_name_char;

impl Parser<'_> {
    /// Returns the current token in words, for a message.
    pub(super) fn found(&self) -> String {
        match self.peek() {
            TokenKind::String(_) => "a string".to_string(),
            TokenKind::End => "the end".to_string(),
            TokenKind::Word(_)
            | TokenKind::Escaped(_)
            | TokenKind::Number(_)
            | TokenKind::Symbol(_)
            | TokenKind::Bad(_) => format!("`{}`", &self.text[self.token().start..self.token().end]),
        }
    }

    /// Returns what is wrong, and the end of `SELECT … WHERE` (or of its last clause), when the text starts like a
    /// whole query.
    pub(super) fn full_query(&self) -> Option<(QueryErrorKind, usize)> {
        let is_start = ["SELECT", "FROM", "WHERE"].iter().any(|word| self.word_is(self.at, word));
        let is_path = self.tokens.get(self.at + 1).map(|token| &token.kind) == Some(&TokenKind::Symbol(Symbol::Dot));
        if !is_start || is_path {
            return None;
        }
        let condition = (self.at..self.tokens.len()).find(|at| self.word_is(*at, "WHERE"));
        let end = condition.map_or(self.text.len(), |at| self.tokens[at].end);
        let kind = match self.collection() {
            Some(collection) => QueryErrorKind::OtherCollection { collection },
            None => QueryErrorKind::FullQuery,
        };
        Some((kind, end))
    }

    /// Returns what a whole query is about when that is not the devices.
    fn collection(&self) -> Option<&'static str> {
        let from = (self.at..self.tokens.len()).find(|at| self.word_is(*at, "FROM"))?;
        let is_part = self.word_is(from + 1, "devices")
            && self.tokens.get(from + 2).is_some_and(|token| token.kind == TokenKind::Symbol(Symbol::Dot));
        [("modules", "devices.modules"), ("jobs", "devices.jobs")]
            .into_iter()
            .find_map(|(word, collection)| (is_part && self.word_is(from + 3, word)).then_some(collection))
    }

    /// Returns the error for an unknown name that sticks to a minus and a name before it, as in `tags.my-tag`.
    pub(super) fn dashed_name(&self, start: usize, end: usize) -> Option<QueryErrorKind> {
        let before = self.text[..start].strip_suffix('-')?;
        let is_of_key = |c: &char| is_name_char(*c) || *c == '-';
        let key_start = before.len() - before.chars().rev().take_while(is_of_key).map(char::len_utf8).sum::<usize>();
        let is_key = before[..key_start].ends_with('.') && key_start < before.len();
        is_key.then(|| QueryErrorKind::DashedName { key: self.text[key_start..end].to_string() })
    }

    /// Records why a token cannot follow an operand.
    pub(super) fn unexpected_after_operand(&mut self) {
        let found = self.found();
        let kind = match self.peek() {
            TokenKind::Symbol(Symbol::ParenClose) => QueryErrorKind::UnmatchedClosing(')'),
            TokenKind::Symbol(Symbol::BracketClose) => QueryErrorKind::UnmatchedClosing(']'),
            TokenKind::Word(word) => match word.to_ascii_uppercase().as_str() {
                "LIKE" | "ILIKE" | "RLIKE" | "REGEXP" | "MATCHES" | "BETWEEN" | "IS" => {
                    QueryErrorKind::ForeignOperator { found: word.clone(), instead: "" }
                }
                "NOT" if self.word_is(self.at + 1, "IN") => {
                    QueryErrorKind::ForeignOperator { found: "NOT IN".to_string(), instead: "NIN" }
                }
                "XOR" => QueryErrorKind::ForeignOperator { found: word.clone(), instead: "!=" },
                "EQ" => QueryErrorKind::ForeignOperator { found: word.clone(), instead: "=" },
                "NE" | "NEQ" => QueryErrorKind::ForeignOperator { found: word.clone(), instead: "!=" },
                "ORDER" | "GROUP" | "LIMIT" | "WHERE" | "FROM" => QueryErrorKind::FullQuery,
                _ => QueryErrorKind::ExpectedOperator { found },
            },
            TokenKind::Escaped(_)
            | TokenKind::String(_)
            | TokenKind::Number(_)
            | TokenKind::Symbol(_)
            | TokenKind::Bad(_)
            | TokenKind::End => QueryErrorKind::ExpectedOperator { found },
        };
        let _: Result<(), Failed> = self.fail(kind);
    }
}
