//! Edits of one job or schedule in the text of a file: everything around the edit stays byte for byte, comments and
//! layout included.
//!
//! An edit is a replacement of a range of bytes, found in the spanned tree. Before the new text is returned it is
//! parsed again and must have exactly the intended content; otherwise nothing is written.

use serde_json::{Map, Value, json};

use super::node::{Content, Node};
use super::yaml;
use crate::diag::FileId;
use crate::model::id::{Name, RunToken};
use crate::model::job::Left;
use crate::model::kind::Kind;

/// Why an edit was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("the file does not declare {} `{name}`", .kind.noun())]
    NotThere { kind: Kind, name: Name },
    #[error("the layout of {} `{name}` is too unusual to be edited safely", .kind.noun())]
    Unusual { kind: Kind, name: Name },
}

/// Returns the file with `spec.suspend` of a job or schedule set.
///
/// # Errors
/// It is not in the file, or the edit would not be safe.
pub fn set_suspend(text: &str, kind: Kind, name: &Name, value: bool) -> Result<String, EditError> {
    let root = find(text, kind, name)?;
    let unusual = || EditError::Unusual { kind, name: name.clone() };
    let word = if value { "true" } else { "false" };
    let spec = root.get("spec").ok_or_else(unusual)?;
    let edited = match spec.get("suspend") {
        Some(node) => replaced(text, node.span.start, node.span.end, word),
        None => insert_member(text, spec, "suspend", word).ok_or_else(unusual)?,
    };
    let mut expected = root.to_json();
    expected["spec"]["suspend"] = Value::Bool(value);
    agree(&edited, kind, name, &expected)?;
    Ok(edited)
}

/// Returns a document with a copy of a job under another name: as it is written, comments included, without
/// `suspend: true` and without `previousName`.
///
/// # Errors
/// The job is not in the file, or the copy would have other content.
pub fn copy(text: &str, job: &Name, new_name: &Name) -> Result<String, EditError> {
    let root = find(text, Kind::Job, job)?;
    let unusual = || EditError::Unusual { kind: Kind::Job, name: job.clone() };
    let (start, end) = document_range(text, root.span.start);
    let name = root.at("/metadata/name").ok_or_else(unusual)?;
    let mut edits = vec![(name.span.start, name.span.end, new_name.to_string())];
    if let Some(suspend) = root.at("/spec/suspend") {
        edits.push((suspend.span.start, suspend.span.end, "false".to_string()));
    }
    if let Some(metadata) = root.get("metadata") {
        edits.extend(removal(metadata, "previousName").map(|(from, to)| (from, to, String::new())));
    }
    // Its first run is its own.
    if let Some(spec) = root.get("spec") {
        edits.extend(removal(spec, "run").map(|(from, to)| (from, to, String::new())));
    }
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.0));
    let mut copied = text.to_string();
    let mut end = end;
    for (from, to, with) in edits {
        copied = replaced(&copied, from, to, &with);
        end = end + with.len() - (to - from);
    }
    let copied = copied[start..end].trim_start_matches('\u{feff}').to_string();
    let mut expected = root.to_json();
    expected["metadata"]["name"] = Value::from(new_name.as_str());
    // A copy has no previous name.
    if let Some(metadata) = expected["metadata"].as_object_mut() {
        metadata.remove("previousName");
    }
    if let Some(spec) = expected["spec"].as_object_mut() {
        spec.remove("run");
    }
    if expected["spec"].get("suspend").is_some() {
        expected["spec"]["suspend"] = Value::Bool(false);
    }
    agree(&copied, Kind::Job, new_name, &expected)?;
    Ok(copied)
}

/// Returns the range of an entry of a map with what separates it from its neighbour, in either style; `None` when it is
/// not there.
fn removal(map: &Node, field: &str) -> Option<(usize, usize)> {
    let entries = map.entries();
    let at = entries.iter().position(|(key, _)| key.text == field)?;
    let (key, value) = &entries[at];
    match at.checked_sub(1).map(|before| &entries[before].1) {
        Some(before) => Some((before.span.end, value.span.end)),
        None => Some((key.span.start, entries.get(at + 1).map_or(value.span.end, |(next, _)| next.span.start))),
    }
}

