//! JSON merge patches (RFC 7396) on the sections of a twin, and the twin rules that they must keep.
//!
//! The rules are those of IoT Hub device twins (the "Understand and use device twins" page): key characters and length,
//! string length, integer range, nesting and counted size.

use serde_json::{Map, Value};

use super::{limits, secret};

/// A part of a twin that a job can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    Tags,
    Cloud,
    Desired,
    Reported,
}

impl Section {
    /// Returns the largest counted size of the section, in the units of [`counted_size`].
    pub fn size_max(self) -> usize {
        match self {
            Section::Tags => limits::TAGS_SIZE_MAX,
            Section::Cloud | Section::Desired | Section::Reported => limits::PROPERTIES_SIZE_MAX,
        }
    }

    /// Returns the root of the section in the query language and in plans; desired properties have the empty prefix in
    /// plans.
    pub fn root(self) -> &'static str {
        match self {
            Section::Tags => "tags",
            Section::Cloud => "cloud",
            Section::Desired => "properties.desired",
            Section::Reported => "properties.reported",
        }
    }
}

/// A merge patch: a non-empty JSON object; `null` removes a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch(Map<String, Value>);

/// One assignment of a patch: the keys from the section's root to a leaf, never empty, and the new value.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    pub path: Vec<String>,
    /// `Null` removes; an empty object asks for an object to be there; anything else replaces, also a reference to a
    /// secret.
    pub value: Value,
}

impl Assignment {
    /// Returns the path with dots; keys cannot contain one, so it is unambiguous.
    pub fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// Returns true when a device whose value at the path is `before` (`None`: absent) is already as desired.
    pub fn is_satisfied_by(&self, before: Option<&Value>) -> bool {
        match &self.value {
            Value::Null => before.is_none(),
            Value::Object(members) if !secret::is_reference(members) => before.is_some_and(Value::is_object),
            value => before == Some(value),
        }
    }
}

/// The member that marks a component in a twin, and its value ("IoT Plug and Play conventions", components).
pub const COMPONENT_MARK: (&str, &str) = ("__t", "c");

impl Patch {
    /// Returns the patch, or `None` when the object is empty.
    pub fn new(members: Map<String, Value>) -> Option<Patch> {
        if members.is_empty() { None } else { Some(Patch(members)) }
    }

    /// Returns the members.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns the patch as a JSON value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Returns every assignment, sorted by path, without duplicates.
    pub fn assignments(&self) -> Vec<Assignment> {
        let mut found = Vec::new();
        collect_assignments(&self.0, &mut Vec::new(), &mut found);
        found.sort_by(|left, right| left.path.cmp(&right.path));
        found
    }

    /// Applies the patch to a section as RFC 7396 says.
    pub fn apply(&self, section: &mut Value) {
        merge(section, &Value::Object(self.0.clone()));
    }
}

fn collect_assignments(members: &Map<String, Value>, path: &mut Vec<String>, found: &mut Vec<Assignment>) {
    for (key, value) in members {
        path.push(key.clone());
        match value {
            Value::Object(inner) if !inner.is_empty() && !secret::is_reference(inner) => {
                collect_assignments(inner, path, found)
            }
            value => found.push(Assignment { path: path.clone(), value: value.clone() }),
        }
        path.pop();
    }
}

/// Applies a merge patch (RFC 7396, section 2). Recursion is bounded by the depth that [`violations`] has checked.
pub fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(members) => merge_members(target, members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => *target = patch.clone(),
    }
}

