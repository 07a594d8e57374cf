//! Finds rows that change tags that a policy asks about.

use serde_json::{Map, Value};

use crate::model::policy::PathPattern;
use crate::registry::ChangedTag;

/// Notes the watched tags that a patch changes. `before` are the tags of the device; null for a new one.
pub fn note(
    found: &mut Vec<ChangedTag>,
    watched: &[PathPattern],
    (before, patch): (&Value, &Map<String, Value>),
    line: u64,
) {
    let mut paths = Vec::new();
    changed_paths(before, patch, &mut Vec::new(), &mut paths);
    for (at, pattern) in watched.iter().enumerate() {
        let Some(path) = paths.iter().find(|path| pattern.touches(path)) else { continue };
        match found.iter_mut().find(|one| one.pattern == *pattern) {
            Some(known) => known.rows += 1,
            None => {
                let place = found.iter().take_while(|one| watched[..at].contains(&one.pattern)).count();
                found.insert(place, ChangedTag { pattern: pattern.clone(), rows: 1, path: path.clone(), line });
            }
        }
    }
}

/// Adds the paths at which a merge patch writes another value than there was.
fn changed_paths(before: &Value, patch: &Map<String, Value>, parent: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    for (key, value) in patch {
        let old = before.get(key);
        parent.push(key.clone());
        match (old, value) {
            // The depth of a row is bounded where it is read.
            (_, Value::Object(members)) if !members.is_empty() => {
                changed_paths(old.unwrap_or(&Value::Null), members, parent, paths);
            }
            (None, Value::Null) => {}
            (Some(old), value) if old == value => {}
            (Some(Value::Object(_)), Value::Object(_)) => {}
            (_, _) => paths.push(parent.clone()),
        }
        parent.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_tag_is_changed_by_another_value_only() {
        let check = |pattern: &str, before: &str, patch: &str, expect: Option<&str>| {
            let pattern = PathPattern::parse(pattern).unwrap();
            let patch: Map<String, Value> = serde_json::from_str(patch).unwrap();
            let mut found = Vec::new();
            let before = serde_json::from_str(before).unwrap();
            note(&mut found, std::slice::from_ref(&pattern), (&before, &patch), 2);
            let path = found.first().map(|one| one.path.join("."));
            assert_eq!(path.as_deref(), expect, "{pattern} {before} {patch:?}");
        };
        check("owner", "{}", r#"{"owner": "a"}"#, Some("owner"));
        check("owner", r#"{"owner": "a"}"#, r#"{"owner": "a", "ring": "b"}"#, None);
        check("owner", r#"{"owner": "a"}"#, r#"{"owner": null}"#, Some("owner"));
        check("owner", "{}", r#"{"owner": null}"#, None);
        check("owner.name", r#"{"owner": {"name": "a"}}"#, r#"{"owner": null}"#, Some("owner"));
        check("owner.name", r#"{"owner": {"name": "a"}}"#, r#"{"owner": {"city": "b"}}"#, None);
        check("owner.**", r#"{"owner": {"name": "a"}}"#, r#"{"owner": {"name": "b"}}"#, Some("owner.name"));
        check("owner", r#"{"owner": "a"}"#, r#"{"owner": {}}"#, Some("owner"));
    }

    #[test]
    fn rows_are_counted_by_pattern_in_their_order() {
        let watched = ["a", "b"].map(|text| PathPattern::parse(text).unwrap());
        let mut found = Vec::new();
        for (line, patch) in [(2, r#"{"b": 1}"#), (3, r#"{"a": 1, "b": 2}"#)] {
            note(&mut found, &watched, (&Value::Null, &serde_json::from_str(patch).unwrap()), line);
        }
        let seen: Vec<(String, u64, u64)> =
            found.iter().map(|one| (one.pattern.to_string(), one.rows, one.line)).collect();
        assert_eq!(seen, [("a".to_string(), 1, 3), ("b".to_string(), 2, 2)]);
    }
}
