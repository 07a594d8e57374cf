//! Tests of text in SQL: `startswith`, `endswith` and `contains`.

use super::json::starts_like_json;
use super::{Atoms, Operand, OperandKind, Sense, after_prefix, constant};
use crate::query::ast::Function;

impl Atoms<'_, '_> {
    /// Returns the test of an operand for a part of it.
    pub(super) fn text_test(
        &mut self,
        function: Function,
        operand: &Operand,
        part: &str,
        sense: Sense,
    ) -> Option<String> {
        let value = &operand.value;
        let guard = match &operand.kind {
            OperandKind::Text => None,
            OperandKind::Json { json_type, .. } => Some(format!("{json_type} = 'text'")),
            OperandKind::Number | OperandKind::Bool => return Some(constant(false)),
        };
        // A range of strings that start with anything but a bracket holds no object, array or number.
        let is_lean =
            function == Function::StartsWith && sense == Sense::Is && !part.is_empty() && !starts_like_json(part);
        let guard = guard.filter(|_| !is_lean);
        let test = match (function, sense) {
            (Function::StartsWith, sense) => self.prefix_range(value, part, sense),
            (Function::EndsWith, sense) if part.is_empty() => self.prefix_range(value, part, sense),
            (Function::EndsWith, sense) => {
                let tail = format!("substr(CAST({value} AS BLOB),-{})", part.len());
                match sense {
                    Sense::Is => format!("{tail} = {}", self.blob_param(part)),
                    // The tail of an empty text is NULL.
                    Sense::IsNot => format!("({value} IS NOT NULL AND {tail} IS NOT {})", self.blob_param(part)),
                }
            }
            (_, sense) => {
                let sign = if sense == Sense::Is { ">" } else { "=" };
                format!("instr(CAST({value} AS BLOB),{}) {sign} 0", self.blob_param(part))
            }
        };
        Some(match guard {
            Some(guard) => format!("({guard} AND {test})"),
            None => test,
        })
    }

    /// Strings with a prefix are a range, which an index on the value answers.
    fn prefix_range(&mut self, value: &str, prefix: &str, sense: Sense) -> String {
        if prefix.is_empty() {
            return match sense {
                Sense::Is => format!("{value} IS NOT NULL"),
                Sense::IsNot => constant(false),
            };
        }
        let from = self.text_param(prefix);
        let below = after_prefix(prefix).map(|next| self.text_param(&next));
        match (sense, below) {
            (Sense::Is, Some(below)) => format!("({value} >= {from} AND {value} < {below})"),
            (Sense::Is, None) => format!("{value} >= {from}"),
            (Sense::IsNot, Some(below)) => format!("({value} < {from} OR {value} >= {below})"),
            (Sense::IsNot, None) => format!("{value} < {from}"),
        }
    }
}
