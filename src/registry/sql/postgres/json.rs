//! Comparisons of JSON values in SQL. `jsonb` has an order over all types: null, strings, numbers, truth values, arrays
//! and objects, but for the empty array, which is before all of them.

use serde_json::Value;

use super::{Atoms, ByType, Param, Sense, compared_texts, constant, kept, listed};
use crate::query::ast::{Comparison, Literal, Membership, Number};

/// Integers of JSON from here on do not fit into 64 bits with sign, and are floats to the reference.
const BEYOND_I64: f64 = 9_223_372_036_854_775_808.0;
/// The greatest such integer is the nearest float's less one.
const BEYOND_U64: f64 = 18_446_744_073_709_551_616.0;
/// The most bytes of the text of an indexed value. A number of ours has fewer. The `jsonb` of a value with this text has
/// at most four times as many, which is less than the 2,704 bytes of a row of an index.
pub(super) const INDEXED_BYTES_MAX: usize = 512;

/// A value of JSON.
pub(super) struct Json {
    /// The `jsonb`, NULL where it is absent.
    pub value: String,
    /// The text of a string; what it is for other types does not matter.
    pub text: String,
}

impl Json {
    /// Returns the value below some keys of a column.
    pub(super) fn at(column: &str, keys: &[String]) -> Json {
        let key = |key: &String| format!("'{}'", kept::stored_text(key).replace('\'', "''"));
        let Some((last, before)) = keys.split_last() else {
            return Json { value: column.to_string(), text: format!("({column} #>> '{{}}')") };
        };
        let before: String = before.iter().map(|one| format!(" -> {}", key(one))).collect();
        let last = key(last);
        Json { value: format!("({column}{before} -> {last})"), text: format!("({column}{before} ->> {last})") }
    }

    pub(super) fn json_type(&self) -> String {
        format!("jsonb_typeof({})", self.value)
    }

    /// Returns the condition of the rows that an index on the value has.
    pub(super) fn is_short(&self) -> String {
        format!("octet_length({}) <= {INDEXED_BYTES_MAX}", self.text)
    }

    /// Returns the test for some types, or for any (`json_types` is empty).
    pub(super) fn type_test(&self, sense: Sense, json_types: &[&str]) -> String {
        let json_type = self.json_type();
        match (json_types, sense) {
            ([], Sense::Is) => format!("{} IS NOT NULL", self.value),
            ([], Sense::IsNot) => format!("{} IS NULL", self.value),
            ([only], Sense::Is) => format!("{json_type} = '{only}'"),
            ([only], Sense::IsNot) => format!("{json_type} IS DISTINCT FROM '{only}'"),
            (several, Sense::Is) => format!("{json_type} IN ('{}')", several.join("','")),
            (several, Sense::IsNot) => format!("coalesce({json_type}, '') NOT IN ('{}')", several.join("','")),
        }
    }

    /// Returns the condition under which a value may be an integer that the reference takes for the nearest float.
    pub(super) fn is_beyond_i64(&self) -> String {
        format!("{} BETWEEN '9223372036854775808' AND '18446744073709551616'", self.value)
    }

    /// Returns a comparison that is true only for short values, so that an index can answer it.
    fn indexed(&self, compared: &str) -> String {
        format!("({compared} AND {})", self.is_short())
    }
}

impl Atoms<'_, '_> {
    /// Of type `jsonb`.
    fn json_param(&mut self, json: String) -> String {
        format!("{}::jsonb", self.params.add(Param::Text(json)))
    }

    fn json_string(&mut self, text: &str) -> String {
        self.json_param(kept::stored(&Value::from(text)))
    }

    /// Notes a doubt when the number is one that an integer beyond 64 bits may be nearest to.
    fn json_number(&mut self, json: &Json, number: Number) -> String {
        match number {
            Number::Integer(integer) => self.json_param(integer.to_string()),
            Number::Real(real) => {
                if (BEYOND_I64..=BEYOND_U64).contains(&real) {
                    self.doubts.push(json.is_beyond_i64());
                }
                self.json_param(kept::stored_real(real))
            }
        }
    }

