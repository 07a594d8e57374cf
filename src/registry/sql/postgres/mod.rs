//! The dialect of PostgreSQL, which keeps JSON as `jsonb` and texts as [`json`](crate::registry::postgres::json) says.
//!
//! A property below some keys is `alias.section -> 'key' -> 'key'`: chained, because `#>` would enter arrays. `jsonb`
//! compares numbers by their exact value, strings only for equality (their order is that of the database's collation),
//! and values of different types by their type, so most comparisons have a guard of the type. Nothing here fails on any
//! data: what a function may refuse is behind a `CASE`. Texts are compared by their bytes, whatever the collation of the
//! database is.
//!
//! The dialect does not lower
//!
//! * arithmetic: what has more than 64 bits is an error here, and a float in the reference;
//! * a truth value of a comparison that is compared again, lists with more than constants, and texts that are searched
//!   for other than constants;
//! * a part of a text that begins with one of the first three characters of Unicode, which may be half of an escape.
//!
//! Doubts make an atom true, and its devices are checked again: `lower` and `upper` of what is not ASCII, because a
//! server knows another Unicode, and integers from 2^63 on, which are the nearest floats to the reference and exact here.

mod json;
mod operand;
mod text;

use json::Json;
use operand::Operand;
use tokio_postgres::types::ToSql;

use super::{
    Atom, AtomSql, ByType, Column, Dialect, Param, Params, Property, Sense, after_prefix, balanced, status_holds,
};
use crate::query::ast::{Comparison, Expr, Function, Literal, Membership, Number, PathRef};
use crate::registry::postgres::json as kept;

/// PostgreSQL 14 or newer, with `standard_conforming_strings`.
#[derive(Debug, Clone, Copy)]
pub struct Postgres;

impl Dialect for Postgres {
    fn atom(&self, atom: &Atom<'_>, params: &mut Params<'_>) -> Option<AtomSql> {
        let mut atoms = Atoms { params, doubts: Vec::new() };
        let plain = match atom {
            Atom::Constant(operand, operator, literal) => atoms.compare(operand, *operator, literal),
            Atom::Operands(left, operator, right) => atoms.compare_operands(left, *operator, right),
            Atom::Member(item, membership, elements) => atoms.member(item, *membership, elements),
            Atom::Text(function, operand, part, sense) => {
                let operand = atoms.operand(operand)?;
                atoms.text_test(*function, &operand, part, *sense)
            }
            Atom::Type(function, operand, sense) => {
                let operand = atoms.operand(operand)?;
                json_types_of(*function).map(|json_types| type_test(&operand, *sense, json_types))
            }
        }?;
        let is_constant = plain == constant(true) || plain == constant(false);
        if is_constant || atoms.doubts.is_empty() {
            return Some(AtomSql::Exactly(plain));
        }
        Some(AtomSql::AtLeast(format!("CASE WHEN {} THEN TRUE ELSE {plain} END", balanced(&atoms.doubts, " OR "))))
    }

    fn constant(&self, value: bool) -> &'static str {
        if value { "TRUE" } else { "FALSE" }
    }

    /// With its type, so that the text of a statement says the types of its parameters.
    fn parameter(&self, number: usize, value: &Param) -> String {
        match value {
            Param::Text(_) => format!("${number}::text"),
            Param::Blob(_) => format!("${number}::bytea"),
            Param::Integer(_) => format!("${number}::bigint"),
            Param::Real(_) => format!("${number}::double precision"),
            Param::Texts(_) => format!("${number}::text[]"),
        }
    }
}

fn constant(value: bool) -> String {
    Postgres.constant(value).to_string()
}

/// What an index on a keyed path is made of, over the columns of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSql {
    /// The expression that is indexed.
    pub expression: String,
    /// The condition of the rows that the index has: no row of an index can be as long as a string of a twin can be. A
    /// comparison with constants, none of which is long, implies it in these very words, or PostgreSQL does not take
    /// the index.
    pub predicate: String,
}

/// Returns the index on a path, which answers its comparisons with constants: all of them for equality, and ranges of
/// numbers. `None` for paths that have none.
pub fn index_sql(path: &PathRef) -> Option<IndexSql> {
    match Property::of(path)? {
        Property::Json(column, keys) if !keys.is_empty() => {
            let json = Json::at(column.as_str(), keys);
            Some(IndexSql { predicate: json.is_short(), expression: json.value })
        }
        _ => None,
    }
}

/// An atom under way.
struct Atoms<'p, 'a> {
    params: &'p mut Params<'a>,
    /// Conditions under which the SQL of the atom may be wrong.
    doubts: Vec<String>,
}

impl Atoms<'_, '_> {
    fn column(&self, column: Column) -> String {
        self.params.column(column)
    }

    /// Of type `text`, as it is kept in columns and in `jsonb`.
    fn text_param(&mut self, text: &str) -> String {
        self.params.add(Param::Text(kept::stored_text(text).into_owned()))
    }

