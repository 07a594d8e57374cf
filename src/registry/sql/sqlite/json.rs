//! Comparisons of JSON values in SQL, where true is 1, null is NULL and an object is text unless `json_type` says
//! otherwise.

use std::collections::BTreeSet;

use super::{Atoms, ByType, Sense, constant};
use crate::query::ast::{Comparison, Literal, Membership, Number};

impl Atoms<'_, '_> {
    /// Returns SQL that is true exactly where the comparison is true.
    pub(super) fn compare_json(
        &mut self,
        value: &str,
        json_type: &str,
        operator: Comparison,
        literal: &Literal,
    ) -> String {
        let sign = operator.as_str();
        match literal {
            Literal::String(text) => {
                let compared = format!("{value} {sign} {}", self.text_param(text));
                // Only the text of an object or array can be mistaken for a string, and only for one that starts like
                // it.
                if operator == Comparison::Equal && !starts_like_json(text) {
                    return compared;
                }
                format!("({compared} AND {json_type} = 'text')")
            }
            Literal::Number(number) => {
                let param = self.number_param(*number);
                let compared = format!("{value} {sign} {param}");
                match number_guard(operator, *number) {
                    NumberGuard::None => compared,
                    // Every number sorts before every text, so this is an upper bound that an index can use too.
                    NumberGuard::Text => format!("({compared} AND {value} < '')"),
                    NumberGuard::Type => format!("({compared} AND {json_type} IN ('integer','real'))"),
                }
            }
            Literal::Bool(expected) => match operator {
                Comparison::Equal => format!("{json_type} = '{expected}'"),
                Comparison::NotEqual => format!("{json_type} = '{}'", !expected),
                Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
                    constant(false)
                }
            },
            Literal::Null if operator == Comparison::Equal => format!("{json_type} = 'null'"),
            Literal::Null | Literal::Undefined => constant(false),
        }
    }

    /// An item is in, or not in, the elements of its own type; a type without elements is undefined and has no part.
    pub(super) fn json_lists(
        &mut self,
        value: &str,
        json_type: &str,
        membership: Membership,
        by_type: &ByType,
        parts: &mut Vec<String>,
    ) {
        let is_in = membership == Membership::In;
        if !by_type.strings.is_empty() {
            let list = self.text_list(value, membership, &by_type.strings);
            let is_lean = is_in && !by_type.strings.iter().any(|text| starts_like_json(text));
            parts.push(if is_lean { list } else { format!("({list} AND {json_type} = 'text')") });
        }
        if !by_type.numbers.is_empty() {
            let list = self.number_list(value, membership, &by_type.numbers);
            let is_lean =
                is_in && by_type.numbers.iter().all(|n| number_guard(Comparison::Equal, *n) == NumberGuard::None);
            parts.push(if is_lean { list } else { format!("({list} AND {json_type} IN ('integer','real'))") });
        }
        let bools: BTreeSet<bool> = by_type.bools.iter().copied().collect();
        for candidate in [true, false] {
            if !bools.is_empty() && bools.contains(&candidate) == is_in {
                parts.push(format!("{json_type} = '{candidate}'"));
            }
        }
        if by_type.has_null && is_in {
            parts.push(format!("{json_type} = 'null'"));
        }
    }
}

/// Returns true for texts that the JSON of an object or an array can equal or follow.
pub(super) fn starts_like_json(text: &str) -> bool {
    text.starts_with(['{', '['])
}

/// What must be excluded when `json_extract` is compared with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberGuard {
    None,
    /// Texts, which sort after all numbers.
    Text,
    /// Texts, and true and false, which extract as 1 and 0.
    Type,
}

fn number_guard(operator: Comparison, number: Number) -> NumberGuard {
    let takes_bool = [0, 1].iter().any(|bit| operator.holds(Number::Integer(*bit).compare(number)));
    if takes_bool {
        return NumberGuard::Type;
    }
    match operator {
        Comparison::Equal | Comparison::Less | Comparison::LessOrEqual => NumberGuard::None,
        Comparison::NotEqual | Comparison::Greater | Comparison::GreaterOrEqual => NumberGuard::Text,
    }
}

/// Returns the test of `json_type` for some types, or for any (`json_types` is empty).
pub(super) fn json_type_test(json_type: &str, sense: Sense, json_types: &[&str]) -> String {
    match (json_types, sense) {
        ([], Sense::Is) => format!("{json_type} IS NOT NULL"),
        ([], Sense::IsNot) => format!("{json_type} IS NULL"),
        ([only], Sense::Is) => format!("{json_type} = '{only}'"),
        ([only], Sense::IsNot) => format!("{json_type} IS NOT '{only}'"),
        (several, Sense::Is) => format!("{json_type} IN ('{}')", several.join("','")),
        (several, Sense::IsNot) => format!("coalesce({json_type},'') NOT IN ('{}')", several.join("','")),
    }
}

/// Returns the path as an SQL literal; `None` for keys that SQLite's paths cannot say.
pub(super) fn json_path(keys: &[String]) -> Option<String> {
    let mut path = String::from("'$");
    for key in keys {
        let is_plain = !key.is_empty() && !key.chars().any(|c| c == '"' || c == '\\' || c.is_control());
        if !is_plain {
            return None;
        }
        path.push_str(".\"");
        path.push_str(&key.replace('\'', "''"));
        path.push('"');
    }
    path.push('\'');
    Some(path)
}
