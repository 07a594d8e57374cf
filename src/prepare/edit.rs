//! What changed between the spec that was claimed and the one that is declared now.

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::preparation::Preparation;
use crate::model::id::Name;
use crate::model::text::{sanitize_line, shorten};

/// Lines of the difference that are shown.
const LINES_MAX: usize = 12;
/// Characters of such a line.
const LINE_CHARS_MAX: usize = 100;

/// An edit of a job's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecEdit {
    /// JSON pointers below the spec to what is new, gone or another, in order.
    pub pointers: Vec<String>,
    /// The changed lines, each with `-` or `+` before it.
    pub lines: Vec<String>,
}

/// Returns how a job differs from the way that a commit declared it; `None` when that commit cannot be read any more.
pub fn edit_since(preparation: &Preparation<'_>, job: &Name, commit: &str) -> Option<SpecEdit> {
    let then = preparation.repo.tree_at(commit).ok()?;
    let before = super::load(&then).spans.spec(job)?;
    let mut after = preparation.loaded.spans.spec(job)?;
    take_over(&before, &mut after);
    Some(edit(&before, &after))
}

/// Gives a spec the fields of another one that are no part of a run's identity, so that they do not count as edited.
fn take_over(from: &Value, to: &mut Value) {
    let copy = |from: &Value, to: &mut Value, field: &str| {
        if let Some(members) = to.as_object_mut() {
            match from.get(field) {
                Some(value) => drop(members.insert(field.to_string(), value.clone())),
                None => drop(members.remove(field)),
            }
        }
    };
    ["suspend", "description"].into_iter().for_each(|field| copy(from, to, field));
    if let (Some(from), Some(to)) = (from.get("delivery"), to.get_mut("delivery")) {
        ["expiresAfter", "maxExecutionTime"].into_iter().for_each(|field| copy(from, to, field));
    }
}

fn edit(before: &Value, after: &Value) -> SpecEdit {
    let mut pointers = Vec::new();
    collect(before, after, &mut String::new(), &mut pointers);
    let (one, two) = (format!("{before:#}"), format!("{after:#}"));
    let diff = TextDiff::from_lines(&one, &two);
    let changed = diff.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => return None,
        };
        let line = change.value().trim().trim_end_matches(',');
        Some(format!("{sign} {}", shorten(&sanitize_line(line), LINE_CHARS_MAX)))
    });
    SpecEdit { pointers, lines: changed.take(LINES_MAX).collect() }
}

fn collect(before: &Value, after: &Value, pointer: &mut String, found: &mut Vec<String>) {
    let (Value::Object(one), Value::Object(two)) = (before, after) else {
        if before != after {
            found.push(pointer.clone());
        }
        return;
    };
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    for key in keys {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        match (one.get(key), two.get(key)) {
            (Some(before), Some(after)) => collect(before, after, pointer, found),
            _ => found.push(pointer.clone()),
        }
        pointer.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edit_names_its_fields() {
        let before = json!({"action": {"property": {"level": 60}}, "target": {"group": "a"}});
        let after = json!({"action": {"property": {"level": 61}}, "target": {"group": "a"}, "run": "1"});
        let found = edit(&before, &after);
        assert_eq!(found.pointers, ["/action/property/level", "/run"]);
        assert!(found.lines.contains(&"- \"level\": 60".to_string()), "{:?}", found.lines);
        assert!(found.lines.contains(&"+ \"level\": 61".to_string()), "{:?}", found.lines);
    }
}