    /// Of a numeric type.
    fn number_param(&mut self, number: Number) -> String {
        match number {
            Number::Integer(integer) => self.params.add(Param::Integer(integer)),
            Number::Real(real) => format!("{}::numeric", self.params.add(Param::Text(kept::stored_real(real)))),
        }
    }

    fn compare(&mut self, left: &Expr, operator: Comparison, right: &Literal) -> Option<String> {
        let operand = self.operand(left)?;
        let equality_only = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        Some(match (operand, right) {
            (Operand::Text(value), Literal::String(text)) => match status_holds(left, operator, text) {
                Some((true, true)) => constant(true),
                Some((true, false)) => format!("NOT {}", self.column(Column::Blocked)),
                Some((false, true)) => self.column(Column::Blocked),
                Some((false, false)) => constant(false),
                None => compared_texts(&value, operator, &self.text_param(text)),
            },
            (Operand::Number(value), Literal::Number(number)) => {
                format!("{value} {} {}", operator.as_str(), self.number_param(*number))
            }
            (Operand::Bool(value), Literal::Bool(wanted)) if equality_only => {
                if *wanted == (operator == Comparison::Equal) { value } else { format!("NOT {value}") }
            }
            (Operand::Json(json), literal) => self.compare_json(&json, operator, literal),
            (Operand::Text(_) | Operand::Number(_) | Operand::Bool(_), _) => constant(false),
        })
    }

    fn member(&mut self, item: &Expr, membership: Membership, by_type: &ByType<'_>) -> Option<String> {
        let list = match &self.operand(item)? {
            Operand::Json(json) => return Some(self.json_member(json, membership, by_type)),
            Operand::Text(value) => {
                (value.clone(), by_type.strings.iter().map(|text| self.text_param(text)).collect::<Vec<_>>())
            }
            Operand::Number(value) => {
                (value.clone(), by_type.numbers.iter().map(|number| self.number_param(*number)).collect())
            }
            Operand::Bool(value) => (value.clone(), by_type.bools.iter().map(|value| constant(*value)).collect()),
        };
        let (value, elements) = list;
        Some(if elements.is_empty() { constant(false) } else { listed(&value, membership, &elements) })
    }
}

/// Returns the test of a value for being among some, at least one, or among none of them.
fn listed(value: &str, membership: Membership, elements: &[String]) -> String {
    let sign = match membership {
        Membership::In => "IN",
        Membership::NotIn => "NOT IN",
    };
    format!("{value} {sign} ({})", elements.join(","))
}

/// Compares two texts by their bytes.
fn compared_texts(left: &str, operator: Comparison, right: &str) -> String {
    let collation = match operator {
        // Different texts are never equal, in any collation of a database.
        Comparison::Equal | Comparison::NotEqual => "",
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
            " COLLATE \"C\""
        }
    };
    format!("{left} {} {right}{collation}", operator.as_str())
}

/// Returns the types for which a function is true, none of them for any; `None` when it is no test of types.
fn json_types_of(function: Function) -> Option<&'static [&'static str]> {
    match function {
        Function::IsDefined => Some(&[]),
        Function::IsNull => Some(&["null"]),
        Function::IsString => Some(&["string"]),
        Function::IsNumber => Some(&["number"]),
        Function::IsBool => Some(&["boolean"]),
        Function::IsObject => Some(&["object"]),
        Function::IsArray => Some(&["array"]),
        Function::IsPrimitive => Some(&["string", "number", "boolean", "null"]),
        Function::StartsWith
        | Function::EndsWith
        | Function::Contains
        | Function::Lower
        | Function::Upper
        | Function::Length => None,
    }
}

/// Returns the test for some JSON types, or for any (`json_types` is empty). Type tests are never undefined.
fn type_test(operand: &Operand, sense: Sense, json_types: &[&str]) -> String {
    let (value, own) = match operand {
        Operand::Json(json) => return json.type_test(sense, json_types),
        Operand::Text(value) => (value, "string"),
        Operand::Number(value) => (value, "number"),
        Operand::Bool(value) => (value, "boolean"),
    };
    let is_possible = json_types.is_empty() || json_types.contains(&own);
    match (is_possible, sense) {
        (true, Sense::Is) => format!("({value}) IS NOT NULL"),
        (true, Sense::IsNot) => format!("({value}) IS NULL"),
        (false, sense) => constant(sense == Sense::IsNot),
    }
}

impl Param {
    /// Returns the value as the client of PostgreSQL takes it.
    pub fn bound(&self) -> &(dyn ToSql + Sync) {
        match self {
            Param::Text(text) => text,
            Param::Blob(bytes) => bytes,
            Param::Integer(integer) => integer,
            Param::Real(real) => real,
            Param::Texts(texts) => texts,
        }
    }
}
