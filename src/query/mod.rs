//! The target query language: the WHERE condition of IoT Hub queries, with extensions.
//!
//! In: the text of a condition, such as `tags.line = '3' AND NOT startswith(deviceId, 'lab-')`. Out: a checked
//! [`Query`] or the [`QueryError`]s with their bytes in the text. `manifest` parses the text of authors, `plan` warns
//! about likely mistakes, `registry` lowers a query to SQL. This room does no IO and knows no SQL; [`matches()`]
//! defines the meaning of a query.
//!
//! The language follows the IoT Hub query language
//! (<https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-query-language>), and adds:
//!
//! * `*` alone for every device, `NIN`, true and false, `/* comments */`, keywords and functions in any case;
//! * `is_null`, `is_string`, `is_number`, `is_bool`, `is_object`, `is_array`, `is_primitive`, `startswith`, `endswith`,
//!   `contains`, `lower`, `upper` (all letters of Unicode) and `length` (code points of a string, elements of an array);
//! * `[[name]]` after a dot for keys with special characters; a reserved word after a dot is a plain name.
//!
//! A property that is not there is undefined, and so are comparisons with undefined, between types, and of objects and
//! arrays: neither `tags.a = 'x'` nor `tags.a != 'x'` selects a device without `tags.a`. Numbers compare by exact value
//! whether they are integers or floats, strings by code point. `template` and `organization` are undefined, not null,
//! where a device has none.

pub mod ast;
mod check;
mod error;
mod eval;
mod lex;
mod models;
mod names;
mod parse;
mod rows;
mod select;
mod walk;

pub use ast::{Expr, PathRef, Root};
pub use error::{QueryError, QueryErrorKind};
pub use eval::{Answer, evaluate};
pub(crate) use eval::{evaluate_with, status};
pub use models::with_models;
pub use rows::RowQuery;
pub use select::{Aggregate, Collection, Column, ColumnValue, Columns, Select, is_same, parse_select};
pub(crate) use walk::paths_of;
pub use walk::{Lack, compared_texts, lacks, negated_paths, paths, searched_paths};

use crate::model::device::Device;
use crate::model::limits;

/// A condition that was parsed and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    text: String,
    condition: Expr,
}

impl Query {
    /// Returns the text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the condition; its byte ranges are those of [`Query::text`].
    pub fn condition(&self) -> &Expr {
        &self.condition
    }

    /// Returns true for `*`: its author means every device.
    pub fn is_all(&self) -> bool {
        matches!(self.condition.kind, ast::ExprKind::All)
    }

    /// Returns true when nothing but `a = b` and AND is in it: how few devices meet it is then much the same for every
    /// value.
    pub fn has_only_equalities(&self) -> bool {
        fn is_one(expr: &Expr) -> bool {
            match &expr.kind {
                ast::ExprKind::All | ast::ExprKind::Compare(ast::Comparison::Equal, _, _) => true,
                ast::ExprKind::And(parts) => parts.iter().all(is_one),
                _ => false,
            }
        }
        is_one(&self.condition)
    }

    /// Returns a query made of parts of a checked one; it may be longer than the limit for authors.
    fn assembled(text: String) -> Query {
        let condition = parse_part(&text).expect("what is made of parts of a checked query is an expression");
        Query { text, condition }
    }
}

/// Parses and checks a condition.
///
/// # Errors
/// Everything that is wrong with it, sorted by place, at least one. After an error the parser resumes at the next AND
/// or OR.
pub fn parse(text: &str) -> Result<Query, Vec<QueryError>> {
    let chars = text.chars().count();
    if chars > limits::QUERY_CHARS_MAX {
        return Err(vec![QueryError { kind: QueryErrorKind::Long { chars }, start: 0, end: text.len() }]);
    }
    let (condition, mut errors) = parse::parse(text);
    // The type of an expression with a syntax error says nothing.
    let broken: Vec<usize> = errors.iter().map(|error| error.start).collect();
    let is_whole = |error: &QueryError| !broken.iter().any(|at| (error.start..=error.end).contains(at));
    errors.extend(check::check(&condition).into_iter().filter(is_whole));
    errors.sort_by_key(|error| (error.start, error.end));
    if errors.is_empty() { Ok(Query { text: text.to_string(), condition }) } else { Err(errors) }
}

/// Parses a part of a query that was checked as a whole; `None` when it is not an expression.
pub(crate) fn parse_part(text: &str) -> Option<Expr> {
    let (expr, errors) = parse::parse(text);
    errors.is_empty().then_some(expr)
}

/// Returns true when the query selects the device.
pub fn matches(query: &Query, device: &Device) -> bool {
    evaluate(&query.condition, device) == Answer::Bool(true)
}

#[cfg(test)]
mod tests;