    /// Returns SQL that is true exactly where the comparison is true.
    pub(super) fn compare_json(&mut self, json: &Json, operator: Comparison, literal: &Literal) -> String {
        let (value, json_type, sign) = (&json.value, json.json_type(), operator.as_str());
        match literal {
            Literal::String(text) => match operator {
                Comparison::Equal => {
                    let compared = format!("{value} = {}", self.json_string(text));
                    if is_short(text) { json.indexed(&compared) } else { compared }
                }
                Comparison::NotEqual => format!("({value} != {} AND {json_type} = 'string')", self.json_string(text)),
                Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
                    let compared = compared_texts(&json.text, operator, &self.text_param(text));
                    format!("({json_type} = 'string' AND {compared})")
                }
            },
            Literal::Number(number) => {
                let compared = format!("{value} {sign} {}", self.json_number(json, *number));
                match operator {
                    Comparison::Equal => json.indexed(&compared),
                    Comparison::NotEqual => format!("({compared} AND {json_type} = 'number')"),
                    Comparison::Less | Comparison::LessOrEqual => {
                        json.indexed(&format!("{compared} AND {json_type} = 'number'"))
                    }
                    // Every truth value sorts after every number, so this is a bound that an index can use too.
                    Comparison::Greater | Comparison::GreaterOrEqual => {
                        json.indexed(&format!("{compared} AND {value} < 'false'::jsonb"))
                    }
                }
            }
            Literal::Bool(expected) => match operator {
                Comparison::Equal => json.indexed(&format!("{value} = '{expected}'::jsonb")),
                Comparison::NotEqual => json.indexed(&format!("{value} = '{}'::jsonb", !expected)),
                Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
                    constant(false)
                }
            },
            Literal::Null if operator == Comparison::Equal => format!("{value} = 'null'::jsonb"),
            Literal::Null | Literal::Undefined => constant(false),
        }
    }

    /// An item is in, or not in, the elements of its own type; a type without elements is undefined and has no part.
    pub(super) fn json_member(&mut self, json: &Json, membership: Membership, by_type: &ByType<'_>) -> String {
        let ByType { strings, numbers, bools, has_null } = by_type;
        let mut elements: Vec<String> = strings.iter().map(|text| self.json_string(text)).collect();
        elements.extend(numbers.iter().map(|number| self.json_number(json, *number)));
        elements.extend(bools.iter().map(|value| format!("'{value}'::jsonb")));
        match membership {
            Membership::In => {
                // The text of null is NULL.
                let null = has_null.then(|| format!("{} = 'null'::jsonb", json.value));
                let list = (!elements.is_empty()).then(|| {
                    let list = listed(&json.value, membership, &elements);
                    if strings.iter().all(|text| is_short(text)) { json.indexed(&list) } else { list }
                });
                match (list, null) {
                    (Some(list), Some(null)) => format!("({list} OR {null})"),
                    (Some(one), None) | (None, Some(one)) => one,
                    (None, None) => constant(false),
                }
            }
            Membership::NotIn if elements.is_empty() => constant(false),
            Membership::NotIn => {
                let of =
                    [("string", strings.is_empty()), ("number", numbers.is_empty()), ("boolean", bools.is_empty())];
                let types: Vec<&str> = of.iter().filter(|(_, is_empty)| !is_empty).map(|(name, _)| *name).collect();
                let list = listed(&json.value, membership, &elements);
                format!("({list} AND {})", json.type_test(Sense::Is, &types))
            }
        }
    }
}

fn is_short(text: &str) -> bool {
    kept::stored_text(text).len() <= INDEXED_BYTES_MAX
}

/// Compares operands of one type; for others the comparison is undefined.
pub(super) fn same_type_compared(left: &Json, operator: Comparison, right: &Json) -> String {
    let compared = format!("{} {} {}", left.value, operator.as_str(), right.value);
    let (one, two) = (left.json_type(), right.json_type());
    match operator {
        Comparison::Equal => format!("({compared} AND {one} IN ('string','number','boolean','null'))"),
        Comparison::NotEqual => format!("({compared} AND {one} = {two} AND {one} IN ('string','number','boolean'))"),
        Comparison::Less | Comparison::LessOrEqual | Comparison::Greater | Comparison::GreaterOrEqual => {
            let texts = compared_texts(&left.text, operator, &right.text);
            format!("({one} = {two} AND CASE {one} WHEN 'number' THEN {compared} WHEN 'string' THEN {texts} END)")
        }
    }
}