/// Returns a new document: the action and delivery of a job, on the devices that one of its runs left
/// failed or pending.
///
/// # Errors
/// The job is not in the file.
pub fn rerun(text: &str, job: &Name, (run, left): (&RunToken, Left), new_name: &Name) -> Result<String, EditError> {
    let root = find(text, Kind::Job, job)?;
    let mut spec = Map::new();
    let written = root.get("spec").map(Node::to_json).unwrap_or_default();
    if let Some(organization) = written.get("organization") {
        spec.insert("organization".into(), organization.clone());
    }
    spec.insert("target".into(), json!({left.field(): {"job": job.as_str(), "run": run.as_str()}}));
    for field in ["action", "delivery"] {
        if let Some(value) = written.get(field) {
            spec.insert(field.into(), value.clone());
        }
    }
    new_job(new_name, &Value::Object(spec))
}

/// Returns a new document: a job with a spec.
///
/// # Errors
/// The text would not have exactly that content.
pub fn new_job(name: &Name, spec: &Value) -> Result<String, EditError> {
    let expected = json!({
        "apiVersion": super::API_VERSION,
        "kind": Kind::Job.as_str(),
        "metadata": {"name": name.as_str()},
        "spec": spec,
    });
    let document =
        yaml::to_text(&expected).ok_or_else(|| EditError::Unusual { kind: Kind::Job, name: name.clone() })?;
    agree(&document, Kind::Job, name, &expected)?;
    Ok(document)
}

/// Returns the tree of a document.
fn find(text: &str, kind: Kind, name: &Name) -> Result<Node, EditError> {
    let (parsed, _) = yaml::parse(FileId(0), text);
    let is_wanted = |root: &Node| {
        root.get("kind").and_then(Node::as_str) == Some(kind.as_str())
            && root.at("/metadata/name").and_then(Node::as_str) == Some(name.as_str())
    };
    let found = parsed.documents.into_iter().map(|document| document.root).find(is_wanted);
    found.ok_or_else(|| EditError::NotThere { kind, name: name.clone() })
}

fn agree(text: &str, kind: Kind, name: &Name, expected: &Value) -> Result<(), EditError> {
    let (_, diagnostics) = yaml::parse(FileId(0), text);
    let is_same = !diagnostics.has_errors() && find(text, kind, name).is_ok_and(|root| root.to_json() == *expected);
    if is_same { Ok(()) } else { Err(EditError::Unusual { kind, name: name.clone() }) }
}

fn replaced(text: &str, start: usize, end: usize, with: &str) -> String {
    format!("{}{with}{}", &text[..start], &text[end..])
}

/// Puts a member first into a map that is written in block or flow style; `None` when the map is neither.
fn insert_member(text: &str, map: &Node, key: &str, value: &str) -> Option<String> {
    let Content::Map(entries) = &map.content else { return None };
    if text[map.span.start..].starts_with('{') {
        let separator = if entries.is_empty() { "" } else { ", " };
        let at = map.span.start + 1;
        return Some(replaced(text, at, at, &format!("{key}: {value}{separator}")));
    }
    let (first, _) = entries.first()?;
    let line_start = text[..first.span.start].rfind('\n').map_or(0, |at| at + 1);
    let indent = &text[line_start..first.span.start];
    if !indent.chars().all(|c| c == ' ') {
        return None;
    }
    let newline = if text[..first.span.start].ends_with("\r\n") || text.contains("\r\n") { "\r\n" } else { "\n" };
    Some(replaced(text, line_start, line_start, &format!("{indent}{key}: {value}{newline}")))
}

