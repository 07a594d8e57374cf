//! Lowers a query to SQLite.
//!
//! In: a checked [`Query`]. Out: a boolean SQL expression over one table alias and its parameters. `query::matches` is the
//! reference, and the expression is true for exactly the devices that it selects. Where it is not true it may be false or NULL, so
//! the devices that a query does *not* select are those where `(…) IS NOT TRUE`.
//!
//! NOT is pushed down to the comparisons, which Kleene's logic allows, so that each one needs to tell apart only true from the
//! rest. The shapes that fleets use (a property against constants, `startswith`, `is_…`) become plain SQL whose
//! `json_extract(alias.section, '$."key"')` matches an expression index; two properties, arithmetic and `length` become plain SQL too.
//! [`FUNCTION`], which runs the reference itself on the columns it needs, is called for
//!
//! * `%` of real numbers, whose SQL takes integers only, and of what was computed, which may be real;
//! * keys that SQLite's paths cannot say;
//! * a truth value of a comparison that is compared again, lists with more than constants, and texts that are searched for other than
//!   constants: rare, and long in SQL.
//!
//! SQLite reads the numbers of JSON as the reference does (a test holds them against each other): as integers of 64 bits, and as the
//! nearest floats beyond those. It calculates with both as the reference does, but for infinity, which is undefined here.
//!
//! Columns: `device_id`, `device_name`, `template`, `organization`, `state`, `connection_state`, `last_activity` (TEXT;
//! `template`, `organization` and `last_activity` may be NULL, `last_activity` is written by `Timestamp::to_string`), `blocked`,
//! `simulated`, `iot_edge` (0 or 1), `desired_version`, `reported_version` (INTEGER), and `tags`, `cloud`, `desired`, `reported`
//! (TEXT, JSON objects as serde_json writes them).

mod arithmetic;
mod function;
mod json;
mod operand;
mod text;

use rusqlite::types::Value as SqlValue;

pub use function::register_functions;
use function::{Column, columns};
use json::{json_path, json_type_test};
use operand::{Kind, Operand};

use crate::query::ast::{Comparison, Expr, ExprKind, Function, Literal, Membership, Number, PathRef, Root};
use crate::query::{self, Answer, Query};

/// The SQL function behind the shapes that are not worth lowering: `(part of the query, columns…)`.
pub const FUNCTION: &str = "ff_condition";

/// A boolean SQL expression with the values of its parameters, in the order of their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// Refers to its parameters as `?N`; safe to put in parentheses anywhere that a condition may stand.
    pub sql: String,
    /// The values of `?first_param` and those after it, without gaps.
    pub params: Vec<SqlValue>,
}

/// Returns the SQL of a query over the table `alias`, whose parameters are numbered from `first_param`.
///
/// The connection that runs it needs [`register_functions`].
pub fn lower(query: &Query, alias: &str, first_param: usize) -> Lowered {
    let mut lowering = Lowering { text: query.text(), alias, first_param, params: Vec::new(), never_real: Vec::new() };
    let sql = lowering.condition(query.condition(), Sense::Is);
    Lowered { sql, params: lowering.params }
}

/// Returns the expression over the columns of a device that an index on a keyed path is made of: the very words in which [`lower`]
/// compares the path with constants, or SQLite does not take the index. `None` for paths that it does not lower.
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

/// Whether a node must be true or false for the device to be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Is,
    IsNot,
}

impl Sense {
    fn flipped(self) -> Sense {
        match self {
            Sense::Is => Sense::IsNot,
            Sense::IsNot => Sense::Is,
        }
    }

    /// Returns the comparison that is true where `operator` is true, or false.
    fn of(self, operator: Comparison) -> Comparison {
        match self {
            Sense::Is => operator,
            Sense::IsNot => operator.negated(),
        }
    }
}

struct Lowering<'a> {
    text: &'a str,
    alias: &'a str,
    first_param: usize,
    params: Vec<SqlValue>,
    /// SQL of values that are no floats, or the comparison under way is wrong: see `arithmetic`.
    never_real: Vec<String>,
}

