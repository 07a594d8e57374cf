//! Values and their schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Violation;
use super::json::below;
use super::schema::{Form, Schema};
use super::text::{is_date, is_date_time, is_duration, is_time};
use crate::diag::nearest;
use crate::model::text::{sanitize_line, shorten};

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 40;

/// The extent of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A merge patch: null removes, and what it does not name stays.
    Patch,
    /// All of it.
    Whole,
}

/// Keys on the way to a value: as a pointer, and as people write it.
#[derive(Debug, Clone)]
pub struct Trail {
    pub pointer: String,
    pub dotted: String,
}

impl Trail {
    /// Returns the trail of the action itself.
    pub fn start() -> Trail {
        Trail { pointer: String::new(), dotted: String::new() }
    }

    /// Returns the trail of a member.
    pub fn with(&self, key: &str) -> Trail {
        let key_shown = shorten(&sanitize_line(key), VALUE_CHARS_MAX).into_owned();
        let dotted = if self.dotted.is_empty() { key_shown } else { format!("{}.{key_shown}", self.dotted) };
        Trail { pointer: below(&self.pointer, key), dotted }
    }

    /// Returns a violation of the value that it leads to; `what` follows the path.
    pub fn value(&self, what: &str) -> Violation {
        Violation { pointer: self.pointer.clone(), is_key: false, message: format!("`{}` {what}", self.dotted) }
    }

    /// Returns a violation of its last key.
    pub fn key(&self, what: &str) -> Violation {
        Violation { is_key: true, ..self.value(what) }
    }
}

/// Finds all parts of a value that do not fit a schema.
pub fn check(schema: &Schema, value: &Value, extent: Extent, trail: &Trail, found: &mut Vec<Violation>) {
    if value.is_null() && extent == Extent::Patch {
        return;
    }
    match (&*schema.form, value) {
        (Form::Array(element), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                check(element, item, Extent::Whole, &trail.with(&at.to_string()), found);
            }
        }
        (Form::Object(fields), Value::Object(members)) if !is_secret(members) => {
            check_fields(fields, members, extent, trail, found);
        }
        (Form::Map(values), Value::Object(members)) if !is_secret(members) => {
            for (key, member) in members {
                check(values, member, extent, &trail.with(key), found);
            }
        }
        (form, value) => {
            let broken = match fits(form, value, extent) {
                true => schema.bounds.as_ref().and_then(|bounds| bounds.broken_by(value)),
                false => Some(expected(form)),
            };
            if let Some(expected) = broken {
                let got = shorten(&sanitize_line(&value.to_string()), VALUE_CHARS_MAX).into_owned();
                found.push(trail.value(&format!("expects {expected}, got {got}")));
            }
        }
    }
}

fn check_fields(
    fields: &BTreeMap<String, Schema>,
    members: &Map<String, Value>,
    extent: Extent,
    trail: &Trail,
    found: &mut Vec<Violation>,
) {
    for (key, member) in members {
        let trail = trail.with(key);
        match fields.get(key) {
            Some(schema) => check(schema, member, extent, &trail, found),
            // A member that the schema lacks can still be removed from a device.
            None if member.is_null() && extent == Extent::Patch => {}
            None => {
                let near = nearest(key, fields.keys().map(String::as_str));
                found.push(trail.key(&format!("is not a field of its schema{}", did_you_mean(near))));
            }
        }
    }
}

/// Returns the end of a sentence about a word that is not known.
pub fn did_you_mean(near: Option<&str>) -> String {
    near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"))
}

/// Returns true for `{"$secret": …}`, which stands for a string.
fn is_secret(members: &Map<String, Value>) -> bool {
    members.len() == 1 && members.contains_key("$secret")
}

/// Returns true when a value that has no parts of its own to look at fits.
fn fits(form: &Form, value: &Value, extent: Extent) -> bool {
    let text = value.as_str();
    match form {
        Form::Boolean => value.is_boolean(),
        Form::Number { most, .. } => value.as_f64().is_some_and(|number| number.abs() <= *most),
        Form::Integer { bits: 32, .. } => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Form::Integer { .. } => value.is_i64(),
        Form::Text => text.is_some() || value.as_object().is_some_and(is_secret),
        Form::Date => text.is_some_and(is_date),
        Form::Time => text.is_some_and(is_time),
        Form::DateTime => text.is_some_and(is_date_time),
        Form::Duration => text.is_some_and(is_duration),
        Form::Enum(values) => values.contains(value),
        Form::Geometry(kind) => value.as_object().is_some_and(|members| is_geometry(members, kind, extent)),
        Form::Array(_) | Form::Map(_) | Form::Object(_) => false,
    }
}

/// Returns what a schema expects, as it follows "expects".
fn expected(form: &Form) -> String {
    match form {
        Form::Boolean => "boolean".to_string(),
        Form::Date => "date (such as 2026-11-20)".to_string(),
        Form::DateTime => "dateTime (such as 2026-11-20T10:00:00Z)".to_string(),
        Form::Number { word, .. } => (*word).to_string(),
        Form::Duration => "duration (such as PT1H30M)".to_string(),
        Form::Integer { word, .. } => (*word).to_string(),
        Form::Text => "string".to_string(),
        Form::Time => "time (such as 10:00:00Z)".to_string(),
        Form::Geometry(kind) => format!("a GeoJSON {kind}"),
        Form::Array(_) => "array".to_string(),
        Form::Map(_) => "map".to_string(),
        Form::Object(_) => "object".to_string(),
        Form::Enum(values) if values.is_empty() => "a value of an enum that has none".to_string(),
        Form::Enum(values) => {
            const SHOWN: usize = 6;
            let shown: Vec<String> = values.iter().take(SHOWN).map(Value::to_string).collect();
            let more =
                if values.len() > SHOWN { format!(", … {} more", values.len() - SHOWN) } else { String::new() };
            format!("one of {}{more}", shorten(&sanitize_line(&shown.join(", ")), 2 * VALUE_CHARS_MAX))
        }
    }
}

/// RFC 7946: a `type` and `coordinates`.
fn is_geometry(members: &Map<String, Value>, kind: &str, extent: Extent) -> bool {
    let may_lack = extent == Extent::Patch;
    members.get("type").map_or(may_lack, |word| word == kind || (may_lack && word.is_null()))
        && members.get("coordinates").map_or(may_lack, |list| list.is_array() || (may_lack && list.is_null()))
}
