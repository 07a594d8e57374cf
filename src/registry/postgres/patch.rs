//! A merge patch (RFC 7396) as SQL over a column of jsonb.

use serde_json::{Map, Value};

use super::json::{stored, stored_text};

/// Returns SQL for a column, which holds an object, after a patch, which is one.
pub(super) fn merged(column: &str, patch: &Value) -> String {
    match patch {
        Value::Object(members) => merged_object(column, column, members),
        other => literal(other),
    }
}

/// Returns SQL for an object after a patch; `place` is where it lies in the column.
fn merged_object(object: &str, place: &str, patch: &Map<String, Value>) -> String {
    let mut sql = object.to_string();
    let removed: Vec<String> = patch.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| text(key)).collect();
    if !removed.is_empty() {
        sql = format!("({sql} - ARRAY[{}])", removed.join(", "));
    }
    let is_plain = |value: &Value| !value.is_null() && !value.is_object();
    let plain: Map<String, Value> =
        patch.iter().filter(|(_, value)| is_plain(value)).map(|(key, value)| (key.clone(), value.clone())).collect();
    if !plain.is_empty() {
        sql = format!("({sql} || {})", literal(&Value::Object(plain)));
    }
    for (key, value) in patch {
        if let Value::Object(members) = value {
            let place = format!("({place} -> {})", text(key));
            let inner = format!("(CASE WHEN jsonb_typeof({place}) = 'object' THEN {place} ELSE '{{}}'::jsonb END)");
            sql = format!("({sql} || jsonb_build_object({}, {}))", text(key), merged_object(&inner, &place, members));
        }
    }
    sql
}

/// Returns a literal of jsonb.
fn literal(value: &Value) -> String {
    format!("'{}'::jsonb", stored(value).replace('\'', "''"))
}

/// Returns a literal of text, for a key.
fn text(key: &str) -> String {
    format!("'{}'::text", stored_text(key).replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_removes_sets_and_goes_deeper() {
        assert_eq!(merged("d.tags", &json!({})), "d.tags");
        assert_eq!(merged("d.tags", &json!({"a": null})), "(d.tags - ARRAY['a'::text])");
        assert_eq!(merged("d.tags", &json!({"it's": [1]})), "(d.tags || '{\"it''s\":[1]}'::jsonb)");
        assert_eq!(
            merged("d.tags", &json!({"a": {"b": 1}})),
            "(d.tags || jsonb_build_object('a'::text, ((CASE WHEN jsonb_typeof((d.tags -> 'a'::text)) = 'object' THEN \
             (d.tags -> 'a'::text) ELSE '{}'::jsonb END) || '{\"b\":1}'::jsonb)))"
        );
    }
}
