//! The dialect of SQLite.
//!
//! The shapes that fleets use (a property against constants, `startswith`, `is_…`) become plain SQL whose
//! `json_extract(alias.section, '$."key"')` matches an expression index; two properties, arithmetic and `length` become
//! plain SQL too. The dialect does not lower
//!
//! * `%` of real numbers, whose SQL takes integers only, and of what was computed, which may be real;
//! * keys that SQLite's paths cannot say;
//! * a truth value of a comparison that is compared again, lists with more than constants, and texts that are searched
//!   for other than constants: rare, and long in SQL.
//!
//! SQLite reads the numbers of JSON as the reference does (a test holds them against each other): as integers of 64
//! bits, and as the nearest floats beyond those. It calculates with both as the reference does, but for infinity, which
//! is undefined here.

mod arithmetic;
mod json;
mod operand;
mod text;

use json::{json_path, json_type_test};
use operand::{Operand, OperandKind};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::{
    Atom, AtomSql, ByType, Column, Dialect, Param, Params, Property, Sense, after_prefix, balanced, status_holds,
};
use crate::query::ast::{Comparison, Expr, Function, Literal, Membership, Number, PathRef};

/// SQLite 3.38 or newer, with its JSON functions.
#[derive(Debug, Clone, Copy)]
pub struct Sqlite;

impl Dialect for Sqlite {
    fn atom(&self, atom: &Atom<'_>, params: &mut Params<'_>) -> Option<AtomSql> {
        let mut atoms = Atoms { params, never_real: Vec::new() };
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
        if is_constant || atoms.never_real.is_empty() {
            return Some(AtomSql::Exactly(plain));
        }
        let tests: Vec<String> = atoms.never_real.iter().map(|value| format!("typeof({value}) <> 'real'")).collect();
        Some(AtomSql::AtLeast(format!("CASE WHEN {} THEN {plain} ELSE 1 END", balanced(&tests, " AND "))))
    }

    fn constant(&self, value: bool) -> &'static str {
        if value { "1" } else { "0" }
    }

    fn parameter(&self, number: usize, _value: &Param) -> String {
        format!("?{number}")
    }
}

fn constant(value: bool) -> String {
    Sqlite.constant(value).to_string()
}

/// Returns the expression over the columns of a device that an index on a keyed path is made of: the very words in
/// which the dialect compares the path with constants, or SQLite does not take the index. `None` for paths that it
/// cannot say.
pub fn index_expression(path: &PathRef) -> Option<String> {
    match Property::of(path)? {
        Property::Json(column, keys) if !keys.is_empty() => Some(extract(column.as_str(), &json_path(keys)?)),
        _ => None,
    }
}

fn extract(column: &str, place: &str) -> String {
    format!("json_extract({column},{place})")
}

/// An atom under way.
struct Atoms<'p, 'a> {
    params: &'p mut Params<'a>,
    /// SQL of values that are no floats, or the comparison under way is wrong: see `arithmetic`.
    never_real: Vec<String>,
}

impl Atoms<'_, '_> {
    fn column(&self, column: Column) -> String {
        self.params.column(column)
    }

    fn text_param(&mut self, text: &str) -> String {
        self.params.add(Param::Text(text.to_string()))
    }

    /// As bytes, because SQLite's text functions stop at U+0000; a part of valid UTF-8 is found at the same places.
    fn blob_param(&mut self, text: &str) -> String {
        self.params.add(Param::Blob(text.as_bytes().to_vec()))
    }

    fn number_param(&mut self, number: Number) -> String {
        self.params.add(match number {
            Number::Integer(integer) => Param::Integer(integer),
            Number::Real(real) => Param::Real(real),
        })
    }

    fn compare(&mut self, left: &Expr, operator: Comparison, right: &Literal) -> Option<String> {
        let operand = self.operand(left)?;
        let equality_only = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        Some(match (operand.kind, right) {
            (OperandKind::Text, Literal::String(text)) => {
                if let Some(lean) = self.compare_status(left, operator, text) {
                    return Some(lean);
                }
                format!("{} {} {}", operand.value, operator.as_str(), self.text_param(text))
            }
            (OperandKind::Number, Literal::Number(number)) => {
                format!("{} {} {}", operand.value, operator.as_str(), self.number_param(*number))
            }
            (OperandKind::Bool, Literal::Bool(value)) if equality_only => {
                format!("{} = {}", operand.value, constant(*value == (operator == Comparison::Equal)))
            }
            (OperandKind::Json { json_type, .. }, literal) => {
                self.compare_json(&operand.value, &json_type, operator, literal)
            }
            (OperandKind::Text | OperandKind::Number | OperandKind::Bool, _) => constant(false),
        })
    }

