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

use super::{AtomSql, Column, Dialect, Param, Params, Sense, balanced, constant};
use crate::query;
use crate::query::ast::{Comparison, Expr, ExprKind, Function, Literal, Membership, Number, PathRef, Root};

/// SQLite 3.38 or newer, with its JSON functions.
#[derive(Debug, Clone, Copy)]
pub struct Sqlite;

impl Dialect for Sqlite {
    fn atom(&self, atom: &Expr, sense: Sense, params: &mut Params<'_>) -> Option<AtomSql> {
        let mut atoms = Atoms { params, never_real: Vec::new() };
        let plain = match &atom.kind {
            ExprKind::Compare(operator, left, right) => {
                let operator = sense.of(*operator);
                match (&left.kind, &right.kind) {
                    (_, ExprKind::Literal(literal)) => atoms.compare(left, operator, literal),
                    (ExprKind::Literal(literal), _) => atoms.compare(right, operator.mirrored(), literal),
                    (_, _) => atoms.compare_operands(left, operator, right),
                }
            }
            ExprKind::Member(membership, item, elements) => {
                let is_in = (*membership == Membership::In) == (sense == Sense::Is);
                let membership = if is_in { Membership::In } else { Membership::NotIn };
                atoms.member(item, membership, elements)
            }
            ExprKind::Call(function, arguments) => atoms.call(*function, arguments, sense),
            ExprKind::Path(_) => atoms.compare(atom, Comparison::Equal, &Literal::Bool(sense == Sense::Is)),
            ExprKind::All
            | ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Negate(_)
            | ExprKind::Arithmetic(_, _, _)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Not(_) => None,
        }?;
        let is_constant = plain == constant(true) || plain == constant(false);
        if is_constant || atoms.never_real.is_empty() {
            return Some(AtomSql::Exactly(plain));
        }
        let tests: Vec<String> = atoms.never_real.iter().map(|value| format!("typeof({value}) <> 'real'")).collect();
        Some(AtomSql::AtLeast(format!("CASE WHEN {} THEN {plain} ELSE 1 END", balanced(&tests, " AND "))))
    }
}

/// Returns the expression over the columns of a device that an index on a keyed path is made of: the very words in
/// which the dialect compares the path with constants, or SQLite does not take the index. `None` for paths that it
/// cannot say.
pub fn index_expression(path: &PathRef) -> Option<String> {
    path.root.section()?;
    if path.keys.is_empty() {
        return None;
    }
    Some(extract(Column::of(path.root)?.as_str(), &json_path(&path.keys)?))
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
        self.params.text(text)
    }

    /// As bytes, because SQLite's text functions stop at U+0000; a part of valid UTF-8 is found at the same places.
    fn blob_param(&mut self, text: &str) -> String {
        self.params.add(Param::Blob(text.as_bytes().to_vec()))
    }

    fn number_param(&mut self, number: Number) -> String {
        self.params.number(number)
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
        let ExprKind::Path(PathRef { root: Root::Status, .. }) = &left.kind else {
            return None;
        };
        let holds = |blocked: bool| operator.holds(query::status(blocked).cmp(text));
        let blocked = self.column(Column::Blocked);
        Some(match (holds(false), holds(true)) {
            (true, true) => constant(true),
            (true, false) => format!("{blocked} = 0"),
            (false, true) => format!("{blocked} = 1"),
            (false, false) => constant(false),
        })
    }

    fn member(&mut self, item: &Expr, membership: Membership, elements: &[Expr]) -> Option<String> {
        let literals = elements.iter().map(literal).collect::<Option<Vec<_>>>()?;
        let operand = self.operand(item)?;
        let by_type = ByType::sort(&literals);
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
                self.json_lists(&operand.value, json_type, membership, &by_type, &mut parts)
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

    fn call(&mut self, function: Function, arguments: &[Expr], sense: Sense) -> Option<String> {
        let operand = self.operand(arguments.first()?)?;
        match function {
            Function::StartsWith | Function::EndsWith | Function::Contains => match &arguments.get(1)?.kind {
                ExprKind::Literal(Literal::String(part)) => self.text_test(function, &operand, part, sense),
                _ => None,
            },
            Function::IsDefined => Some(type_test(&operand, sense, &[])),
            Function::IsNull => Some(type_test(&operand, sense, &["null"])),
            Function::IsString => Some(type_test(&operand, sense, &["text"])),
            Function::IsNumber => Some(type_test(&operand, sense, &["integer", "real"])),
            Function::IsBool => Some(type_test(&operand, sense, &["true", "false"])),
            Function::IsObject => Some(type_test(&operand, sense, &["object"])),
            Function::IsArray => Some(type_test(&operand, sense, &["array"])),
            Function::IsPrimitive => {
                Some(type_test(&operand, sense, &["text", "integer", "real", "true", "false", "null"]))
            }
            Function::Lower | Function::Upper | Function::Length => None,
        }
    }
}

fn in_sql(membership: Membership) -> &'static str {
    match membership {
        Membership::In => "IN",
        Membership::NotIn => "NOT IN",
    }
}

fn literal(element: &Expr) -> Option<&Literal> {
    match &element.kind {
        ExprKind::Literal(literal) => Some(literal),
        _ => None,
    }
}

/// The elements of an array by type; undefined ones are comparable with nothing and left out.
#[derive(Default)]
struct ByType<'a> {
    strings: Vec<&'a str>,
    numbers: Vec<Number>,
    bools: Vec<bool>,
    has_null: bool,
}

impl<'a> ByType<'a> {
    fn sort(literals: &[&'a Literal]) -> ByType<'a> {
        let mut sorted = ByType::default();
        for literal in literals {
            match literal {
                Literal::Undefined => {}
                Literal::Null => sorted.has_null = true,
                Literal::Bool(value) => sorted.bools.push(*value),
                Literal::Number(number) => sorted.numbers.push(*number),
                Literal::String(text) => sorted.strings.push(text),
            }
        }
        sorted
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

#[cfg(test)]
mod tests;
