//! Operands that SQL can compare (properties, texts in another case and numbers), and their comparison.

use super::json::json_path;
use super::{Atoms, Property, constant, extract};
use crate::query;
use crate::query::ast::{Comparison, Expr, ExprKind, Function, PathRef};

/// Something that SQL can compare.
pub(super) struct Operand {
    /// NULL when undefined, and for a wrong type unless `kind` is `Json`.
    pub value: String,
    pub kind: OperandKind,
}

/// What `Operand::value` can be.
pub(super) enum OperandKind {
    Text,
    Number,
    /// 0 or 1.
    Bool,
    /// Any `json_extract`; `json_type` is SQL for its type, `array_length` SQL for its length if it is an array.
    Json {
        json_type: String,
        array_length: String,
    },
}

/// The JSON types of numbers, as a list of SQL.
const NUMBERS: &str = "('integer','real')";
/// The JSON types of truth values, as a list of SQL.
const BOOLS: &str = "('true','false')";

impl Atoms<'_, '_> {
    /// Returns the operand that an expression is; `None` when it is not worth lowering.
    pub(super) fn operand(&mut self, expr: &Expr) -> Option<Operand> {
        match &expr.kind {
            ExprKind::Path(path) => self.path(path),
            ExprKind::Call(Function::Lower, arguments) => self.text_function("fleetform_lower", arguments),
            ExprKind::Call(Function::Upper, arguments) => self.text_function("fleetform_upper", arguments),
            ExprKind::Call(Function::Length, _) | ExprKind::Negate(_) | ExprKind::Arithmetic(_, _, _) => {
                Some(Operand { value: self.number(expr)?, kind: OperandKind::Number })
            }
            ExprKind::All
            | ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Not(_)
            | ExprKind::Compare(_, _, _)
            | ExprKind::Member(_, _, _)
            | ExprKind::Call(_, _) => None,
        }
    }

    fn path(&self, path: &PathRef) -> Option<Operand> {
        let (value, kind) = match Property::of(path)? {
            Property::Text(column) => (self.column(column), OperandKind::Text),
            Property::Number(column) => (self.column(column), OperandKind::Number),
            Property::Bool(column) => (self.column(column), OperandKind::Bool),
            Property::Status(column) => {
                let (name, enabled, disabled) = (self.column(column), query::status(false), query::status(true));
                (format!("CASE {name} WHEN 0 THEN '{enabled}' ELSE '{disabled}' END"), OperandKind::Text)
            }
            Property::Provisioned(column) => (format!("({} = 'provisioned')", self.column(column)), OperandKind::Bool),
            Property::Json(column, keys) => {
                let (name, place) = (self.column(column), json_path(keys)?);
                let json_type = format!("json_type({name},{place})");
                let array_length = format!("json_array_length({name},{place})");
                (extract(&name, &place), OperandKind::Json { json_type, array_length })
            }
        };
        Some(Operand { value, kind })
    }

    fn text_function(&mut self, name: &str, arguments: &[Expr]) -> Option<Operand> {
        let inner = self.operand(arguments.first()?)?;
        let value = match inner.kind {
            OperandKind::Text => format!("{name}({})", inner.value),
            OperandKind::Json { json_type, .. } => {
                format!("CASE {json_type} WHEN 'text' THEN {name}({}) END", inner.value)
            }
            OperandKind::Number | OperandKind::Bool => return None,
        };
        Some(Operand { value, kind: OperandKind::Text })
    }

    /// Returns SQL that is true exactly where the comparison of two operands is; `None` when it is not worth lowering.
    pub(super) fn compare_operands(&mut self, left: &Expr, operator: Comparison, right: &Expr) -> Option<String> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let equality_only = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        let compared = format!("{} {} {}", left.value, operator.as_str(), right.value);
        Some(match (&left.kind, &right.kind) {
            (OperandKind::Text, OperandKind::Text) | (OperandKind::Number, OperandKind::Number) => compared,
            (OperandKind::Bool, OperandKind::Bool) if equality_only => compared,
            (OperandKind::Json { json_type, .. }, OperandKind::Json { json_type: other, .. }) => {
                compare_two_json(&compared, operator, json_type, other)
            }
            (OperandKind::Json { json_type, .. }, OperandKind::Text)
            | (OperandKind::Text, OperandKind::Json { json_type, .. }) => {
                format!("({json_type} = 'text' AND {compared})")
            }
            (OperandKind::Json { json_type, .. }, OperandKind::Number)
            | (OperandKind::Number, OperandKind::Json { json_type, .. }) => {
                format!("({json_type} IN {NUMBERS} AND {compared})")
            }
            // True and false extract as 1 and 0.
            (OperandKind::Json { json_type, .. }, OperandKind::Bool)
            | (OperandKind::Bool, OperandKind::Json { json_type, .. })
                if equality_only =>
            {
                format!("({json_type} IN {BOOLS} AND {compared})")
            }
            (OperandKind::Text | OperandKind::Number | OperandKind::Bool | OperandKind::Json { .. }, _) => {
                constant(false)
            }
        })
    }
}

/// Compares operands of one type; for others the comparison is undefined. SQL alone would take true for 1, and an
/// object for its text.
fn compare_two_json(compared: &str, operator: Comparison, one: &str, two: &str) -> String {
    let number = format!("{two} IN {NUMBERS}");
    let mut types = format!("WHEN 'text' THEN {two} = 'text' WHEN 'integer' THEN {number} WHEN 'real' THEN {number}");
    if matches!(operator, Comparison::Equal | Comparison::NotEqual) {
        types.push_str(&format!(" WHEN 'true' THEN {two} IN {BOOLS} WHEN 'false' THEN {two} IN {BOOLS}"));
    }
    let of_one_type = format!("{compared} AND CASE {one} {types} END");
    match operator {
        Comparison::Equal => format!("({of_one_type} OR {one} = 'null' AND {two} = 'null')"),
        Comparison::NotEqual
        | Comparison::Less
        | Comparison::LessOrEqual
        | Comparison::Greater
        | Comparison::GreaterOrEqual => format!("({of_one_type})"),
    }
}
