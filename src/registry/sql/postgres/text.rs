//! Tests of text in SQL: `startswith`, `endswith` and `contains`.

use super::{Atoms, Operand, Sense, after_prefix, constant, kept};
use crate::query::ast::Function;

impl Atoms<'_, '_> {
    /// Returns the test of an operand for a part of it; `None` when SQL cannot say it.
    pub(super) fn text_test(
        &mut self,
        function: Function,
        operand: &Operand,
        part: &str,
        sense: Sense,
    ) -> Option<String> {
        let (value, guard) = match operand {
            Operand::Text(value) => (value, None),
            Operand::Json(json) => (&json.text, Some(format!("{} = 'string'", json.json_type()))),
            Operand::Number(_) | Operand::Bool(_) => return Some(constant(false)),
        };
        if part.is_empty() {
            // Every text has it.
            return Some(match (sense, guard) {
                (Sense::IsNot, _) => constant(false),
                (Sense::Is, Some(guard)) => guard,
                (Sense::Is, None) => format!("({value}) IS NOT NULL"),
            });
        }
        let test = match function {
            Function::StartsWith => self.prefix_range(value, part, sense),
            // Its first character may be the second one of an escape.
            _ if part.starts_with(['\0', '\u{1}', '\u{2}']) => return None,
            Function::EndsWith => {
                let characters = kept::stored_text(part).chars().count();
                let sign = if sense == Sense::Is { "=" } else { "!=" };
                format!("right({value}, {characters}) {sign} {}", self.text_param(part))
            }
            _ => {
                let sign = if sense == Sense::Is { ">" } else { "=" };
                format!("strpos({value} COLLATE \"C\", {}) {sign} 0", self.text_param(part))
            }
        };
        Some(match guard {
            Some(guard) => format!("({guard} AND {test})"),
            None => test,
        })
    }

    /// Strings with a prefix are a range, which an index on the value answers.
    fn prefix_range(&mut self, value: &str, prefix: &str, sense: Sense) -> String {
        let kept = kept::stored_text(prefix).into_owned();
        let mut bound = |text| format!("{} COLLATE \"C\"", self.params.add(super::Param::Text(text)));
        let next = after_prefix(&kept);
        let (from, below) = (bound(kept), next.map(bound));
        match (sense, below) {
            (Sense::Is, Some(below)) => format!("({value} >= {from} AND {value} < {below})"),
            (Sense::Is, None) => format!("{value} >= {from}"),
            (Sense::IsNot, Some(below)) => format!("({value} < {from} OR {value} >= {below})"),
            (Sense::IsNot, None) => format!("{value} < {from}"),
        }
    }
}