/// Applies a merge patch given by its members.
pub fn merge_members(target: &mut Value, members: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let object = target.as_object_mut().expect("the target was just made an object");
    for (key, value) in members {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Returns the merge patch that makes an object another one, without members that are equal in both; a member that is
/// gone is `null`. It is empty when they are equal.
pub fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> Map<String, Value> {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = after.iter().filter_map(|(key, now)| {
        let patch = match (before.get(key), now) {
            (Some(then), now) if then == now => return None,
            (Some(Value::Object(then)), Value::Object(now)) => Value::Object(difference(then, now)),
            _ => now.clone(),
        };
        Some((key.clone(), patch))
    });
    gone.chain(changed).collect()
}

/// A broken twin rule; `path` leads to the key or value that breaks it and is empty for the section as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    pub path: Vec<String>,
    pub rule: TwinRule,
}

/// The twin rules that a patch or a section can break; `Display` is a sentence without the path.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TwinRule {
    #[error("a twin key may not contain {0:?}: control characters, `.`, `$`, `#` and spaces are not allowed")]
    KeyCharacter(char),
    #[error("a twin key may not be empty")]
    KeyEmpty,
    #[error("a twin key has at most {max} bytes", max = limits::TWIN_KEY_BYTES_MAX)]
    KeyLong,
    #[error("a string in a twin has at most {max} bytes", max = limits::TWIN_STRING_BYTES_MAX)]
    StringLong,
    #[error(
        "an integer in a twin lies between -{least} and {most}",
        least = limits::TWIN_INTEGER_MAX + 1,
        most = limits::TWIN_INTEGER_MAX
    )]
    Integer,
    #[error("a twin section is at most {max} levels deep", max = limits::PATCH_DEPTH_MAX)]
    Deep,
    #[error("the section would count {size} bytes, and at most {max} are allowed")]
    Size { size: usize, max: usize },
}

/// Returns every rule that the members of a patch or section break on their own. A patch with references to secrets is
/// judged as [`secret::shown`] shows it.
pub fn violations(members: &Map<String, Value>, section: Section) -> Vec<Violation> {
    let mut found = Vec::new();
    check_members(members, &mut Vec::new(), &mut found);
    let size = counted_members(members);
    if size > section.size_max() {
        found.push(Violation { path: Vec::new(), rule: TwinRule::Size { size, max: section.size_max() } });
    }
    found
}

fn check_members<'a>(members: &'a Map<String, Value>, path: &mut Vec<&'a str>, found: &mut Vec<Violation>) {
    for (key, value) in members {
        path.push(key);
        if path.len() > limits::PATCH_DEPTH_MAX + 1 {
            found.push(broken(path, TwinRule::Deep));
            path.pop();
            return;
        }
        if let Some(rule) = key_rule(key) {
            found.push(broken(path, rule));
        }
        check_value(value, path, found);
        path.pop();
    }
}

fn broken(path: &[&str], rule: TwinRule) -> Violation {
    Violation { path: path.iter().map(ToString::to_string).collect(), rule }
}

fn key_rule(key: &str) -> Option<TwinRule> {
    if key.is_empty() {
        return Some(TwinRule::KeyEmpty);
    }
    if key.len() > limits::TWIN_KEY_BYTES_MAX {
        return Some(TwinRule::KeyLong);
    }
    if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return None;
    }
    let illegal = |c: &char| c.is_control() || matches!(c, '.' | '$' | '#' | ' ');
    key.chars().find(illegal).map(TwinRule::KeyCharacter)
}

fn check_value<'a>(value: &'a Value, path: &mut Vec<&'a str>, found: &mut Vec<Violation>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => {
            let legal = match number.as_i64() {
                Some(integer) => (-limits::TWIN_INTEGER_MAX - 1..=limits::TWIN_INTEGER_MAX).contains(&integer),
                None => number.is_f64(),
            };
            if !legal {
                found.push(broken(path, TwinRule::Integer));
            }
        }
        Value::String(text) => {
            if text.len() > limits::TWIN_STRING_BYTES_MAX {
                found.push(broken(path, TwinRule::StringLong));
            }
        }
        Value::Array(items) => {
            for item in items {
                check_value(item, path, found);
            }
        }
        Value::Object(inner) => check_members(inner, path, found),
    }
}

/// Returns the size of a section as IoT Hub counts it: keys and strings by characters without control characters,
/// numbers 8, booleans 4, objects and arrays the sum of their members.
pub fn counted_size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => counted_text(text),
        Value::Array(items) => items.iter().map(counted_size).sum(),
        Value::Object(members) => counted_members(members),
    }
}

