//! A merge patch (RFC 7396) as SQL over a column of jsonb.

use serde_json::{Map, Value};

use super::json::{stored, stored_text};

/// Returns SQL for a column, which holds an object, after a patch, which is one.
pub(super) fn merged(column: &str, patch: &Value) -> String {
    let all = match patch {
        Value::Object(members) => merged_object(column, column, members),
        other => literal(other),
    };
    let Some((path, value)) = only_leaf(patch) else { return all };
    // One value inside of objects that are there, which is what most jobs set: half as much work for the server.
    let (keys, parents) = (path.iter().map(|key| text(key)), &path[..path.len() - 1]);
    let keys: Vec<String> = keys.collect();
    let is_object = |depth: usize| {
        let place: String = parents[..=depth].iter().map(|key| format!(" -> {}", text(key))).collect();
        format!("jsonb_typeof({column}{place}) = 'object'")
    };
    let are_objects: Vec<String> = (0..parents.len()).map(is_object).collect();
    format!(
        "CASE WHEN {} THEN jsonb_set({column}, ARRAY[{}], {}) ELSE {all} END",
        are_objects.join(" AND "),
        keys.join(", "),
        literal(value)
    )
}

/// Returns the path and the value of the one leaf that a patch sets below its first level; `None` for any other patch.
fn only_leaf(patch: &Value) -> Option<(Vec<&str>, &Value)> {
    let (mut path, mut value) = (Vec::new(), patch);
    while let Value::Object(members) = value {
        let mut members = members.iter();
        let (Some((key, inner)), None) = (members.next(), members.next()) else { return None };
        path.push(key.as_str());
        value = inner;
    }
    (path.len() > 1 && !value.is_null()).then_some((path, value))
}

/// Returns SQL that is true only where a patch changes a column. It may be false all the same where the patch changes
/// part of an array, or only how a number is written.
pub(super) fn changed(column: &str, patch: &Value) -> String {
    // A section that the patch leaves as it is has all that it sets. Looking for that takes a third of the time that
    // making the section anew does.
    if has_null(patch) {
        format!("{} <> {column}", merged(column, patch))
    } else {
        format!("NOT {column} @> {}", literal(patch))
    }
}

fn has_null(patch: &Value) -> bool {
    match patch {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => false,
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
    fn what_a_patch_changes_lacks_what_it_sets() {
        assert_eq!(changed("d.tags", &json!({"a": {"b": 1}})), "NOT d.tags @> '{\"a\":{\"b\":1}}'::jsonb");
        assert_eq!(changed("d.tags", &json!({"a": null})), "(d.tags - ARRAY['a'::text]) <> d.tags");
    }

    #[test]
    fn a_patch_removes_sets_and_goes_deeper() {
        assert_eq!(merged("d.tags", &json!({})), "d.tags");
        assert_eq!(merged("d.tags", &json!({"a": null})), "(d.tags - ARRAY['a'::text])");
        assert_eq!(merged("d.tags", &json!({"it's": [1]})), "(d.tags || '{\"it''s\":[1]}'::jsonb)");
        assert_eq!(
            merged("d.tags", &json!({"a": {"b": 1, "c": 2}})),
            "(d.tags || jsonb_build_object('a'::text, ((CASE WHEN jsonb_typeof((d.tags -> 'a'::text)) = 'object' THEN \
             (d.tags -> 'a'::text) ELSE '{}'::jsonb END) || '{\"b\":1,\"c\":2}'::jsonb)))"
        );
        assert_eq!(
            merged("d.tags", &json!({"a": {"b": 1}})),
            "CASE WHEN jsonb_typeof(d.tags -> 'a'::text) = 'object' THEN jsonb_set(d.tags, ARRAY['a'::text, 'b'::text], \
             '1'::jsonb) ELSE (d.tags || jsonb_build_object('a'::text, ((CASE WHEN jsonb_typeof((d.tags -> 'a'::text)) \
             = 'object' THEN (d.tags -> 'a'::text) ELSE '{}'::jsonb END) || '{\"b\":1}'::jsonb))) END"
        );
    }
}