    /// `status = 'enabled'` is `blocked = 0`.
    fn compare_status(&self, left: &Expr, operator: Comparison, text: &str) -> Option<String> {
        let blocked = self.column(Column::Blocked);
        Some(match status_holds(left, operator, text)? {
            (true, true) => constant(true),
            (true, false) => format!("{blocked} = 0"),
            (false, true) => format!("{blocked} = 1"),
            (false, false) => constant(false),
        })
    }

    fn member(&mut self, item: &Expr, membership: Membership, by_type: &ByType<'_>) -> Option<String> {
        let operand = self.operand(item)?;
        let mut parts = Vec::new();
        match &operand.kind {
            OperandKind::Text if !by_type.strings.is_empty() => {
                parts.push(self.text_list(&operand.value, membership, &by_type.strings));
            }
            OperandKind::Number if !by_type.numbers.is_empty() => {
                parts.push(self.number_list(&operand.value, membership, &by_type.numbers));
            }
            OperandKind::Text | OperandKind::Number => {}
            OperandKind::Bool => {
                let bools = by_type.bools.iter().map(|value| constant(*value)).collect::<Vec<_>>().join(",");
                parts
                    .extend((!bools.is_empty()).then(|| format!("{} {} ({bools})", operand.value, in_sql(membership))));
            }
            OperandKind::Json { json_type, .. } => {
                self.json_lists(&operand.value, json_type, membership, by_type, &mut parts)
            }
        }
        Some(if parts.is_empty() { constant(false) } else { balanced(&parts, " OR ") })
    }

    fn text_list(&mut self, value: &str, membership: Membership, texts: &[&str]) -> String {
        let params: Vec<String> = texts.iter().map(|text| self.text_param(text)).collect();
        format!("{value} {} ({})", in_sql(membership), params.join(","))
    }

    fn number_list(&mut self, value: &str, membership: Membership, numbers: &[Number]) -> String {
        let params: Vec<String> = numbers.iter().map(|number| self.number_param(*number)).collect();
        format!("{value} {} ({})", in_sql(membership), params.join(","))
    }
}

fn in_sql(membership: Membership) -> &'static str {
    match membership {
        Membership::In => "IN",
        Membership::NotIn => "NOT IN",
    }
}

/// Returns the types for which a function is true, none of them for any; `None` when it is no test of types.
fn json_types_of(function: Function) -> Option<&'static [&'static str]> {
    match function {
        Function::IsDefined => Some(&[]),
        Function::IsNull => Some(&["null"]),
        Function::IsString => Some(&["text"]),
        Function::IsNumber => Some(&["integer", "real"]),
        Function::IsBool => Some(&["true", "false"]),
        Function::IsObject => Some(&["object"]),
        Function::IsArray => Some(&["array"]),
        Function::IsPrimitive => Some(&["text", "integer", "real", "true", "false", "null"]),
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
    let own: &[&str] = match &operand.kind {
        OperandKind::Json { json_type, .. } => return json_type_test(json_type, sense, json_types),
        OperandKind::Text => &["text"],
        OperandKind::Number => &["integer"],
        OperandKind::Bool => &["true"],
    };
    let is_possible = json_types.is_empty() || json_types.contains(&own[0]);
    let value = &operand.value;
    match (is_possible, sense) {
        (true, Sense::Is) => format!("{value} IS NOT NULL"),
        (true, Sense::IsNot) => format!("{value} IS NULL"),
        (false, sense) => constant(sense == Sense::IsNot),
    }
}

/// Gives a connection the functions that lowered conditions use: those of SQLite know ASCII only.
///
/// # Errors
/// The connection takes no functions.
pub fn register_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("fleetform_lower", 1, flags, |context| {
        Ok(context.get_raw(0).as_str_or_null()?.map(str::to_lowercase))
    })?;
    connection.create_scalar_function("fleetform_upper", 1, flags, |context| {
        Ok(context.get_raw(0).as_str_or_null()?.map(str::to_uppercase))
    })
}