fn counted_members(members: &Map<String, Value>) -> usize {
    members.iter().map(|(key, value)| counted_text(key) + counted_size(value)).sum()
}

fn counted_text(text: &str) -> usize {
    if text.is_ascii() {
        return text.bytes().filter(|byte| !byte.is_ascii_control()).count();
    }
    text.chars().filter(|c| !c.is_control()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_difference_makes_one_object_the_other() {
        let check = |before: Value, after: Value, expect: Value| {
            let found = difference(&object(before.clone()), &object(after.clone()));
            assert_eq!(Value::Object(found.clone()), expect);
            let mut merged = before;
            merge_members(&mut merged, &found);
            assert_eq!(merged, after);
        };
        check(json!({"a": 1}), json!({"a": 1}), json!({}));
        check(json!({"a": {"b": 1, "c": 2}, "d": 1}), json!({"a": {"b": 1}}), json!({"a": {"c": null}, "d": null}));
        check(json!({"a": 1, "l": [1]}), json!({"a": {"b": {}}, "l": [1, 2]}), json!({"a": {"b": {}}, "l": [1, 2]}));
        check(json!({"a": {"b": 1}}), json!({"a": 2}), json!({"a": 2}));
        check(json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": null}}));
    }

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn merge_follows_the_rfc() {
        let check = |mut target: Value, patch: Value, expect: Value| {
            merge(&mut target, &patch);
            assert_eq!(target, expect);
        };
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]}));
        check(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}));
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }

    #[test]
    fn assignments_are_the_leaves() {
        let patch = Patch::new(object(json!({"light": {"threshold": 3, "old": null}, "a": [1], "b": {}}))).unwrap();
        let found: Vec<_> = patch.assignments().iter().map(|a| (a.dotted(), a.value.clone())).collect();
        assert_eq!(
            found,
            [
                ("a".to_string(), json!([1])),
                ("b".to_string(), json!({})),
                ("light.old".to_string(), Value::Null),
                ("light.threshold".to_string(), json!(3)),
            ]
        );
    }

    #[test]
    fn a_reference_to_a_secret_is_a_leaf() {
        let reference = json!({"$secret": {"env": "WIFI_PSK"}});
        let members = object(json!({"wifi": {"psk": reference, "ssid": "hall"}}));
        let assignments = Patch::new(members).unwrap().assignments();
        let paths: Vec<String> = assignments.iter().map(Assignment::dotted).collect();
        assert_eq!(paths, ["wifi.psk", "wifi.ssid"]);
        assert!(assignments[0].is_satisfied_by(Some(&reference)));
        assert!(!assignments[0].is_satisfied_by(Some(&json!({"a": 1}))) && !assignments[0].is_satisfied_by(None));
    }

    #[test]
    fn every_twin_rule_can_be_broken() {
        let check = |members: Value, expect: TwinRule| {
            let found = violations(&object(members), Section::Tags);
            assert_eq!(found.first().map(|v| v.rule.clone()), Some(expect));
        };
        check(json!({"a b": 1}), TwinRule::KeyCharacter(' '));
        check(json!({"a.b": 1}), TwinRule::KeyCharacter('.'));
        check(json!({"$a": 1}), TwinRule::KeyCharacter('$'));
        check(json!({"a": {"$secret": {"env": "A"}}}), TwinRule::KeyCharacter('$'));
        check(json!({"": 1}), TwinRule::KeyEmpty);
        check(json!({"a": "x".repeat(4097)}), TwinRule::StringLong);
        check(json!({"a": 4_503_599_627_370_496_i64}), TwinRule::Integer);
        check(json!({"a": u64::MAX}), TwinRule::Integer);
        let deep = (0..11).fold(json!(1), |inner, _| json!({"a": inner}));
        check(json!({"a": deep}), TwinRule::Deep);
        let wide: Map<String, Value> = (0..3).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect();
        check(Value::Object(wide), TwinRule::Size { size: 12006, max: 8192 });
        let legal = (0..10).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(violations(&object(json!({"a": legal})), Section::Tags).is_empty());
    }
}
