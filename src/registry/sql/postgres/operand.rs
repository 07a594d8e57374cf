//! Operands that SQL can compare: properties, texts in another case and lengths; and their comparison.

use super::json::{Json, same_type_compared};
use super::{Atoms, Property, compared_texts, constant};
use crate::query;
use crate::query::ast::{Comparison, Expr, ExprKind, Function, PathRef};

/// SQL of something that can be compared; NULL where it is undefined.
pub(super) enum Operand {
    Text(String),
    /// Of an integer type.
    Number(String),
    Bool(String),
    /// Of any type.
    Json(Json),
}

impl Atoms<'_, '_> {
    /// Returns the operand that an expression is; `None` when it is not worth lowering.
    pub(super) fn operand(&mut self, expr: &Expr) -> Option<Operand> {
        match &expr.kind {
            ExprKind::Path(path) => self.path(path),
            ExprKind::Call(Function::Lower, arguments) => self.in_case("lower", arguments.first()?),
            ExprKind::Call(Function::Upper, arguments) => self.in_case("upper", arguments.first()?),
            ExprKind::Call(Function::Length, arguments) => self.length(arguments.first()?).map(Operand::Number),
            ExprKind::All
            | ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Not(_)
            | ExprKind::Negate(_)
            | ExprKind::Arithmetic(_, _, _)
            | ExprKind::Compare(_, _, _)
            | ExprKind::Member(_, _, _)
            | ExprKind::Call(_, _) => None,
        }
    }

    fn path(&self, path: &PathRef) -> Option<Operand> {
        Some(match Property::of(path)? {
            Property::Text(column) => Operand::Text(self.column(column)),
            Property::Number(column) => Operand::Number(self.column(column)),
            Property::Bool(column) => Operand::Bool(self.column(column)),
            Property::Status(column) => {
                let (name, enabled, disabled) = (self.column(column), query::status(false), query::status(true));
                Operand::Text(format!("CASE WHEN {name} THEN '{disabled}' ELSE '{enabled}' END"))
            }
            Property::Provisioned(column) => Operand::Bool(format!("({} = 'provisioned')", self.column(column))),
            Property::Json(column, keys) => Operand::Json(Json::at(&self.column(column), keys)),
        })
    }

    /// In a locale that knows ASCII alone; other texts are doubtful. An escape has no letters.
    fn in_case(&mut self, function: &str, of: &Expr) -> Option<Operand> {
        let (text, value) = match self.operand(of)? {
            Operand::Text(text) => (text.clone(), format!("{function}({text} COLLATE \"C\")")),
            Operand::Json(json) => {
                let value = format!("{function}({} COLLATE \"C\")", json.text);
                (json.text.clone(), format!("CASE {} WHEN 'string' THEN {value} END", json.json_type()))
            }
            Operand::Number(_) | Operand::Bool(_) => return None,
        };
        self.doubts.push(format!("octet_length({text}) <> length({text})"));
        Some(Operand::Text(value))
    }

    fn length(&mut self, of: &Expr) -> Option<String> {
        if let ExprKind::Array(elements) = &of.kind {
            return Some(elements.len().to_string());
        }
        // An escape is two characters, and stands for one.
        let characters =
            |text: &str| format!("length(replace(replace({text}, E'\\001\\001', ' '), E'\\001\\002', ' '))");
        Some(match self.operand(of)? {
            Operand::Text(text) => characters(&text),
            Operand::Json(json) => format!(
                "CASE {} WHEN 'string' THEN {} WHEN 'array' THEN jsonb_array_length({}) END",
                json.json_type(),
                characters(&json.text),
                json.value
            ),
            Operand::Number(_) | Operand::Bool(_) => "NULL::integer".to_string(),
        })
    }

    /// Returns SQL that is true exactly where the comparison of two operands is; `None` when it is not worth lowering.
    pub(super) fn compare_operands(&mut self, left: &Expr, operator: Comparison, right: &Expr) -> Option<String> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let is_equality = matches!(operator, Comparison::Equal | Comparison::NotEqual);
        let sign = operator.as_str();
        Some(match (&left, &right) {
            (Operand::Text(left), Operand::Text(right)) => compared_texts(left, operator, right),
            (Operand::Number(left), Operand::Number(right)) => format!("{left} {sign} {right}"),
            (Operand::Bool(left), Operand::Bool(right)) if is_equality => format!("{left} {sign} {right}"),
            (Operand::Json(left), Operand::Json(right)) => {
                self.doubts.push(format!("({} AND {})", left.is_beyond_i64(), right.is_beyond_i64()));
                same_type_compared(left, operator, right)
            }
            (Operand::Json(json), Operand::Text(text)) => {
                format!("({} = 'string' AND {})", json.json_type(), compared_texts(&json.text, operator, text))
            }
            (Operand::Text(text), Operand::Json(json)) => {
                format!("({} = 'string' AND {})", json.json_type(), compared_texts(text, operator, &json.text))
            }
            (Operand::Json(json), Operand::Number(number)) => {
                format!("({} = 'number' AND {} {sign} to_jsonb({number}))", json.json_type(), json.value)
            }
            (Operand::Number(number), Operand::Json(json)) => {
                format!("({} = 'number' AND to_jsonb({number}) {sign} {})", json.json_type(), json.value)
            }
            (Operand::Json(json), Operand::Bool(value)) | (Operand::Bool(value), Operand::Json(json))
                if is_equality =>
            {
                format!("({} = 'boolean' AND {} {sign} to_jsonb({value}))", json.json_type(), json.value)
            }
            (Operand::Text(_) | Operand::Number(_) | Operand::Bool(_) | Operand::Json(_), _) => constant(false),
        })
    }
}
