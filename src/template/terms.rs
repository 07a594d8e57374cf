//! Members that are written as their identifiers: `dtmi:dtdl:property:name;2` is `name`.

use serde_json::{Map, Value};

use super::Problem;
use super::json::below;
use crate::diag::shown;

const PREFIXES: [&str; 2] = ["dtmi:dtdl:property:", "dtmi:dtdl:extension:quantitativeTypes:v1:property:"];

/// Returns the name of a member that is written as its identifier.
fn name_of(key: &str) -> Option<&str> {
    let rest = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix))?;
    Some(rest.split_once(';').map_or(rest, |(name, _)| name)).filter(|name| !name.is_empty())
}

/// Returns a model in which all members have their names, and a problem for each that is there under both; `None` for
/// one in which nothing is written as its identifier, as in nearly all. The parser of JSON bounds the recursion.
pub fn named(content: &Value) -> Option<(Value, Vec<Problem>)> {
    if !has_identifiers(content) {
        return None;
    }
    let mut problems = Vec::new();
    let renamed = renamed(content, "", &mut problems);
    Some((renamed, problems))
}

fn has_identifiers(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_identifiers),
        Value::Object(members) => members.iter().any(|(key, value)| name_of(key).is_some() || has_identifiers(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn renamed(value: &Value, pointer: &str, problems: &mut Vec<Problem>) -> Value {
    match value {
        Value::Array(items) => {
            let item = |(at, item): (usize, &Value)| renamed(item, &format!("{pointer}/{at}"), problems);
            Value::Array(items.iter().enumerate().map(item).collect())
        }
        Value::Object(members) => {
            let mut all = Map::new();
            for (key, member) in members {
                let at = below(pointer, key);
                let member = renamed(member, &at, problems);
                let name = name_of(key).unwrap_or(key);
                if all.insert(name.to_string(), member).is_some() {
                    let message = format!("`{}` is there twice: as its name and as its identifier", shown(name));
                    problems.push(Problem { pointer: at, message });
                }
            }
            Value::Object(all)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