impl Lowering<'_> {
    fn param(&mut self, value: SqlValue) -> String {
        self.params.push(value);
        format!("?{}", self.first_param + self.params.len() - 1)
    }

    fn text_param(&mut self, text: &str) -> String {
        self.param(SqlValue::Text(text.to_string()))
    }

    /// As bytes, because SQLite's text functions stop at U+0000; a part of valid UTF-8 is found at the same places.
    fn blob_param(&mut self, text: &str) -> String {
        self.param(SqlValue::Blob(text.as_bytes().to_vec()))
    }

    fn number_param(&mut self, number: Number) -> String {
        self.param(match number {
            Number::Integer(integer) => SqlValue::Integer(integer),
            Number::Real(real) => SqlValue::Real(real),
        })
    }

    /// Returns SQL that is true exactly where `expr` is true (`Is`) or false (`IsNot`).
    fn condition(&mut self, expr: &Expr, sense: Sense) -> String {
        match &expr.kind {
            ExprKind::Not(operand) => self.condition(operand, sense.flipped()),
            ExprKind::And(operands) => {
                self.junction(operands, if sense == Sense::Is { " AND " } else { " OR " }, sense)
            }
            ExprKind::Or(operands) => self.junction(operands, if sense == Sense::Is { " OR " } else { " AND " }, sense),
            ExprKind::Compare(operator, left, right) => {
                let operator = sense.of(*operator);
                self.atom(expr, sense, |lowering| match (&left.kind, &right.kind) {
                    (_, ExprKind::Literal(literal)) => lowering.compare(left, operator, literal),
                    (ExprKind::Literal(literal), _) => lowering.compare(right, operator.mirrored(), literal),
                    (_, _) => lowering.compare_operands(left, operator, right),
                })
            }
            ExprKind::Member(membership, item, elements) => {
                let is_in = (*membership == Membership::In) == (sense == Sense::Is);
                let membership = if is_in { Membership::In } else { Membership::NotIn };
                self.atom(expr, sense, |lowering| lowering.member(item, membership, elements))
            }
            ExprKind::Call(function, arguments) => {
                self.atom(expr, sense, |lowering| lowering.call(*function, arguments, sense))
            }
            ExprKind::Path(_) => self.atom(expr, sense, |lowering| {
                lowering.compare(expr, Comparison::Equal, &Literal::Bool(sense == Sense::Is))
            }),
            ExprKind::All
            | ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Negate(_)
            | ExprKind::Arithmetic(_, _, _) => self.fallback(expr, sense),
        }
    }

    fn junction(&mut self, operands: &[Expr], joint: &str, sense: Sense) -> String {
        let parts: Vec<String> = operands.iter().map(|operand| self.condition(operand, sense)).collect();
        balanced(&parts, joint)
    }

    /// Returns the plain SQL of `expr`, or what calls the reference: for all devices, or for those with a float where none may be.
    fn atom(&mut self, expr: &Expr, sense: Sense, lower: impl FnOnce(&mut Self) -> Option<String>) -> String {
        let first = self.params.len();
        let lowered = lower(self);
        let never_real = std::mem::take(&mut self.never_real);
        match lowered {
            Some(plain) if plain == constant(true) || plain == constant(false) => {
                // The parameters of operands that it needs no more.
                self.params.truncate(first);
                plain
            }
            Some(plain) if never_real.is_empty() => plain,
            Some(plain) => {
                let tests: Vec<String> = never_real.iter().map(|value| format!("typeof({value}) <> 'real'")).collect();
                format!("CASE WHEN {} THEN {plain} ELSE {} END", balanced(&tests, " AND "), self.fallback(expr, sense))
            }
            None => {
                self.params.truncate(first);
                self.fallback(expr, sense)
            }
        }
    }

    /// Evaluates what has no property right here, and hands the rest to [`FUNCTION`].
    fn fallback(&mut self, expr: &Expr, sense: Sense) -> String {
        let columns = columns(expr);
        if columns.is_empty() {
            let answer = query::evaluate_with(expr, &|_| Answer::Undefined);
            return constant(answer == Answer::Bool(sense == Sense::Is));
        }
        let part = &self.text[expr.start..expr.end];
        let mut arguments = vec![self.text_param(part)];
        arguments.extend(columns.iter().map(|column| self.column(*column)));
        let call = format!("{FUNCTION}({})", arguments.join(", "));
        match sense {
            Sense::Is => call,
            Sense::IsNot => format!("NOT {call}"),
        }
    }

    fn column(&self, column: Column) -> String {
        format!("{}.{}", self.alias, column.as_str())
    }

    fn compare(&mut self, left: &Expr, operator: Comparison, right: &Literal) -> Option<String> {
        let operand = self.operand(left)?;
        let equality_only = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        Some(match (operand.kind, right) {
            (Kind::Text, Literal::String(text)) => {
                if let Some(lean) = self.compare_status(left, operator, text) {
                    return Some(lean);
                }
                format!("{} {} {}", operand.value, operator.as_str(), self.text_param(text))
            }
            (Kind::Number, Literal::Number(number)) => {
                format!("{} {} {}", operand.value, operator.as_str(), self.number_param(*number))
            }
            (Kind::Bool, Literal::Bool(value)) if equality_only => {
                format!("{} = {}", operand.value, constant(*value == (operator == Comparison::Equal)))
            }
            (Kind::Json { json_type, .. }, literal) => self.compare_json(&operand.value, &json_type, operator, literal),
            (Kind::Text | Kind::Number | Kind::Bool, _) => constant(false),
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
            Kind::Text if !by_type.strings.is_empty() => {
                parts.push(self.text_list(&operand.value, membership, &by_type.strings));
            }
            Kind::Number if !by_type.numbers.is_empty() => {
                parts.push(self.number_list(&operand.value, membership, &by_type.numbers));
            }
            Kind::Text | Kind::Number => {}
            Kind::Bool => {
                let bools = by_type.bools.iter().map(|value| constant(*value)).collect::<Vec<_>>().join(",");
                parts
                    .extend((!bools.is_empty()).then(|| format!("{} {} ({bools})", operand.value, in_sql(membership))));
            }
            Kind::Json { json_type, .. } => {
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

fn constant(value: bool) -> String {
    (if value { "1" } else { "0" }).to_string()
}

fn in_sql(membership: Membership) -> &'static str {
    match membership {
        Membership::In => "IN",
        Membership::NotIn => "NOT IN",
    }
}

/// Joins parts as a balanced tree: SQLite refuses expressions deeper than 1,000.
fn balanced(parts: &[String], joint: &str) -> String {
    match parts {
        [] => constant(false),
        [part] => part.clone(),
        parts => {
            let (left, right) = parts.split_at(parts.len() / 2);
            format!("({}{joint}{})", balanced(left, joint), balanced(right, joint))
        }
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
        Kind::Json { json_type, .. } => return json_type_test(json_type, sense, json_types),
        Kind::Text => &["text"],
        Kind::Number => &["integer"],
        Kind::Bool => &["true"],
    };
    let is_possible = json_types.is_empty() || json_types.contains(&own[0]);
    let value = &operand.value;
    match (is_possible, sense) {
        (true, Sense::Is) => format!("{value} IS NOT NULL"),
        (true, Sense::IsNot) => format!("{value} IS NULL"),
        (false, sense) => constant(sense == Sense::IsNot),
    }
}

#[cfg(test)]
mod tests;