/// Returns the range of the document around a place: between the `---` and `...` lines, comments included.
fn document_range(text: &str, at: usize) -> (usize, usize) {
    let (mut start, mut end, mut offset) = (0, text.len(), 0);
    for line in text.split_inclusive('\n') {
        let is_marker = line.starts_with("---") || line.starts_with("...");
        if is_marker && offset + line.len() <= at {
            start = offset + line.len();
        } else if is_marker && offset > at {
            end = offset;
            break;
        }
        offset += line.len();
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: a}\n";

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn check(text: &str, value: bool, expect: &str) {
        assert_eq!(set_suspend(text, Kind::Job, &name("a"), value).as_deref(), Ok(expect));
        // A schedule of the same shape is edited alike.
        let (text, expect) =
            (text.replace("kind: Job", "kind: Schedule"), expect.replace("kind: Job", "kind: Schedule"));
        assert_eq!(set_suspend(&text, Kind::Schedule, &name("a"), value), Ok(expect));
    }

    #[test]
    fn suspend_is_set_where_it_stands() {
        let text = format!("{HEAD}spec:\n  # why\n  suspend: false   # for now\n  target: {{query: '*'}}\n");
        check(&text, true, &text.replace("suspend: false ", "suspend: true "));
        let flow = format!("{HEAD}spec: {{suspend: true, target: {{query: '*'}}}}\n");
        check(&flow, false, &flow.replace("suspend: true", "suspend: false"));
    }

    #[test]
    fn suspend_is_put_first_where_it_was_not() {
        let block = format!("# top\n{HEAD}spec:\n  # the target\n  target: {{query: '*'}} # all\n");
        check(&block, true, &block.replace("  target", "  suspend: true\n  target"));
        let flow = format!("{HEAD}spec: {{ target: {{query: '*'}} }}\n");
        check(&flow, true, &flow.replace("spec: {", "spec: {suspend: true, "));
        let windows = block.replace('\n', "\r\n");
        check(&windows, true, &windows.replace("  target", "  suspend: true\r\n  target"));
    }

    #[test]
    fn other_documents_and_anchors_stay() {
        let other = HEAD.replace("name: a", "name: b");
        let text = format!(
            "{other}spec: &s\n  target: {{query: '*'}}\n---\n# a\n{HEAD}spec:\n  target: &t {{query: '*'}}\n  action: \
                {{tags: {{x: 1}}}}\n...\n"
        );
        check(&text, true, &text.replace("  target: &t", "  suspend: true\n  target: &t"));
        let missing = EditError::NotThere { kind: Kind::Job, name: name("c") };
        assert_eq!(set_suspend(&text, Kind::Job, &name("c"), true), Err(missing));
    }

    #[test]
    fn an_aliased_spec_is_not_edited_through_its_definition() {
        let other = HEAD.replace("name: a", "name: b");
        let text = format!("{other}spec: &s\n  target: {{query: '*'}}\n");
        let aliased = text.replace("spec: &s", "x: &s") + "spec: *s\n";
        assert!(matches!(set_suspend(&aliased, Kind::Job, &name("b"), true), Err(EditError::Unusual { .. })));
    }

    #[test]
    fn a_copy_keeps_comments_and_takes_its_own_document_only() {
        let text = format!(
            "{}spec: {{}}\n---\n# about a\n{HEAD}spec:\n  suspend: true\n  target: {{query: '*'}} # all\n",
            HEAD.replace("name: a", "name: b")
        );
        let expect = "# about a\napiVersion: fleetform/v1\nkind: Job\nmetadata: {name: a-copy}\nspec:\n  suspend: \
            false\n  target: {query: '*'} # all\n";
        assert_eq!(copy(&text, &name("a"), &name("a-copy")).as_deref(), Ok(expect));
    }

    #[test]
    fn a_rerun_takes_the_devices_of_run() {
        let text = format!("{HEAD}spec:\n  target: {{query: '*'}}\n  action: {{tags: {{x: 'yes', y: null}}}}\n");
        let document =
            rerun(&text, &name("a"), (&RunToken::parse("7").unwrap(), Left::Failed), &name("a-rerun")).unwrap();
        assert!(document.contains("failedOf"), "{document}");
        assert!(document.contains("null"), "{document}");
    }
}
