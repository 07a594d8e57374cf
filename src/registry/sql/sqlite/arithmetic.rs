//! Calculations in SQL: `+`, `-`, `*`, `/`, `%` and `length`.
//!
//! SQLite adds, subtracts and multiplies integers exactly and goes on with floats where the result has more than 64
//! bits, does not divide by zero, and has no NaN, all as the reference does. It does have infinity, which is removed
//! from every result.

use super::Atoms;
use super::operand::{Operand, OperandKind};
use crate::query::ast::{Arithmetic, Expr, ExprKind, Function, Literal, Number};

/// A byte that no text has: its place in a text with it at the end is the number of characters before it, plus one.
/// SQLite's `length` would stop at a U+0000 in the text.
const END: &str = "CAST(x'FF' AS TEXT)";

impl Atoms<'_, '_> {
    /// Returns the SQL of a number, NULL where it is undefined; `None` when SQL cannot express it.
    pub(super) fn number(&mut self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Literal(Literal::Number(number)) => Some(self.number_param(*number)),
            ExprKind::Literal(_) => Some("NULL".to_string()),
            ExprKind::Path(_) => self.operand(expr).map(number_of),
            // Never infinite: the negation of a finite number is finite.
            ExprKind::Negate(operand) => self.number(operand).map(|number| format!("(0 - {number})")),
            ExprKind::Arithmetic(Arithmetic::Remainder, left, right) => self.remainder(left, right),
            ExprKind::Arithmetic(operator, left, right) => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                let result = match operator {
                    Arithmetic::Divide => format!("CAST({left} AS REAL) / {right}"),
                    Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply | Arithmetic::Remainder => {
                        format!("{left} {} {right}", operator.as_str())
                    }
                };
                Some(format!("nullif(nullif({result}, 9e999), -9e999)"))
            }
            ExprKind::Call(Function::Length, arguments) => self.length(arguments.first()?),
            ExprKind::All
            | ExprKind::Array(_)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Not(_)
            | ExprKind::Compare(_, _, _)
            | ExprKind::Member(_, _, _)
            | ExprKind::Call(_, _) => None,
        }
    }

    /// SQL converts the operands of `%` to integers, so both must be integers. Properties are checked for floats.
    /// Calculated operands may overflow into a float, so they are left to the reference.
    fn remainder(&mut self, left: &Expr, right: &Expr) -> Option<String> {
        for operand in [left, right] {
            match &operand.kind {
                ExprKind::Literal(Literal::Number(Number::Integer(_))) | ExprKind::Call(Function::Length, _) => {}
                ExprKind::Path(_) => {
                    let Operand { value, kind } = self.operand(operand)?;
                    if matches!(kind, OperandKind::Json { .. }) {
                        self.never_real.push(value);
                    }
                }
                ExprKind::All
                | ExprKind::Literal(_)
                | ExprKind::Array(_)
                | ExprKind::And(_)
                | ExprKind::Or(_)
                | ExprKind::Not(_)
                | ExprKind::Negate(_)
                | ExprKind::Compare(_, _, _)
                | ExprKind::Arithmetic(_, _, _)
                | ExprKind::Member(_, _, _)
                | ExprKind::Call(_, _) => return None,
            }
        }
        Some(format!("({} % {})", self.number(left)?, self.number(right)?))
    }

    fn length(&mut self, of: &Expr) -> Option<String> {
        if let ExprKind::Array(elements) = &of.kind {
            return Some(elements.len().to_string());
        }
        let Operand { value, kind } = self.operand(of)?;
        let characters = format!("instr({value} || {END}, {END}) - 1");
        Some(match kind {
            OperandKind::Text => format!("({characters})"),
            OperandKind::Json { json_type, array_length } => {
                format!("CASE {json_type} WHEN 'text' THEN {characters} WHEN 'array' THEN {array_length} END")
            }
            OperandKind::Number | OperandKind::Bool => "NULL".to_string(),
        })
    }
}

/// Returns the number that an operand is, NULL where it is none.
fn number_of(operand: Operand) -> String {
    let Operand { value, kind } = operand;
    match kind {
        OperandKind::Number => value,
        OperandKind::Json { json_type, .. } => format!("CASE WHEN {json_type} IN ('integer','real') THEN {value} END"),
        OperandKind::Text | OperandKind::Bool => "NULL".to_string(),
    }
}
